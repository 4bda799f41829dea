//! Rate limits as callers meet them.

use axum::body::Body;
use axum::http::Request;
use jamcast::web::config::Config;
use jamcast::web::limits;
use serde_json::json;
use tower::ServiceExt;

use crate::api::world::World;

#[tokio::test]
async fn the_eleventh_stream_within_a_minute_waits() {
    let world = World::new().await;
    let (anna, ben) = (world.streamer("anna"), world.streamer("ben"));
    world.room(&anna, "jam").await;
    let body = json!({"room": "jam", "title": "Tonight", "record": true});
    for left in (0..10).rev() {
        let created = world.post("/api/v1/streams", &anna, body.clone()).await;
        assert_eq!(created.status.as_u16(), 201, "{}", created.text());
        assert_eq!(created.header("ratelimit-policy"), "\"stream_creations\";q=10;w=60");
        assert!(created.header("ratelimit").starts_with(&format!("\"stream_creations\";r={left};t=")));
    }
    let refused = world.post("/api/v1/streams", &anna, body.clone()).await;
    refused.problem(429, "rate_limited");
    let wait: u64 = refused.header("retry-after").parse().expect("seconds");
    assert!((1..=6).contains(&wait), "{wait}");
    assert!(refused.header("ratelimit").starts_with("\"stream_creations\";r=0;t="));

    let read = world.get("/api/v1/streams", &anna).await;
    assert_eq!(read.status.as_u16(), 200, "reading goes on");
    assert!(read.header("ratelimit").starts_with("\"requests\""));
    assert_eq!(world.post("/api/v1/streams", &ben, body).await.problem(422, "invalid_fields"), ["/room"]);
}

#[tokio::test]
async fn guessing_tokens_is_slowed_down_per_address_and_does_not_lock_out_others() {
    let limits = limits::Config { anonymous_max: 3, ..limits::Config::default() };
    let world = World::with(
        Config { limits, trusted_proxies: vec!["127.0.0.1".parse().expect("a network")], ..Config::default() },
        None,
    )
    .await;
    let guess = async |address: &str| {
        world.send_with(axum::http::Method::GET, "/api/v1/rooms", "guess", None, &[("x-forwarded-for", address)]).await
    };
    for _ in 0..3 {
        guess("192.0.2.1").await.problem(401, "token_invalid");
    }
    let refused = guess("192.0.2.1").await;
    refused.problem(429, "rate_limited");
    assert!(refused.headers.contains_key("retry-after"));
    guess("192.0.2.2").await.problem(401, "token_invalid");
    assert_eq!(world.get("/api/v1/rooms", &world.streamer("anna")).await.status.as_u16(), 200);
}

#[tokio::test]
async fn one_user_cannot_take_all_requests() {
    let limits = limits::Config { read_max: 2, ..limits::Config::default() };
    let world = World::with(Config { limits, ..Config::default() }, None).await;
    let anna = world.streamer("anna");
    assert_eq!(world.get("/api/v1/rooms", &anna).await.header("ratelimit"), "\"requests\";r=1;t=30");
    world.get("/api/v1/rooms", &anna).await;
    world.get("/api/v1/rooms", &anna).await.problem(429, "rate_limited");
    assert_eq!(world.get("/api/v1/rooms", &world.streamer("ben")).await.status.as_u16(), 200);
}

#[tokio::test]
async fn one_user_cannot_take_all_event_streams() {
    let limits = limits::Config { events_max: 2, ..limits::Config::default() };
    let world = World::with(Config { limits, ..Config::default() }, None).await;
    let anna = world.streamer("anna");
    let stream = world.stream(&anna, "jam").await;
    let path = format!("/api/v1/streams/{stream}/events");
    let watch = async || {
        let request = Request::get(&path).header("authorization", format!("Bearer {anna}"));
        world
            .app
            .clone()
            .oneshot(request.body(Body::empty()).expect("a request"))
            .await
            .expect("a router does not fail")
    };
    let (first, second) = (watch().await, watch().await);
    assert_eq!((first.status().as_u16(), second.status().as_u16()), (200, 200));
    let refused = world.get(&path, &anna).await;
    refused.problem(429, "too_many_event_streams");
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(world.get("/api/v1/rooms", &anna).await.status.as_u16(), 200, "the rest goes on");
    drop(second);
    assert_eq!(watch().await.status().as_u16(), 200, "a closed one makes room");
}
