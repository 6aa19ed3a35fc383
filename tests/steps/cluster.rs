//! Providers of several nodes, and members of whom everything is recorded.

use super::{RETRY_AFTER, Story, names, support};
use crate::support::{
    Net, Network, WAIT, aside,
    cast::{Cast, DEVICE, PACKAGES},
    history::{Chronicle, Watched},
    net::name_of,
    until,
};
use cucumber::{given, then, when};
use futures::future::join_all;
use mimi_actors::{
    ids::RoomUri,
    wire::{
        answer::Accepted,
        claim::{ClaimId, ClaimResponse},
        event::Epoch,
    },
};
use mimi_client::member::{Member, MemberError, PreparedCommit};
use mimi_history::Invariant;
use mimi_quic::DoorDialer;
use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The provider of several nodes.
pub const A: &str = "a.example";
/// The other one.
pub const B: &str = "b.example";
/// How long delivery may take after a fault, in seconds.
const WITHIN_S: u64 = 60;
/// How long a request may wait for its answer at a node, in milliseconds: what is asked of a minority waits so long.
const REQUEST_DEADLINE_MS: u64 = 3_000;
/// How long a member waits for an answer: longer than a node does.
const PATIENCE: Duration = Duration::from_millis(REQUEST_DEADLINE_MS + 1_000);
/// How long a member listens before it looks whether it has all that it waits for.
const LISTEN: Duration = Duration::from_millis(500);

/// Where members may knock: the doors of the nodes that answer. Clones are the same doors.
#[derive(Clone)]
pub struct Doors {
    dialer: DoorDialer,
    open: Arc<Mutex<BTreeMap<String, (String, SocketAddr)>>>,
}

impl Doors {
    fn of(net: &Net) -> Self {
        let doors = Self {
            dialer: net.dialer.clone(),
            open: Arc::default(),
        };
        for name in net.nodes.keys() {
            doors.open(net, name);
        }
        doors
    }

    /// From now on the node is asked.
    pub fn open(&self, net: &Net, name: &str) {
        let node = net.node(name);
        let door = (node.provider.to_string(), node.door);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.insert(name.to_owned(), door);
    }

    /// From now on the node is not asked.
    pub fn shut(&self, name: &str) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(name);
    }

    fn of_provider(&self, provider: &str) -> Vec<(String, SocketAddr)> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let here = open.iter().filter(|(_, (of, _))| of == provider);
        here.map(|(name, (_, door))| (name.clone(), *door))
            .collect()
    }

    /// Lets a member in at the first node of its provider that does, and has it send again what has no verdict.
    pub async fn enter(&self, one: &mut Watched) {
        let provider = one.member.client().provider().to_string();
        let deadline = Instant::now() + 2 * WAIT;
        for turn in 0.. {
            let doors = self.of_provider(&provider);
            let (name, door) = &doors[turn % doors.len()];
            let Err(error) = one.turn_to(&self.dialer, name, *door).await else {
                return;
            };
            let who = one.member.client();
            assert!(Instant::now() < deadline, "{who} at {name}: {error}");
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    /// Sends a Commit, the same one again wherever a node answers, until it is decided.
    pub async fn commit(
        &self,
        one: &mut Watched,
        update: &PreparedCommit,
    ) -> Result<Accepted, MemberError> {
        let deadline = Instant::now() + 2 * WAIT;
        loop {
            match one.commit(update, &[], &[]).await {
                decided @ (Ok(_) | Err(MemberError::Lost { .. })) => return decided,
                Err(error) => {
                    let who = one.member.client();
                    assert!(Instant::now() < deadline, "{who} commits: {error}");
                    self.enter(one).await;
                }
            }
        }
    }

    /// Says something, until it is acknowledged.
    pub async fn say(&self, one: &mut Watched, den: &RoomUri, text: &str) {
        one.member.encrypt(den, &[text]).unwrap();
        if one.resend(den).await.is_err() {
            self.enter(one).await;
        }
    }

    /// Listens for a while, if need be at another node.
    pub async fn listen(&self, one: &mut Watched, den: &RoomUri, wait: Duration) {
        let heard = match one.pump(wait).await {
            // A verdict is said once: who missed it has to ask.
            Ok(false) => one.resend(den).await,
            other => other.map(drop),
        };
        if heard.is_err() {
            self.enter(one).await;
        }
    }

    /// Reads until the condition holds.
    pub async fn read_until(
        &self,
        one: &mut Watched,
        den: &RoomUri,
        what: &str,
        condition: impl Fn(&Member) -> bool,
    ) {
        let deadline = Instant::now() + 2 * WAIT;
        while !condition(&one.member) {
            let (who, counts) = (one.member.client(), one.member.counts());
            let (epoch, received) = (one.member.epoch(den), one.member.received(den).len());
            assert!(
                Instant::now() < deadline,
                "{who} waits for {what}: epoch {epoch:?}, {received} messages, {counts:?}"
            );
            self.listen(one, den, LISTEN).await;
        }
    }
}

/// Watched members of one room, the nodes they ask, and the network between these.
pub struct Stage {
    pub chronicle: Chronicle,
    pub den: RoomUri,
    pub doors: Doors,
    pub network: Network,
    /// The node to which everything is done: it led the room when the story began with it.
    pub marked: String,
    /// Whether the Commit that was sent to the other nodes opened the epoch that was contested last.
    pub won_elsewhere: bool,
    /// Messages that were said.
    pub said: usize,
    cast: Cast,
    claim: Option<(ClaimId, ClaimResponse)>,
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.cast.iter().map(|(name, _)| name))
            .finish()
    }
}

impl Stage {
    /// The members by name.
    pub fn members(&self) -> impl Iterator<Item = (&String, &Member)> {
        self.cast.iter().map(|(name, one)| (name, &one.member))
    }

    pub fn one(&mut self, name: &str) -> &mut Watched {
        self.cast.one(name)
    }

    /// Takes a member out, for a task of its own.
    pub fn take(&mut self, name: &str) -> Watched {
        self.cast.take(name)
    }

    pub fn put(&mut self, name: &str, one: Watched) {
        self.cast.put(name, one);
    }

    /// Marks the node that leads the room.
    pub async fn mark_leader(&mut self, net: &Net) {
        self.marked = net.leader_of(A, &self.den.to_string()).await;
    }

    /// The nodes beside the marked one.
    pub fn others(&self, net: &Net) -> Vec<String> {
        let nodes = net.nodes.iter();
        let others = nodes.filter(|(name, node)| {
            node.provider.as_str() == A && **name != self.marked && node.runs()
        });
        others.map(|(name, _)| name.clone()).collect()
    }

    /// Everybody reads everything that was said, and enters one epoch.
    pub async fn catch_up(&mut self) {
        let (den, said, doors) = (&self.den, self.said, &self.doors);
        let epoch = self.cast.members().filter_map(|member| member.epoch(den));
        let epoch = epoch.max();
        let all = |member: &Member| {
            member.received(den).len() >= said
                && member.epoch(den) >= epoch
                && member.unresolved(den).is_empty()
        };
        let everybody = self.cast.all();
        join_all(everybody.map(|one| doors.read_until(one, den, "everything", all))).await;
        // An own Commit is merged with its answer; its event comes later.
        let last = self.cast.members().map(|member| member.last_seq(den));
        let last = last.max().unwrap();
        let upto = |member: &Member| member.last_seq(den) >= last;
        let everybody = self.cast.all();
        join_all(everybody.map(|one| doors.read_until(one, den, "the last event", upto))).await;
        let members: Vec<_> = self.cast.members().collect();
        support::agree(&members, den);
        for member in members {
            assert_eq!(member.received(den).len(), said, "{}", member.client());
        }
    }
}

/// Starts the nodes after they were prepared, and writes down what happens from then on.
pub async fn gather(
    story: &mut Story,
    nodes: u64,
    env: &[(&str, u64)],
    prepare: impl FnOnce(&mut Net),
) {
    let network = Network::default();
    let mut net = Net::prepare_clusters(&[(A, nodes), (B, 1)], Some(&network));
    let deadline = (
        "MIMI_NODE__LIMITS__REQUEST_DEADLINE_MS",
        REQUEST_DEADLINE_MS,
    );
    for node in net.nodes.values_mut() {
        let env = env.iter().chain([&deadline]);
        node.env = env
            .map(|(key, value)| ((*key).to_owned(), value.to_string()))
            .collect();
    }
    prepare(&mut net);
    net.start_all().await;
    let stage = Stage {
        chronicle: Chronicle::create(net.path("history")),
        den: support::room("den", A),
        doors: Doors::of(&net),
        network,
        marked: String::new(),
        won_elsewhere: false,
        said: 0,
        cast: Cast::default(),
        claim: None,
    };
    story.net = Some(net);
    story.stage = Some(stage);
}

#[given(regex = r"^(\d) nodes of a\.example and one of b\.example$")]
async fn nodes(story: &mut Story, count: u64) {
    gather(story, count, &[], |_| ()).await;
}

#[given(
    regex = r"^(\d) nodes of a\.example, which seal their state after (\d+) entries, and one of b\.example$"
)]
async fn sealing_nodes(story: &mut Story, count: u64, entries: u64) {
    let every = ("MIMI_NODE__STORAGE__SNAPSHOT_ENTRIES", entries);
    gather(story, count, &[every], |_| ()).await;
}

#[given(
    regex = r"^(\d) nodes of a\.example, which lend the GroupInfo for (\d+) ms, and one of b\.example$"
)]
async fn lending_nodes(story: &mut Story, count: u64, lease_ms: u64) {
    let lease = ("MIMI_NODE__LIMITS__GROUP_INFO_LEASE_MS", lease_ms);
    gather(story, count, &[lease], |_| ()).await;
}

#[given(regex = r"^(\w+) and (\w+) of a\.example and (\w+) of b\.example, watched, in one room$")]
async fn watched(story: &mut Story, creator: String, second: String, third: String) {
    let (net, stage) = story.stage();
    let host = support::user(&creator, A);
    for (name, provider) in [(&creator, A), (&second, A), (&third, B)] {
        let who = (name.as_str(), provider);
        let member = match *name == creator {
            true => net.member(name, DEVICE, provider).await,
            false => net.guest(who, &host, PACKAGES).await,
        };
        let mut one = stage.chronicle.watch(member, &name_of(provider, 1));
        one.patience = PATIENCE;
        stage.put(name, one);
    }
    let den = stage.den.clone();
    let claimed = stage.cast.open(&den, &creator, &[&second, &third]).await;
    stage.claim = Some(claimed);
    // Whoever was added learns of it before somebody commits again.
    let Stage { doors, cast, .. } = stage;
    for one in cast.all() {
        doors
            .read_until(one, &den, "epoch 1", |member| {
                member.epoch(&den) == Some(Epoch(1))
            })
            .await;
    }
}

#[given(regex = r"^(\w+) asks the node that leads the room, and (\w+) another$")]
async fn ask_nodes(story: &mut Story, first: String, second: String) {
    let (net, stage) = story.stage();
    net.led(A).await;
    stage.mark_leader(net).await;
    let other = stage.others(net).swap_remove(0);
    let leader = stage.marked.clone();
    let deadline = Instant::now() + WAIT;
    for (name, node) in [(first, leader), (second, other)] {
        let (dialer, door) = (net.dialer.clone(), net.node(&node).door);
        let one = stage.one(&name);
        while let Err(error) = one.turn_to(&dialer, &node, door).await {
            assert!(Instant::now() < deadline, "{name} at {node}: {error}");
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }
}

#[when(regex = r"^everybody talks$")]
async fn talk(story: &mut Story) {
    let (_, stage) = story.stage();
    let Stage {
        doors,
        cast,
        den,
        said,
        ..
    } = stage;
    for one in cast.all() {
        for text in ["so", "so again"] {
            doors.say(one, den, text).await;
            *said += 1;
        }
    }
    stage.catch_up().await;
}

#[when(regex = r"^(\w+) and (\w+) contest an epoch of the room$")]
async fn contest(story: &mut Story, first: String, second: String) {
    let (_, stage) = story.stage();
    let (mut one, mut other) = (stage.take(&first), stage.take(&second));
    let hers = one.member.prepare_update(&stage.den).unwrap();
    let his = other.member.prepare_update(&stage.den).unwrap();
    let (left, right) = futures::join!(
        stage.doors.commit(&mut one, &hers),
        stage.doors.commit(&mut other, &his)
    );
    match (left, right) {
        (Ok(_), Err(MemberError::Lost { .. })) | (Err(MemberError::Lost { .. }), Ok(_)) => {}
        both => panic!("{both:?}"),
    }
    stage.put(&first, one);
    stage.put(&second, other);
    stage.catch_up().await;
}

#[when(regex = r"^(\w+) repeats (?:her|his) first claim, and gets the same$")]
async fn claim_again(story: &mut Story, name: String) {
    let (_, stage) = story.stage();
    let (id, claimed) = stage.claim.clone().expect("somebody claimed");
    let users: Vec<_> = claimed.users.iter().map(|row| row.user.clone()).collect();
    let mut one = stage.take(&name);
    let deadline = Instant::now() + WAIT;
    let again = loop {
        let again = one.claim(id, &stage.den, &users).await;
        match again {
            Ok(again) if again.users.iter().all(|row| row.result.is_ok()) => break again,
            other => assert!(Instant::now() < deadline, "{other:?}"),
        }
        stage.doors.enter(&mut one).await;
    };
    assert_eq!(again, claimed);
    stage.put(&name, one);
}

#[when(regex = r"^(\w+) sends (\d+) messages, one by one$")]
async fn sends_many(story: &mut Story, name: String, count: usize) {
    let (_, stage) = story.stage();
    let mut one = stage.take(&name);
    for number in 0..count {
        let text = format!("{name} {number}");
        stage.doors.say(&mut one, &stage.den, &text).await;
        stage.said += 1;
    }
    stage.put(&name, one);
}

#[when(regex = r"^everybody has read everything$")]
async fn catch_up(story: &mut Story) {
    story.stage().1.catch_up().await;
}

#[then(regex = r"^(\w+)'s Commit is accepted$")]
async fn commits(story: &mut Story, name: String) {
    let (_, stage) = story.stage();
    let mut one = stage.take(&name);
    let den = stage.den.clone();
    let update = one.member.prepare_update(&den).unwrap();
    stage.doors.commit(&mut one, &update).await.unwrap();
    stage.put(&name, one);
}

/// What all nodes hold goes into the history as well: who led, in which term, what every shard's state is.
#[then(regex = r"^all nodes of a\.example have one state$")]
async fn one_state(story: &mut Story) {
    let (net, stage) = story.stage();
    net.led(A).await;
    net.level(A).await;
    stage.chronicle.replicas(net, A).await;
}

#[given(regex = r"^the nodes tell who leads$")]
async fn tell(story: &mut Story) {
    let (net, stage) = story.stage();
    stage.chronicle.replicas(net, A).await;
}

#[then(regex = r"^the history shows ([I\d, and]+)$")]
async fn shows(story: &mut Story, list: String) {
    let (_, stage) = story.stage();
    let shown: Vec<Invariant> = names(&list)
        .iter()
        .map(|name| name.parse().unwrap())
        .collect();
    let path = stage.chronicle.path.clone();
    let output = aside(move || Chronicle::verify(&path, &shown, WITHIN_S)).await;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
}

/// Waits until a node says something in its log, after the first `from` lines.
pub async fn says(net: &Net, name: &str, from: usize, parts: &[&str]) {
    until(&format!("{name} says {parts:?}"), async || {
        let log = net.node(name).log();
        let mut lines = log.iter().skip(from);
        lines
            .any(|line| parts.iter().all(|part| line.contains(part)))
            .then_some(())
    })
    .await;
}
