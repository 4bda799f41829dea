//! The seats of the sources: what decoders have made waits here until it is due, and the newest picture stays until the next one is.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use gstreamer as gst;
use gstreamer_video::VideoInfo;

use crate::mixer::SECOND;
use crate::mixer::strip::Piece;
use crate::model::scene::Placement;

/// A picture that has stalled this long leaves the programme; shorter pauses show its last frame. Nanoseconds.
pub(super) const STALL: i64 = 2 * SECOND;

/// Decoded pictures that wait for their time: the playout delay holds 12 at 60 fps, twice that is plenty.
const WAITING_PICTURES: usize = 32;

/// Decoded sound that waits for its time: 2 s of added delay and the playout delay in pieces of at least 2.5 ms.
const WAITING_SOUNDS: usize = 1024;

/// Samples a second of all sound.
const RATE: i64 = 48_000;

/// A stereo sample.
pub(super) type Sample = [f32; 2];

/// All seats of a programme: decoders fill them, the composing thread empties them.
#[derive(Debug, Default)]
pub(super) struct Seats {
    pictures: Mutex<Vec<Arc<PictureSeat>>>,
    sounds: Mutex<Vec<Arc<SoundSeat>>>,
    given: AtomicU64,
}

/// One picture source's seat.
#[derive(Debug)]
pub(super) struct PictureSeat {
    number: u64,
    inner: Mutex<Pictures>,
}

#[derive(Debug)]
struct Pictures {
    placement: Placement,
    shown: Option<Picture>,
    waiting: VecDeque<Picture>,
}

/// A decoded picture.
#[derive(Clone, Debug)]
pub(super) struct Picture {
    pub buffer: gst::Buffer,
    /// How it lies in its buffer, and what its numbers mean.
    pub info: Arc<VideoInfo>,
    /// Running time, nanoseconds.
    pub due: i64,
}

/// What a seat shows in one frame.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    /// The seat's number, which no other seat of the programme ever has.
    pub seat: u64,
    pub placement: Placement,
    pub picture: Picture,
}

/// One sound source's seat.
#[derive(Debug, Default)]
pub(super) struct SoundSeat {
    inner: Mutex<Sounds>,
}

#[derive(Debug, Default)]
struct Sounds {
    /// Pieces with the number of their first sample, counted from the programme's beginning.
    waiting: VecDeque<(i64, Vec<Sample>)>,
    /// The number of the sample that follows the last piece.
    end: Option<i64>,
}

impl Seats {
    /// A seat for pictures, at its place already.
    pub(super) fn seat_picture(&self, placement: Placement) -> Arc<PictureSeat> {
        let pictures = Pictures { placement, shown: None, waiting: VecDeque::new() };
        let number = self.given.fetch_add(1, Ordering::Relaxed);
        let seat = Arc::new(PictureSeat { number, inner: Mutex::new(pictures) });
        lock(&self.pictures).push(Arc::clone(&seat));
        seat
    }

    /// A seat for sound.
    pub(super) fn seat_sound(&self) -> Arc<SoundSeat> {
        let seat = Arc::new(SoundSeat::default());
        lock(&self.sounds).push(Arc::clone(&seat));
        seat
    }

    /// Takes a seat out of the programme with all that waits in it.
    pub(super) fn leave_picture(&self, seat: &Arc<PictureSeat>) {
        lock(&self.pictures).retain(|other| !Arc::ptr_eq(other, seat));
    }

    /// Takes a seat out of the programme with all that waits in it.
    pub(super) fn leave_sound(&self, seat: &Arc<SoundSeat>) {
        lock(&self.sounds).retain(|other| !Arc::ptr_eq(other, seat));
    }

    /// What is seen at this running time, in a frame of this length in nanoseconds; in the order in which the seats were taken.
    pub(super) fn pictures(&self, time: i64, frame: i64) -> Vec<Shown> {
        lock(&self.pictures).iter().filter_map(|seat| seat.at(time, frame)).collect()
    }

    /// Adds what is heard from this sample on to `mix`.
    pub(super) fn add_sounds(&self, from: i64, mix: &mut [Sample]) {
        lock(&self.sounds).iter().for_each(|seat| seat.add_to(from, mix));
    }
}

impl PictureSeat {
    /// Takes a decoded picture. A seat that is full loses its oldest one.
    pub(super) fn put(&self, picture: Picture) {
        let mut inner = lock(&self.inner);
        if inner.waiting.len() >= WAITING_PICTURES {
            inner.waiting.pop_front();
        }
        inner.waiting.push_back(picture);
    }

    /// Moves the picture.
    pub(super) fn place(&self, placement: Placement) {
        lock(&self.inner).placement = placement;
    }

    fn at(&self, time: i64, frame: i64) -> Option<Shown> {
        let mut inner = lock(&self.inner);
        let mut seen: Option<i64> = None;
        let is_due =
            |due, seen: Option<i64>| due <= time && !seen.is_some_and(|seen| is_for_the_next(due, seen, time, frame));
        while let Some(picture) = inner.waiting.pop_front_if(|picture| is_due(picture.due, seen)) {
            seen = Some(picture.due);
            inner.shown = Some(picture);
        }
        if inner.shown.as_ref().is_some_and(|picture| time - picture.due > STALL) {
            inner.shown = None;
        }
        Some(Shown { seat: self.number, placement: inner.placement, picture: inner.shown.clone()? })
    }
}

impl SoundSeat {
    /// Takes a decoded piece. One that does not begin anew follows the last one to the sample, whatever rounding says of its time.
    pub(super) fn put(&self, piece: Piece) {
        let mut inner = lock(&self.inner);
        let begin = inner.end.filter(|_| !piece.begins).unwrap_or_else(|| sample_at(piece.due));
        inner.end = Some(begin + piece.samples.len() as i64);
        if inner.waiting.len() >= WAITING_SOUNDS {
            inner.waiting.pop_front();
        }
        inner.waiting.push_back((begin, piece.samples));
    }

    /// What was due before `from` is lost.
    fn add_to(&self, from: i64, mix: &mut [Sample]) {
        let until = from + mix.len() as i64;
        let mut inner = lock(&self.inner);
        for (begin, samples) in inner.waiting.iter().take_while(|(begin, _)| *begin < until) {
            let skipped = usize::try_from(from - begin).unwrap_or(0);
            let silent = usize::try_from(begin - from).unwrap_or(0);
            for (sum, [left, right]) in mix[silent..].iter_mut().zip(samples.iter().skip(skipped)) {
                sum[0] += left;
                sum[1] += right;
            }
        }
        while inner.waiting.front().is_some_and(|(begin, samples)| begin + samples.len() as i64 <= until) {
            inner.waiting.pop_front();
        }
    }
}

/// Whether a picture on the edge between the frame of `time` and the next one leaves this one to the picture before it, due at `before`. Of
/// a camera as fast as the programme whose pictures come on that edge none is lost then, and none seen twice.
const fn is_for_the_next(due: i64, before: i64, time: i64, frame: i64) -> bool {
    due > time - frame / 4 && due - before > frame * 5 / 8
}

/// The number of the sample nearest to a running time.
const fn sample_at(time: i64) -> i64 {
    (time as i128 * RATE as i128 + SECOND as i128 / 2).div_euclid(SECOND as i128) as i64
}

fn lock<T>(inner: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whatever panicked beside it, what is behind the lock is whole after each statement.
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::scene::Rect;

    const FRAME: i64 = SECOND / 30;

    fn picture(due: i64) -> Picture {
        gst::init().expect("GStreamer");
        let info = VideoInfo::builder(gstreamer_video::VideoFormat::I420, 16, 16).build().expect("a format");
        Picture { buffer: gst::Buffer::new(), info: Arc::new(info), due }
    }

    fn seen(seats: &Seats, time: i64) -> Vec<i64> {
        seats.pictures(time, FRAME).iter().map(|shown| shown.picture.due).collect()
    }

    #[test]
    fn a_picture_is_shown_from_its_time_until_the_next_one_or_two_seconds_have_passed() {
        let seats = Seats::default();
        let placement = Placement { rect: Rect { x: 0, y: 0, width: 16, height: 16 }, z: 1 };
        let seat = seats.seat_picture(placement);
        [1, 2, 4].iter().for_each(|n| seat.put(picture(n * FRAME)));
        assert!(seen(&seats, 0).is_empty());
        assert_eq!(seen(&seats, FRAME), [FRAME]);
        assert_eq!(seen(&seats, 3 * FRAME), [2 * FRAME]);
        assert_eq!(seen(&seats, 4 * FRAME + STALL), [4 * FRAME]);
        assert!(seen(&seats, 4 * FRAME + STALL + 1).is_empty());
        seat.put(picture(100 * FRAME));
        assert_eq!(seen(&seats, 100 * FRAME), [100 * FRAME]);
        seats.leave_picture(&seat);
        assert!(seen(&seats, 100 * FRAME).is_empty());
    }

    #[test]
    fn pictures_on_the_edge_between_two_frames_are_seen_once_each() {
        let seats = Seats::default();
        let placement = Placement { rect: Rect { x: 0, y: 0, width: 16, height: 16 }, z: 1 };
        let seat = seats.seat_picture(placement);
        // Now a little before the edge, now a little behind it.
        let due = |n: i64| n * FRAME + [3, -2, -4, 1, -3, 4, 2, -1][(n % 8) as usize] * SECOND / 1000;
        let mut all = Vec::new();
        for n in 1..=81 {
            seat.put(picture(due(n)));
            all.extend(seen(&seats, n * FRAME));
        }
        let mut once = all.clone();
        once.dedup();
        assert_eq!(once, (1..=80).map(due).collect::<Vec<_>>());
        assert_eq!(all.len() - once.len(), 1, "the first one that is late, and no other, is seen twice");
    }

    #[test]
    fn of_a_faster_camera_the_newest_picture_is_seen() {
        let seats = Seats::default();
        let placement = Placement { rect: Rect { x: 0, y: 0, width: 16, height: 16 }, z: 1 };
        let seat = seats.seat_picture(placement);
        for n in 1..=60 {
            let dues = [n * FRAME - FRAME / 2 - 1_000_000, n * FRAME - 1_000_000];
            dues.iter().for_each(|due| seat.put(picture(*due)));
            assert_eq!(seen(&seats, n * FRAME), [dues[1]]);
        }
    }

    #[test]
    fn a_full_seat_keeps_the_newest_pictures() {
        let seats = Seats::default();
        let placement = Placement { rect: Rect { x: 0, y: 0, width: 16, height: 16 }, z: 1 };
        let seat = seats.seat_picture(placement);
        (0..=WAITING_PICTURES as i64).for_each(|n| seat.put(picture(n)));
        assert!(seen(&seats, 0).is_empty());
        assert_eq!(seen(&seats, 1), [1]);
    }

    fn piece(due: i64, count: usize, level: f32, begins: bool) -> Piece {
        Piece { due, samples: vec![[level, -level]; count], begins }
    }

    fn heard(seats: &Seats, from: i64, count: usize) -> Vec<f32> {
        let mut mix = vec![[0.0; 2]; count];
        seats.add_sounds(from, &mut mix);
        assert!(mix.iter().all(|[left, right]| *left == -right));
        mix.iter().map(|[left, _]| *left).collect()
    }

    #[test]
    fn sounds_are_added_up_to_the_sample_wherever_their_pieces_begin() {
        let seats = Seats::default();
        let (one, other) = (seats.seat_sound(), seats.seat_sound());
        one.put(piece(SECOND, 5, 1.0, true));
        // A millisecond beside the end of the last one: only a sound that begins anew goes by its time.
        one.put(piece(SECOND + SECOND / 1000, 5, 2.0, false));
        other.put(piece(SECOND + 4 * SECOND / 48_000 + 3000, 4, 4.0, true));
        assert_eq!(heard(&seats, 47_998, 4), [0.0, 0.0, 1.0, 1.0]);
        assert_eq!(heard(&seats, 48_002, 8), [1.0, 1.0, 5.0, 6.0, 6.0, 6.0, 2.0, 2.0]);
        assert_eq!(heard(&seats, 48_010, 2), [0.0, 0.0]);
        assert!(lock(&one.inner).waiting.is_empty(), "what was heard is kept");
        seats.leave_sound(&one);
        one.put(piece(2 * SECOND, 5, 1.0, true));
        assert_eq!(heard(&seats, 96_000, 2), [0.0, 0.0]);
    }

    #[test]
    fn late_sound_is_heard_from_where_the_programme_is_and_early_sound_waits() {
        let seats = Seats::default();
        let seat = seats.seat_sound();
        seat.put(piece(-SECOND / 48_000 * 2, 4, 1.0, true));
        seat.put(piece(10 * SECOND, 4, 1.0, true));
        assert_eq!(heard(&seats, 0, 4), [1.0, 1.0, 0.0, 0.0]);
        assert_eq!(heard(&seats, 479_999, 2), [0.0, 1.0]);
    }
}
