//! What lies in a shard's log: entries, each a batch of commands.
//!
//! An entry is stamped by the node that leads the shard; `apply` never lets time go back. The encoding is versioned
//! like a frame.

use crate::{
    ids::{RoomUri, UserUri},
    limits::{ENTRY_COMMANDS_MAX, ENTRY_FILL_BYTES},
    link,
    machine::Millis,
    room::{follower, hub},
    shard::names,
    upgrade, user,
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
    /// A room is to have the name of a group.
    Name(names::Take),
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
            Self::Link(_) | Self::Level(_) | Self::Name(_) => 0,
        };
        FRAME + carried
    }

    /// What it is, if the first version of entries does not know it.
    fn is_of_second(&self) -> Option<&'static str> {
        match self {
            Self::Level(_) => Some("level of a shard"),
            Self::Name(_) => Some("name of a group"),
            Self::User(_, command) => command.is_of_second(),
            Self::Link(link::Command::GiveUp { .. }) => Some("end of what is owed to a provider"),
            Self::Hub(_, command) => command.is_of_second(),
            Self::Follower(..) | Self::Link(_) => None,
        }
    }
}

/// Commands on their way into an entry. A Welcome that several users get of one Commit lies in it once.
#[derive(Debug)]
pub struct Gathered {
    level: Level,
    commands: Vec<Command>,
    /// The numbers of the commands that hold a Welcome.
    welcomes: Vec<usize>,
    shared: u64,
    bytes: usize,
}

impl Gathered {
    /// Nothing yet, for a shard of that level.
    #[must_use]
    pub const fn new(level: Level) -> Self {
        Self {
            level,
            commands: Vec::new(),
            welcomes: Vec::new(),
            shared: 0,
            bytes: 0,
        }
    }

    /// Whether there may be room for another command: an entry is closed once it is full, but for notices that share a
    /// Welcome which it holds.
    #[must_use]
    pub fn may_take(&self) -> bool {
        let few = self.commands.len() < ENTRY_COMMANDS_MAX;
        few && (self.bytes < ENTRY_FILL_BYTES || self.holds_welcome())
    }

    /// Whether there is a Welcome in it, which others may be about to share.
    #[must_use]
    pub fn holds_welcome(&self) -> bool {
        !self.welcomes.is_empty()
    }

    /// How many notices share a Welcome with another.
    #[must_use]
    pub fn shared(&self) -> u64 {
        self.shared
    }

    /// How many commands there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.commands.len()
    }

    /// About how many bytes the entry takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a command.
    ///
    /// # Errors
    /// The command, when there is no room for it: it is for the next entry.
    pub fn push(&mut self, mut command: Command) -> Result<(), Command> {
        let full = self.bytes >= ENTRY_FILL_BYTES;
        if self.commands.len() >= ENTRY_COMMANDS_MAX {
            return Err(command);
        }
        if self.level < Level::SECOND
            && let Command::Follower(_, deliver) = &mut command
            && let follower::Command::Deliver(told) = &**deliver
            && let Some(before) = upgrade::deliver_in_1(told)
        {
            *deliver = Arc::new(follower::Command::Deliver(before));
        }
        if self.level >= Level::SECOND
            && let Command::User(user, notice) = &command
            && let user::command::Command::Deliver(deliver) = &**notice
        {
            match self.same_welcome(deliver) {
                Some(join) => {
                    self.shared += 1;
                    let join = user::command::Command::Join(join);
                    command = Command::User(user.clone(), Arc::new(join));
                }
                None if full => return Err(command),
                None => self.welcomes.push(self.commands.len()),
            }
        } else if full {
            return Err(command);
        }
        self.bytes += command.bytes();
        self.commands.push(command);
        Ok(())
    }

    /// The notice, if another one with the same Welcome is there already.
    fn same_welcome(&self, deliver: &user::command::Deliver) -> Option<user::command::Join> {
        let mut earlier = self.welcomes.iter();
        earlier.find_map(|number| {
            let Some(Command::User(_, other)) = self.commands.get(*number) else {
                return None;
            };
            let user::command::Command::Deliver(other) = &**other else {
                return None;
            };
            deliver.as_in(other, u32::try_from(*number).ok()?)
        })
    }

    /// The entry, with the leader's clock as it is now.
    #[must_use]
    pub fn entry(self, stamp: Millis) -> Entry {
        // There was room for each.
        let commands = BVec::first_max(self.commands);
        Entry { stamp, commands }
    }
}

impl Versioned for Entry {
    const FORMAT: Format = RECORD;

    fn write(&self, version: u8, out: Vec<u8>) -> Result<Vec<u8>, Unwritten> {
        if version < Level::SECOND.record()
            && let Some(what) = self.commands.iter().find_map(Command::is_of_second)
        {
            return Err(NotInVersion { version, what }.into());
        }
        Ok(postcard::to_extend(self, out)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{
        Payload,
        event::{Epoch, LinkSeq, RoomSeq},
        post::{Notice, Post, WelcomeNotice},
    };
    use user::command::Command as UserCommand;

    const WELCOME_BYTES: usize = 300 << 10;

    /// What `name` is told of the Commit whose Welcome begins with this byte.
    fn told(name: &str, of: u8) -> Command {
        let welcome = WelcomeNotice {
            epoch: Epoch(1),
            welcome: Payload::from(vec![of; WELCOME_BYTES]),
            tree: Payload::default(),
        };
        let deliver = user::command::Deliver {
            from_shard: 3,
            seq: LinkSeq(1),
            post: Post {
                room: "mimi://b.example/r/club".parse().unwrap(),
                clients: BVec::from([format!("mimi://a.example/d/{name}/phone").parse().unwrap()]),
                notice: Notice::Joined {
                    after: RoomSeq(4),
                    welcome: Some(welcome),
                },
            },
        };
        let user = format!("mimi://a.example/u/{name}").parse().unwrap();
        Command::User(user, Arc::new(UserCommand::Deliver(deliver)))
    }

    fn gathered(level: Level, all: impl IntoIterator<Item = Command>) -> Gathered {
        let mut gathered = Gathered::new(level);
        let mut all = all.into_iter();
        assert!(all.all(|command| gathered.may_take() && gathered.push(command).is_ok()));
        gathered
    }

    /// Of each command, the number of the one that holds its Welcome, if that is another.
    fn points(entry: &Entry) -> Vec<Option<u32>> {
        let of = |command: &Command| {
            let Command::User(_, command) = command else {
                return None;
            };
            let UserCommand::Join(join) = &**command else {
                return None;
            };
            Some(join.as_in)
        };
        entry.commands.iter().map(of).collect()
    }

    #[test]
    fn a_welcome_that_many_users_get_lies_in_the_entry_once() {
        let all = [
            ("bob", 1),
            ("bobby", 1),
            ("carol", 2),
            ("dave", 1),
            ("eve", 2),
        ];
        let told = || all.map(|(name, of)| told(name, of));
        let shared = gathered(Level::SECOND, told());
        let about = shared.bytes();
        let entry = shared.entry(Millis(1));
        assert_eq!(points(&entry), [None, Some(0), None, Some(0), Some(2)]);
        let written = crate::wire::encode_in(2, &entry, about).unwrap();
        assert!((2 * WELCOME_BYTES..3 * WELCOME_BYTES).contains(&written.len()));
        assert!(about.abs_diff(written.len()) < 4_096);
        assert!(crate::wire::encode_in(1, &entry, about).is_err());

        let each = gathered(Level::FIRST, told()).entry(Millis(1));
        assert_eq!(points(&each), [None; 5]);
        assert!(crate::wire::encode_in(1, &each, about).is_ok());
    }

    #[test]
    fn an_entry_that_is_full_takes_what_shares_a_welcome_and_nothing_else() {
        let mut full = gathered(Level::SECOND, (1..=7).map(|of| told("bob", of)));
        let link = || Command::Level(Level::SECOND);
        assert!(full.may_take(), "others may share one of them");
        assert_eq!(full.push(told("bobby", 2)), Ok(()));
        assert_eq!(full.push(told("bobby", 8)), Err(told("bobby", 8)));
        assert_eq!(full.push(link()), Err(link()));
        assert_eq!(full.entry(Millis(1)).commands.len(), 8);

        let mut before = gathered(Level::FIRST, [1; 7].map(|of| told("bob", of)));
        assert!(!before.may_take());
        assert_eq!(before.push(told("bob", 1)), Err(told("bob", 1)));
    }
}
