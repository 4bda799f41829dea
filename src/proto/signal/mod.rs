//! Signalling between a participant and the gateway: JSON over the WebSocket at `/media-relay`, described in `docs/PROTOCOL.md`.

mod answer;
mod call;
mod conversation;
mod farewell;
mod limits;
mod outbox;
mod permission;
mod push;
mod words;

pub use answer::Answer;
pub use answer::FromGateway;
pub use answer::Joined;
pub use answer::Kept;
pub use answer::Reply;
pub use call::Ask;
pub use call::Call;
pub use call::Connect;
pub use call::MAX_REPORTED;
pub use call::Malformed;
pub use conversation::Conversation;
pub use farewell::Farewell;
pub use limits::Limits;
pub use outbox::Output;
pub use push::Push;
pub use words::Consumer;
pub use words::Failure;
pub use words::Grade;
pub use words::Hidden;
pub use words::IceServer;
pub use words::JitterBuffer;
pub use words::Level;
pub use words::Participant;
pub use words::Path;
pub use words::Producer;
pub use words::Source;
pub use words::TrackRef;
pub use words::Transport;

/// The sub-protocol both ends name in the WebSocket handshake (RFC 6455 section 1.9); its number changes with the messages.
pub const SUB_PROTOCOL: &str = "jamcast.v1";

/// The longest text frame taken, in bytes. An offer with 16 m-lines stays under 30 KiB.
pub const MAX_MESSAGE: usize = 64 << 10;
