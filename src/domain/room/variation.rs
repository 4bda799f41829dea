//! How much later than its fastest packets a sender's sound comes, as it usually does: its packet delay variation (PDV, RFC 5481).

use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;

use crate::model::media::Codec;

/// The fastest packet of so many seconds counts: the mixer places a musician by it (`mixer/source/timing.rs`).
const FASTEST_OF_S: u64 = 30;

/// And what is usual in so many of them.
const USUAL_OF_S: u64 = 8;

/// A sender whose media time jumps this far against its arrival begins anew.
const JUMP_US: i64 = 2_000_000;

/// See the file.
#[derive(Debug, Default)]
pub(super) struct DelayVariation {
    origin: Option<Instant>,
    /// Media time of the newest packet in ticks, free of wraps.
    newest: i64,
    /// What has come, by the second, oldest first.
    seconds: VecDeque<Second>,
}

/// Packets of a second; what they took is their arrival less their media time, in µs.
#[derive(Debug)]
struct Second {
    number: u64,
    least: i64,
    sum: i64,
    packets: i64,
}

impl DelayVariation {
    /// A packet of sound has come. One that had to be asked for again says nothing of the way; it comes behind newer ones.
    pub(super) fn note(&mut self, now: Instant, timestamp: u32) {
        let Some(origin) = self.origin else {
            *self = Self { origin: Some(now), newest: i64::from(timestamp), seconds: VecDeque::new() };
            return self.add(0, -micros_of(self.newest));
        };
        let ticks = self.newest + i64::from(timestamp.wrapping_sub(self.newest as u32).cast_signed());
        let arrived = now.saturating_duration_since(origin);
        let took = i64::try_from(arrived.as_micros()).unwrap_or(i64::MAX / 2) - micros_of(ticks);
        if self.least().is_some_and(|least| (took - least).abs() > JUMP_US) {
            *self = Self::default();
            return self.note(now, timestamp);
        }
        if ticks > self.newest {
            self.newest = ticks;
            self.add(arrived.as_secs(), took);
        }
    }

    /// Zero until something has come. That of the middle one of the last seconds: what was held up once for a second is not usual.
    pub(super) fn usual(&self) -> Duration {
        let newest = self.seconds.back().map_or(0, |second| second.number);
        let lately = self.seconds.iter().filter(|second| newest - second.number < USUAL_OF_S);
        let mut means: Vec<i64> = lately.map(|second| second.sum / second.packets).collect();
        means.sort_unstable();
        let usual = means.get(means.len() / 2).copied().zip(self.least()).map_or(0, |(mean, least)| mean - least);
        Duration::from_micros(usual.max(0).unsigned_abs())
    }

    fn add(&mut self, number: u64, took: i64) {
        match self.seconds.back_mut() {
            Some(second) if second.number == number => {
                second.least = second.least.min(took);
                second.sum += took;
                second.packets += 1;
            }
            Some(_) | None => self.seconds.push_back(Second { number, least: took, sum: took, packets: 1 }),
        }
        self.seconds.retain(|second| number - second.number < FASTEST_OF_S);
    }

    fn least(&self) -> Option<i64> {
        self.seconds.iter().map(|second| second.least).min()
    }
}

/// Ticks of Opus, the only sound there is, in µs.
fn micros_of(ticks: i64) -> i64 {
    ticks * 1000 / i64::from(Codec::Opus.clock_rate() / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const PIECE: u32 = 960;

    /// Notes so many pieces of 20 ms, of which number `n` is `late(n)` milliseconds late, from this one on.
    fn come(variation: &mut DelayVariation, begin: Instant, numbers: std::ops::Range<u32>, late: impl Fn(u32) -> u32) {
        for n in numbers {
            variation.note(begin + (20 * n + late(n)) * MS, n.wrapping_mul(PIECE).wrapping_sub(PIECE));
        }
    }

    #[test]
    fn it_is_how_much_later_than_the_fastest_packets_come_on_average() {
        let (begin, mut variation) = (Instant::now(), DelayVariation::default());
        assert_eq!(variation.usual(), Duration::ZERO);
        // The first one's time is just before its wrap.
        come(&mut variation, begin, 0..500, |n| 50 + 4 * (n % 3));
        assert!(variation.usual().abs_diff(4 * MS) < MS / 10, "{:?}", variation.usual());
        // A way that has become worse is the usual one after eight seconds, and the fastest is still known.
        come(&mut variation, begin, 500..900, |_| 70);
        assert_eq!(variation.usual(), 20 * MS);
        come(&mut variation, begin, 900..3000, |_| 70);
        assert_eq!(variation.usual(), Duration::ZERO);
    }

    #[test]
    fn a_second_and_a_half_in_which_nothing_came_through_changes_nothing() {
        let (begin, mut variation) = (Instant::now(), DelayVariation::default());
        let stalls = |n: u32| if (600..675).contains(&n) { 20 * (675 - n) } else { 0 };
        come(&mut variation, begin, 0..700, |n| 4 * (n % 3) + stalls(n));
        assert!(variation.usual().abs_diff(4 * MS) < MS / 2, "{:?}", variation.usual());
    }

    #[test]
    fn what_was_asked_for_again_does_not_count_and_what_jumps_begins_anew() {
        let (begin, mut variation) = (Instant::now(), DelayVariation::default());
        come(&mut variation, begin, 0..200, |_| 0);
        for n in 100..190 {
            variation.note(begin + 4000 * MS, n * PIECE);
        }
        assert_eq!(variation.usual(), Duration::ZERO);
        for jump in [48_000 * 60, 0x8000_0000, (5_u32 * 48_000).wrapping_neg()] {
            variation.note(begin + 4000 * MS, (199 * PIECE).wrapping_add(jump));
            assert_eq!(variation.usual(), Duration::ZERO);
            variation.note(begin + 4030 * MS, (200 * PIECE).wrapping_add(jump));
            assert_eq!(variation.usual(), 5 * MS, "two packets, the second of which is 10 ms late");
        }
    }
}
