//! Every signalling message as a type; what does not fit one of them is refused with the reason.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use zeroize::Zeroize;
use zeroize::ZeroizeOnDrop;

use crate::model::id::ConsumerId;
use crate::model::id::ParticipantId;
use crate::model::id::ProducerId;
use crate::model::id::RoomId;
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
struct Empty {}

/// Whatever the gateway sends; for the other end of the line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FromGateway {
    Reply(Reply),
    Push(Push),
}

/// The reply to a [`Call`]; without an id if the call's could not be read.
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

/// What the gateway tells without being asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", content = "data", rename_all = "snake_case", deny_unknown_fields)]
pub enum Push {
    ParticipantJoined {
        participant: Participant,
    },
    ParticipantLeft {
        participant_id: ParticipantId,
    },
    /// Its role, or what a host has decided about it; told to itself too.
    ParticipantUpdated {
        participant: Participant,
    },
    RoomUpdated {
        locked: bool,
        spotlight: Option<ParticipantId>,
    },
    /// Lost where the participant reads slowly.
    Levels {
        levels: Vec<Level>,
    },
    ProducerAdded {
        producer: Producer,
    },
    ProducerRemoved {
        producer_id: ProducerId,
    },
    ProducerPaused {
        producer_id: ProducerId,
    },
    ProducerResumed {
        producer_id: ProducerId,
    },
    ConsumerClosed {
        consumer_id: ConsumerId,
    },
    /// To be answered with `connect` and this number; the next offer waits for it.
    Offer {
        offer_id: u32,
        sdp: String,
    },
    TransportConnected {
        transport: Transport,
    },
    TransportFailed {
        transport: Transport,
    },
    /// The last message before the socket closes.
    Removed {
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(text: &str) -> (Option<u64>, String) {
        let malformed = Call::parse(text).unwrap_err();
        (malformed.id, malformed.failure.code)
    }

    #[test]
    fn a_call_is_read_with_its_id() {
        let call = Call::parse(r#"{"id":7,"method":"produce","data":{"mid":"0","source":"microphone"}}"#).unwrap();
        assert_eq!(call, Call { id: 7, ask: Ask::Produce { mid: "0".into(), source: Source::Microphone } });
        assert_eq!(Call::parse(r#"{"id":8,"method":"ping"}"#).unwrap().ask, Ask::Ping {});
    }

    #[test]
    fn what_is_wrong_is_named() {
        let unknown = "{\"id\":1,\"method\":\"dance\",\"data\":{}}";
        assert_eq!(refusal("{"), (None, "malformed".into()));
        assert_eq!(refusal("[1]"), (None, "malformed".into()));
        assert_eq!(refusal(r#"{"id":-1,"method":"ping"}"#), (None, "malformed".into()));
        assert_eq!(refusal(r#"{"id":3,"method":"ping","extra":1}"#), (Some(3), "malformed".into()));
        assert_eq!(refusal(unknown), (Some(1), "unknown_method".into()));
        for data in [
            r#""join","data":{"token":"x","room":"y"}"#,
            r#""join","data":{"token":5}"#,
            r#""connect","data":{"transport":"send","sdp":"v=0","offer_id":1}"#,
            r#""connect","data":{"transport":"recv","sdp":"v=0"}"#,
            r#""connect","data":{"transport":"sideways","sdp":"v=0"}"#,
            r#""produce","data":{"mid":"0","source":"kazoo"}"#,
            r#""pause","data":{}"#,
            r#""pause","data":{"track":"x"}"#,
            r#""leave","data":{"reason":"bored"}"#,
            r#""ping","data":null"#,
        ] {
            let text = format!("{{\"id\":2,\"method\":{data}}}");
            assert_eq!(refusal(&text), (Some(2), "bad_data".into()), "{text}");
        }
    }

    #[test]
    fn a_track_is_named_once() {
        let both = format!(
            r#"{{"id":1,"method":"close","data":{{"producer_id":"{}","consumer_id":"{}"}}}}"#,
            ProducerId::generate(),
            ConsumerId::generate()
        );
        assert!(Call::parse(&both).unwrap_err().failure.message.contains("either"));
    }

    #[test]
    fn a_token_is_not_printed() {
        let call = Call::parse(r#"{"id":1,"method":"join","data":{"token":"canary"}}"#).unwrap();
        assert!(!format!("{call:?}").contains("canary"));
    }

    fn any_order(number: u8) -> Ask {
        let (participant_id, yes) = (ParticipantId::generate(), number.is_multiple_of(2));
        match number % 7 {
            0 => Ask::Kick { participant_id },
            1 => Ask::Ban { participant_id },
            2 => Ask::Mute { participant_id, kind: MediaKind::Audio, muted: number > 99 },
            3 => Ask::Isolate { participant_id, isolated: yes },
            4 => Ask::Spotlight { participant_id: yes.then_some(participant_id) },
            5 => Ask::Lock { locked: yes },
            _ => Ask::TransferHost { participant_id },
        }
    }

    fn any_ask() -> impl Strategy<Value = Ask> {
        let transport = prop_oneof![Just(Transport::Send), Just(Transport::Recv)];
        let source = prop_oneof![Just(Source::Microphone), Just(Source::Camera), Just(Source::Screen)];
        let track = any::<bool>().prop_map(|sent| {
            if sent { TrackRef::Producer(ProducerId::generate()) } else { TrackRef::Consumer(ConsumerId::generate()) }
        });
        prop_oneof![
            (any::<String>(), any::<Option<String>>()).prop_map(|(token, resume)| Ask::Join {
                token: Hidden::new(token),
                resume_token: resume.map(Hidden::new)
            }),
            any::<u8>().prop_map(|priority| Ask::Priority { consumer_id: ConsumerId::generate(), priority }),
            any::<u8>().prop_map(any_order),
            any::<String>().prop_map(|sdp| Ask::Connect(Connect::Send { sdp })),
            (any::<u32>(), any::<String>()).prop_map(|(offer_id, sdp)| Ask::Connect(Connect::Recv { offer_id, sdp })),
            (transport, any::<String>()).prop_map(|(transport, candidate)| Ask::Candidate { transport, candidate }),
            (any::<String>(), source).prop_map(|(mid, source)| Ask::Produce { mid, source }),
            Just(()).prop_map(|()| Ask::Consume { producer_id: ProducerId::generate() }),
            track.clone().prop_map(Ask::Pause),
            track.clone().prop_map(Ask::Resume),
            track.prop_map(Ask::Close),
            any::<(u16, u16)>().prop_map(|(width, height)| Ask::SetTile {
                consumer_id: ConsumerId::generate(),
                width,
                height
            }),
            Just(Ask::RestartIce {}),
            Just(Ask::Leave {}),
            Just(Ask::Ping {}),
        ]
    }

    proptest! {
        #[test]
        fn every_call_survives_the_wire(id in any::<u64>(), ask in any_ask()) {
            let call = Call { id, ask };
            let text = serde_json::to_string(&call).unwrap();
            prop_assert_eq!(Call::parse(&text).unwrap(), call);
        }

        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            let _ = Call::parse(&text);
            let _ = serde_json::from_str::<FromGateway>(&text);
        }

        #[test]
        fn arbitrary_data_never_panics(method in "[a-z_]{0,12}", data in r#"[\[\]{}":,a-z0-9_]{0,64}"#) {
            let _ = Call::parse(&format!(r#"{{"id":1,"method":"{method}","data":{data}}}"#));
        }
    }
}
