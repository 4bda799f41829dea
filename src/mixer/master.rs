//! The master bus: what happens to the whole programme's sound between the audio mixer and the encoder.

use std::sync::Mutex;
use std::sync::PoisonError;

use gstreamer as gst;
use gstreamer::prelude::*;

use crate::mixer::limiter::Limiter;

/// Bytes of a stereo sample of two floats.
const FRAME: usize = 8;

/// Limits all sound that passes this pad, which must be stereo floats. It leaves [`crate::mixer::limiter::DELAY`] samples later in the
/// same buffers; whoever reads their times takes that into account.
pub(super) fn limit(pad: &gst::Pad) {
    let limiter = Mutex::new(Limiter::new());
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(buffer) = info.buffer_mut() {
            let buffer = buffer.make_mut();
            // The mixer marks silence, but the end of a sound may still be on its way.
            buffer.unset_flags(gst::BufferFlags::GAP);
            let mut limiter = limiter.lock().unwrap_or_else(PoisonError::into_inner);
            if let Ok(mut map) = buffer.map_writable() {
                process(&mut limiter, &mut map);
            }
        }
        gst::PadProbeReturn::Ok
    });
}

fn process(limiter: &mut Limiter, bytes: &mut [u8]) {
    let (frames, _) = bytes.as_chunks_mut::<FRAME>();
    for frame in frames {
        let [a, b, c, d, e, f, g, h] = *frame;
        let [left, right] = limiter.next([f32::from_le_bytes([a, b, c, d]), f32::from_le_bytes([e, f, g, h])]);
        let [a, b, c, d] = left.to_le_bytes();
        let [e, f, g, h] = right.to_le_bytes();
        *frame = [a, b, c, d, e, f, g, h];
    }
}
