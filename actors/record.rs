//! What lies in a shard's log: entries, each a batch of commands.
//!
//! An entry is stamped by the node that leads the shard; `apply` never lets time go back. The encoding is versioned
//! like a frame.

use crate::{
    ids::{RoomUri, UserUri},
    limits::ENTRY_COMMANDS_MAX,
    link,
    machine::Millis,
    mls::view::GroupView,
    room::{follower, hub},
    user,
    wire::{BVec, post::Notice},
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
}

impl Command {
    /// About how many bytes the command takes in the log: what it carries, and a little more.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const FRAME: usize = 256;
        let carried = match self {
            Self::Hub(_, command) => match &**command {
                hub::Command::Submit(submit) => payload_bytes(&submit.messages),
                hub::Command::Commit(commit) => {
                    let welcome = commit.welcome.as_ref().map_or(0, |welcome| welcome.len());
                    commit.commit.len() + welcome + commit.checked.next.bytes()
                }
                hub::Command::Create(create) => view_bytes(&create.view),
                hub::Command::Propose(propose) => propose
                    .proposals
                    .iter()
                    .map(|proposal| proposal.message.len() + 64)
                    .sum(),
                hub::Command::Grant(_)
                | hub::Command::KeepCode(_)
                | hub::Command::RevokeCode(_)
                | hub::Command::WrongCode(_) => 0,
            },
            Self::Follower(_, command) => follower_bytes(command),
            Self::User(_, command) => user_bytes(command),
            Self::Link(link::Command::Read { has }) => has.iter().map(link::Has::bytes).sum(),
            Self::Link(_) => 0,
        };
        FRAME + carried
    }
}

/// How many bytes the public state of a group takes.
fn view_bytes(view: &GroupView) -> usize {
    view.group_context.len() + view.group_info.len() + view.tree.len() + 128
}

fn payload_bytes(payloads: &[crate::wire::Payload]) -> usize {
    payloads.iter().map(|payload| payload.len() + 8).sum()
}

/// About how many bytes a command to a followed room carries.
pub(crate) fn follower_bytes(command: &follower::Command) -> usize {
    match command {
        follower::Command::Deliver(deliver) => deliver.bytes(),
        follower::Command::Queue(queue) => payload_bytes(&queue.messages),
        follower::Command::Reject(_) => 0,
    }
}

/// About how many bytes a command to a user carries.
pub(crate) fn user_bytes(command: &user::command::Command) -> usize {
    match command {
        user::command::Command::Upload(upload) => upload
            .packages
            .iter()
            .flatten()
            .map(|stored| stored.package.len() + 256)
            .sum(),
        user::command::Command::Deliver(deliver) => match &deliver.post.notice {
            Notice::Joined {
                welcome: Some(notice),
                ..
            } => notice.welcome.len() + notice.tree.len(),
            Notice::Joined { welcome: None, .. } | Notice::Left { .. } => 0,
        },
        user::command::Command::Add(_)
        | user::command::Command::Delete
        | user::command::Command::Consent(_)
        | user::command::Command::Revoke(_)
        | user::command::Command::Enrol(_)
        | user::command::Command::Claim(_)
        | user::command::Command::Hear(_)
        | user::command::Command::Ack(_)
        | user::command::Command::Introduction(_) => 0,
    }
}
