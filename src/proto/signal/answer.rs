//! What a call is answered with.

use serde::Deserialize;
use serde::Serialize;

use crate::model::id::ParticipantId;
use crate::model::id::ProducerId;
use crate::model::id::RoomId;
use crate::proto::signal::Consumer;
use crate::proto::signal::Failure;
use crate::proto::signal::Hidden;
use crate::proto::signal::IceServer;
use crate::proto::signal::Participant;
use crate::proto::signal::Producer;
use crate::proto::signal::Push;

/// Whatever the gateway sends; for the other end of the line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FromGateway {
    Reply(Reply),
    Push(Push),
}

/// The reply to a [`Call`](crate::proto::signal::Call); without an id if the call's could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ReplyFields", into = "ReplyFields")]
pub struct Reply {
    pub id: Option<u64>,
    pub outcome: Result<Answer, Failure>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplyFields {
    id: Option<u64>,
    ok: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<Answer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<Failure>,
}

impl From<Reply> for ReplyFields {
    fn from(reply: Reply) -> Self {
        match reply.outcome {
            Ok(answer) => Self { id: reply.id, ok: true, data: Some(answer), error: None },
            Err(failure) => Self { id: reply.id, ok: false, data: None, error: Some(failure) },
        }
    }
}

impl TryFrom<ReplyFields> for Reply {
    type Error = &'static str;

    fn try_from(fields: ReplyFields) -> Result<Self, Self::Error> {
        let outcome = match (fields.ok, fields.data, fields.error) {
            (true, Some(answer), None) => Ok(answer),
            (false, None, Some(failure)) => Err(failure),
            (true | false, _, _) => return Err("a reply has data if ok, else error"),
        };
        Ok(Self { id: fields.id, outcome })
    }
}

/// What a successful call brings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Answer {
    Joined(Box<Joined>),
    /// Our answer to the offer of the *send* transport.
    Connected {
        sdp: String,
    },
    Produced {
        producer_id: ProducerId,
    },
    Consumed {
        consumer: Consumer,
    },
    Done {},
}

/// What a newcomer needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Joined {
    pub you: Participant,
    pub room: RoomId,
    pub locked: bool,
    pub spotlight: Option<ParticipantId>,
    pub ice_servers: Vec<IceServer>,
    /// Milliseconds between the gateway's pings.
    pub heartbeat_ms: u64,
    /// With this a new socket goes on where this one broke.
    pub resume_token: Hidden,
    /// Milliseconds after the break in which it does.
    pub resume_within_ms: u64,
    pub participants: Vec<Participant>,
    pub producers: Vec<Producer>,
    /// Only for who came back by a resume token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
}

/// What the room kept for somebody whose line broke.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// Whether the *send* transport is still there; if not, it begins anew with a new peer connection.
    pub send: bool,
    pub recv: bool,
    /// One's own.
    pub producers: Vec<Producer>,
    pub consumers: Vec<Consumer>,
}
