//! What is lost and comes again, over links in virtual time.

use std::time::Duration;
use std::time::Instant;

use crate::domain::room::Limits;
use crate::domain::room::Room;
use crate::domain::room::delay::Leg;
use crate::domain::room::forwarder::Incoming;
use crate::domain::room::producer::Encoding;
use crate::domain::room::repair::LATE;
use crate::domain::room::repair::gaps::OVERTAKEN;
use crate::domain::room::repair::gaps::again_after;
use crate::domain::room::repair::repair;
use crate::domain::room::words::Newcomer;
use crate::domain::room::words::Order;
use crate::domain::room::words::TrackSource;
use crate::model::id::ParticipantId;
use crate::model::media::Codec;
use crate::model::role::RoomRole;

const MS: Duration = Duration::from_millis(1);

/// What a mixer keeps above what was needed; a packet that is missing is noticed when the next one comes.
const SPARE: Duration = Duration::from_millis(20);

/// A small generator of chance (xorshift64), so that a failure repeats.
struct Chance(u64);

impl Chance {
    fn happens(&mut self, share: f64) -> bool {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) as f64) < share * (1_u64 << 53) as f64
    }
}

/// Sends a packet every 10 ms over a link that loses so much each way and of which the missing ones are asked for: which share of them
/// comes later than `wait` after its earliest time.
fn late(round_trip: Duration, loss: f64, wait: Duration) -> f64 {
    const PACKETS: u32 = 300_000;
    let mut chance = Chance(88_172_645_463_325_252);
    let mut late = 0;
    for n in 0..PACKETS {
        let sent = n * 10 * MS;
        if !chance.happens(loss) {
            continue;
        }
        let earliest = sent + round_trip / 2;
        let noticed = earliest + 10 * MS;
        let came = (0..10).find(|_| !chance.happens(loss) && !chance.happens(loss));
        let comes_at = |asked| noticed + OVERTAKEN + again_after(round_trip) * asked + round_trip;
        late += u32::from(came.is_none_or(|asked| comes_at(asked) > earliest + wait));
    }
    f64::from(late) / f64::from(PACKETS)
}

#[test]
fn who_waits_so_long_for_a_link_misses_a_packet_a_minute_and_who_waits_less_misses_many() {
    for round_trip in [20 * MS, 100 * MS, 240 * MS, 300 * MS] {
        for loss in [0.005, 0.02, 0.03, 0.05, 0.1] {
            let wait = repair(round_trip, loss);
            let enough = late(round_trip, loss, wait + SPARE);
            assert!(enough <= LATE, "{round_trip:?}, {loss}: {enough} come after {wait:?}");
            let less = late(round_trip, loss, wait.saturating_sub(again_after(round_trip)));
            assert!(less > LATE, "{round_trip:?}, {loss}: {wait:?} is too long");
        }
    }
}

#[test]
fn nothing_is_waited_for_where_nothing_is_lost() {
    assert_eq!(repair(300 * MS, 0.0), Duration::ZERO);
    assert_eq!(repair(10 * MS, 0.0), Duration::ZERO);
    assert_eq!(repair(240 * MS, 1.0), 1290 * MS, "a link that is broken has its bounds, too");
}

fn room() -> Room {
    Room::new(Limits { participants: 4, tracks_per_participant: 2, voices: 16 }, 0)
}

/// Somebody with a camera, so far away.
fn enter(room: &mut Room, name: &str, round_trip: Duration) -> ParticipantId {
    let participant = ParticipantId::generate();
    let user = name.parse().expect("a user");
    let newcomer = Newcomer { participant, user, name: name.to_owned(), role: RoomRole::Musician };
    room.join(newcomer).expect("there is room");
    let video = Encoding { codec: Codec::Vp8, payload_type: 96 };
    room.produce(participant, "0", TrackSource::Camera, video).expect("allowed");
    room.bind_source(participant, "0", None, 7);
    room.note_round_trip(participant, Leg::Send, round_trip);
    participant
}

/// So many packets of a camera, of which those that `lost` names come after the next one, when they have been asked for.
fn send(room: &mut Room, from: ParticipantId, numbers: std::ops::Range<u16>, lost: impl Fn(u16) -> bool) {
    let producer = room.source(from, 7).expect("it sends");
    let mut again = None;
    for seq in numbers {
        let mut take = |seq| {
            let packet =
                Incoming { ssrc: 7, seq, timestamp: 0, key: false, numbers: None, frame: None, elsewhere: [None; 2] };
            producer.accept(Instant::now(), &packet, &[]);
        };
        if lost(seq) {
            again = Some(seq);
        } else {
            take(seq);
            again.take().into_iter().for_each(take);
        }
    }
}

#[test]
fn a_programme_waits_for_the_musician_whose_link_needs_longest() {
    let mut room = room();
    assert_eq!(room.repair(), Duration::ZERO);
    let ada = enter(&mut room, "ada", 12 * MS);
    send(&mut room, ada, 0..3000, |_| false);
    assert_eq!(room.repair(), Duration::ZERO, "nothing of hers is lost");
    let ben = enter(&mut room, "ben", 240 * MS);
    assert_eq!(room.repair(), 250 * MS, "of his link too little is known");
    send(&mut room, ben, 0..1000, |seq| seq % 33 == 5);
    assert_eq!(room.repair(), 510 * MS);
    room.order(None, Order::Isolate { participant: ben, isolated: true }).expect("the gateway may");
    assert_eq!(room.repair(), Duration::ZERO, "he is not in the programme");
    room.order(None, Order::Isolate { participant: ben, isolated: false }).expect("the gateway may");
    send(&mut room, ben, 1000..60_000, |_| false);
    assert_eq!(room.repair(), Duration::ZERO, "what was lost once is forgotten");
}

#[test]
fn a_sender_that_begins_anew_has_lost_nothing() {
    let mut room = room();
    let ben = enter(&mut room, "ben", 240 * MS);
    send(&mut room, ben, 0..1000, |_| false);
    send(&mut room, ben, 20_000..21_000, |_| false);
    send(&mut room, ben, 3_000..4_000, |_| false);
    assert_eq!(room.repair(), Duration::ZERO);
}
