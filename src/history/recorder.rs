//! Writing a history.

use super::{
    line::{Event, Line},
    reader::LINE_BYTES_MAX,
};
use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// Appends lines to a history. Shared by all that watch one run: what is recorded first has the lower number.
///
/// Each line is given to the system before [`Recorder::record`] returns; it outlives a recorder that is killed, and is
/// not meant to outlive the machine.
#[derive(Debug)]
pub struct Recorder {
    began: Instant,
    file: Mutex<Lines>,
}

#[derive(Debug)]
struct Lines {
    file: File,
    next: u64,
}

impl Recorder {
    /// A new history; an existing file is replaced.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = File::create(path)?;
        Ok(Self {
            began: Instant::now(),
            file: Mutex::new(Lines { file, next: 0 }),
        })
    }

    /// Appends one line.
    ///
    /// # Errors
    /// When it cannot be written, or would be longer than [`LINE_BYTES_MAX`].
    pub fn record(&self, event: Event) -> io::Result<()> {
        let mut lines = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken under the lock: times rise as numbers do.
        let t_mono_ns = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let line = Line {
            i: lines.next,
            t_mono_ns,
            event,
        };
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        if text.len() as u64 > LINE_BYTES_MAX {
            let why = format!(
                "a line of {} bytes, the limit is {LINE_BYTES_MAX}",
                text.len()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        lines.file.write_all(&text)?;
        lines.next += 1;
        Ok(())
    }
}
