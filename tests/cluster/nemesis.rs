//! Traffic in two rooms of three providers, while links are cut, one way or both, while datagrams are lost, doubled and
//! overtake one another, and while hubs and followers are killed; and what the history of it shows.
//!
//! `MINUTES` says how long faults are dealt, `SEED` which; without them every kind comes once.
//! Source: transport requirements, sections 4 and 5.

use crate::support::{
    self, Net, Network, Way,
    cast::{Cast, Who},
    history::{Chronicle, Watched},
    room, until,
};
use futures::future::join_all;
use mimi_actors::{ids::RoomUri, wire::event::Verdict};
use mimi_client::member::{Member, MemberError, PreparedCommit, Proposing, new_claim_id};
use mimi_history::{Acked, Event, Fault, Invariant, Phase};
use mimi_quic::DoorDialer;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

const HUB: &str = "a.example";
const PROVIDERS: [&str; 3] = [HUB, "b.example", "c.example"];
/// alice and amy at the hub, bob and carol at a follower each.
const CAST: [Who<'_>; 4] = [
    ("alice", HUB),
    ("amy", HUB),
    ("bob", "b.example"),
    ("carol", "c.example"),
];
/// What a run must show; an invariant that was not put to the test fails it too.
const SHOWN: [Invariant; 14] = [
    Invariant::I1,
    Invariant::I2,
    Invariant::I4,
    Invariant::I5,
    Invariant::I6,
    Invariant::I10,
    Invariant::I12,
    Invariant::I13,
    Invariant::I14,
    Invariant::I15,
    Invariant::I16,
    Invariant::I20,
    Invariant::I25,
    Invariant::I26,
];
/// How long delivery may take after the last fault, in seconds; everybody waits for it as long after each.
const WITHIN_S: u64 = 60;
/// How long a member waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a member listens between two sends.
const PAUSE: Duration = Duration::from_millis(30);
/// How long a member waits before it tries a door again.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// How long the talk goes on after a fault.
const A_MOMENT: Duration = Duration::from_millis(300);
/// Messages without a verdict of a member in a room, after which it sends no new ones.
const UNRESOLVED_MAX: usize = 64;
/// Of so many turns a member commits in one.
const COMMIT_TURNS: u32 = 12;

/// What is done to the nodes and the network between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Deed {
    /// Datagrams are lost, doubled, and overtake one another.
    Rough,
    /// Nothing goes either way between the hub and a follower.
    Cut,
    /// What one of the two sends is lost.
    CutOneWay,
    /// kill -9 of the hub or a follower.
    Kill,
    /// Of both sides of a link.
    KillBoth,
    /// The hub is killed while a Commit of a follower's is on its way to it.
    KillInCommit,
    /// A follower acknowledges, is cut off and killed; its devices read on.
    Crash,
    /// A member is removed while it sends, and added again.
    Removal,
    /// Somebody proposes, somebody else commits.
    Proposal,
    /// Two commit for one epoch.
    Contest,
}

const DEEDS: [Deed; 10] = [
    Deed::Rough,
    Deed::Contest,
    Deed::Cut,
    Deed::Removal,
    Deed::Kill,
    Deed::Proposal,
    Deed::KillBoth,
    Deed::KillInCommit,
    Deed::Crash,
    Deed::CutOneWay,
];

struct Run {
    net: Net,
    network: Network,
    chronicle: Chronicle,
    rooms: Vec<RoomUri>,
    cast: Cast,
    random: StdRng,
    done: BTreeMap<Deed, usize>,
}

impl Run {
    async fn gather(seed: u64) -> Self {
        let network = Network::default();
        let mut net = Net::prepare_over(&PROVIDERS, Some(&network));
        for node in net.nodes.values_mut() {
            node.start().await;
        }
        net.linked().await;
        let chronicle = Chronicle::create(net.path("history"));
        let mut cast = Cast::default();
        let alice = support::user("alice", HUB);
        for (name, provider) in CAST {
            let member = net.light_guest((name, provider), &alice, 8).await;
            let mut watched = chronicle.watch(member, provider);
            watched.patience = PATIENCE;
            cast.put(name, watched);
        }
        let mut run = Self {
            net,
            network,
            chronicle,
            rooms: vec![room("den", HUB), room("attic", HUB)],
            cast,
            random: StdRng::seed_from_u64(seed),
            done: BTreeMap::new(),
        };
        for room in run.rooms.clone() {
            let guests = ["amy", "bob", "carol"];
            run.cast.open(&room, "alice", &guests).await;
            run.joined(&room, &guests).await;
        }
        run.settle().await;
        run
    }

    fn one(&mut self, name: &str) -> &mut Watched {
        self.cast.one(name)
    }

    /// alice adds somebody again, who joins.
    async fn add_again(&mut self, room: &RoomUri, name: &str) {
        let added = [self.one(name).member.client().clone()];
        let users = [added[0].user().clone()];
        let alice = self.one("alice");
        let id = new_claim_id().unwrap();
        let claimed = until("the KeyPackages are handed out", async || {
            alice.claim(id, room, &users).await.ok()
        });
        let claimed = claimed.await;
        alice.add(room, &claimed, &added).await;
        self.joined(room, &[name]).await;
    }

    /// Those whom alice has added join.
    async fn joined(&mut self, room: &RoomUri, names: &[&str]) {
        let epoch = self.one("alice").member.epoch(room);
        for name in names {
            let what = format!("{name} joins {room}");
            let joined = |member: &Member| member.epoch(room).is_some_and(|at| Some(at) >= epoch);
            self.one(name).read_until(&what, joined).await;
        }
    }

    /// Everybody talks and some commit for a while. In the midst of it nodes are killed and started again.
    async fn talk(&mut self, time: Duration, killed: &[&str]) {
        let turn = Turn::default();
        let (dialer, rooms) = (&self.net.dialer.clone(), &self.rooms);
        let mut talking = Vec::new();
        for (name, one) in self.cast.iter_mut() {
            let door = self.net.node(one.member.client().provider().as_str()).door;
            let random = StdRng::from_rng(&mut self.random);
            let commits = name != "amy";
            talking.push(chatter(
                one,
                (dialer, door),
                rooms,
                (random, commits),
                &turn,
            ));
        }
        let (net, chronicle) = (&mut self.net, &self.chronicle);
        let dealing = async {
            tokio::time::sleep(time / 2).await;
            turn.all_commit.store(!killed.is_empty(), Ordering::Release);
            tokio::time::sleep(time / 4).await;
            for name in killed {
                chronicle.kill(net, name);
            }
            turn.all_commit.store(false, Ordering::Release);
            tokio::time::sleep(time / 4).await;
            for name in killed {
                start(chronicle, net, name).await;
            }
            turn.stop.store(true, Ordering::Release);
        };
        futures::join!(dealing, join_all(talking));
    }

    /// Waits until nothing is under way: every message has its verdict, every Commit is decided, all have read all.
    async fn settle(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(WITHIN_S);
        loop {
            let (dialer, rooms) = (&self.net.dialer, &self.rooms);
            let catching_up = self.cast.all().map(|one| {
                let door = self.net.node(one.member.client().provider().as_str()).door;
                catch_up(one, (dialer, door), rooms)
            });
            join_all(catching_up).await;
            let open = self.open();
            if open.is_empty() {
                self.net.linked().await;
                return;
            }
            assert!(Instant::now() < deadline, "still open: {open:#?}");
        }
    }

    /// What is not settled.
    fn open(&self) -> Vec<String> {
        let mut open = Vec::new();
        for room in &self.rooms {
            let here = |member: &&Member| member.epoch(room).is_some();
            let here = self.cast.members().filter(here);
            // What somebody was told is in the room is to be read too, by all.
            let told = |member: &Member| {
                let verdicts = member.verdicts(room).into_iter();
                let seqs = verdicts.filter_map(|(_, verdict)| match verdict {
                    Verdict::Accepted { seq, .. } => Some(seq),
                    Verdict::Queued | Verdict::Refused(_) => None,
                });
                seqs.max()
            };
            let last = here.map(|member| told(member).max(Some(member.last_seq(room))));
            let last = last.max().flatten();
            for (name, one) in self.cast.iter() {
                let member = &one.member;
                let unresolved = member.unresolved(room).len();
                let pending = member.pending_commit(room).is_some();
                let at = member.epoch(room).map(|_| member.last_seq(room));
                let unread = at.is_some() && !one.has_read_own_commit(room);
                if unresolved > 0 || pending || unread || at.is_some_and(|at| Some(at) != last) {
                    open.push(format!(
                        "{name} in {room}: {unresolved} messages, pending {pending}, at {at:?} of {last:?}, {:?}",
                        member.counts()
                    ));
                }
            }
        }
        open
    }

    fn follower(&mut self) -> &'static str {
        PROVIDERS[1..].choose(&mut self.random).unwrap()
    }

    fn a_while(&mut self) -> Duration {
        Duration::from_millis(self.random.random_range(500..2_500))
    }

    fn cut(&self, from: &str, to: &str) {
        self.network.cut(&[from.to_owned()], &[to.to_owned()]);
    }

    fn partition(&self, target: &str, phase: Phase) {
        let what = Fault::Partition;
        self.chronicle.nemesis(what, &[target], phase);
    }

    /// Makes the network whole.
    fn heal(&self, target: &str) {
        self.network.heal();
        self.partition(target, Phase::Stop);
    }

    async fn does(&mut self, deed: Deed) {
        let began = Instant::now();
        match deed {
            Deed::Rough => self.rough().await,
            Deed::Cut => self.cut_off(true).await,
            Deed::CutOneWay => self.cut_off(false).await,
            Deed::Kill => {
                let target = PROVIDERS.choose(&mut self.random).unwrap();
                self.killed(&[target]).await;
            }
            Deed::KillBoth => {
                let follower = self.follower();
                self.killed(&[HUB, follower]).await;
            }
            Deed::KillInCommit => self.killed_in_commit().await,
            Deed::Crash => self.crash().await,
            Deed::Removal => self.removal().await,
            Deed::Proposal => self.proposal().await,
            Deed::Contest => self.contest().await,
        }
        *self.done.entry(deed).or_default() += 1;
        for member in self.cast.members() {
            support::unhurt(member);
        }
        println!("{deed:?} in {:.1} s", began.elapsed().as_secs_f32());
    }

    async fn rough(&mut self) {
        let way = Way {
            lost_percent: self.random.random_range(2..15),
            doubled_percent: self.random.random_range(5..40),
            flipped_percent: self.random.random_range(0..5),
            delay_max: Duration::from_millis(self.random.random_range(2..30)),
            ..Way::default()
        };
        self.network.all(way);
        self.partition("the network", Phase::Start);
        let time = self.a_while();
        self.talk(time, &[]).await;
        self.heal("the network");
    }

    async fn cut_off(&mut self, both_ways: bool) {
        let (follower, from_hub) = (self.follower(), self.random.random());
        if both_ways || from_hub {
            self.cut(HUB, follower);
        }
        if both_ways || !from_hub {
            self.cut(follower, HUB);
        }
        self.partition(follower, Phase::Start);
        let time = self.a_while();
        self.talk(time, &[]).await;
        self.heal(follower);
        self.talk(A_MOMENT, &[]).await;
    }

    async fn killed(&mut self, names: &[&str]) {
        let time = self.a_while();
        self.talk(time, names).await;
        self.talk(A_MOMENT, &[]).await;
    }

    /// A member of a follower commits while the hub cannot be reached, and then the hub is killed.
    async fn killed_in_commit(&mut self) {
        self.settle().await;
        let room = self.rooms.choose(&mut self.random).unwrap().clone();
        let update = self.one("bob").member.prepare_update(&room).unwrap();
        self.cut(HUB, "b.example");
        self.cut("b.example", HUB);
        self.partition("b.example", Phase::Start);
        let (net, chronicle, network) = (&mut self.net, &self.chronicle, &self.network);
        let bob = self.cast.one("bob");
        let killing = async {
            chronicle.kill(net, HUB);
            start(chronicle, net, HUB).await;
            network.heal();
            chronicle.nemesis(Fault::Partition, &["b.example"], Phase::Stop);
        };
        // It is begun first. How it ends is in the history; what is open then is settled with the rest.
        let (_, ()) = futures::join!(bob.commit(&update, &[], &[]), killing);
        self.settle().await;
    }

    /// A follower acknowledges what its device has not read. Then it is cut off from the hub, and killed.
    async fn crash(&mut self) {
        self.settle().await;
        let (follower, reader) = [("b.example", "bob"), ("c.example", "carol")]
            .choose(&mut self.random)
            .copied()
            .unwrap();
        let mut owed = Vec::new();
        for room in self.rooms.clone() {
            let texts: Vec<String> = (0..20).map(|number| format!("owed {number}")).collect();
            let texts: Vec<_> = texts.iter().map(String::as_str).collect();
            let alice = self.one("alice");
            alice.send(&room, &texts).await.unwrap();
            let all = |member: &Member| member.unresolved(&room).is_empty();
            alice.read_until("its verdicts", all).await;
            let verdicts = alice.member.verdicts(&room).into_iter();
            let seqs = verdicts.filter_map(|(_, verdict)| match verdict {
                Verdict::Accepted { seq, .. } => Some(seq),
                Verdict::Queued | Verdict::Refused(_) => None,
            });
            owed.push((room, seqs.max().unwrap()));
        }
        let hub = self.net.node(HUB);
        until("everything is acknowledged", async || {
            let status = hub.status().await;
            let mut rows = status.peers.into_iter();
            let row = rows.find(|row| row.provider == follower)?;
            (row.unacknowledged == 0).then_some(())
        })
        .await;
        self.chronicle.record(Event::Acked(Acked {
            hub: HUB.to_owned(),
            peer: follower.to_owned(),
        }));
        self.cut(HUB, follower);
        self.cut(follower, HUB);
        self.partition(follower, Phase::Start);
        self.chronicle.kill(&mut self.net, follower);
        start(&self.chronicle, &mut self.net, follower).await;
        let (dialer, door) = (self.net.dialer.clone(), self.net.node(follower).door);
        let one = self.one(reader);
        one.reconnect(&dialer, door).await;
        for (room, seq) in owed {
            one.read_upto(&room, seq).await;
        }
        self.heal(follower);
    }

    /// What carol sends while she is removed waits at her provider, and is refused.
    async fn removal(&mut self) {
        self.settle().await;
        let room = self.rooms.choose(&mut self.random).unwrap().clone();
        let carol = self.one("carol").member.client().clone();
        self.cut(HUB, "c.example");
        self.cut("c.example", HUB);
        self.partition("c.example", Phase::Start);
        let late = ["am I", "still", "here"];
        self.one("carol").send(&room, &late).await.unwrap();
        let alice = self.one("alice");
        let removed = [carol];
        let removal = alice.member.prepare_remove(&room, &removed).unwrap();
        alice.commit(&removal, &[], &removed).await.unwrap();
        self.heal("c.example");
        self.settle().await;
        assert_eq!(self.one("carol").member.epoch(&room), None);
        self.one("carol").member.upload(1).await.unwrap();
        self.add_again(&room, "carol").await;
        self.settle().await;
    }

    async fn proposal(&mut self) {
        self.settle().await;
        let room = self.rooms.choose(&mut self.random).unwrap().clone();
        let bob = self.one("bob");
        // The hub may be out of reach a moment longer.
        bob.patience = Duration::from_secs(WITHIN_S);
        until("the hub has a Proposal of bob's", async || {
            bob.propose(&room, Proposing::Update).await.ok()
        })
        .await;
        bob.patience = PATIENCE;
        let alice = self.one("alice");
        let seen = |member: &Member| member.pending_proposals(&room) > 0;
        alice.read_until("the Proposal", seen).await;
        let update = alice.member.prepare_update(&room).unwrap();
        alice.commit(&update, &[], &[]).await.unwrap();
        self.settle().await;
    }

    async fn contest(&mut self) {
        self.settle().await;
        let room = self.rooms.choose(&mut self.random).unwrap().clone();
        let [alice, bob] = self.cast.two("alice", "bob");
        let hers = alice.member.prepare_update(&room).unwrap();
        let his = bob.member.prepare_update(&room).unwrap();
        let (first, second) =
            futures::join!(alice.commit(&hers, &[], &[]), bob.commit(&his, &[], &[]));
        assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
        self.settle().await;
    }
}

/// What those who talk are told meanwhile.
#[derive(Default)]
struct Turn {
    stop: AtomicBool,
    /// Whoever commits does it at once.
    all_commit: AtomicBool,
}

/// Starts a killed node; it may be cut off from its peers.
async fn start(chronicle: &Chronicle, net: &mut Net, name: &str) {
    net.node_mut(name).start().await;
    chronicle.nemesis(Fault::Kill, &[name], Phase::Stop);
}

/// Comes back to its door.
async fn enter(one: &mut Watched, (dialer, door): (&DoorDialer, SocketAddr)) {
    let node = one.member.client().provider().to_string();
    if one.turn_to(dialer, &node, door).await.is_err() {
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

/// Commits, again what was not decided.
async fn commit(one: &mut Watched, room: &RoomUri) {
    let pending = one.member.pending_commit(room).cloned();
    let prepared: Result<PreparedCommit, MemberError> =
        pending.map_or_else(|| one.member.prepare_update(room), Ok);
    if let Ok(prepared) = prepared {
        // How it ends is in the history; what is open is settled after the fault.
        drop(one.commit(&prepared, &[], &[]).await);
    }
}

async fn chatter(
    one: &mut Watched,
    door: (&DoorDialer, SocketAddr),
    rooms: &[RoomUri],
    (mut random, commits): (StdRng, bool),
    turn: &Turn,
) {
    loop {
        if turn.stop.load(Ordering::Acquire) {
            return;
        }
        let room = rooms.choose(&mut random).unwrap();
        let now = turn.all_commit.load(Ordering::Acquire);
        // Who commits again and again without reading is soon too far ahead for messages of before.
        if commits
            && one.has_read_own_commit(room)
            && (now || random.random_range(0..COMMIT_TURNS) == 0)
        {
            commit(one, room).await;
        }
        if one.member.unresolved(room).len() < UNRESOLVED_MAX {
            let texts = ["so", "and so", "on"];
            let count = random.random_range(1..=texts.len());
            // While Proposals wait for a Commit nobody sends.
            drop(one.member.encrypt(room, &texts[..count]));
        }
        let said = one.resend(room).await;
        if said.is_err() || one.pump(PAUSE).await.is_err() {
            enter(one, door).await;
        }
    }
}

/// Listens for a while, and asks for what is open.
async fn catch_up(one: &mut Watched, door: (&DoorDialer, SocketAddr), rooms: &[RoomUri]) {
    let heard = one.pump(PAUSE).await;
    let quiet = matches!(heard, Ok(false));
    let mut broken = heard.is_err();
    for room in rooms.iter().filter(|_| quiet) {
        if one.member.pending_commit(room).is_some() {
            commit(one, room).await;
        }
        // A verdict is said once: who missed it has to ask.
        broken |= one.resend(room).await.is_err();
    }
    if broken {
        enter(one, door).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_promised_holds_over_cut_links_rough_networks_and_kills_on_both_sides() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let minutes: u64 = number("MINUTES").unwrap_or(0);
    let seed = number("SEED").unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
    println!("SEED={seed} MINUTES={minutes}");
    let began = Instant::now();
    let mut run = Run::gather(seed).await;
    for deed in DEEDS {
        run.does(deed).await;
    }
    while began.elapsed() < Duration::from_secs(60 * minutes) {
        let deed = *DEEDS.choose(&mut run.random).unwrap();
        run.does(deed).await;
    }
    run.settle().await;
    let seen: usize = run.cast.members().map(|member| member.seen().count()).sum();
    println!("seed {seed}: {seen} messages read in {:?}", began.elapsed());
    println!("faults and contests: {:?}", run.done);
    println!("{} datagrams were dropped", run.network.dropped());
    if let Ok(kept) = std::env::var("HISTORY") {
        std::fs::copy(&run.chronicle.path, kept).unwrap();
    }
    let output = Chronicle::verify(&run.chronicle.path, &SHOWN, WITHIN_S);
    let said = [output.stdout, output.stderr].concat();
    println!("{}", String::from_utf8_lossy(&said));
    assert_eq!(output.status.code(), Some(0));
    for room in &run.rooms {
        let cast: Vec<_> = run.cast.members().collect();
        support::agree(&cast, room);
    }
    assert!(run.net.errors().is_empty(), "{:?}", run.net.errors());
}
