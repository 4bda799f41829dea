//! Publishing to RTMP servers that behave, and to those that do not.
