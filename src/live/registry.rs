//! All streams of this gateway: created, started, found, stopped, deleted; and what limits them.

mod claim;
mod config;
mod error;
mod reach;

use std::collections::HashMap;
use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;
use tracing::info;
use tracing::warn;

use crate::domain::lifecycle::Limits;
use crate::live::hls::Shelf;
use crate::live::port::BackupRow;
use crate::live::port::DestinationRow;
use crate::live::port::Page;
use crate::live::port::Ports;
use crate::live::port::RecordingRow;
use crate::live::port::StateChange;
use crate::live::port::StoreError;
use crate::live::port::StreamRow;
pub use crate::live::registry::config::Config;
pub use crate::live::registry::error::StreamError;
use crate::live::registry::error::name;
use crate::live::snapshot::DestinationSnapshot;
use crate::live::snapshot::DestinationState;
use crate::live::snapshot::StreamSnapshot;
use crate::live::snapshot::StreamState;
use crate::live::stream::Handle;
use crate::live::stream::Stream;
use crate::live::stream::now_ms;
use crate::live::stream::size_of;
use crate::live::stream::snapshot_of;
use crate::model::id::DestinationId;
use crate::model::id::RoomId;
use crate::model::id::StreamId;
use crate::model::id::UserId;
use crate::model::secret::StreamKey;
use crate::model::spec::DestinationSpec;
use crate::model::spec::Ingest;
use crate::model::spec::ProgrammeSpec;

/// Streams that were created but not started and can be watched; older ones can still be started, but are not told of it.
const MAX_WAITING: usize = 1024;

/// Rows read at one go when the store is searched at the start.
const PAGE: u32 = 200;

/// A stream as it is asked for; its values are validated.
#[derive(Clone, Debug)]
pub struct NewStream {
    pub room: RoomId,
    pub title: String,
    pub programme: ProgrammeSpec,
    /// In the order they are shown; one named twice is sent to once.
    pub destinations: Vec<DestinationId>,
    pub record: bool,
    /// Whether the musicians' own tracks are recorded beside the programme.
    pub stems: bool,
    /// Whether anybody may watch it over HLS.
    pub hls: bool,
    pub idempotency_key: Option<String>,
}

/// A cloneable handle to all streams.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    ports: Ports,
    config: Config,
    shutdown: CancellationToken,
    tracker: TaskTracker,
    board: Mutex<Board>,
    /// Streams whose tasks have not ended yet.
    tasks: watch::Sender<usize>,
}

#[derive(Default)]
struct Board {
    /// Streams that are being started (with their room) or removed; nobody else may touch them meanwhile.
    claims: HashMap<StreamId, Option<RoomId>>,
    /// Created in this process and not started, oldest first.
    waiting: VecDeque<(StreamId, watch::Sender<StreamSnapshot>)>,
    running: HashMap<StreamId, (RoomId, Handle)>,
    draining: bool,
}

impl Registry {
    /// Streams live in `tracker`'s tasks and end when `shutdown` is cancelled. Call [`Self::recover`] before the first request.
    pub fn new(ports: Ports, config: Config, shutdown: CancellationToken, tracker: TaskTracker) -> Self {
        let board = Mutex::default();
        Self { inner: Arc::new(Inner { ports, config, shutdown, tracker, board, tasks: watch::Sender::new(0) }) }
    }

    /// Closes what an earlier gateway left open in the store: its streams failed, and its recordings end where they do.
    ///
    /// # Errors
    /// When the store fails; it may be called again.
    pub async fn recover(&self) -> Result<(), StreamError> {
        let reason = "the gateway was restarted";
        let store = &self.inner.ports.store;
        let mut page = Page { limit: PAGE, before: None };
        loop {
            let rows = store.streams(None, page.clone()).await?;
            for row in rows.iter().filter(|row| row.state != StreamState::Created && !is_over(row.state)) {
                warn!(stream = %row.id, state = name(row.state), "the gateway died while this stream ran");
                store.set_stream_state(row.id, &ended(StreamState::Failed, Some(reason.to_owned()))).await?;
            }
            let Some(last) = rows.last() else { break };
            page.before = Some((last.created_at_ms, last.id.to_string()));
        }
        page.before = None;
        loop {
            let rows: Vec<RecordingRow> = store.recordings(None, page.clone()).await?;
            for row in rows.iter().filter(|row| row.ended_at_ms.is_none()) {
                let size = size_of(&self.inner.ports.recordings.path.join(&row.file)).await;
                store.finish_recording(row.id, now_ms(), size, Some(reason)).await?;
            }
            let Some(last) = rows.last() else { break };
            page.before = Some((last.created_at_ms, last.id.to_string()));
        }
        Ok(())
    }

    /// Stores a stream; nothing runs before [`Self::start`]. The same owner's same idempotency key gives the same stream again.
    ///
    /// # Errors
    /// [`StreamError`]: an unknown room, somebody else's destination, a key used for another stream, the store.
    pub async fn create(&self, owner: &UserId, new: NewStream) -> Result<StreamSnapshot, StreamError> {
        let store = &self.inner.ports.store;
        let mut destinations: Vec<DestinationId> = Vec::new();
        for id in &new.destinations {
            if !destinations.contains(id) {
                destinations.push(*id);
            }
        }
        let row = StreamRow {
            id: StreamId::generate(),
            owner: owner.clone(),
            room: new.room,
            title: new.title,
            programme: new.programme,
            destinations,
            record: new.record,
            stems: new.stems,
            hls: new.hls,
            idempotency_key: new.idempotency_key,
            state: StreamState::Created,
            reason: None,
            created_at_ms: now_ms(),
            started_at_ms: None,
            ended_at_ms: None,
            outcome: None,
        };
        if let Some(earlier) = self.created_before(&row).await? {
            return Ok(earlier);
        }
        if store.room(&row.room).await?.is_none() {
            return Err(StreamError::UnknownRoom(row.room));
        }
        let mut views = Vec::with_capacity(row.destinations.len());
        for &id in &row.destinations {
            views.push(idle(&self.owned_destination(&row.owner, id).await?));
        }
        match store.create_stream(&row).await {
            Ok(()) => {}
            // Another request with the same key was faster.
            Err(StoreError::Conflict) => {
                return self.created_before(&row).await?.ok_or(StreamError::Store(StoreError::Conflict));
            }
            Err(failure) => return Err(failure.into()),
        }
        let snapshot = snapshot_of(&row, views);
        let mut board = self.board();
        if board.waiting.len() == MAX_WAITING {
            board.waiting.pop_front();
        }
        board.waiting.push_back((row.id, watch::Sender::new(snapshot.clone())));
        Ok(snapshot)
    }

    /// # Errors
    /// When the store fails.
    pub async fn get(&self, id: StreamId) -> Result<Option<StreamSnapshot>, StreamError> {
        if let Some(handle) = self.handle(id) {
            return Ok(Some(handle.snapshot()));
        }
        let Some(row) = self.inner.ports.store.stream(id).await? else { return Ok(None) };
        Ok(Some(self.resting(&row, &mut HashMap::new()).await?))
    }

    /// Newest first; of one owner, or everybody's.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self, owner: Option<&UserId>, page: Page) -> Result<Vec<StreamSnapshot>, StreamError> {
        let rows = self.inner.ports.store.streams(owner, page).await?;
        let mut known = HashMap::new();
        let mut snapshots = Vec::with_capacity(rows.len());
        for row in &rows {
            snapshots.push(match self.handle(row.id) {
                Some(handle) => handle.snapshot(),
                None => self.resting(row, &mut known).await?,
            });
        }
        Ok(snapshots)
    }

    /// Starts a created stream and returns at once; [`Self::watch`] tells how it goes.
    ///
    /// # Errors
    /// [`StreamError`]: unknown, running or over; the room or the gateway is busy; streaming is off; a destination or its key is
    /// not there any more.
    pub async fn start(&self, id: StreamId) -> Result<StreamSnapshot, StreamError> {
        let asked_at = Instant::now();
        let row = self.row(id).await?;
        if !self.inner.config.streaming_enabled {
            return Err(StreamError::Disabled);
        }
        let claim = self.claim(id, Some(row.room))?;
        // Read again: only now nobody else can start, stop or delete it, and what was read before may be outdated.
        let row = self.row(id).await?;
        if row.state != StreamState::Created {
            return Err(StreamError::WrongState(row.state));
        }
        let mut destinations = Vec::with_capacity(row.destinations.len());
        let mut views = Vec::with_capacity(row.destinations.len());
        for &destination in &row.destinations {
            let stored = self.owned_destination(&row.owner, destination).await?;
            views.push(idle(&stored));
            destinations.push(self.opened(stored)?);
        }
        Ok(claim.run(asked_at, row, views, destinations))
    }

    /// Asks a stream to end and returns at once; one that has ended already stays as it is.
    ///
    /// # Errors
    /// [`StreamError`]: unknown, just being started, or the store fails.
    pub async fn stop(&self, id: StreamId) -> Result<StreamSnapshot, StreamError> {
        if let Some(handle) = self.handle(id) {
            info!(stream = %id, "the stream is asked to stop");
            handle.stop();
            return Ok(handle.snapshot());
        }
        let claim = self.claim(id, None)?;
        let mut row = self.row(id).await?;
        if row.state == StreamState::Created {
            let change = ended(StreamState::Ended, None);
            self.inner.ports.store.set_stream_state(id, &change).await?;
            row.state = change.state;
            row.ended_at_ms = change.ended_at_ms;
        }
        let snapshot = self.resting(&row, &mut HashMap::new()).await?;
        if let Some(waiting) = self.take_waiting(id) {
            waiting.send_replace(snapshot.clone());
        }
        drop(claim);
        Ok(snapshot)
    }

    /// Removes a stream that does not run. Its recordings stay.
    ///
    /// # Errors
    /// [`StreamError`]: unknown, running, or the store fails.
    pub async fn delete(&self, id: StreamId) -> Result<(), StreamError> {
        let claim = self.claim(id, None)?;
        let existed = self.inner.ports.store.delete_stream(id).await?;
        let _watchers_see_the_end = self.take_waiting(id);
        drop(claim);
        if existed { Ok(()) } else { Err(StreamError::NotFound) }
    }

    /// Follows a stream that runs, or was created in this process and may run; it closes after the last value.
    pub fn watch(&self, id: StreamId) -> Option<watch::Receiver<StreamSnapshot>> {
        let board = self.board();
        match board.running.get(&id) {
            Some((_, handle)) => Some(handle.watch()),
            None => board.waiting.iter().find(|(waiting, _)| *waiting == id).map(|(_, sender)| sender.subscribe()),
        }
    }

    /// What anybody may fetch of a stream that offers it over HLS and runs, or ran a moment ago.
    pub fn hls(&self, id: StreamId) -> Option<Arc<Shelf>> {
        self.inner.ports.shelves.of(id)
    }

    /// The stream that sends to this destination now, if there is one.
    pub fn sending_to(&self, destination: DestinationId) -> Option<StreamId> {
        let sends = |snapshot: StreamSnapshot| {
            !is_over(snapshot.state) && snapshot.destinations.iter().any(|view| view.id == destination)
        };
        let board = self.board();
        board.running.iter().find(|(_, (_, handle))| sends(handle.snapshot())).map(|(id, _)| *id)
    }

    /// What runs now, as it stands.
    pub fn running(&self) -> Vec<StreamSnapshot> {
        self.board().running.values().map(|(_, handle)| handle.snapshot()).collect()
    }

    /// Streams that run now.
    pub fn active(&self) -> usize {
        self.board().active().count()
    }

    /// Takes no more starts, stops every stream and waits for them to end; tells how many had not when `deadline` had passed.
    pub async fn drain(&self, deadline: Duration) -> usize {
        {
            let mut board = self.board();
            board.draining = true;
            board.running.values().for_each(|(_, handle)| handle.stop());
        }
        let mut tasks = self.inner.tasks.subscribe();
        match tokio::time::timeout(deadline, tasks.wait_for(|left| *left == 0)).await {
            Ok(_) => 0,
            Err(_) => self.active(),
        }
    }

    async fn row(&self, id: StreamId) -> Result<StreamRow, StreamError> {
        self.inner.ports.store.stream(id).await?.ok_or(StreamError::NotFound)
    }

    async fn created_before(&self, asked: &StreamRow) -> Result<Option<StreamSnapshot>, StreamError> {
        let Some(key) = &asked.idempotency_key else { return Ok(None) };
        let store = &self.inner.ports.store;
        let Some(row) = store.stream_by_idempotency_key(&asked.owner, key).await? else { return Ok(None) };
        let same = row.room == asked.room
            && row.title == asked.title
            && row.programme == asked.programme
            && row.destinations == asked.destinations
            && row.record == asked.record
            && row.stems == asked.stems
            && row.hls == asked.hls;
        if same { self.get(row.id).await } else { Err(StreamError::KeyReused) }
    }

    /// Somebody else's destination is as unknown as none, so that nobody can find out which exist.
    async fn owned_destination(&self, owner: &UserId, id: DestinationId) -> Result<DestinationRow, StreamError> {
        let row = self.inner.ports.store.destination(id).await?;
        row.filter(|row| row.owner == *owner).ok_or(StreamError::UnknownDestination(id))
    }

    fn opened(&self, row: DestinationRow) -> Result<(DestinationSpec, StreamKey), StreamError> {
        let key = self.inner.ports.vault.open(row.id, &row.sealed_key)?;
        let backup = match &row.backup {
            Some(BackupRow { endpoint, sealed_key }) => {
                let key = match sealed_key {
                    Some(sealed) => self.inner.ports.vault.open(row.id, sealed)?,
                    None => key.clone(),
                };
                Some(Ingest { endpoint: endpoint.clone(), key })
            }
            None => None,
        };
        let DestinationRow { id, name, platform, endpoint, primary, .. } = row;
        Ok((DestinationSpec { id, name, platform, endpoint, primary, backup }, key))
    }

    /// A stream that does not run: with its last numbers if it ran, and otherwise with those destinations that are still there.
    async fn resting(
        &self,
        row: &StreamRow,
        known: &mut HashMap<DestinationId, Option<DestinationSnapshot>>,
    ) -> Result<StreamSnapshot, StreamError> {
        if let Some(outcome) = &row.outcome {
            let idle = snapshot_of(row, outcome.destinations.clone());
            return Ok(StreamSnapshot { stats: outcome.stats.clone(), ..idle });
        }
        let mut views = Vec::with_capacity(row.destinations.len());
        for &id in &row.destinations {
            let view = match known.entry(id) {
                Entry::Occupied(seen) => seen.get().clone(),
                Entry::Vacant(unseen) => {
                    unseen.insert(self.inner.ports.store.destination(id).await?.as_ref().map(idle)).clone()
                }
            };
            views.extend(view);
        }
        Ok(snapshot_of(row, views))
    }

    pub(in crate::live) fn handle(&self, id: StreamId) -> Option<Handle> {
        self.board().running.get(&id).map(|(_, handle)| handle.clone())
    }

    fn take_waiting(&self, id: StreamId) -> Option<watch::Sender<StreamSnapshot>> {
        let mut board = self.board();
        let index = board.waiting.iter().position(|(waiting, _)| *waiting == id)?;
        board.waiting.remove(index).map(|(_, sender)| sender)
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        // Every change of the board is one statement, so a panic elsewhere while it was held cannot have left it half done.
        self.inner.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limits(&self) -> Limits {
        let config = &self.inner.config;
        Limits {
            start: Duration::from_millis(config.start_timeout_ms),
            stop: Duration::from_millis(config.stop_timeout_ms),
            abandoned: Duration::from_millis(config.stream_timeout_ms),
            ..Limits::default()
        }
    }

    /// Runs a stream to its end in a task of its own.
    fn spawn(&self, stream: Stream, id: StreamId) {
        let registry = self.clone();
        let life = async move {
            stream.run().await;
            registry.board().running.remove(&id);
            registry.inner.tasks.send_modify(|tasks| *tasks -= 1);
            metrics::gauge!("jamcast_streams").decrement(1);
        };
        self.inner.tasks.send_modify(|tasks| *tasks += 1);
        metrics::gauge!("jamcast_streams").increment(1);
        self.inner.tracker.spawn(life.instrument(tracing::info_span!("stream", %id)));
    }
}

impl Board {
    /// Streams that run or are being started, with their rooms. One that has ended and is only leaving does not count.
    fn active(&self) -> impl Iterator<Item = (StreamId, &RoomId)> {
        let running = self.running.iter().filter(|(_, (_, handle))| !is_over(handle.snapshot().state));
        let starting = self.claims.iter().filter_map(|(id, room)| Some((*id, room.as_ref()?)));
        running.map(|(id, (room, _))| (*id, room)).chain(starting)
    }
}

fn ended(state: StreamState, reason: Option<String>) -> StateChange {
    StateChange { state, reason, started_at_ms: None, ended_at_ms: Some(now_ms()) }
}

/// A destination of a stream that does not run.
fn idle(row: &DestinationRow) -> DestinationSnapshot {
    DestinationSnapshot {
        id: row.id,
        name: row.name.clone(),
        platform: row.platform.clone(),
        url: row.endpoint.url(),
        primary: row.primary,
        on_backup: false,
        state: DestinationState::Stopped,
        hint: None,
        retry_in_ms: None,
        first_video_ms: None,
        reconnects: 0,
        bytes_sent: 0,
        bytes_acknowledged: None,
        frames_sent: 0,
        dropped_frames: 0,
        queue_ms: 0,
    }
}

fn is_over(state: StreamState) -> bool {
    matches!(state, StreamState::Ended | StreamState::Failed)
}
