//! What each effect means in the world: the second interpreter, beside `src/perform`.
//!
//! One exhaustive match for each kind of actor: an effect that one interpreter does not know does not build.
#![deny(clippy::wildcard_enum_match_arm)]

use super::{
    mls,
    node::Order,
    plan::NodeRef,
    post::{Answered, Back},
    world::{Event, World},
};
use crate::{
    ids::{RoomUri, UserUri},
    machine::{Desk, Ticket},
    record::Command,
    room::{codes::CodeFlaw, desk, follower_desk, outcome::Refused},
    shard_request::ShardReply,
    user::{desk as user_desk, outcome::Refused as UserRefused},
    wire::{event::Hash, refusal::TryLater},
};

/// When a request that the log did not take may be sent again, in milliseconds.
const RETRY_AFTER_MS: u32 = 250;

impl World {
    /// Carries out one order of an actor.
    pub(super) fn perform(&mut self, node: NodeRef, shard: u16, order: Order) {
        match order {
            Order::Hub(room, effect) => self.perform_hub(node, shard, room, effect),
            Order::Follower(room, effect) => self.perform_follower(node, shard, room, effect),
            Order::User(user, effect) => self.perform_user(node, shard, user, effect),
        }
    }

    fn perform_hub(&mut self, node: NodeRef, shard: u16, room: RoomUri, effect: desk::Effect) {
        match effect {
            desk::Effect::Append { ticket, command } => {
                let items_max = self.plan.weather.backlog_items_max;
                let command = match self.shard(node, shard) {
                    Some(own) => own.derived.mark_lagging_providers(command, items_max),
                    None => command,
                };
                let record = Command::Hub(room.clone(), command);
                if !self.queue_command(node, shard, record, Some(ticket)) {
                    let refused = Refused::TryLater(TryLater::unavailable(RETRY_AFTER_MS));
                    let refused = desk::Input::NotAppended { ticket, refused };
                    self.hub_input(node, &room, refused);
                }
            }
            desk::Effect::Answer { ticket, answer } => {
                self.answer(node, ticket, ShardReply::Room(answer));
            }
            desk::Effect::Wake { after_ms } => {
                let life = self.nodes.get(&node).map_or(0, |is| is.life);
                self.after(after_ms.into(), Event::Wake { node, life, room });
            }
            desk::Effect::CodeRefused {
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
                    self.history.wrong_code_seen(&room, &joiner);
                    let record = Command::Hub(room.clone(), command);
                    if !self.queue_command(node, shard, record, Some(ticket)) {
                        let refused = Refused::TryLater(TryLater::unavailable(RETRY_AFTER_MS));
                        let refused = desk::Input::NotAppended { ticket, refused };
                        self.hub_input(node, &room, refused);
                    }
                }
            }
            desk::Effect::Check { ticket, check } => {
                let checked = Box::new(mls::check(self.kind, *check));
                self.history.checked(&checked);
                let usual = self.dice.between(1, self.plan.weather.check_ms_max.max(1));
                let is = self.nodes.get(&node);
                let (life, slow) = is.map_or((0, 1), |is| (is.life, is.slow));
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

    fn perform_follower(
        &mut self,
        node: NodeRef,
        shard: u16,
        room: RoomUri,
        effect: follower_desk::Effect,
    ) {
        match effect {
            follower_desk::Effect::Append { ticket, command } => {
                let record = Command::Follower(room.clone(), command);
                if !self.queue_command(node, shard, record, Some(ticket)) {
                    let refused = Refused::TryLater(TryLater::unavailable(RETRY_AFTER_MS));
                    let refused = follower_desk::Input::NotAppended { ticket, refused };
                    self.follower_input(node, &room, refused);
                }
            }
            follower_desk::Effect::Answer { ticket, answer } => {
                self.answer(node, ticket, ShardReply::Room(answer));
            }
        }
    }

    fn perform_user(
        &mut self,
        node: NodeRef,
        shard: u16,
        user: UserUri,
        effect: user_desk::Effect,
    ) {
        match effect {
            user_desk::Effect::Append { ticket, command } => {
                let record = Command::User(user.clone(), command);
                if !self.queue_command(node, shard, record, Some(ticket)) {
                    let refused = UserRefused::TryLater(TryLater::unavailable(RETRY_AFTER_MS));
                    let refused = user_desk::Input::NotAppended { ticket, refused };
                    self.user_input(node, &user, refused);
                }
            }
            user_desk::Effect::Draw { ticket } => {
                let hash = Hash::of_parts([user.to_string().as_bytes(), &ticket.0.to_be_bytes()]);
                let random = hash.0.first_chunk().copied();
                self.user_input(node, &user, user_desk::Input::Drawn { ticket, random });
            }
            user_desk::Effect::Answer { ticket, answer } => {
                self.answer(node, ticket, ShardReply::User(answer));
            }
        }
    }

    /// Gives an input to the desk of a room at its hub, and carries out what it orders.
    pub(super) fn hub_input(&mut self, node: NodeRef, room: &RoomUri, input: desk::Input) {
        let shard = self.shard_of_room(node.provider, room);
        let now = self.shard_time(node, shard);
        let mut out = Vec::new();
        let Some(own) = self.shard_mut(node, shard) else {
            return;
        };
        let actor = own.hubs.entry(room.clone()).or_default();
        actor.desk.handle(input, now, &actor.fold, &mut out);
        let orders = out.into_iter();
        self.carry_out(
            node,
            shard,
            orders.map(|order| Order::Hub(room.clone(), order)),
        );
    }

    /// Gives an input to the desk of a followed room, and carries out what it orders.
    pub(super) fn follower_input(
        &mut self,
        node: NodeRef,
        room: &RoomUri,
        input: follower_desk::Input,
    ) {
        let shard = self.shard_of_room(node.provider, room);
        let now = self.shard_time(node, shard);
        let mut out = Vec::new();
        let Some(own) = self.shard_mut(node, shard) else {
            return;
        };
        let actor = own.followers.entry(room.clone()).or_default();
        actor.desk.handle(input, now, &actor.fold, &mut out);
        let orders = out.into_iter();
        let of = |order| Order::Follower(room.clone(), order);
        self.carry_out(node, shard, orders.map(of));
    }

    /// Gives an input to the desk of a user, and carries out what it orders.
    pub(super) fn user_input(&mut self, node: NodeRef, user: &UserUri, input: user_desk::Input) {
        let shard = self.shard_of_user(node.provider, user);
        let now = self.shard_time(node, shard);
        let mut out = Vec::new();
        let Some(own) = self.shard_mut(node, shard) else {
            return;
        };
        let actor = own.users.entry(user.clone()).or_default();
        actor.desk.handle(input, now, &actor.fold, &mut out);
        let orders = out.into_iter();
        self.carry_out(
            node,
            shard,
            orders.map(|order| Order::User(user.clone(), order)),
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
