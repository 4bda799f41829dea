//! A stream's life with fake mixers and destinations.
