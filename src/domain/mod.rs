//! Decisions, sans-IO: who forwards what to whom, when to reconnect, at which bitrate, where a picture stands, which hosts may be
//! dialled.

pub mod abr;
pub mod access;
pub mod align;
pub mod canvas;
pub mod desk;
pub mod destination;
pub mod dressing;
pub mod layout;
pub mod lifecycle;
pub mod network;
pub mod passthrough;
pub mod platform;
pub mod policy;
pub mod retention;
pub mod room;
pub mod tier;
pub mod upload;
