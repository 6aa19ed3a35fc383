//! Which nodes are spoken to: what each showed of itself when it was last let in, on this node's own disk.
//!
//! What decides is pure ([`mimi_actors::membership::chain`]). Here it is remembered, durably and before a node is spoken
//! to. Which nodes have left is told from one node to the other, for one that was away did not see it.
//!
//! A copy of a disk that was made since the last start shows the same chain. So leaders also write down, every few
//! seconds, how far each node has acknowledged what is committed: a disk that has less is an older copy.

use super::frame::{Ground, Hello, LEFT_MAX};
use crate::directory::Founding;
use anyhow::Context;
use mimi_actors::{
    membership::chain::{self, NotTheOne, Seen, Shown},
    wire::BVec,
};
use serde::de::DeserializeOwned;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Why a node is not spoken to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stranger {
    /// It has this node's number.
    #[error(
        "node {node} is this node's own number: two nodes were given the same one; give one of them a new number"
    )]
    Myself {
        /// The number.
        node: u64,
    },
    /// It was let go.
    #[error(
        "node {node} has left the cluster: give it an empty data directory and a new number, and `mimi-node cluster join` it"
    )]
    Left {
        /// The number.
        node: u64,
    },
    /// It has another disk than before.
    #[error(
        "node {node} was known with another data directory: restore that, or give the node a new number and run \
         `mimi-node cluster replace --node {node} --with NUMBER`"
    )]
    OtherDisk {
        /// The node.
        node: u64,
    },
    /// Its disk is not the one that was there when the node was last spoken to.
    #[error(
        "node {node} was last spoken to in a start that its data directory has never been in: the directory is an older \
         copy, or a copy of it ran meanwhile; start the node on the right one, or give it an empty one and a new number \
         and run `mimi-node cluster replace --node {node} --with NUMBER`"
    )]
    OtherPast {
        /// The node.
        node: u64,
    },
    /// Two processes run on copies of one directory.
    #[error(
        "node {node} runs already, and this is another process on a copy of its data directory: stop one of them and \
         delete its copy"
    )]
    Twice {
        /// The node.
        node: u64,
    },
    /// It signs with another hub key.
    #[error(
        "node {node} has another hub key than this node: every node of a provider needs the same file as node.hub_key, or knows it in node.hub_keys"
    )]
    OtherHubKey {
        /// The node.
        node: u64,
    },
    /// Its provider has another number of shards.
    #[error(
        "node {node} has {theirs} shards and this node {shards}: a provider has as many as it was made with, on all nodes; \
         a new node needs node.shards set to that number and an empty data directory"
    )]
    OtherShards {
        /// The node.
        node: u64,
        /// How many it has.
        theirs: usize,
        /// How many this node has.
        shards: usize,
    },
    /// It holds another past.
    #[error(
        "node {node} and this node have applied different entries as entry {index} of shard {shard}: one of them ran on \
         an older copy of its data directory; whichever differs from the others must be replaced \
         (`mimi-node cluster replace`)"
    )]
    Diverged {
        /// The node.
        node: u64,
        /// The shard.
        shard: u16,
        /// The entry.
        index: u64,
    },
    /// It began another cluster.
    #[error(
        "node {node} began a cluster of other nodes: cluster.nodes must be the same on all nodes that begin one"
    )]
    OtherFounding {
        /// The node.
        node: u64,
    },
    /// It has lost entries that it had acknowledged.
    #[error(
        "node {node} has lost entries of shard {shard} that it had acknowledged ({reach} of {acked}): its disk is \
         damaged or an older copy; replace the node (`mimi-node cluster replace`)"
    )]
    Shorter {
        /// The node.
        node: u64,
        /// The shard.
        shard: u16,
        /// How far its log goes.
        reach: u64,
        /// How far it went.
        acked: u64,
    },
    /// What is remembered cannot be written.
    #[error("remember node {node}: {why}")]
    Disk {
        /// The node.
        node: u64,
        /// What the system says.
        why: String,
    },
}

impl Stranger {
    /// What the node that is refused has to think of itself.
    pub(super) fn ground(&self) -> Ground {
        match self {
            Self::Left { .. } => Ground::Left,
            Self::OtherDisk { .. }
            | Self::OtherPast { .. }
            | Self::Twice { .. }
            | Self::Shorter { .. } => Ground::NotTheOne,
            Self::Diverged { shard, .. } => Ground::Diverged { shard: *shard },
            Self::Myself { .. }
            | Self::OtherFounding { .. }
            | Self::OtherHubKey { .. }
            | Self::OtherShards { .. }
            | Self::Disk { .. } => Ground::Other,
        }
    }
}

/// What this node remembers of the others.
pub(crate) struct Known {
    path: PathBuf,
    me: u64,
    nodes: Mutex<BTreeMap<u64, Seen>>,
    reached_path: PathBuf,
    reached: Mutex<Reached>,
}

/// For each node and shard one more than the last committed entry that it is known to have had.
pub(super) type Reached = BTreeMap<u64, BTreeMap<u16, u64>>;

fn read<T: DeserializeOwned + Default>(path: &Path) -> anyhow::Result<T> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
            format!(
                "{} does not read; restore it from a copy of this node",
                path.display()
            )
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(T::default()),
        Err(error) => Err(error).context(format!("read {}", path.display())),
    }
}

impl Known {
    /// Reads what is remembered in a data directory.
    ///
    /// # Errors
    /// When the file is there and does not read.
    pub(crate) fn open(data_dir: &Path, me: u64) -> anyhow::Result<Self> {
        let path = data_dir.join("neighbours.json");
        let reached_path = data_dir.join("reached.json");
        Ok(Self {
            me,
            nodes: Mutex::new(read(&path)?),
            reached: Mutex::new(read(&reached_path)?),
            path,
            reached_path,
        })
    }

    fn reached(&self) -> MutexGuard<'_, Reached> {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far a node is known to have been in a shard.
    pub(super) fn reached_by(&self, node: u64, shard: u16) -> u64 {
        let reached = self.reached();
        let of_node = reached.get(&node).and_then(|shards| shards.get(&shard));
        of_node.copied().unwrap_or_default()
    }

    /// Takes note of how far nodes are, durably.
    ///
    /// # Errors
    /// When that cannot be written; it is tried again with the next.
    pub(super) fn reach(&self, now: Reached) -> anyhow::Result<()> {
        let mut reached = self.reached();
        let before = reached.clone();
        for (node, shards) in now {
            let of_node = reached.entry(node).or_default();
            for (shard, next) in shards {
                let known = of_node.entry(shard).or_default();
                *known = next.max(*known);
            }
        }
        if *reached == before {
            return Ok(());
        }
        let bytes = serde_json::to_vec(&*reached)?;
        crate::quic::private::write_durably(&self.reached_path, &bytes)
            .inspect_err(|_| *reached = before)
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<u64, Seen>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a node is the one that was known; nothing is remembered yet.
    ///
    /// # Errors
    /// [`Stranger`] says why it is not, and what to do.
    pub(super) fn judge(
        &self,
        node: u64,
        hello: &Hello,
        (founding, hub_keys): (Option<Founding>, &[[u8; 32]]),
    ) -> Result<Shown, Stranger> {
        if node == self.me {
            return Err(Stranger::Myself { node });
        }
        if let (Some(ours), Some(theirs)) = (founding, hello.founding)
            && ours != theirs
        {
            return Err(Stranger::OtherFounding { node });
        }
        if !hub_keys.contains(&hello.hub_key) {
            return Err(Stranger::OtherHubKey { node });
        }
        let nodes = self.nodes();
        let judged = chain::judge(nodes.get(&node), hello.incarnation, &hello.starts);
        judged.map_err(|why| match why {
            NotTheOne::Left => Stranger::Left { node },
            NotTheOne::OtherDisk => Stranger::OtherDisk { node },
            NotTheOne::OtherPast => Stranger::OtherPast { node },
        })
    }

    /// Remembers durably what a node has shown.
    ///
    /// # Errors
    /// [`Stranger::Disk`] when that cannot be written.
    pub(super) fn keep(&self, node: u64, shown: Shown) -> Result<(), Stranger> {
        match shown {
            Shown::Same => Ok(()),
            Shown::Later(seen) => self.remember(&mut self.nodes(), node, seen),
        }
    }

    /// Remembers durably that a node was let go.
    ///
    /// # Errors
    /// [`Stranger::Disk`] when that cannot be written.
    pub(crate) fn leave(&self, node: u64) -> Result<(), Stranger> {
        let mut nodes = self.nodes();
        let seen = nodes.get(&node).copied().unwrap_or_default();
        if seen.left {
            return Ok(());
        }
        self.remember(&mut nodes, node, Seen { left: true, ..seen })
    }

    /// Whether a node was let go.
    pub(crate) fn has_left(&self, node: u64) -> bool {
        self.nodes().get(&node).is_some_and(|seen| seen.left)
    }

    /// The nodes that were let go, the highest numbers of them.
    pub(super) fn left(&self) -> BVec<u64, LEFT_MAX> {
        let nodes = self.nodes();
        let left = nodes.iter().filter(|(_, seen)| seen.left);
        BVec::first_max(left.rev().map(|(node, _)| *node))
    }

    fn remember(
        &self,
        nodes: &mut BTreeMap<u64, Seen>,
        node: u64,
        now: Seen,
    ) -> Result<(), Stranger> {
        let before = nodes.insert(node, now);
        let written = serde_json::to_vec(&*nodes)
            .map_err(anyhow::Error::from)
            .and_then(|bytes| crate::quic::private::write_durably(&self.path, &bytes));
        written.map_err(|error| {
            match before {
                Some(before) => nodes.insert(node, before),
                None => nodes.remove(&node),
            };
            let why = format!("{error:#}");
            Stranger::Disk { node, why }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mimi_actors::membership::Address;

    const OURS: (Option<Founding>, &[[u8; 32]]) = (Some([1; 32]), &[[5; 32], [7; 32]]);

    fn hello(disk: u8, starts: &[u8]) -> Hello {
        let starts = starts.iter().map(|start| [*start; 16]).collect::<Vec<_>>();
        Hello {
            incarnation: [disk; 16],
            starts: starts.try_into().unwrap(),
            founding: Some([1; 32]),
            hub_key: [5; 32],
            address: Address::default(),
            waits: false,
            left: BVec::default(),
            reach: BVec::default(),
            applied: BVec::default(),
        }
    }

    fn let_in(known: &Known, node: u64, hello: &Hello) -> Result<(), Stranger> {
        let shown = known.judge(node, hello, OURS)?;
        known.keep(node, shown)
    }

    #[test]
    fn a_node_goes_on_from_where_it_was_or_is_refused_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Known::open(dir.path(), 1).unwrap();
        let known = open();
        let_in(&known, 2, &hello(7, &[1])).unwrap();
        let_in(&known, 2, &hello(7, &[1])).unwrap();
        let_in(&known, 2, &hello(7, &[1, 2])).unwrap();
        let known = open();
        let refused = |hello: &Hello| let_in(&known, 2, hello).unwrap_err();
        let other_disk = refused(&hello(8, &[1, 2, 3]));
        assert!(matches!(other_disk, Stranger::OtherDisk { node: 2 }));
        for older in [hello(7, &[1]), hello(7, &[1, 9]), hello(7, &[1, 9, 10])] {
            assert!(matches!(refused(&older), Stranger::OtherPast { node: 2 }));
        }
        let_in(&known, 2, &hello(7, &[1, 2, 3, 4])).unwrap();
        let_in(&known, 3, &hello(8, &[1])).unwrap();
    }

    #[test]
    fn how_far_a_node_was_is_never_forgotten_nor_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let at = |next| BTreeMap::from([(2, BTreeMap::from([(7, next)]))]);
        let known = Known::open(dir.path(), 1).unwrap();
        known.reach(at(30)).unwrap();
        known.reach(at(20)).unwrap();
        let known = Known::open(dir.path(), 1).unwrap();
        assert_eq!(known.reached_by(2, 7), 30);
        assert_eq!((known.reached_by(2, 8), known.reached_by(3, 7)), (0, 0));
    }

    #[test]
    fn a_node_that_was_let_go_stays_out_also_after_a_restart_and_on_another_disk() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Known::open(dir.path(), 1).unwrap();
        let known = open();
        let_in(&known, 2, &hello(7, &[1])).unwrap();
        known.leave(2).unwrap();
        known.leave(3).unwrap();
        let known = open();
        assert_eq!(known.left()[..], [3, 2]);
        assert!(known.has_left(2) && known.has_left(3) && !known.has_left(4));
        for hello in [hello(7, &[1, 2]), hello(9, &[1])] {
            let left = let_in(&known, 2, &hello);
            assert!(matches!(left, Err(Stranger::Left { node: 2 })));
        }
    }

    #[test]
    fn a_node_with_this_nodes_number_another_beginning_or_a_hub_key_that_is_not_known_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let known = Known::open(dir.path(), 1).unwrap();
        let refused = |node, hello: &Hello| let_in(&known, node, hello).unwrap_err();
        let same = refused(1, &hello(1, &[1]));
        assert!(matches!(same, Stranger::Myself { node: 1 }));
        let other = Hello {
            founding: Some([2; 32]),
            ..hello(1, &[1])
        };
        let other = refused(2, &other);
        assert!(matches!(other, Stranger::OtherFounding { node: 2 }));
        let key = Hello {
            hub_key: [6; 32],
            ..hello(1, &[1])
        };
        let key = refused(2, &key);
        assert!(matches!(key, Stranger::OtherHubKey { node: 2 }));
        let older = Hello {
            hub_key: [7; 32],
            ..hello(1, &[1])
        };
        let_in(&known, 2, &older).unwrap();
        let waiting = Hello {
            founding: None,
            ..hello(1, &[1])
        };
        let_in(&known, 3, &waiting).unwrap();
    }
}
