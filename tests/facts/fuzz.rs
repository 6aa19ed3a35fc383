//! The fuzz targets with changed golden frames and names: for seconds, or for as long as it is told.
//!
//! `FUZZ_INPUTS=1000000 cargo test --test facts fuzz` hands that many to each; `FUZZ_SEED=7` plays a seed again.

#[path = "../../fuzz/targets.rs"]
#[allow(
    unreachable_pub,
    reason = "it is a library of its own for the programs in fuzz/"
)]
mod targets;

use mimi_actors::{
    policy::{
        components::{Component as _, Dictionary, RolesList},
        sets,
    },
    wire::{
        BVec, Payload,
        consent::{ConsentEntry, ConsentOp},
    },
};
use std::{
    fs,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

/// Inputs for each target, unless `FUZZ_INPUTS` says otherwise.
const INPUTS: u64 = 3_000;
/// Changes to one input, at most.
const CHANGES_MAX: u64 = 6;
/// Longest input, in bytes.
const INPUT_BYTES_MAX: usize = 16 << 10;
/// What numbers and lengths are most often wrong at.
const EDGES: [u8; 8] = [0, 1, 2, 0x3f, 0x40, 0x7f, 0x80, 0xff];

/// Chance, by a seed.
struct Dice(u64);

impl Dice {
    fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.number() % (end.max(1) as u64)).unwrap()
    }

    /// One of the corpus with a few changes.
    fn input(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut input = corpus[self.below(corpus.len())].clone();
        for _ in 0..=self.number() % CHANGES_MAX {
            let (at, end) = (self.below(input.len()), self.below(input.len()));
            let range = at.min(end)..at.max(end);
            match self.number() % 7 {
                0 if !input.is_empty() => input[at] ^= 1 << self.below(8),
                1 if !input.is_empty() => input[at] = EDGES[self.below(EDGES.len())],
                2 => input.insert(at, EDGES[self.below(EDGES.len())]),
                3 => drop(input.drain(range)),
                4 => {
                    let again = input[range].to_vec();
                    input.splice(at..at, again);
                }
                5 => {
                    let other = &corpus[self.below(corpus.len())];
                    let from = self.below(other.len());
                    input.truncate(at);
                    input.extend_from_slice(&other[from..]);
                }
                _ => input.truncate(at),
            }
            input.truncate(INPUT_BYTES_MAX);
        }
        input
    }
}

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A room with roles, and what users say to each other about consent.
fn spoken() -> Vec<Vec<u8>> {
    let roles = sets::multi_organization().encode();
    let all = Dictionary::default().encode_with(RolesList::ID, &roles);
    let said = |op| ConsentEntry {
        op,
        requester: "mimi://a.example/u/alice".parse().unwrap(),
        target: "mimi://b.example/u/bob".parse().unwrap(),
        room: Some("mimi://a.example/r/clubhouse".parse().unwrap()),
        key_packages: BVec::default(),
        extensions: Payload::default(),
    };
    let consent = [ConsentOp::Request, ConsentOp::Grant].map(|op| said(op).write());
    [vec![roles, all], consent.to_vec()].concat()
}

/// Every golden frame and record, names as people write them, and what has no frame of its own.
fn corpus() -> Vec<Vec<u8>> {
    let mut corpus = Vec::new();
    for file in fs::read_dir(root("tests/golden")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "hex") {
            continue;
        }
        let text = fs::read_to_string(path).unwrap();
        let frames = text.lines().filter_map(|line| line.split_once(' '));
        corpus.extend(frames.map(|(_, hex)| super::golden::unhex(hex).to_vec()));
    }
    assert!(corpus.len() > 100, "{} golden frames", corpus.len());
    for name in [
        "a.example",
        "mimi://a.example/u/alice",
        "mimi://a.example/d/alice/phone",
        "mimi://a.example/r/clubhouse",
        "mimi://a.example/r/clubhouse?code=AAECAwQFBgcICQoLDA0ODw",
    ] {
        corpus.push(name.as_bytes().to_vec());
    }
    corpus.extend(spoken());
    corpus
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Hands changed inputs to a target, and says which one it fell over.
fn play(name: &str, seed: u64, corpus: &[Vec<u8>], target: targets::Target) {
    let inputs = from_environment("FUZZ_INPUTS").unwrap_or(INPUTS);
    let mut dice = Dice(seed | 1);
    for _ in 0..inputs {
        let input = dice.input(corpus);
        if catch_unwind(AssertUnwindSafe(|| target(&input))).is_err() {
            let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
            panic!("{name} fell over {hex} (FUZZ_SEED={seed})");
        }
    }
}

#[test]
fn no_input_makes_a_decoder_panic_and_what_is_taken_reads_back() {
    let seed = from_environment("FUZZ_SEED");
    let seed = seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
    println!("FUZZ_SEED={seed}");
    let corpus = corpus();
    for (name, target) in targets::TARGETS {
        play(name, seed, &corpus, target);
    }
}
