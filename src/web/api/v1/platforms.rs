//! Platform presets: what each platform takes.

use axum::Json;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::domain::platform::Platform;
use crate::web::Gateway;
use crate::web::api::v1::page::List;
use crate::web::api::v1::view;
use crate::web::problem::Problem;

pub(super) fn routes() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Lists the platforms a destination can be on, with their limits.
#[utoipa::path(get, path = "/platforms", operation_id = "list_platforms", tag = "destinations", responses(
    (status = 200, body = List<view::Platform>),
    (status = "default", description = "any error", body = Problem, content_type = "application/problem+json"),
))]
async fn list() -> Json<List<view::Platform>> {
    Json(List { data: Platform::all().iter().map(view::Platform::from).collect(), next_cursor: None })
}
