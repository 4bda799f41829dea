//! What a stream asks its room while somebody leads: how late the others are in the programme.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;

use crate::live::rooms::Request;
use crate::live::rooms::RoomError;
use crate::live::stream::Stream;
use crate::model::id::ParticipantId;

/// As often as the room measures it.
const EVERY: Duration = Duration::from_secs(2);

/// How late everybody was, and behind whom.
pub(super) type Lateness = (ParticipantId, Result<Vec<(ParticipantId, Duration)>, RoomError>);

/// When the room is asked next, or its answer that is awaited.
pub(super) struct Measuring {
    due: Instant,
    pub(super) answer: Option<BoxFuture<'static, Lateness>>,
}

impl Measuring {
    pub(super) const fn new(now: Instant) -> Self {
        Self { due: now, answer: None }
    }
}

impl Stream {
    /// Asks the room when it is time to.
    pub(super) fn measure_lateness(&mut self, now: Instant) {
        let Some(leader) = self.staging.alignment.leader() else { return };
        if now < self.measuring.due || self.measuring.answer.is_some() {
            return;
        }
        self.measuring.due = now + EVERY;
        let (rooms, room) = (self.ports.rooms.clone(), self.row.room.clone());
        let answer = async move { (leader, rooms.ask(&room, |reply| Request::Lateness { leader, reply }).await) };
        self.measuring.answer = Some(answer.boxed());
    }

    /// Delays everybody as it follows from that. From a room that does not answer nothing follows.
    pub(super) fn on_lateness(&mut self, (leader, answer): Lateness) {
        self.measuring.answer = None;
        let here: Vec<_> = self.roster.participants.iter().map(|info| info.id).collect();
        let Ok(measured) = answer else { return };
        if self.staging.alignment.note(Instant::now().into_std(), &here, leader, &measured) {
            self.show();
        }
    }
}
