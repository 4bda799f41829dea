//! When a destination dials, goes live, stalls, backs off and gives up: a machine over time and events.
