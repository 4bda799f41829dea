//! How much one participant may say, and how fast.

use std::time::Duration;
use std::time::Instant;

/// What a conversation may take and how long it may be silent.
#[derive(Clone, Debug)]
pub struct Limits {
    /// From the opening of the socket to a successful `join`.
    pub join_timeout: Duration,
    /// Between two pings.
    pub ping_interval: Duration,
    /// Without any frame of the participant for this long the line is dead; two pings fit into it.
    pub silence: Duration,
    /// Frames that may arrive at once.
    pub burst: u32,
    /// Frames a second that may arrive for ever.
    pub per_second: u32,
    /// Calls waiting while one is carried out.
    pub max_waiting: usize,
    /// Messages waiting for a slow receiver.
    pub max_outbox: usize,
    /// Bytes waiting for a slow receiver.
    pub max_outbox_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            join_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(15),
            silence: Duration::from_secs(30),
            burst: 50,
            per_second: 20,
            max_waiting: 64,
            max_outbox: 256,
            max_outbox_bytes: 1 << 20,
        }
    }
}

/// A token bucket kept as one instant: the time at which it will be full again.
pub(super) struct Pace {
    interval: Duration,
    depth: Duration,
    full_at: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant, limits: &Limits) -> Self {
        let interval = Duration::from_secs(1) / limits.per_second.max(1);
        Self { interval, depth: interval * limits.burst.max(1), full_at: now }
    }

    /// Takes one token; `false` if there is none.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + self.interval;
        let there = full_at.duration_since(now) <= self.depth;
        if there {
            self.full_at = full_at;
        }
        there
    }
}
