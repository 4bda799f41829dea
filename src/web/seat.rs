//! A participant's place in a room: taken by joining, given back whenever its owner goes, however it goes.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::live::rooms::Event;
use crate::live::rooms::Joined;
use crate::live::rooms::Newcomer;
use crate::live::rooms::Reply;
use crate::live::rooms::Request;
use crate::live::rooms::RoomError;
use crate::live::rooms::Rooms;
use crate::model::id::ParticipantId;
use crate::model::id::RoomId;
use crate::model::role::RoomGrant;

/// Events waiting for one participant; joining a room of fifty brings about a hundred at once.
const EVENT_QUEUE: usize = 256;

/// The longest a worker may take; it answers in microseconds, so this only ends the wait for one that is wedged.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A place in a room; dropping it leaves.
pub(crate) struct Seat {
    rooms: Rooms,
    pub(crate) room: RoomId,
    pub(crate) participant: ParticipantId,
}

impl Seat {
    /// Joins the room of this grant.
    pub(crate) async fn take(
        rooms: &Rooms,
        grant: &RoomGrant,
    ) -> Result<(Self, Joined, mpsc::Receiver<Event>), RoomError> {
        // The seat is there before the room is asked: if nobody waits for the answer any more, dropping it leaves again.
        let seat = Self { rooms: rooms.clone(), room: grant.room.clone(), participant: ParticipantId::generate() };
        let newcomer = Newcomer {
            participant: seat.participant,
            user: grant.user.clone(),
            name: grant.name.clone(),
            role: grant.role,
        };
        let (events, heard) = mpsc::channel(EVENT_QUEUE);
        let joined = seat.ask(|_, reply| Request::Join { newcomer, events, reply }).await?;
        Ok((seat, joined, heard))
    }

    /// Sits down again after a broken line; events come to the new one from now on.
    pub(crate) async fn retake(&self) -> Result<(Joined, mpsc::Receiver<Event>), RoomError> {
        let (events, heard) = mpsc::channel(EVENT_QUEUE);
        let joined = self.ask(|participant, reply| Request::Rejoin { participant, events, reply }).await?;
        Ok((joined, heard))
    }

    /// Asks the room something in this participant's name.
    pub(crate) async fn ask<T>(
        &self,
        request: impl FnOnce(ParticipantId, Reply<T>) -> Request,
    ) -> Result<T, RoomError> {
        tokio::time::timeout(ANSWER_TIMEOUT, self.ask_patiently(request)).await.unwrap_or(Err(RoomError::Overloaded))
    }

    /// As [`Self::ask`], for what waits for the participant itself and may take as long as that does.
    pub(crate) async fn ask_patiently<T>(
        &self,
        request: impl FnOnce(ParticipantId, Reply<T>) -> Request,
    ) -> Result<T, RoomError> {
        self.rooms.ask(&self.room, |reply| request(self.participant, reply)).await
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.rooms.tell(&self.room, Request::Leave { participant: self.participant });
    }
}
