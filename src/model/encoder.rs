//! Which encoder makes the programme's H.264.

use serde::Deserialize;
use serde::Serialize;

/// An H.264 encoder that there is a pipeline description for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoder {
    /// x264, on the processor.
    #[default]
    X264,
    /// Cisco's OpenH264, on the processor.
    OpenH264,
    /// NVIDIA's, on the graphics card.
    Nvenc,
    /// VA-API, on the graphics of Intel and AMD.
    VaApi,
}

impl Encoder {
    /// All of them, the default first.
    pub const ALL: [Self; 4] = [Self::X264, Self::OpenH264, Self::Nvenc, Self::VaApi];

    /// The name in the configuration and in the names of files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::X264 => "x264",
            Self::OpenH264 => "openh264",
            Self::Nvenc => "nvenc",
            Self::VaApi => "vaapi",
        }
    }
}
