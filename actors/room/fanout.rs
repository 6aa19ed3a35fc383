//! From a command in the log back to the events that it made: for another provider, or for a local client.
//!
//! Nothing is stored for delivery but positions; the bytes are the command's.
//!
//! Source: transport requirements, section 5.

use super::{
    follower,
    hub::{self, Enter},
};
use crate::{
    ids::{ClientUri, ProviderId},
    limits::PROPOSALS_PER_BUNDLE_MAX,
    machine::Millis,
    mls::check::proposal::PendingProposal,
    wire::{
        BVec, Payload,
        door::RoomBody,
        event::{Body, CommitEvent, Copy, Entered, Event, Invitation, Item, RoomSeq},
        post::{Change, Notice, UserNotice, WelcomeNotice},
        room::Proposals,
    },
};

/// Event `seq`, made by item `item` of `command`, as `provider` gets it; `None` when the command made no such event.
#[must_use]
pub fn event_for(
    provider: &ProviderId,
    copy: &Copy,
    seq: RoomSeq,
    time: Millis,
    command: &hub::Command,
    item: u32,
) -> Option<Event> {
    let body = match (copy, command) {
        (Copy::Own(submit), _) => Body::Own(*submit),
        (Copy::Full, hub::Command::Submit(submit)) => {
            Body::Application(submit.messages.get(item as usize)?.clone())
        }
        (Copy::Full, hub::Command::Propose(propose)) => {
            Body::Proposals(messages(&propose.proposals))
        }
        (Copy::Full, hub::Command::Expel(expel)) => Body::Proposals(messages(&expel.proposals)),
        (Copy::Full, hub::Command::Enter(enter)) if item == Enter::AGAIN => {
            Body::Proposals(messages(&enter.again))
        }
        (Copy::Full, hub::Command::Commit(commit) | hub::Command::Enter(Enter { commit, .. })) => {
            Body::Commit(CommitEvent {
                epoch: commit.on.epoch.next(),
                commit: commit.commit.clone(),
                left: left(provider, commit),
                entered: entered(provider, commit).map(|entered| entered.client),
                invitation: invitation(provider, commit),
            })
        }
        (
            Copy::Invitation,
            hub::Command::Commit(commit) | hub::Command::Enter(Enter { commit, .. }),
        ) => match entered(provider, commit) {
            Some(entered) => Body::Entered(entered),
            None => Body::Invited(invitation(provider, commit)?),
        },
        (
            Copy::Full,
            hub::Command::Create(_)
            | hub::Command::Grant(_)
            | hub::Command::KeepCode(_)
            | hub::Command::RevokeCode(_)
            | hub::Command::WrongCode(_)
            | hub::Command::Depart(_),
        )
        | (Copy::Invitation, _) => return None,
    };
    Some(Event { seq, time, body })
}

fn messages(proposals: &[PendingProposal]) -> Proposals {
    let all = proposals.iter();
    BVec::first_max(all.map(|proposal| Payload(proposal.message.clone())))
}

/// The clients of `provider` that leave with a Commit. One that replaces its own leaf does not.
fn left(provider: &ProviderId, commit: &hub::Commit) -> BVec<ClientUri, PROPOSALS_PER_BUNDLE_MAX> {
    let stays = |client: &ClientUri| commit.checked.external && *client == commit.sender;
    commit.checked.left.refs().filter_map(|member| {
        let client = &member.client;
        (client.provider() == provider && !stays(client)).then(|| client.clone())
    })
}

/// The client of `provider` that joins with a Commit by itself.
fn entered(provider: &ProviderId, commit: &hub::Commit) -> Option<Entered> {
    let own = commit.checked.external && commit.sender.provider() == provider;
    own.then(|| Entered {
        epoch: commit.on.epoch.next(),
        client: commit.sender.clone(),
    })
}

/// The Welcome for the clients of `provider` that a Commit adds.
fn invitation(provider: &ProviderId, commit: &hub::Commit) -> Option<Invitation> {
    let clients = commit.checked.joined.refs().filter_map(|joined| {
        let client = &joined.client;
        (client.provider() == provider).then(|| client.clone())
    });
    if clients.is_empty() {
        return None;
    }
    Some(Invitation {
        epoch: commit.on.epoch.next(),
        clients,
        welcome: commit.welcome.clone()?,
        tree: Payload(commit.checked.next.whole_tree()?.clone()),
    })
}

/// What a member at the hub reads of an event.
#[must_use]
pub fn hub_body(command: &hub::Command, item: u32) -> Option<RoomBody> {
    match command {
        hub::Command::Create(_)
        | hub::Command::Grant(_)
        | hub::Command::KeepCode(_)
        | hub::Command::RevokeCode(_)
        | hub::Command::WrongCode(_)
        | hub::Command::Depart(_) => None,
        hub::Command::Submit(submit) => submit
            .messages
            .get(item as usize)
            .cloned()
            .map(RoomBody::Application),
        hub::Command::Propose(propose) => Some(RoomBody::Proposals(messages(&propose.proposals))),
        hub::Command::Expel(expel) => Some(RoomBody::Proposals(messages(&expel.proposals))),
        hub::Command::Enter(enter) if item == Enter::AGAIN => {
            Some(RoomBody::Proposals(messages(&enter.again)))
        }
        hub::Command::Commit(commit) | hub::Command::Enter(Enter { commit, .. }) => {
            Some(RoomBody::Commit {
                epoch: commit.on.epoch.next(),
                commit: commit.commit.clone(),
            })
        }
    }
}

/// What a member at a follower reads of an event.
#[must_use]
pub fn follower_body(command: &follower::Command, item: u32) -> Option<RoomBody> {
    match command {
        follower::Command::Reject(_) => None,
        follower::Command::Queue(queue) => queue
            .messages
            .get(item as usize)
            .cloned()
            .map(RoomBody::Application),
        follower::Command::Deliver(deliver) => match deliver.items.get(item as usize)? {
            Item::Refused { .. }
            | Item::Refilled { .. }
            | Item::Departed { .. }
            | Item::Consent(_) => None,
            Item::Event(event) => match &event.body {
                Body::Application(message) => Some(RoomBody::Application(message.clone())),
                Body::Proposals(messages) => Some(RoomBody::Proposals(messages.clone())),
                Body::Commit(commit) => {
                    let (epoch, commit) = (commit.epoch, commit.commit.clone());
                    Some(RoomBody::Commit { epoch, commit })
                }
                Body::Invited(_) | Body::Entered(_) | Body::Own(_) => None,
            },
        },
    }
}

/// Whether a command of the hub is the Commit that removes a client for good: it does not join again with it.
#[must_use]
pub fn hub_removes(command: &hub::Command, client: &ClientUri) -> bool {
    let Some(commit) = command.commit() else {
        return false;
    };
    let (left, joined) = (&commit.checked.left, &commit.checked.joined);
    left.iter().any(|member| member.client == *client)
        && joined.iter().all(|member| member.client != *client)
}

/// Whether an item that the hub delivered is the Commit that removes a client for good.
#[must_use]
pub fn follower_removes(command: &follower::Command, item: u32, client: &ClientUri) -> bool {
    let follower::Command::Deliver(deliver) = command else {
        return false;
    };
    let Some(Item::Event(event)) = deliver.items.get(item as usize) else {
        return false;
    };
    let Body::Commit(commit) = &event.body else {
        return false;
    };
    let invited = commit.invitation.as_ref();
    commit.left.contains(client)
        && invited.is_none_or(|invitation| !invitation.clients.contains(client))
}

/// The notice that a user gets, with its Welcome out of the hub's command.
#[must_use]
pub fn hub_notice(notice: &UserNotice, command: &hub::Command) -> Option<Notice> {
    match (notice.change, command) {
        (Change::Left { upto }, _) => Some(Notice::Left { upto }),
        (Change::Created, _) => Some(Notice::Joined {
            after: RoomSeq(0),
            welcome: None,
        }),
        (
            Change::Joined { after },
            hub::Command::Commit(commit) | hub::Command::Enter(Enter { commit, .. }),
        ) if commit.checked.external => Some(Notice::Joined {
            after,
            welcome: None,
        }),
        (Change::Joined { after }, hub::Command::Commit(commit)) => {
            let welcome = Some(WelcomeNotice {
                epoch: commit.on.epoch.next(),
                welcome: commit.welcome.clone()?,
                tree: Payload(commit.checked.next.whole_tree()?.clone()),
            });
            Some(Notice::Joined { after, welcome })
        }
        (Change::Joined { .. }, _) => None,
    }
}

/// The notice that a user gets, with its Welcome out of the follower's command.
#[must_use]
pub fn follower_notice(notice: &UserNotice, command: &follower::Command) -> Option<Notice> {
    let after = match notice.change {
        Change::Left { upto } => return Some(Notice::Left { upto }),
        Change::Created => return None,
        Change::Joined { after } => after,
    };
    let follower::Command::Deliver(deliver) = command else {
        return None;
    };
    let Item::Event(event) = deliver.items.get(notice.item as usize)? else {
        return None;
    };
    let invitation = match &event.body {
        Body::Invited(invitation) => invitation,
        Body::Entered(_)
        | Body::Commit(CommitEvent {
            entered: Some(_), ..
        }) => {
            return Some(Notice::Joined {
                after,
                welcome: None,
            });
        }
        Body::Commit(commit) => commit.invitation.as_ref()?,
        Body::Application(_) | Body::Proposals(_) | Body::Own(_) => return None,
    };
    let welcome = Some(WelcomeNotice {
        epoch: invitation.epoch,
        welcome: invitation.welcome.clone(),
        tree: invitation.tree.clone(),
    });
    Some(Notice::Joined { after, welcome })
}
