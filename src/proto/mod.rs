//! Wire formats and protocol machines, sans-IO: bytes and time go in, bytes and events come out.

pub mod amf;
pub mod av1;
pub mod avc;
pub mod canvas;
pub mod flv;
pub mod h264;
pub mod hls;
pub mod mixer;
pub mod picture;
pub mod rtmp;
pub mod s3;
pub mod signal;
pub mod turn;
pub mod whip;
