//! CPU and memory of the SFU: one musician, and more and more listeners over WHEP.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use rtc::rtp_transceiver::RTCRtpTransceiverDirection;
use rtc::rtp_transceiver::RTCRtpTransceiverInit;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use tokio::task::JoinSet;
use webrtc::media_stream::track_remote::TrackRemoteEvent;

use crate::bench_mixer::cpu_of;
use crate::demo::say;
use crate::gateway::Gateway;
use crate::gateway::ROOM;
use crate::musician::Musician;
use crate::musician::Part;
use crate::peer::Peer;
use crate::peer::Picture;

/// Long enough that the kernel's ticks of 10 ms are under a hundredth of what is measured.
const MEASURED: Duration = Duration::from_secs(10);

/// A listener that receives and throws away.
struct Listener {
    _peer: Peer,
    _listening: JoinSet<()>,
}

impl Listener {
    async fn join(gateway: &Gateway, received: &Arc<AtomicU64>) -> Result<Self> {
        let token = gateway.room_token("Listener", "viewer").await?;
        let mut peer = Peer::new(Picture::Vp8, &token).await?;
        for kind in [RtpCodecKind::Audio, RtpCodecKind::Video] {
            let init = RTCRtpTransceiverInit {
                direction: RTCRtpTransceiverDirection::Recvonly,
                streams: Vec::new(),
                send_encodings: Vec::new(),
            };
            peer.connection.add_transceiver_from_kind(kind, Some(init)).await?;
        }
        peer.connect(&gateway.url, &format!("/whep/{ROOM}")).await?;
        let mut listening = JoinSet::new();
        for _ in 0..2 {
            let track =
                tokio::time::timeout(Duration::from_secs(10), peer.tracks.recv()).await.context("no track came")?;
            let track = track.context("the peer closed")?;
            let received = Arc::clone(received);
            listening.spawn(async move {
                while let Some(event) = track.poll().await {
                    if let TrackRemoteEvent::OnRtpPacket(_) = event {
                        received.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        Ok(Self { _peer: peer, _listening: listening })
    }
}

/// Prints one row for each number of listeners.
pub(crate) async fn run(program: &Path, steps: &[usize]) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut gateway = Gateway::start(program, folder.path()).await?;
    let pid = gateway.pid()?;
    let part = Part {
        name: "Clara".to_owned(),
        note_hz: 261.63,
        picture: Picture::Vp8,
        width: 640,
        height: 360,
        beep_hz: None,
    };
    let musician = Musician::join(&gateway.url, ROOM, &gateway.room_token("Clara", "musician").await?, part).await?;
    let received = Arc::new(AtomicU64::new(0));
    let mut listeners = Vec::new();
    let mut base = None;
    say("One musician (VP8 640x360 about 1 Mbit/s, Opus 10 ms), listeners over WHEP, SRTP on loopback, one run:");
    say("listeners   packets/s forwarded   CPU us/packet   KB of memory a listener");
    for &step in steps {
        while listeners.len() < step {
            listeners.push(Listener::join(&gateway, &received).await?);
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (before, cpu_before) = (received.load(Ordering::Relaxed), cpu_of(pid)?);
        tokio::time::sleep(MEASURED).await;
        let packets = received.load(Ordering::Relaxed) - before;
        let cpu = cpu_of(pid)? - cpu_before;
        let memory = resident_kb(pid)?;
        let (first, first_memory) = *base.get_or_insert((step, memory));
        let each = if step > first {
            format!("{}", memory.saturating_sub(first_memory) / (step - first) as u64)
        } else {
            "-".to_owned()
        };
        say(&format!(
            "{step:>9} {:>21.0} {:>15.1} {each:>25}",
            packets as f64 / MEASURED.as_secs_f64(),
            cpu * 1e6 / (packets as f64).max(1.0),
        ));
    }
    drop(listeners);
    musician.leave().await?;
    gateway.stop().await
}

/// Resident memory of a process, KB.
fn resident_kb(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a process's status has its memory")?;
    line.split_whitespace().next().and_then(|kb| kb.parse().ok()).context("VmRSS is a number of KB")
}
