//! The VP9 payload descriptor (RFC 9628 section 4.2): which layer of which picture a packet belongs to, and what that layer needs.

use crate::domain::room::layer::Frame;
use crate::domain::room::layer::MAX_SPATIAL;
use crate::domain::room::picture::Size;

/// Where things stand in a payload; all of them within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub(super) frame: Frame,
    /// Where the picture number is, and whether it has 15 bits instead of 7.
    pub(super) picture: Option<(usize, bool)>,
    /// Where TL0PICIDX is, which is there in the non-flexible mode only.
    pub(super) base: Option<usize>,
    pub(super) sizes: [Option<Size>; MAX_SPATIAL],
    /// Where the frame itself begins.
    pub(super) body: usize,
}

const HAS_PICTURE: u8 = 0x80;
const IS_PREDICTED: u8 = 0x40;
const HAS_LAYERS: u8 = 0x20;
const IS_FLEXIBLE: u8 = 0x10;
const BEGINS: u8 = 0x08;
const ENDS: u8 = 0x04;
const HAS_STRUCTURE: u8 = 0x02;
const IS_SPARE: u8 = 0x01;
/// Reference indices of a flexible frame at most.
const MAX_REFERENCES: usize = 3;

impl Descriptor {
    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        let mut bytes = Bytes { payload, at: 0 };
        let flags = bytes.next()?;
        let has = |flag: u8| flags & flag != 0;
        let mut frame = Frame {
            begins: has(BEGINS),
            ends: has(ENDS),
            is_predicted: has(IS_PREDICTED),
            is_spare: has(IS_SPARE),
            ..Frame::default()
        };
        let (mut picture, mut base) = (None, None);
        if has(HAS_PICTURE) {
            let at = bytes.at;
            let is_long = bytes.next()? & 0x80 != 0;
            if is_long {
                bytes.next()?;
            }
            picture = Some((at, is_long));
        }
        if has(HAS_LAYERS) {
            let layer = bytes.next()?;
            frame.temporal = layer >> 5;
            frame.is_switching_point = layer & 0x10 != 0;
            frame.spatial = layer >> 1 & 7;
            if !has(IS_FLEXIBLE) {
                base = Some(bytes.at);
                bytes.next()?;
            }
        }
        if has(IS_FLEXIBLE) && has(IS_PREDICTED) {
            for reference in 1.. {
                let another_follows = bytes.next()? & 1 != 0;
                if !another_follows {
                    break;
                }
                if reference == MAX_REFERENCES {
                    return None;
                }
            }
        }
        let mut sizes = [None; MAX_SPATIAL];
        if has(HAS_STRUCTURE) {
            frame.top = Some(bytes.structure(&mut sizes)?);
        }
        Some(Self { frame, picture, base, sizes, body: bytes.at })
    }

    /// Whether decoding may begin at this packet.
    pub(super) const fn begins_keyframe(&self) -> bool {
        self.frame.begins && self.frame.is_key()
    }
}

struct Bytes<'a> {
    payload: &'a [u8],
    at: usize,
}

impl Bytes<'_> {
    fn next(&mut self) -> Option<u8> {
        let byte = *self.payload.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn number(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.next()?, self.next()?]))
    }

    /// The scalability structure (section 4.2.1): gives the highest spatial layer, and notes the sizes it tells.
    fn structure(&mut self, sizes: &mut [Option<Size>; MAX_SPATIAL]) -> Option<u8> {
        let flags = self.next()?;
        let top = flags >> 5;
        if flags & 0x10 != 0 {
            for layer in 0..=usize::from(top) {
                let size = Size { width: self.number()?, height: self.number()? };
                if let Some(place) = sizes.get_mut(layer) {
                    *place = Some(size);
                }
            }
        }
        if flags & 0x08 != 0 {
            for _ in 0..self.next()? {
                let references = self.next()? >> 2 & 3;
                for _ in 0..references {
                    self.next()?;
                }
            }
        }
        Some(top)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first packet of a keyframe of three sizes in the non-flexible mode, as Chromium sends it: 15 bits of picture number, layer 0
    /// of both kinds, TL0PICIDX, and a structure of three sizes and a group of one picture without references.
    const KEY: [u8; 25] = [
        0xaa, 0xff, 0xfe, 0x10, 0x07, 0x58, 0, 240, 0, 135, 1, 224, 1, 14, 3, 192, 2, 28, 1, 0x10, 0x82, 0x49, 0x83,
        0x42, 0,
    ];

    fn size(width: u16, height: u16) -> Option<Size> {
        Some(Size { width, height })
    }

    #[test]
    fn the_first_packet_of_a_keyframe_tells_its_layers_and_sizes() {
        let found = Descriptor::parse(&KEY).expect("well formed");
        assert!(found.begins_keyframe());
        assert_eq!(found.frame.top, Some(2));
        assert!(found.frame.is_switching_point && !found.frame.ends && !found.frame.is_spare);
        assert_eq!((found.picture, found.base), (Some((1, true)), Some(4)));
        assert_eq!(found.sizes, [size(240, 135), size(480, 270), size(960, 540)]);
        assert_eq!(found.body, 20);
        for length in 0..found.body {
            assert_eq!(Descriptor::parse(&KEY[..length]), None, "cut to {length} bytes");
        }
    }

    #[test]
    fn a_flexible_frame_has_references_instead_of_a_base() {
        // Layer 2 of temporal layer 1, predicted from two pictures, end of a frame that nobody else needs.
        let found = Descriptor::parse(&[0xf5, 0x11, 0x25, 0x03, 0x02, 0xff]).expect("well formed");
        assert_eq!((found.frame.spatial, found.frame.temporal), (2, 1));
        assert!(found.frame.is_predicted && found.frame.ends && found.frame.is_spare && !found.frame.begins);
        assert_eq!((found.picture, found.base, found.body), (Some((1, false)), None, 5));
        assert_eq!(Descriptor::parse(&[0xf5, 0x11, 0x25, 3, 3, 3, 3]), None, "a fourth reference");
    }

    #[test]
    fn a_stream_without_layers_has_one() {
        let found = Descriptor::parse(&[0x8c, 0x05, 0x82]).expect("well formed");
        assert_eq!((found.frame.spatial, found.frame.temporal, found.frame.top), (0, 0, None));
        assert!(found.begins_keyframe() && found.frame.ends);
        assert!(!Descriptor::parse(&[0xcc, 0x05, 0x82]).expect("well formed").begins_keyframe(), "predicted");
        assert!(!Descriptor::parse(&[0x84, 0x05, 0x82]).expect("well formed").begins_keyframe(), "its end");
    }
}
