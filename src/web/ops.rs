//! Metrics and health for machines: /metrics, /livez, /readyz.

use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use metrics_process::Collector;
use serde_json::Value;
use serde_json::json;

use crate::live::registry::Registry;
use crate::web::Gateway;
use crate::web::on_air;
use crate::web::problem::Problem;

/// Upper bounds of `jamcast_http_request_duration_seconds`, for the recorder: from a look-up in memory to the request timeout.
pub const HTTP_DURATION_BUCKETS_S: [f64; 9] = [0.001, 0.005, 0.02, 0.05, 0.1, 0.3, 1.0, 3.0, 15.0];

/// How long the store may take to answer before the gateway counts as not ready; probes usually wait for 1 to 5 s.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// Says what the metrics of this floor mean; to be called once, after the recorder is installed.
pub fn describe() {
    Collector::default().describe();
    metrics::describe_counter!("jamcast_http_requests_total", "HTTP requests answered, by method, route and status");
    metrics::describe_histogram!(
        "jamcast_http_request_duration_seconds",
        metrics::Unit::Seconds,
        "Time to the head of an HTTP answer, by method and route"
    );
    metrics::describe_counter!("jamcast_http_rate_limited_total", "HTTP requests refused with 429, by class");
    metrics::describe_counter!("jamcast_http_panics_total", "Panics in HTTP handlers; each is a bug");
    metrics::describe_counter!(
        "jamcast_hls_bytes_total",
        metrics::Unit::Bytes,
        "Playlists and segments answered to viewers, bytes"
    );
    metrics::describe_gauge!("jamcast_http_event_streams", "Open streams of server-sent events");
}

/// Probes and, if switched on, metrics.
pub fn ops_router(gateway: &Gateway) -> Router {
    probes(gateway).merge(metrics_router(gateway))
}

/// `/livez` answers as long as the process serves; `/readyz` as long as new work should be sent here.
pub fn probes(gateway: &Gateway) -> Router {
    Router::new().route("/livez", get(live)).route("/readyz", get(ready)).with_state(gateway.clone())
}

/// `/metrics` in the text format of Prometheus; nothing when metrics are switched off.
pub fn metrics_router(gateway: &Gateway) -> Router {
    match &gateway.metrics {
        Some(handle) if gateway.config.metrics_enabled => {
            Router::new().route("/metrics", get(render)).with_state((handle.clone(), gateway.registry.clone()))
        }
        Some(_) | None => Router::new(),
    }
}

async fn live() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

async fn ready(State(gateway): State<Gateway>) -> Result<Json<Value>, Problem> {
    let unready = |code, detail| Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail));
    if gateway.draining.is_cancelled() {
        return unready("draining", "the gateway is shutting down and takes no new work");
    }
    if gateway.rooms.dead_workers() > 0 {
        return unready("media_worker_dead", "a media worker has ended and its rooms with it; restart the gateway");
    }
    match tokio::time::timeout(PING_TIMEOUT, gateway.store.ping()).await {
        Ok(Ok(())) => Ok(Json(json!({ "status": "ok" }))),
        Ok(Err(_)) | Err(_) => unready("store_unavailable", "the database does not answer"),
    }
}

async fn render(State((handle, registry)): State<(PrometheusHandle, Registry)>) -> impl IntoResponse {
    Collector::default().collect();
    let text = handle.render() + &on_air::render(&registry.running());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}
