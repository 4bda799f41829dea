//! The viewer: decodes a programme and measures what is to be seen and heard.

use std::f64::consts::TAU;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use gstreamer_app::AppSrc;
use jamcast::model::media::CodecConfig;
use jamcast::model::media::EncodedFrame;
use jamcast::model::media::MediaKind;
use jamcast::model::media::OpusPacket;

use crate::gateway::Heard;
use crate::gateway::spec;
use crate::sender::Colour;

/// A decoded picture and its time in microseconds.
pub(crate) struct Picture {
    pub(crate) pts_us: u64,
    data: Vec<u8>,
}

impl Picture {
    /// The colour at a point of the programme.
    pub(crate) fn at(&self, x: usize, y: usize) -> Colour {
        let (width, height) = (spec().width as usize, spec().height as usize);
        let chroma = width * height + y / 2 * width / 2 + x / 2;
        [self.data[y * width + x], self.data[chroma], self.data[chroma + width * height / 4]]
    }

    #[track_caller]
    pub(crate) fn assert_colour(&self, x: usize, y: usize, expected: Colour) {
        let seen = self.at(x, y);
        let near = seen.iter().zip(expected).all(|(a, b)| a.abs_diff(b) < 14);
        assert!(near, "at {x}, {y}: {seen:?} instead of {expected:?}");
    }
}

/// Decoded stereo sound with the time of its first sample in microseconds.
pub(crate) struct Sound {
    pub(crate) pts_us: u64,
    pub(crate) samples: Vec<[f32; 2]>,
}

impl Sound {
    /// The part between two times in milliseconds after the first sample.
    pub(crate) fn part(&self, from_ms: usize, to_ms: usize) -> &[[f32; 2]] {
        &self.samples[from_ms * 48..(to_ms * 48).min(self.samples.len())]
    }
}

pub(crate) fn look(heard: &Heard) -> Vec<Picture> {
    look_at(&heard.video, heard.config.as_ref().expect("a configuration"))
}

/// The same of some frames from a keyframe on.
pub(crate) fn look_at(frames: &[EncodedFrame], config: &CodecConfig) -> Vec<Picture> {
    let codec_data = gst::Buffer::from_slice(config.avc.clone());
    let caps = gst::Caps::builder("video/x-h264")
        .field("stream-format", "avc")
        .field("alignment", "au")
        .field("codec_data", codec_data)
        .build();
    decode(&caps, "avdec_h264 max-threads=1 ! videoconvert ! video/x-raw,format=I420", frames)
        .into_iter()
        .map(|(pts_us, data)| Picture { pts_us, data })
        .collect()
}

pub(crate) fn listen(heard: &Heard) -> Sound {
    let codec_data = gst::Buffer::from_slice(heard.config.clone().expect("a configuration").aac);
    let caps = gst::Caps::builder("audio/mpeg")
        .field("mpegversion", 4)
        .field("stream-format", "raw")
        .field("rate", 48_000)
        .field("channels", 2)
        .field("codec_data", codec_data)
        .build();
    sound(&decode(&caps, &format!("avdec_aac ! {FLOATS}"), &heard.audio))
}

/// What the preview sounds like.
pub(crate) fn listen_to_preview(heard: &Heard) -> Sound {
    let caps = gst::Caps::builder("audio/x-opus")
        .field("channel-mapping-family", 0)
        .field("channels", 2)
        .field("rate", 48_000)
        .build();
    let frame = |sound: &OpusPacket| EncodedFrame {
        kind: MediaKind::Audio,
        pts_us: sound.pts_us,
        dts_us: sound.pts_us,
        key: true,
        data: sound.data.clone(),
    };
    let frames: Vec<_> = heard.preview.iter().map(frame).collect();
    sound(&decode(&caps, &format!("opusdec ! {FLOATS}"), &frames))
}

const FLOATS: &str = "audioconvert ! audio/x-raw,format=F32LE,channels=2,layout=interleaved";

fn sound(pieces: &[(u64, Vec<u8>)]) -> Sound {
    let pts_us = pieces.first().expect("sound").0;
    let value = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().expect("four bytes"));
    let samples = pieces
        .iter()
        .flat_map(|(_, data)| data.chunks_exact(8).map(|frame| [value(&frame[..4]), value(&frame[4..])]))
        .collect();
    Sound { pts_us, samples }
}

fn decode(caps: &gst::Caps, chain: &str, frames: &[EncodedFrame]) -> Vec<(u64, Vec<u8>)> {
    let description = format!("appsrc name=in format=time max-bytes=0 ! {chain} ! appsink name=out sync=false");
    let pipeline = gst::parse::launch(&description).expect("plugins").downcast::<gst::Pipeline>().expect("a pipeline");
    let entry = pipeline.by_name("in").expect("in").downcast::<AppSrc>().expect("appsrc");
    let exit = pipeline.by_name("out").expect("out").downcast::<AppSink>().expect("appsink");
    entry.set_caps(Some(caps));
    pipeline.set_state(gst::State::Playing).expect("plays");
    for frame in frames {
        let mut buffer = gst::Buffer::from_slice(frame.data.clone());
        let writable = buffer.get_mut().expect("fresh");
        writable.set_pts(gst::ClockTime::from_useconds(frame.pts_us));
        entry.push_buffer(buffer).expect("taken");
    }
    entry.end_of_stream().expect("taken");
    let mut decoded = Vec::new();
    while let Ok(sample) = exit.pull_sample() {
        let buffer = sample.buffer().expect("decoded");
        let map = buffer.map_readable().expect("readable");
        decoded.push((buffer.pts().expect("a time").useconds(), map.as_slice().to_vec()));
    }
    pipeline.set_state(gst::State::Null).expect("stops");
    decoded
}

/// Level of a frequency in one channel, 1.0 for a full-scale sine; the mean over pieces of 50 ms, which forgive a glide in pitch.
pub(crate) fn level(samples: &[[f32; 2]], channel: usize, hertz: f64) -> f64 {
    let pieces: Vec<_> = samples.chunks(2400).filter(|piece| piece.len() > 200).collect();
    pieces.iter().map(|piece| goertzel(piece, channel, hertz)).sum::<f64>() / pieces.len() as f64
}

/// Goertzel's algorithm with a Hann window.
fn goertzel(samples: &[[f32; 2]], channel: usize, hertz: f64) -> f64 {
    let step = TAU * hertz / 48_000.0;
    let (mut last, mut before) = (0.0, 0.0);
    for (n, sample) in samples.iter().enumerate() {
        let window = 1.0 - (TAU * n as f64 / samples.len() as f64).cos();
        (last, before) = (window * f64::from(sample[channel]) + 2.0 * step.cos() * last - before, last);
    }
    let power = last * last + before * before - 2.0 * step.cos() * last * before;
    power.sqrt() * 2.0 / samples.len() as f64
}

/// The largest step between two samples of the left channel.
pub(crate) fn largest_step(samples: &[[f32; 2]]) -> f32 {
    samples.windows(2).map(|pair| (pair[1][0] - pair[0][0]).abs()).fold(0.0, f32::max)
}
