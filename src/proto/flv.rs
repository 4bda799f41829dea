//! FLV tag bodies: encoded frames and codec configurations as RTMP carries them.
