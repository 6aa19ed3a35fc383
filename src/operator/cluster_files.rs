//! The files that a new cluster begins with: its CA, the hub's key, a certificate and a configuration for each node.

use crate::hub_key;
use anyhow::{Context, ensure};
use mimi_actors::ids::ProviderId;
use mimi_quic::issue::{create_ca, create_certificate};
use std::{
    fmt::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// A node of a cluster on this machine.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its number.
    pub node: u64,
    /// Its door for the other nodes, and where they reach it.
    pub cluster: (SocketAddr, SocketAddr),
    /// Its door for other providers.
    pub link: SocketAddr,
    /// Its door for clients.
    pub door: SocketAddr,
}

/// The name of the cluster of a provider's nodes.
///
/// # Errors
/// When the provider's own name leaves no room for it.
pub fn cluster_of(provider: &ProviderId) -> anyhow::Result<ProviderId> {
    Ok(format!("main.{provider}").parse()?)
}

/// The name of a node's data directory, beside its configuration.
#[must_use]
pub fn data_dir(provider: &ProviderId, node: u64) -> String {
    format!("{provider}-n{node}-data")
}

/// Writes the cluster's CA, the hub's key, and for each node a certificate and a configuration that ends with `peers`.
/// The provider's own certificate is `PROVIDER.crt` in the same directory.
///
/// # Errors
/// When a file exists or cannot be written.
pub fn write(
    out: &Path,
    provider: &ProviderId,
    places: &[Place],
    peers: &str,
) -> anyhow::Result<Vec<PathBuf>> {
    let ca = out.join(format!("{provider}-cluster-ca"));
    create_ca(&ca)?;
    hub_key::make(&out.join(format!("{provider}-hub.key")))?;
    let mut configs = Vec::new();
    for place in places {
        configs.push(write_node(out, provider, place, places, false, peers)?);
    }
    Ok(configs)
}

/// Writes a certificate and a configuration for one node of a cluster whose CA and hub key are there.
///
/// # Errors
/// When a file exists or cannot be written.
pub fn write_node(
    out: &Path,
    provider: &ProviderId,
    place: &Place,
    nodes: &[Place],
    join: bool,
    peers: &str,
) -> anyhow::Result<PathBuf> {
    let cluster = cluster_of(provider)?;
    let ca = format!("{provider}-cluster-ca");
    let node = place.node;
    let identity: ProviderId = format!("n{node}.{cluster}").parse()?;
    create_certificate(&out.join(&ca), &identity, out)?;
    let mut listed = String::new();
    for other in nodes {
        let (id, address) = (other.node, other.cluster.1);
        write!(listed, "{{ id = {id}, address = \"{address}\" }}, ")?;
    }
    let Place {
        cluster: (listen, _),
        link,
        door,
        ..
    } = place;
    let data = data_dir(provider, node);
    let text = format!(
        "[node]\nprovider = \"{provider}\"\nid = {node}\ndata_dir = \"{data}\"\n\
         hub_key = \"{provider}-hub.key\"\n\
         [tls]\ncertificate = \"{provider}.crt\"\nkey = \"{provider}.key\"\n\
         [link]\nlisten = \"{link}\"\n[door]\nlisten = \"{door}\"\n\
         [cluster]\nname = \"{cluster}\"\nlisten = \"{listen}\"\n\
         certificate = \"{identity}.crt\"\nkey = \"{identity}.key\"\nca = \"{ca}/ca.crt\"\n\
         nodes = [{listed}]\njoin = {join}\n{peers}"
    );
    let config = out.join(format!("{provider}-n{node}.toml"));
    write_new(&config, &text)?;
    Ok(config)
}

/// Writes a file that is not there yet.
///
/// # Errors
/// When it is, or cannot be written.
pub fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    ensure!(
        !path.exists(),
        "{} exists; remove it first, it is not overwritten",
        path.display()
    );
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
