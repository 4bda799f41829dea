//! The supervisor and its child over the socketpair.
