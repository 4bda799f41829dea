//! All streams of this gateway: create, start, stop, find.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;

use tokio::sync::watch;

use crate::live::port::Page;
use crate::live::port::Ports;
use crate::live::port::StoreError;
use crate::live::port::StreamRow;
use crate::live::snapshot::StreamSnapshot;
use crate::live::snapshot::StreamState;
use crate::live::snapshot::StreamStats;
use crate::model::fault::Fault;
use crate::model::fault::Faulty;
use crate::model::id::DestinationId;
use crate::model::id::RoomId;
use crate::model::id::StreamId;
use crate::model::id::UserId;
use crate::model::spec::ProgrammeSpec;

#[derive(Clone)]
pub struct Registry {
    ports: Ports,
    live: Arc<Mutex<HashMap<StreamId, watch::Sender<StreamSnapshot>>>>,
}

#[derive(Clone, Debug)]
pub struct NewStream {
    pub room: RoomId,
    pub title: String,
    pub programme: ProgrammeSpec,
    pub destinations: Vec<DestinationId>,
    pub record: bool,
    pub idempotency_key: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error("there is no such stream")]
    NotFound,
    #[error("the stream is {0:?}")]
    WrongState(StreamState),
    #[error("this idempotency key was used for another stream; use a new key for a new stream")]
    KeyReused,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl StreamError {
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::WrongState(_) => "wrong_state",
            Self::KeyReused => "idempotency_key_reused",
            Self::Store(_) => "store",
        }
    }
}

impl Faulty for StreamError {
    fn fault(&self) -> Fault {
        match self {
            Self::NotFound | Self::KeyReused | Self::WrongState(_) => Fault::Client,
            Self::Store(error) => error.fault(),
        }
    }
}

impl Registry {
    pub fn new(ports: Ports) -> Self {
        Self { ports, live: Arc::default() }
    }

    pub async fn create(&self, owner: &UserId, new: NewStream) -> Result<StreamSnapshot, StreamError> {
        let row = StreamRow {
            id: StreamId::generate(),
            owner: owner.clone(),
            room: new.room,
            title: new.title,
            programme: new.programme,
            destinations: new.destinations,
            record: new.record,
            idempotency_key: new.idempotency_key,
            state: StreamState::Created,
            reason: None,
            created_at_ms: chrono::Utc::now().timestamp_millis(),
            started_at_ms: None,
            ended_at_ms: None,
        };
        if let Some(key) = &row.idempotency_key
            && let Some(earlier) = self.ports.store.stream_by_idempotency_key(owner, key).await?
        {
            return if earlier.title == row.title { Ok(snapshot(earlier)) } else { Err(StreamError::KeyReused) };
        }
        self.ports.store.create_stream(&row).await?;
        let snapshot = snapshot(row);
        self.live.lock().expect("no panic").insert(snapshot.id, watch::channel(snapshot.clone()).0);
        Ok(snapshot)
    }

    pub async fn get(&self, id: StreamId) -> Result<Option<StreamSnapshot>, StreamError> {
        if let Some(live) = self.live.lock().expect("no panic").get(&id) {
            return Ok(Some(live.borrow().clone()));
        }
        Ok(self.ports.store.stream(id).await?.map(snapshot))
    }

    pub async fn list(&self, owner: Option<&UserId>, page: Page) -> Result<Vec<StreamSnapshot>, StreamError> {
        Ok(self.ports.store.streams(owner, page).await?.into_iter().map(snapshot).collect())
    }

    pub async fn start(&self, id: StreamId) -> Result<StreamSnapshot, StreamError> {
        self.shift(id, StreamState::Created, StreamState::Live)
    }

    pub async fn stop(&self, id: StreamId) -> Result<StreamSnapshot, StreamError> {
        self.shift(id, StreamState::Live, StreamState::Ended)
    }

    pub async fn delete(&self, id: StreamId) -> Result<(), StreamError> {
        if self.get(id).await?.is_some_and(|snapshot| snapshot.state == StreamState::Live) {
            return Err(StreamError::WrongState(StreamState::Live));
        }
        self.live.lock().expect("no panic").remove(&id);
        self.ports.store.delete_stream(id).await?;
        Ok(())
    }

    pub fn watch(&self, id: StreamId) -> Option<watch::Receiver<StreamSnapshot>> {
        self.live.lock().expect("no panic").get(&id).map(watch::Sender::subscribe)
    }

    fn shift(&self, id: StreamId, from: StreamState, to: StreamState) -> Result<StreamSnapshot, StreamError> {
        let live = self.live.lock().expect("no panic");
        let sender = live.get(&id).ok_or(StreamError::NotFound)?;
        let now = sender.borrow().state;
        if now != from {
            return Err(StreamError::WrongState(now));
        }
        sender.send_modify(|snapshot| snapshot.state = to);
        Ok(sender.borrow().clone())
    }
}

fn snapshot(row: StreamRow) -> StreamSnapshot {
    StreamSnapshot {
        id: row.id,
        room: row.room,
        owner: row.owner,
        title: row.title,
        programme: row.programme,
        record: row.record,
        state: row.state,
        reason: row.reason,
        created_at_ms: row.created_at_ms,
        started_at_ms: row.started_at_ms,
        ended_at_ms: row.ended_at_ms,
        destinations: Vec::new(),
        stats: StreamStats::default(),
    }
}
