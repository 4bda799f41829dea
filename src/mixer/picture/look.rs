//! Retouches one picture: cuts its edges off, turns it as in a mirror, makes it brighter or darker, takes its colours away.

use gstreamer as gst;

use crate::mixer::picture::planes::Planes;
use crate::model::scene::Look;

/// The fewest pixels that a crop leaves in one direction.
const LEAST: usize = 16;

/// What of each side is left, in pixels: even, so that brightness and colours are cut at the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

/// The picture as it is to be looked at, with the caps it then has. One that needs nothing, or does not lie in memory as expected, is
/// passed on as it is.
pub(in crate::mixer) fn retouch(look: Look, caps: &gst::CapsRef, picture: gst::Buffer) -> (gst::Caps, gst::Buffer) {
    if look == Look::default() {
        return (caps.to_owned(), picture);
    }
    retouched(look, caps, &picture).unwrap_or_else(|| (caps.to_owned(), picture))
}

fn retouched(look: Look, caps: &gst::CapsRef, picture: &gst::Buffer) -> Option<(gst::Caps, gst::Buffer)> {
    let side = |name| usize::try_from(caps.structure(0)?.get::<i32>(name).ok()?).ok();
    let (width, height) = (side("width")?, side("height")?);
    let cut = cut(look.crop, width, height);
    let bytes = {
        let map = picture.map_readable().ok()?;
        process(look, cut, &Planes::within(picture, width, height)?, map.as_slice())?
    };
    let mut result = gst::Buffer::from_mut_slice(bytes);
    let writable = result.get_mut()?;
    writable.set_pts(picture.pts());
    writable.set_dts(picture.dts());
    writable.set_duration(picture.duration());
    writable.set_flags(picture.flags());
    let mut caps = caps.to_owned();
    let structure = caps.get_mut()?.structure_mut(0)?;
    structure.set("width", i32::try_from(cut.width).ok()?);
    structure.set("height", i32::try_from(cut.height).ok()?);
    Some((caps, result))
}

fn cut([left, top, right, bottom]: [f64; 4], width: usize, height: usize) -> Cut {
    let along = |from: f64, to: f64, side: usize| {
        let pixels = |share: f64| (share.clamp(0.0, 1.0) * side as f64 / 2.0).round() as usize * 2;
        let begin = pixels(from).min(side.saturating_sub(LEAST) & !1);
        let end = side.saturating_sub(pixels(to)).max(begin + LEAST.min(side));
        // An odd side stays odd only where nothing is cut from its end.
        let length = if to > 0.0 { (end - begin) & !1 } else { end - begin };
        (begin, length)
    };
    let ((left, width), (top, height)) = (along(left, right, width), along(top, bottom, height));
    Cut { left, top, width, height }
}

/// `None` for a picture of another size than its layout's.
fn process(look: Look, cut: Cut, from: &Planes, bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.len() != from.size {
        return None;
    }
    let to = Planes::of(cut.width, cut.height);
    let mut result = vec![0; to.size];
    let lights = lights(look.brightness);
    for (index, (source, target)) in from.planes.iter().zip(to.planes).enumerate() {
        let half = if index == 0 { 1 } else { 2 };
        let grey = look.monochrome && index > 0;
        for y in 0..target.height {
            let line = &mut result[target.row(y)];
            if grey {
                line.fill(128);
                continue;
            }
            let row = source.row(y + cut.top / half);
            let begin = row.start + cut.left / half;
            line.copy_from_slice(&bytes[begin..begin + target.width]);
            if look.mirror {
                line.reverse();
            }
            if index == 0 && look.brightness != 0.0 {
                line.iter_mut().for_each(|value| *value = lights[usize::from(*value)]);
            }
        }
    }
    Some(result)
}

/// What becomes of each brightness.
fn lights(brightness: f64) -> [u8; 256] {
    let added = (brightness.clamp(-1.0, 1.0) * 219.0).round() as i32;
    std::array::from_fn(|value| (value as i32 + added).clamp(16, 235) as u8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Brightness grows to the right, one colour to the right and the other downwards.
    fn picture(width: usize, height: usize) -> (Planes, Vec<u8>) {
        let planes = Planes::of(width, height);
        let mut bytes = vec![0; planes.size];
        for (index, plane) in planes.planes.iter().enumerate() {
            for y in 0..plane.height {
                for (x, value) in bytes[plane.row(y)].iter_mut().enumerate() {
                    *value = (20 + if index == 2 { y } else { x }) as u8;
                }
            }
        }
        (planes, bytes)
    }

    fn at(width: usize, height: usize, bytes: &[u8], x: usize, y: usize) -> [u8; 3] {
        let [luma, blue, red] = Planes::of(width, height).planes;
        [bytes[luma.row(y)][x], bytes[blue.row(y / 2)][x / 2], bytes[red.row(y / 2)][x / 2]]
    }

    #[test]
    fn edges_are_cut_and_sides_change_places() {
        let (planes, bytes) = picture(64, 48);
        let look = Look { crop: [0.25, 0.25, 0.125, 0.0], ..Look::default() };
        let cut = cut(look.crop, 64, 48);
        assert_eq!(cut, Cut { left: 16, top: 12, width: 40, height: 36 });
        let cropped = process(look, cut, &planes, &bytes).expect("as expected");
        assert_eq!(at(40, 36, &cropped, 0, 0), [36, 28, 26]);
        let mirrored = process(Look { mirror: true, ..look }, cut, &planes, &bytes).expect("as expected");
        assert_eq!(at(40, 36, &mirrored, 39, 0), [36, 28, 26]);
        assert_eq!(at(40, 36, &mirrored, 0, 2), [75, 47, 27]);
    }

    #[test]
    fn light_and_colours_change() {
        let (planes, bytes) = picture(64, 48);
        let whole = cut([0.0; 4], 64, 48);
        let look = |brightness, monochrome| Look { brightness, monochrome, ..Look::default() };
        let seen = |look| at(64, 48, &process(look, whole, &planes, &bytes).expect("as expected"), 10, 10);
        assert_eq!(seen(look(0.5, false)), [140, 25, 25]);
        assert_eq!(seen(look(-1.0, true)), [16, 128, 128]);
        assert_eq!(seen(look(1.0, false))[0], 235);
        assert_eq!(process(look(0.5, false), whole, &planes, &bytes[1..]), None, "less than a picture");
    }

    proptest! {
        #[test]
        fn no_crop_of_no_size_reaches_outside(
            width in 2usize..300, height in 2usize..300,
            left in 0.0..0.9f64, top in 0.0..0.9f64, right in 0.0..0.9f64, bottom in 0.0..0.9f64, mirror: bool
        ) {
            let (planes, bytes) = picture(width, height);
            let look = Look { crop: [left, top, right, bottom], mirror, ..Look::default() };
            let cut = cut(look.crop, width, height);
            prop_assert!(cut.width > 0 && cut.left + cut.width <= width, "{cut:?}");
            prop_assert!(cut.height > 0 && cut.top + cut.height <= height, "{cut:?}");
            prop_assert!(process(look, cut, &planes, &bytes).is_some());
        }
    }
}
