//! A picture's passage to the audience as it came: when it may begin, what is passed on, and when pictures are composed again. In
//! virtual time.
//!
//! While pictures are passed on nothing is decoded. The packets since the last keyframe are kept, so that a decoder that is needed again
//! catches up at once; until it has, whole pictures are still passed on. All times are running times in nanoseconds.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::mixer::MILLISECOND;
use crate::mixer::SECOND;
use crate::mixer::source::packet::Header;
use crate::mixer::source::packet::payload;
use crate::model::h264::Sequence;
use crate::model::spec::ProgrammeSpec;
use crate::proto::h264::Depacketizer;
use crate::proto::h264::Unit;

/// A picture is passed on after it has fitted for this long, and its rates are those of this long.
const CALM: i64 = 3 * SECOND / 2;
const WINDOW: i64 = 2 * SECOND;

/// After a passage had to end, because something was missing or did not fit, the next one begins no sooner.
const BARRED: i64 = 5 * SECOND;

/// From when a picture should have been there to when it is not waited for: what comes later than this has missed its turn.
const STALL: i64 = 20 * MILLISECOND;

/// A decoder that has not caught up by then shows what it has: the encoder takes a second of pictures at once.
const CATCHING_UP: i64 = 700 * MILLISECOND;

/// A keyframe is asked for so long before it is needed, for the way there and back.
const ASKED_EARLY: i64 = 100 * MILLISECOND;

/// Between two requests for a keyframe.
const ASK_AGAIN: i64 = SECOND / 2;

/// Somebody who waits for a keyframe gets one from the encoder if the sender gives none by then.
const FORCED: i64 = SECOND;

/// Of the programme's bitrate: encoders of browsers meet theirs by about so much.
const MOST_PERCENT: i64 = 120;

/// Of the programme's frame rate.
const LEAST_FPS_PERCENT: i64 = 80;
const MOST_FPS_PERCENT: i64 = 110;

/// Bytes of packets since the last keyframe; a decoder's entry takes 4 MB.
const MOST_KEPT: usize = 3_500_000;

/// Profiles that decoders everywhere know: baseline, main, high.
const PROFILES: [u8; 3] = [66, 77, 100];

/// What pictures must be to be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mixer) struct Limits {
    width: u32,
    height: u32,
    fps: i64,
    kbps: i64,
    /// Between two keyframes.
    keyframes: i64,
}

impl From<&ProgrammeSpec> for Limits {
    fn from(spec: &ProgrammeSpec) -> Self {
        Self {
            width: spec.width,
            height: spec.height,
            fps: i64::from(spec.fps.max(1)),
            kbps: i64::from(spec.video_kbps),
            keyframes: i64::from(spec.keyframe_interval_s) * SECOND,
        }
    }
}

/// Where a passage leads: the programme, and the decoder beside it.
pub(in crate::mixer) trait Outlet {
    /// Composes no picture for this time or later. Not if one is composed already, or too near to it.
    fn stop_composing_at(&mut self, due: i64) -> bool;
    /// Composes again, from the picture on that follows the one of this time.
    fn compose_after(&mut self, last: i64);
    /// To the audience. Of a keyframe `record` says how it is decoded.
    fn pass(&mut self, unit: Unit<i64>, record: &Bytes);
    fn decode(&mut self, packet: Bytes, due: i64, discontinued: bool);
}

/// See the file.
#[derive(Debug)]
pub(in crate::mixer) struct Passage {
    limits: Limits,
    wanted: bool,
    units: Depacketizer<i64>,
    group: Group,
    /// Times and sizes of the pictures that fitted, without a break.
    recent: VecDeque<(i64, usize)>,
    newest: Option<i64>,
    state: State,
    barred_until: i64,
    asked_at: Option<i64>,
    /// How late the latest picture was since the last look.
    lateness: Option<i64>,
}

#[derive(Debug)]
enum State {
    /// Pictures are composed of what is decoded.
    Watching,
    Passing(Passed),
    /// The decoder catches up.
    Returning {
        passed: Passed,
        /// Pictures are still passed on.
        passes: bool,
        until: i64,
    },
}

/// What has been passed on.
#[derive(Clone, Debug)]
struct Passed {
    last: i64,
    key: i64,
    record: Bytes,
    /// Since when somebody waits for a keyframe.
    forced: Option<i64>,
}

/// The packets since the last keyframe.
#[derive(Debug, Default)]
struct Group {
    packets: Vec<(Bytes, i64, bool)>,
    bytes: usize,
    /// So many of them went to the decoder.
    decoded: usize,
    /// The decoder misses what came before the first of them.
    skipped: bool,
    /// Where the newest unit begins, and its RTP time.
    begin: usize,
    timestamp: Option<u32>,
}

impl Passage {
    pub(in crate::mixer) fn new(limits: Limits) -> Self {
        Self {
            limits,
            wanted: true,
            units: Depacketizer::default(),
            group: Group::default(),
            recent: VecDeque::new(),
            newest: None,
            state: State::Watching,
            barred_until: i64::MIN,
            asked_at: None,
            lateness: None,
        }
    }

    /// Follows the scene: `None` if the picture is to be composed.
    pub(in crate::mixer) fn want(&mut self, limits: Option<Limits>, now: i64, outlet: &mut impl Outlet) {
        self.wanted = limits.is_some();
        self.limits = limits.unwrap_or(self.limits);
        if !self.wanted {
            self.give_up(now, true, outlet);
        }
    }

    /// Whether nothing is decoded.
    pub(in crate::mixer) const fn is_passing(&self) -> bool {
        matches!(self.state, State::Passing(_))
    }

    /// Whether pictures are composed, of what has been decoded in time.
    pub(in crate::mixer) const fn is_watching(&self) -> bool {
        matches!(self.state, State::Watching)
    }

    /// Whether the scene still wants it or it has to be brought to its end.
    pub(in crate::mixer) const fn is_needed(&self) -> bool {
        self.wanted || !self.is_watching()
    }

    /// Somebody waits for a keyframe. `false` if the encoder makes it.
    pub(in crate::mixer) fn force_keyframe(&mut self, now: i64) -> bool {
        let State::Passing(passed) = &mut self.state else { return false };
        passed.forced.get_or_insert(now);
        true
    }

    /// How much later than it was due the latest picture was passed on since the last call.
    pub(in crate::mixer) fn take_lateness(&mut self) -> Option<i64> {
        self.lateness.take()
    }

    /// The decoder is another one, which knows nothing yet.
    pub(in crate::mixer) fn decode_anew(&mut self) {
        self.group.decoded = 0;
        self.group.skipped = true;
    }

    /// Takes the next packet in sequence; `lost` says that some before it are missing.
    pub(in crate::mixer) fn packet(&mut self, now: i64, packet: Bytes, due: i64, lost: bool, outlet: &mut impl Outlet) {
        let Some(header) = Header::read(&packet) else { return };
        if lost {
            self.units.lost();
            self.flaw();
        }
        let units = self.units.push(payload(&packet).unwrap_or_default(), header.timestamp, header.marker, due);
        self.group.push(packet, due, lost, header.timestamp);
        if !self.is_passing() {
            self.group.decode(outlet);
        } else if lost || self.group.bytes > MOST_KEPT {
            self.break_off(now, outlet);
        }
        for unit in units {
            self.unit(now, unit, outlet);
        }
    }

    /// Moves on. `decoded` is the time of the newest decoded picture. Says whether the sender is to be asked for a keyframe.
    pub(in crate::mixer) fn advance(&mut self, now: i64, decoded: i64, outlet: &mut impl Outlet) -> bool {
        match &self.state {
            State::Watching => {}
            State::Passing(passed) => {
                let stalled = now > passed.last + self.frame() + STALL;
                let overdue = passed.last - passed.key > 2 * self.limits.keyframes
                    || passed.forced.is_some_and(|since| now - since > FORCED);
                if stalled || overdue {
                    self.break_off(now, outlet);
                }
            }
            State::Returning { passed, until, .. } => {
                let caught_up = self.newest.is_none_or(|newest| decoded + self.frame() * 5 / 2 >= newest);
                if caught_up || now >= *until {
                    outlet.compose_after(passed.last);
                    self.state = State::Watching;
                }
            }
        }
        self.asks(now)
    }

    /// Ends at once: the picture leaves the programme.
    pub(in crate::mixer) fn end(&mut self, outlet: &mut impl Outlet) {
        if let State::Passing(passed) | State::Returning { passed, .. } = &self.state {
            outlet.compose_after(passed.last);
        }
        self.state = State::Watching;
    }

    fn asks(&mut self, now: i64) -> bool {
        let wants = match &self.state {
            State::Watching => self.may_begin(now),
            State::Passing(passed) => {
                passed.forced.is_some() || passed.last - passed.key >= self.limits.keyframes - ASKED_EARLY
            }
            State::Returning { .. } => false,
        };
        let asks = wants && self.asked_at.is_none_or(|at| now - at >= ASK_AGAIN);
        if asks {
            self.asked_at = Some(now);
        }
        asks
    }

    fn unit(&mut self, now: i64, unit: Unit<i64>, outlet: &mut impl Outlet) {
        if unit.key {
            self.group.begin_with_newest();
        }
        let step = self.newest.replace(unit.due).map(|newest| unit.due - newest);
        let steady = step.is_some_and(|step| step > self.frame() / 4 && step <= self.frame() * 5 / 2);
        let record = self.units.parameters().filter(|known| self.is_of_its_kind(known.sequence));
        let record = record.map(|known| known.record.clone());
        let Some(record) = record.filter(|_| steady && unit.plain && unit.follows) else {
            self.flaw();
            self.break_off(now, outlet);
            return;
        };
        self.recent.push_back((unit.due, unit.data.len()));
        while self.recent.front().is_some_and(|(due, _)| unit.due - due > WINDOW) {
            self.recent.pop_front();
        }
        let known = match &self.state {
            State::Watching => {
                if unit.key && self.may_begin(now) && outlet.stop_composing_at(unit.due) {
                    let passed = Passed { last: unit.due, key: unit.due, record, forced: None };
                    self.pass(now, unit, passed, outlet);
                }
                return;
            }
            State::Passing(passed) | State::Returning { passed, passes: true, .. } => passed.clone(),
            State::Returning { .. } => return,
        };
        // Parameters come with a keyframe, or the units behind it are decoded with the wrong ones.
        if !(unit.key || record == known.record) || !self.has_its_rates() {
            self.break_off(now, outlet);
            return;
        }
        let key = if unit.key { unit.due } else { known.key };
        let forced = known.forced.filter(|_| !unit.key);
        self.pass(now, unit.clone(), Passed { last: unit.due, key, record, forced }, outlet);
    }

    fn pass(&mut self, now: i64, unit: Unit<i64>, passed: Passed, outlet: &mut impl Outlet) {
        self.lateness = self.lateness.max(Some(now - unit.due));
        outlet.pass(unit, &passed.record);
        match &mut self.state {
            State::Returning { passed: last, .. } => *last = passed,
            State::Watching | State::Passing(_) => self.state = State::Passing(passed),
        }
    }

    /// Something was missing or did not fit.
    fn break_off(&mut self, now: i64, outlet: &mut impl Outlet) {
        if !self.is_watching() {
            self.barred_until = now + BARRED;
            self.flaw();
        }
        self.give_up(now, false, outlet);
    }

    /// Has pictures decoded again; they are passed on until they are, if `passes`.
    fn give_up(&mut self, now: i64, passes: bool, outlet: &mut impl Outlet) {
        match &mut self.state {
            State::Watching => {}
            State::Passing(passed) => {
                self.state = State::Returning { passed: passed.clone(), passes, until: now + CATCHING_UP };
                self.group.decode(outlet);
            }
            State::Returning { passes: still, .. } => *still &= passes,
        }
    }

    fn flaw(&mut self) {
        self.recent.clear();
    }

    fn may_begin(&self, now: i64) -> bool {
        let since = self.recent.front().zip(self.recent.back()).map_or(0, |(first, last)| last.0 - first.0);
        self.wanted && now >= self.barred_until && since >= CALM && self.has_its_rates()
    }

    fn has_its_rates(&self) -> bool {
        let (Some((first, _)), Some((last, _))) = (self.recent.front(), self.recent.back()) else { return true };
        let span = last - first;
        if span < CALM {
            // A passage begins after as long, and one that goes on is judged by as much.
            return true;
        }
        let pictures = self.recent.len() as i64 - 1;
        let fps_percent = pictures * SECOND * 100 / span / self.limits.fps;
        let bits = self.recent.iter().skip(1).map(|(_, bytes)| *bytes as i64 * 8).sum::<i64>();
        let kbps = bits * (SECOND / 1000) / span;
        (LEAST_FPS_PERCENT..=MOST_FPS_PERCENT).contains(&fps_percent) && kbps * 100 <= self.limits.kbps * MOST_PERCENT
    }

    fn is_of_its_kind(&self, sequence: Sequence) -> bool {
        let size = (sequence.width, sequence.height) == (self.limits.width, self.limits.height);
        size && sequence.square && sequence.progressive && PROFILES.contains(&sequence.profile)
    }

    const fn frame(&self) -> i64 {
        SECOND / self.limits.fps
    }
}

impl Group {
    fn push(&mut self, packet: Bytes, due: i64, lost: bool, timestamp: u32) {
        if self.timestamp.replace(timestamp) != Some(timestamp) {
            self.begin = self.packets.len();
        }
        self.bytes += packet.len();
        self.packets.push((packet, due, lost));
        // Without a keyframe for so long there is nothing to catch up with.
        if self.bytes > 2 * MOST_KEPT {
            *self = Self { timestamp: self.timestamp, skipped: self.skipped, ..Self::default() };
        }
    }

    /// The newest unit is a keyframe: what came before is not needed any more.
    fn begin_with_newest(&mut self) {
        let begin = std::mem::take(&mut self.begin);
        self.skipped |= self.decoded < begin;
        self.packets.drain(..begin);
        self.decoded = self.decoded.saturating_sub(begin);
        self.bytes = self.packets.iter().map(|(packet, ..)| packet.len()).sum();
    }

    /// What is not decoded yet goes to the decoder.
    fn decode(&mut self, outlet: &mut impl Outlet) {
        for (packet, due, lost) in self.packets.iter().skip(self.decoded) {
            let skipped = std::mem::take(&mut self.skipped);
            outlet.decode(packet.clone(), *due, *lost || skipped);
        }
        self.decoded = self.packets.len();
    }
}

#[cfg(test)]
mod tests;
