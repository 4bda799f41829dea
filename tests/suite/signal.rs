//! Signalling, WHIP and WHEP over real sockets, with a fake room behind them, and the protocol's document.

mod fake;
mod protocol_document;
mod socket;
mod whip;
