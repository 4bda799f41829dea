//! A room with places for two voices, in virtual time: who goes out to the listener.

use std::time::Duration;
use std::time::Instant;

use crate::domain::room::Limits;
use crate::domain::room::Room;
use crate::domain::room::forwarder::Forwarder;
use crate::domain::room::producer::Consumer;
use crate::domain::room::producer::Encoding;
use crate::domain::room::producer::Outlet;
use crate::domain::room::words::Newcomer;
use crate::domain::room::words::TrackSource;
use crate::model::id::ConsumerId;
use crate::model::id::ParticipantId;
use crate::model::id::ProducerId;
use crate::model::media::Codec;
use crate::model::role::RoomRole;

const OPUS: Encoding = Encoding { codec: Codec::Opus, payload_type: 111 };
const PACKET: Duration = Duration::from_millis(20);
const PACKETS_A_LOOK: usize = 10;

/// Musicians and one who listens to all of them.
struct Choir {
    room: Room,
    now: Instant,
    singers: Vec<(ParticipantId, ProducerId)>,
    seq: u16,
    /// By singer: the numbers of the packets that went out.
    heard: Vec<Vec<u16>>,
}

impl Choir {
    fn of(singers: usize) -> Self {
        let mut room = Room::new(Limits { participants: 16, tracks_per_participant: 2, voices: 2 }, 0);
        let listener = enter(&mut room, RoomRole::Viewer);
        let singers: Vec<_> = (0..singers)
            .map(|n| {
                let singer = enter(&mut room, RoomRole::Musician);
                let voice = room.produce(singer, "0", TrackSource::Microphone, OPUS).expect("allowed");
                room.bind_source(singer, "0", None, ssrc(n));
                let outlet = Outlet { peer: 1, lane: n };
                let consumer = Consumer::new(ConsumerId::generate(), listener, outlet, Forwarder::new(48_000));
                room.consume(voice, consumer).expect("allowed");
                (singer, voice)
            })
            .collect();
        let heard = singers.iter().map(|_| Vec::new()).collect();
        Self { room, now: Instant::now(), singers, seq: 0, heard }
    }

    /// Everybody sends for so many looks, as loud as this, dB below overload; `None` says nothing of it. Gives who went out last.
    fn sing(&mut self, looks: usize, loudness: &[Option<u8>]) -> Vec<usize> {
        for _ in 0..looks {
            for _ in 0..PACKETS_A_LOOK {
                self.send(loudness);
            }
            self.room.levels();
        }
        let before: Vec<usize> = self.heard.iter().map(Vec::len).collect();
        self.send(loudness);
        (0..self.singers.len()).filter(|n| self.heard[*n].len() > before[*n]).collect()
    }

    fn send(&mut self, loudness: &[Option<u8>]) {
        self.now += PACKET;
        self.seq += 1;
        for (n, below) in loudness.iter().enumerate() {
            let producer = self.room.source(self.singers[n].0, ssrc(n)).expect("known");
            let packet = producer.read(ssrc(n), self.seq, u32::from(self.seq) * 960, &[1]);
            producer.accept(self.now, &packet, &[1]);
            assert!(producer.tap(self.now, &packet).is_some(), "the programme has everybody");
            if producer.is_held() {
                continue;
            }
            if let Some(below) = below {
                producer.note_loudness(*below);
            }
            if producer.rests() {
                continue;
            }
            let out = producer.consumers[0].forward(self.now, &packet);
            self.heard[n].extend(out.map(|out| out.seq));
        }
    }
}

const fn ssrc(n: usize) -> u32 {
    n as u32 + 1
}

fn enter(room: &mut Room, role: RoomRole) -> ParticipantId {
    let participant = ParticipantId::generate();
    let user = participant.to_string().parse().expect("a user");
    room.join(Newcomer { participant, user, name: "Somebody".to_owned(), role }).expect("there is room");
    participant
}

#[test]
fn as_many_as_there_are_places_are_all_heard_however_quiet() {
    assert_eq!(Choir::of(2).sing(50, &[Some(127), Some(90)]), [0, 1]);
}

#[test]
fn the_loudest_are_heard_and_one_who_becomes_louder_at_once() {
    let mut choir = Choir::of(4);
    assert_eq!(choir.sing(1, &[Some(60), Some(30), Some(50), Some(20)]), [1, 3]);
    assert_eq!(choir.sing(1, &[Some(60), Some(30), Some(10), Some(20)]), [2, 3]);
}

#[test]
fn equals_do_not_take_turns_and_a_pause_costs_no_place() {
    let mut choir = Choir::of(3);
    assert_eq!(choir.sing(5, &[Some(30), Some(30), Some(33)]), [0, 1]);
    assert_eq!(choir.sing(5, &[Some(30), Some(30), Some(27)]), [0, 1], "not loud enough");
    assert_eq!(choir.sing(10, &[Some(30), Some(127), Some(35)]), [0, 1], "a rest of two seconds");
    assert_eq!(choir.sing(20, &[Some(30), Some(127), Some(35)]), [0, 2], "no rest any more");
}

#[test]
fn the_spotlight_is_always_heard_and_the_silenced_take_no_place() {
    let mut choir = Choir::of(3);
    assert_eq!(choir.sing(1, &[Some(20), Some(30), Some(60)]), [0, 1]);
    choir.room.house.state.spotlight = Some(choir.singers[2].0);
    assert_eq!(choir.sing(1, &[Some(20), Some(30), Some(60)]), [0, 2]);
    choir.room.house.state.spotlight = None;
    let (singer, voice) = choir.singers[0];
    choir.room.pause_producer(singer, voice, true).expect("its own");
    assert_eq!(choir.sing(1, &[Some(20), Some(30), Some(60)]), [1, 2]);
}

#[test]
fn a_sender_that_does_not_say_how_loud_it_is_counts_as_loud() {
    assert_eq!(Choir::of(3).sing(3, &[Some(40), Some(50), None]), [0, 2]);
}

#[test]
fn who_comes_back_goes_on_with_the_next_number() {
    let mut choir = Choir::of(3);
    assert_eq!(choir.sing(1, &[Some(20), Some(30), Some(60)]), [0, 1]);
    assert_eq!(choir.sing(20, &[Some(20), Some(127), Some(25)]), [0, 2]);
    assert_eq!(choir.sing(1, &[Some(20), Some(10), Some(60)]), [0, 1]);
    assert_eq!(choir.sing(1, &[Some(20), Some(10), Some(60)]), [0, 1]);
    assert!(choir.heard[1].windows(2).all(|pair| pair[1] == pair[0] + 1), "{:?}", choir.heard[1]);
}
