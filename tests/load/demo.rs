//! The demo: starts a gateway, brings a band, goes live, and looks at what the ingest received.

use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use jamcast::domain::layout::place;
use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;

use crate::gateway::Gateway;
use crate::gateway::ROOM;
use crate::look::Region;
use crate::musician::Musician;
use crate::musician::Part;
use crate::peer::Picture;
use crate::verdict::Expected;
use crate::verdict::ExpectedPart;
use crate::verdict::Verdict;

/// From a killed mixer to the next one's first frame, seconds.
const MIXER_GAP: f64 = 1.0;

/// The same where another stands by: a few frames, and as much again for a machine that does other things.
const STANDBY_GAP: f64 = 0.2;

/// Runs the whole story; `Ok(true)` if everything that should be seen and heard was. The mixer is killed `kills` times, evenly spread;
/// another may stand by for it.
pub(crate) async fn run(gateway: &Path, seconds: u64, kills: u32, standby: bool) -> Result<bool> {
    let folder = tempfile::Builder::new().prefix("jamcast-demo-").tempdir()?.keep();
    let settings = [("JAMCAST__MIXER__STANDBY", if standby { "true" } else { "false" })];
    let mut running = Gateway::start_with(gateway, &folder, &settings).await?;
    say(&format!("The gateway runs at {}; its files are in {}", running.url, folder.display()));
    let story = tell(&running, seconds, kills).await;
    running.stop().await?;
    let stats = story?;

    // The ingest begins a file for each connection: one file is one connection that stayed up.
    let received = files(&folder.join("ingest"), "flv")?;
    let gap = (kills > 0).then_some(if standby { STANDBY_GAP } else { MIXER_GAP });
    let mut verdict = Verdict::on(&received[0], &expected(seconds as f64 - 1.0, gap))?;
    verdict.note(received.len() == 1, format!("{} RTMP connections", received.len()));
    let kills = u64::from(kills);
    let restarts = stats["stats"]["mixer_restarts"].as_u64();
    verdict.note(restarts == Some(kills), format!("{} mixer restarts", restarts.unwrap_or_default()));
    let takeovers = stats["stats"]["mixer_takeovers"].as_u64().unwrap_or_default();
    let due = if standby { kills } else { 0 };
    verdict.note(takeovers == due, format!("{takeovers} of them by a mixer that stood by"));
    let first = stats["stats"]["first_video_ms"].as_u64();
    verdict
        .note(first.is_some(), format!("first picture at the ingest {} ms after Go live", first.unwrap_or_default()));
    let recordings = files(&folder.join("recordings"), "mp4")?;
    verdict.note(recordings.len() as u64 == 1 + kills, format!("{} parts of the recording", recordings.len()));
    let length = seconds as f64 / recordings.len() as f64 - 2.0;
    let mut recorded = String::new();
    for file in &recordings {
        let part = Verdict::on(file, &expected(length, None))?;
        verdict.note(part.holds(), format!("recording {}", file.display()));
        if !part.holds() {
            recorded += &format!("What was recorded in {}:\n{part}", file.display());
        }
    }
    say(&format!("\nWhat the ingest received:\n{verdict}"));
    say(&recorded);
    let holds = verdict.holds();
    say(if holds { "Verdict: everything holds." } else { "Verdict: not everything holds." });
    if holds {
        std::fs::remove_dir_all(&folder)?;
    } else {
        say(&format!("The files were kept in {}", folder.display()));
    }
    Ok(holds)
}

/// The three of the band: a chord of C major, two codecs, one that flashes and beeps.
pub(crate) fn band() -> Vec<Part> {
    let part = |name: &str, note_hz, picture, beep_hz| Part {
        name: name.to_owned(),
        note_hz,
        picture,
        width: 640,
        height: 360,
        beep_hz,
        clock_ppm: 0,
    };
    vec![
        part("Clara", 261.63, Picture::Vp8, Some(2000.0)),
        part("Edgar", 329.63, Picture::H264, None),
        part("Grace", 392.0, Picture::Vp8, None),
    ]
}

fn expected(seconds: f64, gap: Option<f64>) -> Expected {
    Expected { gap, ..expected_of(band(), seconds) }
}

/// What these musicians look and sound like in a programme of their own, of which no frame may be missing.
pub(crate) fn expected_of(parts: Vec<Part>, seconds: f64) -> Expected {
    let (width, height) = (1280, 720);
    let regions = place(parts.len(), width, height).into_iter().map(|placement| Region {
        x: f64::from(placement.rect.x) / f64::from(width),
        y: f64::from(placement.rect.y) / f64::from(height),
        width: f64::from(placement.rect.width) / f64::from(width),
        height: f64::from(placement.rect.height) / f64::from(height),
    });
    let parts = parts
        .into_iter()
        .zip(regions)
        .map(|(part, region)| ExpectedPart {
            name: part.name,
            region,
            note_hz: part.note_hz,
            louder: None,
            beep_hz: part.beep_hz,
            sent_late_ms: 0.0,
        })
        .collect();
    Expected { width, height, fps: 30.0, seconds, keyframe_interval: 2.0, gap: None, settle: (3.0, 1.0), parts }
}

async fn tell(gateway: &Gateway, seconds: u64, kills: u32) -> Result<Value> {
    let mut musicians = Vec::new();
    for part in band() {
        let name = part.name.clone();
        let token = gateway.room_token(&name, "musician").await?;
        musicians.push(
            Musician::join(&gateway.url, ROOM, &token, part).await.with_context(|| format!("{name} cannot join"))?,
        );
        say(&format!("{name} joined"));
    }
    let destinations = gateway.get("/api/v1/destinations").await?;
    let ids: Vec<Value> = destinations["data"].as_array().into_iter().flatten().map(|d| d["id"].clone()).collect();
    if ids.is_empty() {
        bail!("the gateway has no destination");
    }
    let stream = gateway
        .post("/api/v1/streams", &json!({ "room": ROOM, "title": "Demo", "destinations": ids, "record": true }))
        .await?;
    let path = format!("/api/v1/streams/{}", stream["id"].as_str().context("the stream has no id")?);
    gateway.post(&format!("{path}/start"), &Value::Null).await?;

    let pressed = Instant::now();
    let mut live_since = None;
    let mut killed = 0;
    let mut last = Value::Null;
    while live_since.is_none_or(|at: Instant| at.elapsed() < Duration::from_secs(seconds)) {
        tokio::time::sleep(Duration::from_millis(500)).await;
        last = gateway.get(&path).await?;
        let sending =
            last["destinations"].as_array().is_some_and(|all| all.iter().all(|d| d["frames_sent"].as_u64() > Some(0)));
        if sending && live_since.is_none() {
            live_since = Some(Instant::now());
        }
        status_line(&last);
        let next = Duration::from_secs(seconds) * (killed + 1) / (kills + 1);
        if killed < kills && live_since.is_some_and(|at| at.elapsed() > next) {
            killed += 1;
            gateway.kill_mixer_on_air()?;
            say("\nKilled the mixer");
        }
        if last["state"] == "failed" {
            bail!("the stream failed: {}", last["reason"]);
        }
        if live_since.is_none() && pressed.elapsed() > Duration::from_secs(15) {
            bail!("nothing was sent within 15 s: {last:#}");
        }
    }
    // What was counted goes with the stream; the last look while it ran is kept.
    let on_air = last.clone();
    gateway.post(&format!("{path}/stop"), &Value::Null).await?;
    for _ in 0..40 {
        last = gateway.get(&path).await?;
        if last["state"] == "ended" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    for musician in musicians {
        musician.leave().await?;
    }
    if last["state"] != "ended" {
        bail!("the stream did not end: {last:#}");
    }
    Ok(on_air)
}

fn status_line(stream: &Value) {
    let stats = &stream["stats"];
    let destinations: Vec<String> = stream["destinations"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|d| format!("{} {}", d["name"].as_str().unwrap_or_default(), d["state"].as_str().unwrap_or_default()))
        .collect();
    print_over(&format!(
        "{:>8}  {:>5.1} s  {:>4.1} fps  {:>5} kbit/s  {} dropped  {} musicians  {}",
        stream["state"].as_str().unwrap_or_default(),
        stats["duration_ms"].as_f64().unwrap_or_default() / 1000.0,
        stats["fps"].as_f64().unwrap_or_default(),
        stats["bitrate_kbps"],
        stats["dropped_frames"],
        stats["musicians"],
        destinations.join(", "),
    ));
}

/// Files with this extension, the oldest first; at least one.
pub(crate) fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(|| format!("{} cannot be read", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect();
    files.sort();
    ensure!(!files.is_empty(), "there is no {extension} file in {}", folder.display());
    Ok(files)
}

pub(crate) fn say(text: &str) {
    let _broken_pipe_is_no_failure = writeln!(std::io::stdout(), "{text}");
}

fn print_over(text: &str) {
    let mut out = std::io::stdout();
    let _broken_pipe_is_no_failure = write!(out, "\r\x1b[K{text}").and_then(|()| out.flush());
}
