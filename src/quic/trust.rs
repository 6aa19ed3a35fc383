//! Whether a certificate is the peer's: by a private CA, or by its pinned key.
//!
//! Closed federation: a provider that is not listed is refused in the handshake. Public CAs issue certificates for
//! servers only, so a peer with such a certificate is pinned rather than trusted by its CA.

use super::{
    FileError, TrustError,
    identity::{certificates, cluster_member, parse, provider_of, spki_hash},
    settings,
};
use mimi_actors::ids::ProviderId;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    slice,
    sync::Arc,
};
use x509_parser::time::ASN1Time;

/// Certificates between a peer's own and a root, at most.
const INTERMEDIATES_MAX: usize = 3;

/// How a peer is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerTrust {
    /// Its certificate is issued by the CA in this PEM file.
    Ca(PathBuf),
    /// The SHA-256 of its SubjectPublicKeyInfo is this.
    PinnedKey([u8; 32]),
}

enum Check {
    Ca {
        server: Arc<WebPkiServerVerifier>,
        client: Arc<dyn ClientCertVerifier>,
    },
    PinnedKey([u8; 32]),
}

impl Check {
    fn new(trust: &PeerTrust, crypto: &Arc<CryptoProvider>) -> Result<Self, TrustError> {
        let path = match trust {
            PeerTrust::PinnedKey(pin) => return Ok(Self::PinnedKey(*pin)),
            PeerTrust::Ca(path) => path,
        };
        let refuse = |why: String| FileError {
            path: path.clone(),
            why: format!("the CA's certificate is not usable: {why}"),
        };
        let roots = roots(path).map_err(|error| refuse(error.to_string()))?;
        let server =
            WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(crypto));
        let client = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(crypto));
        Ok(Self::Ca {
            server: server.build().map_err(|error| refuse(error.to_string()))?,
            client: client.build().map_err(|error| refuse(error.to_string()))?,
        })
    }
}

/// Whether a trust setting is usable.
///
/// # Errors
/// [`TrustError`] when its CA is not.
pub fn usable(trust: &PeerTrust) -> Result<(), TrustError> {
    Check::new(trust, &settings::crypto()).map(drop)
}

/// The certificates of a CA file.
fn roots(path: &Path) -> Result<Arc<RootCertStore>, Box<dyn std::error::Error>> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate)?;
    }
    Ok(Arc::new(roots))
}

/// Whoever may be at the other end, and how each is recognised.
enum Peers {
    /// These, each in its own way.
    Listed(BTreeMap<ProviderId, Check>),
    /// Anyone who is recognised in one of these ways.
    Anyone(Vec<Check>),
    /// The nodes of one cluster.
    Cluster(ProviderId, Check),
}

/// Recognises peers, as servers and as clients.
pub(super) struct Recognise {
    peers: Peers,
    crypto: Arc<CryptoProvider>,
}

impl fmt::Debug for Recognise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.peers {
            Peers::Listed(_) => "Recognise(listed peers)",
            Peers::Anyone(_) => "Recognise(anyone)",
            Peers::Cluster(..) => "Recognise(a cluster)",
        })
    }
}

impl Recognise {
    /// Recognises `peers`, and nobody else.
    pub(super) fn listed(
        peers: &BTreeMap<ProviderId, PeerTrust>,
        crypto: &Arc<CryptoProvider>,
    ) -> Result<Self, TrustError> {
        let check =
            |(peer, trust): (&ProviderId, _)| Ok((peer.clone(), Check::new(trust, crypto)?));
        let checks: Result<_, TrustError> = peers.iter().map(check).collect();
        Ok(Self {
            peers: Peers::Listed(checks?),
            crypto: Arc::clone(crypto),
        })
    }

    /// Recognises any provider in any of these ways.
    pub(super) fn anyone(
        trust: &[PeerTrust],
        crypto: &Arc<CryptoProvider>,
    ) -> Result<Self, TrustError> {
        let checks: Result<_, _> = trust
            .iter()
            .map(|trust| Check::new(trust, crypto))
            .collect();
        Ok(Self {
            peers: Peers::Anyone(checks?),
            crypto: Arc::clone(crypto),
        })
    }

    /// Recognises the nodes of a cluster, by the CA of its own.
    pub(super) fn cluster(
        cluster: &ProviderId,
        ca: &Path,
        crypto: &Arc<CryptoProvider>,
    ) -> Result<Self, TrustError> {
        let check = Check::new(&PeerTrust::Ca(ca.to_path_buf()), crypto)?;
        Ok(Self {
            peers: Peers::Cluster(cluster.clone(), check),
            crypto: Arc::clone(crypto),
        })
    }

    /// Whom a certificate names, and the checks one of which it must pass.
    fn checks(
        &self,
        certificate: &[u8],
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(ProviderId, &[Check]), Error> {
        if intermediates.len() > INTERMEDIATES_MAX {
            return refuse(format!(
                "a chain of {} certificates",
                1 + intermediates.len()
            ));
        }
        let named = match provider_of(certificate) {
            Ok(named) => named,
            Err(found) => return refuse(format!("the certificate names {found}")),
        };
        let checks = match &self.peers {
            Peers::Anyone(checks) => checks.as_slice(),
            Peers::Cluster(cluster, check) => {
                if cluster_member(&named, cluster).is_none() {
                    return refuse(format!("{named} is not a node of the cluster {cluster}"));
                }
                slice::from_ref(check)
            }
            Peers::Listed(peers) => match peers.get(&named) {
                Some(check) => slice::from_ref(check),
                None => return refuse(format!("{named} is not a listed peer")),
            },
        };
        Ok((named, checks))
    }
}

/// Why a certificate is refused that passed no check, with whom it names.
fn not_trusted(named: &ProviderId, error: &Error) -> Error {
    let why = if let Error::InvalidCertificate(
        CertificateError::UnknownIssuer | CertificateError::BadSignature,
    ) = error
    {
        "it is not of the CA that is configured".to_owned()
    } else if let Error::General(why) = error {
        why.clone()
    } else {
        error.to_string()
    };
    Error::General(format!("the certificate names {named}: {why}"))
}

fn refuse<T>(why: String) -> Result<T, Error> {
    Err(Error::General(why))
}

/// The first check that is passed, or what the last one says.
fn any<T>(checks: &[Check], pass: impl Fn(&Check) -> Result<T, Error>) -> Result<T, Error> {
    let mut refused = refuse("nobody is trusted".to_owned());
    for check in checks {
        refused = pass(check);
        if refused.is_ok() {
            break;
        }
    }
    refused
}

/// Whether a certificate holds the pinned key and is within its dates.
fn check_pin(pin: &[u8; 32], certificate: &[u8], now: UnixTime) -> Result<(), Error> {
    let parsed = parse(certificate).map_err(Error::General)?;
    if spki_hash(&parsed) != *pin {
        return refuse("the certificate does not hold the pinned key".to_owned());
    }
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let now = ASN1Time::from_timestamp(now).map_err(|error| Error::General(error.to_string()))?;
    if now < parsed.validity().not_before {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > parsed.validity().not_after {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

impl ServerCertVerifier for Recognise {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let (named, checks) = self.checks(certificate, intermediates)?;
        if name.to_str() != named.as_str() {
            return refuse(format!(
                "the certificate names {named}, not {}",
                name.to_str()
            ));
        }
        any(checks, |check| match check {
            Check::Ca { server, .. } => {
                server.verify_server_cert(certificate, intermediates, name, ocsp, now)
            }
            Check::PinnedKey(pin) => {
                check_pin(pin, certificate, now).map(|()| ServerCertVerified::assertion())
            }
        })
        .map_err(|error| not_trusted(&named, &error))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        refuse("TLS 1.2 is not spoken here".to_owned())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.crypto.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.crypto
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl ClientCertVerifier for Recognise {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let (named, checks) = self.checks(certificate, intermediates)?;
        any(checks, |check| match check {
            Check::Ca { client, .. } => client.verify_client_cert(certificate, intermediates, now),
            Check::PinnedKey(pin) => {
                check_pin(pin, certificate, now).map(|()| ClientCertVerified::assertion())
            }
        })
        .map_err(|error| not_trusted(&named, &error))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls12_signature(self, message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls13_signature(self, message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ServerCertVerifier::supported_verify_schemes(self)
    }
}
