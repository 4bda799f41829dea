//! The sound and the pictures that are passed on: made once, sent round and round at the speed of life.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use jamcast::proto::h264::Depacketizer;
use tokio::time::Instant;

use crate::bench_canvas;
use crate::metronome::Line;
use crate::metronome::Voice;
use crate::metronome::ticking;

const FPS: u32 = 30;
/// Pictures that are sent round and round: two keyframe intervals, so that nobody has to ask.
const PICTURES: u32 = 4 * FPS;
const SOUND_MS: u32 = 20;

/// Pictures or sounds, each as the payloads of its packets.
pub(crate) type Media = Vec<Vec<Bytes>>;

/// When the last packet of a picture was sent, each time, by what the picture holds.
pub(super) type Sent = Arc<Mutex<HashMap<Bytes, Vec<Instant>>>>;

/// From the last sending of a picture before it arrived, milliseconds; `None` for one that was never sent.
pub(super) fn delay_of(sent: &Sent, arrived: Instant, picture: &[u8]) -> Option<f64> {
    let sent = sent.lock().expect("nothing panics");
    let at = sent.get(picture)?.iter().rfind(|at| **at <= arrived)?;
    Some((arrived - *at).as_secs_f64() * 1000.0)
}

pub(super) async fn play_sound<L: Line>(mut voice: Voice<'_, L>, sound: Media) {
    let mut clock = ticking(Duration::from_millis(u64::from(SOUND_MS)));
    for payload in sound.iter().flatten().cycle() {
        clock.tick().await;
        voice.send(false, payload.clone()).await;
        voice.timestamp = voice.timestamp.wrapping_add(48 * SOUND_MS);
    }
}

pub(super) async fn play_pictures<L: Line>(mut voice: Voice<'_, L>, pictures: Media, sent: Sent) {
    let mut units = Depacketizer::default();
    let contents: Vec<Bytes> = (0..)
        .zip(&pictures)
        .flat_map(|(n, packets)| {
            let last = packets.len() - 1;
            let mut whole = Vec::new();
            for (index, payload) in packets.iter().enumerate() {
                whole.extend(units.push(payload, n, index == last, ()));
            }
            whole.into_iter().map(|unit| unit.data)
        })
        .collect();
    let mut clock = ticking(Duration::from_secs(1) / FPS);
    for (packets, content) in pictures.iter().zip(&contents).cycle() {
        clock.tick().await;
        for (index, payload) in packets.iter().enumerate() {
            voice.send(index + 1 == packets.len(), payload.clone()).await;
        }
        sent.lock().expect("nothing panics").entry(content.clone()).or_default().push(Instant::now());
        voice.timestamp = voice.timestamp.wrapping_add(90_000 / FPS);
    }
}

pub(super) fn pictures() -> Result<Media> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("motif.yuv");
    bench_canvas::motif(&file)?;
    let media = encode(&format!(
        "filesrc location=\"{}\" ! rawvideoparse format=i420 width=1280 height=720 framerate={FPS}/1 ! \
         x264enc tune=zerolatency speed-preset=superfast pass=cbr bitrate=2500 vbv-buf-capacity=1000 key-int-max={} ! \
         video/x-h264,profile=constrained-baseline ! rtph264pay mtu=1200 config-interval=-1",
        file.display(),
        2 * FPS,
    ))?;
    ensure!(media.len() == PICTURES as usize, "{} pictures", media.len());
    Ok(media)
}

pub(super) fn sound() -> Result<Media> {
    encode(
        "audiotestsrc wave=pink-noise volume=0.1 num-buffers=200 samplesperbuffer=960 ! audio/x-raw,rate=48000,channels=2 ! \
         audioconvert ! opusenc bitrate=128000 ! rtpopuspay",
    )
}

/// Payloads, grouped by the RTP time of their packets.
pub(crate) fn encode(description: &str) -> Result<Media> {
    let pipeline = gst::parse::launch(&format!("{description} ! appsink name=out sync=false"))?;
    let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| anyhow::anyhow!("not a pipeline"))?;
    let sink: AppSink = pipeline.by_name("out").and_then(|e| e.downcast().ok()).context("the sink is named above")?;
    pipeline.set_state(gst::State::Playing)?;
    let mut media: Media = Vec::new();
    let mut newest = None;
    while let Ok(sample) = sink.pull_sample() {
        let packet = Bytes::copy_from_slice(&sample.buffer().context("a packet")?.map_readable()?);
        if newest.replace(packet.slice(4..8)) != Some(packet.slice(4..8)) {
            media.push(Vec::new());
        }
        media.last_mut().context("a group")?.push(packet.slice(12..));
    }
    pipeline.set_state(gst::State::Null)?;
    Ok(media)
}
