//! Coming and going: what a gateway still holds of a thousand participants who have left, in memory and descriptors.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use futures::SinkExt;
use futures::StreamExt;
use futures::TryStreamExt;
use futures::stream;
use rtc::rtp_transceiver::RTCRtpTransceiverDirection;
use rtc::rtp_transceiver::RTCRtpTransceiverInit;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use serde_json::Value;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use webrtc::media_stream::track_local::TrackLocal;

use crate::bench_sfu::resident_kb;
use crate::demo::say;
use crate::gateway::Gateway;
use crate::gateway::ROOM;
use crate::musician::track;
use crate::peer;
use crate::peer::Peer;
use crate::peer::Picture;

/// Participants at a time; they shuffle the gateway's memory as a real evening does.
const AT_A_TIME: usize = 8;

/// Growth between two rounds that is the allocator's noise, KB.
const NOISE_KB: u64 = 2 * 1024;

/// What a process holds.
struct Holding {
    memory_kb: u64,
    descriptors: usize,
}

/// Runs a round to warm up and two that are compared; `Ok(true)` if the second left nothing behind. A round is `joins` participants
/// by WebSocket and a tenth as many with media.
pub(crate) async fn run(program: &Path, joins: usize) -> Result<bool> {
    let folder = tempfile::tempdir()?;
    let mut gateway = Gateway::start(program, folder.path()).await?;
    let token = gateway.room_token("Passer-by", "musician").await?;
    // Somebody who stays, so that everybody who comes is forwarded to somebody.
    let stays = listen(&gateway, &token).await?;
    let mut rounds = Vec::new();
    for name in ["warm-up", "round 1", "round 2"] {
        round(&gateway, &token, joins).await?;
        let held = settled(&gateway).await?;
        say(&format!(
            "{name}: {joins} joins, {} with media: {} KB, {} descriptors",
            joins / 10,
            held.memory_kb,
            held.descriptors
        ));
        rounds.push(held);
    }
    stays.close().await?;
    gateway.stop().await?;
    let growth = rounds[2].memory_kb.saturating_sub(rounds[1].memory_kb);
    let holds = growth <= NOISE_KB && rounds[2].descriptors <= rounds[1].descriptors;
    say(if holds { "Memory and descriptors stay flat." } else { "Something is left behind." });
    Ok(holds)
}

/// Wants the sound and the picture of whoever is there.
async fn listen(gateway: &Gateway, token: &str) -> Result<Peer> {
    let mut peer = Peer::new(Picture::Vp8, token).await?;
    for kind in [RtpCodecKind::Audio, RtpCodecKind::Video] {
        let init = RTCRtpTransceiverInit {
            direction: RTCRtpTransceiverDirection::Recvonly,
            streams: Vec::new(),
            send_encodings: Vec::new(),
        };
        peer.connection.add_transceiver_from_kind(kind, Some(init)).await?;
    }
    peer.connect(&gateway.url, &format!("/whep/{ROOM}")).await?;
    Ok(peer)
}

async fn round(gateway: &Gateway, token: &str, joins: usize) -> Result<()> {
    let visits = stream::iter((0..joins).map(Ok)).try_for_each_concurrent(AT_A_TIME, |_| visit(gateway, token));
    visits.await.context("a visit by WebSocket")?;
    let plays = stream::iter((0..joins / 10).map(Ok)).try_for_each_concurrent(AT_A_TIME, |_| play(gateway, token));
    plays.await.context("a visit with media")
}

/// Joins and leaves by signalling; every other one leaves without a word.
async fn visit(gateway: &Gateway, token: &str) -> Result<()> {
    let mut request = format!("{}/media-relay", gateway.url.replacen("http", "ws", 1)).into_client_request()?;
    request.headers_mut().insert("sec-websocket-protocol", "jamcast.v1".parse()?);
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await?;
    let join = json!({ "id": 1, "method": "join", "data": { "token": token } });
    socket.send(Message::text(join.to_string())).await?;
    let reply = loop {
        let text = socket.next().await.context("the socket closed")??.into_text()?;
        let message: Value = serde_json::from_str(&text)?;
        if message["id"] == 1 {
            break message;
        }
    };
    ensure!(reply["ok"] == true, "the join was refused: {reply}");
    let leaves = reply["data"]["you"]["id"].as_str().is_some_and(|id| id.as_bytes().last().is_some_and(|b| b & 1 == 1));
    if leaves {
        socket.send(Message::text(json!({ "id": 2, "method": "leave" }).to_string())).await?;
        while socket.try_next().await?.is_some() {}
    }
    Ok(())
}

/// Connects with sound and picture, sends a little of both, and leaves.
async fn play(gateway: &Gateway, token: &str) -> Result<()> {
    let mut peer = Peer::new(Picture::Vp8, token).await?;
    let tracks = [track(RtpCodecKind::Audio, peer::opus()), track(RtpCodecKind::Video, peer::picture(Picture::Vp8))];
    for local in &tracks {
        peer.connection.add_track(Arc::clone(local) as Arc<dyn TrackLocal>).await?;
    }
    peer.connect(&gateway.url, &format!("/whip/{ROOM}")).await?;
    for sequence_number in 0..10 {
        for (local, payload_type) in tracks.iter().zip([peer::OPUS, peer::VIDEO]) {
            let codings = local.track().await.codings().to_vec();
            let ssrc = codings.first().and_then(|coding| coding.rtp_coding_parameters.ssrc).unwrap_or_default();
            let header = rtc::rtp::Header { version: 2, payload_type, sequence_number, ssrc, ..Default::default() };
            local.write_rtp(rtc::rtp::Packet { header, payload: vec![0x10, 0, 7, 7].into() }).await?;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    peer.close().await
}

/// What the gateway holds once only the one who stays is there.
async fn settled(gateway: &Gateway) -> Result<Holding> {
    let pid = gateway.pid()?;
    let count = || Ok::<_, anyhow::Error>(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count());
    let mut descriptors = count()?;
    // Sockets of those who left without a word are noticed at their next turn.
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        descriptors = descriptors.min(count()?);
    }
    Ok(Holding { memory_kb: resident_kb(pid)?, descriptors })
}
