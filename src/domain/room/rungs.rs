//! The layers of one scalable stream as steps, each with what it costs and how large it is.

use std::time::Instant;

use crate::domain::room::layer::Frame;
use crate::domain::room::layer::MAX_SPATIAL;
use crate::domain::room::layers::Layer;
use crate::domain::room::layers::MAX_RUNGS;
use crate::domain::room::meter::Meter;
use crate::domain::room::picture::Size;
use crate::domain::room::selector::Layers;

/// All steps that are told apart. Pictures are left out of the smallest size only: below that nothing is smaller, and above it a smaller
/// size that moves is better than a larger one that stutters.
const RUNGS: [Layers; MAX_RUNGS] = [
    Layers { spatial: 0, temporal: 0 },
    Layers { spatial: 0, temporal: 1 },
    Layers { spatial: 0, temporal: u8::MAX },
    Layers { spatial: 1, temporal: u8::MAX },
    Layers { spatial: 2, temporal: u8::MAX },
];

/// The steps of a stream as far as they come.
#[derive(Clone, Debug, Default)]
pub(super) struct Rungs {
    /// What goes to those who get a step, beside what came of the step itself.
    meters: [(Meter, Meter); MAX_RUNGS],
    sizes: [Option<Size>; MAX_SPATIAL],
}

impl Rungs {
    /// Counts a packet of `length` bytes.
    pub(super) fn add(&mut self, now: Instant, frame: Frame, length: usize) {
        let own = RUNGS.iter().position(|rung| frame.spatial == rung.spatial && frame.temporal <= rung.temporal);
        for (index, (rung, (all, alone))) in RUNGS.iter().zip(&mut self.meters).enumerate() {
            if rung.need(frame) {
                all.add(now, length);
            }
            if own == Some(index) {
                alone.add(now, length);
            }
        }
    }

    /// Notes the sizes that a keyframe tells.
    pub(super) fn resize(&mut self, sizes: [Option<Size>; MAX_SPATIAL]) {
        if sizes.iter().any(Option::is_some) {
            self.sizes = sizes;
        }
    }

    /// The steps that are being sent.
    pub(super) fn active(&self, now: Instant) -> impl Iterator<Item = (Layer, Layers)> {
        let rungs = RUNGS.iter().zip(&self.meters).filter(move |(_, (_, alone))| alone.is_active(now));
        rungs.map(move |(rung, (all, _))| {
            (Layer { rate: all.rate(now), size: self.sizes[usize::from(rung.spatial)] }, *rung)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Two seconds of three sizes at 30 frames a second, of which each costs four times the one below, with three temporal layers.
    fn stream(is_independent: bool) -> (Rungs, Instant) {
        let start = Instant::now();
        let mut rungs = Rungs::default();
        let size = |width, height| Some(Size { width, height });
        rungs.resize([size(320, 180), size(640, 360), size(1280, 720)]);
        let at = |n: u64| start + Duration::from_millis(n * 33);
        for n in 0..60 {
            for spatial in 0..3 {
                let temporal = [0, 2, 1, 2][n % 4];
                let frame =
                    Frame { spatial, temporal, is_predicted: true, is_spare: is_independent, ..Frame::default() };
                rungs.add(at(n as u64), frame, 250 * 4_usize.pow(spatial.into()));
            }
        }
        (rungs, at(60))
    }

    #[test]
    fn a_step_costs_what_it_builds_on_too() {
        let (rungs, now) = stream(false);
        let rates: Vec<_> = rungs.active(now).map(|(layer, _)| layer.rate / 10_000).collect();
        // 250 bytes at 30 a second are 60 kbit/s.
        for (rate, expected) in rates.iter().zip([1, 3, 6, 30, 126]) {
            assert!(rate.abs_diff(expected) <= 1 + expected / 8, "{rates:?}");
        }
        assert_eq!(rates.len(), 5);
    }

    #[test]
    fn a_step_that_builds_on_none_costs_itself_only() {
        let (rungs, now) = stream(true);
        let top = rungs.active(now).last().expect("it is sent");
        assert!((860_000..1_100_000).contains(&top.0.rate), "{top:?}");
        assert_eq!(top.0.size, Some(Size { width: 1280, height: 720 }));
        assert_eq!(rungs.active(now + Duration::from_secs(2)).count(), 0, "and none when nothing comes");
    }
}
