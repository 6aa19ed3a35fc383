//! Disks that are full for a while: each node has a small one of its own.

use super::{
    Story,
    cluster::{A, gather},
    resources::{answers_over_http, is_ready, readiness},
};
use crate::support::{Net, full_disk::Image};
use cucumber::{given, then, when};
use mimi_history::{Fault, Phase};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::{fs::symlink, process::ExitStatusExt as _},
    time::{Duration, Instant},
};

/// What a node says that cannot write its log any more; an abort, so that nothing is written after it.
const CANNOT_WRITE: &str = "the log cannot be written any more; the process ends";
/// Bytes of a message: large enough to fill files of the log.
const TEXT_BYTES: usize = 6_000;
/// How long a room may accept nothing because the disk of its leader is full.
const OUTAGE_MAX: Duration = Duration::from_secs(5);
/// How long somebody waits between two Commits.
const LOOK: Duration = Duration::from_millis(200);
/// What nodes say of a full disk, though nothing is broken.
const SAID: [&str; 6] = [
    "the disk of the log is full",
    "no snapshot was sealed",
    "nothing is discarded",
    "the log does not shrink",
    "the log engine panicked",
    "room that was held is not given back",
];

/// The disks of the nodes by their names. They are unmounted before their directory goes.
#[derive(Debug, Default)]
pub struct Disks {
    images: BTreeMap<String, Image>,
    dir: Option<tempfile::TempDir>,
}

impl Disks {
    fn put(net: &mut Net, mib: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut images = BTreeMap::new();
        for (name, node) in &mut net.nodes {
            answers_over_http(node);
            if node.provider.as_str() != A {
                continue;
            }
            let image = Image::mount(dir.path(), name, mib).unwrap();
            let data = image.dir().join("data");
            fs::create_dir(&data).unwrap();
            fs::create_dir_all(node.data.parent().unwrap()).unwrap();
            symlink(&data, &node.data).unwrap();
            images.insert(name.clone(), image);
        }
        Self {
            images,
            dir: Some(dir),
        }
    }
}

#[given(regex = r"^(\d) nodes of a\.example, each on a disk of (\d+) MiB, and one of b\.example$")]
async fn nodes_on_disks(story: &mut Story, count: u64, mib: u64) {
    let mut disks = Disks::default();
    gather(story, count, &[], |net| disks = Disks::put(net, mib)).await;
    story.disks = disks;
    story.announced.extend(SAID);
}

fn text(name: &str, number: usize) -> String {
    let mut text = format!("{name} {number} ");
    text.extend(std::iter::repeat_n('x', TEXT_BYTES));
    text
}

#[when(regex = r"^(\w+) sends (\d+) long messages, one by one$")]
async fn sends_long(story: &mut Story, name: String, count: usize) {
    let (_, stage) = story.stage();
    let mut one = stage.take(&name);
    for number in 0..count {
        stage
            .doors
            .say(&mut one, &stage.den, &text(&name, number))
            .await;
        stage.said += 1;
    }
    stage.put(&name, one);
}

/// What is said meanwhile is acknowledged later, or it was never said.
#[when(
    regex = r"^all disks of a\.example are full for (\d+) s, while (\w+) goes on sending long messages$"
)]
async fn all_full(story: &mut Story, seconds: u64, name: String) {
    let names: Vec<String> = story.disks.images.keys().cloned().collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    story
        .stage
        .as_ref()
        .unwrap()
        .chronicle
        .nemesis(Fault::DiskFull, &all, Phase::Start);
    let until_free = Instant::now() + Duration::from_secs(seconds);
    for image in story.disks.images.values_mut() {
        image.fill();
    }
    let (net, stage) = story.stage();
    let mut one = stage.take(&name);
    let mut number = 0;
    while Instant::now() < until_free {
        one.member
            .encrypt(&stage.den, &[&text("full", number)])
            .unwrap();
        stage.said += 1;
        number += 1;
        // Refused, or not answered, until there is room: it is sent again then.
        drop(one.resend(&stage.den).await);
        for name in &names {
            assert!(net.node(name).runs(), "{name} goes on");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for name in &names {
        let (ready, why) = readiness(net, name).expect("it answers its operator");
        assert!(!ready && why.contains("storage full"), "{name}: {why}");
    }
    stage.put(&name, one);
    for image in story.disks.images.values_mut() {
        image.free();
    }
    story
        .stage
        .as_ref()
        .unwrap()
        .chronicle
        .nemesis(Fault::DiskFull, &all, Phase::Stop);
}

#[when(
    regex = r"^(\w+) goes on sending long messages for (\d+) s, and then all nodes of a\.example are killed at once$"
)]
async fn killed_soon_after(story: &mut Story, name: String, seconds: u64) {
    let until_killed = Instant::now() + Duration::from_secs(seconds);
    let names: Vec<String> = story.disks.images.keys().cloned().collect();
    let (net, stage) = story.stage();
    let mut one = stage.take(&name);
    let mut number = 0;
    while Instant::now() < until_killed {
        let text = text("freed", number);
        one.member.encrypt(&stage.den, &[&text]).unwrap();
        stage.said += 1;
        number += 1;
        // Whoever cannot take it now is asked again later.
        drop(one.resend(&stage.den).await);
    }
    stage.put(&name, one);
    for name in &names {
        stage.doors.shut(name);
        stage.chronicle.kill(net, name);
    }
    for name in &names {
        net.node_mut(name).start().await;
        stage.chronicle.nemesis(Fault::Kill, &[name], Phase::Stop);
        stage.doors.open(net, name);
    }
}

#[then(regex = r"^all nodes of a\.example are ready again, by themselves$")]
async fn all_ready(story: &mut Story) {
    for name in story.disks.images.keys() {
        is_ready(story.net(), name).await;
    }
    story.net().led(A).await;
}

#[when(
    regex = r"^the disk of that node is full, (\w+)'s Commits are accepted elsewhere, and that node says why it is not ready$"
)]
async fn leader_full(story: &mut Story, name: String) {
    let marked = story.stage().1.marked.clone();
    story
        .stage
        .as_ref()
        .unwrap()
        .chronicle
        .nemesis(Fault::DiskFull, &[&marked], Phase::Start);
    story.disks.images.get_mut(&marked).unwrap().fill();
    let began = Instant::now();
    let (net, stage) = story.stage();
    let mut one = stage.take(&name);
    let (den, mut longest) = (stage.den.clone(), Duration::ZERO);
    let mut told = String::new();
    // The leader has room that is held for this, and notices a moment later that there is no more.
    for turn in 1.. {
        let update = one.member.prepare_update(&den).unwrap();
        let asked = Instant::now();
        stage.doors.commit(&mut one, &update).await.unwrap();
        longest = longest.max(asked.elapsed());
        let leader = net.leader_of(A, &den.to_string()).await;
        if leader != marked && asked.elapsed() < LOOK {
            told =
                format!("disk full on the leader: {turn} Commits, the longest took {longest:.1?}");
            break;
        }
        assert!(began.elapsed() < 6 * OUTAGE_MAX, "{marked} goes on leading");
        tokio::time::sleep(LOOK).await;
    }
    assert!(longest < 2 * OUTAGE_MAX, "{longest:?}");
    stage.put(&name, one);
    let (ready, why) = readiness(net, &marked).expect("it answers its operator");
    assert!(!ready && why.contains("free space on it"), "{why}");
    assert!(net.node(&marked).runs());
    story.print(told);
}

#[when(regex = r"^the disk of that node has room again$")]
async fn leader_freed(story: &mut Story) {
    let marked = story.stage().1.marked.clone();
    story.disks.images.get_mut(&marked).unwrap().free();
    story
        .stage
        .as_ref()
        .unwrap()
        .chronicle
        .nemesis(Fault::DiskFull, &[&marked], Phase::Stop);
    is_ready(story.net(), &marked).await;
}

#[when(regex = r"^that node is killed while its disk is full, and started on it$")]
async fn started_full(story: &mut Story) {
    let marked = story.stage().1.marked.clone();
    story
        .stage
        .as_ref()
        .unwrap()
        .chronicle
        .nemesis(Fault::DiskFull, &[&marked], Phase::Start);
    story.disks.images.get_mut(&marked).unwrap().fill();
    let (net, stage) = story.stage();
    stage.doors.shut(&marked);
    stage.chronicle.kill(net, &marked);
    // The process that was killed may have given room back.
    story.disks.images.get_mut(&marked).unwrap().fill();
    let (net, stage) = story.stage();
    net.node_mut(&marked).start().await;
    stage
        .chronicle
        .nemesis(Fault::Kill, &[&marked], Phase::Stop);
    stage.doors.open(net, &marked);
    let (ready, why) = readiness(net, &marked).expect("it answers its operator");
    assert!(!ready && why.contains("storage full"), "{why}");
}

#[given(regex = r"^the files of a\.example, on a disk of (\d+) MiB$")]
fn files_on_disk(story: &mut Story, mib: u64) {
    let mut net = Net::prepare(&[A]);
    story.disks = Disks::put(&mut net, mib);
    story.net = Some(net);
    story.announced.extend(SAID);
}

#[when(regex = r"^the disk of (\S+) is full$")]
fn full(story: &mut Story, name: String) {
    story.disks.images.get_mut(&name).unwrap().fill();
}

#[when(regex = r"^the disk of (\S+) has room again$")]
fn has_room(story: &mut Story, name: String) {
    story.disks.images.get_mut(&name).unwrap().free();
}

#[when(
    regex = r"^the disk of that node turns read-only, and (\w+)'s Commits are accepted elsewhere$"
)]
async fn read_only(story: &mut Story, name: String) {
    // The engine panics when a sync fails, and a node ends then.
    let said = [CANNOT_WRITE, "a sync of the log failed"];
    story.announced.extend(said);
    let marked = story.stage().1.marked.clone();
    story.disks.images[&marked].turn_read_only().unwrap();
    let (net, stage) = story.stage();
    let mut one = stage.take(&name);
    let begun = Instant::now();
    for _ in 0..3 {
        let update = one.member.prepare_update(&stage.den).unwrap();
        stage.doors.commit(&mut one, &update).await.unwrap();
    }
    stage.put(&name, one);
    stage.doors.shut(&marked);
    let took = begun.elapsed();
    let status = net.node_mut(&marked).ended().await;
    let log = net.node(&marked).log();
    assert!(
        log.iter().any(|line| line.contains(CANNOT_WRITE)),
        "{status}: {log:#?}"
    );
    assert!(status.signal().is_some(), "{status}");
    // What it wrote last may not be on its disk: as if it had been killed.
    stage
        .chronicle
        .nemesis(Fault::Kill, &[&marked], Phase::Start);
    story.print(format!("three Commits took {took:.1?}"));
    assert!(took < 3 * OUTAGE_MAX, "{took:?}");
}

#[when(regex = r"^the disk of that node is mended, and the node started again$")]
async fn mended(story: &mut Story) {
    let marked = story.stage().1.marked.clone();
    story.disks.images.get_mut(&marked).unwrap().mend().unwrap();
    let (net, stage) = story.stage();
    net.node_mut(&marked).start().await;
    stage
        .chronicle
        .nemesis(Fault::Kill, &[&marked], Phase::Stop);
    stage.doors.open(net, &marked);
    is_ready(story.net(), &marked).await;
}
