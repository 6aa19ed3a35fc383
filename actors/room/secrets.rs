//! Joining codes and passphrases as they are kept: hashes, compared in constant time.
//!
//! A code has as many random bits as its hash could be guessed by, so a fast hash is enough, keyed by the group: a code
//! of another room is none. A passphrase is a person's choice and gets a slow one. For workers.
//!
//! Source: transport requirements, section 7.3.

use super::codes::{Code, Passphrase};
use crate::{limits::CODES_PER_ROOM_MAX, wire::event::Hash, wire::joining::CodeId};
use argon2::{Algorithm, Argon2, Params, Version};
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};

/// Memory that hashing a passphrase takes, in KiB.
const PASSPHRASE_MEMORY_KIB: u32 = 19 << 10;
/// How often that memory is gone through.
const PASSPHRASE_PASSES: u32 = 2;

/// The hash under which a group's code is kept.
#[must_use]
pub fn hash_code(group_id: &[u8], code: &[u8]) -> Hash {
    let mut key = blake3::Hasher::new_derive_key("mimi-node 2026-11 joining code");
    key.update(group_id);
    Hash(*blake3::keyed_hash(key.finalize().as_bytes(), code).as_bytes())
}

/// The hash under which a passphrase is kept; `None` when there is no memory for it.
#[must_use]
pub fn hash_passphrase(passphrase: &str, salt: [u8; 16]) -> Option<Passphrase> {
    let params = Params::new(PASSPHRASE_MEMORY_KIB, PASSPHRASE_PASSES, 1, Some(32)).ok()?;
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut hash = [0; 32];
    argon
        .hash_password_into(passphrase.as_bytes(), &salt, &mut hash)
        .ok()?;
    Some(Passphrase { salt, hash })
}

/// Whether this is the passphrase.
#[must_use]
pub fn is_passphrase(kept: &Passphrase, passphrase: &str) -> bool {
    hash_passphrase(passphrase, kept.salt)
        .is_some_and(|hashed| hashed.hash.ct_eq(&kept.hash).into())
}

/// The code of this hash. Takes as long for a room with codes as for one without, and for one that does not exist.
#[must_use]
pub fn find_code<'a>(codes: &'a [(CodeId, Code)], hash: &Hash) -> Option<&'a (CodeId, Code)> {
    let none = u32::MAX;
    let mut found = none;
    for (place, at) in (0..CODES_PER_ROOM_MAX).zip(0_u32..) {
        let kept = codes
            .get(place)
            .map_or(Hash::default(), |(_, code)| code.hash);
        found.conditional_assign(&at, kept.0.ct_eq(&hash.0));
    }
    usize::try_from(found)
        .ok()
        .and_then(|found| codes.get(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(hash: Hash) -> Code {
        Code {
            hash,
            uses_left: None,
            not_after: None,
            role_index: None,
            passphrase: None,
            creator: crate::room::testing::alice(),
            revoked: false,
        }
    }

    #[test]
    fn a_code_is_found_by_its_hash_in_its_own_group_only() {
        let kept: Vec<_> = (0..3_u8)
            .map(|n| (CodeId(n.into()), code(hash_code(b"club", &[n; 16]))))
            .collect();
        for n in 0..3_u8 {
            let found = find_code(&kept, &hash_code(b"club", &[n; 16]));
            assert_eq!(found.map(|(id, _)| *id), Some(CodeId(n.into())));
        }
        assert_eq!(find_code(&kept, &hash_code(b"club", &[3; 16])), None);
        assert_eq!(find_code(&kept, &hash_code(b"den", &[1; 16])), None);
        assert_eq!(find_code(&[], &hash_code(b"club", &[1; 16])), None);
    }

    #[test]
    fn a_passphrase_is_known_by_its_salted_hash() {
        let kept = hash_passphrase("open sesame", [1; 16]).unwrap();
        assert!(is_passphrase(&kept, "open sesame"));
        assert!(!is_passphrase(&kept, "Open sesame"));
        assert!(!is_passphrase(&kept, ""));
        let salted = hash_passphrase("open sesame", [2; 16]).unwrap();
        assert_ne!(kept.hash, salted.hash);
    }
}
