//! Settings of the public face.

use std::net::SocketAddr;

use serde::Deserialize;
use url::Url;

use crate::domain::network::Network;
use crate::proto::signal::IceServer;
use crate::web::canvas;
use crate::web::ice;
use crate::web::limits;
use crate::web::listener;
use crate::web::whip;
use crate::web::ws;

/// The `[http]` section of the configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where people reach this gateway, as they type it; links to the studio begin with it.
    pub public_url: Url,
    /// The largest request body, bytes. An SDP offer of ten tracks has under 20 000, the largest JSON body under 10 000.
    pub body_limit_bytes: usize,
    /// The longest time to the head of an answer. Longer than any honest request takes, short enough to free what a stuck one
    /// holds. Streams of events and downloads may go on after it.
    pub request_timeout_ms: u64,
    /// The longest life of a room token. A day holds a rehearsal and the show.
    pub room_token_ttl_max_s: u64,
    /// After this long an event stream is ended, so that its reader comes back with a token that is still valid.
    pub events_max_ms: u64,
    /// METRICS_ENABLED: whether `/metrics` exists.
    pub metrics_enabled: bool,
    /// A listener of its own for `/metrics`; without one they are served beside everything else.
    pub metrics_listen: Option<SocketAddr>,
    /// Proxies before the gateway that add the caller's address to `X-Forwarded-For`; from anybody else that header counts for
    /// nothing, or callers could choose their own address.
    pub trusted_proxies: Vec<Network>,
    pub listener: listener::Config,
    pub limits: limits::Config,
    pub ws: ws::Config,
    pub whip: whip::Config,
    pub canvas: canvas::Config,
    /// STUN and TURN servers told to everybody who enters a room.
    pub ice_servers: Vec<IceServer>,
    pub turn: ice::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            public_url: Url::parse("http://127.0.0.1:8080").expect("a well-formed URL"),
            body_limit_bytes: 64 * 1024,
            request_timeout_ms: 15_000,
            room_token_ttl_max_s: 24 * 3600,
            events_max_ms: 15 * 60 * 1000,
            metrics_enabled: true,
            metrics_listen: None,
            trusted_proxies: Vec::new(),
            listener: listener::Config::default(),
            limits: limits::Config::default(),
            ws: ws::Config::default(),
            whip: whip::Config::default(),
            canvas: canvas::Config::default(),
            ice_servers: Vec::new(),
            turn: ice::Config::default(),
        }
    }
}

impl Config {
    /// A link to the studio. The token is in the fragment, which browsers never send to a server.
    pub fn studio_url(&self, room_token: &str) -> String {
        format!("{}/#token={room_token}", self.public_url.as_str().trim_end_matches('/'))
    }

    /// What is wrong with values that are well-formed each for itself; names the key.
    pub fn complaint(&self) -> Option<String> {
        ice::complaint(&self.ice_servers, &self.turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_studio_link_keeps_the_token_in_its_fragment() {
        let config = Config { public_url: "https://jam.example/".parse().expect("a URL"), ..Config::default() };
        assert_eq!(config.studio_url("abc"), "https://jam.example/#token=abc");
    }
}
