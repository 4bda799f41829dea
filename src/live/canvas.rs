//! The canvases of the rooms: one a room at most, on its way from the socket that brings it to the streams that show it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::sync::watch;

use crate::domain::canvas::CREDITS;
use crate::model::id::RoomId;
use crate::model::media::CanvasFormat;
use crate::model::media::CanvasFrame;

/// A cloneable handle to all canvases.
#[derive(Clone, Default)]
pub struct Canvases {
    rooms: Arc<Mutex<BTreeMap<RoomId, Easel>>>,
}

/// Where a room's canvas stands or will stand.
struct Easel {
    /// The name of whoever paints.
    painter: watch::Sender<Option<String>>,
    wishes: Arc<Wishes>,
    viewers: BTreeMap<u64, mpsc::Sender<Stroke>>,
    next_viewer: u64,
}

/// One frame on its way, with the monotonic time of its arrival in microseconds.
#[derive(Clone, Debug)]
pub struct Stroke {
    pub arrival_us: u64,
    pub frame: CanvasFrame,
    /// The frame's data without the painter's credit.
    spare: Bytes,
}

/// What the streams want of the painter. One is woken when it changes.
#[derive(Debug, Default)]
pub struct Wishes {
    inner: Mutex<Wanted>,
    changed: Notify,
}

/// What has happened since the painter looked last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Whether anybody shows the canvas.
    pub watched: bool,
    /// Frames that have left the gateway.
    pub returned: u32,
    pub keyframe: bool,
}

/// The room has a canvas already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this room has a canvas already; close that one first")]
pub struct Taken;

/// The painter's end: dropping it takes the canvas away.
pub struct Brush {
    canvases: Canvases,
    room: RoomId,
    wishes: Arc<Wishes>,
    pool: Pool,
}

/// A stream's end.
pub struct View {
    canvases: Canvases,
    room: RoomId,
    number: u64,
    wishes: Arc<Wishes>,
    /// The name of whoever paints; `None` while there is no canvas.
    pub painter: watch::Receiver<Option<String>>,
    pub strokes: mpsc::Receiver<Stroke>,
}

impl Canvases {
    /// Puts up a canvas.
    ///
    /// # Errors
    /// When the room has one.
    pub fn open(&self, room: &RoomId, painter: &str) -> Result<Brush, Taken> {
        let mut rooms = self.lock();
        let easel = rooms.entry(room.clone()).or_default();
        if easel.painter.borrow().is_some() {
            return Err(Taken);
        }
        easel.painter.send_replace(Some(painter.to_owned()));
        easel.wishes.begin(!easel.viewers.is_empty());
        let wishes = Arc::clone(&easel.wishes);
        Ok(Brush { canvases: self.clone(), room: room.clone(), wishes, pool: Pool::default() })
    }

    /// Watches a room's canvas, the one that is there and all that will be.
    pub fn watch(&self, room: &RoomId) -> View {
        let mut rooms = self.lock();
        let easel = rooms.entry(room.clone()).or_default();
        let (sender, strokes) = mpsc::channel(CREDITS as usize);
        let number = easel.next_viewer;
        easel.next_viewer += 1;
        easel.viewers.insert(number, sender);
        easel.wishes.note(|wanted| wanted.watched = true);
        let (wishes, painter) = (Arc::clone(&easel.wishes), easel.painter.subscribe());
        View { canvases: self.clone(), room: room.clone(), number, wishes, painter, strokes }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RoomId, Easel>> {
        // An easel is consistent after each statement, so a panic elsewhere spoils nothing.
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes an easel and puts it away if nobody needs it any more.
    fn change(&self, room: &RoomId, change: impl FnOnce(&mut Easel)) {
        let mut rooms = self.lock();
        let Some(easel) = rooms.get_mut(room) else { return };
        change(easel);
        if easel.viewers.is_empty() && easel.painter.borrow().is_none() {
            rooms.remove(room);
        }
    }
}

impl Default for Easel {
    fn default() -> Self {
        let painter = watch::Sender::new(None);
        Self { painter, wishes: Arc::default(), viewers: BTreeMap::new(), next_viewer: 0 }
    }
}

impl Wishes {
    /// Waits until something changes.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What is wanted now.
    pub fn take(&self) -> Wanted {
        let mut wanted = self.lock();
        let taken = *wanted;
        (wanted.returned, wanted.keyframe) = (0, false);
        taken
    }

    fn begin(&self, watched: bool) {
        *self.lock() = Wanted { watched, ..Wanted::default() };
    }

    fn note(&self, note: impl FnOnce(&mut Wanted)) {
        note(&mut self.lock());
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Brush {
    pub fn wishes(&self) -> Arc<Wishes> {
        Arc::clone(&self.wishes)
    }

    /// Gives a frame to everybody who watches. It returns, by [`Wanted::returned`], when the last of them is done with it.
    pub fn paint(&self, arrival_us: u64, frame: &CanvasFrame) {
        let format = frame.format;
        let spare = self.pool.keep(&frame.data, format == CanvasFormat::Rgba);
        let credit = Return { wishes: Arc::clone(&self.wishes) };
        let data = Bytes::from_owner(Lent { data: spare.clone(), _held: credit });
        let stroke = Stroke { arrival_us, frame: CanvasFrame { data, ..frame.clone() }, spare };
        let mut behind = false;
        self.canvases.change(&self.room, |easel| {
            for viewer in easel.viewers.values() {
                behind |= viewer.try_send(stroke.clone()).is_err();
            }
        });
        if behind {
            metrics::counter!("jamcast_canvas_dropped_frames_total", "reason" => "viewer").increment(1);
            if format.has_deltas() {
                self.wishes.note(|wanted| wanted.keyframe = true);
            }
        }
    }
}

impl Stroke {
    /// The same frame for somebody whom the painter does not wait for. What it holds is let go with its last copy.
    pub fn beside(&self, held: Arc<()>) -> CanvasFrame {
        let data = Bytes::from_owner(Lent { data: self.spare.clone(), _held: held });
        CanvasFrame { data, ..self.frame.clone() }
    }
}

impl Drop for Brush {
    fn drop(&mut self) {
        self.canvases.change(&self.room, |easel| {
            easel.painter.send_replace(None);
        });
    }
}

impl View {
    /// The next frame must be a keyframe: a mixer began anew or lost one.
    pub fn want_keyframe(&self) {
        self.wishes.note(|wanted| wanted.keyframe = true);
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.canvases.change(&self.room, |easel| {
            easel.viewers.remove(&self.number);
            if easel.viewers.is_empty() {
                easel.wishes.note(|wanted| wanted.watched = false);
            }
        });
    }
}

/// Buffers of raw frames, used again: each is 3.5 MiB at 720p, and the allocator would give it back to the kernel each time.
#[derive(Clone, Debug, Default)]
struct Pool {
    free: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// A raw frame's data. Dropped with its last copy, it gives the buffer back.
struct Kept {
    buffer: Vec<u8>,
    pool: Pool,
}

/// The painter's credit, which dropping gives back.
struct Return {
    wishes: Arc<Wishes>,
}

impl Drop for Return {
    fn drop(&mut self) {
        self.wishes.note(|wanted| wanted.returned += 1);
    }
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let mut free = self.pool.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < CREDITS as usize && self.buffer.capacity() > 0 {
            free.push(std::mem::take(&mut self.buffer));
        }
    }
}

/// Data, with what is given back when it is done with.
struct Lent<T> {
    data: Bytes,
    _held: T,
}

impl<T> AsRef<[u8]> for Lent<T> {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Pool {
    /// The data for as long as anybody needs it. Raw frames are copied, so that the socket's own buffer is free for the next one.
    fn keep(&self, data: &Bytes, raw: bool) -> Bytes {
        if !raw {
            return data.clone();
        }
        let mut buffer = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(data);
        Bytes::from_owner(Kept { buffer, pool: self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room() -> RoomId {
        "jam".parse().expect("a room")
    }

    fn raw(fill: u8) -> CanvasFrame {
        let data = Bytes::from(vec![fill; 16 * 16 * 4]);
        CanvasFrame { format: CanvasFormat::Rgba, key: true, width: 16, height: 16, timestamp_us: 1, data }
    }

    #[test]
    fn a_room_has_one_canvas_at_a_time() {
        let canvases = Canvases::default();
        let first = canvases.open(&room(), "Ann").expect("free");
        assert_eq!(canvases.open(&room(), "Bob").err(), Some(Taken));
        drop(first);
        assert!(canvases.open(&room(), "Bob").is_ok());
        assert!(canvases.lock().is_empty(), "an easel that nobody needs is put away");
    }

    #[test]
    fn a_frame_comes_back_when_the_last_viewer_is_done_with_it() {
        let canvases = Canvases::default();
        let brush = canvases.open(&room(), "Ann").expect("free");
        assert!(!brush.wishes.take().watched);
        let (mut one, mut two) = (canvases.watch(&room()), canvases.watch(&room()));
        assert_eq!(one.painter.borrow().as_deref(), Some("Ann"));
        assert!(brush.wishes.take().watched);
        brush.paint(5, &raw(1));
        let stroke = one.strokes.try_recv().expect("painted");
        assert_eq!((stroke.arrival_us, stroke.frame.clone()), (5, raw(1)));
        drop(two.strokes.try_recv().expect("painted"));
        assert_eq!(brush.wishes.take().returned, 0);
        drop(stroke);
        assert_eq!(brush.wishes.take().returned, 1);
        drop((one, two));
        assert!(!brush.wishes.take().watched);
    }

    #[test]
    fn raw_frames_are_kept_in_the_same_buffers_again_and_again() {
        let canvases = Canvases::default();
        let brush = canvases.open(&room(), "Ann").expect("free");
        let mut view = canvases.watch(&room());
        let mut places = std::collections::BTreeSet::new();
        for n in 0..100 {
            brush.paint(0, &raw(n));
            let stroke = view.strokes.try_recv().expect("painted");
            assert_eq!(stroke.frame, raw(n));
            places.insert(stroke.frame.data.as_ptr() as usize);
        }
        assert_eq!(places.len(), 1, "a new buffer for a frame");
    }

    #[test]
    fn a_viewer_that_does_not_keep_up_loses_its_own_frames_only() {
        let canvases = Canvases::default();
        let brush = canvases.open(&room(), "Ann").expect("free");
        let (slow, mut quick) = (canvases.watch(&room()), canvases.watch(&room()));
        for n in 0..20 {
            brush.paint(0, &CanvasFrame { format: CanvasFormat::Vp8, ..raw(n) });
            assert!(quick.strokes.try_recv().is_ok());
        }
        assert_eq!(slow.strokes.len(), CREDITS as usize);
        assert!(brush.wishes.take().keyframe, "its next one must be a keyframe");
    }
}
