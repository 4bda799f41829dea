//! HTTP connections: how many there are, how long they may take to ask, and how they end.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::web::config;
use crate::web::limits::network_of;
use crate::web::places::Places;

/// A failing `accept` (no file descriptors left) is tried again after this pause.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The `[http.listener]` section of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// From the first moment a request could be read to the end of its header: the longest a caller may take to ask, and the longest
    /// a connection may rest between two requests. A proxy that keeps connections must let go of them sooner.
    pub header_read_timeout_ms: u64,
    /// Connections open at once. One that became a WebSocket counts with `[http.ws]` instead.
    pub max_connections: usize,
    /// Connections open at once from one IPv4 address or IPv6 /64 network; proxies that are trusted have no such limit.
    pub max_connections_per_ip: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { header_read_timeout_ms: 30_000, max_connections: 10_000, max_connections_per_ip: 256 }
    }
}

/// Serves these routes until `shutdown`, and then the requests that were already asked.
pub async fn serve(listener: TcpListener, routes: Router, config: &config::Config, shutdown: CancellationToken) {
    let limits = &config.listener;
    let places = Places::new("jamcast_http_connections", limits.max_connections, limits.max_connections_per_ip);
    let header_read_timeout = Duration::from_millis(limits.header_read_timeout_ms.max(1));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let is_proxy = config.trusted_proxies.iter().any(|proxy| proxy.contains(peer.ip()));
        let Ok(place) = places.take((!is_proxy).then(|| network_of(peer.ip()))) else {
            // Nothing is said: who opens this many connections reads nothing, and an answer would wait for a request.
            metrics::counter!("jamcast_http_connections_refused_total").increment(1);
            tracing::debug!(%peer, "too many connections");
            continue;
        };
        let (routes, shutdown) = (routes.clone(), shutdown.clone());
        connections.spawn(async move {
            converse(stream, peer, routes, header_read_timeout, &shutdown).await;
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// One connection to its end, or to the moment it becomes a WebSocket.
async fn converse(
    stream: TcpStream,
    peer: SocketAddr,
    routes: Router,
    header_read_timeout: Duration,
    shutdown: &CancellationToken,
) {
    // Events are small and must not wait for more of them; a socket that refuses this is dead anyway.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        routes.clone().oneshot(request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_read_timeout)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        if error.is_timeout() {
            metrics::counter!("jamcast_http_slow_headers_total").increment(1);
        }
        tracing::debug!(%peer, %error, "a connection ended early");
    }
}
