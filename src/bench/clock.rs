//! The present, for benches that check MLS objects without a node.

use mimi_actors::machine::Millis;
use std::time::{SystemTime, UNIX_EPOCH};

/// The present, in which OpenMLS makes its KeyPackages.
pub(super) fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let ms = since.unwrap_or_default().as_millis();
    Millis(u64::try_from(ms).unwrap_or(u64::MAX))
}
