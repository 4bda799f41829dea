//! The REST API as a caller sees it.

mod access;
mod connections;
mod direction;
mod files;
mod hls;
mod limits;
mod resources;
mod roles;
pub(crate) mod world;
