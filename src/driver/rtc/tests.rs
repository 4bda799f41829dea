//! A worker's rooms with real peers on a wire in memory, in virtual time; and the settings.

mod containment;
mod delays;
mod presence;
mod programme;
mod settings;

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

use bytes::BytesMut;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use crate::driver::rtc::Config;
use crate::driver::rtc::demux::Demux;
use crate::driver::rtc::engine::Candidates;
use crate::driver::rtc::engine::Engine;
use crate::driver::rtc::host::Host;
use crate::driver::rtc::path::Remote;
use crate::driver::rtc::peer::Heard;
use crate::driver::rtc::peer::Peer;
use crate::live::rooms::Command;
use crate::live::rooms::Event;
use crate::live::rooms::Joined;
use crate::live::rooms::Newcomer;
use crate::live::rooms::Reply;
use crate::live::rooms::Request;
use crate::live::rooms::RoomError;
use crate::live::rooms::TrackSource;
use crate::live::rooms::Transport;
use crate::model::id::ConsumerId;
use crate::model::id::ParticipantId;
use crate::model::id::ProducerId;
use crate::model::id::RoomId;
use crate::model::media::Codec;
use crate::model::role::RoomRole;

const STEP: Duration = Duration::from_millis(20);
const SECOND: Duration = Duration::from_secs(1);

/// A worker without its thread and socket.
struct Stage {
    now: Instant,
    host: Host,
    clients: Vec<Client>,
    /// While it is set, no datagram arrives anywhere.
    silent: bool,
    /// How datagrams come to the worker.
    way: fn(SocketAddr) -> Remote,
    sent_over_tcp: usize,
}

/// A participant's browser: what it sends with, and what it was told.
struct Client {
    room: RoomId,
    participant: ParticipantId,
    address: SocketAddr,
    peer: Peer,
    events: mpsc::Receiver<Event>,
    heard: Vec<Heard>,
}

const GATEWAY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

fn engine(address: SocketAddr) -> Engine {
    Engine::new(Candidates { udp: vec![address], tcp: vec![address] }, false).expect("a certificate")
}

impl Stage {
    fn new() -> Self {
        let host = Host::new(Config::default(), engine(GATEWAY), Demux::default());
        Self { now: Instant::now(), host, clients: Vec::new(), silent: false, way: Remote::udp, sent_over_tcp: 0 }
    }

    /// A participant who sends sound, and is connected after a while; the number it has here.
    fn enter(&mut self, room: &str) -> usize {
        self.enter_as(room, RoomRole::Musician)
    }

    fn enter_as(&mut self, room: &str, role: RoomRole) -> usize {
        let room: RoomId = room.parse().expect("a slug");
        let participant = ParticipantId::generate();
        let newcomer = Newcomer { participant, user: "anna".parse().expect("a user"), name: "Anna".to_owned(), role };
        let (sender, events) = mpsc::channel(64);
        let joined: Result<Joined, _> =
            self.ask(&room, |reply| Request::Join { newcomer, events: sender, reply }).expect("answered at once");
        joined.expect("a seat");
        let port = u16::try_from(self.clients.len()).expect("few") + 1000;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut peer = Peer::new(self.now, &engine(address), Transport::Recv).expect("a peer");
        peer.open_lane(Codec::Opus, "stream").expect("a lane");
        self.clients.push(Client { room, participant, address, peer, events, heard: Vec::new() });
        self.clients.len() - 1
    }

    /// Has a client consume a producer on a second connection, which is a client of its own here.
    fn consume(&mut self, client: usize, producer: ProducerId) -> usize {
        let Client { participant, room, .. } = &self.clients[client];
        let (participant, room) = (*participant, room.clone());
        let address = SocketAddr::from(([127, 0, 0, 1], 2000 + u16::try_from(self.clients.len()).expect("few")));
        let peer = Peer::new(self.now, &engine(address), Transport::Send).expect("a peer");
        let (_, events) = mpsc::channel(1);
        self.clients.push(Client { room, participant, address, peer, events, heard: Vec::new() });
        let receiver = self.clients.len() - 1;
        self.consume_with(client, receiver, producer);
        receiver
    }

    /// Has a client consume a producer on the connection that it receives by; the consumer, and what it was offered.
    fn consume_with(&mut self, client: usize, receiver: usize, producer: ProducerId) -> (ConsumerId, String) {
        let Client { participant, room, .. } = &self.clients[client];
        let (participant, room) = (*participant, room.clone());
        let consumed = self.ask(&room, |reply| Request::Consume { participant, producer, reply });
        let consumer = consumed.expect("answered at once").expect("a consumer").id;
        (consumer, self.accept_offer(client, receiver))
    }

    /// Answers the newest offer.
    fn accept_offer(&mut self, client: usize, receiver: usize) -> String {
        let Client { participant, room, .. } = &self.clients[client];
        let (participant, room) = (*participant, room.clone());
        let mut told = self.told(client).into_iter();
        let offer = told
            .find_map(|event| if let Event::Offer { offer_id, sdp } = event { Some((offer_id, sdp)) } else { None });
        let (offer_id, offer) = offer.expect("an offer");
        let answer = self.clients[receiver].peer.answer(self.now, &offer, |_| None).expect("an answer");
        let taken = self.ask(&room, |reply| Request::Answer { participant, offer_id, answer, reply });
        taken.expect("answered at once").expect("acceptable");
        offer
    }

    fn tell(&mut self, room: &str, request: Request) {
        let (now, command) = (self.now, Command { room: room.parse().expect("a slug"), request });
        self.host.contained(now, |host| host.handle(now, command));
    }

    fn publish(&mut self, client: usize, restart_ice: bool) {
        let Client { peer, participant, room, .. } = &mut self.clients[client];
        let (participant, room) = (*participant, room.clone());
        let offer = peer.offer(self.now, restart_ice).expect("an offer");
        let answer = self.ask(&room, |reply| Request::Publish { participant, offer, reply });
        let answer = answer.expect("answered at once").expect("acceptable");
        self.clients[client].peer.accept(self.now, &answer).expect("acceptable");
    }

    /// What a published client sends becomes a microphone that others may hear.
    fn produce(&mut self, client: usize) -> ProducerId {
        let Client { participant, room, .. } = &self.clients[client];
        let (participant, room, mid, source) = (*participant, room.clone(), "0".to_owned(), TrackSource::Microphone);
        let produced = self.ask(&room, |reply| Request::Produce { participant, mid, source, reply });
        produced.expect("answered at once").expect("an m-line of sound")
    }

    fn ask<T>(&mut self, room: &RoomId, request: impl FnOnce(Reply<T>) -> Request) -> Option<Result<T, RoomError>> {
        let (reply, mut answer) = oneshot::channel();
        let (now, command) = (self.now, Command { room: room.clone(), request: request(reply) });
        self.host.contained(now, |host| host.handle(now, command));
        answer.try_recv().ok()
    }

    /// Lets time pass in the order of a worker's loop.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += STEP;
            let now = self.now;
            for client in &mut self.clients {
                if client.peer.poll_timeout().is_some_and(|at| at <= now) {
                    client.peer.handle_timeout(now);
                }
                client.peer.poll(now, &mut client.heard);
                while let Some((_, datagram)) = client.peer.poll_transmit() {
                    if !self.silent {
                        self.host
                            .contained(now, |host| host.receive(now, GATEWAY, (self.way)(client.address), &datagram));
                    }
                }
            }
            self.host.contained(now, |host| host.run_timers(now));
            self.host.contained(now, |host| host.tick(now));
            self.host.contained(now, |host| host.turn(now, |_| {}));
            let over_tcp = std::mem::take(&mut self.host.tcp_outbox);
            self.sent_over_tcp += over_tcp.len();
            for (to, datagram) in std::mem::take(&mut self.host.outbox).into_iter().chain(over_tcp) {
                if let Some(client) = self.clients.iter_mut().find(|c| c.address == to && !self.silent) {
                    client.peer.receive(now, to, Remote::udp(GATEWAY), BytesMut::from(&datagram[..]));
                }
            }
        }
    }

    fn told(&mut self, client: usize) -> Vec<Event> {
        std::iter::from_fn(|| self.clients[client].events.try_recv().ok()).collect()
    }

    fn is_connected(&self, client: usize) -> bool {
        self.clients[client].peer.is_connected()
    }
}
