//! What a requester of the links is told when the shard did not take its command.

use super::FULL_RETRY_AFTER_MS;
use crate::cluster::shard::NotQueued;
use mimi_actors::link::Redriven;

/// What whoever asked for a redrive is told.
pub(crate) fn not_queued(refused: NotQueued) -> Redriven {
    match refused {
        NotQueued::Full => Redriven::Unavailable {
            retry_after_ms: FULL_RETRY_AFTER_MS,
        },
        NotQueued::StorageFull => Redriven::StorageFull,
        NotQueued::Unavailable { retry_after_ms } => Redriven::Unavailable { retry_after_ms },
    }
}
