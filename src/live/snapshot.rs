//! What the outside sees of streams and destinations: plain values, published through `watch` channels.

use serde::Deserialize;
use serde::Serialize;

use crate::model::id::DestinationId;
use crate::model::id::RoomId;
use crate::model::id::StreamId;
use crate::model::id::UserId;
use crate::model::spec::ProgrammeSpec;

/// The states of a stream; it only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StreamState {
    /// Stored, nothing runs.
    Created,
    /// A mixer is being started.
    Starting,
    /// The programme runs.
    Live,
    /// Destinations and recording are being closed.
    Stopping,
    Ended,
    /// Ended by our fault; the reason says which.
    Failed,
}

/// The states of a destination on air.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DestinationState {
    /// Resolving, TCP, TLS.
    Connecting,
    /// RTMP handshake, connect and createStream.
    Handshaking,
    /// The server said `NetStream.Publish.Start`; media flows.
    Publishing,
    /// Media has been taken for at least 3 s.
    Live,
    /// Connected, but nothing is taken.
    Stalled,
    /// Lost; the next attempt is due at `retry_in_ms`.
    Backoff,
    /// The server refuses this key; tried again slowly.
    Rejected,
    Stopped,
}

/// One destination of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DestinationSnapshot {
    #[schema(value_type = String)]
    pub id: DestinationId,
    pub name: String,
    pub platform: String,
    /// URL without the key.
    pub url: String,
    pub state: DestinationState,
    /// What happened and what to do about it, in one sentence for people.
    pub hint: Option<String>,
    /// Milliseconds to the next attempt, in `backoff` and `rejected`.
    pub retry_in_ms: Option<u64>,
    /// Milliseconds from when it began to dial to when its first picture was taken by the connection.
    pub first_video_ms: Option<u64>,
    pub reconnects: u64,
    pub bytes_sent: u64,
    pub frames_sent: u64,
    pub dropped_frames: u64,
    /// Age of the oldest frame in the queue, milliseconds.
    pub queue_ms: u64,
}

/// One stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StreamSnapshot {
    #[schema(value_type = String)]
    pub id: StreamId,
    #[schema(value_type = String)]
    pub room: RoomId,
    #[schema(value_type = String)]
    pub owner: UserId,
    pub title: String,
    #[schema(value_type = Object)]
    pub programme: ProgrammeSpec,
    pub record: bool,
    pub state: StreamState,
    /// Why it failed, or what is wrong while it runs.
    pub reason: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub created_at_ms: i64,
    pub started_at_ms: Option<i64>,
    pub ended_at_ms: Option<i64>,
    pub destinations: Vec<DestinationSnapshot>,
    pub stats: StreamStats,
}

/// The last numbers of a stream, kept in the store when it is over. Members may be added with a default and never taken away.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub stats: StreamStats,
    pub destinations: Vec<DestinationSnapshot>,
}

/// Counters of a stream since its start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct StreamStats {
    /// Milliseconds since it went live.
    pub duration_ms: u64,
    /// Milliseconds from the request to start to the first picture that a destination's connection took.
    pub first_video_ms: Option<u64>,
    pub video_frames: u64,
    pub audio_frames: u64,
    /// Encoded video frames a second over the last seconds.
    pub fps: f64,
    /// Encoded bits of video and audio, kbit/s, over the last seconds.
    pub bitrate_kbps: u64,
    pub dropped_frames: u64,
    /// Participants whose media is in the programme.
    pub musicians: u32,
    pub mixer_restarts: u64,
    pub recorded_bytes: u64,
}
