//! The TCP connections of one worker: a task each for reading and writing, and bounded queues between them and the worker.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;

use crate::driver::rtc::path::Remote;
use crate::driver::rtc::tcp::Arrival;
use crate::driver::rtc::tcp::framing;
use crate::driver::rtc::tcp::framing::Deframer;

/// Silence after which a connection is closed: a peer that is there checks every few seconds (RFC 7675).
const IDLE: Duration = Duration::from_secs(60);
/// Datagrams that wait for a slow connection: about half a second of a room's video. Then new ones are lost, as on any full way.
const OUTGOING: usize = 512;
/// Frames of all connections that wait for the worker; readers wait when it is full, and TCP slows the senders down.
const INCOMING: usize = 256;
/// Frames written at one go.
const MAX_BATCH: usize = 64;
/// Room for what is read at one go.
const READ: usize = 16 * 1024;

/// A datagram that came over TCP.
pub(in crate::driver::rtc) struct Frame {
    pub(in crate::driver::rtc) from: Remote,
    /// Our address of the connection.
    pub(in crate::driver::rtc) local: SocketAddr,
    pub(in crate::driver::rtc) datagram: BytesMut,
}

pub(in crate::driver::rtc) struct Streams {
    open: HashMap<Remote, Stream>,
    arrivals: mpsc::Receiver<Arrival>,
    incoming: mpsc::Receiver<Frame>,
    to_worker: mpsc::Sender<Frame>,
}

/// An open connection; dropping it closes it.
struct Stream {
    outgoing: mpsc::Sender<BytesMut>,
    _closes: DropGuard,
}

impl Streams {
    pub(in crate::driver::rtc) fn new(arrivals: mpsc::Receiver<Arrival>) -> Self {
        let (to_worker, incoming) = mpsc::channel(INCOMING);
        Self { open: HashMap::new(), arrivals, incoming, to_worker }
    }

    /// The next datagram; takes connections in meanwhile. Safe to cancel.
    pub(in crate::driver::rtc) async fn next(&mut self) -> Frame {
        loop {
            tokio::select! {
                Some(arrival) = self.arrivals.recv() => {
                    if let Some(first) = self.take_in(arrival) {
                        return first;
                    }
                }
                Some(frame) = self.incoming.recv() => return frame,
                else => std::future::pending().await,
            }
        }
    }

    pub(in crate::driver::rtc) fn try_next(&mut self) -> Option<Frame> {
        self.incoming.try_recv().ok()
    }

    /// Whether the datagram is on its way.
    pub(in crate::driver::rtc) fn send(&self, to: Remote, datagram: BytesMut) -> bool {
        self.open.get(&to).is_some_and(|stream| stream.outgoing.try_send(datagram).is_ok())
    }

    /// Closes connections nobody is behind, and gives the addresses of all that are closed now.
    pub(in crate::driver::rtc) fn sweep(&mut self, mut is_known: impl FnMut(Remote) -> bool) -> Vec<Remote> {
        let closed = self.open.extract_if(|from, stream| stream.outgoing.is_closed() || !is_known(*from));
        closed.map(|(from, _)| from).collect()
    }

    fn take_in(&mut self, arrival: Arrival) -> Option<Frame> {
        let Arrival { stream, from, first, deframer, place } = arrival;
        let taken = TcpStream::from_std(stream).and_then(|stream| Ok((stream.local_addr()?, stream)));
        let (local, stream) = match taken {
            Ok(taken) => taken,
            Err(error) => {
                tracing::debug!(%error, "a TCP connection was lost on the way to its worker");
                return None;
            }
        };
        let (read, write) = stream.into_split();
        let (outgoing, datagrams) = mpsc::channel(OUTGOING);
        let ends = CancellationToken::new();
        let reader = Reader { from, local, stream: read, deframer, to_worker: self.to_worker.clone() };
        tokio::spawn(attend(reader, write, datagrams, ends.clone(), place));
        self.open.insert(from, Stream { outgoing, _closes: ends.drop_guard() });
        Some(Frame { from, local, datagram: first })
    }
}

/// Both directions of a connection until one of them ends.
async fn attend(
    reader: Reader,
    write: OwnedWriteHalf,
    datagrams: mpsc::Receiver<BytesMut>,
    ends: CancellationToken,
    place: OwnedSemaphorePermit,
) {
    let _place = place;
    let open = Open::new();
    let ended = tokio::select! {
        () = ends.cancelled() => Ok(()),
        read = reader.run() => read,
        written = write_all(write, datagrams) => written,
    };
    drop(open);
    if let Err(error) = ended {
        tracing::debug!(%error, "a TCP connection for media ended");
    }
}

/// Counts an open connection.
struct Open;

impl Open {
    fn new() -> Self {
        metrics::gauge!("jamcast_tcp_connections").increment(1.0);
        Self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        metrics::gauge!("jamcast_tcp_connections").decrement(1.0);
    }
}

struct Reader {
    from: Remote,
    local: SocketAddr,
    stream: OwnedReadHalf,
    deframer: Deframer,
    to_worker: mpsc::Sender<Frame>,
}

impl Reader {
    async fn run(mut self) -> io::Result<()> {
        let (from, local) = (self.from, self.local);
        loop {
            while let Some(datagram) = self.deframer.next().map_err(io::Error::other)? {
                if self.to_worker.send(Frame { from, local, datagram }).await.is_err() {
                    return Ok(());
                }
            }
            self.deframer.buffer().reserve(READ);
            let read = tokio::time::timeout(IDLE, self.stream.read_buf(self.deframer.buffer()));
            if read.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? == 0 {
                return Ok(());
            }
        }
    }
}

async fn write_all(mut stream: OwnedWriteHalf, mut datagrams: mpsc::Receiver<BytesMut>) -> io::Result<()> {
    let mut batch = Vec::with_capacity(MAX_BATCH);
    let mut out = BytesMut::new();
    while datagrams.recv_many(&mut batch, MAX_BATCH).await > 0 {
        out.clear();
        batch.drain(..).for_each(|datagram| framing::frame(&datagram, &mut out));
        stream.write_all(&out).await?;
    }
    Ok(())
}
