//! The log of all shards of a node: raft-engine, and what it needs around it.
//!
//! Owns: the engine's directory, the high-water mark beside it and a lock file. Promises: a gap is
//! refused before it is written; entries above a truncation are not readable; a log that is shorter
//! than what was acknowledged, or that lost its beginning, does not open; entries that were
//! discarded stay discarded. Not here: when to write and sync, which `writer` decides; what may be
//! discarded; several writers at once, for there is one.
//!
//! raft-engine knows no truncation: an append at a lower index cuts what is above. So a truncation
//! is kept in memory and done by the next append; after a crash in between the old suffix is back,
//! which Raft allows.

use super::{
    ballast::Ballast,
    engine_files::{self, Files},
    files::{self, FileError},
    keys::{COMMITTED, DISCARDED, START, VOTE, WRITES, region},
    mark::{Mark, Slot},
    open::{Extent, Lock, OpenError, Sizes, discard_again, extent, lock, open_engine, unopened},
    record::Records,
    round::{Round, WriteFault, fault},
};
use bytes::Bytes;
use raft_engine::{Command, Engine, LogBatch};
use std::{
    fs::File,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// Room that is held for what must be written on a full disk, in bytes: votes, and what was taken before it was full.
const BALLAST_BYTES: u64 = 8 << 20;
/// Entries that one read fetches, at most.
const READ_ENTRIES_MAX: u64 = 4_096;

/// Why entries could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// What is on the disk fails its checksum, or is not the entry that was asked for.
    #[error(
        "shard {shard}: entries from {from} are damaged ({reason}): rebuild this node from its peers"
    )]
    Corruption {
        /// The shard.
        shard: u16,
        /// The first index of the read.
        from: u64,
        /// What the engine said.
        reason: String,
    },
    /// Anything else, as an error of the disk.
    #[error("shard {shard}: read entries from {from}: {reason}; check the health of the disk")]
    Engine {
        /// The shard.
        shard: u16,
        /// The first index of the read.
        from: u64,
        /// What the engine said.
        reason: String,
    },
}

/// Files of discarded entries could not be given back.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The engine refused.
    #[error(
        "give back files of the log: {0}; nothing is lost, but the log does not shrink: check the free space and the health of the disk"
    )]
    Engine(String),
    /// A sync failed.
    #[error(
        "give back files of the log: a sync failed, so the process ends; check the health of the disk"
    )]
    Broken,
}

/// The log of all shards of this node.
pub struct Log {
    pub(super) engine: Engine<Files>,
    used: Arc<Files>,
    dir: PathBuf,
    ballast: Ballast,
    extents: Mutex<Vec<Extent>>,
    mark: Mutex<Mark>,
    /// Held by readers; alone, by whoever deletes files. The engine may otherwise delete a file under a reader.
    files: RwLock<()>,
    /// A sync failed beside the writer: nobody knows what the disk holds.
    broken: AtomicBool,
    /// Size on the disk, as of the last look plus what was appended since.
    bytes: AtomicU64,
    /// Held for as long as this is open.
    _lock: Lock,
}

impl Log {
    /// Opens the log of `shards` shards in `dir`, creating both where there is nothing yet.
    ///
    /// What is found is synced first: entries that a killed process wrote but did not sync are
    /// readable, so they must be as durable as all others.
    ///
    /// # Errors
    /// [`OpenError::Short`], [`OpenError::Behind`], [`OpenError::Headless`] and [`OpenError::Mark`]
    /// mean that this node must be rebuilt; the others that something around it is wrong.
    pub fn open(dir: &Path, shards: u16) -> Result<Self, OpenError> {
        Self::open_with(dir, shards, Files::default(), Sizes::default())
    }

    /// As [`Self::open`], with files and sizes of one's own.
    pub(super) fn open_with(
        dir: &Path,
        shards: u16,
        used: Files,
        sizes: Sizes,
    ) -> Result<Self, OpenError> {
        files::create_dir(dir)?;
        let lock = lock(dir)?;
        let ballast = Ballast::at(dir.join("ballast"));
        let engine_dir = dir.join("engine");
        let fresh = files::bytes_in(&engine_dir)? == 0;
        let mark = Mark::open(&dir.join("mark"), shards, fresh)?;
        files::create_dir(&engine_dir)?;
        // The engine's own, which it closes without unlocking it: nobody but an engine of before can have it.
        files::await_unlocked(&engine_dir.join("LOCK"))?;
        let used = Arc::new(used);
        let open = || open_engine(&engine_dir, Arc::clone(&used), sizes);
        let engine = match open() {
            Err(error) if error.may_pass() && ballast.give_back("opening the log") => open()?,
            opened => opened?,
        };
        for path in files::list(&engine_dir)? {
            files::on(
                "sync",
                &path,
                File::open(&path).and_then(|file| file.sync_data()),
            )?;
        }
        files::sync_dir(&engine_dir)?;

        let mut extents = Vec::new();
        for shard in 0..shards {
            let found = extent(&engine, shard, mark.slot(shard))?;
            let forget = || {
                let forgotten = discard_again(&engine, shard, found);
                forgotten.map_err(|error| unopened(&engine_dir, error))
            };
            match forget() {
                Err(error) if error.may_pass() && ballast.give_back("opening the log") => forget()?,
                forgotten => forgotten?,
            }
            extents.push(found);
        }
        // Nothing that was acknowledged lies in them, for all of it was found without them.
        if let Err(error) = engine_files::left_over(&engine_dir, &used) {
            tracing::warn!(%error, "a file of discarded entries is left; the next start tries again");
        }
        let log = Self {
            engine,
            used,
            ballast,
            extents: Mutex::new(extents.clone()),
            mark: Mutex::new(mark),
            files: RwLock::new(()),
            broken: AtomicBool::new(false),
            bytes: AtomicU64::new(files::bytes_in(&engine_dir)?),
            dir: engine_dir,
            _lock: lock,
        };
        for (shard, extent) in (0..).zip(extents) {
            log.raise(shard, extent)?;
        }
        Ok(log)
    }

    /// How many shards this log is for.
    #[must_use]
    pub fn shards(&self) -> u16 {
        u16::try_from(held(&self.extents).len()).unwrap_or(u16::MAX)
    }

    /// The indexes that the log of a shard holds; empty before the first and for an unknown shard.
    #[must_use]
    pub fn span(&self, shard: u16) -> Range<u64> {
        let extent = self.extent(shard).unwrap_or_default();
        extent.start.unwrap_or(extent.next)..extent.next
    }

    /// Entries of a shard with indexes `from..to`, as far as they exist, in order.
    ///
    /// Stops before `bytes_max` bytes, but returns at least one entry where there is one; so a
    /// caller that wants them all asks again after the last.
    ///
    /// # Errors
    /// [`ReadError::Corruption`] when what is on the disk is damaged.
    pub fn read(
        &self,
        shard: u16,
        from: u64,
        to: u64,
        bytes_max: usize,
    ) -> Result<Vec<(u64, Bytes)>, ReadError> {
        let _files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        let (wanted_from, wanted_to) = (from, to);
        let (from, records) = loop {
            let span = self.span(shard);
            let from = wanted_from.max(span.start);
            let to = wanted_to
                .min(span.end)
                .min(from.saturating_add(READ_ENTRIES_MAX));
            if from >= to {
                return Ok(Vec::new());
            }
            let mut records = Vec::new();
            let fetched = self.engine.fetch_entries_to::<Records>(
                region(shard),
                from,
                to,
                Some(bytes_max),
                &mut records,
            );
            match fetched {
                Ok(_) => break (from, records),
                // They were discarded in this moment; what remains is asked for again.
                Err(_) if self.span(shard).start > from => {}
                Err(error) => return Err(read_error(shard, from, &error)),
            }
        };
        let mut entries = Vec::with_capacity(records.len());
        for (index, record) in (from..).zip(records) {
            if record.index != index {
                let reason = format!("entry {index} says it is {}", record.index);
                return Err(ReadError::Corruption {
                    shard,
                    from,
                    reason,
                });
            }
            entries.push((index, record.data));
        }
        Ok(entries)
    }

    /// The vote that was stored last.
    #[must_use]
    pub fn vote(&self, shard: u16) -> Option<Vec<u8>> {
        self.engine.get(region(shard), VOTE)
    }

    /// What was last stored as committed. It lags behind, for it travels with later entries.
    #[must_use]
    pub fn committed(&self, shard: u16) -> Option<Vec<u8>> {
        self.engine.get(region(shard), COMMITTED)
    }

    /// What was stored with the last entry discarded, if any was.
    #[must_use]
    pub fn discarded(&self, shard: u16) -> Option<Vec<u8>> {
        self.engine.get(region(shard), DISCARDED)
    }

    /// Gives back the files that hold nothing but discarded entries. Readers wait meanwhile.
    ///
    /// Returns the shards whose old entries keep old files from being given back.
    ///
    /// # Errors
    /// [`CollectError`] when the engine could not do it.
    pub fn collect(&self) -> Result<Vec<u16>, CollectError> {
        let _files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        if self.is_broken() {
            return Err(CollectError::Broken);
        }
        // The engine panics where a sync fails. What it rewrote may be lost then, and must not be relied on.
        let Ok(collected) = catch_unwind(AssertUnwindSafe(|| self.engine.purge_expired_files()))
        else {
            self.broken.store(true, Ordering::Release);
            return Err(CollectError::Broken);
        };
        let regions = collected.map_err(|error| CollectError::Engine(error.to_string()))?;
        let shard = |region: u64| u16::try_from(region.checked_sub(1)?).ok();
        Ok(regions.into_iter().filter_map(shard).collect())
    }

    /// Starts a round of writes.
    #[must_use]
    pub fn round(&self) -> Round<'_> {
        Round::new(self)
    }

    /// Cuts the log of a shard so that `next` is the next index, keeping what is below.
    ///
    /// The high-water mark is lowered and synced before this returns, so that the append which
    /// overwrites the old entries can never leave a mark above the end of the log.
    ///
    /// # Errors
    /// [`FileError`] when the mark could not be written: then nothing is cut.
    pub fn truncate(&self, shard: u16, next: u64) -> Result<(), FileError> {
        let span = self.span(shard);
        if next >= span.end {
            return Ok(());
        }
        let next = next.max(span.start);
        held(&self.mark).lower(shard, next)?;
        if let Some(extent) = held(&self.extents).get_mut(usize::from(shard)) {
            extent.next = next;
        }
        Ok(())
    }

    /// Forgets the entries of a shard below `below`, which may lie beyond the end; `last` is stored
    /// with that, as what was discarded last. Nothing of the shard may wait in a round meanwhile.
    ///
    /// The entries are gone for readers at once and for the disk when this returns; their files are
    /// given back by [`Self::collect`].
    ///
    /// # Errors
    /// As [`Round::write`]; after [`WriteFault::Later`] it can be called again.
    ///
    /// # Panics
    /// As [`Round::write`].
    pub fn discard(&self, shard: u16, below: u64, last: &[u8]) -> Result<(), WriteFault> {
        let Some(known) = self.extent(shard) else {
            return Ok(());
        };
        let start = known.start.unwrap_or_default().max(below);
        let reached = Extent {
            start: Some(start),
            next: known.next.max(start),
            writes: known.writes.saturating_add(1),
        };
        // Readers must not ask the engine any more for what it is about to forget.
        if let Some(extent) = held(&self.extents).get_mut(usize::from(shard)) {
            extent.start = extent.start.map(|old| old.max(start));
        }
        let region = region(shard);
        // Where nothing stays, the engine must not keep what a truncation only hid either.
        let index = if start < reached.next {
            start
        } else {
            let engine_next = self.engine.last_index(region).map_or(0, |last| last + 1);
            start.max(engine_next)
        };
        let mut batch = LogBatch::with_capacity(4);
        batch.add_command(region, Command::Compact { index });
        for (key, value) in [
            (START, start.to_le_bytes().to_vec()),
            (DISCARDED, last.to_vec()),
            (WRITES, reached.writes.to_le_bytes().to_vec()),
        ] {
            batch
                .put(region, key.to_vec(), value)
                .map_err(WriteFault::Engine)?;
        }
        let written = self.engine.write(&mut batch, true).map_err(fault)?;
        self.grew(written);
        Ok(self.advance(shard, reached)?)
    }

    /// Size of the log on the disk, in bytes, as of the last look plus what was appended since.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Looks how large the log is on the disk.
    ///
    /// # Errors
    /// [`FileError`] when the directory cannot be read.
    pub fn measure(&self) -> Result<(), FileError> {
        self.bytes
            .store(files::bytes_in(&self.dir)?, Ordering::Relaxed);
        Ok(())
    }

    /// Bytes that may still be written to the disk of this log.
    ///
    /// # Errors
    /// [`FileError`] when the file system does not say.
    pub fn bytes_free(&self) -> Result<u64, FileError> {
        files::bytes_free(&self.dir)
    }

    /// Syncs the high-water mark; true if there was something to sync.
    ///
    /// # Errors
    /// [`FileError`] when the sync failed: the process must end.
    pub fn sync_mark(&self) -> Result<bool, FileError> {
        held(&self.mark).sync()
    }

    /// Gives the room back that is held for a full disk; false if none is left.
    pub(super) fn give_room(&self) -> bool {
        self.ballast.give_back("writes to the log")
    }

    /// Holds room for a full disk.
    pub(super) fn hold_room(&self) {
        self.ballast.keep(BALLAST_BYTES);
    }

    /// Whether a sync failed beside the writer: then the process must end.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Where the engine keeps its files.
    #[cfg(test)]
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The files of each queue that are no longer written to, in order.
    pub(super) fn finished_files(&self) -> Vec<PathBuf> {
        let mut finished = Vec::new();
        for queue in engine_files::QUEUES {
            let used = self.used.used(queue);
            let before_last = used.len().saturating_sub(1);
            finished.extend(used.into_iter().take(before_last).map(|(_, path)| path));
        }
        finished
    }

    /// Whether a file is one that the log needs, and is not there.
    pub(super) fn misses(&self, path: &Path) -> bool {
        // While files are given back, one may be deleted and still be listed.
        let _files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        self.finished_files().iter().any(|used| used == path) && !path.exists()
    }

    pub(super) fn extent(&self, shard: u16) -> Option<Extent> {
        held(&self.extents).get(usize::from(shard)).copied()
    }

    /// Takes note of what a synced round reached.
    pub(super) fn advance(&self, shard: u16, reached: Extent) -> Result<(), FileError> {
        if let Some(extent) = held(&self.extents).get_mut(usize::from(shard)) {
            *extent = reached;
        }
        self.raise(shard, reached)
    }

    pub(super) fn grew(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn raise(&self, shard: u16, extent: Extent) -> Result<(), FileError> {
        held(&self.mark).set(
            shard,
            Slot {
                next: extent.next,
                writes: extent.writes,
            },
        )
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Err(error) = self.sync_mark() {
            tracing::warn!(%error, "the high-water mark was not synced at the end");
        }
    }
}

fn read_error(shard: u16, from: u64, error: &raft_engine::Error) -> ReadError {
    let reason = error.to_string();
    if matches!(error, raft_engine::Error::Corruption(_)) {
        ReadError::Corruption {
            shard,
            from,
            reason,
        }
    } else {
        ReadError::Engine {
            shard,
            from,
            reason,
        }
    }
}

/// A panic of another thread leaves these values whole: each is written in one step.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
