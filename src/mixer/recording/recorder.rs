//! The recording: the encoded programme into one fragmented MP4 file, in a pipeline of its own that may fail alone.
//!
//! The muxer's other fragment mode, first-moov-then-finalise, cuts at keyframes only: with one each 2 s a file killed in its first
//! seconds is unplayable. This one cuts twice a second wherever it is, so that with what waits for the other track never more than a second is lost.
//!
//! Its head is written first and holds one set of parameters. Where pictures may be passed through they change, so there every keyframe
//! has its own before it, as ISO/IEC 14496-15 allows for `avc3` and not for `avc1`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use gstreamer as gst;
use gstreamer_app::AppSrc;

use crate::mixer::error::Error;
use crate::mixer::pipelines::Piece;
use crate::mixer::pipelines::Pipelines;
use crate::mixer::programme::named;
use crate::mixer::programme::play;
use crate::mixer::recording::writing::Writing;
use crate::mixer::unix_ms;
use crate::model::media::EncodedFrame;
use crate::model::media::MediaKind;
use crate::model::spec::Passthrough;
use crate::model::spec::ProgrammeSpec;
use crate::proto::h264;
use crate::proto::mixer::Report;

/// Encoded bytes that wait for the disk: 10 s of 12 Mbit/s. A disk that is further behind does not come back in time.
const WAITING_BYTES: u64 = 16 << 20;

/// Sound frames kept until the first keyframe, 10 s: one that was asked for comes within two pictures, but behind all that wait for an
/// encoder that is too slow.
const EARLY_SOUND: usize = 512;

/// An AAC frame of 1024 samples at 48 kHz.
const SOUND_FRAME: gst::ClockTime = gst::ClockTime::from_nseconds(21_333_333);

/// One recording file being written.
#[derive(Debug)]
pub(in crate::mixer) struct Recorder {
    file: Writing,
    video: AppSrc,
    audio: AppSrc,
    zero: Arc<OnceLock<u64>>,
    told: bool,
    keyframe_wanted: Arc<AtomicBool>,
}

/// The recorder's end where frames leave: in the encoders' threads and in the conductor's.
#[derive(Debug)]
pub(in crate::mixer) struct Tap {
    video: AppSrc,
    audio: AppSrc,
    head: Head,
    stalled: Arc<AtomicBool>,
    keyframe_wanted: Arc<AtomicBool>,
    /// Sound from before the first keyframe: some of it may belong behind that, as sound is encoded sooner than a picture.
    early: VecDeque<(EncodedFrame, Bytes)>,
    /// The file's zero, in microseconds: the beginning of a sound, next to the first keyframe.
    zero: Arc<OnceLock<u64>>,
}

impl Recorder {
    /// Creates the file, which may not exist yet, and waits for frames.
    ///
    /// # Errors
    /// The reason in words, for [`Report::RecordingFailed`].
    pub(in crate::mixer) fn start(
        path: &str,
        pipelines: &Pipelines,
        spec: &ProgrammeSpec,
    ) -> Result<(Self, Tap), String> {
        let description = pipelines.filled(Piece::Recording, &[]).map_err(|error| error.to_string())?;
        let file = Writing::create("recording", path, &description)?;
        Self::over(file, Head::of(spec)).map_err(|error| error.to_string())
    }

    fn over(file: Writing, head: Head) -> Result<(Self, Tap), Error> {
        let video: AppSrc = named(file.pipeline(), "video")?;
        let audio: AppSrc = named(file.pipeline(), "audio")?;
        play("recording", file.pipeline())?;
        let tap = Tap {
            video: video.clone(),
            audio: audio.clone(),
            head,
            stalled: file.stalled(),
            keyframe_wanted: Arc::default(),
            early: VecDeque::new(),
            zero: Arc::default(),
        };
        let (zero, keyframe_wanted) = (Arc::clone(&tap.zero), Arc::clone(&tap.keyframe_wanted));
        Ok((Self { file, video, audio, zero, told: false, keyframe_wanted }, tap))
    }

    /// Whether the file waits for a keyframe to begin with; asks once.
    pub(in crate::mixer) fn wants_keyframe(&self) -> bool {
        self.keyframe_wanted.swap(false, Ordering::Relaxed)
    }

    /// The file's zero in microseconds of the monotonic clock, once it has begun.
    pub(in crate::mixer) fn zero(&self) -> Option<u64> {
        self.zero.get().copied()
    }

    /// Bytes on disk.
    pub(in crate::mixer) fn size(&self) -> u64 {
        self.file.size()
    }

    /// Begins to close the file; [`Recorder::poll`] says when it is done. The tap must be gone already.
    pub(in crate::mixer) fn close(&mut self, now: Instant) {
        self.file.close(now, &[&self.video, &self.audio]);
    }

    /// Says once that the file has begun.
    pub(in crate::mixer) fn news(&mut self) -> Option<Report> {
        let zero_us = self.zero().filter(|_| !self.told)?;
        self.told = true;
        let zero_at_ms = unix_ms(i64::try_from(zero_us).unwrap_or(0).saturating_mul(1000));
        Some(Report::RecordingBegun { path: self.file.path().to_owned(), zero_at_ms })
    }

    /// The last report of this recording, once there is one; it is to be dropped then.
    pub(in crate::mixer) fn poll(&self, now: Instant) -> Option<Report> {
        let unborn = self.file.is_closing() && self.zero().is_none();
        self.file.poll(now).or_else(|| unborn.then(|| self.file.failed("it ended before its first keyframe")))
    }
}

impl Tap {
    /// Takes a frame that `config` says how to decode, from the first keyframe after the first sound on. Never blocks.
    ///
    /// The muxer counts each track from its own first frame, so both begin where a sound does, and the first picture is shown that much
    /// longer or shorter. To shift the sound instead would not do: players keep to the times of pictures and let sound run on.
    pub(in crate::mixer) fn take(&mut self, frame: &EncodedFrame, config: &Bytes) {
        if self.zero.get().is_none() {
            match frame.kind {
                MediaKind::Audio => return self.keep(frame, config),
                MediaKind::Video if frame.key => return self.begin(frame, config),
                MediaKind::Video => return,
            }
        }
        self.write(frame, config);
    }

    fn keep(&mut self, frame: &EncodedFrame, config: &Bytes) {
        if self.early.is_empty() {
            self.keyframe_wanted.store(true, Ordering::Relaxed);
        }
        if self.early.len() == EARLY_SOUND {
            self.early.pop_front();
        }
        self.early.push_back((frame.clone(), config.clone()));
    }

    fn begin(&mut self, picture: &EncodedFrame, config: &Bytes) {
        let Some((oldest, _)) = self.early.front() else { return };
        // The next picture is further away than that, also where they pass as they come.
        let due = picture.dts_us + 250_000 / u64::from(self.head.fps.max(1));
        if oldest.dts_us > due {
            // Of a mixer that goes on for another, pictures may begin before what is left of its sound.
            self.keyframe_wanted.store(true, Ordering::Relaxed);
            return;
        }
        let zero = sound_at(oldest.dts_us, due);
        self.zero.get_or_init(|| zero);
        self.write(&EncodedFrame { pts_us: zero, dts_us: zero, ..picture.clone() }, config);
        for (frame, config) in std::mem::take(&mut self.early) {
            self.write(&frame, &config);
        }
    }

    fn write(&mut self, frame: &EncodedFrame, config: &Bytes) {
        let Some(&zero) = self.zero.get() else { return };
        // Zero was reckoned, and may differ by its rounding from the time of the sound that begins there.
        if frame.dts_us + SOUND_FRAME.useconds() / 2 < zero {
            return;
        }
        let (pts, dts) = (frame.pts_us.saturating_sub(zero), frame.dts_us.saturating_sub(zero));
        let entry = match frame.kind {
            MediaKind::Video => &self.video,
            MediaKind::Audio => &self.audio,
        };
        if entry.current_level_bytes() > WAITING_BYTES {
            self.stalled.store(true, Ordering::Relaxed);
            return;
        }
        let Some(mut buffer) = self.head.buffer(frame, config) else { return };
        let caps = self.head.caps(frame.kind, config);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(gst::ClockTime::from_useconds(pts));
            buffer.set_dts(gst::ClockTime::from_useconds(dts));
        }
        let sample = gst::Sample::builder().buffer(&buffer).caps(&caps).build();
        if entry.push_sample(&sample).is_err() {
            tracing::debug!("the recording takes no more");
        }
    }
}

/// What a file says of its tracks at its beginning, and what therefore stands in its pictures.
#[derive(Debug)]
struct Head {
    width: u32,
    height: u32,
    fps: u32,
    parameters: Parameters,
    video: Option<Track>,
    audio: Option<Track>,
}

/// Where the parameter sets of a file's pictures are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parameters {
    /// In the head alone, for the encoder never changes them.
    InHead,
    /// Before every keyframe; those of the first are in the head as well.
    InBand,
}

/// What the muxer was told of a track.
#[derive(Debug)]
struct Track {
    config: Bytes,
    caps: gst::Caps,
}

impl Head {
    const fn of(spec: &ProgrammeSpec) -> Self {
        let parameters = match spec.passthrough {
            Passthrough::Off => Parameters::InHead,
            Passthrough::Auto => Parameters::InBand,
        };
        Self { width: spec.width, height: spec.height, fps: spec.fps, parameters, video: None, audio: None }
    }

    /// What the muxer is told of the track of a frame that `config` says how to decode. One that it cannot take any more is its to refuse.
    fn caps(&mut self, kind: MediaKind, config: &Bytes) -> gst::Caps {
        let known = match kind {
            MediaKind::Video => &self.video,
            MediaKind::Audio => &self.audio,
        };
        let may_change = kind == MediaKind::Video && self.parameters == Parameters::InBand;
        if let Some(track) = known
            && (may_change || track.config == *config)
        {
            return track.caps.clone();
        }
        let caps = match kind {
            MediaKind::Video => self.pictures(config),
            MediaKind::Audio => sounds(config),
        };
        let track = Some(Track { config: config.clone(), caps: caps.clone() });
        match kind {
            MediaKind::Video => self.video = track,
            MediaKind::Audio => self.audio = track,
        }
        caps
    }

    /// Of their colours nothing: their parameters say more than the programme knows of a source's.
    fn pictures(&self, config: &Bytes) -> gst::Caps {
        let format = match self.parameters {
            Parameters::InHead => "avc",
            Parameters::InBand => "avc3",
        };
        gst::Caps::builder("video/x-h264")
            .field("stream-format", format)
            .field("alignment", "au")
            .field("codec_data", gst::Buffer::from_slice(config.clone()))
            .field("width", self.width.cast_signed())
            .field("height", self.height.cast_signed())
            .field("framerate", gst::Fraction::new(self.fps.cast_signed(), 1))
            .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
            .build()
    }

    /// The frame as it stands in the file, without its times; `None` if nobody could decode it.
    fn buffer(&self, frame: &EncodedFrame, config: &Bytes) -> Option<gst::Buffer> {
        let picture = frame.kind == MediaKind::Video;
        let mut buffer = if picture && frame.key && self.parameters == Parameters::InBand {
            let mut data = h264::in_band(config)?;
            data.extend_from_slice(&frame.data);
            gst::Buffer::from_slice(data)
        } else {
            gst::Buffer::from_slice(frame.data.clone())
        };
        let fields = buffer.get_mut()?;
        fields.set_duration(if picture { gst::ClockTime::SECOND / u64::from(self.fps.max(1)) } else { SOUND_FRAME });
        if !frame.key {
            fields.set_flags(gst::BufferFlags::DELTA_UNIT);
        }
        Some(buffer)
    }
}

/// When the sound begins in which `time` lies, where one begins at `known` and they follow each other each 64/3 ms. Microseconds.
const fn sound_at(known: u64, time: u64) -> u64 {
    let frames = time.saturating_sub(known) * 3 / 64_000;
    known + frames * 64_000 / 3
}

/// AAC as the programme's encoder makes it.
fn sounds(config: &Bytes) -> gst::Caps {
    gst::Caps::builder("audio/mpeg")
        .field("mpegversion", 4)
        .field("stream-format", "raw")
        .field("framed", true)
        .field("codec_data", gst::Buffer::from_slice(config.clone()))
        .field("rate", 48_000)
        .field("channels", 2)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of x264.
    const RECORD: &[u8] = b"\x01\x64\0\x1f\xff\xe1\0\x02\x67\x64\x01\0\x03\x68\xef\x3c";

    fn picture(key: bool) -> EncodedFrame {
        let data = Bytes::from_static(b"\0\0\0\x02\x65\x88");
        EncodedFrame { kind: MediaKind::Video, pts_us: 0, dts_us: 0, key, data }
    }

    fn head(passthrough: Passthrough) -> Head {
        gst::init().expect("GStreamer");
        Head::of(&ProgrammeSpec { passthrough, ..ProgrammeSpec::default() })
    }

    fn stored(head: &Head, key: bool) -> Vec<u8> {
        let buffer = head.buffer(&picture(key), &Bytes::from_static(RECORD)).expect("a picture");
        assert_eq!(buffer.flags().contains(gst::BufferFlags::DELTA_UNIT), !key);
        buffer.map_readable().expect("readable").to_vec()
    }

    #[test]
    fn where_pictures_may_pass_every_keyframe_has_its_own_parameters() {
        let mut head = head(Passthrough::Auto);
        let sets = b"\0\0\0\x02\x67\x64\0\0\0\x03\x68\xef\x3c";
        assert_eq!(stored(&head, true), [sets.as_slice(), &picture(true).data].concat());
        assert_eq!(stored(&head, false), picture(false).data);
        let told = head.caps(MediaKind::Video, &Bytes::from_static(RECORD));
        assert_eq!(told.structure(0).and_then(|told| told.get::<&str>("stream-format").ok()), Some("avc3"));
        let others = Bytes::from_static(b"\x01\x42\0\x1f\xff\xe1\0\x01\x67\x01\0\x01\x68");
        assert_eq!(head.caps(MediaKind::Video, &others), told);
        assert_eq!(head.buffer(&picture(true), &Bytes::from_static(b"\x01\x42")), None);
    }

    #[test]
    fn the_sound_of_a_time_is_found_from_any_before_it() {
        for (time, zero) in [(100_000, 100_000), (121_332, 100_000), (121_334, 121_333), (1_200_000, 1_188_000)] {
            assert_eq!(sound_at(100_000, time), zero, "for {time} us");
        }
    }

    #[test]
    fn what_only_the_encoder_makes_has_its_parameters_in_the_head() {
        let mut head = head(Passthrough::Off);
        assert_eq!(stored(&head, true), picture(true).data);
        let told = head.caps(MediaKind::Video, &Bytes::from_static(RECORD));
        assert_eq!(told.structure(0).and_then(|told| told.get::<&str>("stream-format").ok()), Some("avc"));
        let others = Bytes::from_static(b"\x01\x42\0\x1f\xff\xe1\0\x01\x67\x01\0\x01\x68");
        assert_ne!(head.caps(MediaKind::Video, &others), told, "for the muxer to refuse");
    }
}
