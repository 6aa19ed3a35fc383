//! Where the engine has what belongs to a shard: its region, and the keys beside its entries.

/// Key of the vote of a shard.
pub(super) const VOTE: &[u8] = b"vote";
/// Key of what is known to be committed in a shard.
pub(super) const COMMITTED: &[u8] = b"committed";
/// Key of the index at which the log of a shard starts.
pub(super) const START: &[u8] = b"start";
/// Key of the last entry of a shard that was discarded.
pub(super) const DISCARDED: &[u8] = b"discarded";
/// Key of the number of rounds that touched a shard.
pub(super) const WRITES: &[u8] = b"writes";

/// The engine's name for a shard. It never uses zero.
pub(super) fn region(shard: u16) -> u64 {
    u64::from(shard) + 1
}
