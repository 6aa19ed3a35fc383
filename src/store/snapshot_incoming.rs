//! A snapshot that comes from another node, piece by piece.
//!
//! Promises: what has arrived is kept over a cut or a restart for as long as the same snapshot is offered; it is used
//! only when every byte of it is what the manifest says; nothing outside its own directory is written.

use super::{
    files::{self, FileError},
    snapshot::{Sealed, SnapshotError, Snapshots},
    snapshot_manifest::{self as manifest, Manifest},
    snapshot_rows as rows,
};
use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    path::{Component, Path, PathBuf},
};

/// Files of one snapshot, at most.
const FILES_MAX: usize = 4_096;
/// Bytes of one snapshot that is taken over, at most.
const SNAPSHOT_BYTES_MAX: u64 = 256 << 30;
/// Bytes of one piece, at most.
pub const PIECE_BYTES_MAX: usize = 1 << 20;

/// A snapshot on its way here.
#[derive(Debug)]
pub struct Incoming {
    dir: PathBuf,
    manifest: Manifest,
    encoded: Vec<u8>,
}

impl Snapshots {
    /// Begins to take a snapshot whose sealed manifest is `encoded`, or goes on with it.
    ///
    /// # Errors
    /// [`SnapshotError`] when the manifest is damaged, of another shard, or names what no snapshot of ours would.
    pub fn begin_incoming(&self, shard: u16, encoded: &[u8]) -> Result<Incoming, SnapshotError> {
        let dir = self.incoming_dir(shard);
        let refuse = |what| SnapshotError::Changed {
            path: dir.clone(),
            what,
        };
        let manifest = manifest::parse(encoded).map_err(|source| SnapshotError::Manifest {
            path: dir.clone(),
            source,
        })?;
        if manifest.shard != shard {
            return Err(refuse("it is of another shard"));
        }
        let bytes = manifest.files.iter().map(|file| file.bytes);
        let bytes = bytes.fold(0_u64, u64::saturating_add);
        if manifest.files.len() > FILES_MAX || bytes > SNAPSHOT_BYTES_MAX {
            return Err(refuse("it is larger than any that is taken over"));
        }
        let inside = |path: &str| {
            let mut parts = Path::new(path).components();
            !path.is_empty() && parts.all(|part| matches!(part, Component::Normal(_)))
        };
        if !manifest.files.iter().all(|file| inside(&file.path)) {
            return Err(refuse("it names a file outside its directory"));
        }
        let offered = dir.join("offered");
        if fs::read(&offered).ok().as_deref() != Some(encoded) {
            files::remove_dir(&dir)?;
            files::create_dir(&dir)?;
            files::on("write", &offered, fs::write(&offered, encoded))?;
        }
        Ok(Incoming {
            dir,
            manifest,
            encoded: encoded.to_vec(),
        })
    }

    /// Deletes what has come of a snapshot.
    ///
    /// # Errors
    /// [`FileError`] when the file system refuses.
    pub fn drop_incoming(&self, shard: u16) -> Result<(), FileError> {
        files::remove_dir(&self.incoming_dir(shard))
    }
}

impl Incoming {
    /// How many files it has.
    #[must_use]
    pub fn files(&self) -> usize {
        self.manifest.files.len()
    }

    /// From where file `number` is wanted; `None` when it is here, or there is no such file.
    ///
    /// # Errors
    /// [`FileError`] when the file system refuses.
    pub fn wanted(&self, number: usize) -> Result<Option<u64>, FileError> {
        let Some(file) = self.manifest.files.get(number) else {
            return Ok(None);
        };
        let path = self.db().join(&file.path);
        let here = match fs::metadata(&path) {
            Ok(meta) => meta.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if let Some(parent) = path.parent() {
                    files::create_dir(parent)?;
                }
                files::on("create", &path, File::create(&path))?;
                0
            }
            Err(error) => return files::on("inspect", &path, Err(error)),
        };
        Ok((here < file.bytes).then_some(here))
    }

    /// Adds a piece to file `number`.
    ///
    /// # Errors
    /// [`SnapshotError::Changed`] when it makes the file longer than it was sealed, or brings nothing.
    pub fn add(&self, number: usize, piece: &[u8]) -> Result<(), SnapshotError> {
        let file = self.manifest.files.get(number);
        let path = file.map_or_else(|| self.db(), |file| self.db().join(&file.path));
        let here = files::on("inspect", &path, fs::metadata(&path))?.len();
        let room = file.map_or(0, |file| file.bytes).saturating_sub(here);
        if piece.is_empty() || piece.len() as u64 > room {
            let what = "what came is shorter or longer than what was sealed";
            return Err(SnapshotError::Changed { path, what });
        }
        let added = OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(piece));
        Ok(files::on("write", &path, added)?)
    }

    /// The snapshot, once all of it is here and is what was sealed.
    ///
    /// # Errors
    /// [`SnapshotError::Changed`] names the file that is not; then what has come is of no use.
    pub fn finish(self) -> Result<Sealed, SnapshotError> {
        let db = self.db();
        files::create_dir(&db)?;
        let sealed = Sealed::new(self.dir, self.manifest);
        sealed.check(&rows::describe(&db)?)?;
        manifest::write_encoded(sealed.dir(), &self.encoded)?;
        Ok(sealed)
    }

    fn db(&self) -> PathBuf {
        self.dir.join("db")
    }
}

impl Sealed {
    /// Its manifest, as its file holds it.
    ///
    /// # Errors
    /// [`FileError`] when it cannot be read.
    pub fn manifest(&self) -> Result<Vec<u8>, FileError> {
        manifest::read_encoded(self.dir())
    }

    /// A piece of file `number` from `offset`; empty at its end or where there is no such file.
    ///
    /// # Errors
    /// [`FileError`] when it cannot be read.
    pub fn piece(&self, number: usize, offset: u64) -> Result<Vec<u8>, FileError> {
        let Some(path) = self.file(number) else {
            return Ok(Vec::new());
        };
        let mut piece = Vec::new();
        let read = File::open(&path).and_then(|mut file| {
            file.seek(SeekFrom::Start(offset))?;
            file.take(PIECE_BYTES_MAX as u64).read_to_end(&mut piece)
        });
        files::on("read", &path, read)?;
        Ok(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::snapshot::Row;

    fn rows() -> Vec<Row> {
        let row = |number: u8| Row {
            key: vec![number],
            value: vec![number; 40_000],
        };
        (0..60).map(row).collect()
    }

    fn two() -> (tempfile::TempDir, Snapshots, Snapshots) {
        let dir = tempfile::tempdir().unwrap();
        let from = Snapshots::open(&dir.path().join("from")).unwrap();
        let to = Snapshots::open(&dir.path().join("to")).unwrap();
        (dir, from, to)
    }

    #[test]
    fn a_snapshot_arrives_in_pieces_also_after_a_cut_and_reads_back() {
        let (_dir, from, to) = two();
        let sealed = from.seal(3, 17, b"place".to_vec(), &rows()).unwrap();
        let encoded = sealed.manifest().unwrap();
        let mut pieces = 0;
        let incoming = loop {
            // Each round begins anew, as after a cut.
            let incoming = to.begin_incoming(3, &encoded).unwrap();
            let mut files = 0..incoming.files();
            let Some((file, offset)) =
                files.find_map(|file| Some((file, incoming.wanted(file).unwrap()?)))
            else {
                break incoming;
            };
            let piece = sealed.piece(file, offset).unwrap();
            assert!(piece.len() <= PIECE_BYTES_MAX);
            incoming.add(file, &piece).unwrap();
            pieces += 1;
        };
        assert!(pieces > 2, "{pieces}");
        let arrived = incoming.finish().unwrap();
        assert_eq!((arrived.next(), arrived.position()), (17, &b"place"[..]));
        assert_eq!(to.load(&arrived).unwrap(), rows());
        to.drop_incoming(3).unwrap();
        assert!(!arrived.dir().exists());
    }

    #[test]
    fn wrong_bytes_too_many_bytes_and_another_shard_are_refused() {
        let (_dir, from, to) = two();
        let sealed = from.seal(3, 17, b"place".to_vec(), &rows()).unwrap();
        let encoded = sealed.manifest().unwrap();
        assert!(to.begin_incoming(4, &encoded).is_err());
        let mut damaged = encoded.clone();
        damaged[20] ^= 1;
        assert!(to.begin_incoming(3, &damaged).is_err());

        let incoming = to.begin_incoming(3, &encoded).unwrap();
        for file in 0..incoming.files() {
            while let Some(offset) = incoming.wanted(file).unwrap() {
                let mut piece = sealed.piece(file, offset).unwrap();
                piece[0] ^= 1;
                incoming.add(file, &piece).unwrap();
            }
        }
        let error = incoming.add(0, b"more").unwrap_err();
        assert!(error.to_string().contains("longer"), "{error}");
        let error = incoming.finish().unwrap_err();
        assert!(error.to_string().contains("another hash"), "{error}");
    }

    #[test]
    fn a_file_outside_the_directory_is_never_named() {
        let (_dir, from, to) = two();
        let sealed = from.seal(3, 17, b"place".to_vec(), &rows()).unwrap();
        for path in ["../../escape", "/tmp/escape", "", "a/../../b"] {
            let mut manifest = manifest::parse(&sealed.manifest().unwrap()).unwrap();
            manifest.files[0].path = path.to_owned();
            let encoded = manifest::encode(&manifest).unwrap();
            let error = to.begin_incoming(3, &encoded).unwrap_err();
            assert!(error.to_string().contains("outside"), "{path}: {error}");
        }
    }
}
