//! RTP and RTCP as they come out of SRTP, from somebody who was let in and lies.

use std::time::Duration;
use std::time::Instant;

use crate::domain::room::av1::Layering;
use crate::domain::room::forwarder::Forwarder;
use crate::domain::room::forwarder::Incoming;
use crate::domain::room::forwarder::Outgoing;
use crate::domain::room::keyframe::begins_keyframe;
use crate::domain::room::picture;
use crate::domain::room::picture::Numbers;
use crate::domain::room::picture::Shift;
use crate::domain::room::selector::Layers;
use crate::domain::room::selector::Part;
use crate::domain::room::window::Arrival;
use crate::domain::room::window::Window;
use crate::driver::rtc::bare;
use crate::hostile::tape::Tape;
use crate::mixer::bare::Track;
use crate::model::media::Codec;

const CODECS: [Codec; 5] = [Codec::Opus, Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1];

/// A payload: the first bytes decide how a depayloader reads the rest.
pub(super) fn payload(tape: &mut Tape<'_>, codec: Codec) -> Vec<u8> {
    let mut out = Vec::new();
    match codec {
        Codec::Opus => out.push(tape.byte()),
        Codec::Vp8 => {
            out.push(*[0x10, 0x90, 0x00, 0x80, 0x1f, 0xff].get(tape.below(7)).unwrap_or(&0x11));
            out.extend_from_slice(tape.bytes(6));
            if tape.flip() {
                // The start code and the 14-bit sizes of a keyframe (RFC 6386 section 9.1).
                out.extend_from_slice(&[0x10, 2, 0, 0x9d, 0x01, 0x2a]);
                out.extend_from_slice(&tape.u32().to_be_bytes());
            }
        }
        Codec::Vp9 => vp9(tape, &mut out),
        Codec::Av1 => av1(tape, &mut out),
        Codec::H264 => match tape.below(6) {
            0 => out.push(0x78),
            1 => out.extend_from_slice(&[0x7c, tape.byte()]),
            2 => out.extend_from_slice(&[0x67, 0x42, 0xe0, 0x1f]),
            3 => out.extend_from_slice(&[0x68, 0xce]),
            4 => out.extend_from_slice(&[0x65, 0x88]),
            _ => out.push(tape.byte()),
        },
    }
    if out.first() == Some(&0x78) {
        for _ in 0..tape.below(6) {
            let unit = tape.bytes(40);
            let lie = if tape.flip() { tape.u16() } else { unit.len() as u16 };
            out.extend_from_slice(&lie.to_be_bytes());
            out.extend_from_slice(unit);
        }
    }
    out.extend_from_slice(tape.bytes(300));
    out
}

/// A descriptor as a sender of layers makes it, with any of its parts lying (RFC 9628 section 4.2), and maybe a keyframe's first bytes.
fn vp9(tape: &mut Tape<'_>, out: &mut Vec<u8>) {
    let flags = [0xa8, 0x88, 0xac, 0xec, 0xad, 0xaa, 0xb8, 0xf4, tape.byte()][tape.below(9)];
    out.extend_from_slice(&[flags, tape.byte()]);
    if out[1] & 0x80 != 0 {
        out.push(tape.byte());
    }
    if flags & 0x20 != 0 {
        // Three layers of each kind, or anything.
        let layer = tape.byte();
        out.push(if layer < 200 { (layer % 3) << 5 | layer & 0x11 | (layer / 3 % 3) << 1 } else { layer });
        out.push(tape.byte());
    }
    if flags & 2 != 0 {
        out.push([0x58, 0x10, 0xf8, tape.byte()][tape.below(4)]);
        for _ in 0..=out[out.len() - 1] >> 5 {
            out.extend_from_slice(&tape.u32().to_be_bytes());
        }
        out.extend_from_slice(tape.bytes(8));
    }
    if tape.flip() {
        // Frame marker, profile 0, a shown keyframe, and its sync code.
        out.extend_from_slice(&[0x82, 0x49, 0x83, 0x42]);
    }
}

/// An aggregation header, and OBUs whose types, layers and lengths may be anything (RTP Payload Format For AV1 section 4).
fn av1(tape: &mut Tape<'_>, out: &mut Vec<u8>) {
    let header = [0x18, 0x28, 0x10, 0x50, 0x90, 0xd0, 0x08, tape.byte()][tape.below(8)];
    out.push(header);
    for _ in 0..tape.below(4) {
        let kind = [0x0a, 0x08, 0x30, 0x34, 0x36, 0x12, tape.byte()][tape.below(7)];
        let obu = tape.bytes(40);
        out.push(if tape.byte() < 32 { tape.byte() } else { (obu.len() + 1) as u8 });
        out.push(kind);
        out.extend_from_slice(obu);
    }
}

/// A packet whose header may lie about what follows it (RFC 3550 section 5.1).
pub(super) fn packet(tape: &mut Tape<'_>, codec: Codec, payload_type: u8) -> Vec<u8> {
    let shape = tape.byte();
    let is_odd = shape >= 224;
    let mut out = vec![if is_odd { tape.byte() } else { 0x80 }, payload_type | (shape & 1) << 7];
    out.extend_from_slice(&tape.u16().to_be_bytes());
    out.extend_from_slice(&tape.u32().to_be_bytes());
    out.extend_from_slice(&(1 + tape.u32() % 3).to_be_bytes());
    if is_odd {
        for _ in 0..tape.below(16) {
            out.extend_from_slice(&tape.u32().to_be_bytes());
        }
        if out[0] & 0x10 != 0 {
            let profile = [0xbede, 0x1000, 0x100f, tape.u16()][tape.below(4)];
            out.extend_from_slice(&profile.to_be_bytes());
            out.extend_from_slice(&(tape.below(20) as u16).to_be_bytes());
        }
    }
    out.extend(payload(tape, codec));
    if is_odd {
        let keep = tape.below(out.len() + 1);
        out.truncate(keep.max(1));
    }
    out
}

/// A compound whose packets may lie about their type, count and length (RFC 3550 section 6.1, RFC 4585 section 6.1).
fn compound(tape: &mut Tape<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..1 + tape.below(6) {
        // SR, RR, SDES, BYE, APP, transport feedback, payload feedback, XR.
        let kind = [200, 201, 202, 203, 204, 205, 205, 206, 206, 207, tape.byte()][tape.below(11)];
        let count = [0, 1, 2, 4, 11, 15, 31, tape.byte() & 31][tape.below(8)];
        let body = tape.bytes(80);
        let lie = if tape.byte() < 32 { tape.u16() } else { (body.len() / 4) as u16 };
        out.push(if tape.byte() < 8 { tape.byte() } else { 0x80 | count });
        out.push(kind);
        out.extend_from_slice(&lie.to_be_bytes());
        out.extend_from_slice(body);
        if tape.byte() > 16 {
            out.truncate(out.len() - body.len() % 4);
        }
    }
    out
}

/// RTP: read, numbered, searched for keyframes, put in order and in time as the SFU and the mixer do it.
///
/// # Panics
/// It does not.
pub fn rtp(bytes: &[u8]) {
    let mut tape = Tape::new(bytes);
    let codec = CODECS[tape.below(5)];
    let mut now = Instant::now();
    let (mut window, mut forwarder) = (Window::default(), Forwarder::new(codec.clock_rate()));
    let mut track = Track::new(codec);
    let mut layering = Layering::default();
    let mut arrival_us = 1_000_000;
    while !tape.is_over() {
        let sent = packet(&mut tape, codec, Track::PAYLOAD_TYPE);
        let passed = Duration::from_micros(tape.u16().into()) * if tape.byte() == 0 { 1000 } else { 1 };
        now += passed;
        arrival_us += passed.as_micros() as u64;
        if tape.byte() < 8 {
            track.sender_report(u64::from(tape.u32()) << 32 | u64::from(tape.u32()), tape.u32());
        }
        track.packet(arrival_us, &sent);
        track.advance(arrival_us);
        let Some(media) = bare::Media::read(&sent) else { continue };
        let incoming = Incoming {
            ssrc: media.ssrc(),
            seq: media.seq(),
            timestamp: media.timestamp(),
            key: begins_keyframe(codec, media.payload()),
            numbers: Numbers::of(codec, media.payload()),
            frame: picture::frame(codec, &mut layering, media.seq(), media.payload()),
            elsewhere: [None; 2],
        };
        picture::size(codec, media.payload());
        if tape.byte() < 16 {
            forwarder.want(Layers { spatial: tape.byte() % 4, temporal: tape.byte() % 4 });
        }
        let (seq, timestamp) = (media.seq(), media.timestamp());
        let as_it_came = Outgoing { seq, timestamp, shift: Shift::default(), part: Part::Whole };
        let fresh = (window.note(incoming.seq) == Arrival::Fresh).then(|| forwarder.forward(now, &incoming)).flatten();
        let out = fresh.unwrap_or(as_it_came);
        let wire = media.to_bytes(codec, out).expect("what was read can be written");
        let again = bare::Media::read(&wire).expect("what was written can be read");
        let length = if out.part == Part::Number { 0 } else { media.payload().len() };
        assert_eq!((again.seq(), again.payload().len()), (out.seq, length));
        track.packet(arrival_us, &wire);
    }
}

/// RTCP: parsed, and sifted for what the SFU acts on.
///
/// # Panics
/// It does not.
pub fn rtcp(bytes: &[u8]) {
    let mut tape = Tape::new(bytes);
    while !tape.is_over() {
        let sent = compound(&mut tape);
        let passed = bare::sift(&sent);
        assert!(passed <= sent.len() / 4, "{passed} packets of {} bytes", sent.len());
    }
}

/// Payloads through the mixer's real depayloaders and decoders: an error of theirs at most.
///
/// # Panics
/// It does not.
pub fn depayload(bytes: &[u8]) {
    let mut tape = Tape::new(bytes);
    let codec = CODECS[tape.below(5)];
    let mut packets = Vec::new();
    while !tape.is_over() {
        packets.push(packet(&mut tape, codec, Track::PAYLOAD_TYPE));
    }
    crate::mixer::bare::decode(codec, packets).expect("the pipeline can be built and stopped");
}
