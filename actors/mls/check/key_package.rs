//! KeyPackages: whether one may be kept for a client, and what a claim needs to know of it.
//!
//! Owns: every check that does not depend on other packages. Not here: whether its init key was used before, who
//! may upload it, which package a claim takes.
//!
//! Source: transport requirements, section 3.1; RFC 9420, section 10.1.

use super::{audit, terms::Terms};
use crate::{
    ids::ClientUri,
    limits::KEY_PACKAGE_BYTES_MAX,
    machine::Millis,
    mls::codec::{
        extension::{self, is_grease},
        key_package::KeyPackage,
        leaf::{Leaf, Source},
        reader::{Malformed, Reader, Unreadable},
        suite::Suite,
    },
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What a checked KeyPackage says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPackageFacts {
    /// Its KeyPackageRef.
    pub reference: Bytes,
    /// Its init key, which no other package may share.
    pub init_key: Bytes,
    /// Its protocol version.
    pub version: u16,
    /// Its ciphersuite.
    pub ciphersuite: u16,
    /// Start of its lifetime, in seconds since 1970 (UTC).
    pub not_before_s: u64,
    /// End of its lifetime, in seconds since 1970 (UTC).
    pub not_after_s: u64,
    /// Extension types the client supports, sorted; with those that every client supports.
    pub extensions: Vec<u16>,
    /// Proposal types the client supports, sorted; with those that every client supports.
    pub proposals: Vec<u16>,
    /// Credential types the client supports, sorted.
    pub credentials: Vec<u16>,
    /// Whether it may be handed out again when nothing else is left.
    pub last_resort: bool,
    /// The signature key of its leaf.
    pub leaf_signature_key: Bytes,
}

/// Why a KeyPackage is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyPackageRefused {
    /// The bytes are not a well-formed KeyPackage.
    #[error("malformed KeyPackage: {0}")]
    Malformed(Malformed),
    /// It uses what this hub does not support.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// Its credential names somebody else, or nobody.
    #[error("the credential does not name the client that uploads")]
    WrongClient,
    /// A signature is wrong.
    #[error("signature of the {of} is wrong")]
    Signature {
        /// Of what.
        of: &'static str,
    },
    /// Its lifetime does not contain the present.
    #[error("lifetime {not_before_s} to {not_after_s} does not contain {now_s}")]
    NotValidNow {
        /// Start of the lifetime, in seconds.
        not_before_s: u64,
        /// End of the lifetime, in seconds.
        not_after_s: u64,
        /// The present, in seconds.
        now_s: u64,
    },
    /// Its lifetime is too long.
    #[error("lifetime of {lifetime_s} s, the limit is {max_s} s")]
    LivesTooLong {
        /// Length of the lifetime, in seconds.
        lifetime_s: u64,
        /// Longest accepted, in seconds.
        max_s: u64,
    },
    /// It breaks a rule of RFC 9420.
    #[error("invalid KeyPackage: {0}")]
    Invalid(&'static str),
}

impl From<Unreadable> for KeyPackageRefused {
    fn from(cause: Unreadable) -> Self {
        match cause {
            Unreadable::Malformed(cause) => Self::Malformed(cause),
            Unreadable::Unsupported(what) => Self::Unsupported(what),
        }
    }
}

/// Sorted, each once, without the numbers that mean nothing; `implied` are added.
fn tidy(listed: &[u16], implied: std::ops::RangeInclusive<u16>) -> Vec<u16> {
    let mut list: Vec<u16> = listed
        .iter()
        .copied()
        .filter(|number| !is_grease(*number))
        .chain(implied)
        .collect();
    list.sort_unstable();
    list.dedup();
    list
}

/// Decides whether a KeyPackage (as an MLSMessage) may be kept for `client`.
///
/// The lifetime is compared with `now`; the clock of the library is not asked.
///
/// # Errors
/// [`KeyPackageRefused`] says which rule it breaks.
pub fn check_key_package(
    message: &Bytes,
    client: &ClientUri,
    now: Millis,
    terms: &Terms,
) -> Result<KeyPackageFacts, KeyPackageRefused> {
    let mut reader =
        Reader::bounded(message, "KeyPackage", KEY_PACKAGE_BYTES_MAX).map_err(Unreadable::from)?;
    let package = KeyPackage::read_message(&mut reader)?;
    let suite =
        Suite::new(package.ciphersuite).ok_or(KeyPackageRefused::Unsupported("ciphersuite"))?;
    if package.leaf.client().as_ref() != Some(client) {
        return Err(KeyPackageRefused::WrongClient);
    }
    if let Some(flaw) = package.flaw(&suite) {
        return Err(KeyPackageRefused::Invalid(flaw));
    }
    let (not_before_s, not_after_s) =
        check_lifetime(&package.leaf, now, terms.key_package_lifetime_max_s)?;
    if let Some(of) = package.wrong_signature(&suite) {
        return Err(KeyPackageRefused::Signature { of });
    }
    audit::key_package(message, terms);
    Ok(KeyPackageFacts {
        reference: Bytes::copy_from_slice(&package.reference(&suite)),
        init_key: Bytes::copy_from_slice(package.init_key),
        version: package.version,
        ciphersuite: package.ciphersuite,
        not_before_s,
        not_after_s,
        extensions: tidy(&package.leaf.extension_types, 1..=5),
        proposals: tidy(&package.leaf.proposal_types, 1..=7),
        #[expect(
            clippy::reversed_empty_ranges,
            reason = "no credential type is implied"
        )]
        credentials: tidy(&package.leaf.credential_types, 1..=0),
        last_resort: extension::marks_last_resort(&package.extensions),
        leaf_signature_key: Bytes::copy_from_slice(package.leaf.signature_key),
    })
}

fn check_lifetime(
    leaf: &Leaf<'_>,
    now: Millis,
    max_s: u64,
) -> Result<(u64, u64), KeyPackageRefused> {
    let Source::KeyPackage {
        not_before_s,
        not_after_s,
    } = leaf.source
    else {
        return Err(KeyPackageRefused::Invalid(
            "leaf is not one of a KeyPackage",
        ));
    };
    let now_s = now.as_seconds();
    if !leaf.is_good_at(now) {
        return Err(KeyPackageRefused::NotValidNow {
            not_before_s,
            not_after_s,
            now_s,
        });
    }
    let lifetime_s = not_after_s.saturating_sub(not_before_s);
    if lifetime_s > max_s {
        return Err(KeyPackageRefused::LivesTooLong { lifetime_s, max_s });
    }
    Ok((not_before_s, not_after_s))
}
