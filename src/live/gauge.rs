//! How a destination's connection stands at any moment, for whoever steers the programme: read without asking its task.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::domain::abr::Acknowledged;
use crate::domain::abr::Sample;
use crate::live::fanout::QueueView;

/// Shared by a destination's task, which writes, and its handle, which reads. A task that waits for its server is read as well.
#[derive(Clone)]
pub(crate) struct Gauge {
    wire: Arc<Mutex<Wire>>,
    queue: QueueView,
}

/// What the task knows of its connection.
#[derive(Clone, Copy, Debug, Default)]
struct Wire {
    taken_bytes: u64,
    /// Of the message that is on its way through the socket.
    pending_bytes: u64,
    acknowledged: Option<Acknowledged>,
}

impl Gauge {
    pub(crate) fn new(queue: QueueView) -> Self {
        Self { wire: Arc::default(), queue }
    }

    /// The socket took this many bytes and as many are pending.
    pub(crate) fn took(&self, bytes: usize, pending: usize) {
        self.change(|wire| {
            wire.taken_bytes += bytes as u64;
            wire.pending_bytes = pending as u64;
        });
    }

    pub(crate) fn acknowledged(&self, seen: Option<Acknowledged>) {
        self.change(|wire| wire.acknowledged = seen);
    }

    /// A connection has ended: nothing of it is under way any more.
    pub(crate) fn ended(&self) {
        self.change(|wire| *wire = Wire { taken_bytes: wire.taken_bytes, ..Wire::default() });
    }

    pub(crate) fn sample(&self) -> Sample {
        let wire = *self.wire.lock().unwrap_or_else(PoisonError::into_inner);
        let backlog = self.queue.backlog();
        Sample {
            queue: backlog.age,
            unsent_bytes: backlog.bytes + wire.pending_bytes,
            taken_bytes: wire.taken_bytes,
            acknowledged: wire.acknowledged,
        }
    }

    fn change(&self, act: impl FnOnce(&mut Wire)) {
        // Nothing panics while it is held, and each of its numbers stands for itself.
        act(&mut self.wire.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
