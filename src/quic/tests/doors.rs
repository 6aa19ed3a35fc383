//! Clients and their provider.

use super::*;
use crate::{settings, trust::Recognise};
use std::sync::Arc;

/// A dialer without a certificate that speaks another protocol.
pub(super) fn dialer_of(ca: &Ca, alpn: &[u8]) -> DoorDialer {
    let crypto = settings::crypto();
    let recognise = Recognise::anyone(&[ca.trust()], &crypto).unwrap();
    let tls = rustls::ClientConfig::builder_with_provider(crypto)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(recognise))
        .with_no_client_auth();
    DoorDialer::with(settings::client(tls, &[alpn], &settings::CLIENT).unwrap()).unwrap()
}

/// Both sides of a door of a.example.
pub(super) async fn door(ca: &Ca) -> (Door, Door) {
    let (door, served, _) = try_door(&ca.identity("a.example"), &[ca.trust()]).await;
    (door.unwrap(), served.unwrap())
}

/// Dials a.example at an endpoint that shows `identity`.
async fn try_door(
    identity: &Identity,
    trust: &[PeerTrust],
) -> (
    Result<Door, ConnectError>,
    Result<Door, ConnectError>,
    SocketAddr,
) {
    let endpoint = DoorEndpoint::bind(loopback(), identity, OfAddresses::default()).unwrap();
    let address = endpoint.local_address().unwrap();
    let (dialer, a) = (DoorDialer::trusting(trust).unwrap(), provider("a.example"));
    let (dialed, taken) = tokio::join!(dialer.connect(address, &a), async {
        endpoint.accept().await.unwrap().establish().await
    });
    (dialed, taken, address)
}

#[tokio::test]
async fn both_ends_export_the_same_and_every_connection_another() {
    let ca = Ca::new();
    let (client, server) = door(&ca).await;
    let exported = client.exporter(b"label", b"context").unwrap();
    assert_eq!(server.exporter(b"label", b"context").unwrap(), exported);
    assert_ne!(server.exporter(b"lapel", b"context").unwrap(), exported);
    assert_ne!(server.exporter(b"label", b"contest").unwrap(), exported);
    let (other, _server) = door(&ca).await;
    assert_ne!(other.exporter(b"label", b"context").unwrap(), exported);
}

#[tokio::test]
async fn lanes_go_both_ways_and_an_end_is_told() {
    let (client, server) = door(&Ca::new()).await;
    let (mut to, _from) = client.open_lane().await.unwrap();
    to.send("from the client".into()).await.unwrap();
    let (_, mut from) = server.accept_lane().await.unwrap();
    assert_eq!(
        from.next(100, None).await.unwrap().unwrap(),
        "from the client"
    );
    let (mut to, _from) = server.open_lane().await.unwrap();
    to.send("from the provider".into()).await.unwrap();
    let (_, mut from) = client.accept_lane().await.unwrap();
    assert_eq!(
        from.next(100, None).await.unwrap().unwrap(),
        "from the provider"
    );
    assert!(server.remote_address().ip().is_loopback());
    server.close(9, "over");
    let reason = "over".to_owned();
    let ended = Ended::ByPeer { code: 9, reason };
    client.closed().await;
    assert_eq!(client.ended().as_ref(), Some(&ended));
    assert_eq!(from.next(100, None).await, Err(LaneError::Ended(ended)));
}

#[tokio::test]
async fn a_client_knows_its_provider_by_any_of_what_it_trusts() {
    let (ca, other) = (Ca::new(), Ca::new());
    let files = ca.issue(&["a.example"], |_| {});
    let identity = files.load().unwrap();
    for trust in [
        vec![ca.trust()],
        vec![other.trust(), ca.trust()],
        vec![files.pin()],
        vec![other.trust(), files.pin()],
    ] {
        assert!(try_door(&identity, &trust).await.0.is_ok(), "{trust:?}");
    }
    let another = other.issue(&["a.example"], |_| {});
    for trust in [vec![], vec![other.trust()], vec![another.pin()]] {
        assert!(try_door(&identity, &trust).await.0.is_err(), "{trust:?}");
    }
    let wrong_name = ca.identity("b.example");
    let refused = try_door(&wrong_name, &[ca.trust()]).await.0.unwrap_err();
    assert!(
        refused
            .to_string()
            .ends_with("names b.example, not a.example")
    );
    let two = ca.issue(&["a.example", "b.example"], |_| {}).forge();
    let refused = try_door(&two, &[ca.trust()]).await.0.unwrap_err();
    assert!(refused.to_string().contains("2 names"));
}

#[tokio::test]
async fn an_endpoint_that_closes_says_goodbye() {
    let ca = Ca::new();
    let endpoint = DoorEndpoint::bind(
        loopback(),
        &ca.identity("a.example"),
        OfAddresses::default(),
    )
    .unwrap();
    let (address, a) = (endpoint.local_address().unwrap(), provider("a.example"));
    let dialer = DoorDialer::trusting(&[ca.trust()]).unwrap();
    let (client, _served) = tokio::join!(dialer.connect(address, &a), async {
        endpoint.accept().await.unwrap().establish().await.unwrap()
    });
    endpoint.close().await;
    assert!(endpoint.accept().await.is_none());
    let reason = "going away".to_owned();
    let client = client.unwrap();
    client.closed().await;
    assert_eq!(client.ended(), Some(Ended::ByPeer { code: 0, reason }));
}
