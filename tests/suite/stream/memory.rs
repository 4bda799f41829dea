//! The rows in memory, and a vault without a lock.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::MutexGuard;

use async_trait::async_trait;
use jamcast::live::port::DestinationRow;
use jamcast::live::port::MarkerRow;
use jamcast::live::port::Page;
use jamcast::live::port::RecordingRow;
use jamcast::live::port::RoomRow;
use jamcast::live::port::SealedKey;
use jamcast::live::port::StateChange;
use jamcast::live::port::Store;
use jamcast::live::port::StoreError;
use jamcast::live::port::StreamRow;
use jamcast::live::port::UploadRow;
use jamcast::live::port::Vault;
use jamcast::live::port::VaultError;
use jamcast::live::snapshot::Outcome;
use jamcast::model::id::DestinationId;
use jamcast::model::id::MarkerId;
use jamcast::model::id::RecordingId;
use jamcast::model::id::RoomId;
use jamcast::model::id::StreamId;
use jamcast::model::id::UserId;
use jamcast::model::secret::StreamKey;

#[derive(Default)]
pub(super) struct Rows {
    pub(super) rooms: HashMap<RoomId, RoomRow>,
    pub(super) destinations: HashMap<DestinationId, DestinationRow>,
    pub(super) streams: Vec<StreamRow>,
    pub(super) recordings: Vec<RecordingRow>,
}

#[derive(Default)]
pub(super) struct Memory(Mutex<Rows>);

impl Memory {
    pub(super) fn rows(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().expect("no test panics while it holds the rows")
    }
}

fn page<T: Clone>(rows: impl DoubleEndedIterator<Item = T>, page: &Page, key: impl Fn(&T) -> (i64, String)) -> Vec<T> {
    let mut rows: Vec<T> = rows.filter(|row| page.before.as_ref().is_none_or(|before| key(row) < *before)).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(key(row)));
    rows.truncate(page.limit as usize);
    rows
}

#[async_trait]
impl Store for Memory {
    async fn create_room(&self, room: &RoomRow) -> Result<(), StoreError> {
        self.rows().rooms.insert(room.id.clone(), room.clone());
        Ok(())
    }
    async fn room(&self, id: &RoomId) -> Result<Option<RoomRow>, StoreError> {
        Ok(self.rows().rooms.get(id).cloned())
    }
    async fn rooms(&self, _: Option<&UserId>, _: Page) -> Result<Vec<RoomRow>, StoreError> {
        Ok(Vec::new())
    }
    async fn create_destination(&self, row: &DestinationRow) -> Result<(), StoreError> {
        self.rows().destinations.insert(row.id, row.clone());
        Ok(())
    }
    async fn destination(&self, id: DestinationId) -> Result<Option<DestinationRow>, StoreError> {
        Ok(self.rows().destinations.get(&id).cloned())
    }
    async fn destinations(&self, _: Option<&UserId>, _: Page) -> Result<Vec<DestinationRow>, StoreError> {
        Ok(Vec::new())
    }
    async fn rotate_key(&self, _: DestinationId, _: &SealedKey, _: &str) -> Result<bool, StoreError> {
        Ok(false)
    }
    async fn set_primary(&self, _: DestinationId, _: bool) -> Result<bool, StoreError> {
        Ok(false)
    }
    async fn delete_destination(&self, id: DestinationId) -> Result<bool, StoreError> {
        Ok(self.rows().destinations.remove(&id).is_some())
    }
    async fn create_stream(&self, row: &StreamRow) -> Result<(), StoreError> {
        self.rows().streams.push(row.clone());
        Ok(())
    }
    async fn stream(&self, id: StreamId) -> Result<Option<StreamRow>, StoreError> {
        Ok(self.rows().streams.iter().find(|row| row.id == id).cloned())
    }
    async fn stream_by_idempotency_key(&self, owner: &UserId, key: &str) -> Result<Option<StreamRow>, StoreError> {
        let rows = self.rows();
        Ok(rows.streams.iter().find(|r| r.owner == *owner && r.idempotency_key.as_deref() == Some(key)).cloned())
    }
    async fn streams(&self, owner: Option<&UserId>, wanted: Page) -> Result<Vec<StreamRow>, StoreError> {
        let rows = self.rows().streams.clone();
        let rows = rows.into_iter().filter(|row| owner.is_none_or(|owner| row.owner == *owner));
        Ok(page(rows, &wanted, |row| (row.created_at_ms, row.id.to_string())))
    }
    async fn set_stream_state(&self, id: StreamId, change: &StateChange) -> Result<(), StoreError> {
        if let Some(row) = self.rows().streams.iter_mut().find(|row| row.id == id) {
            row.state = change.state;
            row.reason = change.reason.clone();
            row.started_at_ms = change.started_at_ms.or(row.started_at_ms);
            row.ended_at_ms = change.ended_at_ms.or(row.ended_at_ms);
        }
        Ok(())
    }
    async fn set_stream_outcome(&self, id: StreamId, outcome: &Outcome) -> Result<(), StoreError> {
        if let Some(row) = self.rows().streams.iter_mut().find(|row| row.id == id) {
            row.outcome = Some(outcome.clone());
        }
        Ok(())
    }
    async fn set_stream_destinations(&self, id: StreamId, destinations: &[DestinationId]) -> Result<(), StoreError> {
        if let Some(row) = self.rows().streams.iter_mut().find(|row| row.id == id) {
            row.destinations = destinations.to_vec();
        }
        Ok(())
    }
    async fn delete_stream(&self, id: StreamId) -> Result<bool, StoreError> {
        let mut rows = self.rows();
        let before = rows.streams.len();
        rows.streams.retain(|row| row.id != id);
        Ok(rows.streams.len() < before)
    }
    async fn create_recording(&self, row: &RecordingRow) -> Result<(), StoreError> {
        self.rows().recordings.push(row.clone());
        Ok(())
    }
    async fn set_recording_zero(&self, id: RecordingId, zero_at_ms: i64) -> Result<(), StoreError> {
        let mut rows = self.rows();
        let row = rows.recordings.iter_mut().find(|row| row.id == id).expect("a recording that was begun");
        row.zero_at_ms = Some(zero_at_ms);
        Ok(())
    }
    async fn finish_recording(
        &self,
        id: RecordingId,
        ended_at_ms: i64,
        size_bytes: i64,
        failure: Option<&str>,
    ) -> Result<(), StoreError> {
        let mut rows = self.rows();
        let row = rows.recordings.iter_mut().find(|row| row.id == id).expect("a recording that was begun");
        assert_eq!(row.ended_at_ms, None, "finished twice");
        row.ended_at_ms = Some(ended_at_ms);
        row.size_bytes = Some(size_bytes);
        row.failure = failure.map(str::to_owned);
        Ok(())
    }
    async fn set_recording_kept(&self, _: RecordingId, _: bool) -> Result<bool, StoreError> {
        Ok(false)
    }
    async fn delete_recording(&self, id: RecordingId) -> Result<bool, StoreError> {
        let mut rows = self.rows();
        let before = rows.recordings.len();
        rows.recordings.retain(|row| row.id != id);
        Ok(rows.recordings.len() < before)
    }
    async fn recordings_to_upload(&self, _: u32) -> Result<Vec<RecordingRow>, StoreError> {
        Ok(Vec::new())
    }
    async fn set_upload(&self, _: &UploadRow) -> Result<(), StoreError> {
        Ok(())
    }
    async fn upload(&self, _: RecordingId) -> Result<Option<UploadRow>, StoreError> {
        Ok(None)
    }
    async fn next_upload(&self, _: i64) -> Result<Option<UploadRow>, StoreError> {
        Ok(None)
    }
    async fn unfinished_uploads(&self) -> Result<Vec<RecordingId>, StoreError> {
        Ok(Vec::new())
    }
    async fn delete_upload(&self, _: RecordingId) -> Result<(), StoreError> {
        Ok(())
    }
    async fn create_marker(&self, _: &MarkerRow) -> Result<(), StoreError> {
        Ok(())
    }
    async fn markers(&self, _: StreamId) -> Result<Vec<MarkerRow>, StoreError> {
        Ok(Vec::new())
    }
    async fn delete_marker(&self, _: StreamId, _: MarkerId) -> Result<bool, StoreError> {
        Ok(false)
    }
    async fn recording(&self, _: RecordingId) -> Result<Option<RecordingRow>, StoreError> {
        Ok(None)
    }
    async fn recordings(&self, _: Option<&UserId>, wanted: Page) -> Result<Vec<RecordingRow>, StoreError> {
        Ok(page(self.rows().recordings.clone().into_iter(), &wanted, |row| (row.created_at_ms, row.id.to_string())))
    }
    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

pub(crate) struct OpenVault;

impl Vault for OpenVault {
    fn seal(&self, _: DestinationId, key: &StreamKey) -> SealedKey {
        SealedKey(key.expose().as_bytes().to_vec())
    }
    fn open(&self, _: DestinationId, sealed: &SealedKey) -> Result<StreamKey, VaultError> {
        StreamKey::new(String::from_utf8(sealed.0.clone()).map_err(|_| VaultError)?).map_err(|_| VaultError)
    }
}
