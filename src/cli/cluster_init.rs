//! `cluster init`: everything that a new cluster on one machine begins with, ready to be started or copied.

use crate::config::{ClusterConfig, ClusterNode, Config, TrustConfig};
use anyhow::{Context, ensure};
use mimi_actors::ids::ProviderId;
use mimi_operator::{
    cluster_files::{Place, cluster_of, data_dir, write, write_new},
    output,
};
use mimi_quic::issue::{create_ca, create_certificate};
use serde_json::json;
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

/// Ports that each node takes, beginning with the base: cluster, link, door.
const PORTS_PER_NODE: u16 = 10;

/// Arguments of `cluster init`.
#[derive(Debug, clap::Args)]
pub struct Init {
    /// The provider's domain
    #[arg(long, required_unless_present = "from", conflicts_with = "from")]
    provider: Option<ProviderId>,
    /// Configuration of a node that runs alone: it becomes the first, and keeps what it holds
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
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
        let (configs, joins) = match &self.from {
            Some(from) => self.grow(from)?,
            None => (self.begin()?, Vec::new()),
        };
        if self.json {
            return output::json(&json!({ "configs": configs, "joins": joins }));
        }
        for config in &configs {
            output::line(&format!("mimi-node serve --config {}", config.display()));
        }
        if let (Some(first), false) = (configs.first(), joins.is_empty()) {
            let joins: Vec<String> = joins
                .iter()
                .map(|(node, address)| format!("--node {node} --address {address}"))
                .collect();
            let (joins, first) = (joins.join(" "), first.display());
            output::line(&format!("mimi-node cluster join {joins} --config {first}"));
        }
        Ok(())
    }

    /// The ports of the node in place `place`, from zero.
    fn place(&self, node: u64, place: u64) -> anyhow::Result<Place> {
        let offset = u16::try_from(place).unwrap_or(u16::MAX);
        let first = offset
            .checked_mul(PORTS_PER_NODE)
            .and_then(|offset| self.port.checked_add(offset))
            .context("the ports end at 65535")?;
        let address = |more: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, first + more));
        Ok(Place {
            node,
            cluster: (address(0), address(0)),
            link: address(1),
            door: address(2),
        })
    }

    /// A cluster of new nodes.
    fn begin(&self) -> anyhow::Result<Vec<PathBuf>> {
        let provider = self.provider.as_ref().context("--provider is missing")?;
        let places = (1..=self.nodes).map(|node| self.place(node, node - 1));
        let places: anyhow::Result<Vec<Place>> = places.collect();
        let ca = self.out.join("provider-ca");
        create_ca(&ca)?;
        create_certificate(&ca, provider, &self.out)?;
        write(&self.out, provider, &places?, "")
    }

    /// The node that ran alone as the first of a cluster, and others that wait to be taken in; and where these are.
    fn grow(&self, from: &Path) -> anyhow::Result<Grown> {
        let mut first = Config::load(from)?;
        ensure!(
            first.cluster()?.is_none(),
            "{} is of a cluster already: `mimi-node cluster join` takes more nodes in",
            from.display()
        );
        let provider = first.provider()?;
        if first.node.hub_key == Path::new("") {
            first.node.hub_key = first.node.data_dir.join("hub.key");
        }
        ensure!(
            first.node.hub_key.exists(),
            "{} is not there: start the node once, so that it has made its hub key",
            first.node.hub_key.display()
        );
        let out = std::path::absolute(&self.out)?;
        let name = cluster_of(&provider)?;
        create_ca(&out.join(format!("{provider}-cluster-ca")))?;
        let mut configs = Vec::new();
        let mut joins = Vec::new();
        let own = self.place(first.node.id, 0)?;
        let own_row = ClusterNode {
            id: own.node,
            address: own.cluster.1.to_string(),
        };
        for more in 0..self.nodes {
            let place = self.place(own.node + more, more)?;
            let identity: ProviderId = format!("n{}.{name}", place.node).parse()?;
            create_certificate(&out.join(format!("{provider}-cluster-ca")), &identity, &out)?;
            let mut config = first.clone();
            let mut nodes = vec![own_row.clone()];
            if more > 0 {
                let address = place.cluster.1.to_string();
                nodes.push(ClusterNode {
                    id: place.node,
                    address,
                });
                joins.push((place.node, place.cluster.1));
                config.node.id = place.node;
                config.node.data_dir = out.join(data_dir(&provider, place.node));
                config.node.admin_socket = PathBuf::new();
                config.link.listen = place.link;
                config.door.listen = place.door;
                config.admin.listen = String::new();
            }
            config.cluster = ClusterConfig {
                name: name.to_string(),
                listen: place.cluster.0,
                certificate: out.join(format!("{identity}.crt")),
                key: out.join(format!("{identity}.key")),
                ca: out.join(format!("{provider}-cluster-ca/ca.crt")),
                nodes,
                join: more > 0,
            };
            let path = out.join(format!("{provider}-n{}.toml", place.node));
            write_new(&path, &toml::to_string(&absolute(config)?)?)?;
            configs.push(path);
        }
        Ok((configs, joins))
    }
}

/// The same configuration, whose files are found from everywhere.
fn absolute(mut config: Config) -> anyhow::Result<Config> {
    let mut paths = vec![
        &mut config.node.data_dir,
        &mut config.node.hub_key,
        &mut config.tls.certificate,
        &mut config.tls.key,
    ];
    paths.extend(&mut config.node.hub_keys);
    if config.node.admin_socket != Path::new("") {
        paths.push(&mut config.node.admin_socket);
    }
    for peer in &mut config.peer {
        if let TrustConfig::Ca(path) = &mut peer.trust {
            paths.push(path);
        }
    }
    for path in paths {
        *path = std::path::absolute(&*path)?;
    }
    Ok(config)
}

/// The configurations that were written, and the number and address of each node that waits.
type Grown = (Vec<PathBuf>, Vec<(u64, SocketAddr)>);

#[cfg(test)]
mod tests {
    use super::*;
    use mimi_operator::hub_key;

    #[test]
    fn what_is_written_is_what_a_node_reads() {
        let dir = tempfile::tempdir().unwrap();
        let init = Init {
            provider: Some("a.example".parse().unwrap()),
            from: None,
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

    #[test]
    fn a_node_that_ran_alone_begins_a_cluster_by_itself_and_the_others_wait() {
        let dir = tempfile::tempdir().unwrap();
        let alone = dir.path().join("alone.toml");
        std::fs::write(&alone, "[node]\nid = 4\nhub_key = \"the.key\"\n").unwrap();
        hub_key::make(&dir.path().join("the.key")).unwrap();
        let out = dir.path().join("out");
        let init = Init {
            provider: None,
            from: Some(alone),
            nodes: 3,
            port: 7460,
            out: out.clone(),
            json: true,
        };
        init.run().unwrap();
        let read = |node| Config::load(&out.join(format!("a.example-n{node}.toml"))).unwrap();
        let first = read(4).cluster().unwrap().unwrap();
        assert!(!first.join && first.nodes.len() == 1);
        for node in [5, 6] {
            let config = read(node);
            let waiting = config.cluster().unwrap().unwrap();
            assert!(waiting.join && waiting.nodes.contains_key(&4));
            assert_eq!(config.node.hub_key, dir.path().join("the.key"));
            assert_ne!(config.node.data_dir, read(4).node.data_dir);
        }
    }
}
