//! Who may do what: roles in a room, roles towards the API, and what a checked token says.

use serde::Deserialize;
use serde::Serialize;

use crate::model::id::RoomId;
use crate::model::id::UserId;

/// A participant's role in a room, ordered from least to most allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomRole {
    /// Sees and hears.
    Viewer,
    /// Sends tracks too.
    Musician,
    /// Runs the room's broadcasts too.
    Host,
    /// The platform's operator in the room.
    Admin,
}

/// A caller's role towards the REST API, ordered from least to most allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApiRole {
    /// Reads status.
    Viewer,
    /// Owns rooms, streams and destinations.
    Streamer,
    /// Sees and manages everybody's.
    Admin,
}

/// The caller of the API, from a checked token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    pub user: UserId,
    pub role: ApiRole,
    /// Set for a host's room token: everything this caller does is limited to this room.
    pub room: Option<RoomId>,
    /// When the token ends, seconds since the Unix epoch.
    pub expires_at_s: u64,
}

/// What a checked room token allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomGrant {
    pub room: RoomId,
    pub user: UserId,
    pub role: RoomRole,
    /// Name shown to the others, 1 to 64 characters.
    pub name: String,
}
