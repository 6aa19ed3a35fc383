//! Public keys: whether bytes are one of a ciphersuite, so that something can be sealed to it or verified with it.
//!
//! A key that is none harms more than its owner: who commits seals to every key of the tree, and cannot when one of
//! them is no point, or one that X25519 leads to zero from. Nothing is sealed to find out: that would cost a Commit as
//! many operations as its path has nodes.
//!
//! Source: RFC 9420, sections 5.1 and 10; RFC 9180, section 7.1.4; RFC 7748, section 6.1.

use ed25519_dalek::VerifyingKey;

/// The points of low order, as X25519 reads them: 0, 1, the two of order 8, p - 1, and p and p + 1, which are 0 and 1
/// again. With any secret they lead to zero, which RFC 9180 has everybody refuse.
const LOW_ORDER: [[u8; 32]; 7] = [
    [0; 32],
    number(1, 0, 0),
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4,
        0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49,
        0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef,
        0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f,
        0x11, 0x57,
    ],
    number(0xec, 0xff, 0x7f),
    number(0xed, 0xff, 0x7f),
    number(0xee, 0xff, 0x7f),
];

/// A number by its lowest byte, those in between and its highest.
const fn number(lowest: u8, between: u8, highest: u8) -> [u8; 32] {
    let mut bytes = [between; 32];
    let [first, .., last] = &mut bytes;
    *first = lowest;
    *last = highest;
    bytes
}

/// Whether something can be sealed to a key of X25519.
pub(super) fn is_x25519(key: &[u8]) -> bool {
    let Ok(mut read) = <[u8; 32]>::try_from(key) else {
        return false;
    };
    // X25519 does not look at the topmost bit.
    let [.., last] = &mut read;
    *last &= 0x7f;
    !LOW_ORDER.contains(&read)
}

/// Whether a key is a point of P-256, written without compression; to seal to or to verify with.
pub(super) fn is_p256(key: &[u8]) -> bool {
    const UNCOMPRESSED: u8 = 4;
    key.first() == Some(&UNCOMPRESSED) && p256::PublicKey::from_sec1_bytes(key).is_ok()
}

/// Whether a key is a point of Ed25519 under which not just anybody can sign.
pub(super) fn is_ed25519(key: &[u8]) -> bool {
    let key = key.try_into().ok();
    key.and_then(|key| VerifyingKey::from_bytes(key).ok())
        .is_some_and(|key| !key.is_weak())
}

#[cfg(test)]
mod tests {
    use super::{super::suite::Suite, *};

    #[test]
    fn a_key_is_taken_exactly_if_something_can_be_sealed_to_it() {
        let x25519 = Suite::new(1).unwrap();
        let sealed = |key: &[u8]| x25519.seal(key, b"", b"").is_some();
        for low in LOW_ORDER {
            let mut high = low;
            high[31] |= 0x80;
            for key in [low, high] {
                assert!(!sealed(&key) && !is_x25519(&key), "{key:02x?}");
            }
            // Its neighbours are no worse than any other key.
            for change in [2, 4, 8] {
                let mut near = low;
                near[1] ^= change;
                assert!(sealed(&near) && is_x25519(&near), "{near:02x?}");
            }
        }
        for suite in 1..=3 {
            let suite = Suite::new(suite).unwrap();
            let (_, public) = suite.key_pair().unwrap();
            assert!(suite.is_encryption_key(&public));
            assert!(!suite.is_encryption_key(&public[1..]));
            assert!(!suite.is_encryption_key(&[&public[..], &[0]].concat()));
        }
    }

    #[test]
    fn a_point_of_p256_is_on_the_curve_and_not_compressed() {
        let suite = Suite::new(2).unwrap();
        let (_, public) = suite.key_pair().unwrap();
        assert!(suite.is_encryption_key(&public) && suite.is_signature_key(&public));
        let mut beside = public.clone();
        beside[64] ^= 1;
        let mut hybrid = public.clone();
        hybrid[0] = 6 | public[64] & 1;
        let compressed = [&[2 | public[64] & 1], &public[1..33]].concat();
        for none in [beside, hybrid, compressed, vec![4; 65], vec![0]] {
            assert!(!suite.is_encryption_key(&none), "{none:02x?}");
            assert!(!suite.is_signature_key(&none), "{none:02x?}");
        }
    }

    #[test]
    fn a_key_of_ed25519_is_a_point_that_is_not_weak() {
        let suite = Suite::new(1).unwrap();
        let base = number(0x58, 0x66, 0x66);
        assert!(suite.is_signature_key(&base));
        // No point has this y; and the points of order 1, 2 and 4.
        let weak = [number(1, 0, 0), number(0xec, 0xff, 0x7f), [0; 32]];
        for none in [number(2, 0, 0)].into_iter().chain(weak) {
            assert!(!suite.is_signature_key(&none), "{none:02x?}");
        }
        assert!(!suite.is_signature_key(&base[1..]));
    }
}
