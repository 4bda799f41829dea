//! HLS: playlists and segments for viewers who have no account, and for caches between them and us.

use std::str::FromStr;

use axum::Router;
use axum::extract::Path;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header;
use axum::middleware;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::live::hls::Shelf;
use crate::model::id::StreamId;
use crate::web::Gateway;
use crate::web::auth;
use crate::web::extract::not_found;
use crate::web::problem::Problem;

/// A playlist grows each two seconds. A shared cache may answer a thousand viewers with what is one second old.
const GROWING: &str = "public, max-age=1";

/// A segment's number is never used again. It is fetched within half a minute or not at all.
const UNCHANGING: &str = "public, max-age=3600, immutable";

/// What is not there yet is there in a moment, and no cache may remember otherwise.
const NOTHING: &str = "no-store";

/// A file under a stream's path. Names are read and never looked up, so that none can lead anywhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum File {
    Playlist,
    Init(u32),
    Segment(u64),
}

impl FromStr for File {
    type Err = Problem;

    fn from_str(name: &str) -> Result<Self, Problem> {
        if name == "index.m3u8" {
            return Ok(Self::Playlist);
        }
        let init = name.strip_prefix("init-").and_then(|rest| rest.strip_suffix(".mp4"));
        let init = init.and_then(plain).map(Self::Init);
        let segment = || name.strip_suffix(".m4s").and_then(plain).map(Self::Segment);
        init.or_else(segment).ok_or_else(not_found)
    }
}

/// A number in its one form: a second name of a segment would be a second copy in every cache.
fn plain<N: FromStr + ToString>(digits: &str) -> Option<N> {
    digits.parse().ok().filter(|number: &N| number.to_string() == digits)
}

/// `/hls/{stream}/…`, for every page of the world to read.
pub fn routes(gateway: &Gateway) -> Router {
    let anybody =
        SetResponseHeaderLayer::overriding(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    let otherwise = SetResponseHeaderLayer::if_not_present(header::CACHE_CONTROL, HeaderValue::from_static(NOTHING));
    Router::new()
        .route("/hls/{stream}/{file}", get(serve))
        .route_layer(middleware::from_fn_with_state(gateway.clone(), auth::limit_viewers))
        .layer(otherwise)
        .layer(anybody)
        .with_state(gateway.clone())
}

async fn serve(
    State(gateway): State<Gateway>,
    Path((stream, file)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let (Ok(stream), file) = (stream.parse::<StreamId>(), file.parse::<File>()?) else { return Err(not_found()) };
    let shelf = gateway.registry.hls(stream).ok_or_else(not_found)?;
    let (kind, caching, body) = found(&shelf, file).ok_or_else(not_found)?;
    metrics::counter!("jamcast_hls_bytes_total").increment(body.len() as u64);
    Ok(([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, caching)], body).into_response())
}

/// A file's type (RFC 8216 section 4, RFC 4337), how long it may be kept, and what is in it.
fn found(shelf: &Shelf, file: File) -> Option<(&'static str, &'static str, Bytes)> {
    match file {
        File::Playlist => Some(("application/vnd.apple.mpegurl", GROWING, shelf.playlist()?.into())),
        File::Init(number) => Some(("video/mp4", UNCHANGING, shelf.init(number)?)),
        File::Segment(number) => Some(("video/mp4", UNCHANGING, shelf.segment(number)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_name() {
        let read = |name: &str| name.parse::<File>().ok();
        assert_eq!(read("index.m3u8"), Some(File::Playlist));
        assert_eq!(read("init-2.mp4"), Some(File::Init(2)));
        assert_eq!(read("1048576.m4s"), Some(File::Segment(1_048_576)));
        let others =
            ["", "7", "07.m4s", "+7.m4s", "-7.m4s", "7.M4S", "init-.mp4", "init-2.m4s", "99999999999999999999.m4s"];
        for name in others.into_iter().chain(["..", "../7.m4s", "%2e%2e", "7.m4s/", "index.m3u8?x", "playlist.m3u8"]) {
            assert_eq!(read(name), None, "{name:?}");
        }
    }
}
