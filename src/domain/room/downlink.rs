//! How much video a receiver has room for: what it says of its link (REMB, reports of loss), and careful trials of more.
//!
//! Browsers estimate the video alone; sound is sent whatever happens and finds its way into the estimate as traffic of others.
//! An estimate that rises says little, because it is bounded by what was sent. One that falls says that the link is full, and
//! by the way what went through it: 0.85 of that (draft-ietf-rmcat-gcc-02 section 5.5).

use std::time::Duration;
use std::time::Instant;

/// Bits per second of video begun with: the middle layer of a camera.
const START: u64 = 800_000;
/// An estimate that falls by 3 % is what browsers send at once, because their link is full.
const FALL: (u64, u64) = (97, 100);
/// Smoothed loss that means a full link (policed, without a queue whose growth could be seen). Radio loses a fifth while it is fine.
const FULL: f64 = 0.25;
/// A queue that drains tells of the time before the last decision.
const DRAIN: Duration = Duration::from_secs(1);
/// Between two steps up: longer than a full queue takes to show.
const STEP: Duration = Duration::from_secs(2);
/// A step that held for so long is no trial any more.
const TRIAL: Duration = Duration::from_secs(5);
/// Reports and estimates of so long after a change of the way are of the one before.
const OLD_NEWS: Duration = Duration::from_secs(2);
/// So long after it was found full nothing but video is tried on it: sound that goes twice would push out itself.
const LATELY: Duration = Duration::from_secs(30);
/// After a trial that failed the next one waits for so long, doubled by each further failure up to the second.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(8), Duration::from_secs(128));

/// The receiving side of one participant.
#[derive(Clone, Debug)]
pub struct Downlink {
    /// Bits per second of video believed to fit.
    room: u64,
    /// Bits per second of video sent lately.
    sent: u64,
    estimate: Option<u64>,
    loss: f64,
    filled_at: Option<Instant>,
    stepped_at: Instant,
    /// The last step up has not failed.
    holds: bool,
    back_off: Duration,
    /// Until then reports tell of the time before this link.
    deaf_until: Instant,
}

impl Downlink {
    /// One that was opened now.
    pub fn new(now: Instant) -> Self {
        Self {
            room: START,
            sent: 0,
            estimate: None,
            loss: 0.0,
            filled_at: None,
            stepped_at: now,
            holds: true,
            back_off: BACK_OFF.0,
            deaf_until: now,
        }
    }

    /// One of a peer that was connected by another way before, or not at all for a while.
    pub fn by_another_way(now: Instant) -> Self {
        Self { deaf_until: now + OLD_NEWS, ..Self::new(now) }
    }

    /// Bits per second of video that may be sent now. `least` is what seeing everybody takes; it is sent until the link has shown
    /// that it cannot carry it.
    pub fn room(&self, least: u64) -> u64 {
        if self.filled_at.is_none() { self.room.max(least) } else { self.room }
    }

    /// Whether it was found full lately.
    pub fn is_full(&self, now: Instant) -> bool {
        self.filled_at.is_some_and(|at| now.saturating_duration_since(at) < LATELY)
    }

    /// Takes the receiver's estimate in bits per second. `true` if its link is full.
    pub fn estimated(&mut self, now: Instant, bits: u64) -> bool {
        if now < self.deaf_until {
            return false;
        }
        // The first one tells what came in the seconds before it, which a step up since then has left behind.
        let before = self.estimate.replace(bits).unwrap_or(self.sent * 7 / 8);
        if bits * FALL.1 < before * FALL.0 {
            return self.fill(now, bits);
        }
        if !self.is_draining(now) {
            self.room = self.room.max(bits);
        }
        false
    }

    /// Takes the share of packets lost, 0.0 to 1.0, of a report about a stream of video. `true` if its link is full.
    pub fn lost(&mut self, now: Instant, share: f64) -> bool {
        if now < self.deaf_until {
            return false;
        }
        self.loss += (share - self.loss) / 4.0;
        if self.loss < FULL {
            return false;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let arrived = (self.sent as f64 * (1.0 - self.loss)) as u64;
        let full = self.fill(now, arrived);
        if full {
            self.loss = 0.0;
        }
        full
    }

    /// Takes what is sent now, in bits of video per second: what has held for a while fits.
    pub fn sending(&mut self, now: Instant, bits: u64) {
        self.sent = bits;
        let quiet = |at: Instant| now.saturating_duration_since(at) >= TRIAL;
        if self.filled_at.is_none_or(quiet) {
            self.room = self.room.max(bits);
            let was_tried = self.filled_at.is_none_or(|at| at < self.stepped_at);
            if was_tried && quiet(self.stepped_at) {
                self.back_off = BACK_OFF.0;
            }
        }
    }

    /// Makes room for `wanted` bits per second in all, the next step up, if it is time for a trial.
    pub fn step(&mut self, now: Instant, wanted: u64) -> bool {
        let since = |at: Instant| now.saturating_duration_since(at);
        let is_time = since(self.stepped_at) >= STEP && self.filled_at.is_none_or(|at| since(at) >= self.back_off);
        if is_time {
            self.room = self.room.max(wanted);
            self.stepped_at = now;
            self.holds = true;
        }
        is_time
    }

    fn fill(&mut self, now: Instant, fits: u64) -> bool {
        if self.is_draining(now) {
            return false;
        }
        let was_trial = now.saturating_duration_since(self.stepped_at) < TRIAL && self.filled_at.is_some();
        if was_trial && std::mem::take(&mut self.holds) {
            self.back_off = (self.back_off * 2).min(BACK_OFF.1);
        }
        self.filled_at = Some(now);
        self.room = self.room.min(fits);
        true
    }

    fn is_draining(&self, now: Instant) -> bool {
        self.filled_at.is_some_and(|at| now.saturating_duration_since(at) < DRAIN)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn a_good_link_is_climbed_step_by_step() {
        let start = Instant::now();
        let mut downlink = Downlink::new(start);
        assert!(!downlink.step(at(start, 1_900), 1_300_000));
        assert!(downlink.step(at(start, 2_000), 1_300_000));
        assert_eq!(downlink.room(0), 1_300_000);
        assert!(!downlink.step(at(start, 3_000), 3_900_000), "one step has to hold before the next");
        assert!(downlink.step(at(start, 4_000), 3_900_000));
        downlink.sending(at(start, 5_000), 4_200_000);
        assert_eq!(downlink.room(0), 4_200_000, "a picture that becomes richer is no reason to lose it");
        assert_eq!(downlink.room(9_000_000), 9_000_000, "nobody is hidden without a reason");
    }

    #[test]
    fn a_full_link_is_believed_at_once_and_tried_ever_more_rarely() {
        let start = Instant::now();
        let mut downlink = Downlink::new(start);
        downlink.sending(start, 500_000);
        assert!(downlink.estimated(start, 255_000), "the first estimate is below what is sent");
        assert_eq!(downlink.room(600_000), 255_000);
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..7 {
            let before = now;
            while downlink.room(0) < 700_000 {
                now += 100;
                downlink.estimated(at(start, now), 300_000);
                downlink.sending(at(start, now), 150_000);
                downlink.step(at(start, now), 700_000);
            }
            pauses.push((now - before) / 1_000);
            now += 500;
            assert!(downlink.estimated(at(start, now), 255_000), "the trial filled it");
        }
        assert_eq!(pauses, [8, 16, 32, 64, 128, 128, 128]);
    }

    #[test]
    fn a_trial_fails_once_however_long_its_queue_takes_to_drain() {
        let start = Instant::now();
        let mut downlink = Downlink::new(start);
        downlink.sending(start, 500_000);
        downlink.estimated(start, 255_000);
        assert!(downlink.step(at(start, 8_000), 700_000));
        for (ms, bits) in [(8_500, 240_000), (9_600, 200_000), (10_700, 150_000)] {
            assert!(downlink.estimated(at(start, ms), bits));
        }
        assert!(!downlink.step(at(start, 26_600), 700_000));
        assert!(downlink.step(at(start, 26_700), 700_000), "sixteen seconds after it was last full");
    }

    #[test]
    fn a_trial_that_held_makes_the_next_failure_a_first_one() {
        let start = Instant::now();
        let mut downlink = Downlink::new(start);
        downlink.sending(start, 500_000);
        downlink.estimated(start, 255_000);
        downlink.step(at(start, 8_000), 700_000);
        downlink.estimated(at(start, 8_500), 240_000);
        assert!(!downlink.step(at(start, 20_000), 700_000));
        assert!(downlink.step(at(start, 24_500), 700_000));
        downlink.sending(at(start, 30_000), 650_000);
        assert!(downlink.estimated(at(start, 31_000), 230_000));
        assert!(downlink.step(at(start, 39_000), 700_000), "after eight seconds again");
    }

    #[test]
    fn a_fifth_lost_is_borne_and_a_policed_link_is_not() {
        let start = Instant::now();
        let mut downlink = Downlink::new(start);
        downlink.sending(start, 1_200_000);
        for n in 0..50 {
            assert!(!downlink.lost(at(start, n * 1_000), 0.2));
        }
        let full = (50..60).find(|n| downlink.lost(at(start, n * 1_000), 0.75));
        assert!(full.is_some_and(|n| n <= 51), "within two reports");
        assert!(downlink.room(0) < 900_000);
    }

    #[test]
    fn a_draining_queue_is_not_a_second_reason() {
        let start = Instant::now();
        let mut downlink = Downlink::new(start);
        downlink.sending(start, 500_000);
        assert!(downlink.estimated(start, 255_000));
        assert!(!downlink.estimated(at(start, 400), 150_000));
        assert_eq!(downlink.room(0), 255_000);
        assert!(downlink.estimated(at(start, 1_400), 140_000), "but one that never drains is");
    }

    proptest! {
        #[test]
        fn no_feedback_makes_a_full_link_be_tried_early(
            feedback in prop::collection::vec((0u64..3_000, 0u64..5_000_000, 0.0..1.0f64, any::<bool>()), 1..200)
        ) {
            let start = Instant::now();
            let mut downlink = Downlink::new(start);
            let mut now = 0;
            let mut full_at = None;
            for (passed, bits, share, is_loss) in feedback {
                now += passed;
                downlink.sending(at(start, now), downlink.room(0));
                let full = if is_loss { downlink.lost(at(start, now), share) } else { downlink.estimated(at(start, now), bits) };
                if full {
                    full_at = Some(now);
                }
                let stepped = downlink.step(at(start, now), 4_000_000);
                prop_assert!(!stepped || full_at.is_none_or(|full_at| now - full_at >= 8_000));
            }
        }
    }
}
