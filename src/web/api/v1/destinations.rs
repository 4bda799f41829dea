//! Destinations: where streams are sent, with keys that go in and never come out.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderName;
use axum::http::StatusCode;
use axum::http::header;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::domain::platform::Platform;
use crate::live::port::BackupRow;
use crate::live::port::DestinationRow;
use crate::model::id::DestinationId;
use crate::model::secret::StreamKey;
use crate::model::spec::RtmpEndpoint;
use crate::proto::rtmp::url;
use crate::proto::rtmp::url::UrlError;
use crate::web::Gateway;
use crate::web::api::v1::page::List;
use crate::web::api::v1::page::PageRequest;
use crate::web::api::v1::page::Paging;
use crate::web::api::v1::view;
use crate::web::auth::Caller;
use crate::web::extract::Body;
use crate::web::extract::Errors;
use crate::web::extract::Field;
use crate::web::extract::Id;
use crate::web::extract::not_found;
use crate::web::problem::Problem;

pub(super) fn routes() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new().routes(routes!(create, list)).routes(routes!(get, change, delete)).routes(routes!(rotate_key))
}

/// Stores a destination. Its host is resolved and checked, its key is sealed at once.
///
/// One stored with a room token belongs to that room; one stored with an API token to the whole account, and hosts of all its rooms
/// may use it.
#[utoipa::path(post, path = "/destinations", operation_id = "create_destination", tag = "destinations", request_body = view::NewDestinationBody, responses(
    (status = 201, body = view::Destination, headers(("Location" = String))),
    (status = "default", description = "any error", body = Problem, content_type = "application/problem+json"),
))]
async fn create(
    State(gateway): State<Gateway>,
    caller: Caller,
    Body { fields, mut errors }: Body<view::NewDestinationBody>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<view::Destination>), Problem> {
    caller.may_write()?;
    let name = fields.name.line(&mut errors, "/name", 64);
    let platform = platform(fields.platform, &mut errors);
    let primary = fields.primary.optional(&mut errors, "/primary").unwrap_or(false);
    let (endpoint, key) = endpoint_and_key(fields.url, fields.key, &mut errors);
    let backup = backup(fields.backup_url, fields.backup_key, key.as_ref(), &mut errors);
    if let Some((backup, _)) = &backup
        && let Err(refused) = gateway.dial.check(backup).await
    {
        errors.add("/backup_url", refused.to_string());
    }
    if let (Some(platform), Some(endpoint)) = (platform, &endpoint) {
        let breaches = platform.validate(&platform.recommended, endpoint);
        for breach in breaches.into_iter().filter(|breach| breach.pointer == "/url") {
            errors.add("/url", breach.detail);
        }
    }
    if let Some(endpoint) = &endpoint
        && let Err(refused) = gateway.dial.check(endpoint).await
    {
        errors.add("/url", refused.to_string());
    }
    errors.check()?;
    let (name, platform, endpoint, key) =
        (name.expect("checked"), platform.expect("checked"), endpoint.expect("checked"), key.expect("checked"));

    let id = DestinationId::generate();
    let row = DestinationRow {
        id,
        owner: caller.0.user.clone(),
        room: caller.0.room.clone(),
        name,
        platform: platform.name.clone(),
        endpoint,
        primary,
        sealed_key: gateway.vault.seal(id, &key),
        key_hint: key.hint(),
        backup: backup
            .map(|(endpoint, key)| BackupRow { endpoint, sealed_key: key.map(|key| gateway.vault.seal(id, &key)) }),
        created_at_ms: view::now_ms(),
    };
    drop(key);
    gateway.store.create_destination(&row).await?;
    tracing::info!(destination = %id, owner = %row.owner, platform = row.platform, "destination stored");
    Ok((
        StatusCode::CREATED,
        [(header::LOCATION, format!("/api/v1/destinations/{id}"))],
        Json(view::Destination::new(row, &caller)),
    ))
}

/// Lists the destinations that the caller may use, newest first.
#[utoipa::path(get, path = "/destinations", operation_id = "list_destinations", tag = "destinations", params(Paging), responses(
    (status = 200, body = List<view::Destination>),
    (status = "default", description = "any error", body = Problem, content_type = "application/problem+json"),
))]
async fn list(
    State(gateway): State<Gateway>,
    caller: Caller,
    request: PageRequest,
) -> Result<Json<List<view::Destination>>, Problem> {
    let rows = gateway.store.destinations(caller.scope(), request.page.clone()).await?;
    let place = |row: &DestinationRow| (row.created_at_ms, row.id.to_string());
    let view =
        |row: DestinationRow| caller.sees(&row.owner, row.room.as_ref()).then(|| view::Destination::new(row, &caller));
    Ok(Json(request.list(rows, place, view)))
}

/// One destination.
#[utoipa::path(get, path = "/destinations/{id}", operation_id = "get_destination", tag = "destinations", params(("id" = String, Path)), responses(
    (status = 200, body = view::Destination),
    (status = "default", description = "any error", body = Problem, content_type = "application/problem+json"),
))]
async fn get(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<DestinationId>,
) -> Result<Json<view::Destination>, Problem> {
    Ok(Json(view::Destination::new(visible(&gateway, &caller, id).await?, &caller)))
}

/// Marks a destination as one that programmes follow, or not; those that run heed it at once.
#[utoipa::path(patch, path = "/destinations/{id}", operation_id = "change_destination", tag = "destinations", params(("id" = String, Path)),
    request_body = view::DestinationChangeBody, responses(
    (status = 200, body = view::Destination),
    (status = "default", description = "any error", body = Problem, content_type = "application/problem+json"),
))]
async fn change(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<DestinationId>,
    Body { fields, mut errors }: Body<view::DestinationChangeBody>,
) -> Result<Json<view::Destination>, Problem> {
    manageable(&gateway, &caller, id).await?;
    let primary = fields.primary.required(&mut errors, "/primary");
    errors.check()?;
    if !gateway.registry.mark_destination(id, primary.expect("checked")).await? {
        return Err(not_found());
    }
    tracing::info!(destination = %id, by = %caller.0.user, primary, "destination changed");
    Ok(Json(view::Destination::new(visible(&gateway, &caller, id).await?, &caller)))
}

/// Replaces the stream key; streams that start from now on use the new one. A room token may do so for its room's own destinations.
#[utoipa::path(put, path = "/destinations/{id}/key", operation_id = "replace_destination_key", tag = "destinations", params(("id" = String, Path)),
    request_body = view::NewKeyBody, responses(
    (status = 204, description = "replaced"),
    (status = "default", description = "any error", body = Problem, content_type = "application/problem+json"),
))]
async fn rotate_key(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<DestinationId>,
    Body { fields, mut errors }: Body<view::NewKeyBody>,
) -> Result<StatusCode, Problem> {
    manageable(&gateway, &caller, id).await?;
    let key = fields.key.required(&mut errors, "/key").and_then(|text| well_formed(&text, &mut errors));
    errors.check()?;
    let key = key.expect("checked");
    if !gateway.store.rotate_key(id, &gateway.vault.seal(id, &key), &key.hint()).await? {
        return Err(not_found());
    }
    tracing::info!(destination = %id, by = %caller.0.user, "stream key replaced");
    Ok(StatusCode::NO_CONTENT)
}

/// Forgets a destination and its key. A room token may do so with its room's own destinations.
#[utoipa::path(delete, path = "/destinations/{id}", operation_id = "delete_destination", tag = "destinations", params(("id" = String, Path)), responses(
    (status = 204, description = "forgotten"),
    (status = 409, description = "a stream sends to it; stop that first", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "any error", body = Problem, content_type = "application/problem+json"),
))]
async fn delete(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<DestinationId>,
) -> Result<StatusCode, Problem> {
    manageable(&gateway, &caller, id).await?;
    if let Some(stream) = gateway.registry.sending_to(id) {
        let detail = format!("stream {stream} sends to this destination; stop it first");
        return Err(Problem::new(StatusCode::CONFLICT, "on_air", detail));
    }
    if !gateway.store.delete_destination(id).await? {
        return Err(not_found());
    }
    tracing::info!(destination = %id, by = %caller.0.user, "destination forgotten");
    Ok(StatusCode::NO_CONTENT)
}

fn platform(field: Field<String>, errors: &mut Errors) -> Option<&'static Platform> {
    let named = Platform::named(&field.required(errors, "/platform")?);
    if named.is_none() {
        let names: Vec<_> = Platform::all().iter().map(|platform| platform.name.as_str()).collect();
        errors.add("/platform", format!("must be one of {}", names.join(", ")));
    }
    named
}

/// Server and key; the key may stand at the end of the URL instead of in its own field. Errors of both are told, and none repeats
/// what was sent.
fn endpoint_and_key(
    server: Field<String>,
    key: Field<String>,
    errors: &mut Errors,
) -> (Option<RtmpEndpoint>, Option<StreamKey>) {
    let key_given = key != Field::Missing;
    let key = key.optional(errors, "/key").and_then(|text| well_formed(&text, errors));
    let Some(server) = server.required(errors, "/url") else { return (None, key) };
    match url::parse(&server, key) {
        Ok((endpoint, key)) => (Some(endpoint), Some(key)),
        Err(UrlError::NoKey | UrlError::Key) if key_given => (None, None),
        Err(reason @ (UrlError::NoKey | UrlError::Key)) => {
            errors.add("/key", reason.to_string());
            (None, None)
        }
        Err(reason) => {
            errors.add("/url", reason.to_string());
            (None, None)
        }
    }
}

/// The second server, if there is one, and its own key, if that is another than the first one's.
fn backup(
    server: Field<String>,
    own: Field<String>,
    first: Option<&StreamKey>,
    errors: &mut Errors,
) -> Option<(RtmpEndpoint, Option<StreamKey>)> {
    let own = own.optional(errors, "/backup_key");
    let own = own.and_then(|text| {
        StreamKey::new(text.trim().to_owned()).map_err(|reason| errors.add("/backup_key", reason.to_string())).ok()
    });
    let server = server.optional(errors, "/backup_url")?;
    // Without any key a fault of the first one has been told already; any that is well formed then serves to read the URL.
    let key = own.or_else(|| first.cloned()).or_else(|| StreamKey::new("unknown".to_owned()).ok());
    match url::parse(&server, key) {
        Ok((endpoint, key)) => Some((endpoint, (Some(&key) != first).then_some(key))),
        Err(reason) => {
            errors.add("/backup_url", reason.to_string());
            None
        }
    }
}

/// The spaces and line breaks around a key are what copying leaves behind; those within it are an error.
fn well_formed(text: &str, errors: &mut Errors) -> Option<StreamKey> {
    StreamKey::new(text.trim().to_owned()).map_err(|reason| errors.add("/key", reason.to_string())).ok()
}

async fn visible(gateway: &Gateway, caller: &Caller, id: DestinationId) -> Result<DestinationRow, Problem> {
    let row = gateway.store.destination(id).await?;
    row.filter(|row| caller.sees(&row.owner, row.room.as_ref())).ok_or_else(not_found)
}

/// The destination, if the caller may change it.
async fn manageable(gateway: &Gateway, caller: &Caller, id: DestinationId) -> Result<(), Problem> {
    caller.may_write()?;
    let row = visible(gateway, caller, id).await?;
    caller.may_manage(&row.owner, row.room.as_ref())
}
