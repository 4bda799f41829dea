//! Signalling between a participant and the gateway: JSON over the WebSocket at `/media-relay`, described in `docs/PROTOCOL.md`.

mod conversation;
mod farewell;
mod limits;
mod message;
mod outbox;
mod permission;

pub use conversation::Conversation;
pub use farewell::Farewell;
pub use limits::Limits;
pub use message::Answer;
pub use message::Ask;
pub use message::Call;
pub use message::Connect;
pub use message::Consumer;
pub use message::Failure;
pub use message::FromGateway;
pub use message::Hidden;
pub use message::IceServer;
pub use message::Joined;
pub use message::Kept;
pub use message::Level;
pub use message::Malformed;
pub use message::Participant;
pub use message::Producer;
pub use message::Push;
pub use message::Reply;
pub use message::Source;
pub use message::TrackRef;
pub use message::Transport;
pub use outbox::Output;

/// The sub-protocol both ends name in the WebSocket handshake (RFC 6455 section 1.9); its number changes with the messages.
pub const SUB_PROTOCOL: &str = "jamcast.v1";

/// The longest text frame taken, in bytes. An offer with 16 m-lines stays under 30 KiB.
pub const MAX_MESSAGE: usize = 64 << 10;
