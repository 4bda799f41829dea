//! One destination's life in virtual time: losses, refusals, stalls, backups.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn closed() -> Input {
    Input::Lost(Loss::Closed { reason: "the server closed the connection".into() })
}

fn broken() -> Input {
    Input::Lost(Loss::Broken { reason: "no route".into() })
}

fn name_taken() -> Input {
    Input::Lost(Loss::NameTaken { reason: "the key is refused".into() })
}

struct World {
    now: Instant,
    machine: Destination,
}

impl World {
    fn new(timing: Timing) -> Self {
        let now = Instant::now();
        let mut machine = Destination::new(now, timing, 7);
        assert_eq!(machine.poll_output(), Some(Command::Dial));
        Self { now, machine }
    }

    fn give(&mut self, input: Input) -> &State {
        self.machine.handle(self.now, input);
        self.machine.state()
    }

    fn connect(&mut self) {
        self.give(Input::Dialled);
        self.give(Input::Accepted);
        assert!(matches!(self.machine.state(), State::Publishing(_)));
    }

    fn stream(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.give(Input::Offered);
            self.give(Input::Taken { drained: true });
            self.now += Duration::from_millis(100);
        }
        self.give(Input::Taken { drained: true });
    }

    /// Waits for the next attempt and says how long that was.
    fn retry(&mut self) -> Duration {
        let due = self.machine.poll_timeout().expect("an attempt is due");
        let waited = due - self.now;
        self.now = due;
        self.give(Input::Timeout);
        assert_eq!(self.machine.poll_output(), Some(Command::Dial));
        waited
    }
}

#[test]
fn it_is_live_only_after_three_seconds_of_media() {
    let mut world = World::new(Timing::default());
    world.connect();
    world.now += 60 * SECOND;
    assert!(matches!(world.machine.state(), State::Publishing(_)));
    world.stream(Duration::from_millis(2900));
    assert!(matches!(world.machine.state(), State::Publishing(_)));
    world.stream(Duration::from_millis(200));
    assert!(matches!(world.machine.state(), State::Live(_)));
}

#[test]
fn the_first_retry_is_soon_and_waits_grow_to_the_cap_without_end() {
    let mut world = World::new(Timing::default());
    let mut waits = Vec::new();
    for _ in 0..200 {
        world.give(broken());
        waits.push(world.retry());
    }
    assert!(waits[0] <= SECOND && waits[0] >= SECOND / 2);
    assert!(waits.iter().all(|wait| *wait <= 30 * SECOND));
    assert!(waits[10..].iter().all(|wait| *wait >= 15 * SECOND));
}

#[test]
fn only_ten_seconds_on_air_start_the_waits_from_the_first() {
    let mut world = World::new(Timing::default());
    for _ in 0..8 {
        world.give(broken());
        world.retry();
    }
    world.connect();
    world.stream(7 * SECOND);
    world.give(closed());
    assert!(world.retry() > 10 * SECOND);
    world.connect();
    world.stream(11 * SECOND);
    world.give(closed());
    assert!(world.retry() <= SECOND);
}

#[test]
fn three_early_closes_in_a_row_are_a_rejection_that_names_x() {
    let mut world = World::new(Timing::default());
    for _ in 0..2 {
        world.connect();
        world.stream(4 * SECOND);
        assert!(matches!(world.give(closed()), State::Backoff { .. }));
        world.retry();
    }
    world.connect();
    world.stream(4 * SECOND);
    assert!(matches!(world.give(closed()), State::Rejected { .. }));
    assert!(world.machine.hint().expect("a hint").contains("X.com"));
    assert!(world.retry() >= 30 * SECOND);
    // Once more is enough now, and the wait is longer.
    world.connect();
    world.stream(4 * SECOND);
    assert!(matches!(world.give(closed()), State::Rejected { .. }));
    assert!(world.retry() >= 60 * SECOND);
}

#[test]
fn a_refused_key_waits_long_but_a_ghost_of_ourselves_does_not() {
    let mut world = World::new(Timing::default());
    world.give(Input::Dialled);
    assert!(matches!(world.give(name_taken()), State::Rejected { .. }));
    assert!(world.retry() >= 30 * SECOND);
    world.connect();
    world.stream(6 * SECOND);
    world.give(broken());
    world.retry();
    world.give(Input::Dialled);
    assert!(matches!(world.give(name_taken()), State::Backoff { .. }));
}

#[test]
fn a_server_that_takes_nothing_is_stalled_and_then_left() {
    let mut world = World::new(Timing::default());
    world.connect();
    world.stream(5 * SECOND);
    world.give(Input::Offered);
    world.now += 2 * SECOND;
    assert!(matches!(world.give(Input::Timeout), State::Stalled(_)));
    assert!(world.machine.hint().is_some());
    // A few bytes bring it back, but are no progress yet.
    assert!(matches!(world.give(Input::Taken { drained: false }), State::Publishing(_)));
    world.now += 2 * SECOND;
    assert!(matches!(world.give(Input::Timeout), State::Stalled(_)));
    world.now += 4 * SECOND;
    assert!(matches!(world.give(Input::Timeout), State::Backoff { .. }));
    assert_eq!(world.machine.poll_output(), Some(Command::HangUp));
}

#[test]
fn bytes_that_trickle_are_no_progress() {
    let mut world = World::new(Timing::default());
    world.connect();
    for _ in 0..20 {
        world.give(Input::Offered);
        world.now += Duration::from_millis(1500);
        assert!(matches!(world.give(Input::Taken { drained: false }), State::Publishing(_)));
    }
}

#[test]
fn a_loss_on_steady_air_is_followed_by_quick_attempts_and_then_by_patient_ones() {
    let mut world = World::new(Timing::default());
    world.connect();
    world.stream(30 * SECOND);
    let lost_at = world.now;
    let mut late = Vec::new();
    for _ in 0..200 {
        world.give(broken());
        let wait = world.retry();
        if world.now - lost_at < QUICK {
            assert!(wait <= QUICK_RETRY, "{wait:?}");
            assert_eq!(world.machine.dial_patience(world.now), Some(QUICK_DIAL));
        } else if world.now - lost_at > QUICK + SECOND {
            late.push(wait);
            assert_eq!(world.machine.dial_patience(world.now), None);
        }
    }
    assert!(late[10..].iter().all(|wait| *wait >= 15 * SECOND), "{late:?}");
}

#[test]
fn a_loss_turns_to_the_backup_at_once_and_both_failing_to_each_in_turn() {
    let mut world = World::new(Timing::default());
    world.machine.has_backup = true;
    world.connect();
    world.stream(4 * SECOND);
    assert!(!world.machine.on_backup());
    world.give(broken());
    assert!(world.retry() <= QUICK_RETRY && world.machine.on_backup());
    let mut waits = Vec::new();
    for attempt in 0..40 {
        world.give(broken());
        waits.push(world.retry());
        assert_eq!(world.machine.on_backup(), attempt % 2 == 1);
    }
    assert!(waits[20..].iter().all(|wait| *wait >= 15 * SECOND), "both are away: {waits:?}");
    // What works is stayed with.
    let used = world.machine.on_backup();
    world.connect();
    world.stream(60 * SECOND);
    assert_eq!(world.machine.on_backup(), used);
}

#[test]
fn silence_of_the_programme_is_no_stall() {
    let mut world = World::new(Timing::default());
    world.connect();
    world.stream(5 * SECOND);
    assert_eq!(world.machine.poll_timeout(), None);
    world.now += 60 * SECOND;
    assert!(matches!(world.give(Input::Timeout), State::Live(_)));
}

#[test]
fn patience_is_never_under_ten_minutes() {
    let mut world = World::new(Timing { patience: Some(SECOND), ..Timing::default() });
    let start = world.now;
    loop {
        world.give(broken());
        if matches!(world.machine.state(), State::Stopped { .. }) {
            break;
        }
        world.retry();
    }
    assert!(world.now - start >= 600 * SECOND && world.now - start < 700 * SECOND);
}

fn any_input() -> impl Strategy<Value = Input> {
    prop_oneof![
        Just(Input::Dialled),
        Just(Input::Accepted),
        Just(Input::Offered),
        any::<bool>().prop_map(|drained| Input::Taken { drained }),
        Just(broken()),
        Just(closed()),
        Just(name_taken()),
        Just(Input::Lost(Loss::Refused { reason: "no".into() })),
        Just(Input::Timeout),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_it_tries_again(
        seed in any::<u64>(),
        steps in proptest::collection::vec((any_input(), 0_u64..20_000), 0..200),
    ) {
        let mut now = Instant::now();
        let mut machine = Destination::new(now, Timing::default(), seed);
        for (input, pause_ms) in steps {
            now += Duration::from_millis(pause_ms);
            machine.handle(now, input);
            let stopped = matches!(machine.state(), State::Stopped { .. });
            prop_assert!(!stopped);
        }
        machine.handle(now, broken());
        let due = machine.poll_timeout().expect("another attempt");
        prop_assert!(due.saturating_duration_since(now) <= Duration::from_secs(360));
        let due = due.max(now);
        while machine.poll_output().is_some() {}
        machine.handle(due, Input::Timeout);
        prop_assert_eq!(machine.poll_output(), Some(Command::Dial));
        machine.handle(due, Input::Stop);
        prop_assert_eq!(machine.poll_output(), Some(Command::HangUp));
    }
}
