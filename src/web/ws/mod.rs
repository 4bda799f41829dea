//! WebSockets: signalling at /media-relay.
