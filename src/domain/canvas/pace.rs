//! How much a canvas sender may send: as much as arrives without waiting in the network, fewer and smaller frames where that is little.
//!
//! The sender stamps each frame when it was drawn. What a frame takes longer than the fastest one of the last half minute, it waited
//! somewhere; a queue that never empties for half a second is a network that is asked for too much. The clocks of both ends need not
//! agree and may drift.

use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;

use crate::model::media::CanvasFormat;
use crate::model::media::CanvasFrame;

/// The most a sender may send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Frames a second.
    pub fps: u32,
    /// kbit/s.
    pub kbps: u32,
    /// Of the canvas' own width and height.
    pub scale: f32,
}

impl Pace {
    /// For a canvas that nobody watches.
    pub const NOTHING: Self = Self { fps: 0, kbps: 0, scale: 1.0 };
}

/// Between two looks at the network: some frames even at 15 fps.
const LOOK: Duration = Duration::from_millis(500);

/// How far back the fastest frame is remembered; clocks of 100 ppm drift by 3 ms in that time.
const WINDOW_S: u64 = 30;

/// A frame that waited longer than this found a queue, microseconds. Wi-Fi and keyframes alone make frames wait up to about 80 ms.
const QUEUED_US: i64 = 100_000;

/// The queue is empty if no frame waited longer, microseconds.
const EMPTY_US: i64 = 60_000;

/// After the pace was lowered, what is in the network already has this long to drain.
const DRAIN: Duration = Duration::from_secs(1);

/// Between two attempts to go faster; near a rate that has failed each failure doubles it, up to the longest.
const RAISE_FIRST: Duration = Duration::from_secs(2);
const RAISE_LONGEST: Duration = Duration::from_secs(64);

/// The least that is asked for, kbit/s: 15 small frames a second of a text that hardly moves.
const LEAST: u32 = 150;

/// See the file.
#[derive(Debug)]
pub struct Pacer {
    /// The least that frames took, by the second: the sender's clock against ours, so any number.
    floor: VecDeque<(u64, i64)>,
    origin: Instant,
    look_at: Instant,
    /// Since the last look: bytes, frames, and the least and most that any of them waited.
    bytes: u64,
    frames: u32,
    waited: Option<(i64, i64)>,
    ceiling: u32,
    kbps: u32,
    step: usize,
    lowered_at: Option<Instant>,
    raised_at: Option<Instant>,
    /// The rate at which a queue built up last, and how long to wait before the next attempt near it.
    failed: Option<u32>,
    raise_after: Duration,
}

/// What a picture is worth at a rate: frames a second and scale, and from how much of what its format needs in full.
const STEPS: [(u32, f32, f64); 4] = [(30, 1.0, 0.4), (24, 0.75, 0.25), (20, 0.5, 0.15), (15, 0.5, 0.0)];

/// A better step is taken only when there is so much more than it needs: more than lies between the rate at which a queue builds up
/// and the one after it, or the picture would change its size with every attempt.
const SURE: f64 = 1.6;

/// What a format needs for 720p at 30 fps, of the order that `scripts/bench canvas` prints, and the most it is given, kbit/s: a choice.
const fn rates(format: CanvasFormat) -> (u32, u32) {
    match format {
        CanvasFormat::H264 | CanvasFormat::Vp8 => (2_500, 4_000),
        CanvasFormat::Jpeg | CanvasFormat::Webp => (30_000, 60_000),
        CanvasFormat::Png | CanvasFormat::Rgba => (400_000, 1_000_000),
    }
}

impl Pacer {
    pub fn new(now: Instant) -> Self {
        let (_, ceiling) = rates(CanvasFormat::H264);
        Self {
            floor: VecDeque::new(),
            origin: now,
            look_at: now + LOOK,
            bytes: 0,
            frames: 0,
            waited: None,
            ceiling,
            kbps: ceiling,
            step: 0,
            lowered_at: None,
            raised_at: None,
            failed: None,
            raise_after: RAISE_FIRST,
        }
    }

    /// A sender begins or goes on after a pause.
    pub fn begin(&mut self, now: Instant) {
        self.look_at = now + LOOK;
        (self.bytes, self.frames, self.waited) = (0, 0, None);
    }

    pub fn pace(&self) -> Pace {
        let (fps, scale, _) = STEPS[self.step];
        Pace { fps, kbps: self.kbps, scale }
    }

    /// Notes a frame's arrival.
    pub fn frame(&mut self, now: Instant, frame: &CanvasFrame) {
        let (_, ceiling) = rates(frame.format);
        if ceiling != self.ceiling {
            // Another format: as good as the network was, of what this one may have.
            let known = u64::from(self.kbps) * u64::from(ceiling) / u64::from(self.ceiling);
            self.kbps = u32::try_from(known).unwrap_or(ceiling).clamp(LEAST, ceiling);
            self.ceiling = ceiling;
        }
        self.bytes += frame.data.len() as u64;
        self.frames += 1;
        let since = now.saturating_duration_since(self.origin);
        let took = (since.as_micros() as i64).saturating_sub(i64::try_from(frame.timestamp_us).unwrap_or(i64::MAX));
        match self.floor.back_mut() {
            Some((second, least)) if *second == since.as_secs() => *least = took.min(*least),
            Some(_) | None => self.floor.push_back((since.as_secs(), took)),
        }
        while self.floor.front().is_some_and(|(second, _)| since.as_secs() - second >= WINDOW_S) {
            self.floor.pop_front();
        }
        let fastest = self.floor.iter().map(|(_, least)| *least).min().unwrap_or(took);
        let waited = took.saturating_sub(fastest);
        let (least, most) = self.waited.unwrap_or((waited, waited));
        self.waited = Some((least.min(waited), most.max(waited)));
    }

    pub fn poll_timeout(&self) -> Instant {
        self.look_at
    }

    /// Looks at what came since the last time; the new pace if it changes.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Pace> {
        if now < self.look_at {
            return None;
        }
        let before = self.pace();
        let over = (now - self.look_at + LOOK).as_secs_f64();
        self.look_at = now + LOOK;
        let arrived = (std::mem::take(&mut self.bytes) as f64 * 8.0 / 1000.0 / over) as u32;
        let frames = std::mem::take(&mut self.frames);
        if let Some((least, most)) = self.waited.take()
            && frames > 1
        {
            if least > QUEUED_US {
                self.lower(now, arrived);
            } else if most < EMPTY_US {
                self.raise(now);
            }
        }
        self.choose_step();
        let pace = self.pace();
        (pace != before).then_some(pace)
    }

    fn lower(&mut self, now: Instant, arrived: u32) {
        if self.lowered_at.is_some_and(|at| now < at + DRAIN) {
            return;
        }
        let again = self.failed.is_some_and(|failed| self.kbps >= failed / 5 * 4);
        self.raise_after = if again { (self.raise_after * 2).min(RAISE_LONGEST) } else { RAISE_FIRST };
        self.failed = Some(self.kbps);
        self.lowered_at = Some(now);
        // What arrives while a queue stands is what the network takes; less than that, and the queue drains.
        self.kbps = (arrived * 3 / 4).min(self.kbps * 9 / 10).clamp(LEAST, self.ceiling);
    }

    fn raise(&mut self, now: Instant) {
        let next = (self.kbps + self.kbps / 8 + 50).min(self.ceiling);
        if self.failed.is_some_and(|failed| self.kbps >= failed / 10 * 11) {
            // The network takes more than it did then.
            self.failed = None;
        }
        let near = self.failed.is_some_and(|failed| next >= failed / 10 * 9);
        let patience = if near { self.raise_after } else { RAISE_FIRST };
        let waited_since = self.lowered_at.max(self.raised_at);
        if self.kbps == self.ceiling || waited_since.is_some_and(|at| now < at + patience) {
            return;
        }
        self.raised_at = Some(now);
        self.kbps = next;
    }

    fn choose_step(&mut self) {
        let full =
            f64::from(self.ceiling) / f64::from(rates(CanvasFormat::H264).1) * f64::from(rates(CanvasFormat::H264).0);
        let share = f64::from(self.kbps) / full;
        let better = (0..self.step).find(|step| share >= STEPS[*step].2 * SURE);
        let worse = (self.step..STEPS.len()).find(|step| share >= STEPS[*step].2);
        self.step = better.or(worse).unwrap_or(STEPS.len() - 1);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::domain::canvas::CREDITS;

    /// A sender that obeys behind a network that carries so many kbit/s: when each frame came, how old it was, and the paces told.
    struct Run {
        frames: Vec<(f64, f64)>,
        paces: Vec<(f64, Pace)>,
    }

    fn run(seconds: f64, wire: impl Fn(f64) -> f64, jitter_ms: f64) -> Run {
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let mut pacer = Pacer::new(start);
        let mut pace = pacer.pace();
        let mut result = Run { frames: Vec::new(), paces: Vec::new() };
        // When the wire is free again, and frames that have not arrived: drawn, arrives, bytes.
        let (mut free, mut flying) = (0.0_f64, VecDeque::<(f64, f64, usize)>::new());
        let (mut next_frame, mut count) = (0.0, 0_u64);
        let mut clock = 0.0;
        while clock < seconds {
            while flying.front().is_some_and(|(_, arrives, _)| *arrives <= clock) {
                let Some((drawn, arrives, bytes)) = flying.pop_front() else { break };
                let frame = CanvasFrame {
                    format: CanvasFormat::Vp8,
                    key: false,
                    width: 640,
                    height: 360,
                    timestamp_us: 5_000_000 + (drawn * 1e6) as u64,
                    data: Bytes::from(vec![0; bytes]),
                };
                pacer.frame(at(arrives), &frame);
                result.frames.push((arrives, arrives - drawn));
            }
            if at(clock) >= pacer.poll_timeout()
                && let Some(told) = pacer.handle_timeout(at(clock))
            {
                pace = told;
                result.paces.push((clock, told));
            }
            if clock >= next_frame {
                next_frame += 1.0 / f64::from(pace.fps);
                if flying.len() < CREDITS as usize {
                    count += 1;
                    let bytes = f64::from(pace.kbps) * 125.0 / f64::from(pace.fps);
                    free = free.max(clock) + bytes / (wire(clock) * 125.0);
                    let late = jitter_ms / 1000.0 * (count * 7919 % 101) as f64 / 100.0;
                    let arrives = (free + 0.03 + late).max(flying.back().map_or(0.0, |(_, last, _)| *last));
                    flying.push_back((clock, arrives, bytes as usize));
                }
            }
            clock += 0.001;
        }
        result
    }

    fn between(run: &Run, from: f64, to: f64) -> (f64, f64) {
        let frames: Vec<_> = run.frames.iter().filter(|(at, _)| (from..to).contains(at)).collect();
        (frames.len() as f64 / (to - from), frames.iter().map(|(_, age)| *age).fold(0.0, f64::max))
    }

    #[test]
    fn a_wide_network_gets_everything_at_once_and_for_ever() {
        let run = run(60.0, |_| 50_000.0, 30.0);
        assert_eq!(run.paces, []);
        assert!(between(&run, 0.0, 60.0).0 > 29.5);
    }

    #[test]
    fn two_megabits_carry_thirty_frames_a_second_under_half_a_second_old() {
        let run = run(60.0, |_| 2_000.0, 10.0);
        let (fps, oldest) = between(&run, 0.0, 60.0);
        assert!(fps > 20.0 && oldest < 0.5, "{fps} fps, {oldest} s");
        let (fps, oldest) = between(&run, 10.0, 60.0);
        assert!(fps > 25.0 && oldest < 0.3, "{fps} fps, {oldest} s");
    }

    #[test]
    fn a_narrow_network_gets_fewer_and_smaller_frames_instead_of_old_ones() {
        let run = run(60.0, |_| 500.0, 10.0);
        let (fps, oldest) = between(&run, 20.0, 60.0);
        assert!((12.0..=30.0).contains(&fps) && oldest < 1.0, "{fps} fps, {oldest} s");
        assert!(
            run.paces.last().is_some_and(|(_, pace)| pace.scale < 1.0 && pace.kbps <= 560),
            "{:?}",
            run.paces.last()
        );
    }

    #[test]
    fn a_network_that_recovers_is_used_again_within_half_a_minute() {
        let run = run(80.0, |at| if (10.0..20.0).contains(&at) { 600.0 } else { 20_000.0 }, 10.0);
        let last = run.paces.last().map(|(_, pace)| *pace).expect("it changed");
        assert_eq!((last.fps, last.scale), (30, 1.0));
        let full = run.paces.iter().find(|(at, pace)| *at > 20.0 && pace.scale == 1.0).map(|(at, _)| *at);
        assert!(full.is_some_and(|at| at < 50.0), "{full:?}");
    }

    #[test]
    fn a_steady_network_is_asked_ever_less_often_for_more() {
        let run = run(180.0, |_| 1_500.0, 10.0);
        let lowered = |from: f64, to: f64| {
            let within: Vec<_> = run.paces.iter().filter(|(at, _)| (from..to).contains(at)).collect();
            within.windows(2).filter(|pair| pair[1].1.kbps < pair[0].1.kbps).count()
        };
        assert!(lowered(60.0, 120.0) <= 4 && lowered(120.0, 180.0) <= 3, "{:?}", run.paces);
        let sizes: Vec<f32> = run.paces.iter().filter(|(at, _)| *at > 30.0).map(|(_, pace)| pace.scale).collect();
        assert!(sizes.windows(2).filter(|pair| pair[0] != pair[1]).count() <= 4, "{sizes:?}");
    }
}
