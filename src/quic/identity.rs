//! Who this node is: its certificate and key, and the one provider that the certificate names.

use super::FileError;
use mimi_actors::ids::ProviderId;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{os::unix::fs::PermissionsExt, path::Path};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Why an identity is not usable.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file is not what it must be.
    #[error(transparent)]
    File(#[from] FileError),
    /// The certificate does not name exactly one provider.
    #[error("the certificate names {found}; it must hold exactly one DNS name, a provider's domain")]
    Name {
        /// What it names.
        found: String,
    },
}

/// A provider's certificate chain and key.
pub struct Identity {
    provider: ProviderId,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads a certificate chain and key, both PEM.
    ///
    /// # Errors
    /// [`IdentityError`] when a file does not read, the key is open to others, or the name is not one provider's.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, IdentityError> {
        let chain = certificates(certificate)?;
        let provider = match chain.first() {
            Some(leaf) => provider_of(leaf).map_err(|found| IdentityError::Name { found })?,
            None => {
                let why = "holds no certificate".to_owned();
                return Err(FileError { path: certificate.to_owned(), why }.into());
            }
        };
        let refuse = |why: String| FileError { path: key.to_owned(), why };
        let mode = std::fs::metadata(key)
            .map_err(|error| refuse(format!("the private key does not read: {error}")))?
            .permissions()
            .mode();
        if mode & 0o077 != 0 {
            let why = format!("the private key is open to others (mode {:o}); chmod 600 it", mode & 0o777);
            return Err(refuse(why).into());
        }
        let key = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| refuse(format!("the private key does not read: {error}")))?;
        Ok(Self { provider, chain, key })
    }

    /// The provider.
    #[must_use]
    pub fn provider(&self) -> &ProviderId {
        &self.provider
    }

    pub(super) fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.clone()
    }

    pub(super) fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }
}

/// The certificates of a PEM file.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let refuse = |error: rustls::pki_types::pem::Error| FileError {
        path: path.to_owned(),
        why: format!("the certificate does not read: {error}"),
    };
    let read = CertificateDer::pem_file_iter(path).map_err(refuse)?;
    read.map(|certificate| certificate.map_err(refuse)).collect()
}

/// The provider that a certificate names: its only subject alternative name, a DNS name that is a canonical domain.
///
/// # Errors
/// What it names instead.
pub(super) fn provider_of(certificate: &[u8]) -> Result<ProviderId, String> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|error| format!("nothing that reads ({error})"))?;
    let names = match parsed.subject_alternative_name() {
        Ok(Some(names)) => &names.value.general_names,
        Ok(None) | Err(_) => return Err("nobody".to_owned()),
    };
    match names.as_slice() {
        [GeneralName::DNSName(name)] => {
            name.parse().map_err(|error| format!("{name:?} ({error})"))
        }
        [_] => Err("something other than a DNS name".to_owned()),
        several => Err(format!("{} names", several.len())),
    }
}

/// SHA-256 of a certificate's SubjectPublicKeyInfo, in hexadecimal: what a peer's operator pins.
///
/// # Errors
/// When the file does not read.
pub fn spki_pin(certificate: &Path) -> Result<String, FileError> {
    let chain = certificates(certificate)?;
    let pin = chain.first().and_then(|leaf| spki_hash(leaf).ok());
    let why = "holds no certificate that reads".to_owned();
    let pin = pin.ok_or(FileError { path: certificate.to_owned(), why })?;
    Ok(pin.iter().map(|byte| format!("{byte:02x}")).collect())
}

pub(super) fn spki_hash(certificate: &[u8]) -> Result<[u8; 32], String> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    let digest = ring::digest::digest(&ring::digest::SHA256, parsed.public_key().raw);
    digest.as_ref().try_into().map_err(|_| "digest length".to_owned())
}
