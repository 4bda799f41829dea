//! One picture of those that pass through, decoded alone: a keyframe, in a pipeline of its own that ends with it.

use bytes::Bytes;
use gstreamer as gst;
use gstreamer_app::AppSink;
use gstreamer_app::AppSinkCallbacks;
use gstreamer_app::AppSrc;

use crate::mixer::MOST_PIXELS;
use crate::mixer::error::Error;
use crate::mixer::pipelines::Piece;
use crate::mixer::pipelines::Pipelines;
use crate::mixer::programme::bus_of;
use crate::mixer::programme::launch;
use crate::mixer::programme::named;
use crate::mixer::programme::play;
use crate::mixer::programme::reason_of;
use crate::mixer::programme::stop;

/// A picture that is decoded without any other.
#[derive(Clone, Debug)]
pub(in crate::mixer) struct Keyframe {
    /// NAL units, each after its length in four bytes.
    pub data: Bytes,
    /// How it is decoded: an `AVCDecoderConfigurationRecord`.
    pub avc: Bytes,
}

/// See the file. Dropping it ends it.
#[derive(Debug)]
pub(in crate::mixer) struct Still {
    pipeline: gst::Pipeline,
    bus: gst::Bus,
}

impl Still {
    /// Decodes `keyframe` and hands its picture to `take`, in a thread of the pipeline's.
    pub(in crate::mixer) fn decode(
        pipelines: &Pipelines,
        keyframe: &Keyframe,
        take: impl Fn(&gst::Sample) + Send + 'static,
    ) -> Result<Self, Error> {
        let pipeline = launch("still", &pipelines.filled(Piece::Still, &[("most_pixels", MOST_PIXELS)])?)?;
        let carry = move |sink: &AppSink| {
            take(&sink.pull_sample().map_err(|_| gst::FlowError::Eos)?);
            Ok(gst::FlowSuccess::Ok)
        };
        named::<AppSink>(&pipeline, "out")?.set_callbacks(AppSinkCallbacks::builder().new_sample(carry).build());
        let entry: AppSrc = named(&pipeline, "in")?;
        let still = Self { bus: bus_of(&pipeline)?, pipeline };
        play("still", &still.pipeline)?;
        let caps = gst::Caps::builder("video/x-h264")
            .field("stream-format", "avc")
            .field("alignment", "au")
            .field("codec_data", gst::Buffer::from_slice(keyframe.avc.clone()))
            .build();
        let mut buffer = gst::Buffer::from_slice(keyframe.data.clone());
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(gst::ClockTime::ZERO);
        }
        // The end has the decoder give what it would keep for pictures that it believes to come.
        let sample = gst::Sample::builder().buffer(&buffer).caps(&caps).build();
        if entry.push_sample(&sample).and_then(|_| entry.end_of_stream()).is_err() {
            tracing::debug!("a keyframe was not taken; its pipeline's bus says why");
        }
        Ok(still)
    }

    /// Whether its picture was handed over, or will not come.
    pub(in crate::mixer) fn is_over(&self) -> bool {
        while let Some(message) = self.bus.pop() {
            #[expect(clippy::wildcard_enum_match_arm, reason = "an open enumeration of GStreamer's")]
            match message.view() {
                gst::MessageView::Eos(_) => return true,
                gst::MessageView::Error(error) => {
                    tracing::debug!(reason = reason_of(error), "a keyframe that passed through is not decoded");
                    return true;
                }
                _ => {}
            }
        }
        false
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        stop("still", &self.pipeline);
    }
}
