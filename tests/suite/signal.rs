//! Signalling over a real WebSocket.
