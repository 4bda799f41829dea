//! RTP packets between two peers: as they came, taken apart, and with other numbers.

use bytes::Bytes;
use bytes::BytesMut;
use rtc::shared::marshal::Marshal;

use crate::domain::room::av1;
use crate::domain::room::forwarder::Outgoing;
use crate::domain::room::red;
use crate::domain::room::selector::Part;
use crate::driver::rtc::sdp::Extensions;
use crate::model::media::Codec;

/// A received RTP packet without its header extensions, which mean nothing beyond its peer; what it says of its loudness and of what its
/// frame builds on is kept.
pub(super) struct Media {
    packet: rtc::rtp::Packet,
    loudness: Option<u8>,
    /// The dependency descriptor.
    dependencies: Option<Bytes>,
    /// It came as redundancy, and most often came before.
    is_repeat: bool,
}

impl Media {
    pub(super) fn new(mut packet: rtc::rtp::Packet, extensions: Extensions) -> Self {
        // RFC 6464 section 3: the highest bit says whether it may be speech, which a guitar is not.
        let said = extensions.audio_level.and_then(|id| packet.header.get_extension(id));
        let loudness = said.and_then(|bytes| bytes.first().map(|byte| byte & 0x7f));
        let dependencies = extensions.dependencies.and_then(|id| packet.header.get_extension(id));
        let header = &mut packet.header;
        header.extension = false;
        header.extensions.clear();
        header.extensions_padding = 0;
        header.padding = false;
        Self { packet, loudness, dependencies, is_repeat: false }
    }

    /// What redundant audio consists of, oldest first.
    pub(super) fn unwrapped(&self) -> impl Iterator<Item = Self> {
        red::unwrap(&self.packet.payload).into_iter().map(|block| {
            let mut packet = self.packet.clone();
            packet.header.payload_type = block.payload_type;
            packet.header.sequence_number = packet.header.sequence_number.wrapping_sub(block.before);
            packet.header.timestamp = packet.header.timestamp.wrapping_sub(block.age);
            packet.payload = block.payload;
            let is_repeat = block.before > 0;
            Self { packet, loudness: self.loudness.filter(|_| !is_repeat), dependencies: None, is_repeat }
        })
    }

    /// How loud it says it is: dB below overload, 127 for silence.
    pub(super) const fn loudness(&self) -> Option<u8> {
        self.loudness
    }

    /// The number of its layer frame, if it says so.
    pub(super) fn frame_number(&self) -> Option<u16> {
        self.dependencies.as_deref().and_then(av1::frame_number)
    }

    /// What its frame builds on, as it goes out with these numbers.
    pub(super) fn dependencies(&self, out: Outgoing) -> Option<Bytes> {
        self.dependencies.as_ref().map(|descriptor| av1::renumbered(descriptor, out.shift.frame))
    }

    pub(super) fn is_repeat(&self) -> bool {
        self.is_repeat
    }

    pub(super) fn marker(&self) -> bool {
        self.packet.header.marker
    }

    pub(super) fn ssrc(&self) -> u32 {
        self.packet.header.ssrc
    }

    pub(super) fn payload_type(&self) -> u8 {
        self.packet.header.payload_type
    }

    pub(super) fn seq(&self) -> u16 {
        self.packet.header.sequence_number
    }

    pub(super) fn timestamp(&self) -> u32 {
        self.packet.header.timestamp
    }

    pub(super) fn payload(&self) -> &Bytes {
        &self.packet.payload
    }

    /// The packet with these numbers, as it goes over a wire. One of which only the number goes has no payload.
    pub(super) fn to_bytes(&self, codec: Codec, out: Outgoing) -> Option<Bytes> {
        let mut packet = self.packet.clone();
        packet.header.sequence_number = out.seq;
        packet.header.timestamp = out.timestamp;
        packet.header.marker |= out.part == Part::Last;
        packet.payload = match out.part {
            Part::Whole | Part::Last => out.shift.apply(codec, &packet.payload),
            Part::Number => Bytes::new(),
        };
        packet.marshal().ok().map(BytesMut::freeze)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::room::window::Arrival;
    use crate::domain::room::window::Window;

    fn sound(sequence_number: u16, timestamp: u32, payload: Bytes) -> Media {
        let header = rtc::rtp::Header { sequence_number, timestamp, payload_type: 63, ..rtc::rtp::Header::default() };
        Media::new(rtc::rtp::Packet { header, payload }, Extensions::default())
    }

    proptest! {
        /// A musician's sound in packets of which each carries the one before it once more: what is lost is heard all the same, unless
        /// two are lost in a row, and nothing is heard twice.
        #[test]
        fn sound_that_comes_twice_is_whole_unless_two_packets_in_a_row_are_lost(
            first in any::<u16>(),
            first_timestamp in any::<u32>(),
            lost in prop::collection::vec(prop::bool::weighted(0.15), 2..500),
        ) {
            let timestamp = |n: u16| first_timestamp.wrapping_add(u32::from(n) * 480);
            let mut repeater = red::Repeater::default();
            let (mut window, mut heard) = (Window::default(), Vec::new());
            for (n, is_lost) in lost.iter().enumerate() {
                let (seq, at) = (first.wrapping_add(n as u16), timestamp(n as u16));
                let payload = Bytes::copy_from_slice(&n.to_be_bytes());
                let twice = repeater.repeat(111, seq, at, &payload);
                repeater.remember(seq, at, &payload);
                if *is_lost {
                    continue;
                }
                let packet = sound(seq, at, twice.unwrap_or_else(|| Bytes::from([&[111], &payload[..]].concat())));
                for media in packet.unwrapped() {
                    prop_assert_eq!(media.payload_type(), 111);
                    if window.note(media.seq()) == Arrival::Fresh {
                        let heard_now = media.seq().wrapping_sub(first);
                        prop_assert_eq!(media.timestamp(), timestamp(heard_now));
                        heard.push((heard_now, media.payload().clone()));
                    }
                }
            }
            let is_heard = |n: usize| !lost[n] || lost.get(n + 1) == Some(&false);
            // The first packet that comes begins the stream; one that was lost before it is too early to be of it.
            let begins = lost.iter().position(|is_lost| !is_lost).unwrap_or(lost.len());
            let expected: Vec<u16> = (0..lost.len()).filter(|n| is_heard(*n) && n + 1 >= begins).map(|n| n as u16).collect();
            prop_assert_eq!(heard.iter().map(|(n, _)| *n).collect::<Vec<_>>(), expected);
            prop_assert!(heard.iter().all(|(n, payload)| payload[..] == usize::from(*n).to_be_bytes()));
        }
    }
}
