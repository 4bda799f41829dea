//! Datagrams in a byte stream: each behind its length, two bytes (RFC 4571 section 2).

use bytes::Buf;
use bytes::BufMut;
use bytes::BytesMut;

const PREFIX: usize = 2;

/// Longest frame taken. Browsers keep datagrams under 1300 bytes on any transport; the length could say 65 535.
pub(in crate::driver::rtc) const MAX_FRAME: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {0} bytes")]
pub(in crate::driver::rtc) struct TooLong(usize);

/// What has come of the stream and is not yet a whole frame.
#[derive(Debug, Default)]
pub(in crate::driver::rtc) struct Deframer {
    buffer: BytesMut,
}

impl Deframer {
    /// Where the stream's next bytes go, at the end.
    pub(in crate::driver::rtc) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next whole frame; empty ones are allowed and passed over.
    ///
    /// # Errors
    /// [`TooLong`]: the stream cannot be followed any further.
    pub(in crate::driver::rtc) fn next(&mut self) -> Result<Option<BytesMut>, TooLong> {
        loop {
            let Some((prefix, rest)) = self.buffer.split_first_chunk::<PREFIX>() else { return Ok(None) };
            let length = usize::from(u16::from_be_bytes(*prefix));
            if length > MAX_FRAME {
                return Err(TooLong(length));
            }
            if rest.len() < length {
                self.buffer.reserve(PREFIX + length - self.buffer.len());
                return Ok(None);
            }
            self.buffer.advance(PREFIX);
            if length > 0 {
                return Ok(Some(self.buffer.split_to(length)));
            }
        }
    }
}

/// Appends a datagram as a frame. One that is longer than a length can say is left out, as a network would lose it.
pub(in crate::driver::rtc) fn frame(datagram: &[u8], out: &mut BytesMut) {
    if let Ok(length) = u16::try_from(datagram.len()) {
        out.put_u16(length);
        out.put_slice(datagram);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stream(datagrams: &[Vec<u8>]) -> BytesMut {
        let mut out = BytesMut::new();
        datagrams.iter().for_each(|datagram| frame(datagram, &mut out));
        out
    }

    fn drain(deframer: &mut Deframer) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| deframer.next().expect("short frames")).map(|frame| frame.to_vec()).collect()
    }

    #[test]
    fn any_two_pieces_give_the_same_frames() {
        let datagrams = [vec![1], vec![2; 300], vec![0, 0, 3], vec![4; MAX_FRAME]];
        let stream = stream(&datagrams);
        for at in 0..=stream.len() {
            let mut deframer = Deframer::default();
            let mut got = Vec::new();
            for piece in [&stream[..at], &stream[at..]] {
                deframer.buffer().extend_from_slice(piece);
                got.extend(drain(&mut deframer));
            }
            assert_eq!(got, datagrams, "cut at {at}");
            assert!(deframer.buffer().is_empty());
        }
    }

    #[test]
    fn a_frame_that_is_too_long_is_refused_before_it_has_come() {
        let mut deframer = Deframer::default();
        deframer.buffer().extend_from_slice(&u16::try_from(MAX_FRAME + 1).expect("short").to_be_bytes());
        assert_eq!(deframer.next(), Err(TooLong(MAX_FRAME + 1)));
    }

    proptest! {
        #[test]
        fn however_the_stream_is_cut_the_frames_are_the_same(
            datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
            cuts in prop::collection::vec(1..64_usize, 1..400),
        ) {
            let mut stream = stream(&datagrams);
            let mut deframer = Deframer::default();
            let mut got = Vec::new();
            let mut cuts = cuts.iter().cycle();
            while !stream.is_empty() {
                let piece = stream.split_to(stream.len().min(*cuts.next().expect("a cycle")));
                deframer.buffer().extend_from_slice(&piece);
                got.extend(drain(&mut deframer));
            }
            let sent: Vec<_> = datagrams.into_iter().filter(|datagram| !datagram.is_empty()).collect();
            prop_assert_eq!(got, sent);
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_never_pile_up(bytes in prop::collection::vec(any::<u8>(), 0..20_000)) {
            let mut deframer = Deframer::default();
            for piece in bytes.chunks(100) {
                deframer.buffer().extend_from_slice(piece);
                while let Ok(Some(frame)) = deframer.next() {
                    prop_assert!(frame.len() <= MAX_FRAME);
                }
                if deframer.next().is_err() {
                    return Ok(());
                }
                prop_assert!(deframer.buffer().len() < PREFIX + MAX_FRAME);
            }
        }
    }
}
