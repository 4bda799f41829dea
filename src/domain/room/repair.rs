//! How long it takes until what a musician's link loses has come again: as long a programme waits from its first picture on, or it would
//! freeze until it has found that out.

mod gaps;

use std::time::Duration;

use crate::domain::room::Room;
use crate::domain::room::repair::gaps::OVERTAKEN;
use crate::domain::room::repair::gaps::again_after;
use crate::model::media::MediaKind;

pub use crate::domain::room::repair::gaps::Gaps;
pub use crate::domain::room::repair::gaps::LostPadding;
pub use crate::domain::room::repair::gaps::Piece;

/// One packet in so many may come later: of the hundred a second that a camera sends, about one in a minute.
const LATE: f64 = 1.0 / 5000.0;

/// A link that needs more than this is broken, and no programme waits for it.
const WORTH_ASKING: u32 = 5;

/// What a link is taken to lose that too little was seen of: the air of a flat loses as much.
const USUAL_LOSS: f64 = 0.01;

/// So little is too little: a camera sends as much in two seconds.
const KNOWN_FROM: u32 = 200;

/// The latest packets count, half of so many at least.
const LATEST: u32 = 4000;

/// Larger steps between two packets are a sender that began anew.
const RESTART: u16 = 500;

/// From the earliest that a packet can come to when one that was lost has come again, where the round trip is so long and so much is lost.
///
/// What is missing is asked for soon and comes a round trip later, if neither the asking nor the answer is lost as well; then it is asked
/// for again.
pub fn repair(round_trip: Duration, loss: f64) -> Duration {
    let in_vain = 1.0 - (1.0 - loss) * (1.0 - loss);
    let mut asked = 0;
    let mut missing = loss;
    while missing > LATE && asked < WORTH_ASKING {
        missing *= in_vain;
        asked += 1;
    }
    match asked {
        0 => Duration::ZERO,
        _ => OVERTAKEN + again_after(round_trip) * (asked - 1) + round_trip,
    }
}

/// What is lost of one RTP source before it is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Losses {
    due: u32,
    missing: u32,
}

impl Losses {
    /// The newest packet is so many ahead of the one before it.
    pub(super) fn note(&mut self, ahead: u16) {
        if ahead > RESTART {
            return;
        }
        self.due += u32::from(ahead);
        self.missing += u32::from(ahead.saturating_sub(1));
        if self.due >= LATEST {
            self.due /= 2;
            self.missing /= 2;
        }
    }

    /// Of all that was sent.
    pub(super) fn share(self) -> f64 {
        if self.due < KNOWN_FROM { USUAL_LOSS } else { f64::from(self.missing) / f64::from(self.due) }
    }
}

impl Room {
    /// How long it takes until what the links of the programme's musicians lose of their pictures has come again, as far as it is known.
    pub fn repair(&self) -> Duration {
        let seen = self.producers.iter().filter(|p| p.info.kind == MediaKind::Video && p.is_in_programme());
        let longest = seen.filter_map(|producer| {
            let round_trip = self.delays.usual_round_trip(producer.info.participant)?;
            Some(repair(round_trip, producer.lost()))
        });
        longest.max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
