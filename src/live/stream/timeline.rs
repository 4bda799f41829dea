//! One timeline out of the frames of several mixers: it never steps back, and after a restart pictures begin at a keyframe.

use crate::model::media::EncodedFrame;
use crate::model::media::MediaKind;
use crate::model::scene::Continues;

/// A sound of a new mixer that begins sooner after the last one is that one, with its time rounded once more: no frame of sound is nearly
/// as short. Microseconds.
const SAME_SOUND_US: u64 = 2_000;

#[derive(Debug, Default)]
pub(super) struct Timeline {
    video_dts_us: Option<u64>,
    audio_dts_us: Option<u64>,
    /// Cleared by the first keyframe of a mixer.
    seen_key: bool,
}

impl Timeline {
    /// The frames that follow come from another mixer.
    pub(super) fn restart(&mut self) {
        self.seen_key = false;
    }

    /// The newest of what was admitted, once there is both.
    pub(super) fn newest(&self) -> Option<Continues> {
        let (picture_us, sound_us) = self.video_dts_us.zip(self.audio_dts_us)?;
        Some(Continues { picture_us, sound_us })
    }

    /// Whether the present mixer has made a picture.
    pub(super) const fn has_begun(&self) -> bool {
        self.seen_key
    }

    /// Whether the frame continues the programme; one that does not is dropped.
    pub(super) fn admit(&mut self, frame: &EncodedFrame) -> bool {
        let (last, least_us) = match frame.kind {
            MediaKind::Audio => (&mut self.audio_dts_us, SAME_SOUND_US),
            MediaKind::Video => {
                if !self.seen_key && !frame.key {
                    return false;
                }
                (&mut self.video_dts_us, 1)
            }
        };
        if last.is_some_and(|last| frame.dts_us < last + least_us) {
            return false;
        }
        *last = Some(frame.dts_us);
        // Only a keyframe that is admitted counts: if it came too late for the timeline, those that follow cannot be decoded.
        if frame.kind == MediaKind::Video {
            self.seen_key = true;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn frame(kind: MediaKind, dts_us: u64, key: bool) -> EncodedFrame {
        EncodedFrame { kind, pts_us: dts_us, dts_us, key, data: Bytes::new() }
    }

    #[test]
    fn a_new_mixer_goes_on_after_the_old_one_and_at_a_keyframe() {
        let mut line = Timeline::default();
        assert!(!line.admit(&frame(MediaKind::Video, 10, false)));
        assert!(line.admit(&frame(MediaKind::Video, 20, true)));
        assert!(line.admit(&frame(MediaKind::Video, 30, false)));
        assert!(line.admit(&frame(MediaKind::Audio, 25, true)), "each kind has its own last time");
        line.restart();
        assert!(!line.admit(&frame(MediaKind::Video, 30, true)), "no step back");
        assert!(!line.admit(&frame(MediaKind::Video, 40, false)), "its keyframe was dropped");
        assert!(!line.admit(&frame(MediaKind::Audio, 26, true)), "the same sound");
        assert!(line.admit(&frame(MediaKind::Audio, 25 + 21_333, true)));
        assert!(line.admit(&frame(MediaKind::Video, 50, true)));
        assert!(line.admit(&frame(MediaKind::Video, 60, false)));
    }
}
