//! Meshes of one process each in name only: real QUIC on loopback, real logs, recorded state.

mod releases;

use super::{
    Mesh,
    clock::{self, NodeClock},
    frame::{
        Calls, ControlAnswer, Greeting, Ground, Hello, Offer, Open, RaftAnswer, RaftCall, Rpc, Want,
    },
    identity::Own,
};
use crate::{
    cluster::{
        log::{
            batch::Batch,
            types::{LogId, SnapshotMeta},
        },
        raft::{figures::Role, group::Group, group_error::ProposeError},
        testing::{Recorder, batch, until},
    },
    directory,
    quic::{
        ClusterEndpoint, ClusterLink, Identity, LaneReceiver,
        issue::{create_ca, create_certificate},
    },
    store::Disk,
};
use mimi_actors::{
    ids::ProviderId,
    limits::SHARDS_DEFAULT,
    membership::Address,
    wire::{self, BVec, version::Release},
};
use openraft::{BasicNode, Vote, raft::VoteRequest};
use std::{
    collections::{BTreeMap, BTreeSet},
    future::ready,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

/// Entries after which a shard is sealed.
const EVERY: u64 = 10;
/// The public half of the hub's key.
const HUB_KEY: [u8; 32] = [5; 32];
/// How long anything may take.
const WAIT: Duration = Duration::from_secs(30);

fn name(name: &str) -> ProviderId {
    name.parse().unwrap()
}

/// Directories, certificates and addresses of some nodes.
struct Site {
    dir: tempfile::TempDir,
    addresses: BTreeMap<u64, SocketAddr>,
    /// Nodes that speak as the release before.
    before: BTreeSet<u64>,
}

impl Site {
    fn new(nodes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        create_ca(dir.path()).unwrap();
        // Held until all are known, so that no two are the same.
        let held: Vec<UdpSocket> = (0..nodes)
            .map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
            .collect();
        let addresses = (1..).zip(held.iter().map(|socket| socket.local_addr().unwrap()));
        let addresses = addresses.collect();
        Self {
            dir,
            addresses,
            before: BTreeSet::new(),
        }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn endpoint(&self, node: u64, address: SocketAddr) -> ClusterEndpoint {
        self.endpoint_of(Release::OWN, node, address)
    }

    fn endpoint_of(&self, release: Release, node: u64, address: SocketAddr) -> ClusterEndpoint {
        let domain = format!("n{node}.main.a.example");
        let file = |kind| self.path().join(format!("{domain}.{kind}"));
        if !file("crt").exists() {
            create_certificate(self.path(), &name(&domain), self.path()).unwrap();
        }
        let identity = Identity::load(&file("crt"), &file("key")).unwrap();
        let ca = self.path().join("ca.crt");
        ClusterEndpoint::bind(address, &identity, &name("main.a.example"), &ca, release).unwrap()
    }

    fn data(&self, node: u64) -> PathBuf {
        self.path().join(format!("data-{node}"))
    }

    async fn start(&self, node: u64) -> Node {
        self.start_at(node, &self.data(node), self.addresses[&node])
            .await
    }

    async fn start_at(&self, node: u64, data: &Path, at: SocketAddr) -> Node {
        std::fs::create_dir_all(data).unwrap();
        let cluster = name("main.a.example");
        let provider = name("a.example");
        let claimed = directory::claim(
            data,
            &provider,
            node,
            Some(&cluster),
            Some([1; 32]),
            SHARDS_DEFAULT,
        );
        let claimed = claimed.unwrap().start(vec![HUB_KEY]).unwrap();
        let disk = Disk::open(data, SHARDS_DEFAULT, u64::MAX).unwrap();
        // What an earlier start of the node held is given back a moment after it has ended.
        until("the port is free", || UdpSocket::bind(at).is_ok()).await;
        let endpoint = if self.before.contains(&node) {
            self.endpoint_of(Release::named("v0.1").unwrap(), node, at)
        } else {
            self.endpoint(node, at)
        };
        let own = Own {
            cluster,
            address: Address::exact(&at.to_string()).unwrap(),
            waits: false,
        };
        let clock = Arc::new(NodeClock::start(node, false));
        let own_clock = Arc::clone(&clock);
        let mesh = Mesh::new(
            (node, SHARDS_DEFAULT),
            endpoint,
            (claimed, own),
            data,
            disk.clone(),
            own_clock,
        );
        let mesh = mesh.unwrap();
        let recorder = Arc::new(Recorder::default());
        let apply = Arc::clone(&recorder) as _;
        let group = Group::start(0, node, &disk, EVERY, apply, Some(Arc::clone(&mesh) as _));
        let group = group.await.unwrap();
        mesh.begin(vec![group.clone()]);
        for (other, address) in self.addresses.iter().filter(|(other, _)| **other != node) {
            mesh.neighbour(*other, &address.to_string());
        }
        let serving = tokio::spawn(Arc::clone(&mesh).serve());
        let watched = group.clone();
        let timing = tokio::spawn(clock::keep(clock, Some(Arc::clone(&mesh) as _)));
        // It stands for election where the rules say so, and ends with its group.
        tokio::spawn(async move { watched.watch_lead(|_| ready(())).await });
        Node {
            disk,
            mesh,
            group,
            recorder,
            serving,
            timing,
        }
    }

    /// Dials a node as another one, and greets it.
    async fn dial(&self, as_node: u64, node: u64) -> (ClusterEndpoint, ClusterLink, Greeting) {
        self.dial_as(Release::OWN, SHARDS_DEFAULT, as_node, node)
            .await
    }

    /// The same as a node that speaks as a release, and has so many shards.
    async fn dial_as(
        &self,
        release: Release,
        shards: u16,
        as_node: u64,
        node: u64,
    ) -> (ClusterEndpoint, ClusterLink, Greeting) {
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let endpoint = self.endpoint_of(release, as_node, any);
        let link = endpoint.connect(self.addresses[&node], node).await.unwrap();
        let hello = Hello {
            incarnation: [9; 16],
            starts: vec![[9; 16]].try_into().unwrap(),
            founding: None,
            hub_key: HUB_KEY,
            address: Address::default(),
            waits: true,
            left: BVec::default(),
            reach: BVec::try_from(vec![0; usize::from(shards)]).unwrap(),
            applied: BVec::default(),
        };
        let (mut to, mut from) = link.link().open_lane().await.unwrap();
        to.send(wire::encode(&Open::Hello(hello))).await.unwrap();
        let greeting = read(&mut from).await.unwrap();
        (endpoint, link, greeting)
    }
}

async fn read<T: wire::Versioned>(from: &mut LaneReceiver) -> Option<T> {
    let frame = tokio::time::timeout(WAIT, from.next(16 << 20, None));
    let frame = frame.await.unwrap().ok()??;
    Some(wire::decode(&frame).unwrap())
}

struct Node {
    disk: Disk,
    mesh: Arc<Mesh>,
    group: Group,
    recorder: Arc<Recorder>,
    serving: tokio::task::JoinHandle<()>,
    timing: tokio::task::JoinHandle<()>,
}

impl Node {
    fn leads(&self) -> bool {
        self.group.figures().leader == Some(self.mesh.me())
    }

    async fn end(self) {
        let Self {
            mesh,
            group,
            disk,
            serving,
            timing,
            ..
        } = self;
        mesh.close().await;
        serving.abort();
        timing.abort();
        group.stop().await;
        drop((mesh, group));
        disk.release().await.unwrap();
    }
}

async fn found(site: &Site, nodes: &[Node]) {
    let voters: BTreeMap<u64, BasicNode> = site
        .addresses
        .iter()
        .map(|(node, address)| (*node, BasicNode::new(address.to_string())))
        .collect();
    nodes[0].group.found(voters).await.unwrap();
}

/// Proposes at whoever leads, until it is taken.
async fn propose(nodes: &[Node], text: &str) -> u64 {
    let deadline = Instant::now() + WAIT;
    loop {
        for node in nodes.iter().filter(|node| node.leads()) {
            let offered: Batch = batch(text.to_owned());
            match node.group.propose(offered).await {
                Ok(index) => return index,
                Err(ProposeError::Unavailable { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert!(Instant::now() < deadline, "nobody takes {text}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_takes_all_have_and_two_go_on_without_the_third() {
    let site = Site::new(3);
    let mut nodes = vec![
        site.start(1).await,
        site.start(2).await,
        site.start(3).await,
    ];
    found(&site, &nodes).await;
    for text in ["one", "two", "three"] {
        propose(&nodes, text).await;
    }
    until("all have all", || {
        nodes.iter().all(|node| node.recorder.applied().len() == 3)
    })
    .await;
    let leader = nodes.iter().position(Node::leads).unwrap();
    nodes.remove(leader).end().await;
    propose(&nodes, "four").await;
    until("both have it", || {
        nodes.iter().all(|node| node.recorder.applied().len() == 4)
    })
    .await;
    assert_eq!(nodes[0].recorder.applied(), nodes[1].recorder.applied());
    for node in nodes {
        node.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_gives_up_is_followed_by_whom_it_votes_for_and_nothing_is_lost() {
    let site = Site::new(3);
    let nodes = vec![
        site.start(1).await,
        site.start(2).await,
        site.start(3).await,
    ];
    found(&site, &nodes).await;
    propose(&nodes, "before").await;
    let leader = nodes.iter().find(|node| node.leads()).unwrap();
    let to = nodes.iter().find(|node| !node.leads()).unwrap();
    let deadline = Instant::now() + WAIT;
    // One that became the leader only now is asked again.
    while leader.group.give_up(to.mesh.me()).await != ControlAnswer::Done {
        assert!(Instant::now() < deadline, "it does not give up");
    }
    assert_eq!(leader.group.figures().role, Role::Voter);
    to.group.take_over();
    until("the other one leads", || to.leads()).await;
    propose(&nodes, "after").await;
    until("all have both", || {
        nodes.iter().all(|node| node.recorder.applied().len() == 2)
    })
    .await;
    for node in nodes {
        node.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vote_of_a_later_term_changes_nothing_while_a_majority_hears_a_leader() {
    let site = Site::new(3);
    let nodes = vec![
        site.start(1).await,
        site.start(2).await,
        site.start(3).await,
    ];
    found(&site, &nodes).await;
    propose(&nodes, "one").await;
    until("all have it", || {
        nodes.iter().all(|node| node.recorder.applied().len() == 1)
    })
    .await;
    let term = nodes[0].group.figures().term;
    let last = LogId::new(openraft::CommittedLeaderId::new(99, 3), 1_000);
    for node in &nodes {
        let before = node.group.called(Rpc::PreVote(Some(last))).await;
        assert!(matches!(before, RaftAnswer::PreVote(false)), "{before:?}");
        let vote = Rpc::Vote(VoteRequest::new(Vote::new(99, 3), Some(last)));
        let answer = node.group.called(vote).await;
        let RaftAnswer::Vote(answer) = answer else {
            panic!("{answer:?}");
        };
        assert!(!answer.vote_granted, "{answer:?}");
    }
    propose(&nodes, "two").await;
    assert!(nodes.iter().all(|node| node.group.figures().term == term));
    for node in nodes {
        node.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lags_behind_the_log_gets_the_state_and_the_entries_that_it_points_at() {
    let site = Site::new(3);
    let mut nodes = vec![site.start(1).await, site.start(2).await];
    found(&site, &nodes).await;
    let kept = propose(&nodes, "keep me").await;
    let released = propose(&nodes, "keep me not").await;
    propose(&nodes, &format!("release {released}")).await;
    let mut last = 0;
    let long_gone = |node: &Node| node.disk.log.span(0).start > kept + 1;
    while !nodes.iter().any(|node| node.leads() && long_gone(node)) {
        last = propose(&nodes, "more").await;
        assert!(last < 100 * EVERY, "the log never shrinks");
    }
    let third = site.start(3).await;
    until("the third has all", || third.group.applied() >= Some(last)).await;
    let leader = nodes.iter().find(|node| node.leads()).unwrap();
    assert_eq!(third.recorder.applied(), leader.recorder.applied());
    assert!(third.disk.log.span(0).start > kept, "not by the log alone");
    assert_eq!(third.disk.backlog.indexes(0).unwrap(), [kept]);
    let entry = third.disk.backlog.entry(0, kept).unwrap().unwrap();
    assert!(entry.ends_with(b"keep me"));
    nodes.push(third);
    propose(&nodes, "and on").await;
    for node in nodes {
        node.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_does_not_greet_or_breaks_a_bound_changes_nothing() {
    let site = Site::new(1);
    let node = site.start(1).await;
    found(&site, std::slice::from_ref(&node)).await;
    let index = propose(std::slice::from_ref(&node), "one").await;
    let term = node.group.figures().term;

    let endpoint = site.endpoint(7, (Ipv4Addr::LOCALHOST, 0).into());
    let silent = endpoint.connect(site.addresses[&1], 1).await.unwrap();
    let (mut to, _from) = silent.link().open_lane().await.unwrap();
    to.send(wire::encode(&Open::Raft)).await.unwrap();
    let closed = tokio::time::timeout(WAIT, silent.link().closed()).await;
    assert!(
        closed.is_ok(),
        "a call before the greeting ends the connection"
    );

    let (_endpoint, link, greeting) = site.dial(7, 1).await;
    assert!(matches!(greeting, Greeting::Welcome(_)));
    let (mut to, mut from) = link.link().open_lane().await.unwrap();
    to.send(wire::encode(&Open::Raft)).await.unwrap();
    let old = RaftCall {
        shard: 0,
        rpc: Rpc::Vote(VoteRequest::new(Vote::new(term.saturating_sub(1), 7), None)),
    };
    to.send(wire::encode(&Calls(vec![(1, old)]))).await.unwrap();
    let super::frame::Answers(answers) = read(&mut from).await.unwrap();
    let [(1, RaftAnswer::Vote(answer))] = answers.as_slice() else {
        panic!("{answers:?}");
    };
    assert!(!answer.vote_granted, "a vote of the past");
    let nowhere = RaftCall {
        shard: 900,
        rpc: Rpc::Vote(VoteRequest::new(Vote::new(term + 9, 7), None)),
    };
    to.send(wire::encode(&Calls(vec![(2, nowhere)])))
        .await
        .unwrap();
    let super::frame::Answers(answers) = read::<super::frame::Answers<RaftAnswer>>(&mut from)
        .await
        .unwrap();
    assert!(matches!(answers.as_slice(), [(2, RaftAnswer::Refused(_))]));
    to.send(vec![0; 17 << 20].into()).await.ok();
    assert!(
        read::<super::frame::Want>(&mut from).await.is_none(),
        "the lane ends at an oversized frame"
    );

    let (mut to, mut from) = link.link().open_lane().await.unwrap();
    let forged = Offer::new(
        0,
        &Vote::new_committed(term + 9, 7),
        &SnapshotMeta::default(),
        vec![7; 99],
    );
    let forged = Open::Snapshot(forged.unwrap());
    to.send(wire::encode(&forged)).await.unwrap();
    let Some(Want::Refused(why)) = read(&mut from).await else {
        panic!("a snapshot without a sound manifest is refused");
    };
    assert!(why.contains("checksum"), "{why}");
    assert_eq!(node.group.figures().term, term);
    assert_eq!(node.group.applied(), Some(index));
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_another_number_of_shards_is_not_greeted() {
    let site = Site::new(1);
    let node = site.start(1).await;
    let (_endpoint, _link, greeting) = site.dial_as(Release::OWN, 3, 7, 1).await;
    let Greeting::Refused { why, .. } = greeting else {
        panic!("{greeting:?}");
    };
    assert!(
        why.contains("node 7 has 3 shards and this node 16"),
        "{why}"
    );
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_let_go_is_not_greeted() {
    let site = Site::new(1);
    let node = site.start(1).await;
    let (_endpoint, _link, greeting) = site.dial(7, 1).await;
    assert!(matches!(greeting, Greeting::Welcome(_)));
    node.mesh.forget(7);
    let (_endpoint, _link, greeting) = site.dial(7, 1).await;
    let Greeting::Refused {
        ground: Ground::Left,
        why,
    } = greeting
    else {
        panic!("{greeting:?}");
    };
    assert!(why.contains("node 7 has left the cluster"), "{why}");
    assert_eq!(
        node.mesh
            .others()
            .into_iter()
            .map(|(node, _, _)| node)
            .collect::<BTreeSet<u64>>(),
        BTreeSet::new()
    );
    node.end().await;
}

/// Copies a directory with everything in it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Puts one directory in the place of another, which is kept.
fn put_in_place(from: &Path, of: &Path, keep: &Path) {
    std::fs::rename(of, keep).unwrap();
    std::fs::rename(from, of).unwrap();
}

async fn doubted(node: &Node) -> String {
    let doubted = tokio::time::timeout(WAIT, node.mesh.doubted()).await;
    doubted.expect("the node stops")
}

async fn all_applied(nodes: &[Node], text: &str) {
    until("all have it", || {
        let has = |node: &Node| {
            let applied = node.recorder.applied();
            applied.last().is_some_and(|(_, last)| last == text)
        };
        nodes.iter().all(has)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_stops_at_each_start_and_the_true_disk_is_let_in_again() {
    let site = Site::new(3);
    let third = site.start(3).await;
    let mut nodes = vec![site.start(1).await, site.start(2).await, third];
    found(&site, &nodes).await;
    propose(&nodes, "one").await;
    all_applied(&nodes, "one").await;
    nodes.pop().unwrap().end().await;
    let (older, truth) = (site.path().join("older"), site.path().join("truth"));
    copy(&site.data(3), &older);
    nodes.push(site.start(3).await);
    propose(&nodes, "two").await;
    all_applied(&nodes, "two").await;
    nodes.pop().unwrap().end().await;

    put_in_place(&older, &site.data(3), &truth);
    for _ in 0..3 {
        let copied = site.start(3).await;
        let why = doubted(&copied).await;
        assert!(why.contains("is an older copy"), "{why}");
        copied.end().await;
    }
    put_in_place(&truth, &site.data(3), &older);
    nodes.push(site.start(3).await);
    propose(&nodes, "three").await;
    all_applied(&nodes, "three").await;
    for node in nodes {
        node.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_was_made_since_the_last_start_is_known_by_how_far_the_node_had_come() {
    let site = Site::new(3);
    let third = site.start(3).await;
    let mut nodes = vec![site.start(1).await, site.start(2).await, third];
    found(&site, &nodes).await;
    propose(&nodes, "one").await;
    all_applied(&nodes, "one").await;
    let (older, truth) = (site.path().join("older"), site.path().join("truth"));
    copy(&site.data(3), &older);
    propose(&nodes, "two").await;
    propose(&nodes, "three").await;
    all_applied(&nodes, "three").await;
    for node in &nodes {
        node.mesh.remember_reach().await;
    }
    while let Some(node) = nodes.pop() {
        node.end().await;
    }
    // Nobody remembers anything but what is written down.
    let nodes = vec![site.start(1).await, site.start(2).await];
    put_in_place(&older, &site.data(3), &truth);
    let copied = site.start(3).await;
    let why = doubted(&copied).await;
    assert!(why.contains("has lost entries of shard 0"), "{why}");
    copied.end().await;
    for node in nodes {
        node.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_runs_beside_its_node_stops_and_the_node_goes_on() {
    let site = Site::new(2);
    let nodes = vec![site.start(1).await, site.start(2).await];
    found(&site, &nodes).await;
    propose(&nodes, "one").await;
    all_applied(&nodes, "one").await;
    let doubled = site.path().join("doubled");
    copy(&site.data(2), &doubled);
    let elsewhere = Site::new(1).addresses[&1];
    let copied = site.start_at(2, &doubled, elsewhere).await;
    let why = doubted(&copied).await;
    assert!(why.contains("node 2 runs already"), "{why}");
    copied.end().await;
    propose(&nodes, "two").await;
    all_applied(&nodes, "two").await;
    for node in nodes {
        node.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_applied_entries_differ_from_those_of_most_others_stops() {
    let site = Site::new(3);
    let third = site.start(3).await;
    let mut nodes = vec![site.start(1).await, site.start(2).await, third];
    found(&site, &nodes).await;
    propose(&nodes, "one").await;
    all_applied(&nodes, "one").await;
    for _ in 0..2 {
        nodes.pop().unwrap().end().await;
    }
    let (older, truth) = (site.path().join("older"), site.path().join("truth"));
    copy(&site.data(3), &older);
    nodes.push(site.start(3).await);
    propose(&nodes, "lost with the copy").await;
    // With it goes, to the disks, that the one before is committed.
    propose(&nodes, "and this").await;
    all_applied(&nodes, "and this").await;
    for node in nodes {
        node.end().await;
    }

    // The second node knows of no later start of the third: nobody who runs can tell that its disk is an older one.
    put_in_place(&older, &site.data(3), &truth);
    let nodes = vec![site.start(2).await, site.start(3).await];
    propose(&nodes, "written over it").await;
    propose(&nodes, "and more").await;
    all_applied(&nodes, "and more").await;
    let first = site.start(1).await;
    let why = doubted(&first).await;
    assert!(why.contains("have applied other entries"), "{why}");
    let applied = first.recorder.applied();
    let kept = applied.iter().any(|(_, text)| text == "lost with the copy");
    assert!(kept, "what it holds is not written over: {applied:?}");
    first.end().await;
    propose(&nodes, "they go on").await;
    for node in nodes {
        node.end().await;
    }
}
