//! Text as bitmaps: drawn by librsvg, which knows all the world's scripts, once for each text and size.

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

const DESCRIPTION: &str =
    "appsrc name=in caps=image/svg+xml ! rsvgdec ! video/x-raw,format=BGRA ! appsink name=out sync=false";

/// The widest text drawn, pixels; what is longer is drawn smaller and then cut.
const MOST_WIDTH: usize = 4096;

/// Characters of a text; names have 64 and titles 100.
const MOST_CHARACTERS: usize = 128;

/// The longest wait for librsvg; the first text of a process may have to wait until fontconfig has read all fonts.
const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(10);

/// How dark it is behind the letters, so that white ones can be read over white shirts.
const SHADE: u8 = 150;

/// How opaque something is, in rows.
#[derive(Debug)]
struct Mask {
    width: usize,
    values: Vec<u8>,
}

/// White letters of this size (pixels from line to line) on a dark plate with round corners, not wider than `most_width`.
pub(in crate::mixer) fn plate(text: &str, size: usize, most_width: usize) -> Result<Bitmap, Error> {
    let (across, down) = (size * 2 / 5, size / 5);
    let room = most_width.saturating_sub(2 * across).max(size);
    let mut letters = draw(text, size)?;
    if letters.width > room {
        letters = draw(text, (size * room / letters.width).max(size / 2).max(8))?;
    }
    let wide = letters.width.min(room);
    let high = letters.values.len() / letters.width.max(1);
    let (width, height) = ((wide + 2 * across).next_multiple_of(2), (size + 2 * down).next_multiple_of(2));
    let top = (height.saturating_sub(high)) / 2;
    let mut pixels: Vec<Pixel> = Vec::with_capacity(width * height);
    for y in 0..height {
        for x in 0..width {
            let shade = round_plate([x, y], [width, height], size * 2 / 5);
            let letter = match (x.checked_sub(across), y.checked_sub(top)) {
                (Some(x), Some(y)) if x < wide && y < high => letters.values[y * letters.width + x],
                _ => 0,
            };
            let rest = u32::from(shade) * u32::from(255 - letter) / 255;
            pixels.push([letter, letter, letter, letter + rest as u8]);
        }
    }
    Ok(Bitmap::new(width, &pixels))
}

/// How opaque a plate with round corners is at a pixel; its edge is as smooth as a pixel is wide.
fn round_plate([x, y]: [usize; 2], [width, height]: [usize; 2], radius: usize) -> u8 {
    let beyond = |at: usize, side: usize| {
        let (at, side, radius) = (at as f64 + 0.5, side as f64, radius as f64);
        (radius - at).max(at - (side - radius)).max(0.0)
    };
    let distance = beyond(x, width).hypot(beyond(y, height));
    let cover = (radius as f64 - distance + 0.5).clamp(0.0, 1.0);
    (f64::from(SHADE) * cover).round() as u8
}

/// Letters of this size, cut to where they are; a blank text is one transparent column.
fn draw(text: &str, size: usize) -> Result<Mask, Error> {
    let text: String = text.chars().take(MOST_CHARACTERS).collect();
    // No letter is wider than two of its heights.
    let width = ((text.chars().count() + 2) * size * 2).min(MOST_WIDTH);
    let mask = rasterise(&svg(&text, size, width, size), width)?;
    let rows = || mask.values.chunks_exact(mask.width);
    let begin = (0..width).find(|x| rows().any(|row| row[*x] > 0)).unwrap_or(0);
    let end = (begin..width).rev().find(|x| rows().any(|row| row[*x] > 0)).map_or(begin + 1, |last| last + 1);
    Ok(Mask { width: end - begin, values: rows().flat_map(|row| &row[begin..end]).copied().collect() })
}

/// One line of white text. It came from outside, so nothing of it is taken for markup.
fn svg(text: &str, size: usize, width: usize, height: usize) -> String {
    let letters = size * 4 / 5;
    let baseline = size * 31 / 40;
    // Right-to-left scripts are anchored at what they take for their beginning; in the middle all scripts agree.
    let middle = width / 2;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\"><text x=\"{middle}\" y=\"{baseline}\" \
         font-family=\"sans-serif\" font-weight=\"600\" font-size=\"{letters}\" text-anchor=\"middle\" fill=\"#fff\">{}</text></svg>",
        escaped(text)
    )
}

/// A text as XML: markup is escaped, and what XML 1.0 cannot hold is left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\u{FFFE}' | '\u{FFFF}' => {}
            other if other.is_control() => {}
            other => out.push(other),
        }
    }
    out
}

/// How opaque a drawing is.
fn rasterise(svg: &str, width: usize) -> Result<Mask, Error> {
    let pipeline = launch("lettering", DESCRIPTION)?;
    let drawn = draw_in(&pipeline, svg, width);
    stop("lettering", &pipeline);
    drawn
}

fn draw_in(pipeline: &gst::Pipeline, svg: &str, width: usize) -> Result<Mask, Error> {
    let entry: AppSrc = named(pipeline, "in")?;
    let exit: AppSink = named(pipeline, "out")?;
    play("lettering", pipeline)?;
    let failed = |reason: &dyn ToString| build_error("lettering", &reason.to_string());
    let mut buffer = gst::Buffer::from_slice(svg.to_owned());
    if let Some(buffer) = buffer.get_mut() {
        buffer.set_pts(gst::ClockTime::ZERO);
    }
    entry.push_buffer(buffer).map_err(|flow| failed(&flow))?;
    entry.end_of_stream().map_err(|flow| failed(&flow))?;
    let sample = exit.try_pull_sample(PATIENCE).ok_or_else(|| failed(&"nothing was drawn"))?;
    let map = sample.buffer().and_then(|buffer| buffer.map_readable().ok()).ok_or_else(|| failed(&"no picture"))?;
    let (pixels, _) = map.as_slice().as_chunks::<4>();
    if pixels.is_empty() || pixels.len() % width != 0 {
        return Err(failed(&"a picture of another size"));
    }
    Ok(Mask { width, values: pixels.iter().map(|[_, _, _, alpha]| *alpha).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(text: &str) -> Mask {
        gst::init().expect("GStreamer");
        draw(text, 40).expect("drawn")
    }

    fn ink(mask: &Mask) -> u32 {
        mask.values.iter().map(|value| u32::from(*value)).sum::<u32>() / 255
    }

    #[test]
    fn letters_are_drawn_as_wide_as_they_are() {
        let (short, long) = (drawn("Ann"), drawn("Ann Ann Ann"));
        assert!((40..110).contains(&short.width), "{}", short.width);
        assert!(long.width > short.width * 3 && ink(&long) == ink(&short) * 3 || ink(&long) > ink(&short) * 5 / 2);
        assert!(short.values.chunks_exact(short.width).all(|row| row.len() == short.width));
        assert_eq!(drawn("   ").width, 1);
    }

    #[test]
    fn markup_is_text_like_any_other() {
        let plain = drawn("bold");
        assert!(drawn("<b>bold</b>").width > plain.width * 2);
        assert!(drawn("&lt;").width > drawn("<").width);
        assert!(drawn("</text><rect width=\"500\" height=\"40\" fill=\"#fff\"/>").width > 400);
        assert!(ink(&drawn("</text><rect width=\"500\" height=\"40\" fill=\"#fff\"/>")) < 500 * 40 / 2);
        for odd in ["\u{0}\u{1b}[31m", "\u{FFFF}\u{FFFE}", "שלום", "Ünï🎸", "]]>", "<!-- x", "&#x41;", "&xxe;"]
        {
            drawn(odd);
        }
    }

    #[test]
    fn a_plate_is_not_wider_than_it_may_be() {
        gst::init().expect("GStreamer");
        let name = "An unusually long name of somebody in the band";
        for most in [80, 200, 640] {
            let plate = plate(name, 24, most).expect("drawn");
            assert!(plate.width() <= most + 2 && plate.height() >= 24, "{} of {most}", plate.width());
        }
        assert!(plate("Al", 24, 640).expect("drawn").width() < 100);
    }
}
