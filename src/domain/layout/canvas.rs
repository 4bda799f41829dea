//! Where a room's canvas stands among its pictures.

use crate::domain::layout::Attention;
use crate::domain::layout::Kind;
use crate::domain::layout::Layout;
use crate::domain::layout::Pick;
use crate::domain::layout::beside;
use crate::domain::layout::camera_of;
use crate::domain::layout::place;
use crate::model::scene::Placement;
use crate::model::scene::Rect;

impl Layout {
    /// As [`Layout::arrange`], with a canvas: where it stands comes second. It is the last of the grid and small beside a speaker; a
    /// spotlight, a picture in picture and a custom layout show it only while there is nothing else.
    pub fn arrange_with_canvas(
        &self,
        pictures: &[Pick],
        at: Attention,
        width: u32,
        height: u32,
    ) -> (Vec<Option<Placement>>, Option<Placement>) {
        let whole = Some(Placement { rect: Rect { x: 0, y: 0, width, height }, z: 0 });
        if pictures.is_empty() || self.kind == Kind::Canvas {
            return (vec![None; pictures.len()], whole);
        }
        let (canvas, all) = (pictures.len(), pictures.len() + 1);
        let mut placements = match self.kind {
            Kind::Grid | Kind::Canvas => place(all, width, height).into_iter().map(Some).collect(),
            Kind::Speaker => beside(camera_of(at.loudest, pictures).unwrap_or(0), all, width, height),
            Kind::CanvasAndTiles => beside(canvas, all, width, height),
            Kind::Spotlight | Kind::PictureInPicture | Kind::Custom => {
                return (self.arrange(pictures, at, width, height), None);
            }
        };
        let canvas = placements.pop().flatten();
        (placements, canvas)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::id::ParticipantId;

    fn band(count: usize) -> Vec<Pick> {
        (0..count).map(|_| Pick { participant: ParticipantId::generate(), screen: false }).collect()
    }

    fn arrange(kind: Kind, count: usize) -> (Vec<Option<Placement>>, Option<Placement>) {
        Layout { kind, ..Layout::default() }.arrange_with_canvas(&band(count), Attention::default(), 1280, 720)
    }

    const WHOLE: Option<Placement> = Some(Placement { rect: Rect { x: 0, y: 0, width: 1280, height: 720 }, z: 0 });

    #[test]
    fn a_canvas_alone_is_all_there_is() {
        assert_eq!(arrange(Kind::Canvas, 2), (vec![None, None], WHOLE));
        for kind in [Kind::Grid, Kind::Speaker, Kind::Spotlight, Kind::PictureInPicture, Kind::CanvasAndTiles] {
            assert_eq!(arrange(kind, 0), (vec![], WHOLE), "{kind:?}");
        }
    }

    #[test]
    fn a_canvas_is_the_last_of_the_grid_and_large_beside_its_tiles() {
        let (pictures, canvas) = arrange(Kind::Grid, 3);
        assert_eq!(pictures.iter().flatten().count(), 3);
        assert_eq!(canvas.map(|p| (p.rect.x, p.rect.y, p.rect.width)), Some((640, 360, 640)));
        let (pictures, canvas) = arrange(Kind::CanvasAndTiles, 3);
        let large = canvas.expect("shown").rect.width;
        assert!(pictures.iter().flatten().all(|p| p.rect.width < large) && large == 960);
    }

    #[test]
    fn without_a_canvas_its_layouts_are_the_grid() {
        let grid = Layout::default().arrange(&band(3), Attention::default(), 1280, 720);
        for kind in [Kind::Canvas, Kind::CanvasAndTiles] {
            let layout = Layout { kind, ..Layout::default() };
            assert_eq!(layout.arrange(&band(3), Attention::default(), 1280, 720), grid);
        }
    }

    proptest! {
        #[test]
        fn a_canvas_overlaps_nobody_and_stays_inside(count in 0usize..16, kind in prop::sample::select(vec![Kind::Grid, Kind::Speaker, Kind::CanvasAndTiles])) {
            let (pictures, canvas) = arrange(kind, count);
            let mut rects: Vec<Rect> = pictures.iter().flatten().map(|p| p.rect).collect();
            rects.push(canvas.expect("these show everything").rect);
            prop_assert_eq!(rects.len(), count + 1);
            for (n, a) in rects.iter().enumerate() {
                prop_assert!(a.x + a.width <= 1280 && a.y + a.height <= 720);
                for b in &rects[n + 1..] {
                    let apart = a.x + a.width <= b.x || b.x + b.width <= a.x || a.y + a.height <= b.y || b.y + b.height <= a.y;
                    prop_assert!(apart, "{:?} over {:?}", a, b);
                }
            }
        }
    }
}
