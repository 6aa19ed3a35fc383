//! How openraft is used here: its types and its timing.

use super::batch::Batch;
use crate::store::snapshot::Sealed;
use openraft::{BasicNode, Config, ConfigError, SnapshotPolicy, TokioRuntime};
use std::{sync::Arc, time::Duration};

/// How often a leader reports to its voters, in milliseconds. Busy small machines elect at random when this is below a
/// quarter of a second; it is also how long an append may take.
const HEARTBEAT_MS: u64 = 300;
/// Voters of a shard stand for election one after the other, in so many turns. openraft draws a voter's patience once,
/// when it starts: two that drew nearly the same would split the votes again and again.
const TURNS: u64 = 3;
/// How long a voter of the first turn waits before it stands for election, in milliseconds, once its leader's lease is
/// over.
const ELECTION_MS_MIN: u64 = 1_000;
/// By how much the next turn waits longer, in milliseconds.
const TURN_MS: u64 = 200;
/// Within a turn the patience is drawn from so many milliseconds.
const DRAWN_MS: u64 = 50;
/// For how long after a leader's last word a voter votes for nobody else, at most, in milliseconds. openraft waits a
/// voter's lease and its patience on top of that: a leader that is killed is followed by another after 2 to 3.5 s.
pub(crate) const LEASE_MS: u64 = ELECTION_MS_MIN + (TURNS - 1) * TURN_MS + DRAWN_MS;
const _: () = assert!(3 * HEARTBEAT_MS < ELECTION_MS_MIN && DRAWN_MS < TURN_MS);
// Nobody stands while another's lease may last.
const _: () = assert!(LEASE_MS < 2 * ELECTION_MS_MIN);
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

/// How long a voter of one shard waits, in milliseconds.
fn patience_ms(shard: u16, node: u64) -> u64 {
    let turn = (node % TURNS + u64::from(shard)) % TURNS;
    ELECTION_MS_MIN + turn * TURN_MS
}

/// How long after its leader's last word a voter of one shard stands for election at the latest: a little after openraft
/// should have seen to it.
///
/// openraft 0.9 makes a voter that once lost an election to a longer log wait twice its lease more, also when that was
/// long ago and the voter is now the only one that can win.
pub(crate) fn overdue(shard: u16, node: u64) -> Duration {
    Duration::from_millis(2 * (patience_ms(shard, node) + DRAWN_MS) + HEARTBEAT_MS)
}

/// Timing and limits of the group of one shard on one node.
pub(crate) fn config(shard: u16, node: u64) -> Result<Arc<Config>, Box<ConfigError>> {
    let patience = patience_ms(shard, node);
    let config = Config {
        cluster_name: format!("shard {shard}"),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: patience,
        election_timeout_max: patience + DRAWN_MS,
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
    fn three_neighbours_never_stand_for_election_at_the_same_time() {
        for shard in 0..16 {
            let mut windows: Vec<_> = (4..7)
                .map(|node| {
                    let config = config(shard, node).unwrap();
                    (config.election_timeout_min, config.election_timeout_max)
                })
                .collect();
            windows.sort_unstable();
            for pair in windows.windows(2) {
                // openraft waits the lease, which is the upper end, and the patience.
                let (latest, earliest) = (2 * pair[0].1, pair[1].0 + pair[1].1);
                assert!(latest + 250 <= earliest, "{windows:?}");
            }
            assert!(windows.iter().all(|(_, lease)| *lease <= LEASE_MS));
        }
    }
}
