//! Signalling, WHIP and WHEP over real sockets, with a fake room behind them, and the protocol's document.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is for")]

mod fake;
mod protocol_document;
mod socket;
mod whip;
