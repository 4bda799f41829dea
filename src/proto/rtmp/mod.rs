//! RTMP: both ends of publishing as sans-IO machines ("Adobe's Real Time Messaging Protocol" 1.0, 2012).
//!
//! Handshake and chunk writer are those of `rml_rtmp`. Its reader and its sessions are not used: the reader underflows on interleaved
//! chunk streams and on short extended timestamps, the sessions panic on commands with fewer than three values.

mod chunk;
mod link;
pub mod publisher;
pub mod receiver;
pub mod url;

/// Message types (sections 5.4 and 7.1).
mod kind {
    pub(super) const SET_CHUNK_SIZE: u8 = 1;
    pub(super) const ABORT: u8 = 2;
    pub(super) const ACKNOWLEDGEMENT: u8 = 3;
    pub(super) const USER_CONTROL: u8 = 4;
    pub(super) const WINDOW_ACK_SIZE: u8 = 5;
    pub(super) const SET_PEER_BANDWIDTH: u8 = 6;
    pub(super) const AUDIO: u8 = 8;
    pub(super) const VIDEO: u8 = 9;
    /// An AMF0 command behind one format byte; the name AMF3 notwithstanding, servers put AMF0 inside.
    pub(super) const COMMAND_AMF3: u8 = 17;
    pub(super) const DATA: u8 = 18;
    pub(super) const COMMAND: u8 = 20;
}

/// Payload bytes per chunk that both of our ends announce: under 0.5 % of overhead, and 32 times fewer headers than the initial 128.
const CHUNK_SIZE: u32 = 4096;
