//! Tiers: programmes to choose by name.

use axum::Json;
use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::web::Gateway;
use crate::web::api::v1::page::List;
use crate::web::api::v1::view;
use crate::web::problem::Problem;

pub(super) fn routes() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Lists the tiers that a stream's programme can be asked for by name.
#[utoipa::path(get, path = "/tiers", operation_id = "list_tiers", tag = "streams", responses(
    (status = 200, body = List<view::Tier>),
    (status = "default", description = "any error", body = Problem, content_type = "application/problem+json"),
))]
async fn list(State(gateway): State<Gateway>) -> Json<List<view::Tier>> {
    Json(List { data: gateway.tiers.all().iter().map(view::Tier::from).collect(), next_cursor: None })
}
