//! The web studio's files, embedded in the binary.

use std::fmt::Write;

use axum::body::Body;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::Method;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use rust_embed::Embed;
use rust_embed::EmbeddedFile;

/// Everything under `studio/dist`; a debug build reads it from the disk at each request, so that the studio can be worked on.
#[derive(Embed)]
#[folder = "studio/dist"]
struct Dist;

const INDEX: &str = "index.html";

/// Files whose names hold a hash of their content never change.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// The router's fallback: a file of the studio, or its index for the paths that the studio itself routes.
pub async fn serve(request: Request) -> Response {
    let path = request.uri().path().trim_start_matches('/');
    let readable = matches!(*request.method(), Method::GET | Method::HEAD);
    let is_page =
        !path.rsplit('/').next().unwrap_or_default().contains('.') && !path.starts_with("api/") && path != "metrics";
    let found = Dist::get(path).map(|file| (path, file));
    let found = if is_page { found.or_else(|| Dist::get(INDEX).map(|file| (INDEX, file))) } else { found };
    match found {
        Some((name, file)) if readable => answer(name, file, request.headers()),
        Some(_) | None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn answer(name: &str, file: EmbeddedFile, asked: &HeaderMap) -> Response {
    let etag = etag(&file.metadata.sha256_hash());
    let caching = if name.starts_with("assets/") { IMMUTABLE } else { "no-cache" };
    let unchanged = asked
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|known| known.trim().trim_start_matches("W/") == etag || known.trim() == "*");

    let mut response = if unchanged {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let mut response = Body::from(file.data.into_owned()).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, content_type(file.metadata.mimetype()));
        response
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, HeaderValue::from_str(&etag).expect("hex digits in quotes"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    response
}

/// A strong validator: half of the file's SHA-256 is more than enough to tell versions apart.
fn etag(hash: &[u8; 32]) -> String {
    let mut text = String::from("\"");
    for byte in &hash[..16] {
        write!(text, "{byte:02x}").expect("writing to a String does not fail");
    }
    text.push('"');
    text
}

fn content_type(mime: &str) -> HeaderValue {
    let text = if mime.starts_with("text/") { format!("{mime}; charset=utf-8") } else { mime.to_owned() };
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("application/octet-stream"))
}
