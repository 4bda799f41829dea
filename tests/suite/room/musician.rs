//! A WebRTC peer as a browser is one: publishes Opus and VP8, and hears what it subscribes to.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use rtc::interceptor::Interceptor;
use rtc::interceptor::Packet;
use rtc::interceptor::Registry;
use rtc::interceptor::Slot;
use rtc::interceptor::StreamInfo;
use rtc::interceptor::TaggedPacket;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::interceptor_registry::register_default_interceptors;
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtp_transceiver::RTCRtpTransceiverDirection;
use rtc::rtp_transceiver::RTCRtpTransceiverInit;
use rtc::rtp_transceiver::rtp_sender::RTCRtpCodec;
use rtc::rtp_transceiver::rtp_sender::RTCRtpCodecParameters;
use rtc::rtp_transceiver::rtp_sender::RTCRtpCodingParameters;
use rtc::rtp_transceiver::rtp_sender::RTCRtpEncodingParameters;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use rtc::sansio::Protocol;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinSet;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_remote::TrackRemote;
use webrtc::media_stream::track_remote::TrackRemoteEvent;
use webrtc::peer_connection::PeerConnection;
use webrtc::peer_connection::PeerConnectionBuilder;
use webrtc::peer_connection::PeerConnectionEventHandler;
use webrtc::peer_connection::RTCIceGatheringState;
use webrtc::peer_connection::RTCPeerConnectionState;

pub(super) const AUDIO: u8 = 111;
pub(super) const VIDEO: u8 = 96;
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A packet heard, by the payload type it came with.
pub(super) type Heard = rtc::rtp::Packet;

pub(super) struct Musician {
    pub(super) pc: Arc<dyn PeerConnection>,
    pub(super) connected: watch::Receiver<bool>,
    pub(super) heard: mpsc::Receiver<Heard>,
    pub(super) keyframe_requests: Arc<AtomicU32>,
    tracks: Arc<tokio::sync::Mutex<Vec<Arc<dyn TrackRemote>>>>,
    gathered: watch::Receiver<bool>,
    tasks: JoinSet<()>,
}

struct Handler {
    connected: watch::Sender<bool>,
    gathered: watch::Sender<bool>,
    heard: mpsc::Sender<Heard>,
    tracks: Arc<tokio::sync::Mutex<Vec<Arc<dyn TrackRemote>>>>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        self.gathered.send_replace(state == RTCIceGatheringState::Complete);
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        self.connected.send_replace(state == RTCPeerConnectionState::Connected);
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        self.tracks.lock().await.push(Arc::clone(&track));
        let heard = self.heard.clone();
        tokio::spawn(async move {
            while let Some(event) = track.poll().await {
                if let TrackRemoteEvent::OnRtpPacket(packet) = event
                    && heard.send(packet).await.is_err()
                {
                    break;
                }
            }
        });
    }
}

impl Musician {
    pub(super) async fn new() -> Self {
        Self::at("127.0.0.1:0").await
    }

    /// A musician whose only address is this one.
    pub(super) async fn at(address: &str) -> Self {
        let mut media = MediaEngine::default();
        media.register_codec(opus(), RtpCodecKind::Audio).expect("valid");
        media.register_codec(vp8(), RtpCodecKind::Video).expect("valid");
        let keyframe_requests = Arc::new(AtomicU32::new(0));
        let ear = KeyframeEar { count: Arc::clone(&keyframe_requests), ..KeyframeEar::default() };
        let registry =
            register_default_interceptors(Registry::new(), &mut media).expect("valid").with(Slot::from(14_000), ear);
        let (connected_tx, connected) = watch::channel(false);
        let (gathered_tx, gathered) = watch::channel(false);
        let (heard_tx, heard) = mpsc::channel(10_000);
        let tracks = Arc::default();
        let handler =
            Handler { connected: connected_tx, gathered: gathered_tx, heard: heard_tx, tracks: Arc::clone(&tracks) };
        let building = PeerConnectionBuilder::new()
            .with_media_engine(media)
            .with_interceptor_registry(registry)
            .with_handler(Arc::new(handler))
            .with_udp_addrs(vec![address.to_owned()])
            .build();
        let pc = Box::pin(building).await.expect("a loopback socket");
        Self { pc: Arc::new(pc), connected, heard, keyframe_requests, tracks, gathered, tasks: JoinSet::new() }
    }

    /// Sends both tracks for as long as the musician lives: 50 audio and 30 video packets per second.
    pub(super) async fn play(&mut self) {
        for (codec, ssrc, every) in [(opus(), 0xa0d10, 20), (vp8(), 0x71de0, 33)] {
            let ssrc = ssrc ^ uuid::Uuid::new_v4().as_fields().0;
            let track = local_track(&codec, ssrc);
            self.pc.add_track(Arc::clone(&track) as Arc<dyn TrackLocal>).await.expect("added");
            let requests = Arc::clone(&self.keyframe_requests);
            self.tasks.spawn(async move {
                let mut tick = tokio::time::interval(Duration::from_millis(every));
                let mut answered = 0;
                for seq in 0..u16::MAX {
                    tick.tick().await;
                    let asked = requests.load(Ordering::SeqCst);
                    let key = seq == 0 || asked != answered;
                    answered = asked;
                    let payload = if key { [0x10, 0x00, 7, 7] } else { [0x10, 0x01, 7, 7] };
                    let header = rtc::rtp::Header {
                        version: 2,
                        payload_type: codec.payload_type,
                        sequence_number: seq,
                        timestamp: u32::from(seq) * 960,
                        ssrc,
                        marker: true,
                        ..rtc::rtp::Header::default()
                    };
                    let packet = rtc::rtp::Packet { header, payload: Bytes::copy_from_slice(&payload) };
                    // Fails until the transport is up, like a browser's encoder before its connection.
                    let _not_yet = track.write_rtp(packet).await;
                }
            });
        }
    }

    /// Wants to receive one audio and one video track by its own offer (WHEP).
    pub(super) async fn listen(&self) {
        for kind in [RtpCodecKind::Audio, RtpCodecKind::Video] {
            let init = RTCRtpTransceiverInit {
                direction: RTCRtpTransceiverDirection::Recvonly,
                streams: Vec::new(),
                send_encodings: Vec::new(),
            };
            self.pc.add_transceiver_from_kind(kind, Some(init)).await.expect("added");
        }
    }

    pub(super) async fn offer(&mut self) -> String {
        let offer = self.pc.create_offer(None).await.expect("an offer");
        self.describe(offer).await
    }

    pub(super) async fn answer(&mut self, offer: &str) -> String {
        let offer = RTCSessionDescription::offer(offer.to_owned()).expect("well formed");
        self.pc.set_remote_description(offer).await.expect("acceptable");
        let answer = self.pc.create_answer(None).await.expect("an answer");
        self.describe(answer).await
    }

    pub(super) async fn accept(&self, answer: String) {
        let answer = RTCSessionDescription::answer(answer).expect("well formed");
        self.pc.set_remote_description(answer).await.expect("acceptable");
    }

    async fn describe(&mut self, description: RTCSessionDescription) -> String {
        self.pc.set_local_description(description).await.expect("its own");
        let gathered = self.gathered.wait_for(|gathered| *gathered);
        tokio::time::timeout(PATIENCE, gathered).await.expect("in time").expect("alive");
        self.pc.local_description().await.expect("just set").sdp
    }

    pub(super) async fn wait_connected(&mut self) {
        let connected = self.connected.wait_for(|connected| *connected);
        tokio::time::timeout(PATIENCE, connected).await.expect("connects in time").expect("alive");
    }

    /// The next `count` packets of this payload type.
    pub(super) async fn hear(&mut self, payload_type: u8, count: usize) -> Vec<Heard> {
        let mut packets = Vec::new();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while packets.len() < count {
            let heard = tokio::time::timeout_at(deadline, self.heard.recv()).await;
            let packet = heard.unwrap_or_else(|_| panic!("only {} packets of {payload_type}", packets.len()));
            packets.extend(packet.filter(|packet| packet.header.payload_type == payload_type));
        }
        packets
    }

    /// Asks for a keyframe of every video track it hears, behind a receiver report as browsers do.
    pub(super) async fn lose_picture(&self) {
        for track in self.tracks.lock().await.iter() {
            if track.kind().await != RtpCodecKind::Video {
                continue;
            }
            for media_ssrc in track.ssrcs().await {
                let report = rtc::rtcp::receiver_report::ReceiverReport { ssrc: 1, ..Default::default() };
                let request = PictureLossIndication { sender_ssrc: 1, media_ssrc };
                track.write_rtcp(vec![Box::new(report), Box::new(request)]).await.expect("sent");
            }
        }
    }
}

fn local_track(codec: &RTCRtpCodecParameters, ssrc: u32) -> Arc<TrackLocalStaticRTP> {
    let encoding = RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters { ssrc: Some(ssrc), ..Default::default() },
        codec: codec.rtp_codec.clone(),
        ..Default::default()
    };
    let name = format!("track-{ssrc}");
    let kind = if codec.payload_type == AUDIO { RtpCodecKind::Audio } else { RtpCodecKind::Video };
    let track = MediaStreamTrack::new("stream".to_owned(), name.clone(), name, kind, vec![encoding]);
    Arc::new(TrackLocalStaticRTP::new(track))
}

fn opus() -> RTCRtpCodecParameters {
    codec("audio/opus", 48_000, 2, "minptime=10;useinbandfec=1", AUDIO)
}

fn vp8() -> RTCRtpCodecParameters {
    codec("video/VP8", 90_000, 0, "", VIDEO)
}

fn codec(mime_type: &str, clock_rate: u32, channels: u16, fmtp: &str, payload_type: u8) -> RTCRtpCodecParameters {
    RTCRtpCodecParameters {
        rtp_codec: RTCRtpCodec {
            mime_type: mime_type.to_owned(),
            clock_rate,
            channels,
            sdp_fmtp_line: fmtp.to_owned(),
            rtcp_feedback: Vec::new(),
        },
        payload_type,
    }
}

/// Counts the keyframe requests that arrive.
#[derive(Default)]
struct KeyframeEar {
    count: Arc<AtomicU32>,
    reads: VecDeque<TaggedPacket>,
    writes: VecDeque<TaggedPacket>,
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for KeyframeEar {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = rtc::shared::error::Error;
    type Time = Instant;

    fn handle_read(&mut self, msg: TaggedPacket) -> Result<(), Self::Error> {
        if let Packet::Rtcp(packets) = &msg.message.packet {
            let requests = packets.iter().filter(|packet| packet.as_any().is::<PictureLossIndication>()).count();
            self.count.fetch_add(u32::try_from(requests).expect("few"), Ordering::SeqCst);
        }
        self.reads.push_back(msg);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.reads.pop_front()
    }

    fn handle_write(&mut self, msg: TaggedPacket) -> Result<(), Self::Error> {
        self.writes.push_back(msg);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.writes.pop_front()
    }
}

impl Interceptor for KeyframeEar {
    fn bind_local_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _info: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _info: &StreamInfo) {}
}
