//! Markers: moments of a broadcast that somebody wants to find again in its recordings.

use axum::Json;
use axum::extract::Path;
use axum::extract::State;
use axum::http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::live::port::MOST_MARKERS;
use crate::live::port::MarkerRow;
use crate::live::snapshot::StreamState;
use crate::model::id::MarkerId;
use crate::model::id::StreamId;
use crate::web::Gateway;
use crate::web::api::v1::page::List;
use crate::web::api::v1::streams::visible;
use crate::web::api::v1::view;
use crate::web::auth::Caller;
use crate::web::extract::Body;
use crate::web::extract::Id;
use crate::web::extract::not_found;
use crate::web::problem::Problem;

/// How far back a marker can be set: a day, which is longer than any broadcast.
const LONGEST_AGO_S: u32 = 86_400;

pub(super) fn routes() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new().routes(routes!(create, list)).routes(routes!(delete))
}

/// Marks this moment of a stream that is live, or one a while ago. The recordings of that time show where it is in them.
#[utoipa::path(post, path = "/streams/{id}/markers", operation_id = "create_marker", tag = "streams", params(("id" = String, Path)),
    request_body = view::NewMarkerBody, responses(
    (status = 201, body = view::Marker),
    (status = 409, description = "it is not live, or has too many", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "any other error", body = Problem, content_type = "application/problem+json"),
))]
async fn create(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<StreamId>,
    Body { fields, mut errors }: Body<view::NewMarkerBody>,
) -> Result<(StatusCode, Json<view::Marker>), Problem> {
    caller.may_write()?;
    let snapshot = visible(&gateway, &caller, id).await?;
    let label = fields.label.line(&mut errors, "/label", 100);
    let ago = fields.seconds_ago.optional(&mut errors, "/seconds_ago").unwrap_or(0);
    if ago > LONGEST_AGO_S {
        errors.add("/seconds_ago", format!("must be {LONGEST_AGO_S} at most"));
    }
    errors.check()?;
    let conflict = |code, detail| Err(Problem::new(StatusCode::CONFLICT, code, detail));
    if snapshot.state != StreamState::Live {
        return conflict("not_live", "only a stream that is live can be marked");
    }
    if gateway.store.markers(id).await?.len() >= MOST_MARKERS as usize {
        return conflict("too_many_markers", "this stream has as many markers as there can be; delete some");
    }
    let at_ms = view::now_ms() - i64::from(ago) * 1000;
    let marker = MarkerRow { id: MarkerId::generate(), stream: id, label: label.expect("checked"), at_ms };
    gateway.store.create_marker(&marker).await?;
    Ok((StatusCode::CREATED, Json((&marker).into())))
}

/// Lists a stream's markers in the order of their times.
#[utoipa::path(get, path = "/streams/{id}/markers", operation_id = "list_markers", tag = "streams", params(("id" = String, Path)),
    responses(
    (status = 200, body = List<view::Marker>),
    (status = "default", description = "any error", body = Problem, content_type = "application/problem+json"),
))]
async fn list(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<StreamId>,
) -> Result<Json<List<view::Marker>>, Problem> {
    visible(&gateway, &caller, id).await?;
    let data = gateway.store.markers(id).await?.iter().map(Into::into).collect();
    Ok(Json(List { data, next_cursor: None }))
}

/// Deletes a marker.
#[utoipa::path(delete, path = "/streams/{id}/markers/{marker}", operation_id = "delete_marker", tag = "streams",
    params(("id" = String, Path), ("marker" = String, Path)), responses(
    (status = 204, description = "it is gone"),
    (status = "default", description = "any error", body = Problem, content_type = "application/problem+json"),
))]
async fn delete(
    State(gateway): State<Gateway>,
    caller: Caller,
    Path((stream, marker)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    caller.may_write()?;
    let (Ok(stream), Ok(marker)) = (stream.parse::<StreamId>(), marker.parse::<MarkerId>()) else {
        return Err(not_found());
    };
    visible(&gateway, &caller, stream).await?;
    let deleted = gateway.store.delete_marker(stream, marker).await?;
    deleted.then_some(StatusCode::NO_CONTENT).ok_or_else(not_found)
}
