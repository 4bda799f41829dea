//! The rooms as the rest of the gateway sees them: a typed handle to the SFU's workers, and the tap a stream listens with.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;

pub use crate::domain::room::delay::Grade;
pub use crate::domain::room::delay::Path;
pub use crate::domain::room::picture::Size;
pub use crate::domain::room::words::Change;
pub use crate::domain::room::words::ConsumerInfo;
pub use crate::domain::room::words::Joined;
pub use crate::domain::room::words::Kept;
pub use crate::domain::room::words::Newcomer;
pub use crate::domain::room::words::Order;
pub use crate::domain::room::words::ParticipantInfo;
pub use crate::domain::room::words::ProducerInfo;
pub use crate::domain::room::words::ProducerLevel;
pub use crate::domain::room::words::RoomError;
pub use crate::domain::room::words::RoomState;
pub use crate::domain::room::words::Roster;
pub use crate::domain::room::words::TapTrack;
pub use crate::domain::room::words::TrackSource;
use crate::live::placement::Placement;
use crate::model::id::ConsumerId;
use crate::model::id::ParticipantId;
use crate::model::id::ProducerId;
use crate::model::id::RoomId;
use crate::model::id::TrackId;
use crate::model::media::EncodedFrame;
use crate::model::media::MediaKind;
use crate::model::media::OpusPacket;
use crate::proto::mixer::TappedPacket;

/// Commands waiting at one worker. A worker drains hundreds per millisecond, so a full queue means it is wedged; then callers get
/// [`RoomError::Overloaded`] instead of waiting.
pub const COMMAND_QUEUE: usize = 1024;

/// A cloneable handle to all rooms; a room lives on one worker, the least loaded when it opened.
#[derive(Clone)]
pub struct Rooms {
    shared: Arc<Shared>,
}

struct Shared {
    workers: Vec<mpsc::Sender<Command>>,
    /// Held while a command is sent, so that no room is given up with a command for it on its way.
    placement: Mutex<Placement>,
}

/// What a worker holds of the rooms' handle: it says what it bears and which rooms it has closed.
#[derive(Default)]
pub struct Keeper {
    shared: Weak<Shared>,
    worker: usize,
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
    /// Somebody whose signalling broke is back: events go to another place from now on, and everything else goes on. An offer that
    /// waits for its answer is told again.
    Rejoin {
        participant: ParticipantId,
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
    /// How much a consumer matters to its participant.
    Prioritise {
        participant: ParticipantId,
        consumer: ConsumerId,
        priority: u8,
        reply: Reply<()>,
    },
    /// A host's decision, or the gateway's own (`by` is `None`).
    Order {
        by: Option<ParticipantId>,
        order: Order,
        reply: Reply<()>,
    },
    /// How large a consumer is shown, in device pixels.
    SetTile {
        participant: ParticipantId,
        consumer: ConsumerId,
        tile: Size,
        reply: Reply<()>,
    },
    /// What a participant's jitter buffers hold back of the sound it consumes.
    JitterBuffers {
        participant: ParticipantId,
        reported: Vec<(ConsumerId, Duration)>,
        reply: Reply<()>,
    },
    /// How late everybody hears everybody else.
    Delays {
        reply: Reply<DelayTable>,
    },
    /// How late those are in the programme who play in time with what they hear of the leader, as far as it was measured.
    Lateness {
        leader: ParticipantId,
        reply: Reply<Vec<(ParticipantId, Duration)>>,
    },
    Tap {
        reply: Reply<Tap>,
    },
    /// How large a track stands in the programme; its tap gets the layer nearest to that.
    SetTapTile {
        track: TrackId,
        tile: Size,
    },
    /// A frame of the room's broadcast, for the hosts who watch it. One that is lost on the way is lost to them.
    Screen {
        frame: ProgrammeFrame,
    },
    /// The broadcast is over.
    EndScreening,
    /// A tap's plea for a keyframe; coalesced like everybody's.
    Keyframe {
        track: TrackId,
    },
}

/// A frame of a programme as it goes out to those who watch it in the room.
#[derive(Clone, Debug)]
pub enum ProgrammeFrame {
    /// H.264, with the configuration that it is to be decoded by.
    Picture {
        frame: EncodedFrame,
        avc: Bytes,
    },
    Sound(OpusPacket),
}

impl ProgrammeFrame {
    pub const fn kind(&self) -> MediaKind {
        match self {
            Self::Picture { .. } => MediaKind::Video,
            Self::Sound(_) => MediaKind::Audio,
        }
    }
}

pub type Reply<T> = oneshot::Sender<Result<T, RoomError>>;

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
    /// Its role, or what a host has decided about it; told to itself too.
    ParticipantUpdated(ParticipantInfo),
    RoomUpdated(RoomState),
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
    /// How loud everybody is, loudest first; who is not in it is silent. Lost without harm.
    Levels(Arc<[ProducerLevel]>),
    /// How late everybody hears everybody else, in large rooms the participant's own paths. Lost without harm.
    Delays(Arc<[Path]>),
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

/// The delay table of a room and who is in it.
#[derive(Clone, Debug, Default)]
pub struct DelayTable {
    /// In the order of joining.
    pub participants: Vec<ParticipantInfo>,
    pub for_hosts: Vec<Path>,
    /// Without the paths from those whom only hosts hear.
    pub for_all: Vec<Path>,
}

/// A consumer whose peer is a mixer: gets every producer of a room.
pub struct Tap {
    /// What is in the room now; a new value for every change.
    pub roster: watch::Receiver<Roster>,
    /// Bounded; when it is full the oldest loss is the newest packet, counted in `jamcast_tap_dropped_packets_total`.
    pub media: mpsc::Receiver<TapMedia>,
    /// How long it took, when the tap was opened, until what the musicians' links lose of their pictures had come again.
    pub repair: Duration,
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
        let placement = Mutex::new(Placement::new(workers.len()));
        Self { shared: Arc::new(Shared { workers, placement }) }
    }

    /// Sends a request whose answer comes through the sender made here.
    ///
    /// # Errors
    /// What the room answers, [`RoomError::NotJoined`] when there is none, or [`RoomError::Overloaded`] when its worker does not take or answer the request.
    pub async fn ask<T>(&self, room: &RoomId, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, RoomError> {
        let (reply, answer) = oneshot::channel();
        self.send(room, request(reply))?;
        answer.await.map_err(|_| RoomError::Overloaded)?
    }

    /// Sends a request that has no answer; one that finds the queue full is lost, which all such requests allow.
    pub fn tell(&self, room: &RoomId, request: Request) {
        let _lost_if_full = self.send(room, request);
    }

    /// Workers that ended; their rooms cannot be entered any more.
    pub fn dead_workers(&self) -> usize {
        self.shared.workers.iter().filter(|worker| worker.is_closed()).count()
    }

    /// What this worker is to hold.
    pub fn keeper(&self, worker: usize) -> Keeper {
        Keeper { shared: Arc::downgrade(&self.shared), worker }
    }

    fn send(&self, room: &RoomId, request: Request) -> Result<(), RoomError> {
        let opens = matches!(request, Request::Join { .. } | Request::Tap { .. });
        let workers = &self.shared.workers;
        let mut placement = self.shared.placement();
        let known = placement.find(room);
        let worker = match known {
            Some(worker) => worker,
            None if opens => placement.open(room, |worker| !workers[worker].is_closed()),
            None => return Err(RoomError::NotJoined),
        };
        let sent = workers[worker].try_send(Command { room: room.clone(), request });
        if sent.is_err() && known.is_none() {
            placement.close(room);
        }
        sent.map_err(|_| RoomError::Overloaded)
    }
}

impl Shared {
    fn placement(&self) -> MutexGuard<'_, Placement> {
        self.placement.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper {
    /// What the worker used of its core in `period`.
    pub fn measured(&self, cpu: Duration, period: Duration) {
        if let Some(shared) = self.shared.upgrade() {
            shared.placement().measured(self.worker, cpu, period);
        }
    }

    /// Gives a room up that the worker has closed. `false` while commands wait at the worker, for one may open the room again.
    pub fn give_up(&self, room: &RoomId) -> bool {
        let Some(shared) = self.shared.upgrade() else { return true };
        let mut placement = shared.placement();
        let queue = &shared.workers[self.worker];
        let is_empty = queue.capacity() == queue.max_capacity();
        if is_empty {
            placement.close(room);
        }
        is_empty
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(rooms: &Rooms, room: &RoomId) {
        rooms.tell(room, Request::Tap { reply: oneshot::channel().0 });
    }

    #[tokio::test]
    async fn a_room_is_not_given_up_while_a_command_that_may_open_it_again_waits() {
        let (first, mut commands) = mpsc::channel(4);
        let (second, _others) = mpsc::channel(4);
        let rooms = Rooms::new(vec![first, second]);
        let keeper = rooms.keeper(0);
        let room: RoomId = "jam".parse().expect("a slug");
        let absent = rooms.ask(&room, |reply| Request::RestartIce { participant: ParticipantId::generate(), reply });
        assert!(matches!(absent.await, Err(RoomError::NotJoined)), "nobody opened it");
        enter(&rooms, &room);
        assert!(!keeper.give_up(&room));
        keeper.measured(Duration::from_millis(900), Duration::from_secs(1));
        enter(&rooms, &room);
        assert!(commands.try_recv().is_ok() && commands.try_recv().is_ok(), "it stays where it is");
        assert!(keeper.give_up(&room));
        enter(&rooms, &room);
        assert!(commands.try_recv().is_err(), "opened anew it goes to the other worker, which has less to do");
    }
}
