//! One stream of three sizes that build on each other, on good links and on bad ones.

use std::time::Duration;

use crate::domain::room::producer::Encoding;
use crate::domain::room::receiving::tests::enter;
use crate::domain::room::receiving::tests::room;
use crate::domain::room::receiving::*;
use crate::domain::room::window::Arrival;
use crate::model::media::Codec;

/// Bits per second and height of the layers alone.
const LAYERS: [(usize, u16); 3] = [(150_000, 180), (450_000, 360), (900_000, 720)];
const SSRC: u32 = 1;
const FPS: usize = 20;

/// What a listener got of a picture: its highest layer, and whether its last packet said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    timestamp: u32,
    layer: u8,
    is_whole: bool,
}

struct Stage {
    room: Room,
    anna: ParticipantId,
    now: Instant,
    /// Whether sizes build on each other in keyframes only.
    key_mode: bool,
    pictures: u16,
    seq: u16,
    asked: bool,
    keyframes: usize,
    consumers: Vec<(ParticipantId, ConsumerId)>,
    got: Vec<Vec<Seen>>,
    numbers: Vec<Vec<u16>>,
    tapped: Vec<Seen>,
}

impl Stage {
    fn new(key_mode: bool, listeners: u64) -> Self {
        let mut room = room();
        let anna = enter(&mut room);
        let encoding = Encoding { codec: Codec::Vp9, payload_type: 98 };
        let camera = room.produce(anna, "0", TrackSource::Camera, encoding).expect("allowed");
        room.bind_source(anna, "0", None, SSRC);
        let consumers = tests::listeners(&mut room, camera, listeners);
        let count = consumers.len();
        Self {
            room,
            anna,
            now: Instant::now(),
            key_mode,
            pictures: 0,
            seq: 65_000,
            asked: true,
            keyframes: 0,
            consumers,
            got: vec![Vec::new(); count],
            numbers: vec![Vec::new(); count],
            tapped: Vec::new(),
        }
    }

    /// Pictures of two packets for each layer, and a tick ten times a second.
    fn play(&mut self, seconds: usize) {
        for _ in 0..seconds * FPS {
            self.now += Duration::from_millis(1_000 / FPS as u64);
            let is_key = std::mem::take(&mut self.asked);
            self.keyframes += usize::from(is_key);
            for layer in 0..3_u8 {
                for part in 0..2 {
                    self.send(is_key, layer, part);
                }
            }
            self.pictures += 1;
            if self.pictures.is_multiple_of(2) {
                self.room.choose_layers(self.now);
                self.asked |= !self.room.keyframes_due(self.now, |_| true).is_empty();
            }
        }
    }

    fn send(&mut self, is_key: bool, layer: u8, part: u8) {
        let is_spare = layer == 2 || (self.key_mode && !is_key);
        let temporal = [0, 2, 1, 2][usize::from(self.pictures % 4)];
        let has_structure = is_key && layer == 0 && part == 0;
        let bits = [(!is_key, 0x40), (part == 0, 8), (part == 1, 4), (has_structure, 2), (is_spare, 1)];
        let flags = bits.iter().filter(|(is_set, _)| *is_set).fold(0xa0, |flags, (_, bit)| flags | bit);
        let [high, low] = (self.pictures | 0x8000).to_be_bytes();
        let mut payload = vec![flags, high, low, temporal << 5 | 0x10 | layer << 1, 0];
        if has_structure {
            payload.push(0x50);
            for (_, height) in LAYERS {
                payload.extend((height * 16 / 9).to_be_bytes());
                payload.extend(height.to_be_bytes());
            }
        }
        payload.resize(LAYERS[usize::from(layer)].0 / 8 / FPS / 2, 0);
        let timestamp = u32::from(self.pictures) * 4_500;
        let producer = self.room.source(self.anna, SSRC).expect("bound");
        let packet = producer.read(SSRC, self.seq, timestamp, &payload);
        assert_eq!(packet.key, is_key && layer == 0 && part == 0);
        assert_eq!(producer.accept(self.now, &packet, &payload), Arrival::Fresh);
        let note = |got: &mut Vec<Seen>, out: Outgoing| {
            let is_whole = out.part == crate::domain::room::selector::Part::Last || (layer == 2 && part == 1);
            match got.last_mut() {
                Some(seen) if seen.timestamp == out.timestamp => (seen.layer, seen.is_whole) = (layer, is_whole),
                Some(_) | None => got.push(Seen { timestamp: out.timestamp, layer, is_whole }),
            }
        };
        for (n, consumer) in producer.consumers.iter_mut().enumerate() {
            if let Some(out) = consumer.forward(self.now, &packet) {
                note(&mut self.got[n], out);
                self.numbers[n].push(out.seq);
            }
        }
        if let Some(tap) = producer.tap(self.now, &packet) {
            note(&mut self.tapped, tap.out);
        }
        self.seq = self.seq.wrapping_add(1);
    }

    fn set_tile(&mut self, listener: usize, width: u16, height: u16) {
        let (participant, consumer) = self.consumers[listener];
        self.room.set_tile(participant, consumer, Size { width, height }).expect("its own");
    }

    fn fill(&mut self, peer: u64, share: f64) {
        (0..20).any(|_| self.room.lost(self.now, peer, share));
    }

    /// The layer a listener sees now, and how many pictures of the last second.
    fn sees(&self, listener: usize) -> (u8, usize) {
        let end = u32::from(self.pictures) * 4_500;
        let lately = self.got[listener].iter().filter(|seen| end - seen.timestamp <= 90_000).count();
        (self.got[listener].last().expect("something").layer, lately)
    }

    fn nothing_is_amiss(&self) {
        for (got, numbers) in self.got.iter().zip(&self.numbers) {
            assert!(numbers.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "a gap");
            assert!(got.iter().all(|seen| seen.is_whole), "a picture without its end");
        }
    }
}

#[test]
fn everybody_gets_the_layer_that_fills_their_tile() {
    for key_mode in [false, true] {
        let mut stage = Stage::new(key_mode, 3);
        stage.room.set_tapped(true);
        stage.set_tile(0, 320, 180);
        stage.set_tile(1, 640, 360);
        stage.set_tile(2, 1280, 720);
        stage.play(5);
        assert_eq!([stage.sees(0), stage.sees(1), stage.sees(2)], [(0, FPS), (1, FPS), (2, FPS)]);
        assert_eq!(stage.tapped.last().map(|seen| seen.layer), Some(2), "the programme gets the largest");
        let track = stage.room.roster().tracks[0].track;
        stage.room.set_tap_tile(track, Size { width: 640, height: 360 });
        stage.set_tile(0, 1280, 720);
        stage.set_tile(2, 320, 180);
        stage.play(3);
        assert_eq!([stage.sees(0), stage.sees(1), stage.sees(2)], [(2, FPS), (1, FPS), (0, FPS)]);
        assert_eq!(stage.tapped.last().map(|seen| seen.layer), Some(1), "or what is nearest to its place");
        assert!(stage.keyframes <= 5, "{} keyframes", stage.keyframes);
        assert!(stage.tapped.windows(2).all(|pair| pair[1].timestamp - pair[0].timestamp == 4_500));
        stage.nothing_is_amiss();
    }
}

#[test]
fn a_link_that_is_full_loses_pictures_of_the_smallest_size_last() {
    for key_mode in [false, true] {
        let mut stage = Stage::new(key_mode, 2);
        stage.play(6);
        assert_eq!(stage.sees(0), (2, FPS));
        let before = stage.keyframes;
        stage.fill(0, 0.9);
        stage.play(2);
        let (layer, pictures) = stage.sees(0);
        assert!(layer == 0 && pictures > 0, "{layer} with {pictures} pictures");
        assert_eq!(stage.sees(1), (2, FPS), "and nobody else");
        if !key_mode {
            assert_eq!(stage.keyframes, before, "which costs nobody a keyframe");
        }
        stage.play(60);
        assert_eq!(stage.sees(0), (2, FPS), "the trials hold");
        stage.nothing_is_amiss();
    }
}

#[test]
fn where_not_all_of_the_smallest_size_fits_some_pictures_of_it_do() {
    let mut stage = Stage::new(false, 1);
    stage.play(6);
    // Of 1.5 Mbit/s some 7 % come through: not the 150 kbit/s of the smallest size, but every fourth picture of it.
    stage.fill(0, 0.94);
    stage.play(2);
    let (layer, pictures) = stage.sees(0);
    assert_eq!(layer, 0);
    assert!((FPS / 4..FPS).contains(&pictures), "{pictures} pictures a second");
    stage.nothing_is_amiss();
}
