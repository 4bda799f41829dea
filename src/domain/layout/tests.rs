use proptest::prelude::*;

use super::*;

fn cameras(count: usize) -> Vec<Pick> {
    (0..count).map(|_| Pick { participant: ParticipantId::generate(), screen: false }).collect()
}

fn of(kind: Kind) -> Layout {
    Layout { kind, ..Layout::default() }
}

fn rects(placements: &[Option<Placement>]) -> Vec<Option<(u32, u32, u32, u32)>> {
    placements.iter().map(|p| p.map(|p| (p.rect.x, p.rect.y, p.rect.width, p.rect.height))).collect()
}

const WHOLE: Option<(u32, u32, u32, u32)> = Some((0, 0, 1280, 720));

#[test]
fn the_loudest_stands_large_beside_the_others() {
    let band = cameras(3);
    let at = Attention { loudest: Some(band[1].participant), ..Attention::default() };
    let placements = of(Kind::Speaker).arrange(&band, at, 1280, 720);
    let expected = [Some((960, 180, 320, 180)), Some((0, 90, 960, 540)), Some((960, 360, 320, 180))];
    assert_eq!(rects(&placements), expected);
    // Somebody without a picture may be the loudest.
    let at = Attention { loudest: Some(ParticipantId::generate()), ..Attention::default() };
    assert_eq!(rects(&of(Kind::Speaker).arrange(&band, at, 1280, 720))[0], Some((0, 90, 960, 540)));
    assert_eq!(rects(&of(Kind::Speaker).arrange(&band[..1], at, 1280, 720)), [WHOLE]);
}

#[test]
fn the_spotlight_is_on_whom_it_should_be() {
    let mut band = cameras(3);
    let screen = Pick { screen: true, ..band[1] };
    band.insert(2, screen);
    let lit = |layout: &Layout, at| {
        let placements = rects(&layout.arrange(&band, at, 1280, 720));
        assert_eq!(placements.iter().flatten().count(), 1);
        placements.iter().position(|rect| *rect == WHOLE)
    };
    let at = Attention { spotlight: Some(band[3].participant), loudest: Some(band[0].participant) };
    assert_eq!(lit(&Layout { large: Some(band[1]), ..of(Kind::Spotlight) }, at), Some(1), "as chosen");
    let gone = Some(Pick { participant: ParticipantId::generate(), screen: false });
    assert_eq!(lit(&Layout { large: gone, ..of(Kind::Spotlight) }, at), Some(3), "as the room's host shows it");
    assert_eq!(lit(&of(Kind::Spotlight), Attention { spotlight: None, ..at }), Some(2), "a screen is there to be seen");
}

#[test]
fn a_picture_stands_in_the_corner_of_another() {
    let mut band = cameras(3);
    band.push(Pick { screen: true, ..band[1] });
    let layout = of(Kind::PictureInPicture);
    let shown = layout.arrange(&band, Attention::default(), 1280, 720);
    assert_eq!(rects(&shown), [None, Some((930, 510, 320, 180)), None, WHOLE], "a screen and who shows it");
    assert!(shown[1].map(|p| p.z) > shown[3].map(|p| p.z));
    let chosen = Layout { large: Some(band[0]), small: Some(band[2]), corner: Corner::TopLeft, ..layout.clone() };
    let shown = rects(&chosen.arrange(&band, Attention::default(), 1280, 720));
    assert_eq!(shown, [WHOLE, None, Some((30, 30, 320, 180)), None]);
    let same = Layout { large: Some(band[0]), small: Some(band[0]), ..layout };
    assert_eq!(rects(&same.arrange(&band[..1], Attention::default(), 1280, 720)), [WHOLE]);
}

#[test]
fn tiles_by_hand_stand_where_they_were_put() {
    let band = cameras(3);
    let tile = |of, x, y, width, height| Tile { of, x, y, width, height };
    let tiles = vec![tile(band[2], 0.0, 0.0, 1.0, 1.0), tile(band[0], 0.7, 0.1, 0.25, 0.3)];
    let placements = Layout { tiles, ..of(Kind::Custom) }.arrange(&band, Attention::default(), 1280, 720);
    assert_eq!(rects(&placements), [Some((896, 72, 320, 216)), None, WHOLE]);
    assert!(placements[0].map(|p| p.z) > placements[2].map(|p| p.z));
}

fn overlap(a: Rect, b: Rect) -> bool {
    a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Grid),
        Just(Kind::Speaker),
        Just(Kind::Spotlight),
        Just(Kind::PictureInPicture),
        Just(Kind::Canvas),
        Just(Kind::CanvasAndTiles),
        Just(Kind::Custom)
    ]
}

proptest! {
    #[test]
    fn every_layout_is_even_inside_and_stable_and_overlaps_only_where_it_says_so(
        kind in kind(), count in 1usize..=16, half_width in 160u32..1920, half_height in 160u32..1920,
        who in 0usize..16, other in 0usize..16, corner in 0usize..4,
        shares in prop::collection::vec((0.0..0.95f64, 0.0..0.95f64, 0.05..1.0f64, 0.05..1.0f64), 0..16)
    ) {
        let (width, height) = (half_width * 2, half_height * 2);
        let band = cameras(count);
        let tiles = shares.iter().zip(&band).map(|((x, y, width, height), of)| {
            Tile { of: *of, x: *x, y: *y, width: width.min(1.0 - x), height: height.min(1.0 - y) }
        });
        let layout = Layout {
            kind,
            large: band.get(who).copied(),
            small: band.get(other).copied(),
            corner: [Corner::TopLeft, Corner::TopRight, Corner::BottomLeft, Corner::BottomRight][corner],
            tiles: tiles.collect(),
        };
        let at = Attention { spotlight: None, loudest: band.get(other).map(|pick| pick.participant) };
        let placements = layout.arrange(&band, at, width, height);
        prop_assert_eq!(&placements, &layout.arrange(&band, at, width, height));
        prop_assert_eq!(placements.len(), count);
        let shown: Vec<_> = placements.iter().flatten().collect();
        for (index, placement) in shown.iter().enumerate() {
            let rect = placement.rect;
            prop_assert!([rect.x, rect.y, rect.width, rect.height].iter().all(|n| n % 2 == 0), "{rect:?}");
            prop_assert!(rect.width > 0 && rect.height > 0);
            prop_assert!(rect.x + rect.width <= width && rect.y + rect.height <= height, "{rect:?} on {width} x {height}");
            for next in &shown[index + 1..] {
                // What lies over something else says so; the order is never left to chance.
                prop_assert!(!overlap(rect, next.rect) || placement.z != next.z, "{rect:?} {:?}", next.rect);
            }
        }
        let expected = match kind {
            Kind::Grid | Kind::Speaker | Kind::Canvas | Kind::CanvasAndTiles => count,
            Kind::Spotlight => 1,
            Kind::PictureInPicture => count.min(2),
            Kind::Custom => shares.len().min(count),
        };
        prop_assert_eq!(shown.len(), expected);
        if kind == Kind::Speaker {
            prop_assert!(shown.iter().all(|placement| placement.z == 0), "nothing overlaps");
            let area = |p: &Placement| p.rect.width * p.rect.height;
            let large = other % 16;
            if large < count && count > 1 {
                prop_assert!(shown.iter().enumerate().all(|(n, p)| n == large || area(p) < area(shown[large])));
            }
        }
    }
}
