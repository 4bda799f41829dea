//! The mixer with real GStreamer: what comes out is decoded and looked at.

mod canvas;
mod desk;
mod dressing;
mod encoder;
mod eyes;
mod gateway;
mod hls;
mod passthrough;
mod picture;
mod playout;
mod preview;
mod recording;
mod sender;
mod sound;
mod standby;
mod stems;
mod upheaval;
