//! How much video a receiver has room for beside its sound: what is seen of its link, and careful trials of more.
//!
//! Sound is sent whatever happens, so a link is found full by the video: it waits in a queue, or much of it is lost. What came through
//! then is what the link carries, and is remembered. More is tried ever more rarely after each failure; a picture for which there was
//! no room at all not before a train of empty packets has shown that the link is wide enough, which costs the sound next to nothing.

use std::time::Duration;
use std::time::Instant;

use crate::domain::room::transit::Passage;
use crate::domain::room::transit::Through;
use crate::domain::room::transit::Train;
use crate::domain::room::transit::Transit;

/// Bits per second of video begun with: the middle layer of a camera.
const START: u64 = 800_000;
/// Of what a full link carries so much is used while its queue drains, and so much once it has (draft-ietf-rmcat-gcc-02 section 5.5
/// says 0.85).
const DRAINING: (u64, u64) = (85, 100);
const DRAINED: (u64, u64) = (95, 100);
/// A train has to show a fifth more than is to be sent.
const SHOWN: (u64, u64) = (12, 10);
/// Smoothed loss that means a full link (policed, without a queue whose growth could be seen). Radio loses a fifth while it is fine.
const FULL: f64 = 0.25;
/// A queue that drains tells of the time before the last decision.
const DRAIN: Duration = Duration::from_secs(1);
/// Between two steps up: longer than a full queue takes to show.
const STEP: Duration = Duration::from_secs(2);
/// A step that held for so long is no trial any more.
const TRIAL: Duration = Duration::from_secs(5);
/// Reports of so long after a change of the way are of the one before.
const OLD_NEWS: Duration = Duration::from_secs(2);
/// So long after it was found full nothing but video is tried on it: sound that goes twice would push out itself.
const LATELY: Duration = Duration::from_secs(30);
/// A trial waits for so long after the link was last full; each that fails makes it four times as long, up to the second.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(8), Duration::from_secs(512));
/// Between two trains.
const TRAINS: Duration = Duration::from_secs(8);
/// Packets of a train: 1 kB with their headers.
pub const TRAIN: usize = 16;
/// Trains that lost more of them show nothing.
const TRAIN_LEAST: usize = 12;

/// The receiving side of one participant.
#[derive(Clone, Debug)]
pub struct Downlink {
    /// Bits per second of video believed to fit.
    room: u64,
    /// Bits per second of video and of sound sent lately.
    sent: u64,
    sound: u64,
    loss: f64,
    transit: Transit,
    found: Option<Found>,
    stepped_at: Instant,
    /// What the last step up was to send in all.
    tried: u64,
    /// The last step up has not failed.
    holds: bool,
    back_off: Duration,
    train: Option<Instant>,
    /// Until then reports tell of the time before this link.
    deaf_until: Instant,
}

/// What was found when the link was last full.
#[derive(Clone, Copy, Debug)]
struct Found {
    at: Instant,
    /// Bits per second of everything that it carries.
    fits: u64,
    /// What the last train has shown since.
    shown: Option<Train>,
}

impl Downlink {
    /// One that was opened now.
    pub fn new(now: Instant) -> Self {
        Self {
            room: START,
            sent: 0,
            sound: 0,
            loss: 0.0,
            transit: Transit::new(now),
            found: None,
            stepped_at: now,
            tried: 0,
            holds: true,
            back_off: BACK_OFF.0,
            train: None,
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
        if self.found.is_none() { self.room.max(least) } else { self.room }
    }

    /// Whether there is no room for the sound a second time: it was found full lately, or carries not even a picture.
    pub fn is_full(&self, now: Instant) -> bool {
        self.found.is_some_and(|found| {
            let is_near = self.sent == 0 || now.saturating_duration_since(found.at) < LATELY;
            is_near && self.sent + 2 * self.sound > found.fits
        })
    }

    /// Takes what the receiver told of the packets of video that came. `true` if its link is found full.
    pub fn passed(&mut self, now: Instant, passages: &[Passage]) -> bool {
        if now < self.deaf_until {
            return false;
        }
        self.transit.take(passages);
        if let (Some(sent), Some(found)) = (self.train, &mut self.found)
            && let Some(train) = self.transit.train(sent, TRAIN_LEAST)
        {
            found.shown = Some(train);
        }
        self.transit.is_full() && self.fill(now, 0.0)
    }

    /// Takes the share of packets lost, 0.0 to 1.0, of a report about a stream of video. `true` if its link is found full.
    pub fn lost(&mut self, now: Instant, share: f64) -> bool {
        if now < self.deaf_until {
            return false;
        }
        self.loss += (share - self.loss) / 6.0;
        if self.loss < FULL {
            return false;
        }
        let full = self.fill(now, self.loss.max(share));
        if full {
            self.loss = 0.0;
        }
        full
    }

    /// Takes what is sent now, in bits of video and of sound per second: what has held for a while fits.
    pub fn sending(&mut self, now: Instant, video: u64, sound: u64) {
        (self.sent, self.sound) = (video, sound);
        let is_long_ago = |at: Instant| now.saturating_duration_since(at) >= TRIAL;
        if !self.found.is_none_or(|found| is_long_ago(found.at)) {
            return;
        }
        self.room = self.room.max(video);
        if let Some(found) = self.found.as_mut().filter(|_| is_long_ago(self.stepped_at)) {
            let is_news = found.at < self.stepped_at && self.tried > part(found.fits, DRAINED);
            if is_news && video > 0 {
                found.fits = found.fits.max(self.tried);
                self.back_off = BACK_OFF.0;
            }
        }
    }

    /// Makes room for `wanted` bits per second of video in all, the next step up, if it is time for a trial.
    pub fn step(&mut self, now: Instant, wanted: u64) -> bool {
        let since = |at: Instant| now.saturating_duration_since(at);
        let total = wanted + self.sound;
        let is_time = since(self.stepped_at) >= STEP
            && self.found.is_none_or(|found| since(found.at) >= self.patience(found, total));
        if is_time {
            self.room = self.room.max(wanted);
            self.stepped_at = now;
            self.tried = total;
            self.holds = true;
        }
        is_time
    }

    /// Whether a train is to be sent now, of [`TRAIN`] packets: no picture goes out, although one is wanted.
    pub fn is_train_due(&mut self, now: Instant) -> bool {
        let since = |at: Instant| now.saturating_duration_since(at);
        let is_due = self.sent == 0
            && self.transit.is_told()
            && self.found.is_some_and(|found| since(found.at) >= TRIAL)
            && self.train.is_none_or(|at| since(at) >= TRAINS);
        if is_due {
            let last = self.train.replace(now);
            if let Some(found) = &mut self.found
                && last.is_none_or(|last| self.transit.train(last, TRAIN_LEAST).is_none())
            {
                found.shown = None;
            }
        }
        is_due
    }

    /// How long after the link was full so much in all is tried.
    fn patience(&self, found: Found, total: u64) -> Duration {
        let fits = total <= part(found.fits, DRAINED);
        let is_shown = found.shown.is_some_and(|train| part(total, SHOWN) <= train.bits);
        let is_dark = self.sent == 0 && self.transit.is_told();
        if fits {
            TRIAL
        } else if is_shown {
            (self.back_off / 4).max(TRIAL)
        } else if is_dark && found.shown.is_some_and(|train| train.waited) {
            // The sound alone is too much already.
            Duration::MAX
        } else if is_dark {
            // Only the sound could lose by it, and a train will show when it is time.
            self.back_off * if found.shown.is_some_and(|train| train.is_certain) { 16 } else { 4 }
        } else {
            self.back_off
        }
    }

    fn fill(&mut self, now: Instant, lost: f64) -> bool {
        if self.is_draining(now) {
            return false;
        }
        let is_trial = now.saturating_duration_since(self.stepped_at) < TRIAL && self.found.is_some();
        if is_trial && std::mem::take(&mut self.holds) {
            self.back_off = (self.back_off * 4).min(BACK_OFF.1);
        }
        let mut fits = self.carried(lost);
        if let Some(before) = self.found.filter(|found| now.saturating_duration_since(found.at) < OLD_NEWS) {
            fits = fits.min(before.fits);
        } else if let Some(before) = self.found.filter(|_| is_trial)
            && self.tried <= part(before.fits, DRAINED)
        {
            // It was taken for certain, so what was taken for it is not believed again.
            fits = fits.min(part(self.tried, DRAINED));
        }
        self.found = Some(Found { at: now, fits, shown: None });
        self.room = self.room.min(part(fits, DRAINING).saturating_sub(self.sound));
        true
    }

    /// Bits per second of video and sound that come through now. Both wait in one queue, so the sound is stretched as the video is, and as
    /// much of it is lost.
    fn carried(&self, lost: f64) -> u64 {
        match self.transit.through() {
            Some(Through { bits, stretched: (sent_in, came_in) }) if self.transit.waits() => {
                let stretched = self.sound * sent_in.min(2 * came_in) / came_in;
                bits + (self.sound * bits).checked_div(self.sent).map_or(stretched, |left| left.min(stretched))
            }
            Some(_) | None => {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
                let came = ((self.sent + self.sound) as f64 * (1.0 - lost)) as u64;
                came
            }
        }
    }

    fn is_draining(&self, now: Instant) -> bool {
        self.found.is_some_and(|found| now.saturating_duration_since(found.at) < DRAIN)
    }
}

const fn part(whole: u64, (share, of): (u64, u64)) -> u64 {
    whole * share / of
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SOUND: u64 = 300_000;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    /// Half a second of packets in a queue that grows, from which `bits` of video per second come out, as fast as they go in once more.
    fn full(start: Instant, ms: u64, bits: u64) -> Vec<Passage> {
        let mut passages = vec![Passage { sent: start, bytes: 100, arrived: Duration::from_secs(1_000) }];
        passages.extend((1..=50).map(|n| Passage {
            sent: at(start, ms - 550 + n * 5),
            bytes: usize::try_from(bits / 8 / 100).expect("small"),
            arrived: Duration::from_millis(1_000_000 + ms - 500 + n * 10),
        }));
        passages
    }

    /// Tells a downlink of them in a few reports; whether it is found full by any.
    fn tell(downlink: &mut Downlink, start: Instant, ms: u64, bits: u64) -> bool {
        full(start, ms, bits).chunks(10).any(|report| downlink.passed(at(start, ms), report))
    }

    /// A downlink that carries so many bits per second of all, found full at once.
    fn found(start: Instant, video: u64, came: u64) -> Downlink {
        let mut downlink = Downlink::new(start);
        downlink.sending(at(start, 1_000), video, SOUND);
        assert!(tell(&mut downlink, start, 1_000, came));
        downlink
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
        downlink.sending(at(start, 5_000), 4_200_000, SOUND);
        assert_eq!(downlink.room(0), 4_200_000, "a picture that becomes richer is no reason to lose it");
        assert_eq!(downlink.room(9_000_000), 9_000_000, "nobody is hidden without a reason");
    }

    #[test]
    fn what_a_full_link_carries_is_shared_with_the_sound() {
        let start = Instant::now();
        // Of 800 kbit/s of video half comes through, and so does half of the sound: 550 kbit/s in all.
        let downlink = found(start, 800_000, 400_000);
        let fits = downlink.found.expect("it is full").fits;
        assert!((540_000..=560_000).contains(&fits), "{fits}");
        assert_eq!(downlink.room(600_000), fits * 85 / 100 - SOUND, "whoever it takes to see everybody");
        assert!(downlink.is_full(at(start, 30_900)) && !downlink.is_full(at(start, 31_000)));
        let mut downlink = downlink;
        downlink.sending(at(start, 90_000), 0, SOUND);
        assert!(downlink.is_full(at(start, 90_000)), "the sound fits once");
    }

    #[test]
    fn what_a_full_queue_drops_is_no_part_of_it() {
        let start = Instant::now();
        let mut downlink = Downlink::new(start);
        downlink.sending(start, 800_000, SOUND);
        let packet = |n: u64| Passage {
            sent: at(start, n * 10),
            bytes: 500,
            arrived: Duration::from_millis(1_000_000 + n * 10 + if n > 50 { 500 } else { 0 }),
        };
        // 400 kbit/s of the 800 arrive, all of it half a second late.
        let full = (0..40)
            .any(|n| downlink.passed(at(start, n * 100), &(n * 10..n * 10 + 10).map(packet).collect::<Vec<_>>()));
        let fits = downlink.found.filter(|_| full).expect("it is full").fits;
        assert!((535_000..=565_000).contains(&fits), "{fits}");
    }

    #[test]
    fn trials_that_fail_become_rare() {
        let start = Instant::now();
        let mut downlink = found(start, 800_000, 400_000);
        let (mut now, mut pauses) = (1_000, Vec::new());
        for _ in 0..5 {
            let before = now;
            while downlink.room(0) < 700_000 {
                now += 100;
                downlink.sending(at(start, now), 200_000, SOUND);
                downlink.step(at(start, now), 700_000);
            }
            pauses.push((now - before) / 1_000);
            now += 600;
            downlink.sending(at(start, now), 700_000, SOUND);
            assert!(tell(&mut downlink, start, now, 350_000), "the trial filled it");
        }
        assert_eq!(pauses, [8, 32, 128, 512, 512]);
    }

    #[test]
    fn what_is_known_to_fit_is_tried_earlier_and_is_no_proof_that_more_does() {
        let start = Instant::now();
        let mut downlink = found(start, 800_000, 400_000);
        downlink.step(at(start, 9_000), 700_000);
        downlink.sending(at(start, 9_600), 700_000, SOUND);
        assert!(tell(&mut downlink, start, 9_600, 350_000), "again 500 kbit/s in all");
        downlink.sending(at(start, 10_000), 100_000, SOUND);
        assert!(!downlink.step(at(start, 14_500), 170_000));
        assert!(downlink.step(at(start, 14_600), 170_000), "after five seconds");
        for n in 15..41 {
            downlink.sending(at(start, n * 1_000), 160_000, SOUND);
            assert!(!downlink.step(at(start, n * 1_000), 700_000), "after {n} s");
        }
        assert!(downlink.step(at(start, 42_000), 700_000), "after thirty-two");
        downlink.sending(at(start, 48_000), 690_000, SOUND);
        downlink.sending(at(start, 60_000), 690_000, SOUND);
        assert!(tell(&mut downlink, start, 60_000, 350_000));
        assert!(downlink.step(at(start, 68_000), 700_000), "it held, so the next failure is a first one");
    }

    #[test]
    fn where_only_the_sound_fits_a_train_says_when_more_does() {
        let start = Instant::now();
        let mut downlink = found(start, 800_000, 150_000);
        downlink.sending(at(start, 1_100), 0, SOUND);
        assert!(!downlink.is_train_due(at(start, 5_900)));
        assert!(downlink.is_train_due(at(start, 6_000)));
        let train = |ms: u64, every: u64| -> Vec<Passage> {
            (0..16)
                .map(|n| Passage {
                    sent: at(start, ms),
                    bytes: 62,
                    arrived: Duration::from_micros(1_000_000_000 + ms * 1_000 + n * every),
                })
                .collect()
        };
        assert!(!downlink.passed(at(start, 6_100), &train(6_000, 1_650)));
        assert!(!downlink.step(at(start, 20_000), 140_000), "300 kbit/s");
        assert!(downlink.is_train_due(at(start, 20_000)) && !downlink.is_train_due(at(start, 27_900)));
        assert!(!downlink.passed(at(start, 20_100), &train(20_000, 50)));
        assert!(downlink.step(at(start, 20_200), 140_000), "10 Mbit/s");

        let mut unheard = found(start, 800_000, 150_000);
        unheard.sending(at(start, 1_100), 0, SOUND);
        assert!(!unheard.step(at(start, 32_900), 140_000));
        assert!(unheard.step(at(start, 33_000), 140_000), "and without a word once in a while");
    }

    #[test]
    fn a_fifth_lost_is_borne_and_a_policed_link_is_not() {
        let start = Instant::now();
        let mut downlink = Downlink::new(start);
        downlink.sending(start, 1_200_000, SOUND);
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
        let mut downlink = found(start, 800_000, 400_000);
        let room = downlink.room(0);
        assert!(!tell(&mut downlink, start, 1_400, 200_000));
        assert_eq!(downlink.room(0), room);
        assert!(tell(&mut downlink, start, 2_400, 200_000), "but one that never drains is");
        assert!(downlink.room(0) < room);
    }

    #[test]
    fn another_way_begins_anew() {
        let start = Instant::now();
        let mut downlink = Downlink::by_another_way(at(start, 500));
        assert!(!tell(&mut downlink, start, 1_000, 200_000), "of the way before");
        assert!(!downlink.lost(at(start, 1_000), 1.0));
        assert!((0..2).any(|_| downlink.lost(at(start, 2_500), 1.0)));
    }

    proptest! {
        #[test]
        fn no_report_makes_a_full_link_be_tried_early(
            reports in prop::collection::vec((0u64..3_000, 0u64..5_000_000, 0.0..1.0f64, any::<bool>()), 1..200)
        ) {
            let start = Instant::now();
            let mut downlink = Downlink::new(start);
            let mut now = 1_000;
            let mut full_at = None;
            for (passed, bits, share, is_loss) in reports {
                now += passed;
                downlink.sending(at(start, now), downlink.room(0), SOUND);
                let full = if is_loss {
                    downlink.lost(at(start, now), share)
                } else {
                    tell(&mut downlink, start, now, bits)
                };
                if full {
                    full_at = Some(now);
                }
                let stepped = downlink.step(at(start, now), 4_000_000);
                prop_assert!(!stepped || full_at.is_none_or(|full_at| now - full_at >= 5_000));
            }
        }
    }
}
