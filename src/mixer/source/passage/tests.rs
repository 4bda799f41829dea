//! Passages in virtual time: a sender of thirty pictures a second whose packets come 150 ms before they are due.

use crate::mixer::source::packet::FIXED_HEADER;

use super::*;

const FRAME: i64 = SECOND / 30;

/// From a packet's arrival to its place.
const AHEAD: i64 = 150 * MILLISECOND;

const WIDE: &[u8] = &[
    0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00,
    0x03, 0x03, 0xc0, 0xf1, 0x83, 0x19, 0x60,
];
const SMALL: &[u8] = &[
    0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01, 0x00, 0x00, 0x03,
    0x00, 0x3c, 0x0f, 0x16, 0x2e, 0x48,
];
const PICTURE: &[u8] = &[0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0];
const KEY: &[u8] = &[0x65, 0x88, 0x84, 0x00, 0x07];
const P: &[u8] = &[0x41, 0x9a, 0x22, 0x6c];
const B: &[u8] = &[0x01, 0x9e, 0x41, 0x79];

/// Who composes, decodes and broadcasts: frame after frame on a grid of its own, a third of a frame beside the sender's.
#[derive(Default)]
struct House {
    /// Composed or passed on, with whether it was passed.
    aired: Vec<(i64, bool)>,
    stopped_at: Option<i64>,
    keys: Vec<i64>,
    decoded: Vec<(i64, bool)>,
    /// The decoder takes a packet at once, unless it is slow.
    slow: bool,
}

const BESIDE: i64 = FRAME / 3;

impl House {
    /// The beat: up to 40 ms ago everything is composed that may be.
    fn beat(&mut self, now: i64) {
        loop {
            let next = match self.aired.last() {
                None => BESIDE,
                Some((last, _)) => ((last - BESIDE + FRAME / 2).div_euclid(FRAME) + 1) * FRAME + BESIDE,
            };
            if next > now - 40 * MILLISECOND || self.stopped_at.is_some_and(|at| next > at - FRAME / 2) {
                return;
            }
            self.aired.push((next, false));
        }
    }

    fn newest_decoded(&self) -> i64 {
        if self.slow { 0 } else { self.decoded.last().map_or(0, |(due, _)| *due) }
    }

    fn passed(&self) -> usize {
        self.aired.iter().filter(|(_, passed)| *passed).count()
    }

    /// Every picture follows the one before after about a frame, and who takes over begins with a keyframe.
    fn assert_whole(&self) {
        for pair in self.aired.windows(2) {
            let step = pair[1].0 - pair[0].0;
            assert!((FRAME / 2 - 2..=FRAME * 3 / 2 + 2).contains(&step), "{} ms at {:?}", step / MILLISECOND, pair[1]);
            assert!(!pair[1].1 || pair[0].1 || self.keys.contains(&pair[1].0), "no keyframe at {:?}", pair[1]);
        }
    }
}

impl Outlet for House {
    fn stop_composing_at(&mut self, due: i64) -> bool {
        let in_time = self.aired.last().is_none_or(|(last, _)| *last <= due - FRAME / 2);
        if in_time {
            self.stopped_at = Some(due);
            // What is composed until then is known already.
            self.beat(due + SECOND);
        }
        in_time
    }

    fn compose_after(&mut self, last: i64) {
        assert_eq!(self.aired.last().map(|(at, _)| *at), Some(last));
        self.stopped_at = None;
    }

    fn pass(&mut self, unit: Unit<i64>, record: &Bytes) {
        assert!(self.stopped_at.is_some(), "composed and passed on at the same time");
        assert_eq!(record[0], 1);
        self.aired.push((unit.due, true));
        self.keys.extend(unit.key.then_some(unit.due));
    }

    fn decode(&mut self, _: Bytes, due: i64, discontinued: bool) {
        self.decoded.push((due, discontinued));
    }
}

struct Jam {
    house: House,
    passage: Passage,
    now: i64,
    frame: i64,
    sequence: u16,
    keyframe_due: bool,
    asked: Vec<i64>,
    /// Whether the sender gives keyframes.
    answers: bool,
    parameters: [&'static [u8]; 2],
    bytes: usize,
}

fn limits() -> Limits {
    Limits::from(&ProgrammeSpec::default())
}

impl Jam {
    fn new() -> Self {
        Self {
            house: House::default(),
            passage: Passage::new(limits()),
            now: 0,
            frame: 0,
            sequence: 65_500,
            keyframe_due: true,
            asked: Vec::new(),
            answers: true,
            parameters: [WIDE, PICTURE],
            bytes: 4_000,
        }
    }

    fn packet(&mut self, nal: &[u8], marker: bool, lost: bool) {
        let due = self.frame * FRAME + AHEAD;
        let mut packet = vec![0x80, 96 | u8::from(marker) << 7];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend((self.frame as u32).to_be_bytes());
        packet.resize(FIXED_HEADER, 0);
        packet.extend_from_slice(nal);
        if marker {
            packet.resize(packet.len().max(self.bytes), 0x55);
        }
        self.sequence = self.sequence.wrapping_add(1);
        self.passage.packet(self.now, packet.into(), due, lost, &mut self.house);
    }

    fn picture(&mut self, nal: &[u8], lost: bool) {
        if std::mem::take(&mut self.keyframe_due) && nal == P {
            let [sequence, picture] = self.parameters;
            self.packet(sequence, false, lost);
            self.packet(picture, false, false);
            self.packet(KEY, true, false);
        } else {
            self.packet(nal, true, lost);
        }
    }

    /// A frame's time passes, in which `happens`.
    fn step(&mut self, happens: impl FnOnce(&mut Self)) {
        happens(self);
        self.frame += 1;
        while self.now < self.frame * FRAME {
            self.now += 10 * MILLISECOND;
            if self.passage.advance(self.now, self.house.newest_decoded(), &mut self.house) {
                self.asked.push(self.now);
                self.keyframe_due |= self.answers;
            }
            self.house.beat(self.now);
        }
        self.now = self.frame * FRAME;
    }

    fn play(&mut self, frames: usize) {
        (0..frames).for_each(|_| self.step(|jam| jam.picture(P, false)));
    }

    /// Plays until pictures are passed on.
    fn until_passing(&mut self) {
        for _ in 0..90 {
            if self.passage.is_passing() {
                return;
            }
            self.play(1);
        }
        panic!("nothing is passed on after 3 s");
    }
}

#[test]
fn a_picture_that_fits_is_passed_on_from_a_keyframe_on_that_is_asked_for_and_nothing_is_decoded() {
    let mut jam = Jam::new();
    jam.until_passing();
    assert!((46..60).contains(&jam.frame), "after {} frames", jam.frame);
    let decoded = jam.house.decoded.len();
    jam.play(300);
    assert!(jam.passage.is_passing());
    assert_eq!(jam.house.decoded.len(), decoded);
    assert!(jam.house.passed() > 300);
    jam.house.assert_whole();
    // A keyframe each two seconds, as its sender gives none by itself.
    let apart: Vec<_> = jam.house.keys.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(apart.len() >= 4, "{apart:?}");
    assert!(apart.iter().all(|step| (1900 * MILLISECOND..=2200 * MILLISECOND).contains(step)), "{apart:?}");
    assert_eq!(jam.passage.take_lateness().map(|late| late / MILLISECOND), Some(-150));
}

#[test]
fn a_scene_with_more_in_it_is_composed_as_soon_as_the_decoder_has_caught_up_without_a_picture_too_few_or_too_many() {
    let mut jam = Jam::new();
    jam.until_passing();
    jam.play(80);
    let (now, decoded) = (jam.now, jam.house.decoded.len());
    jam.passage.want(None, now, &mut jam.house);
    let caught_up = jam.house.decoded[decoded..].to_vec();
    let newest_key = jam.house.keys.last().copied();
    assert_eq!(caught_up.first().map(|(due, _)| *due), newest_key, "from the newest keyframe on");
    assert!(caught_up[0].1 && caught_up[1..].iter().all(|(_, discontinued)| !discontinued));
    jam.play(30);
    assert!(jam.passage.is_watching() && !jam.passage.is_needed());
    assert!(!jam.house.aired.last().expect("aired").1);
    jam.house.assert_whole();
    let now = jam.now;
    jam.passage.want(Some(limits()), now, &mut jam.house);
    jam.until_passing();
    jam.play(30);
    jam.house.assert_whole();
}

#[test]
fn whole_pictures_are_passed_on_while_a_slow_decoder_catches_up_but_not_for_ever() {
    let mut jam = Jam::new();
    jam.until_passing();
    jam.house.slow = true;
    let (now, passed) = (jam.now, jam.house.passed());
    jam.passage.want(None, now, &mut jam.house);
    jam.play(6);
    assert_eq!(jam.house.passed(), passed + 6);
    jam.play(60);
    assert!(jam.passage.is_watching() && jam.house.passed() < passed + 25);
    jam.house.assert_whole();
}

/// Something that happens to a picture that passes, and what it is called.
type Event = (&'static str, fn(&mut Jam));

#[test]
fn what_does_not_fit_ends_a_passage_for_a_while_and_never_leaves_a_hole() {
    let events: [Event; 8] = [
        ("a lost packet", |jam| jam.step(|jam| jam.picture(P, true))),
        ("a B-frame", |jam| jam.step(|jam| jam.picture(B, false))),
        ("a broken packet", |jam| jam.step(|jam| jam.picture(&[0x7c, 0x05, 0], false))),
        ("a stall", |jam| (0..20).for_each(|_| jam.step(|_| {}))),
        ("a hole of three frames", |jam| {
            jam.frame += 3;
            jam.play(1);
        }),
        ("another size", |jam| {
            (jam.parameters, jam.keyframe_due) = ([SMALL, PICTURE], true);
            jam.play(2);
            (jam.parameters, jam.keyframe_due) = ([WIDE, PICTURE], true);
        }),
        ("more bits than it may have", |jam| {
            jam.bytes = 20_000;
            jam.play(60);
            jam.bytes = 4_000;
        }),
        ("a step back in time", |jam| {
            jam.frame -= 1;
            jam.step(|jam| jam.picture(P, false));
        }),
    ];
    for (what, event) in events {
        let mut jam = Jam::new();
        jam.until_passing();
        jam.play(20);
        event(&mut jam);
        jam.play(15);
        assert!(jam.passage.is_watching(), "{what}");
        assert!(!jam.house.aired.last().expect("aired").1, "{what}");
        jam.house.assert_whole();
        jam.play(120);
        assert!(jam.passage.is_watching(), "{what}: too soon again");
        jam.until_passing();
        jam.house.assert_whole();
    }
}

#[test]
fn a_sender_without_keyframes_is_composed() {
    let mut jam = Jam::new();
    jam.until_passing();
    jam.answers = false;
    jam.play(150);
    assert!(jam.passage.is_watching());
    jam.house.assert_whole();
    // Neither is somebody who waits for one.
    let mut jam = Jam::new();
    jam.until_passing();
    jam.answers = false;
    let now = jam.now;
    assert!(jam.passage.force_keyframe(now));
    jam.play(40);
    assert!(jam.passage.is_watching());
    let now = jam.now;
    assert!(!jam.passage.force_keyframe(now), "the encoder makes it");
}

#[test]
fn a_keyframe_that_is_waited_for_is_asked_for_at_once() {
    let mut jam = Jam::new();
    jam.until_passing();
    jam.play(20);
    let (now, asked) = (jam.now, jam.asked.len());
    assert!(jam.passage.force_keyframe(now));
    jam.play(3);
    assert_eq!(jam.asked.len(), asked + 1);
    jam.play(30);
    assert_eq!(jam.asked.len(), asked + 1, "it has come");
    assert!(jam.passage.is_passing());
}

#[test]
fn who_never_fits_is_never_passed_on() {
    let changes: [fn(&mut Jam); 4] = [
        |jam| jam.parameters = [SMALL, PICTURE],
        |jam| jam.bytes = 20_000,
        |jam| jam.passage = Passage::new(Limits { fps: 60, ..limits() }),
        |jam| jam.passage = Passage::new(Limits { fps: 15, ..limits() }),
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let mut jam = Jam::new();
        change(&mut jam);
        jam.play(200);
        assert_eq!((jam.house.passed(), jam.asked.len()), (0, 0), "change {n}");
        jam.house.assert_whole();
    }
}

#[test]
fn a_source_that_leaves_is_composed_without_at_once() {
    let mut jam = Jam::new();
    jam.until_passing();
    jam.play(10);
    jam.passage.end(&mut jam.house);
    (0..20).for_each(|_| jam.step(|_| {}));
    assert!(jam.passage.is_watching());
    jam.house.assert_whole();
}
