//! Encoded frames on their way out: numbered in the machine's monotonic time, announced by their configuration, copied to the recorder.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use bytes::Bytes;
use gstreamer as gst;

use crate::mixer::outbox::Outbox;
use crate::mixer::recording::recorder::Tap;
use crate::mixer::sound::limiter;
use crate::model::media::CodecConfig;
use crate::model::media::EncodedFrame;
use crate::model::media::MediaKind;
use crate::model::spec::Passthrough;
use crate::proto::h264;
use crate::proto::mixer::FromMixer;

/// Frames kept until both encoders have said how they are to be decoded: the second one starts within a few frames.
const PENDING: usize = 128;

/// How much later a sound leaves the AAC encoder and a decoder than it went in: 1600 samples at 48 kHz, measured with an impulse.
/// RTMP has no edit list to say so, so the frames are dated back, or every sound would lag behind its picture.
const AAC_DELAY_US: u64 = 33_333;

/// The same for the limiter's look ahead.
const LIMITER_DELAY_US: u64 = limiter::DELAY as u64 * 1_000_000 / 48_000;

/// Sounds that wait where nothing leaves: half a second, longer than it takes to find a mixer dead.
const HELD: usize = 24;

/// Times of the encoder's frames are found by up to so much, for what rounding does to them.
const NEAR_US: u64 = 2_000;

/// An encoder's last frame before it rests is not waited for any longer than this: it had to leave one out.
const LAST_FRAME_US: u64 = 300_000;

/// Shared by the two encoders' threads and the conductor.
#[derive(Debug)]
pub(super) struct Feed {
    outbox: Outbox,
    /// Keyframes bring their parameter sets.
    in_band: bool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    avc: Option<Bytes>,
    aac: Option<Bytes>,
    announced: Option<CodecConfig>,
    pending: Vec<EncodedFrame>,
    tap: Option<Tap>,
    video_frames: u64,
    passed_frames: u64,
    audio_frames: u64,
    /// Time of the encoder's newest frame.
    encoded_us: u64,
    pictures: Pictures,
    keyframe_wanted: bool,
    /// Nothing leaves, because another mixer is on air. Its latest sounds wait for the case that this one goes on.
    shut: Option<VecDeque<EncodedFrame>>,
}

/// Where the programme's pictures come from.
#[derive(Debug, Default)]
enum Pictures {
    #[default]
    Encoder,
    /// From a source, after the encoder's last one.
    Changing {
        last_us: u64,
        held: Vec<(EncodedFrame, Bytes)>,
    },
    Source,
    /// From the encoder again, with its first keyframe from this time on.
    Returning {
        from_us: u64,
    },
}

impl Feed {
    /// Where pictures may pass the parameter sets change, also from the mixer before this one to this one.
    pub(super) fn new(outbox: Outbox, passthrough: Passthrough) -> Self {
        Self { outbox, in_band: passthrough == Passthrough::Auto, inner: Mutex::default() }
    }

    /// Lets nothing out from now on.
    pub(super) fn shut(&self) {
        self.lock().shut.get_or_insert_default();
    }

    /// Lets everything out again: first what was heard after the sound of `sound_us`.
    pub(super) fn open(&self, sound_us: Option<u64>) {
        let mut inner = self.lock();
        let is_new = |frame: &EncodedFrame| sound_us.is_some_and(|us| frame.pts_us > us + NEAR_US);
        for frame in inner.shut.take().into_iter().flatten().filter(is_new) {
            self.send(&mut inner, frame);
        }
    }

    /// Takes an encoder's output. `base_time` is the monotonic time of running time zero.
    pub(super) fn take(&self, kind: MediaKind, sample: &gst::Sample, base_time: gst::ClockTime) {
        let Some(frame) = read(kind, sample, base_time) else {
            tracing::warn!(kind = kind.as_str(), "an encoded frame without a time was dropped");
            return;
        };
        let mut inner = self.lock();
        if kind == MediaKind::Video && !inner.is_due(&frame) {
            return;
        }
        let configuration = configuration_of(sample);
        match kind {
            MediaKind::Video => inner.avc = configuration.or(inner.avc.take()),
            MediaKind::Audio => inner.aac = configuration.or(inner.aac.take()),
        }
        let end = frame.pts_us + NEAR_US;
        self.send(&mut inner, frame);
        if kind == MediaKind::Video
            && let Pictures::Changing { last_us, .. } = inner.pictures
            && end >= last_us
        {
            self.change(&mut inner);
        }
    }

    /// From now on pictures come from a source, after that of the encoder that has this time.
    pub(super) fn change_after(&self, last_us: u64) {
        let mut inner = self.lock();
        inner.pictures = Pictures::Changing { last_us, held: Vec::new() };
        if inner.encoded_us + NEAR_US >= last_us {
            self.change(&mut inner);
        }
    }

    /// From now on pictures come from the encoder, from this time on.
    pub(super) fn return_at(&self, from_us: u64) {
        let mut inner = self.lock();
        self.change(&mut inner);
        inner.pictures = Pictures::Returning { from_us };
    }

    /// Takes a source's picture; of a keyframe `avc` says how it is decoded.
    pub(super) fn pass(&self, frame: EncodedFrame, avc: &Bytes) {
        let mut inner = self.lock();
        inner.passed_frames += 1;
        let overdue = match &mut inner.pictures {
            Pictures::Changing { held, last_us } => {
                let overdue = frame.pts_us > *last_us + LAST_FRAME_US;
                held.push((frame, avc.clone()));
                overdue
            }
            Pictures::Encoder | Pictures::Source | Pictures::Returning { .. } => {
                inner.avc = Some(avc.clone());
                self.send(&mut inner, frame);
                false
            }
        };
        if overdue {
            self.change(&mut inner);
        }
    }

    /// Whether the encoder has to be asked for the keyframe to return with; asks once.
    pub(super) fn wants_keyframe(&self) -> bool {
        std::mem::take(&mut self.lock().keyframe_wanted)
    }

    fn change(&self, inner: &mut Inner) {
        if let Pictures::Changing { held, .. } = std::mem::replace(&mut inner.pictures, Pictures::Source) {
            for (frame, avc) in held {
                inner.avc = Some(avc);
                self.send(inner, frame);
            }
        }
    }

    fn send(&self, inner: &mut Inner, frame: EncodedFrame) {
        let config = match frame.kind {
            MediaKind::Video => &inner.avc,
            MediaKind::Audio => &inner.aac,
        };
        if let (Some(tap), Some(config)) = (&mut inner.tap, config) {
            tap.take(&frame, config);
        }
        match frame.kind {
            MediaKind::Video => inner.video_frames += 1,
            MediaKind::Audio => inner.audio_frames += 1,
        }
        if let Some(heard) = &mut inner.shut {
            if frame.kind == MediaKind::Audio {
                if heard.len() == HELD {
                    heard.pop_front();
                }
                heard.push_back(frame);
            }
            return;
        }
        if inner.pending.len() < PENDING {
            inner.pending.push(frame);
        }
        let Some((avc, aac)) = inner.avc.clone().zip(inner.aac.clone()) else { return };
        let config = CodecConfig { avc, aac };
        if inner.announced.as_ref() != Some(&config) {
            inner.announced = Some(config.clone());
            self.outbox.push(FromMixer::Config(config.clone()));
        }
        for frame in inner.pending.drain(..) {
            let frame = if self.in_band { with_parameters(frame, &config.avc) } else { frame };
            self.outbox.push(FromMixer::Frame(frame));
        }
    }

    /// Pictures of a source that were passed on so far, and whether it is those that leave now.
    pub(super) fn passed(&self) -> (u64, bool) {
        let inner = self.lock();
        (inner.passed_frames, matches!(inner.pictures, Pictures::Source))
    }

    /// Copies every frame to `tap` from now on, or no longer to any.
    pub(super) fn set_tap(&self, tap: Option<Tap>) {
        self.lock().tap = tap;
    }

    /// Video and audio frames encoded so far.
    pub(super) fn counts(&self) -> (u64, u64) {
        let inner = self.lock();
        (inner.video_frames, inner.audio_frames)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Whether a frame of the encoder's is the programme's next picture.
    fn is_due(&mut self, frame: &EncodedFrame) -> bool {
        self.encoded_us = frame.pts_us;
        match &self.pictures {
            Pictures::Encoder | Pictures::Changing { .. } => true,
            Pictures::Source => false,
            Pictures::Returning { from_us } if frame.pts_us + NEAR_US < *from_us => false,
            Pictures::Returning { .. } => {
                if frame.key {
                    self.pictures = Pictures::Encoder;
                } else {
                    self.keyframe_wanted = true;
                }
                frame.key
            }
        }
    }
}

/// The frame, after its parameter sets if it is a keyframe. Not every reader of a stream takes the new ones that are told beside it:
/// ffmpeg's parser goes on with the first, unless it finds others on its way.
fn with_parameters(frame: EncodedFrame, avc: &[u8]) -> EncodedFrame {
    match h264::in_band(avc) {
        Some(mut data) if frame.kind == MediaKind::Video && frame.key => {
            data.extend_from_slice(&frame.data);
            EncodedFrame { data: data.into(), ..frame }
        }
        Some(_) | None => frame,
    }
}

fn read(kind: MediaKind, sample: &gst::Sample, base_time: gst::ClockTime) -> Option<EncodedFrame> {
    let buffer = sample.buffer()?;
    // x264enc moves its times by 1000 hours and says so in the segment only.
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    let micros = |time: gst::ClockTime| segment.to_running_time(time).map(|running| (base_time + running).useconds());
    let (pts_us, dts_us) = match kind {
        MediaKind::Video => {
            let pts_us = micros(buffer.pts()?)?;
            (pts_us, buffer.dts().and_then(micros).unwrap_or(pts_us))
        }
        MediaKind::Audio => {
            let pts_us = micros(buffer.pts()?)?.checked_sub(AAC_DELAY_US + LIMITER_DELAY_US)?;
            (pts_us, pts_us)
        }
    };
    let data = Bytes::copy_from_slice(buffer.map_readable().ok()?.as_slice());
    let key = kind == MediaKind::Audio || !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
    Some(EncodedFrame { kind, pts_us, dts_us, key, data })
}

fn configuration_of(sample: &gst::Sample) -> Option<Bytes> {
    let buffer = sample.caps()?.structure(0)?.get::<gst::Buffer>("codec_data").ok()?;
    let map = buffer.map_readable().ok()?;
    Some(Bytes::copy_from_slice(map.as_slice()))
}
