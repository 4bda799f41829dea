//! AV1 out of RTP ("RTP Payload Format For AV1", version 1.0): payloads in sequence become temporal units, as decoders take them.

use bytes::BufMut;
use bytes::Bytes;

use crate::model::av1::Sequence;
use crate::model::av1::leb128;

/// Bytes of one temporal unit at most; an encoder's largest keyframes stay far below.
const MAX_UNIT: usize = 4_000_000;

/// Bits of the aggregation header (section 4.4).
const CONTINUES: u8 = 0x80;
const IS_CONTINUED: u8 = 0x40;
const BEGINS_SEQUENCE: u8 = 0x08;

/// Types of OBUs (AV1 bitstream specification, section 6.2.2).
const SEQUENCE_HEADER: u8 = 1;
const TEMPORAL_DELIMITER: u8 = 2;
const TILE_LIST: u8 = 8;
const PADDING: u8 = 15;

const HAS_EXTENSION: u8 = 0x04;
const HAS_SIZE: u8 = 0x02;

/// A temporal unit in the low-overhead format (AV1 section 5.2), with what its packets were due at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit<T> {
    pub due: T,
    pub data: Bytes,
}

/// Puts temporal units together again. Waits for the beginning of a coded video sequence at first, and after every loss.
#[derive(Debug)]
pub struct Depacketizer<T> {
    most_pixels: u32,
    state: State<T>,
}

#[derive(Debug)]
enum State<T> {
    Waiting,
    Between,
    Within {
        timestamp: u32,
        due: T,
        unit: Vec<u8>,
        /// An OBU of which the rest is in the next packet.
        open: Option<Vec<u8>>,
    },
}

impl<T> Depacketizer<T> {
    /// Streams that are wider or higher than `most_pixels` are not let through.
    pub const fn new(most_pixels: u32) -> Self {
        Self { most_pixels, state: State::Waiting }
    }

    /// Whether only the beginning of a sequence is of use.
    pub const fn waits_for_keyframe(&self) -> bool {
        matches!(self.state, State::Waiting)
    }

    /// Packets are missing here.
    pub fn lost(&mut self) {
        self.state = State::Waiting;
    }

    /// Takes the payload of the next packet, and gives the units that end with it or before it.
    pub fn push(&mut self, payload: &[u8], timestamp: u32, marker: bool, due: T) -> Vec<Unit<T>> {
        let mut ended = Vec::new();
        let Some((header, body)) = payload.split_first() else { return ended };
        match std::mem::replace(&mut self.state, State::Waiting) {
            State::Waiting if header & (BEGINS_SEQUENCE | CONTINUES) != BEGINS_SEQUENCE => return ended,
            State::Within { timestamp: own, due: own_due, unit, open } if own == timestamp => {
                self.state = State::Within { timestamp, due: own_due, unit, open };
            }
            State::Within { due: own_due, unit, open: None, .. } => {
                // Its sender did not mark its end.
                ended.extend(finish(own_due, unit));
                self.state = begin(timestamp, due);
            }
            // The rest of an OBU never came.
            State::Within { .. } => return ended,
            State::Waiting | State::Between => self.state = begin(timestamp, due),
        }
        let State::Within { unit, open, .. } = &mut self.state else { return ended };
        if append(unit, open, *header, body, self.most_pixels).is_none() || unit.len() > MAX_UNIT {
            self.state = State::Waiting;
            return ended;
        }
        if marker {
            let whole = std::mem::replace(&mut self.state, State::Between);
            if let State::Within { due, unit, open: None, .. } = whole {
                ended.extend(finish(due, unit));
            } else {
                self.state = State::Waiting;
            }
        }
        ended
    }
}

fn begin<T>(timestamp: u32, due: T) -> State<T> {
    State::Within { timestamp, due, unit: Vec::new(), open: None }
}

fn finish<T>(due: T, obus: Vec<u8>) -> Option<Unit<T>> {
    if obus.is_empty() {
        return None;
    }
    let mut data = vec![TEMPORAL_DELIMITER << 3 | HAS_SIZE, 0];
    data.extend(obus);
    Some(Unit { due, data: data.into() })
}

/// Adds what a packet has to its unit; `None` if it cannot be what it says.
fn append(unit: &mut Vec<u8>, open: &mut Option<Vec<u8>>, header: u8, body: &[u8], most_pixels: u32) -> Option<()> {
    if (header & CONTINUES != 0) != open.is_some() {
        return None;
    }
    let count = usize::from(header >> 4 & 3);
    let mut rest = body;
    for index in 1.. {
        if rest.is_empty() {
            break;
        }
        let is_last_by_count = index == count;
        let element = if is_last_by_count {
            std::mem::take(&mut rest)
        } else {
            let (length, behind) = leb128(rest)?;
            let (element, behind) = behind.split_at_checked(length)?;
            rest = behind;
            element
        };
        let mut obu = open.take().unwrap_or_default();
        obu.extend_from_slice(element);
        if rest.is_empty() && header & IS_CONTINUED != 0 {
            if obu.len() > MAX_UNIT {
                return None;
            }
            *open = Some(obu);
        } else {
            close(unit, &obu, most_pixels)?;
        }
        if is_last_by_count {
            break;
        }
    }
    Some(())
}

/// Adds a whole OBU, with its size in it.
fn close(unit: &mut Vec<u8>, obu: &[u8], most_pixels: u32) -> Option<()> {
    let (header, mut rest) = obu.split_first()?;
    if header & 0x80 != 0 {
        return None;
    }
    let kind = header >> 3 & 15;
    let mut extension = None;
    if header & HAS_EXTENSION != 0 {
        let (byte, behind) = rest.split_first()?;
        (extension, rest) = (Some(*byte), behind);
    }
    if header & HAS_SIZE != 0 {
        let (length, behind) = leb128(rest)?;
        rest = behind.get(..length)?;
    }
    if matches!(kind, TEMPORAL_DELIMITER | TILE_LIST | PADDING) {
        return Some(());
    }
    if kind == SEQUENCE_HEADER
        && Sequence::read(rest).is_some_and(|sequence| sequence.width.max(sequence.height) > most_pixels)
    {
        return None;
    }
    unit.put_u8(header | HAS_SIZE);
    unit.extend(extension);
    let mut length = rest.len();
    while length >= 0x80 {
        unit.put_u8((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    unit.put_u8(length as u8);
    unit.extend_from_slice(rest);
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FRAME: u8 = 6 << 3;

    /// Splits OBUs without sizes into payloads of at most `most` bytes, as a sender does.
    fn packets(obus: &[Vec<u8>], most: usize, is_key: bool) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        for (index, obu) in obus.iter().enumerate() {
            let pieces: Vec<&[u8]> = obu.chunks(most).collect();
            for (n, piece) in pieces.iter().enumerate() {
                let continues = if n > 0 { CONTINUES } else { 0 };
                let is_continued = if n + 1 < pieces.len() { IS_CONTINUED } else { 0 };
                let begins = if is_key && index == 0 && n == 0 { BEGINS_SEQUENCE } else { 0 };
                packets.push([&[continues | is_continued | begins | 0x10], *piece].concat());
            }
        }
        packets
    }

    fn push_all(depacketizer: &mut Depacketizer<u32>, packets: &[Vec<u8>], timestamp: u32) -> Vec<Unit<u32>> {
        let last = packets.len() - 1;
        let pushed = packets.iter().enumerate();
        pushed.flat_map(|(n, packet)| depacketizer.push(packet, timestamp, n == last, timestamp)).collect()
    }

    #[test]
    fn a_unit_is_whole_however_it_was_split() {
        for most in [1, 2, 7, 200] {
            let mut depacketizer = Depacketizer::new(4096);
            let obus = [vec![FRAME | HAS_EXTENSION, 0x00, 1, 2, 3], vec![FRAME | HAS_EXTENSION, 0x08, 4, 5]];
            assert!(push_all(&mut depacketizer, &packets(&obus, most, false), 1).is_empty(), "no keyframe yet");
            let units = push_all(&mut depacketizer, &packets(&obus, most, true), 2);
            let expected = [0x12, 0, 0x36, 0x00, 3, 1, 2, 3, 0x36, 0x08, 2, 4, 5];
            assert_eq!(units, [Unit { due: 2, data: Bytes::copy_from_slice(&expected) }]);
        }
    }

    #[test]
    fn obus_of_one_packet_are_told_apart_by_their_lengths() {
        let mut depacketizer = Depacketizer::new(4096);
        let counted = [0x28, 2, FRAME, 7, FRAME, 8, 9];
        let listed = [0x08, 2, FRAME, 7, 3, FRAME, 8, 9];
        for (timestamp, payload) in [(1, &counted[..]), (2, &listed)] {
            let units = depacketizer.push(payload, timestamp, true, ());
            assert_eq!(units[0].data[..], [0x12, 0, FRAME | 2, 1, 7, FRAME | 2, 2, 8, 9]);
        }
    }

    #[test]
    fn a_unit_without_a_marker_ends_where_the_next_begins() {
        let mut depacketizer = Depacketizer::new(4096);
        assert!(depacketizer.push(&[0x18, FRAME, 1], 1, false, 1).is_empty());
        let units = depacketizer.push(&[0x10, FRAME, 2], 2, true, 2);
        assert_eq!(units.iter().map(|unit| unit.due).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn after_a_loss_only_a_new_sequence_is_of_use() {
        let mut depacketizer = Depacketizer::new(4096);
        assert_eq!(depacketizer.push(&[0x18, FRAME, 1], 1, true, ()).len(), 1);
        depacketizer.lost();
        assert!(depacketizer.push(&[0x10, FRAME, 1], 2, true, ()).is_empty());
        assert!(depacketizer.waits_for_keyframe());
        assert_eq!(depacketizer.push(&[0x18, FRAME, 1], 3, true, ()).len(), 1);
        assert!(depacketizer.push(&[0x90, 1], 4, true, ()).is_empty(), "the rest of an OBU that never began");
        assert!(depacketizer.waits_for_keyframe());
    }

    #[test]
    fn what_is_larger_than_allowed_does_not_pass() {
        // 16 bits each of width and height.
        let header = |width: u32| {
            let text = format!("000 0 0 0 0 00000 000000000000 00101 1111 1111 {:016b} {:016b} 0", width - 1, 1079);
            let bits: Vec<u8> = text.bytes().filter(u8::is_ascii_digit).map(|digit| digit - b'0').collect();
            let bytes =
                bits.chunks(8).map(|chunk| chunk.iter().enumerate().fold(0, |byte, (n, bit)| byte | bit << (7 - n)));
            std::iter::once(SEQUENCE_HEADER << 3).chain(bytes).collect::<Vec<u8>>()
        };
        for (width, passes) in [(4096, 1), (4097, 0)] {
            let mut depacketizer = Depacketizer::new(4096);
            let packets = packets(&[header(width), vec![FRAME, 1]], 100, true);
            assert_eq!(push_all(&mut depacketizer, &packets, 1).len(), passes);
        }
    }

    proptest! {
        #[test]
        fn hostile_payloads_are_taken_without_harm(
            packets in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..60), 0..4_u32, any::<bool>()), 0..60)
        ) {
            let mut depacketizer = Depacketizer::new(4096);
            let (mut took, mut gave) = (0, 0);
            for (payload, timestamp, marker) in packets {
                took += payload.len();
                for unit in depacketizer.push(&payload, timestamp, marker, ()) {
                    gave += unit.data.len();
                }
            }
            // A delimiter for each unit, and a byte of size for each OBU.
            prop_assert!(gave <= took * 4);
        }
    }
}
