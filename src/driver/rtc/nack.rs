//! An interceptor that asks the remote end for packets that are missing (RFC 4585 section 6.2.1), and stands in for those without a
//! payload, which no browser sends again.
//!
//! That of `rtc` 0.21.1 looks at fixed intervals and asks each time for all that is missing: at a tenth of a second a packet comes up to
//! that much later than it could, and at less it is asked for several times within a round trip.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use rtc::interceptor::AttributedPacket;
use rtc::interceptor::Interceptor;
use rtc::interceptor::Packet;
use rtc::interceptor::StreamInfo;
use rtc::interceptor::TaggedPacket;
use rtc::peer_connection::configuration::media_engine::MIME_TYPE_VP8;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::nack_pairs_from_sequence_numbers;
use rtc::rtp::Header;
use rtc::sansio::Protocol;
use rtc::shared::TransportContext;
use rtc::shared::error::Error;

use crate::domain::room::picture::begins_vp8;
use crate::domain::room::repair::Gaps;
use crate::domain::room::repair::LostPadding;
use crate::domain::room::repair::Piece;
use crate::driver::rtc::told::Told;

/// Behind the receiver reports at 10 000, in which a packet that is stood in for is lost.
pub(super) const SLOT: usize = 10_500;

/// Sources looked after: more than any participant may send.
const MOST_SOURCES: usize = 256;

/// Packets asked for in one message: no more than fit into a datagram when no two of them are neighbours.
const AT_ONCE: usize = 256;

pub(super) struct Nacks {
    told: Told,
    /// By SSRC.
    sources: BTreeMap<u32, Source>,
    reads: VecDeque<TaggedPacket>,
    writes: VecDeque<TaggedPacket>,
}

struct Source {
    /// The payload type of VP8, if that is what was agreed on.
    vp8: Option<u8>,
    gaps: Gaps,
    /// Of the latest packet.
    payload_type: u8,
    transport: TransportContext,
}

impl Source {
    /// Packets without a payload in the place of those that were lost.
    fn stand_ins(&mut self, now: Instant, ssrc: u32, reads: &mut VecDeque<TaggedPacket>) {
        let (payload_type, transport) = (self.payload_type, self.transport);
        reads.extend(self.gaps.lost_padding().map(|LostPadding { seq: sequence_number, timestamp }| {
            let header = Header { version: 2, ssrc, payload_type, sequence_number, timestamp, ..Header::default() };
            let message = AttributedPacket::new(Packet::Rtp(rtc::rtp::Packet { header, payload: Bytes::new() }));
            TaggedPacket { now, transport, message }
        }));
    }
}

impl Nacks {
    pub(super) fn new(told: Told) -> Self {
        Self { told, sources: BTreeMap::new(), reads: VecDeque::new(), writes: VecDeque::new() }
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Nacks {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, msg: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtp(rtc::rtp::Packet { header, payload }) = &msg.message.packet
            && let Some(source) = self.sources.get_mut(&header.ssrc)
        {
            let piece = Piece {
                timestamp: header.timestamp,
                is_padding: payload.is_empty(),
                is_first: source.vp8 == Some(header.payload_type) && begins_vp8(payload),
                is_last: header.marker,
            };
            source.gaps.heard(msg.now, header.sequence_number, piece);
            (source.payload_type, source.transport) = (header.payload_type, msg.transport);
            source.stand_ins(msg.now, header.ssrc, &mut self.reads);
        }
        self.reads.push_back(msg);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.reads.pop_front()
    }

    fn handle_write(&mut self, msg: TaggedPacket) -> Result<(), Error> {
        self.writes.push_back(msg);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.writes.pop_front()
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        let round_trip = self.told.round_trip();
        for (&ssrc, source) in &mut self.sources {
            for wanted in source.gaps.ask(now, round_trip).chunks(AT_ONCE) {
                let nacks = nack_pairs_from_sequence_numbers(wanted);
                let nack = TransportLayerNack { sender_ssrc: 1, media_ssrc: ssrc, nacks };
                let message = AttributedPacket::new(Packet::Rtcp(vec![Box::new(nack)]));
                self.writes.push_back(TaggedPacket { now, transport: TransportContext::default(), message });
            }
            source.stand_ins(now, ssrc, &mut self.reads);
        }
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.sources.values().filter_map(|source| source.gaps.poll_timeout()).min()
    }
}

impl Interceptor for Nacks {
    fn bind_remote_stream(&mut self, info: &StreamInfo) {
        let is_one_too_many = self.sources.len() >= MOST_SOURCES;
        if !is_one_too_many
            && info.rtcp_feedback.iter().any(|feedback| feedback.typ == "nack" && feedback.parameter.is_empty())
        {
            // A picture of H.264 may be cut into slices, of which nobody knows the first.
            let vp8 = info.mime_type.eq_ignore_ascii_case(MIME_TYPE_VP8).then_some(info.payload_type);
            self.sources.entry(info.ssrc).or_insert_with(|| Source {
                vp8,
                gaps: Gaps::default(),
                payload_type: 0,
                transport: TransportContext::default(),
            });
        }
    }

    fn unbind_remote_stream(&mut self, info: &StreamInfo) {
        self.sources.remove(&info.ssrc);
    }

    fn bind_local_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _info: &StreamInfo) {}
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rtc::interceptor::RTCPFeedback;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn stream(ssrc: u32, parameter: &str) -> StreamInfo {
        let feedback = RTCPFeedback { typ: "nack".to_owned(), parameter: parameter.to_owned() };
        StreamInfo { ssrc, rtcp_feedback: vec![feedback], ..StreamInfo::default() }
    }

    fn hear(nacks: &mut Nacks, now: Instant, ssrc: u32, sequence_number: u16) {
        let mut packet = rtc::rtp::Packet { payload: Bytes::from_static(b"picture"), ..rtc::rtp::Packet::default() };
        (packet.header.ssrc, packet.header.sequence_number) = (ssrc, sequence_number);
        let message = AttributedPacket::new(Packet::Rtp(packet));
        nacks
            .handle_read(TaggedPacket { now, transport: TransportContext::default(), message })
            .expect("it refuses nothing");
        assert!(nacks.poll_read().is_some(), "what is heard goes on");
    }

    /// What is asked for at `now`, by SSRC.
    fn asked(nacks: &mut Nacks, now: Instant) -> Vec<(u32, Vec<u16>)> {
        nacks.handle_timeout(now).expect("it refuses nothing");
        let written = std::iter::from_fn(|| nacks.poll_write());
        let asked = written.map(|msg| {
            let Packet::Rtcp(packets) = msg.message.packet else { panic!("not ours") };
            let nack: &TransportLayerNack = packets[0].as_any().downcast_ref().expect("a NACK");
            (nack.media_ssrc, nack.nacks.iter().flat_map(|pair| pair.packet_list()).collect())
        });
        asked.collect()
    }

    #[test]
    fn each_source_that_takes_requests_is_asked_for_what_it_lost_once_a_round_trip() {
        let told = Told::default();
        let mut nacks = Nacks::new(told.clone());
        for (ssrc, parameter) in [(7, ""), (8, "pli"), (9, "")] {
            nacks.bind_remote_stream(&stream(ssrc, parameter));
        }
        let start = Instant::now();
        for (ssrc, seq) in [(7, 1), (7, 4), (8, 1), (8, 4), (9, 1), (9, 2), (6, 1), (6, 9)] {
            hear(&mut nacks, start, ssrc, seq);
        }
        assert_eq!(nacks.poll_timeout(), Some(start + 10 * MS));
        assert_eq!(asked(&mut nacks, start + 9 * MS), []);
        assert_eq!(asked(&mut nacks, start + 10 * MS), [(7, vec![2, 3])]);
        assert_eq!(nacks.poll_timeout(), Some(start + 130 * MS), "before the round trip is known");
        told.note_round_trip(40 * MS);
        assert_eq!(told.round_trip(), 87 * MS + MS / 2, "what was longer lately may be so again");
        (0..20).for_each(|_| told.note_round_trip(40 * MS));
        assert_eq!(asked(&mut nacks, start + 130 * MS), [(7, vec![2, 3])]);
        assert_eq!(nacks.poll_timeout(), Some(start + 190 * MS));
        nacks.unbind_remote_stream(&stream(7, ""));
        assert_eq!((nacks.poll_timeout(), asked(&mut nacks, start + 190 * MS)), (None, vec![]));
    }

    #[test]
    fn lost_padding_is_stood_in_for_and_comes_before_what_is_behind_it() {
        let mut nacks = Nacks::new(Told::default());
        nacks.bind_remote_stream(&stream(7, ""));
        let now = Instant::now();
        let mut heard = Vec::new();
        for (sequence_number, length, marker) in [(1, 9, true), (4, 0, false)] {
            let header =
                Header { ssrc: 7, payload_type: 96, sequence_number, timestamp: 5, marker, ..Header::default() };
            let message =
                AttributedPacket::new(Packet::Rtp(rtc::rtp::Packet { header, payload: Bytes::from(vec![0; length]) }));
            let msg = TaggedPacket { now, transport: TransportContext::default(), message };
            nacks.handle_read(msg).expect("it refuses nothing");
            heard.extend(std::iter::from_fn(|| nacks.poll_read()));
        }
        let heard = heard.into_iter().map(|msg| {
            let Packet::Rtp(rtc::rtp::Packet { header, payload }) = msg.message.packet else { panic!("not heard") };
            (header.ssrc, header.payload_type, header.timestamp, header.sequence_number, payload.len())
        });
        assert_eq!(heard.collect::<Vec<_>>(), [(1, 9), (2, 0), (3, 0), (4, 0)].map(|(seq, len)| (7, 96, 5, seq, len)));
        assert_eq!(asked(&mut nacks, now + 100 * MS), []);
    }

    #[test]
    fn however_much_is_missing_each_request_fits_into_a_datagram() {
        let mut nacks = Nacks::new(Told::default());
        nacks.bind_remote_stream(&stream(7, ""));
        let start = Instant::now();
        (0..=u16::MAX).step_by(2).for_each(|seq| hear(&mut nacks, start, 7, seq));
        let asked = asked(&mut nacks, start + 10 * MS);
        assert_eq!(asked.iter().map(|(_, wanted)| wanted.len()).collect::<Vec<_>>(), [AT_ONCE, AT_ONCE]);
    }
}
