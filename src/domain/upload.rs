//! How a file is cut for an object store, and how patient its upload is.

use std::time::Duration;

/// Bytes of a part, all of which are in memory while it is sent. Stores take nothing under 5 MiB.
const PART_BYTES: u64 = 8 << 20;

/// Parts of one object, a limit of S3's.
const MOST_PARTS: u64 = 10_000;

/// The wait after the first failure, and the longest.
const FIRST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// With the waits above this is twelve hours: somebody has read the log by then.
const MOST_ATTEMPTS: u32 = 80;

/// How large each part of a file of this length is; the last one is what is left.
pub fn part_bytes(length: u64) -> u64 {
    PART_BYTES.max(length.div_ceil(MOST_PARTS))
}

/// How long to wait after so many attempts, the first of which is 1; `None` gives up.
pub fn wait_after(attempts: u32) -> Option<Duration> {
    let doubled = FIRST_WAIT.saturating_mul(1 << attempts.saturating_sub(1).min(16));
    (attempts < MOST_ATTEMPTS).then(|| doubled.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_has_more_parts_than_a_store_takes() {
        for length in [0, 1, PART_BYTES, 80 << 30, (80 << 30) + 1, 5 << 40] {
            assert!(length.div_ceil(part_bytes(length)) <= MOST_PARTS, "{length}");
        }
        assert_eq!(part_bytes(1 << 30), 8 << 20);
    }

    #[test]
    fn waits_double_up_to_ten_minutes_and_end_after_half_a_day() {
        let seconds = |attempts| wait_after(attempts).map(|wait| wait.as_secs());
        assert_eq!([seconds(1), seconds(2), seconds(3)], [Some(5), Some(10), Some(20)]);
        assert_eq!([seconds(50), seconds(MOST_ATTEMPTS)], [Some(600), None]);
        let whole: u64 = (1..MOST_ATTEMPTS).filter_map(seconds).sum();
        assert!((40_000..50_000).contains(&whole), "{whole} s");
    }
}
