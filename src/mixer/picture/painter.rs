//! What is drawn over the finished picture: small bitmaps, made once and blended into every frame between compositor and encoder.
//!
//! A pad of the compositor for each of them would force the whole programme into a format with transparency, which costs more than all
//! of its sources together.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use gstreamer as gst;
use gstreamer::prelude::*;

use crate::mixer::picture::planes::Plane;
use crate::mixer::picture::planes::Planes;

/// A colour with its opacity, multiplied into it already: red, green, blue, alpha.
pub(in crate::mixer) type Pixel = [u8; 4];

/// A small picture in the programme's own colours. Its sides are even.
#[derive(Debug, PartialEq)]
pub(in crate::mixer) struct Bitmap {
    width: usize,
    height: usize,
    /// Y, U and V, with their opacity multiplied in.
    colours: [Vec<u8>; 3],
    /// What is left of the picture below, 255 for all of it: at full size and at half of it.
    rests: [Vec<u8>; 2],
}

/// A bitmap and where its upper left corner stands, which is even.
#[derive(Clone, Debug)]
pub(in crate::mixer) struct Stamp {
    pub bitmap: Arc<Bitmap>,
    pub x: usize,
    pub y: usize,
}

/// The painter as the conductor holds it; the pictures pass in the compositor's thread.
#[derive(Clone, Debug)]
pub(in crate::mixer) struct Painter {
    canvas: Planes,
    stamps: Arc<Mutex<Arc<[Stamp]>>>,
}

impl Bitmap {
    /// Of pixels in rows of `width`. An odd last row or column is left out.
    pub(in crate::mixer) fn new(width: usize, pixels: &[Pixel]) -> Self {
        let rows = pixels.len().checked_div(width).unwrap_or(0);
        let (wide, high) = (width & !1, rows & !1);
        let at = |x: usize, y: usize| pixels[y * width + x];
        let mut bitmap = Self { width: wide, height: high, colours: Default::default(), rests: Default::default() };
        for y in 0..high {
            for x in 0..wide {
                let [_, _, _, alpha] = at(x, y);
                bitmap.colours[0].push(component(at(x, y), LUMA));
                bitmap.rests[0].push(255 - alpha);
            }
        }
        for y in (0..high).step_by(2) {
            for x in (0..wide).step_by(2) {
                let four = [at(x, y), at(x + 1, y), at(x, y + 1), at(x + 1, y + 1)];
                let mean = [0, 1, 2, 3].map(|n| (four.iter().map(|pixel| u32::from(pixel[n])).sum::<u32>() / 4) as u8);
                bitmap.colours[1].push(component(mean, BLUENESS));
                bitmap.colours[2].push(component(mean, REDNESS));
                bitmap.rests[1].push(255 - mean[3]);
            }
        }
        bitmap
    }

    pub(in crate::mixer) const fn width(&self) -> usize {
        self.width
    }

    pub(in crate::mixer) const fn height(&self) -> usize {
        self.height
    }

    /// A piece of a row of one of its planes (Y, U, V), whose opacity is left out.
    pub(in crate::mixer) fn line(&self, plane: usize, x: usize, y: usize, length: usize) -> Option<&[u8]> {
        let width = if plane == 0 { self.width } else { self.width / 2 };
        self.colours.get(plane)?.chunks_exact(width.max(1)).nth(y)?.get(x..x + length)
    }
}

impl Painter {
    /// Paints over all pictures that pass this pad, which must be I420 of this size.
    pub(in crate::mixer) fn over(pad: &gst::Pad, width: u32, height: u32) -> Self {
        let painter = Self { canvas: Planes::of(width as usize, height as usize), stamps: Arc::default() };
        let painting = painter.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let stamps = painting.stamps();
            if !stamps.is_empty()
                && let Some(buffer) = info.buffer_mut()
                && let Ok(mut map) = buffer.make_mut().map_writable()
                && map.len() == painting.canvas.size
            {
                stamps.iter().for_each(|stamp| stamp.blend(&painting.canvas, &mut map));
            }
            gst::PadProbeReturn::Ok
        });
        painter
    }

    /// From the next frame on these are seen, later ones over earlier ones.
    pub(in crate::mixer) fn show(&self, stamps: Vec<Stamp>) {
        *self.stamps.lock().unwrap_or_else(PoisonError::into_inner) = stamps.into();
    }

    fn stamps(&self) -> Arc<[Stamp]> {
        Arc::clone(&self.stamps.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Stamp {
    fn blend(&self, canvas: &Planes, frame: &mut [u8]) {
        let Bitmap { width, height, colours, rests } = &*self.bitmap;
        let halves = [1, 2, 2];
        for (((plane, colours), rests), half) in
            canvas.planes.iter().zip(colours).zip([0, 1, 1].map(|n| &rests[n])).zip(halves)
        {
            let size = [width / half, height / half];
            blend(plane, frame, [self.x / half, self.y / half], size, colours, rests);
        }
    }
}

/// Blends a bitmap's plane into a picture's; what would stand outside is left out.
fn blend(
    plane: &Plane,
    frame: &mut [u8],
    [x, y]: [usize; 2],
    [width, height]: [usize; 2],
    colours: &[u8],
    rests: &[u8],
) {
    let wide = width.min(plane.width.saturating_sub(x));
    if width == 0 || wide == 0 {
        return;
    }
    let rows = colours.chunks_exact(width).zip(rests.chunks_exact(width)).take(height);
    for (row, (colours, rests)) in rows.enumerate().take_while(|(row, _)| y + row < plane.height) {
        let line = &mut frame[plane.row(y + row)][x..x + wide];
        for ((pixel, colour), rest) in line.iter_mut().zip(colours).zip(rests) {
            let below = u16::from(*pixel) * u16::from(*rest) + 128;
            // Divided by 255, rounded.
            *pixel = ((below + (below >> 8)) >> 8) as u8 + colour;
        }
    }
}

/// Weights of red, green, blue and opacity in each of the programme's colours (ITU-R BT.601, 16 to 235 and 16 to 240), in 65 536ths.
type Weights = [i32; 4];

const LUMA: Weights = [16_829, 33_039, 6416, 16 * 257];
const BLUENESS: Weights = [-9714, -19_070, 28_784, 128 * 257];
const REDNESS: Weights = [28_784, -24_103, -4681, 128 * 257];

/// An opaque colour as Y, U and V.
pub(in crate::mixer) fn components(pixel: Pixel) -> [u8; 3] {
    [LUMA, BLUENESS, REDNESS].map(|weights| component(pixel, weights))
}

fn component(pixel: Pixel, weights: Weights) -> u8 {
    let sum: i32 = pixel.iter().zip(weights).map(|(value, weight)| i32::from(*value) * weight).sum();
    // Rounded down, so that it and what is left of the picture below never exceed a byte together.
    u8::try_from(sum >> 16).unwrap_or(if sum < 0 { 0 } else { 255 }).min(pixel[3])
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREY: [u8; 3] = [100, 128, 128];

    fn canvas(width: usize, height: usize) -> (Planes, Vec<u8>) {
        let planes = Planes::of(width, height);
        let mut frame = vec![0; planes.size];
        for (plane, value) in planes.planes.iter().zip(GREY) {
            (0..plane.height).for_each(|y| frame[plane.row(y)].fill(value));
        }
        (planes, frame)
    }

    fn at(planes: &Planes, frame: &[u8], x: usize, y: usize) -> [u8; 3] {
        let [luma, blue, red] = planes.planes;
        [frame[luma.row(y)][x], frame[blue.row(y / 2)][x / 2], frame[red.row(y / 2)][x / 2]]
    }

    #[test]
    fn opaque_colours_are_those_of_bt_601_and_half_of_them_is_halfway() {
        let cases = [
            ([255, 255, 255, 255], [235, 128, 128]),
            ([0, 0, 0, 255], [16, 128, 128]),
            ([255, 0, 0, 255], [81, 90, 240]),
            ([0, 0, 255, 255], [41, 240, 110]),
            ([0, 0, 0, 0], GREY),
            ([128, 128, 128, 128], [167, 128, 128]),
        ];
        for (pixel, expected) in cases {
            let (planes, mut frame) = canvas(8, 8);
            let stamp = Stamp { bitmap: Arc::new(Bitmap::new(4, &[pixel; 16])), x: 2, y: 2 };
            stamp.blend(&planes, &mut frame);
            let seen = at(&planes, &frame, 3, 3);
            assert!(
                seen.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 2),
                "{pixel:?}: {seen:?}, not {expected:?}"
            );
            for (x, y) in [(1, 1), (6, 6), (2, 1), (1, 2)] {
                assert_eq!(at(&planes, &frame, x, y), GREY, "beside it, at {x}, {y}");
            }
        }
    }

    #[test]
    fn what_would_stand_outside_is_left_out() {
        for (x, y) in [(6, 6), (8, 8), (100, 0), (0, 100)] {
            let (planes, mut frame) = canvas(8, 8);
            let stamp = Stamp { bitmap: Arc::new(Bitmap::new(5, &[[255; 4]; 25])), x, y };
            stamp.blend(&planes, &mut frame);
            assert_eq!(at(&planes, &frame, 7, 7)[0] > 200, x == 6, "at {x}, {y}");
            assert_eq!(at(&planes, &frame, 5, 5), GREY);
        }
        assert_eq!(Bitmap::new(0, &[]).width(), 0);
    }
}
