//! The rooms of one worker: takes requests, keeps seats and transports, and lets go of who is gone.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

use bytes::BytesMut;
use tokio::sync::mpsc;
use tokio::sync::watch;

use crate::domain::room::KeyframeRequest;
use crate::domain::room::Room;
use crate::domain::room::keyframe::Plea;
use crate::driver::rtc::Config;
use crate::driver::rtc::containment::Work;
use crate::driver::rtc::counters::Counters;
use crate::driver::rtc::demux::Demux;
use crate::driver::rtc::engine::Engine;
use crate::driver::rtc::media::Media;
use crate::driver::rtc::path::Protocol;
use crate::driver::rtc::path::Remote;
use crate::driver::rtc::peer::Heard;
use crate::driver::rtc::peer::Peer;
use crate::driver::rtc::peer::PeerError;
use crate::driver::rtc::seat::Line;
use crate::driver::rtc::seat::Negotiation;
use crate::driver::rtc::seat::Recv;
use crate::driver::rtc::seat::Seat;
use crate::live::rooms::Change;
use crate::live::rooms::Command;
use crate::live::rooms::ConsumerInfo;
use crate::live::rooms::Event;
use crate::live::rooms::Joined;
use crate::live::rooms::Keeper;
use crate::live::rooms::Kept;
use crate::live::rooms::Newcomer;
use crate::live::rooms::Request;
use crate::live::rooms::RoomError;
use crate::live::rooms::Roster;
use crate::live::rooms::Tap;
use crate::live::rooms::TapMedia;
use crate::live::rooms::TrackSource;
use crate::live::rooms::Transport;
use crate::model::id::ParticipantId;
use crate::model::id::ProducerId;
use crate::model::id::RoomId;
use crate::model::role::RoomRole;

/// How long a transport may take to connect. Browsers give up after 15 s to 30 s.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);
/// How long a participant is kept without a sign of life, for its page may be reloading or its network changing.
const GRACE: Duration = Duration::from_secs(30);
/// Volume hints come with every other tick: five times a second.
const TICKS_PER_HINT: u32 = 2;
/// Packets waiting at a tap: over 2 s of a full room of 8 cameras.
const TAP_QUEUE: usize = 8192;

/// All rooms of one worker. Datagrams to send are in `outbox`.
pub(super) struct Host {
    pub(super) config: Config,
    pub(super) engine: Engine,
    names: HashMap<RoomId, u64>,
    pub(super) rooms: HashMap<u64, Hosted>,
    pub(super) lines: HashMap<u64, Line>,
    pub(super) demux: Demux,
    pub(super) counters: Counters,
    pub(super) work: Work,
    pub(super) timers: BinaryHeap<Reverse<(Instant, u64)>>,
    pub(super) dirty: Vec<u64>,
    pub(super) outbox: Vec<(SocketAddr, BytesMut)>,
    pub(super) tcp_outbox: Vec<(SocketAddr, BytesMut)>,
    pub(super) heard: Vec<Heard>,
    pub(super) media: Vec<(u64, Media)>,
    /// When the datagrams being handled were received, microseconds of the monotonic clock.
    pub(super) arrival_us: u64,
    ticks: u32,
    /// Its word to those who send it rooms.
    pub(super) keeper: Keeper,
    /// Rooms closed but not given up yet.
    closed: Vec<RoomId>,
    next_key: u64,
    next_track: u32,
}

/// A room and who is connected to it.
pub(super) struct Hosted {
    pub(super) name: RoomId,
    pub(super) room: Room,
    pub(super) seats: HashMap<ParticipantId, Seat>,
    pub(super) taps: Vec<TapEnd>,
}

/// Our end of a tap.
pub(super) struct TapEnd {
    pub(super) roster: watch::Sender<Roster>,
    pub(super) media: mpsc::Sender<TapMedia>,
}

impl Host {
    pub(super) fn new(config: Config, engine: Engine, demux: Demux) -> Self {
        Self {
            config,
            engine,
            names: HashMap::new(),
            rooms: HashMap::new(),
            lines: HashMap::new(),
            demux,
            counters: Counters::default(),
            work: Work::default(),
            timers: BinaryHeap::new(),
            dirty: Vec::new(),
            outbox: Vec::new(),
            tcp_outbox: Vec::new(),
            heard: Vec::new(),
            media: Vec::new(),
            arrival_us: 0,
            ticks: 0,
            keeper: Keeper::default(),
            closed: Vec::new(),
            next_key: 0,
            next_track: 0,
        }
    }

    /// Does what a command asks. Whoever asked may be gone; then nobody hears the answer.
    pub(super) fn handle(&mut self, now: Instant, command: Command) {
        let Command { room: name, request } = command;
        if let Some(room) = self.names.get(&name) {
            self.work.is_for(*room);
        }
        if let Request::Join { newcomer, events, reply } = request {
            let _gone = reply.send(self.join(&name, newcomer, events));
        } else if let Request::Tap { reply } = request {
            let _gone = reply.send(Ok(self.tap(&name)));
        } else if let Some(&room) = self.names.get(&name) {
            self.handle_in(now, room, request);
        } else {
            refuse(request);
        }
        if let Some(&room) = self.names.get(&name) {
            self.settle(now, room);
        }
    }

    fn handle_in(&mut self, now: Instant, room: u64, request: Request) {
        match request {
            Request::Join { .. } | Request::Tap { .. } => {}
            Request::Rejoin { participant, events, reply } => {
                let _gone = reply.send(self.rejoin(room, participant, events));
            }
            Request::Leave { participant } => self.leave(room, participant),
            Request::Publish { participant, offer, reply } => {
                let _gone = reply.send(self.publish(now, room, participant, &offer));
            }
            Request::Subscribe { participant, offer, reply } => {
                let _gone = reply.send(self.subscribe(now, room, participant, &offer));
            }
            Request::Answer { participant, offer_id, answer, reply } => {
                let _gone = reply.send(self.answer(now, room, participant, offer_id, &answer));
            }
            Request::Candidate { participant, transport, candidate, reply } => {
                let _gone = reply.send(self.candidate(room, participant, transport, &candidate));
            }
            Request::RestartIce { participant, reply } => {
                let _gone = reply.send(self.restart_ice(now, room, participant));
            }
            Request::Produce { participant, mid, source, reply } => {
                let _gone = reply.send(self.produce(room, participant, &mid, source));
            }
            Request::SetProducer { participant, producer, change, reply } => {
                let room = self.room(room);
                let _gone = reply.send(match change {
                    Change::Pause => room.pause_producer(participant, producer, true),
                    Change::Resume => room.pause_producer(participant, producer, false),
                    Change::Close => room.close_producer(participant, producer),
                });
            }
            Request::Consume { participant, producer, reply } => self.want(now, room, participant, producer, reply),
            Request::SetConsumer { participant, consumer, change, reply } => {
                let room = self.room(room);
                let _gone = reply.send(match change {
                    Change::Pause => room.pause_consumer(participant, consumer, true),
                    Change::Resume => room.pause_consumer(participant, consumer, false),
                    Change::Close => room.close_consumer(participant, consumer),
                });
            }
            Request::Prioritise { participant, consumer, priority, reply } => {
                let _gone = reply.send(self.room(room).prioritise(participant, consumer, priority));
            }
            Request::Order { by, order, reply } => {
                let _gone = reply.send(self.room(room).order(by, order));
            }
            Request::SetTile { participant, consumer, tile, reply } => {
                let _gone = reply.send(self.room(room).set_tile(participant, consumer, tile));
            }
            Request::SetTapTile { track, tile } => self.room(room).set_tap_tile(track, tile),
            Request::Keyframe { track } => {
                let plea = self.room(room).plead_for_track(now, track);
                self.plead(now, room, plea);
            }
        }
    }

    fn join(&mut self, name: &RoomId, newcomer: Newcomer, events: mpsc::Sender<Event>) -> Result<Joined, RoomError> {
        let key = self.open_room(name);
        let participant = newcomer.participant;
        let mut joined = self.room(key).join(newcomer.clone());
        // Whoever is here goes before whoever may come back.
        if matches!(joined, Err(RoomError::RoomFull(_)))
            && let Some(absent) = self.absent(key, newcomer.role)
        {
            self.leave(key, absent);
            joined = self.room(key).join(newcomer);
        }
        let joined = joined?;
        let hosted = self.rooms.get_mut(&key).expect("just opened");
        match hosted.seats.get_mut(&participant) {
            Some(seat) => {
                seat.events = events;
                seat.is_lost = false;
            }
            None => {
                hosted.seats.insert(participant, Seat::new(events));
            }
        }
        Ok(joined)
    }

    /// Who came first of those whose signalling is broken and whose place somebody of this role could have.
    fn absent(&self, room: u64, role: RoomRole) -> Option<ParticipantId> {
        let hosted = self.rooms.get(&room)?;
        let is_away = |id| hosted.seats.get(&id).is_some_and(|seat| seat.events.is_closed());
        // A viewer never takes a musician's place.
        let could_have = |other: RoomRole| other == RoomRole::Viewer || role != RoomRole::Viewer;
        hosted.room.everybody().find(|other| could_have(other.role) && is_away(other.id)).map(|other| other.id)
    }

    /// Somebody whose signalling broke is back, with what it had.
    fn rejoin(
        &mut self,
        room: u64,
        participant: ParticipantId,
        events: mpsc::Sender<Event>,
    ) -> Result<Joined, RoomError> {
        let seat = self.seat(room, participant)?;
        seat.events = events;
        seat.is_lost = false;
        let (send, recv) = (seat.send.is_some(), seat.recv.as_ref().map(|recv| recv.peer));
        let joined = self.room(room).look_around(participant)?;
        let producers = self.room(room).produced_by(participant);
        let consumed: Vec<_> = self.room(room).consumed_by(participant).collect();
        let line = recv.and_then(|key| self.lines.get_mut(&key));
        let consumers = line.map_or_else(Vec::new, |line| {
            let carried = consumed.into_iter().map(|(id, producer, codec, outlet)| {
                let mid = line.peer.lane_mid(outlet.lane).unwrap_or_default();
                ConsumerInfo { id, producer, kind: codec.kind(), mid }
            });
            carried.collect()
        });
        self.offer_again(room, participant);
        Ok(Joined { kept: Some(Kept { send, recv: recv.is_some(), producers, consumers }), ..joined })
    }

    fn tap(&mut self, name: &RoomId) -> Tap {
        let key = self.open_room(name);
        let hosted = self.rooms.get_mut(&key).expect("just opened");
        let (roster, roster_rx) = watch::channel(hosted.room.roster());
        let (media, media_rx) = mpsc::channel(TAP_QUEUE);
        // A tap that knew no sender's clock would have to guess until the next reports, seconds of sound beside its picture.
        for (track, ntp, rtp) in hosted.room.reports() {
            let sent = media.try_send(TapMedia::SenderReport { track, ntp, rtp });
            self.counters.tap_dropped += u64::from(sent.is_err());
        }
        hosted.taps.push(TapEnd { roster, media });
        hosted.room.set_tapped(true);
        Tap { roster: roster_rx, media: media_rx }
    }

    fn open_room(&mut self, name: &RoomId) -> u64 {
        if let Some(key) = self.names.get(name) {
            return *key;
        }
        let key = self.take_key();
        let room = Room::new(self.config.limits(), self.next_track);
        self.rooms.insert(key, Hosted { name: name.clone(), room, seats: HashMap::new(), taps: Vec::new() });
        self.names.insert(name.clone(), key);
        key
    }

    /// The answer to the offer of what a participant sends. A transport that is beyond repair gives way to a new one.
    fn publish(
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

    fn candidate(
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

    fn produce(
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
        } else if seat.recv.as_ref().is_some_and(|recv| recv.peer == key) {
            seat.recv = None;
            hosted.room.close_consumers(line.participant);
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

    pub(super) fn leave(&mut self, room: u64, participant: ParticipantId) {
        let Some(hosted) = self.rooms.get_mut(&room) else { return };
        let seat = hosted.seats.remove(&participant);
        hosted.room.leave(participant);
        if let Some(seat) = seat {
            for key in seat.send.into_iter().chain(seat.recv.map(|recv| recv.peer)) {
                self.close_line(key);
            }
        }
    }

    /// Ten times a second: keyframes due, volume hints, participants that are gone, rooms nobody needs.
    pub(super) fn tick(&mut self, now: Instant) {
        self.ticks = self.ticks.wrapping_add(1);
        let hints = self.ticks.is_multiple_of(TICKS_PER_HINT);
        let rooms: Vec<u64> = self.rooms.keys().copied().collect();
        for room in rooms {
            self.work.is_for(room);
            self.room(room).choose_layers(now);
            self.request_keyframes_due(now, room);
            self.close_expired(now, room);
            if hints {
                self.tell_levels(room);
            }
            for (participant, reason) in self.gone(now, room) {
                tracing::info!(%participant, reason, "a participant is removed");
                if let Ok(seat) = self.seat(room, participant) {
                    let _gone = seat.events.try_send(Event::Removed { reason });
                }
                self.leave(room, participant);
            }
            self.settle(now, room);
            self.close_room_if_unused(room);
        }
        let (keeper, names) = (&self.keeper, &self.names);
        self.closed.retain(|room| !names.contains_key(room) && !keeper.give_up(room));
    }

    /// Who sends without trouble loses only the receiving transport that did not connect; the next wish to consume opens another.
    fn close_expired(&mut self, now: Instant, room: u64) {
        let Some(hosted) = self.rooms.get(&room) else { return };
        let is_expired = |key: &u64| self.lines.get(key).is_some_and(|line| line.is_expired(now));
        let is_connected = |key: &u64| self.lines.get(key).is_some_and(|line| line.peer.is_connected());
        let expired = |seat: &Seat| {
            let recv = seat.recv.as_ref().map(|recv| recv.peer).filter(is_expired);
            recv.filter(|_| seat.send.as_ref().is_some_and(is_connected))
        };
        let expired: Vec<(ParticipantId, u64)> =
            hosted.seats.iter().filter_map(|(participant, seat)| Some((*participant, expired(seat)?))).collect();
        for (participant, key) in expired {
            tracing::info!(%participant, "a receiving transport did not connect and is closed");
            self.tell(room, participant, Event::TransportFailed(Transport::Recv));
            self.close_line(key);
        }
    }

    fn gone(&mut self, now: Instant, room: u64) -> Vec<(ParticipantId, &'static str)> {
        let Some(hosted) = self.rooms.get_mut(&room) else { return Vec::new() };
        let mut gone = Vec::new();
        for (participant, seat) in &mut hosted.seats {
            let keys = seat.send.into_iter().chain(seat.recv.as_ref().map(|recv| recv.peer));
            let lines: Vec<&Line> = keys.filter_map(|key| self.lines.get(&key)).collect();
            if lines.iter().any(|line| line.is_expired(now)) {
                gone.push((*participant, "no media connection within 30 seconds"));
                continue;
            }
            let connected = lines.iter().any(|line| line.peer.is_connected());
            let connecting = lines.is_empty() || lines.iter().any(|line| line.deadline.is_some());
            // Media may go on flowing from somebody whose leave was lost; without a listener nobody can ever end it.
            if (connected || (connecting && !seat.is_lost)) && !seat.events.is_closed() {
                seat.silent_since = None;
            } else if now.saturating_duration_since(*seat.silent_since.get_or_insert(now)) >= GRACE {
                gone.push((*participant, "no sign of life for 30 seconds"));
            }
        }
        gone
    }

    pub(super) fn request_keyframes_due(&mut self, now: Instant, room: u64) {
        let Some(hosted) = self.rooms.get_mut(&room) else { return };
        let lines = &self.lines;
        let open = |outlet: crate::domain::room::producer::Outlet| {
            lines.get(&outlet.peer).is_some_and(|line| line.peer.is_open(outlet.lane))
        };
        for request in hosted.room.keyframes_due(now, open) {
            self.plead(now, room, (Plea::Send, Some(request)));
        }
    }

    /// Counts a plea and passes it to the source when it is time.
    pub(super) fn plead(&mut self, now: Instant, room: u64, plea: (Plea, Option<KeyframeRequest>)) {
        let (Plea::Send, Some(request)) = plea else {
            self.counters.keyframes_coalesced += 1;
            return;
        };
        self.counters.keyframes_sent += 1;
        let key = self.seat(room, request.participant).ok().and_then(|seat| seat.send);
        if let Some(line) = key.and_then(|key| self.lines.get_mut(&key)) {
            line.peer.request_keyframe(now, request.ssrc);
        }
        if let Some(key) = key {
            self.touch(key);
        }
    }

    /// A consumer's plea that was one too many.
    pub(super) fn refused_keyframe(&mut self, now: Instant, room: u64, participant: ParticipantId) {
        self.counters.keyframes_refused += 1;
        if let Some(refused) = self.seat(room, participant).ok().and_then(|seat| seat.pleas_refused.note(now, 1)) {
            tracing::warn!(%participant, refused, "a participant floods keyframe requests; most of them are ignored");
        }
    }

    /// Packets that a participant wanted again beyond its due.
    pub(super) fn refused_repetitions(&mut self, now: Instant, room: u64, participant: ParticipantId, refused: u64) {
        self.counters.repetitions_refused += refused;
        let seat = self.seat(room, participant).ok();
        if let Some(refused) = seat.and_then(|seat| seat.repetitions_refused.note(now, refused)) {
            tracing::warn!(%participant, refused, "a participant floods NACKs; it gets as many packets again as it was sent");
        }
    }

    fn close_room_if_unused(&mut self, key: u64) {
        let Some(hosted) = self.rooms.get_mut(&key) else { return };
        hosted.taps.retain(|tap| !tap.media.is_closed());
        hosted.room.set_tapped(!hosted.taps.is_empty());
        if hosted.room.is_empty() && hosted.taps.is_empty() {
            self.remove_room(key);
        }
    }

    pub(super) fn remove_room(&mut self, key: u64) -> Option<Hosted> {
        let hosted = self.rooms.remove(&key)?;
        // Track numbers are never used twice, not even by a room of the same name.
        self.next_track = self.next_track.max(hosted.room.next_track());
        self.names.remove(&hosted.name);
        self.closed.push(hosted.name.clone());
        Some(hosted)
    }

    pub(super) fn participants(&self) -> usize {
        self.rooms.values().map(|hosted| hosted.room.participants()).sum()
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

    pub(super) fn seat(&mut self, room: u64, participant: ParticipantId) -> Result<&mut Seat, RoomError> {
        let hosted = self.rooms.get_mut(&room).ok_or(RoomError::NotJoined)?;
        hosted.seats.get_mut(&participant).ok_or(RoomError::NotJoined)
    }

    pub(super) fn room(&mut self, key: u64) -> &mut Room {
        &mut self.rooms.get_mut(&key).expect("a room's key comes from the table and rooms close on ticks only").room
    }

    fn take_key(&mut self) -> u64 {
        self.next_key += 1;
        self.next_key
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

/// The answer to everything in a room that is not there.
fn refuse(request: Request) {
    let error = RoomError::NotJoined;
    let _gone = match request {
        Request::Leave { .. }
        | Request::Keyframe { .. }
        | Request::SetTapTile { .. }
        | Request::Join { .. }
        | Request::Tap { .. } => true,
        Request::Publish { reply, .. } | Request::Subscribe { reply, .. } => reply.send(Err(error)).is_ok(),
        Request::Answer { reply, .. }
        | Request::Candidate { reply, .. }
        | Request::RestartIce { reply, .. }
        | Request::Prioritise { reply, .. }
        | Request::Order { reply, .. }
        | Request::SetProducer { reply, .. }
        | Request::SetTile { reply, .. }
        | Request::SetConsumer { reply, .. } => reply.send(Err(error)).is_ok(),
        Request::Rejoin { reply, .. } => reply.send(Err(error)).is_ok(),
        Request::Produce { reply, .. } => reply.send(Err(error)).is_ok(),
        Request::Consume { reply, .. } => reply.send(Err(error)).is_ok(),
    };
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::driver::rtc::engine::Candidates;
    use crate::model::id::UserId;
    use crate::model::role::RoomRole;

    fn host() -> Host {
        let engine =
            Engine::new(Candidates { udp: vec![SocketAddr::from(([127, 0, 0, 1], 1))], tcp: Vec::new() }, false)
                .expect("a certificate");
        Host::new(Config::default(), engine, Demux::default())
    }

    fn name() -> RoomId {
        "jam".parse().expect("a slug")
    }

    fn user() -> UserId {
        "anna".parse().expect("a user")
    }

    fn enter(host: &mut Host, now: Instant) -> (ParticipantId, mpsc::Receiver<Event>) {
        enter_as(host, now, RoomRole::Musician)
    }

    fn enter_as(host: &mut Host, now: Instant, role: RoomRole) -> (ParticipantId, mpsc::Receiver<Event>) {
        let participant = ParticipantId::generate();
        let newcomer = Newcomer { participant, user: user(), name: "Anna".to_owned(), role };
        let (events, received) = mpsc::channel(8);
        let request = Request::Join { newcomer, events, reply: oneshot::channel().0 };
        host.handle(now, Command { room: name(), request });
        (participant, received)
    }

    #[test]
    fn who_waits_for_others_may_wait_and_who_is_gone_is_let_go() {
        let start = Instant::now();
        let mut host = host();
        let (_anna, events) = enter(&mut host, start);
        host.tick(start + Duration::from_secs(600));
        assert_eq!(host.participants(), 1, "her signalling is there");
        drop(events);
        host.tick(start + Duration::from_secs(601));
        host.tick(start + Duration::from_secs(630));
        assert_eq!(host.participants(), 1, "she may come back");
        host.tick(start + Duration::from_secs(631));
        assert_eq!(host.participants(), 0);
        assert!(host.rooms.is_empty(), "and the empty room is closed");
    }

    #[test]
    fn a_full_room_gives_the_place_of_who_may_come_back_to_who_is_here() {
        let now = Instant::now();
        let mut host = host();
        host.config.max_participants = 2;
        let (anna, her_line) = enter(&mut host, now);
        let (_ben, _his_line) = enter(&mut host, now);
        let key = host.names[&name()];
        let is_in = |host: &mut Host, who: ParticipantId| host.room(key).everybody().any(|other| other.id == who);
        let (early, _line) = enter(&mut host, now);
        assert!(!is_in(&mut host, early), "nobody who is there goes");
        drop(her_line);
        let (viewer, _line) = enter_as(&mut host, now, RoomRole::Viewer);
        assert!(!is_in(&mut host, viewer) && is_in(&mut host, anna), "a viewer has no use for a musician's place");
        let (late, _line) = enter(&mut host, now);
        assert!(is_in(&mut host, late) && !is_in(&mut host, anna));
        assert_eq!(host.participants(), 2);
    }

    #[test]
    fn a_participant_whose_transport_broke_has_half_a_minute_to_come_back() {
        let start = Instant::now();
        let mut host = host();
        let (anna, _events) = enter(&mut host, start);
        let key = host.names[&name()];
        host.seat(key, anna).expect("she sits").is_lost = true;
        host.tick(start);
        host.tick(start + Duration::from_secs(29));
        assert_eq!(host.participants(), 1);
        let newcomer = Newcomer { participant: anna, user: user(), name: "Anna".to_owned(), role: RoomRole::Musician };
        let (events, _received) = mpsc::channel(8);
        let request = Request::Join { newcomer, events, reply: oneshot::channel().0 };
        host.handle(start + Duration::from_secs(29), Command { room: name(), request });
        host.tick(start + Duration::from_secs(100));
        assert_eq!(host.participants(), 1, "she came back");
        host.seat(key, anna).expect("she sits").is_lost = true;
        host.tick(start + Duration::from_secs(200));
        host.tick(start + Duration::from_secs(230));
        assert_eq!(host.participants(), 0);
    }

    fn consume(host: &mut Host, now: Instant, participant: ParticipantId, producer: ProducerId) {
        let request = Request::Consume { participant, producer, reply: oneshot::channel().0 };
        host.handle(now, Command { room: name(), request });
    }

    #[test]
    fn a_transport_that_never_connects_costs_the_seat() {
        let start = Instant::now();
        let mut host = host();
        let (anna, mut events) = enter(&mut host, start);
        let (ben, _bens_events) = enter(&mut host, start);
        let key = host.names[&name()];
        let encoding =
            crate::domain::room::producer::Encoding { codec: crate::model::media::Codec::Opus, payload_type: 111 };
        let producer = host.room(key).produce(ben, "0", TrackSource::Microphone, encoding).expect("allowed");
        consume(&mut host, start, anna, producer);
        assert_eq!(host.lines.len(), 1);
        host.tick(start + Duration::from_secs(29));
        assert_eq!(host.participants(), 2);
        host.tick(start + Duration::from_secs(30));
        assert_eq!(host.participants(), 1, "only Ben is left");
        assert!(host.lines.is_empty());
        let told = std::iter::from_fn(|| events.try_recv().ok()).last();
        assert!(matches!(told, Some(Event::Removed { .. })), "{told:?}");
    }

    #[test]
    fn wanting_what_is_gone_already_costs_nothing() {
        let start = Instant::now();
        let mut host = host();
        let (anna, _events) = enter(&mut host, start);
        consume(&mut host, start, anna, ProducerId::generate());
        host.tick(start + Duration::from_secs(60));
        assert_eq!(host.participants(), 1);
        assert!(host.lines.is_empty());
    }

    /// Lines of log as they are written.
    #[derive(Clone, Default)]
    struct Log(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("nobody panicked").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_floods_is_named_in_one_line() {
        let now = Instant::now();
        let mut host = host();
        let (mallory, _events) = enter(&mut host, now);
        let key = host.names[&name()];
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..10_000 {
                host.refused_keyframe(now, key, mallory);
                host.refused_repetitions(now, key, mallory, 100);
            }
        });
        let log = String::from_utf8(log.0.lock().expect("nobody panicked").clone()).expect("text");
        for flood in ["floods keyframe requests", "floods NACKs"] {
            let lines: Vec<&str> = log.lines().filter(|line| line.contains(flood)).collect();
            assert!(matches!(lines[..], [line] if line.contains(&mallory.to_string())), "{lines:?}");
        }
    }

    #[test]
    fn track_numbers_outlive_the_room() {
        let now = Instant::now();
        let mut host = host();
        let (participant, _events) = enter(&mut host, now);
        let key = host.names[&name()];
        let encoding =
            crate::domain::room::producer::Encoding { codec: crate::model::media::Codec::Opus, payload_type: 111 };
        host.room(key).produce(participant, "0", TrackSource::Microphone, encoding).expect("allowed");
        host.handle(now, Command { room: name(), request: Request::Leave { participant } });
        host.tick(now);
        assert!(host.rooms.is_empty());
        let (_participant, _events) = enter(&mut host, now);
        let key = host.names[&name()];
        assert_eq!(host.room(key).next_track(), 1);
    }
}
