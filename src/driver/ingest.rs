//! A small RTMP receiver, the default destination of a first run: writes what it gets as FLV files.
