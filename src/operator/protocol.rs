//! What the operator's commands say to a running node: one JSON object a line, one line back.

use mimi_actors::{
    ids::{ClientUri, ProviderId, Requester, RoomUri, UserUri},
    membership::{ChangeId, Next, Wish, check::Finding},
};
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
        /// Whom it concerns: a user, or a pseudonym.
        requester: Requester,
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
    /// The rooms of which something waits beside the link to a provider.
    Parked {
        /// The provider; every one without.
        provider: Option<ProviderId>,
    },
    /// Send what waits of a room that a provider refused; refused where nothing waits.
    Redrive {
        /// The provider.
        provider: ProviderId,
        /// The room.
        room: RoomUri,
    },
    /// How much is owed to a provider.
    Owed {
        /// The provider.
        provider: ProviderId,
    },
    /// Give up what is owed to a provider; refused where that is nothing, or more than this.
    ForgetPeer {
        /// The provider.
        provider: ProviderId,
        /// How many items at most.
        items_max: u64,
    },
    /// The cluster, as the node sees it.
    Cluster,
    /// Say what the next step of a wish would be in one shard, as its leader sees it.
    LookChange {
        /// The shard.
        shard: u16,
        /// What is wished.
        wish: Wish,
    },
    /// Make sure that no other change is under way, and write this one down on every node that is reached.
    BeginChange {
        /// Tells changes apart.
        id: ChangeId,
        /// What is wished.
        wish: Wish,
    },
    /// Carry a wish out in one shard, wherever it is led, unless another change has begun. Asked for again, it is done
    /// already.
    CarryChange {
        /// The change that it belongs to.
        id: ChangeId,
        /// The shard.
        shard: u16,
        /// What is wished.
        wish: Wish,
    },
    /// A change is over.
    EndChange {
        /// Which.
        id: ChangeId,
    },
    /// Look for what is not as it should be with the members of the shards.
    CheckCluster,
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
    /// What waits, of how many rooms altogether.
    Parked {
        /// The first of them.
        rooms: Vec<ParkedRow>,
        /// How many there are.
        total: usize,
    },
    /// The cluster.
    Cluster(ClusterStatus),
    /// What the next step of a wish would be.
    Next {
        /// The step.
        next: Next,
    },
    /// What is not as it should be.
    Checked {
        /// Each thing once.
        findings: Vec<Finding>,
    },
    /// What waited of a room is on its way again.
    Redriven {
        /// How many items.
        items: u64,
    },
    /// What is owed to a provider.
    Owed {
        /// How many items.
        items: u64,
    },
    /// What was owed to a provider is given up.
    Forgotten {
        /// How many items.
        items: u64,
    },
    /// It was so before: nothing had to be done.
    Unchanged,
    /// Nothing was done or, where the words say so, nobody knows whether.
    Refused {
        /// Why, and what to do about it.
        why: String,
        /// A word for machines.
        #[serde(default)]
        code: Code,
        /// When the same request may be sent again, in milliseconds, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u32>,
    },
}

/// Why something was not done, as a word that stays the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The node refuses; the words say why.
    #[default]
    Refused,
    /// What is named does not exist.
    Unknown,
    /// Nothing waits that could be sent again.
    NothingWaits,
    /// The disk or the log is full. Nothing was done.
    StorageFull,
    /// The shard has no leader that can be asked. Nothing was done.
    NoLeader,
    /// Too much waits already. Nothing was done.
    Overloaded,
    /// The leader changed before it answered: it may have been done.
    LeaderLost,
    /// The deadline is over: it may have been done.
    Late,
    /// No node listens.
    NotRunning,
    /// The node ended before it answered: it may have been done.
    Ended,
    /// The arguments are not usable.
    Usage,
    /// The configuration, or what it names, is not usable.
    Config,
    /// A history proves nothing.
    Unproven,
    /// Answered, and something is not well.
    Unwell,
    /// Anything else.
    Failed,
}

/// A room of which something waits beside a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedRow {
    /// The provider that it is for.
    pub provider: ProviderId,
    /// The room.
    pub room: RoomUri,
    /// How many items wait.
    pub items: u64,
    /// Why the provider refused it; nothing where it is only far behind, and goes on by itself.
    pub refused: Option<String>,
    /// Whether some of it was not kept: members of the provider must join anew.
    pub lost: bool,
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
    /// The certificates of the configuration.
    #[serde(default)]
    pub certificates: Vec<CertificateRow>,
    /// What is not well, and what to do about each.
    #[serde(default)]
    pub unwell: Vec<String>,
}

/// One certificate of a status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateRow {
    /// The key of the configuration that names it.
    pub key: String,
    /// When it ends, in seconds since 1970.
    pub ends_at_s: i64,
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
    /// Fan-out frames that this node has sent to it since it started.
    pub frames_sent: u64,
    /// Items in those frames.
    pub items_sent: u64,
    /// Frames of submissions that this node has sent to it since it started.
    pub submit_frames_sent: u64,
    /// Submissions in those frames; one that is sent again counts again.
    pub submissions_sent: u64,
    /// Why each of its addresses cannot be reached; nothing while it is connected.
    #[serde(default)]
    pub troubles: Vec<TroubleRow>,
}

/// Why an address of a peer cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TroubleRow {
    /// The address.
    pub address: String,
    /// What failed last.
    pub why: String,
    /// Since when nothing but failures, in seconds since 1970.
    pub since_s: i64,
    /// How many attempts have failed since.
    pub attempts: u64,
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
    /// The release by whose formats and rules its log goes on.
    #[serde(default)]
    pub level: String,
}

/// The cluster, as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The node that says so.
    pub node: u64,
    /// The others.
    pub others: Vec<NodeRow>,
    /// The shards.
    pub shards: Vec<ClusterShardRow>,
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Its number.
    pub node: u64,
    /// Where it is dialled.
    pub address: String,
    /// Whether it is connected.
    pub connected: bool,
}

/// One shard of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterShardRow {
    /// Its number.
    pub shard: u16,
    /// Who leads it, if it is known.
    pub leader: Option<u64>,
    /// Who should.
    pub preferred: Option<u64>,
    /// Counts elections.
    pub term: u64,
    /// Who votes.
    pub voters: Vec<u64>,
    /// Who gets everything and does not vote.
    pub learners: Vec<u64>,
    /// Where each of them is.
    pub addresses: Vec<(u64, String)>,
    /// The last entry in this node's log.
    pub last: u64,
    /// The last entry that this node applied.
    pub applied: u64,
    /// The term in which that entry was written.
    pub applied_term: u64,
}
