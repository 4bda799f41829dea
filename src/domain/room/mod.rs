//! The room: participants, producers, consumers, and who is forwarded what.

pub mod av1;
pub mod delay;
pub mod downlink;
pub mod flood;
pub mod forwarder;
mod house;
pub mod keyframe;
pub mod layer;
pub mod layers;
mod level;
mod meter;
pub mod picture;
pub mod producer;
pub mod programme;
mod receiving;
pub mod red;
pub mod repair;
mod rungs;
pub mod selector;
mod source;
pub mod transit;
mod variation;
mod voices;
mod vp9;
pub mod window;
pub mod words;

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;

use crate::domain::room::delay::Delays;
use crate::domain::room::downlink::Downlink;
use crate::domain::room::forwarder::Forwarder;
use crate::domain::room::house::House;
use crate::domain::room::keyframe::Plea;
use crate::domain::room::producer::Consumer;
use crate::domain::room::producer::Encoding;
use crate::domain::room::producer::Outlet;
use crate::domain::room::producer::Producer;
use crate::domain::room::programme::Screening;
use crate::domain::room::words::Joined;
use crate::domain::room::words::Newcomer;
use crate::domain::room::words::Notice;
use crate::domain::room::words::ParticipantInfo;
use crate::domain::room::words::ProducerInfo;
use crate::domain::room::words::RoomError;
use crate::domain::room::words::Roster;
use crate::domain::room::words::TrackSource;
use crate::model::id::ConsumerId;
use crate::model::id::ParticipantId;
use crate::model::id::ProducerId;
use crate::model::id::TrackId;
use crate::model::media::Codec;
use crate::model::media::MediaKind;
use crate::model::role::RoomRole;

/// Of so many places of a room viewers leave one free.
const PLACE_FOR_THE_BAND: usize = 4;

/// Each change of encoding rebuilds a mixer's input. A sender that switches codecs does so once; one that alternates is an attack.
const RECODE_INTERVAL: Duration = Duration::from_secs(1);

/// How much one room takes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub participants: usize,
    pub tracks_per_participant: usize,
    /// Voices that go out to everybody.
    pub voices: usize,
}

/// One room. What it decides comes out of [`Room::poll_notice`] and [`Room::poll_release`].
#[derive(Debug)]
pub struct Room {
    limits: Limits,
    participants: Vec<ParticipantInfo>,
    producers: Vec<Producer>,
    next_track: u32,
    notices: VecDeque<(ParticipantId, Notice)>,
    released: VecDeque<Release>,
    roster_changed: bool,
    house: House,
    /// Whether the last volume hint was of silence.
    was_quiet: bool,
    delays: Delays,
    /// Of the peers that get video.
    downlinks: BTreeMap<u64, Downlink>,
    is_tapped: bool,
    screening: Option<Screening>,
    /// Whether somebody heard the programme when the roster was looked at last.
    was_previewed: bool,
}

/// An outlet whose consumer is gone, with the forwarder that goes on in it.
#[derive(Debug)]
pub struct Release {
    pub participant: ParticipantId,
    pub codec: Codec,
    pub outlet: Outlet,
    pub forwarder: Forwarder,
}

/// A source that is to be asked for a keyframe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyframeRequest {
    pub participant: ParticipantId,
    pub ssrc: u32,
}

impl Room {
    /// An empty room whose first track gets the number `first_track`.
    pub fn new(limits: Limits, first_track: u32) -> Self {
        Self {
            limits,
            participants: Vec::new(),
            producers: Vec::new(),
            next_track: first_track,
            notices: VecDeque::new(),
            released: VecDeque::new(),
            roster_changed: false,
            house: House::default(),
            was_quiet: true,
            delays: Delays::default(),
            downlinks: BTreeMap::new(),
            is_tapped: false,
            screening: None,
            was_previewed: false,
        }
    }

    /// Lets a participant in; one who is in already comes back to what it had.
    ///
    /// # Errors
    /// [`RoomError::RoomFull`], [`RoomError::RoomLocked`] or [`RoomError::Banned`].
    pub fn join(&mut self, newcomer: Newcomer) -> Result<Joined, RoomError> {
        if !self.has(newcomer.participant) {
            self.house.admits(&newcomer)?;
            let info = ParticipantInfo::new(newcomer.participant, newcomer.name, newcomer.role);
            let places = match info.role {
                // One viewer's link can be opened any number of times and must not lock the band out.
                RoomRole::Viewer => self.limits.participants - self.limits.participants / PLACE_FOR_THE_BAND,
                RoomRole::Musician | RoomRole::Host | RoomRole::Admin => self.limits.participants,
            };
            if self.participants.len() >= places {
                return Err(RoomError::RoomFull(places));
            }
            self.tell_others(info.id, &Notice::ParticipantJoined(info.clone()));
            self.house.users.insert(info.id, newcomer.user);
            self.participants.push(info);
            self.roster_changed = true;
        }
        self.look_around(newcomer.participant)
    }

    /// What a participant finds in the room.
    ///
    /// # Errors
    /// [`RoomError::NotJoined`].
    pub fn look_around(&self, participant: ParticipantId) -> Result<Joined, RoomError> {
        let others = self.participants.iter().filter(|other| other.id != participant);
        let is_host = self.is_host(participant);
        let is_seen = |p: &&Producer| p.info.participant != participant && (is_host || !p.is_programme());
        let producers = self.producers.iter().filter(is_seen);
        Ok(Joined {
            you: self.participant(participant).ok_or(RoomError::NotJoined)?.clone(),
            participants: others.cloned().collect(),
            producers: producers.map(|p| p.info.clone()).collect(),
            state: self.house.state,
            kept: None,
        })
    }

    /// What a participant produces.
    pub fn produced_by(&self, participant: ParticipantId) -> Vec<ProducerInfo> {
        let own = self.producers.iter().filter(|p| p.info.participant == participant);
        own.map(|p| p.info.clone()).collect()
    }

    /// What a participant consumes: the consumer, its producer, and where it leaves.
    pub fn consumed_by(
        &self,
        participant: ParticipantId,
    ) -> impl Iterator<Item = (ConsumerId, ProducerId, Codec, Outlet)> {
        self.producers.iter().flat_map(move |p| {
            let own = p.consumers.iter().filter(move |consumer| consumer.participant == participant);
            own.map(|consumer| (consumer.id, p.info.id, p.encoding.codec, consumer.outlet))
        })
    }

    /// Takes a participant out with everything it produced and consumed.
    pub fn leave(&mut self, participant: ParticipantId) {
        if !self.has(participant) {
            return;
        }
        self.close_all(participant);
        self.participants.retain(|other| other.id != participant);
        self.forget_guest(participant);
        self.delays.forget(participant);
        self.released.retain(|release| release.participant != participant);
        self.tell_others(participant, &Notice::ParticipantLeft(participant));
        self.roster_changed = true;
    }

    /// Closes what a participant produces and consumes; it stays in the room.
    pub fn close_all(&mut self, participant: ParticipantId) {
        self.close_consumers(participant);
        self.close_producers(participant);
    }

    /// Closes what a participant produces.
    pub fn close_producers(&mut self, participant: ParticipantId) {
        let own: Vec<_> =
            self.producers.iter().filter(|p| p.info.participant == participant).map(|p| p.info.id).collect();
        for producer in own {
            self.remove_producer(producer);
        }
    }

    /// Closes what a participant consumes and tells it so.
    pub fn close_consumers(&mut self, participant: ParticipantId) {
        for producer in &mut self.producers {
            let codec = producer.encoding.codec;
            for consumer in producer.consumers.extract_if(.., |consumer| consumer.participant == participant) {
                self.notices.push_back((participant, Notice::ConsumerClosed(consumer.id)));
                self.released.push_back(consumer.release(codec));
            }
        }
    }

    /// Makes the track of m-line `mid` consumable. The same m-line again gives the same producer.
    ///
    /// # Errors
    /// [`RoomError::NotJoined`] or [`RoomError::TooManyTracks`].
    pub fn produce(
        &mut self,
        participant: ParticipantId,
        mid: &str,
        source: TrackSource,
        encoding: Encoding,
    ) -> Result<ProducerId, RoomError> {
        if !self.has(participant) {
            return Err(RoomError::NotJoined);
        }
        let mut own = self.producers.iter().filter(|p| p.info.participant == participant);
        if let Some(known) = own.clone().find(|p| p.mid == mid) {
            return Ok(known.info.id);
        }
        if own.by_ref().count() >= self.limits.tracks_per_participant {
            return Err(RoomError::TooManyTracks(self.limits.tracks_per_participant));
        }
        let id = ProducerId::generate();
        let info = ProducerInfo { id, participant, kind: encoding.codec.kind(), source, paused: false };
        self.tell_others(participant, &Notice::ProducerAdded(info.clone()));
        let track = self.take_track();
        let mut producer = Producer::new(info, mid.to_owned(), track, encoding);
        producer.set_tapped(self.is_tapped);
        self.producers.push(producer);
        self.review(participant);
        self.roster_changed = true;
        Ok(id)
    }

    /// Pauses or resumes a producer for everybody.
    ///
    /// # Errors
    /// [`RoomError::UnknownProducer`], also for somebody else's.
    pub fn pause_producer(
        &mut self,
        participant: ParticipantId,
        id: ProducerId,
        paused: bool,
    ) -> Result<(), RoomError> {
        let producer = self.own_producer(participant, id)?;
        if producer.info.paused != paused {
            producer.info.paused = paused;
            producer.consumers.iter_mut().for_each(|consumer| consumer.forwarder.interrupt());
            let notice = if paused { Notice::ProducerPaused(id) } else { Notice::ProducerResumed(id) };
            self.tell_others(participant, &notice);
            self.roster_changed = true;
        }
        Ok(())
    }

    /// Takes a producer out of the room.
    ///
    /// # Errors
    /// [`RoomError::UnknownProducer`], also for somebody else's.
    pub fn close_producer(&mut self, participant: ParticipantId, id: ProducerId) -> Result<(), RoomError> {
        self.own_producer(participant, id)?;
        self.remove_producer(id);
        Ok(())
    }

    /// What a consumer of this producer has to be able to receive, and whose it is.
    ///
    /// # Errors
    /// [`RoomError::UnknownProducer`], also for one's own, and of the programme for all but hosts.
    pub fn consumable(&self, participant: ParticipantId, id: ProducerId) -> Result<(Codec, ParticipantId), RoomError> {
        self.producers
            .iter()
            .find(|p| p.info.id == id && p.info.participant != participant)
            .filter(|p| !p.is_programme() || self.is_host(participant))
            .map(|p| (p.encoding.codec, p.info.participant))
            .ok_or(RoomError::UnknownProducer)
    }

    /// The codecs of everything a participant could get, oldest producer first.
    pub fn codecs_for(&self, participant: ParticipantId) -> Vec<Codec> {
        self.available_to(participant).map(|p| p.encoding.codec).collect()
    }

    /// The oldest producer of this codec that the participant could get and does not consume yet.
    pub fn unconsumed(&self, participant: ParticipantId, codec: Codec) -> Option<ProducerId> {
        self.available_to(participant)
            .filter(|p| p.encoding.codec == codec)
            .find(|p| p.consumers.iter().all(|consumer| consumer.participant != participant))
            .map(|p| p.info.id)
    }

    /// Forwards a producer to an outlet from now on.
    ///
    /// # Errors
    /// [`RoomError::UnknownProducer`].
    pub fn consume(&mut self, id: ProducerId, mut consumer: Consumer) -> Result<(), RoomError> {
        let is_host = self.is_host(consumer.participant);
        let producer = self.producers.iter_mut().find(|p| p.info.id == id).ok_or(RoomError::UnknownProducer)?;
        consumer.withheld = producer.isolated && !is_host;
        if producer.is_programme() {
            consumer.priority = programme::PRIORITY;
        }
        producer.add(consumer);
        Ok(())
    }

    /// Pauses or resumes one's own consumer.
    ///
    /// # Errors
    /// [`RoomError::UnknownConsumer`].
    pub fn pause_consumer(
        &mut self,
        participant: ParticipantId,
        id: ConsumerId,
        paused: bool,
    ) -> Result<(), RoomError> {
        let consumer = self.own_consumer(participant, id)?;
        if consumer.paused != paused {
            consumer.paused = paused;
            consumer.forwarder.interrupt();
        }
        Ok(())
    }

    /// Says how much one's own consumer matters: where bandwidth is short, the higher number is served first.
    ///
    /// # Errors
    /// [`RoomError::UnknownConsumer`].
    pub fn prioritise(&mut self, participant: ParticipantId, id: ConsumerId, priority: u8) -> Result<(), RoomError> {
        self.own_consumer(participant, id)?.priority = priority;
        Ok(())
    }

    /// Ends one's own consumer.
    ///
    /// # Errors
    /// [`RoomError::UnknownConsumer`].
    pub fn close_consumer(&mut self, participant: ParticipantId, id: ConsumerId) -> Result<(), RoomError> {
        for producer in &mut self.producers {
            let found = producer.consumers.iter().position(|c| c.id == id && c.participant == participant);
            if let Some(index) = found {
                let consumer = producer.consumers.remove(index);
                self.released.push_back(consumer.release(producer.encoding.codec));
                return Ok(());
            }
        }
        Err(RoomError::UnknownConsumer)
    }

    /// The producer a participant's RTP source belongs to. Runs once per packet.
    pub fn source(&mut self, participant: ParticipantId, ssrc: u32) -> Option<&mut Producer> {
        self.producers.iter_mut().find(|p| p.has_source(ssrc) && p.info.participant == participant)
    }

    /// Notes that m-line `mid` of a participant, or its simulcast layer `rid`, is now sent as `ssrc`; doing so again changes nothing.
    pub fn bind_source(&mut self, participant: ParticipantId, mid: &str, rid: Option<&str>, ssrc: u32) {
        if let Some(producer) = self.producers.iter_mut().find(|p| p.info.participant == participant && p.mid == mid) {
            producer.bind(rid, ssrc);
        }
    }

    /// Notes that a source now comes in another encoding: a new track to taps; consumers that cannot follow are closed. `false` if it
    /// changed less than [`RECODE_INTERVAL`] ago; its packets are lost until then.
    pub fn recode(&mut self, now: Instant, participant: ParticipantId, ssrc: u32, encoding: Encoding) -> bool {
        let track = TrackId(self.next_track);
        let Some(producer) = self.source(participant, ssrc) else { return false };
        if producer.recoded_at.is_some_and(|at| now.saturating_duration_since(at) < RECODE_INTERVAL) {
            return false;
        }
        producer.recoded_at = Some(now);
        producer.forget_reports();
        let before = producer.encoding.codec;
        producer.encoding = encoding;
        producer.track = track;
        producer.begin_anew();
        let lost: Vec<_> = if before == encoding.codec { Vec::new() } else { std::mem::take(&mut producer.consumers) };
        for consumer in lost {
            self.notices.push_back((consumer.participant, Notice::ConsumerClosed(consumer.id)));
            self.released.push_back(consumer.release(before));
        }
        self.take_track();
        self.roster_changed = true;
        true
    }

    /// The last sender report of every source that has sent one: track, NTP time, RTP time.
    pub fn reports(&self) -> impl Iterator<Item = (TrackId, u64, u32)> {
        let in_programme = self.producers.iter().filter(|p| p.is_in_programme());
        in_programme.filter_map(|p| p.tapped_report().map(|(ntp, rtp)| (p.track, ntp, rtp)))
    }

    /// A subscriber's plea for a keyframe of what comes out of `outlet`.
    pub fn plead_at_outlet(&mut self, now: Instant, outlet: Outlet) -> (Plea, Option<KeyframeRequest>) {
        for producer in &mut self.producers {
            let Some(consumer) = producer.consumers.iter_mut().find(|c| c.outlet == outlet) else { continue };
            if !consumer.pleas.take(now) {
                return (Plea::Refused, None);
            }
            let source = consumer.forwarder.source();
            return producer.plead(now, source);
        }
        (Plea::Coalesced, None)
    }

    /// A tap's plea for a keyframe.
    pub fn plead_for_track(&mut self, now: Instant, track: TrackId) -> (Plea, Option<KeyframeRequest>) {
        let producer = self.producers.iter_mut().find(|p| p.track == track);
        producer.map_or((Plea::Coalesced, None), |producer| {
            let source = producer.tapped_source();
            producer.plead(now, source)
        })
    }

    /// Requests to send now: for consumers that wait at an outlet for which `is_open` holds, and those deferred or lost.
    pub fn keyframes_due(&mut self, now: Instant, is_open: impl Fn(Outlet) -> bool) -> Vec<KeyframeRequest> {
        let mut due = Vec::new();
        let is_asked = |p: &&mut Producer| p.info.kind == MediaKind::Video && !p.is_held() && !p.is_programme();
        for producer in self.producers.iter_mut().filter(is_asked) {
            due.extend(producer.requests_due(now, &is_open));
        }
        due
    }

    /// Who is to be told what, in order.
    pub fn poll_notice(&mut self) -> Option<(ParticipantId, Notice)> {
        self.notices.pop_front()
    }

    /// Outlets that have become free.
    pub fn poll_release(&mut self) -> Option<Release> {
        self.released.pop_front()
    }

    /// The roster, if it changed since the last call.
    pub fn poll_roster(&mut self) -> Option<Roster> {
        let is_previewed = self.is_previewed();
        self.roster_changed |= std::mem::replace(&mut self.was_previewed, is_previewed) != is_previewed;
        std::mem::take(&mut self.roster_changed).then(|| self.roster())
    }

    /// Everybody and everything that belongs into the programme.
    pub fn roster(&self) -> Roster {
        Roster {
            participants: self.participants.iter().filter(|p| !p.isolated).cloned().collect(),
            tracks: self.producers.iter().filter(|p| p.is_in_programme()).map(Producer::tap_track).collect(),
            spotlight: self.house.state.spotlight.filter(|id| self.participant(*id).is_some_and(|p| !p.isolated)),
            previewed: self.is_previewed(),
        }
    }

    pub fn has(&self, participant: ParticipantId) -> bool {
        self.participants.iter().any(|p| p.id == participant)
    }

    /// In the order of joining.
    pub fn everybody(&self) -> impl Iterator<Item = &ParticipantInfo> {
        self.participants.iter()
    }

    pub fn participants(&self) -> usize {
        self.participants.len()
    }

    pub fn is_empty(&self) -> bool {
        self.participants.is_empty()
    }

    /// The number after the last one given to a track.
    pub fn next_track(&self) -> u32 {
        self.next_track
    }

    fn take_track(&mut self) -> TrackId {
        let track = TrackId(self.next_track);
        self.next_track += 1;
        track
    }

    fn own_producer(&mut self, participant: ParticipantId, id: ProducerId) -> Result<&mut Producer, RoomError> {
        self.producers
            .iter_mut()
            .find(|p| p.info.id == id && p.info.participant == participant)
            .ok_or(RoomError::UnknownProducer)
    }

    fn available_to(&self, participant: ParticipantId) -> impl Iterator<Item = &Producer> {
        let is_host = self.is_host(participant);
        let all = self.producers.iter().filter(|p| !p.is_programme());
        all.filter(move |p| p.info.participant != participant && (is_host || !p.isolated))
    }

    fn own_consumer(&mut self, participant: ParticipantId, id: ConsumerId) -> Result<&mut Consumer, RoomError> {
        self.producers
            .iter_mut()
            .flat_map(|p| &mut p.consumers)
            .find(|consumer| consumer.id == id && consumer.participant == participant)
            .ok_or(RoomError::UnknownConsumer)
    }

    fn remove_producer(&mut self, id: ProducerId) {
        let Some(index) = self.producers.iter().position(|p| p.info.id == id) else { return };
        let producer = self.producers.remove(index);
        for consumer in producer.consumers {
            self.notices.push_back((consumer.participant, Notice::ConsumerClosed(consumer.id)));
            self.released.push_back(consumer.release(producer.encoding.codec));
        }
        if producer.info.source == TrackSource::Programme {
            return self.tell_hosts(&Notice::ProducerRemoved(id));
        }
        self.tell_others(producer.info.participant, &Notice::ProducerRemoved(id));
        self.roster_changed = true;
    }

    fn tell_all(&mut self, notice: &Notice) {
        self.notices.extend(self.participants.iter().map(|p| (p.id, notice.clone())));
    }

    fn tell_others(&mut self, not: ParticipantId, notice: &Notice) {
        let others = self.participants.iter().filter(|p| p.id != not);
        self.notices.extend(others.map(|p| (p.id, notice.clone())));
    }
}

#[cfg(test)]
mod tests;
