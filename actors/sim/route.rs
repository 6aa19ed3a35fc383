//! Requests on their way through a provider: from the node at whose door they came to the shard's leader, and back.

use super::{
    mls,
    plan::NodeRef,
    post::{Answered, Back, Body, ClientAsk, End, PeerBack, Reply, ShardAsk, Target, Task},
    world::{Event, REQUEST_DEADLINE_MS, World},
};
use crate::{
    caller::Caller,
    doors::{self, PeerAsk, Sending},
    room::{
        desk, follower, follower_desk,
        outcome::{Answer, Refused},
    },
    shard::read,
    user::{
        command::{Command as UserCommand, Upload},
        desk as user_desk,
        outcome::Answer as UserAnswer,
    },
    wire::{claim::UserRefused, joining::Introduced, link, refusal::TryLater},
};
use std::sync::Arc;

/// Nodes that a request is passed on to before it is given up.
const HOPS_MAX: u8 = 3;
/// When a request that found no leader may be sent again, in milliseconds.
pub(super) const UNAVAILABLE_RETRY_AFTER_MS: u32 = 200;

/// The refusal of a request about which nothing is known.
pub(super) fn unavailable() -> Answer {
    Answer::Refused(Refused::TryLater(TryLater::unavailable(
        UNAVAILABLE_RETRY_AFTER_MS,
    )))
}

impl World {
    /// Something arrives at a node that runs.
    pub(super) fn node_hears(&mut self, node: NodeRef, from: End, body: Body) {
        match (body, from) {
            (Body::Ask { request, ask }, End::Client(client)) => {
                self.client_asks(node, client, request, ask);
            }
            (Body::Forward(ask), _) => self.ask_shard(node, ask),
            (
                Body::Answered {
                    life,
                    task,
                    slot,
                    answer,
                },
                _,
            ) => {
                if self.life(node) == life {
                    self.task_hears(node, task, slot, answer);
                }
            }
            (Body::Install { shard, install }, End::Node(from)) => {
                self.take_install(node, from, shard, &install);
            }
            (Body::Append { shard, append }, End::Node(from)) => {
                self.take_append(node, from, shard, &append);
            }
            (
                Body::Appended {
                    life,
                    shard,
                    answer,
                },
                End::Node(from),
            ) => {
                if self.life(from) == life {
                    self.take_appended(node, from, shard, answer);
                }
            }
            (
                Body::Request {
                    life,
                    task,
                    slot,
                    request,
                },
                End::Node(from),
            ) => {
                let back = PeerBack {
                    node: from,
                    life,
                    task,
                    slot,
                };
                self.peer_asks(node, back, request);
            }
            (
                Body::Response {
                    life,
                    task,
                    slot,
                    reply,
                },
                End::Node(from),
            ) => {
                if self.life(node) == life {
                    self.peer_replied(node, from.provider, task, slot, reply);
                }
            }
            (Body::Lane { lane, frame }, _) => self.frame_arrives(node, lane, frame),
            (
                Body::Ask { .. }
                | Body::Append { .. }
                | Body::Install { .. }
                | Body::Appended { .. }
                | Body::Request { .. }
                | Body::Response { .. }
                | Body::Reply { .. },
                _,
            ) => {}
        }
    }

    /// A client's request, at the door of one of its provider's nodes.
    fn client_asks(&mut self, node: NodeRef, client: usize, request: u64, ask: ClientAsk) {
        let own = self.id(node.provider).clone();
        let uri = self.clients[client].uri.clone();
        let back = Back::Client { client, request };
        let target = match ask {
            ClientAsk::Upload(packages) => {
                let (kind, now) = (self.kind, self.clock(node));
                let check = |package| mls::check_package(kind, &package, &uri, now);
                let packages = packages.into_iter().map(check).collect();
                let upload = Upload {
                    client: uri.clone(),
                    packages,
                };
                Target::User(uri.user().clone(), Arc::new(UserCommand::Upload(upload)))
            }
            ClientAsk::Ack(ack) => {
                Target::User(uri.user().clone(), Arc::new(UserCommand::Ack(ack)))
            }
            ClientAsk::Delete(user) => Target::User(user, Arc::new(UserCommand::Delete)),
            ClientAsk::Inbox(seen) => Target::LookInbox(uri, seen),
            ClientAsk::Room { room, read, upto } => Target::LookRoom {
                room,
                reader: uri,
                read,
                upto,
            },
            ClientAsk::Claim(claim) => return self.client_claims(node, client, request, claim),
            ClientAsk::To(room, asked) => {
                let Ok(ask) = doors::of_client(&own, &uri, room, asked) else {
                    return;
                };
                match ask {
                    doors::ClientAsk::Here(room, asked) => {
                        Target::Room(room, Caller::of(uri), asked)
                    }
                    doors::ClientAsk::Peer(hub, asked) => {
                        let task = self.begin(node, Task::Relay { client, request });
                        return self.ask_peer(node, &hub, task, 0, asked);
                    }
                }
            }
            ClientAsk::Send(send) => match Sending::new(&own, &uri, send) {
                (room, Sending::Here(submit)) => Target::Submit(room, submit),
                (room, Sending::Follower(queue)) => {
                    Target::Follower(room, follower::Command::Queue(queue))
                }
            },
        };
        self.ask_for(node, target, back);
    }

    /// Begins to wait for something, not for ever.
    pub(super) fn begin(&mut self, node: NodeRef, task: Task) -> u64 {
        let number = self.fresh();
        if let Some(is) = self.nodes.get_mut(&node) {
            is.tasks.insert(number, task);
        }
        let life = self.life(node);
        self.after(
            REQUEST_DEADLINE_MS,
            Event::Deadline {
                node,
                life,
                task: number,
            },
        );
        number
    }

    pub(super) fn ask_peer(
        &mut self,
        node: NodeRef,
        hub: &crate::ids::ProviderId,
        task: u64,
        slot: usize,
        request: link::Request,
    ) {
        let to = self.provider(hub).and_then(|hub| self.some_node(hub));
        let Some(to) = to else { return };
        let life = self.life(node);
        let body = Body::Request {
            life,
            task,
            slot,
            request,
        };
        self.send(End::Node(node), End::Node(to), body);
    }

    /// A request of another provider.
    fn peer_asks(&mut self, node: NodeRef, back: PeerBack, request: link::Request) {
        let own = self.id(node.provider).clone();
        let peer = self.id(back.node.provider).clone();
        match doors::of_peer(&own, &peer, request) {
            Ok(PeerAsk::Claim(claim)) => self.claim_here(node, back, &claim),
            Ok(PeerAsk::Relay(room, claim)) => {
                let claim = Box::new(claim);
                let task = self.begin(node, Task::Relaying { back, claim });
                let life = self.life(node);
                let back = Back::Task {
                    node,
                    life,
                    task,
                    slot: 0,
                };
                self.ask_for(node, Target::LookProvider(room, peer), back);
            }
            Ok(PeerAsk::Relayed(claim)) => {
                let asking = claim.terms.asking_client.as_ref();
                let vouched = asking
                    .is_some_and(|client| super::client::device_key(client) == claim.proof.key);
                if vouched {
                    return self.claim_here(node, back, &claim);
                }
                self.counts.one("claims that nobody vouches for");
                let users = doors::refuse_claim(&claim.users, UserRefused::Unsigned);
                self.respond(node, back, link::Reply::Claimed(users));
            }
            Ok(PeerAsk::Vouch(..)) => self.respond(node, back, link::Reply::Vouched(false)),
            Ok(PeerAsk::Room(room, client, asked)) => {
                let task = self.begin(node, Task::Room { back });
                let life = self.life(node);
                let back = Back::Task {
                    node,
                    life,
                    task,
                    slot: 0,
                };
                self.ask_for(node, Target::Room(room, Caller::of(client), asked), back);
            }
            // No client of the world has an introduction code.
            Ok(PeerAsk::Resolve(_)) => {
                let refused = link::Reply::Introduced(Introduced::NotAuthorized);
                self.respond(node, back, refused);
            }
            Err(refused) => {
                self.counts.one("requests of a peer refused at the door");
                self.respond(node, back, link::Reply::Refused(refused));
            }
        }
    }

    pub(super) fn respond(&mut self, node: NodeRef, back: PeerBack, reply: link::Reply) {
        if node == back.node {
            return self.peer_replied(node, node.provider, back.task, back.slot, reply);
        }
        let body = Body::Response {
            life: back.life,
            task: back.task,
            slot: back.slot,
            reply,
        };
        self.send(End::Node(node), End::Node(back.node), body);
    }

    /// Another provider, or this one for its part of a claim, has answered.
    fn peer_replied(
        &mut self,
        node: NodeRef,
        from: u8,
        task: u64,
        slot: usize,
        reply: link::Reply,
    ) {
        let Some(is) = self.nodes.get_mut(&node) else {
            return;
        };
        match is.tasks.get_mut(&task) {
            Some(Task::ClaimParts { parts, .. }) => {
                let claimed = match reply {
                    link::Reply::Claimed(response) => response.users.into_vec(),
                    link::Reply::Room(_)
                    | link::Reply::Introduced(_)
                    | link::Reply::Vouched(_)
                    | link::Reply::Refused(_) => Vec::new(),
                };
                if let Some(part) = parts.get_mut(slot)
                    && self.providers.iter().position(|id| *id == part.whom)
                        == Some(usize::from(from))
                {
                    let retry = TryLater::unavailable(UNAVAILABLE_RETRY_AFTER_MS);
                    part.claimed = Some(doors::complete_claim(&part.users, claimed, retry));
                }
                self.claim_parts_go_on(node, task);
            }
            Some(Task::Relay { client, request }) => {
                let (client, request) = (*client, *request);
                is.tasks.remove(&task);
                let reply = match reply {
                    link::Reply::Claimed(_)
                    | link::Reply::Introduced(_)
                    | link::Reply::Vouched(_) => Reply::Unavailable,
                    link::Reply::Room(answer) => Reply::Room(answer),
                    link::Reply::Refused(_) => Reply::Unavailable,
                };
                self.reply(node, client, request, reply);
            }
            Some(
                Task::Claim { .. }
                | Task::Relaying { .. }
                | Task::Room { .. }
                | Task::Deliver { .. }
                | Task::Judge { .. }
                | Task::Notice { .. },
            )
            | None => {}
        }
    }

    pub(super) fn reply(&mut self, node: NodeRef, client: usize, request: u64, reply: Reply) {
        self.send(
            End::Node(node),
            End::Client(client),
            Body::Reply { request, reply },
        );
    }

    /// Begins a request for a shard at this node.
    pub(super) fn ask_for(&mut self, node: NodeRef, target: Target, back: Back) {
        let hops = 0;
        self.ask_shard(node, ShardAsk { target, back, hops });
    }

    /// A request for a shard: it is for the leader, wherever that is.
    pub(super) fn ask_shard(&mut self, node: NodeRef, mut ask: ShardAsk) {
        let shard = match &ask.target {
            Target::Room(room, ..)
            | Target::Submit(room, _)
            | Target::Follower(room, _)
            | Target::LookProvider(room, _)
            | Target::LookRoom { room, .. } => self.shard_of_room(node.provider, room),
            Target::User(user, _) => self.shard_of_user(node.provider, user),
            Target::LookInbox(client, _) => self.shard_of_user(node.provider, client.user()),
        };
        let looks = matches!(ask.target, Target::LookInbox(..) | Target::LookRoom { .. });
        if self.leads(node, shard) {
            // What only reads may be a little behind; whatever takes or decides may not.
            if looks || self.is_confirmed(node, shard) {
                return self.take_ask(node, shard, ask);
            }
            self.counts
                .one("requests refused by a leader without a majority");
            return self.give(node, ask.back, Answered::Unavailable);
        }
        let leader = self.leader_for(node, shard);
        match leader {
            Some(leader) if ask.hops < HOPS_MAX => {
                ask.hops += 1;
                self.send(End::Node(node), End::Node(leader), Body::Forward(ask));
            }
            Some(_) | None => self.give(node, ask.back, Answered::Unavailable),
        }
    }

    /// A request that this node's leader takes.
    fn take_ask(&mut self, node: NodeRef, shard: u16, ask: ShardAsk) {
        let ShardAsk { target, back, .. } = ask;
        match target {
            Target::Room(room, caller, request) => {
                let ticket = self.ticket(node, shard, back);
                let input = desk::Input::Ask {
                    ticket,
                    caller,
                    request,
                };
                self.hub_input(node, &room, input);
            }
            Target::Submit(room, submit) => {
                let ticket = self.ticket(node, shard, back);
                self.hub_input(node, &room, desk::Input::Submit { ticket, submit });
            }
            Target::Follower(room, command) => {
                let ticket = self.ticket(node, shard, back);
                self.follower_input(node, &room, follower_desk::Input::asked(ticket, command));
            }
            Target::LookProvider(room, provider) => {
                let hub = self.shard(node, shard).and_then(|own| own.hubs.get(&room));
                let knows = hub.is_some_and(|hub| {
                    hub.fold
                        .room()
                        .is_some_and(|room| room.ever_had_member_of(&provider))
                });
                self.give(node, back, Answered::Knows(knows));
            }
            Target::User(user, mut command) => {
                let time = self.shard_time(node, shard);
                if let UserCommand::Claim(claim) = Arc::make_mut(&mut command)
                    && let Some(own) = self.shard(node, shard)
                {
                    claim.over_ms = own.derived.spending.wait_ms(time, claim);
                }
                let ticket = self.ticket(node, shard, back);
                self.user_input(node, &user, user_desk::Input::Ask { ticket, command });
            }
            Target::LookInbox(client, seen) => {
                let Some(own) = self.shard(node, shard) else {
                    return;
                };
                let actor = own.users.get(client.user());
                let rooms = actor.map(|actor| {
                    let rooms = actor.fold.memberships(&client);
                    rooms.map(|(room, is)| (room.clone(), is)).collect()
                });
                let items = actor.map(|actor| {
                    let items = actor.fold.inbox(&client);
                    items
                        .filter(|item| item.seq > seen)
                        .map(|item| read::inbox_item(own, item))
                        .collect::<Result<Vec<_>, _>>()
                });
                match items.transpose() {
                    Ok(items) => {
                        let reply = Reply::Inbox {
                            rooms: rooms.unwrap_or_default(),
                            items: items.unwrap_or_default(),
                        };
                        self.give(node, back, Answered::Reply(reply));
                    }
                    Err(error) => self.history.violated("I2", error.to_string()),
                }
            }
            Target::LookRoom {
                room,
                reader,
                read: (given, order),
                upto,
            } => {
                let Some(own) = self.shard(node, shard) else {
                    return;
                };
                match read::room_events(own, &room, &reader, given, upto, order) {
                    Ok(part) => {
                        let read = (given, order);
                        let reply = Reply::Events { room, read, part };
                        self.give(node, back, Answered::Reply(reply));
                    }
                    Err(error) => self.history.violated("I2", error.to_string()),
                }
            }
        }
    }

    /// Brings an answer to whoever waits for it.
    pub(super) fn give(&mut self, at: NodeRef, back: Back, answer: Answered) {
        match back {
            Back::Nobody => {}
            Back::Client { client, request } => {
                let reply = match answer {
                    Answered::Room(answer) => Reply::Room(answer),
                    Answered::User(answer) => Reply::User(answer),
                    Answered::Reply(reply) => reply,
                    Answered::Knows(_) | Answered::Unavailable => Reply::Unavailable,
                };
                self.reply(at, client, request, reply);
            }
            Back::Task {
                node,
                life,
                task,
                slot,
            } => {
                if node == at {
                    if self.life(node) == life {
                        self.task_hears(node, task, slot, answer);
                    }
                    return;
                }
                let body = Body::Answered {
                    life,
                    task,
                    slot,
                    answer,
                };
                self.send(End::Node(at), End::Node(node), body);
            }
        }
    }

    /// A shard has answered a task.
    pub(super) fn task_hears(&mut self, node: NodeRef, task: u64, slot: usize, answer: Answered) {
        let Some(is) = self.nodes.get_mut(&node) else {
            return;
        };
        let Some(waiting) = is.tasks.get_mut(&task) else {
            return;
        };
        match waiting {
            Task::Claim { users, .. } => {
                let claimed = match answer {
                    Answered::User(UserAnswer::Claimed(claimed)) => claimed,
                    Answered::User(_)
                    | Answered::Room(_)
                    | Answered::Knows(_)
                    | Answered::Reply(_)
                    | Answered::Unavailable => Err(UserRefused::TryLater(TryLater::unavailable(
                        UNAVAILABLE_RETRY_AFTER_MS,
                    ))),
                };
                if let Some((_, part)) = users.get_mut(slot) {
                    *part = Some(claimed);
                }
                self.claim_goes_on(node, task);
            }
            Task::Room { back } => {
                let back = *back;
                is.tasks.remove(&task);
                let answer = match answer {
                    Answered::Room(answer) => answer,
                    Answered::User(_)
                    | Answered::Knows(_)
                    | Answered::Reply(_)
                    | Answered::Unavailable => unavailable(),
                };
                self.respond(node, back, link::Reply::Room(answer));
            }
            Task::Relaying { .. } => {
                let Some(Task::Relaying { back, claim }) = is.tasks.remove(&task) else {
                    return;
                };
                if let Answered::Knows(knows) = answer {
                    return self.relay_claim(node, back, *claim, knows);
                }
                let retry_after_ms = UNAVAILABLE_RETRY_AFTER_MS;
                let unavailable = UserRefused::TryLater(TryLater::unavailable(retry_after_ms));
                let users = doors::refuse_claim(&claim.users, unavailable);
                self.respond(node, back, link::Reply::Claimed(users));
            }
            Task::Deliver { .. } => self.delivered(node, task, slot, answer),
            Task::Judge { .. } => self.judged(node, task, slot, answer),
            Task::Notice { shard, to, seq } => {
                let (shard, to, seq) = (*shard, *to, *seq);
                is.tasks.remove(&task);
                self.notice_taken(node, shard, to, seq, &answer);
            }
            Task::ClaimParts { .. } | Task::Relay { .. } => {}
        }
    }
}
