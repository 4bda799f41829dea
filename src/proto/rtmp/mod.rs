//! RTMP: the publishing side of the protocol as a sans-IO machine.
pub mod url;
