//! Who may do what, over REST and in a room: the one table that both faces ask.

use crate::model::id::RoomId;
use crate::model::id::UserId;
use crate::model::role::ApiRole;
use crate::model::role::Principal;
use crate::model::role::RoomRole;

/// Whether this caller may see a thing: a room, a stream or a recording of a room, or a destination, which is in no room.
pub fn may_read(caller: &Principal, owner: &UserId, room: Option<&RoomId>) -> bool {
    match (&caller.room, room) {
        // A room token reaches its own room, whoever owns it, and nothing of another room, even the caller's own.
        (Some(limit), Some(room)) => limit == room,
        (Some(_), None) => caller.user == *owner,
        (None, _) => caller.role == ApiRole::Admin || caller.user == *owner,
    }
}

/// Whether this caller may change, start, stop or delete a thing, or put one into this room.
pub fn may_manage(caller: &Principal, owner: &UserId, room: Option<&RoomId>) -> bool {
    caller.role >= ApiRole::Streamer && may_read(caller, owner, room)
}

/// Whether this caller may create rooms, which a room token's holder may not.
pub fn may_create_rooms(caller: &Principal) -> bool {
    caller.role >= ApiRole::Streamer && caller.room.is_none()
}

/// Whether this caller may add destinations.
pub fn may_create_destinations(caller: &Principal) -> bool {
    caller.role >= ApiRole::Streamer
}

/// Whose things this caller's lists hold: everybody's for `None`.
pub fn lists_of(caller: &Principal) -> Option<&UserId> {
    let everybody = caller.role == ApiRole::Admin && caller.room.is_none();
    (!everybody).then_some(&caller.user)
}

/// Whether a participant of this role may send tracks.
pub fn may_produce(role: RoomRole) -> bool {
    role >= RoomRole::Musician
}

/// Whether a participant of this role may start and stop the room's broadcasts.
pub fn may_broadcast(role: RoomRole) -> bool {
    role >= RoomRole::Host
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        name.parse().expect("well formed")
    }

    fn room(name: &str) -> RoomId {
        name.parse().expect("a slug")
    }

    fn caller(name: &str, role: ApiRole, limit: Option<&str>) -> Principal {
        Principal { user: user(name), role, room: limit.map(room) }
    }

    #[test]
    fn the_table_of_things() {
        use ApiRole::Admin;
        use ApiRole::Streamer;
        use ApiRole::Viewer;
        // Everything here belongs to ann. Columns: caller, role, room token's room, thing's room, may read, may manage.
        let table = [
            ("ann", Streamer, None, Some("jam"), true, true),
            ("ann", Streamer, None, None, true, true),
            ("ann", Viewer, None, Some("jam"), true, false),
            ("bob", Streamer, None, Some("jam"), false, false),
            ("bob", Streamer, None, None, false, false),
            ("bob", Viewer, None, Some("jam"), false, false),
            ("bob", Admin, None, Some("jam"), true, true),
            ("bob", Admin, None, None, true, true),
            // Room tokens: a host of ann's room, a musician in it, a host of another room, ann as host elsewhere.
            ("bob", Streamer, Some("jam"), Some("jam"), true, true),
            ("bob", Viewer, Some("jam"), Some("jam"), true, false),
            ("bob", Streamer, Some("other"), Some("jam"), false, false),
            ("ann", Streamer, Some("other"), Some("jam"), false, false),
            ("bob", Streamer, Some("jam"), None, false, false),
            ("ann", Streamer, Some("jam"), None, true, true),
        ];
        for (name, role, limit, place, reads, manages) in table {
            let caller = caller(name, role, limit);
            let place = place.map(room);
            assert_eq!(may_read(&caller, &user("ann"), place.as_ref()), reads, "{caller:?} reads in {place:?}");
            assert_eq!(may_manage(&caller, &user("ann"), place.as_ref()), manages, "{caller:?} manages in {place:?}");
        }
    }

    #[test]
    fn the_table_of_creation_and_lists() {
        // Columns: role, room token or not, may create rooms, may create destinations, lists everybody's.
        let table = [
            (ApiRole::Viewer, None, false, false, false),
            (ApiRole::Streamer, None, true, true, false),
            (ApiRole::Admin, None, true, true, true),
            (ApiRole::Viewer, Some("jam"), false, false, false),
            (ApiRole::Streamer, Some("jam"), false, true, false),
            (ApiRole::Admin, Some("jam"), false, true, false),
        ];
        for (role, limit, rooms, destinations, everybody) in table {
            let caller = caller("ann", role, limit);
            assert_eq!(may_create_rooms(&caller), rooms, "{caller:?}");
            assert_eq!(may_create_destinations(&caller), destinations, "{caller:?}");
            assert_eq!(lists_of(&caller).is_none(), everybody, "{caller:?}");
        }
    }

    #[test]
    fn the_table_of_a_room() {
        // Columns: role, may produce, may broadcast.
        let table = [
            (RoomRole::Viewer, false, false),
            (RoomRole::Musician, true, false),
            (RoomRole::Host, true, true),
            (RoomRole::Admin, true, true),
        ];
        for (role, produces, broadcasts) in table {
            assert_eq!((may_produce(role), may_broadcast(role)), (produces, broadcasts), "{role:?}");
        }
    }
}
