//! A gateway with a fake room: real HTTP and WebSockets in front, a task that answers commands and remembers them behind.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use axum::Router;
use jamcast::live::port::Identity;
use jamcast::live::port::TokenError;
use jamcast::live::rooms::Command;
use jamcast::live::rooms::ConsumerInfo;
use jamcast::live::rooms::Event;
use jamcast::live::rooms::Joined;
use jamcast::live::rooms::Kept;
use jamcast::live::rooms::Newcomer;
use jamcast::live::rooms::ParticipantInfo;
use jamcast::live::rooms::Request;
use jamcast::live::rooms::RoomError;
use jamcast::live::rooms::RoomState;
use jamcast::live::rooms::Rooms;
use jamcast::model::id::ConsumerId;
use jamcast::model::id::ParticipantId;
use jamcast::model::id::ProducerId;
use jamcast::model::id::UserId;
use jamcast::model::media::MediaKind;
use jamcast::model::role::ApiRole;
use jamcast::model::role::Principal;
use jamcast::model::role::RoomGrant;
use jamcast::model::role::RoomRole;
use jamcast::proto::signal::Hidden;
use jamcast::proto::signal::IceServer;
use jamcast::web::ice;
use jamcast::web::ice::IceServers;
use jamcast::web::whip;
use jamcast::web::ws;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub(super) const ANSWER: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n\
    a=mid:0\r\na=ice-ufrag:srvA\r\na=ice-pwd:0b66f472495ef0ccac7bda65\r\n\
    a=candidate:1 1 udp 2130706431 198.51.100.1 39132 typ host\r\na=end-of-candidates\r\n";

/// Tokens of the form `role.room.user`, whatever follows; and some that are wrong.
struct FakeIdentity;

impl Identity for FakeIdentity {
    fn principal(&self, _token: &str) -> Result<Principal, TokenError> {
        Err(TokenError::WrongAudience)
    }

    fn room_grant(&self, token: &str) -> Result<RoomGrant, TokenError> {
        match token {
            "expired" => return Err(TokenError::Expired),
            "api" => return Err(TokenError::WrongAudience),
            _ => {}
        }
        let mut parts = token.split('.');
        let role = match parts.next() {
            Some("viewer") => RoomRole::Viewer,
            Some("musician") => RoomRole::Musician,
            Some("host") => RoomRole::Host,
            Some("admin") => RoomRole::Admin,
            _ => return Err(TokenError::Invalid),
        };
        let room = parts.next().and_then(|room| room.parse().ok()).ok_or(TokenError::Invalid)?;
        let user: UserId = parts.next().and_then(|user| user.parse().ok()).ok_or(TokenError::Invalid)?;
        Ok(RoomGrant { room, name: user.to_string(), user, role })
    }

    fn mint_api(&self, _user: &UserId, _role: ApiRole, _ttl_s: u64) -> String {
        String::new()
    }

    fn mint_room(&self, _grant: &RoomGrant, _ttl_s: u64) -> String {
        String::new()
    }
}

/// What the fake room has heard, in order, and how to speak to its participants.
#[derive(Clone, Default)]
pub(super) struct Heard {
    requests: Arc<Mutex<Vec<String>>>,
    names: Arc<Mutex<HashMap<ParticipantId, String>>>,
    events: Arc<Mutex<HashMap<ParticipantId, mpsc::Sender<Event>>>>,
}

impl Heard {
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    fn note(&self, request: impl Into<String>) {
        self.requests.lock().unwrap().push(request.into());
    }

    /// Tells every participant; as a room does, it waits for nobody who has no room for it or is leaving.
    pub(super) fn tell(&self, event: &Event) {
        for sender in self.events.lock().unwrap().values() {
            let _not_waited_for = sender.try_send(event.clone());
        }
    }

    /// Waits for a request, 5 s at most.
    pub(super) async fn wait_for(&self, request: &str) {
        for _ in 0..500 {
            if self.requests().iter().any(|heard| heard == request) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no {request} but {:?}", self.requests());
    }
}

pub(super) struct Gateway {
    pub(super) address: SocketAddr,
    pub(super) heard: Heard,
    pub(super) shutdown: CancellationToken,
    tasks: [tokio::task::JoinHandle<()>; 2],
}

/// A place is kept for a tenth of a second only, so that tests see who is gone go.
pub(super) fn impatient() -> ws::Config {
    ws::Config { resume_within_ms: 100, ..ws::Config::default() }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Gateway {
    pub(super) async fn start() -> Self {
        Self::start_with(impatient(), whip::Config::default()).await
    }

    pub(super) async fn start_with(ws_config: ws::Config, whip_config: whip::Config) -> Self {
        let (commands, queue) = mpsc::channel(64);
        let heard = Heard::default();
        let room = tokio::spawn(be_a_room(queue, heard.clone()));
        let rooms = Rooms::new(vec![commands]);
        let identity: Arc<dyn Identity> = Arc::new(FakeIdentity);
        let shutdown = CancellationToken::new();
        let turn = |urls: &str, fixed: Option<(&str, &str)>| IceServer {
            urls: vec![urls.into()],
            username: fixed.map(|(name, _)| name.into()),
            credential: fixed.map(|(_, password)| Hidden::new(password.into())),
        };
        let servers = [
            turn("turn:turn.example.org:3478?transport=udp", Some(("ada", "open \"sesame\""))),
            turn("turn:relay.example.org", None),
        ];
        let shared = ice::Config { secret: Some("turn-canary".into()), ..ice::Config::default() };
        let ice_servers = IceServers::new(&servers, &shared);
        let signalling = ws::State {
            rooms: rooms.clone(),
            identity: Arc::clone(&identity),
            config: Arc::new(ws_config),
            ice_servers: ice_servers.clone(),
            shutdown: shutdown.clone(),
        };
        let whips =
            whip::State { rooms, identity, config: Arc::new(whip_config), ice_servers, shutdown: shutdown.clone() };
        let router = Router::new().merge(ws::routes(signalling)).merge(whip::routes(whips));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let server = tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
        Self { address, heard, shutdown, tasks: [room, server] }
    }
}

async fn be_a_room(mut queue: mpsc::Receiver<Command>, heard: Heard) {
    while let Some(Command { request, .. }) = queue.recv().await {
        match request {
            Request::Join { newcomer, events, reply } => {
                heard.note(format!("join {} {:?}", newcomer.name, newcomer.role));
                let _ = reply.send(admitted(newcomer, events, &heard));
            }
            Request::Rejoin { participant, events, reply } => {
                heard.note("rejoin");
                let name = heard.names.lock().unwrap().get(&participant).cloned();
                let _ = reply.send(name.ok_or(RoomError::NotJoined).map(|name| {
                    heard.events.lock().unwrap().insert(participant, events);
                    let kept = Kept { send: true, ..Kept::default() };
                    found(ParticipantInfo::new(participant, name, RoomRole::Host), Some(kept))
                }));
            }
            Request::Leave { participant } => {
                // The sender of its events goes with the participant; leaving without having joined is no news.
                if heard.events.lock().unwrap().remove(&participant).is_some() {
                    heard.note("leave");
                }
            }
            Request::Publish { offer, reply, .. } => {
                heard.note("publish");
                let _ = reply.send(answer_to(&offer));
            }
            Request::Subscribe { offer, reply, .. } => {
                heard.note("subscribe");
                let _ = reply.send(answer_to(&offer));
            }
            Request::Answer { offer_id, reply, .. } => {
                heard.note(format!("answer {offer_id}"));
                let _ = reply.send(if offer_id == 1 { Ok(()) } else { Err(RoomError::UnexpectedAnswer) });
            }
            Request::Candidate { transport, candidate, reply, .. } => {
                heard.note(format!("candidate {transport:?} {candidate}"));
                let bad = candidate.starts_with("bad");
                let _ = reply.send(if bad { Err(RoomError::Candidate("bad".into())) } else { Ok(()) });
            }
            Request::RestartIce { reply, .. } => {
                heard.note("restart_ice");
                let _ = reply.send(Ok(()));
            }
            Request::Produce { mid, source, reply, .. } => {
                heard.note(format!("produce {mid} {source:?}"));
                let unknown = mid == "9";
                let _ = reply.send(if unknown { Err(RoomError::UnknownMid(mid)) } else { Ok(ProducerId::generate()) });
            }
            Request::SetProducer { change, reply, .. } => {
                heard.note(format!("producer {change:?}"));
                let _ = reply.send(Ok(()));
            }
            Request::Consume { producer, reply, .. } => {
                heard.note("consume");
                let id = ConsumerId::generate();
                let _ = reply.send(Ok(ConsumerInfo { id, producer, kind: MediaKind::Audio, mid: "0".into() }));
            }
            Request::SetConsumer { change, reply, .. } => {
                heard.note(format!("consumer {change:?}"));
                let _ = reply.send(Ok(()));
            }
            Request::Prioritise { priority, reply, .. } => {
                heard.note(format!("priority {priority}"));
                let _ = reply.send(Ok(()));
            }
            Request::Order { order, reply, .. } => {
                heard.note(format!("{order:?}").split([' ', '(']).next().unwrap_or_default());
                let _ = reply.send(Ok(()));
            }
            Request::SetTile { tile, reply, .. } => {
                heard.note(format!("tile {}x{}", tile.width, tile.height));
                let _ = reply.send(Ok(()));
            }
            Request::JitterBuffers { reported, reply, .. } => {
                heard.note(format!("jitter buffers {:?}", reported.iter().map(|(_, delay)| delay).collect::<Vec<_>>()));
                let _ = reply.send(Ok(()));
            }
            Request::Tap { .. }
            | Request::Delays { .. }
            | Request::Lateness { .. }
            | Request::Keyframe { .. }
            | Request::SetTapTile { .. }
            | Request::Screen { .. }
            | Request::EndScreening => heard.note("not for signalling"),
        }
    }
}

/// Everybody but who is called *late* finds an empty room.
fn admitted(newcomer: Newcomer, events: mpsc::Sender<Event>, heard: &Heard) -> Result<Joined, RoomError> {
    if newcomer.name == "late" {
        return Err(RoomError::RoomFull(2));
    }
    heard.events.lock().unwrap().insert(newcomer.participant, events);
    heard.names.lock().unwrap().insert(newcomer.participant, newcomer.name.clone());
    Ok(found(ParticipantInfo::new(newcomer.participant, newcomer.name, newcomer.role), None))
}

fn found(you: ParticipantInfo, kept: Option<Kept>) -> Joined {
    Joined { you, participants: vec![], producers: vec![], state: RoomState::default(), kept }
}

fn answer_to(offer: &str) -> Result<String, RoomError> {
    if offer.contains("no-codec") { Err(RoomError::NoCommonCodec) } else { Ok(ANSWER.to_owned()) }
}
