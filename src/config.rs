//! Configuration: one TOML file, overridden by `MIMI_NODE__SECTION__KEY`, checked once.
//!
//! Every default is in this file; `configs/node.toml` shows them and a test proves that it does. An unknown key is an
//! error that names the nearest known one.

use crate::quic::PeerTrust;
use figment::{
    Figment,
    providers::{Env, Format, Serialized, Toml},
    value::{Dict, Value},
};
use mimi_actors::{ids::ProviderId, limits::AUDITED_MEMBERS_MAX};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

/// The example file: every key at its default.
pub const EXAMPLE: &str = include_str!("../configs/node.toml");
/// Prefix of environment overrides; sections and keys are separated by two underscores.
const ENV_PREFIX: &str = "MIMI_NODE__";

/// Why a configuration is not usable.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there.
    #[error("{path}: the configuration does not read: {source}; `mimi-node config example` prints one", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A key that does not exist.
    #[error("unknown key `{key}`; did you mean `{nearest}`?")]
    UnknownKey {
        /// The key, with its section.
        key: String,
        /// The known key that looks most like it.
        nearest: String,
    },
    /// A value that does not read.
    #[error("{0}")]
    Value(Box<figment::Error>),
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
#[serde(default)]
pub struct Config {
    /// Who the node is, and where it keeps its state.
    pub node: NodeConfig,
    /// Its certificate and key.
    pub tls: TlsConfig,
    /// Its door for other providers.
    pub link: LinkConfig,
    /// Its door for clients.
    pub door: DoorConfig,
    /// What it keeps.
    pub storage: StorageConfig,
    /// What it allows.
    pub limits: LimitsConfig,
    /// The providers it talks to; nobody else is let in.
    pub peer: Vec<PeerConfig>,
}

/// Who the node is, and where it keeps its state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeConfig {
    /// The provider's domain, as in `mimi://PROVIDER/u/alice`; must be the certificate's one DNS name.
    pub provider: String,
    /// Number of this node within its provider, from 1; never reused.
    pub id: u64,
    /// Directory of the node's state.
    pub data_dir: PathBuf,
    /// Local socket for the operator's commands; empty means `admin.sock` in the data directory.
    pub admin_socket: PathBuf,
}

/// The node's certificate and key, PEM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TlsConfig {
    /// Certificate chain.
    pub certificate: PathBuf,
    /// Private key, readable by its owner only.
    pub key: PathBuf,
}

/// The door for other providers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkConfig {
    /// UDP address to listen on.
    pub listen: SocketAddr,
}

/// The door for clients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DoorConfig {
    /// UDP address to listen on.
    pub listen: SocketAddr,
}

/// What the node keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StorageConfig {
    /// Largest log on disk, in bytes; then writes are refused until the operator makes room.
    pub log_bytes_max: u64,
}

/// What the node allows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitsConfig {
    /// How long a request may wait for its answer, in milliseconds.
    pub request_deadline_ms: u64,
    /// Members up to which a room's Commits are also validated by OpenMLS.
    pub audited_members_max: usize,
    /// How long a room or user is kept awake without being asked anything, in seconds.
    pub idle_s: u64,
    /// How long a stopping node may take to finish what is under way, in milliseconds.
    pub drain_deadline_ms: u64,
}

/// A provider that the node talks to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
        }
    }
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            certificate: "node.crt".into(),
            key: "node.key".into(),
        }
    }
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7470)),
        }
    }
}

impl Default for DoorConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7480)),
        }
    }
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            log_bytes_max: 64 << 30,
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            request_deadline_ms: 10_000,
            audited_members_max: AUDITED_MEMBERS_MAX,
            idle_s: 60,
            drain_deadline_ms: 5_000,
        }
    }
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
        let env = Env::prefixed(ENV_PREFIX).split("__");
        let mut config = Self::read(&text, Some(env))?;
        let base = path.parent().unwrap_or(Path::new(""));
        config.resolve(base);
        config.check()?;
        Ok(config)
    }

    fn read(text: &str, env: Option<Env>) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        let mut given = Figment::from(Toml::string(text));
        if let Some(env) = env {
            given = given.merge(env);
        }
        let value = |error: figment::Error| ConfigError::Value(Box::new(error));
        let keys: Dict = given.extract().map_err(value)?;
        known_keys(&keys)?;
        figment = figment.merge(given);
        figment.extract().map_err(value)
    }

    /// Makes relative paths relative to the file that holds them.
    fn resolve(&mut self, base: &Path) {
        let mut paths = vec![
            &mut self.node.data_dir,
            &mut self.tls.certificate,
            &mut self.tls.key,
        ];
        if self.node.admin_socket != Path::new("") {
            paths.push(&mut self.node.admin_socket);
        }
        for peer in &mut self.peer {
            if let TrustConfig::Ca(path) = &mut peer.trust {
                paths.push(path);
            }
        }
        for path in paths {
            *path = base.join(&*path);
        }
        if self.node.admin_socket == Path::new("") {
            self.node.admin_socket = crate::admin::local::default_path(&self.node.data_dir);
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let refuse = |key: &str, why: String| {
            Err(ConfigError::Invalid {
                key: key.to_owned(),
                why,
            })
        };
        self.provider()?;
        self.peers()?;
        if self.node.id == 0 {
            return refuse("node.id", "node numbers begin at 1".to_owned());
        }
        if self.link.listen == self.door.listen && self.link.listen.port() != 0 {
            return refuse(
                "door.listen",
                "must not be the address of link.listen".to_owned(),
            );
        }
        if self.limits.request_deadline_ms < 100 {
            let why = "at least 100 ms: a request has to reach the disk".to_owned();
            return refuse("limits.request_deadline_ms", why);
        }
        if self.storage.log_bytes_max < 64 << 20 {
            return refuse(
                "storage.log_bytes_max",
                "at least 64 MiB (67108864)".to_owned(),
            );
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

    /// The peers, checked.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] names what is wrong with one.
    pub fn peers(&self) -> Result<BTreeMap<ProviderId, Peer>, ConfigError> {
        let mut peers = BTreeMap::new();
        for peer in &self.peer {
            let key = format!("peer.{}", peer.domain);
            let id = domain(&key, &peer.domain)?;
            let refuse = |why: &str| {
                Err(ConfigError::Invalid {
                    key: key.clone(),
                    why: why.to_owned(),
                })
            };
            if peer.domain == self.node.provider {
                return refuse("a provider is not its own peer");
            }
            if peer.addresses.is_empty() {
                return refuse("needs at least one address, as host:port");
            }
            let trust = match &peer.trust {
                TrustConfig::Ca(path) => PeerTrust::Ca(path.clone()),
                TrustConfig::PinnedKey(pin) => match read_pin(pin) {
                    Some(pin) => PeerTrust::PinnedKey(pin),
                    None => return refuse("trust.pinned_key must be 64 hexadecimal digits"),
                },
            };
            if peers
                .insert(
                    id,
                    Peer {
                        addresses: peer.addresses.clone(),
                        trust,
                    },
                )
                .is_some()
            {
                return refuse("is listed twice");
            }
        }
        Ok(peers)
    }

    /// How long a request may wait.
    #[must_use]
    pub fn request_deadline(&self) -> Duration {
        Duration::from_millis(self.limits.request_deadline_ms)
    }
}

fn domain(key: &str, domain: &str) -> Result<ProviderId, ConfigError> {
    domain.parse().map_err(
        |error: mimi_actors::ids::BadIdentifier| ConfigError::Invalid {
            key: key.to_owned(),
            why: format!("{domain:?}: {error}"),
        },
    )
}

fn read_pin(text: &str) -> Option<[u8; 32]> {
    let mut pin = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, place) in pin.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(text.get(place..place + 2)?, 16).ok()?;
    }
    Some(pin)
}

/// Refuses keys that do not exist.
fn known_keys(given: &Dict) -> Result<(), ConfigError> {
    let defaults = Figment::from(Serialized::defaults(Config::default()));
    let known: Dict = defaults
        .extract()
        .map_err(|error| ConfigError::Value(Box::new(error)))?;
    let mut known: BTreeMap<String, Vec<String>> = known
        .iter()
        .map(|(section, value)| (section.clone(), keys_of(value)))
        .collect();
    let peer = ["domain", "addresses", "trust"].map(str::to_owned).to_vec();
    known.insert("peer".to_owned(), peer);
    let sections: Vec<String> = known.keys().cloned().collect();
    for (section, value) in given {
        let Some(keys) = known.get(section) else {
            return Err(unknown(section, &sections));
        };
        let tables: Vec<Vec<String>> = match value {
            Value::Array(_, tables) => tables.iter().map(keys_of).collect(),
            table @ (Value::String(..)
            | Value::Char(..)
            | Value::Bool(..)
            | Value::Num(..)
            | Value::Empty(..)
            | Value::Dict(..)) => vec![keys_of(table)],
        };
        let stray = tables.into_iter().flatten().find(|key| !keys.contains(key));
        if let Some(key) = stray {
            let full: Vec<String> = keys
                .iter()
                .map(|known| format!("{section}.{known}"))
                .collect();
            return Err(unknown(&format!("{section}.{key}"), &full));
        }
    }
    Ok(())
}

fn keys_of(value: &Value) -> Vec<String> {
    value
        .as_dict()
        .map(|table| table.keys().cloned().collect())
        .unwrap_or_default()
}

fn unknown(key: &str, known: &[String]) -> ConfigError {
    let likeness = |candidate: &String| strsim::jaro_winkler(key, candidate);
    let nearest = known
        .iter()
        .max_by(|one, other| likeness(one).total_cmp(&likeness(other)))
        .cloned()
        .unwrap_or_default();
    ConfigError::UnknownKey {
        key: key.to_owned(),
        nearest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_shows_every_key_at_its_default() {
        assert_eq!(Config::read(EXAMPLE, None).unwrap(), Config::default());
        let table: toml::Table = EXAMPLE.parse().unwrap();
        let defaults = toml::Table::try_from(Config::default()).unwrap();
        for (section, keys) in defaults.iter().filter(|(section, _)| *section != "peer") {
            for key in keys.as_table().unwrap().keys() {
                assert!(
                    table[section].as_table().unwrap().contains_key(key),
                    "{section}.{key}"
                );
            }
        }
        assert!(EXAMPLE.contains("# [[peer]]"));
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_known_one() {
        let error = Config::read("[link]\nlistn = \"127.0.0.1:1\"", None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown key `link.listn`; did you mean `link.listen`?"
        );
        let error = Config::read("[dor]\nlisten = \"127.0.0.1:1\"", None).unwrap_err();
        assert_eq!(error.to_string(), "unknown key `dor`; did you mean `door`?");
        let peer = "[[peer]]\ndomain = \"b.example\"\naddress = []\ntrust = { ca = \"x\" }";
        let error = Config::read(peer, None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown key `peer.address`; did you mean `peer.addresses`?"
        );
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_key() {
        let mut config = Config::default();
        config.node.provider = "A.example".to_owned();
        assert!(
            config
                .check()
                .unwrap_err()
                .to_string()
                .starts_with("`node.provider`")
        );
        let mut config = Config::default();
        let trust = TrustConfig::PinnedKey("12".to_owned());
        let addresses = vec!["127.0.0.1:1".to_owned()];
        config.peer = vec![PeerConfig {
            domain: "b.example".to_owned(),
            addresses,
            trust,
        }];
        assert!(
            config
                .check()
                .unwrap_err()
                .to_string()
                .contains("64 hexadecimal digits")
        );
        config.peer[0].trust = TrustConfig::Ca("ca.crt".into());
        assert!(config.check().is_ok());
        config.peer.push(config.peer[0].clone());
        assert!(config.check().unwrap_err().to_string().contains("twice"));
    }
}
