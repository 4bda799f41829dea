//! The public face: REST API, signalling, WHIP and WHEP, the studio's files, metrics and health.

pub mod api;
pub mod auth;
pub mod canvas;
pub mod config;
mod door;
pub mod extract;
pub mod hls;
pub mod ice;
pub mod limits;
pub mod listener;
pub mod observe;
mod on_air;
pub mod ops;
mod origin;
pub mod places;
pub mod problem;
mod seat;
pub mod studio;
pub mod whip;
pub mod ws;

use std::any::Any;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::middleware;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::TimeoutLayer;

use crate::domain::network::Network;
use crate::domain::tier::Tiers;
use crate::live::canvas::Canvases;
use crate::live::port::Dial;
use crate::live::port::Identity;
use crate::live::port::Store;
use crate::live::port::StoreError;
use crate::live::port::Vault;
use crate::live::registry::Registry;
use crate::live::registry::StreamError;
use crate::live::rooms::Rooms;
use crate::model::fault::Fault;
use crate::model::fault::Faulty;
use crate::web::config::Config;
use crate::web::ice::IceServers;
use crate::web::limits::Limits;
use crate::web::problem::Problem;
use crate::web::problem::fault_status;

/// When to try again what was refused for lack of room, seconds.
const RETRY_AFTER_S: u64 = 10;

/// Everything the public face may ask of the rest, handed to every route as one value.
#[derive(Clone)]
pub struct Gateway {
    pub registry: Registry,
    pub rooms: Rooms,
    pub canvases: Canvases,
    pub store: Arc<dyn Store>,
    pub vault: Arc<dyn Vault>,
    pub dial: Arc<dyn Dial>,
    pub identity: Arc<dyn Identity>,
    /// What streams are asked for by name.
    pub tiers: Arc<Tiers>,
    pub limits: Arc<Limits>,
    /// Renders what the recorder has; `None` where none is installed.
    pub metrics: Option<PrometheusHandle>,
    pub config: Arc<Config>,
    /// Folder the recordings are in.
    pub recordings: Arc<Path>,
    /// Cancelled as soon as the gateway is told to stop: it is not ready from then on, while broadcasts are brought to their end.
    pub draining: CancellationToken,
    /// Cancelled when they have ended: event streams, sockets and the listeners go.
    pub shutdown: CancellationToken,
}

impl Gateway {
    /// Tells load balancers to send new work elsewhere, stops every stream, and waits for them to end; tells how many had not when
    /// `deadline` had passed. Everything else is served meanwhile.
    pub async fn drain(&self, deadline: Duration) -> usize {
        self.draining.cancel();
        self.registry.drain(deadline).await
    }
}

/// Everything that is served at the public address.
pub fn router(gateway: &Gateway) -> Router {
    let (api, openapi) = api::v1::router(gateway);
    let routes = Router::new()
        .merge(api)
        .merge(description(&openapi))
        .merge(ops::probes(gateway))
        .merge(rooms(gateway))
        .merge(hls::routes(gateway))
        .fallback_service(get(studio::serve).layer(CompressionLayer::new()));
    let routes = match gateway.config.metrics_listen {
        None => routes.merge(ops::metrics_router(gateway)),
        Some(_) => routes,
    };
    wrap(routes, &gateway.config)
}

/// The ways into a room: signalling, WHIP and WHEP, and its canvas.
fn rooms(gateway: &Gateway) -> Router {
    let ice_servers = IceServers::new(&gateway.config.ice_servers, &gateway.config.turn);
    let signalling = ws::routes(ws::State {
        rooms: gateway.rooms.clone(),
        identity: gateway.identity.clone(),
        config: Arc::new(gateway.config.ws.clone()),
        ice_servers: ice_servers.clone(),
        shutdown: gateway.shutdown.clone(),
    });
    let canvas = canvas::routes(canvas::State {
        canvases: gateway.canvases.clone(),
        identity: gateway.identity.clone(),
        config: Arc::new(gateway.config.canvas.clone()),
        shutdown: gateway.shutdown.clone(),
    });
    signalling.merge(canvas).merge(whip::routes(whip::State {
        rooms: gateway.rooms.clone(),
        identity: gateway.identity.clone(),
        config: Arc::new(gateway.config.whip.clone()),
        ice_servers,
        shutdown: gateway.shutdown.clone(),
    }))
}

/// The layers around every route, the innermost first.
fn wrap(routes: Router, config: &Config) -> Router {
    // It bounds the time to an answer's head only, so that events, downloads and WebSockets go on.
    let timeout = Duration::from_millis(config.request_timeout_ms);
    let mut routes = routes
        .layer(RequestBodyLimitLayer::new(config.body_limit_bytes))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, timeout))
        .layer(CatchPanicLayer::custom(after_panic));
    for (name, value) in security_headers(config) {
        routes = routes.layer(SetResponseHeaderLayer::if_not_present(name, value));
    }
    let proxies: Arc<[Network]> = config.trusted_proxies.clone().into();
    routes
        .layer(middleware::from_fn(observe::observe))
        .layer(middleware::from_fn_with_state(proxies, auth::see_through_proxies))
}

/// The API's description, rendered once.
fn description(openapi: &utoipa::openapi::OpenApi) -> Router {
    let json = openapi.to_pretty_json().expect("a description is plain values");
    let json = Bytes::from(json);
    let answer = move || std::future::ready(([(header::CONTENT_TYPE, "application/json")], json));
    let route = get(answer).layer(CompressionLayer::new());
    Router::new().route("/openapi.json", route.clone()).route("/api/v1/openapi.json", route)
}

/// What browsers are to refuse on our pages: everything from elsewhere, every frame around us, every device but those of a studio.
fn security_headers(config: &Config) -> Vec<(HeaderName, HeaderValue)> {
    let url = &config.public_url;
    let tls = url.scheme() == "https";
    // Older Safari does not count WebSockets of the same host as 'self'.
    let websocket = format!("{}://{}", if tls { "wss" } else { "ws" }, url.authority());
    let policy = format!(
        "default-src 'self'; connect-src 'self' {websocket}; img-src 'self' blob: data:; media-src 'self' blob: mediastream:; \
         worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    );
    let policy = HeaderValue::from_str(&policy).expect("a URL's authority is plain ASCII");
    let devices = "microphone=(self), camera=(self), display-capture=(self), geolocation=(), payment=(), usb=()";
    let mut headers = vec![
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (HeaderName::from_static("permissions-policy"), HeaderValue::from_static(devices)),
        (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    ];
    if tls {
        let year = HeaderValue::from_static("max-age=31536000");
        headers.push((header::STRICT_TRANSPORT_SECURITY, year));
    }
    headers
}

/// The answer of a handler that panicked. The panic's message stays with the panic hook: it may hold anything.
fn after_panic(_panic: Box<dyn Any + Send>) -> Response {
    metrics::counter!("jamcast_http_panics_total").increment(1);
    internal().into_response()
}

fn internal() -> Problem {
    let detail = "something went wrong on our side; quote the request id when you report it";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict => Self::new(StatusCode::CONFLICT, "conflict", error.to_string()),
            StoreError::Database(reason) => {
                tracing::error!(%reason, "the store failed");
                internal()
            }
        }
    }
}

impl From<StreamError> for Problem {
    fn from(error: StreamError) -> Self {
        let status = match (error.fault(), error.code()) {
            (_, "not_found") => StatusCode::NOT_FOUND,
            (_, "idempotency_key_reused" | "unknown_room" | "unknown_destination") => StatusCode::UNPROCESSABLE_ENTITY,
            // Only the caller can mend it, by entering the key again.
            (_, "key_unreadable") => StatusCode::CONFLICT,
            (Fault::Client, _) => StatusCode::CONFLICT,
            (Fault::Internal, _) => {
                tracing::error!(%error, "a stream failed");
                return internal();
            }
            (fault @ (Fault::Destination | Fault::Transient), code) => {
                return Self::new(fault_status(fault), code, error.to_string()).with_retry_after(RETRY_AFTER_S);
            }
        };
        Self::new(status, error.code(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    async fn boom() {
        panic!("CANARY");
    }

    async fn stuck() {
        std::future::pending().await
    }

    async fn ask(path: &str) -> (StatusCode, Problem, String) {
        let routes = Router::new().route("/boom", get(boom)).route("/stuck", get(stuck));
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let response = wrap(routes, &Config::default()).oneshot(request).await.expect("a router does not fail");
        let status = response.status();
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.expect("a body");
        let text = String::from_utf8(body.to_vec()).expect("text");
        (status, serde_json::from_str(&text).expect("a problem"), text)
    }

    #[tokio::test]
    async fn a_panic_is_a_problem_that_does_not_repeat_its_message() {
        let (status, problem, text) = ask("/boom").await;
        assert_eq!((status, problem.code.as_str()), (StatusCode::INTERNAL_SERVER_ERROR, "internal"));
        assert!(problem.request_id.is_some());
        assert!(!text.contains("CANARY"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stuck_handler_is_given_up() {
        let (status, problem, _) = ask("/stuck").await;
        assert_eq!((status, problem.code.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "timed_out"));
    }
}
