//! What an uploaded picture says of itself, read before anybody decodes it: a tiny file can ask for gigabytes.

/// Bytes of a picture, so that a request with it stays under the limit of a body.
pub const MOST_BYTES: usize = 45 * 1024;

/// The shortest and the longest side, pixels.
pub const LEAST_SIDE: u32 = 8;
pub const MOST_SIDE: u32 = 2048;

const PNG: [u8; 8] = *b"\x89PNG\r\n\x1a\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Png,
    Jpeg,
}

/// A picture that may be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picture {
    pub format: Format,
    /// Pixels.
    pub width: u32,
    pub height: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PictureError {
    #[error("must be a PNG or a JPEG")]
    Unknown,
    #[error("is not whole")]
    Truncated,
    #[error("must have at most {MOST_BYTES} bytes")]
    TooLong,
    #[error("must be {LEAST_SIDE} to {MOST_SIDE} pixels wide and high, not {0} x {1}")]
    WrongSize(u32, u32),
}

/// Reads the head of a PNG or a JPEG.
///
/// # Errors
/// [`PictureError`]: another format, cut off, or beyond the limits.
pub fn read(bytes: &[u8]) -> Result<Picture, PictureError> {
    if bytes.len() > MOST_BYTES {
        return Err(PictureError::TooLong);
    }
    let (format, width, height) = if let Some(rest) = bytes.strip_prefix(&PNG) {
        let (width, height) = png(rest).ok_or(PictureError::Truncated)?;
        (Format::Png, width, height)
    } else if let Some(rest) = bytes.strip_prefix(&[0xff, 0xd8]) {
        let (width, height) = jpeg(rest).ok_or(PictureError::Truncated)?;
        (Format::Jpeg, width, height)
    } else {
        return Err(PictureError::Unknown);
    };
    if [width, height].iter().all(|side| (LEAST_SIDE..=MOST_SIDE).contains(side)) {
        Ok(Picture { format, width, height })
    } else {
        Err(PictureError::WrongSize(width, height))
    }
}

/// The first chunk of a PNG is IHDR, with width and height first (ISO/IEC 15948 section 11.2.2).
fn png(rest: &[u8]) -> Option<(u32, u32)> {
    let head = rest.strip_prefix(b"\x00\x00\x00\x0dIHDR")?;
    let (width, rest) = head.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*width), u32::from_be_bytes(*rest.first_chunk()?)))
}

/// Walks the segments of a JPEG up to its frame header (ITU-T T.81 section B.2.2).
fn jpeg(mut rest: &[u8]) -> Option<(u32, u32)> {
    loop {
        let marker = rest.iter().position(|byte| *byte != 0xff).filter(|fill| *fill > 0)?;
        let kind = rest[marker];
        rest = &rest[marker + 1..];
        // Markers without a length.
        if matches!(kind, 0x01 | 0xd0..=0xd8) {
            continue;
        }
        let length = usize::from(u16::from_be_bytes(*rest.first_chunk()?));
        // SOF0 to SOF15, without the tables and the extension that have numbers among them.
        if matches!(kind, 0xc0..=0xcf) && !matches!(kind, 0xc4 | 0xc8 | 0xcc) {
            let [height, width] =
                [rest.get(3..5)?, rest.get(5..7)?].map(|side| u32::from(side[0]) << 8 | u32::from(side[1]));
            return Some((width, height));
        }
        // The picture itself begins, and nobody has said how large it is.
        if kind == 0xda || length < 2 {
            return None;
        }
        rest = rest.get(length..)?;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn a_png(width: u32, height: u32) -> Vec<u8> {
        [&PNG[..], b"\x00\x00\x00\x0dIHDR", &width.to_be_bytes(), &height.to_be_bytes(), &[8, 6, 0, 0, 0]].concat()
    }

    fn a_jpeg(width: u16, height: u16) -> Vec<u8> {
        let head: &[u8] = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xff\xc4\x00\x03x\xff\xc2\x00\x11\x08";
        [head, &height.to_be_bytes(), &width.to_be_bytes(), &[3]].concat()
    }

    #[test]
    fn sizes_are_read_and_bombs_are_refused() {
        assert_eq!(read(&a_png(640, 8)), Ok(Picture { format: Format::Png, width: 640, height: 8 }));
        assert_eq!(read(&a_jpeg(320, 240)), Ok(Picture { format: Format::Jpeg, width: 320, height: 240 }));
        assert_eq!(read(&a_png(60_000, 60_000)), Err(PictureError::WrongSize(60_000, 60_000)));
        assert_eq!(read(&a_jpeg(65_535, 10)), Err(PictureError::WrongSize(65_535, 10)));
        assert_eq!(read(&a_png(0, 100)), Err(PictureError::WrongSize(0, 100)));
        for unknown in [&b"GIF89a"[..], b"<svg/>", b"", b"RIFF....WEBP"] {
            assert_eq!(read(unknown), Err(PictureError::Unknown));
        }
        assert_eq!(read(&[&a_png(64, 64)[..], &vec![0; MOST_BYTES]].concat()), Err(PictureError::TooLong));
        // A scan before its frame, and segments that never end.
        for lie in
            [&b"\xff\xd8\xff\xda\x00\x08"[..], b"\xff\xd8\xff\xe0\x00\x00", b"\xff\xd8\xff\xe0\xff\xff", b"\xff\xd8ab"]
        {
            assert_eq!(read(lie), Err(PictureError::Truncated), "{lie:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0..3, cut in 0usize..40) {
            let head = [Vec::new(), a_png(64, 64), a_jpeg(64, 64)][kind as usize].clone();
            let whole = [&head[..], &bytes].concat();
            let _any_answer = read(&whole[..whole.len().saturating_sub(cut)]);
        }
    }
}
