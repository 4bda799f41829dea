//! The WebSocket `/media-relay` as a studio meets it.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use futures::SinkExt;
use futures::StreamExt;
use jamcast::live::rooms::Event;
use jamcast::live::rooms::Transport;
use jamcast::model::id::ConsumerId;
use jamcast::model::id::ParticipantId;
use jamcast::model::id::ProducerId;
use jamcast::web::whip;
use jamcast::web::ws;
use serde_json::Value;
use serde_json::json;
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::signal::fake::ANSWER;
use crate::signal::fake::Gateway;
use crate::signal::fake::impatient;

struct Studio {
    socket: WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>,
    next_id: u64,
}

impl Studio {
    async fn open(gateway: &Gateway) -> Self {
        Self::try_open(gateway, &[("sec-websocket-protocol", "jamcast.v1")]).await.unwrap()
    }

    async fn try_open(gateway: &Gateway, headers: &[(&'static str, &'static str)]) -> Result<Self, StatusCode> {
        let mut request = format!("ws://{}/media-relay", gateway.address).into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        match tokio_tungstenite::connect_async(request).await {
            Ok((socket, response)) => {
                assert_eq!(response.headers()["sec-websocket-protocol"], "jamcast.v1");
                Ok(Self { socket, next_id: 0 })
            }
            Err(Error::Http(response)) => Err(response.status()),
            Err(error) => panic!("{error}"),
        }
    }

    async fn joined(gateway: &Gateway, role: &str) -> Self {
        let mut studio = Self::open(gateway).await;
        let reply = studio.call("join", json!({"token": format!("{role}.jam.ada")})).await;
        assert_eq!(reply["ok"], true, "{reply}");
        studio
    }

    async fn send(&mut self, text: impl Into<String>) {
        self.socket.send(Message::text(text.into())).await.unwrap();
    }

    /// The next text.
    async fn hear(&mut self) -> Value {
        loop {
            match self.frame().await {
                Some(Message::Text(text)) => return serde_json::from_str(&text).unwrap(),
                Some(Message::Ping(_)) => {}
                other => panic!("no text but {other:?}"),
            }
        }
    }

    async fn frame(&mut self) -> Option<Message> {
        let frame = tokio::time::timeout(Duration::from_secs(5), self.socket.next()).await;
        frame.expect("the gateway says nothing").and_then(Result::ok)
    }

    async fn call(&mut self, method: &str, data: Value) -> Value {
        self.next_id += 1;
        self.send(json!({"id": self.next_id, "method": method, "data": data}).to_string()).await;
        let reply = self.hear().await;
        assert_eq!(reply["id"], self.next_id, "{reply}");
        reply
    }

    /// Reads until the socket ends: the close code and reason.
    async fn farewell(&mut self) -> (u16, String) {
        loop {
            match self.frame().await {
                Some(Message::Close(Some(frame))) => return (frame.code.into(), frame.reason.to_string()),
                Some(_) => {}
                None => panic!("the socket ended without a close frame"),
            }
        }
    }
}

#[tokio::test]
async fn a_musician_joins_sends_receives_and_leaves() {
    let gateway = Gateway::start().await;
    let mut studio = Studio::open(&gateway).await;
    let joined = studio.call("join", json!({"token": "musician.jam.ada"})).await["data"].clone();
    assert_eq!(
        (&joined["room"], &joined["you"]["role"], &joined["heartbeat_ms"]),
        (&json!("jam"), &json!("musician"), &json!(15000))
    );
    assert_eq!(joined["ice_servers"][0]["credential"], "open \"sesame\"");
    let relay = &joined["ice_servers"][1];
    let whose = relay["username"].as_str().and_then(|name| name.split_once(':')).expect("expiry and participant").1;
    assert_eq!(joined["you"]["id"], whose);
    assert!(relay["credential"].as_str().is_some_and(|password| password.len() == 28), "{relay}");
    assert!(!joined.to_string().contains("turn-canary"));

    let answer = studio.call("connect", json!({"transport": "send", "sdp": "v=0"})).await;
    assert_eq!(answer["data"]["sdp"], ANSWER);
    let candidate = json!({"transport": "send", "candidate": "candidate:1 1 udp 1 192.0.2.1 5 typ host"});
    assert_eq!(studio.call("candidate", candidate).await["data"], json!({}));
    assert_eq!(studio.call("candidate", json!({"transport": "send", "candidate": ""})).await["ok"], true);
    let produced = studio.call("produce", json!({"mid": "0", "source": "microphone"})).await;
    let producer = produced["data"]["producer_id"].clone();
    assert_eq!(studio.call("pause", json!({"producer_id": producer})).await["ok"], true);
    let refused = studio.call("produce", json!({"mid": "9", "source": "camera"})).await;
    assert_eq!(refused["error"]["code"], "unknown_mid");

    let consumed = studio.call("consume", json!({"producer_id": ProducerId::generate()})).await;
    let consumer = consumed["data"]["consumer"]["id"].clone();
    gateway.heard.tell(&Event::Offer { offer_id: 1, sdp: "v=0".into() });
    assert_eq!(studio.hear().await, json!({"method": "offer", "data": {"offer_id": 1, "sdp": "v=0"}}));
    let answer = |offer_id: u32| json!({"transport": "recv", "offer_id": offer_id, "sdp": "v=0"});
    assert_eq!(studio.call("connect", answer(1)).await["data"], json!({}));
    assert_eq!(studio.call("connect", answer(7)).await["error"]["code"], "unexpected_answer");
    let tile = json!({"consumer_id": consumer, "width": 640, "height": 360});
    assert_eq!(studio.call("set_tile", tile).await["ok"], true);
    assert_eq!(studio.call("close", json!({"consumer_id": consumer})).await["ok"], true);
    gateway.heard.tell(&Event::TransportFailed(Transport::Recv));
    assert_eq!(studio.hear().await["method"], "transport_failed");
    assert_eq!(studio.call("restart_ice", json!({})).await["ok"], true);

    assert_eq!(studio.call("leave", json!({})).await["ok"], true);
    assert_eq!(studio.farewell().await, (1000, "left".into()));
    gateway.heard.wait_for("leave").await;
    let expected = [
        "join ada Musician",
        "publish",
        "candidate Send 1 1 udp 1 192.0.2.1 5 typ host",
        "produce 0 Microphone",
        "producer Pause",
        "produce 9 Camera",
        "consume",
        "answer 1",
        "answer 7",
        "tile 640x360",
        "consumer Close",
        "restart_ice",
        "leave",
    ];
    assert_eq!(gateway.heard.requests(), expected);
}

#[tokio::test]
async fn a_bad_token_is_named_and_a_good_one_may_follow() {
    let gateway = Gateway::start().await;
    let mut studio = Studio::open(&gateway).await;
    for (token, code) in [
        ("wrong", "token_invalid"),
        ("expired", "token_expired"),
        ("api", "token_wrong_audience"),
        ("musician.No Such Room.ada", "token_invalid"),
        ("musician.jam.late", "room_full"),
    ] {
        assert_eq!(studio.call("join", json!({"token": token})).await["error"]["code"], code, "{token}");
    }
    assert_eq!(
        studio.call("consume", json!({"producer_id": ProducerId::generate()})).await["error"]["code"],
        "not_joined"
    );
    assert_eq!(studio.call("join", json!({"token": "viewer.jam.ada"})).await["ok"], true);
    assert_eq!(studio.call("join", json!({"token": "viewer.jam.ada"})).await["error"]["code"], "already_joined");
}

/// Every call there is but `join` and `leave`, with the least role that may make it.
fn calls() -> Vec<(&'static str, Value, &'static str)> {
    let (producer, consumer) = (ProducerId::generate(), ConsumerId::generate());
    let somebody = ParticipantId::generate();
    vec![
        ("ping", json!({}), "viewer"),
        ("connect", json!({"transport": "recv", "offer_id": 1, "sdp": "v=0"}), "viewer"),
        ("candidate", json!({"transport": "recv", "candidate": "1"}), "viewer"),
        ("restart_ice", json!({}), "viewer"),
        ("consume", json!({"producer_id": producer}), "viewer"),
        ("pause", json!({"consumer_id": consumer}), "viewer"),
        ("resume", json!({"consumer_id": consumer}), "viewer"),
        ("close", json!({"consumer_id": consumer}), "viewer"),
        ("priority", json!({"consumer_id": consumer, "priority": 255}), "viewer"),
        ("set_tile", json!({"consumer_id": consumer, "width": 640, "height": 360}), "viewer"),
        ("stats", json!({"jitter_buffers": [{"consumer_id": consumer, "delay_ms": 40}]}), "viewer"),
        ("connect", json!({"transport": "send", "sdp": "v=0"}), "musician"),
        ("candidate", json!({"transport": "send", "candidate": "1"}), "musician"),
        ("produce", json!({"mid": "0", "source": "screen"}), "musician"),
        ("pause", json!({"producer_id": producer}), "musician"),
        ("resume", json!({"producer_id": producer}), "musician"),
        ("close", json!({"producer_id": producer}), "musician"),
        ("mute", json!({"participant_id": somebody, "kind": "audio", "muted": true}), "host"),
        ("isolate", json!({"participant_id": somebody, "isolated": true}), "host"),
        ("spotlight", json!({"participant_id": somebody}), "host"),
        ("lock", json!({"locked": true}), "host"),
        ("kick", json!({"participant_id": somebody}), "host"),
        ("ban", json!({"participant_id": somebody}), "host"),
        ("transfer_host", json!({"participant_id": somebody}), "host"),
    ]
}

#[tokio::test]
async fn each_role_may_do_what_it_may_and_no_more() {
    const ROLES: [&str; 4] = ["viewer", "musician", "host", "admin"];
    let rank = |role: &str| ROLES.iter().position(|known| *known == role).unwrap();
    let gateway = Gateway::start().await;
    for role in ROLES {
        let mut studio = Studio::joined(&gateway, role).await;
        let mut carried_out = gateway.heard.requests().len();
        for (method, data, least) in calls() {
            let reply = studio.call(method, data).await;
            let allowed = rank(role) >= rank(least);
            let expected = if allowed { (json!(true), Value::Null) } else { (json!(false), json!("role_too_low")) };
            assert_eq!((reply["ok"].clone(), reply["error"]["code"].clone()), expected, "{role} {method}: {reply}");
            let now = gateway.heard.requests().len();
            assert_eq!(now > carried_out, allowed && method != "ping", "{role} {method} reaches the room");
            carried_out = now;
        }
    }
}

#[tokio::test]
async fn no_call_is_missing_from_the_table_of_roles() {
    let table: BTreeSet<&str> = calls().iter().map(|(method, ..)| *method).chain(["join", "leave"]).collect();
    let document = include_str!("../../../docs/PROTOCOL.md");
    let called = document.lines().filter_map(|line| line.strip_prefix(r#"{"id": "#)?.split(r#""method": ""#).nth(1));
    let documented: BTreeSet<&str> = called.filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(table, documented);
}

/// Places are kept for longer than any test takes.
fn patient() -> ws::Config {
    ws::Config { resume_within_ms: 60_000, ..ws::Config::default() }
}

async fn resumed(gateway: &Gateway, token: &str, resume_token: &Value) -> (Studio, Value) {
    let mut studio = Studio::open(gateway).await;
    let reply = studio.call("join", json!({"token": token, "resume_token": resume_token})).await;
    (studio, reply)
}

#[tokio::test]
async fn who_comes_back_in_time_was_never_gone() {
    let gateway = Gateway::start_with(patient(), whip::Config::default()).await;
    let mut studio = Studio::open(&gateway).await;
    let first = studio.call("join", json!({"token": "musician.jam.ada"})).await["data"].clone();
    assert_eq!((&first["resume_within_ms"], first.get("kept")), (&json!(60_000), None));
    drop(studio);

    // The room token may have expired meanwhile.
    let (mut studio, back) = resumed(&gateway, "expired", &first["resume_token"]).await;
    assert_eq!(back["data"]["you"]["id"], first["you"]["id"], "{back}");
    assert_eq!(back["data"]["you"]["role"], "host", "the role that the room knows counts");
    assert_eq!(back["data"]["kept"]["send"], true);
    assert_ne!(back["data"]["resume_token"], first["resume_token"]);
    assert_eq!(studio.call("lock", json!({"locked": true})).await["ok"], true);
    gateway.heard.tell(&Event::TransportConnected(Transport::Send));
    assert_eq!(studio.hear().await["method"], "transport_connected", "events follow");

    let (_, used) = resumed(&gateway, "expired", &first["resume_token"]).await;
    assert_eq!(used["error"]["code"], "token_expired", "a resume token is good once");
    assert_eq!(studio.call("leave", json!({})).await["ok"], true);
    gateway.heard.wait_for("leave").await;
    let (_, left) = resumed(&gateway, "expired", &back["data"]["resume_token"]).await;
    assert_eq!(left["error"]["code"], "token_expired", "who left has no place");
    assert_eq!(gateway.heard.requests(), ["join ada Musician", "rejoin", "Lock", "leave"]);
}

#[tokio::test]
async fn a_socket_that_is_not_known_to_be_broken_gives_way() {
    let gateway = Gateway::start_with(patient(), whip::Config::default()).await;
    let mut old = Studio::open(&gateway).await;
    let joined = old.call("join", json!({"token": "musician.jam.ada"})).await["data"].clone();
    let (mut new, back) = resumed(&gateway, "expired", &joined["resume_token"]).await;
    assert_eq!(back["data"]["you"]["id"], joined["you"]["id"], "{back}");
    assert_eq!(old.farewell().await, (4409, "resumed_elsewhere".into()));
    assert_eq!(new.call("restart_ice", json!({})).await["ok"], true);
    assert_eq!(gateway.heard.requests(), ["join ada Musician", "rejoin", "restart_ice"], "nobody left");
}

#[tokio::test]
async fn a_place_is_kept_for_its_time_only_and_then_a_token_gives_a_new_one() {
    let gateway = Gateway::start().await;
    let mut studio = Studio::open(&gateway).await;
    let joined = studio.call("join", json!({"token": "musician.jam.ada"})).await["data"].clone();
    drop(studio);
    gateway.heard.wait_for("leave").await;
    let (_studio, again) = resumed(&gateway, "musician.jam.ada", &joined["resume_token"]).await;
    assert_ne!(again["data"]["you"]["id"], joined["you"]["id"]);
    assert_eq!(again["data"].get("kept"), None);
    assert_eq!(gateway.heard.requests(), ["join ada Musician", "leave", "join ada Musician"]);
}

#[tokio::test]
async fn who_closes_the_page_is_gone_at_once() {
    for code in [CloseCode::Normal, CloseCode::Away] {
        let gateway = Gateway::start_with(patient(), whip::Config::default()).await;
        let mut studio = Studio::joined(&gateway, "musician").await;
        studio.socket.close(Some(CloseFrame { code, reason: "".into() })).await.unwrap();
        gateway.heard.wait_for("leave").await;
    }
}

#[tokio::test]
async fn who_breaks_the_rules_keeps_no_place() {
    let gateway = Gateway::start_with(patient(), whip::Config::default()).await;
    let mut studio = Studio::joined(&gateway, "viewer").await;
    studio.socket.send(Message::binary(vec![0; 4])).await.unwrap();
    gateway.heard.wait_for("leave").await;
}

#[tokio::test]
async fn another_version_is_told_which_one_there_is() {
    let gateway = Gateway::start().await;
    let mut request = format!("ws://{}/media-relay", gateway.address).into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "jamcast.v9".parse().unwrap());
    let Err(Error::Http(response)) = tokio_tungstenite::connect_async(request).await else { panic!("refused") };
    let problem: Value = serde_json::from_slice(response.body().as_ref().unwrap()).unwrap();
    assert_eq!((response.status(), &problem["code"]), (StatusCode::BAD_REQUEST, &json!("unsupported_protocol")));
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("jamcast.v1") && detail.contains("jamcast.v9"), "{detail}");
    assert!(Studio::try_open(&gateway, &[("sec-websocket-protocol", "jamcast.v9, jamcast.v1")]).await.is_ok());
}

#[tokio::test]
async fn malformed_messages_are_answered_and_harm_nobody() {
    let gateway = Gateway::start().await;
    let mut studio = Studio::joined(&gateway, "viewer").await;
    for (text, id, code) in [
        ("{", Value::Null, "malformed"),
        (r#"{"method":"ping"}"#, Value::Null, "malformed"),
        (r#"{"id":7,"method":"dance"}"#, json!(7), "unknown_method"),
        (r#"{"id":8,"method":"consume","data":{"producer_id":"prd_no"}}"#, json!(8), "bad_data"),
    ] {
        studio.send(text).await;
        let reply = studio.hear().await;
        assert_eq!((&reply["id"], &reply["error"]["code"]), (&id, &json!(code)), "{text}");
    }
    assert_eq!(studio.call("ping", json!({})).await["ok"], true);
}

#[tokio::test]
async fn what_breaks_the_rules_of_the_line_ends_it() {
    let gateway = Gateway::start().await;
    let mut big = Studio::joined(&gateway, "viewer").await;
    big.send("x".repeat((64 << 10) + 1)).await;
    assert_eq!(big.farewell().await, (1009, "message_too_big".into()));

    let mut binary = Studio::joined(&gateway, "viewer").await;
    binary.socket.send(Message::binary(vec![0; 4])).await.unwrap();
    assert_eq!(binary.farewell().await, (1003, "not_text".into()));

    let mut flood = Studio::joined(&gateway, "viewer").await;
    for _ in 0..60 {
        // The gateway may have closed the socket before the last of them.
        let _ = flood.socket.send(Message::text(r#"{"id":1,"method":"ping"}"#)).await;
    }
    assert_eq!(flood.farewell().await, (4429, "rate_limited".into()));
}

#[tokio::test]
async fn silence_and_idleness_end_the_line() {
    let config = ws::Config { join_timeout_ms: 80, ping_interval_ms: 60, silence_ms: 200, ..impatient() };
    let gateway = Gateway::start_with(config, whip::Config::default()).await;
    assert_eq!(Studio::open(&gateway).await.farewell().await, (4401, "join_timeout".into()));

    let deaf = Studio::joined(&gateway, "viewer").await;
    // Pongs are sent only while the socket is read, so a studio that does not read is half open.
    gateway.heard.wait_for("leave").await;
    drop(deaf);

    let mut alive = Studio::joined(&gateway, "viewer").await;
    for _ in 0..8 {
        assert!(matches!(alive.frame().await, Some(Message::Ping(_))), "a pong for each ping keeps the line");
    }
}

#[tokio::test]
async fn a_dropped_socket_leaves_the_room() {
    let gateway = Gateway::start().await;
    drop(Studio::joined(&gateway, "musician").await);
    gateway.heard.wait_for("leave").await;
}

#[tokio::test]
async fn a_studio_that_does_not_read_is_put_out_and_the_others_stay() {
    let gateway = Gateway::start().await;
    let mut other = Studio::joined(&gateway, "viewer").await;
    let deaf = Studio::joined(&gateway, "viewer").await;
    let offer = Event::Offer { offer_id: 1, sdp: "x".repeat(60_000) };
    // 30 MB are more than the kernel keeps for a loopback socket.
    for _ in 0..500 {
        gateway.heard.tell(&offer);
        assert_eq!(other.hear().await["method"], "offer");
        if gateway.heard.requests().iter().any(|heard| heard == "leave") {
            break;
        }
    }
    gateway.heard.wait_for("leave").await;
    assert_eq!(other.call("ping", json!({})).await["ok"], true);
    drop(deaf);
}

#[tokio::test]
async fn being_removed_and_shutting_down_are_told() {
    let gateway = Gateway::start().await;
    let mut removed = Studio::joined(&gateway, "musician").await;
    gateway.heard.tell(&Event::Removed { reason: "kicked" });
    assert_eq!(removed.hear().await, json!({"method": "removed", "data": {"reason": "kicked"}}));
    assert_eq!(removed.farewell().await, (4410, "removed".into()));
    gateway.heard.wait_for("leave").await;
    let mut other = Studio::joined(&gateway, "musician").await;
    gateway.shutdown.cancel();
    assert_eq!(other.farewell().await, (1001, "shutting_down".into()));
}

#[tokio::test]
async fn not_everybody_may_open_a_socket() {
    let config = ws::Config {
        max_connections_per_ip: 1,
        allowed_origins: vec!["https://studio.example".into()],
        ..ws::Config::default()
    };
    let gateway = Gateway::start_with(config, whip::Config::default()).await;
    let protocol = ("sec-websocket-protocol", "jamcast.v1");
    let refused = |headers: Vec<(&'static str, &'static str)>| {
        let gateway = &gateway;
        async move { Studio::try_open(gateway, &headers).await.err() }
    };
    assert_eq!(refused(vec![]).await, Some(StatusCode::BAD_REQUEST));
    assert_eq!(refused(vec![("sec-websocket-protocol", "jamcast.v0")]).await, Some(StatusCode::BAD_REQUEST));
    assert_eq!(refused(vec![protocol, ("origin", "https://evil.example")]).await, Some(StatusCode::FORBIDDEN));
    let _first = Studio::try_open(&gateway, &[protocol, ("origin", "https://studio.example")]).await.unwrap();
    assert_eq!(refused(vec![protocol]).await, Some(StatusCode::TOO_MANY_REQUESTS));
}

/// Collects what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_token_and_no_password_is_ever_logged() {
    let log = Log::default();
    let writer = log.clone();
    let filter = tracing_subscriber::EnvFilter::new("debug,jamcast=trace");
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || writer.clone()).with_ansi(false).finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let gateway = Gateway::start().await;
    let mut studio = Studio::open(&gateway).await;
    studio.call("join", json!({"token": "canary-wrong"})).await;
    studio.call("join", json!({"token": 5, "canary-field": 1})).await;
    studio.call("join", json!({"token": "musician.jam.ada.canary-good"})).await;
    studio.call("connect", json!({"transport": "send", "sdp": "v=0"})).await;
    drop(studio);
    gateway.heard.wait_for("leave").await;
    let whip = format!("http://{}/whip/jam", gateway.address);
    for token in ["canary-wrong", "musician.jam.ada.canary-good"] {
        reqwest::Client::new().post(&whip).bearer_auth(token).body("v=0").send().await.unwrap();
    }
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("participant joined") && text.contains("participant left"), "{text}");
    assert!(!text.contains("canary") && !text.contains("sesame"), "{text}");
}
