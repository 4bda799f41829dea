//! Where each picture stands: from what the host wishes, who is there and who matters, to rectangles. Pure functions, all of it.

mod canvas;
mod grid;
pub mod speaker;

use crate::model::id::ParticipantId;
use crate::model::scene::Placement;
use crate::model::scene::Rect;

pub use crate::domain::layout::grid::place;

/// Tiles of a custom layout: as many as a programme has sources.
pub const MOST_TILES: usize = 16;

/// The least width and height of a custom tile, as a share of the canvas: smaller, nobody is recognised.
pub const LEAST_SHARE: f64 = 0.05;

/// Where a programme's pictures are to stand.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    pub kind: Kind,
    /// Who is large; chosen by what is going on unless given, and while it sends no picture.
    pub large: Option<Pick>,
    /// Who is small over the large one, in a picture in picture.
    pub small: Option<Pick>,
    pub corner: Corner,
    /// Of a custom layout, the farthest from the viewer first.
    pub tiles: Vec<Tile>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// All alike.
    #[default]
    Grid,
    /// The loudest large, the others small beside it.
    Speaker,
    /// One alone.
    Spotlight,
    /// One large and another small over its corner.
    PictureInPicture,
    /// Rectangles by hand.
    Custom,
    /// The canvas alone; the grid while there is none.
    Canvas,
    /// The canvas large, the pictures small beside it; the grid while there is none.
    CanvasAndTiles,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Corner {
    TopLeft,
    TopRight,
    BottomLeft,
    #[default]
    BottomRight,
}

/// One picture: a musician's camera or screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pick {
    pub participant: ParticipantId,
    pub screen: bool,
}

/// A picture's place by hand, as shares of the canvas; inside of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tile {
    pub of: Pick,
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

/// Who matters at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attention {
    /// Whom the room's host shows large to everybody.
    pub spotlight: Option<ParticipantId>,
    pub loudest: Option<ParticipantId>,
}

impl Layout {
    /// Places the pictures that are sent, in their stable order; `None` for one that is not shown. The canvas's sides are even, and so
    /// are all numbers of the answer.
    pub fn arrange(&self, pictures: &[Pick], at: Attention, width: u32, height: u32) -> Vec<Option<Placement>> {
        let mut placements = vec![None; pictures.len()];
        if pictures.is_empty() {
            return placements;
        }
        let whole = Placement { rect: Rect { x: 0, y: 0, width, height }, z: 0 };
        match self.kind {
            Kind::Grid | Kind::Canvas | Kind::CanvasAndTiles => {
                return place(pictures.len(), width, height).into_iter().map(Some).collect();
            }
            Kind::Speaker => {
                return beside(camera_of(at.loudest, pictures).unwrap_or(0), pictures.len(), width, height);
            }
            Kind::Spotlight => placements[self.large(pictures, at)] = Some(whole),
            Kind::PictureInPicture => {
                let large = self.large(pictures, at);
                placements[large] = Some(whole);
                if let Some(small) = self.small(pictures, at, large) {
                    placements[small] = Some(inset(self.corner, width, height));
                }
            }
            Kind::Custom => {
                for (tile, z) in self.tiles.iter().zip(0..) {
                    if let Some(index) = index_of(tile.of, pictures) {
                        placements[index] = Some(Placement { rect: tile.on(width, height), z });
                    }
                }
            }
        }
        placements
    }

    /// All who are named.
    pub fn picks(&self) -> impl Iterator<Item = &Pick> {
        self.large.iter().chain(&self.small).chain(self.tiles.iter().map(|tile| &tile.of))
    }

    /// Who became whom, by a new identifier.
    pub fn rename(&mut self, renamed: &[(ParticipantId, ParticipantId)]) {
        let Self { large, small, tiles, .. } = self;
        for pick in large.iter_mut().chain(small).chain(tiles.iter_mut().map(|tile| &mut tile.of)) {
            if let Some((_, newcomer)) = renamed.iter().find(|(left, _)| *left == pick.participant) {
                pick.participant = *newcomer;
            }
        }
    }

    /// The one that was chosen, whom the room's host shows large, what is shown to be looked at, the loudest, the first.
    fn large(&self, pictures: &[Pick], at: Attention) -> usize {
        self.large
            .and_then(|pick| index_of(pick, pictures))
            .or_else(|| camera_of(at.spotlight, pictures))
            .or_else(|| pictures.iter().position(|picture| picture.screen))
            .or_else(|| camera_of(at.loudest, pictures))
            .unwrap_or(0)
    }

    /// The one that was chosen, the owner of the screen that is large, the loudest, the first; never the large one itself.
    fn small(&self, pictures: &[Pick], at: Attention, large: usize) -> Option<usize> {
        let shown = pictures[large];
        let other = |index: &usize| *index != large;
        let presenter = shown.screen.then_some(shown.participant);
        self.small
            .and_then(|pick| index_of(pick, pictures))
            .filter(other)
            .or_else(|| camera_of(presenter, pictures).filter(other))
            .or_else(|| camera_of(at.loudest, pictures).filter(other))
            .or_else(|| (0..pictures.len()).find(other))
    }
}

impl Tile {
    fn on(&self, width: u32, height: u32) -> Rect {
        let (x, wide) = along(self.x, self.width, width);
        let (y, high) = along(self.y, self.height, height);
        Rect { x, y, width: wide, height: high }
    }
}

/// A share of a side as even pixels inside of it: where it begins and how long it is.
fn along(from: f64, share: f64, side: u32) -> (u32, u32) {
    let pixels = |share: f64| ((share.clamp(0.0, 1.0) * f64::from(side) / 2.0).round() as u32 * 2).min(side);
    let (begin, end) = (pixels(from), pixels(from + share));
    let begin = begin.min(side.saturating_sub(2));
    (begin, end.saturating_sub(begin).max(2))
}

fn index_of(pick: Pick, pictures: &[Pick]) -> Option<usize> {
    pictures.iter().position(|picture| *picture == pick)
}

fn camera_of(participant: Option<ParticipantId>, pictures: &[Pick]) -> Option<usize> {
    index_of(Pick { participant: participant?, screen: false }, pictures)
}

/// One large and the others in a grid of a quarter of the canvas: at its right, or at its bottom if it is higher than wide.
fn beside(large: usize, count: usize, width: u32, height: u32) -> Vec<Option<Placement>> {
    if count == 1 {
        return vec![Some(Placement { rect: Rect { x: 0, y: 0, width, height }, z: 0 })];
    }
    let wide = width >= height;
    let (main_width, main_height) = if wide { (even(width * 3 / 4), height) } else { (width, even(height * 3 / 4)) };
    let (left, top) = if wide { (main_width, 0) } else { (0, main_height) };
    let main = fitting(main_width, main_height);
    let others = small_grid(count - 1, width - left, height - top, wide);
    let mut others = others.into_iter().map(|placement| {
        let rect = placement.rect;
        Placement { rect: Rect { x: rect.x + left, y: rect.y + top, ..rect }, ..placement }
    });
    (0..count).map(|index| if index == large { Some(Placement { rect: main, z: 0 }) } else { others.next() }).collect()
}

/// A grid in which even a single one keeps 16:9, and none is wider than half of a high canvas, so that the large one stays the largest.
fn small_grid(count: usize, width: u32, height: u32, wide: bool) -> Vec<Placement> {
    let grid = |width: u32| match count {
        1 => vec![Placement { rect: fitting(width, height), z: 0 }],
        _ => place(count, width, height),
    };
    let half = even(width / 2);
    if wide || grid(width).iter().all(|placement| placement.rect.width <= half) {
        return grid(width);
    }
    let margin = even(width / 4);
    grid(half).iter().map(|p| Placement { rect: Rect { x: p.rect.x + margin, ..p.rect }, ..*p }).collect()
}

/// The largest rectangle of about 16:9 in the middle of this space.
fn fitting(width: u32, height: u32) -> Rect {
    let wide = width.min(even(height * 16 / 9)).max(2);
    let high = height.min(even(width * 9 / 16)).max(2);
    Rect { x: even((width - wide) / 2), y: even((height - high) / 2), width: wide, height: high }
}

/// A quarter as wide and high as the canvas, a twenty-fourth of its shorter side away from its corner.
fn inset(corner: Corner, width: u32, height: u32) -> Placement {
    let (wide, high) = (even(width / 4), even(height / 4));
    let margin = even(width.min(height) / 24);
    let (left, top) = match corner {
        Corner::TopLeft => (true, true),
        Corner::TopRight => (false, true),
        Corner::BottomLeft => (true, false),
        Corner::BottomRight => (false, false),
    };
    let x = if left { margin } else { width - wide - margin };
    let y = if top { margin } else { height - high - margin };
    Placement { rect: Rect { x, y, width: wide, height: high }, z: 1 }
}

const fn even(pixels: u32) -> u32 {
    pixels & !1
}

#[cfg(test)]
mod tests;
