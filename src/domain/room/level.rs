//! How loud everybody is, told a few times a second to those who may hear it.

use std::sync::Arc;

use crate::domain::room::Room;
use crate::domain::room::words::ProducerLevel;
use crate::model::id::ParticipantId;
use crate::model::id::ProducerId;

/// Quieter than this, in dB below overload, is silence: the noise of a good preamplifier lies there.
const AUDIBLE: u8 = 70;

/// The loudest so many are told; who plays along below them is not missed in a hint.
const MOST_LEVELS: usize = 16;

/// The loudest packet since the last hint, in dB below overload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Loudness(Option<u8>);

impl Loudness {
    pub(super) const fn loudest(self) -> Option<u8> {
        self.0
    }

    pub(super) const fn note(&mut self, below_overload: u8) {
        self.0 = match self.0 {
            Some(loudest) if loudest <= below_overload => Some(loudest),
            Some(_) | None => Some(below_overload),
        };
    }
}

impl Room {
    /// Who is to be told which levels, loudest first. Silence is told once, when it begins. The loudest get the places of the voices.
    ///
    /// What is held back has no level, and who is isolated has one for hosts only.
    pub fn levels(&mut self) -> Vec<(ParticipantId, Arc<[ProducerLevel]>)> {
        self.choose_voices();
        let mut for_hosts = Vec::new();
        let mut for_all = Vec::new();
        for producer in &mut self.producers {
            let Loudness(loudest) = std::mem::take(&mut producer.loudness);
            let Some(loudest) = loudest.filter(|level| *level <= AUDIBLE && !producer.is_held()) else { continue };
            for_hosts.push((loudest, producer.info.id));
            if !producer.isolated {
                for_all.push((loudest, producer.info.id));
            }
        }
        let is_quiet = for_hosts.is_empty();
        if std::mem::replace(&mut self.was_quiet, is_quiet) && is_quiet {
            return Vec::new();
        }
        let (for_hosts, for_all) = (loudest_first(for_hosts), loudest_first(for_all));
        let levels = |host| if host { Arc::clone(&for_hosts) } else { Arc::clone(&for_all) };
        self.participants.iter().map(|p| (p.id, levels(self.is_host(p.id)))).collect()
    }
}

fn loudest_first(mut levels: Vec<(u8, ProducerId)>) -> Arc<[ProducerLevel]> {
    levels.sort_by_key(|(below_overload, _)| *below_overload);
    levels.truncate(MOST_LEVELS);
    let level = |below: u8| -i8::try_from(below).unwrap_or(i8::MAX);
    levels.into_iter().map(|(below, producer)| ProducerLevel { producer, level: level(below) }).collect()
}
