//! What RTP payloads of video say of their pictures: the picture numbers of VP8 and VP9, and how large a keyframe is.

use bytes::Bytes;
use bytes::BytesMut;

use crate::domain::room::av1;
use crate::domain::room::av1::Layering;
use crate::domain::room::layer::Frame;
use crate::domain::room::layer::MAX_SPATIAL;
use crate::domain::room::vp9;
use crate::model::h264::Sequence;
use crate::model::media::Codec;

/// Width and height in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    pub width: u16,
    pub height: u16,
}

impl Size {
    pub fn pixels(self) -> u32 {
        u32::from(self.width) * u32::from(self.height)
    }
}

/// The running numbers in the payload descriptor of VP8 (RFC 7741 section 4.2) or VP9 (RFC 9628 section 4.2). A sender without them has
/// neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// 15 bits, or 7 where the sender has the short form.
    pub picture: u16,
    pub is_short: bool,
    /// TL0PICIDX: counts the pictures of the lowest temporal layer.
    pub base: Option<u8>,
}

/// What is added to a packet's picture numbers on its way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shift {
    pub picture: u16,
    pub base: u8,
    /// To the number of the frame in a dependency descriptor, which is beside the payload.
    pub frame: u16,
}

impl Numbers {
    pub fn of(codec: Codec, payload: &[u8]) -> Option<Self> {
        Places::of(codec, payload)?.numbers(payload)
    }

    /// Whether these are of the picture after `last`.
    pub fn follow(self, last: Self) -> bool {
        self.is_short == last.is_short && self.picture == last.picture.wrapping_add(1) & self.mask()
    }

    /// These numbers, moved; they wrap within their width.
    pub fn shifted(self, shift: Shift) -> Self {
        Self {
            picture: self.picture.wrapping_add(shift.picture) & self.mask(),
            is_short: self.is_short,
            base: self.base.map(|base| base.wrapping_add(shift.base)),
        }
    }

    /// What moves these numbers to the ones that follow `last`.
    pub fn shift_after(self, last: Self) -> Shift {
        Shift {
            picture: last.picture.wrapping_add(1).wrapping_sub(self.picture) & self.mask(),
            base: last.base.zip(self.base).map_or(0, |(last, own)| last.wrapping_add(1).wrapping_sub(own)),
            frame: 0,
        }
    }

    fn mask(self) -> u16 {
        if self.is_short { 0x7f } else { 0x7fff }
    }
}

impl Shift {
    pub fn is_none(self) -> bool {
        self == Self::default()
    }

    /// The payload with its picture numbers moved: a copy, unless nothing moves or it has none.
    pub fn apply(self, codec: Codec, payload: &Bytes) -> Bytes {
        if self.is_none() {
            return payload.clone();
        }
        let places = Places::of(codec, payload);
        let Some((places, numbers)) = places.and_then(|places| Some((places, places.numbers(payload)?.shifted(self))))
        else {
            return payload.clone();
        };
        let mut out = BytesMut::from(&payload[..]);
        let [high, low] = numbers.picture.to_be_bytes();
        let (at, is_long) = places.picture;
        if is_long {
            (out[at], out[at + 1]) = (high | 0x80, low);
        } else {
            out[at] = low;
        }
        if let (Some(at), Some(base)) = (places.base, numbers.base) {
            out[at] = base;
        }
        out.freeze()
    }
}

/// Where the picture numbers are in a payload that has them.
#[derive(Clone, Copy, Debug)]
struct Places {
    /// And whether it has 15 bits instead of 7.
    picture: (usize, bool),
    base: Option<usize>,
}

impl Places {
    fn of(codec: Codec, payload: &[u8]) -> Option<Self> {
        let (picture, base) = match codec {
            Codec::Vp8 => Descriptor::parse(payload).map(|descriptor| (descriptor.picture, descriptor.base))?,
            Codec::Vp9 => vp9::Descriptor::parse(payload).map(|descriptor| (descriptor.picture, descriptor.base))?,
            Codec::Opus | Codec::H264 | Codec::Av1 => return None,
        };
        Some(Self { picture: picture?, base })
    }

    fn numbers(self, payload: &[u8]) -> Option<Numbers> {
        let (at, is_long) = self.picture;
        let first = *payload.get(at)?;
        let picture =
            if is_long { u16::from_be_bytes([first & 0x7f, *payload.get(at + 1)?]) } else { u16::from(first) };
        Some(Numbers { picture, is_short: !is_long, base: self.base.and_then(|at| payload.get(at).copied()) })
    }
}

/// Where things stand in a VP8 payload; all of them within it.
#[derive(Clone, Copy, Debug)]
struct Descriptor {
    begins_frame: bool,
    picture: Option<(usize, bool)>,
    base: Option<usize>,
    /// The VP8 payload header (RFC 7741 section 4.3), if the packet begins a frame.
    header: usize,
}

impl Descriptor {
    fn parse(payload: &[u8]) -> Option<Self> {
        let first = *payload.first()?;
        // S bit set, partition index 0.
        let mut found = Self { begins_frame: first & 0x17 == 0x10, picture: None, base: None, header: 1 };
        if first & 0x80 == 0 {
            return Some(found);
        }
        let extended = *payload.get(1)?;
        found.header = 2;
        if extended & 0x80 != 0 {
            let is_long = payload.get(found.header)? & 0x80 != 0;
            found.picture = Some((found.header, is_long));
            found.header += if is_long { 2 } else { 1 };
        }
        if extended & 0x40 != 0 {
            found.base = Some(found.header);
            found.header += 1;
        }
        found.header += usize::from(extended & 0x30 != 0);
        (found.header <= payload.len()).then_some(found)
    }
}

/// Whether a picture of VP8 begins at this payload.
pub fn begins_vp8(payload: &[u8]) -> bool {
    Descriptor::parse(payload).is_some_and(|descriptor| descriptor.begins_frame)
}

/// Whether decoding of VP8 may begin at this payload: the start of a frame whose P bit is zero.
pub(super) fn begins_vp8_keyframe(payload: &[u8]) -> bool {
    Descriptor::parse(payload)
        .filter(|descriptor| descriptor.begins_frame)
        .and_then(|descriptor| payload.get(descriptor.header))
        .is_some_and(|header| header & 1 == 0)
}

/// How large the pictures from this keyframe on are, where its payload says so.
pub fn size(codec: Codec, payload: &[u8]) -> Option<Size> {
    match codec {
        Codec::Opus => None,
        Codec::Vp8 => vp8_size(payload),
        Codec::Vp9 | Codec::Av1 => sizes(codec, payload).into_iter().flatten().last(),
        Codec::H264 => h264_size(payload),
    }
}

/// How large each spatial layer is, where the payload says so.
pub fn sizes(codec: Codec, payload: &[u8]) -> [Option<Size>; MAX_SPATIAL] {
    match codec {
        Codec::Vp9 => vp9::Descriptor::parse(payload).map(|descriptor| descriptor.sizes).unwrap_or_default(),
        Codec::Av1 => av1::sizes(payload),
        Codec::Opus | Codec::Vp8 | Codec::H264 => Default::default(),
    }
}

/// Which layer a packet belongs to, if its codec has layers. One of AV1 may be of the layer of those that came before.
pub fn frame(codec: Codec, layering: &mut Layering, seq: u16, payload: &[u8]) -> Option<Frame> {
    match codec {
        Codec::Vp9 => Some(vp9::Descriptor::parse(payload)?.frame),
        Codec::Av1 => layering.frame(seq, payload),
        Codec::Opus | Codec::Vp8 | Codec::H264 => None,
    }
}

/// RFC 6386 section 9.1: three bytes of frame tag, the start code, and twice 14 bits.
fn vp8_size(payload: &[u8]) -> Option<Size> {
    if !begins_vp8_keyframe(payload) {
        return None;
    }
    match payload.get(Descriptor::parse(payload)?.header + 3..)? {
        [0x9d, 0x01, 0x2a, w, wide, h, high, ..] => {
            let number = |low: &u8, high: &u8| u16::from_le_bytes([*low, *high & 0x3f]);
            Some(Size { width: number(w, wide), height: number(h, high) })
        }
        _ => None,
    }
}

/// The sequence parameter set, alone or in an aggregate (RFC 6184 sections 5.6 and 5.7.1).
fn h264_size(payload: &[u8]) -> Option<Size> {
    const SPS: u8 = 7;
    const STAP_A: u8 = 24;
    match payload.first()? & 0x1f {
        SPS => sps_size(payload),
        STAP_A => {
            let mut rest = payload.get(1..)?;
            while let [high, low, unit @ ..] = rest {
                let unit_size = usize::from(u16::from_be_bytes([*high, *low]));
                let (unit, next) = unit.split_at_checked(unit_size)?;
                if unit.first().is_some_and(|nal| nal & 0x1f == SPS) {
                    return sps_size(unit);
                }
                rest = next;
            }
            None
        }
        _ => None,
    }
}

fn sps_size(unit: &[u8]) -> Option<Size> {
    let Sequence { width, height, .. } = Sequence::read(unit)?;
    Some(Size { width: u16::try_from(width).ok()?, height: u16::try_from(height).ok()? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A VP8 keyframe of 640x360 with a long picture id, TL0PICIDX and temporal layer.
    const KEYFRAME: [u8; 16] =
        [0x90, 0xe0, 0xff, 0xfe, 0xff, 0x00, 0x10, 2, 0, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01];

    #[test]
    fn the_numbers_of_vp8_wrap_within_their_width() {
        let numbers = Numbers::of(Codec::Vp8, &KEYFRAME).expect("it has them");
        assert_eq!(numbers, Numbers { picture: 0x7ffe, is_short: false, base: Some(0xff) });
        let out = Shift { picture: 2, base: 3, frame: 0 }.apply(Codec::Vp8, &Bytes::copy_from_slice(&KEYFRAME));
        assert_eq!(Numbers::of(Codec::Vp8, &out), Some(Numbers { picture: 0, is_short: false, base: Some(2) }));
        assert_eq!(out[5..], KEYFRAME[5..], "and nothing else moves");

        let short = Bytes::from_static(&[0x90, 0x80, 0x7f, 0x00]);
        assert_eq!(Shift { picture: 1, base: 0, frame: 0 }.apply(Codec::Vp8, &short), [0x90, 0x80, 0x00, 0x00][..]);
        assert_eq!(Numbers::of(Codec::Vp8, &[0x10, 0x00]), None, "a sender without them");
        assert_eq!(Numbers::of(Codec::H264, &KEYFRAME), None);
    }

    #[test]
    fn sizes_are_read_from_keyframes() {
        assert_eq!(size(Codec::Vp8, &KEYFRAME), Some(Size { width: 640, height: 360 }));
        // Constrained baseline, level 3.1, with frame cropping off and a VUI behind it.
        let hd = [0x67, 0x42, 0xc0, 0x1f, 0xda, 0x01, 0x40, 0x16, 0xec, 0x05, 0xa8, 0x08, 0x08, 0x0a];
        assert_eq!(size(Codec::H264, &hd), Some(Size { width: 1280, height: 720 }));
        let mut aggregate = vec![0x78, 0, 2, 0x06, 0, 0, 14];
        aggregate.extend(hd);
        assert_eq!(size(Codec::H264, &aggregate), Some(Size { width: 1280, height: 720 }));
        assert_eq!(size(Codec::H264, &[0x65, 1, 2]), None, "an IDR slice alone");
    }

    #[test]
    fn cropped_pictures_have_the_size_that_is_seen() {
        // profile 66, level 30, sps 0, frame_num 0, poc type 2, 1 ref, 40x23 macroblocks, frames only, cropped by 4 chroma lines.
        let sps = bits("1 1 011 010 0 000 00101000 0000 10111 1 0 1 1 1 1 00101 0");
        let mut unit = vec![0x67, 66, 0xc0, 30];
        unit.extend(sps);
        assert_eq!(size(Codec::H264, &unit), Some(Size { width: 640, height: 360 }));
    }

    fn bits(text: &str) -> Vec<u8> {
        let bits: Vec<u8> = text.bytes().filter(u8::is_ascii_digit).map(|digit| digit - b'0').collect();
        bits.chunks(8).map(|chunk| chunk.iter().enumerate().fold(0, |byte, (n, bit)| byte | bit << (7 - n))).collect()
    }

    proptest! {
        #[test]
        fn hostile_payloads_are_read_without_harm(payload in prop::collection::vec(any::<u8>(), 0..64), shift in any::<u16>()) {
            let shift = Shift { picture: shift, base: 1, frame: 1 };
            for codec in [Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1, Codec::Opus] {
                let _ = size(codec, &payload);
                let out = shift.apply(codec, &Bytes::from(payload.clone()));
                prop_assert_eq!(out.len(), payload.len());
                let moved = Numbers::of(codec, &payload).map(|numbers| numbers.shifted(shift));
                prop_assert_eq!(Numbers::of(codec, &out), moved);
                let frame = |payload: &[u8]| frame(codec, &mut Layering::default(), 0, payload);
                prop_assert_eq!(frame(&out), frame(&payload));
            }
        }
    }
}
