//! What a picture costs that goes out as it came, and by how much it is late: H.264 by WHIP to RTMP, all of it real.
//!
//! Beside it stands ffmpeg, which does with plain RTP as little as can be done: it takes the packets, makes Opus AAC and publishes.

mod ffmpeg;
mod ingest;
pub(crate) mod media;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use gstreamer as gst;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;
use webrtc::media_stream::track_local::TrackLocal;

use crate::bench_pass::ffmpeg::Ffmpeg;
use crate::bench_pass::ingest::Received;
use crate::bench_pass::ingest::receive;
use crate::bench_pass::media::Media;
use crate::bench_pass::media::Sent;
use crate::bench_pass::media::pictures;
use crate::bench_pass::media::play_pictures;
use crate::bench_pass::media::play_sound;
use crate::bench_pass::media::sound;
use crate::demo::say;
use crate::gateway::Gateway;
use crate::metronome::Voice;
use crate::musician::track;
use crate::peer;
use crate::peer::OPUS;
use crate::peer::Peer;
use crate::peer::Picture;
use crate::peer::VIDEO;
use crate::rig::cpu_of;

const ROOM: &str = "bench";

/// The aim: CPU seconds of gateway and mixer for a minute.
const AIM: f64 = 1.7;

/// Plugins load, a picture must have fitted for a while, and the sound finds its place.
const WARM_UP: Duration = Duration::from_secs(12);

/// What everybody is to pass on.
struct Programme {
    pictures: Media,
    sound: Media,
}

/// What came of one run.
struct Outcome {
    /// CPU seconds for a minute, of each process.
    cpu: Vec<f64>,
    /// Pictures received, and those of them that were as they had been sent.
    pictures: usize,
    passed: usize,
    /// Milliseconds from a picture's last packet to its arrival at the server, sorted.
    delays: Vec<f64>,
}

/// Prints one row for ffmpeg, one for a stream that passes its picture through, and one for the same stream without.
pub(crate) async fn run(program: &Path, seconds: u64) -> Result<()> {
    gst::init()?;
    let programme = Programme { pictures: pictures()?, sound: sound()? };
    say(
        "H.264 of 1280x720 at 30 fps, 2.5 Mbit/s, and Opus by WHIP; out by RTMP with AAC. CPU seconds for a minute (user + system), one run:",
    );
    say("ffmpeg does it with plain RTP: no ICE, DTLS, SRTP, lip-sync, limiter or meters, and all in one process.");
    say(
        "passthrough   gateway   mixer   together   over ffmpeg   of the aim   pictures   passed   delay p50   p90   max (ms)",
    );
    let floor = measure_ffmpeg(seconds, &programme).await?;
    let least = floor.together();
    say(&floor.row("ffmpeg", least));
    for wanted in ["auto", "off"] {
        say(&measure(program, seconds, wanted, &programme).await?.row(wanted, least));
    }
    Ok(())
}

impl Outcome {
    fn together(&self) -> f64 {
        self.cpu.iter().sum()
    }

    fn row(&self, name: &str, least: f64) -> String {
        let [gateway, mixer] = match self.cpu[..] {
            [gateway, mixer] => [gateway, mixer].map(|cpu| format!("{cpu:.2}")),
            _ => ["-".to_owned(), "-".to_owned()],
        };
        let delay = |share: f64| match self.delays.len() {
            0 => "-".to_owned(),
            count => format!("{:.1}", self.delays[((count - 1) as f64 * share) as usize]),
        };
        let together = self.together();
        format!(
            "{name:<11} {gateway:>9} {mixer:>7} {together:>10.2} {:>13.2} {:>12.2} {:>10} {:>8} {:>11} {:>5} {:>5}",
            together / least,
            together / AIM,
            self.pictures,
            self.passed,
            delay(0.5),
            delay(0.9),
            delay(1.0),
        )
    }
}

async fn measure_ffmpeg(seconds: u64, programme: &Programme) -> Result<Outcome> {
    let folder = tempfile::tempdir()?;
    let listener = TcpListener::bind(peer::LOOPBACK).await?;
    let ffmpeg = Ffmpeg::start(folder.path(), &ingest::url(&listener)?)?;
    let (sent, received) = (Sent::default(), Received::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(receive(listener, Arc::clone(&received)));
    let [sound, pictures] = ffmpeg.lines().await?;
    let (packets, noted) = (programme.sound.clone(), Arc::clone(&sent));
    tasks.spawn(async move { play_sound(Voice::on(&sound, 1, OPUS), packets).await });
    let packets = programme.pictures.clone();
    tasks.spawn(async move { play_pictures(Voice::on(&pictures, 2, VIDEO), packets, noted).await });
    tokio::time::sleep(WARM_UP).await;
    observe(&[ffmpeg.pid()?], seconds, &sent, &received).await
}

async fn measure(program: &Path, seconds: u64, wanted: &str, programme: &Programme) -> Result<Outcome> {
    let folder = tempfile::tempdir()?;
    let listener = TcpListener::bind(peer::LOOPBACK).await?;
    let url = ingest::url(&listener)?;
    let settings = [("JAMCAST__PUBLISH__ALLOWED_HOSTS", "127.0.0.1")];
    let mut gateway = Gateway::start_with(program, folder.path(), &settings).await?;
    gateway.take_api_token(program, folder.path()).await?;
    gateway.make_room(ROOM).await?;
    let (sent, received) = (Sent::default(), Received::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(receive(listener, Arc::clone(&received)));
    let token = gateway.token_for(ROOM, "Clara", "musician").await?;
    let peer = publish(&gateway.url, &token, programme, &sent, &mut tasks).await?;
    let destination = json!({ "name": "bench", "platform": "custom", "url": url, "key": ingest::KEY });
    let destination = gateway.post("/api/v1/destinations", &destination).await?;
    let stream = json!({
        "room": ROOM, "title": "Bench", "destinations": [destination["id"]], "programme": { "passthrough": wanted }
    });
    let stream = gateway.post("/api/v1/streams", &stream).await?;
    let path = format!("/api/v1/streams/{}", stream["id"].as_str().context("the stream has no id")?);
    gateway.post(&format!("{path}/start"), &json!(null)).await?;
    tokio::time::sleep(WARM_UP).await;
    let outcome = observe(&[gateway.pid()?, gateway.mixer()?], seconds, &sent, &received).await?;
    gateway.post(&format!("{path}/stop"), &json!(null)).await?;
    tasks.abort_all();
    peer.close().await?;
    gateway.stop().await?;
    Ok(outcome)
}

/// What these processes take while they pass on what is sent.
async fn observe(pids: &[u32], seconds: u64, sent: &Sent, received: &Received) -> Result<Outcome> {
    let used = || pids.iter().map(|pid| cpu_of(*pid)).collect::<Result<Vec<_>>>();
    let before = (Instant::now(), used()?);
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let after = (Instant::now(), used()?);
    let minute = 60.0 / (after.0 - before.0).as_secs_f64();
    let received = received.lock().expect("nothing panics").clone();
    let in_time: Vec<_> = received.into_iter().filter(|arrival| (before.0..after.0).contains(&arrival.at)).collect();
    let mut delays: Vec<f64> =
        in_time.iter().filter_map(|arrival| media::delay_of(sent, arrival.at, &arrival.picture)).collect();
    delays.sort_by(f64::total_cmp);
    ensure!(!in_time.is_empty(), "nothing was received");
    Ok(Outcome {
        cpu: before.1.iter().zip(after.1).map(|(before, after)| (after - before) * minute).collect(),
        pictures: in_time.len(),
        passed: delays.len(),
        delays,
    })
}

/// Joins and sends round and round at the speed of life, until the tasks are aborted.
async fn publish(url: &str, token: &str, programme: &Programme, sent: &Sent, tasks: &mut JoinSet<()>) -> Result<Peer> {
    let mut peer = Peer::new(Picture::H264, token).await?;
    let audio = track(RtpCodecKind::Audio, peer::opus());
    let video = track(RtpCodecKind::Video, peer::picture(Picture::H264));
    for local in [&audio, &video] {
        peer.connection.add_track(Arc::clone(local) as Arc<dyn TrackLocal>).await?;
    }
    peer.connect(url, &format!("/whip/{ROOM}")).await?;
    let (packets, noted) = (programme.sound.clone(), Arc::clone(sent));
    tasks.spawn(async move { play_sound(Voice::new(&audio, OPUS).await, packets).await });
    let packets = programme.pictures.clone();
    tasks.spawn(async move { play_pictures(Voice::new(&video, VIDEO).await, packets, noted).await });
    Ok(peer)
}
