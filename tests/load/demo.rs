//! The demo: starts a gateway, brings a band, goes live, and looks at what the ingest received.

use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::process::Child;
use tokio::process::Command;
use tokio::time::Instant;

use crate::look::Region;
use crate::musician::Musician;
use crate::musician::Part;
use crate::musician::Picture;
use crate::verdict::Expected;
use crate::verdict::ExpectedPart;
use crate::verdict::Verdict;

const ROOM: &str = "demo";

/// Runs the whole story; `Ok(true)` if everything that should be seen and heard was.
pub(crate) async fn run(gateway: &Path, seconds: u64) -> Result<bool> {
    let folder = tempfile::Builder::new().prefix("jamcast-demo-").tempdir()?.keep();
    let mut running = Gateway::start(gateway, &folder).await?;
    say(&format!("The gateway runs at {}; its files are in {}", running.url, folder.display()));
    let story = tell(&running, seconds).await;
    running.stop().await?;
    let stats = story?;

    let mut verdict = Verdict::on(&newest(&folder.join("ingest"), "flv")?, &expected(seconds as f64 - 1.0))?;
    let recording = Verdict::on(&newest(&folder.join("recordings"), "mp4")?, &expected(seconds as f64 - 1.0))?;
    verdict.note(recording.holds(), "the recording shows and sounds the same".to_owned());
    let restarts = stats["stats"]["mixer_restarts"].as_u64();
    verdict.note(restarts == Some(0), format!("{} mixer restarts", restarts.unwrap_or_default()));
    say(&format!("\nWhat the ingest received:\n{verdict}"));
    if !recording.holds() {
        say(&format!("What was recorded:\n{recording}"));
    }
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
    };
    vec![
        part("Clara", 261.63, Picture::Vp8, Some(2000.0)),
        part("Edgar", 329.63, Picture::H264, None),
        part("Grace", 392.0, Picture::Vp8, None),
    ]
}

fn expected(seconds: f64) -> Expected {
    let quarter = |column: f64, row: f64| Region { x: column / 2.0, y: row / 2.0, width: 0.5, height: 0.5 };
    let parts = band()
        .into_iter()
        .zip([quarter(0.0, 0.0), quarter(1.0, 0.0), quarter(0.0, 1.0)])
        .map(|(part, region)| ExpectedPart { name: part.name, region, note_hz: part.note_hz, beep_hz: part.beep_hz })
        .collect();
    Expected { width: 1280, height: 720, fps: 30.0, seconds, keyframe_interval: 2.0, settle: (3.0, 1.0), parts }
}

async fn tell(gateway: &Gateway, seconds: u64) -> Result<Value> {
    let mut musicians = Vec::new();
    for part in band() {
        let name = part.name.clone();
        let ticket =
            gateway.post(&format!("/api/v1/rooms/{ROOM}/tokens"), &json!({ "name": name, "role": "musician" })).await?;
        let token = ticket["token"].as_str().context("no token was minted")?;
        musicians.push(
            Musician::join(&gateway.url, ROOM, token, part).await.with_context(|| format!("{name} cannot join"))?,
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
    let mut last = Value::Null;
    while live_since.is_none_or(|at: Instant| at.elapsed() < Duration::from_secs(seconds)) {
        tokio::time::sleep(Duration::from_millis(500)).await;
        last = gateway.get(&path).await?;
        let on_air =
            last["destinations"].as_array().is_some_and(|all| all.iter().all(|d| d["frames_sent"].as_u64() > Some(0)));
        if on_air && live_since.is_none() {
            live_since = Some(Instant::now());
        }
        status_line(&last);
        if last["state"] == "failed" {
            bail!("the stream failed: {}", last["reason"]);
        }
        if live_since.is_none() && pressed.elapsed() > Duration::from_secs(15) {
            bail!("nothing was sent within 15 s: {last:#}");
        }
    }
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
    Ok(last)
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

/// A gateway that this process started, on free ports and in its own folder.
struct Gateway {
    child: Child,
    url: String,
    token: String,
    http: reqwest::Client,
}

impl Gateway {
    async fn start(program: &Path, folder: &Path) -> Result<Self> {
        let log = std::fs::File::create(folder.join("gateway.log"))?;
        let mut child = Command::new(program)
            .arg("serve")
            .env("JAMCAST__DATA__FOLDER", folder)
            .env("JAMCAST__HTTP__BIND", "127.0.0.1:0")
            .env("JAMCAST__OPS__BIND", "127.0.0.1:0")
            .env("JAMCAST__RTC__UDP_PORT", "0")
            .env("JAMCAST__DEMO__INGEST_BIND", "127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} cannot be started", program.display()))?;
        let mut lines = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
        let found = tokio::time::timeout(Duration::from_secs(20), async {
            while let Some(line) = lines.next_line().await? {
                if let Some((url, token)) = line.trim().split_once("/#token=") {
                    return Ok((url.to_owned(), token.to_owned()));
                }
            }
            bail!("the gateway ended; see {}", folder.join("gateway.log").display())
        });
        let (url, token) = found.await.context("the gateway printed no studio URL within 20 s")??;
        Ok(Self { child, url, token, http: reqwest::Client::new() })
    }

    async fn get(&self, path: &str) -> Result<Value> {
        self.answer(self.http.get(format!("{}{path}", self.url))).await
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let request = self.http.post(format!("{}{path}", self.url));
        self.answer(if body.is_null() { request } else { request.json(body) }).await
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Value> {
        let answer = request.bearer_auth(&self.token).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        if !status.is_success() {
            bail!("the gateway answered {status}: {text}");
        }
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Stops it as an operator would.
    async fn stop(&mut self) -> Result<()> {
        if let Some(pid) =
            self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw)
        {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        tokio::time::timeout(Duration::from_secs(15), self.child.wait())
            .await
            .context("the gateway did not stop within 15 s")??;
        Ok(())
    }
}

fn newest(folder: &Path, extension: &str) -> Result<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(|| format!("{} cannot be read", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect();
    files.sort();
    files.pop().with_context(|| format!("there is no {extension} file in {}", folder.display()))
}

pub(crate) fn say(text: &str) {
    let _broken_pipe_is_no_failure = writeln!(std::io::stdout(), "{text}");
}

fn print_over(text: &str) {
    let mut out = std::io::stdout();
    let _broken_pipe_is_no_failure = write!(out, "\r\x1b[K{text}").and_then(|()| out.flush());
}
