//! What a node keeps on its disk.
//!
//! Owns: the [`log`] that all shards of the node share, the high-water [`mark`] beside it, the
//! [`writer`], the one thread that writes and syncs, sealed [`snapshot`]s, the [`backlog`] of
//! entries that outlive their part of the log, and the walks that [`scrub`] all of it. Promises: what the writer has answered survives
//! a power loss, and a log that came back shorter than what was answered refuses to open.
//! Not here: what an entry means, which `cluster` knows.

pub mod backlog;
mod ballast;
pub mod disk;
mod engine_files;
pub mod files;
mod keys;
mod load_threads;
pub mod log;
pub mod mark;
pub mod open;
pub mod record;
mod room;
pub mod round;
pub mod scrub;
pub mod snapshot;
pub mod snapshot_incoming;
mod snapshot_manifest;
mod snapshot_rows;
pub mod writer;

#[cfg(test)]
#[path = "full_disk_tests.rs"]
mod full_disk_tests;

pub use disk::{Disk, DiskError};
pub(crate) use mark::MARK_VERSION;
pub(crate) use snapshot_manifest::MANIFEST_VERSION;
