//! Which worker a room lives on: the least loaded when it opens, and that one until it is closed.

use std::collections::HashMap;
use std::time::Duration;

use crate::model::id::RoomId;

/// What a room is taken for until its worker has been measured with it, thousandths of a core: that of six musicians with cameras.
const NEW_ROOM: u32 = 100;
/// Loads in the same step, thousandths of a core, count as the same; then the worker with fewer rooms is chosen.
const STEP: u32 = 50;

/// The table of all rooms.
pub(super) struct Placement {
    rooms: HashMap<RoomId, usize>,
    workers: Vec<Burden>,
}

/// What a worker bears.
#[derive(Clone, Copy, Default)]
struct Burden {
    /// CPU it used of its core when last measured, thousandths.
    measured: u32,
    /// Rooms opened since; the measure does not know them.
    fresh: u32,
    rooms: usize,
}

impl Placement {
    pub(super) fn new(workers: usize) -> Self {
        Self { rooms: HashMap::new(), workers: vec![Burden::default(); workers] }
    }

    /// Notes what a worker used of its core in `period`.
    pub(super) fn measured(&mut self, worker: usize, cpu: Duration, period: Duration) {
        let share = cpu.as_micros() * 1000 / period.as_micros().max(1);
        let burden = &mut self.workers[worker];
        burden.measured = u32::try_from(share).unwrap_or(u32::MAX).min(1000);
        burden.fresh = 0;
    }

    /// The worker of a room that is open.
    pub(super) fn find(&self, room: &RoomId) -> Option<usize> {
        self.rooms.get(room).copied()
    }

    /// Opens a room that is not, on the lightest worker of those alive.
    pub(super) fn open(&mut self, room: &RoomId, is_alive: impl Fn(usize) -> bool) -> usize {
        let weight = |burden: &Burden| (burden.measured + burden.fresh * NEW_ROOM) / STEP;
        let candidates = self.workers.iter().enumerate();
        let lightest = candidates.min_by_key(|(worker, b)| (!is_alive(*worker), weight(b), b.rooms, *worker));
        let worker = lightest.map_or(0, |(worker, _)| worker);
        self.workers[worker].fresh += 1;
        self.workers[worker].rooms += 1;
        self.rooms.insert(room.clone(), worker);
        worker
    }

    pub(super) fn close(&mut self, room: &RoomId) {
        if let Some(worker) = self.rooms.remove(room) {
            self.workers[worker].rooms -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn open(placement: &mut Placement, name: &str) -> usize {
        placement.open(&name.parse().expect("a slug"), |_| true)
    }

    #[test]
    fn rooms_that_open_together_are_spread() {
        let mut placement = Placement::new(3);
        let workers: Vec<usize> = ["a", "b", "c", "d", "e", "f"].map(|name| open(&mut placement, name)).into();
        assert_eq!(workers, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn a_room_opens_where_least_is_done_and_stays_there() {
        let mut placement = Placement::new(3);
        for (worker, millis) in [(0, 600), (1, 100), (2, 300)] {
            placement.measured(worker, Duration::from_millis(millis), SECOND);
        }
        assert_eq!(open(&mut placement, "a"), 1);
        assert_eq!(open(&mut placement, "b"), 1, "100 and the new room are still less than 300");
        assert_eq!(
            open(&mut placement, "c"),
            2,
            "its second makes them equal, and the third goes by the number of rooms"
        );
        placement.measured(1, Duration::from_millis(900), SECOND);
        assert_eq!(placement.find(&"a".parse().expect("a slug")), Some(1));
        assert_eq!(open(&mut placement, "d"), 2);
    }

    #[test]
    fn noise_in_the_load_does_not_gather_idle_rooms_on_one_worker() {
        let mut placement = Placement::new(2);
        for room in 0..10 {
            // The first worker is always a hair lighter.
            placement.measured(0, Duration::from_millis(3), SECOND);
            placement.measured(1, Duration::from_millis(7), SECOND);
            open(&mut placement, &format!("room-{room}"));
        }
        assert_eq!(placement.workers.iter().map(|burden| burden.rooms).collect::<Vec<_>>(), [5, 5]);
    }

    #[test]
    fn a_dead_worker_gets_no_room_and_a_closed_room_is_forgotten() {
        let mut placement = Placement::new(2);
        let room: RoomId = "jam".parse().expect("a slug");
        assert_eq!(placement.open(&room, |worker| worker == 1), 1);
        placement.close(&room);
        placement.close(&room);
        assert_eq!(placement.find(&room), None);
        assert_eq!(placement.workers[1].rooms, 0);
    }
}
