//! What is not as it should be with the members of a provider's shards, and which wish mends it.

use super::{VOTERS_MAX, View, Wish};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "finding", rename_all = "snake_case")]
pub enum Finding {
    /// A change was begun and not ended.
    #[error("a change was begun and is not finished: {wish}")]
    Unfinished {
        /// The change.
        wish: Wish,
    },
    /// A shard has no leader that can be asked.
    #[error("shard {shard} has no leader that can be asked: bring a majority of its voters back")]
    NoLeader {
        /// The shard.
        shard: u16,
    },
    /// The members of a shard are being changed.
    #[error("shard {shard}: a change of its members has begun and is not finished")]
    Changing {
        /// The shard.
        shard: u16,
    },
    /// A member does not answer the leader.
    #[error("node {node} does not answer the leaders of {shards} shards: see whether it runs")]
    Silent {
        /// The node.
        node: u64,
        /// How many shards.
        shards: usize,
    },
    /// A shard has fewer voters than it could have.
    #[error("shard {shard}: node {node} has everything and could vote, but only {voters:?} do")]
    CanVote {
        /// The shard.
        shard: u16,
        /// The node that could vote.
        node: u64,
        /// Who votes.
        voters: BTreeSet<u64>,
    },
    /// A node belongs to some shards and not to others.
    #[error(
        "node {node} belongs to {has} of {of} shards: a join or leave was interrupted; finish it with \
         `mimi-node cluster join --node {node} --address ...` or `mimi-node cluster leave --node {node}`"
    )]
    Partly {
        /// The node.
        node: u64,
        /// Shards that it belongs to.
        has: usize,
        /// Shards that were looked at.
        of: usize,
    },
    /// A node is said to be at several addresses.
    #[error(
        "node {node} is said to be at {addresses:?} in different shards: \
         `mimi-node cluster move --node {node} --address ...` with the right one"
    )]
    Addresses {
        /// The node.
        node: u64,
        /// Where.
        addresses: BTreeSet<String>,
    },
}

impl Finding {
    /// The wish that mends it; none where somebody has to do something first.
    #[must_use]
    pub fn repair(&self) -> Option<Wish> {
        match self {
            Self::Unfinished { wish } => Some(wish.clone()),
            Self::CanVote { .. } | Self::Changing { .. } => Some(Wish::Settle),
            Self::NoLeader { .. }
            | Self::Silent { .. }
            | Self::Partly { .. }
            | Self::Addresses { .. } => None,
        }
    }
}

/// Looks at all shards, in order of their numbers: the view of each leader, or none where no leader could be asked; and
/// at the changes that nodes have written down and that are not over.
#[must_use]
pub fn findings(views: &[Option<View>], noted: &[Wish]) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    for wish in noted {
        let unfinished = Finding::Unfinished { wish: wish.clone() };
        if !found.contains(&unfinished) {
            found.push(unfinished);
        }
    }
    let mut members: BTreeMap<u64, Member> = BTreeMap::new();
    for (shard, view) in (0..).zip(views) {
        let Some(view) = view else {
            found.push(Finding::NoLeader { shard });
            continue;
        };
        if view.changing {
            found.push(Finding::Changing { shard });
        }
        found.extend(can_vote(view));
        for node in view.voters.union(&view.learners) {
            let member = members.entry(*node).or_default();
            member.has += 1;
            member.silent += usize::from(!view.hears(*node));
            member.addresses.extend(view.addresses.get(node).cloned());
        }
    }
    let of = views.iter().flatten().count();
    for (node, member) in members {
        if member.silent > 0 {
            let shards = member.silent;
            found.push(Finding::Silent { node, shards });
        }
        if member.has < of {
            let has = member.has;
            found.push(Finding::Partly { node, has, of });
        }
        if member.addresses.len() > 1 {
            let addresses = member.addresses;
            found.push(Finding::Addresses { node, addresses });
        }
    }
    found
}

#[derive(Default)]
struct Member {
    has: usize,
    silent: usize,
    addresses: BTreeSet<String>,
}

fn can_vote(view: &View) -> Option<Finding> {
    if view.voters.len() >= VOTERS_MAX || view.changing {
        return None;
    }
    let learners = view.learners.iter().copied();
    let node = learners
        .into_iter()
        .find(|learner| view.is_level(*learner))?;
    Some(Finding::CanVote {
        shard: view.shard,
        node,
        voters: view.voters.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(shard: u16, voters: &[u64], learners: &[u64]) -> View {
        let members = voters.iter().chain(learners).copied();
        View {
            shard,
            leader: voters[0],
            voters: voters.iter().copied().collect(),
            learners: learners.iter().copied().collect(),
            addresses: members
                .clone()
                .map(|node| (node, format!("h{node}:1")))
                .collect(),
            lag_entries: members
                .filter(|node| *node != voters[0])
                .map(|node| (node, 0))
                .collect(),
            ..View::default()
        }
    }

    #[test]
    fn a_cluster_that_is_whole_has_no_findings() {
        let views: Vec<_> = (0..4)
            .map(|shard| Some(view(shard, &[1, 2, 3], &[4])))
            .collect();
        assert_eq!(findings(&views, &[]), []);
    }

    #[test]
    fn whatever_an_interrupted_change_leaves_is_found_and_named() {
        let wish = Wish::Leave { node: 4 };
        let mut moved = view(3, &[1, 2, 3], &[4]);
        moved.addresses.insert(2, "elsewhere:1".to_owned());
        moved.lag_entries.remove(&3);
        let views = [
            None,
            Some(view(1, &[1, 2], &[4])),
            Some(view(2, &[1, 2, 3], &[])),
            Some(moved),
        ];
        let found = findings(&views, &[wish.clone(), wish.clone()]);
        let two = || BTreeSet::from([1, 2]);
        let addresses = BTreeSet::from(["elsewhere:1".to_owned(), "h2:1".to_owned()]);
        let expected = [
            Finding::Unfinished { wish: wish.clone() },
            Finding::NoLeader { shard: 0 },
            Finding::CanVote {
                shard: 1,
                node: 4,
                voters: two(),
            },
            Finding::Addresses { node: 2, addresses },
            Finding::Silent { node: 3, shards: 1 },
            Finding::Partly {
                node: 3,
                has: 2,
                of: 3,
            },
            Finding::Partly {
                node: 4,
                has: 2,
                of: 3,
            },
        ];
        assert_eq!(found, expected);
        assert_eq!(found[0].repair(), Some(wish));
        assert_eq!(found[2].repair(), Some(Wish::Settle));
        assert!(found[3..].iter().all(|finding| finding.repair().is_none()));
    }
}
