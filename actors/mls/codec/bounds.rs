//! Bounds of small parts of MLS objects, which no other module needs.

/// Longest public key, signature, hash, tag or KEM output, in bytes (P-521 in DER, with room).
pub(crate) const KEY_BYTES_MAX: usize = 1_024;
/// Longest list of 16-bit numbers in capabilities, in bytes.
pub(crate) const CAPABILITY_LIST_BYTES_MAX: usize = 2 * 256;
/// Longest list of extensions of one object, in bytes.
pub(crate) const EXTENSIONS_BYTES_MAX: usize = 48 << 10;
/// Extensions of one object, at most.
pub(crate) const EXTENSIONS_MAX: usize = 64;
/// Longest ciphertext of one path or group secret, in bytes.
pub(crate) const SECRET_BYTES_MAX: usize = 4 << 10;
/// Nodes on the path from a leaf to the root, at most.
pub(crate) const PATH_NODES_MAX: usize = 16;
const _: () = assert!(crate::limits::TREE_NODES_MAX <= 1 << PATH_NODES_MAX);
/// Secrets in one Welcome, at most.
pub(crate) const WELCOME_SECRETS_MAX: usize = crate::limits::ADDS_PER_COMMIT_MAX;
