//! The way out of the mixer: a bounded queue to a thread that writes the socket, so that a slow reader never holds up an encoder.

use std::collections::VecDeque;
use std::io;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread::JoinHandle;

use bytes::BytesMut;

use crate::model::media::EncodedFrame;
use crate::model::media::MediaKind;
use crate::proto::mixer::FromMixer;
use crate::proto::mixer::Report;

/// Media bytes that wait: 2 s of 12 Mbit/s. A gateway that is further behind than that has lost its destinations anyway.
const MEDIA_BYTES: usize = 3 << 20;

/// Reports that wait; they are a few a second.
const REPORTS: usize = 256;

/// What waits, and what was dropped; media in whole groups of pictures, so that what is sent always decodes.
#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<FromMixer>,
    /// The newest meters, which wait until everything else has been written.
    meters: Option<FromMixer>,
    media_bytes: usize,
    reports: usize,
    /// Video is dropped until a keyframe finds room.
    skipping: bool,
    dropped_frames: u64,
    state: Flow,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Flow {
    #[default]
    Open,
    /// Write what is waiting, then stop.
    Draining,
    /// The other end is gone.
    Broken,
}

impl Queue {
    fn push(&mut self, message: FromMixer) {
        match &message {
            FromMixer::Frame(frame) => {
                if !self.admits(frame) {
                    self.dropped_frames += 1;
                    return;
                }
                self.media_bytes += frame.data.len();
            }
            FromMixer::Preview(sound) => {
                if self.media_bytes + sound.data.len() > MEDIA_BYTES {
                    return;
                }
                self.media_bytes += sound.data.len();
            }
            FromMixer::Config(_) => {}
            FromMixer::Report(Report::Meters(_)) => {
                self.meters = Some(message);
                return;
            }
            FromMixer::Report(_) => {
                if self.reports >= REPORTS {
                    return;
                }
                self.reports += 1;
            }
        }
        self.waiting.push_back(message);
    }

    fn admits(&mut self, frame: &EncodedFrame) -> bool {
        let room = self.media_bytes + frame.data.len() <= MEDIA_BYTES;
        match frame.kind {
            MediaKind::Audio => room,
            MediaKind::Video => {
                self.skipping = !room || (self.skipping && !frame.key);
                !self.skipping
            }
        }
    }

    fn pop(&mut self) -> Option<FromMixer> {
        let Some(message) = self.waiting.pop_front() else { return self.meters.take() };
        match &message {
            FromMixer::Frame(frame) => self.media_bytes -= frame.data.len(),
            FromMixer::Preview(sound) => self.media_bytes -= sound.data.len(),
            FromMixer::Config(_) => {}
            FromMixer::Report(_) => self.reports -= 1,
        }
        Some(message)
    }
}

/// A handle for all who have something to say.
#[derive(Clone, Debug)]
pub(super) struct Outbox {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    news: Condvar,
}

impl Outbox {
    /// Starts the writing thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn open(socket: UnixStream) -> io::Result<(Self, Writer)> {
        let shared = Arc::new(Shared::default());
        let outbox = Self { shared: Arc::clone(&shared) };
        let thread =
            std::thread::Builder::new().name("mixer-out".to_owned()).spawn(move || write_all(socket, &shared))?;
        Ok((outbox.clone(), Writer { outbox, thread }))
    }

    /// Never blocks.
    pub(super) fn push(&self, message: FromMixer) {
        self.lock().push(message);
        self.shared.news.notify_one();
    }

    pub(super) fn report(&self, report: Report) {
        self.push(FromMixer::Report(report));
    }

    /// Media frames dropped so far.
    pub(super) fn dropped_frames(&self) -> u64 {
        self.lock().dropped_frames
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        lock(&self.shared)
    }
}

/// The writing thread.
#[derive(Debug)]
pub(super) struct Writer {
    outbox: Outbox,
    thread: JoinHandle<()>,
}

impl Writer {
    /// Writes everything that waits and returns. A reader that takes nothing for the socket's write timeout ends it as well.
    pub(super) fn drain(self) {
        let mut queue = self.outbox.lock();
        if queue.state == Flow::Open {
            queue.state = Flow::Draining;
        }
        drop(queue);
        self.outbox.shared.news.notify_one();
        if self.thread.join().is_err() {
            tracing::error!("the mixer's writing thread panicked");
        }
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, Queue> {
    // A queue stays whole whatever panicked beside it: every change of it is a single call.
    shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write_all(mut socket: UnixStream, shared: &Shared) {
    let mut bytes = BytesMut::new();
    loop {
        let message = {
            let mut queue = lock(shared);
            loop {
                if let Some(message) = queue.pop() {
                    break message;
                }
                if queue.state != Flow::Open {
                    return;
                }
                queue = shared.news.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        };
        bytes.clear();
        message.encode(&mut bytes);
        if let Err(error) = socket.write_all(&bytes) {
            tracing::debug!(%error, "the gateway reads no more");
            lock(shared).state = Flow::Broken;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::proto::mixer::Meters;

    fn picture(n: u64, key: bool) -> FromMixer {
        let data = Bytes::from(vec![0; MEDIA_BYTES / 10]);
        FromMixer::Frame(EncodedFrame { kind: MediaKind::Video, pts_us: n, dts_us: n, key, data })
    }

    fn times(queue: &mut Queue) -> Vec<(u64, bool)> {
        let mut heard = Vec::new();
        while let Some(message) = queue.pop() {
            if let FromMixer::Frame(frame) = message {
                heard.push((frame.pts_us, frame.key));
            }
        }
        heard
    }

    #[test]
    fn a_full_queue_drops_to_the_next_keyframe_and_counts() {
        let mut queue = Queue::default();
        (0..15).for_each(|n| queue.push(picture(n, n % 4 == 0)));
        assert_eq!(times(&mut queue).len(), 10);
        (15..20).for_each(|n| queue.push(picture(n, n % 4 == 0)));
        assert_eq!(times(&mut queue), [(16, true), (17, false), (18, false), (19, false)]);
        assert_eq!(queue.dropped_frames, 6);
    }

    #[test]
    fn meters_wait_for_everything_else_and_the_newest_wins() {
        let mut queue = Queue::default();
        let meters = |level| FromMixer::Report(Report::Meters(Meters { momentary: Some(level), ..Meters::default() }));
        queue.push(meters(-20.0));
        queue.push(picture(1, true));
        queue.push(meters(-19.0));
        queue.push(FromMixer::Report(Report::Playing));
        let told: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(told, [picture(1, true), FromMixer::Report(Report::Playing), meters(-19.0)]);
    }

    #[test]
    fn reports_are_bounded_and_leave_room_for_media() {
        let mut queue = Queue::default();
        (0..2 * REPORTS).for_each(|_| queue.push(FromMixer::Report(Report::Playing)));
        queue.push(picture(1, true));
        assert_eq!(queue.waiting.len(), REPORTS + 1);
    }
}
