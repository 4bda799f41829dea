//! Signalling over the WebSocket `/media-relay`: who may open one, and how many.

mod carry;
mod cloakroom;
mod line;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::live::port::Identity;
use crate::live::rooms::Rooms;
use crate::proto::signal::Limits;
use crate::proto::signal::MAX_MESSAGE;
use crate::proto::signal::SUB_PROTOCOL;
use crate::web::door::Door;
use crate::web::ice::IceServers;
use crate::web::places::Places;
use crate::web::ws::cloakroom::Cloakroom;

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
    let Config { max_connections, max_connections_per_ip, resume_within_ms, ref allowed_origins, .. } = *state.config;
    let door = Door {
        protocol: SUB_PROTOCOL,
        max_message: MAX_MESSAGE,
        allowed_origins: allowed_origins.clone(),
        origins_setting: "http.ws.allowed_origins",
        places: Places::new("jamcast_signal_connections", max_connections, max_connections_per_ip),
    };
    let cloakroom = Cloakroom::new(Duration::from_millis(resume_within_ms));
    let desk = Desk { state, cloakroom };
    door.route("/media-relay", move |socket| {
        let desk = desk.clone();
        async move { line::converse(socket, &desk).await }
    })
}
