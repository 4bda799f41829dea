//! What a receiver says of the packets of video sent to it: how fast they come through its link, and how long they wait in front of it.
//!
//! Delay alone says little, for on radio each packet is late by another time. A queue is what the luckiest packet of a while had to wait
//! in, too.

use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;

/// Bytes of a packet beside its payload: IPv4 and UDP 28, RTP 12, the numbers by which it is reported 8, authentication (SRTP) 10.
pub const HEADERS: usize = 58;

/// Packets are looked at for so long, by the receiver's clock, in µs; pictures may be rare.
const KEPT: i64 = 2_000_000;
/// At most so many: 2 s of 10 Mbit/s, which fills no link we would know the end of.
const MOST: usize = 2048;
/// The luckiest packet of so many and of so long, in µs, tells of the queue.
const LUCKY: (usize, i64) = (5, 100_000);
/// Over how long it is measured what comes through, in µs.
const RATE_OVER: i64 = 500_000;
/// No rate is known from a shorter stretch, in µs.
const RATE_FROM: i64 = 100_000;
/// A queue of so many µs, and what is usual of chance on top, is one.
const QUEUE: i64 = 60_000;
/// It is the link's if it grows by more than a fifth of the time for so many µs, or stands for so many. A busy machine is late, too, but
/// catches up.
const GROWTH: i64 = 5;
const GROWS: i64 = 150_000;
const STANDS: i64 = 1_000_000;
/// Share of what is new in the usual chance, for reports that come ten times a second.
const NOVELTY: f64 = 0.05;
/// The shortest way is searched anew in so many µs: clocks drift apart by a few ms meanwhile.
const SEARCH: i64 = 30_000_000;
/// Clocks that jump by more, in µs, are other clocks.
const OTHER_CLOCK: i64 = 60_000_000;
/// A train that comes in less, in µs, came at once: receivers look at their clocks no more often.
const AT_ONCE: i64 = 500;

/// No time is later, in µs: thirty years, so that sums of them fit.
const FAR: i64 = 1 << 50;

/// A packet that came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passage {
    pub sent: Instant,
    /// With all headers.
    pub bytes: usize,
    /// By the receiver's clock, whose zero nobody knows.
    pub arrived: Duration,
}

/// What is known of the way to one receiver.
#[derive(Clone, Debug)]
pub struct Transit {
    origin: Instant,
    /// In the order of being told, which for those of one report is that of being sent.
    recent: VecDeque<Came>,
    least: Least,
    /// How much later than the luckiest packets usually come, in µs.
    chance: f64,
    /// Since when, by the receiver's clock, packets wait in a queue, and how long they waited then.
    waits_since: Option<(i64, i64)>,
}

/// A packet that came through, in µs by two clocks.
#[derive(Clone, Copy, Debug)]
struct Came {
    sent: i64,
    arrived: i64,
    bytes: u64,
}

impl Came {
    const fn took(self) -> i64 {
        self.arrived - self.sent
    }
}

/// How fast packets go in, and come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Through {
    /// Bits per second that come out.
    pub bits: u64,
    /// µs in which they went in, and µs in which they came out.
    pub stretched: (u64, u64),
}

/// How packets came out that went in at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Train {
    /// Bits per second, which are what the link carries.
    pub bits: u64,
    /// The first found a queue before it.
    pub waited: bool,
    /// Its packets came in order and evenly: it is the link that drew it out, not chance.
    pub is_certain: bool,
}

impl Transit {
    /// `now` is before anything is sent.
    pub fn new(now: Instant) -> Self {
        Self { origin: now, recent: VecDeque::new(), least: Least::default(), chance: 0.0, waits_since: None }
    }

    /// Whether the receiver reports what comes at all.
    pub fn is_told(&self) -> bool {
        self.least.get().is_some()
    }

    /// Takes what the receiver told in one report.
    pub fn take(&mut self, passages: &[Passage]) {
        let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(FAR).min(FAR);
        for passage in passages {
            let sent = micros(passage.sent.saturating_duration_since(self.origin));
            let came = Came { sent, arrived: micros(passage.arrived), bytes: passage.bytes as u64 };
            let apart = self.recent.back().map_or(0, |last| last.arrived.abs_diff(came.arrived));
            if apart > STANDS.unsigned_abs() {
                self.waits_since = None;
            }
            if apart > OTHER_CLOCK.unsigned_abs() {
                self.recent.clear();
                self.least = Least::default();
            }
            self.least.note(came);
            self.recent.push_back(came);
        }
        let newest = self.recent.iter().map(|came| came.arrived).max().unwrap_or_default();
        while self.recent.len() > MOST || self.recent.front().is_some_and(|came| newest - came.arrived > KEPT) {
            self.recent.pop_front();
        }
        if let Some((queue, later)) = self.luckiest()
            && queue < QUEUE
        {
            self.chance += (later - self.chance) * NOVELTY;
        }
        let waited = self.luckiest().filter(|_| self.waits());
        self.waits_since = waited.map(|(queue, _)| self.waits_since.unwrap_or((newest, queue)));
    }

    /// Whether more is sent than the link carries.
    pub fn is_full(&self) -> bool {
        let (Some((since, before)), Some((queue, _))) = (self.waits_since, self.luckiest()) else { return false };
        let newest = self.recent.iter().map(|came| came.arrived).max().unwrap_or_default();
        let long = newest - since;
        long >= STANDS || (long >= GROWS && (queue - before) * GROWTH > long)
    }

    /// Whether what is sent waits in a queue.
    pub fn waits(&self) -> bool {
        self.luckiest().is_some_and(|(queue, _)| queue > self.queue())
    }

    /// How fast packets come out now.
    pub fn through(&self) -> Option<Through> {
        let newest = self.recent.iter().map(|came| came.arrived).max()?;
        let lately = || self.recent.iter().filter(|came| newest - came.arrived <= RATE_OVER);
        let first = lately().min_by_key(|came| came.arrived)?;
        let came_in = newest - first.arrived;
        let sent_in = lately().map(|came| came.sent).max()? - lately().map(|came| came.sent).min()?;
        if came_in < RATE_FROM {
            return None;
        }
        let bytes: u64 = lately().map(|came| came.bytes).sum();
        let came_in = came_in.unsigned_abs();
        let bits = (bytes - first.bytes) * 8_000_000 / came_in;
        Some(Through { bits, stretched: (sent_in.unsigned_abs(), came_in) })
    }

    /// How packets came through that were sent at once, if at least `least` of them did.
    pub fn train(&self, sent: Instant, least: usize) -> Option<Train> {
        let sent = i64::try_from(sent.saturating_duration_since(self.origin).as_micros()).ok()?;
        let wagons = || self.recent.iter().filter(|came| came.sent == sent);
        if wagons().count() < least.max(2) {
            return None;
        }
        let (first, last) = (wagons().min_by_key(|came| came.arrived)?, wagons().max_by_key(|came| came.arrived)?);
        let bytes: u64 = wagons().map(|came| came.bytes).sum();
        let long = last.arrived - first.arrived;
        let bits = (bytes - first.bytes) * 8_000_000 / long.max(AT_ONCE).unsigned_abs();
        let waited = first.took() - self.least.get()? > self.queue();
        let gaps = || wagons().zip(wagons().skip(1)).map(|(before, after)| after.arrived - before.arrived);
        let is_certain = gaps().all(|gap| gap >= 0 && gap * 2 <= long);
        Some(Train { bits, waited, is_certain })
    }

    /// A wait of more µs is one in a queue.
    fn queue(&self) -> i64 {
        #[expect(clippy::cast_possible_truncation)]
        let usual = self.chance as i64;
        QUEUE + usual
    }

    /// How long the luckiest of the latest packets waited, and how much later than it the others came on average, both in µs.
    fn luckiest(&self) -> Option<(i64, f64)> {
        let newest = self.recent.iter().map(|came| came.arrived).max()?;
        let (mut least, mut sum, mut count) = (i64::MAX, 0, 0);
        for came in self.recent.iter().rev() {
            least = least.min(came.took());
            sum += came.took();
            count += 1;
            if count >= LUCKY.0 && newest - came.arrived >= LUCKY.1 {
                #[expect(clippy::cast_precision_loss)]
                let later = sum as f64 / count as f64 - least as f64;
                return Some((least - self.least.get()?, later));
            }
        }
        None
    }
}

/// The shortest time a packet took in the last while.
#[derive(Clone, Copy, Debug, Default)]
struct Least {
    since: Option<i64>,
    now: Option<i64>,
    before: Option<i64>,
}

impl Least {
    fn note(&mut self, came: Came) {
        let since = *self.since.get_or_insert(came.arrived);
        if came.arrived - since > SEARCH {
            *self = Self { since: Some(came.arrived), now: None, before: self.now };
        }
        self.now = Some(self.now.map_or(came.took(), |least| least.min(came.took())));
    }

    fn get(&self) -> Option<i64> {
        self.now.into_iter().chain(self.before).min()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Packets of `bytes` sent every `every` ms from `from` ms on, each late by what `late` says of its number, in ms.
    fn sent(
        start: Instant,
        from: u64,
        count: u64,
        every: u64,
        bytes: usize,
        late: impl Fn(u64) -> u64,
    ) -> Vec<Passage> {
        let mut passages: Vec<Passage> = (0..count)
            .map(|n| Passage {
                sent: start + Duration::from_millis(from + n * every),
                bytes,
                arrived: Duration::from_millis(1_000_000 + from + n * every + late(n)),
            })
            .collect();
        passages.sort_by_key(|passage| passage.arrived);
        passages
    }

    fn told(transit: &mut Transit, passages: &[Passage]) -> usize {
        passages
            .chunks(5)
            .filter(|report| {
                transit.take(report);
                transit.is_full()
            })
            .count()
    }

    #[test]
    fn chance_is_no_queue_and_what_grows_is_one() {
        let start = Instant::now();
        let mut transit = Transit::new(start);
        assert!(!transit.is_told());
        // Late by up to 100 ms, in no order.
        assert_eq!(told(&mut transit, &sent(start, 0, 3_000, 20, 1_000, |n| n * 7_919 % 101)), 0);
        assert!(transit.is_told());
        // A busy machine is 150 ms late for 700 ms, again and again.
        let busy = |n: u64| if n % 100 < 35 { 150 } else { 0 };
        assert_eq!(told(&mut transit, &sent(start, 60_000, 3_000, 20, 1_000, busy)), 0);
        // Half of what is sent fits.
        let growing = sent(start, 120_000, 50, 20, 1_000, |n| n * 20);
        let found = growing.chunks(5).position(|report| told(&mut transit, report) > 0);
        assert!(found.is_some_and(|found| found <= 5), "{found:?}: within half a second");
        let through = transit.through().expect("a rate");
        assert!((180_000..=220_000).contains(&through.bits), "{through:?}");
        let (sent_in, came_in) = through.stretched;
        assert!((45..=55).contains(&(sent_in * 100 / came_in)), "{through:?}");
    }

    #[test]
    fn a_train_tells_how_wide_the_link_is() {
        let start = Instant::now();
        let mut transit = Transit::new(start);
        assert_eq!(transit.train(start, 2), None);
        let wagon = |n: u64| Passage { sent: start, bytes: 100, arrived: Duration::from_micros(5_000_000 + n * 2_000) };
        transit.take(&(0..10).map(wagon).collect::<Vec<_>>());
        assert_eq!(transit.train(start, 10), Some(Train { bits: 400_000, waited: false, is_certain: true }));
        assert_eq!(transit.train(start, 11), None, "too few of them came");
        let at_once =
            |n: u64| Passage { sent: start + KEPT_FOR, bytes: 100, arrived: Duration::from_micros(9_000_000 + n) };
        transit.take(&(0..10).map(at_once).collect::<Vec<_>>());
        assert!(transit.train(start + KEPT_FOR, 10).is_some_and(|train| train.bits > 10_000_000));
        let late = Passage { sent: start + 2 * KEPT_FOR, bytes: 100, arrived: Duration::from_millis(13_095) };
        transit.take(&[late, late]);
        assert!(transit.train(start + 2 * KEPT_FOR, 2).is_some_and(|train| train.waited));
    }

    const KEPT_FOR: Duration = Duration::from_secs(4);

    #[test]
    fn a_clock_that_was_set_is_another_one() {
        let start = Instant::now();
        let mut transit = Transit::new(start);
        told(&mut transit, &sent(start, 0, 100, 20, 1_000, |_| 5));
        assert_eq!(told(&mut transit, &sent(start, 2_000, 100, 20, 1_000, |_| 3_600_000)), 0);
    }

    proptest! {
        #[test]
        fn whatever_is_told_is_read_in_bounds(
            reports in prop::collection::vec(prop::collection::vec((0u64..1_000_000, 0usize..2_000, any::<u64>()), 0..300), 0..30)
        ) {
            let start = Instant::now();
            let mut transit = Transit::new(start);
            for report in reports {
                let passages: Vec<_> = report.into_iter().map(|(sent, bytes, arrived)| Passage {
                    sent: start + Duration::from_micros(sent),
                    bytes,
                    arrived: Duration::from_micros(arrived),
                }).collect();
                transit.take(&passages);
                let _ = (transit.is_full(), transit.through(), transit.train(start, 2));
                prop_assert!(transit.recent.len() <= MOST);
            }
        }
    }
}
