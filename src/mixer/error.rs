//! Why a mixer ends early.

use crate::model::fault::Fault;
use crate::model::fault::Faulty;
use crate::proto::mixer::WireError;

/// Why a mixer ended early; the gateway starts another and sends it the scene again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("GStreamer does not start; check the installation with gst-inspect-1.0")]
    Init(#[from] gstreamer::glib::Error),
    #[error(
        "cannot build the {what} pipeline: {reason}; check that the GStreamer plugins base, good, bad, ugly and libav are installed"
    )]
    Build { what: &'static str, reason: String },
    #[error("the programme's pipeline failed in {element}: {reason}")]
    Pipeline { element: String, reason: String },
    #[error("the programme's picture, frame rate or sound changed, which needs a new mixer")]
    FormatChanged,
    #[error("the socket to the gateway failed")]
    Socket(#[from] std::io::Error),
    #[error("the gateway sent something that cannot be read")]
    Wire(#[from] WireError),
}

impl Faulty for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Pipeline { .. } | Self::FormatChanged => Fault::Transient,
            Self::Init(_) | Self::Build { .. } | Self::Socket(_) | Self::Wire(_) => Fault::Internal,
        }
    }
}
