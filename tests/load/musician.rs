//! A synthetic musician: its own picture and its own note, encoded by GStreamer and sent by WHIP as a real WebRTC peer.

use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use rtc::media_stream::MediaStreamTrack;
use rtc::rtp_transceiver::rtp_sender::RTCRtpCodec;
use rtc::rtp_transceiver::rtp_sender::RTCRtpCodingParameters;
use rtc::rtp_transceiver::rtp_sender::RTCRtpEncodingParameters;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use rtc::shared::marshal::Unmarshal;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::TrackLocalEvent;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::runtime::Runtime;
use webrtc::runtime::TokioRuntime;

use crate::instrument::Instrument;
use crate::peer;
use crate::peer::LOOPBACK;
use crate::peer::OPUS;
use crate::peer::Peer;
use crate::peer::Picture;
use crate::peer::VIDEO;

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
    /// How much faster than the machine's its clock runs, parts per million.
    pub(crate) clock_ppm: i32,
}

/// A musician in a room.
pub(crate) struct Musician {
    peer: Peer,
    _playing: JoinSet<()>,
}

impl Musician {
    /// Joins by WHIP and plays until dropped.
    pub(crate) async fn join(gateway: &str, room: &str, token: &str, part: Part) -> Result<Self> {
        Self::join_by(Arc::new(TokioRuntime), gateway, room, token, part).await
    }

    /// The same with the sockets of this runtime.
    pub(crate) async fn join_by(
        runtime: Arc<dyn Runtime>,
        gateway: &str,
        room: &str,
        token: &str,
        part: Part,
    ) -> Result<Self> {
        let mut peer = Peer::at(runtime, LOOPBACK, part.picture, token).await?;
        let audio = track(RtpCodecKind::Audio, peer::opus());
        let video = track(RtpCodecKind::Video, peer::picture(part.picture));
        for local in [&audio, &video] {
            peer.connection.add_track(Arc::clone(local) as Arc<dyn TrackLocal>).await?;
        }
        peer.connect(gateway, &format!("/whip/{room}")).await?;
        let playing = play(part, &audio, &video)?;
        Ok(Self { peer, _playing: playing })
    }

    /// Leaves the room.
    pub(crate) async fn leave(self) -> Result<()> {
        self.peer.close().await
    }
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

pub(crate) async fn carry(local: Arc<TrackLocalStaticRTP>, mut packets: mpsc::Receiver<Bytes>) {
    let ssrc = local.track().await.codings().first().and_then(|c| c.rtp_coding_parameters.ssrc).unwrap_or_default();
    while let Some(mut bytes) = packets.recv().await {
        let Ok(mut packet) = rtc::rtp::Packet::unmarshal(&mut bytes) else { continue };
        packet.header.ssrc = ssrc;
        if local.write_rtp(packet).await.is_err() {
            return;
        }
    }
}

pub(crate) fn track(kind: RtpCodecKind, codec: RTCRtpCodec) -> Arc<TrackLocalStaticRTP> {
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
