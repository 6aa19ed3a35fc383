//! The sections of a configuration, and every default.

use super::RateConfig;
use crate::{
    cluster::raft::group::SNAPSHOT_ENTRIES,
    quic::{OfAddresses, places::Bound},
};
use mimi_actors::{
    bucket::Rate,
    limits::{
        ACTORS_AWAKE_MAX, AUDITED_MEMBERS_MAX, BACKLOG_ITEMS_MAX,
        CLIENT_HANDSHAKES_BURST_PER_ADDRESS, CLIENT_HANDSHAKES_PER_MINUTE_PER_ADDRESS,
        CREDIT_BYTES, DOORS_PER_ADDRESS_MAX, KEY_PACKAGE_LIFETIME_S_MAX, LEASE_MS, SHARDS_DEFAULT,
        WRONG_LOGINS_BURST_PER_ADDRESS, WRONG_LOGINS_PER_MINUTE_PER_ADDRESS,
    },
};
use serde::{Deserialize, Serialize};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

/// Who the node is, and where it keeps its state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    /// The provider's domain, as in `mimi://PROVIDER/u/alice`; must be the certificate's one DNS name.
    pub provider: String,
    /// Number of this node within its provider, from 1; never reused.
    pub id: u64,
    /// Directory of the node's state.
    pub data_dir: PathBuf,
    /// Local socket for the operator's commands; empty means `admin.sock` in the data directory.
    pub admin_socket: PathBuf,
    /// The hub's Ed25519 key (PKCS#8), the same on every node of a provider; empty means `hub.key` in the data
    /// directory, made at the first start.
    pub hub_key: PathBuf,
    /// Other hub keys of the provider (PKCS#8), newest first, the same on every node: rooms may list them instead, what goes
    /// to their joiners is signed with them, and a node lets others in whose `hub_key` is one of them.
    pub hub_keys: Vec<PathBuf>,
    /// The release, this one or the one before, as which the node speaks to the other nodes and to peers: `v0.1`, for as long
    /// as it may have to be put back to that. Empty means this one.
    pub speak_release: String,
    /// Shards of the provider: recorded when the data directory is made, and the same on all its nodes for good.
    pub shards: u16,
}

/// The node's certificate and key, PEM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// Certificate chain.
    pub certificate: PathBuf,
    /// Private key, readable by its owner only.
    pub key: PathBuf,
}

/// The door for other providers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinkConfig {
    /// UDP address to listen on.
    pub listen: SocketAddr,
    /// Payload bytes that each shard of a peer may have under way on its fan-out lane, at most.
    pub lane_credit_bytes: u32,
    /// Events and verdicts that may wait for a peer in one shard before it is brought into no more rooms of that shard.
    pub backlog_items_max: u64,
}

/// The door for clients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DoorConfig {
    /// UDP address to listen on.
    pub listen: SocketAddr,
    /// Connections of one address, or of one IPv6 network of 64 bits, at most; a whole network may be behind it.
    pub connections_per_address: usize,
    /// Connections of one address that may begin.
    pub handshakes_per_address: RateConfig,
    /// Wrong logins and enrolment codes from one address; beyond it none is looked at.
    pub wrong_logins_per_address: RateConfig,
}

/// The other nodes of the provider. Without a name the node is alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterConfig {
    /// Name of the cluster, a domain: the certificate of node 7 names `n7.NAME`. Empty for a node alone.
    pub name: String,
    /// UDP address to listen on.
    pub listen: SocketAddr,
    /// Certificate chain of this node, by the cluster's own CA.
    pub certificate: PathBuf,
    /// Its private key, readable by its owner only.
    pub key: PathBuf,
    /// The cluster's CA.
    pub ca: PathBuf,
    /// The nodes that the cluster begins with or, for one that joins, nodes of it; this node is among them.
    pub nodes: Vec<ClusterNode>,
    /// Whether this node waits to be taken in (`mimi-node cluster join`) instead of beginning a cluster.
    pub join: bool,
}

/// A node of the cluster, and where the others reach it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterNode {
    /// Its number.
    pub id: u64,
    /// `host:port` of its cluster door.
    pub address: String,
}

/// What the node shows of itself, over HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// TCP address of `/metrics`, `/livez` and `/readyz`, of this machine only; empty means that there is none.
    pub listen: String,
}

/// What the node keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StorageConfig {
    /// Largest log on disk, in bytes; then writes are refused until the operator makes room.
    pub log_bytes_max: u64,
    /// Entries of a shard after which its state is sealed as a snapshot, so that its older log can go.
    pub snapshot_entries: u64,
    /// How long events are kept for clients that do not fetch them, in seconds.
    pub retention_s: u64,
    /// How much of what is stored is read in a second to find damage, in bytes; zero switches that off.
    pub scrub_bytes_per_s: u64,
}

/// What the node allows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// How long a request may wait for its answer, in milliseconds.
    pub request_deadline_ms: u64,
    /// Members up to which OpenMLS is asked too what it thinks of a room's Commits; it decides nothing.
    pub audited_members_max: usize,
    /// Longest lifetime of a KeyPackage that is uploaded here, in seconds.
    pub key_package_lifetime_max_s: u64,
    /// How long a joiner has a room's GroupInfo to itself, in milliseconds: 5000 to 30000.
    pub group_info_lease_ms: u32,
    /// Hosts that a ratchet tree may be said to lie at, as `trees.a.example`; the node fetches nothing from them.
    pub tree_hosts: Vec<String>,
    /// How long a room or user is kept awake without being asked anything, in seconds.
    pub idle_s: u64,
    /// Rooms and users that are awake at a time, at most; what is asked of one that sleeps then is to come again.
    pub actors_awake_max: usize,
    /// How long a stopping node may take to finish what is under way, in milliseconds.
    pub drain_deadline_ms: u64,
}

/// What the node logs, to standard error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// How a line looks.
    pub format: LogFormat,
    /// Which lines there are, as in `RUST_LOG`, which wins; libraries are heard at more than warnings when they are named.
    pub filter: String,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// A provider that the node talks to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerConfig {
    /// Its domain.
    pub domain: String,
    /// Its nodes, as `host:port` of their link doors; tried in turn.
    pub addresses: Vec<String>,
    /// How it is recognised.
    pub trust: TrustConfig,
}

/// How a peer is recognised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrustConfig {
    /// By the CA in this PEM file.
    Ca(PathBuf),
    /// By the SHA-256 of its SubjectPublicKeyInfo, in hexadecimal (`mimi-node pki pin`).
    PinnedKey(String),
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            provider: "a.example".to_owned(),
            id: 1,
            data_dir: "data".into(),
            admin_socket: PathBuf::new(),
            hub_key: PathBuf::new(),
            hub_keys: Vec::new(),
            speak_release: String::new(),
            shards: SHARDS_DEFAULT,
        }
    }
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            certificate: "pki/a.example.crt".into(),
            key: "pki/a.example.key".into(),
        }
    }
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7470)),
            lane_credit_bytes: CREDIT_BYTES,
            backlog_items_max: BACKLOG_ITEMS_MAX,
        }
    }
}

impl Default for DoorConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7480)),
            connections_per_address: DOORS_PER_ADDRESS_MAX,
            handshakes_per_address: RateConfig {
                burst: CLIENT_HANDSHAKES_BURST_PER_ADDRESS,
                per_minute: CLIENT_HANDSHAKES_PER_MINUTE_PER_ADDRESS,
            },
            wrong_logins_per_address: RateConfig {
                burst: WRONG_LOGINS_BURST_PER_ADDRESS,
                per_minute: WRONG_LOGINS_PER_MINUTE_PER_ADDRESS,
            },
        }
    }
}

impl DoorConfig {
    /// What one address may have of connections.
    #[must_use]
    pub fn of_addresses(&self) -> OfAddresses {
        let default = OfAddresses::default();
        OfAddresses {
            handshakes: self.handshakes_per_address.rate(),
            connections: Bound {
                each: self.connections_per_address,
                ..default.connections
            },
        }
    }

    /// How many wrong logins one address may have.
    #[must_use]
    pub fn wrong_logins(&self) -> Rate {
        self.wrong_logins_per_address.rate()
    }

    /// The first thing that cannot be: its key, and what is wrong.
    pub(super) fn flaw(&self) -> Option<(&'static str, &'static str)> {
        if self.connections_per_address == 0 {
            return Some(("door.connections_per_address", "at least 1"));
        }
        let rates = [
            ("door.handshakes_per_address", self.handshakes_per_address),
            (
                "door.wrong_logins_per_address",
                self.wrong_logins_per_address,
            ),
        ];
        rates
            .into_iter()
            .find_map(|(key, rate)| Some((key, rate.flaw()?)))
    }
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7460)),
            certificate: "cluster.crt".into(),
            key: "cluster.key".into(),
            ca: "cluster-ca.crt".into(),
            nodes: Vec::new(),
            join: false,
        }
    }
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            log_bytes_max: 64 << 30,
            snapshot_entries: SNAPSHOT_ENTRIES,
            retention_s: 30 * 24 * 3_600,
            scrub_bytes_per_s: 1 << 20,
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            request_deadline_ms: 10_000,
            audited_members_max: AUDITED_MEMBERS_MAX,
            key_package_lifetime_max_s: KEY_PACKAGE_LIFETIME_S_MAX,
            group_info_lease_ms: LEASE_MS,
            tree_hosts: Vec::new(),
            idle_s: 60,
            actors_awake_max: ACTORS_AWAKE_MAX,
            drain_deadline_ms: 5_000,
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            format: LogFormat::Auto,
            filter: "info".to_owned(),
        }
    }
}
