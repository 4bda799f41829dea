//! Which layer each consumer of one receiver gets, from the room on its link, the sizes of its tiles and its priorities.

use crate::domain::room::picture::Size;

/// A step up has to fit with a tenth to spare, and what is sent already may be a tenth too much, so that a rate that wavers does not
/// make the picture waver.
const SPARE: (u64, u64) = (11, 10);
/// A layer that covers so much of a tile's area is as good as one that covers all of it.
const COVERS: (u32, u32) = (8, 10);

/// Most layers of one producer: what is told apart of a scalable stream, and more than browsers send of a simulcast.
pub const MAX_RUNGS: usize = 5;

/// A layer that can be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    /// Bits per second.
    pub rate: u64,
    /// `None` until its first keyframe.
    pub size: Option<Size>,
}

/// The layers of one producer that are being sent now, the least first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ladder {
    layers: [Layer; MAX_RUNGS],
    length: usize,
}

impl Ladder {
    /// Puts layers in order: by size, or by rate as long as a size is not known. The number beside each comes back in the same
    /// order.
    pub fn new<T: Copy + Default>(layers: impl IntoIterator<Item = (Layer, T)>) -> (Self, [T; MAX_RUNGS]) {
        let mut found = [(Layer::default(), T::default()); MAX_RUNGS];
        let mut length = 0;
        for (place, layer) in found.iter_mut().zip(layers) {
            *place = layer;
            length += 1;
        }
        let known = found[..length].iter().all(|(layer, _)| layer.size.is_some());
        found[..length].sort_by_key(|(layer, _)| match layer.size {
            Some(size) if known => (u64::from(size.pixels()), layer.rate),
            Some(_) | None => (0, layer.rate),
        });
        (Self { layers: found.map(|(layer, _)| layer), length }, found.map(|(_, beside)| beside))
    }

    pub fn layers(&self) -> &[Layer] {
        &self.layers[..self.length]
    }

    /// The least layer that fills a tile, with all of its pictures; the greatest where none does, or nobody said how large the tile is.
    pub fn nearest(&self, tile: Option<Size>) -> Option<usize> {
        let top = self.length.checked_sub(1)?;
        let Some(tile) = tile else { return Some(top) };
        let fills = |layer: &Layer| layer.size.is_none_or(|s| s.pixels() * COVERS.1 / COVERS.0 >= tile.pixels());
        let least = self.layers().iter().position(fills).unwrap_or(top);
        let is_as_large = |layer: &&Layer| layer.size.is_some() && layer.size == self.layers[least].size;
        Some(least + self.layers()[least + 1..].iter().take_while(is_as_large).count())
    }

    pub fn rate(&self, layer: usize) -> u64 {
        self.layers().get(layer).map_or(0, |layer| layer.rate)
    }
}

/// One consumer's wish.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Whose it is, to whoever asks.
    pub of: usize,
    pub ladder: Ladder,
    /// Greater is served first; equals take turns.
    pub priority: u8,
    /// The tallest layer it has use for; `None` if nothing is being sent.
    pub wanted: Option<usize>,
    /// What it gets now.
    pub current: Option<usize>,
    /// What it is to get.
    pub granted: Option<usize>,
}

impl Wish {
    /// What has to fit for a layer to be granted, if all is `total` with it.
    fn cost(&self, layer: usize, total: u64) -> u64 {
        let is_new = self.current.is_none_or(|current| layer > current);
        if is_new { total * SPARE.0 / SPARE.1 } else { total * SPARE.1 / SPARE.0 }
    }
}

/// Grants what fits into `room` bits per second, and returns what one further step up would send in all, if anybody wants one.
///
/// Everybody is seen before anybody is seen well: first the lowest layers in the order of priority, then step by step upwards.
pub fn share(room: u64, wishes: &mut [Wish]) -> Option<u64> {
    wishes.sort_by_key(|wish| std::cmp::Reverse(wish.priority));
    let mut used = 0;
    for wish in wishes.iter_mut() {
        wish.granted = None;
        let Some(total) = wish.wanted.map(|_| used + wish.ladder.rate(0)) else { continue };
        if wish.cost(0, total) <= room {
            wish.granted = Some(0);
            used = total;
        }
    }
    let mut refused: Option<u64> = wishes
        .iter()
        .find(|wish| wish.granted.is_none() && wish.wanted.is_some())
        .map(|wish| wish.cost(0, used + wish.ladder.rate(0)));
    let mut rest = wishes;
    while let Some(priority) = rest.first().map(|wish| wish.priority) {
        let peers = rest.partition_point(|wish| wish.priority >= priority);
        let (class, lower) = rest.split_at_mut(peers);
        while let Some(step) = climb(room, &mut used, class) {
            if let Climb::Refused(total) = step {
                refused = refused.or(Some(total));
                break;
            }
        }
        rest = lower;
    }
    refused
}

enum Climb {
    Taken,
    Refused(u64),
}

/// One step up for everybody in this class for whom it fits; `None` when nobody wants one any more.
fn climb(room: u64, used: &mut u64, class: &mut [Wish]) -> Option<Climb> {
    let mut outcome = None;
    for wish in class.iter_mut() {
        let (Some(granted), Some(wanted)) = (wish.granted, wish.wanted) else { continue };
        if granted >= wanted {
            continue;
        }
        let next = granted + 1;
        let total = *used - wish.ladder.rate(granted) + wish.ladder.rate(next);
        let cost = wish.cost(next, total);
        if cost <= room {
            *used = total;
            wish.granted = Some(next);
            outcome = Some(Climb::Taken);
        } else {
            outcome = match outcome {
                None => Some(Climb::Refused(cost)),
                Some(Climb::Refused(least)) => Some(Climb::Refused(least.min(cost))),
                Some(Climb::Taken) => outcome,
            };
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CAMERA: [(u64, u16); 3] = [(150_000, 180), (500_000, 360), (1_200_000, 720)];

    fn ladder(layers: &[(u64, u16)]) -> Ladder {
        let size = |height| Some(Size { width: height * 16 / 9, height });
        Ladder::new(layers.iter().map(|(rate, height)| (Layer { rate: *rate, size: size(*height) }, ()))).0
    }

    fn wish(priority: u8, current: Option<usize>) -> Wish {
        Wish { of: 0, ladder: ladder(&CAMERA), priority, wanted: Some(2), current, granted: None }
    }

    fn granted(wishes: &[Wish]) -> Vec<Option<usize>> {
        wishes.iter().map(|wish| wish.granted).collect()
    }

    #[test]
    fn layers_are_in_order_whatever_their_names() {
        let layer = |rate, height| Layer { rate, size: Some(Size { width: height * 2, height }) };
        let (ladder, beside) = Ladder::new([(layer(900, 720), 'a'), (layer(1_000, 180), 'b'), (layer(500, 360), 'c')]);
        assert_eq!(beside[..3], ['b', 'c', 'a']);
        assert_eq!(ladder.layers().len(), 3);
        let unknown = Layer { rate: 700, size: None };
        assert_eq!(Ladder::new([(layer(900, 720), 'a'), (unknown, 'b')]).1[..2], ['b', 'a'], "by rate until then");
    }

    #[test]
    fn a_tile_gets_the_least_layer_that_fills_it() {
        let ladder = ladder(&CAMERA);
        let nearest = |width, height| ladder.nearest(Some(Size { width, height }));
        assert_eq!(nearest(160, 90), Some(0));
        assert_eq!(nearest(320, 180), Some(0));
        assert_eq!(nearest(340, 190), Some(0), "a little enlargement nobody sees");
        assert_eq!(nearest(480, 270), Some(1));
        assert_eq!(nearest(3840, 2160), Some(2));
        assert_eq!(ladder.nearest(None), Some(2));
        assert_eq!(Ladder::default().nearest(None), None);
    }

    #[test]
    fn a_tile_gets_all_pictures_of_the_layer_that_fills_it() {
        let ladder = ladder(&[(60_000, 180), (90_000, 180), (150_000, 180), (500_000, 360)]);
        assert_eq!(ladder.nearest(Some(Size { width: 320, height: 180 })), Some(2));
        assert_eq!(ladder.nearest(Some(Size { width: 640, height: 360 })), Some(3));
    }

    #[test]
    fn everybody_is_seen_before_anybody_is_seen_well() {
        let mut wishes = [wish(0, None), wish(0, None), wish(0, None)];
        assert_eq!(share(10_000_000, &mut wishes), None);
        assert_eq!(granted(&wishes), [Some(2); 3]);
        assert_eq!(
            share(600_000, &mut wishes),
            Some(880_000),
            "450 kbit/s are sent; one step and a tenth would be more"
        );
        assert_eq!(granted(&wishes), [Some(0); 3]);
        assert_eq!(share(1_300_000, &mut wishes), Some(1_650_000));
        assert_eq!(granted(&wishes), [Some(1), Some(1), Some(0)]);
        assert_eq!(share(200_000, &mut wishes), Some(330_000));
        assert_eq!(granted(&wishes), [Some(0), None, None], "room for one only");
        assert_eq!(share(50_000, &mut wishes), Some(165_000));
        assert_eq!(granted(&wishes), [None; 3]);
    }

    #[test]
    fn the_most_important_is_served_first() {
        let mut wishes = [wish(0, None), wish(5, None)];
        share(1_600_000, &mut wishes);
        let served: Vec<_> = wishes.iter().map(|wish| (wish.priority, wish.granted)).collect();
        assert_eq!(served, [(5, Some(2)), (0, Some(0))]);
    }

    #[test]
    fn a_rate_that_wavers_does_not_make_the_picture_waver() {
        let mut wishes = [wish(0, Some(1))];
        share(1_250_000, &mut wishes);
        assert_eq!(granted(&wishes), [Some(1)], "not enough to spare for a step up");
        wishes[0].current = Some(2);
        share(1_250_000, &mut wishes);
        assert_eq!(granted(&wishes), [Some(2)], "but enough to stay");
        share(1_080_000, &mut wishes);
        assert_eq!(granted(&wishes), [Some(1)], "and down at once when it is not");
    }

    proptest! {
        #[test]
        fn what_is_granted_fits_and_is_never_more_than_wanted(
            room in 0u64..5_000_000,
            wishes in prop::collection::vec(
                (0u8..4, prop::option::of(0usize..3), prop::option::of(0usize..3), prop::collection::vec(1_000u64..2_000_000, 3)),
                0..12
            ),
        ) {
            let mut wishes: Vec<Wish> = wishes.into_iter().map(|(priority, wanted, current, mut rates)| {
                rates.sort_unstable();
                let layers: Vec<_> = rates.into_iter().zip([180, 360, 720]).collect();
                Wish { of: 0, ladder: ladder(&layers), priority, wanted, current, granted: None }
            }).collect();
            let more = share(room, &mut wishes);
            let sent: u64 = wishes.iter().filter_map(|w| w.granted.map(|layer| w.ladder.rate(layer))).sum();
            prop_assert!(sent * SPARE.1 <= room * SPARE.0 + SPARE.0, "{} in {}", sent, room);
            let has_all = wishes.iter().all(|w| w.granted == w.wanted);
            prop_assert_eq!(more.is_none(), has_all, "more is asked for as long as somebody could use it");
            for wish in &wishes {
                prop_assert!(wish.granted <= wish.wanted);
            }
            let again = wishes.iter().map(|w| w.granted).collect::<Vec<_>>();
            for wish in &mut wishes {
                wish.current = wish.granted;
            }
            share(room, &mut wishes);
            prop_assert_eq!(wishes.iter().map(|w| w.granted).collect::<Vec<_>>(), again, "a decision is stable");
        }
    }
}
