//! Who is the loudest, decided slowly: a cough does not move the picture, and nobody stays large for less than two seconds.

use std::collections::BTreeMap;
use std::time::Duration;
use std::time::Instant;

use crate::model::id::ParticipantId;

/// Whoever is large stays so for this long.
const HOLD: Duration = Duration::from_secs(2);

/// Somebody else must be the loudest for this long to become large.
const TAKE: Duration = Duration::from_millis(400);

/// And by this much, dB.
const MARGIN_DB: f64 = 3.0;

/// Below this nobody counts, dBFS: breath and humming amplifiers.
const FLOOR_DB: f64 = -50.0;

/// How long a level is remembered: over the pause between two words.
const MEMORY: Duration = Duration::from_millis(700);

/// See the file. Time is told from outside.
#[derive(Debug, Default)]
pub struct Speaker {
    shown: Option<(ParticipantId, Instant)>,
    challenger: Option<(ParticipantId, Instant)>,
    /// Mean power of late.
    powers: BTreeMap<ParticipantId, f64>,
    heard_at: Option<Instant>,
}

impl Speaker {
    /// Takes everybody's level (dBFS, who is not named is silent), some ten times a second; `true` if somebody else is the loudest now.
    pub fn hear(&mut self, now: Instant, levels: &[(ParticipantId, f64)]) -> bool {
        self.remember(now, levels);
        let Some((loudest, power)) = self.powers.iter().max_by(|a, b| a.1.total_cmp(b.1)).map(|(id, p)| (*id, *p))
        else {
            return false;
        };
        let Some((shown, since)) = self.shown else {
            self.shown = Some((loudest, now));
            return true;
        };
        let beaten = power > self.powers.get(&shown).copied().unwrap_or(0.0) * 10.0_f64.powf(MARGIN_DB / 10.0);
        if loudest == shown || !beaten {
            self.challenger = None;
            return false;
        }
        let challenging_since = match self.challenger {
            Some((challenger, at)) if challenger == loudest => at,
            Some(_) | None => {
                self.challenger = Some((loudest, now));
                now
            }
        };
        let takes = now >= challenging_since + TAKE && now >= since + HOLD;
        if takes {
            self.shown = Some((loudest, now));
            self.challenger = None;
        }
        takes
    }

    /// The loudest, once anybody has been heard.
    pub fn loudest(&self) -> Option<ParticipantId> {
        self.shown.map(|(shown, _)| shown)
    }

    fn remember(&mut self, now: Instant, levels: &[(ParticipantId, f64)]) {
        let elapsed = self.heard_at.map_or(MEMORY, |at| now.saturating_duration_since(at));
        self.heard_at = Some(now);
        let kept = (-elapsed.as_secs_f64() / MEMORY.as_secs_f64()).exp();
        self.powers.values_mut().for_each(|power| *power *= kept);
        for (participant, level) in levels {
            *self.powers.entry(*participant).or_default() += (1.0 - kept) * 10.0_f64.powf(level / 10.0);
        }
        self.powers.retain(|_, power| *power > 10.0_f64.powf(FLOOR_DB / 10.0));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LOOK: Duration = Duration::from_millis(100);

    struct Hall {
        speaker: Speaker,
        now: Instant,
    }

    impl Hall {
        fn new() -> Self {
            Self { speaker: Speaker::default(), now: Instant::now() }
        }

        /// Lets these levels sound; how long it took until the loudest was another one.
        fn sound(&mut self, time: Duration, levels: &[(ParticipantId, f64)]) -> Option<Duration> {
            let began = self.now;
            let mut changed = None;
            while self.now < began + time {
                if self.speaker.hear(self.now, levels) {
                    changed = changed.or(Some(self.now - began));
                }
                self.now += LOOK;
            }
            changed
        }
    }

    #[test]
    fn the_first_who_is_heard_is_shown_at_once_and_the_next_after_the_hold() {
        let (ann, bob) = (ParticipantId::generate(), ParticipantId::generate());
        let mut hall = Hall::new();
        assert_eq!(hall.sound(LOOK * 20, &[]), None);
        assert_eq!(hall.sound(LOOK * 10, &[(ann, -20.0)]), Some(Duration::ZERO));
        // Ann has been large for one second.
        let taken = hall.sound(LOOK * 40, &[(bob, -18.0)]).expect("Bob takes over");
        assert!((Duration::from_millis(900)..Duration::from_millis(1700)).contains(&taken), "after {taken:?}");
        assert_eq!(hall.speaker.loudest(), Some(bob));
        let taken = hall.sound(LOOK * 40, &[(ann, -20.0)]).expect("Ann is back");
        assert!(taken >= TAKE, "after {taken:?}");
    }

    #[test]
    fn a_cough_a_hair_s_breadth_and_silence_change_nothing() {
        let (ann, bob) = (ParticipantId::generate(), ParticipantId::generate());
        let mut hall = Hall::new();
        hall.sound(LOOK * 50, &[(ann, -20.0)]);
        assert_eq!(hall.sound(LOOK * 3, &[(ann, -20.0), (bob, -14.0)]), None, "a cough");
        assert_eq!(hall.sound(LOOK * 100, &[(ann, -20.0), (bob, -18.0)]), None, "a hair's breadth");
        assert_eq!(hall.sound(LOOK * 100, &[(bob, -60.0)]), None, "an amplifier hums");
        assert_eq!(hall.speaker.loudest(), Some(ann));
    }

    proptest! {
        #[test]
        fn nobody_is_large_for_less_than_two_seconds(levels in prop::collection::vec((-60.0..0.0f64, -60.0..0.0f64, -60.0..0.0f64), 1..300)) {
            let band: Vec<_> = (0..3).map(|_| ParticipantId::generate()).collect();
            let mut hall = Hall::new();
            let mut changed_at: Option<Instant> = None;
            for (a, b, c) in levels {
                if hall.speaker.hear(hall.now, &[(band[0], a), (band[1], b), (band[2], c)]) {
                    prop_assert!(changed_at.is_none_or(|at| hall.now - at >= HOLD));
                    changed_at = Some(hall.now);
                }
                hall.now += LOOK;
            }
            prop_assert!(hall.speaker.powers.len() <= 3);
        }
    }
}
