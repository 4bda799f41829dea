//! The SFU's workers: one thread and one UDP socket each, a room lives on one worker.

mod containment;
mod counters;
mod delay;
mod demux;
mod engine;
mod feedback;
mod flow;
mod host;
mod negotiate;
mod peer;
mod resent;
mod sdp;
mod seat;
mod sender;
mod worker;

use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::thread::JoinHandle;

use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::domain::room::Limits;
use crate::driver::rtc::counters::Counters;
use crate::driver::rtc::engine::Engine;
use crate::driver::rtc::host::Host;
use crate::driver::rtc::worker::Worker;
use crate::live::rooms::COMMAND_QUEUE;
use crate::live::rooms::Rooms;
use crate::model::fault::Fault;
use crate::model::fault::Faulty;

/// Settings of the SFU.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Worker threads, each with a socket; 0 is one fewer than there are cores.
    pub workers: usize,
    /// Address the sockets are bound to.
    pub bind: IpAddr,
    /// UDP port of the first worker, the others follow; 0 lets the system choose.
    pub udp_port: u16,
    /// Addresses advertised to browsers; empty is 127.0.0.1 and the address of the default route.
    pub announced_ips: Vec<IpAddr>,
    /// RFC 8445 section 2.5: right for a server with a public address, wrong behind NAT.
    pub ice_lite: bool,
    /// Most participants in a room.
    pub max_participants: usize,
    /// Most tracks a participant may send.
    pub max_tracks: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            workers: 0,
            bind: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            udp_port: 0,
            announced_ips: Vec::new(),
            ice_lite: false,
            max_participants: 64,
            max_tracks: 8,
        }
    }
}

impl Config {
    fn limits(&self) -> Limits {
        Limits { participants: self.max_participants, tracks_per_participant: self.max_tracks }
    }

    fn worker_count(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        if self.workers == 0 { (cores() - 1).max(1) } else { self.workers }
    }

    /// The addresses to advertise; never the wildcard, which no browser can reach.
    fn addresses(&self) -> Vec<IpAddr> {
        let mut addresses = self.announced_ips.clone();
        if addresses.is_empty() && !self.bind.is_unspecified() {
            addresses.push(self.bind);
        }
        if addresses.is_empty() {
            addresses.extend(primary_address());
            addresses.push(IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        addresses.retain(|address| !address.is_unspecified());
        addresses.dedup();
        addresses
    }
}

/// The SFU cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("UDP port {port} of {address} cannot be opened; choose another `udp_port` or stop what uses it")]
    Bind { address: IpAddr, port: u16, source: io::Error },
    #[error("no address can be announced; set `announced_ips` to one that browsers can reach")]
    NoAddress,
    #[error("there are not enough ports above `udp_port` for {0} workers")]
    Ports(usize),
    #[error("the WebRTC stack cannot make its certificate: {0}")]
    Certificate(String),
    #[error("a media worker cannot be started")]
    Spawn(#[source] io::Error),
}

impl Faulty for Error {
    fn fault(&self) -> Fault {
        Fault::Internal
    }
}

/// The running workers.
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
}

impl Workers {
    /// Where the workers' sockets are bound.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Waits until all have ended, which they do after the shutdown token is cancelled. Blocks.
    pub fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a media worker panicked");
            }
        }
    }
}

/// Starts the workers; they end when `shutdown` is cancelled.
///
/// # Errors
/// A socket, certificate or thread cannot be made.
pub fn start(config: &Config, shutdown: &CancellationToken) -> Result<(Rooms, Workers), Error> {
    let addresses = config.addresses();
    if addresses.is_empty() {
        return Err(Error::NoAddress);
    }
    let count = config.worker_count();
    let (senders, commands): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::channel(COMMAND_QUEUE)).unzip();
    let rooms = Rooms::new(senders);
    let mut workers = Workers { threads: Vec::with_capacity(count), addresses: Vec::with_capacity(count) };
    for (index, commands) in commands.into_iter().enumerate() {
        let (bound, socket) = open_socket(config, index)?;
        let candidates = addresses.iter().map(|ip| SocketAddr::new(*ip, bound.port())).collect();
        let engine = Engine::new(candidates, config.ice_lite).map_err(|error| Error::Certificate(error.to_string()))?;
        let mut host = Host::new(config.clone(), engine);
        host.counters = Counters::new(index);
        host.keeper = rooms.keeper(index);
        let shutdown = shutdown.clone();
        let thread = std::thread::Builder::new()
            .name(format!("media-{index}"))
            .spawn(move || run(host, socket, commands, shutdown))
            .map_err(Error::Spawn)?;
        workers.threads.push(thread);
        workers.addresses.push(bound);
    }
    tracing::info!(workers = count, ?addresses, bound = ?workers.addresses, "the SFU listens");
    Ok((rooms, workers))
}

fn run(
    host: Host,
    socket: UdpSocket,
    commands: mpsc::Receiver<crate::live::rooms::Command>,
    shutdown: CancellationToken,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let work = || {
        runtime.and_then(|runtime| {
            runtime.block_on(async {
                Worker::new(host, socket, commands)?.run(shutdown).await;
                Ok(())
            })
        })
    };
    // Its queue of commands closes with it, which is how everybody else learns that it is gone.
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "a media worker could not run"),
        Err(_) => tracing::error!("a media worker panicked and is gone; its rooms are closed until a restart"),
    }
}

fn open_socket(config: &Config, index: usize) -> Result<(SocketAddr, UdpSocket), Error> {
    let port = match (config.udp_port, u16::try_from(index)) {
        (0, _) => 0,
        (base, Ok(index)) => base.checked_add(index).ok_or(Error::Ports(index.into()))?,
        (_, Err(_)) => return Err(Error::Ports(index)),
    };
    let failed = |source| Error::Bind { address: config.bind, port, source };
    let socket = UdpSocket::bind((config.bind, port)).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    Ok((socket.local_addr().map_err(failed)?, socket))
}

/// The address packets to the world would leave from. Connecting a UDP socket sends nothing.
fn primary_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // RFC 5737: an address nobody has.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified() && !ip.is_loopback())
}

#[cfg(test)]
mod tests;
