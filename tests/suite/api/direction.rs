//! `PATCH` of a running stream: what is directed, and what is said about values that cannot be.

use std::time::Duration;

use axum::http::Method;
use axum::http::StatusCode;
use jamcast::model::id::ParticipantId;
use jamcast::web::config::Config;
use serde_json::Value;
use serde_json::json;
use tokio::time::timeout;

use crate::api::world::World;
use crate::api::world::rooms_of;
use crate::stream::band;

async fn running(world: &World, token: &str) -> String {
    let path = format!("/api/v1/streams/{}", world.stream(token, "jam").await);
    assert_eq!(world.send(Method::POST, &format!("{path}/start"), token, None).await.status, StatusCode::ACCEPTED);
    path
}

#[tokio::test]
async fn a_programme_is_directed_while_it_runs_by_who_may() {
    let world = World::new().await;
    let anna = world.streamer("anna");
    let change = json!({"mix": {"master_gain_db": -3, "normalise": true}, "layout": {"kind": "speaker"}});
    let path = format!("/api/v1/streams/{}", world.stream(&anna, "jam").await);
    world.send(Method::PATCH, &path, &anna, Some(change.clone())).await.problem(409, "wrong_state");
    world.send(Method::POST, &format!("{path}/start"), &anna, None).await;
    let changed = world.send(Method::PATCH, &path, &anna, Some(change.clone())).await;
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.text());
    let seen = world.get(&path, &anna).await;
    assert_eq!(seen.header("etag"), changed.header("etag"));
    let seen = seen.json();
    assert_eq!(
        seen["mix"],
        json!({"master_gain_db": -3.0, "normalise": true, "leader": null, "proposed_leader": null, "musicians": []})
    );
    assert_eq!((&seen["layout"]["kind"], &seen["layout"]["corner"]), (&json!("speaker"), &json!("bottom_right")));
    // What is left out stays.
    let changed = world.send(Method::PATCH, &path, &anna, Some(json!({"mix": {"master_gain_db": 1.5}}))).await.json();
    assert_eq!((&changed["mix"]["master_gain_db"], &changed["mix"]["normalise"]), (&json!(1.5), &json!(true)));
    assert_eq!(changed["layout"]["kind"], "speaker");

    let dressed = json!({"dressing": {"captions": true, "title": " <b>Tonight</b> ", "background": "#0A0b0c"}});
    let changed = world.send(Method::PATCH, &path, &anna, Some(dressed)).await.json();
    let expected = json!({"captions": true, "title": "<b>Tonight</b>", "logo": false, "background": "#0a0b0c", "backdrop": false,
            "looks": []});
    assert_eq!(changed["dressing"], expected);
    let changed = world.send(Method::PATCH, &path, &anna, Some(json!({"dressing": {"title": " "}}))).await.json();
    assert_eq!((&changed["dressing"]["title"], &changed["dressing"]["captions"]), (&Value::Null, &json!(true)));

    let eve = world.streamer("eve");
    world.send(Method::PATCH, &path, &eve, Some(change.clone())).await.problem(404, "not_found");
    let viewer = world.token("anna", jamcast::model::role::ApiRole::Viewer);
    world.send(Method::PATCH, &path, &viewer, Some(change)).await.problem(403, "forbidden");
}

#[tokio::test]
async fn a_leader_is_named_by_who_is_there_and_an_empty_name_is_nobody() {
    let people = band(&["Ann", "Bob"]);
    let [ann, bob] = [0, 1].map(|index| people.participants[index].id);
    let world = World::around(rooms_of(people), Config::default(), None).await;
    let token = world.streamer("anna");
    let path = running(&world, &token).await;
    let are_there = async {
        while world.get(&path, &token).await.json()["mix"]["musicians"].as_array().is_none_or(|those| those.len() < 2) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(20), are_there).await.expect("in time");
    let lead = async |leader: &str| {
        let led = world.send(Method::PATCH, &path, &token, Some(json!({"mix": {"leader": leader}}))).await.json();
        assert_eq!(world.get(&path, &token).await.json()["mix"]["leader"], led["mix"]["leader"]);
        led["mix"].clone()
    };
    let mix = lead(&bob.to_string()).await;
    assert_eq!(mix["leader"], json!({"participant": bob.to_string(), "name": "Bob", "present": true}));
    let alignment = |mix: &Value, musician: ParticipantId| {
        let musicians = mix["musicians"].as_array().expect("two of them");
        let one = musicians.iter().find(|one| one["participant"] == musician.to_string()).expect("is there");
        one["alignment"].clone()
    };
    assert_eq!(alignment(&mix, bob), json!({"standing": "leader", "late_ms": null, "added_ms": 0}));
    assert_eq!(alignment(&mix, ann), json!({"standing": "unmeasured", "late_ms": null, "added_ms": 0}));
    let mix = lead("").await;
    assert_eq!((&mix["leader"], alignment(&mix, bob)), (&Value::Null, Value::Null));
}

#[tokio::test]
async fn every_wrong_value_is_told_at_once_and_nothing_is_changed() {
    let world = World::new().await;
    let anna = world.streamer("anna");
    let path = running(&world, &anna).await;
    let pointers =
        async |body: Value| world.send(Method::PATCH, &path, &anna, Some(body)).await.problem(422, "invalid_fields");
    let nobody = "par_00000000000000000000000000000000";
    let mix = json!({"mix": {"master_gain_db": 13, "normalise": "yes", "leader": nobody, "musicians": [
        {"participant": nobody, "gain_db": -61, "muted": 1, "solo": "x", "pan": 1.01, "delay_ms": -201},
        {"gain": 1},
    ]}});
    let of = |fields: &[&str]| fields.iter().map(|field| format!("/mix/musicians/0/{field}")).collect::<Vec<_>>();
    let mut expected = ["/mix/master_gain_db", "/mix/normalise", "/mix/leader"].map(str::to_owned).to_vec();
    expected.extend(of(&["gain_db", "muted", "solo", "pan", "delay_ms", "participant"]));
    expected.extend(["/mix/musicians/1/gain".to_owned(), "/mix/musicians/1/participant".to_owned()]);
    assert_eq!(pointers(mix).await, expected);

    let layout = json!({"layout": {"kind": "wall", "corner": "middle", "large": {}, "small": {"participant": nobody, "screen": 1},
    "tiles": [
        {"participant": nobody, "x": 0.5, "y": 0, "width": 0.6, "height": 0.01},
        {"participant": nobody, "x": 0, "y": 0, "width": 1, "height": 1},
        {"participant": nobody, "x": -0.1, "y": 0, "height": 1},
        {"participant": nobody, "x": 0, "y": 0, "width": 0.3333333333, "height": 1},
        {"participant": nobody, "screen": true, "x": 0.6666666667, "y": 0, "width": 0.3333333334, "height": 1},
    ]}});
    let expected = [
        "/layout/kind",
        "/layout/corner",
        "/layout/large/participant",
        "/layout/small/screen",
        "/layout/tiles/0/height",
        "/layout/tiles/0/width",
        "/layout/tiles/2/x",
        "/layout/tiles/2/width",
        "/layout/tiles/3",
    ];
    assert_eq!(pointers(layout).await, expected);
    let dressing = json!({"dressing": {"captions": 1, "title": "x".repeat(101), "background": "red", "logo": "R0lGODlh", "backdrop": "AAAA", "looks": [
        {"participant": nobody, "crop": [0.5, 0, 0.5, 0], "mirror": "x", "brightness": 1.1, "monochrome": 0, "blur": 1},
        {"participant": nobody, "crop": [0, 0, 0]},
    ]}});
    let of = |fields: &[&str]| fields.iter().map(|field| format!("/dressing/looks/0/{field}")).collect::<Vec<_>>();
    let mut expected =
        ["/dressing/title", "/dressing/logo", "/dressing/backdrop", "/dressing/background", "/dressing/captions"]
            .map(str::to_owned)
            .to_vec();
    expected.extend(of(&["blur", "crop", "mirror", "brightness", "monochrome", "participant"]));
    expected.extend(["/dressing/looks/1/crop".to_owned(), "/dressing/looks/1/participant".to_owned()]);
    assert_eq!(pointers(dressing).await, expected);
    assert_eq!(pointers(json!({"layout": {"kind": "custom"}})).await, ["/layout/tiles"]);
    assert_eq!(pointers(json!({"mix": 7, "layout": [], "mixx": {}})).await, ["/mixx", "/mix", "/layout"]);
    let tiles: Vec<_> = (0..17).map(|_| json!({})).collect();
    assert!(pointers(json!({"layout": {"kind": "grid", "tiles": tiles}})).await.contains(&"/layout/tiles".to_owned()));
    let musicians: Vec<_> = (0..65).map(|_| json!({"participant": nobody})).collect();
    assert!(pointers(json!({"mix": {"musicians": musicians}})).await.contains(&"/mix/musicians".to_owned()));
    assert_eq!(world.get(&path, &anna).await.json()["mix"]["master_gain_db"], 0.0);
}

#[tokio::test]
async fn meters_are_asked_for_with_true_or_false() {
    let world = World::new().await;
    let anna = world.streamer("anna");
    let path = running(&world, &anna).await;
    for query in ["meters=1", "meter=true", "meters=true&x=1"] {
        world.get(&format!("{path}/events?{query}"), &anna).await.problem(400, "bad_query");
    }
}
