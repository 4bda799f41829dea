//! One track's packets back in sequence: waits for a missing one as long as the playout delay allows, then calls it lost.

use std::collections::BTreeMap;

/// Packets held for one track. 2 s of added delay at 12 Mbit/s is 2 500 packets; a sender that fills this is flooding.
const CAPACITY: usize = 4096;

/// A jump of sequence numbers this large is a sender that began anew (RFC 3550 appendix A.1, MAX_DROPOUT).
const DROPOUT: i64 = 3000;

/// What comes out, in sequence.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::mixer) enum Next<T> {
    Packet {
        due: i64,
        item: T,
    },
    /// So many packets before the next one never came.
    Lost {
        packets: u64,
    },
}

/// Why a packet was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mixer) enum Refused {
    /// Its turn is over: a duplicate of a packet that went out, or one that came after it was called lost.
    Late,
    /// It is here already.
    Duplicate,
    /// [`CAPACITY`] packets wait.
    Full,
}

/// A reordering buffer over items of any kind, in virtual time.
#[derive(Debug)]
pub(in crate::mixer) struct Reorder<T> {
    /// Sequence number of the next packet to go out, free of wraps.
    next: Option<i64>,
    held: BTreeMap<i64, (i64, T)>,
}

impl<T> Reorder<T> {
    pub(in crate::mixer) const fn new() -> Self {
        Self { next: None, held: BTreeMap::new() }
    }

    /// Takes a packet of 16-bit sequence number `sequence` that is due at `due`.
    ///
    /// # Errors
    /// When it is late, here already, or one too many.
    pub(in crate::mixer) fn push(&mut self, sequence: u16, due: i64, item: T) -> Result<(), Refused> {
        let reference = self.held.last_key_value().map(|(key, _)| *key).or(self.next);
        let extended = match reference {
            Some(near) => near + i64::from(sequence.wrapping_sub(near as u16).cast_signed()),
            None => i64::from(sequence),
        };
        if reference.is_some_and(|near| (extended - near).abs() > DROPOUT) {
            self.held.clear();
            self.next = None;
        }
        if self.next.is_some_and(|next| extended < next) {
            return Err(Refused::Late);
        }
        if self.held.len() >= CAPACITY {
            return Err(Refused::Full);
        }
        if self.held.contains_key(&extended) {
            return Err(Refused::Duplicate);
        }
        self.held.insert(extended, (due, item));
        Ok(())
    }

    /// The next in sequence that is due before `horizon`. A missing packet is waited for until its successor is due before `patience`.
    pub(in crate::mixer) fn pop(&mut self, horizon: i64, patience: i64) -> Option<Next<T>> {
        let (&sequence, &(due, _)) = self.held.first_key_value()?;
        if due > horizon {
            return None;
        }
        let missing = self.next.map_or(0, |next| sequence - next);
        if missing > 0 {
            if due > patience {
                return None;
            }
            self.next = Some(sequence);
            return Some(Next::Lost { packets: missing.unsigned_abs() });
        }
        // The very first packet may have been overtaken as well, so it waits as if one before it were missing.
        if self.next.is_none() && due > patience {
            return None;
        }
        let (_, (due, item)) = self.held.pop_first()?;
        self.next = Some(sequence + 1);
        Some(Next::Packet { due, item })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(due: i64, item: u16) -> Option<Next<u16>> {
        Some(Next::Packet { due, item })
    }

    #[test]
    fn a_swapped_pair_comes_out_in_order_across_the_wrap() {
        let mut reorder = Reorder::new();
        for sequence in [65_534, 0, 65_535, 1] {
            reorder.push(sequence, 10, sequence).expect("taken");
        }
        for sequence in [65_534, 65_535, 0, 1] {
            assert_eq!(reorder.pop(10, 10), packet(10, sequence));
        }
        assert_eq!(reorder.pop(10, 10), None);
    }

    #[test]
    fn a_missing_packet_is_waited_for_and_then_lost() {
        let mut reorder = Reorder::new();
        reorder.push(1, 100, 1).expect("taken");
        assert_eq!(reorder.pop(150, 100), packet(100, 1));
        reorder.push(3, 140, 3).expect("taken");
        assert_eq!(reorder.pop(150, 130), None, "there is time left for packet 2");
        assert_eq!(reorder.pop(150, 140), Some(Next::Lost { packets: 1 }));
        assert_eq!(reorder.pop(150, 140), packet(140, 3));
        assert_eq!(reorder.push(2, 120, 2), Err(Refused::Late));
        assert_eq!(reorder.push(4, 160, 4), Ok(()));
        assert_eq!(reorder.push(4, 160, 4), Err(Refused::Duplicate));
        assert_eq!(reorder.pop(150, 140), None, "held back until it is near");
    }

    #[test]
    fn a_flood_is_refused_and_a_new_beginning_is_followed() {
        let mut reorder = Reorder::new();
        let taken = (0..7_000u16).filter(|sequence| reorder.push(*sequence, 0, *sequence).is_ok()).count();
        assert_eq!(taken, CAPACITY);
        reorder.push(40_000, 5, 40_000).expect("a new beginning");
        assert_eq!(reorder.pop(5, 5), packet(5, 40_000));
    }

    proptest! {
        #[test]
        fn whatever_arrives_leaves_in_order_and_once(sequences in prop::collection::vec(0u16..200, 0..300)) {
            let mut reorder = Reorder::new();
            let mut last = None;
            for sequence in sequences {
                // A refusal is an answer too; only what comes out counts here.
                reorder.push(sequence, i64::from(sequence), sequence).ok();
                while let Some(next) = reorder.pop(500, i64::from(sequence)) {
                    if let Next::Packet { item, .. } = next {
                        prop_assert!(last.is_none_or(|last| item > last));
                        last = Some(item);
                    }
                }
            }
        }
    }
}
