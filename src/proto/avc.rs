//! H.264 as it lies in containers (ISO/IEC 14496-15): the decoder's configuration, and units with their lengths before them.

use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;
use shiguredo_mp4::Decode;
use shiguredo_mp4::Error;
use shiguredo_mp4::boxes::AvccBox;

/// Bytes of a length, as encoders write them.
const LENGTH: usize = 4;

/// Reads an AVCDecoderConfigurationRecord (section 5.3.3.1).
///
/// # Errors
/// When it is cut off or of another version.
pub fn configuration(record: &[u8]) -> Result<AvccBox, Error> {
    let mut boxed = BytesMut::with_capacity(8 + record.len());
    boxed.put_u32(u32::try_from(8 + record.len()).unwrap_or(u32::MAX));
    boxed.put_slice(b"avcC");
    boxed.put_slice(record);
    AvccBox::decode(&boxed).map(|(record, _)| record)
}

/// The parameter sets of a configuration as NAL units; none if it cannot be read.
pub fn parameter_sets(record: &[u8]) -> Vec<Bytes> {
    let Ok(record) = configuration(record) else { return Vec::new() };
    record.sps_list.into_iter().chain(record.pps_list).map(Bytes::from).collect()
}

/// The NAL units of an access unit; a length that leads beyond its end ends it.
pub fn units(access_unit: &Bytes) -> impl Iterator<Item = Bytes> {
    let mut rest = access_unit.clone();
    std::iter::from_fn(move || {
        let length = rest.first_chunk::<LENGTH>().map(|bytes| u32::from_be_bytes(*bytes) as usize)?;
        let whole = rest.len() - LENGTH >= length;
        whole.then(|| {
            let unit = rest.slice(LENGTH..LENGTH + length);
            rest = rest.slice(LENGTH + length..);
            unit
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Of x264 at 1280x720.
    const RECORD: &[u8] = b"\x01\x64\0\x1f\xff\xe1\0\x1d\x67\x64\0\x1f\xac\xb4\x02\x80\x2d\xd8\x0b\x50\x10\x10\x14\0\0\x03\0\x04\0\0\x03\0\xf2\x3c\x60\xca\x80\x01\0\x04\x68\xef\x3c\xb0";

    #[test]
    fn parameter_sets_are_read_whole_or_not_at_all() {
        assert_eq!(parameter_sets(RECORD), [&RECORD[8..37], &RECORD[40..]]);
        assert_eq!(parameter_sets(&RECORD[..20]), Vec::<Bytes>::new());
    }

    proptest! {
        #[test]
        fn units_come_out_as_they_went_in(units_in in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..6), cut in 0usize..4) {
            let mut bytes = BytesMut::new();
            for unit in &units_in {
                bytes.put_u32(unit.len() as u32);
                bytes.put_slice(unit);
            }
            bytes.put_slice(&[0, 0, 0, 9][..cut]);
            prop_assert_eq!(units(&bytes.freeze()).map(|unit| unit.to_vec()).collect::<Vec<_>>(), units_in);
        }

        #[test]
        fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            units(&bytes.into()).for_each(drop);
        }
    }
}
