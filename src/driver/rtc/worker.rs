//! One worker: its socket, its queue of commands and its clock.

use std::io;
use std::io::IoSliceMut;
use std::net::UdpSocket;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use quinn_udp::BATCH_SIZE;
use quinn_udp::RecvMeta;
use quinn_udp::UdpSocketState;
use rustix::time::ClockId;
use rustix::time::clock_gettime;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::driver::rtc::host::Host;
use crate::driver::rtc::path::Protocol;
use crate::driver::rtc::path::Remote;
use crate::driver::rtc::path::for_socket;
use crate::driver::rtc::sender::Sender;
use crate::driver::rtc::tcp::streams::Frame;
use crate::driver::rtc::tcp::streams::Streams;
use crate::driver::watch::watch;
use crate::live::rooms::Command;

/// How often keyframes due and participants gone are looked for.
const TICK: Duration = Duration::from_millis(100);
/// How often counters are published.
const PUBLISH: Duration = Duration::from_secs(1);
/// Bytes of one receive slot: the kernel may join up to 64 KiB of one sender's datagrams (GRO).
const SLOT: usize = 65_536;
/// Batches read before commands and timers get their turn.
const MAX_BATCHES: usize = 4;
/// Frames read from TCP before commands and timers get their turn.
const MAX_FRAMES: usize = 256;
/// Commands taken before the socket gets its turn.
const MAX_COMMANDS: usize = 64;

pub(super) struct Worker {
    host: Host,
    udp: Udp,
    streams: Streams,
    commands: mpsc::Receiver<Command>,
}

struct Udp {
    /// Watched for datagrams only: what does not fit into its buffer is lost, and nobody waits for room.
    socket: AsyncFd<UdpSocket>,
    sender: Sender,
    is_ipv6: bool,
}

impl Worker {
    /// # Errors
    /// The socket cannot be used from this thread's runtime.
    pub(super) fn new(
        host: Host,
        socket: UdpSocket,
        streams: Streams,
        commands: mpsc::Receiver<Command>,
    ) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        let is_ipv6 = socket.local_addr()?.is_ipv6();
        let socket = watch(socket, Interest::READABLE)?;
        let udp = Udp { socket, sender: Sender::new(state), is_ipv6 };
        Ok(Self { host, udp, streams, commands })
    }

    /// # Errors
    /// The socket is gone.
    pub(super) async fn run(mut self, shutdown: CancellationToken) -> io::Result<()> {
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
                ready = self.udp.socket.readable() => {
                    ready?.retain_ready();
                    self.receive(&mut buffer);
                }
                frame = self.streams.next() => {
                    self.receive_frame(&frame);
                    for _ in 0..MAX_FRAMES {
                        let Some(frame) = self.streams.try_next() else { break };
                        self.receive_frame(&frame);
                    }
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
                self.sweep_streams();
                publish = now + PUBLISH;
            }
            let udp = &mut self.udp;
            self.host.contained(now, |host| host.turn(now, |host| udp.send(host)));
            self.send();
            self.host.counters.end_turn();
        }
        self.host.close();
        self.send();
        self.publish(0);
        Ok(())
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
            let Udp { socket, sender, .. } = &self.udp;
            let received =
                socket.try_io(Interest::READABLE, |socket| sender.state().recv(socket.into(), &mut slots, &mut meta));
            let Ok(received) = received else { return };
            let now = Instant::now();
            self.host.arrival_us = monotonic_us();
            self.host.counters.begin_turn(now);
            for (meta, slot) in meta.iter().zip(&slots).take(received) {
                let local = self.host.engine.candidates.local(Protocol::Udp, meta.dst_ip.map(|ip| ip.to_canonical()));
                self.host.contained(now, |host| {
                    for datagram in slot[..meta.len].chunks(meta.stride.max(1)) {
                        host.receive(now, local, Remote::udp(meta.addr), datagram);
                    }
                });
            }
            if received < BATCH_SIZE {
                // That was all, so that asking again would be a call for nothing. What has come since is told anew: nobody else polls here.
                let _all_read = socket.try_io(Interest::READABLE, |_| Err::<(), _>(io::ErrorKind::WouldBlock.into()));
                return;
            }
        }
    }

    fn receive_frame(&mut self, frame: &Frame) {
        let now = Instant::now();
        self.host.arrival_us = monotonic_us();
        let local = self.host.engine.candidates.local(Protocol::Tcp, Some(frame.local.ip().to_canonical()));
        self.host.contained(now, |host| host.receive(now, local, frame.from, &frame.datagram));
    }

    /// Closes connections that are not, or no longer, a peer's.
    fn sweep_streams(&mut self) {
        let demux = &mut self.host.demux;
        for from in self.streams.sweep(|from| demux.knows(from)) {
            demux.lose(from);
        }
    }

    fn send(&mut self) {
        self.udp.send(&mut self.host);
        for (destination, datagram) in self.host.tcp_outbox.drain(..) {
            self.host.counters.datagrams_dropped += u64::from(!self.streams.send(Remote::tcp(destination), datagram));
        }
    }
}

impl Udp {
    /// Hands what waits to the kernel.
    fn send(&mut self, host: &mut Host) {
        if self.is_ipv6 {
            host.outbox.iter_mut().for_each(|(to, _)| *to = for_socket(*to, true));
        }
        host.counters.datagrams_dropped += self.sender.send(self.socket.get_ref(), &mut host.outbox);
        host.counters.sent(Instant::now);
    }
}

/// Microseconds of the machine's monotonic clock, which the mixer process shares.
fn monotonic_us() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let micros = i128::from(time.tv_sec) * 1_000_000 + i128::from(time.tv_nsec) / 1_000;
    u64::try_from(micros).unwrap_or_default()
}
