//! An interceptor that bounds and counts retransmissions: a receiver may have as many packets again as it was sent, and few of them
//! while its link is full. It also has the packets numbered by which the receiver reports what came, for it is the last before the wire.
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

use crate::driver::rtc::numbering::Numbering;
use crate::driver::rtc::numbering::Passages;
use crate::driver::rtc::told::Told;

/// Between the wire and the responder, which sits at 4 000: NACKs pass here before it, what it sends again after it.
pub(super) const SLOT: usize = 3_900;

/// Repetitions saved up at most: what the responder remembers of one stream.
const MOST: u64 = 1024;

/// While the link is full, one packet in so many may go out again, and so many of them at once: they take the room of the sound.
const WHILE_FULL: (u64, u64) = (8, 8);

/// Each packet sent earns the right to one repetition.
pub(super) struct Repetitions {
    credit: u64,
    /// Packets sent that have not earned a repetition while the link is full.
    spare: u64,
    told: Told,
    numbering: Numbering,
    /// Packets sent again, of all peers of the worker.
    resent: Arc<AtomicU64>,
    reads: VecDeque<TaggedPacket>,
    writes: VecDeque<TaggedPacket>,
}

impl Repetitions {
    pub(super) fn new(told: Told, resent: Arc<AtomicU64>) -> Self {
        let numbering = Numbering::new(Passages::clone(&told.passages));
        Self { credit: MOST, spare: 0, told, numbering, resent, reads: VecDeque::new(), writes: VecDeque::new() }
    }

    /// The part of a NACK that is granted.
    fn grant(&mut self, nack: &TransportLayerNack) -> TransportLayerNack {
        let mut granted = Vec::new();
        let is_full = self.told.is_full.load(Ordering::Relaxed);
        for pair in &nack.nacks {
            let wanted = 1 + u64::from(pair.lost_packets.count_ones());
            let costs = if is_full { wanted * WHILE_FULL.0 } else { 0 };
            if wanted > self.credit {
                self.told.refused.fetch_add(wanted, Ordering::Relaxed);
            } else if costs <= self.spare {
                self.credit -= wanted;
                self.spare -= costs;
                granted.push(NackPair { ..*pair });
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
                } else if let Some(report) = packet.as_any().downcast_ref() {
                    self.numbering.read(report);
                }
            }
        }
        self.reads.push_back(msg);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.reads.pop_front()
    }

    fn handle_write(&mut self, mut msg: TaggedPacket) -> Result<(), Error> {
        let is_again = msg.message.has(&Attribute::Retransmission);
        let now = msg.now;
        if let Packet::Rtp(packet) = &mut msg.message.packet {
            if is_again {
                self.resent.fetch_add(1, Ordering::Relaxed);
            } else {
                self.credit = MOST.min(self.credit + 1);
                self.spare = (WHILE_FULL.0 * WHILE_FULL.1).min(self.spare + 1);
            }
            self.numbering.number(now, packet);
        }
        self.writes.push_back(msg);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.writes.pop_front()
    }
}

impl Interceptor for Repetitions {
    fn bind_local_stream(&mut self, info: &StreamInfo) {
        self.numbering.bind(info);
    }

    fn unbind_local_stream(&mut self, info: &StreamInfo) {
        self.numbering.unbind(info);
    }

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
        let told = Told::default();
        let refused = Arc::clone(&told.refused);
        let resent = Arc::default();
        let mut repetitions = Repetitions::new(told, Arc::clone(&resent));
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
    #[test]
    fn a_full_link_gets_one_packet_in_eight_again() {
        let told = Told::default();
        let mut repetitions = Repetitions::new(told.clone(), Arc::default());
        told.is_full.store(true, Ordering::Relaxed);
        for _ in 0..100 {
            repetitions.handle_write(tagged(Packet::Rtp(rtc::rtp::Packet::default()))).expect("it refuses nothing");
        }
        let one = |repetitions: &mut Repetitions| {
            let nack = TransportLayerNack { sender_ssrc: 1, media_ssrc: 2, nacks: vec![NackPair::default()] };
            repetitions.grant(&nack).nacks.len()
        };
        assert_eq!((0..100).map(|_| one(&mut repetitions)).sum::<usize>(), 8);
        assert_eq!(told.refused.load(Ordering::Relaxed), 0, "whose link is full is no flooder");
        told.is_full.store(false, Ordering::Relaxed);
        assert_eq!((0..100).map(|_| one(&mut repetitions)).sum::<usize>(), 100);
    }
}
