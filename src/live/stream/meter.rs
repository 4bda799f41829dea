//! What the programme really does: frames a second and kbit/s over the last seconds.

use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;

use crate::model::media::EncodedFrame;
use crate::model::media::MediaKind;

/// Long enough to hold two keyframes, whose size would make the bitrate jump, short enough to show trouble at once.
const WINDOW: Duration = Duration::from_secs(4);

#[derive(Debug, Default)]
pub(super) struct Meter {
    total: Totals,
    /// Samples within the window, oldest first.
    samples: VecDeque<(Instant, Totals)>,
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) video_frames: u64,
    pub(super) audio_frames: u64,
    bytes: u64,
}

impl Meter {
    pub(super) fn count(&mut self, frame: &EncodedFrame) {
        match frame.kind {
            MediaKind::Video => self.total.video_frames += 1,
            MediaKind::Audio => self.total.audio_frames += 1,
        }
        self.total.bytes += frame.data.len() as u64;
    }

    pub(super) fn totals(&self) -> Totals {
        self.total
    }

    /// Takes a sample and gives frames a second and kbit/s since the oldest one within the window. To be called a few times a second.
    pub(super) fn sample(&mut self, now: Instant) -> (f64, u64) {
        while self.samples.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > WINDOW) {
            self.samples.pop_front();
        }
        self.samples.push_back((now, self.total));
        let Some(&(since, then)) = self.samples.front() else { return (0.0, 0) };
        let millis = u64::try_from(now.saturating_duration_since(since).as_millis()).unwrap_or(u64::MAX);
        if millis == 0 {
            return (0.0, 0);
        }
        let frames = self.total.video_frames - then.video_frames;
        let kbps = (self.total.bytes - then.bytes) * 8 / millis;
        // Tenths are what a person reads; more digits only flicker.
        let tenths = (frames * 10_000 + millis / 2) / millis;
        (tenths as f64 / 10.0, kbps)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn rates_follow_the_last_seconds_only() {
        let start = Instant::now();
        let mut meter = Meter::default();
        let frame = EncodedFrame {
            kind: MediaKind::Video,
            pts_us: 0,
            dts_us: 0,
            key: false,
            data: Bytes::from_static(&[0; 1000]),
        };
        assert_eq!(meter.sample(start), (0.0, 0));
        let mut rates = (0.0, 0);
        for half_second in 1..=40 {
            // 30 frames a second for ten seconds, then 20.
            for _ in 0..if half_second <= 20 { 15 } else { 10 } {
                meter.count(&frame);
            }
            rates = meter.sample(start + Duration::from_millis(500 * half_second));
            if half_second == 20 {
                assert_eq!(rates, (30.0, 240));
            }
        }
        assert_eq!(rates, (20.0, 160));
        assert_eq!(meter.totals().video_frames, 500);
    }
}
