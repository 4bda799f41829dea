//! The mixer with real GStreamer: what comes out is decoded and looked at.
