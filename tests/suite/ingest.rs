//! The embedded RTMP receiver against real publishers.
