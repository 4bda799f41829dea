//! One peer connection: the room that hides the WebRTC stack, so that another can take its place.
//!
//! A call into the stack that fails or panics breaks this peer and no other; [`Peer::poll`] then says [`Heard::Closed`].

mod description;
mod lane;
mod round_trip;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use bytes::BytesMut;
use rtc::peer_connection::RTCPeerConnection;
use rtc::peer_connection::event::RTCPeerConnectionEvent;
use rtc::peer_connection::event::RTCTrackEvent;
use rtc::peer_connection::message::RTCMessage;
use rtc::peer_connection::state::RTCIceConnectionState;
use rtc::peer_connection::state::RTCPeerConnectionState;
use rtc::peer_connection::transport::RTCDtlsTransportState;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtp_transceiver::RTCRtpReceiverId;
use rtc::sansio::Protocol;
use rtc::shared::TaggedBytesMut;
use rtc::shared::TransportContext;

use crate::domain::room::transit::Passage;
use crate::driver::rtc::demux;
use crate::driver::rtc::engine::Engine;
use crate::driver::rtc::media::Media;
use crate::driver::rtc::path;
use crate::driver::rtc::path::Remote;
use crate::driver::rtc::peer::lane::Lane;
use crate::driver::rtc::peer::round_trip::RoundTrips;
use crate::driver::rtc::sdp::Extensions;
use crate::driver::rtc::sdp::Section;
use crate::driver::rtc::told::Told;
use crate::live::rooms::Transport;

/// DTLS datagrams kept until ICE has chosen a pair. A ClientHello is one or two; the stack would drop them, and the client would
/// send the next after its timer of a second.
const MAX_HELD: usize = 8;
/// How long checks over TCP go unanswered, so that UDP is chosen where both lead here: the stack stays with the first path that works.
const UDP_FIRST: Duration = Duration::from_millis(500);

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
    /// Packets of video came to the remote end.
    Passed(Vec<Passage>),
    /// The remote end misses this share, 0.0 to 1.0, of the packets lately sent to it on a lane.
    Lost {
        lane: usize,
        share: f64,
    },
    /// A packet took this long to the remote end and back.
    RoundTrip(Duration),
}

/// How a packet goes out: as the lane's codec, or as redundant audio with this payload type.
#[derive(Clone, Copy)]
pub(super) enum Form<'a> {
    Plain(&'a Bytes),
    Twice(u8, &'a Bytes),
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
    /// As agreed on.
    extensions: Extensions,
    round_trips: RoundTrips,
    told: Told,
    broken: bool,
}

impl Peer {
    pub(super) fn new(now: Instant, engine: &Engine, transport: Transport) -> Result<Self, PeerError> {
        let told = Told::default();
        Ok(Self {
            pc: guarded(|| engine.build(now, transport, &told))?,
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
            extensions: Extensions::default(),
            round_trips: RoundTrips::default(),
            told,
            broken: false,
        })
    }

    pub(super) fn is_connected(&self) -> bool {
        self.link == Link::Connected
    }

    /// Repetitions asked for and not granted since the last call of this.
    pub(super) fn take_refused(&self) -> u64 {
        self.told.refused.swap(0, Ordering::Relaxed)
    }

    /// Whether the link is full, so that little goes out again.
    pub(super) fn set_full(&self, is_full: bool) {
        self.told.is_full.store(is_full, Ordering::Relaxed);
    }

    /// A packet took this long to the remote end and back, on this connection or on another of the same participant: with ICE-lite one
    /// that only sends is never measured.
    pub(super) fn note_round_trip(&self, measured: Duration) {
        self.told.note_round_trip(measured);
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
        self.round_trips.begin(now);
        if self.is_connected() {
            self.round_trips.received(now, &datagram);
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
                    heard.push(Heard::Media(Media::new(packet, self.extensions)));
                } else if let RTCMessage::RtcpPacket(_, packets) = message.message {
                    for packet in packets {
                        heard.extend(self.feedback(now, packet.as_ref()));
                    }
                }
            }
            Ok(())
        });
        self.broken |= polled.is_err();
        heard.extend(self.round_trips.take().map(Heard::RoundTrip));
        let passages = std::mem::take(&mut *self.told.passages.lock().unwrap_or_else(PoisonError::into_inner));
        if !passages.is_empty() {
            heard.push(Heard::Passed(passages));
        }
        if self.broken {
            self.link = Link::Closed;
            heard.push(Heard::Closed);
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
        if self.is_connected() {
            self.round_trips.sent(&message);
        }
        Some((Remote { protocol: transport.transport_protocol.into(), address: transport.peer_addr }, message))
    }

    pub(super) fn poll_timeout(&mut self) -> Option<Instant> {
        if self.link == Link::Closed { None } else { guarded(|| Ok(self.pc.poll_timeout())).ok().flatten() }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.round_trips.begin(now);
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

    fn feedback(&mut self, now: Instant, packet: &dyn rtc::rtcp::Packet) -> Option<Heard> {
        if let Some(report) = packet.as_any().downcast_ref::<SenderReport>() {
            return Some(Heard::SenderReport { ssrc: report.ssrc, ntp: report.ntp_time, rtp: report.rtp_time });
        }
        if let Some(report) = packet.as_any().downcast_ref::<ReceiverReport>() {
            let about = report.reports.first()?;
            let lane = self.lanes.iter().position(|lane| lane.ssrc == about.ssrc)?;
            self.round_trips.reported(now, report);
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
