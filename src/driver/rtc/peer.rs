//! One peer connection: the room that hides the WebRTC stack, so that another can take its place.
//!
//! A call into the stack that fails or panics breaks this peer and no other; [`Peer::poll`] then says [`Heard::Closed`].

use std::collections::HashSet;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use bytes::BytesMut;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::RTCPeerConnection;
use rtc::peer_connection::event::RTCPeerConnectionEvent;
use rtc::peer_connection::event::RTCTrackEvent;
use rtc::peer_connection::message::RTCMessage;
use rtc::peer_connection::message::TaggedRTCMessage;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::state::RTCIceConnectionState;
use rtc::peer_connection::state::RTCPeerConnectionState;
use rtc::peer_connection::transport::RTCDtlsTransportState;
use rtc::peer_connection::transport::RTCIceCandidateInit;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtp_transceiver::RTCRtpReceiverId;
use rtc::rtp_transceiver::RTCRtpSenderId;
use rtc::rtp_transceiver::RTCRtpTransceiverDirection;
use rtc::rtp_transceiver::RTCRtpTransceiverInit;
use rtc::rtp_transceiver::rtp_sender::RTCRtpCodingParameters;
use rtc::rtp_transceiver::rtp_sender::RTCRtpEncodingParameters;
use rtc::sansio::Protocol;
use rtc::shared::TaggedBytesMut;
use rtc::shared::TransportContext;
use uuid::Uuid;

use crate::domain::room::forwarder::Outgoing;
use crate::domain::room::producer::Encoding;
use crate::domain::room::red::Redundancy;
use crate::driver::rtc::demux;
use crate::driver::rtc::engine;
use crate::driver::rtc::engine::Engine;
use crate::driver::rtc::media::Media;
use crate::driver::rtc::path;
use crate::driver::rtc::path::Remote;
use crate::driver::rtc::repetition::Refused;
use crate::driver::rtc::sdp;
use crate::driver::rtc::sdp::Section;
use crate::live::rooms::Transport;
use crate::model::media::Codec;
use crate::model::media::MediaKind;

/// DTLS datagrams kept until ICE has chosen a pair. A ClientHello is one or two; the stack would drop them, and the client would
/// send the next after its timer of a second.
const MAX_HELD: usize = 8;
/// How long checks over TCP go unanswered, so that UDP is chosen where both lead here: the stack stays with the first path that works.
const UDP_FIRST: Duration = Duration::from_millis(500);
/// Remote candidates taken between two ICE restarts of the remote end; each is checked, so each makes us send to an address of its
/// choice.
const MAX_CANDIDATES: usize = 64;

#[derive(Debug, thiserror::Error)]
pub(super) enum PeerError {
    #[error("{0}")]
    Description(String),
    #[error("no codec in common")]
    NoCommonCodec,
    #[error("{0}")]
    Candidate(String),
    #[error("the WebRTC stack failed: {0}")]
    Stack(#[from] rtc::shared::error::Error),
    #[error("the WebRTC stack panicked")]
    Panic,
}

/// What a peer has to say.
pub(super) enum Heard {
    Connected,
    /// Nothing was heard for a while. It may come back by itself; a restart is surer, for the stack stays with a path once chosen,
    /// and the remote end may have left it for another.
    Quiet,
    /// ICE gave up; it may come back by a restart.
    Failed,
    /// It is of no use any more: closed by the remote end, or broken.
    Closed,
    /// M-line `mid`, or its simulcast layer `rid`, is now sent as `ssrc`; may be said again.
    Source {
        mid: String,
        rid: Option<String>,
        ssrc: u32,
    },
    Media(Media),
    /// The remote end needs a keyframe of what it gets through this lane.
    KeyframeWanted {
        lane: usize,
    },
    SenderReport {
        ssrc: u32,
        ntp: u64,
        rtp: u32,
    },
    /// The remote end's estimate of how many bits of video per second its link has room for (REMB).
    Estimate {
        bits: u64,
    },
    /// The remote end misses this share, 0.0 to 1.0, of the packets lately sent to it on a lane.
    Lost {
        lane: usize,
        share: f64,
    },
}

/// How a packet goes out: as the lane's codec, or as redundant audio with this payload type.
#[derive(Clone, Copy)]
pub(super) enum Form<'a> {
    Plain(&'a Bytes),
    Twice(u8, &'a Bytes),
}

/// An m-line this side sends on. It keeps its SSRC for ever: another one, or this one elsewhere, would confuse browsers.
struct Lane {
    transceiver: usize,
    ssrc: u32,
    codec: Codec,
    /// As the remote end agreed to; `None` before it did.
    payload_type: Option<u8>,
    /// The payload type of redundant audio, if it agreed to that too.
    red: Option<u8>,
    redundancy: Redundancy,
}

/// An RTP stream of the remote end, with its id if it is a layer of a simulcast.
#[derive(Debug, PartialEq, Eq)]
struct Source {
    ssrc: u32,
    transceiver: usize,
    rid: Option<String>,
}

/// Where the connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    New,
    Connected,
    Failed,
    Closed,
}

pub(super) struct Peer {
    pc: RTCPeerConnection,
    candidates: Vec<String>,
    link: Link,
    ice_is_up: bool,
    is_quiet: bool,
    /// When the first check with the present credentials came over TCP.
    tcp_since: Option<Instant>,
    held: Vec<(SocketAddr, Remote, BytesMut)>,
    lanes: Vec<Lane>,
    /// What the remote end sends.
    sources: Vec<Source>,
    /// The m-lines as last agreed on.
    sections: Vec<Section>,
    early_candidates: Vec<String>,
    /// The remote end's user fragment and the candidates it named with it.
    remote_ufrag: String,
    candidates_taken: HashSet<String>,
    credentials: Option<(String, String)>,
    /// The header extension that says how loud a packet is (RFC 6464), as agreed on.
    audio_level_id: Option<u8>,
    refused: Refused,
    broken: bool,
}

impl Peer {
    pub(super) fn new(now: Instant, engine: &Engine, transport: Transport) -> Result<Self, PeerError> {
        let refused = Refused::default();
        Ok(Self {
            pc: guarded(|| engine.build(now, transport, &refused))?,
            candidates: engine.described_candidates(),
            link: Link::New,
            ice_is_up: false,
            is_quiet: false,
            tcp_since: None,
            held: Vec::new(),
            lanes: Vec::new(),
            sources: Vec::new(),
            sections: Vec::new(),
            early_candidates: Vec::new(),
            remote_ufrag: String::new(),
            candidates_taken: HashSet::new(),
            credentials: None,
            audio_level_id: None,
            refused,
            broken: false,
        })
    }

    /// Answers the remote end's offer. `lanes_for` says what to send on each m-line it wants to receive on.
    ///
    /// # Errors
    /// A description that cannot be used; a peer that was new is of no use after it.
    pub(super) fn answer(
        &mut self,
        now: Instant,
        offer: &str,
        mut lanes_for: impl FnMut(&Section) -> Option<(Codec, String)>,
    ) -> Result<String, PeerError> {
        let offered = usable_sections(offer)?;
        let layered = self.layered();
        let usable =
            sdp::with_layers_kept(&self.with_usable_candidates(offer), |mid| layered.iter().any(|known| known == mid));
        let description = guarded(|| RTCSessionDescription::offer(usable))
            .map_err(|error| PeerError::Description(error.to_string()))?;
        for section in offered.iter().filter(|s| s.kind.is_some() && s.receives && !s.rejected) {
            let is_new = self.section(&section.mid).is_none();
            if let Some((codec, stream)) = is_new.then(|| lanes_for(section)).flatten() {
                self.open_lane(codec, &stream)?;
            }
        }
        let applied = guarded(|| {
            self.pc.set_remote_description(now, description)?;
            self.add_local_candidates();
            let answer = self.pc.create_answer(None)?;
            self.pc.set_local_description(now, answer)
        });
        if let Err(error) = applied {
            self.broken = true;
            return Err(PeerError::Description(error.to_string()));
        }
        let answer = self.local_description()?;
        self.sections = sdp::sections(&answer);
        self.audio_level_id = sdp::audio_level_id(&answer);
        let media = |section: &&Section| section.kind.is_some();
        if offered.iter().any(|s| media(&s)) && self.sections.iter().filter(media).all(|s| s.rejected) {
            return Err(PeerError::NoCommonCodec);
        }
        self.agree_on_lanes();
        self.add_early_candidates();
        Ok(answer)
    }

    /// The m-lines that simulcast layers have come on.
    fn layered(&mut self) -> Vec<String> {
        let layers: HashSet<usize> =
            self.sources.iter().filter(|source| source.rid.is_some()).map(|source| source.transceiver).collect();
        layers.into_iter().filter_map(|layer| self.pc.rtp_transceiver(layer)?.mid().clone()).collect()
    }

    /// An offer of this side's lanes.
    ///
    /// # Errors
    /// The stack fails; the peer is broken then.
    pub(super) fn offer(&mut self, now: Instant, restart_ice: bool) -> Result<String, PeerError> {
        let offered = guarded(|| {
            if restart_ice {
                self.pc.restart_ice();
            }
            self.add_local_candidates();
            let offer = self.pc.create_offer(None)?;
            self.pc.set_local_description(now, offer)?;
            self.add_local_candidates();
            Ok(())
        });
        if offered.is_err() {
            self.broken = true;
        }
        offered?;
        self.local_description()
    }

    /// The remote end's answer to [`Peer::offer`].
    ///
    /// # Errors
    /// A description that cannot be used; the offer stays open unless the stack fails with it.
    pub(super) fn accept(&mut self, now: Instant, answer: &str) -> Result<(), PeerError> {
        let sections = usable_sections(answer)?;
        let usable = self.with_usable_candidates(answer);
        let description = guarded(|| RTCSessionDescription::answer(usable))
            .map_err(|error| PeerError::Description(error.to_string()))?;
        guarded(|| self.pc.set_remote_description(now, description))
            .map_err(|error| PeerError::Description(error.to_string()))?;
        self.sections = sections;
        self.agree_on_lanes();
        self.add_early_candidates();
        Ok(())
    }

    /// A trickled candidate, as the value of an SDP `candidate` attribute; one that cannot be reached from here is ignored.
    ///
    /// # Errors
    /// It cannot be read, or there were too many.
    pub(super) fn add_candidate(&mut self, candidate: &str) -> Result<(), PeerError> {
        if !sdp::is_usable_candidate(candidate) {
            return Ok(());
        }
        if !self.takes(candidate) {
            return Err(PeerError::Candidate(format!("more than {MAX_CANDIDATES} of them")));
        }
        if self.pc.remote_description().is_none() {
            self.early_candidates.push(candidate.to_owned());
            return Ok(());
        }
        self.take_candidate(candidate.to_owned()).map_err(|error| PeerError::Candidate(error.to_string()))
    }

    /// A new m-line to send on; it needs an offer to become of use.
    ///
    /// # Errors
    /// The stack refuses.
    pub(super) fn open_lane(&mut self, codec: Codec, stream: &str) -> Result<usize, PeerError> {
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
        self.lanes.push(Lane {
            transceiver,
            ssrc,
            codec,
            payload_type: None,
            red: None,
            redundancy: Redundancy::default(),
        });
        Ok(self.lanes.len() - 1)
    }

    /// Marks a lane for use or disuse; it needs an offer to become true. The m-line stays for the next one.
    pub(super) fn use_lane(&mut self, lane: usize, in_use: bool) {
        let direction =
            if in_use { RTCRtpTransceiverDirection::Sendonly } else { RTCRtpTransceiverDirection::Inactive };
        let Some(lane) = self.lanes.get_mut(lane) else { return };
        lane.payload_type = None;
        if let Some(mut transceiver) = self.pc.rtp_transceiver(lane.transceiver) {
            transceiver.set_direction(direction);
        }
    }

    /// The m-line of a lane, known once it has been offered or answered.
    pub(super) fn lane_mid(&mut self, lane: usize) -> Option<String> {
        let lane = self.lanes.get(lane)?;
        self.pc.rtp_transceiver(lane.transceiver)?.mid().clone()
    }

    /// Whether packets written to a lane reach the remote end.
    pub(super) fn is_open(&self, lane: usize) -> bool {
        self.link == Link::Connected && self.lanes.get(lane).is_some_and(|lane| lane.payload_type.is_some())
    }

    pub(super) fn is_connected(&self) -> bool {
        self.link == Link::Connected
    }

    /// The m-line `mid` as last agreed on.
    pub(super) fn section(&self, mid: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.mid == mid)
    }

    /// The SSRCs on which m-line `mid` was heard, with the ids of simulcast layers, in the order of coming.
    pub(super) fn sources(&mut self, mid: &str) -> Vec<(Option<String>, u32)> {
        let pc = &mut self.pc;
        let mut is_of = |transceiver| pc.rtp_transceiver(transceiver).is_some_and(|t| t.mid().as_deref() == Some(mid));
        let sources = self.sources.iter().filter(|source| is_of(source.transceiver));
        sources.map(|source| (source.rid.clone(), source.ssrc)).collect()
    }

    /// How packets with this payload type are to be read.
    pub(super) fn encoding(&self, payload_type: u8) -> Option<Encoding> {
        self.sections.iter().flat_map(|s| &s.encodings).find(|e| e.payload_type == payload_type).copied()
    }

    /// Repetitions asked for and not granted since the last call of this.
    pub(super) fn take_refused(&self) -> u64 {
        self.refused.swap(0, Ordering::Relaxed)
    }

    /// The user fragment and password under which the remote end may come, as last described.
    pub(super) fn credentials(&self) -> Option<&(String, String)> {
        self.credentials.as_ref()
    }

    /// A datagram from `from` to our candidate `local`.
    pub(super) fn receive(&mut self, now: Instant, local: SocketAddr, from: Remote, datagram: BytesMut) {
        if from.protocol == path::Protocol::Tcp
            && demux::is_binding_request(&datagram)
            && now.saturating_duration_since(*self.tcp_since.get_or_insert(now)) < UDP_FIRST
        {
            return;
        }
        let first = datagram.first().copied().unwrap_or_default();
        // RFC 7983 section 7: 20 to 63 is DTLS.
        if (20..=63).contains(&first) && !self.ice_is_up {
            if self.held.len() < MAX_HELD {
                self.held.push((local, from, datagram));
            }
            return;
        }
        self.read(now, local, from, datagram);
        // An alert: the stack takes close_notify without a word.
        if first == 21 && self.dtls_is_closed() {
            self.broken = true;
        }
    }

    /// Everything the peer has to say, appended to `heard`.
    pub(super) fn poll(&mut self, now: Instant, heard: &mut Vec<Heard>) {
        if self.link == Link::Closed {
            return;
        }
        let polled = guarded(|| {
            while let Some(event) = self.pc.poll_event() {
                self.note(event, heard);
            }
            Ok(())
        });
        self.broken |= polled.is_err();
        if self.ice_is_up && !self.held.is_empty() {
            for (local, from, datagram) in std::mem::take(&mut self.held) {
                self.read(now, local, from, datagram);
            }
            return self.poll(now, heard);
        }
        let polled = guarded(|| {
            while let Some(message) = self.pc.poll_read() {
                // Data channels are answered, and nothing on them is of interest.
                if let RTCMessage::RtpPacket(_, packet) = message.message {
                    heard.push(Heard::Media(Media::new(packet, self.audio_level_id)));
                } else if let RTCMessage::RtcpPacket(_, packets) = message.message {
                    heard.extend(packets.iter().filter_map(|packet| self.feedback(packet.as_ref())));
                }
            }
            Ok(())
        });
        self.broken |= polled.is_err();
        if self.broken {
            self.link = Link::Closed;
            heard.push(Heard::Closed);
        }
    }

    pub(super) fn is_audio(&self, lane: usize) -> bool {
        self.lanes.get(lane).is_some_and(|lane| lane.codec.kind() == MediaKind::Audio)
    }

    /// Takes the share of the packets of a lane of sound that is lost, and whether the link is known to be full.
    pub(super) fn sound_lost(&mut self, now: Instant, lane: usize, share: f64, is_full: bool) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.redundancy.lost(now, share, is_full);
        }
    }

    /// The link was found full just now.
    pub(super) fn filled(&mut self, now: Instant) {
        self.lanes.iter_mut().for_each(|lane| lane.redundancy.filled(now));
    }

    /// How sound is to be sent on a lane whose receiver is to have it twice: the payload types of redundant audio and of what is in it.
    pub(super) fn redundancy(&self, lane: usize) -> Option<(u8, u8)> {
        let lane = self.lanes.get(lane).filter(|lane| lane.redundancy.is_on())?;
        lane.red.zip(lane.payload_type)
    }

    /// The payload type of redundant audio coming in.
    pub(super) fn red(&self) -> Option<u8> {
        self.sections.iter().find_map(|section| section.red)
    }

    /// Sends a packet on a lane with these numbers and this payload. Nothing happens while the lane is not open.
    pub(super) fn write(&mut self, now: Instant, lane: usize, out: Outgoing, media: &Media, payload: Form<'_>) {
        let Some(Lane { ssrc, payload_type: Some(plain), .. }) = self.lanes.get(lane) else {
            return;
        };
        let (payload_type, payload) = match payload {
            Form::Plain(payload) => (*plain, payload),
            Form::Twice(payload_type, payload) => (payload_type, payload),
        };
        let packet = rtc::rtp::Packet {
            header: rtc::rtp::Header {
                version: 2,
                marker: media.marker(),
                payload_type,
                sequence_number: out.seq,
                timestamp: out.timestamp,
                ssrc: *ssrc,
                ..rtc::rtp::Header::default()
            },
            payload: payload.clone(),
        };
        // Not by the sender of the lane: it would check once more, per packet, what the lane has agreed on. The name of the track
        // is not looked at.
        let message = RTCMessage::RtpPacket(String::new(), packet);
        let written = guarded(|| self.pc.handle_write(TaggedRTCMessage { now, message }));
        if let Err(error) = written {
            tracing::debug!(%error, "a forwarded packet was refused");
            self.broken |= matches!(error, PeerError::Panic);
        }
    }

    /// Asks the remote end for a keyframe of one of its sources (RFC 4585 section 6.3.1).
    pub(super) fn request_keyframe(&mut self, now: Instant, ssrc: u32) {
        let Some(Source { transceiver, .. }) = self.sources.iter().find(|source| source.ssrc == ssrc) else { return };
        let receiver = RTCRtpReceiverId::from(*transceiver);
        let request = PictureLossIndication { sender_ssrc: 1, media_ssrc: ssrc };
        let written = guarded(|| {
            self.pc
                .rtp_receiver(receiver)
                .map_or(Ok(()), |mut receiver| receiver.write_rtcp(now, vec![Box::new(request)]))
        });
        if let Err(error) = written {
            tracing::debug!(%error, "a keyframe request was refused");
        }
    }

    /// The next datagram to send, and where to.
    pub(super) fn poll_transmit(&mut self) -> Option<(Remote, BytesMut)> {
        let transmit = guarded(|| Ok(self.pc.poll_write()));
        self.broken |= transmit.is_err();
        let TaggedBytesMut { transport, message, .. } = transmit.ok().flatten()?;
        Some((Remote { protocol: transport.transport_protocol.into(), address: transport.peer_addr }, message))
    }

    pub(super) fn poll_timeout(&mut self) -> Option<Instant> {
        if self.link == Link::Closed { None } else { guarded(|| Ok(self.pc.poll_timeout())).ok().flatten() }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Err(error) = guarded(|| self.pc.handle_timeout(now)) {
            tracing::debug!(%error, "a timer of a peer failed");
            self.broken |= matches!(error, PeerError::Panic);
        }
    }

    /// Says goodbye; what [`Peer::poll_transmit`] still gives is to be sent.
    pub(super) fn close(&mut self) {
        self.link = Link::Closed;
        if let Err(error) = guarded(|| self.pc.close()) {
            tracing::debug!(%error, "a peer did not close cleanly");
        }
    }

    fn note(&mut self, event: RTCPeerConnectionEvent, heard: &mut Vec<Heard>) {
        if let RTCPeerConnectionEvent::OnIceConnectionStateChangeEvent(state) = event {
            self.ice_is_up |= matches!(state, RTCIceConnectionState::Connected | RTCIceConnectionState::Completed);
        } else if let RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state) = event {
            let (link, said) = if state == RTCPeerConnectionState::Connected {
                (Link::Connected, Heard::Connected)
            } else if state == RTCPeerConnectionState::Failed {
                (Link::Failed, Heard::Failed)
            } else if state == RTCPeerConnectionState::Disconnected && self.link == Link::Connected {
                (Link::Connected, Heard::Quiet)
            } else {
                return;
            };
            let is_quiet = matches!(said, Heard::Quiet);
            if (self.link, self.is_quiet) != (link, is_quiet) {
                (self.link, self.is_quiet) = (link, is_quiet);
                heard.push(said);
            }
        } else if let RTCPeerConnectionEvent::OnTrack(RTCTrackEvent::OnOpen(open)) = event {
            // Said again after every negotiation; whoever listens takes it as often as it comes.
            let transceiver = usize::from(open.receiver_id);
            let source = Source { ssrc: open.ssrc, transceiver, rid: open.rid.clone() };
            if !self.sources.contains(&source) {
                self.sources.push(source);
            }
            if let Some(mid) = self.pc.rtp_transceiver(transceiver).and_then(|t| t.mid().clone()) {
                heard.push(Heard::Source { mid, rid: open.rid, ssrc: open.ssrc });
            }
        }
    }

    fn feedback(&self, packet: &dyn rtc::rtcp::Packet) -> Option<Heard> {
        if let Some(report) = packet.as_any().downcast_ref::<SenderReport>() {
            return Some(Heard::SenderReport { ssrc: report.ssrc, ntp: report.ntp_time, rtp: report.rtp_time });
        }
        if let Some(estimate) = packet.as_any().downcast_ref::<ReceiverEstimatedMaximumBitrate>() {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            return Some(Heard::Estimate { bits: estimate.bitrate as u64 });
        }
        if let Some(report) = packet.as_any().downcast_ref::<ReceiverReport>() {
            let about = report.reports.first()?;
            let lane = self.lanes.iter().position(|lane| lane.ssrc == about.ssrc)?;
            return Some(Heard::Lost { lane, share: f64::from(about.fraction_lost) / 256.0 });
        }
        let about = packet.destination_ssrc();
        let lane = self.lanes.iter().position(|lane| about.contains(&lane.ssrc))?;
        Some(Heard::KeyframeWanted { lane })
    }

    fn read(&mut self, now: Instant, local: SocketAddr, from: Remote, message: BytesMut) {
        let transport = TransportContext {
            local_addr: local,
            peer_addr: from.address,
            transport_protocol: from.protocol.into(),
            ecn: None,
        };
        if let Err(error) = guarded(|| self.pc.handle_read(TaggedBytesMut { now, transport, message })) {
            tracing::debug!(%error, "a datagram was refused");
            self.broken |= matches!(error, PeerError::Panic);
        }
    }

    fn dtls_is_closed(&mut self) -> bool {
        let first = self.pc.get_receivers().next();
        let receiver = first.and_then(|id| self.pc.rtp_receiver(id).map(|r| r.transport().map(|t| t.state())));
        let sender = || {
            let first = self.pc.get_senders().next();
            first.and_then(|id| self.pc.rtp_sender(id).map(|s| s.transport().map(|t| t.state())))
        };
        receiver.or_else(sender).flatten() == Some(RTCDtlsTransportState::Closed)
    }

    /// Our side as last described.
    ///
    /// # Errors
    /// There is none, or the stack fails.
    pub(super) fn local_description(&mut self) -> Result<String, PeerError> {
        let description = guarded(|| Ok(self.pc.local_description()))?;
        let sdp = description.map(|d| sdp::for_music(&d.sdp)).ok_or(PeerError::Panic)?;
        if let Some((ufrag, password)) = sdp::ice_credentials(&sdp) {
            let credentials = Some((ufrag.to_owned(), password.to_owned()));
            if self.credentials != credentials {
                self.credentials = credentials;
                self.tcp_since = None;
            }
        }
        Ok(sdp)
    }

    /// A restart forgets them, and one that is known already is not taken twice.
    fn add_local_candidates(&mut self) {
        for candidate in &self.candidates {
            let init = RTCIceCandidateInit { candidate: candidate.clone(), ..RTCIceCandidateInit::default() };
            if let Err(error) = self.pc.add_local_candidate(init) {
                tracing::warn!(%error, %candidate, "a local candidate was refused");
            }
        }
    }

    fn add_early_candidates(&mut self) {
        for candidate in std::mem::take(&mut self.early_candidates) {
            if let Err(error) = self.take_candidate(candidate) {
                tracing::debug!(%error, "an early candidate was refused");
            }
        }
    }

    /// The description without candidates that cannot be reached from here or are too many.
    fn with_usable_candidates(&mut self, description: &str) -> String {
        if let Some((ufrag, _)) = sdp::ice_credentials(description)
            && self.remote_ufrag != ufrag
        {
            ufrag.clone_into(&mut self.remote_ufrag);
            self.candidates_taken.clear();
        }
        sdp::with_candidates(description, |candidate| sdp::is_usable_candidate(candidate) && self.takes(candidate))
    }

    /// Whether a candidate is known or may still be.
    fn takes(&mut self, candidate: &str) -> bool {
        self.candidates_taken.contains(candidate)
            || (self.candidates_taken.len() < MAX_CANDIDATES && self.candidates_taken.insert(candidate.to_owned()))
    }

    fn take_candidate(&mut self, candidate: String) -> Result<(), PeerError> {
        let init = RTCIceCandidateInit { candidate, ..RTCIceCandidateInit::default() };
        guarded(|| self.pc.add_remote_candidate(init))
    }

    fn agree_on_lanes(&mut self) {
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

fn usable_sections(description: &str) -> Result<Vec<Section>, PeerError> {
    if description.len() > sdp::MAX_LENGTH {
        return Err(PeerError::Description(format!("it is longer than {} bytes", sdp::MAX_LENGTH)));
    }
    let sections = sdp::sections(description);
    if sections.is_empty() || sections.len() > sdp::MAX_SECTIONS {
        return Err(PeerError::Description(format!("it has not 1 to {} m-lines", sdp::MAX_SECTIONS)));
    }
    Ok(sections)
}

/// Calls into the stack; its panic becomes an error of this peer.
fn guarded<T>(call: impl FnOnce() -> Result<T, rtc::shared::error::Error>) -> Result<T, PeerError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(PeerError::Stack),
        Err(_) => Err(PeerError::Panic),
    }
}

#[cfg(test)]
mod tests;
