//! The rooms of a worker in virtual time.

use std::io;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::sync::oneshot;

use crate::domain::room::producer::Encoding;
use crate::driver::rtc::Config;
use crate::driver::rtc::demux::Demux;
use crate::driver::rtc::engine::Candidates;
use crate::driver::rtc::engine::Engine;
use crate::driver::rtc::host::Host;
use crate::live::rooms::Command;
use crate::live::rooms::Event;
use crate::live::rooms::Newcomer;
use crate::live::rooms::Request;
use crate::live::rooms::TrackSource;
use crate::model::id::ParticipantId;
use crate::model::id::ProducerId;
use crate::model::id::RoomId;
use crate::model::id::UserId;
use crate::model::media::Codec;
use crate::model::role::RoomRole;

fn host() -> Host {
    let engine = Engine::new(Candidates { udp: vec![SocketAddr::from(([127, 0, 0, 1], 1))], tcp: Vec::new() }, false)
        .expect("a certificate");
    Host::new(Config::default(), engine, Demux::default())
}

fn name() -> RoomId {
    "jam".parse().expect("a slug")
}

fn user() -> UserId {
    "anna".parse().expect("a user")
}

fn enter(host: &mut Host, now: Instant) -> (ParticipantId, mpsc::Receiver<Event>) {
    enter_as(host, now, RoomRole::Musician)
}

fn enter_as(host: &mut Host, now: Instant, role: RoomRole) -> (ParticipantId, mpsc::Receiver<Event>) {
    let participant = ParticipantId::generate();
    let newcomer = Newcomer { participant, user: user(), name: "Anna".to_owned(), role };
    let (events, received) = mpsc::channel(8);
    let request = Request::Join { newcomer, events, reply: oneshot::channel().0 };
    host.handle(now, Command { room: name(), request });
    (participant, received)
}

#[test]
fn who_waits_for_others_may_wait_and_who_is_gone_is_let_go() {
    let start = Instant::now();
    let mut host = host();
    let (_anna, events) = enter(&mut host, start);
    host.tick(start + Duration::from_secs(600));
    assert_eq!(host.participants(), 1, "her signalling is there");
    drop(events);
    host.tick(start + Duration::from_secs(601));
    host.tick(start + Duration::from_secs(630));
    assert_eq!(host.participants(), 1, "she may come back");
    host.tick(start + Duration::from_secs(631));
    assert_eq!(host.participants(), 0);
    assert!(host.rooms.is_empty(), "and the empty room is closed");
}

#[test]
fn a_full_room_gives_the_place_of_who_may_come_back_to_who_is_here() {
    let now = Instant::now();
    let mut host = host();
    host.config.max_participants = 2;
    let (anna, her_line) = enter(&mut host, now);
    let (_ben, _his_line) = enter(&mut host, now);
    let key = host.names[&name()];
    let is_in = |host: &mut Host, who: ParticipantId| host.room(key).everybody().any(|other| other.id == who);
    let (early, _line) = enter(&mut host, now);
    assert!(!is_in(&mut host, early), "nobody who is there goes");
    drop(her_line);
    let (viewer, _line) = enter_as(&mut host, now, RoomRole::Viewer);
    assert!(!is_in(&mut host, viewer) && is_in(&mut host, anna), "a viewer has no use for a musician's place");
    let (late, _line) = enter(&mut host, now);
    assert!(is_in(&mut host, late) && !is_in(&mut host, anna));
    assert_eq!(host.participants(), 2);
}

#[test]
fn a_participant_whose_transport_broke_has_half_a_minute_to_come_back() {
    let start = Instant::now();
    let mut host = host();
    let (anna, _events) = enter(&mut host, start);
    let key = host.names[&name()];
    host.seat(key, anna).expect("she sits").is_lost = true;
    host.tick(start);
    host.tick(start + Duration::from_secs(29));
    assert_eq!(host.participants(), 1);
    let newcomer = Newcomer { participant: anna, user: user(), name: "Anna".to_owned(), role: RoomRole::Musician };
    let (events, _received) = mpsc::channel(8);
    let request = Request::Join { newcomer, events, reply: oneshot::channel().0 };
    host.handle(start + Duration::from_secs(29), Command { room: name(), request });
    host.tick(start + Duration::from_secs(100));
    assert_eq!(host.participants(), 1, "she came back");
    host.seat(key, anna).expect("she sits").is_lost = true;
    host.tick(start + Duration::from_secs(200));
    host.tick(start + Duration::from_secs(230));
    assert_eq!(host.participants(), 0);
}

fn consume(host: &mut Host, now: Instant, participant: ParticipantId, producer: ProducerId) {
    let request = Request::Consume { participant, producer, reply: oneshot::channel().0 };
    host.handle(now, Command { room: name(), request });
}

#[test]
fn a_transport_that_never_connects_costs_the_seat() {
    let start = Instant::now();
    let mut host = host();
    let (anna, mut events) = enter(&mut host, start);
    let (ben, _bens_events) = enter(&mut host, start);
    let key = host.names[&name()];
    let encoding = Encoding { codec: Codec::Opus, payload_type: 111 };
    let producer = host.room(key).produce(ben, "0", TrackSource::Microphone, encoding).expect("allowed");
    consume(&mut host, start, anna, producer);
    assert_eq!(host.lines.len(), 1);
    host.tick(start + Duration::from_secs(29));
    assert_eq!(host.participants(), 2);
    host.tick(start + Duration::from_secs(30));
    assert_eq!(host.participants(), 1, "only Ben is left");
    assert!(host.lines.is_empty());
    let told = std::iter::from_fn(|| events.try_recv().ok()).last();
    assert!(matches!(told, Some(Event::Removed { .. })), "{told:?}");
}

#[test]
fn wanting_what_is_gone_already_costs_nothing() {
    let start = Instant::now();
    let mut host = host();
    let (anna, _events) = enter(&mut host, start);
    consume(&mut host, start, anna, ProducerId::generate());
    host.tick(start + Duration::from_secs(60));
    assert_eq!(host.participants(), 1);
    assert!(host.lines.is_empty());
}

/// Lines of log as they are written.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody panicked").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn who_floods_is_named_in_one_line() {
    let now = Instant::now();
    let mut host = host();
    let (mallory, _events) = enter(&mut host, now);
    let key = host.names[&name()];
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..10_000 {
            host.refused_keyframe(now, key, mallory);
            host.refused_repetitions(now, key, mallory, 100);
        }
    });
    let log = String::from_utf8(log.0.lock().expect("nobody panicked").clone()).expect("text");
    for flood in ["floods keyframe requests", "floods NACKs"] {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(flood)).collect();
        assert!(matches!(lines[..], [line] if line.contains(&mallory.to_string())), "{lines:?}");
    }
}

#[test]
fn track_numbers_outlive_the_room() {
    let now = Instant::now();
    let mut host = host();
    let (participant, _events) = enter(&mut host, now);
    let key = host.names[&name()];
    let encoding = Encoding { codec: Codec::Opus, payload_type: 111 };
    host.room(key).produce(participant, "0", TrackSource::Microphone, encoding).expect("allowed");
    host.handle(now, Command { room: name(), request: Request::Leave { participant } });
    host.tick(now);
    assert!(host.rooms.is_empty());
    let (_participant, _events) = enter(&mut host, now);
    let key = host.names[&name()];
    assert_eq!(host.room(key).next_track(), 1);
}
