//! When a packet's media is due: RTP times mapped to the machine's monotonic clock, the same for all tracks of a source.
//!
//! Every track maps its RTP clock by a *shift*: due = media time + shift. The sound of a source leads: it stands the playout delay behind
//! the fastest arrival and only ever glides, except in its first moments. The picture follows and steps, because the eye forgives a
//! step that the ear would not. With sender reports of both, the distance between the two shifts is known to the millisecond; until
//! then both are taken to have travelled equally long, which is true to some 10 ms for what comes from one sender over one network.

use std::collections::VecDeque;

use crate::mixer::MILLISECOND;
use crate::mixer::SECOND;
use crate::mixer::playout;
use crate::model::media::MediaKind;

/// How far back the fastest arrival is remembered: long enough to hold one packet that found all queues empty, short enough to
/// follow sender clocks that drift (100 ppm is 3 ms in this time).
const WINDOW_S: i64 = 30;

/// Glide of a shift: 5 ms each second is 0.5 %, under the 8 cents of pitch that trained ears notice.
const GLIDE_PER_SECOND: i64 = 5 * MILLISECOND;

/// A track steps to its place for this long after its first packet: the first ones of a sender that is still starting come 100 ms
/// late and more, and gliding that off would take half a minute. The same after a silence as long: nobody hears where it ended.
pub(super) const YOUNG: i64 = 2 * SECOND;

/// Errors of a young track that are glided off all the same.
const SMALL: i64 = 5 * MILLISECOND;

/// A target further away than this is another timeline, not an error to glide off: it is stepped to.
const NEW_TIMELINE: i64 = SECOND;

/// A sender report that places media this far from its arrival is not believed.
const BELIEVABLE: i64 = SECOND;

/// 36 years. A sender that leaps for hours gets this far from where it began; sums of a few such times still fit.
const FAR: i64 = 1 << 60;

/// Reports of which the median is believed: a browser on a busy machine stamps some of them 10 ms late.
const REPORTS: usize = 5;

/// A report that moves a track's media by more than this means that the sender's clock was set; reports wander by 5 ms.
const CLOCK_SET: i64 = 100 * MILLISECOND;

/// A media time that jumps this far against its arrival is a sender that began anew.
const JUMP: i64 = 2 * SECOND;

/// Without sound for this long the picture goes by itself.
const LEADERLESS: i64 = 5 * SECOND;

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

/// What the tracks of one source share.
#[derive(Debug)]
pub(super) struct SharedClock {
    /// From a packet's fastest possible arrival to its place in the programme.
    playout: i64,
    /// Arrival minus the sender's NTP time, of all tracks with a report of this era.
    offset: Floor,
    /// How often the sender's clock was set. Reports of different eras cannot be held against each other.
    era: u32,
    lead: Option<Lead>,
}

impl Default for SharedClock {
    fn default() -> Self {
        Self { playout: playout::FIRST, offset: Floor::default(), era: 0, lead: None }
    }
}

impl SharedClock {
    /// The source's sound glides to this distance from its fastest arrival, and its picture with it.
    pub(super) const fn set_playout(&mut self, playout: i64) {
        self.playout = playout;
    }
}

/// Where the sound of a source stands.
#[derive(Clone, Copy, Debug)]
struct Lead {
    shift: i64,
    /// From its fastest arrival to its place.
    playout: i64,
    report: Option<Report>,
    at: i64,
}

/// A sender report.
#[derive(Clone, Copy, Debug)]
struct Report {
    /// NTP time minus media time.
    offset: i64,
    era: u32,
}

/// One track's RTP clock.
#[derive(Debug)]
pub(super) struct TrackClock {
    kind: MediaKind,
    rate: i64,
    /// Media ticks of the newest RTP time, free of wraps.
    newest: Option<i64>,
    /// Arrival minus media time.
    arrival: Floor,
    /// The latest offsets that were reported, oldest first, and their median.
    reported: VecDeque<i64>,
    report: Option<Report>,
    place: Option<Place>,
    /// A picture's shift minus that of its sound, as their reports said last.
    behind_lead: Option<i64>,
    /// The last answer: packets of one frame share their RTP time and must share their due time.
    last: Option<(i64, i64)>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    shift: i64,
    moved_at: i64,
    young_until: i64,
}

impl TrackClock {
    /// `rate` is the RTP clock rate in Hz.
    pub(super) fn new(kind: MediaKind, rate: u32) -> Self {
        Self {
            kind,
            rate: i64::from(rate.max(1)),
            newest: None,
            arrival: Floor::default(),
            reported: VecDeque::new(),
            report: None,
            place: None,
            behind_lead: None,
            last: None,
        }
    }

    /// A sender report: the 64-bit NTP time of an RTP time (RFC 3550 section 6.4.1).
    pub(super) fn sender_report(&mut self, shared: &mut SharedClock, ntp: u64, rtp: u32) {
        let ticks = self.unwrap(rtp);
        // A report may come before the first packet, and the RTP time may wrap between the two.
        self.newest.get_or_insert(ticks);
        let offset = ntp_nanoseconds(ntp) - self.nanoseconds(ticks);
        let was_set = |old: Report| old.era == shared.era && (offset - old.offset).abs() > CLOCK_SET;
        if self.report.is_some_and(was_set) {
            shared.era = shared.era.wrapping_add(1);
            shared.offset = Floor::default();
        }
        if self.report.is_some_and(|old| old.era != shared.era || (offset - old.offset).abs() > CLOCK_SET) {
            self.reported.clear();
        }
        if self.reported.len() == REPORTS {
            self.reported.pop_front();
        }
        self.reported.push_back(offset);
        let mut sorted: Vec<i64> = self.reported.iter().copied().collect();
        sorted.sort_unstable();
        self.report = Some(Report { offset: sorted[(sorted.len() - 1) / 2], era: shared.era });
    }

    /// The monotonic time in nanoseconds at which the media of RTP time `rtp`, arrived at `arrival`, is due in the programme.
    pub(super) fn due(&mut self, shared: &mut SharedClock, arrival: i64, rtp: u32) -> i64 {
        let mut ticks = self.unwrap(rtp);
        self.newest = Some(self.newest.map_or(ticks, |newest| newest.max(ticks)));
        if let Some((last_ticks, due)) = self.last
            && last_ticks == ticks
        {
            return due;
        }
        let lag = arrival - self.nanoseconds(ticks);
        if self.arrival.least().is_some_and(|least| (lag - least).abs() > JUMP) {
            ticks = self.begin_anew(rtp);
        }
        let media = self.nanoseconds(ticks);
        let lag = arrival - media;
        self.arrival.add(arrival, lag);
        if let Some(report) = self.report.filter(|report| report.era == shared.era) {
            shared.offset.add(arrival, lag - report.offset);
        }
        let fastest = self.arrival.least().unwrap_or(lag);
        let shift = match self.follow(shared, fastest, arrival) {
            Some(shift) => self.step_to(shift, arrival),
            None => self.glide_to(self.target(shared, fastest), arrival),
        };
        if self.kind == MediaKind::Audio {
            let playout = shift - fastest;
            shared.lead = Some(Lead { shift, playout, report: self.report, at: arrival });
        }
        let due = media + shift;
        self.last = Some((ticks, due));
        due
    }

    /// Where the sound wants to be, and a picture without one. `fastest` is the least arrival minus media time.
    fn target(&self, shared: &SharedClock, fastest: i64) -> i64 {
        let report = self.report.filter(|report| report.era == shared.era);
        let reported = report.zip(shared.offset.least()).map(|(report, least)| report.offset + least);
        reported.filter(|shift| (shift - fastest).abs() < BELIEVABLE).unwrap_or(fastest) + shared.playout
    }

    /// Where a picture is in step with its sound.
    fn follow(&mut self, shared: &SharedClock, fastest: i64, now: i64) -> Option<i64> {
        let lead = shared.lead.filter(|lead| self.kind == MediaKind::Video && now - lead.at < LEADERLESS)?;
        if let Some((report, leads)) = self.report.zip(lead.report).filter(|(own, leads)| own.era == leads.era) {
            self.behind_lead = Some(report.offset - leads.offset);
        }
        // A sender that sets its clock says so in one report after the other; until both have, the last distance holds.
        // A sound that began anew since is further away than anybody believes.
        let reported = self.behind_lead.map(|distance| lead.shift + distance);
        let travelled_alike = fastest + lead.playout;
        Some(reported.filter(|shift| (shift - travelled_alike).abs() < BELIEVABLE).unwrap_or(travelled_alike))
    }

    fn glide_to(&mut self, target: i64, now: i64) -> i64 {
        let Some(place) = self.place else { return self.step_to(target, now) };
        let error = target - place.shift;
        let is_young = now < place.young_until || now - place.moved_at > YOUNG;
        if error.abs() >= NEW_TIMELINE || (is_young && error.abs() > SMALL) {
            return self.step_to(target, now);
        }
        let elapsed = (now - place.moved_at).clamp(0, SECOND);
        let most = elapsed * GLIDE_PER_SECOND / SECOND;
        self.step_to(place.shift + error.clamp(-most, most), now)
    }

    fn step_to(&mut self, shift: i64, now: i64) -> i64 {
        let place = self.place.filter(|place| now - place.moved_at <= YOUNG);
        let young_until = place.map_or(now + YOUNG, |place| place.young_until);
        let moved_at = place.map_or(now, |place| place.moved_at.max(now));
        self.place = Some(Place { shift, moved_at, young_until });
        shift
    }

    /// A new timeline begins at `rtp`. Its times are small again, however far the sender has leapt before.
    fn begin_anew(&mut self, rtp: u32) -> i64 {
        let ticks = i64::from(rtp);
        self.newest = Some(ticks);
        self.arrival = Floor::default();
        self.reported.clear();
        self.report = None;
        self.place = None;
        self.behind_lead = None;
        ticks
    }

    /// RTP times are 32 bits; the one nearest to the newest is meant.
    fn unwrap(&self, rtp: u32) -> i64 {
        match self.newest {
            Some(newest) => newest + i64::from(rtp.wrapping_sub(newest as u32).cast_signed()),
            None => i64::from(rtp),
        }
    }

    /// Ticks as time, within 36 years of zero, so that no sum of such times can overflow.
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
    use crate::mixer::playout::FIRST as PLAYOUT;

    /// NTP time of our clock's zero on the simulated sender: any number far from ours.
    const EPOCH: i64 = 3_900_000_000 * SECOND;

    /// A sender of one track over one network path, in virtual time.
    #[derive(Clone)]
    struct Sender {
        kind: MediaKind,
        rate: i64,
        first_rtp: u32,
        delay: i64,
        jitter: i64,
        ppm: i64,
        /// Nothing arrives faster than this before that time: a machine that is still starting.
        congested: (i64, i64),
        /// True time of the first report, and from one to the next.
        reports: (i64, i64),
        /// By how much every third report is stamped late.
        stamped_late: i64,
        /// When the wall clock is set, and by how much.
        clock_set: (i64, i64),
        random: u64,
    }

    impl Sender {
        fn new(kind: MediaKind, first_rtp: u32, delay_ms: i64) -> Self {
            Self {
                kind,
                rate: if kind == MediaKind::Audio { 48_000 } else { 90_000 },
                first_rtp,
                delay: delay_ms * MILLISECOND,
                jitter: 0,
                ppm: 0,
                congested: (0, 0),
                reports: (0, SECOND),
                stamped_late: 0,
                clock_set: (NEVER, 0),
                random: 88_172_645_463_325_252,
            }
        }

        fn audio(delay_ms: i64) -> Self {
            Self::new(MediaKind::Audio, 7, delay_ms)
        }

        fn video(delay_ms: i64) -> Self {
            Self::new(MediaKind::Video, 4_000_000_000, delay_ms)
        }

        fn reporting(self, first: i64, every: i64) -> Self {
            Self { reports: (first, every), ..self }
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
            let set = if t >= self.clock_set.0 { self.clock_set.1 } else { 0 };
            let late = if t / self.reports.1 % 3 == 1 { self.stamped_late } else { 0 };
            let local = EPOCH + self.local(t) + set + late;
            let fraction = (i128::from(local % SECOND) << 32) / i128::from(SECOND);
            ((local / SECOND) as u64) << 32 | fraction as u64
        }

        fn reports_at(&self, t: i64) -> bool {
            let (first, every) = self.reports;
            t >= first && (t - first) % every == 0
        }

        fn arrival(&mut self, t: i64) -> i64 {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            let jitter = if self.jitter == 0 { 0 } else { (self.random % self.jitter as u64) as i64 };
            let (until, delay) = self.congested;
            t + jitter + if t < until { self.delay.max(delay) } else { self.delay }
        }
    }

    /// A receiver of one sender's packet every 20 ms.
    struct Receiver {
        clock: TrackClock,
        sender: Sender,
        last: Option<i64>,
    }

    impl Receiver {
        fn of(sender: &Sender) -> Self {
            let clock = TrackClock::new(sender.kind, sender.rate as u32);
            Self { clock, sender: sender.clone(), last: None }
        }

        /// When the media of true time `t` is due, and by how much the shift changed with it.
        fn next(&mut self, shared: &mut SharedClock, t: i64) -> (i64, i64) {
            let Self { clock, sender, last } = self;
            if sender.reports_at(t) {
                clock.sender_report(shared, sender.ntp(t), sender.rtp(t));
            }
            let due = clock.due(shared, sender.arrival(t), sender.rtp(t));
            let step = last.replace(due).map_or(0, |last| due - last - PACE);
            (due, step)
        }
    }

    /// One moment of a source: true time, when its sound and its picture are due, and by how much the sound was moved.
    struct Moment {
        t: i64,
        sound: i64,
        picture: i64,
        moved: i64,
    }

    impl Moment {
        fn apart(&self) -> i64 {
            (self.sound - self.picture).abs()
        }
    }

    const PACE: i64 = 20 * MILLISECOND;
    const NEVER: i64 = i64::MAX / 2;

    fn play(audio: &Sender, video: &Sender, seconds: i64) -> impl Iterator<Item = Moment> {
        let mut shared = SharedClock::default();
        let (mut audio, mut video) = (Receiver::of(audio), Receiver::of(video));
        (0..seconds * 50).map(move |step| {
            let t = step * PACE;
            let (sound, moved) = audio.next(&mut shared, t);
            let (picture, _) = video.next(&mut shared, t);
            Moment { t, sound, picture, moved }
        })
    }

    /// What the audio strip can follow unheard in the time of a packet: the glide, and a tick of the RTP clock.
    const UNHEARD: i64 = 120_000;

    #[test]
    fn sender_reports_bring_a_late_picture_to_its_sound() {
        for moment in play(&Sender::audio(20), &Sender::video(170), 60).skip(1) {
            assert!(moment.apart() < 2 * MILLISECOND, "{} apart at {}", moment.apart(), moment.t);
        }
    }

    #[test]
    fn lips_fit_from_the_first_moment_whenever_the_reports_come() {
        for (sound_after, picture_after) in [(0, 0), (3, 1), (7, 1), (10, 1), (1, 10), (10, 10), (NEVER / SECOND, 1)] {
            for delay in [10, 45] {
                let audio = Sender::audio(25).reporting(sound_after * SECOND, 5 * SECOND);
                let video = Sender::video(delay).reporting(picture_after * SECOND, SECOND);
                for moment in play(&audio, &video, 40) {
                    let Moment { t, moved, .. } = moment;
                    let what = format!("at {t}, reports after {sound_after} and {picture_after} s: {}", moment.apart());
                    let known = t > SECOND * sound_after.max(picture_after);
                    assert!(moment.apart() < MILLISECOND * if known { 2 } else { 30 }, "{what}");
                    assert!(t < YOUNG || moved.abs() < UNHEARD, "the sound stepped {what}");
                }
            }
        }
    }

    #[test]
    fn a_picture_far_behind_its_sound_steps_once_the_reports_say_so() {
        let audio = Sender::audio(20).reporting(4 * SECOND, 5 * SECOND);
        let moments: Vec<Moment> = play(&audio, &Sender::video(120), 40).collect();
        assert!(moments[100].apart() > 90 * MILLISECOND, "without reports nobody can know");
        for moment in &moments[201..] {
            assert!(
                moment.apart() < 2 * MILLISECOND && moment.moved.abs() < UNHEARD,
                "{} at {}",
                moment.apart(),
                moment.t
            );
        }
    }

    #[test]
    fn a_source_that_starts_on_a_busy_machine_is_in_its_place_after_a_second() {
        for (sound_ms, picture_ms) in [(110, 0), (0, 110), (110, 110)] {
            for reports in [0, 6] {
                let mut audio = Sender::audio(20).reporting(reports * SECOND, 5 * SECOND);
                let mut video = Sender::video(20).reporting(reports * SECOND, SECOND);
                audio.congested = (SECOND / 2, sound_ms * MILLISECOND);
                video.congested = (SECOND / 2, picture_ms * MILLISECOND);
                for moment in play(&audio, &video, 30).skip(50) {
                    let late = moment.sound - moment.t - 20 * MILLISECOND - PLAYOUT;
                    assert!(late.abs() < 6 * MILLISECOND, "{late} late at {}", moment.t);
                    assert!(moment.apart() < 6 * MILLISECOND, "{} apart at {}", moment.apart(), moment.t);
                }
            }
        }
    }

    #[test]
    fn one_track_alone_goes_by_its_arrivals() {
        for kind in [MediaKind::Audio, MediaKind::Video] {
            for reports in [0, NEVER] {
                let mut shared = SharedClock::default();
                let mut alone = Receiver::of(&Sender::new(kind, 9, 30).reporting(reports, SECOND));
                for t in (0..30 * 50).map(|step| step * PACE) {
                    let (due, _) = alone.next(&mut shared, t);
                    assert!((due - t - 30 * MILLISECOND - PLAYOUT).abs() < MILLISECOND, "{kind:?} at {t}: {due}");
                }
            }
        }
    }

    #[test]
    fn a_picture_whose_sound_ends_goes_on_by_itself() {
        let mut sender = Sender::video(120);
        sender.ppm = 100;
        let (mut audio, mut video) = (Receiver::of(&Sender::audio(20)), Receiver::of(&sender));
        let mut shared = SharedClock::default();
        for t in (0..600 * 50).map(|step| step * PACE) {
            if t < 10 * SECOND {
                audio.next(&mut shared, t);
            }
            let (picture, moved) = video.next(&mut shared, t);
            assert!(t == 0 || moved.abs() < UNHEARD, "stepped by {moved} at {t}");
            let late = picture - t - 120 * MILLISECOND - PLAYOUT;
            assert!(t < 60 * SECOND || late.abs() < 5 * MILLISECOND, "{late} at {t}");
        }
    }

    #[test]
    fn a_clock_that_is_set_moves_nothing() {
        for by in [-700, -120, 120, 700, 3_600_000] {
            let mut audio = Sender::audio(20).reporting(SECOND, 5 * SECOND);
            let mut video = Sender::video(80);
            (audio.clock_set, video.clock_set) = ((12 * SECOND, by * MILLISECOND), (12 * SECOND, by * MILLISECOND));
            for moment in play(&audio, &video, 60).skip(100) {
                let Moment { t, moved, .. } = moment;
                assert!(moment.apart() < 2 * MILLISECOND, "{} apart at {t}, set by {by} ms", moment.apart());
                assert!(moved.abs() < UNHEARD, "{moved} at {t}, set by {by} ms");
                let late = moment.sound - t - 20 * MILLISECOND - PLAYOUT;
                assert!(late.abs() < 62 * MILLISECOND, "{late} at {t}, set by {by} ms");
            }
        }
    }

    #[test]
    fn reports_that_are_stamped_late_now_and_then_move_no_picture() {
        let audio = Sender { stamped_late: 12 * MILLISECOND, ..Sender::audio(20).reporting(0, 5 * SECOND) };
        for moment in play(&audio, &Sender::video(60), 120) {
            assert!(moment.apart() < 2 * MILLISECOND, "{} apart at {}", moment.apart(), moment.t);
        }
    }

    #[test]
    fn drifting_and_jittering_senders_stay_in_reach_for_ten_minutes() {
        for ppm in [-100, 100] {
            let (mut audio, mut video) = (Sender::audio(20).reporting(4 * SECOND, 5 * SECOND), Sender::video(60));
            (audio.ppm, video.ppm) = (ppm, ppm);
            (audio.jitter, video.jitter) = (30 * MILLISECOND, 50 * MILLISECOND);
            for moment in play(&audio, &video, 600).skip(250) {
                let Moment { t, moved, .. } = moment;
                assert!(moment.apart() < 2 * MILLISECOND, "{} apart at {t}, {ppm} ppm", moment.apart());
                let late = moment.sound - t - 20 * MILLISECOND - PLAYOUT;
                assert!((-8 * MILLISECOND..15 * MILLISECOND).contains(&late), "{late} at {t}, {ppm} ppm");
                assert!(moved.abs() < UNHEARD * 20, "{moved} at {t}, {ppm} ppm");
            }
        }
    }

    #[test]
    fn rtp_times_wrap_without_notice() {
        let audio = Sender::new(MediaKind::Audio, u32::MAX - 48_000, 20);
        let video = Sender::new(MediaKind::Video, u32::MAX - 90_000, 20);
        for Moment { t, sound, picture, .. } in play(&audio, &video, 5) {
            assert!((sound - t - 20 * MILLISECOND - PLAYOUT).abs() < MILLISECOND, "audio at {t}: {sound}");
            assert!((picture - t - 20 * MILLISECOND - PLAYOUT).abs() < MILLISECOND, "video at {t}: {picture}");
        }
    }

    #[test]
    fn a_report_from_before_the_wrap_counts_for_a_track_that_begins_after_it() {
        let mut shared = SharedClock::default();
        let (audio, video) = (Sender::new(MediaKind::Audio, u32::MAX - 48_000, 20), Sender::video(120));
        let (mut sound, mut picture) =
            (TrackClock::new(MediaKind::Audio, 48_000), TrackClock::new(MediaKind::Video, 90_000));
        sound.sender_report(&mut shared, audio.ntp(SECOND / 2), audio.rtp(SECOND / 2));
        picture.sender_report(&mut shared, video.ntp(SECOND / 2), video.rtp(SECOND / 2));
        let due = sound.due(&mut shared, 2 * SECOND + audio.delay, audio.rtp(2 * SECOND));
        let shown = picture.due(&mut shared, 2 * SECOND + video.delay, video.rtp(2 * SECOND));
        assert!((due - shown).abs() < MILLISECOND, "{due} and {shown}");
    }

    #[test]
    fn packets_of_one_frame_are_due_together() {
        let mut shared = SharedClock::default();
        let mut clock = TrackClock::new(MediaKind::Video, 90_000);
        let first = clock.due(&mut shared, SECOND, 5);
        assert_eq!(clock.due(&mut shared, SECOND + 30 * MILLISECOND, 5), first);
    }

    #[test]
    fn a_report_from_nowhere_is_not_believed() {
        let mut shared = SharedClock::default();
        let mut clock = TrackClock::new(MediaKind::Video, 90_000);
        let mut other = TrackClock::new(MediaKind::Audio, 48_000);
        other.sender_report(&mut shared, u64::MAX, 0);
        assert_eq!(other.due(&mut shared, SECOND, 0), SECOND + PLAYOUT);
        clock.sender_report(&mut shared, 0, 0);
        assert_eq!(clock.due(&mut shared, SECOND, 0), SECOND + PLAYOUT);
    }

    #[test]
    fn a_sender_that_leaps_for_hours_overflows_nothing() {
        for leap in [0x7fff_ffff_u32, 0x8000_0001] {
            let mut shared = SharedClock::default();
            let mut clocks = [TrackClock::new(MediaKind::Audio, 48_000), TrackClock::new(MediaKind::Video, 90_000)];
            for n in 0..500_000_u32 {
                for clock in &mut clocks {
                    if n % 500 == 0 {
                        clock.sender_report(
                            &mut shared,
                            if n % 1000 == 0 { u64::MAX } else { 0 },
                            leap.wrapping_mul(n),
                        );
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
        let mut clock = TrackClock::new(MediaKind::Audio, 48_000);
        clock.due(&mut shared, SECOND, 4_000_000);
        for rtp in [10, 48_000 * 3600] {
            assert_eq!(clock.due(&mut shared, 2 * SECOND, rtp), 2 * SECOND + PLAYOUT);
        }
    }

    #[test]
    fn lips_fit_when_only_the_sound_begins_anew() {
        let mut shared = SharedClock::default();
        let (mut audio, mut video) = (Receiver::of(&Sender::audio(20)), Receiver::of(&Sender::video(30)));
        for t in (0..20 * 50).map(|step| step * PACE) {
            if t == 10 * SECOND {
                // Another RTP clock, and no report for some time.
                audio.sender = Sender::new(MediaKind::Audio, 1_234_567_890, 20).reporting(15 * SECOND, SECOND);
            }
            let (sound, _) = audio.next(&mut shared, t);
            let (picture, _) = video.next(&mut shared, t);
            assert!((sound - picture).abs() < 12 * MILLISECOND, "{} at {t}", sound - picture);
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_a_sender_says_overflows(said in proptest::collection::vec(proptest::prelude::any::<(bool, bool, u64, u32)>(), 1..200)) {
            let mut shared = SharedClock::default();
            let mut clocks = [TrackClock::new(MediaKind::Audio, 1), TrackClock::new(MediaKind::Video, 90_000)];
            for (n, (sound, report, ntp, rtp)) in said.into_iter().enumerate() {
                let clock = &mut clocks[usize::from(sound)];
                if report {
                    clock.sender_report(&mut shared, ntp, rtp);
                } else {
                    clock.due(&mut shared, n as i64 * PACE, rtp);
                }
            }
        }
    }
}
