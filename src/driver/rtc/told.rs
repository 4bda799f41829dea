//! What a peer and the interceptors in its stack tell each other.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::driver::rtc::numbering::Passages;

/// Until it was measured: what is usual between two cities.
const USUAL_ROUND_TRIP_US: u64 = 100_000;

#[derive(Clone)]
pub(super) struct Told {
    /// Repetitions asked for and not granted, for whoever names the one who asked.
    pub(super) refused: Arc<AtomicU64>,
    /// The link is full.
    pub(super) is_full: Arc<AtomicBool>,
    /// What came to the receiver.
    pub(super) passages: Passages,
    round_trip_us: Arc<AtomicU64>,
}

impl Default for Told {
    fn default() -> Self {
        let round_trip_us = Arc::new(AtomicU64::new(USUAL_ROUND_TRIP_US));
        Self { refused: Arc::default(), is_full: Arc::default(), passages: Passages::default(), round_trip_us }
    }
}

impl Told {
    /// How long a packet took to the remote end and back.
    pub(super) fn note_round_trip(&self, measured: Duration) {
        let measured = u64::try_from(measured.as_micros()).unwrap_or(u64::MAX);
        let faded = self.round_trip_us.load(Ordering::Relaxed) / 8 * 7;
        self.round_trip_us.store(measured.max(faded), Ordering::Relaxed);
    }

    /// The longest lately: an answer is not overdue before that.
    pub(super) fn round_trip(&self) -> Duration {
        Duration::from_micros(self.round_trip_us.load(Ordering::Relaxed))
    }
}
