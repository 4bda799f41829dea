//! Encoded frames on their way out: numbered in the machine's monotonic time, announced by their configuration, copied to the recorder.

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use bytes::Bytes;
use gstreamer as gst;

use crate::mixer::limiter;
use crate::mixer::outbox::Outbox;
use crate::mixer::recorder::Tap;
use crate::model::media::CodecConfig;
use crate::model::media::EncodedFrame;
use crate::model::media::MediaKind;
use crate::proto::mixer::FromMixer;

/// Frames kept until both encoders have said how they are to be decoded: the second one starts within a few frames.
const PENDING: usize = 128;

/// How much later a sound leaves the AAC encoder and a decoder than it went in: 1600 samples at 48 kHz, measured with an impulse.
/// RTMP has no edit list to say so, so the frames are dated back, or every sound would lag behind its picture.
const AAC_DELAY_US: u64 = 33_333;

/// The same for the limiter's look ahead.
const LIMITER_DELAY_US: u64 = limiter::DELAY as u64 * 1_000_000 / 48_000;

/// Shared by the two encoders' threads and the conductor.
#[derive(Debug)]
pub(super) struct Feed {
    outbox: Outbox,
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
    audio_frames: u64,
}

impl Feed {
    pub(super) fn new(outbox: Outbox) -> Self {
        Self { outbox, inner: Mutex::default() }
    }

    /// Takes an encoder's output. `base_time` is the monotonic time of running time zero.
    pub(super) fn take(&self, kind: MediaKind, sample: &gst::Sample, base_time: gst::ClockTime) {
        let Some(frame) = read(kind, sample, base_time) else {
            tracing::warn!(kind = kind.as_str(), "an encoded frame without a time was dropped");
            return;
        };
        let mut inner = self.lock();
        let configuration = configuration_of(sample);
        match kind {
            MediaKind::Video => {
                inner.video_frames += 1;
                inner.avc = configuration.or(inner.avc.take());
            }
            MediaKind::Audio => {
                inner.audio_frames += 1;
                inner.aac = configuration.or(inner.aac.take());
            }
        }
        if let Some(tap) = &mut inner.tap {
            tap.take(&frame, sample);
        }
        if inner.pending.len() < PENDING {
            inner.pending.push(frame);
        }
        let Some((avc, aac)) = inner.avc.clone().zip(inner.aac.clone()) else { return };
        let config = CodecConfig { avc, aac };
        if inner.announced.as_ref() != Some(&config) {
            inner.announced = Some(config.clone());
            self.outbox.push(FromMixer::Config(config));
        }
        for frame in inner.pending.drain(..) {
            self.outbox.push(FromMixer::Frame(frame));
        }
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
