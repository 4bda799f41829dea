//! All streams of this gateway: create, start, stop, find.
