//! A node's data directory: whose it is, how often it was started, and the hub's key.

use crate::private::read_private;
use anyhow::{Context, bail};
use mimi_actors::{ids::ProviderId, limits::SHARDS, room::checks::HubSigner};
use rand::RngCore;
use ring::{
    error::Unspecified,
    signature::{Ed25519KeyPair, KeyPair},
};
use serde::{Deserialize, Serialize};
use std::{
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Whose data directory this is, as its `node.json` says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Owner {
    provider: String,
    node: u64,
    shards: u16,
    /// Made with the directory.
    incarnation: [u8; 16],
    /// Starts on this directory, this one included.
    starts: u64,
    /// Hash of the nodes that it began a cluster with; none for a node alone or one that joined.
    founding: Option<[u8; 32]>,
}

/// A claimed data directory.
#[derive(Debug)]
pub(crate) struct Claimed {
    path: PathBuf,
    owner: Owner,
}

/// Makes sure that a data directory is this node's, and makes it so when it is new.
///
/// # Errors
/// When it is another node's, or cannot be read or written.
pub(crate) fn claim(
    data_dir: &Path,
    provider: &ProviderId,
    node: u64,
    founding: Option<[u8; 32]>,
) -> anyhow::Result<Claimed> {
    let path = data_dir.join("node.json");
    let owner = match std::fs::read(&path) {
        Ok(bytes) => {
            let found = read_owner(&path, &bytes)?;
            found.check(data_dir, provider, node)?;
            found
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            without_owner(data_dir)?;
            let owner = Owner {
                provider: provider.to_string(),
                node,
                shards: SHARDS,
                incarnation: random(),
                starts: 0,
                founding,
            };
            write_durably(&path, &serde_json::to_vec(&owner)?)?;
            owner
        }
        Err(error) => return Err(error).context(format!("read {}", path.display())),
    };
    Ok(Claimed { path, owner })
}

fn read_owner(path: &Path, bytes: &[u8]) -> anyhow::Result<Owner> {
    serde_json::from_slice(bytes).with_context(|| {
        format!(
            "{} does not read; is this a data directory?",
            path.display()
        )
    })
}

/// A directory without an owner is new.
fn without_owner(data_dir: &Path) -> anyhow::Result<()> {
    if data_dir.join("log").exists() {
        bail!(
            "{} holds a log but no node.json: it is damaged; restore node.json",
            data_dir.display()
        );
    }
    Ok(())
}

impl Owner {
    fn check(&self, data_dir: &Path, provider: &ProviderId, node: u64) -> anyhow::Result<()> {
        if (&*self.provider, self.node, self.shards) != (provider.as_str(), node, SHARDS) {
            bail!(
                "{} belongs to node {} of {} ({} shards), this is node {node} of {provider}: \
                 set node.data_dir to this node's own directory",
                data_dir.display(),
                self.node,
                self.provider,
                self.shards,
            );
        }
        Ok(())
    }
}

/// Looks whether a data directory is this node's, or new. Nothing is written.
///
/// # Errors
/// As [`claim`].
pub(crate) fn belongs(data_dir: &Path, provider: &ProviderId, node: u64) -> anyhow::Result<()> {
    let path = data_dir.join("node.json");
    match std::fs::read(&path) {
        Ok(bytes) => read_owner(&path, &bytes)?.check(data_dir, provider, node),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => without_owner(data_dir),
        Err(error) => Err(error).context(format!("read {}", path.display())),
    }
}

impl Claimed {
    /// Counts a start on the directory, which no other process has open.
    ///
    /// # Errors
    /// When that cannot be written.
    pub(crate) fn start(mut self) -> anyhow::Result<Self> {
        self.owner.starts += 1;
        write_durably(&self.path, &serde_json::to_vec(&self.owner)?)?;
        Ok(self)
    }

    /// Made with the directory.
    pub(crate) fn incarnation(&self) -> [u8; 16] {
        self.owner.incarnation
    }

    /// Starts on this directory, this one included.
    pub(crate) fn starts(&self) -> u64 {
        self.owner.starts
    }

    /// Hash of the nodes that it began a cluster with.
    pub(crate) fn founding(&self) -> Option<[u8; 32]> {
        self.owner.founding
    }
}

/// Sixteen bytes that nobody else has.
pub(crate) fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

/// The hub's Ed25519 key pair; what it signs as is in the external_senders of its rooms.
#[derive(Clone)]
pub(crate) struct HubKey(Arc<Ed25519KeyPair>);

impl HubKey {
    /// The public key.
    pub(crate) fn public(&self) -> [u8; 32] {
        self.0.public_key().as_ref().try_into().unwrap_or_default()
    }

    /// Signs with it.
    pub(crate) fn signer(&self) -> HubSigner {
        let pair = Arc::clone(&self.0);
        Arc::new(move |bytes| pair.sign(bytes).as_ref().to_vec())
    }

    /// A pair of its own, for a world that signs nothing.
    ///
    /// # Errors
    /// When there is no randomness.
    pub(crate) fn generate() -> anyhow::Result<Self> {
        let pair = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new())
            .and_then(|made| Ed25519KeyPair::from_pkcs8(made.as_ref()).map_err(|_| Unspecified));
        let pair = pair.map_err(|_| anyhow::anyhow!("make a hub key: no randomness"))?;
        Ok(Self(Arc::new(pair)))
    }
}

/// The hub's key pair. Where no file is configured, it is made at the first start.
///
/// # Errors
/// When the file does not hold such a key, or is open to others.
pub(crate) fn hub_key(data_dir: &Path, configured: &Path) -> anyhow::Result<HubKey> {
    let own = data_dir.join("hub.key");
    let path = if configured == Path::new("") {
        if !own.exists() {
            make_hub_key(&own)?;
        }
        own.as_path()
    } else {
        configured
    };
    read_hub_key(path)
}

fn read_hub_key(path: &Path) -> anyhow::Result<HubKey> {
    let stored = read_private(path).context("`mimi-node pki hub-key` makes one")?;
    let pair = Ed25519KeyPair::from_pkcs8(&stored)
        .map_err(|error| anyhow::anyhow!("{} is not an Ed25519 key: {error}", path.display()))?;
    Ok(HubKey(Arc::new(pair)))
}

/// Looks at the hub's key, where there is one already. Nothing is written.
///
/// # Errors
/// As [`hub_key`].
pub(crate) fn check_hub_key(data_dir: &Path, configured: &Path) -> anyhow::Result<()> {
    let own = data_dir.join("hub.key");
    let path = if configured == Path::new("") {
        own.as_path()
    } else {
        configured
    };
    if path == own && !own.exists() {
        return Ok(());
    }
    read_hub_key(path).map(drop)
}

/// Makes a hub's key.
///
/// # Errors
/// When it exists or cannot be written.
pub(crate) fn make_hub_key(path: &Path) -> anyhow::Result<()> {
    if path.exists() {
        bail!(
            "{} exists; remove it first, it is not overwritten",
            path.display()
        );
    }
    let made = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new());
    let made = made.map_err(|_| anyhow::anyhow!("make the hub's key: no randomness"))?;
    write_durably(path, made.as_ref())
}

/// Writes a file for its owner only, whole or not at all.
///
/// # Errors
/// When the file system refuses; then the file is as it was.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let staging = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        match std::fs::remove_file(&staging) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&staging)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&staging, path)?;
        let parent = path.parent().unwrap_or(Path::new("."));
        std::fs::File::open(parent)?.sync_all()
    };
    write().with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_counts_its_starts_and_is_one_nodes_alone() {
        let dir = tempfile::tempdir().unwrap();
        let provider: ProviderId = "a.example".parse().unwrap();
        let start = |founding| {
            claim(dir.path(), &provider, 1, founding)
                .unwrap()
                .start()
                .unwrap()
        };
        let (first, second) = (start(Some([3; 32])), start(None));
        assert_eq!((first.starts(), second.starts()), (1, 2));
        assert_eq!(first.incarnation(), second.incarnation());
        assert_eq!(
            second.founding(),
            Some([3; 32]),
            "as it was at the first start"
        );
        let error = claim(dir.path(), &provider, 2, None).unwrap_err();
        assert!(error.to_string().contains("belongs to node 1"), "{error}");
    }
}
