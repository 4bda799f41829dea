//! Conversations in virtual time.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::id::ParticipantId;
use crate::model::id::ProducerId;
use crate::proto::signal::Hidden;
use crate::proto::signal::Joined;
use crate::proto::signal::Level;
use crate::proto::signal::Participant;

const JOIN: &str = r#"{"id":1,"method":"join","data":{"token":"t"}}"#;
const PRODUCE: &str = r#"{"id":2,"method":"produce","data":{"mid":"0","source":"camera"}}"#;

const ADA: &str = "par_0198f3a0b1c27d3e8f4a5b6c7d8e9f00";

fn person(id: ParticipantId, role: RoomRole) -> Participant {
    Participant { id, name: "Ada".into(), role, audio_muted: false, video_muted: false, isolated: false }
}

fn joined(role: RoomRole) -> Answer {
    Answer::Joined(Box::new(Joined {
        you: person(ADA.parse().unwrap(), role),
        room: "jam".parse().unwrap(),
        locked: false,
        spotlight: None,
        ice_servers: vec![],
        heartbeat_ms: 15_000,
        resume_token: Hidden::new(String::new()),
        resume_within_ms: 30_000,
        participants: vec![],
        producers: vec![],
        kept: None,
    }))
}

fn in_room(now: Instant, role: RoomRole) -> Conversation {
    let mut conversation = Conversation::new(now, Limits::default());
    conversation.handle_text(now, JOIN);
    let Some((id, Ask::Join { .. })) = conversation.poll_call() else { panic!("a join is carried out") };
    conversation.finish(id, Ok(joined(role)));
    assert!(matches!(conversation.poll_output(), Some(Output::Text(_))));
    conversation
}

fn failure_code(output: Option<Output>) -> String {
    let Some(Output::Text(text)) = output else { panic!("no text but {output:?}") };
    serde_json::from_str::<Reply>(&text).unwrap().outcome.unwrap_err().code
}

/// Lets virtual time pass until the conversation ends, for ten minutes at most.
fn ending(conversation: &mut Conversation, start: Instant) -> Option<(Farewell, Duration)> {
    while let Some(at) = conversation.poll_timeout().filter(|at| *at < start + Duration::from_secs(600)) {
        conversation.handle_timeout(at);
        while let Some(output) = conversation.poll_output() {
            if let Output::Close(why) = output {
                return Some((why, at - start));
            }
        }
    }
    None
}

#[test]
fn nothing_is_done_before_joining() {
    let now = Instant::now();
    let mut conversation = Conversation::new(now, Limits::default());
    conversation.handle_text(now, PRODUCE);
    assert_eq!(conversation.poll_call(), None);
    assert_eq!(failure_code(conversation.poll_output()), "not_joined");
}

#[test]
fn an_answer_does_not_wait_for_the_consume_that_waits_for_it() {
    let now = Instant::now();
    let mut conversation = in_room(now, RoomRole::Musician);
    let producer = ProducerId::generate();
    conversation.handle_text(now, &format!(r#"{{"id":7,"method":"consume","data":{{"producer_id":"{producer}"}}}}"#));
    let answer = r#"{"id":8,"method":"connect","data":{"transport":"recv","offer_id":1,"sdp":"v=0"}}"#;
    conversation.handle_text(now, answer);

    assert!(matches!(conversation.poll_call(), Some((7, Ask::Consume { .. }))));
    assert!(matches!(conversation.poll_call(), Some((8, Ask::Connect(_)))));
}

#[test]
fn calls_sent_ahead_wait_for_the_join_and_obey_its_role() {
    let now = Instant::now();
    let mut conversation = Conversation::new(now, Limits::default());
    conversation.handle_text(now, JOIN);
    conversation.handle_text(now, PRODUCE);
    let Some((id, Ask::Join { .. })) = conversation.poll_call() else { panic!("a join is carried out") };
    assert_eq!(conversation.poll_call(), None);
    conversation.finish(id, Ok(joined(RoomRole::Viewer)));
    assert_eq!(conversation.poll_call(), None);
    conversation.poll_output();
    assert_eq!(failure_code(conversation.poll_output()), "role_too_low");
}

#[test]
fn joining_twice_is_refused() {
    let now = Instant::now();
    let mut conversation = in_room(now, RoomRole::Host);
    conversation.handle_text(now, JOIN);
    assert_eq!(conversation.poll_call(), None);
    assert_eq!(failure_code(conversation.poll_output()), "already_joined");
}

#[test]
fn a_socket_that_does_not_join_is_closed_after_ten_seconds() {
    let now = Instant::now();
    let mut conversation = Conversation::new(now, Limits::default());
    conversation.handle_text(now, JOIN);
    let (id, _) = conversation.poll_call().expect("a join is carried out");
    conversation.finish(id, Err(Failure::new("token_invalid", "")));
    assert_eq!(ending(&mut conversation, now), Some((Farewell::JoinTimeout, Duration::from_secs(10))));
}

#[test]
fn a_silent_participant_is_pinged_and_then_gone() {
    let now = Instant::now();
    let mut conversation = in_room(now, RoomRole::Musician);
    let first = conversation.poll_timeout().unwrap();
    assert_eq!(first - now, Duration::from_secs(15));
    conversation.handle_timeout(first);
    assert_eq!(conversation.poll_output(), Some(Output::Ping));
    assert_eq!(ending(&mut conversation, now), Some((Farewell::Silent, Duration::from_secs(30))));
}

#[test]
fn pongs_keep_the_line() {
    let start = Instant::now();
    let mut conversation = in_room(start, RoomRole::Musician);
    for _ in 0..100 {
        let at = conversation.poll_timeout().unwrap();
        conversation.handle_timeout(at);
        assert_eq!(conversation.poll_output(), Some(Output::Ping));
        conversation.handle_control(at);
    }
    assert!(!conversation.is_closed());
}

#[test]
fn a_flood_ends_the_line_and_a_steady_pace_does_not() {
    let start = Instant::now();
    let mut steady = in_room(start, RoomRole::Musician);
    for n in 0..1000u32 {
        steady.handle_text(start + Duration::from_millis(50) * n, r#"{"id":9,"method":"ping"}"#);
        steady.poll_call();
        steady.poll_output();
    }
    assert!(!steady.is_closed());
    let mut flood = in_room(start, RoomRole::Musician);
    for _ in 0..49 {
        flood.handle_text(start, "{}");
    }
    assert!(!flood.is_closed());
    flood.handle_text(start, "{}");
    let last = std::iter::from_fn(|| flood.poll_output()).last();
    assert_eq!(last, Some(Output::Close(Farewell::RateLimited)));
    assert!(flood.is_over());
}

#[test]
fn a_receiver_that_does_not_read_is_closed_and_its_loss_counted() {
    let now = Instant::now();
    let mut conversation = in_room(now, RoomRole::Viewer);
    let offer = Push::Offer { offer_id: 1, sdp: "x".repeat(40_000) };
    while !conversation.is_closed() {
        conversation.push(&offer);
    }
    assert_eq!(conversation.take_dropped(), 27, "1 MiB holds 26 offers of 40 kB");
    assert_eq!(conversation.poll_output(), Some(Output::Close(Farewell::SlowReceiver)));
}

#[test]
fn a_slow_receiver_loses_levels_before_anything_else() {
    let now = Instant::now();
    let mut conversation = in_room(now, RoomRole::Viewer);
    let levels = |level| Push::Levels { levels: vec![Level { producer_id: ProducerId::generate(), level }] };
    for level in -100..0 {
        conversation.push(&levels(level));
    }
    conversation.push(&Push::Offer { offer_id: 1, sdp: "v=0".into() });
    let Some(Output::Text(first)) = conversation.poll_output() else { panic!("an offer") };
    assert!(first.contains("offer"), "a message does not wait for a hint: {first}");
    let Some(Output::Text(second)) = conversation.poll_output() else { panic!("levels") };
    assert!(second.contains("\"level\":-1}"), "only the newest hint is left: {second}");
    assert_eq!(conversation.poll_output(), None);
    assert_eq!(conversation.take_dropped(), 99);
    conversation.push(&Push::Delays { paths: vec![] });
    conversation.push(&levels(-5));
    conversation.push(&Push::Delays { paths: vec![] });
    let left: Vec<_> = std::iter::from_fn(|| conversation.poll_output()).collect();
    let [Output::Text(delays), Output::Text(levels)] = &left[..] else { panic!("{left:?}") };
    assert!(delays.contains("delays") && levels.contains("-5"), "one kind does not drive out the other: {left:?}");
    assert_eq!(conversation.take_dropped(), 1);
    assert!(!conversation.is_closed());
}

#[test]
fn a_new_role_holds_from_the_moment_it_is_told() {
    let now = Instant::now();
    let mut conversation = in_room(now, RoomRole::Musician);
    let lock = r#"{"id":4,"method":"lock","data":{"locked":true}}"#;
    let somebody = person(ParticipantId::generate(), RoomRole::Host);
    conversation.push(&Push::ParticipantUpdated { participant: somebody });
    conversation.poll_output();
    conversation.handle_text(now, lock);
    assert_eq!(conversation.poll_call(), None);
    assert_eq!(failure_code(conversation.poll_output()), "role_too_low");
    conversation.push(&Push::ParticipantUpdated { participant: person(ADA.parse().unwrap(), RoomRole::Host) });
    conversation.handle_text(now, lock);
    assert_eq!(conversation.poll_call(), Some((4, Ask::Lock { locked: true })));
}

#[test]
fn leaving_and_being_removed_are_the_last_words() {
    let now = Instant::now();
    let mut left = in_room(now, RoomRole::Viewer);
    left.handle_text(now, r#"{"id":5,"method":"leave"}"#);
    left.handle_text(now, PRODUCE);
    assert_eq!(left.poll_call(), None);
    assert!(matches!(left.poll_output(), Some(Output::Text(_))));
    assert_eq!(left.poll_output(), Some(Output::Close(Farewell::Left)));
    assert!(left.is_over());
    let mut removed = in_room(now, RoomRole::Viewer);
    removed.push(&Push::Removed { reason: "kicked".into() });
    removed.push(&Push::Removed { reason: "kicked".into() });
    assert_eq!(std::iter::from_fn(|| removed.poll_output()).count(), 2);
}

#[test]
fn frames_that_are_no_small_texts_end_the_line() {
    let now = Instant::now();
    let mut big = in_room(now, RoomRole::Viewer);
    big.handle_text(now, &"x".repeat(MAX_MESSAGE + 1));
    assert_eq!(big.poll_output(), Some(Output::Close(Farewell::TooBig)));
    let mut binary = in_room(now, RoomRole::Viewer);
    binary.handle_binary(now);
    assert_eq!(binary.poll_output(), Some(Output::Close(Farewell::NotText)));
}

#[derive(Clone, Debug)]
enum Step {
    Text(String),
    Call(&'static str),
    Control,
    Finish(bool),
    Push,
    Hint,
    OtherHint,
    Wait(u64),
    Drain,
}

fn any_step() -> impl Strategy<Value = Step> {
    let methods = ["join", "produce", "restart_ice", "consume", "leave", "ping", "dance"];
    prop_oneof![
        any::<String>().prop_map(Step::Text),
        prop::sample::select(methods.to_vec()).prop_map(Step::Call),
        Just(Step::Control),
        any::<bool>().prop_map(Step::Finish),
        Just(Step::Push),
        Just(Step::Hint),
        Just(Step::OtherHint),
        (0u64..20_000).prop_map(Step::Wait),
        Just(Step::Drain),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_conversation_keeps_its_promises(steps in prop::collection::vec(any_step(), 0..120)) {
        let mut now = Instant::now();
        let limits = Limits { max_outbox: 16, ..Limits::default() };
        let mut conversation = Conversation::new(now, limits);
        let (mut has_joined, mut underway, mut id) = (false, None, 0);
        let mut said = Vec::new();
        for step in steps {
            match step {
                Step::Text(text) => conversation.handle_text(now, &text),
                Step::Call(method) => {
                    id += 1;
                    let data = match method {
                        "join" => r#"{"token":"t"}"#,
                        "produce" => r#"{"mid":"0","source":"camera"}"#,
                        _ => "{}",
                    };
                    conversation.handle_text(now, &format!(r#"{{"id":{id},"method":"{method}","data":{data}}}"#));
                }
                Step::Control => conversation.handle_control(now),
                Step::Finish(good) => {
                    let Some((call, ask)) = underway.take() else { continue };
                    let was_join = matches!(ask, Ask::Join { .. });
                    let answer = if was_join { joined(RoomRole::Musician) } else { Answer::Done {} };
                    has_joined |= was_join && good && !conversation.is_closed();
                    conversation.finish(call, if good { Ok(answer) } else { Err(Failure::new("no", "no")) });
                }
                Step::Push => conversation.push(&Push::ParticipantLeft { participant_id: ParticipantId::generate() }),
                Step::Hint => conversation.push(&Push::Levels { levels: vec![] }),
                Step::OtherHint => conversation.push(&Push::Delays { paths: vec![] }),
                Step::Wait(ms) => {
                    now += Duration::from_millis(ms);
                    conversation.handle_timeout(now);
                }
                Step::Drain => said.extend(std::iter::from_fn(|| conversation.poll_output())),
            }
            if let Some((call, ask)) = conversation.poll_call() {
                prop_assert!(underway.is_none(), "two calls at once");
                prop_assert!(has_joined != matches!(ask, Ask::Join { .. }), "{ask:?} when joined is {has_joined}");
                underway = Some((call, ask));
            }
            prop_assert!(conversation.outbox.waiting().0 <= 18, "16 messages and two hints or a farewell");
            prop_assert_eq!(conversation.poll_timeout().is_none(), conversation.is_closed());
        }
        said.extend(std::iter::from_fn(|| conversation.poll_output()));
        prop_assert_eq!(conversation.outbox.waiting(), (0, 0));
        let farewells = said.iter().filter(|output| matches!(output, Output::Close(_))).count();
        prop_assert_eq!(farewells, usize::from(conversation.is_closed()));
        prop_assert!(farewells == 0 || matches!(said.last(), Some(Output::Close(_))));
        let mut replied: Vec<u64> = said.iter().filter_map(|output| match output {
            Output::Text(text) => serde_json::from_str::<Reply>(text).ok()?.id,
            Output::Ping | Output::Close(_) => None,
        }).collect();
        replied.sort_unstable();
        replied.dedup();
        prop_assert!(replied.iter().all(|replied| *replied <= id), "a reply to nothing");
    }
}
