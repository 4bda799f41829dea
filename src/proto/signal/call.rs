//! What a participant may ask, as types; what does not fit one of them is refused with the reason.

use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::model::id::ConsumerId;
use crate::model::id::ParticipantId;
use crate::model::id::ProducerId;
use crate::model::media::MediaKind;
use crate::proto::signal::Failure;
use crate::proto::signal::Hidden;
use crate::proto::signal::JitterBuffer;
use crate::proto::signal::Source;
use crate::proto::signal::TrackRef;
use crate::proto::signal::Transport;

/// Jitter buffers told at once: those of a full room.
pub const MAX_REPORTED: usize = 64;

/// A request of the participant with the number its reply will carry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Call {
    pub id: u64,
    #[serde(flatten)]
    pub ask: Ask,
}

/// What a participant may ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "method", content = "data", rename_all = "snake_case")]
pub enum Ask {
    /// Always the first: names the room and the role by a token; or goes on where a broken line ended.
    Join {
        token: Hidden,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resume_token: Option<Hidden>,
    },
    Connect(Connect),
    /// A trickled ICE candidate as browsers give it; an empty one ends the candidates.
    Candidate {
        transport: Transport,
        candidate: String,
    },
    /// Asks for a new offer on the *recv* transport with new ICE credentials.
    RestartIce {},
    /// Makes the track of m-line `mid` of the *send* transport consumable by the others.
    Produce {
        mid: String,
        source: Source,
    },
    Consume {
        producer_id: ProducerId,
    },
    Pause(TrackRef),
    Resume(TrackRef),
    Close(TrackRef),
    /// How much a consumer matters where bandwidth is short; 128 unless said otherwise.
    Priority {
        consumer_id: ConsumerId,
        priority: u8,
    },
    /// Puts somebody out, who may come back.
    Kick {
        participant_id: ParticipantId,
    },
    /// Puts a user out for as long as the room is open.
    Ban {
        participant_id: ParticipantId,
    },
    /// Holds back what somebody sends of a kind, whatever that one says itself.
    Mute {
        participant_id: ParticipantId,
        kind: MediaKind,
        muted: bool,
    },
    /// Only hosts see and hear somebody who is isolated; the programme does not.
    Isolate {
        participant_id: ParticipantId,
        isolated: bool,
    },
    /// Whom to show large; nobody without a participant.
    Spotlight {
        participant_id: Option<ParticipantId>,
    },
    /// Lets only hosts in from now on.
    Lock {
        locked: bool,
    },
    /// Makes a musician host; the host who says so becomes a musician.
    TransferHost {
        participant_id: ParticipantId,
    },
    /// How large a received video is shown, in device pixels; it comes in the layer nearest to that.
    SetTile {
        consumer_id: ConsumerId,
        width: u16,
        height: u16,
    },
    /// What the participant measures and the gateway cannot, every few seconds.
    Stats {
        /// [`MAX_REPORTED`] at most.
        jitter_buffers: Vec<JitterBuffer>,
    },
    Leave {},
    Ping {},
}

/// SDP for one of the two transports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "transport", rename_all = "snake_case", deny_unknown_fields)]
pub enum Connect {
    /// The participant's offer; answered with ours.
    Send { sdp: String },
    /// The participant's answer to the offer of this number.
    Recv { offer_id: u32, sdp: String },
}

/// A text that is no request; `id` is there if at least that could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    pub id: Option<u64>,
    pub failure: Failure,
}

impl Call {
    /// Reads one request.
    ///
    /// # Errors
    /// [`Malformed`] with the code `malformed` (no JSON, no envelope), `unknown_method` or `bad_data`.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let value: Value = serde_json::from_str(text)
            .map_err(|error| Malformed::new(None, "malformed", format!("the message is not JSON: {error}")))?;
        let id = value.get("id").and_then(Value::as_u64);
        let envelope: Envelope = serde_json::from_value(value).map_err(|error| {
            Malformed::new(id, "malformed", format!("the message is no {{id, method, data}}: {error}"))
        })?;
        let ask = Ask::parse(&envelope.method, envelope.data).map_err(|failure| Malformed { id, failure })?;
        Ok(Self { id: envelope.id, ask })
    }
}

impl Malformed {
    fn new(id: Option<u64>, code: &'static str, message: String) -> Self {
        Self { id, failure: Failure::new(code, message) }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    id: u64,
    method: String,
    #[serde(default = "no_fields")]
    data: Value,
}

fn no_fields() -> Value {
    Value::Object(serde_json::Map::new())
}

impl Ask {
    fn parse(method: &str, data: Value) -> Result<Self, Failure> {
        Ok(match method {
            "join" => {
                let Join { token, resume_token } = fields(data)?;
                Self::Join { token, resume_token }
            }
            "connect" => Self::Connect(fields(data)?),
            "candidate" => {
                let Candidate { transport, candidate } = fields(data)?;
                Self::Candidate { transport, candidate }
            }
            "restart_ice" => {
                let Empty {} = fields(data)?;
                Self::RestartIce {}
            }
            "produce" => {
                let Produce { mid, source } = fields(data)?;
                if source == Source::Programme {
                    return Err(Failure::new("bad_data", "data: the programme is produced by the gateway alone"));
                }
                Self::Produce { mid, source }
            }
            "consume" => {
                let Consume { producer_id } = fields(data)?;
                Self::Consume { producer_id }
            }
            "pause" => Self::Pause(fields(data)?),
            "resume" => Self::Resume(fields(data)?),
            "close" => Self::Close(fields(data)?),
            "priority" => {
                let Priority { consumer_id, priority } = fields(data)?;
                Self::Priority { consumer_id, priority }
            }
            "kick" => {
                let Person { participant_id } = fields(data)?;
                Self::Kick { participant_id }
            }
            "ban" => {
                let Person { participant_id } = fields(data)?;
                Self::Ban { participant_id }
            }
            "mute" => {
                let Mute { participant_id, kind, muted } = fields(data)?;
                Self::Mute { participant_id, kind, muted }
            }
            "isolate" => {
                let Isolate { participant_id, isolated } = fields(data)?;
                Self::Isolate { participant_id, isolated }
            }
            "spotlight" => {
                let Spotlight { participant_id } = fields(data)?;
                Self::Spotlight { participant_id }
            }
            "lock" => {
                let Lock { locked } = fields(data)?;
                Self::Lock { locked }
            }
            "transfer_host" => {
                let Person { participant_id } = fields(data)?;
                Self::TransferHost { participant_id }
            }
            "set_tile" => {
                let SetTile { consumer_id, width, height } = fields(data)?;
                Self::SetTile { consumer_id, width, height }
            }
            "stats" => {
                let Stats { jitter_buffers } = fields(data)?;
                if jitter_buffers.len() > MAX_REPORTED {
                    return Err(Failure::new("bad_data", format!("data: more than {MAX_REPORTED} jitter_buffers")));
                }
                Self::Stats { jitter_buffers }
            }
            "leave" => {
                let Empty {} = fields(data)?;
                Self::Leave {}
            }
            "ping" => {
                let Empty {} = fields(data)?;
                Self::Ping {}
            }
            _ => return Err(Failure::new("unknown_method", "there is no such method in jamcast.v1")),
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetTile {
    consumer_id: ConsumerId,
    width: u16,
    height: u16,
}

fn fields<T: DeserializeOwned>(data: Value) -> Result<T, Failure> {
    serde_json::from_value(data).map_err(|error| Failure::new("bad_data", format!("data: {error}")))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Join {
    token: Hidden,
    resume_token: Option<Hidden>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Candidate {
    transport: Transport,
    candidate: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Produce {
    mid: String,
    source: Source,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Consume {
    producer_id: ProducerId,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Priority {
    consumer_id: ConsumerId,
    priority: u8,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Person {
    participant_id: ParticipantId,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mute {
    participant_id: ParticipantId,
    kind: MediaKind,
    muted: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Isolate {
    participant_id: ParticipantId,
    isolated: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spotlight {
    participant_id: Option<ParticipantId>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lock {
    locked: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stats {
    jitter_buffers: Vec<JitterBuffer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Empty {}

#[cfg(test)]
mod tests;
