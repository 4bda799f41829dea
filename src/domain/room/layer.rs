//! What a packet of a scalable stream says of its layer, whatever the codec.

/// Spatial layers of which sizes are kept; RTP knows eight, browsers send up to three.
pub const MAX_SPATIAL: usize = 3;

/// What a packet of a scalable stream says of its layer frame: one spatial layer of one picture.
///
/// All frames of a picture have one timestamp, one picture number and one temporal layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// 0 to 7, of which each builds on those below.
    pub spatial: u8,
    /// 0 to 7; those above can be left out.
    pub temporal: u8,
    /// Its first packet.
    pub begins: bool,
    /// Its last packet.
    pub ends: bool,
    /// It needs a picture before its own.
    pub is_predicted: bool,
    /// No higher spatial layer needs it, neither in this picture nor in later ones.
    pub is_spare: bool,
    /// From here on no higher temporal layer needs a picture of its own before this one.
    pub is_switching_point: bool,
    /// The highest spatial layer that there is from here on, where the packet says so.
    pub top: Option<u8>,
    /// The number of this layer frame, of which each has its own, where a dependency descriptor says it.
    pub number: Option<u16>,
}

impl Frame {
    /// Of a picture that decoding may begin at.
    pub const fn is_key(self) -> bool {
        !self.is_predicted && self.spatial == 0
    }
}
