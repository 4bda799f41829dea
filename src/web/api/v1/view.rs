//! What goes over the wire: types apart from those of the model, so that neither changes the other by accident.

use chrono::DateTime;
use chrono::SecondsFormat;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use utoipa::IntoParams;
use utoipa::ToSchema;

use crate::domain::platform;
use crate::domain::tier;
use crate::live::port::DestinationRow;
use crate::live::port::MarkerRow;
use crate::live::port::RecordingRow;
use crate::live::port::RoomRow;
use crate::live::port::UploadRow;
use crate::live::port::UploadState;
use crate::model::media::MediaKind;
use crate::model::role::RoomRole;
use crate::web::auth::Caller;
use crate::web::extract::Field;

/// RFC 3339 in UTC with milliseconds.
pub(super) fn rfc3339(epoch_ms: i64) -> String {
    DateTime::from_timestamp_millis(epoch_ms).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Milliseconds since the Unix epoch.
pub(super) fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

/// Whole seconds since the Unix epoch.
pub(super) fn now_s() -> u64 {
    u64::try_from(now_ms() / 1000).unwrap_or(0)
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewRoom)]
pub(super) struct NewRoomBody {
    /// The room's name in URLs: 1 to 64 of a-z, 0-9 and -.
    #[schema(value_type = String, example = "jam-night")]
    pub(super) id: Field<String>,
    /// 1 to 100 characters.
    #[schema(value_type = String, example = "Jam night")]
    pub(super) title: Field<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewRoomToken)]
pub(super) struct NewRoomTokenBody {
    /// The name shown to the others, 1 to 64 characters.
    #[schema(value_type = String, example = "Anna")]
    pub(super) name: Field<String>,
    /// `viewer`, `musician` or `host`.
    #[schema(value_type = String, example = "musician")]
    pub(super) role: Field<String>,
    /// Seconds the token is valid for; unless given, 12 hours or as long as the room token that asks.
    #[schema(value_type = Option<u32>)]
    pub(super) ttl_s: Field<u32>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewDestination)]
pub(super) struct NewDestinationBody {
    /// 1 to 64 characters.
    #[schema(value_type = String, example = "Our channel")]
    pub(super) name: Field<String>,
    /// The name of a preset; see `GET /platforms`.
    #[schema(value_type = String, example = "youtube")]
    pub(super) platform: Field<String>,
    /// `rtmp://` or `rtmps://`, host and application.
    #[schema(value_type = String, example = "rtmps://a.rtmps.youtube.com:443/live2")]
    pub(super) url: Field<String>,
    /// The stream key; may be left out when it stands at the end of the URL. It is sealed at once and never shown again.
    #[schema(value_type = Option<String>, write_only)]
    pub(super) key: Field<String>,
    /// A second server that takes over when the first is lost, such as YouTube's `…/live2?backup=1`.
    #[schema(value_type = Option<String>)]
    pub(super) backup_url: Field<String>,
    /// The second server's stream key, if it is another one.
    #[schema(value_type = Option<String>, write_only)]
    pub(super) backup_key: Field<String>,
    /// Whether programmes follow what it takes; they do not unless asked to.
    #[schema(value_type = Option<bool>)]
    pub(super) primary: Field<bool>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = DestinationChange)]
pub(super) struct DestinationChangeBody {
    /// Whether programmes follow what it takes: their bitrate sinks to that of the slowest primary destination.
    #[schema(value_type = bool)]
    pub(super) primary: Field<bool>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewKey)]
pub(super) struct NewKeyBody {
    /// The new stream key. It is sealed at once and never shown again.
    #[schema(value_type = String, write_only)]
    pub(super) key: Field<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewStream)]
pub(super) struct NewStreamBody {
    /// The room to broadcast.
    #[schema(value_type = String, example = "jam-night")]
    pub(super) room: Field<String>,
    /// 1 to 100 characters.
    #[schema(value_type = String, example = "Jam night, live")]
    pub(super) title: Field<String>,
    /// Ids of the destinations, at most 8; may be left out for a stream that only records.
    #[schema(value_type = Option<Vec<String>>)]
    pub(super) destinations: Field<Vec<String>>,
    /// Whether the programme is recorded; it is not unless asked for.
    #[schema(value_type = Option<bool>)]
    pub(super) record: Field<bool>,
    /// Whether every musician's tracks are recorded as well, each as it came into a file of its own; needs `record`.
    #[schema(value_type = Option<bool>)]
    pub(super) stems: Field<bool>,
    /// Whether anybody may watch it over HLS, without a token; nobody may unless asked for. The stream says where (`hls_url`).
    #[schema(value_type = Option<bool>)]
    pub(super) hls: Field<bool>,
    /// Picture, sound and rates; what all destinations take unless given.
    #[schema(value_type = Option<ProgrammeBody>)]
    pub(super) programme: Field<Map<String, Value>>,
}

/// Each value that is left out is chosen so that every destination takes it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Programme)]
pub(super) struct ProgrammeBody {
    /// Size, rate and bitrate by one name, see `GET /tiers`; what is given beside it wins.
    #[schema(value_type = Option<String>, example = "720p30")]
    pub(super) tier: Field<String>,
    /// Pixels, even, 160 to 3840.
    #[schema(value_type = Option<u32>, example = 1280)]
    pub(super) width: Field<u32>,
    /// Pixels, even, 90 to 2160.
    #[schema(value_type = Option<u32>, example = 720)]
    pub(super) height: Field<u32>,
    /// Frames a second, 10 to 60.
    #[schema(value_type = Option<u32>, example = 30)]
    pub(super) fps: Field<u32>,
    /// 200 to 50000 kbit/s, constant.
    #[schema(value_type = Option<u32>, example = 2500)]
    pub(super) video_kbps: Field<u32>,
    /// 32 to 320 kbit/s.
    #[schema(value_type = Option<u32>, example = 160)]
    pub(super) audio_kbps: Field<u32>,
    /// Seconds between keyframes, 1 to 10.
    #[schema(value_type = Option<u32>, example = 2)]
    pub(super) keyframe_interval_s: Field<u32>,
    /// `auto`: a picture in H.264 that is the whole programme, of its size and rates, goes out as it comes, which costs next to nothing;
    /// `off`, unless asked for: everything is composed and encoded.
    #[schema(value_type = Option<String>, example = "off")]
    pub(super) passthrough: Field<String>,
    /// `low`: the programme waits for late pictures and sounds only as long as it has to, from 20 ms on, and shows and sounds what the
    /// network does to them; `normal`, unless asked for: 60 ms at least.
    #[schema(value_type = Option<String>, example = "normal")]
    pub(super) latency: Field<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Room {
    id: String,
    title: String,
    owner: String,
    /// RFC 3339.
    created_at: String,
}

impl From<RoomRow> for Room {
    fn from(row: RoomRow) -> Self {
        Self { id: row.id.into(), title: row.title, owner: row.owner.into(), created_at: rfc3339(row.created_at_ms) }
    }
}

#[derive(Serialize, ToSchema)]
pub(super) struct RoomToken {
    pub(super) token: String,
    #[schema(value_type = String)]
    pub(super) role: RoomRole,
    /// RFC 3339.
    pub(super) expires_at: String,
    /// The studio with the token in its fragment, which is never sent to a server.
    pub(super) studio_url: String,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Destination {
    id: String,
    name: String,
    platform: String,
    /// Without the key.
    url: String,
    /// The key's last two characters behind dots.
    key_hint: String,
    /// The second server, without its key.
    backup_url: Option<String>,
    /// Whether programmes follow what it takes.
    primary: bool,
    owner: String,
    /// The room it belongs to; `null` if it belongs to the whole account.
    room: Option<String>,
    /// Whether the caller may replace its key and delete it, and not only send to it.
    may_change: bool,
    /// RFC 3339.
    created_at: String,
}

impl Destination {
    pub(super) fn new(row: DestinationRow, caller: &Caller) -> Self {
        Self {
            may_change: caller.manages(&row.owner, row.room.as_ref()),
            id: row.id.into(),
            name: row.name,
            platform: row.platform,
            url: row.endpoint.url(),
            key_hint: row.key_hint,
            backup_url: row.backup.map(|backup| backup.endpoint.url()),
            primary: row.primary,
            owner: row.owner.into(),
            room: row.room.map(Into::into),
            created_at: rfc3339(row.created_at_ms),
        }
    }
}

#[derive(Serialize, ToSchema)]
pub(super) struct Platform {
    /// The name to give in a destination.
    name: String,
    /// The name people know.
    title: String,
    /// The ingest URL to begin with, where there is one.
    url: Option<String>,
    /// Every known ingest, with a label for people.
    #[schema(value_type = Vec<Object>)]
    servers: Vec<platform::Server>,
    /// Where people find their stream key.
    key_page: Option<String>,
    #[schema(value_type = Object)]
    limits: platform::Limits,
    /// A programme that looks and sounds well there.
    #[schema(value_type = Object)]
    recommended: crate::model::spec::ProgrammeSpec,
}

impl From<&platform::Platform> for Platform {
    fn from(preset: &platform::Platform) -> Self {
        Self {
            name: preset.name.clone(),
            title: preset.title.clone(),
            url: preset.servers.first().map(|server| server.url.clone()),
            servers: preset.servers.clone(),
            key_page: preset.key_page.clone(),
            limits: preset.limits.clone(),
            recommended: preset.recommended.clone(),
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RecordingChange)]
pub(super) struct RecordingChangeBody {
    /// Whether retention leaves it alone.
    #[schema(value_type = bool)]
    pub(super) keep: Field<bool>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewMarker)]
pub(super) struct NewMarkerBody {
    /// 1 to 100 characters.
    #[schema(value_type = String, example = "Second song")]
    pub(super) label: Field<String>,
    /// How long ago it was, seconds; now unless given.
    #[schema(value_type = Option<u32>)]
    pub(super) seconds_ago: Field<u32>,
}

/// A moment of a broadcast.
#[derive(Serialize, ToSchema)]
pub(super) struct Marker {
    id: String,
    label: String,
    /// RFC 3339.
    at: String,
}

impl From<&MarkerRow> for Marker {
    fn from(row: &MarkerRow) -> Self {
        Self { id: row.id.into(), label: row.label.clone(), at: rfc3339(row.at_ms) }
    }
}

/// A recording's way to the object store.
#[derive(Serialize, ToSchema)]
pub(super) struct Upload {
    state: UploadState,
    /// The object's name in the bucket.
    object: String,
    attempts: u32,
    sent_bytes: i64,
    /// Why the last attempt failed.
    error: Option<String>,
}

impl From<UploadRow> for Upload {
    fn from(row: UploadRow) -> Self {
        Self { state: row.state, object: row.key, attempts: row.attempts, sent_bytes: row.sent_bytes, error: row.error }
    }
}

/// Where a marker lies in a recording.
#[derive(Serialize, ToSchema)]
pub(super) struct Place {
    marker: String,
    label: String,
    /// From the beginning of the file.
    position_ms: i64,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Tier {
    /// What a stream's programme is asked for by.
    #[schema(example = "720p30")]
    name: String,
    width: u32,
    height: u32,
    fps: u32,
    video_kbps: u32,
}

impl From<&tier::Tier> for Tier {
    fn from(tier: &tier::Tier) -> Self {
        let tier::Tier { name, width, height, fps, video_kbps } = tier.clone();
        Self { name, width, height, fps, video_kbps }
    }
}

#[derive(Serialize, ToSchema)]
pub(super) struct Recording {
    id: String,
    stream: String,
    room: String,
    title: String,
    /// 1 for the first file of a stream; a mixer that was restarted writes the next.
    part: u32,
    /// Whose track it is, as it came; `null` for the programme.
    musician: Option<String>,
    /// What a musician's file holds.
    #[schema(value_type = Option<String>, example = "audio")]
    media: Option<MediaKind>,
    /// RFC 3339.
    created_at: String,
    /// RFC 3339: when the file's first moment was, the same for all files of a part, which are to be laid side by side.
    zero_at: Option<String>,
    /// RFC 3339; `null` while it is being written.
    ended_at: Option<String>,
    duration_ms: Option<i64>,
    /// Bytes; while it is being written, those on the disk now.
    size_bytes: Option<i64>,
    /// Why it ended too early.
    failure: Option<String>,
    /// Whether retention leaves it alone.
    keep: bool,
    /// In the order of their times.
    markers: Vec<Place>,
    /// `null` while it is being written, and where nothing is uploaded.
    upload: Option<Upload>,
    /// A picture that stands for the whole; the others are beside it, one each ten seconds.
    poster_url: Option<String>,
    file_url: String,
}

impl Recording {
    /// `size_now` is the size on the disk, asked for while the row has none.
    pub(super) fn new(
        row: RecordingRow,
        size_now: Option<i64>,
        markers: &[MarkerRow],
        upload: Option<UploadRow>,
        poster: Option<u32>,
    ) -> Self {
        let zero = row.zero_at_ms.unwrap_or(i64::MAX);
        let inside =
            |marker: &&MarkerRow| marker.at_ms >= zero && row.ended_at_ms.is_none_or(|end| marker.at_ms <= end);
        let place = |marker: &MarkerRow| Place {
            marker: marker.id.into(),
            label: marker.label.clone(),
            position_ms: marker.at_ms - zero,
        };
        Self {
            id: row.id.into(),
            stream: row.stream.into(),
            room: row.room.into(),
            title: row.title,
            part: row.part,
            media: row.stem.as_ref().map(|stem| stem.media),
            musician: row.stem.map(|stem| stem.musician),
            created_at: rfc3339(row.created_at_ms),
            zero_at: row.zero_at_ms.map(rfc3339),
            ended_at: row.ended_at_ms.map(rfc3339),
            duration_ms: row.ended_at_ms.map(|ended| ended - row.created_at_ms),
            size_bytes: row.size_bytes.or(size_now),
            markers: markers.iter().filter(inside).map(place).collect(),
            failure: row.failure,
            keep: row.kept,
            upload: upload.map(Into::into),
            poster_url: poster.map(|number| format!("/api/v1/recordings/{}/thumbnails/{number}", row.id)),
            file_url: format!("/api/v1/recordings/{}/file", row.id),
        }
    }
}

/// What is asked for beside a stream's snapshots.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Wishes {
    /// Whether the meters are told as well.
    #[serde(default)]
    pub(super) meters: bool,
}
