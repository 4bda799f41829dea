//! The SFU's workers: one thread and one UDP socket each, a room lives on one worker.

#[cfg(any(test, fuzzing))]
pub(crate) mod bare;
mod buffers;
mod containment;
mod counters;
mod delay;
mod delays;
mod demux;
mod engine;
mod feedback;
mod flow;
mod host;
mod media;
mod nack;
mod negotiate;
mod numbering;
mod path;
mod peer;
mod pleas;
mod presence;
mod programme;
mod repetition;
mod sdp;
mod seat;
mod sender;
mod tcp;
mod told;
mod transports;
mod worker;

use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::UdpSocket;
use std::thread::JoinHandle;

use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::domain::room::Limits;
use crate::driver::rtc::counters::Counters;
use crate::driver::rtc::demux::Demux;
use crate::driver::rtc::engine::Candidates;
use crate::driver::rtc::engine::Engine;
use crate::driver::rtc::host::Host;
use crate::driver::rtc::tcp::Directory;
use crate::driver::rtc::tcp::Listener;
use crate::driver::rtc::tcp::streams::Streams;
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
    /// Whether browsers whose network blocks UDP may come over TCP.
    pub tcp: bool,
    /// The TCP port of all workers; 0 lets the system choose.
    pub tcp_port: u16,
    /// Most TCP connections for media at once.
    pub max_tcp_connections: usize,
    /// Addresses advertised to browsers; empty is 127.0.0.1 and the address of the default route.
    pub announced_ips: Vec<IpAddr>,
    /// RFC 8445 section 2.5: right for a server with a public address, wrong behind NAT.
    pub ice_lite: bool,
    /// Most participants in a room.
    pub max_participants: usize,
    /// Most tracks a participant may send.
    pub max_tracks: usize,
    /// Voices of a room that go out to everybody; where more play, the loudest.
    pub max_voices: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            workers: 0,
            bind: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            udp_port: 0,
            tcp: true,
            tcp_port: 0,
            max_tcp_connections: 1000,
            announced_ips: Vec::new(),
            ice_lite: false,
            max_participants: 64,
            max_tracks: 8,
            max_voices: 16,
        }
    }
}

impl Config {
    fn limits(&self) -> Limits {
        Limits {
            participants: self.max_participants,
            tracks_per_participant: self.max_tracks,
            voices: self.max_voices.max(1),
        }
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
            addresses.extend(primary_address(NOBODY_V4.into()));
            addresses.extend(self.bind.is_ipv6().then(|| primary_address(NOBODY_V6.into())).flatten());
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
    #[error(
        "TCP port {port} of {address} cannot be opened; choose another `tcp_port`, stop what uses it, or set `tcp = false`"
    )]
    Listen { address: IpAddr, port: u16, source: io::Error },
    #[error("no address can be announced; set `announced_ips` to one that browsers can reach")]
    NoAddress,
    #[error(
        "{0} cannot be announced, for sockets bound to an IPv4 address do not serve it; set `bind = \"::\"` for both families"
    )]
    Family(IpAddr),
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
    tcp_address: Option<SocketAddr>,
}

impl Workers {
    /// Where the workers' sockets are bound.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where TCP connections are taken, if they are.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp_address
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
    if let Some(ip) = addresses.iter().find(|ip| ip.is_ipv6() && config.bind.is_ipv4()) {
        return Err(Error::Family(*ip));
    }
    let listening = config.tcp.then(|| open_listener(config)).transpose()?;
    let tcp_address = listening.as_ref().map(|(bound, _)| *bound);
    let at = |bound: SocketAddr| addresses.iter().map(move |ip| SocketAddr::new(*ip, bound.port())).collect();
    let directory = Directory::default();
    let count = config.worker_count();
    let (senders, commands): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::channel(COMMAND_QUEUE)).unzip();
    let rooms = Rooms::new(senders);
    let mut doors = Vec::with_capacity(count);
    let mut workers = Workers { threads: Vec::new(), addresses: Vec::with_capacity(count), tcp_address };
    for (index, commands) in commands.into_iter().enumerate() {
        let (bound, socket) = open_socket(config, index)?;
        let candidates = Candidates { udp: at(bound), tcp: tcp_address.map_or_else(Vec::new, at) };
        let engine = Engine::new(candidates, config.ice_lite).map_err(|error| Error::Certificate(error.to_string()))?;
        let (door, arrivals) = mpsc::channel(tcp::ARRIVALS);
        let mut host = Host::new(config.clone(), engine, Demux::new(directory.clone(), index));
        host.counters = Counters::new(index);
        host.keeper = rooms.keeper(index);
        let shutdown = shutdown.clone();
        let work = async move || Worker::new(host, socket, Streams::new(arrivals), commands)?.run(shutdown).await;
        workers.threads.push(spawn(format!("media-{index}"), work)?);
        doors.push(door);
        workers.addresses.push(bound);
    }
    if let Some((_, socket)) = listening {
        let listener = Listener { socket, directory, workers: doors, max_connections: config.max_tcp_connections };
        let shutdown = shutdown.clone();
        workers.threads.push(spawn("media-tcp".to_owned(), async move || listener.run(shutdown).await)?);
    }
    tracing::info!(workers = count, ?addresses, bound = ?workers.addresses, tcp = ?tcp_address, "the SFU listens");
    Ok((rooms, workers))
}

/// A thread with a runtime of its own. What was moved into its work ends with it, and its queues close: that is how everybody else
/// learns that it is gone.
///
/// The work is a task and not what the runtime blocks on: that one is woken by writing to a file, also from its own thread.
fn spawn<W>(name: String, work: impl FnOnce() -> W + Send + 'static) -> Result<JoinHandle<()>, Error>
where
    W: Future<Output = io::Result<()>> + Send + 'static,
{
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        match runtime.map(|runtime| runtime.block_on(async { tokio::spawn(work()).await })) {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) | Err(error) => tracing::error!(%error, thread = name, "a media thread could not run"),
            Ok(Err(_)) => tracing::error!(thread = name, "a media thread panicked and is gone until a restart"),
        }
    };
    std::thread::Builder::new().name(name).spawn(run).map_err(Error::Spawn)
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
    buffers::widen(&socket, index);
    Ok((socket.local_addr().map_err(failed)?, socket))
}

fn open_listener(config: &Config) -> Result<(SocketAddr, TcpListener), Error> {
    let port = config.tcp_port;
    let failed = |source| Error::Listen { address: config.bind, port, source };
    let listener = TcpListener::bind((config.bind, port)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok((listener.local_addr().map_err(failed)?, listener))
}

/// Addresses for documentation, which nobody has (RFC 5737, RFC 3849).
const NOBODY_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const NOBODY_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// The address packets to somebody in the world would leave from. Connecting a UDP socket sends nothing.
fn primary_address(somebody: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = if somebody.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((somebody, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified() && !ip.is_loopback())
}

#[cfg(test)]
mod tests;
