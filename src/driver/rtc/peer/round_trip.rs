//! How long a packet takes to the remote end and back: by the ICE checks that it answers, and by what its reports say.

use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;

use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::shared::time::SystemInstant;

use crate::domain::room::delay::round_trip_told;
use crate::driver::rtc::demux;

/// A STUN transaction's number (RFC 8489 section 5).
type Transaction = [u8; 12];

/// Checks kept until they are answered: one in two seconds, of which the slowest path has five on their way.
const MAX_CHECKS: usize = 8;
/// Between two reports that count: a browser reports on each stream it receives, and all of them say the same.
const BETWEEN_REPORTS: Duration = Duration::from_secs(1);

/// The measurements of one connected peer.
#[derive(Default)]
pub(super) struct RoundTrips {
    /// When the stack was last given anything; what it has to send follows from that.
    now: Option<Instant>,
    checks: VecDeque<(Transaction, Instant)>,
    reported_at: Option<Instant>,
    /// Measured and not told yet.
    measured: Option<Duration>,
}

impl RoundTrips {
    /// The stack is given a datagram, or its timer runs.
    pub(super) fn begin(&mut self, now: Instant) {
        self.now = Some(now);
    }

    /// A datagram leaves.
    pub(super) fn sent(&mut self, datagram: &[u8]) {
        let transaction = demux::is_binding_request(datagram).then(|| datagram[8..].first_chunk()).flatten();
        if let (Some(transaction), Some(now)) = (transaction, self.now) {
            self.checks.truncate(MAX_CHECKS - 1);
            self.checks.push_front((*transaction, now));
        }
    }

    /// A datagram has come.
    pub(super) fn received(&mut self, now: Instant, datagram: &[u8]) {
        let answered = demux::is_binding_success(datagram).then(|| datagram[8..].first_chunk()).flatten();
        let check = answered.and_then(|answered| self.checks.iter().position(|(check, _)| check == answered));
        if let Some((_, sent)) = check.and_then(|check| self.checks.remove(check)) {
            self.measured = Some(now.saturating_duration_since(sent));
        }
    }

    /// A report on what we send has come. Our sender reports are stamped by the wall clock (`rtc` 0.21.1), so it is read here too.
    pub(super) fn reported(&mut self, now: Instant, report: &ReceiverReport) {
        let is_soon = self.reported_at.is_some_and(|at| now.saturating_duration_since(at) < BETWEEN_REPORTS);
        let Some(block) = report.reports.first().filter(|_| !is_soon) else { return };
        let told = round_trip_told(clock(now), block.last_sender_report, block.delay);
        if told.is_some() {
            self.reported_at = Some(now);
            self.measured = told;
        }
    }

    pub(super) fn take(&mut self) -> Option<Duration> {
        self.measured.take()
    }
}

/// The middle 32 bits of the NTP time.
#[expect(clippy::cast_possible_truncation, reason = "the upper 16 bits are not meant")]
pub(super) fn clock(now: Instant) -> u32 {
    (SystemInstant::now(now).ntp(now) >> 16) as u32
}
