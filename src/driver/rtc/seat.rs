//! A participant as its worker holds it: its two transports and the negotiation of the one we offer on.

use std::collections::VecDeque;
use std::time::Instant;

use tokio::sync::mpsc;

use crate::domain::room::flood::Excess;
use crate::domain::room::forwarder::Forwarder;
use crate::driver::rtc::peer::Peer;
use crate::live::rooms::ConsumerInfo;
use crate::live::rooms::Event;
use crate::live::rooms::Reply;
use crate::live::rooms::Transport;
use crate::model::id::ConsumerId;
use crate::model::id::ParticipantId;
use crate::model::id::ProducerId;
use crate::model::media::Codec;

/// A participant's place in a room.
pub(super) struct Seat {
    pub(super) events: mpsc::Sender<Event>,
    pub(super) send: Option<u64>,
    pub(super) recv: Option<Recv>,
    /// Since when nothing shows that it is still there.
    pub(super) silent_since: Option<Instant>,
    /// A transport broke, and the participant has neither joined again nor made a new one.
    pub(super) is_lost: bool,
    pub(super) pleas_refused: Excess,
    pub(super) repetitions_refused: Excess,
}

/// Keyframe requests refused within ten seconds that are a flood: a decoder that waits repeats itself a few times a second.
const PLEA_FLOOD: u64 = 50;
/// Packets refused within ten seconds that are a flood: more than a bad network loses.
const REPETITION_FLOOD: u64 = 5_000;

/// The transport a participant receives on.
pub(super) struct Recv {
    pub(super) peer: u64,
    /// Lanes nobody uses now, with the forwarders that go on in them.
    pub(super) idle: Vec<Idle>,
    pub(super) negotiation: Negotiation,
}

/// Who offers on the receiving transport.
pub(super) enum Negotiation {
    /// The participant, once (WHEP): its lanes are filled as producers come and go.
    Theirs,
    /// We, one offer at a time.
    Ours(Offers),
}

#[derive(Default)]
pub(super) struct Offers {
    /// The offer that waits for its answer.
    pub(super) open: Option<u32>,
    pub(super) next_id: u32,
    /// Consumers to open with the next offer.
    pub(super) wanted: VecDeque<Wanted>,
    /// Lanes changed since the last offer.
    pub(super) changed: bool,
    pub(super) restart_ice: bool,
}

pub(super) struct Idle {
    pub(super) lane: usize,
    pub(super) codec: Codec,
    pub(super) forwarder: Forwarder,
}

/// A request to consume that waits for its m-line.
pub(super) struct Wanted {
    pub(super) consumer: ConsumerId,
    pub(super) producer: ProducerId,
    pub(super) reply: Reply<ConsumerInfo>,
}

/// A peer in the worker's table.
pub(super) struct Line {
    pub(super) peer: Peer,
    pub(super) room: u64,
    pub(super) participant: ParticipantId,
    pub(super) transport: Transport,
    /// Until when it has to be connected; `None` once it is.
    pub(super) deadline: Option<Instant>,
    /// The timer that stands in the heap for it.
    pub(super) timer: Option<Instant>,
    /// It may have something to say, and its timer may have moved: more happened than that packets were written to it.
    pub(super) is_touched: bool,
    /// It stands in the list of those to be flushed.
    pub(super) is_dirty: bool,
}

impl Line {
    /// Whether it had to be connected by now and is not.
    pub(super) fn is_expired(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

impl Seat {
    pub(super) fn new(events: mpsc::Sender<Event>) -> Self {
        Self {
            events,
            send: None,
            recv: None,
            silent_since: None,
            is_lost: false,
            pleas_refused: Excess::over(PLEA_FLOOD),
            repetitions_refused: Excess::over(REPETITION_FLOOD),
        }
    }

    /// Tells what the participant can do without; that is the first to be left out where somebody is slow to listen.
    pub(super) fn hint(&self, event: Event) {
        if self.events.capacity() > self.events.max_capacity() / 2 {
            let _gone = self.events.try_send(event);
        }
    }
}

impl Recv {
    pub(super) fn new(peer: u64, negotiation: Negotiation) -> Self {
        Self { peer, idle: Vec::new(), negotiation }
    }

    /// Takes a free lane for this codec that is of use.
    pub(super) fn take_idle(&mut self, codec: Codec, is_of_use: impl Fn(usize) -> bool) -> Option<Idle> {
        let index = self.idle.iter().position(|idle| idle.codec == codec && is_of_use(idle.lane))?;
        Some(self.idle.remove(index))
    }
}
