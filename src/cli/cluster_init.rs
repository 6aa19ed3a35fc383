//! `cluster init`: everything that a new cluster on one machine begins with, ready to be started or copied.

use super::{output, pki};
use crate::directory;
use anyhow::{Context, ensure};
use mimi_actors::ids::ProviderId;
use std::{
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

/// Ports that each node takes, beginning with the base: cluster, link, door.
const PORTS_PER_NODE: u16 = 10;

/// Arguments of `cluster init`.
#[derive(Debug, clap::Args)]
pub struct Init {
    /// The provider's domain
    #[arg(long)]
    provider: ProviderId,
    /// How many nodes
    #[arg(long, default_value_t = 3)]
    nodes: u64,
    /// First UDP port; each node takes three from ten
    #[arg(long, default_value_t = 7460)]
    port: u16,
    /// Directory to write to; nothing in it is overwritten
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

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

impl Init {
    /// Does it.
    ///
    /// # Errors
    /// When a file exists or cannot be written.
    pub fn run(self) -> anyhow::Result<()> {
        ensure!(
            (1..=7).contains(&self.nodes),
            "a new cluster has 1 to 7 nodes"
        );
        let place = |node: u64| {
            let offset = u16::try_from(node - 1).unwrap_or_default() * PORTS_PER_NODE;
            let first = self
                .port
                .checked_add(offset)
                .context("the ports end at 65535")?;
            let address = |more: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, first + more));
            Ok(Place {
                node,
                cluster: (address(0), address(0)),
                link: address(1),
                door: address(2),
            })
        };
        let places: anyhow::Result<Vec<Place>> = (1..=self.nodes).map(place).collect();
        let ca = self.out.join("provider-ca");
        pki::create_ca(&ca)?;
        pki::create_certificate(&ca, &self.provider, &self.out)?;
        let configs = write(&self.out, &self.provider, &places?, "")?;
        if self.json {
            return output::json(&configs);
        }
        for config in configs {
            output::line(&format!("mimi-node serve --config {}", config.display()));
        }
        Ok(())
    }
}

/// The name of the cluster of a provider's nodes.
fn cluster_of(provider: &ProviderId) -> anyhow::Result<ProviderId> {
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
    pki::create_ca(&ca)?;
    directory::make_hub_key(&out.join(format!("{provider}-hub.key")))?;
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
    pki::create_certificate(&out.join(&ca), &identity, out)?;
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
    ensure!(
        !config.exists(),
        "{} exists; remove it first, it is not overwritten",
        config.display()
    );
    std::fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn what_is_written_is_what_a_node_reads() {
        let dir = tempfile::tempdir().unwrap();
        let init = Init {
            provider: "a.example".parse().unwrap(),
            nodes: 3,
            port: 7460,
            out: dir.path().to_path_buf(),
            json: true,
        };
        init.run().unwrap();
        for node in 1..=3 {
            let config = dir.path().join(format!("a.example-n{node}.toml"));
            let cluster = Config::load(&config).unwrap().cluster().unwrap().unwrap();
            assert_eq!(cluster.name.as_str(), "main.a.example");
            assert_eq!(cluster.nodes.len(), 3);
            assert_eq!(cluster.nodes[&2], "127.0.0.1:7470");
        }
    }
}
