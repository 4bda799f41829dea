//! Rooms, destinations and streams: what is made of good bodies, and what is said about bad ones.

use axum::http::Method;
use axum::http::StatusCode;
use futures::StreamExt;
use jamcast::model::role::ApiRole;
use jamcast::web::config::Config;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::Value;
use serde_json::json;

use crate::api::world::World;

#[tokio::test]
async fn a_room_is_created_listed_and_shown() {
    let world = World::new().await;
    let anna = world.streamer("anna");
    let created = world.post("/api/v1/rooms", &anna, json!({"id": "jam", "title": " Jam night "})).await;
    assert_eq!(created.status, StatusCode::CREATED);
    assert_eq!(created.header("location"), "/api/v1/rooms/jam");
    let room = created.json();
    assert_eq!((&room["id"], &room["title"], &room["owner"]), (&json!("jam"), &json!("Jam night"), &json!("anna")));
    assert!(room["created_at"].as_str().is_some_and(|at| at.ends_with('Z')));

    assert_eq!(world.get("/api/v1/rooms/jam", &anna).await.json(), room);
    assert_eq!(world.get("/api/v1/rooms", &anna).await.json(), json!({"data": [room], "next_cursor": null}));
    world.post("/api/v1/rooms", &anna, json!({"id": "jam", "title": "Again"})).await.problem(409, "room_exists");
}

#[tokio::test]
async fn lists_go_on_where_the_page_before_ended() {
    let world = World::new().await;
    let anna = world.streamer("anna");
    for index in 0..5 {
        world.room(&anna, &format!("room-{index}")).await;
    }
    let (mut seen, mut path) = (Vec::new(), "/api/v1/rooms?limit=2".to_owned());
    loop {
        let page = world.get(&path, &anna).await.json();
        let ids =
            page["data"].as_array().expect("rows").iter().map(|row| row["id"].as_str().expect("an id").to_owned());
        seen.extend(ids);
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        assert_eq!(page["data"].as_array().map(Vec::len), Some(2));
        path = format!("/api/v1/rooms?limit=2&cursor={cursor}");
        assert!(seen.len() < 10, "the list does not end");
    }
    seen.sort();
    assert_eq!(seen, ["room-0", "room-1", "room-2", "room-3", "room-4"]);
    for query in ["limit=0", "limit=101", "limit=x", "cursor=%25", "offset=2"] {
        world.get(&format!("/api/v1/rooms?{query}"), &anna).await.problem(400, "bad_query");
    }
}

#[tokio::test]
async fn a_room_token_is_minted_for_the_studio() {
    let world = World::new().await;
    let anna = world.streamer("anna");
    world.room(&anna, "jam").await;
    let body = json!({"name": "Ben", "role": "musician", "ttl_s": 600});
    let answer = world.post("/api/v1/rooms/jam/tokens", &anna, body).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    let minted = answer.json();
    let token = minted["token"].as_str().expect("a token");
    assert_eq!(minted["studio_url"], format!("http://127.0.0.1:8080/#token={token}"));
    let grant = world.gateway.identity.room_grant(token).expect("valid");
    assert_eq!((grant.room.as_str(), grant.name.as_str()), ("jam", "Ben"));
    assert!(grant.user.as_str().starts_with("guest-"), "a guest is nobody who owns anything");

    let wrong = json!({"name": "", "role": "admin", "ttl_s": 1});
    let pointers = world.post("/api/v1/rooms/jam/tokens", &anna, wrong).await.problem(422, "invalid_fields");
    assert_eq!(pointers, ["/name", "/role", "/ttl_s"]);
}

#[tokio::test]
async fn a_destination_keeps_its_key_to_itself() {
    let world = World::new().await;
    let anna = world.streamer("anna");
    let body =
        json!({"name": "Ours", "platform": "youtube", "url": "rtmps://a.example/live2", "key": " abcd-1234-xyz9\n"});
    let created = world.post("/api/v1/destinations", &anna, body).await;
    assert_eq!(created.status, StatusCode::CREATED, "{}", created.text());
    let row = created.json();
    assert_eq!(row["url"], "rtmps://a.example:443/live2");
    assert_eq!(row["key_hint"], "••••z9");
    assert_eq!(row.get("key"), None);
    let path = created.header("location");
    assert_eq!(world.get(path, &anna).await.json(), row);

    let rotated = world.send(Method::PUT, &format!("{path}/key"), &anna, Some(json!({"key": "new-key-7777"}))).await;
    assert_eq!(rotated.status, StatusCode::NO_CONTENT);
    assert_eq!(world.get(path, &anna).await.json()["key_hint"], "••••77");
    assert_eq!(world.send(Method::DELETE, path, &anna, None).await.status, StatusCode::NO_CONTENT);
    world.get(path, &anna).await.problem(404, "not_found");
}

#[tokio::test]
async fn a_destination_is_marked_as_one_to_follow_by_those_who_may_change_it() {
    let world = World::new().await;
    let anna = world.streamer("anna");
    let id = world.destination(&anna, "custom").await;
    let path = format!("/api/v1/destinations/{id}");
    assert_eq!(world.get(&path, &anna).await.json()["primary"], false);
    let changed = world.send(Method::PATCH, &path, &anna, Some(json!({"primary": true}))).await;
    assert_eq!((changed.status, &changed.json()["primary"]), (StatusCode::OK, &json!(true)));
    assert_eq!(world.get(&path, &anna).await.json()["primary"], true);
    let told = world.send(Method::PATCH, &path, &anna, Some(json!({"primary": "yes"}))).await.json();
    assert_eq!(told["errors"][0]["pointer"], "/primary");
    let stranger = world.streamer("bob");
    world.send(Method::PATCH, &path, &stranger, Some(json!({"primary": false}))).await.problem(404, "not_found");
    let body = json!({"name": "A", "platform": "custom", "url": "rtmp://a.example/live/key-1", "primary": true});
    assert_eq!(world.post("/api/v1/destinations", &anna, body).await.json()["primary"], true);
}

#[tokio::test]
async fn a_broadcast_that_runs_follows_who_is_marked_now() {
    let world = World::new().await;
    let anna = world.streamer("anna");
    let stream = format!("/api/v1/streams/{}", world.stream(&anna, "jam").await);
    let started = world.post(&format!("{stream}/start"), &anna, json!({})).await.json();
    assert_eq!(started["destinations"][0]["primary"], false);
    let path = format!("/api/v1/destinations/{}", started["destinations"][0]["id"].as_str().expect("an id"));
    for primary in [true, false] {
        world.send(Method::PATCH, &path, &anna, Some(json!({"primary": primary}))).await;
        assert_eq!(world.get(&stream, &anna).await.json()["destinations"][0]["primary"], primary);
    }
}

#[tokio::test]
async fn what_is_on_air_is_measured_by_stream_and_by_destination() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let world = World::with(Config::default(), Some(recorder.handle())).await;
    let anna = world.streamer("anna");
    let stream = world.stream(&anna, "jam").await;
    assert!(!world.get("/metrics", "").await.text().contains("jamcast_on_air"), "it does not run");
    let started = world.post(&format!("/api/v1/streams/{stream}/start"), &anna, json!({})).await;
    let destination = started.json()["destinations"][0]["id"].as_str().expect("an id").to_owned();
    let text = world.get("/metrics", "").await.text();
    assert!(text.contains(&format!("jamcast_on_air_target_video_kbps{{stream=\"{stream}\"}} ")), "{text}");
    for name in ["passed_through", "passed_frames_total"] {
        assert!(text.contains(&format!("jamcast_on_air_{name}{{stream=\"{stream}\"}} 0\n")), "{text}");
    }
    let labels = format!("stream=\"{stream}\",destination=\"{destination}\",platform=\"custom\"");
    for name in ["sent_bytes_total", "dropped_frames_total", "queue_seconds"] {
        assert!(text.contains(&format!("jamcast_on_air_destination_{name}{{{labels}}} 0\n")), "{text}");
    }
}

#[tokio::test]
async fn a_destination_has_a_second_server_with_the_same_or_its_own_key() {
    let world = World::new().await;
    let anna = world.streamer("anna");
    let body = |more: Value| {
        let mut body =
            json!({"name": "Ours", "platform": "youtube", "url": "rtmps://a.example/live2", "key": "abcd-1234"});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    let row = world.post("/api/v1/destinations", &anna, body(json!({}))).await.json();
    assert_eq!(row["backup_url"], Value::Null);
    for own in [json!({}), json!({"backup_key": "efgh-5678"})] {
        let mut asked = body(own.clone());
        asked["backup_url"] = json!("rtmps://b.example/live2?backup=1");
        let created = world.post("/api/v1/destinations", &anna, asked).await;
        assert_eq!(created.status, StatusCode::CREATED, "{}", created.text());
        let row = created.json();
        assert_eq!(row["backup_url"], "rtmps://b.example:443/live2?backup=1");
        assert!(!created.text().contains("efgh") && !created.text().contains("abcd"));
        let id = row["id"].as_str().expect("an id").parse().expect("an id");
        let stored = world.gateway.store.destination(id).await.expect("answers").expect("stored");
        let backup = stored.backup.expect("kept");
        assert_eq!(backup.sealed_key.is_some(), own.get("backup_key").is_some());
        if let Some(sealed) = &backup.sealed_key {
            assert_eq!(world.gateway.vault.open(id, sealed).expect("opens").expose(), "efgh-5678");
        }
    }
    let told =
        world.post("/api/v1/destinations", &anna, body(json!({"backup_url": "rtmps://private.example/x"}))).await;
    assert_eq!(told.json()["errors"][0]["pointer"], "/backup_url");
}

#[tokio::test]
async fn a_stream_gets_and_loses_destinations_that_its_owner_has_and_their_platforms_take() {
    let world = World::new().await;
    let anna = world.streamer("anna");
    let stream = world.stream(&anna, "jam").await;
    let more = world.destination(&anna, "custom").await;
    let path = format!("/api/v1/streams/{stream}/destinations");
    let added = world.send(Method::PUT, &format!("{path}/{more}"), &anna, None).await;
    assert_eq!(added.status, StatusCode::OK, "{}", added.text());
    let names = |row: &Value| row["destinations"].as_array().expect("a list").len();
    assert_eq!(names(&added.json()), 2);
    let again = world.send(Method::PUT, &format!("{path}/{more}"), &anna, None).await.json();
    assert_eq!(names(&again), 2, "twice is once");
    let bob = world.streamer("bob");
    let bobs = world.destination(&bob, "custom").await;
    world.send(Method::PUT, &format!("{path}/{bobs}"), &anna, None).await.problem(404, "not_found");
    let removed = world.send(Method::DELETE, &format!("{path}/{more}"), &anna, None).await;
    assert_eq!((removed.status, names(&removed.json())), (StatusCode::OK, 1));
    assert_eq!(names(&world.get(&format!("/api/v1/streams/{stream}"), &anna).await.json()), 1);

    let large = json!({"room": "jam", "title": "Large", "record": true, "programme": {"width": 3840, "height": 2160}});
    let large = world.create("/api/v1/streams", &anna, large).await;
    let twitch = world.destination(&anna, "twitch").await;
    let refused = world.send(Method::PUT, &format!("/api/v1/streams/{large}/destinations/{twitch}"), &anna, None).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.text().contains("Twitch takes pictures up to"), "{}", refused.text());
}

#[tokio::test]
async fn a_key_pasted_within_the_url_is_taken_out_of_it() {
    let world = World::new().await;
    let anna = world.streamer("anna");
    let body = json!({"name": "Ours", "platform": "custom", "url": "rtmp://a.example/live/secret-key-42"});
    let row = world.post("/api/v1/destinations", &anna, body).await.json();
    assert_eq!((&row["url"], &row["key_hint"]), (&json!("rtmp://a.example:1935/live"), &json!("••••42")));
}

#[tokio::test]
async fn every_wrong_field_of_a_destination_is_told_at_once() {
    let world = World::new().await;
    let anna = world.streamer("anna");
    let pointers = |body: Value| {
        let (world, anna) = (&world, &anna);
        async move { world.post("/api/v1/destinations", anna, body).await.problem(422, "invalid_fields") }
    };
    assert_eq!(pointers(json!({})).await, ["/name", "/platform", "/url"]);
    let body = json!({"name": "x\ny", "platform": "vimeo", "url": "http://a.example", "key": "a b", "keys": 1});
    assert_eq!(pointers(body).await, ["/keys", "/name", "/platform", "/key", "/url"]);
    let at = |url: &str, platform: &str| json!({"name": "n", "platform": platform, "url": url, "key": "abcd1234"});
    assert_eq!(pointers(at("rtmp://nowhere.invalid/live", "custom")).await, ["/url"]);
    assert_eq!(pointers(at("rtmp://private.example/live", "custom")).await, ["/url"]);
    assert_eq!(pointers(at("rtmp://a.example/live", "facebook")).await, ["/url"], "Facebook takes RTMPS only");
}

#[tokio::test]
async fn an_unknown_field_is_refused_with_those_that_are_known() {
    let world = World::new().await;
    let anna = world.streamer("anna");
    let answer = world.post("/api/v1/rooms", &anna, json!({"id": "jam", "title": "Jam", "tilte": "x"})).await;
    assert_eq!(answer.problem(422, "invalid_fields"), ["/tilte"]);
    assert!(answer.text().contains("its fields are id, title"));
}

#[tokio::test]
async fn bodies_that_are_no_json_objects_are_refused() {
    let world = World::new().await;
    let anna = world.streamer("anna");
    let post = |kind: &'static str, body: String| {
        let request = axum::http::Request::post("/api/v1/rooms")
            .header("authorization", format!("Bearer {anna}"))
            .header("content-type", kind)
            .body(body.into())
            .expect("a request");
        world.raw(request)
    };
    post("application/json", "{".into()).await.problem(400, "bad_json");
    assert_eq!(post("application/json", "[]".into()).await.problem(422, "invalid_fields"), [""]);
    post("text/plain", "{}".into()).await.problem(415, "unsupported_media_type");
    post("application/json", format!("{{\"title\":\"{}\"}}", "x".repeat(70_000))).await.problem(413, "body_too_large");
    let deep = "[".repeat(10_000);
    post("application/json; charset=utf-8", deep).await.problem(400, "bad_json");
}

#[tokio::test]
async fn a_stream_is_created_started_stopped_and_deleted() {
    let world = World::new().await;
    let anna = world.streamer("anna");
    world.room(&anna, "jam").await;
    let x = world.destination(&anna, "x").await;
    let body = json!({"room": "jam", "title": "Tonight", "destinations": [x], "record": true});
    let created = world.post("/api/v1/streams", &anna, body).await;
    assert_eq!(created.status, StatusCode::CREATED, "{}", created.text());
    let stream = created.json();
    let path = created.header("location").to_owned();
    assert_eq!(path, format!("/api/v1/streams/{}", stream["id"].as_str().expect("an id")));
    assert!(created.header("etag").len() > 10);
    assert_eq!((&stream["state"], &stream["record"]), (&json!("created"), &json!(true)));
    assert_eq!(stream["programme"]["audio_kbps"], 128, "X takes 128 kbit/s of audio at most");
    assert_eq!(world.get(&path, &anna).await.json()["id"], stream["id"]);
    assert_eq!(world.get("/api/v1/streams", &anna).await.json()["data"][0]["id"], stream["id"]);

    let send = |method, tail: &'static str| {
        let (world, anna, path) = (&world, &anna, format!("{path}{tail}"));
        async move { world.send(method, &path, anna, None).await }
    };
    let started = send(Method::POST, "/start").await;
    assert_eq!(started.status, StatusCode::ACCEPTED, "{}", started.text());
    assert_eq!(send(Method::POST, "/start").await.status, StatusCode::CONFLICT);
    assert_eq!(send(Method::DELETE, "").await.status, StatusCode::CONFLICT);
    assert_eq!(send(Method::POST, "/stop").await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_stream_that_never_ran_can_be_deleted() {
    let world = World::new().await;
    let anna = world.streamer("anna");
    let path = format!("/api/v1/streams/{}", world.stream(&anna, "jam").await);
    assert_eq!(world.send(Method::DELETE, &path, &anna, None).await.status, StatusCode::NO_CONTENT);
    world.get(&path, &anna).await.problem(404, "not_found");
}

#[tokio::test]
async fn every_wrong_field_of_a_stream_is_told_at_once() {
    let world = World::new().await;
    let (anna, ben) = (world.streamer("anna"), world.streamer("ben"));
    world.room(&anna, "jam").await;
    let (ours, theirs) = (world.destination(&anna, "x").await, world.destination(&ben, "x").await);
    let body = json!({
        "room": "elsewhere", "title": "", "destinations": [ours, theirs, "dst_1", ours], "record": "yes",
        "programme": {"width": 1281, "fps": 500, "video_kbps": "much", "audio_kbps": 160, "codec": "av1"}, "start": true
    });
    let pointers = world.post("/api/v1/streams", &anna, body).await.problem(422, "invalid_fields");
    for expected in [
        "/start",
        "/title",
        "/record",
        "/room",
        "/destinations/1",
        "/destinations/2",
        "/destinations/3",
        "/programme/codec",
        "/programme/width",
        "/programme/fps",
        "/programme/video_kbps",
        "/programme/audio_kbps",
    ] {
        assert!(pointers.iter().any(|pointer| pointer == expected), "{expected} is not in {pointers:?}");
    }
    let nowhere = json!({"room": "jam", "title": "To nobody"});
    assert_eq!(world.post("/api/v1/streams", &anna, nowhere).await.problem(422, "invalid_fields"), ["/destinations"]);
}

#[tokio::test]
async fn an_idempotency_key_creates_one_stream() {
    let world = World::new().await;
    let anna = world.streamer("anna");
    world.room(&anna, "jam").await;
    let post = |title: &'static str, key: &'static str| {
        let (world, anna) = (&world, &anna);
        let body = json!({"room": "jam", "title": title, "record": true});
        async move { world.send_with(Method::POST, "/api/v1/streams", anna, Some(body), &[("idempotency-key", key)]).await }
    };
    let first = post("Tonight", "key-1").await;
    assert_eq!(first.status, StatusCode::CREATED, "{}", first.text());
    let again = post("Tonight", "key-1").await;
    assert_eq!((again.status, &again.json()["id"]), (StatusCode::CREATED, &first.json()["id"]));
    post("Tomorrow", "key-1").await.problem(422, "idempotency_key_reused");
    assert_ne!(post("Tonight", "key-2").await.json()["id"], first.json()["id"]);
    post("Tonight", "a key").await.problem(400, "bad_idempotency_key");
}

#[tokio::test]
async fn events_begin_with_the_snapshot() {
    let world = World::new().await;
    let anna = world.streamer("anna");
    let id = world.stream(&anna, "jam").await;
    let request = axum::http::Request::get(format!("/api/v1/streams/{id}/events"))
        .header("authorization", format!("Bearer {anna}"))
        .header("accept-encoding", "gzip")
        .body(axum::body::Body::empty())
        .expect("a request");
    let response = tower::ServiceExt::oneshot(world.app.clone(), request).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body().into_data_stream();
    let first = tokio::time::timeout(std::time::Duration::from_secs(5), body.next()).await.expect("at once");
    let text = String::from_utf8(first.expect("an event").expect("bytes").to_vec()).expect("text");
    assert!(text.starts_with("event: snapshot\ndata: {"), "{text}");
    let data = text.lines().find_map(|line| line.strip_prefix("data: ")).expect("data");
    assert_eq!(serde_json::from_str::<Value>(data).expect("JSON")["id"], id);
}

#[tokio::test]
async fn platforms_tell_their_limits() {
    let world = World::new().await;
    let list = world.get("/api/v1/platforms", &world.token("vera", ApiRole::Viewer)).await.json();
    let names: Vec<_> = list["data"].as_array().expect("rows").iter().map(|row| row["name"].as_str()).collect();
    assert!(names.contains(&Some("x")) && names.contains(&Some("custom")), "{names:?}");
    assert_eq!(list["data"][0]["limits"]["max_audio_kbps"], 128);
}

#[tokio::test]
async fn a_programme_is_asked_for_by_the_name_of_a_tier() {
    let world = World::new().await;
    let token = world.streamer("sam");
    let list = world.get("/api/v1/tiers", &token).await.json();
    let names: Vec<_> = list["data"].as_array().expect("rows").iter().map(|row| row["name"].as_str()).collect();
    assert_eq!(names, ["1080p60", "1080p30", "720p60", "720p30", "540p30", "480p30"].map(Some));
    world.room(&token, "jam").await;
    let ask = async |programme: Value| {
        let body = json!({"room": "jam", "title": "Named", "record": true, "programme": programme});
        world.post("/api/v1/streams", &token, body).await
    };
    let small = ask(json!({"tier": "480p30", "audio_kbps": 96})).await.json();
    let expected = json!({
        "width": 854, "height": 480, "fps": 30, "video_kbps": 1200, "audio_kbps": 96, "keyframe_interval_s": 2,
        "passthrough": "off", "latency": "normal"
    });
    assert_eq!(small["programme"], expected);
    let low = ask(json!({"latency": "low"})).await.json();
    assert_eq!(low["programme"]["latency"], "low");
    let unknown = ask(json!({"latency": "none"})).await.json();
    assert_eq!(unknown["errors"][0]["pointer"], "/programme/latency");
    let passed = ask(json!({"passthrough": "auto"})).await.json();
    assert_eq!(passed["programme"]["passthrough"], "auto");
    let unknown = ask(json!({"passthrough": "maybe"})).await.json();
    assert_eq!(unknown["errors"][0]["pointer"], "/programme/passthrough");
    let unknown = ask(json!({"tier": "8k"})).await.json();
    assert_eq!(unknown["errors"][0]["pointer"], "/programme/tier");
    assert!(unknown["errors"][0]["detail"].as_str().expect("words").contains("720p30"), "{unknown}");
}
