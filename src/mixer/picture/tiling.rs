//! Geometry of the composed picture: where in its place a picture stands, and what of the canvas is left uncovered.

use crate::model::scene::Rect;

/// A picture that misses its place's shape by less than this fills it: a border of two pixels is a flaw, a distortion of two is not seen.
const NEARLY: u32 = 4;

/// Which part of a picture goes where on the canvas, both in pixels of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mixer) struct Fit {
    pub from: Rect,
    pub to: Rect,
}

/// A picture's size in pixels, and the shape of a pixel as width over height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mixer) struct Shape {
    pub width: u32,
    pub height: u32,
    pub pixel: (u32, u32),
}

/// The largest place for a picture in the middle of `place` without changing its shape, cut off at the edges of a canvas of this width
/// and height. `None` if nothing of it is to be seen.
pub(in crate::mixer) fn fit(picture: Shape, place: Rect, canvas: (u32, u32)) -> Option<Fit> {
    let wide = u64::from(picture.width) * u64::from(picture.pixel.0);
    let high = u64::from(picture.height) * u64::from(picture.pixel.1);
    if wide == 0 || high == 0 {
        return None;
    }
    let within = |most: u32, other: u32, along: u64, across: u64| {
        let length = u64::from(other).saturating_mul(along) / across;
        u32::try_from(length).unwrap_or(u32::MAX).clamp(2, most.max(2))
    };
    let whole = |length: u32, most: u32| if length.saturating_add(NEARLY) > most { most } else { length };
    let width = whole(within(place.width, place.height, wide, high), place.width) & !1;
    let height = whole(within(place.height, place.width, high, wide), place.height) & !1;
    let along = |begin: u32, place: u32, length: u32, edge: u32, picture: u32| {
        let at = begin.saturating_add((place - length) / 2) & !1;
        let seen = length.min(edge.saturating_sub(at)) & !1;
        let part = if seen == length {
            picture
        } else {
            (u64::from(picture) * u64::from(seen) / u64::from(length)) as u32 & !1
        };
        (at, seen, part)
    };
    if width == 0 || height == 0 {
        return None;
    }
    let (x, seen_width, part_width) = along(place.x, place.width, width, canvas.0, picture.width);
    let (y, seen_height, part_height) = along(place.y, place.height, height, canvas.1, picture.height);
    let seen = [seen_width, part_width, seen_height, part_height].iter().all(|length| *length > 0);
    seen.then_some(Fit {
        from: Rect { x: 0, y: 0, width: part_width, height: part_height },
        to: Rect { x, y, width: seen_width, height: seen_height },
    })
}

/// What is left of a rectangle that others lie on, in pieces that do not overlap.
pub(in crate::mixer) fn uncovered(whole: Rect, others: &[Rect]) -> Vec<Rect> {
    others
        .iter()
        .fold(vec![whole], |pieces, other| pieces.into_iter().flat_map(|piece| beside(piece, *other)).collect())
}

/// What is left of one rectangle beside another: strips above, below, to the left and to the right.
fn beside(piece: Rect, other: Rect) -> impl Iterator<Item = Rect> {
    let (right, bottom) = (piece.x + piece.width, piece.y + piece.height);
    let left_cut = other.x.clamp(piece.x, right);
    let right_cut = other.x.saturating_add(other.width).clamp(piece.x, right);
    let top_cut = other.y.clamp(piece.y, bottom);
    let bottom_cut = other.y.saturating_add(other.height).clamp(piece.y, bottom);
    let strips = if left_cut == right_cut || top_cut == bottom_cut {
        [piece, EMPTY, EMPTY, EMPTY]
    } else {
        let middle = bottom_cut - top_cut;
        [
            Rect { height: top_cut - piece.y, ..piece },
            Rect { y: bottom_cut, height: bottom - bottom_cut, ..piece },
            Rect { y: top_cut, width: left_cut - piece.x, height: middle, ..piece },
            Rect { x: right_cut, y: top_cut, width: right - right_cut, height: middle },
        ]
    };
    strips.into_iter().filter(|strip| strip.width > 0 && strip.height > 0)
}

const EMPTY: Rect = Rect { x: 0, y: 0, width: 0, height: 0 };

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CANVAS: (u32, u32) = (1280, 720);

    const fn rect(x: u32, y: u32, width: u32, height: u32) -> Rect {
        Rect { x, y, width, height }
    }

    const fn square_pixels(width: u32, height: u32) -> Shape {
        Shape { width, height, pixel: (1, 1) }
    }

    #[test]
    fn a_picture_keeps_its_shape_in_the_middle_of_its_place() {
        let quarter = rect(640, 360, 640, 360);
        for (picture, expected) in [
            (square_pixels(640, 360), quarter),
            (square_pixels(1920, 1080), quarter),
            (square_pixels(640, 480), rect(720, 360, 480, 360)),
            (square_pixels(1000, 200), rect(640, 476, 640, 128)),
            (Shape { width: 320, height: 360, pixel: (2, 1) }, quarter),
            // One pixel narrower than its place's shape.
            (square_pixels(427, 241), quarter),
        ] {
            let fit = fit(picture, quarter, CANVAS).expect("seen");
            assert_eq!((fit.to, fit.from), (expected, rect(0, 0, picture.width, picture.height)), "{picture:?}");
        }
    }

    #[test]
    fn what_stands_outside_is_cut_off_and_not_squeezed() {
        let half = fit(square_pixels(1280, 720), rect(960, 0, 640, 360), CANVAS).expect("seen");
        assert_eq!(half, Fit { from: rect(0, 0, 640, 720), to: rect(960, 0, 320, 360) });
        for nowhere in [rect(1280, 0, 640, 360), rect(0, 720, 64, 36), rect(0, 0, 0, 360), rect(u32::MAX, 0, 64, 36)] {
            assert_eq!(fit(square_pixels(1280, 720), nowhere, CANVAS), None, "{nowhere:?}");
        }
        assert_eq!(fit(square_pixels(0, 720), rect(0, 0, 640, 360), CANVAS), None);
    }

    #[test]
    fn a_full_grid_leaves_nothing_and_a_hole_leaves_itself() {
        let canvas = rect(0, 0, 1280, 720);
        let grid: Vec<_> = (0..4).map(|n| rect(n % 2 * 640, n / 2 * 360, 640, 360)).collect();
        assert_eq!(uncovered(canvas, &grid), []);
        assert_eq!(uncovered(canvas, &grid[..3]), [grid[3]]);
        assert_eq!(uncovered(canvas, &[]), [canvas]);
    }

    fn any_rect() -> impl Strategy<Value = Rect> {
        (0..40u32, 0..40u32, 0..40u32, 0..40u32).prop_map(|(x, y, width, height)| rect(x, y, width, height))
    }

    const fn holds(rect: Rect, x: u32, y: u32) -> bool {
        x >= rect.x && y >= rect.y && x - rect.x < rect.width && y - rect.y < rect.height
    }

    proptest! {
        #[test]
        fn every_pixel_is_covered_or_in_one_piece(others in prop::collection::vec(any_rect(), 0..5)) {
            let whole = rect(4, 6, 24, 20);
            let pieces = uncovered(whole, &others);
            for (x, y) in (0..40).flat_map(|x| (0..40).map(move |y| (x, y))) {
                let left = holds(whole, x, y) && !others.iter().any(|other| holds(*other, x, y));
                prop_assert_eq!(pieces.iter().filter(|piece| holds(**piece, x, y)).count(), usize::from(left));
            }
        }

        #[test]
        fn no_fit_reaches_outside(
            (width, height) in (1..5000u32, 1..5000u32), pixel in (1..100u32, 1..100u32),
            (x, y) in (0..3000u32, 0..3000u32), (wide, high) in (0..3000u32, 0..3000u32),
        ) {
            let place = rect(x, y, wide, high);
            if let Some(Fit { from, to }) = fit(Shape { width, height, pixel }, place, CANVAS) {
                prop_assert!(from.width > 0 && from.height > 0 && from.width <= width && from.height <= height);
                prop_assert!(to.width > 0 && to.x + to.width <= CANVAS.0 && to.width <= wide, "{:?}", to);
                prop_assert!(to.height > 0 && to.y + to.height <= CANVAS.1 && to.height <= high, "{:?}", to);
                prop_assert!([to.x, to.y, to.width, to.height].iter().all(|number| number % 2 == 0), "{:?}", to);
            }
        }
    }
}
