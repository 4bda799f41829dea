//! The door of a WebSocket: what is spoken behind it, which pages may open it, and how many can be inside.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Extension;
use axum::Router;
use axum::extract::ConnectInfo;
use axum::extract::ws::WebSocket;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::any;

use crate::web::limits::network_of;
use crate::web::origin::is_welcome;
use crate::web::places::Full;
use crate::web::places::Places;
use crate::web::problem::Problem;

/// How long a caller should wait when there are too many connections.
const RETRY_AFTER_S: u64 = 5;

pub(crate) struct Door {
    /// The sub-protocol.
    pub(crate) protocol: &'static str,
    /// Bytes of a message.
    pub(crate) max_message: usize,
    /// Origins of pages that may open it besides the gateway's own.
    pub(crate) allowed_origins: Vec<String>,
    /// The setting that they are in.
    pub(crate) origins_setting: &'static str,
    pub(crate) places: Places<IpAddr>,
}

impl Door {
    /// The route that leads through it, to who serves a socket for as long as it is open. Without `into_make_service_with_connect_info`
    /// the limit per address does not apply.
    pub(crate) fn route<S, F>(self, path: &str, serve: S) -> Router
    where
        S: Fn(WebSocket) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let door = Arc::new(self);
        let open = move |headers: HeaderMap,
                         peer: Option<Extension<ConnectInfo<SocketAddr>>>,
                         upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>| {
            let peer = peer.map(|Extension(ConnectInfo(address))| address);
            let opened = door.open(&headers, peer, upgrade, serve.clone());
            std::future::ready(opened.unwrap_or_else(IntoResponse::into_response))
        };
        Router::new().route(path, any(open))
    }

    fn open<S, F>(
        &self,
        headers: &HeaderMap,
        peer: Option<SocketAddr>,
        upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
        serve: S,
    ) -> Result<Response, Problem>
    where
        S: Fn(WebSocket) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let upgrade = upgrade.map_err(|error| {
            Problem::new(error.status(), "websocket_expected", format!("this is a WebSocket endpoint: {error}"))
        })?;
        let upgrade = upgrade.protocols([self.protocol]);
        if upgrade.selected_protocol().is_none() {
            let asked = headers.get(header::SEC_WEBSOCKET_PROTOCOL).and_then(|asked| asked.to_str().ok());
            let asked = asked.map_or_else(String::new, |asked| format!(", not {asked}"));
            let detail =
                format!("this gateway speaks {} here{asked}; name it in Sec-WebSocket-Protocol", self.protocol);
            return Err(Problem::new(StatusCode::BAD_REQUEST, "unsupported_protocol", detail));
        }
        if !is_welcome(headers, &self.allowed_origins) {
            let setting = self.origins_setting;
            let detail = format!("pages of this origin may not connect; an operator can allow it in `{setting}`");
            return Err(Problem::new(StatusCode::FORBIDDEN, "origin_not_allowed", detail));
        }
        let place = self.places.take(peer.map(|peer| network_of(peer.ip()))).map_err(|full| {
            let (status, code) = match full {
                Full::Process => (StatusCode::SERVICE_UNAVAILABLE, "too_many_connections"),
                Full::Caller => (StatusCode::TOO_MANY_REQUESTS, "too_many_connections_from_address"),
            };
            Problem::new(status, code, "too many connections are open; try again soon").with_retry_after(RETRY_AFTER_S)
        })?;
        // A write buffer of 0 writes each message at once, so that a socket that does not take it is noticed at that message.
        let upgrade = upgrade.max_message_size(self.max_message).max_frame_size(self.max_message).write_buffer_size(0);
        Ok(upgrade.on_upgrade(move |socket| async move {
            serve(socket).await;
            drop(place);
        }))
    }
}
