//! H.264 out of RTP (RFC 6184): payloads in sequence become access units as files and RTMP carry them, with what must be known to pass them on.

use bytes::BufMut;
use bytes::Bytes;

use crate::model::bits::Bits;
use crate::model::h264::Sequence;

/// Bytes of one access unit at most; an encoder's largest keyframes stay far below.
const MAX_UNIT: usize = 4_000_000;

/// Picture parameter sets in use at the same time; encoders have one, some have one for each kind of picture.
const MAX_PICTURE_SETS: usize = 8;

/// Types of NAL units (ITU-T H.264 table 7-1) and of RTP payloads (RFC 6184 table 1).
const SLICE: u8 = 1;
const PARTITIONS: std::ops::RangeInclusive<u8> = 2..=4;
const IDR_SLICE: u8 = 5;
const SEQUENCE_SET: u8 = 7;
const PICTURE_SET: u8 = 8;
const DELIMITER: u8 = 9;
const FILLER: u8 = 12;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// An access unit: one picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit<T> {
    /// What its packets were due at.
    pub due: T,
    /// Decoding may begin here, with the parameters as they are now.
    pub key: bool,
    /// It can be shown as soon as it is decoded and needs no other parameters than the keyframe before it: it has no B slices, no
    /// partitions, and new parameters only with a keyframe.
    pub plain: bool,
    /// Nothing between it and the unit before it is missing or was left out.
    pub follows: bool,
    /// NAL units, each after its length in four bytes, without parameter sets and fillers.
    pub data: Bytes,
}

/// What decoders must know, and what is to be known of the pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    pub sequence: Sequence,
    /// `AVCDecoderConfigurationRecord`, ISO/IEC 14496-15 section 5.3.3.1.
    pub record: Bytes,
}

/// Puts access units together again.
#[derive(Debug)]
pub struct Depacketizer<T> {
    state: State<T>,
    sequence: Option<(Bytes, Sequence)>,
    pictures: Vec<Bytes>,
    parameters: Option<Parameters>,
    /// Something was left out since the last unit.
    torn: bool,
}

#[derive(Debug)]
enum State<T> {
    Between,
    Within(Draft<T>),
    /// The rest of a unit of which something is missing or wrong.
    Spoilt {
        timestamp: Option<u32>,
    },
}

/// A unit that is not whole yet.
#[derive(Debug)]
struct Draft<T> {
    timestamp: u32,
    due: T,
    data: Vec<u8>,
    slices: usize,
    keys: usize,
    plain: bool,
    parameters: bool,
    /// A NAL unit of which the rest is in the next packet.
    open: Option<Vec<u8>>,
}

impl<T> Default for Depacketizer<T> {
    fn default() -> Self {
        Self { state: State::Between, sequence: None, pictures: Vec::new(), parameters: None, torn: false }
    }
}

impl<T> Depacketizer<T> {
    /// What the newest unit is decoded with.
    pub const fn parameters(&self) -> Option<&Parameters> {
        self.parameters.as_ref()
    }

    /// Packets are missing here: what was begun is never given, and neither is the unit they may have belonged to.
    pub fn lost(&mut self) {
        self.torn = true;
        self.state = State::Spoilt { timestamp: None };
    }

    /// Takes the payload of the next packet, and gives the units that end with it, or before it if their sender marks no ends.
    pub fn push(&mut self, payload: &[u8], timestamp: u32, marker: bool, due: T) -> Vec<Unit<T>> {
        let mut ended = Vec::new();
        let mut draft = match std::mem::replace(&mut self.state, State::Between) {
            State::Within(draft) if draft.timestamp == timestamp => draft,
            State::Within(draft) => {
                ended.extend(self.finish(draft));
                Draft::new(timestamp, due)
            }
            State::Spoilt { timestamp: spoilt } if spoilt.is_none_or(|spoilt| spoilt == timestamp) => {
                if !marker {
                    self.state = State::Spoilt { timestamp: Some(timestamp) };
                }
                return ended;
            }
            State::Spoilt { .. } | State::Between => Draft::new(timestamp, due),
        };
        if self.append(&mut draft, payload).is_none() {
            self.torn = true;
            self.state = if marker { State::Between } else { State::Spoilt { timestamp: Some(timestamp) } };
        } else if marker {
            ended.extend(self.finish(draft));
        } else {
            self.state = State::Within(draft);
        }
        ended
    }

    /// Adds what a packet has to its unit; `None` if it cannot be what it says.
    fn append(&mut self, draft: &mut Draft<T>, payload: &[u8]) -> Option<()> {
        let (head, body) = payload.split_first()?;
        match head & 0x1f {
            STAP_A => {
                let mut rest = body;
                while !rest.is_empty() {
                    let (length, behind) = rest.split_first_chunk::<2>()?;
                    let (nal, behind) = behind.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
                    self.nal(draft, nal)?;
                    rest = behind;
                }
            }
            FU_A => {
                let (fu, piece) = body.split_first()?;
                let (begins, ends) = (fu & 0x80 != 0, fu & 0x40 != 0);
                let mut nal = match (begins, draft.open.take()) {
                    (true, None) => vec![head & 0xe0 | fu & 0x1f],
                    (false, Some(nal)) => nal,
                    (true, Some(_)) | (false, None) => return None,
                };
                nal.extend_from_slice(piece);
                if nal.len() > MAX_UNIT {
                    return None;
                }
                if ends {
                    self.nal(draft, &nal)?;
                } else {
                    draft.open = Some(nal);
                }
            }
            1..=23 => self.nal(draft, payload)?,
            _ => return None,
        }
        Some(())
    }

    fn nal(&mut self, draft: &mut Draft<T>, nal: &[u8]) -> Option<()> {
        if draft.open.is_some() {
            return None;
        }
        let (head, body) = nal.split_first()?;
        match head & 0x1f {
            SEQUENCE_SET => draft.parameters |= self.set_sequence(nal)?,
            PICTURE_SET => draft.parameters |= self.set_picture(nal)?,
            DELIMITER | FILLER => {}
            kind => {
                if kind == SLICE || kind == IDR_SLICE {
                    draft.slices += 1;
                    draft.keys += usize::from(kind == IDR_SLICE);
                    draft.plain &= !is_bidirectional(body)?;
                } else if PARTITIONS.contains(&kind) {
                    draft.slices += 1;
                    draft.plain = false;
                }
                if draft.data.len() + nal.len() > MAX_UNIT {
                    return None;
                }
                draft.data.put_u32(u32::try_from(nal.len()).ok()?);
                draft.data.extend_from_slice(nal);
            }
        }
        Some(())
    }

    /// Whether it is a new one.
    fn set_sequence(&mut self, nal: &[u8]) -> Option<bool> {
        if self.sequence.as_ref().is_some_and(|(known, _)| known == nal) {
            return Some(false);
        }
        // What cannot be read is not passed on either, and nothing that is decoded with it.
        self.sequence = None;
        self.pictures.clear();
        self.parameters = None;
        self.sequence = Some((Bytes::copy_from_slice(nal), Sequence::read(nal)?));
        Some(true)
    }

    fn set_picture(&mut self, nal: &[u8]) -> Option<bool> {
        let number = |nal: &[u8]| Bits::of_nal(&nal[1..]).exp_golomb();
        if self.pictures.iter().any(|known| known == nal) {
            return Some(false);
        }
        let own = number(nal)?;
        self.pictures.retain(|known| number(known) != Some(own));
        if self.pictures.len() >= MAX_PICTURE_SETS {
            return None;
        }
        self.pictures.push(Bytes::copy_from_slice(nal));
        self.parameters = None;
        Some(true)
    }

    fn finish(&mut self, draft: Draft<T>) -> Option<Unit<T>> {
        if self.parameters.is_none()
            && let Some((nal, sequence)) = &self.sequence
            && !self.pictures.is_empty()
        {
            self.parameters = Some(Parameters { sequence: *sequence, record: record(nal, *sequence, &self.pictures) });
        }
        if draft.open.is_some() {
            self.torn = true;
            return None;
        }
        if draft.slices == 0 {
            return None;
        }
        let key = draft.keys == draft.slices;
        let plain = draft.plain && (key || !draft.parameters);
        let follows = !std::mem::take(&mut self.torn);
        Some(Unit { due: draft.due, key, plain, follows, data: draft.data.into() })
    }
}

impl<T> Draft<T> {
    const fn new(timestamp: u32, due: T) -> Self {
        Self { timestamp, due, data: Vec::new(), slices: 0, keys: 0, plain: true, parameters: false, open: None }
    }
}

/// `slice_type` B (ITU-T H.264 table 7-6) of a slice without its first byte.
fn is_bidirectional(slice: &[u8]) -> Option<bool> {
    let mut bits = Bits::of_nal(slice);
    bits.exp_golomb()?;
    Some(bits.exp_golomb()? % 5 == 1)
}

fn record(nal: &[u8], sequence: Sequence, pictures: &[Bytes]) -> Bytes {
    // One sequence parameter set; lengths have four bytes.
    let mut record = vec![1, sequence.profile, sequence.constraints, sequence.level, 0xff, 0xe1];
    let put = |record: &mut Vec<u8>, nal: &[u8]| {
        record.put_u16(u16::try_from(nal.len()).unwrap_or(u16::MAX));
        record.extend_from_slice(&nal[..nal.len().min(usize::from(u16::MAX))]);
    };
    put(&mut record, nal);
    record.put_u8(u8::try_from(pictures.len()).unwrap_or(u8::MAX));
    for picture in pictures {
        put(&mut record, picture);
    }
    if sequence.profile >= 100 {
        // 4:2:0, 8 bits each, no extensions.
        record.extend([0xfd, 0xf8, 0xf8, 0]);
    }
    record.into()
}

/// The parameter sets of an `AVCDecoderConfigurationRecord`, each after its length in four bytes, as they may stand before a keyframe;
/// `None` if it is broken.
pub fn in_band(record: &[u8]) -> Option<Vec<u8>> {
    let mut sets = Vec::new();
    let mut rest = record.get(5..)?;
    for mask in [0x1f, 0xff] {
        let (count, behind) = rest.split_first()?;
        rest = behind;
        for _ in 0..count & mask {
            let (length, behind) = rest.split_first_chunk::<2>()?;
            let (nal, behind) = behind.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
            sets.put_u32(u32::try_from(nal.len()).ok()?);
            sets.extend_from_slice(nal);
            rest = behind;
        }
    }
    Some(sets)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Of x264, of 1280 x 720 in high profile.
    const SEQUENCE: [u8; 26] = [
        0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00,
        0x00, 0x03, 0x03, 0xc0, 0xf1, 0x83, 0x19, 0x60,
    ];
    const PICTURE: [u8; 6] = [0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0];
    const KEY: [u8; 5] = [0x65, 0x88, 0x84, 0x00, 0x07];
    const P: [u8; 4] = [0x41, 0x9a, 0x22, 0x6c];
    const B: [u8; 4] = [0x01, 0x9e, 0x41, 0x79];

    fn together(nals: &[&[u8]]) -> Vec<u8> {
        let mut packet = vec![0x78];
        for nal in nals {
            packet.extend((nal.len() as u16).to_be_bytes());
            packet.extend_from_slice(nal);
        }
        packet
    }

    fn prefixed(nals: &[&[u8]]) -> Vec<u8> {
        nals.iter().flat_map(|nal| [&(nal.len() as u32).to_be_bytes()[..], nal].concat()).collect()
    }

    #[test]
    fn a_keyframe_in_pieces_becomes_one_unit_and_its_parameters_a_record() {
        let mut packets = Depacketizer::default();
        assert_eq!(packets.push(&together(&[&SEQUENCE, &PICTURE]), 7, false, 'a'), []);
        assert_eq!(packets.push(&[0x7c, 0x85, KEY[1], KEY[2]], 7, false, 'a'), []);
        assert_eq!(packets.push(&[0x7c, 0x05, KEY[3]], 7, false, 'a'), []);
        let units = packets.push(&[0x7c, 0x45, KEY[4]], 7, true, 'a');
        let data = Bytes::from(prefixed(&[&KEY]));
        assert_eq!(units, [Unit { due: 'a', key: true, plain: true, follows: true, data }]);
        let parameters = packets.parameters().expect("known");
        assert_eq!((parameters.sequence.width, parameters.sequence.height), (1280, 720));
        let expected =
            [&[1, 0x64, 0, 0x1f, 0xff, 0xe1, 0, 26][..], &SEQUENCE, &[1, 0, 6], &PICTURE, &[0xfd, 0xf8, 0xf8, 0]];
        assert_eq!(parameters.record, expected.concat());
        assert_eq!(in_band(&parameters.record), Some(prefixed(&[&SEQUENCE, &PICTURE])));
        assert_eq!(in_band(&parameters.record[..30]), None);
        let units = packets.push(&P, 8, true, 'b');
        assert_eq!(units, [Unit { due: 'b', key: false, plain: true, follows: true, data: prefixed(&[&P]).into() }]);
    }

    #[test]
    fn senders_that_mark_no_ends_are_a_picture_late_and_lose_none() {
        let mut packets = Depacketizer::default();
        assert_eq!(packets.push(&KEY, 1, false, 1), []);
        let first = packets.push(&P, 2, false, 2);
        assert_eq!((first.len(), first[0].due, first[0].key), (1, 1, true));
        let both: Vec<_> = packets.push(&P, 3, true, 3).iter().map(|unit| unit.due).collect();
        assert_eq!(both, [2, 3]);
    }

    #[test]
    fn pictures_that_wait_for_others_or_change_what_decoders_know_are_told() {
        let mut packets = Depacketizer::default();
        let mut plain = |nals: &[&[u8]], at| packets.push(&together(nals), at, true, ()).pop().expect("a unit").plain;
        assert!(plain(&[&SEQUENCE, &PICTURE, &KEY], 1));
        assert!(plain(&[&P], 2));
        assert!(plain(&[&SEQUENCE, &PICTURE, &P], 3), "nothing new in them");
        assert!(!plain(&[&B], 4));
        assert!(!plain(&[&[0x42, 0x9a, 0x22]], 5), "a partition");
        assert!(!plain(&[&[0x68, 0xee, 0x3c, 0x80], &P], 6), "another picture parameter set");
    }

    #[test]
    fn what_is_missing_or_wrong_spoils_its_unit_and_the_next_one_says_so() {
        let mut packets = Depacketizer::default();
        assert_eq!(packets.push(&KEY, 1, true, 1).len(), 1);
        packets.lost();
        assert_eq!(packets.push(&P, 2, true, 2), [], "it may have begun before");
        assert!(!packets.push(&P, 3, true, 3)[0].follows);
        assert!(packets.push(&P, 4, true, 4)[0].follows);
        // A piece without its beginning, a lying length, a unit that ends in the middle, sequence parameters of 4:4:4.
        let wrong: [&[u8]; 4] = [
            &[0x7c, 0x45, 1],
            &[0x78, 0xff, 0xff, 1],
            &[0x7c, 0x85, 0x88],
            &[0x67, 0xf4, 0, 0x1f, 0x91, 0x9b, 0x28, 0x28],
        ];
        for (n, wrong) in (10..).step_by(2).zip(wrong) {
            assert_eq!(packets.push(wrong, n, true, n), [], "{wrong:02x?}");
            assert!(!packets.push(&P, n + 1, true, n + 1)[0].follows, "{wrong:02x?}");
        }
        assert_eq!(packets.parameters(), None);
    }

    proptest! {
        #[test]
        fn no_packets_panic(packets in prop::collection::vec(
            (prop::sample::select(vec![0x67_u8, 0x68, 0x65, 0x41, 0x78, 0x7c, 0x1f]),
             prop::collection::vec(any::<u8>(), 0..40), 0_u32..4, any::<bool>()), 0..40)) {
            let mut depacketizer = Depacketizer::default();
            for (head, body, timestamp, marker) in packets {
                for unit in depacketizer.push(&[&[head], &body[..]].concat(), timestamp, marker, ()) {
                    prop_assert!(unit.data.len() > 4);
                }
            }
        }
    }
}
