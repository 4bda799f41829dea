//! HLS as a player meets it: a whole gateway, its playlist over HTTP while it is live, its mixer killed midway, and ffmpeg that goes on.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::future::Future;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use reqwest::Response;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::process::Child;
use tokio::process::Command;
use tokio::time::timeout;

use crate::gateway::turn;

/// For each thing that is waited for: a bound for hangs, not for slow machines.
const PATIENCE: Duration = Duration::from_secs(90);

struct House {
    process: Child,
    url: String,
    token: String,
    http: reqwest::Client,
}

impl House {
    async fn start(folder: &Path) -> Self {
        let log = std::fs::File::create(folder.join("gateway.log")).expect("a log");
        let mut process = Command::new(env!("CARGO_BIN_EXE_jamcast"))
            .arg("serve")
            .env("JAMCAST__DATA__FOLDER", folder)
            .env("JAMCAST__SERVER__LISTEN", "127.0.0.1:0")
            .env("JAMCAST__HTTP__METRICS_LISTEN", "127.0.0.1:0")
            .env("JAMCAST__RTC__UDP_PORT", "0")
            .env("JAMCAST__RTC__TCP_PORT", "0")
            .env("JAMCAST__DEMO__INGEST_LISTEN", "127.0.0.1:0")
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("the gateway starts");
        let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let (url, token) = patiently(async {
            loop {
                let line = lines.next_line().await.expect("readable").expect("a gateway that says where it is");
                if let Some((url, token)) = line.trim().split_once("/#token=") {
                    return (url.to_owned(), token.to_owned());
                }
            }
        })
        .await;
        Self { process, url, token, http: reqwest::Client::new() }
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let request = self.http.post(format!("{}/api/v1/streams{path}", self.url)).bearer_auth(&self.token);
        let request = if body.is_null() { request } else { request.json(body) };
        let answer = request.send().await.expect("an answer");
        let (status, text) = (answer.status(), answer.text().await.expect("text"));
        assert!(status.is_success(), "{status}: {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    async fn get(&self, path: &str) -> Response {
        self.http.get(format!("{}{path}", self.url)).send().await.expect("an answer")
    }

    /// Kills the mixers as a crash would; their number.
    fn kill_mixers(&self) -> usize {
        let mut killed = 0;
        let threads = format!("/proc/{}/task", self.process.id().expect("it runs"));
        for thread in std::fs::read_dir(threads).expect("it runs") {
            let children = std::fs::read_to_string(thread.expect("listed").path().join("children"));
            for pid in children.unwrap_or_default().split_whitespace() {
                kill_process(Pid::from_raw(pid.parse().expect("a number")).expect("not 0"), Signal::KILL)
                    .expect("ours");
                killed += 1;
            }
        }
        killed
    }
}

async fn patiently<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("in time")
}

/// One segment as the playlist told of it.
#[derive(Clone, Debug, Default)]
struct Told {
    init: String,
    discontinuity: bool,
    /// EXTINF, seconds.
    length: f64,
}

/// What a viewer has fetched so far.
#[derive(Default)]
struct Viewer {
    segments: BTreeMap<u64, Told>,
    files: BTreeMap<String, Vec<u8>>,
    ended: bool,
}

impl Viewer {
    /// Fetches the playlist and what is new in it.
    async fn look(&mut self, house: &House, folder: &str) {
        let answer = house.get(&format!("{folder}/index.m3u8")).await;
        if answer.status() == 404 {
            return;
        }
        let kind = ["content-type", "cache-control", "access-control-allow-origin"].map(|name| header(&answer, name));
        assert_eq!(kind, ["application/vnd.apple.mpegurl", "public, max-age=1", "*"]);
        let text = answer.text().await.expect("text");
        assert!(text.starts_with("#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:2\n"), "{text}");
        for (number, told) in read(&text) {
            for name in [told.init.clone(), format!("{number}.m4s")] {
                let Entry::Vacant(place) = self.files.entry(name) else { continue };
                let answer = house.get(&format!("{folder}/{}", place.key())).await;
                assert_eq!(answer.status(), 200, "{} is listed in {text}", place.key());
                let kind = ["content-type", "cache-control"].map(|name| header(&answer, name));
                assert_eq!(kind, ["video/mp4", "public, max-age=3600, immutable"]);
                place.insert(answer.bytes().await.expect("a body").to_vec());
            }
            self.segments.insert(number, told);
        }
        self.ended = text.ends_with("#EXT-X-ENDLIST\n");
    }

    /// Looks again and again until it has seen what it waits for.
    async fn look_until(&mut self, house: &House, folder: &str, seen: impl Fn(&Self) -> bool) {
        patiently(async {
            while !seen(self) {
                tokio::time::sleep(Duration::from_millis(200)).await;
                self.look(house, folder).await;
            }
        })
        .await;
    }

    /// Segments behind the first discontinuity after segment `number`; 0 if there is none.
    fn behind_a_break(&self, number: u64) -> usize {
        let later: Vec<_> = self.segments.range(number + 1..).map(|(_, told)| told.discontinuity).collect();
        later.iter().position(|discontinuity| *discontinuity).map_or(0, |at| later.len() - at)
    }

    /// Some segments as one file, in which they can be played.
    fn save(&self, folder: &Path, name: &str, segments: impl Iterator<Item = u64>) -> PathBuf {
        let path = folder.join(name);
        let mut bytes = Vec::new();
        for number in segments {
            if bytes.is_empty() {
                bytes.extend(&self.files[&self.segments[&number].init]);
            }
            bytes.extend(&self.files[&format!("{number}.m4s")]);
        }
        std::fs::write(&path, bytes).expect("written");
        path
    }
}

fn header(answer: &Response, name: &str) -> String {
    answer.headers().get(name).map(|value| value.to_str().expect("text").to_owned()).unwrap_or_default()
}

fn read(playlist: &str) -> Vec<(u64, Told)> {
    let (mut next, mut segments) = (Told::default(), Vec::new());
    for line in playlist.lines() {
        if let Some(init) = line.strip_prefix("#EXT-X-MAP:URI=") {
            next.init = init.trim_matches('"').to_owned();
        } else if let Some(length) = line.strip_prefix("#EXTINF:") {
            next.length = length.trim_end_matches(',').parse().expect("seconds");
        } else if let Some(number) = line.strip_suffix(".m4s") {
            segments.push((number.parse().expect("a number"), next.clone()));
            next.discontinuity = false;
        }
        next.discontinuity |= line == "#EXT-X-DISCONTINUITY";
    }
    segments
}

/// Times of all packets of the picture ("v") or the sound ("a"), seconds.
async fn times(path: &Path, kind: &str) -> Vec<f64> {
    let probe = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", kind, "-show_entries", "packet=pts_time", "-of", "csv=p=0"])
        .arg(path)
        .output();
    let probe = probe.await.expect("ffprobe");
    assert!(probe.stderr.is_empty(), "{}", String::from_utf8_lossy(&probe.stderr));
    let text = String::from_utf8(probe.stdout).expect("text");
    text.lines().map(|line| line.trim_end_matches(',').parse().expect("a time")).collect()
}

#[test]
fn a_player_goes_on_while_the_mixer_is_killed_and_is_told_the_end() {
    let _turn = turn();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(play_through());
}

async fn play_through() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut house = House::start(folder.path()).await;
    let programme = json!({"width": 640, "height": 360, "fps": 30, "video_kbps": 600});
    let asked = json!({"room": "demo", "title": "Tonight", "hls": true, "programme": programme});
    let stream = house.post("", &asked).await;
    let path = format!("/{}", stream["id"].as_str().expect("an id"));
    let url = stream["hls_url"].as_str().expect("a URL").to_owned();
    let hls = url.strip_suffix("/index.m3u8").expect("a playlist").to_owned();
    house.post(&format!("{path}/start"), &Value::Null).await;
    let mut viewer = Viewer::default();
    viewer.look_until(&house, &hls, |viewer| !viewer.segments.is_empty()).await;

    let played = folder.path().join("played.mkv");
    let player = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-live_start_index", "0", "-i", &format!("{}{url}", house.url)])
        .args(["-map", "0:v", "-map", "0:a", "-c", "copy"])
        .arg(&played)
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("ffmpeg");
    viewer.look_until(&house, &hls, |viewer| viewer.segments.len() >= 2).await;
    let before = viewer.segments.keys().copied().max().expect("some");
    assert_eq!(house.kill_mixers(), 1);
    viewer.look_until(&house, &hls, |viewer| viewer.behind_a_break(before) >= 2).await;
    house.post(&format!("{path}/stop"), &Value::Null).await;
    viewer.look_until(&house, &hls, |viewer| viewer.ended).await;
    let player = patiently(player.wait_with_output()).await.expect("ffmpeg ends with the playlist");
    assert!(player.status.success(), "{}", String::from_utf8_lossy(&player.stderr));

    assert!(viewer.segments.keys().copied().eq(0..viewer.segments.len() as u64), "{:?}", viewer.segments.keys());
    let (pictures, sounds) = check_segments(&viewer, folder.path()).await;
    // The player began at the first segment of the list and was there for the last. Each picture of those was given to it, and nothing twice.
    let got = times(&played, "v").await;
    assert!(got.windows(2).all(|pair| pair[0] < pair[1]), "a step back");
    assert!(got.len() <= pictures && got.len() + 60 >= pictures, "{} of {pictures} pictures", got.len());
    let heard = times(&played, "a").await.len();
    assert!(heard <= sounds && heard + 100 >= sounds, "{heard} of {sounds} sounds");
    house.process.kill().await.expect("it runs");
}

/// Holds each segment against what the playlist says of it; the number of all pictures and sounds.
async fn check_segments(viewer: &Viewer, folder: &Path) -> (usize, usize) {
    let all = viewer.save(folder, "all.mp4", viewer.segments.keys().copied());
    let decoded = Command::new("ffmpeg").args(["-v", "error", "-i"]).arg(&all).args(["-f", "null", "-"]).output();
    let decoded = decoded.await.expect("ffmpeg");
    assert!(decoded.status.success() && decoded.stderr.is_empty(), "{}", String::from_utf8_lossy(&decoded.stderr));

    let (mut pictures, mut sounds) = (0, 0);
    let mut end: Option<f64> = None;
    for (number, told) in &viewer.segments {
        let path = viewer.save(folder, &format!("{number}.mp4"), std::iter::once(*number));
        let (video, audio) = (times(&path, "v").await, times(&path, "a").await);
        (pictures, sounds) = (pictures + video.len(), sounds + audio.len());
        let begin = video[0];
        match end {
            Some(end) if told.discontinuity => assert!(begin > end, "{number} begins at {begin}, before {end}"),
            Some(end) => assert!((begin - end).abs() < 0.001, "{number} begins at {begin} and not at {end}"),
            None => assert!(begin.abs() < 0.001, "the first begins at {begin}"),
        }
        end = Some(begin + told.length);
        assert!(told.length < 2.5, "{number} is {} s long", told.length);
        // Sound begins with the picture; but for the last of a mixer there is as much of it.
        if told.length > 1.0 {
            assert!((audio[0] - begin).abs() < 0.25, "{number}: sound from {}, picture from {begin}", audio[0]);
        }
    }
    (pictures, sounds)
}
