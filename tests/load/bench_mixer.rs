//! CPU of our mixer beside one ffmpeg command that does the same job, and beside the floor: decoding alone plus x264 alone.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use gstreamer_app::AppSinkCallbacks;
use jamcast::model::id::SourceId;
use jamcast::model::id::TrackId;
use jamcast::model::media::Codec;
use jamcast::model::scene::Placement;
use jamcast::model::scene::Rect;
use jamcast::model::scene::Scene;
use jamcast::model::scene::Source;
use jamcast::model::scene::SourceTrack;
use jamcast::model::spec::ProgrammeSpec;
use jamcast::proto::mixer::TappedPacket;
use jamcast::proto::mixer::ToMixer;

use crate::demo::say;
use crate::rig::Effort;
use crate::rig::Rig;
use crate::rig::WARM_UP;
use crate::rig::Writer;

const VP8: u8 = 96;
const OPUS: u8 = 111;

/// Musicians of one picture size into one programme.
struct Job {
    name: &'static str,
    sources: usize,
    source: (u32, u32),
    programme: (u32, u32),
    /// Each musician's part of the programme, in so many columns.
    tile: (u32, u32),
    columns: u32,
    kbps: u32,
    /// kbit/s of each musician's VP8.
    source_kbps: u32,
    preset: &'static str,
}

/// What x264 is told by the default pipeline.
const SUPERFAST: &str = "superfast";

const JOBS: &[Job] = &[
    Job {
        name: "4 x 640x360 -> 720p30",
        sources: 4,
        source: (640, 360),
        programme: (1280, 720),
        tile: (640, 360),
        columns: 2,
        kbps: 2500,
        source_kbps: 1000,
        preset: SUPERFAST,
    },
    Job {
        name: "8 x 640x360 -> 720p30",
        sources: 8,
        source: (640, 360),
        programme: (1280, 720),
        tile: (426, 240),
        columns: 3,
        kbps: 2500,
        source_kbps: 1000,
        preset: SUPERFAST,
    },
    Job {
        name: "4 x 1280x720 -> 1080p30",
        sources: 4,
        source: (1280, 720),
        programme: (1920, 1080),
        tile: (960, 540),
        columns: 2,
        kbps: 4500,
        source_kbps: 2500,
        preset: SUPERFAST,
    },
    // The encoder as an operator may have it for a better picture at the same rate.
    Job {
        name: "4 x 1280x720 -> 720p30 veryfast",
        sources: 4,
        source: (1280, 720),
        programme: (1280, 720),
        tile: (640, 360),
        columns: 2,
        kbps: 2500,
        source_kbps: 2500,
        preset: "veryfast",
    },
];

/// What is measured, and with what.
pub(crate) struct Bench {
    /// The `jamcast` binary.
    pub(crate) gateway: PathBuf,
    pub(crate) seconds: u64,
    /// Only the jobs whose names hold this.
    pub(crate) job: String,
    /// Measures what is added to the first job, so many times each, instead of all jobs beside ffmpeg.
    pub(crate) added: Option<u32>,
    /// Another build, in turns with the first one and instead of ffmpeg.
    pub(crate) beside: Option<PathBuf>,
    /// Where the musicians' files are kept; a temporary folder without it.
    pub(crate) folder: Option<PathBuf>,
}

impl Job {
    /// The upper left corner of a musician's part.
    const fn corner(&self, n: u32) -> (u32, u32) {
        (n % self.columns * self.tile.0, n / self.columns * self.tile.1)
    }
}

/// Prints one row for each job: CPU seconds for a minute of programme, and ratios.
pub(crate) fn run(bench: &Bench) -> Result<()> {
    gst::init()?;
    let temporary = tempfile::tempdir()?;
    let folder = bench.folder.as_deref().unwrap_or(temporary.path());
    let seconds = bench.seconds;
    let length = seconds + WARM_UP.as_secs() + 4;
    if let Some(turns) = bench.added {
        return added(bench, turns, &prepare(&JOBS[0], folder, length)?);
    }
    let jobs = JOBS.iter().filter(|job| job.name.contains(&bench.job));
    say(
        "CPU seconds for a minute of programme (user + system), x264 superfast zerolatency unless another preset is named, one run:",
    );
    if let Some(other) = &bench.beside {
        say("job                               ours   beside   ours/beside   frames");
        for job in jobs {
            let files = prepare(job, folder, length)?;
            let Effort { cpu: beside, .. } = ours(other, job, scene(job), &files, Duration::from_secs(seconds))?;
            let Effort { cpu, frames } = ours(&bench.gateway, job, scene(job), &files, Duration::from_secs(seconds))?;
            say(&format!("{:<32} {cpu:>6.1} {beside:>8.1} {:>13.2}   {frames}", job.name, cpu / beside));
        }
        return Ok(());
    }
    say("ffmpeg live reads its files at the speed of life, as ours must; ffmpeg as fast as it can.");
    say(
        "job                               ours   ffmpeg live   ffmpeg   floor   ours/live   ours/ffmpeg   ours/floor   frames",
    );
    for job in jobs {
        let files = prepare(job, folder, length)?;
        let Effort { cpu: ours, frames } = ours(&bench.gateway, job, scene(job), &files, Duration::from_secs(seconds))?;
        let benchmark = ["-nostdin", "-v", "info", "-benchmark"];
        let live = cpu(&benchmark, &compose(job, &files, &["-re"]), length)?;
        let ffmpeg = cpu(&benchmark, &compose(job, &files, &[]), length)?;
        let floor = floor(job, &files, temporary.path(), length)?;
        say(&format!(
            "{:<32} {ours:>6.1} {live:>13.1} {ffmpeg:>8.1} {floor:>7.1} {:>11.2} {:>13.2} {:>12.2}   {frames}",
            job.name,
            ours / live,
            ours / ffmpeg,
            ours / floor
        ));
    }
    Ok(())
}

/// Prints what the preview's sound costs beside a programme, and what a mixer costs that stands by.
fn added(bench: &Bench, turns: u32, files: &[PathBuf]) -> Result<()> {
    let job = &JOBS[0];
    let length = Duration::from_secs(bench.seconds);
    say(&format!("CPU seconds for a minute of {} (user + system), in turns:", job.name));
    say("turn    alone   with the preview's sound   standing by   frames");
    for turn in 1..=turns {
        let alone = ours(&bench.gateway, job, scene(job), files, length)?;
        let preview = ours(&bench.gateway, job, Scene { preview: true, ..scene(job) }, files, length)?;
        let standby = ours(&bench.gateway, job, Scene { standby: true, ..scene(job) }, files, length)?;
        say(&format!(
            "{turn:<4} {:>8.1} {:>26.1} {:>13.1}   {}, {}, {}",
            alone.cpu, preview.cpu, standby.cpu, alone.frames, preview.frames, standby.frames
        ));
    }
    Ok(())
}

/// Each musician's sound and picture as a file: a zoom into a fractal with camera noise, so that x264 has work to do.
fn prepare(job: &Job, folder: &Path, seconds: u64) -> Result<Vec<PathBuf>> {
    (0..job.sources)
        .map(|n| {
            let file = folder.join(format!("{}-{seconds}s-{n}.webm", job.source.0));
            if file.exists() {
                return Ok(file);
            }
            let (width, height) = job.source;
            let picture = format!(
                "mandelbrot=s={width}x{height}:r=30:start_scale={},noise=alls=6:allf=t,format=yuv420p",
                3.0 - (n % 4) as f64 * 0.5
            );
            let sound = format!("sine=f={}:r=48000", 220 * (n + 1));
            let rate = format!("{}k", job.source_kbps);
            let length = seconds.to_string();
            let unfinished = file.with_extension("part.webm");
            let status = Command::new("ffmpeg")
                .args([
                    "-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", &sound, "-t",
                    &length,
                ])
                .args(["-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-g", "60", "-b:v", &rate])
                .args(["-c:a", "libopus", "-b:a", "128k", "-ac", "2"])
                .arg(&unfinished)
                .status()?;
            ensure!(status.success(), "ffmpeg could not make the musicians");
            std::fs::rename(&unfinished, &file)?;
            Ok(file)
        })
        .collect()
}

/// Our mixer child, fed in real time with the same files as RTP. Pictures that a busy machine kept it from making are no savings: a
/// minute of programme is one of as many pictures as were made.
fn ours(mixer: &Path, job: &Job, scene: Scene, files: &[PathBuf], length: Duration) -> Result<Effort> {
    let stands_by = scene.standby;
    let rig = Rig::start(mixer, own_pipelines(job), scene)?;
    let players = files.iter().enumerate().map(|(n, file)| play(file, n, &rig.writer())).collect::<Result<Vec<_>>>()?;
    let effort = rig.measure(length);
    for player in players {
        player.set_state(gst::State::Null)?;
    }
    let Effort { cpu, frames } = effort?;
    if stands_by {
        return Ok(Effort { cpu, frames });
    }
    ensure!(frames > 0, "the mixer made no pictures");
    let due = length.as_secs_f64() * f64::from(ProgrammeSpec::default().fps);
    Ok(Effort { cpu: cpu * (due / frames as f64).max(1.0), frames })
}

/// The default encoder with the job's preset, as an operator would have it in a folder of their own.
fn own_pipelines(job: &Job) -> BTreeMap<String, String> {
    const DEFAULT: &str = include_str!("../../pipelines/encoder-x264.txt");
    let own = DEFAULT.replace(&format!("speed-preset={SUPERFAST}"), &format!("speed-preset={}", job.preset));
    [("encoder-x264.txt".to_owned(), own)].into()
}

fn scene(job: &Job) -> Scene {
    let (width, height) = job.tile;
    let sources = (0..job.sources as u32)
        .map(|n| Source {
            video: Some(SourceTrack { track: TrackId(n * 2), codec: Codec::Vp8, payload_type: VP8 }),
            audio: Some(SourceTrack { track: TrackId(n * 2 + 1), codec: Codec::Opus, payload_type: OPUS }),
            placement: Some(Placement { rect: Rect { x: job.corner(n).0, y: job.corner(n).1, width, height }, z: 1 }),
            ..Source::new(SourceId(n), format!("musician {n}"))
        })
        .collect();
    let programme = ProgrammeSpec {
        width: job.programme.0,
        height: job.programme.1,
        video_kbps: job.kbps,
        ..ProgrammeSpec::default()
    };
    Scene { programme, sources, ..Scene::default() }
}

/// Plays a musician's file into the mixer's socket at the speed of life.
fn play(file: &Path, n: usize, writer: &Writer) -> Result<gst::Pipeline> {
    let description = format!(
        "filesrc location=\"{}\" ! matroskademux name=d \
         d. ! queue ! video/x-vp8 ! rtpvp8pay pt={VP8} mtu=1200 picture-id-mode=15-bit ! appsink name=picture sync=true async=false \
         d. ! queue ! audio/x-opus ! rtpopuspay pt={OPUS} ! appsink name=sound sync=true async=false",
        file.display()
    );
    let pipeline =
        gst::parse::launch(&description)?.downcast::<gst::Pipeline>().expect("the description is a pipeline");
    for (name, track) in [("picture", TrackId(n as u32 * 2)), ("sound", TrackId(n as u32 * 2 + 1))] {
        let sink: AppSink =
            pipeline.by_name(name).and_then(|e| e.downcast().ok()).context("the sink is named above")?;
        let writer = writer.clone();
        let clock = gst::SystemClock::obtain();
        sink.set_callbacks(
            AppSinkCallbacks::builder()
                .new_sample(move |sink| {
                    let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                    let arrival_us = clock.time().useconds();
                    let send_one = |buffer: &gst::BufferRef| {
                        if let Ok(map) = buffer.map_readable() {
                            let packet = Bytes::copy_from_slice(&map);
                            writer.send(&ToMixer::Rtp(TappedPacket { track, arrival_us, packet }));
                        }
                    };
                    sample.buffer().into_iter().for_each(send_one);
                    sample.buffer_list().into_iter().flat_map(|list| list.iter()).for_each(send_one);
                    Ok(gst::FlowSuccess::Ok)
                })
                .build(),
        );
    }
    pipeline.set_state(gst::State::Playing)?;
    Ok(pipeline)
}

/// The same job as one ffmpeg command; `reading` stands before each input.
fn compose(job: &Job, files: &[PathBuf], reading: &[&str]) -> Vec<String> {
    let input = |file: &PathBuf| {
        let input = ["-i".to_owned(), file.display().to_string()];
        reading.iter().map(|flag| (*flag).to_owned()).chain(input).collect::<Vec<_>>()
    };
    let mut arguments: Vec<String> = files.iter().flat_map(input).collect();
    let (width, height) = job.tile;
    let filter =
        if job.tile == job.source { "null".to_owned() } else { format!("scale={width}:{height}:flags=bilinear") };
    let all = 0..job.sources as u32;
    let scaled: String = all.clone().map(|n| format!("[{n}:v]{filter}[v{n}];")).collect();
    let inputs = |kind: &str| all.clone().map(|n| kind.replace('n', &n.to_string())).collect::<String>();
    let corners: Vec<_> = all.clone().map(|n| format!("{}_{}", job.corner(n).0, job.corner(n).1)).collect();
    let rows = all.len().div_ceil(job.columns as usize) as u32;
    let exact = (job.columns * width, rows * height) == job.programme && all.len() as u32 == job.columns * rows;
    let rest = if exact { String::new() } else { format!(":fill=black,pad={}:{}", job.programme.0, job.programme.1) };
    let graph = format!(
        "{scaled}{}xstack=inputs={}:layout={}{rest}[v];{}amix=inputs={}[a]",
        inputs("[vn]"),
        all.len(),
        corners.join("|"),
        inputs("[n:a]"),
        all.len()
    );
    arguments.extend(["-filter_complex", &graph, "-map", "[v]", "-map", "[a]"].map(str::to_owned));
    arguments.extend(x264(job));
    arguments.extend(["-c:a", "aac", "-b:a", "160k", "-f", "null", "-"].map(str::to_owned));
    arguments
}

fn x264(job: &Job) -> Vec<String> {
    let rate = format!("{}k", job.kbps);
    // As many as the mixer gives it.
    let threads = if job.programme.0 * job.programme.1 <= 1280 * 720 { "1" } else { "2" };
    [
        "-c:v",
        "libx264",
        "-preset",
        job.preset,
        "-tune",
        "zerolatency",
        "-g",
        "60",
        "-threads",
        threads,
        "-b:v",
        &rate,
        "-maxrate",
        &rate,
        "-bufsize",
        &rate,
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Decoding the four musicians, plus x264 alone on the composed picture.
fn floor(job: &Job, files: &[PathBuf], folder: &Path, seconds: u64) -> Result<f64> {
    let mut decode = 0.0;
    for file in files {
        decode += cpu(
            &["-nostdin", "-v", "info", "-benchmark", "-threads", "1"],
            &strings(&["-i", &file.display().to_string(), "-f", "null", "-"]),
            seconds,
        )?;
    }
    let composed = folder.join("composed.nut");
    let mut arguments = compose(job, files, &[]);
    let codec = arguments.iter().position(|a| a == "-c:v").expect("compose sets a codec");
    arguments.truncate(codec);
    let status = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-y"])
        .args(&arguments)
        .args(["-c:v", "rawvideo", "-an"])
        .arg(&composed)
        .status()?;
    ensure!(status.success(), "ffmpeg could not compose");
    let read = strings(&["-i", &composed.display().to_string(), "-f", "null", "-"]);
    let mut encode = strings(&["-i", &composed.display().to_string()]);
    encode.extend(x264(job));
    encode.extend(strings(&["-f", "null", "-"]));
    let flags = ["-nostdin", "-v", "info", "-benchmark"];
    let alone = cpu(&flags, &encode, seconds)? - cpu(&flags, &read, seconds)?;
    std::fs::remove_file(&composed)?;
    Ok(decode + alone)
}

fn strings(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|a| (*a).to_owned()).collect()
}

/// CPU seconds that ffmpeg says it used, for a minute of its `seconds` of media.
fn cpu(flags: &[&str], arguments: &[String], seconds: u64) -> Result<f64> {
    let output = Command::new("ffmpeg").args(flags).args(arguments).output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "ffmpeg failed: {text}");
    let value = |name: &str| -> Option<f64> {
        let rest = text.rsplit_once(name)?.1;
        rest.split('s').next()?.parse().ok()
    };
    let used = value("utime=").zip(value("stime=")).context("ffmpeg printed no benchmark")?;
    Ok((used.0 + used.1) * 60.0 / seconds as f64)
}
