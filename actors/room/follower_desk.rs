//! What a follower's actor keeps beside the fold: how many requests are in the log's hands.

use super::{
    follower::{Command, Deliver, Fold, Queue, Reject},
    outcome::{Answer, Decided, Outcome, Refused},
    verdicts::{AskVerdicts, Awaiting, SoFar},
};
use crate::machine::{self, Millis, Ticket};
use std::sync::Arc;

/// What happened or is asked.
#[derive(Debug)]
pub enum Input {
    /// The hub delivers.
    Deliver {
        /// Who waits.
        ticket: Ticket,
        /// What it delivers.
        deliver: Deliver,
    },
    /// A local client sends.
    Queue {
        /// Who waits.
        ticket: Ticket,
        /// What it sends.
        queue: Queue,
    },
    /// The hub refused submissions without numbering them.
    Reject {
        /// Who waits.
        ticket: Ticket,
        /// Which.
        reject: Reject,
    },
    /// A local client asks what became of its messages.
    Verdicts {
        /// Who waits.
        ticket: Ticket,
        /// Which messages.
        asked: AskVerdicts,
    },
    /// The time of an [`Own::Wake`] has come.
    Wake,
    /// The log did not take the command appended under this ticket.
    NotAppended {
        /// Who waits.
        ticket: Ticket,
        /// Why.
        refused: Refused,
    },
}

impl Input {
    /// A request to the room; `ticket` waits for the answer.
    #[must_use]
    pub fn asked(ticket: Ticket, command: Command) -> Self {
        match command {
            Command::Deliver(deliver) => Self::Deliver { ticket, deliver },
            Command::Queue(queue) => Self::Queue { ticket, queue },
            Command::Reject(reject) => Self::Reject { ticket, reject },
        }
    }
}

/// An order to the world.
pub type Effect = machine::Effect<Command, Answer, Own>;

/// What only the desk of a followed room orders.
#[derive(Debug)]
pub enum Own {
    /// Come back with [`Input::Wake`] after so many milliseconds.
    Wake {
        /// How many.
        after_ms: u32,
    },
}

/// The volatile part of a followed room's actor.
#[derive(Debug, Default)]
pub struct Desk {
    in_log: usize,
    awaiting: Awaiting,
}

impl machine::Desk for Desk {
    type Fold = Fold;
    type Input = Input;
    type Answer = Answer;
    type Own = Own;

    fn handle(&mut self, input: Input, now: Millis, fold: &Fold, out: &mut Vec<Effect>) {
        let (ticket, command) = match input {
            Input::Deliver { ticket, deliver } => {
                // An Invitation may be in the log's hands still: then the fold judges what comes behind it.
                let nothing_under_way = self.in_log == 0;
                if fold.is_unknown() && nothing_under_way && !deliver.invites() {
                    return out.push(refuse(ticket, Refused::NotAuthorized));
                }
                (ticket, Command::Deliver(deliver))
            }
            Input::Queue { ticket, queue } => {
                if let Err(answer) = fold.check_sender(&queue) {
                    return out.push(Effect::Answer { ticket, answer });
                }
                (ticket, Command::Queue(queue))
            }
            Input::Reject { ticket, reject } => (ticket, Command::Reject(reject)),
            Input::Verdicts { ticket, asked } => {
                let so_far = verdicts(fold, &asked);
                if !fold.has_member(&asked.sender) && so_far.is_empty() {
                    return out.push(refuse(ticket, Refused::NotAuthorized));
                }
                return out.push(match self.awaiting.ask(ticket, asked, so_far, now) {
                    Ok(answer) => Effect::Answer { ticket, answer },
                    Err(after_ms) => Effect::Own(Own::Wake { after_ms }),
                });
            }
            Input::Wake => return self.answer_awaiting(now, &[], fold, out),
            Input::NotAppended { ticket, refused } => {
                self.in_log = self.in_log.saturating_sub(1);
                return out.push(refuse(ticket, refused));
            }
        };
        self.in_log += 1;
        out.push(Effect::Append {
            ticket,
            command: Arc::new(command),
        });
    }

    fn applied(
        &mut self,
        ticket: Ticket,
        outcome: &Outcome,
        now: Millis,
        fold: &Fold,
        out: &mut Vec<Effect>,
    ) {
        self.in_log = self.in_log.saturating_sub(1);
        out.push(Effect::Answer {
            ticket,
            answer: outcome.done.to_answer(),
        });
        // The hub may have told verdicts.
        self.answer_awaiting(now, &outcome.decided, fold, out);
    }

    fn is_idle(&self) -> bool {
        self.in_log == 0 && self.awaiting.is_empty()
    }

    fn ticket(input: &Input) -> Ticket {
        match input {
            Input::Deliver { ticket, .. }
            | Input::Queue { ticket, .. }
            | Input::Reject { ticket, .. }
            | Input::Verdicts { ticket, .. }
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
    fn answer_awaiting(
        &mut self,
        now: Millis,
        decided: &[Decided],
        fold: &Fold,
        out: &mut Vec<Effect>,
    ) {
        let so_far = |asked: &AskVerdicts| verdicts(fold, asked);
        self.awaiting.due(now, decided, so_far, |ticket, answer| {
            out.push(Effect::Answer { ticket, answer });
        });
    }
}

fn verdicts(fold: &Fold, asked: &AskVerdicts) -> SoFar {
    fold.verdicts_so_far(&asked.sender, asked.first, asked.count)
}

fn refuse(ticket: Ticket, refused: Refused) -> Effect {
    Effect::Answer {
        ticket,
        answer: Answer::Refused(refused),
    }
}
