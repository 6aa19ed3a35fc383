//! What each effect means in the world: the second interpreter, beside `src/perform`.
//!
//! One exhaustive match for each kind of actor: an effect that one interpreter does not know does not build.
#![deny(clippy::wildcard_enum_match_arm)]

use super::{Event, World};
use crate::sim::{
    mls,
    node::{Order, Played},
    plan::NodeRef,
    post::{Answered, Back},
};
use crate::{
    ids::{RoomUri, UserUri},
    kind::NotAppended,
    machine::{CommandOf, Effect, EffectOf, Ticket},
    room::{codes::CodeFlaw, desk, follower_desk, hub},
    shard_request::ShardReply,
    user::desk as user_desk,
    wire::{event::Hash, refusal::TryLater},
};
use std::sync::Arc;

/// When a request that the log did not take may be sent again, in milliseconds.
const RETRY_AFTER_MS: u32 = 250;

/// What is made of what only a kind of actor orders.
trait OwnOrders: Played {
    fn carry_out(world: &mut World, node: NodeRef, shard: u16, key: &Self::Key, own: Self::Own);

    /// A command as it goes into the log of this node.
    fn marked(
        _: &World,
        _: NodeRef,
        _: u16,
        command: Arc<CommandOf<Self>>,
    ) -> Arc<CommandOf<Self>> {
        command
    }
}

impl OwnOrders for desk::Desk {
    fn carry_out(world: &mut World, node: NodeRef, shard: u16, room: &RoomUri, own: desk::Own) {
        world.perform_own_of_hub(node, shard, room, own);
    }

    fn marked(
        world: &World,
        node: NodeRef,
        shard: u16,
        command: Arc<hub::Command>,
    ) -> Arc<hub::Command> {
        let items_max = world.plan.weather.backlog_items_max;
        match world.shard(node, shard) {
            Some(own) => own.derived.mark_lagging_providers(command, items_max),
            None => command,
        }
    }
}

impl OwnOrders for follower_desk::Desk {
    fn carry_out(
        world: &mut World,
        node: NodeRef,
        _: u16,
        room: &RoomUri,
        own: follower_desk::Own,
    ) {
        let follower_desk::Own::Wake { after_ms } = own;
        let life = world.nodes.get(&node).map_or(0, |is| is.life);
        let room = room.clone();
        let wake = Event::WakeFollower { node, life, room };
        world.after(after_ms.into(), wake);
    }
}

impl OwnOrders for user_desk::Desk {
    fn carry_out(world: &mut World, node: NodeRef, _: u16, user: &UserUri, own: user_desk::Own) {
        let user_desk::Own::Draw { ticket } = own;
        let hash = Hash::of_parts([user.to_string().as_bytes(), &ticket.0.to_be_bytes()]);
        let random = hash.0.first_chunk().copied();
        world.input::<Self>(node, user, user_desk::Input::Drawn { ticket, random });
    }
}

impl World {
    /// Carries out one order of an actor.
    pub(super) fn perform(&mut self, node: NodeRef, shard: u16, order: Order) {
        match order {
            Order::Hub(room, effect) => self.perform_of::<desk::Desk>(node, shard, room, effect),
            Order::Follower(room, effect) => {
                self.perform_of::<follower_desk::Desk>(node, shard, room, effect);
            }
            Order::User(user, effect) => {
                self.perform_of::<user_desk::Desk>(node, shard, user, effect);
            }
        }
    }

    fn perform_of<D: OwnOrders>(
        &mut self,
        node: NodeRef,
        shard: u16,
        key: D::Key,
        effect: EffectOf<D>,
    ) {
        match effect {
            Effect::Append { ticket, command } => {
                let command = D::marked(self, node, shard, command);
                self.append_of::<D>(node, shard, key, ticket, command);
            }
            Effect::Answer { ticket, answer } => self.answer(node, ticket, D::reply(answer)),
            Effect::Own(own) => D::carry_out(self, node, shard, &key, own),
        }
    }

    /// Puts an actor's command into the queue in front of the log, or tells the actor that there is no place.
    fn append_of<D: OwnOrders>(
        &mut self,
        node: NodeRef,
        shard: u16,
        key: D::Key,
        ticket: Ticket,
        command: Arc<CommandOf<D>>,
    ) {
        let record = D::record(key.clone(), command);
        if !self.queue_command(node, shard, record, Some(ticket)) {
            let why = NotAppended::TryLater(TryLater::unavailable(RETRY_AFTER_MS));
            self.input::<D>(node, &key, D::not_appended(ticket, why));
        }
    }

    fn perform_own_of_hub(&mut self, node: NodeRef, shard: u16, room: &RoomUri, own: desk::Own) {
        match own {
            desk::Own::Wake { after_ms } => {
                let life = self.nodes.get(&node).map_or(0, |is| is.life);
                let room = room.clone();
                self.after(after_ms.into(), Event::Wake { node, life, room });
            }
            desk::Own::CodeRefused {
                ticket,
                command,
                joiner,
                flaw,
            } => {
                self.counts.one(match flaw {
                    CodeFlaw::Locked => "joining codes that were not looked at",
                    CodeFlaw::Unknown | CodeFlaw::Passphrase => "joining codes that were wrong",
                    CodeFlaw::Revoked | CodeFlaw::Expired | CodeFlaw::UsedUp => {
                        "joining codes that were over"
                    }
                });
                self.story.tell(self.now_ms, || {
                    format!("{node}  refuses a joining code of {joiner} for {room}: {flaw}")
                });
                if let Some(command) = command {
                    self.history.wrong_code_seen(room, &joiner);
                    let room = room.clone();
                    self.append_of::<desk::Desk>(node, shard, room, ticket, command);
                }
            }
            desk::Own::Check { ticket, check } => {
                let checked = Box::new(mls::check(self.kind, room.hub(), *check));
                self.history.checked(&checked);
                let usual = self.dice.between(1, self.plan.weather.check_ms_max.max(1));
                let is = self.nodes.get(&node);
                let (life, slow) = is.map_or((0, 1), |is| (is.life, is.slow));
                let room = room.clone();
                self.after(
                    usual * slow,
                    Event::Checked {
                        node,
                        life,
                        room,
                        ticket,
                        checked,
                    },
                );
            }
        }
    }

    /// Gives an input to the desk of an actor, and carries out what it orders.
    pub(super) fn input<D: Played>(&mut self, node: NodeRef, key: &D::Key, input: D::Input) {
        let shard = D::place(key, self.shards(node.provider));
        let now = self.shard_time(node, shard);
        let mut out = Vec::new();
        let Some(own) = self.shard_mut(node, shard) else {
            return;
        };
        let actor = own.actor::<D>(key);
        actor.desk.handle(input, now, &actor.fold, &mut out);
        let orders = out.into_iter();
        self.carry_out(
            node,
            shard,
            orders.map(|order| D::order(key.clone(), order)),
        );
    }

    fn carry_out(&mut self, node: NodeRef, shard: u16, orders: impl Iterator<Item = Order>) {
        for order in orders {
            if !self.boundary(node) {
                return;
            }
            self.perform(node, shard, order);
        }
    }

    /// A ticket for whoever waits for the shard.
    pub(super) fn ticket(&mut self, node: NodeRef, shard: u16, back: Back) -> Ticket {
        let ticket = Ticket(self.fresh());
        if let Some(is) = self.nodes.get_mut(&node) {
            is.waiting.insert(ticket, (shard, back));
        }
        ticket
    }

    /// Answers a ticket; whoever no longer waits is passed over.
    pub(super) fn answer(&mut self, node: NodeRef, ticket: Ticket, reply: ShardReply) {
        let waiting = self
            .nodes
            .get_mut(&node)
            .and_then(|is| is.waiting.remove(&ticket));
        if let Some((_, back)) = waiting {
            self.give(node, back, Answered::Shard(reply));
        }
    }
}
