//! Files: recordings with ranges, and the studio.

use axum::http::Method;
use axum::http::StatusCode;
use jamcast::domain::retention::Rule;
use jamcast::live::port::MarkerRow;
use jamcast::live::port::RecordingRow;
use jamcast::live::retention;
use jamcast::model::id::MarkerId;
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

#[tokio::test]
async fn a_recording_is_kept_and_deleted_by_its_owner_when_it_has_ended() {
    let world = World::new().await;
    let anna = world.streamer("anna");
    let id = recording(&world, "one.mp4", b"0123456789").await;
    let path = format!("/api/v1/recordings/{id}");
    world.send(Method::DELETE, &path, &anna, None).await.problem(409, "being_recorded");
    let kept = world.send(Method::PATCH, &path, &anna, Some(json!({"keep": true}))).await;
    assert_eq!((kept.status, &kept.json()["keep"]), (StatusCode::OK, &json!(true)));
    let wrong = world.send(Method::PATCH, &path, &anna, Some(json!({"keep": "yes"}))).await;
    assert_eq!(wrong.problem(422, "invalid_fields"), ["/keep"]);
    world
        .gateway
        .store
        .finish_recording(id.parse().expect("an id"), 1_763_690_001_500, 10, None)
        .await
        .expect("finished");
    assert_eq!(world.send(Method::DELETE, &path, &anna, None).await.status, StatusCode::NO_CONTENT);
    world.get(&path, &anna).await.problem(404, "not_found");
    assert!(!world.folder.path().join("recordings/one.mp4").exists());
}

#[tokio::test]
async fn retention_deletes_the_file_and_the_row_and_leaves_what_is_kept_or_written() {
    let world = World::new().await;
    let store = &world.gateway.store;
    let folder = world.folder.path().join("recordings");
    let mut ids = Vec::new();
    for name in ["old.mp4", "kept.mp4", "running.mp4", "new.mp4", "gone.mp4"] {
        ids.push(recording(&world, name, b"0123456789").await.parse().expect("an id"));
    }
    const DAY: i64 = 86_400_000;
    for (id, ended) in [(ids[0], 1), (ids[1], 1), (ids[3], 2 * DAY), (ids[4], 2)] {
        store.finish_recording(id, ended, 10, None).await.expect("finished");
    }
    store.set_recording_kept(ids[1], true).await.expect("kept");
    std::fs::remove_file(folder.join("gone.mp4")).expect("it was there");
    let rule = Rule { max_age_ms: Some(DAY), max_bytes: None };
    retention::sweep(store.as_ref(), &folder, Rule::default(), 3 * DAY).await.expect("swept");
    assert!(folder.join("old.mp4").exists(), "without a rule nothing is deleted");
    retention::sweep(store.as_ref(), &folder, rule, 3 * DAY).await.expect("swept");
    let mut left: Vec<_> = std::fs::read_dir(&folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    left.sort();
    assert_eq!(left, ["kept.mp4", "new.mp4", "running.mp4"]);
    for (id, there) in ids.iter().zip([false, true, true, true, false]) {
        assert_eq!(store.recording(*id).await.expect("answers").is_some(), there, "{id}");
    }
}

#[tokio::test]
async fn markers_lie_in_the_recordings_of_their_time() {
    let world = World::new().await;
    let anna = world.streamer("anna");
    world.room(&anna, "jam").await;
    let id = recording(&world, "one.mp4", b"0123456789").await;
    let id = id.parse().expect("an id");
    let row = world.gateway.store.recording(id).await.expect("answers").expect("stored");
    world.gateway.store.set_recording_zero(id, row.created_at_ms + 200).await.expect("set");
    for (label, after) in [("too early", 100), ("second song", 1_200), ("too late", 2_600)] {
        let marker = MarkerRow {
            id: MarkerId::generate(),
            stream: row.stream,
            label: label.into(),
            at_ms: row.created_at_ms + after,
        };
        world.gateway.store.create_marker(&marker).await.expect("stored");
    }
    world.gateway.store.finish_recording(id, row.created_at_ms + 2_500, 10, None).await.expect("finished");
    let shown = world.get(&format!("/api/v1/recordings/{id}"), &anna).await.json();
    let markers = shown["markers"].as_array().expect("a list");
    assert_eq!(markers.len(), 1, "{markers:?}");
    assert_eq!((&markers[0]["label"], &markers[0]["position_ms"]), (&json!("second song"), &json!(1000)));

    let new = json!({"room": "jam", "title": "Tonight", "record": true});
    let stream = world.create("/api/v1/streams", &anna, new).await;
    let path = format!("/api/v1/streams/{stream}/markers");
    world.post(&path, &anna, json!({"label": "now"})).await.problem(409, "not_live");
    let wrong = world.post(&path, &anna, json!({"label": "", "seconds_ago": 86_401})).await;
    assert_eq!(wrong.problem(422, "invalid_fields"), ["/label", "/seconds_ago"]);
    assert_eq!(world.get(&path, &anna).await.json()["data"], json!([]));
}

#[tokio::test]
async fn thumbnails_are_served_to_be_kept_and_go_with_their_recording() {
    let world = World::new().await;
    let anna = world.streamer("anna");
    let id = recording(&world, "one.mp4", b"0123456789").await;
    let path = format!("/api/v1/recordings/{id}");
    assert_eq!(world.get(&path, &anna).await.json()["poster_url"], json!(null));
    let folder = world.folder.path().join("recordings");
    for number in 0..3 {
        std::fs::write(folder.join(format!("one-0000{number}.jpg")), format!("jpeg {number}")).expect("written");
        let poster = world.get(&path, &anna).await.json()["poster_url"].clone();
        assert_eq!(poster, format!("{path}/thumbnails/{}", number.min(1)));
    }
    let picture = world.get(&format!("{path}/thumbnails/2"), &anna).await;
    assert_eq!((picture.status, picture.text().as_str()), (StatusCode::OK, "jpeg 2"));
    assert_eq!(picture.header("content-type"), "image/jpeg");
    assert_eq!(picture.header("cache-control"), "private, max-age=604800, immutable");
    for number in ["3", "-1", "x", "4294967296"] {
        world.get(&format!("{path}/thumbnails/{number}"), &anna).await.problem(404, "not_found");
    }
    world.gateway.store.finish_recording(id.parse().expect("an id"), 2, 10, None).await.expect("finished");
    assert_eq!(world.send(Method::DELETE, &path, &anna, None).await.status, StatusCode::NO_CONTENT);
    assert_eq!(std::fs::read_dir(&folder).expect("a folder").count(), 0);
}
