//! The REST API as a caller sees it.

mod access;
mod files;
mod limits;
mod resources;
mod world;
