//! The files of the log engine: how they are made, and what a fault of the disk may leave of them.
//!
//! Owns: every call of the engine to the file system. Promises: a file of the log has its name only once its header is
//! synced, so a rotation that fails leaves nothing behind and the engine goes on with the file that it has.
//! Not here: what the blocks in a file say (raft-engine), and what was acknowledged (`mark`).
//!
//! States that raft-engine 0.4.2 can find at its start, in either of its queues (`raftlog`, `rewrite`), and who knows
//! each. "Active" is the file with the highest number.
//!
//! ```text
//! found                                      left by                              judged by
//! zeros or half a block at the end of the    kill or power loss while writing;    the engine cuts them; what was
//! active file                                space that was allocated ahead       acknowledged is held against the mark
//! N.raftlog.draft                            kill or fault in a rotation          settle: deleted, it never held a block
//! empty file N+1, or one with half a header  a failed rotation of the engine's    settle: deleted, so that N is active
//! or a header of zeros, after N with zeros   own file system (earlier versions    again and its end is judged as above
//! at its end; several such files             of this program): ENOSPC, EIO
//! N+1 with a header and no block             kill after a rotation                kept: N was cut and synced before it
//! files below a gap in the numbers           a deletion that failed               left_over: the engine passes them over;
//!                                                                                 deleted once all else was checked
//! zeros or half a block at the end of a      nothing that is described here       damage: the engine refuses
//! file before one that holds a block
//! a file of the past in place of a new one   recycling, reserved files            never: both are switched off
//! an empty `rewrite` queue                   kill before its first file           the engine makes one
//! ```
//!
//! Errors keep the number of the system: the engine takes a full disk for a reason to rotate only if it words the error
//! itself, and a file that is closed early is of no use on a full disk.

use super::files::{self, FileError};
use raft_engine::env::{FileSystem, Handle, Permission, WriteExt};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What the files of the log end with: those that are appended to, and those that hold what was rewritten.
pub(super) const QUEUES: [&str; 2] = ["raftlog", "rewrite"];
/// What the name of a file ends with that has no header yet.
const DRAFT: &str = "draft";
/// The header of a file of the log: the name of the format, its version (2) and the alignment (none).
const HEADER: &[u8; HEADER_BYTES] =
    b"RAFT-LOG-FILE-HEADER-9986AB3E47F320B394C8E84916EB0ED5\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\0";
const HEADER_BYTES: usize = 69;
/// Bytes of a file that are compared with zero at a time.
const LOOK_BYTES: usize = 64 << 10;

/// A call of the engine that changes the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Create,
    Write,
    Allocate,
    Truncate,
    Sync,
    Rename,
    Delete,
    SyncDir,
}

/// Stands before every call that changes the disk, so that tests can have any of them fail.
pub(super) trait Gate: Send + Sync {
    /// How many of these bytes may be written; an error in place of the call.
    fn pass(&self, call: Call, bytes: usize) -> io::Result<usize>;
}

/// Lets everything through.
struct Open;

impl Gate for Open {
    fn pass(&self, _: Call, bytes: usize) -> io::Result<usize> {
        Ok(bytes)
    }
}

/// The files that the engine has open, which are those that it uses.
#[derive(Clone, Default)]
struct Used(Arc<Mutex<BTreeSet<PathBuf>>>);

impl Used {
    /// A panic of another thread leaves the set whole: it is changed in one step.
    fn all(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, path: &Path) -> Entered {
        self.all().insert(path.to_path_buf());
        Entered {
            path: path.to_path_buf(),
            used: self.clone(),
        }
    }
}

/// A file is in use until this is dropped.
struct Entered {
    path: PathBuf,
    used: Used,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.used.all().remove(&self.path);
    }
}

/// The file system, as the engine sees it.
pub(super) struct Files {
    gate: Arc<dyn Gate>,
    used: Used,
    /// The first sync that failed, after which the engine panics.
    failed: Arc<Mutex<Option<io::Error>>>,
}

impl Default for Files {
    fn default() -> Self {
        Self::behind(Arc::new(Open))
    }
}

/// A file of the log, whose header is on the disk.
pub(super) struct LogFile {
    file: File,
    gate: Arc<dyn Gate>,
    failed: Arc<Mutex<Option<io::Error>>>,
    /// Held for as long as the engine uses it.
    _entered: Entered,
}

/// A place in a file of the log, to read or write from.
pub(super) struct Cursor {
    file: Arc<LogFile>,
    offset: u64,
}

impl Files {
    pub(super) fn behind(gate: Arc<dyn Gate>) -> Self {
        Self {
            gate,
            used: Used::default(),
            failed: Arc::default(),
        }
    }

    /// Why a sync failed, if one did.
    pub(super) fn failed_sync(&self) -> Option<io::Error> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.take()
    }

    fn entered(&self, file: File, path: &Path) -> LogFile {
        LogFile {
            file,
            gate: Arc::clone(&self.gate),
            failed: Arc::clone(&self.failed),
            _entered: self.used.enter(path),
        }
    }

    /// The files of a queue that the engine uses, with their numbers, in order. All but the last are finished.
    pub(super) fn used(&self, queue: &str) -> Vec<(u64, PathBuf)> {
        numbered(self.used.all().iter().cloned(), queue)
    }

    fn ask(&self, call: Call) -> io::Result<()> {
        self.gate.pass(call, 0).map(drop)
    }

    /// Makes the file under another name, with a header that is synced, and then gives it its own.
    fn make(&self, draft: &Path, path: &Path) -> io::Result<LogFile> {
        self.ask(Call::Create)?;
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(draft)?;
        let mut rest = HEADER.as_slice();
        while !rest.is_empty() {
            let passed = self.gate.pass(Call::Write, rest.len())?;
            let (now, later) = rest.split_at(passed.min(rest.len()));
            file.write_all_at(now, (HEADER_BYTES - rest.len()) as u64)?;
            rest = later;
        }
        self.ask(Call::Sync)?;
        file.sync_all()?;
        self.ask(Call::Rename)?;
        fs::rename(draft, path)?;
        self.ask(Call::SyncDir)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(self.entered(file, path))
    }
}

impl FileSystem for Files {
    type Handle = LogFile;
    type Reader = Cursor;
    type Writer = Cursor;

    fn create<P: AsRef<Path>>(&self, path: P) -> io::Result<LogFile> {
        let path = path.as_ref();
        let draft = draft_of(path);
        self.make(&draft, path).inspect_err(|error| {
            tracing::warn!(path = %path.display(), %error, "the log goes on in the file that it has");
            // One that cannot be deleted holds no block, so the next start deletes it.
            drop(fs::remove_file(&draft));
            drop(fs::remove_file(path));
        })
    }

    fn open<P: AsRef<Path>>(&self, path: P, permission: Permission) -> io::Result<LogFile> {
        let write = permission == Permission::ReadWrite;
        let file = File::options().read(true).write(write).open(&path)?;
        Ok(self.entered(file, path.as_ref()))
    }

    fn delete<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        self.ask(Call::Delete)?;
        fs::remove_file(path)
    }

    fn rename<P: AsRef<Path>>(&self, from: P, to: P) -> io::Result<()> {
        self.ask(Call::Rename)?;
        fs::rename(from, to)
    }

    fn new_reader(&self, file: Arc<LogFile>) -> io::Result<Cursor> {
        Ok(Cursor { file, offset: 0 })
    }

    fn new_writer(&self, file: Arc<LogFile>) -> io::Result<Cursor> {
        Ok(Cursor { file, offset: 0 })
    }
}

impl Handle for LogFile {
    fn truncate(&self, offset: usize) -> io::Result<()> {
        self.gate.pass(Call::Truncate, 0)?;
        self.file.set_len(offset as u64)
    }

    fn file_size(&self) -> io::Result<usize> {
        usize::try_from(self.file.metadata()?.len()).map_err(io::Error::other)
    }

    fn sync(&self) -> io::Result<()> {
        let passed = self.gate.pass(Call::Sync, 0);
        let synced = passed.and_then(|_| self.file.sync_data());
        synced.map_err(|error| {
            let told = io::Error::new(error.kind(), format!("a sync of the log failed: {error}"));
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert(error);
            told
        })
    }
}

impl Read for Cursor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

impl Write for Cursor {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let passed = self.file.gate.pass(Call::Write, bytes.len())?;
        let bytes = bytes.get(..passed).unwrap_or(bytes);
        let count = self.file.file.write_at(bytes, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Cursor {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let base = match to {
            SeekFrom::Start(offset) => {
                self.offset = offset;
                return Ok(offset);
            }
            SeekFrom::Current(by) => (self.offset, by),
            SeekFrom::End(by) => (self.file.file.metadata()?.len(), by),
        };
        self.offset = base
            .0
            .checked_add_signed(base.1)
            .ok_or(ErrorKind::InvalidInput)?;
        Ok(self.offset)
    }
}

impl WriteExt for Cursor {
    fn truncate(&mut self, offset: usize) -> io::Result<()> {
        Handle::truncate(&*self.file, offset)?;
        self.offset = offset as u64;
        Ok(())
    }

    fn allocate(&mut self, offset: usize, size: usize) -> io::Result<()> {
        self.file.gate.pass(Call::Allocate, 0)?;
        let (offset, size) = (offset as u64, size as u64);
        let how = rustix::fs::FallocateFlags::empty();
        match rustix::fs::fallocate(&self.file.file, how, offset, size) {
            // The file grows as it is written, then.
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn draft_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(DRAFT);
    PathBuf::from(name)
}

/// The number of a file of the log, which the next one continues.
fn number(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.parse().ok()
}

/// Those of some files that are of a queue, with their numbers, in order.
fn numbered(all: impl IntoIterator<Item = PathBuf>, queue: &str) -> Vec<(u64, PathBuf)> {
    let of_queue = |path: &PathBuf| path.extension().is_some_and(|extension| extension == queue);
    let mut numbered: Vec<_> = all
        .into_iter()
        .filter(of_queue)
        .filter_map(|path| Some((number(&path)?, path)))
        .collect();
    numbered.sort();
    numbered
}

/// Deletes what a rotation left that failed: drafts, and files at the end of a queue that never held a block. Without
/// them the file before is the active one again, which it was when the rotation failed.
pub(super) fn settle(dir: &Path) -> Result<(), FileError> {
    let mut gone = files::list(dir)?;
    gone.retain(|path| path.extension().is_some_and(|extension| extension == DRAFT));
    for queue in QUEUES {
        for (_, path) in numbered(files::list(dir)?, queue).into_iter().rev() {
            if !files::on("read", &path, is_headless(&path))? {
                break;
            }
            gone.push(path);
        }
    }
    for path in &gone {
        tracing::warn!(path = %path.display(), "a file of the log that was begun and never written to is deleted");
        files::on("delete", path, fs::remove_file(path))?;
    }
    if gone.is_empty() {
        return Ok(());
    }
    files::sync_dir(dir)
}

/// Deletes the files that the engine passed over: a deletion that failed has left them below a gap in the numbers.
pub(super) fn left_over(dir: &Path, used: &Files) -> Result<(), FileError> {
    for queue in QUEUES {
        let first = used.used(queue).first().map(|(number, _)| *number);
        for (number, path) in numbered(files::list(dir)?, queue) {
            if first.is_some_and(|first| number < first) {
                tracing::warn!(path = %path.display(), "a file of discarded entries that could not be deleted before is deleted");
                files::on("delete", &path, fs::remove_file(&path))?;
            }
        }
    }
    Ok(())
}

/// Whether a file never held a block: it has no whole header, and nothing but zeros after what there is of one.
fn is_headless(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let mut header = Vec::new();
    Read::by_ref(&mut file)
        .take(HEADER_BYTES as u64)
        .read_to_end(&mut header)?;
    let begun = header
        .iter()
        .zip(HEADER)
        .take_while(|(found, wanted)| found == wanted)
        .count();
    if begun == HEADER_BYTES || header.iter().skip(begun).any(|byte| *byte != 0) {
        return Ok(false);
    }
    let mut piece = vec![0; LOOK_BYTES];
    loop {
        let count = file.read(&mut piece)?;
        let Some(read) = piece.get(..count).filter(|read| !read.is_empty()) else {
            return Ok(true);
        };
        if read.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
    }
}

#[cfg(test)]
#[path = "engine_files_tests.rs"]
mod tests;
