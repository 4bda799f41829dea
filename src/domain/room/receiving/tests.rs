//! What receivers get, in virtual time: the layers that fill their tiles, and what comes through links of all kinds.

/// Three layers on good links, and what is said of bad ones.
mod jam {
    use std::time::Duration;

    use super::super::*;
    use crate::domain::room::Limits;
    use crate::domain::room::forwarder::Forwarder;
    use crate::domain::room::producer::Encoding;
    use crate::domain::room::producer::Outlet;
    use crate::domain::room::window::Arrival;
    use crate::domain::room::words::Newcomer;
    use crate::model::media::Codec;
    use crate::model::role::RoomRole;

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
            let mut room = Room::new(Limits { participants: 64, tracks_per_participant: 2 }, 0);
            let enter = |room: &mut Room| {
                let participant = ParticipantId::generate();
                let user = format!("user-{participant}").parse().expect("a user");
                let newcomer = Newcomer { participant, user, name: "Somebody".to_owned(), role: RoomRole::Musician };
                room.join(newcomer).expect("there is room");
                participant
            };
            let anna = enter(&mut room);
            let encoding = Encoding { codec: Codec::Vp8, payload_type: 96 };
            let camera = room.produce(anna, "0", TrackSource::Camera, encoding).expect("allowed");
            for (name, (_, _, ssrc)) in ["q", "h", "f"].into_iter().zip(LAYERS) {
                room.bind_source(anna, "0", Some(name), ssrc);
            }
            let mut consumers = Vec::new();
            for peer in 0..listeners {
                let participant = enter(&mut room);
                let outlet = Outlet { peer, lane: 0 };
                let id = ConsumerId::generate();
                room.consume(camera, Consumer::new(id, participant, outlet, Forwarder::new(90_000))).expect("known");
                consumers.push((participant, id));
            }
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
}

/// One stream of three sizes that build on each other, on good links and on bad ones.
mod scalable {
    use std::time::Duration;

    use super::super::*;
    use crate::domain::room::Limits;
    use crate::domain::room::forwarder::Forwarder;
    use crate::domain::room::producer::Encoding;
    use crate::domain::room::producer::Outlet;
    use crate::domain::room::window::Arrival;
    use crate::domain::room::words::Newcomer;
    use crate::model::media::Codec;
    use crate::model::role::RoomRole;

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
            let mut room = Room::new(Limits { participants: 64, tracks_per_participant: 2 }, 0);
            let enter = |room: &mut Room| {
                let participant = ParticipantId::generate();
                let user = format!("user-{participant}").parse().expect("a user");
                let newcomer = Newcomer { participant, user, name: "Somebody".to_owned(), role: RoomRole::Musician };
                room.join(newcomer).expect("there is room");
                participant
            };
            let anna = enter(&mut room);
            let encoding = Encoding { codec: Codec::Vp9, payload_type: 98 };
            let camera = room.produce(anna, "0", TrackSource::Camera, encoding).expect("allowed");
            room.bind_source(anna, "0", None, SSRC);
            let mut consumers = Vec::new();
            for peer in 0..listeners {
                let participant = enter(&mut room);
                let id = ConsumerId::generate();
                let forwarder = Forwarder::new(90_000);
                let consumer = Consumer::new(id, participant, Outlet { peer, lane: 0 }, forwarder);
                room.consume(camera, consumer).expect("known");
                consumers.push((participant, id));
            }
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
}

/// One listener behind a link that is modelled packet by packet.
mod links {
    use std::time::Duration;
    use std::time::Instant;

    use crate::domain::room::Limits;
    use crate::domain::room::Room;
    use crate::domain::room::forwarder::Forwarder;
    use crate::domain::room::producer::Consumer;
    use crate::domain::room::producer::Encoding;
    use crate::domain::room::producer::Outlet;
    use crate::domain::room::transit::Passage;
    use crate::domain::room::words::Newcomer;
    use crate::domain::room::words::TrackSource;
    use crate::model::id::ConsumerId;
    use crate::model::id::ParticipantId;
    use crate::model::media::Codec;
    use crate::model::role::RoomRole;

    /// Bits per second, height, and SSRC of the camera's layers.
    const LAYERS: [(u64, u16, u32); 3] = [(130_000, 180, 2), (500_000, 360, 3), (1_200_000, 720, 4)];
    const SOUND: u32 = 1;
    /// Bytes of a packet of sound: 256 kbit/s in frames of 10 ms.
    const FRAME: usize = 320;
    const PEER: u64 = 7;

    /// A bucket of tokens with a queue in front of it that drops what it has no place for.
    #[derive(Clone, Copy, Debug)]
    struct Link {
        bits: u64,
        queue: Duration,
        jitter: Duration,
        /// Of a hundred packets.
        lost: u64,
    }

    const WIDE: Link = Link { bits: 50_000_000, queue: Duration::from_millis(300), jitter: Duration::ZERO, lost: 0 };

    fn narrow(bits: u64) -> Link {
        Link { bits, queue: Duration::from_millis(500), ..WIDE }
    }

    /// Anna plays, and somebody listens.
    struct Evening {
        room: Room,
        anna: ParticipantId,
        start: Instant,
        now: Instant,
        /// Steps of 10 ms so far.
        steps: u64,
        link: Link,
        free_at: Instant,
        luck: u64,
        keyframes_owed: Vec<u32>,
        seqs: [u16; 5],
        /// Packets of video under way.
        under_way: Vec<Passage>,
        /// Of video, since the last report: sent, and lost.
        reported: (u32, u32),
        heard: Heard,
        /// By second: the SSRC of the picture that came last, 0 for none.
        seen: Vec<u32>,
        seeing: u32,
    }

    /// What became of the sound since somebody asked.
    #[derive(Clone, Copy, Debug, Default)]
    struct Heard {
        sent: u32,
        lost: u32,
        /// The longest that a packet waited.
        late: Duration,
    }

    impl Evening {
        fn new(link: Link) -> Self {
            let mut room = Room::new(Limits { participants: 4, tracks_per_participant: 2 }, 0);
            let enter = |room: &mut Room| {
                let participant = ParticipantId::generate();
                let user = format!("user-{participant}").parse().expect("a user");
                let newcomer = Newcomer { participant, user, name: "Somebody".to_owned(), role: RoomRole::Musician };
                room.join(newcomer).expect("there is room");
                participant
            };
            let (anna, listener) = (enter(&mut room), enter(&mut room));
            let opus = Encoding { codec: Codec::Opus, payload_type: 111 };
            let vp8 = Encoding { codec: Codec::Vp8, payload_type: 96 };
            let sound = room.produce(anna, "0", TrackSource::Microphone, opus).expect("allowed");
            let camera = room.produce(anna, "1", TrackSource::Camera, vp8).expect("allowed");
            room.bind_source(anna, "0", None, SOUND);
            for (name, (_, _, ssrc)) in ["q", "h", "f"].into_iter().zip(LAYERS) {
                room.bind_source(anna, "1", Some(name), ssrc);
            }
            for (lane, (producer, rate)) in [(sound, 48_000), (camera, 90_000)].into_iter().enumerate() {
                let outlet = Outlet { peer: PEER, lane };
                let consumer = Consumer::new(ConsumerId::generate(), listener, outlet, Forwarder::new(rate));
                room.consume(producer, consumer).expect("known");
            }
            let start = Instant::now();
            Self {
                room,
                anna,
                start,
                now: start,
                steps: 0,
                link,
                free_at: start,
                luck: 88_172_645_463_325_252,
                keyframes_owed: vec![2, 3, 4],
                seqs: [0; 5],
                under_way: Vec::new(),
                reported: (0, 0),
                heard: Heard::default(),
                seen: Vec::new(),
                seeing: 0,
            }
        }

        fn chance(&mut self, of: u64) -> u64 {
            self.luck ^= self.luck << 13;
            self.luck ^= self.luck >> 7;
            self.luck ^= self.luck << 17;
            self.luck % of.max(1)
        }

        /// When a packet of so many bytes arrives, if it does.
        fn carry(&mut self, bytes: usize) -> Option<Instant> {
            let begins = self.free_at.max(self.now);
            if begins - self.now > self.link.queue || self.chance(100) < self.link.lost {
                return None;
            }
            self.free_at = begins + Duration::from_micros(bytes as u64 * 8_000_000 / self.link.bits);
            let jitter = u64::try_from(self.link.jitter.as_micros()).expect("short");
            Some(self.free_at + Duration::from_micros(self.chance(jitter)))
        }

        fn carry_video(&mut self, bytes: usize) -> bool {
            self.reported.0 += 1;
            let Some(at) = self.carry(bytes) else {
                self.reported.1 += 1;
                return false;
            };
            // The receiver's clock began on another day.
            let arrived = Duration::from_secs(86_400) + (at - self.start);
            self.under_way.push(Passage { sent: self.now, bytes, arrived });
            true
        }

        /// One packet through the room; whether it goes out.
        fn forward(&mut self, ssrc: u32, timestamp: u32, payload: &[u8]) -> bool {
            let seq = &mut self.seqs[ssrc as usize];
            *seq = seq.wrapping_add(1);
            let seq = *seq;
            let producer = self.room.source(self.anna, ssrc).expect("bound");
            let packet = producer.read(ssrc, seq, timestamp, payload);
            producer.accept(self.now, &packet, payload);
            producer.consumers[0].forward(self.now, &packet).is_some()
        }

        fn step(&mut self) {
            self.steps += 1;
            self.now = self.start + Duration::from_millis(self.steps * 10);
            let clock = u32::try_from(self.steps).expect("short");
            if self.forward(SOUND, clock * 480, &[0; FRAME]) {
                self.heard.sent += 1;
                match self.carry(FRAME + 50) {
                    Some(at) => self.heard.late = self.heard.late.max(at - self.now),
                    None => self.heard.lost += 1,
                }
            }
            if self.steps.is_multiple_of(5) {
                LAYERS.iter().for_each(|layer| self.picture(*layer, clock));
            }
            if self.steps.is_multiple_of(10) {
                self.report();
                self.room.choose_layers(self.now);
                let due = self.room.keyframes_due(self.now, |_| true);
                self.keyframes_owed.extend(due.iter().map(|request| request.ssrc));
                for (_, train) in self.room.trains_due(self.now) {
                    for _ in train {
                        self.carry_video(62);
                    }
                }
            }
            if self.steps.is_multiple_of(100) {
                self.seen.push(std::mem::take(&mut self.seeing));
            }
        }

        /// Twenty pictures a second; a keyframe is five times as large as another.
        fn picture(&mut self, (rate, height, ssrc): (u64, u16, u32), clock: u32) {
            let is_key = self.keyframes_owed.contains(&ssrc);
            self.keyframes_owed.retain(|owed| *owed != ssrc);
            let mut left = usize::try_from(rate / 160).expect("small") * if is_key { 5 } else { 1 };
            let mut begins = true;
            while left > 0 {
                let mut payload = vec![0; left.clamp(20, 1_100)];
                left -= left.min(1_100);
                payload[0] = if begins { 0x10 } else { 0 };
                payload[1] = u8::from(!is_key);
                payload[4..7].copy_from_slice(&[0x9d, 0x01, 0x2a]);
                payload[7..9].copy_from_slice(&(height * 16 / 9).to_le_bytes());
                payload[9..11].copy_from_slice(&height.to_le_bytes());
                begins = false;
                if self.forward(ssrc, clock * 900, &payload) && self.carry_video(payload.len() + 58) {
                    self.seeing = ssrc;
                }
            }
        }

        /// Ten times a second what came; once a second what is missing.
        fn report(&mut self) {
            let now = Duration::from_secs(86_400) + (self.now - self.start);
            let came: Vec<_> = self.under_way.extract_if(.., |passage| passage.arrived <= now).collect();
            if !came.is_empty() {
                self.room.passed(self.now, PEER, &came);
            }
            if self.steps.is_multiple_of(100) {
                let (sent, lost) = std::mem::take(&mut self.reported);
                if sent > 0 {
                    self.room.lost(self.now, PEER, f64::from(lost) / f64::from(sent));
                }
            }
        }

        /// Lets so many seconds pass; what became of the sound in them.
        fn play(&mut self, seconds: u64) -> Heard {
            self.heard = Heard::default();
            for _ in 0..seconds * 100 {
                self.step();
            }
            self.heard
        }

        /// How often the picture became another one in the last seconds.
        fn changes(&self, seconds: usize) -> usize {
            self.seen[self.seen.len() - seconds..].windows(2).filter(|pair| pair[0] != pair[1]).count()
        }

        fn seconds_of(&self, ssrc: u32, seconds: usize) -> usize {
            self.seen[self.seen.len() - seconds..].iter().filter(|seen| **seen == ssrc).count()
        }
    }

    #[test]
    fn on_a_link_for_the_sound_alone_the_sound_is_whole() {
        let mut evening = Evening::new(narrow(300_000));
        evening.play(8);
        let heard = evening.play(300);
        assert_eq!(heard.lost, 0, "{heard:?} {:?}", evening.seen);
        assert!(heard.late < Duration::from_millis(500), "{heard:?} {:?}", evening.seen);
        assert!(evening.seconds_of(0, 300) >= 295, "next to no picture is tried: {:?}", evening.seen);
    }

    #[test]
    fn a_link_that_becomes_wide_again_shows_the_picture_soon() {
        let mut evening = Evening::new(narrow(300_000));
        evening.play(20);
        assert_eq!(evening.seconds_of(0, 10), 10);
        evening.link = WIDE;
        evening.play(20);
        assert_eq!(evening.seconds_of(4, 2), 2, "{:?}", evening.seen);
    }

    #[test]
    fn a_link_gets_what_fits_beside_the_sound_and_stays_with_it() {
        for (bits, layer) in [(550_000, 2), (1_000_000, 3), (2_500_000, 4)] {
            let mut evening = Evening::new(narrow(bits));
            evening.play(30);
            let heard = evening.play(300);
            assert_eq!(heard.lost, 0, "{bits} bit/s: {heard:?} {:?}", evening.seen);
            assert!(evening.seconds_of(layer, 300) >= 270, "{bits} bit/s: {:?}", evening.seen);
            assert!(evening.changes(300) <= 12, "{bits} bit/s: {:?}", evening.seen);
        }
    }

    #[test]
    fn a_link_with_room_for_all_gets_the_largest_picture_within_seconds() {
        let mut evening = Evening::new(narrow(5_000_000));
        let heard = evening.play(8);
        assert_eq!((heard.lost, evening.seconds_of(4, 1)), (0, 1), "{:?}", evening.seen);
        evening.play(120);
        assert_eq!(evening.changes(120), 0, "{:?}", evening.seen);
    }

    #[test]
    fn packets_that_come_a_little_early_or_late_do_not_make_a_full_link() {
        for (jitter, lost) in [(100, 0), (30, 5), (0, 20), (100, 10)] {
            let mut evening = Evening::new(Link { jitter: Duration::from_millis(jitter), lost, ..WIDE });
            evening.play(10);
            evening.play(300);
            assert_eq!(evening.seconds_of(4, 300), 300, "{jitter} ms, {lost} %: {:?}", evening.seen);
        }
    }

    #[test]
    fn jitter_hides_no_full_link() {
        let mut evening = Evening::new(Link { jitter: Duration::from_millis(60), ..narrow(550_000) });
        evening.play(30);
        let heard = evening.play(300);
        assert!(heard.lost * 1_000 <= heard.sent, "{heard:?} {:?}", evening.seen);
        assert!(evening.seconds_of(4, 300) <= 5, "{:?}", evening.seen);
    }

    #[test]
    fn a_link_without_a_queue_is_found_out_by_what_is_lost() {
        let mut evening = Evening::new(Link { queue: Duration::from_millis(20), ..narrow(550_000) });
        evening.play(30);
        let heard = evening.play(120);
        assert!(heard.lost * 50 <= heard.sent, "{heard:?} {:?}", evening.seen);
    }
}
