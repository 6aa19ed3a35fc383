//! Who this node is: its certificate and key, and the one provider that the certificate names.

use super::{FileError, settings};
use crate::private::read_private;
use mimi_actors::ids::ProviderId;
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use std::{fmt, fs::File, io::Read, path::Path};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Largest file of certificates or keys, in bytes.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// What the name of a node begins with.
const NODE_PREFIX: char = 'n';

/// Names of a certificate that are shown, at most.
const NAMES_SHOWN_MAX: usize = 3;

/// Why an identity is not usable.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file is not what it must be.
    #[error(transparent)]
    File(#[from] FileError),
    /// The certificate does not name exactly one provider.
    #[error(
        "the certificate names {found}; it must hold exactly one DNS name, a provider's domain"
    )]
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

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.provider)
    }
}

impl Identity {
    /// Reads a certificate chain and key, both PEM.
    ///
    /// # Errors
    /// [`IdentityError`] when a file does not read, the key is open to others or another certificate's, the
    /// certificate is not valid today, or its name is not one provider's.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, IdentityError> {
        let refuse = |why: String| FileError {
            path: certificate.to_owned(),
            why,
        };
        let chain = certificates(certificate)?;
        let leaf = chain.first().cloned().unwrap_or_else(|| (&[][..]).into());
        let provider = provider_of(&leaf).map_err(|found| IdentityError::Name { found })?;
        let parsed = parse(&leaf).map_err(refuse)?;
        if !parsed.validity().is_valid() {
            let validity = parsed.validity();
            let (from, to) = (validity.not_before, validity.not_after);
            let why = format!(
                "the certificate is valid from {from} to {to}, not today: put another one there, or set the clock right"
            );
            return Err(refuse(why).into());
        }
        let private = private_key(key)?;
        let fits = CertifiedKey::from_der(chain.clone(), private.clone_key(), &settings::crypto());
        fits.map_err(|error| FileError {
            path: key.to_owned(),
            why: format!("not the private key of {}: {error}", certificate.display()),
        })?;
        Ok(Self {
            provider,
            chain,
            key: private,
        })
    }

    /// The provider.
    #[must_use]
    pub fn provider(&self) -> &ProviderId {
        &self.provider
    }

    /// Whatever two files hold, as a hostile node would show it.
    #[cfg(test)]
    pub(super) fn unchecked(certificate: &Path, key: &Path) -> Self {
        Self {
            provider: "forged.example".parse().unwrap(),
            chain: certificates(certificate).unwrap(),
            key: private_key(key).unwrap(),
        }
    }

    pub(super) fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.clone()
    }

    pub(super) fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }
}

/// Reads a private key that nobody but its owner can read.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    let text = read_private(path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| FileError {
        path: path.to_owned(),
        why: format!("the private key does not read: {error}"),
    })
}

/// When the first of the certificates in a PEM file ends, in seconds since 1970.
///
/// # Errors
/// When the file does not read.
pub fn ends_at(path: &Path) -> Result<i64, FileError> {
    let refuse = |why| FileError {
        path: path.to_owned(),
        why,
    };
    let mut first = i64::MAX;
    for certificate in certificates(path)? {
        let parsed = parse(&certificate).map_err(refuse)?;
        first = first.min(parsed.validity().not_after.timestamp());
    }
    Ok(first)
}

/// The certificates of a PEM file, one at least.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let refuse = |error: &dyn fmt::Display| FileError {
        path: path.to_owned(),
        why: format!("the certificate does not read: {error}"),
    };
    let file = File::open(path).map_err(|error| refuse(&error))?;
    let text = read(file).map_err(|error| refuse(&error))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| refuse(&error))?;
    if found.is_empty() {
        return Err(refuse(&"there is none in the file"));
    }
    Ok(found)
}

fn read(file: File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(PEM_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A certificate, parsed; nothing may follow it.
///
/// # Errors
/// Why it is none.
pub(super) fn parse(certificate: &[u8]) -> Result<X509Certificate<'_>, String> {
    match X509Certificate::from_der(certificate) {
        Ok(([], parsed)) => Ok(parsed),
        Ok(_) => Err("bytes after the certificate".to_owned()),
        Err(error) => Err(format!("not a certificate: {error}")),
    }
}

/// The provider that a certificate names: its only subject alternative name, a DNS name that is a canonical domain.
///
/// # Errors
/// What it names instead.
pub(super) fn provider_of(certificate: &[u8]) -> Result<ProviderId, String> {
    let parsed = parse(certificate).map_err(|why| format!("nobody ({why})"))?;
    let names = match parsed.subject_alternative_name() {
        Ok(Some(names)) => &names.value.general_names,
        Ok(None) | Err(_) => return Err("nobody".to_owned()),
    };
    match names.as_slice() {
        [GeneralName::DNSName(name)] => name.parse().map_err(|error| format!("{name:?} ({error})")),
        [_] => Err("something other than a DNS name".to_owned()),
        several => {
            let shown = several.iter().take(NAMES_SHOWN_MAX);
            let shown: Vec<String> = shown.map(ToString::to_string).collect();
            Err(format!("{} names ({})", several.len(), shown.join(", ")))
        }
    }
}

/// The number of the node of `cluster` that a certificate's name stands for, if it is one.
#[must_use]
pub fn cluster_member(name: &ProviderId, cluster: &ProviderId) -> Option<u64> {
    let (node, rest) = name.as_str().split_once('.')?;
    let digits = node.strip_prefix(NODE_PREFIX)?;
    let number: u64 = digits.parse().ok()?;
    // One name for each node: no leading zeros, no signs.
    let canonical = number.to_string() == digits && number > 0;
    (canonical && rest == cluster.as_str()).then_some(number)
}

/// The name in the certificate of a node.
pub(super) fn name_of(node: u64, cluster: &ProviderId) -> Option<ProviderId> {
    format!("{NODE_PREFIX}{node}.{cluster}").parse().ok()
}

/// SHA-256 of a certificate's SubjectPublicKeyInfo, in hexadecimal: what a peer's operator pins.
///
/// # Errors
/// When the file does not read.
pub fn spki_pin(certificate: &Path) -> Result<String, FileError> {
    let chain = certificates(certificate)?;
    let leaf = chain.first().map_or(&[][..], |leaf| leaf);
    let parsed = parse(leaf).map_err(|why| FileError {
        path: certificate.to_owned(),
        why,
    })?;
    Ok(spki_hash(&parsed)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

pub(super) fn spki_hash(certificate: &X509Certificate<'_>) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate.public_key().raw);
    let mut hash = [0; ring::digest::SHA256_OUTPUT_LEN];
    hash.copy_from_slice(digest.as_ref());
    hash
}
