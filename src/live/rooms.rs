//! The rooms as the rest of the gateway sees them: a typed handle to the SFU's workers, and the tap a stream listens with.

use std::hash::BuildHasher;
use std::hash::BuildHasherDefault;
use std::hash::DefaultHasher;
use std::sync::Arc;

use serde::Deserialize;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;

use crate::model::fault::Fault;
use crate::model::fault::Faulty;
use crate::model::id::ConsumerId;
use crate::model::id::ParticipantId;
use crate::model::id::ProducerId;
use crate::model::id::RoomId;
use crate::model::id::TrackId;
use crate::model::media::Codec;
use crate::model::media::MediaKind;
use crate::model::role::RoomRole;
use crate::proto::mixer::TappedPacket;

/// Commands waiting at one worker. A worker drains hundreds per millisecond, so a full queue means it is wedged; then callers get
/// [`RoomError::Overloaded`] instead of waiting.
pub const COMMAND_QUEUE: usize = 1024;

/// A cloneable handle to all rooms; a room lives on one worker, chosen by its name.
#[derive(Clone)]
pub struct Rooms {
    workers: Arc<[mpsc::Sender<Command>]>,
}

/// What a worker is asked to do.
pub struct Command {
    pub room: RoomId,
    pub request: Request,
}

/// Requests to a room. Each carries the sender its answer goes to.
pub enum Request {
    Join {
        newcomer: Newcomer,
        events: mpsc::Sender<Event>,
        reply: Reply<Joined>,
    },
    /// Leaving twice, or a room that is gone, is no error.
    Leave {
        participant: ParticipantId,
    },
    /// The participant's offer for what it sends (its *send* transport); answered with our SDP. May be repeated to add tracks or
    /// to restart ICE.
    Publish {
        participant: ParticipantId,
        offer: String,
        reply: Reply<String>,
    },
    /// WHEP: the participant's offer for what it wants to receive on its *recv* transport; each m-line is filled with one producer
    /// of the room, oldest first.
    Subscribe {
        participant: ParticipantId,
        offer: String,
        reply: Reply<String>,
    },
    /// The participant's answer to our last [`Event::Offer`].
    Answer {
        participant: ParticipantId,
        offer_id: u32,
        answer: String,
        reply: Reply<()>,
    },
    /// A trickled remote ICE candidate, as the value of an SDP `candidate` attribute.
    Candidate {
        participant: ParticipantId,
        transport: Transport,
        candidate: String,
        reply: Reply<()>,
    },
    /// Asks the server to restart ICE on the *recv* transport: it answers with a new [`Event::Offer`].
    RestartIce {
        participant: ParticipantId,
        reply: Reply<()>,
    },
    /// Names the track of m-line `mid` of the send transport and makes it consumable.
    Produce {
        participant: ParticipantId,
        mid: String,
        source: TrackSource,
        reply: Reply<ProducerId>,
    },
    SetProducer {
        participant: ParticipantId,
        producer: ProducerId,
        change: Change,
        reply: Reply<()>,
    },
    Consume {
        participant: ParticipantId,
        producer: ProducerId,
        reply: Reply<ConsumerInfo>,
    },
    SetConsumer {
        participant: ParticipantId,
        consumer: ConsumerId,
        change: Change,
        reply: Reply<()>,
    },
    Tap {
        reply: Reply<Tap>,
    },
    /// A tap's plea for a keyframe; coalesced like everybody's.
    Keyframe {
        track: TrackId,
    },
}

pub type Reply<T> = oneshot::Sender<Result<T, RoomError>>;

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

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerInfo {
    pub id: ConsumerId,
    pub producer: ProducerId,
    pub kind: MediaKind,
    /// The m-line of the recv transport that will carry it.
    pub mid: String,
}

/// Where a track comes from in the participant's world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrackSource {
    Microphone,
    Camera,
    Screen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    Send,
    Recv,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Pause,
    Resume,
    Close,
}

/// What a room tells one participant.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    ParticipantJoined(ParticipantInfo),
    ParticipantLeft(ParticipantId),
    ProducerAdded(ProducerInfo),
    ProducerRemoved(ProducerId),
    ProducerPaused(ProducerId),
    ProducerResumed(ProducerId),
    ConsumerClosed(ConsumerId),
    /// An offer for the recv transport; the participant answers with `offer_id`. The next one is not sent before that.
    Offer {
        offer_id: u32,
        sdp: String,
    },
    /// ICE and DTLS of a transport are up.
    TransportConnected(Transport),
    /// No packet of the peer for longer than ICE allows; it may come back by an ICE restart.
    TransportFailed(Transport),
    /// The participant is out of the room, and why; no event follows.
    Removed {
        reason: &'static str,
    },
}

/// A consumer whose peer is a mixer: gets every producer of a room.
pub struct Tap {
    /// What is in the room now; a new value for every change.
    pub roster: watch::Receiver<Roster>,
    /// Bounded; when it is full the oldest loss is the newest packet, counted in `jamcast_tap_dropped_packets_total`.
    pub media: mpsc::Receiver<TapMedia>,
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

#[derive(Clone, Debug)]
pub enum TapMedia {
    Packet(TappedPacket),
    /// RFC 3550 section 6.4.1, of a tapped track.
    SenderReport {
        track: TrackId,
        ntp: u64,
        rtp: u32,
    },
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

impl Rooms {
    /// A handle to these workers; there must be at least one.
    pub fn new(workers: Vec<mpsc::Sender<Command>>) -> Self {
        assert!(!workers.is_empty(), "the SFU has at least one worker");
        Self { workers: workers.into() }
    }

    /// Sends a request whose answer comes through the sender made here.
    ///
    /// # Errors
    /// What the room answers, or [`RoomError::Overloaded`] when its worker does not take or answer the request.
    pub async fn ask<T>(&self, room: &RoomId, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, RoomError> {
        let (reply, answer) = oneshot::channel();
        let command = Command { room: room.clone(), request: request(reply) };
        self.worker(room).try_send(command).map_err(|_| RoomError::Overloaded)?;
        answer.await.map_err(|_| RoomError::Overloaded)?
    }

    /// Sends a request that has no answer; one that finds the queue full is lost, which all such requests allow.
    pub fn tell(&self, room: &RoomId, request: Request) {
        let _lost_if_full = self.worker(room).try_send(Command { room: room.clone(), request });
    }

    fn worker(&self, room: &RoomId) -> &mpsc::Sender<Command> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(room);
        let index = usize::try_from(hash % self.workers.len() as u64).expect("smaller than a usize");
        &self.workers[index]
    }
}
