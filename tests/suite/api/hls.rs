//! HLS over the API: asked for at creation, and files that anybody may fetch, as far as there are any.

use axum::http::Method;
use jamcast::web::config::Config;
use jamcast::web::limits;
use serde_json::json;

use crate::api::world::World;

#[tokio::test]
async fn a_stream_for_hls_alone_needs_no_destination_and_says_where_it_is() {
    let world = World::new().await;
    let anna = world.streamer("anna");
    world.room(&anna, "jam").await;
    let asked = json!({"room": "jam", "title": "Tonight", "hls": true});
    let created = world.post("/api/v1/streams", &anna, asked).await;
    assert_eq!(created.status.as_u16(), 201, "{}", created.text());
    let stream = created.json();
    let id = stream["id"].as_str().expect("an id");
    assert_eq!(stream["hls_url"], json!(format!("/hls/{id}/index.m3u8")));
    // It survives in the store, and others have none.
    let read = world.get(&format!("/api/v1/streams/{id}"), &anna).await.json();
    assert_eq!(read["hls_url"], stream["hls_url"]);
    let recorded = world.post("/api/v1/streams", &anna, json!({"room": "jam", "title": "T", "record": true})).await;
    assert_eq!(recorded.json()["hls_url"], json!(null));
    let wrong = world.post("/api/v1/streams", &anna, json!({"room": "jam", "title": "T", "hls": "yes"})).await;
    assert_eq!(wrong.problem(422, "invalid_fields"), ["/hls", "/destinations"]);
}

#[tokio::test]
async fn what_is_not_there_is_not_found_by_anybody_and_remembered_by_no_cache() {
    let world = World::new().await;
    let anna = world.streamer("anna");
    world.room(&anna, "jam").await;
    let id = world.create("/api/v1/streams", &anna, json!({"room": "jam", "title": "Tonight", "hls": true})).await;
    world.post(&format!("/api/v1/streams/{id}/start"), &anna, json!(null)).await;
    let unknown = "str_00000000000000000000000000000000";
    let paths = [
        // It runs, and its mixer has said nothing yet.
        format!("/hls/{id}/index.m3u8"),
        format!("/hls/{id}/0.m4s"),
        format!("/hls/{id}/init-1.mp4"),
        format!("/hls/{unknown}/index.m3u8"),
        format!("/hls/{id}/..%2f..%2fjamcast.db"),
        "/hls/..%2f..%2fetc/index.m3u8".to_owned(),
        "/hls/recordings/0.m4s".to_owned(),
    ];
    for path in &paths {
        let answer = world.get(path, "").await;
        answer.problem(404, "not_found");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), "*", "{path}");
    }
    let answer = world.send(Method::DELETE, &paths[0], "", None).await;
    assert_eq!(answer.status.as_u16(), 405);
}

#[tokio::test]
async fn viewers_of_one_address_share_a_budget_of_their_own() {
    let limits = limits::Config { viewer_max: 3, ..limits::Config::default() };
    let proxies = vec!["127.0.0.1".parse().expect("a network")];
    let world = World::with(Config { limits, trusted_proxies: proxies, ..Config::default() }, None).await;
    let path = "/hls/str_00000000000000000000000000000000/index.m3u8";
    let look = async |address| world.send_with(Method::GET, path, "", None, &[("x-forwarded-for", address)]).await;
    for _ in 0..3 {
        look("192.0.2.1").await.problem(404, "not_found");
    }
    let refused = look("192.0.2.1").await;
    refused.problem(429, "rate_limited");
    assert_eq!((refused.header("cache-control"), refused.header("access-control-allow-origin")), ("no-store", "*"));
    look("192.0.2.2").await.problem(404, "not_found");
    let room = world.get("/api/v1/rooms", &world.streamer("anna")).await;
    assert_eq!(room.status.as_u16(), 200, "those who have an account are not held up");
}
