//! One running stream: the task between a room's tap, a mixer child, and the destinations.

mod aligning;
mod canvas;
mod child;
mod direction;
mod generation;
mod ledger;
mod meter;
mod outbox;
mod reach;
mod recording;
mod room;
mod scene;
mod screening;
mod standby;
mod steering;
mod tapping;
mod timeline;
mod view;

use std::future;
use std::mem;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::error;
use tracing::info;

use crate::domain::lifecycle::Action;
use crate::domain::lifecycle::Input;
use crate::domain::lifecycle::Lifecycle;
use crate::domain::lifecycle::Limits;
use crate::domain::lifecycle::State;
use crate::live::canvas::View;
use crate::live::destination;
use crate::live::destination::Destination;
use crate::live::fanout::Fanout;
use crate::live::hls::Stocker;
use crate::live::port::Ports;
use crate::live::port::StateChange;
use crate::live::port::StreamRow;
use crate::live::rooms::Roster;
use crate::live::snapshot::CanvasSnapshot;
use crate::live::snapshot::DestinationSnapshot;
use crate::live::snapshot::Meters;
use crate::live::snapshot::Outcome;
use crate::live::snapshot::PictureSnapshot;
use crate::live::snapshot::StreamSnapshot;
use crate::live::snapshot::StreamState;
use crate::live::stream::aligning::Lateness;
use crate::live::stream::aligning::Measuring;
use crate::live::stream::canvas::CanvasEvent;
use crate::live::stream::child::Child;
use crate::live::stream::child::ChildEvent;
use crate::live::stream::direction::Asked;
use crate::live::stream::direction::Staging;
use crate::live::stream::ledger::Ledger;
use crate::live::stream::meter::Meter;
use crate::live::stream::outbox::SenderReports;
use crate::live::stream::reach::Order;
use crate::live::stream::reach::Reach;
use crate::live::stream::recording::Files;
use crate::live::stream::scene::Composer;
use crate::live::stream::screening::Screening;
use crate::live::stream::standby::Standby;
use crate::live::stream::steering::Steering;
use crate::live::stream::tapping::TapEvent;
use crate::live::stream::tapping::Tapping;
use crate::live::stream::timeline::Timeline;
use crate::live::stream::view::phase;
use crate::model::secret::StreamKey;
use crate::model::spec::DestinationSpec;
use crate::proto::mixer::MixerStats;

pub use crate::live::stream::direction::Direction;
pub(crate) use crate::live::stream::ledger::size_of;
pub use crate::live::stream::steering::Config as Adaptation;
pub(crate) use crate::live::stream::view::now_ms;
pub(crate) use crate::live::stream::view::snapshot_of;

/// Snapshots a second are limited to two: what a person can read, and what many watchers can be sent.
const TICK: Duration = Duration::from_millis(500);

/// A keyframe costs the bits of about half a second of other frames, so destinations that ask at the same time share one.
const KEYFRAME_SPACING: Duration = Duration::from_millis(500);

/// What a stream needs beside the ports: the row it was created as, and its destinations with their opened keys.
pub struct Plan {
    /// When the start was asked for.
    pub asked_at: Instant,
    pub row: StreamRow,
    pub destinations: Vec<(DestinationSpec, StreamKey)>,
    pub limits: Limits,
    pub destination_config: destination::Config,
    pub adaptation: Adaptation,
}

/// A running stream as the registry holds it.
#[derive(Clone, Debug)]
pub struct Handle {
    stop: CancellationToken,
    snapshot: watch::Receiver<StreamSnapshot>,
    directions: mpsc::Sender<Asked>,
    orders: mpsc::Sender<Order>,
    meters: watch::Receiver<Meters>,
}

impl Handle {
    /// Asks the stream to end; asking twice is no error. The snapshot shows when it has.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    pub fn snapshot(&self) -> StreamSnapshot {
        self.snapshot.borrow().clone()
    }

    pub fn watch(&self) -> watch::Receiver<StreamSnapshot> {
        self.snapshot.clone()
    }
}

/// The stream itself, which lives in the task that runs [`Stream::run`].
pub struct Stream {
    row: StreamRow,
    ports: Ports,
    stop: CancellationToken,
    shutdown: CancellationToken,
    snapshot: watch::Sender<StreamSnapshot>,
    ledger: Ledger,
    life: Lifecycle,
    live_since: Option<Instant>,
    /// From the request to start to when the destinations began to dial.
    lead: Duration,
    first_video_ms: Option<u64>,

    tap: Tapping,
    canvas: View,
    /// The canvas as in the newest scene.
    canvas_shown: Option<CanvasSnapshot>,
    roster: Roster,
    composer: Composer,
    reports: SenderReports,

    child: Child,
    standby: Standby,
    /// Mixers on air so far.
    generation: u32,
    files: Files,
    mixer_stats: MixerStats,
    /// What this mixer dropped while it stood by, which nobody missed.
    unmissed_frames: u64,
    /// The playout delay that the programme has come to, if it is known.
    playout_ms: Option<u32>,
    /// Counters of the mixers before this one.
    earlier: MixerStats,

    timeline: Timeline,
    meter: Meter,
    /// Frames that did not continue the timeline.
    unfit_frames: u64,
    fanout: Fanout,
    hls: Option<Stocker>,
    screening: Screening,
    keyframe_wanted: Arc<Notify>,
    /// Set while a wish for a keyframe waits for its turn.
    keyframe_wish: bool,
    next_keyframe: Instant,
    staging: Staging,
    measuring: Measuring,
    /// What can be shown and where it stands, as in the newest scene.
    pictures: Vec<PictureSnapshot>,
    directions: mpsc::Receiver<Asked>,
    orders: mpsc::Receiver<Order>,
    meters: watch::Sender<Meters>,
    destinations: Vec<Destination>,
    destination_views: Vec<watch::Receiver<DestinationSnapshot>>,
    reach: Reach,
    closing: Option<BoxFuture<'static, ()>>,
    steering: Steering,

    next_tick: Instant,
    mixer_trouble: Option<String>,
}

enum Happening {
    StopAsked,
    DestinationsClosed,
    Child(ChildEvent),
    Standby(ChildEvent),
    Tap(TapEvent),
    Canvas(CanvasEvent),
    Directed(Asked),
    Ordered(Order),
    Measured(Lateness),
    KeyframeWanted,
    Time,
}

impl Stream {
    /// A stream that begins when it is run, and the handle to it. It publishes through `snapshot` and ends when `shutdown` is
    /// cancelled.
    pub fn new(
        plan: Plan,
        ports: Ports,
        snapshot: watch::Sender<StreamSnapshot>,
        shutdown: &CancellationToken,
        tracker: &TaskTracker,
    ) -> (Self, Handle) {
        let Plan { asked_at, row, destinations, limits, destination_config, adaptation } = plan;
        let stop = shutdown.child_token();
        let (asks, directions) = mpsc::channel(direction::QUEUE);
        let (gives, orders) = mpsc::channel(reach::QUEUE);
        let meters = watch::Sender::new(Meters::default());
        let handle = Handle {
            stop: stop.clone(),
            snapshot: snapshot.subscribe(),
            directions: asks,
            orders: gives,
            meters: meters.subscribe(),
        };
        let now = Instant::now();
        let fanout = Fanout::new();
        let reach = Reach {
            config: destination_config,
            programme: row.programme.clone(),
            dial: Arc::clone(&ports.dial),
            tracker: tracker.clone(),
        };
        let destinations: Vec<Destination> =
            destinations.into_iter().map(|(spec, key)| reach.start(spec, key, &fanout)).collect();
        let stream = Self {
            stop,
            shutdown: shutdown.clone(),
            snapshot,
            ledger: Ledger::open(row.id, Arc::clone(&ports.store), tracker),
            life: Lifecycle::new(limits),
            live_since: None,
            lead: now - asked_at,
            first_video_ms: None,
            tap: Tapping::open(ports.rooms.clone(), row.room.clone()),
            canvas: ports.canvases.watch(&row.room),
            canvas_shown: None,
            roster: Roster::default(),
            composer: Composer::default(),
            reports: SenderReports::new(),
            screening: Screening::default(),
            hls: row.hls.then(|| ports.shelves.open(row.id, &row.programme)),
            child: Child::None,
            standby: Standby::new(ports.mixers.has_standby(), now),
            generation: 0,
            files: Files::default(),
            mixer_stats: MixerStats::default(),
            unmissed_frames: 0,
            playout_ms: None,
            earlier: MixerStats::default(),
            timeline: Timeline::default(),
            meter: Meter::default(),
            unfit_frames: 0,
            keyframe_wanted: fanout.keyframe_wanted(),
            keyframe_wish: false,
            next_keyframe: now,
            staging: Staging::default(),
            measuring: Measuring::new(now),
            pictures: Vec::new(),
            directions,
            orders,
            meters,
            fanout,
            reach,
            destination_views: destinations.iter().map(Destination::snapshot).collect(),
            destinations,
            closing: None,
            steering: Steering::new(now, &adaptation, &row.programme),
            next_tick: now + TICK,
            mixer_trouble: None,
            row,
            ports,
        };
        (stream, handle)
    }

    /// Lives the stream's life. It has ended when this returns: the store and the snapshot say so.
    pub async fn run(mut self) {
        // Whatever a panic left half done is dropped here; of the stream only its ledger and its last snapshot are used after it.
        let last = match AssertUnwindSafe(self.live()).catch_unwind().await {
            Ok(()) => self.describe(),
            Err(_) => self.bury(),
        };
        info!(state = ?last.state, reason = last.reason, "stream is over");
        self.end_screening();
        if let Some(hls) = self.hls.take() {
            self.reach.tracker.spawn(self.shutdown.clone().run_until_cancelled_owned(hls.finish()));
        }
        self.ledger.outcome(Outcome { stats: last.stats.clone(), destinations: last.destinations.clone() });
        self.ledger.close().await;
        // Only now, so that whoever sees the end here finds it in the store as well.
        self.snapshot.send_replace(last);
    }

    /// After a panic, which is our bug and ends this stream only.
    fn bury(&mut self) -> StreamSnapshot {
        error!("the stream's task panicked; this is a bug of the gateway");
        metrics::counter!("jamcast_stream_panics_total").increment(1);
        self.drop_mixer("the stream failed; the file holds what was written until then");
        let last = self.snapshot.borrow().clone();
        let (reason, ended_at_ms) = (Some("an error inside the gateway".to_owned()), Some(now_ms()));
        let state = StreamState::Failed;
        self.ledger.state(StateChange { state, reason: reason.clone(), started_at_ms: None, ended_at_ms });
        StreamSnapshot { state, reason, ended_at_ms, ..last }
    }

    async fn live(&mut self) {
        info!(room = %self.row.room, destinations = self.destinations.len(), record = self.row.record, "stream starts");
        self.advance(Input::Start);
        while !self.is_over() {
            match self.next().await {
                Happening::StopAsked => {
                    let reason = self.shutdown.is_cancelled().then(|| "the gateway was shut down".to_owned());
                    self.advance(Input::Stop { reason });
                }
                Happening::DestinationsClosed => {
                    self.closing = None;
                    self.advance(Input::DestinationsClosed);
                }
                Happening::Child(event) => self.on_child(event),
                Happening::Standby(event) => self.on_standby(event),
                Happening::Tap(event) => self.on_tap(event),
                Happening::Canvas(event) => self.on_canvas(event),
                Happening::Directed(asked) => self.on_asked(asked),
                Happening::Ordered(order) => self.on_order(order),
                Happening::Measured(answer) => self.on_lateness(answer),
                Happening::KeyframeWanted => self.keyframe_wish = true,
                Happening::Time => self.advance(Input::Timeout),
            }
            self.on_time();
        }
    }

    async fn next(&mut self) -> Happening {
        let wake = self.wake_at();
        let asked = !matches!(self.life.state(), State::Stopping { .. });
        tokio::select! {
            biased;
            () = self.stop.cancelled(), if asked => Happening::StopAsked,
            () = or_never(&mut self.closing) => Happening::DestinationsClosed,
            () = tokio::time::sleep_until(wake) => Happening::Time,
            () = self.keyframe_wanted.notified() => Happening::KeyframeWanted,
            Some(asked) = self.directions.recv() => Happening::Directed(asked),
            Some(order) = self.orders.recv() => Happening::Ordered(order),
            answer = or_never(&mut self.measuring.answer) => Happening::Measured(answer),
            event = self.child.next() => Happening::Child(event),
            event = self.standby.child.next() => Happening::Standby(event),
            event = self.tap.next() => Happening::Tap(event),
            event = canvas::next(&mut self.canvas) => Happening::Canvas(event),
        }
    }

    fn wake_at(&self) -> Instant {
        let life = self.life.poll_timeout().map(Instant::from_std);
        let keyframe = (self.keyframe_wish && self.child.is_running()).then_some(self.next_keyframe);
        [Some(self.next_tick), self.steering.due(), life, keyframe]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(self.next_tick)
    }

    /// Does what is due by the clock: a coalesced keyframe, a look at the destinations, the next snapshot.
    fn on_time(&mut self) {
        let now = Instant::now();
        if self.keyframe_wish
            && now >= self.next_keyframe
            && let Some(outbox) = self.child.outbox()
        {
            outbox.force_keyframe();
            self.keyframe_wish = false;
            self.next_keyframe = now + KEYFRAME_SPACING;
        }
        if let Some(video_kbps) = self.steering.look(now, &self.destinations) {
            let outboxes = [&mut self.child, &mut self.standby.child].into_iter().filter_map(Child::outbox);
            outboxes.for_each(|outbox| outbox.set_bitrate(video_kbps));
        }
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            self.watch_disk();
            self.measure_lateness(now);
            self.keep_standby(now);
            self.publish();
        }
    }

    /// Tells the lifecycle what happened and does what it decides.
    fn advance(&mut self, input: Input) {
        let before = phase(self.life.state());
        self.life.handle(Instant::now().into_std(), input);
        self.carry_out(before);
    }

    /// Does what the lifecycle has decided; `before` is the state the outside knows.
    fn carry_out(&mut self, before: StreamState) {
        while let Some(action) = self.life.poll_output() {
            match action {
                Action::StartMixer => self.start_mixer(),
                Action::KillMixer => self.drop_mixer("the mixer had to be stopped by force"),
                Action::FinishMixer => self.finish_mixer(),
                Action::CloseDestinations => {
                    self.standby.dismiss();
                    let stops = mem::take(&mut self.destinations).into_iter().map(Destination::stop);
                    self.closing = Some(futures::future::join_all(stops).map(drop).boxed());
                }
            }
        }
        let after = phase(self.life.state());
        if after != before {
            self.enter(after);
        }
    }

    fn enter(&mut self, state: StreamState) {
        let mut change = StateChange { state, reason: self.reason(), started_at_ms: None, ended_at_ms: None };
        match state {
            StreamState::Created | StreamState::Starting | StreamState::Stopping => {}
            StreamState::Live => {
                self.live_since = Some(Instant::now());
                self.row.started_at_ms = Some(now_ms());
                change.started_at_ms = self.row.started_at_ms;
            }
            StreamState::Ended | StreamState::Failed => {
                self.row.ended_at_ms = Some(now_ms());
                change.ended_at_ms = self.row.ended_at_ms;
            }
        }
        info!(?state, reason = change.reason, "stream changes state");
        self.ledger.state(change);
        if !self.is_over() {
            self.publish();
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.life.state(), State::Ended { .. } | State::Failed { .. })
    }
}

async fn or_never<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => future::pending().await,
    }
}
