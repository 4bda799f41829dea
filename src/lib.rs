//! Jamcast: a WebRTC-to-RTMP broadcast gateway for live music.
//!
//! Floors, each of which may name only those to its left (`tests/architecture.rs` holds it):
//! `model < proto, domain < live < driver, web < app < main`, with `mixer` beside them on `model` and `proto` alone.

pub mod app;
pub mod cli;
pub mod config;
pub mod domain;
pub mod driver;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod hostile;
pub mod live;
pub mod mixer;
pub mod model;
pub mod proto;
pub mod telemetry;
pub mod web;
