//! Signalling messages: calls that are nearly right, JSON that is not, frames at any pace.

use std::time::Duration;
use std::time::Instant;

use crate::hostile::sdp;
use crate::hostile::tape::Tape;
use crate::model::id::ParticipantId;
use crate::model::role::RoomRole;
use crate::proto::signal::Answer;
use crate::proto::signal::Ask;
use crate::proto::signal::Conversation;
use crate::proto::signal::Failure;
use crate::proto::signal::FromGateway;
use crate::proto::signal::Hidden;
use crate::proto::signal::Joined;
use crate::proto::signal::Limits;
use crate::proto::signal::MAX_MESSAGE;
use crate::proto::signal::Output;
use crate::proto::signal::Participant;
use crate::proto::signal::Push;

const METHODS: &[&str] = &[
    "join",
    "connect",
    "candidate",
    "restart_ice",
    "produce",
    "consume",
    "pause",
    "resume",
    "close",
    "priority",
    "set_tile",
    "stats",
    "kick",
    "ban",
    "mute",
    "isolate",
    "spotlight",
    "lock",
    "transfer_host",
    "leave",
    "ping",
    "dance",
];
const FIELDS: &[&str] = &[
    "token",
    "transport",
    "sdp",
    "offer_id",
    "candidate",
    "mid",
    "source",
    "producer_id",
    "consumer_id",
    "participant_id",
    "resume_token",
    "priority",
    "width",
    "height",
    "jitter_buffers",
    "kind",
    "muted",
    "isolated",
    "locked",
    "id",
    "role",
    "x",
];
const VALUES: &[&str] = &[
    "\"send\"",
    "\"recv\"",
    "\"camera\"",
    "\"microphone\"",
    "\"0\"",
    "\"audio\"",
    "\"par_0193a5c5b7d87a3c9d2f8e1b6c4a7f01\"",
    "\"prd_0193a5c5b7d87a3c9d2f8e1b6c4a7f01\"",
    "\"con_0193a5c5b7d87a3c9d2f8e1b6c4a7f01\"",
    "\"t\"",
    "1",
    "-1",
    "4294967296",
    "18446744073709551616",
    "1e400",
    "null",
    "true",
    "[]",
    "[{\"consumer_id\":\"con_0193a5c5b7d87a3c9d2f8e1b6c4a7f01\",\"delay_ms\":40}]",
    "{}",
    "\"\\u0000\"",
    "\"\\ud800\"",
];

/// One text frame.
fn message(tape: &mut Tape<'_>) -> String {
    match tape.byte() {
        0..=7 => tape.text(200),
        8..=11 => "[".repeat(tape.below(40_000)),
        12..=13 => "x".repeat(MAX_MESSAGE + 1),
        14..=255 => {
            let id = tape.mostly("7");
            let method = tape.pick(METHODS);
            let members: Vec<String> = (0..tape.below(4))
                .map(|_| {
                    let name = tape.pick(FIELDS);
                    let value = match tape.byte() {
                        0..=223 => tape.pick(VALUES).to_owned(),
                        224..=239 => serde_json::Value::from(sdp::offer(tape)).to_string(),
                        240..=255 => tape.text(32),
                    };
                    format!("\"{name}\":{value}")
                })
                .collect();
            format!("{{\"id\":{id},\"method\":\"{method}\",\"data\":{{{}}}}}", members.join(","))
        }
    }
}

fn joined() -> Answer {
    Answer::Joined(Box::new(Joined {
        you: Participant {
            id: ParticipantId::generate(),
            name: "Mallory".to_owned(),
            role: RoomRole::Musician,
            audio_muted: false,
            video_muted: false,
            isolated: false,
        },
        room: "jam".parse().expect("a slug"),
        locked: false,
        spotlight: None,
        resume_token: Hidden::new("ticket".to_owned()),
        resume_within_ms: 30_000,
        kept: None,
        ice_servers: vec![],
        heartbeat_ms: 15_000,
        participants: vec![],
        producers: vec![],
    }))
}

/// A participant who says anything at any time: the conversation holds what its limits say and no more, and ends once.
///
/// # Panics
/// It does not.
pub fn signalling(bytes: &[u8]) {
    let mut tape = Tape::new(bytes);
    let mut now = Instant::now();
    let limits = Limits { max_outbox: 16, max_waiting: 8, ..Limits::default() };
    let mut conversation = Conversation::new(now, limits.clone());
    let mut farewells = 0;
    while !tape.is_over() {
        match tape.below(8) {
            0 => now += Duration::from_millis(tape.u16().into()),
            1 => conversation.handle_timeout(now),
            2 => conversation.push(&Push::ParticipantLeft { participant_id: ParticipantId::generate() }),
            3 => conversation.handle_control(now),
            _ => {
                let text = message(&mut tape);
                conversation.handle_text(now, &text);
                let _read_or_refused = serde_json::from_str::<FromGateway>(&text);
            }
        }
        if let Some((id, ask)) = conversation.poll_call() {
            let is_join = matches!(ask, Ask::Join { .. });
            let good = if is_join { joined() } else { Answer::Done {} };
            conversation.finish(id, if tape.flip() { Ok(good) } else { Err(Failure::new("no", "no")) });
        }
        if tape.flip() || tape.is_over() {
            let said: Vec<Output> = std::iter::from_fn(|| conversation.poll_output()).collect();
            assert!(said.len() <= limits.max_outbox + 1, "{} messages waited", said.len());
            farewells += said.iter().filter(|output| matches!(output, Output::Close(_))).count();
        }
    }
    assert_eq!(farewells, usize::from(conversation.is_over()));
}
