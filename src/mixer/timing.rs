//! When a packet's media is due: RTP times mapped to the machine's monotonic clock, the same for all tracks of a source.
//!
//! Every track maps its RTP clock by a *shift*: due = media time + shift. Before the first sender report the shift follows the
//! fastest arrivals of the track itself. With sender reports, tracks of one source share one offset between the sender's NTP
//! clock and ours, the smallest one seen on any of them, so that sound and picture stay together whatever their networks do.
//! A shift is never stepped while it plays; it glides.

use std::collections::VecDeque;

/// One second in this file's unit. All times are nanoseconds; `i64` holds 292 years of them.
const SECOND: i64 = 1_000_000_000;
const MILLISECOND: i64 = 1_000_000;

/// From a packet's fastest possible arrival to its place in the programme. It must exceed the slowest track's network delay plus
/// jitter plus decoding; 150 ms of video behind audio was seen on real networks, and the decoders need up to 40 ms.
pub(super) const PLAYOUT: i64 = 200 * MILLISECOND;

/// How far back the fastest arrival is remembered: long enough to hold one packet that found all queues empty, short enough to
/// follow sender clocks that drift (100 ppm is 3 ms in this time).
const WINDOW_S: i64 = 30;

/// Glide of a shift: 5 ms each second is 0.5 %, under the 8 cents of pitch that trained ears notice, and no frame is missed.
const GLIDE_PER_SECOND: i64 = 5 * MILLISECOND;

/// A target further away than this is another timeline, not an error to glide off: it is stepped to.
const NEW_TIMELINE: i64 = SECOND;

/// A sender report that places media this far from its arrival is not believed.
const BELIEVABLE: i64 = SECOND;

/// 36 years. A sender that leaps for hours gets this far from where it began; sums of a few such times still fit.
const FAR: i64 = 1 << 60;

/// A media time that jumps this far against its arrival is a sender that began anew.
const JUMP: i64 = 2 * SECOND;

/// The smallest value of the last [`WINDOW_S`] seconds, in buckets of one second.
#[derive(Debug, Default)]
struct Floor {
    buckets: VecDeque<(i64, i64)>,
}

impl Floor {
    fn add(&mut self, now: i64, value: i64) {
        let second = now.div_euclid(SECOND);
        match self.buckets.back_mut() {
            Some((bucket, least)) if *bucket >= second => *least = value.min(*least),
            Some(_) | None => self.buckets.push_back((second, value)),
        }
        while self.buckets.front().is_some_and(|(bucket, _)| second - bucket >= WINDOW_S) {
            self.buckets.pop_front();
        }
    }

    fn least(&self) -> Option<i64> {
        self.buckets.iter().map(|(_, least)| *least).min()
    }
}

/// What the tracks of one source share: how far the sender's NTP clock is from ours.
#[derive(Debug, Default)]
pub(super) struct SharedClock {
    offset: Floor,
}

/// One track's RTP clock.
#[derive(Debug)]
pub(super) struct TrackClock {
    rate: i64,
    /// Media ticks of the newest RTP time, free of wraps.
    newest: Option<i64>,
    /// Arrival minus media time.
    arrival: Floor,
    /// The latest sender report: NTP time minus media time, nanoseconds.
    report: Option<i64>,
    glide: Option<Glide>,
    /// The last answer: packets of one frame share their RTP time and must share their due time.
    last: Option<(i64, i64)>,
}

#[derive(Clone, Copy, Debug)]
struct Glide {
    shift: i64,
    moved_at: i64,
}

impl TrackClock {
    /// `rate` is the RTP clock rate in Hz.
    pub(super) fn new(rate: u32) -> Self {
        Self {
            rate: i64::from(rate.max(1)),
            newest: None,
            arrival: Floor::default(),
            report: None,
            glide: None,
            last: None,
        }
    }

    /// A sender report: the 64-bit NTP time of an RTP time (RFC 3550 section 6.4.1).
    pub(super) fn sender_report(&mut self, ntp: u64, rtp: u32) {
        let media = self.nanoseconds(self.unwrap(rtp));
        self.report = Some(ntp_nanoseconds(ntp) - media);
    }

    /// The monotonic time in nanoseconds at which the media of RTP time `rtp`, arrived at `arrival`, is due in the programme.
    pub(super) fn due(&mut self, shared: &mut SharedClock, arrival: i64, rtp: u32) -> i64 {
        let ticks = self.unwrap(rtp);
        self.newest = Some(self.newest.map_or(ticks, |newest| newest.max(ticks)));
        if let Some((last_ticks, due)) = self.last
            && last_ticks == ticks
        {
            return due;
        }
        let media = self.nanoseconds(ticks);
        let lag = arrival - media;
        if self.arrival.least().is_some_and(|least| (lag - least).abs() > JUMP) {
            self.begin_anew(ticks);
        }
        self.arrival.add(arrival, lag);
        if let Some(report) = self.report {
            shared.offset.add(arrival, lag - report);
        }
        let due = media + self.glide_to(self.target(shared, lag), arrival);
        self.last = Some((ticks, due));
        due
    }

    fn target(&self, shared: &SharedClock, lag: i64) -> i64 {
        let own = self.arrival.least().unwrap_or(lag);
        let reported = self.report.zip(shared.offset.least()).map(|(report, offset)| report.saturating_add(offset));
        reported.filter(|shift| shift.saturating_sub(own).saturating_abs() < BELIEVABLE).unwrap_or(own) + PLAYOUT
    }

    fn glide_to(&mut self, target: i64, now: i64) -> i64 {
        let shift = match self.glide {
            Some(glide) if (target - glide.shift).abs() < NEW_TIMELINE => {
                let elapsed = (now - glide.moved_at).clamp(0, SECOND);
                let most = elapsed * GLIDE_PER_SECOND / SECOND;
                glide.shift + (target - glide.shift).clamp(-most, most)
            }
            Some(_) | None => target,
        };
        let moved_at = self.glide.map_or(now, |glide| glide.moved_at.max(now));
        self.glide = Some(Glide { shift, moved_at });
        shift
    }

    fn begin_anew(&mut self, ticks: i64) {
        self.newest = Some(ticks);
        self.arrival = Floor::default();
        self.report = None;
        self.glide = None;
    }

    /// RTP times are 32 bits; the one nearest to the newest is meant.
    fn unwrap(&self, rtp: u32) -> i64 {
        match self.newest {
            Some(newest) => newest + i64::from(rtp.wrapping_sub(newest as u32).cast_signed()),
            None => i64::from(rtp),
        }
    }

    fn nanoseconds(&self, ticks: i64) -> i64 {
        let product = i128::from(ticks) * i128::from(SECOND) / i128::from(self.rate);
        product.clamp(-i128::from(FAR), i128::from(FAR)) as i64
    }
}

/// NTP's 32.32 fixed-point seconds since 1900 as nanoseconds.
fn ntp_nanoseconds(ntp: u64) -> i64 {
    let seconds = (ntp >> 32).cast_signed();
    let fraction = ((ntp & 0xffff_ffff) * SECOND.unsigned_abs()) >> 32;
    seconds * SECOND + fraction.cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NTP time of our clock's zero on the simulated sender: any number far from ours.
    const EPOCH: i64 = 3_900_000_000 * SECOND;

    /// A sender of one track over one network path, in virtual time.
    struct Sender {
        rate: i64,
        first_rtp: u32,
        delay: i64,
        jitter: i64,
        ppm: i64,
        random: u64,
    }

    impl Sender {
        fn new(rate: u32, first_rtp: u32, delay_ms: i64) -> Self {
            let delay = delay_ms * MILLISECOND;
            Self { rate: rate.into(), first_rtp, delay, jitter: 0, ppm: 0, random: 88_172_645_463_325_252 }
        }

        /// The sender's own clock at true time `t`.
        fn local(&self, t: i64) -> i64 {
            t + t * self.ppm / 1_000_000
        }

        fn rtp(&self, t: i64) -> u32 {
            let ticks = i128::from(self.local(t)) * i128::from(self.rate) / i128::from(SECOND);
            self.first_rtp.wrapping_add(ticks as u32)
        }

        fn ntp(&self, t: i64) -> u64 {
            let local = EPOCH + self.local(t);
            let fraction = (i128::from(local % SECOND) << 32) / i128::from(SECOND);
            ((local / SECOND) as u64) << 32 | fraction as u64
        }

        fn arrival(&mut self, t: i64) -> i64 {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            let jitter = if self.jitter == 0 { 0 } else { (self.random % self.jitter as u64) as i64 };
            t + self.delay + jitter
        }
    }

    /// Plays both tracks for `seconds`; yields what `seen` says of (true time, audio due, video due) each 20 ms.
    fn play(audio: &mut Sender, video: &mut Sender, seconds: i64, reports: bool, mut seen: impl FnMut(i64, i64, i64)) {
        let mut shared = SharedClock::default();
        let mut audio_clock = TrackClock::new(48_000);
        let mut video_clock = TrackClock::new(90_000);
        for step in 0..seconds * 50 {
            let t = step * 20 * MILLISECOND;
            if reports && step % 50 == 0 {
                audio_clock.sender_report(audio.ntp(t), audio.rtp(t));
                video_clock.sender_report(video.ntp(t), video.rtp(t));
            }
            let sound = audio_clock.due(&mut shared, audio.arrival(t), audio.rtp(t));
            let picture = video_clock.due(&mut shared, video.arrival(t), video.rtp(t));
            seen(t, sound, picture);
        }
    }

    #[test]
    fn sender_reports_bring_a_late_picture_to_its_sound() {
        let mut audio = Sender::new(48_000, 7, 20);
        let mut video = Sender::new(90_000, 4_000_000_000, 170);
        let mut worst = 0;
        play(&mut audio, &mut video, 60, true, |t, sound, picture| {
            if t > SECOND {
                worst = worst.max((sound - picture).abs());
            }
        });
        assert!(worst < 2 * MILLISECOND, "{worst} ns apart");
    }

    #[test]
    fn reports_that_come_later_are_glided_to_without_a_step() {
        let mut shared = SharedClock::default();
        let mut clocks = [TrackClock::new(48_000), TrackClock::new(90_000)];
        let mut senders = [Sender::new(48_000, 7, 20), Sender::new(90_000, 9, 120)];
        let mut last = [None; 2];
        let mut apart = Vec::new();
        for step in 0..40 * 50 {
            let t = step * 20 * MILLISECOND;
            let mut due = [0; 2];
            for (i, (clock, sender)) in clocks.iter_mut().zip(&mut senders).enumerate() {
                if t >= 3 * SECOND && step % 50 == 0 {
                    clock.sender_report(sender.ntp(t), sender.rtp(t));
                }
                due[i] = clock.due(&mut shared, sender.arrival(t), sender.rtp(t));
                if let Some(before) = last[i].replace(due[i]) {
                    let error = (due[i] - before - 20 * MILLISECOND).abs();
                    assert!(error <= MILLISECOND / 5, "stepped by {error} ns at {t}");
                }
            }
            apart.push((due[0] - due[1]).abs());
        }
        assert!(apart[50] > 90 * MILLISECOND, "without reports nobody can know");
        assert!(apart.last().is_some_and(|end| *end < 2 * MILLISECOND), "{:?}", apart.last());
    }

    #[test]
    fn drifting_and_jittering_senders_stay_in_reach_for_ten_minutes() {
        for ppm in [-100, 100] {
            let mut audio = Sender::new(48_000, 7, 20);
            let mut video = Sender::new(90_000, 9, 60);
            (audio.ppm, video.ppm) = (ppm, ppm);
            (audio.jitter, video.jitter) = (30 * MILLISECOND, 50 * MILLISECOND);
            play(&mut audio, &mut video, 600, true, |t, sound, picture| {
                if t > 5 * SECOND {
                    assert!((sound - picture).abs() < 15 * MILLISECOND, "{} apart at {t}, {ppm} ppm", sound - picture);
                    let late = sound - t - 20 * MILLISECOND - PLAYOUT;
                    assert!((-8 * MILLISECOND..15 * MILLISECOND).contains(&late), "{late} at {t}, {ppm} ppm");
                }
            });
        }
    }

    #[test]
    fn rtp_times_wrap_without_notice() {
        let mut audio = Sender::new(48_000, u32::MAX - 48_000, 20);
        let mut video = Sender::new(90_000, u32::MAX - 90_000, 20);
        play(&mut audio, &mut video, 5, true, |t, sound, picture| {
            assert!((sound - t - 20 * MILLISECOND - PLAYOUT).abs() < MILLISECOND, "audio at {t}: {sound}");
            assert!((picture - t - 20 * MILLISECOND - PLAYOUT).abs() < MILLISECOND, "video at {t}: {picture}");
        });
    }

    #[test]
    fn packets_of_one_frame_are_due_together() {
        let mut shared = SharedClock::default();
        let mut clock = TrackClock::new(90_000);
        let first = clock.due(&mut shared, SECOND, 5);
        assert_eq!(clock.due(&mut shared, SECOND + 30 * MILLISECOND, 5), first);
    }

    #[test]
    fn a_report_from_nowhere_is_not_believed() {
        let mut shared = SharedClock::default();
        let mut clock = TrackClock::new(90_000);
        let mut other = TrackClock::new(48_000);
        other.sender_report(u64::MAX, 0);
        other.due(&mut shared, SECOND, 0);
        clock.sender_report(0, 0);
        let due = clock.due(&mut shared, SECOND, 0);
        assert_eq!(due, SECOND + PLAYOUT);
    }

    #[test]
    fn a_sender_that_leaps_for_hours_overflows_nothing() {
        for leap in [0x7fff_ffff_u32, 0x8000_0001] {
            let mut shared = SharedClock::default();
            let mut clocks = [TrackClock::new(48_000), TrackClock::new(90_000)];
            for n in 0..500_000_u32 {
                for clock in &mut clocks {
                    if n % 500 == 0 {
                        clock.sender_report(if n % 1000 == 0 { u64::MAX } else { 0 }, leap.wrapping_mul(n));
                    }
                    clock.due(&mut shared, i64::from(n) * MILLISECOND, leap.wrapping_mul(n));
                }
            }
            let arrival = 1000 * SECOND;
            let last = clocks[0].due(&mut shared, arrival, 7);
            let next = clocks[0].due(&mut shared, arrival + 20 * MILLISECOND, 7 + 960);
            assert!((next - last - 20 * MILLISECOND).abs() <= MILLISECOND, "its time goes on: {last} to {next}");
        }
    }

    #[test]
    fn a_sender_that_begins_anew_is_followed_at_once() {
        let mut shared = SharedClock::default();
        let mut clock = TrackClock::new(48_000);
        clock.due(&mut shared, SECOND, 4_000_000);
        for rtp in [10, 48_000 * 3600] {
            assert_eq!(clock.due(&mut shared, 2 * SECOND, rtp), 2 * SECOND + PLAYOUT);
        }
    }
}
