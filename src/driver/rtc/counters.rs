//! What a worker counts: plain integers on the packet path, published once a second.

use std::time::Duration;
use std::time::Instant;

use rustix::time::ClockId;
use rustix::time::clock_gettime;

use crate::driver::rtc::delay::Delays;
use crate::model::media::MediaKind;

/// Publications between two windows of forwarding delays: with one a second, the quantiles are of the last ten to twenty seconds.
const WINDOW: u32 = 10;

/// One kind of media in one direction.
#[derive(Clone, Copy, Default)]
struct Flow {
    packets: u64,
    bytes: u64,
}

/// Counts since the last publication.
#[derive(Default)]
pub(super) struct Counters {
    /// The worker's number, as metrics name it.
    worker: String,
    inbound: [Flow; 2],
    outbound: [Flow; 2],
    pub(super) tap_dropped: u64,
    pub(super) duplicates: u64,
    pub(super) keyframes_sent: u64,
    pub(super) keyframes_coalesced: u64,
    pub(super) keyframes_refused: u64,
    pub(super) repetitions_refused: u64,
    pub(super) datagrams_dropped: u64,
    /// When the first datagram of this turn was received, and how many packets were forwarded and not sent yet.
    turn: Option<Instant>,
    turn_packets: u64,
    delays: Delays,
    publications: u32,
    /// All retransmissions as last published.
    resent: u64,
    /// CPU time of the worker's thread at the last publication.
    cpu: Duration,
    pub(super) panics: u64,
    /// Participants of this worker as last published, for the gauge all workers share.
    participants: usize,
}

impl Counters {
    pub(super) fn new(worker: usize) -> Self {
        Self { worker: worker.to_string(), ..Self::default() }
    }

    /// A datagram has been received; a turn's first one stands for all of it.
    pub(super) fn begin_turn(&mut self, now: Instant) {
        self.turn.get_or_insert(now);
    }

    /// What was forwarded so far is with the kernel.
    pub(super) fn sent(&mut self, now: impl FnOnce() -> Instant) {
        let packets = std::mem::take(&mut self.turn_packets);
        if let Some(began) = self.turn.filter(|_| packets > 0) {
            self.delays.note(now().saturating_duration_since(began), packets);
        }
    }

    /// The next datagram begins a turn.
    pub(super) fn end_turn(&mut self) {
        self.turn = None;
    }

    pub(super) fn received(&mut self, kind: MediaKind, bytes: usize) {
        count(&mut self.inbound, kind, bytes);
    }

    pub(super) fn forwarded(&mut self, kind: MediaKind, bytes: usize) {
        count(&mut self.outbound, kind, bytes);
        self.turn_packets += 1;
    }

    /// Hands the counts over and begins anew; on the worker's own thread, whose CPU it reads. `resent` are all retransmissions so far.
    /// Returns the CPU time used since the last publication.
    pub(super) fn publish(&mut self, participants: usize, resent: u64) -> Duration {
        let worker = std::mem::take(&mut self.worker);
        for (direction, flows) in [("in", &self.inbound), ("out", &self.outbound)] {
            for kind in [MediaKind::Audio, MediaKind::Video] {
                let flow = flows[index(kind)];
                let labels = [("direction", direction), ("kind", kind.as_str()), ("worker", &worker)].map(label);
                metrics::counter!("jamcast_rtp_packets_total", labels.to_vec()).increment(flow.packets);
                metrics::counter!("jamcast_rtp_bytes_total", labels.to_vec()).increment(flow.bytes);
            }
        }
        metrics::counter!("jamcast_tap_dropped_packets_total").increment(self.tap_dropped);
        metrics::counter!("jamcast_duplicate_packets_total").increment(self.duplicates);
        metrics::counter!("jamcast_keyframe_requests_total", "result" => "sent").increment(self.keyframes_sent);
        metrics::counter!("jamcast_keyframe_requests_total", "result" => "coalesced")
            .increment(self.keyframes_coalesced);
        metrics::counter!("jamcast_keyframe_requests_total", "result" => "refused").increment(self.keyframes_refused);
        metrics::counter!("jamcast_refused_retransmissions_total").increment(self.repetitions_refused);
        metrics::counter!("jamcast_media_panics_total").increment(self.panics);
        let cpu = thread_cpu();
        let used = cpu.saturating_sub(self.cpu);
        let of_worker = [label(("worker", worker.as_str()))];
        metrics::counter!("jamcast_udp_dropped_datagrams_total", of_worker.to_vec()).increment(self.datagrams_dropped);
        metrics::counter!("jamcast_retransmitted_packets_total", of_worker.to_vec())
            .increment(resent.saturating_sub(self.resent));
        metrics::gauge!("jamcast_worker_cpu_seconds", of_worker.to_vec()).set(cpu.as_secs_f64());
        self.publish_delays(&worker);
        let gauge = metrics::gauge!("jamcast_participants");
        let change = |from: usize, to: usize| u32::try_from(to.saturating_sub(from)).unwrap_or(u32::MAX);
        gauge.increment(f64::from(change(self.participants, participants)));
        gauge.decrement(f64::from(change(participants, self.participants)));
        *self = Self {
            worker,
            participants,
            resent,
            cpu,
            publications: self.publications.wrapping_add(1),
            delays: std::mem::take(&mut self.delays),
            ..Self::default()
        };
        used
    }

    /// What half of the packets of the last seconds stayed here at most.
    pub(super) fn forwarding_delay(&self) -> Duration {
        Duration::from_secs_f64(self.delays.quantile(0.5).unwrap_or_default())
    }

    fn publish_delays(&mut self, worker: &str) {
        for (name, quantile) in [("0.5", 0.5), ("0.99", 0.99)] {
            let labels = [("worker", worker), ("quantile", name)].map(label);
            // Where nothing is forwarded there is no delay, and the last one would be a lie.
            let delay = self.delays.quantile(quantile).unwrap_or(f64::NAN);
            metrics::gauge!("jamcast_forwarding_delay_seconds", labels.to_vec()).set(delay);
        }
        if self.publications % WINDOW == WINDOW - 1 {
            self.delays.turn();
        }
    }
}

fn label((name, value): (&'static str, &str)) -> metrics::Label {
    metrics::Label::new(name, value.to_owned())
}

/// CPU time this thread has used.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
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

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    /// Every metric with the labels the operator's manual promises.
    #[test]
    fn a_worker_tells_its_cpu_its_packets_its_losses_and_its_delay() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let mut counters = Counters::new(3);
        let now = Instant::now();
        counters.begin_turn(now);
        counters.begin_turn(now + Duration::from_micros(700));
        for _ in 0..10 {
            counters.forwarded(MediaKind::Video, 1000);
        }
        counters.sent(|| now + Duration::from_millis(1));
        counters.sent(|| unreachable!("nothing was forwarded since"));
        counters.end_turn();
        counters.datagrams_dropped = 2;
        metrics::with_local_recorder(&recorder, || {
            counters.publish(0, 5);
            counters.publish(0, 7);
        });
        let text = recorder.handle().render();
        let value = |metric: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(metric));
            line.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("no {metric} in\n{text}"))
        };
        let out = r#"{direction="out",kind="video",worker="3"}"#;
        assert_eq!(value(&format!("jamcast_rtp_packets_total{out}")), 10.0);
        assert_eq!(value(&format!("jamcast_rtp_bytes_total{out}")), 10_000.0);
        assert_eq!(value(r#"jamcast_udp_dropped_datagrams_total{worker="3"}"#), 2.0);
        assert_eq!(value(r#"jamcast_retransmitted_packets_total{worker="3"}"#), 7.0);
        assert!(value(r#"jamcast_worker_cpu_seconds{worker="3"}"#) > 0.0);
        for quantile in ["0.5", "0.99"] {
            let labels = format!(r#"{{worker="3",quantile="{quantile}"}}"#);
            let delay = value(&format!("jamcast_forwarding_delay_seconds{labels}"));
            assert!((1e-3..=1.13e-3).contains(&delay), "from the first datagram of the turn: {delay}");
        }
        let manual = include_str!("../../../docs/OPERATIONS.md");
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let name = line.split(' ').next().unwrap_or_default();
            assert!(manual.contains(name), "docs/OPERATIONS.md has nothing about {name}");
        }
    }
}
