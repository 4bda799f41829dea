//! The delay table of a room: who hears whom how late.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::live::rooms::DelayTable;
use crate::live::rooms::Grade;
use crate::live::rooms::ParticipantInfo;
use crate::live::rooms::Path;
use crate::live::rooms::Request;
use crate::live::rooms::RoomError;
use crate::model::id::RoomId;
use crate::web::Gateway;
use crate::web::auth::Caller;
use crate::web::extract::Id;
use crate::web::extract::not_found;
use crate::web::problem::Problem;

pub(super) fn routes() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new().routes(routes!(get))
}

#[derive(Serialize, ToSchema)]
pub(super) struct Delays {
    /// Who is in the room, in the order of joining.
    participants: Vec<Person>,
    /// Every path that is measured, from those who send sound to everybody else.
    paths: Vec<DelayPath>,
}

#[derive(Serialize, ToSchema)]
struct Person {
    id: String,
    name: String,
}

#[derive(Serialize, ToSchema)]
struct DelayPath {
    /// The participant who is heard.
    from: String,
    /// The participant who hears.
    to: String,
    /// From microphone to ears without the sound cards.
    delay_ms: u32,
    /// What of it the receiver's jitter buffer holds back; `null` if the receiver does not say, and then it is not in `delay_ms`.
    buffer_ms: Option<u32>,
    /// `green` up to 43 ms, `yellow` up to 68 ms, `red`.
    grade: &'static str,
}

impl Delays {
    fn new(table: DelayTable, for_host: bool) -> Self {
        let person = |info: ParticipantInfo| Person { id: info.id.to_string(), name: info.name };
        let paths = if for_host { table.for_hosts } else { table.for_all };
        Self {
            participants: table.participants.into_iter().map(person).collect(),
            paths: paths.iter().map(DelayPath::new).collect(),
        }
    }
}

impl DelayPath {
    fn new(path: &Path) -> Self {
        let in_ms = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        let grade = match path.grade {
            Grade::Green => "green",
            Grade::Yellow => "yellow",
            Grade::Red => "red",
        };
        Self {
            from: path.from.to_string(),
            to: path.to.to_string(),
            delay_ms: in_ms(path.delay),
            buffer_ms: path.buffer.map(in_ms),
            grade,
        }
    }
}

/// How late everybody in a room hears everybody else.
///
/// For the room's owner and for everybody with a token of the room, whatever its role; only the owner and hosts are told of paths from
/// who is isolated. Empty while nobody is in the room.
#[utoipa::path(get, path = "/rooms/{id}/delays", operation_id = "get_room_delays", tag = "rooms", params(("id" = String, Path)), responses(
    (status = 200, body = Delays),
    (status = "default", description = "any error", body = Problem, content_type = "application/problem+json"),
))]
async fn get(State(gateway): State<Gateway>, caller: Caller, Id(id): Id<RoomId>) -> Result<Json<Delays>, Problem> {
    let room = gateway.store.room(&id).await?;
    let room = room.filter(|room| caller.hears(&room.owner, &room.id)).ok_or_else(not_found)?;
    let table = match gateway.rooms.ask(&id, |reply| Request::Delays { reply }).await {
        Ok(table) => table,
        Err(RoomError::NotJoined) => DelayTable::default(),
        Err(error) => return Err(error.into()),
    };
    Ok(Json(Delays::new(table, caller.sees(&room.owner, Some(&room.id)))))
}
