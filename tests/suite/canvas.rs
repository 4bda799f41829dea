//! The canvas relay `/rtmp-relay` as a sender meets it, with a viewer where a stream would be.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is for")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;
use futures::SinkExt;
use futures::StreamExt;
use jamcast::driver::identity::Tokens;
use jamcast::live::canvas::Canvases;
use jamcast::live::canvas::Stroke;
use jamcast::live::canvas::View;
use jamcast::live::port::Identity;
use jamcast::model::id::RoomId;
use jamcast::model::media::CanvasFormat;
use jamcast::model::media::CanvasFrame;
use jamcast::model::role::RoomGrant;
use jamcast::model::role::RoomRole;
use jamcast::proto::canvas;
use jamcast::web;
use serde_json::Value;
use serde_json::json;
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_util::sync::CancellationToken;

struct Gateway {
    address: SocketAddr,
    canvases: Canvases,
    identity: Arc<Tokens>,
    shutdown: CancellationToken,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn room() -> RoomId {
    "jam".parse().unwrap()
}

impl Gateway {
    async fn start() -> Self {
        let (canvases, shutdown) = (Canvases::default(), CancellationToken::new());
        let identity = Arc::new(Tokens::new(&"s".repeat(32), None).unwrap());
        let router = web::canvas::routes(web::canvas::State {
            canvases: canvases.clone(),
            identity: identity.clone(),
            config: Arc::new(web::canvas::Config { max_connections: 3, ..web::canvas::Config::default() }),
            shutdown: shutdown.clone(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let server = tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
        Self { address, canvases, identity, shutdown, server }
    }

    fn token(&self, role: RoomRole) -> String {
        let grant = RoomGrant { room: room(), user: "ann".parse().unwrap(), role, name: "Ann".to_owned() };
        self.identity.mint_room(&grant, 600)
    }

    fn watch(&self) -> View {
        self.canvases.watch(&room())
    }
}

struct Sender {
    socket: WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>,
}

impl Sender {
    async fn connect(gateway: &Gateway) -> Result<Self, u16> {
        let mut request = format!("ws://{}/rtmp-relay", gateway.address).into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", canvas::SUB_PROTOCOL.parse().unwrap());
        match tokio_tungstenite::connect_async(request).await {
            Ok((socket, _)) => Ok(Self { socket }),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    /// Opens a canvas as a host.
    async fn open(gateway: &Gateway) -> Self {
        let mut sender = Self::connect(gateway).await.unwrap();
        sender.say(json!({"type": "open", "token": gateway.token(RoomRole::Host)})).await;
        assert_eq!(sender.hear().await["type"], "opened");
        assert_eq!(sender.hear().await, json!({"type": "pace", "max_fps": 0, "max_kbps": 0, "scale": 1.0}));
        sender
    }

    async fn say(&mut self, message: Value) {
        self.socket.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn send(&mut self, frames: &[CanvasFrame]) {
        let mut out = BytesMut::new();
        frames.iter().for_each(|frame| canvas::write(frame, &mut out));
        self.socket.send(Message::binary(out.freeze())).await.unwrap();
    }

    async fn message(&mut self) -> Option<Message> {
        let message = tokio::time::timeout(Duration::from_secs(5), self.socket.next()).await;
        message.expect("the gateway says nothing").and_then(Result::ok)
    }

    async fn hear(&mut self) -> Value {
        loop {
            match self.message().await {
                Some(Message::Text(text)) => return serde_json::from_str(&text).unwrap(),
                Some(Message::Ping(_)) => {}
                other => panic!("no text but {other:?}"),
            }
        }
    }

    /// The next message of this type.
    async fn hear_of(&mut self, kind: &str) -> Value {
        loop {
            let heard = self.hear().await;
            if heard["type"] == kind {
                return heard;
            }
        }
    }

    /// Why it was refused, and the code that the socket was closed with.
    async fn refused(mut self) -> (String, u16) {
        let code = self.hear_of("refused").await["code"].as_str().unwrap().to_owned();
        loop {
            match self.message().await {
                Some(Message::Close(Some(frame))) => return (code, frame.code.into()),
                Some(_) => {}
                None => panic!("the socket ended without a close frame"),
            }
        }
    }
}

fn raw(timestamp_us: u64) -> CanvasFrame {
    let data = Bytes::from(vec![timestamp_us as u8; 64 * 36 * 4]);
    CanvasFrame { format: CanvasFormat::Rgba, key: true, width: 64, height: 36, timestamp_us, data }
}

fn vp8(key: bool) -> CanvasFrame {
    let head: &[u8] = if key { &[0x10, 0, 0, 0x9d, 0x01, 0x2a, 64, 0, 36, 0] } else { &[0x11, 0, 0] };
    CanvasFrame { format: CanvasFormat::Vp8, key, data: Bytes::copy_from_slice(head), ..raw(1) }
}

async fn stroke(view: &mut View) -> Stroke {
    tokio::time::timeout(Duration::from_secs(5), view.strokes.recv()).await.expect("no frame comes").unwrap()
}

#[tokio::test]
async fn frames_reach_whoever_watches_and_give_their_credit_back() {
    let gateway = Gateway::start().await;
    let mut sender = Sender::open(&gateway).await;
    let mut view = gateway.watch();
    assert_eq!(view.painter.borrow().as_deref(), Some("Ann"));
    assert_eq!(sender.hear_of("pace").await["max_fps"], 30);
    assert_eq!(sender.hear_of("keyframe").await, json!({"type": "keyframe"}));
    assert_eq!(sender.hear().await, json!({"type": "credit", "frames": 6}));
    sender.send(&[raw(1), raw(2)]).await;
    sender.send(&[raw(3)]).await;
    for expected in 1..=3 {
        let Stroke { frame, arrival_us, .. } = stroke(&mut view).await;
        assert!(frame == raw(expected) && arrival_us > 0);
    }
    let mut back = 0;
    while back < 3 {
        back += sender.hear_of("credit").await["frames"].as_u64().unwrap();
    }
    assert_eq!(back, 3);
}

#[tokio::test]
async fn a_viewer_that_lost_the_thread_gets_a_keyframe() {
    let gateway = Gateway::start().await;
    let mut view = gateway.watch();
    let mut sender = Sender::open(&gateway).await;
    sender.hear_of("credit").await;
    sender.send(&[vp8(false)]).await;
    assert!(sender.hear_of("dropped").await["reason"].as_str().unwrap().contains("keyframe"));
    sender.send(&[vp8(true)]).await;
    sender.send(&[vp8(false)]).await;
    assert!(stroke(&mut view).await.frame.key && !stroke(&mut view).await.frame.key);
    view.want_keyframe();
    sender.hear_of("keyframe").await;
    sender.send(&[vp8(false)]).await;
    sender.hear_of("dropped").await;
    sender.send(&[vp8(true)]).await;
    assert!(stroke(&mut view).await.frame.key);
}

#[tokio::test]
async fn a_canvas_goes_with_its_socket_and_pauses_with_its_last_viewer() {
    let gateway = Gateway::start().await;
    let mut view = gateway.watch();
    let mut sender = Sender::open(&gateway).await;
    sender.hear_of("credit").await;
    assert!(view.painter.borrow_and_update().is_some());
    drop(sender);
    view.painter.changed().await.unwrap();
    assert_eq!(*view.painter.borrow(), None);
    let mut sender = Sender::open(&gateway).await;
    sender.hear_of("credit").await;
    drop(view);
    assert_eq!(sender.hear_of("pace").await["max_fps"], 0);
}

#[tokio::test]
async fn only_a_host_with_a_good_token_opens_a_canvas_and_only_one_at_a_time() {
    let gateway = Gateway::start().await;
    for (message, code) in [
        (json!({"type": "open", "token": gateway.token(RoomRole::Musician)}), "role_too_low"),
        (json!({"type": "open", "token": "nonsense"}), "token_invalid"),
        (json!({"type": "open"}), "malformed"),
        (json!({"type": "open", "token": "x".repeat(9000)}), "too_long"),
    ] {
        let mut sender = Sender::connect(&gateway).await.unwrap();
        sender.say(message).await;
        assert_eq!(sender.refused().await, (code.to_owned(), 1008));
    }
    let mut early = Sender::connect(&gateway).await.unwrap();
    early.send(&[raw(1)]).await;
    assert_eq!(early.refused().await.0, "not_open");
    let mut first = Sender::open(&gateway).await;
    let mut second = Sender::connect(&gateway).await.unwrap();
    second.say(json!({"type": "open", "token": gateway.token(RoomRole::Admin)})).await;
    assert_eq!(second.refused().await.0, "canvas_taken");
    first.say(json!({"type": "open", "token": "again"})).await;
    assert_eq!(first.refused().await.0, "already_open");
}

#[tokio::test]
async fn frames_that_lie_are_named_and_the_canvas_goes_on() {
    let gateway = Gateway::start().await;
    let mut view = gateway.watch();
    let mut sender = Sender::open(&gateway).await;
    sender.hear_of("credit").await;
    let mut bomb = raw(1);
    (bomb.format, bomb.data) = (
        CanvasFormat::Png,
        Bytes::from_static(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\xff\xff\0\0\xff\xff\x08\x06\0\0\0\0\0\0\0"),
    );
    for (frame, said) in [
        (bomb, "65535"),
        (CanvasFrame { width: 66, ..raw(1) }, "raw RGBA"),
        (CanvasFrame { width: 8, ..raw(1) }, "16 to"),
        (CanvasFrame { format: CanvasFormat::Jpeg, ..raw(1) }, "not jpeg"),
    ] {
        sender.send(&[frame]).await;
        let reason = sender.hear_of("dropped").await["reason"].as_str().unwrap().to_owned();
        assert!(reason.contains(said), "{reason}");
    }
    sender.send(&[raw(5)]).await;
    assert_eq!(stroke(&mut view).await.frame, raw(5));
}

#[tokio::test]
async fn a_sender_that_never_makes_sense_is_closed_and_one_that_is_too_large_as_well() {
    let gateway = Gateway::start().await;
    let _view = gateway.watch();
    let mut sender = Sender::open(&gateway).await;
    for _ in 0..=100 {
        sender.socket.send(Message::binary(vec![9; 40])).await.unwrap();
    }
    assert_eq!(sender.refused().await.0, "too_many_bad_frames");
    let mut sender = Sender::open(&gateway).await;
    // The gateway closes before all of it has been sent.
    let _cut_off = sender.socket.send(Message::binary(vec![1; canvas::MAX_MESSAGE + 1])).await;
    let ended = tokio::time::timeout(Duration::from_secs(5), async { while sender.message().await.is_some() {} }).await;
    assert!(ended.is_ok(), "the socket stays open");
}

#[tokio::test]
async fn places_are_counted_and_a_shutdown_says_so() {
    let gateway = Gateway::start().await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(Sender::connect(&gateway).await.unwrap());
    }
    assert_eq!(Sender::connect(&gateway).await.err(), Some(503));
    drop(held);
    let mut sender = loop {
        // The places are free once the gateway has noticed.
        match Sender::connect(&gateway).await {
            Ok(sender) => break sender,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    sender.say(json!({"type": "open", "token": gateway.token(RoomRole::Host)})).await;
    sender.hear_of("opened").await;
    gateway.shutdown.cancel();
    loop {
        if let Some(Message::Close(Some(frame))) = sender.message().await {
            assert_eq!(u16::from(frame.code), 1012);
            break;
        }
    }
}
