//! The key of a device, which proves it at the door.

use bytes::Bytes;
use mimi_actors::{
    ids::{ClientUri, UserUri},
    limits::CLAIM_USERS_MAX,
    mls::check::claim,
    wire::{
        BVec,
        claim::{ClaimId, ClaimProof, ClaimTerms},
        door::proof_input,
    },
};
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use std::fmt;

/// Length of an Ed25519 public key, in bytes.
const PUBLIC_KEY_BYTES: usize = 32;

/// A device's Ed25519 key pair. It is not the key of its MLS leaf.
pub struct DeviceKey {
    pair: Ed25519KeyPair,
    public: [u8; PUBLIC_KEY_BYTES],
    pkcs8: Bytes,
}

/// Bytes that are no Ed25519 key pair in PKCS#8, or a random source that gives none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no Ed25519 device key")]
pub struct BadDeviceKey;

impl DeviceKey {
    /// A fresh key pair.
    ///
    /// # Errors
    /// [`BadDeviceKey`] when the system has no randomness to give.
    pub fn generate() -> Result<Self, BadDeviceKey> {
        let document =
            Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| BadDeviceKey)?;
        Self::from_pkcs8(document.as_ref())
    }

    /// The key pair in a PKCS#8 document of version 2, as [`Self::to_pkcs8`] gives it.
    ///
    /// # Errors
    /// [`BadDeviceKey`] when the bytes are something else.
    pub fn from_pkcs8(document: &[u8]) -> Result<Self, BadDeviceKey> {
        let pair = Ed25519KeyPair::from_pkcs8(document).map_err(|_| BadDeviceKey)?;
        let public = pair
            .public_key()
            .as_ref()
            .try_into()
            .map_err(|_| BadDeviceKey)?;
        Ok(Self {
            pair,
            public,
            pkcs8: Bytes::copy_from_slice(document),
        })
    }

    /// The key pair as a PKCS#8 document: a secret.
    #[must_use]
    pub fn to_pkcs8(&self) -> &Bytes {
        &self.pkcs8
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> [u8; PUBLIC_KEY_BYTES] {
        self.public
    }

    /// Signs a claim, in the name of this device.
    #[must_use]
    pub fn sign_claim(
        &self,
        id: ClaimId,
        terms: &ClaimTerms,
        users: &BVec<UserUri, CLAIM_USERS_MAX>,
    ) -> ClaimProof {
        let sign = |content: &[u8]| self.pair.sign(content).as_ref().to_vec();
        claim::sign(id, terms, users, self.public(), sign)
    }

    /// Proves on the connection that exported `exported` that this device holds its key.
    #[must_use]
    pub fn prove(&self, client: &ClientUri, exported: &[u8; 32]) -> Bytes {
        let signature = self.pair.sign(&proof_input(client, exported));
        Bytes::copy_from_slice(signature.as_ref())
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceKey(")?;
        self.public
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{ED25519, UnparsedPublicKey};

    #[test]
    fn a_key_reads_back_and_its_proof_verifies_for_this_connection_only() {
        let key = DeviceKey::generate().unwrap();
        let again = DeviceKey::from_pkcs8(key.to_pkcs8()).unwrap();
        let client: ClientUri = "mimi://a.example/d/alice/phone".parse().unwrap();
        let proof = again.prove(&client, &[7; 32]);

        let public = UnparsedPublicKey::new(&ED25519, key.public());
        assert!(
            public
                .verify(&proof_input(&client, &[7; 32]), &proof)
                .is_ok()
        );
        assert!(
            public
                .verify(&proof_input(&client, &[8; 32]), &proof)
                .is_err()
        );
        assert!(DeviceKey::from_pkcs8(b"nothing").is_err());
    }
}
