//! The master bus: what happens to the whole programme's sound between the audio mixer and the encoder. Gain, limiter, meter.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use gstreamer as gst;
use gstreamer::prelude::*;

use crate::mixer::error::Error;
use crate::mixer::sound::MOVE;
use crate::mixer::sound::limiter::Limiter;
use crate::mixer::sound::loudness;
use crate::mixer::sound::loudness::Loudness;
use crate::mixer::sound::loudness::Normaliser;
use crate::model::scene::Master;

/// Bytes of a stereo sample of two floats.
const FRAME: usize = 8;

/// The bus as the conductor holds it; the sound passes in the audio mixer's thread.
#[derive(Clone, Debug)]
pub(in crate::mixer) struct Bus {
    desk: Arc<Mutex<Desk>>,
}

#[derive(Debug)]
struct Desk {
    setting: Master,
    normaliser: Normaliser,
    /// What the normaliser adds now, dB.
    normalisation: f64,
    gain: Ramp,
    limiter: Limiter,
    loudness: Loudness,
    /// What has passed in one buffer, for the meter.
    passed: Vec<f32>,
}

/// A gain that never jumps.
#[derive(Debug)]
struct Ramp {
    now: f32,
    goal: f32,
    left: u32,
    /// Before anything was heard there is nothing to glide from.
    is_heard: bool,
}

impl Bus {
    /// Takes care of all sound that passes this pad, which must be stereo floats. It leaves [`crate::mixer::sound::limiter::DELAY`] samples
    /// later in the same buffers; whoever reads their times takes that into account.
    pub(in crate::mixer) fn over(pad: &gst::Pad) -> Result<Self, Error> {
        let bus = Self { desk: Arc::new(Mutex::new(Desk::new()?)) };
        let passing = bus.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            if let Some(buffer) = info.buffer_mut() {
                let buffer = buffer.make_mut();
                // The mixer marks silence, but the end of a sound may still be on its way.
                buffer.unset_flags(gst::BufferFlags::GAP);
                if let Ok(mut map) = buffer.map_writable() {
                    passing.desk().process(&mut map);
                }
            }
            gst::PadProbeReturn::Ok
        });
        Ok(bus)
    }

    pub(in crate::mixer) fn set(&self, setting: Master) {
        let mut desk = self.desk();
        desk.setting = setting;
        desk.turn();
    }

    /// How loud it is, and what the normalisation adds to that, dB. To be called ten times a second: the normaliser goes by these
    /// looks.
    pub(in crate::mixer) fn look(&self) -> (loudness::Reading, f64) {
        let mut desk = self.desk();
        let reading = desk.loudness.look();
        let on = desk.setting.normalise;
        desk.normalisation = desk.normaliser.next(reading.momentary, on);
        desk.turn();
        (reading, desk.normalisation)
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Desk {
    fn new() -> Result<Self, Error> {
        Ok(Self {
            setting: Master::default(),
            normaliser: Normaliser::default(),
            normalisation: 0.0,
            gain: Ramp { now: 1.0, goal: 1.0, left: 0, is_heard: false },
            limiter: Limiter::new(),
            loudness: Loudness::new()?,
            passed: Vec::new(),
        })
    }

    fn turn(&mut self) {
        let added = 10.0_f64.powf(self.normalisation / 20.0);
        self.gain.glide_to((self.setting.gain.clamp(0.0, 4.0) * added) as f32);
    }

    fn process(&mut self, bytes: &mut [u8]) {
        self.passed.clear();
        let (frames, _) = bytes.as_chunks_mut::<FRAME>();
        for frame in frames {
            let [a, b, c, d, e, f, g, h] = *frame;
            let gain = self.gain.next();
            let sample = [f32::from_le_bytes([a, b, c, d]) * gain, f32::from_le_bytes([e, f, g, h]) * gain];
            let [left, right] = self.limiter.next(sample);
            self.passed.extend([left, right]);
            let [a, b, c, d] = left.to_le_bytes();
            let [e, f, g, h] = right.to_le_bytes();
            *frame = [a, b, c, d, e, f, g, h];
        }
        self.loudness.hear(&self.passed);
    }
}

impl Ramp {
    fn glide_to(&mut self, goal: f32) {
        if self.goal != goal {
            self.goal = goal;
            self.left = if self.is_heard { MOVE } else { 1 };
        }
    }

    fn next(&mut self) -> f32 {
        self.is_heard = true;
        if self.left > 0 {
            self.now += (self.goal - self.now) / self.left as f32;
            self.left -= 1;
        }
        self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mixer::sound::limiter;

    /// What becomes of a steady tone while the setting changes after each part.
    fn heard(desk: &mut Desk, settings: &[Master]) -> Vec<f32> {
        let mut heard = Vec::new();
        for (part, setting) in settings.iter().enumerate() {
            desk.setting = *setting;
            desk.turn();
            for piece in 0..50 {
                let wave = |n: usize| (n as f32 * 440.0 * std::f32::consts::TAU / 48_000.0).sin() * 0.2;
                let from = (part * 50 + piece) * 960;
                let mut bytes: Vec<u8> =
                    (from..from + 960).flat_map(|n| [wave(n); 2]).flat_map(f32::to_le_bytes).collect();
                desk.process(&mut bytes);
                heard.extend(
                    bytes.chunks(FRAME).map(|frame| f32::from_le_bytes([frame[0], frame[1], frame[2], frame[3]])),
                );
            }
        }
        heard
    }

    #[test]
    fn the_master_gain_glides_and_leaves_the_sound_alone_at_one() {
        let mut desk = Desk::new().expect("a desk");
        let gain = |gain| Master { gain, normalise: false };
        let heard = heard(&mut desk, &[gain(1.0), gain(0.25), gain(4.0), gain(0.0)]);
        let part = |second: usize| &heard[second * 48_000 + 14_400..(second + 1) * 48_000];
        let peak = |samples: &[f32]| samples.iter().fold(0.0_f32, |peak, value| peak.max(value.abs()));
        for (second, expected) in [(0, 0.2), (1, 0.05), (2, 0.8), (3, 0.0)] {
            assert!((peak(part(second)) - expected).abs() < 0.001, "{} in second {second}", peak(part(second)));
        }
        let sent = |n: usize| (n as f32 * 440.0 * std::f32::consts::TAU / 48_000.0).sin() * 0.2;
        assert!((limiter::DELAY..48_000).all(|n| heard[n] == sent(n - limiter::DELAY)), "not bit for bit");
        // 440 Hz at 0.8 step by 0.046 at most; a jump of the gain would step by up to 0.75.
        let step = heard.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max);
        assert!(step < 0.05, "a click of {step}");
    }

    #[test]
    fn a_programme_begins_with_the_gain_it_is_told() {
        let heard = heard(&mut Desk::new().expect("a desk"), &[Master { gain: 0.25, normalise: false }]);
        let peak = heard.iter().fold(0.0_f32, |peak, value| peak.max(value.abs()));
        assert!((peak - 0.05).abs() < 0.001, "{peak}");
    }
}
