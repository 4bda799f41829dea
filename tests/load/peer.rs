//! The WebRTC peer that musicians and listeners are: the `webrtc` crate, with WHIP or WHEP as its signalling.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use async_trait::async_trait;
use rtc::ice::mdns::MulticastDnsMode;
use rtc::interceptor::Registry;
use rtc::interceptor::Slot;
use rtc::peer_connection::configuration::interceptor_registry::register_default_interceptors;
use rtc::peer_connection::configuration::media_engine::MIME_TYPE_H264;
use rtc::peer_connection::configuration::media_engine::MIME_TYPE_OPUS;
use rtc::peer_connection::configuration::media_engine::MIME_TYPE_VP8;
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::peer_connection::configuration::setting_engine::SettingEngineBuilder;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::rtp_transceiver::RTCRtpTransceiverDirection;
use rtc::rtp_transceiver::RTCRtpTransceiverInit;
use rtc::rtp_transceiver::rtp_sender::RTCPFeedback;
use rtc::rtp_transceiver::rtp_sender::RTCRtpCodec;
use rtc::rtp_transceiver::rtp_sender::RTCRtpCodecParameters;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use tokio::sync::mpsc;
use webrtc::media_stream::track_remote::TrackRemote;
use webrtc::peer_connection::PeerConnection;
use webrtc::peer_connection::PeerConnectionBuilder;
use webrtc::peer_connection::PeerConnectionEventHandler;
use webrtc::peer_connection::RTCIceGatheringState;
use webrtc::peer_connection::RTCPeerConnectionState;
use webrtc::runtime::Runtime;
use webrtc::runtime::TokioRuntime;

use crate::keyframes::DeliverKeyframeRequests;

pub(crate) const OPUS: u8 = 111;
pub(crate) const VIDEO: u8 = 96;
/// Any port of it.
pub(crate) const LOOPBACK: &str = "127.0.0.1:0";
/// New tracks that may wait to be taken.
const MAX_TRACKS: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Picture {
    Vp8,
    H264,
}

/// A peer before and after it is connected. Dropping it is a peer that vanishes; [`Peer::close`] says good-bye.
pub(crate) struct Peer {
    pub(crate) connection: Arc<dyn PeerConnection>,
    gathered: mpsc::Receiver<()>,
    connected: mpsc::Receiver<bool>,
    pub(crate) tracks: mpsc::Receiver<Arc<dyn TrackRemote>>,
    http: reqwest::Client,
    token: String,
    resource: String,
}

struct Handler {
    gathered: mpsc::Sender<()>,
    connected: mpsc::Sender<bool>,
    tracks: mpsc::Sender<Arc<dyn TrackRemote>>,
}

#[async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            let _already_told = self.gathered.try_send(());
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        if state == RTCPeerConnectionState::Connected || state == RTCPeerConnectionState::Failed {
            let _already_told = self.connected.try_send(state == RTCPeerConnectionState::Connected);
        }
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let _nobody_listens = self.tracks.try_send(track);
    }
}

impl Peer {
    pub(crate) async fn new(picture_codec: Picture, token: &str) -> Result<Self> {
        Self::at(Arc::new(TokioRuntime), LOOPBACK, picture_codec, token).await
    }

    /// A peer whose sockets are those of this runtime and on this address of the machine.
    pub(crate) async fn at(
        runtime: Arc<dyn Runtime>,
        address: &str,
        picture_codec: Picture,
        token: &str,
    ) -> Result<Self> {
        let mut media = MediaEngine::default();
        for (rtp_codec, payload_type, kind) in
            [(opus(), OPUS, RtpCodecKind::Audio), (picture(picture_codec), VIDEO, RtpCodecKind::Video)]
        {
            media.register_codec(RTCRtpCodecParameters { rtp_codec, payload_type }, kind)?;
        }
        // RTCP stops inside the stack unless an interceptor vouches for it; keyframe requests must reach the encoder.
        let registry = register_default_interceptors(Registry::new(), &mut media)?
            .with(Slot::from(14_000), DeliverKeyframeRequests::default());
        let (gathered, is_gathered) = mpsc::channel(1);
        let (connected, is_connected) = mpsc::channel(1);
        let (tracks, new_tracks) = mpsc::channel(MAX_TRACKS);
        let build = PeerConnectionBuilder::new()
            .with_media_engine(media)
            // The gateway names no addresses by mDNS, and this asks nobody on the network for them.
            .with_setting_engine(
                SettingEngineBuilder::new().with_multicast_dns_mode(MulticastDnsMode::Disabled).build(),
            )
            .with_interceptor_registry(registry)
            .with_handler(Arc::new(Handler { gathered, connected, tracks }))
            .with_runtime(runtime)
            .with_udp_addrs(vec![address.to_owned()])
            .build();
        // The whole connection lives in this future, 20 KB of it.
        let connection = Arc::new(Box::pin(build).await?);
        Ok(Self {
            connection,
            gathered: is_gathered,
            connected: is_connected,
            tracks: new_tracks,
            http: reqwest::Client::new(),
            token: token.to_owned(),
            resource: String::new(),
        })
    }

    /// Wants one more track of this kind; for before [`Peer::connect`].
    pub(crate) async fn receive(&self, kind: RtpCodecKind) -> Result<()> {
        let init = RTCRtpTransceiverInit {
            direction: RTCRtpTransceiverDirection::Recvonly,
            streams: Vec::new(),
            send_encodings: Vec::new(),
        };
        self.connection.add_transceiver_from_kind(kind, Some(init)).await?;
        Ok(())
    }

    /// Offers what was added to the connection at a WHIP or WHEP endpoint and waits until media can flow.
    pub(crate) async fn connect(&mut self, gateway: &str, path: &str) -> Result<()> {
        let offer = self.offer().await?;
        let answer = self
            .http
            .post(format!("{gateway}{path}"))
            .bearer_auth(&self.token)
            .header("content-type", "application/sdp")
            .body(offer)
            .send()
            .await?;
        if !answer.status().is_success() {
            bail!("{path} was refused: {} {}", answer.status(), answer.text().await?);
        }
        let location = answer.headers().get("location").context("the answer has no Location")?.to_str()?.to_owned();
        self.resource = if location.starts_with("http") { location } else { format!("{gateway}{location}") };
        self.accept(answer.text().await?).await
    }

    /// What was added to the connection, with all candidates.
    pub(crate) async fn offer(&mut self) -> Result<String> {
        let offer = self.connection.create_offer(None).await?;
        self.describe(offer).await
    }

    /// Takes the answer to [`Peer::offer`] and waits until media can flow.
    pub(crate) async fn accept(&mut self, answer: String) -> Result<()> {
        self.connection.set_remote_description(RTCSessionDescription::answer(answer)?).await?;
        self.wait_until_connected().await
    }

    /// Answers somebody else's offer, with all candidates; then comes [`Peer::wait_until_connected`].
    pub(crate) async fn answer(&mut self, offer: String) -> Result<String> {
        self.connection.set_remote_description(RTCSessionDescription::offer(offer)?).await?;
        let answer = self.connection.create_answer(None).await?;
        self.describe(answer).await
    }

    pub(crate) async fn wait_until_connected(&mut self) -> Result<()> {
        let up = tokio::time::timeout(Duration::from_secs(10), self.connected.recv()).await;
        if up.context("ICE or DTLS did not connect")? != Some(true) {
            bail!("the WebRTC connection failed");
        }
        Ok(())
    }

    async fn describe(&mut self, description: RTCSessionDescription) -> Result<String> {
        self.connection.set_local_description(description).await?;
        tokio::time::timeout(Duration::from_secs(5), self.gathered.recv()).await.context("no ICE candidates")?;
        Ok(self.connection.local_description().await.context("there is no local description")?.sdp)
    }

    /// Leaves as WHIP and WHEP ask for it.
    pub(crate) async fn close(self) -> Result<()> {
        self.http.delete(&self.resource).bearer_auth(&self.token).send().await?.error_for_status()?;
        self.connection.close().await?;
        Ok(())
    }
}

pub(crate) fn opus() -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: MIME_TYPE_OPUS.to_owned(),
        clock_rate: 48_000,
        channels: 2,
        sdp_fmtp_line: "minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1;maxaveragebitrate=256000".to_owned(),
        rtcp_feedback: vec![],
    }
}

pub(crate) fn picture(codec: Picture) -> RTCRtpCodec {
    let (mime_type, sdp_fmtp_line) = match codec {
        Picture::Vp8 => (MIME_TYPE_VP8, ""),
        Picture::H264 => (MIME_TYPE_H264, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"),
    };
    let feedback = |typ: &str, parameter: &str| RTCPFeedback { typ: typ.to_owned(), parameter: parameter.to_owned() };
    RTCRtpCodec {
        mime_type: mime_type.to_owned(),
        clock_rate: 90_000,
        channels: 0,
        sdp_fmtp_line: sdp_fmtp_line.to_owned(),
        rtcp_feedback: vec![feedback("nack", ""), feedback("nack", "pli"), feedback("ccm", "fir")],
    }
}
