//! The simulated worlds under many seeds: every promise is kept.
//!
//! `SEEDS=100000 FROM=0 cargo test --release --test seeds many_seeds` plays any number of the large world. A failing seed
//! prints its plan, made smaller, and its story; `FROM=SEED SEEDS=1` plays it again. `VOTER_SEEDS=100000 … voters` and
//! `OPERATOR_SEEDS=100000 … operators` do the same for the voters' world and the operators'.
//!
//! That they would notice is shown by `cargo planted`, which plants bugs in a copy (`tests/planted`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests, where a panic is the report"
)]

#[path = "seeds/operators.rs"]
mod operators;

use mimi_actors::{
    machine::Millis,
    sim::{self, Counts, Report, Story, Verdict, small},
};
use std::{
    io::Write,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// Invariants that must have been put to the test, and how often at least in 200 seeds.
const TESTED: [&str; 34] = [
    "I1",
    "I2",
    "I3",
    "I4",
    "I5",
    "I11",
    "I8",
    "I12",
    "I13",
    "I14",
    "I15",
    "I16",
    "I17",
    "I20",
    "I21",
    "I22",
    "I24",
    "I25",
    "I26",
    "I30",
    "codes",
    "contradiction",
    "departed",
    "expelled",
    "full disks",
    "lanes",
    "leaving",
    "limits",
    "own leaf",
    "refills",
    "reinit",
    "relay",
    "retention",
    "time",
];

/// What must have happened, so that a green run says something.
const HAPPENED: [&str; 42] = [
    "batches on a lane that shards share",
    "batches that came again",
    "claims limited",
    "claims passed on by the hub",
    "claims sent again",
    "claims that nobody vouches for",
    "contested epochs",
    "commits that lost their epoch",
    "crashes with an entry not yet on disk",
    "disks full",
    "events given to a client again",
    "events read before older ones",
    "gaps that a client was told of",
    "external Commits that may not be",
    "hostile frames",
    "hub Proposals",
    "joining codes that admitted",
    "joining codes that were not looked at",
    "joining codes that were over",
    "joining codes that were wrong",
    "joins by a code",
    "joins by external Commit",
    "last-resort packages given",
    "leader changes while a command was in flight",
    "leaders that gave way for a full disk",
    "leases ended with their codes",
    "low stocks told",
    "members removed",
    "messages refused with a verdict",
    "messages that raced a removal",
    "peers that broke the protocol",
    "power losses",
    "refused after a ReInit",
    "snapshots installed",
    "snapshots sealed",
    "refills told",
    "replicas entered again",
    "rooms lost to a gap",
    "stale disks noticed",
    "starts after a half-done rotation",
    "stocks exhausted",
    "Welcomes that lie in an entry once",
];

/// Written at once, also by a test that passes.
fn say(line: &str) {
    drop(writeln!(std::io::stderr(), "{line}"));
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn present() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Millis(u64::try_from(since.as_millis()).unwrap())
}

/// What many seeds have shown.
#[derive(Default)]
struct Sum {
    seeds: u64,
    unknown: u64,
    events: u64,
    simulated_ms: u64,
    counts: Counts,
    occasions: Counts,
    failed: Option<Report>,
}

impl Sum {
    fn add(&mut self, report: Report) {
        self.seeds += 1;
        self.events += report.events;
        self.simulated_ms += report.simulated_ms;
        self.counts.add(&report.counts);
        self.occasions.add(&report.occasions);
        match report.verdict() {
            Verdict::Valid => {}
            Verdict::Unknown => self.unknown += 1,
            Verdict::Violated => {
                let first = self
                    .failed
                    .as_ref()
                    .is_none_or(|failed| report.plan.seed < failed.plan.seed);
                if first {
                    self.failed = Some(report);
                }
            }
        }
    }
}

/// Plays seeds on two threads, until one fails.
fn play(from: u64, seeds: u64) -> Sum {
    let next = AtomicU64::new(from);
    let sum = Mutex::new(Sum::default());
    let (begun, present) = (Instant::now(), present());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds || sum.lock().unwrap().failed.is_some() {
                        return;
                    }
                    let report = sim::play_seed(seed, present);
                    let mut sum = sum.lock().unwrap();
                    sum.add(report);
                    if sum.seeds.is_multiple_of(5_000) {
                        let so_far = begun.elapsed().as_secs();
                        say(&format!("{} of {seeds} seeds after {so_far} s", sum.seeds));
                    }
                }
            });
        }
    });
    let sum = sum.into_inner().unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    say(&format!(
        "seeds {from} to {}: {:.1} seeds/s, {:.0} events/s, {} s simulated in {seconds:.1} s, {} of {} seeds unknown",
        from + sum.seeds - 1,
        sum.seeds as f64 / seconds,
        sum.events as f64 / seconds,
        sum.simulated_ms / 1_000,
        sum.unknown,
        sum.seeds,
    ));
    sum
}

/// Tells everything about a seed that failed, and fails.
fn report(failed: &Report) -> ! {
    let violation = failed.violation.as_ref().unwrap();
    let seed = failed.plan.seed;
    say(&format!(
        "seed {seed}: {}: {}",
        violation.invariant, violation.why
    ));
    say(&format!(
        "again: FROM={seed} SEEDS=1 cargo test --release --test seeds many_seeds"
    ));
    say(&format!("commit: {}", commit()));
    let (plan, plays) = sim::shrink::shrink(failed, present());
    say(&format!("made smaller in {plays} plays: {plan:?}"));
    let again = sim::play(plan, present(), Story::written());
    for line in &again.story {
        say(line);
    }
    say(&format!("{:?}", again.violation));
    panic!(
        "seed {seed} broke {}; add it to tests/seeds/regressions once it is mended",
        violation.invariant
    );
}

fn commit() -> String {
    let git = std::process::Command::new("git")
        .args(["rev-parse", "--short", "HEAD"])
        .output();
    git.map_or_else(
        |_| "unknown".to_owned(),
        |out| String::from_utf8_lossy(&out.stdout).trim().to_owned(),
    )
}

/// Explores a small world, and tells what it found.
fn explore(name: &str, bounds: &small::Bounds) -> small::Explored {
    let begun = Instant::now();
    let explored = small::explore(bounds);
    say(&format!(
        "{name}: {} states, {} transitions, {} steps at most, in {:.1} s",
        explored.states,
        explored.transitions,
        explored.depth,
        begun.elapsed().as_secs_f64(),
    ));
    explored
}

#[test]
fn many_seeds_keep_every_promise_and_put_each_to_the_test() {
    let (from, seeds) = (number("FROM", 0), number("SEEDS", 200));
    let sum = play(from, seeds);
    for (what, count) in &sum.counts.0 {
        say(&format!("{count:>12}  {what}"));
    }
    for (invariant, count) in &sum.occasions.0 {
        say(&format!(
            "{count:>12}  times {invariant} was put to the test"
        ));
    }
    if let Some(failed) = &sum.failed {
        report(failed);
    }
    if seeds < 200 {
        return;
    }
    let untested: Vec<&str> = TESTED
        .into_iter()
        .filter(|invariant| sum.occasions.of(invariant) == 0)
        .collect();
    assert!(
        untested.is_empty(),
        "unknown, which does not pass: {untested:?}"
    );
    let missing: Vec<&str> = HAPPENED
        .into_iter()
        .filter(|what| sum.counts.of(what) == 0)
        .collect();
    assert!(missing.is_empty(), "never happened: {missing:?}");
    assert!(
        sum.unknown * 10 <= sum.seeds,
        "too little happened in {} of {} seeds",
        sum.unknown,
        sum.seeds
    );
}

#[test]
fn voters_keep_every_promise_while_nodes_pause_ways_are_cut_and_clocks_leap() {
    let (from, seeds) = (number("FROM", 0), number("VOTER_SEEDS", 200));
    let mut counts = Counts::default();
    let mut longest_ms = 0;
    for seed in from..from + seeds {
        let played = sim::voters::play(seed);
        let broken = played.violation;
        assert!(
            broken.is_none(),
            "seed {seed} of the voters: {broken:?}\n\
             again: FROM={seed} VOTER_SEEDS=1 cargo test --release --test seeds voters"
        );
        counts.add(&played.counts);
        longest_ms = longest_ms.max(played.outage_ms);
    }
    for (what, count) in &counts.0 {
        say(&format!("{count:>12}  {what}"));
    }
    say(&format!(
        "{longest_ms:>12}  ms in which nothing was accepted, at most"
    ));
}

#[test]
fn the_seeds_of_voters_that_once_failed_keep_every_promise() {
    let found = [
        (3_926, "who stood broke off when the old leader came back"),
        (4_712, "the same, and the next leader died"),
        (
            17_683,
            "(checker) a second fault during an election on slow disks",
        ),
        (18_458, "(model) who waited for its own vote asked anew"),
        (19_325, "(checker) disks that were slow when it began"),
        (23_961, "(checker) as 17683"),
        (98_293, "(checker) a wait that saw two outages"),
    ];
    for (seed, found) in found {
        let broken = sim::voters::play(seed).violation;
        assert!(broken.is_none(), "seed {seed}, {found}: {broken:?}");
    }
}

#[test]
fn a_seed_played_twice_gives_the_same_trace() {
    for seed in (0..number("SEEDS", 200)).step_by(100) {
        let first = sim::play_seed(seed, present());
        let second = sim::play_seed(seed, present());
        assert_eq!(
            first.trace, second.trace,
            "seed {seed} is not deterministic"
        );
        assert_eq!(first.events, second.events, "seed {seed}");
    }
}

#[test]
#[ignore = "takes minutes in a release build; smaller ones are explored by every run of mimi-actors' tests"]
fn every_state_of_the_small_worlds_keeps_every_promise() {
    for (name, bounds) in &small::WORLDS {
        let explored = explore(name, bounds);
        for (what, count) in &explored.situations {
            say(&format!("{count:>12}  {what}"));
        }
        assert!(explored.violation.is_none(), "{:#?}", explored.violation);
        assert!(explored.whole, "{name}: there are more states");
    }
}

#[test]
fn the_seeds_that_once_failed_keep_every_promise() {
    let text = include_str!("seeds/regressions");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    for line in lines {
        let seed = line.split_whitespace().next().unwrap().parse().unwrap();
        let again = sim::play_seed(seed, present());
        if again.violation.is_some() {
            say(&format!("a regression: {line}"));
            report(&again);
        }
    }
}

#[test]
fn the_story_of_a_contested_epoch_is_the_one_that_the_documents_tell() {
    let told = sim::play(contested_epoch(), present(), Story::written());
    assert_eq!(told.violation, None);
    let story: Vec<&str> = told
        .story
        .iter()
        .map(String::as_str)
        .filter(|line| line.trim_start().starts_with(['3', '4', '5']))
        .collect();
    let documents = include_str!("../docs/TESTING.md");
    assert!(
        documents.contains(&story.join("\n")),
        "docs/TESTING.md tells another story than this one:\n{}",
        story.join("\n")
    );
}

/// The plan of the story in `docs/TESTING.md`: two members commit in one epoch, and the hub's leader crashes when one of the
/// Commits is in the log and nobody was told.
fn contested_epoch() -> sim::plan::Plan {
    use sim::plan::{
        Fault, Move, NodeRef, Plan, PlannedFault, PlannedMove, ProviderShape, Weather,
    };
    let provider = |nodes: u8, users: Vec<u8>| ProviderShape {
        nodes,
        shards: 1,
        users,
        hostile: false,
    };
    let moves = [
        (1_500, 0, Move::Create),
        (1_600, 0, Move::Invite(1)),
        (3_000, 1, Move::Update),
        (3_001, 0, Move::Update),
    ];
    Plan {
        seed: 1,
        real_mls: false,
        providers: vec![provider(3, vec![1]), provider(1, vec![1])],
        weather: Weather {
            delay_ms_max: 5,
            sync_ms_max: 4,
            check_ms_max: 5,
            ..Weather::default()
        },
        stock: 2,
        rules: mimi_actors::user::command::Rules::default(),
        last_resort: false,
        calm_ms: 5_000,
        moves: moves
            .map(|(at_ms, client, what)| PlannedMove {
                at_ms,
                client,
                what,
            })
            .to_vec(),
        faults: vec![PlannedFault {
            at_ms: 3_002,
            what: Fault::Crash {
                node: NodeRef {
                    provider: 0,
                    node: 0,
                },
                after_effects: 3,
                gone_ms: 400,
            },
        }],
    }
}
