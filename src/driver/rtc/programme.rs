//! The programme in its room: encoded frames as RTP packets, for the hosts who watch it.

use std::time::Instant;

use bytes::Bytes;
use rtc::rtp::codec::h264::H264Payloader;
use rtc::rtp::packetizer::Payloader;

use crate::domain::room::programme::ssrc_of;
use crate::driver::rtc::host::Host;
use crate::driver::rtc::host::Hosted;
use crate::driver::rtc::media::Media;
use crate::driver::rtc::peer::Form;
use crate::driver::rtc::sdp::Extensions;
use crate::live::rooms::ProgrammeFrame;
use crate::model::media::Codec;
use crate::model::media::EncodedFrame;
use crate::model::media::MediaKind;
use crate::model::media::OpusPacket;
use crate::proto::avc;

/// Bytes of a payload, as browsers send them: with all headers it fits through any tunnel.
const PAYLOAD: usize = 1200;

/// Makes packets of one room's programme.
#[derive(Default)]
pub(super) struct Packetiser {
    h264: H264Payloader,
    next_picture: u16,
    next_sound: u16,
}

impl Packetiser {
    /// The packets of one picture; a keyframe has its parameter sets before it.
    fn picture(&mut self, frame: &EncodedFrame, configuration: &[u8]) -> Vec<Media> {
        let sets = if frame.key { avc::parameter_sets(configuration) } else { Vec::new() };
        // An error is that of a unit without a byte, which is as good as none.
        let payloads =
            sets.into_iter().chain(avc::units(&frame.data)).flat_map(|unit| self.h264.payload(PAYLOAD, &unit));
        let payloads: Vec<Bytes> = payloads.flatten().collect();
        let timestamp = ticks(frame.pts_us, Codec::H264);
        let last = payloads.len().saturating_sub(1);
        let packets = payloads.into_iter().enumerate().map(|(index, payload)| {
            let header = rtc::rtp::Header {
                version: 2,
                marker: index == last,
                sequence_number: self.next_picture,
                timestamp,
                ssrc: ssrc_of(MediaKind::Video),
                ..rtc::rtp::Header::default()
            };
            self.next_picture = self.next_picture.wrapping_add(1);
            Media::new(rtc::rtp::Packet { header, payload }, Extensions::default())
        });
        packets.collect()
    }

    /// An Opus packet is the payload of one of ours (RFC 7587 section 4.2).
    fn sound(&mut self, sound: &OpusPacket) -> Media {
        let header = rtc::rtp::Header {
            version: 2,
            sequence_number: self.next_sound,
            timestamp: ticks(sound.pts_us, Codec::Opus),
            ssrc: ssrc_of(MediaKind::Audio),
            ..rtc::rtp::Header::default()
        };
        self.next_sound = self.next_sound.wrapping_add(1);
        Media::new(rtc::rtp::Packet { header, payload: sound.data.clone() }, Extensions::default())
    }
}

impl Host {
    /// Sends a frame of the programme to those who watch it. Without any it costs nothing.
    pub(super) fn screen(&mut self, now: Instant, room: u64, frame: &ProgrammeFrame) {
        let Some(Hosted { room, packetiser, .. }) = self.rooms.get_mut(&room) else { return };
        let kind = frame.kind();
        let producer = room.screen(now, kind);
        if producer.consumers.is_empty() {
            return;
        }
        let packets = match frame {
            ProgrammeFrame::Picture { frame, avc } => packetiser.picture(frame, avc),
            ProgrammeFrame::Sound(sound) => vec![packetiser.sound(sound)],
        };
        for media in packets {
            let packet = producer.read(media.ssrc(), media.seq(), media.timestamp(), media.payload());
            producer.accept(now, &packet, media.payload());
            for consumer in &mut producer.consumers {
                let outlet = consumer.outlet;
                let line = self.lines.get_mut(&outlet.peer).filter(|line| line.peer.is_open(outlet.lane));
                let Some((line, out)) = line.and_then(|line| Some((line, consumer.forward(now, &packet)?))) else {
                    continue;
                };
                line.peer.write(now, outlet.lane, out, &media, Form::Plain(media.payload()));
                self.counters.forwarded(kind, media.payload().len());
                if !std::mem::replace(&mut line.is_dirty, true) {
                    self.dirty.push(outlet.peer);
                }
            }
        }
    }
}

/// Microseconds in units of a codec's clock, as far as a timestamp holds them.
fn ticks(micros: u64, codec: Codec) -> u32 {
    let ticks = u128::from(micros) * u128::from(codec.clock_rate()) / 1_000_000;
    u32::try_from(ticks & u128::from(u32::MAX)).expect("masked to 32 bits")
}
