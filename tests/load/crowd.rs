//! Full rooms on one gateway: whether every packet that is due arrives, and what that takes of the processor.
//!
//! Each participant is two peers, as a musician with OBS and a player would be: one sends by WHIP, one receives by WHEP. All send audio;
//! the first of each room send video as well.

mod ears;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use bytes::Bytes;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::runtime::TokioRuntime;

use crate::crowd::ears::Ears;
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
use crate::sockets::With;

/// Opus in 20 ms frames at 160 kbit/s: 50 packets a second.
const AUDIO: Flow = Flow { every: Duration::from_millis(20), packets: 1, bytes: 400, clock_rate: 48_000 };
/// A camera of 640x360 at 30 fps and 600 kbit/s: 90 packets a second.
const CAMERA: Flow = Flow { every: Duration::from_micros(33_333), packets: 3, bytes: 840, clock_rate: 90_000 };

/// Streams that the gateway sends over one WHEP connection.
const M_LINES: usize = 64;
/// Voices that go out to everybody; these do not say how loud they are, so those who came first have the places.
const VOICES: usize = 16;

/// Before anything counts: keyframes are asked for and caches fill.
const WARM_UP: Duration = Duration::from_secs(2);
/// After the last packet, for what is on its way, and for the gateway's counters, which it publishes each second.
const DRAIN: Duration = Duration::from_millis(2500);

/// What a run does.
#[derive(clap::Args)]
pub(crate) struct Plan {
    /// The `jamcast` binary: starts a gateway with one media worker and limits that are wide enough.
    #[arg(long, required_unless_present = "url", conflicts_with = "url")]
    gateway: Option<PathBuf>,
    /// A gateway that runs, such as http://127.0.0.1:8080. Its rtc.max_participants, rtc.max_tracks and http.limits.read_max bound
    /// what can be tried, and its rooms crowd-1, crowd-2 ... are made and used.
    #[arg(long, requires = "token")]
    url: Option<String>,
    /// A token for its API, of somebody who may create rooms.
    #[arg(long, env = "JAMCAST_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Where that gateway serves its metrics; /metrics of its URL unless told.
    #[arg(long, requires = "url")]
    metrics: Option<String>,
    /// Rooms, participants of each, and how many of these have a camera.
    #[arg(long, value_delimiter = ',', default_values_t = [Shape { rooms: 1, participants: 50, cameras: 3 }, Shape { rooms: 20, participants: 6, cameras: 6 }])]
    crowds: Vec<Shape>,
    /// How long each crowd plays.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

/// How many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    rooms: usize,
    participants: usize,
    cameras: usize,
}

impl Shape {
    /// Voices and cameras that each one asks for: as many as the others send, and no more than fit. They are the oldest ones, since
    /// WHEP cannot leave out one's own.
    fn asked(self) -> (usize, usize) {
        let others = self.participants - 1;
        let cameras = self.cameras.min(others).min(M_LINES);
        (others.min(M_LINES - cameras), cameras)
    }

    /// And of how many it receives anything.
    fn received(self) -> (usize, usize) {
        let (voices, cameras) = self.asked();
        (voices.min(VOICES), cameras)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.rooms, self.participants, self.cameras)
    }
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Result<Vec<usize>, _> = text.split('x').map(str::parse).collect();
        match numbers.as_deref() {
            Ok(&[rooms, participants, cameras]) if rooms > 0 && participants > 1 && cameras <= participants => {
                Ok(Self { rooms, participants, cameras })
            }
            _ => Err("rooms x participants (two or more) x cameras (no more than participants), such as 20x6x6".into()),
        }
    }
}

/// A picture or a piece of sound every so often.
#[derive(Clone, Copy, Debug)]
struct Flow {
    every: Duration,
    packets: u64,
    bytes: usize,
    clock_rate: u32,
}

/// Prints what each crowd took; `Ok(true)` if nothing was lost.
pub(crate) async fn run(plan: Plan) -> Result<bool> {
    let folder = tempfile::tempdir()?;
    let mut site = Site::find(&plan, folder.path()).await?;
    say(
        "All send Opus in 20 ms frames at 160 kbit/s, cameras 30 fps at 600 kbit/s in 3 packets a frame; CPU of one core:\n",
    );
    say(
        "| rooms x participants x cameras | packets/s due | due | arrived | dropped by the gateway | by full buffers | gateway's CPU | its worker's | us/packet | delay p50 ms | p99 ms | generator's CPU |",
    );
    say("|---|---|---|---|---|---|---|---|---|---|---|---|");
    let mut holds = true;
    for shape in &plan.crowds {
        let crowd = Crowd::gather(&site, *shape).await?;
        let outcome = crowd.play(&site, Duration::from_secs(plan.seconds)).await?;
        crowd.disperse().await?;
        say(&outcome.to_string());
        holds &= outcome.holds();
    }
    if plan.gateway.is_some() {
        site.gateway.stop().await?;
    }
    say(if holds { "\nEvery packet arrived." } else { "\nPackets were lost." });
    Ok(holds)
}

/// The gateway and where its metrics are.
struct Site {
    gateway: Gateway,
    metrics: String,
    http: reqwest::Client,
}

impl Site {
    async fn find(plan: &Plan, folder: &std::path::Path) -> Result<Self> {
        let http = reqwest::Client::new();
        if let (Some(url), Some(token)) = (&plan.url, &plan.token) {
            let url = url.trim_end_matches('/');
            let metrics = plan.metrics.clone().unwrap_or_else(|| format!("{url}/metrics"));
            return Ok(Self { gateway: Gateway::running(url, token), metrics, http });
        }
        let program = plan.gateway.as_deref().context("--gateway or --url")?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let listen = format!("127.0.0.1:{port}");
        let settings = [
            ("JAMCAST__HTTP__METRICS_LISTEN", listen.as_str()),
            ("JAMCAST__HTTP__LIMITS__READ_MAX", "100000"),
            ("JAMCAST__RTC__WORKERS", "1"),
            ("JAMCAST__RTC__MAX_PARTICIPANTS", "256"),
            ("JAMCAST__RTC__MAX_TRACKS", "128"),
            ("JAMCAST__RTC__MAX_VOICES", "16"),
        ];
        let mut gateway = Gateway::start_with(program, folder, &settings).await?;
        gateway.take_api_token(program, folder).await?;
        Ok(Self { gateway, metrics: format!("http://{listen}/metrics"), http })
    }

    async fn metrics(&self) -> Result<String> {
        let answer = self.http.get(&self.metrics).send().await.with_context(|| self.metrics.clone())?;
        Ok(answer.error_for_status()?.text().await?)
    }

    /// CPU seconds of the whole gateway. Its metrics have full seconds only, so one that was started here is asked of the kernel.
    fn cpu(&self, metrics: &str) -> Result<f64> {
        match self.gateway.pid() {
            Ok(pid) => cpu_of(pid),
            Err(_) => Ok(metric(metrics, "process_cpu_seconds_total")),
        }
    }

    /// The address of this machine on the way to the gateway.
    fn own_address(&self) -> Result<String> {
        let rest = self.gateway.url.split_once("://").map_or(self.gateway.url.as_str(), |(_, rest)| rest);
        let host = rest.split('/').next().unwrap_or(rest);
        let target = if host.contains(':') { host.to_owned() } else { format!("{host}:443") };
        let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(&target).with_context(|| format!("there is no way to {target} over IPv4"))?;
        Ok(format!("{}:0", socket.local_addr()?.ip()))
    }
}

/// The sum of a metric over its labels.
fn metric(text: &str, name: &str) -> f64 {
    let is_it = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    text.lines().filter(is_it).filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// The largest of it over the workers.
fn slowest(text: &str, quantile: &str) -> f64 {
    let lines =
        text.lines().filter(|line| line.starts_with("jamcast_forwarding_delay_seconds{") && line.contains(quantile));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).fold(0.0, f64::max)
}

/// Somebody who sends.
struct Musician {
    peer: Peer,
    /// Packets of audio, and of video.
    sent: [Arc<AtomicU64>; 2],
    _playing: JoinSet<()>,
}

struct Crowd {
    shape: Shape,
    rooms: Vec<Vec<Musician>>,
    listeners: Vec<Peer>,
    ears: Ears,
    baton: watch::Sender<bool>,
}

impl Crowd {
    async fn gather(site: &Site, shape: Shape) -> Result<Self> {
        let (baton, obeyed) = watch::channel(false);
        let mut crowd = Self { shape, rooms: Vec::new(), listeners: Vec::new(), ears: Ears::default(), baton };
        let address = site.own_address()?;
        for number in 0..shape.rooms {
            let room = format!("crowd-{}", number + 1);
            site.gateway.make_room(&room).await?;
            let token = site.gateway.token_for(&room, "Crowd", "musician").await?;
            let mut musicians = Vec::new();
            for musician in 0..shape.participants {
                let has_camera = musician < shape.cameras;
                let mut peer = Peer::at(Arc::new(TokioRuntime), &address, Picture::Vp8, &token).await?;
                let audio = track(RtpCodecKind::Audio, peer::opus());
                peer.connection.add_track(Arc::clone(&audio) as Arc<dyn TrackLocal>).await?;
                let video = track(RtpCodecKind::Video, peer::picture(Picture::Vp8));
                if has_camera {
                    peer.connection.add_track(Arc::clone(&video) as Arc<dyn TrackLocal>).await?;
                }
                peer.connect(&site.gateway.url, &format!("/whip/{room}")).await?;
                let sent = [Arc::default(), Arc::default()];
                let mut playing = JoinSet::new();
                // Not everybody's encoder is in step.
                let head_start = Duration::from_micros((number * 1_009 + musician * 7_919) as u64 % 20_000);
                playing.spawn(perform(audio, OPUS, AUDIO, head_start, Arc::clone(&sent[0]), obeyed.clone()));
                if has_camera {
                    playing.spawn(perform(video, VIDEO, CAMERA, head_start, Arc::clone(&sent[1]), obeyed.clone()));
                }
                musicians.push(Musician { peer, sent, _playing: playing });
            }
            let token = site.gateway.token_for(&room, "Ears", "viewer").await?;
            let (voices, cameras) = shape.asked();
            for _ in 0..shape.participants {
                let mut peer = Peer::at(Arc::new(With(crowd.ears.clone())), &address, Picture::Vp8, &token).await?;
                for (kind, count) in [(RtpCodecKind::Audio, voices), (RtpCodecKind::Video, cameras)] {
                    for _ in 0..count {
                        peer.receive(kind).await?;
                    }
                }
                peer.connect(&site.gateway.url, &format!("/whep/{room}")).await?;
                crowd.listeners.push(peer);
            }
            crowd.rooms.push(musicians);
        }
        Ok(crowd)
    }

    /// Packets that should have come to all listeners by now.
    fn due(&self) -> u64 {
        let (voices, cameras) = self.shape.received();
        let sent = |musicians: &[Musician], kind: usize| -> u64 {
            musicians.iter().map(|musician| musician.sent[kind].load(Ordering::Relaxed)).sum()
        };
        let each = self.rooms.iter().map(|room| sent(&room[..voices], 0) + sent(&room[..cameras], 1));
        each.sum::<u64>() * self.shape.participants as u64
    }

    async fn play(&self, site: &Site, time: Duration) -> Result<Outcome> {
        self.baton.send_replace(true);
        tokio::time::sleep(WARM_UP).await;
        self.baton.send_replace(false);
        tokio::time::sleep(DRAIN).await;
        let (due, arrived, buffers, before) = (self.due(), self.ears.heard(), full_buffers(), site.metrics().await?);

        self.baton.send_replace(true);
        tokio::time::sleep(WARM_UP).await;
        let (first, already) = (site.metrics().await?, self.ears.heard());
        let (began, own, gateway) = (Instant::now(), cpu_of(std::process::id())?, site.cpu(&first)?);
        tokio::time::sleep(time).await;
        let last = site.metrics().await?;
        let elapsed = began.elapsed().as_secs_f64();
        let (own, gateway) = (cpu_of(std::process::id())? - own, site.cpu(&last)? - gateway);
        let rate = (self.ears.heard() - already) as f64 / elapsed;
        self.baton.send_replace(false);
        tokio::time::sleep(DRAIN).await;
        let after = site.metrics().await?;

        let worker = metric(&last, "jamcast_worker_cpu_seconds") - metric(&first, "jamcast_worker_cpu_seconds");
        let dropped = "jamcast_udp_dropped_datagrams_total";
        Ok(Outcome {
            shape: self.shape,
            rate,
            due: self.due() - due,
            arrived: self.ears.heard() - arrived,
            dropped: metric(&after, dropped) - metric(&before, dropped),
            buffers: full_buffers() - buffers,
            gateway_cpu: gateway / elapsed,
            worker_cpu: worker / elapsed,
            delay_ms: [slowest(&last, "\"0.5\"") * 1e3, slowest(&last, "\"0.99\"") * 1e3],
            generator_cpu: own / elapsed,
        })
    }

    async fn disperse(self) -> Result<()> {
        let musicians = self.rooms.into_iter().flatten().map(|musician| musician.peer);
        for peer in musicians.chain(self.listeners) {
            peer.close().await?;
        }
        Ok(())
    }
}

/// Sends one track whenever the baton is up.
async fn perform(
    track: Arc<TrackLocalStaticRTP>,
    payload_type: u8,
    flow: Flow,
    head_start: Duration,
    sent: Arc<AtomicU64>,
    mut baton: watch::Receiver<bool>,
) {
    let mut voice = Voice::new(&track, payload_type).await;
    // RFC 7741 section 4.2: 0x10 begins a partition; the next byte's lowest bit is 0 in a keyframe (RFC 6386 section 9.1).
    let [key, delta, rest] = [[0x10, 0x10], [0x10, 0x11], [0x00, 0x00]].map(|start| {
        let mut bytes = start.to_vec();
        bytes.resize(flow.bytes, 0x55);
        Bytes::from(bytes)
    });
    let mut number = 0_u64;
    while baton.wait_for(|is_up| *is_up).await.is_ok() {
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + head_start, flow.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        loop {
            ticks.tick().await;
            if !*baton.borrow() {
                break;
            }
            for packet in 0..flow.packets {
                // A keyframe a second: nobody has to ask for one.
                let payload = match packet {
                    0 if number.is_multiple_of(30) => &key,
                    0 => &delta,
                    _ => &rest,
                };
                voice.send(packet + 1 == flow.packets, payload.clone()).await;
                sent.fetch_add(1, Ordering::Relaxed);
            }
            number += 1;
            voice.timestamp =
                voice.timestamp.wrapping_add((flow.every.as_secs_f64() * f64::from(flow.clock_rate)).round() as u32);
        }
    }
}

/// Datagrams that sockets of this machine had no room for.
fn full_buffers() -> u64 {
    let text = std::fs::read_to_string("/proc/self/net/snmp").unwrap_or_default();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return 0 };
    let mut both = names.split(' ').zip(values.split(' '));
    both.find(|(name, _)| *name == "RcvbufErrors").and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
}

/// A row of the table.
struct Outcome {
    shape: Shape,
    rate: f64,
    due: u64,
    arrived: u64,
    dropped: f64,
    buffers: u64,
    gateway_cpu: f64,
    worker_cpu: f64,
    delay_ms: [f64; 2],
    generator_cpu: f64,
}

impl Outcome {
    fn holds(&self) -> bool {
        self.due > 0 && self.arrived == self.due && self.dropped == 0.0
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "| {} | {:.0} | {} | {} | {:.0} | {} | {:.0} % | {:.0} % | {:.1} | {:.2} | {:.2} | {:.0} % |",
            self.shape,
            self.rate,
            self.due,
            self.arrived,
            self.dropped,
            self.buffers,
            self.gateway_cpu * 100.0,
            self.worker_cpu * 100.0,
            self.gateway_cpu * 1e6 / self.rate.max(1.0),
            self.delay_ms[0],
            self.delay_ms[1],
            self.generator_cpu * 100.0,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_read_as_it_is_written() {
        let shape = Shape { rooms: 20, participants: 6, cameras: 6 };
        assert_eq!(shape.to_string().parse(), Ok(shape));
        assert_eq!(shape.received(), (5, 5));
        let full = Shape { rooms: 1, participants: 50, cameras: 3 };
        assert_eq!((full.asked(), full.received()), ((49, 3), (16, 3)));
        for wrong in ["", "1x50", "0x6x6", "1x1x0", "1x4x5", "1x4x-1", "1x2x2x2"] {
            assert!(wrong.parse::<Shape>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn metrics_are_summed_over_their_workers_and_the_slowest_counts() {
        let text = "# TYPE jamcast_worker_cpu_seconds gauge\n\
             jamcast_worker_cpu_seconds{worker=\"0\"} 1.5\njamcast_worker_cpu_seconds{worker=\"1\"} 2\n\
             jamcast_worker_cpu_seconds_more 9\nprocess_cpu_seconds_total 12.25\n\
             jamcast_forwarding_delay_seconds{worker=\"0\",quantile=\"0.5\"} 0.0001\n\
             jamcast_forwarding_delay_seconds{worker=\"1\",quantile=\"0.5\"} 0.0003\n\
             jamcast_forwarding_delay_seconds{worker=\"1\",quantile=\"0.99\"} 0.002\n";
        assert_eq!(metric(text, "jamcast_worker_cpu_seconds"), 3.5);
        assert_eq!(metric(text, "process_cpu_seconds_total"), 12.25);
        assert_eq!((slowest(text, "\"0.5\""), slowest(text, "\"0.99\"")), (0.0003, 0.002));
    }

    #[test]
    fn it_holds_only_if_all_that_was_due_arrived() {
        let outcome = |due, arrived, dropped| Outcome {
            shape: Shape { rooms: 1, participants: 2, cameras: 0 },
            rate: 100.0,
            due,
            arrived,
            dropped,
            buffers: 0,
            gateway_cpu: 0.1,
            worker_cpu: 0.1,
            delay_ms: [0.1, 0.2],
            generator_cpu: 0.1,
        };
        assert!(outcome(1000, 1000, 0.0).holds());
        assert!(!outcome(1000, 999, 0.0).holds());
        assert!(!outcome(1000, 1000, 1.0).holds());
        assert!(!outcome(0, 0, 0.0).holds(), "nothing was tried");
    }
}
