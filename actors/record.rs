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

impl Command {
    /// About how many bytes the command takes in the log: what it carries, and a little more.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const FRAME: usize = 256;
        let sum = |payloads: &[crate::wire::Payload]| -> usize {
            payloads.iter().map(|payload| payload.len() + 8).sum()
        };
        let carried = match self {
            Self::Hub(_, command) => match &**command {
                hub::Command::Submit(submit) => sum(&submit.messages),
                hub::Command::Commit(commit) => {
                    let welcome = commit.welcome.as_ref().map_or(0, |welcome| welcome.len());
                    commit.commit.len() + welcome + commit.checked.next.bytes()
                }
                hub::Command::Create(create) => create.view.bytes(),
                hub::Command::Propose(propose) => {
                    propose.proposals.iter().map(|proposal| proposal.message.len() + 64).sum()
                }
            },
            Self::Follower(_, command) => match &**command {
                follower::Command::Deliver(deliver) => deliver.bytes(),
                follower::Command::Queue(queue) => sum(&queue.messages),
                follower::Command::Reject(_) => 0,
            },
            Self::User(_, command) => command.bytes(),
            Self::Link(_) => 0,
        };
        FRAME + carried
    }
}
