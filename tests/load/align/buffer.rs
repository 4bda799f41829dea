//! A jitter buffer as players have them: it plays what comes at its own even pace, and waits longer where something came too late.

use std::collections::VecDeque;
use std::time::Duration;

/// Samples a second.
pub(crate) const RATE: u64 = 48_000;

/// What it keeps above the latest that came.
const SPARE: Duration = Duration::from_millis(5);

/// It waits for as long as the latest of so many seconds needs.
const REMEMBERED_S: u64 = 4;

/// Sound that is kept for those who ask for it late.
const KEPT: usize = 10 * RATE as usize;

/// A buffer of a depth of its own has found its place after so long.
const SETTLING: Duration = Duration::from_secs(2);

/// See the file. Times are those of one clock that the caller has.
#[derive(Debug, Default)]
pub(crate) struct JitterBuffer {
    /// What it holds back of the fastest packets, if that is not to follow what comes.
    depth: Option<Duration>,
    begun: Option<Duration>,
    /// RTP time of the first packet.
    first: Option<u32>,
    /// From a packet's place in the sender's time to its playing.
    lag: Duration,
    /// The longest transit of each second, oldest first.
    longest: VecDeque<(u64, Duration)>,
    /// Samples, the first of which has this number.
    samples: VecDeque<f32>,
    begin: u64,
    waited: Duration,
    packets: u32,
}

impl JitterBuffer {
    /// One that holds back so much of the fastest packets whatever comes, or that follows what comes.
    pub(crate) fn new(depth: Option<Duration>) -> Self {
        Self { depth, ..Self::default() }
    }

    /// A packet has come. Gives its number of samples since the first, by which [`JitterBuffer::put`] takes what is decoded of it.
    pub(crate) fn arrived(&mut self, now: Duration, rtp: u32) -> u64 {
        let at = u64::from(rtp.wrapping_sub(*self.first.get_or_insert(rtp)));
        let transit = now.saturating_sub(time_of(at));
        match self.depth {
            Some(depth) => {
                let settles = now < *self.begun.get_or_insert(now) + SETTLING;
                if settles && (self.lag.is_zero() || transit + depth < self.lag) {
                    self.lag = transit + depth;
                }
            }
            None => self.adapt(now.as_secs(), transit),
        }
        self.waited += self.lag.saturating_sub(transit);
        self.packets += 1;
        at
    }

    /// Waits longer at once, and for less long when nothing has needed it for seconds.
    fn adapt(&mut self, second: u64, transit: Duration) {
        match self.longest.back_mut() {
            Some((last, longest)) if *last == second => *longest = transit.max(*longest),
            Some(_) | None => self.longest.push_back((second, transit)),
        }
        self.longest.retain(|(then, _)| second - then <= REMEMBERED_S);
        let needed = self.longest.iter().map(|(_, longest)| *longest).max().unwrap_or_default();
        if transit + SPARE / 2 > self.lag || needed + 2 * SPARE < self.lag {
            self.lag = needed + SPARE;
        }
    }

    /// Takes decoded sound.
    pub(crate) fn put(&mut self, at: u64, sound: &[f32]) {
        let end = self.begin + self.samples.len() as u64;
        if at < end {
            return;
        }
        self.samples.extend(std::iter::repeat_n(0.0, usize::try_from(at - end).unwrap_or(0).min(KEPT)));
        self.samples.extend(sound);
        let surplus = self.samples.len().saturating_sub(KEPT);
        self.samples.drain(..surplus);
        self.begin = at + sound.len() as u64 - self.samples.len() as u64;
    }

    /// What is played from `from` on; silence where there is nothing.
    pub(crate) fn play(&self, from: Duration, count: usize) -> Vec<f32> {
        let Some(first) = from.checked_sub(self.lag).map(samples_in) else { return vec![0.0; count] };
        let sample = |at: u64| {
            let index = usize::try_from(at.checked_sub(self.begin)?).ok()?;
            self.samples.get(index).copied()
        };
        (first..first + count as u64).map(|at| sample(at).unwrap_or_default()).collect()
    }

    /// How long packets waited on average since the last time, as browsers count it; `None` if none came.
    pub(crate) fn take_waited(&mut self) -> Option<Duration> {
        let packets = std::mem::take(&mut self.packets);
        std::mem::take(&mut self.waited).checked_div(packets)
    }
}

/// How long so many samples sound.
pub(crate) fn time_of(samples: u64) -> Duration {
    Duration::from_nanos(samples * 1_000_000_000 / RATE)
}

fn samples_in(time: Duration) -> u64 {
    u64::try_from(time.as_nanos() * u128::from(RATE) / 1_000_000_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn it_plays_evenly_what_comes_unevenly_and_says_how_long_it_waits() {
        let mut buffer = JitterBuffer::default();
        let first = u32::MAX - 1000;
        for (n, late) in [0_u32, 7, 3, 0, 7, 3].into_iter().enumerate() {
            let now = 100 * MS + MS * (n as u32 * 10 + late);
            let at = buffer.arrived(now, first.wrapping_add(n as u32 * 480));
            assert_eq!(at, n as u64 * 480);
            buffer.put(at, &[n as f32; 480]);
        }
        // The second packet is the latest: 7 ms, and 5 to spare.
        let heard = buffer.play(112 * MS, 480 * 6);
        assert!(heard.chunks(480).zip(0_u8..).all(|(piece, n)| piece.iter().all(|sample| *sample == f32::from(n))));
        assert_eq!(buffer.play(111 * MS, 48), [0.0; 48], "nothing before it");
        // 5 ms before the buffer knew of the jitter; 5, 9, 12, 5 and 9 since.
        assert_eq!(buffer.take_waited(), Some(Duration::from_micros(7500)));
        assert_eq!(buffer.take_waited(), None);
    }

    #[test]
    fn one_of_a_depth_of_its_own_moves_for_nothing_once_it_has_found_its_place() {
        let mut buffer = JitterBuffer::new(Some(120 * MS));
        // Some come faster than all before, once it is too late for them.
        let late = |n: u32| match n {
            0 => 30,
            1..500 => 10,
            500..900 => 400,
            _ => 0,
        };
        (0..1000).for_each(|n| _ = buffer.arrived(MS * (50 + n * 10 + late(n)), n * 480));
        assert_eq!(buffer.lag, 180 * MS);
    }

    #[test]
    fn it_waits_for_less_long_again_seconds_after_a_disturbance() {
        let mut buffer = JitterBuffer::default();
        let mut waited = Vec::new();
        for n in 0..1000_u32 {
            let late = if n == 100 { 160 } else { 0 };
            buffer.arrived(MS * (n * 10 + late), n * 480);
            if n % 100 == 99 {
                waited.extend(buffer.take_waited().map(|waited| waited.as_millis()));
            }
        }
        assert_eq!((waited[0], waited[3], waited[9]), (5, 165, 5));
    }
}
