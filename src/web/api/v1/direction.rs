//! Directing a running programme: how loud its musicians are, and where they stand.

use std::ops::RangeInclusive;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Map;
use serde_json::Value;
use utoipa::ToSchema;

use crate::domain::desk;
use crate::domain::desk::MasterChange;
use crate::domain::desk::StripChange;
use crate::domain::dressing::DressingChange;
use crate::domain::dressing::LookChange;
use crate::domain::dressing::MOST_CROP;
use crate::domain::dressing::colour;
use crate::domain::layout;
use crate::domain::layout::Corner;
use crate::domain::layout::Kind;
use crate::domain::layout::Layout;
use crate::domain::layout::Pick;
use crate::domain::layout::Tile;
use crate::live::snapshot::StreamSnapshot;
use crate::live::stream::Direction;
use crate::model::id::ParticipantId;
use crate::model::id::StreamId;
use crate::proto::picture;
use crate::web::Gateway;
use crate::web::api::v1::streams::answer;
use crate::web::api::v1::streams::visible;
use crate::web::auth::Caller;
use crate::web::extract::Body;
use crate::web::extract::Errors;
use crate::web::extract::Field;
use crate::web::extract::Id;
use crate::web::extract::read_object;
use crate::web::problem::Problem;

/// Musicians in one request: more than a programme holds.
const MOST_MUSICIANS: usize = 64;

const ABSENT: &str = "nobody of this id is in the programme";

const GAIN_DB: RangeInclusive<f64> = desk::LEAST_GAIN_DB..=desk::MOST_GAIN_DB;
const PAN: RangeInclusive<f64> = -1.0..=1.0;
const DELAY_MS: RangeInclusive<i32> = desk::LEAST_DELAY_MS..=desk::MOST_DELAY_MS;
const PLACE: RangeInclusive<f64> = 0.0..=1.0;
const SHARE: RangeInclusive<f64> = layout::LEAST_SHARE..=1.0;

const KINDS: [(&str, Kind); 7] = [
    ("grid", Kind::Grid),
    ("speaker", Kind::Speaker),
    ("spotlight", Kind::Spotlight),
    ("picture_in_picture", Kind::PictureInPicture),
    ("custom", Kind::Custom),
    ("canvas", Kind::Canvas),
    ("canvas_and_tiles", Kind::CanvasAndTiles),
];

const CORNERS: [(&str, Corner); 4] = [
    ("top_left", Corner::TopLeft),
    ("top_right", Corner::TopRight),
    ("bottom_left", Corner::BottomLeft),
    ("bottom_right", Corner::BottomRight),
];

/// What is left out stays as it is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = StreamChange)]
pub(super) struct StreamChangeBody {
    #[schema(value_type = Option<MixBody>)]
    mix: Field<Map<String, Value>>,
    /// Replaces the layout as a whole.
    #[schema(value_type = Option<LayoutBody>)]
    layout: Field<Map<String, Value>>,
    #[schema(value_type = Option<DressingBody>)]
    dressing: Field<Map<String, Value>>,
}

/// The programme's sound. The musicians' own mixes of each other are another matter.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = MixChange)]
struct MixBody {
    /// dB, -60, which is silence, to 12.
    #[schema(value_type = Option<f64>, example = -3.0)]
    master_gain_db: Field<f64>,
    /// Whether the programme is brought slowly to -14 LUFS.
    #[schema(value_type = Option<bool>)]
    normalise: Field<bool>,
    /// Whom the others follow: they are aligned to it by what was measured of their ways. An empty one ends that.
    #[schema(value_type = Option<String>)]
    leader: Field<String>,
    /// Those to be changed, each once.
    #[schema(value_type = Option<Vec<MusicianBody>>)]
    musicians: Field<Vec<Map<String, Value>>>,
}

/// One musician's sound. What is left out stays as it is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = MusicianChange)]
struct MusicianBody {
    #[schema(value_type = String)]
    participant: Field<String>,
    /// dB, -60, which is silence, to 12.
    #[schema(value_type = Option<f64>, example = -3.0)]
    gain_db: Field<f64>,
    #[schema(value_type = Option<bool>)]
    muted: Field<bool>,
    /// While anybody's is set, only they are heard.
    #[schema(value_type = Option<bool>)]
    solo: Field<bool>,
    /// -1 (left) to 1 (right).
    #[schema(value_type = Option<f64>, example = 0.5)]
    pan: Field<f64>,
    /// Added delay of picture and sound, milliseconds, -200 to 2000; as much as one is moved forward, all the others wait.
    #[schema(value_type = Option<i32>)]
    delay_ms: Field<i32>,
}

/// Where the programme's pictures stand. Who is named need not send a picture now; it takes its place when it does.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LayoutChange)]
struct LayoutBody {
    /// `grid`, `speaker`, `spotlight`, `picture_in_picture`, `custom`, `canvas` or `canvas_and_tiles`.
    #[schema(value_type = String, example = "speaker")]
    kind: Field<String>,
    /// Who is large in a spotlight or a picture in picture; what is going on decides unless given.
    #[schema(value_type = Option<PickBody>)]
    large: Field<Map<String, Value>>,
    /// Who is small in a picture in picture; what is going on decides unless given.
    #[schema(value_type = Option<PickBody>)]
    small: Field<Map<String, Value>>,
    /// `top_left`, `top_right`, `bottom_left` or `bottom_right`, which it is unless given.
    #[schema(value_type = Option<String>)]
    corner: Field<String>,
    /// Of a custom layout, 1 to 16, the farthest from the viewer first.
    #[schema(value_type = Option<Vec<TileBody>>)]
    tiles: Field<Vec<Map<String, Value>>>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PickChange)]
struct PickBody {
    #[schema(value_type = String)]
    participant: Field<String>,
    /// The shared screen and not the camera.
    #[schema(value_type = Option<bool>)]
    screen: Field<bool>,
}

/// A rectangle inside the picture; its numbers are shares of the programme's width and height.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TileChange)]
struct TileBody {
    #[schema(value_type = String)]
    participant: Field<String>,
    /// The shared screen and not the camera.
    #[schema(value_type = Option<bool>)]
    screen: Field<bool>,
    #[schema(value_type = f64, example = 0.0)]
    x: Field<f64>,
    #[schema(value_type = f64, example = 0.0)]
    y: Field<f64>,
    /// 0.05 to 1.
    #[schema(value_type = f64, example = 0.5)]
    width: Field<f64>,
    /// 0.05 to 1.
    #[schema(value_type = f64, example = 0.5)]
    height: Field<f64>,
}

/// What stands over and under the pictures, and how they are retouched. What is left out stays as it is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = DressingChange)]
struct DressingBody {
    /// Whether everybody's name stands in their picture.
    #[schema(value_type = Option<bool>)]
    captions: Field<bool>,
    /// One line at the top of the picture, at most 100 characters; an empty one takes it away. Plain text.
    #[schema(value_type = Option<String>, example = "Friday night session")]
    title: Field<String>,
    /// Base64 of a PNG or a JPEG of at most 45 KiB and 2048 x 2048 pixels, shown at the upper right; an empty one takes it away.
    #[schema(value_type = Option<String>)]
    logo: Field<String>,
    /// What is behind all pictures, `#rrggbb`.
    #[schema(value_type = Option<String>, example = "#1a2b3c")]
    background: Field<String>,
    /// Base64 of a PNG or a JPEG of at most 45 KiB and 2048 x 2048 pixels, which fills the canvas behind all pictures; an empty one takes
    /// it away.
    #[schema(value_type = Option<String>)]
    backdrop: Field<String>,
    /// Those to be changed, each once.
    #[schema(value_type = Option<Vec<LookBody>>)]
    looks: Field<Vec<Map<String, Value>>>,
}

/// How a musician's camera is retouched. What is left out stays as it is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LookChange)]
struct LookBody {
    #[schema(value_type = String)]
    participant: Field<String>,
    /// Shares of the picture to cut off: left, top, right, bottom, each 0 to 0.9; two opposite ones 0.9 together.
    #[schema(value_type = Option<Vec<f64>>, example = json!([0.1, 0, 0.1, 0]))]
    crop: Field<[f64; 4]>,
    /// Left and right change places.
    #[schema(value_type = Option<bool>)]
    mirror: Field<bool>,
    /// -1 (black) to 1 (white).
    #[schema(value_type = Option<f64>, example = 0.1)]
    brightness: Field<f64>,
    #[schema(value_type = Option<bool>)]
    monochrome: Field<bool>,
}

/// Changes what a running stream's programme sounds and looks like, at once and without a click or a missing frame.
///
/// The settings stay when the mixer is replaced and when a musician comes back. They end with the stream.
#[utoipa::path(patch, path = "/streams/{id}", operation_id = "direct_stream", tag = "streams", params(("id" = String, Path)),
    request_body = StreamChangeBody, responses(
    (status = 200, body = StreamSnapshot, headers(("ETag" = String))),
    (status = 409, description = "it does not run", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "fields that cannot be taken, all at once", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "any other error", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn direct(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<StreamId>,
    Body { fields, mut errors }: Body<StreamChangeBody>,
) -> Result<Response, Problem> {
    caller.may_write()?;
    let snapshot = visible(&gateway, &caller, id).await?;
    let direction = validate(fields, &snapshot, &mut errors);
    errors.check()?;
    Ok(answer(StatusCode::OK, &gateway.registry.direct(id, direction).await?))
}

fn validate(fields: StreamChangeBody, snapshot: &StreamSnapshot, errors: &mut Errors) -> Direction {
    let mut direction = Direction::default();
    if let Some(asked) = fields.mix.optional(errors, "/mix") {
        mix(read_object(asked, "/mix", errors), snapshot, errors, &mut direction);
    }
    if let Some(asked) = fields.layout.optional(errors, "/layout") {
        direction.layout = layout(read_object(asked, "/layout", errors), errors);
    }
    if let Some(asked) = fields.dressing.optional(errors, "/dressing") {
        direction.dressing = dressing(read_object(asked, "/dressing", errors), snapshot, errors);
    }
    direction
}

fn mix(body: MixBody, snapshot: &StreamSnapshot, errors: &mut Errors, direction: &mut Direction) {
    direction.master = MasterChange {
        gain_db: within(body.master_gain_db, errors, "/mix/master_gain_db", &GAIN_DB),
        normalise: body.normalise.optional(errors, "/mix/normalise"),
    };
    direction.leader = leader(body.leader, snapshot, errors);
    let musicians = body.musicians.optional(errors, "/mix/musicians").unwrap_or_default();
    if musicians.len() > MOST_MUSICIANS {
        errors.add("/mix/musicians", format!("must be {MOST_MUSICIANS} at most"));
    }
    for (index, asked) in musicians.into_iter().take(MOST_MUSICIANS).enumerate() {
        let pointer = format!("/mix/musicians/{index}");
        let body: MusicianBody = read_object(asked, &pointer, errors);
        let at = |field: &str| format!("{pointer}/{field}");
        let participant: Option<ParticipantId> = body.participant.parsed(errors, &at("participant"));
        let change = StripChange {
            gain_db: within(body.gain_db, errors, &at("gain_db"), &GAIN_DB),
            muted: body.muted.optional(errors, &at("muted")),
            solo: body.solo.optional(errors, &at("solo")),
            pan: within(body.pan, errors, &at("pan"), &PAN),
            delay_ms: within(body.delay_ms, errors, &at("delay_ms"), &DELAY_MS),
        };
        let Some(participant) = participant else { continue };
        if !is_in_programme(participant, snapshot) {
            errors.add(at("participant"), ABSENT);
        } else if direction.strips.iter().any(|(other, _)| *other == participant) {
            errors.add(at("participant"), "is there twice");
        } else {
            direction.strips.push((participant, change));
        }
    }
}

fn leader(field: Field<String>, snapshot: &StreamSnapshot, errors: &mut Errors) -> Option<Option<ParticipantId>> {
    let asked = field.optional(errors, "/mix/leader")?;
    if asked.is_empty() {
        return Some(None);
    }
    let leader = asked.parse().ok().filter(|leader| is_in_programme(*leader, snapshot));
    if leader.is_none() {
        errors.add("/mix/leader", ABSENT);
    }
    leader.map(Some)
}

fn is_in_programme(participant: ParticipantId, snapshot: &StreamSnapshot) -> bool {
    snapshot.mix.musicians.iter().any(|musician| musician.participant == participant)
}

fn layout(body: LayoutBody, errors: &mut Errors) -> Option<Layout> {
    let kind = one_of(body.kind.required(errors, "/layout/kind"), errors, "/layout/kind", &KINDS);
    let corner = one_of(body.corner.optional(errors, "/layout/corner"), errors, "/layout/corner", &CORNERS);
    let large = body.large.optional(errors, "/layout/large");
    let large = large.and_then(|asked| pick(asked, errors, "/layout/large"));
    let small = body.small.optional(errors, "/layout/small");
    let small = small.and_then(|asked| pick(asked, errors, "/layout/small"));
    let asked = body.tiles.optional(errors, "/layout/tiles").unwrap_or_default();
    let counts = if kind == Some(Kind::Custom) { 1..=layout::MOST_TILES } else { 0..=layout::MOST_TILES };
    if !counts.contains(&asked.len()) {
        errors.add("/layout/tiles", format!("must be {} to {} tiles", counts.start(), counts.end()));
    }
    let mut tiles: Vec<Tile> = Vec::new();
    for (index, asked) in asked.into_iter().take(layout::MOST_TILES).enumerate() {
        let pointer = format!("/layout/tiles/{index}");
        let Some(tile) = tile(asked, errors, &pointer) else { continue };
        if tiles.iter().any(|other| other.of == tile.of) {
            errors.add(pointer, "stands in two tiles");
        }
        tiles.push(tile);
    }
    Some(Layout { kind: kind?, large, small, corner: corner.unwrap_or_default(), tiles })
}

fn pick(asked: Map<String, Value>, errors: &mut Errors, pointer: &str) -> Option<Pick> {
    let PickBody { participant, screen } = read_object(asked, pointer, errors);
    let participant = participant.parsed(errors, &format!("{pointer}/participant"));
    let screen = screen.optional(errors, &format!("{pointer}/screen")).unwrap_or(false);
    Some(Pick { participant: participant?, screen })
}

fn tile(asked: Map<String, Value>, errors: &mut Errors, pointer: &str) -> Option<Tile> {
    let body: TileBody = read_object(asked, pointer, errors);
    let at = |field: &str| format!("{pointer}/{field}");
    let participant = body.participant.parsed(errors, &at("participant"));
    let screen = body.screen.optional(errors, &at("screen")).unwrap_or(false);
    let mut share = |field: Field<f64>, name: &str, bounds: &RangeInclusive<f64>| {
        if matches!(field, Field::Missing) {
            errors.add(at(name), "is required");
        }
        within(field, errors, &at(name), bounds)
    };
    let (x, y) = (share(body.x, "x", &PLACE), share(body.y, "y", &PLACE));
    let (width, height) = (share(body.width, "width", &SHARE), share(body.height, "height", &SHARE));
    for (name, from, length) in [("width", x, width), ("height", y, height)] {
        // Thirds do not add up to one exactly.
        if from.zip(length).is_some_and(|(from, length)| from + length > 1.0 + 1e-6) {
            errors.add(at(name), "reaches beyond the picture");
        }
    }
    Some(Tile { of: Pick { participant: participant?, screen }, x: x?, y: y?, width: width?, height: height? })
}

fn dressing(body: DressingBody, snapshot: &StreamSnapshot, errors: &mut Errors) -> DressingChange {
    let title = match body.title {
        Field::Given(blank) if blank.trim().is_empty() => Some(None),
        Field::Missing => None,
        given @ (Field::Given(_) | Field::Wrong) => given.line(errors, "/dressing/title", 100).map(Some),
    };
    let logo = body.logo.optional(errors, "/dressing/logo").and_then(|text| upload(text, "/dressing/logo", errors));
    let backdrop = body.backdrop.optional(errors, "/dressing/backdrop");
    let backdrop = backdrop.and_then(|text| upload(text, "/dressing/backdrop", errors));
    let background = body.background.optional(errors, "/dressing/background").and_then(|text| {
        let colour = colour(&text);
        if colour.is_none() {
            errors.add("/dressing/background", "must be a colour as #rrggbb");
        }
        colour
    });
    let captions = body.captions.optional(errors, "/dressing/captions");
    let looks = body.looks.optional(errors, "/dressing/looks").unwrap_or_default();
    if looks.len() > MOST_MUSICIANS {
        errors.add("/dressing/looks", format!("must be {MOST_MUSICIANS} at most"));
    }
    let mut change = DressingChange { captions, title, logo, background, backdrop, looks: Vec::new() };
    for (index, asked) in looks.into_iter().take(MOST_MUSICIANS).enumerate() {
        let pointer = format!("/dressing/looks/{index}");
        let body: LookBody = read_object(asked, &pointer, errors);
        let at = |field: &str| format!("{pointer}/{field}");
        let participant: Option<ParticipantId> = body.participant.parsed(errors, &at("participant"));
        let crop = body.crop.optional(errors, &at("crop"));
        if crop.is_some_and(|[left, top, right, bottom]| {
            [left, top, right, bottom].iter().any(|share| *share < 0.0) || (left + right).max(top + bottom) > MOST_CROP
        }) {
            errors.add(
                at("crop"),
                format!("must be shares from 0; left and right, and top and bottom, {MOST_CROP} together"),
            );
        }
        let look = LookChange {
            crop,
            mirror: body.mirror.optional(errors, &at("mirror")),
            brightness: within(body.brightness, errors, &at("brightness"), &PAN),
            monochrome: body.monochrome.optional(errors, &at("monochrome")),
        };
        let Some(participant) = participant else { continue };
        if !is_in_programme(participant, snapshot) {
            errors.add(at("participant"), ABSENT);
        } else if change.looks.iter().any(|(other, _)| *other == participant) {
            errors.add(at("participant"), "is there twice");
        } else {
            change.looks.push((participant, look));
        }
    }
    change
}

fn upload(text: String, pointer: &str, errors: &mut Errors) -> Option<Option<String>> {
    if text.is_empty() {
        return Some(None);
    }
    let wrong = match STANDARD.decode(&text) {
        Ok(bytes) => picture::read(&bytes).err().map(|error| error.to_string()),
        Err(_) => Some("must be base64".to_owned()),
    };
    match wrong {
        None => Some(Some(text)),
        Some(detail) => {
            errors.add(pointer, detail);
            None
        }
    }
}

/// A word of a list, which is told otherwise.
fn one_of<T: Copy>(word: Option<String>, errors: &mut Errors, pointer: &str, known: &[(&str, T)]) -> Option<T> {
    let word = word?;
    let found = known.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
    if found.is_none() {
        let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
        errors.add(pointer, format!("must be one of {}", names.join(", ")));
    }
    found
}

/// A number within its bounds; both are told otherwise.
fn within<T>(field: Field<T>, errors: &mut Errors, pointer: &str, bounds: &RangeInclusive<T>) -> Option<T>
where
    T: crate::web::extract::Kind + PartialOrd + std::fmt::Display,
{
    let value = field.optional(errors, pointer)?;
    if bounds.contains(&value) {
        return Some(value);
    }
    errors.add(pointer, format!("must be {} to {}", bounds.start(), bounds.end()));
    None
}
