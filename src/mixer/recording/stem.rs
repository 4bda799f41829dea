//! One track as its musician sent it, in a Matroska file of its own: in order, at its time since the common zero, and not encoded again.
//!
//! Every file begins at zero. Sound that is not there (before the musician came, while the microphone was closed, lost on the way) is
//! written as packets of silence, so that a reader that only counts samples is right as well; a picture's first keyframe stands from
//! zero until it moves. What was sent is neither cut nor stretched: a clock that runs fast shows in the times of the blocks.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use gstreamer_app::AppSinkCallbacks;
use gstreamer_app::AppSrc;

use crate::mixer::MOST_PIXELS;
use crate::mixer::SECOND;
use crate::mixer::error::Error;
use crate::mixer::pipelines::Piece;
use crate::mixer::pipelines::Pipelines;
use crate::mixer::programme::named;
use crate::mixer::programme::play;
use crate::mixer::recording::opus;
use crate::mixer::recording::writing::Writing;
use crate::mixer::source::decoder::OPUS_DELAY;
use crate::mixer::source::packet;
use crate::mixer::source::packet::Header;
use crate::mixer::source::timing::YOUNG;
use crate::model::media::Codec;
use crate::model::scene::Stem as Wanted;
use crate::proto::av1::Depacketizer;
use crate::proto::mixer::Report;

const WHAT: &str = "stem";

/// Bytes that wait for the disk: 10 s of one musician's picture.
const WAITING_BYTES: u64 = 4 << 20;

/// Packets written at one go: a pause of an hour is filled in under a second, and nothing else waits for it meanwhile.
const AT_ONCE: usize = 200;

/// Sound that is this much too early after a jump is left out until it fits, or the rest would be late to whoever counts samples.
const OVERLAP: i64 = 5_000_000;

/// The common zero of all files.
#[derive(Clone, Copy, Debug)]
pub(in crate::mixer) struct Zero {
    /// Monotonic, nanoseconds.
    pub(in crate::mixer) at: i64,
    /// The same on the wall, milliseconds since the Unix epoch.
    pub(in crate::mixer) unix_ms: i64,
}

impl Zero {
    fn date(self) -> Option<glib::DateTime> {
        let seconds = glib::DateTime::from_unix_utc(self.unix_ms.div_euclid(1000)).ok()?;
        seconds.add(glib::TimeSpan::from_milliseconds(self.unix_ms.rem_euclid(1000))).ok()
    }
}

/// A file being written.
#[derive(Debug)]
pub(in crate::mixer) struct Track {
    file: Writing,
    zero_at_ms: i64,
    begun: Arc<AtomicBool>,
    told: bool,
    media: Media,
}

#[derive(Debug)]
enum Media {
    Sound(Sound),
    /// Where RTP packets go in; a thread carries the frames into the file.
    Picture {
        packets: AppSrc,
        /// Of AV1, whose packets are put together here.
        units: Option<Depacketizer<i64>>,
        keyframe_wanted: Arc<AtomicBool>,
    },
}

/// Opus into a file. Times are nanoseconds since zero.
#[derive(Debug)]
struct Sound {
    track: AppSrc,
    stalled: Arc<AtomicBool>,
    /// Where the samples written so far end.
    end: i64,
    /// Until then the clock still steps to its place.
    settled_at: i64,
    /// RTP time that goes on where the last packet ended.
    next_rtp: Option<u32>,
    /// Waits until the hole before it is filled.
    held: Option<Chunk>,
}

#[derive(Debug)]
struct Chunk {
    at: i64,
    duration: i64,
    payload: Bytes,
}

impl Track {
    /// Creates the file, which may not exist yet.
    ///
    /// # Errors
    /// The reason in words, for [`Report::RecordingFailed`].
    pub(in crate::mixer) fn start(wanted: &Wanted, zero: Zero, pipelines: &Pipelines) -> Result<Self, String> {
        let holes = [("payload_type", u32::from(wanted.track.payload_type))];
        let described = pipelines.filled(Piece::Stem(wanted.track.codec), &holes);
        let file = Writing::create(WHAT, &wanted.path, &described.map_err(|error| error.to_string())?)?;
        Self::over(file, wanted, zero).map_err(|error| error.to_string())
    }

    fn over(file: Writing, wanted: &Wanted, zero: Zero) -> Result<Self, Error> {
        let pipeline = file.pipeline();
        let muxer: gst::Element = named(pipeline, "mux")?;
        muxer.set_property("creation-time", zero.date());
        muxer.set_property("writing-app", "Jamcast");
        if let Some(tags) = muxer.dynamic_cast_ref::<gst::TagSetter>() {
            tags.add_tag::<gst::tags::Title>(&wanted.title.as_str(), gst::TagMergeMode::Replace);
        }
        let track: AppSrc = named(pipeline, "track")?;
        let begun = Arc::new(AtomicBool::new(false));
        let media = match wanted.track.codec {
            Codec::Opus => {
                track.set_caps(Some(&opus_caps()));
                let (stalled, settled_at) = (file.stalled(), i64::MIN);
                Media::Sound(Sound { track, stalled, end: 0, settled_at, next_rtp: None, held: None })
            }
            Codec::Vp8 | Codec::Vp9 | Codec::H264 | Codec::Av1 => {
                let packets: AppSrc = named(pipeline, "in")?;
                let keyframe_wanted = Arc::new(AtomicBool::new(false));
                carry_frames(&named(pipeline, "frames")?, track, Arc::clone(&begun), file.stalled());
                listen_for_requests(&packets, Arc::clone(&keyframe_wanted));
                let units = (wanted.track.codec == Codec::Av1).then(|| Depacketizer::new(MOST_PIXELS));
                Media::Picture { packets, units, keyframe_wanted }
            }
        };
        play(WHAT, pipeline)?;
        Ok(Self { file, zero_at_ms: zero.unix_ms, begun, told: false, media })
    }

    /// Takes the next packet in order, which is at `at` nanoseconds since zero; `lost` says that some before it are missing.
    /// To be called when [`Self::is_ready`].
    pub(in crate::mixer) fn take(&mut self, at: i64, header: Header, packet: Bytes, lost: bool) {
        let at = match &self.media {
            Media::Sound(_) => at - OPUS_DELAY,
            Media::Picture { .. } => at,
        };
        if at < 0 {
            return;
        }
        match &mut self.media {
            Media::Sound(sound) => {
                if sound.take(at, header.timestamp, &packet) {
                    self.begun.store(true, Ordering::Relaxed);
                }
                sound.write(AT_ONCE);
            }
            Media::Picture { packets, units: None, .. } => enter(packets, packet, at, lost),
            Media::Picture { packets, units: Some(units), .. } => {
                if lost {
                    units.lost();
                }
                let payload = packet::payload(&packet).unwrap_or_default();
                for unit in units.push(payload, header.timestamp, header.marker, at) {
                    enter(packets, unit.data, unit.due, false);
                }
            }
        }
    }

    /// Fills a hole further, if there is one; whether another packet can be taken.
    pub(in crate::mixer) fn is_ready(&mut self) -> bool {
        match &mut self.media {
            Media::Sound(sound) => {
                sound.write(AT_ONCE);
                sound.held.is_none()
            }
            Media::Picture { .. } => true,
        }
    }

    /// Whether a keyframe is needed to go on or to begin with.
    pub(in crate::mixer) fn wants_keyframe(&self) -> bool {
        match &self.media {
            Media::Sound(_) => false,
            Media::Picture { keyframe_wanted, units, .. } => {
                keyframe_wanted.swap(false, Ordering::Relaxed)
                    || !self.begun.load(Ordering::Relaxed)
                    || units.as_ref().is_some_and(Depacketizer::waits_for_keyframe)
            }
        }
    }

    pub(in crate::mixer) fn close(&mut self, now: Instant) {
        match &mut self.media {
            Media::Sound(sound) => {
                sound.write(usize::MAX);
                self.file.close(now, &[&sound.track]);
            }
            Media::Picture { packets, .. } => self.file.close(now, &[packets]),
        }
    }

    /// Says once that the file has begun.
    pub(in crate::mixer) fn news(&mut self) -> Option<Report> {
        if self.told || !self.begun.load(Ordering::Relaxed) {
            return None;
        }
        self.told = true;
        Some(Report::RecordingBegun { path: self.file.path().to_owned(), zero_at_ms: self.zero_at_ms })
    }

    /// The last report of this file, once there is one; it is to be dropped then.
    pub(in crate::mixer) fn poll(&self, now: Instant) -> Option<Report> {
        let unborn = self.file.is_closing() && !self.begun.load(Ordering::Relaxed);
        self.file.poll(now).or_else(|| unborn.then(|| self.file.failed("no picture of it could be recorded")))
    }
}

impl Sound {
    /// Holds a packet until the hole before it is filled; `false` if it is no Opus or has no place.
    fn take(&mut self, at: i64, rtp: u32, packet: &Bytes) -> bool {
        let Some(payload) = packet::payload(packet).map(|payload| packet.slice_ref(payload)) else { return false };
        let Some(duration) = opus::duration(&payload) else { return false };
        let goes_on = self.next_rtp == Some(rtp) && at >= self.settled_at;
        if !goes_on && at < self.end - OVERLAP {
            return false;
        }
        if self.next_rtp.is_none() || at - self.end > YOUNG {
            self.settled_at = at + YOUNG;
        }
        let ticks = u32::try_from(duration * 48 / 1_000_000).unwrap_or(0);
        self.next_rtp = Some(rtp.wrapping_add(ticks));
        if goes_on {
            self.push(&Chunk { at, duration, payload });
        } else {
            self.held = Some(Chunk { at, duration, payload });
        }
        true
    }

    /// Fills the hole before the packet that waits, with `most` packets of silence, and then writes it.
    fn write(&mut self, most: usize) {
        let Some(at) = self.held.as_ref().map(|piece| piece.at) else { return };
        for _ in 0..most {
            let Some((silence, duration)) = opus::silence(at - self.end) else {
                if let Some(piece) = self.held.take() {
                    self.push(&piece);
                }
                return;
            };
            self.push(&Chunk { at: self.end, duration, payload: Bytes::from_static(silence) });
        }
    }

    fn push(&mut self, piece: &Chunk) {
        self.end += piece.duration;
        if self.track.current_level_bytes() > WAITING_BYTES {
            self.stalled.store(true, Ordering::Relaxed);
            return;
        }
        let mut buffer = buffer(piece.payload.clone(), piece.at);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_duration(gst::ClockTime::from_nseconds(piece.duration.unsigned_abs()));
        }
        if self.track.push_buffer(buffer).is_err() {
            tracing::trace!("a stem takes no sound; its pipeline says why");
        }
    }
}

/// Gives a piece of a picture to the pipeline, unless the disk is far behind.
fn enter(entry: &AppSrc, bytes: Bytes, at: i64, lost: bool) {
    let mut buffer = buffer(bytes, at);
    if let Some(buffer) = buffer.get_mut().filter(|_| lost) {
        buffer.set_flags(gst::BufferFlags::DISCONT);
    }
    if entry.current_level_bytes() > WAITING_BYTES || entry.push_buffer(buffer).is_err() {
        tracing::trace!("a stem takes no packet; its pipeline says why");
    }
}

fn buffer(bytes: Bytes, at: i64) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_slice(bytes);
    if let Some(buffer) = buffer.get_mut() {
        buffer.set_pts(gst::ClockTime::from_nseconds(at.max(0).unsigned_abs()));
    }
    buffer
}

fn opus_caps() -> gst::Caps {
    let tags = [b"OpusTags\x07\0\0\0Jamcast".as_slice(), &[0; 4]].concat();
    let headers = [opus::head(), tags].map(|header| gst::Buffer::from_slice(header).to_send_value());
    gst::Caps::builder("audio/x-opus")
        .field("rate", 48_000)
        .field("channels", 2)
        .field("channel-mapping-family", 0)
        .field("stream-count", 1)
        .field("coupled-count", 1)
        .field("streamheader", gst::Array::from_values(headers))
        .build()
}

/// Carries depayloaded frames into the file, from the first keyframe on. The file's header says what the first frame was; what changes
/// later (a simulcast layer of another size) is in the frames themselves.
fn carry_frames(exit: &AppSink, track: AppSrc, begun: Arc<AtomicBool>, stalled: Arc<AtomicBool>) {
    let ending = track.clone();
    let carry = move |sink: &AppSink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        let (Some(frame), Some(caps)) = (sample.buffer(), sample.caps()) else { return Ok(gst::FlowSuccess::Ok) };
        let Some(pts) = frame.pts() else { return Ok(gst::FlowSuccess::Ok) };
        let key = !frame.flags().contains(gst::BufferFlags::DELTA_UNIT);
        if track.current_level_bytes() > WAITING_BYTES {
            stalled.store(true, Ordering::Relaxed);
            return Ok(gst::FlowSuccess::Ok);
        }
        if !begun.load(Ordering::Relaxed) {
            if !key {
                return Ok(gst::FlowSuccess::Ok);
            }
            track.set_caps(Some(&caps.to_owned()));
            if pts.nseconds() > SECOND.unsigned_abs() / 50 {
                track.push_buffer(retimed(frame, gst::ClockTime::ZERO))?;
            }
            begun.store(true, Ordering::Relaxed);
        }
        track.push_buffer(retimed(frame, pts))
    };
    let end = move |_: &AppSink| {
        if ending.end_of_stream().is_err() {
            tracing::debug!("a stem ended before it was closed");
        }
    };
    exit.set_callbacks(AppSinkCallbacks::builder().new_sample(carry).eos(end).build());
}

fn retimed(frame: &gst::BufferRef, pts: gst::ClockTime) -> gst::Buffer {
    let mut copy = frame.copy();
    let writable = copy.make_mut();
    writable.set_pts(pts);
    writable.set_dts(gst::ClockTime::NONE);
    writable.set_duration(gst::ClockTime::NONE);
    copy
}

fn listen_for_requests(entry: &AppSrc, wanted: Arc<AtomicBool>) {
    let Some(pad) = entry.static_pad("src") else { return };
    pad.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| {
        let structure = info.event().and_then(|event| event.structure());
        if structure.is_some_and(|structure| structure.name() == "GstForceKeyUnit") {
            wanted.store(true, Ordering::Relaxed);
        }
        gst::PadProbeReturn::Ok
    });
}
