//! The mixer protocol: two processes of ours, one of which was taken over by what it decodes.

use bytes::BufMut;
use bytes::BytesMut;

use crate::hostile::tape::Tape;
use crate::proto::mixer::FromMixer;
use crate::proto::mixer::MAX_MESSAGE;
use crate::proto::mixer::ToMixer;

const WORDS: &[&str] = &[
    r#"{"type":"playing"}"#,
    r#"{"type":"force_keyframe"}"#,
    r#"{"type":"finish"}"#,
    r#"{"type":"finished"}"#,
    r#"{"type":"set_bitrate","video_kbps":-1}"#,
    r#"{"type":"sender_report","track":1,"ntp":18446744073709551615,"rtp":4294967295}"#,
    r#"{"type":"keyframe_wanted","track":4294967295}"#,
    r#"{"type":"failed","reason":"\u0000"}"#,
    r#"{"type":"source","source":1,"kind":"video","state":{"state":"live"}}"#,
    r#"{"type":"scene","scene":{}}"#,
    "{}",
    "null",
    "[[[[",
];

fn message(tape: &mut Tape<'_>, out: &mut BytesMut) {
    let kind = if tape.byte() < 16 { tape.byte() } else { tape.byte() & 3 };
    let body = if kind == 0 && tape.flip() { tape.pick(WORDS).as_bytes() } else { tape.bytes(60) };
    let lie = if tape.byte() < 16 { tape.u32() } else { body.len() as u32 + 1 };
    out.put_u32_le(lie);
    out.put_u8(kind);
    out.put_slice(body);
}

/// Messages in both directions, cut anywhere: read whole or refused, and what is read can be said again.
///
/// # Panics
/// It does not.
pub fn mixer(bytes: &[u8]) {
    let mut tape = Tape::new(bytes);
    let (mut down, mut up) = (BytesMut::new(), BytesMut::new());
    while !tape.is_over() {
        let mut said = BytesMut::new();
        message(&mut tape, &mut said);
        let cut = said.len() - tape.below(2) * tape.below(said.len());
        down.extend_from_slice(&said[..cut]);
        up.extend_from_slice(&said[..cut]);
        while let Ok(Some(heard)) = ToMixer::decode(&mut down) {
            let mut again = BytesMut::new();
            heard.encode(&mut again);
            assert_eq!(ToMixer::decode(&mut again).expect("our own words"), Some(heard));
        }
        while let Ok(Some(heard)) = FromMixer::decode(&mut up) {
            let mut again = BytesMut::new();
            heard.encode(&mut again);
            assert_eq!(FromMixer::decode(&mut again).expect("our own words"), Some(heard));
        }
        assert!(down.len() <= MAX_MESSAGE + 4 && up.len() <= MAX_MESSAGE + 4);
    }
}
