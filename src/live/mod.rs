//! The actors: one task per stream and per destination, the rooms as they see them, and the ports they need.

pub mod canvas;
pub mod destination;
mod direction;
pub mod fanout;
mod gauge;
pub mod hls;
mod placement;
pub mod port;
pub mod recordings;
pub mod registry;
pub mod retention;
pub mod rooms;
pub mod snapshot;
pub mod stream;
pub mod upload;
