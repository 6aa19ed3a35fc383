//! Requests on their way through a provider: from the node at whose door they came to the shard's leader, and back.

use super::{Event, REQUEST_DEADLINE_MS, World};
use crate::sim::{
    led::{Led, PeerBack},
    plan::NodeRef,
    post::{Answered, Back, Body, ClientAsk, End, Reply, ShardAsk, Target, Task},
};
use crate::{
    caller::{Caller, Origin, Principal},
    record::Command,
    room::{desk, follower_desk},
    shard::{place, read},
    shard_request::{ShardReply, ShardRequest},
    user::{command::Command as UserCommand, desk as user_desk},
    way::{
        self, Came, Slot,
        client::OfClient,
        leader::{self, Taken},
        peer::OfPeer,
        route::{Lead, Route, is_lost, route, wait_ms_max},
    },
    wire::{BVec, link, refusal::TryLater, user},
};

/// When a request that found no leader may be sent again, in milliseconds.
pub(super) const LATER: TryLater = TryLater::unavailable(200);

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
        let house = self.house(node.provider);
        let uri = self.clients[client].uri.clone();
        let target = match ask {
            ClientAsk::Upload(packages) => {
                let way = OfClient::upload(&house, uri, BVec::first_max(packages));
                return self.lead_client(node, client, request, Ok(way), None);
            }
            ClientAsk::Ack(ack) => {
                let ack = UserCommand::Ack(ack);
                Target::Shard(ShardRequest::UserLog(uri.user().clone(), ack))
            }
            ClientAsk::Delete(user) => {
                let delete = user::Request::Delete;
                Target::Shard(ShardRequest::User(user, Principal::Operator, delete))
            }
            ClientAsk::Inbox(seen) => Target::LookInbox(uri, seen),
            ClientAsk::Room { room, read, upto } => Target::LookRoom {
                room,
                reader: uri,
                read,
                upto,
            },
            ClientAsk::Claim(claim) => {
                let (id, key) = (claim.id, super::client::device_key(&uri));
                let way = OfClient::claim(&house, &uri, Some(&key), claim);
                return self.lead_client(node, client, request, way, Some(id));
            }
            ClientAsk::To(room, asked) => {
                let way = OfClient::room(&house, Caller::of(uri), room, asked);
                return self.lead_client(node, client, request, way, None);
            }
            ClientAsk::Verdicts(asked) => {
                let way = OfClient::verdicts(&house, uri, asked);
                return self.lead_client(node, client, request, way, None);
            }
            ClientAsk::Send(send) => Target::Shard(way::client::send(&house.own, &uri, send)),
        };
        self.ask_for(node, target, Back::Client { client, request });
    }

    /// A request of another provider.
    fn peer_asks(&mut self, node: NodeRef, back: PeerBack, request: link::Request) {
        let claim = match &request {
            link::Request::Claim(claim) | link::Request::Relayed(claim) => Some(claim.id),
            _ => None,
        };
        let origin = Origin::of(self.id(back.node.provider).clone());
        let way = OfPeer::new(&self.house(node.provider), origin, request);
        self.lead(node, Led::Peer { back, way }, claim);
    }

    /// Asks a shard for a task, or a lane, that does not wait for ever.
    pub(super) fn ask_in_time(
        &mut self,
        node: NodeRef,
        task: u64,
        slot: Slot,
        request: ShardRequest,
    ) {
        let life = self.life(node);
        let late = Event::Deadline {
            node,
            life,
            task,
            slot,
        };
        self.after(REQUEST_DEADLINE_MS, late);
        let back = Back::Task {
            node,
            life,
            task,
            slot,
        };
        self.ask_for(node, Target::Shard(request), back);
    }

    pub(super) fn respond(&mut self, node: NodeRef, back: PeerBack, reply: link::Reply) {
        let body = Body::Response {
            life: back.life,
            task: back.task,
            slot: back.slot,
            reply,
        };
        self.send(End::Node(node), End::Node(back.node), body);
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
    pub(super) fn ask_shard(&mut self, node: NodeRef, ask: ShardAsk) {
        let ShardAsk {
            mut target,
            back,
            hops,
        } = ask;
        let whose = match &target {
            Target::Shard(request) => request.whose(),
            Target::LookRoom { room, .. } => room.to_string(),
            Target::LookInbox(client, _) => client.user().to_string(),
        };
        if let Target::Shard(request) = target {
            target = Target::Shard(request.waiting_at_most(wait_ms_max(REQUEST_DEADLINE_MS)));
        }
        let shard = place(&whose, self.shards(node.provider));
        match route(self.lead_of(node, shard), hops) {
            Route::Here => {
                // What only reads may be a little behind; whatever takes or decides may not.
                let looks = !matches!(target, Target::Shard(_));
                if looks || self.is_confirmed(node, shard) {
                    return self.take_ask(node, shard, target, back);
                }
                self.counts
                    .one("requests refused by a leader without a majority");
                self.give(node, back, Answered::Shard(ShardReply::Nobody));
            }
            Route::PassOn(leader) => {
                if let Back::Task { task, slot, .. } = back
                    && let Some(is) = self.nodes.get_mut(&node)
                {
                    is.passed_on.insert((task, slot), (shard, leader));
                }
                let hops = hops + 1;
                let ask = ShardAsk { target, back, hops };
                self.send(End::Node(node), End::Node(leader), Body::Forward(ask));
            }
            Route::NoLeader => self.give(node, back, Answered::Shard(ShardReply::Nobody)),
        }
    }

    /// The nodes of a provider see who leads a shard now: what was passed on to somebody else is not waited for.
    pub(super) fn lead_seen(&mut self, provider: u8, shard: u16) {
        let nodes = self.plan.nodes().filter(|node| node.provider == provider);
        for node in nodes.collect::<Vec<_>>() {
            let lead = self.lead_of(node, shard);
            let passed_on = self.nodes.get(&node).map(|is| is.passed_on.clone());
            for ((task, slot), (of, leader)) in passed_on.unwrap_or_default() {
                if of == shard && is_lost(leader, &lead) {
                    self.counts.one("requests lost with their leader");
                    let nobody = Answered::Shard(ShardReply::Nobody);
                    self.task_hears(node, task, slot, nobody);
                }
            }
        }
    }

    /// Who leads a shard, as a node sees it.
    fn lead_of(&self, node: NodeRef, shard: u16) -> Lead<NodeRef> {
        if self.leads(node, shard) {
            return Lead::Here;
        }
        let leader = self.leader_for(node, shard);
        leader.map_or(Lead::Nobody, Lead::At)
    }

    /// A request that this node's leader takes.
    fn take_ask(&mut self, node: NodeRef, shard: u16, target: Target, back: Back) {
        match target {
            Target::Shard(request) => self.take_request(node, shard, request, back),
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
                        self.give(node, back, Answered::Looked(reply));
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
                        self.give(node, back, Answered::Looked(reply));
                    }
                    Err(error) => self.history.violated("I2", error.to_string()),
                }
            }
        }
    }

    /// A request that the actors of this node take, as those of a real one do.
    fn take_request(&mut self, node: NodeRef, shard: u16, request: ShardRequest, back: Back) {
        let now = self.clock(node);
        let ticket = self.ticket(node, shard, back);
        let Some(own) = self.shard(node, shard) else {
            return;
        };
        match leader::take(request, ticket, &own.derived, now) {
            Taken::Hub(room, input) => self.input::<desk::Desk>(node, &room, input),
            Taken::Follower(room, input) => self.input::<follower_desk::Desk>(node, &room, input),
            Taken::User(user, input) => self.input::<user_desk::Desk>(node, &user, input),
            Taken::DeviceKey(client) => {
                let user = own.users.get(client.user());
                let key = user.map(|user| leader::device_key(&user.fold, &client));
                let reply = key.unwrap_or(ShardReply::DeviceKey(None));
                self.answer(node, ticket, reply);
            }
            Taken::Knows(room, provider) => {
                let hub = own.hubs.get(&room);
                let knows = hub.map(|hub| leader::knows(&hub.fold, &provider));
                self.answer(node, ticket, knows.unwrap_or(ShardReply::Knows(false)));
            }
            Taken::Answered(reply) => self.answer(node, ticket, reply),
            Taken::Log(command) => {
                if !self.queue_command(node, shard, Command::Link(command), Some(ticket)) {
                    self.answer(node, ticket, ShardReply::Nobody);
                }
            }
            Taken::Name(take) => {
                if !self.queue_command(node, shard, Command::Name(take), Some(ticket)) {
                    self.answer(node, ticket, ShardReply::Nobody);
                }
            }
            Taken::LogOwn(command) => {
                let queued = self.queue_command(node, shard, Command::Link(command), None);
                let reply = if queued {
                    ShardReply::Done
                } else {
                    ShardReply::Nobody
                };
                self.answer(node, ticket, reply);
            }
        }
    }

    /// Brings an answer to whoever waits for it.
    pub(super) fn give(&mut self, at: NodeRef, back: Back, answer: Answered) {
        match back {
            Back::Nobody => {}
            Back::Client { client, request } => {
                let reply = match answer {
                    Answered::Shard(ShardReply::Room(answer)) => Reply::Room(answer),
                    Answered::Shard(ShardReply::User(answer)) => Reply::User(answer),
                    Answered::Looked(reply) => reply,
                    Answered::Shard(_) => Reply::Unavailable,
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
    pub(super) fn task_hears(&mut self, node: NodeRef, task: u64, slot: Slot, answer: Answered) {
        let Answered::Shard(reply) = answer else {
            return;
        };
        let Some(is) = self.nodes.get_mut(&node) else {
            return;
        };
        is.passed_on.remove(&(task, slot));
        match is.tasks.get(&task) {
            Some(Task::Way { .. }) => {
                let came = match reply {
                    ShardReply::Nobody => Came::Nothing,
                    reply => Came::Shard(reply),
                };
                self.came(node, task, slot, came);
            }
            Some(Task::Notices { .. }) => self.notice_came(node, task, slot, &reply),
            // A lane waits under its own number.
            None => self.part_came(node, task, slot, reply),
        }
    }
}
