//! What participants send: flows of packets as regular as those of an encoder, each with the time it was sent.

use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;

/// A picture or a piece of sound every so often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    pub(crate) every: Duration,
    /// Packets it is cut into.
    pub(crate) packets: u32,
    /// RTP payload of each packet.
    pub(crate) bytes: usize,
}

const fn flow(every_us: u64, packets: u32, bytes: usize) -> Flow {
    Flow { every: Duration::from_micros(every_us), packets, bytes }
}

/// What somebody plays with.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) name: &'static str,
    audio: Flow,
    camera: Flow,
    screen: Flow,
}

/// A browser on a computer: Opus in 10 ms frames at 160 kbit/s, a camera of 640x360 at 30 fps and 600 kbit/s, a screen at 5 fps
/// and 440 kbit/s.
pub(crate) const DESKTOP: Device = Device {
    name: "desktop",
    audio: flow(10_000, 1, 200),
    camera: flow(33_333, 3, 840),
    screen: flow(200_000, 10, 1100),
};

/// A phone: Opus in 20 ms frames at 80 kbit/s, a camera of 320x180 at 15 fps and 230 kbit/s, a screen at 2 fps and 130 kbit/s.
pub(crate) const MOBILE: Device = Device {
    name: "mobile",
    audio: flow(20_000, 1, 200),
    camera: flow(66_667, 2, 950),
    screen: flow(500_000, 8, 1000),
};

/// What a room does while it is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Medium {
    Audio,
    /// Cameras, and audio beside them.
    Video,
    /// One shares a screen, and all have audio.
    Screen,
}

pub(crate) const MEDIA: [Medium; 3] = [Medium::Audio, Medium::Video, Medium::Screen];

/// What one participant sends at a time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Orders {
    pub(crate) audio: Option<Flow>,
    pub(crate) video: Option<Flow>,
}

impl Medium {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Video => "video",
            Self::Screen => "screen",
        }
    }

    /// What the participant with this number sends.
    pub(crate) fn orders(self, device: &Device, participant: usize) -> Orders {
        let video = match self {
            Self::Audio => None,
            Self::Video => Some(device.camera),
            Self::Screen => (participant == 0).then_some(device.screen),
        };
        Orders { audio: Some(device.audio), video }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Audio,
    Video,
}

/// Who sent a packet, which one it was, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) publisher: u16,
    pub(crate) kind: Kind,
    /// Rises by one with each packet of a track.
    pub(crate) number: u64,
    /// Since the clock of the bench began.
    pub(crate) sent: Duration,
}

impl Stamp {
    const MAGIC: [u8; 4] = *b"JAM\0";
    const BYTES: usize = 24;

    /// A payload that ends in this stamp: whoever rewrites descriptors at its beginning leaves it alone. The beginning is one of
    /// VP8 (RFC 7741): the descriptor, and the P bit of the frame's header.
    pub(crate) fn payload(self, bytes: usize, starts_picture: bool, is_keyframe: bool) -> Bytes {
        let mut payload = BytesMut::zeroed(bytes.max(Self::BYTES + 2));
        payload[0] = if starts_picture { 0x10 } else { 0x00 };
        payload[1] = u8::from(!is_keyframe);
        let at = payload.len() - Self::BYTES;
        let kind = match self.kind {
            Kind::Audio => 0,
            Kind::Video => 1,
        };
        let sent = u64::try_from(self.sent.as_nanos()).unwrap_or(u64::MAX);
        payload[at..at + 4].copy_from_slice(&Self::MAGIC);
        payload[at + 4..at + 6].copy_from_slice(&self.publisher.to_be_bytes());
        payload[at + 7] = kind;
        payload[at + 8..at + 16].copy_from_slice(&self.number.to_be_bytes());
        payload[at + 16..].copy_from_slice(&sent.to_be_bytes());
        payload.freeze()
    }

    /// The stamp at the end of a payload, if there is one.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let tail: &[u8; Self::BYTES] = payload.last_chunk()?;
        if tail[..4] != Self::MAGIC {
            return None;
        }
        let number = |at: usize| tail[at..at + 8].try_into().map(u64::from_be_bytes).ok();
        Some(Self {
            publisher: u16::from_be_bytes([tail[4], tail[5]]),
            kind: if tail[7] == 0 { Kind::Audio } else { Kind::Video },
            number: number(8)?,
            sent: Duration::from_nanos(number(16)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_back_from_the_end_of_its_payload() {
        let stamp = Stamp { publisher: 49, kind: Kind::Video, number: 70_000, sent: Duration::from_micros(12_345_678) };
        let payload = stamp.payload(840, true, true);
        assert_eq!(payload.len(), 840);
        assert_eq!(&payload[..2], &[0x10, 0x00], "the start of a keyframe");
        assert_eq!(Stamp::read(&payload), Some(stamp));
        let longer = [&[0x90, 0x80, 0x01][..], &payload[1..]].concat();
        assert_eq!(Stamp::read(&longer), Some(stamp), "a longer descriptor moves nothing that counts");
        assert_eq!(Stamp::read(&payload[..839]), None);
        assert_eq!(Stamp::read(b"short"), None);
    }
}
