//! What flows: kinds, codecs, and the encoded frames of a programme.

use bytes::Bytes;
use serde::Deserialize;
use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaKind {
    Audio,
    Video,
}

impl MediaKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Video => "video",
        }
    }
}

/// Codecs a participant may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    Opus,
    Vp8,
    /// Maybe in layers of one stream (SVC).
    Vp9,
    H264,
    /// Maybe in layers of one stream (SVC).
    Av1,
}

impl Codec {
    pub const fn kind(self) -> MediaKind {
        match self {
            Self::Opus => MediaKind::Audio,
            Self::Vp8 | Self::Vp9 | Self::H264 | Self::Av1 => MediaKind::Video,
        }
    }

    /// RTP clock rate in Hz (RFC 7587 section 4.1, RFC 7741 section 4.1, RFC 9628 section 4.1, RFC 6184 section 5.1, RTP Payload Format For AV1 section 4.1).
    pub const fn clock_rate(self) -> u32 {
        match self {
            Self::Opus => 48_000,
            Self::Vp8 | Self::Vp9 | Self::H264 | Self::Av1 => 90_000,
        }
    }

    /// Whether one stream of it may carry several sizes and frame rates, of which some can be left out on the way.
    pub const fn is_scalable(self) -> bool {
        matches!(self, Self::Vp9 | Self::Av1)
    }
}

/// How a canvas frame is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CanvasFormat {
    /// Annex B byte stream with its parameter sets before each keyframe (WebCodecs `avc: {format: "annexb"}`).
    H264,
    Vp8,
    Jpeg,
    Webp,
    Png,
    /// 8 bits each of red, green, blue and alpha, rows from the top without padding.
    Rgba,
}

impl CanvasFormat {
    /// Whether frames build on those before them, so that none may be left out until the next keyframe.
    pub const fn has_deltas(self) -> bool {
        matches!(self, Self::H264 | Self::Vp8)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::H264 => "h264",
            Self::Vp8 => "vp8",
            Self::Jpeg => "jpeg",
            Self::Webp => "webp",
            Self::Png => "png",
            Self::Rgba => "rgba",
        }
    }
}

/// One frame of a canvas as its sender encoded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanvasFrame {
    pub format: CanvasFormat,
    /// Decoding may begin here; always true for formats without deltas.
    pub key: bool,
    /// Pixels.
    pub width: u16,
    pub height: u16,
    /// When it was drawn, microseconds of the sender's clock.
    pub timestamp_us: u64,
    pub data: Bytes,
}

/// One access unit of the encoded programme.
///
/// Times are microseconds of the machine's monotonic clock, not of the mixer's life: a mixer that is restarted goes on in the
/// same timeline, so a destination sees a gap as long as the real one and never a step back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedFrame {
    pub kind: MediaKind,
    pub pts_us: u64,
    /// Equal to `pts_us` as long as B-frames are off.
    pub dts_us: u64,
    /// A video frame that decoding may begin at; always true for audio.
    pub key: bool,
    /// H.264 as length-prefixed NAL units (ISO/IEC 14496-15), AAC as a raw frame without ADTS.
    pub data: Bytes,
}

/// One Opus packet of the programme's sound, for those who hear it in the room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpusPacket {
    /// When its first sample is heard, in the time of [`EncodedFrame::pts_us`]: what a decoder adds to that is taken off already.
    pub pts_us: u64,
    pub data: Bytes,
}

/// What a decoder must know before the first frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodecConfig {
    /// AVCDecoderConfigurationRecord, ISO/IEC 14496-15 section 5.3.3.1.
    pub avc: Bytes,
    /// AudioSpecificConfig, ISO/IEC 14496-3 section 1.6.2.1.
    pub aac: Bytes,
}
