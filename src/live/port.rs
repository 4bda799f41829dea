//! The ports: what the actors need of the world, implemented by `driver` and by fakes in tests.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;
use serde::Serialize;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;

use crate::live::snapshot::Outcome;
use crate::live::snapshot::StreamState;
use crate::model::fault::Fault;
use crate::model::fault::Faulty;
use crate::model::id::DestinationId;
use crate::model::id::MarkerId;
use crate::model::id::RecordingId;
use crate::model::id::RoomId;
use crate::model::id::StreamId;
use crate::model::id::UserId;
use crate::model::media::MediaKind;
use crate::model::role::ApiRole;
use crate::model::role::Principal;
use crate::model::role::RoomGrant;
use crate::model::secret::StreamKey;
use crate::model::spec::ProgrammeSpec;
use crate::model::spec::RtmpEndpoint;
use crate::proto::mixer::FromMixer;
use crate::proto::mixer::ToMixer;

/// Starts mixer children.
#[async_trait]
pub trait Mixers: Send + Sync {
    /// Starts one; it waits for its first scene.
    ///
    /// # Errors
    /// When the process cannot be started.
    async fn start(&self, stream: StreamId) -> Result<MixerLink, MixerError>;

    /// Whether each stream has a second one that stands by.
    fn has_standby(&self) -> bool {
        false
    }
}

/// The gateway's end of one mixer. The mixer is gone when `events` ends; dropping the link kills it.
pub struct MixerLink {
    /// Process id, for logs and tests.
    pub pid: u32,
    /// Bounded; media is offered with `try_send` and lost when the mixer does not keep up, control waits.
    pub commands: mpsc::Sender<ToMixer>,
    pub events: mpsc::Receiver<FromMixer>,
}

#[derive(Debug, thiserror::Error)]
pub enum MixerError {
    #[error("the mixer process cannot be started")]
    Spawn(#[source] std::io::Error),
}

impl Faulty for MixerError {
    fn fault(&self) -> Fault {
        Fault::Internal
    }
}

/// A connection to an RTMP server, TLS included where asked for.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Opens connections to RTMP servers, refusing addresses the policy forbids at the moment of dialling.
#[async_trait]
pub trait Dial: Send + Sync {
    /// # Errors
    /// [`DialError`] says whether the host, the policy, the network or TLS stood in the way.
    async fn dial(&self, endpoint: &RtmpEndpoint) -> Result<Box<dyn Connection>, DialError>;

    /// Checks a host as [`Self::dial`] would without connecting, for validation when a destination is stored.
    ///
    /// # Errors
    /// As [`Self::dial`].
    async fn check(&self, endpoint: &RtmpEndpoint) -> Result<Vec<SocketAddr>, DialError>;
}

/// Why a destination cannot be reached. Messages are shown to users: they hold the host, never the key.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("the host {host} does not resolve; check the server URL")]
    Resolve { host: String },
    #[error(
        "the host {host} is at an address that this gateway may not dial ({address}); an operator can allow it in `[publish] allowed_hosts`"
    )]
    Forbidden { host: String, address: String },
    #[error("{host}:{port} does not accept connections")]
    Connect {
        host: String,
        port: u16,
        #[source]
        source: std::io::Error,
    },
    #[error("no secure connection to {host}: {reason}")]
    Tls { host: String, reason: String },
    #[error("{host}:{port} did not answer in time")]
    TimedOut { host: String, port: u16 },
}

impl Faulty for DialError {
    fn fault(&self) -> Fault {
        match self {
            Self::Forbidden { .. } => Fault::Client,
            Self::Resolve { .. } | Self::Connect { .. } | Self::Tls { .. } | Self::TimedOut { .. } => {
                Fault::Destination
            }
        }
    }
}

/// Seals stream keys so that the store never sees them.
pub trait Vault: Send + Sync {
    /// Seals a key for this destination; the destination's id is authenticated with it, so that a sealed key moved to another row
    /// does not open.
    fn seal(&self, destination: DestinationId, key: &StreamKey) -> SealedKey;

    /// # Errors
    /// When the sealed bytes were changed or sealed with a master key that is not here.
    fn open(&self, destination: DestinationId, sealed: &SealedKey) -> Result<StreamKey, VaultError>;
}

/// A sealed stream key as it is stored: version, nonce, cipher text and tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedKey(pub Vec<u8>);

#[derive(Debug, thiserror::Error)]
#[error("the stored stream key cannot be opened with this master key; enter the key again")]
pub struct VaultError;

impl Faulty for VaultError {
    fn fault(&self) -> Fault {
        Fault::Internal
    }
}

/// Checks and mints tokens.
pub trait Identity: Send + Sync {
    /// The caller behind an API bearer token; a host's room token is one too, limited to its room.
    ///
    /// # Errors
    /// [`TokenError`].
    fn principal(&self, token: &str) -> Result<Principal, TokenError>;

    /// What a room token allows.
    ///
    /// # Errors
    /// [`TokenError`].
    fn room_grant(&self, token: &str) -> Result<RoomGrant, TokenError>;

    /// Mints an API token valid for `ttl_s` seconds.
    fn mint_api(&self, user: &UserId, role: ApiRole, ttl_s: u64) -> String;

    /// Mints a room token valid for `ttl_s` seconds.
    fn mint_room(&self, grant: &RoomGrant, ttl_s: u64) -> String;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the token is not valid")]
    Invalid,
    #[error("the token has expired; get a new one")]
    Expired,
    #[error("the token is for something else")]
    WrongAudience,
}

impl Faulty for TokenError {
    fn fault(&self) -> Fault {
        Fault::Client
    }
}

/// A store of objects that recordings are copied to.
#[async_trait]
pub trait Objects: Send + Sync {
    /// A whole object at once.
    ///
    /// # Errors
    /// [`ObjectError`], here and below.
    async fn put(&self, key: &str, body: Bytes) -> Result<(), ObjectError>;
    /// Begins an upload in parts and gives its name.
    async fn begin(&self, key: &str) -> Result<String, ObjectError>;
    /// Sends part `number`, from 1 on, and gives its tag.
    async fn part(&self, key: &str, upload: &str, number: u32, body: Bytes) -> Result<String, ObjectError>;
    /// Makes the parts with these tags, in their order, the object.
    async fn complete(&self, key: &str, upload: &str, tags: &[String]) -> Result<(), ObjectError>;
    /// Forgets the parts of an upload.
    async fn abort(&self, key: &str, upload: &str) -> Result<(), ObjectError>;
}

/// Why an object store did not take something. Shown to users: without a key.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    #[error("the object store cannot be reached: {0}")]
    Unreachable(String),
    #[error("the object store did not answer in time")]
    TimedOut,
    #[error("the object store refused it: status {status}, {code}")]
    Refused { status: u16, code: String },
    #[error("the object store has forgotten the parts it had")]
    UploadGone,
    #[error("the object store gave an answer that cannot be understood")]
    Nonsense,
}

impl Faulty for ObjectError {
    fn fault(&self) -> Fault {
        match self {
            Self::Unreachable(_) | Self::TimedOut | Self::UploadGone => Fault::Transient,
            Self::Refused { .. } | Self::Nonsense => Fault::Destination,
        }
    }
}

/// Rows that outlive the process. Times are milliseconds since the Unix epoch.
#[async_trait]
pub trait Store: Send + Sync {
    /// `Conflict` if the room exists.
    async fn create_room(&self, room: &RoomRow) -> Result<(), StoreError>;
    async fn room(&self, id: &RoomId) -> Result<Option<RoomRow>, StoreError>;
    /// Newest first, at most `limit`, older than `before` if given; of one owner, or everybody's.
    async fn rooms(&self, owner: Option<&UserId>, page: Page) -> Result<Vec<RoomRow>, StoreError>;

    async fn create_destination(&self, destination: &DestinationRow) -> Result<(), StoreError>;
    async fn destination(&self, id: DestinationId) -> Result<Option<DestinationRow>, StoreError>;
    async fn destinations(&self, owner: Option<&UserId>, page: Page) -> Result<Vec<DestinationRow>, StoreError>;
    /// Replaces the sealed key. `false` if there is no such destination.
    async fn rotate_key(&self, id: DestinationId, sealed: &SealedKey, hint: &str) -> Result<bool, StoreError>;
    /// Marks a destination as one that bitrates follow, or not. `false` if there is no such destination.
    async fn set_primary(&self, id: DestinationId, primary: bool) -> Result<bool, StoreError>;
    /// `false` if there is no such destination.
    async fn delete_destination(&self, id: DestinationId) -> Result<bool, StoreError>;

    /// `Conflict` if the same owner used the same idempotency key before.
    async fn create_stream(&self, stream: &StreamRow) -> Result<(), StoreError>;
    async fn stream(&self, id: StreamId) -> Result<Option<StreamRow>, StoreError>;
    async fn stream_by_idempotency_key(&self, owner: &UserId, key: &str) -> Result<Option<StreamRow>, StoreError>;
    async fn streams(&self, owner: Option<&UserId>, page: Page) -> Result<Vec<StreamRow>, StoreError>;
    async fn set_stream_state(&self, id: StreamId, change: &StateChange) -> Result<(), StoreError>;
    /// Keeps the last numbers of a stream that is over.
    async fn set_stream_outcome(&self, id: StreamId, outcome: &Outcome) -> Result<(), StoreError>;
    async fn set_stream_destinations(&self, id: StreamId, destinations: &[DestinationId]) -> Result<(), StoreError>;
    /// `false` if there is no such stream. Its recordings stay.
    async fn delete_stream(&self, id: StreamId) -> Result<bool, StoreError>;

    async fn create_recording(&self, recording: &RecordingRow) -> Result<(), StoreError>;
    /// Keeps when the file's first moment was.
    async fn set_recording_zero(&self, id: RecordingId, zero_at_ms: i64) -> Result<(), StoreError>;
    async fn finish_recording(
        &self,
        id: RecordingId,
        ended_at_ms: i64,
        size_bytes: i64,
        failure: Option<&str>,
    ) -> Result<(), StoreError>;
    /// Marks a recording to be left alone by retention, or not. `false` if there is no such recording.
    async fn set_recording_kept(&self, id: RecordingId, kept: bool) -> Result<bool, StoreError>;
    /// `false` if there is no such recording.
    async fn delete_recording(&self, id: RecordingId) -> Result<bool, StoreError>;
    async fn recording(&self, id: RecordingId) -> Result<Option<RecordingRow>, StoreError>;
    async fn recordings(&self, owner: Option<&UserId>, page: Page) -> Result<Vec<RecordingRow>, StoreError>;

    /// Recordings that have ended with something in them and have no upload yet, the oldest first.
    async fn recordings_to_upload(&self, limit: u32) -> Result<Vec<RecordingRow>, StoreError>;
    /// Creates or replaces a recording's upload.
    async fn set_upload(&self, upload: &UploadRow) -> Result<(), StoreError>;
    async fn upload(&self, recording: RecordingId) -> Result<Option<UploadRow>, StoreError>;
    /// The unfinished upload whose turn has come first.
    async fn next_upload(&self, now_ms: i64) -> Result<Option<UploadRow>, StoreError>;
    /// Recordings whose uploads are not finished.
    async fn unfinished_uploads(&self) -> Result<Vec<RecordingId>, StoreError>;
    async fn delete_upload(&self, recording: RecordingId) -> Result<(), StoreError>;

    async fn create_marker(&self, marker: &MarkerRow) -> Result<(), StoreError>;
    /// A stream's markers in the order of their times, at most [`MOST_MARKERS`].
    async fn markers(&self, stream: StreamId) -> Result<Vec<MarkerRow>, StoreError>;
    /// `false` if the stream has no such marker.
    async fn delete_marker(&self, stream: StreamId, id: MarkerId) -> Result<bool, StoreError>;

    /// Answers if the database does; for `/readyz`.
    async fn ping(&self) -> Result<(), StoreError>;
}

/// A keyset page: rows created before this (time, id text), newest first.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// 1 to 200.
    pub limit: u32,
    pub before: Option<(i64, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomRow {
    pub id: RoomId,
    pub owner: UserId,
    pub title: String,
    pub created_at_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationRow {
    pub id: DestinationId,
    pub owner: UserId,
    /// The room it was made in and belongs to; one of the whole account has none.
    pub room: Option<RoomId>,
    pub name: String,
    pub platform: String,
    pub endpoint: RtmpEndpoint,
    /// Whether a programme's bitrate follows what this one takes.
    pub primary: bool,
    pub sealed_key: SealedKey,
    pub key_hint: String,
    /// Takes over when the first server is lost.
    pub backup: Option<BackupRow>,
    pub created_at_ms: i64,
}

/// A destination's second server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupRow {
    pub endpoint: RtmpEndpoint,
    /// `None` where it takes the key of the first.
    pub sealed_key: Option<SealedKey>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct StreamRow {
    pub id: StreamId,
    pub owner: UserId,
    pub room: RoomId,
    pub title: String,
    pub programme: ProgrammeSpec,
    pub destinations: Vec<DestinationId>,
    pub record: bool,
    /// Whether the musicians' own tracks are recorded beside the programme.
    pub stems: bool,
    /// Whether anybody may watch it over HLS.
    pub hls: bool,
    pub idempotency_key: Option<String>,
    pub state: StreamState,
    pub reason: Option<String>,
    pub created_at_ms: i64,
    pub started_at_ms: Option<i64>,
    pub ended_at_ms: Option<i64>,
    /// Set once it is over; a stream that never ran, or died with its gateway, has none.
    pub outcome: Option<Outcome>,
}

/// A stream's new state in the store; times that are `None` stay as they are.
#[derive(Clone, Debug)]
pub struct StateChange {
    pub state: StreamState,
    pub reason: Option<String>,
    pub started_at_ms: Option<i64>,
    pub ended_at_ms: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingRow {
    pub id: RecordingId,
    pub stream: StreamId,
    pub owner: UserId,
    pub room: RoomId,
    pub title: String,
    /// 1 for the first file of the stream; a mixer that was restarted writes the next.
    pub part: u32,
    /// File name within the recordings folder.
    pub file: String,
    /// Whose track it is; `None` for the programme.
    pub stem: Option<StemRow>,
    pub created_at_ms: i64,
    /// When the file's first moment was, the same for all files of a part; one that never began has none.
    pub zero_at_ms: Option<i64>,
    pub ended_at_ms: Option<i64>,
    pub size_bytes: Option<i64>,
    pub failure: Option<String>,
    /// Whether retention leaves it alone.
    pub kept: bool,
}

/// A recording on its way to an object store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadRow {
    pub recording: RecordingId,
    /// The object's name.
    pub key: String,
    pub state: UploadState,
    pub attempts: u32,
    pub next_at_ms: i64,
    /// The store's name of an upload in parts that has begun, and the tags of the parts it has.
    pub upload: Option<String>,
    pub tags: Vec<String>,
    pub sent_bytes: i64,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

impl UploadRow {
    /// One that has not begun.
    pub fn waiting(recording: RecordingId, key: String, next_at_ms: i64) -> Self {
        Self {
            recording,
            key,
            state: UploadState::Waiting,
            attempts: 0,
            next_at_ms,
            upload: None,
            tags: Vec::new(),
            sent_bytes: 0,
            error: None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UploadState {
    /// For its turn, or to be tried again.
    Waiting,
    Uploading,
    Done,
    /// Given up.
    Failed,
}

impl UploadState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Uploading => "uploading",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// Markers of one stream: one a minute for eight hours.
pub const MOST_MARKERS: u32 = 500;

/// A moment of a broadcast that somebody wants to find again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkerRow {
    pub id: MarkerId,
    pub stream: StreamId,
    pub label: String,
    pub at_ms: i64,
}

/// What a stem holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StemRow {
    /// The name in the room; of a shared screen with "(screen)".
    pub musician: String,
    pub media: MediaKind,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("it exists already")]
    Conflict,
    #[error("the database does not answer as it should")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Faulty for StoreError {
    fn fault(&self) -> Fault {
        match self {
            Self::Conflict => Fault::Client,
            Self::Database(_) => Fault::Internal,
        }
    }
}

/// Everything an actor may ask of the world, handed round as one value.
#[derive(Clone)]
pub struct Ports {
    pub rooms: crate::live::rooms::Rooms,
    pub canvases: crate::live::canvas::Canvases,
    pub shelves: crate::live::hls::Shelves,
    pub mixers: Arc<dyn Mixers>,
    pub dial: Arc<dyn Dial>,
    pub vault: Arc<dyn Vault>,
    pub store: Arc<dyn Store>,
    /// Where recordings are written.
    pub recordings: crate::live::recordings::Folder,
}
