//! What a canvas costs the mixer in each format, and how much of a network.

use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use jamcast::model::id::SourceId;
use jamcast::model::media::CanvasFormat;
use jamcast::model::media::CanvasFrame;
use jamcast::model::scene::Placement;
use jamcast::model::scene::Rect;
use jamcast::model::scene::Scene;
use jamcast::model::scene::Source;
use jamcast::model::spec::ProgrammeSpec;
use jamcast::proto::mixer::CanvasStroke;
use jamcast::proto::mixer::ToMixer;

use crate::demo::say;
use crate::rig::Rig;
use crate::rig::Writer;

const WIDTH: u16 = 1280;
const HEIGHT: u16 = 720;
const FPS: u64 = 30;
/// Frames that are sent round and round: two keyframe intervals.
const FRAMES: u64 = 4 * FPS;
const CANVAS: SourceId = SourceId(1);

const FORMATS: [(CanvasFormat, &str); 6] = [
    (
        CanvasFormat::H264,
        "x264enc tune=zerolatency speed-preset=superfast bitrate=2500 key-int-max=60 ! \
         video/x-h264,profile=constrained-baseline,stream-format=byte-stream,alignment=au",
    ),
    (CanvasFormat::Vp8, "vp8enc deadline=1 cpu-used=8 target-bitrate=2500000 keyframe-max-dist=60"),
    (CanvasFormat::Jpeg, "jpegenc quality=80"),
    (CanvasFormat::Webp, "webpenc quality=80 speed=4"),
    (CanvasFormat::Png, "videoconvert ! pngenc compression-level=3"),
    (CanvasFormat::Rgba, "videoconvert ! video/x-raw,format=RGBA"),
];

/// Prints one row for each format, and one for no canvas at all.
pub(crate) fn run(mixer: &Path, seconds: u64) -> Result<()> {
    gst::init()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("motif.yuv");
    motif(&file)?;
    say(
        "A canvas of 1280x720 at 30 fps alone in a programme of 720p30; CPU seconds of the mixer for a minute (user + system), one run:",
    );
    say("format      Mbit/s     CPU   less an empty programme   frames");
    let length = Duration::from_secs(seconds);
    let empty = Rig::start(mixer, <_>::default(), scene(false))?.measure(length)?;
    say(&format!("(none)         0.0 {:>7.1} {:>25} {:>8}", empty.cpu, "", empty.frames));
    for (format, encoder) in FORMATS {
        let frames = paint(&file, format, encoder)?;
        let bytes: usize = frames.iter().map(|frame| frame.data.len()).sum();
        let mbps = bytes as f64 * 8.0 / 1e6 / (FRAMES as f64 / FPS as f64);
        let rig = Rig::start(mixer, <_>::default(), scene(true))?;
        let (enough, until) = mpsc::channel();
        let writer = rig.writer();
        let sender = std::thread::spawn(move || send(&frames, &writer, &until));
        let effort = rig.measure(length);
        drop(enough);
        sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))?;
        let effort = effort?;
        say(&format!(
            "{:<10} {mbps:>7.1} {:>7.1} {:>25.1} {:>8}",
            format.as_str(),
            effort.cpu,
            effort.cpu - empty.cpu,
            effort.frames
        ));
    }
    Ok(())
}

fn scene(canvas: bool) -> Scene {
    let rect = Rect { x: 0, y: 0, width: u32::from(WIDTH), height: u32::from(HEIGHT) };
    let placement = Some(Placement { rect, z: 0 });
    let source = Source { canvas: true, placement, ..Source::new(CANVAS, "canvas") };
    let sources = if canvas { vec![source] } else { Vec::new() };
    Scene { programme: ProgrammeSpec::default(), sources, ..Scene::default() }
}

/// Raw pictures to be encoded: a zoom into a fractal with camera noise, as the mixer's own bench has it.
pub(crate) fn motif(file: &Path) -> Result<()> {
    let picture = format!("mandelbrot=s={WIDTH}x{HEIGHT}:r={FPS}:start_scale=3,noise=alls=6:allf=t,format=yuv420p");
    let status = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", &picture])
        .args(["-frames:v", &FRAMES.to_string(), "-f", "rawvideo"])
        .arg(file)
        .status()?;
    ensure!(status.success(), "ffmpeg could not make the canvas");
    Ok(())
}

fn paint(motif: &Path, format: CanvasFormat, encoder: &str) -> Result<Vec<CanvasFrame>> {
    let description = format!(
        "filesrc location=\"{}\" ! rawvideoparse format=i420 width={WIDTH} height={HEIGHT} framerate={FPS}/1 ! \
         {encoder} ! appsink name=out sync=false",
        motif.display()
    );
    let pipeline =
        gst::parse::launch(&description)?.downcast::<gst::Pipeline>().expect("the description is a pipeline");
    let sink: AppSink = pipeline.by_name("out").and_then(|e| e.downcast().ok()).context("the sink is named above")?;
    pipeline.set_state(gst::State::Playing)?;
    let mut frames = Vec::new();
    while let Ok(sample) = sink.pull_sample() {
        let buffer = sample.buffer().context("a frame")?;
        frames.push(CanvasFrame {
            format,
            key: !format.has_deltas() || !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
            width: WIDTH,
            height: HEIGHT,
            timestamp_us: 0,
            data: Bytes::copy_from_slice(&buffer.map_readable()?),
        });
    }
    pipeline.set_state(gst::State::Null)?;
    Ok(frames)
}

/// Sends the frames round and round at the speed of life, until the other end of `enough` is dropped.
fn send(frames: &[CanvasFrame], writer: &Writer, enough: &Receiver<()>) {
    let clock = gst::SystemClock::obtain();
    let begun = Instant::now();
    for (n, frame) in (0_u64..).zip(frames.iter().cycle()) {
        let at = Duration::from_nanos(n * 1_000_000_000 / FPS);
        if enough.recv_timeout(at.saturating_sub(begun.elapsed())) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        let frame = CanvasFrame { timestamp_us: at.as_micros() as u64, ..frame.clone() };
        let stroke = CanvasStroke { source: CANVAS, arrival_us: clock.time().useconds(), frame };
        writer.send(&ToMixer::Canvas(stroke));
    }
}
