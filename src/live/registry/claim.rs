//! Holds on streams, so that one caller at a time starts, stops or removes one.

use tokio::sync::watch;
use tokio::time::Instant;

use crate::live::port::StreamRow;
use crate::live::registry::Registry;
use crate::live::registry::StreamError;
use crate::live::snapshot::DestinationSnapshot;
use crate::live::snapshot::StreamSnapshot;
use crate::live::snapshot::StreamState;
use crate::live::stream::Plan;
use crate::live::stream::Stream;
use crate::live::stream::snapshot_of;
use crate::model::id::RoomId;
use crate::model::id::StreamId;
use crate::model::secret::StreamKey;
use crate::model::spec::DestinationSpec;

/// One caller's hold on a stream; dropping it lets go.
pub(super) struct Claim<'a> {
    registry: &'a Registry,
    id: StreamId,
}

impl Registry {
    /// Reserves a stream for one caller; for a start, also its room and a place among those that run.
    pub(super) fn claim(&self, id: StreamId, room: Option<RoomId>) -> Result<Claim<'_>, StreamError> {
        let mut board = self.board();
        if let Some((_, handle)) = board.running.get(&id) {
            return Err(StreamError::WrongState(handle.snapshot().state));
        }
        if board.claims.contains_key(&id) {
            return Err(StreamError::WrongState(StreamState::Starting));
        }
        if let Some(room) = &room {
            if board.draining || self.inner.shutdown.is_cancelled() {
                return Err(StreamError::ShuttingDown);
            }
            if let Some((busy, _)) = board.active().find(|(_, other)| *other == room) {
                return Err(StreamError::RoomBusy(busy));
            }
            if board.active().count() >= self.inner.config.max_concurrent_streams {
                return Err(StreamError::TooMany(self.inner.config.max_concurrent_streams));
            }
        }
        board.claims.insert(id, room);
        Ok(Claim { registry: self, id })
    }
}

impl Claim<'_> {
    /// Turns the claim into a running stream.
    pub(super) fn run(
        self,
        asked_at: Instant,
        row: StreamRow,
        views: Vec<DestinationSnapshot>,
        destinations: Vec<(DestinationSpec, StreamKey)>,
    ) -> StreamSnapshot {
        let registry = self.registry;
        let first = StreamSnapshot { state: StreamState::Starting, ..snapshot_of(&row, views) };
        let sender = registry.take_waiting(self.id).unwrap_or_else(|| watch::Sender::new(first.clone()));
        sender.send_replace(first.clone());
        let plan = Plan {
            asked_at,
            destinations,
            limits: registry.limits(),
            destination_config: registry.inner.config.destination.clone(),
            adaptation: registry.inner.config.adaptation.clone(),
            row,
        };
        let room = plan.row.room.clone();
        let inner = &registry.inner;
        let (stream, handle) = Stream::new(plan, inner.ports.clone(), sender, &inner.shutdown, &inner.tracker);
        if registry.board().draining {
            handle.stop();
        }
        registry.board().running.insert(self.id, (room, handle));
        registry.spawn(stream, self.id);
        first
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.registry.board().claims.remove(&self.id);
    }
}
