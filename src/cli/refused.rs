//! What a running node says no to.

use crate::admin::protocol::Code;

/// What a running node refused.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct Refused {
    /// The word for machines.
    pub code: Code,
    /// Why, and what to do about it.
    pub why: String,
    /// When to try again, where that is known.
    pub retry_after_ms: Option<u32>,
}
