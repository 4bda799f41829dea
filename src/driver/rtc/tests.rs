//! The settings; and a worker's rooms with real peers on a wire in memory, in virtual time.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use bytes::BytesMut;
use rtc::rtp::codec::h264::H264Packet;
use rtc::rtp::packetizer::Depacketizer;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::domain::room::delay::Leg;
use crate::driver::rtc::Config;
use crate::driver::rtc::Error;
use crate::driver::rtc::demux::Demux;
use crate::driver::rtc::engine::Candidates;
use crate::driver::rtc::engine::Engine;
use crate::driver::rtc::host::Host;
use crate::driver::rtc::media::Media;
use crate::driver::rtc::path::Remote;
use crate::driver::rtc::peer::Heard;
use crate::driver::rtc::peer::Peer;
use crate::driver::rtc::tcp::streams::Streams;
use crate::driver::rtc::worker::Worker;
use crate::live::rooms::Change;
use crate::live::rooms::Command;
use crate::live::rooms::Event;
use crate::live::rooms::Joined;
use crate::live::rooms::Newcomer;
use crate::live::rooms::ProgrammeFrame;
use crate::live::rooms::Reply;
use crate::live::rooms::Request;
use crate::live::rooms::RoomError;
use crate::live::rooms::Rooms;
use crate::live::rooms::TrackSource;
use crate::live::rooms::Transport;
use crate::model::id::ConsumerId;
use crate::model::id::ParticipantId;
use crate::model::id::ProducerId;
use crate::model::id::RoomId;
use crate::model::media::Codec;
use crate::model::media::EncodedFrame;
use crate::model::media::MediaKind;
use crate::model::media::OpusPacket;
use crate::model::role::RoomRole;

const STEP: Duration = Duration::from_millis(20);

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

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_network_that_comes_back_in_time_is_forgiven() {
    let mut stage = Stage::new();
    let anna = stage.enter("jam");
    stage.publish(anna, false);
    stage.run(SECOND);
    assert_eq!(stage.told(anna), [Event::TransportConnected(Transport::Send)]);
    for _ in 0..3 {
        stage.silent = true;
        stage.run(12 * SECOND);
        stage.silent = false;
        stage.run(10 * SECOND);
    }
    stage.run(60 * SECOND);
    let told = [Event::TransportFailed(Transport::Send), Event::TransportConnected(Transport::Send)];
    assert_eq!(
        stage.told(anna),
        [told.clone(), told.clone(), told].concat(),
        "each silence and each return is told; nobody is removed"
    );
    assert!(stage.is_connected(anna));
    assert_eq!(stage.host.participants(), 1);
}

#[test]
fn the_delay_table_is_fed_by_the_checks_of_connected_peers_and_told_to_everybody() {
    let mut stage = Stage::new();
    let (anna, ben) = (stage.enter("jam"), stage.enter("jam"));
    for client in [anna, ben] {
        stage.publish(client, false);
        let Client { participant, room, .. } = &stage.clients[client];
        let (participant, room, mid, source) = (*participant, room.clone(), "0".to_owned(), TrackSource::Microphone);
        let produced = stage.ask(&room, |reply| Request::Produce { participant, mid, source, reply });
        produced.expect("answered at once").expect("an m-line of sound");
    }
    let [from, to] = [anna, ben].map(|client| stage.clients[client].participant);
    let room = stage.clients[anna].room.clone();
    // Nobody receives here; and what comes to the worker within a step is answered with the next one.
    let key = stage.host.key_of(&room).expect("it is open");
    stage.host.room(key).note_round_trip(to, Leg::Recv, 3 * STEP);
    stage.run(5 * SECOND);
    let tables = |events: Vec<Event>| -> Vec<_> {
        events
            .into_iter()
            .filter_map(|event| if let Event::Delays(paths) = event { Some(paths) } else { None })
            .collect()
    };
    let told = tables(stage.told(ben));
    // A worker ticks ten times a second, and this stage with every step: a table is due with every twentieth.
    assert!((5..=13).contains(&told.len()), "{told:?}");
    let last = told.last().expect("there is one");
    let [path] = &last[..] else { panic!("nobody else receives: {last:?}") };
    assert_eq!((path.from, path.to, path.delay, path.buffer), (from, to, STEP / 2 + 3 * STEP / 2, None));
    let table = stage.ask(&room, |reply| Request::Delays { reply }).expect("answered at once").expect("a table");
    assert_eq!((table.participants.len(), &table.for_all[..]), (2, &last[..]));

    // Who does not listen misses tables, and nothing else.
    stage.run(60 * SECOND);
    assert_eq!(stage.host.participants(), 2);
    let kept = stage.told(anna).len();
    assert!(kept <= 33, "{kept} of 64 places are full");
    assert!(!tables(stage.told(ben)).is_empty());
}

#[test]
fn udp_has_a_head_start_over_tcp() {
    let mut stage = Stage::new();
    stage.way = Remote::tcp;
    let anna = stage.enter("jam");
    stage.publish(anna, false);
    let a_while = Duration::from_millis(400);
    stage.run(a_while);
    assert_eq!(stage.sent_over_tcp, 0, "UDP may still come");
    stage.run(3 * SECOND);
    assert_eq!(stage.told(anna), [Event::TransportConnected(Transport::Send)], "it did not");
    assert!(stage.sent_over_tcp > 0);
    stage.sent_over_tcp = 0;
    stage.publish(anna, true);
    stage.run(a_while);
    assert_eq!(stage.sent_over_tcp, 0, "every restart is a new chance");
    stage.run(3 * SECOND);
    assert!(stage.is_connected(anna) && stage.sent_over_tcp > 0);
}

#[test]
fn a_silent_participant_fails_and_is_let_go_after_its_grace() {
    let mut stage = Stage::new();
    let anna = stage.enter("jam");
    let ben = stage.enter("jam");
    for client in [anna, ben] {
        stage.publish(client, false);
    }
    stage.run(SECOND);
    stage.told(anna);
    stage.clients[ben].address.set_port(9);
    stage.told(ben);
    stage.run(5 * SECOND);
    assert_eq!(stage.told(ben), [], "a few lost checks are nothing");
    stage.run(3 * SECOND);
    assert_eq!(stage.told(ben), [Event::TransportFailed(Transport::Send)], "time for a restart");
    stage.run(9 * SECOND);
    assert_eq!(stage.told(ben), [Event::TransportFailed(Transport::Send)], "ICE gave up");
    stage.run(27 * SECOND);
    assert_eq!(stage.host.participants(), 2, "there is a grace time of half a minute");
    stage.run(4 * SECOND);
    assert_eq!(stage.host.participants(), 1);
    assert!(matches!(stage.told(ben)[..], [Event::Removed { .. }]));
    let ben = stage.clients[ben].participant;
    assert!(stage.told(anna).contains(&Event::ParticipantLeft(ben)));
    assert!(stage.is_connected(anna), "nobody else is touched");
}

#[test]
fn a_failed_transport_comes_back_by_an_ice_restart() {
    let mut stage = Stage::new();
    let anna = stage.enter("jam");
    stage.publish(anna, false);
    stage.run(SECOND);
    stage.silent = true;
    stage.run(30 * SECOND);
    assert_eq!(
        stage.told(anna),
        [
            Event::TransportConnected(Transport::Send),
            Event::TransportFailed(Transport::Send),
            Event::TransportFailed(Transport::Send),
        ]
    );
    stage.silent = false;
    stage.publish(anna, true);
    stage.run(2 * SECOND);
    assert_eq!(stage.told(anna), [Event::TransportConnected(Transport::Send)]);
    stage.run(60 * SECOND);
    assert_eq!(stage.told(anna), []);
    assert_eq!(stage.host.participants(), 1);
}

#[test]
fn who_sends_without_trouble_loses_only_the_transport_that_did_not_connect() {
    let mut stage = Stage::new();
    let anna = stage.enter("jam");
    let ben = stage.enter("jam");
    for client in [anna, ben] {
        stage.publish(client, false);
    }
    stage.run(SECOND);
    let (room, participant) = (stage.clients[anna].room.clone(), stage.clients[anna].participant);
    let produce = |reply| Request::Produce { participant, mid: "0".to_owned(), source: TrackSource::Microphone, reply };
    let producer: ProducerId = stage.ask(&room, produce).expect("answered").expect("a producer");
    stage.told(ben);
    // He asks, is offered a transport and never answers.
    let participant = stage.clients[ben].participant;
    stage.ask(&room, |reply| Request::Consume { participant, producer, reply }).expect("answered").expect("offered");
    stage.run(40 * SECOND);
    assert_eq!(stage.host.participants(), 2);
    assert_eq!(stage.host.lines.len(), 2, "the one he did not want is closed");
    assert!(stage.is_connected(ben));
    assert!(stage.told(ben).contains(&Event::TransportFailed(Transport::Recv)));
    let again = stage.ask(&room, |reply| Request::Consume { participant, producer, reply });
    assert!(again.expect("answered").is_ok(), "he may change his mind");
}

/// Of x264 at 1280x720: the configuration, and where in it the parameter sets are.
const AVC: &[u8] = b"\x01\x64\0\x1f\xff\xe1\0\x1d\x67\x64\0\x1f\xac\xb4\x02\x80\x2d\xd8\x0b\x50\x10\x10\x14\0\0\x03\0\x04\0\0\x03\0\xf2\x3c\x60\xca\x80\x01\0\x04\x68\xef\x3c\xb0";

/// Picture `n` of a programme with one each step and a keyframe each ten, and what a decoder is to get of it.
fn picture(n: u64) -> (ProgrammeFrame, Vec<u8>) {
    let key = n.is_multiple_of(10);
    let (kind_of_unit, length) = if key { (0x65, 9_000) } else { (0x41, 700) };
    let unit: Vec<u8> = std::iter::once(kind_of_unit).chain((1..length).map(|i| (i * 7 + n) as u8 | 1)).collect();
    let pts_us = n * 20_000;
    let data = Bytes::from([&(unit.len() as u32).to_be_bytes(), &unit[..]].concat());
    let frame = EncodedFrame { kind: MediaKind::Video, pts_us, dts_us: pts_us, key, data };
    let sets: &[&[u8]] = if key { &[&AVC[8..37], &AVC[40..]] } else { &[] };
    let units = sets.iter().copied().chain([&unit[..]]);
    let decoded = units.flat_map(|unit| [&[0, 0, 0, 1], unit].concat()).collect();
    (ProgrammeFrame::Picture { frame, avc: Bytes::from_static(AVC) }, decoded)
}

#[test]
fn a_host_watches_the_programme_picture_by_picture_and_within_a_second() {
    let mut stage = Stage::new();
    let (anna, ben) = (stage.enter_as("jam", RoomRole::Host), stage.enter("jam"));
    stage.publish(anna, false);
    stage.run(SECOND);
    stage.told(anna);
    stage.told(ben);
    stage.tell("jam", Request::Screen { frame: picture(0).0 });
    let told = stage.told(anna);
    let [Event::ProducerAdded(programme), Event::ProducerAdded(_)] = &told[..] else { panic!("{told:?}") };
    assert_eq!(programme.source, TrackSource::Programme);
    let viewer = stage.consume(anna, programme.id);
    let mut shown = None;
    for n in 1..100 {
        stage.tell("jam", Request::Screen { frame: picture(n).0 });
        stage.run(STEP);
        let is_there = stage.clients[viewer].heard.iter().any(|heard| matches!(heard, Heard::Media(_)));
        shown = shown.or(is_there.then_some(n));
    }
    stage.run(STEP);
    let shown = shown.expect("a picture");
    assert!(shown < 50, "{shown} pictures of 20 ms passed before the first");
    // It begins with a keyframe, and from there on every picture comes whole, in order and with its time.
    let (mut depacketiser, mut pictures, mut decoded) = (H264Packet::default(), Vec::new(), Vec::new());
    for heard in &stage.clients[viewer].heard {
        let Heard::Media(media) = heard else { continue };
        decoded.extend(depacketiser.depacketize(media.payload()).expect("H.264"));
        if media.marker() {
            pictures.push((media.timestamp(), std::mem::take(&mut decoded)));
        }
    }
    let first = (0..100).find(|n| picture(*n).1 == pictures[0].1).expect("one of them");
    assert!(first.is_multiple_of(10) && first <= shown, "{first} was the first");
    let expected: Vec<Vec<u8>> = (first..100).map(|n| picture(n).1).collect();
    assert_eq!(
        pictures.iter().map(|(_, picture)| picture.len()).collect::<Vec<_>>(),
        expected.iter().map(Vec::len).collect::<Vec<_>>()
    );
    assert!(pictures.iter().map(|(_, picture)| picture).eq(&expected));
    assert!(pictures.windows(2).all(|pair| pair[1].0.wrapping_sub(pair[0].0) == 1800), "20 ms of 90 kHz");
    assert_eq!(stage.told(ben), [], "a musician hears nothing of it");

    stage.tell("jam", Request::EndScreening);
    let told = stage.told(anna);
    assert!(told.contains(&Event::ProducerRemoved(programme.id)), "{told:?}");
}

/// Packet `n` of a programme's sound.
fn opus(n: u64) -> OpusPacket {
    OpusPacket { pts_us: 1_000_000 + n * 20_000, data: Bytes::copy_from_slice(&[0xfc, n as u8, 7, 7]) }
}

#[test]
fn the_programmes_sound_is_asked_for_and_comes_packet_by_packet_in_the_stream_of_its_picture() {
    let mut stage = Stage::new();
    let anna = stage.enter_as("jam", RoomRole::Host);
    stage.publish(anna, false);
    stage.run(SECOND);
    let room = stage.clients[anna].room.clone();
    let tap = stage.ask(&room, |reply| Request::Tap { reply }).expect("in").expect("a tap");
    stage.told(anna);
    stage.tell("jam", Request::Screen { frame: picture(0).0 });
    let told = stage.told(anna);
    let [Event::ProducerAdded(picture), Event::ProducerAdded(sound)] = &told[..] else { panic!("{told:?}") };
    assert_eq!((picture.kind, sound.kind), (MediaKind::Video, MediaKind::Audio));
    let viewer = stage.consume(anna, picture.id);
    stage.run(SECOND);
    assert!(!tap.roster.borrow().previewed);
    let (_, offer) = stage.consume_with(anna, viewer, sound.id);
    assert_eq!(offer.matches("a=msid:programme ").count(), 2, "{offer}");
    stage.run(SECOND);
    assert!(tap.roster.borrow().previewed, "now it has to be made");
    for n in 0..50 {
        stage.tell("jam", Request::Screen { frame: ProgrammeFrame::Sound(opus(n)) });
        stage.run(STEP);
    }
    stage.run(STEP);
    let heard: Vec<_> = stage.clients[viewer]
        .heard
        .iter()
        .filter_map(|heard| if let Heard::Media(media) = heard { Some(media) } else { None })
        .collect();
    let expected: Vec<_> = (0..50).map(|n| opus(n).data).collect();
    assert_eq!(heard.iter().map(|media| media.payload().clone()).collect::<Vec<_>>(), expected);
    let steps = |pair: &[&Media]| {
        (pair[1].seq().wrapping_sub(pair[0].seq()), pair[1].timestamp().wrapping_sub(pair[0].timestamp()))
    };
    assert!(heard.windows(2).all(|pair| steps(pair) == (1, 960)), "20 ms of 48 kHz each");
}

#[test]
fn a_lane_of_a_musician_is_never_one_of_the_programme() {
    let mut stage = Stage::new();
    let (anna, ben) = (stage.enter_as("jam", RoomRole::Host), stage.enter("jam"));
    for client in [anna, ben] {
        stage.publish(client, false);
    }
    stage.run(SECOND);
    let Client { room, participant: host, .. } = &stage.clients[anna];
    let (room, host, musician) = (room.clone(), *host, stage.clients[ben].participant);
    let produce =
        |reply| Request::Produce { participant: musician, mid: "0".to_owned(), source: TrackSource::Microphone, reply };
    let voice = stage.ask(&room, produce).expect("answered").expect("a producer");
    stage.told(anna);
    stage.tell("jam", Request::Screen { frame: picture(0).0 });
    let told = stage.told(anna);
    let [Event::ProducerAdded(_), Event::ProducerAdded(sound)] = &told[..] else { panic!("{told:?}") };
    let sound = sound.id;
    let receiver = stage.consume(anna, voice);
    stage.run(SECOND);
    let (participant, lines) = (host, |offer: &str| offer.matches("m=audio").count());
    for (producer, audio_lines, streams) in [(voice, 2, 0), (sound, 3, 1), (voice, 3, 1), (sound, 3, 1)] {
        let (consumer, offer) = stage.consume_with(anna, receiver, producer);
        let of_programme = offer.matches("a=msid:programme ").count();
        assert_eq!((lines(&offer), of_programme), (audio_lines, streams), "{offer}");
        let close = |reply| Request::SetConsumer { participant, consumer, change: Change::Close, reply };
        stage.ask(&room, close).expect("answered").expect("it was there");
        stage.accept_offer(anna, receiver);
        stage.run(STEP);
    }
}

#[test]
fn a_panic_costs_the_room_it_happens_in() {
    let mut stage = Stage::new();
    let (anna, ben, carla) = (stage.enter("cursed"), stage.enter("cursed"), stage.enter("blessed"));
    for client in [anna, ben, carla] {
        stage.publish(client, false);
    }
    stage.run(SECOND);
    let cursed = *stage.host.rooms.iter().find(|(_, hosted)| hosted.name.as_str() == "cursed").expect("open").0;
    let mut tap =
        stage.ask(&"cursed".parse().expect("a slug"), |reply| Request::Tap { reply }).expect("in").expect("a tap");
    for client in [anna, ben, carla] {
        stage.told(client);
    }
    stage.host.work.cursed = Some(cursed);
    stage.run(60 * SECOND);
    for client in [anna, ben] {
        assert!(matches!(stage.told(client)[..], [Event::Removed { .. }]));
    }
    assert_eq!(stage.host.counters.panics, 1);
    assert_eq!(stage.told(carla), []);
    assert!(stage.is_connected(carla), "her timers and her traffic go on");
    assert_eq!((stage.host.rooms.len(), stage.host.lines.len()), (1, 1));
    assert!(matches!(tap.media.try_recv(), Err(mpsc::error::TryRecvError::Disconnected)), "the mixer asks anew");
    let again = stage.enter("cursed");
    stage.publish(again, false);
    stage.run(SECOND);
    assert!(stage.is_connected(again), "the room can be opened again");
}

#[test]
#[should_panic(expected = "for nobody")]
fn a_panic_that_belongs_to_no_room_ends_the_worker() {
    let mut stage = Stage::new();
    stage.enter("jam");
    stage.host.contained(stage.now, |_| panic!("for nobody"));
}

#[test]
fn a_worker_that_ended_is_seen_as_dead() {
    // Without a candidate, the first datagram has no address to belong to.
    let host = Host::new(
        Config::default(),
        Engine::new(Candidates::default(), false).expect("a certificate"),
        Demux::default(),
    );
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    socket.set_nonblocking(true).expect("a socket");
    let address = socket.local_addr().expect("bound");
    let (sender, commands) = mpsc::channel(1);
    let rooms = Rooms::new(vec![sender]);
    let streams = Streams::new(mpsc::channel(1).1);
    let work = async move || Worker::new(host, socket, streams, commands)?.run(CancellationToken::new()).await;
    let worker = super::spawn("media".to_owned(), work).expect("a thread");
    assert_eq!(rooms.dead_workers(), 0);
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    client.send_to(&[0; 20], address).expect("sent");
    worker.join().expect("its panic is reported, not passed on");
    assert_eq!(rooms.dead_workers(), 1);
}

#[test]
fn workers_take_the_ports_from_the_first_on() {
    let loopback = Config { bind: Ipv4Addr::LOCALHOST.into(), ..Config::default() };
    let shutdown = CancellationToken::new();
    // Another test may take one of the three in the meantime.
    let started = (0..20).find_map(|_| {
        let first = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr()).expect("a port");
        let config = Config { udp_port: first.port(), workers: 3, ..loopback.clone() };
        super::start(&config, &shutdown).ok().map(|(_, workers)| (first.port(), workers))
    });
    let (first, workers) = started.expect("three free ports in a row");
    let ports: Vec<u16> = workers.addresses().iter().map(SocketAddr::port).collect();
    assert_eq!(ports, [first, first + 1, first + 2]);
    shutdown.cancel();
    workers.join();
    let config = Config { udp_port: 65_535, workers: 2, ..loopback };
    assert!(matches!(super::start(&config, &CancellationToken::new()), Err(Error::Ports(1) | Error::Bind { .. })));
}

#[test]
fn an_address_that_the_sockets_cannot_serve_is_not_announced() {
    let config = Config { announced_ips: vec![Ipv6Addr::LOCALHOST.into()], ..Config::default() };
    assert!(matches!(super::start(&config, &CancellationToken::new()), Err(Error::Family(_))));
}

#[test]
fn the_wildcard_is_never_announced() {
    let config = Config { announced_ips: vec![Ipv4Addr::UNSPECIFIED.into()], ..Config::default() };
    assert!(config.addresses().is_empty());
    assert!(Config::default().addresses().contains(&Ipv4Addr::LOCALHOST.into()));
    let bound = Config { bind: Ipv4Addr::LOCALHOST.into(), ..Config::default() };
    assert_eq!(bound.addresses(), [IpAddr::from(Ipv4Addr::LOCALHOST)]);
}
