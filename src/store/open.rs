//! Opening the log: what must be true of it before this node may vote.
//!
//! The engine opens a log that lost its end or its beginning without a word. Here both are held
//! against what was acknowledged, shard by shard, and a node that forgot something does not start.

use super::{
    engine_files::{self, Files},
    files::{self, FileError},
    keys::{START, WRITES, region},
    mark::{MarkError, Slot},
};
use raft_engine::{Command, Config, Engine, LogBatch, ReadableSize, RecoveryMode};
use std::{
    fs::{File, TryLockError},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Size at which the engine starts another file, in megabytes.
const FILE_MB_TARGET: u64 = 64;
/// Size of the log above which files of discarded entries are given back, in megabytes.
const COLLECT_MB_MIN: u64 = 4 * FILE_MB_TARGET;

/// The sizes that decide when the engine starts another file, and when it gives files back.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) file: ReadableSize,
    pub(super) collect: ReadableSize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            file: ReadableSize::mb(FILE_MB_TARGET),
            collect: ReadableSize::mb(COLLECT_MB_MIN),
        }
    }
}

/// Why the log does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another process has it open.
    #[error("{path} is locked: another process uses this directory; stop it first", path = path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The high-water mark cannot be trusted.
    #[error(transparent)]
    Mark(#[from] MarkError),
    /// The engine refused or panicked.
    #[error(
        "open the log in {path}: {reason}; if the disk is sound, rebuild this node from its peers",
        path = path.display()
    )]
    Engine {
        /// The engine's directory.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
    /// Entries that were acknowledged are gone from the end.
    #[error(
        "shard {shard}: {}, but {acknowledged} was acknowledged: this node must not vote; \
         rebuild it from its peers", end(*next)
    )]
    Short {
        /// The shard.
        shard: u16,
        /// One more than the last index in the log, zero if it is empty.
        next: u64,
        /// The last index acknowledged.
        acknowledged: u64,
    },
    /// Votes or rewritten entries that were acknowledged are gone.
    #[error(
        "shard {shard}: the log holds {writes} writes, but {acknowledged} were acknowledged: \
         this node must not vote; rebuild it from its peers"
    )]
    Behind {
        /// The shard.
        shard: u16,
        /// Writes in the log.
        writes: u64,
        /// Writes acknowledged.
        acknowledged: u64,
    },
    /// Entries are gone from the beginning, as when a file was deleted.
    #[error(
        "shard {shard}: the log starts at {first}, but what came before was not discarded: \
         this node must not vote; rebuild it from its peers"
    )]
    Headless {
        /// The shard.
        shard: u16,
        /// The first index that is there.
        first: u64,
    },
}

impl OpenError {
    /// Whether it may open once the disk has room.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::File(error) if files::may_pass(&error.source))
    }
}

fn end(next: u64) -> String {
    match next.checked_sub(1) {
        Some(last) => format!("the log ends at {last}"),
        None => "the log is empty".to_owned(),
    }
}

/// Where the log of one shard starts and ends. Its entries are `start..next`; when all are
/// discarded, both are the index of the next.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Extent {
    /// None until the first entry, which may have any index.
    pub(super) start: Option<u64>,
    pub(super) next: u64,
    /// Rounds that touched this shard.
    pub(super) writes: u64,
}

/// Keeps every other process out of a directory until it is dropped.
pub(super) struct Lock(File);

impl Drop for Lock {
    /// The lock belongs to the open file, which a process that is being started shares for a moment: closing it here
    /// would not end it.
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "the directory stays locked until this process ends");
        }
    }
}

pub(super) fn lock(dir: &Path) -> Result<Lock, OpenError> {
    let path = dir.join("lock");
    let file = files::on("create", &path, File::create(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path }),
        Err(TryLockError::Error(e)) => Ok(files::on("lock", &path, Err(e))?),
    }
}

/// Opens the engine, after what failed rotations left is out of its way.
pub(super) fn open_engine(
    path: &Path,
    used: Arc<Files>,
    sizes: Sizes,
) -> Result<Engine<Files>, OpenError> {
    engine_files::settle(path)?;
    let refused = |reason| refused(path, reason);
    let dir = path
        .to_str()
        .ok_or_else(|| refused("the path is not UTF-8".to_owned()))?;
    let config = Config {
        dir: dir.to_owned(),
        // The strict mode refuses after an ordinary power loss. What this one cuts silently, the
        // high-water mark notices.
        recovery_mode: RecoveryMode::TolerateTailCorruption,
        recovery_threads: 2,
        // Zero switches it off: what is stored is ciphertext.
        batch_compression_threshold: ReadableSize::kb(0),
        target_file_size: sizes.file,
        purge_threshold: sizes.collect,
        // Files that are given back are deleted: kept for another use, they would count as log.
        enable_log_recycle: false,
        ..Config::default()
    };
    // A log with a hole in it makes the engine panic, and so does a sync that fails.
    match catch_unwind(AssertUnwindSafe(|| {
        Engine::open_with_file_system(config, Arc::clone(&used))
    })) {
        Ok(Ok(engine)) => Ok(engine),
        // The disk does not give it in this moment, which says nothing about what is on it.
        Ok(Err(raft_engine::Error::Io(error))) => {
            Ok(files::on("open the log in", path, Err(error))?)
        }
        Ok(Err(error)) => Err(refused(error.to_string())),
        Err(_) => Err(match used.failed_sync() {
            Some(error) => unopened(path, error.into()),
            None => refused("the log engine panicked, so the log has a hole".to_owned()),
        }),
    }
}

fn refused(path: &Path, reason: String) -> OpenError {
    OpenError::Engine {
        path: path.to_path_buf(),
        reason,
    }
}

/// Why the engine in `path` does not open.
pub(super) fn unopened(path: &Path, error: raft_engine::Error) -> OpenError {
    if let raft_engine::Error::Io(source) = error {
        // The disk does not give it in this moment, which says nothing about what is on it.
        let (verb, path) = ("open the log in", path.to_path_buf());
        return FileError { verb, path, source }.into();
    }
    refused(path, error.to_string())
}

/// What the engine holds of a shard, if that agrees with its high-water mark.
pub(super) fn extent(engine: &Engine<Files>, shard: u16, mark: Slot) -> Result<Extent, OpenError> {
    let number = |key| {
        let bytes = engine.get(region(shard), key)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    };
    let first = engine.first_index(region(shard));
    let start = number(START);
    // Entries below the start were discarded: see `discard_again`.
    if let Some(first) = first
        && start.is_none_or(|start| start < first)
    {
        return Err(OpenError::Headless { shard, first });
    }
    // Without entries, the log goes on where it starts: all that came before was discarded. Where
    // entries were lost instead, that is below the mark.
    let next = engine
        .last_index(region(shard))
        .map_or(0, |last| last.saturating_add(1))
        .max(start.unwrap_or(0));
    if let Some(acknowledged) = mark.next.checked_sub(1)
        && next < mark.next
    {
        return Err(OpenError::Short {
            shard,
            next,
            acknowledged,
        });
    }
    let writes = number(WRITES).unwrap_or(0);
    if writes < mark.writes {
        return Err(OpenError::Behind {
            shard,
            writes,
            acknowledged: mark.writes,
        });
    }
    Ok(Extent {
        start,
        next,
        writes,
    })
}

/// Has the engine forget again what was discarded of a shard: it keeps entries that it rewrote for as long as the file
/// that they lie in, but not that they were discarded. An entry after them would leave a hole.
pub(super) fn discard_again(
    engine: &Engine<Files>,
    shard: u16,
    extent: Extent,
) -> Result<(), raft_engine::Error> {
    let region = region(shard);
    let Some(index) = extent.start else {
        return Ok(());
    };
    if engine
        .first_index(region)
        .is_none_or(|first| first >= index)
    {
        return Ok(());
    }
    let mut batch = LogBatch::with_capacity(1);
    batch.add_command(region, Command::Compact { index });
    engine.write(&mut batch, true)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_when_it_is_dropped_also_while_a_process_that_starts_shares_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock(dir.path()).unwrap();
        let shared = held.0.try_clone().unwrap();
        assert!(matches!(lock(dir.path()), Err(OpenError::Locked { .. })));
        drop(held);
        drop(lock(dir.path()).unwrap());
        drop(shared);
    }
}
