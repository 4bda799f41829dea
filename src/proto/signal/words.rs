//! The words that calls, replies and pushes share.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;
use zeroize::Zeroize;
use zeroize::ZeroizeOnDrop;

use crate::model::id::ConsumerId;
use crate::model::id::ParticipantId;
use crate::model::id::ProducerId;
use crate::model::media::MediaKind;
use crate::model::role::RoomRole;

/// A text that is sent but never printed: a token, a TURN password. Debug prints dots, memory is wiped on drop.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub struct Hidden(String);

impl Hidden {
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself. Every call of this is a place to review.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("••••")
    }
}

/// The two peer connections of a participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// Participant to gateway; the participant offers.
    Send,
    /// Gateway to participant; the gateway offers.
    Recv,
}

/// Where a track comes from in the participant's world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    Microphone,
    Camera,
    Screen,
    /// The room's broadcast, for its hosts. Nobody can produce it.
    Programme,
}

/// Exactly one track: one that is sent, or one that is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "TrackFields", into = "TrackFields")]
pub enum TrackRef {
    Producer(ProducerId),
    Consumer(ConsumerId),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrackFields {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    producer_id: Option<ProducerId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    consumer_id: Option<ConsumerId>,
}

impl TryFrom<TrackFields> for TrackRef {
    type Error = &'static str;

    fn try_from(fields: TrackFields) -> Result<Self, Self::Error> {
        match (fields.producer_id, fields.consumer_id) {
            (Some(producer), None) => Ok(Self::Producer(producer)),
            (None, Some(consumer)) => Ok(Self::Consumer(consumer)),
            (Some(_), Some(_)) | (None, None) => Err("give either producer_id or consumer_id"),
        }
    }
}

impl From<TrackRef> for TrackFields {
    fn from(track: TrackRef) -> Self {
        match track {
            TrackRef::Producer(id) => Self { producer_id: Some(id), consumer_id: None },
            TrackRef::Consumer(id) => Self { producer_id: None, consumer_id: Some(id) },
        }
    }
}

/// How long a participant's jitter buffer holds back what a consumer of sound brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JitterBuffer {
    pub consumer_id: ConsumerId,
    pub delay_ms: u16,
}

/// How late one participant hears another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Path {
    pub from: ParticipantId,
    pub to: ParticipantId,
    /// From microphone to ears without the sound cards.
    pub delay_ms: u16,
    /// What of it the receiver's jitter buffer holds back; `null` where the receiver does not say, and then it is not in `delay_ms`.
    pub buffer_ms: Option<u16>,
    pub grade: Grade,
}

/// How well two people can play together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// 43 ms or less.
    Green,
    /// 68 ms or less.
    Yellow,
    Red,
}

/// Why a call failed: a stable code for programs, a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    pub code: String,
    pub message: String,
}

impl Failure {
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into() }
    }
}

/// A STUN or TURN server in the form of the browser's `RTCIceServer`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IceServer {
    /// `stun:`, `turn:` or `turns:` URLs (RFC 7064, RFC 7065).
    pub urls: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Hidden>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Participant {
    pub id: ParticipantId,
    pub name: String,
    pub role: RoomRole,
    /// A host has silenced its sound, which it cannot undo.
    pub audio_muted: bool,
    /// A host has switched its pictures off.
    pub video_muted: bool,
    /// Only hosts see and hear it.
    pub isolated: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Producer {
    pub id: ProducerId,
    pub participant: ParticipantId,
    pub kind: MediaKind,
    pub source: Source,
    pub paused: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consumer {
    pub id: ConsumerId,
    pub producer: ProducerId,
    pub kind: MediaKind,
    /// The m-line of the *recv* transport that will carry it.
    pub mid: String,
}

/// How loud a producer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Level {
    pub producer_id: ProducerId,
    /// dBov, -127 to 0.
    pub level: i8,
}
