//! The table of planted bugs: for each, how many seeds of its world it takes until a promise is broken, as rows for
//! `docs/TESTING.md`. It is built only in the copy that `cargo planted` makes.
//!
//! A bug counts as found only by a seed that keeps every promise without it.
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a program for people"
)]

#[path = "../../../tests/planted/bugs.rs"]
#[allow(dead_code, reason = "here, bugs are planted already")]
mod bugs;

use bugs::{Bug, World};
use mimi_actors::{
    machine::Millis,
    planted::plant,
    sim::{
        self, Violation, operators,
        small::{self, Bounds},
        voters,
    },
};
use std::{
    env,
    path::Path,
    process::ExitCode,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let all = bugs::read(&root).expect("they were read when the copy was made");
    let wanted = wanted(&all);
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = since.expect("it is after 1970").as_millis();
    let present = Millis(u64::try_from(since).expect("some time passes until then"));
    let begun = Instant::now();
    let mut missed = Vec::new();

    let large = |seed| sim::play_seed(seed, present).violation;
    missed.extend(look_for(&wanted, World::Large, "the large world", large));
    let voters = |seed| voters::play(seed).violation;
    let told = "the voters' world";
    missed.extend(look_for(&wanted, World::Voters, told, voters));
    let operators = |seed| operators::play(seed).violation;
    let told = "the operators' world";
    missed.extend(look_for(&wanted, World::Operators, told, operators));
    missed.extend(look_in_small_worlds(&wanted));

    println!("\nall in {} s", begun.elapsed().as_secs());
    if missed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("not found: {}", missed.join(", "));
    ExitCode::FAILURE
}

/// Those to look for: all, unless `BUG` names some.
fn wanted(all: &[Bug]) -> Vec<&Bug> {
    let Ok(only) = env::var("BUG") else {
        return all.iter().collect();
    };
    let named = only.split(',').map(|name| {
        let known = all.iter().find(|bug| bug.name == name);
        known.unwrap_or_else(|| panic!("no bug is called {name}"))
    });
    named.collect()
}

/// Looks for the bugs of a world, and tells how many seeds each took: the names of those that were not found.
fn look_for<'a>(
    bugs: &[&'a Bug],
    world: World,
    told: &str,
    play: impl Fn(u64) -> Option<Violation>,
) -> Vec<&'a str> {
    if !bugs.iter().any(|bug| bug.worlds.contains(&world)) {
        return Vec::new();
    }
    let most = env::var("SEEDS").map_or(10_000, |most| most.parse().expect("a number of seeds"));
    println!("\nIn {told}:\n");
    println!("| bug | seeds | breaks | what is wrong with it planted |");
    println!("| --- | --- | --- | --- |");
    let mut missed = Vec::new();
    for bug in bugs.iter().filter(|bug| bug.worlds.contains(&world)) {
        let (name, what) = (&bug.name, &bug.what);
        plant(name);
        let found = (0..most).find_map(|seed| Some((seed, play(seed)?)));
        plant("");
        let Some((seed, Violation { invariant, why })) = found else {
            println!("| `{name}` | not in {most} | | {what} |");
            missed.push(name.as_str());
            continue;
        };
        let seeds = seed + 1;
        println!("| `{name}` | {seeds} | {invariant} | {what} |");
        if bugs.len() == 1 {
            println!("\n{why}");
        }
        if let Some(without) = play(seed) {
            let Violation { invariant, why } = without;
            println!("\nseed {seed} breaks {invariant} without {name} too: {why}\n");
            missed.push(name);
        }
    }
    missed
}

/// Explores the small world of each guard without it: the names of those that are not missed.
fn look_in_small_worlds<'a>(bugs: &[&'a Bug]) -> Vec<&'a str> {
    println!("\nIn small worlds, which are explored in every order:\n");
    println!("| guard | world | breaks | after steps | what is wrong without it |");
    println!("| --- | --- | --- | --- | --- |");
    let mut missed = Vec::new();
    for bug in bugs {
        for world in &bug.worlds {
            let World::Small(bounds) = world else {
                continue;
            };
            let (name, what) = (&bug.name, &bug.what);
            plant(name);
            let explored = small::explore(&bounds_of(bounds));
            plant("");
            match explored.violation {
                Some(broken) => println!(
                    "| `{name}` | `{bounds}` | {} | {} | {what} |",
                    broken.violation.invariant,
                    broken.path.len(),
                ),
                None => {
                    println!("| `{name}` | `{bounds}` | nothing | | {what} |");
                    missed.push(name.as_str());
                }
            }
        }
    }
    missed
}

/// The bounds that a file names.
fn bounds_of(name: &str) -> Bounds {
    match name {
        "COMMITS" => Bounds::COMMITS,
        "PROPOSALS" => Bounds::PROPOSALS,
        "PROPOSAL_LOST" => Bounds::PROPOSAL_LOST,
        "LANES" => Bounds::LANES,
        "ROOMLESS" => Bounds::ROOMLESS,
        "CLAIMS" => Bounds::CLAIMS,
        _ => panic!("there are no bounds {name}"),
    }
}
