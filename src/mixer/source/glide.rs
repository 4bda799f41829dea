//! An added delay on its way to another: by a little it glides, which nobody hears or sees; what is further is jumped to.
//!
//! Sound and picture of a source each have one and move it by the time of their own media, so that they stay together.

use crate::mixer::MILLISECOND;
use crate::mixer::SECOND;

/// Up to here it glides, which takes ten seconds. Sound may not be stretched by more without a break.
const NEAR: i64 = 40 * MILLISECOND;

/// How far it glides in a second: a change of pitch of 0.4 % (7 cents), a little less than what sound may be stretched by.
const PER_SECOND: i64 = 4 * MILLISECOND;

/// A goal that has stood so long is meant: twice the time after which the studio says where the hand that moves a slider is by then. Jumping
/// after each of its steps would tear the sound again and again.
const MEANT: i64 = 500 * MILLISECOND;

/// See the file. All times are nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(in crate::mixer) struct Glide {
    delay: i64,
    goal: i64,
    /// When the goal was set, and when it moved last, by its media.
    headed_at: Option<i64>,
    moved_at: Option<i64>,
}

impl Glide {
    /// One that rests.
    pub(in crate::mixer) const fn at_rest(delay: i64) -> Self {
        Self { delay, goal: delay, headed_at: None, moved_at: None }
    }

    /// Is to become this.
    pub(in crate::mixer) const fn head_for(&mut self, goal: i64) {
        if self.goal != goal {
            self.goal = goal;
            self.headed_at = self.moved_at;
        }
    }

    pub(in crate::mixer) const fn rests(&self) -> bool {
        self.delay == self.goal
    }

    /// Whether it is time for [`Glide::jump`]: its goal is too far to glide there, and no longer changes.
    pub(in crate::mixer) fn is_to_jump(&self, time: i64) -> bool {
        self.is_far() && self.headed_at.is_none_or(|at| time - at >= MEANT)
    }

    /// Whether its goal is too far to glide there.
    pub(in crate::mixer) const fn is_far(&self) -> bool {
        (self.goal - self.delay).abs() > NEAR
    }

    /// Is there at once.
    pub(in crate::mixer) const fn jump(&mut self) {
        self.delay = self.goal;
    }

    /// As it was last.
    pub(in crate::mixer) const fn now(&self) -> i64 {
        self.delay
    }

    /// As it is for media of this time. All media of the same time has the same.
    pub(in crate::mixer) fn at(&mut self, time: i64) -> i64 {
        let passed = self.moved_at.map_or(0, |then| time.saturating_sub(then)).max(0);
        self.moved_at = self.moved_at.max(Some(time));
        if !self.is_far() {
            let most = passed.min(NEAR / PER_SECOND * SECOND) * PER_SECOND / SECOND;
            self.delay += (self.goal - self.delay).clamp(-most, most);
        }
        self.delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_glides_to_what_is_near_and_is_there_in_time() {
        let mut glide = Glide::at_rest(100 * MILLISECOND);
        assert_eq!(glide.at(SECOND), 100 * MILLISECOND);
        glide.head_for(80 * MILLISECOND);
        assert!(!glide.is_far() && !glide.rests());
        assert_eq!([2, 2, 4, 7].map(|s| glide.at(s * SECOND) / MILLISECOND), [96, 96, 88, 80]);
        assert!(glide.rests());
        assert_eq!(glide.at(0), 80 * MILLISECOND, "time that goes back");
    }

    #[test]
    fn a_picture_and_its_sound_glide_alike_whatever_their_pace() {
        let (mut sound, mut picture) = (Glide::at_rest(0), Glide::at_rest(0));
        for ms in 0..12_000 {
            if ms == 1000 {
                [&mut sound, &mut picture].iter_mut().for_each(|glide| glide.head_for(30 * MILLISECOND));
            }
            let [heard, seen] = [(20, &mut sound), (33, &mut picture)]
                .map(|(pace, glide)| if ms % pace == 0 { glide.at(ms * MILLISECOND) } else { glide.now() });
            assert!((heard - seen).abs() < MILLISECOND / 5, "{heard} and {seen} at {ms} ms");
        }
        assert!(sound.rests() && picture.rests());
    }

    #[test]
    fn what_is_far_waits_until_the_hand_rests_and_for_the_jump() {
        let mut glide = Glide::at_rest(0);
        glide.head_for(NEAR + 1);
        assert!(glide.is_to_jump(SECOND), "before anything was heard");
        assert_eq!((glide.at(SECOND), glide.at(9 * SECOND)), (0, 0));
        for step in 0..20 {
            let time = 9 * SECOND + step * 50 * MILLISECOND;
            glide.head_for(NEAR + step);
            assert!(!glide.is_to_jump(time), "in the middle of the drag, at {step}");
            glide.at(time);
        }
        assert!(!glide.is_to_jump(10 * SECOND + 350 * MILLISECOND));
        assert!(glide.is_to_jump(10 * SECOND + 450 * MILLISECOND));
        glide.jump();
        assert_eq!((glide.at(11 * SECOND), glide.rests()), (NEAR + 19, true));
        assert!(!glide.is_to_jump(12 * SECOND));
    }
}
