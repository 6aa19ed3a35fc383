//! What happens to the nodes of a cluster: it is done here, and written into the history.

use super::{
    Story,
    cluster::{A, says},
};
use crate::support::{
    Net, WAIT, Way, aside,
    history::{Chronicle, Watched},
    run_to_end,
    slow_disk::SlowDisk,
    until,
};
use cucumber::{given, then, when};
use mimi_actors::{ids::RoomUri, limits::SHARDS_DEFAULT, shard::place};
use mimi_client::member::MemberError;
use mimi_history::{Event, Fault, NodeState, Phase, Start};
use rustix::process::Signal;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// How long somebody who talks all the time listens between two messages.
const PAUSE: Duration = Duration::from_millis(100);

#[when(regex = r"^that node is killed while (\w+) commits and (\w+) sends$")]
async fn killed_amid(story: &mut Story, committer: String, sender: String) {
    let (net, stage) = story.stage();
    stage.mark_leader(net).await;
    let (mut one, mut other) = (stage.take(&committer), stage.take(&sender));
    let update = one.member.prepare_update(&stage.den).unwrap();
    let (doors, den) = (stage.doors.clone(), stage.den.clone());
    doors.shut(&stage.marked);
    let (committed, (), ()) = futures::join!(
        doors.commit(&mut one, &update),
        doors.say(&mut other, &den, "cut off"),
        async {
            tokio::task::yield_now().await;
            stage.chronicle.kill(net, &stage.marked);
        }
    );
    committed.unwrap();
    stage.said += 1;
    stage.put(&committer, one);
    stage.put(&sender, other);
    stage.catch_up().await;
}

/// Starts a node of which the history says that it was killed.
pub async fn revive(story: &mut Story, name: &str) {
    let (net, stage) = story.stage();
    net.node_mut(name).start().await;
    stage.chronicle.nemesis(Fault::Kill, &[name], Phase::Stop);
    stage.doors.open(net, name);
}

#[when(regex = r"^that node is killed$")]
fn killed(story: &mut Story) {
    let (net, stage) = story.stage();
    stage.doors.shut(&stage.marked);
    stage.chronicle.kill(net, &stage.marked);
}

#[when(regex = r"^that node is started again$")]
async fn started(story: &mut Story) {
    let marked = story.stage().1.marked.clone();
    revive(story, &marked).await;
    story.net().led(A).await;
}

#[when(regex = r"^all nodes of a\.example are killed at once and started again$")]
async fn all_killed(story: &mut Story) {
    let (net, stage) = story.stage();
    let names: Vec<String> = net.of(A).map(|node| node_name(net, &node.data)).collect();
    for name in &names {
        stage.chronicle.kill(net, name);
    }
    for name in &names {
        net.node_mut(name).spawn();
    }
    for name in &names {
        net.node_mut(name).ready().await;
        stage.chronicle.nemesis(Fault::Kill, &[name], Phase::Stop);
    }
    net.led(A).await;
}

fn node_name(net: &Net, data: &Path) -> String {
    let mut nodes = net.nodes.iter();
    let found = nodes.find(|(_, node)| node.data == data);
    found.unwrap().0.clone()
}

#[when(regex = r"^the node of b\.example is killed$")]
fn other_killed(story: &mut Story) {
    let (net, stage) = story.stage();
    stage.chronicle.kill(net, "b1");
}

#[when(regex = r"^the node of b\.example is started again$")]
async fn other_started(story: &mut Story) {
    revive(story, "b1").await;
    story.net().linked().await;
}

/// What is cut of the network around the marked node.
#[when(
    regex = r"^the network (around that node is cut|to that node is cut|from that node is cut)$"
)]
fn cut(story: &mut Story, which: String) {
    let (net, stage) = story.stage();
    let (marked, others) = ([stage.marked.clone()], stage.others(net));
    if !which.starts_with("from") {
        stage.network.cut(&others, &marked);
    }
    if !which.starts_with("to") {
        stage.network.cut(&marked, &others);
    }
    stage.doors.shut(&stage.marked);
    let target = [stage.marked.as_str()];
    stage
        .chronicle
        .nemesis(Fault::Partition, &target, Phase::Start);
}

#[when(regex = r"^the network is whole again$")]
fn heal(story: &mut Story) {
    let (net, stage) = story.stage();
    assert!(stage.network.dropped() > 0, "nobody was cut off");
    stage.network.heal();
    let target = [stage.marked.as_str()];
    stage
        .chronicle
        .nemesis(Fault::Partition, &target, Phase::Stop);
    stage.doors.open(net, &stage.marked);
}

#[given(
    regex = r"^a network that loses (\d+) of a hundred datagrams and delays the others by up to (\d+) ms$"
)]
fn lossy(story: &mut Story, lost_percent: u32, delay_max_ms: u64) {
    let (_, stage) = story.stage();
    stage.network.all(Way {
        lost_percent,
        delay_max: Duration::from_millis(delay_max_ms),
        ..Way::default()
    });
}

#[when(regex = r"^the network is reliable again$")]
fn reliable(story: &mut Story) {
    let (_, stage) = story.stage();
    assert!(stage.network.dropped() > 0, "nothing was lost");
    stage.network.heal();
}

/// One asks the marked node, which cannot answer; another asks the others, for the same epoch. Who hears nobody may
/// still be heard: then the others may have decided for the first.
#[when(regex = r"^(\w+) commits there in vain, and (\w+) elsewhere( with success)?$")]
async fn minority(story: &mut Story, first: String, second: String, success: String) {
    let (_, stage) = story.stage();
    let (mut one, mut other) = (stage.take(&first), stage.take(&second));
    let hers = one.member.prepare_update(&stage.den).unwrap();
    let his = other.member.prepare_update(&stage.den).unwrap();
    let asked = Instant::now();
    let (vain, decided) = futures::join!(
        one.commit(&hers, &[], &[]),
        stage.doors.commit(&mut other, &his)
    );
    println!(
        "the others decided {:?} after they were asked: {decided:?}",
        asked.elapsed()
    );
    println!("the minority answered: {vain:?}");
    assert!(success.is_empty() || decided.is_ok(), "{decided:?}");
    assert!(
        !matches!(vain, Ok(_) | Err(MemberError::Lost { .. })),
        "it cannot know: {vain:?}"
    );
    stage.won_elsewhere = decided.is_ok();
    stage.put(&first, one);
    stage.put(&second, other);
}

#[then(regex = r"^(\w+) is told, too, whose Commit won$")]
async fn told(story: &mut Story, name: String) {
    let (_, stage) = story.stage();
    let mut one = stage.take(&name);
    let pending = one.member.pending_commit(&stage.den).unwrap().clone();
    let told = stage.doors.commit(&mut one, &pending).await;
    assert_eq!(told.is_err(), stage.won_elsewhere, "{told:?}");
    stage.put(&name, one);
    stage.catch_up().await;
}

/// The question lies in the node's socket while it stands still.
#[when(
    regex = r"^that node stands still while (\w+) commits there, and (\w+) elsewhere with success$"
)]
async fn paused(story: &mut Story, first: String, second: String) {
    let (net, stage) = story.stage();
    let (mut one, mut other) = (stage.take(&first), stage.take(&second));
    let hers = one.member.prepare_update(&stage.den).unwrap();
    let his = other.member.prepare_update(&stage.den).unwrap();
    let marked = stage.marked.clone();
    stage.doors.shut(&marked);
    stage
        .chronicle
        .nemesis(Fault::Pause, &[&marked], Phase::Start);
    net.node(&marked).freeze();
    let (late, won) = futures::join!(one.commit(&hers, &[], &[]), async {
        let won = stage.doors.commit(&mut other, &his).await;
        net.node(&marked).signal(Signal::CONT);
        stage
            .chronicle
            .nemesis(Fault::Pause, &[&marked], Phase::Stop);
        won
    });
    won.unwrap();
    println!("after it went on it answered: {late:?}");
    assert!(late.is_err(), "{late:?}");
    stage.doors.open(net, &marked);
    // It may have said that it does not know: then it is asked again.
    if one.member.pending_commit(&stage.den).is_some() {
        let told = stage.doors.commit(&mut one, &hers).await;
        assert!(matches!(told, Err(MemberError::Lost { .. })), "{told:?}");
    }
    stage.put(&first, one);
    stage.put(&second, other);
    stage.catch_up().await;
}

/// Talks until it is told to stop; gives the number of messages.
async fn chatter(
    doors: &super::cluster::Doors,
    den: &RoomUri,
    one: &mut Watched,
    stop: &AtomicBool,
) -> usize {
    let mut said = 0;
    while !stop.load(Ordering::Acquire) {
        doors.say(one, den, &format!("so {said}")).await;
        said += 1;
        doors.listen(one, den, PAUSE).await;
    }
    said
}

#[when(
    regex = r"^the nodes of a\.example are restarted one by one, while (\w+) and (\w+) talk and (\w+) commits$"
)]
async fn rolling(story: &mut Story, first: String, second: String, committer: String) {
    let (net, stage) = story.stage();
    let (mut one, mut other) = (stage.take(&first), stage.take(&second));
    let mut third = stage.take(&committer);
    let names: Vec<String> = net.of(A).map(|node| node_name(net, &node.data)).collect();
    let (doors, den, stop) = (
        stage.doors.clone(),
        stage.den.clone(),
        AtomicBool::new(false),
    );
    let (chronicle, commits) = (stage.chronicle.clone(), names.len());
    let (left, right, ()) = futures::join!(
        chatter(&doors, &den, &mut one, &stop),
        chatter(&doors, &den, &mut other, &stop),
        async {
            for name in &names {
                let update = third.member.prepare_update(&den).unwrap();
                let (committed, ()) = futures::join!(
                    doors.commit(&mut third, &update),
                    restart(&chronicle, &doors, net, name)
                );
                committed.unwrap();
                net.led(A).await;
            }
            stop.store(true, Ordering::Release);
        }
    );
    println!("{left} and {right} messages and {commits} Commits during the restarts");
    stage.said += left + right;
    stage.put(&first, one);
    stage.put(&second, other);
    stage.put(&committer, third);
    stage.catch_up().await;
}

async fn restart(chronicle: &Chronicle, doors: &super::cluster::Doors, net: &mut Net, name: &str) {
    tokio::task::yield_now().await;
    doors.shut(name);
    chronicle.nemesis(Fault::Stop, &[name], Phase::Start);
    assert!(net.node_mut(name).terminate().await.success());
    net.node_mut(name).start().await;
    chronicle.nemesis(Fault::Stop, &[name], Phase::Stop);
    doors.open(net, name);
}

fn den_shard(den: &RoomUri) -> u16 {
    place(&den.to_string(), SHARDS_DEFAULT)
}

#[then(regex = r"^that node took over the snapshot of another$")]
async fn took_snapshot(story: &mut Story) {
    let (net, stage) = story.stage();
    let shard = format!("\"shard\":{},", den_shard(&stage.den));
    let taken = "the snapshot of another node is taken over";
    says(net, &stage.marked, 0, &[taken, &shard]).await;
}

#[then(regex = r"^that node leads the room again$")]
async fn leads_again(story: &mut Story) {
    let (net, stage) = story.stage();
    let den = stage.den.to_string();
    until("it leads again", async || {
        (net.leader_of(A, &den).await == stage.marked).then_some(())
    })
    .await;
}

/// Adds node `number`, started, which waits to be taken in; gives its name and address.
async fn newcomer(story: &mut Story, number: u64) -> (String, String) {
    let (net, stage) = story.stage();
    let (name, address) = net.add_node(A, number, "a1");
    let env = net.node("a1").env.clone();
    net.node_mut(&name).env = env;
    net.node_mut(&name).start().await;
    stage.doors.open(net, &name);
    (name, address)
}

/// Runs a command of the operator for a node, again until it succeeds: a change goes on where it stopped.
async fn operate(net: &Net, asked: &str, arguments: &[&str]) {
    let deadline = Instant::now() + 2 * WAIT;
    loop {
        let mut command = net.command_of(asked, arguments);
        let output = aside(move || command.output()).await.unwrap();
        if output.status.success() {
            return;
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(Instant::now() < deadline, "{arguments:?}: {said}");
        tokio::time::sleep(super::RETRY_AFTER).await;
    }
}

#[when(
    regex = r"^node (\d) joins, and the node that leads the room is killed meanwhile, while (\w+) commits$"
)]
async fn joins(story: &mut Story, number: u64, name: String) {
    let (_, address) = newcomer(story, number).await;
    let (net, stage) = story.stage();
    stage.mark_leader(net).await;
    let asked = stage.others(net).swap_remove(0);
    let number = number.to_string();
    let arguments = ["cluster", "join", "--node", &number, "--address", &address];
    let mut one = stage.take(&name);
    let update = one.member.prepare_update(&stage.den).unwrap();
    let doors = stage.doors.clone();
    let (committed, ()) = futures::join!(doors.commit(&mut one, &update), async {
        let mut command = net.command_of(&asked, &arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        doors.shut(&stage.marked);
        stage.chronicle.kill(net, &stage.marked);
        until("the command ends", || {
            let ended = child.try_wait().unwrap();
            async move { ended }
        })
        .await;
        operate(net, &asked, &arguments).await;
    });
    committed.unwrap();
    stage.put(&name, one);
}

#[when(regex = r"^node (\d) leaves$")]
async fn leaves(story: &mut Story, number: u64) {
    // It says so, and is refused by the others, until it is stopped.
    story.announced.push("has left the cluster");
    let (net, stage) = story.stage();
    let name = format!("a{number}");
    let mut nodes = net.of(A).map(|node| node_name(net, &node.data));
    let asked = nodes.find(|other| *other != name).unwrap();
    drop(nodes);
    let number = number.to_string();
    operate(net, &asked, &["cluster", "leave", "--node", &number]).await;
    stage.doors.shut(&name);
    assert!(net.node_mut(&name).terminate().await.success());
}

#[when(regex = r"^node (\d) is lost, and node (\d) takes its place$")]
async fn replaced(story: &mut Story, lost: u64, with: u64) {
    let name = format!("a{lost}");
    let (net, stage) = story.stage();
    stage.doors.shut(&name);
    stage.chronicle.kill(net, &name);
    let (_, address) = newcomer(story, with).await;
    let (net, _) = story.stage();
    let mut nodes = net.of(A).map(|node| node_name(net, &node.data));
    let asked = nodes.find(|other| *other != format!("a{with}")).unwrap();
    drop(nodes);
    let (lost, with) = (lost.to_string(), with.to_string());
    let arguments = [
        "cluster",
        "replace",
        "--node",
        &lost,
        "--with",
        &with,
        "--address",
        &address,
    ];
    operate(net, &asked, &arguments).await;
}

#[then(regex = r"^nodes ([\d, and]+) vote in every shard$")]
async fn vote(story: &mut Story, list: String) {
    let net = story.net();
    let voters: Vec<u64> = super::names(&list)
        .iter()
        .map(|number| number.parse().unwrap())
        .collect();
    until("everybody knows the voters", async || {
        for node in net.of(A) {
            let shards = node.cluster().await.shards;
            if shards.is_empty() || shards.iter().any(|row| row.voters != voters) {
                return None;
            }
        }
        Some(())
    })
    .await;
}

/// The files below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let nested = entries.map(|path| {
        if path.is_dir() {
            files(&path)
        } else {
            vec![path]
        }
    });
    nested.flatten().collect()
}

/// Changes one byte; gives back what was there.
fn flip(path: &Path, at: impl FnOnce(&[u8]) -> usize) -> Vec<u8> {
    let before = fs::read(path).unwrap();
    let mut changed = before.clone();
    changed[at(&before)] ^= 1;
    fs::write(path, changed).unwrap();
    before
}

/// Notes that a node's bytes are changed.
fn corrupted(chronicle: &Chronicle, marked: &str, phase: Phase) {
    chronicle.nemesis(Fault::Corrupt, &[marked], phase);
}

#[when(regex = r"^a byte of its newest snapshot of the room's shard is changed$")]
fn damage_snapshot(story: &mut Story) {
    story
        .announced
        .push("a snapshot is damaged and was set aside");
    let (net, stage) = story.stage();
    let dir = net.node(&stage.marked).data.join("snapshots");
    let shard = dir.join(format!("{:02}", den_shard(&stage.den)));
    let snapshots = fs::read_dir(shard).unwrap();
    let newest = snapshots.map(|entry| entry.unwrap().path()).max().unwrap();
    let all = files(&newest.join("db"));
    let largest = all.iter().max_by_key(|path| path.metadata().unwrap().len());
    flip(largest.unwrap(), |bytes| bytes.len() / 2);
    corrupted(&stage.chronicle, &stage.marked, Phase::Start);
}

#[then(regex = r"^it starts from the snapshot before, with an alarm$")]
async fn starts_with_alarm(story: &mut Story) {
    let marked = story.stage().1.marked.clone();
    let (net, stage) = story.stage();
    let before = net.node(&marked).log().len();
    net.node_mut(&marked).start().await;
    let alarm = "a snapshot is damaged and was set aside";
    says(net, &marked, before, &[alarm, "\"level\":\"ERROR\""]).await;
    stage.chronicle.record(Event::Node(Start {
        node: marked.clone(),
        is: NodeState::Ready,
        alarm: true,
    }));
    corrupted(&stage.chronicle, &marked, Phase::Stop);
    stage
        .chronicle
        .nemesis(Fault::Kill, &[&marked], Phase::Stop);
    stage.doors.open(net, &marked);
    net.led(A).await;
}

#[then(
    regex = r"^it refuses to start while a byte at the end of its log is changed, and starts with the log as it was$"
)]
async fn refuses_damaged_log(story: &mut Story) {
    let (net, stage) = story.stage();
    let marked = stage.marked.clone();
    let logs = files(&net.node(&marked).data.join("log"));
    let newest = logs
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "raftlog"));
    let newest = newest.max().unwrap();
    // What is written last belongs to entries that every start reads.
    let last = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte != 0).unwrap() - 64;
    let before = flip(newest, last);
    corrupted(&stage.chronicle, &marked, Phase::Start);
    let command = net.node(&marked).command();
    let (code, said) = aside(move || run_to_end(command)).await;
    assert_eq!(code, Some(1), "{said}");
    let last = said.trim_end().lines().last().unwrap().to_owned();
    println!("{last}");
    stage.chronicle.record(Event::Node(Start {
        node: marked.clone(),
        is: NodeState::Refused,
        alarm: true,
    }));
    fs::write(newest, before).unwrap();
    corrupted(&stage.chronicle, &marked, Phase::Stop);
    revive(story, &marked).await;
}

#[when(
    regex = r"^the disk of that node takes (\d+) writes a second, while (\w+) commits (\d+) times$"
)]
async fn slow_disk(story: &mut Story, writes: u32, name: String, times: usize) {
    let (net, stage) = story.stage();
    let marked = stage.marked.clone();
    let node = net.node(&marked);
    let pid = node.status().await.pid;
    let terms = async || node.cluster().await.shards.into_iter().map(|row| row.term);
    let before: Vec<u64> = terms().await.collect();
    stage
        .chronicle
        .nemesis(Fault::SlowDisk, &[&marked], Phase::Start);
    let slow = SlowDisk::begin(&node.data, pid, writes).unwrap();
    for _ in 0..times {
        let mut one = stage.take(&name);
        let update = one.member.prepare_update(&stage.den).unwrap();
        stage.doors.commit(&mut one, &update).await.unwrap();
        stage.put(&name, one);
    }
    assert!(slow.writes() > 0, "it wrote without being held up");
    drop(slow);
    stage
        .chronicle
        .nemesis(Fault::SlowDisk, &[&marked], Phase::Stop);
    let after: Vec<u64> = terms().await.collect();
    assert_eq!(before, after, "a slow disk is no reason for an election");
}

#[when(regex = r"^that node is killed, and the disks of the others take (\d+) writes a second$")]
async fn killed_beside_slow_disks(story: &mut Story, writes: u32) {
    let (net, stage) = story.stage();
    let marked = stage.marked.clone();
    stage.doors.shut(&marked);
    stage.chronicle.kill(net, &marked);
    let mut slow = Vec::new();
    for node in net.of(A) {
        let pid = node.status().await.pid;
        slow.push(SlowDisk::begin(&node.data, pid, writes).unwrap());
    }
    net.led(A).await;
    for disk in slow {
        assert!(disk.writes() > 0, "it wrote without being held up");
    }
}
