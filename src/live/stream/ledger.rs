//! A stream's entries in the store, written in order by a task of their own, so that a slow database never holds up media.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tracing::Instrument;
use tracing::error;

use crate::live::port::RecordingRow;
use crate::live::port::StateChange;
use crate::live::port::Store;
use crate::live::port::StoreError;
use crate::live::snapshot::Outcome;
use crate::model::id::DestinationId;
use crate::model::id::RecordingId;
use crate::model::id::StreamId;

/// A stream writes some five entries in its life, one for each change of its destinations, and two for each file: a programme's for each
/// restart of its mixer, which are limited to five a minute, and at most 48 stems beside it. A queue this long outlives a database that is
/// away for minutes.
const QUEUE: usize = 256;

/// How long the end of a stream waits for the database.
const PATIENCE: Duration = Duration::from_secs(10);

/// The writing end. Dropping it lets the task write what it has and end.
pub(super) struct Ledger {
    entries: mpsc::Sender<Entry>,
    writer: JoinHandle<()>,
}

enum Entry {
    State(StateChange),
    Outcome(Outcome),
    Destinations(Vec<DestinationId>),
    RecordingBegun(RecordingRow),
    RecordingZero { id: RecordingId, zero_at_ms: i64 },
    RecordingOver { id: RecordingId, path: PathBuf, ended_at_ms: i64, failure: Option<String> },
}

impl Ledger {
    pub(super) fn open(stream: StreamId, store: Arc<dyn Store>, tracker: &TaskTracker) -> Self {
        let (entries, queue) = mpsc::channel(QUEUE);
        let span = tracing::info_span!("ledger", %stream);
        Self { entries, writer: tracker.spawn(write(stream, store, queue).instrument(span)) }
    }

    pub(super) fn state(&self, change: StateChange) {
        self.enter(Entry::State(change));
    }

    pub(super) fn outcome(&self, outcome: Outcome) {
        self.enter(Entry::Outcome(outcome));
    }

    pub(super) fn destinations(&self, ids: Vec<DestinationId>) {
        self.enter(Entry::Destinations(ids));
    }

    pub(super) fn recording_begun(&self, row: RecordingRow) {
        self.enter(Entry::RecordingBegun(row));
    }

    pub(super) fn recording_zero(&self, id: RecordingId, zero_at_ms: i64) {
        self.enter(Entry::RecordingZero { id, zero_at_ms });
    }

    /// The size is read from the file, which nobody writes any more.
    pub(super) fn recording_over(&self, id: RecordingId, path: PathBuf, ended_at_ms: i64, failure: Option<String>) {
        self.enter(Entry::RecordingOver { id, path, ended_at_ms, failure });
    }

    /// Waits until everything is written, for [`PATIENCE`] at most.
    pub(super) async fn close(self) {
        drop(self.entries);
        if tokio::time::timeout(PATIENCE, self.writer).await.is_err() {
            error!("the database did not take the stream's last entries in time; its rows are out of date");
        }
    }

    fn enter(&self, entry: Entry) {
        if self.entries.try_send(entry).is_err() {
            metrics::counter!("jamcast_ledger_dropped_entries_total").increment(1);
            error!("the database is too slow for the stream's entries; one is lost");
        }
    }
}

async fn write(stream: StreamId, store: Arc<dyn Store>, mut queue: mpsc::Receiver<Entry>) {
    while let Some(entry) = queue.recv().await {
        if let Err(failure) = write_one(stream, store.as_ref(), entry).await {
            error!(error = &failure as &dyn std::error::Error, "an entry of the stream could not be stored");
        }
    }
}

async fn write_one(stream: StreamId, store: &dyn Store, entry: Entry) -> Result<(), StoreError> {
    match entry {
        Entry::State(change) => store.set_stream_state(stream, &change).await,
        Entry::Outcome(outcome) => store.set_stream_outcome(stream, &outcome).await,
        Entry::Destinations(ids) => store.set_stream_destinations(stream, &ids).await,
        Entry::RecordingBegun(row) => store.create_recording(&row).await,
        Entry::RecordingZero { id, zero_at_ms } => store.set_recording_zero(id, zero_at_ms).await,
        Entry::RecordingOver { id, path, ended_at_ms, failure } => {
            store.finish_recording(id, ended_at_ms, size_of(&path).await, failure.as_deref()).await
        }
    }
}

/// Bytes of a finished recording; 0 if the mixer died before it wrote any.
pub(crate) async fn size_of(path: &std::path::Path) -> i64 {
    tokio::fs::metadata(path).await.map_or(0, |file| i64::try_from(file.len()).unwrap_or(i64::MAX))
}
