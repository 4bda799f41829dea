//! The transports of the participants: opened, admitted, closed.

use std::time::Duration;
use std::time::Instant;

use bytes::BytesMut;

use crate::driver::rtc::delays::leg;
use crate::driver::rtc::host::Host;
use crate::driver::rtc::path::Protocol;
use crate::driver::rtc::path::Remote;
use crate::driver::rtc::peer::Peer;
use crate::driver::rtc::peer::PeerError;
use crate::driver::rtc::seat::Line;
use crate::driver::rtc::seat::Negotiation;
use crate::driver::rtc::seat::Recv;
use crate::live::rooms::Event;
use crate::live::rooms::RoomError;
use crate::live::rooms::TrackSource;
use crate::live::rooms::Transport;
use crate::model::id::ParticipantId;
use crate::model::id::ProducerId;

/// How long a transport may take to connect. Browsers give up after 15 s to 30 s.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);

impl Host {
    /// The answer to the offer of what a participant sends. A transport that is beyond repair gives way to a new one.
    pub(super) fn publish(
        &mut self,
        now: Instant,
        room: u64,
        participant: ParticipantId,
        offer: &str,
    ) -> Result<String, RoomError> {
        let known = self.seat(room, participant)?.send;
        let key = match known {
            Some(key) => key,
            None => self.open_line(now, room, participant, Transport::Send)?,
        };
        let line = self.lines.get_mut(&key).expect("a seat's line exists");
        let answer = line.peer.answer(now, offer, |_| None);
        self.admit(now, key);
        match answer {
            Ok(answer) => {
                self.seat(room, participant)?.send = Some(key);
                Ok(answer)
            }
            Err(error) => {
                if known.is_none() {
                    self.close_line(key);
                }
                Err(refusal(error))
            }
        }
    }

    pub(super) fn candidate(
        &mut self,
        room: u64,
        participant: ParticipantId,
        transport: Transport,
        candidate: &str,
    ) -> Result<(), RoomError> {
        let seat = self.seat(room, participant)?;
        let key = match transport {
            Transport::Send => seat.send,
            Transport::Recv => seat.recv.as_ref().map(|recv| recv.peer),
        };
        let line = key.and_then(|key| self.lines.get_mut(&key));
        let line =
            line.ok_or_else(|| RoomError::Candidate("its transport is not there; send the offer first".to_owned()))?;
        let taken = line.peer.add_candidate(candidate).map_err(|error| RoomError::Candidate(error.to_string()));
        self.touch(key.expect("it has a line"));
        taken
    }

    pub(super) fn produce(
        &mut self,
        room: u64,
        participant: ParticipantId,
        mid: &str,
        source: TrackSource,
    ) -> Result<ProducerId, RoomError> {
        let key = self.seat(room, participant)?.send;
        let unknown = || RoomError::UnknownMid(mid.to_owned());
        let peer = key.and_then(|key| self.lines.get_mut(&key)).map(|line| &mut line.peer).ok_or_else(unknown)?;
        let section = peer.section(mid).filter(|section| section.kind.is_some()).ok_or_else(unknown)?;
        let encoding = *section.encodings.first().filter(|_| !section.rejected).ok_or(RoomError::NoCommonCodec)?;
        let sources = peer.sources(mid);
        let producer = self.room(room).produce(participant, mid, source, encoding)?;
        for (rid, ssrc) in sources {
            self.room(room).bind_source(participant, mid, rid.as_deref(), ssrc);
        }
        Ok(producer)
    }

    /// A new transport of a participant.
    pub(super) fn open_line(
        &mut self,
        now: Instant,
        room: u64,
        participant: ParticipantId,
        transport: Transport,
    ) -> Result<u64, RoomError> {
        let peer = Peer::new(now, &self.engine, transport).map_err(refusal)?;
        let key = self.take_key();
        let deadline = Some(now + CONNECT_WITHIN);
        let line =
            Line { peer, room, participant, transport, deadline, timer: None, is_touched: false, is_dirty: false };
        self.lines.insert(key, line);
        Ok(key)
    }

    /// After a description was made: its credentials open the door, and the clock of connecting runs.
    pub(super) fn admit(&mut self, now: Instant, key: u64) {
        let Some(line) = self.lines.get_mut(&key) else { return };
        if let Some((ufrag, password)) = line.peer.credentials() {
            self.demux.admit(key, ufrag, password);
        }
        if !line.peer.is_connected() {
            line.deadline = Some(now + CONNECT_WITHIN);
        }
        let (room, participant) = (line.room, line.participant);
        if let Ok(seat) = self.seat(room, participant) {
            seat.is_lost = false;
        }
        self.touch(key);
    }

    /// A transport is up, perhaps once more and over another path.
    pub(super) fn line_connected(&mut self, now: Instant, key: u64) {
        let Some(line) = self.lines.get_mut(&key) else { return };
        line.deadline = None;
        let (room, participant, transport) = (line.room, line.participant, line.transport);
        if let Some(hosted) = self.rooms.get_mut(&room) {
            hosted.room.link_is_new(now, key);
            hosted.room.forget_leg(participant, leg(transport));
        }
        self.tell(room, participant, Event::TransportConnected(transport));
        self.request_keyframes_due(now, room);
    }

    /// Ends a transport with everything that goes over it.
    pub(super) fn close_line(&mut self, key: u64) {
        let Some(mut line) = self.lines.remove(&key) else { return };
        line.peer.close();
        while let Some((to, datagram)) = line.peer.poll_transmit() {
            self.post(to, datagram);
        }
        self.demux.forget(key);
        let Some(hosted) = self.rooms.get_mut(&line.room) else { return };
        let Some(seat) = hosted.seats.get_mut(&line.participant) else { return };
        if seat.send == Some(key) {
            seat.send = None;
            hosted.room.close_producers(line.participant);
            hosted.room.forget_leg(line.participant, leg(line.transport));
        } else if seat.recv.as_ref().is_some_and(|recv| recv.peer == key) {
            seat.recv = None;
            hosted.room.close_consumers(line.participant);
            hosted.room.forget_leg(line.participant, leg(line.transport));
        }
    }

    /// Says goodbye to every peer.
    pub(super) fn close(&mut self) {
        let keys: Vec<u64> = self.lines.keys().copied().collect();
        keys.into_iter().for_each(|key| self.close_line(key));
    }

    /// Puts a datagram where it leaves from.
    pub(super) fn post(&mut self, to: Remote, datagram: BytesMut) {
        match to.protocol {
            Protocol::Udp => self.outbox.push((to.address, datagram)),
            Protocol::Tcp => self.tcp_outbox.push((to.address, datagram)),
        }
    }

    /// Notes that a peer may have something to say or to send.
    pub(super) fn touch(&mut self, key: u64) {
        let Some(line) = self.lines.get_mut(&key) else { return };
        line.is_touched = true;
        if !line.is_dirty {
            line.is_dirty = true;
            self.dirty.push(key);
        }
    }

    /// A receiving transport is replaced by the next one the participant asks for.
    pub(super) fn seat_recv(&mut self, room: u64, participant: ParticipantId, key: u64, negotiation: Negotiation) {
        if let Ok(seat) = self.seat(room, participant) {
            seat.recv = Some(Recv::new(key, negotiation));
        }
    }
}

/// What a peer's error is to who asked.
pub(super) fn refusal(error: PeerError) -> RoomError {
    match error {
        PeerError::NoCommonCodec => RoomError::NoCommonCodec,
        PeerError::Candidate(reason) => RoomError::Candidate(reason),
        PeerError::Description(reason) => RoomError::Sdp(reason),
        error @ (PeerError::Stack(_) | PeerError::Panic) => RoomError::Sdp(error.to_string()),
    }
}
