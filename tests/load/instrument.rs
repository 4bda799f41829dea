//! A musician's picture and note as live RTP: drawn and computed here, paced, encoded and packetised by GStreamer.

use anyhow::Context;
use anyhow::Result;
use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use gstreamer_app::AppSinkCallbacks;
use gstreamer_app::AppSrc;
use tokio::sync::mpsc;

use crate::musician::Part;
use crate::peer::Picture;

const FPS: u64 = 30;
const SAMPLE_RATE: u64 = 48_000;
/// Samples an audio buffer holds: 10 ms, the frame that music mode asks browsers for.
const BLOCK: u64 = 480;
/// The flash and the beep fill the first tenth of every second.
const MARK: f64 = 0.1;
/// Packets between GStreamer and the network; a full queue means a stalled network, and real musicians' packets are lost then too.
const PACKETS: usize = 512;

pub(crate) struct Instrument {
    pipeline: gst::Pipeline,
}

impl Instrument {
    /// Starts playing; the receivers carry RTP packets of sound and picture.
    pub(crate) fn start(
        part: Part,
        opus_payload_type: u8,
        video_payload_type: u8,
    ) -> Result<(Self, mpsc::Receiver<Bytes>, mpsc::Receiver<Bytes>)> {
        gst::init()?;
        let (width, height) = (part.width, part.height);
        let encode = match part.picture {
            Picture::Vp8 => format!(
                "vp8enc name=venc deadline=1 cpu-used=8 threads=1 target-bitrate=1000000 keyframe-max-dist=150 error-resilient=default \
                 ! rtpvp8pay pt={video_payload_type} mtu=1200 picture-id-mode=15-bit"
            ),
            Picture::H264 => format!(
                "x264enc name=venc tune=zerolatency speed-preset=ultrafast threads=1 bitrate=1000 key-int-max=150 bframes=0 \
                 ! video/x-h264,profile=constrained-baseline \
                 ! rtph264pay pt={video_payload_type} mtu=1200 config-interval=-1 aggregate-mode=zero-latency"
            ),
        };
        let description = format!(
            "appsrc name=picture is-live=true format=time block=true max-buffers=2 max-bytes=0 max-time=0 \
               caps=video/x-raw,format=I420,width={width},height={height},framerate={FPS}/1 \
             ! clocksync ! {encode} ! appsink name=pictures sync=false async=false \
             appsrc name=note is-live=true format=time block=true max-buffers=4 max-bytes=0 max-time=0 \
               caps=audio/x-raw,format=S16LE,rate={SAMPLE_RATE},channels=2,layout=interleaved \
             ! clocksync ! opusenc bitrate=256000 frame-size=10 audio-type=restricted-lowdelay ! rtpopuspay pt={opus_payload_type} \
             ! appsink name=sound sync=false async=false"
        );
        let pipeline = gst::parse::launch(&description)?
            .downcast::<gst::Pipeline>()
            .map_err(|_| anyhow::anyhow!("the description is not a pipeline"))?;
        pipeline.use_clock(Some(&clock(part.clock_ppm)));
        let sound = packets(&pipeline, "sound")?;
        let pictures = packets(&pipeline, "pictures")?;
        let picture_source = source(&pipeline, "picture")?;
        let note_source = source(&pipeline, "note")?;
        pipeline.set_state(gst::State::Playing)?;
        let painter = part.clone();
        std::thread::spawn(move || {
            let frame_time = |n: u64| gst::ClockTime::from_nseconds(n * 1_000_000_000 / FPS);
            for n in 0.. {
                let frame = paint(&painter, n);
                if push(&picture_source, frame, frame_time(n), frame_time(n + 1) - frame_time(n)).is_err() {
                    return;
                }
            }
        });
        std::thread::spawn(move || {
            let block_time = gst::ClockTime::from_nseconds(BLOCK * 1_000_000_000 / SAMPLE_RATE);
            for n in 0.. {
                if push(&note_source, sing(&part, n * BLOCK), block_time * n, block_time).is_err() {
                    return;
                }
            }
        });
        Ok((Self { pipeline }, sound, pictures))
    }

    /// Answers a keyframe request.
    pub(crate) fn make_keyframe(&self) {
        let request = gst::Structure::builder("GstForceKeyUnit").field("all-headers", true).build();
        if let Some(encoder) = self.pipeline.by_name("venc") {
            encoder.send_event(gst::event::CustomUpstream::new(request));
        }
    }
}

impl Drop for Instrument {
    fn drop(&mut self) {
        // The pushing threads end by themselves: their next push is refused.
        let _cannot_be_helped = self.pipeline.set_state(gst::State::Null);
    }
}

/// A clock that runs so many parts per million faster than the machine's.
fn clock(ppm: i32) -> gst::SystemClock {
    const MILLION: u64 = 1_000_000;
    let clock: gst::SystemClock = gst::glib::Object::new();
    let now = clock.internal_time();
    clock.set_calibration(now, now, MILLION.saturating_add_signed(ppm.into()), MILLION);
    clock
}

pub(crate) fn source(pipeline: &gst::Pipeline, name: &str) -> Result<AppSrc> {
    pipeline.by_name(name).and_then(|e| e.downcast().ok()).with_context(|| format!("no appsrc {name}"))
}

/// The packets that come out of the sink of this name.
pub(crate) fn packets(pipeline: &gst::Pipeline, name: &str) -> Result<mpsc::Receiver<Bytes>> {
    let sink: AppSink =
        pipeline.by_name(name).and_then(|e| e.downcast().ok()).with_context(|| format!("no appsink {name}"))?;
    let (sender, receiver) = mpsc::channel(PACKETS);
    sink.set_callbacks(
        AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                let send = |buffer: &gst::BufferRef| {
                    if let Ok(map) = buffer.map_readable() {
                        let _lost_when_full = sender.try_send(Bytes::copy_from_slice(&map));
                    }
                };
                sample.buffer().into_iter().for_each(send);
                sample.buffer_list().into_iter().flat_map(|list| list.iter()).for_each(send);
                Ok(gst::FlowSuccess::Ok)
            })
            .build(),
    );
    Ok(receiver)
}

fn push(
    source: &AppSrc,
    content: Vec<u8>,
    pts: gst::ClockTime,
    duration: gst::ClockTime,
) -> Result<(), gst::FlowError> {
    let mut buffer = gst::Buffer::from_mut_slice(content);
    let writable = buffer.get_mut().expect("nobody else has it yet");
    writable.set_pts(pts);
    writable.set_duration(duration);
    source.push_buffer(buffer).map(drop)
}

/// Frame `n`: a bar that wanders over a ground whose shade follows the note; white while the mark lasts.
fn paint(part: &Part, n: u64) -> Vec<u8> {
    let (width, height) = (part.width as usize, part.height as usize);
    let marked = part.beep_hz.is_some() && (n % FPS) as f64 / (FPS as f64) < MARK;
    let ground = 40 + (part.note_hz as usize / 10) % 40;
    let bar = (n as usize * 7) % width;
    let mut frame = vec![0_u8; width * height * 3 / 2];
    let (luma, chroma) = frame.split_at_mut(width * height);
    for (row, line) in luma.chunks_exact_mut(width).enumerate() {
        line.fill(if marked { 235 } else { (ground + row * 40 / height) as u8 });
        if !marked {
            // Wider than the rims of a tile that are not looked at.
            for x in 0..width / 4 {
                line[(bar + x) % width] = 190;
            }
        }
    }
    let (u, v) = chroma.split_at_mut(width * height / 4);
    u.fill(if marked { 128 } else { (64 + part.note_hz as usize % 128) as u8 });
    v.fill(if marked { 128 } else { (192 - part.note_hz as usize % 128) as u8 });
    frame
}

/// The block of sound from this sample on: the note, and the beep while the mark lasts.
fn sing(part: &Part, from: u64) -> Vec<u8> {
    let wave = |hz: f64, t: f64| (t * hz * std::f64::consts::TAU).sin();
    (from..from + BLOCK)
        .flat_map(|n| {
            let t = n as f64 / SAMPLE_RATE as f64;
            let beep = part.beep_hz.filter(|_| t.fract() < MARK).map_or(0.0, |hz| 0.4 * wave(hz, t));
            let sample = ((0.12 * wave(part.note_hz, t) + beep) * f64::from(i16::MAX)) as i16;
            [sample.to_le_bytes(), sample.to_le_bytes()].concat()
        })
        .collect()
}
