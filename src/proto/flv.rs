//! FLV: encoded frames and codec configurations as RTMP carries them, and the file around them ("Adobe Flash Video File Format
//! Specification" 10.1, annex E; the same tag bodies travel in RTMP messages 8, 9 and 18).

use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;

use crate::model::media::EncodedFrame;
use crate::model::media::MediaKind;
use crate::model::spec::ProgrammeSpec;
use crate::proto::amf;
use crate::proto::amf::Value;

/// AVC keyframe and AVC inter frame: frame type in the high, codec 7 in the low four bits (section E.4.3.1).
const AVC_KEY: u8 = 0x17;
const AVC_INTER: u8 = 0x27;
/// AAC; rate, size and channels are fixed to 44 kHz, 16 bit, stereo for AAC, whatever the real ones are (section E.4.2.1).
const AAC: u8 = 0xaf;
const SEQUENCE_HEADER: u8 = 0;
const MEDIA: u8 = 1;

/// Signature, version 1, audio and video present, header length 9, and the size of the tag before the first: none.
pub const FILE_HEADER: [u8; 13] = [b'F', b'L', b'V', 1, 0b101, 0, 0, 0, 9, 0, 0, 0, 0];

/// What a tag carries; the number is the FLV tag type and the RTMP message type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TagKind {
    Audio = 8,
    Video = 9,
    Script = 18,
}

/// One tag of a file, or one media message of RTMP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    pub kind: TagKind,
    /// Milliseconds, wrapping after 49.7 days.
    pub timestamp_ms: u32,
    pub body: Bytes,
}

impl Tag {
    /// Appends the tag and its trailing size as they stand in a file (section E.4.1). Bodies come out of RTMP messages and are
    /// therefore under 16 MiB, which the 24-bit size can hold.
    pub fn write(&self, out: &mut Vec<u8>) {
        let length = u32::try_from(self.body.len()).unwrap_or(u32::MAX) & 0x00ff_ffff;
        out.put_u8(self.kind as u8);
        out.put_uint(u64::from(length), 3);
        out.put_uint(u64::from(self.timestamp_ms & 0x00ff_ffff), 3);
        out.put_u8((self.timestamp_ms >> 24) as u8);
        out.put_uint(0, 3);
        out.put_slice(&self.body[..length as usize]);
        out.put_u32(length + 11);
    }
}

/// The AVC sequence header: what a decoder must know before the first picture.
pub fn avc_config(record: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(5 + record.len());
    out.put_slice(&[AVC_KEY, SEQUENCE_HEADER, 0, 0, 0]);
    out.put_slice(record);
    out.freeze()
}

/// The AAC sequence header.
pub fn aac_config(record: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(2 + record.len());
    out.put_slice(&[AAC, SEQUENCE_HEADER]);
    out.put_slice(record);
    out.freeze()
}

/// The tag body of a frame. A video frame's composition time is its PTS minus its DTS in whole milliseconds.
pub fn frame(frame: &EncodedFrame) -> Bytes {
    let mut out = BytesMut::with_capacity(5 + frame.data.len());
    match frame.kind {
        MediaKind::Audio => out.put_slice(&[AAC, MEDIA]),
        MediaKind::Video => {
            out.put_slice(&[if frame.key { AVC_KEY } else { AVC_INTER }, MEDIA]);
            let composition_ms = (frame.pts_us.saturating_sub(frame.dts_us) / 1000).min(0x007f_ffff);
            out.put_uint(composition_ms, 3);
        }
    }
    out.put_slice(&frame.data);
    out.freeze()
}

/// The script data `onMetaData` of a programme, as platforms' health checks read it (section E.5).
pub fn metadata(programme: &ProgrammeSpec) -> Vec<Value> {
    /// Codec numbers of AVC and AAC in sections E.4.3.1 and E.4.2.1.
    const AVC_ID: u32 = 7;
    const AAC_ID: u32 = 10;
    let number = |name: &str, value: u32| (name.to_owned(), Value::Number(f64::from(value)));
    vec![
        Value::string("onMetaData"),
        Value::EcmaArray(vec![
            number("duration", 0),
            number("width", programme.width),
            number("height", programme.height),
            number("framerate", programme.fps),
            number("videodatarate", programme.video_kbps),
            number("videocodecid", AVC_ID),
            number("audiodatarate", programme.audio_kbps),
            // The mixer always sends 48 kHz stereo; the sample size says nothing for AAC but is expected.
            number("audiosamplerate", 48_000),
            number("audiosamplesize", 16),
            number("audiocodecid", AAC_ID),
            ("stereo".to_owned(), Value::Boolean(true)),
            ("encoder".to_owned(), Value::string("Jamcast")),
        ]),
    ]
}

/// The body of a script tag.
pub fn script(values: &[Value]) -> Bytes {
    amf::encode(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn video(key: bool, pts_us: u64, dts_us: u64) -> EncodedFrame {
        EncodedFrame { kind: MediaKind::Video, pts_us, dts_us, key, data: Bytes::from_static(&[0, 0, 0, 1, 0x65]) }
    }

    #[test]
    fn bodies_have_the_bytes_of_the_specification() {
        assert_eq!(avc_config(&[1, 0x64])[..], [0x17, 0, 0, 0, 0, 1, 0x64]);
        assert_eq!(aac_config(&[0x11, 0x90])[..], [0xaf, 0, 0x11, 0x90]);
        assert_eq!(frame(&video(true, 9_000, 9_000))[..], [0x17, 1, 0, 0, 0, 0, 0, 0, 1, 0x65]);
        assert_eq!(frame(&video(false, 375_000, 9_000))[..], [0x27, 1, 0, 1, 0x6e, 0, 0, 0, 1, 0x65]);
        let audio = EncodedFrame { kind: MediaKind::Audio, data: Bytes::from_static(&[0x21]), ..video(true, 0, 0) };
        assert_eq!(frame(&audio)[..], [0xaf, 1, 0x21]);
    }

    #[test]
    fn a_tag_carries_the_upper_byte_of_its_time_behind_the_lower_three() {
        let tag = Tag { kind: TagKind::Audio, timestamp_ms: 0x0102_0304, body: Bytes::from_static(&[0xaf, 1]) };
        let mut out = Vec::new();
        tag.write(&mut out);
        assert_eq!(out, [8, 0, 0, 2, 2, 3, 4, 1, 0, 0, 0, 0xaf, 1, 0, 0, 0, 13]);
    }

    #[test]
    fn metadata_says_what_the_programme_is() {
        let values = metadata(&ProgrammeSpec::default());
        assert_eq!(values[1].member("width").and_then(Value::as_number), Some(1280.0));
        assert_eq!(script(&values)[..16], *b"\x02\x00\x0aonMetaData\x08\0\0");
    }
}
