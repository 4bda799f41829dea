//! The words every other floor speaks: ids, media and what their headers say, scenes, specs, secrets and faults. No I/O, no async, no clocks.

pub mod av1;
pub mod bits;
pub mod encoder;
pub mod fault;
pub mod h264;
pub mod id;
pub mod media;
pub mod opus;
pub mod role;
pub mod scene;
pub mod secret;
pub mod spec;
