//! One round of writes: what waited of all shards, written with one sync.

use super::{
    files::{self, FileError},
    keys::{COMMITTED, START, VOTE, WRITES, region},
    log::Log,
    open::Extent,
    record::{Record, Records},
};
use bytes::Bytes;
use mimi_actors::limits::CLUSTER_FRAME_BYTES_MAX;
use raft_engine::LogBatch;
use std::{collections::BTreeMap, io};

/// Bytes after which the entries of a shard go into another block. A read fetches whole blocks.
const BLOCK_BYTES_TARGET: usize = 1 << 20;
/// Largest entry that is stored, in bytes: what came from another node came in a frame.
const ENTRY_BYTES_MAX: usize = CLUSTER_FRAME_BYTES_MAX;

/// What one shard wants written.
#[derive(Clone, Debug, Default)]
pub struct ShardWrite {
    /// The shard.
    pub shard: u16,
    /// Entries with their indexes, each one more than the one before.
    pub entries: Vec<(u64, Bytes)>,
    /// The vote to store from here on.
    pub vote: Option<Vec<u8>>,
    /// What to store as committed from here on.
    pub committed: Option<Vec<u8>>,
}

/// Why a write was not taken into a round. Nothing of it is written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteRefused {
    /// The entry does not follow the one before. Written, it would keep the log from ever opening.
    #[error("shard {shard}: entry {index} was offered, but {next} is next")]
    Gap {
        /// The shard.
        shard: u16,
        /// The entry that was offered.
        index: u64,
        /// The only one that may come.
        next: u64,
    },
    /// The node has no such shard.
    #[error("shard {shard}: there are only {shards}")]
    UnknownShard {
        /// The shard.
        shard: u16,
        /// How many there are, from zero.
        shards: u16,
    },
    /// The entry is too large for the engine.
    #[error("shard {shard}: entry {index} has {bytes} bytes, the limit is {ENTRY_BYTES_MAX}")]
    TooLarge {
        /// The shard.
        shard: u16,
        /// The entry.
        index: u64,
        /// Its size.
        bytes: usize,
    },
    /// The writer has stopped.
    #[error("the log writer has stopped")]
    Stopped,
}

/// Why a round was not written. Only [`WriteFault::Later`] may be tried again.
#[derive(Debug, thiserror::Error)]
pub enum WriteFault {
    /// The disk is full, or the system has run out of something else. The same round can be written again.
    #[error("the log cannot be written now: {0}")]
    Later(io::Error),
    /// The high-water mark could not be written.
    #[error("{0}")]
    Mark(FileError),
    /// The engine could not write.
    #[error("write the log: {0}; check the health of the disk")]
    Engine(raft_engine::Error),
}

/// What waits of one shard.
struct Pending {
    before: Extent,
    after: Extent,
    records: Vec<Record>,
    vote: Option<Vec<u8>>,
    committed: Option<Vec<u8>>,
}

/// Gathers writes of all shards, then writes them with one sync.
pub struct Round<'log> {
    log: &'log Log,
    shards: BTreeMap<u16, Pending>,
    bytes: usize,
    entries: usize,
}

impl<'log> Round<'log> {
    pub(super) fn new(log: &'log Log) -> Self {
        Self {
            log,
            shards: BTreeMap::new(),
            bytes: 0,
            entries: 0,
        }
    }

    /// Takes a write into the round, all of it or nothing.
    ///
    /// # Errors
    /// [`WriteRefused::Gap`] when an entry does not follow the one before.
    pub fn push(&mut self, write: ShardWrite) -> Result<(), WriteRefused> {
        let shard = write.shard;
        let Some(known) = self.log.extent(shard) else {
            return Err(WriteRefused::UnknownShard {
                shard,
                shards: self.log.shards(),
            });
        };
        let mut reached = self
            .shards
            .get(&shard)
            .map_or(known, |pending| pending.after);
        for (index, data) in &write.entries {
            let start = *reached.start.get_or_insert(*index);
            let next = reached.next.max(start);
            if *index != next || *index == u64::MAX {
                return Err(WriteRefused::Gap {
                    shard,
                    index: *index,
                    next,
                });
            }
            if data.len() > ENTRY_BYTES_MAX {
                return Err(WriteRefused::TooLarge {
                    shard,
                    index: *index,
                    bytes: data.len(),
                });
            }
            reached.next = next.saturating_add(1);
        }
        let pending = self.shards.entry(shard).or_insert_with(|| Pending {
            before: known,
            after: Extent {
                writes: known.writes.saturating_add(1),
                ..known
            },
            records: Vec::new(),
            vote: None,
            committed: None,
        });
        pending.after = Extent {
            writes: pending.after.writes,
            ..reached
        };
        self.entries += write.entries.len();
        for (index, data) in write.entries {
            let record = Record::new(index, data);
            self.bytes += record.len();
            pending.records.push(record);
        }
        pending.vote = write.vote.or(pending.vote.take());
        pending.committed = write.committed.or(pending.committed.take());
        Ok(())
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }

    /// Entries in this round.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// Bytes of the entries in this round.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Writes everything, syncs once, then raises the high-water marks.
    ///
    /// After [`WriteFault::Later`] it can be called again: what was already written is written
    /// over with itself.
    ///
    /// # Errors
    /// See [`WriteFault`].
    ///
    /// # Panics
    /// When the sync fails, inside raft-engine. The process must end then: what the disk holds is
    /// not known any more.
    pub fn write(&self) -> Result<(), WriteFault> {
        let mut blocks = Vec::new();
        for (shard, pending) in &self.shards {
            pending
                .blocks(*shard, &mut blocks)
                .map_err(WriteFault::Engine)?;
        }
        let last = blocks.len().saturating_sub(1);
        for (number, block) in blocks.iter_mut().enumerate() {
            let written = self
                .log
                .engine
                .write(block, number == last)
                .map_err(fault)?;
            self.log.grew(written);
        }
        for (shard, pending) in &self.shards {
            self.log.advance(*shard, pending.after)?;
        }
        Ok(())
    }
}

impl Pending {
    /// Splits what waits into blocks. A vote comes with the first entries written under it, and
    /// the count of writes with the last, which it vouches for.
    fn blocks(&self, shard: u16, blocks: &mut Vec<LogBatch>) -> raft_engine::Result<()> {
        let region = region(shard);
        let mut rest = self.records.as_slice();
        let mut first = true;
        loop {
            let (now, later) = rest.split_at(block_len(rest));
            rest = later;
            let mut block = LogBatch::with_capacity(5);
            block.add_entries::<Records>(region, now)?;
            if first {
                if let Some(vote) = &self.vote {
                    block.put(region, VOTE.to_vec(), vote.clone())?;
                }
                if let Some(committed) = &self.committed {
                    block.put(region, COMMITTED.to_vec(), committed.clone())?;
                }
                if let (None, Some(start)) = (self.before.start, self.after.start) {
                    block.put(region, START.to_vec(), start.to_le_bytes().to_vec())?;
                }
            }
            if rest.is_empty() {
                block.put(
                    region,
                    WRITES.to_vec(),
                    self.after.writes.to_le_bytes().to_vec(),
                )?;
            }
            blocks.push(block);
            if rest.is_empty() {
                return Ok(());
            }
            first = false;
        }
    }
}

/// How many of these records make one block; at least one where there is one.
fn block_len(records: &[Record]) -> usize {
    let mut bytes = 0;
    let fitting = records
        .iter()
        .take_while(|record| {
            bytes += record.len();
            bytes <= BLOCK_BYTES_TARGET
        })
        .count();
    fitting.max(records.len().min(1))
}

pub(super) fn fault(error: raft_engine::Error) -> WriteFault {
    if let raft_engine::Error::Io(source) = error {
        if files::may_pass(&source) {
            return WriteFault::Later(source);
        }
        return WriteFault::Engine(source.into());
    }
    WriteFault::Engine(error)
}

impl From<FileError> for WriteFault {
    fn from(error: FileError) -> Self {
        if files::may_pass(&error.source) {
            Self::Later(error.source)
        } else {
            Self::Mark(error)
        }
    }
}
