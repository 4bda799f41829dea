//! How long packets stay in a worker: a histogram of fixed size that forgets what is older than twenty seconds.

use std::time::Duration;

/// Buckets to each doubling, so that a quantile is at most an eighth too high.
const STEPS: usize = 8;
/// Doublings from a microsecond: up to 2^20, a second. What takes longer counts as that.
const DOUBLINGS: usize = 21;
const BUCKETS: usize = STEPS * DOUBLINGS;

pub(super) struct Delays {
    /// This window and the one before it.
    windows: [[u64; BUCKETS]; 2],
}

impl Default for Delays {
    fn default() -> Self {
        Self { windows: [[0; BUCKETS]; 2] }
    }
}

impl Delays {
    /// `packets` of them stayed this long.
    pub(super) fn note(&mut self, delay: Duration, packets: u64) {
        self.windows[0][bucket(delay)] += packets;
    }

    /// Begins a window and forgets the one before the last.
    pub(super) fn turn(&mut self) {
        self.windows.rotate_right(1);
        self.windows[0] = [0; BUCKETS];
    }

    /// What `quantile` (0 to 1) of the packets did not exceed, seconds; `None` without packets.
    pub(super) fn quantile(&self, quantile: f64) -> Option<f64> {
        let counts = || (0..BUCKETS).map(|index| self.windows[0][index] + self.windows[1][index]);
        let all: u64 = counts().sum();
        let mut still = (all as f64 * quantile).ceil().max(1.0);
        for (index, count) in counts().enumerate() {
            still -= count as f64;
            if count > 0 && still <= 0.0 {
                return Some(end(index));
            }
        }
        None
    }
}

fn bucket(delay: Duration) -> usize {
    let micros = delay.as_micros().clamp(1, (1 << DOUBLINGS) - 1);
    let doubling = micros.ilog2() as usize;
    let step = (micros * STEPS as u128) >> doubling;
    doubling * STEPS + usize::try_from(step).map_or(0, |step| step - STEPS)
}

/// Seconds at which a bucket ends.
fn end(bucket: usize) -> f64 {
    let start = (1_u64 << (bucket / STEPS)) as f64;
    start * (1.0 + (bucket % STEPS + 1) as f64 / STEPS as f64) / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_at_most_an_eighth_too_high() {
        let mut delays = Delays::default();
        assert_eq!(delays.quantile(0.5), None);
        delays.note(Duration::from_micros(200), 98);
        delays.note(Duration::from_millis(3), 2);
        let (p50, p99) = (delays.quantile(0.5).expect("packets"), delays.quantile(0.99).expect("packets"));
        assert!((200e-6..=225e-6).contains(&p50), "{p50}");
        assert!((3e-3..=3.4e-3).contains(&p99), "{p99}");
    }

    #[test]
    fn every_delay_ends_up_between_the_ends_of_its_bucket() {
        for micros in (1..5000).chain([65_535, 65_536, 1 << 20]) {
            let index = bucket(Duration::from_micros(micros));
            let start =
                if index.is_multiple_of(STEPS) { (1_u64 << (index / STEPS)) as f64 / 1e6 } else { end(index - 1) };
            let seconds = micros as f64 / 1e6;
            assert!(start <= seconds + 1e-9 && seconds < end(index), "{micros} µs in {start} to {}", end(index));
        }
        assert_eq!(bucket(Duration::ZERO), 0);
        assert_eq!(bucket(Duration::from_secs(60)), BUCKETS - 1);
    }

    #[test]
    fn what_is_two_windows_old_is_forgotten() {
        let mut delays = Delays::default();
        delays.note(Duration::from_millis(1), 1);
        delays.turn();
        assert!(delays.quantile(0.5).is_some());
        delays.turn();
        assert_eq!(delays.quantile(0.5), None);
    }
}
