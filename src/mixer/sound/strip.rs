//! One source's channel strip: gain, mute and pan without clicks, added delay, and samples that keep the programme's clock.
//!
//! Decoded sound arrives in pieces whose times follow the sender's clock, while the audio mixer counts samples. The strip stretches
//! by up to 0.5 % so that both agree, and glides so to a delay that is changed by a little; only a real break, such as lost sound or
//! a delay that is changed by more, is jumped. What comes after it fades in; what was before fades out where it is heard last.

use std::f32::consts::FRAC_PI_2;

use crate::mixer::sound::MOVE;
use crate::mixer::source::glide::Glide;
use crate::mixer::source::timing::YOUNG;

/// Samples a second of the whole audio path.
const RATE: i64 = 48_000;
const SECOND: i64 = 1_000_000_000;

/// Samples of a fade in and out: 10 ms is at once to who mutes, and long enough not to click.
const FADE: u32 = 480;

/// A piece whose time is this far from the end of the last is a break. Jitter of the timing stays far below.
const BREAK: i64 = 40_000_000;

/// The same while the timing still steps to its place; it steps by more than this.
const YOUNG_BREAK: i64 = 4_000_000;

/// A hole up to this long is filled with silence; after a longer one the sound begins anew.
const LONGEST_HOLE: i64 = SECOND;

/// Below this error the samples are passed on untouched.
const EXACT: i64 = 500_000;

/// Most stretching: 8 cents of pitch, which nobody hears in a glide.
const MOST_STRETCH: f64 = 0.005;

/// What a scene says of a source's sound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::mixer) struct Setting {
    pub gain: f64,
    pub muted: bool,
    pub pan: f64,
    /// Nanoseconds.
    pub delay: i64,
}

/// A piece of interleaved stereo.
#[derive(Debug, PartialEq)]
pub(in crate::mixer) struct Piece {
    /// When its first sample is due, in the time the input came with, nanoseconds.
    pub due: i64,
    pub samples: Vec<[f32; 2]>,
    pub joint: Joint,
}

/// How a piece follows the last one. All but a seamless one fade in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mixer) enum Joint {
    Seamless,
    /// After so many samples of silence, or none.
    Behind(usize),
    /// At its time.
    Anew,
}

impl Piece {
    /// Nanoseconds.
    pub(in crate::mixer) const fn duration(&self) -> i64 {
        duration_of(self.samples.len())
    }
}

/// Levels from each input channel to each output channel.
type Matrix = [f32; 4];

const SILENCE: Matrix = [0.0; 4];

/// See the file.
#[derive(Debug)]
pub(in crate::mixer) struct Strip {
    setting: Setting,
    /// The delay in use; it glides to the setting's, or is there once the sound is faded out.
    delay: Glide,
    level: Matrix,
    goal: Matrix,
    ramp_left: u32,
    /// When the next sample to come out is due, and where between two input samples it lies.
    next: Option<i64>,
    phase: f64,
    /// Input was left out since the last piece.
    skipped: bool,
    /// How much was heard since the sound began, nanoseconds.
    heard: i64,
    /// The last three input samples, for interpolation across pieces.
    tail: [[f32; 2]; 3],
}

impl Strip {
    /// A strip that fades in to `setting`.
    pub(in crate::mixer) fn new(setting: Setting) -> Self {
        Self {
            setting,
            delay: Glide::at_rest(setting.delay),
            level: SILENCE,
            goal: SILENCE,
            ramp_left: 0,
            next: None,
            phase: 0.0,
            skipped: false,
            heard: 0,
            tail: [[0.0; 2]; 3],
        }
    }

    /// Moves to a new setting, gliding from where it is.
    pub(in crate::mixer) fn set(&mut self, setting: Setting) {
        if self.setting == setting {
            return;
        }
        self.setting = setting;
        self.delay.head_for(setting.delay);
        self.glide_to(matrix(&setting));
    }

    /// Whether the delay is to change at once; a far one together with that of the picture. A young sound steps to its place anyway, and
    /// is not stretched for anything.
    fn is_to_jump(&self, due: i64) -> bool {
        self.delay.is_to_jump(due) || (self.heard < YOUNG && !self.delay.rests() && !self.delay.is_far())
    }

    /// Processes a piece of sound that is due at `due`, without added delay; `None` while there is nothing to be heard yet.
    pub(in crate::mixer) fn process(&mut self, due: i64, mut input: &[[f32; 2]]) -> Option<Piece> {
        let silent = self.level == SILENCE && self.ramp_left == 0;
        if silent {
            self.delay.jump();
        } else if self.is_to_jump(due) && self.goal != SILENCE {
            self.glide_to(SILENCE);
        }
        let mut due = due + self.delay.at(due);
        let expected = self.next.unwrap_or(due);
        let most = if self.heard < YOUNG { YOUNG_BREAK } else { BREAK };
        if due < expected - if silent || self.skipped { 0 } else { most } {
            // Sound for a time that has been played already: a shortened delay, or a sender that repeats itself. What is begun
            // is skipped to its end, or the rest would be stretched away in seconds.
            let skip = samples_in(expected - due).min(input.len());
            input = &input[skip..];
            due += duration_of(skip);
            self.skipped |= skip > 0;
            if input.is_empty() {
                return None;
            }
        }
        let away = (due - expected).abs();
        let begins = self.next.is_none() || away > LONGEST_HOLE;
        let breaks = begins || self.skipped || away > most || (silent && away > EXACT);
        self.skipped = false;
        if breaks {
            self.phase = 0.0;
            self.tail = [input.first().copied().unwrap_or_default(); 3];
            self.level = SILENCE;
            self.glide_to(matrix(&self.setting));
        } else if silent {
            self.glide_to(matrix(&self.setting));
        }
        let silence = if breaks && !begins { samples_in(due - expected) } else { 0 };
        let start = if begins { due } else { expected + duration_of(silence) };
        let mut samples = Vec::new();
        self.stretch(input, if breaks { 0 } else { due - start }, &mut samples);
        for sample in &mut samples {
            *sample = self.apply(*sample);
        }
        let joint = match breaks {
            _ if begins => Joint::Anew,
            true => Joint::Behind(silence),
            false => Joint::Seamless,
        };
        if begins {
            self.heard = 0;
        }
        let piece = Piece { due: start, samples, joint };
        self.heard += piece.duration();
        self.next = Some(start + piece.duration());
        Some(piece)
    }

    fn glide_to(&mut self, goal: Matrix) {
        self.goal = goal;
        self.ramp_left = match (self.level == goal, self.level == SILENCE || goal == SILENCE) {
            (true, _) => 0,
            (false, true) => FADE,
            (false, false) => MOVE,
        };
    }

    fn apply(&mut self, [left, right]: [f32; 2]) -> [f32; 2] {
        if self.ramp_left > 0 {
            for (level, goal) in self.level.iter_mut().zip(self.goal) {
                *level += (goal - *level) / self.ramp_left as f32;
            }
            self.ramp_left -= 1;
        }
        let [ll, rl, lr, rr] = self.level;
        [left * ll + right * rl, left * lr + right * rr]
    }

    /// Reads `input` a little faster or slower, so that an error of `late` nanoseconds is gone in about a second.
    fn stretch(&mut self, input: &[[f32; 2]], late: i64, samples: &mut Vec<[f32; 2]>) {
        let correction = if late.abs() < EXACT { 0.0 } else { late as f64 / SECOND as f64 };
        // Late input must fill more time, so it is read more slowly.
        let step = 1.0 - correction.clamp(-MOST_STRETCH, MOST_STRETCH);
        let at = |index: usize| if index < 3 { self.tail[index] } else { input[index - 3] };
        let available = input.len() as f64;
        samples.reserve(input.len() + 8);
        let mut position = self.phase;
        while position < available {
            let index = position as usize;
            let between = (position - index as f64) as f32;
            samples.push(interpolate([at(index), at(index + 1), at(index + 2), at(index + 3)], between));
            position += step;
        }
        self.phase = position - available;
        let count = input.len();
        self.tail = [at(count), at(count + 1), at(count + 2)];
    }
}

/// Catmull-Rom between the second and the third sample.
fn interpolate(points: [[f32; 2]; 4], t: f32) -> [f32; 2] {
    if t == 0.0 {
        return points[1];
    }
    let [a, b, c, d] = points;
    let channel = |i: usize| {
        let slope = c[i] - a[i];
        let bend = 2.0 * a[i] - 5.0 * b[i] + 4.0 * c[i] - d[i];
        let twist = 3.0 * (b[i] - c[i]) + d[i] - a[i];
        b[i] + 0.5 * t * (slope + t * (bend + t * twist))
    };
    [channel(0), channel(1)]
}

/// Gain and pan as levels; the pan is the equal-power law for stereo of the Web Audio API (StereoPannerNode), so that the studio's
/// pan and ours sound alike, and a centred source passes unchanged.
fn matrix(setting: &Setting) -> Matrix {
    if setting.muted {
        return SILENCE;
    }
    let gain = setting.gain.clamp(0.0, 4.0) as f32;
    let pan = setting.pan.clamp(-1.0, 1.0) as f32;
    let [ll, rl, lr, rr] = if pan == 0.0 {
        [1.0, 0.0, 0.0, 1.0]
    } else if pan < 0.0 {
        let (sine, cosine) = ((pan + 1.0) * FRAC_PI_2).sin_cos();
        [1.0, cosine, 0.0, sine]
    } else {
        let (sine, cosine) = (pan * FRAC_PI_2).sin_cos();
        [cosine, 0.0, sine, 1.0]
    };
    [gain * ll, gain * rl, gain * lr, gain * rr]
}

const fn duration_of(samples: usize) -> i64 {
    samples as i64 * SECOND / RATE
}

fn samples_in(duration: i64) -> usize {
    usize::try_from(duration * RATE / SECOND).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mixer::source::seat::Seats;

    const PLAIN: Setting = Setting { gain: 1.0, muted: false, pan: 0.0, delay: 0 };
    const PIECE: i64 = 20_000_000;

    fn tone(from: usize, count: usize) -> Vec<[f32; 2]> {
        (from..from + count)
            .map(|i| {
                let value = (i as f32 * 440.0 * std::f32::consts::TAU / 48_000.0).sin() * 0.5;
                [value, value]
            })
            .collect()
    }

    /// Steps larger than a tone of 440 Hz at half scale makes by itself.
    fn clicks(samples: &[[f32; 2]], limit: f32) -> usize {
        samples.windows(2).filter(|pair| (pair[1][0] - pair[0][0]).abs() > limit).count()
    }

    #[test]
    fn sound_on_time_passes_untouched_after_the_fade_in() {
        let mut strip = Strip::new(PLAIN);
        let input = tone(0, 960);
        strip.process(0, &input).expect("heard");
        let second = tone(960, 960);
        let piece = strip.process(PIECE, &second).expect("heard");
        assert_eq!(piece.due, PIECE);
        // The interpolator looks two samples ahead, so the sound leaves two samples later.
        assert_eq!(piece.samples[2..], second[..958]);
    }

    #[test]
    fn gain_mute_and_pan_change_without_a_click() {
        let mut strip = Strip::new(PLAIN);
        let mut heard = Vec::new();
        for step in 0..46 {
            match step {
                3 => strip.set(Setting { gain: 0.1, ..PLAIN }),
                16 => strip.set(Setting { pan: -1.0, ..PLAIN }),
                32 => strip.set(Setting { muted: true, ..PLAIN }),
                _ => {}
            }
            heard.extend(strip.process(step * PIECE, &tone(step as usize * 960, 960)).expect("heard").samples);
        }
        assert_eq!(clicks(&heard, 0.07), 0);
        assert!(heard[33 * 960..].iter().all(|sample| *sample == [0.0, 0.0]), "muted is silent");
        assert!(heard[29 * 960..32 * 960].iter().all(|sample| sample[1] == 0.0), "panned left leaves the right empty");
    }

    #[test]
    fn a_fader_that_is_dragged_is_heard_as_one_movement() {
        let mut strip = Strip::new(PLAIN);
        let gain = |ms: i64| 1.0 - (ms.clamp(0, 2000) as f64) / 4000.0;
        let mut heard = Vec::new();
        // A constant instead of a tone shows the level.
        for step in 0..130 {
            // About four times a second the studio says where the hand is.
            if step % 13 == 0 {
                strip.set(Setting { gain: gain(step * 20), ..PLAIN });
            }
            heard.extend(strip.process(step * PIECE, &[[1.0; 2]; 960]).expect("heard").samples);
        }
        let level = |ms: usize| heard[ms * 48][0];
        let falls = (300..2000).map(|ms| level(ms) - level(ms + 50));
        let (least, most) = falls.fold((1.0_f32, 0.0_f32), |(least, most), fall| (least.min(fall), most.max(fall)));
        assert!(least > 0.008 && most < 0.016, "in 50 ms it falls by {least} to {most}, by 0.0125 in all");
    }

    #[test]
    fn a_slow_sender_is_stretched_to_the_clock_and_never_torn() {
        for ppm in [-200i64, 200] {
            let mut strip = Strip::new(PLAIN);
            let mut next = 0;
            let mut worst = 0;
            for step in 0..3000 {
                let due = step * (PIECE + PIECE * ppm / 1_000_000);
                let piece = strip.process(due, &tone(step as usize * 960, 960)).expect("heard");
                assert_eq!(piece.due, next, "contiguous");
                next = piece.due + duration_of(piece.samples.len());
                worst = worst.max((piece.due - due).abs());
                if step > 0 {
                    assert_eq!(clicks(&piece.samples, 0.04), 0);
                }
            }
            assert!(worst < 2_000_000, "{worst} ns off at {ppm} ppm");
        }
    }

    #[test]
    fn a_changed_delay_is_faded_around_and_nothing_overlaps() {
        let mut strip = Strip::new(PLAIN);
        let seats = Seats::default();
        let seat = seats.seat_sound();
        let (mut end, mut shifted) = (0, Vec::new());
        for step in 0..80 {
            match step {
                10 => strip.set(Setting { delay: 300_000_000, ..PLAIN }),
                40 => strip.set(Setting { delay: 100_000_000, ..PLAIN }),
                _ => {}
            }
            let Some(piece) = strip.process(step * PIECE, &tone(step as usize * 960, 960)) else { continue };
            assert!(piece.due >= end, "overlap at {step}");
            end = piece.due + piece.duration();
            shifted.push(piece.due - step * PIECE);
            seat.put(piece);
        }
        let mut heard = vec![[0.0; 2]; samples_in(end)];
        seats.add_sounds(0, &mut heard);
        assert_eq!(clicks(&heard, 0.07), 0);
        assert!(shifted.contains(&300_000_000));
        assert_eq!(shifted.last(), Some(&100_000_000));
    }

    #[test]
    fn a_delay_that_is_dragged_is_followed_when_the_hand_rests() {
        let mut strip = Strip::new(PLAIN);
        let holes = (0..300)
            .filter_map(|step| {
                if (150..200).contains(&step) && step % 13 == 0 {
                    strip.set(Setting { delay: (step - 149) * 6_000_000, ..PLAIN });
                }
                strip.process(step * PIECE, &tone(step as usize * 960, 960))
            })
            .filter(|piece| matches!(piece.joint, Joint::Behind(_)));
        assert_eq!(holes.count(), 1, "a second of dragging tears the sound more than once");
        assert_eq!(strip.delay.now(), 276_000_000);
    }

    #[test]
    fn a_delay_that_changes_by_a_little_is_glided_to_without_a_hole() {
        for by in [-20_000_000, 15_000_000] {
            let mut strip = Strip::new(Setting { delay: 50_000_000, ..PLAIN });
            let (mut heard, mut offs) = (Vec::new(), Vec::new());
            for step in 0..700 {
                if step == 200 {
                    strip.set(Setting { delay: 50_000_000 + by, ..PLAIN });
                }
                let piece = strip.process(step * PIECE, &tone(step as usize * 960, 960)).expect("heard");
                assert_eq!(piece.joint, if step == 0 { Joint::Anew } else { Joint::Seamless });
                heard.extend(piece.samples);
                offs.push(duration_of(heard.len()) - (step + 1) * PIECE);
            }
            let moved = |at: usize| offs[at] * by.signum();
            assert!(moved(225) < 3_000_000, "{} ns after half a second", moved(225));
            assert!((by.abs() - moved(699)).abs() < 1_000_000, "{} ns in the end", moved(699));
            // What the fade-in makes of it is no change of the delay.
            assert_eq!(clicks(&heard, 0.04), 0, "by {by}");
        }
    }

    #[test]
    fn the_delay_of_what_is_not_heard_changes_at_once() {
        let mut strip = Strip::new(PLAIN);
        let mut step = 0;
        let mut play = |strip: &mut Strip| {
            step += 1;
            strip.process(step * PIECE, &tone(step as usize * 960, 960)).map(|piece| piece.due - step * PIECE)
        };
        (0..150).for_each(|_| _ = play(&mut strip));
        strip.set(Setting { muted: true, ..PLAIN });
        assert_eq!([play(&mut strip), play(&mut strip)], [Some(0); 2]);
        strip.set(Setting { muted: true, delay: 30_000_000, ..PLAIN });
        assert_eq!([play(&mut strip), play(&mut strip)].last(), Some(&Some(30_000_000)));
    }

    /// Plays a tone through a strip, each piece `shift(step)` away from its time. Yields how far each piece that came out ended from
    /// where its input ended, and all that is heard.
    fn shifted(steps: i64, shift: impl Fn(i64) -> i64) -> (Vec<(i64, i64)>, Vec<[f32; 2]>) {
        let mut strip = Strip::new(PLAIN);
        let seats = Seats::default();
        let seat = seats.seat_sound();
        let (mut errors, mut played) = (Vec::new(), 0);
        for step in 0..steps {
            let due = step * PIECE + shift(step);
            let Some(piece) = strip.process(due, &tone(step as usize * 960, 960)) else { continue };
            assert_eq!(piece.joint == Joint::Anew, step == 0);
            if let Joint::Behind(silence) = piece.joint {
                played += silence;
            }
            assert!(step == 0 || (piece.due - duration_of(played)).abs() < 50_000, "not contiguous at {step}");
            played += piece.samples.len();
            errors.push((step, duration_of(played) - due - PIECE));
            seat.put(piece);
        }
        let mut heard = vec![[0.0; 2]; played];
        seats.add_sounds(0, &mut heard);
        (errors, heard)
    }

    #[test]
    fn a_young_sound_steps_to_its_place_without_a_click() {
        for by in [-90_000_000, -30_000_000, 30_000_000, 300_000_000] {
            let (errors, heard) = shifted(50, |step| if step < 20 { 0 } else { by });
            let worst = errors.iter().filter(|(step, _)| *step > 25).map(|(_, error)| error.abs()).max();
            assert!(worst < Some(100_000), "{worst:?} ns off after a step of {by}");
            assert_eq!(clicks(&heard, 0.07), 0, "after a step of {by}");
        }
    }

    #[test]
    fn an_older_sound_is_stretched_to_a_near_place_and_steps_to_a_far_one() {
        let (errors, heard) = shifted(400, |step| if step < 200 { 0 } else { 20_000_000 });
        let off = |at: usize| errors[at].1.abs();
        assert!(off(220) > 15_000_000 && off(399) < 2_000_000, "{} and {}", off(220), off(399));
        assert_eq!(clicks(&heard, 0.04), 0);
        let (errors, heard) = shifted(250, |step| if step < 200 { 0 } else { -60_000_000 });
        assert!(errors.iter().filter(|(step, _)| *step > 204).all(|(_, error)| error.abs() < 100_000), "{errors:?}");
        assert_eq!(clicks(&heard, 0.07), 0);
    }

    #[test]
    fn a_sound_after_a_long_hole_begins_anew() {
        let mut strip = Strip::new(PLAIN);
        assert!(strip.process(0, &tone(0, 960)).is_some_and(|piece| piece.joint == Joint::Anew));
        let piece = strip.process(3 * SECOND, &tone(0, 960)).expect("heard");
        assert_eq!((piece.due, piece.joint, piece.samples.len()), (3 * SECOND, Joint::Anew, 960));
    }
}
