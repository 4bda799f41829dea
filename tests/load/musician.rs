//! A synthetic musician: its own picture and its own note, encoded by GStreamer and sent by WHIP as a real WebRTC peer.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use async_trait::async_trait;
use bytes::Bytes;
use rtc::interceptor::Registry;
use rtc::interceptor::Slot;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::interceptor_registry::register_default_interceptors;
use rtc::peer_connection::configuration::media_engine::MIME_TYPE_H264;
use rtc::peer_connection::configuration::media_engine::MIME_TYPE_OPUS;
use rtc::peer_connection::configuration::media_engine::MIME_TYPE_VP8;
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::rtp_transceiver::rtp_sender::RTCRtpCodec;
use rtc::rtp_transceiver::rtp_sender::RTCRtpCodecParameters;
use rtc::rtp_transceiver::rtp_sender::RTCRtpCodingParameters;
use rtc::rtp_transceiver::rtp_sender::RTCRtpEncodingParameters;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use rtc::shared::marshal::Unmarshal;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::TrackLocalEvent;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::peer_connection::PeerConnection;
use webrtc::peer_connection::PeerConnectionBuilder;
use webrtc::peer_connection::PeerConnectionEventHandler;
use webrtc::peer_connection::RTCIceGatheringState;
use webrtc::peer_connection::RTCPeerConnectionState;
use webrtc::runtime::TokioRuntime;

use crate::instrument::Instrument;
use crate::keyframes::DeliverKeyframeRequests;

const OPUS: u8 = 111;
const VIDEO: u8 = 96;

/// What a musician looks and sounds like.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) name: String,
    /// The note it plays all the time, Hz.
    pub(crate) note_hz: f64,
    pub(crate) picture: Picture,
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Flashes white and beeps at this pitch for the first tenth of every second, so that the offset can be measured.
    pub(crate) beep_hz: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Picture {
    Vp8,
    H264,
}

/// A musician in a room. Dropping it is a peer that vanishes; [`Musician::leave`] says good-bye.
pub(crate) struct Musician {
    peer: Arc<dyn PeerConnection>,
    http: reqwest::Client,
    token: String,
    resource: String,
    _playing: JoinSet<()>,
}

struct Handler {
    gathered: mpsc::Sender<()>,
    connected: mpsc::Sender<bool>,
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
}

impl Musician {
    /// Joins by WHIP and plays until dropped.
    pub(crate) async fn join(gateway: &str, room: &str, token: &str, part: Part) -> Result<Self> {
        let (gathered, mut is_gathered) = mpsc::channel(1);
        let (connected, mut is_connected) = mpsc::channel(1);
        let audio = track(RtpCodecKind::Audio, opus());
        let video = track(RtpCodecKind::Video, picture(part.picture));
        let peer = peer(part.picture, Handler { gathered, connected }).await?;
        for local in [&audio, &video] {
            peer.add_track(Arc::clone(local) as Arc<dyn TrackLocal>).await?;
        }
        let offer = peer.create_offer(None).await?;
        peer.set_local_description(offer).await?;
        tokio::time::timeout(Duration::from_secs(5), is_gathered.recv()).await.context("no ICE candidates")?;
        let offer = peer.local_description().await.context("there is no local description")?;

        let http = reqwest::Client::new();
        let answer = http
            .post(format!("{gateway}/whip/{room}"))
            .bearer_auth(token)
            .header("content-type", "application/sdp")
            .body(offer.sdp)
            .send()
            .await?;
        if !answer.status().is_success() {
            bail!("WHIP was refused: {} {}", answer.status(), answer.text().await?);
        }
        let location =
            answer.headers().get("location").context("WHIP answered without a Location")?.to_str()?.to_owned();
        let resource = if location.starts_with("http") { location } else { format!("{gateway}{location}") };
        peer.set_remote_description(RTCSessionDescription::answer(answer.text().await?)?).await?;
        let up = tokio::time::timeout(Duration::from_secs(10), is_connected.recv())
            .await
            .context("ICE or DTLS did not connect")?;
        if up != Some(true) {
            bail!("the WebRTC connection failed");
        }
        let playing = play(part, &audio, &video)?;
        Ok(Self { peer, http, token: token.to_owned(), resource, _playing: playing })
    }

    /// Leaves the room as WHIP asks for it.
    pub(crate) async fn leave(self) -> Result<()> {
        self.http.delete(&self.resource).bearer_auth(&self.token).send().await?.error_for_status()?;
        self.peer.close().await?;
        Ok(())
    }
}

async fn peer(picture_codec: Picture, handler: Handler) -> Result<Arc<dyn PeerConnection>> {
    let mut media = MediaEngine::default();
    for (codec, payload_type, kind) in
        [(opus(), OPUS, RtpCodecKind::Audio), (picture(picture_codec), VIDEO, RtpCodecKind::Video)]
    {
        media.register_codec(RTCRtpCodecParameters { rtp_codec: codec, payload_type }, kind)?;
    }
    // RTCP stops inside the stack unless an interceptor vouches for it; keyframe requests must reach the encoder.
    let registry = register_default_interceptors(Registry::new(), &mut media)?
        .with(Slot::from(14_000), DeliverKeyframeRequests::default());
    let build = PeerConnectionBuilder::new()
        .with_media_engine(media)
        .with_interceptor_registry(registry)
        .with_handler(Arc::new(handler))
        .with_runtime(Arc::new(TokioRuntime))
        .with_udp_addrs(vec!["127.0.0.1:0".to_owned()])
        .build();
    // The whole connection lives in this future, 20 KB of it.
    Ok(Arc::new(Box::pin(build).await?))
}

/// Starts the instrument and carries its RTP packets to the tracks.
fn play(part: Part, audio: &Arc<TrackLocalStaticRTP>, video: &Arc<TrackLocalStaticRTP>) -> Result<JoinSet<()>> {
    let (instrument, sound, pictures) = Instrument::start(part, OPUS, VIDEO)?;
    let instrument = Arc::new(instrument);
    let mut tasks = JoinSet::new();
    for (local, packets) in [(audio, sound), (video, pictures)] {
        tasks.spawn(carry(Arc::clone(local), packets));
    }
    let video = Arc::clone(video);
    tasks.spawn(async move {
        while let Some(event) = video.poll().await {
            if let TrackLocalEvent::OnRtcpPacket(_) = event {
                instrument.make_keyframe();
            }
        }
    });
    Ok(tasks)
}

async fn carry(local: Arc<TrackLocalStaticRTP>, mut packets: mpsc::Receiver<Bytes>) {
    let ssrc = local.track().await.codings().first().and_then(|c| c.rtp_coding_parameters.ssrc).unwrap_or_default();
    while let Some(mut bytes) = packets.recv().await {
        let Ok(mut packet) = rtc::rtp::Packet::unmarshal(&mut bytes) else { continue };
        packet.header.ssrc = ssrc;
        if local.write_rtp(packet).await.is_err() {
            return;
        }
    }
}

fn track(kind: RtpCodecKind, codec: RTCRtpCodec) -> Arc<TrackLocalStaticRTP> {
    let ssrc = u32::from_le_bytes(uuid::Uuid::new_v4().as_bytes()[..4].try_into().expect("four bytes"));
    Arc::new(TrackLocalStaticRTP::new(MediaStreamTrack::new(
        "band".to_owned(),
        format!("band-{kind}"),
        format!("band-{kind}"),
        kind,
        vec![RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters { ssrc: Some(ssrc), ..Default::default() },
            codec,
            ..Default::default()
        }],
    )))
}

fn opus() -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: MIME_TYPE_OPUS.to_owned(),
        clock_rate: 48_000,
        channels: 2,
        sdp_fmtp_line: "minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1;maxaveragebitrate=256000".to_owned(),
        rtcp_feedback: vec![],
    }
}

fn picture(codec: Picture) -> RTCRtpCodec {
    let (mime_type, sdp_fmtp_line) = match codec {
        Picture::Vp8 => (MIME_TYPE_VP8, ""),
        Picture::H264 => (MIME_TYPE_H264, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"),
    };
    let feedback = |typ: &str, parameter: &str| rtc::rtp_transceiver::rtp_sender::RTCPFeedback {
        typ: typ.to_owned(),
        parameter: parameter.to_owned(),
    };
    RTCRtpCodec {
        mime_type: mime_type.to_owned(),
        clock_rate: 90_000,
        channels: 0,
        sdp_fmtp_line: sdp_fmtp_line.to_owned(),
        rtcp_feedback: vec![feedback("nack", ""), feedback("nack", "pli"), feedback("ccm", "fir")],
    }
}
