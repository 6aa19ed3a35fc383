//! Questions that have waited long enough for an answer.

use super::{plan::NodeRef, post::Task, world::World};
use crate::way::{Came, Slot};

impl World {
    /// A task has waited long enough for an answer.
    pub(super) fn task_is_late(&mut self, node: NodeRef, task: u64, slot: Slot) {
        let Some(is) = self.nodes.get_mut(&node) else {
            return;
        };
        match is.tasks.get_mut(&task) {
            Some(Task::Way { .. }) => self.came(node, task, slot, Came::Nothing),
            Some(Task::Deliver { lane, .. }) => {
                let lane = *lane;
                is.tasks.remove(&task);
                self.cut_lanes_where(|number| number == lane);
            }
            Some(Task::Judge { .. }) => self.judging_is_late(node, task),
            Some(Task::Notice { shard, to, .. }) => {
                let (shard, to) = (*shard, *to);
                is.tasks.remove(&task);
                self.notice_lost(node, shard, to);
            }
            None => {}
        }
    }
}
