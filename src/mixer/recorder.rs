//! The recording: the encoded programme into one fragmented MP4 file, in a pipeline of its own that may fail alone.
//!
//! The muxer's other fragment mode, first-moov-then-finalise, cuts at keyframes only: with one each 2 s a file killed in its first
//! seconds is unplayable. This one cuts twice a second wherever it is, so that with what waits for the other track never more than a second is lost.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Instant;

use gstreamer as gst;
use gstreamer_app::AppSrc;

use crate::mixer::error::Error;
use crate::mixer::pipelines::Piece;
use crate::mixer::pipelines::Pipelines;
use crate::mixer::programme::named;
use crate::mixer::programme::play;
use crate::mixer::unix_ms;
use crate::mixer::writing::Writing;
use crate::model::media::EncodedFrame;
use crate::model::media::MediaKind;
use crate::proto::mixer::Report;

/// Encoded bytes that wait for the disk: 10 s of 12 Mbit/s. A disk that is further behind does not come back in time.
const WAITING_BYTES: u64 = 16 << 20;

/// Sound frames kept until the first keyframe: over a second, and a keyframe that was asked for comes within two pictures.
const EARLY_SOUND: usize = 64;

/// Half of an AAC frame of 1024 samples at 48 kHz.
const HALF_SOUND_FRAME_US: u64 = 10_667;

/// One recording file being written.
#[derive(Debug)]
pub(super) struct Recorder {
    file: Writing,
    video: AppSrc,
    audio: AppSrc,
    zero: Arc<OnceLock<u64>>,
    told: bool,
    keyframe_wanted: Arc<AtomicBool>,
}

/// The recorder's end in the encoders' threads.
#[derive(Debug)]
pub(super) struct Tap {
    video: AppSrc,
    audio: AppSrc,
    stalled: Arc<AtomicBool>,
    keyframe_wanted: Arc<AtomicBool>,
    /// Sound from before the first keyframe: some of it may belong behind that, as sound is encoded sooner than a picture.
    early: VecDeque<(EncodedFrame, gst::Sample)>,
    /// Time of the first keyframe, which is the file's zero, in microseconds.
    zero: Arc<OnceLock<u64>>,
}

impl Recorder {
    /// Creates the file, which may not exist yet, and waits for frames.
    ///
    /// # Errors
    /// The reason in words, for [`Report::RecordingFailed`].
    pub(super) fn start(path: &str, pipelines: &Pipelines) -> Result<(Self, Tap), String> {
        let description = pipelines.filled(Piece::Recording, &[]).map_err(|error| error.to_string())?;
        let file = Writing::create("recording", path, &description)?;
        Self::over(file).map_err(|error| error.to_string())
    }

    fn over(file: Writing) -> Result<(Self, Tap), Error> {
        let video: AppSrc = named(file.pipeline(), "video")?;
        let audio: AppSrc = named(file.pipeline(), "audio")?;
        play("recording", file.pipeline())?;
        let tap = Tap {
            video: video.clone(),
            audio: audio.clone(),
            stalled: file.stalled(),
            keyframe_wanted: Arc::default(),
            early: VecDeque::new(),
            zero: Arc::default(),
        };
        let (zero, keyframe_wanted) = (Arc::clone(&tap.zero), Arc::clone(&tap.keyframe_wanted));
        Ok((Self { file, video, audio, zero, told: false, keyframe_wanted }, tap))
    }

    /// Whether the file waits for a keyframe to begin with; asks once.
    pub(super) fn wants_keyframe(&self) -> bool {
        self.keyframe_wanted.swap(false, Ordering::Relaxed)
    }

    /// The file's zero in microseconds of the monotonic clock, once it has begun.
    pub(super) fn zero(&self) -> Option<u64> {
        self.zero.get().copied()
    }

    /// Bytes on disk.
    pub(super) fn size(&self) -> u64 {
        self.file.size()
    }

    /// Begins to close the file; [`Recorder::poll`] says when it is done. The tap must be gone already.
    pub(super) fn close(&mut self, now: Instant) {
        self.file.close(now, &[&self.video, &self.audio]);
    }

    /// Says once that the file has begun.
    pub(super) fn news(&mut self) -> Option<Report> {
        let zero_us = self.zero().filter(|_| !self.told)?;
        self.told = true;
        let zero_at_ms = unix_ms(i64::try_from(zero_us).unwrap_or(0).saturating_mul(1000));
        Some(Report::RecordingBegun { path: self.file.path().to_owned(), zero_at_ms })
    }

    /// The last report of this recording, once there is one; it is to be dropped then.
    pub(super) fn poll(&self, now: Instant) -> Option<Report> {
        let unborn = self.file.is_closing() && self.zero().is_none();
        self.file.poll(now).or_else(|| unborn.then(|| self.file.failed("it ended before its first keyframe")))
    }
}

impl Tap {
    /// Takes a frame, from the first keyframe after the first sound on. Never blocks.
    ///
    /// The muxer counts each track from its own first frame. Sound that began later than the picture would be early by as much.
    pub(super) fn take(&mut self, frame: &EncodedFrame, sample: &gst::Sample) {
        if self.zero.get().is_none() {
            match frame.kind {
                MediaKind::Audio => return self.keep(frame, sample),
                MediaKind::Video if frame.key && !self.early.is_empty() => self.begin(frame.dts_us),
                MediaKind::Video => return,
            }
        }
        self.write(frame, sample);
    }

    fn keep(&mut self, frame: &EncodedFrame, sample: &gst::Sample) {
        if self.early.is_empty() {
            self.keyframe_wanted.store(true, Ordering::Relaxed);
        }
        if self.early.len() == EARLY_SOUND {
            self.early.pop_front();
        }
        self.early.push_back((frame.clone(), sample.clone()));
    }

    fn begin(&mut self, zero: u64) {
        self.zero.get_or_init(|| zero);
        for (frame, sample) in std::mem::take(&mut self.early) {
            self.write(&frame, &sample);
        }
    }

    fn write(&self, frame: &EncodedFrame, sample: &gst::Sample) {
        let Some(&zero) = self.zero.get() else { return };
        // The sound frame that is nearest to the first picture begins the track.
        let since =
            |time: u64| (time + HALF_SOUND_FRAME_US).checked_sub(zero).map(|t| t.saturating_sub(HALF_SOUND_FRAME_US));
        let (Some(pts), Some(dts)) = (since(frame.pts_us), since(frame.dts_us)) else { return };
        let entry = match frame.kind {
            MediaKind::Video => &self.video,
            MediaKind::Audio => &self.audio,
        };
        if entry.current_level_bytes() > WAITING_BYTES {
            self.stalled.store(true, Ordering::Relaxed);
            return;
        }
        let Some(mut buffer) = sample.buffer_owned() else { return };
        let writable = buffer.make_mut();
        writable.set_pts(gst::ClockTime::from_useconds(pts));
        writable.set_dts(gst::ClockTime::from_useconds(dts));
        let caps = sample.caps().map(ToOwned::to_owned);
        let rebased = gst::Sample::builder().buffer(&buffer).caps_if_some(caps.as_ref()).build();
        if entry.push_sample(&rebased).is_err() {
            tracing::debug!("the recording takes no more");
        }
    }
}
