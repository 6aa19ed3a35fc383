//! openraft's own tests of a log store and a state machine, all of them.

use super::*;
use crate::{
    cluster::{
        log::batch::Apply,
        raft::{sealing::Sealing, state_machine::StateMachine},
        testing::Recorder,
    },
    store::Disk,
};
use openraft::testing::{StoreBuilder, Suite};
use tempfile::TempDir;

struct Builder;

impl StoreBuilder<Types, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError> {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path(), 1, u64::MAX).unwrap();
        let apply: Arc<dyn Apply> = Arc::new(Recorder::default());
        let tail = Tail::open(0, &disk, apply.clone()).await.unwrap();
        let sealing = Sealing::new(0, disk.snapshots, u64::MAX, Vec::new());
        let state_machine = StateMachine::new(apply, sealing);
        Ok((dir, LogStore::new(tail), state_machine))
    }
}

#[test]
fn the_whole_storage_suite_of_openraft_passes() {
    Suite::<Types, LogStore, StateMachine, Builder, TempDir>::test_all(Builder).unwrap();
}
