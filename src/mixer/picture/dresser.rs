//! Dresses the programme: where names and title stand, which of them have been drawn already, and what is behind everything.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crate::mixer::beat::Stage;
use crate::mixer::error::Error;
use crate::mixer::picture::compositor::Background;
use crate::mixer::picture::lettering;
use crate::mixer::picture::painter::Bitmap;
use crate::mixer::picture::painter::Painter;
use crate::mixer::picture::painter::Stamp;
use crate::mixer::picture::painter::components;
use crate::mixer::picture::upload;
use crate::mixer::programme::Programme;
use crate::model::scene::Rect;
use crate::model::scene::Rgb;
use crate::model::scene::Scene;
use crate::model::spec::ProgrammeSpec;

/// Height of letters from line to line, as parts of the canvas's height and of a tile's.
const TITLE: u32 = 18;
const CAPTION: u32 = 13;

/// The smallest letters that are read on a phone, and the largest that name a person, as a part of the canvas's height.
const LEAST_SIZE: u32 = 14;
const CAPTION_MOST: u32 = 22;

/// The largest logo, as parts of the canvas's width and height.
const LOGO_WIDTH: u32 = 5;
const LOGO_HEIGHT: u32 = 7;

/// See the file.
#[derive(Debug)]
pub(in crate::mixer) struct Dresser {
    room: Arc<Room>,
    hands: Hands,
}

/// What shows what has been drawn.
#[derive(Clone, Debug)]
struct Hands {
    painter: Painter,
    stage: Arc<Stage>,
}

/// Where the drawing thread and the conductor meet.
#[derive(Debug, Default)]
struct Room {
    wardrobe: Mutex<Wardrobe>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Wardrobe {
    wanted: Vec<Label>,
    colour: Rgb,
    backdrop: Option<Drawing>,
    /// What has been drawn of that, and what could not be.
    drawn: HashMap<Drawing, Option<Arc<Bitmap>>>,
    closed: bool,
}

/// A text and how it is drawn.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Text {
    text: String,
    size: u32,
    most_width: u32,
}

/// What is drawn once and shown in every frame.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Drawing {
    Text(Text),
    /// Base64 of a PNG or a JPEG, and the most pixels it may have in each direction.
    Logo(String, u32, u32),
    /// The same, the colour behind it, and the pixels it is to fill.
    Backdrop(String, Rgb, u32, u32),
}

/// A drawing and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Label {
    drawing: Drawing,
    /// Its left or its right edge.
    x: Side,
    /// Its upper or its lower edge.
    y: Edge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Left(u32),
    Right(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edge {
    Top(u32),
    Bottom(u32),
}

impl Dresser {
    /// Starts the thread that draws; the conductor must never wait for a font.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(in crate::mixer) fn new(programme: &Programme) -> Result<Self, Error> {
        let room = Arc::new(Room::default());
        let hands = Hands { painter: programme.painter().clone(), stage: Arc::clone(programme.stage()) };
        let (drawing, showing) = (Arc::clone(&room), hands.clone());
        std::thread::Builder::new().name("lettering".to_owned()).spawn(move || draw_all(&drawing, &showing))?;
        Ok(Self { room, hands })
    }

    /// Follows a scene. What has been drawn before moves at once; the rest appears when it is drawn.
    pub(in crate::mixer) fn dress(&mut self, scene: &Scene) {
        let ProgrammeSpec { width, height, .. } = scene.programme;
        let colour = scene.dressing.background;
        let mut wardrobe = self.room.wardrobe();
        wardrobe.wanted = labels(scene);
        wardrobe.colour = colour;
        wardrobe.backdrop =
            scene.dressing.backdrop.as_ref().map(|picture| Drawing::Backdrop(picture.clone(), colour, width, height));
        wardrobe.tidy();
        self.hands.show(&wardrobe);
        drop(wardrobe);
        self.room.news.notify_one();
    }
}

impl Drop for Dresser {
    fn drop(&mut self) {
        self.room.wardrobe().closed = true;
        self.room.news.notify_one();
    }
}

impl Room {
    fn wardrobe(&self) -> MutexGuard<'_, Wardrobe> {
        self.wardrobe.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hands {
    fn show(&self, wardrobe: &Wardrobe) {
        self.painter.show(wardrobe.stamps());
        self.stage.set_background(wardrobe.background());
    }
}

impl Wardrobe {
    /// Keeps only what is wanted: at most a plate for each source, the title, the logo and the backdrop.
    fn tidy(&mut self) {
        let Self { wanted, backdrop, drawn, .. } = self;
        let all = wanted.iter().map(|label| &label.drawing).chain(backdrop.as_ref());
        drawn.retain(|drawing, _| all.clone().any(|wanted| wanted == drawing));
    }

    fn missing(&self) -> Option<Drawing> {
        let mut all = self.wanted.iter().map(|label| &label.drawing).chain(&self.backdrop);
        all.find(|drawing| !self.drawn.contains_key(*drawing)).cloned()
    }

    /// A colour until its picture has been drawn.
    fn background(&self) -> Background {
        let Rgb([red, green, blue]) = self.colour;
        let picture = self.backdrop.as_ref().and_then(|drawing| self.drawn.get(drawing)?.clone());
        Background { colour: components([red, green, blue, 255]), picture }
    }

    fn stamps(&self) -> Vec<Stamp> {
        let stamps = self.wanted.iter().filter_map(|label| {
            let bitmap = Arc::clone(self.drawn.get(&label.drawing)?.as_ref()?);
            let y = match label.y {
                Edge::Top(y) => y as usize,
                Edge::Bottom(y) => (y as usize).saturating_sub(bitmap.height()),
            };
            let x = match label.x {
                Side::Left(x) => x as usize,
                Side::Right(x) => (x as usize).saturating_sub(bitmap.width()),
            };
            Some(Stamp { bitmap, x: x & !1, y: y & !1 })
        });
        stamps.collect()
    }
}

fn draw_all(room: &Room, hands: &Hands) {
    let mut wardrobe = room.wardrobe();
    while !wardrobe.closed {
        let Some(drawing) = wardrobe.missing() else {
            wardrobe = room.news.wait(wardrobe).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        drop(wardrobe);
        let bitmap = match &drawing {
            Drawing::Text(text) => lettering::plate(&text.text, text.size as usize, text.most_width as usize),
            Drawing::Logo(picture, most_width, most_height) => upload::logo(picture, *most_width, *most_height),
            Drawing::Backdrop(picture, colour, width, height) => upload::backdrop(picture, *colour, *width, *height),
        };
        if let Err(error) = &bitmap {
            tracing::warn!(%error, "something of the programme's dress cannot be drawn");
        }
        wardrobe = room.wardrobe();
        wardrobe.drawn.insert(drawing, bitmap.ok().map(Arc::new));
        wardrobe.tidy();
        hands.show(&wardrobe);
    }
}

/// Where everything that is written stands: the title at the upper left, each name at the lower left of its picture, or at its upper
/// left where another picture stands before that.
fn labels(scene: &Scene) -> Vec<Label> {
    let ProgrammeSpec { width, height, .. } = scene.programme;
    let margin = height / 36;
    let mut labels: Vec<_> = scene
        .sources
        .iter()
        .filter_map(|source| {
            let placement = source.placement?;
            let rect = placement.rect;
            let size = (rect.height / CAPTION).clamp(LEAST_SIZE, (height / CAPTION_MOST).max(LEAST_SIZE));
            let gap = (size / 2).min(margin);
            let most_width = rect.width.saturating_sub(2 * gap);
            let text = Text { text: source.caption.clone()?, size, most_width };
            let corner = Rect {
                x: rect.x,
                y: (rect.y + rect.height).saturating_sub(3 * size),
                width: rect.width / 2,
                height: 3 * size,
            };
            let covered = scene
                .sources
                .iter()
                .filter_map(|other| other.placement)
                .any(|other| other.z > placement.z && overlap(other.rect, corner));
            let y = if covered {
                Edge::Top(rect.y + gap)
            } else {
                Edge::Bottom((rect.y + rect.height).saturating_sub(gap))
            };
            Some(Label { drawing: Drawing::Text(text), x: Side::Left(rect.x + gap), y })
        })
        .collect();
    if let Some(title) = &scene.dressing.title {
        let text = Text { text: title.clone(), size: (height / TITLE).max(LEAST_SIZE), most_width: width * 2 / 3 };
        labels.push(Label { drawing: Drawing::Text(text), x: Side::Left(margin), y: Edge::Top(margin) });
    }
    if let Some(picture) = &scene.dressing.logo {
        let drawing = Drawing::Logo(picture.clone(), width / LOGO_WIDTH, height / LOGO_HEIGHT);
        labels.push(Label { drawing, x: Side::Right(width - margin), y: Edge::Top(margin) });
    }
    labels
}

const fn overlap(a: Rect, b: Rect) -> bool {
    a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::SourceId;
    use crate::model::scene::Dressing;
    use crate::model::scene::Placement;
    use crate::model::scene::Source;

    fn named(caption: &str, [x, y, width, height]: [u32; 4], z: u32) -> Source {
        let placement = Some(Placement { rect: Rect { x, y, width, height }, z });
        Source { caption: Some(caption.to_owned()), placement, ..Source::new(SourceId(1), "") }
    }

    #[test]
    fn names_stand_in_their_pictures_and_make_way_for_what_is_before_them() {
        let large = named("Ann", [0, 0, 1280, 720], 0);
        let mut scene = Scene { sources: vec![large, named("Bob", [30, 510, 320, 180], 1)], ..Scene::default() };
        scene.dressing = Dressing { title: Some("Jam".to_owned()), ..Dressing::default() };
        let [ann, bob, title] = labels(&scene).try_into().expect("three labels");
        let text = |text: &str, size, most_width| Drawing::Text(Text { text: text.to_owned(), size, most_width });
        assert_eq!(ann, Label { drawing: text("Ann", 32, 1248), x: Side::Left(16), y: Edge::Top(16) });
        assert_eq!(bob, Label { drawing: text("Bob", 14, 306), x: Side::Left(37), y: Edge::Bottom(683) });
        assert_eq!(title, Label { drawing: text("Jam", 40, 853), x: Side::Left(20), y: Edge::Top(20) });
        scene.sources[1].placement = Some(Placement { rect: Rect { x: 930, y: 510, width: 320, height: 180 }, z: 1 });
        assert_eq!(labels(&scene)[0].y, Edge::Bottom(704));
        scene.sources[0].placement = None;
        assert_eq!(labels(&scene).len(), 2, "nobody's name stands where nobody is seen");
    }

    #[test]
    fn what_is_not_wanted_any_more_is_forgotten() {
        let bitmap = || Some(Arc::new(Bitmap::new(2, &[[0; 4]; 4])));
        let text = |text: &str| Drawing::Text(Text { text: text.to_owned(), size: 20, most_width: 100 });
        let label = |of: &str, y| Label { drawing: text(of), x: Side::Left(3), y };
        let mut wardrobe = Wardrobe::default();
        for name in ["Ann", "Bob", "Eve"] {
            wardrobe.drawn.insert(text(name), if name == "Eve" { None } else { bitmap() });
        }
        wardrobe.wanted = vec![label("Bob", Edge::Bottom(101)), label("Eve", Edge::Top(0)), label("Zoe", Edge::Top(0))];
        wardrobe.tidy();
        assert_eq!(wardrobe.drawn.len(), 2);
        assert_eq!(wardrobe.missing(), Some(text("Zoe")), "what could not be drawn is not tried again");
        let places: Vec<_> = wardrobe.stamps().iter().map(|stamp| (stamp.x, stamp.y)).collect();
        assert_eq!(places, [(2, 98)]);
        wardrobe.wanted = vec![Label { drawing: text("Bob"), x: Side::Right(101), y: Edge::Top(5) }];
        assert_eq!(wardrobe.stamps().iter().map(|stamp| (stamp.x, stamp.y)).collect::<Vec<_>>(), [(98, 4)]);
    }
}
