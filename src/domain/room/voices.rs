//! Whose sound goes out where more play than everybody is sent: the loudest, who change places without haste.

use crate::domain::room::Room;
use crate::domain::room::producer::Producer;
use crate::model::media::MediaKind;

/// What a sender counts for that does not say how loud it is, as hardware encoders do not: as loud as music is, dB below overload.
const UNTOLD: u8 = 20;
/// A voice that falls silent keeps its place for a while: it sinks by this much between two looks, dB. There are five in a second.
const FALL: u8 = 1;
/// Whoever comes in must be so much louder than the one who goes, dB: two equals do not take turns.
const LOUDER: u8 = 6;
/// RFC 6464's silence.
const SILENCE: u8 = 127;

/// How much a voice is present, and whether it rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Presence {
    /// dB below overload, falling slowly.
    below: u8,
    /// Whether its packets say how loud they are.
    tells: bool,
    /// Others are louder: it goes out to no listener. The programme has it all the same.
    rests: bool,
}

impl Default for Presence {
    fn default() -> Self {
        Self { below: UNTOLD, tells: false, rests: false }
    }
}

impl Presence {
    /// Takes the loudest packet since the last look.
    fn hear(&mut self, loudest: Option<u8>) {
        let sunk = if self.tells { self.below.saturating_add(FALL).min(SILENCE) } else { SILENCE };
        self.tells |= loudest.is_some();
        if self.tells {
            self.below = loudest.map_or(sunk, |loudest| loudest.min(sunk));
        }
    }

    pub(super) const fn rests(&self) -> bool {
        self.rests
    }
}

impl Room {
    /// Gives the places of this room's voices to the loudest; whoever is in the spotlight has one. Who cannot be heard by everybody
    /// anyway takes no place.
    pub(super) fn choose_voices(&mut self) {
        let spotlight = self.house.state.spotlight;
        let mut voices: Vec<&mut Producer> = Vec::new();
        for producer in self.producers.iter_mut().filter(|producer| producer.info.kind == MediaKind::Audio) {
            producer.presence.hear(producer.loudness.loudest());
            if producer.is_held() || producer.isolated {
                producer.rest(false);
            } else {
                voices.push(producer);
            }
        }
        // The sort is stable: of equals the one who came first stays.
        voices.sort_by_key(|producer| {
            let Presence { below, rests, .. } = producer.presence;
            let handicap = if rests { LOUDER } else { 0 };
            (Some(producer.info.participant) != spotlight, below.saturating_add(handicap))
        });
        for (place, producer) in voices.into_iter().enumerate() {
            producer.rest(place >= self.limits.voices);
        }
    }
}

impl Producer {
    fn rest(&mut self, rests: bool) {
        if self.presence.rests != rests {
            self.presence.rests = rests;
            self.consumers.iter_mut().for_each(|consumer| consumer.forwarder.interrupt());
        }
    }
}

#[cfg(test)]
mod tests;
