//! The public face: REST API, signalling, WHIP and WHEP, the studio's files, metrics and health.

pub mod api;
pub mod ops;
pub mod problem;
mod seat;
pub mod studio;
pub mod whip;
pub mod ws;
