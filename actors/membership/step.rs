//! The next step of a wish in one shard.

use super::{Address, Probe, VOTERS_MAX, View, Wish};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What to do next in one shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Next {
    /// Change the members, then ask again.
    Do(Order),
    /// Ask again in a moment.
    Wait(Waiting),
    /// The shard is as it was wished.
    Done,
    /// Nothing may be changed.
    Refuse(Refusal),
}

/// One change of a shard's members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// A node gets everything and does not vote.
    Learn {
        /// The node.
        node: u64,
        /// Where it is.
        address: Address,
    },
    /// Exactly these vote.
    Vote {
        /// The nodes, at most [`VOTERS_MAX`].
        voters: BTreeSet<u64>,
    },
    /// A node that does not vote is let go.
    Forget {
        /// The node.
        node: u64,
    },
    /// Another voter leads: a leader never takes its own vote away. If it died before the others have the entry that ends
    /// the change, they could not elect without it, and it would not stand.
    HandOver {
        /// The voter, which has everything.
        to: u64,
    },
    /// A member is reached at another address.
    Readdress {
        /// The node.
        node: u64,
        /// Where it is now.
        address: Address,
    },
}

/// What a wish waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Waiting {
    /// A change of the members is under way.
    #[error("a change of its members is under way")]
    Change,
    /// A node catches up.
    #[error("node {node} still lacks {entries} entries")]
    Lag {
        /// The node.
        node: u64,
        /// How many entries it lacks.
        entries: u64,
    },
    /// A node that just became a member has not answered yet.
    #[error("node {node} has not answered yet")]
    Answer {
        /// The node.
        node: u64,
    },
}

/// Why a wish is not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// Nobody who is that node answers at the address.
    #[error(
        "node {node} does not answer at {address} ({why}): start it with cluster.join = true, see that \
         {address} is its cluster.listen as the others reach it, and ask again; nothing was changed"
    )]
    Silent {
        /// The node.
        node: u64,
        /// Where it should be.
        address: String,
        /// Why, in words.
        why: String,
    },
    /// The node must not be spoken to.
    #[error("node {node} at {address} is not taken in: {why}")]
    Stranger {
        /// The node.
        node: u64,
        /// Where it is.
        address: String,
        /// Why, and what to do.
        why: String,
    },
    /// The node begins a cluster of its own.
    #[error(
        "node {node} at {address} does not wait to be taken in: stop it, set cluster.join = true, give it an empty \
         data directory, start it and ask again"
    )]
    DoesNotWait {
        /// The node.
        node: u64,
        /// Where it is.
        address: String,
    },
    /// The number was used before.
    #[error(
        "node {node} has a log of this cluster already and is no member: numbers and data directories are never used \
         again; give the node an empty data directory and a new number"
    )]
    Used {
        /// The node.
        node: u64,
    },
    /// The node is a member, at another address.
    #[error(
        "node {node} belongs to the cluster at {at}, not at {address}: if it moved, \
         `mimi-node cluster move --node {node} --address {address}`"
    )]
    Elsewhere {
        /// The node.
        node: u64,
        /// Where it is as far as the cluster knows.
        at: String,
        /// Where it was said to be.
        address: String,
    },
    /// The node is not a member.
    #[error("node {node} does not belong to the cluster; see `mimi-node cluster status`")]
    Unknown {
        /// The node.
        node: u64,
    },
    /// A node that should be replaced is well.
    #[error(
        "node {node} answers and votes in shard {shard}: a node that is well is replaced only with --force; to take \
         one more in and let this one go later, `cluster join`, then `cluster leave`"
    )]
    Healthy {
        /// The node.
        node: u64,
        /// A shard in which it votes.
        shard: u16,
    },
    /// Too few voters answer to change anything.
    #[error(
        "shard {shard}: only {heard:?} of its voters {voters:?} answer, which is no majority: bring a node back first"
    )]
    NoMajority {
        /// The shard.
        shard: u16,
        /// Who answers.
        heard: BTreeSet<u64>,
        /// Who votes.
        voters: BTreeSet<u64>,
    },
    /// The change would leave too few voters that answer and have everything.
    #[error(
        "shard {shard}: after the change {voters:?} would vote, of whom only {level:?} answer and have everything, \
         which is no majority: bring a node back, or `cluster join` one first"
    )]
    WouldStop {
        /// The shard.
        shard: u16,
        /// Who would vote.
        voters: BTreeSet<u64>,
        /// Who of them answers and has everything.
        level: BTreeSet<u64>,
    },
    /// The last voter cannot go.
    #[error(
        "shard {shard}: node {node} is its only voter and cannot go; `cluster join` another one first"
    )]
    LastVoter {
        /// The shard.
        shard: u16,
        /// The node.
        node: u64,
    },
}

/// The next step of `wish` in the shard of `view`. Asked again after each step, it ends at [`Next::Done`] or
/// [`Next::Refuse`], wherever an earlier attempt was interrupted.
#[must_use]
pub fn next(wish: &Wish, view: &View) -> Next {
    if view.changing {
        return Next::Wait(Waiting::Change);
    }
    if !view.before.is_empty() {
        return finish(view);
    }
    match wish {
        Wish::Join { node, address } => join(view, *node, address),
        Wish::Leave { node } => leave(view, *node),
        Wish::Replace {
            node,
            with,
            address,
            force,
        } => replace(view, *node, (*with, address), *force),
        Wish::Move { node, address } => relocate(view, *node, address),
        Wish::Settle => settle(view),
    }
}

/// Finishes a change whose leader did not live to do so.
fn finish(view: &View) -> Next {
    if let Some(refusal) = no_majority(view) {
        return Next::Refuse(refusal);
    }
    let voters = view.voters.clone();
    if voters.contains(&view.leader) {
        return Next::Do(Order::Vote { voters });
    }
    // Whoever has no vote after the change does not finish it: see [`Order::HandOver`].
    let mut successors = voters.iter().copied();
    match (
        successors.find(|voter| view.is_level(*voter)),
        voters.first(),
    ) {
        (Some(to), _) => Next::Do(Order::HandOver { to }),
        (None, Some(first)) => Next::Wait(lacks(view, *first)),
        (None, None) => Next::Wait(Waiting::Change),
    }
}

/// What is waited for until a node has everything.
fn lacks(view: &View, node: u64) -> Waiting {
    match view.lag_entries.get(&node) {
        Some(entries) => Waiting::Lag {
            node,
            entries: *entries,
        },
        None => Waiting::Answer { node },
    }
}

fn join(view: &View, node: u64, address: &Address) -> Next {
    if let Some(step) = take_in(view, node, address) {
        return step;
    }
    let room = view.voters.len() < VOTERS_MAX;
    if view.voters.contains(&node) || !room {
        return Next::Done;
    }
    let mut voters = view.voters.clone();
    voters.insert(node);
    elect(view, node, voters)
}

/// Makes a node a learner; `None` where it is a member already.
fn take_in(view: &View, node: u64, address: &Address) -> Option<Next> {
    if view.has(node) {
        let at = view.addresses.get(&node).map_or("", String::as_str);
        let elsewhere = *at != **address;
        return elsewhere.then(|| {
            Next::Refuse(Refusal::Elsewhere {
                node,
                at: at.to_owned(),
                address: address.to_string(),
            })
        });
    }
    // A node that waits has nothing of this shard; one that belongs to other shards already is being taken in.
    let refusal = match &view.newcomer {
        Some(Probe::Waits | Probe::Belongs) => None,
        Some(Probe::DoesNotWait) => Some(Refusal::DoesNotWait {
            node,
            address: address.to_string(),
        }),
        Some(Probe::Used) => Some(Refusal::Used { node }),
        Some(Probe::Stranger { why }) => Some(Refusal::Stranger {
            node,
            address: address.to_string(),
            why: why.to_string(),
        }),
        Some(Probe::Silent { why }) => Some(silent(node, address, why)),
        None => Some(silent(node, address, "it was not spoken to")),
    };
    let learn = || Order::Learn {
        node,
        address: address.clone(),
    };
    Some(match refusal.or_else(|| no_majority(view)) {
        Some(refusal) => Next::Refuse(refusal),
        None => Next::Do(learn()),
    })
}

fn silent(node: u64, address: &Address, why: &str) -> Refusal {
    Refusal::Silent {
        node,
        address: address.to_string(),
        why: why.to_owned(),
    }
}

/// Gives `node`, a member, a vote among `voters`, once it has everything.
fn elect(view: &View, node: u64, voters: BTreeSet<u64>) -> Next {
    if view.is_level(node) {
        return vote(view, voters);
    }
    Next::Wait(lacks(view, node))
}

/// Changes who votes, if a majority answers before and after.
fn vote(view: &View, voters: BTreeSet<u64>) -> Next {
    if let Some(refusal) = no_majority(view).or_else(|| would_stop(view, &voters)) {
        return Next::Refuse(refusal);
    }
    Next::Do(Order::Vote { voters })
}

fn is_majority(some: usize, of: usize) -> bool {
    some * 2 > of
}

fn no_majority(view: &View) -> Option<Refusal> {
    let both = [&view.voters, &view.before];
    let mut decide = both.into_iter().filter(|voters| !voters.is_empty());
    let heard = |voters: &BTreeSet<u64>| -> BTreeSet<u64> {
        let voters = voters.iter().copied();
        voters.filter(|voter| view.hears(*voter)).collect()
    };
    let voters = decide.find(|voters| !is_majority(heard(voters).len(), voters.len()))?;
    Some(Refusal::NoMajority {
        shard: view.shard,
        heard: heard(voters),
        voters: voters.clone(),
    })
}

fn would_stop(view: &View, voters: &BTreeSet<u64>) -> Option<Refusal> {
    let members = voters.iter().copied();
    let level: BTreeSet<u64> = members.filter(|voter| view.is_level(*voter)).collect();
    let stops = !is_majority(level.len(), voters.len());
    stops.then(|| Refusal::WouldStop {
        shard: view.shard,
        voters: voters.clone(),
        level,
    })
}

fn leave(view: &View, node: u64) -> Next {
    if view.learners.contains(&node) {
        return no_majority(view).map_or(Next::Do(Order::Forget { node }), Next::Refuse);
    }
    if !view.voters.contains(&node) {
        return Next::Done;
    }
    // Somebody who learns votes in its place, once it has everything.
    let heir = view.learners.iter().copied();
    let mut heirs: Vec<u64> = heir.filter(|heir| view.hears(*heir)).collect();
    heirs.sort_by_key(|heir| view.lag_entries.get(heir).copied().unwrap_or_default());
    take_out(view, node, heirs.first().copied())
}

/// Takes a voter's vote away; `heir`, who learns, votes in its place.
fn take_out(view: &View, node: u64, heir: Option<u64>) -> Next {
    let mut voters = view.voters.clone();
    let leads = node == view.leader;
    let successor = view.voters.iter().copied();
    let mut successors = successor.filter(|voter| *voter != node && view.is_level(*voter));
    match successors.next() {
        Some(to) if leads => return Next::Do(Order::HandOver { to }),
        // Whoever comes votes first, beside the leader, and leads then.
        None if leads => {}
        Some(_) | None => {
            voters.remove(&node);
        }
    }
    if let Some(heir) = heir {
        voters.insert(heir);
        return elect(view, heir, voters);
    }
    if voters.is_empty() || voters == view.voters {
        return Next::Refuse(Refusal::LastVoter {
            shard: view.shard,
            node,
        });
    }
    vote(view, voters)
}

fn replace(view: &View, node: u64, (with, address): (u64, &Address), force: bool) -> Next {
    let votes = view.voters.contains(&node);
    if votes && view.hears(node) && !force {
        return Next::Refuse(Refusal::Healthy {
            node,
            shard: view.shard,
        });
    }
    if !view.has(node) && !view.has(with) {
        return Next::Refuse(Refusal::Unknown { node });
    }
    if let Some(step) = take_in(view, with, address) {
        return step;
    }
    if votes {
        return take_out(
            view,
            node,
            Some(with).filter(|with| !view.voters.contains(with)),
        );
    }
    if view.learners.contains(&node) {
        return no_majority(view).map_or(Next::Do(Order::Forget { node }), Next::Refuse);
    }
    join(view, with, address)
}

fn relocate(view: &View, node: u64, address: &Address) -> Next {
    if !view.has(node) {
        return Next::Refuse(Refusal::Unknown { node });
    }
    let at = view.addresses.get(&node).map_or("", String::as_str);
    if *at == **address {
        return Next::Done;
    }
    let refusal = match &view.newcomer {
        Some(Probe::Belongs) => no_majority(view),
        Some(Probe::Stranger { why }) => Some(Refusal::Stranger {
            node,
            address: address.to_string(),
            why: why.to_string(),
        }),
        Some(Probe::Silent { why }) => Some(silent(node, address, why)),
        Some(Probe::Waits | Probe::DoesNotWait | Probe::Used) => Some(Refusal::Used { node }),
        None => Some(silent(node, address, "it was not spoken to")),
    };
    let order = Order::Readdress {
        node,
        address: address.clone(),
    };
    refusal.map_or(Next::Do(order), Next::Refuse)
}

fn settle(view: &View) -> Next {
    if view.voters.len() >= VOTERS_MAX {
        return Next::Done;
    }
    let heirs = view.learners.iter().copied();
    let heir = heirs.into_iter().find(|heir| view.is_level(*heir));
    let Some(heir) = heir else { return Next::Done };
    let mut voters = view.voters.clone();
    voters.insert(heir);
    vote(view, voters)
}

#[cfg(test)]
#[path = "step_tests.rs"]
mod tests;
