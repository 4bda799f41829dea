//! Streams in layers as browsers send them, over networks that lose and reorder, to a receiver that decodes in thought.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// How the layers of a stream build on each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// On the one below in every picture (`L3T3`).
    Full,
    /// On the one below in keyframes only (`L3T3_KEY`).
    Key,
}

/// Temporal layers of successive pictures (the patterns of one, two and three layers in W3C's WebRTC SVC).
const PATTERNS: [&[u8]; 3] = [&[0], &[0, 1], &[0, 2, 1, 2]];

/// A packet as sent, with what it is to a decoder.
#[derive(Clone, Copy, Debug)]
struct Sent {
    packet: Packet,
    picture: usize,
    marker: bool,
}

/// A stream of so many pictures from its first keyframe on.
#[derive(Clone, Debug)]
struct Stream {
    mode: Mode,
    spatial: u8,
    /// By picture: whether it is a keyframe, its temporal layer, and the picture that it builds on.
    pictures: Vec<(bool, u8, Option<usize>)>,
    packets: Vec<Sent>,
}

fn stream(mode: Mode, spatial: u8, pattern: usize, keys: &[usize], lengths: &[u8], first: (u16, u32, u16)) -> Stream {
    let mut made = Stream { mode, spatial, pictures: Vec::new(), packets: Vec::new() };
    let mut since_key = 0;
    let (mut seq, time, number) = first;
    for picture in 0..lengths.len() / usize::from(spatial) {
        let is_key = picture == 0 || keys.contains(&picture);
        since_key = if is_key { 0 } else { since_key + 1 };
        let temporal = PATTERNS[pattern][since_key % PATTERNS[pattern].len()];
        let builds_on = made.pictures.iter().rposition(|(_, below, _)| *below < temporal || *below == 0);
        made.pictures.push((is_key, temporal, builds_on.filter(|_| !is_key)));
        for layer in 0..spatial {
            let packets = lengths[picture * usize::from(spatial) + usize::from(layer)];
            for part in 0..packets {
                let frame = Frame {
                    spatial: layer,
                    temporal,
                    begins: part == 0,
                    ends: part + 1 == packets,
                    is_predicted: !is_key,
                    is_spare: layer + 1 == spatial || (mode == Mode::Key && !is_key),
                    is_switching_point: true,
                    top: (is_key && layer == 0 && part == 0).then_some(spatial - 1),
                    number: None,
                };
                let picture_number = number.wrapping_add(u16::try_from(picture).expect("few")) & 0x7fff;
                let numbers = Numbers { picture: picture_number, is_short: false, base: None };
                let timestamp = time.wrapping_add(u32::try_from(picture).expect("few") * 3_000);
                let packet = Packet { seq, timestamp, numbers: Some(numbers), frame };
                let marker = layer + 1 == spatial && frame.ends;
                made.packets.push(Sent { packet, picture, marker });
                seq = seq.wrapping_add(1);
            }
        }
    }
    made
}

fn streams(pictures: std::ops::Range<usize>) -> impl Strategy<Value = Stream> {
    let lengths = (1..4_u8, pictures).prop_flat_map(|(spatial, pictures)| {
        (Just(spatial), prop::collection::vec(1..4_u8, pictures * usize::from(spatial)))
    });
    let keys = prop::collection::vec(1..80_usize, 0..6);
    (lengths, prop_oneof![Just(Mode::Full), Just(Mode::Key)], 0..3_usize, keys, any::<(u16, u32, u16)>()).prop_map(
        |((spatial, lengths), mode, pattern, keys, first)| stream(mode, spatial, pattern, &keys, &lengths, first),
    )
}

fn layers(spatial: u8, temporal: u8) -> Layers {
    Layers { spatial, temporal }
}

fn wishes() -> impl Strategy<Value = Vec<(usize, Layers)>> {
    let wish = prop_oneof![4 => (0..3_u8, 0..3_u8).prop_map(|(s, t)| layers(s, t)), 1 => Just(Layers::ALL)];
    prop::collection::vec((0..600_usize, wish), 0..12)
}

/// What one receiver got of a stream.
#[derive(Debug, Default)]
struct Got {
    /// By place in the order of numbers, without wraps: the packet, and how much of it came.
    packets: BTreeMap<i64, (Sent, Part)>,
    newest: Option<(u16, i64)>,
}

impl Got {
    fn take(&mut self, sent: Sent, number: u16, part: Part) {
        let (last, place) = self.newest.unwrap_or((number, 0));
        let place = place + i64::from(number.wrapping_sub(last).cast_signed());
        if self.newest.is_none_or(|(_, newest)| place >= newest) {
            self.newest = Some((number, place));
        }
        let twice = self.packets.insert(place, (sent, part));
        assert!(twice.is_none(), "number {number} was used twice");
    }

    /// The pictures of which something came, each with its largest layer.
    fn pictures(&self) -> BTreeMap<usize, u8> {
        let mut pictures = BTreeMap::new();
        for (sent, _) in self.packets.values().filter(|(_, part)| *part != Part::Number) {
            let top: &mut u8 = pictures.entry(sent.picture).or_default();
            *top = (*top).max(sent.packet.frame.spatial);
        }
        pictures
    }

    /// The frames that can be decoded, by picture and layer.
    fn decodable(&self, stream: &Stream) -> BTreeSet<(usize, u8)> {
        let mut came: BTreeMap<(usize, u8), usize> = BTreeMap::new();
        for (sent, _) in self.packets.values().filter(|(_, part)| *part != Part::Number) {
            *came.entry((sent.picture, sent.packet.frame.spatial)).or_default() += 1;
        }
        let mut whole: BTreeMap<(usize, u8), usize> = BTreeMap::new();
        for sent in &stream.packets {
            *whole.entry((sent.picture, sent.packet.frame.spatial)).or_default() += 1;
        }
        let mut decodable = BTreeSet::new();
        for (frame, packets) in &whole {
            let (picture, layer) = *frame;
            let (is_key, _, before) = stream.pictures[picture];
            let has_below =
                layer == 0 || (stream.mode == Mode::Key && !is_key) || decodable.contains(&(picture, layer - 1));
            let has_before = before.is_none_or(|before| decodable.contains(&(before, layer)));
            if came.get(frame) == Some(packets) && has_below && has_before {
                decodable.insert(*frame);
            }
        }
        decodable
    }
}

/// Feeds packets in this order, with the wishes that come before the n-th.
fn receive(arrivals: &[Sent], wishes: &[(usize, Layers)]) -> (Selector, Got) {
    let mut selector = Selector::new(Layers::ALL, &arrivals[0].packet, 65_530);
    let mut got = Got::default();
    for (n, sent) in arrivals.iter().enumerate() {
        if let Some((_, wanted)) = wishes.iter().rev().find(|(at, _)| *at == n) {
            selector.want(*wanted);
        }
        if let Some((number, part)) = selector.take(&sent.packet) {
            got.take(*sent, number, part);
        }
    }
    (selector, got)
}

/// The stream with some of its packets lost and some overtaken, its first one excepted.
fn disturbed(stream: &Stream, fates: &[(u8, usize)]) -> Vec<Sent> {
    let mut arrivals: Vec<(usize, Sent)> = Vec::new();
    for (at, (sent, (luck, late))) in stream.packets.iter().zip(fates.iter().cycle()).enumerate() {
        match luck {
            0 if at > 0 => {}
            1 if at > 0 => arrivals.push((at + late, *sent)),
            _ => arrivals.push((at, *sent)),
        }
    }
    arrivals.sort_by_key(|(at, _)| *at);
    arrivals.into_iter().map(|(_, sent)| sent).collect()
}

#[test]
fn a_small_tile_gets_the_smallest_layer_and_a_large_one_the_largest() {
    for mode in [Mode::Full, Mode::Key] {
        let stream = stream(mode, 3, 2, &[40], &[2; 240], (65_000, 7, 0x7ff0));
        let wishes = [(0, layers(0, 2)), (200, layers(2, 2))];
        let (_, got) = receive(&stream.packets, &wishes);
        let seen: Vec<u8> = got.pictures().into_values().collect();
        // The wish of packet 200 comes within picture 33, and the next keyframe is picture 40.
        assert_eq!(seen[1..40], [0; 39], "{mode:?}");
        assert_eq!(seen[40..], [2; 40], "{mode:?}");
        let packets = |picture| got.packets.values().filter(|(sent, _)| sent.picture == picture).count();
        assert_eq!(packets(20), 2);
        assert_eq!(packets(40), 6, "all layers of a keyframe");
        assert_eq!(packets(50), if mode == Mode::Full { 6 } else { 2 }, "and later what the largest needs");
    }
}

#[test]
fn fewer_layers_come_at_once_where_the_receiver_has_all_below() {
    for (mode, needs_keyframe) in [(Mode::Full, false), (Mode::Key, true)] {
        let stream = stream(mode, 3, 2, &[40], &[2; 240], (0, 0, 0));
        let (selector, got) = receive(&stream.packets[..120], &[(0, layers(2, 2)), (90, layers(1, 2))]);
        assert_eq!(selector.needs_keyframe(), needs_keyframe, "{mode:?}");
        assert_eq!(got.pictures()[&18], if needs_keyframe { 2 } else { 1 });
        let (selector, got) = receive(&stream.packets, &[(0, layers(2, 2)), (90, layers(1, 2))]);
        assert!(!selector.needs_keyframe());
        assert_eq!(got.pictures()[&45], 1);
        assert_eq!(got.pictures().len(), 80, "and no picture is left out");
    }
}

#[test]
fn more_pictures_come_after_a_switching_point_only() {
    let mut stream = stream(Mode::Full, 1, 2, &[], &[1; 32], (0, 0, 0));
    for sent in &mut stream.packets {
        sent.packet.frame.is_switching_point = sent.picture == 16;
    }
    let wishes = [(1, layers(0, 0)), (10, layers(0, 2))];
    let got: Vec<usize> = receive(&stream.packets, &wishes).1.pictures().into_keys().collect();
    assert_eq!(got[..5], [0, 4, 8, 12, 16]);
    assert_eq!(got[5..], (17..32).collect::<Vec<_>>());
}

#[test]
fn what_is_lost_of_layers_that_do_not_go_out_leaves_no_hole() {
    let stream = stream(Mode::Full, 3, 0, &[], &[3; 60], (0, 0, 0));
    let (_, whole) = receive(&stream.packets, &[(0, layers(0, 0))]);
    // Everything of the layers above is lost but the last packet of each picture, or but the first.
    for kept in [5, 0] {
        let arrivals: Vec<Sent> = stream
            .packets
            .iter()
            .enumerate()
            .filter(|(n, sent)| sent.packet.frame.spatial == 0 || n % 9 == 3 + kept)
            .map(|(_, sent)| *sent)
            .collect();
        let (_, got) = receive(&arrivals, &[(0, layers(0, 0))]);
        let numbers = |got: &Got| got.packets.keys().copied().collect::<Vec<_>>();
        assert_eq!(numbers(&got), numbers(&whole));
    }
}

#[test]
fn a_hole_that_was_for_nobody_is_filled_with_nothing() {
    let stream = stream(Mode::Full, 2, 0, &[], &[1; 40], (0, 0, 0));
    let mut arrivals = stream.packets;
    // Of picture 5 only the upper layer is overtaken by the whole of picture 6, of which it cannot be told.
    let late = arrivals.remove(11);
    let unknown = arrivals.remove(10);
    arrivals.insert(12, late);
    arrivals.insert(13, unknown);
    let (_, got) = receive(&arrivals, &[(0, layers(0, 0))]);
    let parts: Vec<(usize, Part)> = got.packets.values().map(|(sent, part)| (sent.picture, *part)).collect();
    assert_eq!(parts[5..8], [(5, Part::Last), (5, Part::Number), (6, Part::Last)]);
    assert!(got.packets.keys().zip(got.packets.keys().skip(1)).all(|(a, b)| b - a == 1));
}

#[test]
fn packets_of_no_picture_leave_no_hole() {
    let stream = stream(Mode::Key, 2, 1, &[], &[2; 80], (65_500, 0, 0));
    let mut selector = Selector::new(Layers::ALL, &stream.packets[0].packet, 7);
    let (mut padding, mut numbers) = (0_u16, Vec::new());
    for sent in &stream.packets {
        let packet = Packet { seq: sent.packet.seq.wrapping_add(padding), ..sent.packet };
        numbers.extend(selector.take(&packet).map(|(number, _)| number));
        if sent.marker {
            // Three of which the second comes late.
            let seq = packet.seq;
            padding += 3;
            assert_eq!(selector.take_empty(seq.wrapping_add(1)), None);
            assert_eq!(selector.take_empty(seq.wrapping_add(3)), None);
            let late = selector.take_empty(seq.wrapping_add(2));
            assert_eq!(late, late.map(|(number, _)| (number, Part::Number)), "which uses up the number kept for it");
            numbers.extend(late.map(|(number, _)| number));
        }
    }
    assert_eq!(numbers.len(), 160 + 40);
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "{numbers:?}");
}

proptest! {
    /// Over a good network: numbers without a gap, every picture that is shown can be decoded, ends with a marker and nothing before,
    /// and what is wanted is what comes as soon as it can.
    #[test]
    fn whatever_is_wanted_the_receiver_decodes_every_picture_it_gets(stream in streams(1..60), wishes in wishes()) {
        let (selector, got) = receive(&stream.packets, &wishes);
        let places: Vec<i64> = got.packets.keys().copied().collect();
        prop_assert!(places.windows(2).all(|pair| pair[1] == pair[0] + 1), "a gap");
        prop_assert!(got.packets.values().all(|(_, part)| *part != Part::Number));
        let decodable = got.decodable(&stream);
        let pictures = got.pictures();
        for (picture, top) in &pictures {
            prop_assert!(decodable.contains(&(*picture, *top)), "picture {} in layer {}", picture, top);
            let of_it: Vec<_> = got.packets.values().filter(|(sent, _)| sent.picture == *picture).collect();
            let marked: Vec<bool> = of_it.iter().map(|(sent, part)| sent.marker || *part == Part::Last).collect();
            prop_assert_eq!(marked.iter().position(|marked| *marked), Some(of_it.len() - 1), "the marker");
        }
        for (picture, (_, temporal, _)) in stream.pictures.iter().enumerate().filter(|(_, (_, temporal, _))| *temporal == 0) {
            prop_assert!(pictures.contains_key(&picture), "the base is always there: {} {}", picture, temporal);
        }
        let last_key = stream.packets.iter().rposition(|sent| sent.packet.frame.top.is_some()).unwrap_or(0);
        let last_wish = wishes.iter().map(|(at, _)| *at).filter(|at| *at < stream.packets.len()).max();
        if let Some(last_wish) = last_wish && last_wish <= last_key {
            let wanted = wishes.iter().rev().find(|(at, _)| *at == last_wish).expect("it is one of them").1;
            let most = if wanted == Layers::ALL { wanted.spatial } else { wanted.spatial.min(stream.spatial - 1) };
            prop_assert_eq!(selector.current().spatial, most);
            prop_assert!(!selector.needs_keyframe());
        }
    }

    /// Over a bad one: numbers in the order of sending, each used once, and missing only where a packet is.
    #[test]
    fn whatever_is_lost_or_late_the_numbers_are_in_order(
        stream in streams(1..60),
        wishes in wishes(),
        fates in prop::collection::vec((0..8_u8, 0..20_usize), 1..200),
    ) {
        let arrivals = disturbed(&stream, &fates);
        let (_, got) = receive(&arrivals, &wishes);
        let first = stream.packets[0].packet.seq;
        let came: BTreeSet<u16> = arrivals.iter().map(|sent| sent.packet.seq.wrapping_sub(first)).collect();
        let ours: Vec<(i64, u16)> = got.packets.iter().map(|(place, (sent, _))| (*place, sent.packet.seq.wrapping_sub(first))).collect();
        for pair in ours.windows(2) {
            let ((place, before), (next, after)) = (pair[0], pair[1]);
            prop_assert!(before < after, "in the order of sending");
            let lost = (before + 1..after).filter(|seq| !came.contains(seq)).count();
            prop_assert!(next - place - 1 <= i64::try_from(lost).expect("few"), "{} numbers missing for {} packets", next - place - 1, lost);
        }
    }

    /// Whatever a sender makes up, nobody's number is used twice and nothing panics.
    #[test]
    fn made_up_layers_do_no_harm(
        packets in prop::collection::vec((any::<u16>(), 0..3_u32, any::<(u8, u8, u8)>(), prop::option::of(0..8_u8)), 1..200),
        wishes in wishes(),
    ) {
        let mut seen = BTreeSet::new();
        let mut arrivals = Vec::new();
        for (jump, timestamp, (spatial, temporal, flags), top) in packets {
            let seq = if flags & 1 == 0 { jump % 64 } else { jump };
            let frame = Frame {
                spatial: spatial % 8,
                temporal: temporal % 8,
                begins: flags & 2 != 0,
                ends: flags & 4 != 0,
                is_predicted: flags & 8 != 0,
                is_spare: flags & 16 != 0,
                is_switching_point: flags & 32 != 0,
                top,
                number: None,
            };
            let numbers = Some(Numbers { picture: jump & 0x7fff, is_short: flags & 64 != 0, base: None });
            arrivals.push(Packet { seq, timestamp, numbers, frame });
        }
        let mut selector = Selector::new(Layers::ALL, &arrivals[0], 0);
        let mut highest = 0;
        for (n, packet) in arrivals.iter().enumerate() {
            if let Some((_, wanted)) = wishes.iter().find(|(at, _)| *at == n) {
                selector.want(*wanted);
            }
            // The room takes each packet once.
            if !seen.insert(packet.seq) {
                continue;
            }
            if let Some((number, _)) = selector.take(packet) {
                highest = highest.max(number);
            }
        }
        prop_assert!(usize::from(highest) <= arrivals.len() * usize::from(WINDOW));
    }
}
