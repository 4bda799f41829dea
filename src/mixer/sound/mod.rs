//! The programme's sound.
//!
//! Each source has its [`strip`], what is heard of it is joined without clicks ([`splice`]) and its [`level`] measured. Behind the mix is
//! the [`master`] bus with [`limiter`] and [`loudness`], and for hosts who listen in the room a [`preview`].

pub(super) mod level;
pub(super) mod limiter;
pub(super) mod loudness;
pub(super) mod master;
pub(super) mod preview;
pub(super) mod splice;
pub(super) mod strip;

/// Samples of a change of level by hand: 250 ms, in which the studio's next message says where the hand on the fader is by then.
const MOVE: u32 = 12_000;
