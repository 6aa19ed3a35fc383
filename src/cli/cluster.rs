//! `cluster`: the nodes of a provider, as one of them sees them; taking nodes in and letting them go.
//!
//! Every shard's leader is asked first what it would do: a refusal changes nothing. Then each change is made shard by
//! shard, each shown when it is done, and in the end every shard is looked at again. A command that is stopped, or whose
//! node dies, leaves whole shards changed and the others as they were; the same command goes on from there.

use super::{Target, ask::ask, failure::Unwell};
use crate::directory;
use anyhow::{Context, bail, ensure};
use mimi_actors::membership::{
    Address, ChangeId, Wish,
    change::{Change, Outcome, Task, Verdict, remedy},
    check::Finding,
};
use mimi_operator::{
    output,
    protocol::{ClusterStatus, Request, Response},
};
use serde_json::json;

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
    /// Show nodes and shards; exit code 3: a shard has no leader
    Status {
        #[command(flatten)]
        target: Target,
    },
    /// Take running nodes in, which wait with `cluster.join = true`; asked of a node of the cluster
    Join {
        /// Number of a new node; one that was never used. Several, each with its address, join one after the other
        #[arg(long, required = true)]
        node: Vec<u64>,
        /// host:port of its cluster door
        #[arg(long, required = true, value_parser = address)]
        address: Vec<Address>,
        #[command(flatten)]
        target: Target,
    },
    /// Let a node go, for good; asked of another one
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
        #[arg(long, value_parser = address)]
        address: Address,
        /// Also when the node still answers
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Tell the cluster that a node is reached at another address, at which it answers already
    Move {
        /// Number of the node
        #[arg(long)]
        node: u64,
        /// host:port of its cluster door
        #[arg(long, value_parser = address)]
        address: Address,
        #[command(flatten)]
        target: Target,
    },
    /// Look for what an interrupted change left; exit code 3: something was found
    Check {
        /// Mend what can be mended
        #[arg(long)]
        repair: bool,
        #[command(flatten)]
        target: Target,
    },
}

fn address(text: &str) -> Result<Address, String> {
    Address::exact(text)
        .filter(|text| crate::config::is_address(text))
        .ok_or_else(|| "not an address, as host:port".to_owned())
}

impl Cluster {
    /// Does it.
    ///
    /// # Errors
    /// When the node does not run, a leader refuses, or ([`Unwell`]) what was looked at is not well.
    pub fn run(self) -> anyhow::Result<()> {
        match self.what {
            What::Init(init) => init.run(),
            What::Status { target } => show(&target),
            What::Join {
                node,
                address,
                target,
            } => {
                ensure!(
                    node.len() == address.len(),
                    "each --node needs its --address, in the same order"
                );
                for (node, address) in node.into_iter().zip(address) {
                    change(&target, &Wish::Join { node, address })?;
                }
                show(&target)
            }
            What::Leave { node, target } => {
                let me = look(&target)?.node;
                ensure!(
                    node != me,
                    "ask another node: node {node} cannot let itself go"
                );
                change(&target, &Wish::Leave { node })?;
                show(&target)
            }
            What::Replace {
                node,
                with,
                address,
                force,
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
                let wish = Wish::Replace {
                    node,
                    with,
                    address,
                    force,
                };
                change(&target, &wish)?;
                show(&target)
            }
            What::Move {
                node,
                address,
                target,
            } => {
                change(&target, &Wish::Move { node, address })?;
                show(&target)
            }
            What::Check { repair, target } => check(&target, repair),
        }
    }
}

fn look(target: &Target) -> anyhow::Result<ClusterStatus> {
    let response = ask(&target.config, &Request::Cluster)?;
    let Response::Cluster(status) = response else {
        bail!("the node answered something else")
    };
    Ok(status)
}

/// Carries a wish through all shards.
fn change(target: &Target, wish: &Wish) -> anyhow::Result<()> {
    carry(target, wish, directory::random())
}

/// The same under an id, which goes on from where another command was interrupted.
fn carry(target: &Target, wish: &Wish, id: ChangeId) -> anyhow::Result<()> {
    let shards = look(target)?.shards.len();
    let shards = u16::try_from(shards).context("the node has more shards than there can be")?;
    let mut change = Change::new(shards);
    loop {
        let asked = match change.task() {
            Task::Look(shard) | Task::Verify(shard) => Request::LookChange {
                shard: *shard,
                wish: wish.clone(),
            },
            Task::Begin => Request::BeginChange {
                id,
                wish: wish.clone(),
            },
            Task::Carry(shard) => Request::CarryChange {
                id,
                shard: *shard,
                wish: wish.clone(),
            },
            Task::End => Request::EndChange { id },
            Task::Over(verdict) => return say(verdict, wish, shards),
        };
        let outcome = match ask(&target.config, &asked) {
            Ok(Response::Next { next }) => Outcome::Next(next),
            Ok(Response::Done) => Outcome::Done,
            Ok(_) => Outcome::Failed("the node answered something else".to_owned()),
            Err(error) => Outcome::Failed(format!("{error:#}")),
        };
        if let (Task::Carry(shard), Outcome::Done) = (change.task(), &outcome) {
            output::progress(&format!("shard {} of {shards} is done", shard + 1));
        }
        change.did(outcome);
    }
}

fn say(verdict: &Verdict, wish: &Wish, shards: u16) -> anyhow::Result<()> {
    match verdict {
        Verdict::Done { changed: 0 } => {
            output::progress(&format!("{wish}: it was so already, nothing was changed"));
            Ok(())
        }
        Verdict::Done { changed } => {
            output::progress(&format!(
                "{wish}: done, {changed} of {shards} shards were changed"
            ));
            Ok(())
        }
        Verdict::Refused(refusal) => bail!("{refusal}"),
        Verdict::NotBegun { why } => bail!("nothing was changed: {why}"),
        Verdict::Interrupted { done, why, .. } => {
            bail!(
                "{why}. {done} of {shards} shards are done. {}",
                remedy(wish)
            )
        }
    }
}

fn findings(target: &Target) -> anyhow::Result<Vec<Finding>> {
    let response = ask(&target.config, &Request::CheckCluster)?;
    let Response::Checked { findings } = response else {
        bail!("the node answered something else")
    };
    Ok(findings)
}

/// Looks for what is not as it should be, and mends what can be mended.
fn check(target: &Target, repair: bool) -> anyhow::Result<()> {
    let mut found = findings(target)?;
    if repair {
        let mut repairs: Vec<_> = found.iter().filter_map(Finding::repair).collect();
        repairs.dedup();
        for (id, wish) in repairs {
            output::progress(&wish.to_string());
            carry(target, &wish, id.unwrap_or_else(directory::random))?;
        }
        found = findings(target)?;
    }
    if target.json {
        output::json(&json!({ "findings": found }))?;
    } else if found.is_empty() {
        output::line("every shard has its members, and nothing is unfinished");
    } else {
        for finding in &found {
            output::line(&finding.to_string());
        }
    }
    let mends = found.iter().any(|finding| finding.repair().is_some());
    match found.len() {
        0 => Ok(()),
        count if mends && !repair => Err(Unwell(format!(
            "{count} things are not as they should be; `mimi-node cluster check --repair` mends what it can"
        ))
        .into()),
        count => Err(Unwell(format!("{count} things are not as they should be")).into()),
    }
}

fn show(target: &Target) -> anyhow::Result<()> {
    let status = look(target)?;
    if target.json {
        output::json(&status)?;
        return led(&status);
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
    led(&status)
}

/// Whether every shard has a leader.
fn led(status: &ClusterStatus) -> anyhow::Result<()> {
    let without = status.shards.iter().filter(|row| row.leader.is_none());
    let without: Vec<String> = without.map(|row| row.shard.to_string()).collect();
    if without.is_empty() {
        return Ok(());
    }
    Err(Unwell(format!(
        "{} of {} shards have no leader that a majority of their voters answers ({}): see that the voters run and \
         reach each other",
        without.len(),
        status.shards.len(),
        without.join(", ")
    ))
    .into())
}
