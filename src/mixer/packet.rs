//! The five header fields of an RTP packet the mixer steers by (RFC 3550 section 5.1).

/// Length of the fixed header in bytes.
pub(super) const FIXED_HEADER: usize = 12;

/// What the mixer reads of a packet; the payload stays with the depayloader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub payload_type: u8,
    pub sequence: u16,
    pub timestamp: u32,
    pub marker: bool,
}

impl Header {
    /// Reads the header; `None` for anything that is not RTP version 2.
    pub(super) fn read(packet: &[u8]) -> Option<Self> {
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

    /// What is behind the header of a packet without extensions, as the tap gives them all.
    pub(super) fn payload(packet: &[u8]) -> &[u8] {
        let sources = packet.first().map_or(0, |first| usize::from(first & 0x0f));
        packet.get(FIXED_HEADER + 4 * sources..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
