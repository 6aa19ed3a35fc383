//! What providers on this machine are made of before anything runs: free addresses, certificates, configurations.

use mimi_actors::ids::ProviderId;
use mimi_operator::cluster_files::{self, Place};
use mimi_quic::issue::{create_ca, create_certificate};
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// Ports that nodes listen on. The kernel gives none of them to a socket that asks for any port, so that none is taken
/// between the choice and the node's start, nor while a node is down.
const PORTS: RangeInclusive<u16> = 10_000..=32_000;

/// Addresses of this machine that nobody uses, for UDP or TCP; none is given out twice.
pub fn free_address() -> SocketAddr {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, rand::random_range(PORTS)));
        let free = UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok();
        let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
        if free && given.insert(address.port()) {
            return address;
        }
    }
}

/// A node at addresses that nobody uses.
#[must_use]
pub fn free_place(node: u64) -> Place {
    let cluster = free_address();
    Place {
        node,
        cluster: (cluster, cluster),
        link: free_address(),
        door: free_address(),
    }
}

/// The nodes of a provider.
#[derive(Clone, Debug)]
pub enum Nodes {
    /// One, which belongs to no cluster.
    Alone(Place),
    /// Those of a cluster, which may be one.
    Cluster(Vec<Place>),
}

impl Nodes {
    /// Where they are.
    #[must_use]
    pub fn places(&self) -> &[Place] {
        match self {
            Self::Alone(place) => std::slice::from_ref(place),
            Self::Cluster(places) => places,
        }
    }
}

/// A node that has its files, and does not run.
#[derive(Clone, Debug)]
pub struct Spot {
    /// Whose it is.
    pub provider: ProviderId,
    /// Where it listens.
    pub place: Place,
    /// Its configuration.
    pub config: PathBuf,
    /// Its data directory, which is made at its first start.
    pub data: PathBuf,
}

/// Writes into `root` what these providers need, each of which is a peer of all others. `reached` says at which addresses a
/// provider reaches another; every configuration has `more` besides.
///
/// # Errors
/// When a file exists or cannot be written.
pub fn lay(
    root: &Path,
    providers: &[(ProviderId, Nodes)],
    reached: impl Fn(&ProviderId, &ProviderId, &[Place]) -> Vec<SocketAddr>,
    more: &str,
) -> anyhow::Result<Vec<Spot>> {
    create_ca(root)?;
    let mut spots = Vec::new();
    for (provider, nodes) in providers {
        create_certificate(root, provider, root)?;
        let mut end = more.to_owned();
        for (peer, theirs) in providers.iter().filter(|(peer, _)| peer != provider) {
            let addresses = reached(provider, peer, theirs.places());
            let addresses = addresses.iter().map(|address| format!("\"{address}\""));
            let addresses: Vec<String> = addresses.collect();
            write!(
                end,
                "[[peer]]\ndomain = \"{peer}\"\naddresses = [{}]\ntrust = {{ ca = \"ca.crt\" }}\n",
                addresses.join(", ")
            )?;
        }
        let configs = match nodes {
            Nodes::Alone(place) => vec![alone(root, provider, place, &end)?],
            Nodes::Cluster(places) => {
                let configs = cluster_files::write(root, provider, places, &end)?.into_iter();
                let data = |place: &Place| root.join(cluster_files::data_dir(provider, place.node));
                configs.zip(places.iter().map(data)).collect()
            }
        };
        for (place, (config, data)) in nodes.places().iter().zip(configs) {
            spots.push(Spot {
                provider: provider.clone(),
                place: *place,
                config,
                data,
            });
        }
    }
    Ok(spots)
}

/// The configuration and the data directory of a node that belongs to no cluster.
fn alone(
    root: &Path,
    provider: &ProviderId,
    place: &Place,
    end: &str,
) -> anyhow::Result<(PathBuf, PathBuf)> {
    let text = format!(
        "[node]\nprovider = \"{provider}\"\ndata_dir = \"{provider}-data\"\n\
         [tls]\ncertificate = \"{provider}.crt\"\nkey = \"{provider}.key\"\n\
         [link]\nlisten = \"{}\"\n[door]\nlisten = \"{}\"\n{end}",
        place.link, place.door
    );
    let config = root.join(format!("{provider}.toml"));
    std::fs::write(&config, text)?;
    Ok((config, root.join(format!("{provider}-data"))))
}
