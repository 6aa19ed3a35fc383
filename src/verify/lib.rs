//! `verify`: judges a history that was recorded of a run.

use anyhow::bail;
use mimi_history::{HistoryError, Invariant, Report, Row, Terms, Verdict};
use mimi_operator::output;
use serde_json::json;
use std::{fs::File, io::BufReader, path::PathBuf, time::Duration};

/// Arguments of `verify`.
///
/// Exit code 0: everything asked about is valid. 1: something is violated. 2: nothing is violated, but too little happened
/// to say that all is valid, or the file is not a history.
#[derive(Debug, clap::Args)]
pub struct Verify {
    /// The history: JSON lines, as the documentation of the crate `mimi-history` says
    #[arg(long, value_name = "FILE")]
    history: PathBuf,
    /// Ask about these only, for example I1,I10
    #[arg(long, value_delimiter = ',')]
    only: Vec<Invariant>,
    /// How long delivery may take after the last fault, in seconds
    #[arg(long, default_value_t = 60)]
    within_s: u64,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// A history that proves nothing wrong, and not enough right.
#[derive(Debug, thiserror::Error)]
pub enum Unproven {
    /// Too little happened.
    #[error("{0}; let more happen, or ask with --only about what a run was made for")]
    Unknown(String),
    /// The file is not a history.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: HistoryError,
    },
}

impl Verify {
    /// Does it.
    ///
    /// # Errors
    /// When the history does not prove what it is asked about; [`Unproven`] when it does not disprove it either.
    pub fn run(self) -> anyhow::Result<()> {
        let path = self.history;
        let terms = Terms::within(Duration::from_secs(self.within_s));
        let report = File::open(&path)
            .map_err(|source| HistoryError::Read { line: 1, source })
            .and_then(|file| mimi_history::verify(BufReader::new(file), terms))
            .map_err(|error| Unproven::Unreadable { path, error })?;
        let asked = match self.only.as_slice() {
            [] => Invariant::ALL,
            only => only,
        };
        let verdict = report.verdict(asked);
        if self.json {
            let rows: Vec<_> = asked_rows(&report, asked).collect();
            output::json(&json!({ "verdict": verdict, "lines": report.lines, "rows": rows }))?;
        } else {
            print(&report, asked);
        }
        let count = |verdict| {
            asked_rows(&report, asked)
                .filter(|row| row.verdict == verdict)
                .count()
        };
        match verdict {
            Verdict::Valid => Ok(()),
            Verdict::Unknown => {
                let unknown = count(Verdict::Unknown);
                let said = format!("{unknown} of {} not put to the test", asked.len());
                Err(Unproven::Unknown(said).into())
            }
            Verdict::Violated => bail!(
                "{} of {} violated; the lines named show how",
                count(Verdict::Violated),
                asked.len()
            ),
        }
    }
}

fn asked_rows<'a>(report: &'a Report, asked: &'a [Invariant]) -> impl Iterator<Item = &'a Row> {
    let rows = report.rows.iter();
    rows.filter(|row| asked.contains(&row.invariant))
}

fn print(report: &Report, asked: &[Invariant]) {
    for row in asked_rows(report, asked) {
        let (invariant, verdict, tested) = (row.invariant.to_string(), row.verdict, row.tested);
        let statement = row.invariant.statement();
        output::line(&format!(
            "{invariant:<4} {verdict:<9} {tested:>9} times  {statement}"
        ));
        for finding in &row.findings {
            output::line(&format!("     lines {:?}: {}", finding.lines, finding.why));
        }
        let more = row.violations.saturating_sub(row.findings.len() as u64);
        if more > 0 {
            output::line(&format!("     and {more} more"));
        }
        for missing in &row.missing {
            output::line(&format!("     missing: {missing}"));
        }
    }
    output::line(&format!("{} lines read", report.lines));
}
