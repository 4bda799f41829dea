//! Recordings: lists and files.

use std::path::Path;

use axum::Json;
use axum::extract::Path as AxumPath;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use futures::stream;
use futures::stream::StreamExt;
use futures::stream::TryStreamExt;
use tower::ServiceExt;
use tower_http::services::ServeFile;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::live::port::RecordingRow;
use crate::live::port::UploadRow;
use crate::live::port::UploadState;
use crate::live::recordings::place;
use crate::live::recordings::thumbnail;
use crate::live::retention;
use crate::model::id::RecordingId;
use crate::web::Gateway;
use crate::web::api::v1::page::List;
use crate::web::api::v1::page::PageRequest;
use crate::web::api::v1::page::Paging;
use crate::web::api::v1::view;
use crate::web::auth::Caller;
use crate::web::extract::Body;
use crate::web::extract::Id;
use crate::web::extract::not_found;
use crate::web::problem::Problem;

/// Bytes read from the disk at once; larger than the default of 64 KiB, because recordings are read from end to end.
const CHUNK_BYTES: usize = 256 * 1024;

/// A thumbnail is written once. It is for whoever may see the recording and for nobody's shared cache.
const UNCHANGING: &str = "private, max-age=604800, immutable";

pub(super) fn routes() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get, change, delete))
        .routes(routes!(file))
        .routes(routes!(upload))
        .routes(routes!(picture))
}

/// Lists recordings, newest first.
#[utoipa::path(get, path = "/recordings", operation_id = "list_recordings", tag = "recordings", params(Paging), responses(
    (status = 200, body = List<view::Recording>),
    (status = "default", description = "any error", body = Problem, content_type = "application/problem+json"),
))]
async fn list(
    State(gateway): State<Gateway>,
    caller: Caller,
    request: PageRequest,
) -> Result<Json<List<view::Recording>>, Problem> {
    let rows = gateway.store.recordings(caller.scope(), request.page.clone()).await?;
    let place = |row: &RecordingRow| (row.created_at_ms, row.id.to_string());
    let List { data, next_cursor } =
        request.list(rows, place, |row| caller.sees(&row.owner, Some(&row.room)).then_some(row));
    let data = stream::iter(data).then(|row| shown(&gateway, row)).try_collect().await?;
    Ok(Json(List { data, next_cursor }))
}

/// One recording.
#[utoipa::path(get, path = "/recordings/{id}", operation_id = "get_recording", tag = "recordings", params(("id" = String, Path)), responses(
    (status = 200, body = view::Recording),
    (status = "default", description = "any error", body = Problem, content_type = "application/problem+json"),
))]
async fn get(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<RecordingId>,
) -> Result<Json<view::Recording>, Problem> {
    let row = visible(&gateway, &caller, id).await?;
    Ok(Json(shown(&gateway, row).await?))
}

/// Marks a recording to be kept, or not: retention leaves one that is kept alone.
#[utoipa::path(patch, path = "/recordings/{id}", operation_id = "change_recording", tag = "recordings", params(("id" = String, Path)),
    request_body = view::RecordingChangeBody, responses(
    (status = 200, body = view::Recording),
    (status = "default", description = "any error", body = Problem, content_type = "application/problem+json"),
))]
async fn change(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<RecordingId>,
    Body { fields, mut errors }: Body<view::RecordingChangeBody>,
) -> Result<Json<view::Recording>, Problem> {
    caller.may_write()?;
    visible(&gateway, &caller, id).await?;
    let keep = fields.keep.required(&mut errors, "/keep");
    errors.check()?;
    gateway.store.set_recording_kept(id, keep.expect("checked")).await?;
    let row = visible(&gateway, &caller, id).await?;
    Ok(Json(shown(&gateway, row).await?))
}

/// Deletes a recording and its file.
#[utoipa::path(delete, path = "/recordings/{id}", operation_id = "delete_recording", tag = "recordings", params(("id" = String, Path)),
    responses(
    (status = 204, description = "it is gone"),
    (status = 409, description = "it is being written", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "any other error", body = Problem, content_type = "application/problem+json"),
))]
async fn delete(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<RecordingId>,
) -> Result<StatusCode, Problem> {
    caller.may_write()?;
    let row = visible(&gateway, &caller, id).await?;
    if row.ended_at_ms.is_none() {
        let detail = "it is being written; stop its stream first";
        return Err(Problem::new(StatusCode::CONFLICT, "being_recorded", detail));
    }
    if !retention::delete(gateway.store.as_ref(), &gateway.recordings, &row).await? {
        let detail = "its file cannot be deleted; the gateway's log says why";
        return Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail));
    }
    metrics::counter!("jamcast_recordings_deleted_total", "reason" => "asked").increment(1);
    tracing::info!(recording = %id, by = %caller.0.user, "recording deleted");
    Ok(StatusCode::NO_CONTENT)
}

/// Tries an upload again that was given up.
#[utoipa::path(post, path = "/recordings/{id}/upload", operation_id = "retry_upload", tag = "recordings", params(("id" = String, Path)),
    responses(
    (status = 202, body = view::Recording),
    (status = 409, description = "it was not given up", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "any other error", body = Problem, content_type = "application/problem+json"),
))]
async fn upload(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<RecordingId>,
) -> Result<(StatusCode, Json<view::Recording>), Problem> {
    caller.may_write()?;
    let row = visible(&gateway, &caller, id).await?;
    let failed = gateway.store.upload(id).await?.filter(|upload| upload.state == UploadState::Failed);
    let Some(failed) = failed else {
        let detail = "only an upload that was given up can be tried again; the recording says how it stands";
        return Err(Problem::new(StatusCode::CONFLICT, "upload_not_failed", detail));
    };
    let again = UploadRow::waiting(id, failed.key, view::now_ms());
    gateway.store.set_upload(&again).await?;
    Ok((StatusCode::ACCEPTED, Json(shown(&gateway, row).await?)))
}

/// The file, whole or in ranges (RFC 9110 section 14); one that is still being written can be read up to where it is.
#[utoipa::path(get, path = "/recordings/{id}/file", operation_id = "download_recording", tag = "recordings",
    params(("id" = String, Path), ("Range" = Option<String>, Header)), responses(
    (status = 200, description = "the file", content_type = "video/mp4"),
    (status = 206, description = "a range of it", content_type = "video/mp4"),
    (status = 416, description = "no such range", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "any other error", body = Problem, content_type = "application/problem+json"),
))]
async fn file(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<RecordingId>,
    request: Request,
) -> Result<Response, Problem> {
    let row = visible(&gateway, &caller, id).await?;
    let path = place(&gateway.recordings, &row.file).ok_or_else(|| {
        tracing::error!(recording = %id, "the store names a file outside the recordings folder");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "this recording's file cannot be named")
    })?;
    let served = ServeFile::new(path).with_buf_chunk_size(CHUNK_BYTES).oneshot(request).await;
    let mut response = served.expect("a file server has no other errors than its answers").into_response();
    if response.status() == StatusCode::NOT_FOUND {
        return Err(Problem::new(StatusCode::NOT_FOUND, "file_gone", "the file of this recording is no longer there"));
    }
    if response.status().is_success() {
        let name = format!("attachment; filename=\"{}\"", file_name(&row));
        let name = HeaderValue::from_str(&name).expect("the name is plain ASCII");
        response.headers_mut().insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

async fn visible(gateway: &Gateway, caller: &Caller, id: RecordingId) -> Result<RecordingRow, Problem> {
    let row = gateway.store.recording(id).await?;
    row.filter(|row| caller.sees(&row.owner, Some(&row.room))).ok_or_else(not_found)
}

/// The recording as it is shown, with the markers that lie in it; one that is still being written has the size it has on the disk.
async fn shown(gateway: &Gateway, row: RecordingRow) -> Result<view::Recording, Problem> {
    let path = place(&gateway.recordings, &row.file).filter(|_| row.size_bytes.is_none());
    let size = match path {
        Some(path) => tokio::fs::metadata(path).await.ok().and_then(|file| i64::try_from(file.len()).ok()),
        None => None,
    };
    let markers = gateway.store.markers(row.stream).await?;
    let upload = gateway.store.upload(row.id).await?;
    let poster = poster(&gateway.recordings, &row).await;
    Ok(view::Recording::new(row, size, &markers, upload, poster))
}

/// The number of the thumbnail that stands for the whole: after ten seconds everybody is usually there.
async fn poster(folder: &Path, row: &RecordingRow) -> Option<u32> {
    for number in [1, 0] {
        if tokio::fs::try_exists(thumbnail(folder, row, number)?).await.unwrap_or(false) {
            return Some(number);
        }
    }
    None
}

/// A small picture of the programme: number 0 of its first seconds, and number n of second 10 n.
#[utoipa::path(get, path = "/recordings/{id}/thumbnails/{number}", operation_id = "get_thumbnail", tag = "recordings",
    params(("id" = String, Path), ("number" = u32, Path)), responses(
    (status = 200, description = "320 pixels on its longer side", content_type = "image/jpeg"),
    (status = "default", description = "any error", body = Problem, content_type = "application/problem+json"),
))]
async fn picture(
    State(gateway): State<Gateway>,
    caller: Caller,
    AxumPath((id, number)): AxumPath<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let (Ok(id), Ok(number)) = (id.parse::<RecordingId>(), number.parse::<u32>()) else { return Err(not_found()) };
    let row = visible(&gateway, &caller, id).await?;
    let path = thumbnail(&gateway.recordings, &row, number).ok_or_else(not_found)?;
    let served = ServeFile::new(path).oneshot(request).await;
    let mut response = served.expect("a file server has no other errors than its answers").into_response();
    if response.status() == StatusCode::NOT_FOUND {
        return Err(not_found());
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(UNCHANGING));
    Ok(response)
}

/// A name people recognise in their downloads: of the title what every file system takes.
fn file_name(row: &RecordingRow) -> String {
    let words = row.title.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let title = words.collect::<Vec<_>>().join("-");
    let title = if title.is_empty() { row.room.as_str() } else { &title };
    let kind = Path::new(&row.file).extension().and_then(|kind| kind.to_str()).unwrap_or("mp4");
    match &row.stem {
        None => format!("{title}-{}.{kind}", row.part),
        // Its own name says whose track it is and tells two of the same musician from each other.
        Some(_) => {
            let own = Path::new(&row.file).file_stem().and_then(|own| own.to_str()).unwrap_or("stem");
            let own = own.strip_prefix(&format!("{}-", row.stream)).unwrap_or(own);
            format!("{title}-{own}.{kind}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::StreamId;

    fn row(title: &str, file: &str) -> RecordingRow {
        RecordingRow {
            id: RecordingId::generate(),
            stream: StreamId::generate(),
            owner: "anna".parse().expect("a user"),
            room: "jam".parse().expect("a room name"),
            title: title.into(),
            part: 2,
            file: file.into(),
            created_at_ms: 0,
            ended_at_ms: None,
            size_bytes: None,
            failure: None,
            stem: None,
            zero_at_ms: None,
            kept: false,
        }
    }

    #[test]
    fn a_title_becomes_a_file_name() {
        assert_eq!(file_name(&row("Jam \"night\"; ../7", "a.mp4")), "Jam-night-7-2.mp4");
        assert_eq!(file_name(&row("夜", "a.mp4")), "jam-2.mp4");
    }
}
