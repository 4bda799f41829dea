//! The delay table, by itself and in a room.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use crate::domain::room::Limits;
use crate::domain::room::Room;
use crate::domain::room::delay::Delays;
use crate::domain::room::delay::Grade;
use crate::domain::room::delay::Leg;
use crate::domain::room::delay::MOST_PATHS;
use crate::domain::room::delay::Path;
use crate::domain::room::delay::round_trip_told;
use crate::domain::room::forwarder::Forwarder;
use crate::domain::room::producer::Consumer;
use crate::domain::room::producer::Encoding;
use crate::domain::room::producer::Outlet;
use crate::domain::room::words::Newcomer;
use crate::domain::room::words::Order;
use crate::domain::room::words::TrackSource;
use crate::model::id::ConsumerId;
use crate::model::id::ParticipantId;
use crate::model::media::Codec;
use crate::model::opus;
use crate::model::role::RoomRole;

const MS: Duration = Duration::from_millis(1);

/// Ada 20 ms from the gateway and back, Ben 60 ms, Cleo 10 ms.
fn table() -> (Delays, [ParticipantId; 3]) {
    let people = [(); 3].map(|()| ParticipantId::generate());
    let mut delays = Delays::default();
    for (person, ms) in people.iter().zip([20, 60, 10]) {
        for leg in [Leg::Send, Leg::Recv] {
            delays.note_round_trip(*person, leg, ms * MS);
        }
    }
    (delays, people)
}

#[test]
fn a_path_is_half_of_both_legs_the_gateway_and_the_receivers_jitter_buffer() {
    let (mut delays, [ada, ben, cleo]) = table();
    delays.note_processing(MS);
    delays.note_jitter_buffer(ada, ben, 25 * MS);
    let path = |from, to| delays.path(from, to).map(|path| (path.delay, path.buffer));
    assert_eq!(path(ada, ben), Some(((10 + 1 + 30 + 25) * MS, Some(25 * MS))));
    assert_eq!(path(cleo, ben), Some(((5 + 1 + 30) * MS, None)), "it holds each sender back by itself");
    assert_eq!(
        path(ben, ada),
        Some(((30 + 1 + 10) * MS, None)),
        "its own buffer delays what Ben hears, not what others hear of Ben"
    );
    assert_eq!(path(ada, ada), None);
}

#[test]
fn each_leg_counts_where_it_is_gone_over() {
    let (mut delays, [ada, ben, _]) = table();
    for _ in 0..60 {
        delays.note_round_trip(ada, Leg::Send, 80 * MS);
    }
    let delay = |delays: &Delays, from, to| delays.path(from, to).map(|path| path.delay);
    assert_eq!(delay(&delays, ada, ben), Some((40 + 30) * MS));
    assert_eq!(delay(&delays, ben, ada), Some((30 + 10) * MS));
    delays.forget_leg(ada, Leg::Send);
    assert_eq!(delay(&delays, ada, ben), Some((10 + 30) * MS), "the other leg leads to the same machine");
    delays.forget_leg(ada, Leg::Recv);
    assert_eq!(delay(&delays, ben, ada), None);
}

#[test]
fn the_bounds_of_the_grades_belong_to_the_better_one() {
    for (ms, grade) in
        [(0, Grade::Green), (43, Grade::Green), (44, Grade::Yellow), (68, Grade::Yellow), (69, Grade::Red)]
    {
        assert_eq!(Grade::of(ms * MS), grade, "{ms} ms");
    }
}

#[test]
fn the_grade_is_that_of_the_number_people_read() {
    let (mut delays, [ada, ben, _]) = table();
    delays.note_jitter_buffer(ada, ben, Duration::from_micros(3_400));
    let path = delays.path(ada, ben).expect("both are measured");
    assert_eq!((path.delay, path.buffer, path.grade), (43 * MS, Some(3 * MS), Grade::Green));
    delays.note_jitter_buffer(ada, ben, Duration::from_micros(3_500));
    let path = delays.path(ada, ben).expect("both are measured");
    assert_eq!((path.delay, path.grade), (44 * MS, Grade::Yellow));
}

#[test]
fn a_round_trip_follows_its_measurements_and_no_absurd_one() {
    let (mut delays, [ada, _, cleo]) = table();
    let to_ada = |delays: &Delays| delays.path(cleo, ada).map(|path| path.delay);
    delays.note_round_trip(ada, Leg::Recv, Duration::from_secs(11));
    assert_eq!(to_ada(&delays), Some((5 + 10) * MS));
    delays.note_round_trip(ada, Leg::Recv, 100 * MS);
    assert_eq!(to_ada(&delays), Some((5 + 10) * MS), "a machine that was busy once is no longer way");
    for _ in 0..8 {
        delays.note_round_trip(ada, Leg::Recv, 100 * MS);
    }
    assert_eq!(to_ada(&delays), Some((5 + 50) * MS), "a new path is there after eight measurements");
    delays.note_round_trip(ada, Leg::Recv, 30 * MS);
    assert_eq!(to_ada(&delays), Some((5 + 15) * MS), "a shorter one at once");
    delays.note_jitter_buffer(cleo, ada, Duration::MAX);
    assert_eq!(to_ada(&delays), Some((5 + 15) * MS));
}

#[test]
fn report_blocks_tell_the_round_trip() {
    // The example of RFC 3550 section 6.4.1, figure 2.
    let told = round_trip_told(0xb710_8000, 0xb705_2000, 0x0005_4000);
    assert_eq!(told, Some(Duration::from_millis(6125)));
    assert_eq!(round_trip_told(0x0000_8000, 0xffff_8000, 0x0000_4000), Some(Duration::from_millis(750)), "time wraps");
    assert_eq!(
        round_trip_told(0x0010_0000, 0x000f_0000, 0x0001_0003),
        Some(Duration::ZERO),
        "the delay was rounded up"
    );
    assert_eq!(round_trip_told(0x0010_0000, 0, 0), None, "no sender report has come yet");
    assert_eq!(round_trip_told(0x7010_0000, 0x0010_0000, 0), None, "hours are no round trip");
}

const OPUS: Encoding = Encoding { codec: Codec::Opus, payload_type: 111 };

/// Somebody both of whose legs are 20 ms, with a microphone unless it is a viewer.
fn enter(room: &mut Room, name: &str, role: RoomRole) -> ParticipantId {
    let participant = ParticipantId::generate();
    let newcomer = Newcomer { participant, user: name.parse().expect("a user"), name: name.to_owned(), role };
    room.join(newcomer).expect("there is room");
    if role > RoomRole::Viewer {
        room.produce(participant, "0", TrackSource::Microphone, OPUS).expect("allowed");
    }
    for leg in [Leg::Send, Leg::Recv] {
        room.note_round_trip(participant, leg, 20 * MS);
    }
    participant
}

fn room() -> Room {
    Room::new(Limits { participants: 64, tracks_per_participant: 2, voices: 16 }, 0)
}

fn told(room: &mut Room, to: ParticipantId) -> Option<Arc<[Path]>> {
    room.delays().into_iter().find(|(id, _)| *id == to).map(|(_, paths)| paths)
}

fn pairs(paths: &[Path]) -> Vec<(ParticipantId, ParticipantId)> {
    paths.iter().map(|path| (path.from, path.to)).collect()
}

#[test]
fn paths_begin_at_who_sends_sound_and_end_with_who_leaves() {
    let mut room = room();
    let ada = enter(&mut room, "ada", RoomRole::Musician);
    assert_eq!(room.delays(), [], "nobody to hear");
    let ben = enter(&mut room, "ben", RoomRole::Musician);
    let vera = enter(&mut room, "vera", RoomRole::Viewer);
    let paths = told(&mut room, vera).expect("everybody is told");
    assert_eq!(pairs(&paths), [(ada, ben), (ada, vera), (ben, ada), (ben, vera)]);
    assert!(paths.iter().all(|path| path.delay == 20 * MS));
    room.leave(ben);
    assert_eq!(pairs(&told(&mut room, ada).expect("there is one left")), [(ada, vera)]);
    room.leave(vera);
    assert_eq!(told(&mut room, ada).as_deref(), Some(&[][..]), "once");
    assert_eq!(room.delays(), []);
}

#[test]
fn who_does_not_hear_the_isolated_is_not_told_how_late_they_are() {
    let mut room = room();
    let host = enter(&mut room, "host", RoomRole::Host);
    let ada = enter(&mut room, "ada", RoomRole::Musician);
    let ben = enter(&mut room, "ben", RoomRole::Musician);
    room.order(Some(host), Order::Isolate { participant: ada, isolated: true }).expect("a host may");
    let is_from_ada = |paths: &[Path]| paths.iter().any(|path| path.from == ada);
    assert!(is_from_ada(&told(&mut room, host).expect("told")));
    let to_ben = told(&mut room, ben).expect("told");
    assert!(!is_from_ada(&to_ben) && to_ben.iter().any(|path| path.to == ada));
}

#[test]
fn in_a_large_room_everybody_is_told_their_own_paths_only() {
    let mut room = room();
    let people: Vec<_> = (0..16).map(|n| enter(&mut room, &format!("p{n}"), RoomRole::Musician)).collect();
    assert_eq!(told(&mut room, people[3]).map(|paths| paths.len()), Some(MOST_PATHS), "all of sixteen");
    let late = enter(&mut room, "late", RoomRole::Musician);
    let own = told(&mut room, late).expect("told");
    assert_eq!(own.len(), 32);
    assert!(own.iter().all(|path| path.from == late || path.to == late));
    assert_eq!(room.paths(true).len(), 17 * 16);
}

#[test]
fn jitter_buffers_are_those_of_ones_own_consumers_of_sound() {
    let mut room = room();
    let ada = enter(&mut room, "ada", RoomRole::Musician);
    let ben = enter(&mut room, "ben", RoomRole::Musician);
    let video = Encoding { codec: Codec::Vp8, payload_type: 96 };
    room.produce(ada, "1", TrackSource::Camera, video).expect("allowed");
    let ids: Vec<_> = room.look_around(ben).expect("inside").producers.iter().map(|info| info.id).collect();
    let mut consumers = Vec::new();
    for (lane, producer) in ids.into_iter().enumerate() {
        let id = ConsumerId::generate();
        let outlet = Outlet { peer: 1, lane };
        room.consume(producer, Consumer::new(id, ben, outlet, Forwarder::new(48_000))).expect("it is there");
        consumers.push(id);
    }
    let delay = |room: &Room| room.paths(true).iter().find(|path| path.from == ada).map(|path| path.delay);
    let [sound, picture] = consumers[..] else { panic!("{consumers:?}") };
    room.note_jitter_buffers(ben, &[(picture, 300 * MS), (ConsumerId::generate(), 300 * MS)]);
    room.note_jitter_buffers(ada, &[(sound, 300 * MS)]);
    assert_eq!(delay(&room), Some(20 * MS));
    room.note_jitter_buffers(ben, &[(picture, 300 * MS), (sound, 30 * MS)]);
    assert_eq!(delay(&room), Some(50 * MS));
}

#[test]
fn who_plays_to_a_leader_is_late_by_its_ways_its_buffer_its_decoder_and_its_packet() {
    let mut room = room();
    let ada = enter(&mut room, "ada", RoomRole::Musician);
    let ben = enter(&mut room, "ben", RoomRole::Musician);
    let vera = enter(&mut room, "vera", RoomRole::Viewer);
    let adas = room.look_around(ben).expect("inside").producers[0].id;
    for (lane, listener) in [ben, vera].into_iter().enumerate() {
        assert_eq!(room.lateness(ada), [], "a buffer that nobody tells of may hold back anything");
        let id = ConsumerId::generate();
        room.consume(adas, Consumer::new(id, listener, Outlet { peer: 1, lane }, Forwarder::new(48_000)))
            .expect("it is there");
        room.note_jitter_buffers(listener, &[(id, 30 * MS)]);
        if listener == ben {
            assert_eq!(room.lateness(ada), [(ben, opus::DELAY + (10 + 30 + 10) * MS)]);
            assert_eq!(room.lateness(ben), [], "Ada does not listen");
            room.order(None, Order::Isolate { participant: ben, isolated: true }).expect("the gateway may");
        }
    }
    assert_eq!(room.lateness(ada), [], "neither is in the programme");
    room.order(None, Order::Isolate { participant: ben, isolated: false }).expect("the gateway may");
    room.bind_source(ben, "0", None, 7);
    let packet_of_20_ms = [0xf8, 1];
    let producer = room.source(ben, 7).expect("it sends");
    let packet = producer.read(7, 1, 0, &packet_of_20_ms);
    producer.accept(Instant::now(), &packet, &packet_of_20_ms);
    assert_eq!(room.lateness(ada), [(ben, opus::DELAY + (10 + 30 + 10 + 20) * MS)]);
}

#[test]
fn what_the_network_holds_up_counts_as_it_usually_is() {
    let (mut delays, [ada, ben, _]) = table();
    delays.note_jitter_buffer(ada, ben, 25 * MS);
    assert_eq!(delays.answer(ada, ben), Some((30 + 25 + 30) * MS));
    for ms in [70, 80, 90, 400] {
        delays.note_round_trip(ben, Leg::Recv, ms * MS);
    }
    assert_eq!(delays.answer(ada, ben), Some((40 + 25 + 30) * MS), "without the shortest and the longest");
    assert_eq!(delays.answer(ben, ada), None, "Ada has not said what she holds back");
    delays.note_jitter_buffer(ada, ada, 25 * MS);
    assert_eq!(delays.answer(ada, ada), None);
}

/// Evenly between 0 and `most` ms, always the same.
fn wavering(seed: u32, most: u32) -> impl FnMut() -> Duration {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        most * MS * (state >> 16) / 0xffff
    }
}

#[test]
fn over_wavering_ways_a_follower_is_as_late_as_its_fastest_packets_are_behind_the_leaders() {
    let begin = Instant::now();
    for (up_ms, down_ms, wavers) in [(10, 10, 4), (40, 40, 16), (80, 60, 20)] {
        let mut room = room();
        let leader = enter(&mut room, "leader", RoomRole::Musician);
        let follower = enter(&mut room, "follower", RoomRole::Musician);
        let heard = room.look_around(follower).expect("inside").producers[0].id;
        let consumer = ConsumerId::generate();
        room.consume(heard, Consumer::new(consumer, follower, Outlet { peer: 1, lane: 0 }, Forwarder::new(48_000)))
            .expect("it is there");
        room.bind_source(leader, "0", None, 1);
        room.bind_source(follower, "0", None, 2);
        let (mut leaders_up, mut up, mut down) = (wavering(1, 8), wavering(2, wavers), wavering(3, wavers));
        // The follower plays what it hears so long after the leader has played it.
        let plays_after = (20 + down_ms + 40) * MS;
        let mut waited = Duration::ZERO;
        let sound = [0xf8, 1];
        for n in 0..1600_u32 {
            let (to_gateway, to_follower) = (20 * MS + leaders_up(), down_ms * MS + down());
            waited += plays_after - to_gateway - to_follower;
            let arrivals = [(leader, 1, to_gateway), (follower, 2, plays_after + up_ms * MS + up())];
            for (of, ssrc, late) in arrivals {
                let producer = room.source(of, ssrc).expect("it sends");
                let packet = producer.read(ssrc, n as u16, n * 960, &sound);
                producer.accept(begin + n * 20 * MS + late, &packet, &sound);
            }
            if n % 100 == 0 {
                for leg in [Leg::Send, Leg::Recv] {
                    room.note_round_trip(follower, leg, (up_ms + down_ms) * MS + up() + down());
                }
            }
        }
        room.note_jitter_buffers(follower, &[(consumer, waited / 1600)]);
        let truth = plays_after - 20 * MS + up_ms * MS + 20 * MS + opus::DELAY;
        let [(_, late)] = room.lateness(leader)[..] else { panic!("it was measured") };
        assert!(late.abs_diff(truth) < 3 * MS, "{late:?} instead of {truth:?}");
    }
}
