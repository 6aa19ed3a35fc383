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
    wire::{
        BVec, Unwritten, Versioned,
        version::{Format, Level, NotInVersion, RECORD},
    },
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

impl AsRef<Self> for Entry {
    fn as_ref(&self) -> &Self {
        self
    }
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
    /// From the next entry on the shard is of this level.
    Level(Level),
}

impl Command {
    /// About how many bytes the command takes in the log: what it carries, and a little more.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const FRAME: usize = 256;
        let carried = match self {
            Self::Hub(_, command) => command.bytes(),
            Self::Follower(_, command) => command.bytes(),
            Self::User(_, command) => command.bytes(),
            Self::Link(link::Command::Read { has }) => {
                has.iter().map(link::ReadProgress::bytes).sum()
            }
            Self::Link(_) | Self::Level(_) => 0,
        };
        FRAME + carried
    }
}

impl Versioned for Entry {
    const FORMAT: Format = RECORD;

    fn write(&self, version: u8, out: Vec<u8>) -> Result<Vec<u8>, Unwritten> {
        for command in &self.commands {
            let what = match command {
                Command::Level(_) => "level of a shard",
                Command::Link(link::Command::GiveUp { .. }) => "end of what is owed to a provider",
                Command::Hub(..) | Command::Follower(..) | Command::User(..) | Command::Link(_) => {
                    continue;
                }
            };
            if version < Level::SECOND.record() {
                return Err(NotInVersion { version, what }.into());
            }
        }
        Ok(postcard::to_extend(self, out)?)
    }
}
