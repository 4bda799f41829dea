//! The leader-aligned mix in virtual time: who waits for whom, and what moves nobody.

use std::time::Duration;
use std::time::Instant;

use proptest::prelude::*;

use crate::domain::align::Alignment;
use crate::domain::align::FIRST;
use crate::domain::align::LATEST;
use crate::domain::align::MOST_LATE_MS;
use crate::domain::align::SLACK_MS;
use crate::domain::align::Standing;
use crate::domain::desk::Desk;
use crate::domain::desk::MOST_DELAY_MS;
use crate::domain::desk::StripChange;
use crate::model::id::ParticipantId;

const EVERY: Duration = Duration::from_secs(2);

/// A band whose first leads, and the time there.
struct Jam {
    alignment: Alignment,
    now: Instant,
    band: Vec<ParticipantId>,
}

impl Jam {
    fn new(count: usize) -> Self {
        let band: Vec<_> = (0..count).map(|_| ParticipantId::generate()).collect();
        let mut alignment = Alignment::default();
        alignment.follow(Some(band[0]));
        Self { alignment, now: Instant::now(), band }
    }

    /// Takes one measurement of each; the leader's own counts for nothing.
    fn measure(&mut self, late_ms: &[u64]) -> bool {
        let leader = self.alignment.leader().unwrap_or(self.band[0]);
        self.measure_behind(leader, late_ms)
    }

    fn measure_behind(&mut self, leader: ParticipantId, late_ms: &[u64]) -> bool {
        let of = |(id, ms): (&ParticipantId, &u64)| (*id, Duration::from_millis(*ms));
        let measured: Vec<_> = self.band.iter().zip(late_ms).map(of).collect();
        self.now += EVERY;
        self.alignment.note(self.now, &self.band, leader, &measured)
    }

    fn settle(&mut self, late_ms: &[u64]) {
        (0..LATEST).for_each(|_| _ = self.measure(late_ms));
    }

    fn added(&self) -> Vec<u32> {
        self.band.iter().map(|id| self.alignment.added_ms(*id)).collect()
    }
}

#[test]
fn everybody_waits_for_the_latest_and_the_leader_the_longest() {
    let mut jam = Jam::new(4);
    let late = [999, 60, 145, 25];
    for _ in 1..FIRST {
        assert!(!jam.measure(&late));
        assert_eq!(jam.added(), [0; 4], "not measured for long enough");
        assert_eq!(jam.alignment.standing(jam.band[1]), Some(Standing::Unmeasured));
    }
    assert!(jam.measure(&late), "somebody is moved");
    assert_eq!(jam.added(), [145, 85, 0, 120]);
    assert!(!jam.measure(&late));
    assert_eq!(jam.alignment.standing(jam.band[0]), Some(Standing::Leader));
    assert_eq!(jam.alignment.standing(jam.band[3]), Some(Standing::Aligned { late_ms: 25 }));
}

#[test]
fn without_a_leader_nobody_waits() {
    let mut jam = Jam::new(3);
    jam.settle(&[0, 60, 80]);
    jam.alignment.follow(None);
    assert_eq!(jam.added(), [0; 3]);
    assert_eq!((jam.alignment.leader(), jam.alignment.standing(jam.band[1])), (None, None));
    assert!(!jam.measure(&[0, 60, 80]));
}

#[test]
fn who_is_out_of_reach_holds_nobody_up_and_who_is_not_measured_stays_as_it_is_beside_the_leader() {
    let mut jam = Jam::new(4);
    jam.settle(&[0, 60, u64::from(MOST_LATE_MS) + 1]);
    assert_eq!(jam.added(), [60, 0, 0, 60]);
    assert_eq!(jam.alignment.standing(jam.band[2]), Some(Standing::OutOfReach { late_ms: MOST_LATE_MS + 1 }));
    assert_eq!(jam.alignment.standing(jam.band[3]), Some(Standing::Unmeasured));
    jam.settle(&[0, 60, u64::from(MOST_LATE_MS) - 100]);
    assert_eq!(jam.added(), [400, 340, 0, 400], "it has come within reach");
}

#[test]
fn a_way_that_stays_longer_is_followed_in_seconds_and_a_short_disturbance_is_not() {
    let mut jam = Jam::new(2);
    jam.settle(&[0, 60]);
    for _ in 0..2 {
        assert!(!jam.measure(&[0, 400]));
    }
    jam.settle(&[0, 60]);
    assert_eq!(jam.added(), [60, 0]);
    let changes = (0..LATEST).filter(|_| jam.measure(&[0, 90])).count();
    assert_eq!((jam.added(), changes), (vec![90, 0], 1));
}

#[test]
fn all_are_brought_forward_slowly_when_the_latest_has_gone_and_what_is_between_them_stays() {
    let mut jam = Jam::new(3);
    jam.settle(&[0, 40, 140]);
    assert_eq!(jam.added(), [140, 100, 0]);
    let gone = jam.band.pop().expect("three");
    let mut last = 140;
    for _ in 0..20 {
        jam.measure(&[0, 40]);
        let [leader, follower] = jam.added()[..] else { panic!("two are left") };
        assert_eq!(leader - follower, 40);
        assert!(last - leader <= 8, "from {last} to {leader} in two seconds");
        last = leader;
    }
    assert_eq!(last, 40);
    jam.band.push(gone);
    jam.measure(&[0, 40]);
    assert_eq!(jam.added(), [140, 100, 0], "it is back, and as late as it was");
}

#[test]
fn while_the_leader_is_away_everything_stays_as_it_is_and_who_comes_back_leads_again() {
    let mut jam = Jam::new(3);
    jam.settle(&[0, 40, 70]);
    let left = jam.band.remove(0);
    for _ in 0..50 {
        assert!(!jam.measure(&[]));
    }
    assert_eq!(jam.added(), [30, 0]);
    let back = ParticipantId::generate();
    jam.alignment.rename(&[(left, back)]);
    jam.band.insert(0, back);
    assert_eq!((jam.alignment.leader(), jam.added()), (Some(back), vec![70, 30, 0]));
    let (ben, again) = (jam.band[1], ParticipantId::generate());
    jam.alignment.rename(&[(ben, again)]);
    jam.band[1] = again;
    assert_eq!(jam.added(), [70, 30, 0], "a follower who comes back is where it was");
}

#[test]
fn another_leader_takes_over_what_is_known_of_the_others() {
    let mut jam = Jam::new(3);
    jam.settle(&[0, 60, 100]);
    jam.alignment.follow(Some(jam.band[1]));
    assert_eq!(jam.added(), [100, 100, 0], "the one who led has yet to be measured");
    // What was measured behind the one who led does not count beside what is.
    for late in [[50, 0, 130], [50, 0, 110], [50, 0, 120]] {
        jam.measure(&late);
    }
    assert_eq!(jam.added(), [70, 120, 0]);
    jam.alignment.follow(Some(jam.band[1]));
    assert_eq!(jam.added(), [70, 120, 0], "said twice it changes nothing");
}

#[test]
fn what_was_measured_behind_somebody_who_leads_no_more_counts_for_nothing() {
    let mut jam = Jam::new(3);
    jam.settle(&[0, 60, 100]);
    let before = jam.band[0];
    jam.alignment.follow(Some(jam.band[1]));
    (0..LATEST).for_each(|_| assert!(!jam.measure_behind(before, &[0, 60, 300])));
    jam.settle(&[50, 0, 120]);
    assert_eq!(jam.added(), [70, 120, 0]);
}

#[test]
fn nobody_waits_for_the_latest_any_more_once_it_leads() {
    let mut jam = Jam::new(3);
    jam.settle(&[0, 60, 100]);
    jam.alignment.follow(Some(jam.band[2]));
    assert_eq!(jam.added(), [100, 40, 100]);
    (0..10).for_each(|_| _ = jam.measure(&[50, 60, 0]));
    assert_eq!(jam.added(), [10, 0, 60]);
}

#[test]
fn a_hand_moves_somebody_to_and_fro_and_nobody_before_the_beginning() {
    let mut jam = Jam::new(3);
    jam.settle(&[0, 60, 100]);
    let mut desk = Desk::default();
    let by_hand = |ms| StripChange { delay_ms: Some(ms), ..StripChange::default() };
    assert_eq!(jam.alignment.delays_ms(&desk, &jam.band), [100, 40, 0]);
    desk.turn(jam.band[1], "Ben", by_hand(-15));
    assert_eq!(jam.alignment.delays_ms(&desk, &jam.band), [100, 25, 0]);
    desk.turn(jam.band[2], "Cleo", by_hand(-20));
    assert_eq!(jam.alignment.delays_ms(&desk, &jam.band), [120, 45, 0], "the others wait for as long");
    desk.turn(jam.band[0], "Ada", by_hand(MOST_DELAY_MS));
    assert_eq!(jam.alignment.delays_ms(&desk, &jam.band), [MOST_DELAY_MS.unsigned_abs(), 45, 0]);
    jam.alignment.follow(None);
    assert_eq!(jam.alignment.delays_ms(&desk, &jam.band), [MOST_DELAY_MS.unsigned_abs(), 5, 0]);
    assert!(jam.alignment.delays_ms(&desk, &[]).is_empty());
}

proptest! {
    #[test]
    fn once_measured_all_within_reach_are_heard_together(late in prop::collection::vec(0_u64..=500, 1..12)) {
        let mut jam = Jam::new(late.len());
        jam.settle(&late);
        let heard: Vec<u64> = jam.added().iter().map(|added| u64::from(*added)).collect();
        let all = (1..late.len()).map(|n| heard[n] + late[n]);
        prop_assert!(all.clone().all(|at| at == heard[0]), "{heard:?}");
        prop_assert!(heard.contains(&0) && heard.iter().all(|added| *added <= 500));
    }

    #[test]
    fn jitter_moves_nobody(late in 10_u64..400, jitter in prop::collection::vec(0_u64..=u64::from(SLACK_MS), 1..100)) {
        let mut jam = Jam::new(2);
        jam.settle(&[0, late]);
        for one in jitter {
            prop_assert!(!jam.measure(&[0, late + one]));
        }
    }

    #[test]
    fn whatever_is_measured_nobody_waits_longer_than_half_a_second_or_comes_forward_fast(
        late in prop::collection::vec(prop::collection::vec(0_u64..2000, 3), 1..60),
    ) {
        let mut jam = Jam::new(4);
        let mut last = 0;
        for [ada, ben, cleo] in late.iter().map(|late| [late[0], late[1], late[2]]) {
            jam.measure(&[0, ada, ben, cleo]);
            let leader = jam.added()[0];
            prop_assert!(jam.added().iter().all(|added| *added <= leader && *added <= MOST_LATE_MS));
            prop_assert!(leader + 8 >= last);
            last = leader;
        }
    }
}
