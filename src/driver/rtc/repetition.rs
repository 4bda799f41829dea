//! An interceptor that bounds and counts retransmissions: a receiver may have as many packets again as it was sent.
//!
//! `rtc` 0.21.1 answers every NACK in full. One datagram of 1500 bytes can ask for six thousand packets, seven megabytes, and nobody
//! stops a participant from sending a thousand of them a second.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Instant;

use rtc::interceptor::Attribute;
use rtc::interceptor::Interceptor;
use rtc::interceptor::Packet;
use rtc::interceptor::StreamInfo;
use rtc::interceptor::TaggedPacket;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::NackPair;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use rtc::sansio::Protocol;
use rtc::shared::error::Error;

/// Between the wire and the responder, which sits at 4 000: NACKs pass here before it, what it sends again after it.
pub(super) const SLOT: usize = 3_900;

/// Repetitions saved up at most: what the responder remembers of one stream.
const MOST: u64 = 1024;

/// Repetitions asked for and not granted, for whoever names the one who asked.
pub(super) type Refused = Arc<AtomicU64>;

/// Each packet sent earns the right to one repetition.
pub(super) struct Repetitions {
    credit: u64,
    refused: Refused,
    /// Packets sent again, of all peers of the worker.
    resent: Arc<AtomicU64>,
    reads: VecDeque<TaggedPacket>,
    writes: VecDeque<TaggedPacket>,
}

impl Repetitions {
    pub(super) fn new(refused: Refused, resent: Arc<AtomicU64>) -> Self {
        Self { credit: MOST, refused, resent, reads: VecDeque::new(), writes: VecDeque::new() }
    }

    /// The part of a NACK that is granted.
    fn grant(&mut self, nack: &TransportLayerNack) -> TransportLayerNack {
        let mut granted = Vec::new();
        for pair in &nack.nacks {
            let wanted = 1 + u64::from(pair.lost_packets.count_ones());
            if wanted <= self.credit {
                self.credit -= wanted;
                granted.push(NackPair { ..*pair });
            } else {
                self.refused.fetch_add(wanted, Ordering::Relaxed);
            }
        }
        TransportLayerNack { nacks: granted, ..*nack }
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Repetitions {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, mut msg: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtcp(packets) = &mut msg.message.packet {
            for packet in packets {
                let granted = packet.as_any().downcast_ref().map(|nack| self.grant(nack));
                if let Some(granted) = granted {
                    *packet = Box::new(granted);
                }
            }
        }
        self.reads.push_back(msg);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.reads.pop_front()
    }

    fn handle_write(&mut self, msg: TaggedPacket) -> Result<(), Error> {
        if msg.message.has(&Attribute::Retransmission) {
            self.resent.fetch_add(1, Ordering::Relaxed);
        } else if matches!(msg.message.packet, Packet::Rtp(_)) {
            self.credit = MOST.min(self.credit + 1);
        }
        self.writes.push_back(msg);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.writes.pop_front()
    }
}

impl Interceptor for Repetitions {
    fn bind_local_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _info: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _info: &StreamInfo) {}
}

#[cfg(test)]
mod tests {
    use rtc::interceptor::AttributedPacket;
    use rtc::shared::TransportContext;

    use super::*;

    fn tagged(packet: Packet) -> TaggedPacket {
        TaggedPacket {
            now: Instant::now(),
            transport: TransportContext::default(),
            message: AttributedPacket::new(packet),
        }
    }

    /// Repetitions that get through to the responder of a NACK for 17 times `pairs`.
    fn ask(repetitions: &mut Repetitions, pairs: u16) -> u64 {
        let pair = |index: u16| NackPair { packet_id: index.wrapping_mul(17), lost_packets: 0xffff };
        let nack = TransportLayerNack { sender_ssrc: 1, media_ssrc: 2, nacks: (0..pairs).map(pair).collect() };
        repetitions.handle_read(tagged(Packet::Rtcp(vec![Box::new(nack)]))).expect("it refuses nothing");
        let Some(Packet::Rtcp(packets)) = repetitions.poll_read().map(|msg| msg.message.packet) else { panic!("lost") };
        let nack: &TransportLayerNack = packets[0].as_any().downcast_ref().expect("still a NACK");
        nack.nacks.iter().map(|pair| 1 + u64::from(pair.lost_packets.count_ones())).sum()
    }

    #[test]
    fn a_receiver_gets_as_much_again_as_it_was_sent_and_no_more() {
        let refused = Refused::default();
        let resent = Arc::default();
        let mut repetitions = Repetitions::new(Arc::clone(&refused), Arc::clone(&resent));
        let first: u64 = (0..1000).map(|_| ask(&mut repetitions, 300)).sum();
        assert!(first <= MOST, "{first} packets at once");
        assert_eq!(refused.load(Ordering::Relaxed), 1000 * 300 * 17 - first);
        for _ in 0..100 {
            repetitions.handle_write(tagged(Packet::Rtp(rtc::rtp::Packet::default()))).expect("it refuses nothing");
            let mut again = tagged(Packet::Rtp(rtc::rtp::Packet::default()));
            again.message.add(Attribute::Retransmission);
            repetitions.handle_write(again).expect("it refuses nothing");
        }
        assert_eq!(resent.load(Ordering::Relaxed), 100);
        let second: u64 = (0..1000).map(|_| ask(&mut repetitions, 300)).sum();
        assert!((80..=117).contains(&second), "{second} for 100 packets sent");
    }
}
