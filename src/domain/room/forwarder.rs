//! One consumer's view of an RTP source: numbers and timestamps that go on without a gap across pauses and switches of source.

use std::time::Instant;

/// Packets older than this many numbers are not sent any more; the receiver has given them up.
const LATE_LIMIT: u16 = 1024;

/// What the forwarder needs to know of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Incoming {
    pub ssrc: u32,
    pub seq: u16,
    pub timestamp: u32,
    /// Decoding may begin at this packet; true for every audio packet.
    pub key: bool,
}

/// The numbers a packet gets on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    pub seq: u16,
    pub timestamp: u32,
}

/// Rewrites the sequence numbers and timestamps of one outgoing RTP stream.
#[derive(Clone, Debug)]
pub struct Forwarder {
    clock_rate: u32,
    state: State,
    last: Option<Last>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Nothing goes out before a packet that decoding may begin at.
    Waiting,
    Flowing {
        ssrc: u32,
        seq_offset: u16,
        timestamp_offset: u32,
        /// Packets before this one belong to the time before the switch, or are too late.
        floor: u16,
        highest: u16,
    },
}

/// The newest packet that went out.
#[derive(Clone, Copy, Debug)]
struct Last {
    seq: u16,
    timestamp: u32,
    at: Instant,
}

impl Forwarder {
    /// `clock_rate` in Hz is the codec's.
    pub fn new(clock_rate: u32) -> Self {
        Self { clock_rate, state: State::Waiting, last: None }
    }

    /// Ends the current run: what comes next may be of another source or after a pause, and begins at a keyframe.
    pub fn interrupt(&mut self) {
        self.state = State::Waiting;
    }

    /// Whether it needs a keyframe to go on.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting)
    }

    /// The numbers this packet leaves with; `None` keeps it back.
    pub fn forward(&mut self, now: Instant, packet: &Incoming) -> Option<Outgoing> {
        if let State::Flowing { ssrc, .. } = self.state
            && ssrc != packet.ssrc
        {
            self.interrupt();
        }
        if self.is_waiting() && packet.key {
            self.state = self.begin(now, packet);
        }
        let State::Flowing { seq_offset, timestamp_offset, floor, highest, .. } = &mut self.state else { return None };
        if packet.seq.wrapping_sub(*floor) >= 0x8000 {
            return None;
        }
        let out = Outgoing {
            seq: packet.seq.wrapping_add(*seq_offset),
            timestamp: packet.timestamp.wrapping_add(*timestamp_offset),
        };
        if packet.seq.wrapping_sub(*highest) < 0x8000 {
            *highest = packet.seq;
            if highest.wrapping_sub(*floor) > LATE_LIMIT {
                *floor = highest.wrapping_sub(LATE_LIMIT);
            }
            self.last = Some(Last { seq: out.seq, timestamp: out.timestamp, at: now });
        }
        Some(out)
    }

    fn begin(&self, now: Instant, packet: &Incoming) -> State {
        let (seq, timestamp) = match self.last {
            None => (packet.seq, packet.timestamp),
            Some(last) => {
                let elapsed =
                    now.saturating_duration_since(last.at).as_micros() * u128::from(self.clock_rate) / 1_000_000;
                // A timestamp of its own even when no time has passed: the same one would make it part of the last picture.
                let step = u32::try_from(elapsed & u128::from(u32::MAX)).expect("masked to 32 bits").max(1);
                (last.seq.wrapping_add(1), last.timestamp.wrapping_add(step))
            }
        };
        State::Flowing {
            ssrc: packet.ssrc,
            seq_offset: seq.wrapping_sub(packet.seq),
            timestamp_offset: timestamp.wrapping_sub(packet.timestamp),
            floor: packet.seq,
            highest: packet.seq,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn packet(ssrc: u32, seq: u16, timestamp: u32, key: bool) -> Incoming {
        Incoming { ssrc, seq, timestamp, key }
    }

    #[test]
    fn nothing_passes_before_a_keyframe() {
        let now = Instant::now();
        let mut forwarder = Forwarder::new(90_000);
        assert_eq!(forwarder.forward(now, &packet(1, 10, 100, false)), None);
        assert!(forwarder.is_waiting());
        assert_eq!(forwarder.forward(now, &packet(1, 11, 200, true)), Some(Outgoing { seq: 11, timestamp: 200 }));
        assert_eq!(forwarder.forward(now, &packet(1, 10, 100, false)), None, "from before the keyframe");
    }

    #[test]
    fn a_pause_leaves_no_gap_in_the_numbers_and_the_real_gap_in_time() {
        let start = Instant::now();
        let mut forwarder = Forwarder::new(48_000);
        forwarder.forward(start, &packet(1, 65_535, 960, true));
        forwarder.interrupt();
        let out = forwarder.forward(start + Duration::from_secs(2), &packet(1, 99, 97_000, true));
        assert_eq!(out, Some(Outgoing { seq: 0, timestamp: 960 + 96_000 }));
    }

    #[test]
    fn a_switch_of_source_goes_on_where_the_other_stopped() {
        let start = Instant::now();
        let mut forwarder = Forwarder::new(90_000);
        forwarder.forward(start, &packet(1, 500, 9_000, true));
        let later = start + Duration::from_millis(100);
        assert_eq!(forwarder.forward(later, &packet(2, 7, 4_000_000_000, false)), None, "waits for its keyframe");
        assert_eq!(
            forwarder.forward(later, &packet(2, 8, 4_000_003_000, true)),
            Some(Outgoing { seq: 501, timestamp: 18_000 })
        );
        assert_eq!(
            forwarder.forward(later, &packet(2, 10, 4_000_006_000, false)),
            Some(Outgoing { seq: 503, timestamp: 21_000 }),
            "a loss at the source stays visible, so that the receiver asks for it"
        );
        assert_eq!(
            forwarder.forward(later, &packet(2, 9, 4_000_003_000, false)),
            Some(Outgoing { seq: 502, timestamp: 18_000 }),
            "and the retransmission fits into it"
        );
    }

    #[test]
    fn a_stream_longer_than_the_number_space_flows_on() {
        let now = Instant::now();
        let mut forwarder = Forwarder::new(48_000);
        for n in 0..200_000u32 {
            let seq = u16::try_from(n & 0xffff).expect("masked");
            let out = forwarder.forward(now, &packet(1, seq, n.wrapping_mul(960), true));
            assert_eq!(out.map(|o| o.seq), Some(seq));
        }
        let old = forwarder.forward(now, &packet(1, 200_000u32.wrapping_sub(5_000) as u16, 0, true));
        assert_eq!(old, None, "too late to be of use");
    }
}
