//! The canvas relay at the WebSocket `/rtmp-relay`: who may open one, and how many.

mod line;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::live::canvas::Canvases;
use crate::live::port::Identity;
use crate::proto::canvas::MAX_MESSAGE;
use crate::proto::canvas::SUB_PROTOCOL;
use crate::web::door::Door;
use crate::web::places::Places;

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
    let Config { max_connections, max_connections_per_ip, ref allowed_origins, .. } = *state.config;
    let door = Door {
        protocol: SUB_PROTOCOL,
        max_message: MAX_MESSAGE,
        allowed_origins: allowed_origins.clone(),
        origins_setting: "http.canvas.allowed_origins",
        places: Places::new("jamcast_canvas_connections", max_connections, max_connections_per_ip),
    };
    door.route("/rtmp-relay", move |socket| {
        let state = state.clone();
        async move { line::relay(socket, &state).await }
    })
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
