//! Which disk a node of the cluster had when it was last heard of.
//!
//! A node that comes back with an empty disk, an older copy of its disk or a copy of somebody else's would vote against
//! what it has forgotten. So each node remembers, on its own disk, the incarnation of every other and how often that was
//! started: what does not go on from there is not spoken to, and has to be taken in again under a new number.
//!
//! Not noticed here: an older copy that was taken after the last start. The leader of a shard notices that one, as long
//! as it knows how far the node had come.

use super::frame::Hello;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// What is remembered of one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    incarnation: [u8; 16],
    starts: u64,
    session: [u8; 16],
    /// It was let go: its number is never used again.
    left: bool,
}

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
    /// Its disk is a copy from before its last start.
    #[error(
        "node {node} was started {known} times before and says {starts}: its data directory is an older copy; give it \
         an empty one and a new number and run `mimi-node cluster replace --node {node} --with NUMBER`"
    )]
    OlderDisk {
        /// The node.
        node: u64,
        /// How often it had been started.
        known: u64,
        /// How often it says that it was.
        starts: u64,
    },
    /// Two processes run on copies of one directory.
    #[error(
        "node {node} runs twice, on copies of one data directory: stop one of them and delete its copy"
    )]
    Twice {
        /// The node.
        node: u64,
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

/// What this node remembers of the others.
pub(crate) struct Known {
    path: PathBuf,
    me: u64,
    founding: Option<[u8; 32]>,
    nodes: Mutex<BTreeMap<u64, Seen>>,
}

impl Known {
    /// Reads what is remembered in a data directory.
    ///
    /// # Errors
    /// When the file is there and does not read.
    pub(crate) fn open(
        data_dir: &Path,
        me: u64,
        founding: Option<[u8; 32]>,
    ) -> anyhow::Result<Self> {
        let path = data_dir.join("neighbours.json");
        let nodes = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
                format!(
                    "{} does not read; restore it from a copy of this node",
                    path.display()
                )
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error).context(format!("read {}", path.display())),
        };
        Ok(Self {
            path,
            me,
            founding,
            nodes: Mutex::new(nodes),
        })
    }

    /// Lets a node in that is who it was, and remembers it durably before it is spoken to.
    ///
    /// # Errors
    /// [`Stranger`] says why not, and what to do.
    pub(crate) fn check(&self, node: u64, hello: &Hello) -> Result<(), Stranger> {
        if node == self.me {
            return Err(Stranger::Myself { node });
        }
        if let (Some(ours), Some(theirs)) = (self.founding, hello.founding)
            && ours != theirs
        {
            return Err(Stranger::OtherFounding { node });
        }
        let now = Seen {
            incarnation: hello.incarnation,
            starts: hello.starts,
            session: hello.session,
            left: false,
        };
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = nodes.get(&node) {
            if known.left {
                return Err(Stranger::Left { node });
            }
            if known.incarnation != now.incarnation {
                return Err(Stranger::OtherDisk { node });
            }
            if now.starts < known.starts {
                let (known, starts) = (known.starts, now.starts);
                return Err(Stranger::OlderDisk {
                    node,
                    known,
                    starts,
                });
            }
            if now.starts == known.starts && now.session != known.session {
                return Err(Stranger::Twice { node });
            }
            if *known == now {
                return Ok(());
            }
        }
        self.remember(&mut nodes, node, now)
    }

    /// Remembers durably that a node was let go.
    ///
    /// # Errors
    /// [`Stranger::Disk`] when that cannot be written.
    pub(crate) fn leave(&self, node: u64) -> Result<(), Stranger> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = nodes.get(&node).copied().unwrap_or_default();
        if seen.left {
            return Ok(());
        }
        self.remember(&mut nodes, node, Seen { left: true, ..seen })
    }

    /// Whether a node was let go.
    pub(crate) fn has_left(&self, node: u64) -> bool {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.get(&node).is_some_and(|seen| seen.left)
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
            .and_then(|bytes| crate::directory::write_durably(&self.path, &bytes));
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
    use mimi_actors::wire::BVec;

    fn hello(disk: u8, starts: u64, session: u8) -> Hello {
        Hello {
            incarnation: [disk; 16],
            starts,
            session: [session; 16],
            founding: Some([1; 32]),
            reach: BVec::default(),
        }
    }

    #[test]
    fn a_node_goes_on_from_where_it_was_or_is_refused_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Known::open(dir.path(), 1, Some([1; 32])).unwrap();
        let known = open();
        known.check(2, &hello(7, 3, 1)).unwrap();
        known.check(2, &hello(7, 3, 1)).unwrap();
        known.check(2, &hello(7, 4, 2)).unwrap();
        let known = open();
        let refused = |hello: &Hello| known.check(2, hello).unwrap_err();
        assert!(matches!(
            refused(&hello(8, 5, 3)),
            Stranger::OtherDisk { node: 2 }
        ));
        assert!(matches!(
            refused(&hello(7, 3, 3)),
            Stranger::OlderDisk { known: 4, .. }
        ));
        assert!(matches!(
            refused(&hello(7, 4, 3)),
            Stranger::Twice { node: 2 }
        ));
        known.check(2, &hello(7, 5, 3)).unwrap();
        known.check(3, &hello(8, 1, 1)).unwrap();
    }

    #[test]
    fn a_node_that_was_let_go_stays_out_also_after_a_restart_and_on_another_disk() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Known::open(dir.path(), 1, Some([1; 32])).unwrap();
        let known = open();
        known.check(2, &hello(7, 3, 1)).unwrap();
        known.leave(2).unwrap();
        known.leave(3).unwrap();
        let known = open();
        assert!(known.has_left(2) && known.has_left(3) && !known.has_left(4));
        for hello in [hello(7, 3, 1), hello(9, 1, 1)] {
            assert!(matches!(
                known.check(2, &hello),
                Err(Stranger::Left { node: 2 })
            ));
        }
    }

    #[test]
    fn a_node_with_this_nodes_number_or_another_beginning_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let known = Known::open(dir.path(), 1, Some([2; 32])).unwrap();
        assert!(matches!(
            known.check(1, &hello(1, 1, 1)),
            Err(Stranger::Myself { node: 1 })
        ));
        assert!(matches!(
            known.check(2, &hello(1, 1, 1)),
            Err(Stranger::OtherFounding { node: 2 })
        ));
        let joined = Hello {
            founding: None,
            ..hello(1, 1, 1)
        };
        known.check(2, &joined).unwrap();
    }
}
