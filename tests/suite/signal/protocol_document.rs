//! `docs/PROTOCOL.md` says what the gateway does: its examples are messages of the gateway, and none is missing.

use std::collections::BTreeSet;

use jamcast::proto::canvas;
use jamcast::proto::signal::Call;
use jamcast::proto::signal::FromGateway;
use jamcast::web::problem::Problem;
use serde_json::Value;

const DOCUMENT: &str = include_str!("../../../docs/PROTOCOL.md");

fn examples() -> Vec<Value> {
    let blocks = DOCUMENT.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.map(|block| serde_json::from_str(block).unwrap_or_else(|error| panic!("{error}: {block}"))).collect()
}

#[test]
fn every_example_is_a_message_and_nothing_more() {
    for example in examples() {
        let read = if example.get("status").is_some() {
            serde_json::from_value::<Problem>(example.clone()).map(|problem| serde_json::to_value(problem).unwrap())
        } else if example.get("type").is_some_and(|kind| kind == "open") {
            serde_json::from_value::<canvas::FromSender>(example.clone())
                .map(|said| serde_json::to_value(said).unwrap())
        } else if example.get("type").is_some() {
            serde_json::from_value::<canvas::FromGateway>(example.clone())
                .map(|said| serde_json::to_value(said).unwrap())
        } else if example.get("id").is_some() && example.get("method").is_some() {
            let call = Call::parse(&example.to_string()).unwrap_or_else(|error| panic!("{error:?}: {example}"));
            serde_json::to_value(call)
        } else {
            serde_json::from_value::<FromGateway>(example.clone()).map(|said| serde_json::to_value(said).unwrap())
        };
        assert_eq!(read.unwrap_or_else(|error| panic!("{error}: {example}")), example);
    }
}

#[test]
fn every_canvas_message_has_an_example() {
    let shown: BTreeSet<String> =
        examples().iter().filter_map(|example| Some(example.get("type")?.as_str()?.to_owned())).collect();
    let expected = ["credit", "dropped", "keyframe", "open", "opened", "pace", "refused"];
    assert_eq!(shown.iter().filter(|kind| expected.contains(&kind.as_str())).count(), expected.len(), "{shown:?}");
}

#[test]
fn every_method_and_push_has_an_example() {
    let shown: BTreeSet<String> =
        examples().iter().filter_map(|example| Some(example.get("method")?.as_str()?.to_owned())).collect();
    let expected = [
        "ban",
        "candidate",
        "close",
        "connect",
        "consume",
        "consumer_closed",
        "delays",
        "isolate",
        "join",
        "kick",
        "leave",
        "levels",
        "lock",
        "mute",
        "offer",
        "participant_joined",
        "participant_left",
        "participant_updated",
        "pause",
        "ping",
        "priority",
        "produce",
        "producer_added",
        "producer_paused",
        "producer_removed",
        "producer_resumed",
        "removed",
        "restart_ice",
        "resume",
        "room_updated",
        "set_tile",
        "spotlight",
        "stats",
        "transfer_host",
        "transport_connected",
        "transport_failed",
    ];
    assert_eq!(shown, expected.map(str::to_owned).into());
}
