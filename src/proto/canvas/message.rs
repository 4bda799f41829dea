//! What a canvas sender and the gateway say to each other beside frames: JSON with a `type`.

use serde::Deserialize;
use serde::Serialize;

use crate::model::media::CanvasFormat;
use crate::proto::signal::Hidden;

/// Sender to gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum FromSender {
    /// The first message: a room token of a musician or more.
    Open { token: Hidden },
}

/// Gateway to sender.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromGateway {
    /// The canvas is open; frames may be sent as credits come.
    Opened {
        /// All that are taken, the best ones first.
        formats: Vec<CanvasFormat>,
        max_width: u16,
        max_height: u16,
        max_pixels: u32,
        max_message_bytes: usize,
    },
    /// So many more frames may be sent. Each frame uses one up; one sent without is dropped.
    Credit { frames: u32 },
    /// How much the network and the programme take: never send more. Zero frames a second means that nobody is watching.
    Pace {
        max_fps: u32,
        max_kbps: u32,
        /// Of the canvas' own width and height, 0.25 to 1.
        scale: f32,
    },
    /// The next frame must be a keyframe.
    Keyframe,
    /// A frame could not be used; the next one may be.
    Dropped { reason: String },
    /// The gateway closes the socket after this.
    Refused { code: String, message: String },
}
