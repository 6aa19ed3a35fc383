//! What the hub's actor keeps beside the fold: who waits, and which Commit is in flight.
//!
//! One Commit is in flight per room; the next ones wait and, when the epoch has advanced, are refused without a log
//! entry. Volatile: losing it loses nothing that was answered.
//!
//! Source: transport requirements, section 3.2.

use super::{
    hub::{CheckedOn, Command, Commit, Create, Fold, Propose, Room, Submit, Via, name_proposals},
    outcome::{Answer, Outcome, Refused},
};
use crate::{
    ids::ClientUri,
    limits::{COMMITS_WAITING_PER_ROOM_MAX, PROPOSALS_PER_BUNDLE_MAX},
    machine::{self, Millis, Ticket},
    mls::{
        bundle::{Bundle, BundleRefused, CheckedBundle, SenderRefused},
        create::CheckedCreate,
        message::{Sender, handshake_header},
        proposal::{PendingProposal, ProposalRefused},
        view::GroupView,
    },
    wire::{
        BVec, Payload,
        event::{Epoch, Hash},
    },
};
use bytes::Bytes;
use std::{collections::VecDeque, sync::Arc};

/// When a requester that found the room busy should try again, in milliseconds.
const BUSY_RETRY_AFTER_MS: u32 = 250;

/// What happened or is asked.
#[derive(Debug)]
pub enum Input {
    /// A client of this provider asks for a room.
    Create {
        /// Who waits.
        ticket: Ticket,
        /// The client.
        creator: ClientUri,
        /// GroupInfo of epoch 0, an MLSMessage.
        group_info: Bytes,
        /// Ratchet tree of epoch 0.
        tree: Bytes,
    },
    /// A member asks for the next epoch.
    Commit {
        /// Who waits.
        ticket: Ticket,
        /// The client.
        sender: ClientUri,
        /// What it sent.
        bundle: Bundle,
    },
    /// A member proposes.
    Propose {
        /// Who waits.
        ticket: Ticket,
        /// The client.
        sender: ClientUri,
        /// The Proposals, each an MLSMessage.
        messages: Vec<Bytes>,
    },
    /// A member, or its provider, submits application messages.
    Submit {
        /// Who waits.
        ticket: Ticket,
        /// What it sent.
        submit: Submit,
    },
    /// A worker finished the check made under this ticket.
    Checked {
        /// Who waits.
        ticket: Ticket,
        /// What it found.
        checked: Box<Checked>,
    },
    /// The log did not take the command appended under this ticket.
    NotAppended {
        /// Who waits.
        ticket: Ticket,
        /// Why.
        refused: Refused,
    },
}

/// An order to the world.
#[derive(Debug)]
pub enum Effect {
    /// Put a command into the shard's log.
    Append {
        /// Who waits.
        ticket: Ticket,
        /// The command.
        command: Arc<Command>,
    },
    /// Answer whoever waits.
    Answer {
        /// Who waits.
        ticket: Ticket,
        /// The answer.
        answer: Answer,
    },
    /// Have a worker check something; it comes back as [`Input::Checked`].
    Check {
        /// Who waits.
        ticket: Ticket,
        /// What is to be checked.
        check: Box<Check>,
    },
}

/// Cryptographic work for the pool: everything it needs, and nothing else.
#[derive(Debug)]
pub enum Check {
    /// An epoch-0 group.
    Create {
        /// Its creator.
        creator: ClientUri,
        /// Its GroupInfo.
        group_info: Bytes,
        /// Its ratchet tree.
        tree: Bytes,
    },
    /// A Commit bundle.
    Bundle {
        /// The state it must follow from.
        view: GroupView,
        /// The Proposals it may name.
        pending: Vec<PendingProposal>,
        /// What that state was.
        on: CheckedOn,
        /// The bundle.
        bundle: Bundle,
        /// Its sender.
        sender: ClientUri,
    },
    /// Proposals.
    Proposals {
        /// The state they must fit.
        view: GroupView,
        /// Its epoch.
        on: Epoch,
        /// The Proposals.
        messages: Vec<Bytes>,
        /// Their sender.
        sender: ClientUri,
    },
}

/// What a worker found.
#[derive(Debug)]
pub enum Checked {
    /// Of an epoch-0 group.
    Create {
        /// Its creator.
        creator: ClientUri,
        /// The verdict.
        result: Result<CheckedCreate, BundleRefused>,
    },
    /// Of a Commit bundle.
    Bundle {
        /// What it was checked on.
        on: CheckedOn,
        /// The verdict.
        result: Result<CheckedBundle, BundleRefused>,
    },
    /// Of Proposals.
    Proposals {
        /// Their sender.
        sender: ClientUri,
        /// The epoch they were checked in.
        on: Epoch,
        /// The verdict.
        result: Result<Vec<PendingProposal>, ProposalRefused>,
    },
    /// No worker was free and too much waits already.
    Overloaded,
}

/// A Commit that waits, or is in flight.
#[derive(Debug)]
struct WaitingCommit {
    ticket: Ticket,
    sender: ClientUri,
    bundle: Bundle,
    hash: Hash,
}

/// The volatile part of a room's actor at the hub.
#[derive(Debug, Default)]
pub struct Desk {
    in_flight: Option<WaitingCommit>,
    waiting: VecDeque<WaitingCommit>,
    /// Checks and appends of other requests under way.
    others: usize,
}

impl machine::Desk for Desk {
    type Fold = Fold;
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, input: Input, _now: Millis, fold: &Fold, out: &mut Vec<Effect>) {
        match input {
            Input::Create {
                ticket,
                creator,
                group_info,
                tree,
            } => {
                self.others += 1;
                let check = Box::new(Check::Create {
                    creator,
                    group_info,
                    tree,
                });
                out.push(Effect::Check { ticket, check });
            }
            Input::Commit {
                ticket,
                sender,
                bundle,
            } => {
                let hash = hash_of(&bundle);
                self.commit(
                    WaitingCommit {
                        ticket,
                        sender,
                        bundle,
                        hash,
                    },
                    fold,
                    out,
                );
            }
            Input::Propose {
                ticket,
                sender,
                messages,
            } => {
                self.propose(ticket, sender, messages, fold, out);
            }
            Input::Submit { ticket, submit } => self.submit(ticket, submit, fold, out),
            Input::Checked { ticket, checked } => self.checked(ticket, *checked, fold, out),
            Input::NotAppended { ticket, refused } => {
                self.finish(ticket, Answer::Refused(refused), fold, out);
            }
        }
    }

    fn applied(
        &mut self,
        ticket: Ticket,
        outcome: &Outcome,
        _now: Millis,
        fold: &Fold,
        out: &mut Vec<Effect>,
    ) {
        let stale = outcome.answer == Answer::Stale;
        if let Some(commit) = self
            .in_flight
            .take_if(|commit| stale && commit.ticket == ticket)
        {
            // Proposals arrived while it was checked: it may be right all the same.
            self.begin(commit, fold, out);
            self.begin_next(fold, out);
            return;
        }
        self.finish(ticket, outcome.answer.clone(), fold, out);
    }

    fn is_idle(&self) -> bool {
        self.in_flight.is_none() && self.waiting.is_empty() && self.others == 0
    }

    fn ticket(input: &Input) -> Ticket {
        match input {
            Input::Create { ticket, .. }
            | Input::Commit { ticket, .. }
            | Input::Propose { ticket, .. }
            | Input::Submit { ticket, .. }
            | Input::Checked { ticket, .. }
            | Input::NotAppended { ticket, .. } => *ticket,
        }
    }

    fn frozen(ticket: Ticket) -> Effect {
        Effect::Answer {
            ticket,
            answer: Answer::Refused(Refused::Poisoned),
        }
    }
}

impl Desk {
    fn commit(&mut self, commit: WaitingCommit, fold: &Fold, out: &mut Vec<Effect>) {
        if let Err(answer) = preflight(&commit, fold) {
            out.push(Effect::Answer {
                ticket: commit.ticket,
                answer,
            });
        } else if self.in_flight.is_none() {
            self.begin(commit, fold, out);
        } else if self.waiting.len() < COMMITS_WAITING_PER_ROOM_MAX {
            self.waiting.push_back(commit);
        } else {
            let refused = Refused::Overloaded {
                retry_after_ms: BUSY_RETRY_AFTER_MS,
            };
            let answer = Answer::Refused(refused);
            out.push(Effect::Answer {
                ticket: commit.ticket,
                answer,
            });
        }
    }

    /// Sends a Commit to the workers; the room must exist.
    fn begin(&mut self, commit: WaitingCommit, fold: &Fold, out: &mut Vec<Effect>) {
        match (preflight(&commit, fold), fold.room()) {
            (Ok(()), Some(room)) => {
                let check = Box::new(Check::Bundle {
                    view: room.view().clone(),
                    pending: room.pending().to_vec(),
                    on: room.checked_on(),
                    bundle: commit.bundle.clone(),
                    sender: commit.sender.clone(),
                });
                out.push(Effect::Check {
                    ticket: commit.ticket,
                    check,
                });
                self.in_flight = Some(commit);
            }
            (Ok(()), None) => out.push(refuse(commit.ticket, Refused::NotAuthorized)),
            (Err(answer), _) => out.push(Effect::Answer {
                ticket: commit.ticket,
                answer,
            }),
        }
    }

    fn propose(
        &mut self,
        ticket: Ticket,
        sender: ClientUri,
        messages: Vec<Bytes>,
        fold: &Fold,
        out: &mut Vec<Effect>,
    ) {
        let Some(room) = fold.room() else {
            return out.push(refuse(ticket, Refused::NotAuthorized));
        };
        if messages.is_empty() {
            return out.push(refuse(
                ticket,
                Refused::invalid("malformed", "no Proposals"),
            ));
        }
        let request = name_proposals(&sender, messages.iter().map(|message| &message[..]));
        if let Some(references) = room.proposed(request) {
            let answer = Answer::Proposed(references);
            return out.push(Effect::Answer { ticket, answer });
        }
        if !room.is_member(&sender) {
            return out.push(refuse(ticket, Refused::NotMember));
        }
        self.others += 1;
        let check = Box::new(Check::Proposals {
            view: room.view().clone(),
            on: room.epoch(),
            messages,
            sender,
        });
        out.push(Effect::Check { ticket, check });
    }

    fn submit(&mut self, ticket: Ticket, submit: Submit, fold: &Fold, out: &mut Vec<Effect>) {
        let provider = submit.sender.provider();
        let heard = |room: &Room| match submit.via {
            Via::Client(_) => true,
            Via::Provider { .. } => room.hears(provider),
        };
        if !fold.room().is_some_and(heard) {
            return out.push(refuse(ticket, Refused::NotAuthorized));
        }
        self.others += 1;
        out.push(Effect::Append {
            ticket,
            command: Arc::new(Command::Submit(submit)),
        });
    }

    fn checked(&mut self, ticket: Ticket, checked: Checked, fold: &Fold, out: &mut Vec<Effect>) {
        let command = match checked {
            Checked::Create { creator, result } => result
                .map(|CheckedCreate { view, members }| {
                    Command::Create(Create {
                        creator,
                        view,
                        members,
                    })
                })
                .map_err(|refused| bundle_refused(refused, fold)),
            Checked::Bundle { on, result } => {
                result
                    .map_err(|refused| bundle_refused(refused, fold))
                    .and_then(|checked| {
                        let commit = self
                            .in_flight
                            .as_ref()
                            .filter(|commit| commit.ticket == ticket);
                        // Only a Commit in flight is checked; a check without one answers nobody.
                        commit
                            .map(|commit| commit.command(on, checked))
                            .ok_or(Refused::NotMember)
                    })
            }
            Checked::Proposals { sender, on, result } => result
                .map(|proposals| {
                    Command::Propose(Propose {
                        sender,
                        on,
                        proposals,
                    })
                })
                .map_err(|refused| proposal_refused(&refused, fold)),
            Checked::Overloaded => Err(Refused::Overloaded {
                retry_after_ms: BUSY_RETRY_AFTER_MS,
            }),
        };
        match command {
            Ok(command) => out.push(Effect::Append {
                ticket,
                command: Arc::new(command),
            }),
            Err(refused) => self.finish(ticket, Answer::Refused(refused), fold, out),
        }
    }

    /// Answers a request whose way ends here, and lets the next Commit begin.
    fn finish(&mut self, ticket: Ticket, answer: Answer, fold: &Fold, out: &mut Vec<Effect>) {
        out.push(Effect::Answer { ticket, answer });
        if self
            .in_flight
            .take_if(|commit| commit.ticket == ticket)
            .is_none()
        {
            self.others = self.others.saturating_sub(1);
            return;
        }
        self.begin_next(fold, out);
    }

    /// Lets the next Commit begin that the room can still take, if none is in flight.
    fn begin_next(&mut self, fold: &Fold, out: &mut Vec<Effect>) {
        while self.in_flight.is_none()
            && let Some(next) = self.waiting.pop_front()
        {
            self.begin(next, fold, out);
        }
    }
}

impl WaitingCommit {
    fn command(&self, on: CheckedOn, checked: CheckedBundle) -> Command {
        Command::Commit(Box::new(Commit {
            sender: self.sender.clone(),
            on,
            bundle: self.hash,
            commit: Payload(self.bundle.commit.clone()),
            welcome: self.bundle.welcome.clone().map(Payload),
            checked,
        }))
    }
}

/// Names a bundle across retries.
fn hash_of(bundle: &Bundle) -> Hash {
    let welcome = bundle.welcome.as_deref().unwrap_or_default();
    Hash::of_parts([
        &bundle.commit[..],
        welcome,
        &bundle.group_info[..],
        &bundle.tree[..],
    ])
}

/// The cheap checks that stop a Commit before a worker sees it.
fn preflight(commit: &WaitingCommit, fold: &Fold) -> Result<(), Answer> {
    let Some(room) = fold.room() else {
        return Err(Answer::Refused(Refused::NotAuthorized));
    };
    if let Some(accepted) = room.remembered(commit.hash) {
        return Err(Answer::Committed(accepted));
    }
    may_commit(commit, room).map_err(Answer::Refused)
}

fn may_commit(commit: &WaitingCommit, room: &Room) -> Result<(), Refused> {
    let header = handshake_header(&commit.bundle.commit)
        .map_err(|error| Refused::invalid("malformed_commit", &error.to_string()));
    match &header {
        Ok(header) if header.sender == Sender::NewMemberCommit => room.may_enter(&commit.sender)?,
        Ok(_) | Err(_) if !room.is_member(&commit.sender) => return Err(Refused::NotMember),
        Ok(_) | Err(_) => {}
    }
    let header = header?;
    if header.group_id[..] != *room.group_id() {
        return Err(Refused::invalid(
            "wrong_group",
            "the Commit is of another group",
        ));
    }
    if room.has_ended() {
        return Err(Refused::Ended);
    }
    if Epoch(header.epoch) == room.epoch() {
        Ok(())
    } else {
        Err(room.wrong_epoch())
    }
}

fn refuse(ticket: Ticket, refused: Refused) -> Effect {
    Effect::Answer {
        ticket,
        answer: Answer::Refused(refused),
    }
}

fn bundle_refused(refused: BundleRefused, fold: &Fold) -> Refused {
    let detail = refused.to_string();
    let references = |references: Vec<Bytes>| -> BVec<Payload, PROPOSALS_PER_BUNDLE_MAX> {
        BVec::truncated(references.into_iter().map(Payload).collect())
    };
    match (refused, fold.room()) {
        (BundleRefused::WrongEpoch { .. }, Some(room)) => room.wrong_epoch(),
        (BundleRefused::Sender(SenderRefused::NotMember), _) => Refused::NotMember,
        (
            BundleRefused::OmittedProposals {
                references: omitted,
            },
            _,
        ) => Refused::OmittedProposals {
            references: references(omitted),
        },
        (
            BundleRefused::UnknownProposals {
                references: unknown,
            },
            _,
        ) => Refused::UnknownProposals {
            references: references(unknown),
        },
        (
            BundleRefused::InvalidProposals {
                references: invalid,
                ..
            },
            _,
        ) => {
            let detail = crate::wire::BText::clipped(&detail);
            Refused::InvalidProposals {
                references: references(invalid),
                detail,
            }
        }
        (other, _) => Refused::invalid(bundle_code(&other), &detail),
    }
}

fn proposal_refused(refused: &ProposalRefused, fold: &Fold) -> Refused {
    match (refused, fold.room()) {
        (ProposalRefused::WrongEpoch { .. }, Some(room)) => room.wrong_epoch(),
        (ProposalRefused::NotMember, _) => Refused::NotMember,
        (other, _) => Refused::invalid(proposal_code(other), &other.to_string()),
    }
}

/// The stable code of a refused bundle, as it travels.
fn bundle_code(refused: &BundleRefused) -> &'static str {
    match refused {
        BundleRefused::Malformed { .. } => "malformed",
        BundleRefused::Unsupported(_) => "unsupported",
        BundleRefused::WrongGroup => "wrong_group",
        BundleRefused::WrongEpoch { .. } => "wrong_epoch",
        BundleRefused::Sender(_) => "sender_not_bound",
        BundleRefused::Signature { .. } => "signature",
        BundleRefused::InvalidProposals { .. } => "invalid_proposals",
        BundleRefused::OmittedProposals { .. } => "omitted_proposals",
        BundleRefused::UnknownProposals { .. } => "unknown_proposals",
        BundleRefused::Tree(_) => "tree_mismatch",
        BundleRefused::GroupInfoMismatch { .. } => "group_info_mismatch",
        BundleRefused::WelcomeMismatch { .. } => "welcome_mismatch",
        BundleRefused::Audit(_) => "audit",
    }
}

/// The stable code of a refused Proposal, as it travels.
fn proposal_code(refused: &ProposalRefused) -> &'static str {
    match refused {
        ProposalRefused::Malformed(_) => "malformed",
        ProposalRefused::Unsupported(_) => "unsupported",
        ProposalRefused::WrongGroup => "wrong_group",
        ProposalRefused::WrongEpoch { .. } => "wrong_epoch",
        ProposalRefused::NotMember => "not_member",
        ProposalRefused::SenderNotBound => "sender_not_bound",
        ProposalRefused::Signature => "signature",
        ProposalRefused::Invalid(_) => "invalid_proposals",
    }
}
