//! Floods: how often one participant is heard with the same wish, and when its excess is worth a line in the log.

use std::time::Duration;
use std::time::Instant;

/// What one asker may ask for, as a bucket that refills with time.
#[derive(Clone, Debug)]
pub struct Allowance {
    interval: Duration,
    depth: Duration,
    full_at: Option<Instant>,
}

impl Allowance {
    /// `burst` wishes at once, and one more every `interval`.
    pub fn new(burst: u32, interval: Duration) -> Self {
        Self { interval, depth: interval * burst, full_at: None }
    }

    /// Takes one; `false` if there is none.
    pub fn take(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.map_or(now, |at| at.max(now)) + self.interval;
        let there = full_at.saturating_duration_since(now) <= self.depth;
        if there {
            self.full_at = Some(full_at);
        }
        there
    }
}

/// Refusals are counted over this long before they are judged.
const WINDOW: Duration = Duration::from_secs(10);
/// Shortest time between two lines about one participant.
const NAMED_EVERY: Duration = Duration::from_secs(60);

/// The refusals of one participant, counted until they make a flood.
#[derive(Clone, Debug)]
pub struct Excess {
    threshold: u64,
    counted: u64,
    since: Option<Instant>,
    named_at: Option<Instant>,
}

impl Excess {
    /// More than `threshold` refusals within ten seconds are a flood.
    pub const fn over(threshold: u64) -> Self {
        Self { threshold, counted: 0, since: None, named_at: None }
    }

    /// Counts refusals; how many there were if they are to be named now, which is once a minute at most.
    pub fn note(&mut self, now: Instant, refused: u64) -> Option<u64> {
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) > WINDOW {
            (self.since, self.counted) = (Some(now), 0);
        }
        self.counted += refused;
        let is_fresh = self.named_at.is_none_or(|at| now.saturating_duration_since(at) >= NAMED_EVERY);
        if self.counted <= self.threshold || !is_fresh {
            return None;
        }
        self.named_at = Some(now);
        Some(std::mem::take(&mut self.counted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_heard_and_then_one_wish_in_each_interval() {
        let start = Instant::now();
        let mut allowance = Allowance::new(5, Duration::from_secs(2));
        let heard = |allowance: &mut Allowance, at| (0..100).filter(|_| allowance.take(at)).count();
        assert_eq!(heard(&mut allowance, start), 5);
        assert_eq!(heard(&mut allowance, start + Duration::from_secs(1)), 0);
        assert_eq!(heard(&mut allowance, start + Duration::from_secs(2)), 1);
        assert_eq!(heard(&mut allowance, start + Duration::from_secs(60)), 5);
    }

    #[test]
    fn a_flood_is_named_once_a_minute_and_a_trickle_never() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut flood = Excess::over(50);
        let named: Vec<u64> = (0..120).filter(|second| flood.note(at(*second), 30).is_some()).collect();
        assert_eq!(named, [1, 61]);
        let mut trickle = Excess::over(50);
        assert!((0..600).all(|second| trickle.note(at(second), 2).is_none()));
    }
}
