//! What a requester of the links is told when the shard did not take its command.

use crate::cluster::shard::NotQueued;
use mimi_actors::link::Redriven;

/// What whoever asked for a redrive is told.
pub(crate) fn not_queued(refused: NotQueued) -> Redriven {
    match refused {
        NotQueued::StorageFull => Redriven::StorageFull,
        NotQueued::TryLater(later) => Redriven::TryLater(later),
    }
}
