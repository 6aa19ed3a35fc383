//! What a start needs, looked at without starting: certificates, keys, CAs, the hub's key, the data directory, the
//! operator's socket.
//!
//! Promises: `serve` and `config check` call the same function, so what the one says the other does, up to the binding of
//! ports; nothing is written. Each refusal names the key of the configuration and what to do.

use crate::{
    admin::local,
    certificates::Certificate,
    config::{self, Config},
    directory, hub_keys,
    quic::{Identity, PeerTrust, cluster_member, usable},
};
use mimi_actors::ids::ProviderId;
use rustix::fs::{Access, access};
use std::{
    collections::BTreeMap,
    fs::FileType,
    io::ErrorKind,
    os::unix::{ffi::OsStrExt, fs::FileTypeExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

/// Longest path of a socket, in bytes: what the system's address holds, without its last zero.
pub(crate) const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Why a node would not start.
#[derive(Debug, thiserror::Error)]
#[error("`{key}`: {why}")]
pub(crate) struct Unusable {
    /// The key of the configuration, with its section.
    pub(crate) key: String,
    /// What is wrong, and what to do.
    pub(crate) why: String,
}

/// What was found, ready to be used.
#[derive(Debug)]
pub(crate) struct Found {
    /// The provider.
    pub(crate) provider: ProviderId,
    /// What the node shows to peers and clients.
    pub(crate) identity: Identity,
    /// The peers.
    pub(crate) peers: BTreeMap<ProviderId, config::Peer>,
    /// The cluster, and what the node shows to its other nodes.
    pub(crate) cluster: Option<(config::Cluster, Identity)>,
    /// Every certificate with an end.
    pub(crate) certificates: Vec<Certificate>,
}

impl Found {
    /// How each peer is recognised.
    pub(crate) fn trust(&self) -> BTreeMap<ProviderId, PeerTrust> {
        let peers = self.peers.iter();
        peers
            .map(|(peer, config)| (peer.clone(), config.trust.clone()))
            .collect()
    }
}

/// Looks at everything that a start needs.
///
/// # Errors
/// [`Unusable`] names the first key that a node would not start with.
pub(crate) fn look(config: &Config) -> anyhow::Result<Found> {
    let provider = config.provider()?;
    let identity = Identity::load(&config.tls.certificate, &config.tls.key)
        .map_err(|error| unusable("tls", &error))?;
    if *identity.provider() != provider {
        let why = format!(
            "{} names {}, but node.provider is {provider}: they must be the same",
            config.tls.certificate.display(),
            identity.provider(),
        );
        return Err(unusable("tls.certificate", &why).into());
    }
    let own = "connections that are up go on, and no client and no peer makes a new one";
    let mut certificates = vec![dated("tls.certificate", &config.tls.certificate, own)?.own()];
    let peers = config.peers()?;
    for (peer, given) in &peers {
        let key = format!("peer {peer}");
        usable(&given.trust).map_err(|error| unusable(&key, &error))?;
        if let PeerTrust::Ca(path) = &given.trust {
            let effect = "its owner may issue no certificate with it any more";
            certificates.push(dated(&key, path, effect)?);
        }
    }
    let cluster = config.cluster()?;
    let cluster = cluster
        .map(|cluster| of_cluster(config, cluster, &mut certificates))
        .transpose()?;
    data_directory(config, &provider)?;
    hub_keys::present(&config.node)
        .and_then(|keys| match keys {
            Some(keys) => directory::check_hub_keys(&config.node.data_dir, &keys.public()),
            None => Ok(()),
        })
        .map_err(|error| unusable("node.hub_key", &format!("{error:#}")))?;
    socket(&config.node.admin_socket, &config.node.data_dir)?;
    Ok(Found {
        provider,
        identity,
        peers,
        cluster,
        certificates,
    })
}

fn dated(key: &str, path: &Path, effect: &'static str) -> Result<Certificate, Unusable> {
    Certificate::new(key, path, effect).map_err(|error| unusable(key, &error))
}

fn of_cluster(
    config: &Config,
    cluster: config::Cluster,
    certificates: &mut Vec<Certificate>,
) -> Result<(config::Cluster, Identity), Unusable> {
    let given = &config.cluster;
    let identity = Identity::load(&given.certificate, &given.key)
        .map_err(|error| unusable("cluster.certificate", &error))?;
    if cluster_member(identity.provider(), &cluster.name) != Some(config.node.id) {
        let (node, name) = (config.node.id, &cluster.name);
        let why = format!(
            "{} names {}, but this is node {node} of the cluster {name}: `mimi-node pki cert --domain n{node}.{name}` \
             makes a certificate for it",
            given.certificate.display(),
            identity.provider(),
        );
        return Err(unusable("cluster.certificate", &why));
    }
    usable(&PeerTrust::Ca(given.ca.clone())).map_err(|error| unusable("cluster.ca", &error))?;
    let effect = "connections that are up go on, and no other node of the provider makes a new one";
    certificates.push(dated("cluster.certificate", &given.certificate, effect)?.own());
    let effect = "its owner may issue no certificate with it any more";
    certificates.push(dated("cluster.ca", &given.ca, effect)?);
    Ok((cluster, identity))
}

/// Whether the data directory is there and this node's, or can be made.
fn data_directory(config: &Config, provider: &ProviderId) -> Result<(), Unusable> {
    const KEY: &str = "node.data_dir";
    let path = &config.node.data_dir;
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return can_be_made(path),
        Err(error) => {
            let why = format!("{} cannot be looked at: {error}", path.display());
            return Err(unusable(KEY, &why));
        }
    };
    if !metadata.is_dir() {
        let why = format!(
            "{} is not a directory; name one that is this node's alone",
            path.display()
        );
        return Err(unusable(KEY, &why));
    }
    let me = rustix::process::geteuid();
    if metadata.uid() != me.as_raw() && !me.is_root() {
        let why = format!(
            "{} belongs to user {}, and this process is user {}: run the node as its owner",
            path.display(),
            metadata.uid(),
            me.as_raw()
        );
        return Err(unusable(KEY, &why));
    }
    writable(path)?;
    let cluster = config.cluster().ok().flatten();
    let name = cluster.map(|cluster| cluster.name);
    let shards = config.node.shards;
    directory::belongs(path, provider, config.node.id, name.as_ref(), shards)
        .map_err(|error| unusable(KEY, &format!("{error:#}")))
}

/// Whether the nearest directory above that exists can be written to.
fn can_be_made(path: &Path) -> Result<(), Unusable> {
    let mut above = path.ancestors().skip(1);
    let above = above.find(|above| above.exists() || *above == Path::new(""));
    match above {
        Some(above) if above != Path::new("") => writable(above),
        Some(_) | None => writable(Path::new(".")),
    }
}

fn writable(path: &Path) -> Result<(), Unusable> {
    access(path, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| {
        let why = format!(
            "{} cannot be written to: {}; the node needs a directory on a disk that takes writes",
            path.display(),
            std::io::Error::from(error)
        );
        unusable("node.data_dir", &why)
    })
}

/// Whether the operator's socket can be made at a path, and reached there.
fn socket(path: &Path, data_dir: &Path) -> Result<(), Unusable> {
    const KEY: &str = "node.admin_socket";
    let staging = local::staging(path);
    let bytes = [path, &staging].map(|path| path.as_os_str().as_bytes().len());
    let bytes = bytes.into_iter().max().unwrap_or_default();
    if bytes > SOCKET_PATH_BYTES_MAX {
        let why = format!(
            "{} has {bytes} bytes, and the path of a socket has at most {SOCKET_PATH_BYTES_MAX}: set node.admin_socket to \
             a shorter one, in a directory that only the node's account can write to",
            path.display()
        );
        return Err(unusable(KEY, &why));
    }
    not_in_the_way(path)
        .and_then(|()| not_in_the_way(&staging))
        .map_err(|error| unusable(KEY, &error))?;
    match path.parent() {
        Some(parent) if parent != data_dir && !parent.is_dir() => {
            let why = format!("{} is not a directory; make it first", parent.display());
            Err(unusable(KEY, &why))
        }
        Some(_) | None => Ok(()),
    }
}

/// Something else than a socket is where a socket should be.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} is there already and is not a socket; it is left as it is: set node.admin_socket to another path",
    path.display()
)]
pub(crate) struct InTheWay {
    path: PathBuf,
}

/// Whether a socket can be put at a path: a file there is nobody's to remove.
///
/// # Errors
/// [`InTheWay`] when something else is there.
pub(crate) fn not_in_the_way(path: &Path) -> Result<(), InTheWay> {
    let found = std::fs::symlink_metadata(path).map(|metadata| metadata.file_type());
    let free = !found.is_ok_and(|kind: FileType| !kind.is_socket());
    let path = path.to_owned();
    free.then_some(()).ok_or(InTheWay { path })
}

fn unusable(key: &str, why: &dyn std::fmt::Display) -> Unusable {
    Unusable {
        key: key.to_owned(),
        why: why.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_where_the_socket_should_be_is_in_the_way_and_a_long_path_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("letter");
        let socket = |path: &Path| socket(path, dir.path());
        assert!(socket(&file).is_ok());
        std::fs::write(&file, "dear").unwrap();
        let why = socket(&file).unwrap_err().to_string();
        assert!(
            why.contains("is not a socket; it is left as it is"),
            "{why}"
        );
        let long = dir.path().join("x".repeat(SOCKET_PATH_BYTES_MAX));
        let why = socket(&long).unwrap_err().to_string();
        assert!(why.contains("has at most 107"), "{why}");
    }
}
