//! The programme's playout delay: how long after its fastest possible arrival media is shown and heard, the same for all sources, so
//! that what was played together stays together. It grows when pictures or sounds come too late for it and shrinks when none does. It
//! begins with what the musicians' links were known to call for, so that nothing freezes while it grows.

use std::collections::VecDeque;

use crate::mixer::MILLISECOND;
use crate::mixer::SECOND;

use crate::model::spec::Latency;

/// What a programme begins with, before anything is known of its sources: 150 ms of video behind audio was seen on real networks, and
/// decoders need up to 40 ms. All times are nanoseconds.
pub(in crate::mixer) const FIRST: i64 = 200 * MILLISECOND;

/// Above this viewers wait longer and nobody who plays is reached.
const MOST: i64 = 600 * MILLISECOND;

/// How patient a programme is with what comes late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mixer) struct Patience {
    /// The playout delay it begins with.
    pub first: i64,
    /// The longest it begins with, for links that were known to be far and to lose much.
    most_at_first: i64,
    /// The shortest one.
    pub least: i64,
    /// Kept above what was needed.
    spare: i64,
    /// A frame is composed this long after its time, for what a busy machine has decoded late.
    pub frame: i64,
    /// A missing packet is given up when its successor is this close to its turn: the time a decoder needs on a busy machine.
    pub packet: i64,
    /// The same for sound, whose missing piece is made up only once its successor is decoded: later than this, the beginning of what was
    /// made up missed its own turn.
    pub sound: i64,
    /// Between two looks at the socket and the clock: a fraction of the time a packet has before its turn, and where nobody is in a hurry
    /// long enough for the packets of a frame to go their way together, so that the mixer and a decoder wake once for all of them.
    pub tick: i64,
}

impl Patience {
    pub(in crate::mixer) const fn of(latency: Latency) -> Self {
        match latency {
            // With less than this only a busy machine is heard.
            Latency::Normal => Self {
                first: FIRST,
                most_at_first: MOST,
                least: 60 * MILLISECOND,
                spare: 20 * MILLISECOND,
                frame: 30 * MILLISECOND,
                packet: 40 * MILLISECOND,
                sound: 60 * MILLISECOND,
                tick: 10 * MILLISECOND,
            },
            // A decoder on a quiet machine needs 5 ms.
            Latency::Low => Self {
                first: 60 * MILLISECOND,
                // Who asks for this will rather see something freeze.
                most_at_first: 60 * MILLISECOND,
                least: 20 * MILLISECOND,
                spare: 5 * MILLISECOND,
                frame: 4 * MILLISECOND,
                packet: 12 * MILLISECOND,
                sound: 12 * MILLISECOND,
                tick: 4 * MILLISECOND,
            },
        }
    }
}

/// It begins to shrink only where there is more than this, so that it rests.
const WORTH_SHRINKING: i64 = 30 * MILLISECOND;

/// What comes later than this has stalled, and no delay helps.
const STALLED: i64 = SECOND;

/// It grows when something came too late in more than so many of so many seconds: one stall is no reason to move.
const FORGIVEN: usize = 2;
const RECENT_S: usize = 30;

/// It shrinks when nothing came too late for the shorter delay in so many seconds.
const MEMORY_S: usize = 120;

/// How fast it grows and shrinks, in a second: sound follows by changes of pitch of 0.4 % (7 cents) and 0.2 %.
const GROWTH: i64 = 4 * MILLISECOND;
const SHRINKING: i64 = 2 * MILLISECOND;

/// See the file.
#[derive(Debug)]
pub(in crate::mixer) struct Playout {
    patience: Patience,
    delay: i64,
    moved_at: Option<i64>,
    is_shrinking: bool,
    /// The longest delay that something needed in each second, newest last.
    needs: VecDeque<(i64, i64)>,
}

impl Playout {
    pub(in crate::mixer) const fn new(patience: Patience) -> Self {
        Self { patience, delay: patience.first, moved_at: None, is_shrinking: false, needs: VecDeque::new() }
    }

    /// Nanoseconds.
    pub(in crate::mixer) const fn delay(&self) -> i64 {
        self.delay
    }

    /// Begins where what the links lose comes again after so long.
    pub(in crate::mixer) fn begin(&mut self, repair: i64) {
        let Patience { first, most_at_first, spare, packet, .. } = self.patience;
        self.delay = (repair + packet + spare).clamp(first, most_at_first);
    }

    /// Goes on where another mixer of this programme is. Heard as a jump where somebody listens.
    pub(in crate::mixer) fn take_over(&mut self, delay: i64) {
        self.delay = delay.clamp(self.patience.least, MOST);
    }

    /// Something was ready so long after it was due; less than nothing means that it was ready before.
    pub(in crate::mixer) fn ready(&mut self, now: i64, lateness: i64) {
        self.note(now, lateness, 1);
    }

    /// A packet came so long after its place was given up. That breaks a picture for as long as the next keyframe takes, so it is never
    /// forgiven.
    pub(in crate::mixer) fn missed(&mut self, now: i64, lateness: i64) {
        self.note(now, lateness, FORGIVEN + 1);
    }

    fn note(&mut self, now: i64, lateness: i64, seconds: usize) {
        if lateness > STALLED {
            return;
        }
        let (second, need) = (now.div_euclid(SECOND), lateness + self.delay);
        if self.needs.back().is_none_or(|(last, _)| *last < second) {
            self.needs.push_back((second, need));
        }
        for (_, most) in self.needs.iter_mut().rev().take(seconds) {
            *most = need.max(*most);
        }
        if self.needs.len() > MEMORY_S {
            self.needs.pop_front();
        }
    }

    /// Moves on.
    pub(in crate::mixer) fn advance(&mut self, now: i64) {
        let elapsed = (now - self.moved_at.replace(now).unwrap_or(now)).clamp(0, SECOND);
        let wanted = self.needed(RECENT_S, FORGIVEN);
        let more = if self.needs.len() >= MEMORY_S { self.delay - self.needed(MEMORY_S, 0) } else { 0 };
        // Once it shrinks it does so to the end.
        self.is_shrinking = more > WORTH_SHRINKING || (self.is_shrinking && more > 0);
        if wanted > self.delay {
            self.delay += (wanted - self.delay).min(elapsed * GROWTH / SECOND);
        } else if self.is_shrinking {
            self.delay -= more.min(elapsed * SHRINKING / SECOND);
        }
    }

    /// What was needed in the last seconds, but for the worst of them.
    fn needed(&self, seconds: usize, forgiven: usize) -> i64 {
        let mut needs: Vec<i64> = self.needs.iter().rev().take(seconds).map(|(_, need)| *need).collect();
        needs.sort_unstable_by(|a, b| b.cmp(a));
        let Patience { least, spare, .. } = self.patience;
        needs.get(forgiven).map_or(least, |need| need + spare).clamp(least, MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays `seconds` in which each frame is ready as long after its fastest arrival as `need` says for its number.
    fn play(playout: &mut Playout, from_s: i64, seconds: i64, need: impl Fn(i64) -> i64) {
        for n in from_s * 30..(from_s + seconds) * 30 {
            let before = playout.delay();
            let now = n * SECOND / 30;
            playout.ready(now, need(n) - before);
            playout.advance(now);
            let step = playout.delay() - before;
            assert!((-67_000..=134_000).contains(&step), "a step of {step} ns in a frame");
        }
    }

    fn ms(playout: &Playout) -> i64 {
        playout.delay() / MILLISECOND
    }

    #[test]
    fn on_good_networks_it_shrinks_once_it_has_seen_enough_and_rests_there() {
        let mut playout = Playout::new(Patience::of(Latency::Normal));
        let good = |n: i64| 20 * MILLISECOND + n % 7 * MILLISECOND;
        play(&mut playout, 0, 119, good);
        assert_eq!(playout.delay(), FIRST);
        play(&mut playout, 119, 80, good);
        assert_eq!(ms(&playout), 60);
        play(&mut playout, 199, 120, good);
        assert_eq!(ms(&playout), 60);
    }

    #[test]
    fn pictures_that_come_late_each_second_get_their_time() {
        let mut playout = Playout::new(Patience::of(Latency::Normal));
        let late_flash = |n: i64| if n % 30 == 0 { 300 * MILLISECOND } else { 50 * MILLISECOND };
        play(&mut playout, 0, 40, late_flash);
        assert_eq!(ms(&playout), 320);
        play(&mut playout, 40, 600, late_flash);
        assert_eq!(ms(&playout), 320, "it moves although nothing has changed");
    }

    #[test]
    fn two_stalls_in_half_a_minute_move_nothing_and_neither_does_what_is_hopeless() {
        let mut playout = Playout::new(Patience::of(Latency::Normal));
        let stalls = |n: i64| if n % 450 < 20 { 500 * MILLISECOND } else { 150 * MILLISECOND };
        play(&mut playout, 0, 300, stalls);
        assert_eq!(playout.delay(), FIRST);
        play(&mut playout, 300, 60, |n| if n % 30 == 3 { 3 * SECOND } else { 150 * MILLISECOND });
        assert_eq!(playout.delay(), FIRST);
    }

    #[test]
    fn packets_that_were_given_up_too_early_get_their_time_at_once_and_keep_it() {
        let mut playout = Playout::new(Patience::of(Latency::Normal));
        play(&mut playout, 0, 5, |_| 150 * MILLISECOND);
        let lateness = 250 * MILLISECOND - playout.delay();
        playout.missed(5 * SECOND, lateness);
        play(&mut playout, 5, 111, |_| 150 * MILLISECOND);
        assert_eq!(ms(&playout), 270);
        play(&mut playout, 116, 120, |_| 150 * MILLISECOND);
        assert!((170..=210).contains(&ms(&playout)), "{} ms two minutes later", ms(&playout));
    }

    #[test]
    fn of_low_latency_it_begins_short_and_is_shorter_on_good_networks_and_grows_all_the_same() {
        let mut playout = Playout::new(Patience::of(Latency::Low));
        assert_eq!(ms(&playout), 60);
        play(&mut playout, 0, 160, |_| 8 * MILLISECOND);
        assert_eq!(ms(&playout), 20);
        play(&mut playout, 160, 60, |n| if n % 30 == 0 { 150 * MILLISECOND } else { 8 * MILLISECOND });
        assert_eq!(ms(&playout), 155);
    }

    #[test]
    fn it_begins_with_what_far_links_call_for_and_near_ones_and_low_latency_are_left_as_they_are() {
        let first = |latency, repair_ms| {
            let mut playout = Playout::new(Patience::of(latency));
            playout.begin(repair_ms * MILLISECOND);
            ms(&playout)
        };
        assert_eq!([0, 110, 140].map(|repair_ms| first(Latency::Normal, repair_ms)), [200, 200, 200]);
        assert_eq!([340, 440, 5000].map(|repair_ms| first(Latency::Normal, repair_ms)), [400, 500, 600]);
        assert_eq!([0, 340].map(|repair_ms| first(Latency::Low, repair_ms)), [60, 60]);
    }

    #[test]
    fn from_where_far_links_have_it_begin_it_shrinks_if_nothing_was_lost_after_all() {
        let mut playout = Playout::new(Patience::of(Latency::Normal));
        playout.begin(340 * MILLISECOND);
        play(&mut playout, 0, 310, |_| 50 * MILLISECOND);
        assert_eq!(ms(&playout), 70);
    }

    #[test]
    fn it_ends_at_its_longest() {
        let mut playout = Playout::new(Patience::of(Latency::Normal));
        play(&mut playout, 0, 300, |_| 900 * MILLISECOND);
        assert_eq!(playout.delay(), MOST);
    }
}
