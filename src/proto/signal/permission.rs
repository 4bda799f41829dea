//! Which role may ask what.

use crate::model::role::RoomRole;
use crate::proto::signal::Ask;
use crate::proto::signal::Connect;
use crate::proto::signal::Failure;
use crate::proto::signal::TrackRef;
use crate::proto::signal::Transport;

/// The least role that may ask this.
pub(super) const fn least_role(ask: &Ask) -> RoomRole {
    match ask {
        Ask::Kick { .. }
        | Ask::Ban { .. }
        | Ask::Mute { .. }
        | Ask::Isolate { .. }
        | Ask::Spotlight { .. }
        | Ask::Lock { .. }
        | Ask::TransferHost { .. } => RoomRole::Host,
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
        | Ask::Priority { .. }
        | Ask::SetTile { .. }
        | Ask::Stats { .. }
        | Ask::Leave {}
        | Ask::Ping {} => RoomRole::Viewer,
    }
}

/// What is said to who asks for more than its role allows.
pub(super) fn role_too_low(least: RoomRole) -> Failure {
    let message = if least >= RoomRole::Host {
        "only a host may do this"
    } else {
        "viewers may not send; ask the host for a musician's token"
    };
    Failure::new("role_too_low", message)
}
