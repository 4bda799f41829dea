//! What a sequence parameter set of H.264 says of the pictures behind it.

use crate::model::bits::Bits;

/// A sequence parameter set, as far as it matters here (ITU-T H.264 section 7.3.2.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// `profile_idc`: 66 baseline, 77 main, 100 high.
    pub profile: u8,
    pub constraints: u8,
    pub level: u8,
    /// Pixels that are shown.
    pub width: u32,
    pub height: u32,
    /// Pixels are as wide as high, as far as it says.
    pub square: bool,
    /// No fields.
    pub progressive: bool,
}

impl Sequence {
    /// Reads the NAL unit of one; `None` for one that is broken or has what no camera needs: scaling lists, other pictures than 4:2:0
    /// of 8 bits.
    pub fn read(nal: &[u8]) -> Option<Self> {
        let &[_, profile, constraints, level, ..] = nal else { return None };
        let mut bits = Bits::of_nal(&nal[4..]);
        bits.exp_golomb()?;
        if profile >= 100 {
            // chroma_format_idc, both bit depths beyond 8, lossless, scaling lists.
            let plain = bits.exp_golomb()? == 1 && bits.exp_golomb()? == 0 && bits.exp_golomb()? == 0;
            if !plain || bits.take(2)? != 0 {
                return None;
            }
        }
        bits.exp_golomb()?;
        match bits.exp_golomb()? {
            0 => drop(bits.exp_golomb()?),
            1 => {
                bits.take(1)?;
                bits.exp_golomb()?;
                bits.exp_golomb()?;
                for _ in 0..bits.exp_golomb().filter(|cycle| *cycle < 256)? {
                    bits.exp_golomb()?;
                }
            }
            _ => {}
        }
        bits.exp_golomb()?;
        bits.take(1)?;
        let side = |blocks: u32| blocks.checked_add(1).filter(|blocks| *blocks <= 1024).map(|blocks| blocks * 16);
        let (width, height) = (side(bits.exp_golomb()?)?, side(bits.exp_golomb()?)?);
        let progressive = bits.take(1)? == 1;
        let (height, step) = if progressive { (height, 2) } else { (height * 2, 4) };
        if !progressive {
            bits.take(1)?;
        }
        bits.take(1)?;
        let mut cut = [0; 4];
        if bits.take(1)? == 1 {
            for (edge, step) in cut.iter_mut().zip([2, 2, step, step]) {
                *edge = bits.exp_golomb()?.checked_mul(step)?;
            }
        }
        let [left, right, top, bottom] = cut;
        let width = width.checked_sub(left)?.checked_sub(right)?;
        let height = height.checked_sub(top)?.checked_sub(bottom)?;
        let square = bits.take(1)? == 0 || bits.take(1)? == 0 || is_square(&mut bits)?;
        Some(Self { profile, constraints, level, width, height, square, progressive })
    }
}

/// `aspect_ratio_idc` (ITU-T H.264 table E-1): 1 is a square, 255 says it in two numbers.
fn is_square(bits: &mut Bits<'_>) -> Option<bool> {
    Some(match bits.take(8)? {
        0 | 1 => true,
        255 => bits.take(16)? == bits.take(16)?,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<_> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
        digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
    }

    #[test]
    fn sequence_parameter_sets_say_how_large_and_of_which_kind_pictures_are() {
        for (text, profile, width, height, square, progressive) in [
            ("6764001facd9405005bb0110000003001000000303c0f1831960", 100, 1280, 720, true, true),
            ("6742c01ed900a02ff970110000030001000003003c0f162e48", 66, 640, 360, true, true),
            ("674d4028d900780227e5c044000003000400000300f03c60c920", 77, 1920, 1080, true, true),
            ("6764001facb201b07bcde022000003000200000300781e306490", 100, 854, 480, true, true),
            ("6764001eacd940a063f3ffe000600082000003000200000300783e28532c", 100, 640, 360, false, false),
        ] {
            let read = Sequence::read(&hex(text)).expect(text);
            assert_eq!((read.profile, read.width, read.height), (profile, width, height), "{text}");
            assert_eq!((read.square, read.progressive), (square, progressive), "{text}");
        }
        // 4:4:4, 10 bits, and one that is cut off.
        for text in ["67f4001f919b2828", "676e001ea6cd9405005b", "6764001facd940"] {
            assert_eq!(Sequence::read(&hex(text)), None, "{text}");
        }
    }
}
