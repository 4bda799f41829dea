//! Who may see and change what, and what every answer has in common.

use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use axum::body::Body;
use axum::http::Method;
use axum::http::Request;
use axum::http::StatusCode;
use jamcast::live::rooms::Rooms;
use jamcast::model::role::ApiRole;
use jamcast::model::role::RoomGrant;
use jamcast::model::role::RoomRole;
use jamcast::web;
use jamcast::web::config::Config;
use jamcast::web::limits;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::Value;
use serde_json::json;
use tokio::sync::mpsc;

use crate::api::world::World;

/// Every operation of the description, with ids that belong to nobody.
async fn operations(world: &World) -> Vec<(Method, String)> {
    let description = world.get("/openapi.json", "").await.json();
    let paths = description["paths"].as_object().expect("paths").clone();
    let mut operations = Vec::new();
    for (path, item) in paths {
        for method in item.as_object().expect("operations").keys() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
            operations.push((method, path.replace("{id}", "str_0190a3f0000070008000000000000000")));
        }
    }
    operations
}

#[tokio::test]
async fn the_description_lists_every_route_and_is_the_committed_one() {
    let world = World::new().await;
    let served = world.get("/openapi.json", "").await;
    assert_eq!(served.status, StatusCode::OK);
    assert_eq!(served.body, world.get("/api/v1/openapi.json", "").await.body);
    let mut listed: Vec<_> = operations(&world).await.iter().map(|(method, path)| format!("{method} {path}")).collect();
    listed.sort();
    let id = "str_0190a3f0000070008000000000000000";
    let mut expected = [
        "GET /api/v1/destinations",
        "POST /api/v1/destinations",
        "GET /api/v1/destinations/ID",
        "DELETE /api/v1/destinations/ID",
        "PATCH /api/v1/destinations/ID",
        "PUT /api/v1/destinations/ID/key",
        "GET /api/v1/platforms",
        "GET /api/v1/tiers",
        "GET /api/v1/recordings",
        "GET /api/v1/recordings/ID",
        "PATCH /api/v1/recordings/ID",
        "DELETE /api/v1/recordings/ID",
        "GET /api/v1/recordings/ID/file",
        "POST /api/v1/recordings/ID/upload",
        "GET /api/v1/recordings/ID/thumbnails/{number}",
        "GET /api/v1/rooms",
        "POST /api/v1/rooms",
        "GET /api/v1/rooms/ID",
        "GET /api/v1/rooms/ID/delays",
        "POST /api/v1/rooms/ID/tokens",
        "GET /api/v1/streams",
        "POST /api/v1/streams",
        "GET /api/v1/streams/ID/markers",
        "POST /api/v1/streams/ID/markers",
        "DELETE /api/v1/streams/ID/markers/{marker}",
        "GET /api/v1/streams/ID",
        "DELETE /api/v1/streams/ID",
        "PATCH /api/v1/streams/ID",
        "GET /api/v1/streams/ID/events",
        "PUT /api/v1/streams/ID/destinations/{destination}",
        "DELETE /api/v1/streams/ID/destinations/{destination}",
        "POST /api/v1/streams/ID/start",
        "POST /api/v1/streams/ID/stop",
    ]
    .map(|operation| operation.replace("ID", id));
    expected.sort();
    assert_eq!(listed, expected);

    let description = served.json();
    let items = description["paths"].as_object().expect("paths").values();
    let mut names: Vec<_> = items
        .flat_map(|item| item.as_object().expect("operations").values())
        .map(|operation| operation["operationId"].as_str().expect("a name"))
        .collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), expected.len(), "every operation has a name of its own");

    // JAMCAST_UPDATE_OPENAPI=1 writes the description anew; a change of the API then shows in the diff.
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
    if std::env::var_os("JAMCAST_UPDATE_OPENAPI").is_some() {
        std::fs::write(path, format!("{}\n", served.text())).expect("docs/ can be written");
    }
    let committed = std::fs::read_to_string(path).expect("docs/openapi.json is committed");
    assert!(
        committed.trim_end() == served.text(),
        "the API is not what docs/openapi.json says: run `JAMCAST_UPDATE_OPENAPI=1 cargo test --test suite api::` and commit it"
    );
}

#[tokio::test]
async fn without_a_valid_token_every_operation_is_refused() {
    let limits = limits::Config { anonymous_max: 1000, ..limits::Config::default() };
    let world = World::with(Config { limits, ..Config::default() }, None).await;
    let strangers = jamcast::driver::identity::Tokens::new(&"other secret".repeat(4), None).expect("a long secret");
    let forged = {
        use jamcast::live::port::Identity;
        strangers.mint_api(&"anna".parse().expect("a user"), ApiRole::Admin, 600)
    };
    let then = jsonwebtoken::get_current_timestamp() - 60;
    let claims = json!({
        "iss": "jamcast", "aud": "jamcast-api", "sub": "anna", "role": "admin", "iat": then, "nbf": then, "exp": then + 30,
    });
    let secret = jsonwebtoken::EncodingKey::from_secret("s".repeat(32).as_bytes());
    let expired = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &secret).expect("encodes");
    for (method, path) in operations(&world).await {
        let answer = world.send(method.clone(), &path, "", None).await;
        answer.problem(401, "token_missing");
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
        world.send(method.clone(), &path, &forged, None).await.problem(401, "token_invalid");
        world.send(method, &path, &expired, None).await.problem(401, "token_expired");
    }
}

#[tokio::test]
async fn rows_of_others_are_not_there() {
    let world = World::new().await;
    let (anna, ben, root) = (world.streamer("anna"), world.streamer("ben"), world.token("root", ApiRole::Admin));
    let stream = world.stream(&anna, "jam").await;
    let destination =
        world.get("/api/v1/destinations", &anna).await.json()["data"][0]["id"].as_str().expect("an id").to_owned();
    let key = json!({"key": "stolen-key-1"});
    let token = json!({"name": "Ben", "role": "host"});
    for (method, path, body) in [
        (Method::GET, "/api/v1/rooms/jam".to_owned(), None),
        (Method::POST, "/api/v1/rooms/jam/tokens".to_owned(), Some(token)),
        (Method::GET, format!("/api/v1/destinations/{destination}"), None),
        (Method::PUT, format!("/api/v1/destinations/{destination}/key"), Some(key)),
        (Method::DELETE, format!("/api/v1/destinations/{destination}"), None),
        (Method::GET, format!("/api/v1/streams/{stream}"), None),
        (Method::GET, format!("/api/v1/streams/{stream}/events"), None),
        (Method::POST, format!("/api/v1/streams/{stream}/start"), None),
        (Method::POST, format!("/api/v1/streams/{stream}/stop"), None),
        (Method::DELETE, format!("/api/v1/streams/{stream}"), None),
    ] {
        world.send(method, &path, &ben, body).await.problem(404, "not_found");
    }
    for list in ["rooms", "destinations", "streams", "recordings"] {
        let path = format!("/api/v1/{list}");
        assert_eq!(world.get(&path, &ben).await.json()["data"], json!([]), "{list}");
    }
    assert_eq!(world.get(&format!("/api/v1/streams/{stream}"), &root).await.status, StatusCode::OK);
    assert_eq!(world.get("/api/v1/streams", &root).await.json()["data"][0]["id"], stream);
}

#[tokio::test]
async fn a_viewer_reads_and_changes_nothing() {
    let world = World::new().await;
    let vera = world.token("vera", ApiRole::Viewer);
    for path in ["/api/v1/rooms", "/api/v1/destinations", "/api/v1/streams"] {
        assert_eq!(world.get(path, &vera).await.status, StatusCode::OK);
        world.post(path, &vera, json!({})).await.problem(403, "forbidden");
    }
}

#[tokio::test]
async fn a_hosts_room_token_runs_its_room_and_no_other() {
    let world = World::new().await;
    let anna = world.streamer("anna");
    let elsewhere = world.stream(&anna, "other").await;
    world.room(&anna, "jam").await;
    let minted = world.post("/api/v1/rooms/jam/tokens", &anna, json!({"name": "Ben", "role": "host"})).await.json();
    let host = minted["token"].as_str().expect("a token");

    let destinations = world.get("/api/v1/destinations", host).await.json();
    assert_eq!(destinations["data"].as_array().map(Vec::len), Some(1), "the owner's destinations");
    let body = json!({"room": "jam", "title": "Tonight", "destinations": [destinations["data"][0]["id"]]});
    let stream = world.create("/api/v1/streams", host, body).await;
    let list = world.get("/api/v1/streams", host).await.json();
    assert_eq!(list["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(list["data"][0]["id"], stream);

    world.post("/api/v1/rooms", host, json!({"id": "mine", "title": "Mine"})).await.problem(403, "forbidden");
    world.get("/api/v1/rooms/other", host).await.problem(404, "not_found");
    world.get(&format!("/api/v1/streams/{elsewhere}"), host).await.problem(404, "not_found");
    let body = json!({"room": "other", "title": "Not mine", "record": true});
    assert_eq!(world.post("/api/v1/streams", host, body).await.problem(422, "invalid_fields"), ["/room"]);

    let grant = RoomGrant {
        room: "jam".parse().expect("a room name"),
        user: "carl".parse().expect("a user"),
        role: RoomRole::Musician,
        name: "Carl".into(),
    };
    let musician = world.gateway.identity.mint_room(&grant, 600);
    assert_eq!(world.get("/api/v1/streams", &musician).await.json()["data"], json!([]), "a musician owns nothing");
    world.post("/api/v1/streams", &musician, json!({})).await.problem(403, "forbidden");
}

#[tokio::test]
async fn every_error_is_a_problem_whoever_answers() {
    let world = World::new().await;
    let anna = world.streamer("anna");
    world.get("/api/v1/nothing", &anna).await.problem(404, "not_found");
    world.get("/assets/missing.js", "").await.problem(404, "not_found");
    let wrong = world.send(Method::PATCH, "/api/v1/rooms", &anna, None).await;
    wrong.problem(405, "method_not_allowed");
    assert!(wrong.header("allow").contains("POST"));
    world.get("/api/v1/streams/not-an-id", &anna).await.problem(404, "not_found");
}

#[tokio::test]
async fn answers_carry_the_security_headers_and_the_callers_request_id() {
    let world = World::new().await;
    let answer = world.send_with(Method::GET, "/", "", None, &[("x-request-id", "deploy-7")]).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("x-request-id"), "deploy-7");
    let policy = answer.header("content-security-policy");
    assert!(policy.contains("default-src 'self'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("referrer-policy"), "no-referrer");
    assert!(answer.header("permissions-policy").contains("microphone=(self), camera=(self)"));
    assert_eq!(world.get("/api/v1/rooms", &world.streamer("anna")).await.header("cache-control"), "no-store");
}

#[tokio::test]
async fn a_dead_media_worker_is_told_to_the_load_balancer() {
    let mut world = World::new().await;
    world.gateway.rooms = Rooms::new(vec![mpsc::channel(1).0]);
    world.app = web::router(&world.gateway);
    assert_eq!(world.get("/livez", "").await.status, StatusCode::OK);
    world.get("/readyz", "").await.problem(503, "media_worker_dead");
}

#[tokio::test]
async fn probes_tell_life_from_readiness() {
    let world = World::new().await;
    assert_eq!(world.get("/livez", "").await.status, StatusCode::OK);
    assert_eq!(world.get("/readyz", "").await.status, StatusCode::OK);
    let anna = world.streamer("anna");
    let stream = world.stream(&anna, "jam").await;
    let started = world.send(Method::POST, &format!("/api/v1/streams/{stream}/start"), &anna, None).await;
    assert_eq!(started.status, StatusCode::ACCEPTED);

    // The mixers of this world never finish, so the stream is still on its way out for as long as this test looks.
    let gateway = world.gateway.clone();
    let draining = tokio::spawn(async move { gateway.drain(Duration::from_secs(60)).await });
    while !world.gateway.draining.is_cancelled() {
        tokio::task::yield_now().await;
    }
    world.get("/readyz", "").await.problem(503, "draining");
    assert_eq!(world.get("/livez", "").await.status, StatusCode::OK);
    assert_eq!(
        world.get(&format!("/api/v1/streams/{stream}"), &anna).await.status,
        StatusCode::OK,
        "it is watched to its end"
    );
    assert_eq!(world.gateway.registry.active(), 1);
    assert!(!world.gateway.shutdown.is_cancelled() && !draining.is_finished());
    draining.abort();
}

/// Collects what is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("one thread").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_stream_key_appears_in_no_answer_log_or_metric() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    // While there is only one subscriber, tracing asks that of whichever thread comes first whether an event is wanted at all, and
    // the threads of other tests have none.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let _log = tracing::subscriber::set_default(subscriber);
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _metrics = metrics::set_default_local_recorder(&recorder);

    let world = World::with(Config::default(), Some(handle)).await;
    let anna = world.streamer("anna");
    let send = |method: Method, path: String, body: Value| {
        let (world, anna) = (&world, &anna);
        async move { world.send(method, &path, anna, Some(body)).await }
    };
    let good = json!({"name": "n", "platform": "x", "url": "rtmps://a.example/live", "key": "live_CANARY_1"});
    let id =
        send(Method::POST, "/api/v1/destinations".into(), good).await.json()["id"].as_str().expect("an id").to_owned();
    for bad in [
        json!({"name": 7, "platform": "x", "url": "rtmps://a.example/live", "key": "live_CANARY_2"}),
        json!({"name": "n", "platform": "x", "url": "rtmps://a.example/live/CANARY 3", "key": "CANARY 4"}),
        json!({"name": "n", "platform": "CANARY_5", "url": "CANARY_6", "key": ["CANARY_7"]}),
        json!({"name": {"CANARY": 8}, "record": "CANARY_9"}),
        json!({"name": "n", "platform": "x", "url": "rtmps://a.invalid/live/CANARY_10"}),
    ] {
        assert_eq!(send(Method::POST, "/api/v1/destinations".into(), bad).await.status.as_u16(), 422);
    }
    let path = format!("/api/v1/destinations/{id}/key");
    assert_eq!(send(Method::PUT, path, json!({"key": "live_CANARY_11"})).await.status, StatusCode::NO_CONTENT);
    let broken = Request::post("/api/v1/destinations")
        .header("authorization", format!("Bearer {anna}"))
        .header("content-type", "application/json")
        .body(Body::from("{\"key\": \"CANARY_12\", }"))
        .expect("a request");
    world.raw(broken).await.problem(400, "bad_json");
    world.get(&format!("/api/v1/destinations/{id}"), &anna).await;
    world.get("/api/v1/destinations", &anna).await;
    let metrics = world.get("/metrics", "").await;
    assert!(
        metrics
            .text()
            .contains(r#"jamcast_http_requests_total{method="POST",route="/api/v1/destinations",status="201"} 1"#),
        "{}",
        metrics.text()
    );

    let log = String::from_utf8(log.0.lock().expect("one thread").clone()).expect("text");
    assert!(log.contains("destination stored"), "the log was not captured");
    assert!(!log.contains("CANARY"), "{log}");
    assert!(!log.contains(&anna), "a token was logged");
    let transcript = world.transcript.lock().expect("one thread");
    assert!(!transcript.contains("CANARY"), "{transcript}");
}
