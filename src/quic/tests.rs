//! Who gets in and who does not, and what a lane lets through: real endpoints on loopback.

use super::*;
use crate::cli::pki::{create_ca, create_certificate};
use bytes::Bytes;
use mimi_actors::ids::ProviderId;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A CA and the certificates it has issued.
struct Pki(TempDir);

impl Pki {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        create_ca(directory.path()).unwrap();
        Self(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn ca(&self) -> PathBuf {
        self.path().join("ca.crt")
    }

    fn identity(&self, domain: &str) -> Identity {
        create_certificate(self.path(), &id(domain), self.path()).unwrap();
        self.load(domain).unwrap()
    }

    fn load(&self, name: &str) -> Result<Identity, IdentityError> {
        let (crt, key) = (format!("{name}.crt"), format!("{name}.key"));
        Identity::load(&self.path().join(crt), &self.path().join(key))
    }

    /// A certificate with any names and dates.
    fn odd(&self, file: &str, names: &[&str], change: impl FnOnce(&mut CertificateParams)) {
        let read = |name: &str| std::fs::read_to_string(self.path().join(name)).unwrap();
        let ca_key = KeyPair::from_pem(&read("ca.key")).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&read("ca.crt"), ca_key).unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let key_path = self.path().join(format!("{file}.key"));
        std::fs::write(&key_path, key.serialize_pem()).unwrap();
        std::fs::set_permissions(&key_path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(self.path().join(format!("{file}.crt")), certificate.pem()).unwrap();
    }

    fn trusts(&self, domains: &[&str]) -> BTreeMap<ProviderId, PeerTrust> {
        domains
            .iter()
            .map(|domain| (id(domain), PeerTrust::Ca(self.ca())))
            .collect()
    }
}

fn id(domain: &str) -> ProviderId {
    domain.parse().unwrap()
}

/// Dials `to` at `from`; what each side ends with.
async fn meet(
    from: &LinkEndpoint,
    to: &LinkEndpoint,
    expect: &str,
) -> (Result<Link, ConnectError>, Result<Link, ConnectError>) {
    let address = to.local_address().unwrap();
    let name = id(expect);
    let dial = async {
        let link = from.connect(address, &name).await?;
        // With TLS 1.3 a client hears only after its own handshake that it was refused.
        match tokio::time::timeout(Duration::from_millis(300), link.closed()).await {
            Ok(()) => Err(ConnectError::Connection(quinn::ConnectionError::Reset)),
            Err(_) => Ok(link),
        }
    };
    let accept = async { to.accept().await.unwrap().establish().await };
    let accepted = tokio::time::timeout(Duration::from_secs(8), accept);
    let (dialled, accepted) = tokio::join!(dial, accepted);
    let timed_out = || Err(ConnectError::Connection(quinn::ConnectionError::TimedOut));
    (dialled, accepted.unwrap_or_else(|_| timed_out()))
}

#[tokio::test]
async fn listed_peers_meet_and_each_is_who_its_certificate_says() {
    let pki = Pki::new();
    let a =
        LinkEndpoint::bind(ANY, &pki.identity("a.example"), &pki.trusts(&["b.example"])).unwrap();
    let b =
        LinkEndpoint::bind(ANY, &pki.identity("b.example"), &pki.trusts(&["a.example"])).unwrap();
    let (dialled, accepted) = meet(&a, &b, "b.example").await;
    assert_eq!(dialled.unwrap().peer().as_str(), "b.example");
    assert_eq!(accepted.unwrap().peer().as_str(), "a.example");
}

#[tokio::test]
async fn a_pinned_peer_is_recognised_by_its_key_alone_and_no_other_key_is() {
    let (pki, elsewhere) = (Pki::new(), Pki::new());
    let b_identity = elsewhere.identity("b.example");
    let pin = spki_pin(&elsewhere.path().join("b.example.crt")).unwrap();
    let mut bytes = [0; 32];
    for (byte, place) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&pin[place..place + 2], 16).unwrap();
    }
    let pinned = BTreeMap::from([(id("b.example"), PeerTrust::PinnedKey(bytes))]);
    let a = LinkEndpoint::bind(ANY, &pki.identity("a.example"), &pinned).unwrap();
    let b = LinkEndpoint::bind(ANY, &b_identity, &pki.trusts(&["a.example"])).unwrap();
    let (dialled, accepted) = meet(&a, &b, "b.example").await;
    assert!(dialled.is_ok() && accepted.is_ok());

    let other = BTreeMap::from([(id("b.example"), PeerTrust::PinnedKey([7; 32]))]);
    let a = LinkEndpoint::bind(ANY, &pki.load("a.example").unwrap(), &other).unwrap();
    let (dialled, _) = meet(&a, &b, "b.example").await;
    assert!(dialled.is_err());
}

#[tokio::test]
async fn strangers_are_refused_in_the_handshake() {
    let (pki, elsewhere) = (Pki::new(), Pki::new());
    let hub = || {
        let peers = pki.trusts(&["b.example"]);
        LinkEndpoint::bind(ANY, &pki.load("a.example").unwrap(), &peers).unwrap()
    };
    pki.identity("a.example");
    let dial_as = |identity: Identity| {
        LinkEndpoint::bind(ANY, &identity, &pki.trusts(&["a.example"])).unwrap()
    };
    let yesterday = |params: &mut CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    };
    pki.odd("expired", &["b.example"], yesterday);
    for (who, identity) in [
        ("of another CA", elsewhere.identity("b.example")),
        ("not listed", pki.identity("c.example")),
        ("expired", pki.load("expired").unwrap()),
    ] {
        let (dialled, accepted) = meet(&dial_as(identity), &hub(), "a.example").await;
        assert!(
            dialled.is_err() && accepted.is_err(),
            "a peer {who} was let in"
        );
    }
    // A server that is somebody else than the one dialled.
    let b =
        LinkEndpoint::bind(ANY, &pki.identity("b.example"), &pki.trusts(&["a.example"])).unwrap();
    let peers = pki.trusts(&["b.example", "c.example"]);
    let a = LinkEndpoint::bind(ANY, &pki.load("a.example").unwrap(), &peers).unwrap();
    let (dialled, _) = meet(&a, &b, "c.example").await;
    assert!(dialled.is_err(), "b.example passed for c.example");
}

#[tokio::test]
async fn a_client_of_the_door_is_not_let_into_the_link_endpoint() {
    let pki = Pki::new();
    let hub = LinkEndpoint::bind(ANY, &pki.identity("a.example"), &pki.trusts(&[])).unwrap();
    let dialer = DoorDialer::new(&pki.ca()).unwrap();
    let address = hub.local_address().unwrap();
    let a = id("a.example");
    let (dialled, accepted) = tokio::join!(dialer.connect(address, &a), async {
        hub.accept().await.unwrap().establish().await
    });
    assert!(dialled.is_err() && accepted.is_err());
}

#[test]
fn a_certificate_names_one_provider_or_is_refused() {
    let pki = Pki::new();
    for (file, names) in [
        ("two", &["a.example", "b.example"][..]),
        ("none", &[]),
        ("wildcard", &["*.example"]),
        ("address", &["127.0.0.1"]),
        ("capital", &["A.example"]),
        ("bare", &["localhost"]),
    ] {
        pki.odd(file, names, |_| {});
        assert!(
            matches!(pki.load(file), Err(IdentityError::Name { .. })),
            "{file} was accepted"
        );
    }
}

#[test]
fn a_key_that_others_can_read_is_refused_with_what_to_do() {
    let pki = Pki::new();
    pki.identity("a.example");
    let key = pki.path().join("a.example.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = pki.load("a.example").err().unwrap().to_string();
    assert!(error.contains("chmod 600"), "{error}");
}

/// The two ends of one lane.
async fn lane() -> (
    Pki,
    (Door, Door),
    (LaneSender, LaneReceiver),
    (LaneSender, LaneReceiver),
) {
    let pki = Pki::new();
    let server = DoorEndpoint::bind(ANY, &pki.identity("a.example")).unwrap();
    let dialer = DoorDialer::new(&pki.ca()).unwrap();
    let (address, a) = (server.local_address().unwrap(), id("a.example"));
    let accept = async { server.accept().await.unwrap().establish().await.unwrap() };
    let (client, accepted) = tokio::join!(dialer.connect(address, &a), accept);
    let client = client.unwrap();
    let (mut to, from) = client.open_lane().await.unwrap();
    to.send(Bytes::from_static(b"first")).await.unwrap();
    let (back, mut other) = accepted.accept_lane().await.unwrap();
    assert_eq!(other.next(100, None).await.unwrap().unwrap(), "first");
    // The endpoint must outlive its connection.
    tokio::spawn(async move { server.accept().await.is_some() });
    (pki, (client, accepted), (to, from), (back, other))
}

#[tokio::test]
async fn frames_arrive_whole_in_order_and_the_end_between_frames_is_clean() {
    let (_pki, _doors, (mut to, _from), (_back, mut other)) = lane().await;
    let big = Bytes::from(vec![7; 3 << 20]);
    let (sent, big_copy) = (big.clone(), big.clone());
    let sending = tokio::spawn(async move {
        to.send(Bytes::from_static(b"a")).await.unwrap();
        to.send(sent).await.unwrap();
        to.finish().unwrap();
        to
    });
    assert_eq!(other.next(4 << 20, None).await.unwrap().unwrap(), "a");
    assert_eq!(other.next(4 << 20, None).await.unwrap().unwrap(), big_copy);
    assert!(other.next(4 << 20, None).await.unwrap().is_none());
    drop(sending.await.unwrap());
}

#[tokio::test]
async fn a_frame_is_refused_from_its_header_when_it_is_too_large_or_empty() {
    let (_pki, _doors, (mut to, _from), (_back, mut other)) = lane().await;
    to.0.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
    let refused = other.next(100, None).await;
    assert!(
        matches!(refused, Err(LaneError::TooLarge { max: 100, .. })),
        "{refused:?}"
    );

    let (_pki, _doors, (mut to, _from), (_back, mut other)) = lane().await;
    to.0.write_all(&[0; 4]).await.unwrap();
    assert!(matches!(other.next(100, None).await, Err(LaneError::Empty)));
    assert!(matches!(to.send(Bytes::new()).await, Err(LaneError::Empty)));
}

#[tokio::test]
async fn half_a_frame_is_truncated_at_the_end_and_late_at_the_deadline() {
    let (_pki, _doors, (mut to, _from), (_back, mut other)) = lane().await;
    to.0.write_all(&[0, 0, 0, 9, 1, 2]).await.unwrap();
    let deadline = Some(Duration::from_millis(100));
    assert!(matches!(
        other.next(100, deadline).await,
        Err(LaneError::Deadline)
    ));
    to.finish().unwrap();
    assert!(matches!(
        other.next(100, None).await,
        Err(LaneError::Truncated)
    ));
}

#[tokio::test]
async fn a_read_that_is_dropped_loses_no_byte() {
    let (_pki, _doors, (mut to, _from), (_back, mut other)) = lane().await;
    to.0.write_all(&[0, 0, 0, 3, 1]).await.unwrap();
    let short = tokio::time::timeout(Duration::from_millis(50), other.next(100, None)).await;
    assert!(short.is_err());
    to.0.write_all(&[2, 3]).await.unwrap();
    assert_eq!(
        other.next(100, None).await.unwrap().unwrap(),
        [1_u8, 2, 3][..]
    );
}

#[tokio::test]
async fn both_ends_of_a_door_export_the_same_bytes_and_no_other_connection_does() {
    let (_pki, (client, server), _near, _far) = lane().await;
    let here = client.exporter(b"EXPORTER-test", b"context").unwrap();
    assert_eq!(server.exporter(b"EXPORTER-test", b"context").unwrap(), here);
    assert_ne!(server.exporter(b"EXPORTER-test", b"other").unwrap(), here);
    let (_pki, (elsewhere, _), _near, _far) = lane().await;
    assert_ne!(
        elsewhere.exporter(b"EXPORTER-test", b"context").unwrap(),
        here
    );
}
