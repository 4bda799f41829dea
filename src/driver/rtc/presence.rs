//! Who comes, who stays, and who is let go.

use std::time::Duration;
use std::time::Instant;

use tokio::sync::mpsc;

use crate::driver::rtc::host::Host;
use crate::driver::rtc::seat::Line;
use crate::driver::rtc::seat::Seat;
use crate::live::rooms::ConsumerInfo;
use crate::live::rooms::Event;
use crate::live::rooms::Joined;
use crate::live::rooms::Kept;
use crate::live::rooms::Newcomer;
use crate::live::rooms::RoomError;
use crate::live::rooms::Transport;
use crate::model::id::ParticipantId;
use crate::model::id::RoomId;
use crate::model::role::RoomRole;

/// How long a participant is kept without a sign of life, for its page may be reloading or its network changing.
const GRACE: Duration = Duration::from_secs(30);

impl Host {
    pub(super) fn join(
        &mut self,
        name: &RoomId,
        newcomer: Newcomer,
        events: mpsc::Sender<Event>,
    ) -> Result<Joined, RoomError> {
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
    pub(super) fn rejoin(
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

    /// Who sends without trouble loses only the receiving transport that did not connect; the next wish to consume opens another.
    pub(super) fn close_expired(&mut self, now: Instant, room: u64) {
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

    pub(super) fn gone(&mut self, now: Instant, room: u64) -> Vec<(ParticipantId, &'static str)> {
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
}
