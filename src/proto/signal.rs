//! Signalling messages between a participant and the gateway: JSON over the WebSocket at /media-relay.
