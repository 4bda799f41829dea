//! What is in a room: participants, producers, consumers, and how a room refuses.

use serde::Deserialize;
use serde::Serialize;

use crate::model::fault::Fault;
use crate::model::fault::Faulty;
use crate::model::id::ConsumerId;
use crate::model::id::ParticipantId;
use crate::model::id::ProducerId;
use crate::model::id::TrackId;
use crate::model::media::Codec;
use crate::model::media::MediaKind;
use crate::model::role::RoomRole;

/// Who joins.
#[derive(Clone, Debug)]
pub struct Newcomer {
    pub participant: ParticipantId,
    pub name: String,
    pub role: RoomRole,
}

/// What a newcomer finds.
#[derive(Clone, Debug)]
pub struct Joined {
    pub participants: Vec<ParticipantInfo>,
    pub producers: Vec<ProducerInfo>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParticipantInfo {
    pub id: ParticipantId,
    pub name: String,
    pub role: RoomRole,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerInfo {
    pub id: ProducerId,
    pub participant: ParticipantId,
    pub kind: MediaKind,
    pub source: TrackSource,
    pub paused: bool,
}

/// Where a track comes from in the participant's world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrackSource {
    Microphone,
    Camera,
    Screen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Pause,
    Resume,
    Close,
}

/// Everybody and everything in a room, in the order of joining.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    pub participants: Vec<ParticipantInfo>,
    pub tracks: Vec<TapTrack>,
}

/// One producer as a tap sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapTrack {
    pub track: TrackId,
    pub producer: ProducerId,
    pub participant: ParticipantId,
    pub source: TrackSource,
    pub codec: Codec,
    pub payload_type: u8,
    pub paused: bool,
}

/// What the room itself tells a participant; the driver adds what its transports have to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    ParticipantJoined(ParticipantInfo),
    ParticipantLeft(ParticipantId),
    ProducerAdded(ProducerInfo),
    ProducerRemoved(ProducerId),
    ProducerPaused(ProducerId),
    ProducerResumed(ProducerId),
    ConsumerClosed(ConsumerId),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoomError {
    #[error("this participant is not in the room; join first")]
    NotJoined,
    #[error("the room has reached its limit of {0} participants")]
    RoomFull(usize),
    #[error("the SDP cannot be used: {0}")]
    Sdp(String),
    #[error("the ICE candidate cannot be used: {0}")]
    Candidate(String),
    #[error("there is no m-line {0} to produce on; send the offer first")]
    UnknownMid(String),
    #[error("there is no such producer")]
    UnknownProducer,
    #[error("there is no such consumer")]
    UnknownConsumer,
    #[error("the answer belongs to no open offer")]
    UnexpectedAnswer,
    #[error("none of the offered codecs can be used: send Opus and VP8 or H.264")]
    NoCommonCodec,
    #[error("a participant may have {0} tracks at most")]
    TooManyTracks(usize),
    #[error("the media worker is overloaded; try again")]
    Overloaded,
}

impl Faulty for RoomError {
    fn fault(&self) -> Fault {
        match self {
            Self::NotJoined
            | Self::RoomFull(_)
            | Self::Sdp(_)
            | Self::Candidate(_)
            | Self::UnknownMid(_)
            | Self::UnknownProducer
            | Self::UnknownConsumer
            | Self::UnexpectedAnswer
            | Self::NoCommonCodec
            | Self::TooManyTracks(_) => Fault::Client,
            Self::Overloaded => Fault::Transient,
        }
    }
}
