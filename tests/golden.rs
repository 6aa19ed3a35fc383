//! Every frame and every stored record has the bytes that `tests/golden/*.hex` say, and reads back out of them.
//!
//! A difference means another version of the protocol or of the stored state. `GOLDEN=write cargo test --test golden`
//! writes the files anew.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests, where a panic is the report"
)]

#[path = "golden/frames.rs"]
mod frames;
#[path = "golden/records.rs"]
mod records;
#[path = "golden/samples.rs"]
mod samples;

use bytes::Bytes;
use frames::{door_frames, link_frames, refusals};
use mimi_actors::{
    machine::Fold,
    wire::{self, FrameError},
};
use proptest::prelude::*;
use records::{folds, records};
use serde::{Serialize, de::DeserializeOwned};
use std::{collections::BTreeSet, fmt::Debug, fmt::Write as _, path::PathBuf};

/// One value, as it is written, and how its bytes are read.
struct Case {
    name: String,
    bytes: Bytes,
    /// Whether bytes read as this very value.
    is: Box<dyn Fn(&Bytes) -> bool>,
    /// Reads bytes, whatever they are.
    read: Box<dyn Fn(&Bytes)>,
}

/// Values of one kind of protocol or store; one file.
#[derive(Default)]
struct Group(Vec<Case>);

impl Group {
    fn add<T>(&mut self, name: impl Into<String>, value: T) -> &mut Self
    where
        T: Serialize + DeserializeOwned + PartialEq + Debug + 'static,
    {
        self.0.push(Case {
            name: name.into(),
            bytes: wire::encode(&value),
            is: Box::new(move |bytes| wire::decode::<T>(bytes).is_ok_and(|read| read == value)),
            read: Box::new(|bytes| drop(wire::decode::<T>(bytes))),
        });
        self
    }

    /// Adds one value of every variant of a type; a variant that is not among them is noticed.
    fn every<T>(&mut self, kind: &str, values: Vec<(&'static str, T)>)
    where
        T: Serialize + DeserializeOwned + PartialEq + Debug + 'static,
    {
        let variants: BTreeSet<u8> = values
            .iter()
            .map(|(_, value)| wire::encode(value)[1])
            .collect();
        let next = u8::try_from(values.len()).unwrap();
        assert!(
            variants.into_iter().eq(0..next),
            "{kind}: a variant is missing, or there twice"
        );
        // Zeros are a value of any field here, so only an unknown variant does not have this shape.
        let mut beyond = vec![wire::VERSION, next];
        beyond.resize(100, 0);
        let beyond = wire::decode::<T>(&beyond.into());
        assert!(
            matches!(beyond, Err(FrameError::Shape(_))),
            "{kind}: the last variant is missing"
        );
        for (name, value) in values {
            self.add(format!("{kind}-{name}"), value);
        }
    }

    fn fold<F: Fold + PartialEq>(&mut self, name: &str, fold: F) -> &mut Self {
        self.0.push(Case {
            name: name.to_owned(),
            bytes: fold.compact().into(),
            is: Box::new(move |bytes| F::revive(bytes).is_ok_and(|read| read == fold)),
            read: Box::new(|bytes| drop(F::revive(bytes))),
        });
        self
    }
}

fn groups() -> Vec<(&'static str, Group)> {
    vec![
        ("link", link_frames()),
        ("door", door_frames()),
        ("refusals", refusals()),
        ("records", records()),
        ("folds", folds()),
    ]
}

#[test]
fn every_frame_and_record_has_the_bytes_it_always_had_and_reads_back() {
    let write = std::env::var("GOLDEN").is_ok_and(|value| value == "write");
    for (file, group) in groups() {
        let names: BTreeSet<&str> = group.0.iter().map(|case| &*case.name).collect();
        assert_eq!(
            names.len(),
            group.0.len(),
            "a name is there twice in {file}"
        );
        let path =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{file}.hex"));
        let mut now = String::new();
        for case in &group.0 {
            writeln!(now, "{} {}", case.name, hex(&case.bytes)).unwrap();
        }
        if write {
            std::fs::write(&path, &now).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap();
        for (now, golden) in now.lines().zip(golden.lines()) {
            assert_eq!(now, golden, "{file}.hex");
        }
        assert_eq!(now.lines().count(), golden.lines().count(), "{file}.hex");
        for (case, line) in group.0.iter().zip(golden.lines()) {
            let bytes = unhex(line.split_once(' ').unwrap().1);
            assert!(
                (case.is)(&bytes),
                "{file}.hex: {} reads as something else",
                case.name
            );
        }
    }
}

#[test]
fn no_beginning_of_a_frame_or_record_is_one_itself() {
    for (file, group) in groups() {
        for case in &group.0 {
            for end in 0..case.bytes.len() {
                let cut = case.bytes.slice(..end);
                (case.read)(&cut);
                assert!(!(case.is)(&cut), "{file}: {} cut at {end}", case.name);
            }
        }
    }
}

#[test]
fn a_flipped_bit_never_makes_a_reader_panic() {
    for (_, group) in groups() {
        for case in &group.0 {
            for bit in 0..case.bytes.len() * 8 {
                let mut bytes = case.bytes.to_vec();
                bytes[bit / 8] ^= 1 << (bit % 8);
                (case.read)(&bytes.into());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damage_anywhere_never_makes_a_reader_panic(
        place in any::<prop::sample::Index>(),
        damage in prop::collection::vec(any::<u8>(), 1..12),
        length in any::<prop::sample::Index>(),
    ) {
        for (_, group) in groups() {
            for case in &group.0 {
                let mut bytes = case.bytes.to_vec();
                let place = place.index(bytes.len());
                for (byte, new) in bytes[place..].iter_mut().zip(&damage) {
                    *byte = *new;
                }
                (case.read)(&bytes.clone().into());
                bytes.truncate(length.index(bytes.len() + 1));
                (case.read)(&bytes.into());
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn unhex(text: &str) -> Bytes {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}
