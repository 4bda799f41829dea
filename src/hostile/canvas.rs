//! The canvas relay: messages that are nearly right, cut and lying, and a sender that heeds no credit.

use std::time::Duration;
use std::time::Instant;

use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;

use crate::domain::canvas::CREDITS;
use crate::domain::canvas::Feed;
use crate::domain::canvas::Output;
use crate::hostile::tape::Tape;
use crate::proto::canvas::Frames;
use crate::proto::canvas::MOST_FRAMES;
use crate::proto::canvas::MOST_PIXELS;

/// The first bytes of each format, in the order of their numbers.
const BEGINNINGS: [&[u8]; 6] = [
    &[0, 0, 0, 1, 0x67, 0x42],
    &[0x10, 0, 0, 0x9d, 0x01, 0x2a, 32, 0, 32, 0],
    &[0xff, 0xd8, 0xff, 0xc0, 0, 17, 8, 0, 32, 0, 32, 3],
    b"RIFF\x20\0\0\0WEBPVP8L\x10\0\0\0\x2f\x1f\xc0\x07\0",
    b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x20\0\0\0\x20",
    &[0; 16],
];

fn message(tape: &mut Tape<'_>) -> Bytes {
    let mut out = BytesMut::new();
    for _ in 0..=tape.below(MOST_FRAMES + 2) {
        let format = tape.below(6);
        let mut data = BEGINNINGS[format].to_vec();
        data.extend_from_slice(tape.bytes(40));
        out.put_u8(if tape.byte() < 8 { tape.byte() } else { 1 });
        out.put_u8(if tape.byte() < 8 { tape.byte() } else { format as u8 + 1 });
        out.put_u8(tape.byte() & 1);
        out.put_u8(0);
        let side = |tape: &mut Tape<'_>| if tape.byte() < 32 { tape.u16() } else { 32 };
        out.put_u16(side(tape));
        out.put_u16(side(tape));
        out.put_u64(u64::from(tape.u32()) << (tape.byte() & 31));
        out.put_u32(if tape.byte() < 16 { tape.u32() } else { data.len() as u32 });
        out.put_slice(&data);
    }
    if tape.flip() {
        out.truncate(tape.below(out.len() + 1));
    }
    out.freeze()
}

/// Frames are refused or as small as promised, and no more of them are on their way than there are credits.
///
/// # Panics
/// It does not.
pub fn canvas(bytes: &[u8]) {
    let mut tape = Tape::new(bytes);
    let mut now = Instant::now();
    let mut feed = Feed::new(now);
    let (mut granted, mut underway) = (0_u32, 0_u32);
    while !tape.is_over() {
        match tape.below(8) {
            0 => feed.watch(now, tape.flip()),
            1 => {
                now += Duration::from_millis(u64::from(tape.u16()));
                feed.handle_timeout(now);
            }
            2 if underway > 0 => {
                feed.returned();
                underway -= 1;
            }
            3 => feed.want_keyframe(now),
            _ => {
                for frame in Frames::new(message(&mut tape)).flatten() {
                    assert!(u32::from(frame.width) * u32::from(frame.height) <= MOST_PIXELS);
                    underway += u32::from(feed.frame(now, &frame).is_ok());
                }
            }
        }
        while let Some(output) = feed.poll_output() {
            match output {
                Output::Credit(frames) => granted = granted.saturating_add(frames),
                Output::Pace(pace) => assert!(pace.fps <= 30 && (0.25..=1.0).contains(&pace.scale)),
                Output::Keyframe => {}
            }
        }
        assert!(underway <= CREDITS && underway <= granted, "{underway} frames on their way");
    }
}
