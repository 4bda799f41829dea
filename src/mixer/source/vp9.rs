//! How large a VP9 stream becomes, looked at before its decoder makes room for it.

use crate::mixer::MOST_PIXELS;
use crate::mixer::source::packet::payload;
use crate::model::bits::Bits;

/// Whether an RTP packet begins a frame that is wider or higher than the mixer takes.
///
/// Other depayloaders say the size of what comes, and their pipelines refuse it. That of VP9 says what the sender tells beside the frame,
/// which need not be true. A frame that hides behind another in one packet is not looked at: for that the decoder has its own limit, and
/// the mixer's process its own memory.
pub(in crate::mixer) fn is_too_large(packet: &[u8]) -> bool {
    payload(packet).and_then(frame).and_then(size).is_some_and(|[width, height]| width.max(height) > MOST_PIXELS)
}

/// The frame that begins with this payload, behind its descriptor (RFC 9628 section 4.2).
fn frame(payload: &[u8]) -> Option<&[u8]> {
    let (flags, mut rest) = payload.split_first()?;
    let has = |flag: u8| flags & flag != 0;
    let (picture, predicted, layers, flexible, begins, structure) =
        (has(0x80), has(0x40), has(0x20), has(0x10), has(0x08), has(0x02));
    if !begins {
        return None;
    }
    if picture {
        let is_long = rest.first()? & 0x80 != 0;
        rest = rest.get(if is_long { 2 } else { 1 }..)?;
    }
    if layers {
        rest = rest.get(if flexible { 1 } else { 2 }..)?;
    }
    if flexible && predicted {
        while rest.first()? & 1 != 0 {
            rest = &rest[1..];
        }
        rest = &rest[1..];
    }
    if structure {
        let (told, mut behind) = rest.split_first()?;
        if told & 0x10 != 0 {
            behind = behind.get(4 * (usize::from(told >> 5) + 1)..)?;
        }
        if told & 0x08 != 0 {
            let (pictures, mut group) = behind.split_first()?;
            for _ in 0..*pictures {
                let (picture, references) = group.split_first()?;
                group = references.get(usize::from(picture >> 2 & 3)..)?;
            }
            behind = group;
        }
        rest = behind;
    }
    Some(rest)
}

/// The size that a frame of profile 0 tells (VP9 bitstream specification, section 6.2); most tell none, for it stays.
fn size(frame: &[u8]) -> Option<[u32; 2]> {
    const SYNC_CODE: u32 = 0x49_83_42;
    let mut bits = Bits::of(frame);
    let (marker, profile, shows_an_old_one) = (bits.take(2)?, bits.take(2)?, bits.take(1)? == 1);
    if marker != 2 || profile != 0 || shows_an_old_one {
        return None;
    }
    let (is_key, is_shown, is_resilient) = (bits.take(1)? == 0, bits.take(1)? == 1, bits.take(1)? == 1);
    if is_key {
        // Behind it the colour space and its range.
        if bits.take(24)? != SYNC_CODE {
            return None;
        }
        bits.take(4)?;
        return sides(&mut bits);
    }
    let is_intra = !is_shown && bits.take(1)? == 1;
    if !is_resilient {
        bits.take(2)?;
    }
    if is_intra {
        bits.take(24 + 8)?;
        return sides(&mut bits);
    }
    // Which references are refreshed, and which three are used; each may have the size that this one has too.
    bits.take(8 + 3 * 4)?;
    for _ in 0..3 {
        if bits.take(1)? == 1 {
            return None;
        }
    }
    sides(&mut bits)
}

fn sides(bits: &mut Bits<'_>) -> Option<[u32; 2]> {
    Some([bits.take(16)? + 1, bits.take(16)? + 1])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(text: &str) -> Vec<u8> {
        let bits: Vec<u8> = text.bytes().filter(u8::is_ascii_digit).map(|digit| digit - b'0').collect();
        bits.chunks(8).map(|chunk| chunk.iter().enumerate().fold(0, |byte, (n, bit)| byte | bit << (7 - n))).collect()
    }

    /// An RTP packet that begins a frame of these bits and this size.
    fn packet(descriptor: &[u8], bits: &str, [width, height]: [u32; 2]) -> Vec<u8> {
        let frame = bytes(&format!("{bits} {:016b} {:016b} 0", width - 1, height - 1));
        [&[0x81; 16], descriptor, &frame].concat()
    }

    const SYNC: &str = "010010011000001101000010";

    #[test]
    fn sizes_are_found_wherever_a_frame_may_tell_them() {
        let kinds = [
            // A keyframe of the first packet of a stream in three sizes, which are told beside it and need not be true.
            (
                &[0xaa, 0xff, 0xfe, 0x10, 0x07, 0x58, 0, 240, 0, 135, 1, 224, 1, 14, 3, 192, 2, 28, 1, 0x10][..],
                format!("10 00 0 0 1 0 {SYNC} 001 0"),
            ),
            // A hidden frame without references, and a predicted one that has the size of none of them.
            (&[0x88, 0x05], format!("10 00 0 1 0 0 1 00 {SYNC} 11111111")),
            (&[0xd8, 0x05, 0x03, 0x02], "10 00 0 1 1 1 11111111 000000000000 000".to_owned()),
        ];
        for (descriptor, bits) in kinds {
            assert!(!is_too_large(&packet(descriptor, &bits, [4096, 2160])), "{bits}");
            assert!(is_too_large(&packet(descriptor, &bits, [4098, 16])), "{bits}");
            assert!(is_too_large(&packet(descriptor, &bits, [16, 65_536])), "{bits}");
        }
        let stays = "10 00 0 1 1 1 11111111 000000000000 1";
        assert!(!is_too_large(&packet(&[0x88, 0x05], stays, [65_536, 65_536])), "these are no size");
    }

    proptest! {
        #[test]
        fn hostile_packets_are_read_without_harm(packet in prop::collection::vec(any::<u8>(), 0..80)) {
            is_too_large(&packet);
        }
    }
}
