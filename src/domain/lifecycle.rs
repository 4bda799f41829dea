//! The life of a stream as a machine: events in, actions out, states that only move forward.
