//! Certificates good and bad, and endpoints that show them.

mod doors;
mod gate;
mod identities;
mod lanes;
mod links;

use super::*;
use mimi_actors::ids::ProviderId;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

fn provider(domain: &str) -> ProviderId {
    domain.parse().unwrap()
}

fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// A CA in a directory of its own.
struct Ca {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(dir.path().join("ca.crt"), certificate.pem()).unwrap();
        let issuer = Issuer::new(params, key);
        Self { dir, issuer }
    }

    fn trust(&self) -> PeerTrust {
        PeerTrust::Ca(self.dir.path().join("ca.crt"))
    }

    /// Issues a certificate for these names, changed by `change`.
    fn issue(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Files {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Files::write(self.dir.path(), &certificate.pem(), &key)
    }

    fn identity(&self, domain: &str) -> Identity {
        self.issue(&[domain], |_| {}).load().unwrap()
    }
}

/// A certificate and its key on disk.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn write(dir: &Path, certificate: &str, key: &KeyPair) -> Self {
        let dir = tempfile::tempdir_in(dir).unwrap().keep();
        let files = Self {
            certificate: dir.join("node.crt"),
            key: dir.join("node.key"),
        };
        std::fs::write(&files.certificate, certificate).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files.set_mode(0o600);
        files
    }

    fn set_mode(&self, mode: u32) {
        std::fs::set_permissions(&self.key, PermissionsExt::from_mode(mode)).unwrap();
    }

    fn load(&self) -> Result<Identity, IdentityError> {
        Identity::load(&self.certificate, &self.key)
    }

    /// Whatever the files hold, unchecked, as a hostile node would show it.
    fn forge(&self) -> Identity {
        Identity::unchecked(&self.certificate, &self.key)
    }

    fn pin(&self) -> PeerTrust {
        let hex = spki_pin(&self.certificate).unwrap();
        let mut pin = [0; 32];
        for (place, byte) in pin.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * place..2 * place + 2], 16).unwrap();
        }
        PeerTrust::PinnedKey(pin)
    }
}

fn link_endpoint(identity: &Identity, peers: &[(&str, PeerTrust)]) -> LinkEndpoint {
    let peers: BTreeMap<_, _> = peers
        .iter()
        .map(|(peer, trust)| (provider(peer), trust.clone()))
        .collect();
    LinkEndpoint::bind(loopback(), identity, &peers).unwrap()
}

/// Dials `server` as `domain`; what either side makes of it.
async fn dial(
    client: &LinkEndpoint,
    server: &LinkEndpoint,
    domain: &str,
) -> (Result<Link, ConnectError>, Result<Link, ConnectError>) {
    let (address, domain) = (server.local_address().unwrap(), provider(domain));
    tokio::join!(client.connect(address, &domain), async {
        server.accept().await.unwrap().establish().await
    })
}

/// Waits until a link has ended; why it has.
async fn end_of(link: &Link) -> Ended {
    link.closed().await;
    link.ended().unwrap()
}
