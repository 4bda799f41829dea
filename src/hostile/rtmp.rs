//! RTMP from strangers: publishers to our ingest and servers that we publish to; and AMF0, the values inside.

use std::time::Duration;
use std::time::Instant;

use crate::hostile::tape::Tape;
use crate::model::spec::ProgrammeSpec;
use crate::proto::amf;
use crate::proto::amf::Value;
use crate::proto::flv::Tag;
use crate::proto::rtmp::publisher;
use crate::proto::rtmp::publisher::Publisher;
use crate::proto::rtmp::receiver;
use crate::proto::rtmp::receiver::Receiver;
use crate::proto::rtmp::url;

const NAMES: &[&str] = &[
    "connect",
    "createStream",
    "publish",
    "releaseStream",
    "FCPublish",
    "FCUnpublish",
    "deleteStream",
    "_result",
    "_error",
    "onStatus",
    "close",
    "@setDataFrame",
    "onMetaData",
    "x",
];
const CODES: &[&str] = &[
    "NetConnection.Connect.Success",
    "NetStream.Publish.Start",
    "NetStream.Publish.BadName",
    "NetStream.Unpublish.Success",
    "x",
];
/// The longest message our receiver takes here, in bytes.
const MAX_MESSAGE: usize = 4096;
/// A reply is at most this much longer than the bytes that asked for it.
const MOST_REPLIED: usize = 64;

fn value(tape: &mut Tape<'_>, depth: usize) -> Value {
    match tape.below(if depth < 20 { 9 } else { 5 }) {
        0 => Value::Number(f64::from(tape.byte())),
        1 => Value::Null,
        2 => Value::string(tape.pick(CODES)),
        3 => Value::Boolean(tape.flip()),
        4 => Value::String(tape.text(20)),
        5 => Value::Array((0..tape.below(4)).map(|_| value(tape, depth + 1)).collect()),
        6 => Value::EcmaArray(members(tape, depth)),
        _ => Value::Object(members(tape, depth)),
    }
}

fn members(tape: &mut Tape<'_>, depth: usize) -> Vec<(String, Value)> {
    let names = ["app", "code", "level", "description", ""];
    (0..tape.below(4)).map(|_| (tape.pick(&names).to_owned(), value(tape, depth + 1))).collect()
}

fn command(tape: &mut Tape<'_>) -> Vec<u8> {
    let mut values = vec![Value::string(tape.pick(NAMES)), Value::Number(f64::from(tape.byte() % 8))];
    if tape.flip() {
        values.push(Value::Object(vec![("app".to_owned(), Value::string("live"))]));
    }
    values.extend((0..tape.below(4)).map(|_| value(tape, 0)));
    let mut bytes = amf::encode(&values).to_vec();
    if tape.byte() < 32 {
        bytes.truncate(tape.below(bytes.len() + 1));
        bytes.extend_from_slice(tape.bytes(20));
    }
    bytes
}

/// One chunk (section 5.3.1): its header may lie about format, stream, length and time.
fn chunk(tape: &mut Tape<'_>) -> Vec<u8> {
    let kind = [1, 2, 3, 4, 5, 6, 8, 9, 17, 18, 20, 20, 20, tape.byte()][tape.below(14)];
    let body = if kind == 20 || kind == 18 { command(tape) } else { tape.bytes(300).to_vec() };
    let format = if tape.byte() < 48 { tape.byte() & 3 } else { 0 };
    let id = if tape.byte() < 16 { tape.byte() & 0x3f } else { 3 };
    let mut out = vec![format << 6 | id];
    if id < 2 {
        out.extend_from_slice(tape.slice(usize::from(id) + 1));
    }
    let time: u32 = if tape.byte() < 16 { 0x00ff_ffff } else { tape.u16().into() };
    let length = if tape.byte() < 16 { tape.u32() & 0x00ff_ffff } else { body.len() as u32 };
    if format < 3 {
        out.extend_from_slice(&time.to_be_bytes()[1..]);
    }
    if format < 2 {
        out.extend_from_slice(&length.to_be_bytes()[1..]);
        out.push(kind);
    }
    if format < 1 {
        out.extend_from_slice(&[1, 0, 0, 0]);
    }
    if time == 0x00ff_ffff {
        out.extend_from_slice(&tape.u32().to_be_bytes());
    }
    for (index, piece) in body.chunks(128).enumerate() {
        if index > 0 {
            out.push(0xc0 | id);
        }
        out.extend_from_slice(piece);
    }
    out
}

/// Everything a peer sends after the handshake, which begins right and is cut at will.
fn conversation(tape: &mut Tape<'_>) -> Vec<Vec<u8>> {
    // C0 or S0 is the version; C1 to S2 are 1536 bytes each whose content a plain handshake does not check (section 5.2).
    let mut hello = vec![0; 1 + 2 * 1536];
    hello[0] = if tape.byte() < 4 { tape.byte() } else { 3 };
    let mut pieces = vec![hello];
    while !tape.is_over() {
        pieces.push(if tape.byte() < 8 { tape.bytes(400).to_vec() } else { chunk(tape) });
    }
    pieces
}

/// A publisher at our ingest, and a server that our publisher calls: both machines answer in proportion.
///
/// # Panics
/// It does not.
pub fn rtmp(bytes: &[u8]) {
    let mut tape = Tape::new(bytes);
    let as_server = tape.flip();
    let pieces = conversation(&mut tape);
    if as_server { serve(&pieces) } else { publish(&pieces) }
}

fn serve(pieces: &[Vec<u8>]) {
    let mut ours = Receiver::new("live".to_owned(), MAX_MESSAGE);
    let (mut heard, mut said) = (0, 2 * 1537);
    for piece in pieces {
        if ours.handle(piece).is_err() {
            break;
        }
        heard += piece.len();
        while let Some(output) = ours.poll_output() {
            match output {
                receiver::Output::Send(bytes) => said += bytes.len(),
                receiver::Output::Event(receiver::Event::Publish { key }) => {
                    if key.is_empty() {
                        ours.refuse()
                    } else {
                        ours.accept()
                    }
                }
                receiver::Output::Event(receiver::Event::Tag(tag)) => file(&tag),
                receiver::Output::Event(receiver::Event::Finished) => {}
            }
        }
        assert!(said <= 8192 + heard * MOST_REPLIED, "{said} bytes in answer to {heard}");
    }
}

fn file(tag: &Tag) {
    let mut out = Vec::new();
    tag.write(&mut out);
    assert_eq!(out.len(), 11 + tag.body.len() + 4);
}

fn publish(pieces: &[Vec<u8>]) {
    let mut now = Instant::now();
    let (endpoint, key) = url::parse("rtmp://192.0.2.1/live/key", None).expect("a URL with its key");
    let mut ours = Publisher::new(now, endpoint, key, ProgrammeSpec::default());
    for piece in pieces {
        ours.handle(now, publisher::Input::Received(piece));
        let said: usize = std::iter::from_fn(|| ours.poll_output())
            .map(|output| if let publisher::Output::Send(bytes) = output { bytes.len() } else { 0 })
            .sum();
        assert!(said <= 16_384 + piece.len() * MOST_REPLIED, "{said} bytes in answer to {}", piece.len());
        now += Duration::from_millis(10);
    }
    ours.handle(now, publisher::Input::Close);
}

/// AMF0: what is understood survives being written and read again.
///
/// # Panics
/// It does not.
pub fn amf(bytes: &[u8]) {
    let mut tape = Tape::new(bytes);
    let message = if tape.flip() { command(&mut tape) } else { tape.slice(usize::MAX).to_vec() };
    let Ok(values) = amf::decode(&message) else { return };
    let written = amf::encode(&values);
    let again = amf::decode(&written).expect("our own words");
    assert_eq!(amf::encode(&again), written);
}
