//! The m-lines that a peer sends on.

use std::time::Instant;

use bytes::Bytes;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::message::RTCMessage;
use rtc::peer_connection::message::TaggedRTCMessage;
use rtc::rtp_transceiver::RTCRtpSenderId;
use rtc::rtp_transceiver::RTCRtpTransceiverDirection;
use rtc::rtp_transceiver::RTCRtpTransceiverInit;
use rtc::rtp_transceiver::rtp_sender::RTCRtpCodingParameters;
use rtc::rtp_transceiver::rtp_sender::RTCRtpEncodingParameters;
use rtc::sansio::Protocol;
use uuid::Uuid;

use crate::domain::room::forwarder::Outgoing;
use crate::domain::room::red::Redundancy;
use crate::domain::room::selector::Part;
use crate::driver::rtc::engine;
use crate::driver::rtc::media::Media;
use crate::driver::rtc::peer::Form;
use crate::driver::rtc::peer::Link;
use crate::driver::rtc::peer::Peer;
use crate::driver::rtc::peer::PeerError;
use crate::driver::rtc::peer::guarded;
use crate::model::media::Codec;
use crate::model::media::MediaKind;

/// An m-line this side sends on. It keeps its SSRC for ever: another one, or this one elsewhere, would confuse browsers.
pub(super) struct Lane {
    transceiver: usize,
    pub(super) ssrc: u32,
    codec: Codec,
    /// The media stream that it belongs to in the eyes of the remote end, also for ever.
    stream: String,
    /// As the remote end agreed to; `None` before it did.
    payload_type: Option<u8>,
    /// The payload type of redundant audio, if it agreed to that too.
    red: Option<u8>,
    redundancy: Redundancy,
}

impl Peer {
    /// A new m-line to send on; it needs an offer to become of use.
    ///
    /// # Errors
    /// The stack refuses.
    pub(in crate::driver::rtc) fn open_lane(&mut self, codec: Codec, stream: &str) -> Result<usize, PeerError> {
        let is_new = |ssrc: &u32| *ssrc != 0 && self.lanes.iter().all(|lane| lane.ssrc != *ssrc);
        let ssrc = std::iter::repeat_with(|| Uuid::new_v4().as_fields().0).find(is_new);
        let ssrc = ssrc.expect("an endless iterator finds a number no lane has");
        let encoding = RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters { ssrc: Some(ssrc), ..RTCRtpCodingParameters::default() },
            active: true,
            codec: engine::codec(codec),
            ..RTCRtpEncodingParameters::default()
        };
        let label = format!("{}-{ssrc}", codec.kind().as_str());
        let track = MediaStreamTrack::new(stream.to_owned(), label.clone(), label, engine::kind(codec), vec![encoding]);
        let init = RTCRtpTransceiverInit {
            direction: RTCRtpTransceiverDirection::Sendonly,
            streams: Vec::new(),
            send_encodings: Vec::new(),
        };
        let transceiver = guarded(|| self.pc.add_transceiver_from_track(track, Some(init)))?;
        if let Some(mut transceiver) = self.pc.rtp_transceiver(transceiver) {
            // The first answer says for good which codecs of a kind there are between the two, so that it has to be asked about all
            // of them. Later they are not news, and those that were not taken are refused.
            let _known = guarded(|| transceiver.set_codec_preferences(engine::preferences(codec)));
        }
        self.lanes.push(Lane {
            transceiver,
            ssrc,
            codec,
            stream: stream.to_owned(),
            payload_type: None,
            red: None,
            redundancy: Redundancy::default(),
        });
        Ok(self.lanes.len() - 1)
    }

    /// Marks a lane for use or disuse; it needs an offer to become true. The m-line stays for the next one.
    pub(in crate::driver::rtc) fn use_lane(&mut self, lane: usize, in_use: bool) {
        let direction =
            if in_use { RTCRtpTransceiverDirection::Sendonly } else { RTCRtpTransceiverDirection::Inactive };
        let Some(lane) = self.lanes.get_mut(lane) else { return };
        lane.payload_type = None;
        if let Some(mut transceiver) = self.pc.rtp_transceiver(lane.transceiver) {
            transceiver.set_direction(direction);
        }
    }

    /// The m-line of a lane, known once it has been offered or answered.
    pub(in crate::driver::rtc) fn lane_mid(&mut self, lane: usize) -> Option<String> {
        let lane = self.lanes.get(lane)?;
        self.pc.rtp_transceiver(lane.transceiver)?.mid().clone()
    }

    /// The media stream of a lane.
    pub(in crate::driver::rtc) fn lane_stream(&self, lane: usize) -> Option<&str> {
        self.lanes.get(lane).map(|lane| lane.stream.as_str())
    }

    /// Whether packets written to a lane reach the remote end.
    pub(in crate::driver::rtc) fn is_open(&self, lane: usize) -> bool {
        self.link == Link::Connected && self.lanes.get(lane).is_some_and(|lane| lane.payload_type.is_some())
    }

    pub(in crate::driver::rtc) fn is_audio(&self, lane: usize) -> bool {
        self.lanes.get(lane).is_some_and(|lane| lane.codec.kind() == MediaKind::Audio)
    }

    /// Takes the share of the packets of a lane of sound that is lost, and whether the link is known to be full.
    pub(in crate::driver::rtc) fn sound_lost(&mut self, now: Instant, lane: usize, share: f64, is_full: bool) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.redundancy.lost(now, share, is_full);
        }
    }

    /// The link was found full just now.
    pub(in crate::driver::rtc) fn filled(&mut self, now: Instant) {
        self.lanes.iter_mut().for_each(|lane| lane.redundancy.filled(now));
    }

    /// How sound is to be sent on a lane whose receiver is to have it twice: the payload types of redundant audio and of what is in it.
    pub(in crate::driver::rtc) fn redundancy(&self, lane: usize) -> Option<(u8, u8)> {
        let lane = self.lanes.get(lane).filter(|lane| lane.redundancy.is_on())?;
        lane.red.zip(lane.payload_type)
    }

    /// Sends a packet on a lane with these numbers and this payload. Nothing happens while the lane is not open.
    pub(in crate::driver::rtc) fn write(
        &mut self,
        now: Instant,
        lane: usize,
        out: Outgoing,
        media: &Media,
        payload: Form<'_>,
    ) {
        let Some(Lane { ssrc, codec, payload_type: Some(plain), .. }) = self.lanes.get(lane) else {
            return;
        };
        let (payload_type, payload) = match payload {
            Form::Plain(payload) => (*plain, payload),
            Form::Twice(payload_type, payload) => (payload_type, payload),
        };
        let marker = media.marker() || out.part == Part::Last;
        let mut header = rtc::rtp::Header { marker, ..header(*ssrc, payload_type, out) };
        if *codec == Codec::Av1
            && let Some((id, dependencies)) = self.extensions.dependencies.zip(media.dependencies(out))
            && let Err(error) = header.set_extension(id, dependencies)
        {
            tracing::debug!(%error, "a dependency descriptor was refused");
        }
        self.send(now, rtc::rtp::Packet { header, payload: payload.clone() });
    }

    /// Sends a packet of padding and nothing else on a lane. Nothing happens while the lane is not open.
    pub(in crate::driver::rtc) fn write_empty(&mut self, now: Instant, lane: usize, out: Outgoing) {
        let Some(Lane { ssrc, payload_type: Some(payload_type), .. }) = self.lanes.get(lane) else {
            return;
        };
        // The stack fills it up with four bytes.
        let header = rtc::rtp::Header { padding: true, ..header(*ssrc, *payload_type, out) };
        self.send(now, rtc::rtp::Packet { header, payload: Bytes::new() });
    }

    fn send(&mut self, now: Instant, packet: rtc::rtp::Packet) {
        // Not by the sender of the lane: it would check once more, per packet, what the lane has agreed on. The name of the track
        // is not looked at.
        let message = RTCMessage::RtpPacket(String::new(), packet);
        let written = guarded(|| self.pc.handle_write(TaggedRTCMessage { now, message }));
        if let Err(error) = written {
            tracing::debug!(%error, "a forwarded packet was refused");
            self.broken |= matches!(error, PeerError::Panic);
        }
    }

    pub(super) fn agree_on_lanes(&mut self) {
        for lane in &mut self.lanes {
            let mid = self.pc.rtp_transceiver(lane.transceiver).and_then(|t| t.mid().clone());
            let section = self.sections.iter().find(|s| Some(&s.mid) == mid.as_ref());
            let agreed = section.is_some_and(|s| !s.rejected && (s.receives || s.sends));
            let sender = self.pc.rtp_sender(RTCRtpSenderId::from(lane.transceiver));
            (lane.payload_type, lane.red) = (None, None);
            if let Some(mut sender) = sender.filter(|_| agreed) {
                let codecs = &sender.get_parameters().rtp_parameters.codecs;
                let find = |name: &str| codecs.iter().find(|c| c.rtp_codec.mime_type.eq_ignore_ascii_case(name));
                lane.payload_type = find(engine::mime_type(lane.codec)).map(|c| c.payload_type);
                lane.red = section.and_then(|section| section.red).filter(|_| lane.codec == Codec::Opus);
            }
        }
    }
}

fn header(ssrc: u32, payload_type: u8, out: Outgoing) -> rtc::rtp::Header {
    let (sequence_number, timestamp) = (out.seq, out.timestamp);
    rtc::rtp::Header { version: 2, payload_type, sequence_number, timestamp, ssrc, ..rtc::rtp::Header::default() }
}
