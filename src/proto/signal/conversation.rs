//! One participant's conversation, sans-IO: what arrives, in which order calls are carried out, and when the line ends.

use std::collections::VecDeque;
use std::time::Instant;

use serde::Serialize;

use crate::model::id::ParticipantId;
use crate::model::role::RoomRole;
use crate::proto::signal::Answer;
use crate::proto::signal::Ask;
use crate::proto::signal::Call;
use crate::proto::signal::Failure;
use crate::proto::signal::Farewell;
use crate::proto::signal::Limits;
use crate::proto::signal::MAX_MESSAGE;
use crate::proto::signal::Malformed;
use crate::proto::signal::Output;
use crate::proto::signal::Push;
use crate::proto::signal::Reply;
use crate::proto::signal::limits::Pace;
use crate::proto::signal::outbox::Hint;
use crate::proto::signal::outbox::Outbox;
use crate::proto::signal::permission::least_role;
use crate::proto::signal::permission::role_too_low;

enum State {
    /// Only `join` is taken, until then.
    Waiting {
        deadline: Instant,
    },
    Joined {
        me: ParticipantId,
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
    outbox: Outbox,
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
            outbox: Outbox::new(&limits),
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
            self.state = State::Joined { me: joined.you.id, role: joined.you.role };
        }
        self.reply(Some(id), outcome);
    }

    /// Tells the participant something. Being removed is the last thing told; a new role of its own holds from here on; levels and
    /// delays are lost where newer ones come before they could be sent.
    pub fn push(&mut self, push: &Push) {
        if let Some(hint) = Hint::of(push) {
            if !self.is_closed() {
                self.outbox.hint(hint, json(push));
            }
            return;
        }
        if let (Push::ParticipantUpdated { participant }, State::Joined { me, role }) = (push, &mut self.state)
            && *me == participant.id
        {
            *role = participant.role;
        }
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
        self.outbox.close(why);
    }

    /// The next frame for the socket.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outbox.poll()
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
    pub const fn take_dropped(&mut self) -> u64 {
        self.outbox.take_dropped()
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
            (_, State::Joined { role, .. }) if *role >= least_role(ask) => Verdict::CarryOut,
            (_, State::Joined { .. }) => Verdict::Reply(Err(role_too_low(least_role(ask)))),
            (_, State::Waiting { .. } | State::Closed { .. }) => refuse("not_joined", "join first"),
        }
    }

    fn reply(&mut self, id: Option<u64>, outcome: Result<Answer, Failure>) {
        self.send_json(&Reply { id, outcome });
    }

    fn send_json<T: Serialize>(&mut self, message: &T) {
        self.send(Output::Text(json(message)));
    }

    fn send(&mut self, output: Output) {
        if self.is_closed() {
            return;
        }
        if self.outbox.push(output).is_err() {
            self.end(Farewell::SlowReceiver);
        }
    }
}

fn json<T: Serialize>(message: &T) -> String {
    serde_json::to_string(message).expect("messages are strings, numbers and maps with string keys")
}

enum Verdict {
    CarryOut,
    Reply(Result<Answer, Failure>),
    Leave,
}

#[cfg(test)]
mod tests;
