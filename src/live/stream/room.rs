//! What a stream does with its room: who is in it, what they send, and the scene that comes of it.

use tracing::warn;

use crate::domain::lifecycle::Input;
use crate::live::rooms::Request;
use crate::live::rooms::Roster;
use crate::live::rooms::TapMedia;
use crate::live::stream::Stream;
use crate::live::stream::child::Child;
use crate::live::stream::scene;
use crate::live::stream::tapping::TapEvent;
use crate::model::id::TrackId;
use crate::model::scene::Scene;

impl Stream {
    pub(super) fn on_tap(&mut self, event: TapEvent) {
        match event {
            TapEvent::Roster(roster) => self.on_roster(roster),
            TapEvent::Media(batch) => {
                let mut heard = false;
                for media in batch {
                    heard |= self.on_media(media);
                }
                if heard {
                    self.advance(Input::Media);
                }
            }
            TapEvent::Lost => {
                warn!("the room's media is lost; asking for it again");
                self.on_roster(Roster::default());
            }
        }
    }

    fn on_roster(&mut self, roster: Roster) {
        let before = scene::visible_tracks(&self.roster);
        let appeared: Vec<TrackId> = scene::visible_tracks(&roster).difference(&before).copied().collect();
        self.reports.retain(|track, _| roster.tracks.iter().any(|t| t.track == *track));
        self.roster = roster;
        self.recognise();
        self.show();
        self.ask_keyframes(appeared);
    }

    /// Passes on one thing a participant sent; `true` for media.
    fn on_media(&mut self, media: TapMedia) -> bool {
        match media {
            TapMedia::Packet(packet) => {
                if self.standby.child.is_running() {
                    self.standby.child.offer(packet.clone());
                }
                self.child.offer(packet);
                true
            }
            TapMedia::SenderReport { track, ntp, rtp } => {
                if self.roster.tracks.iter().any(|t| t.track == track) {
                    self.reports.insert(track, (ntp, rtp));
                }
                let outboxes = [&mut self.child, &mut self.standby.child].into_iter().filter_map(Child::outbox);
                outboxes.for_each(|outbox| outbox.report(track, ntp, rtp));
                false
            }
        }
    }

    pub(super) fn ask_keyframes(&self, tracks: impl IntoIterator<Item = TrackId>) {
        for track in tracks {
            self.ports.rooms.tell(&self.row.room, Request::Keyframe { track });
        }
    }

    /// Tells the mixer what is to be seen and heard from now on.
    pub(super) fn show(&mut self) {
        let scene = self.scene();
        self.standby.show(&scene);
        if let Some(outbox) = self.child.outbox() {
            outbox.set_scene(scene);
        }
    }

    pub(super) fn scene(&mut self) -> Scene {
        let recording = self.files.wanted();
        let painter = self.canvas.painter.borrow().clone();
        let mut scene =
            self.composer.compose(&self.roster, &self.staging, painter.as_deref(), &self.row.programme, recording);
        scene.programme.video_kbps = self.steering.video_kbps();
        scene.playout_ms = self.playout_ms;
        scene.repair_ms = u32::try_from(self.tap.repair().as_millis()).unwrap_or(u32::MAX);
        scene.stems = self.stems_of(&scene);
        for (track, tile) in scene::tiles(&scene) {
            self.ports.rooms.tell(&self.row.room, Request::SetTapTile { track, tile });
        }
        self.note_pictures(&scene);
        scene
    }
}
