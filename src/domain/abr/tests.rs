//! Step responses in virtual time: an encoder with keyframes, a link of a changing rate, a queue between them.

use super::*;

const LIMITS: Limits = Limits { floor_kbps: 250, ceiling_kbps: 2500, audio_kbps: 160 };
/// How often a stream looks at its destinations.
const EVERY: Duration = Duration::from_millis(200);
const FRAME: Duration = Duration::from_millis(33);
/// Frames between two keyframes, and how many times as large as the others a keyframe is.
const GROUP: u64 = 60;
const KEYFRAME: u64 = 8;
/// Older pictures are dropped, as `live/fanout` does it.
const TOO_OLD: Duration = Duration::from_secs(2);

/// What a kernel takes at once, as soon as it holds less than half of it.
const KERNEL: u64 = 16 * 1024;

/// One connection: frames wait in a queue, a kernel takes them by the handful and sends them at the link's rate, perhaps into a buffer
/// that hides how slow it is.
struct Pipe {
    id: DestinationId,
    primary: bool,
    kbps: u32,
    /// Bytes and birth of each waiting frame.
    queue: VecDeque<(u64, Instant)>,
    taken: u64,
    /// Bytes taken and not sent.
    kernel: u64,
    /// Bits that the link may take now.
    credit: u64,
    dropped: u64,
    worst: Duration,
    on_air: bool,
    buffer: Option<Buffer>,
}

/// A server that reads slowly behind a buffer that takes everything at once, and acknowledges each so many bytes.
struct Buffer {
    capacity: u64,
    held: u64,
    read: u64,
    each: u64,
    acknowledged: Option<Acknowledged>,
}

impl Pipe {
    fn new(primary: bool, kbps: u32) -> Self {
        Self {
            id: DestinationId::generate(),
            primary,
            kbps,
            queue: VecDeque::new(),
            taken: 0,
            kernel: 0,
            credit: 0,
            dropped: 0,
            worst: Duration::ZERO,
            on_air: true,
            buffer: None,
        }
    }

    fn buffered(kbps: u32, each: u64) -> Self {
        let buffer = Buffer { capacity: 4 << 20, held: 0, read: 0, each, acknowledged: None };
        Self { buffer: Some(buffer), ..Self::new(true, kbps) }
    }

    fn age(&self, now: Instant) -> Duration {
        self.queue.front().map_or(Duration::ZERO, |(_, born)| now - *born)
    }

    fn push(&mut self, now: Instant, bytes: u64) {
        self.queue.push_back((bytes, now));
        if self.age(now) > TOO_OLD {
            self.dropped += self.queue.len() as u64;
            self.queue.clear();
        }
    }

    fn flow(&mut self, now: Instant, time: Duration) {
        self.credit += u64::from(self.kbps) * u64::try_from(time.as_micros()).expect("short") / 1000;
        if let Some(buffer) = &mut self.buffer {
            let read = buffer.held.min(self.credit / 8);
            buffer.held -= read;
            self.credit -= read * 8;
            let before = buffer.read;
            buffer.read += read;
            if before / buffer.each < buffer.read / buffer.each {
                buffer.acknowledged = Some(Acknowledged { bytes: buffer.read, lag_bytes: self.taken - buffer.read });
            }
            buffer.held += self.kernel.min(buffer.capacity - buffer.held);
            self.kernel = 0;
            self.take(KERNEL * 8);
        } else {
            loop {
                let sent = self.kernel.min(self.credit / 8);
                self.kernel -= sent;
                self.credit -= sent * 8;
                if self.kernel >= KERNEL / 2 || !self.take(KERNEL) {
                    break;
                }
            }
        }
        // A link that has nothing to send saves nothing up but a packet or two.
        self.credit = self.credit.min(24_000);
        self.worst = self.worst.max(self.age(now));
    }

    /// Fills the kernel's buffer up to here; `false` if nothing waits.
    fn take(&mut self, up_to: u64) -> bool {
        let before = self.taken;
        while let Some((bytes, _)) = self.queue.front_mut() {
            let part = up_to.saturating_sub(self.kernel).min(*bytes);
            *bytes -= part;
            self.kernel += part;
            self.taken += part;
            if *bytes > 0 {
                break;
            }
            self.queue.pop_front();
        }
        self.taken > before
    }

    fn report(&self, now: Instant) -> Report {
        let sample = Sample {
            queue: self.age(now),
            unsent_bytes: self.queue.iter().map(|(bytes, _)| bytes).sum(),
            taken_bytes: self.taken,
            acknowledged: self.buffer.as_ref().and_then(|buffer| buffer.acknowledged),
        };
        Report { id: self.id, primary: self.primary, sample: self.on_air.then_some(sample) }
    }
}

struct World {
    now: Instant,
    begun: Instant,
    abr: Abr,
    pipes: Vec<Pipe>,
    frames: u64,
    /// What the encoder makes; it follows the target within a second.
    encoder_kbps: f64,
    next_look: Instant,
    /// Every change of the target.
    changes: Vec<(Duration, u32)>,
}

impl World {
    fn new(pipes: Vec<Pipe>) -> Self {
        let now = Instant::now();
        let abr = Abr::new(now, LIMITS);
        let encoder_kbps = f64::from(LIMITS.ceiling_kbps);
        Self { now, begun: now, abr, pipes, frames: 0, encoder_kbps, next_look: now, changes: Vec::new() }
    }

    fn run(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while self.now < end {
            self.step();
        }
    }

    /// One frame.
    fn step(&mut self) {
        self.now += FRAME;
        let bytes = self.encode();
        for pipe in self.pipes.iter_mut().filter(|pipe| pipe.on_air) {
            pipe.push(self.now, bytes);
            pipe.flow(self.now, FRAME);
        }
        if self.now >= self.next_look {
            self.next_look += EVERY;
            self.look();
        }
    }

    fn encode(&mut self) -> u64 {
        let target = f64::from(self.abr.target_kbps());
        self.encoder_kbps += (target - self.encoder_kbps) * FRAME.as_secs_f64();
        let unit = self.encoder_kbps * GROUP as f64 / (GROUP + KEYFRAME - 1) as f64;
        let weight = if self.frames.is_multiple_of(GROUP) { KEYFRAME as f64 } else { 1.0 };
        self.frames += 1;
        let kbit = (unit * weight + f64::from(LIMITS.audio_kbps)) * FRAME.as_secs_f64();
        (kbit * 125.0) as u64
    }

    fn look(&mut self) {
        let before = self.abr.target_kbps();
        let reports: Vec<Report> = self.pipes.iter().map(|pipe| pipe.report(self.now)).collect();
        self.abr.handle(self.now, &reports);
        let after = self.abr.target_kbps();
        assert!((LIMITS.floor_kbps..=LIMITS.ceiling_kbps).contains(&after), "{after}");
        if after != before {
            self.changes.push((self.now - self.begun, after));
        }
    }

    /// Seconds from this moment on until the target first was at most this.
    fn until_at_most(&self, from: u64, kbps: u32) -> f64 {
        let from = Duration::from_secs(from);
        let fell = self.changes.iter().find(|(at, target)| *at >= from && *target <= kbps);
        fell.map_or(f64::INFINITY, |(at, _)| (*at - from).as_secs_f64())
    }

    fn dropped(&self) -> u64 {
        self.pipes.iter().map(|pipe| pipe.dropped).sum()
    }
}

#[test]
fn a_link_with_room_to_spare_never_lowers_the_bitrate() {
    // Keyframes make bursts on it, and that is all.
    let mut world = World::new(vec![Pipe::new(true, 3000)]);
    world.run(600);
    assert_eq!(world.changes, []);
    assert_eq!(world.abr.reason(), Reason::Asked);
}

#[test]
fn a_link_that_halves_is_followed_within_two_seconds_without_a_lost_frame() {
    for phase in 0..20 {
        let mut world = World::new(vec![Pipe::new(true, 4000)]);
        world.run(20);
        // The link may halve anywhere between two keyframes.
        (0..phase * 3).for_each(|_| world.step());
        world.begun = world.now;
        world.pipes[0].kbps = (LIMITS.ceiling_kbps + LIMITS.audio_kbps) / 2;
        world.run(30);
        assert!(world.until_at_most(0, 1330 - 160) <= 2.0, "phase {phase}: {:?}", world.changes);
        assert_eq!(world.dropped(), 0, "phase {phase}");
        assert_eq!(world.abr.reason(), Reason::Follows(world.pipes[0].id));
    }
}

#[test]
fn a_link_of_a_fifth_is_followed_in_one_step_and_loses_one_group_at_most() {
    let mut world = World::new(vec![Pipe::new(true, 4000)]);
    world.run(20);
    world.pipes[0].kbps = 532;
    world.run(60);
    assert!(world.until_at_most(20, 532 - 160) <= 2.0, "{:?}", world.changes);
    assert!(world.dropped() <= 2 * GROUP, "{}", world.dropped());
    let lost = world.dropped();
    world.run(120);
    assert_eq!(world.dropped(), lost, "what is followed loses nothing");
}

#[test]
fn a_constant_link_is_found_once_and_then_only_probed_ever_more_seldom() {
    for kbps in [700, 900, 1330, 1700, 2000, 2400] {
        let mut world = World::new(vec![Pipe::new(true, kbps)]);
        world.run(30);
        world.changes.clear();
        world.pipes[0].worst = Duration::ZERO;
        let lost = world.dropped();
        world.run(600);
        // Every probe that fails is a step up and a step back to where it stood.
        assert!(world.changes.len() <= 30, "{kbps}: {:?}", world.changes);
        assert_eq!(world.dropped(), lost, "{kbps}");
        assert!(world.pipes[0].worst < Duration::from_millis(1500), "{kbps}: {:?}", world.pipes[0].worst);
        let targets: Vec<u32> = world.changes.iter().map(|(_, target)| *target).collect();
        let (low, high) = (targets.iter().min().copied(), targets.iter().max().copied());
        let used = |target: u32| f64::from(target + LIMITS.audio_kbps) / f64::from(kbps);
        assert!(low.is_none_or(|low| used(low) > 0.7), "{kbps}: {:?}", world.changes);
        assert!(high.is_none_or(|high| high + LIMITS.audio_kbps < kbps + 2 * LIMITS.step()), "{kbps}: {targets:?}");
        // Seldom: over the last five minutes the link is used as it should be, nearly all of the time.
        let late = world.changes.iter().filter(|(at, _)| *at > Duration::from_secs(330)).count();
        assert!(late <= 12, "{kbps}: {:?}", world.changes);
    }
}

#[test]
fn a_link_that_comes_back_is_climbed_step_by_step_to_the_top() {
    let mut world = World::new(vec![Pipe::new(true, 4000)]);
    world.run(10);
    world.pipes[0].kbps = 532;
    world.run(20);
    let low = world.abr.target_kbps();
    world.changes.clear();
    let lost = world.dropped();
    world.pipes[0].kbps = 4000;
    world.run(120);
    assert_eq!(world.abr.target_kbps(), LIMITS.ceiling_kbps, "{:?}", world.changes);
    assert_eq!((world.abr.reason(), world.dropped()), (Reason::Asked, lost));
    let mut before = (Duration::from_secs(30), low);
    for change in &world.changes {
        assert!(change.1 > before.1 && change.1 - before.1 <= LIMITS.step(), "{:?}", world.changes);
        before = *change;
    }
    assert!(before.0 < Duration::from_secs(30 + 60), "{:?}", world.changes);
}

#[test]
fn nothing_goes_below_the_floor_and_nothing_at_all_is_an_outage() {
    let mut world = World::new(vec![Pipe::new(true, 4000)]);
    world.run(10);
    world.pipes[0].kbps = 300;
    world.run(30);
    assert_eq!(world.abr.target_kbps(), LIMITS.floor_kbps);
    for phase in 0..20 {
        let mut world = World::new(vec![Pipe::new(true, 4000)]);
        world.run(10);
        (0..phase * 3).for_each(|_| world.step());
        world.pipes[0].kbps = 0;
        world.run(4);
        assert_eq!(world.changes, [], "a lower bitrate does not help a server that takes nothing");
    }
}

#[test]
fn the_slowest_primary_is_followed_and_the_others_are_not() {
    let mut world = World::new(vec![Pipe::new(true, 4000), Pipe::new(true, 1500), Pipe::new(false, 600)]);
    world.run(60);
    let target = world.abr.target_kbps();
    assert!((900..1500).contains(&target), "{target}");
    assert_eq!(world.abr.reason(), Reason::Follows(world.pipes[1].id));
    assert_eq!((world.pipes[0].dropped, world.pipes[1].dropped), (0, 0));
    assert!(world.pipes[2].dropped > 0, "the one that is not primary loses its own frames");
    // The slow one leaves: the rest is climbed by steps, not by a jump.
    world.pipes[1].on_air = false;
    world.changes.clear();
    world.run(60);
    assert_eq!(world.abr.target_kbps(), LIMITS.ceiling_kbps);
    assert!(world.changes[0].1 <= target + LIMITS.step(), "{:?}", world.changes);
    assert!(world.changes.len() >= 4, "{:?}", world.changes);
}

#[test]
fn without_a_primary_the_best_of_them_decides() {
    let mut world = World::new(vec![Pipe::new(false, 600), Pipe::new(false, 4000)]);
    world.run(60);
    assert_eq!((world.abr.target_kbps(), world.changes.len()), (LIMITS.ceiling_kbps, 0));
    world.pipes[1].kbps = 1330;
    world.run(30);
    assert!(world.until_at_most(60, 1170) <= 2.0, "{:?}", world.changes);
    assert_eq!(world.abr.reason(), Reason::Follows(world.pipes[1].id));
}

#[test]
fn a_server_behind_a_large_buffer_is_known_by_what_it_acknowledges() {
    // A server that has steps of its own answers every 1.5 s at that rate, and one answer alone says nothing.
    for (each, within) in [(250_000, 6.0), (32_768, 4.0)] {
        let mut world = World::new(vec![Pipe::buffered(4000, each)]);
        world.run(20);
        assert_eq!(world.changes, [], "acknowledgements that keep up mean nothing");
        world.pipes[0].kbps = 1330;
        world.run(30);
        assert!(world.until_at_most(20, 1170) <= within, "{each}: {:?}", world.changes);
        world.run(120);
        assert_eq!(world.dropped(), 0);
        assert!(world.changes.len() < 20, "{each}: {:?}", world.changes);
    }
}

#[test]
fn a_destination_that_was_away_begins_with_what_was_found_before() {
    let mut world = World::new(vec![Pipe::new(true, 1330)]);
    world.run(30);
    let found = world.abr.target_kbps();
    world.pipes[0].on_air = false;
    world.run(10);
    world.pipes[0].queue.clear();
    world.pipes[0].on_air = true;
    world.changes.clear();
    world.run(3);
    assert_eq!((world.abr.target_kbps(), world.changes.len()), (found, 0));
}
