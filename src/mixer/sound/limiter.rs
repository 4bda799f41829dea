//! The last thing that happens to the programme's sound: a limiter that looks ahead, so that many loud musicians together never clip.
//!
//! It keeps the true peak, which is what a converter or a lossy codec makes of the samples, under [`CEILING`]. Sound that stays
//! under it passes bit for bit, [`DELAY`] samples later.

use std::collections::VecDeque;

/// -1 dBTP, what EBU R 128 and the platforms ask for.
const CEILING: f32 = 0.891_25;

/// Samples between seeing a peak and playing it: 5 ms, in which the gain is lowered without a click.
const AHEAD: usize = 240;

/// How late a sound leaves, in samples: the look ahead, and half of the interpolator.
pub(in crate::mixer) const DELAY: usize = AHEAD + TAPS / 2;

/// Samples for which the gain is held after a peak: 40 ms, longer than any wave a bass makes, so that it does not follow the waves.
const HOLD: usize = 1920;

/// How fast the gain comes back, as the share of the way that is gone in a sample, 1 - exp(-1 / (48 000 Hz x time)): within 0.1 s to
/// its own mean of the last second, so that a hit on the drum does not duck a whole bar, and within 1.5 s to one, so that a loud
/// chorus does not pump.
const TO_MEAN: f64 = 2.083e-4;
const TO_ONE: f64 = 1.389e-5;
const MEAN: f64 = 2.083e-5;

/// A gain this near to one is one.
const OPEN: f64 = 0.999;

const TAPS: usize = 12;

/// The interpolator of ITU-R BS.1770-4 annex 2: one row for each quarter between two samples. The other two rows are these two
/// backwards.
const QUARTERS: [[f32; TAPS]; 2] = [
    [
        0.001_708_984_4,
        0.010_986_328,
        -0.019_653_32,
        0.033_203_125,
        -0.059_448_242,
        0.137_329_1,
        0.972_167_97,
        -0.102_294_92,
        0.047_607_422,
        -0.026_611_328,
        0.014_892_578,
        -0.008_300_781,
    ],
    [
        -0.029_174_805,
        0.029_296_875,
        -0.051_757_812,
        0.089_111_33,
        -0.166_503_9,
        0.465_087_9,
        0.779_785_16,
        -0.200_317_38,
        0.101_562_5,
        -0.058_227_54,
        0.033_081_055,
        -0.018_920_898,
    ],
];

/// The rows, forwards and backwards, sample by sample, each weight for the left and the right channel.
const BETWEEN: [[f32; LANES]; TAPS] = {
    let mut weights = [[0.0; LANES]; TAPS];
    let mut tap = 0;
    while tap < TAPS {
        let mut lane = 0;
        while lane < LANES {
            let (row, back) = (lane / 4, lane / 2 % 2 == 1);
            weights[tap][lane] = QUARTERS[row][if back { TAPS - 1 - tap } else { tap }];
            lane += 1;
        }
        tap += 1;
    }
    weights
};

/// Four points of two channels: a vector that processors multiply at once.
const LANES: usize = 8;

/// No interpolated value can exceed a sample's by more than this factor: the largest sum of a row's absolute values is 2.02.
const MOST_BETWEEN: f32 = 2.1;

/// See the file.
#[derive(Debug)]
pub(in crate::mixer) struct Limiter {
    /// Samples that wait to be played, oldest first.
    waiting: VecDeque<[f32; 2]>,
    /// The newest [`TAPS`] of them, which are interpolated between.
    newest: [[f32; 2]; TAPS],
    /// Samples in a row that were too quiet to have a peak between them.
    quiet: usize,
    /// Counts samples.
    now: u64,
    /// Gains that peaks ahead ask for, rising, with when they were asked for: the first is the least of all.
    asked: VecDeque<(u64, f32)>,
    /// The least gain asked for, let go slowly.
    released: f64,
    /// Its mean of about the last second.
    mean: f64,
    /// The last [`AHEAD`] values of that, and their sum: the mean of them is the gain, lowered in a straight line before each peak.
    recent: VecDeque<f64>,
    sum: f64,
}

impl Limiter {
    pub(in crate::mixer) fn new() -> Self {
        Self {
            waiting: VecDeque::from(vec![[0.0; 2]; DELAY]),
            newest: [[0.0; 2]; TAPS],
            quiet: TAPS,
            now: 0,
            asked: VecDeque::with_capacity(AHEAD + HOLD + 1),
            released: 1.0,
            mean: 1.0,
            recent: VecDeque::from(vec![1.0; AHEAD]),
            sum: AHEAD as f64,
        }
    }

    /// Replaces a sample by the one that is to be played now.
    pub(in crate::mixer) fn next(&mut self, sample: [f32; 2]) -> [f32; 2] {
        self.waiting.push_back(sample);
        let played = self.waiting.pop_front().unwrap_or(sample);
        self.newest.copy_within(1.., 0);
        self.newest[TAPS - 1] = sample;
        let gain = self.gain();
        [played[0] * gain, played[1] * gain]
    }

    fn gain(&mut self) -> f32 {
        let wanted = self.wanted();
        while self.asked.back().is_some_and(|(_, gain)| *gain >= wanted) {
            self.asked.pop_back();
        }
        self.asked.push_back((self.now, wanted));
        while self.asked.front().is_some_and(|(at, _)| self.now - at > (AHEAD + HOLD) as u64) {
            self.asked.pop_front();
        }
        self.now += 1;
        let least = self.asked.front().map_or(1.0, |(_, gain)| f64::from(*gain));
        self.mean += (least - self.mean) * MEAN;
        let raised = if self.released < self.mean {
            self.released + (self.mean - self.released) * TO_MEAN
        } else {
            self.released + (1.0 - self.released) * TO_ONE
        };
        self.released = least.min(if raised > OPEN { 1.0 } else { raised });
        self.recent.push_back(self.released);
        self.sum += self.released - self.recent.pop_front().unwrap_or(1.0);
        (self.sum / AHEAD as f64).min(1.0) as f32
    }

    /// The gain that the true peak around the middle of the newest [`TAPS`] samples asks for.
    fn wanted(&mut self) -> f32 {
        self.quiet = if peak(self.newest[TAPS - 1]) * MOST_BETWEEN < CEILING { self.quiet + 1 } else { 0 };
        if self.quiet >= TAPS {
            return 1.0;
        }
        let mut between = [0.0_f32; LANES];
        for ([left, right], weights) in self.newest.iter().zip(&BETWEEN) {
            let sample = [left, right, left, right, left, right, left, right];
            for ((sum, value), weight) in between.iter_mut().zip(sample).zip(weights) {
                *sum += value * weight;
            }
        }
        let on_samples = peak(self.newest[TAPS / 2]).max(peak(self.newest[TAPS / 2 - 1]));
        let highest = between.iter().fold(on_samples, |highest, value| highest.max(value.abs()));
        if highest > CEILING { CEILING / highest } else { 1.0 }
    }
}

fn peak(sample: [f32; 2]) -> f32 {
    sample[0].abs().max(sample[1].abs())
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;

    /// As many samples of `wave`, which is given the time in seconds, on both channels.
    fn sound(samples: usize, wave: impl Fn(f64) -> f64) -> Vec<[f32; 2]> {
        (0..samples).map(|n| [wave(n as f64 / 48_000.0) as f32; 2]).collect()
    }

    fn limited(sound: &[[f32; 2]]) -> Vec<[f32; 2]> {
        let mut limiter = Limiter::new();
        sound.iter().map(|sample| limiter.next(*sample)).collect()
    }

    /// The highest value of the left channel, 8 times interpolated by a long windowed sinc.
    fn true_peak(samples: &[[f32; 2]]) -> f64 {
        const REACH: i64 = 24;
        let between = |at: i64, part: f64| -> f64 {
            (1 - REACH..=REACH)
                .map(|n| {
                    let x = (n as f64 - part) * TAU / 2.0;
                    let window = (x / 2.0 / REACH as f64).cos().powi(2);
                    let sinc = if x.abs() < 1e-9 { 1.0 } else { x.sin() / x };
                    f64::from(samples[(at + n) as usize][0]) * sinc * window
                })
                .sum()
        };
        (REACH..samples.len() as i64 - REACH)
            .flat_map(|at| (0..8).map(move |part| (at, f64::from(part) / 8.0)))
            .map(|(at, part)| between(at, part).abs())
            .fold(0.0, f64::max)
    }

    /// Five notes of a chord, each loud by itself; together they reach +10 dBFS.
    fn chord(t: f64) -> f64 {
        [261.63, 329.63, 392.0, 523.25, 659.26].iter().map(|hz| 0.632 * (TAU * hz * t).sin()).sum()
    }

    #[test]
    fn quiet_sound_passes_bit_for_bit() {
        let quiet = sound(48_000, |t| 0.28 * chord(t));
        let heard = limited(&quiet);
        assert!(heard[..DELAY].iter().all(|sample| *sample == [0.0; 2]));
        assert!(heard[DELAY..] == quiet[..quiet.len() - DELAY]);
    }

    #[test]
    fn a_loud_chord_stays_under_its_true_peak_and_stays_a_chord() {
        let loud = sound(4 * 48_000, chord);
        let heard = limited(&loud);
        let peak = true_peak(&heard);
        assert!(20.0 * peak.log10() < -0.9, "true peak {peak}");
        assert!(20.0 * peak.log10() > -1.6, "needlessly quiet: {peak}");
        // What is left of the sound once the chord is taken out of it, with one gain for each 50 ms.
        let (mut rest, mut all) = (0.0, 0.0);
        for (out, sent) in heard[48_000..].chunks(2400).zip(loud[48_000 - DELAY..].chunks(2400)) {
            let pairs = || out.iter().zip(sent).map(|(out, sent)| (f64::from(out[0]), f64::from(sent[0])));
            let gain =
                pairs().map(|(out, sent)| out * sent).sum::<f64>() / pairs().map(|(_, sent)| sent * sent).sum::<f64>();
            rest += pairs().map(|(out, sent)| (out - gain * sent).powi(2)).sum::<f64>();
            all += pairs().map(|(out, _)| out * out).sum::<f64>();
        }
        let distortion = 10.0 * (rest / all).log10();
        assert!(distortion < -30.0, "{distortion} dB of distortion");
    }

    #[test]
    fn peaks_between_the_samples_count() {
        // A quarter of the sample rate, sampled 45 degrees beside its peaks: no sample is above 0.85, the wave reaches 1.2.
        let heard = limited(&sound(24_000, |t| 1.2 * (TAU * (12_000.0 * t + 0.125)).sin()));
        let peak = true_peak(&heard[4800..]);
        assert!(20.0 * peak.log10() < -0.9, "true peak {peak}");
    }

    #[test]
    fn a_single_hit_is_caught_and_forgotten() {
        let mut hit = sound(9 * 48_000, |t| 0.2 * (TAU * 100.0 * t).sin());
        hit[24_000] = [4.0, 0.0];
        let heard = limited(&hit);
        assert!(heard.iter().all(|sample| sample[0].abs() < CEILING * 1.001));
        let loudest = |from: usize| heard[from..from + 4800].iter().map(|sample| sample[0]).fold(0.0, f32::max);
        assert!(loudest(25_000) < 0.15 && loudest(48_000) > 0.19, "{} and {}", loudest(25_000), loudest(48_000));
        assert!(heard[8 * 48_000..] == hit[8 * 48_000 - DELAY..9 * 48_000 - DELAY]);
    }

    #[test]
    fn both_sides_keep_their_balance() {
        let heard = limited(
            &sound(48_000, |t| 2.0 * (TAU * 440.0 * t).sin()).iter().map(|s| [s[0], s[1] / 4.0]).collect::<Vec<_>>(),
        );
        assert!(heard.iter().all(|sample| (sample[0] - sample[1] * 4.0).abs() < 1e-5));
    }
}
