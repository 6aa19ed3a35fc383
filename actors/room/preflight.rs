//! What the hub's desk refuses before a worker looks and before the log is asked, by the state that it sees.
//!
//! Promises: whoever is no member, and has nothing that lets it in, is told what is told of a room that does not exist,
//! whatever else is wrong with its request; its messages cost no log. The fold decides all the same.
//!
//! Source: transport requirements, sections 3.2, 3.3 and 4.

use super::{
    hub::{Room, Submit, Via},
    outcome::{Answer, Refused},
};
use crate::{
    ids::ClientUri,
    machine::Millis,
    mls::codec::message::{Sender, handshake_header},
    wire::{
        event::{Epoch, Hash},
        refusal::RefusalCode,
        room::Bundle,
    },
};
use bytes::Bytes;

/// Names a bundle of a client across retries: nobody else gets its first answer.
pub(super) fn name_bundle(sender: &ClientUri, bundle: &Bundle) -> Hash {
    let welcome = bundle.welcome.as_ref().map_or(&[][..], |welcome| welcome);
    Hash::of_parts([
        sender.to_string().as_bytes(),
        &bundle.commit[..],
        welcome,
        &bundle.group_info[..],
        bundle.tree.kind().name().as_bytes(),
        bundle.tree.carried(),
    ])
}

/// The cheap checks that stop a Commit before a worker sees it.
///
/// # Errors
/// The answer, which is a refusal, or the first answer to a Commit that was accepted before.
pub(super) fn check_commit(
    room: Option<&Room>,
    name: Hash,
    sender: &ClientUri,
    commit: &Bytes,
    now: Millis,
) -> Result<(), Answer> {
    let Some(room) = room else {
        return Err(Answer::Refused(Refused::NotAuthorized));
    };
    if let Some(accepted) = room.remembered(name) {
        return Err(Answer::Committed(accepted));
    }
    may_commit(room, sender, commit)
        .and_then(|()| room.check_last_rate(sender, now))
        .map_err(Answer::Refused)
}

fn may_commit(room: &Room, sender: &ClientUri, commit: &Bytes) -> Result<(), Refused> {
    let header = handshake_header(commit)
        .map_err(|error| Refused::invalid(RefusalCode::MalformedCommit, &error.to_string()));
    match &header {
        Ok(header) if header.sender == Sender::NewMemberCommit => room.may_enter(sender)?,
        Ok(_) | Err(_) if !room.has_member(sender) => return Err(Refused::NotAuthorized),
        Ok(_) | Err(_) => {}
    }
    let header = header?;
    if header.group_id[..] != *room.group_id() {
        return Err(Refused::invalid(
            RefusalCode::WrongGroup,
            "the Commit is of another group",
        ));
    }
    if room.has_ended() {
        return Err(Refused::Ended);
    }
    if Epoch(header.epoch) != room.epoch() {
        return Err(room.wrong_epoch());
    }
    if header.sender == Sender::NewMemberCommit {
        // Whether the lease is over the log decides, by its own clock.
        room.may_join(sender, None, Millis(0))?;
    }
    Ok(())
}

/// Whether messages go to the log. Those of a peer do when it ever had a member here: its log waits for their verdict, and
/// how fast it may send what is refused is bounded where it comes in.
///
/// # Errors
/// The answer: the verdicts on what a former member sends again, and a refusal for whoever else is no member.
pub(super) fn check_submit(room: Option<&Room>, submit: &Submit) -> Result<(), Answer> {
    let sender = &submit.sender;
    let refused = Err(Answer::Refused(Refused::NotAuthorized));
    let Some(room) = room else { return refused };
    match submit.via {
        Via::Client(_) if room.has_member(sender) => Ok(()),
        Via::Client(first) => match room.decided(sender, first, submit.messages.len()) {
            Some(verdicts) => Err(Answer::Sent(verdicts)),
            None => refused,
        },
        Via::Provider { .. } if room.ever_had_member_of(sender.provider()) => Ok(()),
        Via::Provider { .. } => refused,
    }
}
