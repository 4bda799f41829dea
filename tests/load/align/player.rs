//! A player behind a link: a leader who clicks, or a follower who clicks when it hears the leader, as a studio would, with signalling and
//! two peers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use futures::SinkExt;
use futures::StreamExt;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use serde_json::Value;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_remote::TrackRemote;
use webrtc::media_stream::track_remote::TrackRemoteEvent;

use crate::align::buffer::time_of;
use crate::align::click::BLOCK;
use crate::align::click::BLOCK_TIME;
use crate::align::click::Clicker;
use crate::align::click::Listener;
use crate::align::click::leaders_click;
use crate::align::sound::Ears;
use crate::align::sound::Mouth;
use crate::align::sound::lock;
use crate::latency::network::Access;
use crate::latency::room::Clock;
use crate::latency::wire::BehindWire;
use crate::latency::wire::Post;
use crate::latency::wire::Wire;
use crate::metronome::ticking;
use crate::musician::carry;
use crate::musician::track;
use crate::peer;
use crate::peer::LOOPBACK;
use crate::peer::Peer;
use crate::peer::Picture;
use crate::sockets::With;

/// How somebody plays.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    /// Pitch of its clicks.
    pub(crate) hz: f64,
    /// Milliseconds of its packets.
    pub(crate) packet_ms: u32,
    pub(crate) access: Access,
    /// What its jitter buffer holds back, if that is not to follow what comes.
    pub(crate) depth: Option<Duration>,
}

/// Somebody in the room who plays until dropped.
pub(crate) struct Player {
    _peers: Vec<Peer>,
    _playing: JoinSet<()>,
}

/// As often as studios tell it.
const TOLD_EVERY: Duration = Duration::from_secs(2);

impl Player {
    /// Joins as a leader, who hears nobody.
    pub(crate) async fn lead(gateway: &str, token: &str, post: &Post, clock: Clock, part: Part) -> Result<Self> {
        let (stage, peer, mouth, mut playing) = Stage::enter(gateway, token, post, part).await?;
        playing.spawn(stage.stay(None));
        playing.spawn(play(clock, mouth, Clicker::new(part.hz), None));
        Ok(Self { _peers: vec![peer], _playing: playing })
    }

    /// Joins and plays when the leader is heard, whose microphone must be there.
    pub(crate) async fn follow(gateway: &str, token: &str, post: &Post, clock: Clock, part: Part) -> Result<Self> {
        let (mut stage, peer, mouth, mut playing) = Stage::enter(gateway, token, post, part).await?;
        let ears = Arc::new(Ears::open(part.depth)?);
        let (mut listening, consumer) = stage.listen().await?;
        let track = tokio::time::timeout(Duration::from_secs(10), listening.tracks.recv()).await;
        let track = track.context("the leader is not heard")?.context("the peer has ended")?;
        playing.spawn(hear(track, clock, Arc::clone(&ears)));
        playing.spawn(stage.stay(Some((consumer, Arc::clone(&ears)))));
        playing.spawn(play(clock, mouth, Clicker::new(part.hz), Some(ears)));
        Ok(Self { _peers: vec![peer, listening], _playing: playing })
    }
}

/// Somebody's place in the room, and the line to it.
struct Stage {
    socket: WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>,
    pushed: VecDeque<Value>,
    calls: u64,
    /// The first producer that was there.
    leader: Option<Value>,
    wire: Arc<Wire>,
    post: Post,
}

impl Stage {
    /// Joins and publishes a microphone.
    async fn enter(gateway: &str, token: &str, post: &Post, part: Part) -> Result<(Self, Peer, Mouth, JoinSet<()>)> {
        let mut request = format!("{}/media-relay", gateway.replacen("http", "ws", 1)).into_client_request()?;
        request.headers_mut().insert("sec-websocket-protocol", "jamcast.v1".parse()?);
        let (socket, _) = tokio_tungstenite::connect_async(request).await?;
        let wire = Arc::new(Wire::default());
        wire.plug_into(Some(part.access), part.hz as u64);
        let mut stage = Self { socket, pushed: VecDeque::new(), calls: 0, leader: None, wire, post: post.clone() };
        let joined = stage.call("join", json!({ "token": token })).await?;
        stage.leader = joined["producers"].get(0).map(|producer| producer["id"].clone());
        let mut peer = stage.peer().await?;
        let microphone = track(RtpCodecKind::Audio, peer::opus());
        peer.connection.add_track(Arc::clone(&microphone) as Arc<dyn TrackLocal>).await?;
        let offer = peer.offer().await?;
        let answer = stage.call("connect", json!({ "transport": "send", "sdp": offer })).await?;
        peer.accept(answer["sdp"].as_str().context("there is no answer")?.to_owned()).await?;
        stage.call("produce", json!({ "mid": "0", "source": "microphone" })).await?;
        let (mouth, said) = Mouth::open(part.packet_ms)?;
        let mut playing = JoinSet::new();
        playing.spawn(carry(microphone, said));
        Ok((stage, peer, mouth, playing))
    }

    /// Hears the leader: by this peer, and as this consumer.
    async fn listen(&mut self) -> Result<(Peer, Value)> {
        let leader = self.leader.clone().context("nobody leads yet")?;
        let consumed = self.call("consume", json!({ "producer_id": leader })).await?;
        let offer = self.push("offer").await?;
        let mut peer = self.peer().await?;
        let answer = peer.answer(offer["sdp"].as_str().context("there is no offer")?.to_owned()).await?;
        let connect = json!({ "transport": "recv", "offer_id": offer["offer_id"], "sdp": answer });
        self.call("connect", connect).await?;
        peer.wait_until_connected().await?;
        Ok((peer, consumed["consumer"]["id"].clone()))
    }

    async fn peer(&self) -> Result<Peer> {
        let sockets = BehindWire { wire: Arc::clone(&self.wire), post: self.post.clone() };
        Peer::at(Arc::new(With(sockets)), LOOPBACK, Picture::Vp8, "").await
    }

    /// Stays in the room, and tells how long what is heard waits.
    async fn stay(mut self, hearing: Option<(Value, Arc<Ears>)>) {
        let mut due = tokio::time::interval(TOLD_EVERY);
        loop {
            tokio::select! {
                frame = self.socket.next() => match frame {
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return,
                },
                _ = due.tick() => {
                    let waited = hearing.as_ref().and_then(|(_, ears)| lock(&ears.buffer).take_waited());
                    let told = hearing.iter().zip(waited).map(|((consumer, _), waited)| {
                        json!({ "consumer_id": consumer, "delay_ms": (waited.as_secs_f64() * 1000.0).round() as u64 })
                    });
                    self.calls += 1;
                    let stats = json!({
                        "id": self.calls, "method": "stats", "data": { "jitter_buffers": told.collect::<Vec<_>>() }
                    });
                    if self.socket.send(Message::text(stats.to_string())).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn frame(&mut self) -> Result<Value> {
        loop {
            let frame = tokio::time::timeout(Duration::from_secs(10), self.socket.next()).await;
            let frame = frame.context("the gateway says nothing")?.context("the socket is closed")??;
            if let Message::Text(text) = frame {
                return Ok(serde_json::from_str(&text)?);
            }
        }
    }

    async fn call(&mut self, method: &str, data: Value) -> Result<Value> {
        self.calls += 1;
        let call = json!({ "id": self.calls, "method": method, "data": data });
        self.socket.send(Message::text(call.to_string())).await?;
        loop {
            let frame = self.frame().await?;
            if frame["id"] == self.calls {
                ensure!(frame["ok"] == true, "{method} was refused: {frame}");
                return Ok(frame["data"].clone());
            }
            self.pushed.push_back(frame);
        }
    }

    async fn push(&mut self, method: &str) -> Result<Value> {
        loop {
            let next = match self.pushed.pop_front() {
                Some(pushed) => pushed,
                None => self.frame().await?,
            };
            if next["method"] == method {
                return Ok(next["data"].clone());
            }
        }
    }
}

async fn hear(track: Arc<dyn TrackRemote>, clock: Clock, ears: Arc<Ears>) {
    while let Some(event) = track.poll().await {
        if let TrackRemoteEvent::OnRtpPacket(packet) = event
            && ears.hear(clock.now(), &packet).is_err()
        {
            return;
        }
    }
}

/// Plays block after block, each when its time is over, as a sound card gives it: a leader's, or what a follower plays to what it hears
/// in that time.
async fn play(clock: Clock, mut mouth: Mouth, mut clicker: Clicker, ears: Option<Arc<Ears>>) {
    let mut listener = Listener::default();
    let begin = clock.now();
    let mut ticks = ticking(BLOCK_TIME);
    ticks.tick().await;
    for block in 0.. {
        ticks.tick().await;
        let click = match &ears {
            Some(ears) => {
                let heard = lock(&ears.buffer).play(begin + time_of(block * BLOCK as u64), BLOCK);
                listener.hear(&heard)
            }
            None => leaders_click(block),
        };
        if mouth.say(&clicker.play(click)).is_err() {
            return;
        }
    }
}
