//! A gateway with the real store, vault and tokens, whose SFU, mixers and network are not there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::HeaderMap;
use axum::http::Method;
use axum::http::Request;
use axum::http::StatusCode;
use axum::http::header;
use jamcast::driver::identity::Tokens;
use jamcast::driver::store::Db;
use jamcast::driver::vault::Keyring;
use jamcast::live::canvas::Canvases;
use jamcast::live::hls::Shelves;
use jamcast::live::port::Connection;
use jamcast::live::port::Dial;
use jamcast::live::port::DialError;
use jamcast::live::port::MixerError;
use jamcast::live::port::MixerLink;
use jamcast::live::port::Mixers;
use jamcast::live::port::Ports;
use jamcast::live::port::Store;
use jamcast::live::recordings::Folder;
use jamcast::live::registry;
use jamcast::live::registry::Registry;
use jamcast::live::rooms::Command;
use jamcast::live::rooms::Request as RoomRequest;
use jamcast::live::rooms::Rooms;
use jamcast::live::rooms::Roster;
use jamcast::live::rooms::Tap;
use jamcast::model::id::StreamId;
use jamcast::model::role::ApiRole;
use jamcast::model::spec::RtmpEndpoint;
use jamcast::web;
use jamcast::web::Gateway;
use jamcast::web::config::Config;
use jamcast::web::limits::Limits;
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

pub(crate) struct World {
    pub(crate) app: Router,
    pub(crate) gateway: Gateway,
    pub(crate) folder: TempDir,
    /// Everything that was answered: heads and bodies.
    pub(crate) transcript: Mutex<String>,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no header {name}")).to_str().expect("text")
    }

    /// Asserts that this is a problem with this status and code, and gives the pointers of its errors.
    pub(crate) fn problem(&self, status: u16, code: &str) -> Vec<String> {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!((&problem["status"], &problem["code"]), (&json!(status), &json!(code)), "{problem}");
        assert_eq!(problem["request_id"], self.header("x-request-id"));
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.len() > 10));
        let errors = problem["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|error| error["pointer"].as_str().expect("a pointer").to_owned()).collect()
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Config::default(), None).await
    }

    pub(crate) async fn with(config: Config, metrics: Option<PrometheusHandle>) -> Self {
        Self::around(rooms_of(Roster::default()), config, metrics).await
    }

    /// A world with these rooms.
    pub(crate) async fn around(rooms: Rooms, config: Config, metrics: Option<PrometheusHandle>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite:{}", folder.path().join("jamcast.db").display());
        let store: Arc<dyn Store> = Arc::new(Db::open(&url).await.expect("a database"));
        let vault = Arc::new(Keyring::load(None, &folder.path().join("master.key")).expect("a keyring"));
        let dial = Arc::new(FakeNetwork);
        let recordings = folder.path().join("recordings");
        std::fs::create_dir(&recordings).expect("a folder");
        let ports = Ports {
            rooms: rooms.clone(),
            canvases: Canvases::default(),
            shelves: Shelves::default(),
            mixers: Arc::new(SilentMixers::default()),
            dial: dial.clone(),
            vault: vault.clone(),
            store: store.clone(),
            recordings: Folder::without_limit(recordings.clone()),
        };
        let shutdown = CancellationToken::new();
        let gateway = Gateway {
            registry: Registry::new(ports, registry::Config::default(), shutdown.clone(), TaskTracker::new()),
            rooms,
            canvases: Canvases::default(),
            store,
            vault,
            dial,
            tiers: Arc::default(),
            identity: Arc::new(Tokens::new(&"s".repeat(32), None).expect("a long secret")),
            limits: Arc::new(Limits::new(&config.limits)),
            metrics,
            config: Arc::new(config),
            recordings: recordings.into(),
            draining: shutdown.child_token(),
            shutdown,
        };
        Self { app: web::router(&gateway), gateway, folder, transcript: Mutex::default() }
    }

    pub(crate) fn token(&self, user: &str, role: ApiRole) -> String {
        self.gateway.identity.mint_api(&user.parse().expect("a user"), role, 600)
    }

    pub(crate) fn streamer(&self, user: &str) -> String {
        self.token(user, ApiRole::Streamer)
    }

    pub(crate) async fn raw(&self, mut request: Request<Body>) -> Answer {
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 50_000))));
        let response = self.app.clone().oneshot(request).await.expect("a router does not fail");
        let (head, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 1 << 24).await.expect("a body").to_vec();
        let mut transcript = self.transcript.lock().expect("one thread");
        transcript.push_str(&format!("{:?}\n{}\n", head.headers, String::from_utf8_lossy(&body)));
        Answer { status: head.status, headers: head.headers, body }
    }

    pub(crate) async fn send(&self, method: Method, path: &str, token: &str, body: Option<Value>) -> Answer {
        self.send_with(method, path, token, body, &[]).await
    }

    pub(crate) async fn send_with(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !token.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        self.raw(request.body(body).expect("a request")).await
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Answer {
        self.send(Method::GET, path, token, None).await
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: Value) -> Answer {
        self.send(Method::POST, path, token, Some(body)).await
    }

    /// Creates something and gives its id.
    pub(crate) async fn create(&self, path: &str, token: &str, body: Value) -> String {
        let answer = self.post(path, token, body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
        answer.json()["id"].as_str().expect("an id").to_owned()
    }

    pub(crate) async fn room(&self, token: &str, id: &str) -> String {
        self.create("/api/v1/rooms", token, json!({"id": id, "title": "Jam night"})).await
    }

    pub(crate) async fn destination(&self, token: &str, platform: &str) -> String {
        let body = json!({
            "name": "Our channel", "platform": platform, "url": "rtmps://ingest.example/live", "key": "live_key_12345"
        });
        self.create("/api/v1/destinations", token, body).await
    }

    /// A room, a destination and a stream of this user.
    pub(crate) async fn stream(&self, token: &str, room: &str) -> String {
        self.room(token, room).await;
        let destination = self.destination(token, "custom").await;
        let body = json!({"room": room, "title": "Tonight", "destinations": [destination], "record": false});
        self.create("/api/v1/streams", token, body).await
    }
}

/// Rooms in which these people are and say nothing, for as long as somebody asks.
pub(crate) fn rooms_of(people: Roster) -> Rooms {
    let (commands, mut worker) = mpsc::channel::<Command>(64);
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Some(command) = worker.recv().await {
            if let RoomRequest::Tap { reply } = command.request {
                let (seats, roster) = watch::channel(people.clone());
                let (packets, media) = mpsc::channel(1);
                held.push((seats, packets));
                let _gone = reply.send(Ok(Tap { roster, media, repair: Duration::ZERO }));
            }
        }
    });
    Rooms::new(vec![commands])
}

/// Knows the hosts under `.example`, of which `private.example` is where nobody may go; never connects.
struct FakeNetwork;

#[async_trait]
impl Dial for FakeNetwork {
    async fn dial(&self, endpoint: &RtmpEndpoint) -> Result<Box<dyn Connection>, DialError> {
        Err(DialError::TimedOut { host: endpoint.host.clone(), port: endpoint.port })
    }

    async fn check(&self, endpoint: &RtmpEndpoint) -> Result<Vec<SocketAddr>, DialError> {
        let host = endpoint.host.clone();
        match host.as_str() {
            "private.example" => Err(DialError::Forbidden { host, address: "10.0.0.1".to_owned() }),
            known if known.ends_with(".example") => Ok(vec![SocketAddr::from(([192, 0, 2, 1], endpoint.port))]),
            _ => Err(DialError::Resolve { host }),
        }
    }
}

/// Mixers that take everything and never say a word.
#[derive(Default)]
struct SilentMixers {
    held: Mutex<Vec<Box<dyn std::any::Any + Send>>>,
}

#[async_trait]
impl Mixers for SilentMixers {
    async fn start(&self, _stream: StreamId) -> Result<MixerLink, MixerError> {
        let (commands, taken) = mpsc::channel(1024);
        let (silence, events) = mpsc::channel(1);
        self.held.lock().expect("one thread").push(Box::new((taken, silence)));
        Ok(MixerLink { pid: 0, commands, events })
    }
}
