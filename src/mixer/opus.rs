//! Opus packets without decoding them: how long one sounds, silence to put between two, and the header of a file (RFC 6716, RFC 7845).

/// One millisecond in nanoseconds.
const MILLISECOND: i64 = 1_000_000;

/// The longest packet there may be (RFC 6716 section 3.4, rule R5).
const LONGEST: i64 = 120 * MILLISECOND;

/// How long a packet sounds, nanoseconds; `None` for what is no Opus packet.
pub(super) fn duration(packet: &[u8]) -> Option<i64> {
    let toc = *packet.first()?;
    let frame = match toc >> 3 {
        // SILK: 10, 20, 40 or 60 ms; hybrid: 10 or 20 ms; CELT: 2.5, 5, 10 or 20 ms (section 3.1, table 2).
        config @ 0..12 => [10, 20, 40, 60][usize::from(config % 4)] * MILLISECOND,
        config @ 12..16 => [10, 20][usize::from(config % 2)] * MILLISECOND,
        config => (20 * MILLISECOND) >> (3 - config % 4),
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => i64::from(packet.get(1)? & 0x3f),
    };
    Some(frames * frame).filter(|whole| (1..=LONGEST).contains(whole))
}

/// The longest silent stereo packet that is not longer than `most`, with its duration, both in nanoseconds; `None` under 2.5 ms.
pub(super) fn silence(most: i64) -> Option<(&'static [u8], i64)> {
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
pub(super) fn head() -> Vec<u8> {
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
    fn a_packet_sounds_as_long_as_its_first_bytes_say() {
        let cases: [(&[u8], Option<i64>); 9] = [
            (&[0x08, 1], Some(20)),
            (&[0x18, 1], Some(60)),
            (&[0x78, 1], Some(20)),
            (&[0xf8, 1], Some(20)),
            (&[0xf0, 1], Some(10)),
            (&[0xf9, 1], Some(40)),
            (&[0xfb, 0x06], Some(120)),
            (&[0xfb, 0x07], None),
            (&[], None),
        ];
        for (packet, ms) in cases {
            assert_eq!(duration(packet), ms.map(|ms| ms * MILLISECOND), "{packet:02x?}");
        }
        assert_eq!(duration(&[0xe0, 1]), Some(MILLISECOND * 5 / 2));
    }

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
