//! What a stream shows of itself in its room: the encoded programme, to the hosts.

use bytes::Bytes;

use crate::live::rooms::ProgrammeFrame;
use crate::live::rooms::Request;
use crate::live::stream::Stream;
use crate::model::media::CodecConfig;
use crate::model::media::EncodedFrame;
use crate::model::media::MediaKind;
use crate::model::media::OpusPacket;

/// What the room must know before the next frame.
#[derive(Debug, Default)]
pub(super) struct Screening {
    /// AVCDecoderConfigurationRecord; empty before the first mixer told it.
    avc: Bytes,
    /// When the newest sound begins. A mixer that is new has made some of it once more.
    heard_us: u64,
}

impl Screening {
    pub(super) fn set_config(&mut self, config: &CodecConfig) {
        self.avc = config.avc.clone();
    }
}

impl Stream {
    /// Offers a frame to the room, which has no use for AAC: browsers receive none over WebRTC, and get the sound as [`OpusPacket`]s.
    pub(super) fn screen(&self, frame: &EncodedFrame) {
        if frame.kind == MediaKind::Video {
            let frame = ProgrammeFrame::Picture { frame: frame.clone(), avc: self.screening.avc.clone() };
            self.ports.rooms.tell(&self.row.room, Request::Screen { frame });
        }
    }

    pub(super) fn screen_sound(&mut self, sound: OpusPacket) {
        if sound.pts_us > self.screening.heard_us {
            self.screening.heard_us = sound.pts_us;
            self.ports.rooms.tell(&self.row.room, Request::Screen { frame: ProgrammeFrame::Sound(sound) });
        }
    }

    pub(super) fn end_screening(&self) {
        self.ports.rooms.tell(&self.row.room, Request::EndScreening);
    }
}
