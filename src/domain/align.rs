//! The leader-aligned mix: by how much each musician is delayed in the programme, so that what was played together is heard together.
//!
//! Over a network a band follows a leader: the others play in time with what they hear of it, so in the programme each of them is late by
//! the time that the leader's sound takes to them and theirs takes back. Nobody can be moved forward. So everybody waits for the
//! latest: the leader by as much as that one is late, the others by what is missing to that.
//!
//! What is measured wanders with every packet, and a sound that is moved to and fro is worse than one that is a little late. So the
//! median of the latest measurements counts, and a musician is moved only when that has gone away from what it is delayed for.

pub mod pulse;

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;

use crate::domain::desk::Desk;
use crate::domain::desk::MOST_DELAY_MS;
use crate::model::id::ParticipantId;

/// The latest that anybody may be for the others to wait for it. Nobody keeps time with a leader that comes half a second late;
/// such a one hears the leader over a satellite, or is measured wrongly, and the audience is not to wait for that.
pub const MOST_LATE_MS: u32 = 500;

/// What a measurement may be beside what a musician is delayed for, before it is moved: played together, 3 ms are what sound needs for a
/// metre.
const SLACK_MS: u32 = 3;

/// The measurements whose median counts; one that is far off, and the next one too, change nothing.
const LATEST: usize = 5;

/// So many make a first median.
const FIRST: usize = 3;

/// How fast all are brought forward together when nobody is as late any more as somebody was: there is no hurry, and so slowly it
/// cannot be heard (0.4 %, 7 cents of pitch).
const GIVEN_BACK_MS_PER_S: u128 = 4;

/// Followers remembered: all who can be in a room, and as many who may come back.
const MOST_KEPT: usize = 256;

/// See the file.
#[derive(Clone, Debug, Default)]
pub struct Alignment {
    leader: Option<ParticipantId>,
    followers: BTreeMap<ParticipantId, Follower>,
    /// By how much the leader is delayed: as much as the latest is late, or lately was.
    whole_ms: u32,
    noted_at: Option<Instant>,
}

#[derive(Clone, Debug, Default)]
struct Follower {
    /// The latest measurements in milliseconds, oldest first.
    latest: VecDeque<u32>,
    /// What it is delayed for.
    late_ms: Option<u32>,
}

/// How somebody stands in an aligned mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Leader,
    Aligned {
        late_ms: u32,
    },
    /// It does not hear the leader, or does not say what its jitter buffer holds back, or has not been measured for long enough: it is
    /// left as late behind the leader as it is.
    Unmeasured,
    /// Later than [`MOST_LATE_MS`]: it is not delayed at all, and late by what is missing.
    OutOfReach {
        late_ms: u32,
    },
}

impl Alignment {
    /// Whom the others are aligned to.
    pub const fn leader(&self) -> Option<ParticipantId> {
        self.leader
    }

    /// Aligns to this one from now on, or not at all. What was measured of the others is held until it is measured anew: most of
    /// it is their own way to the gateway.
    pub fn follow(&mut self, leader: Option<ParticipantId>) {
        let Some(leader) = leader else {
            *self = Self::default();
            return;
        };
        if self.leader != Some(leader) {
            self.leader = Some(leader);
            self.followers.remove(&leader);
            self.followers.values_mut().for_each(|follower| follower.latest.clear());
        }
    }

    /// Who became whom, by a new identifier.
    pub fn rename(&mut self, renamed: &[(ParticipantId, ParticipantId)]) {
        for (left, newcomer) in renamed {
            if self.leader == Some(*left) {
                self.leader = Some(*newcomer);
            }
            if let Some(follower) = self.followers.remove(left) {
                self.followers.insert(*newcomer, follower);
            }
        }
    }

    /// Takes how late those who follow `leader` were measured to be, every other second; that counts while it leads. `here` is everybody
    /// in the room: nobody waits for those who are not. Tells whether anybody is to be delayed otherwise than before.
    ///
    /// While the leader is away there is nothing to measure, and everything stays as it is.
    pub fn note(
        &mut self,
        now: Instant,
        here: &[ParticipantId],
        leader: ParticipantId,
        measured: &[(ParticipantId, Duration)],
    ) -> bool {
        let passed = self.noted_at.replace(now).map_or(Duration::ZERO, |then| now.saturating_duration_since(then));
        if self.leader != Some(leader) {
            return false;
        }
        let before = (self.whole_ms, self.held());
        for (id, late) in measured {
            if *id != leader && here.contains(id) {
                self.followers.entry(*id).or_default().note(in_milliseconds(*late));
            }
        }
        if self.followers.len() > MOST_KEPT {
            self.followers.retain(|id, _| here.contains(id));
        }
        self.move_on(passed, here);
        (self.whole_ms, self.held()) != before
    }

    /// Everybody waits at once for somebody who is later than all others, and is brought forward slowly again.
    fn move_on(&mut self, passed: Duration, here: &[ParticipantId]) {
        let present = self.followers.iter().filter(|(id, _)| here.contains(id));
        let reached = present.filter_map(|(_, follower)| follower.late_ms);
        let latest = reached.filter(|late| *late <= MOST_LATE_MS).max().unwrap_or(0);
        let back = u32::try_from(passed.as_millis() * GIVEN_BACK_MS_PER_S / 1000).unwrap_or(u32::MAX);
        self.whole_ms = latest.max(self.whole_ms.saturating_sub(back));
    }

    fn held(&self) -> Vec<(ParticipantId, u32)> {
        self.followers.iter().filter_map(|(id, follower)| Some((*id, follower.late_ms?))).collect()
    }

    /// How somebody stands; `None` while nobody leads.
    pub fn standing(&self, participant: ParticipantId) -> Option<Standing> {
        if self.leader? == participant {
            return Some(Standing::Leader);
        }
        let late = self.followers.get(&participant).and_then(|follower| follower.late_ms);
        Some(match late {
            None => Standing::Unmeasured,
            Some(late_ms) if late_ms > MOST_LATE_MS => Standing::OutOfReach { late_ms },
            Some(late_ms) => Standing::Aligned { late_ms },
        })
    }

    /// By how much somebody is delayed for the sake of the others; 0 while nobody leads.
    pub fn added_ms(&self, participant: ParticipantId) -> u32 {
        match self.standing(participant) {
            Some(Standing::Leader | Standing::Unmeasured) => self.whole_ms,
            Some(Standing::Aligned { late_ms }) => self.whole_ms.saturating_sub(late_ms),
            Some(Standing::OutOfReach { .. }) | None => 0,
        }
    }

    /// By how much each of those present is delayed in all, for the sake of the others and by hand. Where a hand has moved somebody
    /// forward, all the others wait for as long.
    pub fn delays_ms(&self, desk: &Desk, present: &[ParticipantId]) -> Vec<u32> {
        let added = |id: &ParticipantId| i32::try_from(self.added_ms(*id)).unwrap_or(i32::MAX);
        let all: Vec<i32> = present.iter().map(|id| added(id).saturating_add(desk.strip(*id).delay_ms)).collect();
        let first = all.iter().copied().min().unwrap_or(0).min(0);
        all.into_iter().map(|delay| delay.saturating_sub(first).min(MOST_DELAY_MS).unsigned_abs()).collect()
    }
}

impl Follower {
    fn note(&mut self, late_ms: u32) {
        if self.latest.len() == LATEST {
            self.latest.pop_front();
        }
        self.latest.push_back(late_ms);
        if self.latest.len() < FIRST {
            return;
        }
        let mut sorted: Vec<u32> = self.latest.iter().copied().collect();
        sorted.sort_unstable();
        let median = sorted[(sorted.len() - 1) / 2];
        if self.late_ms.is_none_or(|held| held.abs_diff(median) > SLACK_MS) {
            self.late_ms = Some(median);
        }
    }
}

fn in_milliseconds(time: Duration) -> u32 {
    u32::try_from((time + Duration::from_micros(500)).as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
