//! Changing where a stream goes: before it runs in its row, while it runs in the stream itself.

use std::collections::HashMap;

use crate::live::port::StreamRow;
use crate::live::registry::Registry;
use crate::live::registry::StreamError;
use crate::live::snapshot::StreamSnapshot;
use crate::live::snapshot::StreamState;
use crate::live::stream::Handle;
use crate::model::id::DestinationId;
use crate::model::id::StreamId;

impl Registry {
    /// Sends a stream to one more destination; one that it goes to already changes nothing.
    ///
    /// # Errors
    /// [`StreamError`]: unknown, ending or over; a destination that is not its owner's, or whose key cannot be opened; the store.
    pub async fn add_destination(
        &self,
        id: StreamId,
        destination: DestinationId,
    ) -> Result<StreamSnapshot, StreamError> {
        let row = self.row(id).await?;
        let stored = self.owned_destination(&row.owner, destination).await?;
        match self.handle(id) {
            Some(handle) => {
                let (spec, key) = self.opened(stored)?;
                handle.join(spec, key).await.ok_or_else(|| too_late(&handle))
            }
            None => self.rewrite(id, |row| row.destinations.push(destination)).await,
        }
    }

    /// Sends a stream to one destination less; one that it does not go to changes nothing.
    ///
    /// # Errors
    /// [`StreamError`]: unknown, ending or over; the store.
    pub async fn remove_destination(
        &self,
        id: StreamId,
        destination: DestinationId,
    ) -> Result<StreamSnapshot, StreamError> {
        match self.handle(id) {
            Some(handle) => handle.leave(destination).await.ok_or_else(|| too_late(&handle)),
            None => self.rewrite(id, |row| row.destinations.retain(|other| *other != destination)).await,
        }
    }

    /// Has programmes follow what this destination takes, or not any more, those that run as well. `false` if it is unknown.
    ///
    /// # Errors
    /// The store fails.
    pub async fn mark_destination(&self, destination: DestinationId, primary: bool) -> Result<bool, StreamError> {
        let known = self.inner.ports.store.set_primary(destination, primary).await?;
        let running: Vec<Handle> = self.board().running.values().map(|(_, handle)| handle.clone()).collect();
        for handle in running {
            // One that is over by now has no bitrate left to follow anything.
            let _over = handle.mark(destination, primary).await;
        }
        Ok(known)
    }

    /// Changes the destinations of a stream that was created and does not run.
    async fn rewrite(&self, id: StreamId, change: impl FnOnce(&mut StreamRow)) -> Result<StreamSnapshot, StreamError> {
        let claim = self.claim(id, None)?;
        let mut row = self.row(id).await?;
        if row.state != StreamState::Created {
            return Err(StreamError::WrongState(row.state));
        }
        change(&mut row);
        let mut seen = Vec::new();
        row.destinations.retain(|id| {
            !seen.contains(id) && {
                seen.push(*id);
                true
            }
        });
        self.inner.ports.store.set_stream_destinations(id, &row.destinations).await?;
        let snapshot = self.resting(&row, &mut HashMap::new()).await?;
        if let Some((_, waiting)) = self.board().waiting.iter().find(|(waiting, _)| *waiting == id) {
            waiting.send_replace(snapshot.clone());
        }
        drop(claim);
        Ok(snapshot)
    }
}

fn too_late(handle: &Handle) -> StreamError {
    StreamError::WrongState(handle.snapshot().state)
}
