//! The delay table of a room: how late every participant hears every other, and whether they can play together.
//!
//! A path has four parts: half the round trip of the publisher's leg to the gateway, the gateway's own time, half the round trip of
//! the subscriber's leg, and what the subscriber's jitter buffer holds back. The gateway measures the legs itself; only the jitter
//! buffer is known to nobody but the subscriber.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::id::ParticipantId;

/// Up to here a band plays as on a stage: 43 ms is what sound needs for 15 m.
const TOGETHER: Duration = Duration::from_millis(43);
/// Beyond this nobody keeps the time without tricks.
const APART: Duration = Duration::from_millis(68);
/// Longer round trips are clocks that jumped or reports that were held back, not paths.
const LONGEST: Duration = Duration::from_secs(10);
/// What a new measurement weighs, as for TCP (RFC 6298 section 2): an eighth.
const WEIGHT: u32 = 8;

/// How well two people can play together over a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// 43 ms or less.
    Green,
    /// 68 ms or less.
    Yellow,
    Red,
}

impl Grade {
    pub fn of(delay: Duration) -> Self {
        if delay <= TOGETHER {
            Self::Green
        } else if delay <= APART {
            Self::Yellow
        } else {
            Self::Red
        }
    }
}

/// From one participant's microphone to another's ears, without their sound cards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    pub from: ParticipantId,
    pub to: ParticipantId,
    pub delay: Duration,
    pub grade: Grade,
}

/// What is known of one participant.
#[derive(Clone, Debug, Default)]
struct Leg {
    /// Smoothed; `None` until it was measured.
    round_trip: Option<Duration>,
    /// As reported; 0 until it was.
    jitter_buffer: Duration,
}

/// The delays of one room.
#[derive(Clone, Debug, Default)]
pub struct Delays {
    legs: BTreeMap<ParticipantId, Leg>,
    processing: Duration,
}

impl Delays {
    /// Notes a round trip between the gateway and a participant. One that no path has is left out.
    pub fn note_round_trip(&mut self, participant: ParticipantId, measured: Duration) {
        if measured > LONGEST {
            return;
        }
        let leg = self.legs.entry(participant).or_default();
        leg.round_trip = Some(leg.round_trip.map_or(measured, |known| (known * (WEIGHT - 1) + measured) / WEIGHT));
    }

    /// Notes what a participant says that its jitter buffer holds back. An absurd one is left out.
    pub fn note_jitter_buffer(&mut self, participant: ParticipantId, reported: Duration) {
        if reported <= LONGEST {
            self.legs.entry(participant).or_default().jitter_buffer = reported;
        }
    }

    /// Notes how long the gateway keeps a packet.
    pub fn note_processing(&mut self, measured: Duration) {
        self.processing = measured;
    }

    /// Forgets the leg of a participant who takes another path or is gone.
    pub fn forget(&mut self, participant: ParticipantId) {
        self.legs.remove(&participant);
    }

    /// The smoothed round trip of a participant's leg.
    pub fn round_trip(&self, participant: ParticipantId) -> Option<Duration> {
        self.legs.get(&participant)?.round_trip
    }

    /// The path from one participant to another; `None` until both legs were measured, and from anybody to itself.
    pub fn path(&self, from: ParticipantId, to: ParticipantId) -> Option<Path> {
        let (source, sink) = (self.legs.get(&from)?, self.legs.get(&to)?);
        let delay = source.round_trip? / 2 + self.processing + sink.round_trip? / 2 + sink.jitter_buffer;
        (from != to).then(|| Path { from, to, delay, grade: Grade::of(delay) })
    }

    /// All paths that are known, by sender and then by receiver.
    pub fn paths(&self) -> impl Iterator<Item = Path> {
        self.legs.keys().flat_map(|from| self.legs.keys().filter_map(|to| self.path(*from, *to)))
    }
}

/// The round trip that a report block tells (RFC 3550 section 6.4.1): from the sending of our sender report to the arrival of the
/// block, less what the receiver kept it. All three are in units of 1/65536 s, as the block has them: `arrived` is the middle 32
/// bits of the NTP time, by the clock that stamped the sender report. `None` if the receiver has not had a report yet, or if the
/// clocks do not allow it.
pub fn round_trip_told(arrived: u32, last_sender_report: u32, delay_since: u32) -> Option<Duration> {
    if last_sender_report == 0 {
        return None;
    }
    let units = arrived.wrapping_sub(last_sender_report).wrapping_sub(delay_since);
    // A receiver that rounds its delay up on a short path ends a little below zero.
    let units = if units > u32::MAX / 2 { 0 } else { units };
    let round_trip = Duration::from_nanos((u64::from(units) * 1_000_000_000) >> 16);
    (round_trip <= LONGEST).then_some(round_trip)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Ada 20 ms from the gateway and back, Ben 60 ms, Cleo 10 ms.
    fn room() -> (Delays, [ParticipantId; 3]) {
        let people = [(); 3].map(|()| ParticipantId::generate());
        let mut delays = Delays::default();
        for (person, ms) in people.iter().zip([20, 60, 10]) {
            delays.note_round_trip(*person, ms * MS);
        }
        (delays, people)
    }

    #[test]
    fn a_path_is_half_of_both_legs_the_gateway_and_the_receivers_jitter_buffer() {
        let (mut delays, [ada, ben, cleo]) = room();
        delays.note_processing(MS);
        delays.note_jitter_buffer(ben, 25 * MS);
        let path = |from, to| delays.path(from, to).map(|path| path.delay);
        assert_eq!(path(ada, ben), Some((10 + 1 + 30 + 25) * MS));
        assert_eq!(
            path(ben, ada),
            Some((30 + 1 + 10) * MS),
            "its own buffer delays what Ben hears, not what others hear of Ben"
        );
        assert_eq!(path(ada, cleo), Some((10 + 1 + 5) * MS));
        assert_eq!(path(ada, ada), None);
    }

    #[test]
    fn the_bounds_of_the_grades_belong_to_the_better_one() {
        for (ms, grade) in
            [(0, Grade::Green), (43, Grade::Green), (44, Grade::Yellow), (68, Grade::Yellow), (69, Grade::Red)]
        {
            assert_eq!(Grade::of(ms * MS), grade, "{ms} ms");
        }
    }

    #[test]
    fn paths_are_known_once_both_legs_are_and_until_one_is_forgotten() {
        let (mut delays, [ada, ben, cleo]) = room();
        let dora = ParticipantId::generate();
        delays.note_jitter_buffer(dora, 40 * MS);
        assert_eq!(delays.paths().count(), 6, "of Dora only the jitter buffer is known");
        assert!(delays.path(ada, dora).is_none() && delays.path(dora, ada).is_none());
        delays.forget(ben);
        let left: Vec<_> = delays.paths().map(|path| (path.from, path.to)).collect();
        assert_eq!(left.len(), 2);
        assert!(left.contains(&(ada, cleo)) && left.contains(&(cleo, ada)));
    }

    #[test]
    fn a_round_trip_follows_its_measurements_and_no_absurd_one() {
        let (mut delays, [ada, ..]) = room();
        delays.note_round_trip(ada, Duration::from_secs(11));
        assert_eq!(delays.round_trip(ada), Some(20 * MS));
        delays.note_round_trip(ada, 100 * MS);
        assert_eq!(delays.round_trip(ada), Some(30 * MS), "one outlier weighs an eighth");
        for _ in 0..60 {
            delays.note_round_trip(ada, 100 * MS);
        }
        assert!(delays.round_trip(ada) > Some(99 * MS), "a new path is there after a minute of reports");
        delays.note_jitter_buffer(ada, Duration::MAX);
        assert!(delays.paths().all(|path| path.delay < Duration::from_secs(1)));
    }

    #[test]
    fn report_blocks_tell_the_round_trip() {
        // The example of RFC 3550 section 6.4.1, figure 2.
        let told = round_trip_told(0xb710_8000, 0xb705_2000, 0x0005_4000);
        assert_eq!(told, Some(Duration::from_millis(6125)));
        assert_eq!(
            round_trip_told(0x0000_8000, 0xffff_8000, 0x0000_4000),
            Some(Duration::from_millis(750)),
            "time wraps"
        );
        assert_eq!(
            round_trip_told(0x0010_0000, 0x000f_0000, 0x0001_0003),
            Some(Duration::ZERO),
            "the delay was rounded up"
        );
        assert_eq!(round_trip_told(0x0010_0000, 0, 0), None, "no sender report has come yet");
        assert_eq!(round_trip_told(0x7010_0000, 0x0010_0000, 0), None, "hours are no round trip");
    }
}
