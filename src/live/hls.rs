//! HLS for outside viewers: the newest segments of every stream that offers them, in memory, and where they are fetched from.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tracing::warn;

use crate::model::id::StreamId;
use crate::model::media::CodecConfig;
use crate::model::media::EncodedFrame;
use crate::model::spec::ProgrammeSpec;
use crate::proto::hls::Packager;
use crate::proto::hls::Segment;
use crate::proto::hls::Window;

/// How long the last segments of a stream that has ended can be fetched: a viewer who is thirty seconds behind sees its end.
const GRACE: Duration = Duration::from_secs(60);

/// A cloneable handle to the segments of all streams.
#[derive(Clone, Default)]
pub struct Shelves {
    streams: Arc<Mutex<HashMap<StreamId, Arc<Shelf>>>>,
}

/// The segments of one stream.
pub struct Shelf {
    window: Mutex<Window>,
}

/// A stream's end of its shelf.
pub(in crate::live) struct Stocker {
    id: StreamId,
    packager: Packager,
    shelf: Arc<Shelf>,
    shelves: Shelves,
}

/// Where the playlist of a stream is, on this gateway.
pub(in crate::live) fn url(id: StreamId) -> String {
    format!("/hls/{id}/index.m3u8")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while holding these locks, and a window of whole segments is valid at every step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shelves {
    /// The segments of a stream that offers them and runs, or ran a moment ago.
    pub fn of(&self, id: StreamId) -> Option<Arc<Shelf>> {
        lock(&self.streams).get(&id).map(Arc::clone)
    }

    pub(in crate::live) fn open(&self, id: StreamId, programme: &ProgrammeSpec) -> Stocker {
        let shelf = Arc::new(Shelf { window: Mutex::new(Window::new(programme.keyframe_interval_s)) });
        lock(&self.streams).insert(id, Arc::clone(&shelf));
        Stocker { id, packager: Packager::new(programme), shelf, shelves: self.clone() }
    }
}

impl Shelf {
    /// The playlist; `None` before the first segment.
    pub fn playlist(&self) -> Option<String> {
        lock(&self.window).playlist()
    }

    pub fn segment(&self, number: u64) -> Option<Bytes> {
        lock(&self.window).segment(number)
    }

    /// What a decoder must know before the segments that name it.
    pub fn init(&self, number: u32) -> Option<Bytes> {
        lock(&self.window).init(number)
    }
}

impl Stocker {
    pub(in crate::live) fn set_config(&mut self, config: &CodecConfig) {
        let (last, outcome) = self.packager.set_config(config);
        self.put(last);
        if let Err(error) = outcome {
            warn!(%error, "there is no HLS of this stream");
        }
    }

    /// Takes a frame at `now_ms` since the Unix epoch; `true` asks for a keyframe.
    pub(in crate::live) fn take(&mut self, frame: &EncodedFrame, now_ms: i64) -> bool {
        let ended = self.packager.take(frame, now_ms);
        self.put(ended);
        self.packager.wants_keyframe()
    }

    /// The mixer is gone; another may go on later.
    pub(in crate::live) fn interrupt(&mut self) {
        let last = self.packager.interrupt();
        self.put(last);
    }

    fn put(&self, segment: Option<Segment>) {
        if let Some(segment) = segment {
            lock(&self.shelf.window).push(segment);
        }
    }

    /// Ends the playlist. The future takes the segments away when nobody needs them any more.
    pub(in crate::live) fn finish(mut self) -> impl Future<Output = ()> + Send + 'static {
        self.interrupt();
        lock(&self.shelf.window).end();
        let until = Instant::now() + GRACE;
        async move {
            tokio::time::sleep_until(until).await;
            lock(&self.shelves.streams).remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::media::MediaKind;

    #[tokio::test(start_paused = true)]
    async fn an_ended_stream_says_so_for_a_minute_and_is_gone_then() {
        let shelves = Shelves::default();
        let id = StreamId::generate();
        let mut stocker = shelves.open(id, &ProgrammeSpec::default());
        let shelf = shelves.of(id).expect("open");
        assert_eq!(shelf.playlist(), None);
        // Of x264 and voaacenc.
        let avc = b"\x01\x64\0\x1f\xff\xe1\0\x1d\x67\x64\0\x1f\xac\xb4\x02\x80\x2d\xd8\x0b\x50\x10\x10\x14\0\0\x03\0\x04\0\0\x03\0\xf2\x3c\x60\xca\x80\x01\0\x04\x68\xef\x3c\xb0";
        stocker.set_config(&CodecConfig { avc: Bytes::from_static(avc), aac: Bytes::from_static(&[0x11, 0x90]) });
        for second in 0..3 {
            let (pts_us, data) = (second * 1_000_000, Bytes::from_static(&[0; 100]));
            let key = second % 2 == 0;
            stocker.take(&EncodedFrame { kind: MediaKind::Video, pts_us, dts_us: pts_us, key, data }, 0);
        }
        assert!(shelf.playlist().is_some_and(|text| text.contains("\n0.m4s\n") && !text.contains("ENDLIST")));
        assert!(shelf.segment(0).is_some() && shelf.init(1).is_some() && shelf.segment(1).is_none());
        let removal = tokio::spawn(stocker.finish());
        tokio::task::yield_now().await;
        assert!(shelf.playlist().is_some_and(|text| text.ends_with("\n1.m4s\n#EXT-X-ENDLIST\n")));
        tokio::time::advance(GRACE - Duration::from_secs(1)).await;
        assert!(shelves.of(id).is_some());
        removal.await.expect("no panic");
        assert!(shelves.of(id).is_none());
    }
}
