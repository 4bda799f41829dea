//! The clicks that are played: a leader's every second, and a follower's whenever it hears one.

use std::time::Duration;

use crate::align::buffer::RATE;

/// Samples a player plays at a time.
pub(crate) const BLOCK: usize = 480;

/// Samples of a click: so long that it is found again among the others', which come at the same time.
const CLICK: u64 = RATE * 6 / 100;

/// Loud enough to be heard by itself, and so soft that four at once are not limited.
const LEVEL: f32 = 0.2;

/// What is louder than this is a click that begins, after so many samples of silence.
const HEARD: f32 = 0.1;
const SILENCE: u64 = RATE / 4;

/// Plays clicks of one pitch.
#[derive(Debug)]
pub(crate) struct Clicker {
    hz: f64,
    /// Samples since the last click began.
    since: Option<u64>,
}

impl Clicker {
    pub(crate) const fn new(hz: f64) -> Self {
        Self { hz, since: None }
    }

    /// The next block; a click begins at sample `begin` of it.
    pub(crate) fn play(&mut self, begin: Option<usize>) -> Vec<f32> {
        let mut sample = |n: usize| {
            self.since = if begin == Some(n) { Some(0) } else { self.since.map(|since| since + 1) };
            let since = self.since.filter(|since| *since < CLICK)?;
            let phase = since as f64 / RATE as f64 * self.hz;
            Some(LEVEL * (phase.fract() * std::f64::consts::TAU).sin() as f32)
        };
        (0..BLOCK).map(|n| sample(n).unwrap_or_default()).collect()
    }
}

/// Hears where clicks begin.
#[derive(Debug, Default)]
pub(crate) struct Listener {
    silent: u64,
}

impl Listener {
    /// The sample of this block at which a click begins.
    pub(crate) fn hear(&mut self, block: &[f32]) -> Option<usize> {
        let mut found = None;
        for (n, sample) in block.iter().enumerate() {
            if sample.abs() < HEARD {
                self.silent += 1;
                continue;
            }
            if self.silent >= SILENCE {
                found = found.or(Some(n));
            }
            self.silent = 0;
        }
        found
    }
}

/// When a block begins and a leader's click in it, one every second.
pub(crate) fn leaders_click(block: u64) -> Option<usize> {
    block.is_multiple_of(RATE / BLOCK as u64).then_some(0)
}

/// How long a block sounds.
pub(crate) const BLOCK_TIME: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_click_is_heard_where_it_begins_and_once() {
        let (mut clicker, mut listener) = (Clicker::new(1200.0), Listener::default());
        let mut heard = Vec::new();
        for block in 0..200 {
            let begin = leaders_click(block).map(|_| 100).filter(|_| block > 0);
            heard.extend(listener.hear(&clicker.play(begin)).map(|at| block * 480 + at as u64));
        }
        let [at] = heard[..] else { panic!("{heard:?}") };
        assert!((48_100..48_110).contains(&at), "{at}");
    }
}
