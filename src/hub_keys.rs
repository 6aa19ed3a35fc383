//! The keys by which this provider signs as the hub of its rooms.
//!
//! Promises: what a joiner gets is signed with a key that its room lists, as long as a file of that key is configured.

use crate::{config::NodeConfig, quic::private::read_private};
use anyhow::Context;
use mimi_actors::room::checks::HubSigner;
use mimi_operator::hub_key;
use ring::signature::{Ed25519KeyPair, KeyPair};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// The hub's Ed25519 key pairs: the one that new rooms list, and the others, newest first.
#[derive(Clone)]
pub(crate) struct HubKeys(Vec<Arc<Ed25519KeyPair>>);

fn public(pair: &Ed25519KeyPair) -> [u8; 32] {
    pair.public_key().as_ref().try_into().unwrap_or_default()
}

impl HubKeys {
    /// The public keys.
    pub(crate) fn public(&self) -> Vec<[u8; 32]> {
        self.0.iter().map(|pair| public(pair)).collect()
    }

    /// Signs with the one that is named; with none, nothing.
    pub(crate) fn signer(&self) -> HubSigner {
        let pairs = self.0.clone();
        Arc::new(move |key, bytes| {
            let mut pairs = pairs.iter();
            let pair = pairs.find(|pair| public(pair) == *key);
            pair.map_or_else(Vec::new, |pair| pair.sign(bytes).as_ref().to_vec())
        })
    }

    fn read(node: &NodeConfig, first: &Path) -> anyhow::Result<Self> {
        let others = node.hub_keys.iter().map(PathBuf::as_path);
        let paths = std::iter::once(first).chain(others);
        paths.map(read).collect::<anyhow::Result<_>>().map(Self)
    }
}

/// The hub's key pairs. Where no file is configured, the first is made at the first start.
///
/// # Errors
/// When a file does not hold such a key, or is open to others.
pub(crate) fn open(node: &NodeConfig) -> anyhow::Result<HubKeys> {
    let own = node.data_dir.join("hub.key");
    if node.hub_key != Path::new("") {
        return HubKeys::read(node, &node.hub_key);
    }
    if !own.exists() {
        hub_key::make(&own)?;
    }
    HubKeys::read(node, &own)
}

/// The hub's key pairs, where there is a first one already. Nothing is written.
///
/// # Errors
/// As [`open`].
pub(crate) fn present(node: &NodeConfig) -> anyhow::Result<Option<HubKeys>> {
    let is_new = node.hub_key == Path::new("") && !node.data_dir.join("hub.key").exists();
    if is_new && node.hub_keys.is_empty() {
        return Ok(None);
    }
    if is_new {
        anyhow::bail!(
            "a provider that has other hub keys has one that its new rooms list: name its file as node.hub_key"
        );
    }
    open(node).map(Some)
}

fn read(path: &Path) -> anyhow::Result<Arc<Ed25519KeyPair>> {
    let stored = read_private(path).context("`mimi-node pki hub-key` makes one")?;
    let pair = Ed25519KeyPair::from_pkcs8(&stored)
        .map_err(|error| anyhow::anyhow!("{} is not an Ed25519 key: {error}", path.display()))?;
    Ok(Arc::new(pair))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_signs_with_each_of_its_keys_and_the_configured_one_is_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let mut node = NodeConfig {
            data_dir: dir.path().to_owned(),
            ..NodeConfig::default()
        };
        assert!(present(&node).unwrap().is_none());
        let first = open(&node).unwrap().public();
        std::fs::rename(path("hub.key"), path("old.key")).unwrap();
        hub_key::make(&path("new.key")).unwrap();
        node.hub_keys = vec![path("old.key")];
        let error = present(&node).err().unwrap().to_string();
        assert!(error.contains("node.hub_key"), "{error}");
        node.hub_key = path("new.key");
        let keys = present(&node).unwrap().unwrap();
        let [new, old] = keys.public()[..] else {
            panic!("two keys")
        };
        assert_eq!(vec![old], first);
        let signer = keys.signer();
        for key in [new, old] {
            let signature = signer(&key, b"text");
            let key = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, key);
            key.verify(b"text", &signature).unwrap();
        }
        assert!(signer(&[0; 32], b"text").is_empty());
    }
}
