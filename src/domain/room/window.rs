//! De-duplication by RTP sequence number, in a bounded window.

/// Packets remembered. At 300 packets/s this is over 3 s, longer than any retransmission is worth waiting for.
const WINDOW: u16 = 1024;
const WORDS: usize = WINDOW as usize / 64;

/// What a sequence number is to the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    Fresh,
    /// Seen before: a retransmission of a packet that had arrived after all.
    Duplicate,
    /// Older than the window reaches.
    Stale,
}

/// The sequence numbers seen lately of one RTP source.
#[derive(Clone, Debug, Default)]
pub struct Window {
    highest: Option<u16>,
    seen: [u64; WORDS],
    /// The number that would prove that the source began anew (RFC 3550 appendix A.1): two stale packets in a row.
    restart: Option<u16>,
}

impl Window {
    /// The newest number, once there is one.
    pub const fn highest(&self) -> Option<u16> {
        self.highest
    }

    /// Notes a packet.
    pub fn note(&mut self, seq: u16) -> Arrival {
        let Some(highest) = self.highest else {
            self.begin(seq);
            return Arrival::Fresh;
        };
        let ahead = seq.wrapping_sub(highest);
        if ahead != 0 && ahead < 0x8000 {
            for step in 1..=ahead.min(WINDOW) {
                self.clear(highest.wrapping_add(step));
            }
            if ahead > WINDOW {
                self.seen = [0; WORDS];
            }
            self.highest = Some(seq);
            self.restart = None;
            self.set(seq);
            return Arrival::Fresh;
        }
        if highest.wrapping_sub(seq) >= WINDOW {
            if self.restart == Some(seq) {
                self.begin(seq);
                return Arrival::Fresh;
            }
            self.restart = Some(seq.wrapping_add(1));
            return Arrival::Stale;
        }
        if self.is_set(seq) {
            Arrival::Duplicate
        } else {
            self.set(seq);
            Arrival::Fresh
        }
    }

    fn begin(&mut self, seq: u16) {
        *self = Self { highest: Some(seq), ..Self::default() };
        self.set(seq);
    }

    fn place(seq: u16) -> (usize, u64) {
        let index = usize::from(seq % WINDOW);
        (index / 64, 1 << (index % 64))
    }

    fn set(&mut self, seq: u16) {
        let (word, bit) = Self::place(seq);
        self.seen[word] |= bit;
    }

    fn clear(&mut self, seq: u16) {
        let (word, bit) = Self::place(seq);
        self.seen[word] &= !bit;
    }

    fn is_set(&self, seq: u16) -> bool {
        let (word, bit) = Self::place(seq);
        self.seen[word] & bit != 0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn retransmissions_of_packets_that_arrived_are_duplicates() {
        let mut window = Window::default();
        assert_eq!(window.note(65_534), Arrival::Fresh);
        assert_eq!(window.note(1), Arrival::Fresh, "numbers wrap");
        assert_eq!(window.note(65_535), Arrival::Fresh, "a late packet that is new");
        assert_eq!(window.note(65_535), Arrival::Duplicate);
        assert_eq!(window.note(1), Arrival::Duplicate);
        assert_eq!(window.note(65_534), Arrival::Duplicate);
        assert_eq!(window.note(0), Arrival::Fresh);
    }

    #[test]
    fn what_is_older_than_the_window_is_stale_until_two_in_a_row_prove_a_restart() {
        let mut window = Window::default();
        window.note(5_000);
        assert_eq!(window.note(5_000 - WINDOW), Arrival::Stale);
        assert_eq!(window.note(5_001), Arrival::Fresh);
        assert_eq!(window.note(100), Arrival::Stale);
        assert_eq!(window.note(101), Arrival::Fresh, "the source began anew");
        assert_eq!(window.note(102), Arrival::Fresh);
    }

    #[test]
    fn a_jump_over_the_whole_window_forgets_it() {
        let mut window = Window::default();
        window.note(10);
        assert_eq!(window.note(10 + 2 * WINDOW), Arrival::Fresh);
        assert_eq!(window.note(10 + WINDOW + 1), Arrival::Fresh, "same place in the bitmap as an old packet");
    }

    proptest! {
        #[test]
        fn no_packet_of_a_shuffled_stream_passes_twice(start in any::<u16>(), order in prop::collection::vec(0u16..600, 1..400)) {
            let mut window = Window::default();
            let mut passed = HashSet::new();
            for offset in order {
                if window.note(start.wrapping_add(offset)) == Arrival::Fresh {
                    prop_assert!(passed.insert(offset));
                } else {
                    prop_assert!(passed.contains(&offset));
                }
            }
        }
    }
}
