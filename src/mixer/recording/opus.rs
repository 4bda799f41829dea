//! Opus packets without decoding them: how long one sounds, silence to put between two, and the header of a file (RFC 6716, RFC 7845).

use crate::model::opus;

/// One millisecond in nanoseconds.
const MILLISECOND: i64 = 1_000_000;

/// The longest packet there may be (RFC 6716 section 3.4, rule R5).
const LONGEST: i64 = 120 * MILLISECOND;

/// How long a packet sounds, nanoseconds; `None` for what is no Opus packet.
pub(in crate::mixer) fn duration(packet: &[u8]) -> Option<i64> {
    opus::duration(packet).and_then(|duration| i64::try_from(duration.as_nanos()).ok())
}

/// The longest silent stereo packet that is not longer than `most`, with its duration, both in nanoseconds; `None` under 2.5 ms.
pub(in crate::mixer) fn silence(most: i64) -> Option<(&'static [u8], i64)> {
    // CELT at full bandwidth; the payload `FF FE` is a frame of silence. The first is one packet of six frames of 20 ms.
    const PACKETS: [(&[u8], i64); 5] = [
        (&[0xff, 0x06, 0xff, 0xfe, 0xff, 0xfe, 0xff, 0xfe, 0xff, 0xfe, 0xff, 0xfe, 0xff, 0xfe], LONGEST),
        (&[0xfc, 0xff, 0xfe], 20 * MILLISECOND),
        (&[0xf4, 0xff, 0xfe], 10 * MILLISECOND),
        (&[0xec, 0xff, 0xfe], 5 * MILLISECOND),
        (&[0xe4, 0xff, 0xfe], 5 * MILLISECOND / 2),
    ];
    PACKETS.into_iter().find(|(_, duration)| *duration <= most)
}

/// The identification header of a stereo file (RFC 7845 section 5.1).
pub(in crate::mixer) fn head() -> Vec<u8> {
    let mut head = b"OpusHead\x01\x02".to_vec();
    // Nothing is skipped: players disagree on whether that moves the rest, and a file that begins with silence has nothing to skip.
    head.extend(0u16.to_le_bytes());
    head.extend(48_000u32.to_le_bytes());
    // No gain; channels in their usual order.
    head.extend([0, 0, 0]);
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_fills_any_hole_to_within_a_frame() {
        for (packet, length) in [600, 119, 20, 19, 9, 4].map(|ms| silence(ms * MILLISECOND).expect("long enough")) {
            assert_eq!(duration(packet), Some(length));
        }
        let mut left = 137 * MILLISECOND;
        while let Some((_, length)) = silence(left) {
            left -= length;
        }
        assert_eq!(left, 2 * MILLISECOND);
    }

    #[test]
    fn the_header_is_that_of_rfc_7845() {
        assert_eq!(head().len(), 19);
        assert_eq!(&head()[8..16], [1, 2, 0, 0, 0x80, 0xbb, 0, 0]);
    }
}
