//! The programme: seats for sources, the beat that composes and mixes what is in them, the encoders, and the appsinks that feed the gateway.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use gstreamer_app::AppSinkCallbacks;
use gstreamer_app::AppSrc;
use gstreamer_video::UpstreamForceKeyUnitEvent;

use crate::mixer::beat;
use crate::mixer::beat::Beat;
use crate::mixer::beat::Stage;
use crate::mixer::error::Error;
use crate::mixer::feed::Feed;
use crate::mixer::picture::painter::Painter;
use crate::mixer::pipelines::Piece;
use crate::mixer::pipelines::Pipelines;
use crate::mixer::sound::master::Bus;
use crate::mixer::source::playout::Patience;
use crate::mixer::source::seat::PictureSeat;
use crate::mixer::source::seat::Seats;
use crate::mixer::source::seat::SoundSeat;
use crate::mixer::source::still::Keyframe;
use crate::model::media::EncodedFrame;
use crate::model::media::MediaKind;
use crate::model::scene::Placement;
use crate::model::spec::ProgrammeSpec;
use crate::proto::h264::Unit;

/// The running main pipeline. Dropping it without [`Programme::stop`] leaves threads behind.
#[derive(Debug)]
pub(super) struct Programme {
    pipeline: gst::Pipeline,
    bus: gst::Bus,
    clock: gst::Clock,
    base_time: gst::ClockTime,
    stage: Arc<Stage>,
    patience: Patience,
    beat: Beat,
    master: Bus,
    painter: Painter,
    finished: gst::Pad,
    mixed: gst::Pad,
    encoder: gst::Element,
    feed: Arc<Feed>,
    /// The newest that was passed on, while pictures are.
    passed: RefCell<Option<Keyframe>>,
    fps: u32,
    pipelines: Pipelines,
}

/// One source's seat.
#[derive(Debug)]
pub(super) enum Seat {
    Picture(Arc<PictureSeat>),
    Sound(Arc<SoundSeat>),
}

impl Programme {
    /// Builds the pipeline and plays it; frames come out from now on, sources or not.
    pub(super) fn start(pipelines: Pipelines, spec: &ProgrammeSpec, feed: &Arc<Feed>) -> Result<Self, Error> {
        let description = pipelines.filled(
            Piece::Programme,
            &[
                ("width", spec.width),
                ("height", spec.height),
                ("fps", spec.fps),
                ("video_kbps", spec.video_kbps),
                ("video_bps", spec.video_kbps.saturating_mul(1000)),
                ("keyframe_frames", spec.fps * spec.keyframe_interval_s),
                ("threads", threads_for(spec)),
                ("audio_bps", spec.audio_kbps * 1000),
            ],
        )?;
        let pipeline = launch("programme", &description)?;
        let clock = gst::SystemClock::obtain();
        let base_time = beat::begin_of(clock.time());
        share_clock(&pipeline, &clock, base_time);

        for kind in [MediaKind::Video, MediaKind::Audio] {
            let feed = Arc::clone(feed);
            let take = move |sink: &AppSink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                feed.take(kind, &sample, base_time);
                Ok(gst::FlowSuccess::Ok)
            };
            named::<AppSink>(&pipeline, kind.as_str())?
                .set_callbacks(AppSinkCallbacks::builder().new_sample(take).build());
        }

        let pictures: AppSrc = named(&pipeline, "pictures")?;
        let sounds: AppSrc = named(&pipeline, "sounds")?;
        let mixed = exit_of(&sounds)?;
        let master = Bus::over(&mixed)?;
        let finished = exit_of(&pictures)?;
        let painter = Painter::over(&finished, spec.width, spec.height);
        let encoder = named(&pipeline, "encoder")?;
        let bus = bus_of(&pipeline)?;
        play("programme", &pipeline)?;
        let patience = Patience::of(spec.latency);
        let stage = Arc::new(Stage::new(patience.frame));
        let beat = Beat::start(&stage, pictures, sounds, spec.fps, base_time)?;
        let (feed, fps) = (Arc::clone(feed), spec.fps);
        Ok(Self {
            pipeline,
            bus,
            clock,
            base_time,
            stage,
            patience,
            beat,
            master,
            painter,
            finished,
            mixed,
            encoder,
            feed,
            passed: RefCell::default(),
            fps,
            pipelines,
        })
    }

    /// Joins another pipeline to this one's clock, so that a running time means the same in both.
    pub(super) fn share_clock_with(&self, pipeline: &gst::Pipeline) {
        share_clock(pipeline, &self.clock, self.base_time);
    }

    /// A monotonic time in nanoseconds as running time; `None` before the programme began.
    pub(super) fn running_time(&self, monotonic: i64) -> Option<gst::ClockTime> {
        let running = u64::try_from(monotonic).ok()?.checked_sub(self.base_time.nseconds())?;
        Some(gst::ClockTime::from_nseconds(running))
    }

    /// A seat for pictures, at its place already.
    pub(super) fn seat_picture(&self, placement: Placement) -> Arc<PictureSeat> {
        self.stage.seats.seat_picture(placement)
    }

    /// A seat for sound.
    pub(super) fn seat_sound(&self) -> Arc<SoundSeat> {
        self.stage.seats.seat_sound()
    }

    /// Empties a seat, after whatever fills it has stopped.
    pub(super) fn leave(&self, seat: &Seat) {
        match seat {
            Seat::Picture(seat) => self.stage.seats.leave_picture(seat),
            Seat::Sound(seat) => Seats::leave_sound(seat),
        }
    }

    /// Where all sources sit, and what is behind them.
    pub(super) const fn stage(&self) -> &Arc<Stage> {
        &self.stage
    }

    /// How long it waits for what comes late.
    pub(super) const fn patience(&self) -> Patience {
        self.patience
    }

    /// What all pipelines of this programme are built from.
    pub(super) const fn pipelines(&self) -> &Pipelines {
        &self.pipelines
    }

    /// What is drawn over all pictures.
    pub(super) const fn painter(&self) -> &Painter {
        &self.painter
    }

    /// Where whole pictures leave; a probe that is added now sees what is drawn over them as well.
    pub(super) const fn finished_pictures(&self) -> &gst::Pad {
        &self.finished
    }

    /// Where the whole sound leaves, of this programme's format; a probe that is added now hears what the master bus made of it.
    pub(super) const fn finished_sounds(&self) -> &gst::Pad {
        &self.mixed
    }

    /// The sound of all sources together.
    pub(super) const fn master(&self) -> &Bus {
        &self.master
    }

    /// The next encoded video frame becomes a keyframe with its headers.
    pub(super) fn force_keyframe(&self) {
        self.force_keyframe_at(None);
    }

    /// The same of the first one from this running time on.
    fn force_keyframe_at(&self, running: Option<gst::ClockTime>) {
        let request = UpstreamForceKeyUnitEvent::builder().all_headers(true).running_time(running).build();
        let sent = self.encoder.static_pad("src").is_some_and(|pad| pad.send_event(request));
        if !sent {
            tracing::warn!("the encoder did not take the request for a keyframe");
        }
    }

    /// A monotonic time in nanoseconds as running time, which is less than nothing before the programme began.
    pub(super) fn since_begin(&self, monotonic: i64) -> i64 {
        monotonic - self.base_time.nseconds().cast_signed()
    }

    /// Composes no picture for the running time `due` or later: a source's pictures take over there. `false` if it is too late for that.
    pub(super) fn stop_composing_at(&self, due: i64) -> bool {
        let last = self.stage.stop_before(due, self.fps);
        if let Some(last) = last {
            self.feed.change_after(self.micros(last));
        }
        last.is_some()
    }

    /// Composes pictures again, behind a source's last one, with a keyframe at first.
    pub(super) fn compose_after(&self, last: i64) {
        let from = beat::after(last, self.fps);
        self.force_keyframe_at(u64::try_from(from).ok().map(gst::ClockTime::from_nseconds));
        self.feed.return_at(self.micros(from));
        self.stage.compose_from(from, self.fps);
        self.passed.replace(None);
    }

    /// The newest keyframe of a source, while its pictures are passed on.
    pub(super) fn passed_keyframe(&self) -> Option<Keyframe> {
        self.passed.borrow().clone()
    }

    /// Composes nothing from `now` on, until [`Programme::take_over`]. `false` if it is past that already.
    pub(super) fn rest(&self, now: i64) -> bool {
        self.stage.stop_before(self.since_begin(now), self.fps).is_some()
    }

    /// Composes again, from the frame on that follows the last one on air, or that is due next if nobody knows of one. The first is a
    /// keyframe.
    pub(super) fn take_over(&self, now: i64, last_us: Option<u64>) {
        let due = |at| self.stage.due_at(self.since_begin(at), self.fps);
        let last = last_us.and_then(|last_us| i64::try_from(last_us).ok()?.checked_mul(1000));
        let follows = last.map(|last| beat::after(self.since_begin(last), self.fps));
        let from = follows.map_or_else(|| due(now), |follows| follows.max(due(now - beat::KEPT)));
        self.force_keyframe_at(u64::try_from(from).ok().map(gst::ClockTime::from_nseconds));
        self.stage.compose_from(from, self.fps);
    }

    /// Passes a source's picture on in place of one of the encoder's.
    pub(super) fn pass(&self, unit: Unit<i64>, avc: &Bytes) {
        let pts_us = self.micros(unit.due);
        let Unit { key, data, .. } = unit;
        if key {
            self.passed.replace(Some(Keyframe { data: data.clone(), avc: avc.clone() }));
        }
        self.feed.pass(EncodedFrame { kind: MediaKind::Video, pts_us, dts_us: pts_us, key, data }, avc);
    }

    /// A running time in microseconds of the monotonic clock.
    fn micros(&self, running: i64) -> u64 {
        micros(self.base_time, running)
    }

    /// The monotonic time of running time zero.
    pub(super) const fn base_time(&self) -> gst::ClockTime {
        self.base_time
    }

    /// New video bitrate in kbit/s; takes effect within 2 s.
    pub(super) fn set_bitrate(&self, video_kbps: u32) {
        self.encoder.set_property("bitrate", video_kbps.saturating_mul(1000 / self.pipelines.bitrate_unit()));
    }

    /// Frames that the encoder was too slow to take.
    pub(super) fn overruns(&self) -> u64 {
        self.stage.overruns()
    }

    /// Reads what the pipeline says.
    ///
    /// # Errors
    /// When it failed; sources have pipelines of their own, so any error here is the programme's.
    pub(super) fn poll(&self) -> Result<(), Error> {
        while let Some(message) = self.bus.pop() {
            #[expect(clippy::wildcard_enum_match_arm, reason = "an open enumeration of GStreamer's")]
            match message.view() {
                gst::MessageView::Error(error) => {
                    let element = message.src().map_or_else(String::new, |source| source.name().to_string());
                    return Err(Error::Pipeline { element, reason: reason_of(error) });
                }
                gst::MessageView::Latency(_) => {
                    if let Err(error) = self.pipeline.recalculate_latency() {
                        tracing::warn!(%error, "the programme's latency cannot be recalculated");
                    }
                }
                _ => {}
            }
        }
        if self.beat.has_ended() {
            return Err(Error::Pipeline { element: "beat".to_owned(), reason: "it composes no more".to_owned() });
        }
        Ok(())
    }

    pub(super) fn stop(&mut self) {
        self.beat.stop();
        stop("programme", &self.pipeline);
    }
}

/// A running time in microseconds of the monotonic clock, where that of running time zero is `base_time`.
pub(super) fn micros(base_time: gst::ClockTime, running: i64) -> u64 {
    (base_time.nseconds().cast_signed() + running).max(0).unsigned_abs() / 1000
}

fn exit_of(entry: &AppSrc) -> Result<gst::Pad, Error> {
    entry.static_pad("src").ok_or_else(|| build_error("programme", &"an appsrc without a pad"))
}

/// Threads of an encoder on the processor: each more costs a few percent and cuts pictures into slices, and one is enough for 720p30,
/// of which x264 `superfast` makes five times as many as are due.
const fn threads_for(spec: &ProgrammeSpec) -> u32 {
    if spec.width * spec.height * spec.fps <= 1280 * 720 * 30 { 1 } else { 2 }
}

fn share_clock(pipeline: &gst::Pipeline, clock: &gst::Clock, base_time: gst::ClockTime) {
    pipeline.use_clock(Some(clock));
    pipeline.set_start_time(gst::ClockTime::NONE);
    pipeline.set_base_time(base_time);
}

/// Builds a pipeline of a filled description.
pub(super) fn launch(what: &'static str, description: &str) -> Result<gst::Pipeline, Error> {
    gst::parse::launch(description)
        .map_err(|error| build_error(what, &error))?
        .downcast()
        .map_err(|_| build_error(what, &"the description is not a pipeline"))
}

/// The element of this name and type.
pub(super) fn named<T: IsA<gst::Object>>(pipeline: &gst::Pipeline, name: &'static str) -> Result<T, Error> {
    pipeline
        .by_name(name)
        .and_then(|element| element.upcast::<gst::Object>().downcast().ok())
        .ok_or_else(|| build_error(name, &"it is missing in its description"))
}

pub(super) fn bus_of(pipeline: &gst::Pipeline) -> Result<gst::Bus, Error> {
    pipeline.bus().ok_or_else(|| build_error("source", &"a pipeline without a bus"))
}

pub(super) fn play(what: &'static str, pipeline: &gst::Pipeline) -> Result<(), Error> {
    pipeline.set_state(gst::State::Playing).map(drop).map_err(|error| build_error(what, &error))
}

/// Stops a pipeline; it returns when all its threads have ended.
pub(super) fn stop(what: &'static str, pipeline: &gst::Pipeline) {
    if let Err(error) = pipeline.set_state(gst::State::Null) {
        tracing::warn!(%error, what, "a pipeline does not stop");
    }
}

pub(super) fn build_error(what: &'static str, reason: &impl ToString) -> Error {
    Error::Build { what, reason: reason.to_string() }
}

/// GStreamer's error with the element's own words.
pub(super) fn reason_of(error: &gst::message::Error) -> String {
    let detail = error.debug().unwrap_or_default();
    let last_line = detail.lines().last().unwrap_or_default();
    format!("{} ({last_line})", error.error())
}
