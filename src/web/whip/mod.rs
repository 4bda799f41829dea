//! WHIP ingest (RFC 9725) and WHEP playback (draft-ietf-wish-whep-04) over HTTP: headers, tokens and status codes.

mod resource;

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::SystemTime;

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::extract::Path;
use axum::extract::rejection::BytesRejection;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::middleware;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::MethodRouter;
use axum::routing::patch;
use axum::routing::post;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::live::port::Identity;
use crate::live::rooms::Rooms;
use crate::model::id::ParticipantId;
use crate::model::id::RoomId;
use crate::model::id::UserId;
use crate::model::role::RoomGrant;
use crate::model::role::RoomRole;
use crate::proto::signal::IceServer;
use crate::proto::whip::FRAGMENT_TYPE;
use crate::proto::whip::Fragment;
use crate::proto::whip::MAX_BODY;
use crate::proto::whip::SDP_TYPE;
use crate::web::ice::IceServers;
use crate::web::problem::Problem;
use crate::web::whip::resource::Patched;
use crate::web::whip::resource::Wish;

/// Wishes waiting at one resource; a peer sends one PATCH after the other.
const WISH_QUEUE: usize = 16;

/// How long a caller should wait when there are too many peers.
const RETRY_AFTER_S: u64 = 5;

/// Settings of WHIP and WHEP.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// WHIP and WHEP peers at once in this process.
    pub max_peers: usize,
    /// A peer that is not connected for this long is gone: one that never came up, or vanished without a DELETE.
    pub connect_timeout_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        // 30 s is what browsers take to give up ICE, so a restart within it still finds its resource.
        Self { max_peers: 1000, connect_timeout_ms: 30_000 }
    }
}

/// What WHIP and WHEP need of the gateway.
#[derive(Clone)]
pub struct State {
    pub rooms: Rooms,
    pub identity: Arc<dyn Identity>,
    pub config: Arc<Config>,
    /// STUN and TURN servers told in `Link` headers.
    pub ice_servers: IceServers,
    /// Ends every resource.
    pub shutdown: CancellationToken,
}

/// Which of the two protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Whip,
    Whep,
}

impl Side {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Whip => "whip",
            Self::Whep => "whep",
        }
    }
}

/// All resources, and what they need.
struct Desk {
    state: State,
    resources: Mutex<HashMap<ParticipantId, Handle>>,
}

/// How a resource is reached, and whose it is.
#[derive(Clone)]
struct Handle {
    side: Side,
    room: RoomId,
    user: UserId,
    wishes: mpsc::Sender<Wish>,
}

/// The routes `/whip/{room}`, `/whep/{room}` and those of their resources.
pub fn routes(state: State) -> Router {
    let desk = Arc::new(Desk { state, resources: Mutex::default() });
    Router::new()
        .merge(side_routes(Side::Whip, &desk))
        .merge(side_routes(Side::Whep, &desk))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::map_response(with_cors))
}

fn side_routes(side: Side, desk: &Arc<Desk>) -> Router {
    let (posting, patching, deleting) = (Arc::clone(desk), Arc::clone(desk), Arc::clone(desk));
    let endpoint =
        post(move |Path(room): Path<String>, headers: HeaderMap, body: Result<Bytes, BytesRejection>| async move {
            answer(posting.create(side, &room, &headers, body).await)
        })
        .options(|| async { (StatusCode::NO_CONTENT, [("accept-post", SDP_TYPE)]) });
    let resource = patch(
        move |Path(path): Path<(String, String)>, headers: HeaderMap, body: Result<Bytes, BytesRejection>| async move {
            answer(patching.patch(side, &path, &headers, body).await)
        },
    )
    .delete(move |Path(path): Path<(String, String)>, headers: HeaderMap| async move {
        answer(deleting.delete(side, &path, &headers).await)
    })
    .options(|| async { (StatusCode::NO_CONTENT, [("accept-patch", FRAGMENT_TYPE)]) });
    let path = format!("/{}/{{room}}", side.as_str());
    Router::new().route(&path, only(endpoint)).route(&format!("{path}/{{participant}}"), only(resource))
}

/// Any other method is told which ones there are: the router adds the header `Allow`.
fn only(methods: MethodRouter) -> MethodRouter {
    methods.fallback(|| async {
        Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "see the header Allow for what can be done here",
        )
    })
}

fn answer(result: Result<Response, Problem>) -> Response {
    result.unwrap_or_else(IntoResponse::into_response)
}

/// Any page may use WHIP and WHEP: the right to is in the token, and there are no cookies.
async fn with_cors(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "POST, PATCH, DELETE, OPTIONS"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type, if-match"),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, "location, etag, link, accept-patch, accept-post, retry-after"),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

impl Desk {
    async fn create(
        self: Arc<Self>,
        side: Side,
        room: &str,
        headers: &HeaderMap,
        body: Result<Bytes, BytesRejection>,
    ) -> Result<Response, Problem> {
        let grant = self.grant(headers, room)?;
        if side == Side::Whip && grant.role < RoomRole::Musician {
            let detail = "viewers may not send; ask the host for a musician's token";
            return Err(Problem::new(StatusCode::FORBIDDEN, "role_too_low", detail));
        }
        let offer = text_of(headers, body, SDP_TYPE)?;
        if self.resources().len() >= self.state.config.max_peers {
            let detail = "too many WHIP and WHEP peers; try again soon";
            return Err(
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_peers", detail).with_retry_after(RETRY_AFTER_S)
            );
        }
        // The resource lives in a task of its own from the beginning: if this caller hangs up now, it still cleans up.
        let (opened, answer) = oneshot::channel();
        let room = grant.room.clone();
        tokio::spawn(resource::attend(Arc::clone(&self), side, grant, offer, opened));
        let opened = answer.await.map_err(|_| gone())??;
        let location = format!("/{}/{room}/{}", side.as_str(), opened.participant);
        let mut response = (StatusCode::CREATED, opened.answer).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(SDP_TYPE));
        headers.insert(header::LOCATION, header_value(&location));
        headers.insert(header::ETAG, header_value(&opened.etag));
        headers.insert(HeaderName::from_static("accept-patch"), HeaderValue::from_static(FRAGMENT_TYPE));
        for link in self.state.ice_servers.of(opened.participant, SystemTime::now()).iter().flat_map(links) {
            headers.append(header::LINK, header_value(&link));
        }
        Ok(response)
    }

    async fn patch(
        &self,
        side: Side,
        path: &(String, String),
        headers: &HeaderMap,
        body: Result<Bytes, BytesRejection>,
    ) -> Result<Response, Problem> {
        let handle = self.find(side, path, headers)?;
        let text = text_of(headers, body, FRAGMENT_TYPE)?;
        let fragment = Fragment::parse(&text)
            .map_err(|error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_fragment", error.to_string()))?;
        let if_match = headers.get(header::IF_MATCH).map(|tag| String::from_utf8_lossy(tag.as_bytes()).into_owned());
        let (reply, patched) = oneshot::channel();
        handle.wishes.send(Wish::Patch { if_match, fragment, reply }).await.map_err(|_| not_found())?;
        match patched.await.map_err(|_| not_found())?? {
            Patched::Trickled => Ok(StatusCode::NO_CONTENT.into_response()),
            Patched::Restarted { fragment, etag } => {
                let headers = [
                    (header::CONTENT_TYPE, HeaderValue::from_static(FRAGMENT_TYPE)),
                    (header::ETAG, header_value(&etag)),
                ];
                Ok((StatusCode::OK, headers, fragment).into_response())
            }
        }
    }

    async fn delete(&self, side: Side, path: &(String, String), headers: &HeaderMap) -> Result<Response, Problem> {
        let handle = self.find(side, path, headers)?;
        let (reply, deleted) = oneshot::channel();
        handle.wishes.send(Wish::Delete { reply }).await.map_err(|_| not_found())?;
        deleted.await.map_err(|_| not_found())?;
        Ok(StatusCode::OK.into_response())
    }

    /// What the bearer token allows in this room.
    fn grant(&self, headers: &HeaderMap, room: &str) -> Result<RoomGrant, Problem> {
        let token = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .ok_or_else(|| {
                let detail = "send a room token in the header Authorization: Bearer";
                Problem::new(StatusCode::UNAUTHORIZED, "token_missing", detail)
            })?;
        let grant = self.state.identity.room_grant(token)?;
        if grant.room.as_str() != room {
            return Err(Problem::new(StatusCode::FORBIDDEN, "wrong_room", "the token is for another room"));
        }
        Ok(grant)
    }

    /// The resource at this path, if it is the caller's.
    fn find(&self, side: Side, (room, participant): &(String, String), headers: &HeaderMap) -> Result<Handle, Problem> {
        let grant = self.grant(headers, room)?;
        let handle = participant
            .parse::<ParticipantId>()
            .ok()
            .and_then(|id| self.resources().get(&id).cloned())
            .filter(|handle| handle.side == side && handle.room == grant.room)
            .ok_or_else(not_found)?;
        if handle.user == grant.user {
            Ok(handle)
        } else {
            Err(Problem::new(
                StatusCode::FORBIDDEN,
                "not_yours",
                "the token is of somebody else than who posted the offer",
            ))
        }
    }

    fn resources(&self) -> std::sync::MutexGuard<'_, HashMap<ParticipantId, Handle>> {
        self.resources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "unknown_peer", "there is no such peer, or it is gone; post a new offer")
}

fn gone() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "shutting_down", "the gateway is going down; try again soon")
        .with_retry_after(RETRY_AFTER_S)
}

/// The body as text of this media type.
fn text_of(headers: &HeaderMap, body: Result<Bytes, BytesRejection>, media_type: &str) -> Result<String, Problem> {
    let sent = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !sent.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(media_type) {
        let detail = format!("send the body as Content-Type: {media_type}");
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail));
    }
    let body = body.map_err(|error| {
        let code = if error.status() == StatusCode::PAYLOAD_TOO_LARGE { "body_too_large" } else { "body_unreadable" };
        Problem::new(error.status(), code, format!("the body may have {MAX_BODY} bytes at most: {error}"))
    })?;
    String::from_utf8(body.into())
        .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "not_utf8", "the body must be UTF-8 text"))
}

/// A server's `Link` headers (RFC 9725 section 4.6), one for each URL.
fn links(server: &IceServer) -> impl Iterator<Item = String> {
    server.urls.iter().map(|url| {
        let mut link = format!("<{url}>; rel=\"ice-server\"");
        if let (Some(username), Some(credential)) = (&server.username, &server.credential) {
            let (username, credential) = (quoted(username), quoted(credential.expose()));
            write!(link, "; username={username}; credential={credential}; credential-type=\"password\"")
                .expect("writing to a String cannot fail");
        }
        link
    })
}

/// A quoted-string (RFC 9110 section 5.6.4).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A header's value; one that cannot be sent, as from a broken configuration, is left empty.
fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}
