//! RTP packets between two peers: as they came, taken apart, and with other numbers.

use bytes::Bytes;
use bytes::BytesMut;
use rtc::shared::marshal::Marshal;

use crate::domain::room::forwarder::Outgoing;
use crate::domain::room::red;

/// A received RTP packet without its header extensions, which mean nothing beyond its peer; what it says of its loudness is kept.
pub(super) struct Media {
    packet: rtc::rtp::Packet,
    loudness: Option<u8>,
    /// It came as redundancy, and most often came before.
    is_repeat: bool,
}

impl Media {
    pub(super) fn new(mut packet: rtc::rtp::Packet, audio_level_id: Option<u8>) -> Self {
        // RFC 6464 section 3: the highest bit says whether it may be speech, which a guitar is not.
        let said = audio_level_id.and_then(|id| packet.header.get_extension(id));
        let loudness = said.and_then(|bytes| bytes.first().map(|byte| byte & 0x7f));
        let header = &mut packet.header;
        header.extension = false;
        header.extensions.clear();
        header.extensions_padding = 0;
        header.padding = false;
        Self { packet, loudness, is_repeat: false }
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
            Self { packet, loudness: self.loudness.filter(|_| !is_repeat), is_repeat }
        })
    }

    /// How loud it says it is: dB below overload, 127 for silence.
    pub(super) const fn loudness(&self) -> Option<u8> {
        self.loudness
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

    /// The packet with these numbers, as it goes over a wire.
    pub(super) fn to_bytes(&self, out: Outgoing) -> Option<Bytes> {
        let mut packet = self.packet.clone();
        packet.header.sequence_number = out.seq;
        packet.header.timestamp = out.timestamp;
        packet.payload = out.shift.apply(&packet.payload);
        packet.marshal().ok().map(BytesMut::freeze)
    }
}
