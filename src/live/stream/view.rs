//! A stream as the outside sees it: its snapshot, its reason, its numbers.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::lifecycle::Outcome;
use crate::domain::lifecycle::State;
use crate::live::hls;
use crate::live::port::StreamRow;
use crate::live::snapshot::DestinationSnapshot;
use crate::live::snapshot::DressingSnapshot;
use crate::live::snapshot::LayoutSnapshot;
use crate::live::snapshot::MixSnapshot;
use crate::live::snapshot::RecordingSnapshot;
use crate::live::snapshot::StreamSnapshot;
use crate::live::snapshot::StreamState;
use crate::live::snapshot::StreamStats;
use crate::live::stream::Stream;
use crate::live::stream::scene;

impl Stream {
    pub(super) fn publish(&mut self) {
        let snapshot = self.describe();
        self.snapshot.send_if_modified(|seen| {
            let changed = *seen != snapshot;
            *seen = snapshot;
            changed
        });
    }

    pub(super) fn describe(&mut self) -> StreamSnapshot {
        let destinations: Vec<_> = self.destination_views.iter().map(|view| view.borrow().clone()).collect();
        self.note_first_video(&destinations);
        let now = Instant::now();
        let (fps, bitrate_kbps) = self.meter.sample(now.into_std());
        let totals = self.meter.totals();
        let duration = self.live_since.map_or(Duration::ZERO, |since| now - since);
        let stats = StreamStats {
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            first_video_ms: self.first_video_ms,
            video_frames: totals.video_frames,
            audio_frames: totals.audio_frames,
            passed_through: self.mixer_stats.passes,
            passed_frames: self.earlier.passed_frames + self.mixer_stats.passed_frames,
            fps,
            bitrate_kbps,
            target_video_kbps: self.steering.video_kbps(),
            target_reason: self.steering.reason(&destinations),
            dropped_frames: self.earlier.dropped_frames + self.mixer_stats.dropped_frames + self.unfit_frames,
            musicians: scene::musicians(&self.roster),
            mixer_restarts: u64::from(self.generation.saturating_sub(1)),
            mixer_takeovers: self.standby.takeovers,
            mixer_cpu_ms: self.earlier.cpu_ms + self.mixer_stats.cpu_ms + self.standby.stats.cpu_ms,
            mixer_memory_bytes: self.mixer_stats.memory_bytes + self.standby.stats.memory_bytes,
            playout_ms: self.mixer_stats.playout_ms,
            recorded_bytes: self.earlier.recorded_bytes + self.mixer_stats.recorded_bytes,
        };
        StreamSnapshot {
            state: phase(self.life.state()),
            reason: self.reason(),
            stats,
            recording: self.recording(),
            mix: self.mix(),
            layout: self.layout(),
            dressing: self.dressing(),
            ..snapshot_of(&self.row, destinations)
        }
    }

    /// What somebody who pressed *Go live* waits for.
    fn note_first_video(&mut self, destinations: &[DestinationSnapshot]) {
        let first = destinations.iter().filter_map(|destination| destination.first_video_ms).min();
        if let (None, Some(first)) = (self.first_video_ms, first) {
            let whole = Duration::from_millis(first) + self.lead;
            metrics::histogram!("jamcast_stream_first_video_seconds").record(whole.as_secs_f64());
            self.first_video_ms = u64::try_from(whole.as_millis()).ok();
        }
    }

    pub(super) fn reason(&self) -> Option<String> {
        match self.life.state() {
            State::Created => None,
            State::Starting { .. } | State::Live { .. } => {
                let room = self.tap.is_lost().then(|| "the room's sound and picture are not reachable".to_owned());
                self.mixer_trouble.clone().or(room).or_else(|| self.recording_trouble())
            }
            State::Stopping { outcome: Outcome::Ended { reason }, .. } | State::Ended { reason } => reason.clone(),
            State::Stopping { outcome: Outcome::Failed { reason }, .. } | State::Failed { reason } => {
                Some(reason.clone())
            }
        }
    }
}

/// A stored stream as the outside sees it while nothing of it runs.
pub(crate) fn snapshot_of(row: &StreamRow, destinations: Vec<DestinationSnapshot>) -> StreamSnapshot {
    let duration_ms = match (row.started_at_ms, row.ended_at_ms) {
        (Some(from), Some(to)) => u64::try_from(to - from).unwrap_or(0),
        (Some(_), None) | (None, Some(_) | None) => 0,
    };
    StreamSnapshot {
        id: row.id,
        room: row.room.clone(),
        owner: row.owner.clone(),
        title: row.title.clone(),
        programme: row.programme.clone(),
        record: row.record,
        stems: row.stems,
        hls_url: row.hls.then(|| hls::url(row.id)),
        state: row.state,
        reason: row.reason.clone(),
        created_at_ms: row.created_at_ms,
        started_at_ms: row.started_at_ms,
        ended_at_ms: row.ended_at_ms,
        destinations,
        stats: StreamStats { duration_ms, ..StreamStats::default() },
        recording: RecordingSnapshot::default(),
        mix: MixSnapshot::default(),
        layout: LayoutSnapshot::default(),
        dressing: DressingSnapshot::default(),
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

pub(super) fn phase(state: &State) -> StreamState {
    match state {
        State::Created => StreamState::Created,
        State::Starting { .. } => StreamState::Starting,
        State::Live { .. } => StreamState::Live,
        State::Stopping { .. } => StreamState::Stopping,
        State::Ended { .. } => StreamState::Ended,
        State::Failed { .. } => StreamState::Failed,
    }
}
