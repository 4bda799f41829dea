//! What receivers plead for: keyframes passed on in time, floods refused and named.

use std::time::Instant;

use crate::domain::room::KeyframeRequest;
use crate::domain::room::keyframe::Plea;
use crate::driver::rtc::host::Host;
use crate::model::id::ParticipantId;

impl Host {
    pub(super) fn request_keyframes_due(&mut self, now: Instant, room: u64) {
        let Some(hosted) = self.rooms.get_mut(&room) else { return };
        let lines = &self.lines;
        let open = |outlet: crate::domain::room::producer::Outlet| {
            lines.get(&outlet.peer).is_some_and(|line| line.peer.is_open(outlet.lane))
        };
        for request in hosted.room.keyframes_due(now, open) {
            self.plead(now, room, (Plea::Send, Some(request)));
        }
    }

    /// Counts a plea and passes it to the source when it is time.
    pub(super) fn plead(&mut self, now: Instant, room: u64, plea: (Plea, Option<KeyframeRequest>)) {
        let (Plea::Send, Some(request)) = plea else {
            self.counters.keyframes_coalesced += 1;
            return;
        };
        self.counters.keyframes_sent += 1;
        let key = self.seat(room, request.participant).ok().and_then(|seat| seat.send);
        if let Some(line) = key.and_then(|key| self.lines.get_mut(&key)) {
            line.peer.request_keyframe(now, request.ssrc);
        }
        if let Some(key) = key {
            self.touch(key);
        }
    }

    /// A consumer's plea that was one too many.
    pub(super) fn refused_keyframe(&mut self, now: Instant, room: u64, participant: ParticipantId) {
        self.counters.keyframes_refused += 1;
        if let Some(refused) = self.seat(room, participant).ok().and_then(|seat| seat.pleas_refused.note(now, 1)) {
            tracing::warn!(%participant, refused, "a participant floods keyframe requests; most of them are ignored");
        }
    }

    /// Packets that a participant wanted again beyond its due.
    pub(super) fn refused_repetitions(&mut self, now: Instant, room: u64, participant: ParticipantId, refused: u64) {
        self.counters.repetitions_refused += refused;
        let seat = self.seat(room, participant).ok();
        if let Some(refused) = seat.and_then(|seat| seat.repetitions_refused.note(now, refused)) {
            tracing::warn!(%participant, refused, "a participant floods NACKs; it gets as many packets again as it was sent");
        }
    }
}
