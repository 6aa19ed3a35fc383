//! Files that are their owner's alone: secrets are refused when others can read them, the data directory is closed to
//! others when it is opened.

use super::FileError;
use anyhow::Context;
use std::{
    fs::{File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// Largest file of keys, in bytes.
const SECRET_BYTES_MAX: u64 = 1 << 20;
/// What others than the owner may do with a file.
const OTHERS: u32 = 0o077;

/// Has every file and directory that this process makes from now on be its owner's alone.
pub fn keep_to_owner() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(OTHERS));
}

/// Reads a secret that nobody but its owner can read.
///
/// # Errors
/// When it does not read, or is open to others.
pub fn read_private(path: &Path) -> Result<Vec<u8>, FileError> {
    let refuse = |why: String| FileError {
        path: path.to_owned(),
        why,
    };
    let unreadable = |error: io::Error| refuse(format!("the private key does not read: {error}"));
    let file = File::open(path).map_err(unreadable)?;
    // Asked of the open file: what is read is what was looked at.
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
    if mode & OTHERS != 0 {
        return Err(refuse(format!(
            "the private key is open to others (mode {mode:o}); chmod 600 it"
        )));
    }
    let mut bytes = Vec::new();
    file.take(SECRET_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    Ok(bytes)
}

/// Closes a directory and everything in it to others; gives how many files and directories were open to them.
///
/// # Errors
/// When something in it cannot be looked at or changed.
pub fn close_to_others(path: &Path) -> io::Result<u64> {
    let metadata = std::fs::symlink_metadata(path)?;
    if metadata.is_symlink() {
        return Ok(0);
    }
    let mode = metadata.permissions().mode();
    let mut closed = 0;
    if mode & OTHERS != 0 {
        std::fs::set_permissions(path, Permissions::from_mode(mode & !OTHERS))?;
        closed = 1;
    }
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path)? {
            closed += close_to_others(&entry?.path())?;
        }
    }
    Ok(closed)
}

/// Writes a file for its owner only, whole or not at all.
///
/// # Errors
/// When the file system refuses; then the file is as it was.
pub fn write_durably(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let staging = path.with_extension("new");
    let write = || -> io::Result<()> {
        match std::fs::remove_file(&staging) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&staging)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&staging, path)?;
        let parent = path.parent().unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()
    };
    write().with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn an_open_directory_is_closed_with_all_that_is_in_it_and_nothing_beyond() {
        let dir = tempfile::tempdir().unwrap();
        let (data, outside) = (dir.path().join("data"), dir.path().join("outside"));
        std::fs::create_dir_all(data.join("log")).unwrap();
        let open = |path: &Path, mode| {
            std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        for file in [&outside, &data.join("log/one")] {
            std::fs::write(file, "x").unwrap();
            open(file, 0o644);
        }
        open(&data.join("log"), 0o755);
        open(&data, 0o755);
        std::os::unix::fs::symlink(&outside, data.join("link")).unwrap();
        assert_eq!(close_to_others(&data).unwrap(), 3);
        assert_eq!((mode(&data), mode(&data.join("log"))), (0o700, 0o700));
        assert_eq!(mode(&data.join("log/one")), 0o600);
        assert_eq!(mode(&outside), 0o644);
        assert_eq!(close_to_others(&data).unwrap(), 0);
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("hub.key");
        std::fs::write(&key, "secret").unwrap();
        std::fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
        let why = read_private(&key).unwrap_err().to_string();
        assert!(
            why.contains("open to others (mode 644); chmod 600"),
            "{why}"
        );
        std::fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read_private(&key).unwrap(), b"secret");
    }
}
