//! A small RTMP receiver, the default destination of a first run: writes what it gets as FLV files.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::Utc;
use metrics::counter;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use serde::Deserialize;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::BufWriter;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::model::fault::Fault;
use crate::model::fault::Faulty;
use crate::proto::flv;
use crate::proto::rtmp::receiver::Event;
use crate::proto::rtmp::receiver::NotRtmp;
use crate::proto::rtmp::receiver::Output;
use crate::proto::rtmp::receiver::Receiver;

/// A publisher reads its answers at once; one that does not is cut off.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
const READ_BUFFER: usize = 64 * 1024;
/// A failing `accept` (no file descriptors left) is tried again after this pause.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where publishers are received and what they may do.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub listen: SocketAddr,
    /// Folder of the FLV files; made if missing.
    pub folder: PathBuf,
    /// The RTMP application publishers must name.
    pub app: String,
    /// The stream key publishers must have; any if absent.
    pub key: Option<SecretString>,
    /// Publishers at the same time; more are turned away.
    pub max_connections: usize,
    /// The largest message, bytes; a 1080p keyframe has under 1 MB.
    pub max_message_bytes: usize,
    /// A publisher that sends nothing for so long is cut off, milliseconds.
    pub idle_timeout_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 1935)),
            folder: PathBuf::from("data/ingest"),
            app: "live".to_owned(),
            key: None,
            max_connections: 8,
            max_message_bytes: 4 << 20,
            idle_timeout_ms: 15_000,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    #[error("the ingest cannot listen on {address}; is another one running?")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("the ingest cannot make its folder {folder}")]
    Folder {
        folder: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Faulty for IngestError {
    fn fault(&self) -> Fault {
        Fault::Internal
    }
}

/// What has been received so far.
#[derive(Debug, Default)]
pub struct Counters {
    /// Publishers accepted.
    pub publishes: AtomicU64,
    /// Publishers that are done, and their files complete.
    pub finished: AtomicU64,
    /// Connections turned away or cut off.
    pub refused: AtomicU64,
    pub tags: AtomicU64,
    pub bytes: AtomicU64,
}

/// A bound ingest that does not accept yet.
pub struct Ingest {
    config: Arc<Config>,
    listener: TcpListener,
    counters: Arc<Counters>,
}

/// Receives until `shutdown`, then completes all files.
///
/// # Errors
/// [`IngestError`] when it cannot begin.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), IngestError> {
    Ingest::bind(config).await?.run(shutdown).await;
    Ok(())
}

impl Ingest {
    /// # Errors
    /// [`IngestError`].
    pub async fn bind(config: Config) -> Result<Self, IngestError> {
        tokio::fs::create_dir_all(&config.folder)
            .await
            .map_err(|source| IngestError::Folder { folder: config.folder.clone(), source })?;
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|source| IngestError::Listen { address: config.listen, source })?;
        Ok(Self { config: Arc::new(config), listener, counters: Arc::default() })
    }

    /// Where it listens: the configured address with the port the system chose for port 0.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap_or(self.config.listen)
    }

    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Receives until `shutdown`, then completes all files.
    pub async fn run(self, shutdown: CancellationToken) {
        let places = Arc::new(Semaphore::new(self.config.max_connections));
        let tracker = TaskTracker::new();
        let mut number = 0_u64;
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            let Ok((stream, peer)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                self.counters.refused.fetch_add(1, Ordering::Relaxed);
                tracing::info!(%peer, "ingest is full");
                continue;
            };
            number += 1;
            let visit = Visit {
                config: Arc::clone(&self.config),
                counters: Arc::clone(&self.counters),
                number,
                receiver: Receiver::new(self.config.app.clone(), self.config.max_message_bytes),
                file: None,
                scratch: Vec::new(),
            };
            let shutdown = shutdown.clone();
            tracker.spawn(async move {
                let _place = place;
                visit.run(stream, peer, &shutdown).await;
            });
        }
        tracker.close();
        tracker.wait().await;
    }
}

/// Why a visit ended otherwise than by the publisher's goodbye.
#[derive(Debug, thiserror::Error)]
enum VisitError {
    #[error(transparent)]
    NotRtmp(#[from] NotRtmp),
    #[error("the connection or the file broke: {}", .0.kind())]
    Io(#[from] io::Error),
    #[error("the publisher was silent for too long")]
    Idle,
}

/// One publisher's connection.
struct Visit {
    config: Arc<Config>,
    counters: Arc<Counters>,
    number: u64,
    receiver: Receiver,
    file: Option<BufWriter<File>>,
    scratch: Vec<u8>,
}

impl Visit {
    async fn run(mut self, mut stream: TcpStream, peer: SocketAddr, shutdown: &CancellationToken) {
        if let Err(error) = self.receive(&mut stream, shutdown).await {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            tracing::info!(%peer, %error, "ingest cut a publisher off");
        }
        if let Some(mut file) = self.file.take() {
            match file.flush().await {
                Ok(()) => tracing::info!(%peer, "ingest completed a file"),
                Err(error) => tracing::error!(%peer, %error, "ingest cannot complete a file"),
            }
            self.counters.finished.fetch_add(1, Ordering::Release);
        }
    }

    async fn receive(&mut self, stream: &mut TcpStream, shutdown: &CancellationToken) -> Result<(), VisitError> {
        stream.set_nodelay(true)?;
        let idle = Duration::from_millis(self.config.idle_timeout_ms);
        let mut buffer = vec![0; READ_BUFFER];
        loop {
            // Only waiting is cut short by a shutdown, so that a tag is in the file wholly or not at all.
            let length = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                read = timeout(idle, stream.read(&mut buffer)) => read.map_err(|_| VisitError::Idle)??,
            };
            if length == 0 {
                return Ok(());
            }
            self.counters.bytes.fetch_add(length as u64, Ordering::Relaxed);
            counter!("jamcast_ingest_bytes_total").increment(length as u64);
            self.receiver.handle(&buffer[..length])?;
            let mut finished = false;
            while let Some(output) = self.receiver.poll_output() {
                match output {
                    Output::Send(bytes) => {
                        timeout(WRITE_TIMEOUT, stream.write_all(&bytes)).await.map_err(|_| VisitError::Idle)??;
                    }
                    Output::Event(Event::Publish { key }) => self.decide(&key).await?,
                    Output::Event(Event::Tag(tag)) => self.write(&tag).await?,
                    Output::Event(Event::Finished) => finished = true,
                }
            }
            if finished {
                return Ok(());
            }
        }
    }

    async fn decide(&mut self, key: &str) -> io::Result<()> {
        if self.config.key.as_ref().is_some_and(|expected| expected.expose_secret() != key) {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            self.receiver.refuse();
            return Ok(());
        }
        // Named by time and number, never by the key; milliseconds keep two runs of the process apart.
        let name = format!("{}-{:04}.flv", Utc::now().format("%Y%m%dT%H%M%S%3fZ"), self.number);
        let mut file = BufWriter::new(File::create_new(self.config.folder.join(&name)).await?);
        file.write_all(&flv::FILE_HEADER).await?;
        self.file = Some(file);
        self.counters.publishes.fetch_add(1, Ordering::Relaxed);
        counter!("jamcast_ingest_publishes_total").increment(1);
        tracing::info!(file = name, "ingest receives a stream");
        self.receiver.accept();
        Ok(())
    }

    async fn write(&mut self, tag: &flv::Tag) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        self.scratch.clear();
        tag.write(&mut self.scratch);
        file.write_all(&self.scratch).await?;
        self.counters.tags.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
