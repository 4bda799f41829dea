//! A canvas on its way into the programme: timed by its sender's stamps, decoded in a pipeline of its kind, rebuilt when it changes its kind.

use std::fmt;

use gstreamer as gst;

use crate::mixer::MOST_PIXELS;
use crate::mixer::SECOND;
use crate::mixer::error::Error;
use crate::mixer::outbox::Outbox;
use crate::mixer::pipelines::Piece;
use crate::mixer::pipelines::Pipelines;
use crate::mixer::programme::Programme;
use crate::mixer::programme::launch;
use crate::mixer::source::decoder::Colours;
use crate::mixer::source::decoder::Decoder;
use crate::mixer::source::decoder::Use;
use crate::mixer::source::seat::STALL;
use crate::mixer::source::timing::SharedClock;
use crate::mixer::source::timing::TrackClock;
use crate::model::id::SourceId;
use crate::model::media::CanvasFormat;
use crate::model::media::CanvasFrame;
use crate::model::media::MediaKind;
use crate::model::scene::Look;
use crate::model::scene::Placement;
use crate::proto::mixer::Report;
use crate::proto::mixer::SourceState;

/// Ticks a second that the sender's stamps are counted in: those of video over RTP, so that the same clock follows them.
const CLOCK_RATE: u32 = 90_000;

/// Between two requests for a keyframe; the gateway asks the sender no more often.
const ASK_AGAIN: i64 = SECOND / 2;

/// First and longest wait before a failed decoder is built again.
const REBUILD_FIRST: i64 = SECOND / 2;
const REBUILD_LONGEST: i64 = 8 * SECOND;

/// See the file. All times are monotonic nanoseconds.
pub(in crate::mixer) struct Canvas {
    source: SourceId,
    placement: Placement,
    delay: i64,
    clock: TrackClock,
    alone: SharedClock,
    decoding: Decoding,
    rebuild_after: i64,
    state: SourceState,
    pieces: u64,
    progressed_at: i64,
    asked_at: Option<i64>,
}

enum Decoding {
    Nothing,
    Running { kind: Kind, decoder: Decoder, key_seen: bool },
    Failed { again_at: i64 },
}

/// What one pipeline can decode. Only raw frames have to say their size before the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind {
    format: CanvasFormat,
    raw_size: Option<(u16, u16)>,
}

impl Kind {
    fn of(frame: &CanvasFrame) -> Self {
        let raw_size = (frame.format == CanvasFormat::Rgba).then_some((frame.width, frame.height));
        Self { format: frame.format, raw_size }
    }

    fn pipeline(self, pipelines: &Pipelines) -> Result<gst::Pipeline, Error> {
        let what = match self.format {
            CanvasFormat::H264 => "canvas of H.264",
            CanvasFormat::Vp8 => "canvas of VP8",
            CanvasFormat::Jpeg => "canvas of JPEG",
            CanvasFormat::Webp => "canvas of WebP",
            CanvasFormat::Png => "canvas of PNG",
            CanvasFormat::Rgba => "raw canvas",
        };
        let (width, height) = self.raw_size.unwrap_or_default();
        let holes = [("width", u32::from(width)), ("height", u32::from(height)), ("most_pixels", MOST_PIXELS)];
        launch(what, &pipelines.filled(Piece::Canvas(self.format), &holes)?)
    }

    const fn colours(self) -> Colours {
        match self.format {
            CanvasFormat::Vp8 => Colours::Bt601,
            CanvasFormat::H264 | CanvasFormat::Jpeg | CanvasFormat::Webp | CanvasFormat::Png | CanvasFormat::Rgba => {
                Colours::AsTold
            }
        }
    }
}

impl fmt::Debug for Canvas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Canvas").field("source", &self.source).field("state", &self.state).finish_non_exhaustive()
    }
}

impl Canvas {
    /// A canvas that waits for its first frame.
    pub(in crate::mixer) fn new(source: SourceId, placement: Placement, delay: i64, now: i64, outbox: &Outbox) -> Self {
        let canvas = Self {
            source,
            placement,
            delay,
            clock: TrackClock::new(MediaKind::Video, CLOCK_RATE),
            alone: SharedClock::default(),
            decoding: Decoding::Nothing,
            rebuild_after: REBUILD_FIRST,
            state: SourceState::Waiting,
            pieces: 0,
            progressed_at: now,
            asked_at: None,
        };
        canvas.tell(outbox);
        canvas
    }

    pub(in crate::mixer) const fn source(&self) -> SourceId {
        self.source
    }

    /// Follows a scene's change.
    pub(in crate::mixer) fn adjust(&mut self, placement: Placement, delay: i64) {
        self.placement = placement;
        self.delay = delay;
        if let Decoding::Running { decoder, .. } = &self.decoding {
            decoder.adjust(Use::Picture(placement, Look::default(), delay));
        }
    }

    /// Takes a frame that arrived at `arrival`.
    pub(in crate::mixer) fn frame(
        &mut self,
        frame: CanvasFrame,
        arrival: i64,
        now: i64,
        programme: &Programme,
        outbox: &Outbox,
    ) {
        // Microseconds as ticks; the clock takes care of their wrapping.
        let stamp = (u128::from(frame.timestamp_us) * u128::from(CLOCK_RATE) / 1_000_000) as u32;
        let due = self.clock.due(&mut self.alone, arrival, stamp) + self.delay;
        self.build(Kind::of(&frame), now, programme, outbox);
        let Decoding::Running { decoder, key_seen, .. } = &mut self.decoding else { return };
        if !*key_seen && !frame.key {
            self.ask_for_keyframe(now, outbox);
            return;
        }
        *key_seen = true;
        let Some(running) = programme.running_time(due) else { return };
        decoder.packet(frame.data, running, false);
        decoder.flush();
    }

    fn build(&mut self, kind: Kind, now: i64, programme: &Programme, outbox: &Outbox) {
        match &self.decoding {
            Decoding::Running { kind: present, .. } if *present == kind => return,
            Decoding::Failed { again_at } if now < *again_at => return,
            Decoding::Nothing | Decoding::Running { .. } | Decoding::Failed { .. } => {}
        }
        self.tear_down(programme);
        let purpose = Use::Picture(self.placement, Look::default(), self.delay);
        let built = kind
            .pipeline(programme.pipelines())
            .and_then(|pipeline| Decoder::start(programme, pipeline, kind.colours(), purpose));
        match built {
            Ok(decoder) => {
                self.decoding = Decoding::Running { kind, decoder, key_seen: false };
                self.pieces = 0;
                self.progressed_at = now;
            }
            Err(error) => self.fail(now, error.to_string(), outbox),
        }
    }

    fn fail(&mut self, now: i64, reason: String, outbox: &Outbox) {
        tracing::warn!(source = self.source.0, reason, "a canvas' decoder failed");
        self.decoding = Decoding::Failed { again_at: now + self.rebuild_after };
        self.rebuild_after = (self.rebuild_after * 2).min(REBUILD_LONGEST);
        self.change(SourceState::Failed { reason }, outbox);
    }

    /// Looks at what the decoder has done.
    pub(in crate::mixer) fn advance(&mut self, now: i64, programme: &Programme, outbox: &Outbox) {
        let Decoding::Running { decoder, .. } = &self.decoding else { return };
        if let Some(reason) = decoder.failure() {
            self.tear_down(programme);
            self.fail(now, reason, outbox);
            return;
        }
        let pieces = decoder.pieces();
        let asks = decoder.takes_keyframe_request();
        if asks {
            self.ask_for_keyframe(now, outbox);
        }
        if pieces > self.pieces {
            self.pieces = pieces;
            self.progressed_at = now;
            self.rebuild_after = REBUILD_FIRST;
            self.change(SourceState::Live, outbox);
        } else if self.state == SourceState::Live && now - self.progressed_at > STALL {
            self.change(SourceState::Stalled, outbox);
        }
    }

    /// How much later than it was due the latest of its frames was ready since the last call, nanoseconds.
    pub(in crate::mixer) fn lateness(&self) -> Option<i64> {
        match &self.decoding {
            Decoding::Running { decoder, .. } => decoder.lateness(),
            Decoding::Nothing | Decoding::Failed { .. } => None,
        }
    }

    /// Follows the programme's playout delay.
    pub(in crate::mixer) const fn set_playout(&mut self, delay: i64) {
        self.alone.set_playout(delay);
    }

    /// Leaves the programme.
    pub(in crate::mixer) fn stop(mut self, programme: &Programme) {
        self.tear_down(programme);
    }

    fn tear_down(&mut self, programme: &Programme) {
        if let Decoding::Running { decoder, .. } = std::mem::replace(&mut self.decoding, Decoding::Nothing) {
            decoder.stop(programme);
        }
    }

    fn ask_for_keyframe(&mut self, now: i64, outbox: &Outbox) {
        if self.asked_at.is_none_or(|at| now - at >= ASK_AGAIN) {
            self.asked_at = Some(now);
            outbox.report(Report::CanvasKeyframeWanted { source: self.source });
        }
    }

    fn change(&mut self, state: SourceState, outbox: &Outbox) {
        if self.state != state {
            self.state = state;
            self.tell(outbox);
        }
    }

    fn tell(&self, outbox: &Outbox) {
        outbox.report(Report::Source { source: self.source, kind: MediaKind::Video, state: self.state.clone() });
    }
}
