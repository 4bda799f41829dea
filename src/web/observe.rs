//! What every request gets: an id, a span, metrics, and errors that are problems whoever answered them.

use std::time::Duration;
use std::time::Instant;

use axum::body::Body;
use axum::extract::MatchedPath;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::Method;
use axum::http::StatusCode;
use axum::http::header;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;
use tracing::Instrument;
use uuid::Uuid;

use crate::web::problem::Problem;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The largest problem read again to write the request's id into it; ours have under 8 KiB.
const MAX_PROBLEM: usize = 64 * 1024;

/// The outermost layer.
pub async fn observe(request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let method = method_label(request.method());
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let span = tracing::info_span!("request", request_id = %id, method, route);
    let started = Instant::now();

    let response = next.run(request).instrument(span.clone()).await;
    let mut response = as_problem(response, &id).await;
    response.headers_mut().insert(REQUEST_ID, HeaderValue::from_str(&id).expect("a request id is plain ASCII"));

    span.in_scope(|| log(response.status(), started.elapsed()));
    let status = response.status().as_str().to_owned();
    metrics::histogram!("jamcast_http_request_duration_seconds", "method" => method, "route" => route.clone())
        .record(started.elapsed().as_secs_f64());
    metrics::counter!("jamcast_http_requests_total", "method" => method, "route" => route, "status" => status)
        .increment(1);
    response
}

/// One line a request: errors of ours are loud, everything else is for whoever looks.
fn log(status: StatusCode, took: Duration) {
    let (status, took_ms) = (status.as_u16(), took.as_secs_f64() * 1000.0);
    match status {
        500 => tracing::error!(status, took_ms, "answered"),
        501.. => tracing::warn!(status, took_ms, "answered"),
        _ => tracing::debug!(status, took_ms, "answered"),
    }
}

/// The caller's own id if it is harmless to repeat in headers and logs, else a fresh one.
fn request_id(headers: &HeaderMap) -> String {
    let harmless = |id: &&str| {
        (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(harmless);
    given.map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

/// Methods as a closed set, because a caller may invent others.
fn method_label(method: &Method) -> &'static str {
    const KNOWN: [(Method, &str); 7] = [
        (Method::GET, "GET"),
        (Method::HEAD, "HEAD"),
        (Method::POST, "POST"),
        (Method::PUT, "PUT"),
        (Method::PATCH, "PATCH"),
        (Method::DELETE, "DELETE"),
        (Method::OPTIONS, "OPTIONS"),
    ];
    KNOWN.iter().find(|(known, _)| known == method).map_or("other", |(_, label)| label)
}

/// Names the request in a problem, and makes a problem of any other error: the router's own 404 and 405, a layer's 413 and 503,
/// the file server's 416. Headers stay, except those that describe the body replaced.
async fn as_problem(response: Response, id: &str) -> Response {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let is_problem = head.headers.get(header::CONTENT_TYPE).is_some_and(|value| value == "application/problem+json");
    let problem = if is_problem { read_problem(body).await } else { None };
    let problem = problem.unwrap_or_else(|| bare(status)).with_request_id(id);

    let (named, body) = problem.into_response().into_parts();
    for gone in [header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::TRANSFER_ENCODING, header::ETAG] {
        head.headers.remove(gone);
    }
    for (name, value) in &named.headers {
        if *name == header::CONTENT_TYPE || !head.headers.contains_key(name) {
            head.headers.insert(name, value.clone());
        }
    }
    Response::from_parts(head, body)
}

async fn read_problem(body: Body) -> Option<Problem> {
    let bytes = axum::body::to_bytes(body, MAX_PROBLEM).await.ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// The problem of a status that came without one.
fn bare(status: StatusCode) -> Problem {
    let (code, detail) = match status.as_u16() {
        404 => ("not_found", "there is nothing at this path"),
        405 => ("method_not_allowed", "this path does not take this method; the header Allow names those it takes"),
        408 => ("request_timeout", "the request did not arrive in time"),
        413 => ("body_too_large", "the request body is too large"),
        415 => ("unsupported_media_type", "the body's Content-Type is not taken here"),
        416 => ("range_not_satisfiable", "the file does not have this range; the header Content-Range has its size"),
        503 => ("timed_out", "the answer took too long; try again"),
        400..500 => ("bad_request", "the request cannot be understood"),
        _ => ("internal", "something went wrong on our side; quote the request id when you report it"),
    };
    Problem::new(status, code, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_that_could_forge_a_log_line_is_replaced() {
        let id_for = |given: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_static(given));
            request_id(&headers)
        };
        assert_eq!(id_for("deploy-7.a_b"), "deploy-7.a_b");
        assert_ne!(id_for("a b=c"), "a b=c");
        assert_ne!(id_for(""), "");
    }

    #[test]
    fn an_invented_method_makes_no_metric_of_its_own() {
        assert_eq!(method_label(&Method::GET), "GET");
        assert_eq!(method_label(&Method::from_bytes(b"BREW").expect("a token")), "other");
    }
}
