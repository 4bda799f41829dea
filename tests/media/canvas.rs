//! Canvases of every format in the programme: right in colour and place, and never a gap, whatever is sent.

use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use jamcast::model::id::SourceId;
use jamcast::model::media::CanvasFormat;
use jamcast::model::media::CanvasFrame;
use jamcast::model::media::Codec;
use jamcast::model::scene::Scene;
use jamcast::model::scene::Source;
use jamcast::proto::mixer::CanvasStroke;
use jamcast::proto::mixer::Report;
use jamcast::proto::mixer::SourceState;
use jamcast::proto::mixer::ToMixer;

use crate::eyes::look;
use crate::gateway::Gateway;
use crate::gateway::now_us;
use crate::gateway::scene;
use crate::gateway::source;
use crate::gateway::wait_until_us;
use crate::sender::BLACK;
use crate::sender::Colour;
use crate::sender::GREEN;
use crate::sender::RED;
use crate::sender::WHITE;
use crate::sender::video;

pub(crate) const FPS: u64 = 30;
pub(crate) const CANVAS: SourceId = SourceId(7);

/// Red, green and blue of 8 bits each.
const PURE_RED: u32 = 0xffff_0000;
const PURE_GREEN: u32 = 0xff00_ff00;

/// One second of a canvas of one colour, as a browser would encode it.
fn paint(format: CanvasFormat, size: (u16, u16), colour: u32) -> Vec<CanvasFrame> {
    gst::init().expect("GStreamer");
    let encoder = match format {
        CanvasFormat::H264 => {
            "videoconvert ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=60 ! \
             video/x-h264,profile=constrained-baseline,stream-format=byte-stream,alignment=au"
        }
        CanvasFormat::Vp8 => "videoconvert ! vp8enc deadline=1 keyframe-max-dist=60",
        CanvasFormat::Jpeg => "videoconvert ! jpegenc",
        CanvasFormat::Webp => "videoconvert ! webpenc",
        CanvasFormat::Png => "videoconvert ! pngenc",
        CanvasFormat::Rgba => "videoconvert ! video/x-raw,format=RGBA",
    };
    let (width, height) = size;
    let description = format!(
        "videotestsrc num-buffers={FPS} pattern=solid-color foreground-color={colour} ! \
         video/x-raw,width={width},height={height},framerate={FPS}/1 ! {encoder} ! appsink name=out sync=false"
    );
    let pipeline =
        gst::parse::launch(&description).expect("a pipeline").downcast::<gst::Pipeline>().expect("a pipeline");
    let sink = pipeline.by_name("out").expect("named").downcast::<AppSink>().expect("an appsink");
    pipeline.set_state(gst::State::Playing).expect("plays");
    let mut frames = Vec::new();
    while let Ok(sample) = sink.pull_sample() {
        let buffer = sample.buffer().expect("a frame");
        let data = Bytes::copy_from_slice(&buffer.map_readable().expect("readable"));
        let key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        frames.push(CanvasFrame { format, key, width, height, timestamp_us: 0, data });
    }
    pipeline.set_state(gst::State::Null).expect("stops");
    frames
}

pub(crate) fn canvas_scene() -> Scene {
    let video = source(CANVAS.0, None, None, [0, 0, 640, 360]);
    scene(vec![Source { canvas: true, ..video }])
}

/// Sends frames at 30 a second, stamped as they are sent.
pub(crate) fn send(gateway: &mut Gateway, frames: &[CanvasFrame]) {
    let begin = now_us();
    for (n, frame) in frames.iter().enumerate() {
        let at = begin + n as u64 * 1_000_000 / FPS;
        send_to_all(&mut [gateway], at, frame.clone());
    }
}

/// Sends a frame to all of these mixers when it is time.
pub(crate) fn send_to_all(gateways: &mut [&mut Gateway], at: u64, frame: CanvasFrame) {
    wait_until_us(at);
    let frame = CanvasFrame { timestamp_us: at, ..frame };
    let stroke = ToMixer::Canvas(CanvasStroke { source: CANVAS, arrival_us: now_us(), frame });
    gateways.iter_mut().for_each(|gateway| gateway.send(&stroke));
}

#[track_caller]
fn assert_shows(gateway: Gateway, colour: Colour) {
    let heard = gateway.finish();
    heard.assert_gapless();
    let pictures = look(&heard);
    let last = pictures.last().expect("seen");
    last.assert_colour(320, 180, colour);
    last.assert_colour(4, 4, colour);
    last.assert_colour(636, 356, colour);
}

#[test]
fn a_canvas_of_every_format_fills_the_programme() {
    for format in [
        CanvasFormat::H264,
        CanvasFormat::Vp8,
        CanvasFormat::Jpeg,
        CanvasFormat::Webp,
        CanvasFormat::Png,
        CanvasFormat::Rgba,
    ] {
        let mut gateway = Gateway::start();
        gateway.show(&canvas_scene());
        send(&mut gateway, &paint(format, (640, 360), PURE_GREEN));
        assert_shows(gateway, GREEN);
    }
}

#[test]
fn raw_frames_of_720p_thirty_times_a_second_are_shown_in_step() {
    let mut gateway = Gateway::start();
    gateway.show(&canvas_scene());
    let red = paint(CanvasFormat::Rgba, (1280, 720), PURE_RED);
    let green = paint(CanvasFormat::Rgba, (1280, 720), PURE_GREEN);
    send(&mut gateway, &red);
    let flash = now_us();
    send(&mut gateway, &green);
    let heard = gateway.finish();
    heard.assert_gapless();
    let pictures = look(&heard);
    let turned = pictures.iter().find(|picture| picture.at(320, 180)[0] > 110).expect("it turns green").pts_us;
    let late = turned as i64 - flash as i64;
    assert!((150_000..300_000).contains(&late), "shown {late} us after it was sent; the playout delay is 200 ms");
    assert!(pictures.last().expect("seen").at(320, 180)[0].abs_diff(GREEN[0]) < 14);
}

#[test]
fn a_canvas_that_changes_its_format_and_its_size_goes_on() {
    let mut gateway = Gateway::start();
    gateway.show(&canvas_scene());
    for (format, size) in [
        (CanvasFormat::Vp8, (1280, 720)),
        (CanvasFormat::Rgba, (320, 180)),
        (CanvasFormat::Rgba, (16, 16)),
        (CanvasFormat::Jpeg, (1920, 1080)),
        (CanvasFormat::H264, (640, 360)),
    ] {
        send(&mut gateway, &paint(format, size, PURE_RED));
    }
    assert_shows(gateway, RED);
}

#[test]
fn broken_frames_and_deltas_without_their_keyframe_leave_no_gap_and_name_the_canvas() {
    let mut gateway = Gateway::start();
    let (mut whole, placed) = (canvas_scene(), video(1, Codec::Vp8, [320, 180], 100, |_| WHITE));
    whole.sources.push(source(1, Some(&placed), None, [0, 0, 2, 2]));
    gateway.show(&whole);
    let mut broken = paint(CanvasFormat::Jpeg, (640, 360), PURE_RED);
    for frame in &mut broken {
        let mut data = frame.data.to_vec();
        let half = data.len() / 2;
        data[half..].fill(0x5a);
        frame.data = data.into();
    }
    send(&mut gateway, &broken);
    let vp8 = paint(CanvasFormat::Vp8, (640, 360), PURE_GREEN);
    send(&mut gateway, &vp8[1..]);
    gateway.wait("a wish", |heard| heard.reports.contains(&Report::CanvasKeyframeWanted { source: CANVAS }));
    send(&mut gateway, &vp8);
    gateway.wait("the canvas", |heard| {
        let live = |report: &Report| matches!(report, Report::Source { source, state: SourceState::Live, .. } if *source == CANVAS);
        heard.reports.iter().any(live)
    });
    assert_shows(gateway, GREEN);
}

#[test]
fn a_canvas_that_leaves_the_scene_is_gone_and_comes_back() {
    let mut gateway = Gateway::start();
    gateway.show(&canvas_scene());
    let frames = paint(CanvasFormat::Vp8, (640, 360), PURE_RED);
    send(&mut gateway, &frames);
    gateway.show(&scene(vec![]));
    send(&mut gateway, &frames[..15]);
    let dark = now_us();
    gateway.show(&canvas_scene());
    send(&mut gateway, &frames);
    let heard = gateway.finish();
    heard.assert_gapless();
    let pictures = look(&heard);
    let then = pictures.iter().find(|picture| picture.pts_us + 60_000 > dark).expect("seen");
    then.assert_colour(320, 180, BLACK);
    pictures.last().expect("seen").assert_colour(320, 180, RED);
}
