//! Media over TCP for networks that block UDP: one port for all workers, ICE-TCP passive candidates (RFC 6544).
//!
//! The listener reads the first frame of a connection. It must be a binding request for a user fragment that some worker has given
//! out; that worker gets the connection and checks whether the request is authentic.

pub(super) mod framing;
pub(super) mod streams;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::driver::rtc::demux;
use crate::driver::rtc::path::Remote;
use crate::driver::rtc::tcp::framing::Deframer;

/// From the connection to its first frame. Browsers send it with the connection.
const FIRST_FRAME_WITHIN: Duration = Duration::from_secs(5);
/// Bytes read for the first frame: a binding request has about 100, and one full of attributes fits.
const MAX_FIRST: usize = 1500;
/// Connections at once whose first frame is awaited; others wait in the kernel's queue.
const MAX_PENDING: usize = 256;
/// How long accepting pauses when the system has no descriptor for a connection.
const PAUSE: Duration = Duration::from_millis(200);
/// Connections that wait for their worker.
pub(super) const ARRIVALS: usize = 64;

/// Which worker gave out a user fragment.
#[derive(Clone, Default)]
pub(super) struct Directory(Arc<Mutex<HashMap<String, usize>>>);

impl Directory {
    pub(super) fn insert(&self, ufrag: &str, worker: usize) {
        self.entries().insert(ufrag.to_owned(), worker);
    }

    pub(super) fn remove(&self, ufrag: &str) {
        self.entries().remove(ufrag);
    }

    fn find(&self, ufrag: &str) -> Option<usize> {
        self.entries().get(ufrag).copied()
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection for a worker, with what has been read of it.
pub(super) struct Arrival {
    stream: std::net::TcpStream,
    from: Remote,
    first: BytesMut,
    deframer: Deframer,
    /// Gives its place back when the connection is over.
    place: OwnedSemaphorePermit,
}

/// The listener of the one TCP port.
pub(super) struct Listener {
    pub(super) socket: std::net::TcpListener,
    pub(super) directory: Directory,
    pub(super) workers: Vec<mpsc::Sender<Arrival>>,
    pub(super) max_connections: usize,
}

impl Listener {
    /// Accepts until `shutdown` is cancelled.
    ///
    /// # Errors
    /// The socket cannot be used from this thread's runtime.
    pub(super) async fn run(self, shutdown: CancellationToken) -> io::Result<()> {
        let socket = TcpListener::from_std(self.socket)?;
        let places = Arc::new(Semaphore::new(self.max_connections));
        let pending = Arc::new(Semaphore::new(MAX_PENDING));
        let workers: Arc<[mpsc::Sender<Arrival>]> = self.workers.into();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                accepted = accept(&socket, &pending) => accepted,
            };
            let (stream, from, wait) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a TCP connection for media could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                tracing::warn!(%from, "a TCP connection for media is refused: `rtc.max_tcp_connections` are open");
                continue;
            };
            let (directory, workers) = (self.directory.clone(), Arc::clone(&workers));
            tokio::spawn(async move {
                let _wait = wait;
                let handed =
                    tokio::time::timeout(FIRST_FRAME_WITHIN, hand_over(stream, from, place, &directory, &workers));
                if !matches!(handed.await, Ok(Ok(()))) {
                    tracing::debug!(%from, "a TCP connection did not begin like ICE and is closed");
                }
            });
        }
    }
}

async fn accept(
    socket: &TcpListener,
    pending: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let wait = Arc::clone(pending).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, from) = socket.accept().await?;
    Ok((stream, from, wait))
}

/// Reads the first frame and gives the connection to the worker it is for.
async fn hand_over(
    mut stream: TcpStream,
    from: SocketAddr,
    place: OwnedSemaphorePermit,
    directory: &Directory,
    workers: &[mpsc::Sender<Arrival>],
) -> io::Result<()> {
    let mut deframer = Deframer::default();
    let first = loop {
        if let Some(first) = deframer.next().map_err(io::Error::other)? {
            break first;
        }
        if deframer.buffer().len() >= MAX_FIRST || stream.read_buf(deframer.buffer()).await? == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    };
    let worker = demux::addressee(&first).and_then(|ufrag| directory.find(ufrag)).and_then(|index| workers.get(index));
    let worker = worker.ok_or(io::ErrorKind::NotFound)?;
    stream.set_nodelay(true)?;
    let arrival = Arrival { stream: stream.into_std()?, from: Remote::tcp(from), first, deframer, place };
    worker.try_send(arrival).map_err(io::Error::other)
}
