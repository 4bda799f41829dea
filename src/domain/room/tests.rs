//! A room with two musicians and a listener, in virtual time.

use std::time::Duration;
use std::time::Instant;

use crate::domain::room::Limits;
use crate::domain::room::RECODE_INTERVAL;
use crate::domain::room::Room;
use crate::domain::room::forwarder::Forwarder;
use crate::domain::room::forwarder::Incoming;
use crate::domain::room::keyframe::Plea;
use crate::domain::room::producer::Consumer;
use crate::domain::room::producer::Encoding;
use crate::domain::room::producer::Outlet;
use crate::domain::room::window::Arrival;
use crate::domain::room::words::Newcomer;
use crate::domain::room::words::Notice;
use crate::domain::room::words::RoomError;
use crate::domain::room::words::TrackSource;
use crate::model::id::ConsumerId;
use crate::model::id::ParticipantId;
use crate::model::id::ProducerId;
use crate::model::id::TrackId;
use crate::model::id::UserId;
use crate::model::media::Codec;
use crate::model::role::RoomRole;

const VP8: Encoding = Encoding { codec: Codec::Vp8, payload_type: 96 };
const OUTLET: Outlet = Outlet { peer: 1, lane: 0 };

fn room() -> Room {
    Room::new(Limits { participants: 3, tracks_per_participant: 2, voices: 16 }, 0)
}

fn user(name: &str) -> UserId {
    name.parse().expect("a user")
}

fn enter(room: &mut Room, name: &str) -> ParticipantId {
    let participant = ParticipantId::generate();
    let newcomer = Newcomer { participant, user: user(name), name: name.to_owned(), role: RoomRole::Musician };
    room.join(newcomer).expect("there is room");
    participant
}

fn camera(room: &mut Room, participant: ParticipantId) -> ProducerId {
    room.produce(participant, "0", TrackSource::Camera, VP8).expect("allowed")
}

fn incoming(ssrc: u32, seq: u16) -> Incoming {
    Incoming { ssrc, seq, timestamp: 0, key: true, numbers: None, frame: None, elsewhere: [None; 2] }
}

fn notices(room: &mut Room) -> Vec<(ParticipantId, Notice)> {
    std::iter::from_fn(|| room.poll_notice()).collect()
}

#[test]
fn everybody_hears_of_everybody_else() {
    let mut room = room();
    let anna = enter(&mut room, "Anna");
    let ben = enter(&mut room, "Ben");
    let joined: Vec<_> = notices(&mut room);
    assert!(matches!(&joined[..], [(to, Notice::ParticipantJoined(info))] if *to == anna && info.id == ben));

    let producer = camera(&mut room, ben);
    assert!(
        matches!(&notices(&mut room)[..], [(to, Notice::ProducerAdded(info))] if *to == anna && info.id == producer)
    );
    let carla = Newcomer {
        participant: ParticipantId::generate(),
        user: user("Carla"),
        name: "Carla".into(),
        role: RoomRole::Viewer,
    };
    let found = room.join(carla).expect("there is room");
    assert_eq!(found.participants.len(), 2);
    assert_eq!(found.producers.len(), 1);

    notices(&mut room);
    room.leave(ben);
    let told: Vec<_> = notices(&mut room).into_iter().filter(|(to, _)| *to == anna).map(|(_, notice)| notice).collect();
    assert_eq!(told, [Notice::ProducerRemoved(producer), Notice::ParticipantLeft(ben)]);
    assert!(room.roster().tracks.is_empty());
}

#[test]
fn limits_hold_and_coming_back_is_not_coming_twice() {
    let mut room = room();
    let anna = enter(&mut room, "Anna");
    enter(&mut room, "Ben");
    enter(&mut room, "Carla");
    let full = Newcomer {
        participant: ParticipantId::generate(),
        user: user("Dora"),
        name: "Dora".into(),
        role: RoomRole::Viewer,
    };
    assert_eq!(room.join(full).err(), Some(RoomError::RoomFull(3)));
    notices(&mut room);
    room.join(Newcomer { participant: anna, user: user("Anna"), name: "Anna".into(), role: RoomRole::Musician })
        .expect("she is in already");
    assert_eq!(notices(&mut room), []);

    let first = camera(&mut room, anna);
    assert_eq!(camera(&mut room, anna), first, "the same m-line is the same producer");
    room.produce(anna, "1", TrackSource::Screen, VP8).expect("a second track");
    let third = room.produce(anna, "2", TrackSource::Screen, VP8);
    assert_eq!(third, Err(RoomError::TooManyTracks(2)));
}

#[test]
fn an_audience_never_locks_the_band_out() {
    let mut room = Room::new(Limits { participants: 8, tracks_per_participant: 2, voices: 16 }, 0);
    let mut viewers = 0;
    let full = loop {
        let viewer = Newcomer {
            participant: ParticipantId::generate(),
            user: user("Viewer"),
            name: "Viewer".into(),
            role: RoomRole::Viewer,
        };
        match room.join(viewer) {
            Ok(_) => viewers += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((viewers, full), (6, RoomError::RoomFull(6)));
    enter(&mut room, "Anna");
    enter(&mut room, "Ben");
}

#[test]
fn nobody_touches_what_is_not_theirs() {
    let mut room = room();
    let anna = enter(&mut room, "Anna");
    let ben = enter(&mut room, "Ben");
    let producer = camera(&mut room, anna);
    assert_eq!(room.close_producer(ben, producer), Err(RoomError::UnknownProducer));
    assert_eq!(room.pause_producer(ben, producer, true), Err(RoomError::UnknownProducer));
    assert_eq!(room.consumable(anna, producer), Err(RoomError::UnknownProducer), "nobody consumes herself");
    let consumer = ConsumerId::generate();
    room.consume(producer, Consumer::new(consumer, ben, OUTLET, Forwarder::new(90_000))).expect("known");
    assert_eq!(room.close_consumer(anna, consumer), Err(RoomError::UnknownConsumer));
    assert_eq!(room.close_consumer(ben, consumer), Ok(()));
    assert_eq!(room.poll_release().map(|release| release.outlet), Some(OUTLET));
}

#[test]
fn a_waiting_consumer_gets_one_keyframe_request_and_then_packets() {
    let start = Instant::now();
    let mut room = room();
    let anna = enter(&mut room, "Anna");
    let ben = enter(&mut room, "Ben");
    let producer = camera(&mut room, anna);
    room.bind_source(anna, "0", None, 77);
    room.consume(producer, Consumer::new(ConsumerId::generate(), ben, OUTLET, Forwarder::new(90_000))).expect("known");
    assert_eq!(room.keyframes_due(start, |_| false), [], "its transport is not up");
    assert_eq!(room.keyframes_due(start, |_| true).len(), 1);
    assert_eq!(room.keyframes_due(start + Duration::from_millis(100), |_| true), [], "already asked");
    assert_eq!(room.plead_at_outlet(start + Duration::from_millis(200), OUTLET).0, Plea::Coalesced);

    let key = incoming(77, 5);
    let source = room.source(anna, 77).expect("bound");
    assert_eq!(source.accept(start, &key, &[]), Arrival::Fresh);
    assert!(source.consumers[0].forward(start, &key).is_some());
    assert_eq!(source.accept(start, &key, &[]), Arrival::Duplicate);
    assert_eq!(room.keyframes_due(start + Duration::from_secs(5), |_| true), [], "nobody waits");
}

#[test]
fn a_plea_before_the_first_packet_is_made_when_the_source_is_known() {
    let now = Instant::now();
    let mut room = room();
    let anna = enter(&mut room, "Anna");
    camera(&mut room, anna);
    assert_eq!(room.plead_for_track(now, TrackId(0)), (Plea::Coalesced, None));
    assert_eq!(room.keyframes_due(now, |_| true), []);
    room.bind_source(anna, "0", None, 77);
    assert_eq!(room.keyframes_due(now, |_| true).len(), 1);
}

#[test]
fn an_outlet_goes_on_with_its_numbers_under_another_producer() {
    let start = Instant::now();
    let mut room = room();
    let anna = enter(&mut room, "Anna");
    let ben = enter(&mut room, "Ben");
    let first = camera(&mut room, anna);
    let second = room.produce(anna, "1", TrackSource::Screen, VP8).expect("allowed");
    room.bind_source(anna, "0", None, 1);
    room.bind_source(anna, "1", None, 2);
    assert_eq!(room.unconsumed(ben, Codec::Vp8), Some(first), "the oldest first");
    room.consume(first, Consumer::new(ConsumerId::generate(), ben, OUTLET, Forwarder::new(90_000))).expect("known");
    assert_eq!(room.unconsumed(ben, Codec::Vp8), Some(second));
    let packet = incoming(1, 100);
    room.source(anna, 1).expect("bound").consumers[0].forward(start, &packet);

    room.close_producer(anna, first).expect("hers");
    let release = room.poll_release().expect("the outlet is free");
    room.consume(second, Consumer::new(ConsumerId::generate(), ben, release.outlet, release.forwarder)).expect("known");
    let packet = incoming(2, 9_000);
    let out = room.source(anna, 2).expect("bound").consumers[0].forward(start, &packet);
    assert_eq!(out.map(|out| out.seq), Some(101));
}

#[test]
fn another_codec_is_another_track_and_closes_who_cannot_follow() {
    let mut room = room();
    let anna = enter(&mut room, "Anna");
    let ben = enter(&mut room, "Ben");
    let producer = camera(&mut room, anna);
    room.bind_source(anna, "0", None, 1);
    let consumer = ConsumerId::generate();
    room.consume(producer, Consumer::new(consumer, ben, OUTLET, Forwarder::new(90_000))).expect("known");
    notices(&mut room);
    let now = Instant::now();
    assert!(room.recode(now, anna, 1, Encoding { codec: Codec::Vp8, payload_type: 120 }));
    assert_eq!(room.roster().tracks[0].track, TrackId(1));
    assert_eq!(notices(&mut room), []);
    let h264 = Encoding { codec: Codec::H264, payload_type: 102 };
    assert!(!room.recode(now, anna, 1, h264), "alternating encodings are not followed");
    assert!(room.recode(now + RECODE_INTERVAL, anna, 1, h264));
    assert_eq!(room.roster().tracks[0].track, TrackId(2), "numbers are never used again");
    assert_eq!(notices(&mut room), [(ben, Notice::ConsumerClosed(consumer))]);
}

#[test]
fn a_paused_producer_shows_in_the_roster_once() {
    let mut room = room();
    let anna = enter(&mut room, "Anna");
    let producer = camera(&mut room, anna);
    room.poll_roster();
    room.pause_producer(anna, producer, true).expect("hers");
    assert!(room.poll_roster().is_some_and(|roster| roster.tracks[0].paused));
    room.pause_producer(anna, producer, true).expect("hers");
    assert_eq!(room.poll_roster(), None);
}
