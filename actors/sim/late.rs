//! Tasks that have waited long enough.

use super::route::{UNAVAILABLE_RETRY_AFTER_MS, unavailable};
use super::{
    plan::NodeRef,
    post::{Reply, Task},
    world::World,
};
use crate::{
    doors::{self},
    wire::{claim::UserRefused, link, refusal::TryLater},
};

impl World {
    /// A task has waited long enough: what has not answered is unavailable.
    pub(super) fn task_is_late(&mut self, node: NodeRef, task: u64) {
        let Some(is) = self.nodes.get_mut(&node) else {
            return;
        };
        let later = TryLater::unavailable(UNAVAILABLE_RETRY_AFTER_MS);
        match is.tasks.get_mut(&task) {
            Some(Task::ClaimParts { parts, .. }) => {
                for part in parts.iter_mut() {
                    part.claimed.get_or_insert_with(|| {
                        doors::complete_claim(&part.users, Vec::new(), later)
                    });
                }
                self.claim_parts_go_on(node, task);
            }
            Some(Task::Relaying { .. }) => {
                if let Some(Task::Relaying { back, claim }) = is.tasks.remove(&task) {
                    let unavailable = UserRefused::TryLater(later);
                    let users = doors::refuse_claim(&claim.users, unavailable);
                    self.respond(node, back, link::Reply::Claimed(users));
                }
            }
            Some(Task::Claim { users, .. }) => {
                for (_, part) in users.iter_mut() {
                    part.get_or_insert(Err(UserRefused::TryLater(later)));
                }
                self.claim_goes_on(node, task);
            }
            Some(Task::Relay { client, request }) => {
                let (client, request) = (*client, *request);
                is.tasks.remove(&task);
                self.reply(node, client, request, Reply::Unavailable);
            }
            Some(Task::Room { back }) => {
                let back = *back;
                is.tasks.remove(&task);
                self.respond(node, back, link::Reply::Room(unavailable()));
            }
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
