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

pub use crate::domain::room::words::Change;
pub use crate::domain::room::words::Joined;
pub use crate::domain::room::words::Newcomer;
pub use crate::domain::room::words::ParticipantInfo;
pub use crate::domain::room::words::ProducerInfo;
pub use crate::domain::room::words::RoomError;
pub use crate::domain::room::words::Roster;
pub use crate::domain::room::words::TapTrack;
pub use crate::domain::room::words::TrackSource;
use crate::model::id::ConsumerId;
use crate::model::id::ParticipantId;
use crate::model::id::ProducerId;
use crate::model::id::RoomId;
use crate::model::id::TrackId;
use crate::model::media::MediaKind;
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

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerInfo {
    pub id: ConsumerId,
    pub producer: ProducerId,
    pub kind: MediaKind,
    /// The m-line of the recv transport that will carry it.
    pub mid: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    Send,
    Recv,
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
    /// No packet of the peer for six seconds, and said again when ICE gives up. It may come back by itself, and then
    /// [`Event::TransportConnected`] says so; an ICE restart is surer. On the *recv* transport the room offers one.
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

    /// Workers that ended; their rooms cannot be entered any more.
    pub fn dead_workers(&self) -> usize {
        self.workers.iter().filter(|worker| worker.is_closed()).count()
    }

    fn worker(&self, room: &RoomId) -> &mpsc::Sender<Command> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(room);
        let index = usize::try_from(hash % self.workers.len() as u64).expect("smaller than a usize");
        &self.workers[index]
    }
}
