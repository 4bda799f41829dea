//! Who may do what over REST: the one table.

use crate::model::id::RoomId;
use crate::model::id::UserId;
use crate::model::role::ApiRole;
use crate::model::role::Principal;

/// Whether this caller may see and use a thing of this owner: a room, or what belongs to a room, or a destination of the whole
/// account, which is in no room.
pub fn may_read(caller: &Principal, owner: &UserId, room: Option<&RoomId>) -> bool {
    // A room token reaches its own room and what its owner lends to all rooms, and nothing of the owner's other rooms.
    let within = caller.room.as_ref().zip(room).is_none_or(|(limit, room)| limit == room);
    within && (caller.user == *owner || sees_everybody(caller))
}

/// Whether this caller may know what everybody in a room is told of its sound: any token of the room opens it, whatever its role.
pub fn may_hear(caller: &Principal, owner: &UserId, room: &RoomId) -> bool {
    caller.room.as_ref() == Some(room) || may_read(caller, owner, Some(room))
}

/// Whether this caller may change, start, stop or delete a thing that it may read. A room token uses what belongs to the whole
/// account, but leaves it as it is.
pub fn may_manage(caller: &Principal, owner: &UserId, room: Option<&RoomId>) -> bool {
    let lent = caller.room.is_some() && room.is_none();
    caller.role >= ApiRole::Streamer && !lent && may_read(caller, owner, room)
}

/// Whether this caller may create destinations and streams; those of a room token's holder belong to its room.
pub fn may_create(caller: &Principal) -> bool {
    caller.role >= ApiRole::Streamer
}

/// Whether this caller may create rooms, which a room token's holder may not.
pub fn may_create_rooms(caller: &Principal) -> bool {
    may_create(caller) && caller.room.is_none()
}

/// Whose things this caller's lists hold: everybody's for `None`.
pub fn lists_of(caller: &Principal) -> Option<&UserId> {
    (!sees_everybody(caller)).then_some(&caller.user)
}

/// The longest life, seconds, of a token that this caller mints at `now_s` (since the Unix epoch), where the gateway allows
/// `longest_s`. A room token passes its room on for no longer than it may use it itself, or it would never end.
pub fn longest_mint(caller: &Principal, now_s: u64, longest_s: u64) -> u64 {
    match caller.room {
        None => longest_s,
        Some(_) => longest_s.min(caller.expires_at_s.saturating_sub(now_s)),
    }
}

fn sees_everybody(caller: &Principal) -> bool {
    caller.role == ApiRole::Admin && caller.room.is_none()
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
        Principal { user: user(name), role, room: limit.map(room), expires_at_s: 1000 }
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
            ("ann", Viewer, None, None, true, false),
            ("bob", Streamer, None, Some("jam"), false, false),
            ("bob", Streamer, None, None, false, false),
            ("bob", Viewer, None, Some("jam"), false, false),
            ("bob", Admin, None, Some("jam"), true, true),
            ("bob", Admin, None, None, true, true),
            // Room tokens: hosts act as the room's owner, guests as somebody who owns nothing.
            ("ann", Streamer, Some("jam"), Some("jam"), true, true),
            ("ann", Streamer, Some("other"), Some("jam"), false, false),
            ("ann", Streamer, Some("jam"), None, true, false),
            ("bob", Viewer, Some("jam"), Some("jam"), false, false),
            ("bob", Viewer, Some("jam"), None, false, false),
            ("bob", Streamer, Some("jam"), Some("jam"), false, false),
            ("bob", Admin, Some("jam"), Some("jam"), false, false),
        ];
        for (name, role, limit, place, reads, manages) in table {
            let caller = caller(name, role, limit);
            let place = place.map(room);
            assert_eq!(may_read(&caller, &user("ann"), place.as_ref()), reads, "{caller:?} reads in {place:?}");
            assert_eq!(may_manage(&caller, &user("ann"), place.as_ref()), manages, "{caller:?} manages in {place:?}");
        }
    }

    #[test]
    fn whoever_may_enter_a_room_may_hear_how_late_it_is() {
        // The room is ann's and called jam. Columns: caller, role, room token's room, may hear.
        let table = [
            ("ann", ApiRole::Viewer, None, true),
            ("bob", ApiRole::Streamer, None, false),
            ("bob", ApiRole::Admin, None, true),
            ("guest", ApiRole::Viewer, Some("jam"), true),
            ("guest", ApiRole::Viewer, Some("other"), false),
            ("ann", ApiRole::Streamer, Some("other"), false),
        ];
        for (name, role, limit, hears) in table {
            let caller = caller(name, role, limit);
            assert_eq!(may_hear(&caller, &user("ann"), &room("jam")), hears, "{caller:?}");
        }
    }

    #[test]
    fn the_table_of_creation_and_lists() {
        // Columns: role, room token or not, may create rooms, may create destinations and streams, lists everybody's.
        let table = [
            (ApiRole::Viewer, None, false, false, false),
            (ApiRole::Streamer, None, true, true, false),
            (ApiRole::Admin, None, true, true, true),
            (ApiRole::Viewer, Some("jam"), false, false, false),
            (ApiRole::Streamer, Some("jam"), false, true, false),
            (ApiRole::Admin, Some("jam"), false, true, false),
        ];
        for (role, limit, rooms, things, everybody) in table {
            let caller = caller("ann", role, limit);
            assert_eq!(may_create_rooms(&caller), rooms, "{caller:?}");
            assert_eq!(may_create(&caller), things, "{caller:?}");
            assert_eq!(lists_of(&caller).is_none(), everybody, "{caller:?}");
        }
    }

    #[test]
    fn a_room_token_mints_for_no_longer_than_it_lives() {
        let host = caller("ann", ApiRole::Streamer, Some("jam"));
        assert_eq!(longest_mint(&host, 900, 3600), 100);
        assert_eq!(longest_mint(&host, 900, 50), 50);
        assert_eq!(longest_mint(&host, 1003, 3600), 0, "accepted within the leeway, and worth nothing more");
        let account = caller("ann", ApiRole::Streamer, None);
        assert_eq!(longest_mint(&account, 900, 3600), 3600, "an account's short-lived token speaks for the account");
    }
}
