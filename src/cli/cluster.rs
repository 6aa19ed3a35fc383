//! `cluster`: the nodes of a provider, as one of them sees them; taking nodes in and letting them go.
//!
//! Each change is made shard by shard, each shown when it is done. A command that is stopped, or whose node dies, leaves
//! whole shards changed and the others as they were; the same command goes on from there.

use super::{Target, output};
use crate::{
    admin::protocol::{Change, ClusterShardRow, ClusterStatus, Request, Response},
    cluster::placement::VOTERS_MAX,
};
use anyhow::{bail, ensure};
use std::collections::BTreeSet;

/// Arguments of `cluster`.
#[derive(Debug, clap::Args)]
pub struct Cluster {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Write certificates, a hub key and a configuration for each node of a new cluster on this machine
    Init(super::cluster_init::Init),
    /// Show nodes and shards
    Status {
        #[command(flatten)]
        target: Target,
    },
    /// Take a running node in, which waits with `cluster.join = true`; asked of a node of the cluster
    Join {
        /// Number of the new node; one that was never used
        #[arg(long)]
        node: u64,
        /// host:port of its cluster door
        #[arg(long)]
        address: String,
        #[command(flatten)]
        target: Target,
    },
    /// Let a node go; asked of another one
    Leave {
        /// Number of the node
        #[arg(long)]
        node: u64,
        #[command(flatten)]
        target: Target,
    },
    /// Put a new node in the place of one that is lost; asked of a third one
    Replace {
        /// Number of the node that is lost
        #[arg(long)]
        node: u64,
        /// Number of the new node, which waits with `cluster.join = true`; one that was never used
        #[arg(long)]
        with: u64,
        /// host:port of the new node's cluster door
        #[arg(long)]
        address: String,
        #[command(flatten)]
        target: Target,
    },
}

impl Cluster {
    /// Does it.
    ///
    /// # Errors
    /// When the node does not run, or a shard's leader refuses.
    pub fn run(self) -> anyhow::Result<()> {
        match self.what {
            What::Init(init) => init.run(),
            What::Status { target } => show(&target),
            What::Join {
                node,
                address,
                target,
            } => change(&target, |row| join(row, node, &address, None)),
            What::Leave { node, target } => {
                let me = look(&target)?.node;
                ensure!(
                    node != me,
                    "ask another node: node {node} cannot let itself go"
                );
                change(&target, |row| leave(row, node))
            }
            What::Replace {
                node,
                with,
                address,
                target,
            } => {
                let me = look(&target)?.node;
                ensure!(
                    node != me,
                    "ask another node: node {node} cannot replace itself"
                );
                ensure!(
                    node != with,
                    "numbers are never used again: give the new node another one"
                );
                change(&target, |row| {
                    let mut changes = join(row, with, &address, Some(node));
                    changes.extend(forget(row, node));
                    changes
                })
            }
        }
    }
}

fn look(target: &Target) -> anyhow::Result<ClusterStatus> {
    let response = output::ask(&target.config, &Request::Cluster)?;
    let Response::Cluster(status) = response else {
        bail!("the node answered something else")
    };
    Ok(status)
}

/// Makes changes shard by shard.
fn change(
    target: &Target,
    changes: impl Fn(&ClusterShardRow) -> Vec<Change>,
) -> anyhow::Result<()> {
    let status = look(target)?;
    for row in &status.shards {
        for change in changes(row) {
            let request = Request::ChangeMember {
                shard: row.shard,
                change,
            };
            output::ask(&target.config, &request)?;
        }
        output::progress(&format!(
            "shard {} of {} is done",
            row.shard + 1,
            status.shards.len()
        ));
    }
    show(target)
}

/// What takes a node into a shard: it votes where there is room, or in the place of another.
fn join(row: &ClusterShardRow, node: u64, address: &str, instead: Option<u64>) -> Vec<Change> {
    let mut changes = vec![Change::Learn {
        node,
        address: address.to_owned(),
    }];
    let mut voters: BTreeSet<u64> = row.voters.iter().copied().collect();
    let made_room = instead.is_some_and(|gone| voters.remove(&gone));
    let room = made_room || (instead.is_none() && voters.len() < VOTERS_MAX);
    if room && voters.insert(node) {
        let voters = voters.into_iter().collect();
        changes.push(Change::Vote { voters });
    }
    if row.voters.contains(&node) {
        // It votes already, so it does not have to learn.
        changes.remove(0);
    }
    changes
}

/// What lets a node of a shard go; a node that learns votes in its place.
fn leave(row: &ClusterShardRow, node: u64) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut voters: BTreeSet<u64> = row.voters.iter().copied().collect();
    if voters.remove(&node) {
        voters.extend(row.learners.iter().find(|learner| **learner != node));
        let voters = voters.into_iter().collect();
        changes.push(Change::Vote { voters });
    }
    changes.extend(forget(row, node));
    changes
}

fn forget(row: &ClusterShardRow, node: u64) -> Option<Change> {
    let known = row.voters.contains(&node) || row.learners.contains(&node);
    known.then_some(Change::Forget { node })
}

fn show(target: &Target) -> anyhow::Result<()> {
    let status = look(target)?;
    if target.json {
        return output::json(&status);
    }
    output::line(&format!("as node {} sees it", status.node));
    for other in &status.others {
        let state = if other.connected {
            "connected"
        } else {
            "NOT connected"
        };
        output::line(&format!(
            "node {:>3}  {:<24} {state}",
            other.node, other.address
        ));
    }
    output::line("shard  leader  should  term  voters        learners      last      applied");
    let number = |node: Option<u64>| node.map_or_else(|| "-".to_owned(), |node| node.to_string());
    let list = |nodes: &[u64]| {
        let nodes: Vec<String> = nodes.iter().map(u64::to_string).collect();
        nodes.join(",")
    };
    for row in &status.shards {
        output::line(&format!(
            "{:>5}  {:>6}  {:>6}  {:>4}  {:<12}  {:<12}  {:<8}  {}",
            row.shard,
            number(row.leader),
            number(row.preferred),
            row.term,
            list(&row.voters),
            list(&row.learners),
            row.last,
            row.applied,
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(voters: &[u64], learners: &[u64]) -> ClusterShardRow {
        ClusterShardRow {
            shard: 0,
            leader: None,
            preferred: None,
            term: 1,
            voters: voters.to_vec(),
            learners: learners.to_vec(),
            last: 0,
            applied: 0,
            applied_term: 0,
        }
    }

    fn vote(voters: &[u64]) -> Change {
        Change::Vote {
            voters: voters.to_vec(),
        }
    }

    #[test]
    fn a_node_votes_where_there_is_room_and_learns_elsewhere() {
        let address = "10.0.0.4:1";
        let learn = Change::Learn {
            node: 4,
            address: address.to_owned(),
        };
        assert_eq!(
            join(&row(&[1, 2], &[]), 4, address, None),
            [learn.clone(), vote(&[1, 2, 4])]
        );
        assert_eq!(
            join(&row(&[1, 2, 3], &[]), 4, address, None),
            std::slice::from_ref(&learn)
        );
        assert_eq!(
            join(&row(&[1, 2, 3], &[]), 4, address, Some(2)),
            [learn, vote(&[1, 3, 4])]
        );
        assert_eq!(join(&row(&[1, 3, 4], &[2]), 4, address, Some(2)), []);
    }

    #[test]
    fn a_node_that_goes_is_followed_by_one_that_learned() {
        let gone = Change::Forget { node: 2 };
        assert_eq!(
            leave(&row(&[1, 2, 3], &[4]), 2),
            [vote(&[1, 3, 4]), gone.clone()]
        );
        assert_eq!(leave(&row(&[1, 3, 4], &[2]), 2), [gone]);
        assert_eq!(leave(&row(&[1, 3, 4], &[]), 2), []);
    }
}
