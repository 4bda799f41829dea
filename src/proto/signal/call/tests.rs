//! Calls as they are read, and as they survive the wire.

use proptest::prelude::*;

use crate::model::id::ConsumerId;
use crate::model::id::ParticipantId;
use crate::model::id::ProducerId;
use crate::model::media::MediaKind;
use crate::proto::signal::Ask;
use crate::proto::signal::Call;
use crate::proto::signal::Connect;
use crate::proto::signal::FromGateway;
use crate::proto::signal::Hidden;
use crate::proto::signal::JitterBuffer;
use crate::proto::signal::MAX_REPORTED;
use crate::proto::signal::Source;
use crate::proto::signal::TrackRef;
use crate::proto::signal::Transport;

fn refusal(text: &str) -> (Option<u64>, String) {
    let malformed = Call::parse(text).unwrap_err();
    (malformed.id, malformed.failure.code)
}

#[test]
fn a_call_is_read_with_its_id() {
    let call = Call::parse(r#"{"id":7,"method":"produce","data":{"mid":"0","source":"microphone"}}"#).unwrap();
    assert_eq!(call, Call { id: 7, ask: Ask::Produce { mid: "0".into(), source: Source::Microphone } });
    assert_eq!(Call::parse(r#"{"id":8,"method":"ping"}"#).unwrap().ask, Ask::Ping {});
}

#[test]
fn what_is_wrong_is_named() {
    let unknown = "{\"id\":1,\"method\":\"dance\",\"data\":{}}";
    assert_eq!(refusal("{"), (None, "malformed".into()));
    assert_eq!(refusal("[1]"), (None, "malformed".into()));
    assert_eq!(refusal(r#"{"id":-1,"method":"ping"}"#), (None, "malformed".into()));
    assert_eq!(refusal(r#"{"id":3,"method":"ping","extra":1}"#), (Some(3), "malformed".into()));
    assert_eq!(refusal(unknown), (Some(1), "unknown_method".into()));
    for data in [
        r#""join","data":{"token":"x","room":"y"}"#,
        r#""join","data":{"token":5}"#,
        r#""connect","data":{"transport":"send","sdp":"v=0","offer_id":1}"#,
        r#""connect","data":{"transport":"recv","sdp":"v=0"}"#,
        r#""connect","data":{"transport":"sideways","sdp":"v=0"}"#,
        r#""produce","data":{"mid":"0","source":"kazoo"}"#,
        r#""produce","data":{"mid":"0","source":"programme"}"#,
        r#""pause","data":{}"#,
        r#""pause","data":{"track":"x"}"#,
        r#""leave","data":{"reason":"bored"}"#,
        r#""ping","data":null"#,
    ] {
        let text = format!("{{\"id\":2,\"method\":{data}}}");
        assert_eq!(refusal(&text), (Some(2), "bad_data".into()), "{text}");
    }
}

#[test]
fn a_track_is_named_once() {
    let both = format!(
        r#"{{"id":1,"method":"close","data":{{"producer_id":"{}","consumer_id":"{}"}}}}"#,
        ProducerId::generate(),
        ConsumerId::generate()
    );
    assert!(Call::parse(&both).unwrap_err().failure.message.contains("either"));
}

#[test]
fn jitter_buffers_are_told_of_a_full_room_and_no_more() {
    let report = |entries: usize| {
        let entry = format!(r#"{{"consumer_id":"{}","delay_ms":40}}"#, ConsumerId::generate());
        let entries = vec![entry; entries].join(",");
        format!(r#"{{"id":5,"method":"stats","data":{{"jitter_buffers":[{entries}]}}}}"#)
    };
    assert!(
        matches!(Call::parse(&report(64)), Ok(Call { ask: Ask::Stats { jitter_buffers }, .. }) if jitter_buffers.len() == 64)
    );
    assert_eq!(refusal(&report(65)), (Some(5), "bad_data".into()));
}

#[test]
fn a_token_is_not_printed() {
    let call = Call::parse(r#"{"id":1,"method":"join","data":{"token":"canary"}}"#).unwrap();
    assert!(!format!("{call:?}").contains("canary"));
}

fn any_order(number: u8) -> Ask {
    let (participant_id, yes) = (ParticipantId::generate(), number.is_multiple_of(2));
    match number % 7 {
        0 => Ask::Kick { participant_id },
        1 => Ask::Ban { participant_id },
        2 => Ask::Mute { participant_id, kind: MediaKind::Audio, muted: number > 99 },
        3 => Ask::Isolate { participant_id, isolated: yes },
        4 => Ask::Spotlight { participant_id: yes.then_some(participant_id) },
        5 => Ask::Lock { locked: yes },
        _ => Ask::TransferHost { participant_id },
    }
}

fn any_ask() -> impl Strategy<Value = Ask> {
    let transport = prop_oneof![Just(Transport::Send), Just(Transport::Recv)];
    let source = prop_oneof![Just(Source::Microphone), Just(Source::Camera), Just(Source::Screen)];
    let track = any::<bool>().prop_map(|sent| {
        if sent { TrackRef::Producer(ProducerId::generate()) } else { TrackRef::Consumer(ConsumerId::generate()) }
    });
    prop_oneof![
        (any::<String>(), any::<Option<String>>())
            .prop_map(|(token, resume)| Ask::Join { token: Hidden::new(token), resume_token: resume.map(Hidden::new) }),
        any::<u8>().prop_map(|priority| Ask::Priority { consumer_id: ConsumerId::generate(), priority }),
        any::<u8>().prop_map(any_order),
        any::<String>().prop_map(|sdp| Ask::Connect(Connect::Send { sdp })),
        (any::<u32>(), any::<String>()).prop_map(|(offer_id, sdp)| Ask::Connect(Connect::Recv { offer_id, sdp })),
        (transport, any::<String>()).prop_map(|(transport, candidate)| Ask::Candidate { transport, candidate }),
        (any::<String>(), source).prop_map(|(mid, source)| Ask::Produce { mid, source }),
        Just(()).prop_map(|()| Ask::Consume { producer_id: ProducerId::generate() }),
        track.clone().prop_map(Ask::Pause),
        track.clone().prop_map(Ask::Resume),
        track.prop_map(Ask::Close),
        any::<(u16, u16)>().prop_map(|(width, height)| Ask::SetTile {
            consumer_id: ConsumerId::generate(),
            width,
            height
        }),
        any::<Vec<u16>>().prop_map(|delays| {
            let buffer = |delay_ms| JitterBuffer { consumer_id: ConsumerId::generate(), delay_ms };
            Ask::Stats { jitter_buffers: delays.into_iter().take(MAX_REPORTED).map(buffer).collect() }
        }),
        Just(Ask::RestartIce {}),
        Just(Ask::Leave {}),
        Just(Ask::Ping {}),
    ]
}

proptest! {
    #[test]
    fn every_call_survives_the_wire(id in any::<u64>(), ask in any_ask()) {
        let call = Call { id, ask };
        let text = serde_json::to_string(&call).unwrap();
        prop_assert_eq!(Call::parse(&text).unwrap(), call);
    }

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        let _ = Call::parse(&text);
        let _ = serde_json::from_str::<FromGateway>(&text);
    }

    #[test]
    fn arbitrary_data_never_panics(method in "[a-z_]{0,12}", data in r#"[\[\]{}":,a-z0-9_]{0,64}"#) {
        let _ = Call::parse(&format!(r#"{{"id":1,"method":"{method}","data":{data}}}"#));
    }
}
