//! Who calls: bearer tokens become principals, and principals decide what is seen and what may be changed.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;

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

use crate::model::id::RoomId;
use crate::model::id::UserId;
use crate::model::role::ApiRole;
use crate::model::role::Principal;
use crate::web::Gateway;
use crate::web::config::Config;
use crate::web::limits;
use crate::web::limits::Exhausted;
use crate::web::problem::Problem;

/// The caller, checked by [`require`].
pub struct Caller(pub Principal);

impl Caller {
    /// Whose rows to list: everybody's for an admin, otherwise the caller's own.
    pub fn scope(&self) -> Option<&UserId> {
        (self.0.role != ApiRole::Admin).then_some(&self.0.user)
    }

    /// Whether the caller sees a row of this owner.
    pub fn owns(&self, owner: &UserId) -> bool {
        self.0.role == ApiRole::Admin || self.0.user == *owner
    }

    /// Whether the caller sees a row of this owner that belongs to this room.
    pub fn owns_in(&self, owner: &UserId, room: &RoomId) -> bool {
        self.owns(owner) && self.0.room.as_ref().is_none_or(|limit| limit == room)
    }

    /// # Errors
    /// 403 for a caller that may only read.
    pub fn may_write(&self) -> Result<(), Problem> {
        match self.0.role {
            ApiRole::Streamer | ApiRole::Admin => Ok(()),
            ApiRole::Viewer => Err(forbidden("a viewer may look at this but not change it")),
        }
    }

    /// # Errors
    /// 403 for a caller that may only read, and for a room token, whose power ends at its room.
    pub fn may_write_beyond_a_room(&self) -> Result<(), Problem> {
        self.may_write()?;
        match self.0.room {
            None => Ok(()),
            Some(_) => Err(forbidden("a room token cannot do this; use an API token")),
        }
    }
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
            let address = caller_address(&gateway.config, request.headers(), request.extensions());
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

/// The caller's address: of the connection, or what the nearest proxy says when there is one. A request without either shares the
/// budget of the unspecified address.
pub fn caller_address(config: &Config, headers: &HeaderMap, extensions: &Extensions) -> IpAddr {
    let forwarded = || {
        let value = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
        value.rsplit(',').next()?.trim().parse().ok()
    };
    let connected = || extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip());
    let told = if config.trust_forwarded_for { forwarded() } else { None };
    told.or_else(connected).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn caller(role: ApiRole, room: Option<&str>) -> Caller {
        let room = room.map(|name| name.parse().expect("a room name"));
        Caller(Principal { user: "anna".parse().expect("a user"), role, room })
    }

    #[test]
    fn a_room_token_sees_its_room_only() {
        let anna: UserId = "anna".parse().expect("a user");
        let (jam, other): (RoomId, RoomId) = ("jam".parse().expect("a room"), "other".parse().expect("a room"));
        let host = caller(ApiRole::Streamer, Some("jam"));
        assert!(host.owns_in(&anna, &jam));
        assert!(!host.owns_in(&anna, &other));
        assert!(!host.owns_in(&"ben".parse().expect("a user"), &jam));
        assert!(host.may_write().is_ok());
        assert_eq!(host.may_write_beyond_a_room().expect_err("beyond").status, 403);
    }

    #[test]
    fn an_admin_sees_everybody_and_a_viewer_changes_nothing() {
        assert!(caller(ApiRole::Admin, None).owns(&"ben".parse().expect("a user")));
        assert_eq!(caller(ApiRole::Admin, None).scope(), None);
        assert_eq!(caller(ApiRole::Viewer, None).may_write().expect_err("a viewer").status, 403);
    }

    #[test]
    fn only_a_trusted_proxy_names_the_caller() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", HeaderValue::from_static("203.0.113.9, 192.0.2.7"));
        let open = Config::default();
        let proxied = Config { trust_forwarded_for: true, ..Config::default() };
        assert_eq!(caller_address(&open, &headers, &Extensions::new()), IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        assert_eq!(caller_address(&proxied, &headers, &Extensions::new()), IpAddr::from([192, 0, 2, 7]));
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
