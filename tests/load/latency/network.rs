//! What lies between a participant and the gateway: access links as data, and the arithmetic of one direction of one.
//!
//! The figures are chosen, not measured: round ones in the range that such links have. Queues hold 300 ms, which RFC 8868
//! calls nominal. One-way delays are those from the participant to the gateway: a path from one participant to another has two.

use std::time::Duration;
use std::time::Instant;

/// One direction of an access link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Direction {
    /// Bits a second; 0 is more than anybody sends.
    rate: u64,
    /// One way, to the gateway or from it.
    delay: Duration,
    jitter: Jitter,
    loss: Loss,
}

/// What a packet waits beyond the delay. Packets keep their order, as the retransmissions of a radio link keep it.
#[derive(Clone, Copy, Debug)]
enum Jitter {
    None,
    /// As much more or less: the grants of a cellular scheduler.
    Uniform(Duration),
    /// Mostly little and sometimes much, this on average: contention for the air.
    Exponential(Duration),
}

#[derive(Clone, Copy, Debug)]
enum Loss {
    None,
    /// Each packet with this probability.
    Random(f64),
    /// The model of Gilbert: the probability that a burst begins, and that it ends, at each packet.
    Bursts {
        begins: f64,
        ends: f64,
    },
}

/// Both directions of a participant's link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    up: Direction,
    down: Direction,
}

/// How the participants of a room reach the gateway.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) name: &'static str,
    /// Of the participants with even numbers, and of those with odd ones; `None` is the bare loopback.
    sides: [Option<Access>; 2],
    /// Whether only the paths between the two sides count.
    pub(crate) crosses: bool,
}

const QUEUE: Duration = Duration::from_millis(300);

const fn direction(rate: u64, delay_ms: u64, jitter: Jitter, loss: Loss) -> Direction {
    Direction { rate, delay: Duration::from_millis(delay_ms), jitter, loss }
}

const fn everybody(name: &'static str, up: Direction, down: Direction) -> Network {
    let access = Some(Access { up, down });
    Network { name, sides: [access, access], crosses: false }
}

/// The gateway and the machine alone: what is measured here is in every other figure too.
pub(crate) const CLEAN: Network = Network { name: "clean", sides: [None, None], crosses: false };

/// ADSL2+ (ITU-T G.992.5) with interleaving, as sold: 16 Mbit/s down and 1 Mbit/s up.
pub(crate) const DSL: Network = everybody(
    "DSL",
    direction(1_000_000, 15, Jitter::None, Loss::None),
    direction(16_000_000, 15, Jitter::None, Loss::None),
);

/// A phone in a cell with others. The radio repairs what it loses and pays with delay; a little loss is left.
pub(crate) const CELLULAR: Network = everybody(
    "4G",
    direction(8_000_000, 30, Jitter::Uniform(Duration::from_millis(10)), Loss::Random(0.005)),
    direction(30_000_000, 30, Jitter::Uniform(Duration::from_millis(10)), Loss::Random(0.005)),
);

/// A crowded channel of Wi-Fi on a good line: 2 % are lost, two or three in a row.
pub(crate) const WIFI: Network = everybody(
    "lossy Wi-Fi",
    direction(20_000_000, 5, Jitter::Exponential(Duration::from_millis(3)), LOSSY_AIR),
    direction(20_000_000, 5, Jitter::Exponential(Duration::from_millis(3)), LOSSY_AIR),
);
/// A burst begins at 0.82 % of the packets and has 2.5 on average, which makes 2 % of all.
const LOSSY_AIR: Loss = Loss::Bursts { begins: 0.0082, ends: 0.4 };

/// Half of the room beside the gateway, the other half 120 ms away: Europe and the far side of the Pacific.
pub(crate) const CONTINENT: Network = Network {
    name: "other continent",
    sides: [
        Some(Access { up: FIBRE, down: FIBRE }),
        Some(Access {
            up: direction(20_000_000, 120, Jitter::Uniform(Duration::from_millis(2)), Loss::Random(0.001)),
            down: direction(100_000_000, 120, Jitter::Uniform(Duration::from_millis(2)), Loss::Random(0.001)),
        }),
    ],
    crosses: true,
};
const FIBRE: Direction = direction(100_000_000, 3, Jitter::None, Loss::None);

/// A link of so much delay each way that varies by so much to both sides and loses nothing.
pub(crate) const fn wavering(delay_ms: u64, jitter_ms: u64) -> Access {
    leaky(delay_ms, jitter_ms, 0.0)
}

/// The same, but so many of a hundred packets are lost.
pub(crate) const fn leaky(delay_ms: u64, jitter_ms: u64, percent: f64) -> Access {
    let jitter = Jitter::Uniform(Duration::from_millis(jitter_ms));
    let way = direction(0, delay_ms, jitter, Loss::Random(percent / 100.0));
    Access { up: way, down: way }
}

impl Network {
    /// The link of the participant with this number.
    pub(crate) const fn access(&self, participant: usize) -> Option<Access> {
        self.sides[participant % 2]
    }
}

impl Access {
    /// The two links, up and down, whose luck follows from the seed.
    pub(crate) fn links(&self, seed: u64) -> (Link, Link) {
        (Link::new(self.up, seed.wrapping_mul(2)), Link::new(self.down, seed.wrapping_mul(2) + 1))
    }
}

/// One direction at work.
#[derive(Debug)]
pub(crate) struct Link {
    direction: Direction,
    luck: Luck,
    in_burst: bool,
    /// When the last packet accepted has left the queue.
    free_at: Option<Instant>,
    /// When the last packet arrives.
    last: Option<Instant>,
}

impl Link {
    fn new(direction: Direction, seed: u64) -> Self {
        Self { direction, luck: Luck(seed), in_burst: false, free_at: None, last: None }
    }

    /// When a datagram that is sent now arrives; `None` if it is lost. `bytes` are those of UDP's payload.
    pub(crate) fn pass(&mut self, now: Instant, bytes: usize) -> Option<Instant> {
        /// IPv4 and UDP.
        const HEADERS: usize = 28;
        let mut leaves = now;
        if self.direction.rate > 0 {
            let begins = self.free_at.map_or(now, |free| free.max(now));
            if begins - now > QUEUE {
                return None;
            }
            leaves = begins + Duration::from_secs_f64(((bytes + HEADERS) * 8) as f64 / self.direction.rate as f64);
            self.free_at = Some(leaves);
        }
        if self.loses() {
            return None;
        }
        let mut arrives = leaves + self.delay();
        if let Some(last) = self.last {
            arrives = arrives.max(last);
        }
        self.last = Some(arrives);
        Some(arrives)
    }

    fn loses(&mut self) -> bool {
        match self.direction.loss {
            Loss::None => false,
            Loss::Random(probability) => self.luck.draw() < probability,
            Loss::Bursts { begins, ends } => {
                let turn = self.luck.draw();
                self.in_burst = if self.in_burst { turn >= ends } else { turn < begins };
                self.in_burst
            }
        }
    }

    fn delay(&mut self) -> Duration {
        let delay = self.direction.delay;
        match self.direction.jitter {
            Jitter::None => delay,
            Jitter::Uniform(most) => delay.saturating_sub(most) + most.mul_f64(2.0 * self.luck.draw()),
            Jitter::Exponential(mean) => delay + mean.mul_f64(-(1.0 - self.luck.draw()).ln()),
        }
    }
}

/// Pseudo-random numbers that are the same in every run (SplitMix64).
#[derive(Debug)]
struct Luck(u64);

impl Luck {
    /// At least 0 and below 1.
    fn draw(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn link(direction: Direction) -> Link {
        Link::new(direction, 7)
    }

    #[test]
    fn packets_wait_for_those_before_them_at_the_rate_of_the_link() {
        let start = Instant::now();
        let mut link = link(direction(1_000_000, 15, Jitter::None, Loss::None));
        // 97 bytes and 28 of headers take a millisecond at 1 Mbit/s.
        assert_eq!(link.pass(start, 97), Some(start + 16 * MS));
        assert_eq!(link.pass(start, 97), Some(start + 17 * MS));
        assert_eq!(link.pass(start + 50 * MS, 97), Some(start + 66 * MS), "the queue is empty again");
    }

    #[test]
    fn a_full_queue_drops_what_comes() {
        let start = Instant::now();
        let mut link = link(direction(1_000_000, 0, Jitter::None, Loss::None));
        let accepted = (0..1000).filter(|_| link.pass(start, 97).is_some()).count();
        assert_eq!(accepted, 301, "300 ms are in the queue when the last one comes");
        assert!(link.pass(start + 100 * MS, 97).is_some(), "there is room again");
    }

    #[test]
    fn jitter_stays_in_its_bounds_and_keeps_the_order() {
        let start = Instant::now();
        let mut link = link(direction(0, 30, Jitter::Uniform(10 * MS), Loss::None));
        let mut last = start;
        let mut waits = Vec::new();
        for step in 0..1000 {
            let sent = start + step * 5 * MS;
            let arrives = link.pass(sent, 100).expect("nothing is lost here");
            assert!(arrives >= last);
            last = arrives;
            waits.push(arrives - sent);
        }
        assert!(waits.iter().all(|wait| (20 * MS..40 * MS).contains(wait)));
        assert!(waits.iter().max() > waits.iter().min().map(|least| *least + 15 * MS).as_ref(), "it does vary");
    }

    #[test]
    fn lossy_air_loses_two_percent_in_bursts() {
        let mut link = link(WIFI.access(0).expect("it has a link").up);
        let start = Instant::now();
        let lost: Vec<bool> = (0..200_000).map(|step| link.pass(start + step * MS, 100).is_none()).collect();
        let all = lost.iter().filter(|lost| **lost).count();
        let bursts = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count();
        assert!((3_600..4_400).contains(&all), "{all} of 200,000");
        assert!((2.2..2.8).contains(&(all as f64 / bursts as f64)), "{bursts} bursts");
    }

    #[test]
    fn the_same_seed_gives_the_same_luck_and_another_one_another() {
        let start = Instant::now();
        let fate = |seed| {
            let (mut up, _) = CELLULAR.access(0).expect("it has a link").links(seed);
            (0..50).map(|step| up.pass(start + step * 20 * MS, 100)).collect::<Vec<_>>()
        };
        assert_eq!(fate(3), fate(3));
        assert_ne!(fate(3), fate(4));
    }
}
