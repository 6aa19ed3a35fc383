//! The world: one heap of events in order of time, one thread, one source of chance.

mod client;
mod cluster;
mod codes;
mod faults;
mod frozen;
pub(super) mod full_disk;
mod hostile;
mod judge;
mod lanes;
mod late;
mod learn;
mod level;
mod moves;
mod notices;
mod perform;
mod reads;
mod retention;
mod route;
mod walk;

use self::{client::Client, codes::Told, frozen::Frozen};
use super::{
    counts::Counts,
    dice::Dice,
    history::History,
    mls::Kind,
    node::{Node, voters},
    plan::{BEGIN_MS, NodeRef, Plan},
    post::{Body, End, Lane},
    story::Story,
};
use crate::{
    ids::{ProviderId, RoomUri, UserUri},
    machine::{Millis, Ticket},
    room::{
        desk::{self, Checked},
        follower_desk,
    },
    shard::place,
    way::Slot,
    wire::event::Hash,
};
use std::collections::{BTreeMap, BTreeSet};

/// How long a request may wait for its answer, in milliseconds.
pub(super) const REQUEST_DEADLINE_MS: u64 = 3_000;
/// How often a leader shows that it is there, in milliseconds.
const HEARTBEAT_MS: u64 = 250;
/// How often somebody looks whether a shard has a leader, in milliseconds.
const ELECTION_MS: u64 = 400;
/// How often acknowledgements of peers go into the log, in milliseconds.
pub(super) const ACK_RECORD_MS: u64 = 500;
/// How long after the last fault everything must be delivered, in milliseconds.
const CALM_MS_MAX: u64 = 60_000;
/// How often the world looks whether everything is delivered, in milliseconds.
const JUDGE_MS: u64 = 500;
/// Events of one seed, at most: beyond that it is caught in a loop.
const EVENTS_MAX: u64 = 2_000_000;

/// What happens.
#[derive(Debug)]
pub(super) enum Event {
    Arrive {
        from: End,
        to: End,
        body: Box<Body>,
        /// The life of the receiving node that it is for, if that matters.
        life: Option<u64>,
    },
    Synced {
        node: NodeRef,
        life: u64,
        counts: Vec<u64>,
    },
    Checked {
        node: NodeRef,
        life: u64,
        room: RoomUri,
        ticket: Ticket,
        checked: Box<Checked>,
    },
    /// A desk is woken, as it wanted to be.
    Wake {
        node: NodeRef,
        life: u64,
        room: RoomUri,
    },
    /// The time of a followed room's order has come.
    WakeFollower {
        node: NodeRef,
        life: u64,
        room: RoomUri,
    },
    Heartbeat {
        provider: u8,
        shard: u16,
    },
    Election {
        provider: u8,
        shard: u16,
    },
    Deadline {
        node: NodeRef,
        life: u64,
        task: u64,
        slot: Slot,
    },
    /// A leader looks after the sessions of its links.
    Links {
        node: NodeRef,
        life: u64,
        shard: u16,
    },
    /// A shard goes on, on its lane of fan-out.
    FanoutAgain(Again),
    /// Submissions go again.
    SubmitAgain(Again),
    Client(usize),
    ClientTimeout {
        client: usize,
        request: u64,
        attempt: u32,
    },
    Move(usize),
    Fault(usize),
    FaultEnds(usize),
    Start(NodeRef),
    Judge,
}

/// A shard that waits, on its lane to a peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Again {
    pub(super) node: NodeRef,
    pub(super) life: u64,
    pub(super) shard: u16,
    pub(super) peer: u8,
    pub(super) lane: u64,
    /// The session that waits.
    pub(super) session: u64,
}

/// A partition that is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) node: NodeRef,
    pub(super) both: bool,
    pub(super) outside: bool,
}

/// Everything that there is.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) kind: Kind,
    /// The time at which the world begins.
    pub(super) epoch: Millis,
    pub(super) now_ms: u64,
    pub(super) dice: Dice,
    /// For the orders that clients choose: drawn apart, so that older seeds keep their stories.
    pub(super) orders: Dice,
    queue: BTreeMap<(u64, u64), Event>,
    ties: u64,
    pub(super) events: u64,
    pub(super) calm: bool,
    pub(super) over: bool,
    pub(super) providers: Vec<ProviderId>,
    pub(super) nodes: BTreeMap<NodeRef, Node>,
    clients: Vec<Client>,
    pub(super) lanes: BTreeMap<u64, Lane>,
    pub(super) cuts: BTreeMap<usize, Cut>,
    /// Providers at which rooms are frozen, by the fault that did it, and which rooms.
    frozen: BTreeMap<usize, Frozen>,
    /// Rooms of which a provider refused something because of that.
    pub(super) once_frozen: BTreeSet<(u8, RoomUri)>,
    /// When the last message between two ends arrives: between nodes of a provider, order is kept.
    fifo: BTreeMap<(End, End), u64>,
    /// The newest term of each shard.
    pub(super) terms: BTreeMap<(u8, u16), u64>,
    /// Voters that are out, to be entered again.
    pub(super) learners: BTreeSet<(NodeRef, u16)>,
    pub(super) next_id: u64,
    pub(super) history: History,
    /// Joining codes that members told others.
    codes: Vec<Told>,
    pub(super) story: Story,
    pub(super) counts: Counts,
    pub(super) trace: Hash,
}

impl World {
    /// The world of a plan, before anything has happened.
    pub(super) fn new(plan: Plan, epoch: Millis, kind: Kind, story: Story) -> Self {
        let providers: Vec<ProviderId> = ["a", "b", "c", "d"]
            .iter()
            .take(plan.providers.len())
            .filter_map(|name| format!("{name}.example").parse().ok())
            .collect();
        let nodes = plan
            .nodes()
            .map(|node| {
                let shards = plan.providers[usize::from(node.provider)].shards;
                (node, Node::new(shards, plan.weather.runs_max))
            })
            .collect();
        let mut world = Self {
            dice: Dice::new(plan.seed, 2),
            orders: Dice::new(plan.seed, 10),
            kind,
            epoch,
            now_ms: 0,
            queue: BTreeMap::new(),
            ties: 0,
            events: 0,
            calm: false,
            over: false,
            providers,
            nodes,
            clients: Vec::new(),
            lanes: BTreeMap::new(),
            cuts: BTreeMap::new(),
            frozen: BTreeMap::new(),
            once_frozen: BTreeSet::new(),
            fifo: BTreeMap::new(),
            terms: BTreeMap::new(),
            learners: BTreeSet::new(),
            next_id: 1,
            history: History::default(),
            codes: Vec::new(),
            story,
            counts: Counts::default(),
            trace: Hash::default(),
            plan,
        };
        world.clients = Client::all(&world);
        world.open();
        world
    }

    fn open(&mut self) {
        for (provider, shape) in (0_u8..).zip(self.plan.providers.clone()) {
            for shard in 0..shape.shards {
                self.terms.insert((provider, shard), 0);
                self.elect(provider, shard, None);
                self.at(HEARTBEAT_MS, Event::Heartbeat { provider, shard });
                self.at(ELECTION_MS, Event::Election { provider, shard });
            }
        }
        self.set_up();
        for client in 0..self.clients.len() {
            self.at(BEGIN_MS / 2, Event::Client(client));
        }
        for (number, planned) in self.plan.moves.clone().into_iter().enumerate() {
            self.at(planned.at_ms, Event::Move(number));
        }
        for (number, planned) in self.plan.faults.clone().into_iter().enumerate() {
            self.at(planned.at_ms, Event::Fault(number));
        }
        self.at(self.plan.calm_ms, Event::Judge);
    }

    /// Plays until everything is delivered, or time is over, or a checker objects.
    pub(super) fn play(&mut self) {
        while !self.over
            && self.history.violation.is_none()
            && let Some(((at, _), event)) = self.queue.pop_first()
        {
            self.now_ms = at;
            self.events += 1;
            if self.events > EVENTS_MAX {
                self.history
                    .violated("liveness", "the world is caught in a loop".to_owned());
                break;
            }
            self.mark(&event);
            self.happen(event);
        }
    }

    /// Puts an event into the trace, by which two runs of a seed are compared.
    fn mark(&mut self, event: &Event) {
        let what = match event {
            Event::Arrive { from, to, body, .. } => {
                format!("{} {from:?} {to:?} {}", self.now_ms, body.name())
            }
            Event::Synced { node, counts, .. } => format!("{} sync {node} {counts:?}", self.now_ms),
            Event::Checked { node, ticket, .. } => {
                format!("{} checked {node} {ticket:?}", self.now_ms)
            }
            other => format!("{} {other:?}", self.now_ms),
        };
        self.trace = Hash::of_parts([&self.trace.0[..], what.as_bytes()]);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive {
                from,
                to,
                body,
                life,
            } => self.arrive(from, to, *body, life),
            Event::Synced { node, life, counts } => {
                if self.is_alive(node, life) {
                    self.synced(node, &counts);
                }
            }
            Event::Checked {
                node,
                life,
                room,
                ticket,
                checked,
            } => {
                if self.is_alive(node, life) {
                    let checked = crate::room::desk::Input::Checked { ticket, checked };
                    self.input::<desk::Desk>(node, &room, checked);
                }
            }
            Event::Wake { node, life, room } => {
                if self.is_alive(node, life) {
                    self.input::<desk::Desk>(node, &room, crate::room::desk::Input::Wake);
                }
            }
            Event::WakeFollower { node, life, room } => {
                if self.is_alive(node, life) {
                    self.input::<follower_desk::Desk>(node, &room, follower_desk::Input::Wake);
                }
            }
            Event::Heartbeat { provider, shard } => {
                self.heartbeat(provider, shard);
                self.after(HEARTBEAT_MS, Event::Heartbeat { provider, shard });
            }
            Event::Election { provider, shard } => {
                self.election(provider, shard);
                let wait = ELECTION_MS + self.dice.below(ELECTION_MS);
                self.after(wait, Event::Election { provider, shard });
            }
            Event::Deadline {
                node,
                life,
                task,
                slot,
            } => {
                if self.is_alive(node, life) {
                    self.task_is_late(node, task, slot);
                }
            }
            Event::Links { node, life, shard } => {
                if self.is_alive(node, life) && self.leads(node, shard) {
                    self.look_after_links(node, shard);
                    self.forget_old(node, shard);
                    self.after(ACK_RECORD_MS, Event::Links { node, life, shard });
                }
            }
            Event::FanoutAgain(again) => {
                if self.is_alive(again.node, again.life) {
                    self.fanout_again(&again);
                }
            }
            Event::SubmitAgain(again) => {
                if self.is_alive(again.node, again.life) {
                    self.submit_again(&again);
                }
            }
            Event::Client(client) => self.client_wakes(client),
            Event::ClientTimeout {
                client,
                request,
                attempt,
            } => self.client_waited(client, request, attempt),
            Event::Move(number) => {
                if let Some(planned) = self.plan.moves.get(number).copied() {
                    self.client_moves(planned.client, planned.what);
                }
            }
            Event::Fault(number) => {
                if !self.calm
                    && let Some(planned) = self.plan.faults.get(number).copied()
                {
                    self.fault(number, planned.what);
                }
            }
            Event::FaultEnds(number) => self.fault_ends(number),
            Event::Start(node) => self.start(node),
            Event::Judge => self.judge(),
        }
    }

    /// Faults stop, and some time later everything must be delivered.
    fn judge(&mut self) {
        if !self.calm {
            self.calm = true;
            self.story.tell(self.now_ms, || {
                "moves and faults are over; everything is mended".to_owned()
            });
            self.mend();
        }
        let unfinished = self.unfinished();
        match unfinished {
            None => {
                self.over = true;
                self.last_look();
            }
            Some(why) if self.now_ms > self.plan.calm_ms + CALM_MS_MAX => {
                self.history.violated("I15", why);
            }
            Some(_) => self.after(JUDGE_MS, Event::Judge),
        }
    }

    /// A number that nobody else has.
    pub(super) fn fresh(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Lets something happen at a time.
    pub(super) fn at(&mut self, at_ms: u64, event: Event) {
        self.ties += 1;
        self.queue.insert((at_ms, self.ties), event);
    }

    /// Lets something happen later.
    pub(super) fn after(&mut self, ms: u64, event: Event) {
        self.at(self.now_ms + ms, event);
    }

    /// The time, as it truly is.
    pub(super) fn now(&self) -> Millis {
        self.epoch.plus(self.now_ms)
    }

    /// The time, as a node's clock has it.
    pub(super) fn clock(&self, node: NodeRef) -> Millis {
        let off = self.nodes.get(&node).map_or(0, |node| node.clock_ms);
        Millis(self.now().0.saturating_add_signed(off))
    }

    /// What the time of a shard would be for an entry that is stamped by a node now.
    pub(super) fn shard_time(&self, node: NodeRef, shard: u16) -> Millis {
        let now = self.clock(node);
        let own = self.shard(node, shard);
        own.map_or(now, |own| own.derived.time.at(now))
    }

    pub(super) fn is_alive(&self, node: NodeRef, life: u64) -> bool {
        self.nodes
            .get(&node)
            .is_some_and(|is| is.up && is.life == life)
    }

    pub(super) fn life(&self, node: NodeRef) -> u64 {
        self.nodes.get(&node).map_or(0, |node| node.life)
    }

    /// The number of a provider.
    pub(super) fn provider(&self, id: &ProviderId) -> Option<u8> {
        let place = self.providers.iter().position(|known| known == id)?;
        u8::try_from(place).ok()
    }

    pub(super) fn id(&self, provider: u8) -> &ProviderId {
        &self.providers[usize::from(provider)]
    }

    pub(super) fn shards(&self, provider: u8) -> u16 {
        self.plan.providers[usize::from(provider)].shards
    }

    pub(super) fn voters(&self, provider: u8, shard: u16) -> Vec<u8> {
        voters(self.plan.providers[usize::from(provider)].nodes, shard)
    }

    /// The shard of a user, at its provider.
    pub(super) fn shard_of_user(&self, provider: u8, user: &UserUri) -> u16 {
        place(&user.to_string(), self.shards(provider))
    }

    /// A node of a provider that runs, if any does.
    pub(super) fn some_node(&mut self, provider: u8) -> Option<NodeRef> {
        let up: Vec<NodeRef> = self
            .nodes
            .iter()
            .filter(|(node, is)| node.provider == provider && is.up)
            .map(|(node, _)| *node)
            .collect();
        self.dice.pick(&up).copied()
    }

    /// Whether something can go from one end to another now.
    pub(super) fn is_open(&self, from: End, to: End) -> bool {
        let (End::Node(from), End::Node(to)) = (from, to) else {
            return true;
        };
        if from == to {
            return true;
        }
        let outside = from.provider != to.provider;
        !self
            .cuts
            .values()
            .any(|cut| cut.outside == outside && (cut.node == from || (cut.both && cut.node == to)))
    }

    /// Whether two nodes can talk to each other now.
    pub(super) fn can_talk(&self, one: NodeRef, other: NodeRef) -> bool {
        let (one, other) = (End::Node(one), End::Node(other));
        self.is_open(one, other) && self.is_open(other, one)
    }

    fn slowness(&self, end: End) -> u64 {
        match end {
            End::Client(_) => 1,
            End::Node(node) => self.nodes.get(&node).map_or(1, |node| node.slow),
        }
    }

    /// How long a message is on its way.
    pub(super) fn delay(&mut self, from: End, to: End) -> u64 {
        let usual = self.dice.between(1, self.plan.weather.delay_ms_max.max(1));
        usual * self.slowness(from).max(self.slowness(to))
    }

    /// Sends something; it may be lost, come twice, or overtake something else.
    pub(super) fn send(&mut self, from: End, to: End, body: Body) {
        let weather = self.plan.weather.clone();
        let twice = !self.calm && self.dice.hits(weather.twice_permille) && body.may_come_twice();
        if twice {
            self.counts.one("requests that came twice");
            self.send_once(from, to, body.clone());
        }
        self.send_once(from, to, body);
    }

    fn send_once(&mut self, from: End, to: End, body: Body) {
        let local = from == to;
        let lost = !local && !self.calm && self.dice.hits(self.plan.weather.loss_permille);
        if lost || !self.is_open(from, to) {
            self.counts.one("messages lost");
            return;
        }
        let mut at = self.now_ms + if local { 0 } else { self.delay(from, to) };
        if let (End::Node(one), End::Node(other)) = (from, to)
            && one.provider == other.provider
        {
            let last = self.fifo.entry((from, to)).or_default();
            at = at.max(*last);
            *last = at;
        }
        let body = Box::new(body);
        self.at(
            at,
            Event::Arrive {
                from,
                to,
                body,
                life: None,
            },
        );
    }

    /// Sends something along a lane, behind what is on it already, to one life of a node only.
    pub(super) fn send_on(&mut self, at: u64, from: End, to: End, life: u64, body: Body) {
        let body = Box::new(body);
        self.at(
            at,
            Event::Arrive {
                from,
                to,
                body,
                life: Some(life),
            },
        );
    }

    fn arrive(&mut self, from: End, to: End, body: Body, life: Option<u64>) {
        match to {
            End::Client(client) => self.client_hears(client, body),
            End::Node(node) => {
                let wanted = life.unwrap_or_else(|| self.life(node));
                if self.is_alive(node, wanted) {
                    self.node_hears(node, from, body);
                }
            }
        }
    }
}
