//! A node's data directory: whose it is, the starts that it has been in, and which hub key it knows.

use crate::{quic::private::write_durably, release::Writer};
use anyhow::{Context, bail};
use mimi_actors::{
    ids::ProviderId,
    membership::chain::{self, StartId},
};
use rand::RngCore;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Whose data directory this is, as its `node.json` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Owner {
    provider: String,
    node: u64,
    shards: u16,
    /// Made with the directory.
    incarnation: [u8; 16],
    /// The starts on this directory, the present one last; see [`chain`].
    #[serde(default)]
    chain: Vec<StartId>,
    /// Hash of the nodes that its cluster began with; none for a node alone, or one that nobody took in yet.
    founding: Option<Founding>,
    /// The cluster that it belongs to; none for a node alone.
    #[serde(default)]
    cluster: Option<String>,
    /// The public half of the hub's key.
    #[serde(default)]
    hub_key: Option<[u8; 32]>,
    /// It was let go from its cluster.
    #[serde(default)]
    left: bool,
    /// The release that started on it last; none where that was 0.1.
    #[serde(default)]
    writer: Option<Writer>,
}

/// As much of `node.json` as every release reads of a later one.
#[derive(Deserialize)]
struct WrittenBy {
    #[serde(default)]
    writer: Option<Writer>,
}

/// Hash of the nodes that a cluster began with.
pub(crate) type Founding = [u8; 32];

/// A claimed data directory.
#[derive(Debug)]
pub(crate) struct Claimed {
    path: PathBuf,
    owner: Owner,
    /// The public halves of the hub's keys, once it has started.
    hub_keys: Vec<[u8; 32]>,
}

/// Makes sure that a data directory is this node's, and makes it so when it is new.
///
/// # Errors
/// When it is another node's, was let go from its cluster, or cannot be read or written.
pub(crate) fn claim(
    data_dir: &Path,
    provider: &ProviderId,
    node: u64,
    cluster: Option<&ProviderId>,
    founding: Option<Founding>,
    shards: u16,
) -> anyhow::Result<Claimed> {
    let path = data_dir.join("node.json");
    let owner = match std::fs::read(&path) {
        Ok(bytes) => {
            let found = read_owner(&path, &bytes)?;
            found.check(data_dir, (provider, node), cluster, shards)?;
            found
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            without_owner(data_dir)?;
            let owner = Owner {
                provider: provider.to_string(),
                node,
                shards,
                incarnation: random(),
                chain: Vec::new(),
                founding,
                cluster: cluster.map(ToString::to_string),
                hub_key: None,
                left: false,
                writer: None,
            };
            write_durably(&path, &serde_json::to_vec(&owner)?)?;
            owner
        }
        Err(error) => return Err(error).context(format!("read {}", path.display())),
    };
    Ok(Claimed {
        path,
        owner,
        hub_keys: Vec::new(),
    })
}

fn read_owner(path: &Path, bytes: &[u8]) -> anyhow::Result<Owner> {
    let shown = path.display();
    let foreign = || format!("{shown} does not read; is this a data directory?");
    let by: WrittenBy = serde_json::from_slice(bytes).with_context(foreign)?;
    if let Some(writer) = by.writer {
        let checked = writer.check();
        checked.with_context(|| format!("{shown} is of a later release"))?;
    }
    serde_json::from_slice(bytes).with_context(foreign)
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
    /// Compares what the directory says with what the configuration says.
    fn check(
        &self,
        data_dir: &Path,
        (provider, node): (&ProviderId, u64),
        cluster: Option<&ProviderId>,
        shards: u16,
    ) -> anyhow::Result<()> {
        let shown = data_dir.display();
        if (&*self.provider, self.node) != (provider.as_str(), node) {
            bail!(
                "{shown} belongs to node {} of {} ({} shards), this is node {node} of {provider}: \
                 set node.data_dir to this node's own directory",
                self.node,
                self.provider,
                self.shards,
            );
        }
        if self.shards != shards {
            bail!(
                "{shown} was made with {} shards, and that number never changes, but node.shards is {shards}: set node.shards \
                 to {}",
                self.shards,
                self.shards,
            );
        }
        if self.left {
            bail!(
                "{shown}: node {node} has left its cluster, and neither its number nor its directory is used again: \
                 give the node an empty data directory and a new number, and `mimi-node cluster join` it"
            );
        }
        match (&self.cluster, cluster) {
            (Some(name), Some(configured)) if *name != configured.as_str() => bail!(
                "{shown} belongs to the cluster {name}, but cluster.name is {configured}: set cluster.name to {name}, or \
                 node.data_dir to this node's own directory"
            ),
            (Some(name), None) => bail!(
                "{shown} belongs to the cluster {name}, but the configuration has no [cluster]: put it back; a node of a \
                 cluster cannot go on alone"
            ),
            (Some(_), Some(_)) | (None, _) => Ok(()),
        }
    }
}

impl Owner {
    /// Looks for the hub's key that this node had among those that it has.
    fn check_hub_keys(&self, hub_keys: &[[u8; 32]]) -> anyhow::Result<()> {
        if self.hub_key.is_some_and(|known| !hub_keys.contains(&known)) {
            bail!(
                "the hub's key is another one than this node had: the rooms of this provider know the one before, and \
                 nobody could enter them by itself; put that file back as node.hub_key, or name it in node.hub_keys"
            );
        }
        Ok(())
    }
}

/// Looks whether a data directory is this node's, or new. Nothing is written.
///
/// # Errors
/// As [`claim`].
pub(crate) fn belongs(
    data_dir: &Path,
    provider: &ProviderId,
    node: u64,
    cluster: Option<&ProviderId>,
    shards: u16,
) -> anyhow::Result<()> {
    let path = data_dir.join("node.json");
    match std::fs::read(&path) {
        Ok(bytes) => {
            let owner = read_owner(&path, &bytes)?;
            owner.check(data_dir, (provider, node), cluster, shards)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => without_owner(data_dir),
        Err(error) => Err(error).context(format!("read {}", path.display())),
    }
}

impl Claimed {
    /// Writes down one more start on the directory, which no other process has open, and the hub's key, the first of these.
    ///
    /// # Errors
    /// When that cannot be written, or the hub had another key before.
    pub(crate) fn start(mut self, hub_keys: Vec<[u8; 32]>) -> anyhow::Result<Self> {
        self.owner.check_hub_keys(&hub_keys)?;
        self.owner.hub_key = hub_keys.first().copied();
        self.hub_keys = hub_keys;
        self.owner.chain = chain::started(self.owner.chain, random());
        self.owner.writer = Some(Writer::this());
        self.write()?;
        Ok(self)
    }

    /// Takes note of the cluster that the node belongs to from now on, and of what that began with.
    ///
    /// # Errors
    /// When that cannot be written.
    pub(crate) fn belong(
        &mut self,
        cluster: &ProviderId,
        founding: Founding,
    ) -> anyhow::Result<()> {
        let before = self.owner.clone();
        self.owner.cluster = Some(cluster.to_string());
        self.owner.founding = Some(founding);
        self.write().inspect_err(|_| self.owner = before)
    }

    /// Takes note that the node was let go from its cluster: it does not start again.
    ///
    /// # Errors
    /// When that cannot be written.
    pub(crate) fn leave(&mut self) -> anyhow::Result<()> {
        self.owner.left = true;
        self.write()
    }

    fn write(&self) -> anyhow::Result<()> {
        write_durably(&self.path, &serde_json::to_vec(&self.owner)?)
    }

    /// Made with the directory.
    pub(crate) fn incarnation(&self) -> [u8; 16] {
        self.owner.incarnation
    }

    /// The starts on this directory, the present one last.
    pub(crate) fn starts(&self) -> &[StartId] {
        &self.owner.chain
    }

    /// Hash of the nodes that its cluster began with.
    pub(crate) fn founding(&self) -> Option<Founding> {
        self.owner.founding
    }

    /// The public half of the hub's key that new rooms list, once it has started.
    pub(crate) fn hub_key(&self) -> [u8; 32] {
        self.owner.hub_key.unwrap_or_default()
    }

    /// The public halves of all of the hub's keys, once it has started.
    pub(crate) fn hub_keys(&self) -> &[[u8; 32]] {
        &self.hub_keys
    }
}

/// Sixteen bytes that nobody else has.
pub(crate) fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

/// Looks whether a data directory knows one of these hub keys, or none. Nothing is written.
///
/// # Errors
/// When it knows another one.
pub(crate) fn check_hub_keys(data_dir: &Path, hub_keys: &[[u8; 32]]) -> anyhow::Result<()> {
    let owner = data_dir.join("node.json");
    match std::fs::read(&owner) {
        Ok(bytes) => read_owner(&owner, &bytes)?.check_hub_keys(hub_keys),
        // Whether it should be there is looked at elsewhere.
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [5; 32];
    const SHARDS: u16 = 16;

    fn name(name: &str) -> ProviderId {
        name.parse().unwrap()
    }

    fn claim_as(dir: &Path, node: u64, cluster: Option<&str>) -> anyhow::Result<Claimed> {
        let cluster = cluster.map(name);
        claim(
            dir,
            &name("a.example"),
            node,
            cluster.as_ref(),
            Some([3; 32]),
            SHARDS,
        )
    }

    #[test]
    fn each_start_is_remembered_behind_those_before_and_the_directory_is_one_nodes_alone() {
        let dir = tempfile::tempdir().unwrap();
        let start = || {
            claim_as(dir.path(), 1, None)
                .unwrap()
                .start(vec![KEY])
                .unwrap()
        };
        let (first, second) = (start(), start());
        assert_eq!((first.starts().len(), second.starts().len()), (1, 2));
        assert!(second.starts().starts_with(first.starts()));
        assert_eq!(first.incarnation(), second.incarnation());
        assert_eq!(second.founding(), Some([3; 32]));
        let error = claim_as(dir.path(), 2, None).unwrap_err();
        assert!(error.to_string().contains("belongs to node 1"), "{error}");
    }

    #[test]
    fn a_directory_keeps_the_number_of_shards_that_it_was_made_with() {
        let dir = tempfile::tempdir().unwrap();
        drop(
            claim_as(dir.path(), 1, None)
                .unwrap()
                .start(vec![KEY])
                .unwrap(),
        );
        let (provider, founding) = (name("a.example"), Some([3; 32]));
        let error = claim(dir.path(), &provider, 1, None, founding, SHARDS + 1).unwrap_err();
        let said = error.to_string();
        assert!(said.contains("was made with 16 shards"), "{said}");
        assert!(said.contains("set node.shards to 16"), "{said}");
    }

    #[test]
    fn a_directory_of_a_later_release_is_refused_whatever_else_stands_in_it() {
        let dir = tempfile::tempdir().unwrap();
        drop(
            claim_as(dir.path(), 1, None)
                .unwrap()
                .start(vec![KEY])
                .unwrap(),
        );
        let path = dir.path().join("node.json");
        let text = std::fs::read_to_string(&path).unwrap();
        let release = format!("\"release\":\"{}\"", crate::release::RELEASE);
        let later = text
            .replace(&release, "\"release\":\"9.0.0\"")
            .replace("\"fold\":2", "\"fold\":3")
            .replace("\"shards\":16", "\"shards\":\"many\"");
        std::fs::write(&path, later).unwrap();
        let said = format!("{:#}", claim_as(dir.path(), 1, None).unwrap_err());
        assert!(said.contains("run 9.0.0 or a later release"), "{said}");
    }

    #[test]
    fn a_node_does_not_start_with_another_hub_key_or_cluster_or_after_it_has_left() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |cluster| claim_as(dir.path(), 1, cluster).unwrap_err().to_string();
        let node = claim_as(dir.path(), 1, None).unwrap();
        let node = node.start(vec![KEY]).unwrap();
        let other = claim_as(dir.path(), 1, None).unwrap().start(vec![[6; 32]]);
        let other = other.unwrap_err().to_string();
        assert!(other.contains("the hub's key is another one"), "{other}");
        drop(node);
        let mut node = claim_as(dir.path(), 1, None).unwrap();
        node = node.start(vec![[6; 32], KEY]).unwrap();
        assert_eq!((node.hub_key(), node.hub_keys().len()), ([6; 32], 2));
        node.belong(&name("main.a.example"), [4; 32]).unwrap();
        let said = refused(Some("other.a.example"));
        assert!(
            said.contains("belongs to the cluster main.a.example"),
            "{said}"
        );
        let said = refused(None);
        assert!(
            said.contains("the configuration has no [cluster]"),
            "{said}"
        );
        let again = claim_as(dir.path(), 1, Some("main.a.example")).unwrap();
        assert_eq!(again.founding(), Some([4; 32]));
        node.leave().unwrap();
        let said = refused(Some("main.a.example"));
        assert!(said.contains("node 1 has left its cluster"), "{said}");
    }
}
