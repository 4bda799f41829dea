//! One listener behind a link that is modelled packet by packet.

use std::time::Duration;
use std::time::Instant;

use crate::domain::room::Room;
use crate::domain::room::producer::Encoding;
use crate::domain::room::producer::Outlet;
use crate::domain::room::receiving::tests::enter;
use crate::domain::room::receiving::tests::listen;
use crate::domain::room::receiving::tests::room;
use crate::domain::room::transit::Passage;
use crate::domain::room::words::TrackSource;
use crate::model::id::ParticipantId;
use crate::model::media::Codec;

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
        let mut room = room();
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
            listen(&mut room, listener, producer, rate, Outlet { peer: PEER, lane });
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
