//! How many bits per second come of something.

use std::time::Duration;
use std::time::Instant;

/// Over how long a rate is measured.
const SPAN: Duration = Duration::from_secs(1);
/// A layer that is silent for so long is not sent: browsers stop the high ones when their uplink or processor is short of them.
const SILENCE: Duration = Duration::from_secs(1);

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
}
