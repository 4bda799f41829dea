//! Rows in SQLite or PostgreSQL through one portable SQL text.
//!
//! SQLite serves one machine without any set-up: one writing connection, because SQLite has one writer anyway and a queue before it
//! is fairer than its busy loop, and a few reading ones that write-ahead logging lets pass beside it. PostgreSQL serves when one
//! machine is outgrown. Every statement is one `const` text in `sql.rs`, run by the same lines on either.

mod open;
mod rows;
mod sql;

use async_trait::async_trait;
use sqlx::PgPool;
use sqlx::SqlitePool;

use self::rows::DestinationTuple;
use self::rows::FromTuple;
use self::rows::MarkerTuple;
use self::rows::RecordingTuple;
use self::rows::RoomTuple;
use self::rows::StreamTuple;
use self::rows::UploadTuple;
use self::rows::state_name;
use self::rows::to_json;
use crate::live::port::DestinationRow;
use crate::live::port::MOST_MARKERS;
use crate::live::port::MarkerRow;
use crate::live::port::Page;
use crate::live::port::RecordingRow;
use crate::live::port::RoomRow;
use crate::live::port::SealedKey;
use crate::live::port::StateChange;
use crate::live::port::Store;
use crate::live::port::StoreError;
use crate::live::port::StreamRow;
use crate::live::port::UploadRow;
use crate::live::snapshot::Outcome;
use crate::model::id::DestinationId;
use crate::model::id::MarkerId;
use crate::model::id::RecordingId;
use crate::model::id::RoomId;
use crate::model::id::StreamId;
use crate::model::id::UserId;

pub use self::open::OpenError;

/// The most rows one page holds, so that no caller can ask for the whole table.
const MAX_PAGE: u32 = 200;

/// An open database. Clones share its connections.
#[derive(Clone, Debug)]
pub enum Db {
    Sqlite { writer: SqlitePool, reader: SqlitePool },
    Postgres(PgPool),
}

/// Runs the same statement on whichever database it is: `read` beside other readers, `write` in SQLite's one queue.
macro_rules! run {
    (read $db:expr, |$pool:ident| $statement:expr) => {
        match $db {
            Db::Sqlite { reader: $pool, .. } => $statement.await.map_err(store_error),
            Db::Postgres($pool) => $statement.await.map_err(store_error),
        }
    };
    (write $db:expr, |$pool:ident| $statement:expr) => {
        match $db {
            Db::Sqlite { writer: $pool, .. } => $statement.await.map(|done| done.rows_affected()).map_err(store_error),
            Db::Postgres($pool) => $statement.await.map(|done| done.rows_affected()).map_err(store_error),
        }
    };
}

/// One row by its id, or `None`.
macro_rules! one {
    ($db:expr, $tuple:ty, $sql:expr, $($bind:expr),+) => {{
        let found = run!(read $db, |pool| sqlx::query_as::<_, $tuple>($sql)$(.bind($bind))+.fetch_optional(pool))?;
        found.map(FromTuple::from_tuple).transpose()
    }};
}

/// A keyset page of one table, of one owner or of everybody.
macro_rules! page {
    ($db:expr, $tuple:ty, $table:ident, $owner:expr, $page:expr) => {{
        let (before_ms, before_id) = start_of(&$page);
        let limit = i64::from($page.limit.clamp(1, MAX_PAGE));
        let found = match $owner {
            Some(owner) => run!(read $db, |pool| sqlx::query_as::<_, $tuple>(sql::$table::NEWEST_OF_OWNER)
                .bind(before_ms)
                .bind(before_id)
                .bind(limit)
                .bind(owner.as_str())
                .fetch_all(pool)),
            None => run!(read $db, |pool| sqlx::query_as::<_, $tuple>(sql::$table::NEWEST)
                .bind(before_ms)
                .bind(before_id)
                .bind(limit)
                .fetch_all(pool)),
        };
        found?.into_iter().map(FromTuple::from_tuple).collect()
    }};
}

/// A row exactly at this place is not part of the page; without one, every time is before the end of time.
fn start_of(page: &Page) -> (i64, &str) {
    page.before.as_ref().map_or((i64::MAX, ""), |(created_at_ms, id)| (*created_at_ms, id.as_str()))
}

fn store_error(error: sqlx::Error) -> StoreError {
    let conflict = error.as_database_error().is_some_and(|error| error.is_unique_violation());
    if conflict { StoreError::Conflict } else { StoreError::Database(Box::new(error)) }
}

#[async_trait]
impl Store for Db {
    async fn create_room(&self, room: &RoomRow) -> Result<(), StoreError> {
        run!(write self, |pool| sqlx::query(sql::rooms::INSERT)
            .bind(room.id.as_str())
            .bind(room.owner.as_str())
            .bind(&room.title)
            .bind(room.created_at_ms)
            .execute(pool))
        .map(drop)
    }

    async fn room(&self, id: &RoomId) -> Result<Option<RoomRow>, StoreError> {
        one!(self, RoomTuple, sql::rooms::BY_ID, id.as_str())
    }

    async fn rooms(&self, owner: Option<&UserId>, page: Page) -> Result<Vec<RoomRow>, StoreError> {
        page!(self, RoomTuple, rooms, owner, page)
    }

    async fn create_destination(&self, destination: &DestinationRow) -> Result<(), StoreError> {
        let backup = destination.backup.as_ref().map(|backup| to_json(&backup.endpoint)).transpose()?;
        run!(write self, |pool| sqlx::query(sql::destinations::INSERT)
            .bind(destination.id.to_string())
            .bind(destination.owner.as_str())
            .bind(destination.room.as_ref().map(RoomId::as_str))
            .bind(&destination.name)
            .bind(&destination.platform)
            .bind(destination.endpoint.tls)
            .bind(&destination.endpoint.host)
            .bind(i64::from(destination.endpoint.port))
            .bind(&destination.endpoint.app)
            .bind(destination.primary)
            .bind(&destination.sealed_key.0)
            .bind(&destination.key_hint)
            .bind(backup)
            .bind(destination.backup.as_ref().and_then(|backup| backup.sealed_key.as_ref()).map(|sealed| &sealed.0))
            .bind(destination.created_at_ms)
            .execute(pool))
        .map(drop)
    }

    async fn destination(&self, id: DestinationId) -> Result<Option<DestinationRow>, StoreError> {
        one!(self, DestinationTuple, sql::destinations::BY_ID, id.to_string())
    }

    async fn destinations(&self, owner: Option<&UserId>, page: Page) -> Result<Vec<DestinationRow>, StoreError> {
        page!(self, DestinationTuple, destinations, owner, page)
    }

    async fn rotate_key(&self, id: DestinationId, sealed: &SealedKey, hint: &str) -> Result<bool, StoreError> {
        run!(write self, |pool| sqlx::query(sql::ROTATE_KEY)
            .bind(id.to_string())
            .bind(&sealed.0)
            .bind(hint)
            .execute(pool))
        .map(|rows| rows > 0)
    }

    async fn set_primary(&self, id: DestinationId, primary: bool) -> Result<bool, StoreError> {
        run!(write self, |pool| sqlx::query(sql::SET_PRIMARY).bind(id.to_string()).bind(primary).execute(pool))
            .map(|rows| rows > 0)
    }

    async fn delete_destination(&self, id: DestinationId) -> Result<bool, StoreError> {
        run!(write self, |pool| sqlx::query(sql::DELETE_DESTINATION).bind(id.to_string()).execute(pool))
            .map(|rows| rows > 0)
    }

    async fn create_stream(&self, stream: &StreamRow) -> Result<(), StoreError> {
        let programme = to_json(&stream.programme)?;
        let destinations = to_json(&stream.destinations)?;
        let outcome = stream.outcome.as_ref().map(to_json).transpose()?;
        run!(write self, |pool| sqlx::query(sql::streams::INSERT)
            .bind(stream.id.to_string())
            .bind(stream.owner.as_str())
            .bind(stream.room.as_str())
            .bind(&stream.title)
            .bind(programme)
            .bind(destinations)
            .bind(stream.record)
            .bind(stream.stems)
            .bind(stream.hls)
            .bind(&stream.idempotency_key)
            .bind(state_name(stream.state))
            .bind(&stream.reason)
            .bind(stream.created_at_ms)
            .bind(stream.started_at_ms)
            .bind(stream.ended_at_ms)
            .bind(outcome)
            .execute(pool))
        .map(drop)
    }

    async fn stream(&self, id: StreamId) -> Result<Option<StreamRow>, StoreError> {
        one!(self, StreamTuple, sql::streams::BY_ID, id.to_string())
    }

    async fn stream_by_idempotency_key(&self, owner: &UserId, key: &str) -> Result<Option<StreamRow>, StoreError> {
        one!(self, StreamTuple, sql::streams::BY_IDEMPOTENCY_KEY, owner.as_str(), key)
    }

    async fn streams(&self, owner: Option<&UserId>, page: Page) -> Result<Vec<StreamRow>, StoreError> {
        page!(self, StreamTuple, streams, owner, page)
    }

    async fn set_stream_state(&self, id: StreamId, change: &StateChange) -> Result<(), StoreError> {
        run!(write self, |pool| sqlx::query(sql::SET_STREAM_STATE)
            .bind(id.to_string())
            .bind(state_name(change.state))
            .bind(&change.reason)
            .bind(change.started_at_ms)
            .bind(change.ended_at_ms)
            .execute(pool))
        .map(drop)
    }

    async fn set_stream_outcome(&self, id: StreamId, outcome: &Outcome) -> Result<(), StoreError> {
        let outcome = to_json(outcome)?;
        run!(write self, |pool| sqlx::query(sql::SET_STREAM_OUTCOME).bind(id.to_string()).bind(outcome).execute(pool))
            .map(drop)
    }

    async fn set_stream_destinations(&self, id: StreamId, destinations: &[DestinationId]) -> Result<(), StoreError> {
        let destinations = to_json(&destinations)?;
        run!(write self, |pool| sqlx::query(sql::SET_STREAM_DESTINATIONS)
            .bind(id.to_string())
            .bind(destinations)
            .execute(pool))
        .map(drop)
    }

    async fn delete_stream(&self, id: StreamId) -> Result<bool, StoreError> {
        run!(write self, |pool| sqlx::query(sql::DELETE_STREAM).bind(id.to_string()).execute(pool)).map(|rows| rows > 0)
    }

    async fn create_recording(&self, recording: &RecordingRow) -> Result<(), StoreError> {
        run!(write self, |pool| sqlx::query(sql::recordings::INSERT)
            .bind(recording.id.to_string())
            .bind(recording.stream.to_string())
            .bind(recording.owner.as_str())
            .bind(recording.room.as_str())
            .bind(&recording.title)
            .bind(i64::from(recording.part))
            .bind(&recording.file)
            .bind(recording.stem.as_ref().map(|stem| &stem.musician))
            .bind(recording.stem.as_ref().map(|stem| stem.media.as_str()))
            .bind(recording.created_at_ms)
            .bind(recording.zero_at_ms)
            .bind(recording.ended_at_ms)
            .bind(recording.size_bytes)
            .bind(&recording.failure)
            .bind(recording.kept)
            .execute(pool))
        .map(drop)
    }

    async fn set_recording_zero(&self, id: RecordingId, zero_at_ms: i64) -> Result<(), StoreError> {
        run!(write self, |pool| sqlx::query(sql::SET_RECORDING_ZERO)
            .bind(id.to_string())
            .bind(zero_at_ms)
            .execute(pool))
        .map(drop)
    }

    async fn finish_recording(
        &self,
        id: RecordingId,
        ended_at_ms: i64,
        size_bytes: i64,
        failure: Option<&str>,
    ) -> Result<(), StoreError> {
        run!(write self, |pool| sqlx::query(sql::FINISH_RECORDING)
            .bind(id.to_string())
            .bind(ended_at_ms)
            .bind(size_bytes)
            .bind(failure)
            .execute(pool))
        .map(drop)
    }

    async fn set_recording_kept(&self, id: RecordingId, kept: bool) -> Result<bool, StoreError> {
        run!(write self, |pool| sqlx::query(sql::KEEP_RECORDING).bind(id.to_string()).bind(kept).execute(pool))
            .map(|rows| rows > 0)
    }

    async fn delete_recording(&self, id: RecordingId) -> Result<bool, StoreError> {
        run!(write self, |pool| sqlx::query(sql::DELETE_RECORDING).bind(id.to_string()).execute(pool))
            .map(|rows| rows > 0)
    }

    async fn recording(&self, id: RecordingId) -> Result<Option<RecordingRow>, StoreError> {
        one!(self, RecordingTuple, sql::recordings::BY_ID, id.to_string())
    }

    async fn recordings(&self, owner: Option<&UserId>, page: Page) -> Result<Vec<RecordingRow>, StoreError> {
        page!(self, RecordingTuple, recordings, owner, page)
    }

    async fn recordings_to_upload(&self, limit: u32) -> Result<Vec<RecordingRow>, StoreError> {
        let found = run!(read self, |pool| sqlx::query_as::<_, RecordingTuple>(sql::recordings::TO_UPLOAD)
            .bind(i64::from(limit))
            .fetch_all(pool))?;
        found.into_iter().map(FromTuple::from_tuple).collect()
    }

    async fn set_upload(&self, upload: &UploadRow) -> Result<(), StoreError> {
        let tags = to_json(&upload.tags)?;
        run!(write self, |pool| sqlx::query(sql::SET_UPLOAD)
            .bind(upload.recording.to_string())
            .bind(&upload.key)
            .bind(upload.state.as_str())
            .bind(i64::from(upload.attempts))
            .bind(upload.next_at_ms)
            .bind(&upload.upload)
            .bind(tags)
            .bind(upload.sent_bytes)
            .bind(&upload.error)
            .execute(pool))
        .map(drop)
    }

    async fn upload(&self, recording: RecordingId) -> Result<Option<UploadRow>, StoreError> {
        one!(self, UploadTuple, sql::UPLOAD_OF, recording.to_string())
    }

    async fn next_upload(&self, now_ms: i64) -> Result<Option<UploadRow>, StoreError> {
        one!(self, UploadTuple, sql::NEXT_UPLOAD, now_ms)
    }

    async fn unfinished_uploads(&self) -> Result<Vec<RecordingId>, StoreError> {
        let found: Vec<String> =
            run!(read self, |pool| sqlx::query_scalar::<_, String>(sql::UNFINISHED_UPLOADS).fetch_all(pool))?;
        found.into_iter().map(FromTuple::from_tuple).collect()
    }

    async fn delete_upload(&self, recording: RecordingId) -> Result<(), StoreError> {
        run!(write self, |pool| sqlx::query(sql::DELETE_UPLOAD).bind(recording.to_string()).execute(pool)).map(drop)
    }

    async fn create_marker(&self, marker: &MarkerRow) -> Result<(), StoreError> {
        run!(write self, |pool| sqlx::query(sql::INSERT_MARKER)
            .bind(marker.id.to_string())
            .bind(marker.stream.to_string())
            .bind(&marker.label)
            .bind(marker.at_ms)
            .execute(pool))
        .map(drop)
    }

    async fn markers(&self, stream: StreamId) -> Result<Vec<MarkerRow>, StoreError> {
        let found = run!(read self, |pool| sqlx::query_as::<_, MarkerTuple>(sql::MARKERS_OF_STREAM)
            .bind(stream.to_string())
            .bind(i64::from(MOST_MARKERS))
            .fetch_all(pool))?;
        found.into_iter().map(FromTuple::from_tuple).collect()
    }

    async fn delete_marker(&self, stream: StreamId, id: MarkerId) -> Result<bool, StoreError> {
        run!(write self, |pool| sqlx::query(sql::DELETE_MARKER)
            .bind(id.to_string())
            .bind(stream.to_string())
            .execute(pool))
        .map(|rows| rows > 0)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        run!(read self, |pool| sqlx::query_scalar::<_, i32>(sql::PING).fetch_one(pool)).map(drop)
    }
}
