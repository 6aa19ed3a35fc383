//! Room on the disk that is held for later: a file of no content that is given back when the disk is full.
//!
//! Whoever gives it back uses the room for what it was held for, and a later [`Ballast::keep`] takes it again, as soon as
//! there is any: it comes before everything else that wants room.

use super::files;
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// What is taken of a disk is a multiple of this, in bytes, and as much is left to others.
const STEP_BYTES: u64 = 1 << 20;

/// A file that holds room.
#[derive(Debug)]
pub(super) struct Ballast {
    path: PathBuf,
}

impl Ballast {
    /// The one at `path`, which need not be there yet.
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// The room that is held, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |meta| meta.len())
    }

    /// Gives the room back; false if there was none. `why` says what it is for.
    pub(super) fn give_back(&self, why: &str) -> bool {
        let bytes = self.bytes();
        match fs::remove_file(&self.path) {
            Ok(()) => {
                tracing::warn!(
                    why,
                    bytes,
                    "the disk is full: room that was held for this is given back"
                );
                bytes > 0
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "room that was held is not given back");
                false
            }
        }
    }

    /// Takes as much of `bytes_wanted` as the disk has. What it cannot have it takes another time.
    pub(super) fn keep(&self, bytes_wanted: u64) {
        let held = self.bytes();
        let room = files::bytes_free(self.path.parent().unwrap_or(Path::new(".")));
        let most = held.saturating_add(room.unwrap_or_default().saturating_sub(STEP_BYTES));
        let bytes = bytes_wanted.next_multiple_of(STEP_BYTES).min(most) / STEP_BYTES * STEP_BYTES;
        if bytes <= held {
            return;
        }
        if let Err(error) = self.grow(held, bytes) {
            tracing::debug!(path = %self.path.display(), %error, "no room is held");
        }
    }

    fn grow(&self, from: u64, to: u64) -> io::Result<()> {
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.path)?;
        let how = rustix::fs::FallocateFlags::empty();
        if let Err(error) = rustix::fs::fallocate(&file, how, from, to - from) {
            // What it got of it would be given back without having been held.
            file.set_len(from)?;
            return Err(error.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn room_is_held_grows_and_is_given_back_once() {
        let dir = tempfile::tempdir().unwrap();
        let ballast = Ballast::at(dir.path().join("ballast"));
        assert_eq!(ballast.bytes(), 0);
        assert!(!ballast.give_back("nothing"));
        ballast.keep(3 << 20);
        assert_eq!(ballast.bytes(), 3 << 20);
        let meta = fs::metadata(&ballast.path).unwrap();
        assert!(meta.blocks() * 512 >= 3 << 20, "it has its blocks");
        ballast.keep((4 << 20) + 1);
        assert_eq!(ballast.bytes(), 5 << 20);
        ballast.keep(1);
        assert_eq!(ballast.bytes(), 5 << 20);
        assert!(ballast.give_back("a test"));
        assert!(!ballast.give_back("a test"));
    }

    #[test]
    fn more_than_the_disk_has_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let ballast = Ballast::at(dir.path().join("absent/ballast"));
        ballast.keep(u64::MAX / 2);
        assert_eq!(ballast.bytes(), 0);
    }
}
