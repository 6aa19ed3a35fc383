//! The parts of a node's disk, opened together.

use super::{
    backlog::{Backlog, BacklogError},
    files::FileError,
    log::Log,
    open::OpenError,
    snapshot::Snapshots,
    writer::LogWriter,
};
use std::{io, path::Path, sync::Arc};

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
    /// The writer of the log has no thread.
    #[error("start the log writer: {0}; raise the limit of threads")]
    Writer(#[source] io::Error),
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
}

impl Disk {
    /// Opens all of it in `dir`, creating what is not there. Above `log_bytes_max` bytes of log,
    /// [`LogWriter::admit`] refuses.
    ///
    /// # Errors
    /// [`DiskError`] says which part refused, and what to do.
    pub fn open(dir: &Path, shards: u16, log_bytes_max: u64) -> Result<Self, DiskError> {
        // First, for its lock keeps other processes out of the rest too.
        let log = Arc::new(Log::open(&dir.join("log"), shards)?);
        let snapshots = Arc::new(Snapshots::open(&dir.join("snapshots"))?);
        let backlog = Arc::new(Backlog::open(&dir.join("backlog"))?);
        let writer =
            LogWriter::start(Arc::clone(&log), log_bytes_max).map_err(DiskError::Writer)?;
        Ok(Self {
            log,
            writer,
            snapshots,
            backlog,
        })
    }
}
