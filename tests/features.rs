//! The stories of `tests/features`, told to real nodes.
//!
//! `FEATURE_FILTER` takes a part of a feature's or scenario's name, or a tag. The last line is `N passed, N failed`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests stop at what they did not expect"
)]

mod steps;
mod support;

use cucumber::{World as _, WriterExt as _, event::ScenarioFinished, writer::Stats as _};
use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use steps::Story;
use support::{full_disk::Image, slow_disk::SlowDisk};

/// How long all stories may take together.
const ALL: Duration = Duration::from_secs(1_200);

/// For each requirement and invariant the scenarios that show it, and whether each passed.
type Shown = BTreeMap<String, Vec<(String, bool)>>;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    // The arguments are the test harness's, not ours.
    let filter = std::env::var("FEATURE_FILTER").unwrap_or_default();
    // What a tag asks of this machine, and why it is not there.
    let missing = [("root", SlowDisk::missing()), ("disks", Image::missing())];
    let skipped: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let skipping = Arc::clone(&skipped);
    let shown: Arc<Mutex<Shown>> = Arc::default();
    let results = Arc::clone(&shown);
    let began = Instant::now();
    let run = Story::cucumber()
        .with_writer(cucumber::writer::Basic::stdout().summarized())
        .fail_on_skipped()
        .with_default_cli()
        .max_concurrent_scenarios(1)
        .after(move |_, _, scenario, finished, story| {
            let passed = matches!(finished, ScenarioFinished::StepPassed);
            let hurt = story.map(|story| story.end(passed)).unwrap_or_default();
            {
                let mut results = results.lock().unwrap();
                for tag in scenario
                    .tags
                    .iter()
                    .filter(|tag| tag.starts_with(['R', 'I']))
                {
                    let row = (scenario.name.clone(), passed && hurt.is_empty());
                    results.entry(tag.clone()).or_default().push(row);
                }
            }
            Box::pin(async move {
                assert!(hurt.is_empty(), "at the end of the story: {hurt:#?}");
            })
        })
        .filter_run("tests/features", move |feature, _, scenario| {
            let asked = filter.is_empty()
                || feature.name.contains(&filter)
                || feature.tags.contains(&filter)
                || scenario.name.contains(&filter)
                || scenario.tags.contains(&filter);
            let mut missing = missing.iter();
            let why = missing.find_map(|(tag, why)| {
                let needed = scenario.tags.iter().any(|has| has == tag);
                why.as_ref().filter(|_| needed)
            });
            match why {
                Some(why) if asked => {
                    let said = format!("SKIPPED: {}: {why}", scenario.name);
                    skipping.lock().unwrap().insert(said);
                    false
                }
                Some(_) | None => asked,
            }
        });
    let Ok(writer) = tokio::time::timeout(ALL, run).await else {
        println!("the stories did not end within {ALL:?}");
        println!("0 passed, 1 failed");
        return ExitCode::FAILURE;
    };

    println!("\nrequirement  result  scenario");
    for (requirement, rows) in shown.lock().unwrap().iter() {
        for (scenario, passed) in rows {
            let result = if *passed { "passed" } else { "FAILED" };
            println!("{requirement:<11}  {result}  {scenario}");
        }
    }
    for said in skipped.lock().unwrap().iter() {
        println!("{said}");
    }
    let stats = writer.scenarios_stats();
    let failed = stats.failed + stats.skipped + writer.parsing_errors() + writer.hook_errors();
    println!("in {:.1} s", began.elapsed().as_secs_f32());
    println!("{} passed, {failed} failed", stats.passed);
    if failed == 0 && stats.passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
