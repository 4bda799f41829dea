//! Signalling over the WebSocket `/media-relay`: who may open one, and how many.

mod carry;
mod cloakroom;
mod line;

use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::Router;
use axum::extract::ConnectInfo;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::any;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::live::port::Identity;
use crate::live::rooms::Rooms;
use crate::proto::signal::Limits;
use crate::proto::signal::MAX_MESSAGE;
use crate::proto::signal::SUB_PROTOCOL;
use crate::web::ice::IceServers;
use crate::web::limits::network_of;
use crate::web::origin::is_welcome;
use crate::web::places::Full;
use crate::web::places::Places;
use crate::web::problem::Problem;
use crate::web::ws::cloakroom::Cloakroom;

/// How long a caller should wait when there are too many connections.
const RETRY_AFTER_S: u64 = 5;

/// Settings of the signalling socket.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Sockets open at once in this process; each costs about 40 KiB.
    pub max_connections: usize,
    /// Sockets open at once from one IPv4 address or IPv6 /64 network; a whole school may sit behind one address.
    pub max_connections_per_ip: usize,
    /// Origins of pages that may open the socket besides the gateway's own, such as `https://studio.example`.
    pub allowed_origins: Vec<String>,
    /// From opening the socket to a successful `join`, 1 ms at least.
    pub join_timeout_ms: u64,
    /// Between two pings.
    pub ping_interval_ms: u64,
    /// Without any frame for this long the participant is gone; more than two pings should fit.
    pub silence_ms: u64,
    /// How long a participant whose line broke keeps its place.
    pub resume_within_ms: u64,
    /// Frames that may arrive at once.
    pub message_burst: u32,
    /// Frames a second that may arrive for ever.
    pub messages_per_second: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_connections: 2000,
            max_connections_per_ip: 64,
            allowed_origins: Vec::new(),
            join_timeout_ms: 10_000,
            ping_interval_ms: 15_000,
            silence_ms: 30_000,
            resume_within_ms: 30_000,
            message_burst: 50,
            messages_per_second: 20,
        }
    }
}

impl Config {
    fn limits(&self) -> Limits {
        Limits {
            join_timeout: Duration::from_millis(self.join_timeout_ms),
            ping_interval: Duration::from_millis(self.ping_interval_ms),
            silence: Duration::from_millis(self.silence_ms),
            burst: self.message_burst,
            per_second: self.messages_per_second,
            ..Limits::default()
        }
    }
}

/// What the signalling socket needs of the gateway.
#[derive(Clone)]
pub struct State {
    pub rooms: Rooms,
    pub identity: Arc<dyn Identity>,
    pub config: Arc<Config>,
    /// STUN and TURN servers told to everybody who joins.
    pub ice_servers: IceServers,
    /// Ends every conversation.
    pub shutdown: CancellationToken,
}

/// What a line works with.
#[derive(Clone)]
struct Desk {
    state: State,
    cloakroom: Cloakroom,
}

/// The route `/media-relay`. Without `into_make_service_with_connect_info` the limit per address does not apply.
pub fn routes(state: State) -> Router {
    let Config { max_connections, max_connections_per_ip, resume_within_ms, .. } = *state.config;
    let slots = Places::new("jamcast_signal_connections", max_connections, max_connections_per_ip);
    let cloakroom = Cloakroom::new(Duration::from_millis(resume_within_ms));
    let desk = Desk { state, cloakroom };
    let open = move |headers: HeaderMap,
                     peer: Option<Extension<ConnectInfo<SocketAddr>>>,
                     upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>| {
        let opened = open(&desk, &slots, &headers, peer.map(|Extension(ConnectInfo(address))| address), upgrade);
        std::future::ready(opened.unwrap_or_else(IntoResponse::into_response))
    };
    Router::new().route("/media-relay", any(open))
}

fn open(
    desk: &Desk,
    slots: &Places<IpAddr>,
    headers: &HeaderMap,
    peer: Option<SocketAddr>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let upgrade = upgrade.map_err(|error| {
        Problem::new(error.status(), "websocket_expected", format!("this is a WebSocket endpoint: {error}"))
    })?;
    let upgrade = upgrade.protocols([SUB_PROTOCOL]);
    if upgrade.selected_protocol().is_none() {
        let asked = headers.get(header::SEC_WEBSOCKET_PROTOCOL).and_then(|asked| asked.to_str().ok());
        let asked = asked.map_or_else(String::new, |asked| format!(", not {asked}"));
        let detail = format!("this gateway speaks {SUB_PROTOCOL}{asked}; name it in Sec-WebSocket-Protocol");
        return Err(Problem::new(StatusCode::BAD_REQUEST, "unsupported_protocol", detail));
    }
    if !is_welcome(headers, &desk.state.config.allowed_origins) {
        let detail = "pages of this origin may not connect; an operator can allow it in `allowed_origins`";
        return Err(Problem::new(StatusCode::FORBIDDEN, "origin_not_allowed", detail));
    }
    let slot = slots.take(peer.map(|peer| network_of(peer.ip()))).map_err(|full| {
        let (status, code) = match full {
            Full::Process => (StatusCode::SERVICE_UNAVAILABLE, "too_many_connections"),
            Full::Caller => (StatusCode::TOO_MANY_REQUESTS, "too_many_connections_from_address"),
        };
        Problem::new(status, code, "too many connections are open; try again soon").with_retry_after(RETRY_AFTER_S)
    })?;
    let desk = desk.clone();
    // A write buffer of 0 writes each message at once, so that a socket that does not take it is noticed at that message.
    let upgrade = upgrade.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE).write_buffer_size(0);
    Ok(upgrade.on_upgrade(move |socket| async move {
        line::converse(socket, &desk).await;
        drop(slot);
    }))
}
