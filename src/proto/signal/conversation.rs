//! One participant's conversation, sans-IO: what arrives, in which order calls are carried out, and when the line ends.

use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;

use serde::Serialize;

use crate::model::role::RoomRole;
use crate::proto::signal::Answer;
use crate::proto::signal::Ask;
use crate::proto::signal::Call;
use crate::proto::signal::Connect;
use crate::proto::signal::Failure;
use crate::proto::signal::MAX_MESSAGE;
use crate::proto::signal::Malformed;
use crate::proto::signal::Push;
use crate::proto::signal::Reply;
use crate::proto::signal::TrackRef;
use crate::proto::signal::Transport;

/// What a conversation may take and how long it may be silent.
#[derive(Clone, Debug)]
pub struct Limits {
    /// From the opening of the socket to a successful `join`.
    pub join_timeout: Duration,
    /// Between two pings.
    pub ping_interval: Duration,
    /// Without any frame of the participant for this long the line is dead; two pings fit into it.
    pub silence: Duration,
    /// Frames that may arrive at once.
    pub burst: u32,
    /// Frames a second that may arrive for ever.
    pub per_second: u32,
    /// Calls waiting while one is carried out.
    pub max_waiting: usize,
    /// Messages waiting for a slow receiver.
    pub max_outbox: usize,
    /// Bytes waiting for a slow receiver.
    pub max_outbox_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            join_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(15),
            silence: Duration::from_secs(30),
            burst: 50,
            per_second: 20,
            max_waiting: 64,
            max_outbox: 256,
            max_outbox_bytes: 1 << 20,
        }
    }
}

/// Why a conversation ended; told as the WebSocket's close code and reason (RFC 6455 section 7.4, 4000 to 4999 are ours).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Farewell {
    /// The participant said `leave`.
    Left,
    /// The gateway is going down; another one may take the participant.
    ShuttingDown,
    /// A binary frame came.
    NotText,
    TooBig,
    /// No successful `join` in time.
    JoinTimeout,
    /// Nothing heard for too long.
    Silent,
    /// The room took the participant out.
    Removed,
    /// The participant does not read what it is sent.
    SlowReceiver,
    RateLimited,
}

impl Farewell {
    /// The close code.
    pub const fn code(self) -> u16 {
        match self {
            Self::Left => 1000,
            Self::ShuttingDown => 1001,
            Self::NotText => 1003,
            Self::TooBig => 1009,
            Self::JoinTimeout => 4401,
            Self::Silent => 4408,
            Self::Removed => 4410,
            Self::SlowReceiver => 4413,
            Self::RateLimited => 4429,
        }
    }

    /// The close reason: a stable name, also a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::ShuttingDown => "shutting_down",
            Self::NotText => "not_text",
            Self::TooBig => "message_too_big",
            Self::JoinTimeout => "join_timeout",
            Self::Silent => "silent",
            Self::Removed => "removed",
            Self::SlowReceiver => "slow_receiver",
            Self::RateLimited => "rate_limited",
        }
    }
}

/// What goes out on the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Text(String),
    /// A WebSocket ping frame.
    Ping,
    /// The last one.
    Close(Farewell),
}

enum State {
    /// Only `join` is taken, until then.
    Waiting {
        deadline: Instant,
    },
    Joined {
        role: RoomRole,
    },
    /// Nothing is taken any more; what is queued still goes out.
    Closed {
        why: Farewell,
    },
}

/// One participant's conversation.
///
/// Frames go in by the `handle_` methods; calls to be carried out come from [`Self::poll_call`], one at a time and in the order of
/// arrival, each finished by [`Self::finish`]; frames for the socket come from [`Self::poll_output`]. Only `consume` is carried out
/// beside the others: its reply waits for an open offer to be answered, and that answer is a call behind it.
pub struct Conversation {
    limits: Limits,
    state: State,
    pace: Pace,
    heard_at: Instant,
    ping_at: Instant,
    waiting: VecDeque<Call>,
    /// The id of the call that is being carried out and that the next one waits for.
    underway: Option<u64>,
    /// The ids of the calls that are carried out beside it.
    beside: Vec<u64>,
    outbox: VecDeque<Output>,
    outbox_bytes: usize,
    dropped: u64,
}

impl Conversation {
    /// A socket that has just opened.
    pub fn new(now: Instant, limits: Limits) -> Self {
        Self {
            state: State::Waiting { deadline: now + limits.join_timeout },
            pace: Pace::new(now, &limits),
            heard_at: now,
            ping_at: now + limits.ping_interval,
            waiting: VecDeque::new(),
            underway: None,
            beside: Vec::new(),
            outbox: VecDeque::new(),
            outbox_bytes: 0,
            dropped: 0,
            limits,
        }
    }

    /// A text frame arrived.
    pub fn handle_text(&mut self, now: Instant, text: &str) {
        if !self.admit(now) {
            return;
        }
        if text.len() > MAX_MESSAGE {
            return self.end(Farewell::TooBig);
        }
        match Call::parse(text) {
            Ok(call) if self.waiting.len() >= self.limits.max_waiting => {
                self.reply(Some(call.id), Err(Failure::new("too_many_calls", "wait for replies before asking more")));
            }
            Ok(call) => self.waiting.push_back(call),
            Err(Malformed { id, failure }) => self.reply(id, Err(failure)),
        }
    }

    /// A binary frame arrived; there are none in this protocol.
    pub fn handle_binary(&mut self, now: Instant) {
        if self.admit(now) {
            self.end(Farewell::NotText);
        }
    }

    /// A ping or pong frame arrived.
    pub fn handle_control(&mut self, now: Instant) {
        self.admit(now);
    }

    /// [`Self::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.is_closed() {
            return;
        }
        if now >= self.heard_at + self.limits.silence {
            return self.end(Farewell::Silent);
        }
        if self.join_deadline().is_some_and(|deadline| now >= deadline) {
            return self.end(Farewell::JoinTimeout);
        }
        if now >= self.ping_at {
            self.ping_at = now + self.limits.ping_interval;
            self.send(Output::Ping);
        }
    }

    /// When [`Self::handle_timeout`] is to be called; `None` once the conversation has ended.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.is_closed() {
            return None;
        }
        let soonest = self.ping_at.min(self.heard_at + self.limits.silence);
        Some(self.join_deadline().map_or(soonest, |deadline| deadline.min(soonest)))
    }

    /// The next call to be carried out; `None` while one is. Calls that the participant may not make are answered here.
    pub fn poll_call(&mut self) -> Option<(u64, Ask)> {
        while self.underway.is_none() {
            let call = self.waiting.pop_front()?;
            match self.verdict(&call.ask) {
                Verdict::CarryOut => {
                    if matches!(call.ask, Ask::Consume { .. }) {
                        self.beside.push(call.id);
                    } else {
                        self.underway = Some(call.id);
                    }
                    return Some((call.id, call.ask));
                }
                Verdict::Reply(outcome) => self.reply(Some(call.id), outcome),
                Verdict::Leave => {
                    self.reply(Some(call.id), Ok(Answer::Done {}));
                    self.end(Farewell::Left);
                }
            }
        }
        None
    }

    /// The call with this id has this outcome. A successful join opens the other methods.
    pub fn finish(&mut self, id: u64, outcome: Result<Answer, Failure>) {
        if self.underway == Some(id) {
            self.underway = None;
        } else if let Some(at) = self.beside.iter().position(|&beside| beside == id) {
            self.beside.swap_remove(at);
        } else {
            return;
        }
        if let (State::Waiting { .. }, Ok(Answer::Joined(joined))) = (&self.state, &outcome) {
            self.state = State::Joined { role: joined.role };
        }
        self.reply(Some(id), outcome);
    }

    /// Tells the participant something; being removed is the last thing told.
    pub fn push(&mut self, push: &Push) {
        self.send_json(push);
        if matches!(push, Push::Removed { .. }) {
            self.end(Farewell::Removed);
        }
    }

    /// Ends the conversation: what is queued still goes out, then the close frame.
    pub fn end(&mut self, why: Farewell) {
        if self.is_closed() {
            return;
        }
        self.state = State::Closed { why };
        self.waiting.clear();
        self.underway = None;
        self.beside.clear();
        self.outbox.push_back(Output::Close(why));
    }

    /// The next frame for the socket.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.outbox.pop_front()?;
        if let Output::Text(text) = &output {
            self.outbox_bytes -= text.len();
        }
        Some(output)
    }

    /// Whether [`Self::poll_output`] has a frame.
    pub fn has_output(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Whether everything is said.
    pub fn is_over(&self) -> bool {
        self.is_closed() && self.outbox.is_empty()
    }

    /// Whether nothing more is taken in.
    pub fn is_closed(&self) -> bool {
        self.farewell().is_some()
    }

    /// Why it ended, if it has.
    pub const fn farewell(&self) -> Option<Farewell> {
        match self.state {
            State::Closed { why } => Some(why),
            State::Waiting { .. } | State::Joined { .. } => None,
        }
    }

    /// Messages that a slow receiver has lost since the last call of this.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Counts a frame; `false` if the conversation is over or ends by it.
    fn admit(&mut self, now: Instant) -> bool {
        if self.is_closed() {
            return false;
        }
        self.heard_at = self.heard_at.max(now);
        let in_time = self.pace.take(now);
        if !in_time {
            self.end(Farewell::RateLimited);
        }
        in_time
    }

    /// A join that is being carried out is not interrupted: whoever carries it out has a time limit of its own.
    fn join_deadline(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { deadline } if self.underway.is_none() => Some(deadline),
            State::Waiting { .. } | State::Joined { .. } | State::Closed { .. } => None,
        }
    }

    fn verdict(&self, ask: &Ask) -> Verdict {
        let refuse = |code, message| Verdict::Reply(Err(Failure::new(code, message)));
        match (ask, &self.state) {
            (Ask::Leave {}, _) => Verdict::Leave,
            (Ask::Ping {}, _) => Verdict::Reply(Ok(Answer::Done {})),
            (Ask::Join { .. }, State::Waiting { .. }) => Verdict::CarryOut,
            (Ask::Join { .. }, _) => refuse("already_joined", "this socket has joined; open another one"),
            (_, State::Joined { role }) if *role >= least_role(ask) => Verdict::CarryOut,
            (_, State::Joined { .. }) => {
                refuse("role_too_low", "viewers may not send; ask the host for a musician's token")
            }
            (_, State::Waiting { .. } | State::Closed { .. }) => refuse("not_joined", "join first"),
        }
    }

    fn reply(&mut self, id: Option<u64>, outcome: Result<Answer, Failure>) {
        self.send_json(&Reply { id, outcome });
    }

    fn send_json<T: Serialize>(&mut self, message: &T) {
        let text = serde_json::to_string(message).expect("messages are strings, numbers and maps with string keys");
        self.send(Output::Text(text));
    }

    fn send(&mut self, output: Output) {
        if self.is_closed() {
            return;
        }
        let bytes = if let Output::Text(text) = &output { text.len() } else { 0 };
        if self.outbox.len() >= self.limits.max_outbox || self.outbox_bytes + bytes > self.limits.max_outbox_bytes {
            self.dropped += self.outbox.len() as u64 + 1;
            self.outbox.clear();
            self.outbox_bytes = 0;
            return self.end(Farewell::SlowReceiver);
        }
        self.outbox_bytes += bytes;
        self.outbox.push_back(output);
    }
}

enum Verdict {
    CarryOut,
    Reply(Result<Answer, Failure>),
    Leave,
}

/// The least role that may ask this.
fn least_role(ask: &Ask) -> RoomRole {
    match ask {
        Ask::Connect(Connect::Send { .. })
        | Ask::Candidate { transport: Transport::Send, .. }
        | Ask::Produce { .. }
        | Ask::Pause(TrackRef::Producer(_))
        | Ask::Resume(TrackRef::Producer(_))
        | Ask::Close(TrackRef::Producer(_)) => RoomRole::Musician,
        Ask::Join { .. }
        | Ask::Connect(Connect::Recv { .. })
        | Ask::Candidate { transport: Transport::Recv, .. }
        | Ask::RestartIce {}
        | Ask::Consume { .. }
        | Ask::Pause(TrackRef::Consumer(_))
        | Ask::Resume(TrackRef::Consumer(_))
        | Ask::Close(TrackRef::Consumer(_))
        | Ask::Leave {}
        | Ask::Ping {} => RoomRole::Viewer,
    }
}

/// A token bucket kept as one instant: the time at which it will be full again.
struct Pace {
    interval: Duration,
    depth: Duration,
    full_at: Instant,
}

impl Pace {
    fn new(now: Instant, limits: &Limits) -> Self {
        let interval = Duration::from_secs(1) / limits.per_second.max(1);
        Self { interval, depth: interval * limits.burst.max(1), full_at: now }
    }

    /// Takes one token; `false` if there is none.
    fn take(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + self.interval;
        let there = full_at.duration_since(now) <= self.depth;
        if there {
            self.full_at = full_at;
        }
        there
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::id::ParticipantId;
    use crate::model::id::ProducerId;
    use crate::proto::signal::Joined;

    const JOIN: &str = r#"{"id":1,"method":"join","data":{"token":"t"}}"#;
    const PRODUCE: &str = r#"{"id":2,"method":"produce","data":{"mid":"0","source":"camera"}}"#;

    fn joined(role: RoomRole) -> Answer {
        Answer::Joined(Box::new(Joined {
            participant_id: ParticipantId::generate(),
            room: "jam".parse().unwrap(),
            name: "Ada".into(),
            role,
            ice_servers: vec![],
            heartbeat_ms: 15_000,
            participants: vec![],
            producers: vec![],
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
        conversation
            .handle_text(now, &format!(r#"{{"id":7,"method":"consume","data":{{"producer_id":"{producer}"}}}}"#));
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
                prop_assert!(conversation.outbox.len() <= 17, "16 messages and a farewell");
                prop_assert_eq!(conversation.poll_timeout().is_none(), conversation.is_closed());
            }
            said.extend(std::iter::from_fn(|| conversation.poll_output()));
            prop_assert_eq!(conversation.outbox_bytes, 0);
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
}
