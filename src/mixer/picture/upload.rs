//! Decodes an uploaded picture, whose head has been looked at, to the size it is shown in. Its failure is a programme without it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gstreamer as gst;
use gstreamer_app::AppSink;
use gstreamer_app::AppSrc;

use crate::mixer::error::Error;
use crate::mixer::picture::painter::Bitmap;
use crate::mixer::picture::painter::Pixel;
use crate::mixer::programme::build_error;
use crate::mixer::programme::launch;
use crate::mixer::programme::named;
use crate::mixer::programme::play;
use crate::mixer::programme::stop;
use crate::model::scene::Rgb;
use crate::proto::picture;
use crate::proto::picture::Format;
use crate::proto::picture::Picture;

/// The longest wait for a decoder.
const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(5);

/// A logo (base64 of a PNG or a JPEG) as large as fits into this many pixels; a smaller one stays as it is.
pub(in crate::mixer) fn logo(text: &str, most_width: u32, most_height: u32) -> Result<Bitmap, Error> {
    let (head, bytes) = open(text)?;
    let size = fitting(head, most_width, most_height);
    Ok(Bitmap::new(size.0 as usize, &decoded(head, bytes, [0; 2], size)?))
}

/// A picture that fills this many pixels, both even: what is too wide or too high for them is cut off at both sides alike, and where
/// it is transparent it is of this colour.
pub(in crate::mixer) fn backdrop(text: &str, colour: Rgb, width: u32, height: u32) -> Result<Bitmap, Error> {
    let (head, bytes) = open(text)?;
    let mut pixels = decoded(head, bytes, surplus(head, width, height), (width, height))?;
    for pixel in &mut pixels {
        let rest = u16::from(255 - pixel[3]);
        for (part, below) in pixel.iter_mut().zip(colour.0.into_iter().chain([255])) {
            *part += (u16::from(below) * rest / 255) as u8;
        }
    }
    Ok(Bitmap::new(width as usize, &pixels))
}

fn failed(reason: &dyn ToString) -> Error {
    build_error("uploaded picture", &reason.to_string())
}

fn open(text: &str) -> Result<(Picture, Vec<u8>), Error> {
    let bytes = STANDARD.decode(text).map_err(|error| failed(&error))?;
    // The gateway has done so already; this process is the one that must not be filled.
    let head = picture::read(&bytes).map_err(|error| failed(&error))?;
    Ok((head, bytes))
}

/// Without so many pixels at its left and right and at its top and bottom, scaled to this size.
fn decoded(head: Picture, bytes: Vec<u8>, [x, y]: [u32; 2], (width, height): (u32, u32)) -> Result<Vec<Pixel>, Error> {
    let (kind, decoder) = match head.format {
        Format::Png => ("image/png", "pngdec"),
        Format::Jpeg => ("image/jpeg", "jpegdec"),
    };
    let description = format!(
        "appsrc name=in caps={kind} ! {decoder} ! videoconvert ! \
         videocrop left={x} right={x} top={y} bottom={y} ! videoscale add-borders=false ! \
         video/x-raw,format=RGBA,width={width},height={height},pixel-aspect-ratio=1/1 ! appsink name=out sync=false"
    );
    let pipeline = launch("uploaded picture", &description)?;
    let pixels = decode(&pipeline, bytes);
    stop("uploaded picture", &pipeline);
    let pixels = pixels?;
    if pixels.len() != (width * height) as usize {
        return Err(failed(&"a picture of another size"));
    }
    Ok(pixels)
}

fn decode(pipeline: &gst::Pipeline, bytes: Vec<u8>) -> Result<Vec<Pixel>, Error> {
    let entry: AppSrc = named(pipeline, "in")?;
    let exit: AppSink = named(pipeline, "out")?;
    play("uploaded picture", pipeline)?;
    entry.push_buffer(gst::Buffer::from_slice(bytes)).map_err(|flow| failed(&flow))?;
    entry.end_of_stream().map_err(|flow| failed(&flow))?;
    let sample = exit.try_pull_sample(PATIENCE).ok_or_else(|| failed(&"nothing was decoded"))?;
    let map = sample.buffer().and_then(|buffer| buffer.map_readable().ok()).ok_or_else(|| failed(&"no picture"))?;
    let (pixels, _) = map.as_slice().as_chunks::<4>();
    let opaque = |value: u8, alpha: u8| (u16::from(value) * u16::from(alpha) / 255) as u8;
    Ok(pixels.iter().map(|[r, g, b, a]| [opaque(*r, *a), opaque(*g, *a), opaque(*b, *a), *a]).collect())
}

/// Even sides, at least two.
fn fitting(head: Picture, most_width: u32, most_height: u32) -> (u32, u32) {
    let share = (f64::from(most_width) / f64::from(head.width)).min(f64::from(most_height) / f64::from(head.height));
    let side = |pixels: u32| ((f64::from(pixels) * share.min(1.0) / 2.0).round() as u32 * 2).max(2);
    (side(head.width), side(head.height))
}

/// What is cut off at each side, and at top and bottom, so that the rest has the shape of this many pixels.
fn surplus(head: Picture, width: u32, height: u32) -> [u32; 2] {
    let [have_width, have_height, width, height] = [head.width, head.height, width, height].map(u64::from);
    let wide = (have_height * width).div_ceil(height.max(1)).max(1);
    let high = (have_width * height).div_ceil(width.max(1)).max(1);
    [have_width.saturating_sub(wide) / 2, have_height.saturating_sub(high) / 2].map(|pixels| pixels as u32)
}

#[cfg(test)]
mod tests {
    use gstreamer::prelude::*;

    use super::*;

    /// A red picture, half of it transparent where the format can be.
    fn encoded(encoder: &str, width: u32, height: u32) -> Vec<u8> {
        gst::init().expect("GStreamer");
        let description = format!(
            "videotestsrc num-buffers=1 pattern=red ! video/x-raw,width={width},height={height} ! videoconvert ! {encoder} ! \
             appsink name=out sync=false"
        );
        let pipeline = launch("test", &description).expect("plugins");
        let exit: AppSink = named(&pipeline, "out").expect("out");
        pipeline.set_state(gst::State::Playing).expect("plays");
        let sample = exit.pull_sample().expect("encoded");
        let map = sample.buffer().expect("bytes").map_readable().expect("readable");
        let bytes = map.as_slice().to_vec();
        stop("test", &pipeline);
        bytes
    }

    #[test]
    fn pictures_are_decoded_to_their_size() {
        for encoder in ["pngenc", "jpegenc"] {
            let text = STANDARD.encode(encoded(encoder, 301, 99));
            let bitmap = logo(&text, 150, 150).expect("decoded");
            assert_eq!((bitmap.width(), bitmap.height()), (150, 50), "{encoder}");
            let bitmap = logo(&text, 900, 900).expect("decoded");
            assert_eq!((bitmap.width(), bitmap.height()), (302, 100), "{encoder}: never larger than it is");
        }
    }

    #[test]
    fn a_backdrop_fills_its_place_and_what_is_too_much_is_cut_off_evenly() {
        let picture = |width, height| Picture { format: Format::Png, width, height };
        assert_eq!(surplus(picture(1280, 720), 640, 360), [0, 0]);
        assert_eq!(surplus(picture(1000, 1000), 640, 360), [0, 218]);
        assert_eq!(surplus(picture(2000, 100), 640, 360), [911, 0]);
        for (width, height) in [(301, 99), (99, 301), (8, 8)] {
            let text = STANDARD.encode(encoded("pngenc", width, height));
            let bitmap = backdrop(&text, Rgb::default(), 64, 36).expect("decoded");
            assert_eq!((bitmap.width(), bitmap.height()), (64, 36), "{width} x {height}");
            let line = bitmap.line(0, 0, 35, 64).expect("the last line");
            assert!(line.iter().all(|y| y.abs_diff(81) < 4), "red everywhere, not {line:?}");
        }
    }

    #[test]
    fn broken_pictures_are_refused_and_end() {
        let whole = encoded("pngenc", 64, 64);
        for bytes in [&whole[..40], &whole[..whole.len() / 2], b"no picture"] {
            assert!(logo(&STANDARD.encode(bytes), 100, 100).is_err());
            assert!(backdrop(&STANDARD.encode(bytes), Rgb::default(), 64, 48).is_err());
        }
        assert!(logo("%%%", 100, 100).is_err());
        let mut lying = whole;
        lying[16..20].copy_from_slice(&60_000_u32.to_be_bytes());
        assert!(logo(&STANDARD.encode(lying), 100, 100).is_err());
    }
}
