//! What waits for the socket of a participant, bounded: hints go first, then the participant.

use std::collections::VecDeque;

use crate::proto::signal::Farewell;
use crate::proto::signal::Limits;
use crate::proto::signal::Push;

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

/// What may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hint {
    Levels,
    Delays,
}

impl Hint {
    pub(super) const fn of(push: &Push) -> Option<Self> {
        if let Push::Levels { .. } = push {
            Some(Self::Levels)
        } else if let Push::Delays { .. } = push {
            Some(Self::Delays)
        } else {
            None
        }
    }
}

/// Messages in order, and at most one hint of each kind beside them.
pub(super) struct Outbox {
    queue: VecDeque<Output>,
    bytes: usize,
    /// Go out when nothing else waits; a newer one takes the place of its like.
    hints: VecDeque<(Hint, String)>,
    max: usize,
    max_bytes: usize,
    dropped: u64,
}

impl Outbox {
    pub(super) const fn new(limits: &Limits) -> Self {
        let (max, max_bytes) = (limits.max_outbox, limits.max_outbox_bytes);
        Self { queue: VecDeque::new(), bytes: 0, hints: VecDeque::new(), max, max_bytes, dropped: 0 }
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

    /// Takes a message that may be lost: an older one of its kind that still waits is.
    pub(super) fn hint(&mut self, kind: Hint, text: String) {
        match self.hints.iter_mut().find(|(waiting, _)| *waiting == kind) {
            Some((_, older)) => {
                *older = text;
                self.dropped += 1;
            }
            None => self.hints.push_back((kind, text)),
        }
    }

    /// The farewell always finds room, and no hint comes after it.
    pub(super) fn close(&mut self, why: Farewell) {
        self.dropped += self.hints.len() as u64;
        self.hints.clear();
        self.queue.push_back(Output::Close(why));
    }

    pub(super) fn poll(&mut self) -> Option<Output> {
        let Some(output) = self.queue.pop_front() else {
            return self.hints.pop_front().map(|(_, text)| Output::Text(text));
        };
        if let Output::Text(text) = &output {
            self.bytes -= text.len();
        }
        Some(output)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.hints.is_empty()
    }

    /// Messages lost since the last call of this.
    pub(super) const fn take_dropped(&mut self) -> u64 {
        std::mem::replace(&mut self.dropped, 0)
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.queue.len() + self.hints.len(), self.bytes)
    }
}
