use super::*;
use crate::mixer::sound::strip::Setting;
use crate::mixer::sound::strip::Strip;
use crate::mixer::source::playout::FIRST as PLAYOUT;

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
    /// By how much its way is longer at a true time.
    detour: fn(i64) -> i64,
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
            detour: |_| 0,
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
        t + jitter + (self.detour)(t) + if t < until { self.delay.max(delay) } else { self.delay }
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
        assert!(moment.apart() < 2 * MILLISECOND && moment.moved.abs() < UNHEARD, "{} at {}", moment.apart(), moment.t);
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

/// The way is 60 ms longer for ten minutes, and grows and shrinks by 40 ms every four.
fn changing(t: i64) -> i64 {
    let rerouted = if (1200..1800).contains(&(t / SECOND)) { 60 * MILLISECOND } else { 0 };
    let phase = t % (240 * SECOND) / 3;
    rerouted + (phase - 40 * SECOND).abs() / 1000
}

#[test]
fn lips_fit_for_an_hour_of_drifting_clocks_lost_packets_and_changing_ways() {
    for ppm in [-100, 100] {
        let (mut audio, mut video) = (Sender::audio(20).reporting(4 * SECOND, 5 * SECOND), Sender::video(60));
        (audio.ppm, video.ppm) = (ppm, ppm);
        (audio.jitter, video.jitter) = (30 * MILLISECOND, 50 * MILLISECOND);
        (audio.detour, video.detour) = (changing, changing);
        let mut strip = Strip::new(Setting { gain: 1.0, muted: false, pan: 0.0, delay: 0 });
        let mut random = 1_u32;
        let (mut last, mut worst) = (0, 0);
        for moment in play(&audio, &video, 3600) {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // What is lost is made up by the decoder, right behind what was there.
            let due = if (random >> 16) % 100 < 3 && moment.t > 0 { last + PACE } else { moment.sound };
            last = due;
            let Some(piece) = strip.process(due, &[[0.1; 2]; 960]) else { continue };
            let heard = piece.due + piece.duration() - PACE;
            if moment.t > 5 * SECOND {
                worst = worst.max((heard - moment.picture).abs());
            }
        }
        assert!(worst < 40 * MILLISECOND, "{worst} ns apart at {ppm} ppm");
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
                    clock.sender_report(&mut shared, if n % 1000 == 0 { u64::MAX } else { 0 }, leap.wrapping_mul(n));
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
