//! Publishing to RTMP servers that behave, and to those that do not.

pub(crate) mod fixture;
mod misbehaving;
pub(crate) mod peers;
mod together;
