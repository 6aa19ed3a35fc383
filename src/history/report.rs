//! What the checkers found.

use crate::facts::Judge;
use serde::Serialize;
use std::{collections::BTreeMap, fmt, str::FromStr};

/// Findings kept for each invariant; the others are counted.
const FINDINGS_MAX: usize = 16;

macro_rules! invariants {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// What a history can be checked for, under the names of the invariants.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        pub enum Invariant {
            $($(#[doc = $doc])* $name,)*
        }

        impl Invariant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// What it says.
            #[must_use]
            pub fn statement(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($doc),*).trim_ascii(),)*
                }
            }
        }
    };
}

invariants! {
    /// One Commit opens an epoch of a room, whoever tells
    I1,
    /// An acknowledged Commit reaches every entitled device once, and epochs rise by one for each
    I2,
    /// A KeyPackage is handed out once; a claim asked again gets what it got
    I3,
    /// A Proposal reaches each device before the Commit that names it
    I4,
    /// No message is in a room of whom was not a member at its number, whatever its epoch
    I5,
    /// A device never runs further than 100 messages of a sender ahead of the first that it lacks
    I6,
    /// What was acknowledged is found again after a crash, by every entitled device
    I10,
    /// A replica's state at a place of the log is the same after a restart and on other replicas
    I11,
    /// What was refused is in no room
    I12,
    /// Every event of a room was sent by somebody, as it is
    I13,
    /// A device is given an event once; what is sent again it drops
    I14,
    /// Once the faults have stopped, every accepted event is delivered in time
    I15,
    /// What a provider acknowledged to a hub it has after a crash, also cut off from the hub
    I16,
    /// What was sent to a room is in no other
    I20,
    /// Every message taken from its sender gets one verdict
    I25,
    /// A number of a room names one event for all
    I26,
    /// A node that is cut off from the majority acknowledges no write
    I27,
    /// One node leads a shard in a term, and the term of an entry never changes
    I28,
    /// A node whose bytes were changed raises an alarm before it serves
    I32,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no invariant's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not checked; choose from {all}", all = names())]
pub struct UnknownInvariant(String);

fn names() -> String {
    let names: Vec<_> = Invariant::ALL.iter().map(Invariant::to_string).collect();
    names.join(", ")
}

impl FromStr for Invariant {
    type Err = UnknownInvariant;

    fn from_str(text: &str) -> Result<Self, UnknownInvariant> {
        let found = Self::ALL.iter().find(|one| one.to_string() == text);
        found
            .copied()
            .ok_or_else(|| UnknownInvariant(text.to_owned()))
    }
}

/// How an invariant fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It was put to the test and held.
    Valid,
    /// Too little happened to say so.
    Unknown,
    /// It was broken.
    Violated,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Valid => "valid",
            Self::Unknown => "unknown",
            Self::Violated => "violated",
        })
    }
}

/// One way in which an invariant was broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The lines that show it, from 1.
    pub lines: Vec<u64>,
    /// How.
    pub why: String,
}

/// What was found about one invariant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Which.
    pub invariant: Invariant,
    /// How it fared.
    pub verdict: Verdict,
    /// How many times it was compared with what happened.
    pub tested: u64,
    /// How many times it was broken.
    pub violations: u64,
    /// The first of these.
    pub findings: Vec<Finding>,
    /// What did not happen that would have put it to the test.
    pub missing: Vec<String>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Lines read.
    pub lines: u64,
    /// One row for each invariant, in order.
    pub rows: Vec<Row>,
}

impl Report {
    /// The worst of the verdicts on `asked`.
    #[must_use]
    pub fn verdict(&self, asked: &[Invariant]) -> Verdict {
        let rows = self.rows.iter();
        let asked = rows.filter(|row| asked.contains(&row.invariant));
        asked
            .map(|row| row.verdict)
            .max()
            .unwrap_or(Verdict::Unknown)
    }

    /// What was found about one invariant.
    #[must_use]
    pub fn row(&self, invariant: Invariant) -> Option<&Row> {
        self.rows.iter().find(|row| row.invariant == invariant)
    }
}

/// What a checker notes on its way.
#[derive(Debug, Default)]
pub(super) struct Tally {
    tested: u64,
    violations: u64,
    findings: Vec<Finding>,
    missing: Vec<String>,
}

impl Tally {
    /// Notes a comparison, and how it failed if it did.
    pub(super) fn demand(
        &mut self,
        holds: bool,
        lines: impl FnOnce() -> Vec<u64>,
        why: impl FnOnce() -> String,
    ) {
        self.tested += 1;
        if holds {
            return;
        }
        self.violations += 1;
        if self.findings.len() < FINDINGS_MAX {
            let finding = Finding {
                lines: lines(),
                why: why(),
            };
            self.findings.push(finding);
        }
    }

    /// Notes what would have had to happen, unless it did.
    pub(super) fn needs(&mut self, happened: bool, what: &str) {
        if !happened && self.missing.len() < FINDINGS_MAX {
            self.missing.push(what.to_owned());
        }
    }

    fn row(self, invariant: Invariant) -> Row {
        let verdict = if self.violations > 0 {
            Verdict::Violated
        } else if self.missing.is_empty() {
            Verdict::Valid
        } else {
            Verdict::Unknown
        };
        Row {
            invariant,
            verdict,
            tested: self.tested,
            violations: self.violations,
            findings: self.findings,
            missing: self.missing,
        }
    }
}

/// A tally for each invariant.
#[derive(Debug, Default)]
pub(super) struct Tallies(BTreeMap<Invariant, Tally>);

impl Tallies {
    pub(super) fn of(&mut self, invariant: Invariant) -> &mut Tally {
        self.0.entry(invariant).or_default()
    }

    /// Notes what would have had to happen to put an invariant to the test, unless it did.
    pub(super) fn needs(&mut self, invariant: Invariant, happened: bool, what: &str) {
        self.of(invariant).needs(happened, what);
    }

    /// Notes it, unless the invariant was compared with anything.
    pub(super) fn needs_a_test(&mut self, invariant: Invariant, what: &str) {
        let tally = self.of(invariant);
        tally.needs(tally.tested > 0, what);
    }

    /// One row for each invariant, in order.
    pub(super) fn rows(mut self) -> Vec<Row> {
        let all = Invariant::ALL.iter();
        all.map(|one| self.0.remove(one).unwrap_or_default().row(*one))
            .collect()
    }
}

impl Judge for Tallies {
    fn demand(
        &mut self,
        invariant: Invariant,
        holds: bool,
        lines: impl FnOnce() -> Vec<u64>,
        why: impl FnOnce() -> String,
    ) {
        self.of(invariant).demand(holds, lines, why);
    }
}
