//! Configuration: one TOML file, overridden by `MIMI_NODE__SECTION__KEY`, checked once.
//!
//! Every default is in `sections`; `configs/node.toml` shows them and a test proves that it does. An unknown key is an
//! error that names the nearest known one. Not here: whether files are what they must be (`preflight`), and whether ports
//! are free, which the start finds out.

mod claims;
mod commits;
mod keys;
mod sections;
#[cfg(test)]
mod tests;

pub use claims::{ClaimsConfig, Privacy, RateConfig};
pub use commits::CommitsConfig;
pub use sections::{
    AdminConfig, ClusterConfig, ClusterNode, DoorConfig, LimitsConfig, LinkConfig, LogConfig,
    LogFormat, NodeConfig, PeerConfig, StorageConfig, TlsConfig, TrustConfig,
};

use crate::quic::PeerTrust;
use figment::{
    Figment,
    providers::Serialized,
    value::{Dict, Value},
};
use mimi_actors::{
    ids::{BadIdentifier, ProviderId},
    limits::{HUB_KEYS_MAX, LEASE_MS_MAX, LEASE_MS_MIN, SHARDS_MAX},
    membership::ADDRESS_BYTES_MAX,
    mls::{
        check::{bundle::Terms, hub_senders::HubSenders, objections::Objections},
        tree::cache::TreeCache,
    },
    wire::version::{RELEASES, Release},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use tracing_subscriber::EnvFilter;

/// The example file: every key at its default.
pub const EXAMPLE: &str = include_str!("../configs/node.toml");
/// Prefix of environment overrides; sections and keys are separated by two underscores.
const ENV_PREFIX: &str = "MIMI_NODE__";
/// How the environment is called in errors.
const ENV_PLACE: &str = "the environment (MIMI_NODE__SECTION__KEY)";
/// Shortest deadline of a request, in milliseconds: it has to reach the disk.
const REQUEST_DEADLINE_MS_MIN: u64 = 100;
/// Smallest log, in bytes.
const LOG_BYTES_MIN: u64 = 64 << 20;
/// Smallest number of entries between two snapshots of a shard.
const SNAPSHOT_ENTRIES_MIN: u64 = 10;

/// Why a configuration is not usable.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there.
    #[error("{path}: the configuration does not read; `mimi-node config example` prints one", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{place}:{line}: {why}")]
    Syntax {
        /// The file.
        place: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        why: String,
    },
    /// A key that does not exist.
    #[error("{place}: unknown key `{key}`; did you mean `{nearest}`?")]
    UnknownKey {
        /// The file, or the environment.
        place: String,
        /// The key, with its section.
        key: String,
        /// The known key that looks most like it.
        nearest: String,
    },
    /// A value of another kind, or none.
    #[error("{place}: `{key}`: {why}")]
    Value {
        /// The file.
        place: String,
        /// The key, with its section.
        key: String,
        /// What was expected.
        why: String,
    },
    /// A value that cannot be.
    #[error("`{key}`: {why}")]
    Invalid {
        /// The key, with its section.
        key: String,
        /// What is wrong, and what to do.
        why: String,
    },
}

/// Everything a node is told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Who the node is, and where it keeps its state.
    pub node: NodeConfig,
    /// Its certificate and key.
    pub tls: TlsConfig,
    /// Its door for other providers.
    pub link: LinkConfig,
    /// Its door for clients.
    pub door: DoorConfig,
    /// The other nodes of its provider.
    pub cluster: ClusterConfig,
    /// What it shows of itself.
    pub admin: AdminConfig,
    /// What it keeps.
    pub storage: StorageConfig,
    /// What it allows.
    pub limits: LimitsConfig,
    /// By which rules it gives KeyPackages.
    pub claims: ClaimsConfig,
    /// How often its rooms take Commits.
    pub commits: CommitsConfig,
    /// What it logs.
    pub log: LogConfig,
    /// The providers it talks to; nobody else is let in.
    pub peer: Vec<PeerConfig>,
}

/// A cluster of nodes, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its name.
    pub name: ProviderId,
    /// Nodes by number, and where each is reached; this one among them.
    pub nodes: BTreeMap<u64, String>,
    /// Whether this node waits to be taken in.
    pub join: bool,
}

/// A peer, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where its nodes are.
    pub addresses: Vec<String>,
    /// How it is recognised.
    pub trust: PeerTrust,
}

impl Config {
    /// Reads a file and the environment.
    ///
    /// # Errors
    /// [`ConfigError`] names the key, and for an unknown one the nearest known.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        let mut config = Self::read(&path.display().to_string(), &text, variables)?;
        config.resolve(path.parent().unwrap_or(Path::new("")));
        config.check()?;
        Ok(config)
    }

    /// Reads the text of a file, and the variables of the environment that concern a node.
    fn read(
        place: &str,
        text: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let file: Dict = toml::from_str(text).map_err(|error| ConfigError::Syntax {
            place: place.to_owned(),
            line: line_of(text, error.span().unwrap_or_default().start),
            why: error.message().to_owned(),
        })?;
        keys::check(&file, place)?;
        let environment = overrides(variables);
        keys::check(&environment, ENV_PLACE)?;
        let read = Figment::from(Serialized::defaults(Self::default()))
            .merge(Serialized::globals(file))
            .merge(Serialized::globals(&environment))
            .extract();
        read.map_err(|error: figment::Error| {
            let key = error.path.join(".");
            let overridden = Value::from(environment).find_ref(&key).is_some();
            ConfigError::Value {
                place: if overridden { ENV_PLACE } else { place }.to_owned(),
                key,
                why: error.kind.to_string(),
            }
        })
    }

    /// What rooms at this hub are checked by.
    #[must_use]
    pub fn terms(&self, providers: BTreeSet<ProviderId>, hub: HubSenders) -> Terms {
        Terms {
            audited_members_max: self.limits.audited_members_max,
            key_package_lifetime_max_s: self.limits.key_package_lifetime_max_s,
            tree_hosts: self.limits.tree_hosts.clone(),
            trees: TreeCache::new(),
            providers: Some(providers),
            hub,
            objections: Objections::new(),
        }
    }

    /// Makes relative paths relative to the file that holds them.
    fn resolve(&mut self, base: &Path) {
        let mut paths = vec![
            &mut self.node.data_dir,
            &mut self.tls.certificate,
            &mut self.tls.key,
            &mut self.cluster.certificate,
            &mut self.cluster.key,
            &mut self.cluster.ca,
        ];
        if self.node.hub_key != Path::new("") {
            paths.push(&mut self.node.hub_key);
        }
        if self.node.admin_socket != Path::new("") {
            paths.push(&mut self.node.admin_socket);
        }
        paths.extend(&mut self.node.hub_keys);
        for peer in &mut self.peer {
            if let TrustConfig::Ca(path) = &mut peer.trust {
                paths.push(path);
            }
        }
        for path in paths {
            *path = base.join(&*path);
        }
        if self.node.admin_socket == Path::new("") {
            self.node.admin_socket = self.node.data_dir.join("admin.sock");
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.provider()?;
        self.peers()?;
        self.admin_listen()?;
        if self.node.id == 0 {
            return refuse("node.id", "node numbers begin at 1");
        }
        if self.node.hub_keys.len() > HUB_KEYS_MAX {
            let why = format!("at most {HUB_KEYS_MAX}: give up those that no room lists any more");
            return refuse("node.hub_keys", &why);
        }
        self.release()?;
        self.shards()?;
        if self.link.listen == self.door.listen && self.link.listen.port() != 0 {
            return refuse("door.listen", "must not be the address of link.listen");
        }
        self.cluster()?;
        if self.limits.request_deadline_ms < REQUEST_DEADLINE_MS_MIN {
            let why =
                format!("at least {REQUEST_DEADLINE_MS_MIN}: a request has to reach the disk");
            return refuse("limits.request_deadline_ms", &why);
        }
        let lease_ms = self.limits.group_info_lease_ms;
        if !(LEASE_MS_MIN..=LEASE_MS_MAX).contains(&lease_ms) {
            let why = format!("{LEASE_MS_MIN} to {LEASE_MS_MAX}: a joiner needs a few seconds");
            return refuse("limits.group_info_lease_ms", &why);
        }
        if self.storage.log_bytes_max < LOG_BYTES_MIN {
            let why = format!("at least {LOG_BYTES_MIN}");
            return refuse("storage.log_bytes_max", &why);
        }
        if self.storage.snapshot_entries < SNAPSHOT_ENTRIES_MIN {
            let why = format!("at least {SNAPSHOT_ENTRIES_MIN}: each writes the whole state");
            return refuse("storage.snapshot_entries", &why);
        }
        if self.storage.retention_s == 0 {
            return refuse(
                "storage.retention_s",
                "at least 1: nobody could fetch anything",
            );
        }
        if let Some((key, why)) = self.claims.flaw() {
            return refuse(key, &why);
        }
        if let Some((key, why)) = self.door.flaw() {
            return refuse(key, why);
        }
        if let Some((key, why)) = self.commits.flaw() {
            return refuse(key, why);
        }
        if let Err(error) = EnvFilter::try_new(&self.log.filter) {
            return refuse("log.filter", &error.to_string());
        }
        Ok(())
    }

    /// The provider, checked.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] when it is not a canonical domain.
    pub fn provider(&self) -> Result<ProviderId, ConfigError> {
        domain("node.provider", &self.node.provider)
    }

    /// The cluster that the node belongs to, checked; `None` for a node alone.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] names what is wrong.
    pub fn cluster(&self) -> Result<Option<Cluster>, ConfigError> {
        let given = &self.cluster;
        if given.name.is_empty() {
            if given.nodes.is_empty() && !given.join {
                return Ok(None);
            }
            return refuse(
                "cluster.name",
                "a cluster of several nodes needs a name, as in main.a.example",
            );
        }
        let name = domain("cluster.name", &given.name)?;
        if self.node.hub_key == Path::new("") {
            let why = "every node of a cluster needs the same file: copy the hub.key of one to all of them";
            return refuse("node.hub_key", why);
        }
        let taken = [self.link.listen, self.door.listen];
        if given.listen.port() != 0 && taken.contains(&given.listen) {
            return refuse(
                "cluster.listen",
                "must not be the address of link.listen or door.listen",
            );
        }
        let mut nodes = BTreeMap::new();
        for node in &given.nodes {
            let key = format!("cluster.nodes {}", node.id);
            if node.id == 0 {
                return refuse(&key, "node numbers begin at 1");
            }
            if !is_address(&node.address) {
                return refuse(
                    &key,
                    &format!("{:?} is not an address, as host:port", node.address),
                );
            }
            if nodes.values().any(|address| *address == node.address) {
                return refuse(&key, &format!("{} is another node's address", node.address));
            }
            if nodes.insert(node.id, node.address.clone()).is_some() {
                return refuse(&key, "is listed twice");
            }
        }
        if !nodes.contains_key(&self.node.id) {
            let why = format!(
                "must list this node too (id {}), at the address where the others reach it",
                self.node.id
            );
            return refuse("cluster.nodes", &why);
        }
        if given.join && nodes.len() == 1 {
            return refuse("cluster.nodes", "must list a node of the cluster to join");
        }
        Ok(Some(Cluster {
            name,
            nodes,
            join: given.join,
        }))
    }

    /// The peers, checked.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] names what is wrong with one.
    pub fn peers(&self) -> Result<BTreeMap<ProviderId, Peer>, ConfigError> {
        let mut peers = BTreeMap::new();
        for peer in &self.peer {
            let key = format!("peer {}", peer.domain);
            let id = domain(&key, &peer.domain)?;
            if peer.domain == self.node.provider {
                return refuse(&key, "a provider is not its own peer");
            }
            if peer.addresses.is_empty() {
                return refuse(&key, "needs at least one address, as host:port");
            }
            if let Some(address) = peer.addresses.iter().find(|address| !is_address(address)) {
                return refuse(
                    &key,
                    &format!("{address:?} is not an address, as host:port"),
                );
            }
            let trust = match &peer.trust {
                TrustConfig::Ca(path) => PeerTrust::Ca(path.clone()),
                TrustConfig::PinnedKey(pin) => match read_pin(pin) {
                    Some(pin) => PeerTrust::PinnedKey(pin),
                    None => return refuse(&key, "trust.pinned_key must be 64 hexadecimal digits"),
                },
            };
            let addresses = peer.addresses.clone();
            if peers.insert(id, Peer { addresses, trust }).is_some() {
                return refuse(&key, "is listed twice");
            }
        }
        Ok(peers)
    }

    /// The number of shards, checked.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] when there can be no such number.
    pub fn shards(&self) -> Result<u16, ConfigError> {
        let shards = self.node.shards;
        if (1..=SHARDS_MAX).contains(&shards) {
            return Ok(shards);
        }
        let why = format!("{shards} is not a number from 1 to {SHARDS_MAX}");
        refuse("node.shards", &why)
    }

    /// The release as which the node speaks, checked.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] when this program does not speak as that.
    pub fn release(&self) -> Result<Release, ConfigError> {
        let name = &self.node.speak_release;
        let known = RELEASES.map(|release| release.name).join(" and ");
        let why =
            || format!("{name:?} is not spoken here, {known} are; leave it empty for this release");
        let found = Release::named(name);
        found.map_or_else(|| refuse("node.speak_release", &why()), Ok)
    }

    /// Where metrics and health are shown, checked; nowhere without an address.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] when it is no address, or one that other machines could reach.
    pub fn admin_listen(&self) -> Result<Option<SocketAddr>, ConfigError> {
        let text = &self.admin.listen;
        if text.is_empty() {
            return Ok(None);
        }
        let Ok(address) = text.parse::<SocketAddr>() else {
            let why =
                format!("{text:?} is not an address, as 127.0.0.1:7490; leave it empty for none");
            return refuse("admin.listen", &why);
        };
        if !address.ip().is_loopback() {
            let why = format!(
                "{address} can be reached from other machines and asks nobody who they are: use 127.0.0.1 or [::1], \
                 and let a proxy or a collector on this machine pass it on"
            );
            return refuse("admin.listen", &why);
        }
        Ok(Some(address))
    }

    /// How long events are kept for clients.
    #[must_use]
    pub fn retention(&self) -> Duration {
        Duration::from_secs(self.storage.retention_s)
    }

    /// How long a request may wait.
    #[must_use]
    pub fn request_deadline(&self) -> Duration {
        Duration::from_millis(self.limits.request_deadline_ms)
    }
}

fn refuse<T>(key: &str, why: &str) -> Result<T, ConfigError> {
    Err(ConfigError::Invalid {
        key: key.to_owned(),
        why: why.to_owned(),
    })
}

/// What the environment says: `MIMI_NODE__LINK__LISTEN` is `link.listen`; a value reads as in TOML, or as a text.
fn overrides(variables: impl IntoIterator<Item = (String, String)>) -> Dict {
    let mut tables = Dict::new();
    for (name, value) in variables {
        let Some(key) = name.strip_prefix(ENV_PREFIX) else {
            continue;
        };
        let key = key.to_ascii_lowercase().replace("__", ".");
        let Ok(value) = value.parse::<Value>();
        let one = figment::util::nest(&key, value);
        if let Some(one) = one.into_dict() {
            merge(&mut tables, one);
        }
    }
    tables
}

fn merge(into: &mut Dict, from: Dict) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Dict(_, into)), Value::Dict(_, from)) => merge(into, from),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// The line of a place in a text, from 1.
fn line_of(text: &str, place: usize) -> usize {
    1 + text
        .bytes()
        .take(place)
        .filter(|byte| *byte == b'\n')
        .count()
}

fn domain(key: &str, domain: &str) -> Result<ProviderId, ConfigError> {
    domain
        .parse()
        .or_else(|error: BadIdentifier| refuse(key, &format!("{domain:?}: {error}")))
}

/// Whether a text is a host or IP address, and a port.
pub(crate) fn is_address(text: &str) -> bool {
    let host_and_port = text.rsplit_once(':');
    host_and_port.is_some_and(|(host, port)| {
        let name = !host.is_empty() && !host.contains([':', '[', ']', '/', ' ']);
        let number = port.parse::<u16>().is_ok_and(|port| port != 0);
        let fits = text.len() <= ADDRESS_BYTES_MAX;
        fits && number && (name || text.parse::<SocketAddr>().is_ok())
    })
}

fn read_pin(text: &str) -> Option<[u8; 32]> {
    let mut pin = [0; 32];
    if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, place) in pin.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(text.get(place..place + 2)?, 16).ok()?;
    }
    Some(pin)
}
