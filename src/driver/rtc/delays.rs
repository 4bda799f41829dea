//! The delay table of a room: fed by what peers and the worker measure and receivers report, told to everybody in the room.

use std::time::Duration;

use crate::domain::room::delay::Leg;
use crate::driver::rtc::host::Host;
use crate::live::rooms::DelayTable;
use crate::live::rooms::Event;
use crate::live::rooms::RoomError;
use crate::live::rooms::Transport;
use crate::model::id::ConsumerId;
use crate::model::id::ParticipantId;

/// The leg that a transport is.
pub(super) const fn leg(transport: Transport) -> Leg {
    match transport {
        Transport::Send => Leg::Send,
        Transport::Recv => Leg::Recv,
    }
}

impl Host {
    pub(super) fn tell_delays(&mut self, room: u64) {
        let processing = self.counters.forwarding_delay();
        let Some(hosted) = self.rooms.get_mut(&room) else { return };
        hosted.room.note_processing(processing);
        for (participant, paths) in hosted.room.delays() {
            if let Some(seat) = hosted.seats.get(&participant) {
                seat.hint(Event::Delays(paths));
            }
        }
    }

    pub(super) fn delay_table(&mut self, room: u64) -> DelayTable {
        let processing = self.counters.forwarding_delay();
        let room = self.room(room);
        room.note_processing(processing);
        DelayTable {
            participants: room.everybody().cloned().collect(),
            for_hosts: room.paths(true),
            for_all: room.paths(false),
        }
    }

    pub(super) fn lateness(&mut self, room: u64, leader: ParticipantId) -> Vec<(ParticipantId, Duration)> {
        let processing = self.counters.forwarding_delay();
        let room = self.room(room);
        room.note_processing(processing);
        room.lateness(leader)
    }

    pub(super) fn note_jitter_buffers(
        &mut self,
        room: u64,
        participant: ParticipantId,
        reported: &[(ConsumerId, Duration)],
    ) -> Result<(), RoomError> {
        self.seat(room, participant)?;
        self.room(room).note_jitter_buffers(participant, reported);
        Ok(())
    }
}
