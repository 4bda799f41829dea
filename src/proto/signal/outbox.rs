//! What waits for the socket of a participant, bounded: hints go first, then the participant.

use std::collections::VecDeque;

use crate::proto::signal::Farewell;
use crate::proto::signal::Limits;

/// What goes out on the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Text(String),
    /// A WebSocket ping frame.
    Ping,
    /// The last one.
    Close(Farewell),
}

/// The queue is full: the participant does not read what it is sent.
#[derive(Debug)]
pub(super) struct Full;

/// Messages in order, and at most one hint beside them.
pub(super) struct Outbox {
    queue: VecDeque<Output>,
    bytes: usize,
    /// Goes out when nothing else waits; a newer one takes its place.
    hint: Option<String>,
    max: usize,
    max_bytes: usize,
    dropped: u64,
}

impl Outbox {
    pub(super) const fn new(limits: &Limits) -> Self {
        let (max, max_bytes) = (limits.max_outbox, limits.max_outbox_bytes);
        Self { queue: VecDeque::new(), bytes: 0, hint: None, max, max_bytes, dropped: 0 }
    }

    /// Takes a message; if there is no room for it, everything that waits is lost with it.
    pub(super) fn push(&mut self, output: Output) -> Result<(), Full> {
        let bytes = if let Output::Text(text) = &output { text.len() } else { 0 };
        if self.queue.len() >= self.max || self.bytes + bytes > self.max_bytes {
            self.dropped += self.queue.len() as u64 + 1;
            self.queue.clear();
            self.bytes = 0;
            return Err(Full);
        }
        self.bytes += bytes;
        self.queue.push_back(output);
        Ok(())
    }

    /// Takes a message that may be lost: an older one that still waits is.
    pub(super) fn hint(&mut self, text: String) {
        self.dropped += u64::from(self.hint.replace(text).is_some());
    }

    /// The farewell always finds room, and no hint comes after it.
    pub(super) fn close(&mut self, why: Farewell) {
        self.dropped += u64::from(self.hint.take().is_some());
        self.queue.push_back(Output::Close(why));
    }

    pub(super) fn poll(&mut self) -> Option<Output> {
        let Some(output) = self.queue.pop_front() else { return self.hint.take().map(Output::Text) };
        if let Output::Text(text) = &output {
            self.bytes -= text.len();
        }
        Some(output)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.hint.is_none()
    }

    /// Messages lost since the last call of this.
    pub(super) const fn take_dropped(&mut self) -> u64 {
        std::mem::replace(&mut self.dropped, 0)
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.queue.len() + usize::from(self.hint.is_some()), self.bytes)
    }
}
