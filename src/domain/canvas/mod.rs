//! One canvas feed in virtual time: which of its frames go on, how many its sender may send, and what its network takes.

pub mod pace;

use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;

use crate::domain::canvas::pace::Pace;
use crate::domain::canvas::pace::Pacer;
use crate::model::media::CanvasFormat;
use crate::model::media::CanvasFrame;

/// Frames that may be between the sender and the mixer: at 30 fps they cover a round trip of 200 ms, and on a network that takes 15
/// of them a second none is older than 0.4 s.
pub const CREDITS: u32 = 6;

/// Frames taken a second for ever, and at once: no screen shows more, and a network may hold some back and let them go together.
const MOST_FPS: u32 = 60;
const BURST: u32 = 16;

/// Between two requests for the same keyframe: a round trip to the far side of the world and an encoder's answer.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// What the sender is to be told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Output {
    /// So many more frames may be sent.
    Credit(u32),
    Pace(Pace),
    Keyframe,
}

/// Why a frame does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Dropped {
    #[error("nobody watches this canvas now")]
    Unwatched,
    #[error("it was sent without a credit")]
    NoCredit,
    #[error("more than {MOST_FPS} frames a second came")]
    TooFast,
    #[error("it builds on frames that were lost or of another kind; a keyframe is needed")]
    NoKeyframe,
}

impl Dropped {
    /// Label of its metric.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unwatched => "unwatched",
            Self::NoCredit => "no_credit",
            Self::TooFast => "too_fast",
            Self::NoKeyframe => "no_keyframe",
        }
    }
}

/// See the file.
#[derive(Debug)]
pub struct Feed {
    watched: bool,
    /// Frames the sender may still send.
    granted: u32,
    /// Frames on their way to the mixer.
    held: u32,
    /// The last frame that went on: what a delta may build on.
    last: Option<Kind>,
    keyframe: Keyframe,
    /// When the next frame would be too early if there were no burst.
    even: Instant,
    pacer: Pacer,
    outputs: VecDeque<Output>,
}

type Kind = (CanvasFormat, u16, u16);

#[derive(Clone, Copy, Debug)]
enum Keyframe {
    Held,
    Wanted { asked_at: Option<Instant> },
}

impl Feed {
    /// A feed that nobody watches yet.
    pub fn new(now: Instant) -> Self {
        let mut feed = Self {
            watched: false,
            granted: 0,
            held: 0,
            last: None,
            keyframe: Keyframe::Held,
            even: now,
            pacer: Pacer::new(now),
            outputs: VecDeque::new(),
        };
        feed.outputs.push_back(Output::Pace(Pace::NOTHING));
        feed
    }

    /// Somebody began or nobody goes on to watch.
    pub fn watch(&mut self, now: Instant, watched: bool) {
        if self.watched == watched {
            return;
        }
        self.watched = watched;
        if watched {
            self.pacer.begin(now);
            self.outputs.push_back(Output::Pace(self.pacer.pace()));
            self.want_keyframe(now);
            self.grant();
        } else {
            self.outputs.push_back(Output::Pace(Pace::NOTHING));
        }
    }

    /// Whether a frame goes on. One that does is out of the sender's hands until [`Feed::returned`] tells that it has left the gateway.
    ///
    /// # Errors
    /// Why it does not.
    pub fn frame(&mut self, now: Instant, frame: &CanvasFrame) -> Result<(), Dropped> {
        if self.granted == 0 {
            return Err(Dropped::NoCredit);
        }
        self.granted -= 1;
        self.pacer.frame(now, frame);
        let admitted = self.admit(now, frame);
        match admitted {
            Ok(()) => self.held += 1,
            Err(_) => self.grant(),
        }
        admitted
    }

    fn admit(&mut self, now: Instant, frame: &CanvasFrame) -> Result<(), Dropped> {
        if !self.watched {
            return Err(Dropped::Unwatched);
        }
        let even = self.even.max(now) + Duration::from_secs(1) / MOST_FPS;
        if even > now + Duration::from_secs(1) * BURST / MOST_FPS {
            self.lost(now, frame.format);
            return Err(Dropped::TooFast);
        }
        let kind = (frame.format, frame.width, frame.height);
        if !frame.key && (matches!(self.keyframe, Keyframe::Wanted { .. }) || self.last != Some(kind)) {
            self.want_keyframe(now);
            return Err(Dropped::NoKeyframe);
        }
        self.even = even;
        if frame.key {
            self.keyframe = Keyframe::Held;
        }
        self.last = Some(kind);
        Ok(())
    }

    /// A frame that was let through has left the gateway, or was left out for a newer one.
    pub fn returned(&mut self) {
        self.held = self.held.saturating_sub(1);
        self.grant();
    }

    /// A frame that was let through did not reach the mixer, or the mixer could not use it.
    pub fn lost(&mut self, now: Instant, format: CanvasFormat) {
        if format.has_deltas() {
            self.want_keyframe(now);
        }
    }

    /// Asks the sender for a keyframe, once until it comes or time enough has passed.
    pub fn want_keyframe(&mut self, now: Instant) {
        let asked_at = match self.keyframe {
            Keyframe::Held => None,
            Keyframe::Wanted { asked_at } => asked_at,
        };
        if asked_at.is_none_or(|at| now >= at + ASK_AGAIN) {
            self.keyframe = Keyframe::Wanted { asked_at: Some(now) };
            self.outputs.push_back(Output::Keyframe);
        }
    }

    fn grant(&mut self) {
        let more = CREDITS.saturating_sub(self.held + self.granted);
        if self.watched && more > 0 {
            self.granted += more;
            match self.outputs.back_mut() {
                Some(Output::Credit(credit)) => *credit += more,
                Some(Output::Pace(_) | Output::Keyframe) | None => self.outputs.push_back(Output::Credit(more)),
            }
        }
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.watched.then(|| self.pacer.poll_timeout())
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if self.watched
            && let Some(pace) = self.pacer.handle_timeout(now)
        {
            self.outputs.push_back(Output::Pace(pace));
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn frame(format: CanvasFormat, key: bool) -> CanvasFrame {
        CanvasFrame { format, key, width: 640, height: 360, timestamp_us: 0, data: Bytes::from_static(&[0; 100]) }
    }

    fn told(feed: &mut Feed) -> Vec<Output> {
        std::iter::from_fn(|| feed.poll_output()).filter(|output| !matches!(output, Output::Pace(_))).collect()
    }

    fn watched(now: Instant) -> Feed {
        let mut feed = Feed::new(now);
        feed.watch(now, true);
        feed.poll_output();
        assert_eq!(told(&mut feed), [Output::Keyframe, Output::Credit(CREDITS)]);
        feed
    }

    #[test]
    fn nothing_may_be_sent_before_somebody_watches() {
        let now = Instant::now();
        let mut feed = Feed::new(now);
        assert_eq!(feed.poll_output(), Some(Output::Pace(Pace::NOTHING)));
        assert_eq!(feed.frame(now, &frame(CanvasFormat::Jpeg, true)), Err(Dropped::NoCredit));
    }

    #[test]
    fn a_frame_uses_a_credit_until_it_has_left() {
        let now = Instant::now();
        let mut feed = watched(now);
        for _ in 0..CREDITS {
            assert_eq!(feed.frame(now, &frame(CanvasFormat::Jpeg, true)), Ok(()));
        }
        assert_eq!(feed.frame(now, &frame(CanvasFormat::Jpeg, true)), Err(Dropped::NoCredit));
        assert_eq!(told(&mut feed), []);
        feed.returned();
        feed.returned();
        assert_eq!(told(&mut feed), [Output::Credit(2)]);
    }

    #[test]
    fn a_delta_goes_on_only_behind_a_keyframe_of_its_kind() {
        let now = Instant::now();
        let mut feed = watched(now);
        assert_eq!(feed.frame(now, &frame(CanvasFormat::Vp8, false)), Err(Dropped::NoKeyframe));
        assert_eq!(feed.frame(now, &frame(CanvasFormat::Vp8, true)), Ok(()));
        assert_eq!(feed.frame(now, &frame(CanvasFormat::Vp8, false)), Ok(()));
        assert_eq!(feed.frame(now, &frame(CanvasFormat::H264, false)), Err(Dropped::NoKeyframe), "another format");
        assert_eq!(told(&mut feed), [Output::Credit(1), Output::Keyframe, Output::Credit(1)]);
    }

    #[test]
    fn a_lost_delta_asks_for_one_keyframe_and_again_when_none_comes() {
        let now = Instant::now();
        let mut feed = watched(now);
        assert_eq!(feed.frame(now, &frame(CanvasFormat::H264, true)), Ok(()));
        feed.lost(now, CanvasFormat::H264);
        feed.lost(now, CanvasFormat::H264);
        assert_eq!(told(&mut feed), [Output::Keyframe]);
        assert_eq!(feed.frame(now, &frame(CanvasFormat::H264, false)), Err(Dropped::NoKeyframe));
        assert_eq!(feed.frame(now + ASK_AGAIN, &frame(CanvasFormat::H264, false)), Err(Dropped::NoKeyframe));
        assert_eq!(told(&mut feed).iter().filter(|output| **output == Output::Keyframe).count(), 1);
        feed.lost(now, CanvasFormat::Jpeg);
        assert_eq!(told(&mut feed), [], "a picture of its own needs no keyframe");
    }

    #[test]
    fn no_more_than_sixty_frames_a_second_go_on() {
        let start = Instant::now();
        let mut feed = watched(start);
        let mut passed = 0;
        for step in 0..2000 {
            let now = start + Duration::from_millis(step) * 5;
            if feed.frame(now, &frame(CanvasFormat::Rgba, true)).is_ok() {
                passed += 1;
                feed.returned();
            }
        }
        assert!((600..=600 + BURST).contains(&passed), "{passed} in ten seconds");
    }

    #[test]
    fn when_nobody_watches_any_more_no_credit_is_given() {
        let now = Instant::now();
        let mut feed = watched(now);
        assert_eq!(feed.frame(now, &frame(CanvasFormat::Jpeg, true)), Ok(()));
        feed.watch(now, false);
        feed.returned();
        assert_eq!(feed.frame(now, &frame(CanvasFormat::Jpeg, true)), Err(Dropped::Unwatched));
        assert_eq!(told(&mut feed), []);
        feed.watch(now, true);
        assert_eq!(told(&mut feed), [Output::Keyframe, Output::Credit(2)]);
    }
}
