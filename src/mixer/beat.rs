//! The programme's beat: once a frame, what is due is composed and mixed and handed to the encoders, whoever has something to show.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use gstreamer as gst;
use gstreamer_app::AppSrc;

use crate::mixer::SECOND;
use crate::mixer::error::Error;
use crate::mixer::monotonic;
use crate::mixer::picture::compositor::Background;
use crate::mixer::picture::compositor::Compositor;
use crate::mixer::source::seat::Sample;
use crate::mixer::source::seat::Seats;

/// Samples a second of the programme's sound.
const RATE: u64 = 48_000;

/// Samples in a frame of AAC.
const SOUND_FRAME: u64 = 1024;

/// A programme's time begins at a multiple of so many seconds of the machine's monotonic time. They hold 375 frames of AAC, and whole
/// pictures at any whole rate: so all mixers cut time at the same places, and the one that goes on where another died neither repeats nor
/// leaves out any of it.
const RASTER_S: u64 = 8;
const _: () = assert!((RASTER_S * RATE).is_multiple_of(SOUND_FRAME), "whole frames of sound");

/// What is composed of, and what the beat has done; shared with its thread.
#[derive(Debug)]
pub(super) struct Stage {
    pub seats: Seats,
    /// A frame is composed this long after its time, nanoseconds.
    patience: i64,
    background: Mutex<Background>,
    course: Mutex<Course>,
    /// Frames that were not composed, because the encoder was too far behind.
    overruns: AtomicU64,
    over: AtomicBool,
}

/// Which frames are composed, by their numbers.
#[derive(Debug, Default)]
struct Course {
    /// None before this one.
    first: u64,
    next: u64,
    /// None from this one on, while pictures go to the audience as they come.
    until: Option<u64>,
}

/// While no frame is composed, pictures stay for so long, nanoseconds: whoever takes over composes those that are late by less.
pub(super) const KEPT: i64 = 300_000_000;

/// At most so many seconds are composed and mixed late, after a machine stood still or when pictures are composed again after none were.
const MOST_LATE_S: u64 = 1;

/// The running beat. It ends when it is dropped.
#[derive(Debug)]
pub(super) struct Beat {
    stage: Arc<Stage>,
    thread: Option<JoinHandle<()>>,
}

/// What the beat's thread owns.
#[derive(Debug)]
struct Drummer {
    stage: Arc<Stage>,
    compositor: Compositor,
    pictures: AppSrc,
    sounds: AppSrc,
    fps: u32,
    /// Monotonic time of the programme's beginning, nanoseconds.
    begin: i64,
    /// The sample that is mixed next.
    unmixed: u64,
}

impl Stage {
    /// Each frame is composed `patience` nanoseconds after its time.
    pub(super) fn new(patience: i64) -> Self {
        Self {
            seats: Seats::default(),
            patience,
            background: Mutex::default(),
            course: Mutex::default(),
            overruns: AtomicU64::new(0),
            over: AtomicBool::new(false),
        }
    }

    /// From the next frame on this is where no picture is.
    pub(super) fn set_background(&self, background: Background) {
        *self.background.lock().unwrap_or_else(PoisonError::into_inner) = background;
    }

    pub(super) fn overruns(&self) -> u64 {
        self.overruns.load(Ordering::Relaxed)
    }

    /// No frame is composed for `due` or later. The running time of the last one before; `None` if a later one is composed already.
    pub(super) fn stop_before(&self, due: i64, fps: u32) -> Option<i64> {
        let mut course = self.course();
        let until = nearest(due, fps);
        if course.next > until || until == 0 || course.until.is_some() {
            return None;
        }
        course.until = Some(until);
        Some(time_of(until - 1, fps).cast_signed())
    }

    /// None is composed before this frame, and that one next.
    fn begin_at(&self, first: u64) {
        *self.course() = Course { first, next: first, until: None };
    }

    /// None is composed any more before this frame.
    fn leave_out_before(&self, number: u64) {
        let mut course = self.course();
        course.next = course.next.max(number);
    }

    /// Frames are composed again, from the one on that begins at `time`. Those that are being composed go on: none is twice.
    pub(super) fn compose_from(&self, time: i64, fps: u32) {
        let mut course = self.course();
        let least = if course.rests() { course.first } else { course.next };
        *course = Course { next: nearest(time, fps).max(least), until: None, ..*course };
    }

    /// The running time of the frame that is composed next, at `now`.
    pub(super) fn due_at(&self, now: i64, fps: u32) -> i64 {
        time_of(self.number_at(now, fps), fps).cast_signed()
    }

    fn number_at(&self, now: i64, fps: u32) -> u64 {
        let late = u128::from((now - self.patience).max(0).unsigned_abs());
        (late * u128::from(fps.max(1))).div_ceil(u128::from(SECOND.unsigned_abs())) as u64
    }

    /// The next frame to be composed, up to number `newest`.
    fn next(&self, newest: u64, fps: u32) -> Option<u64> {
        let mut course = self.course();
        let next = course.next.max(newest.saturating_sub(MOST_LATE_S * u64::from(fps)));
        if next > newest || course.until.is_some_and(|until| next >= until) {
            return None;
        }
        course.next = next + 1;
        Some(next)
    }

    /// Whether no frame is composed now.
    fn rests(&self) -> bool {
        self.course().rests()
    }

    fn course(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn background(&self) -> Background {
        self.background.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Course {
    fn rests(&self) -> bool {
        self.until.is_some_and(|until| self.next >= until)
    }
}

impl Beat {
    /// Strikes `fps` times a second, from now on; `begin` is running time zero. Pictures go to one entry, whose limit of buffers is how
    /// far the encoder may be behind, sound to the other.
    ///
    /// # Errors
    /// When the pictures' caps are not those of pictures, or the system gives no thread.
    pub(super) fn start(
        stage: &Arc<Stage>,
        pictures: AppSrc,
        sounds: AppSrc,
        fps: u32,
        begin: gst::ClockTime,
    ) -> Result<Self, Error> {
        let caps = pictures.caps().unwrap_or_else(gst::Caps::new_empty);
        let begin = begin.nseconds().cast_signed();
        let first = stage.number_at(monotonic() - begin, fps);
        stage.begin_at(first);
        let drummer = Drummer {
            stage: Arc::clone(stage),
            compositor: Compositor::new(&caps)?,
            pictures,
            sounds,
            fps: fps.max(1),
            begin,
            unmixed: first * RATE / u64::from(fps.max(1)) / SOUND_FRAME * SOUND_FRAME,
        };
        let thread = std::thread::Builder::new().name("beat".to_owned()).spawn(move || drummer.play(first))?;
        Ok(Self { stage: Arc::clone(stage), thread: Some(thread) })
    }

    /// Whether it ended without having been stopped: an encoder takes no more, or it panicked.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Nothing is composed any more when this returns.
    pub(super) fn stop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.stage.over.store(true, Ordering::Relaxed);
        thread.thread().unpark();
        if thread.join().is_err() {
            tracing::error!("the programme's beat panicked");
        }
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Drummer {
    /// From this beat on.
    fn play(mut self, mut n: u64) {
        // The pipeline's bus says why an encoder takes no more.
        while self.waits_until(self.begin + time_of(n, self.fps).cast_signed() + self.stage.patience) {
            let least = self.due().saturating_sub(MOST_LATE_S * u64::from(self.fps));
            if n < least {
                n = least;
                self.stage.leave_out_before(n);
            }
            if self.strike(n).is_err() {
                return;
            }
            n += 1;
        }
    }

    /// The number of the beat that is due next.
    fn due(&self) -> u64 {
        self.stage.number_at(monotonic() - self.begin, self.fps)
    }

    /// Whether the programme goes on.
    fn waits_until(&self, due: i64) -> bool {
        loop {
            if self.stage.over.load(Ordering::Relaxed) {
                return false;
            }
            let pause = due - monotonic();
            if pause <= 0 {
                return true;
            }
            std::thread::park_timeout(Duration::from_nanos(pause.unsigned_abs()));
        }
    }

    fn strike(&mut self, n: u64) -> Result<(), gst::FlowError> {
        while let Some(next) = self.stage.next(n, self.fps) {
            if self.pictures.current_level_buffers() < self.pictures.max_buffers() {
                let picture = self.picture(time_of(next, self.fps), time_of(next + 1, self.fps))?;
                self.pictures.push_buffer(picture)?;
            } else {
                self.stage.overruns.fetch_add(1, Ordering::Relaxed);
            }
        }
        if self.stage.rests() {
            let time = time_of(n, self.fps).cast_signed();
            let _not_composed = self.stage.seats.pictures(time - KEPT, 0);
        }
        let fps = u64::from(self.fps);
        let (from, mixed) = (goes_on_at(self.unmixed, n * RATE / fps), (n + 1) * RATE / fps);
        self.unmixed = mixed;
        let sound = self.sound(from, mixed)?;
        self.sounds.push_buffer(sound).map(drop)
    }

    fn picture(&mut self, time: u64, end: u64) -> Result<gst::Buffer, gst::FlowError> {
        // A picture is shown in the frame whose time is nearest to its own.
        let shown = self.stage.seats.pictures(time.midpoint(end).cast_signed(), (end - time).cast_signed());
        let mut picture = self.compositor.compose(&shown, &self.stage.background())?;
        stamp(&mut picture, time, end)?;
        Ok(picture)
    }

    fn sound(&self, from: u64, until: u64) -> Result<gst::Buffer, gst::FlowError> {
        let mut mix: Vec<Sample> = vec![[0.0; 2]; usize::try_from(until - from).unwrap_or(0)];
        self.stage.seats.add_sounds(from.cast_signed(), &mut mix);
        let bytes: Vec<u8> = mix.as_flattened().iter().flat_map(|value| value.to_le_bytes()).collect();
        let mut sound = gst::Buffer::from_mut_slice(bytes);
        let time = |sample: u64| (u128::from(sample) * u128::from(SECOND.unsigned_abs()) / u128::from(RATE)) as u64;
        stamp(&mut sound, time(from), time(until))?;
        Ok(sound)
    }
}

/// The sample from which on sound is mixed again at `due`, where none was from `unmixed` on: whole frames are left out.
const fn goes_on_at(unmixed: u64, due: u64) -> u64 {
    unmixed + due.saturating_sub(unmixed) / SOUND_FRAME * SOUND_FRAME
}

/// The monotonic time at which the time of a programme begins that starts at `now`.
pub(super) fn begin_of(now: gst::ClockTime) -> gst::ClockTime {
    gst::ClockTime::from_seconds(now.seconds() / RASTER_S * RASTER_S)
}

/// The running time of the frame that follows a picture of running time `last` and is nearest to a frame's time behind it.
pub(super) fn after(last: i64, fps: u32) -> i64 {
    time_of(nearest(last, fps) + 1, fps).cast_signed()
}

/// The number of the frame that is nearest to a running time.
fn nearest(time: i64, fps: u32) -> u64 {
    let (time, fps) = (u128::from(time.max(0).unsigned_abs()), u128::from(fps.max(1)));
    let second = u128::from(SECOND.unsigned_abs());
    ((time * fps + second / 2) / second) as u64
}

fn time_of(number: u64, fps: u32) -> u64 {
    number * SECOND.unsigned_abs() / u64::from(fps.max(1))
}

fn stamp(buffer: &mut gst::Buffer, begin: u64, end: u64) -> Result<(), gst::FlowError> {
    let buffer = buffer.get_mut().ok_or(gst::FlowError::Error)?;
    buffer.set_pts(gst::ClockTime::from_nseconds(begin));
    buffer.set_duration(gst::ClockTime::from_nseconds(end - begin));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: i64 = SECOND / 30;
    const PATIENCE: i64 = 40_000_000;

    fn composed(stage: &Stage, newest: u64) -> Vec<u64> {
        std::iter::from_fn(|| stage.next(newest, 30)).collect()
    }

    #[test]
    fn frames_are_composed_up_to_a_picture_that_takes_over_and_from_the_one_on_that_follows_its_last() {
        let stage = Stage::new(PATIENCE);
        assert_eq!(composed(&stage, 0), [0]);
        assert_eq!(composed(&stage, 1), [1]);
        // A picture of the time of frame 4, a little early.
        assert_eq!(stage.stop_before(4 * FRAME - 5_000_000, 30), Some(3 * SECOND / 30));
        assert_eq!(composed(&stage, 2), [2]);
        assert_eq!(composed(&stage, 9), [3]);
        assert_eq!(stage.stop_before(20 * FRAME, 30), None, "it has stopped already");
        let again = after(10 * FRAME + 15_000_000, 30);
        assert_eq!(again, 11 * SECOND / 30);
        stage.compose_from(again, 30);
        assert_eq!(composed(&stage, 13), [11, 12, 13], "those that are late as well");
        assert_eq!(composed(&stage, 13), [0; 0]);
    }

    #[test]
    fn a_picture_that_comes_after_its_frame_was_composed_does_not_take_over() {
        let stage = Stage::new(PATIENCE);
        assert_eq!(composed(&stage, 7).len(), 8);
        assert_eq!(stage.stop_before(7 * FRAME, 30), None);
        assert_eq!(composed(&stage, 8), [8]);
        assert_eq!(stage.stop_before(9 * FRAME, 30), Some(8 * SECOND / 30));
    }

    #[test]
    fn who_takes_over_goes_on_with_the_frame_that_is_due_next() {
        let stage = Stage::new(PATIENCE);
        assert_eq!(composed(&stage, 0), [0]);
        assert!(stage.stop_before(FRAME, 30).is_some() && stage.rests());
        assert_eq!(composed(&stage, 90), [0; 0]);
        let now = 100 * FRAME + PATIENCE;
        assert_eq!(stage.due_at(now - 1_000_000, 30), time_of(100, 30).cast_signed());
        assert_eq!(stage.due_at(now + 1_000_000, 30), time_of(101, 30).cast_signed());
        assert_eq!(stage.due_at(0, 30), 0, "before the first one is due");
        stage.compose_from(stage.due_at(now - 1_000_000, 30), 30);
        assert!(!stage.rests());
        assert_eq!(composed(&stage, 99), [0; 0]);
        assert_eq!(composed(&stage, 101), [100, 101]);
    }

    #[test]
    fn who_takes_over_before_it_came_to_rest_composes_nothing_twice_and_nothing_from_before_its_time() {
        let stage = Stage::new(PATIENCE);
        stage.begin_at(90);
        assert_eq!(composed(&stage, 92), [90, 91, 92]);
        stage.compose_from(85 * FRAME, 30);
        assert_eq!(composed(&stage, 93), [93]);
        assert!(stage.stop_before(95 * FRAME, 30).is_some());
        stage.compose_from(85 * FRAME, 30);
        assert_eq!(composed(&stage, 94), [94], "it was still on its way to rest");
        assert!(stage.stop_before(95 * FRAME, 30).is_some() && stage.rests());
        stage.compose_from(85 * FRAME, 30);
        assert_eq!(composed(&stage, 95), [90, 91, 92, 93, 94, 95], "it composed for nobody meanwhile");
    }

    #[test]
    fn sound_that_is_left_out_is_whole_frames_of_it() {
        assert_eq!(goes_on_at(1600, 1600), 1600);
        assert_eq!(goes_on_at(1600, 1600 + 1023), 1600);
        assert_eq!(goes_on_at(1600, 48_000), 1600 + 45 * 1024);
        assert!(48_000 - goes_on_at(1600, 48_000) < 1024);
    }

    #[test]
    fn what_is_too_late_is_not_composed_any_more() {
        let stage = Stage::new(PATIENCE);
        stage.compose_from(0, 30);
        assert_eq!(composed(&stage, 300).first(), Some(&270));
        // The beat itself has stood still, and leaves the same of the sound.
        stage.leave_out_before(400);
        assert_eq!(composed(&stage, 401), [400, 401]);
    }
}
