//! What lies in a shard's log: entries, each a batch of commands.
//!
//! An entry is stamped by the node that leads the shard; `apply` never lets time go back. The encoding is versioned
//! like a frame.

use crate::{
    ids::{RoomUri, UserUri},
    limits::ENTRY_COMMANDS_MAX,
    link,
    machine::Millis,
    room::{follower, hub},
    user,
    wire::BVec,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One log entry: everything that waited.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The leader's clock when it was made.
    pub stamp: Millis,
    /// The commands, in order.
    pub commands: BVec<Command, ENTRY_COMMANDS_MAX>,
}

/// A command and whom it is for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// For a room at this hub.
    Hub(RoomUri, Arc<hub::Command>),
    /// For a room that this provider follows.
    Follower(RoomUri, Arc<follower::Command>),
    /// For a user of this provider.
    User(UserUri, Arc<user::command::Command>),
    /// For the links of this shard.
    Link(link::Command),
}
