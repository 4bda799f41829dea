//! What a sequence header of AV1 says of the pictures behind it.

use crate::model::bits::Bits;

/// A sequence header, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// The highest spatial layer.
    pub top: u8,
    /// The largest that pictures become.
    pub width: u32,
    pub height: u32,
}

impl Sequence {
    /// AV1 bitstream specification, section 5.5.1, of a stream without timing, as browsers' are; that of others is not read.
    pub fn read(header: &[u8]) -> Option<Self> {
        let mut bits = Bits::of(header);
        let (_profile, _is_still, is_reduced) = (bits.take(3)?, bits.bit()?, bits.bit()? == 1);
        let mut top = 0;
        if is_reduced {
            bits.take(5)?;
        } else {
            let has_timing = bits.bit()? == 1;
            if has_timing {
                return None;
            }
            let has_delays = bits.bit()? == 1;
            for _ in 0..=bits.take(5)? {
                let layers = bits.take(12)? >> 8;
                top = top.max(layers.checked_ilog2().unwrap_or(0));
                if bits.take(5)? > 7 {
                    bits.bit()?;
                }
                if has_delays && bits.bit()? == 1 {
                    bits.take(4)?;
                }
            }
        }
        let (width_bits, height_bits) = (bits.take(4)? + 1, bits.take(4)? + 1);
        let (width, height) = (bits.take(width_bits)? + 1, bits.take(height_bits)? + 1);
        Some(Self { top: u8::try_from(top).ok()?, width, height })
    }
}

/// A number in groups of seven bits, least first (section 4.10.5), of up to four bytes, and what is behind it.
pub fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate().take(4) {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}
