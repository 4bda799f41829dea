//! One destination on air: how it is begun, looked at and ended from outside.

mod actor;
mod loss;
mod wire;

use std::hash::BuildHasher;
use std::hash::RandomState;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use serde::Deserialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::domain::abr::Report;
use crate::domain::destination as decisions;
use crate::domain::platform::Platform;
use crate::live::destination::actor::Actor;
use crate::live::destination::actor::FirstVideo;
use crate::live::fanout::Subscription;
use crate::live::gauge::Gauge;
use crate::live::port::Dial;
use crate::live::snapshot::DestinationSnapshot;
use crate::live::snapshot::DestinationState;
use crate::model::id::DestinationId;
use crate::model::secret::StreamKey;
use crate::model::spec::DestinationSpec;
use crate::model::spec::ProgrammeSpec;

/// Time for the task to end after its goodbye.
const STOP: Duration = Duration::from_secs(3);

/// How destinations retry and when they count as stalled.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// First wait after a lost connection, milliseconds; jitter makes it shorter.
    pub first_retry_ms: u64,
    /// Longest wait between attempts, milliseconds.
    pub max_retry_ms: u64,
    /// First wait after a refused stream key, milliseconds.
    pub rejected_retry_ms: u64,
    /// Media waiting this long without a byte taken shows as `stalled`, milliseconds.
    pub stalled_after_ms: u64,
    /// And this long ends the connection, milliseconds.
    pub write_timeout_ms: u64,
    /// A connection closed sooner than this after publishing began counts as refused, milliseconds.
    pub early_close_ms: u64,
    /// Gives up after so long without being live, milliseconds, at least ten minutes; never if absent.
    pub give_up_after_ms: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            first_retry_ms: 1000,
            max_retry_ms: 30_000,
            rejected_retry_ms: 30_000,
            stalled_after_ms: 2000,
            write_timeout_ms: 5000,
            early_close_ms: 5000,
            give_up_after_ms: None,
        }
    }
}

impl Config {
    fn timing(&self) -> decisions::Timing {
        decisions::Timing {
            first_retry: Duration::from_millis(self.first_retry_ms),
            max_retry: Duration::from_millis(self.max_retry_ms),
            rejected_retry: Duration::from_millis(self.rejected_retry_ms),
            stalled_after: Duration::from_millis(self.stalled_after_ms),
            dead_after: Duration::from_millis(self.write_timeout_ms),
            early_close: Duration::from_millis(self.early_close_ms),
            patience: self.give_up_after_ms.map(Duration::from_millis),
            ..decisions::Timing::default()
        }
    }
}

/// A handle to a running destination. Dropping it ends the broadcast there too, without waiting for the end.
pub struct Destination {
    snapshot: watch::Sender<DestinationSnapshot>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    id: DestinationId,
    gauge: Gauge,
}

impl Destination {
    /// Begins to dial at once, and goes on until stopped or the programme ends.
    pub fn start(
        spec: DestinationSpec,
        key: StreamKey,
        config: &Config,
        programme: ProgrammeSpec,
        dial: Arc<dyn Dial>,
        subscription: Subscription,
        tracker: &TaskTracker,
    ) -> Self {
        let snapshot = watch::Sender::new(DestinationSnapshot {
            id: spec.id,
            name: spec.name.clone(),
            platform: spec.platform.clone(),
            url: spec.endpoint.url(),
            primary: spec.primary,
            on_backup: false,
            state: DestinationState::Connecting,
            hint: None,
            retry_in_ms: None,
            first_video_ms: None,
            reconnects: 0,
            bytes_sent: 0,
            bytes_acknowledged: None,
            frames_sent: 0,
            dropped_frames: 0,
            queue_ms: 0,
        });
        let stop = CancellationToken::new();
        let gauge = Gauge::new(subscription.view());
        let id = spec.id;
        let seed = RandomState::new().hash_one(spec.id);
        let actor = Actor {
            machine: match spec.backup {
                Some(_) => decisions::Destination::new(now(), config.timing(), seed).with_backup(),
                None => decisions::Destination::new(now(), config.timing(), seed),
            },
            on_air_hint: on_air_hint(&spec.platform),
            spec,
            key,
            programme,
            dial,
            subscription,
            snapshot: snapshot.clone(),
            first_video: FirstVideo::Awaited { since: now() },
            gauge: gauge.clone(),
            stop: stop.clone(),
        };
        let task = tracker.spawn(actor.run());
        Self { snapshot, stop, task, id, gauge }
    }

    /// State and counters as they change, at least twice a second while on air.
    pub fn snapshot(&self) -> watch::Receiver<DestinationSnapshot> {
        self.snapshot.subscribe()
    }

    /// Whether the programme follows what it takes, from now on.
    pub fn mark(&self, primary: bool) {
        self.snapshot.send_modify(|snapshot| snapshot.primary = primary);
    }

    pub const fn id(&self) -> DestinationId {
        self.id
    }

    /// How it stands at this moment, for the programme's bitrate. One that takes nothing is out, as one that is not connected.
    pub fn report(&self) -> Report {
        let DestinationSnapshot { state, primary, .. } = *self.snapshot.borrow();
        let on_air = matches!(state, DestinationState::Publishing | DestinationState::Live);
        Report { id: self.id, primary, sample: on_air.then(|| self.gauge.sample()) }
    }

    /// Says goodbye to the server and ends; takes at most 3 s.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if tokio::time::timeout(STOP, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The clock that `tokio::time::pause` can stop.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn on_air_hint(platform: &str) -> Option<&'static str> {
    Platform::named(platform)?.hints.on_air.as_ref().map(|hint| hint.text.as_str())
}
