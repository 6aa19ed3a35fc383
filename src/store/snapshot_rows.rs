//! The rows of a snapshot as a sled database that is written once, and read from a copy.
//!
//! sled answers a flush before the bytes are on the disk, opens damaged files with fewer rows than they had, and
//! writes whenever it opens. So here every file is synced after the database is closed, no file is opened by sled
//! whose hash was not checked on the way, and what is opened is a copy that is thrown away.

use super::{
    files::{self, FileError},
    snapshot::SnapshotError,
    snapshot_manifest::SealedFile,
};
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

/// Largest value, in bytes: sled puts values of a quarter of its segment (128 KiB) elsewhere, and never syncs them.
const VALUE_BYTES_MAX: usize = 32 << 10;
/// Pages that sled keeps in memory, in bytes: rows are written and read once, in their order.
const CACHE_BYTES: u64 = 2 << 20;
/// Bytes of a file that are copied at a time.
const COPY_BYTES: usize = 256 << 10;
/// Bytes of a key: the number of the row (u64) and of the piece of it (u32), both big endian.
const KEY_BYTES: usize = 12;

/// A row of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub key: Vec<u8>,
    /// What it says.
    pub value: Vec<u8>,
}

impl Row {
    /// Length of the key (u32, little endian), key and value.
    fn bytes(&self) -> Vec<u8> {
        let key = u32::try_from(self.key.len()).unwrap_or(u32::MAX);
        [&key.to_le_bytes(), &*self.key, &*self.value].concat()
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (key, rest) = bytes.split_first_chunk::<4>()?;
        let key = usize::try_from(u32::from_le_bytes(*key)).ok()?;
        let (key, value) = rest.split_at_checked(key)?;
        Some(Self {
            key: key.to_vec(),
            value: value.to_vec(),
        })
    }
}

/// One hash over all rows, in order.
pub(super) fn hash(rows: &[Row]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for row in rows {
        hash_one(&mut hasher, &row.bytes());
    }
    hasher.finalize()
}

fn hash_one(hasher: &mut blake3::Hasher, row: &[u8]) {
    hasher.update(&(row.len() as u64).to_le_bytes());
    hasher.update(row);
}

/// Writes rows into a new database in `dir`, closes it and syncs every file and directory of it.
pub(super) fn write(dir: &Path, rows: &[Row]) -> Result<(), SnapshotError> {
    guarded(dir, || {
        let db = config(dir).create_new(true).open()?;
        for (number, row) in (0_u64..).zip(rows) {
            let bytes = row.bytes();
            for (piece, value) in (0_u32..).zip(bytes.chunks(VALUE_BYTES_MAX)) {
                let mut key = number.to_be_bytes().to_vec();
                key.extend_from_slice(&piece.to_be_bytes());
                db.insert(key, value)?;
            }
        }
        db.flush()?;
        Ok(())
    })?;
    await_release(dir)?;
    let tree = files::walk(dir)?;
    for path in tree.files.iter().chain(&tree.dirs) {
        let synced = File::open(path).and_then(|file| file.sync_all());
        files::on("sync", path, synced)?;
    }
    Ok(())
}

/// The size and hash of every file in `dir`, in order of path.
pub(super) fn describe(dir: &Path) -> Result<Vec<SealedFile>, FileError> {
    let mut described = Vec::new();
    for path in files::walk(dir)?.files {
        described.push(describe_one(dir, &path, &mut io::sink())?);
    }
    described.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(described)
}

/// Copies the database in `from` to `scratch`; returns the size and hash of what was copied.
pub(super) fn copy(from: &Path, scratch: &Path) -> Result<Vec<SealedFile>, FileError> {
    let tree = files::walk(from)?;
    for dir in &tree.dirs {
        let to = below(dir, from, scratch);
        files::on("create the directory", &to, fs::create_dir_all(&to))?;
    }
    let mut copied = Vec::new();
    for path in tree.files {
        let to = below(&path, from, scratch);
        let mut copy = files::on("create", &to, File::create(&to))?;
        copied.push(describe_one(from, &path, &mut copy)?);
    }
    copied.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(copied)
}

/// What was read of a database.
#[derive(Debug)]
pub(super) struct Found<R> {
    /// What was kept of its rows, in order.
    pub(super) kept: Vec<R>,
    /// How many rows it has.
    pub(super) count: u64,
    /// As [`hash`] of them.
    pub(super) hash: blake3::Hash,
}

/// Reads all rows of the database in `scratch`, which sled may change, and keeps what `keep` makes of each.
///
/// They come one after the other: what sled holds of those before is let go meanwhile, so a large snapshot is in memory
/// once.
pub(super) fn read<R>(
    scratch: &Path,
    keep: impl Fn(Row) -> Option<R>,
) -> Result<Found<R>, SnapshotError> {
    let joined = guarded(scratch, || {
        let db = config(scratch).open()?;
        let mut joining = Joining::new(keep);
        for piece in db.iter() {
            let (key, value) = piece?;
            if let Err(reason) = joining.push(&key, &value) {
                return Ok(Err(reason));
            }
        }
        Ok(joining.finish())
    })?;
    await_release(scratch)?;
    joined.map_err(|reason| SnapshotError::Rows {
        path: scratch.to_path_buf(),
        reason: reason.to_owned(),
    })
}

/// Pieces that become rows.
struct Joining<R, K> {
    keep: K,
    kept: Vec<R>,
    hasher: blake3::Hasher,
    /// The row that is not whole yet.
    bytes: Vec<u8>,
    /// Where the next piece stands, if it is of the same row.
    expected: (u64, u32),
}

impl<R, K: Fn(Row) -> Option<R>> Joining<R, K> {
    fn new(keep: K) -> Self {
        Self {
            keep,
            kept: Vec::new(),
            hasher: blake3::Hasher::new(),
            bytes: Vec::new(),
            expected: (0, 0),
        }
    }

    fn push(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let place = <[u8; KEY_BYTES]>::try_from(key).map_err(|_| "a key is odd")?;
        let place = place_of(place);
        if place == (self.expected.0 + 1, 0) {
            self.end_row()?;
        } else if place != self.expected {
            return Err("a piece of a row is missing");
        }
        self.bytes.extend_from_slice(value);
        self.expected = (place.0, place.1.saturating_add(1));
        Ok(())
    }

    fn end_row(&mut self) -> Result<(), &'static str> {
        let row = Row::parse(&self.bytes).ok_or("a row is cut")?;
        hash_one(&mut self.hasher, &self.bytes);
        self.kept.extend((self.keep)(row));
        self.bytes.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<Found<R>, &'static str> {
        let mut count = self.expected.0;
        if !self.bytes.is_empty() {
            self.end_row()?;
            count += 1;
        }
        Ok(Found {
            kept: self.kept,
            count,
            hash: self.hasher.finalize(),
        })
    }
}

fn place_of(key: [u8; KEY_BYTES]) -> (u64, u32) {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = key;
    let row = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    (row, u32::from_be_bytes([i, j, k, l]))
}

fn config(dir: &Path) -> sled::Config {
    sled::Config::new()
        .path(dir)
        .cache_capacity(CACHE_BYTES)
        .flush_every_ms(None)
}

/// Runs what uses sled; it panics on some damaged files.
fn guarded<T>(dir: &Path, run: impl FnOnce() -> sled::Result<T>) -> Result<T, SnapshotError> {
    let reason = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "sled panicked".to_owned(),
    };
    Err(SnapshotError::Rows {
        path: dir.to_path_buf(),
        reason,
    })
}

/// Waits until no thread of sled uses a database that was closed: it holds a lock for as long.
fn await_release(dir: &Path) -> Result<(), FileError> {
    files::await_unlocked(&dir.join("db"))
}

/// Reads a file to its end, passing its bytes on to `to`.
fn describe_one(dir: &Path, path: &Path, to: &mut impl Write) -> Result<SealedFile, FileError> {
    let mut file = files::on("open", path, File::open(path))?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; COPY_BYTES];
    let mut bytes = 0;
    loop {
        let count = files::on("read", path, file.read(&mut buffer))?;
        let Some(read) = buffer.get(..count).filter(|read| !read.is_empty()) else {
            break;
        };
        hasher.update(read);
        files::on("copy", path, to.write_all(read))?;
        bytes += count as u64;
    }
    let name = path.strip_prefix(dir).unwrap_or(path);
    Ok(SealedFile {
        path: name.to_string_lossy().into_owned(),
        bytes,
        hash: *hasher.finalize().as_bytes(),
    })
}

fn below(path: &Path, from: &Path, to: &Path) -> std::path::PathBuf {
    to.join(path.strip_prefix(from).unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str, bytes: usize) -> Row {
        let value = (0..bytes).map(|i| u8::try_from(i % 251).unwrap()).collect();
        Row {
            key: key.into(),
            value,
        }
    }

    #[test]
    fn rows_of_any_size_read_back_in_order_and_reading_changes_no_sealed_file() {
        let root = tempfile::tempdir().unwrap();
        let (sealed, scratch) = (root.path().join("sealed"), root.path().join("scratch"));
        let rows: Vec<Row> = [0, 1, VALUE_BYTES_MAX - 5, VALUE_BYTES_MAX, 1 << 20, 7]
            .into_iter()
            .enumerate()
            .map(|(number, bytes)| row(&format!("row {number}"), bytes))
            .collect();
        write(&sealed, &rows).unwrap();
        let files = describe(&sealed).unwrap();
        assert!(files.iter().any(|file| file.path == "db"), "{files:?}");
        assert_eq!(copy(&sealed, &scratch).unwrap(), files);
        let found = read(&scratch, Some).unwrap();
        assert_eq!((found.count, found.hash), (6, hash(&rows)));
        assert_eq!(found.kept, rows);
        assert_eq!(describe(&sealed).unwrap(), files);
    }

    #[test]
    fn no_rows_are_a_database_too() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("sealed");
        write(&dir, &[]).unwrap();
        let found = read(&dir, Some).unwrap();
        assert_eq!((found.kept, found.count), (vec![], 0));
    }

    #[test]
    fn the_hash_tells_apart_what_moved_between_rows() {
        let (ab, c) = (row("ab", 0), row("c", 0));
        let (a, bc) = (row("a", 0), row("bc", 0));
        assert_ne!(hash(&[ab, c]), hash(&[a, bc]));
    }
}
