//! Files and directories, with errors that say which one, what was tried and what to do.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// How long whoever has a file locked is waited for, in seconds.
const UNLOCKED_S_MAX: u64 = 30;
/// How often that is looked at, in milliseconds.
const UNLOCKED_POLL_MS: u64 = 1;

/// The file system refused; the text names the path and what an operator can do.
#[derive(Debug, thiserror::Error)]
#[error("{verb} {path}: {source}; {}", advice(source), path = path.display())]
pub struct FileError {
    /// What was tried, as a verb phrase.
    pub verb: &'static str,
    /// On which file or directory.
    pub path: PathBuf,
    /// What the system answered.
    #[source]
    pub source: io::Error,
}

fn advice(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied {
        "let the user of this process read and write it"
    } else if error.kind() == io::ErrorKind::StorageFull {
        "free space on this disk, then start again"
    } else if error.kind() == io::ErrorKind::QuotaExceeded {
        "raise the disk quota of the user of this process, then start again"
    } else if error.kind() == io::ErrorKind::ReadOnlyFilesystem {
        "mount this disk writable, then start again"
    } else {
        "check the path and the health of this disk"
    }
}

/// Whether an error says that what was stored is gone. Any other may pass, or be this process's own.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    [io::ErrorKind::NotFound, io::ErrorKind::UnexpectedEof].contains(&error.kind())
}

/// Whether what there are two of is better given up: it is gone, or the disk does not read where it lies.
pub(crate) fn is_unreadable(error: &io::Error) -> bool {
    is_gone(error) || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// Whether a write that failed may be tried again as it is, once something else has changed: the disk has no room, the
/// quota is used up, or the system has no memory or no file descriptors left.
pub(crate) fn may_pass(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let kinds = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    let passing = [
        Errno::NOSPC,
        Errno::DQUOT,
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
    ];
    let raw = error.raw_os_error();
    kinds.contains(&error.kind())
        || passing
            .iter()
            .any(|errno| raw == Some(errno.raw_os_error()))
}

/// Waits until nobody has a file locked, at most [`UNLOCKED_S_MAX`]; one that is not there is nobody's. Libraries that
/// close a file they have locked leave the lock to their own threads, and to a process that is just being started: it
/// shares the open file until it is another program.
pub(super) fn await_unlocked(path: &Path) -> Result<(), FileError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => on("open", path, opened)?,
    };
    let deadline = Instant::now() + Duration::from_secs(UNLOCKED_S_MAX);
    loop {
        match file.try_lock() {
            Ok(()) => return on("unlock", path, file.unlock()),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(UNLOCKED_POLL_MS));
            }
            Err(TryLockError::WouldBlock) => {
                return on(
                    "wait until it is closed",
                    path,
                    Err(io::ErrorKind::TimedOut.into()),
                );
            }
            Err(TryLockError::Error(error)) => return on("lock", path, Err(error)),
        }
    }
}

/// Adds the path and what was tried to an error of the file system.
pub(crate) fn on<T>(
    verb: &'static str,
    path: &Path,
    result: io::Result<T>,
) -> Result<T, FileError> {
    result.map_err(|source| FileError {
        verb,
        path: path.to_path_buf(),
        source,
    })
}

/// Makes the names inside `dir` survive a power loss.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), FileError> {
    on(
        "sync the directory",
        dir,
        File::open(dir).and_then(|file| file.sync_all()),
    )
}

/// Creates `dir` and what is missing above it, each level synced into its parent.
pub(crate) fn create_dir(dir: &Path) -> Result<(), FileError> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    create_dir(parent)?;
    match fs::create_dir(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            on("create the directory", dir, Err(e))
        }
        Ok(()) | Err(_) => sync_dir(parent),
    }
}

/// The regular files in `dir`, or none where there is no such directory.
pub(crate) fn list(dir: &Path) -> Result<Vec<PathBuf>, FileError> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => on("list the directory", dir, other)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = on("list the directory", dir, entry)?;
        if on("inspect", &entry.path(), entry.file_type())?.is_file() {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// Everything below a directory, itself included.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub(crate) files: Vec<PathBuf>,
    /// Each comes before what lies in it.
    pub(crate) dirs: Vec<PathBuf>,
}

/// All files and directories in `dir`, at any depth.
pub(crate) fn walk(dir: &Path) -> Result<Tree, FileError> {
    let mut tree = Tree::default();
    let mut waiting = vec![dir.to_path_buf()];
    while let Some(dir) = waiting.pop() {
        for entry in on("list the directory", &dir, fs::read_dir(&dir))? {
            let path = on("list the directory", &dir, entry)?.path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                tree.files.push(path);
            }
        }
        tree.dirs.push(dir);
    }
    Ok(tree)
}

/// Deletes a directory and everything in it; it is no error if it is not there.
pub(crate) fn remove_dir(dir: &Path) -> Result<(), FileError> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => on("delete the directory", dir, other),
    }
}

/// Sum of the sizes of the files in `dir`, in bytes. A file that vanishes meanwhile counts nothing.
pub(crate) fn bytes_in(dir: &Path) -> Result<u64, FileError> {
    let mut bytes = 0;
    for path in list(dir)? {
        match fs::metadata(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => bytes += on("inspect", &path, other)?.len(),
        }
    }
    Ok(bytes)
}

/// Bytes that this process may still write to the disk of `dir`.
pub(crate) fn bytes_free(dir: &Path) -> Result<u64, FileError> {
    let stat = on(
        "ask for the free space of",
        dir,
        rustix::fs::statvfs(dir).map_err(Into::into),
    )?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_created_with_everything_above_it() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b/c");
        create_dir(&deep).unwrap();
        create_dir(&deep).unwrap();
        assert!(deep.is_dir());
    }

    #[test]
    fn an_error_names_the_path_and_says_what_to_do() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, b"12345").unwrap();
        let error = create_dir(&file.join("below")).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(file.to_str().unwrap()), "{text}");
        assert!(text.contains("check the path"), "{text}");
        assert_eq!(bytes_in(root.path()).unwrap(), 5);
        assert_eq!(bytes_in(&root.path().join("absent")).unwrap(), 0);
        assert!(bytes_free(root.path()).unwrap() > 0);
    }
}
