//! Who might lead: the loudest of those who play a rhythm, as far as levels tell.
//!
//! A rhythm is heard in levels as attacks: a drum, a picked bass or a comping guitar is 6 dB louder from one tenth of a second to the
//! next, again and again; strings, an organ and a legato voice are not. Speech has attacks as well, so this is a proposal for people.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;

use crate::model::id::ParticipantId;

/// How long what was heard counts.
const MEMORY: Duration = Duration::from_secs(10);

/// An attack is by so much louder than the least of the last [`BEFORE`] readings, dB; the mixer's meters read ten times a second.
const ATTACK_DB: f64 = 6.0;
const BEFORE: usize = 2;

/// Attacks in ten seconds that make a rhythm: slow chords, one a second.
const RHYTHM: usize = 10;

/// Below this nobody plays, dBFS.
const FLOOR_DB: f64 = -50.0;

/// By so much another one must be louder to be proposed instead, dB.
const MARGIN_DB: f64 = 3.0;

/// See the file. Time is told from outside.
#[derive(Debug, Default)]
pub struct Pulse {
    players: BTreeMap<ParticipantId, Heard>,
    proposed: Option<ParticipantId>,
}

/// What was heard of somebody.
#[derive(Debug, Default)]
struct Heard {
    /// The latest levels, dBFS, oldest first.
    levels: VecDeque<(Instant, f64)>,
    attacks: VecDeque<Instant>,
}

impl Pulse {
    /// Takes everybody's level (dBFS, who is not named is silent), some ten times a second.
    pub fn hear(&mut self, now: Instant, levels: &[(ParticipantId, f64)]) {
        for (id, _) in levels {
            self.players.entry(*id).or_default();
        }
        for (id, heard) in &mut self.players {
            let level = levels.iter().find(|(other, _)| other == id).map_or(FLOOR_DB, |(_, level)| *level);
            heard.note(now, level.max(FLOOR_DB));
        }
        self.players.retain(|_, heard| heard.power() > 0.0);
        self.propose();
    }

    /// Who might lead; `None` while nobody plays a rhythm.
    pub const fn proposed(&self) -> Option<ParticipantId> {
        self.proposed
    }

    fn propose(&mut self) {
        let power = |id: ParticipantId| {
            let heard = self.players.get(&id).filter(|heard| heard.attacks.len() >= RHYTHM);
            heard.map_or(0.0, Heard::power)
        };
        let loudest = self.players.keys().copied().max_by(|a, b| power(*a).total_cmp(&power(*b)));
        let held = self.proposed.map_or(0.0, power) * 10.0_f64.powf(MARGIN_DB / 10.0);
        if held == 0.0 || loudest.is_some_and(|loudest| power(loudest) > held) {
            self.proposed = loudest.filter(|loudest| power(*loudest) > 0.0);
        }
    }
}

impl Heard {
    fn note(&mut self, now: Instant, level: f64) {
        let before = self.levels.iter().rev().take(BEFORE).map(|(_, level)| *level);
        if before.reduce(f64::min).is_some_and(|least| level >= least + ATTACK_DB) && !self.is_attacking(level) {
            self.attacks.push_back(now);
        }
        self.levels.push_back((now, level));
        self.levels.retain(|(at, _)| now.saturating_duration_since(*at) < MEMORY);
        self.attacks.retain(|at| now.saturating_duration_since(*at) < MEMORY);
    }

    /// Whether the attack that this level belongs to has been counted: what rises over two readings is one.
    fn is_attacking(&self, level: f64) -> bool {
        let counted = self.attacks.back().zip(self.levels.back()).is_some_and(|(attack, (last, _))| attack == last);
        counted && self.levels.back().is_some_and(|(_, last)| level < last + ATTACK_DB)
    }

    /// Mean power over the memory; 0 for silence.
    fn power(&self) -> f64 {
        let audible = self.levels.iter().filter(|(_, level)| *level > FLOOR_DB);
        audible.map(|(_, level)| 10.0_f64.powf(level / 10.0)).sum::<f64>() / self.levels.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READING: Duration = Duration::from_millis(100);

    /// Everybody's level at a reading, for so many seconds.
    struct Stage {
        pulse: Pulse,
        now: Instant,
        band: [ParticipantId; 3],
    }

    impl Stage {
        fn new() -> Self {
            Self { pulse: Pulse::default(), now: Instant::now(), band: [(); 3].map(|()| ParticipantId::generate()) }
        }

        fn play(&mut self, seconds: usize, levels: impl Fn(usize) -> [f64; 3]) -> Option<usize> {
            for reading in 0..seconds * 10 {
                self.now += READING;
                let heard: Vec<_> = self.band.iter().copied().zip(levels(reading)).collect();
                self.pulse.hear(self.now, &heard);
            }
            let proposed = self.pulse.proposed()?;
            self.band.iter().position(|id| *id == proposed)
        }
    }

    /// A stroke twice a second that dies away.
    fn drum(reading: usize, level: f64) -> f64 {
        level - 6.0 * (reading % 5) as f64
    }

    #[test]
    fn the_loudest_rhythm_is_proposed_and_not_what_is_louder_and_sustained() {
        let mut stage = Stage::new();
        let organ = |reading: usize| -10.0 + (reading % 7) as f64 * 0.5;
        assert_eq!(stage.play(3, |n| [organ(n), drum(n, -14.0), drum(n + 2, -22.0)]), None, "too early to tell");
        assert_eq!(stage.play(7, |n| [organ(n), drum(n, -14.0), drum(n + 2, -22.0)]), Some(1));
        assert_eq!(stage.play(12, |n| [organ(n), drum(n, -14.0), drum(n + 2, -12.0)]), Some(1), "a little louder");
        assert_eq!(stage.play(12, |n| [organ(n), drum(n, -20.0), drum(n + 2, -12.0)]), Some(2));
        assert_eq!(stage.play(12, |n| [organ(n), -99.0, -99.0]), None);
        assert_eq!(stage.pulse.players.len(), 1, "who is silent is forgotten");
    }

    #[test]
    fn an_attack_counts_once_however_long_it_rises() {
        let mut heard = Heard::default();
        let start = Instant::now();
        for (n, level) in (0..).zip([-40.0, -40.0, -32.0, -28.0, -40.0, -40.0, -40.0, -20.0, -20.0]) {
            heard.note(start + READING * n, level);
        }
        assert_eq!(heard.attacks.len(), 2);
    }
}
