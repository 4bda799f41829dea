//! One stream: taps its room, keeps a mixer running, feeds the destinations.
