//! What follows from a shard's log: who is woken, what is read on, what goes to other shards, and what is forgotten.

pub(crate) mod client_acks;
pub(crate) mod entry_source;
pub(crate) mod notices;
pub(crate) mod peer_throttle;
pub(crate) mod retention;
pub(crate) mod tell_acks;
pub(crate) mod wake;
pub(crate) mod watchers;
