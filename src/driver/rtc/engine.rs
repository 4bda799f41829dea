//! What every peer connection of a worker is built from: certificate, candidates, codecs, interceptors and timeouts.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use std::time::Instant;

use rtc::crypto::SignatureScheme;
use rtc::ice::mdns::MulticastDnsMode;
use rtc::interceptor::NackResponderBuilder;
use rtc::interceptor::ReceiverReportBuilder;
use rtc::interceptor::Registry;
use rtc::interceptor::SenderReportBuilder;
use rtc::interceptor::Slot;
use rtc::peer_connection::RTCPeerConnection;
use rtc::peer_connection::RTCPeerConnectionBuilder;
use rtc::peer_connection::certificate::CertificateParams;
use rtc::peer_connection::certificate::RTCCertificate;
use rtc::peer_connection::configuration::RTCConfigurationBuilder;
use rtc::peer_connection::configuration::interceptor_registry::configure_simulcast_extension_headers;
use rtc::peer_connection::configuration::interceptor_registry::configure_twcc_receiver_only;
use rtc::peer_connection::configuration::media_engine::MIME_TYPE_AV1;
use rtc::peer_connection::configuration::media_engine::MIME_TYPE_H264;
use rtc::peer_connection::configuration::media_engine::MIME_TYPE_OPUS;
use rtc::peer_connection::configuration::media_engine::MIME_TYPE_VP8;
use rtc::peer_connection::configuration::media_engine::MIME_TYPE_VP9;
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::peer_connection::configuration::setting_engine::SettingEngineBuilder;
use rtc::peer_connection::transport::RTCDtlsRole;
use rtc::rtp_transceiver::RTCRtpTransceiverDirection;
use rtc::rtp_transceiver::rtp_sender::RTCPFeedback;
use rtc::rtp_transceiver::rtp_sender::RTCRtpCodec;
use rtc::rtp_transceiver::rtp_sender::RTCRtpCodecParameters;
use rtc::rtp_transceiver::rtp_sender::RTCRtpHeaderExtensionCapability;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use rtc::shared::error::Error;

use crate::domain::room::forwarder::LATE_LIMIT;
use crate::driver::rtc::feedback;
use crate::driver::rtc::feedback::Feedback;
use crate::driver::rtc::nack;
use crate::driver::rtc::nack::Nacks;
use crate::driver::rtc::numbering;
use crate::driver::rtc::path::Protocol;
use crate::driver::rtc::repetition;
use crate::driver::rtc::repetition::Repetitions;
use crate::driver::rtc::sdp::AUDIO_LEVEL;
use crate::driver::rtc::sdp::DEPENDENCIES;
use crate::driver::rtc::told::Told;
use crate::live::rooms::Transport;
use crate::model::media::Codec;

/// Silence after which ICE says so: two and a half of a browser's consent checks (RFC 7675 section 5.1 sends one in 5 s, browsers
/// one in 2.5 s).
const DISCONNECTED_AFTER: Duration = Duration::from_secs(6);
/// Further silence until it gives up; the participant's own grace begins then.
const FAILED_AFTER: Duration = Duration::from_secs(9);
const KEEPALIVE: Duration = Duration::from_secs(2);
/// A packet that comes behind so many later ones of its stream is taken for a replay (RFC 3711 section 3.3.2): as late as listeners still
/// get it. With the 64 of `rtc` 0.21.1 those of a camera that were asked for over a far link were thrown away.
const REPLAY_WINDOW: usize = LATE_LIMIT as usize;
/// Packets of a video kept for retransmission, a power of two: 0.8 s of 6 Mbit/s, several round trips. Each takes 130 bytes in every
/// consumer beside the payload they share.
const KEPT_FOR_NACK: u16 = 512;

/// H.264 profiles taken: what browsers, OBS and GStreamer offer of baseline and constrained baseline, packetization-mode 1.
const H264: [(u8, &str); 3] = [
    (102, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f"),
    (104, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"),
    (106, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42c01f"),
];

/// What is asked of Opus comes into our descriptions afterwards ([`for_music`](crate::driver::rtc::sdp::for_music)). `rtc` 0.21.1 takes
/// what a codec is registered with for what it has to be: of an offer that says anything else it takes redundant audio alone.
const OPUS: &str = "";
/// The VP9 profile taken: 8 bits, 4:2:0 (RFC 9628 section 6).
const VP9: &str = "profile-id=0";
/// The AV1 profile taken: 4:2:0 (RTP Payload Format For AV1 section 7.2), at any level.
const AV1: &str = "profile=0";

/// Where browsers reach this worker: over UDP at a port of its own, over TCP at the port of all workers.
#[derive(Clone, Debug, Default)]
pub(super) struct Candidates {
    pub(super) udp: Vec<SocketAddr>,
    pub(super) tcp: Vec<SocketAddr>,
}

impl Candidates {
    /// The candidate a datagram was sent to. The first stands for addresses that are not among them: behind NAT, the machine's own
    /// is not what was announced.
    pub(super) fn local(&self, protocol: Protocol, ip: Option<IpAddr>) -> SocketAddr {
        let candidates = match protocol {
            Protocol::Udp => &self.udp,
            Protocol::Tcp => &self.tcp,
        };
        let known = candidates.iter().find(|candidate| Some(candidate.ip()) == ip);
        *known.unwrap_or(&candidates[0])
    }

    /// As values of SDP `candidate` attributes, the most wanted first.
    fn described(&self) -> Vec<String> {
        let udp = self.udp.iter().map(|address| (address, "udp", HOST, ""));
        let tcp = self.tcp.iter().map(|address| (address, "tcp", HOST_OVER_TCP, " tcptype passive"));
        let describe = |(index, (address, protocol, preference, role)): (usize, (&SocketAddr, _, usize, _))| {
            // RFC 8445 section 5.1.2.1.
            let priority = (preference << 24) | ((65_535 - index) << 8) | 255;
            let (ip, port) = (address.ip(), address.port());
            format!("candidate:{} 1 {protocol} {priority} {ip} {port} typ host{role}", index + 1)
        };
        udp.chain(tcp).enumerate().map(describe).collect()
    }
}

/// Type preferences (RFC 8445 section 5.1.2.2). TCP makes music wait for every lost packet, so that anything is better, also a relay's
/// UDP; browsers rank their own candidates alike.
const HOST: usize = 126;
const HOST_OVER_TCP: usize = 90;

/// The recipe for the peer connections of one worker.
pub(super) struct Engine {
    certificate: RTCCertificate,
    pub(super) candidates: Candidates,
    ice_lite: bool,
    /// Packets sent again because a receiver asked for them, of all peers so far.
    pub(super) resent: Arc<AtomicU64>,
}

impl Engine {
    /// One certificate serves all peers of a worker: a key pair per peer costs a millisecond each and hides nothing.
    ///
    /// # Errors
    /// No crypto provider, or no key from it.
    pub(super) fn new(candidates: Candidates, ice_lite: bool) -> Result<Self, Error> {
        let provider = rtc::crypto::default_provider().map_err(|error| Error::Other(error.to_string()))?;
        let params =
            CertificateParams::new(vec!["jamcast".to_owned()]).map_err(|error| Error::Other(error.to_string()))?;
        let certificate = RTCCertificate::generate(provider.crypto(), SignatureScheme::EcdsaP256Sha256, params)?;
        Ok(Self { certificate, candidates, ice_lite, resent: Arc::default() })
    }

    pub(super) fn described_candidates(&self) -> Vec<String> {
        self.candidates.described()
    }

    /// `transport` is the participant's: what it sends we receive. Each packet passes every interceptor, so there are only those its
    /// direction needs. `told` is what some of them and the peer say to each other.
    pub(super) fn build(&self, now: Instant, transport: Transport, told: &Told) -> Result<RTCPeerConnection, Error> {
        let mut media = MediaEngine::default();
        for codec in codecs(RtpCodecKind::Audio) {
            media.register_codec(codec, RtpCodecKind::Audio)?;
        }
        for codec in codecs(RtpCodecKind::Video) {
            media.register_codec(codec, RtpCodecKind::Video)?;
        }
        for parameter in ["", "pli"] {
            let feedback = RTCPFeedback { typ: "nack".to_owned(), parameter: parameter.to_owned() };
            media.register_feedback(feedback, RtpCodecKind::Video);
        }
        configure_simulcast_extension_headers(&mut media)?;
        let loudness = RTCRtpHeaderExtensionCapability { uri: AUDIO_LEVEL.to_owned() };
        media.register_header_extension(loudness, RtpCodecKind::Audio, Some(RTCRtpTransceiverDirection::Recvonly))?;
        let dependencies = RTCRtpHeaderExtensionCapability { uri: DEPENDENCIES.to_owned() };
        media.register_header_extension(dependencies, RtpCodecKind::Video, None)?;
        let registry = Registry::new().with(Slot::from(feedback::SLOT), Feedback::default());
        let registry = match transport {
            Transport::Send => configure_twcc_receiver_only(registry, &mut media)?
                .with(Slot::from(nack::SLOT), Nacks::new(told.clone()))
                .with(Slot::ReceiverReport, ReceiverReportBuilder::new().build()),
            Transport::Recv => with_numbers(registry, &mut media)?
                .with(Slot::from(repetition::SLOT), Repetitions::new(told.clone(), Arc::clone(&self.resent)))
                .with(Slot::NackResponder, NackResponderBuilder::new().with_size(KEPT_FOR_NACK).build())
                .with(Slot::SenderReport, SenderReportBuilder::new().build()),
        };
        let settings = SettingEngineBuilder::new()
            .with_lite(self.ice_lite)
            .with_srtp_replay_protection_window(REPLAY_WINDOW)
            .with_ice_timeouts(Some(DISCONNECTED_AFTER), Some(FAILED_AFTER), Some(KEEPALIVE))
            // Browsers hide their addresses behind mDNS, so that their checks are all we see of them: nothing better will come.
            .with_prflx_acceptance_min_wait(Some(Duration::ZERO))
            .with_srflx_acceptance_min_wait(Some(Duration::ZERO))
            .with_multicast_dns_mode(MulticastDnsMode::Disabled)
            .with_include_loopback_candidate(true)
            .with_answering_dtls_role(RTCDtlsRole::Server)
            .build();
        RTCPeerConnectionBuilder::new()
            .with_configuration(
                RTCConfigurationBuilder::new().with_certificates(vec![self.certificate.clone()]).build(),
            )
            .with_media_engine(media)
            .with_setting_engine(settings)
            .with_interceptor_registry(registry)
            .build(now)
    }
}

/// Has the receiver report on each packet of video. Sound is left without numbers: on a link for the sound alone they would be too much.
fn with_numbers(registry: Registry, media: &mut MediaEngine) -> Result<Registry, Error> {
    let report = RTCPFeedback { typ: "transport-cc".to_owned(), parameter: String::new() };
    media.register_feedback(report, RtpCodecKind::Video);
    let number = RTCRtpHeaderExtensionCapability { uri: numbering::NUMBER.to_owned() };
    media.register_header_extension(number, RtpCodecKind::Video, None)?;
    Ok(registry)
}

/// All codecs of a kind; the mixer decodes each of them, which is tried before the gateway serves. No RTX: `rtc` 0.21.1
/// unpacks its retransmissions behind the interceptors, which then ask on for what has come.
fn codecs(kind: RtpCodecKind) -> Vec<RTCRtpCodecParameters> {
    if kind == RtpCodecKind::Audio {
        return vec![parameters(Codec::Opus, 111, OPUS), redundant_audio()];
    }
    let mut codecs = vec![parameters(Codec::Vp8, 96, ""), parameters(Codec::Vp9, 98, VP9)];
    codecs.extend(H264.map(|(payload_type, profile)| parameters(Codec::H264, payload_type, profile)));
    codecs.push(parameters(Codec::Av1, 45, AV1));
    codecs
}

/// All codecs of the kind of this one, which comes first.
pub(super) fn preferences(codec: Codec) -> Vec<RTCRtpCodecParameters> {
    let mut codecs = codecs(kind(codec));
    codecs.sort_by_key(|each| each.rtp_codec.mime_type != mime_type(codec));
    codecs
}

/// The codec as an encoding of ours names it.
pub(super) fn codec(codec: Codec) -> RTCRtpCodec {
    match codec {
        Codec::Opus => parameters(codec, 0, OPUS),
        Codec::Vp8 => parameters(codec, 0, ""),
        Codec::Vp9 => parameters(codec, 0, VP9),
        Codec::Av1 => parameters(codec, 0, AV1),
        Codec::H264 => parameters(codec, 0, H264[1].1),
    }
    .rtp_codec
}

pub(super) const fn kind(codec: Codec) -> RtpCodecKind {
    match codec {
        Codec::Opus => RtpCodecKind::Audio,
        Codec::Vp8 | Codec::Vp9 | Codec::H264 | Codec::Av1 => RtpCodecKind::Video,
    }
}

pub(super) const fn mime_type(codec: Codec) -> &'static str {
    match codec {
        Codec::Opus => MIME_TYPE_OPUS,
        Codec::Vp8 => MIME_TYPE_VP8,
        Codec::Vp9 => MIME_TYPE_VP9,
        Codec::Av1 => MIME_TYPE_AV1,
        Codec::H264 => MIME_TYPE_H264,
    }
}

/// Opus, each packet with the one before it once more (RFC 2198).
fn redundant_audio() -> RTCRtpCodecParameters {
    let mut parameters = parameters(Codec::Opus, 63, "111/111");
    "audio/red".clone_into(&mut parameters.rtp_codec.mime_type);
    parameters
}

fn parameters(codec: Codec, payload_type: u8, fmtp: &str) -> RTCRtpCodecParameters {
    let (channels, rtcp_feedback) = match codec {
        Codec::Opus => (2, Vec::new()),
        Codec::Vp8 | Codec::Vp9 | Codec::H264 | Codec::Av1 => {
            (0, vec![RTCPFeedback { typ: "ccm".to_owned(), parameter: "fir".to_owned() }])
        }
    };
    RTCRtpCodecParameters {
        rtp_codec: RTCRtpCodec {
            mime_type: mime_type(codec).to_owned(),
            clock_rate: codec.clock_rate(),
            channels,
            sdp_fmtp_line: fmtp.to_owned(),
            rtcp_feedback,
        },
        payload_type,
    }
}
