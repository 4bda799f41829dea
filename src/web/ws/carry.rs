//! From the participant's words to the room's and back: each call carried out, each event told.

use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use tokio::sync::mpsc;

use crate::live::rooms;
use crate::live::rooms::Change;
use crate::live::rooms::ConsumerInfo;
use crate::live::rooms::Event;
use crate::live::rooms::Order;
use crate::live::rooms::ParticipantInfo;
use crate::live::rooms::ProducerInfo;
use crate::live::rooms::ProducerLevel;
use crate::live::rooms::Request;
use crate::live::rooms::RoomError;
use crate::live::rooms::Size;
use crate::live::rooms::TrackSource;
use crate::model::role::RoomGrant;
use crate::proto::signal::Answer;
use crate::proto::signal::Ask;
use crate::proto::signal::Connect;
use crate::proto::signal::Consumer;
use crate::proto::signal::Failure;
use crate::proto::signal::Grade;
use crate::proto::signal::Hidden;
use crate::proto::signal::JitterBuffer;
use crate::proto::signal::Joined;
use crate::proto::signal::Kept;
use crate::proto::signal::Level;
use crate::proto::signal::Participant;
use crate::proto::signal::Path;
use crate::proto::signal::Producer;
use crate::proto::signal::Push;
use crate::proto::signal::Source;
use crate::proto::signal::TrackRef;
use crate::proto::signal::Transport;
use crate::web::problem::room_code;
use crate::web::problem::token_code;
use crate::web::seat::Seat;
use crate::web::ws::Desk;
use crate::web::ws::cloakroom::Ticket;

/// A call that was carried out; a join brings a place in the room with it.
pub(super) struct Done {
    pub(super) id: u64,
    pub(super) outcome: Result<Answer, Failure>,
    pub(super) arrival: Option<Arrival>,
}

/// A participant that has just joined.
pub(super) struct Arrival {
    pub(super) seat: Arc<Seat>,
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) grant: RoomGrant,
    pub(super) ticket: Ticket,
    /// It had a place before.
    pub(super) resumed: bool,
}

/// Carries out one call. The conversation has made sure that all but `join` come from somebody who has a seat.
pub(super) async fn carry_out(desk: Desk, seat: Option<Arc<Seat>>, id: u64, ask: Ask) -> Done {
    match (ask, seat) {
        (Ask::Join { token, resume_token }, None) => match join(&desk, &token, resume_token.as_ref()).await {
            Ok((joined, arrival)) => Done { id, outcome: Ok(Answer::Joined(Box::new(joined))), arrival: Some(arrival) },
            Err(failure) => Done { id, outcome: Err(failure), arrival: None },
        },
        (ask, Some(seat)) => {
            let outcome = ask_room(&seat, ask).await.map_err(|error| refusal(&error));
            Done { id, outcome, arrival: None }
        }
        (_, None) => Done { id, outcome: Err(refusal(&RoomError::NotJoined)), arrival: None },
    }
}

fn refusal(error: &RoomError) -> Failure {
    Failure::new(room_code(error), error.to_string())
}

/// Takes the place of before, if there was one and it is still there; else a new one.
async fn join(desk: &Desk, token: &Hidden, resume_token: Option<&Hidden>) -> Result<(Joined, Arrival), Failure> {
    if let Some((seat, grant)) = resume_token.and_then(|token| desk.cloakroom.redeem(token)) {
        match seat.retake().await {
            Ok((found, events)) => return Ok(arrive(desk, seat, grant, found, events)),
            Err(error) => tracing::debug!(participant = %seat.participant, %error, "its place is gone"),
        }
    }
    let grant = desk
        .state
        .identity
        .room_grant(token.expose())
        .map_err(|error| Failure::new(token_code(error), error.to_string()))?;
    let (seat, found, events) = Seat::take(&desk.state.rooms, &grant).await.map_err(|error| refusal(&error))?;
    Ok(arrive(desk, Arc::new(seat), grant, found, events))
}

fn arrive(
    desk: &Desk,
    seat: Arc<Seat>,
    grant: RoomGrant,
    found: rooms::Joined,
    events: mpsc::Receiver<Event>,
) -> (Joined, Arrival) {
    let ticket = desk.cloakroom.check_in(Arc::clone(&seat), grant.clone());
    let resumed = found.kept.is_some();
    let joined = Joined {
        you: participant(found.you),
        room: grant.room.clone(),
        locked: found.state.locked,
        spotlight: found.state.spotlight,
        ice_servers: desk.state.ice_servers.of(seat.participant, SystemTime::now()),
        heartbeat_ms: desk.state.config.ping_interval_ms,
        resume_token: ticket.number(),
        resume_within_ms: u64::try_from(desk.cloakroom.keep_for().as_millis()).unwrap_or(u64::MAX),
        participants: found.participants.into_iter().map(participant).collect(),
        producers: found.producers.into_iter().map(producer).collect(),
        kept: found.kept.map(kept),
    };
    (joined, Arrival { seat, events, grant, ticket, resumed })
}

async fn ask_room(seat: &Seat, ask: Ask) -> Result<Answer, RoomError> {
    match ask {
        Ask::Connect(Connect::Send { sdp: offer }) => {
            tracing::trace!(participant = %seat.participant, %offer, "offer of the send transport");
            let sdp = seat.ask(|participant, reply| Request::Publish { participant, offer, reply }).await?;
            Ok(Answer::Connected { sdp })
        }
        Ask::Connect(Connect::Recv { offer_id, sdp: answer }) => {
            tracing::trace!(participant = %seat.participant, %answer, "answer of the recv transport");
            seat.ask(|participant, reply| Request::Answer { participant, offer_id, answer, reply }).await?;
            Ok(Answer::Done {})
        }
        Ask::Candidate { transport, candidate } => {
            // Browsers give the attribute with its name, and an empty one when there are no more (RFC 8838 section 14).
            let candidate = candidate.strip_prefix("candidate:").unwrap_or(&candidate).to_owned();
            let transport = side(transport);
            if !candidate.is_empty() {
                seat.ask(|participant, reply| Request::Candidate { participant, transport, candidate, reply }).await?;
            }
            Ok(Answer::Done {})
        }
        Ask::RestartIce {} => {
            seat.ask(|participant, reply| Request::RestartIce { participant, reply }).await?;
            Ok(Answer::Done {})
        }
        Ask::Produce { mid, source } => {
            let source = match source {
                Source::Microphone => TrackSource::Microphone,
                Source::Camera => TrackSource::Camera,
                Source::Screen => TrackSource::Screen,
                Source::Programme => TrackSource::Programme,
            };
            let producer_id =
                seat.ask(|participant, reply| Request::Produce { participant, mid, source, reply }).await?;
            Ok(Answer::Produced { producer_id })
        }
        Ask::Consume { producer_id: producer } => {
            let consumed =
                seat.ask_patiently(|participant, reply| Request::Consume { participant, producer, reply }).await?;
            Ok(Answer::Consumed { consumer: consumer(consumed) })
        }
        Ask::Pause(track) => change_track(seat, track, Change::Pause).await,
        Ask::Resume(track) => change_track(seat, track, Change::Resume).await,
        Ask::Close(track) => change_track(seat, track, Change::Close).await,
        Ask::Priority { consumer_id: consumer, priority } => {
            let ask = |participant, reply| Request::Prioritise { participant, consumer, priority, reply };
            seat.ask(ask).await?;
            Ok(Answer::Done {})
        }
        Ask::Kick { participant_id } => order(seat, Order::Kick(participant_id)).await,
        Ask::Ban { participant_id } => order(seat, Order::Ban(participant_id)).await,
        Ask::Mute { participant_id: participant, kind, muted } => {
            order(seat, Order::Mute { participant, kind, muted }).await
        }
        Ask::Isolate { participant_id: participant, isolated } => {
            order(seat, Order::Isolate { participant, isolated }).await
        }
        Ask::Spotlight { participant_id } => order(seat, Order::Spotlight(participant_id)).await,
        Ask::Lock { locked } => order(seat, Order::Lock(locked)).await,
        Ask::TransferHost { participant_id } => order(seat, Order::TransferHost(participant_id)).await,
        Ask::SetTile { consumer_id: consumer, width, height } => {
            let tile = Size { width, height };
            seat.ask(|participant, reply| Request::SetTile { participant, consumer, tile, reply }).await?;
            Ok(Answer::Done {})
        }
        Ask::Stats { jitter_buffers } => {
            let buffer = |told: JitterBuffer| (told.consumer_id, Duration::from_millis(told.delay_ms.into()));
            let reported = jitter_buffers.into_iter().map(buffer).collect();
            seat.ask(|participant, reply| Request::JitterBuffers { participant, reported, reply }).await?;
            Ok(Answer::Done {})
        }
        // The conversation answers these itself.
        Ask::Join { .. } | Ask::Leave {} | Ask::Ping {} => Ok(Answer::Done {}),
    }
}

async fn order(seat: &Seat, order: Order) -> Result<Answer, RoomError> {
    seat.ask(|participant, reply| Request::Order { by: Some(participant), order, reply }).await?;
    Ok(Answer::Done {})
}

async fn change_track(seat: &Seat, track: TrackRef, change: Change) -> Result<Answer, RoomError> {
    match track {
        TrackRef::Producer(producer) => {
            seat.ask(|participant, reply| Request::SetProducer { participant, producer, change, reply }).await?;
        }
        TrackRef::Consumer(consumer) => {
            seat.ask(|participant, reply| Request::SetConsumer { participant, consumer, change, reply }).await?;
        }
    }
    Ok(Answer::Done {})
}

/// What the participant is told of a room's event.
pub(super) fn told(event: Event) -> Push {
    match event {
        Event::ParticipantJoined(info) => Push::ParticipantJoined { participant: participant(info) },
        Event::ParticipantLeft(participant_id) => Push::ParticipantLeft { participant_id },
        Event::ParticipantUpdated(info) => Push::ParticipantUpdated { participant: participant(info) },
        Event::RoomUpdated(state) => Push::RoomUpdated { locked: state.locked, spotlight: state.spotlight },
        Event::Levels(levels) => Push::Levels { levels: levels.iter().map(level).collect() },
        Event::Delays(paths) => Push::Delays { paths: paths.iter().map(path).collect() },
        Event::ProducerAdded(info) => Push::ProducerAdded { producer: producer(info) },
        Event::ProducerRemoved(producer_id) => Push::ProducerRemoved { producer_id },
        Event::ProducerPaused(producer_id) => Push::ProducerPaused { producer_id },
        Event::ProducerResumed(producer_id) => Push::ProducerResumed { producer_id },
        Event::ConsumerClosed(consumer_id) => Push::ConsumerClosed { consumer_id },
        Event::Offer { offer_id, sdp } => Push::Offer { offer_id, sdp },
        Event::TransportConnected(side) => Push::TransportConnected { transport: transport(side) },
        Event::TransportFailed(side) => Push::TransportFailed { transport: transport(side) },
        Event::Removed { reason } => Push::Removed { reason: reason.to_owned() },
    }
}

const fn side(transport: Transport) -> rooms::Transport {
    match transport {
        Transport::Send => rooms::Transport::Send,
        Transport::Recv => rooms::Transport::Recv,
    }
}

const fn transport(side: rooms::Transport) -> Transport {
    match side {
        rooms::Transport::Send => Transport::Send,
        rooms::Transport::Recv => Transport::Recv,
    }
}

fn participant(info: ParticipantInfo) -> Participant {
    Participant {
        id: info.id,
        name: info.name,
        role: info.role,
        audio_muted: info.audio_muted,
        video_muted: info.video_muted,
        isolated: info.isolated,
    }
}

const fn source(source: TrackSource) -> Source {
    match source {
        TrackSource::Microphone => Source::Microphone,
        TrackSource::Camera => Source::Camera,
        TrackSource::Screen => Source::Screen,
        TrackSource::Programme => Source::Programme,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "like its siblings, so that all can be mapped over a list")]
const fn producer(info: ProducerInfo) -> Producer {
    Producer {
        id: info.id,
        participant: info.participant,
        kind: info.kind,
        source: source(info.source),
        paused: info.paused,
    }
}

const fn level(level: &ProducerLevel) -> Level {
    Level { producer_id: level.producer, level: level.level }
}

fn path(path: &rooms::Path) -> Path {
    let in_ms = |time: Duration| u16::try_from(time.as_millis()).unwrap_or(u16::MAX);
    let grade = match path.grade {
        rooms::Grade::Green => Grade::Green,
        rooms::Grade::Yellow => Grade::Yellow,
        rooms::Grade::Red => Grade::Red,
    };
    Path { from: path.from, to: path.to, delay_ms: in_ms(path.delay), buffer_ms: path.buffer.map(in_ms), grade }
}

fn kept(kept: rooms::Kept) -> Kept {
    Kept {
        send: kept.send,
        recv: kept.recv,
        producers: kept.producers.into_iter().map(producer).collect(),
        consumers: kept.consumers.into_iter().map(consumer).collect(),
    }
}

fn consumer(info: ConsumerInfo) -> Consumer {
    Consumer { id: info.id, producer: info.producer, kind: info.kind, mid: info.mid }
}
