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
use crate::mixer::sound::splice::Splice;
use crate::mixer::sound::strip::Joint;
use crate::mixer::sound::strip::Piece;
use crate::model::scene::Placement;

/// A picture that has stalled this long leaves the programme; shorter pauses show its last frame. Nanoseconds.
pub(in crate::mixer) const STALL: i64 = 2 * SECOND;

/// Decoded pictures that wait for their time: the playout delay holds 12 at 60 fps, twice that is plenty.
const WAITING_PICTURES: usize = 32;

/// Decoded sound that waits for its time: 2 s of added delay and the playout delay in pieces of at least 2.5 ms.
const WAITING_SOUNDS: usize = 1024;

/// Samples a second of all sound.
const RATE: i64 = 48_000;

/// A stereo sample.
pub(in crate::mixer) type Sample = [f32; 2];

/// All seats of a programme: decoders fill them, the composing thread empties them.
#[derive(Debug, Default)]
pub(in crate::mixer) struct Seats {
    pictures: Mutex<Vec<Arc<PictureSeat>>>,
    sounds: Mutex<Vec<Arc<SoundSeat>>>,
    given: AtomicU64,
}

/// One picture source's seat.
#[derive(Debug)]
pub(in crate::mixer) struct PictureSeat {
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
pub(in crate::mixer) struct Picture {
    pub buffer: gst::Buffer,
    /// How it lies in its buffer, and what its numbers mean.
    pub info: Arc<VideoInfo>,
    /// Running time, nanoseconds.
    pub due: i64,
}

/// What a seat shows in one frame.
#[derive(Clone, Debug)]
pub(in crate::mixer) struct Shown {
    /// The seat's number, which no other seat of the programme ever has.
    pub seat: u64,
    pub placement: Placement,
    pub picture: Picture,
}

/// One sound source's seat.
#[derive(Debug, Default)]
pub(in crate::mixer) struct SoundSeat {
    inner: Mutex<Sounds>,
}

#[derive(Debug, Default)]
struct Sounds {
    waiting: VecDeque<Waiting>,
    /// The number of the sample that follows the last piece.
    end: Option<i64>,
    splice: Splice,
    has_left: bool,
}

/// A piece of sound that waits for its time.
#[derive(Debug)]
struct Waiting {
    /// The number of its first sample, counted from the programme's beginning.
    begin: i64,
    /// It does not go on where the piece before it ended.
    is_cut: bool,
    samples: Vec<Sample>,
}

impl Waiting {
    const fn end(&self) -> i64 {
        self.begin + self.samples.len() as i64
    }
}

impl Seats {
    /// A seat for pictures, at its place already.
    pub(in crate::mixer) fn seat_picture(&self, placement: Placement) -> Arc<PictureSeat> {
        let pictures = Pictures { placement, shown: None, waiting: VecDeque::new() };
        let number = self.given.fetch_add(1, Ordering::Relaxed);
        let seat = Arc::new(PictureSeat { number, inner: Mutex::new(pictures) });
        lock(&self.pictures).push(Arc::clone(&seat));
        seat
    }

    /// A seat for sound.
    pub(in crate::mixer) fn seat_sound(&self) -> Arc<SoundSeat> {
        let seat = Arc::new(SoundSeat::default());
        lock(&self.sounds).push(Arc::clone(&seat));
        seat
    }

    /// Takes a seat out of the programme with all that waits in it.
    pub(in crate::mixer) fn leave_picture(&self, seat: &Arc<PictureSeat>) {
        lock(&self.pictures).retain(|other| !Arc::ptr_eq(other, seat));
    }

    /// Takes a seat out of the programme with all that waits in it, once what is heard of it has faded out.
    pub(in crate::mixer) fn leave_sound(seat: &SoundSeat) {
        let mut inner = lock(&seat.inner);
        inner.has_left = true;
        inner.waiting.clear();
    }

    /// What is seen at this running time, in a frame of this length in nanoseconds; in the order in which the seats were taken.
    pub(in crate::mixer) fn pictures(&self, time: i64, frame: i64) -> Vec<Shown> {
        lock(&self.pictures).iter().filter_map(|seat| seat.at(time, frame)).collect()
    }

    /// Adds what is heard from this sample on to `mix`.
    pub(in crate::mixer) fn add_sounds(&self, from: i64, mix: &mut [Sample]) {
        lock(&self.sounds).retain(|seat| seat.add_to(from, mix));
    }
}

impl PictureSeat {
    /// Takes a decoded picture. A seat that is full loses its oldest one.
    pub(in crate::mixer) fn put(&self, picture: Picture) {
        let mut inner = lock(&self.inner);
        if inner.waiting.len() >= WAITING_PICTURES {
            inner.waiting.pop_front();
        }
        inner.waiting.push_back(picture);
    }

    /// Moves the picture.
    pub(in crate::mixer) fn place(&self, placement: Placement) {
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
    pub(in crate::mixer) fn put(&self, piece: Piece) {
        let mut inner = lock(&self.inner);
        if inner.has_left {
            return;
        }
        let begin = match (piece.joint, inner.end) {
            (Joint::Anew, _) | (_, None) => sample_at(piece.due),
            (Joint::Behind(silence), Some(end)) => end + silence as i64,
            (Joint::Seamless, Some(end)) => end,
        };
        inner.end = Some(begin + piece.samples.len() as i64);
        if inner.waiting.len() >= WAITING_SOUNDS {
            inner.waiting.pop_front();
        }
        inner.waiting.push_back(Waiting { begin, is_cut: piece.joint != Joint::Seamless, samples: piece.samples });
    }

    /// What was due before `from` is lost. `false` once nothing will ever be heard of it again.
    fn add_to(&self, from: i64, mix: &mut [Sample]) -> bool {
        let until = from + mix.len() as i64;
        let mut inner = lock(&self.inner);
        let Sounds { waiting, splice, has_left, .. } = &mut *inner;
        let mut at = from;
        let offset = |sample: i64| usize::try_from(sample - from).unwrap_or(0);
        for piece in waiting.iter_mut().take_while(|piece| piece.begin < until) {
            if at < piece.begin {
                splice.rest(&mut mix[offset(at)..offset(piece.begin)]);
                at = piece.begin;
            }
            match std::mem::take(&mut piece.is_cut) {
                true if at == piece.begin => splice.cut(),
                // It is met in its middle.
                true => splice.rest(&mut []),
                false => {}
            }
            let passed = usize::try_from(at - piece.begin).unwrap_or(0).min(piece.samples.len());
            splice.play(&piece.samples[passed..], &mut mix[offset(at)..]);
            at = at.max(piece.end()).min(until);
        }
        if at < until {
            splice.rest(&mut mix[offset(at)..]);
        }
        while waiting.pop_front_if(|piece| piece.end() <= until).is_some() {}
        !(*has_left && splice.is_silent())
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

    fn piece(due: i64, count: usize, level: f32, joint: Joint) -> Piece {
        Piece { due, samples: vec![[level, -level]; count], joint }
    }

    fn heard(seats: &Seats, from: i64, count: usize) -> Vec<f32> {
        let mut mix = vec![[0.0; 2]; count];
        seats.add_sounds(from, &mut mix);
        assert!(mix.iter().all(|[left, right]| *left == -right));
        mix.iter().map(|[left, _]| *left).collect()
    }

    fn largest_step(heard: &[f32]) -> f32 {
        heard.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn sounds_are_added_up_to_the_sample_wherever_their_pieces_begin() {
        let seats = Seats::default();
        let (one, other) = (seats.seat_sound(), seats.seat_sound());
        one.put(piece(SECOND, 5, 1.0, Joint::Anew));
        // A millisecond beside the end of the last one: only a sound that begins anew goes by its time.
        one.put(piece(SECOND + SECOND / 1000, 5, 2.0, Joint::Seamless));
        other.put(piece(SECOND + 4 * SECOND / 48_000 + 3000, 6, 4.0, Joint::Anew));
        assert_eq!(heard(&seats, 47_998, 4), [0.0, 0.0, 1.0, 1.0]);
        assert_eq!(heard(&seats, 48_002, 8), [1.0, 1.0, 5.0, 6.0, 6.0, 6.0, 6.0, 6.0]);
        assert!(lock(&one.inner).waiting.is_empty(), "what was heard is kept");
    }

    /// A programme of 30 frames a second until `until`; `act` is called before each frame.
    fn frames(seats: &Seats, count: i64, mut act: impl FnMut(i64)) -> Vec<f32> {
        let frame = RATE / 30;
        (0..count)
            .flat_map(|n| {
                act(n);
                heard(seats, n * frame, frame as usize)
            })
            .collect()
    }

    #[test]
    fn who_leaves_in_the_middle_of_a_note_fades_out() {
        let seats = Seats::default();
        let seat = seats.seat_sound();
        seat.put(piece(0, 48_000, 0.5, Joint::Anew));
        let sound = frames(&seats, 10, |n| {
            if n == 5 {
                Seats::leave_sound(&seat);
                seat.put(piece(0, 48_000, 0.5, Joint::Anew));
            }
        });
        assert!(largest_step(&sound) < 0.002, "{}", largest_step(&sound));
        assert_eq!((sound[7999], sound[8000 + 480]), (0.5, 0.0));
        assert!(lock(&seats.sounds).is_empty(), "its seat stays for ever");
    }

    #[test]
    fn a_hole_nobody_knew_of_before_is_faded_into_and_out_of() {
        // It is over in the middle of a frame, on its edge, soon, and so late that some of what comes then is over already.
        for (missing, comes_in) in [(4000, 4), (4800, 4), (100, 3), (4800, 7)] {
            let seats = Seats::default();
            let seat = seats.seat_sound();
            seat.put(piece(0, 4800, 0.5, Joint::Anew));
            let sound = frames(&seats, 12, |n| {
                if n == comes_in {
                    seat.put(piece(0, 19_200 - missing, 0.5, Joint::Behind(missing)));
                }
            });
            // What begins softly by itself does so in the strip.
            let steps = largest_step(&sound[..4800 + missing]).max(largest_step(&sound[4801 + missing..]));
            assert!(steps < 0.002, "{steps} with {missing} missing until frame {comes_in}");
            assert_eq!((sound[4799], sound[9600 + 4800]), (0.5, 0.5));
        }
    }

    #[test]
    fn sound_that_goes_on_too_late_fades_in_where_the_programme_is() {
        let seats = Seats::default();
        let seat = seats.seat_sound();
        seat.put(piece(0, 4000, 0.5, Joint::Anew));
        let sound = frames(&seats, 8, |n| {
            if n == 4 {
                seat.put(piece(0, 48_000, 0.5, Joint::Seamless));
            }
        });
        assert!(largest_step(&sound) < 0.002, "{}", largest_step(&sound));
        assert_eq!((sound[3999], sound[6399], sound[6400 + 480]), (0.5, 0.0, 0.5));
    }

    #[test]
    fn what_comes_when_it_is_over_is_not_heard_and_neither_is_what_was_before_it() {
        for joint in [Joint::Seamless, Joint::Behind(10)] {
            let seats = Seats::default();
            let seat = seats.seat_sound();
            seat.put(piece(0, 2000, 0.5, Joint::Anew));
            let sound = frames(&seats, 8, |n| {
                // Twice one that is over: before the sound has faded out, and in the silence after it.
                if n >= 2 {
                    seat.put(piece(0, 500, 0.5, joint));
                }
            });
            assert!(largest_step(&sound) < 0.002, "{}", largest_step(&sound));
            assert!(sound[2000 + 480..].iter().all(|value| *value == 0.0), "an echo, {joint:?}");
        }
    }

    #[test]
    fn a_scrap_between_two_cuts_fades_as_slowly_as_anything() {
        for scrap in [1, 20, 300] {
            let seats = Seats::default();
            let seat = seats.seat_sound();
            seat.put(piece(0, 2000, 0.5, Joint::Anew));
            seat.put(piece(0, scrap, 0.0, Joint::Behind(0)));
            let sound = frames(&seats, 4, |_| {});
            assert!(largest_step(&sound) < 0.002, "{} with {scrap} samples", largest_step(&sound));
        }
    }

    #[test]
    fn a_tail_sounds_like_what_it_ends() {
        let seats = Seats::default();
        let seat = seats.seat_sound();
        let tone = |n: usize| (n as f32 * 1000.0 * std::f32::consts::TAU / 48_000.0).sin();
        let samples = (0..4801).map(|n| [tone(n), -tone(n)]).collect();
        seat.put(Piece { due: 0, samples, joint: Joint::Anew });
        let sound = frames(&seats, 4, |_| {});
        // A decaying constant would leave a thump; of a tone's tail the two halves of each wave cancel out.
        let thump: f32 = sound[4801..4801 + 48].iter().sum();
        assert!(thump.abs() < 1.0 && largest_step(&sound) < 0.14, "{thump} and {}", largest_step(&sound));
        let loud = sound[4801..4849].iter().copied().fold(0.0, f32::max);
        assert!(loud > 0.8, "{loud}");
    }

    #[test]
    fn late_sound_is_heard_from_where_the_programme_is_and_early_sound_waits() {
        let seats = Seats::default();
        let seat = seats.seat_sound();
        seat.put(piece(-SECOND / 48_000 * 2, 1000, 1.0, Joint::Anew));
        seat.put(piece(10 * SECOND, 4, 1.0, Joint::Anew));
        let sound = heard(&seats, 0, 1600);
        assert_eq!((sound[0], sound[480], sound[997], sound[998 + 480]), (0.0, 1.0, 1.0, 0.0));
        assert_eq!(heard(&seats, 479_999, 2), [0.0, 1.0]);
    }
}
