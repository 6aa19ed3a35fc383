//! One state of the small world, and what can happen in it.

mod looks;

use super::{
    super::{
        Violation,
        history::History,
        mls::{self, Intent, Kind, Member, Took, Wish},
        node::{Actor, Order, Seen, Shard},
        world::Counts,
    },
    Bounds,
};
use crate::{
    doors::{self, HubAsk, Sending},
    ids::{ClientUri, ProviderId, RoomUri, UserUri},
    link::{self, Peer},
    machine::{Desk, Millis, Ticket},
    mls::bundle::Bundle,
    record::{Command, Entry},
    room::{
        desk, follower, follower_desk, hub,
        outcome::{Answer, Refused},
    },
    shard::read,
    user::{
        command::{Add, Claim, Command as UserCommand, Consent, Enrol, Upload},
        desk as user_desk,
        outcome::Answer as UserAnswer,
    },
    wire::{
        BVec, Payload,
        claim::{ClaimId, ClaimTerms},
        door::{self, RoomBody},
        event::{ClientSeq, Hash, RoomSeq, Verdict},
    },
};
use bytes::Bytes;
use std::{collections::BTreeMap, sync::Arc};

const NOW: Millis = Millis(1_767_225_600_000);

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sim) enum Action {
    /// A client makes a Commit and sends it.
    Commit(usize),
    /// A client proposes an Update.
    Propose(usize),
    /// A client writes a message.
    Write(usize),
    /// A client claims the KeyPackage.
    Claim(usize),
    /// A request without an answer arrives, perhaps again.
    Arrive(u64),
    /// A worker finishes the check of a request.
    Check(u64),
    /// The hub appends what waits.
    Append,
    /// The hub's disk has it: it is applied, and answered.
    Sync,
    /// A batch of the hub arrives at the follower, and is durable there.
    FanOut,
    /// The hub hears of it.
    Ack,
    /// Submissions of the follower arrive at the hub.
    Submit,
    /// A client reads what there is.
    Read(usize),
    /// The hub's process ends and starts again.
    Crash,
    /// The next answer of the hub, or of the claimed user, is lost.
    Lose,
}

/// A request of a client.
#[derive(Clone, Debug)]
enum Asked {
    Hub(HubAsk, Option<Bytes>),
    Queue(follower::Queue),
    Claim(Claim),
}

#[derive(Debug)]
struct Request {
    client: usize,
    asked: Asked,
    /// Times that it arrived.
    arrived: u8,
    /// Whether it is on its way now.
    open: bool,
}

#[derive(Debug)]
struct Client {
    uri: ClientUri,
    member: Member,
    next: RoomSeq,
    staged: Option<Bytes>,
    left: Bounds,
    number: u64,
    unsettled: BTreeMap<u64, u64>,
}

/// Everything that there is.
pub(super) struct State {
    bounds: Bounds,
    room: RoomUri,
    providers: [ProviderId; 2],
    carol: UserUri,
    shards: [Shard; 2],
    clients: Vec<Client>,
    requests: BTreeMap<u64, Request>,
    checks: BTreeMap<u64, desk::Check>,
    crashes: u8,
    losses: u8,
    losing: bool,
    /// Whether the follower has taken a batch that the hub has not heard of.
    to_ack: Option<crate::wire::event::LinkSeq>,
    submitted: bool,
    contents: u64,
    history: History,
    pub(super) situations: Counts,
}

impl State {
    /// The room exists, and both clients are in it.
    pub(super) fn new(bounds: &Bounds) -> Self {
        let parse = |client: &str| client.parse::<ClientUri>();
        let uris = ["mimi://a.example/d/alice/1", "mimi://b.example/d/bobby/1"];
        let clients: Vec<Client> = (1_u64..)
            .zip(uris)
            .filter_map(|(seed, uri)| {
                let uri = parse(uri).ok()?;
                Some(Client {
                    member: Member::new(Kind::Model, &uri, seed),
                    uri,
                    next: RoomSeq(1),
                    staged: None,
                    left: *bounds,
                    number: 0,
                    unsettled: BTreeMap::new(),
                })
            })
            .collect();
        let provider = |place: usize| clients[place].uri.provider().clone();
        let carol = "mimi://b.example/u/carol".parse();
        let room = "mimi://a.example/r/small".parse();
        let (Ok(carol), Ok(room)) = (carol, room) else {
            unreachable!("both are identifiers");
        };
        let mut state = Self {
            bounds: *bounds,
            room,
            providers: [provider(0), provider(1)],
            carol,
            shards: [Shard::default(), Shard::default()],
            clients,
            requests: BTreeMap::new(),
            checks: BTreeMap::new(),
            crashes: bounds.crashes,
            losses: bounds.losses,
            losing: false,
            to_ack: None,
            submitted: false,
            contents: 0,
            history: History::default(),
            situations: Counts::default(),
        };
        for shard in &mut state.shards {
            shard.replica.lead(1, &[0]);
        }
        state.set_up();
        state.situations = Counts::default();
        state
    }

    /// The state after these actions.
    pub(super) fn after(bounds: &Bounds, path: &[Action]) -> Self {
        let mut state = Self::new(bounds);
        for action in path {
            state.take(*action);
        }
        state.situations = Counts::default();
        state
    }

    fn set_up(&mut self) {
        let carol = self.carol.clone();
        let device: Result<ClientUri, _> = "mimi://b.example/d/carol/1".parse();
        let Ok(device) = device else { return };
        let mut member = Member::new(Kind::Model, &device, 9);
        let package = member.key_package(NOW);
        let code = Hash::of(b"code");
        let mut commands = vec![
            UserCommand::Add(Add {
                user: carol.clone(),
                code,
            }),
            UserCommand::Enrol(Enrol {
                code,
                client: device.clone(),
                device_key: code.0,
            }),
            UserCommand::Upload(Upload {
                client: device.clone(),
                packages: vec![mls::check_package(Kind::Model, &package, &device, NOW)],
            }),
        ];
        for client in &self.clients {
            commands.push(UserCommand::Consent(Consent {
                requester: client.uri.user().clone(),
                room: None,
                grant: Some(true),
            }));
        }
        for command in commands {
            let command = Command::User(carol.clone(), Arc::new(command));
            self.shards[1].queue.push_back((command, None));
        }
        self.append(1);
        self.sync(1);
        let room = self.room.clone();
        let (group_info, tree) = self.clients[0].member.found(&room);
        let create = HubAsk::Create {
            creator: self.clients[0].uri.clone(),
            group_info,
            tree,
        };
        self.ask(0, Asked::Hub(create, None));
        self.settle();
        let package = self.clients[1].member.key_package(NOW);
        let intent = Intent {
            add: vec![package],
            remove: Vec::new(),
        };
        self.commit(0, &intent);
        let invited = self
            .requests
            .values()
            .next_back()
            .map(|request| request.asked.clone());
        self.settle();
        if let Some(Asked::Hub(HubAsk::Commit { bundle, .. }, _)) = invited
            && let Some(welcome) = bundle.welcome
        {
            drop(self.clients[1].member.join(&room, &welcome, &bundle.tree));
            self.clients[1].next = RoomSeq(2);
        }
        self.settle();
    }

    /// Lets everything happen that is under way, in one order.
    fn settle(&mut self) {
        loop {
            let next = self.actions().into_iter().find(|action| {
                !matches!(
                    action,
                    Action::Commit(_)
                        | Action::Propose(_)
                        | Action::Write(_)
                        | Action::Claim(_)
                        | Action::Crash
                        | Action::Lose
                )
            });
            match next {
                Some(action) => self.take(action),
                None => return,
            }
        }
    }

    /// Everything that can happen now.
    pub(super) fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        for (number, client) in self.clients.iter().enumerate() {
            let left = client.left;
            if left.commits > 0 && client.staged.is_none() {
                actions.push(Action::Commit(number));
            }
            if left.proposals > 0 {
                actions.push(Action::Propose(number));
            }
            if left.messages > 0 {
                actions.push(Action::Write(number));
            }
            if left.claims > 0 {
                actions.push(Action::Claim(number));
            }
            if self.unread(number) {
                actions.push(Action::Read(number));
            }
        }
        for (request, is) in &self.requests {
            // A request that is asked again waits until nothing of its first try is left here.
            if is.open {
                actions.push(Action::Arrive(*request));
            }
        }
        actions.extend(self.checks.keys().map(|request| Action::Check(*request)));
        let hub = &self.shards[0];
        if !hub.queue.is_empty() && hub.in_flight.is_none() {
            actions.push(Action::Append);
        }
        if hub.replica.unsynced() > 0 {
            actions.push(Action::Sync);
        }
        let peer = Peer::Provider(self.providers[1].clone());
        if let Some(owed) = hub.derived.links.outgoing(&peer)
            && owed.acked() < owed.last()
        {
            let fresh = self.to_ack.is_none_or(|upto| upto < owed.last());
            if fresh {
                actions.push(Action::FanOut);
            }
            if self.to_ack.is_some_and(|upto| upto > owed.acked()) && hub.queue.is_empty() {
                actions.push(Action::Ack);
            }
        }
        let waiting = self.shards[1].derived.links.submissions(&self.providers[0]);
        if waiting.is_some_and(|waiting| !waiting.is_empty()) && !self.submitted {
            actions.push(Action::Submit);
        }
        let begun = !self.requests.is_empty();
        if self.crashes > 0 && begun {
            actions.push(Action::Crash);
        }
        if self.losses > 0 && !self.losing && begun {
            actions.push(Action::Lose);
        }
        actions
    }

    fn unread(&self, client: usize) -> bool {
        let is = &self.clients[client];
        let shard = &self.shards[client];
        !shard.derived.index.from(&self.room, is.next, 1).is_empty()
            && is.member.epoch(&self.room).is_some()
    }

    pub(super) fn take(&mut self, action: Action) {
        match action {
            Action::Commit(client) => {
                self.clients[client].left.commits -= 1;
                self.commit(client, &Intent::default());
            }
            Action::Propose(client) => {
                self.clients[client].left.proposals -= 1;
                let room = self.room.clone();
                let is = &mut self.clients[client];
                if let Some(message) = is.member.propose(&room, &Wish::Update) {
                    let sender = is.uri.clone();
                    let messages = vec![message];
                    self.ask(
                        client,
                        Asked::Hub(HubAsk::Propose { sender, messages }, None),
                    );
                }
            }
            Action::Write(client) => self.write(client),
            Action::Claim(client) => {
                self.clients[client].left.claims -= 1;
                let requester = self.clients[client].uri.user().clone();
                let terms = ClaimTerms::new(requester);
                let claim = Claim {
                    id: ClaimId([client as u8; 16]),
                    peer: self.providers[client].clone(),
                    body: Hash::of(&crate::wire::encode(&terms)),
                    terms,
                };
                self.ask(client, Asked::Claim(claim));
            }
            Action::Arrive(request) => self.arrive(request),
            Action::Check(request) => {
                if let Some(check) = self.checks.remove(&request) {
                    let checked = Box::new(mls::check(Kind::Model, check));
                    let ticket = Ticket(request);
                    self.hub_input(desk::Input::Checked { ticket, checked });
                }
            }
            Action::Append => self.append(0),
            Action::Sync => self.sync(0),
            Action::FanOut => self.fan_out(),
            Action::Ack => {
                let peer = Peer::Provider(self.providers[1].clone());
                if let Some(upto) = self.to_ack {
                    let ack = link::Command::Ack { peer, upto };
                    self.shards[0].queue.push_back((Command::Link(ack), None));
                }
            }
            Action::Submit => self.submit(),
            Action::Read(client) => self.read(client),
            Action::Crash => {
                self.crashes -= 1;
                if self.shards[0].replica.unsynced() > 0 {
                    self.situations.one("crashes between append and sync");
                }
                self.shards[0].crash(0);
                self.checks.clear();
                self.shards[0].replica.lead(2, &[0]);
                self.sync(0);
                self.submitted = false;
                // Whoever waited for the hub asks again.
                for request in self.requests.values_mut() {
                    if let Asked::Hub(..) = request.asked {
                        request.open = true;
                    }
                }
            }
            Action::Lose => {
                self.losses -= 1;
                self.losing = true;
            }
        }
    }

    fn ask(&mut self, client: usize, asked: Asked) {
        // The same request gets the same number on every way to this state.
        let number = (1..)
            .map(|count| (client as u64 + 1) * 100 + count)
            .find(|number| !self.requests.contains_key(number))
            .unwrap_or(0);
        self.requests.insert(
            number,
            Request {
                client,
                asked,
                arrived: 0,
                open: true,
            },
        );
    }

    fn commit(&mut self, client: usize, intent: &Intent) {
        let room = self.room.clone();
        let is = &mut self.clients[client];
        let Some(epoch) = is.member.epoch(&room) else {
            return;
        };
        let Some(bundle) = is.member.commit(&room, intent) else {
            return;
        };
        is.staged = Some(bundle.commit.clone());
        let sender = is.uri.clone();
        let commit: Bytes = bundle.commit.clone();
        self.history.committed(client, &room, epoch, &bundle);
        let bundle: Bundle = bundle;
        self.ask(
            client,
            Asked::Hub(HubAsk::Commit { sender, bundle }, Some(commit)),
        );
    }

    fn write(&mut self, client: usize) {
        let room = self.room.clone();
        self.clients[client].left.messages -= 1;
        self.contents += 1;
        let content = (client as u64 + 1) * 1_000 + self.contents;
        let is = &mut self.clients[client];
        let Some(message) = is.member.message(&room, content) else {
            return;
        };
        is.number += 1;
        is.unsettled.insert(is.number, content);
        self.history.wrote(client, &room, content, &message);
        let send = door::Send {
            room,
            first: ClientSeq(self.clients[client].number),
            messages: BVec::truncated(vec![Payload(message)]),
        };
        let uri = self.clients[client].uri.clone();
        let asked = match Sending::new(&self.providers[client], &uri, send) {
            (_, Sending::Here(submit)) => Asked::Hub(HubAsk::Submit(submit), None),
            (_, Sending::Follower(queue)) => Asked::Queue(queue),
        };
        self.ask(client, asked);
    }

    fn arrive(&mut self, request: u64) {
        let ticket = Ticket(request);
        let Some(is) = self.requests.get_mut(&request) else {
            return;
        };
        is.open = false;
        is.arrived += 1;
        if is.arrived > 1 {
            self.situations.one("requests that came again");
            if let Asked::Claim(_) = is.asked {
                self.situations.one("claims that came again");
            }
        }
        match is.asked.clone() {
            Asked::Hub(ask, _) => self.hub_input(ask.input(ticket)),
            Asked::Queue(queue) => {
                self.follower_input(follower_desk::Input::Queue { ticket, queue });
            }
            Asked::Claim(claim) => {
                let carol = self.carol.clone();
                let command = Arc::new(UserCommand::Claim(claim));
                let actor = self.shards[1].users.entry(carol.clone()).or_default();
                let mut out = Vec::new();
                let input = user_desk::Input::Ask { ticket, command };
                actor.desk.handle(input, NOW, &actor.fold, &mut out);
                for effect in out {
                    self.perform(1, Order::User(carol.clone(), effect));
                }
                self.append(1);
                self.sync(1);
            }
        }
    }

    fn hub_input(&mut self, input: desk::Input) {
        let room = self.room.clone();
        let actor: &mut Actor<desk::Desk> = self.shards[0].hubs.entry(room.clone()).or_default();
        let mut out = Vec::new();
        actor.desk.handle(input, NOW, &actor.fold, &mut out);
        for effect in out {
            self.perform(0, Order::Hub(room.clone(), effect));
        }
    }

    /// The follower's log is quick: whatever it takes is durable at once.
    fn follower_input(&mut self, input: follower_desk::Input) {
        let room = self.room.clone();
        let actor = self.shards[1].followers.entry(room.clone()).or_default();
        let mut out = Vec::new();
        actor.desk.handle(input, NOW, &actor.fold, &mut out);
        for effect in out {
            self.perform(1, Order::Follower(room.clone(), effect));
        }
        self.append(1);
        self.sync(1);
    }

    fn perform(&mut self, at: usize, order: Order) {
        let (command, ticket) = match order {
            Order::Hub(room, effect) => match effect {
                desk::Effect::Append { ticket, command } => (Command::Hub(room, command), ticket),
                desk::Effect::Answer { ticket, answer } => return self.answer(ticket, &answer),
                desk::Effect::Check { ticket, check } => {
                    self.checks.insert(ticket.0, *check);
                    return;
                }
            },
            Order::Follower(room, effect) => match effect {
                follower_desk::Effect::Append { ticket, command } => {
                    (Command::Follower(room, command), ticket)
                }
                follower_desk::Effect::Answer { ticket, answer } => {
                    return self.answer(ticket, &answer);
                }
            },
            Order::User(user, effect) => match effect {
                user_desk::Effect::Append { ticket, command } => {
                    (Command::User(user, command), ticket)
                }
                user_desk::Effect::Answer { ticket, answer } => {
                    return self.claimed(ticket, &answer);
                }
            },
        };
        self.shards[at].queue.push_back((command, Some(ticket)));
    }

    fn append(&mut self, at: usize) {
        let own = &mut self.shards[at];
        if own.queue.is_empty() || own.in_flight.is_some() {
            return;
        }
        let (commands, tickets): (Vec<_>, Vec<_>) = own.queue.drain(..).unzip();
        let entry = Arc::new(Entry {
            stamp: NOW,
            commands: BVec::truncated(commands),
        });
        let index = own.replica.append(entry);
        let term = own.replica.term;
        own.in_flight = Some(super::super::node::InFlight {
            index,
            term,
            tickets,
        });
    }

    fn sync(&mut self, at: usize) {
        let own = &mut self.shards[at];
        own.replica.sync(own.replica.len());
        own.replica.count(0, &[0]);
        while let Some(applied) = self.shards[at].apply_next(NOW, 1) {
            let place = (at as u8, 0, applied.index);
            if self.history.state(place, applied.state) {
                let seen = applied.entry.commands.iter().zip(&applied.outcomes);
                for (command, seen) in seen {
                    self.look(command, seen);
                }
            }
            for order in applied.orders {
                self.perform(at, order);
            }
        }
    }
}
