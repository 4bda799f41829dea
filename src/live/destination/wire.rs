//! The way out to a server: what its publisher says, a little at a time, and what the server acknowledged of it.

use std::io;
use std::time::Duration;
use std::time::Instant;

use bytes::Buf;
use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::io::WriteHalf;

use crate::live::destination::now;
use crate::live::port::Connection;
use crate::proto::rtmp::publisher::Input;
use crate::proto::rtmp::publisher::Output;
use crate::proto::rtmp::publisher::Publisher;
use crate::proto::rtmp::publisher::WINDOW_ACK_SIZE;

/// Bytes offered to the socket at once. Given a whole keyframe, the kernel would take it whole, and how fast the link is would show in
/// steps of that size.
const WRITE: usize = 4 * 1024;
/// A server that stays silent over so many of its usual steps, of a window at least, has stopped.
const UNANSWERED_STEPS: u64 = 2;
/// And no silence shorter than this means anything.
const SILENT: Duration = Duration::from_millis(1500);

/// How things stood when the server acknowledged more than before.
#[derive(Clone, Copy)]
struct Answered {
    /// That it has received.
    bytes: u64,
    written: u64,
    /// The most bytes between two of its answers: some servers have a window of their own.
    step: u64,
    at: Instant,
}

/// The way out: one message at a time, so that frames wait in the queue, where they can be dropped.
pub(super) struct Wire {
    pub(super) publisher: Publisher,
    /// Bytes written so far.
    written: u64,
    answered: Option<Answered>,
    writer: WriteHalf<Box<dyn Connection>>,
    /// What is being written.
    pub(super) pending: Bytes,
    /// TLS keeps records of its own until it is flushed.
    unflushed: bool,
    /// The server takes media.
    pub(super) on_air: bool,
}

impl Wire {
    pub(super) const fn new(publisher: Publisher, writer: WriteHalf<Box<dyn Connection>>) -> Self {
        Self { publisher, written: 0, answered: None, writer, pending: Bytes::new(), unflushed: false, on_air: false }
    }

    /// The server says that it has this many bytes.
    pub(super) fn note_answer(&mut self, bytes: u64) {
        let (before, step) = self.answered.map_or((0, WINDOW_ACK_SIZE.into()), |before| (before.bytes, before.step));
        if before < bytes {
            let step = step.max(bytes - before);
            self.answered = Some(Answered { bytes, written: self.written, step, at: now() });
        }
    }

    /// A server that acknowledged before has been silent for longer than its steps explain.
    pub(super) fn is_left_unanswered(&self) -> bool {
        self.answered.is_some_and(|answered| {
            self.written - answered.written > UNANSWERED_STEPS * answered.step
                && now().saturating_duration_since(answered.at) > SILENT
        })
    }

    pub(super) const fn is_busy(&self) -> bool {
        !self.pending.is_empty() || self.unflushed
    }

    /// Writes some bytes, or flushes when none are left; says how many were written. Safe to cancel.
    pub(super) async fn write_some(&mut self) -> io::Result<usize> {
        if self.pending.is_empty() {
            self.writer.flush().await?;
            self.unflushed = false;
            return Ok(0);
        }
        let piece = &self.pending[..self.pending.len().min(WRITE)];
        let length = self.writer.write(piece).await?;
        if length == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.pending.advance(length);
        self.written += length as u64;
        self.unflushed = true;
        Ok(length)
    }

    pub(super) async fn say_goodbye(&mut self) -> io::Result<()> {
        self.publisher.handle(now(), Input::Close);
        loop {
            while self.is_busy() {
                self.write_some().await?;
            }
            match self.publisher.poll_output() {
                Some(Output::Send(bytes)) => self.pending = bytes,
                Some(Output::Event(_)) => {}
                None => return self.writer.shutdown().await,
            }
        }
    }
}
