//! Which packets of one RTP source are missing, when each of them is asked for, and which of them nobody needs.
//!
//! Browsers that look for more bandwidth send packets without a payload among those of a picture, and never send one of these again. A
//! listener who cannot know that waits for it with everything that follows.

use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;

use crate::domain::room::forwarder::LATE_LIMIT;
use crate::domain::room::repair::RESTART;

/// What other packets have overtaken comes by itself within so long.
pub(super) const OVERTAKEN: Duration = Duration::from_millis(10);

/// What a network holds up now and then comes on top of the round trip. Browsers do not send a packet again within theirs, so that who
/// asks too early is answered a round trip later.
const HELD_UP: Duration = Duration::from_millis(20);

/// A packet asked for so often in vain is lost, and so is one that was missed so long ago: its picture has been given up everywhere.
const MOST_ASKED: u8 = 10;
const LONGEST: Duration = Duration::from_secs(1);

/// What was asked for so often and comes behind padding is taken to be some more of it.
const PADDING_AFTER: u8 = 3;

/// A camera of 15 fps at 90 kHz, below which steps say little: what was still may begin to move.
const LONGEST_STEP: u32 = 6_000;

/// Steps from picture to picture that are remembered: half a second of a camera.
const STEPS: usize = 16;

/// Missing packets remembered, the latest ones.
const MOST: usize = 512;

/// Between two requests for the same packet.
pub(super) fn again_after(round_trip: Duration) -> Duration {
    round_trip + HELD_UP
}

/// What tells a packet's place in its picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub timestamp: u32,
    /// It has no payload.
    pub is_padding: bool,
    /// It is known to be the first one of its picture.
    pub is_first: bool,
    /// It is the last one of its picture that has a payload.
    pub is_last: bool,
}

/// A packet without a payload that was lost, or is taken to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostPadding {
    pub seq: u16,
    pub timestamp: u32,
}

/// See the file. Sequence numbers are those of RTP (RFC 3550 section 5.1).
#[derive(Debug, Default)]
pub struct Gaps {
    newest: Option<(u16, Piece)>,
    /// What timestamps grew by from picture to picture, the latest last.
    steps: VecDeque<u32>,
    /// In the order of their numbers.
    open: VecDeque<Gap>,
    padding: VecDeque<LostPadding>,
}

/// Packets in a row, and those that have come before and behind them.
#[derive(Clone, Copy, Debug)]
struct Gap {
    first: u16,
    len: u16,
    before: Piece,
    behind: Piece,
    missed_at: Instant,
    ask_at: Instant,
    asked: u8,
}

impl Gap {
    fn numbers(self) -> impl Iterator<Item = u16> {
        (0..self.len).map(move |step| self.first.wrapping_add(step))
    }

    /// Padding follows the payload of a picture and has its timestamp. `twice` is what two pictures at least are apart that have a third
    /// one between them.
    const fn is_padding(&self, twice: u32) -> bool {
        let Self { before, behind, .. } = self;
        let step = behind.timestamp.wrapping_sub(before.timestamp);
        let is_all_of_its_picture = before.is_padding || before.is_last;
        is_all_of_its_picture && (behind.is_padding && step == 0 || behind.is_first && step > 0 && step < twice)
    }

    fn is_given_up(&self, now: Instant) -> bool {
        self.asked >= MOST_ASKED || now.saturating_duration_since(self.missed_at) > LONGEST
    }
}

impl Gaps {
    /// A packet has come.
    pub fn heard(&mut self, now: Instant, seq: u16, piece: Piece) {
        let Some((newest, before)) = self.newest else {
            self.newest = Some((seq, piece));
            return;
        };
        let ahead = seq.wrapping_sub(newest);
        let behind = newest.wrapping_sub(seq);
        if behind <= LATE_LIMIT {
            self.fill(seq, piece);
        } else if ahead > RESTART {
            *self = Self { newest: Some((seq, piece)), ..Self::default() };
        } else {
            self.newest = Some((seq, piece));
            if ahead == 1 {
                self.note_step(piece.timestamp.wrapping_sub(before.timestamp));
                return;
            }
            let (first, len, ask_at) = (newest.wrapping_add(1), ahead - 1, now + OVERTAKEN);
            self.open(self.open.len(), Gap { first, len, before, behind: piece, missed_at: now, ask_at, asked: 0 });
            while self.open.iter().map(|gap| usize::from(gap.len)).sum::<usize>() > MOST {
                self.open.pop_front();
            }
        }
    }

    fn note_step(&mut self, step: u32) {
        if step > 0 {
            self.steps.push_back(step);
            self.steps.drain(..self.steps.len().saturating_sub(STEPS));
        }
    }

    /// A packet that was missing has come: what is missing around it is less.
    fn fill(&mut self, seq: u16, piece: Piece) {
        let at = self.open.iter().position(|gap| seq.wrapping_sub(gap.first) < gap.len);
        let Some((at, gap)) = at.and_then(|at| Some((at, self.open.remove(at)?))) else { return };
        let len = seq.wrapping_sub(gap.first);
        let rest = Gap { first: seq.wrapping_add(1), len: gap.len - len - 1, before: piece, ..gap };
        self.open(at, rest);
        self.open(at, Gap { len, behind: piece, ..gap });
    }

    fn open(&mut self, at: usize, gap: Gap) {
        // Clocks of cameras shiver a little, and what left a picture out may go on with a shorter step.
        let least = self.steps.iter().min().filter(|_| self.steps.len() == STEPS).copied().unwrap_or_default();
        let least = least.min(LONGEST_STEP);
        if gap.is_padding(least + least / 2) {
            self.give_as_padding(gap);
        } else if gap.len > 0 {
            self.open.insert(at, gap);
        }
    }

    fn give_as_padding(&mut self, gap: Gap) {
        let timestamp = gap.before.timestamp;
        self.padding.extend(gap.numbers().map(|seq| LostPadding { seq, timestamp }));
    }

    /// When [`Gaps::ask`] is to be called next; `None` while nothing is missing.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.open.iter().map(|gap| gap.ask_at).min()
    }

    /// What is to be asked for now, in the order of the numbers. `round_trip` is that to the sender.
    pub fn ask(&mut self, now: Instant, round_trip: Duration) -> Vec<u16> {
        let mut wanted = Vec::new();
        for mut gap in std::mem::take(&mut self.open) {
            if gap.ask_at <= now {
                if gap.before.is_padding && gap.asked >= PADDING_AFTER {
                    self.give_as_padding(gap);
                    continue;
                }
                if gap.is_given_up(now) {
                    continue;
                }
                gap.asked += 1;
                gap.ask_at = now + again_after(round_trip);
                wanted.extend(gap.numbers());
            }
            self.open.push_back(gap);
        }
        wanted
    }

    /// Padding found to be lost since the last call, which listeners need the numbers of.
    pub fn lost_padding(&mut self) -> impl Iterator<Item = LostPadding> {
        self.padding.drain(..)
    }
}

#[cfg(test)]
mod tests;
