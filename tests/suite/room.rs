//! The SFU against real WebRTC peers.
