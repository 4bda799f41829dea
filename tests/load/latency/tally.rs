//! From packets sent and heard to figures: delay percentiles, and the loss that is left after recovery.

use std::collections::HashSet;
use std::time::Duration;

use crate::latency::media::Kind;
use crate::latency::media::Stamp;

/// What one participant noted while a room was measured.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) sent: Vec<Stamp>,
    /// How much later than it should each picture or piece of sound was sent.
    pub(crate) lateness: Vec<Duration>,
    /// With the time of arrival.
    pub(crate) heard: Vec<(Stamp, Duration)>,
}

/// The delay from publisher to subscriber in milliseconds, and the packets that never came in per cent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figures {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) loss: f64,
}

/// Figures of one kind over all paths from one participant to another that `counts` lets through. Only packets sent between `from`
/// and `to` count, and of those that came more than once the first. `None` if nothing was to be heard or nothing was.
pub(crate) fn tally(
    notes: &[Notes],
    kind: Kind,
    (from, to): (Duration, Duration),
    counts: impl Fn(usize, usize) -> bool,
) -> Option<Figures> {
    let in_time = |stamp: &Stamp| stamp.kind == kind && stamp.sent >= from && stamp.sent < to;
    let sent: Vec<u64> =
        notes.iter().map(|notes| notes.sent.iter().filter(|stamp| in_time(stamp)).count() as u64).collect();
    let mut expected = 0;
    let mut delays = Vec::new();
    for (subscriber, notes) in notes.iter().enumerate() {
        expected +=
            (0..sent.len()).filter(|&publisher| counts(publisher, subscriber)).map(|one| sent[one]).sum::<u64>();
        let mut known = HashSet::new();
        for (stamp, arrived) in notes.heard.iter().filter(|(stamp, _)| in_time(stamp)) {
            if counts(usize::from(stamp.publisher), subscriber) && known.insert((stamp.publisher, stamp.number)) {
                delays.push(arrived.saturating_sub(stamp.sent));
            }
        }
    }
    delays.sort_unstable();
    let percentile = |percent| at_percentile(&delays, percent).map(|delay| delay.as_secs_f64() * 1e3);
    Some(Figures {
        p50: percentile(50)?,
        p95: percentile(95)?,
        p99: percentile(99)?,
        loss: 100.0 * (1.0 - delays.len() as f64 / (expected as f64).max(1.0)),
    })
}

/// The nearest rank of something sorted.
pub(crate) fn at_percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn stamp(publisher: u16, number: u64, sent_ms: u32) -> Stamp {
        Stamp { publisher, kind: Kind::Audio, number, sent: sent_ms * MS }
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let sorted: Vec<Duration> = (1..=200).map(|n| n * MS).collect();
        assert_eq!(at_percentile(&sorted, 50), Some(100 * MS));
        assert_eq!(at_percentile(&sorted, 99), Some(198 * MS));
        assert_eq!(at_percentile(&sorted[..1], 99), Some(MS));
        assert_eq!(at_percentile(&[], 50), None);
    }

    #[test]
    fn a_packet_counts_once_with_its_first_arrival_and_what_never_came_is_loss() {
        let sent: Vec<Stamp> = (0..10).map(|n| stamp(0, n, 100 + u32::try_from(n).expect("small"))).collect();
        // Number 3 never comes, 5 comes late by recovery and then again.
        let mut heard: Vec<(Stamp, Duration)> =
            sent.iter().filter(|s| s.number != 3 && s.number != 5).map(|s| (*s, s.sent + 20 * MS)).collect();
        heard.push((sent[5], sent[5].sent + 150 * MS));
        heard.push((sent[5], sent[5].sent + 300 * MS));
        let notes = [Notes { sent, ..Notes::default() }, Notes { heard, ..Notes::default() }];
        let figures = tally(&notes, Kind::Audio, (Duration::ZERO, 1000 * MS), |a, b| a != b).expect("something came");
        assert_eq!((figures.p50, figures.p99), (20.0, 150.0));
        assert!((figures.loss - 10.0).abs() < 1e-9, "{}", figures.loss);
    }

    #[test]
    fn only_paths_that_count_and_packets_sent_in_time_are_looked_at() {
        let sent = vec![stamp(0, 0, 99), stamp(0, 1, 100), stamp(0, 2, 200)];
        let heard = sent.iter().map(|s| (*s, s.sent + MS)).collect();
        let own = sent.iter().map(|s| (*s, s.sent + 500 * MS)).collect();
        let notes =
            [Notes { sent, heard: own, ..Notes::default() }, Notes { heard, ..Notes::default() }, Notes::default()];
        let figures = tally(&notes, Kind::Audio, (100 * MS, 200 * MS), |a, b| (a, b) == (0, 1)).expect("one packet");
        assert_eq!((figures.p99, figures.loss), (1.0, 0.0));
        let figures = tally(&notes, Kind::Audio, (100 * MS, 200 * MS), |a, b| a != b).expect("one packet");
        assert!((figures.loss - 50.0).abs() < 1e-9, "the third heard nothing");
        assert_eq!(tally(&notes, Kind::Video, (100 * MS, 200 * MS), |a, b| a != b), None);
    }
}
