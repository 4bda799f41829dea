//! When a packet's media is due: RTP times mapped to the machine's monotonic clock, the same for all tracks of a source.
//!
//! Every track maps its RTP clock by a *shift*: due = media time + shift. The sound of a source leads: it stands the playout delay behind
//! the fastest arrival and only ever glides, except in its first moments. The picture follows and steps, because the eye forgives a
//! step that the ear would not. With sender reports of both, the distance between the two shifts is known to the millisecond; until
//! then both are taken to have travelled equally long, which is true to some 10 ms for what comes from one sender over one network.

use std::collections::VecDeque;

use crate::mixer::MILLISECOND;
use crate::mixer::SECOND;
use crate::mixer::source::playout;
use crate::model::media::MediaKind;

/// How far back the fastest arrival is remembered: long enough to hold one packet that found all queues empty, short enough to
/// follow sender clocks that drift (100 ppm is 3 ms in this time).
const WINDOW_S: i64 = 30;

/// Glide of a shift: 5 ms each second is 0.5 %, under the 8 cents of pitch that trained ears notice.
const GLIDE_PER_SECOND: i64 = 5 * MILLISECOND;

/// A track steps to its place for this long after its first packet: the first ones of a sender that is still starting come 100 ms
/// late and more, and gliding that off would take half a minute. The same after a silence as long: nobody hears where it ended.
pub(in crate::mixer) const YOUNG: i64 = 2 * SECOND;

/// Errors of a young track that are glided off all the same.
const SMALL: i64 = 5 * MILLISECOND;

/// A target further away than this is another timeline, not an error to glide off: it is stepped to.
const NEW_TIMELINE: i64 = SECOND;

/// A sender report that places media this far from its arrival is not believed.
const BELIEVABLE: i64 = SECOND;

/// 36 years. A sender that leaps for hours gets this far from where it began; sums of a few such times still fit.
const FAR: i64 = 1 << 60;

/// Reports of which the median is believed: a browser on a busy machine stamps some of them 10 ms late.
const REPORTS: usize = 5;

/// A report that moves a track's media by more than this means that the sender's clock was set; reports wander by 5 ms.
const CLOCK_SET: i64 = 100 * MILLISECOND;

/// A media time that jumps this far against its arrival is a sender that began anew.
const JUMP: i64 = 2 * SECOND;

/// Without sound for this long the picture goes by itself.
const LEADERLESS: i64 = 5 * SECOND;

/// The smallest value of the last [`WINDOW_S`] seconds, in buckets of one second.
#[derive(Debug, Default)]
struct Floor {
    buckets: VecDeque<(i64, i64)>,
}

impl Floor {
    fn add(&mut self, now: i64, value: i64) {
        let second = now.div_euclid(SECOND);
        match self.buckets.back_mut() {
            Some((bucket, least)) if *bucket >= second => *least = value.min(*least),
            Some(_) | None => self.buckets.push_back((second, value)),
        }
        while self.buckets.front().is_some_and(|(bucket, _)| second - bucket >= WINDOW_S) {
            self.buckets.pop_front();
        }
    }

    fn least(&self) -> Option<i64> {
        self.buckets.iter().map(|(_, least)| *least).min()
    }
}

/// What the tracks of one source share.
#[derive(Debug)]
pub(in crate::mixer) struct SharedClock {
    /// From a packet's fastest possible arrival to its place in the programme.
    playout: i64,
    /// Arrival minus the sender's NTP time, of all tracks with a report of this era.
    offset: Floor,
    /// How often the sender's clock was set. Reports of different eras cannot be held against each other.
    era: u32,
    lead: Option<Lead>,
}

impl Default for SharedClock {
    fn default() -> Self {
        Self::at(playout::FIRST)
    }
}

impl SharedClock {
    /// One whose sound begins at this distance from its fastest arrival.
    pub(in crate::mixer) fn at(playout: i64) -> Self {
        Self { playout, offset: Floor::default(), era: 0, lead: None }
    }

    /// The source's sound glides to this distance from its fastest arrival, and its picture with it.
    pub(in crate::mixer) const fn set_playout(&mut self, playout: i64) {
        self.playout = playout;
    }
}

/// Where the sound of a source stands.
#[derive(Clone, Copy, Debug)]
struct Lead {
    shift: i64,
    /// From its fastest arrival to its place.
    playout: i64,
    report: Option<Report>,
    at: i64,
}

/// A sender report.
#[derive(Clone, Copy, Debug)]
struct Report {
    /// NTP time minus media time.
    offset: i64,
    era: u32,
}

/// One track's RTP clock.
#[derive(Debug)]
pub(in crate::mixer) struct TrackClock {
    kind: MediaKind,
    rate: i64,
    /// Media ticks of the newest RTP time, free of wraps.
    newest: Option<i64>,
    /// Arrival minus media time.
    arrival: Floor,
    /// The latest offsets that were reported, oldest first, and their median.
    reported: VecDeque<i64>,
    report: Option<Report>,
    place: Option<Place>,
    /// A picture's shift minus that of its sound, as their reports said last.
    behind_lead: Option<i64>,
    /// The last answer: packets of one frame share their RTP time and must share their due time.
    last: Option<(i64, i64)>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    shift: i64,
    moved_at: i64,
    young_until: i64,
}

impl TrackClock {
    /// `rate` is the RTP clock rate in Hz.
    pub(in crate::mixer) fn new(kind: MediaKind, rate: u32) -> Self {
        Self {
            kind,
            rate: i64::from(rate.max(1)),
            newest: None,
            arrival: Floor::default(),
            reported: VecDeque::new(),
            report: None,
            place: None,
            behind_lead: None,
            last: None,
        }
    }

    /// A sender report: the 64-bit NTP time of an RTP time (RFC 3550 section 6.4.1).
    pub(in crate::mixer) fn sender_report(&mut self, shared: &mut SharedClock, ntp: u64, rtp: u32) {
        let ticks = self.unwrap(rtp);
        // A report may come before the first packet, and the RTP time may wrap between the two.
        self.newest.get_or_insert(ticks);
        let offset = ntp_nanoseconds(ntp) - self.nanoseconds(ticks);
        let was_set = |old: Report| old.era == shared.era && (offset - old.offset).abs() > CLOCK_SET;
        if self.report.is_some_and(was_set) {
            shared.era = shared.era.wrapping_add(1);
            shared.offset = Floor::default();
        }
        if self.report.is_some_and(|old| old.era != shared.era || (offset - old.offset).abs() > CLOCK_SET) {
            self.reported.clear();
        }
        if self.reported.len() == REPORTS {
            self.reported.pop_front();
        }
        self.reported.push_back(offset);
        let mut sorted: Vec<i64> = self.reported.iter().copied().collect();
        sorted.sort_unstable();
        self.report = Some(Report { offset: sorted[(sorted.len() - 1) / 2], era: shared.era });
    }

    /// The monotonic time in nanoseconds at which the media of RTP time `rtp`, arrived at `arrival`, is due in the programme.
    pub(in crate::mixer) fn due(&mut self, shared: &mut SharedClock, arrival: i64, rtp: u32) -> i64 {
        let mut ticks = self.unwrap(rtp);
        self.newest = Some(self.newest.map_or(ticks, |newest| newest.max(ticks)));
        if let Some((last_ticks, due)) = self.last
            && last_ticks == ticks
        {
            return due;
        }
        let lag = arrival - self.nanoseconds(ticks);
        if self.arrival.least().is_some_and(|least| (lag - least).abs() > JUMP) {
            ticks = self.begin_anew(rtp);
        }
        let media = self.nanoseconds(ticks);
        let lag = arrival - media;
        self.arrival.add(arrival, lag);
        if let Some(report) = self.report.filter(|report| report.era == shared.era) {
            shared.offset.add(arrival, lag - report.offset);
        }
        let fastest = self.arrival.least().unwrap_or(lag);
        let shift = match self.follow(shared, fastest, arrival) {
            Some(shift) => self.step_to(shift, arrival),
            None => self.glide_to(self.target(shared, fastest), arrival),
        };
        if self.kind == MediaKind::Audio {
            let playout = shift - fastest;
            shared.lead = Some(Lead { shift, playout, report: self.report, at: arrival });
        }
        let due = media + shift;
        self.last = Some((ticks, due));
        due
    }

    /// Where the sound wants to be, and a picture without one. `fastest` is the least arrival minus media time.
    fn target(&self, shared: &SharedClock, fastest: i64) -> i64 {
        let report = self.report.filter(|report| report.era == shared.era);
        let reported = report.zip(shared.offset.least()).map(|(report, least)| report.offset + least);
        reported.filter(|shift| (shift - fastest).abs() < BELIEVABLE).unwrap_or(fastest) + shared.playout
    }

    /// Where a picture is in step with its sound.
    fn follow(&mut self, shared: &SharedClock, fastest: i64, now: i64) -> Option<i64> {
        let lead = shared.lead.filter(|lead| self.kind == MediaKind::Video && now - lead.at < LEADERLESS)?;
        if let Some((report, leads)) = self.report.zip(lead.report).filter(|(own, leads)| own.era == leads.era) {
            self.behind_lead = Some(report.offset - leads.offset);
        }
        // A sender that sets its clock says so in one report after the other; until both have, the last distance holds.
        // A sound that began anew since is further away than anybody believes.
        let reported = self.behind_lead.map(|distance| lead.shift + distance);
        let travelled_alike = fastest + lead.playout;
        Some(reported.filter(|shift| (shift - travelled_alike).abs() < BELIEVABLE).unwrap_or(travelled_alike))
    }

    fn glide_to(&mut self, target: i64, now: i64) -> i64 {
        let Some(place) = self.place else { return self.step_to(target, now) };
        let error = target - place.shift;
        let is_young = now < place.young_until || now - place.moved_at > YOUNG;
        if error.abs() >= NEW_TIMELINE || (is_young && error.abs() > SMALL) {
            return self.step_to(target, now);
        }
        let elapsed = (now - place.moved_at).clamp(0, SECOND);
        let most = elapsed * GLIDE_PER_SECOND / SECOND;
        self.step_to(place.shift + error.clamp(-most, most), now)
    }

    fn step_to(&mut self, shift: i64, now: i64) -> i64 {
        let place = self.place.filter(|place| now - place.moved_at <= YOUNG);
        let young_until = place.map_or(now + YOUNG, |place| place.young_until);
        let moved_at = place.map_or(now, |place| place.moved_at.max(now));
        self.place = Some(Place { shift, moved_at, young_until });
        shift
    }

    /// A new timeline begins at `rtp`. Its times are small again, however far the sender has leapt before.
    fn begin_anew(&mut self, rtp: u32) -> i64 {
        let ticks = i64::from(rtp);
        self.newest = Some(ticks);
        self.arrival = Floor::default();
        self.reported.clear();
        self.report = None;
        self.place = None;
        self.behind_lead = None;
        ticks
    }

    /// RTP times are 32 bits; the one nearest to the newest is meant.
    fn unwrap(&self, rtp: u32) -> i64 {
        match self.newest {
            Some(newest) => newest + i64::from(rtp.wrapping_sub(newest as u32).cast_signed()),
            None => i64::from(rtp),
        }
    }

    /// Ticks as time, within 36 years of zero, so that no sum of such times can overflow.
    fn nanoseconds(&self, ticks: i64) -> i64 {
        let product = i128::from(ticks) * i128::from(SECOND) / i128::from(self.rate);
        product.clamp(-i128::from(FAR), i128::from(FAR)) as i64
    }
}

/// NTP's 32.32 fixed-point seconds since 1900 as nanoseconds.
fn ntp_nanoseconds(ntp: u64) -> i64 {
    let seconds = (ntp >> 32).cast_signed();
    let fraction = ((ntp & 0xffff_ffff) * SECOND.unsigned_abs()) >> 32;
    seconds * SECOND + fraction.cast_signed()
}

#[cfg(test)]
mod tests;
