//! How long the programme takes: from the arrival of a picture's last packet to the encoded frame that shows it, found by decoding
//! the frames and looking at them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use gstreamer_app::AppSrc;
use jamcast::model::id::SourceId;
use jamcast::model::id::TrackId;
use jamcast::model::media::Codec;
use jamcast::model::media::EncodedFrame;
use jamcast::model::media::MediaKind;
use jamcast::model::scene::Placement;
use jamcast::model::scene::Rect;
use jamcast::model::scene::Scene;
use jamcast::model::scene::Source;
use jamcast::model::scene::SourceTrack;
use jamcast::model::spec::Latency;
use jamcast::model::spec::ProgrammeSpec;
use jamcast::proto::mixer::FromMixer;
use jamcast::proto::mixer::Report;
use jamcast::proto::mixer::TappedPacket;
use jamcast::proto::mixer::ToMixer;
use rustix::time::ClockId;
use rustix::time::clock_gettime;

use crate::bench_canvas;
use crate::bench_pass::media::Media;
use crate::bench_pass::media::encode;
use crate::demo::say;
use crate::rig::Rig;
use crate::rig::WARM_UP;
use crate::rig::Writer;

const WIDTH: usize = 1280;
const HEIGHT: usize = 720;
/// Between two pictures: not a frame of the programme, so that they fall everywhere between two of its frames.
const STEP_MS: u64 = 37;
const SOUND_MS: u64 = 20;
/// Of so many pictures the first few are white.
const PERIOD: usize = 12;
const WHITE: usize = 3;
const VP8: u8 = 96;
const OPUS: u8 = 111;
/// A frame of silence at 20 ms (RFC 6716 section 3.1).
const SILENCE: [u8; 3] = [0xfc, 0xff, 0xfe];

/// What is measured: its name, and the playout delay that it begins with if that is not the usual one.
const SETTINGS: [(&str, Latency, Option<u32>); 4] = [
    ("normal, at first", Latency::Normal, None),
    ("normal, after good minutes", Latency::Normal, Some(60)),
    ("low, at first", Latency::Low, None),
    ("low, after good minutes", Latency::Low, Some(20)),
];

/// When the last packets of white pictures behind dark ones were sent, microseconds of the monotonic clock.
type Flashes = Arc<Mutex<Vec<u64>>>;

/// What came of one setting, milliseconds.
#[derive(Default)]
struct Outcome {
    delays: Vec<f64>,
    /// What of each delay was from the end of the playout delay to the time of the frame.
    waits: Vec<f64>,
    /// What of it was from there to its arrival here.
    made: Vec<f64>,
    /// The playout delay at the end.
    playout: u32,
}

/// Prints one row for each setting.
pub(crate) fn run(mixer: &Path, seconds: u64) -> Result<()> {
    gst::init()?;
    let pictures = pictures()?;
    say(
        "One VP8 camera of 1280x720 with its sound into 720p30; from the last packet of a picture to the encoded frame that shows it, ms:",
    );
    say(
        "latency                      p50     p90     max   playout   waits for its frame   composed and encoded   flashes",
    );
    for (name, latency, playout_ms) in SETTINGS {
        let Outcome { mut delays, mut waits, mut made, playout } =
            measure(mixer, seconds, latency, playout_ms, &pictures)?;
        let at = |values: &mut Vec<f64>, share: f64| {
            values.sort_by(f64::total_cmp);
            values[((values.len() - 1) as f64 * share) as usize]
        };
        say(&format!(
            "{name:<26} {:>5.0} {:>7.0} {:>7.0} {playout:>9} {:>21.0} {:>22.0} {:>9}",
            at(&mut delays, 0.5),
            at(&mut delays, 0.9),
            at(&mut delays, 1.0),
            at(&mut waits, 0.5),
            at(&mut made, 0.5),
            delays.len(),
        ));
    }
    Ok(())
}

fn measure(mixer: &Path, seconds: u64, latency: Latency, playout_ms: Option<u32>, pictures: &Media) -> Result<Outcome> {
    let mut rig = Rig::start(mixer, BTreeMap::new(), Scene { playout_ms, ..scene(latency) })?;
    let flashes = Flashes::default();
    let (enough, until) = mpsc::channel();
    let (writer, noted, media) = (rig.writer(), Arc::clone(&flashes), pictures.clone());
    let sender = std::thread::spawn(move || send(&media, &writer, &noted, &until));
    let mut playout = 0;
    let mut avc = Bytes::new();
    let mut frames: Vec<(u64, EncodedFrame)> = Vec::new();
    let heard = rig.listen(WARM_UP + Duration::from_secs(seconds), |message| match message {
        FromMixer::Frame(frame) if frame.kind == MediaKind::Video => frames.push((now_us(), frame)),
        FromMixer::Config(config) => avc = config.avc,
        FromMixer::Report(Report::Stats(stats)) => playout = stats.playout_ms,
        FromMixer::Frame(_) | FromMixer::Preview(_) | FromMixer::Report(_) => {}
    });
    drop(enough);
    sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))?;
    heard?;
    let lit = look(&avc, &frames)?;
    let sent = flashes.lock().expect("nothing panics").clone();
    let begun = frames.first().context("no frame")?.0 + WARM_UP.as_micros() as u64;
    let mut outcome = Outcome { playout, ..Outcome::default() };
    for (n, pair) in lit.windows(2).enumerate() {
        let (arrived, frame) = &frames[n + 1];
        let flash = sent.iter().rfind(|at| **at <= *arrived).filter(|_| *arrived > begun);
        if let ([false, true], Some(flash)) = (pair, flash) {
            let ms = |from: u64, to: u64| (to as f64 - from as f64) / 1000.0;
            outcome.delays.push(ms(*flash, *arrived));
            outcome.waits.push(ms(*flash, frame.pts_us) - f64::from(playout));
            outcome.made.push(ms(frame.pts_us, *arrived));
        }
    }
    ensure!(!outcome.delays.is_empty(), "no flash was seen");
    Ok(outcome)
}

fn scene(latency: Latency) -> Scene {
    let rect = Rect { x: 0, y: 0, width: WIDTH as u32, height: HEIGHT as u32 };
    let track = |track, codec, payload_type| Some(SourceTrack { track: TrackId(track), codec, payload_type });
    let source = Source {
        video: track(1, Codec::Vp8, VP8),
        audio: track(2, Codec::Opus, OPUS),
        placement: Some(Placement { rect, z: 0 }),
        ..Source::new(SourceId(1), "camera")
    };
    let programme = ProgrammeSpec { latency, ..ProgrammeSpec::default() };
    Scene { programme, sources: vec![source], ..Scene::default() }
}

/// Sends round and round at the speed of life, until nobody waits for it any more.
fn send(pictures: &Media, writer: &Writer, flashes: &Flashes, until: &Receiver<()>) {
    let begin = now_us();
    let (mut seq, mut sounds) = (0_u16, 0_u64);
    for (n, packets) in (0_u64..).zip(pictures.iter().cycle()) {
        while sounds * SOUND_MS <= n * STEP_MS {
            if !wait(begin + sounds * SOUND_MS * 1000, until) {
                return;
            }
            let header = header(OPUS, true, sounds as u16, (sounds * SOUND_MS * 48) as u32, 2);
            tap(writer, 2, &header, &SILENCE);
            sounds += 1;
        }
        if !wait(begin + n * STEP_MS * 1000, until) {
            return;
        }
        for (index, payload) in packets.iter().enumerate() {
            let header = header(VP8, index + 1 == packets.len(), seq, (n * STEP_MS * 90) as u32, 1);
            tap(writer, 1, &header, payload);
            seq = seq.wrapping_add(1);
        }
        if (n as usize).is_multiple_of(PERIOD) {
            flashes.lock().expect("nothing panics").push(now_us());
        }
    }
}

fn tap(writer: &Writer, track: u32, header: &[u8], payload: &[u8]) {
    let packet = Bytes::from([header, payload].concat());
    writer.send(&ToMixer::Rtp(TappedPacket { track: TrackId(track), arrival_us: now_us(), packet }));
}

fn header(payload_type: u8, marker: bool, seq: u16, timestamp: u32, ssrc: u32) -> Vec<u8> {
    let mut header = vec![0x80, payload_type | u8::from(marker) << 7];
    header.extend(seq.to_be_bytes());
    header.extend(timestamp.to_be_bytes());
    header.extend(ssrc.to_be_bytes());
    header
}

/// Waits until then; `false` if it is not wanted any more.
fn wait(at: u64, until: &Receiver<()>) -> bool {
    let pause = Duration::from_micros(at.saturating_sub(now_us()));
    matches!(until.recv_timeout(pause), Err(RecvTimeoutError::Timeout))
}

/// A zoom into a fractal that is white now and then.
fn pictures() -> Result<Media> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("motif.yuv");
    bench_canvas::motif(&file)?;
    let mut motif = std::fs::read(&file)?;
    for (n, picture) in motif.chunks_exact_mut(WIDTH * HEIGHT * 3 / 2).enumerate() {
        let (light, colours) = picture.split_at_mut(WIDTH * HEIGHT);
        if n % PERIOD < WHITE {
            light.fill(235);
            colours.fill(128);
        } else {
            // Never as bright as that.
            light.iter_mut().for_each(|value| *value /= 2);
        }
    }
    std::fs::write(&file, motif)?;
    let media = encode(&format!(
        "filesrc location=\"{}\" ! rawvideoparse format=i420 width={WIDTH} height={HEIGHT} framerate=27/1 ! \
         vp8enc deadline=1 cpu-used=8 target-bitrate=1500000 keyframe-max-dist=60 ! rtpvp8pay mtu=1200 picture-id-mode=15-bit",
        file.display(),
    ))?;
    ensure!(media.len().is_multiple_of(PERIOD), "{} pictures", media.len());
    Ok(media)
}

/// Whether each frame is white.
fn look(avc: &Bytes, frames: &[(u64, EncodedFrame)]) -> Result<Vec<bool>> {
    let pipeline = gst::parse::launch(
        "appsrc name=in format=time max-bytes=0 ! avdec_h264 max-threads=1 ! videoscale ! video/x-raw,width=16,height=16 ! \
         videoconvert ! video/x-raw,format=GRAY8 ! appsink name=out sync=false",
    )?;
    let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| anyhow::anyhow!("not a pipeline"))?;
    let entry: AppSrc = pipeline.by_name("in").and_then(|e| e.downcast().ok()).context("named above")?;
    let exit: AppSink = pipeline.by_name("out").and_then(|e| e.downcast().ok()).context("named above")?;
    let caps = gst::Caps::builder("video/x-h264")
        .field("stream-format", "avc")
        .field("alignment", "au")
        .field("codec_data", gst::Buffer::from_slice(avc.clone()))
        .build();
    entry.set_caps(Some(&caps));
    pipeline.set_state(gst::State::Playing)?;
    for (n, (_, frame)) in frames.iter().enumerate() {
        let mut buffer = gst::Buffer::from_slice(frame.data.clone());
        buffer.get_mut().context("fresh")?.set_pts(gst::ClockTime::from_mseconds(n as u64 * 40));
        entry.push_buffer(buffer)?;
    }
    entry.end_of_stream()?;
    let mut lit = Vec::new();
    while let Ok(sample) = exit.pull_sample() {
        let buffer = sample.buffer().context("a picture")?;
        let map = buffer.map_readable()?;
        let sum: u64 = map.iter().map(|value| u64::from(*value)).sum();
        lit.push(sum > 190 * map.len() as u64);
    }
    pipeline.set_state(gst::State::Null)?;
    ensure!(lit.len() == frames.len(), "{} of {} frames were decoded", lit.len(), frames.len());
    Ok(lit)
}

fn now_us() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}
