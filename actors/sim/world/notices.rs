//! Notices between the shards of a provider, and the bells of its clients.

use super::{Event, World};
use crate::sim::{plan::NodeRef, post::Task};
use crate::{
    record::Command,
    shard::News,
    shard_request::ShardReply,
    way::{
        Slot,
        notices::{Carrying, Next},
    },
};

impl World {
    /// Carries what is owed to each shard of the same provider.
    pub(super) fn pump_notices(&mut self, node: NodeRef, shard: u16) {
        let Some(own) = self.shard(node, shard) else {
            return;
        };
        let mut rounds = Carrying::owed(shard, &own.derived.links);
        rounds.retain(|round| !own.notices.contains_key(&round.to()));
        for round in rounds {
            let (to, task) = (round.to(), self.fresh());
            if let Some(is) = self.nodes.get_mut(&node)
                && let Some(own) = is.shards.get_mut(usize::from(shard))
            {
                own.notices.insert(to, task);
                is.tasks.insert(task, Task::Notices { shard, round });
                self.carry(node, task);
            }
        }
    }

    /// A user's shard has answered a notice.
    pub(super) fn notice_came(&mut self, node: NodeRef, task: u64, slot: Slot, reply: &ShardReply) {
        let is = self.nodes.get_mut(&node);
        if let Some(Task::Notices { round, .. }) = is.and_then(|is| is.tasks.get_mut(&task)) {
            round.came(slot, reply);
            self.carry(node, task);
        }
    }

    fn carry(&mut self, node: NodeRef, task: u64) {
        // What is answered at once carries on by itself, and may end here.
        while let Some(is) = self.nodes.get_mut(&node)
            && let Some(Task::Notices { shard, round }) = is.tasks.get_mut(&task)
            && let Some(own) = is.shards.get_mut(usize::from(*shard))
        {
            let (shard, to) = (*shard, round.to());
            match round.next(&*own) {
                Ok(Next::Ask(slot, request)) => self.ask_in_time(node, task, slot, request),
                Ok(Next::Wait) => return,
                Ok(Next::Over(ack)) => {
                    if own.notices.get(&to) == Some(&task) {
                        own.notices.remove(&to);
                    }
                    is.tasks.remove(&task);
                    if let Some(ack) = ack {
                        self.queue_command(node, shard, Command::Link(ack), None);
                    }
                    return;
                }
                Err(error) => return self.history.violated("I2", error.to_string()),
            }
        }
    }

    /// Tells the clients of a provider that there is something to read.
    pub(super) fn ring(&mut self, provider: u8, news: &News) {
        let wanted: Vec<usize> = self
            .clients
            .iter()
            .enumerate()
            .filter(|(_, client)| {
                client.provider == provider
                    && !client.rung
                    && (news.users.contains(&client.uri)
                        || news
                            .rooms
                            .iter()
                            .any(|room| client.rooms.contains_key(room)))
            })
            .map(|(number, _)| number)
            .collect();
        for client in wanted {
            self.clients[client].rung = true;
            let wait = self.dice.between(1, self.plan.weather.delay_ms_max.max(1));
            self.after(wait, Event::Client(client));
        }
    }
}
