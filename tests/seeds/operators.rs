//! Operators and their mistakes under many seeds. `OPERATOR_SEEDS=100000 cargo test --release --test seeds operators`.

use super::{number, say};
use mimi_actors::sim::operators::{self, Report};
use std::collections::BTreeMap;

fn tell(report: &Report) -> String {
    let mut told = String::new();
    for line in &report.story {
        told.push_str(line);
        told.push('\n');
    }
    let violation = report
        .violation
        .as_ref()
        .map(|broken| format!("{}: {}", broken.invariant, broken.why));
    let seed = report.seed;
    format!(
        "{told}seed {seed}: {}\nagain: FROM={seed} OPERATOR_SEEDS=1 cargo test --release --test seeds operators",
        violation.unwrap_or_default()
    )
}

/// Seeds that once failed, and what they found.
const REGRESSIONS: [(u64, &str); 6] = [
    (
        278,
        "(checker) a change that was begun was finished before its new voters had everything",
    ),
    (
        478,
        "(checker) a leader put right by itself where a node is, after that was looked at",
    ),
    (762, "(checker) as 278, at a leader that was just elected"),
    (1_164, "(checker) as 478, with the node that was asked"),
    (
        16_409,
        "(world) the only voter of a shard went on from an older copy, and nobody was asked",
    ),
    (
        35_423,
        "a leader without a vote after a change finished it, and died: nobody could be elected",
    ),
];

/// Plays seeds until one fails; what happened in them.
fn play(from: u64, seeds: u64) -> (BTreeMap<&'static str, u64>, Option<Report>) {
    let mut counts = BTreeMap::new();
    for seed in from..from + seeds {
        let report = operators::play(seed);
        for (what, count) in &report.counts {
            *counts.entry(*what).or_default() += count;
        }
        if report.violation.is_some() {
            return (counts, Some(report));
        }
    }
    (counts, None)
}

#[test]
fn whatever_operators_mistype_no_shard_is_lost_and_what_is_done_is_done() {
    let (from, seeds) = (number("FROM", 0), number("OPERATOR_SEEDS", 60));
    let (counts, failed) = play(from, seeds);
    for (what, count) in &counts {
        say(&format!("{count:>12}  {what}"));
    }
    if let Some(failed) = failed {
        panic!("{}", tell(&failed));
    }
    if seeds >= 60 {
        let happened = operators::HAPPENED.iter();
        let missing: Vec<_> = happened
            .filter(|what| !counts.contains_key(*what))
            .collect();
        assert!(missing.is_empty(), "never happened: {missing:?}");
    }
}

#[test]
fn a_seed_of_operators_played_twice_tells_the_same_story() {
    for seed in [0, 7, 99] {
        assert_eq!(operators::play(seed).story, operators::play(seed).story);
    }
}

#[test]
fn the_seeds_of_operators_that_once_failed_keep_every_promise() {
    for (seed, found) in REGRESSIONS {
        let again = operators::play(seed);
        assert!(again.violation.is_none(), "{found}\n{}", tell(&again));
    }
}
