//! A second mixer that stands by: it decodes what the first one does, and is told to go on in its place when that is gone.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::time::Instant;
use tracing::debug;
use tracing::warn;

use crate::domain::canvas::CREDITS;
use crate::domain::lifecycle::State;
use crate::live::canvas::Stroke;
use crate::live::stream::Stream;
use crate::live::stream::child::Child;
use crate::live::stream::child::ChildEvent;
use crate::live::stream::outbox::Outbox;
use crate::live::stream::scene;
use crate::model::id::SourceId;
use crate::model::scene::Scene;
use crate::proto::mixer::CanvasStroke;
use crate::proto::mixer::FromMixer;
use crate::proto::mixer::MixerStats;
use crate::proto::mixer::Report;

/// The first pause before one that died is replaced; it doubles with each further one that dies before it has taken over.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A playout delay that has moved by less is near enough: it is a third of a frame.
const MOVED_MS: u32 = 10;

/// The mixer that stands by, or the lack of one.
pub(super) struct Standby {
    is_wanted: bool,
    pub(super) child: Child,
    pub(super) stats: MixerStats,
    /// How often one has taken over.
    pub(super) takeovers: u64,
    next: Instant,
    pause: Duration,
    /// The playout delay it was told last.
    playout_ms: Option<u32>,
    /// Each frame of a canvas that is on its way to it holds one.
    strokes: Arc<()>,
}

impl Standby {
    pub(super) fn new(is_wanted: bool, now: Instant) -> Self {
        Self {
            is_wanted,
            child: Child::None,
            stats: MixerStats::default(),
            takeovers: 0,
            next: now,
            pause: FIRST_PAUSE,
            playout_ms: None,
            strokes: Arc::default(),
        }
    }

    /// Ends it, and there will be no other.
    pub(super) fn dismiss(&mut self) {
        self.is_wanted = false;
        self.child = Child::None;
    }

    fn lose(&mut self, now: Instant) {
        self.child = Child::None;
        self.stats = MixerStats::default();
        self.next = now + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// Tells it the scene as far as it is for one that stands by: no file has two writers, and what passes by a decoder leaves it cold.
    pub(super) fn show(&mut self, scene: &Scene) {
        if let Some(outbox) = self.child.outbox() {
            self.playout_ms = scene.playout_ms;
            outbox.set_scene(standing_by(scene));
        }
    }

    /// Offers it a frame of a canvas; `false` if that is lost to it. The painter goes at the pace of the mixer on air: one that starts, or
    /// is slow, holds up none of its frames.
    pub(super) fn offer_stroke(&mut self, source: SourceId, stroke: &Stroke) -> bool {
        if !self.child.is_running() {
            return true;
        }
        let on_their_way = Arc::strong_count(&self.strokes) - 1;
        let (arrival_us, frame) = (stroke.arrival_us, stroke.beside(Arc::clone(&self.strokes)));
        on_their_way < CREDITS as usize && self.child.offer_stroke(CanvasStroke { source, arrival_us, frame })
    }
}

fn standing_by(scene: &Scene) -> Scene {
    let scene = scene.clone();
    Scene { standby: true, recording: None, stems: Vec::new(), passthrough: None, preview: false, ..scene }
}

impl Stream {
    /// Starts one as soon as the programme runs and there is none.
    pub(super) fn keep_standby(&mut self, now: Instant) {
        let Standby { is_wanted, child: Child::None, next, .. } = &self.standby else { return };
        let runs =
            matches!(self.life.state(), State::Live { .. }) && self.child.is_running() && self.timeline.has_begun();
        if *is_wanted && runs && now >= *next {
            let (mixers, stream) = (Arc::clone(&self.ports.mixers), self.row.id);
            self.standby.child = Child::Starting(async move { mixers.start(stream).await }.boxed());
        }
    }

    /// The one that stands by, if there is one that can take over.
    pub(super) fn take_standby(&mut self) -> Option<Child> {
        if !self.standby.child.is_running() {
            return None;
        }
        metrics::counter!("jamcast_mixer_takeovers_total").increment(1);
        self.unmissed_frames = self.standby.stats.dropped_frames;
        let stats = std::mem::take(&mut self.standby.stats);
        self.mixer_stats = MixerStats { dropped_frames: 0, ..stats };
        self.standby.takeovers += 1;
        self.standby.pause = FIRST_PAUSE;
        self.standby.next = Instant::now();
        Some(std::mem::replace(&mut self.standby.child, Child::None))
    }

    /// Keeps the one that stands by where the programme is.
    pub(super) fn tell_standby_playout(&mut self, playout_ms: u32) {
        self.playout_ms = Some(playout_ms);
        if self.standby.child.is_running()
            && self.standby.playout_ms.is_none_or(|told| told.abs_diff(playout_ms) >= MOVED_MS)
        {
            let scene = self.scene();
            self.standby.show(&scene);
        }
    }

    pub(super) fn on_standby(&mut self, event: ChildEvent) {
        match event {
            ChildEvent::Started(link) => {
                debug!(pid = link.pid, "a mixer stands by");
                let scene = self.scene();
                self.standby.playout_ms = scene.playout_ms;
                self.standby.child =
                    Child::running(link, Outbox::for_newborn(standing_by(&scene), self.reports.clone()));
                self.ask_keyframes(scene::visible_tracks(&self.roster));
                self.canvas.want_keyframe();
            }
            ChildEvent::NotStarted(error) => self.lose_standby(&error.to_string()),
            ChildEvent::Said(FromMixer::Report(report)) => match report {
                Report::KeyframeWanted { track } => self.ask_keyframes([track]),
                Report::CanvasKeyframeWanted { .. } => self.canvas.want_keyframe(),
                Report::Stats(stats) => self.standby.stats = stats,
                Report::Failed { reason } => self.lose_standby(&reason),
                Report::Playing
                | Report::Source { .. }
                | Report::Meters(_)
                | Report::RecordingBegun { .. }
                | Report::RecordingFinished { .. }
                | Report::RecordingFailed { .. }
                | Report::Finished
                | Report::Probed(_) => {}
            },
            // What it makes before it is on air is nobody's.
            ChildEvent::Told | ChildEvent::Said(FromMixer::Frame(_) | FromMixer::Config(_) | FromMixer::Preview(_)) => {
            }
            ChildEvent::Gone => self.lose_standby("its process ended"),
        }
    }

    fn lose_standby(&mut self, reason: &str) {
        warn!(reason, "the mixer that stood by is gone");
        // What it has cost stays in the sum, which never steps back.
        self.earlier.cpu_ms += self.standby.stats.cpu_ms;
        self.standby.lose(Instant::now());
    }
}
