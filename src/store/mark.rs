//! The high-water mark: how far each shard's log was acknowledged.
//!
//! A flipped bit in the framing of the newest log file makes the log open cleanly and shorter. The
//! mark lies in another file and turns that into a refusal to start: a voter that forgot what it
//! acknowledged would let the cluster lose it.
//!
//! A slot is written after the sync of the log and is itself synced about once a second: it may lag
//! behind the log, it never leads. Before the log is cut on purpose, the slot is lowered and synced.
//!
//! Layout: 32 bytes of header, then 32 bytes a shard, so that no slot crosses a sector.
//!
//! ```text
//! header  "mimimark" | version u16 | shards u16 | zero (16) | CRC32
//! slot    next u64 | writes u64 | zero (12) | CRC32 of the shard's number (u16) and the above
//! ```
//!
//! All numbers are little endian.

use super::files::{self, FileError};
use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

const MAGIC: [u8; 8] = *b"mimimark";
/// The version of the file.
pub(crate) const MARK_VERSION: u16 = 1;
/// Bytes of the header, and of each slot.
const SLOT_BYTES: usize = 32;
/// Bytes of a slot before its CRC.
const BODY_BYTES: usize = SLOT_BYTES - 4;

/// What a shard's slot says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// One more than the last index acknowledged; zero before the first.
    pub next: u64,
    /// Rounds of the log that touched this shard. It counts votes too, and rewritten entries.
    pub writes: u64,
}

/// Why the mark cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum MarkError {
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is a log but no mark beside it.
    #[error(
        "{path} is missing but the log beside it is not empty: restore it, \
         or rebuild this node from its peers", path = path.display()
    )]
    Missing {
        /// Where the mark should be.
        path: PathBuf,
    },
    /// The header is damaged, or the file is something else.
    #[error("{path} is damaged or no mark file: rebuild this node from its peers", path = path.display())]
    Header {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by a later version of this program.
    #[error("{path} has version {found}, this program knows {MARK_VERSION}: run a newer one", path = path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version in it.
        found: u16,
    },
    /// A shard's slot fails its checksum.
    #[error(
        "shard {shard}: its slot in {path} fails its checksum: this node must not vote; \
         rebuild it from its peers", path = path.display()
    )]
    Checksum {
        /// The file.
        path: PathBuf,
        /// The shard.
        shard: u16,
    },
    /// The node has another number of shards.
    #[error("{path} is for {found} shards, not {wanted}: the number of shards is fixed when a cluster is created", path = path.display())]
    Shards {
        /// The file.
        path: PathBuf,
        /// Shards it was made for.
        found: u16,
        /// Shards asked for.
        wanted: u16,
    },
}

/// The open mark file and what is in it.
#[derive(Debug)]
pub(crate) struct Mark {
    file: File,
    path: PathBuf,
    slots: Vec<Slot>,
    /// Slots were written since the last sync.
    dirty: bool,
}

impl Mark {
    /// Opens the mark at `path`; where there is none and `fresh` is set, makes one.
    pub(crate) fn open(path: &Path, shards: u16, fresh: bool) -> Result<Self, MarkError> {
        if !path.exists() {
            if !fresh {
                return Err(MarkError::Missing {
                    path: path.to_path_buf(),
                });
            }
            create(path, shards)?;
        }
        let bytes = files::on("read", path, fs::read(path))?;
        let slots = parse(path, &bytes, shards)?;
        let file = files::on(
            "open",
            path,
            File::options().read(true).write(true).open(path),
        )?;
        Ok(Self {
            file,
            path: path.to_path_buf(),
            slots,
            dirty: false,
        })
    }

    /// What the shard's slot says; nothing for an unknown shard.
    pub(crate) fn slot(&self, shard: u16) -> Slot {
        self.slots
            .get(usize::from(shard))
            .copied()
            .unwrap_or_default()
    }

    /// Writes a slot, without syncing it.
    pub(crate) fn set(&mut self, shard: u16, slot: Slot) -> Result<(), FileError> {
        let Some(known) = self.slots.get_mut(usize::from(shard)) else {
            return Ok(());
        };
        if *known == slot {
            return Ok(());
        }
        let offset = (u64::from(shard) + 1) * SLOT_BYTES as u64;
        let written = self.file.write_all_at(&encode(shard, slot), offset);
        files::on("write", &self.path, written)?;
        *known = slot;
        self.dirty = true;
        Ok(())
    }

    /// Lowers a slot to `next` and syncs it; does nothing where it is not higher.
    pub(crate) fn lower(&mut self, shard: u16, next: u64) -> Result<(), FileError> {
        let slot = self.slot(shard);
        if slot.next > next {
            self.set(shard, Slot { next, ..slot })?;
            self.sync()?;
        }
        Ok(())
    }

    /// Syncs what was written since the last time; true if there was something.
    pub(crate) fn sync(&mut self) -> Result<bool, FileError> {
        if !self.dirty {
            return Ok(false);
        }
        files::on("sync", &self.path, self.file.sync_data())?;
        self.dirty = false;
        Ok(true)
    }
}

fn create(path: &Path, shards: u16) -> Result<(), FileError> {
    let mut bytes = header(shards).to_vec();
    for shard in 0..shards {
        bytes.extend_from_slice(&encode(shard, Slot::default()));
    }
    let draft = path.with_extension("new");
    let mut file = files::on("create", &draft, File::create(&draft))?;
    files::on(
        "write",
        &draft,
        file.write_all(&bytes).and_then(|()| file.sync_all()),
    )?;
    files::on("rename into place", &draft, fs::rename(&draft, path))?;
    files::sync_dir(path.parent().unwrap_or(Path::new(".")))
}

fn header(shards: u16) -> [u8; SLOT_BYTES] {
    let mut body = [0; BODY_BYTES];
    let fields = MAGIC
        .into_iter()
        .chain(MARK_VERSION.to_le_bytes())
        .chain(shards.to_le_bytes());
    body.iter_mut()
        .zip(fields)
        .for_each(|(to, from)| *to = from);
    seal(&[], body)
}

fn encode(shard: u16, slot: Slot) -> [u8; SLOT_BYTES] {
    let mut body = [0; BODY_BYTES];
    let fields = slot
        .next
        .to_le_bytes()
        .into_iter()
        .chain(slot.writes.to_le_bytes());
    body.iter_mut()
        .zip(fields)
        .for_each(|(to, from)| *to = from);
    seal(&shard.to_le_bytes(), body)
}

fn seal(salt: &[u8], body: [u8; BODY_BYTES]) -> [u8; SLOT_BYTES] {
    let mut sealed = [0; SLOT_BYTES];
    let bytes = body.into_iter().chain(checksum(salt, &body));
    sealed
        .iter_mut()
        .zip(bytes)
        .for_each(|(to, from)| *to = from);
    sealed
}

fn checksum(salt: &[u8], body: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(salt);
    hasher.update(body);
    hasher.finalize().to_le_bytes()
}

/// The body of a sealed header or slot, if its checksum fits.
fn unseal<'a>(salt: &[u8], sealed: &'a [u8]) -> Option<&'a [u8; BODY_BYTES]> {
    let (body, crc) = sealed.split_first_chunk::<BODY_BYTES>()?;
    (crc == checksum(salt, body)).then_some(body)
}

fn parse(path: &Path, bytes: &[u8], wanted: u16) -> Result<Vec<Slot>, MarkError> {
    let path = || path.to_path_buf();
    let mut blocks = bytes.chunks(SLOT_BYTES);
    let (version, shards) = blocks
        .next()
        .and_then(|sealed| unseal(&[], sealed))
        .and_then(|body| body.strip_prefix(&MAGIC))
        .and_then(|rest| rest.split_first_chunk::<2>())
        .and_then(|(version, rest)| Some((version, rest.first_chunk::<2>()?)))
        .map(|(version, shards)| (u16::from_le_bytes(*version), u16::from_le_bytes(*shards)))
        .ok_or_else(|| MarkError::Header { path: path() })?;
    if version != MARK_VERSION {
        return Err(MarkError::Version {
            path: path(),
            found: version,
        });
    }
    if shards != wanted {
        return Err(MarkError::Shards {
            path: path(),
            found: shards,
            wanted,
        });
    }
    let mut slots = Vec::new();
    for shard in 0..shards {
        let slot = blocks
            .next()
            .and_then(|sealed| unseal(&shard.to_le_bytes(), sealed))
            .and_then(|body| body.split_first_chunk::<8>())
            .and_then(|(next, rest)| Some((next, rest.first_chunk::<8>()?)))
            .map(|(next, writes)| Slot {
                next: u64::from_le_bytes(*next),
                writes: u64::from_le_bytes(*writes),
            })
            .ok_or_else(|| MarkError::Checksum {
                path: path(),
                shard,
            })?;
        slots.push(slot);
    }
    Ok(slots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_read_back_and_a_lowered_one_stays_lowered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mark");
        let mut mark = Mark::open(&path, 4, true).unwrap();
        mark.set(
            2,
            Slot {
                next: 26,
                writes: 3,
            },
        )
        .unwrap();
        assert!(mark.sync().unwrap());
        assert!(!mark.sync().unwrap());
        mark.lower(2, 21).unwrap();
        mark.lower(2, 30).unwrap();
        drop(mark);

        let mark = Mark::open(&path, 4, false).unwrap();
        assert_eq!(
            mark.slot(2),
            Slot {
                next: 21,
                writes: 3
            }
        );
        assert_eq!(mark.slot(3), Slot::default());
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mark");
        let mut mark = Mark::open(&path, 3, true).unwrap();
        mark.set(
            1,
            Slot {
                next: 26,
                writes: 3,
            },
        )
        .unwrap();
        let good = fs::read(&path).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bad).unwrap();
            let error = Mark::open(&path, 3, false).unwrap_err();
            match (bit / 8 / SLOT_BYTES).checked_sub(1) {
                None => assert!(
                    matches!(error, MarkError::Header { .. }),
                    "bit {bit}: {error}"
                ),
                Some(slot) => assert!(
                    matches!(error, MarkError::Checksum { shard, .. } if usize::from(shard) == slot),
                    "bit {bit}: {error}"
                ),
            }
        }
    }

    #[test]
    fn a_slot_of_another_shard_does_not_pass_for_ones_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mark");
        drop(Mark::open(&path, 2, true).unwrap());
        let mut bytes = fs::read(&path).unwrap();
        bytes.copy_within(SLOT_BYTES..2 * SLOT_BYTES, 2 * SLOT_BYTES);
        fs::write(&path, &bytes).unwrap();
        let error = Mark::open(&path, 2, false).unwrap_err();
        assert!(
            matches!(error, MarkError::Checksum { shard: 1, .. }),
            "{error}"
        );
    }

    #[test]
    fn the_number_of_shards_is_fixed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mark");
        drop(Mark::open(&path, 2, true).unwrap());
        let error = Mark::open(&path, 3, false).unwrap_err();
        assert!(
            matches!(
                error,
                MarkError::Shards {
                    found: 2,
                    wanted: 3,
                    ..
                }
            ),
            "{error}"
        );
    }
}
