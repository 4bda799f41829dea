//! Files: recordings with ranges, and the studio.

use axum::http::Method;
use axum::http::StatusCode;
use jamcast::live::port::RecordingRow;
use jamcast::model::id::RecordingId;
use jamcast::model::id::StreamId;
use serde_json::json;

use crate::api::world::World;

/// Stores a recording of anna's that is still being written, with this content.
async fn recording(world: &World, file: &str, content: &[u8]) -> String {
    let row = RecordingRow {
        id: RecordingId::generate(),
        stream: StreamId::generate(),
        owner: "anna".parse().expect("a user"),
        room: "jam".parse().expect("a room name"),
        title: "Jam night".into(),
        part: 1,
        file: file.into(),
        created_at_ms: 1_763_690_000_000,
        ended_at_ms: None,
        size_bytes: None,
        failure: None,
        stem: None,
        zero_at_ms: None,
        kept: false,
    };
    world.gateway.store.create_recording(&row).await.expect("stored");
    std::fs::write(world.folder.path().join("recordings").join(file), content).expect("written");
    row.id.to_string()
}

#[tokio::test]
async fn a_recording_is_listed_while_it_is_written_and_after() {
    let world = World::new().await;
    let anna = world.streamer("anna");
    let id = recording(&world, "one.mp4", b"0123456789").await;
    let path = format!("/api/v1/recordings/{id}");
    let shown = world.get(&path, &anna).await.json();
    assert_eq!(
        (&shown["size_bytes"], &shown["ended_at"], &shown["duration_ms"]),
        (&json!(10), &json!(null), &json!(null))
    );
    assert_eq!(shown["file_url"], format!("{path}/file"));

    let store = &world.gateway.store;
    store.finish_recording(id.parse().expect("an id"), 1_763_690_001_500, 10, None).await.expect("finished");
    let list = world.get("/api/v1/recordings", &anna).await.json();
    assert_eq!(
        (&list["data"][0]["duration_ms"], &list["data"][0]["ended_at"]),
        (&json!(1500), &json!("2025-11-21T01:53:21.500Z"))
    );
    world.get(&path, &world.streamer("ben")).await.problem(404, "not_found");
    world.get(&format!("{path}/file"), &world.streamer("ben")).await.problem(404, "not_found");
}

#[tokio::test]
async fn a_recording_is_downloaded_whole_and_in_ranges() {
    let world = World::new().await;
    let anna = world.streamer("anna");
    let path = format!("/api/v1/recordings/{}/file", recording(&world, "one.mp4", b"0123456789").await);
    let whole = world.get(&path, &anna).await;
    assert_eq!((whole.status, whole.body.as_slice()), (StatusCode::OK, b"0123456789".as_slice()));
    assert_eq!(whole.header("content-type"), "video/mp4");
    assert_eq!(whole.header("content-disposition"), "attachment; filename=\"Jam-night-1.mp4\"");
    assert_eq!(whole.header("accept-ranges"), "bytes");

    let range = async |range: &str| world.send_with(Method::GET, &path, &anna, None, &[("range", range)]).await;
    let middle = range("bytes=2-4").await;
    assert_eq!((middle.status, middle.body.as_slice()), (StatusCode::PARTIAL_CONTENT, b"234".as_slice()));
    assert_eq!(middle.header("content-range"), "bytes 2-4/10");
    assert_eq!(range("bytes=-3").await.body, b"789");
    let beyond = range("bytes=50-60").await;
    beyond.problem(416, "range_not_satisfiable");
    assert_eq!(beyond.header("content-range"), "bytes */10");
}

#[tokio::test]
async fn a_file_that_is_gone_or_elsewhere_is_not_served() {
    let world = World::new().await;
    let anna = world.streamer("anna");
    let gone = recording(&world, "gone.mp4", b"x").await;
    std::fs::remove_file(world.folder.path().join("recordings/gone.mp4")).expect("removed");
    world.get(&format!("/api/v1/recordings/{gone}/file"), &anna).await.problem(404, "file_gone");
    let outside = recording(&world, "../jamcast.txt", b"not a recording").await;
    world.get(&format!("/api/v1/recordings/{outside}/file"), &anna).await.problem(500, "internal");
}

#[tokio::test]
async fn the_studio_is_served_with_caching_that_fits_its_files() {
    let world = World::new().await;
    let index = world.get("/", "").await;
    assert_eq!(index.status, StatusCode::OK);
    assert_eq!(index.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(index.header("cache-control"), "no-cache");
    let etag = index.header("etag").to_owned();
    let again = world.send_with(Method::GET, "/", "", None, &[("if-none-match", &etag)]).await;
    assert_eq!((again.status, again.body.len()), (StatusCode::NOT_MODIFIED, 0));
    assert_eq!(world.get("/rooms/jam", "").await.body, index.body, "paths of the studio lead to its index");

    let page = index.text();
    let script = page.split('"').find(|part| part.starts_with("/assets/") && part.ends_with(".js")).expect("a script");
    let script = world.get(script, "").await;
    assert_eq!(script.status, StatusCode::OK);
    assert!(script.header("content-type").starts_with("text/javascript"));
    assert!(script.header("cache-control").contains("immutable"));
    world.get("/../Cargo.toml", "").await.problem(404, "not_found");
    world.get("/%2e%2e/%2e%2e/Cargo.toml", "").await.problem(404, "not_found");
}
