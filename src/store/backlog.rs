//! Entries of discarded parts of the log that somebody still needs.
//!
//! Owns: one fjall database for all shards, off the way of every answer. Promises: what was carried is synced before
//! [`Backlog::carry`] returns, together with how far the log was looked through; so the log may be discarded up to
//! there. Not here: which entries are needed, and what they mean, which `cluster` knows.
//!
//! fjall takes no write any more after one that failed, as on a full disk. What it holds is sound, so it is closed and
//! opened again once there is room: its journal is cut after the last whole batch, as after a kill.
//!
//! ```text
//! entries  shard u16 | index u64  ->  the stored entry
//! carried  shard u16              ->  next u64
//! ```
//!
//! All numbers are big endian, so that the entries of a shard lie together in order.

use super::files::{self, FileError};
use bytes::Bytes;
use fjall::{
    AbstractTree, CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions,
    LsmError, PersistMode,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};
use tokio::sync::OwnedMutexGuard;

/// Blocks that fjall keeps in memory, in bytes.
const CACHE_BYTES: u64 = 32 << 20;
/// Size from which on an entry lies in a file beside the tables, in bytes.
const APART_BYTES_MIN: u32 = 512;
/// Largest journal that fjall keeps, in bytes. It must hold a few batches.
const JOURNAL_BYTES_MAX: u64 = 128 << 20;
/// Room that must be free before a backlog that refuses is opened again, in bytes.
const ROOM_BYTES_MIN: u64 = 8 << 20;

/// The backlog cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BacklogError {
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// The database refused.
    #[error("{verb} the backlog in {path}: {source}; {}", advice(source), path = path.display())]
    Engine {
        /// What was tried.
        verb: &'static str,
        /// Where it lies.
        path: PathBuf,
        /// What the database said.
        source: Box<fjall::Error>,
    },
    /// A key or a value has another form than was written.
    #[error("the backlog in {path} is damaged: rebuild this node from its peers", path = path.display())]
    Shape {
        /// Where it lies.
        path: PathBuf,
    },
    /// It was closed after a write that failed, and could not be opened again so far.
    #[error("the backlog in {path} is closed since a write to it failed: free space on this disk, and it is opened again", path = path.display())]
    Closed {
        /// Where it lies.
        path: PathBuf,
    },
}

impl BacklogError {
    /// Whether something of the backlog is lost. Otherwise it may be sound: the disk, in this moment, does not give it.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::File(error) => files::is_gone(&error.source),
            Self::Shape { .. } => true,
            Self::Closed { .. } => false,
            Self::Engine { source, .. } => is_damage(source),
        }
    }

    /// Whether it may open once the disk has room.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::File(error) => files::may_pass(&error.source),
            Self::Engine { source, .. } => io_of(source).is_some_and(files::may_pass),
            Self::Shape { .. } | Self::Closed { .. } => false,
        }
    }

    /// Whether the database takes no write any more, though what it holds may be sound.
    fn refuses(&self) -> bool {
        match self {
            Self::Closed { .. } => true,
            Self::Engine { source, .. } => !is_damage(source),
            Self::File(_) | Self::Shape { .. } => false,
        }
    }
}

/// The error of the file system in one of the database.
fn io_of(error: &fjall::Error) -> Option<&std::io::Error> {
    if let fjall::Error::Io(error) | fjall::Error::Storage(LsmError::Io(error)) = error {
        return Some(error);
    }
    None
}

fn is_damage(error: &fjall::Error) -> bool {
    let passing = matches!(error, fjall::Error::Poisoned | fjall::Error::Locked);
    io_of(error).map_or(!passing, files::is_gone)
}

fn advice(error: &fjall::Error) -> &'static str {
    if io_of(error).is_some_and(files::may_pass) {
        "free space on this disk; it is tried again"
    } else if matches!(error, fjall::Error::Poisoned) {
        "an earlier write failed: check the free space and the health of this disk; it is tried again"
    } else if matches!(error, fjall::Error::Locked) {
        "another process uses it; stop that first"
    } else if is_damage(error) {
        "rebuild this node from its peers"
    } else {
        "check the health of this disk"
    }
}

/// The database and its tables.
struct Opened {
    db: Database,
    entries: Keyspace,
    carried: Keyspace,
}

impl Opened {
    fn open(dir: &Path) -> Result<Self, BacklogError> {
        let opening = |source| engine("open", dir, source);
        let db = Database::builder(dir)
            .cache_size(CACHE_BYTES)
            .manual_journal_persist(true)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .open()
            .map_err(opening)?;
        // Entries are large and each shard adds its own at the end: without files of their own every merge of tables
        // would write all of them again. They are mostly ciphertext, which does not compress.
        let apart = KvSeparationOptions::default()
            .separation_threshold(APART_BYTES_MIN)
            .compression(CompressionType::None);
        let large = || KeyspaceCreateOptions::default().with_kv_separation(Some(apart.clone()));
        let entries = db.keyspace("entries", large).map_err(opening)?;
        let carried = db
            .keyspace("carried", KeyspaceCreateOptions::default)
            .map_err(opening)?;
        db.persist(PersistMode::SyncAll).map_err(opening)?;
        Ok(Self {
            db,
            entries,
            carried,
        })
    }

    /// Adds and removes entries and takes note of how far the shard was looked through; synced when this returns.
    fn write(
        &self,
        shard: u16,
        next: u64,
        add: &[(u64, Bytes)],
        forget: &[u64],
    ) -> Result<(), fjall::Error> {
        let mut batch = self.db.batch();
        for (index, stored) in add {
            batch.insert(&self.entries, key(shard, *index), &**stored);
        }
        for index in forget {
            batch.remove(&self.entries, key(shard, *index));
        }
        batch.insert(&self.carried, shard.to_be_bytes(), next.to_be_bytes());
        batch.commit()?;
        self.db.persist(PersistMode::SyncAll)
    }
}

/// The backlog of all shards of this node.
pub struct Backlog {
    /// None while it could not be opened again.
    opened: RwLock<Option<Opened>>,
    path: PathBuf,
    /// How far each shard's log is known, on the disk, to have been looked through.
    durable: Mutex<BTreeMap<u16, u64>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Backlog {
    /// Opens the backlog in `dir`, creating it where there is none.
    ///
    /// # Errors
    /// [`BacklogError`] when it is damaged, or open elsewhere.
    pub fn open(dir: &Path) -> Result<Self, BacklogError> {
        files::create_dir(dir)?;
        let opened = Opened::open(dir)?;
        let opening = |source| engine("open", dir, source);
        let mut durable = BTreeMap::new();
        let shape = || BacklogError::Shape {
            path: dir.to_path_buf(),
        };
        for row in opened.carried.iter() {
            let (shard, next) = row.into_inner().map_err(opening)?;
            let shard = <[u8; 2]>::try_from(&*shard).map_err(|_| shape())?;
            let next = <[u8; 8]>::try_from(&*next).map_err(|_| shape())?;
            durable.insert(u16::from_be_bytes(shard), u64::from_be_bytes(next));
        }
        Ok(Self {
            opened: RwLock::new(Some(opened)),
            path: dir.to_path_buf(),
            durable: Mutex::new(durable),
            turn: Arc::default(),
        })
    }

    /// Waits until no shard of the node is being carried, and keeps it so.
    pub async fn turn(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.turn).lock_owned().await
    }

    /// One more than the last entry of a shard that was looked at: below it, what is needed is here.
    #[must_use]
    pub fn carried(&self, shard: u16) -> u64 {
        let durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        durable.get(&shard).copied().unwrap_or_default()
    }

    /// Takes entries over, all below `next`, and forgets others. Both are synced when this returns.
    ///
    /// # Errors
    /// [`BacklogError`]; then the log must not be discarded.
    pub fn carry(
        &self,
        shard: u16,
        next: u64,
        add: &[(u64, Bytes)],
        forget: &[u64],
    ) -> Result<(), BacklogError> {
        let next = next.max(self.carried(shard));
        let write = || {
            self.with(|opened| {
                let written = opened.write(shard, next, add, forget);
                written.map_err(|source| engine("write", &self.path, source))
            })
        };
        match write() {
            Err(error) if error.refuses() && self.reopen(&error)? => write()?,
            written => written?,
        }
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        durable.insert(shard, next);
        Ok(())
    }

    /// Closes a database that refuses and opens it again, if there is room; says whether it did.
    fn reopen(&self, refused: &BacklogError) -> Result<bool, BacklogError> {
        if files::bytes_free(&self.path)? < ROOM_BYTES_MIN {
            return Ok(false);
        }
        let mut opened = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        // It holds a lock for as long as it is open.
        drop(opened.take());
        *opened = Some(Opened::open(&self.path)?);
        tracing::warn!(error = %refused, "the backlog refused a write, and was opened again");
        Ok(true)
    }

    fn with<T>(
        &self,
        run: impl FnOnce(&Opened) -> Result<T, BacklogError>,
    ) -> Result<T, BacklogError> {
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        let closed = || BacklogError::Closed {
            path: self.path.clone(),
        };
        run(opened.as_ref().ok_or_else(closed)?)
    }

    /// The stored entry at `index`, if it was carried.
    ///
    /// # Errors
    /// [`BacklogError`] when it cannot be read.
    pub fn entry(&self, shard: u16, index: u64) -> Result<Option<Bytes>, BacklogError> {
        let found = self.with(|opened| {
            let found = opened.entries.get(key(shard, index));
            found.map_err(|source| engine("read", &self.path, source))
        })?;
        Ok(found.map(|stored| Bytes::copy_from_slice(&stored)))
    }

    /// The files that hold what is here, but for the newest, which is in the journal; each with its checksum (XXH3).
    pub(super) fn tables(&self) -> Vec<(PathBuf, u128)> {
        let mut tables = Vec::new();
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        for keyspace in opened
            .iter()
            .flat_map(|opened| [&opened.entries, &opened.carried])
        {
            let version = keyspace.tree.current_version();
            let described = version
                .iter_tables()
                .map(|table| (table.path.to_path_buf(), table.checksum().into_u128()));
            tables.extend(described);
            let blobs = version.blob_files.iter();
            tables
                .extend(blobs.map(|file| (file.path().to_path_buf(), file.checksum().into_u128())));
        }
        tables
    }

    /// The indexes of the entries of a shard that are here, in order.
    ///
    /// # Errors
    /// [`BacklogError`] when they cannot be listed.
    pub fn indexes(&self, shard: u16) -> Result<Vec<u64>, BacklogError> {
        self.with(|opened| {
            let mut indexes = Vec::new();
            for row in opened.entries.prefix(shard.to_be_bytes()) {
                let key = row
                    .key()
                    .map_err(|source| engine("list", &self.path, source))?;
                let index = key.last_chunk::<8>().ok_or_else(|| BacklogError::Shape {
                    path: self.path.clone(),
                })?;
                indexes.push(u64::from_be_bytes(*index));
            }
            Ok(indexes)
        })
    }
}

#[cfg(test)]
impl Backlog {
    /// Has everything that is here put into tables, as it is once enough has come.
    pub(super) fn settle(&self) -> Result<(), fjall::Error> {
        let opened = self.opened.read().unwrap();
        let opened = opened.as_ref().unwrap();
        opened.entries.rotate_memtable_and_wait()?;
        opened.carried.rotate_memtable_and_wait()
    }
}

fn key(shard: u16, index: u64) -> Vec<u8> {
    [&shard.to_be_bytes()[..], &index.to_be_bytes()[..]].concat()
}

fn engine(verb: &'static str, path: &Path, source: fjall::Error) -> BacklogError {
    BacklogError::Engine {
        verb,
        path: path.to_path_buf(),
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(indexes: &[u64]) -> Vec<(u64, Bytes)> {
        let entry = |index: &u64| (*index, Bytes::from(format!("entry {index}")));
        indexes.iter().map(entry).collect()
    }

    #[test]
    fn what_was_carried_is_there_after_reopening_with_how_far_it_goes() {
        let dir = tempfile::tempdir().unwrap();
        let backlog = Backlog::open(dir.path()).unwrap();
        assert_eq!(backlog.carried(0), 0);
        backlog.carry(0, 10, &entries(&[3, 256, 4]), &[]).unwrap();
        backlog.carry(1, 7, &entries(&[5]), &[]).unwrap();
        backlog.carry(0, 300, &entries(&[258]), &[4]).unwrap();
        drop(backlog);
        let backlog = Backlog::open(dir.path()).unwrap();
        assert_eq!((backlog.carried(0), backlog.carried(1)), (300, 7));
        assert_eq!(backlog.indexes(0).unwrap(), [3, 256, 258]);
        assert_eq!(backlog.indexes(1).unwrap(), [5]);
        assert_eq!(backlog.entry(0, 256).unwrap().unwrap(), "entry 256");
        assert_eq!(backlog.entry(0, 4).unwrap(), None);
        assert_eq!(backlog.entry(1, 256).unwrap(), None);
    }

    #[test]
    fn how_far_it_goes_never_goes_back() {
        let dir = tempfile::tempdir().unwrap();
        let backlog = Backlog::open(dir.path()).unwrap();
        backlog.carry(0, 10, &[], &[]).unwrap();
        backlog.carry(0, 5, &[], &[]).unwrap();
        assert_eq!(backlog.carried(0), 10);
    }

    #[test]
    fn a_second_process_is_kept_out() {
        let dir = tempfile::tempdir().unwrap();
        let _backlog = Backlog::open(dir.path()).unwrap();
        let error = Backlog::open(dir.path()).err().unwrap();
        assert!(error.to_string().contains("open the backlog"), "{error}");
    }
}
