//! Providers of several nodes.

use super::{Net, Node, faults::Network, free_address, until};
use mimi_actors::ids::ProviderId;
use mimi_node::{
    admin::protocol::{ClusterStatus, Request, Response},
    cli::{
        cluster_init::{self, Place},
        pki::{create_ca, create_certificate},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
};

/// The name of a node in its net: a1 is node 1 of a.example.
pub fn name_of(provider: &str, node: u64) -> String {
    let letter = provider.split('.').next().unwrap();
    format!("{letter}{node}")
}

impl Node {
    /// A node of a cluster that has its files in `root`; it does not run.
    pub fn new(root: &Path, provider: ProviderId, place: &Place, config: PathBuf) -> Self {
        Self {
            data: root.join(cluster_init::data_dir(&provider, place.node)),
            provider,
            door: place.door,
            link: place.link,
            config,
            env: Vec::new(),
            before: false,
            running: None,
            log: Arc::default(),
        }
    }

    /// A node whose files are there; it does not run.
    pub fn at(provider: ProviderId, config: PathBuf, data: PathBuf) -> Self {
        Self {
            provider,
            door: free_address(),
            link: free_address(),
            config,
            data,
            env: Vec::new(),
            before: false,
            running: None,
            log: Arc::default(),
        }
    }

    /// The cluster, as this node sees it.
    pub async fn cluster(&self) -> ClusterStatus {
        match self.ask(&Request::Cluster).await {
            Response::Cluster(status) => status,
            other => panic!("{other:?}"),
        }
    }
}

fn place(provider: &str, node: u64, network: Option<&Network>) -> Place {
    let cluster = free_address();
    let reached = network.map_or(cluster, |network| {
        network.reach(&name_of(provider, node), cluster)
    });
    Place {
        node,
        cluster: (cluster, reached),
        link: free_address(),
        door: free_address(),
    }
}

impl Net {
    /// Makes the files of providers of several nodes each, which reach each other over `network` if there is one; starts
    /// nothing.
    pub fn prepare_clusters(providers: &[(&str, u64)], network: Option<&Network>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        create_ca(root).unwrap();
        let all: BTreeMap<&str, Vec<Place>> = providers
            .iter()
            .map(|(name, nodes)| {
                let places = (1..=*nodes).map(|node| place(name, node, network));
                (*name, places.collect())
            })
            .collect();
        let mut nodes = BTreeMap::new();
        for (name, places) in &all {
            let provider: ProviderId = name.parse().unwrap();
            create_certificate(root, &provider, root).unwrap();
            let peers = peers_of(name, &all);
            let configs = cluster_init::write(root, &provider, places, &peers).unwrap();
            for (place, config) in places.iter().zip(configs) {
                let node = Node::new(root, provider.clone(), place, config);
                nodes.insert(name_of(name, place.node), node);
            }
        }
        let dialer = super::dialer(&root.join("ca.crt"));
        Self { dir, nodes, dialer }
    }

    /// Starts providers of several nodes each, and waits until every shard is led where it should be.
    pub async fn start_clusters(providers: &[(&str, u64)]) -> Self {
        let mut net = Self::prepare_clusters(providers, None);
        net.start_all().await;
        net
    }

    /// Starts every node, and waits until every shard is led by somebody and the providers are connected.
    pub async fn start_all(&mut self) {
        for node in self.nodes.values_mut() {
            node.spawn();
        }
        for node in self.nodes.values_mut() {
            node.ready().await;
        }
        let providers: BTreeSet<_> = self.nodes.values().map(|node| &node.provider).collect();
        for provider in providers {
            self.led(provider.as_str()).await;
        }
        self.linked().await;
    }

    /// Waits until all running nodes of a provider agree on a leader for each shard, who runs.
    pub async fn led(&self, provider: &str) {
        until(
            &format!("every shard of {provider} has a leader"),
            async || {
                let mut leaders: BTreeSet<Vec<Option<u64>>> = BTreeSet::new();
                let mut running = BTreeSet::new();
                for node in self.of(provider) {
                    let status = node.cluster().await;
                    running.insert(Some(status.node));
                    leaders.insert(status.shards.iter().map(|row| row.leader).collect());
                }
                let agreed = leaders.len() == 1;
                let leaders = leaders.first()?;
                let led = leaders.iter().all(|leader| running.contains(leader));
                (agreed && led && !leaders.is_empty()).then_some(())
            },
        )
        .await;
    }

    /// Waits until all running nodes of a provider have the same state, and gives the hashes.
    pub async fn level(&self, provider: &str) -> Vec<String> {
        until(
            &format!("all nodes of {provider} have one state"),
            async || {
                let mut states = BTreeSet::new();
                for node in self.of(provider) {
                    let rows = node.status().await.shards;
                    let state: Vec<(u64, String)> = rows
                        .into_iter()
                        .map(|row| (row.applied, row.state_hash))
                        .collect();
                    states.insert(state);
                }
                let one = states.len() == 1;
                let state = states.pop_first()?;
                one.then(|| state.into_iter().map(|(_, hash)| hash).collect())
            },
        )
        .await
    }

    /// The node that leads the shard of a room or user, by its name in this net.
    pub async fn leader_of(&self, provider: &str, uri: &str) -> String {
        let shard = mimi_actors::shard::place(uri, mimi_actors::limits::SHARDS_DEFAULT);
        let leader = until(&format!("shard {shard} has a leader"), async || {
            let status = self.any(provider).cluster().await;
            let row = status.shards.into_iter().find(|row| row.shard == shard)?;
            let leader = row.leader?;
            self.nodes[&name_of(provider, leader)]
                .runs()
                .then_some(leader)
        })
        .await;
        name_of(provider, leader)
    }

    /// Runs the binary with arguments for the node `name`, to its end.
    pub fn cli(&self, name: &str, arguments: &[&str]) -> Output {
        self.command_of(name, arguments).output().unwrap()
    }

    /// The binary with arguments for the node `name`.
    pub fn command_of(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mimi-node"));
        command
            .args(arguments)
            .arg("--config")
            .arg(&self.node(name).config);
        command
    }

    /// Makes the files of one more node, which waits to be taken in; gives its name and cluster address.
    pub fn add_node(&mut self, provider: &str, number: u64, known: &str) -> (String, String) {
        let root = self.dir.path();
        let config = std::fs::read_to_string(&self.node(known).config).unwrap();
        let table: toml::Table = config.parse().unwrap();
        let listed = table["cluster"]["nodes"].as_array().unwrap();
        let mut places: Vec<Place> = Vec::new();
        for row in listed {
            let address = row["address"].as_str().unwrap().parse().unwrap();
            places.push(Place {
                node: u64::try_from(row["id"].as_integer().unwrap()).unwrap(),
                cluster: (address, address),
                link: address,
                door: address,
            });
        }
        let new = place(provider, number, None);
        places.push(new);
        let peers = config
            .split_once("[[peer]]")
            .map_or(String::new(), |(_, peers)| format!("[[peer]]{peers}"));
        let id: ProviderId = provider.parse().unwrap();
        let config = cluster_init::write_node(root, &id, &new, &places, true, &peers).unwrap();
        let node = Node::new(root, id, &new, config);
        let name = name_of(provider, number);
        self.nodes.insert(name.clone(), node);
        (name, new.cluster.1.to_string())
    }
}

fn peers_of(name: &str, all: &BTreeMap<&str, Vec<Place>>) -> String {
    let mut text = String::new();
    for (domain, places) in all.iter().filter(|(domain, _)| **domain != name) {
        let addresses: Vec<_> = places
            .iter()
            .map(|place| format!("\"{}\"", place.link))
            .collect();
        writeln!(
            text,
            "[[peer]]\ndomain = \"{domain}\"\naddresses = [{}]\ntrust = {{ ca = \"ca.crt\" }}",
            addresses.join(", ")
        )
        .unwrap();
    }
    text
}
