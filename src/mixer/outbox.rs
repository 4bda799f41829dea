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
use std::time::Duration;

use bytes::BytesMut;

use crate::model::media::EncodedFrame;
use crate::model::media::MediaKind;
use crate::proto::mixer::FromMixer;
use crate::proto::mixer::Report;

/// Media bytes that wait: 2 s of 12 Mbit/s. A gateway that is further behind than that has lost its destinations anyway.
const MEDIA_BYTES: usize = 3 << 20;

/// Reports that wait; they are a few a second.
const REPORTS: usize = 256;

/// A piece of the programme's sound waits for the picture of its time, so that gateway and servers are woken once for both; no longer
/// than this, which is more than a frame.
const LINGER: Duration = Duration::from_millis(40);

/// Written at once.
const BATCH: usize = 64 << 10;

/// What waits, and what was dropped; media in whole groups of pictures, so that what is sent always decodes.
#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<FromMixer>,
    /// The newest meters, which wait until everything else has been written.
    meters: Option<FromMixer>,
    media_bytes: usize,
    reports: usize,
    /// Something waits that is not only sound.
    urgent: bool,
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
                self.urgent |= frame.kind == MediaKind::Video;
            }
            FromMixer::Preview(sound) => {
                if self.media_bytes + sound.data.len() > MEDIA_BYTES {
                    return;
                }
                self.media_bytes += sound.data.len();
                self.urgent = true;
            }
            FromMixer::Config(_) => self.urgent = true,
            FromMixer::Report(Report::Meters(_)) => {
                self.meters = Some(message);
                return;
            }
            FromMixer::Report(_) => {
                if self.reports >= REPORTS {
                    return;
                }
                self.reports += 1;
                self.urgent = true;
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

    /// Whether there is nothing to be written yet: `None` if nothing waits at all.
    fn lingers(&self) -> Option<bool> {
        let waits = self.meters.is_some() || !self.waiting.is_empty();
        waits.then_some(!self.urgent && self.state == Flow::Open)
    }

    /// Takes what is to be written at once.
    fn take(&mut self, bytes: &mut BytesMut) {
        while bytes.len() < BATCH
            && let Some(message) = self.pop()
        {
            message.encode(bytes);
        }
        self.urgent = !self.waiting.is_empty();
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
        let mut queue = self.lock();
        let waited = queue.lingers();
        queue.push(message);
        // A thread that waits for a picture need not hear of every sound.
        let is_news = queue.lingers() != waited;
        drop(queue);
        if is_news {
            self.shared.news.notify_one();
        }
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
    while next(shared, &mut bytes) {
        if let Err(error) = socket.write_all(&bytes) {
            tracing::debug!(%error, "the gateway reads no more");
            lock(shared).state = Flow::Broken;
            return;
        }
        bytes.clear();
    }
}

/// Waits for what is to be written next; `false` if nothing will be any more.
fn next(shared: &Shared, bytes: &mut BytesMut) -> bool {
    let mut queue = lock(shared);
    let mut lingered = false;
    loop {
        queue = match queue.lingers() {
            None if queue.state != Flow::Open => return false,
            None => shared.news.wait(queue).unwrap_or_else(PoisonError::into_inner),
            Some(true) if !lingered => {
                let waited = shared.news.wait_timeout(queue, LINGER);
                let (queue, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                lingered = timeout.timed_out();
                queue
            }
            Some(_) => {
                queue.take(bytes);
                return true;
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

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

    fn sound(n: u64) -> FromMixer {
        let data = Bytes::from_static(b"aac");
        FromMixer::Frame(EncodedFrame { kind: MediaKind::Audio, pts_us: n, dts_us: n, key: true, data })
    }

    #[test]
    fn sound_goes_with_the_next_picture() {
        let mut queue = Queue::default();
        assert_eq!(queue.lingers(), None);
        queue.push(sound(1));
        queue.push(sound(2));
        assert_eq!(queue.lingers(), Some(true));
        queue.push(picture(3, true));
        assert_eq!(queue.lingers(), Some(false));
        let mut bytes = BytesMut::new();
        queue.take(&mut bytes);
        let written = std::iter::from_fn(|| FromMixer::decode(&mut bytes).expect("well made"));
        assert_eq!(written.collect::<Vec<_>>(), [sound(1), sound(2), picture(3, true)]);
        assert_eq!(queue.lingers(), None);
    }

    #[test]
    fn sound_without_pictures_goes_all_the_same_and_so_does_the_last_of_it() {
        let (near, mut far) = UnixStream::pair().expect("a pair");
        let (outbox, writer) = Outbox::open(near).expect("a thread");
        let mut bytes = BytesMut::new();
        let mut heard = || loop {
            if let Some(message) = FromMixer::decode(&mut bytes).expect("well made") {
                return message;
            }
            let mut chunk = [0; 1024];
            let length = far.read(&mut chunk).expect("still open");
            assert!(length > 0, "nothing comes any more");
            bytes.extend_from_slice(&chunk[..length]);
        };
        outbox.push(sound(1));
        assert_eq!(heard(), sound(1));
        outbox.push(sound(2));
        writer.drain();
        assert_eq!(heard(), sound(2));
    }

    #[test]
    fn reports_are_bounded_and_leave_room_for_media() {
        let mut queue = Queue::default();
        (0..2 * REPORTS).for_each(|_| queue.push(FromMixer::Report(Report::Playing)));
        queue.push(picture(1, true));
        assert_eq!(queue.waiting.len(), REPORTS + 1);
    }
}
