//! openraft's own tests of a log store, as far as they need no snapshots and discard nothing.

use super::*;
use crate::{
    cluster::{
        batch::{Apply, Batch, DecodeError},
        state_machine::StateMachine,
    },
    store::{log::Log, writer::LogWriter},
};
use bytes::Bytes;
use futures::future::BoxFuture;
use openraft::testing::{StoreBuilder, Suite};
use tempfile::TempDir;

struct Nothing;

impl Apply for Nothing {
    fn decode(&self, bytes: Bytes) -> Result<Batch, DecodeError> {
        Ok(Batch::new(bytes, Arc::new(())))
    }

    fn apply(&self, _index: u64, _batch: Batch) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

struct Builder;

impl StoreBuilder<Types, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError> {
        let dir = tempfile::tempdir().unwrap();
        let log = Arc::new(Log::open(dir.path(), 1).unwrap());
        let writer = LogWriter::start(log.clone(), u64::MAX).unwrap();
        let apply: Arc<dyn Apply> = Arc::new(Nothing);
        let tail = Tail::open(0, log, writer, apply.clone()).await.unwrap();
        Ok((dir, LogStore::new(tail), StateMachine::new(apply)))
    }
}

type Tests = Suite<Types, LogStore, StateMachine, Builder, TempDir>;

macro_rules! suite {
    ($($name:ident)*) => {$(
        #[tokio::test]
        async fn $name() {
            let (_dir, store, state_machine) = Builder.build().await.unwrap();
            Tests::$name(store, state_machine).await.unwrap();
        }
    )*};
}

// Those that are missing here discard entries (also by applying more than the log holds, which makes
// openraft do it) or build a snapshot. Both are refused in this version.
suite! {
    last_membership_in_log_initial
    last_membership_in_log
    last_membership_in_log_multi_step
    get_membership_initial
    get_membership_from_log_and_empty_sm
    get_membership_from_empty_log_and_sm
    get_membership_from_log_le_sm_last_applied
    get_membership_from_log_gt_sm_last_applied_1
    get_membership_from_log_gt_sm_last_applied_2
    get_initial_state_without_init
    get_initial_state_with_state
    get_initial_state_last_log_gt_sm
    save_vote
    get_log_entries
    limited_get_log_entries
    initial_logs
    last_applied_state
    delete_logs_since_11
    delete_logs_since_0
    apply_single
    apply_multiple
}

#[tokio::test]
async fn discarding_entries_is_refused_and_says_so() {
    let (_dir, mut store, _) = Builder.build().await.unwrap();
    let error = store.purge(LogId::default()).await.unwrap_err();
    assert!(error.to_string().contains("never discarded"), "{error}");
}
