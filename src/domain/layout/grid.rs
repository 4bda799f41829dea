//! Where each picture stands: a grid of 16:9 tiles, as large as the canvas allows.

use std::cmp::Reverse;

use crate::model::scene::Placement;
use crate::model::scene::Rect;

/// Places `count` pictures on a canvas of `width` by `height` pixels, both even, in reading order.
///
/// One fills the canvas. More stand in a centred grid of equal tiles: two side by side, up to four in two rows of two, and so on.
/// On a 16:9 canvas the tiles of up to four are exactly half as wide and high, which is a simulcast layer's size, so that nothing has to
/// be scaled. Every number is even, no two tiles overlap, and a given count always gives the same tiles.
pub fn place(count: usize, width: u32, height: u32) -> Vec<Placement> {
    match u32::try_from(count).unwrap_or(u32::MAX) {
        0 => Vec::new(),
        1 => vec![Placement { rect: Rect { x: 0, y: 0, width, height }, z: 0 }],
        count => grid(count, width, height),
    }
}

fn grid(count: u32, width: u32, height: u32) -> Vec<Placement> {
    // Of grids with equally large tiles the one with more columns wins, because people stand side by side.
    let columns = (1..=count)
        .max_by_key(|&columns| {
            let (tile_width, tile_height) = tile(columns, count.div_ceil(columns), width, height);
            (u64::from(tile_width) * u64::from(tile_height), Reverse(count.div_ceil(columns)))
        })
        .expect("there is at least one column");
    let rows = count.div_ceil(columns);
    // A wider grid than its rows need would have columns that stay empty.
    let columns = count.div_ceil(rows);
    let (tile_width, tile_height) = tile(columns, rows, width, height);
    let top = even((height - rows * tile_height) / 2);
    (0..count)
        .map(|index| {
            let row = index / columns;
            let in_row = columns.min(count - row * columns);
            let left = even((width - in_row * tile_width) / 2);
            let x = left + index % columns * tile_width;
            let y = top + row * tile_height;
            Placement { rect: Rect { x, y, width: tile_width, height: tile_height }, z: 0 }
        })
        .collect()
}

/// The largest even tile of about 16:9 that fits so many times into the canvas.
fn tile(columns: u32, rows: u32, width: u32, height: u32) -> (u32, u32) {
    let (cell_width, cell_height) = (even(width / columns), even(height / rows));
    let tile_width = cell_width.min(nearest_even(cell_height * 16, 9));
    let tile_height = cell_height.min(nearest_even(cell_width * 9, 16));
    (tile_width, tile_height)
}

fn even(pixels: u32) -> u32 {
    pixels & !1
}

fn nearest_even(numerator: u32, denominator: u32) -> u32 {
    (numerator + denominator) / (2 * denominator) * 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rects(count: usize) -> Vec<(u32, u32, u32, u32)> {
        place(count, 1280, 720).iter().map(|p| (p.rect.x, p.rect.y, p.rect.width, p.rect.height)).collect()
    }

    #[test]
    fn small_bands_on_720p() {
        assert_eq!(rects(0), []);
        assert_eq!(rects(1), [(0, 0, 1280, 720)]);
        assert_eq!(rects(2), [(0, 180, 640, 360), (640, 180, 640, 360)]);
        assert_eq!(rects(3), [(0, 0, 640, 360), (640, 0, 640, 360), (320, 360, 640, 360)]);
        assert_eq!(rects(4), [(0, 0, 640, 360), (640, 0, 640, 360), (0, 360, 640, 360), (640, 360, 640, 360)]);
    }

    #[test]
    fn five_to_nine_stand_in_three_columns() {
        for count in 5..=9 {
            let tiles = rects(count);
            assert!(tiles.iter().all(|&(_, _, width, height)| (width, height) == (426, 240)), "{tiles:?}");
            let rows: std::collections::BTreeSet<u32> = tiles.iter().map(|tile| tile.1).collect();
            assert_eq!(rows.len(), count.div_ceil(3));
        }
    }

    fn overlap(a: Rect, b: Rect) -> bool {
        a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height
    }

    proptest! {
        #[test]
        fn tiles_are_even_apart_inside_and_in_reading_order(
            count in 1usize..60, half_width in 160u32..1920, half_height in 160u32..1920
        ) {
            let (width, height) = (half_width * 2, half_height * 2);
            let tiles: Vec<Rect> = place(count, width, height).iter().map(|placement| placement.rect).collect();
            prop_assert_eq!(tiles.len(), count);
            for (index, tile) in tiles.iter().enumerate() {
                prop_assert!([tile.x, tile.y, tile.width, tile.height].iter().all(|n| n % 2 == 0), "{tile:?}");
                prop_assert!(tile.width > 0 && tile.height > 0);
                prop_assert!(tile.x + tile.width <= width && tile.y + tile.height <= height, "{tile:?}");
                for other in &tiles[index + 1..] {
                    prop_assert!(!overlap(*tile, *other), "{tile:?} {other:?}");
                    prop_assert!((tile.y, tile.x) < (other.y, other.x));
                    prop_assert_eq!((tile.width, tile.height), (other.width, other.height));
                }
            }
        }

        #[test]
        fn tiles_are_wide_and_no_other_grid_has_larger_ones(
            count in 2usize..40, half_width in 160u32..1920, half_height in 160u32..1920
        ) {
            let (width, height) = (half_width * 2, half_height * 2);
            let rect = place(count, width, height)[0].rect;
            // Rounding to even pixels may be off by two.
            prop_assert!((i64::from(rect.width) * 9 - i64::from(rect.height) * 16).abs() <= 2 * 16 + 2 * 9, "{rect:?}");
            for columns in 1..=u32::try_from(count).unwrap() {
                let rows = u32::try_from(count).unwrap().div_ceil(columns);
                let fits = f64::from(width / columns).min(f64::from(height / rows) * 16.0 / 9.0);
                prop_assert!(f64::from(rect.width) > fits - 4.0, "{rect:?} in {columns} x {rows} could be {fits} wide");
            }
        }
    }
}
