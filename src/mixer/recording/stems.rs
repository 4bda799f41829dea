//! The musicians' own tracks, each into a file beside the programme. They have clocks and queues of their own: nothing that happens
//! here reaches the programme.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::mixer::SECOND;
use crate::mixer::outbox::Outbox;
use crate::mixer::pipelines::Pipelines;
use crate::mixer::recording::stem::Track;
use crate::mixer::recording::stem::Zero;
use crate::mixer::source::packet::Header;
use crate::mixer::source::playout;
use crate::mixer::source::reorder::Next;
use crate::mixer::source::reorder::Reorder;
use crate::mixer::source::timing::SharedClock;
use crate::mixer::source::timing::TrackClock;
use crate::mixer::unix_ms;
use crate::model::id::SourceId;
use crate::model::id::TrackId;
use crate::model::scene::Stem as Wanted;
use crate::proto::mixer::Report;
use crate::proto::mixer::TappedPacket;

/// Files at once: the tracks of all sources that a programme holds, with a second microphone for each.
const MOST_STEMS: usize = 48;

/// A missing packet is waited for this long: nobody listens yet, and what is repeated late is in time here.
const WAIT: i64 = SECOND;

/// Between two requests for a keyframe of one track.
const ASK_AGAIN: i64 = SECOND;

/// See the file.
#[derive(Debug)]
pub(in crate::mixer) struct Stems {
    pipelines: Arc<Pipelines>,
    stems: Vec<Stem>,
    closing: Vec<Track>,
    clocks: BTreeMap<SourceId, SharedClock>,
    zero: Option<Zero>,
}

#[derive(Debug)]
struct Stem {
    wanted: Wanted,
    pipelines: Arc<Pipelines>,
    clock: TrackClock,
    packets: Reorder<Bytes>,
    lost: bool,
    asked_at: i64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// No media yet, and no file.
    Waiting,
    Writing(Box<Track>),
    /// It failed and is not tried again.
    Over,
}

impl Stems {
    pub(in crate::mixer) const fn new(pipelines: Arc<Pipelines>) -> Self {
        Self { pipelines, stems: Vec::new(), closing: Vec::new(), clocks: BTreeMap::new(), zero: None }
    }

    /// Writes these stems and no others; one that failed is not tried again. `reports` are the newest sender reports of all tracks.
    pub(in crate::mixer) fn reconcile(
        &mut self,
        wanted: &[Wanted],
        reports: &BTreeMap<TrackId, (u64, u32)>,
        outbox: &Outbox,
    ) {
        let wanted = &wanted[..wanted.len().min(MOST_STEMS)];
        let (kept, gone) =
            std::mem::take(&mut self.stems).into_iter().partition::<Vec<_>, _>(|stem| wanted.contains(&stem.wanted));
        self.stems = kept;
        let ended: Vec<_> = gone.into_iter().filter_map(|stem| self.end(stem, outbox)).collect();
        self.closing.extend(ended);
        self.clocks.retain(|source, _| wanted.iter().any(|stem| stem.source == *source));
        for wanted in wanted {
            if self.stems.iter().any(|stem| stem.wanted == *wanted) {
                continue;
            }
            let codec = wanted.track.codec;
            let mut clock = TrackClock::new(codec.kind(), codec.clock_rate());
            if let Some((ntp, rtp)) = reports.get(&wanted.track.track) {
                clock.sender_report(self.clocks.entry(wanted.source).or_default(), *ntp, *rtp);
            }
            self.stems.push(Stem {
                wanted: wanted.clone(),
                pipelines: Arc::clone(&self.pipelines),
                clock,
                packets: Reorder::new(),
                lost: false,
                asked_at: i64::MIN / 2,
                stage: Stage::Waiting,
            });
        }
    }

    pub(in crate::mixer) fn sender_report(&mut self, track: TrackId, ntp: u64, rtp: u32) {
        for stem in self.stems.iter_mut().filter(|stem| stem.wanted.track.track == track) {
            stem.clock.sender_report(self.clocks.entry(stem.wanted.source).or_default(), ntp, rtp);
        }
    }

    pub(in crate::mixer) fn packet(&mut self, tapped: &TappedPacket) {
        let Some(stem) = self.stems.iter_mut().find(|stem| stem.wanted.track.track == tapped.track) else { return };
        let Some(header) = Header::read(&tapped.packet) else { return };
        if header.payload_type != stem.wanted.track.payload_type || matches!(stem.stage, Stage::Over) {
            return;
        }
        let arrival = i64::try_from(tapped.arrival_us).unwrap_or(i64::MAX / 1000).saturating_mul(1000);
        let due = stem.clock.due(self.clocks.entry(stem.wanted.source).or_default(), arrival, header.timestamp);
        if let Err(refused) = stem.packets.push(header.sequence, due, tapped.packet.clone()) {
            tracing::trace!(?refused, "a packet has no place in its stem");
        }
    }

    /// Writes what has come. `zero` is where the programme's file begins, in monotonic nanoseconds; nothing is written before it is
    /// known, and the first one holds.
    pub(in crate::mixer) fn advance(&mut self, now: i64, zero: Option<i64>, outbox: &Outbox) {
        if let (None, Some(at)) = (self.zero, zero.filter(|_| !self.stems.is_empty())) {
            self.zero = Some(Zero { at, unix_ms: unix_ms(at) });
        }
        if let Some(zero) = self.zero {
            for stem in &mut self.stems {
                stem.write(zero, now + playout::FIRST - WAIT, outbox);
                stem.watch(now, outbox);
            }
        }
        let at = Instant::now();
        self.closing.retain_mut(|track| {
            track.news().into_iter().for_each(|report| outbox.report(report));
            track.poll(at).map(|report| tell(report, outbox)).is_none()
        });
    }

    /// Closes all files; [`Self::advance`] until [`Self::is_idle`].
    pub(in crate::mixer) fn close(&mut self, outbox: &Outbox) {
        let ended: Vec<_> =
            std::mem::take(&mut self.stems).into_iter().filter_map(|stem| self.end(stem, outbox)).collect();
        self.closing.extend(ended);
    }

    pub(in crate::mixer) fn is_idle(&self) -> bool {
        self.closing.is_empty()
    }

    /// Writes what still waits and begins to close the file, if there is one.
    fn end(&self, mut stem: Stem, outbox: &Outbox) -> Option<Track> {
        if let Some(zero) = self.zero {
            while stem.write(zero, i64::MAX, outbox) {}
        }
        match stem.stage {
            Stage::Writing(mut track) => {
                track.close(Instant::now());
                Some(*track)
            }
            Stage::Waiting | Stage::Over => None,
        }
    }
}

impl Stem {
    /// Writes what is in order, and gives up what is missing before `patience`; whether there may be more.
    fn write(&mut self, zero: Zero, patience: i64, outbox: &Outbox) -> bool {
        loop {
            if let Stage::Writing(track) = &mut self.stage
                && !track.is_ready()
            {
                return true;
            }
            match self.packets.pop(i64::MAX, patience) {
                None => return false,
                Some(Next::Lost { .. }) => self.lost = true,
                Some(Next::Packet { due, item }) => {
                    let lost = std::mem::take(&mut self.lost);
                    if let (Some(header), Some(track)) = (Header::read(&item), self.track(zero, outbox)) {
                        track.take(due.saturating_sub(zero.at), header, item, lost);
                    }
                }
            }
        }
    }

    fn track(&mut self, zero: Zero, outbox: &Outbox) -> Option<&mut Track> {
        if matches!(self.stage, Stage::Waiting) {
            self.stage = match Track::start(&self.wanted, zero, &self.pipelines) {
                Ok(track) => Stage::Writing(Box::new(track)),
                Err(reason) => {
                    tell(Report::RecordingFailed { path: self.wanted.path.clone(), reason }, outbox);
                    Stage::Over
                }
            };
        }
        match &mut self.stage {
            Stage::Writing(track) => Some(track),
            Stage::Waiting | Stage::Over => None,
        }
    }

    fn watch(&mut self, now: i64, outbox: &Outbox) {
        let Stage::Writing(track) = &mut self.stage else { return };
        track.news().into_iter().for_each(|report| outbox.report(report));
        if let Some(report) = track.poll(Instant::now()) {
            tell(report, outbox);
            self.stage = Stage::Over;
            self.packets = Reorder::new();
        } else if now - self.asked_at >= ASK_AGAIN && track.wants_keyframe() {
            self.asked_at = now;
            outbox.report(Report::KeyframeWanted { track: self.wanted.track.track });
        }
    }
}

fn tell(report: Report, outbox: &Outbox) {
    if let Report::RecordingFailed { path, reason } = &report {
        tracing::warn!(path, reason, "a stem failed; the programme goes on");
    }
    outbox.report(report);
}
