//! How openraft is used here: its types and its timing.

use super::batch::Batch;
use crate::store::snapshot::Sealed;
use mimi_actors::election::LEASE_MS;
use openraft::{BasicNode, Config, ConfigError, SnapshotPolicy, TokioRuntime};
use std::sync::Arc;

/// How often a leader reports to its voters, in milliseconds. Busy small machines elect at random when this is below a
/// quarter of a second; it is also how long an append may take.
const HEARTBEAT_MS: u64 = 300;
/// How long a voter may take to answer whether it votes for this one, in milliseconds. openraft takes it, and a little
/// more, for its lease too.
const VOTE_MS: u64 = 1_000;
const _: () = assert!(3 * HEARTBEAT_MS < VOTE_MS && VOTE_MS < LEASE_MS);
/// Entries in one message to a voter, at most. Each is a whole batch.
const MESSAGE_ENTRIES_MAX: u64 = 64;

openraft::declare_raft_types!(
    /// The types of this cluster. A snapshot is handed over as where it lies; nothing, where none was sealed.
    pub(crate) Types:
        D = Batch,
        R = (),
        NodeId = u64,
        Node = BasicNode,
        Entry = openraft::Entry<Types>,
        SnapshotData = Option<Sealed>,
        AsyncRuntime = TokioRuntime,
);

pub(crate) type Entry = openraft::Entry<Types>;
pub(crate) type LogId = openraft::LogId<u64>;
pub(crate) type Vote = openraft::Vote<u64>;
pub(crate) type Membership = openraft::Membership<u64, BasicNode>;
pub(crate) type StoredMembership = openraft::StoredMembership<u64, BasicNode>;
pub(crate) type Snapshot = openraft::Snapshot<Types>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<u64, BasicNode>;
pub(crate) type StorageError = openraft::StorageError<u64>;

/// Timing and limits of the group of one shard.
///
/// openraft never stands for election by itself: it has no pre-vote. `mimi_actors::election` says when.
pub(crate) fn config(shard: u16) -> Result<Arc<Config>, Box<ConfigError>> {
    let config = Config {
        cluster_name: format!("shard {shard}"),
        heartbeat_interval: HEARTBEAT_MS,
        enable_elect: false,
        election_timeout_min: VOTE_MS,
        election_timeout_max: LEASE_MS,
        max_payload_entries: MESSAGE_ENTRIES_MAX,
        // Both are asked for by `sealing`: openraft knows neither which snapshots are good nor what is still needed.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        ..Config::default()
    };
    config.validate().map(Arc::new).map_err(Box::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openraft_never_stands_for_election_and_its_lease_is_that_of_the_rules() {
        let config = config(3).unwrap();
        assert!(!config.enable_elect);
        assert_eq!(config.election_timeout_max, LEASE_MS);
    }
}
