//! One encode to many destinations: a bounded, GOP-aware queue for each.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::time::Duration;

use tokio::sync::Notify;

use crate::model::media::CodecConfig;
use crate::model::media::EncodedFrame;
use crate::model::media::MediaKind;

/// Pictures older than this are not worth sending any more: a keyframe is at most this far away.
const MAX_VIDEO_AGE_US: u64 = 2_000_000;
/// Sound is kept longer: it is small, and a listener misses it more than a picture.
const MAX_AUDIO_AGE_US: u64 = 3_000_000;
/// When sound has to go, this much of the newest stays, so that it does not go frame by frame.
const KEPT_AUDIO_US: u64 = 1_000_000;
/// Three seconds of 60 pictures and 47 sounds each, rounded up.
const MAX_FRAMES: usize = 400;
/// Three seconds at 20 Mbit/s, more than any platform takes.
const MAX_BYTES: usize = 8 << 20;

/// The programme's end of all queues. Dropping it ends the subscriptions.
#[derive(Default)]
pub struct Fanout {
    config: Mutex<Option<CodecConfig>>,
    queues: Mutex<Vec<Weak<Queue>>>,
    keyframe_wanted: Arc<Notify>,
}

/// What a destination takes out of its queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// Comes first, and again whenever it changes; a keyframe is the next picture.
    Config(CodecConfig),
    Frame(EncodedFrame),
}

/// One destination's queue. Nothing is queued before [`Subscription::start`].
pub struct Subscription {
    queue: Arc<Queue>,
    keyframe_wanted: Arc<Notify>,
}

/// A look at a destination's queue from outside of its task.
#[derive(Clone)]
pub struct QueueView {
    queue: Arc<Queue>,
}

/// How a queue stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Newest minus oldest queued time of pictures or of sounds: one of them may go ahead of the other without waiting for anything.
    pub age: Duration,
    /// Bytes of the queued frames.
    pub bytes: u64,
    /// Frames lost because the destination was slow, since the subscription began.
    pub dropped_frames: u64,
}

#[derive(Default)]
struct Queue {
    inner: Mutex<Inner>,
    ready: Notify,
}

#[derive(Default)]
struct Inner {
    flow: Flow,
    items: VecDeque<Item>,
    config: Option<CodecConfig>,
    bytes: usize,
    dropped_frames: u64,
    ended: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Flow {
    /// Nobody is there to send anything to.
    #[default]
    Paused,
    /// On air again, from the next keyframe on; what comes before was never promised.
    Starting,
    Flowing,
    /// Pictures were dropped; those up to the next keyframe are useless and count as dropped too. Sound goes on.
    Skipping,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while holding these locks, and a queue of whole frames is valid at every step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fanout {
    pub fn new() -> Self {
        Self::default()
    }

    /// What decoders must know; every subscription gets it before its next frame.
    pub fn set_config(&self, config: CodecConfig) {
        let mut current = lock(&self.config);
        if current.as_ref() == Some(&config) {
            return;
        }
        self.each(|queue| queue.set_config(&config));
        *current = Some(config);
    }

    /// Offers a frame to every subscription. Never waits: a slow one loses its own frames.
    pub fn push(&self, frame: &EncodedFrame) {
        self.each(|queue| queue.push(frame));
    }

    fn each(&self, mut act: impl FnMut(&Queue)) {
        lock(&self.queues).retain(|queue| queue.upgrade().inspect(|queue| act(queue)).is_some());
    }

    pub fn subscribe(&self) -> Subscription {
        let queue = Arc::new(Queue::default());
        // The configuration is locked first, as in `set_config`, so that none is missed in between.
        let config = lock(&self.config);
        lock(&queue.inner).config.clone_from(&config);
        lock(&self.queues).push(Arc::downgrade(&queue));
        drop(config);
        Subscription { queue, keyframe_wanted: self.keyframe_wanted() }
    }

    /// Notified when a destination (re)starts: the encoder should make a keyframe now.
    pub fn keyframe_wanted(&self) -> Arc<Notify> {
        Arc::clone(&self.keyframe_wanted)
    }
}

impl Drop for Fanout {
    fn drop(&mut self) {
        self.each(|queue| {
            lock(&queue.inner).ended = true;
            queue.ready.notify_one();
        });
    }
}

impl Subscription {
    /// Begins at the live edge: the configuration, then the next keyframe, which is asked for.
    pub fn start(&mut self) {
        let mut inner = lock(&self.queue.inner);
        inner.clear();
        inner.flow = Flow::Starting;
        if let Some(config) = inner.config.clone() {
            inner.items.push_back(Item::Config(config));
        }
        drop(inner);
        self.queue.ready.notify_one();
        self.keyframe_wanted.notify_one();
    }

    /// Stops queueing; what waits is let go without counting as dropped.
    pub fn pause(&mut self) {
        let mut inner = lock(&self.queue.inner);
        inner.clear();
        inner.flow = Flow::Paused;
    }

    /// The next item, or `None` when the programme has ended. Safe to cancel.
    pub async fn next(&mut self) -> Option<Item> {
        loop {
            {
                let mut inner = lock(&self.queue.inner);
                if let Some(item) = inner.pop() {
                    return Some(item);
                }
                if inner.ended {
                    return None;
                }
            }
            self.queue.ready.notified().await;
        }
    }

    pub fn backlog(&self) -> Backlog {
        self.queue.backlog()
    }

    pub fn view(&self) -> QueueView {
        QueueView { queue: Arc::clone(&self.queue) }
    }
}

impl QueueView {
    pub fn backlog(&self) -> Backlog {
        self.queue.backlog()
    }
}

impl Queue {
    fn backlog(&self) -> Backlog {
        let inner = lock(&self.inner);
        Backlog {
            age: Duration::from_micros(inner.longest_us()),
            bytes: inner.bytes as u64,
            dropped_frames: inner.dropped_frames,
        }
    }

    fn set_config(&self, config: &CodecConfig) {
        let mut inner = lock(&self.inner);
        inner.config = Some(config.clone());
        if inner.flow != Flow::Paused {
            // Of several without a frame between them only the last matters, and it bounds their number.
            if matches!(inner.items.back(), Some(Item::Config(_))) {
                inner.items.pop_back();
            }
            inner.items.push_back(Item::Config(config.clone()));
        }
        if inner.flow == Flow::Flowing {
            inner.flow = Flow::Skipping;
        }
        drop(inner);
        self.ready.notify_one();
    }

    fn push(&self, frame: &EncodedFrame) {
        let mut inner = lock(&self.inner);
        let is_key = frame.kind == MediaKind::Video && frame.key;
        match inner.flow {
            Flow::Paused => return,
            Flow::Starting if !is_key => return,
            Flow::Skipping if frame.kind == MediaKind::Video && !is_key => {
                inner.dropped_frames += 1;
                return;
            }
            Flow::Starting | Flow::Skipping if is_key => inner.flow = Flow::Flowing,
            Flow::Starting | Flow::Skipping | Flow::Flowing => {}
        }
        inner.bytes += frame.data.len();
        inner.items.push_back(Item::Frame(frame.clone()));
        inner.trim();
        drop(inner);
        self.ready.notify_one();
    }
}

impl Inner {
    fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        if let Item::Frame(frame) = &item {
            self.bytes -= frame.data.len();
        }
        Some(item)
    }

    fn clear(&mut self) {
        self.items.clear();
        self.bytes = 0;
    }

    fn frames(&self) -> impl DoubleEndedIterator<Item = &EncodedFrame> {
        self.items.iter().filter_map(|item| match item {
            Item::Frame(frame) => Some(frame),
            Item::Config(_) => None,
        })
    }

    /// Newest time of all minus oldest of this kind.
    fn age_us(&self, kind: MediaKind) -> u64 {
        let newest = self.frames().map(|frame| frame.dts_us).max();
        let oldest = self.frames().find(|frame| frame.kind == kind).map(|frame| frame.dts_us);
        newest.zip(oldest).map_or(0, |(newest, oldest)| newest.saturating_sub(oldest))
    }

    fn longest_us(&self) -> u64 {
        let length = |kind| {
            let mut times = self.frames().filter(|frame| frame.kind == kind).map(|frame| frame.dts_us);
            let oldest = times.next().unwrap_or(0);
            times.next_back().map_or(0, |newest| newest.saturating_sub(oldest))
        };
        length(MediaKind::Video).max(length(MediaKind::Audio))
    }

    fn is_full(&self) -> bool {
        self.items.len() > MAX_FRAMES || self.bytes > MAX_BYTES
    }

    /// Restores the bounds: pictures go first, and whole groups of them; then the oldest sound; configurations never.
    fn trim(&mut self) {
        if self.age_us(MediaKind::Video) > MAX_VIDEO_AGE_US || self.is_full() {
            self.drop_pictures();
        }
        if self.age_us(MediaKind::Audio) > MAX_AUDIO_AGE_US || self.is_full() {
            let newest = self.frames().map(|frame| frame.dts_us).max().unwrap_or(0);
            self.drop_frames(|_, frame| frame.kind == MediaKind::Audio && frame.dts_us + KEPT_AUDIO_US < newest);
        }
        // Only frames without sensible times or sizes get here.
        if self.is_full() {
            self.drop_frames(|_, _| true);
            self.flow = Flow::Skipping;
        }
    }

    /// Drops all pictures before the newest keyframe, and that group too if it is all there is.
    fn drop_pictures(&mut self) {
        let is_video = |item: &Item| matches!(item, Item::Frame(frame) if frame.kind == MediaKind::Video);
        let first = self.items.iter().position(is_video);
        let newest_key = self
            .items
            .iter()
            .rposition(|item| matches!(item, Item::Frame(frame) if frame.kind == MediaKind::Video && frame.key))
            .filter(|key| Some(*key) != first);
        match newest_key {
            Some(key) => {
                self.drop_frames(|index, frame| frame.kind == MediaKind::Video && index < key);
            }
            None => {
                self.drop_frames(|_, frame| frame.kind == MediaKind::Video);
                self.flow = Flow::Skipping;
            }
        }
    }

    fn drop_frames(&mut self, mut goes: impl FnMut(usize, &EncodedFrame) -> bool) {
        let mut index = 0;
        let (mut dropped, mut bytes) = (0, 0);
        self.items.retain(|item| {
            let stays = match item {
                Item::Config(_) => true,
                Item::Frame(frame) if goes(index, frame) => {
                    dropped += 1;
                    bytes += frame.data.len();
                    false
                }
                Item::Frame(_) => true,
            };
            index += 1;
            stays
        });
        self.dropped_frames += dropped;
        self.bytes -= bytes;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::FutureExt;

    use super::*;

    fn config(byte: u8) -> CodecConfig {
        CodecConfig { avc: Bytes::from(vec![byte]), aac: Bytes::from_static(&[0x11, 0x90]) }
    }

    fn frame(kind: MediaKind, ms: u64, key: bool) -> EncodedFrame {
        EncodedFrame { kind, pts_us: ms * 1000, dts_us: ms * 1000, key, data: Bytes::from_static(&[0; 100]) }
    }

    /// Pictures every 40 ms with a keyframe each second, sound every 20 ms.
    fn play(fanout: &Fanout, from_ms: u64, to_ms: u64) {
        for ms in (from_ms..to_ms).step_by(20) {
            if ms % 40 == 0 {
                fanout.push(&frame(MediaKind::Video, ms, ms % 1000 == 0));
            }
            fanout.push(&frame(MediaKind::Audio, ms, true));
        }
    }

    fn drain(subscription: &mut Subscription) -> Vec<Item> {
        std::iter::from_fn(|| subscription.next().now_or_never().flatten()).collect()
    }

    fn frames(items: &[Item], kind: MediaKind) -> Vec<&EncodedFrame> {
        items
            .iter()
            .filter_map(|item| match item {
                Item::Frame(frame) if frame.kind == kind => Some(frame),
                Item::Frame(_) | Item::Config(_) => None,
            })
            .collect()
    }

    /// Every picture is a keyframe or follows the one before it.
    fn assert_decodable(items: &[Item]) {
        let pictures = frames(items, MediaKind::Video);
        assert!(pictures.first().is_some_and(|frame| frame.key));
        for pair in pictures.windows(2) {
            assert!(pair[1].key || pair[1].dts_us - pair[0].dts_us == 40_000, "{} us", pair[1].dts_us);
        }
    }

    #[tokio::test]
    async fn a_subscription_begins_with_the_configuration_and_a_keyframe() {
        let fanout = Fanout::new();
        fanout.set_config(config(1));
        let mut subscription = fanout.subscribe();
        play(&fanout, 0, 500);
        subscription.start();
        assert!(fanout.keyframe_wanted().notified().now_or_never().is_some());
        play(&fanout, 500, 2000);
        let items = drain(&mut subscription);
        assert_eq!(items[0], Item::Config(config(1)));
        assert_eq!(items[1], Item::Frame(frame(MediaKind::Video, 1000, true)));
        assert_eq!(items.len(), 1 + 25 + 50);
        assert_eq!(subscription.backlog().dropped_frames, 0);
    }

    #[tokio::test]
    async fn a_slow_destination_loses_pictures_first_and_only_its_own() {
        let fanout = Fanout::new();
        fanout.set_config(config(1));
        let (mut slow, mut quick) = (fanout.subscribe(), fanout.subscribe());
        slow.start();
        quick.start();
        let mut seen = 0;
        for ms in (0..2800).step_by(20) {
            play(&fanout, ms, ms + 20);
            seen += drain(&mut quick).len();
        }
        assert_eq!((seen, quick.backlog()), (1 + 70 + 140, Backlog::default()));
        assert!(slow.backlog().age <= Duration::from_secs(3));
        let items = drain(&mut slow);
        assert_eq!(items[0], Item::Config(config(1)));
        // All the sound is there, and the pictures begin again at a keyframe.
        assert_eq!(frames(&items, MediaKind::Audio).len(), 140);
        assert!(frames(&items, MediaKind::Video).first().is_some_and(|frame| frame.key && frame.dts_us >= 1_000_000));
        assert_decodable(&items);
        let lost = 70 - frames(&items, MediaKind::Video).len() as u64;
        assert_eq!(slow.backlog().dropped_frames, lost);
    }

    #[tokio::test]
    async fn a_destination_that_takes_nothing_costs_bounded_memory_and_comes_back_at_the_live_edge() {
        let fanout = Fanout::new();
        fanout.set_config(config(1));
        let mut subscription = fanout.subscribe();
        subscription.start();
        play(&fanout, 0, 60_000);
        assert!(subscription.backlog().age <= Duration::from_secs(3));
        let items = drain(&mut subscription);
        assert_eq!(items[0], Item::Config(config(1)));
        assert_decodable(&items);
        assert!(items.len() < MAX_FRAMES);
        let big = EncodedFrame { data: Bytes::from(vec![0; 3 << 20]), ..frame(MediaKind::Video, 60_000, true) };
        for _ in 0..50 {
            fanout.push(&big);
            assert!(lock(&subscription.queue.inner).bytes <= MAX_BYTES);
        }
    }

    #[tokio::test]
    async fn pictures_without_their_keyframe_are_not_sent() {
        let fanout = Fanout::new();
        let mut subscription = fanout.subscribe();
        subscription.start();
        // One group of 2.2 s: the queue lets go of all of it and waits for the next keyframe.
        for ms in (0..3400).step_by(40) {
            fanout.push(&frame(MediaKind::Video, ms, ms == 0 || ms == 3000));
        }
        let items = drain(&mut subscription);
        assert_decodable(&items);
        assert_eq!(frames(&items, MediaKind::Video).len(), 10);
        assert_eq!(subscription.backlog().dropped_frames, 75);
    }

    #[tokio::test]
    async fn a_new_configuration_comes_before_the_keyframe_that_needs_it() {
        let fanout = Fanout::new();
        fanout.set_config(config(1));
        let mut subscription = fanout.subscribe();
        subscription.start();
        play(&fanout, 0, 100);
        fanout.set_config(config(2));
        play(&fanout, 520, 1040);
        let items = drain(&mut subscription);
        let at = items.iter().position(|item| *item == Item::Config(config(2))).expect("queued");
        assert!(frames(&items[at..], MediaKind::Video)[0].key);
    }

    #[tokio::test]
    async fn the_end_of_the_programme_ends_the_subscription() {
        let fanout = Fanout::new();
        let mut subscription = fanout.subscribe();
        drop(fanout);
        assert_eq!(subscription.next().await, None);
    }
}
