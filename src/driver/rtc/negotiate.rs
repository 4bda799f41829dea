//! What a participant receives: offers of ours one at a time, or lanes filled in an offer of its own.

use std::time::Instant;

use crate::domain::room::forwarder::Forwarder;
use crate::domain::room::producer::Consumer;
use crate::domain::room::producer::Outlet;
use crate::domain::room::programme;
use crate::domain::room::words::Notice;
use crate::driver::rtc::host::Host;
use crate::driver::rtc::host::Hosted;
use crate::driver::rtc::seat::Idle;
use crate::driver::rtc::seat::Negotiation;
use crate::driver::rtc::seat::Offers;
use crate::driver::rtc::seat::Recv;
use crate::driver::rtc::seat::Wanted;
use crate::driver::rtc::transports::refusal;
use crate::live::rooms::ConsumerInfo;
use crate::live::rooms::Event;
use crate::live::rooms::Reply;
use crate::live::rooms::RoomError;
use crate::live::rooms::Transport;
use crate::model::id::ConsumerId;
use crate::model::id::ParticipantId;
use crate::model::id::ProducerId;
use crate::model::media::Codec;

impl Host {
    /// A participant asks to consume; the answer comes with the offer that carries it.
    pub(super) fn want(
        &mut self,
        now: Instant,
        room: u64,
        participant: ParticipantId,
        producer: ProducerId,
        reply: Reply<ConsumerInfo>,
    ) {
        let wanted = Wanted { consumer: ConsumerId::generate(), producer, reply };
        let offers = match self.offers(now, room, participant) {
            Ok(offers) => offers,
            Err(error) => {
                let _gone = wanted.reply.send(Err(error));
                return;
            }
        };
        if offers.wanted.len() >= crate::live::rooms::COMMAND_QUEUE {
            let _gone = wanted.reply.send(Err(RoomError::Overloaded));
        } else {
            offers.wanted.push_back(wanted);
        }
    }

    pub(super) fn restart_ice(&mut self, now: Instant, room: u64, participant: ParticipantId) -> Result<(), RoomError> {
        if self.seat(room, participant)?.recv.is_none() {
            return Err(RoomError::Sdp("nothing is received yet; consume something first".to_owned()));
        }
        self.offers(now, room, participant)?.restart_ice = true;
        Ok(())
    }

    /// A transport we offer on gets new ICE credentials with the next offer; on the other, the participant has to ask.
    pub(super) fn restart_if_ours(&mut self, room: u64, participant: ParticipantId, transport: Transport) {
        let Ok(seat) = self.seat(room, participant) else { return };
        let recv = seat.recv.as_mut().filter(|_| transport == Transport::Recv);
        if let Some(Negotiation::Ours(offers)) = recv.map(|recv| &mut recv.negotiation) {
            offers.restart_ice = true;
        }
    }

    /// The participant's answer to our open offer.
    pub(super) fn answer(
        &mut self,
        now: Instant,
        room: u64,
        participant: ParticipantId,
        offer_id: u32,
        answer: &str,
    ) -> Result<(), RoomError> {
        let recv = self.seat(room, participant)?.recv.as_mut().ok_or(RoomError::UnexpectedAnswer)?;
        let Negotiation::Ours(offers) = &mut recv.negotiation else { return Err(RoomError::UnexpectedAnswer) };
        if offers.open != Some(offer_id) {
            return Err(RoomError::UnexpectedAnswer);
        }
        let key = recv.peer;
        let line = self.lines.get_mut(&key).expect("a seat's line exists");
        line.peer.accept(now, answer).map_err(refusal)?;
        let recv = self.seat(room, participant)?.recv.as_mut();
        if let Some(Negotiation::Ours(offers)) = recv.map(|recv| &mut recv.negotiation) {
            offers.open = None;
        }
        self.admit(now, key);
        self.request_keyframes_due(now, room);
        Ok(())
    }

    /// WHEP: answers an offer to receive. Every m-line gets a lane, which is filled now or when there is something to fill it.
    pub(super) fn subscribe(
        &mut self,
        now: Instant,
        room: u64,
        participant: ParticipantId,
        offer: &str,
    ) -> Result<String, RoomError> {
        if let Some(recv) = &self.seat(room, participant)?.recv {
            let known = recv.peer;
            if matches!(recv.negotiation, Negotiation::Ours(_)) {
                return Err(RoomError::Sdp("this participant receives by our offers".to_owned()));
            }
            let line = self.lines.get_mut(&known).expect("a seat's line exists");
            let answer = line.peer.answer(now, offer, |_| None).map_err(refusal);
            self.admit(now, known);
            return answer;
        }
        let key = self.open_line(now, room, participant, Transport::Recv)?;
        let waiting = self.room(room).codecs_for(participant);
        let mut waiting: Vec<Option<Codec>> = waiting.into_iter().map(Some).collect();
        let mut lanes = Vec::new();
        let line = self.lines.get_mut(&key).expect("just opened");
        let answer = line.peer.answer(now, offer, |section| {
            let can = |codec: &Codec| section.encodings.iter().any(|e| e.codec == *codec);
            let next = waiting.iter_mut().find(|codec| codec.as_ref().is_some_and(can)).and_then(Option::take);
            let codec = next.or_else(|| section.encodings.first().map(|e| e.codec))?;
            lanes.push(codec);
            Some((codec, participant.to_string()))
        });
        match answer {
            Ok(answer) => {
                self.seat_recv(room, participant, key, Negotiation::Theirs);
                if let Some(recv) = self.seat(room, participant)?.recv.as_mut() {
                    recv.idle = lanes.into_iter().enumerate().map(|(lane, codec)| idle(lane, codec)).collect();
                }
                self.admit(now, key);
                Ok(answer)
            }
            Err(error) => {
                self.close_line(key);
                Err(refusal(error))
            }
        }
    }

    /// Carries out what the room has decided: events, free lanes, rosters, the next offers.
    pub(super) fn settle(&mut self, now: Instant, room: u64) {
        let Some(hosted) = self.rooms.get_mut(&room) else { return };
        let mut deaf = Vec::new();
        while let Some((to, notice)) = hosted.room.poll_notice() {
            let sent = hosted.seats.get(&to).map(|seat| seat.events.try_send(event(notice)));
            if matches!(sent, Some(Err(tokio::sync::mpsc::error::TrySendError::Full(_)))) {
                deaf.push(to);
            }
        }
        while let Some(release) = hosted.room.poll_release() {
            let recv = hosted.seats.get_mut(&release.participant).and_then(|seat| seat.recv.as_mut());
            let Some(recv) = recv.filter(|recv| recv.peer == release.outlet.peer) else { continue };
            let lane = release.outlet.lane;
            recv.idle.push(Idle { lane, codec: release.codec, forwarder: release.forwarder });
            if let Negotiation::Ours(offers) = &mut recv.negotiation {
                offers.changed = true;
                if let Some(line) = self.lines.get_mut(&recv.peer) {
                    line.peer.use_lane(lane, false);
                }
            }
        }
        let expelled: Vec<_> = std::iter::from_fn(|| hosted.room.poll_expelled()).collect();
        fill_lanes(hosted);
        if let Some(roster) = hosted.room.poll_roster() {
            for tap in &hosted.taps {
                tap.roster.send_replace(roster.clone());
            }
        }
        let offering: Vec<_> = hosted.seats.iter().filter(|(_, seat)| has_to_offer(seat)).map(|(id, _)| *id).collect();
        for participant in offering {
            self.offer(now, room, participant);
        }
        for (participant, reason) in expelled {
            tracing::info!(%participant, reason, "a participant is removed");
            self.tell(room, participant, Event::Removed { reason });
            self.leave(room, participant);
            self.settle(now, room);
        }
        for participant in deaf {
            tracing::warn!(%participant, "a participant does not take its events and is removed");
            self.leave(room, participant);
        }
    }

    /// Tells a participant the offer it has not answered once more: it may have been lost with its connection.
    pub(super) fn offer_again(&mut self, room: u64, participant: ParticipantId) {
        let Some(hosted) = self.rooms.get_mut(&room) else { return };
        let Some(seat) = hosted.seats.get_mut(&participant) else { return };
        let Some(Recv { peer, negotiation: Negotiation::Ours(offers), .. }) = &seat.recv else { return };
        let line = offers.open.and_then(|_| self.lines.get_mut(peer));
        if let (Some(offer_id), Some(Ok(sdp))) = (offers.open, line.map(|line| line.peer.local_description())) {
            let _gone_or_deaf = seat.events.try_send(Event::Offer { offer_id, sdp });
        }
    }

    /// The offers of a participant's receiving transport, which is opened by the first of them.
    fn offers(&mut self, now: Instant, room: u64, participant: ParticipantId) -> Result<&mut Offers, RoomError> {
        if self.seat(room, participant)?.recv.is_none() {
            let key = self.open_line(now, room, participant, Transport::Recv)?;
            self.seat_recv(room, participant, key, Negotiation::Ours(Offers::default()));
        }
        match self.seat(room, participant)?.recv.as_mut().map(|recv| &mut recv.negotiation) {
            Some(Negotiation::Ours(offers)) => Ok(offers),
            Some(Negotiation::Theirs) | None => {
                Err(RoomError::Sdp("this participant receives by its own offer".to_owned()))
            }
        }
    }

    fn offer(&mut self, now: Instant, room: u64, participant: ParticipantId) {
        let Some(hosted) = self.rooms.get_mut(&room) else { return };
        let Some(seat) = hosted.seats.get_mut(&participant) else { return };
        let Some(recv) = seat.recv.as_mut() else { return };
        let key = recv.peer;
        let Some(line) = self.lines.get_mut(&key) else { return };
        let Negotiation::Ours(offers) = &mut recv.negotiation else { return };
        let is_unused = offers.next_id == 0;
        let wanted = std::mem::take(&mut offers.wanted);
        let restart_ice = std::mem::take(&mut offers.restart_ice);
        let mut changed = std::mem::take(&mut offers.changed) || restart_ice;
        let mut granted = Vec::new();
        for wanted in wanted {
            let opened = hosted.room.consumable(participant, wanted.producer).and_then(|(codec, owner)| {
                // Browsers keep what shares a stream lip-synchronous. That holds back sound that comes before its picture, which the
                // programme may be and a musician may not: a lane of the one is never one of the other.
                let is_screen = hosted.room.is_screen(owner);
                let of_programme = |lane| line.peer.lane_stream(lane) == Some(programme::STREAM);
                let lane = match recv.take_idle(codec, |lane| of_programme(lane) == is_screen) {
                    Some(lane) => {
                        line.peer.use_lane(lane.lane, true);
                        lane
                    }
                    None => {
                        let stream = if is_screen { programme::STREAM.to_owned() } else { owner.to_string() };
                        idle(line.peer.open_lane(codec, &stream).map_err(refusal)?, codec)
                    }
                };
                let outlet = Outlet { peer: key, lane: lane.lane };
                let consumer = Consumer::new(wanted.consumer, participant, outlet, lane.forwarder);
                hosted.room.consume(wanted.producer, consumer)?;
                Ok((lane.lane, codec))
            });
            match opened {
                Ok((lane, codec)) => granted.push((wanted, lane, codec)),
                Err(error) => {
                    let _gone = wanted.reply.send(Err(error));
                }
            }
        }
        changed |= !granted.is_empty();
        if !changed {
            // A transport on which nothing was ever offered cannot connect, and would count as a participant that does not.
            if is_unused {
                self.close_line(key);
            }
            return;
        }
        let sdp = match line.peer.offer(now, restart_ice) {
            Ok(sdp) => sdp,
            Err(error) => {
                tracing::warn!(%error, %participant, "an offer could not be made");
                self.touch(key);
                return;
            }
        };
        let Negotiation::Ours(offers) = &mut recv.negotiation else { return };
        offers.next_id += 1;
        offers.open = Some(offers.next_id);
        let offer_id = offers.next_id;
        for (wanted, lane, codec) in granted {
            let mid = line.peer.lane_mid(lane).unwrap_or_default();
            let info = ConsumerInfo { id: wanted.consumer, producer: wanted.producer, kind: codec.kind(), mid };
            let _gone = wanted.reply.send(Ok(info));
        }
        let _gone_or_deaf = seat.events.try_send(Event::Offer { offer_id, sdp });
        self.admit(now, key);
    }
}

fn has_to_offer(seat: &crate::driver::rtc::seat::Seat) -> bool {
    match seat.recv.as_ref().map(|recv| &recv.negotiation) {
        Some(Negotiation::Ours(offers)) => {
            offers.open.is_none() && (offers.changed || offers.restart_ice || !offers.wanted.is_empty())
        }
        Some(Negotiation::Theirs) | None => false,
    }
}

/// Gives the free lanes of who receives by its own offer to the oldest producers they fit.
fn fill_lanes(hosted: &mut Hosted) {
    for (participant, seat) in &mut hosted.seats {
        let Some(recv) = seat.recv.as_mut().filter(|recv| matches!(recv.negotiation, Negotiation::Theirs)) else {
            continue;
        };
        for idle in std::mem::take(&mut recv.idle) {
            let Some(producer) = hosted.room.unconsumed(*participant, idle.codec) else {
                recv.idle.push(idle);
                continue;
            };
            let outlet = Outlet { peer: recv.peer, lane: idle.lane };
            let consumer = Consumer::new(ConsumerId::generate(), *participant, outlet, idle.forwarder);
            if let Err(error) = hosted.room.consume(producer, consumer) {
                tracing::debug!(%error, "a producer went while a lane was filled");
            }
        }
    }
}

fn idle(lane: usize, codec: Codec) -> Idle {
    Idle { lane, codec, forwarder: Forwarder::new(codec.clock_rate()) }
}

fn event(notice: Notice) -> Event {
    match notice {
        Notice::ParticipantJoined(info) => Event::ParticipantJoined(info),
        Notice::ParticipantLeft(id) => Event::ParticipantLeft(id),
        Notice::ParticipantUpdated(info) => Event::ParticipantUpdated(info),
        Notice::RoomUpdated(state) => Event::RoomUpdated(state),
        Notice::ProducerAdded(info) => Event::ProducerAdded(info),
        Notice::ProducerRemoved(id) => Event::ProducerRemoved(id),
        Notice::ProducerPaused(id) => Event::ProducerPaused(id),
        Notice::ProducerResumed(id) => Event::ProducerResumed(id),
        Notice::ConsumerClosed(id) => Event::ConsumerClosed(id),
    }
}
