//! Where a stream goes, changed while it runs or before.

use axum::extract::Path;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use crate::domain::platform::Platform;
use crate::live::snapshot::StreamSnapshot;
use crate::model::id::DestinationId;
use crate::model::id::StreamId;
use crate::web::Gateway;
use crate::web::api::v1::streams::MAX_DESTINATIONS;
use crate::web::api::v1::streams::answer;
use crate::web::api::v1::streams::visible;
use crate::web::auth::Caller;
use crate::web::extract::Errors;
use crate::web::extract::not_found;
use crate::web::problem::Problem;

/// Sends a stream to one more destination, at once if it runs: from the next keyframe on. One that it goes to already stays as it is.
#[utoipa::path(put, path = "/streams/{id}/destinations/{destination}", operation_id = "add_stream_destination", tag = "streams",
    params(("id" = String, Path), ("destination" = String, Path)), responses(
    (status = 200, body = StreamSnapshot),
    (status = 409, description = "it ends or is over", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "its platform does not take this programme", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "any other error", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn add(
    State(gateway): State<Gateway>,
    caller: Caller,
    Path(path): Path<(String, String)>,
) -> Result<Response, Problem> {
    caller.may_write()?;
    let (id, destination) = ids(&path)?;
    let snapshot = visible(&gateway, &caller, id).await?;
    let stored = gateway.store.destination(destination).await?;
    let stored = stored
        .filter(|row| row.owner == snapshot.owner && caller.sees(&row.owner, row.room.as_ref()))
        .ok_or_else(not_found)?;
    let there = snapshot.destinations.iter().any(|view| view.id == destination);
    let mut errors = Errors::default();
    if !there && snapshot.destinations.len() >= MAX_DESTINATIONS {
        errors.add("", format!("a stream goes to {MAX_DESTINATIONS} destinations at most"));
    }
    if let Some(platform) = Platform::named(&stored.platform) {
        for breach in platform.validate(&snapshot.programme, &stored.endpoint) {
            errors.add("", breach.detail);
        }
    }
    errors.check()?;
    let snapshot = gateway.registry.add_destination(id, destination).await?;
    tracing::info!(stream = %id, %destination, by = %caller.0.user, "stream gets a destination");
    Ok(answer(StatusCode::OK, &snapshot))
}

/// Takes a destination off a stream, at once if it runs: its platform is told goodbye, and the others notice nothing.
#[utoipa::path(delete, path = "/streams/{id}/destinations/{destination}", operation_id = "remove_stream_destination", tag = "streams",
    params(("id" = String, Path), ("destination" = String, Path)), responses(
    (status = 200, body = StreamSnapshot),
    (status = 409, description = "it ends or is over", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "any other error", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn remove(
    State(gateway): State<Gateway>,
    caller: Caller,
    Path(path): Path<(String, String)>,
) -> Result<Response, Problem> {
    caller.may_write()?;
    let (id, destination) = ids(&path)?;
    visible(&gateway, &caller, id).await?;
    let snapshot = gateway.registry.remove_destination(id, destination).await?;
    tracing::info!(stream = %id, %destination, by = %caller.0.user, "stream loses a destination");
    Ok(answer(StatusCode::OK, &snapshot))
}

/// One that is not well formed belongs to nothing.
fn ids((stream, destination): &(String, String)) -> Result<(StreamId, DestinationId), Problem> {
    match (stream.parse(), destination.parse()) {
        (Ok(stream), Ok(destination)) => Ok((stream, destination)),
        (Err(_), _) | (_, Err(_)) => Err(not_found()),
    }
}
