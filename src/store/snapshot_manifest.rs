//! The manifest of a sealed snapshot: what it is of, and the hash of each of its files.
//!
//! ```text
//! "mimisnap" | version u8 | postcard manifest | BLAKE3 of all of the above
//! ```
//!
//! It is written last, so a snapshot without one was never finished.

use super::files::{self, FileError};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::Write,
    path::Path,
};

const MAGIC: [u8; 8] = *b"mimisnap";
/// The version of the file.
pub(crate) const MANIFEST_VERSION: u8 = 1;
/// Bytes of a hash.
const HASH_BYTES: usize = blake3::OUT_LEN;
/// Name of the manifest in the directory of its snapshot.
const NAME: &str = "manifest";

/// What is true of a sealed snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// The shard it is of.
    pub(super) shard: u16,
    /// One more than the last entry that is in it.
    pub(super) next: u64,
    /// Where it stands, in the words of whoever sealed it.
    pub(super) position: Vec<u8>,
    /// How many rows it has.
    pub(super) rows: u64,
    /// Hash of all rows, in order.
    pub(super) rows_hash: [u8; HASH_BYTES],
    /// Its files, in order of path.
    pub(super) files: Vec<SealedFile>,
}

/// One file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SealedFile {
    /// Path below the directory of the rows.
    pub(super) path: String,
    /// Its size.
    pub(super) bytes: u64,
    /// Hash of its bytes.
    pub(super) hash: [u8; HASH_BYTES],
}

/// Why a manifest does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is not what was written.
    #[error("the manifest fails its checksum")]
    Checksum,
    /// It was written by a later version of this program.
    #[error(
        "the manifest has version {found}, this program knows {MANIFEST_VERSION}: run a newer one"
    )]
    Version {
        /// The version in it.
        found: u8,
    },
    /// It is sound and not understood, which is a bug.
    #[error("the manifest is not understood")]
    Shape,
}

/// Whether the snapshot in `dir` was finished.
pub(super) fn exists(dir: &Path) -> bool {
    dir.join(NAME).exists()
}

/// Makes the snapshot in `dir` unfinished: the first step of deleting it.
pub(super) fn remove(dir: &Path) -> Result<(), FileError> {
    let path = dir.join(NAME);
    files::on("delete", &path, fs::remove_file(&path))?;
    files::sync_dir(dir)
}

/// The file of a manifest.
pub(super) fn encode(manifest: &Manifest) -> Result<Vec<u8>, postcard::Error> {
    let mut bytes = MAGIC.to_vec();
    bytes.push(MANIFEST_VERSION);
    let mut bytes = postcard::to_extend(manifest, bytes)?;
    let hash = blake3::hash(&bytes);
    bytes.extend_from_slice(hash.as_bytes());
    Ok(bytes)
}

/// Writes the manifest of the snapshot in `dir`, whole or not at all.
pub(super) fn write(dir: &Path, manifest: &Manifest) -> Result<(), FileError> {
    let encoded = encode(manifest).map_err(std::io::Error::other);
    write_encoded(dir, &files::on("encode", &dir.join(NAME), encoded)?)
}

/// Writes the file of a manifest, whole or not at all.
pub(super) fn write_encoded(dir: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let path = dir.join(NAME);
    let draft = path.with_extension("new");
    let mut file = files::on("create", &draft, File::create(&draft))?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    files::on("write", &draft, written)?;
    files::on("rename into place", &draft, fs::rename(&draft, &path))?;
    files::sync_dir(dir)
}

/// Reads the file of the manifest in `dir`.
pub(super) fn read_encoded(dir: &Path) -> Result<Vec<u8>, FileError> {
    let path = dir.join(NAME);
    files::on("read", &path, fs::read(&path))
}

/// Reads the manifest of the snapshot in `dir`.
pub(super) fn read(dir: &Path) -> Result<Result<Manifest, ManifestError>, FileError> {
    Ok(parse(&read_encoded(dir)?))
}

/// What the file of a manifest says.
pub(super) fn parse(bytes: &[u8]) -> Result<Manifest, ManifestError> {
    let (body, hash) = bytes
        .split_last_chunk::<HASH_BYTES>()
        .ok_or(ManifestError::Checksum)?;
    if blake3::hash(body) != *hash {
        return Err(ManifestError::Checksum);
    }
    let body = body.strip_prefix(&MAGIC).ok_or(ManifestError::Checksum)?;
    let (&found, body) = body.split_first().ok_or(ManifestError::Checksum)?;
    if found != MANIFEST_VERSION {
        return Err(ManifestError::Version { found });
    }
    match postcard::take_from_bytes(body) {
        Ok((manifest, [])) => Ok(manifest),
        Ok(_) | Err(_) => Err(ManifestError::Shape),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_reads_back_and_any_flipped_byte_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = Manifest {
            shard: 3,
            next: 17,
            position: b"position".to_vec(),
            rows: 2,
            rows_hash: [7; HASH_BYTES],
            files: vec![SealedFile {
                path: "db".to_owned(),
                bytes: 9,
                hash: [8; HASH_BYTES],
            }],
        };
        assert!(!exists(dir.path()));
        write(dir.path(), &manifest).unwrap();
        assert!(exists(dir.path()));
        assert_eq!(read(dir.path()).unwrap(), Ok(manifest));
        let bytes = fs::read(dir.path().join(NAME)).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(parse(&damaged), Err(ManifestError::Checksum), "byte {at}");
            assert!(parse(&bytes[..at]).is_err(), "{at} bytes");
        }
        remove(dir.path()).unwrap();
        assert!(!exists(dir.path()));
    }

    #[test]
    fn a_manifest_of_a_later_version_says_so() {
        let mut bytes = MAGIC.to_vec();
        bytes.push(9);
        let hash = blake3::hash(&bytes);
        bytes.extend_from_slice(hash.as_bytes());
        assert_eq!(parse(&bytes), Err(ManifestError::Version { found: 9 }));
    }
}
