//! The rooms of one worker: takes requests, keeps rooms, seats and taps, and looks after them ten times a second.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::BytesMut;
use tokio::sync::mpsc;
use tokio::sync::watch;

use crate::domain::room::Room;
use crate::driver::rtc::Config;
use crate::driver::rtc::containment::Work;
use crate::driver::rtc::counters::Counters;
use crate::driver::rtc::demux::Demux;
use crate::driver::rtc::engine::Engine;
use crate::driver::rtc::media::Media;
use crate::driver::rtc::peer::Heard;
use crate::driver::rtc::programme::Packetiser;
use crate::driver::rtc::seat::Line;
use crate::driver::rtc::seat::Seat;
use crate::live::rooms::Change;
use crate::live::rooms::Command;
use crate::live::rooms::Event;
use crate::live::rooms::Keeper;
use crate::live::rooms::Request;
use crate::live::rooms::RoomError;
use crate::live::rooms::Roster;
use crate::live::rooms::Tap;
use crate::live::rooms::TapMedia;
use crate::model::id::ParticipantId;
use crate::model::id::RoomId;

/// Volume hints come with every other tick: five times a second.
const TICKS_PER_HINT: u32 = 2;
/// The delay table comes every two seconds, as often as its legs are measured.
const TICKS_PER_TABLE: u32 = 20;
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
    pub(super) packetiser: Packetiser,
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
            Request::JitterBuffers { participant, reported, reply } => {
                let _gone = reply.send(self.note_jitter_buffers(room, participant, &reported));
            }
            Request::Delays { reply } => {
                let _gone = reply.send(Ok(self.delay_table(room)));
            }
            Request::Lateness { leader, reply } => {
                let _gone = reply.send(Ok(self.lateness(room, leader)));
            }
            Request::Screen { frame } => self.screen(now, room, &frame),
            Request::EndScreening => self.room(room).end_screening(),
            Request::SetTapTile { track, tile } => self.room(room).set_tap_tile(track, tile),
            Request::Keyframe { track } => {
                let plea = self.room(room).plead_for_track(now, track);
                self.plead(now, room, plea);
            }
        }
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
        Tap { roster: roster_rx, media: media_rx, repair: hosted.room.repair() }
    }

    pub(super) fn open_room(&mut self, name: &RoomId) -> u64 {
        if let Some(key) = self.names.get(name) {
            return *key;
        }
        let key = self.take_key();
        let room = Room::new(self.config.limits(), self.next_track);
        let (seats, taps, packetiser) = (HashMap::new(), Vec::new(), Packetiser::default());
        self.rooms.insert(key, Hosted { name: name.clone(), room, seats, taps, packetiser });
        self.names.insert(name.clone(), key);
        key
    }

    /// Ten times a second: keyframes due, volume hints, delays, participants that are gone, rooms nobody needs.
    pub(super) fn tick(&mut self, now: Instant) {
        self.ticks = self.ticks.wrapping_add(1);
        let hints = self.ticks.is_multiple_of(TICKS_PER_HINT);
        let delays = self.ticks.is_multiple_of(TICKS_PER_TABLE);
        let rooms: Vec<u64> = self.rooms.keys().copied().collect();
        for room in rooms {
            self.work.is_for(room);
            self.room(room).choose_layers(now);
            self.send_trains(now, room);
            self.request_keyframes_due(now, room);
            self.close_expired(now, room);
            self.room(room).end_stale_screening(now);
            if hints {
                self.tell_levels(room);
            }
            if delays {
                self.tell_delays(room);
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

    #[cfg(test)]
    pub(super) fn key_of(&self, name: &RoomId) -> Option<u64> {
        self.names.get(name).copied()
    }

    pub(super) fn seat(&mut self, room: u64, participant: ParticipantId) -> Result<&mut Seat, RoomError> {
        let hosted = self.rooms.get_mut(&room).ok_or(RoomError::NotJoined)?;
        hosted.seats.get_mut(&participant).ok_or(RoomError::NotJoined)
    }

    pub(super) fn room(&mut self, key: u64) -> &mut Room {
        &mut self.rooms.get_mut(&key).expect("a room's key comes from the table and rooms close on ticks only").room
    }

    pub(super) fn take_key(&mut self) -> u64 {
        self.next_key += 1;
        self.next_key
    }
}

/// The answer to everything in a room that is not there.
fn refuse(request: Request) {
    let error = RoomError::NotJoined;
    let _gone = match request {
        Request::Leave { .. }
        | Request::Keyframe { .. }
        | Request::SetTapTile { .. }
        | Request::Screen { .. }
        | Request::EndScreening
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
        | Request::JitterBuffers { reply, .. }
        | Request::SetConsumer { reply, .. } => reply.send(Err(error)).is_ok(),
        Request::Delays { reply } => reply.send(Err(error)).is_ok(),
        Request::Lateness { reply, .. } => reply.send(Err(error)).is_ok(),
        Request::Rejoin { reply, .. } => reply.send(Err(error)).is_ok(),
        Request::Produce { reply, .. } => reply.send(Err(error)).is_ok(),
        Request::Consume { reply, .. } => reply.send(Err(error)).is_ok(),
    };
}

#[cfg(test)]
mod tests;
