//! What is to be known of Opus without decoding it: how long a packet sounds, and how much later its sound comes out than it went in.

use std::time::Duration;

/// How much later a sound leaves an Opus encoder and a decoder than it went in: 312 samples at 48 kHz of libopus' looking ahead. RTP
/// has no pre-skip to say so.
pub const DELAY: Duration = Duration::from_micros(6500);

/// The longest packet there may be (RFC 6716 section 3.4, rule R5).
const LONGEST: Duration = Duration::from_millis(120);

/// How long a packet sounds; `None` for what is no Opus packet.
pub fn duration(packet: &[u8]) -> Option<Duration> {
    let toc = *packet.first()?;
    let frame_us = match toc >> 3 {
        // SILK: 10, 20, 40 or 60 ms; hybrid: 10 or 20 ms; CELT: 2.5, 5, 10 or 20 ms (section 3.1, table 2).
        config @ 0..12 => [10_000, 20_000, 40_000, 60_000][usize::from(config % 4)],
        config @ 12..16 => [10_000, 20_000][usize::from(config % 2)],
        config => 20_000 >> (3 - config % 4),
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u64::from(packet.get(1)? & 0x3f),
    };
    let whole = Duration::from_micros(frames * frame_us);
    (!whole.is_zero() && whole <= LONGEST).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_sounds_as_long_as_its_first_bytes_say() {
        let cases: [(&[u8], Option<u64>); 9] = [
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
            assert_eq!(duration(packet), ms.map(Duration::from_millis), "{packet:02x?}");
        }
        assert_eq!(duration(&[0xe0, 1]), Some(Duration::from_micros(2500)));
    }
}
