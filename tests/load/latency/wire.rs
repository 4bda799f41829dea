//! A participant's access link between its sockets and the network, as a runtime for the `webrtc` crate.
//!
//! Kernels without netem (`CONFIG_NET_SCH_NETEM`) are common in containers and small virtual machines, and its luck cannot be
//! repeated. So packets wait here, in front of the peer's own sockets: not one packet or system call more per datagram that is
//! received, no privileges, and the same seeds in every run.

use std::cmp::Ordering;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::mpsc;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::time::Instant;

use webrtc::runtime::AsyncUdpSocket;
use webrtc::runtime::RecvMeta;
use webrtc::runtime::Runtime;
use webrtc::runtime::TokioRuntime;
use webrtc::runtime::Transmit;

use crate::latency::network::Access;
use crate::latency::network::Link;
use crate::sockets::Sockets;

/// One participant's link, which all its sockets share.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    links: Mutex<Option<(Link, Link)>>,
}

#[derive(Clone, Copy)]
enum Way {
    Up,
    Down,
}

enum Fate {
    Arrives(Instant),
    Lost,
}

impl Wire {
    /// Moves the participant to another link, or to none.
    pub(crate) fn plug_into(&self, access: Option<Access>, seed: u64) {
        *lock(&self.links) = access.map(|access| access.links(seed));
    }

    fn fate(&self, way: Way, now: Instant, bytes: usize) -> Fate {
        let mut links = lock(&self.links);
        let Some((up, down)) = links.as_mut() else { return Fate::Arrives(now) };
        let link = match way {
            Way::Up => up,
            Way::Down => down,
        };
        link.pass(now, bytes).map_or(Fate::Lost, Fate::Arrives)
    }
}

/// A thread that sends and wakes at the right time: tokio's timers are a millisecond wide, which is more than what is measured.
#[derive(Clone, Debug)]
pub(crate) struct Post(mpsc::Sender<Job>);

#[derive(Debug)]
struct Job {
    at: Instant,
    /// Jobs of the same instant keep their order.
    number: u64,
    task: Task,
}

#[derive(Debug)]
enum Task {
    Send { socket: Arc<UdpSocket>, to: SocketAddr, datagram: Vec<u8> },
    Wake(Arc<Mutex<Alarm>>),
}

/// Who waits for a socket's next datagram, and until when.
#[derive(Debug, Default)]
struct Alarm {
    waker: Option<Waker>,
    set_to: Option<Instant>,
}

impl Post {
    /// Starts the thread; it ends with the last handle.
    pub(crate) fn open() -> io::Result<Self> {
        let (sender, jobs) = mpsc::channel();
        std::thread::Builder::new().name("post".to_owned()).spawn(move || deliver(&jobs))?;
        Ok(Self(sender))
    }

    fn at(&self, at: Instant, task: Task) {
        let _it_ends_with_the_process = self.0.send(Job { at, number: 0, task });
    }
}

fn deliver(jobs: &mpsc::Receiver<Job>) {
    let mut waiting: BinaryHeap<Reverse<Job>> = BinaryHeap::new();
    let mut number = 0;
    loop {
        let received = match waiting.peek() {
            Some(Reverse(next)) => match jobs.recv_timeout(next.at.saturating_duration_since(Instant::now())) {
                Ok(job) => Some(job),
                Err(mpsc::RecvTimeoutError::Timeout) => None,
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            },
            None => match jobs.recv() {
                Ok(job) => Some(job),
                Err(mpsc::RecvError) => return,
            },
        };
        for job in received.into_iter().chain(jobs.try_iter()) {
            number += 1;
            waiting.push(Reverse(Job { number, ..job }));
        }
        let now = Instant::now();
        while let Some(Reverse(job)) = waiting.peek()
            && job.at <= now
        {
            if let Some(Reverse(job)) = waiting.pop() {
                job.task.run();
            }
        }
    }
}

impl Task {
    fn run(self) {
        match self {
            Self::Send { socket, to, datagram } => {
                let _lost_like_any_datagram = socket.send_to(&datagram, to);
            }
            Self::Wake(alarm) => {
                let mut alarm = lock(&alarm);
                alarm.set_to = None;
                if let Some(waker) = alarm.waker.take() {
                    waker.wake();
                }
            }
        }
    }
}

impl PartialEq for Job {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Job {}

impl PartialOrd for Job {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Job {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// Sockets that are behind a participant's link.
#[derive(Debug)]
pub(crate) struct BehindWire {
    pub(crate) wire: Arc<Wire>,
    pub(crate) post: Post,
}

impl Sockets for BehindWire {
    fn wrap(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let sender = Arc::new(socket.try_clone()?);
        Ok(Arc::new(Socket {
            inner: TokioRuntime.wrap_udp_socket(socket)?,
            sender,
            wire: Arc::clone(&self.wire),
            post: self.post.clone(),
            inbox: Mutex::default(),
            alarm: Arc::default(),
        }))
    }
}

/// A socket behind a link.
struct Socket {
    inner: Arc<dyn AsyncUdpSocket>,
    /// The same socket for the thread that sends late.
    sender: Arc<UdpSocket>,
    wire: Arc<Wire>,
    post: Post,
    inbox: Mutex<Inbox>,
    alarm: Arc<Mutex<Alarm>>,
}

#[derive(Default)]
struct Inbox {
    on_their_way: VecDeque<Letter>,
    scratch: Vec<u8>,
}

struct Letter {
    arrives: Instant,
    meta: RecvMeta,
    datagram: Vec<u8>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl Socket {
    /// Takes what has come to the socket and puts it on its way.
    fn collect(&self, cx: &mut Context<'_>, inbox: &mut Inbox) -> io::Result<()> {
        const LARGEST: usize = 1500;
        let Inbox { on_their_way, scratch } = inbox;
        scratch.resize(LARGEST * self.inner.max_gro_segments().max(1), 0);
        loop {
            let mut meta = [RecvMeta::default()];
            match self.inner.poll_recv(cx, &mut [IoSliceMut::new(scratch)], &mut meta) {
                Poll::Pending => return Ok(()),
                Poll::Ready(received) => received?,
            };
            let now = Instant::now();
            let [meta] = meta;
            for datagram in scratch[..meta.len].chunks(meta.stride) {
                if let Fate::Arrives(arrives) = self.wire.fate(Way::Down, now, datagram.len()) {
                    on_their_way.push_back(Letter { arrives, meta, datagram: datagram.to_vec() });
                }
            }
        }
    }

    fn wake_at(&self, at: Instant, waker: &Waker) {
        let mut alarm = lock(&self.alarm);
        alarm.waker = Some(waker.clone());
        if alarm.set_to.is_none_or(|set_to| at < set_to) {
            alarm.set_to = Some(at);
            self.post.at(at, Task::Wake(Arc::clone(&self.alarm)));
        }
    }
}

impl AsyncUdpSocket for Socket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        let (now, bytes) = (Instant::now(), transmit.contents.len());
        match self.wire.fate(Way::Up, now, bytes) {
            Fate::Arrives(at) if at <= now => self.inner.poll_send(cx, transmit),
            Fate::Arrives(at) => {
                let socket = Arc::clone(&self.sender);
                let datagram = transmit.contents.to_vec();
                self.post.at(at, Task::Send { socket, to: transmit.destination, datagram });
                Poll::Ready(Ok(bytes))
            }
            Fate::Lost => Poll::Ready(Ok(bytes)),
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut inbox = lock(&self.inbox);
        self.collect(cx, &mut inbox)?;
        let Some(next) = inbox.on_their_way.front() else { return Poll::Pending };
        if next.arrives > Instant::now() {
            self.wake_at(next.arrives, cx.waker());
            return Poll::Pending;
        }
        let (Some(letter), Some(buffer), Some(meta)) =
            (inbox.on_their_way.pop_front(), bufs.first_mut(), meta.first_mut())
        else {
            return Poll::Ready(Ok(0));
        };
        let len = letter.datagram.len().min(buffer.len());
        buffer[..len].copy_from_slice(&letter.datagram[..len]);
        *meta = letter.meta;
        meta.len = len;
        meta.stride = len.max(1);
        Poll::Ready(Ok(1))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::latency::network::CONTINENT;

    /// A socket behind a wire, one beside it, and the time a datagram took each way.
    async fn there_and_back(access: Option<Access>) -> (Duration, Duration) {
        let wire = Arc::new(Wire::default());
        wire.plug_into(access, 1);
        let sockets = BehindWire { wire, post: Post::open().expect("a thread") };
        let behind = sockets.wrap(UdpSocket::bind("127.0.0.1:0").expect("a port")).expect("wrapped");
        let beside = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let mut buffer = [0; 16];

        let start = Instant::now();
        behind.send_to(b"up", beside.local_addr().expect("bound")).await.expect("sent");
        let (_, from) = beside.recv_from(&mut buffer).await.expect("received");
        let up = start.elapsed();
        assert_eq!(&buffer[..2], b"up");

        let start = Instant::now();
        beside.send_to(b"down", from).await.expect("sent");
        let (bytes, _) = behind.recv_from(&mut buffer).await.expect("received");
        assert_eq!(&buffer[..bytes], b"down");
        (up, start.elapsed())
    }

    /// The fastest of some goes: a machine that stands still makes none of them faster.
    async fn fastest(access: Option<Access>) -> (Duration, Duration) {
        let mut best = (Duration::MAX, Duration::MAX);
        for _ in 0..8 {
            let (up, down) = there_and_back(access).await;
            best = (best.0.min(up), best.1.min(down));
        }
        best
    }

    #[tokio::test]
    async fn datagrams_take_as_long_as_their_link_says_in_both_directions() {
        let far = fastest(CONTINENT.access(1)).await;
        for took in [far.0, far.1] {
            assert!((118..200).contains(&took.as_millis()), "{took:?}");
        }
        let bare = fastest(None).await;
        assert!(bare.0 + bare.1 < Duration::from_millis(100), "{bare:?}");
    }
}
