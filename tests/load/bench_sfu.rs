//! CPU and memory of the SFU: one publisher, and more and more listeners over WHEP.
//!
//! The load is that of the peers' measurements: 250 video packets of 1172 bytes a second in bursts of a frame, and 50 of audio.

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
use crate::metronome::AUDIO_RATE;
use crate::metronome::Metronome;
use crate::metronome::VIDEO_RATE;
use crate::peer::Peer;
use crate::peer::Picture;

/// One window. The kernel counts CPU in ticks of 10 ms, so a single listener's 300 packets a second need this long.
const MEASURED: Duration = Duration::from_secs(5);
/// Windows for each number of listeners; an odd number, so that there is a median.
const WINDOWS: usize = 3;

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
    let musician = Metronome::join(&gateway.url, ROOM, &gateway.room_token("Clara", "musician").await?, true).await?;
    let received = Arc::new(AtomicU64::new(0));
    let mut listeners = Vec::new();
    let mut base = None;
    say(
        "One publisher (250 video packets/s of 1172 B in bursts at 30 fps, 50 audio packets/s of 160 B), listeners over WHEP,",
    );
    say("SRTP on loopback; CPU of the whole gateway process, its least and median of the windows:");
    say("listeners   packets/s arrived   of those due   CPU us/packet least   median   KB of memory a listener");
    for &step in steps {
        while listeners.len() < step {
            listeners.push(Listener::join(&gateway, &received).await?);
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let mut windows = Vec::with_capacity(WINDOWS);
        let before = received.load(Ordering::Relaxed);
        for _ in 0..WINDOWS {
            windows.push(window(pid, &received).await?);
        }
        let packets = received.load(Ordering::Relaxed) - before;
        windows.sort_by(f64::total_cmp);
        let memory = resident_kb(pid)?;
        let (first, first_memory) = *base.get_or_insert((step, memory));
        let each = if step > first {
            format!("{}", memory.saturating_sub(first_memory) / (step - first) as u64)
        } else {
            "-".to_owned()
        };
        let rate = packets as f64 / (MEASURED.as_secs_f64() * WINDOWS as f64);
        let due = step as f64 * f64::from(AUDIO_RATE + VIDEO_RATE);
        say(&format!(
            "{step:>9} {rate:>19.0} {:>13.1}% {:>21.1} {:>8.1} {each:>25}",
            100.0 * rate / due,
            windows[0],
            windows[WINDOWS / 2],
        ));
    }
    drop(listeners);
    musician.leave().await?;
    gateway.stop().await
}

/// CPU microseconds for each packet that arrived in one window.
async fn window(pid: u32, received: &AtomicU64) -> Result<f64> {
    let (before, cpu_before) = (received.load(Ordering::Relaxed), cpu_of(pid)?);
    tokio::time::sleep(MEASURED).await;
    let packets = received.load(Ordering::Relaxed) - before;
    Ok((cpu_of(pid)? - cpu_before) * 1e6 / (packets as f64).max(1.0))
}

/// Resident memory of a process, KB.
pub(crate) fn resident_kb(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a process's status has its memory")?;
    line.split_whitespace().next().and_then(|kb| kb.parse().ok()).context("VmRSS is a number of KB")
}
