//! Reading a history: line by line, each of bounded length.

use super::line::Line;
use std::io::{self, BufRead, Read as _};

/// Longest line, in bytes, its newline included.
pub const LINE_BYTES_MAX: u64 = 1 << 20;

/// Why a file is not a history. Lines count from 1.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// It cannot be read.
    #[error("line {line}: {source}")]
    Read {
        /// The line.
        line: u64,
        /// What the system says.
        source: io::Error,
    },
    /// A line is too long.
    #[error("line {line} is longer than {max} bytes; record its operation in parts")]
    TooLong {
        /// The line.
        line: u64,
        /// The limit.
        max: u64,
    },
    /// The last line has no end.
    #[error("line {line} is cut off; let the recorder end before the file is read")]
    Cut {
        /// The line.
        line: u64,
    },
    /// A line is not in the format.
    #[error("line {line} is not in the format of a history: {detail}")]
    Syntax {
        /// The line.
        line: u64,
        /// What is wrong.
        detail: String,
    },
    /// A line is in the format and cannot follow the lines before it.
    #[error("line {line} cannot follow the lines before it: {why}; mend what records it")]
    Misplaced {
        /// The line.
        line: u64,
        /// Why.
        why: String,
    },
}

/// The lines of a history, checked one by one.
#[derive(Debug)]
pub struct Lines<R> {
    source: R,
    read: u64,
    t_mono_ns: u64,
    bytes: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    /// The lines of `source`.
    pub fn new(source: R) -> Self {
        Self {
            source,
            read: 0,
            t_mono_ns: 0,
            bytes: Vec::new(),
        }
    }

    /// How many lines were read.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.read
    }

    /// The next line with its number from 1; `None` at the end.
    ///
    /// # Errors
    /// [`HistoryError`]; nothing after it can be relied on.
    pub fn next_line(&mut self) -> Result<Option<(u64, Line)>, HistoryError> {
        let number = self.read + 1;
        self.bytes.clear();
        let mut bounded = self.source.by_ref().take(LINE_BYTES_MAX);
        let count = bounded
            .read_until(b'\n', &mut self.bytes)
            .map_err(|source| HistoryError::Read {
                line: number,
                source,
            })?;
        if count == 0 {
            return Ok(None);
        }
        if self.bytes.pop() != Some(b'\n') {
            let full = u64::try_from(count).is_ok_and(|count| count == LINE_BYTES_MAX);
            return Err(if full {
                HistoryError::TooLong {
                    line: number,
                    max: LINE_BYTES_MAX,
                }
            } else {
                HistoryError::Cut { line: number }
            });
        }
        let line: Line =
            serde_json::from_slice(&self.bytes).map_err(|error| HistoryError::Syntax {
                line: number,
                detail: error.to_string(),
            })?;
        let misplaced = |why| HistoryError::Misplaced { line: number, why };
        if line.i != self.read {
            return Err(misplaced(format!(
                "its number is {} where {} was next",
                line.i, self.read
            )));
        }
        if line.t_mono_ns < self.t_mono_ns {
            return Err(misplaced("its time goes back".to_owned()));
        }
        self.t_mono_ns = line.t_mono_ns;
        self.read = number;
        Ok(Some((number, line)))
    }
}
