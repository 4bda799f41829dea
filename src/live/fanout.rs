//! One encode, many destinations: hands every encoded frame to each subscription's bounded queue.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::sync::mpsc;

use crate::model::media::CodecConfig;
use crate::model::media::EncodedFrame;

const QUEUE: usize = 256;

#[derive(Default)]
pub struct Fanout {
    config: Option<CodecConfig>,
    queues: Vec<mpsc::Sender<EncodedFrame>>,
    keyframe_wanted: Arc<Notify>,
}

pub struct Subscription {
    pub(crate) frames: mpsc::Receiver<EncodedFrame>,
}

impl Fanout {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn set_config(&mut self, config: CodecConfig) {
        self.config = Some(config);
    }

    pub fn push(&mut self, frame: &EncodedFrame) {
        self.queues.retain(|queue| !matches!(queue.try_send(frame.clone()), Err(mpsc::error::TrySendError::Closed(_))));
    }

    pub fn subscribe(&mut self) -> Subscription {
        let (queue, frames) = mpsc::channel(QUEUE);
        self.queues.push(queue);
        self.keyframe_wanted.notify_one();
        Subscription { frames }
    }

    pub fn keyframe_wanted(&self) -> Arc<Notify> {
        Arc::clone(&self.keyframe_wanted)
    }
}
