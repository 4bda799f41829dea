//! A panic costs the room it happened in: the others of the worker go on.

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::panic::resume_unwind;
use std::time::Instant;

use crate::driver::rtc::host::Host;
use crate::live::rooms::Event;

/// Why the people of a closed room are out of it.
const REASON: &str = "the room failed inside the gateway; join again";

/// Whose work is being done, so that a panic in it has an address.
#[derive(Default)]
pub(super) struct Work {
    room: Option<u64>,
    /// Every work for this room panics.
    #[cfg(test)]
    pub(super) cursed: Option<u64>,
}

impl Work {
    pub(super) fn is_for(&mut self, room: u64) {
        self.room = Some(room);
        #[cfg(test)]
        assert!(self.cursed != Some(room), "a panic for a test");
    }
}

impl Host {
    /// Does a piece of work; if it panics, the room it was for is closed.
    ///
    /// # Panics
    /// With the panic of work that was for no room, or of closing the room: then nothing of this worker can be relied on.
    pub(super) fn contained(&mut self, now: Instant, work: impl FnOnce(&mut Self)) {
        self.work.room = None;
        let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(self))) else { return };
        self.counters.panics += 1;
        let Some(room) = self.work.room.take() else { resume_unwind(panic) };
        self.close_broken_room(room);
        self.begin_anew(now);
    }

    /// The room itself is not asked for anything any more.
    fn close_broken_room(&mut self, key: u64) {
        let Some(hosted) = self.remove_room(key) else { return };
        tracing::error!(room = %hosted.name, participants = hosted.seats.len(), "a room is closed because its worker panicked in it; the log shows where");
        for seat in hosted.seats.values() {
            let _gone_or_deaf = seat.events.try_send(Event::Removed { reason: REASON });
        }
        let lines: Vec<u64> = self.lines.iter().filter(|(_, line)| line.room == key).map(|(key, _)| *key).collect();
        lines.into_iter().for_each(|line| self.close_line(line));
    }

    /// What was in the hands of the panicked work is dropped, and what was to be derived from it is derived anew.
    fn begin_anew(&mut self, now: Instant) {
        self.heard.clear();
        self.media.clear();
        self.timers.clear();
        self.dirty.clear();
        for (key, line) in &mut self.lines {
            line.timer = None;
            line.is_touched = true;
            line.is_dirty = true;
            self.dirty.push(*key);
        }
        let rooms: Vec<u64> = self.rooms.keys().copied().collect();
        rooms.into_iter().for_each(|room| self.settle(now, room));
    }
}
