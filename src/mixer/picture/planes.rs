//! How an I420 picture lies in memory: as GStreamer lays it out when nobody asks for anything else, or as its maker says.

use gstreamer as gst;
use gstreamer_video::VideoMeta;

/// One of the three planes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mixer) struct Plane {
    pub offset: usize,
    /// Bytes from one row to the next.
    pub stride: usize,
    pub width: usize,
    pub height: usize,
}

/// Brightness at full size, then two colours at half of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mixer) struct Planes {
    pub planes: [Plane; 3],
    /// Bytes of the whole picture.
    pub size: usize,
}

impl Planes {
    /// The layout of a picture of this many pixels.
    pub(in crate::mixer) const fn of(width: usize, height: usize) -> Self {
        let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
        let (stride, half_stride) = (width.next_multiple_of(4), half_width.next_multiple_of(4));
        let first = stride * half_height * 2;
        let second = half_stride * half_height;
        let chroma = Plane { offset: first, stride: half_stride, width: half_width, height: half_height };
        Self {
            planes: [Plane { offset: 0, stride, width, height }, chroma, Plane { offset: first + second, ..chroma }],
            size: first + 2 * second,
        }
    }

    /// The layout of a picture of this many pixels in a buffer; `None` if the buffer does not hold all of it.
    pub(in crate::mixer) fn within(buffer: &gst::BufferRef, width: usize, height: usize) -> Option<Self> {
        let mut planes = Self::of(width, height);
        if let Some(meta) = buffer.meta::<VideoMeta>() {
            for ((plane, offset), stride) in planes.planes.iter_mut().zip(meta.offset()).zip(meta.stride()) {
                (plane.offset, plane.stride) = (*offset, usize::try_from(*stride).ok()?);
            }
            planes.size = buffer.size();
        }
        let whole = planes.planes.iter().all(|plane| plane.row(plane.height - 1).end <= buffer.size());
        (whole && planes.size == buffer.size()).then_some(planes)
    }
}

impl Plane {
    /// The bytes of a row, within the whole picture.
    pub(in crate::mixer) const fn row(&self, y: usize) -> std::ops::Range<usize> {
        let begin = self.offset + y * self.stride;
        begin..begin + self.width
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoders_own_layout_is_taken_and_one_that_reaches_outside_is_not() {
        gst::init().expect("GStreamer");
        let of = |offsets: [usize; 3], strides: [i32; 3]| {
            let mut buffer = gst::Buffer::with_size(2000).expect("memory");
            let format = gstreamer_video::VideoFormat::I420;
            let flags = gstreamer_video::VideoFrameFlags::empty();
            VideoMeta::add_full(buffer.get_mut().expect("alone"), flags, format, 16, 16, &offsets, &strides)
                .expect("a layout");
            Planes::within(&buffer, 16, 16)
        };
        let planes = of([64, 1200, 1600], [48, 32, 32]).expect("inside").planes;
        assert_eq!((planes[0].row(1), planes[2].row(2)), (112..128, 1664..1672));
        assert_eq!(of([64, 1200, 1800], [48, 32, 32]), None);
        let plain = |size| Planes::within(&gst::Buffer::with_size(size).expect("memory"), 16, 16);
        assert_eq!((plain(384), plain(383)), (Some(Planes::of(16, 16)), None));
    }

    #[test]
    fn rows_and_planes_begin_where_gstreamer_puts_them() {
        // Odd in both directions: 427 x 241, as a quarter of 1708 x 964 may be.
        let Planes { planes: [y, u, v], size } = Planes::of(427, 241);
        assert_eq!((y.stride, u.stride, u.width, u.height), (428, 216, 214, 121));
        assert_eq!((u.offset, v.offset), (428 * 242, 428 * 242 + 216 * 121));
        assert_eq!(size, 428 * 242 + 2 * 216 * 121);
        assert_eq!(y.row(2), 856..856 + 427);
        assert_eq!(Planes::of(1280, 720).size, 1280 * 720 * 3 / 2);
    }
}
