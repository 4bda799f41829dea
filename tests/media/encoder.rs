//! The encoders that need no graphics card, at the same scene: closed groups on time, and the bitrate that was asked for.

use std::collections::BTreeMap;

use bytes::Bytes;
use jamcast::model::encoder::Encoder;
use jamcast::model::media::CanvasFormat;
use jamcast::model::media::CanvasFrame;
use jamcast::model::media::EncodedFrame;
use jamcast::model::scene::Source;
use jamcast::model::spec::ProgrammeSpec;
use jamcast::proto::mixer::Control;

use crate::canvas;
use crate::gateway::Gateway;
use crate::gateway::scene;
use crate::gateway::source;

/// Cells of noise: hard to foresee, and large enough that every encoder can keep to its rate.
const WIDTH: u16 = 40;
const HEIGHT: u16 = 24;

/// Pictures of noise, half a second's worth that are repeated.
fn noise() -> Vec<CanvasFrame> {
    let mut state = 1_u32;
    let mut picture = || -> Vec<u8> {
        let cells = usize::from(WIDTH) * usize::from(HEIGHT);
        let mut grey = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            96 + (state >> 26) as u8
        });
        grey.by_ref().take(cells).flat_map(|value| [value, value, value, 255]).collect()
    };
    let frame = |data: Vec<u8>| CanvasFrame {
        format: CanvasFormat::Rgba,
        key: true,
        width: WIDTH,
        height: HEIGHT,
        timestamp_us: 0,
        data: Bytes::from(data),
    };
    (0..15).map(|_| frame(picture())).collect()
}

fn kbps(frames: &[EncodedFrame]) -> f64 {
    let bits: usize = frames.iter().map(|frame| frame.data.len() * 8).sum();
    bits as f64 / (frames.len() as f64 / 30.0) / 1000.0
}

#[test]
fn every_encoder_keeps_to_its_bitrate_follows_a_new_one_and_begins_a_group_every_two_seconds() {
    let pictures = noise();
    for encoder in [Encoder::X264, Encoder::OpenH264] {
        let mut gateway = Gateway::start();
        gateway.control(Control::Pipelines { encoder, own: BTreeMap::new() });
        let canvas = source(canvas::CANVAS.0, None, None, [0, 0, 640, 360]);
        let mut wanted = scene(vec![Source { canvas: true, ..canvas }]);
        wanted.programme = ProgrammeSpec { video_kbps: 1600, ..wanted.programme };
        gateway.show(&wanted);
        let seconds = |n: usize| pictures.iter().cycle().take(30 * n).cloned().collect::<Vec<_>>();
        canvas::send(&mut gateway, &seconds(4));
        gateway.control(Control::SetBitrate { video_kbps: 800 });
        canvas::send(&mut gateway, &seconds(5));
        let heard = gateway.finish();
        heard.assert_gapless();
        let keys: Vec<_> = heard.video.iter().enumerate().filter(|(_, frame)| frame.key).map(|(n, _)| n).collect();
        assert!(keys.iter().enumerate().all(|(n, at)| *at == 60 * n), "{encoder:?}: {keys:?}");
        // Without the first second, which is dark at first, and the one in which the rate changes.
        let (before, after) = (kbps(&heard.video[45..105]), kbps(&heard.video[180..240]));
        assert!((0.7..1.3).contains(&(before / 1600.0)), "{encoder:?}: {before:.0} kbit/s of 1600");
        assert!((0.7..1.3).contains(&(after / 800.0)), "{encoder:?}: {after:.0} kbit/s of 800");
    }
}
