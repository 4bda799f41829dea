//! Streams: one broadcast of a room, from creation to its end.

use std::fmt::Write;

use aws_lc_rs::digest;
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::middleware;
use axum::response::IntoResponse;
use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::router::UtoipaMethodRouterExt;
use utoipa_axum::routes;

use crate::live::registry::NewStream;
use crate::live::snapshot::StreamSnapshot;
use crate::model::id::StreamId;
use crate::web::Gateway;
use crate::web::api::v1::direction;
use crate::web::api::v1::events;
use crate::web::api::v1::page::List;
use crate::web::api::v1::page::PageRequest;
use crate::web::api::v1::page::Paging;
use crate::web::api::v1::programme;
use crate::web::api::v1::reach;
use crate::web::api::v1::view;
use crate::web::auth;
use crate::web::auth::Caller;
use crate::web::extract::Body;
use crate::web::extract::Errors;
use crate::web::extract::Id;
use crate::web::extract::not_found;
use crate::web::problem::Problem;

/// Destinations of one stream. Each is a connection of some Mbit/s; simulcasting services offer 3 to 8.
pub(super) const MAX_DESTINATIONS: usize = 8;

/// Characters of an idempotency key; a UUID has 36.
const MAX_IDEMPOTENCY_KEY: usize = 128;

pub(super) fn routes(gateway: &Gateway) -> OpenApiRouter<Gateway> {
    let limited = middleware::from_fn_with_state(gateway.clone(), auth::limit_creations);
    OpenApiRouter::new()
        .routes(routes!(create).map(|route| route.route_layer(limited)))
        .routes(routes!(list))
        .routes(routes!(get, delete, direction::direct))
        .routes(routes!(start))
        .routes(routes!(stop))
        .routes(routes!(events::events))
        .routes(routes!(reach::add, reach::remove))
}

/// Creates a stream; nothing runs before it is started.
///
/// The same `Idempotency-Key` with the same body answers with the stream created before, with another body it is refused.
#[utoipa::path(post, path = "/streams", operation_id = "create_stream", tag = "streams", request_body = view::NewStreamBody,
    params(("Idempotency-Key" = Option<String>, Header)), responses(
    (status = 201, body = StreamSnapshot, headers(("Location" = String), ("ETag" = String))),
    (status = 422, description = "fields that cannot be taken, all at once", body = Problem, content_type = "application/problem+json"),
    (status = 429, description = "too many creations", body = Problem, content_type = "application/problem+json", headers(("Retry-After" = u64))),
    (status = "default", description = "any other error", body = Problem, content_type = "application/problem+json"),
))]
async fn create(
    State(gateway): State<Gateway>,
    caller: Caller,
    headers: HeaderMap,
    Body { fields, errors }: Body<view::NewStreamBody>,
) -> Result<Response, Problem> {
    caller.may_write()?;
    let mut new = validate(&gateway, &caller, fields, errors).await?;
    new.idempotency_key = idempotency_key(&headers)?;
    let snapshot = gateway.registry.create(&caller.0.user, new).await?;
    tracing::info!(stream = %snapshot.id, room = %snapshot.room, owner = %snapshot.owner, "stream created");
    let mut response = answer(StatusCode::CREATED, &snapshot);
    let location = format!("/api/v1/streams/{}", snapshot.id);
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_str(&location).expect("an id is plain ASCII"));
    Ok(response)
}

/// Lists streams, newest first.
#[utoipa::path(get, path = "/streams", operation_id = "list_streams", tag = "streams", params(Paging), responses(
    (status = 200, body = List<StreamSnapshot>),
    (status = "default", description = "any error", body = Problem, content_type = "application/problem+json"),
))]
async fn list(
    State(gateway): State<Gateway>,
    caller: Caller,
    request: PageRequest,
) -> Result<Json<List<StreamSnapshot>>, Problem> {
    let rows = gateway.registry.list(caller.scope(), request.page.clone()).await?;
    let place = |row: &StreamSnapshot| (row.created_at_ms, row.id.to_string());
    Ok(Json(request.list(rows, place, |row| caller.sees(&row.owner, Some(&row.room)).then_some(row))))
}

/// One stream, with what it does now.
#[utoipa::path(get, path = "/streams/{id}", operation_id = "get_stream", tag = "streams", params(("id" = String, Path)), responses(
    (status = 200, body = StreamSnapshot, headers(("ETag" = String))),
    (status = "default", description = "any error", body = Problem, content_type = "application/problem+json"),
))]
async fn get(State(gateway): State<Gateway>, caller: Caller, Id(id): Id<StreamId>) -> Result<Response, Problem> {
    Ok(answer(StatusCode::OK, &visible(&gateway, &caller, id).await?))
}

/// Starts a stream: a mixer begins, and the destinations are connected.
#[utoipa::path(post, path = "/streams/{id}/start", operation_id = "start_stream", tag = "streams", params(("id" = String, Path)), responses(
    (status = 202, body = StreamSnapshot),
    (status = 409, description = "it runs or is over", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "any other error", body = Problem, content_type = "application/problem+json"),
))]
async fn start(State(gateway): State<Gateway>, caller: Caller, Id(id): Id<StreamId>) -> Result<Response, Problem> {
    caller.may_write()?;
    visible(&gateway, &caller, id).await?;
    let snapshot = gateway.registry.start(id).await?;
    tracing::info!(stream = %id, by = %caller.0.user, "stream start asked for");
    Ok(answer(StatusCode::ACCEPTED, &snapshot))
}

/// Stops a stream: destinations and recording are closed properly.
#[utoipa::path(post, path = "/streams/{id}/stop", operation_id = "stop_stream", tag = "streams", params(("id" = String, Path)), responses(
    (status = 202, body = StreamSnapshot),
    (status = 409, description = "it does not run", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "any other error", body = Problem, content_type = "application/problem+json"),
))]
async fn stop(State(gateway): State<Gateway>, caller: Caller, Id(id): Id<StreamId>) -> Result<Response, Problem> {
    caller.may_write()?;
    visible(&gateway, &caller, id).await?;
    let snapshot = gateway.registry.stop(id).await?;
    tracing::info!(stream = %id, by = %caller.0.user, "stream stop asked for");
    Ok(answer(StatusCode::ACCEPTED, &snapshot))
}

/// Forgets a stream that does not run. Its recordings stay.
#[utoipa::path(delete, path = "/streams/{id}", operation_id = "delete_stream", tag = "streams", params(("id" = String, Path)), responses(
    (status = 204, description = "forgotten"),
    (status = 409, description = "it runs; stop it first", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "any other error", body = Problem, content_type = "application/problem+json"),
))]
async fn delete(State(gateway): State<Gateway>, caller: Caller, Id(id): Id<StreamId>) -> Result<StatusCode, Problem> {
    caller.may_write()?;
    visible(&gateway, &caller, id).await?;
    gateway.registry.delete(id).await?;
    tracing::info!(stream = %id, by = %caller.0.user, "stream forgotten");
    Ok(StatusCode::NO_CONTENT)
}

async fn validate(
    gateway: &Gateway,
    caller: &Caller,
    fields: view::NewStreamBody,
    mut errors: Errors,
) -> Result<NewStream, Problem> {
    let title = fields.title.line(&mut errors, "/title", 100);
    let record = fields.record.optional(&mut errors, "/record").unwrap_or(false);
    let stems = fields.stems.optional(&mut errors, "/stems").unwrap_or(false);
    if stems && !record {
        errors.add("/stems", "are recorded beside the programme: set record to true as well");
    }
    let hls = fields.hls.optional(&mut errors, "/hls").unwrap_or(false);
    let mut room = fields.room.parsed(&mut errors, "/room");
    if let Some(id) = &room {
        let row = gateway.store.room(id).await?;
        if !row.is_some_and(|row| caller.sees(&row.owner, Some(&row.id))) {
            errors.add("/room", "there is no such room, or it is not yours");
            room = None;
        }
    }
    let names = fields.destinations.optional(&mut errors, "/destinations").unwrap_or_default();
    if names.len() > MAX_DESTINATIONS {
        errors.add("/destinations", format!("must be {MAX_DESTINATIONS} at most"));
    }
    let mut rows = Vec::new();
    for (index, name) in names.iter().take(MAX_DESTINATIONS).enumerate() {
        let pointer = format!("/destinations/{index}");
        let row = match name.parse() {
            Ok(id) => gateway
                .store
                .destination(id)
                .await?
                .filter(|row| row.owner == caller.0.user && caller.sees(&row.owner, row.room.as_ref())),
            Err(_) => None,
        };
        match row {
            Some(row) if rows.contains(&row) => errors.add(pointer, "is there twice"),
            Some(row) => rows.push(row),
            None => errors.add(pointer, "there is no such destination, or it is not yours"),
        }
    }
    if names.is_empty() && !record && !hls {
        errors.add("/destinations", "name at least one destination, or set record or hls to true");
    }
    let programme = programme::choose(fields.programme, &gateway.tiers, &rows, &mut errors);
    errors.check()?;
    let (room, title) = (room.expect("checked"), title.expect("checked"));
    let destinations = rows.into_iter().map(|row| row.id).collect();
    Ok(NewStream { room, title, programme, destinations, record, stems, hls, idempotency_key: None })
}

/// The key of the header `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07); its quotes are optional here.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().unwrap_or_default().trim_matches('"');
    if (1..=MAX_IDEMPOTENCY_KEY).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(Some(key.to_owned()));
    }
    let detail = format!("Idempotency-Key must have 1 to {MAX_IDEMPOTENCY_KEY} visible characters, such as a UUID");
    Err(Problem::new(StatusCode::BAD_REQUEST, "bad_idempotency_key", detail))
}

/// A snapshot with its ETag, a hash of what it says.
pub(super) fn answer(status: StatusCode, snapshot: &StreamSnapshot) -> Response {
    let body = serde_json::to_vec(snapshot).expect("a snapshot is plain values");
    let mut etag = String::from("\"");
    for byte in &digest::digest(&digest::SHA256, &body).as_ref()[..16] {
        write!(etag, "{byte:02x}").expect("writing to a String does not fail");
    }
    etag.push('"');
    (status, [(header::CONTENT_TYPE, "application/json".to_owned()), (header::ETAG, etag)], body).into_response()
}

/// The stream, if the caller sees it.
pub(super) async fn visible(gateway: &Gateway, caller: &Caller, id: StreamId) -> Result<StreamSnapshot, Problem> {
    let snapshot = gateway.registry.get(id).await?;
    snapshot.filter(|snapshot| caller.sees(&snapshot.owner, Some(&snapshot.room))).ok_or_else(not_found)
}
