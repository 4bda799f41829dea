//! Participants: pictures and sound encoded beforehand into RTP packets, sent in real time over a network with a delay.

use std::f32::consts::TAU;

use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use gstreamer_app::AppSrc;
use jamcast::model::id::TrackId;
use jamcast::model::media::Codec;
use jamcast::model::scene::SourceTrack;
use jamcast::proto::mixer::Control;
use jamcast::proto::mixer::TappedPacket;
use jamcast::proto::mixer::ToMixer;

use crate::gateway::Gateway;
use crate::gateway::now_us;
use crate::gateway::wait_until_us;

/// A colour as Y, U, V.
pub(crate) type Colour = [u8; 3];

pub(crate) const RED: Colour = [81, 90, 240];
pub(crate) const GREEN: Colour = [145, 54, 34];
pub(crate) const BLUE: Colour = [41, 240, 110];
pub(crate) const WHITE: Colour = [235, 128, 128];
pub(crate) const BLACK: Colour = [16, 128, 128];

const FPS: u64 = 30;
/// Of each track, so that both soon wrap.
const FIRST_TIMESTAMP: u32 = 4_294_900_000;
const FIRST_NUMBER: u16 = 65_500;

/// One track, encoded.
#[derive(Clone)]
pub(crate) struct Track {
    pub(crate) number: u32,
    pub(crate) codec: Codec,
    payload_type: u8,
    /// Media time in nanoseconds, and the packet.
    pub(crate) packets: Vec<(u64, Bytes)>,
    /// Between sending and arriving, microseconds.
    pub(crate) network_us: u64,
    /// Whether sender reports are sent once a second.
    pub(crate) reports: bool,
}

impl Track {
    /// The same with an empty packet behind each picture, as browsers send them to see how much fits.
    pub(crate) fn with_probes(mut self) -> Self {
        let mut probes: u16 = 0;
        let mut packets = Vec::with_capacity(2 * self.packets.len());
        for (at, packet) in self.packets {
            let number = u16::from_be_bytes([packet[2], packet[3]]).wrapping_add(probes);
            let numbered = [&packet[..2], &number.to_be_bytes(), &packet[4..]].concat();
            let ends = packet[1] & 0x80 != 0;
            let probe = [&[0x80, packet[1] & 0x7f], &number.wrapping_add(1).to_be_bytes()[..], &packet[4..12]].concat();
            packets.push((at, Bytes::from(numbered)));
            if ends {
                packets.push((at, Bytes::from(probe)));
                probes = probes.wrapping_add(1);
            }
        }
        self.packets = packets;
        self
    }

    pub(crate) fn wanted(&self) -> SourceTrack {
        SourceTrack { track: TrackId(self.number), codec: self.codec, payload_type: self.payload_type }
    }
}

const H264: &str = "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 bitrate=500 ! \
                    video/x-h264,profile=constrained-baseline ! rtph264pay config-interval=-1";

/// This GStreamer puts no AV1 into RTP; [`av1_packets`] does.
const AV1: &str = "av1enc cpu-used=10 usage-profile=realtime keyframe-max-dist=15 target-bitrate=500 ! av1parse ! \
                   video/x-av1,stream-format=obu-stream,alignment=tu";

/// Pictures of one colour each, `colour(n)` for the n-th.
pub(crate) fn video(number: u32, codec: Codec, size: [usize; 2], ms: u64, colour: impl Fn(u64) -> Colour) -> Track {
    let encoder = match codec {
        Codec::Vp8 => "vp8enc deadline=1 keyframe-max-dist=15 target-bitrate=500000 ! rtpvp8pay picture-id-mode=15-bit",
        Codec::Vp9 => {
            "vp9enc deadline=1 cpu-used=8 keyframe-max-dist=15 target-bitrate=500000 ! rtpvp9pay picture-id-mode=15-bit"
        }
        Codec::H264 => H264,
        Codec::Av1 => AV1,
        Codec::Opus => panic!("not a video codec"),
    };
    pictures(number, codec, "colorimetry=bt601,interlace-mode=progressive", encoder, size, ms, colour)
}

/// The same in VP9 as one stream of two sizes, of which the larger is twice as wide and high and has a colour of its own. Each picture is
/// a keyframe, so that the two can be encoded apart.
pub(crate) fn layered_video(number: u32, size: [usize; 2], ms: u64, small: Colour, large: Colour) -> Track {
    let encoder =
        "vp9enc deadline=1 cpu-used=8 keyframe-max-dist=1 target-bitrate=500000 ! rtpvp9pay picture-id-mode=15-bit";
    let said = "colorimetry=bt601,interlace-mode=progressive";
    let large = pictures(number, Codec::Vp9, said, encoder, size.map(|pixels| 2 * pixels), ms, |_| large);
    let mut track = pictures(number, Codec::Vp9, said, encoder, size, ms, |_| small);
    let mut packets: Vec<_> = [(0_u8, &track), (1, &large)]
        .into_iter()
        .flat_map(|(layer, of)| of.packets.iter().map(move |(at, packet)| (*at, layer, packet.clone())))
        .collect();
    packets.sort_by_key(|(at, layer, _)| (*at, *layer));
    let last = packets.len() - 1;
    let is_last = |index: usize| index == last || packets[index].0 != packets[index + 1].0;
    let layered = packets.iter().enumerate().map(|(index, (at, layer, packet))| {
        let seq = FIRST_NUMBER.wrapping_add(index as u16);
        (*at, in_layer(packet, *layer, seq, is_last(index)))
    });
    track.packets = layered.collect();
    track
}

/// A packet of a keyframe of `rtpvp9pay`, as one of a layer that no other builds on (RFC 9628 section 4.2).
fn in_layer(packet: &[u8], layer: u8, seq: u16, is_last: bool) -> Bytes {
    let (header, payload) = packet.split_at(12);
    let (begins, ends, has_structure) = (payload[0] & 8, payload[0] & 4, payload[0] & 2 != 0);
    assert_eq!(payload[0] & 0x31, 0, "a picture number, maybe a structure, and nothing else");
    let mut body = &payload[3..];
    if has_structure {
        let sizes = if body[0] & 0x10 != 0 { 4 } else { 0 };
        assert_eq!(body[0] >> 5, 0, "of one layer");
        let group = if body[0] & 8 != 0 {
            let pictures = usize::from(body[1 + sizes]);
            (0..pictures).fold(1, |at, _| at + 1 + usize::from(body[1 + sizes + at] >> 2 & 3))
        } else {
            0
        };
        body = &body[1 + sizes + group..];
    }
    let mut out = header.to_vec();
    out[1] = out[1] & 0x7f | u8::from(is_last) << 7;
    out[2..4].copy_from_slice(&seq.to_be_bytes());
    // A picture number of 15 bits, layers, and nobody who builds on this one; of temporal layer 0, from which one may switch up.
    out.extend_from_slice(&[0xa1 | begins | ends, payload[1], payload[2], 0x10 | layer << 1, 0]);
    out.extend_from_slice(body);
    out.into()
}

/// The same in H.264 that says of itself to have the colours of BT.709, as cameras of HD have them.
pub(crate) fn video_of_bt709(number: u32, size: [usize; 2], ms: u64, colour: impl Fn(u64) -> Colour) -> Track {
    pictures(number, Codec::H264, "colorimetry=bt709,interlace-mode=progressive", H264, size, ms, colour)
}

/// The same from an interlaced camera, as old capture cards send it.
pub(crate) fn interlaced_video(number: u32, size: [usize; 2], ms: u64, colour: impl Fn(u64) -> Colour) -> Track {
    let encoder = "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 bitrate=500 interlaced=true ! \
                   rtph264pay config-interval=-1";
    pictures(number, Codec::H264, "colorimetry=bt601,interlace-mode=interleaved", encoder, size, ms, colour)
}

fn pictures(
    number: u32,
    codec: Codec,
    said: &str,
    encoder: &str,
    size: [usize; 2],
    ms: u64,
    colour: impl Fn(u64) -> Colour,
) -> Track {
    let [width, height] = size;
    let caps = format!("video/x-raw,format=I420,width={width},height={height},framerate={FPS}/1,{said}");
    let pictures = (0..ms * FPS / 1000).map(|n| {
        let [y, u, v] = colour(n);
        let mut picture = vec![y; width * height];
        picture.resize(width * height * 5 / 4, u);
        picture.resize(width * height * 3 / 2, v);
        (n * 1_000_000_000 / FPS, picture)
    });
    encode(number, codec, 96, &caps, encoder, pictures)
}

/// Sound, `sample(n)` for the n-th sample at 48 kHz.
pub(crate) fn audio(number: u32, ms: u64, sample: impl Fn(u64) -> [f32; 2]) -> Track {
    let pieces = (0..ms / 20).map(|piece| {
        let values = (piece * 960..(piece + 1) * 960).flat_map(&sample);
        (piece * 20_000_000, values.flat_map(f32::to_le_bytes).collect())
    });
    let encoder = "audioconvert ! opusenc bitrate=128000 ! rtpopuspay";
    encode(
        number,
        Codec::Opus,
        111,
        "audio/x-raw,format=F32LE,rate=48000,channels=2,layout=interleaved",
        encoder,
        pieces,
    )
}

/// A sine of `hertz` at `level` on both channels.
pub(crate) fn tone(hertz: f32, level: [f32; 2]) -> impl Fn(u64) -> [f32; 2] {
    move |n| {
        let value = (n as f32 / 48_000.0 * hertz % 1.0 * TAU).sin();
        [value * level[0], value * level[1]]
    }
}

fn encode(
    number: u32,
    codec: Codec,
    payload_type: u8,
    caps: &str,
    encoder: &str,
    pieces: impl Iterator<Item = (u64, Vec<u8>)>,
) -> Track {
    gst::init().expect("GStreamer");
    let numbers = if codec == Codec::Av1 {
        String::new()
    } else {
        format!("pt={payload_type} timestamp-offset={FIRST_TIMESTAMP} seqnum-offset={FIRST_NUMBER}")
    };
    let description = format!(
        "appsrc name=in format=time max-bytes=0 caps=\"{caps}\" ! {encoder} {numbers} ! appsink name=out sync=false"
    );
    let pipeline = gst::parse::launch(&description).expect("plugins").downcast::<gst::Pipeline>().expect("a pipeline");
    let entry = pipeline.by_name("in").expect("in").downcast::<AppSrc>().expect("appsrc");
    let exit = pipeline.by_name("out").expect("out").downcast::<AppSink>().expect("appsink");
    pipeline.set_state(gst::State::Playing).expect("plays");
    for (pts, bytes) in pieces {
        let mut buffer = gst::Buffer::from_mut_slice(bytes);
        let writable = buffer.get_mut().expect("fresh");
        writable.set_pts(gst::ClockTime::from_nseconds(pts));
        entry.push_buffer(buffer).expect("taken");
    }
    entry.end_of_stream().expect("taken");
    let mut packets = Vec::new();
    while let Ok(sample) = exit.pull_sample() {
        let buffer = sample.buffer().expect("a packet");
        // x264enc moves its times by 1000 hours and says so in the segment only.
        let segment = sample.segment().and_then(|segment| segment.downcast_ref::<gst::ClockTime>()).expect("a segment");
        let sent = segment.to_running_time(buffer.pts()).expect("a time").nseconds();
        let map = buffer.map_readable().expect("readable");
        packets.push((sent, Bytes::copy_from_slice(map.as_slice())));
    }
    pipeline.set_state(gst::State::Null).expect("stops");
    assert!(!packets.is_empty());
    if codec == Codec::Av1 {
        packets = av1_packets(payload_type, &packets);
    }
    Track { number, codec, payload_type, packets, network_us: 5_000, reports: true }
}

/// Temporal units in RTP, an OBU after the other ("RTP Payload Format For AV1" section 4).
fn av1_packets(payload_type: u8, units: &[(u64, Bytes)]) -> Vec<(u64, Bytes)> {
    const DELIMITER: u8 = 2;
    const SEQUENCE_HEADER: u8 = 1;
    let mut packets: Vec<(u64, Bytes)> = Vec::new();
    for (at, unit) in units {
        let mut obus: Vec<Vec<u8>> = Vec::new();
        let mut rest = &unit[..];
        while let [header, behind @ ..] = rest {
            assert_eq!(header & 6, 2, "each has a size, and no layer");
            let mut length = 0;
            let size_bytes = 1 + behind.iter().take_while(|byte| **byte & 0x80 != 0).count();
            for (n, byte) in behind[..size_bytes].iter().enumerate() {
                length |= usize::from(byte & 0x7f) << (7 * n);
            }
            let body = &behind[size_bytes..size_bytes + length];
            if header >> 3 != DELIMITER {
                obus.push([&[header & !2], body].concat());
            }
            rest = &behind[size_bytes + length..];
        }
        let begins = obus.iter().any(|obu| obu[0] >> 3 == SEQUENCE_HEADER);
        let pieces: Vec<(bool, bool, &[u8])> = obus
            .iter()
            .flat_map(|obu| {
                let count = obu.len().div_ceil(1000);
                obu.chunks(1000).enumerate().map(move |(n, piece)| (n > 0, n + 1 < count, piece))
            })
            .collect();
        let timestamp = FIRST_TIMESTAMP.wrapping_add((at * 90_000 / 1_000_000_000) as u32);
        for (n, (continues, is_continued, piece)) in pieces.iter().enumerate() {
            let marker = u8::from(n + 1 == pieces.len()) << 7;
            let mut packet = vec![0x80, payload_type | marker];
            packet.extend(FIRST_NUMBER.wrapping_add(packets.len() as u16).to_be_bytes());
            packet.extend(timestamp.to_be_bytes());
            packet.extend([0, 0, 0, 1]);
            let flags = u8::from(*continues) << 7 | u8::from(*is_continued) << 6 | u8::from(begins && n == 0) << 3;
            packet.push(flags | 0x10);
            packet.extend_from_slice(piece);
            packets.push((*at, packet.into()));
        }
    }
    packets
}

/// Sends tracks in real time, media time zero at the call, up to media time `ms`; packets that `lost` names never arrive.
pub(crate) fn play(gateway: &mut Gateway, tracks: &[&Track], ms: u64, lost: impl FnMut(&Track, usize) -> bool) {
    play_to_all(&mut [gateway], tracks, ms, lost);
}

/// The same to several mixers at once.
pub(crate) fn play_to_all(
    gateways: &mut [&mut Gateway],
    tracks: &[&Track],
    ms: u64,
    mut lost: impl FnMut(&Track, usize) -> bool,
) {
    let start = now_us();
    let mut mail = Vec::new();
    for track in tracks {
        let rate = u64::from(track.codec.clock_rate());
        for (index, (pts, packet)) in track.packets.iter().enumerate() {
            if *pts < ms * 1_000_000 && !lost(track, index) {
                let arrival_us = start + pts / 1000 + track.network_us;
                let tapped = TappedPacket { track: TrackId(track.number), arrival_us, packet: packet.clone() };
                mail.push((arrival_us, ToMixer::Rtp(tapped)));
            }
        }
        for second in (0..ms.div_ceil(1000)).filter(|_| track.reports) {
            let report = Control::SenderReport {
                track: TrackId(track.number),
                ntp: (3_900_000_000 + second) << 32,
                rtp: FIRST_TIMESTAMP.wrapping_add((second * rate) as u32),
            };
            mail.push((start + second * 1_000_000, ToMixer::Control(report)));
        }
    }
    mail.sort_by_key(|(at, _)| *at);
    for (at, message) in mail {
        wait_until_us(at);
        gateways.iter_mut().for_each(|gateway| gateway.send(&message));
    }
}

/// Sends the next `ms` of these tracks, which go on where they were.
pub(crate) fn play_on(gateway: &mut Gateway, rests: &mut [Track], ms: u64) {
    let mut now = rests.to_vec();
    for (now, rest) in now.iter_mut().zip(rests.iter_mut()) {
        let first = now.packets.first().expect("not over yet").0;
        now.packets.retain(|(pts, _)| pts - first < ms * 1_000_000);
        rest.packets.drain(..now.packets.len());
        // Only the times of sending count: the packets carry their own RTP times.
        now.packets.iter_mut().for_each(|(pts, _)| *pts -= first);
        now.reports = false;
    }
    play(gateway, &now.iter().collect::<Vec<_>>(), ms, |_, _| false);
}
