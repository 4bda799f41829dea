//! How loud the programme is (EBU R 128, ITU-R BS.1770), and the slow hand that brings it to -14 LUFS where that is asked for.

use std::collections::VecDeque;

use ebur128::EbuR128;
use ebur128::Mode;

use crate::mixer::error::Error;
use crate::mixer::programme::build_error;
use crate::mixer::sound::level::decibels;

/// Samples a second.
const RATE: u32 = 48_000;

/// Values of 100 ms of stereo, and so many of these in the 3 s of the short-term loudness.
const STEP: usize = RATE as usize / 10 * 2;
const STEPS: usize = 30;

/// What is less loud is silence (the absolute gate of ITU-R BS.1770-4), LUFS.
const GATE: f64 = -70.0;

/// What YouTube, Spotify and most others bring music to, LUFS.
const TARGET: f64 = -14.0;

/// Most that is added or taken away, dB: more would be noise made loud, or a fader that should be moved.
const MOST: f64 = 12.0;

/// How fast the gain moves, dB a second: raised so slowly that nobody hears it, lowered a little faster, because loud hurts.
const RISE: f64 = 1.0;
const FALL: f64 = 3.0;

/// What is this much quieter than usual, LU, is a pause between two songs; the relative gate of ITU-R BS.1770-4.
const PAUSE: f64 = 10.0;

/// A pause of this many looks is a quieter song.
const LONG_PAUSE: u32 = 100;

/// What is quieter than this without any gain, LUFS, is never made louder: the noise of an empty stage.
const STAGE_NOISE: f64 = -50.0;

/// How fast the usual loudness follows, as the share of the way that is gone in a look: 3 s.
const FOLLOW: f64 = 0.033;

/// Seconds between two looks.
const LOOK: f64 = 0.1;

/// A programme's meter.
#[derive(Debug)]
pub(in crate::mixer) struct Loudness {
    meter: EbuR128,
    /// Highest true peak since the last look, linear.
    peak: f64,
    /// The energy of each of the last 3 s' tenths, and what has been heard of the next one. The meter would add up all samples of 3 s in
    /// every look.
    steps: VecDeque<f64>,
    since: usize,
}

/// What a look at the meter shows; `None` is silence.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::mixer) struct Reading {
    /// LUFS of the last 400 ms, of the last 3 s, and since the beginning without its pauses.
    pub momentary: Option<f64>,
    pub short_term: Option<f64>,
    pub integrated: Option<f64>,
    /// dBTP since the last look.
    pub true_peak: Option<f64>,
}

impl Loudness {
    pub(in crate::mixer) fn new() -> Result<Self, Error> {
        // A histogram needs the same memory after a day as after a minute.
        let mode = Mode::M | Mode::I | Mode::TRUE_PEAK | Mode::HISTOGRAM;
        let meter = EbuR128::new(2, RATE, mode).map_err(|error| build_error("loudness", &error))?;
        Ok(Self { meter, peak: 0.0, steps: VecDeque::new(), since: 0 })
    }

    /// Takes interleaved stereo.
    pub(in crate::mixer) fn hear(&mut self, mut values: &[f32]) {
        while !values.is_empty() {
            let (piece, rest) = values.split_at(values.len().min(STEP - self.since));
            values = rest;
            if self.meter.add_frames_f32(piece).is_err() {
                return;
            }
            let peak = |channel| self.meter.prev_true_peak(channel).unwrap_or(0.0);
            self.peak = self.peak.max(peak(0)).max(peak(1));
            self.since += piece.len();
            if self.since == STEP {
                self.since = 0;
                self.steps.truncate(STEPS - 1);
                self.steps.push_front(self.meter.loudness_window(100).map_or(0.0, energy));
            }
        }
    }

    /// Begins the next look's true peak.
    pub(in crate::mixer) fn look(&mut self) -> Reading {
        let audible = |loudness: Result<f64, _>| loudness.ok().filter(|loudness| *loudness > GATE);
        let true_peak = decibels(std::mem::take(&mut self.peak));
        Reading {
            momentary: audible(self.meter.loudness_momentary()),
            short_term: Some(self.short_term()).filter(|loudness| *loudness > GATE),
            integrated: audible(self.meter.loudness_global()),
            true_peak: (true_peak > GATE).then_some(true_peak),
        }
    }

    /// LUFS. What is missing of the first 3 s was silence.
    fn short_term(&self) -> f64 {
        loudness(self.steps.iter().sum::<f64>() / STEPS as f64)
    }
}

/// In units of which 1 is 0 LUFS.
fn energy(loudness: f64) -> f64 {
    10.0_f64.powf(loudness / 10.0)
}

/// LUFS.
fn loudness(energy: f64) -> f64 {
    10.0 * energy.log10()
}

/// Chooses a gain that brings the programme to the target: from the usual loudness of what goes in, in which pauses do not count.
#[derive(Debug, Default)]
pub(in crate::mixer) struct Normaliser {
    gain: f64,
    /// Energy of the usual loudness of what goes in.
    usual: Option<f64>,
    quiet_looks: u32,
}

impl Normaliser {
    /// The gain in dB after another look of 0.1 s in which this momentary loudness was measured behind the gain. Switched off, it
    /// goes back to none.
    pub(in crate::mixer) fn next(&mut self, momentary: Option<f64>, on: bool) -> f64 {
        if !on {
            *self = Self { gain: self.gain, ..Self::default() };
            self.move_to(0.0);
            return self.gain;
        }
        let sound = momentary.map(|loudness| loudness - self.gain).filter(|loudness| *loudness > STAGE_NOISE);
        if let Some(loudness) = sound {
            self.follow(loudness);
            if let Some(usual) = self.usual {
                self.move_to((TARGET - self::loudness(usual)).clamp(-MOST, MOST));
            }
        }
        self.gain
    }

    fn follow(&mut self, loudness: f64) {
        let energy = energy(loudness);
        let pauses = self.usual.is_some_and(|usual| loudness < self::loudness(usual) - PAUSE);
        self.quiet_looks = if pauses { self.quiet_looks + 1 } else { 0 };
        self.usual = match self.usual {
            Some(usual) if !pauses => Some(usual + (energy - usual) * FOLLOW),
            Some(usual) if self.quiet_looks < LONG_PAUSE => Some(usual),
            Some(_) | None => Some(energy),
        };
    }

    fn move_to(&mut self, goal: f64) {
        self.gain += (goal - self.gain).clamp(-FALL * LOOK, RISE * LOOK);
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;

    /// A sine of 1 kHz on both sides, its peaks at this many dBFS.
    fn sine(seconds: f64, dbfs: f64) -> Vec<f32> {
        let level = 10.0_f64.powf(dbfs / 20.0);
        (0..(seconds * 48_000.0) as usize)
            .flat_map(|n| [(level * (TAU * 1000.0 * n as f64 / 48_000.0).sin()) as f32; 2])
            .collect()
    }

    fn measured(parts: &[(f64, f64)]) -> Reading {
        let mut loudness = Loudness::new().expect("a meter");
        for (seconds, dbfs) in parts {
            sine(*seconds, *dbfs).chunks(1920).for_each(|piece| loudness.hear(piece));
        }
        loudness.look()
    }

    fn is(reading: Option<f64>, expected: f64) {
        let reading = reading.expect("audible");
        assert!((reading - expected).abs() <= 0.1, "{reading} instead of {expected}");
    }

    #[test]
    fn the_meter_is_as_exact_as_ebu_tech_3341_asks_for() {
        // Test cases 1 and 2: the same number on all three meters.
        for dbfs in [-23.0, -33.0] {
            let reading = measured(&[(20.0, dbfs)]);
            is(reading.momentary, dbfs);
            is(reading.short_term, dbfs);
            is(reading.integrated, dbfs);
        }
        // Half of the last 3 s was silence.
        is(measured(&[(5.0, -80.0), (1.5, -20.0)]).short_term, -23.0);
        is(measured(&[(5.0, -20.0), (1.5, -80.0)]).short_term, -23.0);
        // Test cases 3 to 5: quieter parts are gated, or are not.
        is(measured(&[(10.0, -36.0), (60.0, -23.0), (10.0, -36.0)]).integrated, -23.0);
        let gated = [(10.0, -72.0), (10.0, -36.0), (60.0, -23.0), (10.0, -36.0), (10.0, -72.0)];
        is(measured(&gated).integrated, -23.0);
        is(measured(&[(20.0, -26.0), (20.1, -20.0), (20.0, -26.0)]).integrated, -23.0);
    }

    #[test]
    fn peaks_between_the_samples_are_seen_within_the_tolerance_of_ebu_tech_3341() {
        // Test case 16: a quarter of the sample rate, 45 degrees beside its peaks, at half of full scale: -6.0 dBTP, +0.2 -0.4.
        let mut loudness = Loudness::new().expect("a meter");
        let wave = |n: usize| (0.5 * (TAU * (0.25 * n as f64 + 0.125)).sin()) as f32;
        loudness.hear(&(0..48_000).flat_map(|n| [wave(n), wave(n)]).collect::<Vec<_>>());
        let peak = loudness.look().true_peak.expect("audible");
        assert!((-6.4..=-5.8).contains(&peak), "{peak} dBTP");
        assert_eq!(loudness.look().true_peak, None, "a look begins anew");
    }

    #[test]
    fn silence_has_no_loudness() {
        let mut loudness = Loudness::new().expect("a meter");
        loudness.hear(&vec![0.0; 96_000]);
        assert_eq!(loudness.look(), Reading::default());
    }

    /// The gain after each of so many looks at music of this loudness, before any gain.
    fn gains(normaliser: &mut Normaliser, looks: usize, loudness: Option<f64>) -> Vec<f64> {
        (0..looks).map(|_| normaliser.next(loudness.map(|loudness| loudness + normaliser.gain), true)).collect()
    }

    #[test]
    fn music_is_brought_to_the_target_slowly_and_stays_there() {
        for (loudness, expected) in [(-20.0, 6.0), (-8.0, -6.0), (-40.0, MOST), (-14.0, 0.0)] {
            let mut normaliser = Normaliser::default();
            let gains = gains(&mut normaliser, 300, Some(loudness));
            let steps = gains.windows(2).map(|pair| pair[1] - pair[0]);
            assert!(steps.clone().all(|step| (-0.301..=0.101).contains(&step)), "at {loudness}");
            assert!(gains[200..].iter().all(|gain| (gain - expected).abs() < 0.2), "{:?} at {loudness}", gains.last());
            // It goes one way and does not come back.
            assert!(steps.clone().all(|step| step > -1e-9) || steps.clone().all(|step| step < 1e-9), "at {loudness}");
        }
    }

    #[test]
    fn a_pause_between_two_songs_changes_nothing() {
        let mut normaliser = Normaliser::default();
        let settled = *gains(&mut normaliser, 300, Some(-20.0)).last().expect("300");
        for pause in [None, Some(-48.0), Some(-60.0)] {
            let during = gains(&mut normaliser, 80, pause);
            assert!(during.iter().all(|gain| (gain - settled).abs() < 0.1), "{pause:?}");
            gains(&mut normaliser, 5, Some(-20.0));
        }
        assert!((gains(&mut normaliser, 1, Some(-20.0))[0] - settled).abs() < 0.1);
    }

    #[test]
    fn a_quieter_song_is_a_quieter_song_after_a_while() {
        let mut normaliser = Normaliser::default();
        gains(&mut normaliser, 300, Some(-10.0));
        let after = gains(&mut normaliser, 600, Some(-24.0));
        assert!((after[599] - 10.0).abs() < 0.2, "{}", after[599]);
    }

    #[test]
    fn the_noise_of_an_empty_stage_is_not_made_loud_and_switching_off_goes_back() {
        let mut normaliser = Normaliser::default();
        assert!(gains(&mut normaliser, 300, Some(-55.0)).iter().all(|gain| *gain == 0.0));
        gains(&mut normaliser, 300, Some(-24.0));
        let off: Vec<_> = (0..100).map(|_| normaliser.next(Some(-14.0), false)).collect();
        assert!(off[0] > 9.0 && off[99] == 0.0, "{} to {}", off[0], off[99]);
    }
}
