//! The canvas relay at the WebSocket `/rtmp-relay`: who may open one, and how many.

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
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::any;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::live::canvas::Canvases;
use crate::live::port::Identity;
use crate::proto::canvas::MAX_MESSAGE;
use crate::proto::canvas::SUB_PROTOCOL;
use crate::web::limits::network_of;
use crate::web::origin::is_welcome;
use crate::web::places::Full;
use crate::web::places::Places;
use crate::web::problem::Problem;

/// How long a caller should wait when there are too many connections.
const RETRY_AFTER_S: u64 = 5;

/// Settings of the canvas relay.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Sockets open at once in this process; one with raw frames holds up to 60 MiB.
    pub max_connections: usize,
    /// Sockets open at once from one IPv4 address or IPv6 /64 network.
    pub max_connections_per_ip: usize,
    /// Origins of pages that may open the socket besides the gateway's own.
    pub allowed_origins: Vec<String>,
    /// From opening the socket to a successful `open`, 1 ms at least.
    pub open_timeout_ms: u64,
    /// Between two pings.
    pub ping_interval_ms: u64,
    /// Without any message for this long the sender is gone; more than two pings should fit.
    pub silence_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_connections: 64,
            max_connections_per_ip: 8,
            allowed_origins: Vec::new(),
            open_timeout_ms: 10_000,
            ping_interval_ms: 5_000,
            silence_ms: 15_000,
        }
    }
}

/// What the canvas relay needs of the gateway.
#[derive(Clone)]
pub struct State {
    pub canvases: Canvases,
    pub identity: Arc<dyn Identity>,
    pub config: Arc<Config>,
    /// Closes every socket.
    pub shutdown: CancellationToken,
}

/// The route `/rtmp-relay`. Without `into_make_service_with_connect_info` the limit per address does not apply.
pub fn routes(state: State) -> Router {
    let places =
        Places::new("jamcast_canvas_connections", state.config.max_connections, state.config.max_connections_per_ip);
    let open = move |headers: HeaderMap,
                     peer: Option<Extension<ConnectInfo<SocketAddr>>>,
                     upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>| {
        let opened = open(&state, &places, &headers, peer.map(|Extension(ConnectInfo(address))| address), upgrade);
        std::future::ready(opened.unwrap_or_else(IntoResponse::into_response))
    };
    Router::new().route("/rtmp-relay", any(open))
}

fn open(
    state: &State,
    places: &Places<IpAddr>,
    headers: &HeaderMap,
    peer: Option<SocketAddr>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let upgrade = upgrade.map_err(|error| {
        Problem::new(error.status(), "websocket_expected", format!("this is a WebSocket endpoint: {error}"))
    })?;
    let upgrade = upgrade.protocols([SUB_PROTOCOL]);
    if upgrade.selected_protocol().is_none() {
        let detail = format!("this gateway speaks {SUB_PROTOCOL} here; name it in Sec-WebSocket-Protocol");
        return Err(Problem::new(StatusCode::BAD_REQUEST, "unsupported_protocol", detail));
    }
    if !is_welcome(headers, &state.config.allowed_origins) {
        let detail = "pages of this origin may not connect; an operator can allow it in `http.canvas.allowed_origins`";
        return Err(Problem::new(StatusCode::FORBIDDEN, "origin_not_allowed", detail));
    }
    let place = places.take(peer.map(|peer| network_of(peer.ip()))).map_err(|full| {
        let (status, code) = match full {
            Full::Process => (StatusCode::SERVICE_UNAVAILABLE, "too_many_connections"),
            Full::Caller => (StatusCode::TOO_MANY_REQUESTS, "too_many_connections_from_address"),
        };
        Problem::new(status, code, "too many canvases are open; try again soon").with_retry_after(RETRY_AFTER_S)
    })?;
    let state = state.clone();
    let upgrade = upgrade.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE).write_buffer_size(0);
    Ok(upgrade.on_upgrade(move |socket| async move {
        line::relay(socket, &state).await;
        drop(place);
    }))
}

impl Config {
    fn open_timeout(&self) -> Duration {
        Duration::from_millis(self.open_timeout_ms)
    }

    fn ping_interval(&self) -> Duration {
        Duration::from_millis(self.ping_interval_ms)
    }

    fn silence(&self) -> Duration {
        Duration::from_millis(self.silence_ms)
    }
}
