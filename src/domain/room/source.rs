//! One RTP source of a producer: what came of it lately, what it costs, and who is to be asked for its keyframes.

use std::time::Instant;

use crate::domain::room::av1::Layering;
use crate::domain::room::forwarder::Incoming;
use crate::domain::room::keyframe::Plea;
use crate::domain::room::keyframe::Throttle;
use crate::domain::room::meter::Meter;
use crate::domain::room::picture::Size;
use crate::domain::room::repair::Losses;
use crate::domain::room::rungs::Rungs;
use crate::domain::room::transit::HEADERS;
use crate::domain::room::window::Arrival;
use crate::domain::room::window::Window;

/// One encoding of a producer as its own RTP stream.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// The RTP stream id (RFC 8852) of a simulcast layer.
    pub(super) rid: Option<String>,
    pub(super) ssrc: u32,
    pub(super) size: Option<Size>,
    /// NTP and RTP time of its last sender report.
    pub(super) report: Option<(u64, u32)>,
    pub(super) throttle: Throttle,
    pub(super) meter: Meter,
    /// The steps of it, if it comes in layers.
    pub(super) rungs: Option<Box<Rungs>>,
    pub(super) layering: Layering,
    pub(super) losses: Losses,
    window: Window,
}

impl Source {
    pub(super) fn new(rid: Option<&str>, ssrc: u32) -> Self {
        Self {
            rid: rid.map(str::to_owned),
            ssrc,
            size: None,
            report: None,
            throttle: Throttle::default(),
            meter: Meter::default(),
            rungs: None,
            layering: Layering::default(),
            losses: Losses::default(),
            window: Window::default(),
        }
    }

    /// Notes a packet of this source; only a fresh one is for the consumers.
    pub(super) fn accept(&mut self, now: Instant, packet: &Incoming, length: usize) -> Arrival {
        let before = self.window.highest();
        let arrival = self.window.note(packet.seq);
        if let (Some(before), Some(newest)) = (before, self.window.highest()) {
            self.losses.note(newest.wrapping_sub(before));
        }
        if arrival == Arrival::Fresh {
            self.meter.add(now, length + HEADERS);
            if let Some(frame) = packet.frame {
                self.rungs.get_or_insert_default().add(now, frame, length + HEADERS);
            }
            if packet.key {
                self.throttle.keyframe();
            }
        }
        arrival
    }

    pub(super) fn plead(&mut self, now: Instant) -> Plea {
        self.throttle.plead(now)
    }

    /// What a time of another source of the same sender is in this one, in ticks of `clock_rate` Hz; `None` while either has not
    /// told its clock.
    pub(super) fn twin(&self, other: &Self, timestamp: u32, clock_rate: u32) -> Option<u32> {
        let (ntp, rtp) = self.report?;
        let (other_ntp, other_rtp) = other.report?;
        // NTP times have 32 bits of fraction; both reports are seconds apart at most, so that the product fits.
        let apart = (i128::from(other_ntp.wrapping_sub(ntp).cast_signed()) * i128::from(clock_rate)) >> 32;
        let apart = u32::try_from(apart & i128::from(u32::MAX)).expect("masked to 32 bits");
        Some(rtp.wrapping_add(apart).wrapping_add(timestamp.wrapping_sub(other_rtp)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_in_one_layer_is_found_in_another() {
        let mut low = Source::new(Some("q"), 1);
        let mut high = Source::new(Some("f"), 2);
        assert_eq!(low.twin(&high, 0, 90_000), None);
        low.report = Some((100 << 32, u32::MAX));
        high.report = Some(((101 << 32) + (1 << 31), 7));
        // 1.5 s between the reports, and 0.1 s after the later one.
        assert_eq!(low.twin(&high, 7 + 9_000, 90_000), Some(135_000 + 9_000 - 1));
        assert_eq!(high.twin(&low, u32::MAX, 90_000), Some(7u32.wrapping_sub(135_000)));
    }
}
