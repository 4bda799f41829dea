//! Numbers the packets of video to one receiver across its streams, and reads which of them it says have come, and when
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01).

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use rtc::interceptor::StreamInfo;
use rtc::rtcp::transport_feedbacks::transport_layer_cc::PacketStatusChunk;
use rtc::rtcp::transport_feedbacks::transport_layer_cc::SymbolTypeTcc;
use rtc::rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
use rtc::rtp::Packet;

use crate::domain::room::transit::HEADERS;
use crate::domain::room::transit::Passage;

/// The header extension with the number.
pub(super) const NUMBER: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

/// Packets remembered: 1 s of 10 Mbit/s. Browsers report every 50 to 250 ms.
const MOST: usize = 1024;
/// A report's time is counted in so many ms, and those of its packets from there in µs.
const TICK: Duration = Duration::from_millis(64);

/// What came, until somebody takes it.
pub(super) type Passages = Arc<Mutex<Vec<Passage>>>;

/// The numbers given to the packets of one receiver.
pub(super) struct Numbering {
    /// By SSRC: the id of the extension, as agreed on.
    streams: HashMap<u32, u8>,
    next: u16,
    /// The last ones sent, up to the one before `next`; `None` where it is known to have come.
    sent: VecDeque<Option<(Instant, usize)>>,
    passages: Passages,
}

impl Numbering {
    pub(super) fn new(passages: Passages) -> Self {
        Self { streams: HashMap::new(), next: 0, sent: VecDeque::new(), passages }
    }

    /// A stream is to be sent from now on.
    pub(super) fn bind(&mut self, info: &StreamInfo) {
        let agreed = info.rtp_header_extensions.iter().find(|extension| extension.uri == NUMBER);
        if let Some(id) = agreed.and_then(|extension| u8::try_from(extension.id).ok()).filter(|id| *id != 0) {
            self.streams.insert(info.ssrc, id);
        }
    }

    pub(super) fn unbind(&mut self, info: &StreamInfo) {
        self.streams.remove(&info.ssrc);
    }

    /// Numbers a packet that leaves now, also one that leaves again.
    pub(super) fn number(&mut self, now: Instant, packet: &mut Packet) {
        let Some(id) = self.streams.get(&packet.header.ssrc) else { return };
        if packet.header.set_extension(*id, Bytes::copy_from_slice(&self.next.to_be_bytes())).is_err() {
            return;
        }
        self.next = self.next.wrapping_add(1);
        if self.sent.len() == MOST {
            self.sent.pop_front();
        }
        self.sent.push_back(Some((now, packet.payload.len() + HEADERS)));
    }

    /// Takes a report of the receiver. What it says twice, or of packets it was never sent, is not believed.
    pub(super) fn read(&mut self, report: &TransportLayerCc) {
        let mut passages = self.passages.lock().unwrap_or_else(PoisonError::into_inner);
        let mut arrived = TICK * report.reference_time;
        let mut deltas = report.recv_deltas.iter();
        let mut numbers = (0..report.packet_status_count).map(|n| report.base_sequence_number.wrapping_add(n));
        let mut take = |status: SymbolTypeTcc| {
            let Some(number) = numbers.next() else { return false };
            let is_timed =
                matches!(status, SymbolTypeTcc::PacketReceivedSmallDelta | SymbolTypeTcc::PacketReceivedLargeDelta);
            let Some(delta) = is_timed.then(|| deltas.next()).flatten() else { return !is_timed };
            let step = Duration::from_micros(delta.delta.unsigned_abs());
            arrived = if delta.delta < 0 { arrived.saturating_sub(step) } else { arrived + step };
            let back = usize::from(self.next.wrapping_sub(number));
            let sent = self.sent.len().checked_sub(back).filter(|_| back > 0).and_then(|at| self.sent.get_mut(at));
            if let Some((sent, bytes)) = sent.and_then(Option::take)
                && passages.len() < MOST
            {
                passages.push(Passage { sent, bytes, arrived });
            }
            true
        };
        for chunk in &report.packet_chunks {
            let goes_on = match chunk {
                PacketStatusChunk::RunLengthChunk(run) => (0..run.run_length).all(|_| take(run.packet_status_symbol)),
                PacketStatusChunk::StatusVectorChunk(vector) => vector.symbol_list.iter().all(|status| take(*status)),
            };
            if !goes_on {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rtc::interceptor::RTPHeaderExtension;
    use rtc::rtcp::transport_feedbacks::transport_layer_cc::RecvDelta;
    use rtc::rtcp::transport_feedbacks::transport_layer_cc::RunLengthChunk;
    use rtc::rtcp::transport_feedbacks::transport_layer_cc::StatusVectorChunk;

    use super::*;

    fn packet(ssrc: u32) -> Packet {
        let header = rtc::rtp::Header { ssrc, ..rtc::rtp::Header::default() };
        Packet { header, payload: Bytes::from_static(&[0; 42]) }
    }

    fn numbering() -> Numbering {
        let mut numbering = Numbering::new(Passages::default());
        let extension = RTPHeaderExtension { uri: NUMBER.to_owned(), id: 5 };
        numbering.bind(&StreamInfo { ssrc: 1, rtp_header_extensions: vec![extension], ..StreamInfo::default() });
        numbering
    }

    fn take(numbering: &Numbering) -> Vec<Passage> {
        std::mem::take(&mut *numbering.passages.lock().expect("nobody panicked"))
    }

    #[test]
    fn what_the_receiver_tells_is_told_of_what_was_sent() {
        let start = Instant::now();
        let mut numbering = numbering();
        numbering.next = 65_534;
        for n in 0..4 {
            let mut numbered = packet(1);
            numbering.number(start + Duration::from_millis(n), &mut numbered);
            let number = numbered.header.get_extension(5).expect("it has a number");
            assert_eq!(number[..], 65_534u16.wrapping_add(u16::try_from(n).expect("few")).to_be_bytes());
        }
        let mut sound = packet(2);
        numbering.number(start, &mut sound);
        assert_eq!(sound.header.get_extension(5), None);
        let received = SymbolTypeTcc::PacketReceivedSmallDelta;
        let delta = |delta| RecvDelta { type_tcc_packet: received, delta };
        let report = TransportLayerCc {
            base_sequence_number: 65_533,
            packet_status_count: 5,
            reference_time: 1_000,
            packet_chunks: vec![PacketStatusChunk::StatusVectorChunk(StatusVectorChunk {
                symbol_list: [vec![received; 2], vec![SymbolTypeTcc::PacketNotReceived], vec![received; 4]].concat(),
                ..StatusVectorChunk::default()
            })],
            recv_deltas: vec![delta(1_000), delta(2_000), delta(9_000), delta(-4_000), delta(1), delta(1)],
            ..TransportLayerCc::default()
        };
        numbering.read(&report);
        let at = |ms: u64, arrived: u64| Passage {
            sent: start + Duration::from_millis(ms),
            bytes: 42 + HEADERS,
            arrived: Duration::from_millis(64_000 + arrived),
        };
        assert_eq!(take(&numbering), [at(0, 3), at(2, 12), at(3, 8)], "not what was not sent, nor what is not there");
        numbering.read(&report);
        assert_eq!(take(&numbering), [], "nor what was told before");
    }

    proptest! {
        #[test]
        fn hostile_reports_are_read_in_bounds(
            base in any::<u16>(), count in any::<u16>(), time in 0u32..1 << 24,
            runs in prop::collection::vec((any::<u16>(), 0u16..4), 0..20), deltas in prop::collection::vec(any::<i16>(), 0..200),
        ) {
            let mut numbering = numbering();
            let start = Instant::now();
            (0..2_000).for_each(|_| numbering.number(start, &mut packet(1)));
            numbering.read(&TransportLayerCc {
                base_sequence_number: base,
                packet_status_count: count,
                reference_time: time,
                packet_chunks: runs.into_iter().map(|(run_length, status)| PacketStatusChunk::RunLengthChunk(RunLengthChunk {
                    run_length,
                    packet_status_symbol: status.into(),
                    ..RunLengthChunk::default()
                })).collect(),
                recv_deltas: deltas.into_iter().map(|delta| RecvDelta { delta: i64::from(delta) * 250, ..RecvDelta::default() }).collect(),
                ..TransportLayerCc::default()
            });
            prop_assert!(take(&numbering).len() <= 200);
        }
    }
}
