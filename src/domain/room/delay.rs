//! The delay table of a room: how late every participant hears every other, and whether they can play together.
//!
//! A path has four parts: half the round trip of the publisher's leg to the gateway, the gateway's own time, half the round trip of
//! the subscriber's leg, and what the subscriber's jitter buffer holds back. The gateway measures the legs itself; only the jitter
//! buffer is known to nobody but the subscriber.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::room::Room;
use crate::model::id::ConsumerId;
use crate::model::id::ParticipantId;
use crate::model::media::MediaKind;
use crate::model::opus;

/// Up to here a band plays as on a stage: 43 ms is what sound needs for 15 m.
const TOGETHER: Duration = Duration::from_millis(43);
/// Beyond this nobody keeps the time without tricks.
const APART: Duration = Duration::from_millis(68);
/// Longer round trips are clocks that jumped or reports that were held back, not paths.
const LONGEST: Duration = Duration::from_secs(10);
/// The least of so many measurements is the way: a busy machine answers late, and what the network holds up at times is what the
/// receiver's jitter buffer makes up for, which is counted there.
const LATEST: usize = 8;
/// What is usual is known from so many: half a minute.
const USUAL_OF: usize = 16;
/// Paths told to somebody at once, all those of sixteen people. In larger rooms each is told its own only.
const MOST_PATHS: usize = 16 * 15;

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
    /// In whole milliseconds, as people read it; the grade is that of the number they read.
    pub delay: Duration,
    /// What of it the receiver's jitter buffer holds back, in whole milliseconds; `None` if the receiver does not say, and then it is
    /// not in the delay.
    pub buffer: Option<Duration>,
    pub grade: Grade,
}

impl Path {
    fn new(from: ParticipantId, to: ParticipantId, network: Duration, buffer: Option<Duration>) -> Self {
        let delay = in_milliseconds(network + buffer.unwrap_or_default());
        Self { from, to, delay, buffer: buffer.map(in_milliseconds), grade: Grade::of(delay) }
    }
}

fn in_milliseconds(time: Duration) -> Duration {
    const HALF: Duration = Duration::from_micros(500);
    let rounded_up = time + HALF;
    rounded_up - Duration::from_nanos((rounded_up.subsec_nanos() % 1_000_000).into())
}

/// One of a participant's two ways to the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    /// What it sends goes here.
    Send,
    /// What it receives comes here.
    Recv,
}

/// The latest round trips of one leg, newest first.
#[derive(Clone, Debug, Default)]
struct Latest(VecDeque<Duration>);

impl Latest {
    fn note(&mut self, measured: Duration) {
        if self.0.len() == USUAL_OF {
            self.0.pop_back();
        }
        self.0.push_front(measured);
    }

    /// `None` until it was measured.
    fn least(&self) -> Option<Duration> {
        self.0.iter().take(LATEST).min().copied()
    }

    /// The mean without the quarters that are longest and shortest, which a busy machine may have made; `None` until it was measured.
    fn usual(&self) -> Option<Duration> {
        let mut sorted: Vec<Duration> = self.0.iter().copied().collect();
        sorted.sort_unstable();
        let quarter = sorted.len() / 4;
        let middle = &sorted[quarter..sorted.len() - quarter];
        middle.iter().sum::<Duration>().checked_div(u32::try_from(middle.len()).ok()?)
    }
}

/// The round trips of a participant's legs.
#[derive(Clone, Debug, Default)]
struct RoundTrips {
    send: Latest,
    recv: Latest,
}

impl RoundTrips {
    fn of(&mut self, leg: Leg) -> &mut Latest {
        match leg {
            Leg::Send => &mut self.send,
            Leg::Recv => &mut self.recv,
        }
    }

    /// A gateway with ICE-lite sends no checks and measures nothing on the leg that it only receives on; the other leg leads to the
    /// same machine.
    fn up(&self) -> Option<Duration> {
        self.send.least().or_else(|| self.recv.least())
    }
}

/// The delays of one room.
#[derive(Clone, Debug, Default)]
pub struct Delays {
    round_trips: BTreeMap<ParticipantId, RoundTrips>,
    /// What a receiver says that it holds back of a sender: by the sender, then the receiver.
    buffers: BTreeMap<(ParticipantId, ParticipantId), Duration>,
    processing: Duration,
    /// Whether the last table told had any paths.
    was_told: bool,
}

impl Delays {
    /// Notes a round trip between the gateway and a participant. One that no path has is left out.
    pub fn note_round_trip(&mut self, participant: ParticipantId, leg: Leg, measured: Duration) {
        if measured > LONGEST {
            return;
        }
        self.round_trips.entry(participant).or_default().of(leg).note(measured);
    }

    /// Notes what a receiver says that its jitter buffer holds back of a sender. An absurd one is left out.
    pub fn note_jitter_buffer(&mut self, from: ParticipantId, to: ParticipantId, reported: Duration) {
        if reported <= LONGEST {
            self.buffers.insert((from, to), reported);
        }
    }

    /// Notes how long the gateway keeps a packet.
    pub fn note_processing(&mut self, measured: Duration) {
        self.processing = measured;
    }

    /// Forgets a leg that takes another path from now on or is gone.
    pub fn forget_leg(&mut self, participant: ParticipantId, leg: Leg) {
        if let Some(round_trips) = self.round_trips.get_mut(&participant) {
            *round_trips.of(leg) = Latest::default();
        }
    }

    /// Forgets everything about a participant.
    pub fn forget(&mut self, participant: ParticipantId) {
        self.round_trips.remove(&participant);
        self.buffers.retain(|(from, to), _| *from != participant && *to != participant);
    }

    /// The path from one participant to another; `None` until both legs were measured, and from anybody to itself.
    pub fn path(&self, from: ParticipantId, to: ParticipantId) -> Option<Path> {
        let (source, sink) = (self.round_trips.get(&from)?, self.round_trips.get(&to)?);
        let network = source.up()? / 2 + self.processing + sink.recv.least()? / 2;
        let buffer = self.buffers.get(&(from, to)).copied();
        (from != to).then(|| Path::new(from, to, network, buffer))
    }

    /// From the gateway to a participant and back, over the leg that it sends on; `None` until it was measured.
    pub fn usual_round_trip(&self, participant: ParticipantId) -> Option<Duration> {
        let round_trips = self.round_trips.get(&participant)?;
        round_trips.send.usual().or_else(|| round_trips.recv.usual())
    }

    /// From when the gateway passes on what a leader plays to when it gets what a follower plays to that, without the follower's
    /// sound card. `None` until all of it was measured: a jitter buffer that is not told may hold back anything.
    ///
    /// What the network holds up is in it, as it usually is: on the way down that and what the jitter buffer waits on average are
    /// together what the buffer puts between a packet's sending and its playing.
    fn answer(&self, leader: ParticipantId, follower: ParticipantId) -> Option<Duration> {
        let RoundTrips { send, recv } = self.round_trips.get(&follower).filter(|_| leader != follower)?;
        let buffer = *self.buffers.get(&(leader, follower))?;
        let down = recv.usual()?;
        Some(self.processing + down / 2 + buffer + send.usual().unwrap_or(down) / 2)
    }
}

impl Room {
    /// Notes a round trip between the gateway and a participant.
    pub fn note_round_trip(&mut self, participant: ParticipantId, leg: Leg, measured: Duration) {
        if self.has(participant) {
            self.delays.note_round_trip(participant, leg, measured);
        }
    }

    /// Forgets a leg that takes another path from now on or is gone.
    pub fn forget_leg(&mut self, participant: ParticipantId, leg: Leg) {
        self.delays.forget_leg(participant, leg);
    }

    /// Notes how long the gateway keeps a packet.
    pub fn note_processing(&mut self, measured: Duration) {
        self.delays.note_processing(measured);
    }

    /// Notes what a participant says that the jitter buffers of its consumers of sound hold back. Those that are gone by now are left
    /// out, and so is whatever is not sound: a picture that comes late makes nobody play late.
    pub fn note_jitter_buffers(&mut self, participant: ParticipantId, reported: &[(ConsumerId, Duration)]) {
        for producer in self.producers.iter().filter(|p| p.info.kind == MediaKind::Audio && !p.is_programme()) {
            let own = producer.consumers.iter().find(|consumer| consumer.participant == participant);
            let told = own.and_then(|own| reported.iter().find(|(id, _)| *id == own.id));
            if let Some((_, buffer)) = told {
                self.delays.note_jitter_buffer(producer.info.participant, participant, *buffer);
            }
        }
    }

    /// The delay table as hosts see it, or as the others do, who do not hear the isolated: every path that is known from who sends
    /// sound, by sender and then by receiver.
    pub fn paths(&self, for_host: bool) -> Vec<Path> {
        let sends_sound = |id: ParticipantId| {
            self.producers
                .iter()
                .any(|p| p.info.kind == MediaKind::Audio && p.info.participant == id && (for_host || !p.isolated))
        };
        let everybody = || self.participants.iter().map(|p| p.id);
        let paths = everybody()
            .filter(|id| sends_sound(*id))
            .flat_map(|from| everybody().filter_map(move |to| self.delays.path(from, to)));
        paths.collect()
    }

    /// How late each of the programme's musicians is in it who plays in time with what it hears of `leader`, as far as it was measured:
    /// from when the gateway passes the leader's sound on, through the follower's decoder, to when a packet of the
    /// follower's sound is full and has come to the gateway. The leader's own way to the gateway delays both alike.
    ///
    /// The programme places everybody by their fastest packets. What holds up the leader's others delays all who hear them, and not
    /// the leader; what holds up a follower's own delays nothing.
    pub fn lateness(&self, leader: ParticipantId) -> Vec<(ParticipantId, Duration)> {
        let heard = |of: ParticipantId| {
            let own = self.producers.iter().filter(move |p| p.info.participant == of && p.is_in_programme());
            own.max_by_key(|producer| producer.piece)
        };
        let held_up = heard(leader).map_or(Duration::ZERO, |producer| producer.variation.usual());
        let late = |of: ParticipantId| {
            let own = heard(of)?;
            let answer = self.delays.answer(leader, of)?.saturating_sub(own.variation.usual());
            Some((of, held_up + answer + own.piece.unwrap_or_default() + opus::DELAY))
        };
        self.participants.iter().filter_map(|p| late(p.id)).collect()
    }

    /// Who is to be told which paths. That none is known is told once, when it begins.
    pub fn delays(&mut self) -> Vec<(ParticipantId, Arc<[Path]>)> {
        let for_hosts: Arc<[Path]> = self.paths(true).into();
        let is_anybody_isolated = self.participants.iter().any(|p| p.isolated);
        let for_all = if is_anybody_isolated { self.paths(false).into() } else { Arc::clone(&for_hosts) };
        let is_known = !for_hosts.is_empty();
        if !std::mem::replace(&mut self.delays.was_told, is_known) && !is_known {
            return Vec::new();
        }
        let told = |id: ParticipantId| {
            let paths = if self.is_host(id) { &for_hosts } else { &for_all };
            let own = |path: &&Path| path.from == id || path.to == id;
            if paths.len() > MOST_PATHS { paths.iter().filter(own).copied().collect() } else { Arc::clone(paths) }
        };
        self.participants.iter().map(|p| (p.id, told(p.id))).collect()
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
mod tests;
