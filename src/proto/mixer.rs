//! What the gateway and a mixer child say to each other over their socketpair: length-prefixed messages, media as raw bytes, the rest as JSON.
//!
//! Layout of a message: length of what follows (u32, little endian), kind (u8), body. Both ends are the same binary, so there is
//! no version negotiation; the kinds are private to it.

use std::collections::BTreeMap;

use bytes::Buf;
use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;
use serde::Deserialize;
use serde::Serialize;

use crate::model::encoder::Encoder;
use crate::model::id::SourceId;
use crate::model::id::TrackId;
use crate::model::media::CanvasFrame;
use crate::model::media::CodecConfig;
use crate::model::media::EncodedFrame;
use crate::model::media::MediaKind;
use crate::model::media::OpusPacket;
use crate::model::scene::Scene;
use crate::proto::canvas;

/// The longest message taken: a raw canvas frame of 1080p. A keyframe of 1080p at 12 Mbit/s stays under 1 MiB; anything over this is a
/// broken peer.
pub const MAX_MESSAGE: usize = canvas::MAX_MESSAGE + CANVAS_HEADER + 1;

/// Source and time of arrival in front of a canvas frame, bytes.
const CANVAS_HEADER: usize = 12;

const KIND_JSON: u8 = 0;
const KIND_RTP: u8 = 1;
const KIND_FRAME: u8 = 2;
const KIND_CONFIG: u8 = 3;
const KIND_CANVAS: u8 = 4;
const KIND_PREVIEW: u8 = 5;

const FLAG_VIDEO: u8 = 1;
const FLAG_KEY: u8 = 2;

/// Gateway to mixer.
#[derive(Clone, Debug, PartialEq)]
pub enum ToMixer {
    /// A tapped RTP packet, header included, as it left SRTP.
    Rtp(TappedPacket),
    Canvas(CanvasStroke),
    Control(Control),
}

/// One tapped RTP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TappedPacket {
    pub track: TrackId,
    /// Monotonic clock of the machine, microseconds, stamped when the datagram was received.
    pub arrival_us: u64,
    pub packet: Bytes,
}

/// One frame of a canvas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanvasStroke {
    pub source: SourceId,
    /// Monotonic clock of the machine, microseconds, stamped when the frame was received.
    pub arrival_us: u64,
    pub frame: CanvasFrame,
}

/// Gateway to mixer, everything that is not media.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Control {
    /// How pipelines are built; comes before the first scene. `own` are the operator's descriptions by the names of their files.
    Pipelines { encoder: Encoder, own: BTreeMap<String, String> },
    /// Try all pipelines and encoders, and answer with [`Report::Probed`].
    Probe,
    /// The whole desired state; the mixer reconciles to it.
    Scene { scene: Box<Scene> },
    /// A sender report of a tapped track (RFC 3550 section 6.4.1): `ntp` is the 64-bit NTP time of RTP time `rtp`.
    SenderReport { track: TrackId, ntp: u64, rtp: u32 },
    /// The next encoded video frame is to be a keyframe with its headers.
    ForceKeyframe,
    /// New video bitrate in kbit/s.
    SetBitrate { video_kbps: u32 },
    /// Finish the recording, send [`Report::Finished`] and exit.
    Finish,
}

/// Mixer to gateway.
#[derive(Clone, Debug, PartialEq)]
pub enum FromMixer {
    Frame(EncodedFrame),
    /// Sent before the first frame, and again whenever it changes.
    Config(CodecConfig),
    /// The programme's sound once more, while the scene asks for it.
    Preview(OpusPacket),
    Report(Report),
}

/// Mixer to gateway, everything that is not media.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Report {
    /// The pipeline plays.
    Playing,
    /// A decoder needs a keyframe of this track.
    KeyframeWanted { track: TrackId },
    /// A canvas can only go on with a keyframe.
    CanvasKeyframeWanted { source: SourceId },
    /// A source's picture or sound came, stalled or failed.
    Source { source: SourceId, kind: MediaKind, state: SourceState },
    /// Once a second while playing.
    Stats(MixerStats),
    /// Ten times a second while playing. Of those that wait only the newest is told.
    Meters(Meters),
    /// A recording file has its first media; its zero was at this time, in milliseconds since the Unix epoch.
    RecordingBegun { path: String, zero_at_ms: i64 },
    /// A recording file is complete and closed.
    RecordingFinished { path: String },
    /// The recording stopped early; the programme goes on.
    RecordingFailed { path: String, reason: String },
    /// The mixer cannot go on and exits; the gateway starts another.
    Failed { reason: String },
    /// Everything asked for by [`Control::Finish`] is done.
    Finished,
    /// The answer to [`Control::Probe`].
    Probed(Probe),
}

/// What a mixer found when it tried everything it may be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Name and version of what mixers are made with.
    pub framework: String,
    pub encoders: Vec<EncoderProbe>,
    /// Descriptions that cannot be used; of ours, because plugins are missing.
    pub faults: Vec<PipelineFault>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncoderProbe {
    pub encoder: Encoder,
    /// Why it cannot be used on this machine; `None` if it encoded some pictures.
    pub failure: Option<String>,
}

/// What is wrong with a pipeline description.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineFault {
    pub file: String,
    /// From 1, where it is known.
    pub line: Option<u32>,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum SourceState {
    /// Nothing decoded yet.
    Waiting,
    /// Decoded media arrives.
    Live,
    /// Nothing decoded for 2 s.
    Stalled,
    /// Its decoder failed and is being rebuilt.
    Failed { reason: String },
}

/// Counters since the mixer's start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MixerStats {
    pub video_frames: u64,
    /// Those of them that are a source's, as they came.
    pub passed_frames: u64,
    /// Whether pictures go out as they come, now.
    pub passes: bool,
    pub audio_frames: u64,
    /// Frames the encoder queue dropped because the encoder was too slow.
    pub dropped_frames: u64,
    /// RTP packets that came too late for the playout delay.
    pub late_packets: u64,
    /// Bytes written to the recording.
    pub recorded_bytes: u64,
    /// Processor time of this process, all threads, user and system, milliseconds.
    pub cpu_ms: u64,
    /// Memory of this process that is in use now (resident), bytes.
    pub memory_bytes: u64,
    /// From the fastest arrival of media to its place in the programme, milliseconds.
    pub playout_ms: u32,
}

/// How loud the programme and its sources are. What is silent has no value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Meters {
    /// Loudness (EBU R 128) of the last 400 ms, LUFS.
    pub momentary: Option<f64>,
    /// The same of the last 3 s.
    pub short_term: Option<f64>,
    /// The same since the mixer's start, without its pauses.
    pub integrated: Option<f64>,
    /// Highest true peak since the last report, dBTP.
    pub true_peak: Option<f64>,
    /// What the normalisation adds now, dB.
    pub normalisation: f64,
    /// Sources that were heard since the last report, behind their faders.
    pub sources: Vec<SourceLevel>,
}

/// How loud a source was since the last report, dBFS.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceLevel {
    pub source: SourceId,
    pub peak: f64,
    /// Of a sine at full scale this is -3.
    pub rms: f64,
}

/// A message that cannot be read; the connection is of no use after it.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("message of {0} bytes is over the limit of {MAX_MESSAGE}")]
    TooLong(usize),
    #[error("unknown message kind {0}")]
    UnknownKind(u8),
    #[error("message of kind {0} is too short")]
    TooShort(u8),
    #[error("canvas frame is not valid")]
    Canvas(#[from] canvas::Malformed),
    #[error("control message is not valid")]
    Json(#[from] serde_json::Error),
}

impl ToMixer {
    /// Appends this message to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Rtp(tapped) => {
                begin(out, KIND_RTP, 12 + tapped.packet.len());
                out.put_u32_le(tapped.track.0);
                out.put_u64_le(tapped.arrival_us);
                out.put_slice(&tapped.packet);
            }
            Self::Canvas(stroke) => {
                begin(out, KIND_CANVAS, CANVAS_HEADER + canvas::HEADER + stroke.frame.data.len());
                out.put_u32_le(stroke.source.0);
                out.put_u64_le(stroke.arrival_us);
                canvas::write(&stroke.frame, out);
            }
            Self::Control(control) => encode_json(out, control),
        }
    }

    /// Takes the next complete message from the front of `input`; `None` asks for more bytes.
    ///
    /// # Errors
    /// A message over [`MAX_MESSAGE`], of unknown kind, or with a body that cannot be read.
    pub fn decode(input: &mut BytesMut) -> Result<Option<Self>, WireError> {
        let Some((kind, mut body)) = split(input)? else { return Ok(None) };
        match kind {
            KIND_RTP => {
                need(kind, &body, 12)?;
                let track = TrackId(body.get_u32_le());
                let arrival_us = body.get_u64_le();
                Ok(Some(Self::Rtp(TappedPacket { track, arrival_us, packet: body })))
            }
            KIND_CANVAS => {
                need(kind, &body, CANVAS_HEADER)?;
                let source = SourceId(body.get_u32_le());
                let arrival_us = body.get_u64_le();
                let frame = canvas::Frames::new(body).next().unwrap_or(Err(canvas::Malformed::Empty))?;
                Ok(Some(Self::Canvas(CanvasStroke { source, arrival_us, frame })))
            }
            KIND_JSON => Ok(Some(Self::Control(serde_json::from_slice(&body)?))),
            other => Err(WireError::UnknownKind(other)),
        }
    }
}

impl FromMixer {
    /// Appends this message to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Frame(frame) => {
                begin(out, KIND_FRAME, 17 + frame.data.len());
                let video = if frame.kind == MediaKind::Video { FLAG_VIDEO } else { 0 };
                out.put_u8(video | if frame.key { FLAG_KEY } else { 0 });
                out.put_u64_le(frame.pts_us);
                out.put_u64_le(frame.dts_us);
                out.put_slice(&frame.data);
            }
            Self::Config(config) => {
                begin(out, KIND_CONFIG, 4 + config.avc.len() + config.aac.len());
                out.put_u32_le(u32::try_from(config.avc.len()).expect("an AVC configuration is far under 4 GiB"));
                out.put_slice(&config.avc);
                out.put_slice(&config.aac);
            }
            Self::Preview(sound) => {
                begin(out, KIND_PREVIEW, 8 + sound.data.len());
                out.put_u64_le(sound.pts_us);
                out.put_slice(&sound.data);
            }
            Self::Report(report) => encode_json(out, report),
        }
    }

    /// Takes the next complete message from the front of `input`; `None` asks for more bytes.
    ///
    /// # Errors
    /// A message over [`MAX_MESSAGE`], of unknown kind, or with a body that cannot be read.
    pub fn decode(input: &mut BytesMut) -> Result<Option<Self>, WireError> {
        let Some((kind, mut body)) = split(input)? else { return Ok(None) };
        match kind {
            KIND_FRAME => {
                need(kind, &body, 17)?;
                let flags = body.get_u8();
                let kind = if flags & FLAG_VIDEO == 0 { MediaKind::Audio } else { MediaKind::Video };
                let pts_us = body.get_u64_le();
                let dts_us = body.get_u64_le();
                Ok(Some(Self::Frame(EncodedFrame { kind, pts_us, dts_us, key: flags & FLAG_KEY != 0, data: body })))
            }
            KIND_CONFIG => {
                need(kind, &body, 4)?;
                let avc_length = body.get_u32_le() as usize;
                need(kind, &body, avc_length)?;
                let avc = body.split_to(avc_length);
                Ok(Some(Self::Config(CodecConfig { avc, aac: body })))
            }
            KIND_PREVIEW => {
                need(kind, &body, 8)?;
                let pts_us = body.get_u64_le();
                Ok(Some(Self::Preview(OpusPacket { pts_us, data: body })))
            }
            KIND_JSON => Ok(Some(Self::Report(serde_json::from_slice(&body)?))),
            other => Err(WireError::UnknownKind(other)),
        }
    }
}

fn begin(out: &mut BytesMut, kind: u8, body: usize) {
    out.reserve(5 + body);
    out.put_u32_le(u32::try_from(body + 1).expect("messages stay far under 4 GiB"));
    out.put_u8(kind);
}

fn encode_json(out: &mut BytesMut, message: &impl Serialize) {
    let body = serde_json::to_vec(message).expect("these types hold no maps with keys that are not strings");
    begin(out, KIND_JSON, body.len());
    out.put_slice(&body);
}

fn split(input: &mut BytesMut) -> Result<Option<(u8, Bytes)>, WireError> {
    let Some(prefix) = input.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*prefix) as usize;
    if length > MAX_MESSAGE {
        return Err(WireError::TooLong(length));
    }
    if length == 0 {
        return Err(WireError::TooShort(KIND_JSON));
    }
    if input.len() < 4 + length {
        return Ok(None);
    }
    input.advance(4);
    let mut body = input.split_to(length).freeze();
    let kind = body.get_u8();
    Ok(Some((kind, body)))
}

fn need(kind: u8, body: &Bytes, length: usize) -> Result<(), WireError> {
    if body.len() < length { Err(WireError::TooShort(kind)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn samples() -> Vec<FromMixer> {
        vec![
            FromMixer::Config(CodecConfig {
                avc: Bytes::from_static(b"\x01\x64"),
                aac: Bytes::from_static(b"\x11\x90"),
            }),
            FromMixer::Frame(EncodedFrame {
                kind: MediaKind::Video,
                pts_us: 7,
                dts_us: 6,
                key: true,
                data: Bytes::from_static(b"picture"),
            }),
            FromMixer::Preview(OpusPacket { pts_us: 5, data: Bytes::from_static(b"sound") }),
            FromMixer::Report(Report::KeyframeWanted { track: TrackId(3) }),
        ]
    }

    proptest! {
        #[test]
        fn messages_arrive_whole_however_the_stream_is_cut(cuts in prop::collection::vec(1usize..9, 1..64)) {
            let mut wire = BytesMut::new();
            for message in samples() {
                message.encode(&mut wire);
            }
            let mut input = BytesMut::new();
            let mut heard = Vec::new();
            for cut in cuts.into_iter().cycle() {
                if wire.is_empty() { break }
                input.extend_from_slice(&wire.split_to(cut.min(wire.len())));
                while let Some(message) = FromMixer::decode(&mut input).expect("well formed") {
                    heard.push(message);
                }
            }
            prop_assert_eq!(heard, samples());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let mut input = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = ToMixer::decode(&mut input) {}
            let mut input = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = FromMixer::decode(&mut input) {}
        }
    }
}
