//! What the hub's actor keeps beside the fold: who waits, and which Commit is in flight.
//!
//! One Commit is in flight per room; the next ones wait and, when the epoch has advanced, are refused without a log
//! entry. Volatile: losing it loses nothing that was answered.
//!
//! Source: transport requirements, section 3.2.

use super::{
    codes::{Code, CodeFlaw},
    expelling::{Expelling, NOBODYS, ToExpel, entering},
    hub::{CheckedOn, Command, Commit, Create, Depart, Fold, Propose, Submit, name_proposals},
    joiners::{DeskTurn, Joiners},
    outcome::{Answer, Done, Outcome, Refused},
    preflight::{check_commit, check_submit, name_bundle},
    refusals::{bundle_refused, proposal_refused},
    verdicts::AskVerdicts,
};
use crate::{
    bucket::Rate,
    caller::Caller,
    group_info::Sealing,
    ids::ClientUri,
    limits::{COMMITS_WAITING_PER_ROOM_MAX, CONTROL_EVENT_BYTES_MAX, PROPOSALS_PER_BUNDLE_MAX},
    machine::{self, Millis, Ticket},
    mls::{
        check::{
            bundle::{BundleRefused, CheckedBundle},
            create::CheckedCreate,
            proposal::{PendingProposal, ProposalRefused},
        },
        codec::sealed::NotSealed,
        tree::view::GroupView,
    },
    wire::{
        BVec, Payload,
        event::{Epoch, Hash},
        joining::{CodeId, CodeTerms, GroupInfoRequest, SealedGroupInfo},
        post::DepartedWhy,
        refusal::RefusalCode,
        refusal::TryLater,
        room::{Beginning, Bundle, Proposals, Request},
    },
};
use std::{collections::VecDeque, sync::Arc};

/// What happened or is asked.
#[derive(Debug)]
pub enum Input {
    /// Somebody asks.
    Ask {
        /// Who waits.
        ticket: Ticket,
        /// Who asks.
        caller: Caller,
        /// What.
        request: Request,
    },
    /// A member, or its provider, submits application messages.
    Submit {
        /// Who waits.
        ticket: Ticket,
        /// What it sent.
        submit: Submit,
    },
    /// A local client asks what became of its messages: here they have their verdicts at once.
    Verdicts {
        /// Who waits.
        ticket: Ticket,
        /// Which messages.
        asked: AskVerdicts,
    },
    /// The provider of a client does not know it any more.
    Depart {
        /// Who waits.
        ticket: Ticket,
        /// The client.
        client: ClientUri,
        /// Why.
        why: DepartedWhy,
    },
    /// The time of an [`Own::Wake`] has come.
    Wake,
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
pub type Effect = machine::Effect<Command, Answer, Own>;

/// What only the desk of a room at its hub orders.
#[derive(Debug)]
pub enum Own {
    /// Have a worker check something; it comes back as [`Input::Checked`].
    Check {
        /// Who waits.
        ticket: Ticket,
        /// What is to be checked.
        check: Box<Check>,
    },
    /// Come back with [`Input::Wake`] after so many milliseconds.
    Wake {
        /// How many.
        after_ms: u32,
    },
    /// Log that a joining code was refused, and why; put the command, if there is one, into the shard's log. Whoever
    /// presented the code is told at once, for as long as that takes would tell that the room exists.
    CodeRefused {
        /// The command's; it is answered already.
        ticket: Ticket,
        /// Who presented it.
        joiner: ClientUri,
        /// Why.
        flaw: CodeFlaw,
        /// What counts it.
        command: Option<Arc<Command>>,
    },
}

/// Cryptographic work for the pool: everything it needs, and nothing else.
#[derive(Clone, Debug)]
pub enum Check {
    /// An epoch-0 group.
    Create {
        /// Its creator.
        creator: ClientUri,
        /// What it begins with.
        beginning: Beginning,
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
        /// The hub's clock: the lifetimes of those who are added are judged by it, once and before the log.
        now: Millis,
    },
    /// A request for the GroupInfo, and its code.
    Admit {
        /// The request.
        request: Arc<GroupInfoRequest>,
        /// The group that codes belong to.
        group_id: Payload,
        /// The codes there are.
        codes: Vec<(CodeId, Code)>,
        /// The hub's clock.
        now: Millis,
    },
    /// A GroupInfo to be sealed for a joiner.
    Seal(Box<Sealing>),
    /// A joining code to be made.
    MintCode {
        /// Who wants it.
        creator: ClientUri,
        /// The group it will belong to.
        group_id: Payload,
        /// What it is to be good for.
        terms: CodeTerms,
        /// The hub's clock.
        now: Millis,
    },
    /// Removes that the hub is to propose.
    Expel(ToExpel),
    /// Proposals.
    Proposals {
        /// The state they must fit.
        view: GroupView,
        /// Its epoch.
        on: Epoch,
        /// The Proposals.
        messages: Proposals,
        /// Their sender.
        sender: ClientUri,
        /// The hub's clock.
        now: Millis,
    },
}

impl Check {
    /// The client because of which it is made.
    #[must_use]
    pub fn asked_by(&self) -> &ClientUri {
        match self {
            Self::Create { creator, .. } | Self::MintCode { creator, .. } => creator,
            Self::Bundle { sender, .. } | Self::Proposals { sender, .. } => sender,
            Self::Admit { request, .. } => &request.joiner,
            Self::Seal(sealing) => &sealing.request.joiner,
            Self::Expel(expel) => &expel.because_of,
        }
    }
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
        /// How often a member may commit.
        rate: Rate,
        /// The verdict.
        result: Result<CheckedBundle, BundleRefused>,
        /// What the hub proposes anew in the epoch that it opens.
        again: Vec<PendingProposal>,
    },
    /// Removes that the hub proposes, as far as members verify them.
    Expel {
        /// The epoch they are for.
        on: Epoch,
        /// The Proposals.
        proposals: Vec<PendingProposal>,
    },
    /// Of Proposals.
    Proposals {
        /// Their sender.
        sender: ClientUri,
        /// The epoch they were checked in.
        on: Epoch,
        /// The verdict.
        result: Result<BVec<PendingProposal, PROPOSALS_PER_BUNDLE_MAX>, ProposalRefused>,
    },
    /// Of a request for the GroupInfo.
    Admit {
        /// What makes it of no use, if anything does.
        flaw: Option<RefusalCode>,
        /// The code it presents, or why that does not admit.
        code: Option<Result<CodeId, CodeFlaw>>,
        /// How long leases last, in milliseconds.
        lease_ms: u32,
    },
    /// A GroupInfo, sealed.
    Sealed(Result<SealedGroupInfo, NotSealed>),
    /// A joining code in the clear and as it is kept; `None` when none could be made.
    Minted(Option<(Payload, Code)>),
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
    joiners: Joiners,
    /// What the hub itself is to propose.
    expelling: Expelling,
}

impl machine::Desk for Desk {
    type Fold = Fold;
    type Input = Input;
    type Answer = Answer;
    type Own = Own;

    fn handle(&mut self, input: Input, now: Millis, fold: &Fold, out: &mut Vec<Effect>) {
        match input {
            Input::Ask {
                ticket,
                caller,
                request,
            } => self.ask(
                ticket,
                caller.client,
                request,
                &mut DeskTurn { now, fold, out },
            ),
            Input::Depart {
                ticket,
                client,
                why,
            } => {
                let turn = &mut DeskTurn { now, fold, out };
                if !fold.is_news(&client) {
                    return turn.answer(ticket, Answer::Received);
                }
                self.others += 1;
                turn.append(ticket, Command::Depart(Depart { client, why }));
            }
            Input::Wake => {
                let turn = &mut DeskTurn { now, fold, out };
                self.joiners.wake(turn);
                self.expel_departed(turn);
            }
            Input::Submit { ticket, submit } => self.submit(ticket, submit, fold, out),
            Input::Verdicts { ticket, asked } => {
                let AskVerdicts {
                    sender,
                    first,
                    count,
                    ..
                } = asked;
                let verdicts = fold
                    .room()
                    .and_then(|room| room.verdicts(&sender, first, count));
                out.push(match verdicts {
                    Some(verdicts) => Effect::Answer {
                        ticket,
                        answer: Answer::Sent(verdicts),
                    },
                    None => refuse(ticket, Refused::NotAuthorized),
                });
            }
            Input::Checked { ticket, checked } => {
                let turn = &mut DeskTurn { now, fold, out };
                if let Some(checked) = self.joiners.checked(ticket, *checked, turn) {
                    self.checked(ticket, checked, turn);
                }
            }
            Input::NotAppended { ticket, refused } => {
                let turn = &mut DeskTurn { now, fold, out };
                if self.expelling.is_own(ticket) {
                    return self.not_expelled(turn);
                }
                if self.joiners.not_appended(ticket, &refused, turn) {
                    return;
                }
                self.finish(ticket, Answer::Refused(refused), turn);
            }
        }
    }

    fn applied(
        &mut self,
        ticket: Ticket,
        outcome: &Outcome,
        now: Millis,
        fold: &Fold,
        out: &mut Vec<Effect>,
    ) {
        let turn = &mut DeskTurn { now, fold, out };
        if self.expelling.is_own(ticket) {
            self.expelling.logged();
            return self.expel_departed(turn);
        }
        // Whatever happens in a room shows the node that leads it now what is left to be done.
        self.expel_departed(turn);
        if self.joiners.applied(ticket, &outcome.done, turn) {
            return;
        }
        // A Commit ends the lease: the next joiner's turn has come.
        self.joiners.serve(turn);
        let stale = outcome.done == Done::Stale;
        if let Some(commit) = self
            .in_flight
            .take_if(|commit| stale && commit.ticket == ticket)
        {
            // Proposals arrived while it was checked: it may be right all the same.
            self.begin(commit, turn);
            self.begin_next(turn);
            return;
        }
        self.finish(ticket, outcome.done.to_answer(), turn);
    }

    fn is_idle(&self) -> bool {
        let commits = self.in_flight.is_none() && self.waiting.is_empty();
        commits && self.others == 0 && !self.expelling.is_under_way() && self.joiners.is_idle()
    }

    fn ticket(input: &Input) -> Ticket {
        match input {
            Input::Ask { ticket, .. }
            | Input::Submit { ticket, .. }
            | Input::Verdicts { ticket, .. }
            | Input::Depart { ticket, .. }
            | Input::Checked { ticket, .. }
            | Input::NotAppended { ticket, .. } => *ticket,
            // Nobody's: tickets count from 1.
            Input::Wake => Ticket(0),
        }
    }

    fn frozen() -> Answer {
        Answer::Refused(Refused::Poisoned)
    }
}

impl Desk {
    /// Begins to answer a request.
    fn ask(
        &mut self,
        ticket: Ticket,
        client: ClientUri,
        request: Request,
        turn: &mut DeskTurn<'_>,
    ) {
        match request {
            Request::Create(beginning) => {
                self.others += 1;
                let creator = client;
                turn.check(ticket, Check::Create { creator, beginning });
            }
            Request::Commit(bundle) => {
                let hash = name_bundle(&client, &bundle);
                let commit = WaitingCommit {
                    ticket,
                    sender: client,
                    bundle,
                    hash,
                };
                self.commit(commit, turn);
            }
            Request::Propose(messages) => self.propose(ticket, client, messages, turn),
            Request::GroupInfo(request) => self.joiners.ask(ticket, request, turn),
            Request::Codes(ask) => self.joiners.codes(ticket, client, ask, turn),
        }
    }

    fn commit(&mut self, commit: WaitingCommit, turn: &mut DeskTurn<'_>) {
        if let Err(answer) = commit.preflight(turn) {
            turn.answer(commit.ticket, answer);
        } else if self.in_flight.is_none() {
            self.begin(commit, turn);
        } else if self.waiting.len() < COMMITS_WAITING_PER_ROOM_MAX {
            self.waiting.push_back(commit);
        } else {
            turn.refuse(commit.ticket, Refused::TryLater(TryLater::BUSY));
        }
    }

    /// Sends a Commit to the workers; the room must exist.
    fn begin(&mut self, commit: WaitingCommit, turn: &mut DeskTurn<'_>) {
        match (commit.preflight(turn), turn.fold.room()) {
            (Ok(()), Some(room)) => {
                let check = Box::new(Check::Bundle {
                    view: room.view().clone(),
                    pending: room.pending().to_vec(),
                    on: room.checked_on(),
                    bundle: commit.bundle.clone(),
                    sender: commit.sender.clone(),
                    now: turn.now,
                });
                let ticket = commit.ticket;
                turn.out.push(Effect::Own(Own::Check { ticket, check }));
                self.in_flight = Some(commit);
            }
            (Ok(()), None) => turn.refuse(commit.ticket, Refused::NotAuthorized),
            (Err(answer), _) => turn.answer(commit.ticket, answer),
        }
    }

    fn propose(
        &mut self,
        ticket: Ticket,
        sender: ClientUri,
        messages: Proposals,
        turn: &mut DeskTurn<'_>,
    ) {
        if messages.is_empty() {
            return turn.refuse(
                ticket,
                Refused::invalid(RefusalCode::Malformed, "no Proposals"),
            );
        }
        let bytes = messages.bytes();
        if bytes > CONTROL_EVENT_BYTES_MAX {
            // They become one event, which must fit a frame with what goes around it.
            let why =
                format!("the Proposals have {bytes} bytes, the limit is {CONTROL_EVENT_BYTES_MAX}");
            return turn.refuse(ticket, Refused::invalid(RefusalCode::Malformed, &why));
        }
        let Some(room) = turn.fold.room() else {
            return turn.refuse(ticket, Refused::NotAuthorized);
        };
        let request = name_proposals(&sender, messages.iter().map(|message| &message[..]));
        if let Some(references) = room.proposed(request) {
            return turn.answer(ticket, Answer::Proposed(references));
        }
        if !room.has_member(&sender) {
            return turn.refuse(ticket, Refused::NotAuthorized);
        }
        self.others += 1;
        let check = Check::Proposals {
            view: room.view().clone(),
            on: room.epoch(),
            messages,
            sender,
            now: turn.now,
        };
        turn.check(ticket, check);
    }

    fn submit(&mut self, ticket: Ticket, submit: Submit, fold: &Fold, out: &mut Vec<Effect>) {
        if let Err(answer) = check_submit(fold.room(), &submit) {
            return out.push(Effect::Answer { ticket, answer });
        }
        self.others += 1;
        out.push(Effect::Append {
            ticket,
            command: Arc::new(Command::Submit(submit)),
        });
    }

    fn checked(&mut self, ticket: Ticket, checked: Checked, turn: &mut DeskTurn<'_>) {
        let fold = turn.fold;
        let command = match checked {
            Checked::Create { creator, result } => {
                let create = result.map(|CheckedCreate { view, members }| Create {
                    creator,
                    view,
                    members,
                });
                match create {
                    Ok(create) => match create.check(fold) {
                        Ok(()) => Ok(Command::Create(create)),
                        Err(answer) => return self.finish(ticket, answer, turn),
                    },
                    Err(refused) => Err(bundle_refused(refused, fold)),
                }
            }
            Checked::Bundle {
                on,
                rate,
                result,
                again,
            } => {
                result
                    .map_err(|refused| bundle_refused(refused, fold))
                    .and_then(|checked| {
                        let commit = self
                            .in_flight
                            .as_ref()
                            .filter(|commit| commit.ticket == ticket);
                        // Only a Commit in flight is checked; a check without one answers nobody.
                        commit
                            .map(|commit| entering(commit.command(on, rate, checked), again))
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
            // Of a request that the joiners' part of the desk no longer knows: it answers nobody.
            Checked::Admit { .. } | Checked::Sealed(_) | Checked::Minted(_) => return,
            Checked::Expel { on, proposals } => {
                if let Some(command) = self.expelling.made(on, proposals, fold) {
                    turn.append(NOBODYS, command);
                }
                return;
            }
            Checked::Overloaded if self.expelling.is_own(ticket) => {
                return self.not_expelled(turn);
            }
            Checked::Overloaded => Err(Refused::TryLater(TryLater::BUSY)),
        };
        match command {
            Ok(command) => turn.out.push(Effect::Append {
                ticket,
                command: Arc::new(command),
            }),
            Err(refused) => self.finish(ticket, Answer::Refused(refused), turn),
        }
    }

    /// Has the hub propose to remove whoever is to go.
    fn expel_departed(&mut self, turn: &mut DeskTurn<'_>) {
        if let Some(expel) = self.expelling.next(turn.fold) {
            turn.check(NOBODYS, Check::Expel(expel));
        }
    }

    /// What the hub was to propose could not be made or logged.
    fn not_expelled(&mut self, turn: &mut DeskTurn<'_>) {
        let after_ms = self.expelling.failed();
        turn.out.push(Effect::Own(Own::Wake { after_ms }));
    }

    /// Answers a request whose way ends here, and lets the next Commit begin.
    fn finish(&mut self, ticket: Ticket, answer: Answer, turn: &mut DeskTurn<'_>) {
        turn.answer(ticket, answer);
        if self
            .in_flight
            .take_if(|commit| commit.ticket == ticket)
            .is_none()
        {
            self.others = self.others.saturating_sub(1);
            return;
        }
        self.begin_next(turn);
    }

    /// Lets the next Commit begin that the room can still take, if none is in flight.
    fn begin_next(&mut self, turn: &mut DeskTurn<'_>) {
        while self.in_flight.is_none()
            && let Some(next) = self.waiting.pop_front()
        {
            self.begin(next, turn);
        }
    }
}

impl WaitingCommit {
    fn preflight(&self, turn: &DeskTurn<'_>) -> Result<(), Answer> {
        let room = turn.fold.room();
        check_commit(room, self.hash, &self.sender, &self.bundle.commit, turn.now)
    }

    fn command(&self, on: CheckedOn, rate: Rate, checked: CheckedBundle) -> Commit {
        Commit {
            sender: self.sender.clone(),
            on,
            bundle: self.hash,
            commit: self.bundle.commit.clone(),
            welcome: self.bundle.welcome.clone(),
            checked,
            rate,
            behind: Vec::new(),
        }
    }
}

fn refuse(ticket: Ticket, refused: Refused) -> Effect {
    Effect::Answer {
        ticket,
        answer: Answer::Refused(refused),
    }
}
