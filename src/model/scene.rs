//! The scene: the whole desired state of a programme. The mixer reconciles to it; a restart is sending it again.

use serde::Deserialize;
use serde::Serialize;

use crate::model::id::SourceId;
use crate::model::id::TrackId;
use crate::model::media::Codec;
use crate::model::spec::ProgrammeSpec;

/// The whole desired state of a programme.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scene {
    pub programme: ProgrammeSpec,
    pub master: Master,
    pub dressing: Dressing,
    /// In a stable order: the order of joining.
    pub sources: Vec<Source>,
    /// Path of the recording file to be written, if any; it may not exist yet. A changed path starts a new file.
    pub recording: Option<String>,
    /// Tracks that are recorded as they come, each into a file of its own; all of them and the recording have the same zero.
    pub stems: Vec<Stem>,
    /// Whose picture may be the programme's as it comes, for as long as it fits: nothing is beside or over it.
    #[serde(default)]
    pub passthrough: Option<SourceId>,
    /// The playout delay that the programme has come to, milliseconds: a mixer that begins, or stands by, takes it over.
    #[serde(default)]
    pub playout_ms: Option<u32>,
    /// How long it takes until what the musicians' links lose has come again, milliseconds, as far as it is known: a programme that
    /// begins waits for that, where it has come to no other playout delay.
    #[serde(default)]
    pub repair_ms: u32,
    /// Where a mixer that stood by goes on.
    #[serde(default)]
    pub continues: Option<Continues>,
    /// Whether the mixer only stands by: it decodes, and mixes the sound, so that the next scene without this finds it ready; nothing is
    /// encoded of the pictures, and nothing leaves it.
    #[serde(default)]
    pub standby: bool,
    /// Whether the programme's sound is made in Opus as well, for those who hear it in the room.
    #[serde(default)]
    pub preview: bool,
}

/// The newest of what is on air already, in microseconds as frames have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continues {
    pub picture_us: u64,
    pub sound_us: u64,
}

/// A track as it came from its musician, in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stem {
    /// Whose track it is: tracks of one source share a clock.
    pub source: SourceId,
    pub track: SourceTrack,
    /// Path of the Matroska file, which may not exist yet. It is created with the first media.
    pub path: String,
    /// For the file's header: ASCII letters, digits and `-`. The muxer puts anything else in quotes.
    pub title: String,
}

/// What happens to the sound of all sources together, before it is limited.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Master {
    /// Linear gain, 0.0 to 4.0; 1.0 leaves it as it is.
    pub gain: f64,
    /// Whether the programme is brought slowly to -14 LUFS.
    pub normalise: bool,
}

impl Default for Master {
    fn default() -> Self {
        Self { gain: 1.0, normalise: false }
    }
}

/// What stands over and under the pictures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dressing {
    /// One line at the top.
    pub title: Option<String>,
    /// At the upper right: base64 of a PNG or a JPEG, whose size has been checked and which has not been decoded.
    pub logo: Option<String>,
    pub background: Rgb,
    /// In front of that colour and behind all pictures, like the logo.
    #[serde(default)]
    pub backdrop: Option<String>,
}

/// Red, green and blue; black unless said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rgb(pub [u8; 3]);

/// Anything that can be placed: a participant's tapped tracks, or the room's canvas.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    pub id: SourceId,
    /// Shown in logs.
    pub label: String,
    /// Drawn over the picture: plain text, nothing of it is markup.
    pub caption: Option<String>,
    pub video: Option<SourceTrack>,
    pub audio: Option<SourceTrack>,
    /// Its picture comes as frames of a canvas; `video` is `None` then.
    pub canvas: bool,
    /// Where the video stands; `None` hears the source without showing it.
    pub placement: Option<Placement>,
    /// Linear gain of the audio, 0.0 to 4.0; 1.0 leaves it as it is.
    pub gain: f64,
    pub muted: bool,
    /// Stereo position, -1.0 (left) to 1.0 (right).
    pub pan: f64,
    /// Extra delay in the programme, milliseconds, 0 to 2000.
    pub delay_ms: u32,
    pub look: Look,
}

impl Source {
    /// Nothing to hear or see yet: what a desk and a look at rest make of whatever it is given.
    pub fn new(id: SourceId, label: impl Into<String>) -> Self {
        Self {
            id,
            label: label.into(),
            caption: None,
            video: None,
            audio: None,
            canvas: false,
            placement: None,
            gain: 1.0,
            muted: false,
            pan: 0.0,
            delay_ms: 0,
            look: Look::default(),
        }
    }

    /// Whether this is one of its tracks.
    pub fn has(&self, track: TrackId) -> bool {
        self.video.iter().chain(&self.audio).any(|own| own.track == track)
    }
}

/// How a picture is retouched before it is placed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// Shares of the picture cut off: left, top, right, bottom. Two opposite ones leave at least a tenth.
    pub crop: [f64; 4],
    /// Left and right change places.
    pub mirror: bool,
    /// -1.0 (black) to 1.0 (white); 0.0 leaves it as it is.
    pub brightness: f64,
    pub monochrome: bool,
}

/// A tapped track as a source's video or audio. A source whose codec changes gets a new track number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceTrack {
    pub track: TrackId,
    pub codec: Codec,
    /// Without this payload type a packet is not this track's media (comfort noise, RED) and is ignored.
    pub payload_type: u8,
}

/// Where a source's picture stands in the programme.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    pub rect: Rect,
    /// Greater is nearer to the viewer.
    pub z: u32,
}

/// A rectangle in programme pixels; all four numbers are even, because I420 chroma is half as wide and high.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rect {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}
