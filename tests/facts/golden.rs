//! Every frame and every stored record has the bytes that `tests/golden/*.hex` say, and reads back out of them.
//!
//! A difference means another version of the protocol or of the stored state: the files of a version never change, a new
//! version has files of its own. `GOLDEN=write cargo test --test facts golden` writes the files.

mod consent;
mod frames;
mod records;
mod samples;

use bytes::Bytes;
use frames::{door_frames, link_frames, refusals, refusals_of_1, room_answers};
use mimi_actors::{
    machine::Fold,
    wire::{
        self, FrameError, Versioned,
        refusal::RefusalCode,
        version::{DOOR, LINK},
    },
};
use proptest::prelude::*;
use records::{folds, folds_of_2, records, records_of_2};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{Debug, Write as _},
    path::PathBuf,
};

/// Tells why bytes are no frame of a kind.
type Refused = dyn Fn(&Bytes) -> Option<FrameError>;

/// One value, as it is written, and how its bytes are read.
struct Case {
    name: String,
    /// None where the version has no word for it any more: what was written in it is read all the same.
    bytes: Option<Bytes>,
    /// Whether bytes read as this very value.
    is: Box<dyn Fn(&Bytes) -> bool>,
    /// Reads bytes, whatever they are.
    read: Box<dyn Fn(&Bytes)>,
    /// Why bytes are no such frame, if it is one and they are not.
    refused: Box<Refused>,
}

/// Values of one kind of protocol or store; one file.
#[derive(Default)]
struct Group {
    /// The version in which frames are written.
    version: u8,
    cases: Vec<Case>,
}

/// Reads a value that is no frame by itself.
fn read_part<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (value, rest) = postcard::take_from_bytes(bytes.get(1..)?).ok()?;
    rest.is_empty().then_some(value)
}

impl Group {
    fn of(version: u8) -> Self {
        let cases = Vec::new();
        Self { version, cases }
    }

    /// The values that this build writes in the version of the group, and their bytes.
    fn written(&self) -> impl Iterator<Item = (&Case, &Bytes)> {
        let cases = self.cases.iter();
        cases.filter_map(|case| Some((case, case.bytes.as_ref()?)))
    }

    /// Adds a frame, as the version of the group has it.
    fn frame<T>(&mut self, name: impl Into<String>, value: T) -> &mut Self
    where
        T: Versioned + PartialEq + Debug + 'static,
    {
        self.cases.push(Case {
            name: name.into(),
            bytes: wire::encode_in(self.version, &value, 256).ok(),
            is: Box::new(move |bytes| wire::decode::<T>(bytes).is_ok_and(|read| read == value)),
            read: Box::new(|bytes| drop(wire::decode::<T>(bytes))),
            refused: Box::new(|bytes| wire::decode::<T>(bytes).err()),
        });
        self
    }

    /// Adds a frame, which this version may have no word for any more.
    fn frame_or_read<T>(&mut self, name: String, value: T, is_written: bool)
    where
        T: Versioned + PartialEq + Debug + 'static,
    {
        self.frame(name, value);
        if let Some(case) = self.cases.last_mut().filter(|_| !is_written) {
            case.bytes = None;
        }
    }

    /// Adds a part of a frame or record.
    fn add<T>(&mut self, name: impl Into<String>, value: T) -> &mut Self
    where
        T: Serialize + DeserializeOwned + PartialEq + Debug + 'static,
    {
        self.cases.push(Case {
            name: name.into(),
            bytes: Some(wire::canonical(&value)),
            is: Box::new(move |bytes| read_part::<T>(bytes).is_some_and(|read| read == value)),
            read: Box::new(|bytes| drop(read_part::<T>(bytes))),
            refused: Box::new(|_| None),
        });
        self
    }

    /// Adds what stands in a frame behind `before`, in front of which it is written as a part by itself.
    fn in_frame<T>(&mut self, name: String, frame: T, before: &[u8])
    where
        T: Versioned + PartialEq + Debug + 'static,
    {
        let written = wire::encode_in(self.version, &frame, 256).unwrap();
        let part = written.strip_prefix(before).expect("the frame begins so");
        let bytes = [&[1], part].concat().into();
        let before = before.to_vec();
        let whole = move |part: &Bytes| {
            let part = part.get(1..).unwrap_or_default();
            Bytes::from([&before, part].concat())
        };
        let other = whole.clone();
        self.cases.push(Case {
            name,
            bytes: Some(bytes),
            is: Box::new(move |part| {
                wire::decode::<T>(&whole(part)).is_ok_and(|read| read == frame)
            }),
            read: Box::new(move |part| drop(wire::decode::<T>(&other(part)))),
            refused: Box::new(|_| None),
        });
    }

    /// Adds one value of every variant of a type; a variant that is not among them is noticed.
    fn every<T>(&mut self, kind: &str, values: Vec<(&'static str, T)>)
    where
        T: Serialize + DeserializeOwned + PartialEq + Debug + 'static,
    {
        let variants: BTreeSet<u8> = values
            .iter()
            .map(|(_, value)| wire::canonical(value)[1])
            .collect();
        let next = u8::try_from(values.len()).unwrap();
        assert!(
            variants.into_iter().eq(0..next),
            "{kind}: a variant is missing, or there twice"
        );
        // Zeros are a value of any field here, so only an unknown variant does not have this shape.
        let mut beyond = vec![1, next];
        beyond.resize(100, 0);
        let beyond = postcard::take_from_bytes::<T>(&beyond[1..]);
        assert!(beyond.is_err(), "{kind}: the last variant is missing");
        for (name, value) in values {
            self.add(format!("{kind}-{name}"), value);
        }
    }

    fn fold<F: Fold + PartialEq>(&mut self, name: &str, fold: F) -> &mut Self {
        self.cases.push(Case {
            name: name.to_owned(),
            bytes: Some(fold.compact().into()),
            is: Box::new(move |bytes| F::revive(bytes).is_ok_and(|read| read == fold)),
            read: Box::new(|bytes| drop(F::revive(bytes))),
            refused: Box::new(|_| None),
        });
        self
    }
}

/// The files, and what should be in them.
fn groups() -> Vec<(String, Group)> {
    let mut groups = Vec::new();
    for (format, frames) in [
        (LINK, link_frames as fn(u8) -> Group),
        (DOOR, door_frames as fn(u8) -> Group),
    ] {
        for version in format.versions() {
            let mut group = frames(version);
            let name = if format == LINK { "link" } else { "door" };
            match (name, version) {
                (_, 1) => {}
                ("link", _) => consent::link(&mut group),
                (_, _) => consent::door(&mut group),
            }
            groups.push((format!("{name}-{version}"), group));
        }
    }
    groups.push(("answers-2".to_owned(), room_answers()));
    groups.push(("refusals-1".to_owned(), refusals_of_1()));
    groups.push(("refusals-2".to_owned(), refusals()));
    groups.push(("records".to_owned(), records()));
    let mut records = records_of_2();
    consent::records(&mut records);
    groups.push(("records-2".to_owned(), records));
    groups.push(("folds".to_owned(), folds()));
    let mut folds = folds_of_2();
    consent::folds(&mut folds);
    groups.push(("folds-2".to_owned(), folds));
    groups
}

/// What a reader of a difference has to know.
const ADVICE: &str = "what is written already has other bytes: give the format another version in \
    actors/wire/version.rs, keep the shape that it had in actors/upgrade, and add the files of the new version with \
    GOLDEN=write; a file of an old version never changes";

#[test]
fn every_frame_and_record_has_the_bytes_it_always_had_and_reads_back() {
    let write = std::env::var("GOLDEN").is_ok_and(|value| value == "write");
    for (file, group) in groups() {
        let names: BTreeSet<&str> = group.cases.iter().map(|case| &*case.name).collect();
        assert_eq!(
            names.len(),
            group.cases.len(),
            "a name is there twice in {file}"
        );
        let path =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{file}.hex"));
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        let known: BTreeMap<&str, &str> = golden
            .lines()
            .filter_map(|line| line.split_once(' '))
            .collect();
        let mut now = String::new();
        for case in &group.cases {
            let bytes = case.bytes.as_ref().map(|bytes| hex(bytes));
            let bytes = bytes.unwrap_or_else(|| known[&*case.name].to_owned());
            writeln!(now, "{} {bytes}", case.name).unwrap();
        }
        if write {
            std::fs::write(&path, &now).unwrap();
        }
        let golden = std::fs::read_to_string(&path).expect(ADVICE);
        for (now, golden) in now.lines().zip(golden.lines()) {
            assert_eq!(now, golden, "{file}.hex: {ADVICE}");
        }
        let (now, lines) = (now.lines().count(), golden.lines().count());
        assert_eq!(now, lines, "{file}.hex: {ADVICE}");
        for (case, line) in group.cases.iter().zip(golden.lines()) {
            let bytes = unhex(line.split_once(' ').unwrap().1);
            assert!(
                (case.is)(&bytes),
                "{file}.hex: {} reads as something else: {ADVICE}",
                case.name
            );
        }
    }
}

#[test]
fn no_beginning_of_a_frame_or_record_is_one_itself() {
    for (file, group) in groups() {
        for (case, bytes) in group.written() {
            for end in 0..bytes.len() {
                let cut = bytes.slice(..end);
                (case.read)(&cut);
                assert!(!(case.is)(&cut), "{file}: {} cut at {end}", case.name);
            }
        }
    }
}

#[test]
fn what_is_no_frame_is_refused_by_its_field_and_byte() {
    let mut frames = 0;
    for (file, group) in groups() {
        for (case, bytes) in group.written() {
            let refused = |bytes: Vec<u8>| (case.refused)(&bytes.into()).map(|error| error.flaw());
            let longer = [&bytes[..], &[0]].concat();
            let Some(trailing) = refused(longer) else {
                continue;
            };
            frames += 1;
            let name = format!("{file}: {}", case.name);
            let place = |offset: usize| u32::try_from(offset).ok();
            assert_eq!(
                trailing.offset,
                place(bytes.len()),
                "{name} and a byte more"
            );
            let other = [&[0xff], &bytes[1..]].concat();
            let version = refused(other).expect("no version is known by this number");
            assert_eq!(version.field.as_deref(), Some("version"), "{name}");
            for end in 1..bytes.len() {
                let cut = refused(bytes[..end].to_vec());
                let Some(flaw) = cut else { continue };
                assert_eq!(flaw.code, RefusalCode::BadFrame);
                assert!(flaw.offset <= place(end), "{name} cut at {end}: {flaw}");
                let field = flaw.field.as_deref().unwrap_or_default();
                assert!(!field.is_empty(), "{name} cut at {end}: {flaw}");
            }
        }
    }
    assert!(frames > 100, "only {frames} frames were broken");
}

#[test]
fn a_flipped_bit_never_makes_a_reader_panic() {
    for (_, group) in groups() {
        for (case, bytes) in group.written() {
            for bit in 0..bytes.len() * 8 {
                let mut bytes = bytes.to_vec();
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
            for (case, bytes) in group.written() {
                let mut bytes = bytes.to_vec();
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

pub(super) fn unhex(text: &str) -> Bytes {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}
