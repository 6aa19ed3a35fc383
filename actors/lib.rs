//! What the actors of a MIMI provider node know and decide.
//!
//! Pure: no runtime, clock, randomness, file or socket, except in the host behind the feature `runtime`.

pub mod bucket;
pub mod caller;
pub mod clock;
pub mod doors;
pub mod election;
pub mod group_info;
pub mod ids;
pub mod kind;
pub mod limits;
pub mod link;
pub mod links;
pub mod machine;
pub mod membership;
pub mod mls;
pub mod policy;
pub mod record;
pub mod room;
pub mod shard;
pub mod shard_request;
pub mod upgrade;
pub mod user;
pub mod way;
pub mod wire;

#[cfg(feature = "runtime")]
pub mod host;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(feature = "runtime")]
pub mod supervisor;
