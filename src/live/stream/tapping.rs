//! The room's tap as the stream holds it: asked for, open, lost and asked for again.

use std::future;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;

use crate::live::rooms::Request;
use crate::live::rooms::RoomError;
use crate::live::rooms::Rooms;
use crate::live::rooms::Roster;
use crate::live::rooms::Tap;
use crate::live::rooms::TapMedia;
use crate::model::id::RoomId;

/// Packets taken at one go: about 10 ms of a full room, so that everything else gets its turn.
const BATCH: usize = 64;

/// A worker answers within a millisecond; one that does not for this long will not answer this request.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two attempts to get a tap: short against the seconds that a restarted worker needs.
const RETRY: Duration = Duration::from_secs(1);

pub(super) struct Tapping {
    rooms: Rooms,
    room: RoomId,
    state: State,
    /// How long it took at the beginning until what the musicians' links lose had come again.
    repair: Duration,
}

enum State {
    Asking { lost: bool, answer: BoxFuture<'static, Result<Tap, RoomError>> },
    Open(Tap),
    Closed,
}

pub(super) enum TapEvent {
    Roster(Roster),
    Media(Vec<TapMedia>),
    /// The worker ended the tap or refuses one. Another is being asked for.
    Lost,
}

impl Tapping {
    pub(super) fn open(rooms: Rooms, room: RoomId) -> Self {
        let answer = ask(rooms.clone(), room.clone(), Instant::now());
        Self { rooms, room, state: State::Asking { lost: false, answer }, repair: Duration::ZERO }
    }

    /// Stops listening for good.
    pub(super) fn close(&mut self) {
        self.state = State::Closed;
    }

    pub(super) const fn repair(&self) -> Duration {
        self.repair
    }

    pub(super) fn is_lost(&self) -> bool {
        matches!(self.state, State::Asking { lost: true, .. })
    }

    /// The next event; for ever pending once closed. Safe to cancel.
    pub(super) async fn next(&mut self) -> TapEvent {
        match &mut self.state {
            State::Closed => future::pending().await,
            State::Asking { answer, .. } => match answer.await {
                Ok(mut tap) => {
                    let roster = tap.roster.borrow_and_update().clone();
                    self.repair = tap.repair;
                    self.state = State::Open(tap);
                    TapEvent::Roster(roster)
                }
                Err(_) => self.lose(),
            },
            State::Open(tap) => {
                let mut batch = Vec::with_capacity(BATCH);
                tokio::select! {
                    biased;
                    changed = tap.roster.changed() => match changed {
                        Ok(()) => TapEvent::Roster(tap.roster.borrow_and_update().clone()),
                        Err(_) => self.lose(),
                    },
                    taken = tap.media.recv_many(&mut batch, BATCH) => match taken {
                        0 => self.lose(),
                        _ => TapEvent::Media(batch),
                    },
                }
            }
        }
    }

    fn lose(&mut self) -> TapEvent {
        let answer = ask(self.rooms.clone(), self.room.clone(), Instant::now() + RETRY);
        self.state = State::Asking { lost: true, answer };
        TapEvent::Lost
    }
}

fn ask(rooms: Rooms, room: RoomId, at: Instant) -> BoxFuture<'static, Result<Tap, RoomError>> {
    async move {
        tokio::time::sleep_until(at).await;
        let answer = rooms.ask(&room, |reply| Request::Tap { reply });
        tokio::time::timeout(PATIENCE, answer).await.unwrap_or(Err(RoomError::Overloaded))
    }
    .boxed()
}
