//! The nodes of a test: of providers that have one, or several.

use super::{
    node::{Node, dialer},
    until,
};
use mimi_actors::ids::ProviderId;
use mimi_operator::cluster_files::{self, Place};
use mimi_quic::DoorDialer;
use mimi_stage::{
    ground::{self, Nodes, Spot, free_place},
    proxy::Network,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Output},
};

/// The name of a node in its net: a1 is node 1 of a.example.
pub fn name_of(provider: &str, node: u64) -> String {
    let letter = provider.split('.').next().unwrap();
    format!("{letter}{node}")
}

/// Some providers, all peers of each other, in a directory that is removed at the end. A provider of one node alone is called
/// by its domain, the nodes of a cluster as [`name_of`] says.
pub struct Net {
    pub dir: tempfile::TempDir,
    pub nodes: BTreeMap<String, Node>,
    pub dialer: DoorDialer,
}

/// Where members may say that their trees lie.
pub const TREE_HOST: &str = "trees.a.example";

impl Net {
    /// Makes the files of providers of one node each; starts nothing.
    pub fn prepare(providers: &[&str]) -> Self {
        Self::prepare_over(providers, None)
    }

    /// The same for providers that reach each other over `network` if there is one.
    pub fn prepare_over(providers: &[&str], network: Option<&Network>) -> Self {
        let providers = providers.iter();
        let providers = providers.map(|name| (*name, Nodes::Alone(free_place(1))));
        let more = format!("[limits]\ntree_hosts = [\"{TREE_HOST}\"]\n");
        Self::lay(providers.collect(), network, &more)
    }

    /// Makes the files of providers of several nodes each, which reach each other over `network` if there is one; starts
    /// nothing.
    pub fn prepare_clusters(providers: &[(&str, u64)], network: Option<&Network>) -> Self {
        let place = |provider, node| {
            let mut place = free_place(node);
            if let Some(network) = network {
                let reached = network.reach(&name_of(provider, node), place.cluster.0);
                place.cluster.1 = reached.unwrap();
            }
            place
        };
        let providers = providers.iter().map(|(name, nodes)| {
            let places = (1..=*nodes).map(|node| place(name, node));
            (*name, Nodes::Cluster(places.collect()))
        });
        Self::lay(providers.collect(), None, "")
    }

    /// Makes the files of these providers, which reach each other's links over `network` if there is one.
    fn lay(providers: Vec<(&str, Nodes)>, network: Option<&Network>, more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut reached: BTreeMap<SocketAddr, SocketAddr> = BTreeMap::new();
        for (name, nodes) in &providers {
            for place in nodes.places() {
                let by = network.map(|network| network.reach(name, place.link).unwrap());
                reached.insert(place.link, by.unwrap_or(place.link));
            }
        }
        let laid: Vec<(ProviderId, Nodes)> = providers
            .into_iter()
            .map(|(name, nodes)| (name.parse().unwrap(), nodes))
            .collect();
        let at = |_: &_, _: &_, theirs: &[Place]| {
            let links = theirs.iter().map(|place| reached[&place.link]);
            links.collect()
        };
        let spots = ground::lay(dir.path(), &laid, at, more).unwrap();
        let alone = laid
            .iter()
            .filter(|(_, nodes)| matches!(nodes, Nodes::Alone(_)));
        let alone: BTreeSet<&ProviderId> = alone.map(|(provider, _)| provider).collect();
        let named = |spot: &Spot| {
            let name = match alone.contains(&spot.provider) {
                true => spot.provider.to_string(),
                false => name_of(spot.provider.as_str(), spot.place.node),
            };
            (name, Node::new(spot))
        };
        let nodes = spots.iter().map(named).collect();
        let dialer = dialer(&dir.path().join("ca.crt"));
        Self { dir, nodes, dialer }
    }

    /// Starts providers that know each other, and waits until they are connected.
    pub async fn start(providers: &[&str]) -> Self {
        let mut net = Self::prepare(providers);
        for node in net.nodes.values_mut() {
            node.spawn();
        }
        for node in net.nodes.values_mut() {
            node.ready().await;
        }
        net.linked().await;
        net
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn ca(&self) -> PathBuf {
        self.path("ca.crt")
    }

    pub fn node(&self, name: &str) -> &Node {
        self.nodes.get(name).expect("a node of this net")
    }

    /// A running node of a provider; of several the first.
    pub fn any(&self, provider: &str) -> &Node {
        let mut nodes = self.of(provider);
        nodes.next().expect("a running node of this provider")
    }

    /// The running nodes of a provider.
    pub fn of(&self, provider: &str) -> impl Iterator<Item = &Node> {
        let nodes = self.nodes.values();
        nodes.filter(move |node| node.provider.as_str() == provider && node.runs())
    }

    pub fn node_mut(&mut self, name: &str) -> &mut Node {
        self.nodes.get_mut(name).expect("a node of this net")
    }

    /// Waits until all running nodes are connected to each other, both ways.
    pub async fn linked(&self) {
        let running: Vec<_> = self.nodes.values().filter(|node| node.runs()).collect();
        for node in &running {
            until(&format!("{} has its peers", node.provider), async || {
                let status = node.status().await;
                let all = running.iter().all(|other| {
                    other.provider == node.provider
                        || status
                            .peers
                            .iter()
                            .any(|peer| peer.provider == other.provider.as_str() && peer.connected)
                });
                all.then_some(())
            })
            .await;
        }
    }

    /// Starts a node again and waits until it has its peers back.
    pub async fn restart(&mut self, name: &str) {
        self.node_mut(name).start().await;
        self.linked().await;
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
        let new = free_place(number);
        places.push(new);
        let peers = config
            .split_once("[[peer]]")
            .map_or(String::new(), |(_, peers)| format!("[[peer]]{peers}"));
        let id: ProviderId = provider.parse().unwrap();
        let config = cluster_files::write_node(root, &id, &new, &places, true, &peers).unwrap();
        let data = root.join(cluster_files::data_dir(&id, number));
        let node = Node::new(&Spot {
            provider: id,
            place: new,
            config,
            data,
        });
        let name = name_of(provider, number);
        self.nodes.insert(name.clone(), node);
        (name, new.cluster.1.to_string())
    }

    pub fn tails(&self) -> String {
        self.nodes.values().map(Node::tail).collect()
    }

    /// Lines of all nodes that say that something broke.
    pub fn errors(&self) -> Vec<String> {
        self.nodes.values().flat_map(Node::errors).collect()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for node in self.nodes.values_mut() {
            node.end();
        }
        if std::thread::panicking() {
            println!("{}", self.tails());
        }
    }
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.nodes.keys()).finish()
    }
}
