//! The header fields of an RTP packet the mixer steers by, and where its payload is (RFC 3550 section 5.1).

use bytes::Bytes;
use bytes::BytesMut;

/// Length of the fixed header in bytes.
pub(in crate::mixer) const FIXED_HEADER: usize = 12;

/// What the mixer reads of a packet; the payload of a picture stays with the depayloader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mixer) struct Header {
    pub payload_type: u8,
    pub sequence: u16,
    pub timestamp: u32,
    pub marker: bool,
}

impl Header {
    /// Reads the header; `None` for anything that is not RTP version 2.
    pub(in crate::mixer) fn read(packet: &[u8]) -> Option<Self> {
        let fixed = packet.first_chunk::<FIXED_HEADER>()?;
        if fixed[0] >> 6 != 2 {
            return None;
        }
        Some(Self {
            payload_type: fixed[1] & 0x7f,
            sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            marker: fixed[1] & 0x80 != 0,
        })
    }
}

/// What the packet carries, without sources, extension and padding; `None` for one whose lengths do not fit.
pub(in crate::mixer) fn payload(packet: &[u8]) -> Option<&[u8]> {
    let first = *packet.first()?;
    let (padded, extended, sources) = (first & 0x20 != 0, first & 0x10 != 0, usize::from(first & 0x0f));
    let padding = if padded { usize::from(*packet.last()?).max(1) } else { 0 };
    let packet = packet.get(FIXED_HEADER + 4 * sources..packet.len().checked_sub(padding)?)?;
    if !extended {
        return Some(packet);
    }
    let words = packet.get(2..4).map(|length| u16::from_be_bytes([length[0], length[1]]))?;
    packet.get(4 + 4 * usize::from(words)..)
}

/// The packet with a number that is less by `back`.
pub(in crate::mixer) fn renumbered(packet: Bytes, back: u16) -> Bytes {
    match Header::read(&packet) {
        Some(Header { sequence, .. }) if back > 0 => {
            let mut packet = BytesMut::from(packet);
            packet[2..4].copy_from_slice(&sequence.wrapping_sub(back).to_be_bytes());
            packet.freeze()
        }
        Some(_) | None => packet,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_is_what_neither_header_nor_padding_is() {
        let packet = |first: u8, rest: &[u8]| payload(&[&[first][..], &[0; 11], rest].concat()).map(<[u8]>::to_vec);
        assert_eq!(packet(0x80, b"jam").as_deref(), Some(&b"jam"[..]));
        assert_eq!(packet(0xa0, b"jam\0\x02").as_deref(), Some(&b"jam"[..]));
        assert_eq!(packet(0x91, b"ssrc\xbe\xde\0\x01wordjam").as_deref(), Some(&b"jam"[..]));
        for (first, rest) in [(0xa0, &b"jam\xff"[..]), (0x8f, b"jam"), (0x90, b"\0\0\xff\xffjam"), (0x90, b"\0")] {
            assert_eq!(packet(first, rest), None, "{first:02x} {rest:02x?}");
        }
    }

    #[test]
    fn numbers_go_back_over_their_end_and_nothing_else_changes() {
        let packet = Bytes::from_static(&[0x80, 0xe0, 0, 1, 0, 0, 1, 0, 9, 9, 9, 9, 0xff]);
        let moved = renumbered(packet.clone(), 3);
        assert_eq!((moved[2..4].to_vec(), &moved[4..]), (vec![0xff, 0xfe], &packet[4..]));
        assert_eq!(renumbered(packet.clone(), 0), packet);
    }

    #[test]
    fn only_rtp_version_2_is_read() {
        let packet = [0x80, 0xe0, 0x12, 0x34, 0, 0, 1, 0, 9, 9, 9, 9, 0xff];
        assert_eq!(
            Header::read(&packet),
            Some(Header { payload_type: 96, sequence: 0x1234, timestamp: 256, marker: true })
        );
        assert_eq!(Header::read(&packet[..11]), None);
        assert_eq!(Header::read(&[0x40; 12]), None);
    }
}
