//! A publisher that costs next to nothing: packets of fixed sizes at fixed times, which look like VP8 and Opus and hold nothing.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use rtc::rtp::Header;
use rtc::rtp::Packet;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use rtc::shared::marshal::Marshal;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::runtime::TokioRuntime;

use crate::musician::track;
use crate::peer;
use crate::peer::OPUS;
use crate::peer::Peer;
use crate::peer::Picture;
use crate::peer::VIDEO;
use crate::sfu::Sfu;

/// Frames of video a second.
const FRAMES: u32 = 30;
/// Video packets of three frames in a row: 250 a second.
const BURSTS: [u32; 3] = [8, 8, 9];
/// Bytes of a video packet's payload: 2.3 Mbit/s with the 250 packets.
const VIDEO_PAYLOAD: usize = 1172;
/// Bytes of an audio packet's payload: 64 kbit/s.
const AUDIO_PAYLOAD: usize = 160;
/// Of an Opus frame.
const AUDIO_EVERY: Duration = Duration::from_millis(20);

/// Packets a second of audio, and of video.
pub(crate) const AUDIO_RATE: u32 = 50;
pub(crate) const VIDEO_RATE: u32 = 250;

/// Plays until dropped.
pub(crate) struct Metronome {
    peer: Peer,
    _playing: JoinSet<()>,
}

impl Metronome {
    /// Joins with audio and video.
    pub(crate) async fn join(sfu: &Sfu) -> Result<Self> {
        let mut peer =
            Peer::at(Arc::new(TokioRuntime), sfu.address(), Picture::Vp8, &sfu.token("Clara", "musician").await?)
                .await?;
        let audio = track(RtpCodecKind::Audio, peer::opus());
        let video = track(RtpCodecKind::Video, peer::picture(Picture::Vp8));
        for local in [&audio, &video] {
            peer.connection.add_track(Arc::clone(local) as Arc<dyn TrackLocal>).await?;
        }
        sfu.publish(&mut peer).await?;
        let mut playing = JoinSet::new();
        playing.spawn(play_audio(audio));
        playing.spawn(play_video(video));
        Ok(Self { peer, _playing: playing })
    }

    pub(crate) async fn leave(self, sfu: &Sfu) -> Result<()> {
        sfu.dismiss(self.peer).await
    }
}

async fn play_audio(track: Arc<TrackLocalStaticRTP>) {
    let mut voice = Voice::new(&track, OPUS).await;
    // TOC byte of a 20 ms CELT frame, stereo (RFC 6716 section 3.1).
    let payload = filled(0xfc, AUDIO_PAYLOAD);
    let mut clock = ticking(AUDIO_EVERY);
    loop {
        clock.tick().await;
        voice.send(true, payload.clone()).await;
        voice.timestamp = voice.timestamp.wrapping_add(960);
    }
}

async fn play_video(track: Arc<TrackLocalStaticRTP>) {
    let mut voice = Voice::new(&track, VIDEO).await;
    // RFC 7741 section 4.2: 0x10 begins a partition; the payload's first bit is 0 in a keyframe (RFC 6386 section 9.1).
    let [key, delta, rest] = [[0x10, 0x10], [0x10, 0x11], [0x00, 0x00]].map(|start| {
        let mut bytes = start.to_vec();
        bytes.resize(VIDEO_PAYLOAD, 0x55);
        Bytes::from(bytes)
    });
    let mut clock = ticking(Duration::from_secs(1) / FRAMES);
    for frame in 0_u32.. {
        clock.tick().await;
        // A keyframe a second: nobody has to ask for one.
        let first = if frame % FRAMES == 0 { &key } else { &delta };
        let packets = BURSTS[frame as usize % BURSTS.len()];
        for packet in 0..packets {
            let payload = if packet == 0 { first } else { &rest };
            voice.send(packet + 1 == packets, payload.clone()).await;
        }
        voice.timestamp = voice.timestamp.wrapping_add(90_000 / FRAMES);
    }
}

/// Takes RTP packets to whoever listens.
pub(crate) trait Line {
    /// A packet that is lost is found out by what arrives.
    fn write(&self, packet: Packet) -> impl Future<Output = ()> + Send;
}

impl Line for TrackLocalStaticRTP {
    async fn write(&self, packet: Packet) {
        let _lost = self.write_rtp(packet).await;
    }
}

/// As it is, without encryption.
impl Line for UdpSocket {
    async fn write(&self, packet: Packet) {
        if let Ok(datagram) = packet.marshal() {
            let _lost = self.send(&datagram).await;
        }
    }
}

/// One RTP stream.
pub(crate) struct Voice<'a, L = TrackLocalStaticRTP> {
    line: &'a L,
    ssrc: u32,
    payload_type: u8,
    seq: u16,
    pub(crate) timestamp: u32,
}

impl<'a> Voice<'a> {
    pub(crate) async fn new(track: &'a TrackLocalStaticRTP, payload_type: u8) -> Self {
        let codings = track.track().await;
        let ssrc = codings.codings().first().and_then(|c| c.rtp_coding_parameters.ssrc).unwrap_or_default();
        Self::on(track, ssrc, payload_type)
    }
}

impl<'a, L: Line> Voice<'a, L> {
    pub(crate) const fn on(line: &'a L, ssrc: u32, payload_type: u8) -> Self {
        Self { line, ssrc, payload_type, seq: 0, timestamp: 0 }
    }

    pub(crate) async fn send(&mut self, marker: bool, payload: Bytes) {
        let header = Header {
            version: 2,
            marker,
            payload_type: self.payload_type,
            sequence_number: self.seq,
            timestamp: self.timestamp,
            ssrc: self.ssrc,
            ..Header::default()
        };
        self.seq = self.seq.wrapping_add(1);
        self.line.write(Packet { header, payload }).await;
    }
}

fn filled(first: u8, length: usize) -> Bytes {
    let mut bytes = vec![0x55; length];
    bytes[0] = first;
    Bytes::from(bytes)
}

/// Ticks that come late are made up for, so that the rate holds on a busy machine.
pub(crate) fn ticking(period: Duration) -> tokio::time::Interval {
    let mut clock = tokio::time::interval(period);
    clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
    clock
}
