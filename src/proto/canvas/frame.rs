//! The binary header of canvas frames, and what a frame must be before anybody may decode it.
//!
//! All numbers are in network byte order: version (u8, 1), format (u8), flags (u8, bit 0: keyframe), reserved (u8, 0), width (u16),
//! height (u16), timestamp in microseconds (u64), length of the data (u32), data. A message holds one frame or several, one after the
//! other.

use bytes::Buf;
use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;

use crate::model::media::CanvasFormat;
use crate::model::media::CanvasFrame;
use crate::proto::canvas::MOST_FRAMES;
use crate::proto::canvas::MOST_PIXELS;
use crate::proto::canvas::MOST_SIDE;

/// Bytes of a frame's header.
pub const HEADER: usize = 20;

const VERSION: u8 = 1;
const KEYFRAME: u8 = 1;

/// A message or a frame that is not what its header says. What it holds is not looked at any further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("a message must hold at least one frame: a header of {HEADER} bytes and its data")]
    Empty,
    #[error("a message holds more than {MOST_FRAMES} frames; send them in several")]
    TooManyFrames,
    #[error("the header is of version {0}; this gateway knows version {VERSION}")]
    Version(u8),
    #[error("there is no format {0}; 1 is H.264, 2 VP8, 3 JPEG, 4 WebP, 5 PNG, 6 raw RGBA")]
    Format(u8),
    #[error("the message ends before the {0} bytes of data that a header announces")]
    CutShort(u32),
    #[error(
        "a canvas of {0}x{1} is not taken: both sides must be 16 to {MOST_SIDE} pixels, and all together at most {MOST_PIXELS}"
    )]
    Size(u16, u16),
    #[error("the header says {told:?} and the {format} itself {found:?} pixels")]
    OtherSize { format: &'static str, told: (u16, u16), found: (usize, usize) },
    #[error("raw RGBA of {0}x{1} is {2} bytes long, not {3}")]
    RawLength(u16, u16, usize, usize),
    #[error("the data is not {0}")]
    NotThat(&'static str),
    #[error("the first frame of H.264 or VP8, and any after a change of format or size, must be a keyframe")]
    NoKeyframe,
}

/// The frames of one message, each checked as it is taken.
#[derive(Debug)]
pub struct Frames {
    rest: Bytes,
    taken: usize,
}

impl Frames {
    pub const fn new(message: Bytes) -> Self {
        Self { rest: message, taken: 0 }
    }
}

impl Iterator for Frames {
    type Item = Result<CanvasFrame, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() && self.taken > 0 {
            return None;
        }
        self.taken += 1;
        let frame = if self.taken > MOST_FRAMES { Err(Malformed::TooManyFrames) } else { read(&mut self.rest) };
        if frame.is_err() {
            self.rest.clear();
        }
        Some(frame)
    }
}

fn read(input: &mut Bytes) -> Result<CanvasFrame, Malformed> {
    if input.len() < HEADER {
        return Err(Malformed::Empty);
    }
    let version = input.get_u8();
    if version != VERSION {
        return Err(Malformed::Version(version));
    }
    let format = format_of(input.get_u8())?;
    let flags = input.get_u8();
    input.advance(1);
    let (width, height) = (input.get_u16(), input.get_u16());
    let timestamp_us = input.get_u64();
    let length = input.get_u32();
    if input.len() < length as usize {
        return Err(Malformed::CutShort(length));
    }
    let data = input.split_to(length as usize);
    let key = flags & KEYFRAME != 0 || !format.has_deltas();
    let frame = CanvasFrame { format, key, width, height, timestamp_us, data };
    check(&frame)?;
    Ok(frame)
}

/// Appends a frame with its header.
pub fn write(frame: &CanvasFrame, out: &mut BytesMut) {
    out.put_u8(VERSION);
    out.put_u8(number_of(frame.format));
    out.put_u8(if frame.key { KEYFRAME } else { 0 });
    out.put_u8(0);
    out.put_u16(frame.width);
    out.put_u16(frame.height);
    out.put_u64(frame.timestamp_us);
    out.put_u32(u32::try_from(frame.data.len()).expect("a frame is far under 4 GiB"));
    out.put_slice(&frame.data);
}

/// Holds a frame against its header without decoding it: a few bytes can ask a decoder for gigabytes.
fn check(frame: &CanvasFrame) -> Result<(), Malformed> {
    let (width, height) = (frame.width, frame.height);
    let sides = 16..=MOST_SIDE;
    if !sides.contains(&width) || !sides.contains(&height) || u32::from(width) * u32::from(height) > MOST_PIXELS {
        return Err(Malformed::Size(width, height));
    }
    let name = frame.format.as_str();
    let found = match frame.format {
        CanvasFormat::Rgba => {
            let length = usize::from(width) * usize::from(height) * 4;
            let fits = frame.data.len() == length;
            return if fits { Ok(()) } else { Err(Malformed::RawLength(width, height, frame.data.len(), length)) };
        }
        CanvasFormat::Jpeg => picture(frame, imagesize::ImageType::Jpeg)?,
        CanvasFormat::Webp => picture(frame, imagesize::ImageType::Webp)?,
        CanvasFormat::Png => picture(frame, imagesize::ImageType::Png)?,
        CanvasFormat::Vp8 => match vp8(&frame.data, frame.key)? {
            Some(size) => size,
            None => return Ok(()),
        },
        // Its size stands in the sequence parameter set, where the mixer's parser reads it and refuses a larger one.
        CanvasFormat::H264 => {
            let begins = frame.data.starts_with(&[0, 0, 1]) || frame.data.starts_with(&[0, 0, 0, 1]);
            return if begins { Ok(()) } else { Err(Malformed::NotThat("H.264 in the Annex B form")) };
        }
    };
    if found == (usize::from(width), usize::from(height)) {
        Ok(())
    } else {
        Err(Malformed::OtherSize { format: name, told: (width, height), found })
    }
}

fn picture(frame: &CanvasFrame, expected: imagesize::ImageType) -> Result<(usize, usize), Malformed> {
    let wrong = || Malformed::NotThat(frame.format.as_str());
    let kind = imagesize::image_type(&frame.data).map_err(|_| wrong())?;
    if kind != expected {
        return Err(wrong());
    }
    let size = imagesize::blob_size(&frame.data).map_err(|_| wrong())?;
    Ok((size.width, size.height))
}

/// The size that a keyframe says (RFC 6386 section 9.1); `None` for a frame that builds on others.
fn vp8(data: &[u8], key: bool) -> Result<Option<(usize, usize)>, Malformed> {
    let wrong = Malformed::NotThat("VP8");
    let Some(first) = data.first() else { return Err(wrong) };
    // Bit 0 is clear in a keyframe.
    if (first & 1 == 0) != key {
        return Err(wrong);
    }
    if !key {
        return Ok(None);
    }
    let header = data.get(3..10).ok_or(wrong.clone())?;
    if header[..3] != [0x9d, 0x01, 0x2a] {
        return Err(wrong);
    }
    let side = |low: u8, high: u8| usize::from(u16::from_le_bytes([low, high]) & 0x3fff);
    Ok(Some((side(header[3], header[4]), side(header[5], header[6]))))
}

const fn number_of(format: CanvasFormat) -> u8 {
    match format {
        CanvasFormat::H264 => 1,
        CanvasFormat::Vp8 => 2,
        CanvasFormat::Jpeg => 3,
        CanvasFormat::Webp => 4,
        CanvasFormat::Png => 5,
        CanvasFormat::Rgba => 6,
    }
}

const fn format_of(number: u8) -> Result<CanvasFormat, Malformed> {
    Ok(match number {
        1 => CanvasFormat::H264,
        2 => CanvasFormat::Vp8,
        3 => CanvasFormat::Jpeg,
        4 => CanvasFormat::Webp,
        5 => CanvasFormat::Png,
        6 => CanvasFormat::Rgba,
        other => return Err(Malformed::Format(other)),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn raw(width: u16, height: u16) -> CanvasFrame {
        let data = Bytes::from(vec![7; usize::from(width) * usize::from(height) * 4]);
        CanvasFrame { format: CanvasFormat::Rgba, key: true, width, height, timestamp_us: 40_000, data }
    }

    fn with(format: CanvasFormat, size: (u16, u16), key: bool, data: &[u8]) -> CanvasFrame {
        let data = Bytes::copy_from_slice(data);
        CanvasFrame { format, key, width: size.0, height: size.1, timestamp_us: 1, data }
    }

    fn message(frames: &[CanvasFrame]) -> Bytes {
        let mut out = BytesMut::new();
        frames.iter().for_each(|frame| write(frame, &mut out));
        out.freeze()
    }

    fn only(frame: &CanvasFrame) -> Result<CanvasFrame, Malformed> {
        Frames::new(message(std::slice::from_ref(frame))).next().expect("one")
    }

    /// The start of a PNG of that size: enough for everybody who asks how large it is.
    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut data = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
        data.extend(width.to_be_bytes());
        data.extend(height.to_be_bytes());
        data.extend([8, 6, 0, 0, 0, 0, 0, 0, 0]);
        data
    }

    #[test]
    fn a_batch_is_read_frame_by_frame() {
        let sent = [raw(16, 16), raw(32, 18)];
        let read: Result<Vec<_>, _> = Frames::new(message(&sent)).collect();
        assert_eq!(read.expect("both are good"), sent);
    }

    #[test]
    fn a_message_without_a_frame_or_with_too_many_is_refused() {
        assert_eq!(Frames::new(Bytes::new()).next(), Some(Err(Malformed::Empty)));
        let read: Vec<_> = Frames::new(message(&vec![raw(16, 16); MOST_FRAMES + 1])).collect();
        assert_eq!((read.len(), read.last()), (MOST_FRAMES + 1, Some(&Err(Malformed::TooManyFrames))));
    }

    #[test]
    fn a_picture_that_is_larger_than_its_header_says_is_never_decoded() {
        let bomb = with(CanvasFormat::Png, (64, 64), true, &png(60_000, 60_000));
        let refused = Malformed::OtherSize { format: "png", told: (64, 64), found: (60_000, 60_000) };
        assert_eq!(only(&bomb), Err(refused));
        assert!(only(&with(CanvasFormat::Png, (64, 64), true, &png(64, 64))).is_ok());
        let as_jpeg = with(CanvasFormat::Jpeg, (64, 64), true, &png(64, 64));
        assert_eq!(only(&as_jpeg), Err(Malformed::NotThat("jpeg")));
    }

    #[test]
    fn vp8_tells_its_size_and_whether_it_is_a_keyframe() {
        let key = [0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01];
        assert!(only(&with(CanvasFormat::Vp8, (640, 360), true, &key)).is_ok());
        assert!(only(&with(CanvasFormat::Vp8, (640, 362), true, &key)).is_err(), "another size");
        assert!(only(&with(CanvasFormat::Vp8, (640, 360), false, &key)).is_err(), "a keyframe that is called none");
        assert!(only(&with(CanvasFormat::Vp8, (640, 360), false, &[0x11, 0])).is_ok());
        assert!(only(&with(CanvasFormat::Vp8, (640, 360), true, &key[..9])).is_err(), "cut short");
    }

    #[test]
    fn sizes_and_lengths_that_lie_are_refused() {
        assert_eq!(only(&raw(14, 16)), Err(Malformed::Size(14, 16)));
        let mut large = raw(16, 16);
        (large.width, large.height) = (1920, 1920);
        assert_eq!(only(&large), Err(Malformed::Size(1920, 1920)));
        (large.width, large.height) = (16, 18);
        assert_eq!(only(&large), Err(Malformed::RawLength(16, 18, 1024, 1152)));
        let mut cut = message(&[raw(16, 16)]).to_vec();
        cut.pop();
        assert_eq!(Frames::new(cut.into()).next(), Some(Err(Malformed::CutShort(1024))));
    }

    proptest! {
        #[test]
        fn arbitrary_messages_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), format in 0u8..8) {
            let mut bytes = bytes;
            if bytes.len() > 2 {
                (bytes[0], bytes[1]) = (VERSION, format);
            }
            let read: Vec<_> = Frames::new(bytes.into()).collect();
            prop_assert!((1..=MOST_FRAMES + 1).contains(&read.len()));
        }
    }
}
