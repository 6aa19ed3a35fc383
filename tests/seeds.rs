//! The simulated world, under many seeds.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "tests report")]

use mimi_actors::sim::{self, MODEL_EPOCH, Report, Story, plan::Plan};

fn main() {
    let from: u64 = std::env::var("FROM")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(0);
    let seeds: u64 = std::env::var("SEEDS")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(200);
    let begun = std::time::Instant::now();
    let mut counts = sim::Counts::default();
    let mut occasions = sim::Counts::default();
    let (mut events, mut simulated) = (0, 0);
    for seed in from..from + seeds {
        let report: Report = sim::play_seed(seed);
        events += report.events;
        simulated += report.simulated_ms;
        counts.add(&report.counts);
        occasions.add(&report.occasions);
        if let Some(violation) = &report.violation {
            println!("seed {seed}: {}: {}", violation.invariant, violation.why);
            if std::env::var("STORY").is_ok() {
                let (plan, plays) = sim::shrink::shrink(&report, MODEL_EPOCH);
                println!("shrunk in {plays} plays: {plan:?}");
                let told = sim::play(plan, MODEL_EPOCH, Story::written());
                println!("{:?}", told.violation);
                for line in told.story {
                    println!("{line}");
                }
                break;
            }
        }
        let _ = Plan::of(seed);
    }
    println!(
        "{seeds} seeds in {:?}, {events} events, {} s simulated",
        begun.elapsed(),
        simulated / 1000
    );
    println!("{counts:#?}\n{occasions:#?}");
}
