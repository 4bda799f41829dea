//! The messages that the gateway pushes.

use serde::Deserialize;
use serde::Serialize;

use crate::model::id::ConsumerId;
use crate::model::id::ParticipantId;
use crate::model::id::ProducerId;
use crate::proto::signal::Level;
use crate::proto::signal::Participant;
use crate::proto::signal::Path;
use crate::proto::signal::Producer;
use crate::proto::signal::Transport;

/// What the gateway tells without being asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", content = "data", rename_all = "snake_case", deny_unknown_fields)]
pub enum Push {
    ParticipantJoined {
        participant: Participant,
    },
    ParticipantLeft {
        participant_id: ParticipantId,
    },
    /// Its role, or what a host has decided about it; told to itself too.
    ParticipantUpdated {
        participant: Participant,
    },
    RoomUpdated {
        locked: bool,
        spotlight: Option<ParticipantId>,
    },
    /// Lost where the participant reads slowly.
    Levels {
        levels: Vec<Level>,
    },
    /// Lost where the participant reads slowly.
    Delays {
        paths: Vec<Path>,
    },
    ProducerAdded {
        producer: Producer,
    },
    ProducerRemoved {
        producer_id: ProducerId,
    },
    ProducerPaused {
        producer_id: ProducerId,
    },
    ProducerResumed {
        producer_id: ProducerId,
    },
    ConsumerClosed {
        consumer_id: ConsumerId,
    },
    /// To be answered with `connect` and this number; the next offer waits for it.
    Offer {
        offer_id: u32,
        sdp: String,
    },
    TransportConnected {
        transport: Transport,
    },
    TransportFailed {
        transport: Transport,
    },
    /// The last message before the socket closes.
    Removed {
        reason: String,
    },
}
