//! What is written to disk.
//!
//! The [`recorder`] writes the programme and [`thumbnails`] of it, [`stems`] each musician's tracks as they came, every file in a pipeline
//! of its own ([`writing`]).

pub(super) mod opus;
pub(super) mod recorder;
pub(super) mod stem;
pub(super) mod stems;
pub(super) mod thumbnails;
pub(super) mod writing;
