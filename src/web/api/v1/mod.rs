//! Version 1 of the REST API: one module per noun, wire types of their own, described by OpenAPI.

mod delays;
mod destinations;
mod direction;
mod events;
mod markers;
mod page;
mod platforms;
mod programme;
mod reach;
mod recordings;
mod rooms;
mod streams;
mod tiers;
mod view;

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header;
use axum::middleware;
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa::Modify;
use utoipa::OpenApi;
use utoipa::openapi::security::HttpAuthScheme;
use utoipa::openapi::security::HttpBuilder;
use utoipa::openapi::security::SecurityScheme;
use utoipa_axum::router::OpenApiRouter;

use crate::web::Gateway;
use crate::web::auth;

/// The description's head; its paths come from the routes themselves.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Jamcast",
        description = "Rooms, streams, destinations and recordings of a WebRTC-to-RTMP broadcast gateway. Every error is an \
                       `application/problem+json` (RFC 9457) with a stable `code` and, for bodies, all wrong fields at once. \
                       `RateLimit` headers tell what is left of a caller's budget."
    ),
    modifiers(&Bearer),
    security(("bearer" = []))
)]
struct Head;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("JWT")
            .description(Some("An API token, or a host's room token, which is limited to its room."))
            .build();
        openapi.components.get_or_insert_default().add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// All routes under `/api/v1`, and their description.
pub fn router(gateway: &Gateway) -> (Router, utoipa::openapi::OpenApi) {
    let routes = OpenApiRouter::new()
        .merge(rooms::routes())
        .merge(delays::routes())
        .merge(destinations::routes())
        .merge(platforms::routes())
        .merge(streams::routes(gateway))
        .merge(tiers::routes())
        .merge(markers::routes())
        .merge(recordings::routes());
    let (router, openapi) = OpenApiRouter::with_openapi(Head::openapi()).nest("/api/v1", routes).split_for_parts();
    let private = SetResponseHeaderLayer::if_not_present(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let router = router
        .route_layer(middleware::from_fn_with_state(gateway.clone(), auth::require))
        .layer(private)
        .with_state(gateway.clone());
    (router, openapi)
}
