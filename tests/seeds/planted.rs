//! The table of planted bugs: for each, how many seeds of its world it takes until a promise is broken.
//!
//! A bug counts as found only by a seed that keeps every promise without it. See `BUG` in the header of `seeds.rs`.

use super::{explore, number, present, say};
use mimi_actors::{
    planted::plant,
    sim::{self, Violation, bugs, operators, small, voters},
};
use std::time::Instant;

/// Names and what is wrong, of all worlds that are played under seeds.
const WORLDS: [(&str, &[(&str, &str)]); 3] = [
    ("the large world", bugs::BUGS),
    ("the voters' world", voters::BUGS),
    ("the operators' world", operators::BUGS),
];

/// Whether to look for a bug: all, unless `BUG` names some.
fn is_wanted(name: &str) -> bool {
    let Ok(only) = std::env::var("BUG") else {
        return true;
    };
    for wanted in only.split(',') {
        let mut all = WORLDS.iter().flat_map(|(_, bugs)| bugs.iter());
        let known = all.any(|(known, _)| *known == wanted)
            || small::GUARDS.iter().any(|(known, _)| *known == wanted);
        assert!(known, "no bug is called {wanted}");
    }
    only.split(',').any(|wanted| wanted == name)
}

/// Looks for every bug of a world, and tells how many seeds it took; fails where one is not found.
fn look_for(world: &str, bugs: &[(&'static str, &str)], play: impl Fn(u64) -> Option<Violation>) {
    let most = number("SEEDS", 10_000);
    say(&format!(
        "{:<34} {:>6}  {:<12} what is wrong with it planted, in {world}",
        "bug", "seeds", "breaks"
    ));
    let mut missed = Vec::new();
    for (name, what) in bugs.iter().filter(|(name, _)| is_wanted(name)) {
        let begun = Instant::now();
        plant(name);
        let found = (0..most).find_map(|seed| Some((seed, play(seed)?)));
        plant("");
        match found {
            Some((seed, _)) if play(seed).is_some() => {
                say(&format!(
                    "{name:<34} seed {seed} breaks a promise without it"
                ));
                missed.push(*name);
            }
            Some((seed, Violation { invariant, why })) => {
                say(&format!(
                    "{name:<34} {:>6}  {invariant:<12} {what}",
                    seed + 1
                ));
                if std::env::var("BUG").is_ok() {
                    say(&format!("    {why}"));
                }
            }
            None => {
                let s = begun.elapsed().as_secs();
                say(&format!(
                    "{name:<34} {:>6}  {:<12} {what} ({most} seeds in {s} s)",
                    "never", ""
                ));
                missed.push(*name);
            }
        }
    }
    assert!(missed.is_empty(), "not found in {most} seeds: {missed:?}");
}

#[test]
fn every_guard_that_is_removed_is_missed_in_a_small_world() {
    let mut missed = Vec::new();
    let wanted = small::GUARDS.iter();
    for (name, bounds) in wanted.filter(|(name, _)| is_wanted(name)) {
        plant(name);
        let explored = explore(name, bounds);
        plant("");
        match explored.violation {
            Some(broken) => say(&format!(
                "    {} after {} steps: {}",
                broken.violation.invariant,
                broken.path.len(),
                broken.violation.why
            )),
            None => missed.push(name),
        }
    }
    assert!(missed.is_empty(), "not missed: {missed:?}");
}

#[test]
fn every_bug_planted_in_the_large_world_is_found() {
    let [(world, bugs), ..] = WORLDS;
    let present = present();
    look_for(world, bugs, |seed| sim::play_seed(seed, present).violation);
}

#[test]
fn every_bug_planted_among_voters_is_found() {
    let [_, (world, bugs), _] = WORLDS;
    look_for(world, bugs, |seed| voters::play(seed).violation);
}

#[test]
fn every_bug_that_operators_would_meet_is_found() {
    let [.., (world, bugs)] = WORLDS;
    look_for(world, bugs, |seed| operators::play(seed).violation);
}
