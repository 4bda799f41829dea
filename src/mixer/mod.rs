//! The mixer child process: decodes, composes, mixes, encodes and records one programme. It holds all of GStreamer, no secret, no network.
