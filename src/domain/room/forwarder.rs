//! One consumer's view of a producer: numbers and timestamps that go on without a gap across pauses and switches of source.

use std::time::Instant;

use crate::domain::room::layer::Frame;
use crate::domain::room::picture::Numbers;
use crate::domain::room::picture::Shift;
use crate::domain::room::selector;
use crate::domain::room::selector::Layers;
use crate::domain::room::selector::Part;
use crate::domain::room::selector::Selector;

/// Packets older than this many numbers are not sent any more; the receiver has given them up.
pub const LATE_LIMIT: u16 = 1024;
/// A picture may seem to lie this far from where the clocks of its senders put it, in seconds; beyond, they are not believed.
const CLOCK_TRUST: u128 = 2;
/// Most sources of one producer: what browsers send of a simulcast.
pub const MAX_SOURCES: usize = 3;

/// What the forwarder needs to know of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Incoming {
    pub ssrc: u32,
    pub seq: u16,
    pub timestamp: u32,
    /// Decoding may begin at this packet; true for every audio packet.
    pub key: bool,
    pub numbers: Option<Numbers>,
    /// Of a scalable stream.
    pub frame: Option<Frame>,
    /// What the timestamp is in the producer's other sources, by SSRC, as far as their senders' clocks are known.
    pub elsewhere: [Option<(u32, u32)>; MAX_SOURCES - 1],
}

/// The numbers a packet gets on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    pub seq: u16,
    pub timestamp: u32,
    /// Is applied to the payload.
    pub shift: Shift,
    pub part: Part,
}

/// Which of a producer's sources are to go out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aim {
    /// Whichever comes; a producer that is not simulcast has one at a time.
    #[default]
    Any,
    /// The source with this SSRC; until its keyframe comes, what flowed before goes on.
    Only(u32),
    /// None: there is no room for it at the receiver.
    Nothing,
}

/// Rewrites the sequence numbers, timestamps and picture numbers of one outgoing RTP stream.
#[derive(Clone, Debug)]
pub struct Forwarder {
    clock_rate: u32,
    aim: Aim,
    layers: Layers,
    state: State,
    /// In a run of a scalable stream.
    selector: Option<Box<Selector>>,
    last: Option<Last>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Nothing goes out before a packet that decoding may begin at.
    Waiting,
    Flowing(Run),
}

/// A stretch of one source, in which all numbers move by the same.
#[derive(Clone, Copy, Debug)]
struct Run {
    ssrc: u32,
    seq_offset: u16,
    timestamp_offset: u32,
    shift: Shift,
    /// Packets before this one belong to the time before the switch, or are too late.
    floor: u16,
    highest: u16,
}

/// The newest packet that went out.
#[derive(Clone, Copy, Debug)]
struct Last {
    seq: u16,
    timestamp: u32,
    numbers: Option<Numbers>,
    /// The number of its frame.
    frame: Option<u16>,
    at: Instant,
}

impl Forwarder {
    /// `clock_rate` in Hz is the codec's.
    pub fn new(clock_rate: u32) -> Self {
        Self { clock_rate, aim: Aim::Any, layers: Layers::ALL, state: State::Waiting, selector: None, last: None }
    }

    /// Ends the current run: what comes next may be of another source or after a pause, and begins at a keyframe.
    pub fn interrupt(&mut self) {
        self.state = State::Waiting;
        self.selector = None;
    }

    /// Chooses the source that is to go out from its next keyframe on.
    pub fn aim(&mut self, aim: Aim) {
        self.aim = aim;
        if aim == Aim::Nothing {
            self.interrupt();
        }
    }

    /// Chooses what of a scalable source is to go out, as soon as its layers allow.
    pub fn want(&mut self, layers: Layers) {
        self.layers = layers;
        if let Some(selector) = &mut self.selector {
            selector.want(layers);
        }
    }

    /// The layers that go out now.
    pub fn layers(&self) -> Layers {
        self.selector.as_ref().map_or(Layers::ALL, |selector| selector.current())
    }

    /// Whether fewer layers, if those are what is wanted, go out without a keyframe.
    pub fn can_step_down(&self) -> bool {
        self.selector.as_ref().is_some_and(|selector| selector.can_step_down())
    }

    /// Whether nobody has chosen a source.
    pub fn is_aimless(&self) -> bool {
        self.aim == Aim::Any
    }

    /// Whether nothing is to go out.
    pub fn is_shut(&self) -> bool {
        self.aim == Aim::Nothing
    }

    /// The source that goes out now, or that is waited for.
    pub fn source(&self) -> Option<u32> {
        match self.aim {
            Aim::Only(ssrc) => self.flowing().or(Some(ssrc)),
            Aim::Any | Aim::Nothing => self.flowing(),
        }
    }

    /// The source that goes out now.
    pub fn flowing(&self) -> Option<u32> {
        match self.state {
            State::Waiting => None,
            State::Flowing(run) => Some(run.ssrc),
        }
    }

    /// Whether a keyframe of this source would let it begin or switch.
    pub fn waits_for(&self, ssrc: u32) -> bool {
        let needs = |selector: &Selector| selector.needs_keyframe();
        self.begins_with(ssrc) || (self.flowing() == Some(ssrc) && self.selector.as_deref().is_some_and(needs))
    }

    fn begins_with(&self, ssrc: u32) -> bool {
        match self.aim {
            Aim::Any => self.flowing().is_none(),
            Aim::Only(wanted) => wanted == ssrc && self.flowing() != Some(ssrc),
            Aim::Nothing => false,
        }
    }

    /// A time of a source as it goes out, if that source goes out now.
    pub fn timestamp(&self, ssrc: u32, timestamp: u32) -> Option<u32> {
        match self.state {
            State::Flowing(run) if run.ssrc == ssrc => Some(timestamp.wrapping_add(run.timestamp_offset)),
            State::Flowing(_) | State::Waiting => None,
        }
    }

    /// The numbers this packet leaves with; `None` keeps it back.
    pub fn forward(&mut self, now: Instant, packet: &Incoming) -> Option<Outgoing> {
        if self.aim == Aim::Any && self.flowing().is_some_and(|ssrc| ssrc != packet.ssrc) {
            self.interrupt();
        }
        if packet.key && self.begins_with(packet.ssrc) {
            let run = self.begin(now, packet);
            let seq = packet.seq.wrapping_add(run.seq_offset);
            self.selector = layered(packet).map(|packet| Box::new(Selector::new(self.layers, &packet, seq)));
            self.state = State::Flowing(run);
        }
        let State::Flowing(run) = &mut self.state else { return None };
        if run.ssrc != packet.ssrc || packet.seq.wrapping_sub(run.floor) >= 0x8000 {
            return None;
        }
        let is_newest = packet.seq.wrapping_sub(run.highest) < 0x8000;
        if is_newest {
            run.highest = packet.seq;
            if run.highest.wrapping_sub(run.floor) > LATE_LIMIT {
                run.floor = run.highest.wrapping_sub(LATE_LIMIT);
            }
        }
        let (seq, part) = match (&mut self.selector, layered(packet)) {
            (Some(selector), Some(packet)) => selector.take(&packet)?,
            (Some(selector), None) => selector.take_empty(packet.seq)?,
            (None, _) => (packet.seq.wrapping_add(run.seq_offset), Part::Whole),
        };
        let timestamp = packet.timestamp.wrapping_add(run.timestamp_offset);
        if is_newest {
            let numbers = packet.numbers.map(|numbers| numbers.shifted(run.shift));
            let frame = frame_number(packet).map(|number| number.wrapping_add(run.shift.frame));
            self.last = Some(Last { seq, timestamp, numbers, frame, at: now });
        }
        Some(Outgoing { seq, timestamp, shift: run.shift, part })
    }

    /// The numbers of a packet without a picture, between two runs; `None` while one flows, whose numbers are as they came.
    pub fn empty(&mut self, now: Instant) -> Option<Outgoing> {
        if matches!(self.state, State::Flowing(_)) {
            return None;
        }
        let last = match self.last {
            Some(last) => Last { seq: last.seq.wrapping_add(1), ..last },
            None => Last { seq: 0, timestamp: 0, numbers: None, frame: None, at: now },
        };
        self.last = Some(last);
        let Last { seq, timestamp, .. } = last;
        Some(Outgoing { seq, timestamp, shift: Shift::default(), part: Part::Number })
    }

    fn begin(&self, now: Instant, packet: &Incoming) -> Run {
        let (seq, timestamp, shift) = match self.last {
            None => (packet.seq, packet.timestamp, Shift::default()),
            Some(last) => {
                let shift = packet.numbers.zip(last.numbers).map(|(own, last)| own.shift_after(last));
                let after = |(own, last): (u16, u16)| last.wrapping_add(1).wrapping_sub(own);
                let frame = frame_number(packet).zip(last.frame).map_or(0, after);
                let step = self.step(now, packet, last);
                let shift = Shift { frame, ..shift.unwrap_or_default() };
                (last.seq.wrapping_add(1), last.timestamp.wrapping_add(step), shift)
            }
        };
        Run {
            ssrc: packet.ssrc,
            seq_offset: seq.wrapping_sub(packet.seq),
            timestamp_offset: timestamp.wrapping_sub(packet.timestamp),
            shift,
            floor: packet.seq,
            highest: packet.seq,
        }
    }

    /// How much later than the last packet this one was captured, in ticks; at least one, for with the same timestamp it would be
    /// part of the last picture.
    fn step(&self, now: Instant, packet: &Incoming, last: Last) -> u32 {
        let rate = u128::from(self.clock_rate);
        let elapsed = now.saturating_duration_since(last.at).as_micros() * rate / 1_000_000;
        let State::Flowing(run) = self.state else { return ticks(elapsed) };
        let twin = packet.elsewhere.iter().flatten().find(|(ssrc, _)| *ssrc == run.ssrc);
        let Some((_, twin)) = twin else { return ticks(elapsed) };
        let step = twin.wrapping_add(run.timestamp_offset).wrapping_sub(last.timestamp);
        // A picture of the moment that the last one showed already: the next tick is nearer to the truth than any elapsed time.
        let is_past = step >= 1 << 31;
        if is_past && u128::from(step.wrapping_neg()) < rate * CLOCK_TRUST {
            1
        } else if is_past || u128::from(step).abs_diff(elapsed) > rate * CLOCK_TRUST {
            ticks(elapsed)
        } else {
            step.max(1)
        }
    }
}

fn layered(packet: &Incoming) -> Option<selector::Packet> {
    let Incoming { seq, timestamp, numbers, .. } = *packet;
    packet.frame.map(|frame| selector::Packet { seq, timestamp, numbers, frame })
}

fn frame_number(packet: &Incoming) -> Option<u16> {
    packet.frame.and_then(|frame| frame.number)
}

fn ticks(elapsed: u128) -> u32 {
    u32::try_from(elapsed & u128::from(u32::MAX)).expect("masked to 32 bits").max(1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn packet(ssrc: u32, seq: u16, timestamp: u32, key: bool) -> Incoming {
        Incoming { ssrc, seq, timestamp, key, numbers: None, frame: None, elsewhere: [None; 2] }
    }

    fn out(seq: u16, timestamp: u32) -> Outgoing {
        Outgoing { seq, timestamp, shift: Shift::default(), part: Part::Whole }
    }

    fn number(seq: u16, timestamp: u32) -> Outgoing {
        Outgoing { part: Part::Number, ..out(seq, timestamp) }
    }

    #[test]
    fn nothing_passes_before_a_keyframe() {
        let now = Instant::now();
        let mut forwarder = Forwarder::new(90_000);
        assert_eq!(forwarder.forward(now, &packet(1, 10, 100, false)), None);
        assert!(forwarder.waits_for(1));
        assert_eq!(forwarder.forward(now, &packet(1, 11, 200, true)), Some(out(11, 200)));
        assert_eq!(forwarder.forward(now, &packet(1, 10, 100, false)), None, "from before the keyframe");
    }

    #[test]
    fn a_pause_leaves_no_gap_in_the_numbers_and_the_real_gap_in_time() {
        let start = Instant::now();
        let mut forwarder = Forwarder::new(48_000);
        forwarder.forward(start, &packet(1, 65_535, 960, true));
        forwarder.interrupt();
        let resumed = forwarder.forward(start + Duration::from_secs(2), &packet(1, 99, 97_000, true));
        assert_eq!(resumed, Some(out(0, 960 + 96_000)));
    }

    #[test]
    fn a_switch_of_source_goes_on_where_the_other_stopped() {
        let start = Instant::now();
        let mut forwarder = Forwarder::new(90_000);
        forwarder.forward(start, &packet(1, 500, 9_000, true));
        let later = start + Duration::from_millis(100);
        assert_eq!(forwarder.forward(later, &packet(2, 7, 4_000_000_000, false)), None, "waits for its keyframe");
        assert_eq!(forwarder.forward(later, &packet(2, 8, 4_000_003_000, true)), Some(out(501, 18_000)));
        assert_eq!(
            forwarder.forward(later, &packet(2, 10, 4_000_006_000, false)),
            Some(out(503, 21_000)),
            "a loss at the source stays visible, so that the receiver asks for it"
        );
        assert_eq!(
            forwarder.forward(later, &packet(2, 9, 4_000_003_000, false)),
            Some(out(502, 18_000)),
            "and the retransmission fits into it"
        );
    }

    #[test]
    fn a_stream_longer_than_the_number_space_flows_on() {
        let now = Instant::now();
        let mut forwarder = Forwarder::new(48_000);
        for n in 0..200_000u32 {
            let seq = u16::try_from(n & 0xffff).expect("masked");
            let out = forwarder.forward(now, &packet(1, seq, n.wrapping_mul(960), true));
            assert_eq!(out.map(|o| o.seq), Some(seq));
        }
        let old = forwarder.forward(now, &packet(1, 200_000u32.wrapping_sub(5_000) as u16, 0, true));
        assert_eq!(old, None, "too late to be of use");
    }

    #[test]
    fn a_layer_goes_on_until_the_keyframe_of_the_wanted_one() {
        let start = Instant::now();
        let mut forwarder = Forwarder::new(90_000);
        forwarder.aim(Aim::Only(1));
        assert_eq!(forwarder.forward(start, &packet(2, 40, 70, true)), None, "nobody asked for this one");
        assert_eq!(forwarder.forward(start, &packet(1, 500, 9_000, true)), Some(out(500, 9_000)));
        forwarder.aim(Aim::Only(2));
        assert!(forwarder.waits_for(2) && !forwarder.waits_for(1));
        assert_eq!(forwarder.forward(start, &packet(2, 41, 80, false)), None);
        assert_eq!(forwarder.forward(start, &packet(1, 501, 12_000, false)), Some(out(501, 12_000)));
        let mut key = packet(2, 42, 1_000_000, true);
        key.elsewhere[0] = Some((1, 15_000));
        assert_eq!(forwarder.forward(start, &key), Some(out(502, 15_000)), "in the time of the layer before");
        assert_eq!(forwarder.forward(start, &packet(1, 502, 15_000, true)), None);
        assert_eq!(forwarder.timestamp(2, 1_003_000), Some(18_000));
        assert_eq!(forwarder.timestamp(1, 18_000), None);
    }

    #[test]
    fn the_same_moment_in_another_layer_is_another_picture() {
        let start = Instant::now();
        let mut forwarder = Forwarder::new(90_000);
        forwarder.forward(start, &packet(1, 500, 9_000, true));
        forwarder.aim(Aim::Only(2));
        let mut key = packet(2, 42, 1_000_000, true);
        key.elsewhere[0] = Some((1, 9_000));
        let switched = forwarder.forward(start + Duration::from_millis(8), &key);
        assert_eq!(switched, Some(out(501, 9_001)));
        forwarder.aim(Aim::Only(1));
        let mut key = packet(1, 501, 12_000, true);
        key.elsewhere[0] = Some((2, 77));
        let switched = forwarder.forward(start + Duration::from_millis(18), &key);
        assert_eq!(switched, Some(out(502, 9_901)), "clocks that are off by hours are not believed");
    }

    #[test]
    fn what_there_is_no_room_for_stops_at_once_and_begins_at_a_keyframe() {
        let start = Instant::now();
        let mut forwarder = Forwarder::new(90_000);
        forwarder.forward(start, &packet(1, 500, 9_000, true));
        forwarder.aim(Aim::Nothing);
        assert_eq!(forwarder.forward(start, &packet(1, 501, 12_000, true)), None);
        assert!(!forwarder.waits_for(1), "and no keyframes are made for nobody");
        forwarder.aim(Aim::Only(1));
        assert_eq!(forwarder.forward(start, &packet(1, 502, 15_000, false)), None);
        let later = start + Duration::from_millis(100);
        assert_eq!(forwarder.forward(later, &packet(1, 503, 18_000, true)), Some(out(501, 18_000)));
    }

    #[test]
    fn empty_packets_have_numbers_of_their_own_and_no_picture_loses_any() {
        let start = Instant::now();
        let mut forwarder = Forwarder::new(90_000);
        assert_eq!(forwarder.empty(start), Some(number(0, 0)), "before the first picture");
        assert_eq!(forwarder.forward(start, &packet(1, 500, 9_000, true)), Some(out(1, 1)));
        assert_eq!(forwarder.empty(start), None, "not while one flows");
        forwarder.aim(Aim::Nothing);
        assert_eq!(forwarder.empty(start), Some(number(2, 1)));
        assert_eq!(forwarder.empty(start + Duration::from_secs(1)), Some(number(3, 1)));
        forwarder.aim(Aim::Only(1));
        let later = start + Duration::from_secs(2);
        assert_eq!(forwarder.forward(later, &packet(1, 600, 189_000, true)), Some(out(4, 180_001)));
    }

    #[test]
    fn the_numbers_of_frames_go_on_across_a_pause() {
        let now = Instant::now();
        let mut forwarder = Forwarder::new(90_000);
        let numbered = |seq, number, is_predicted| Incoming {
            frame: Some(Frame { begins: true, ends: true, is_predicted, number: Some(number), ..Frame::default() }),
            ..packet(1, seq, u32::from(seq) * 3_000, !is_predicted)
        };
        let shift = |out: Option<Outgoing>| out.map(|out| out.shift.frame);
        assert_eq!(shift(forwarder.forward(now, &numbered(10, 65_535, false))), Some(0));
        assert_eq!(shift(forwarder.forward(now, &numbered(11, 0, true))), Some(0));
        forwarder.interrupt();
        forwarder.empty(now);
        assert_eq!(shift(forwarder.forward(now, &numbered(20, 40, false))), Some(1_u16.wrapping_sub(40)));
        assert_eq!(shift(forwarder.forward(now, &numbered(21, 41, true))), Some(1_u16.wrapping_sub(40)));
        forwarder.interrupt();
        assert_eq!(shift(forwarder.forward(now, &numbered(30, 7, false))), Some(3_u16.wrapping_sub(7)));
    }

    #[test]
    fn packets_of_no_picture_are_not_missed_in_a_stream_of_layers() {
        let now = Instant::now();
        let mut forwarder = Forwarder::new(90_000);
        let layered = |seq, timestamp, is_predicted| Incoming {
            frame: Some(Frame { begins: true, ends: true, is_predicted, ..Frame::default() }),
            ..packet(1, seq, timestamp, !is_predicted)
        };
        assert_eq!(forwarder.forward(now, &layered(10, 0, false)).map(|out| out.seq), Some(10));
        for seq in 11..20 {
            assert_eq!(forwarder.forward(now, &packet(1, seq, 0, false)), None);
        }
        assert_eq!(forwarder.forward(now, &layered(20, 3_000, true)).map(|out| out.seq), Some(11));
    }

    /// A packet of a simulcast as it arrives, and what the receiver wants at that time.
    #[derive(Clone, Debug)]
    struct Step {
        source: usize,
        packet: Incoming,
        picture: u32,
        aim: Option<Aim>,
    }

    /// Three layers with numbers of their own, pictures of one to three packets, some of them keyframes; packets are lost, sent
    /// twice and overtaken, and the wanted layer changes at any time.
    fn simulcast() -> impl Strategy<Value = Vec<Step>> {
        let fate = (0..10u8, 0..24usize, prop::option::weighted(0.05, 0..5u32));
        let pictures =
            prop::collection::vec((1..4u16, prop::bool::weighted(0.2), prop::collection::vec(fate, 9)), 1..80);
        (pictures, any::<[u16; 3]>(), any::<[u32; 3]>(), any::<[u16; 3]>()).prop_map(
            |(pictures, mut seq, time, first)| {
                let mut arrivals = Vec::new();
                for (n, (packets, key, fates)) in pictures.into_iter().enumerate() {
                    let tick = u32::try_from(n).expect("few");
                    for source in 0..3 {
                        for part in 0..packets {
                            let (luck, late, wish) = fates[source * 3 + usize::from(part)];
                            let numbers = Numbers {
                                picture: first[source].wrapping_add(u16::try_from(n).expect("few")) & 0x7fff,
                                is_short: false,
                                base: Some(first[source].to_be_bytes()[0].wrapping_add(n.to_le_bytes()[0])),
                            };
                            let stamp = |source: usize| time[source].wrapping_add(tick * 3_000);
                            let others = [(source + 1) % 3, (source + 2) % 3];
                            let packet = Incoming {
                                ssrc: 1 + u32::try_from(source).expect("few"),
                                seq: seq[source],
                                timestamp: stamp(source),
                                key: key && part == 0,
                                numbers: Some(numbers),
                                frame: None,
                                elsewhere: others.map(|o| Some((1 + u32::try_from(o).expect("few"), stamp(o)))),
                            };
                            seq[source] = seq[source].wrapping_add(1);
                            let aim = wish.map(|wish| if wish == 4 { Aim::Nothing } else { Aim::Only(1 + wish % 3) });
                            let step = Step { source, packet, picture: tick, aim };
                            let at = arrivals.len();
                            match luck {
                                0 => {}
                                1 => arrivals.push((at + late, step)),
                                2 => arrivals.extend([(at, step.clone()), (at + late, step)]),
                                _ => arrivals.push((at, step)),
                            }
                        }
                    }
                }
                arrivals.sort_by_key(|(at, _)| *at);
                arrivals.into_iter().map(|(_, step)| step).collect()
            },
        )
    }

    proptest! {
        /// The receiver sees one stream: every number belongs to one packet, a number is missing only where the packet was lost or
        /// late, and pictures follow each other by one.
        #[test]
        fn whatever_is_lost_late_or_switched_the_numbers_go_on(steps in simulcast()) {
            let start = Instant::now();
            let mut forwarder = Forwarder::new(90_000);
            forwarder.aim(Aim::Only(1));
            let mut windows: [crate::domain::room::window::Window; 3] = Default::default();
            let mut sent: BTreeMap<i64, (usize, Incoming, Numbers, u32)> = BTreeMap::new();
            let mut newest: Option<(u16, i64)> = None;
            for step in &steps {
                if let Some(aim) = step.aim {
                    forwarder.aim(aim);
                }
                if windows[step.source].note(step.packet.seq) != crate::domain::room::window::Arrival::Fresh {
                    continue;
                }
                let now = start + Duration::from_millis(u64::from(step.picture) * 33);
                let Some(out) = forwarder.forward(now, &step.packet) else { continue };
                let (last, place) = newest.unwrap_or((out.seq, 0));
                let place = place + i64::from(out.seq.wrapping_sub(last).cast_signed());
                if newest.is_none_or(|(_, newest)| place >= newest) {
                    newest = Some((out.seq, place));
                }
                let numbers = step.packet.numbers.expect("each has them").shifted(out.shift);
                let twice = sent.insert(place, (step.source, step.packet, numbers, out.timestamp));
                prop_assert!(twice.is_none(), "number {} was used twice", out.seq);
            }
            for ((place, before), (next, after)) in sent.iter().zip(sent.iter().skip(1)) {
                let pictures = after.2.picture.wrapping_sub(before.2.picture) & 0x7fff;
                let bases = after.2.base.zip(before.2.base).map(|(after, before)| after.wrapping_sub(before));
                let ticks = after.3.wrapping_sub(before.3);
                let missing = i64::from(after.1.seq.wrapping_sub(before.1.seq));
                if before.0 == after.0 && next - place == missing {
                    continue;
                }
                prop_assert_eq!(next - place, 1, "nothing is missing at a switch");
                prop_assert!(after.1.key, "a switch is at a keyframe");
                prop_assert_eq!(pictures, 1, "the next picture");
                prop_assert_eq!(bases, Some(1));
                prop_assert!((1..1 << 31).contains(&ticks), "later than the one before");
            }
        }
    }
}
