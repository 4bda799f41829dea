//! Canvas frames over the WebSocket `/rtmp-relay`, described in `docs/PROTOCOL.md`: binary messages of frames, JSON for everything else.

mod frame;
mod message;

pub use frame::Frames;
pub use frame::HEADER;
pub use frame::Malformed;
pub use frame::write;
pub use message::FromGateway;
pub use message::FromSender;

/// The sub-protocol both ends name in the WebSocket handshake (RFC 6455 section 1.9); its number changes with the messages.
pub const SUB_PROTOCOL: &str = "jamcast-canvas.v1";

/// The longest text message taken, in bytes; a token with many claims stays under 4 KiB.
pub const MAX_TEXT: usize = 8 << 10;

/// The widest and highest canvas, pixels: 1080p on its side is 1080 by 1920.
pub const MOST_SIDE: u16 = 1920;

/// The largest canvas, pixels: that of 1080p, which is the largest programme.
pub const MOST_PIXELS: u32 = 1920 * 1080;

/// The longest binary message taken, in bytes: a raw frame of 1080p and its header.
pub const MAX_MESSAGE: usize = MOST_PIXELS as usize * 4 + HEADER;

/// The most frames in one message: half a second, so that a sender in a background tab may gather them.
pub const MOST_FRAMES: usize = 16;
