//! What a stream is asked to be: programme format and destinations, already validated.

use serde::Deserialize;
use serde::Serialize;

use crate::model::id::DestinationId;
use crate::model::secret::StreamKey;

/// Picture, sound and rates of a programme.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgrammeSpec {
    /// Pixels, even.
    pub width: u32,
    /// Pixels, even.
    pub height: u32,
    /// Frames a second.
    pub fps: u32,
    /// Video bitrate in kbit/s, constant.
    pub video_kbps: u32,
    /// AAC bitrate in kbit/s.
    pub audio_kbps: u32,
    /// Seconds between keyframes.
    pub keyframe_interval_s: u32,
    #[serde(default)]
    pub passthrough: Passthrough,
    #[serde(default)]
    pub latency: Latency,
}

/// How long a programme waits for what comes late, so that nothing of it is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Latency {
    /// As long as the networks of its sources ask for, and never less than a busy machine needs.
    #[default]
    Normal,
    /// No longer than it has to: what comes late costs pictures and sound before the wait grows.
    Low,
}

/// Whether a picture that is the whole programme may go to the audience as it came, neither decoded nor encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Passthrough {
    /// Everything is composed and encoded: one size, one rate, one encoder from beginning to end.
    #[default]
    Off,
    /// H.264 of the programme's size is passed through while nothing is beside or over it.
    Auto,
}

impl Default for ProgrammeSpec {
    /// 720p30 at 2.5 Mbit/s: what every platform takes and one core can mix.
    fn default() -> Self {
        Self {
            width: 1280,
            height: 720,
            fps: 30,
            video_kbps: 2500,
            audio_kbps: 160,
            keyframe_interval_s: 2,
            passthrough: Passthrough::Off,
            latency: Latency::Normal,
        }
    }
}

/// One RTMP(S) endpoint, without its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationSpec {
    pub id: DestinationId,
    /// Shown to people, 1 to 64 characters.
    pub name: String,
    /// Name of a preset under `config/platforms/`: `x`, `youtube`, `twitch`, `facebook`, `kick`, `custom`.
    pub platform: String,
    pub endpoint: RtmpEndpoint,
    /// Whether the programme's bitrate follows what this one takes.
    pub primary: bool,
    /// Takes over when the first server is lost.
    pub backup: Option<Ingest>,
}

/// A server and the key for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingest {
    pub endpoint: RtmpEndpoint,
    pub key: StreamKey,
}

/// Where an RTMP(S) server listens: the URL without the stream key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RtmpEndpoint {
    /// RTMPS, that is RTMP over TLS.
    pub tls: bool,
    /// A host name or an address, without brackets.
    pub host: String,
    pub port: u16,
    /// The RTMP application, such as `live2`; may hold `/` and a query (`live2?backup=1`).
    pub app: String,
}

impl RtmpEndpoint {
    /// The `tcUrl` of RTMP's connect command and what people are shown: never holds the key.
    pub fn url(&self) -> String {
        let scheme = if self.tls { "rtmps" } else { "rtmp" };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("{scheme}://{host}:{}/{}", self.port, self.app)
    }
}
