//! What is in a room: participants, producers, consumers, and how a room refuses.

use serde::Deserialize;
use serde::Serialize;

use crate::model::fault::Fault;
use crate::model::fault::Faulty;
use crate::model::id::ConsumerId;
use crate::model::id::ParticipantId;
use crate::model::id::ProducerId;
use crate::model::id::TrackId;
use crate::model::id::UserId;
use crate::model::media::Codec;
use crate::model::media::MediaKind;
use crate::model::role::RoomRole;

/// Who joins.
#[derive(Clone, Debug)]
pub struct Newcomer {
    pub participant: ParticipantId,
    /// Whose token it is; a ban is of the user.
    pub user: UserId,
    pub name: String,
    pub role: RoomRole,
}

/// What a newcomer finds.
#[derive(Clone, Debug)]
pub struct Joined {
    pub you: ParticipantInfo,
    pub participants: Vec<ParticipantInfo>,
    pub producers: Vec<ProducerInfo>,
    pub state: RoomState,
    /// What was still there for somebody who comes back after a broken connection; `None` for a newcomer.
    pub kept: Option<Kept>,
}

/// What the room kept for a participant whose connection broke.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Whether the transports are still there.
    pub send: bool,
    pub recv: bool,
    /// Its own producers.
    pub producers: Vec<ProducerInfo>,
    /// Its consumers, with the m-lines that carry them.
    pub consumers: Vec<ConsumerInfo>,
}

/// A consumer as its participant knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerInfo {
    pub id: ConsumerId,
    pub producer: ProducerId,
    pub kind: MediaKind,
    /// The m-line of the recv transport that will carry it.
    pub mid: String,
}

/// What is true of the room as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoomState {
    /// Only hosts and admins may come in.
    pub locked: bool,
    /// Who is to be shown large.
    pub spotlight: Option<ParticipantId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParticipantInfo {
    pub id: ParticipantId,
    pub name: String,
    pub role: RoomRole,
    /// The host has silenced its sound; its own pause is another matter.
    pub audio_muted: bool,
    /// The host has switched its pictures off.
    pub video_muted: bool,
    /// Nobody but hosts and admins sees and hears it, and it is not in the programme.
    pub isolated: bool,
}

impl ParticipantInfo {
    /// Somebody about whom no host has decided anything yet.
    pub const fn new(id: ParticipantId, name: String, role: RoomRole) -> Self {
        Self { id, name, role, audio_muted: false, video_muted: false, isolated: false }
    }

    /// Whether a host has silenced what it sends of this kind.
    pub const fn is_muted(&self, kind: MediaKind) -> bool {
        match kind {
            MediaKind::Audio => self.audio_muted,
            MediaKind::Video => self.video_muted,
        }
    }
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
    /// The room's broadcast, which comes from no participant.
    Programme,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Pause,
    Resume,
    Close,
}

/// What a host decides about the room. Each names the state it wants, so that saying it twice changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Out, and free to come back.
    Kick(ParticipantId),
    /// Out for as long as the room is open, whichever token of the user comes.
    Ban(ParticipantId),
    /// Whether everything of this kind that the participant sends is held back.
    Mute { participant: ParticipantId, kind: MediaKind, muted: bool },
    /// Whether nobody but hosts and admins sees and hears it.
    Isolate { participant: ParticipantId, isolated: bool },
    /// Who is to be shown large.
    Spotlight(Option<ParticipantId>),
    /// Whether only hosts and admins may come in.
    Lock(bool),
    /// A musician becomes host, and the host who says so a musician.
    TransferHost(ParticipantId),
}

/// How loud a producer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerLevel {
    pub producer: ProducerId,
    /// dBov, -127 to 0 (RFC 6464 section 3): the loudest packet since the last hint.
    pub level: i8,
}

/// Everybody and everything of the programme in a room, in the order of joining. Who is isolated is not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    pub participants: Vec<ParticipantInfo>,
    pub tracks: Vec<TapTrack>,
    pub spotlight: Option<ParticipantId>,
    /// Whether somebody in the room hears the programme.
    pub previewed: bool,
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
    /// Its role, or what a host has decided about it; told to itself too.
    ParticipantUpdated(ParticipantInfo),
    RoomUpdated(RoomState),
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
    #[error("the host has locked the room; ask to be let in")]
    RoomLocked,
    #[error("the host has banned you from this room")]
    Banned,
    #[error("only a host may do this, and only to those below")]
    RoleTooLow,
    #[error("there is no such participant")]
    UnknownParticipant,
    #[error("only a musician can become host")]
    NotAMusician,
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
    #[error("none of the offered codecs can be used: send Opus and VP8, VP9, H.264 or AV1")]
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
            | Self::RoomLocked
            | Self::Banned
            | Self::RoleTooLow
            | Self::UnknownParticipant
            | Self::NotAMusician
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
