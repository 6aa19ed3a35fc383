//! Reading what is at rest, so that damage is found before somebody needs what is damaged.
//!
//! Owns: the walks over the log, the sealed snapshots and the backlog. A walk is an iterator whose steps read about
//! [`STEP_BYTES`] each, when they are asked for: whoever walks sets the pace. Promises: a walk that ends has compared
//! everything that it found at its beginning, and that was still there, with its checksums.
//! Not here: when and how fast to walk, and what follows from damage (`cluster::scrub`); the high-water mark, the
//! newest file of the log and the journal of the backlog, which are written all the time and checked at each start. A
//! file that the disk does not give in this moment is not damaged: it is told, and the next walk looks again.

use super::{
    backlog::{Backlog, BacklogError},
    files,
    log::{Log, ReadError},
    snapshot::{Sealed, SnapshotError},
};
use bytes::Bytes;
use raft_engine::Engine;
use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use xxhash_rust::xxh3::Xxh3Default;

/// Bytes that one step reads, about.
pub const STEP_BYTES: usize = 1 << 20;

/// A walk: each step says how many bytes it went through. Nothing comes after damage.
pub type Walk = Box<dyn Iterator<Item = Result<u64, Damage>> + Send>;

/// Understands the stored entry of a number, or says why it cannot.
pub type Understand = Arc<dyn Fn(u64, &Bytes) -> Result<(), String> + Send + Sync>;

/// What is not as it was written.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// Entries of the log do not read.
    #[error(transparent)]
    Entries(#[from] ReadError),
    /// A file of the log is not one whole block after another.
    #[error("{path} is damaged: {reason}", path = path.display())]
    LogFile {
        /// The file.
        path: PathBuf,
        /// What the engine said.
        reason: String,
    },
    /// The bytes of an entry are sound and say something else than an entry.
    #[error("shard {shard}: entry {index} in the {place} cannot be used: {reason}")]
    Entry {
        /// The shard.
        shard: u16,
        /// The entry.
        index: u64,
        /// Where it lies.
        place: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A snapshot is not what was sealed, or was deleted in this moment because there are newer ones.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// Entries of the backlog do not read.
    #[error(transparent)]
    Backlog(#[from] BacklogError),
    /// A table of the backlog is not what was written.
    #[error("{path} is not what was written: {what}", path = path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// In which way.
        what: &'static str,
    },
}

/// How long to wait after `bytes` were read, so that no more than `bytes_per_s` are. Zero means that nothing is read.
#[must_use]
pub fn pause(bytes: u64, bytes_per_s: u64) -> Duration {
    let micros = u128::from(bytes) * 1_000_000;
    match micros.checked_div(u128::from(bytes_per_s)) {
        Some(micros) => Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)),
        None => Duration::MAX,
    }
}

/// The entries of a shard that are in its log, with their checksums.
#[must_use]
pub fn entries(log: &Arc<Log>, shard: u16, understand: Understand) -> Walk {
    let (log, span) = (Arc::clone(log), log.span(shard));
    let mut next = span.start;
    walk(move || {
        let read = || log.read(shard, next, span.end, STEP_BYTES);
        // Once more: what was overwritten in this moment reads then, what is damaged does not.
        let found = match read().or_else(|_| read()) {
            Ok(found) => found,
            Err(damage @ ReadError::Corruption { .. }) => return Err(damage.into()),
            // The disk does not give it in this moment, which says nothing about what is on it.
            Err(error @ ReadError::Engine { .. }) => {
                tracing::warn!(shard, %error, "entries of the log were not looked at; the next pass tries again");
                return Ok(None);
            }
        };
        let Some((last, _)) = found.last() else {
            return Ok(None);
        };
        next = last.saturating_add(1);
        understood(shard, "log", &found, &understand).map(Some)
    })
}

/// The files of the log that are no longer written to: none is missing, and each is one whole block after another.
///
/// Which these are, the engine says. What else lies there was left by a fault (see `engine_files`) and is no part of the
/// log.
#[must_use]
pub fn log_files(log: &Arc<Log>) -> Walk {
    let log = Arc::clone(log);
    let mut finished = log.finished_files().into_iter();
    walk(move || {
        let next = finished.next();
        next.map(|path| log_file(&log, &path)).transpose()
    })
}

/// Whether the blocks of `path` are whole. The content of the blocks is not read, but counts: so the pace stays below its
/// bound.
fn log_file(log: &Log, path: &Path) -> Result<u64, Damage> {
    let damage = |reason| {
        Err(Damage::LogFile {
            path: path.to_path_buf(),
            reason,
        })
    };
    let Ok(meta) = fs::metadata(path) else {
        if log.misses(path) {
            return damage("it is missing".to_owned());
        }
        // It was given back meanwhile, or cannot be looked at in this moment.
        return Ok(0);
    };
    let fault = Engine::dump(path).map_or_else(Some, |mut blocks| blocks.find_map(Result::err));
    match fault {
        None => Ok(meta.len()),
        Some(_) if !path.exists() => Ok(0),
        Some(raft_engine::Error::Io(error)) => {
            tracing::warn!(path = %path.display(), %error, "a file of the log was not looked at");
            Ok(0)
        }
        Some(error) => damage(error.to_string()),
    }
}

/// A sealed snapshot: its manifest is the one that was sealed, and so are its files.
#[must_use]
pub fn snapshot(sealed: &Sealed) -> Walk {
    let sealed = sealed.clone();
    let mut manifest_read = false;
    let (mut number, mut offset, mut hasher) = (0, 0, blake3::Hasher::new());
    walk(move || {
        if !manifest_read {
            sealed.check_manifest()?;
            manifest_read = true;
        }
        let Some(file) = sealed.files().get(number) else {
            return Ok(None);
        };
        let piece = sealed.piece(number, offset).map_err(SnapshotError::from)?;
        hasher.update(&piece);
        let bytes = piece.len() as u64;
        offset += bytes;
        if bytes == 0 {
            if offset != file.bytes || *hasher.finalize().as_bytes() != file.hash {
                return Err(sealed.changed(&file.path).into());
            }
            number += 1;
            (offset, hasher) = (0, blake3::Hasher::new());
        }
        Ok(Some(bytes))
    })
}

/// The tables of the backlog on the disk, whatever of them is in memory too.
#[must_use]
pub fn tables(backlog: &Arc<Backlog>) -> Walk {
    let backlog = Arc::clone(backlog);
    let mut left = backlog.tables();
    let mut open: Option<(PathBuf, u128, File, Xxh3Default)> = None;
    walk(move || {
        let Some((path, checksum, file, hasher)) = &mut open else {
            let Some((path, checksum)) = left.pop() else {
                return Ok(None);
            };
            match File::open(&path) {
                Ok(file) => open = Some((path, checksum, file, Xxh3Default::new())),
                Err(error) => table_unread(&backlog, path, &error)?,
            }
            return Ok(Some(0));
        };
        let mut piece = Vec::new();
        let read = Read::by_ref(file)
            .take(STEP_BYTES as u64)
            .read_to_end(&mut piece);
        if let Err(error) = read {
            let path = std::mem::take(path);
            open = None;
            table_unread(&backlog, path, &error)?;
            return Ok(Some(0));
        }
        hasher.update(&piece);
        if piece.is_empty() {
            let (path, same) = (std::mem::take(path), hasher.digest128() == *checksum);
            open = None;
            if !same {
                let what = "it has another checksum";
                return Err(Damage::Table { path, what });
            }
        }
        Ok(Some(piece.len() as u64))
    })
}

/// A table that does not read is damage, unless it was merged into others meanwhile or the fault is not the disk's.
fn table_unread(backlog: &Backlog, path: PathBuf, error: &io::Error) -> Result<(), Damage> {
    if backlog.tables().iter().all(|(table, _)| *table != path) {
        return Ok(());
    }
    if !files::is_gone(error) {
        tracing::warn!(path = %path.display(), %error, "a table of the backlog was not looked at");
        return Ok(());
    }
    let what = "it is missing";
    Err(Damage::Table { path, what })
}

/// The entries of a shard that are in the backlog: each that is listed reads back.
///
/// # Errors
/// [`BacklogError`] when they cannot be listed.
pub fn carried(
    backlog: &Arc<Backlog>,
    shard: u16,
    understand: Understand,
) -> Result<Walk, BacklogError> {
    let backlog = Arc::clone(backlog);
    let mut indexes = backlog.indexes(shard)?.into_iter();
    Ok(walk(move || {
        let mut bytes = 0;
        for index in indexes.by_ref() {
            let stored = match backlog.entry(shard, index) {
                Ok(Some(stored)) => stored,
                // One that nobody needs any more is forgotten at any moment.
                Ok(None) => continue,
                Err(error) if error.is_damage() => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(shard, index, %error, "an entry of the backlog was not looked at");
                    continue;
                }
            };
            bytes += understood(shard, "backlog", &[(index, stored)], &understand)?;
            if bytes >= STEP_BYTES as u64 {
                return Ok(Some(bytes));
            }
        }
        Ok((bytes > 0).then_some(bytes))
    }))
}

fn walk(mut step: impl FnMut() -> Result<Option<u64>, Damage> + Send + 'static) -> Walk {
    Box::new(std::iter::from_fn(move || step().transpose()))
}

/// The size of entries that all say what they should.
fn understood(
    shard: u16,
    place: &'static str,
    entries: &[(u64, Bytes)],
    understand: &Understand,
) -> Result<u64, Damage> {
    let mut bytes = 0;
    for (index, stored) in entries {
        understand(*index, stored).map_err(|reason| Damage::Entry {
            shard,
            index: *index,
            place,
            reason,
        })?;
        bytes += stored.len() as u64;
    }
    Ok(bytes)
}

#[cfg(test)]
#[path = "scrub_tests.rs"]
mod tests;
