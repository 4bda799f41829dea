//! Rooms, and the tokens that let people into them.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderName;
use axum::http::StatusCode;
use axum::http::header;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::domain::access;
use crate::live::port::RoomRow;
use crate::live::port::StoreError;
use crate::model::id::RoomId;
use crate::model::id::UserId;
use crate::model::role::RoomGrant;
use crate::model::role::RoomRole;
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

/// A room token's life unless asked otherwise, seconds: sound check in the afternoon, last encore after midnight.
const TOKEN_TTL_S: u64 = 12 * 3600;

/// The shortest life worth minting a token for, seconds.
const TOKEN_TTL_MIN_S: u64 = 10;

pub(super) fn routes() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new().routes(routes!(create, list)).routes(routes!(get)).routes(routes!(create_token))
}

/// Creates a room.
#[utoipa::path(post, path = "/rooms", operation_id = "create_room", tag = "rooms", request_body = view::NewRoomBody, responses(
    (status = 201, body = view::Room, headers(("Location" = String))),
    (status = 409, description = "a room of this name exists", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "any other error", body = Problem, content_type = "application/problem+json"),
))]
async fn create(
    State(gateway): State<Gateway>,
    caller: Caller,
    Body { fields, mut errors }: Body<view::NewRoomBody>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<view::Room>), Problem> {
    caller.may_create_rooms()?;
    let id: Option<RoomId> = fields.id.parsed(&mut errors, "/id");
    let title = fields.title.line(&mut errors, "/title", 100);
    errors.check()?;
    let (id, title) = (id.expect("checked"), title.expect("checked"));
    let room = RoomRow { id, owner: caller.0.user, title, created_at_ms: view::now_ms() };
    gateway.store.create_room(&room).await.map_err(|error| match error {
        StoreError::Conflict => {
            Problem::new(StatusCode::CONFLICT, "room_exists", "a room of this name exists; choose another name")
        }
        StoreError::Database(_) => error.into(),
    })?;
    tracing::info!(room = %room.id, owner = %room.owner, "room created");
    Ok((StatusCode::CREATED, [(header::LOCATION, format!("/api/v1/rooms/{}", room.id))], Json(room.into())))
}

/// Lists rooms, newest first.
#[utoipa::path(get, path = "/rooms", operation_id = "list_rooms", tag = "rooms", params(Paging), responses(
    (status = 200, body = List<view::Room>),
    (status = "default", description = "any error", body = Problem, content_type = "application/problem+json"),
))]
async fn list(
    State(gateway): State<Gateway>,
    caller: Caller,
    request: PageRequest,
) -> Result<Json<List<view::Room>>, Problem> {
    let rows = gateway.store.rooms(caller.scope(), request.page.clone()).await?;
    let place = |row: &RoomRow| (row.created_at_ms, row.id.to_string());
    let view = |row: RoomRow| caller.sees(&row.owner, Some(&row.id)).then(|| row.into());
    Ok(Json(request.list(rows, place, view)))
}

/// One room.
#[utoipa::path(get, path = "/rooms/{id}", operation_id = "get_room", tag = "rooms", params(("id" = String, Path)), responses(
    (status = 200, body = view::Room),
    (status = "default", description = "any error", body = Problem, content_type = "application/problem+json"),
))]
async fn get(State(gateway): State<Gateway>, caller: Caller, Id(id): Id<RoomId>) -> Result<Json<view::Room>, Problem> {
    Ok(Json(visible(&gateway, &caller, &id).await?.into()))
}

/// Mints a token that lets somebody into the room.
///
/// A host's token acts as the room's owner within this room, over this API too; the others are strangers to it. What a room token
/// mints ends when that token itself does, at the latest.
#[utoipa::path(post, path = "/rooms/{id}/tokens", operation_id = "create_room_token", tag = "rooms", params(("id" = String, Path)),
    request_body = view::NewRoomTokenBody, responses(
    (status = 201, body = view::RoomToken),
    (status = "default", description = "any error", body = Problem, content_type = "application/problem+json"),
))]
async fn create_token(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<RoomId>,
    Body { fields, mut errors }: Body<view::NewRoomTokenBody>,
) -> Result<(StatusCode, Json<view::RoomToken>), Problem> {
    caller.may_write()?;
    let room = visible(&gateway, &caller, &id).await?;
    let name = fields.name.line(&mut errors, "/name", 64);
    let role = role(fields.role, &mut errors);
    // The clock may go on by a second before the token is minted.
    let longest = access::longest_mint(&caller.0, view::now_s() + 1, gateway.config.room_token_ttl_max_s);
    let shortest = TOKEN_TTL_MIN_S.min(longest);
    let ttl_s = fields.ttl_s.optional(&mut errors, "/ttl_s").map_or(TOKEN_TTL_S.min(longest), u64::from);
    if !(shortest..=longest).contains(&ttl_s) {
        errors.add("/ttl_s", format!("must be {shortest} to {longest} seconds"));
    }
    errors.check()?;
    let (name, role) = (name.expect("checked"), role.expect("checked"));

    let user = if role == RoomRole::Host { room.owner } else { guest() };
    let token = gateway.identity.mint_room(&RoomGrant { room: id, user, role, name }, ttl_s);
    let expires_at = view::now_ms().saturating_add_unsigned(ttl_s.saturating_mul(1000));
    let studio_url = gateway.config.studio_url(&token);
    Ok((StatusCode::CREATED, Json(view::RoomToken { token, role, expires_at: view::rfc3339(expires_at), studio_url })))
}

/// A user of its own for each invited guest, who owns nothing here.
fn guest() -> UserId {
    format!("guest-{}", Uuid::new_v4().simple()).parse().expect("38 plain characters")
}

fn role(field: Field<String>, errors: &mut Errors) -> Option<RoomRole> {
    let role = match field.required(errors, "/role")?.as_str() {
        "viewer" => Some(RoomRole::Viewer),
        "musician" => Some(RoomRole::Musician),
        "host" => Some(RoomRole::Host),
        _ => None,
    };
    if role.is_none() {
        errors.add("/role", "must be viewer, musician or host");
    }
    role
}

async fn visible(gateway: &Gateway, caller: &Caller, id: &RoomId) -> Result<RoomRow, Problem> {
    let room = gateway.store.room(id).await?;
    room.filter(|room| caller.sees(&room.owner, Some(&room.id))).ok_or_else(not_found)
}
