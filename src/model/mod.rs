//! The words every other floor speaks: ids, media, scenes, specs, secrets and faults. No I/O, no async, no clocks.

pub mod encoder;
pub mod fault;
pub mod id;
pub mod media;
pub mod opus;
pub mod role;
pub mod scene;
pub mod secret;
pub mod spec;
