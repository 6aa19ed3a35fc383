//! Notices between the shards of a provider, and the bells of its clients.

use super::{
    plan::NodeRef,
    post::{Answered, Back, Target, Task},
    world::{Event, World},
};
use crate::{
    link::{self, Peer},
    record::Command,
    shard::{News, read},
    user::outcome::{Answer as UserAnswer, Refused as UserRefused},
    wire::event::LinkSeq,
};
use std::sync::Arc;

impl World {
    /// Carries the next notice to each shard of the same provider.
    pub(super) fn pump_notices(&mut self, node: NodeRef, shard: u16) {
        for to in 0..self.shards(node.provider) {
            let Some(own) = self.shard_mut(node, shard) else {
                return;
            };
            let Some((acked, last)) = own
                .derived
                .links
                .outgoing(&Peer::Shard(to))
                .map(|owed| (owed.acked(), owed.last()))
            else {
                continue;
            };
            let under_way = own.notices.get(&to).is_some_and(|seq| *seq > acked);
            if acked == last || under_way {
                continue;
            }
            let (seq, carried) = match read::notice(own, shard, to, acked.next()) {
                Ok(Some(notice)) => notice,
                Ok(None) => continue,
                Err(error) => return self.history.violated("I2", error.to_string()),
            };
            own.notices.insert(to, seq);
            let task = self.begin(node, Task::Notice { shard, to, seq });
            let Some((user, command)) = carried else {
                continue;
            };
            let life = self.life(node);
            let back = Back::Task {
                node,
                life,
                task,
                slot: 0,
            };
            self.ask_for(node, Target::User(user, Arc::new(command)), back);
        }
    }

    /// A user's shard has answered a notice.
    pub(super) fn notice_taken(
        &mut self,
        node: NodeRef,
        shard: u16,
        to: u16,
        seq: LinkSeq,
        answer: &Answered,
    ) {
        let taken = matches!(
            answer,
            Answered::User(
                UserAnswer::Done | UserAnswer::Refused(UserRefused::Unknown | UserRefused::Deleted)
            )
        );
        if !taken {
            return self.notice_lost(node, shard, to);
        }
        let ack = link::Command::Ack {
            peer: Peer::Shard(to),
            upto: seq,
            refused: Vec::new(),
        };
        if !self.queue_command(node, shard, Command::Link(ack), None) {
            self.notice_lost(node, shard, to);
        }
    }

    pub(super) fn notice_lost(&mut self, node: NodeRef, shard: u16, to: u16) {
        if let Some(own) = self.shard_mut(node, shard) {
            own.notices.remove(&to);
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
