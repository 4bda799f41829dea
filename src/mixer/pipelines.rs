//! The pipeline descriptions of this process: texts with holes, those of `pipelines/` unless the operator brings others of the same names.

use std::collections::BTreeMap;

use crate::mixer::error::Error;
use crate::model::encoder::Encoder;
use crate::model::media::CanvasFormat;
use crate::model::media::Codec;

/// What a description is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Programme,
    Encoder(Encoder),
    Recording,
    Decoder(Codec),
    Canvas(CanvasFormat),
    Thumbnails,
    /// A picture of what passes through, for them.
    Still,
    Preview,
    /// The file that a stem becomes; stems themselves begin with it.
    StemFile,
    Stem(Codec),
}

/// One file of `pipelines/`.
pub(super) struct Blueprint {
    pub(super) file: &'static str,
    text: &'static str,
    /// The numbers that its text may ask for.
    pub(super) holes: &'static [&'static str],
    /// Elements that are looked up in it by these names.
    pub(super) names: &'static [&'static str],
}

/// The holes of a programme and its encoder.
const PROGRAMME: &[&str] =
    &["width", "height", "fps", "video_kbps", "video_bps", "keyframe_frames", "threads", "audio_bps"];
const DECODER: &[&str] = &["payload_type", "most_pixels"];
const CANVAS: &[&str] = &["width", "height", "most_pixels"];
const STEM: &[&str] = &["payload_type"];
const ENDS: &[&str] = &["in", "out"];

const CODECS: [Codec; 5] = [Codec::Opus, Codec::Vp8, Codec::Vp9, Codec::Av1, Codec::H264];

/// The hole of a programme that is filled with a text: the encoder's.
const ENCODER: &str = "{encoder}";

macro_rules! blueprint {
    ($file:literal, $holes:expr, $names:expr) => {
        Blueprint { file: $file, text: include_str!(concat!("../../pipelines/", $file)), holes: $holes, names: $names }
    };
}

impl Piece {
    /// Every piece.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let canvases = [
            CanvasFormat::H264,
            CanvasFormat::Vp8,
            CanvasFormat::Jpeg,
            CanvasFormat::Webp,
            CanvasFormat::Png,
            CanvasFormat::Rgba,
        ];
        [Self::Programme, Self::Recording, Self::StemFile, Self::Thumbnails, Self::Still, Self::Preview]
            .into_iter()
            .chain(CODECS.map(Self::Decoder))
            .chain(CODECS.map(Self::Stem))
            .chain(canvases.map(Self::Canvas))
            .chain(Encoder::ALL.map(Self::Encoder))
    }

    pub(super) const fn blueprint(self) -> Blueprint {
        match self {
            Self::Programme => blueprint!("programme.txt", PROGRAMME, &["pictures", "sounds", "video", "audio"]),
            Self::Encoder(Encoder::X264) => blueprint!("encoder-x264.txt", PROGRAMME, &["encoder"]),
            Self::Encoder(Encoder::OpenH264) => blueprint!("encoder-openh264.txt", PROGRAMME, &["encoder"]),
            Self::Encoder(Encoder::Nvenc) => blueprint!("encoder-nvenc.txt", PROGRAMME, &["encoder"]),
            Self::Encoder(Encoder::VaApi) => blueprint!("encoder-vaapi.txt", PROGRAMME, &["encoder"]),
            Self::Recording => blueprint!("recording.txt", &[], &["file", "video", "audio"]),
            Self::Decoder(Codec::Opus) => blueprint!("opus.txt", DECODER, ENDS),
            Self::Decoder(Codec::Vp8) => blueprint!("vp8.txt", DECODER, ENDS),
            Self::Decoder(Codec::Vp9) => blueprint!("vp9.txt", DECODER, ENDS),
            Self::Decoder(Codec::Av1) => blueprint!("av1.txt", DECODER, ENDS),
            Self::Decoder(Codec::H264) => blueprint!("h264.txt", DECODER, ENDS),
            Self::Thumbnails => blueprint!("thumbnails.txt", &["width", "height"], &["in", "files"]),
            Self::Still => blueprint!("still.txt", &["most_pixels"], ENDS),
            Self::Preview => blueprint!("preview.txt", &[], ENDS),
            Self::StemFile => blueprint!("stem.txt", &[], &["mux", "file"]),
            Self::Stem(Codec::Opus) => blueprint!("stem-opus.txt", STEM, &["track"]),
            Self::Stem(Codec::Vp8) => blueprint!("stem-vp8.txt", STEM, &["in", "frames", "track"]),
            Self::Stem(Codec::Vp9) => blueprint!("stem-vp9.txt", STEM, &["in", "frames", "track"]),
            Self::Stem(Codec::Av1) => blueprint!("stem-av1.txt", STEM, &["in", "frames", "track"]),
            Self::Stem(Codec::H264) => blueprint!("stem-h264.txt", STEM, &["in", "frames", "track"]),
            Self::Canvas(CanvasFormat::H264) => blueprint!("canvas-h264.txt", CANVAS, ENDS),
            Self::Canvas(CanvasFormat::Vp8) => blueprint!("canvas-vp8.txt", CANVAS, ENDS),
            Self::Canvas(CanvasFormat::Jpeg) => blueprint!("canvas-jpeg.txt", CANVAS, ENDS),
            Self::Canvas(CanvasFormat::Webp) => blueprint!("canvas-webp.txt", CANVAS, ENDS),
            Self::Canvas(CanvasFormat::Png) => blueprint!("canvas-png.txt", CANVAS, ENDS),
            Self::Canvas(CanvasFormat::Rgba) => blueprint!("canvas-rgba.txt", CANVAS, ENDS),
        }
    }
}

/// The descriptions in force, and the encoder that was chosen.
#[derive(Clone, Debug, Default)]
pub(super) struct Pipelines {
    encoder: Encoder,
    /// The operator's, by the names of their files.
    own: BTreeMap<String, String>,
}

impl Pipelines {
    pub(super) const fn new(encoder: Encoder, own: BTreeMap<String, String>) -> Self {
        Self { encoder, own }
    }

    pub(super) const fn encoder(&self) -> Encoder {
        self.encoder
    }

    /// The operator's files by name.
    pub(super) fn own(&self) -> impl Iterator<Item = &str> {
        self.own.keys().map(String::as_str)
    }

    /// Whether a piece is the operator's.
    pub(super) fn is_own(&self, piece: Piece) -> bool {
        self.own.contains_key(piece.blueprint().file)
    }

    /// The text of a piece as its author wrote it.
    pub(super) fn text(&self, piece: Piece) -> &str {
        let blueprint = piece.blueprint();
        self.own.get(blueprint.file).map_or(blueprint.text, String::as_str)
    }

    /// A description that can be launched.
    ///
    /// # Errors
    /// When the text asks for a number that there is none for.
    pub(super) fn filled(&self, piece: Piece, holes: &[(&str, u32)]) -> Result<String, Error> {
        let text = stripped(self.text(piece));
        let text = match piece {
            Piece::Programme => text.replace(ENCODER, stripped(self.text(Piece::Encoder(self.encoder))).trim()),
            Piece::Stem(_) => stripped(self.text(Piece::StemFile)) + &text,
            Piece::Encoder(_)
            | Piece::Recording
            | Piece::Decoder(_)
            | Piece::Canvas(_)
            | Piece::StemFile
            | Piece::Thumbnails
            | Piece::Still
            | Piece::Preview => text,
        };
        fill(&text, holes)
            .map_err(|hole| Error::Build { what: piece.blueprint().file, reason: format!("nothing fills {{{hole}}}") })
    }

    /// How many bits a second the encoder's bitrate counts by: encoders differ, and their files know.
    pub(super) fn bitrate_unit(&self) -> u32 {
        if self.text(Piece::Encoder(self.encoder)).contains("{video_bps}") { 1 } else { 1000 }
    }
}

/// The text in one line, without its comments.
fn stripped(text: &str) -> String {
    text.lines().filter(|line| !is_comment(line)).flat_map(|line| [line.trim(), " "]).collect()
}

pub(super) fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// The text with a number for each `{name}`. Holes are filled with numbers only, so that no text from outside can become an element.
///
/// # Errors
/// The name of a hole that nothing fills.
fn fill(text: &str, holes: &[(&str, u32)]) -> Result<String, String> {
    let filled = holes
        .iter()
        .fold(text.to_owned(), |text, (name, number)| text.replace(&format!("{{{name}}}"), &number.to_string()));
    let unfilled = holes_of(&filled).next().map(str::to_owned);
    unfilled.map_or(Ok(filled), Err)
}

/// The names of all holes: small letters and underscores, which no list of GStreamer's consists of.
pub(super) fn holes_of(text: &str) -> impl Iterator<Item = &str> {
    text.split('{')
        .skip(1)
        .filter_map(|rest| rest.split_once('}'))
        .map(|(name, _)| name)
        .filter(|name| !name.is_empty() && name.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_vanish_and_holes_are_filled() {
        let own = BTreeMap::from([(
            "vp8.txt".to_owned(),
            "# in, out\na width={most_pixels}\n  ! b { I420, NV12 }".to_owned(),
        )]);
        let pipelines = Pipelines::new(Encoder::X264, own);
        let filled = pipelines.filled(Piece::Decoder(Codec::Vp8), &[("most_pixels", 12)]).expect("filled");
        assert_eq!(filled, "a width=12 ! b { I420, NV12 } ");
        let error = pipelines.filled(Piece::Decoder(Codec::Vp8), &[]).expect_err("nothing for the hole");
        assert!(error.to_string().contains("{most_pixels}"), "{error}");
    }

    #[test]
    fn the_programme_has_the_encoder_that_was_chosen() {
        let holes: Vec<_> = PROGRAMME.iter().map(|name| (*name, 7)).collect();
        for (encoder, element, unit) in [(Encoder::X264, "x264enc", 1000), (Encoder::OpenH264, "openh264enc", 1)] {
            let pipelines = Pipelines::new(encoder, BTreeMap::new());
            let filled = pipelines.filled(Piece::Programme, &holes).expect("filled");
            assert!(filled.contains(&format!("! {element} name=encoder")), "{filled}");
            assert_eq!(pipelines.bitrate_unit(), unit);
        }
    }
}
