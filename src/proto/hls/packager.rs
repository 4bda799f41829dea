//! The packager: frames go in as they are encoded, and a segment comes out at every keyframe.

use std::time::Duration;

use crate::model::media::CodecConfig;
use crate::model::media::EncodedFrame;
use crate::model::media::MediaKind;
use crate::model::spec::ProgrammeSpec;
use crate::proto::hls::fragment::Format;
use crate::proto::hls::fragment::Unfit;
use crate::proto::hls::window::Init;
use crate::proto::hls::window::Segment;

/// A keyframe this soon after the last, which somebody asked for, begins no segment. The next regular one is a whole interval behind it.
const SHORTEST: Duration = Duration::from_millis(400);

/// How much longer than the target a segment may become: to the nearest second it must be the target at most (RFC 8216 section
/// 4.3.3.1). More than [`SHORTEST`], so that a keyframe that begins none breaks nothing.
const LENIENCE: Duration = Duration::from_millis(450);

/// Bytes of one segment: 2 s of 64 Mbit/s, more than a programme may have.
const MOST_BYTES: usize = 16 << 20;

/// Sound frames kept until a keyframe: over a second of 48 kHz.
const EARLY_SOUND: usize = 64;

/// Half of an AAC frame of 1024 samples at 48 kHz.
const HALF_SOUND_FRAME_US: u64 = 10_667;

/// Makes segments of one programme, over all its mixers.
#[derive(Debug)]
pub struct Packager {
    target_us: u64,
    /// Length of one picture, microseconds.
    picture_us: u64,
    /// Zero of all segments' times: the first keyframe.
    zero_us: Option<u64>,
    format: Option<(Format, Init)>,
    config: Option<CodecConfig>,
    formats: u32,
    segments: u64,
    /// Whether the next segment does not go on where the last one ended.
    broken: bool,
    /// A moment of the programme and of the wall clock, since the last break.
    anchor: (u64, i64),
    /// Of the open segment, a keyframe first; empty while one is waited for.
    pictures: Vec<EncodedFrame>,
    /// In no segment yet.
    sounds: Vec<EncodedFrame>,
    keyframe_wanted: bool,
}

impl Packager {
    pub fn new(programme: &ProgrammeSpec) -> Self {
        Self {
            target_us: u64::from(programme.keyframe_interval_s) * 1_000_000,
            picture_us: 1_000_000 / u64::from(programme.fps.max(1)),
            zero_us: None,
            format: None,
            config: None,
            formats: 0,
            segments: 0,
            broken: false,
            anchor: (0, 0),
            pictures: Vec::new(),
            sounds: Vec::new(),
            keyframe_wanted: false,
        }
    }

    /// How the frames that follow are encoded. Gives the segment that this ends, if anything has changed, and with [`Unfit`] no
    /// segments are made until there is another.
    pub fn set_config(&mut self, config: &CodecConfig) -> (Option<Segment>, Result<(), Unfit>) {
        if self.config.as_ref() == Some(config) {
            return (None, Ok(()));
        }
        let last = self.interrupt();
        self.config = Some(config.clone());
        (last, self.begin_format(config))
    }

    fn begin_format(&mut self, config: &CodecConfig) -> Result<(), Unfit> {
        self.format = None;
        let format = Format::of(config)?;
        let data = format.initialisation()?;
        self.formats += 1;
        self.format = Some((format, Init { number: self.formats, data }));
        Ok(())
    }

    /// Takes a frame at `now_ms` since the Unix epoch; gives the segment that it ends, if it does.
    pub fn take(&mut self, frame: &EncodedFrame, now_ms: i64) -> Option<Segment> {
        self.format.as_ref()?;
        let overdue = if self.is_overdue(frame) { self.interrupt() } else { None };
        match frame.kind {
            MediaKind::Audio => {
                self.hear(frame);
                overdue
            }
            MediaKind::Video => overdue.or(self.see(frame, now_ms)),
        }
    }

    fn hear(&mut self, frame: &EncodedFrame) {
        if self.pictures.is_empty() && self.sounds.len() >= EARLY_SOUND {
            self.sounds.remove(0);
        }
        self.sounds.push(frame.clone());
    }

    fn see(&mut self, frame: &EncodedFrame, now_ms: i64) -> Option<Segment> {
        let elapsed_us = self.elapsed_us(frame);
        let begins = frame.key && elapsed_us.is_none_or(|elapsed| elapsed >= micros(SHORTEST));
        if begins {
            let last = self.close(frame.dts_us);
            self.begin(frame, now_ms);
            return last;
        }
        self.keyframe_wanted |= elapsed_us.is_none_or(|elapsed| elapsed >= self.target_us);
        if elapsed_us.is_some() {
            self.pictures.push(frame.clone());
        }
        None
    }

    /// The programme does not go on where it is: gives what there is of a segment.
    pub fn interrupt(&mut self) -> Option<Segment> {
        let (first, last) = self.pictures.first().zip(self.pictures.last())?;
        let end_us = (last.dts_us + self.picture_us).min(first.dts_us + self.longest_us());
        let last = self.close(end_us);
        self.broken = true;
        last
    }

    /// Whether a keyframe is missing; asking takes the wish away.
    pub const fn wants_keyframe(&mut self) -> bool {
        std::mem::replace(&mut self.keyframe_wanted, false)
    }

    /// Since the open segment began; `None` if there is none.
    fn elapsed_us(&self, frame: &EncodedFrame) -> Option<u64> {
        self.pictures.first().map(|first| frame.dts_us.saturating_sub(first.dts_us))
    }

    fn is_overdue(&self, frame: &EncodedFrame) -> bool {
        self.elapsed_us(frame).is_some_and(|elapsed| elapsed > self.longest_us()) || self.bytes() > MOST_BYTES
    }

    const fn longest_us(&self) -> u64 {
        self.target_us + micros(LENIENCE)
    }

    fn bytes(&self) -> usize {
        self.pictures.iter().chain(&self.sounds).map(|frame| frame.data.len()).sum()
    }

    fn begin(&mut self, frame: &EncodedFrame, now_ms: i64) {
        self.zero_us.get_or_insert(frame.dts_us);
        if self.broken || self.segments == 0 {
            self.anchor = (frame.dts_us, now_ms);
        }
        // The sound frame that is nearest to the picture begins with it.
        self.sounds.retain(|sound| sound.dts_us + HALF_SOUND_FRAME_US >= frame.dts_us);
        self.pictures.push(frame.clone());
    }

    /// Ends the open segment, if there is one. Sound from `end_us` on belongs to the next.
    fn close(&mut self, end_us: u64) -> Option<Segment> {
        let pictures = std::mem::take(&mut self.pictures);
        let (first, (format, init)) = (pictures.first()?, self.format.as_ref()?);
        let later = self.sounds.iter().position(|sound| sound.dts_us >= end_us).unwrap_or(self.sounds.len());
        let rest = self.sounds.split_off(later);
        let sounds = std::mem::replace(&mut self.sounds, rest);
        let number = self.segments;
        let sequence = u32::try_from(number + 1).unwrap_or(u32::MAX);
        let Ok(data) = format.segment(sequence, self.zero_us?, &pictures, &sounds, end_us) else {
            self.broken = true;
            return None;
        };
        self.segments += 1;
        let (anchor_us, anchor_ms) = self.anchor;
        Some(Segment {
            number,
            init: init.clone(),
            discontinuity: std::mem::replace(&mut self.broken, false),
            at_ms: anchor_ms + (first.dts_us.saturating_sub(anchor_us) / 1000).cast_signed(),
            duration_us: end_us.saturating_sub(first.dts_us),
            data,
        })
    }
}

const fn micros(time: Duration) -> u64 {
    time.as_micros() as u64
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// Of x264 at 1280x720 and voaacenc, as a mixer announces them.
    fn config() -> CodecConfig {
        let avc = "0164001fffe1001d6764001facb402802dd80b50101014000003000400000300f23c60ca8001000468ef3cb0";
        let bytes = (0..avc.len()).step_by(2).map(|at| u8::from_str_radix(&avc[at..at + 2], 16).expect("hex"));
        CodecConfig { avc: bytes.collect::<Vec<_>>().into(), aac: Bytes::from_static(&[0x11, 0x90]) }
    }

    fn frame(kind: MediaKind, ms: u64, key: bool) -> EncodedFrame {
        EncodedFrame { kind, pts_us: ms * 1000, dts_us: ms * 1000, key, data: Bytes::from_static(&[0; 100]) }
    }

    struct Line {
        packager: Packager,
        segments: Vec<Segment>,
        wishes: Vec<u64>,
    }

    impl Line {
        fn new() -> Self {
            let mut packager = Packager::new(&ProgrammeSpec::default());
            packager.set_config(&config()).1.expect("fit");
            Self { packager, segments: Vec::new(), wishes: Vec::new() }
        }

        fn set_config(&mut self, config: &CodecConfig) -> Result<(), Unfit> {
            let (last, outcome) = self.packager.set_config(config);
            self.segments.extend(last);
            outcome
        }

        fn take(&mut self, frame: &EncodedFrame) {
            self.segments.extend(self.packager.take(frame, 7_000_000));
            if self.packager.wants_keyframe() {
                self.wishes.push(frame.dts_us / 1000);
            }
        }

        /// Pictures each 40 ms, of which those in `keys` are keyframes, and sound each 20 ms.
        fn play(&mut self, from_ms: u64, to_ms: u64, keys: &[u64]) {
            for ms in (from_ms..to_ms).step_by(20) {
                if ms % 40 == 0 {
                    self.take(&frame(MediaKind::Video, ms, keys.contains(&ms)));
                }
                self.take(&frame(MediaKind::Audio, ms, true));
            }
        }

        fn lengths(&self) -> Vec<u64> {
            self.segments.iter().map(|segment| segment.duration_us / 1000).collect()
        }

        fn breaks(&self) -> Vec<bool> {
            self.segments.iter().map(|segment| segment.discontinuity).collect()
        }

        fn times(&self) -> Vec<i64> {
            self.segments.iter().map(|segment| segment.at_ms).collect()
        }
    }

    #[test]
    fn every_keyframe_ends_a_segment_that_began_with_one() {
        let mut line = Line::new();
        line.play(0, 7000, &[1000, 3000, 5000]);
        assert_eq!(line.lengths(), [2000, 2000]);
        assert_eq!(line.breaks(), [false; 2]);
        assert_eq!(line.times(), [7_000_000, 7_002_000]);
        assert_eq!(line.segments.iter().map(|segment| segment.number).collect::<Vec<_>>(), [0, 1]);
        // 50 pictures and 100 sounds of 100 bytes, and a head.
        assert!(line.segments.iter().all(|segment| (15_000..18_000).contains(&segment.data.len())));
        assert_eq!(line.segments[0].init, line.segments[1].init);
        assert!(line.segments[0].init.data.windows(4).any(|word| word == b"mp4a"));
        // Pictures came before the first keyframe; somebody had to ask for that.
        assert_eq!(line.wishes.first(), Some(&0));
    }

    #[test]
    fn a_keyframe_that_comes_early_begins_no_segment_and_breaks_nothing() {
        let mut line = Line::new();
        line.play(0, 6000, &[0, 360, 2360, 3000, 5000]);
        assert_eq!(line.lengths(), [2360, 640, 2000]);
        assert_eq!(line.breaks(), [false; 3]);
    }

    #[test]
    fn a_missing_keyframe_is_asked_for_and_no_segment_is_longer_than_its_target() {
        let mut line = Line::new();
        line.play(0, 2200, &[0]);
        assert_eq!(line.wishes, [2000, 2040, 2080, 2120, 2160]);
        line.play(2200, 4400, &[2200, 4200]);
        assert_eq!(line.lengths(), [2200, 2000]);
        // None comes any more: what there is ends, and the next keyframe begins anew.
        line.play(4400, 9000, &[8000]);
        line.play(9000, 10_200, &[10_000]);
        assert_eq!(line.lengths(), [2200, 2000, 2450, 2000]);
        assert_eq!(line.breaks(), [false, false, false, true]);
    }

    #[test]
    fn a_hole_is_no_part_of_any_segment() {
        let mut line = Line::new();
        line.play(0, 1000, &[0]);
        line.play(4000, 6200, &[4000, 6000]);
        assert_eq!(line.lengths(), [993, 2000]);
        assert_eq!(line.breaks(), [false, true]);
    }

    #[test]
    fn a_new_mixer_goes_on_behind_a_discontinuity_with_the_same_initialisation() {
        let mut line = Line::new();
        line.play(0, 3000, &[0, 2000]);
        line.segments.extend(line.packager.interrupt());
        assert_eq!(line.packager.interrupt(), None);
        line.set_config(&config()).expect("fit");
        assert_eq!(line.segments.len(), 2, "it is the same");
        line.play(4000, 6200, &[4000, 6000]);
        assert_eq!(line.lengths(), [2000, 993, 2000]);
        assert_eq!(line.breaks(), [false, false, true]);
        assert_eq!(line.segments[2].init.number, 1);
    }

    #[test]
    fn another_configuration_ends_the_segment_and_has_its_own_initialisation() {
        let mut line = Line::new();
        line.play(0, 1000, &[0]);
        let mono = CodecConfig { aac: Bytes::from_static(&[0x11, 0x88, 0x56, 0xe5, 0x00]), ..config() };
        line.set_config(&mono).expect("fit");
        line.play(1000, 3200, &[1000, 3000]);
        assert_eq!(line.breaks(), [false, true]);
        assert_eq!(line.segments.iter().map(|segment| segment.init.number).collect::<Vec<_>>(), [1, 2]);
        assert_ne!(line.segments[0].init.data, line.segments[1].init.data);
    }

    #[test]
    fn a_configuration_that_means_nothing_is_refused_until_there_is_another() {
        let mut line = Line::new();
        line.play(0, 3000, &[0, 2000]);
        let nonsense = CodecConfig { avc: Bytes::from_static(&[1, 2, 3]), aac: Bytes::new() };
        assert!(line.set_config(&nonsense).is_err());
        assert_eq!(line.lengths(), [2000, 993], "what was there is not lost");
        line.play(3000, 6200, &[4000, 6000]);
        assert_eq!(line.segments.len(), 2);
        line.set_config(&config()).expect("fit");
        line.play(8000, 10_200, &[8000, 10_000]);
        assert_eq!(line.lengths(), [2000, 993, 2000]);
        assert_eq!(line.breaks(), [false, false, true]);
        assert_eq!(line.segments.iter().map(|segment| segment.number).collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn memory_is_bounded_whatever_is_encoded() {
        let mut line = Line::new();
        (0..10_000).for_each(|ms| line.take(&frame(MediaKind::Audio, ms, true)));
        assert_eq!(line.packager.sounds.len(), EARLY_SOUND);
        line.take(&frame(MediaKind::Video, 10_000, true));
        let big = EncodedFrame { data: Bytes::from(vec![0; 5 << 20]), ..frame(MediaKind::Video, 10_040, false) };
        for _ in 0..20 {
            line.take(&big);
            assert!(line.packager.bytes() <= MOST_BYTES + big.data.len());
        }
        assert_eq!(line.breaks(), [false]);
    }
}
