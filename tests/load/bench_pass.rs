//! What a picture costs that goes out as it came, and by how much it is late: H.264 by WHIP to RTMP, all of it real.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use jamcast::proto::flv::Tag;
use jamcast::proto::flv::TagKind;
use jamcast::proto::h264::Depacketizer;
use jamcast::proto::rtmp::receiver::Event;
use jamcast::proto::rtmp::receiver::Output;
use jamcast::proto::rtmp::receiver::Receiver;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;

use crate::bench_canvas;
use crate::demo::say;
use crate::gateway::Gateway;
use crate::metronome::Voice;
use crate::metronome::ticking;
use crate::musician::track;
use crate::peer;
use crate::peer::OPUS;
use crate::peer::Peer;
use crate::peer::Picture;
use crate::peer::VIDEO;
use crate::rig::cpu_of;

const ROOM: &str = "bench";

const FPS: u32 = 30;
/// Pictures that are sent round and round: two keyframe intervals, so that nobody has to ask.
const PICTURES: u32 = 4 * FPS;
const SOUND_MS: u32 = 20;

/// The aim: CPU seconds of gateway and mixer for a minute.
const AIM: f64 = 1.7;

/// Plugins load, a picture must have fitted for a while, and the sound finds its place.
const WARM_UP: Duration = Duration::from_secs(12);

/// Pictures or sounds, each as the payloads of its packets.
pub(crate) type Media = Vec<Vec<Bytes>>;

/// When the last packet of a picture was sent, each time, by what the picture holds.
type Sent = Arc<Mutex<HashMap<Bytes, Vec<Instant>>>>;

/// When a picture arrived at the server, and what it holds.
type Received = Arc<Mutex<Vec<(Instant, Bytes)>>>;

/// What came of one run.
struct Outcome {
    /// CPU seconds for a minute.
    gateway: f64,
    mixer: f64,
    /// Pictures received, and those of them that were as they had been sent.
    pictures: usize,
    passed: usize,
    /// Milliseconds from a picture's last packet to its arrival at the server, sorted.
    delays: Vec<f64>,
}

/// Prints one row for a stream that passes its picture through, and one for the same stream without.
pub(crate) async fn run(program: &Path, seconds: u64) -> Result<()> {
    gst::init()?;
    let pictures = pictures()?;
    let sound = sound()?;
    say(
        "H.264 of 1280x720 at 30 fps, 2.5 Mbit/s, and Opus by WHIP; out by RTMP with AAC. CPU seconds for a minute (user + system), one run:",
    );
    say("passthrough   gateway   mixer   together   of the aim   pictures   passed   delay p50   p90   max (ms)");
    for wanted in ["auto", "off"] {
        let outcome = measure(program, seconds, wanted, &pictures, &sound).await?;
        let together = outcome.gateway + outcome.mixer;
        let delay = |share: f64| match outcome.delays.len() {
            0 => "-".to_owned(),
            count => format!("{:.1}", outcome.delays[((count - 1) as f64 * share) as usize]),
        };
        say(&format!(
            "{wanted:<11} {:>9.2} {:>7.2} {together:>10.2} {:>12.2} {:>10} {:>8} {:>11} {:>5} {:>5}",
            outcome.gateway,
            outcome.mixer,
            together / AIM,
            outcome.pictures,
            outcome.passed,
            delay(0.5),
            delay(0.9),
            delay(1.0),
        ));
    }
    Ok(())
}

async fn measure(program: &Path, seconds: u64, wanted: &str, pictures: &Media, sound: &Media) -> Result<Outcome> {
    let folder = tempfile::tempdir()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let settings = [("JAMCAST__PUBLISH__ALLOWED_HOSTS", "127.0.0.1")];
    let mut gateway = Gateway::start_with(program, folder.path(), &settings).await?;
    gateway.take_api_token(program, folder.path()).await?;
    gateway.make_room(ROOM).await?;
    let sent = Sent::default();
    let received = Received::default();
    let mut tasks = JoinSet::new();
    tasks.spawn(receive(listener, Arc::clone(&received)));
    let token = gateway.token_for(ROOM, "Clara", "musician").await?;
    let peer = publish(&gateway.url, &token, pictures, sound, &sent, &mut tasks).await?;
    let destination = json!({
        "name": "bench", "platform": "custom", "url": format!("rtmp://127.0.0.1:{port}/live"), "key": "bench"
    });
    let destination = gateway.post("/api/v1/destinations", &destination).await?;
    let stream = json!({
        "room": ROOM, "title": "Bench", "destinations": [destination["id"]], "programme": { "passthrough": wanted }
    });
    let stream = gateway.post("/api/v1/streams", &stream).await?;
    let path = format!("/api/v1/streams/{}", stream["id"].as_str().context("the stream has no id")?);
    gateway.post(&format!("{path}/start"), &json!(null)).await?;
    tokio::time::sleep(WARM_UP).await;
    let [gateway_pid, mixer_pid] = [gateway.pid()?, gateway.mixer()?];
    let before = (Instant::now(), cpu_of(gateway_pid)?, cpu_of(mixer_pid)?);
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let after = (Instant::now(), cpu_of(gateway_pid)?, cpu_of(mixer_pid)?);
    gateway.post(&format!("{path}/stop"), &json!(null)).await?;
    tasks.abort_all();
    peer.close().await?;
    gateway.stop().await?;
    let minute = 60.0 / (after.0 - before.0).as_secs_f64();
    let received = received.lock().expect("nothing panics").clone();
    let in_time: Vec<_> = received.into_iter().filter(|(at, _)| (before.0..after.0).contains(at)).collect();
    let mut delays: Vec<f64> = in_time.iter().filter_map(|(at, data)| delay_of(&sent, *at, data)).collect();
    delays.sort_by(f64::total_cmp);
    ensure!(!in_time.is_empty(), "nothing was received");
    Ok(Outcome {
        gateway: (after.1 - before.1) * minute,
        mixer: (after.2 - before.2) * minute,
        pictures: in_time.len(),
        passed: delays.len(),
        delays,
    })
}

/// From the last sending of a picture before it arrived, milliseconds; `None` for one that was never sent.
fn delay_of(sent: &Sent, arrived: Instant, picture: &Bytes) -> Option<f64> {
    let sent = sent.lock().expect("nothing panics");
    let at = sent.get(picture)?.iter().rfind(|at| **at <= arrived)?;
    Some((arrived - *at).as_secs_f64() * 1000.0)
}

/// Joins and sends round and round at the speed of life, until the tasks are aborted.
async fn publish(
    url: &str,
    token: &str,
    pictures: &Media,
    sound: &Media,
    sent: &Sent,
    tasks: &mut JoinSet<()>,
) -> Result<Peer> {
    let mut peer = Peer::new(Picture::H264, token).await?;
    let audio = track(RtpCodecKind::Audio, peer::opus());
    let video = track(RtpCodecKind::Video, peer::picture(Picture::H264));
    for local in [&audio, &video] {
        peer.connection.add_track(Arc::clone(local) as Arc<dyn TrackLocal>).await?;
    }
    peer.connect(url, &format!("/whip/{ROOM}")).await?;
    tasks.spawn(play_sound(audio, sound.clone()));
    tasks.spawn(play_pictures(video, pictures.clone(), Arc::clone(sent)));
    Ok(peer)
}

async fn play_sound(track: Arc<TrackLocalStaticRTP>, sound: Media) {
    let mut voice = Voice::new(&track, OPUS).await;
    let mut clock = ticking(Duration::from_millis(u64::from(SOUND_MS)));
    for payload in sound.iter().flatten().cycle() {
        clock.tick().await;
        voice.send(false, payload.clone()).await;
        voice.timestamp = voice.timestamp.wrapping_add(48 * SOUND_MS);
    }
}

async fn play_pictures(track: Arc<TrackLocalStaticRTP>, pictures: Media, sent: Sent) {
    let mut units = Depacketizer::default();
    let contents: Vec<Bytes> = (0..)
        .zip(&pictures)
        .flat_map(|(n, packets)| {
            let last = packets.len() - 1;
            let mut whole = Vec::new();
            for (index, payload) in packets.iter().enumerate() {
                whole.extend(units.push(payload, n, index == last, ()));
            }
            whole.into_iter().map(|unit| unit.data)
        })
        .collect();
    let mut voice = Voice::new(&track, VIDEO).await;
    let mut clock = ticking(Duration::from_secs(1) / FPS);
    for (packets, content) in pictures.iter().zip(&contents).cycle() {
        clock.tick().await;
        for (index, payload) in packets.iter().enumerate() {
            voice.send(index + 1 == packets.len(), payload.clone()).await;
        }
        sent.lock().expect("nothing panics").entry(content.clone()).or_default().push(Instant::now());
        voice.timestamp = voice.timestamp.wrapping_add(90_000 / FPS);
    }
}

/// A server that takes one publisher and notes each of its pictures.
async fn receive(listener: TcpListener, received: Received) {
    let Ok((mut stream, _)) = listener.accept().await else { return };
    let mut receiver = Receiver::new("live".to_owned(), 4 << 20);
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        let now = Instant::now();
        if receiver.handle(&buffer[..length]).is_err() {
            return;
        }
        while let Some(output) = receiver.poll_output() {
            match output {
                Output::Send(bytes) => {
                    if stream.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Output::Event(Event::Publish { .. }) => receiver.accept(),
                // Frame type and codec, kind of packet, composition time; then the picture.
                Output::Event(Event::Tag(Tag { kind: TagKind::Video, body, .. })) if body.get(1) == Some(&1) => {
                    received.lock().expect("nothing panics").push((now, picture_of(body.slice(5..))));
                }
                Output::Event(Event::Tag(_)) => {}
                Output::Event(Event::Finished) => return,
            }
        }
    }
}

/// A picture without the parameter sets that may stand before it.
fn picture_of(mut data: Bytes) -> Bytes {
    while let [a, b, c, d, head, ..] = data[..]
        && matches!(head & 0x1f, 7 | 8)
    {
        data = data.slice((4 + u32::from_be_bytes([a, b, c, d]) as usize).min(data.len())..);
    }
    data
}

fn pictures() -> Result<Media> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("motif.yuv");
    bench_canvas::motif(&file)?;
    let media = encode(&format!(
        "filesrc location=\"{}\" ! rawvideoparse format=i420 width=1280 height=720 framerate={FPS}/1 ! \
         x264enc tune=zerolatency speed-preset=superfast pass=cbr bitrate=2500 vbv-buf-capacity=1000 key-int-max={} ! \
         video/x-h264,profile=constrained-baseline ! rtph264pay mtu=1200 config-interval=-1",
        file.display(),
        2 * FPS,
    ))?;
    ensure!(media.len() == PICTURES as usize, "{} pictures", media.len());
    Ok(media)
}

fn sound() -> Result<Media> {
    encode(
        "audiotestsrc wave=pink-noise volume=0.1 num-buffers=200 samplesperbuffer=960 ! audio/x-raw,rate=48000,channels=2 ! \
         audioconvert ! opusenc bitrate=128000 ! rtpopuspay",
    )
}

/// Payloads, grouped by the RTP time of their packets.
pub(crate) fn encode(description: &str) -> Result<Media> {
    let pipeline = gst::parse::launch(&format!("{description} ! appsink name=out sync=false"))?;
    let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| anyhow::anyhow!("not a pipeline"))?;
    let sink: AppSink = pipeline.by_name("out").and_then(|e| e.downcast().ok()).context("the sink is named above")?;
    pipeline.set_state(gst::State::Playing)?;
    let mut media: Media = Vec::new();
    let mut newest = None;
    while let Ok(sample) = sink.pull_sample() {
        let packet = Bytes::copy_from_slice(&sample.buffer().context("a packet")?.map_readable()?);
        if newest.replace(packet.slice(4..8)) != Some(packet.slice(4..8)) {
            media.push(Vec::new());
        }
        media.last_mut().context("a group")?.push(packet.slice(12..));
    }
    pipeline.set_state(gst::State::Null)?;
    Ok(media)
}
