//! The programme's bitrate: as much as the destinations that matter take, from what waits for them and what they took.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;

use crate::model::id::DestinationId;

/// Rates and standing delays are taken over this: longer than a keyframe keeps a sound link busy, short enough to act within 2 s.
const WINDOW: Duration = Duration::from_secs(1);
/// A delay that never went below this within a window is no burst: the link is full.
const STANDING: Duration = Duration::from_millis(200);
/// A connection that never had nothing to send for so long shows how fast it is.
const BUSY: Duration = Duration::from_millis(550);
/// Taking less than this part of what it is given, a busy connection falls behind.
const BEHIND_PERCENT: u32 = 95;
/// Taking more than this part of it, it needs no deep cut.
const NEARLY_PERCENT: u32 = 80;
/// A link that takes so much more than when it was full has grown.
const GROWN_PERCENT: u32 = 110;
/// No burst of a sound link waits for this long either.
const ALARM: Duration = Duration::from_secs(1);
/// Less than this is an empty queue, give or take a frame.
const CLEAR: Duration = Duration::from_millis(100);
/// An encoder follows within a second or two; what waits before it has done so says nothing about the new rate.
const SETTLE: Duration = Duration::from_millis(2500);
/// A server that is this far behind, and falls back further, is too slow; less may be the step of its acknowledgements.
const BEHIND: Duration = Duration::from_millis(500);
/// Of acknowledgements that come more often, one in this time is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Not a byte in this time is no slow link but an outage.
const OUTAGE: Duration = Duration::from_millis(350);
/// The queue is shorter by more than this than it was at its longest: the rate is low enough already.
const DRAINING: Duration = Duration::from_millis(100);
/// And if it has not drained by then, it is not.
const DRAINED: Duration = Duration::from_secs(8);
/// Between two steps up.
const STEP_EVERY: Duration = Duration::from_secs(2);
/// Before a rate is tried that is not known to go through, and how long it then has to.
const PROBE_AFTER: Duration = Duration::from_secs(4);
/// The wait for the next probe doubles with each that fails, this often: 64 s at most.
const MAX_DOUBLINGS: u32 = 4;
/// Steps from the floor to the ceiling.
const STEPS: u32 = 10;
/// The part of what a link took when it was full that is added at once near to there.
const CAREFUL: u32 = 8;
/// Of what a link takes: what is left lets the queue of a link that broke in drain within seconds.
const CUT_PERCENT: u32 = 75;
/// Of what a link takes: what it can be given for long, keyframes included.
const SAFE_PERCENT: u32 = 90;

/// What the bitrate may be, kbit/s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Video never goes below this; what does not pass then is dropped per destination.
    pub floor_kbps: u32,
    /// The video bitrate that was asked for.
    pub ceiling_kbps: u32,
    /// The sound beside it, which is never lowered.
    pub audio_kbps: u32,
}

/// How one destination's connection stands at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Age of the oldest frame that waits.
    pub queue: Duration,
    /// Bytes that wait, those of the frame under way included.
    pub unsent_bytes: u64,
    /// Bytes the connection has taken since any fixed moment.
    pub taken_bytes: u64,
    /// What the server says of them, if it speaks of it at all.
    pub acknowledged: Option<Acknowledged>,
}

/// The newest acknowledgement of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// Bytes it has received.
    pub bytes: u64,
    /// Bytes that were on their way to it when it said so.
    pub lag_bytes: u64,
}

/// One destination as the policy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    pub id: DestinationId,
    /// Whether the programme follows it.
    pub primary: bool,
    /// `None` while it is not on air, or takes nothing at all.
    pub sample: Option<Sample>,
}

/// Why the bitrate is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is what was asked for.
    Asked,
    /// This destination's connection takes no more.
    Follows(DestinationId),
    /// Every connection takes more, and it rises step by step.
    Recovering,
}

/// Decides the video bitrate of one programme for all its destinations.
///
/// It follows the slowest destination that is marked primary. Where none is marked it follows the one that fares best: a bitrate
/// that nobody can take helps nobody, and one slow destination costs the others nothing. What the others cannot take is dropped from
/// their own queues.
#[derive(Debug)]
pub struct Abr {
    limits: Limits,
    links: BTreeMap<DestinationId, Link>,
    target_kbps: u32,
    risen_at: Instant,
    reason: Reason,
}

impl Abr {
    /// Begins at the ceiling; a floor above it counts as the ceiling.
    pub fn new(now: Instant, limits: Limits) -> Self {
        let limits = Limits { floor_kbps: limits.floor_kbps.min(limits.ceiling_kbps), ..limits };
        let links = BTreeMap::new();
        Self { limits, links, target_kbps: limits.ceiling_kbps, risen_at: now, reason: Reason::Asked }
    }

    /// Video, kbit/s.
    pub const fn target_kbps(&self) -> u32 {
        self.target_kbps
    }

    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// Takes how all destinations stand, several times a second; those that are not named any more are forgotten.
    pub fn handle(&mut self, now: Instant, reports: &[Report]) {
        self.links.retain(|id, _| reports.iter().any(|report| report.id == *id));
        for report in reports {
            let link = self.links.entry(report.id).or_insert_with(|| Link::new(now, self.limits));
            match report.sample {
                Some(sample) => link.handle(now, sample, self.target_kbps),
                None => link.pause(),
            }
        }
        let Some((id, allowed)) = self.followed(reports) else { return };
        self.steer(now, id, allowed);
    }

    /// The destination that decides, and what it takes.
    fn followed(&self, reports: &[Report]) -> Option<(DestinationId, u32)> {
        let marked = reports.iter().any(|report| report.primary);
        let allowed = reports
            .iter()
            .filter(|report| report.sample.is_some() && (report.primary || !marked))
            .filter_map(|report| Some((report.id, self.links.get(&report.id)?.allowed_kbps)));
        if marked { allowed.min_by_key(|(_, kbps)| *kbps) } else { allowed.max_by_key(|(_, kbps)| *kbps) }
    }

    /// Down at once, up by steps: the one that was followed may be gone all of a sudden.
    fn steer(&mut self, now: Instant, id: DestinationId, allowed: u32) {
        if allowed < self.target_kbps {
            self.target_kbps = allowed;
            self.risen_at = now;
        } else if allowed > self.target_kbps && now.saturating_duration_since(self.risen_at) >= STEP_EVERY {
            self.target_kbps = allowed.min(self.target_kbps + self.limits.step());
            self.risen_at = now;
        }
        self.reason = if self.target_kbps == self.limits.ceiling_kbps {
            Reason::Asked
        } else if self.target_kbps < allowed {
            Reason::Recovering
        } else {
            Reason::Follows(id)
        };
    }
}

impl Limits {
    fn step(&self) -> u32 {
        (self.ceiling_kbps / STEPS).max(1)
    }

    /// Video that goes through a link beside the sound, if this many percent of the link are used.
    fn video_within(&self, link_kbps: u32, percent: u32) -> u32 {
        let usable = u64::from(link_kbps) * u64::from(percent) / 100;
        let video = u32::try_from(usable).unwrap_or(u32::MAX).saturating_sub(self.audio_kbps);
        video.clamp(self.floor_kbps, self.ceiling_kbps)
    }
}

/// What one connection is found to take.
#[derive(Debug)]
struct Link {
    limits: Limits,
    /// Video it can be given, kbit/s.
    allowed_kbps: u32,
    /// The last rate that it took for long enough.
    good_kbps: u32,
    /// What it took, sound included, when it was last found full.
    capacity_kbps: Option<u32>,
    last: Move,
    moved_at: Instant,
    /// The longest delay since then.
    peak: Duration,
    /// Probes that failed since the link was last found to have grown.
    failures: u32,
    /// Since when nothing waits.
    clear_since: Option<Instant>,
    /// From just over a window ago until now.
    history: VecDeque<Point>,
    server: Server,
}

/// What a server's acknowledgements tell of the buffers before it, which take bytes at once and hide how slow it is.
#[derive(Clone, Copy, Debug, Default)]
struct Server {
    newest: Option<(Instant, Acknowledged)>,
    /// The least lag so far: what is always on the way, and how the server counts.
    least_lag: Option<u64>,
    /// Between the two newest.
    kbps: u32,
    interval: Duration,
    /// How far it is behind, as of the newest.
    behind: Duration,
    /// It is further behind than at the one before, and that was after the last move.
    falls_back: bool,
    /// The bitrate was cut for it: this is a connection whose queue with us says little.
    hidden: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    Cut,
    /// To a rate that is known to go through.
    Raise,
    /// To one that is not.
    Probe,
}

#[derive(Clone, Copy, Debug)]
struct Point {
    at: Instant,
    delay: Duration,
    taken: u64,
    unsent: u64,
}

impl Link {
    const fn new(now: Instant, limits: Limits) -> Self {
        Self {
            limits,
            allowed_kbps: limits.ceiling_kbps,
            good_kbps: limits.ceiling_kbps,
            capacity_kbps: None,
            last: Move::Raise,
            moved_at: now,
            peak: Duration::ZERO,
            failures: 0,
            clear_since: None,
            history: VecDeque::new(),
            server: Server {
                newest: None,
                least_lag: None,
                kbps: 0,
                interval: Duration::ZERO,
                behind: Duration::ZERO,
                falls_back: false,
                hidden: false,
            },
        }
    }

    /// Off air: what was found stays, what was measured does not belong to the next connection.
    fn pause(&mut self) {
        self.history.clear();
        self.clear_since = None;
        self.server = Server::default();
    }

    fn handle(&mut self, now: Instant, sample: Sample, programme_kbps: u32) {
        if let Some(seen) = sample.acknowledged {
            self.server.note(now, seen, self.moved_at);
        }
        let delay = self.delay(&sample);
        self.history.push_back(Point { at: now, delay, taken: sample.taken_bytes, unsent: sample.unsent_bytes });
        while self.history.get(1).is_some_and(|point| now.saturating_duration_since(point.at) >= WINDOW) {
            self.history.pop_front();
        }
        self.peak = self.peak.max(delay);
        // A keyframe on its way is nothing that stands.
        if sample.queue > CLEAR || self.server.behind > STANDING {
            self.clear_since = None;
        } else {
            self.clear_since.get_or_insert(now);
        }
        if self.is_full(now, sample.queue) {
            self.cut(now, delay, self.taken_kbps());
        } else if self.server.falls_back && self.server.behind > BEHIND {
            self.server.hidden = true;
            self.cut(now, delay, self.taken_kbps().min(self.server.kbps));
        } else {
            self.raise(now, programme_kbps);
        }
    }

    /// How long the newest frame will wait with us, if what is taken is no less than what is made.
    fn delay(&self, sample: &Sample) -> Duration {
        let rate = self.taken_kbps().max(self.allowed_kbps + self.limits.audio_kbps);
        sample.queue.max(time_of(sample.unsent_bytes, rate))
    }

    /// What it took just now: while more waits, that is what it can take.
    fn taken_kbps(&self) -> u32 {
        let Some(last) = self.history.back() else { return 0 };
        let long_ago = |point: &&Point| last.at.saturating_duration_since(point.at) >= BUSY;
        let first = self.history.iter().rev().find(long_ago).or(self.history.front());
        first.map_or(0, |first| {
            kbps(last.taken.saturating_sub(first.taken), last.at.saturating_duration_since(first.at))
        })
    }

    /// The first look of the window since which something always waited.
    fn busy_from(&self) -> Option<&Point> {
        let idle = self.history.iter().rposition(|point| point.unsent == 0);
        self.history.get(idle.map_or(0, |idle| idle + 1))
    }

    fn takes_nothing(&self, now: Instant) -> bool {
        let past = self.history.iter().rev().find(|point| now.saturating_duration_since(point.at) >= OUTAGE);
        past.zip(self.history.back()).is_some_and(|(past, last)| past.taken == last.taken)
    }

    fn is_full(&self, now: Instant, queue: Duration) -> bool {
        let lasts =
            |from: Option<&Point>, time| from.is_some_and(|from| now.saturating_duration_since(from.at) >= time);
        let given = self.allowed_kbps + self.limits.audio_kbps;
        let falls_behind = lasts(self.busy_from(), BUSY)
            && self.history.back().is_some_and(|last| last.delay > STANDING)
            && u64::from(self.taken_kbps()) * 100 < u64::from(given) * u64::from(BEHIND_PERCENT);
        let stands = lasts(self.history.front(), WINDOW) && self.history.iter().all(|point| point.delay > STANDING);
        falls_behind || stands || queue > ALARM
    }

    fn cut(&mut self, now: Instant, delay: Duration, took: u32) {
        // The rate at the cut may have been from before the link broke in, in part.
        let worse = self
            .capacity_kbps
            .is_some_and(|capacity| took < capacity && self.limits.video_within(took, 100) < self.allowed_kbps);
        let since_move = now.saturating_duration_since(self.moved_at);
        let drains = delay + DRAINING < self.peak && since_move < DRAINED;
        if self.last == Move::Cut && (drains || (since_move < SETTLE && !worse)) {
            return;
        }
        // A connection that takes nothing at all is an outage, which a lower bitrate would not end.
        if took == 0 || self.takes_nothing(now) {
            return;
        }
        let given = u64::from(self.allowed_kbps + self.limits.audio_kbps);
        if u64::from(took) * 100 >= given * u64::from(NEARLY_PERCENT) {
            // Nearly enough: a step too many, and no link that broke in.
            let failed = u32::from(self.last == Move::Probe);
            self.failures = (self.failures + failed).min(MAX_DOUBLINGS);
            self.good_kbps = self.good_kbps.min(self.limits.video_within(took, SAFE_PERCENT));
        } else {
            self.failures = 0;
            self.good_kbps = self.limits.video_within(took, CUT_PERCENT);
        }
        self.allowed_kbps = self.allowed_kbps.min(self.good_kbps);
        self.capacity_kbps = Some(took);
        self.server.falls_back = false;
        self.moved(now, Move::Cut);
    }

    fn raise(&mut self, now: Instant, programme_kbps: u32) {
        // What was never sent to it says nothing about it.
        let tested = u64::from(programme_kbps) * 10 >= u64::from(self.allowed_kbps) * 9;
        let Some(clear_since) = self.clear_since.filter(|_| tested) else { return };
        let clear_for = now.saturating_duration_since(clear_since.max(self.moved_at));
        if self.last == Move::Probe && clear_for >= self.probe_time() {
            self.take_as_good();
        }
        if self.allowed_kbps == self.limits.ceiling_kbps {
            return;
        }
        let safe = self.capacity_kbps.map_or(0, |capacity| self.limits.video_within(capacity, SAFE_PERCENT));
        // Where it was full before, a small step is enough to find out, and soon undone.
        let step = match self.capacity_kbps {
            Some(capacity) => (capacity / CAREFUL).clamp(self.limits.step() / 3, self.limits.step()),
            None => self.limits.step(),
        };
        let next = (self.allowed_kbps + step.max(1)).min(self.limits.ceiling_kbps);
        let probed = self.probe_time();
        let (next, by, wait) = if self.allowed_kbps < safe {
            ((self.allowed_kbps + self.limits.step()).min(safe), Move::Raise, STEP_EVERY)
        } else {
            (next, Move::Probe, probed * (1 << self.failures))
        };
        if clear_for >= wait {
            if by == Move::Raise {
                self.good_kbps = next;
            }
            self.allowed_kbps = next;
            self.moved(now, by);
        }
    }

    fn moved(&mut self, now: Instant, by: Move) {
        self.last = by;
        self.moved_at = now;
        self.peak = Duration::ZERO;
    }

    /// How long a probe must go through: near to where the link was full, the queue grows slowly, and what a buffer hides is only known
    /// some acknowledgements later.
    fn probe_time(&self) -> Duration {
        let time = if self.capacity_kbps.is_some() { PROBE_AFTER * 3 / 2 } else { PROBE_AFTER };
        if self.server.hidden { time.max(self.server.interval * 4) } else { time }
    }

    /// A probe went through. If that is more than the link took when it was full, the link has grown and what was learnt is old.
    fn take_as_good(&mut self) {
        self.good_kbps = self.allowed_kbps;
        let sent = u64::from(self.allowed_kbps + self.limits.audio_kbps);
        let grown = |capacity: u32| sent * 100 > u64::from(capacity) * u64::from(GROWN_PERCENT);
        if self.capacity_kbps.is_some_and(grown) {
            self.capacity_kbps = None;
            self.failures = 0;
        }
    }
}

impl Server {
    fn note(&mut self, now: Instant, seen: Acknowledged, moved_at: Instant) {
        let before = self.newest.filter(|(_, before)| before.bytes <= seen.bytes);
        match before {
            Some((_, before)) if before.bytes == seen.bytes => return,
            // Servers that answer often do so in bursts, whose pace says nothing.
            Some((at, _)) if now.saturating_duration_since(at) < LOOK_EVERY => return,
            Some((at, before)) => {
                self.interval = now.saturating_duration_since(at);
                self.kbps = kbps(seen.bytes - before.bytes, self.interval).max(1);
                self.falls_back = at > moved_at && seen.lag_bytes >= before.lag_bytes;
            }
            None => *self = Self { hidden: self.hidden, ..Self::default() },
        }
        self.newest = Some((now, seen));
        let least = self.least_lag.map_or(seen.lag_bytes, |least| least.min(seen.lag_bytes));
        self.least_lag = Some(least);
        self.behind = time_of(seen.lag_bytes - least, self.kbps.max(1));
    }
}

/// How long this many bytes take at a rate of at least 1.
fn time_of(bytes: u64, kbps: u32) -> Duration {
    Duration::from_millis(bytes.saturating_mul(8) / u64::from(kbps))
}

fn kbps(bytes: u64, time: Duration) -> u32 {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    u32::try_from(bytes.saturating_mul(8) / millis).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
