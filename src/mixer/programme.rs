//! The main pipeline: compositor and audio mixer with their seats for sources, encoders, and the appsinks that feed the gateway.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use gstreamer_app::AppSinkCallbacks;
use gstreamer_app::AppSrc;

use crate::mixer::error::Error;
use crate::mixer::feed::Feed;
use crate::mixer::master::Bus;
use crate::mixer::painter::Painter;
use crate::mixer::pipelines::Piece;
use crate::mixer::pipelines::Pipelines;
use crate::model::media::MediaKind;
use crate::model::scene::Placement;
use crate::model::spec::ProgrammeSpec;

/// A picture that has stalled this long leaves the programme; shorter pauses show its last frame.
pub(super) const STALL: gst::ClockTime = gst::ClockTime::from_seconds(2);

/// Decoded pictures that wait for their time: the playout delay holds 12 at 60 fps, twice that is plenty.
const WAITING_PICTURES: u64 = 32;

/// Decoded sound that waits for its time: 2 s of added delay and the playout delay in pieces of at least 2.5 ms.
const WAITING_SOUNDS: u64 = 1024;

/// The widest rectangle a picture is scaled to; a scene is trusted, but not with all of the memory.
const MOST_PIXELS: u32 = 4096;

/// How a picture of at most twice its place's size is scaled: between the two nearest pixels, in both directions. For 720p in a quarter
/// of 1080p that takes half the time of GStreamer's own choice and is nearer to what Lanczos' filter makes (SSIM 0.995 instead of 0.994).
const NEAR: &str = "scaling, GstVideoConverter.resampler-method=(GstVideoResamplerMethod)linear, \
                    GstVideoConverter.resampler-taps=(uint)2";

/// How a larger one is scaled: between all pixels of which one becomes, or its edges would flicker.
const FAR: &str = "scaling, GstVideoConverter.resampler-method=(GstVideoResamplerMethod)linear";

/// Side of the black square that stands behind everything. It is not scaled: scaling it costs as much as a participant.
const SLATE: i32 = 32;

/// How near the backdrop is to the viewer: before the slate, behind all sources.
const BACKDROP: u32 = 1;

/// The mixers take their first buffers within milliseconds; a machine that needs this long cannot run a programme.
const OPENING: Duration = Duration::from_secs(5);

/// Bytes of silence in the permanent pad of the audio mixer: 10 ms.
const SILENCE: usize = 480 * 8;

/// The running main pipeline. Dropping it without [`Programme::stop`] leaves threads behind.
#[derive(Debug)]
pub(super) struct Programme {
    pipeline: gst::Pipeline,
    bus: gst::Bus,
    clock: gst::Clock,
    base_time: gst::ClockTime,
    pictures: gst::Element,
    sounds: gst::Element,
    master: Bus,
    painter: Painter,
    encoder: gst::Element,
    pipelines: Pipelines,
    /// Half of a frame's duration, nanoseconds.
    half_frame: i64,
    overruns: Arc<AtomicU64>,
}

/// One source's place in the compositor or the audio mixer, and the appsrc that fills it.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) entry: AppSrc,
    pad: gst::Pad,
    mixer: gst::Element,
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
                ("audio_bps", spec.audio_kbps * 1000),
            ],
        )?;
        let pipeline = launch("programme", &description)?;
        // The type of a value in these texts is known once an element has been made that has a property of it.
        gst::ElementFactory::make("videoconvert").build().map_err(|error| build_error("videoconvert", &error))?;
        let clock = gst::SystemClock::obtain();
        let base_time = clock.time();
        share_clock(&pipeline, &clock, base_time);

        let overruns = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&overruns);
        named::<gst::Element>(&pipeline, "waiting")?.connect("overrun", false, move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            None
        });
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

        let pictures: gst::Element = named(&pipeline, "pictures")?;
        let composed = pictures.static_pad("src").ok_or_else(|| build_error("pictures", &"a mixer without an exit"))?;
        let sounds: gst::Element = named(&pipeline, "sounds")?;
        let mixed = sounds.static_pad("src").ok_or_else(|| build_error("sounds", &"a mixer without an exit"))?;
        let programme = Self {
            bus: bus_of(&pipeline)?,
            clock,
            base_time,
            pictures,
            sounds,
            master: Bus::over(&mixed)?,
            painter: Painter::over(&composed, spec.width, spec.height),
            encoder: named(&pipeline, "encoder")?,
            pipelines,
            half_frame: 500_000_000 / i64::from(spec.fps.max(1)),
            overruns,
            pipeline,
        };
        programme.hold_mixers_open()?;
        play("programme", &programme.pipeline)?;
        Ok(programme)
    }

    /// Gives both mixers a pad that is never released and has one buffer at zero. Without it the last source to leave would set
    /// their clocks back, the first one to come would rewind them, and they would run ahead as far as their sources do. The buffers
    /// are in place before the clock runs: on a busy machine they would be the ones to rewind it.
    fn hold_mixers_open(&self) -> Result<(), Error> {
        let caps = canvas_caps(SLATE, SLATE);
        let pixels = (SLATE * SLATE) as usize;
        let mut black = vec![16; pixels];
        black.resize(pixels * 3 / 2, 128);
        let slate = self.push_first("slate", &caps, black)?;
        let silence = self.push_first("silence", &sound_caps(), vec![0; SILENCE])?;
        self.pipeline.set_state(gst::State::Paused).map_err(|error| build_error("programme", &error))?;
        let deadline = Instant::now() + OPENING;
        while slate.current_level_buffers() + silence.current_level_buffers() > 0 {
            if Instant::now() > deadline {
                return Err(build_error("programme", &"the mixers do not take their first buffers"));
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        Ok(())
    }

    fn push_first(&self, entry: &'static str, caps: &gst::Caps, bytes: Vec<u8>) -> Result<AppSrc, Error> {
        let entry: AppSrc = named(&self.pipeline, entry)?;
        entry.set_caps(Some(caps));
        let mut buffer = gst::Buffer::from_mut_slice(bytes);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(gst::ClockTime::ZERO);
        }
        entry.push_buffer(buffer).map_err(|flow| build_error("programme", &flow))?;
        Ok(entry)
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
    pub(super) fn seat_picture(&self, placement: &Placement) -> Result<Seat, Error> {
        let seat = self.seat(&self.pictures, WAITING_PICTURES, |pad| {
            pad.set_property("max-last-buffer-repeat", STALL.nseconds());
            pad.set_property_from_str("sizing-policy", "keep-aspect-ratio");
            // The compositor shows a picture in the first frame that ends after it begins: up to a frame early, half a frame on average.
            pad.set_offset(self.half_frame);
            place(pad, placement);
            pad.connect_notify(Some("caps"), |pad, _| scale(pad));
        })?;
        Ok(seat)
    }

    /// A seat for sound.
    pub(super) fn seat_sound(&self) -> Result<Seat, Error> {
        self.seat(&self.sounds, WAITING_SOUNDS, |_| {})
    }

    fn seat(&self, mixer: &gst::Element, waiting: u64, prepare: impl FnOnce(&gst::Pad)) -> Result<Seat, Error> {
        let what = "source";
        let entry = AppSrc::builder()
            .is_live(true)
            .format(gst::Format::Time)
            .max_bytes(0)
            .max_buffers(waiting)
            .leaky_type(gstreamer_app::AppLeakyType::Downstream)
            .build();
        self.pipeline.add(&entry).map_err(|error| build_error(what, &error))?;
        let pad = mixer.request_pad_simple("sink_%u").ok_or_else(|| build_error(what, &"the mixer gives no pad"))?;
        prepare(&pad);
        let seat = Seat { entry, pad, mixer: mixer.clone() };
        let linked = seat.exit().and_then(|exit| exit.link(&seat.pad).map_err(|error| build_error(what, &error)));
        let playing =
            linked.and_then(|_| seat.entry.sync_state_with_parent().map_err(|error| build_error(what, &error)));
        if let Err(error) = playing {
            self.leave(seat);
            return Err(error);
        }
        Ok(seat)
    }

    /// Empties a seat. To be called from a thread that streams nothing, after whatever fills the seat has stopped. The order never
    /// hung in hundreds of measured runs: block, release (which wakes a thread waiting in the mixer), lock, stop, remove.
    pub(super) fn leave(&self, seat: Seat) {
        let Seat { entry, pad, mixer } = seat;
        if let Some(exit) = entry.static_pad("src") {
            exit.add_probe(gst::PadProbeType::DATA_DOWNSTREAM, |_, _| gst::PadProbeReturn::Drop);
        }
        mixer.release_request_pad(&pad);
        entry.set_locked_state(true);
        if let Err(error) = entry.set_state(gst::State::Null) {
            tracing::warn!(%error, "a source's entry does not stop");
        }
        if let Err(error) = self.pipeline.remove(&entry) {
            tracing::warn!(%error, "a source's entry cannot be removed");
        }
    }

    /// A seat for what stands behind all pictures and fills the canvas: one I420 picture of this size after the other, each for as long
    /// as there is no next.
    pub(super) fn seat_backdrop(&self, width: u32, height: u32) -> Result<Seat, Error> {
        let seat = self.seat(&self.pictures, WAITING_PICTURES, |pad| pad.set_property("zorder", BACKDROP))?;
        seat.entry.set_caps(Some(&canvas_caps(width.cast_signed(), height.cast_signed())));
        Ok(seat)
    }

    /// What all pipelines of this programme are built from.
    pub(super) const fn pipelines(&self) -> &Pipelines {
        &self.pipelines
    }

    /// What is drawn over all pictures.
    pub(super) const fn painter(&self) -> &Painter {
        &self.painter
    }

    /// The sound of all sources together.
    pub(super) const fn master(&self) -> &Bus {
        &self.master
    }

    /// The next encoded video frame becomes a keyframe with its headers.
    pub(super) fn force_keyframe(&self) {
        let request =
            gst::Structure::builder("GstForceKeyUnit").field("all-headers", true).field("count", 0u32).build();
        let sent =
            self.encoder.static_pad("src").is_some_and(|pad| pad.send_event(gst::event::CustomUpstream::new(request)));
        if !sent {
            tracing::warn!("the encoder did not take the request for a keyframe");
        }
    }

    /// New video bitrate in kbit/s; takes effect within 2 s.
    pub(super) fn set_bitrate(&self, video_kbps: u32) {
        self.encoder.set_property("bitrate", video_kbps.saturating_mul(1000 / self.pipelines.bitrate_unit()));
    }

    /// Frames that the encoder was too slow to take.
    pub(super) fn overruns(&self) -> u64 {
        self.overruns.load(Ordering::Relaxed)
    }

    /// Reads what the pipeline says.
    ///
    /// # Errors
    /// When it failed; a source's entry cannot fail, so any error here is the programme's own.
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
        Ok(())
    }

    pub(super) fn stop(&self) {
        stop("programme", &self.pipeline);
    }
}

impl Seat {
    fn exit(&self) -> Result<gst::Pad, Error> {
        self.entry.static_pad("src").ok_or_else(|| build_error("source", &"an appsrc without a pad"))
    }

    /// Moves the picture.
    pub(super) fn place(&self, placement: &Placement) {
        place(&self.pad, placement);
    }
}

/// The one format of sound between decoders and encoder: stereo floats at 48 kHz.
pub(super) fn sound_caps() -> gst::Caps {
    gst::Caps::builder("audio/x-raw")
        .field("format", "F32LE")
        .field("rate", 48_000)
        .field("channels", 2)
        .field("layout", "interleaved")
        .field("channel-mask", gst::Bitmask::new(3))
        .build()
}

/// A still of the programme's own format and colours.
fn canvas_caps(width: i32, height: i32) -> gst::Caps {
    gst::Caps::builder("video/x-raw")
        .field("format", "I420")
        .field("width", width)
        .field("height", height)
        .field("framerate", gst::Fraction::new(0, 1))
        .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
        .field("colorimetry", "bt601")
        .field("chroma-site", "mpeg2")
        .build()
}

fn place(pad: &gst::Pad, placement: &Placement) {
    let rect = placement.rect;
    let pixels = |value: u32| value.min(MOST_PIXELS).cast_signed();
    pad.set_property("xpos", pixels(rect.x));
    pad.set_property("ypos", pixels(rect.y));
    pad.set_property("width", pixels(rect.width));
    pad.set_property("height", pixels(rect.height));
    // The slate is at 0 and must stay behind everything.
    pad.set_property("zorder", placement.z.saturating_add(BACKDROP + 1));
    scale(pad);
}

/// Chooses how a picture is scaled, once its size is known and whenever its place changes.
fn scale(pad: &gst::Pad) {
    let Some(caps) = pad.current_caps() else { return };
    let length = |name| caps.structure(0).and_then(|picture| picture.get::<i32>(name).ok()).unwrap_or(0);
    let far = ["width", "height"].into_iter().any(|side| length(side) > 2 * pad.property::<i32>(side));
    pad.set_property_from_str("converter-config", if far { FAR } else { NEAR });
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
