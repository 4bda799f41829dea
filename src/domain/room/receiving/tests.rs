//! What receivers get, in virtual time: the layers that fill their tiles, and what comes through links of all kinds.

mod jam;
mod links;
mod scalable;

use crate::domain::room::Limits;
use crate::domain::room::Room;
use crate::domain::room::forwarder::Forwarder;
use crate::domain::room::producer::Consumer;
use crate::domain::room::producer::Outlet;
use crate::domain::room::words::Newcomer;
use crate::model::id::ConsumerId;
use crate::model::id::ParticipantId;
use crate::model::id::ProducerId;
use crate::model::role::RoomRole;

fn room() -> Room {
    Room::new(Limits { participants: 64, tracks_per_participant: 2, voices: 16 }, 0)
}

fn enter(room: &mut Room) -> ParticipantId {
    let participant = ParticipantId::generate();
    let user = format!("user-{participant}").parse().expect("a user");
    let newcomer = Newcomer { participant, user, name: "Somebody".to_owned(), role: RoomRole::Musician };
    room.join(newcomer).expect("there is room");
    participant
}

/// Has somebody receive a producer whose clock has this rate, by a lane of a peer.
fn listen(room: &mut Room, who: ParticipantId, producer: ProducerId, clock: u32, outlet: Outlet) -> ConsumerId {
    let id = ConsumerId::generate();
    room.consume(producer, Consumer::new(id, who, outlet, Forwarder::new(clock))).expect("known");
    id
}

/// Lets so many come in who receive a camera, each on a peer of their own.
fn listeners(room: &mut Room, camera: ProducerId, count: u64) -> Vec<(ParticipantId, ConsumerId)> {
    let enter_and_listen = |peer| {
        let who = enter(room);
        (who, listen(room, who, camera, 90_000, Outlet { peer, lane: 0 }))
    };
    (0..count).map(enter_and_listen).collect()
}
