//! A source's packets come, or do not, in virtual time.

use super::*;

const MS: Duration = Duration::from_millis(1);

/// A packet in the middle of a picture.
const MEDIA: Piece = Piece { timestamp: 0, is_padding: false, is_first: false, is_last: false };

const fn last(timestamp: u32) -> Piece {
    Piece { timestamp, is_last: true, ..MEDIA }
}

const fn padding(timestamp: u32) -> Piece {
    Piece { timestamp, is_padding: true, ..MEDIA }
}

/// What is asked for until `until`, with the milliseconds when; each timer runs when it is due.
fn run(gaps: &mut Gaps, start: Instant, until: Duration, round_trip: Duration) -> Vec<(u128, Vec<u16>)> {
    let mut asked = Vec::new();
    while let Some(due) = gaps.poll_timeout().filter(|due| *due <= start + until) {
        let wanted = gaps.ask(due, round_trip);
        if !wanted.is_empty() {
            asked.push(((due - start).as_millis(), wanted));
        }
    }
    asked
}

fn heard(gaps: &mut Gaps, now: Instant, numbers: impl IntoIterator<Item = u16>) {
    for seq in numbers {
        gaps.heard(now, seq, MEDIA);
    }
}

fn lost_padding(gaps: &mut Gaps) -> Vec<(u16, u32)> {
    gaps.lost_padding().map(|lost| (lost.seq, lost.timestamp)).collect()
}

#[test]
fn what_is_missing_is_asked_for_soon_and_once_a_round_trip() {
    let start = Instant::now();
    let mut gaps = Gaps::default();
    heard(&mut gaps, start, [65_533, 65_535, 3]);
    let asked = run(&mut gaps, start, 300 * MS, 80 * MS);
    assert_eq!(asked, [10, 110, 210].map(|at| (at, vec![65_534, 0, 1, 2])));
    heard(&mut gaps, start + 300 * MS, [1, 65_534]);
    let asked = run(&mut gaps, start, 420 * MS, 80 * MS);
    assert_eq!(asked, [(310, vec![0, 2]), (410, vec![0, 2])], "what has come is not asked for");
    heard(&mut gaps, start + 420 * MS, [2, 0]);
    assert_eq!(gaps.poll_timeout(), None, "nobody is woken while nothing is missing");
    assert_eq!(lost_padding(&mut gaps), []);
}

#[test]
fn what_only_came_out_of_its_order_is_not_asked_for() {
    let start = Instant::now();
    let mut gaps = Gaps::default();
    heard(&mut gaps, start, [1, 4]);
    heard(&mut gaps, start + 5 * MS, [3, 3, 2, 2, 4, 1]);
    assert_eq!(run(&mut gaps, start, Duration::from_secs(10), 80 * MS), []);
    heard(&mut gaps, start + 5 * MS, [5]);
    assert_eq!(gaps.poll_timeout(), None);
}

#[test]
fn what_never_comes_is_given_up() {
    for (round_trip, times) in [(Duration::ZERO, 10), (80 * MS, 10), (280 * MS, 4)] {
        let start = Instant::now();
        let mut gaps = Gaps::default();
        heard(&mut gaps, start, [7, 9]);
        let asked = run(&mut gaps, start, Duration::from_secs(60), round_trip);
        assert_eq!(asked.len(), times, "{round_trip:?}: {asked:?}");
        assert!(asked.last().is_some_and(|(at, _)| *at <= 1000), "{asked:?}");
        assert_eq!(gaps.poll_timeout(), None);
        assert_eq!(lost_padding(&mut gaps), [], "it may have been part of a picture");
    }
}

#[test]
fn a_sender_that_begins_anew_or_lies_is_asked_for_little() {
    let start = Instant::now();
    let mut gaps = Gaps::default();
    heard(&mut gaps, start, [1, 20_000, 3, 20_001, 65_000]);
    assert_eq!(gaps.poll_timeout(), None, "nobody lost a packet");
    heard(&mut gaps, start, [64_480, 64_490]);
    assert_eq!(gaps.poll_timeout(), None, "what comes very late is no beginning");
    // Every other packet, for as long as nothing is given up.
    heard(&mut gaps, start, (0..30_000).step_by(2));
    let [(_, wanted)] = &run(&mut gaps, start, 20 * MS, 80 * MS)[..] else { panic!("once") };
    assert_eq!((wanted.len(), wanted.last()), (MOST, Some(&29_997)), "the latest ones are worth most");
    heard(&mut gaps, start, [30_400, 30_800]);
    let [(_, wanted)] = &run(&mut gaps, start, 20 * MS, 80 * MS)[..] else { panic!("once") };
    assert!(wanted.len() <= MOST, "{}", wanted.len());
}

#[test]
fn lost_padding_is_known_at_once_by_what_is_around_it() {
    let start = Instant::now();
    let mut gaps = Gaps::default();
    gaps.heard(start, 65_534, last(9));
    for seq in [0, 1, 5] {
        gaps.heard(start, seq, padding(9));
    }
    assert_eq!(lost_padding(&mut gaps), [(65_535, 9), (2, 9), (3, 9), (4, 9)]);
    assert_eq!(gaps.poll_timeout(), None, "nobody is asked for it");

    // Between two pictures it may as well be the beginning of the next.
    gaps.heard(start, 7, MEDIA);
    gaps.heard(start, 8, last(18));
    gaps.heard(start, 10, padding(27));
    assert_eq!(lost_padding(&mut gaps), []);
    assert_eq!(run(&mut gaps, start, 20 * MS, 80 * MS), [(10, vec![6, 9])]);
}

#[test]
fn padding_lost_with_the_end_of_its_picture_is_known_once_that_has_come() {
    let start = Instant::now();
    let mut gaps = Gaps::default();
    gaps.heard(start, 1, MEDIA);
    gaps.heard(start, 6, padding(0));
    assert_eq!(run(&mut gaps, start, 20 * MS, 80 * MS), [(10, vec![2, 3, 4, 5])]);
    gaps.heard(start + 90 * MS, 3, last(0));
    assert_eq!(lost_padding(&mut gaps), [(4, 0), (5, 0)]);
    assert_eq!(run(&mut gaps, start, 120 * MS, 80 * MS), [(110, vec![2])], "this is of the picture");
}

#[test]
fn what_is_missing_behind_padding_and_never_comes_is_taken_for_padding() {
    let start = Instant::now();
    let mut gaps = Gaps::default();
    gaps.heard(start, 1, padding(9));
    gaps.heard(start, 3, MEDIA);
    let asked = run(&mut gaps, start, 300 * MS, 80 * MS);
    assert_eq!(asked, [10, 110, 210].map(|at| (at, vec![2])));
    assert_eq!(lost_padding(&mut gaps), []);
    assert_eq!(run(&mut gaps, start, Duration::from_secs(60), 80 * MS), []);
    assert_eq!(lost_padding(&mut gaps), [(2, 9)]);
    assert_eq!(gaps.poll_timeout(), None);
}

#[test]
fn what_is_missing_between_two_pictures_is_padding_if_there_is_no_time_for_a_third() {
    const FRAME: u32 = 3000;
    let start = Instant::now();
    let mut gaps = Gaps::default();
    let mut seq = 0;
    let mut picture = |gaps: &mut Gaps, lost: u16, timestamp: u32| {
        seq += lost + 1;
        gaps.heard(start, seq, Piece { is_first: true, is_last: true, timestamp, ..MEDIA });
    };
    let first = u32::MAX - 3 * FRAME;
    let at = |n: u32, early: u32| first.wrapping_add(n * FRAME - early);
    picture(&mut gaps, 0, at(0, 0));
    picture(&mut gaps, 2, at(1, 0));
    assert_eq!(lost_padding(&mut gaps), [], "nothing is known of its steps yet");
    for n in 2..30 {
        picture(&mut gaps, 0, at(n, n % 2 * 200));
    }
    picture(&mut gaps, 3, at(30, 0));
    assert_eq!(lost_padding(&mut gaps), [33, 34, 35].map(|seq| (seq, at(29, 200))));
    picture(&mut gaps, 1, at(32, 400));
    assert_eq!(lost_padding(&mut gaps), [], "it may have been a picture");
    assert_eq!(run(&mut gaps, start, 20 * MS, 80 * MS), [(10, vec![2, 3, 37])]);

    // The end of the picture before is missing, and the beginning of this one.
    gaps.heard(start, 39, Piece { is_first: true, timestamp: at(33, 0), ..MEDIA });
    gaps.heard(start, 41, Piece { is_first: true, timestamp: at(34, 0), ..MEDIA });
    gaps.heard(start, 42, last(at(34, 0)));
    gaps.heard(start, 44, last(at(35, 0)));
    assert_eq!(lost_padding(&mut gaps), []);
}
