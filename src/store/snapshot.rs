//! Sealed snapshots of the shards of a node.
//!
//! Owns: the directory of snapshots. A snapshot is a fresh sled database that is written once, closed and synced; then
//! its manifest (where it stands, how many rows, the hash of each file) is written, synced and renamed into place. It
//! is never opened for writing again: what is read is a copy whose bytes were hashed on the way.
//! Promises: a snapshot that is offered is whole, for it was read back before its manifest was written and its hashes
//! are checked before every use; one that is not is set aside with an error and the one before is used; exactly the
//! newest two are kept. Not here: what the rows mean, and when one is taken, which `cluster` knows.
//!
//! A copy needs room, also at a start on a full disk. So as much as the largest snapshot needs is held in a file, and
//! given back when a copy finds the disk full; then one snapshot is copied at a time.

use super::{
    ballast::Ballast,
    files::{self, FileError},
    load_threads::LoadThreads,
    snapshot_manifest::{self as manifest, Manifest, ManifestError, SealedFile},
    snapshot_rows::{self as rows, Found},
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::OwnedMutexGuard;

pub use super::snapshot_rows::Row;

/// Good snapshots of a shard that are kept.
pub const SNAPSHOTS_KEPT: usize = 2;
/// Room that is held for a copy beyond the size of the largest snapshot, in bytes: sled writes when it opens one.
const COPY_BYTES_MORE: u64 = 4 << 20;
/// Digits of the name of a snapshot, so that names sort as numbers.
const NAME_DIGITS: usize = 20;
/// What the name of a snapshot that was set aside ends with.
const DAMAGED: &str = "damaged";

/// Why a snapshot cannot be used, or could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its manifest does not read.
    #[error("{path}: {source}", path = path.display())]
    Manifest {
        /// The snapshot.
        path: PathBuf,
        /// What is wrong.
        source: ManifestError,
    },
    /// A file is not what was sealed.
    #[error("{path} is not what was sealed: {what}", path = path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// In which way.
        what: &'static str,
    },
    /// The database of the rows does not work, though its files are those that were sealed.
    #[error("read or write the rows in {path}: {reason}; check the free space of the disk", path = path.display())]
    Rows {
        /// The database.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl SnapshotError {
    /// Whether the snapshot is lost. Otherwise it may be sound: this program, or the disk in this moment, cannot
    /// read it.
    fn is_damage(&self) -> bool {
        match self {
            Self::Changed { .. } => true,
            Self::Manifest { source, .. } => *source == ManifestError::Checksum,
            // The one before and a longer log do as well.
            Self::File(error) => files::is_unreadable(&error.source),
            Self::Rows { .. } => false,
        }
    }
}

/// A snapshot on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    dir: PathBuf,
    manifest: Manifest,
}

impl Sealed {
    /// One more than the last entry that is in it.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.manifest.next
    }

    /// Where it stands, in the words of whoever sealed it.
    #[must_use]
    pub fn position(&self) -> &[u8] {
        &self.manifest.position
    }

    /// Where it lies.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn new(dir: PathBuf, manifest: Manifest) -> Self {
        Self { dir, manifest }
    }

    fn db(&self) -> PathBuf {
        self.dir.join("db")
    }

    /// Where file `number` lies.
    pub(super) fn file(&self, number: usize) -> Option<PathBuf> {
        let file = self.manifest.files.get(number)?;
        Some(self.db().join(&file.path))
    }

    /// The size of its files, in bytes.
    fn bytes(&self) -> u64 {
        self.files().iter().map(|file| file.bytes).sum()
    }

    /// The files that were sealed.
    pub(super) fn files(&self) -> &[SealedFile] {
        &self.manifest.files
    }

    /// Whether the manifest on the disk is the one that was sealed.
    pub(super) fn check_manifest(&self) -> Result<(), SnapshotError> {
        let found = manifest::read(&self.dir)?.map_err(|source| SnapshotError::Manifest {
            path: self.dir.clone(),
            source,
        })?;
        if found == self.manifest {
            return Ok(());
        }
        Err(SnapshotError::Changed {
            path: self.dir.clone(),
            what: "it has another manifest",
        })
    }

    /// That a file is not what was sealed.
    pub(super) fn changed(&self, path: &str) -> SnapshotError {
        SnapshotError::Changed {
            path: self.db().join(path),
            what: "it has another size or hash",
        }
    }

    /// Whether these are the files that were sealed.
    pub(super) fn check(&self, found: &[SealedFile]) -> Result<(), SnapshotError> {
        let changed = |path: &str, what| {
            let path = self.db().join(path);
            Err(SnapshotError::Changed { path, what })
        };
        for sealed in &self.manifest.files {
            match found.iter().find(|file| file.path == sealed.path) {
                None => return changed(&sealed.path, "it is missing"),
                Some(file) if file.bytes != sealed.bytes => {
                    return changed(&sealed.path, "it has another size");
                }
                Some(file) if file.hash != sealed.hash => {
                    return changed(&sealed.path, "it has another hash");
                }
                Some(_) => {}
            }
        }
        let known = |file: &&SealedFile| self.manifest.files.iter().all(|f| f.path != file.path);
        match found.iter().find(known) {
            Some(file) => changed(&file.path, "it was not there"),
            None => Ok(()),
        }
    }
}

/// What there was to start from.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The good snapshots, oldest first; two at most.
    pub good: Vec<Sealed>,
    /// The rows of the newest, if there is one.
    pub rows: Vec<Row>,
}

/// The snapshots of all shards of this node.
#[derive(Debug)]
pub struct Snapshots {
    dir: PathBuf,
    /// Gives every scratch copy a directory of its own.
    copies: AtomicU64,
    /// Held by whoever has a copy; alone, by whoever needs all the room that there is for one.
    copying: RwLock<()>,
    /// Room for a copy.
    ballast: Ballast,
    /// Size of the largest snapshot that was seen, in bytes.
    largest: AtomicU64,
    turn: Arc<tokio::sync::Mutex<()>>,
    loading: LoadThreads,
}

impl Snapshots {
    /// Waits until no shard of the node is being sealed, and keeps it so. Each needs a few MiB and all cores for a moment:
    /// all shards at once would be felt by everybody.
    pub async fn turn(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.turn).lock_owned().await
    }

    /// Does what makes a snapshot the state of a shard, when its turn comes; `None` when it panicked.
    pub async fn loading<T: Send + 'static>(
        &self,
        load: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        self.loading.run(load).await
    }

    /// Opens the directory of snapshots, creating it where there is none. The log beside it keeps other processes out.
    ///
    /// # Errors
    /// [`FileError`] when the file system refuses.
    pub fn open(dir: &Path) -> Result<Self, FileError> {
        files::create_dir(dir)?;
        let snapshots = Self {
            dir: dir.to_path_buf(),
            copies: AtomicU64::new(0),
            copying: RwLock::default(),
            ballast: Ballast::at(dir.join("ballast")),
            largest: AtomicU64::new(0),
            turn: Arc::default(),
            loading: files::on("begin threads for", dir, LoadThreads::start())?,
        };
        files::remove_dir(&snapshots.scratch())?;
        Ok(snapshots)
    }

    /// Finds the good snapshots of a shard and reads the newest.
    ///
    /// Those that are damaged are set aside, with an error that says what to do; what a process left that died while
    /// it wrote one is deleted.
    ///
    /// # Errors
    /// [`SnapshotError`] when one cannot be read that may be sound, and when the file system refuses to rename or
    /// delete.
    pub fn recover(&self, shard: u16) -> Result<Recovered, SnapshotError> {
        let mut good = Vec::new();
        for dir in self.finished(shard)? {
            match self.verify(shard, &dir) {
                Ok(sealed) => good.push(sealed),
                Err(error) => self.set_aside(shard, &dir, error)?,
            }
        }
        let mut recovered = Recovered::default();
        while let Some(newest) = good.last() {
            match self.load(newest) {
                Ok(rows) => {
                    recovered.rows = rows;
                    break;
                }
                Err(error) => {
                    self.set_aside(shard, &newest.dir, error)?;
                    good.pop();
                }
            }
        }
        recovered.good = good;
        self.retire(&mut recovered.good)?;
        Ok(recovered)
    }

    /// Seals the rows of a shard, of which `next` is the first entry that is not in them.
    ///
    /// # Errors
    /// [`SnapshotError`]; then nothing is left of it.
    pub fn seal(
        &self,
        shard: u16,
        next: u64,
        position: Vec<u8>,
        rows: &[Row],
    ) -> Result<Sealed, SnapshotError> {
        let dir = self.of_shard(shard).join(format!("{next:0NAME_DIGITS$}"));
        if manifest::exists(&dir) {
            match self.verify(shard, &dir) {
                Ok(sealed) => return Ok(sealed),
                Err(error) => self.set_aside(shard, &dir, error)?,
            }
        }
        files::remove_dir(&dir)?;
        let sealed = self.write(shard, next, position, rows, dir.clone());
        if sealed.is_err()
            && let Err(error) = files::remove_dir(&dir)
        {
            tracing::warn!(shard, %error, "an unfinished snapshot is left; the next start deletes it");
        }
        sealed
    }

    /// All rows of a snapshot, whose hashes are checked first.
    ///
    /// # Errors
    /// [`SnapshotError`] when it is not what was sealed.
    pub fn load(&self, sealed: &Sealed) -> Result<Vec<Row>, SnapshotError> {
        self.read(sealed, Some)
    }

    /// Reads all rows of a snapshot and keeps what `keep` makes of them.
    fn read<R>(
        &self,
        sealed: &Sealed,
        keep: impl Fn(Row) -> Option<R>,
    ) -> Result<Vec<R>, SnapshotError> {
        let found = self.read_somewhere(sealed, &keep)?;
        if found.count != sealed.manifest.rows || found.hash != sealed.manifest.rows_hash {
            return Err(SnapshotError::Changed {
                path: sealed.db(),
                what: "its rows are not those that were sealed",
            });
        }
        Ok(found.kept)
    }

    /// Reads a copy; where the disk has no room for it, once more as the only one, in the room that is held for that.
    fn read_somewhere<R>(
        &self,
        sealed: &Sealed,
        keep: &impl Fn(Row) -> Option<R>,
    ) -> Result<Found<R>, SnapshotError> {
        let bytes = sealed.bytes();
        self.largest.fetch_max(bytes, Ordering::Relaxed);
        {
            let _copying = self.copying.read().unwrap_or_else(PoisonError::into_inner);
            match self.read_scratch(sealed, keep) {
                Err(error) if self.lacks_room(&error) => {}
                read => return read,
            }
        }
        let _alone = self.copying.write().unwrap_or_else(PoisonError::into_inner);
        self.give_room("reading a snapshot");
        self.read_scratch(sealed, keep)
    }

    fn read_scratch<R>(
        &self,
        sealed: &Sealed,
        keep: &impl Fn(Row) -> Option<R>,
    ) -> Result<Found<R>, SnapshotError> {
        let copy = self.copies.fetch_add(1, Ordering::Relaxed);
        let scratch = self.scratch().join(copy.to_string());
        let copied = rows::copy(&sealed.db(), &scratch).map_err(SnapshotError::from);
        let checked = copied.and_then(|copied| sealed.check(&copied));
        let read = checked.and_then(|()| rows::read(&scratch, keep));
        files::remove_dir(&scratch)?;
        read
    }

    /// Whether a copy could not be made or opened for want of room. Of sled's own errors only the words remain.
    fn lacks_room(&self, error: &SnapshotError) -> bool {
        match error {
            SnapshotError::File(error) => files::may_pass(&error.source),
            SnapshotError::Rows { .. } => {
                files::bytes_free(&self.dir).is_ok_and(|free| free < COPY_BYTES_MORE)
            }
            SnapshotError::Manifest { .. } | SnapshotError::Changed { .. } => false,
        }
    }

    /// Holds room for a copy of the largest snapshot. Called now and then; what the disk does not have comes later.
    pub fn hold_room(&self) {
        // Whoever copies alone is using it.
        if let Ok(_copying) = self.copying.try_read() {
            let largest = self.largest.load(Ordering::Relaxed);
            self.ballast.keep(largest.saturating_add(COPY_BYTES_MORE));
        }
    }

    /// Gives the room back that is held for a copy; false if there was none.
    pub(super) fn give_room(&self, why: &str) -> bool {
        self.ballast.give_back(why)
    }

    /// Looks through a snapshot in which something was found, and sets it aside if it is damaged; true if it was.
    ///
    /// # Errors
    /// [`SnapshotError`] when it cannot be read and may be sound, or cannot be renamed.
    pub fn doubt(&self, shard: u16, sealed: &Sealed) -> Result<bool, SnapshotError> {
        let Err(error) = self.verify(shard, &sealed.dir) else {
            return Ok(false);
        };
        if sealed.dir.exists() {
            self.set_aside(shard, &sealed.dir, error)?;
        } else {
            tracing::error!(shard, %error, "a snapshot is gone; the one before and a longer log are used: check the disk");
        }
        Ok(true)
    }

    /// Sets a snapshot aside that is damaged, and says so. Any other fault comes back: a snapshot must not be lost
    /// because the disk was full, or written by a later version.
    fn set_aside(&self, shard: u16, dir: &Path, error: SnapshotError) -> Result<(), SnapshotError> {
        if !error.is_damage() {
            return Err(error);
        }
        let aside = dir.with_extension(DAMAGED);
        files::remove_dir(&aside)?;
        files::on("set aside", dir, fs::rename(dir, &aside))?;
        files::sync_dir(&self.of_shard(shard))?;
        tracing::error!(
            shard,
            %error,
            aside = %aside.display(),
            "a snapshot is damaged and was set aside; the one before and a longer log are used: \
             check the disk, then delete it"
        );
        Ok(())
    }

    /// Forgets all but the newest of the good snapshots, which are in order.
    ///
    /// # Errors
    /// [`FileError`] when one cannot be deleted.
    pub fn retire(&self, good: &mut Vec<Sealed>) -> Result<(), FileError> {
        let old = good.len().saturating_sub(SNAPSHOTS_KEPT);
        for sealed in good.drain(..old) {
            // Without its manifest it is unfinished, should the process die in between.
            manifest::remove(&sealed.dir)?;
            files::remove_dir(&sealed.dir)?;
        }
        Ok(())
    }

    fn of_shard(&self, shard: u16) -> PathBuf {
        self.dir.join(format!("{shard:02}"))
    }

    /// Where what comes from another node is put together.
    pub(super) fn incoming_dir(&self, shard: u16) -> PathBuf {
        self.dir.join("incoming").join(format!("{shard:02}"))
    }

    fn scratch(&self) -> PathBuf {
        self.dir.join("scratch")
    }

    /// The snapshots of a shard that have a manifest, oldest first. Those without are deleted.
    fn finished(&self, shard: u16) -> Result<Vec<PathBuf>, FileError> {
        let dir = self.of_shard(shard);
        files::create_dir(&dir)?;
        let mut finished = Vec::new();
        for entry in files::on("list the directory", &dir, fs::read_dir(&dir))? {
            let path = files::on("list the directory", &dir, entry)?.path();
            if path.extension().is_some_and(|name| name == DAMAGED) {
                continue;
            }
            if manifest::exists(&path) {
                finished.push(path);
            } else {
                tracing::warn!(shard, path = %path.display(), "a snapshot that was never finished is deleted");
                files::remove_dir(&path)?;
            }
        }
        finished.sort();
        Ok(finished)
    }

    /// The snapshot in `dir`, if it is what was sealed.
    fn verify(&self, shard: u16, dir: &Path) -> Result<Sealed, SnapshotError> {
        let manifest = manifest::read(dir)?.map_err(|source| SnapshotError::Manifest {
            path: dir.to_path_buf(),
            source,
        })?;
        let sealed = Sealed {
            dir: dir.to_path_buf(),
            manifest,
        };
        if sealed.manifest.shard != shard {
            return Err(SnapshotError::Changed {
                path: dir.to_path_buf(),
                what: "it is of another shard",
            });
        }
        sealed.check(&rows::describe(&sealed.db())?)?;
        Ok(sealed)
    }

    fn write(
        &self,
        shard: u16,
        next: u64,
        position: Vec<u8>,
        rows: &[Row],
        dir: PathBuf,
    ) -> Result<Sealed, SnapshotError> {
        files::create_dir(&dir)?;
        let db = dir.join("db");
        rows::write(&db, rows)?;
        files::sync_dir(&dir)?;
        let sealed = Sealed {
            manifest: Manifest {
                shard,
                next,
                position,
                rows: rows.len() as u64,
                rows_hash: *rows::hash(rows).as_bytes(),
                files: rows::describe(&db)?,
            },
            dir,
        };
        // The log will be discarded because this exists, so it must be known to read back.
        self.read(&sealed, |_| None::<Row>)?;
        manifest::write(&sealed.dir, &sealed.manifest)?;
        Ok(sealed)
    }
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
