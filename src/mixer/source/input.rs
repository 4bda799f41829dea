//! One track on its way into the programme: reordered, timed, decoded; what it lacks is asked for, what breaks is rebuilt.

use bytes::Bytes;
use gstreamer as gst;

use crate::mixer::MOST_PIXELS;
use crate::mixer::SECOND;
use crate::mixer::outbox::Outbox;
use crate::mixer::programme::Programme;
use crate::mixer::sound::level;
use crate::mixer::source::decoder::Decoder;
use crate::mixer::source::decoder::Use;
use crate::mixer::source::decoder::colours;
use crate::mixer::source::decoder::pipeline;
use crate::mixer::source::glide::Glide;
use crate::mixer::source::packet::Header;
use crate::mixer::source::packet::payload;
use crate::mixer::source::packet::renumbered;
use crate::mixer::source::passage::Limits;
use crate::mixer::source::passage::Outlet;
use crate::mixer::source::passage::Passage;
use crate::mixer::source::playout::Patience;
use crate::mixer::source::playout::Playout;
use crate::mixer::source::reorder::Next;
use crate::mixer::source::reorder::Refused;
use crate::mixer::source::reorder::Reorder;
use crate::mixer::source::seat::STALL;
use crate::mixer::source::timing::SharedClock;
use crate::mixer::source::timing::TrackClock;
use crate::mixer::source::timing::YOUNG;
use crate::mixer::source::vp9;
use crate::model::id::SourceId;
use crate::model::media::Codec;
use crate::model::media::MediaKind;
use crate::model::scene::SourceTrack;
use crate::proto::av1::Depacketizer;
use crate::proto::h264::Unit;
use crate::proto::mixer::Report;
use crate::proto::mixer::SourceState;
use crate::proto::mixer::TappedPacket;

/// A packet goes to its decoder at most this long before it is due, so that added delay waits as packets and not as pictures.
/// It exceeds the playout delay, so that without added delay nothing waits here.
const AHEAD: i64 = 300_000_000;

/// Between two requests for the same keyframe: a round trip to the far side of the world and an encoder's answer.
const ASK_AGAIN: i64 = SECOND / 2;

/// First and longest wait before a failed decoder is built again.
const REBUILD_FIRST: i64 = SECOND / 2;
const REBUILD_LONGEST: i64 = 8 * SECOND;

/// Missing sound that is made up; more than this is heard as a mistake and is left silent.
const CONCEALED: i64 = SECOND / 5;

/// See the file. All times are monotonic nanoseconds.
#[derive(Debug)]
pub(in crate::mixer) struct Input {
    source: SourceId,
    track: SourceTrack,
    purpose: Use,
    /// Of a picture; a sound's is its strip's.
    delay: Glide,
    clock: TrackClock,
    packets: Reorder<Bytes>,
    decoding: Decoding,
    rebuild_after: i64,
    keyframe: Keyframe,
    state: SourceState,
    pieces: u64,
    progressed_at: i64,
    /// Packets lost since the last one that went to the decoder, and when that one was due.
    missing: u64,
    last_due: Option<i64>,
    late_packets: u64,
    /// Packets without media so far, whose numbers the decoder is not to miss.
    empty: u16,
    /// When the first packet came: a track that begins is late for reasons of its own.
    begun_at: Option<i64>,
    patience: Patience,
    /// How much too late the latest of the packets came that were refused for it since the last look.
    refused_late: Option<i64>,
    /// Of AV1, whose packets are put together here.
    units: Option<Depacketizer<gst::ClockTime>>,
    /// Of a picture that is the whole programme.
    passage: Option<Passage>,
    /// What is decoded before is late because it had not been decoded in time: nothing is learnt from that.
    caught_up_at: i64,
}

/// The ways of a picture that may pass by its decoder.
struct Ways<'a> {
    programme: &'a Programme,
    decoder: Option<&'a Decoder>,
}

#[derive(Debug)]
enum Decoding {
    Running(Decoder),
    Failed { again_at: i64 },
}

/// Whether pictures can be decoded.
#[derive(Debug)]
enum Keyframe {
    Held,
    /// Nothing decodes until a keyframe comes that is due at `since` (running time) or later.
    Wanted {
        since: i64,
        asked_at: Option<i64>,
    },
}

impl Input {
    /// A track that waits for its first packet.
    pub(in crate::mixer) fn new(
        source: SourceId,
        track: SourceTrack,
        purpose: Use,
        patience: Patience,
        now: i64,
        outbox: &Outbox,
    ) -> Self {
        let input = Self {
            source,
            track,
            purpose,
            delay: Glide::at_rest(purpose.picture_delay()),
            clock: TrackClock::new(track.codec.kind(), track.codec.clock_rate()),
            packets: Reorder::new(),
            decoding: Decoding::Failed { again_at: now },
            rebuild_after: REBUILD_FIRST,
            keyframe: Keyframe::Wanted { since: 0, asked_at: None },
            state: SourceState::Waiting,
            pieces: 0,
            progressed_at: now,
            missing: 0,
            last_due: None,
            late_packets: 0,
            empty: 0,
            begun_at: None,
            patience,
            refused_late: None,
            units: (track.codec == Codec::Av1).then(|| Depacketizer::new(MOST_PIXELS)),
            passage: None,
            caught_up_at: now,
        };
        input.tell(outbox);
        input
    }

    pub(in crate::mixer) const fn source(&self) -> SourceId {
        self.source
    }

    pub(in crate::mixer) const fn track(&self) -> SourceTrack {
        self.track
    }

    pub(in crate::mixer) const fn late_packets(&self) -> u64 {
        self.late_packets
    }

    /// How loud it was since the last call; `None` for silence and for pictures.
    pub(in crate::mixer) fn loudness(&self) -> Option<level::Reading> {
        match &self.decoding {
            Decoding::Running(decoder) => decoder.loudness(),
            Decoding::Failed { .. } => None,
        }
    }

    /// Follows a scene's change of place or sound.
    pub(in crate::mixer) fn adjust(&mut self, purpose: Use) {
        self.purpose = purpose;
        self.delay.head_for(purpose.picture_delay());
        if let Decoding::Running(decoder) = &self.decoding {
            decoder.adjust(purpose);
        }
    }

    /// Its pictures may go to the audience as they come, within these limits; `None` has them composed.
    pub(in crate::mixer) fn may_pass(&mut self, limits: Option<Limits>, now: i64, programme: &Programme) {
        if self.track.codec != Codec::H264 {
            return;
        }
        let mut ways = Ways { programme, decoder: self.decoding.decoder() };
        match &mut self.passage {
            Some(passage) => passage.want(limits, programme.since_begin(now), &mut ways),
            None => self.passage = limits.map(Passage::new),
        }
    }

    /// A keyframe is wanted of the programme. `false` if its encoder makes it.
    pub(in crate::mixer) fn force_keyframe(&mut self, now: i64, programme: &Programme) -> bool {
        self.passage.as_mut().is_some_and(|passage| passage.force_keyframe(programme.since_begin(now)))
    }

    pub(in crate::mixer) fn sender_report(&mut self, shared: &mut SharedClock, ntp: u64, rtp: u32) {
        self.clock.sender_report(shared, ntp, rtp);
    }

    /// Takes a packet from the tap; anything that is not this track's media is left.
    pub(in crate::mixer) fn packet(&mut self, tapped: TappedPacket, shared: &mut SharedClock) {
        let Some(header) = Header::read(&tapped.packet) else { return };
        if header.payload_type != self.track.payload_type {
            return;
        }
        if self.track.codec == Codec::Vp9 && vp9::is_too_large(&tapped.packet) {
            return;
        }
        let arrival = i64::try_from(tapped.arrival_us).unwrap_or(i64::MAX / 1000).saturating_mul(1000);
        self.begun_at.get_or_insert(arrival);
        let due = self.clock.due(shared, arrival, header.timestamp);
        match self.packets.push(header.sequence, due, tapped.packet) {
            Ok(()) | Err(Refused::Duplicate) => {}
            Err(Refused::Late) => {
                self.late_packets += 1;
                self.refused_late = self.refused_late.max(Some(arrival - due + self.given_up()));
            }
            Err(Refused::Full) => self.late_packets += 1,
        }
    }

    /// Says how late its media was since the last call.
    pub(in crate::mixer) fn tell_lateness(&mut self, now: i64, playout: &mut Playout) {
        let ready = match &self.decoding {
            Decoding::Running(decoder) => decoder.lateness(),
            Decoding::Failed { .. } => None,
        };
        let passed = self.passage.as_mut().and_then(Passage::take_lateness);
        let ready = ready.filter(|_| now >= self.caught_up_at).max(passed);
        let missed = self.refused_late.take();
        if self.begun_at.is_none_or(|at| now - at <= YOUNG) {
            return;
        }
        if let Some(lateness) = ready {
            playout.ready(now, lateness);
        }
        if let Some(lateness) = missed {
            playout.missed(now, lateness);
        }
    }

    /// Moves everything on that time has come for: packets to the decoder, reports to the gateway.
    pub(in crate::mixer) fn advance(&mut self, now: i64, programme: &Programme, outbox: &Outbox) {
        self.rebuild(now, programme, outbox);
        self.decode(now, programme);
        self.move_passage_on(now, programme, outbox);
        if let Some(decoder) = self.decoding.decoder() {
            decoder.flush();
        }
        self.watch(now, programme, outbox);
        self.ask_for_keyframe(now, outbox);
    }

    /// Leaves the programme.
    pub(in crate::mixer) fn stop(mut self, programme: &Programme) {
        if let Some(passage) = &mut self.passage {
            passage.end(&mut Ways { programme, decoder: None });
        }
        if let Decoding::Running(decoder) = self.decoding {
            decoder.stop(programme);
        }
    }

    fn rebuild(&mut self, now: i64, programme: &Programme, outbox: &Outbox) {
        let Decoding::Failed { again_at } = self.decoding else { return };
        if now < again_at {
            return;
        }
        let colours = colours(self.track.codec);
        let built = pipeline(programme.pipelines(), self.track)
            .and_then(|pipeline| Decoder::start(programme, pipeline, colours, self.purpose));
        match built {
            Ok(decoder) => {
                self.decoding = Decoding::Running(decoder);
                if let Some(units) = &mut self.units {
                    units.lost();
                }
                if let Some(passage) = &mut self.passage {
                    passage.decode_anew();
                }
                self.pieces = 0;
                self.progressed_at = now;
                self.keyframe = Keyframe::Wanted { since: 0, asked_at: None };
            }
            Err(error) => self.fail(now, error.to_string(), outbox),
        }
    }

    fn fail(&mut self, now: i64, reason: String, outbox: &Outbox) {
        tracing::warn!(source = self.source.0, kind = self.kind().as_str(), reason, "a source's decoder failed");
        self.decoding = Decoding::Failed { again_at: now + self.rebuild_after };
        self.rebuild_after = (self.rebuild_after * 2).min(REBUILD_LONGEST);
        self.change(SourceState::Failed { reason }, outbox);
    }

    fn decode(&mut self, now: i64, programme: &Programme) {
        // Sound is delayed behind its decoder, where the change can be faded; pictures before, where they are small.
        if self.delay.is_to_jump(now - self.delay.now()) {
            // Nothing comes that would have it jump: what comes next is not to wait for a delay that is over.
            self.delay.jump();
        }
        loop {
            let now_undelayed = now - self.delay.now();
            let Some(next) = self.packets.pop(now_undelayed + AHEAD, now_undelayed + self.given_up()) else {
                return;
            };
            match next {
                Next::Lost { packets } => self.missing += packets,
                Next::Packet { due, item } => {
                    if self.delay.is_to_jump(due) {
                        self.delay.jump();
                    }
                    let due = due + self.delay.at(due);
                    self.hand_over(now, due, item, programme);
                }
            }
        }
    }

    fn hand_over(&mut self, now: i64, due: i64, packet: Bytes, programme: &Programme) {
        if payload(&packet).unwrap_or_default().is_empty() {
            // Browsers send such to see how much fits. A depayloader that missed its number would wait for a keyframe.
            self.empty = self.empty.wrapping_add(1);
            return;
        }
        let packet = renumbered(packet, self.empty);
        let missing = std::mem::take(&mut self.missing);
        let last_due = self.last_due.replace(due);
        if due < now {
            self.late_packets += 1;
        }
        if missing > 0
            && let Some(units) = &mut self.units
        {
            units.lost();
        }
        if missing > 0
            && let Some(running) = programme.running_time(due)
            && self.kind() == MediaKind::Video
        {
            let since = running.nseconds().cast_signed();
            self.keyframe = Keyframe::Wanted { since, asked_at: self.keyframe.asked_at() };
        }
        if let Some(passage) = &mut self.passage {
            let mut ways = Ways { programme, decoder: self.decoding.decoder() };
            passage.packet(programme.since_begin(now), packet, programme.since_begin(due), missing > 0, &mut ways);
            return;
        }
        let Decoding::Running(decoder) = &self.decoding else { return };
        let Some(running) = programme.running_time(due) else { return };
        if missing > 0
            && self.kind() == MediaKind::Audio
            && let Some((start, length)) = last_due.and_then(|last| hole(last, due, missing))
            && let Some(start) = programme.running_time(start)
        {
            decoder.gap(start, gst::ClockTime::from_nseconds(length));
        }
        match (&mut self.units, Header::read(&packet)) {
            (Some(units), Some(Header { timestamp, marker, .. })) => {
                for unit in units.push(payload(&packet).unwrap_or_default(), timestamp, marker, running) {
                    decoder.packet(unit.data, unit.due, false);
                }
            }
            (_, _) if self.track.codec == Codec::Opus => {
                let sound = packet.slice_ref(payload(&packet).unwrap_or_default());
                decoder.packet(sound, running, missing > 0);
            }
            (_, _) => decoder.packet(packet, running, missing > 0),
        }
    }

    fn move_passage_on(&mut self, now: i64, programme: &Programme, outbox: &Outbox) {
        let Some(passage) = &mut self.passage else { return };
        let decoder = self.decoding.decoder();
        let decoded = decoder.map_or(0, Decoder::newest);
        if passage.advance(programme.since_begin(now), decoded, &mut Ways { programme, decoder }) {
            outbox.report(Report::KeyframeWanted { track: self.track.track });
        }
        if passage.is_passing() {
            // It lives, although nothing of it is decoded.
            self.progressed_at = now;
            self.keyframe = Keyframe::Held;
        }
        if !passage.is_watching() {
            self.caught_up_at = now + SECOND;
        }
        if !passage.is_needed() {
            self.passage = None;
        }
    }

    fn watch(&mut self, now: i64, programme: &Programme, outbox: &Outbox) {
        let Decoding::Running(decoder) = &self.decoding else { return };
        if let Some(reason) = decoder.failure() {
            let failed = std::mem::replace(&mut self.decoding, Decoding::Failed { again_at: now });
            if let Decoding::Running(decoder) = failed {
                decoder.stop(programme);
            }
            self.fail(now, reason, outbox);
            return;
        }
        let pieces = decoder.pieces();
        let newest = decoder.newest();
        let asks = decoder.takes_keyframe_request();
        if asks && matches!(self.keyframe, Keyframe::Held) {
            self.keyframe = Keyframe::Wanted { since: newest + 1, asked_at: None };
        }
        if pieces > self.pieces {
            self.pieces = pieces;
            self.progressed_at = now;
            self.rebuild_after = REBUILD_FIRST;
            if let Keyframe::Wanted { since, .. } = self.keyframe
                && newest >= since
            {
                self.keyframe = Keyframe::Held;
            }
            self.change(SourceState::Live, outbox);
        } else if self.state == SourceState::Live && now - self.progressed_at > STALL {
            self.change(SourceState::Stalled, outbox);
        }
    }

    fn ask_for_keyframe(&mut self, now: i64, outbox: &Outbox) {
        if self.kind() == MediaKind::Audio {
            return;
        }
        match &mut self.keyframe {
            Keyframe::Wanted { asked_at, .. } if asked_at.is_none_or(|at| now - at >= ASK_AGAIN) => {
                *asked_at = Some(now);
                outbox.report(Report::KeyframeWanted { track: self.track.track });
            }
            Keyframe::Wanted { .. } | Keyframe::Held => {}
        }
    }

    fn change(&mut self, state: SourceState, outbox: &Outbox) {
        if self.state != state {
            self.state = state;
            self.tell(outbox);
        }
    }

    fn tell(&self, outbox: &Outbox) {
        outbox.report(Report::Source { source: self.source, kind: self.kind(), state: self.state.clone() });
    }

    /// A missing packet is given up when its successor is this close to its turn.
    const fn given_up(&self) -> i64 {
        match self.kind() {
            MediaKind::Audio => self.patience.sound,
            MediaKind::Video => self.patience.packet,
        }
    }

    const fn kind(&self) -> MediaKind {
        self.track.codec.kind()
    }
}

impl Decoding {
    const fn decoder(&self) -> Option<&Decoder> {
        match self {
            Self::Running(decoder) => Some(decoder),
            Self::Failed { .. } => None,
        }
    }
}

impl Outlet for Ways<'_> {
    fn stop_composing_at(&mut self, due: i64) -> bool {
        self.programme.stop_composing_at(due)
    }

    fn compose_after(&mut self, last: i64) {
        self.programme.compose_after(last);
    }

    fn pass(&mut self, unit: Unit<i64>, record: &Bytes) {
        self.programme.pass(unit, record);
    }

    fn decode(&mut self, packet: Bytes, due: i64, discontinued: bool) {
        if let Some(decoder) = self.decoder
            && let Ok(due) = u64::try_from(due)
        {
            decoder.packet(packet, gst::ClockTime::from_nseconds(due), discontinued);
        }
    }
}

impl Keyframe {
    const fn asked_at(&self) -> Option<i64> {
        match self {
            Self::Held => None,
            Self::Wanted { asked_at, .. } => *asked_at,
        }
    }
}

/// Where `missing` packets of equal length between two others belong, as start and length; `None` for holes too long to conceal.
fn hole(last: i64, next: i64, missing: u64) -> Option<(i64, u64)> {
    let missing = i64::try_from(missing).ok()?;
    let each = (next - last) / (missing + 1);
    let length = each.checked_mul(missing)?;
    (each > 0 && length <= CONCEALED).then_some((last + each, length.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_in_the_sound_is_where_its_packets_were() {
        assert_eq!(hole(100, 160, 2), Some((120, 40)));
        assert_eq!(hole(0, SECOND, 49), None, "a second of silence is not made up");
        assert_eq!(hole(100, 100, 1), None);
    }
}
