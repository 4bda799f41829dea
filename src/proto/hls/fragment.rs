//! Fragmented MP4 (ISO/IEC 14496-12 section 8.8): one initialisation segment, and media segments that hold their own times.

use std::num::NonZeroU32;

use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;
use shiguredo_mp4::Encode;
use shiguredo_mp4::SampleFlags;
use shiguredo_mp4::TrackKind;
use shiguredo_mp4::bitstream::aac;
use shiguredo_mp4::bitstream::h264;
use shiguredo_mp4::boxes::MfhdBox;
use shiguredo_mp4::boxes::MoofBox;
use shiguredo_mp4::boxes::SampleEntry;
use shiguredo_mp4::boxes::TfdtBox;
use shiguredo_mp4::boxes::TfhdBox;
use shiguredo_mp4::boxes::TrafBox;
use shiguredo_mp4::boxes::TrunBox;
use shiguredo_mp4::boxes::TrunSample;
use shiguredo_mp4::mux::Fmp4SegmentMuxer;
use shiguredo_mp4::mux::Sample;

use crate::model::media::CodecConfig;
use crate::model::media::EncodedFrame;
use crate::proto::avc;

/// Ticks a second of the picture's track, as RTP has them.
const VIDEO_RATE: u32 = 90_000;

/// Samples of an AAC frame.
const SOUND_FRAME: u64 = 1024;

/// Tracks are numbered as the initialisation segment first hears of them.
const VIDEO_TRACK: u32 = 1;
const AUDIO_TRACK: u32 = 2;

/// Size and name before the payload.
const MDAT_HEADER: usize = 8;

/// A codec configuration that no initialisation segment can be made of.
#[derive(Debug, thiserror::Error)]
#[error("the {kind} configuration cannot stand in a segment: {reason}")]
pub struct Unfit {
    kind: &'static str,
    reason: String,
}

/// What both tracks are encoded with.
#[derive(Debug)]
pub(super) struct Format {
    video: SampleEntry,
    audio: SampleEntry,
    audio_rate: NonZeroU32,
}

/// The frames of one track in a segment.
#[derive(Clone, Copy)]
struct Track<'a> {
    number: u32,
    rate: u32,
    frames: &'a [EncodedFrame],
    /// Length of the last frame, ticks.
    last: u64,
}

impl Format {
    pub(super) fn of(config: &CodecConfig) -> Result<Self, Unfit> {
        let video = video_entry(&config.avc).map_err(|error| Unfit { kind: "H.264", reason: error.to_string() })?;
        let (audio, audio_rate) =
            audio_entry(&config.aac).map_err(|error| Unfit { kind: "AAC", reason: error.to_string() })?;
        Ok(Self { video, audio, audio_rate })
    }

    /// The initialisation segment.
    pub(super) fn initialisation(&self) -> Result<Bytes, Unfit> {
        let sample = |track_kind, timescale, entry: &SampleEntry| Sample {
            track_kind,
            sample_entry: Some(entry.clone()),
            keyframe: true,
            timescale,
            duration: 0,
            composition_time_offset: None,
            data_offset: 0,
            data_size: 0,
        };
        let video_rate = NonZeroU32::new(VIDEO_RATE).expect("not zero");
        let tracks =
            [sample(TrackKind::Video, video_rate, &self.video), sample(TrackKind::Audio, self.audio_rate, &self.audio)];
        // The muxer describes the tracks that it has seen. Its segments are not used: it counts each track's time from zero on and
        // remembers every segment it ever made.
        let described = Fmp4SegmentMuxer::new().and_then(|mut muxer| {
            muxer.create_media_segment_metadata(&tracks)?;
            muxer.init_segment_bytes()
        });
        described.map(Bytes::from).map_err(|error| Unfit { kind: "programme's", reason: error.to_string() })
    }

    /// A media segment: `video`, whose last frame ends at `end_us`, and `audio`. Times are counted from `zero_us` on.
    pub(super) fn segment(
        &self,
        number: u32,
        zero_us: u64,
        video: &[EncodedFrame],
        audio: &[EncodedFrame],
        end_us: u64,
    ) -> Result<Bytes, Unfit> {
        let since = |time_us: u64| ticks(time_us.saturating_sub(zero_us), VIDEO_RATE);
        let last = video.last().map_or(0, |frame| since(end_us).saturating_sub(since(frame.dts_us)));
        let video = Track { number: VIDEO_TRACK, rate: VIDEO_RATE, frames: video, last };
        let audio = Track { number: AUDIO_TRACK, rate: self.audio_rate.get(), frames: audio, last: SOUND_FRAME };
        // A track without a frame is not mentioned: an empty run has nothing to begin at.
        let tracks: Vec<Track<'_>> = [video, audio].into_iter().filter(|track| !track.frames.is_empty()).collect();
        let too_long = |error: shiguredo_mp4::Error| Unfit { kind: "segment's", reason: error.to_string() };
        // Offsets have a fixed size, so that the head is as long with any of them.
        let head = head_of(number, zero_us, &tracks, 0).encode_to_vec().map_err(too_long)?;
        let head = head_of(number, zero_us, &tracks, head.len() + MDAT_HEADER).encode_to_vec().map_err(too_long)?;
        let payload: usize = tracks.iter().map(Track::bytes).sum();
        let mut out = BytesMut::with_capacity(head.len() + MDAT_HEADER + payload);
        out.put_slice(&head);
        out.put_u32(u32::try_from(MDAT_HEADER + payload).unwrap_or(u32::MAX));
        out.put_slice(b"mdat");
        for frame in tracks.iter().flat_map(|track| track.frames) {
            out.put_slice(&frame.data);
        }
        Ok(out.freeze())
    }
}

impl Track<'_> {
    fn bytes(&self) -> usize {
        self.frames.iter().map(|frame| frame.data.len()).sum()
    }

    /// Its frames' times and sizes; `offset` is from the head's first byte to the first frame's.
    fn fragment(&self, zero_us: u64, offset: usize) -> TrafBox {
        let at = |time_us: u64| ticks(time_us.saturating_sub(zero_us), self.rate);
        let nexts = self.frames.iter().skip(1).map(|frame| Some(at(frame.dts_us))).chain([None]);
        let samples = self.frames.iter().zip(nexts).map(|(frame, next)| {
            let dts = at(frame.dts_us);
            let length = next.map_or(self.last, |next| next.saturating_sub(dts));
            TrunSample {
                duration: Some(u32::try_from(length).unwrap_or(u32::MAX)),
                size: Some(u32::try_from(frame.data.len()).unwrap_or(u32::MAX)),
                flags: Some(if frame.key { INDEPENDENT } else { DEPENDENT }),
                composition_time_offset: Some(at(frame.pts_us).saturating_sub(dts).cast_signed()),
            }
        });
        TrafBox {
            tfhd_box: TfhdBox {
                track_id: self.number,
                base_data_offset: None,
                sample_description_index: None,
                default_sample_duration: None,
                default_sample_size: None,
                default_sample_flags: None,
                duration_is_empty: false,
                default_base_is_moof: true,
            },
            tfdt_box: Some(TfdtBox {
                version: 1,
                base_media_decode_time: self.frames.first().map_or(0, |frame| at(frame.dts_us)),
            }),
            trun_boxes: vec![TrunBox {
                data_offset: Some(i32::try_from(offset).unwrap_or(i32::MAX)),
                first_sample_flags: None,
                samples: samples.collect(),
            }],
            unknown_boxes: Vec::new(),
        }
    }
}

/// Nothing but itself is needed to decode it.
const INDEPENDENT: SampleFlags = SampleFlags::from_fields(0, 2, 0, 0, 0, false, 0);
/// What came before is needed as well.
const DEPENDENT: SampleFlags = SampleFlags::from_fields(0, 1, 0, 0, 0, true, 0);

/// The head of a segment whose payload begins `offset` bytes after the head's first.
fn head_of(number: u32, zero_us: u64, tracks: &[Track<'_>], offset: usize) -> MoofBox {
    let mut next = offset;
    let fragment = |track: &Track<'_>| {
        let here = next;
        next += track.bytes();
        track.fragment(zero_us, here)
    };
    let traf_boxes = tracks.iter().map(fragment).collect();
    MoofBox { mfhd_box: MfhdBox { sequence_number: number }, traf_boxes, unknown_boxes: Vec::new() }
}

/// Microseconds as ticks, to the nearest.
const fn ticks(micros: u64, rate: u32) -> u64 {
    (micros * rate as u64 + 500_000) / 1_000_000
}

fn video_entry(record: &[u8]) -> Result<SampleEntry, shiguredo_mp4::Error> {
    let record = avc::configuration(record)?;
    let length_size = h264::LengthSize::from_length_size_minus_one(record.length_size_minus_one.get())?;
    let config = h264::H264SampleEntryConfig { length_size };
    Ok(SampleEntry::Avc1(h264::build_avc1_box(&record.sps_list, &record.pps_list, &config)?))
}

fn audio_entry(config: &[u8]) -> Result<(SampleEntry, NonZeroU32), shiguredo_mp4::Error> {
    // Some encoders announce after the two bytes of AAC-LC that they have no SBR.
    let config = aac::parse_audio_specific_config(config)
        .or_else(|error| config.get(..2).map_or(Err(error), aac::parse_audio_specific_config))?;
    let unknown = aac::Mp4aSampleEntryConfig { es_id: 1, buffer_size_db: 0, max_bitrate: 0, avg_bitrate: 0 };
    let entry = aac::build_mp4a_box(&config, &unknown)?;
    let rate = NonZeroU32::new(config.sampling_frequency.hz()).expect("its parser refuses zero");
    Ok((SampleEntry::Mp4a(entry), rate))
}
