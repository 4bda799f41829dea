//! Why a stream is not created, started, stopped or found.

use crate::live::port::StoreError;
use crate::live::port::VaultError;
use crate::live::snapshot::StreamState;
use crate::model::fault::Fault;
use crate::model::fault::Faulty;
use crate::model::id::DestinationId;
use crate::model::id::RoomId;
use crate::model::id::StreamId;

#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error("there is no such stream")]
    NotFound,
    #[error("there is no room {0}; create it first")]
    UnknownRoom(RoomId),
    #[error("there is no destination {0} of yours; create it first, and then a new stream")]
    UnknownDestination(DestinationId),
    #[error("this idempotency key was used for another stream; use a new key for a new stream")]
    KeyReused,
    #[error("streaming is switched off on this gateway; ask its operator")]
    Disabled,
    #[error("this gateway runs its limit of {0} streams; try again when one has ended")]
    TooMany(usize),
    #[error("the room is being broadcast already by stream {0}; stop that one first")]
    RoomBusy(StreamId),
    #[error("the stream is {}; {}", name(*.0), advice(*.0))]
    WrongState(StreamState),
    #[error("the gateway is shutting down; try again in a minute")]
    ShuttingDown,
    #[error("the store failed: {0}")]
    Store(#[from] StoreError),
    #[error(transparent)]
    Key(#[from] VaultError),
}

impl StreamError {
    /// Stable name for API replies and metric labels.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::UnknownRoom(_) => "unknown_room",
            Self::UnknownDestination(_) => "unknown_destination",
            Self::KeyReused => "idempotency_key_reused",
            Self::Disabled => "streaming_disabled",
            Self::TooMany(_) => "too_many_streams",
            Self::RoomBusy(_) => "room_busy",
            Self::WrongState(_) => "wrong_state",
            Self::ShuttingDown => "shutting_down",
            Self::Store(_) => "store_failed",
            Self::Key(_) => "key_unreadable",
        }
    }
}

impl Faulty for StreamError {
    fn fault(&self) -> Fault {
        match self {
            Self::NotFound
            | Self::UnknownRoom(_)
            | Self::UnknownDestination(_)
            | Self::KeyReused
            | Self::RoomBusy(_)
            | Self::WrongState(_) => Fault::Client,
            Self::Disabled | Self::TooMany(_) | Self::ShuttingDown => Fault::Transient,
            Self::Store(error) => error.fault(),
            Self::Key(error) => error.fault(),
        }
    }
}

pub(super) fn name(state: StreamState) -> &'static str {
    match state {
        StreamState::Created => "created",
        StreamState::Starting => "starting",
        StreamState::Live => "live",
        StreamState::Stopping => "stopping",
        StreamState::Ended => "ended",
        StreamState::Failed => "failed",
    }
}

fn advice(state: StreamState) -> &'static str {
    match state {
        StreamState::Created => "start it first",
        StreamState::Starting | StreamState::Live => "stop it first",
        StreamState::Stopping => "wait until it has ended",
        StreamState::Ended | StreamState::Failed => "create a new one",
    }
}
