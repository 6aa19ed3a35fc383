//! Which nodes vote in a shard, and which of them should lead it.
//!
//! Every node has every shard; up to three of them vote in it. The voters of shard `s` are three neighbours in the list
//! of nodes, the first of which should lead: so votes and leaderships are spread evenly, whatever the numbers are.

use mimi_actors::membership::VOTERS_MAX;
use std::collections::BTreeSet;

/// The voters of a shard among some nodes, the one that should lead first.
pub(crate) fn voters(shard: u16, nodes: &BTreeSet<u64>) -> Vec<u64> {
    let first = usize::from(shard).checked_rem(nodes.len()).unwrap_or(0);
    let around = nodes.iter().copied().cycle().skip(first);
    around.take(nodes.len().min(VOTERS_MAX)).collect()
}

/// Which of its voters should lead a shard.
pub(crate) fn preferred(shard: u16, voters: &BTreeSet<u64>) -> Option<u64> {
    let place = usize::from(shard).checked_rem(voters.len())?;
    voters.iter().nth(place).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mimi_actors::limits::SHARDS_DEFAULT;
    use std::collections::BTreeMap;

    #[test]
    fn votes_and_leaderships_are_spread_evenly() {
        for nodes in [1_u64, 2, 3, 4, 5, 7] {
            let all: BTreeSet<u64> = (1..=nodes).map(|node| node * 10).collect();
            let mut leads: BTreeMap<u64, usize> = BTreeMap::new();
            for shard in 0..SHARDS_DEFAULT {
                let voters = voters(shard, &all);
                let distinct: BTreeSet<u64> = voters.iter().copied().collect();
                assert_eq!(distinct.len(), voters.len());
                assert_eq!(voters.len() as u64, nodes.min(3));
                *leads
                    .entry(preferred(shard, &distinct).unwrap())
                    .or_default() += 1;
            }
            let (least, most) = (leads.values().min().unwrap(), leads.values().max().unwrap());
            assert!(
                leads.len() as u64 == nodes && most - least <= 3,
                "{leads:?}"
            );
        }
    }

    #[test]
    fn without_nodes_nobody_votes() {
        assert!(voters(3, &BTreeSet::new()).is_empty());
        assert_eq!(preferred(3, &BTreeSet::new()), None);
    }
}
