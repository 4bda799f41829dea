//! Keyframes: how to see one in RTP, and how often a source is asked for one.

use std::time::Duration;
use std::time::Instant;

use crate::domain::room::av1;
use crate::domain::room::flood::Allowance;
use crate::domain::room::picture::begins_vp8_keyframe;
use crate::domain::room::vp9::Descriptor;
use crate::model::media::Codec;

/// Shortest time between two requests to one source. An encoder that is asked more often spends its bitrate on keyframes only.
const INTERVAL: Duration = Duration::from_millis(500);
/// After this long without a keyframe a request or its answer is taken for lost.
const RETRY: Duration = Duration::from_secs(1);
/// Requests repeated at most; a camera that is switched off never answers.
const MAX_RETRIES: u8 = 5;

/// Pleas of one consumer heard at once, and the time in which it gets another. Each may cost the source a keyframe and everybody else
/// the bits of it; a request that is lost is repeated without a plea.
const PLEAS: u32 = 5;
const PLEA_INTERVAL: Duration = Duration::from_secs(2);

/// How often one consumer is heard.
pub(super) fn pleas_of_one() -> Allowance {
    Allowance::new(PLEAS, PLEA_INTERVAL)
}

/// Whether decoding may begin at this RTP payload.
pub fn begins_keyframe(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        Codec::Opus => true,
        Codec::Vp8 => begins_vp8_keyframe(payload),
        Codec::Vp9 => Descriptor::parse(payload).is_some_and(|descriptor| descriptor.begins_keyframe()),
        Codec::Av1 => av1::begins_sequence(payload),
        Codec::H264 => h264_begins_keyframe(payload),
    }
}

/// RFC 6184 sections 5.4 to 5.8: an SPS or IDR slice, alone, first in an aggregate, or the start of a fragment.
fn h264_begins_keyframe(payload: &[u8]) -> bool {
    const IDR: u8 = 5;
    const SPS: u8 = 7;
    const STAP_A: u8 = 24;
    const FU_A: u8 = 28;
    let begins = |nal: u8| matches!(nal & 0x1f, IDR | SPS);
    match payload.first().map(|indicator| indicator & 0x1f) {
        Some(IDR | SPS) => true,
        Some(STAP_A) => {
            let mut rest = &payload[1..];
            while let [high, low, unit @ ..] = rest {
                let size = usize::from(u16::from_be_bytes([*high, *low]));
                if unit.first().is_some_and(|nal| begins(*nal)) {
                    return true;
                }
                rest = unit.get(size..).unwrap_or_default();
            }
            false
        }
        Some(FU_A) => payload.get(1).is_some_and(|header| header & 0x80 != 0 && begins(*header)),
        Some(_) | None => false,
    }
}

/// Coalesces everybody's pleas for a keyframe of one source.
#[derive(Clone, Debug, Default)]
pub enum Throttle {
    /// Nothing asked for, or answered.
    #[default]
    Idle,
    /// Asked, not answered yet. `again` notes a plea that came too soon.
    Asked { at: Instant, again: bool, retries: u8 },
    /// Answered so lately that the next request waits.
    Resting { since: Instant },
}

/// What became of a plea.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plea {
    /// Ask the source now.
    Send,
    /// A request on its way, or one that will be made soon, serves this plea too.
    Coalesced,
    /// This consumer has pleaded too often.
    Refused,
}

impl Throttle {
    /// Somebody needs a keyframe.
    pub fn plead(&mut self, now: Instant) -> Plea {
        match self {
            Self::Idle => self.ask(now),
            Self::Asked { at, .. } | Self::Resting { since: at } if now.saturating_duration_since(*at) >= INTERVAL => {
                self.ask(now)
            }
            Self::Asked { again, .. } => {
                *again = true;
                Plea::Coalesced
            }
            Self::Resting { since } => {
                *self = Self::Asked { at: *since, again: true, retries: 0 };
                Plea::Coalesced
            }
        }
    }

    /// A keyframe came: everybody who pleaded before has one.
    pub fn keyframe(&mut self) {
        if let Self::Asked { at, .. } = self {
            *self = Self::Resting { since: *at };
        }
    }

    /// Whether a deferred or lost request is to be sent now; call it every 100 ms or so.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let Self::Asked { at, again, retries } = self else { return false };
        let waited = now.saturating_duration_since(*at);
        if *again && waited >= INTERVAL {
            self.ask(now);
            true
        } else if waited >= RETRY && *retries < MAX_RETRIES {
            *at = now;
            *retries += 1;
            true
        } else {
            false
        }
    }

    fn ask(&mut self, now: Instant) -> Plea {
        *self = Self::Asked { at: now, again: false, retries: 0 };
        Plea::Send
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pleas_within_half_a_second_become_one_more_request() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut throttle = Throttle::default();
        assert_eq!(throttle.plead(at(0)), Plea::Send);
        assert_eq!(throttle.plead(at(10)), Plea::Coalesced);
        assert_eq!(throttle.plead(at(20)), Plea::Coalesced);
        assert!(!throttle.is_due(at(400)));
        assert!(throttle.is_due(at(500)));
        assert!(!throttle.is_due(at(600)), "one request for both pleas");
    }

    #[test]
    fn a_keyframe_answers_everybody_who_pleaded_before_it_and_nobody_after() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut throttle = Throttle::default();
        throttle.plead(at(0));
        throttle.plead(at(10));
        throttle.keyframe();
        assert!(!throttle.is_due(at(2_000)));

        let mut throttle = Throttle::default();
        throttle.plead(at(0));
        throttle.keyframe();
        assert_eq!(throttle.plead(at(100)), Plea::Coalesced, "too soon after the last request");
        assert!(throttle.is_due(at(500)), "but not forgotten");
    }

    #[test]
    fn an_unanswered_request_is_repeated_a_few_times() {
        let start = Instant::now();
        let mut throttle = Throttle::default();
        throttle.plead(start);
        let sent = (1..100).filter(|n| throttle.is_due(start + Duration::from_millis(n * 200))).count();
        assert_eq!(sent, usize::from(MAX_RETRIES));
    }

    #[test]
    fn keyframes_are_seen_in_vp8() {
        assert!(begins_keyframe(Codec::Vp8, &[0x10, 0x00]));
        assert!(begins_keyframe(Codec::Vp8, &[0x90, 0x80, 0x81, 0x23, 0x00]), "with a 15-bit picture id");
        assert!(begins_keyframe(Codec::Vp8, &[0x90, 0xe0, 0x01, 0x02, 0x40, 0x00]), "with id, TL0PICIDX and TID");
        assert!(!begins_keyframe(Codec::Vp8, &[0x10, 0x01]), "an interframe");
        assert!(!begins_keyframe(Codec::Vp8, &[0x00, 0x00]), "the middle of a frame");
        assert!(!begins_keyframe(Codec::Vp8, &[0x11, 0x00]), "another partition");
        assert!(!begins_keyframe(Codec::Vp8, &[0x90]), "cut short");
    }

    #[test]
    fn keyframes_are_seen_in_h264() {
        assert!(begins_keyframe(Codec::H264, &[0x67, 1, 2]), "SPS");
        assert!(begins_keyframe(Codec::H264, &[0x65, 1, 2]), "IDR");
        assert!(begins_keyframe(Codec::H264, &[0x78, 0, 2, 0x06, 0, 0, 2, 0x67, 0]), "SEI and SPS in one packet");
        assert!(begins_keyframe(Codec::H264, &[0x7c, 0x85, 0]), "start of a fragmented IDR");
        assert!(!begins_keyframe(Codec::H264, &[0x7c, 0x05, 0]), "its middle");
        assert!(!begins_keyframe(Codec::H264, &[0x61, 1, 2]), "a P slice");
        assert!(!begins_keyframe(Codec::H264, &[0x78, 0xff, 0xff, 0x01]), "a size that lies");
        assert!(!begins_keyframe(Codec::H264, &[]));
    }
}
