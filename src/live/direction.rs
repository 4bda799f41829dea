//! The door to a running programme: its host's directions go in, its meters come out.

use tokio::sync::watch;

use crate::live::registry::Registry;
use crate::live::registry::StreamError;
use crate::live::snapshot::Meters;
use crate::live::snapshot::StreamSnapshot;
use crate::live::stream::Direction;
use crate::model::id::StreamId;

impl Registry {
    /// Changes a running programme and gives the stream as it is then.
    ///
    /// # Errors
    /// [`StreamError`]: unknown, not running, or the store fails.
    pub async fn direct(&self, id: StreamId, direction: Direction) -> Result<StreamSnapshot, StreamError> {
        if let Some(handle) = self.handle(id)
            && let Some(snapshot) = handle.direct(direction).await
        {
            return Ok(snapshot);
        }
        let snapshot = self.get(id).await?.ok_or(StreamError::NotFound)?;
        Err(StreamError::WrongState(snapshot.state))
    }

    /// How loud a running stream is; the values end with it.
    pub fn meters(&self, id: StreamId) -> Option<watch::Receiver<Meters>> {
        Some(self.handle(id)?.meters())
    }
}
