//! Three layers on good links, and what is said of bad ones.

use std::time::Duration;

use crate::domain::room::producer::Encoding;
use crate::domain::room::receiving::tests::enter;
use crate::domain::room::receiving::tests::room;
use crate::domain::room::receiving::*;
use crate::domain::room::window::Arrival;
use crate::model::media::Codec;

/// Bits per second, height, and SSRC of a camera's layers.
const LAYERS: [(u64, u16, u32); 3] = [(150_000, 180, 1), (500_000, 360, 2), (1_200_000, 720, 3)];

/// Anna sends her camera in three sizes, in virtual time; each of the others gets it on a peer of its own.
struct Jam {
    room: Room,
    anna: ParticipantId,
    now: Instant,
    sent: u16,
    /// Layers for which a keyframe is owed.
    asked: Vec<u32>,
    /// By consumer: the SSRC of every packet it got, with the numbers it got.
    got: Vec<Vec<(u32, u16)>>,
    tapped: Vec<(u32, u16)>,
    consumers: Vec<(ParticipantId, ConsumerId)>,
}

impl Jam {
    fn new(listeners: u64) -> Self {
        let mut room = room();
        let anna = enter(&mut room);
        let encoding = Encoding { codec: Codec::Vp8, payload_type: 96 };
        let camera = room.produce(anna, "0", TrackSource::Camera, encoding).expect("allowed");
        for (name, (_, _, ssrc)) in ["q", "h", "f"].into_iter().zip(LAYERS) {
            room.bind_source(anna, "0", Some(name), ssrc);
        }
        let consumers = tests::listeners(&mut room, camera, listeners);
        Self {
            room,
            anna,
            now: Instant::now(),
            sent: 0,
            asked: vec![1, 2, 3],
            got: consumers.iter().map(|_| Vec::new()).collect(),
            tapped: Vec::new(),
            consumers,
        }
    }

    /// Ten pictures a second of one packet each, and a tick after each.
    fn play(&mut self, seconds: u32) {
        for _ in 0..seconds * 10 {
            self.now += Duration::from_millis(100);
            for (rate, height, ssrc) in LAYERS {
                let is_key = self.asked.contains(&ssrc);
                let mut payload = vec![0; usize::try_from(rate / 80).expect("small")];
                payload[..4].copy_from_slice(&[0x90, 0x80, 0x80, self.sent.to_be_bytes()[1]]);
                payload[4] = u8::from(!is_key);
                payload[7..10].copy_from_slice(&[0x9d, 0x01, 0x2a]);
                payload[10..12].copy_from_slice(&(height * 16 / 9).to_le_bytes());
                payload[12..14].copy_from_slice(&height.to_le_bytes());
                let timestamp = u32::from(self.sent) * 9_000;
                let producer = self.room.source(self.anna, ssrc).expect("bound");
                let packet =
                    producer.read(ssrc, self.sent.wrapping_add(ssrc.to_le_bytes()[0].into()), timestamp, &payload);
                assert_eq!(packet.key, is_key);
                assert_eq!(producer.accept(self.now, &packet, &payload), Arrival::Fresh);
                for (consumer, got) in producer.consumers.iter_mut().zip(&mut self.got) {
                    got.extend(consumer.forward(self.now, &packet).map(|out| (ssrc, out.seq)));
                }
                self.tapped.extend(producer.tap(self.now, &packet).map(|tap| (ssrc, tap.out.seq)));
            }
            self.sent += 1;
            self.room.choose_layers(self.now);
            self.asked = self.room.keyframes_due(self.now, |_| true).iter().map(|request| request.ssrc).collect();
        }
    }

    /// A receiver reports that so much is lost until it is believed.
    fn fill(&mut self, peer: u64, share: f64) {
        (0..20).any(|_| self.room.lost(self.now, peer, share));
    }

    fn sees(&self, listener: usize) -> Option<u32> {
        self.got[listener].last().map(|(ssrc, _)| *ssrc)
    }
}

fn numbers_go_on(got: &[(u32, u16)]) -> bool {
    got.windows(2).all(|pair| pair[1].1 == pair[0].1.wrapping_add(1))
}

#[test]
fn a_good_link_gets_the_largest_picture_and_a_tile_the_one_that_fills_it() {
    let mut jam = Jam::new(2);
    jam.play(1);
    assert!(jam.sees(0).is_some(), "something is seen at once");
    jam.play(5);
    assert_eq!((jam.sees(0), jam.sees(1)), (Some(3), Some(3)));
    let (participant, consumer) = jam.consumers[1];
    jam.room.set_tile(participant, consumer, Size { width: 320, height: 180 }).expect("its own");
    assert_eq!(
        jam.room.set_tile(jam.anna, consumer, Size::default()),
        Err(RoomError::UnknownConsumer),
        "somebody else's"
    );
    jam.play(2);
    assert_eq!((jam.sees(0), jam.sees(1)), (Some(3), Some(1)));
    assert!(jam.got.iter().all(|got| numbers_go_on(got)));
}

#[test]
fn a_narrow_link_gets_a_small_picture_and_nobody_else_does() {
    let mut jam = Jam::new(2);
    jam.room.set_tapped(true);
    jam.play(6);
    jam.fill(0, 0.8);
    jam.play(2);
    assert_eq!((jam.sees(0), jam.sees(1)), (Some(1), Some(3)));
    jam.play(10);
    assert_eq!(jam.sees(0), Some(3), "and the large one again when the trials hold");
    jam.fill(0, 0.99);
    jam.play(1);
    let before = jam.got[0].len();
    jam.play(3);
    assert_eq!(jam.got[0].len(), before, "nothing where not even the smallest fits");
    jam.room.link_is_new(jam.now, 0);
    jam.fill(0, 1.0);
    jam.play(1);
    assert!(jam.got[0].len() > before, "another link begins anew, whatever is said of the one before");
    assert!(jam.got.iter().all(|got| numbers_go_on(got)));
    assert_eq!(jam.tapped.last().map(|(ssrc, _)| *ssrc), Some(3), "a tap's link is never narrow");
    assert!(numbers_go_on(&jam.tapped));
}

#[test]
fn a_tap_gets_one_layer_that_is_nearest_to_its_tile() {
    let mut jam = Jam::new(0);
    jam.room.set_tapped(true);
    jam.play(2);
    let track = jam.room.roster().tracks[0].track;
    jam.room.set_tap_tile(track, Size { width: 640, height: 360 });
    jam.play(2);
    assert_eq!(jam.tapped.last().map(|(ssrc, _)| *ssrc), Some(2));
    assert!(numbers_go_on(&jam.tapped));
    jam.room.set_tapped(false);
    let before = jam.tapped.len();
    jam.play(1);
    assert_eq!(jam.tapped.len(), before);
}
