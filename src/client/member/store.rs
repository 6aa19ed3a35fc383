//! The state file of a member: everything in one file, replaced atomically.
//!
//! Promises: after a crash the file is the old one or the new one, never a mixture; it is readable by its owner only.

use super::{MemberError, record::Record};
use bytes::Bytes;
use mimi_actors::{
    versioned,
    wire::{self, Payload, version::Format},
};
use openmls_rust_crypto::{MemoryStorage, OpenMlsRustCrypto};
use openmls_traits::OpenMlsProvider as _;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::PoisonError,
};

/// What the state file holds.
#[derive(Serialize, Deserialize)]
pub(super) struct Saved {
    /// The device key, PKCS#8.
    pub(super) device: Payload,
    /// The public part of the MLS signature key; the private one is among `values`.
    pub(super) signature_key: Payload,
    /// The numbers, cursors and journal.
    pub(super) record: Record,
    /// The entries of OpenMLS's storage.
    pub(super) values: Vec<(Payload, Payload)>,
}

/// All entries of OpenMLS's storage, in a stable order.
pub(super) fn entries(provider: &OpenMlsRustCrypto) -> Vec<(Payload, Payload)> {
    let values = provider
        .storage()
        .values
        .read()
        .unwrap_or_else(PoisonError::into_inner);
    let mut entries: Vec<_> = values
        .iter()
        .map(|(key, value)| (Payload::from(key.clone()), Payload::from(value.clone())))
        .collect();
    entries.sort();
    entries
}

/// A provider whose storage holds these entries.
pub(super) fn provider(entries: Vec<(Payload, Payload)>) -> OpenMlsRustCrypto {
    let provider = OpenMlsRustCrypto::default();
    let storage: &MemoryStorage = provider.storage();
    storage
        .values
        .write()
        .unwrap_or_else(PoisonError::into_inner)
        .extend(
            entries
                .into_iter()
                .map(|(key, value)| (key.to_vec(), value.to_vec())),
        );
    provider
}

/// Replaces the state file.
pub(super) fn write(path: &Path, bytes: &Bytes) -> Result<(), MemberError> {
    replace(path, bytes).map_err(|source| MemberError::State {
        path: path.to_owned(),
        detail: source.to_string(),
    })
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // Without this a power loss may bring the old name back.
    File::open(directory)?.sync_all()
}

/// Reads the state file.
pub(super) fn read(path: &Path) -> Result<Saved, MemberError> {
    let bad = |detail: String| MemberError::State {
        path: path.to_owned(),
        detail,
    };
    let bytes = fs::read(path).map_err(|error| bad(error.to_string()))?;
    wire::decode(&Bytes::from(bytes)).map_err(|error| bad(error.to_string()))
}

/// The state file of a member.
const STATE: Format = Format {
    name: "member's state",
    newest: 1,
    oldest: 1,
};

versioned!(STATE; Saved);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_file_is_replaced_whole_and_a_damaged_one_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("member");
        write(&path, &Bytes::from_static(b"one")).unwrap();
        write(&path, &Bytes::from_static(b"two")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert!(matches!(read(&path), Err(MemberError::State { .. })));
    }
}
