//! The layers of AV1 in RTP ("RTP Payload Format For AV1", version 1.0), as the headers of its OBUs name them.
//!
//! The dependency descriptor in front of each packet names them too, and is what browsers put pictures together by. It goes on as it came,
//! but for the number of its frame, which goes on without a step back where a receiver gets another source: what it says of layers that
//! are left out on the way, nobody builds on.

use bytes::Bytes;
use bytes::BytesMut;

use crate::domain::room::layer::Frame;
use crate::domain::room::layer::MAX_SPATIAL;
use crate::domain::room::picture::Size;
use crate::model::av1::Sequence;
use crate::model::av1::leb128;

/// Bits of the aggregation header (section 4.4).
const CONTINUES: u8 = 0x80;
const IS_CONTINUED: u8 = 0x40;
const BEGINS_SEQUENCE: u8 = 0x08;
/// OBUs of one packet that are looked at: a sequence header, metadata and a frame are usual.
const MAX_OBUS: usize = 8;
/// Types of OBUs (AV1 bitstream specification, section 6.2.2).
const SEQUENCE_HEADER: u8 = 1;
const TILE_GROUP: u8 = 4;
const FRAME: u8 = 6;
/// Packets remembered, for the next ones may continue their OBUs: more than a keyframe has.
const WINDOW: u16 = 512;

/// What a payload says by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Glance {
    begins_sequence: bool,
    continues: bool,
    is_continued: bool,
    /// Temporal and spatial; none where the packet has but the rest of an OBU.
    layer: Option<(u8, u8)>,
    /// Whether its last OBU is of a frame, as far as it begins in this packet.
    is_frame: Option<bool>,
    sequence: Option<Sequence>,
}

/// The number of the layer frame that a dependency descriptor is of: behind a byte of flags and the template (section A.8.2).
pub fn frame_number(descriptor: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes([*descriptor.get(1)?, *descriptor.get(2)?]))
}

/// The descriptor with the number of its frame moved by so many; they wrap.
pub fn renumbered(descriptor: &Bytes, by: u16) -> Bytes {
    match frame_number(descriptor) {
        Some(number) if by != 0 => {
            let mut out = BytesMut::from(&descriptor[..]);
            out[1..3].copy_from_slice(&number.wrapping_add(by).to_be_bytes());
            out.freeze()
        }
        Some(_) | None => descriptor.clone(),
    }
}

/// Whether decoding may begin at this payload.
pub(super) fn begins_sequence(payload: &[u8]) -> bool {
    payload.first().is_some_and(|header| header & (BEGINS_SEQUENCE | CONTINUES) == BEGINS_SEQUENCE)
}

/// How large each spatial layer is, where the payload says how large the largest is: each is half as wide and high as the next, in all
/// modes of W3C's "Scalable Video Coding Extension for WebRTC" but those named `h`, whose sizes come out a little wrong.
pub(super) fn sizes(payload: &[u8]) -> [Option<Size>; MAX_SPATIAL] {
    let sequence = Glance::of(payload).and_then(|glance| glance.sequence);
    std::array::from_fn(|layer| {
        let Sequence { top, width, height } = sequence?;
        let halvings = u8::try_from(layer).ok().and_then(|layer| top.checked_sub(layer))?;
        let side = |pixels: u32| u16::try_from(pixels >> halvings).ok();
        Some(Size { width: side(width)?, height: side(height)? })
    })
}

/// What came lately of a source: a packet with the middle of an OBU does not say which layer it is of.
#[derive(Clone, Debug, Default)]
pub struct Layering(Vec<Option<Known>>);

#[derive(Clone, Copy, Debug)]
struct Known {
    seq: u16,
    layer: (u8, u8),
    is_frame: bool,
    is_continued: bool,
}

impl Layering {
    /// Which layer frame a packet belongs to. One of which that cannot be told is taken for one of the lowest.
    pub(super) fn frame(&mut self, seq: u16, payload: &[u8]) -> Option<Frame> {
        let glance = Glance::of(payload)?;
        let before = self.at(seq.wrapping_sub(1)).filter(|before| glance.continues && before.is_continued);
        let (temporal, spatial) = glance.layer.or(before.map(|before| before.layer)).unwrap_or_default();
        let is_frame = glance.is_frame.or(before.map(|before| before.is_frame)).unwrap_or_default();
        let known = Known { seq, layer: (temporal, spatial), is_frame, is_continued: glance.is_continued };
        self.0.resize(usize::from(WINDOW), None);
        self.0[usize::from(seq % WINDOW)] = Some(known);
        Some(Frame {
            spatial,
            temporal,
            begins: !glance.continues,
            ends: is_frame && !glance.is_continued,
            is_predicted: !glance.begins_sequence,
            // Whether higher layers need it is not told; in some modes they do.
            is_spare: false,
            // In all of W3C's modes nothing builds on a higher temporal layer from before the last picture of the lowest.
            is_switching_point: temporal == 0,
            top: glance.sequence.map(|sequence| sequence.top),
            number: None,
        })
    }

    fn at(&self, seq: u16) -> Option<Known> {
        self.0.get(usize::from(seq % WINDOW))?.filter(|known| known.seq == seq)
    }
}

impl Glance {
    fn of(payload: &[u8]) -> Option<Self> {
        let (header, mut rest) = payload.split_first()?;
        let continues = header & CONTINUES != 0;
        let count = usize::from(header >> 4 & 3);
        let mut found = Self {
            begins_sequence: begins_sequence(payload),
            continues,
            is_continued: header & IS_CONTINUED != 0,
            ..Self::default()
        };
        for index in 1..=MAX_OBUS {
            if rest.is_empty() {
                break;
            }
            let obu = if index == count {
                std::mem::take(&mut rest)
            } else {
                let (length, behind) = leb128(rest)?;
                let (obu, behind) = behind.split_at_checked(length)?;
                rest = behind;
                obu
            };
            if index > 1 || !continues {
                found.look(obu);
            }
        }
        Some(found)
    }

    fn look(&mut self, obu: &[u8]) {
        let Some(header) = obu.first() else { return };
        let kind = header >> 3 & 15;
        self.is_frame = Some(matches!(kind, FRAME | TILE_GROUP));
        let mut at = 1;
        if header & 4 != 0 {
            let extension = obu.get(1).copied().unwrap_or_default();
            self.layer = Some((extension >> 5, extension >> 3 & 3));
            at = 2;
        } else if self.layer.is_none() && kind != SEQUENCE_HEADER {
            self.layer = Some((0, 0));
        }
        if kind == SEQUENCE_HEADER {
            self.sequence = obu.get(at..).and_then(|rest| {
                let rest = if header & 2 != 0 { leb128(rest)?.1 } else { rest };
                Sequence::read(rest)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(text: &str) -> Vec<u8> {
        let bits: Vec<u8> = text.bytes().filter(u8::is_ascii_digit).map(|digit| digit - b'0').collect();
        bits.chunks(8).map(|chunk| chunk.iter().enumerate().fold(0, |byte, (n, bit)| byte | bit << (7 - n))).collect()
    }

    /// A keyframe's first packet: a sequence header of two operating points, the first with three spatial layers, and the beginning of a
    /// frame of the lowest.
    fn key() -> Vec<u8> {
        let sequence =
            bytes("000 0 0 0 0 00001 0111 00000111 00101 0001 00000001 00101 1001 1001 1110111111 1000011011");
        let mut payload = vec![0x68, u8::try_from(sequence.len() + 1).expect("short"), 0x08];
        payload.extend(sequence);
        payload.extend([0x34, 0x00, 1, 2, 3]);
        payload
    }

    #[test]
    fn the_first_packet_of_a_sequence_tells_its_layers_and_sizes() {
        let payload = key();
        assert!(begins_sequence(&payload));
        let frame = Layering::default().frame(7, &payload).expect("well formed");
        assert!(frame.is_key() && frame.begins && !frame.ends);
        assert_eq!(frame.top, Some(2));
        let size = |width, height| Some(Size { width, height });
        assert_eq!(sizes(&payload), [size(240, 135), size(480, 270), size(960, 540)]);
    }

    #[test]
    fn the_rest_of_a_frame_is_of_the_layer_it_began_in() {
        let mut layering = Layering::default();
        // Layer 1 of temporal layer 2, in three packets of which the last comes second.
        let parts: [&[u8]; 3] = [&[0x50, 0x34, 0x48, 9], &[0xd0, 9, 9], &[0x90, 9]];
        let first = layering.frame(65_535, parts[0]).expect("well formed");
        assert_eq!((first.temporal, first.spatial, first.begins, first.ends), (2, 1, true, false));
        let unknown = layering.frame(1, parts[2]).expect("well formed");
        assert_eq!((unknown.temporal, unknown.spatial), (0, 0));
        let middle = layering.frame(0, parts[1]).expect("well formed");
        assert_eq!((middle.temporal, middle.spatial, middle.begins, middle.ends), (2, 1, false, false));
        let last = layering.frame(1, parts[2]).expect("well formed");
        assert_eq!((last.temporal, last.spatial, last.begins, last.ends), (2, 1, false, true));
    }

    #[test]
    fn the_number_of_a_frame_moves_in_its_descriptor_and_nothing_else() {
        let descriptor = Bytes::from_static(&[0xc3, 0xff, 0xfe, 0x80, 7]);
        assert_eq!(frame_number(&descriptor), Some(0xfffe));
        assert_eq!(renumbered(&descriptor, 3), [0xc3, 0x00, 0x01, 0x80, 7][..]);
        assert_eq!(renumbered(&descriptor, 0), descriptor);
        assert_eq!(renumbered(&Bytes::from_static(&[1, 2]), 3), [1, 2][..], "too short to have one");
    }

    #[test]
    fn a_stream_without_layers_has_one() {
        let frame = Layering::default().frame(0, &[0x10, 0x30, 1, 2]).expect("well formed");
        assert_eq!((frame.temporal, frame.spatial, frame.ends, frame.top), (0, 0, true, None));
        assert!(frame.is_predicted);
    }

    proptest! {
        #[test]
        fn hostile_payloads_are_read_without_harm(payloads in prop::collection::vec((any::<u16>(), prop::collection::vec(any::<u8>(), 0..40)), 1..20)) {
            let mut layering = Layering::default();
            for (seq, payload) in payloads {
                layering.frame(seq, &payload);
                sizes(&payload);
            }
        }
    }
}
