//! Which recordings are deleted: those that are too old, and of all together the oldest until what is left fits. What is still being
//! written, uploaded, or was marked to be kept stays, and counts.

/// What is kept. `None` knows no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Milliseconds since a recording ended.
    pub max_age_ms: Option<i64>,
    /// Bytes of all recordings together.
    pub max_bytes: Option<u64>,
}

/// A recording as the rule sees it.
#[derive(Clone, Copy, Debug)]
pub struct Held<K> {
    pub key: K,
    /// Milliseconds since the Unix epoch; `None` while it is being written.
    pub ended_at_ms: Option<i64>,
    pub bytes: u64,
    /// Whether something else needs it.
    pub needed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    Age,
    Space,
}

impl Why {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Space => "space",
        }
    }
}

/// The recordings to be deleted at `now_ms`, the oldest first.
pub fn condemned<K: Copy>(all: &[Held<K>], rule: Rule, now_ms: i64) -> Vec<(K, Why)> {
    let mut finished: Vec<(i64, &Held<K>)> =
        all.iter().filter(|held| !held.needed).filter_map(|held| Some((held.ended_at_ms?, held))).collect();
    finished.sort_by_key(|(ended, _)| *ended);
    let mut bytes = all.iter().fold(0u64, |sum, held| sum.saturating_add(held.bytes));
    let mut condemned = Vec::new();
    for (ended, held) in finished {
        let old = rule.max_age_ms.is_some_and(|most| now_ms.saturating_sub(ended) > most);
        let too_much = rule.max_bytes.is_some_and(|most| bytes > most);
        let why = match (old, too_much) {
            (true, _) => Why::Age,
            (false, true) => Why::Space,
            // Whatever follows is younger, and what is left fits.
            (false, false) => break,
        };
        bytes = bytes.saturating_sub(held.bytes);
        condemned.push((held.key, why));
    }
    condemned
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: i64 = 86_400_000;

    fn held(key: u32, ended_at_ms: Option<i64>, bytes: u64) -> Held<u32> {
        Held { key, ended_at_ms, bytes, needed: false }
    }

    #[test]
    fn without_a_rule_everything_stays() {
        assert_eq!(condemned(&[held(1, Some(0), u64::MAX)], Rule::default(), i64::MAX), []);
    }

    #[test]
    fn a_day_passes_and_the_old_go_while_the_needed_stay() {
        let rule = Rule { max_age_ms: Some(DAY), max_bytes: None };
        let kept = Held { needed: true, ..held(3, Some(0), 1) };
        let all = [held(1, Some(DAY / 2), 1), held(2, Some(0), 1), kept, held(4, None, 1)];
        assert_eq!(condemned(&all, rule, DAY), []);
        assert_eq!(condemned(&all, rule, DAY + 1), [(2, Why::Age)]);
        assert_eq!(condemned(&all, rule, 2 * DAY), [(2, Why::Age), (1, Why::Age)]);
    }

    #[test]
    fn the_oldest_make_room_and_what_cannot_go_counts() {
        let rule = Rule { max_age_ms: None, max_bytes: Some(10) };
        let running = held(9, None, 4);
        let all = [held(1, Some(30), 4), held(2, Some(10), 3), held(3, Some(20), 5), running];
        assert_eq!(condemned(&all, rule, 40), [(2, Why::Space), (3, Why::Space)]);
        let kept = Held { needed: true, ..held(5, Some(0), 100) };
        assert_eq!(condemned(&[kept, held(6, Some(1), 1)], rule, 2), [(6, Why::Space)]);
    }

    proptest! {
        #[test]
        fn nothing_needed_or_unfinished_is_ever_deleted_and_nothing_too_early(
            all in prop::collection::vec((prop::option::of(0i64..100), 0u64..50, any::<bool>()), 0..30),
            most in 0u64..500,
            age in 0i64..120,
        ) {
            let all: Vec<_> = all.into_iter().enumerate()
                .map(|(key, (ended_at_ms, bytes, needed))| Held { key, ended_at_ms, bytes, needed })
                .collect();
            let rule = Rule { max_age_ms: Some(age), max_bytes: Some(most) };
            let gone = condemned(&all, rule, 100);
            let is_gone = |key: usize| gone.iter().any(|(other, _)| *other == key);
            prop_assert!(all.iter().all(|held| !is_gone(held.key) || (!held.needed && held.ended_at_ms.is_some())));
            let left: u64 = all.iter().filter(|held| !is_gone(held.key)).map(|held| held.bytes).sum();
            let may_go = |held: &&Held<usize>| !is_gone(held.key) && !held.needed && held.ended_at_ms.is_some();
            prop_assert!(left <= most || !all.iter().any(|held| may_go(&held)));
            prop_assert!(all.iter().filter(may_go).all(|held| held.ended_at_ms.is_none_or(|ended| 100 - ended <= age)));
        }
    }
}
