//! The task of one destination: dials, feeds its connection from its queue, and tells what becomes of it.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use metrics::counter;
use tokio::io::AsyncReadExt;
use tokio::io::ReadHalf;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::domain::abr::Acknowledged;
use crate::domain::destination as decisions;
use crate::domain::destination::Command;
use crate::domain::destination::Input as Seen;
use crate::domain::destination::Loss;
use crate::domain::destination::State;
use crate::live::destination::loss;
use crate::live::destination::now;
use crate::live::destination::wire::Wire;
use crate::live::fanout::Item;
use crate::live::fanout::Subscription;
use crate::live::gauge::Gauge;
use crate::live::port::Connection;
use crate::live::port::Dial;
use crate::live::port::DialError;
use crate::live::snapshot::DestinationSnapshot;
use crate::live::snapshot::DestinationState;
use crate::model::media::EncodedFrame;
use crate::model::media::MediaKind;
use crate::model::secret::StreamKey;
use crate::model::spec::DestinationSpec;
use crate::model::spec::ProgrammeSpec;
use crate::model::spec::RtmpEndpoint;
use crate::proto::rtmp::publisher::Event;
use crate::proto::rtmp::publisher::Input;
use crate::proto::rtmp::publisher::Output;
use crate::proto::rtmp::publisher::Publisher;

/// How often counters are published while nothing else happens.
const REFRESH: Duration = Duration::from_millis(500);
/// A goodbye that takes longer is not waited for.
const GOODBYE: Duration = Duration::from_secs(2);
/// Servers say little to a publisher; a small buffer is enough.
const READ_BUFFER: usize = 8 * 1024;

/// See the file.
pub(super) struct Actor {
    pub(super) spec: DestinationSpec,
    pub(super) key: StreamKey,
    pub(super) programme: ProgrammeSpec,
    pub(super) dial: Arc<dyn Dial>,
    pub(super) subscription: Subscription,
    pub(super) machine: decisions::Destination,
    /// What may be missing on the platform's side although it takes the stream.
    pub(super) on_air_hint: Option<&'static str>,
    pub(super) snapshot: watch::Sender<DestinationSnapshot>,
    pub(super) first_video: FirstVideo,
    pub(super) gauge: Gauge,
    pub(super) stop: CancellationToken,
}

/// How far the first picture is.
#[derive(Clone, Copy)]
pub(super) enum FirstVideo {
    Awaited {
        since: Instant,
    },
    /// On its way through the socket.
    Offered {
        since: Instant,
    },
    Taken,
}

/// Why an attempt is over.
enum End {
    Lost(Loss),
    /// The state machine has already drawn its conclusions.
    HungUp,
    Stopped,
}

impl Actor {
    pub(super) async fn run(mut self) {
        loop {
            match self.machine.poll_output() {
                Some(Command::Dial) => {
                    let end = self.attempt().await;
                    self.subscription.pause();
                    self.gauge.ended();
                    self.snapshot.send_modify(|snapshot| snapshot.bytes_acknowledged = None);
                    match end {
                        End::Lost(loss) => self.see(Seen::Lost(loss)),
                        End::HungUp => self.refresh(),
                        End::Stopped => self.see(Seen::Stop),
                    }
                }
                Some(Command::HangUp) => {}
                None if matches!(self.machine.state(), State::Stopped { .. }) => return,
                None => self.wait().await,
            }
        }
    }

    /// Between attempts.
    async fn wait(&mut self) {
        let due = self.machine.poll_timeout().unwrap_or_else(now);
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => self.see(Seen::Stop),
            () = tokio::time::sleep_until(due.into()) => self.see(Seen::Timeout),
            () = tokio::time::sleep(REFRESH) => self.refresh(),
        }
        if matches!(self.machine.state(), State::Connecting) {
            self.snapshot.send_modify(|snapshot| snapshot.reconnects += 1);
            counter!("jamcast_destination_reconnects_total").increment(1);
        }
    }

    /// One connection, from dialling to its end.
    async fn attempt(&mut self) -> End {
        let stop = self.stop.clone();
        let dialled = tokio::select! {
            () = stop.cancelled() => return End::Stopped,
            dialled = self.dial_in_time() => dialled,
        };
        let connection = match dialled {
            Ok(connection) => connection,
            Err(error) => return End::Lost(loss::of_dial(&error)),
        };
        self.see(Seen::Dialled);
        let (endpoint, key) = self.ingest();
        let publisher = Publisher::new(now(), endpoint.clone(), key.clone(), self.programme.clone());
        let (reader, writer) = tokio::io::split(connection);
        let mut wire = Wire::new(publisher, writer);
        let end = self.pump(&mut wire, reader).await;
        if matches!(end, End::Stopped) {
            // A server that does not even take a goodbye finds out by itself.
            let _ = tokio::time::timeout(GOODBYE, wire.say_goodbye()).await;
        }
        end
    }

    /// The server of this attempt and the key for it.
    fn ingest(&self) -> (&RtmpEndpoint, &StreamKey) {
        match &self.spec.backup {
            Some(backup) if self.machine.on_backup() => (&backup.endpoint, &backup.key),
            Some(_) | None => (&self.spec.endpoint, &self.key),
        }
    }

    async fn dial_in_time(&self) -> Result<Box<dyn Connection>, DialError> {
        let (endpoint, _) = self.ingest();
        let dial = self.dial.dial(endpoint);
        match self.machine.dial_patience(now()) {
            Some(patience) => tokio::time::timeout(patience, dial)
                .await
                .unwrap_or_else(|_| Err(DialError::TimedOut { host: endpoint.host.clone(), port: endpoint.port })),
            None => dial.await,
        }
    }

    async fn pump(&mut self, wire: &mut Wire, mut reader: ReadHalf<Box<dyn Connection>>) -> End {
        let stop = self.stop.clone();
        let mut buffer = vec![0; READ_BUFFER];
        let mut refresh = tokio::time::interval(REFRESH);
        loop {
            if let Some(end) = self.drain(wire) {
                return end;
            }
            if !wire.is_busy() {
                self.note_first_video();
            }
            let due = [wire.publisher.poll_timeout(), self.machine.poll_timeout()].into_iter().flatten().min();
            tokio::select! {
                () = stop.cancelled() => return End::Stopped,
                read = reader.read(&mut buffer) => match read {
                    Ok(0) => return End::Lost(loss::closed()),
                    Ok(length) => {
                        wire.publisher.handle(now(), Input::Received(&buffer[..length]));
                        self.note_acknowledged(wire);
                    }
                    Err(error) => return End::Lost(loss::broken(&error)),
                },
                written = wire.write_some(), if wire.is_busy() => match written {
                    Ok(length) => self.take(wire, length),
                    Err(error) => return End::Lost(loss::broken(&error)),
                },
                item = self.subscription.next(), if wire.on_air && !wire.is_busy() => match item {
                    Some(Item::Config(config)) => wire.publisher.handle(now(), Input::Config(&config)),
                    Some(Item::Frame(frame)) => self.send(wire, &frame),
                    None => return End::Stopped,
                },
                () = tokio::time::sleep_until(due.unwrap_or_else(now).into()), if due.is_some() => {
                    wire.publisher.handle(now(), Input::Timeout);
                    self.see(Seen::Timeout);
                    if self.machine.poll_output() == Some(Command::HangUp) {
                        return End::HungUp;
                    }
                }
                _ = refresh.tick() => self.refresh(),
            }
        }
    }

    /// Moves the next bytes of the publisher to the wire, then acts on its events.
    fn drain(&mut self, wire: &mut Wire) -> Option<End> {
        if let Some(error) = wire.publisher.failure() {
            return Some(End::Lost(loss::of_publish(error)));
        }
        while wire.pending.is_empty() {
            match wire.publisher.poll_output()? {
                Output::Send(bytes) => {
                    self.gauge.took(0, bytes.len());
                    wire.pending = bytes;
                }
                Output::Event(Event::Greeted) => {}
                Output::Event(Event::Accepted) => {
                    wire.on_air = true;
                    self.see(Seen::Accepted);
                    self.subscription.start();
                }
                Output::Event(Event::Failed(error)) => return Some(End::Lost(loss::of_publish(error))),
            }
        }
        None
    }

    fn send(&mut self, wire: &mut Wire, frame: &EncodedFrame) {
        let before = wire.publisher.frames();
        wire.publisher.handle(now(), Input::Frame(frame));
        let sent = wire.publisher.frames() - before;
        if let FirstVideo::Awaited { since } = self.first_video
            && sent > 0
            && frame.kind == MediaKind::Video
        {
            self.first_video = FirstVideo::Offered { since };
        }
        if sent > 0 {
            self.machine.handle(now(), Seen::Offered);
            self.snapshot.send_if_modified(|snapshot| {
                snapshot.frames_sent += sent;
                false
            });
            counter!("jamcast_destination_frames_total").increment(sent);
        }
    }

    /// The socket has taken all there was: the first picture too, if it was among that.
    fn note_first_video(&mut self) {
        if let FirstVideo::Offered { since } = self.first_video {
            self.first_video = FirstVideo::Taken;
            let took = u64::try_from(now().saturating_duration_since(since).as_millis()).unwrap_or(u64::MAX);
            self.snapshot.send_modify(|snapshot| snapshot.first_video_ms = Some(took));
        }
    }

    /// Notes what the server says it has.
    fn note_acknowledged(&mut self, wire: &mut Wire) {
        let Some(seen) = wire.publisher.acknowledged() else { return };
        wire.note_answer(seen.bytes);
        self.gauge.acknowledged(Some(Acknowledged { bytes: seen.bytes, lag_bytes: seen.lag_bytes }));
        self.snapshot.send_if_modified(|snapshot| {
            snapshot.bytes_acknowledged = Some(seen.bytes);
            false
        });
    }

    /// Notes that the socket took bytes.
    fn take(&mut self, wire: &mut Wire, length: usize) {
        self.gauge.took(length, wire.pending.len());
        if length > 0 {
            self.snapshot.send_if_modified(|snapshot| {
                snapshot.bytes_sent += length as u64;
                false
            });
            counter!("jamcast_destination_bytes_total").increment(length as u64);
        }
        if wire.publisher.frames() > 0 {
            let before = state_of(self.machine.state());
            // What a dead server's kernel or proxy still takes is no progress.
            if wire.is_left_unanswered() {
                self.machine.handle(now(), Seen::Offered);
            } else {
                self.machine.handle(now(), Seen::Taken { drained: !wire.is_busy() });
            }
            if state_of(self.machine.state()) != before {
                self.announce();
            }
        }
    }

    fn see(&mut self, input: Seen) {
        let before = state_of(self.machine.state());
        self.machine.handle(now(), input);
        if state_of(self.machine.state()) == before {
            self.refresh();
        } else {
            self.announce();
        }
    }

    /// Publishes and logs a new state.
    fn announce(&mut self) {
        self.refresh();
        let state = state_of(self.machine.state());
        counter!("jamcast_destination_transitions_total", "state" => name_of(state)).increment(1);
        let (id, hint) = (self.spec.id, self.machine.hint());
        match state {
            DestinationState::Stalled | DestinationState::Backoff | DestinationState::Rejected => {
                tracing::warn!(destination = %id, state = name_of(state), hint, "destination is in trouble");
            }
            DestinationState::Connecting
            | DestinationState::Handshaking
            | DestinationState::Publishing
            | DestinationState::Live
            | DestinationState::Stopped => {
                tracing::info!(destination = %id, state = name_of(state), hint, "destination changed");
            }
        }
    }

    fn refresh(&mut self) {
        let backlog = self.subscription.backlog();
        let state = self.machine.state();
        let retry_in_ms = match state {
            State::Backoff { until, .. } | State::Rejected { until, .. } => {
                Some(u64::try_from(until.saturating_duration_since(now()).as_millis()).unwrap_or(u64::MAX))
            }
            State::Connecting
            | State::Handshaking
            | State::Publishing(_)
            | State::Live(_)
            | State::Stalled(_)
            | State::Stopped { .. } => None,
        };
        // Taking the stream is not showing it: whoever publishes before the platform's broadcast begins is told what is missing.
        let hint = match state {
            State::Publishing(_) | State::Live(_) => self.on_air_hint.map(str::to_owned),
            State::Connecting
            | State::Handshaking
            | State::Stalled(_)
            | State::Backoff { .. }
            | State::Rejected { .. }
            | State::Stopped { .. } => self.machine.hint(),
        };
        let state = state_of(state);
        let (on_backup, url) = (self.machine.on_backup(), self.ingest().0.url());
        self.snapshot.send_modify(|snapshot| {
            counter!("jamcast_destination_dropped_frames_total")
                .increment(backlog.dropped_frames - snapshot.dropped_frames);
            snapshot.state = state;
            snapshot.on_backup = on_backup;
            snapshot.url = url;
            snapshot.hint = hint;
            snapshot.retry_in_ms = retry_in_ms;
            snapshot.dropped_frames = backlog.dropped_frames;
            snapshot.queue_ms = u64::try_from(backlog.age.as_millis()).unwrap_or(u64::MAX);
        });
    }
}

const fn state_of(state: &State) -> DestinationState {
    match state {
        State::Connecting => DestinationState::Connecting,
        State::Handshaking => DestinationState::Handshaking,
        State::Publishing(_) => DestinationState::Publishing,
        State::Live(_) => DestinationState::Live,
        State::Stalled(_) => DestinationState::Stalled,
        State::Backoff { .. } => DestinationState::Backoff,
        State::Rejected { .. } => DestinationState::Rejected,
        State::Stopped { .. } => DestinationState::Stopped,
    }
}

const fn name_of(state: DestinationState) -> &'static str {
    match state {
        DestinationState::Connecting => "connecting",
        DestinationState::Handshaking => "handshaking",
        DestinationState::Publishing => "publishing",
        DestinationState::Live => "live",
        DestinationState::Stalled => "stalled",
        DestinationState::Backoff => "backoff",
        DestinationState::Rejected => "rejected",
        DestinationState::Stopped => "stopped",
    }
}
