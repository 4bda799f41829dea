//! Redundant audio (RFC 2198): each packet carries the one before it once more, so that a loss is repaired without asking.

use std::time::Duration;
use std::time::Instant;

use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;

/// Blocks taken from one packet. Browsers send one or two old ones.
const MAX_BLOCKS: usize = 4;
/// A block header has 14 bits for how old its block is, and 10 for its length.
const MAX_AGE: u32 = (1 << 14) - 1;
const MAX_LENGTH: usize = (1 << 10) - 1;
const ANOTHER_FOLLOWS: u8 = 0x80;

/// One block of a redundant packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub payload_type: u8,
    /// How many packets before the newest one it was first sent.
    pub before: u16,
    /// How much earlier than the newest, in ticks.
    pub age: u32,
    pub payload: Bytes,
}

/// The blocks of a payload, oldest first, the newest last; nothing if it is not well formed.
pub fn unwrap(payload: &Bytes) -> Vec<Block> {
    let mut headers = Vec::new();
    let mut rest = &payload[..];
    let newest = loop {
        match rest {
            [first, age, age_and_length, length, tail @ ..] if first & ANOTHER_FOLLOWS != 0 => {
                let age = u32::from(*age) << 6 | u32::from(age_and_length >> 2);
                let length = usize::from(age_and_length & 3) << 8 | usize::from(*length);
                headers.push((first & 0x7f, age, length));
                if headers.len() >= MAX_BLOCKS {
                    return Vec::new();
                }
                rest = tail;
            }
            [last, tail @ ..] if last & ANOTHER_FOLLOWS == 0 => {
                rest = tail;
                break *last;
            }
            _ => return Vec::new(),
        }
    };
    let mut at = payload.len() - rest.len();
    let mut blocks = Vec::with_capacity(headers.len() + 1);
    for (index, (payload_type, age, length)) in headers.iter().copied().enumerate() {
        if at + length > payload.len() {
            return Vec::new();
        }
        // A sender that has nothing to repeat yet sends an empty block.
        if length > 0 {
            let before = u16::try_from(headers.len() - index).expect("few");
            blocks.push(Block { payload_type, before, age, payload: payload.slice(at..at + length) });
        }
        at += length;
    }
    blocks.push(Block { payload_type: newest, before: 0, age: 0, payload: payload.slice(at..) });
    blocks
}

/// A payload that carries `old`, sent `age` ticks earlier, before `new`; `None` where the format has no room for the old one.
pub fn wrap(payload_type: u8, old: &[u8], age: u32, new: &[u8]) -> Option<Bytes> {
    if old.is_empty() || old.len() > MAX_LENGTH || age > MAX_AGE {
        return None;
    }
    let mut out = BytesMut::with_capacity(5 + old.len() + new.len());
    let length = u32::try_from(old.len()).expect("at most 10 bits");
    out.put_u8(ANOTHER_FOLLOWS | payload_type);
    out.put_uint(u64::from(age << 10 | length), 3);
    out.put_u8(payload_type);
    out.put_slice(old);
    out.put_slice(new);
    Some(out.freeze())
}

/// Makes the redundant form of a stream: remembers one packet.
#[derive(Clone, Debug, Default)]
pub struct Repeater {
    last: Option<(u16, u32, Bytes)>,
}

impl Repeater {
    /// The redundant payload of a packet, if the one before it is known.
    pub fn repeat(&self, payload_type: u8, seq: u16, timestamp: u32, payload: &[u8]) -> Option<Bytes> {
        let (_, then, old) = self.last.as_ref().filter(|(last, _, _)| last.wrapping_add(1) == seq)?;
        wrap(payload_type, old, timestamp.wrapping_sub(*then), payload)
    }

    /// Remembers a packet for the next; what comes late is not repeated.
    pub fn remember(&mut self, seq: u16, timestamp: u32, payload: &Bytes) {
        if self.last.as_ref().is_none_or(|(last, _, _)| seq.wrapping_sub(*last) < 0x8000) {
            self.last = Some((seq, timestamp, payload.clone()));
        }
    }
}

/// Smoothed loss from which sound is sent twice, and under which it is not any more.
const LOSSY: f64 = 0.02;
const CLEAN: f64 = 0.005;
/// Reports after which it shows whether twice the sound made the smoothed loss worse, because the link is full: by half and [`LOSSY`].
const TRIAL_REPORTS: u8 = 4;
const WORSE: f64 = 1.5;
/// A single report that is worse than twice the loss before by this says so at once.
const FAR_WORSE: f64 = 0.2;
/// A link that was made worse is left alone for so long.
const LEFT_ALONE: Duration = Duration::from_secs(60);
/// And one that was found full for other reasons for so long.
const MADE_ROOM: Duration = Duration::from_secs(30);

/// Whether one receiver of sound gets it twice: while its link loses packets, unless it does so because it is full.
#[derive(Clone, Copy, Debug, Default)]
pub struct Redundancy {
    loss: f64,
    state: State,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Once,
    Twice {
        /// The loss before, and how many reports came since, up to [`TRIAL_REPORTS`].
        before: f64,
        reports: u8,
    },
    LeftAlone {
        until: Instant,
    },
}

impl Redundancy {
    pub fn is_on(&self) -> bool {
        matches!(self.state, State::Twice { .. })
    }

    /// Takes the share of packets lost, 0.0 to 1.0, of a receiver's report, and whether its link is known to be full.
    pub fn lost(&mut self, now: Instant, share: f64, is_full: bool) {
        self.loss += (share - self.loss) / 3.0;
        let is_lossy = self.loss.min(share) >= LOSSY;
        self.state = match self.state {
            State::Once if is_lossy && !is_full => State::Twice { before: self.loss.max(share), reports: 0 },
            State::Twice { before, reports } if reports < TRIAL_REPORTS => {
                let at_once = share > before * 2.0 + FAR_WORSE;
                let at_last = reports + 1 == TRIAL_REPORTS && self.loss > before * WORSE + LOSSY;
                if at_once || at_last {
                    State::LeftAlone { until: now + LEFT_ALONE }
                } else {
                    State::Twice { before, reports: reports + 1 }
                }
            }
            State::Twice { .. } if self.loss < CLEAN => State::Once,
            State::LeftAlone { until } if now >= until => State::Once,
            state @ (State::Once | State::Twice { .. } | State::LeftAlone { .. }) => state,
        };
    }

    /// The link was found full just now: what goes twice makes room first.
    pub fn filled(&mut self, now: Instant) {
        if self.is_on() {
            self.state = State::LeftAlone { until: now + MADE_ROOM };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_chromium_sends_is_read() {
        // Two old blocks of 3 and 2 bytes, 1920 and 960 ticks old, and the newest.
        let payload = [0x80 | 111, 0x1e, 0x00, 3, 0x80 | 111, 0x0f, 0x00, 2, 111, 1, 1, 1, 2, 2, 3];
        let blocks = unwrap(&Bytes::copy_from_slice(&payload));
        let read: Vec<_> = blocks.iter().map(|b| (b.before, b.age, &b.payload[..])).collect();
        assert_eq!(read, [(2, 1920, &[1, 1, 1][..]), (1, 960, &[2, 2]), (0, 0, &[3])]);
        let alone = unwrap(&Bytes::from_static(&[111, 7, 7]));
        assert_eq!(alone, [Block { payload_type: 111, before: 0, age: 0, payload: Bytes::from_static(&[7, 7]) }]);
    }

    #[test]
    fn what_is_lost_once_is_in_the_next_packet() {
        let mut repeater = Repeater::default();
        let packet = |n: u8| Bytes::from(vec![n; 3]);
        assert_eq!(repeater.repeat(111, 65_535, 0, &packet(1)), None, "the first has nothing before it");
        repeater.remember(65_535, 0, &packet(1));
        let second = repeater.repeat(111, 0, 960, &packet(2)).expect("numbers wrap");
        assert_eq!(unwrap(&second)[0].payload, packet(1));
        assert_eq!(repeater.repeat(111, 2, 2_880, &packet(4)), None, "after a loss there is nothing to repeat");
        repeater.remember(2, 2_880, &packet(4));
        repeater.remember(1, 1_920, &packet(3));
        let fourth = repeater.repeat(111, 3, 3_840, &packet(5)).expect("what came late is not remembered");
        assert_eq!(unwrap(&fourth)[0].payload, packet(4));
    }

    #[test]
    fn sound_is_sent_twice_on_a_lossy_link_and_once_on_a_full_one() {
        let start = Instant::now();
        let at = |n: u64| start + Duration::from_secs(n);
        let mut lossy = Redundancy::default();
        lossy.lost(at(0), 0.01, false);
        assert!(!lossy.is_on());
        lossy.lost(at(1), 0.2, true);
        assert!(!lossy.is_on(), "a full link is not filled twice");
        for n in 2..60 {
            // A link that becomes worse after a while is not full for that.
            lossy.lost(at(n), if n < 20 { 0.05 } else { 0.5 }, false);
            assert!(lossy.is_on());
        }
        let mut filled = lossy;
        filled.filled(at(60));
        assert!(!filled.is_on());
        filled.lost(at(61), 0.0, true);
        filled.lost(at(89), 0.2, false);
        assert!(!filled.is_on());
        filled.lost(at(90), 0.0, false);
        assert!(!filled.is_on(), "with the sound once nothing is lost");
        filled.lost(at(91), 0.2, false);
        assert!(filled.is_on(), "a lossy one gets it twice again");
        (60..90).for_each(|n| lossy.lost(at(n), 0.0, false));
        assert!(!lossy.is_on());

        // Reports until it is given up, by how much worse it makes the loss.
        for (worse, bound) in [(0.5, 1), (0.25, 4)] {
            let mut full = Redundancy::default();
            let mut on = 0;
            for n in 0..60 {
                full.lost(at(n), if full.is_on() { worse } else { 0.1 }, false);
                on += u32::from(full.is_on());
            }
            assert!((1..=bound).contains(&on), "a trial of {on} reports that made it worse");
        }
    }

    proptest! {
        #[test]
        fn what_is_wrapped_is_unwrapped(old in prop::collection::vec(any::<u8>(), 1..1100), new in prop::collection::vec(any::<u8>(), 0..1500), age in 0u32..20_000) {
            match wrap(111, &old, age, &new) {
                Some(wrapped) => {
                    let blocks = unwrap(&wrapped);
                    prop_assert_eq!(blocks.len(), 2);
                    prop_assert_eq!((&blocks[0].payload[..], blocks[0].age, blocks[0].before), (&old[..], age, 1));
                    prop_assert_eq!(&blocks[1].payload[..], &new[..]);
                }
                None => prop_assert!(old.len() > MAX_LENGTH || age > MAX_AGE),
            }
        }

        #[test]
        fn hostile_payloads_are_read_without_harm(payload in prop::collection::vec(any::<u8>(), 0..64)) {
            let blocks = unwrap(&Bytes::from(payload.clone()));
            prop_assert!(blocks.iter().map(|b| b.payload.len()).sum::<usize>() <= payload.len());
        }
    }
}
