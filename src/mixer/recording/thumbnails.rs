//! Small pictures of the programme beside its recording, one each ten seconds, scaled and encoded in a pipeline of their own.
//!
//! They are made of what is composed; while pictures pass through nothing is, and they are made of a keyframe.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSrc;

use crate::mixer::SECOND;
use crate::mixer::error::Error;
use crate::mixer::pipelines::Piece;
use crate::mixer::programme::Programme;
use crate::mixer::programme::bus_of;
use crate::mixer::programme::launch;
use crate::mixer::programme::named;
use crate::mixer::programme::play;
use crate::mixer::programme::reason_of;
use crate::mixer::programme::stop;
use crate::mixer::source::still::Still;

/// Between two pictures.
const EVERY: i64 = 10 * SECOND;

/// The first comes soon, so that a short recording has one as well.
const FIRST: i64 = 2 * SECOND;

/// Twenty-four hours of pictures.
const MOST: u32 = 8640;

/// The longer side, pixels, even: what a list or a timeline shows.
const LONG_SIDE: u32 = 320;

/// See the file. Dropping it ends it.
#[derive(Debug)]
pub(in crate::mixer) struct Thumbnails {
    pipeline: gst::Pipeline,
    bus: gst::Bus,
    tap: Option<(gst::Pad, gst::PadProbeId)>,
    entry: Entry,
    /// A keyframe that is being decoded.
    still: Option<Still>,
    next_at: i64,
    asked: u32,
}

/// Where pictures enter, when one is wanted.
#[derive(Clone, Debug)]
struct Entry {
    entry: AppSrc,
    wanted: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
}

impl Thumbnails {
    /// Begins beside the recording at `recording`; its name without extension and a number are theirs.
    pub(in crate::mixer) fn start(
        programme: &Programme,
        recording: &str,
        size: (u32, u32),
        now: i64,
    ) -> Result<Self, Error> {
        let (width, height) = small(size);
        let holes = [("width", width), ("height", height)];
        let pipeline = launch("thumbnails", &programme.pipelines().filled(Piece::Thumbnails, &holes)?)?;
        named::<gst::Element>(&pipeline, "files")?.set_property("location", location(recording));
        let entry = Entry { entry: named(&pipeline, "in")?, wanted: Arc::default(), count: Arc::default() };
        let pad = programme.finished_pictures();
        let tap = tap(pad, entry.clone()).map(|probe| (pad.clone(), probe));
        let bus = bus_of(&pipeline)?;
        let thumbnails = Self { pipeline, bus, tap, entry, still: None, next_at: now + FIRST, asked: 0 };
        play("thumbnails", &thumbnails.pipeline)?;
        Ok(thumbnails)
    }

    /// Asks for a picture when it is time; `false` when there will be no more.
    pub(in crate::mixer) fn advance(&mut self, now: i64, programme: &Programme) -> bool {
        while let Some(message) = self.bus.pop() {
            if let gst::MessageView::Error(error) = message.view() {
                tracing::warn!(reason = reason_of(error), "the recording gets no more thumbnails");
                return false;
            }
        }
        if now >= self.next_at {
            self.next_at = now + if self.asked == 0 { EVERY - FIRST } else { EVERY };
            self.asked += 1;
            self.entry.wanted.store(true, Ordering::Relaxed);
        }
        self.look_at_what_passes(programme);
        self.asked < MOST
    }

    fn look_at_what_passes(&mut self, programme: &Programme) {
        if self.still.as_ref().is_some_and(Still::is_over) {
            self.still = None;
        }
        if self.still.is_some() || !self.entry.is_wanted() {
            return;
        }
        let Some(keyframe) = programme.passed_keyframe() else { return };
        // Taken before it is decoded: one that cannot be is not tried again.
        if !self.entry.takes() {
            return;
        }
        let entry = self.entry.clone();
        let push = move |sample: &gst::Sample| {
            if let (Some(picture), Some(caps)) = (sample.buffer(), sample.caps()) {
                entry.push(picture, caps);
            }
        };
        match Still::decode(programme.pipelines(), &keyframe, push) {
            Ok(still) => self.still = Some(still),
            Err(error) => tracing::warn!(%error, "a thumbnail is left out"),
        }
    }
}

impl Entry {
    fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// The same, and whoever asked is the one to push it.
    fn takes(&self) -> bool {
        self.wanted.swap(false, Ordering::Relaxed)
    }

    /// The picture is shared and not copied.
    fn push(&self, picture: &gst::BufferRef, caps: &gst::CapsRef) {
        let mut picture = picture.copy();
        picture.make_mut().set_pts(gst::ClockTime::from_seconds(self.count.fetch_add(1, Ordering::Relaxed)));
        let sample = gst::Sample::builder().buffer(&picture).caps(&caps.to_owned()).build();
        if self.entry.push_sample(&sample).is_err() {
            tracing::debug!("a thumbnail was not taken");
        }
    }
}

impl Drop for Thumbnails {
    /// A disk that hangs must not hold up the programme.
    fn drop(&mut self) {
        if let Some((pad, probe)) = self.tap.take() {
            pad.remove_probe(probe);
        }
        let pipeline = self.pipeline.clone();
        let ending =
            thread::Builder::new().name("thumbnails-end".to_owned()).spawn(move || stop("thumbnails", &pipeline));
        if let Err(error) = ending {
            tracing::warn!(%error, "the thumbnails' pipeline is left as it is");
        }
    }
}

/// Hands over the next picture that passes `pad` whenever one is wanted.
fn tap(pad: &gst::Pad, entry: Entry) -> Option<gst::PadProbeId> {
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        if entry.takes()
            && let (Some(picture), Some(caps)) = (info.buffer(), pad.current_caps())
        {
            entry.push(picture, &caps);
        }
        gst::PadProbeReturn::Ok
    })
}

/// The format of the files' names: `jam-00000.jpg` beside `jam.mp4`.
fn location(recording: &str) -> String {
    let base = recording.rsplit_once('.').map_or(recording, |(base, _)| base);
    format!("{}-%05d.jpg", base.replace('%', "%%"))
}

/// The largest even size of this shape whose longer side is [`LONG_SIDE`].
fn small((width, height): (u32, u32)) -> (u32, u32) {
    let long = width.max(height).max(1);
    let side = |pixels: u32| ((pixels * LONG_SIDE / long) & !1).max(2);
    (side(width), side(height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thumbnails_stand_beside_their_recording() {
        assert_eq!(location("/100%/jam.night-1.mp4"), "/100%%/jam.night-1-%05d.jpg");
    }

    #[test]
    fn a_thumbnail_has_the_shape_of_the_programme() {
        assert_eq!([small((1280, 720)), small((720, 1280)), small((640, 480))], [(320, 180), (180, 320), (320, 240)]);
        assert_eq!([small((3840, 16)), small((854, 480))], [(320, 2), (320, 178)], "encoders want even sizes");
    }
}
