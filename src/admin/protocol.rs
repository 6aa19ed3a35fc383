//! What the operator's commands say to a running node: one JSON object a line, one line back.

use mimi_actors::ids::{ClientUri, RoomUri, UserUri};
use serde::{Deserialize, Serialize};

/// A request over the local socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Create a user, or give it one more enrolment code.
    AddUser {
        /// The name of the user at this provider.
        user: String,
    },
    /// Delete a user for good.
    DeleteUser {
        /// The name of the user at this provider.
        user: String,
    },
    /// List the users.
    ListUsers,
    /// Write down a user's consent.
    Consent {
        /// The name of the user at this provider.
        user: String,
        /// Whom it concerns.
        requester: UserUri,
        /// The one room it is for; any room without.
        room: Option<RoomUri>,
        /// Grant, deny, or (without) forget what was written down.
        grant: Option<bool>,
    },
    /// Take a device's access away.
    RevokeDevice {
        /// The device.
        client: ClientUri,
    },
    /// What the node holds and whom it is connected to.
    Status,
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Response {
    /// The user exists; the code enrols one device, once.
    UserAdded {
        /// The user.
        user: UserUri,
        /// The code: it is shown once and stored as a hash.
        enrolment_code: String,
        /// For how long it can be used, in seconds.
        valid_s: u64,
    },
    /// Done.
    Done,
    /// The users.
    Users {
        /// In order.
        users: Vec<UserRow>,
    },
    /// What the node holds.
    Status(Status),
    /// Nothing was done.
    Refused {
        /// Why, and what to do about it.
        why: String,
    },
}

/// One user of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRow {
    /// The user.
    pub user: UserUri,
    /// Whether it was deleted.
    pub deleted: bool,
    /// Its devices.
    pub devices: Vec<DeviceRow>,
    /// Consent entries written down.
    pub consents: usize,
}

/// One device of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRow {
    /// The device.
    pub client: ClientUri,
    /// KeyPackages in stock.
    pub key_packages: usize,
    /// Rooms it is a member of.
    pub rooms: usize,
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The provider.
    pub provider: String,
    /// The node.
    pub node: u64,
    /// Process id.
    pub pid: u32,
    /// Bytes of the log on disk.
    pub log_bytes: u64,
    /// At how many the log is full.
    pub log_bytes_max: u64,
    /// Times the log was synced since the start.
    pub log_syncs: u64,
    /// Entries written since the start.
    pub log_entries: u64,
    /// Actors awake.
    pub actors_awake: usize,
    /// Rooms and users asleep, as compact bytes.
    pub actors_asleep: usize,
    /// The peers, and whether a connection to each is up.
    pub peers: Vec<PeerRow>,
    /// The shards.
    pub shards: Vec<ShardRow>,
}

/// One peer of a status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRow {
    /// The provider.
    pub provider: String,
    /// Whether our connection to it is up.
    pub connected: bool,
    /// Items owed to it and not acknowledged.
    pub unacknowledged: u64,
}

/// One shard of a status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardRow {
    /// Its number.
    pub shard: u16,
    /// The last log entry applied.
    pub applied: u64,
    /// Hash of everything folded: equal logs give equal hashes.
    pub state_hash: String,
}
