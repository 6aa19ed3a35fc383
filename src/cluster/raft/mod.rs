//! The openraft group of a shard: its members, who leads, what it has committed and sealed.

pub(crate) mod confirm;
pub(crate) mod election;
pub mod figures;
pub mod group;
pub mod group_error;
pub(crate) mod lead;
mod leadership;
pub(crate) mod members;
mod membership;
mod network;
pub(crate) mod sealing;
mod standing;
pub(crate) mod state_machine;
pub(crate) mod way;
