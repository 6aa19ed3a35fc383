//! Entries of discarded parts of the log that somebody still needs.
//!
//! Owns: one fjall database for all shards, off the way of every answer. Promises: what was carried is synced before
//! [`Backlog::carry`] returns, together with how far the log was looked through; so the log may be discarded up to
//! there. Not here: which entries are needed, and what they mean, which `cluster` knows.
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
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::OwnedMutexGuard;

/// Blocks that fjall keeps in memory, in bytes.
const CACHE_BYTES: u64 = 32 << 20;
/// Size from which on an entry lies in a file beside the tables, in bytes.
const APART_BYTES_MIN: u32 = 512;
/// Largest journal that fjall keeps, in bytes. It must hold a few batches.
const JOURNAL_BYTES_MAX: u64 = 128 << 20;

/// The backlog cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BacklogError {
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// The database refused.
    #[error(
        "{verb} the backlog in {path}: {source}; check the disk; if it is sound, rebuild this node from its peers",
        path = path.display()
    )]
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
}

impl BacklogError {
    /// Whether something of the backlog is lost. Otherwise it may be sound: the disk, in this moment, does not give it.
    pub(crate) fn is_damage(&self) -> bool {
        let source = match self {
            Self::File(error) => &error.source,
            Self::Shape { .. } => return true,
            Self::Engine { source, .. } => {
                let (fjall::Error::Io(error) | fjall::Error::Storage(LsmError::Io(error))) =
                    &**source
                else {
                    return true;
                };
                error
            }
        };
        files::is_lost(source)
    }
}

/// The backlog of all shards of this node.
pub struct Backlog {
    db: Database,
    entries: Keyspace,
    carried: Keyspace,
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
        let mut durable = BTreeMap::new();
        let shape = || BacklogError::Shape {
            path: dir.to_path_buf(),
        };
        for row in carried.iter() {
            let (shard, next) = row.into_inner().map_err(opening)?;
            let shard = <[u8; 2]>::try_from(&*shard).map_err(|_| shape())?;
            let next = <[u8; 8]>::try_from(&*next).map_err(|_| shape())?;
            durable.insert(u16::from_be_bytes(shard), u64::from_be_bytes(next));
        }
        Ok(Self {
            db,
            entries,
            carried,
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
        let writing = |source| engine("write", &self.path, source);
        let next = next.max(self.carried(shard));
        let mut batch = self.db.batch();
        for (index, stored) in add {
            batch.insert(&self.entries, key(shard, *index), &**stored);
        }
        for index in forget {
            batch.remove(&self.entries, key(shard, *index));
        }
        batch.insert(&self.carried, shard.to_be_bytes(), next.to_be_bytes());
        batch.commit().map_err(writing)?;
        self.db.persist(PersistMode::SyncAll).map_err(writing)?;
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        durable.insert(shard, next);
        Ok(())
    }

    /// The stored entry at `index`, if it was carried.
    ///
    /// # Errors
    /// [`BacklogError`] when it cannot be read.
    pub fn entry(&self, shard: u16, index: u64) -> Result<Option<Bytes>, BacklogError> {
        let found = self
            .entries
            .get(key(shard, index))
            .map_err(|source| engine("read", &self.path, source))?;
        Ok(found.map(|stored| Bytes::copy_from_slice(&stored)))
    }

    /// The files that hold what is here, but for the newest, which is in the journal; each with its checksum (XXH3).
    pub(super) fn tables(&self) -> Vec<(PathBuf, u128)> {
        let mut tables = Vec::new();
        for keyspace in [&self.entries, &self.carried] {
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
        let mut indexes = Vec::new();
        for row in self.entries.prefix(shard.to_be_bytes()) {
            let key = row
                .key()
                .map_err(|source| engine("list", &self.path, source))?;
            let index = key.last_chunk::<8>().ok_or_else(|| BacklogError::Shape {
                path: self.path.clone(),
            })?;
            indexes.push(u64::from_be_bytes(*index));
        }
        Ok(indexes)
    }
}

#[cfg(test)]
impl Backlog {
    /// Has everything that is here put into tables, as it is once enough has come.
    pub(super) fn settle(&self) -> Result<(), fjall::Error> {
        self.entries.rotate_memtable_and_wait()?;
        self.carried.rotate_memtable_and_wait()
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
