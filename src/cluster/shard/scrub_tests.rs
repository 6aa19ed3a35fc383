//! The scrub of a node of recording shards, over real files.

use super::*;
use crate::{
    cluster::testing::{Node, batch, until},
    store::DiskError,
};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Entries between two snapshots in these tests.
const EVERY: u64 = 10;
/// As fast as the disk reads.
const AT_ONCE: u64 = u64::MAX;

/// A node that has sealed, discarded and carried.
async fn busy(dir: &Path) -> Node {
    let node = Node::sealing(dir, 1, u64::MAX, EVERY).await;
    let group = &node.groups[0].0;
    let mut last = 0;
    for number in 0..57 {
        let text = match number {
            0..3 => "keep",
            _ => "batch",
        };
        last = group
            .propose(batch(format!("{text} {number}")))
            .await
            .unwrap();
    }
    until(
        "the log is discarded up to the snapshot before the newest",
        || {
            let sealed = group.snapshots();
            group.is_at_rest()
                && sealed.len() == 2
                && sealed[1].next() + EVERY > last
                && node.disk.log.span(0).start == sealed[0].next()
        },
    )
    .await;
    node
}

fn scrub(node: &Node) -> Scrub {
    let groups = node.groups.iter().map(|(group, _)| group.clone());
    Scrub::new(node.disk.clone(), groups.collect(), AT_ONCE)
}

fn damaged(scrub: &Scrub) -> u64 {
    scrub.scrubbed.damaged.load(Ordering::Relaxed)
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 1;
    fs::write(file, bytes).unwrap();
}

/// Flips a byte of a good snapshot; gives its directory.
fn flip_snapshot(node: &Node, number: usize) -> PathBuf {
    let sealed = node.groups[0].0.snapshots()[number].clone();
    let file = sealed.dir().join("db/db");
    flip(
        &file,
        usize::try_from(fs::metadata(&file).unwrap().len()).unwrap() / 2,
    );
    sealed.dir().to_path_buf()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_node_is_gone_through_whole_and_nothing_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let node = busy(dir.path()).await;
    assert_eq!(node.disk.backlog.indexes(0).unwrap().len(), 3);
    let mut scrub = scrub(&node);
    scrub.pass().await.unwrap();
    let snapshots = node.groups[0].0.snapshots().into_iter();
    let files = snapshots.flat_map(|sealed| crate::store::files::walk(sealed.dir()).unwrap().files);
    let files = files.filter(|file| !file.ends_with("manifest"));
    let of_snapshots: u64 = files.map(|file| fs::metadata(file).unwrap().len()).sum();
    assert!(scrub.scrubbed.bytes.load(Ordering::Relaxed) > of_snapshots);
    assert_eq!(damaged(&scrub), 0);
    drop(scrub);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_snapshots_are_set_aside_and_sealed_anew_and_the_node_goes_on() {
    for numbers in [vec![1], vec![0], vec![0, 1]] {
        let dir = tempfile::tempdir().unwrap();
        let node = busy(dir.path()).await;
        let group = &node.groups[0].0;
        let mut scrub = scrub(&node);
        let flip = |number: &usize| flip_snapshot(&node, *number);
        let flipped: Vec<_> = numbers.iter().map(flip).collect();
        scrub.pass().await.unwrap();
        assert_eq!(damaged(&scrub), numbers.len() as u64);
        for snapshot in flipped {
            assert!(snapshot.with_extension("damaged").exists());
        }
        until("another is sealed", || !group.snapshots().is_empty()).await;
        group.propose(batch("more")).await.unwrap();
        group.seal_soon();
        until("there are two again", || group.snapshots().len() == 2).await;
        scrub.pass().await.unwrap();
        assert_eq!(damaged(&scrub), numbers.len() as u64);
        let first = node.groups[0].1.applied();
        drop(scrub);
        node.stop().await;
        let node = Node::sealing(dir.path(), 1, u64::MAX, EVERY).await;
        assert_eq!(node.groups[0].1.applied(), first);
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_log_ends_the_scrub_and_keeps_the_node_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let node = busy(dir.path()).await;
    let mut scrub = scrub(&node);
    let file = dir.path().join("log/engine/0000000000000001.raftlog");
    let bytes = fs::read(&file).unwrap();
    let mut windows = bytes.windows(8);
    let at = windows.rposition(|window| window == b"batch 56").unwrap();
    flip(&file, at);
    let found = scrub.run().await;
    assert!(
        matches!(found, Found::Damage(Damage::Entries(_))),
        "{found}"
    );
    assert_eq!(damaged(&scrub), 1);
    drop(scrub);
    node.stop().await;
    let error = Disk::open(dir.path(), 1, u64::MAX).err().unwrap();
    assert!(matches!(error, DiskError::Condemned { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_is_owed_and_gone_from_the_backlog_ends_the_scrub() {
    let dir = tempfile::tempdir().unwrap();
    let node = busy(dir.path()).await;
    let kept = node.disk.backlog.indexes(0).unwrap();
    node.disk.backlog.carry(0, 0, &[], &kept[1..]).unwrap();
    let found = scrub(&node).run().await;
    assert!(
        matches!(found, Found::Hole(LogFault::Hole { index, count: 2, .. }) if index == kept[1]),
        "{found}"
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_written_to_all_the_time_is_never_found_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let node = busy(dir.path()).await;
    let mut scrub = scrub(&node);
    let group = &node.groups[0].0;
    let writing = async {
        for number in 0..300 {
            group
                .propose(batch(format!("more {number}")))
                .await
                .unwrap();
        }
    };
    tokio::select! {
        () = writing => {}
        found = scrub.run() => panic!("{found}"),
    }
    assert_eq!(damaged(&scrub), 0);
    drop(scrub);
    node.stop().await;
}
