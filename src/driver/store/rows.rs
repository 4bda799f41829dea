//! Rows as tuples of what both databases can hold, and back. A tuple's order is that of the columns in `sql.rs`.

use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde::de::IntoDeserializer;
use serde::de::value::Error as ValueError;

use crate::live::port::BackupRow;
use crate::live::port::DestinationRow;
use crate::live::port::MarkerRow;
use crate::live::port::RecordingRow;
use crate::live::port::RoomRow;
use crate::live::port::SealedKey;
use crate::live::port::StemRow;
use crate::live::port::StoreError;
use crate::live::port::StreamRow;
use crate::live::port::UploadRow;
use crate::live::port::UploadState;
use crate::live::snapshot::StreamState;
use crate::model::id::RecordingId;
use crate::model::media::MediaKind;
use crate::model::spec::RtmpEndpoint;

pub(super) type RoomTuple = (String, String, String, i64);
pub(super) type DestinationTuple = (
    String,
    String,
    Option<String>,
    String,
    String,
    bool,
    String,
    i64,
    String,
    bool,
    Vec<u8>,
    String,
    Option<String>,
    Option<Vec<u8>>,
    i64,
);
pub(super) type StreamTuple = (
    String,
    String,
    String,
    String,
    String,
    String,
    bool,
    bool,
    bool,
    Option<String>,
    String,
    Option<String>,
    i64,
    Option<i64>,
    Option<i64>,
    Option<String>,
);
pub(super) type UploadTuple = (String, String, String, i64, i64, Option<String>, String, i64, Option<String>);
pub(super) type MarkerTuple = (String, String, String, i64);
pub(super) type RecordingTuple = (
    String,
    String,
    String,
    String,
    String,
    i64,
    String,
    Option<String>,
    Option<String>,
    i64,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<String>,
    bool,
);

/// A row that a query brought, checked.
pub(super) trait FromTuple<T>: Sized {
    /// # Errors
    /// When the row holds what this program never writes.
    fn from_tuple(tuple: T) -> Result<Self, StoreError>;
}

impl FromTuple<RoomTuple> for RoomRow {
    fn from_tuple((id, owner, title, created_at_ms): RoomTuple) -> Result<Self, StoreError> {
        Ok(Self { id: parsed(id.parse())?, owner: parsed(owner.parse())?, title, created_at_ms })
    }
}

impl FromTuple<DestinationTuple> for DestinationRow {
    fn from_tuple(tuple: DestinationTuple) -> Result<Self, StoreError> {
        let (
            id,
            owner,
            room,
            name,
            platform,
            tls,
            host,
            port,
            app,
            primary,
            sealed_key,
            key_hint,
            backup,
            backup_key,
            created_at_ms,
        ) = tuple;
        let backup = match backup {
            Some(endpoint) => {
                Some(BackupRow { endpoint: from_json(&endpoint)?, sealed_key: backup_key.map(SealedKey) })
            }
            None => None,
        };
        Ok(Self {
            id: parsed(id.parse())?,
            owner: parsed(owner.parse())?,
            room: parsed(room.map(|room| room.parse()).transpose())?,
            name,
            platform,
            endpoint: RtmpEndpoint { tls, host, port: parsed(port.try_into())?, app },
            primary,
            sealed_key: SealedKey(sealed_key),
            key_hint,
            backup,
            created_at_ms,
        })
    }
}

impl FromTuple<StreamTuple> for StreamRow {
    fn from_tuple(tuple: StreamTuple) -> Result<Self, StoreError> {
        let (
            id,
            owner,
            room,
            title,
            programme,
            destinations,
            record,
            stems,
            hls,
            idempotency_key,
            state,
            reason,
            created,
            started,
            ended,
            outcome,
        ) = tuple;
        Ok(Self {
            id: parsed(id.parse())?,
            owner: parsed(owner.parse())?,
            room: parsed(room.parse())?,
            title,
            programme: from_json(&programme)?,
            destinations: from_json(&destinations)?,
            record,
            stems,
            hls,
            idempotency_key,
            state: state_named(&state)?,
            reason,
            created_at_ms: created,
            started_at_ms: started,
            ended_at_ms: ended,
            outcome: outcome.as_deref().map(from_json).transpose()?,
        })
    }
}

impl FromTuple<RecordingTuple> for RecordingRow {
    fn from_tuple(tuple: RecordingTuple) -> Result<Self, StoreError> {
        let (
            id,
            stream,
            owner,
            room,
            title,
            part,
            file,
            musician,
            media,
            created_at_ms,
            zero_at_ms,
            ended_at_ms,
            size_bytes,
            failure,
            kept,
        ) = tuple;
        let media = media.as_deref().map(media_named).transpose()?;
        Ok(Self {
            id: parsed(id.parse())?,
            stream: parsed(stream.parse())?,
            owner: parsed(owner.parse())?,
            room: parsed(room.parse())?,
            title,
            part: parsed(part.try_into())?,
            file,
            stem: musician.zip(media).map(|(musician, media)| StemRow { musician, media }),
            created_at_ms,
            zero_at_ms,
            ended_at_ms,
            size_bytes,
            failure,
            kept,
        })
    }
}

impl FromTuple<MarkerTuple> for MarkerRow {
    fn from_tuple((id, stream, label, at_ms): MarkerTuple) -> Result<Self, StoreError> {
        Ok(Self { id: parsed(id.parse())?, stream: parsed(stream.parse())?, label, at_ms })
    }
}

impl FromTuple<UploadTuple> for UploadRow {
    fn from_tuple(tuple: UploadTuple) -> Result<Self, StoreError> {
        let (recording, key, state, attempts, next_at_ms, upload, tags, sent_bytes, error) = tuple;
        Ok(Self {
            recording: parsed(recording.parse())?,
            key,
            state: parsed(UploadState::deserialize(IntoDeserializer::<ValueError>::into_deserializer(state.as_str())))?,
            attempts: parsed(attempts.try_into())?,
            next_at_ms,
            upload,
            tags: from_json(&tags)?,
            sent_bytes,
            error,
        })
    }
}

impl FromTuple<String> for RecordingId {
    fn from_tuple(id: String) -> Result<Self, StoreError> {
        parsed(id.parse())
    }
}

fn media_named(name: &str) -> Result<MediaKind, StoreError> {
    parsed(MediaKind::deserialize(IntoDeserializer::<ValueError>::into_deserializer(name)))
}

/// A state as it is stored: the same word as in JSON.
pub(super) const fn state_name(state: StreamState) -> &'static str {
    match state {
        StreamState::Created => "created",
        StreamState::Starting => "starting",
        StreamState::Live => "live",
        StreamState::Stopping => "stopping",
        StreamState::Ended => "ended",
        StreamState::Failed => "failed",
    }
}

fn state_named(name: &str) -> Result<StreamState, StoreError> {
    parsed(StreamState::deserialize(IntoDeserializer::<ValueError>::into_deserializer(name)))
}

/// The JSON text that a column holds.
pub(super) fn to_json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    parsed(serde_json::to_string(value))
}

fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    parsed(serde_json::from_str(text))
}

fn parsed<T, E: std::error::Error + Send + Sync + 'static>(result: Result<T, E>) -> Result<T, StoreError> {
    result.map_err(|error| StoreError::Database(Box::new(error)))
}
