//! The stories of `tests/features`, told to real nodes.
//!
//! `FEATURE_FILTER` takes a part of a feature's or scenario's name, or a tag. The last line is `N passed, N failed`.
//!
//! Several scenarios run at once, each with nodes, ports and directories of its own; most of their time they wait. One of
//! a feature with the tag `@several-nodes` counts twice, for its many nodes. `FEATURES_AT_ONCE=1` runs one after the other. A
//! scenario with the tag `@serial` runs alone: what it does or measures concerns the whole machine. Those come first.
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
use tokio::sync::Semaphore;

/// How long all stories may take together.
const ALL: Duration = Duration::from_secs(1_200);
/// Scenarios that run at once where nothing else is asked for.
const AT_ONCE: u32 = 4;
/// The tag of a feature whose scenarios count twice.
const SEVERAL: &str = "several-nodes";
/// The tag of a scenario that runs alone.
const SERIAL: &str = "serial";
/// How many of the slowest scenarios are named at the end.
const SLOWEST: usize = 10;

/// For each requirement and invariant the scenarios that show it, and whether each passed.
type Shown = BTreeMap<String, Vec<(String, bool)>>;

/// A scenario by its feature and its line.
type Place = (String, usize);

/// Which scenarios run, and how long those took that have ended.
#[derive(Default)]
struct Times {
    running: BTreeMap<Place, (Instant, bool)>,
    took: Vec<(Duration, String)>,
}

impl Times {
    /// A scenario begins. One that must run alone does.
    fn begin(&mut self, place: Place, alone: bool) {
        let others = self.running.len();
        let mut beside = self.running.values();
        assert!(
            others == 0 || !(alone || beside.any(|(_, alone)| *alone)),
            "{place:?} begins beside {others} others, and one of them must run alone"
        );
        self.running.insert(place, (Instant::now(), alone));
    }

    fn end(&mut self, place: &Place, name: &str) {
        if let Some((began, _)) = self.running.remove(place) {
            self.took.push((began.elapsed(), name.to_owned()));
        }
    }

    fn print_slowest(&mut self) {
        self.took.sort_by(|one, other| other.cmp(one));
        println!("\nseconds  the slowest scenarios");
        for (took, name) in self.took.iter().take(SLOWEST) {
            println!("{:>7.1}  {name}", took.as_secs_f32());
        }
    }
}

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
    let at_once = std::env::var("FEATURES_AT_ONCE").map_or(AT_ONCE, |asked| {
        asked.parse().expect("FEATURES_AT_ONCE is a number")
    });
    let turns = Arc::new(Semaphore::new(usize::try_from(at_once).unwrap()));
    let times: Arc<Mutex<Times>> = Arc::default();
    let (beginning, ending) = (Arc::clone(&times), Arc::clone(&times));
    let began = Instant::now();
    let run = Story::cucumber()
        .with_writer(cucumber::writer::Basic::stdout().summarized())
        .fail_on_skipped()
        .with_default_cli()
        .max_concurrent_scenarios(usize::try_from(at_once).unwrap())
        .before(move |feature, _, scenario, story| {
            let alone = scenario.tags.iter().any(|tag| tag == SERIAL);
            let counts = match feature.tags.iter().any(|tag| tag == SEVERAL) {
                true => at_once.min(2),
                false => 1,
            };
            let place = (feature.name.clone(), scenario.position.line);
            let (beginning, turns) = (Arc::clone(&beginning), Arc::clone(&turns));
            Box::pin(async move {
                let turn = turns.acquire_many_owned(counts).await.unwrap();
                beginning.lock().unwrap().begin(place, alone);
                story.begin(&scenario.name, turn);
            })
        })
        .after(move |feature, _, scenario, finished, story| {
            let place = (feature.name.clone(), scenario.position.line);
            ending.lock().unwrap().end(&place, &scenario.name);
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
    times.lock().unwrap().print_slowest();
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
