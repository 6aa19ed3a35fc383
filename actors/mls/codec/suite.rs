//! The ciphersuites this hub can work with, and the labelled operations of RFC 9420 on them.

use super::{
    keys,
    reader::{put_length, put_vector},
};
use openmls_rust_crypto::RustCrypto;
use openmls_traits::{
    crypto::OpenMlsCrypto,
    random::OpenMlsRand,
    types::{Ciphersuite, HashType, HpkeCiphertext, HpkeKeyPair},
};

/// Length of every hash and tag of the supported ciphersuites, in bytes.
pub(crate) const DIGEST_BYTES: usize = 32;
/// What sealing adds to a plaintext with every supported ciphersuite, in bytes.
const SEAL_BYTES: usize = 16;
/// Length of a sealed path secret of every supported ciphersuite, in bytes.
pub(crate) const SEALED_PATH_SECRET_BYTES: usize = DIGEST_BYTES + SEAL_BYTES;
/// Length of the sealed secrets for a new member, in bytes, by whether its epoch began with a `path`: the joiner secret,
/// a path secret or none, and an empty list of PSKs, each with its length before it.
pub(crate) const fn sealed_group_secrets_bytes(path: bool) -> usize {
    const SECRET: usize = 1 + DIGEST_BYTES;
    let path_secret = if path { 1 + SECRET } else { 1 };
    SECRET + path_secret + 1 + SEAL_BYTES
}
/// A hash of a supported ciphersuite: all of them use SHA-256.
pub(crate) type Digest = [u8; DIGEST_BYTES];

/// The version number of MLS 1.0.
pub(crate) const MLS_10: u16 = 1;

/// A ciphersuite that this hub supports: 1, 2 or 3.
pub(crate) struct Suite {
    suite: Ciphersuite,
    crypto: RustCrypto,
}

impl Suite {
    /// The suite with this number, if it is supported.
    pub(crate) fn new(number: u16) -> Option<Self> {
        let suite = match number {
            1 => Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519,
            2 => Ciphersuite::MLS_128_DHKEMP256_AES128GCM_SHA256_P256,
            3 => Ciphersuite::MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519,
            _ => return None,
        };
        // The provider seeds a generator; only sealing and fresh keys draw from it.
        Some(Self {
            suite,
            crypto: RustCrypto::default(),
        })
    }

    fn is_of_p256(&self) -> bool {
        self.suite == Ciphersuite::MLS_128_DHKEMP256_AES128GCM_SHA256_P256
    }

    /// Whether its members sign with Ed25519, as hubs do.
    pub(crate) fn signs_with_ed25519(&self) -> bool {
        !self.is_of_p256()
    }

    /// Length of a KEM output of the suite, in bytes.
    pub(crate) fn kem_output_bytes(&self) -> usize {
        if self.is_of_p256() { 65 } else { 32 }
    }

    /// Whether something can be sealed to this public key.
    pub(crate) fn is_encryption_key(&self, key: &[u8]) -> bool {
        if self.is_of_p256() {
            keys::is_p256(key)
        } else {
            keys::is_x25519(key)
        }
    }

    /// Whether signatures can be verified with this public key.
    pub(crate) fn is_signature_key(&self, key: &[u8]) -> bool {
        if self.is_of_p256() {
            keys::is_p256(key)
        } else {
            keys::is_ed25519(key)
        }
    }

    /// Hashes the bytes.
    #[expect(
        clippy::expect_used,
        reason = "SHA-256 is always there and has no way to fail"
    )]
    pub(crate) fn hash(&self, bytes: &[u8]) -> Digest {
        self.crypto
            .hash(HashType::Sha2_256, bytes)
            .ok()
            .and_then(|digest| digest.try_into().ok())
            .expect("SHA-256 gives 32 bytes")
    }

    /// `RefHash` of RFC 9420, section 5.2.
    pub(crate) fn reference(&self, label: &str, value: &[u8]) -> Digest {
        let mut input = Vec::with_capacity(value.len() + label.len() + 8);
        put_vector(&mut input, label.as_bytes());
        put_vector(&mut input, value);
        self.hash(&input)
    }

    /// A fresh HPKE key pair: secret and public.
    pub(crate) fn key_pair(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let seed = self.random::<DIGEST_BYTES>()?;
        let pair = self
            .crypto
            .derive_hpke_keypair(self.suite.hpke_config(), &seed);
        let HpkeKeyPair { private, public } = pair.ok()?;
        Some((private.to_vec(), public))
    }

    /// Random bytes of the machine's generator.
    pub(crate) fn random<const N: usize>(&self) -> Option<[u8; N]> {
        self.crypto.random_array().ok()
    }

    /// Seals to a public key, in HPKE's base mode: encapsulated key and ciphertext.
    pub(crate) fn seal(
        &self,
        public: &[u8],
        info: &[u8],
        plaintext: &[u8],
    ) -> Option<(Vec<u8>, Vec<u8>)> {
        let config = self.suite.hpke_config();
        let sealed = self.crypto.hpke_seal(config, public, info, b"", plaintext);
        let HpkeCiphertext {
            kem_output,
            ciphertext,
        } = sealed.ok()?;
        Some((kem_output.into(), ciphertext.into()))
    }

    /// Opens what was sealed to the public key of this secret one.
    pub(crate) fn open(
        &self,
        secret: &[u8],
        info: &[u8],
        kem_output: &[u8],
        ciphertext: &[u8],
    ) -> Option<Vec<u8>> {
        let sealed = HpkeCiphertext {
            kem_output: kem_output.to_vec().into(),
            ciphertext: ciphertext.to_vec().into(),
        };
        let config = self.suite.hpke_config();
        self.crypto
            .hpke_open(config, &sealed, secret, info, b"")
            .ok()
    }

    /// Whether `signature` is the signature of `content` (in parts) under `label`: `VerifyWithLabel`.
    pub(crate) fn verifies(
        &self,
        key: &[u8],
        label: &str,
        content: &[&[u8]],
        signature: &[u8],
    ) -> bool {
        let content_bytes = content.iter().map(|part| part.len()).sum();
        let mut signed = Vec::with_capacity(content_bytes + label.len() + 16);
        put_length(&mut signed, "MLS 1.0 ".len() + label.len());
        signed.extend_from_slice(b"MLS 1.0 ");
        signed.extend_from_slice(label.as_bytes());
        put_length(&mut signed, content_bytes);
        for part in content {
            signed.extend_from_slice(part);
        }
        self.crypto
            .verify_signature(self.suite.signature_algorithm(), &signed, key, signature)
            .is_ok()
    }
}
