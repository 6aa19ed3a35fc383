//! The parts of a node's disk, opened together.

use super::{
    backlog::{Backlog, BacklogError},
    files::{self, FileError},
    log::Log,
    open::OpenError,
    snapshot::Snapshots,
    writer::LogWriter,
};
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

/// How long it may take until nothing in this process uses a disk that is given back.
const RELEASE_DEADLINE: Duration = Duration::from_secs(60);
/// How often it is looked whether it is still used.
const RELEASE_LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Name of the file that says what is damaged, in the data directory of a node that must not start.
const CONDEMNED: &str = "damaged";

/// Why a node's disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The log does not open.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The directory of snapshots does not open.
    #[error(transparent)]
    Snapshots(#[from] FileError),
    /// The backlog does not open.
    #[error(transparent)]
    Backlog(#[from] BacklogError),
    /// Damage was found in it, which nobody has repaired.
    #[error(
        "{what}; this was found in {}: this node must not lead or vote. Put a new node in its place \
         (`mimi-node cluster replace`), or restore its data directory; if this is repaired, delete {}",
        dir.display(), dir.join(CONDEMNED).display()
    )]
    Condemned {
        /// Where it lies.
        dir: PathBuf,
        /// What was found.
        what: String,
    },
    /// The writer of the log has no thread.
    #[error("start the log writer: {0}; raise the limit of threads")]
    Writer(#[source] io::Error),
}

/// A disk that was given back is still held by something in this process.
#[derive(Debug, thiserror::Error)]
#[error("{} is still in use by this process", dir.display())]
pub struct StillUsed {
    dir: PathBuf,
}

/// What a node keeps on its disk. Clones share it.
#[derive(Clone)]
pub struct Disk {
    /// The log of all shards.
    pub log: Arc<Log>,
    /// The one writer of the log.
    pub writer: LogWriter,
    /// The snapshots of all shards.
    pub snapshots: Arc<Snapshots>,
    /// What outlives its part of the log.
    pub backlog: Arc<Backlog>,
    dir: PathBuf,
}

impl Disk {
    /// Opens all of it in `dir`, creating what is not there. Above `log_bytes_max` bytes of log,
    /// [`LogWriter::admit`] refuses.
    ///
    /// # Errors
    /// [`DiskError`] says which part refused, and what to do.
    pub fn open(dir: &Path, shards: u16, log_bytes_max: u64) -> Result<Self, DiskError> {
        let condemned = dir.join(CONDEMNED);
        match fs::read_to_string(&condemned) {
            Ok(what) => {
                let dir = dir.to_path_buf();
                return Err(DiskError::Condemned { dir, what });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Ok(files::on("read", &condemned, Err(error))?),
        }
        // First, for its lock keeps other processes out of the rest too.
        let log = Arc::new(Log::open(&dir.join("log"), shards)?);
        let snapshots = Arc::new(Snapshots::open(&dir.join("snapshots"))?);
        let open = || Backlog::open(&dir.join("backlog"));
        let backlog = match open() {
            Err(error) if error.may_pass() && snapshots.give_room("opening the backlog") => open()?,
            opened => opened?,
        };
        let backlog = Arc::new(backlog);
        let writer =
            LogWriter::start(Arc::clone(&log), log_bytes_max).map_err(DiskError::Writer)?;
        Ok(Self {
            log,
            writer,
            snapshots,
            backlog,
            dir: dir.to_path_buf(),
        })
    }

    /// Writes what is queued, and waits until the directory can be opened again, also by this process: tasks of a
    /// shard's group end a moment after their group.
    ///
    /// # Errors
    /// [`StillUsed`] when something in this process holds it for longer than a minute.
    pub async fn release(self) -> Result<(), StillUsed> {
        self.writer.close().await;
        let (log, snapshots, backlog) = (
            Arc::downgrade(&self.log),
            Arc::downgrade(&self.snapshots),
            Arc::downgrade(&self.backlog),
        );
        let dir = self.dir.clone();
        drop(self);
        let used = || log.strong_count() + snapshots.strong_count() + backlog.strong_count() > 0;
        let deadline = Instant::now() + RELEASE_DEADLINE;
        while used() {
            if Instant::now() >= deadline {
                return Err(StillUsed { dir });
            }
            tokio::time::sleep(RELEASE_LOOK_INTERVAL).await;
        }
        Ok(())
    }

    /// Keeps this node from starting again, because of `what` was found on its disk.
    ///
    /// # Errors
    /// [`FileError`] when that cannot be written down.
    pub fn condemn(&self, what: &str) -> Result<(), FileError> {
        let path = self.dir.join(CONDEMNED);
        let written = File::create(&path).and_then(|mut file| {
            file.write_all(what.as_bytes())?;
            file.sync_all()
        });
        files::on("write", &path, written)?;
        files::sync_dir(&self.dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_condemned_disk_does_not_open_until_the_operator_says_that_it_is_repaired() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path(), 1, u64::MAX).unwrap();
        disk.condemn("entry 7 is damaged").unwrap();
        disk.release().await.unwrap();
        let error = Disk::open(dir.path(), 1, u64::MAX).err().unwrap();
        let text = error.to_string();
        assert!(text.contains("entry 7 is damaged"), "{text}");
        assert!(text.contains("mimi-node cluster replace"), "{text}");
        fs::remove_file(dir.path().join(CONDEMNED)).unwrap();
        assert!(Disk::open(dir.path(), 1, u64::MAX).is_ok());
    }
}
