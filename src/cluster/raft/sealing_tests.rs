//! Snapshots of groups over real files: sealed, damaged, and what may go of the log.

use super::*;
use crate::{
    cluster::{
        log::tail::LogFault,
        raft::{
            group::{Group, SNAPSHOT_ENTRIES},
            group_error::StartError,
        },
        testing::{Node, Recorder, batch, until},
    },
    store::Disk,
};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Entries between two snapshots in these tests.
const EVERY: u64 = 10;

async fn start(dir: &Path) -> Node {
    Node::sealing(dir, 1, u64::MAX, EVERY).await
}

/// Proposes until the log was discarded up to a snapshot that is not the newest, and no snapshot is due.
async fn fill(node: &Node, count: u64) {
    let group = &node.groups[0].0;
    let mut last = 0;
    for number in 0..count {
        last = group
            .propose(batch(format!("batch {number}")))
            .await
            .unwrap();
    }
    until(
        "the log is discarded up to the snapshot before the newest",
        || {
            let good = group.sealing().good().clone();
            good.len() == 2
                && good[1].next() + EVERY > last
                && node.disk.log.span(0).start == good[0].next()
        },
    )
    .await;
}

fn shard_dir(dir: &Path) -> PathBuf {
    dir.join("snapshots/00")
}

/// The directories of the good snapshots, oldest first.
fn sealed(dir: &Path) -> Vec<PathBuf> {
    let mut dirs: Vec<_> = fs::read_dir(shard_dir(dir))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_none())
        .collect();
    dirs.sort();
    dirs
}

/// Every file of a snapshot.
fn files(dir: &Path) -> Vec<PathBuf> {
    crate::store::files::walk(dir).unwrap().files
}

fn flip(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    match bytes.get_mut(middle) {
        Some(byte) => *byte ^= 1,
        None => bytes.push(1),
    }
    fs::write(file, bytes).unwrap();
}

async fn fail_to_start(dir: &Path) -> StartError {
    let disk = Disk::open(dir, 1, u64::MAX).unwrap();
    let apply = Arc::new(Recorder::default());
    let started = Group::start(0, 1, &disk, SNAPSHOT_ENTRIES, apply, None).await;
    disk.release().await.unwrap();
    started.err().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_takes_the_newest_snapshot_and_replays_the_log_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    fill(&node, 57).await;
    let first = node.groups[0].1.applied();
    assert_eq!(first.len(), 57);
    let newest = node.groups[0].0.sealing().newest().unwrap().next();
    node.stop().await;
    assert_eq!(sealed(dir.path()).len(), 2);

    for _ in 0..3 {
        let node = start(dir.path()).await;
        let recorder = &node.groups[0].1;
        assert_eq!(recorder.applied(), first);
        let after = first.iter().filter(|(index, _)| *index >= newest).count();
        assert_eq!(recorder.replayed.load(Ordering::Relaxed), after as u64);
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_newest_snapshot_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    fill(&node, 57).await;
    let first = node.groups[0].1.applied();
    node.stop().await;

    // One file of the newest snapshot at a time, the manifest among them; each start seals another in its place.
    let kinds = files(sealed(dir.path()).last().unwrap()).len();
    assert!(kinds >= 3, "{kinds}");
    for kind in 0..=kinds {
        let newest = sealed(dir.path()).pop().unwrap();
        match files(&newest).get(kind) {
            Some(file) => flip(file),
            None => fs::remove_file(newest.join("db/db")).unwrap(),
        }
        let node = start(dir.path()).await;
        assert_eq!(node.groups[0].1.applied(), first, "kind {kind}");
        assert!(newest.with_extension("damaged").exists(), "kind {kind}");
        let group = &node.groups[0].0;
        group.seal_soon();
        until("another snapshot is sealed", || {
            group.sealing().good().len() == 2
        })
        .await;
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_process_left_that_died_while_it_sealed_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    fill(&node, 37).await;
    let first = node.groups[0].1.applied();
    node.stop().await;
    let newest = sealed(dir.path()).pop().unwrap();
    fs::remove_file(newest.join("manifest")).unwrap();
    fs::create_dir_all(shard_dir(dir.path()).join("00000000000000000099/db")).unwrap();

    let node = start(dir.path()).await;
    assert_eq!(node.groups[0].1.applied(), first);
    assert!(!shard_dir(dir.path()).join("00000000000000000099").exists());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_snapshot_that_reaches_the_log_the_shard_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    fill(&node, 37).await;
    node.stop().await;
    for snapshot in sealed(dir.path()) {
        flip(&snapshot.join("manifest"));
    }
    for _ in 0..2 {
        let error = fail_to_start(dir.path()).await;
        assert!(
            matches!(error, StartError::NoSnapshot { next: 0, .. }),
            "{error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_beside_a_log_of_another_time_do_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    fill(&node, 37).await;
    node.stop().await;
    fs::remove_dir_all(dir.path().join("log")).unwrap();
    let error = fail_to_start(dir.path()).await;
    assert!(
        matches!(error, StartError::OtherLog { end: 0, .. }),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_are_pointed_at_outlive_their_part_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let group = &node.groups[0].0;
    let kept = group.propose(batch("keep this")).await.unwrap();
    let other = group.propose(batch("keep that")).await.unwrap();
    fill(&node, 37).await;
    assert!(node.disk.log.span(0).start > other);
    assert_eq!(node.disk.backlog.indexes(0).unwrap(), [kept, other]);
    node.stop().await;

    let node = start(dir.path()).await;
    let stored = node.disk.backlog.entry(0, kept).unwrap().unwrap();
    assert!(stored.ends_with(b"keep this"));
    let group = &node.groups[0].0;
    let release = batch(format!("release {other}"));
    group.propose(release).await.unwrap();
    fill(&node, 37).await;
    assert_eq!(node.disk.backlog.indexes(0).unwrap(), [kept]);
    node.stop().await;

    fs::remove_dir_all(dir.path().join("backlog")).unwrap();
    let error = fail_to_start(dir.path()).await;
    assert!(
        matches!(
            error,
            StartError::Log(LogFault::Hole { index, count: 1, .. }) if index == kept
        ),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_came_with_a_snapshot_are_kept_while_it_is_still_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    fill(&node, 37).await;
    let (backlog, log) = (&node.disk.backlog, &node.disk.log);
    let end = log.span(0).end;
    // As the transfer stores them: the state does not know them yet.
    let sent = [(end + 3, "one"), (end + 5, "two")].map(|(index, text)| (index, text.into()));
    backlog.carry(0, 0, &sent, &[]).unwrap();
    let tail = Tail::open(0, &node.disk, node.groups[0].1.clone())
        .await
        .unwrap();
    // As openraft has the log discarded up to that snapshot.
    tail.carry(end + 10).await.unwrap();
    assert_eq!(backlog.indexes(0).unwrap(), [end + 3, end + 5]);
    // Once the state says that nobody needs them, they go.
    tail.carry(end + 20).await.unwrap();
    assert!(backlog.indexes(0).unwrap().is_empty());
    drop(tail);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_cannot_be_taken_leaves_the_log_whole_and_the_group_at_work() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let (group, recorder) = &node.groups[0];
    group.propose(batch("freeze")).await.unwrap();
    for number in 0..37 {
        group
            .propose(batch(format!("batch {number}")))
            .await
            .unwrap();
    }
    drop(group.sealing().rest().await);
    assert_eq!(group.sealing().newest(), None);
    assert_eq!(node.disk.log.span(0).start, 0);
    let first = recorder.applied();
    node.stop().await;
    let node = start(dir.path()).await;
    assert_eq!(node.groups[0].1.applied(), first);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_group_is_sealed_while_it_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let group = &node.groups[0].0;
    for number in 0..400 {
        group
            .propose(batch(format!("batch {number}")))
            .await
            .unwrap();
    }
    let first = node.groups[0].1.applied();
    assert_eq!(first.len(), 400);
    node.stop().await;
    let node = start(dir.path()).await;
    assert_eq!(node.groups[0].1.applied(), first);
    assert!(node.groups[0].1.replayed.load(Ordering::Relaxed) < 400);
    node.stop().await;
}
