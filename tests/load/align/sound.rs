//! Mouth and ears of a player: sound to Opus packets and back, by GStreamer.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use gstreamer_app::AppSinkCallbacks;
use gstreamer_app::AppSrc;
use rtc::rtp::Packet;
use tokio::sync::mpsc;

use crate::align::buffer::JitterBuffer;
use crate::align::buffer::RATE;
use crate::align::buffer::time_of;
use crate::instrument::packets;
use crate::instrument::source;
use crate::peer::OPUS;

/// A pipeline that ends with what it is part of.
struct Playing(gst::Pipeline);

impl Playing {
    fn start(description: &str) -> Result<Self> {
        gst::init()?;
        let pipeline = gst::parse::launch(description)?.downcast::<gst::Pipeline>();
        Ok(Self(pipeline.map_err(|_| anyhow::anyhow!("the description is not a pipeline"))?))
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        let _cannot_be_helped = self.0.set_state(gst::State::Null);
    }
}

/// Encodes what somebody plays.
pub(crate) struct Mouth {
    source: AppSrc,
    said: u64,
    _playing: Playing,
}

impl Mouth {
    /// The receiver carries RTP packets of so many milliseconds.
    pub(crate) fn open(packet_ms: u32) -> Result<(Self, mpsc::Receiver<Bytes>)> {
        let playing = Playing::start(&format!(
            "appsrc name=in is-live=true format=time caps=audio/x-raw,format=F32LE,rate={RATE},channels=1,layout=interleaved \
             ! audioconvert ! opusenc bitrate=128000 frame-size={packet_ms} audio-type=generic ! rtpopuspay pt={OPUS} \
             ! appsink name=out sync=false async=false"
        ))?;
        let said = packets(&playing.0, "out")?;
        let source = source(&playing.0, "in")?;
        playing.0.set_state(gst::State::Playing)?;
        Ok((Self { source, said: 0, _playing: playing }, said))
    }

    /// Says the next samples.
    pub(crate) fn say(&mut self, samples: &[f32]) -> Result<()> {
        let mut buffer = gst::Buffer::from_slice(bytes_of(samples));
        let writable = buffer.get_mut().context("nobody else has it yet")?;
        writable.set_pts(clock_time(time_of(self.said)));
        self.said += samples.len() as u64;
        writable.set_duration(clock_time(time_of(self.said)) - clock_time(time_of(self.said - samples.len() as u64)));
        self.source.push_buffer(buffer)?;
        Ok(())
    }
}

/// Decodes what comes and keeps it for its time.
pub(crate) struct Ears {
    source: AppSrc,
    pub(crate) buffer: Arc<Mutex<JitterBuffer>>,
    _playing: Playing,
}

impl Ears {
    /// With a jitter buffer of this depth, or one that follows what comes.
    pub(crate) fn open(depth: Option<Duration>) -> Result<Self> {
        let playing = Playing::start(&format!(
            "appsrc name=in is-live=true format=time caps=audio/x-opus,channel-mapping-family=0,channels=2,rate={RATE} \
             ! opusdec ! audioconvert ! audio/x-raw,format=F32LE,rate={RATE},channels=1 \
             ! appsink name=out sync=false async=false"
        ))?;
        let buffer = Arc::new(Mutex::new(JitterBuffer::new(depth)));
        let sink: AppSink =
            playing.0.by_name("out").and_then(|sink| sink.downcast().ok()).context("there is no appsink")?;
        let kept = Arc::clone(&buffer);
        let keep = move |sink: &AppSink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            if let Some(decoded) = sample.buffer()
                && let Some(at) = decoded.pts()
                && let Ok(map) = decoded.map_readable()
            {
                // The time is that of a number of samples, rounded.
                let at = (u128::from(at.nseconds()) * u128::from(RATE) + 500_000_000) / 1_000_000_000;
                lock(&kept).put(u64::try_from(at).unwrap_or(u64::MAX), &samples_of(&map));
            }
            Ok(gst::FlowSuccess::Ok)
        };
        sink.set_callbacks(AppSinkCallbacks::builder().new_sample(keep).build());
        let source = source(&playing.0, "in")?;
        playing.0.set_state(gst::State::Playing)?;
        Ok(Self { source, buffer, _playing: playing })
    }

    /// A packet has come.
    pub(crate) fn hear(&self, now: Duration, packet: &Packet) -> Result<()> {
        let at = lock(&self.buffer).arrived(now, packet.header.timestamp);
        let mut buffer = gst::Buffer::from_slice(packet.payload.clone());
        buffer.get_mut().context("nobody else has it yet")?.set_pts(clock_time(time_of(at)));
        self.source.push_buffer(buffer)?;
        Ok(())
    }
}

fn clock_time(time: Duration) -> gst::ClockTime {
    gst::ClockTime::from_nseconds(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

fn bytes_of(samples: &[f32]) -> Vec<u8> {
    samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
}

fn samples_of(bytes: &[u8]) -> Vec<f32> {
    let (samples, _) = bytes.as_chunks::<4>();
    samples.iter().map(|sample| f32::from_le_bytes(*sample)).collect()
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
