//! Labelled signatures and public-key encryption of RFC 9420 for what is exchanged beside a group: the GroupInfo
//! exchange.
//!
//! Not here: what is signed and sealed (`group_info` of the crate does that). Sealing and key pairs draw randomness:
//! for workers and clients, never for a fold or desk.
//!
//! Source: RFC 9420, sections 5.1.2 and 5.1.3; transport requirements, section 3.3.

use super::{
    reader::{put_length, put_vector},
    suite::Suite,
};
use bytes::Bytes;

/// A key that cannot be used, or bytes that were not sealed to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key cannot be used, or the bytes were not sealed to it")]
pub struct NotSealed;

/// An HPKE key pair for one exchange.
pub struct SealingKey {
    secret: Vec<u8>,
    public: Bytes,
}

impl SealingKey {
    /// A fresh pair for a ciphersuite.
    ///
    /// # Errors
    /// [`NotSealed`] when the suite is not supported, or there is no randomness.
    pub fn generate(suite: u16) -> Result<Self, NotSealed> {
        let suite = Suite::new(suite).ok_or(NotSealed)?;
        let (secret, public) = suite.key_pair().ok_or(NotSealed)?;
        Ok(Self {
            secret,
            public: public.into(),
        })
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> &Bytes {
        &self.public
    }

    /// Opens what was sealed to this key: `DecryptWithLabel`.
    ///
    /// # Errors
    /// [`NotSealed`] when it was not, or not under this label and context.
    pub fn open(
        &self,
        suite: u16,
        label: &str,
        context: &[u8],
        kem_output: &[u8],
        ciphertext: &[u8],
    ) -> Result<Vec<u8>, NotSealed> {
        let suite = Suite::new(suite).ok_or(NotSealed)?;
        let info = encrypt_context(label, context);
        suite
            .open(&self.secret, &info, kem_output, ciphertext)
            .ok_or(NotSealed)
    }
}

/// Seals to a public key: `EncryptWithLabel`; gives the encapsulated key and the ciphertext.
///
/// # Errors
/// [`NotSealed`] when the suite is not supported or the key is none of it.
pub fn seal(
    suite: u16,
    public: &[u8],
    label: &str,
    context: &[u8],
    plaintext: &[u8],
) -> Result<(Vec<u8>, Vec<u8>), NotSealed> {
    let suite = Suite::new(suite).ok_or(NotSealed)?;
    let info = encrypt_context(label, context);
    suite.seal(public, &info, plaintext).ok_or(NotSealed)
}

/// Whether something can be sealed to a public key.
#[must_use]
pub fn is_sealing_key(suite: u16, public: &[u8]) -> bool {
    Suite::new(suite).is_some_and(|suite| suite.is_encryption_key(public))
}

/// The bytes that a signature under `label` is made over: `SignContent`.
#[must_use]
pub fn sign_content(label: &str, content: &[u8]) -> Vec<u8> {
    let mut signed = Vec::with_capacity(content.len() + label.len() + 16);
    put_length(&mut signed, "MLS 1.0 ".len() + label.len());
    signed.extend_from_slice(b"MLS 1.0 ");
    signed.extend_from_slice(label.as_bytes());
    put_vector(&mut signed, content);
    signed
}

/// Whether `signature` is the signature of `content` under `label`: `VerifyWithLabel`.
#[must_use]
pub fn verifies(suite: u16, key: &[u8], label: &str, content: &[u8], signature: &[u8]) -> bool {
    Suite::new(suite).is_some_and(|suite| suite.verifies(key, label, &[content], signature))
}

/// Random bytes.
#[must_use]
pub fn random<const N: usize>() -> Option<[u8; N]> {
    Suite::new(1)?.random()
}

fn encrypt_context(label: &str, context: &[u8]) -> Vec<u8> {
    sign_content(label, context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_for_its_key_its_label_and_its_context_alone() {
        for suite in 1..=3 {
            let (key, other) = (
                SealingKey::generate(suite).unwrap(),
                SealingKey::generate(suite).unwrap(),
            );
            assert!(is_sealing_key(suite, key.public()));
            let (kem, sealed) = seal(suite, key.public(), "label", b"context", b"secret").unwrap();
            let open = |key: &SealingKey, label, context: &[u8], kem: &[u8], sealed: &[u8]| {
                key.open(suite, label, context, kem, sealed)
            };
            let opened = open(&key, "label", b"context", &kem, &sealed);
            assert_eq!(opened.unwrap(), b"secret");
            assert!(open(&other, "label", b"context", &kem, &sealed).is_err());
            assert!(open(&key, "other", b"context", &kem, &sealed).is_err());
            assert!(open(&key, "label", b"other", &kem, &sealed).is_err());
            let mut cut = sealed.clone();
            *cut.last_mut().unwrap() ^= 1;
            assert!(open(&key, "label", b"context", &kem, &cut).is_err());
        }
    }

    #[test]
    fn a_key_of_another_form_is_none() {
        assert!(!is_sealing_key(1, &[]));
        assert!(!is_sealing_key(1, &[1; 31]));
        assert!(!is_sealing_key(1, &[0; 32]), "a point of low order");
        assert!(!is_sealing_key(2, &[4; 65]), "not a point of the curve");
        assert!(!is_sealing_key(4, &[1; 32]));
        assert!(seal(9, &[1; 32], "", b"", b"").is_err());
    }
}
