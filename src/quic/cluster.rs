//! Connections between the nodes of one provider: mutual TLS under a CA of the cluster's own, and a protocol of its own.
//!
//! A node's certificate names `n7.CLUSTER`: node 7 of that cluster. A provider's certificate is of another CA and has
//! another name, so it gets nothing here, and a node's certificate gets nothing at the providers' door.

use super::{
    BindError, CLUSTER_ALPNS, ConnectError, GateFigures, Identity, Link, LinkEndpoint,
    LinkIncoming,
    identity::{cluster_member, name_of},
    settings,
    trust::Recognise,
};
use mimi_actors::{ids::ProviderId, wire::version::Release};
use std::{net::SocketAddr, path::Path};

/// Where the other nodes come in, and where this one dials them from.
pub struct ClusterEndpoint {
    links: LinkEndpoint,
    cluster: ProviderId,
}

impl ClusterEndpoint {
    /// Listens, and prepares to dial, as `identity`; only nodes of `cluster` whose certificate is of `ca` are spoken to, in
    /// the versions of `release` and before.
    ///
    /// # Errors
    /// [`BindError`] when the port is taken or the identity or the CA is not usable.
    pub fn bind(
        address: SocketAddr,
        identity: &Identity,
        cluster: &ProviderId,
        ca: &Path,
        release: Release,
    ) -> Result<Self, BindError> {
        let spoken = CLUSTER_ALPNS
            .iter()
            .filter(|(version, _)| *version <= release.cluster);
        let alpns: Vec<&[u8]> = spoken.map(|(_, alpn)| *alpn).collect();
        let recognise = Recognise::cluster(cluster, ca, &settings::crypto())?;
        Ok(Self {
            links: LinkEndpoint::begin(address, identity, recognise, (&alpns, &settings::CLUSTER))?,
            cluster: cluster.clone(),
        })
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.links.local_address()
    }

    /// What it has of connections, and what it refused.
    #[must_use]
    pub fn figures(&self) -> GateFigures {
        self.links.figures()
    }

    /// The next handshake, or `None` when the endpoint is closed.
    pub async fn accept(&self) -> Option<ClusterIncoming> {
        let incoming = self.links.accept().await?;
        let cluster = self.cluster.clone();
        Some(ClusterIncoming { incoming, cluster })
    }

    /// Connects to a node, which must prove to be number `node`.
    ///
    /// # Errors
    /// [`ConnectError`] when it cannot be reached or is somebody else.
    pub async fn connect(
        &self,
        address: SocketAddr,
        node: u64,
    ) -> Result<ClusterLink, ConnectError> {
        let name = name_of(node, &self.cluster).ok_or(ConnectError::Nameless)?;
        let link = self.links.connect(address, &name).await?;
        Ok(ClusterLink::new(link, node))
    }

    /// Says goodbye to everybody.
    pub async fn close(&self) {
        self.links.close().await;
    }
}

/// A handshake under way.
pub struct ClusterIncoming {
    incoming: LinkIncoming,
    cluster: ProviderId,
}

impl ClusterIncoming {
    /// Where it comes from.
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        self.incoming.remote_address()
    }

    /// Finishes the handshake.
    ///
    /// # Errors
    /// [`ConnectError`] when the other side does not prove to be a node of this cluster.
    pub async fn establish(self) -> Result<ClusterLink, ConnectError> {
        let link = self.incoming.establish().await?;
        let node = cluster_member(link.peer(), &self.cluster).ok_or(ConnectError::Nameless)?;
        Ok(ClusterLink::new(link, node))
    }
}

/// A connection to another node of the cluster.
#[derive(Debug)]
pub struct ClusterLink {
    link: Link,
    node: u64,
}

impl ClusterLink {
    fn new(link: Link, node: u64) -> Self {
        let protocol = link.protocol().unwrap_or_default();
        let mut known = CLUSTER_ALPNS.iter();
        if let Some((version, _)) = known.find(|(_, alpn)| *alpn == protocol) {
            link.agree(*version);
        }
        Self { link, node }
    }

    /// The node at the other end, as its certificate says.
    #[must_use]
    pub fn node(&self) -> u64 {
        self.node
    }

    /// The connection.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.link
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        PeerTrust,
        issue::{create_ca, create_certificate},
    };
    use mimi_actors::wire::version::CLUSTER;
    use std::{collections::BTreeMap, net::Ipv4Addr, path::PathBuf};

    fn name(name: &str) -> ProviderId {
        name.parse().unwrap()
    }

    #[test]
    fn a_name_stands_for_one_node_of_its_own_cluster_alone() {
        let cluster = name("main.a.example");
        let number = |text: &str| cluster_member(&name(text), &cluster);
        assert_eq!(number("n1.main.a.example"), Some(1));
        assert_eq!(number("n20.main.a.example"), Some(20));
        for other in [
            "n1.other.a.example",
            "n01.main.a.example",
            "n0.main.a.example",
            "node1.main.a.example",
            "main.a.example",
            "n1.n1.main.a.example",
        ] {
            assert_eq!(number(other), None, "{other}");
        }
        assert_eq!(
            name_of(7, &cluster).and_then(|name| cluster_member(&name, &cluster)),
            Some(7)
        );
    }

    struct Pki {
        dir: tempfile::TempDir,
    }

    impl Pki {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            create_ca(dir.path()).unwrap();
            Self { dir }
        }

        fn ca(&self) -> PathBuf {
            self.dir.path().join("ca.crt")
        }

        fn identity(&self, domain: &str) -> Identity {
            let dir = self.dir.path();
            create_certificate(dir, &name(domain), dir).unwrap();
            let file = |kind| dir.join(format!("{domain}.{kind}"));
            Identity::load(&file("crt"), &file("key")).unwrap()
        }

        fn node(&self, domain: &str, cluster: &str) -> ClusterEndpoint {
            self.node_of(domain, cluster, Release::OWN)
        }

        fn node_of(&self, domain: &str, cluster: &str, release: Release) -> ClusterEndpoint {
            let address = (Ipv4Addr::LOCALHOST, 0).into();
            ClusterEndpoint::bind(
                address,
                &self.identity(domain),
                &name(cluster),
                &self.ca(),
                release,
            )
            .unwrap()
        }
    }

    /// Whether the second is let in by the first, as the first sees it.
    async fn lets_in(server: &ClusterEndpoint, client: &ClusterEndpoint, node: u64) -> bool {
        let address = server.local_address().unwrap();
        let (dialled, taken) = tokio::join!(client.connect(address, node), async {
            server.accept().await.unwrap().establish().await
        });
        dialled.is_ok() && taken.is_ok()
    }

    #[tokio::test]
    async fn nodes_of_one_cluster_meet_and_know_each_other_by_number() {
        let pki = Pki::new();
        let one = pki.node("n1.main.a.example", "main.a.example");
        let two = pki.node("n2.main.a.example", "main.a.example");
        let address = one.local_address().unwrap();
        let (dialled, taken) = tokio::join!(two.connect(address, 1), async {
            one.accept().await.unwrap().establish().await
        });
        assert_eq!((dialled.unwrap().node(), taken.unwrap().node()), (1, 2));
        assert!(
            !lets_in(&one, &two, 3).await,
            "another number was asked for"
        );
    }

    #[tokio::test]
    async fn nodes_speak_as_the_earlier_of_their_two_releases_does() {
        let before = Release::named("v0.1").unwrap();
        for (one, two, spoken) in [
            (Release::OWN, Release::OWN, CLUSTER.newest),
            (Release::OWN, before, 1),
            (before, Release::OWN, 1),
            (before, before, 1),
        ] {
            let pki = Pki::new();
            let one = pki.node_of("n1.main.a.example", "main.a.example", one);
            let two = pki.node_of("n2.main.a.example", "main.a.example", two);
            let address = one.local_address().unwrap();
            let (dialled, taken) = tokio::join!(two.connect(address, 1), async {
                one.accept().await.unwrap().establish().await
            });
            let agreed = [dialled, taken].map(|link| link.unwrap().link.agreed());
            assert_eq!(agreed, [Some(spoken); 2]);
        }
    }

    #[tokio::test]
    async fn another_clusters_node_and_a_provider_are_refused() {
        let pki = Pki::new();
        let one = pki.node("n1.main.a.example", "main.a.example");
        let stranger = pki.node("n2.other.a.example", "main.a.example");
        assert!(!lets_in(&one, &stranger, 1).await);
        let provider = pki.node("b.example", "main.a.example");
        assert!(!lets_in(&one, &provider, 1).await);
        let other_ca = Pki::new();
        let forged = other_ca.node("n2.main.a.example", "main.a.example");
        assert!(!lets_in(&one, &forged, 1).await);
    }

    #[tokio::test]
    async fn the_providers_protocol_is_not_spoken_between_nodes() {
        let pki = Pki::new();
        let one = pki.node("n1.main.a.example", "main.a.example");
        let peers = BTreeMap::from([(name("n1.main.a.example"), PeerTrust::Ca(pki.ca()))]);
        let identity = pki.identity("n2.main.a.example");
        let link = LinkEndpoint::bind((Ipv4Addr::LOCALHOST, 0).into(), &identity, &peers).unwrap();
        let first = name("n1.main.a.example");
        let (dialled, taken) =
            tokio::join!(link.connect(one.local_address().unwrap(), &first), async {
                one.accept().await.unwrap().establish().await
            });
        assert!(dialled.is_err() && taken.is_err());
    }
}
