//! A small world in full: every order in which its few things can happen, with the same folds and desks as the node.
//!
//! Two providers, a client at each in one room, one KeyPackage that both claim, one crash of the hub, one lost answer,
//! and as many batches sent again as the order allows. Nothing is drawn by chance: from each state every action that
//! is possible is taken. Desks cannot be copied, so a state is the list of actions that lead to it, played anew. Not
//! here: several voters, time and hostile peers, which the large world has, and the GroupInfo lease, which does not
//! exist yet.

mod state;

use super::{Violation, world::Counts};
use crate::wire::event::Hash;
pub(super) use state::Action;
use state::State;
use std::collections::{BTreeSet, VecDeque};

/// How much there is of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Commits of each client.
    pub commits: u8,
    /// Proposals of each client.
    pub proposals: u8,
    /// Messages of each client.
    pub messages: u8,
    /// Claims of each client, all of the one KeyPackage.
    pub claims: u8,
    /// Crashes of the hub.
    pub crashes: u8,
    /// Answers that are lost; whoever waited asks again.
    pub losses: u8,
    /// States after which the search gives up.
    pub states_max: usize,
}

/// What a search has shown.
#[derive(Debug)]
pub struct Explored {
    /// Different states.
    pub states: usize,
    /// Actions taken, from all of them.
    pub transitions: usize,
    /// The longest way to a state.
    pub depth: usize,
    /// States in which nothing is left to do.
    pub ends: usize,
    /// Whether there was nothing more to find.
    pub whole: bool,
    /// A promise that was broken, and the actions that lead there.
    pub violation: Option<(Violation, Vec<String>)>,
    /// What happened how often, over all actions.
    pub situations: Counts,
}

/// Takes every action in every state.
#[must_use]
pub fn explore(bounds: &Bounds) -> Explored {
    let mut explored = Explored {
        states: 0,
        transitions: 0,
        depth: 0,
        ends: 0,
        whole: false,
        violation: None,
        situations: Counts::default(),
    };
    let mut known: BTreeSet<Hash> = BTreeSet::new();
    let mut frontier: VecDeque<Vec<Action>> = VecDeque::from([Vec::new()]);
    known.insert(State::new(bounds).hash());
    while let Some(path) = frontier.pop_front() {
        explored.states += 1;
        explored.depth = explored.depth.max(path.len());
        let here = State::after(bounds, &path);
        let actions = here.actions();
        if actions.is_empty() {
            explored.ends += 1;
            if let Some(why) = here.unfinished() {
                let violation = Violation {
                    invariant: "I15",
                    why,
                };
                explored.violation = Some((violation, told(&path)));
                return explored;
            }
        }
        for action in actions {
            explored.transitions += 1;
            let mut longer = path.clone();
            longer.push(action);
            let mut next = State::after(bounds, &path);
            next.take(action);
            explored.situations.add(&next.situations);
            if let Some(violation) = next.violation() {
                explored.violation = Some((violation, told(&longer)));
                return explored;
            }
            if known.insert(next.hash()) {
                frontier.push_back(longer);
            }
        }
        if explored.states >= bounds.states_max {
            return explored;
        }
    }
    explored.whole = true;
    explored
}

fn told(path: &[Action]) -> Vec<String> {
    path.iter().map(|action| format!("{action:?}")).collect()
}

const NOTHING: Bounds = Bounds {
    commits: 0,
    proposals: 0,
    messages: 0,
    claims: 0,
    crashes: 0,
    losses: 0,
    states_max: 2_000_000,
};

/// Both clients commit in one epoch; the hub crashes, an answer is lost.
pub const COMMITS: Bounds = Bounds {
    commits: 1,
    crashes: 1,
    losses: 1,
    ..NOTHING
};

/// Both clients claim the one KeyPackage, and an answer is lost.
pub const CLAIMS: Bounds = Bounds {
    claims: 1,
    losses: 1,
    ..NOTHING
};

/// Both clients write, and the hub crashes.
pub const MESSAGES: Bounds = Bounds {
    messages: 1,
    crashes: 1,
    ..NOTHING
};

/// Proposals and Commits, without faults.
pub const PROPOSALS: Bounds = Bounds {
    commits: 1,
    proposals: 1,
    ..NOTHING
};

/// Parts that are small enough to be explored whole with every test run.
pub const PARTS: [(&str, Bounds); 3] = [
    (
        "commits without a loss",
        Bounds {
            losses: 0,
            ..COMMITS
        },
    ),
    ("claims", CLAIMS),
    (
        "messages without a crash",
        Bounds {
            crashes: 0,
            ..MESSAGES
        },
    ),
];

/// Parts that a release build explores whole in a minute.
pub const LARGE: [(&str, Bounds); 2] = [("commits", COMMITS), ("messages", MESSAGES)];

/// Guards of the folds, planted away one at a time, and the part of the world that misses each.
pub const GUARDS: [(&str, Bounds); 7] = [
    ("package_not_consumed", CLAIMS),
    ("claim_id_not_remembered", CLAIMS),
    ("forget_bundles", COMMITS),
    ("dedup_lost", MESSAGES),
    ("follower_takes_again", MESSAGES),
    ("proposal_not_fanned_out", PROPOSALS),
    ("ack_off_by_one", MESSAGES),
];
