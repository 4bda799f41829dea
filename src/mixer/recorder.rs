//! The recording: the encoded programme into one fragmented MP4 file, in a pipeline of its own that may fail alone.
//!
//! The muxer's other fragment mode, first-moov-then-finalise, cuts at keyframes only: with one each 2 s a file killed in its first
//! seconds is unplayable. This one cuts once a second wherever it is, so that never more than a second is lost.

use std::collections::VecDeque;
use std::fs;
use std::fs::OpenOptions;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSrc;

use crate::mixer::error::Error;
use crate::mixer::pipelines::Piece;
use crate::mixer::pipelines::Pipelines;
use crate::mixer::programme::bus_of;
use crate::mixer::programme::launch;
use crate::mixer::programme::named;
use crate::mixer::programme::play;
use crate::mixer::programme::reason_of;
use crate::mixer::programme::stop;
use crate::model::media::EncodedFrame;
use crate::model::media::MediaKind;
use crate::proto::mixer::Report;

/// Encoded bytes that wait for the disk: 10 s of 12 Mbit/s. A disk that is further behind does not come back in time.
const WAITING_BYTES: u64 = 16 << 20;

/// Sound frames kept until the first keyframe: over a second, and a keyframe that was asked for comes within two pictures.
const EARLY_SOUND: usize = 64;

/// Half of an AAC frame of 1024 samples at 48 kHz.
const HALF_SOUND_FRAME_US: u64 = 10_667;

/// Closing a file writes its index once; a disk that needs longer than this has failed.
const CLOSING: Duration = Duration::from_secs(10);

/// One recording file being written.
#[derive(Debug)]
pub(super) struct Recorder {
    path: String,
    pipeline: gst::Pipeline,
    bus: gst::Bus,
    video: AppSrc,
    audio: AppSrc,
    stalled: Arc<AtomicBool>,
    begun: Arc<AtomicBool>,
    keyframe_wanted: Arc<AtomicBool>,
    closing: Option<Instant>,
}

/// The recorder's end in the encoders' threads.
#[derive(Debug)]
pub(super) struct Tap {
    video: AppSrc,
    audio: AppSrc,
    stalled: Arc<AtomicBool>,
    begun: Arc<AtomicBool>,
    keyframe_wanted: Arc<AtomicBool>,
    /// Sound from before the first keyframe: some of it may belong behind that, as sound is encoded sooner than a picture.
    early: VecDeque<(EncodedFrame, gst::Sample)>,
    /// Time of the first keyframe, which is the file's zero, in microseconds.
    zero: Option<u64>,
}

impl Recorder {
    /// Creates the file, which may not exist yet, and waits for frames.
    ///
    /// # Errors
    /// The reason in words, for [`Report::RecordingFailed`].
    pub(super) fn start(path: &str, pipelines: &Pipelines) -> Result<(Self, Tap), String> {
        // Created here and not by the sink, because the sink would overwrite.
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(|error| format!("cannot create the file: {error}"))?;
        Self::open(path, pipelines).map_err(|error| error.to_string())
    }

    fn open(path: &str, pipelines: &Pipelines) -> Result<(Self, Tap), Error> {
        let pipeline = launch("recording", &pipelines.filled(Piece::Recording, &[])?)?;
        named::<gst::Element>(&pipeline, "file")?.set_property("location", path);
        let video: AppSrc = named(&pipeline, "video")?;
        let audio: AppSrc = named(&pipeline, "audio")?;
        let stalled = Arc::new(AtomicBool::new(false));
        let begun = Arc::new(AtomicBool::new(false));
        let keyframe_wanted = Arc::new(AtomicBool::new(false));
        let bus = bus_of(&pipeline)?;
        play("recording", &pipeline)?;
        let tap = Tap {
            video: video.clone(),
            audio: audio.clone(),
            stalled: Arc::clone(&stalled),
            begun: Arc::clone(&begun),
            keyframe_wanted: Arc::clone(&keyframe_wanted),
            early: VecDeque::new(),
            zero: None,
        };
        let path = path.to_owned();
        Ok((Self { path, pipeline, bus, video, audio, stalled, begun, keyframe_wanted, closing: None }, tap))
    }

    /// Whether the file waits for a keyframe to begin with; asks once.
    pub(super) fn wants_keyframe(&self) -> bool {
        self.keyframe_wanted.swap(false, Ordering::Relaxed)
    }

    /// Bytes on disk.
    pub(super) fn size(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |file| file.len())
    }

    /// Begins to close the file; [`Recorder::poll`] says when it is done. The tap must be gone already.
    pub(super) fn close(&mut self, now: Instant) {
        self.closing = Some(now + CLOSING);
        for entry in [&self.video, &self.audio] {
            if entry.end_of_stream().is_err() {
                tracing::debug!(path = self.path, "the recording ended before it was closed");
            }
        }
    }

    /// The last report of this recording, once there is one; it is to be dropped then.
    pub(super) fn poll(&self, now: Instant) -> Option<Report> {
        let failed = |reason: String| Some(Report::RecordingFailed { path: self.path.clone(), reason });
        while let Some(message) = self.bus.pop() {
            #[expect(clippy::wildcard_enum_match_arm, reason = "an open enumeration of GStreamer's")]
            match message.view() {
                gst::MessageView::Eos(_) => return Some(Report::RecordingFinished { path: self.path.clone() }),
                gst::MessageView::Error(error) => return failed(reason_of(error)),
                _ => {}
            }
        }
        if self.stalled.load(Ordering::Relaxed) {
            return failed("the disk is too slow for the programme".to_owned());
        }
        match self.closing {
            Some(_) if !self.begun.load(Ordering::Relaxed) => failed("it ended before its first keyframe".to_owned()),
            Some(deadline) if now > deadline => failed("the disk did not take the end of the file".to_owned()),
            Some(_) | None => None,
        }
    }
}

impl Drop for Recorder {
    /// A disk that hangs holds the pipeline's thread in a write, and stopping waits for that thread: the programme must not wait too.
    fn drop(&mut self) {
        let pipeline = self.pipeline.clone();
        let ending =
            thread::Builder::new().name("recording-end".to_owned()).spawn(move || stop("recording", &pipeline));
        if let Err(error) = ending {
            tracing::warn!(%error, "a recording's pipeline is left as it is");
        }
    }
}

impl Tap {
    /// Takes a frame, from the first keyframe after the first sound on. Never blocks.
    ///
    /// The muxer counts each track from its own first frame. Sound that began later than the picture would be early by as much.
    pub(super) fn take(&mut self, frame: &EncodedFrame, sample: &gst::Sample) {
        if self.zero.is_none() {
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
        self.zero = Some(zero);
        self.begun.store(true, Ordering::Relaxed);
        for (frame, sample) in std::mem::take(&mut self.early) {
            self.write(&frame, &sample);
        }
    }

    fn write(&self, frame: &EncodedFrame, sample: &gst::Sample) {
        let Some(zero) = self.zero else { return };
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
