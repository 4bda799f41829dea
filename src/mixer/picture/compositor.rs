//! Composes the programme's picture: every source's picture at its place, scaled and recoloured only where it must be.
//!
//! Pictures are written straight to where they stand, from the farthest to the nearest, and what none of them covers gets the background:
//! in a full grid every byte is written once. GStreamer's own compositor spends more on waking its threads than on this.

use std::collections::BTreeMap;
use std::sync::Arc;

use gstreamer as gst;
use gstreamer::glib::BoolError;
use gstreamer::prelude::*;
use gstreamer_video::VideoConverter;
use gstreamer_video::VideoConverterConfig;
use gstreamer_video::VideoFrameRef;
use gstreamer_video::VideoInfo;
use gstreamer_video::VideoResamplerMethod;

use crate::mixer::error::Error;
use crate::mixer::picture::painter::Bitmap;
use crate::mixer::picture::tiling::Fit;
use crate::mixer::picture::tiling::Shape;
use crate::mixer::picture::tiling::fit;
use crate::mixer::picture::tiling::uncovered;
use crate::mixer::programme::build_error;
use crate::mixer::source::seat::Shown;
use crate::model::scene::Rect;

/// Frames made in advance; more are made while the encoder holds these.
const FRAMES: u32 = 3;

/// Black as Y, U and V.
const BLACK: [u8; 3] = [16, 128, 128];

/// See the file.
#[derive(Debug)]
pub(in crate::mixer) struct Compositor {
    canvas: VideoInfo,
    frames: gst::BufferPool,
    /// The way of each seat's pictures to their place.
    scalers: BTreeMap<u64, Scaler>,
}

#[derive(Debug)]
struct Scaler {
    picture: Arc<VideoInfo>,
    fit: Fit,
    /// The part of the canvas the picture goes to, and what writes it there; `None` for what cannot be shown.
    way: Option<(VideoInfo, VideoConverter)>,
}

/// What is seen where no picture is.
#[derive(Clone, Debug)]
pub(in crate::mixer) struct Background {
    /// As Y, U and V.
    pub colour: [u8; 3],
    /// In front of it, as large as the canvas; its opacity is left out.
    pub picture: Option<Arc<Bitmap>>,
}

impl Default for Background {
    fn default() -> Self {
        Self { colour: BLACK, picture: None }
    }
}

impl Compositor {
    /// A compositor of pictures with these caps, which must be I420.
    pub(in crate::mixer) fn new(caps: &gst::Caps) -> Result<Self, Error> {
        let failed = |error: BoolError| build_error("compositor", &error);
        let canvas = VideoInfo::from_caps(caps).map_err(failed)?;
        let frames = gst::BufferPool::new();
        let mut config = frames.config();
        let size = u32::try_from(canvas.size()).map_err(|error| build_error("compositor", &error))?;
        config.set_params(Some(caps), size, FRAMES, 0);
        frames.set_config(config).map_err(failed)?;
        frames.set_active(true).map_err(failed)?;
        // Converters do nothing about time, and take only pictures that agree about it.
        let canvas = VideoInfo::builder_from_info(&canvas).fps(gst::Fraction::new(0, 1)).build().map_err(failed)?;
        Ok(Self { canvas, frames, scalers: BTreeMap::new() })
    }

    /// The picture of all these at their places on their background. The later of two at the same distance is the nearer one.
    pub(in crate::mixer) fn compose(
        &mut self,
        shown: &[Shown],
        background: &Background,
    ) -> Result<gst::Buffer, gst::FlowError> {
        let mut frame = self.frames.acquire_buffer(None)?;
        let buffer = frame.get_mut().ok_or(gst::FlowError::Error)?;
        let size = (self.canvas.width(), self.canvas.height());
        let mut layers: Vec<_> = shown
            .iter()
            .filter_map(|shown| Some((shown, fit(shape_of(&shown.picture.info), shown.placement.rect, size)?)))
            .collect();
        layers.sort_by_key(|(shown, _)| shown.placement.z);
        let places: Vec<_> = layers.iter().map(|(_, fit)| fit.to).collect();
        let bare = uncovered(Rect { x: 0, y: 0, width: size.0, height: size.1 }, &places);
        fill(buffer, &self.canvas, &bare, background).map_err(|_| gst::FlowError::Error)?;
        for (n, (shown, fit)) in layers.into_iter().enumerate() {
            if !uncovered(fit.to, &places[n + 1..]).is_empty() {
                self.draw(shown, fit, buffer);
            }
        }
        self.scalers.retain(|seat, _| shown.iter().any(|shown| shown.seat == *seat));
        Ok(frame)
    }

    fn draw(&mut self, shown: &Shown, fit: Fit, canvas: &mut gst::BufferRef) {
        let info = &shown.picture.info;
        let known = self.scalers.get(&shown.seat).is_some_and(|scaler| scaler.fit == fit && scaler.picture == *info);
        if !known {
            let way = way(info, fit, &self.canvas)
                .inspect_err(|error| tracing::warn!(%error, picture = ?shape_of(info), "a picture cannot be shown"));
            self.scalers.insert(shown.seat, Scaler { picture: Arc::clone(info), fit, way: way.ok() });
        }
        // A buffer that is smaller than its format says is not shown.
        if let Some((part, converter)) = self.scalers.get(&shown.seat).and_then(|scaler| scaler.way.as_ref())
            && let Ok(picture) = VideoFrameRef::from_buffer_ref_readable(&shown.picture.buffer, info)
            && let Ok(mut part) = VideoFrameRef::from_buffer_ref_writable(canvas, part)
        {
            converter.frame_ref(&picture, &mut part);
        }
    }
}

fn shape_of(info: &VideoInfo) -> Shape {
    let pixel = (info.par().numer().unsigned_abs(), info.par().denom().unsigned_abs());
    Shape { width: info.width(), height: info.height(), pixel }
}

/// From a picture of this format to its place. Of at most twice its place's size it is scaled between the two nearest pixels, in both
/// directions: for 720p in a quarter of 1080p that takes half the time of GStreamer's own choice and is nearer to what Lanczos' filter
/// makes (SSIM 0.995 instead of 0.994). A larger one is scaled between all pixels of which one becomes, or its edges would flicker.
fn way(picture: &VideoInfo, fit: Fit, canvas: &VideoInfo) -> Result<(VideoInfo, VideoConverter), BoolError> {
    let Fit { from, to } = fit;
    let part = part(canvas, to)?;
    let mut config = VideoConverterConfig::new();
    config.set_resampler_method(VideoResamplerMethod::Linear);
    if from.width <= 2 * to.width && from.height <= 2 * to.height {
        config.set_resampler_taps(2);
    }
    config.set_threads(1);
    config.set_src_width(Some(from.width.cast_signed()));
    config.set_src_height(Some(from.height.cast_signed()));
    let converter = VideoConverter::new(picture, &part, Some(config))?;
    Ok((part, converter))
}

/// A part of the canvas as a picture of its own: a converter that is told to write to the middle of a picture writes whole rows.
fn part(canvas: &VideoInfo, Rect { x, y, width, height }: Rect) -> Result<VideoInfo, BoolError> {
    let planes = canvas.stride().iter().zip(canvas.offset()).zip([1, 2, 2]);
    let offsets: Vec<_> = planes
        .map(|((stride, offset), half)| {
            offset + (y / half) as usize * stride.unsigned_abs() as usize + (x / half) as usize
        })
        .collect();
    VideoInfo::builder(canvas.format(), width, height)
        .colorimetry(&canvas.colorimetry())
        .chroma_site(canvas.chroma_site())
        .interlace_mode(canvas.interlace_mode())
        .fps(canvas.fps())
        .stride(canvas.stride())
        .offset(&offsets)
        .size(canvas.size())
        .build()
}

/// Fills rectangles, all of whose numbers are even, with what is behind all pictures.
fn fill(
    frame: &mut gst::BufferRef,
    canvas: &VideoInfo,
    pieces: &[Rect],
    background: &Background,
) -> Result<(), BoolError> {
    if pieces.is_empty() {
        return Ok(());
    }
    let mut frame = VideoFrameRef::from_buffer_ref_writable(frame, canvas)?;
    for (plane, (value, half)) in (0..).zip(background.colour.into_iter().zip([1, 2, 2])) {
        let stride = canvas.stride()[plane as usize].unsigned_abs() as usize;
        let bytes = frame.plane_data_mut(plane)?;
        for piece in pieces {
            let [x, y, width, height] = [piece.x, piece.y, piece.width, piece.height].map(|n| n as usize / half);
            let lines = bytes.chunks_mut(stride).enumerate().skip(y).take(height);
            for (y, line) in lines.filter_map(|(y, row)| Some((y, row.get_mut(x..x + width)?))) {
                match background.picture.as_ref().and_then(|picture| picture.line(plane as usize, x, y, width)) {
                    Some(seen) => line.copy_from_slice(seen),
                    None => line.fill(value),
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mixer::source::seat::Picture;
    use crate::model::scene::Placement;

    const GREY: [u8; 3] = [100, 90, 200];
    const WHITE: [u8; 3] = [235, 128, 128];

    fn plain(colour: [u8; 3]) -> Background {
        Background { colour, picture: None }
    }

    fn compositor() -> Compositor {
        gst::init().expect("GStreamer");
        let caps = "video/x-raw,format=I420,width=64,height=48,framerate=30/1,pixel-aspect-ratio=1/1,colorimetry=bt601,\
                    chroma-site=mpeg2,interlace-mode=progressive";
        Compositor::new(&caps.parse().expect("caps")).expect("a compositor")
    }

    /// A picture of one colour, as its decoder's caps are.
    fn shown(seat: u64, size: (u32, u32), colours: &str, colour: [u8; 3], place: [u32; 4], z: u32) -> Shown {
        let said = format!(
            "video/x-raw,format=I420,width={},height={},framerate=0/1,colorimetry={colours},chroma-site=mpeg2",
            size.0, size.1
        );
        let info = VideoInfo::from_caps(&said.parse::<gst::Caps>().expect("caps")).expect("a format");
        let mut buffer = gst::Buffer::with_size(info.size()).expect("memory");
        let whole = Rect { x: 0, y: 0, width: size.0, height: size.1 };
        fill(buffer.get_mut().expect("alone"), &info, &[whole], &plain(colour)).expect("filled");
        let [x, y, width, height] = place;
        let placement = Placement { rect: Rect { x, y, width, height }, z };
        Shown { seat, placement, picture: Picture { buffer, info: Arc::new(info), due: 0 } }
    }

    fn at(compositor: &Compositor, frame: &gst::Buffer, x: usize, y: usize) -> [u8; 3] {
        let frame = VideoFrameRef::from_buffer_ref_readable(frame, &compositor.canvas).expect("a frame");
        [(0, 1), (1, 2), (2, 2)].map(|(plane, half)| {
            let stride = compositor.canvas.stride()[plane as usize].unsigned_abs() as usize;
            frame.plane_data(plane).expect("a plane")[y / half * stride + x / half]
        })
    }

    /// What is seen where each of two pictures stands, and between them.
    fn seen(compositor: &mut Compositor, shown: &[Shown]) -> [[u8; 3]; 3] {
        // Frames come back from the pool with what was in them before.
        let _before = compositor.compose(&[], &plain(WHITE)).expect("composed");
        let frame = compositor.compose(shown, &plain(BLACK)).expect("composed");
        [(2, 2), (62, 46), (33, 25)].map(|(x, y)| at(compositor, &frame, x, y))
    }

    #[test]
    fn a_picture_behind_all_others_is_seen_between_them_and_in_its_place() {
        let mut compositor = compositor();
        // Red at the left, blue at the right.
        let pixels: Vec<_> =
            (0..64 * 48).map(|n| if n % 64 < 32 { [255, 0, 0, 255] } else { [0, 0, 255, 255] }).collect();
        let background = Background { colour: WHITE, picture: Some(Arc::new(Bitmap::new(64, &pixels))) };
        let grey = shown(1, (64, 48), "bt601", GREY, [16, 12, 32, 24], 1);
        let frame = compositor.compose(&[grey], &background).expect("composed");
        let [red, blue] = [[81, 90, 240], [41, 240, 110]];
        for ([x, y], colour) in [([2, 2], red), ([62, 2], blue), ([2, 46], red), ([62, 46], blue), ([32, 24], GREY)] {
            let seen = at(&compositor, &frame, x, y);
            assert!(seen.iter().zip(colour).all(|(a, b)| a.abs_diff(b) < 3), "{seen:?} at {x}, {y}, not {colour:?}");
        }
    }

    #[test]
    fn pictures_stand_in_their_places_and_the_rest_is_background_however_they_are_scaled() {
        let mut compositor = compositor();
        for size in [(32, 24), (128, 96), (320, 240), (20, 16)] {
            let pair =
                [shown(1, size, "bt601", GREY, [0, 0, 32, 24], 1), shown(2, size, "bt601", WHITE, [36, 26, 28, 22], 1)];
            assert_eq!(seen(&mut compositor, &pair), [GREY, WHITE, BLACK], "{size:?}");
        }
        assert_eq!(seen(&mut compositor, &[]), [BLACK; 3]);
        assert!(compositor.scalers.is_empty(), "who has left is remembered");
    }

    #[test]
    fn other_colours_are_converted_and_leave_what_is_beside_them_alone() {
        let mut compositor = compositor();
        for size in [(32, 24), (128, 96)] {
            let pair = [
                shown(1, size, "bt601", GREY, [0, 0, 32, 24], 1),
                // Beside the first one, in the same rows.
                shown(2, size, "bt709", [63, 102, 240], [32, 0, 32, 24], 2),
            ];
            let frame = compositor.compose(&pair, &plain(BLACK)).expect("composed");
            assert_eq!(at(&compositor, &frame, 2, 2), GREY);
            assert_eq!(at(&compositor, &frame, 2, 40), BLACK);
            // Red in BT.709 is red in BT.601.
            let red = at(&compositor, &frame, 48, 12);
            assert!(red.iter().zip([81, 90, 240]).all(|(a, b)| a.abs_diff(b) <= 2), "{red:?}");
        }
    }

    #[test]
    fn the_nearer_picture_hides_the_farther_one_and_the_later_one_its_equal() {
        let mut compositor = compositor();
        let place = [0, 0, 64, 48];
        let pictures = |z| {
            [
                shown(1, (64, 48), "bt601", GREY, place, z),
                shown(2, (64, 48), "bt601", WHITE, place, 5),
                shown(3, (16, 12), "bt601", BLACK, [0, 0, 16, 12], 9),
            ]
        };
        assert_eq!(seen(&mut compositor, &pictures(5)), [BLACK, WHITE, WHITE]);
        assert_eq!(seen(&mut compositor, &pictures(6)), [BLACK, GREY, GREY]);
    }

    #[test]
    fn a_buffer_that_is_too_small_is_not_shown() {
        let mut compositor = compositor();
        let mut picture = shown(1, (64, 48), "bt601", GREY, [0, 0, 64, 48], 1);
        picture.picture.buffer = gst::Buffer::with_size(64 * 48).expect("memory");
        compositor.compose(&[picture], &plain(BLACK)).expect("composed");
    }
}
