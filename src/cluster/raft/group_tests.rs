//! Groups over a real log.

use super::*;
use crate::{
    cluster::{
        log::{
            record::{self, RecordError},
            types::Vote,
        },
        testing::{Node, Recorder, batch},
    },
    store::{log::Log, round::ShardWrite},
};
use bytes::Bytes;
use futures::future::join_all;
use mimi_actors::election::CUT_OFF_MS;
use std::{path::Path, sync::atomic::Ordering, time::Instant};

async fn fail_to_start(dir: &Path, node: u64) -> StartError {
    let disk = Disk::open(dir, 1, u64::MAX).unwrap();
    let apply = Arc::new(Recorder::default());
    let error = Group::start(0, node, &disk, SNAPSHOT_ENTRIES, apply, None)
        .await
        .err()
        .unwrap();
    disk.release().await.unwrap();
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_shards_share_syncs_and_nothing_applied_is_missing_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 16, u64::MAX).await;
    let before = node.disk.writer.counts().rounds.load(Ordering::Relaxed);
    let started = Instant::now();
    let proposals = node
        .groups
        .iter()
        .enumerate()
        .flat_map(|(shard, (group, _))| {
            (0..100).map(move |number| {
                let group = group.clone();
                tokio::spawn(async move { group.propose(batch(format!("{shard} {number}"))).await })
            })
        });
    for proposal in join_all(proposals).await {
        proposal.unwrap().unwrap();
    }
    let took = started.elapsed();
    let rounds = node.disk.writer.counts().rounds.load(Ordering::Relaxed) - before;
    println!("1600 proposals in {took:?}, {rounds} syncs");
    assert!(rounds < 800, "{rounds} syncs for 1600 entries");
    let applied: Vec<_> = node
        .groups
        .iter()
        .map(|(_, recorder)| recorder.applied())
        .collect();
    assert!(applied.iter().all(|entries| entries.len() == 100));
    node.stop().await;

    let log = Log::open(&dir.path().join("log"), 16).unwrap();
    for (shard, entries) in (0..).zip(applied) {
        for (index, bytes) in entries {
            let (_, stored) = log.read(shard, index, index + 1, 1).unwrap().pop().unwrap();
            assert!(stored.ends_with(&bytes));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_applies_the_same_batches_in_the_same_order() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 2, u64::MAX).await;
    // More than is kept in memory, and more than one read of the disk returns.
    for number in 0..60_u8 {
        let index = node.groups[0]
            .0
            .propose(batch(vec![number; 200 << 10]))
            .await
            .unwrap();
        assert_eq!(node.groups[0].1.applied().last().unwrap().0, index);
    }
    let first = node.groups[0].1.applied();
    assert_eq!(first.len(), 60);
    node.stop().await;

    for _ in 0..3 {
        let node = Node::start(dir.path(), 2, u64::MAX).await;
        assert_eq!(node.groups[0].1.applied(), first);
        assert!(node.groups[1].1.applied().is_empty());
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_log_refuses_proposals_and_goes_on_reading() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1, 4 << 20).await;
    let (group, recorder) = &node.groups[0];
    let mut accepted = 0;
    let refused = loop {
        match group.propose(batch(vec![1; 100 << 10])).await {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(refused, ProposeError::StorageFull(full) if full.max == 4 << 20),
        "{refused}"
    );
    assert_eq!(recorder.applied().len(), accepted);
    let span = node.disk.log.span(0);
    assert_eq!(
        node.disk
            .log
            .read(0, span.end - 1, span.end, 1)
            .unwrap()
            .len(),
        1
    );
    node.stop().await;

    // It starts all the same: what Raft itself writes is never refused.
    let node = Node::start(dir.path(), 1, 1).await;
    assert_eq!(node.groups[0].1.applied().len(), accepted);
    let refused = node.groups[0].0.propose(batch("x")).await.unwrap_err();
    assert!(matches!(refused, ProposeError::StorageFull(_)));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vote_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    Node::start(dir.path(), 1, u64::MAX).await.stop().await;
    let stored = |dir: &Path| {
        let bytes = Log::open(&dir.join("log"), 1).unwrap().vote(0).unwrap();
        record::decode_small::<Vote>(&bytes).unwrap()
    };
    let first = stored(dir.path());
    assert!(first.committed && first.leader_id.node_id == 1);
    Node::start(dir.path(), 1, u64::MAX).await.stop().await;
    assert!(stored(dir.path()) >= first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_cannot_be_decoded_keeps_the_shard_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1, u64::MAX).await;
    let group = &node.groups[0].0;
    group.propose(batch("sound")).await.unwrap();
    let poisoned = group.propose(batch("poison")).await.unwrap();
    group.propose(batch("sound")).await.unwrap();
    node.stop().await;

    for _ in 0..2 {
        let error = fail_to_start(dir.path(), 1).await;
        let StartError::Log(LogFault::Entry {
            shard: 0,
            index,
            source,
        }) = &error
        else {
            panic!("{error:?}")
        };
        assert_eq!(*index, poisoned);
        assert!(matches!(source, RecordError::Batch(_)));
        assert!(
            error.to_string().contains("entry 3 cannot be used"),
            "{error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_of_a_later_version_keeps_the_shard_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    Node::start(dir.path(), 1, u64::MAX).await.stop().await;
    let log = Log::open(&dir.path().join("log"), 1).unwrap();
    let index = log.span(0).end;
    let mut round = log.round();
    let entries = vec![(index, Bytes::from_static(&[9, 9, 9]))];
    round
        .push(ShardWrite {
            entries,
            ..ShardWrite::default()
        })
        .unwrap();
    round.write().unwrap();
    drop(round);
    drop(log);

    let error = fail_to_start(dir.path(), 1).await;
    assert!(
        matches!(
            &error,
            StartError::Log(LogFault::Entry { index: at, source: RecordError::Version { found: 9 }, .. })
                if *at == index
        ),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_does_not_take_over_a_log() {
    let dir = tempfile::tempdir().unwrap();
    Node::start(dir.path(), 1, u64::MAX).await.stop().await;
    let error = fail_to_start(dir.path(), 2).await;
    assert!(
        matches!(
            error,
            StartError::OtherVoters {
                shard: 0,
                node: 2,
                ..
            }
        ),
        "{error:?}"
    );
    Node::start(dir.path(), 1, u64::MAX).await.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_while_applying_stops_the_shard_and_nobody_waits_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 2, u64::MAX).await;
    let group = &node.groups[0].0;
    assert_eq!(
        group.propose(batch("bomb")).await,
        Err(ProposeError::Stopped)
    );
    assert_eq!(
        group.propose(batch("next")).await,
        Err(ProposeError::Stopped)
    );
    let fault = group.watch_lead(|_| std::future::ready(())).await;
    assert!(fault.is_some() && group.is_fenced());
    assert_eq!(group.figures().role, Role::Stopped);
    node.groups[1].0.propose(batch("other")).await.unwrap();
    assert!(!node.groups[1].0.is_fenced());
    node.stop().await;

    let disk = Disk::open(dir.path(), 2, u64::MAX).unwrap();
    let apply = Arc::new(Recorder::default());
    let again = Group::start(0, 1, &disk, SNAPSHOT_ENTRIES, apply, None).await;
    let error = again.err().unwrap();
    assert!(
        error.to_string().contains("applying entry 2 panicked"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_whose_own_task_panicked_is_fenced_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 2, u64::MAX).await;
    let group = node.groups[0].0.clone();
    let bug = |_: &openraft::RaftState<u64, BasicNode, _>| panic!("as if openraft had a bug");
    let lost: Result<(), _> = group.raft.with_raft_state(bug).await;
    assert!(lost.is_err());
    let fault = group.watch_lead(|_| std::future::ready(())).await;
    assert!(fault.is_some() && group.is_fenced(), "{fault:?}");
    let figures = group.figures();
    assert_eq!((figures.role, figures.leader), (Role::Stopped, None));
    assert_eq!(
        group.propose(batch("late")).await,
        Err(ProposeError::Stopped)
    );
    node.groups[1].0.propose(batch("other")).await.unwrap();
    assert_eq!(node.groups[1].0.figures().role, Role::Leader);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_group_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1, u64::MAX).await;
    let group = &node.groups[0].0;
    group.stop().await;
    assert_eq!(
        group.propose(batch("late")).await,
        Err(ProposeError::Stopped)
    );
    node.stop().await;
}

/// What node 1 sees of itself as the leader of term 5, when the last entry applied is of this leader.
fn leading(term: u64, leader: u64) -> RaftMetrics<u64, BasicNode> {
    let leader_id = openraft::CommittedLeaderId::new(term, leader);
    RaftMetrics {
        state: ServerState::Leader,
        current_leader: Some(1),
        current_term: 5,
        last_applied: Some(LogId::new(leader_id, 9)),
        ..RaftMetrics::new_initial(1)
    }
}

#[test]
fn a_leader_leads_once_it_has_applied_an_entry_of_its_own_and_while_a_majority_answers() {
    assert_eq!(lead_in(&leading(5, 1), 1, false, Some(0)), Lead::Here);
    for (term, leader) in [(4, 1), (4, 2), (5, 2)] {
        let lead = lead_in(&leading(term, leader), 1, false, Some(0));
        assert_eq!(
            lead,
            Lead::Nobody,
            "the last entry is of ({term}, {leader})"
        );
    }
    assert_eq!(lead_in(&leading(5, 1), 1, true, Some(0)), Lead::Nobody);
    for cut_off in [Some(CUT_OFF_MS), None] {
        let lead = lead_in(&leading(5, 1), 1, false, cut_off);
        assert_eq!(lead, Lead::Nobody, "answered {cut_off:?} ms ago");
    }
    let follows = RaftMetrics {
        state: ServerState::Follower,
        current_leader: Some(2),
        ..leading(5, 1)
    };
    assert_eq!(lead_in(&follows, 1, false, None), Lead::At(2));
}
