//! One file being written by a pipeline of its own that may fail alone: a disk that fills, hangs or goes away ends this file only.

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
use crate::mixer::programme::bus_of;
use crate::mixer::programme::launch;
use crate::mixer::programme::named;
use crate::mixer::programme::reason_of;
use crate::mixer::programme::stop;
use crate::proto::mixer::Report;

/// Closing a file writes its index once; a disk that needs longer than this has failed.
const CLOSING: Duration = Duration::from_secs(10);

/// A file and the pipeline that writes it.
#[derive(Debug)]
pub(in crate::mixer) struct Writing {
    what: &'static str,
    path: String,
    pipeline: gst::Pipeline,
    bus: gst::Bus,
    stalled: Arc<AtomicBool>,
    closing: Option<Instant>,
}

impl Writing {
    /// Creates the file, which may not exist yet, and its pipeline with a sink named `file`, which does not play yet.
    ///
    /// # Errors
    /// The reason in words, for [`Report::RecordingFailed`].
    pub(in crate::mixer) fn create(what: &'static str, path: &str, description: &str) -> Result<Self, String> {
        // Created here and not by the sink, because the sink would overwrite.
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(|error| format!("cannot create the file: {error}"))?;
        Self::build(what, path, description).map_err(|error| error.to_string())
    }

    fn build(what: &'static str, path: &str, description: &str) -> Result<Self, Error> {
        let pipeline = launch(what, description)?;
        named::<gst::Element>(&pipeline, "file")?.set_property("location", path);
        let bus = bus_of(&pipeline)?;
        Ok(Self { what, path: path.to_owned(), pipeline, bus, stalled: Arc::default(), closing: None })
    }

    pub(in crate::mixer) fn path(&self) -> &str {
        &self.path
    }

    pub(in crate::mixer) const fn pipeline(&self) -> &gst::Pipeline {
        &self.pipeline
    }

    /// To be set by whoever feeds it when too much waits.
    pub(in crate::mixer) fn stalled(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stalled)
    }

    /// Bytes on disk.
    pub(in crate::mixer) fn size(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |file| file.len())
    }

    /// Begins to close the file by the ends of its `entries`; [`Self::poll`] says when it is done.
    pub(in crate::mixer) fn close(&mut self, now: Instant, entries: &[&AppSrc]) {
        self.closing = Some(now + CLOSING);
        for entry in entries {
            if entry.end_of_stream().is_err() {
                tracing::debug!(path = self.path, "the file ended before it was closed");
            }
        }
    }

    pub(in crate::mixer) const fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    pub(in crate::mixer) fn failed(&self, reason: impl Into<String>) -> Report {
        Report::RecordingFailed { path: self.path.clone(), reason: reason.into() }
    }

    /// The last report of this file, once there is one; it is to be dropped then.
    pub(in crate::mixer) fn poll(&self, now: Instant) -> Option<Report> {
        while let Some(message) = self.bus.pop() {
            #[expect(clippy::wildcard_enum_match_arm, reason = "an open enumeration of GStreamer's")]
            match message.view() {
                gst::MessageView::Eos(_) => return Some(Report::RecordingFinished { path: self.path.clone() }),
                gst::MessageView::Error(error) if error.error().matches(gst::ResourceError::NoSpaceLeft) => {
                    return Some(self.failed("the disk is full"));
                }
                gst::MessageView::Error(error) => return Some(self.failed(reason_of(error))),
                _ => {}
            }
        }
        if self.stalled.load(Ordering::Relaxed) {
            return Some(self.failed("the disk is too slow"));
        }
        let late = self.closing.is_some_and(|deadline| now > deadline);
        late.then(|| self.failed("the disk did not take the end of the file"))
    }
}

impl Drop for Writing {
    /// A disk that hangs holds the pipeline's thread in a write, and stopping waits for that thread: the programme must not wait too.
    fn drop(&mut self) {
        let (what, pipeline) = (self.what, self.pipeline.clone());
        let ending = thread::Builder::new().name("recording-end".to_owned()).spawn(move || stop(what, &pipeline));
        if let Err(error) = ending {
            tracing::warn!(%error, what, "a file's pipeline is left as it is");
        }
    }
}
