//! Who is let in, and who is not.

use super::*;
use rcgen::{SanType, date_time_ymd};

/// What b.example's node says to a peer that shows `identity`, when it trusts a.example by `trust`.
async fn shown(identity: &Identity, trust: PeerTrust, ca: &Ca) -> Result<Link, ConnectError> {
    let server = link_endpoint(&ca.identity("b.example"), &[("a.example", trust)]);
    let client = link_endpoint(identity, &[("b.example", ca.trust())]);
    let (dialed, taken) = dial(&client, &server, "b.example").await;
    if taken.is_err() {
        // A client learns of the refusal after its own part of the handshake.
        let ended = end_of(&dialed.unwrap()).await;
        assert!(matches!(ended, Ended::Failed(_)), "{ended:?}");
    }
    taken
}

fn why(result: Result<Link, ConnectError>) -> String {
    result
        .map(|link| link.peer().clone())
        .unwrap_err()
        .to_string()
}

#[tokio::test]
async fn two_listed_providers_meet_whoever_dials() {
    let ca = Ca::new();
    let a = link_endpoint(&ca.identity("a.example"), &[("b.example", ca.trust())]);
    let b = link_endpoint(&ca.identity("b.example"), &[("a.example", ca.trust())]);
    for (dialing, listening, from, to) in [
        (&a, &b, "a.example", "b.example"),
        (&b, &a, "b.example", "a.example"),
    ] {
        let (dialed, taken) = dial(dialing, listening, to).await;
        let (dialed, taken) = (dialed.unwrap(), taken.unwrap());
        assert_eq!(dialed.peer(), &provider(to));
        assert_eq!(taken.peer(), &provider(from));
        assert_eq!(taken.remote_address(), dialing.local_address().unwrap());
        dialed.close(7, "enough\n");
        let reason = "enough?".to_owned();
        assert_eq!(end_of(&taken).await, Ended::ByPeer { code: 7, reason });
        assert_eq!(end_of(&dialed).await, Ended::Here);
        assert!(dialed.is_closed() && taken.is_closed());
    }
}

#[tokio::test]
async fn each_peer_is_held_to_its_own_trust() {
    let (ca, other) = (Ca::new(), Ca::new());
    let identity = ca.identity("a.example");
    assert!(shown(&identity, ca.trust(), &ca).await.is_ok());
    let unknown = why(shown(&identity, other.trust(), &ca).await);
    assert!(
        unknown.contains("the certificate names a.example: it is not of the CA that is configured"),
        "{unknown}"
    );
    // b trusts its own CA for c.example only: it does not vouch for a.example.
    let server = link_endpoint(
        &ca.identity("b.example"),
        &[("a.example", other.trust()), ("c.example", ca.trust())],
    );
    let client = link_endpoint(&identity, &[("b.example", ca.trust())]);
    let (_, taken) = dial(&client, &server, "b.example").await;
    let refused = why(taken);
    assert!(
        refused.contains("names a.example: it is not of the CA"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_provider_that_is_not_listed_is_refused() {
    let ca = Ca::new();
    let refused = why(shown(&ca.identity("c.example"), ca.trust(), &ca).await);
    assert!(
        refused.ends_with("c.example is not a listed peer"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_certificate_names_one_provider_or_nobody() {
    let ca = Ca::new();
    let address = |params: &mut CertificateParams| {
        let ip = SanType::IpAddress(Ipv4Addr::LOCALHOST.into());
        params.subject_alt_names.push(ip);
    };
    for (files, expected) in [
        (ca.issue(&["a.example", "b.example"], |_| {}), "2 names"),
        (ca.issue(&["a.example"], address), "2 names"),
        (ca.issue(&[], address), "something other than a DNS name"),
        (ca.issue(&["*.example"], |_| {}), "*.example"),
        (ca.issue(&["A.example"], |_| {}), "A.example"),
        (ca.issue(&[], |_| {}), "names nobody"),
    ] {
        let refused = why(shown(&files.forge(), ca.trust(), &ca).await);
        assert!(refused.contains(expected), "{refused}");
    }
}

#[tokio::test]
async fn a_certificate_out_of_its_dates_is_refused() {
    let ca = Ca::new();
    let expired = ca.issue(&["a.example"], |params| {
        params.not_after = date_time_ymd(2001, 1, 1);
    });
    let future = ca.issue(&["a.example"], |params| {
        params.not_before = date_time_ymd(4000, 1, 1);
    });
    for (files, expected) in [(expired, "expired"), (future, "not valid yet")] {
        let refused = why(shown(&files.forge(), ca.trust(), &ca).await);
        assert!(refused.contains(expected), "{refused}");
        let refused = why(shown(&files.forge(), files.pin(), &ca).await);
        assert!(refused.contains("invalid peer certificate"), "{refused}");
    }
}

#[tokio::test]
async fn a_certificate_for_servers_only_needs_a_pin() {
    let ca = Ca::new();
    let files = ca.issue(&["a.example"], |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let identity = files.load().unwrap();
    let refused = why(shown(&identity, ca.trust(), &ca).await);
    assert!(refused.contains("client authentication"), "{refused}");
    assert!(shown(&identity, files.pin(), &ca).await.is_ok());
}

#[tokio::test]
async fn a_pinned_key_is_that_key() {
    let (ca, stranger) = (Ca::new(), Ca::new());
    let files = stranger.issue(&["a.example"], |_| {});
    assert!(
        shown(&files.load().unwrap(), files.pin(), &ca)
            .await
            .is_ok()
    );
    let another = stranger.identity("a.example");
    let refused = why(shown(&another, files.pin(), &ca).await);
    assert!(refused.contains("pinned key"), "{refused}");
    // The pin of a.example lets nobody else in, though the key be the same.
    let server = link_endpoint(&ca.identity("b.example"), &[("c.example", files.pin())]);
    let client = link_endpoint(&files.load().unwrap(), &[("b.example", ca.trust())]);
    let (_, taken) = dial(&client, &server, "b.example").await;
    let refused = why(taken);
    assert!(refused.contains("not a listed peer"), "{refused}");
}

#[tokio::test]
async fn who_is_dialed_must_be_who_was_meant() {
    let ca = Ca::new();
    let trusted = [("b.example", ca.trust()), ("c.example", ca.trust())];
    let client = link_endpoint(&ca.identity("a.example"), &trusted);
    let server = link_endpoint(&ca.identity("c.example"), &[("a.example", ca.trust())]);
    let (dialed, _) = dial(&client, &server, "b.example").await;
    let refused = why(dialed);
    assert!(
        refused.ends_with("names c.example, not b.example"),
        "{refused}"
    );

    let server = link_endpoint(
        &Ca::new().identity("b.example"),
        &[("a.example", ca.trust())],
    );
    let (dialed, _) = dial(&client, &server, "b.example").await;
    let refused = why(dialed);
    assert!(
        refused.contains("names b.example: it is not of the CA"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_chain_is_short() {
    let ca = Ca::new();
    let files = ca.issue(&["a.example"], |_| {});
    let one = std::fs::read_to_string(&files.certificate).unwrap();
    std::fs::write(&files.certificate, one.repeat(5)).unwrap();
    let refused = why(shown(&files.load().unwrap(), ca.trust(), &ca).await);
    assert!(refused.contains("a chain of 5 certificates"), "{refused}");
}

#[tokio::test]
async fn neither_strangers_nor_clients_get_a_link() {
    let ca = Ca::new();
    let identity = ca.identity("b.example");
    let links = link_endpoint(&identity, &[("a.example", ca.trust())]);
    let address = links.local_address().unwrap();
    // A client's dialer has another ALPN and no certificate.
    let dialer = DoorDialer::trusting(&[ca.trust()]).unwrap();
    let b = provider("b.example");
    let (dialed, taken) = tokio::join!(dialer.connect(address, &b), async {
        links.accept().await.unwrap().establish().await
    });
    let refused = dialed.unwrap_err().to_string();
    assert!(refused.contains("(TLS alert 120)"), "{refused}");
    let refused = why(taken);
    assert!(refused.contains("known protocol"), "{refused}");

    // With the right ALPN it is the certificate that is missing.
    let dialer = super::doors::dialer_of(&ca, LINK_ALPN);
    let (_, taken) = tokio::join!(dialer.connect(address, &b), async {
        links.accept().await.unwrap().establish().await
    });
    let refused = why(taken);
    assert!(refused.contains("no certificates"), "{refused}");

    // A provider that dials the clients' door is not let in there either.
    let doors = DoorEndpoint::bind(loopback(), &identity, OfAddresses::default()).unwrap();
    let client = link_endpoint(&ca.identity("a.example"), &[("b.example", ca.trust())]);
    let (dialed, taken) = tokio::join!(client.connect(doors.local_address().unwrap(), &b), async {
        doors.accept().await.unwrap().establish().await
    });
    let refused = why(dialed);
    assert!(refused.contains("(TLS alert 120)"), "{refused}");
    assert!(taken.is_err());
}

#[tokio::test]
async fn one_peer_does_not_take_every_connection() {
    let ca = Ca::new();
    let client = link_endpoint(&ca.identity("a.example"), &[("b.example", ca.trust())]);
    let server = link_endpoint(&ca.identity("b.example"), &[("a.example", ca.trust())]);
    let mut links = Vec::new();
    let crowded = loop {
        let (dialed, taken) = dial(&client, &server, "b.example").await;
        match taken {
            Ok(taken) => links.push((dialed, taken)),
            Err(error) => break error,
        }
    };
    let (who, max) = ("a.example".to_owned(), links.len());
    assert_eq!((crowded, max), (ConnectError::Crowded { who, max }, 16));
    links.pop();
    assert!(dial(&client, &server, "b.example").await.1.is_ok());
}

#[tokio::test]
async fn a_port_in_use_is_one_clear_line() {
    let ca = Ca::new();
    let identity = ca.identity("a.example");
    let first = link_endpoint(&identity, &[]);
    let address = first.local_address().unwrap();
    let second = LinkEndpoint::bind(address, &identity, &BTreeMap::new());
    let error = anyhow::Error::from(second.err().unwrap());
    let process = std::process::id();
    let said = format!("{error:#}");
    let expected = format!("listen on UDP {address}: the port is in use by ");
    assert!(said.starts_with(&expected), "{said}");
    assert!(said.ends_with(&format!("(process {process})")), "{said}");
}

#[tokio::test]
async fn a_peer_learns_at_once_that_a_node_was_started_again() {
    let ca = Ca::new();
    let files = ca.issue(&["b.example"], |_| {});
    let client = link_endpoint(&ca.identity("a.example"), &[("b.example", ca.trust())]);
    let mut process = tokio::runtime::Builder::new_multi_thread();
    let process = process.enable_all().worker_threads(1).build().unwrap();
    let first = {
        let _inside = process.enter();
        link_endpoint(&files.load().unwrap(), &[("a.example", ca.trust())])
    };
    let address = first.local_address().unwrap();
    let (dialed, taken) = dial(&client, &first, "b.example").await;
    let (dialed, taken) = (dialed.unwrap(), taken.unwrap());
    // Gone without a word, as a killed process goes: nothing runs any more when the connection is dropped.
    let soon = std::time::Duration::from_secs(5);
    let killed = tokio::task::spawn_blocking(move || process.shutdown_timeout(soon));
    killed.await.unwrap();
    drop((first, taken));
    let peers = BTreeMap::from([(provider("a.example"), ca.trust())]);
    let second = loop {
        match LinkEndpoint::bind(address, &files.load().unwrap(), &peers) {
            Err(BindError::InUse { .. }) => tokio::task::yield_now().await,
            bound => break bound,
        }
    };
    let (mut to, _from) = dialed.open_lane().await.unwrap();
    to.send("anybody there?".into()).await.unwrap();
    let ended = tokio::time::timeout(soon, end_of(&dialed)).await.unwrap();
    assert_eq!(ended, Ended::Failed("reset by peer".to_owned()));
    assert!(second.is_ok());
}
