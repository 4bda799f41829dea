//! One worker: its socket, its queue of commands and its clock.

use std::io;
use std::io::IoSliceMut;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use quinn_udp::BATCH_SIZE;
use quinn_udp::RecvMeta;
use quinn_udp::UdpSocketState;
use rustix::time::ClockId;
use rustix::time::clock_gettime;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::driver::rtc::host::Host;
use crate::driver::rtc::sender::Sender;
use crate::live::rooms::Command;

/// How often keyframes due and participants gone are looked for.
const TICK: Duration = Duration::from_millis(100);
/// How often counters are published.
const PUBLISH: Duration = Duration::from_secs(1);
/// Bytes of one receive slot: the kernel may join up to 64 KiB of one sender's datagrams (GRO).
const SLOT: usize = 65_536;
/// Batches read before commands and timers get their turn.
const MAX_BATCHES: usize = 4;
/// Commands taken before the socket gets its turn.
const MAX_COMMANDS: usize = 64;
/// Kernel buffers: 4 MiB hold over 100 ms of 2500 packets of video bursts.
const SOCKET_BUFFER: usize = 4 << 20;

pub(super) struct Worker {
    host: Host,
    socket: UdpSocket,
    sender: Sender,
    /// Candidates advertised; the first stands for datagrams to an address that is not among them (behind NAT).
    candidates: Vec<SocketAddr>,
    commands: mpsc::Receiver<Command>,
}

impl Worker {
    /// # Errors
    /// The socket cannot be used from this thread's runtime.
    pub(super) fn new(host: Host, socket: std::net::UdpSocket, commands: mpsc::Receiver<Command>) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        // The kernel gives less than asked for where its limit is lower; that costs losses under load, not function.
        for result in [
            state.set_recv_buffer_size((&socket).into(), SOCKET_BUFFER),
            state.set_send_buffer_size((&socket).into(), SOCKET_BUFFER),
        ] {
            if let Err(error) = result {
                tracing::debug!(%error, "a socket buffer keeps its default size");
            }
        }
        let candidates = host.engine.candidates.clone();
        Ok(Self { host, socket: UdpSocket::from_std(socket)?, sender: Sender::new(state), candidates, commands })
    }

    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let mut buffer = vec![0; SLOT * BATCH_SIZE];
        let mut tick = Instant::now() + TICK;
        let mut publish = Instant::now() + PUBLISH;
        loop {
            let wake = self.host.next_timer().map_or(tick, |timer| timer.min(tick));
            tokio::select! {
                () = shutdown.cancelled() => break,
                command = self.commands.recv() => {
                    let Some(command) = command else { break };
                    let now = Instant::now();
                    self.host.contained(now, |host| host.handle(now, command));
                    for _ in 0..MAX_COMMANDS {
                        let Ok(command) = self.commands.try_recv() else { break };
                        self.host.contained(now, |host| host.handle(now, command));
                    }
                }
                ready = self.socket.readable() => {
                    if let Err(error) = ready {
                        tracing::error!(%error, "the media socket is gone; this worker ends");
                        break;
                    }
                    self.receive(&mut buffer);
                }
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            let now = Instant::now();
            self.host.contained(now, |host| host.run_timers(now));
            if now >= tick {
                self.host.contained(now, |host| host.tick(now));
                tick = now + TICK;
            }
            if now >= publish {
                self.publish(self.host.participants());
                publish = now + PUBLISH;
            }
            let (sender, socket) = (&mut self.sender, &self.socket);
            self.host.contained(now, |host| host.turn(now, |host| send(host, sender, socket)));
            self.send();
            self.host.counters.end_turn();
        }
        self.host.close();
        self.send();
        self.publish(0);
    }

    fn publish(&mut self, participants: usize) {
        let resent = self.host.engine.resent.load(Ordering::Relaxed);
        let cpu = self.host.counters.publish(participants, resent);
        self.host.keeper.measured(cpu, PUBLISH);
    }

    fn receive(&mut self, buffer: &mut [u8]) {
        for _ in 0..MAX_BATCHES {
            let mut meta = [RecvMeta::default(); BATCH_SIZE];
            let mut slots: Vec<IoSliceMut<'_>> = buffer.chunks_mut(SLOT).map(IoSliceMut::new).collect();
            let received = self
                .socket
                .try_io(Interest::READABLE, || self.sender.state().recv((&self.socket).into(), &mut slots, &mut meta));
            let Ok(received) = received else { return };
            let now = Instant::now();
            self.host.arrival_us = monotonic_us();
            self.host.counters.begin_turn(now);
            for (meta, slot) in meta.iter().zip(&slots).take(received) {
                let local = self.local(meta.dst_ip);
                self.host.contained(now, |host| {
                    for datagram in slot[..meta.len].chunks(meta.stride.max(1)) {
                        host.receive(now, local, meta.addr, datagram);
                    }
                });
            }
        }
    }

    /// The candidate a datagram was sent to.
    fn local(&self, ip: Option<IpAddr>) -> SocketAddr {
        let known = self.candidates.iter().find(|candidate| Some(candidate.ip()) == ip);
        *known.unwrap_or(&self.candidates[0])
    }

    fn send(&mut self) {
        send(&mut self.host, &mut self.sender, &self.socket);
    }
}

/// Hands what waits to the kernel.
fn send(host: &mut Host, sender: &mut Sender, socket: &UdpSocket) {
    host.counters.datagrams_dropped += sender.send(socket, &mut host.outbox);
    host.counters.sent(Instant::now);
}

/// Microseconds of the machine's monotonic clock, which the mixer process shares.
fn monotonic_us() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let micros = i128::from(time.tv_sec) * 1_000_000 + i128::from(time.tv_nsec) / 1_000;
    u64::try_from(micros).unwrap_or_default()
}
