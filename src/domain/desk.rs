//! The mixing desk of a programme: what a host decides about each musician's sound and about all of it, and who is heard because of it.

use crate::model::id::ParticipantId;

/// Gain of a strip or the master, dB.
pub const LEAST_GAIN_DB: f64 = -60.0;
pub const MOST_GAIN_DB: f64 = 12.0;

/// Added delay of a strip, milliseconds. As much as one is moved forward, all the others wait.
pub const LEAST_DELAY_MS: i32 = -200;
pub const MOST_DELAY_MS: i32 = 2000;

/// Strips remembered: of all who can be in a room, and of as many who may come back.
const MOST_STRIPS: usize = 256;

/// One musician's sound.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Strip {
    /// [`LEAST_GAIN_DB`], which is silence, to [`MOST_GAIN_DB`].
    pub gain_db: f64,
    pub muted: bool,
    /// While anybody's is set, only they are heard.
    pub solo: bool,
    /// -1 (left) to 1 (right).
    pub pan: f64,
    /// [`LEAST_DELAY_MS`] to [`MOST_DELAY_MS`]; picture and sound.
    pub delay_ms: i32,
}

/// The sound of all together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Master {
    /// [`LEAST_GAIN_DB`], which is silence, to [`MOST_GAIN_DB`].
    pub gain_db: f64,
    /// Whether the programme is brought slowly to -14 LUFS.
    pub normalise: bool,
}

/// What is to be changed of a strip; `None` stays. The values have been checked.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StripChange {
    pub gain_db: Option<f64>,
    pub muted: Option<bool>,
    pub solo: Option<bool>,
    pub pan: Option<f64>,
    pub delay_ms: Option<i32>,
}

/// What is to be changed of the master; `None` stays. The values have been checked.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MasterChange {
    pub gain_db: Option<f64>,
    pub normalise: Option<bool>,
}

/// See the file.
#[derive(Clone, Debug, Default)]
pub struct Desk {
    pub master: Master,
    /// The oldest first.
    strips: Vec<Labelled>,
}

/// A strip with whose it is.
#[derive(Clone, Debug)]
struct Labelled {
    participant: ParticipantId,
    name: String,
    strip: Strip,
}

impl Desk {
    /// The musician's strip; untouched for somebody of whom nothing was decided.
    pub fn strip(&self, participant: ParticipantId) -> Strip {
        self.find(participant).map(|labelled| labelled.strip).unwrap_or_default()
    }

    /// Changes a strip; `name` is the musician's.
    pub fn turn(&mut self, participant: ParticipantId, name: &str, change: StripChange) {
        if self.find(participant).is_none() {
            if self.strips.len() == MOST_STRIPS {
                self.strips.remove(0);
            }
            self.strips.push(Labelled { participant, name: name.to_owned(), strip: Strip::default() });
        }
        for labelled in self.strips.iter_mut().filter(|labelled| labelled.participant == participant) {
            let strip = &mut labelled.strip;
            strip.gain_db = change.gain_db.unwrap_or(strip.gain_db);
            strip.muted = change.muted.unwrap_or(strip.muted);
            strip.solo = change.solo.unwrap_or(strip.solo);
            strip.pan = change.pan.unwrap_or(strip.pan);
            strip.delay_ms = change.delay_ms.unwrap_or(strip.delay_ms);
        }
    }

    pub fn turn_master(&mut self, change: MasterChange) {
        self.master.gain_db = change.gain_db.unwrap_or(self.master.gain_db);
        self.master.normalise = change.normalise.unwrap_or(self.master.normalise);
    }

    /// The name of somebody whose strip was touched.
    pub fn name(&self, participant: ParticipantId) -> Option<&str> {
        self.find(participant).map(|labelled| labelled.name.as_str())
    }

    /// Gives a strip whose musician is gone to a newcomer of the same name: it is the same person with a new identifier. Tells who
    /// became whom.
    pub fn recognise(&mut self, present: &[(ParticipantId, &str)]) -> Vec<(ParticipantId, ParticipantId)> {
        let is_present = |id| present.iter().any(|(other, _)| *other == id);
        let mut renamed = Vec::new();
        for (newcomer, name) in present {
            if self.find(*newcomer).is_some() {
                continue;
            }
            let left = self.strips.iter_mut().rev().find(|left| left.name == *name && !is_present(left.participant));
            if let Some(left) = left {
                renamed.push((left.participant, *newcomer));
                left.participant = *newcomer;
            }
        }
        renamed
    }

    /// Who of those present is heard: nobody who is muted, and while anybody present is soloed, only such.
    pub fn heard(&self, present: &[ParticipantId]) -> Vec<bool> {
        let strips: Vec<_> = present.iter().map(|participant| self.strip(*participant)).collect();
        let solo = strips.iter().any(|strip| strip.solo);
        strips.iter().map(|strip| !strip.muted && (strip.solo || !solo)).collect()
    }

    fn find(&self, participant: ParticipantId) -> Option<&Labelled> {
        self.strips.iter().find(|labelled| labelled.participant == participant)
    }
}

/// Decibels as a linear gain.
pub fn linear(gain_db: f64) -> f64 {
    if gain_db <= LEAST_GAIN_DB { 0.0 } else { 10.0_f64.powf(gain_db / 20.0) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MUTE: StripChange = StripChange { muted: Some(true), gain_db: None, solo: None, pan: None, delay_ms: None };
    const SOLO: StripChange = StripChange { solo: Some(true), muted: None, ..MUTE };

    fn band(count: usize) -> Vec<ParticipantId> {
        (0..count).map(|_| ParticipantId::generate()).collect()
    }

    #[test]
    fn a_change_touches_nothing_but_what_it_names() {
        let (mut desk, ann) = (Desk::default(), ParticipantId::generate());
        desk.turn(ann, "Ann", StripChange { gain_db: Some(-6.0), delay_ms: Some(80), ..StripChange::default() });
        desk.turn(ann, "Ann", StripChange { pan: Some(0.5), ..StripChange::default() });
        let expected = Strip { gain_db: -6.0, delay_ms: 80, pan: 0.5, ..Strip::default() };
        assert_eq!(desk.strip(ann), expected);
        assert_eq!(desk.strip(ParticipantId::generate()), Strip::default());
        desk.turn_master(MasterChange { normalise: Some(true), gain_db: None });
        assert_eq!(desk.master, Master { gain_db: 0.0, normalise: true });
    }

    #[test]
    fn the_soloed_are_heard_alone_unless_they_are_muted_or_gone() {
        let (mut desk, band) = (Desk::default(), band(3));
        assert_eq!(desk.heard(&band), [true, true, true]);
        desk.turn(band[1], "Bob", SOLO);
        assert_eq!(desk.heard(&band), [false, true, false]);
        desk.turn(band[1], "Bob", MUTE);
        assert_eq!(desk.heard(&band), [false, false, false]);
        assert_eq!(desk.heard(&[band[0], band[2]]), [true, true], "the soloed one has left");
    }

    #[test]
    fn who_comes_back_under_a_new_identifier_finds_the_strip_again() {
        let (mut desk, ids) = (Desk::default(), band(4));
        desk.turn(ids[0], "Ann", MUTE);
        assert_eq!(desk.recognise(&[(ids[0], "Ann"), (ids[1], "Ann")]), [], "two of the same name");
        assert_eq!(desk.recognise(&[(ids[2], "Ann"), (ids[3], "Bob")]), [(ids[0], ids[2])]);
        assert!(desk.strip(ids[2]).muted && !desk.strip(ids[0]).muted && !desk.strip(ids[3]).muted);
    }

    #[test]
    fn decibels_are_linear_gains_within_the_scene_s_range() {
        assert_eq!((linear(0.0), linear(LEAST_GAIN_DB)), (1.0, 0.0));
        assert!((linear(-6.0206) - 0.5).abs() < 1e-4 && linear(MOST_GAIN_DB) <= 4.0);
    }

    proptest! {
        #[test]
        fn however_many_come_and_go_the_desk_is_bounded(count in 1usize..600) {
            let mut desk = Desk::default();
            let band = band(count);
            band.iter().for_each(|id| desk.turn(*id, "Ann", MUTE));
            prop_assert!(desk.strips.len() <= MOST_STRIPS);
            prop_assert!(desk.strip(band[count - 1]).muted);
        }
    }
}
