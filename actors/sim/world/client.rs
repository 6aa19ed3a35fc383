//! Clients: what they know, what they ask, and how often they ask again.
//!
//! A client never crashes and never lies about what it did; what it is told and what it reads goes to the checkers.

use super::{Event, World, reads::Reads};
use crate::sim::{
    history::codes::Presented,
    mls::Member,
    plan::{Flaw, NodeRef},
    post::{Body, ClientAsk, End, Reply},
};
use crate::{
    ids::{ClientUri, RoomUri, UserUri},
    machine::Millis,
    record::Command,
    user::command::{Add, Command as UserCommand, Consent, Enrol, StoredPackage, Upload},
    wire::{
        BVec, Payload,
        claim::ClaimId,
        door,
        event::{ClientSeq, Epoch, Hash, InboxSeq, RoomSeq},
        joining::CodesAsk,
        room::Beginning,
        tree::TreeContainer,
    },
};
use bytes::Bytes;
use std::{collections::BTreeMap, sync::Arc};

/// Where the base tree hash of a delta begins: behind version, epoch and its length.
const BASE_HASH_AT: usize = 10;

/// How long a client waits for an answer before it asks another node, in milliseconds.
const PATIENCE_MS: u64 = 1_200;
const POLL_MS: u64 = 1_500;
/// How long a client waits for verdicts, at most, in milliseconds.
const VERDICT_WAIT_MS: u64 = 2_000;
/// How often a claim is repeated for those of whom nothing is known.
pub(super) const CLAIM_TRIES_MAX: u32 = 8;

/// A message without a verdict.
#[derive(Clone, Debug)]
pub(super) struct Unsettled {
    pub(super) content: u64,
    pub(super) bytes: Bytes,
    /// Its provider has it.
    pub(super) queued: bool,
    /// The room knows it again when it comes under another number: its hub's shard was of the second level.
    pub(super) is_heard: bool,
    /// It was accepted before, under another number.
    pub(super) again: bool,
}

/// A Commit of which the stream has not told yet.
#[derive(Clone, Debug)]
pub(super) struct Staged {
    pub(super) commit: Bytes,
    /// The epoch that it would open.
    pub(super) opens: Epoch,
    /// It is external: the client comes in with it, whatever it has been before.
    pub(super) enters: bool,
}

/// What a client knows of a room.
#[derive(Debug, Default)]
pub(super) struct ClientRoom {
    /// The last event that is not its own.
    pub(super) after: RoomSeq,
    /// How far it has read, and where its stream stands.
    pub(super) reads: Reads,
    /// The last event that is its own, once that is known.
    pub(super) upto: Option<RoomSeq>,
    /// Whether the room exists, as far as it knows.
    pub(super) exists: bool,
    /// The number of its last message.
    pub(super) number: u64,
    pub(super) unsettled: BTreeMap<u64, Unsettled>,
    /// What it began with, if its group has a name.
    pub(super) beginning: Option<Beginning>,
    /// The last message that was accepted and that the room knows again, and its number.
    pub(super) heard: Option<(u64, Unsettled)>,
    pub(super) staged: Option<Staged>,
    /// Whether it is about to add somebody.
    pub(super) inviting: bool,
    /// Whether only one message is to be sent next, to learn which the room has.
    pub(super) probing: bool,
    /// The newest epoch that it was told it opened.
    pub(super) opened: Epoch,
    /// Whether it missed events, a Commit perhaps.
    pub(super) gapped: bool,
    /// Whether it cannot read the room any more because of that.
    pub(super) lost: bool,
}

impl ClientRoom {
    /// A message was accepted.
    pub(super) fn accepted(&mut self, number: u64) -> Option<Unsettled> {
        let message = self.unsettled.remove(&number)?;
        if message.is_heard {
            self.heard = Some((number, message.clone()));
        }
        Some(message)
    }
}

/// What a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Upload,
    Claim {
        room: Option<RoomUri>,
        id: ClaimId,
        tries: u32,
    },
    Create(RoomUri),
    /// The same group in another room.
    CreateTwin(RoomUri),
    Commit {
        room: RoomUri,
        commit: Bytes,
        flawed: bool,
        /// The newest epoch that the client knew it had opened when it asked.
        opened: Epoch,
        /// Whether it is an external Commit.
        entry: bool,
    },
    Propose {
        room: RoomUri,
        message: Bytes,
    },
    /// To enter with what another client tells, whose leaf it removes too, if it is an intruder's.
    GroupInfo {
        room: RoomUri,
        teller: usize,
        intruder: Option<Option<ClientUri>>,
        key: u64,
        /// The joining code that it presents, if it does.
        presented: Option<Presented>,
    },
    Codes {
        room: RoomUri,
        ask: CodesAsk,
    },
    Send {
        room: RoomUri,
        first: u64,
        count: u64,
    },
    Ack,
    Delete,
    Inbox,
    Read(RoomUri),
}

/// A request without an answer.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) ask: ClientAsk,
    pub(super) purpose: Purpose,
    pub(super) attempt: u32,
}

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) uri: ClientUri,
    pub(super) provider: u8,
    pub(super) member: Member,
    pub(super) rooms: BTreeMap<RoomUri, ClientRoom>,
    pub(super) inbox: InboxSeq,
    pub(super) rung: bool,
    next_poll_ms: u64,
    /// It looks for nothing until then.
    pub(super) away_until_ms: u64,
    pub(super) node: Option<NodeRef>,
    pub(super) requests: BTreeMap<u64, Pending>,
    /// Whether its user is being deleted, or is.
    pub(super) deleted: bool,
}

impl Client {
    /// All clients of a world.
    pub(super) fn all(world: &World) -> Vec<Self> {
        let mut clients = Vec::new();
        for (provider, shape) in (0_u8..).zip(&world.plan.providers) {
            let id = world.id(provider);
            let letter = char::from(b'a' + provider);
            for (user, count) in shape.users.iter().enumerate() {
                for client in 0..*count {
                    let uri = format!("mimi://{id}/d/{letter}{}/{}", user + 1, client + 1);
                    let Ok(uri) = uri.parse::<ClientUri>() else {
                        continue;
                    };
                    let seed = clients.len() as u64 + 1;
                    clients.push(Self {
                        member: Member::new(world.kind, &uri, seed),
                        uri,
                        provider,
                        rooms: BTreeMap::new(),
                        inbox: InboxSeq(0),
                        rung: false,
                        next_poll_ms: 0,
                        away_until_ms: 0,
                        node: None,
                        requests: BTreeMap::new(),
                        deleted: false,
                    });
                }
            }
        }
        clients
    }

    /// A short name, for stories.
    pub(super) fn name(&self) -> String {
        let uri = self.uri.to_string();
        let mut parts = uri.rsplit('/');
        let client = parts.next().unwrap_or_default();
        format!("{}/{client}", parts.next().unwrap_or_default())
    }

    /// Whether a request of this kind is under way.
    pub(super) fn waits_for(&self, what: impl Fn(&Purpose) -> bool) -> bool {
        self.requests.values().any(|pending| what(&pending.purpose))
    }
}

/// The key of a client's device.
pub(super) fn device_key(client: &ClientUri) -> [u8; 32] {
    Hash::of(client.to_string().as_bytes()).0
}

impl World {
    /// Adds every user, its clients, its consents and its first KeyPackages to the logs, before anything happens.
    pub(super) fn set_up(&mut self) {
        let now = self.now();
        let users: Vec<UserUri> = {
            let mut users: Vec<UserUri> = self
                .clients
                .iter()
                .map(|client| client.uri.user().clone())
                .collect();
            users.dedup();
            users
        };
        for user in &users {
            let Some(provider) = self.provider(user.provider()) else {
                continue;
            };
            let mut commands = Vec::new();
            let kind = self.kind;
            let stock = self.plan.stock;
            let last_resort = self.plan.last_resort;
            for client in self
                .clients
                .iter_mut()
                .filter(|client| client.uri.user() == user)
            {
                let code = Hash::of(client.uri.to_string().as_bytes());
                commands.push(UserCommand::Add(Add {
                    user: user.clone(),
                    code,
                }));
                commands.push(UserCommand::Enrol(Enrol {
                    code,
                    client: client.uri.clone(),
                    device_key: device_key(&client.uri),
                }));
                let mut packages: Vec<_> = (0..stock)
                    .map(|_| {
                        let package = client.member.key_package(now);
                        crate::sim::mls::check_package(kind, &package, &client.uri, now)
                    })
                    .collect();
                if last_resort {
                    let package = client.member.last_resort(now);
                    self.history.last_resort(&package);
                    let checked = crate::sim::mls::check_package(kind, &package, &client.uri, now);
                    packages.push(checked.map(|stored| StoredPackage {
                        last_resort: true,
                        ..stored
                    }));
                }
                commands.push(UserCommand::Upload(Upload {
                    client: client.uri.clone(),
                    packages,
                }));
            }
            for other in users.iter().filter(|other| *other != user) {
                commands.push(UserCommand::Consent(Consent {
                    requester: other.clone().into(),
                    room: None,
                    grant: Some(true),
                }));
            }
            let shard = self.shard_of_user(provider, user);
            let leader = self
                .plan
                .nodes()
                .find(|node| node.provider == provider && self.leads(*node, shard));
            if let Some(leader) = leader {
                for command in commands {
                    let command = Command::User(user.clone(), Arc::new(command));
                    self.queue_command(leader, shard, command, None);
                }
            }
        }
    }

    /// Asks something, until there is an answer.
    pub(super) fn ask(&mut self, client: usize, purpose: Purpose, ask: ClientAsk) {
        if self.clients[client].deleted && purpose != Purpose::Delete {
            return;
        }
        let request = self.fresh();
        self.clients[client].requests.insert(
            request,
            Pending {
                ask,
                purpose,
                attempt: 0,
            },
        );
        self.ask_once(client, request);
    }

    /// Asks, again perhaps, and comes back to it in a while.
    fn ask_once(&mut self, client: usize, request: u64) {
        let provider = self.clients[client].provider;
        let known = self.clients[client]
            .node
            .filter(|node| self.nodes.get(node).is_some_and(|is| is.up));
        let node = known.or_else(|| self.some_node(provider));
        let is = &mut self.clients[client];
        is.node = node;
        let Some(pending) = is.requests.get_mut(&request) else {
            return;
        };
        pending.attempt += 1;
        let (attempt, ask) = (pending.attempt, pending.ask.clone());
        let again = attempt > 1 && matches!(pending.purpose, Purpose::Claim { .. });
        if again {
            self.counts.one("claims sent again");
        }
        if let Some(node) = node {
            self.send(
                End::Client(client),
                End::Node(node),
                Body::Ask { request, ask },
            );
        }
        let wait = PATIENCE_MS + self.dice.below(PATIENCE_MS);
        self.after(
            wait,
            Event::ClientTimeout {
                client,
                request,
                attempt,
            },
        );
    }

    /// No answer came in time: another node is asked.
    pub(super) fn client_waited(&mut self, client: usize, request: u64, attempt: u32) {
        let waits = self.clients[client]
            .requests
            .get(&request)
            .is_some_and(|pending| pending.attempt == attempt);
        if waits {
            self.clients[client].node = None;
            self.ask_once(client, request);
        }
    }

    /// Asks again in a while, as the answer said.
    pub(super) fn ask_later(&mut self, client: usize, request: u64) {
        let wait = 100 + self.dice.below(400);
        let Some(pending) = self.clients[client].requests.get_mut(&request) else {
            return;
        };
        // The wait for the answer that came is over: this is a new one.
        pending.attempt += 1;
        let attempt = pending.attempt;
        self.after(
            wait,
            Event::ClientTimeout {
                client,
                request,
                attempt,
            },
        );
    }

    /// A client looks for news.
    pub(super) fn client_wakes(&mut self, client: usize) {
        let now_ms = self.now_ms;
        let is = &mut self.clients[client];
        is.rung = false;
        if is.deleted {
            return;
        }
        if now_ms < is.away_until_ms {
            let wait = is.away_until_ms - now_ms;
            return self.after(wait, Event::Client(client));
        }
        let poll = now_ms >= is.next_poll_ms;
        if poll {
            is.next_poll_ms = now_ms + POLL_MS;
        }
        let seen = is.inbox;
        let reads_inbox = !is.waits_for(|purpose| *purpose == Purpose::Inbox);
        let rooms: Vec<RoomUri> = is
            .rooms
            .iter()
            .filter(|(_, room)| room.exists)
            .map(|(room, _)| room.clone())
            .collect();
        if poll {
            self.after(POLL_MS, Event::Client(client));
        }
        if reads_inbox {
            self.ask(client, Purpose::Inbox, ClientAsk::Inbox(seen));
        }
        for room in rooms {
            self.read_room(client, &room);
            if poll {
                self.send_unsettled(client, &room);
            }
        }
    }

    /// Asks for the next events of a room.
    pub(super) fn read_room(&mut self, client: usize, room: &RoomUri) {
        let is = &self.clients[client];
        let Some(known) = is.rooms.get(room) else {
            return;
        };
        let over = known.upto.is_some_and(|upto| known.reads.upto() >= upto);
        let reads = |purpose: &Purpose| matches!(purpose, Purpose::Read(of) if of == room);
        let away = self.now_ms < is.away_until_ms;
        if over || away || known.lost || is.waits_for(reads) {
            return;
        }
        let ask = ClientAsk::Room {
            room: room.clone(),
            read: known.reads.stands(),
            upto: known.upto,
        };
        self.ask(client, Purpose::Read(room.clone()), ask);
    }

    /// Sends the oldest messages of a room that have no verdict.
    pub(super) fn send_unsettled(&mut self, client: usize, room: &RoomUri) {
        let is = &self.clients[client];
        let sends =
            |purpose: &Purpose| matches!(purpose, Purpose::Send { room: of, .. } if of == room);
        if is.waits_for(sends) {
            return;
        }
        let Some(known) = is.rooms.get(room) else {
            return;
        };
        let Some((first, oldest)) = known.unsettled.first_key_value() else {
            return;
        };
        let (first, queued) = (*first, oldest.queued);
        let most = if known.probing { 1 } else { 16 };
        let messages = (first..)
            .map_while(|number| known.unsettled.get(&number))
            .take(most)
            .map(|message| Payload(message.bytes.clone()));
        let messages = BVec::first_max(messages);
        let count = messages.len() as u64;
        let ask = if queued && self.dice.hits(500) {
            self.counts.one("verdicts asked for");
            ClientAsk::Verdicts(door::Verdicts {
                room: room.clone(),
                first: ClientSeq(first),
                count: u32::try_from(count).unwrap_or(u32::MAX),
                wait_ms: u32::try_from(self.dice.below(VERDICT_WAIT_MS)).unwrap_or(0),
            })
        } else {
            ClientAsk::Send(door::Send {
                room: room.clone(),
                first: ClientSeq(first),
                messages,
            })
        };
        let purpose = Purpose::Send {
            room: room.clone(),
            first,
            count,
        };
        self.ask(client, purpose, ask);
    }

    /// An answer, if the client still waits for it.
    pub(super) fn client_hears(&mut self, client: usize, body: Body) {
        let Body::Reply { request, reply } = body else {
            return;
        };
        let Some(pending) = self.clients[client].requests.get(&request) else {
            return;
        };
        let purpose = pending.purpose.clone();
        if matches!(reply, Reply::Unavailable) {
            return self.ask_later(client, request);
        }
        if self.client_learns(client, request, &purpose, reply) {
            self.clients[client].requests.remove(&request);
            self.client_goes_on(client, &purpose);
        }
    }

    /// What follows once a request is answered for good.
    fn client_goes_on(&mut self, client: usize, purpose: &Purpose) {
        match purpose {
            Purpose::Send { room, .. } => {
                // What has only been queued is asked about when the client looks for news.
                let fresh = self.clients[client].rooms.get(room).is_some_and(|known| {
                    let first = known.unsettled.values().next();
                    first.is_some_and(|message| !message.queued) || known.probing
                });
                if fresh {
                    self.send_unsettled(client, room);
                }
            }
            Purpose::Upload
            | Purpose::Claim { .. }
            | Purpose::Create(_)
            | Purpose::CreateTwin(_)
            | Purpose::Commit { .. }
            | Purpose::Propose { .. }
            | Purpose::GroupInfo { .. }
            | Purpose::Codes { .. }
            | Purpose::Ack
            | Purpose::Delete
            | Purpose::Inbox
            | Purpose::Read(_) => {}
        }
    }

    /// Breaks a bundle.
    pub(super) fn flaw(bundle: &mut crate::mls::check::bundle::Bundle, flaw: Flaw) {
        let broken = |bytes: &Bytes| {
            let mut bytes = bytes.to_vec();
            if let Some(last) = bytes.last_mut() {
                *last ^= 1;
            }
            Bytes::from(bytes)
        };
        // From another tree; the nodes are right.
        let rebased = |delta: &Bytes| {
            let mut delta = delta.to_vec();
            if let Some(hash) = delta.get_mut(BASE_HASH_AT) {
                *hash ^= 1;
            }
            Bytes::from(delta)
        };
        match (flaw, &bundle.welcome) {
            (Flaw::NoWelcome, Some(_)) => bundle.welcome = None,
            (Flaw::OtherWelcome, Some(welcome)) => {
                let mut other = broken(welcome).to_vec();
                if let Some(reference) = other.get_mut(2) {
                    *reference ^= 1;
                }
                bundle.welcome = Some(other.into());
            }
            (Flaw::NoWelcome | Flaw::OtherWelcome, None) => {
                bundle.welcome = Some(Bytes::from_static(b"for nobody").into());
            }
            (Flaw::OldGroupInfo, _) => bundle.group_info = broken(&bundle.group_info).into(),
            (Flaw::OldTree, _) => {
                let other = match &bundle.tree {
                    TreeContainer::Full(tree) => TreeContainer::Full(broken(tree).into()),
                    TreeContainer::Zstd(frame) => TreeContainer::Zstd(broken(frame).into()),
                    TreeContainer::Delta(delta) => TreeContainer::Delta(rebased(delta).into()),
                    TreeContainer::DistributionService | TreeContainer::Reference(_) => {
                        TreeContainer::Full(Payload::default())
                    }
                };
                bundle.tree = other;
            }
            // Built in: see the member's intent.
            (Flaw::Contradiction, _) => {}
        }
    }

    /// The time at which a client's KeyPackages begin.
    pub(super) fn client_time(&self) -> Millis {
        self.now()
    }
}
