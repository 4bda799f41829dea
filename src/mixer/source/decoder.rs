//! One track's decoder: a small pipeline of its own whose output is handed to a seat of the programme. Its failure stays here.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use gstreamer_app::AppSinkCallbacks;
use gstreamer_app::AppSrc;
use gstreamer_video::VideoInfo;
use gstreamer_video::VideoMeta;

use crate::mixer::MOST_PIXELS;
use crate::mixer::error::Error;
use crate::mixer::picture::look;
use crate::mixer::pipelines::Piece;
use crate::mixer::pipelines::Pipelines;
use crate::mixer::programme::Programme;
use crate::mixer::programme::Seat;
use crate::mixer::programme::bus_of;
use crate::mixer::programme::launch;
use crate::mixer::programme::named;
use crate::mixer::programme::play;
use crate::mixer::programme::reason_of;
use crate::mixer::programme::stop;
use crate::mixer::sound::level;
use crate::mixer::sound::level::Level;
use crate::mixer::sound::strip::Setting;
use crate::mixer::sound::strip::Strip;
use crate::mixer::source::seat::Picture;
use crate::mixer::source::seat::PictureSeat;
use crate::mixer::source::seat::SoundSeat;
use crate::model::media::Codec;
use crate::model::opus;
use crate::model::scene::Look;
use crate::model::scene::Placement;
use crate::model::scene::SourceTrack;

/// How much later a sound leaves an Opus encoder and a decoder than it went in, nanoseconds.
pub(in crate::mixer) const OPUS_DELAY: i64 = opus::DELAY.as_nanos() as i64;

/// What a decoder is to do with what it decodes.
#[derive(Clone, Copy, Debug)]
pub(in crate::mixer) enum Use {
    /// With its added delay in nanoseconds.
    Picture(Placement, Look, i64),
    Sound(Setting),
}

impl Use {
    /// The added delay of a picture, nanoseconds. Sound is delayed behind its decoder, and not by this.
    pub(in crate::mixer) const fn picture_delay(self) -> i64 {
        match self {
            Self::Picture(_, _, delay) => delay,
            Self::Sound(_) => 0,
        }
    }
}

/// Which colours the pictures of a decoder have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mixer) enum Colours {
    /// Those it says.
    AsTold,
    /// Those of BT.601, whatever it says.
    Bt601,
}

/// A playing decoder in its seat. To be ended by [`Decoder::stop`].
#[derive(Debug)]
pub(in crate::mixer) struct Decoder {
    pipeline: gst::Pipeline,
    bus: gst::Bus,
    entry: AppSrc,
    /// Packets that [`Decoder::flush`] hands over.
    waiting: RefCell<Vec<gst::Buffer>>,
    seat: Seat,
    progress: Arc<Progress>,
    setting: Arc<Mutex<Option<Setting>>>,
    level: Arc<Level>,
    look: Arc<Mutex<Look>>,
}

/// What the decoder's threads have done.
#[derive(Debug)]
struct Progress {
    pieces: AtomicU64,
    /// Running time of the newest piece, nanoseconds.
    newest: AtomicI64,
    /// How much later than it was due the latest piece was ready since the last look, nanoseconds.
    lateness: AtomicI64,
    keyframe_wanted: AtomicBool,
}

impl Decoder {
    /// Takes a seat in the programme and waits for packets.
    pub(in crate::mixer) fn start(
        programme: &Programme,
        pipeline: gst::Pipeline,
        colours: Colours,
        purpose: Use,
    ) -> Result<Self, Error> {
        programme.share_clock_with(&pipeline);
        let entry: AppSrc = named(&pipeline, "in")?;
        let exit: AppSink = named(&pipeline, "out")?;
        let bus = bus_of(&pipeline)?;

        let progress = Arc::new(Progress::new());
        listen_for_keyframe_requests(&entry, &progress);
        let setting = Arc::new(Mutex::new(None));
        let level = Arc::new(Level::default());
        let look = Arc::new(Mutex::new(Look::default()));
        let seat = match purpose {
            Use::Picture(placement, initial, _) => {
                let seat = programme.seat_picture(placement);
                accept_any_layout(&exit);
                *look.lock().unwrap_or_else(PoisonError::into_inner) = initial;
                carry_pictures(&exit, &seat, &progress, colours, &look);
                Seat::Picture(seat)
            }
            Use::Sound(initial) => {
                let seat = programme.seat_sound();
                exit.set_caps(Some(&sound_caps()));
                carry_sound(&exit, &seat, &progress, initial, &setting, &level);
                Seat::Sound(seat)
            }
        };
        let waiting = RefCell::default();
        let decoder = Self { pipeline, bus, entry, waiting, seat, progress, setting, level, look };
        match play("decoder", &decoder.pipeline) {
            Ok(()) => Ok(decoder),
            Err(error) => {
                decoder.stop(programme);
                Err(error)
            }
        }
    }

    /// Takes a packet, of Opus without its RTP header. `discontinued` says that packets before it are missing.
    pub(in crate::mixer) fn packet(&self, packet: Bytes, due: gst::ClockTime, discontinued: bool) {
        let mut buffer = gst::Buffer::from_slice(packet);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(due);
            if discontinued {
                buffer.set_flags(gst::BufferFlags::DISCONT);
            }
        }
        self.waiting.borrow_mut().push(buffer);
    }

    /// Feeds what was taken, all at once: a thread that is woken for each packet of a picture costs more than the packets.
    pub(in crate::mixer) fn flush(&self) {
        let waiting = self.waiting.take();
        if !waiting.is_empty()
            && let Err(flow) = self.entry.push_buffer_list(waiting.into_iter().collect::<gst::BufferList>())
        {
            tracing::trace!(?flow, "a decoder takes no packets; its bus says why");
        }
    }

    /// Tells an audio decoder that sound is missing, which it then makes up.
    pub(in crate::mixer) fn gap(&self, due: gst::ClockTime, duration: gst::ClockTime) {
        self.flush();
        self.entry.send_event(gst::event::Gap::builder(due).duration(duration).build());
    }

    /// Follows a scene's change.
    pub(in crate::mixer) fn adjust(&self, purpose: Use) {
        match purpose {
            Use::Picture(placement, look, _) => {
                *self.look.lock().unwrap_or_else(PoisonError::into_inner) = look;
                if let Seat::Picture(seat) = &self.seat {
                    seat.place(placement);
                }
            }
            Use::Sound(setting) => *self.setting.lock().unwrap_or_else(PoisonError::into_inner) = Some(setting),
        }
    }

    /// How loud it was since the last call; `None` for silence and for pictures.
    pub(in crate::mixer) fn loudness(&self) -> Option<level::Reading> {
        self.level.take()
    }

    /// Pictures or pieces of sound decoded so far.
    pub(in crate::mixer) fn pieces(&self) -> u64 {
        self.progress.pieces.load(Ordering::Relaxed)
    }

    /// Running time of the newest decoded piece, nanoseconds.
    pub(in crate::mixer) fn newest(&self) -> i64 {
        self.progress.newest.load(Ordering::Relaxed)
    }

    /// How much later than it was due the latest piece was ready since the last call, nanoseconds; `None` if there was none.
    pub(in crate::mixer) fn lateness(&self) -> Option<i64> {
        let lateness = self.progress.lateness.swap(i64::MIN, Ordering::Relaxed);
        (lateness != i64::MIN).then_some(lateness)
    }

    /// Whether the decoder has asked for a keyframe since the last call.
    pub(in crate::mixer) fn takes_keyframe_request(&self) -> bool {
        self.progress.keyframe_wanted.swap(false, Ordering::Relaxed)
    }

    /// Why the decoder failed, if it did.
    pub(in crate::mixer) fn failure(&self) -> Option<String> {
        while let Some(message) = self.bus.pop() {
            if let gst::MessageView::Error(error) = message.view() {
                return Some(reason_of(error));
            }
        }
        None
    }

    /// Ends the pipeline and then leaves the seat.
    pub(in crate::mixer) fn stop(self, programme: &Programme) {
        stop("decoder", &self.pipeline);
        programme.leave(&self.seat);
    }
}

/// Which colours a track's pictures have: VP8 has those of BT.601 at any size (RFC 6386 section 9.2), which its decoder does not know.
pub(in crate::mixer) const fn colours(codec: Codec) -> Colours {
    match codec {
        Codec::Vp9 | Codec::H264 | Codec::Av1 => Colours::AsTold,
        Codec::Opus | Codec::Vp8 => Colours::Bt601,
    }
}

/// A pipeline that takes a track's packets at `in` and gives what they hold at `out`.
pub(in crate::mixer) fn pipeline(pipelines: &Pipelines, track: SourceTrack) -> Result<gst::Pipeline, Error> {
    let what = match track.codec {
        Codec::Opus => "Opus",
        Codec::Vp8 => "VP8",
        Codec::Vp9 => "VP9",
        Codec::Av1 => "AV1",
        Codec::H264 => "H.264",
    };
    let holes = [("payload_type", u32::from(track.payload_type)), ("most_pixels", MOST_PIXELS)];
    launch(what, &pipelines.filled(Piece::Decoder(track.codec), &holes)?)
}

fn listen_for_keyframe_requests(entry: &AppSrc, progress: &Arc<Progress>) {
    let Some(pad) = entry.static_pad("src") else { return };
    let progress = Arc::clone(progress);
    pad.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| {
        let wanted = info
            .event()
            .and_then(|event| event.structure())
            .is_some_and(|structure| structure.name() == "GstForceKeyUnit");
        if wanted {
            progress.keyframe_wanted.store(true, Ordering::Relaxed);
        }
        gst::PadProbeReturn::Ok
    });
}

impl Progress {
    const fn new() -> Self {
        Self {
            pieces: AtomicU64::new(0),
            newest: AtomicI64::new(0),
            lateness: AtomicI64::new(i64::MIN),
            keyframe_wanted: AtomicBool::new(false),
        }
    }

    fn made(&self, exit: &AppSink, due: gst::ClockTime) {
        if let Some(now) = exit.current_running_time() {
            let lateness = now.nseconds().cast_signed() - due.nseconds().cast_signed();
            self.lateness.fetch_max(lateness, Ordering::Relaxed);
        }
        self.newest.fetch_max(due.nseconds().cast_signed(), Ordering::Relaxed);
        self.pieces.fetch_add(1, Ordering::Relaxed);
    }
}

fn carry_pictures(
    exit: &AppSink,
    seat: &Arc<PictureSeat>,
    progress: &Arc<Progress>,
    colours: Colours,
    look: &Arc<Mutex<Look>>,
) {
    let (seat, progress, look) = (Arc::clone(seat), Arc::clone(progress), Arc::clone(look));
    let mut seen: Option<(gst::Caps, Arc<VideoInfo>)> = None;
    let carry = move |sink: &AppSink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        let (Some(caps), Some(buffer)) = (sample.caps(), sample.buffer_owned()) else {
            return Ok(gst::FlowSuccess::Ok);
        };
        let Some(due) = buffer.pts() else { return Ok(gst::FlowSuccess::Ok) };
        let (caps, buffer) = look::retouch(*look.lock().unwrap_or_else(PoisonError::into_inner), caps, buffer);
        let info = match &seen {
            Some((known, info)) if *known == caps => Arc::clone(info),
            Some(_) | None => {
                let info = Arc::new(relabelled(&caps, colours).ok_or(gst::FlowError::NotNegotiated)?);
                seen = Some((caps, Arc::clone(&info)));
                info
            }
        };
        progress.made(sink, due);
        seat.put(Picture { buffer, info, due: due.nseconds().cast_signed() });
        Ok(gst::FlowSuccess::Ok)
    };
    exit.set_callbacks(AppSinkCallbacks::builder().new_sample(carry).build());
}

/// Says that pictures may lie in memory as their decoder likes: one whose rows must lie close together is copied to do so.
fn accept_any_layout(exit: &AppSink) {
    let Some(pad) = exit.static_pad("sink") else { return };
    pad.add_probe(gst::PadProbeType::QUERY_DOWNSTREAM, |_, info| match info.query_mut().map(gst::QueryRef::view_mut) {
        Some(gst::QueryViewMut::Allocation(allocation)) => {
            allocation.add_allocation_meta::<VideoMeta>(None);
            gst::PadProbeReturn::Handled
        }
        Some(_) | None => gst::PadProbeReturn::Ok,
    });
}

/// What the compositor needs to know of a picture, and nothing else that a sender may have said of it.
///
/// Shown as if it were progressive an interlaced picture has combed edges, and the programme goes on. Half a chroma sample to the left is
/// invisible; converting every picture for it would cost more than decoding. Other colours than the programme's are converted by the
/// compositor together with the scaling, which is cheaper than a conversion of its own.
fn relabelled(caps: &gst::CapsRef, colours: Colours) -> Option<VideoInfo> {
    let said = caps.structure(0)?;
    let mut told = gst::Structure::builder(said.name().as_str())
        .field("chroma-site", "mpeg2")
        .field("interlace-mode", "progressive")
        .field("colorimetry", "bt601")
        .field("framerate", gst::Fraction::new(0, 1))
        .build();
    let colours = (colours == Colours::AsTold).then_some("colorimetry");
    for field in ["format", "width", "height", "pixel-aspect-ratio"].into_iter().chain(colours) {
        if let Ok(value) = said.value(field) {
            told.set_value(field, value.clone());
        }
    }
    VideoInfo::from_caps(&gst::Caps::builder_full().structure(told).build()).ok()
}

fn carry_sound(
    exit: &AppSink,
    seat: &Arc<SoundSeat>,
    progress: &Arc<Progress>,
    initial: Setting,
    news: &Arc<Mutex<Option<Setting>>>,
    level: &Arc<Level>,
) {
    let (seat, progress) = (Arc::clone(seat), Arc::clone(progress));
    let (news, level) = (Arc::clone(news), Arc::clone(level));
    let mut strip = Strip::new(initial);
    let carry = move |sink: &AppSink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        let Some(buffer) = sample.buffer() else { return Ok(gst::FlowSuccess::Ok) };
        let Some(due) = buffer.pts() else { return Ok(gst::FlowSuccess::Ok) };
        progress.made(sink, due);
        if let Some(setting) = news.lock().unwrap_or_else(PoisonError::into_inner).take() {
            strip.set(setting);
        }
        let input = read_samples(buffer).ok_or(gst::FlowError::Error)?;
        if let Some(piece) = strip.process(due.nseconds().cast_signed() - OPUS_DELAY, &input) {
            level.hear(&piece.samples);
            seat.put(piece);
        }
        Ok(gst::FlowSuccess::Ok)
    };
    exit.set_callbacks(AppSinkCallbacks::builder().new_sample(carry).build());
}

/// What an audio decoder has to give.
fn sound_caps() -> gst::Caps {
    let caps = gst::Caps::builder("audio/x-raw").field("format", "S16LE").field("rate", 48_000).field("channels", 2);
    caps.field("layout", "interleaved").build()
}

fn read_samples(buffer: &gst::BufferRef) -> Option<Vec<[f32; 2]>> {
    let map = buffer.map_readable().ok()?;
    let (frames, _) = map.as_slice().as_chunks::<4>();
    let value = |bytes: [u8; 2]| f32::from(i16::from_le_bytes(bytes)) / 32_768.0;
    Some(frames.iter().map(|[a, b, c, d]| [value([*a, *b]), value([*c, *d])]).collect())
}
