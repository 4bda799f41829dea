//! One RTP source of a producer: what came of it lately, what it costs, and who is to be asked for its keyframes.

use std::time::Duration;
use std::time::Instant;

use crate::domain::room::forwarder::Incoming;
use crate::domain::room::keyframe::Plea;
use crate::domain::room::keyframe::Throttle;
use crate::domain::room::picture::Size;
use crate::domain::room::transit::HEADERS;
use crate::domain::room::window::Arrival;
use crate::domain::room::window::Window;

/// Over how long a rate is measured.
const SPAN: Duration = Duration::from_secs(1);
/// A layer that is silent for so long is not sent: browsers stop the high ones when their uplink or processor is short of them.
const SILENCE: Duration = Duration::from_secs(1);

/// One encoding of a producer as its own RTP stream.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// The RTP stream id (RFC 8852) of a simulcast layer.
    pub(super) rid: Option<String>,
    pub(super) ssrc: u32,
    pub(super) size: Option<Size>,
    /// NTP and RTP time of its last sender report.
    pub(super) report: Option<(u64, u32)>,
    pub(super) throttle: Throttle,
    pub(super) meter: Meter,
    window: Window,
}

impl Source {
    pub(super) fn new(rid: Option<&str>, ssrc: u32) -> Self {
        Self {
            rid: rid.map(str::to_owned),
            ssrc,
            size: None,
            report: None,
            throttle: Throttle::default(),
            meter: Meter::default(),
            window: Window::default(),
        }
    }

    /// Notes a packet of this source; only a fresh one is for the consumers.
    pub(super) fn accept(&mut self, now: Instant, packet: &Incoming, length: usize) -> Arrival {
        let arrival = self.window.note(packet.seq);
        if arrival == Arrival::Fresh {
            self.meter.add(now, length + HEADERS);
            if packet.key {
                self.throttle.keyframe();
            }
        }
        arrival
    }

    pub(super) fn plead(&mut self, now: Instant) -> Plea {
        self.throttle.plead(now)
    }

    /// What a time of another source of the same sender is in this one, in ticks of `clock_rate` Hz; `None` while either has not
    /// told its clock.
    pub(super) fn twin(&self, other: &Self, timestamp: u32, clock_rate: u32) -> Option<u32> {
        let (ntp, rtp) = self.report?;
        let (other_ntp, other_rtp) = other.report?;
        // NTP times have 32 bits of fraction; both reports are seconds apart at most, so that the product fits.
        let apart = (i128::from(other_ntp.wrapping_sub(ntp).cast_signed()) * i128::from(clock_rate)) >> 32;
        let apart = u32::try_from(apart & i128::from(u32::MAX)).expect("masked to 32 bits");
        Some(rtp.wrapping_add(apart).wrapping_add(timestamp.wrapping_sub(other_rtp)))
    }
}

/// Measures a rate.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Meter {
    span: Option<(Instant, u64)>,
    rate: u64,
    last: Option<Instant>,
}

impl Meter {
    /// Counts a packet of `length` bytes.
    pub(super) fn add(&mut self, now: Instant, length: usize) {
        self.last = Some(now);
        let (since, bytes) = self.span.get_or_insert((now, 0));
        let passed = now.saturating_duration_since(*since);
        if passed >= SPAN {
            let rate = rate(*bytes, passed);
            // Half of the span before, for a keyframe is no change of rate.
            self.rate = if self.rate == 0 || passed >= 2 * SPAN { rate } else { self.rate.midpoint(rate) };
            self.span = Some((now, length as u64));
        } else {
            *bytes += length as u64;
        }
    }

    /// Bits per second lately; 0 after a silence.
    pub(super) fn rate(&self, now: Instant) -> u64 {
        if !self.is_active(now) {
            return 0;
        }
        match self.span {
            // The first second is worth a guess.
            Some((since, bytes)) if self.rate == 0 => rate(bytes, now.saturating_duration_since(since).max(SPAN / 4)),
            Some(_) | None => self.rate,
        }
    }

    pub(super) fn is_active(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now.saturating_duration_since(last) < SILENCE)
    }
}

fn rate(bytes: u64, passed: Duration) -> u64 {
    bytes * 8_000 / u64::try_from(passed.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_known_after_a_moment_and_gone_after_a_silence() {
        let start = Instant::now();
        let mut meter = Meter::default();
        assert_eq!(meter.rate(start), 0);
        // 50 packets/s of 1250 bytes are 500 kbit/s.
        for n in 0..250 {
            meter.add(start + Duration::from_millis(n * 20), 1250);
            if n == 25 {
                let early = meter.rate(start + Duration::from_millis(n * 20));
                assert!((450_000..650_000).contains(&early), "{early}");
            }
        }
        let rate = meter.rate(start + Duration::from_millis(5_500));
        assert!((480_000..520_000).contains(&rate), "{rate}");
        assert_eq!(meter.rate(start + Duration::from_secs(8)), 0);
    }

    #[test]
    fn a_moment_in_one_layer_is_found_in_another() {
        let mut low = Source::new(Some("q"), 1);
        let mut high = Source::new(Some("f"), 2);
        assert_eq!(low.twin(&high, 0, 90_000), None);
        low.report = Some((100 << 32, u32::MAX));
        high.report = Some(((101 << 32) + (1 << 31), 7));
        // 1.5 s between the reports, and 0.1 s after the later one.
        assert_eq!(low.twin(&high, 7 + 9_000, 90_000), Some(135_000 + 9_000 - 1));
        assert_eq!(high.twin(&low, u32::MAX, 90_000), Some(7u32.wrapping_sub(135_000)));
    }
}
