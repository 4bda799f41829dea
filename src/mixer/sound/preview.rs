//! The programme's sound for those who watch it in the room: Opus, encoded in a pipeline of its own that is there only while somebody does.

use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use gstreamer_app::AppSinkCallbacks;
use gstreamer_app::AppSrc;

use crate::mixer::SECOND;
use crate::mixer::error::Error;
use crate::mixer::outbox::Outbox;
use crate::mixer::pipelines::Piece;
use crate::mixer::programme::Programme;
use crate::mixer::programme::bus_of;
use crate::mixer::programme::launch;
use crate::mixer::programme::micros;
use crate::mixer::programme::named;
use crate::mixer::programme::play;
use crate::mixer::programme::reason_of;
use crate::mixer::programme::stop;
use crate::mixer::recording::opus;
use crate::mixer::sound::limiter;
use crate::model::media::OpusPacket;
use crate::proto::mixer::FromMixer;

/// How much later than its buffer says a sound leaves the limiter. Nanoseconds.
const LIMITER_DELAY: i64 = limiter::DELAY as i64 * SECOND / 48_000;

/// See the file. Dropping it ends it.
#[derive(Debug)]
pub(in crate::mixer) struct Preview {
    pipeline: gst::Pipeline,
    bus: gst::Bus,
    tap: Option<(gst::Pad, gst::PadProbeId)>,
}

impl Preview {
    /// Packets go to `outbox` from now on.
    pub(in crate::mixer) fn start(programme: &Programme, outbox: &Outbox) -> Result<Self, Error> {
        let pipeline = launch("preview", &programme.pipelines().filled(Piece::Preview, &[])?)?;
        programme.share_clock_with(&pipeline);
        let (outbox, base_time) = (outbox.clone(), programme.base_time());
        let take = move |sink: &AppSink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            outbox.push(FromMixer::Preview(read(&sample, base_time).ok_or(gst::FlowError::Error)?));
            Ok(gst::FlowSuccess::Ok)
        };
        named::<AppSink>(&pipeline, "out")?.set_callbacks(AppSinkCallbacks::builder().new_sample(take).build());
        let entry: AppSrc = named(&pipeline, "in")?;
        let mut preview = Self { bus: bus_of(&pipeline)?, pipeline, tap: None };
        play("preview", &preview.pipeline)?;
        let pad = programme.finished_sounds();
        preview.tap = tap(pad, entry).map(|probe| (pad.clone(), probe));
        Ok(preview)
    }

    /// Whether nothing will come any more.
    pub(in crate::mixer) fn has_failed(&self) -> bool {
        while let Some(message) = self.bus.pop() {
            if let gst::MessageView::Error(error) = message.view() {
                tracing::warn!(reason = reason_of(error), "the preview has no more sound");
                return true;
            }
        }
        false
    }
}

impl Drop for Preview {
    fn drop(&mut self) {
        if let Some((pad, probe)) = self.tap.take() {
            pad.remove_probe(probe);
        }
        stop("preview", &self.pipeline);
    }
}

/// Hands over all sound that passes `pad`. It is shared and not copied.
fn tap(pad: &gst::Pad, entry: AppSrc) -> Option<gst::PadProbeId> {
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        if let (Some(sound), Some(caps)) = (info.buffer(), pad.current_caps()) {
            let sample = gst::Sample::builder().buffer(sound).caps(&caps).build();
            if entry.push_sample(&sample).is_err() {
                tracing::debug!("a piece of sound was not taken for the preview");
            }
        }
        gst::PadProbeReturn::Ok
    })
}

fn read(sample: &gst::Sample, base_time: gst::ClockTime) -> Option<OpusPacket> {
    let buffer = sample.buffer()?;
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    let data = Bytes::copy_from_slice(buffer.map_readable().ok()?.as_slice());
    // The first buffer is shorter than its packet: what libopus looks ahead is taken off at its beginning, and only its end is right.
    let end = segment.to_running_time(buffer.pts()? + buffer.duration()?)?.nseconds().cast_signed();
    Some(OpusPacket { pts_us: micros(base_time, end - opus::duration(&data)? - LIMITER_DELAY), data })
}
