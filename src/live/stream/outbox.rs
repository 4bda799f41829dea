//! What a mixer is still to be told: never a queue, because every kind of message replaces the older one of its kind.

use std::collections::BTreeMap;

use crate::model::id::TrackId;
use crate::model::scene::Scene;
use crate::proto::mixer::Control;

/// The newest sender report of a track: NTP time and the RTP time it belongs to (RFC 3550 section 6.4.1).
pub(super) type SenderReports = BTreeMap<TrackId, (u64, u32)>;

/// Control messages waiting for room in the mixer's queue. A mixer that does not read costs a scene's memory, and no task waits.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    scene: Option<Box<Scene>>,
    reports: SenderReports,
    video_kbps: Option<u32>,
    keyframe: bool,
    finish: bool,
}

impl Outbox {
    /// Everything a mixer that has just been born must know.
    pub(super) fn for_newborn(scene: Scene, reports: SenderReports) -> Self {
        Self { scene: Some(Box::new(scene)), reports, ..Self::default() }
    }

    pub(super) fn set_scene(&mut self, scene: Scene) {
        self.scene = Some(Box::new(scene));
    }

    pub(super) fn report(&mut self, track: TrackId, ntp: u64, rtp: u32) {
        self.reports.insert(track, (ntp, rtp));
    }

    pub(super) fn set_bitrate(&mut self, video_kbps: u32) {
        self.video_kbps = Some(video_kbps);
    }

    pub(super) fn force_keyframe(&mut self) {
        self.keyframe = true;
    }

    pub(super) fn finish(&mut self) {
        self.finish = true;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.scene.is_none() && self.reports.is_empty() && self.video_kbps.is_none() && !self.keyframe && !self.finish
    }

    /// The most important message: a scene first, because the others speak of its tracks, and the end last.
    pub(super) fn next(&mut self) -> Option<Control> {
        if let Some(scene) = self.scene.take() {
            return Some(Control::Scene { scene });
        }
        if let Some((track, (ntp, rtp))) = self.reports.pop_first() {
            return Some(Control::SenderReport { track, ntp, rtp });
        }
        if let Some(video_kbps) = self.video_kbps.take() {
            return Some(Control::SetBitrate { video_kbps });
        }
        if std::mem::take(&mut self.keyframe) {
            return Some(Control::ForceKeyframe);
        }
        std::mem::take(&mut self.finish).then_some(Control::Finish)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_messages_replace_older_ones_and_the_end_comes_last() {
        let scene = |recording: &str| Scene { recording: Some(recording.to_owned()), ..Scene::default() };
        let mut outbox = Outbox::for_newborn(scene("old"), [(TrackId(1), (1, 1))].into());
        outbox.finish();
        outbox.report(TrackId(1), 2, 2);
        outbox.force_keyframe();
        outbox.set_bitrate(900);
        outbox.set_bitrate(1200);
        outbox.force_keyframe();
        outbox.set_scene(scene("new"));
        let told: Vec<Control> = std::iter::from_fn(|| outbox.next()).collect();
        let expected = [
            Control::Scene { scene: Box::new(scene("new")) },
            Control::SenderReport { track: TrackId(1), ntp: 2, rtp: 2 },
            Control::SetBitrate { video_kbps: 1200 },
            Control::ForceKeyframe,
            Control::Finish,
        ];
        assert_eq!(told, expected);
        assert!(outbox.is_empty());
    }
}
