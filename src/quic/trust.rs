//! Whether a certificate is the peer's: by a private CA, or by its pinned key.
//!
//! Closed federation: a provider that is not listed is refused in the handshake. Public CAs issue certificates for
//! servers only, so a peer with such a certificate is pinned rather than trusted by its CA.

use super::{
    FileError,
    identity::{certificates, provider_of, spki_hash},
};
use mimi_actors::ids::ProviderId;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
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
use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc};
use x509_parser::{prelude::FromDer, prelude::X509Certificate, time::ASN1Time};

/// How a peer is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerTrust {
    /// Its certificate is issued by the CA in this PEM file.
    Ca(PathBuf),
    /// The SHA-256 of its SubjectPublicKeyInfo is this.
    PinnedKey([u8; 32]),
}

/// Why a trust setting is not usable.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The CA file does not read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The CA file holds nothing to trust.
    #[error("trust of {peer}: {why}")]
    Roots {
        /// The peer.
        peer: String,
        /// What is wrong.
        why: String,
    },
}

enum Check {
    Ca { server: Arc<dyn ServerCertVerifier>, client: Arc<dyn ClientCertVerifier> },
    PinnedKey([u8; 32]),
}

/// Recognises listed peers, as servers and as clients.
pub(super) struct Recognise {
    peers: BTreeMap<ProviderId, Check>,
    crypto: Arc<CryptoProvider>,
}

impl fmt::Debug for Recognise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.peers.keys()).finish()
    }
}

/// The certificates of a CA file, as roots.
pub(super) fn roots(path: &std::path::Path, peer: &str) -> Result<Arc<RootCertStore>, TrustError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| TrustError::Roots {
            peer: peer.to_owned(),
            why: format!("{}: {error}", path.display()),
        })?;
    }
    Ok(Arc::new(roots))
}

impl Recognise {
    pub(super) fn new(
        peers: &BTreeMap<ProviderId, PeerTrust>,
        crypto: Arc<CryptoProvider>,
    ) -> Result<Self, TrustError> {
        let mut checks = BTreeMap::new();
        for (peer, trust) in peers {
            let check = match trust {
                PeerTrust::PinnedKey(pin) => Check::PinnedKey(*pin),
                PeerTrust::Ca(path) => {
                    let roots = roots(path, peer.as_str())?;
                    let refuse = |why: String| TrustError::Roots { peer: peer.to_string(), why };
                    let (server_roots, provider) = (Arc::clone(&roots), Arc::clone(&crypto));
                    let server = WebPkiServerVerifier::builder_with_provider(server_roots, provider);
                    let client =
                        WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&crypto));
                    Check::Ca {
                        server: server.build().map_err(|error| refuse(error.to_string()))?,
                        client: client.build().map_err(|error| refuse(error.to_string()))?,
                    }
                }
            };
            checks.insert(peer.clone(), check);
        }
        Ok(Self { peers: checks, crypto })
    }

    /// The check for whoever a certificate names.
    fn check(&self, certificate: &[u8]) -> Result<(ProviderId, &Check), Error> {
        let named = provider_of(certificate)
            .map_err(|found| Error::General(format!("the certificate names {found}")))?;
        let check = self.peers.get(&named);
        let check = check.ok_or_else(|| Error::General(format!("{named} is not a listed peer")))?;
        Ok((named, check))
    }

    fn signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.crypto.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }
}

/// Whether a certificate holds the pinned key and is within its dates.
fn check_pin(pin: &[u8; 32], certificate: &[u8], now: UnixTime) -> Result<(), Error> {
    let hash = spki_hash(certificate).map_err(Error::General)?;
    if hash != *pin {
        return Err(Error::General("the certificate does not hold the pinned key".to_owned()));
    }
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|error| Error::General(error.to_string()))?;
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

fn no_tls12() -> Error {
    Error::General("TLS 1.2 is not spoken here".to_owned())
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
        let (named, check) = self.check(certificate)?;
        if name.to_str() != named.as_str() {
            return Err(CertificateError::NotValidForName.into());
        }
        match check {
            Check::Ca { server, .. } => {
                server.verify_server_cert(certificate, intermediates, name, ocsp, now)
            }
            Check::PinnedKey(pin) => {
                check_pin(pin, certificate, now).map(|()| ServerCertVerified::assertion())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.crypto.signature_verification_algorithms.supported_schemes()
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
        match self.check(certificate)?.1 {
            Check::Ca { client, .. } => client.verify_client_cert(certificate, intermediates, now),
            Check::PinnedKey(pin) => {
                check_pin(pin, certificate, now).map(|()| ClientCertVerified::assertion())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.crypto.signature_verification_algorithms.supported_schemes()
    }
}
