//! The key by which a provider signs as the hub of its rooms; all of its nodes have the same.

use anyhow::bail;
use mimi_quic::private::write_durably;
use ring::{rand::SystemRandom, signature::Ed25519KeyPair};
use std::path::Path;

/// Makes one.
///
/// # Errors
/// When it exists or cannot be written.
pub fn make(path: &Path) -> anyhow::Result<()> {
    if path.exists() {
        bail!(
            "{} exists; remove it first, it is not overwritten",
            path.display()
        );
    }
    let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
    let made = made.map_err(|_| anyhow::anyhow!("make the hub's key: no randomness"))?;
    write_durably(path, made.as_ref())
}
