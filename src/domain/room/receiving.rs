//! What receivers and taps get of producers with several layers, decided anew ten times a second.

use std::time::Instant;

use crate::domain::room::Room;
use crate::domain::room::downlink::Downlink;
use crate::domain::room::forwarder::Aim;
use crate::domain::room::layers::Ladder;
use crate::domain::room::layers::Wish;
use crate::domain::room::layers::share;
use crate::domain::room::picture::Size;
use crate::domain::room::producer::Consumer;
use crate::domain::room::words::RoomError;
use crate::domain::room::words::TrackSource;
use crate::model::id::ConsumerId;
use crate::model::id::ParticipantId;
use crate::model::id::TrackId;
use crate::model::media::MediaKind;

/// What a screen has before a camera of the same priority: it is read, a face is only seen.
const SCREEN_FIRST: u8 = 64;

impl Room {
    /// Notes how large one's own consumer is shown, in device pixels.
    ///
    /// # Errors
    /// [`RoomError::UnknownConsumer`].
    pub fn set_tile(&mut self, participant: ParticipantId, id: ConsumerId, tile: Size) -> Result<(), RoomError> {
        let mut consumers = self.producers.iter_mut().flat_map(|p| &mut p.consumers);
        let own = consumers.find(|consumer| consumer.id == id && consumer.participant == participant);
        own.ok_or(RoomError::UnknownConsumer)?.tile = Some(tile);
        Ok(())
    }

    /// Notes how large a track stands in the programme.
    pub fn set_tap_tile(&mut self, track: TrackId, tile: Size) {
        let producer = self.producers.iter_mut().find(|p| p.track == track);
        if let Some(tap) = producer.and_then(|producer| producer.tap.as_mut()) {
            tap.tile = Some(tile);
        }
    }

    /// Notes whether anybody taps the room.
    pub fn set_tapped(&mut self, tapped: bool) {
        if self.is_tapped != tapped {
            self.is_tapped = tapped;
            self.producers.iter_mut().for_each(|producer| producer.set_tapped(tapped));
        }
    }

    /// A receiving peer's estimate of its link, in bits of video per second. `true` if it is found full.
    pub fn estimated(&mut self, now: Instant, peer: u64, bits: u64) -> bool {
        let is_full = self.downlinks.get_mut(&peer).is_some_and(|downlink| downlink.estimated(now, bits));
        if is_full {
            self.choose_layers(now);
        }
        is_full
    }

    /// A receiving peer's report that this share of the packets of an outlet of video is lost. `true` if its link is found full.
    pub fn lost(&mut self, now: Instant, peer: u64, share: f64) -> bool {
        let is_full = self.downlinks.get_mut(&peer).is_some_and(|downlink| downlink.lost(now, share));
        if is_full {
            self.choose_layers(now);
        }
        is_full
    }

    /// A receiving peer is connected, for the first time or by another way: what was found out about its link is forgotten.
    pub fn link_is_new(&mut self, now: Instant, peer: u64) {
        if let Some(downlink) = self.downlinks.get_mut(&peer) {
            *downlink = Downlink::by_another_way(now);
        }
    }

    /// Whether the link of a receiving peer was found full a moment ago.
    pub fn is_full(&self, now: Instant, peer: u64) -> bool {
        self.downlinks.get(&peer).is_some_and(|downlink| downlink.is_full(now))
    }

    /// Aims every consumer's and tap's forwarder at the layer it is to get.
    pub fn choose_layers(&mut self, now: Instant) {
        let mut asked: Vec<Asked> = Vec::new();
        for (index, producer) in self.producers.iter_mut().enumerate() {
            if producer.info.kind != MediaKind::Video {
                continue;
            }
            let (ladder, sources) = producer.ladder(now);
            if producer.sources.len() > 1
                && let Some(tap) = &mut producer.tap
                && let Some(layer) = ladder.nearest(tap.tile)
            {
                tap.forwarder.aim(Aim::Only(sources[layer]));
            }
            let first = if producer.info.source == TrackSource::Screen { SCREEN_FIRST } else { 0 };
            let is_held = producer.is_held();
            asked.extend(producer.consumers.iter().enumerate().map(|(place, consumer)| Asked {
                peer: consumer.outlet.peer,
                producer: index,
                consumer: place,
                sources,
                wish: wish(consumer, ladder, &sources, first, is_held),
            }));
        }
        asked.sort_by_key(|asked| asked.peer);
        self.downlinks.retain(|peer, _| asked.binary_search_by_key(peer, |asked| asked.peer).is_ok());
        let mut wishes = Vec::new();
        for receiver in asked.chunk_by(|a, b| a.peer == b.peer) {
            wishes.clear();
            wishes.extend(receiver.iter().enumerate().map(|(of, asked)| Wish { of, ..asked.wish }));
            let downlink = self.downlinks.entry(receiver[0].peer).or_insert_with(|| Downlink::new(now));
            fit(now, downlink, &mut wishes);
            for wish in wishes.iter().filter(|wish| wish.wanted.is_some()) {
                let asked = &receiver[wish.of];
                let producer = &mut self.producers[asked.producer];
                let is_layered = producer.sources.len() > 1;
                let aim = match wish.granted {
                    None => Aim::Nothing,
                    Some(layer) if is_layered => Aim::Only(asked.sources[layer]),
                    Some(_) => Aim::Any,
                };
                producer.consumers[asked.consumer].forwarder.aim(aim);
            }
        }
    }
}

/// A consumer, and what it is to be asked for.
struct Asked {
    peer: u64,
    producer: usize,
    consumer: usize,
    sources: [u32; crate::domain::room::forwarder::MAX_SOURCES],
    wish: Wish,
}

fn wish(consumer: &Consumer, ladder: Ladder, sources: &[u32], first: u8, is_held: bool) -> Wish {
    let flowing = consumer.forwarder.flowing();
    let current = sources[..ladder.layers().len()].iter().position(|source| Some(*source) == flowing);
    let wanted = if consumer.is_held() || is_held { None } else { ladder.nearest(consumer.tile) };
    let priority = consumer.priority.saturating_add(first);
    Wish { of: 0, ladder, priority, wanted, current, granted: None }
}

/// Grants what fits, after a trial of more where one is due.
fn fit(now: Instant, downlink: &mut Downlink, wishes: &mut [Wish]) {
    let rate = |layer: fn(&Wish) -> Option<usize>, wishes: &[Wish]| -> u64 {
        wishes.iter().filter_map(|wish| layer(wish).map(|layer| wish.ladder.rate(layer))).sum()
    };
    downlink.sending(now, rate(|wish| wish.wanted.and(wish.current), wishes));
    let least = rate(|wish| wish.wanted.map(|_| 0), wishes);
    if let Some(more) = share(downlink.room(least), wishes)
        && downlink.step(now, more)
    {
        share(downlink.room(least), wishes);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
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
        jam.room.estimated(jam.now, 0, 1_200_000);
        jam.room.estimated(jam.now, 0, 255_000);
        jam.play(2);
        assert_eq!((jam.sees(0), jam.sees(1)), (Some(1), Some(3)));
        jam.play(10);
        assert_eq!(jam.sees(0), Some(3), "and the large one again when the trials hold");
        jam.room.estimated(jam.now, 0, 40_000);
        jam.play(1);
        let before = jam.got[0].len();
        jam.play(3);
        assert_eq!(jam.got[0].len(), before, "nothing where not even the smallest fits");
        jam.room.link_is_new(jam.now, 0);
        jam.room.lost(jam.now, 0, 1.0);
        jam.room.estimated(jam.now, 0, 10_000);
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
