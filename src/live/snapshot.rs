//! What the outside sees of streams and destinations: plain values, published through `watch` channels.

use serde::Deserialize;
use serde::Serialize;

use crate::domain::layout;
use crate::model::id::DestinationId;
use crate::model::id::ParticipantId;
use crate::model::id::RoomId;
use crate::model::id::StreamId;
use crate::model::id::UserId;
use crate::model::scene::Rect;
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
    /// Whether the bitrate follows what this one takes.
    #[serde(default)]
    pub primary: bool,
    /// Whether its backup ingest is the one that is used; `url` is then that one's.
    #[serde(default)]
    pub on_backup: bool,
    pub state: DestinationState,
    /// What happened and what to do about it, in one sentence for people.
    pub hint: Option<String>,
    /// Milliseconds to the next attempt, in `backoff` and `rejected`.
    pub retry_in_ms: Option<u64>,
    /// Milliseconds from when it began to dial to when its first picture was taken by the connection.
    pub first_video_ms: Option<u64>,
    pub reconnects: u64,
    pub bytes_sent: u64,
    /// Bytes of the present connection that the server says it has received; `null` if it never speaks of it.
    #[serde(default)]
    pub bytes_acknowledged: Option<u64>,
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
    /// Whether the musicians' own tracks are recorded beside the programme.
    pub stems: bool,
    /// Where anybody may watch it over HLS, on this gateway: a playlist from its first seconds until a minute after its end. `null` unless it
    /// was asked for.
    pub hls_url: Option<String>,
    pub state: StreamState,
    /// Why it failed, or what is wrong while it runs.
    pub reason: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub created_at_ms: i64,
    pub started_at_ms: Option<i64>,
    pub ended_at_ms: Option<i64>,
    pub destinations: Vec<DestinationSnapshot>,
    pub stats: StreamStats,
    pub recording: RecordingSnapshot,
    pub mix: MixSnapshot,
    pub layout: LayoutSnapshot,
    pub dressing: DressingSnapshot,
}

/// The programme's sound as it is set; as it is at first while the stream does not run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MixSnapshot {
    /// dB, -60, which is silence, to 12.
    pub master_gain_db: f64,
    /// Whether the programme is brought slowly to -14 LUFS.
    pub normalise: bool,
    /// Whom the others are aligned to, if anybody.
    #[serde(default)]
    pub leader: Option<LeaderSnapshot>,
    /// Who might lead while nobody does: the loudest of those who play a rhythm, as far as levels tell.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub proposed_leader: Option<ParticipantId>,
    /// Everybody who sends something, in the order of joining.
    pub musicians: Vec<MusicianSnapshot>,
}

/// Whom the others are aligned to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LeaderSnapshot {
    #[schema(value_type = String)]
    pub participant: ParticipantId,
    pub name: String,
    /// While it is away nothing is measured, and the delays stay as they are.
    pub present: bool,
}

/// One musician's sound in the programme.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MusicianSnapshot {
    #[schema(value_type = String)]
    pub participant: ParticipantId,
    pub name: String,
    /// dB, -60, which is silence, to 12.
    pub gain_db: f64,
    pub muted: bool,
    /// While anybody's is set, only they are heard.
    pub solo: bool,
    /// -1 (left) to 1 (right).
    pub pan: f64,
    /// Added delay of picture and sound, milliseconds, -200 to 2000; as much as one is moved forward, all the others wait.
    pub delay_ms: i32,
    /// How it is aligned to the leader; `null` while nobody leads.
    #[serde(default)]
    pub alignment: Option<AlignmentSnapshot>,
    /// Whether it is heard as things are, mute and everybody's solo considered.
    pub heard: bool,
}

/// How a musician is aligned to the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AlignmentSnapshot {
    pub standing: AlignmentStanding,
    /// How late it would be beside the leader, milliseconds; `null` for the leader and for who is not measured.
    pub late_ms: Option<u32>,
    /// By how much it is delayed for that, beside `delay_ms`, milliseconds.
    pub added_ms: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlignmentStanding {
    /// The others are aligned to it.
    Leader,
    Aligned,
    /// It does not hear the leader, or does not say what its jitter buffer holds back, or has not been there for long enough. It is as
    /// late behind the leader as it would be anyway.
    Unmeasured,
    /// More than 500 ms late: the others do not wait for it.
    OutOfReach,
}

/// Where the programme's pictures stand, as it is set; the grid while the stream does not run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LayoutSnapshot {
    pub kind: LayoutKind,
    /// Who is large in a spotlight or a picture in picture; unless given, whom the room's host shows large, a screen, the loudest.
    pub large: Option<PickSnapshot>,
    /// Who is small in a picture in picture; unless given, who shows the screen, the loudest.
    pub small: Option<PickSnapshot>,
    pub corner: Corner,
    /// Of a custom layout, the farthest from the viewer first.
    pub tiles: Vec<TileSnapshot>,
    /// Everything that can be shown, without the canvas.
    pub pictures: Vec<PictureSnapshot>,
    /// The room's canvas, while there is one.
    pub canvas: Option<CanvasSnapshot>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LayoutKind {
    /// All alike.
    #[default]
    Grid,
    /// The loudest large, the others small beside it.
    Speaker,
    /// One alone.
    Spotlight,
    /// One large and another small over its corner.
    PictureInPicture,
    /// Rectangles by hand.
    Custom,
    /// The canvas alone; the grid while there is none.
    Canvas,
    /// The canvas large, the musicians small beside it; the grid while there is none.
    CanvasAndTiles,
}

/// Where the small picture of a picture in picture stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Corner {
    TopLeft,
    TopRight,
    BottomLeft,
    #[default]
    BottomRight,
}

/// A musician's camera or screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PickSnapshot {
    #[schema(value_type = String)]
    pub participant: ParticipantId,
    pub screen: bool,
}

/// A picture's place by hand, as shares of the programme's width and height.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TileSnapshot {
    #[serde(flatten)]
    pub of: PickSnapshot,
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

/// A picture that is sent, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PictureSnapshot {
    #[serde(flatten)]
    pub of: PickSnapshot,
    pub name: String,
    /// In pixels of the programme; `null` for one that is not shown.
    #[schema(value_type = Option<Object>)]
    pub rect: Option<Rect>,
}

/// The room's canvas, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CanvasSnapshot {
    /// Name of who paints it.
    pub painter: String,
    /// In pixels of the programme; `null` while it is not shown.
    #[schema(value_type = Option<Object>)]
    pub rect: Option<Rect>,
}

/// How the programme is dressed, as it is set; plain while the stream does not run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DressingSnapshot {
    /// Whether everybody's name stands in their picture.
    pub captions: bool,
    /// One line at the top of the picture.
    pub title: Option<String>,
    /// Whether there is one at the upper right.
    pub logo: bool,
    /// What is behind all pictures, `#rrggbb`.
    pub background: String,
    /// Whether there is a picture in front of that.
    pub backdrop: bool,
    /// Everybody's picture, in the order of joining.
    pub looks: Vec<LookSnapshot>,
}

impl Default for DressingSnapshot {
    fn default() -> Self {
        Self {
            captions: false,
            title: None,
            logo: false,
            background: "#000000".to_owned(),
            backdrop: false,
            looks: Vec::new(),
        }
    }
}

/// How a musician's camera is retouched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LookSnapshot {
    #[schema(value_type = String)]
    pub participant: ParticipantId,
    /// Shares of the picture cut off: left, top, right, bottom.
    pub crop: [f64; 4],
    /// Left and right change places.
    pub mirror: bool,
    /// -1 (black) to 1 (white).
    pub brightness: f64,
    pub monochrome: bool,
}

impl From<layout::Kind> for LayoutKind {
    fn from(kind: layout::Kind) -> Self {
        match kind {
            layout::Kind::Grid => Self::Grid,
            layout::Kind::Speaker => Self::Speaker,
            layout::Kind::Spotlight => Self::Spotlight,
            layout::Kind::PictureInPicture => Self::PictureInPicture,
            layout::Kind::Custom => Self::Custom,
            layout::Kind::Canvas => Self::Canvas,
            layout::Kind::CanvasAndTiles => Self::CanvasAndTiles,
        }
    }
}

impl From<layout::Corner> for Corner {
    fn from(corner: layout::Corner) -> Self {
        match corner {
            layout::Corner::TopLeft => Self::TopLeft,
            layout::Corner::TopRight => Self::TopRight,
            layout::Corner::BottomLeft => Self::BottomLeft,
            layout::Corner::BottomRight => Self::BottomRight,
        }
    }
}

impl From<layout::Pick> for PickSnapshot {
    fn from(pick: layout::Pick) -> Self {
        Self { participant: pick.participant, screen: pick.screen }
    }
}

impl From<&layout::Tile> for TileSnapshot {
    fn from(tile: &layout::Tile) -> Self {
        Self { of: tile.of.into(), x: tile.x, y: tile.y, width: tile.width, height: tile.height }
    }
}

/// How the recording of a running stream stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RecordingSnapshot {
    pub state: RecordingState,
    /// Why it stopped.
    pub reason: Option<String>,
    /// Musicians' tracks that are being recorded beside the programme.
    pub stems: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecordingState {
    /// Nothing is recorded, or nothing runs.
    #[default]
    Off,
    /// It begins with the next keyframe.
    Waiting,
    Recording,
    /// It ended before the broadcast: the disk is full or too slow.
    Stopped,
}

/// How loud the programme and its musicians are. What is silent has no value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Meters {
    /// Loudness (EBU R 128) of the last 400 ms, LUFS.
    pub momentary_lufs: Option<f64>,
    /// The same of the last 3 s.
    pub short_term_lufs: Option<f64>,
    /// The same since the broadcast, or its present mixer, began; pauses do not count.
    pub integrated_lufs: Option<f64>,
    /// Highest true peak of the last 100 ms, dBTP.
    pub true_peak_dbtp: Option<f64>,
    /// What the normalisation adds now, dB.
    pub normalisation_db: f64,
    /// Musicians who are heard, behind their faders.
    pub musicians: Vec<MusicianLevel>,
}

/// How loud a musician was in the last 100 ms, dBFS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MusicianLevel {
    #[schema(value_type = String)]
    pub participant: ParticipantId,
    pub peak_dbfs: f64,
    /// Of a sine at full scale this is -3.
    pub rms_dbfs: f64,
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
    /// Whether the picture goes out as it comes, now: neither decoded nor encoded.
    #[serde(default)]
    pub passed_through: bool,
    /// Video frames that did.
    #[serde(default)]
    pub passed_frames: u64,
    /// Encoded video frames a second over the last seconds.
    pub fps: f64,
    /// Encoded bits of video and audio, kbit/s, over the last seconds.
    pub bitrate_kbps: u64,
    /// Video bitrate that the encoder is asked for now, kbit/s; lower than the programme's while destinations take less.
    pub target_video_kbps: u32,
    /// Why it is lower, in one sentence for people.
    pub target_reason: Option<String>,
    pub dropped_frames: u64,
    /// Participants whose media is in the programme.
    pub musicians: u32,
    pub mixer_restarts: u64,
    /// How many of those were mixers that had stood by.
    #[serde(default)]
    pub mixer_takeovers: u64,
    /// Processor time that its mixers took, milliseconds.
    pub mixer_cpu_ms: u64,
    /// Memory of its mixer now, bytes.
    pub mixer_memory_bytes: u64,
    /// How long media waits for what was played with it and comes later, milliseconds.
    pub playout_ms: u32,
    pub recorded_bytes: u64,
}
