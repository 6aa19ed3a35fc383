//! Whether a node is ready for its users and peers, and why it is not.

use crate::{
    certificates::now_s,
    cluster::{
        mesh::identity::Standing,
        raft::figures::{GroupFigures, Role},
    },
    node::Node,
    store::writer::StorageFull,
};
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

/// A node as its operator's tools see it: from before it has started until it has ended.
#[derive(Default)]
pub(crate) struct Ready {
    node: OnceLock<Arc<Node>>,
    draining: AtomicBool,
}

/// Why a node is not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotReady {
    /// It replays its log.
    #[error("starting: the log is being replayed")]
    Starting,
    /// It was told to stop.
    #[error("draining: the node stops when what is under way is finished; ask another one")]
    Draining,
    /// It has no room for what is new.
    #[error(
        "storage full: {0}; until then nothing new is taken here and other nodes lead, reading goes on"
    )]
    StorageFull(StorageFull),
    /// It was let go from its cluster.
    #[error(
        "left: this node has left the cluster and nothing is asked of it any more; stop it, its number and its data \
         directory are not used again"
    )]
    Left,
    /// Some of its shards have stopped on this node.
    #[error(
        "shard {shard} ({count} in all) has stopped on this node after a fault of the program: start the node again; the \
         other shards, and the other nodes, go on"
    )]
    Stopped {
        /// The first of them.
        shard: u16,
        /// How many.
        count: usize,
    },
    /// What it shows to prove who it is has ended.
    #[error(
        "a certificate that this node shows has ended: nobody makes a new connection to it; `mimi-node status` says which"
    )]
    Certificate,
    /// Its clock is not that of most other nodes.
    #[error(
        "the clock of this node (node {node}) is {ms} ms ahead of most others' (less than zero: behind): \
         set it, and see that time synchronisation runs; its leaderships go to the others meanwhile"
    )]
    ClockApart {
        /// This node.
        node: u64,
        /// How far it is ahead, in milliseconds.
        ms: i64,
    },
    /// Some of its shards cannot write.
    #[error(
        "shard {shard} ({count} in all) has no leader that a majority of its voters answers: \
         see that they run and reach each other"
    )]
    NoLeader {
        /// The first of them.
        shard: u16,
        /// How many.
        count: usize,
    },
}

impl Ready {
    /// The node has started.
    pub(crate) fn open(&self, node: Arc<Node>) {
        // A node starts once.
        drop(self.node.set(node));
    }

    /// The node takes nothing new from now on.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// The node, once it has started.
    pub(crate) fn node(&self) -> Option<&Arc<Node>> {
        self.node.get()
    }

    /// Whether it is ready at this moment.
    pub(crate) fn check(&self) -> Result<(), NotReady> {
        let draining = self.draining.load(Ordering::Relaxed);
        let mesh = self.node().and_then(|node| node.mesh.as_ref());
        if !draining && mesh.is_some_and(|mesh| *mesh.standing().borrow() == Standing::Left) {
            return Err(NotReady::Left);
        }
        let groups = self.node().map(|node| node.groups.iter());
        let mut certificates = self.node().into_iter().flat_map(|node| &node.certificates);
        let now_s = now_s();
        if certificates.any(|certificate| certificate.keeps_all_out(now_s)) {
            return Err(NotReady::Certificate);
        }
        let full = self.node().and_then(|node| node.storage_full());
        judge(
            draining,
            full,
            groups.map(|groups| groups.map(|group| group.figures())),
        )?;
        let apart = self
            .node()
            .and_then(|node| Some((node.id, node.clock.apart_ms()?)));
        apart.map_or(Ok(()), |(node, ms)| Err(NotReady::ClockApart { node, ms }))
    }
}

/// Judges a node by what its groups are doing; it has none before it has started.
fn judge(
    draining: bool,
    full: Option<StorageFull>,
    groups: Option<impl Iterator<Item = GroupFigures>>,
) -> Result<(), NotReady> {
    if draining {
        return Err(NotReady::Draining);
    }
    let groups = groups.ok_or(NotReady::Starting)?;
    if let Some(full) = full {
        return Err(NotReady::StorageFull(full));
    }
    let groups: Vec<(u16, GroupFigures)> = (0..).zip(groups).collect();
    let count = |wrong: fn(&GroupFigures) -> bool| {
        let mut wrong = groups.iter().filter(|(_, group)| wrong(group));
        wrong.next().map(|(shard, _)| (*shard, 1 + wrong.count()))
    };
    if let Some((shard, count)) = count(|group| group.role == Role::Stopped) {
        return Err(NotReady::Stopped { shard, count });
    }
    if let Some((shard, count)) = count(|group| group.leader.is_none()) {
        return Err(NotReady::NoLeader { shard, count });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(leader: Option<u64>) -> GroupFigures {
        GroupFigures {
            role: Role::Voter,
            term: 1,
            last: 0,
            applied: 0,
            applied_term: 0,
            leader,
        }
    }

    fn full() -> StorageFull {
        StorageFull {
            bytes: 5,
            max: 100,
            disk_bytes_free: Some(7),
        }
    }

    #[test]
    fn a_node_is_ready_when_it_has_started_and_every_shard_has_a_leader() {
        let led = [group(Some(1)), group(Some(2)), group(Some(1))];
        assert_eq!(judge(false, None, Some(led.into_iter())), Ok(()));
        let full = Some(full());
        let storage_full = judge(false, full, Some(led.into_iter())).unwrap_err();
        assert!(
            matches!(storage_full, NotReady::StorageFull(_)),
            "{storage_full}"
        );
        let some = [group(Some(1)), group(None), group(None)];
        let no_leader = judge(false, None, Some(some.into_iter())).unwrap_err();
        assert_eq!(no_leader, NotReady::NoLeader { shard: 1, count: 2 });
        let stopped = GroupFigures {
            role: Role::Stopped,
            ..group(None)
        };
        let fenced = judge(
            false,
            None,
            Some([group(Some(1)), group(None), stopped].into_iter()),
        );
        assert_eq!(fenced, Err(NotReady::Stopped { shard: 2, count: 1 }));
        let not_started = None::<std::iter::Empty<GroupFigures>>;
        assert_eq!(
            judge(false, full, not_started.clone()),
            Err(NotReady::Starting)
        );
        assert_eq!(
            judge(true, full, Some(some.into_iter())),
            Err(NotReady::Draining)
        );
        assert_eq!(judge(true, None, not_started), Err(NotReady::Draining));
        let starting = Ready::default();
        assert_eq!(starting.check(), Err(NotReady::Starting));
        starting.drain();
        assert_eq!(starting.check(), Err(NotReady::Draining));
    }

    #[test]
    fn why_a_node_is_not_ready_is_one_line() {
        let no_leader = NotReady::NoLeader { shard: 3, count: 5 };
        let certificate = NotReady::Certificate;
        let disk = NotReady::StorageFull(full());
        let log = NotReady::StorageFull(StorageFull {
            disk_bytes_free: None,
            ..full()
        });
        let stopped = NotReady::Stopped { shard: 2, count: 1 };
        let apart = NotReady::ClockApart {
            node: 2,
            ms: -3_600_000,
        };
        for why in [
            NotReady::Starting,
            NotReady::Draining,
            NotReady::Left,
            certificate,
            stopped,
            apart,
            no_leader,
            disk,
            log,
        ] {
            assert!(!why.to_string().contains('\n'), "{why}");
        }
        for (why, wanted) in [
            (
                disk,
                "the disk of the log is full, 7 bytes are free: free space",
            ),
            (log, "the limit is 100: raise storage.log_bytes_max"),
            (disk, "reading goes on"),
        ] {
            assert!(why.to_string().contains(wanted), "{why}");
        }
        assert!(
            no_leader
                .to_string()
                .starts_with("shard 3 (5 in all) has no leader")
        );
    }
}
