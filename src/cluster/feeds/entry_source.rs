//! A shard as the source of what is read out of its log.

use crate::cluster::{log::decoded::Decoded, shard::Shard};
use mimi_actors::shard::{
    Derived,
    read::{ReadError, Source},
};
use std::sync::Arc;

impl Source for Shard {
    type Held = Decoded;

    fn derived<R>(&self, look: impl FnOnce(&Derived) -> R) -> R {
        look(&self.looked_at())
    }

    fn entry(&self, index: u64) -> Result<Arc<Decoded>, ReadError> {
        self.entries.entry(index)
    }
}
