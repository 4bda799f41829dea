//! HLS (RFC 8216): the encoded programme as segments of fragmented MP4 and a live playlist of the newest.

mod fragment;
mod packager;
mod window;

pub use crate::proto::hls::fragment::Unfit;
pub use crate::proto::hls::packager::Packager;
pub use crate::proto::hls::window::Init;
pub use crate::proto::hls::window::Segment;
pub use crate::proto::hls::window::Window;
