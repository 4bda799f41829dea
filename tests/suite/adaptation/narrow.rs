//! A link of any width: a TCP proxy that passes on at a given rate and holds back what does not fit, as a router does.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// What the kernel may hold before the proxy: a short router queue instead of the megabytes of loopback.
const BUFFER: u32 = 32 * 1024;
/// Bytes that pass at once.
const PIECE: usize = 1460;
/// A read that takes longer had to wait for bytes.
const WAITED: Duration = Duration::from_millis(1);

pub(crate) struct Narrow {
    port: u16,
    kbps: Arc<AtomicU32>,
}

impl Narrow {
    /// A link to this port of this machine, wide open.
    pub(crate) fn open(to: u16) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(BUFFER).expect("a buffer");
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a port");
        let listener = socket.listen(8).expect("listens");
        let port = listener.local_addr().expect("an address").port();
        let kbps = Arc::new(AtomicU32::new(100_000));
        let width = Arc::clone(&kbps);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await.expect("the server listens");
                let (near_in, mut near_out) = near.into_split();
                let (mut far_in, far_out) = far.into_split();
                tokio::spawn(squeeze(near_in, far_out, Arc::clone(&width)));
                tokio::spawn(async move { tokio::io::copy(&mut far_in, &mut near_out).await });
            }
        });
        Self { port, kbps }
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn set_kbps(&self, kbps: u32) {
        self.kbps.store(kbps, Ordering::Relaxed);
    }
}

/// Each piece takes as long as it would on a wire of that rate. The end of one side ends the other.
async fn squeeze(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    kbps: Arc<AtomicU32>,
) {
    let mut piece = vec![0; PIECE];
    let mut free_at = Instant::now();
    loop {
        let asked = Instant::now();
        let Ok(length @ 1..) = from.read(&mut piece).await else { break };
        // Only a wire that had nothing to carry has lost time: a proxy that was woken late has not.
        if asked.elapsed() > WAITED {
            free_at = free_at.max(Instant::now());
        }
        let kbps = kbps.load(Ordering::Relaxed).max(1);
        let takes = Duration::from_micros(length as u64 * 8000 / u64::from(kbps));
        free_at += takes;
        tokio::time::sleep_until(free_at).await;
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
    let _already_gone = to.shutdown().await;
}
