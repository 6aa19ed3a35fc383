//! The whole state space of a small world: everything that can happen in it, in every order.
//!
//! Owns: two providers of one node and one shard each (the hub of the one room, and a follower), a member at each, one
//! KeyPackage of somebody else's that both may claim, the faults that [`Bounds`] allows, and the search. The folds,
//! desks, sessions and links are the node's own. Promises: every state within the bounds is visited once, and in each
//! the invariants hold that are named in [`Violation::invariant`]; a violation comes with a shortest way to it.
//!
//! More is possible here than in the node: a hub that begins again takes requests before it has applied the tail of
//! its log, which the node's leaders do not, so that two Commits of one epoch meet in the log and the folds alone must
//! sort them out. Less is, too: the follower takes what waits into its log in one step, for it does not crash; a client
//! has one request at a time and reads everything at once; nothing reads the notices of users, and the third user never
//! acts. Nobody joins by itself here: leases and codes are played under seeds.

mod checks;
mod lanes;
mod moves;
mod seat;
mod shard;
mod world;

use super::history::Violation;
use moves::Move;
use std::collections::{BTreeMap, btree_map::Entry};
use world::{Signs, World};

/// How much may happen. The room is at epoch 1 when the world begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The last epoch that is opened.
    pub epochs: u64,
    /// Commits of alice and of bob, each at most one in an epoch.
    pub commits: [u8; 2],
    /// Whether alice may remove bob.
    pub removes: bool,
    /// Proposals of alice and of bob.
    pub proposals: [u8; 2],
    /// Messages of alice and of bob.
    pub messages: [u8; 2],
    /// Whether each of them claims the KeyPackage.
    pub claims: bool,
    /// Crashes of the hub.
    pub crashes: u8,
    /// Requests or answers that are lost.
    pub losses: u8,
    /// Lanes that are cut: what was not acknowledged is sent again.
    pub resends: u8,
    /// Batches for which the follower's log has no room.
    pub no_room: u8,
    /// Acknowledgements that the hub's log remembers.
    pub acks: u8,
    /// States after which the search gives up.
    pub states: usize,
}

impl Bounds {
    /// Nothing but two clients that do nothing.
    pub const STILL: Self = Self {
        epochs: 1,
        commits: [0; 2],
        removes: false,
        proposals: [0; 2],
        messages: [0; 2],
        claims: false,
        crashes: 0,
        losses: 0,
        resends: 0,
        no_room: 0,
        acks: 0,
        states: 20_000_000,
    };
    /// Three epochs, contested and with a removal, and a crash.
    pub const FULL: Self = Self {
        epochs: 3,
        commits: [2, 1],
        removes: true,
        crashes: 1,
        ..Self::STILL
    };
    /// Both claim the one KeyPackage, with a crash and a loss.
    pub const CLAIMS: Self = Self {
        claims: true,
        crashes: 1,
        losses: 1,
        ..Self::STILL
    };
    /// A contested epoch, with a crash.
    pub const COMMITS: Self = Self {
        epochs: 2,
        commits: [1, 1],
        crashes: 1,
        ..Self::STILL
    };
    /// A contested epoch and a Proposal.
    pub const PROPOSALS: Self = Self {
        epochs: 2,
        commits: [1, 1],
        proposals: [0, 1],
        ..Self::STILL
    };
    /// A Proposal and a Commit, one answer of which is lost.
    pub const PROPOSAL_LOST: Self = Self {
        losses: 1,
        commits: [1, 0],
        ..Self::PROPOSALS
    };
    /// A message and a removal over lanes that are cut.
    pub const LANES: Self = Self {
        epochs: 2,
        commits: [1, 0],
        removes: true,
        messages: [0, 1],
        resends: 1,
        ..Self::STILL
    };
    /// Batches over a lane that ends because the follower's log had no room.
    pub const ROOMLESS: Self = Self {
        epochs: 2,
        commits: [1, 0],
        messages: [1, 0],
        no_room: 1,
        acks: 1,
        ..Self::STILL
    };
}

/// What a search has found.
#[derive(Debug, Default)]
pub struct Explored {
    /// Distinct states.
    pub states: usize,
    /// Steps between them.
    pub transitions: usize,
    /// Steps to the state that is furthest away.
    pub depth: usize,
    /// Whether every state was visited.
    pub whole: bool,
    /// The first promise that was broken.
    pub violation: Option<Broken>,
    /// Steps that were an occasion for what is worth seeing.
    pub situations: BTreeMap<&'static str, usize>,
}

/// A broken promise, and a shortest way to it.
#[derive(Debug)]
pub struct Broken {
    /// Which, and how.
    pub violation: Violation,
    /// What happened, in order.
    pub path: Vec<String>,
}

/// What a search of these bounds should come across.
const SITUATIONS: [&str; 9] = [
    "contested epoch met in the log",
    "crash between append and sync",
    "crash between sync and answer",
    "claim asked again",
    "batch that came again",
    "gap met by the follower",
    "submission that came again",
    "submission of a removed member",
    "accepted Proposal told again",
];

fn signs_of(signs: Signs) -> [bool; 9] {
    [
        signs.contested,
        signs.before_sync,
        signs.before_answer,
        signs.claim_again,
        signs.batch_again,
        signs.gap,
        signs.submission_again,
        signs.refused_after_leaving,
        signs.proposal_again,
    ]
}

/// How each state was first reached: from which one, by what.
type Ways = Vec<(usize, Option<Move>)>;

fn path(ways: &Ways, mut state: usize, last: Option<Move>) -> Vec<String> {
    let mut path: Vec<String> = last.iter().map(Move::to_string).collect();
    while let Some((before, Some(by))) = ways.get(state) {
        path.push(by.to_string());
        state = *before;
    }
    path.reverse();
    path
}

/// Visits every state within the bounds, nearest first, until a promise is broken.
#[must_use]
pub fn explore(bounds: &Bounds) -> Explored {
    let mut found = Explored::default();
    let mut ways: Ways = vec![(0, None)];
    let broken = |(invariant, why), path| Broken {
        violation: Violation { invariant, why },
        path,
    };
    let first = match World::new(bounds) {
        Ok(first) => first,
        Err(why) => {
            found.violation = Some(broken(why, Vec::new()));
            return found;
        }
    };
    let mut known = BTreeMap::from([(first.hash(), 0_usize)]);
    let mut nearest = vec![(0_usize, first)];
    while !nearest.is_empty() {
        let mut next = Vec::new();
        for (place, world) in nearest {
            let moves = world.moves();
            if !moves.iter().any(|then| then.must())
                && let Err(why) = world.check_end()
            {
                found.violation = Some(broken(why, path(&ways, place, None)));
                return found;
            }
            for then in moves {
                let mut after = world.clone();
                after.signs = Signs::default();
                found.transitions += 1;
                if let Err(why) = after.play(then).and_then(|()| after.check()) {
                    found.states = ways.len();
                    found.violation = Some(broken(why, path(&ways, place, Some(then))));
                    return found;
                }
                for (name, is) in SITUATIONS.into_iter().zip(signs_of(after.signs)) {
                    if is {
                        *found.situations.entry(name).or_default() += 1;
                    }
                }
                if let Entry::Vacant(new) = known.entry(after.hash()) {
                    new.insert(ways.len());
                    next.push((ways.len(), after));
                    ways.push((place, Some(then)));
                }
            }
        }
        found.states = ways.len();
        if ways.len() > bounds.states {
            return found;
        }
        found.depth += usize::from(!next.is_empty());
        nearest = next;
    }
    found.whole = true;
    found
}

/// The worlds that a release build explores whole in a few minutes.
pub const WORLDS: [(&str, Bounds); 7] = [
    ("epochs and a removal, with a crash", Bounds::FULL),
    (
        "epochs, with a crash and a loss",
        Bounds {
            removes: false,
            losses: 1,
            ..Bounds::FULL
        },
    ),
    ("one KeyPackage, with a crash and a loss", Bounds::CLAIMS),
    ("a Proposal and contested Commits", Bounds::PROPOSALS),
    (
        "a Proposal and a Commit, with a loss",
        Bounds::PROPOSAL_LOST,
    ),
    (
        "a message and a removal over lanes that are cut",
        Bounds::LANES,
    ),
    ("a follower whose log has no room", Bounds::ROOMLESS),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole space within the bounds, which must keep every promise.
    fn whole(bounds: Bounds) -> Explored {
        let found = explore(&bounds);
        assert!(found.violation.is_none(), "{:#?}", found.violation);
        assert!(found.whole, "{} states and no end", found.states);
        found
    }

    #[test]
    fn every_promise_holds_in_every_state_of_the_reduced_worlds() {
        let mut met: BTreeMap<&str, usize> = BTreeMap::new();
        for bounds in [
            Bounds::PROPOSAL_LOST,
            Bounds::COMMITS,
            Bounds::CLAIMS,
            Bounds {
                resends: 0,
                ..Bounds::LANES
            },
            Bounds {
                commits: [0; 2],
                ..Bounds::LANES
            },
            Bounds::ROOMLESS,
        ] {
            for (name, times) in whole(bounds).situations {
                *met.entry(name).or_default() += times;
            }
        }
        for name in SITUATIONS {
            assert!(met.contains_key(name), "{name} never came up: {met:?}");
        }
    }

    #[test]
    fn nothing_happens_where_nothing_may() {
        let found = whole(Bounds::STILL);
        assert_eq!((found.states, found.transitions), (1, 0));
    }
}
