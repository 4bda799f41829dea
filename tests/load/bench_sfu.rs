//! CPU and memory of the SFU, and the delay it adds, with Janus beside it under the same load.
//!
//! The load is that of the peers' measurements: 250 video packets of 1172 bytes a second in bursts of a frame, and 50 of audio.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use tokio::task::JoinSet;
use webrtc::media_stream::track_remote::TrackRemoteEvent;
use webrtc::runtime::TokioRuntime;

use crate::delay;
use crate::demo::say;
use crate::metronome::AUDIO_RATE;
use crate::metronome::Metronome;
use crate::metronome::VIDEO_RATE;
use crate::peer::Peer;
use crate::peer::Picture;
use crate::rig::cpu_of;
use crate::sfu::Sfu;

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
    async fn join(sfu: &Sfu, received: &Arc<AtomicU64>) -> Result<Self> {
        let mut peer =
            Peer::at(Arc::new(TokioRuntime), sfu.address(), Picture::Vp8, &sfu.token("Listener", "viewer").await?)
                .await?;
        sfu.subscribe(&mut peer, 1, 1).await?;
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

/// What one number of listeners costs one SFU.
struct Row {
    listeners: usize,
    /// Packets a second.
    arrived: f64,
    /// CPU microseconds for each packet that arrived, of the windows.
    least: f64,
    median: f64,
    /// Resident memory that one more listener takes since the first row, KB.
    each_kb: Option<u64>,
}

impl Row {
    fn due(&self) -> f64 {
        self.listeners as f64 * f64::from(AUDIO_RATE + VIDEO_RATE)
    }
}

/// Prints a table with one row for each number of listeners, and one of the delays in a room of six.
pub(crate) async fn run(program: &Path, steps: &[usize]) -> Result<()> {
    say(
        "One publisher (250 video packets/s of 1172 B in bursts at 30 fps, 50 audio packets/s of 160 B), SRTP on loopback;",
    );
    say("CPU of the whole server process, its least and median of three windows:");
    let mut tables = Vec::new();
    for name in Sfu::NAMES {
        let folder = tempfile::tempdir()?;
        match Sfu::start(name, program, folder.path()).await? {
            Some(mut sfu) => {
                tables.push(cost(name, &sfu, steps).await?);
                sfu.stop().await?;
            }
            None => say(&format!("{name} is not installed and not measured.")),
        }
    }
    say(&side_by_side(&tables));
    delay::run(program).await
}

async fn cost(name: &str, sfu: &Sfu, steps: &[usize]) -> Result<Vec<Row>> {
    let pid = sfu.pid()?;
    let musician = Metronome::join(sfu).await?;
    let received = Arc::new(AtomicU64::new(0));
    let mut listeners = Vec::new();
    let mut base = None;
    let mut rows = Vec::new();
    for &step in steps {
        while listeners.len() < step {
            listeners.push(Listener::join(sfu, &received).await?);
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
        let row = Row {
            listeners: step,
            arrived: packets as f64 / (MEASURED.as_secs_f64() * WINDOWS as f64),
            least: windows[0],
            median: windows[WINDOWS / 2],
            each_kb: memory.saturating_sub(first_memory).checked_div((step - first) as u64),
        };
        say(&format!(
            "  {name}, {step} listeners: {:.1} us a packet, {:.1} % arrived",
            row.least,
            100.0 * row.arrived / row.due()
        ));
        rows.push(row);
    }
    drop(listeners);
    musician.leave(sfu).await?;
    Ok(rows)
}

/// A table of ours, and if it was measured the peer's and the ratio of the least CPU.
fn side_by_side(tables: &[Vec<Row>]) -> String {
    let titles = tables.iter().zip(Sfu::NAMES).map(|(_, name)| {
        format!(" {name}: packets/s arrived | of those due | CPU µs/packet, least | median | KB a listener |")
    });
    let mut text = format!("\n| listeners |{}", titles.collect::<String>());
    text.push_str(if tables.len() == 2 { " ratio |\n" } else { "\n" });
    text.push_str(&format!("|---|{}{}\n", "---|".repeat(5 * tables.len()), "---|".repeat(tables.len() - 1)));
    for number in 0..tables.first().map_or(0, Vec::len) {
        let rows: Vec<&Row> = tables.iter().filter_map(|rows| rows.get(number)).collect();
        let mut line = format!("| {} |", rows[0].listeners);
        for row in &rows {
            let each = row.each_kb.map_or_else(|| "-".to_owned(), |kb| kb.to_string());
            let share = 100.0 * row.arrived / row.due();
            let _never_fails =
                write!(line, " {:.0} | {share:.1} % | {:.1} | {:.1} | {each} |", row.arrived, row.least, row.median);
        }
        if let [ours, theirs] = rows[..] {
            let _never_fails = write!(line, " {:.2} |", ours.least / theirs.least);
        }
        text.push_str(&line);
        text.push('\n');
    }
    text
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_both_and_the_ratio_of_the_least_cpu() {
        let row = |least, each_kb| Row { listeners: 10, arrived: 2970.0, least, median: least + 1.0, each_kb };
        let table = side_by_side(&[vec![row(6.0, None)], vec![row(24.0, Some(300))]]);
        let last = table.lines().last().expect("a row");
        assert_eq!(
            last, "| 10 | 2970 | 99.0 % | 6.0 | 7.0 | - | 2970 | 99.0 % | 24.0 | 25.0 | 300 | 0.25 |",
            "{table}"
        );
        let columns = table.trim().lines().map(|line| line.matches('|').count()).collect::<Vec<_>>();
        assert_eq!(columns, [13, 13, 13]);
        let alone = side_by_side(&[vec![row(6.0, None)]]);
        let columns = alone.trim().lines().map(|line| line.matches('|').count()).collect::<Vec<_>>();
        assert_eq!(columns, [7, 7, 7], "{alone}");
    }
}
