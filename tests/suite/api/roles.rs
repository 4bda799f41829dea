//! Every operation for every kind of caller.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::Method;
use axum::http::Request;
use axum::http::StatusCode;
use jamcast::live::port::RecordingRow;
use jamcast::model::id::RecordingId;
use jamcast::model::id::StreamId;
use jamcast::model::role::ApiRole;
use jamcast::model::role::RoomGrant;
use jamcast::model::role::RoomRole;
use jamcast::web::config::Config;
use jamcast::web::limits;
use serde_json::Value;
use serde_json::json;
use tower::ServiceExt;

use crate::api::world::World;

/// Everything belongs to anna, whose rooms are `jam` and `other`. `{account}` is a destination of her account, `{jams}` one that a
/// host of `jam` added; streams and recordings are of `jam`. The last four columns are room tokens, three of `jam` and one of `other`.
const TABLE: &str = "
                                        nobody viewer anna ben admin | host musician audience other's-host
    GET    /rooms                       401    200    200  200 200   | 200  200      200      200
    POST   /rooms                       401    403    201  201 201   | 403  403      403      403
    GET    /rooms/jam                   401    200    200  404 200   | 200  404      404      404
    GET    /rooms/jam/delays            401    200    200  404 200   | 200  200      200      404
    POST   /rooms/jam/tokens            401    403    201  404 201   | 201  403      403      404
    GET    /destinations                401    200    200  200 200   | 200  200      200      200
    POST   /destinations                401    403    201  201 201   | 201  403      403      201
    GET    /destinations/{account}      401    200    200  404 200   | 200  404      404      200
    PUT    /destinations/{account}/key  401    403    204  404 204   | 403  403      403      403
    PATCH  /destinations/{account}      401    403    200  404 200   | 403  403      403      403
    DELETE /destinations/{account}      401    403    204  404 204   | 403  403      403      403
    GET    /destinations/{jams}         401    200    200  404 200   | 200  404      404      404
    PUT    /destinations/{jams}/key     401    403    204  404 204   | 204  403      403      404
    PATCH  /destinations/{jams}         401    403    200  404 200   | 200  403      403      404
    DELETE /destinations/{jams}         401    403    204  404 204   | 204  403      403      404
    GET    /platforms                   401    200    200  200 200   | 200  200      200      200
    GET    /tiers                       401    200    200  200 200   | 200  200      200      200
    GET    /streams                     401    200    200  200 200   | 200  200      200      200
    POST   /streams                     401    403    201  422 422   | 201  403      403      422
    GET    /streams/{stream}            401    200    200  404 200   | 200  404      404      404
    GET    /streams/{stream}/events     401    200    200  404 200   | 200  404      404      404
    POST   /streams/{stream}/start      401    403    202  404 202   | 202  403      403      404
    POST   /streams/{stream}/stop       401    403    202  404 202   | 202  403      403      404
    PATCH  /streams/{stream}            401    403    409  404 409   | 409  403      403      404
    PUT    /streams/{stream}/destinations/{destination} 401 403 200 404 200 | 200 403 403 404
    DELETE /streams/{stream}/destinations/{destination} 401 403 200 404 200 | 200 403 403 404
    GET    /streams/{stream}/markers    401    200    200  404 200   | 200  404      404      404
    POST   /streams/{stream}/markers    401    403    409  404 409   | 409  403      403      404
    DELETE /streams/{stream}/markers/{marker} 401 403 404 404 404 | 404 403 403 404
    DELETE /streams/{stream}            401    403    204  404 204   | 204  403      403      404
    GET    /recordings                  401    200    200  200 200   | 200  200      200      200
    GET    /recordings/{recording}      401    200    200  404 200   | 200  404      404      404
    GET    /recordings/{recording}/file 401    200    200  404 200   | 200  404      404      404
    GET    /recordings/{recording}/thumbnails/{number} 401 200 200 404 200 | 200 404 404 404
    PATCH  /recordings/{recording}      401    403    200  404 200   | 200  403      403      404
    POST   /recordings/{recording}/upload 401  403    409  404 409   | 409  403      403      404
    DELETE /recordings/{recording}      401    403    204  404 204   | 204  403      403      404
";

struct Row {
    method: Method,
    path: &'static str,
    statuses: Vec<u16>,
}

fn rows() -> Vec<Row> {
    let lines = TABLE.lines().filter(|line| line.contains(" /"));
    lines
        .map(|line| {
            let mut words = line.split_whitespace().filter(|word| *word != "|");
            let method = words.next().and_then(|word| word.parse().ok()).expect("a method");
            let path = words.next().expect("a path");
            Row { method, path, statuses: words.map(|word| word.parse().expect("a status")).collect() }
        })
        .collect()
}

async fn world() -> World {
    let limits = limits::Config { max: 10_000, read_max: 10_000, anonymous_max: 10_000, ..limits::Config::default() };
    World::with(Config { limits, ..Config::default() }, None).await
}

fn room_token(world: &World, user: &str, role: RoomRole, room: &str) -> String {
    let grant = RoomGrant {
        room: room.parse().expect("a room name"),
        user: user.parse().expect("a user"),
        role,
        name: "Somebody".into(),
    };
    world.gateway.identity.mint_room(&grant, 600)
}

/// In the order of the columns.
fn callers(world: &World) -> Vec<String> {
    vec![
        String::new(),
        world.token("anna", ApiRole::Viewer),
        world.streamer("anna"),
        world.streamer("ben"),
        world.token("root", ApiRole::Admin),
        room_token(world, "anna", RoomRole::Host, "jam"),
        room_token(world, "guest-1", RoomRole::Musician, "jam"),
        room_token(world, "guest-2", RoomRole::Viewer, "jam"),
        room_token(world, "anna", RoomRole::Host, "other"),
    ]
}

async fn recording(world: &World) -> String {
    let row = RecordingRow {
        id: RecordingId::generate(),
        stream: StreamId::generate(),
        owner: "anna".parse().expect("a user"),
        room: "jam".parse().expect("a room name"),
        title: "Tonight".into(),
        part: 1,
        file: "tonight.mp4".into(),
        created_at_ms: 1,
        ended_at_ms: Some(2),
        size_bytes: Some(4),
        failure: None,
        stem: None,
        zero_at_ms: None,
        kept: false,
    };
    std::fs::write(world.gateway.recordings.join(&row.file), b"mp4!").expect("a file");
    std::fs::write(world.gateway.recordings.join("tonight-00000.jpg"), b"jpeg").expect("a file");
    world.gateway.store.create_recording(&row).await.expect("stored");
    row.id.to_string()
}

/// The status of one request; the body of an event stream would never end, so it is not read.
async fn status(world: &World, method: &Method, path: &str, token: &str, body: &Value) -> u16 {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .expect("a request");
    world.app.clone().oneshot(request).await.expect("a router does not fail").status().as_u16()
}

#[tokio::test]
async fn every_operation_answers_every_caller_as_the_table_says() {
    let callers = callers(&world().await).len();
    for column in 0..callers {
        let world = world().await;
        let token = callers_token(&world, column);
        let (anna, host) = (world.streamer("anna"), room_token(&world, "anna", RoomRole::Host, "jam"));
        world.room(&anna, "other").await;
        world.room(&anna, "jam").await;
        let recording = recording(&world).await;
        for row in rows() {
            // New things for each row, so that a row that deletes something takes nothing from the others.
            let account = world.destination(&anna, "custom").await;
            let jams = world.destination(&host, "custom").await;
            let new = json!({"room": "jam", "title": "Tonight", "destinations": [account]});
            let stream = world.create("/api/v1/streams", &anna, new.clone()).await;
            let body = match (row.path, &row.method) {
                ("/rooms", _) => json!({"id": "mine", "title": "Mine"}),
                ("/rooms/jam/tokens", _) => json!({"name": "Ben", "role": "musician"}),
                ("/destinations", _) => {
                    json!({"name": "n", "platform": "custom", "url": "rtmps://a.example/live", "key": "some-key-123"})
                }
                ("/streams", _) => new,
                // It does not run: who may direct it is told so.
                ("/streams/{stream}", &Method::PATCH) => json!({"mix": {"normalise": true}}),
                ("/streams/{stream}/markers", _) => json!({"label": "Second song"}),
                ("/recordings/{recording}", &Method::PATCH) => json!({"keep": true}),
                (_, &Method::PUT) => json!({"key": "another-key-1"}),
                (_, &Method::PATCH) => json!({"primary": true}),
                _ => Value::Null,
            };
            let path = row.path.replace("{account}", &account).replace("{jams}", &jams);
            let path = path.replace("{stream}", &stream).replace("{recording}", &recording);
            let path = path.replace("{destination}", &account).replace("{number}", "0");
            let seen = status(&world, &row.method, &format!("/api/v1{path}"), &token, &body).await;
            assert_eq!(seen, row.statuses[column], "{} {} in column {column}", row.method, row.path);
        }
    }
}

fn callers_token(world: &World, column: usize) -> String {
    callers(world).swap_remove(column)
}

#[tokio::test]
async fn the_table_names_every_operation_and_every_caller() {
    let world = world().await;
    let callers = callers(&world).len();
    let mut named = BTreeSet::new();
    for row in rows() {
        assert_eq!(row.statuses.len(), callers, "{}", row.path);
        let mut path = row.path.replace("/jam", "/{id}");
        for thing in ["{account}", "{jams}", "{stream}", "{recording}"] {
            path = path.replace(thing, "{id}");
        }
        named.insert(format!("{} /api/v1{path}", row.method));
    }
    let description = world.get("/openapi.json", "").await.json();
    let paths = description["paths"].as_object().expect("paths");
    let described = paths.iter().flat_map(|(path, item)| {
        item.as_object().expect("operations").keys().map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    assert_eq!(named, described.collect::<BTreeSet<_>>());
}

#[tokio::test]
async fn a_host_uses_the_accounts_destinations_and_changes_its_rooms_own() {
    let world = world().await;
    let anna = world.streamer("anna");
    for room in ["jam", "other"] {
        world.room(&anna, room).await;
    }
    let (host, elsewhere) =
        (room_token(&world, "anna", RoomRole::Host, "jam"), room_token(&world, "anna", RoomRole::Host, "other"));
    let account = world.destination(&anna, "custom").await;
    let own = world.destination(&host, "custom").await;
    let theirs = world.destination(&elsewhere, "custom").await;

    let list = async |token: &str| {
        let list = world.get("/api/v1/destinations", token).await.json();
        let list = list["data"].as_array().expect("a list").iter();
        list.map(|row| {
            let text = |name: &str| row[name].as_str().unwrap_or("none").to_owned();
            (text("id"), text("room"), row["may_change"].as_bool().expect("told"))
        })
        .collect::<BTreeSet<_>>()
    };
    let row = |id: &str, room: &str, may_change| (id.to_owned(), room.to_owned(), may_change);
    assert_eq!(list(&host).await, BTreeSet::from([row(&account, "none", false), row(&own, "jam", true)]));
    assert_eq!(
        list(&anna).await,
        BTreeSet::from([row(&account, "none", true), row(&own, "jam", true), row(&theirs, "other", true)])
    );

    let body = json!({"room": "jam", "title": "Tonight", "destinations": [account, own, theirs]});
    assert_eq!(world.post("/api/v1/streams", &host, body).await.problem(422, "invalid_fields"), ["/destinations/2"]);
    let body = json!({"room": "jam", "title": "Tonight", "destinations": [account, own]});
    let stream = world.create("/api/v1/streams", &host, body).await;
    let started = world.send(Method::POST, &format!("/api/v1/streams/{stream}/start"), &host, None).await;
    assert_eq!(started.status, StatusCode::ACCEPTED, "{}", started.text());

    // On air it stays, whoever asks.
    for (token, id) in [(&host, &own), (&anna, &account)] {
        let refused = world.send(Method::DELETE, &format!("/api/v1/destinations/{id}"), token, None).await;
        refused.problem(409, "on_air");
        assert!(refused.text().contains(&stream));
    }
    let gone = world.send(Method::DELETE, &format!("/api/v1/destinations/{theirs}"), &elsewhere, None).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT, "that one is not");
}

#[tokio::test]
async fn a_minted_token_never_outlives_the_room_token_that_minted_it() {
    let world = world().await;
    world.room(&world.streamer("anna"), "jam").await;
    let mut token = room_token(&world, "anna", RoomRole::Host, "jam");
    let first = world.gateway.identity.principal(&token).expect("valid");
    for _ in 0..3 {
        let minted = world.post("/api/v1/rooms/jam/tokens", &token, json!({"name": "Ben", "role": "host"})).await;
        assert_eq!(minted.status, StatusCode::CREATED, "{}", minted.text());
        token = minted.json()["token"].as_str().expect("a token").to_owned();
        let next = world.gateway.identity.principal(&token).expect("valid");
        assert!(next.expires_at_s <= first.expires_at_s, "{next:?} outlives {first:?}");
        assert!(next.expires_at_s + 60 > first.expires_at_s, "{next:?} is cut short");
        assert_eq!((&next.user, next.role, &next.room), (&first.user, first.role, &first.room));
    }
    let longer = json!({"name": "Ben", "role": "musician", "ttl_s": 3600});
    let refused = world.post("/api/v1/rooms/jam/tokens", &token, longer).await;
    assert_eq!(refused.problem(422, "invalid_fields"), ["/ttl_s"]);
    let more = json!({"name": "Ben", "role": "admin"});
    assert_eq!(world.post("/api/v1/rooms/jam/tokens", &token, more).await.problem(422, "invalid_fields"), ["/role"]);
}
