//! A shard that remembers what was applied, and nodes made of such shards.

use super::{
    log::batch::{Apply, Batch, DecodeError, StateError},
    raft::group::{Group, SNAPSHOT_ENTRIES},
};
use crate::store::{Disk, snapshot::Row};
use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How long a test waits for what must happen, in seconds.
const WAIT_S_MAX: u64 = 30;
/// How often it looks, in milliseconds.
const LOOK_INTERVAL_MS: u64 = 5;

/// Remembers what was applied, in order. A batch that begins with "keep" is pointed at until "release" and its index
/// is applied; "freeze" makes it unable to give its state.
#[derive(Default)]
pub(crate) struct Recorder {
    state: Mutex<Vec<(u64, Bytes)>>,
    /// Batches applied by this process.
    pub(crate) replayed: AtomicU64,
}

impl Recorder {
    pub(crate) fn applied(&self) -> Vec<(u64, Bytes)> {
        self.state.lock().unwrap().clone()
    }
}

impl Apply for Recorder {
    fn decode(&self, bytes: Bytes) -> Result<Batch, DecodeError> {
        if bytes.starts_with(b"poison") {
            return Err(DecodeError {
                reason: "poison".to_owned(),
            });
        }
        Ok(Batch::new(bytes, Arc::new(())))
    }

    fn apply(&self, index: u64, batch: Batch) -> BoxFuture<'_, ()> {
        assert_ne!(batch.bytes(), "bomb", "as if there were a bug");
        self.state
            .lock()
            .unwrap()
            .push((index, batch.bytes().clone()));
        self.replayed.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::ready(()))
    }

    fn pack(&self) -> BoxFuture<'_, Result<Vec<Row>, StateError>> {
        let state = self.applied();
        let packed = if state.iter().any(|(_, bytes)| bytes == "freeze") {
            Err(StateError::Frozen {
                who: "somebody".to_owned(),
                at: "1.0".to_owned(),
            })
        } else {
            let row = |(index, bytes): (u64, Bytes)| Row {
                key: index.to_be_bytes().to_vec(),
                value: bytes.to_vec(),
            };
            Ok(state.into_iter().map(row).collect())
        };
        Box::pin(std::future::ready(packed))
    }

    fn unpack(&self, rows: Vec<Row>) -> BoxFuture<'_, Result<(), StateError>> {
        *self.state.lock().unwrap() = entries_of(rows);
        Box::pin(std::future::ready(Ok(())))
    }

    fn pointed_in(&self, rows: &[Row], below: u64) -> Result<BTreeSet<u64>, StateError> {
        Ok(pointed(entries_of(rows.to_vec()), below))
    }

    fn pointed_at(&self, below: u64) -> BoxFuture<'_, Result<BTreeSet<u64>, StateError>> {
        Box::pin(std::future::ready(Ok(pointed(self.applied(), below))))
    }
}

fn entries_of(rows: Vec<Row>) -> Vec<(u64, Bytes)> {
    let entry = |row: Row| {
        let index = u64::from_be_bytes(row.key.try_into().unwrap());
        (index, Bytes::from(row.value))
    };
    rows.into_iter().map(entry).collect()
}

/// Entries that begin with `keep` are needed until one says `release` and their index.
fn pointed(state: Vec<(u64, Bytes)>, below: u64) -> BTreeSet<u64> {
    let released: Vec<_> = state
        .iter()
        .filter(|(_, bytes)| bytes.starts_with(b"release"))
        .map(|(_, bytes)| bytes.clone())
        .collect();
    let pointed = state
        .into_iter()
        .filter(|(index, bytes)| *index < below && bytes.starts_with(b"keep"))
        .filter(|(index, _)| !released.contains(&Bytes::from(format!("release {index}"))))
        .map(|(index, _)| index);
    pointed.collect()
}

/// A node of recording shards.
pub(crate) struct Node {
    pub(crate) disk: Disk,
    pub(crate) groups: Vec<(Group, Arc<Recorder>)>,
}

impl Node {
    pub(crate) async fn start(dir: &Path, shards: u16, log_bytes_max: u64) -> Self {
        Self::sealing(dir, shards, log_bytes_max, SNAPSHOT_ENTRIES).await
    }

    /// As [`Self::start`], with a snapshot after every `snapshot_entries` entries.
    pub(crate) async fn sealing(
        dir: &Path,
        shards: u16,
        log_bytes_max: u64,
        snapshot_entries: u64,
    ) -> Self {
        let disk = Disk::open(dir, shards, log_bytes_max).unwrap();
        let starts = (0..shards).map(|shard| {
            let disk = disk.clone();
            async move {
                let recorder = Arc::new(Recorder::default());
                let apply = recorder.clone();
                let group = Group::start(shard, 1, &disk, snapshot_entries, apply, None).await;
                (group.unwrap(), recorder)
            }
        });
        let groups = join_all(starts).await;
        Self { disk, groups }
    }

    pub(crate) async fn stop(self) {
        for (group, _) in &self.groups {
            group.stop().await;
        }
        drop(self.groups);
        self.disk.release().await.unwrap();
    }
}

pub(crate) fn batch(text: impl Into<Bytes>) -> Batch {
    Batch::new(text.into(), Arc::new(()))
}

/// Waits until something is true.
pub(crate) async fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(WAIT_S_MAX);
    while !is_true() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(LOOK_INTERVAL_MS)).await;
    }
}
