//! Ears that cost next to nothing: they count the media that comes to a peer's socket and throw it away unread.
//!
//! Whether a packet came needs no decryption: its header is in the clear. The stack is given what keeps the connection up (STUN, DTLS,
//! RTCP), so that all it saves is the work of a listener, and nothing of the gateway's. It never asks for a packet again.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use rustix::net::sockopt::set_socket_recv_buffer_size;
use tokio::time::Instant;
use tokio::time::Sleep;
use webrtc::runtime::AsyncUdpSocket;
use webrtc::runtime::RecvMeta;
use webrtc::runtime::Runtime;
use webrtc::runtime::TokioRuntime;
use webrtc::runtime::Transmit;

use crate::sockets::Sockets;

/// Between two looks at a socket. What comes meanwhile waits in the kernel.
const NAP: Duration = Duration::from_millis(5);
/// Bytes asked of the kernel for what waits, half a second of a full room: the generator may lose its core to the gateway for a while.
const BUFFER: usize = 1 << 20;
/// Messages of one look.
const MESSAGES: usize = 16;
/// Bytes of a message, which may be several datagrams that the kernel put together.
const MESSAGE: usize = 64 * 1500;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; MESSAGES * MESSAGE]);
}

/// Sockets that count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ears {
    heard: Arc<AtomicU64>,
}

impl Ears {
    /// Media packets that have come.
    pub(crate) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }
}

impl Sockets for Ears {
    fn wrap(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        set_socket_recv_buffer_size(&socket, BUFFER)?;
        Ok(Arc::new(Ear {
            inner: TokioRuntime.wrap_udp_socket(socket)?,
            heard: Arc::clone(&self.heard),
            state: Mutex::new(State { rest: VecDeque::new(), nap: Box::pin(tokio::time::sleep(Duration::ZERO)) }),
        }))
    }
}

#[derive(Debug)]
struct Ear {
    inner: Arc<dyn AsyncUdpSocket>,
    heard: Arc<AtomicU64>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What is for the stack.
    rest: VecDeque<(RecvMeta, Vec<u8>)>,
    nap: Pin<Box<Sleep>>,
}

impl Ear {
    /// Counts and keeps what has come to the socket; pending once that is all.
    fn collect(&self, cx: &mut Context<'_>, rest: &mut VecDeque<(RecvMeta, Vec<u8>)>) -> Poll<io::Result<()>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut messages: Vec<IoSliceMut<'_>> = scratch.chunks_mut(MESSAGE).map(IoSliceMut::new).collect();
            let mut metas = [RecvMeta::default(); MESSAGES];
            let received = match self.inner.poll_recv(cx, &mut messages, &mut metas) {
                Poll::Ready(received) => received?,
                Poll::Pending => return Poll::Pending,
            };
            for (message, meta) in messages.iter().zip(metas).take(received) {
                for datagram in message[..meta.len].chunks(meta.stride.max(1)) {
                    match datagram {
                        [first, second, ..] if is_media(*first, *second) => {
                            self.heard.fetch_add(1, Ordering::Relaxed);
                        }
                        _ => rest.push_back((meta, datagram.to_vec())),
                    }
                }
            }
            Poll::Ready(Ok(()))
        })
    }
}

/// RTP by its first bytes (RFC 7983, RFC 5761), but for packets that are padding.
fn is_media(first: u8, second: u8) -> bool {
    const PADDING: u8 = 0x20;
    (128..192).contains(&first) && !(192..224).contains(&second) && first & PADDING == 0
}

impl AsyncUdpSocket for Ear {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        self.inner.poll_send(cx, transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let State { rest, nap } = &mut *lock(&self.state);
        while rest.is_empty() {
            if nap.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            match self.collect(cx, rest) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(outcome) => outcome?,
            }
            nap.as_mut().reset(Instant::now() + NAP);
        }
        let (Some((of, datagram)), Some(buffer), Some(meta)) = (rest.pop_front(), bufs.first_mut(), meta.first_mut())
        else {
            return Poll::Ready(Ok(0));
        };
        let len = datagram.len().min(buffer.len());
        buffer[..len].copy_from_slice(&datagram[..len]);
        *meta = of;
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
    use super::*;

    #[tokio::test]
    async fn media_is_counted_and_the_rest_goes_to_the_stack() {
        let ears = Ears::default();
        let ear = ears.wrap(UdpSocket::bind("127.0.0.1:0").expect("a port")).expect("wrapped");
        let mouth = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let say = |datagram: &[u8]| mouth.send_to(datagram, ear.local_addr().expect("bound")).expect("sent");
        const PADDING: [u8; 4] = [0xa0, 96, 0, 9];
        const REPORT: [u8; 4] = [0x80, 201, 0, 1];
        for number in 0..40 {
            say(&[0x80, 96, 0, number]);
            say(&[0x90, 0xef, 0, number]);
        }
        say(&PADDING);
        say(&REPORT);
        let mut buffer = [0; 16];
        for expected in [PADDING, REPORT] {
            let (bytes, _) = ear.recv_from(&mut buffer).await.expect("received");
            assert_eq!(buffer[..bytes], expected);
        }
        assert_eq!(ears.heard(), 80);
    }
}
