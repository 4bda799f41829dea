//! Who calls: bearer tokens become principals, and principals decide what is seen and what may be changed.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::ConnectInfo;
use axum::extract::FromRequestParts;
use axum::extract::Request;
use axum::extract::State;
use axum::http::Extensions;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;

use crate::domain::access;
use crate::domain::network::Network;
use crate::model::id::RoomId;
use crate::model::id::UserId;
use crate::model::role::Principal;
use crate::web::Gateway;
use crate::web::limits;
use crate::web::limits::Exhausted;
use crate::web::problem::Problem;

/// The caller, checked by [`require`].
pub struct Caller(pub Principal);

impl Caller {
    /// Whose rows to list: everybody's for an admin, otherwise the caller's own.
    pub fn scope(&self) -> Option<&UserId> {
        access::lists_of(&self.0)
    }

    /// Whether the caller sees what belongs to this owner and, if any, to this room.
    pub fn sees(&self, owner: &UserId, room: Option<&RoomId>) -> bool {
        access::may_read(&self.0, owner, room)
    }

    /// Whether the caller may change it too.
    pub fn manages(&self, owner: &UserId, room: Option<&RoomId>) -> bool {
        access::may_manage(&self.0, owner, room)
    }

    /// Whether the caller may know how this owner's room sounds: as who owns it, or as who may enter it.
    pub fn hears(&self, owner: &UserId, room: &RoomId) -> bool {
        access::may_hear(&self.0, owner, room)
    }

    /// # Errors
    /// 403 for a caller that may only read.
    pub fn may_write(&self) -> Result<(), Problem> {
        if access::may_create(&self.0) { Ok(()) } else { Err(forbidden("a viewer may look at this but not change it")) }
    }

    /// # Errors
    /// 403 for a caller that may only read, and for a room token, whose power ends at its room.
    pub fn may_create_rooms(&self) -> Result<(), Problem> {
        self.may_write()?;
        if access::may_create_rooms(&self.0) { Ok(()) } else { Err(beyond_its_room()) }
    }

    /// # Errors
    /// 403 for a caller that may use this and not change it.
    pub fn may_manage(&self, owner: &UserId, room: Option<&RoomId>) -> Result<(), Problem> {
        if self.manages(owner, room) { Ok(()) } else { Err(beyond_its_room()) }
    }
}

fn beyond_its_room() -> Problem {
    forbidden("a room token cannot do this, its power ends at its room; use an API token of the account")
}

fn forbidden(detail: &str) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "forbidden", detail)
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let principal = parts.extensions.get::<Principal>().cloned();
        principal.map(Self).ok_or_else(unauthenticated)
    }
}

/// The layer of all routes that need a caller: checks the bearer token and takes the request out of the caller's budget.
pub async fn require(State(gateway): State<Gateway>, mut request: Request, next: Next) -> Response {
    let principal = match authenticate(&gateway, request.headers()) {
        Ok(principal) => principal,
        Err(refused) => {
            let address = caller_address(request.extensions());
            return match gateway.limits.anonymous.check(limits::network_of(address)) {
                Ok(_) => refused.into_response(),
                Err(exhausted) => too_many(exhausted),
            };
        }
    };
    let budget = match gateway.limits.requests.check(principal.user.clone()) {
        Ok(budget) => budget,
        Err(exhausted) => return too_many(exhausted),
    };
    request.extensions_mut().insert(principal);
    let mut response = next.run(request).await;
    if !response.headers().contains_key("ratelimit") {
        budget.write(response.headers_mut());
    }
    response
}

/// The layer of the route that creates streams; stands within [`require`].
pub async fn limit_creations(State(gateway): State<Gateway>, caller: Caller, request: Request, next: Next) -> Response {
    match gateway.limits.creations.check(caller.0.user) {
        Ok(budget) => {
            let mut response = next.run(request).await;
            budget.write(response.headers_mut());
            response
        }
        Err(exhausted) => too_many(exhausted),
    }
}

/// The layer of what anybody may fetch. What is left of the budget is not told: the answer may be another viewer's as well.
pub async fn limit_viewers(State(gateway): State<Gateway>, request: Request, next: Next) -> Response {
    let address = caller_address(request.extensions());
    match gateway.limits.viewers.check(limits::network_of(address)) {
        Ok(_) => next.run(request).await,
        Err(exhausted) => too_many(exhausted),
    }
}

fn too_many(exhausted: Exhausted) -> Response {
    let mut response = exhausted.into_problem().into_response();
    exhausted.budget().write(response.headers_mut());
    response
}

fn authenticate(gateway: &Gateway, headers: &HeaderMap) -> Result<Principal, Problem> {
    let token = bearer(headers).ok_or_else(unauthenticated)?;
    Ok(gateway.identity.principal(token)?)
}

fn unauthenticated() -> Problem {
    let detail = "send a token in the header Authorization: Bearer <token>";
    Problem::new(StatusCode::UNAUTHORIZED, "token_missing", detail)
}

/// The token of an `Authorization: Bearer` header (RFC 6750 section 2.1); the scheme's case does not matter.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The layer around everything: behind a trusted proxy, the connection's address becomes that of whom the proxy speaks for.
pub async fn see_through_proxies(State(proxies): State<Arc<[Network]>>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip());
    if let Some(peer) = peer {
        let caller = behind(&proxies, peer, request.headers());
        if caller != peer {
            request.extensions_mut().insert(ConnectInfo(SocketAddr::new(caller, 0)));
        }
    }
    next.run(request).await
}

/// Each proxy adds whom it heard from at the end of `X-Forwarded-For`. What a trusted one says is believed, so that the first address
/// from the end that is no trusted proxy is the caller's, and what stands before it is the caller's invention.
fn behind(proxies: &[Network], peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let values = headers.get_all("x-forwarded-for").iter().map(|value| value.to_str().unwrap_or_default());
    let told: Vec<&str> = values.flat_map(|value| value.split(',')).collect();
    let mut caller = peer;
    for entry in told.into_iter().rev() {
        if !proxies.iter().any(|proxy| proxy.contains(caller)) {
            break;
        }
        let Ok(address) = entry.trim().parse() else { break };
        caller = address;
    }
    caller
}

/// The caller's address; requests without one share the budget of the unspecified address.
fn caller_address(extensions: &Extensions) -> IpAddr {
    let connected = extensions.get::<ConnectInfo<SocketAddr>>();
    connected.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ConnectInfo(address)| address.ip())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_a_trusted_proxy_names_the_caller() {
        let proxies = ["10.0.0.0/8", "::1"].map(|text| text.parse().expect("a network"));
        // Columns: the connection's address, lines of the header, the caller.
        let table: [(&str, &[&str], &str); 10] = [
            ("192.0.2.9", &["203.0.113.9"], "192.0.2.9"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("::1", &["2001:db8::7"], "2001:db8::7"),
            ("::ffff:10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            // The caller invented the first; the proxy added the last.
            ("10.0.0.1", &["198.51.100.1, 203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["198.51.100.1", "203.0.113.9"], "203.0.113.9"),
            // Two proxies, one behind the other.
            ("10.0.0.1", &["198.51.100.1, 203.0.113.9, 10.0.0.2"], "203.0.113.9"),
            ("10.0.0.1", &["garbage"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9, garbage, 10.0.0.2"], "10.0.0.2"),
        ];
        for (peer, lines, caller) in table {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-for", HeaderValue::from_static(line));
            }
            let peer = peer.parse().expect("an address");
            assert_eq!(behind(&proxies, peer, &headers).to_string(), caller, "{peer} {lines:?}");
        }
    }

    #[test]
    fn the_scheme_is_bearer_in_any_case() {
        let with = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static(value));
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(with("bearer abc").as_deref(), Some("abc"));
        assert_eq!(with("Basic abc"), None);
        assert_eq!(with("Bearer "), None);
    }
}
