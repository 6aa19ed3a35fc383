//! Questions that have waited long enough for an answer.

use super::World;
use crate::sim::{
    plan::NodeRef,
    post::{Answered, Task},
};
use crate::{
    shard_request::ShardReply,
    way::{Came, Slot},
};

impl World {
    /// A task, or a lane, has waited long enough for an answer.
    pub(super) fn task_is_late(&mut self, node: NodeRef, task: u64, slot: Slot) {
        let Some(is) = self.nodes.get_mut(&node) else {
            return;
        };
        is.passed_on.remove(&(task, slot));
        if let Some(Task::Way { .. }) = is.tasks.get(&task) {
            // Whom it waits for may be another provider.
            return self.came(node, task, slot, Came::Nothing);
        }
        self.task_hears(node, task, slot, Answered::Shard(ShardReply::Nobody));
    }
}
