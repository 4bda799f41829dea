//! How loud one source is: the peak and the mean of its samples between two looks.

use std::sync::Mutex;
use std::sync::PoisonError;

/// Below this a source is silent, linear: -90 dBFS.
const SILENT: f32 = 3.2e-5;

/// Written by a decoder's thread, read by the conductor.
#[derive(Debug, Default)]
pub(in crate::mixer) struct Level {
    sum: Mutex<Sum>,
}

#[derive(Debug, Default)]
struct Sum {
    peak: f32,
    squares: f64,
    values: usize,
}

/// What was heard between two looks, dBFS.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::mixer) struct Reading {
    pub peak: f64,
    pub rms: f64,
}

impl Level {
    pub(in crate::mixer) fn hear(&self, samples: &[[f32; 2]]) {
        let values = samples.as_flattened();
        let peak = values.iter().fold(0.0_f32, |peak, value| peak.max(value.abs()));
        let squares: f64 = values.iter().map(|value| f64::from(value * value)).sum();
        let mut sum = self.sum.lock().unwrap_or_else(PoisonError::into_inner);
        sum.peak = sum.peak.max(peak);
        sum.squares += squares;
        sum.values += values.len();
    }

    /// What was heard since the last call; `None` for silence.
    pub(in crate::mixer) fn take(&self) -> Option<Reading> {
        let sum = std::mem::take(&mut *self.sum.lock().unwrap_or_else(PoisonError::into_inner));
        (sum.peak > SILENT).then(|| Reading {
            peak: decibels(f64::from(sum.peak)),
            rms: decibels((sum.squares / sum.values as f64).sqrt()),
        })
    }
}

/// Linear as decibels.
pub(in crate::mixer) fn decibels(linear: f64) -> f64 {
    20.0 * linear.log10()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sine_on_both_sides_has_its_peak_and_three_decibels_less() {
        let level = Level::default();
        let sine = |n: usize| [(n as f32 * std::f32::consts::TAU / 48.0).sin() * 0.5; 2];
        let samples: Vec<_> = (0..4800).map(sine).collect();
        samples.chunks(960).for_each(|piece| level.hear(piece));
        let Reading { peak, rms } = level.take().expect("heard");
        assert!((peak + 6.02).abs() < 0.01 && (rms + 9.03).abs() < 0.01, "{peak} and {rms}");
        assert_eq!(level.take(), None, "a look begins anew");
    }

    #[test]
    fn silence_has_no_level() {
        let level = Level::default();
        level.hear(&[[0.0, 1e-6]; 960]);
        assert_eq!(level.take(), None);
    }
}
