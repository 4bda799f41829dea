//! Reading bit by bit, the most significant first, as the headers of video are written.

/// What is left to be read; every reading is `None` once that is not enough.
#[derive(Clone, Debug)]
pub struct Bits<'a> {
    rest: &'a [u8],
    /// Zero bytes in a row, where a 3 behind two of them is left out.
    zeros: Option<u32>,
    /// The byte that is being read, and how many of its bits are left.
    byte: u8,
    left: u32,
}

impl<'a> Bits<'a> {
    pub const fn of(rest: &'a [u8]) -> Self {
        Self { rest, zeros: None, byte: 0, left: 0 }
    }

    /// Leaves out the bytes that keep a NAL unit from looking like a start code (ITU-T H.264 section 7.4.1).
    pub const fn of_nal(rest: &'a [u8]) -> Self {
        Self { rest, zeros: Some(0), byte: 0, left: 0 }
    }

    /// The next bit.
    pub fn bit(&mut self) -> Option<u32> {
        if self.left == 0 {
            self.byte = self.byte()?;
            self.left = 8;
        }
        self.left -= 1;
        Some(u32::from(self.byte >> self.left & 1))
    }

    fn byte(&mut self) -> Option<u8> {
        let (mut byte, mut rest) = self.rest.split_first()?;
        if let Some(zeros) = &mut self.zeros {
            if *zeros >= 2 && *byte == 3 {
                (byte, rest) = rest.split_first()?;
                *zeros = 0;
            }
            *zeros = if *byte == 0 { *zeros + 1 } else { 0 };
        }
        self.rest = rest;
        Some(*byte)
    }

    /// A number of up to 32 bits.
    pub fn take(&mut self, count: u32) -> Option<u32> {
        (0..count).try_fold(0, |value, _| Some(value << 1 | self.bit()?))
    }

    /// An Exp-Golomb number (ITU-T H.264 section 9.1); `None` from 2^31 - 1 on.
    pub fn exp_golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.bit()? == 0 {
            zeros += 1;
            if zeros > 30 {
                return None;
            }
        }
        Some((1 << zeros) - 1 + self.take(zeros)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_read_across_bytes_and_not_past_their_end() {
        let mut bits = Bits::of(&[0b1010_0000, 0, 3, 0b0001_0110]);
        assert_eq!((bits.bit(), bits.take(3), bits.take(20)), (Some(1), Some(2), Some(3)));
        assert_eq!((bits.exp_golomb(), bits.bit(), bits.take(1)), (Some(10), Some(0), None));
    }

    #[test]
    fn what_keeps_a_nal_unit_apart_is_no_content() {
        let mut bits = Bits::of_nal(&[0, 0, 3, 1, 0, 0, 3, 0, 0, 3, 3]);
        let bytes: Vec<_> = std::iter::from_fn(|| bits.take(8)).collect();
        assert_eq!(bytes, [0, 0, 1, 0, 0, 0, 0, 3]);
    }

    #[test]
    fn exp_golomb_numbers_end() {
        assert_eq!(Bits::of(&[0, 0, 0, 3, 0xff, 0xff, 0xff, 0xff]).exp_golomb(), Some((1 << 31) - 2));
        assert_eq!(Bits::of(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]).exp_golomb(), None);
    }
}
