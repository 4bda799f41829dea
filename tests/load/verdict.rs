//! The verdict on a received programme: one line for each thing a viewer would have noticed, and whether it holds.

use std::fmt;
use std::path::Path;

use anyhow::Result;
use serde::Deserialize;

use crate::look::Channel;
use crate::look::Programme;
use crate::look::Region;

/// What should be seen and heard.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expected {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) fps: f64,
    /// Seconds of programme at least.
    pub(crate) seconds: f64,
    /// Seconds between keyframes at most.
    pub(crate) keyframe_interval: f64,
    /// Seconds without a frame at most, where a gap is meant to be; without it, not a frame may be missing.
    #[serde(default)]
    pub(crate) gap: Option<f64>,
    /// Seconds at the beginning and the end that are not looked at: musicians still connect, or leave.
    pub(crate) settle: (f64, f64),
    pub(crate) parts: Vec<ExpectedPart>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExpectedPart {
    pub(crate) name: String,
    pub(crate) region: Region,
    pub(crate) note_hz: f64,
    /// The side on which the note is louder, if it is not in the middle.
    #[serde(default)]
    pub(crate) louder: Option<Channel>,
    pub(crate) beep_hz: Option<f64>,
    /// How much later than its flash the beep left the sender, milliseconds; it is not the gateway's doing.
    #[serde(default)]
    pub(crate) sent_late_ms: f64,
}

/// Findings, each with its measurement.
#[derive(Default)]
pub(crate) struct Verdict {
    findings: Vec<(bool, String)>,
}

/// Lip-sync: EBU R37 allows sound 40 ms early to 60 ms late; the stricter figure is used both ways.
const AV_OFFSET_MS: f64 = 40.0;
/// A frame may be written a little late without a viewer noticing; two frame times are a missing frame.
const GAP: f64 = 1.6;
/// A note is on one side if it is this much louder there, dB: twice the amplitude.
const SIDE: f64 = 6.0;
/// Share of windows or frames in which a note must be heard or a tile must move; the rest is codec noise and joins.
const PRESENT: f64 = 0.9;

impl Verdict {
    pub(crate) fn on(path: &Path, expected: &Expected) -> Result<Self> {
        Ok(Self::of(&Programme::read(path)?, expected))
    }

    pub(crate) fn of(seen: &Programme, expected: &Expected) -> Self {
        let mut verdict = Self::default();
        verdict.formats(seen, expected);
        verdict.continuity(seen, expected);
        let from = seen.frame_times.first().copied().unwrap_or(0.0) + expected.settle.0;
        let to = seen.frame_times.last().copied().unwrap_or(0.0) - expected.settle.1;
        for part in &expected.parts {
            verdict.part(seen, part, (from, to));
        }
        verdict
    }

    pub(crate) fn holds(&self) -> bool {
        !self.findings.is_empty() && self.findings.iter().all(|(holds, _)| *holds)
    }

    /// Adds a finding that was made elsewhere.
    pub(crate) fn note(&mut self, holds: bool, text: String) {
        self.findings.push((holds, text));
    }

    fn formats(&mut self, seen: &Programme, expected: &Expected) {
        self.note(
            seen.width == expected.width && seen.height == expected.height,
            format!("picture {} x {}", seen.width, seen.height),
        );
        self.note(
            seen.video_codec == "h264" && seen.audio_codec == "aac",
            format!("codecs {} and {}", seen.video_codec, seen.audio_codec),
        );
        self.note(seen.duration() >= expected.seconds, format!("duration {:.2} s", seen.duration()));
        let rate = expected.gap.is_some() || (seen.fps() / expected.fps - 1.0).abs() < 0.01;
        self.note(rate, format!("{:.2} frames a second", seen.fps()));
        self.note(
            seen.complaints.is_empty() && seen.decoded_frames() == seen.frame_times.len(),
            format!(
                "{} of {} frames decoded, {} complaints{}",
                seen.decoded_frames(),
                seen.frame_times.len(),
                seen.complaints.len(),
                seen.complaints.iter().take(5).map(|line| format!("\n         {line}")).collect::<String>()
            ),
        );
    }

    fn continuity(&mut self, seen: &Programme, expected: &Expected) {
        self.note(
            seen.longest_video_gap() < expected.gap.unwrap_or(GAP / expected.fps),
            format!("longest step between frames {:.0} ms", seen.longest_video_gap() * 1000.0),
        );
        self.note(
            seen.longest_audio_gap() < expected.gap.unwrap_or(0.040),
            format!("longest step between audio frames {:.0} ms", seen.longest_audio_gap() * 1000.0),
        );
        self.note(
            seen.keyframe_times.len() > 1
                && seen.keyframe_interval() <= expected.keyframe_interval + expected.gap.unwrap_or(0.05),
            format!("a keyframe every {:.2} s at most", seen.keyframe_interval()),
        );
    }

    fn part(&mut self, seen: &Programme, part: &ExpectedPart, (from, to): (f64, f64)) {
        let moved = seen.movement(part.region, from, to);
        self.note(moved >= PRESENT, format!("{}: tile moved in {:.0} % of the frames", part.name, moved * 100.0));
        let left = seen.note(part.note_hz, Channel::Left, from, to);
        let right = seen.note(part.note_hz, Channel::Right, from, to);
        self.note(
            left.min(right) >= PRESENT,
            format!(
                "{}: {:.0} Hz heard in {:.0} % left, {:.0} % right",
                part.name,
                part.note_hz,
                left * 100.0,
                right * 100.0
            ),
        );
        if let Some(louder) = part.louder {
            let difference = seen.loudness(part.note_hz, Channel::Left, from, to)
                - seen.loudness(part.note_hz, Channel::Right, from, to);
            let as_played = if louder == Channel::Left { difference > SIDE } else { difference < -SIDE };
            self.note(as_played, format!("{}: {difference:+.1} dB left against right", part.name));
        }
        if let Some(beep) = part.beep_hz {
            self.lip_sync(part, &seen.av_offsets(part.region, beep));
        }
    }

    /// Lip-sync holds from the first flash to the last: at no time may it be off and be made up for later.
    fn lip_sync(&mut self, part: &ExpectedPart, offsets: &[f64]) {
        // One pair alone may be a frame off, because a flash falls between two frames; three in a row are not.
        let added: Vec<f64> =
            offsets.windows(3).map(|three| (median(three) - part.sent_late_ms / 1000.0) * 1000.0).collect();
        let (least, most) = added.iter().fold((f64::MAX, f64::MIN), |(l, m), each| (l.min(*each), m.max(*each)));
        self.note(
            !added.is_empty() && least >= -AV_OFFSET_MS && most <= AV_OFFSET_MS,
            match added.first() {
                Some(first) => format!(
                    "{}: sound {:+.0} ms against the picture: {first:+.0} at first, between {least:+.0} and {most:+.0}; \
                     {:+.0} ms as sent ({} flashes)",
                    part.name,
                    median(&added),
                    part.sent_late_ms,
                    offsets.len()
                ),
                None => format!("{}: no three flashes with their beeps were found", part.name),
            },
        );
    }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (holds, text) in &self.findings {
            writeln!(f, "  {} {text}", if *holds { "ok  " } else { "FAIL" })?;
        }
        Ok(())
    }
}
