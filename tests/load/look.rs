//! Looks at a received programme: decodes it with ffmpeg and says what a viewer would have seen and heard.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use serde::Deserialize;

/// Pictures are looked at on a coarse grid: enough to tell tiles and flashes apart, small enough for minutes of programme.
const GRID: (usize, usize) = (160, 90);
const SAMPLE_RATE: f64 = 48_000.0;
/// Samples of an AAC frame.
const FRAME: usize = 1024;
/// Two semitones of equal temperament, as a ratio of frequencies.
const WHOLE_TONE: f64 = 1.122_462;
/// Notes are sought in windows this long: 20 Hz apart can be told apart.
const NOTE_WINDOW: usize = 4800;
/// Beeps are placed to within this step.
const BEEP_STEP: usize = 96;
/// A beep is sought in windows this long, short against its 60 ms or more.
const BEEP_WINDOW: usize = 480;

/// A decoded programme.
pub(crate) struct Programme {
    pub(crate) video_codec: String,
    pub(crate) audio_codec: String,
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Presentation times of the video frames, seconds, rising.
    pub(crate) frame_times: Vec<f64>,
    pub(crate) keyframe_times: Vec<f64>,
    audio_times: Vec<f64>,
    /// One luma grid a frame.
    pictures: Vec<Vec<u8>>,
    /// Interleaved stereo at 48 kHz.
    sound: Vec<[f32; 2]>,
    /// What ffmpeg complained of while it decoded, a line each.
    pub(crate) complaints: Vec<String>,
}

/// A part of the picture, as fractions of its width and height.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Region {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Channel {
    Left,
    Right,
}

#[derive(Deserialize)]
struct Probe {
    streams: Vec<ProbeStream>,
    packets: Vec<ProbePacket>,
}

#[derive(Deserialize)]
struct ProbeStream {
    index: u32,
    codec_type: String,
    codec_name: String,
    #[serde(default)]
    width: u32,
    #[serde(default)]
    height: u32,
}

#[derive(Deserialize)]
struct ProbePacket {
    stream_index: u32,
    pts_time: Option<String>,
    #[serde(default)]
    flags: String,
}

impl Programme {
    /// Reads and decodes a file of any container ffmpeg knows.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let probe = run(
            "ffprobe",
            ["-v", "error", "-show_streams", "-show_packets", "-of", "json"]
                .map(OsStr::new)
                .into_iter()
                .chain([path.as_os_str()]),
        )?;
        let probe_text = probe.stdout;
        let probe: Probe = serde_json::from_slice(&probe_text).context("ffprobe's answer cannot be read")?;
        let stream = |kind: &str| probe.streams.iter().find(|s| s.codec_type == kind);
        let video = stream("video").context("the file has no video")?;
        let audio = stream("audio").context("the file has no audio")?;
        let times = |index: u32| {
            let mut times: Vec<(f64, bool)> = probe
                .packets
                .iter()
                .filter(|p| p.stream_index == index)
                .filter_map(|p| Some((p.pts_time.as_ref()?.parse().ok()?, p.flags.contains('K'))))
                .collect();
            times.sort_by(|a, b| a.0.total_cmp(&b.0));
            times
        };
        let video_times = times(video.index);
        let (columns, rows) = GRID;
        let scale = format!("scale={columns}:{rows}:flags=area");
        // Every picture at its own time: rounded to a frame rate, two that a new mixer sent close together would be one too many.
        let untouched = ["-fps_mode", "passthrough", "-enc_time_base", "-1"];
        let grey = ["-vf", &scale, "-pix_fmt", "gray", "-f", "rawvideo"];
        let pictures = decode(path, &[&["-map", "0:v:0"], &untouched[..], &grey].concat())?;
        let sound = decode(path, &["-map", "0:a:0", "-ac", "2", "-ar", "48000", "-f", "f32le"])?;
        Ok(Self {
            video_codec: video.codec_name.clone(),
            audio_codec: audio.codec_name.clone(),
            width: video.width,
            height: video.height,
            frame_times: video_times.iter().map(|t| t.0).collect(),
            keyframe_times: video_times.iter().filter(|t| t.1).map(|t| t.0).collect(),
            audio_times: times(audio.index).iter().map(|t| t.0).collect(),
            pictures: pictures.stdout.chunks_exact(columns * rows).map(<[u8]>::to_vec).collect(),
            sound: sound
                .stdout
                .chunks_exact(8)
                .map(|s| [f32::from_le_bytes([s[0], s[1], s[2], s[3]]), f32::from_le_bytes([s[4], s[5], s[6], s[7]])])
                .collect(),
            complaints: [pictures.complaints, sound.complaints].concat(),
        })
    }

    /// Seconds from the first to the last video frame.
    pub(crate) fn duration(&self) -> f64 {
        span(&self.frame_times)
    }

    /// Mean frames a second.
    pub(crate) fn fps(&self) -> f64 {
        (self.frame_times.len().saturating_sub(1)) as f64 / self.duration().max(f64::EPSILON)
    }

    /// The longest step between two video frames, seconds.
    pub(crate) fn longest_video_gap(&self) -> f64 {
        longest_step(&self.frame_times)
    }

    /// The longest step between two audio frames, seconds.
    pub(crate) fn longest_audio_gap(&self) -> f64 {
        longest_step(&self.audio_times)
    }

    /// The longest step between two keyframes, seconds.
    pub(crate) fn keyframe_interval(&self) -> f64 {
        longest_step(&self.keyframe_times)
    }

    /// Frames that were decoded, to be held against those that arrived.
    pub(crate) fn decoded_frames(&self) -> usize {
        self.pictures.len()
    }

    /// Share of the frames between `from` and `to` (seconds of the programme) whose region differs from the frame 5 before:
    /// a moving picture has nearly 1, a still or a slate 0.
    pub(crate) fn movement(&self, region: Region, from: f64, to: f64) -> f64 {
        let cells = cells(region);
        let (mut moved, mut seen) = (0, 0);
        for at in 5..self.pictures.len().min(self.frame_times.len()) {
            if !(from..to).contains(&self.frame_times[at]) {
                continue;
            }
            let difference: u64 =
                cells.iter().map(|&c| u64::from(self.pictures[at][c].abs_diff(self.pictures[at - 5][c]))).sum();
            seen += 1;
            // A mean difference of 1 of 255 is over what x264's noise leaves on a still picture.
            moved += usize::from(difference as f64 / cells.len() as f64 > 1.0);
        }
        moved as f64 / (seen as f64).max(1.0)
    }

    /// Share of the windows between `from` and `to` in which a note of this frequency stands at least 12 dB above the level a whole
    /// tone beside it.
    pub(crate) fn note(&self, hz: f64, channel: Channel, from: f64, to: f64) -> f64 {
        let samples = self.channel(channel, from, to);
        let windows = samples.chunks_exact(NOTE_WINDOW);
        let total = windows.len();
        let heard = windows
            .filter(|window| {
                let window = &tapered(window);
                let tone = power(window, hz);
                let beside = f64::midpoint(power(window, hz * WHOLE_TONE), power(window, hz / WHOLE_TONE));
                tone > 1e-9 && tone > beside * 16.0
            })
            .count();
        heard as f64 / (total as f64).max(1.0)
    }

    /// Mean level of a note in a channel, dB.
    pub(crate) fn loudness(&self, hz: f64, channel: Channel, from: f64, to: f64) -> f64 {
        let samples = self.channel(channel, from, to);
        let windows = samples.chunks_exact(NOTE_WINDOW);
        let count = windows.len();
        let mean = windows.map(|window| power(window, hz)).sum::<f64>() / (count as f64).max(1.0);
        10.0 * mean.max(1e-12).log10()
    }

    /// How much later than its flash in `region` each beep of `hz` is heard, seconds, in the order of the flashes. Positive means that
    /// the sound is late.
    pub(crate) fn av_offsets(&self, region: Region, hz: f64) -> Vec<f64> {
        let beeps = self.beeps(hz);
        self.flashes(region)
            .iter()
            .filter_map(|flash| beeps.iter().map(|beep| beep - flash).min_by(|a, b| a.abs().total_cmp(&b.abs())))
            .filter(|offset| offset.abs() < 0.4)
            .collect()
    }

    /// Times at which the region turns bright.
    fn flashes(&self, region: Region) -> Vec<f64> {
        let cells = cells(region);
        let brightness: Vec<f64> = self
            .pictures
            .iter()
            .map(|picture| cells.iter().map(|&c| f64::from(picture[c])).sum::<f64>() / cells.len() as f64)
            .collect();
        let times: Vec<f64> = self.frame_times.iter().copied().take(brightness.len()).collect();
        rises(&brightness, &times)
    }

    /// Times at which a tone of this frequency begins, seconds.
    pub(crate) fn beeps(&self, hz: f64) -> Vec<f64> {
        let mono: Vec<f32> = self.sound.iter().map(|[l, r]| (l + r) / 2.0).collect();
        let (mut levels, mut times) = (Vec::new(), Vec::new());
        let mut at = 0;
        while at + BEEP_WINDOW <= mono.len() {
            levels.push(power(&mono[at..at + BEEP_WINDOW], hz).sqrt());
            // A window that is half full crosses half the level, so its middle is where the tone begins.
            times.push(self.heard_at(at + BEEP_WINDOW / 2));
            at += BEEP_STEP;
        }
        rises(&levels, &times)
    }

    /// When a sample is heard: sound is decoded without the gaps that it may have had.
    fn heard_at(&self, sample: usize) -> f64 {
        let frame = (sample / FRAME).min(self.audio_times.len().saturating_sub(1));
        let start = self.audio_times.get(frame).copied().unwrap_or(0.0);
        start + (sample - frame * FRAME) as f64 / SAMPLE_RATE
    }

    fn channel(&self, channel: Channel, from: f64, to: f64) -> Vec<f32> {
        let start = self.audio_times.first().copied().unwrap_or(0.0);
        let index = |t: f64| (((t - start) * SAMPLE_RATE).max(0.0) as usize).min(self.sound.len());
        self.sound[index(from)..index(to).max(index(from))]
            .iter()
            .map(|[left, right]| match channel {
                Channel::Left => *left,
                Channel::Right => *right,
            })
            .collect()
    }
}

/// Times at which a signal crosses half of its range upwards, at least 0.3 s apart.
fn rises(levels: &[f64], times: &[f64]) -> Vec<f64> {
    let mut sorted = levels.to_vec();
    sorted.sort_by(f64::total_cmp);
    // The quiet level is the median; the loud one is near the top, as flashes and beeps fill about a tenth of the time.
    let (Some(quiet), Some(loud)) = (sorted.get(sorted.len() / 2), sorted.get(sorted.len() * 98 / 100)) else {
        return Vec::new();
    };
    let threshold = f64::midpoint(*quiet, *loud);
    let mut found: Vec<f64> = Vec::new();
    for (pair, at) in levels.windows(2).zip(times.iter().skip(1)) {
        if pair[0] < threshold && pair[1] >= threshold && found.last().is_none_or(|last| at - last > 0.3) {
            found.push(*at);
        }
    }
    found
}

/// A window with its ends faded (Hann), so that a beep that begins or ends in it does not spread over all frequencies.
fn tapered(window: &[f32]) -> Vec<f32> {
    let step = std::f32::consts::TAU / window.len() as f32;
    window.iter().enumerate().map(|(n, sample)| sample * (0.5 - 0.5 * (step * n as f32).cos())).collect()
}

/// Power of one frequency in a window, by Goertzel's algorithm; 0.25 for a full-scale sine.
fn power(window: &[f32], hz: f64) -> f64 {
    let coefficient = 2.0 * (std::f64::consts::TAU * hz / SAMPLE_RATE).cos();
    let (mut s1, mut s2) = (0.0, 0.0);
    for sample in window {
        let s0 = f64::from(*sample) + coefficient * s1 - s2;
        s2 = s1;
        s1 = s0;
    }
    (s1 * s1 + s2 * s2 - coefficient * s1 * s2) / (window.len() as f64).powi(2)
}

/// The grid cells well inside a region: its rim is left out, where a neighbour may bleed in.
fn cells(region: Region) -> Vec<usize> {
    let (columns, rows) = GRID;
    let inside = |start: f64, length: f64, count: usize| {
        let from = ((start + length * 0.1) * count as f64).ceil() as usize;
        let to = (((start + length * 0.9) * count as f64).floor() as usize).min(count);
        from..to
    };
    inside(region.y, region.height, rows)
        .flat_map(|row| inside(region.x, region.width, columns).map(move |column| row * columns + column))
        .collect()
}

fn span(times: &[f64]) -> f64 {
    times.last().zip(times.first()).map_or(0.0, |(last, first)| last - first)
}

fn longest_step(times: &[f64]) -> f64 {
    times.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max)
}

struct Output {
    stdout: Vec<u8>,
    complaints: Vec<String>,
}

fn decode(path: &Path, to: &[&str]) -> Result<Output> {
    let before = ["-nostdin", "-v", "error", "-i"].map(OsStr::new);
    run(
        "ffmpeg",
        before.into_iter().chain([path.as_os_str()]).chain(to.iter().map(OsStr::new)).chain([OsStr::new("pipe:1")]),
    )
}

fn run<'a>(program: &str, arguments: impl Iterator<Item = &'a OsStr>) -> Result<Output> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{program} cannot be started; it comes with the package ffmpeg"))?;
    let complaints = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} failed: {}", complaints.trim());
    Ok(Output { complaints: complaints.lines().map(str::to_owned).collect(), stdout: output.stdout })
}
