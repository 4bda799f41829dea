//! WHIP ingest (RFC 9725) and WHEP playback over HTTP.
