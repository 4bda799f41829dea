//! What a worker counts: plain integers on the packet path, published once a second.

use crate::model::media::MediaKind;

/// One kind of media in one direction.
#[derive(Clone, Copy, Default)]
struct Flow {
    packets: u64,
    bytes: u64,
}

/// Counts since the last publication.
#[derive(Default)]
pub(super) struct Counters {
    inbound: [Flow; 2],
    outbound: [Flow; 2],
    pub(super) tap_dropped: u64,
    pub(super) duplicates: u64,
    pub(super) keyframes_sent: u64,
    pub(super) keyframes_coalesced: u64,
    pub(super) keyframes_refused: u64,
    pub(super) repetitions_refused: u64,
    pub(super) datagrams_dropped: u64,
    pub(super) panics: u64,
    /// Participants of this worker as last published, for the gauge all workers share.
    participants: usize,
}

impl Counters {
    pub(super) fn received(&mut self, kind: MediaKind, bytes: usize) {
        count(&mut self.inbound, kind, bytes);
    }

    pub(super) fn forwarded(&mut self, kind: MediaKind, bytes: usize) {
        count(&mut self.outbound, kind, bytes);
    }

    /// Hands the counts over and begins anew.
    pub(super) fn publish(&mut self, participants: usize) {
        for (direction, flows) in [("in", &self.inbound), ("out", &self.outbound)] {
            for kind in [MediaKind::Audio, MediaKind::Video] {
                let flow = flows[index(kind)];
                let labels = [("direction", direction), ("kind", kind.as_str())];
                metrics::counter!("jamcast_rtp_packets_total", &labels).increment(flow.packets);
                metrics::counter!("jamcast_rtp_bytes_total", &labels).increment(flow.bytes);
            }
        }
        metrics::counter!("jamcast_tap_dropped_packets_total").increment(self.tap_dropped);
        metrics::counter!("jamcast_duplicate_packets_total").increment(self.duplicates);
        metrics::counter!("jamcast_keyframe_requests_total", "result" => "sent").increment(self.keyframes_sent);
        metrics::counter!("jamcast_keyframe_requests_total", "result" => "coalesced")
            .increment(self.keyframes_coalesced);
        metrics::counter!("jamcast_keyframe_requests_total", "result" => "refused").increment(self.keyframes_refused);
        metrics::counter!("jamcast_refused_retransmissions_total").increment(self.repetitions_refused);
        metrics::counter!("jamcast_udp_dropped_datagrams_total").increment(self.datagrams_dropped);
        metrics::counter!("jamcast_media_panics_total").increment(self.panics);
        let gauge = metrics::gauge!("jamcast_participants");
        let change = |from: usize, to: usize| u32::try_from(to.saturating_sub(from)).unwrap_or(u32::MAX);
        gauge.increment(f64::from(change(self.participants, participants)));
        gauge.decrement(f64::from(change(participants, self.participants)));
        *self = Self { participants, ..Self::default() };
    }
}

fn count(flows: &mut [Flow; 2], kind: MediaKind, bytes: usize) {
    let flow = &mut flows[index(kind)];
    flow.packets += 1;
    flow.bytes += bytes as u64;
}

const fn index(kind: MediaKind) -> usize {
    match kind {
        MediaKind::Audio => 0,
        MediaKind::Video => 1,
    }
}
