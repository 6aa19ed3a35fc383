//! What a user's actor keeps beside the fold: how many requests are in the log's hands.
//!
//! A request that would change nothing is answered without a log entry, where the fold is sure of the answer: a claim
//! without consent costs no disk.
//!
//! Source: transport requirements, section 3.1.

use super::{
    command::Command,
    fold::Fold,
    introductions::{self, Guessers, Introduction},
    outcome::{Answer, Outcome, Refused},
};
use crate::{
    ids::UserUri,
    limits::CODE_BYTES,
    machine::{self, Millis, Ticket},
    wire::{
        joining::{Introduced, MadeCode},
        refusal::TryLater,
    },
};
use std::{collections::BTreeMap, sync::Arc};

/// What happened or is asked.
#[derive(Debug)]
pub enum Input {
    /// Somebody asks.
    Ask {
        /// Who waits.
        ticket: Ticket,
        /// What for.
        command: Arc<Command>,
    },
    /// A device of the user wants an introduction code.
    Introduce {
        /// Who waits.
        ticket: Ticket,
        /// The user.
        user: UserUri,
        /// For how long from now it is good; absent for ever.
        lifetime_ms: Option<u64>,
    },
    /// Random bytes, drawn for this ticket.
    Drawn {
        /// Who waits.
        ticket: Ticket,
        /// The bytes; none where there is no randomness.
        random: Option<[u8; CODE_BYTES]>,
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

/// What only the desk of a user orders.
#[derive(Debug, PartialEq, Eq)]
pub enum Own {
    /// Draw bytes that nobody can guess; they come back as [`Input::Drawn`].
    Draw {
        /// Who waits.
        ticket: Ticket,
    },
}

/// An introduction code on its way into the log.
#[derive(Debug)]
enum Making {
    /// It waits for its random bytes.
    Drawing {
        user: UserUri,
        not_after: Option<Millis>,
    },
    /// Its hash is in the log's hands.
    Keeping(Vec<u8>),
}

/// The volatile part of a user's actor.
#[derive(Debug, Default)]
pub struct Desk {
    in_log: usize,
    /// Introduction codes that are being made, by who waits for them.
    making: BTreeMap<Ticket, Making>,
    /// Who tried wrong introduction codes.
    guessers: Guessers,
}

impl machine::Desk for Desk {
    type Fold = Fold;
    type Input = Input;
    type Answer = Answer;
    type Own = Own;

    fn handle(&mut self, input: Input, now: Millis, fold: &Fold, out: &mut Vec<Effect>) {
        match input {
            Input::Ask { ticket, command } => self.ask(ticket, command, now, fold, out),
            Input::Introduce {
                ticket,
                user,
                lifetime_ms,
            } => {
                let not_after = lifetime_ms.map(|lifetime_ms| now.plus(lifetime_ms));
                let making = Making::Drawing { user, not_after };
                self.making.insert(ticket, making);
                out.push(Effect::Own(Own::Draw { ticket }));
            }
            Input::Drawn { ticket, random } => self.drawn(ticket, random, now, fold, out),
            Input::NotAppended { ticket, refused } => {
                self.finish(ticket, Answer::Refused(refused), out);
            }
        }
    }

    fn applied(
        &mut self,
        ticket: Ticket,
        outcome: &Outcome,
        _now: Millis,
        _fold: &Fold,
        out: &mut Vec<Effect>,
    ) {
        self.finish(ticket, outcome.answer.clone(), out);
    }

    fn is_idle(&self) -> bool {
        self.in_log == 0 && self.making.is_empty()
    }

    fn ticket(input: &Input) -> Ticket {
        match input {
            Input::Ask { ticket, .. }
            | Input::Introduce { ticket, .. }
            | Input::Drawn { ticket, .. }
            | Input::NotAppended { ticket, .. } => *ticket,
        }
    }

    fn frozen() -> Answer {
        Answer::Refused(Refused::Poisoned)
    }
}

impl Desk {
    fn ask(
        &mut self,
        ticket: Ticket,
        command: Arc<Command>,
        now: Millis,
        fold: &Fold,
        out: &mut Vec<Effect>,
    ) {
        if let Some(mut answer) = fold.answer_without_log(now, &command) {
            self.making.remove(&ticket);
            if let (Answer::Introduced(introduced), Command::Introduction(what)) =
                (&mut answer, &*command)
                && let Introduction::Resolve { peer, .. } = what
            {
                let judged = std::mem::replace(introduced, Introduced::NotAuthorized);
                *introduced = self.guessers.judge(peer, now, judged);
            }
            return out.push(Effect::Answer { ticket, answer });
        }
        self.in_log += 1;
        out.push(Effect::Append { ticket, command });
    }

    /// An introduction code can be made: it is kept as a hash, and told to whoever waits once that is in the log.
    fn drawn(
        &mut self,
        ticket: Ticket,
        random: Option<[u8; CODE_BYTES]>,
        now: Millis,
        fold: &Fold,
        out: &mut Vec<Effect>,
    ) {
        let Some(Making::Drawing { user, not_after }) = self.making.remove(&ticket) else {
            return;
        };
        let Some(random) = random else {
            let answer = Answer::Refused(Refused::TryLater(TryLater::BUSY));
            return out.push(Effect::Answer { ticket, answer });
        };
        let code = introductions::code(&user, random);
        let hash = introductions::hash(&code);
        self.making.insert(ticket, Making::Keeping(code));
        let keep = Introduction::Keep { hash, not_after };
        self.ask(
            ticket,
            Arc::new(Command::Introduction(keep)),
            now,
            fold,
            out,
        );
    }

    fn finish(&mut self, ticket: Ticket, mut answer: Answer, out: &mut Vec<Effect>) {
        self.in_log = self.in_log.saturating_sub(1);
        if let Some(Making::Keeping(code)) = self.making.remove(&ticket)
            && let Answer::IntroductionKept(id) = answer
        {
            let code = code.into();
            answer = Answer::Introduced(Introduced::Created(MadeCode { id, code }));
        }
        out.push(Effect::Answer { ticket, answer });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        machine::{Desk as _, Moment},
        user::{
            command::{Claim, Consent, Enrol, Upload},
            testing::{
                Log, NOW, alice, claim, client, code, delivered, package, user, welcome_for,
            },
        },
        wire::{
            Payload,
            claim::{ClaimTerms, UserRefused},
            post::Notice,
        },
    };

    const WAITER: Ticket = Ticket(1);

    fn ask(desk: &mut Desk, fold: &Fold, command: Command) -> Vec<Effect> {
        let mut out = Vec::new();
        let command = Arc::new(command);
        desk.handle(
            Input::Ask {
                ticket: WAITER,
                command,
            },
            NOW,
            fold,
            &mut out,
        );
        out
    }

    fn answered(answer: Answer) -> Vec<Effect> {
        vec![Effect::Answer {
            ticket: WAITER,
            answer,
        }]
    }

    /// The answer that a desk with nothing to do gives at once.
    fn at_once(fold: &Fold, command: Command) -> Option<Answer> {
        let mut desk = Desk::default();
        match ask(&mut desk, fold, command).pop() {
            Some(Effect::Answer { answer, .. }) => {
                assert!(desk.is_idle());
                Some(answer)
            }
            Some(Effect::Append { .. } | Effect::Own(_)) | None => None,
        }
    }

    fn plain() -> Claim {
        claim(1, ClaimTerms::new(alice()))
    }

    #[test]
    fn a_wrong_enrolment_code_costs_the_log_nothing() {
        let mut bobby = Log::bobby(&[]);
        assert_eq!(bobby.issue(code(100)), Answer::Done);
        let enrol = |number: u64, device_key| {
            Command::Enrol(Enrol {
                code: code(number),
                client: client("phone"),
                device_key,
            })
        };
        let not_known = Some(Answer::Refused(Refused::NotKnown));
        assert_eq!(at_once(&bobby.fold, enrol(200, [1; 32])), not_known);
        assert_eq!(at_once(&bobby.fold, enrol(100, [1; 32])), None);
        bobby.apply(enrol(100, [1; 32]));
        assert_eq!(at_once(&bobby.fold, enrol(100, [1; 32])), None, "a retry");
        assert_eq!(at_once(&bobby.fold, enrol(100, [2; 32])), not_known);
    }

    #[test]
    fn who_was_never_asked_for_a_keypackage_is_brought_into_no_room_of_another_provider() {
        let mut bobby = Log::bobby(&["phone"]);
        bobby.stock("phone", [1]);
        let brought = |room: &str, welcome: Payload| {
            let mut deliver = delivered("club", &["phone"]);
            deliver.post.room = room.parse().unwrap();
            if let Notice::Joined { welcome: told, .. } = &mut deliver.post.notice {
                let told = told.as_mut().unwrap();
                told.welcome = welcome;
            }
            Command::Deliver(deliver)
        };
        let (theirs, own) = ("mimi://a.example/r/club", "mimi://b.example/r/club");
        let package = package(1);
        let named = || welcome_for(&[&package.reference]);
        let nothing_done = Some(Answer::Done);
        assert_eq!(at_once(&bobby.fold, brought(theirs, named())), nothing_done);
        assert_eq!(at_once(&bobby.fold, brought(own, named())), None);
        assert!(bobby.claim_plain(1).is_ok());
        assert_eq!(at_once(&bobby.fold, brought(theirs, named())), None);
        for other in [welcome_for(&[]), Payload::from(vec![7; 99])] {
            assert_eq!(at_once(&bobby.fold, brought(theirs, other)), nothing_done);
        }
    }

    #[test]
    fn a_claim_is_answered_when_the_log_has_it() {
        let mut bobby = Log::bobby(&["phone"]);
        bobby.stock("phone", [1]);
        let mut desk = Desk::default();
        let command = Command::Claim(plain());
        let append = Effect::Append {
            ticket: WAITER,
            command: Arc::new(command.clone()),
        };
        assert_eq!(ask(&mut desk, &bobby.fold, command.clone()), [append]);
        assert!(!desk.is_idle());
        let outcome = bobby.apply(command);
        let mut out = Vec::new();
        desk.applied(WAITER, &outcome, NOW, &bobby.fold, &mut out);
        assert_eq!(out, answered(outcome.answer));
        assert!(desk.is_idle());
    }

    #[test]
    fn a_remembered_claim_is_answered_without_the_log() {
        let mut bobby = Log::bobby(&["phone"]);
        bobby.stock("phone", [1]);
        assert_eq!(at_once(&bobby.fold, Command::Claim(plain())), None);
        let first = bobby.claim(plain());
        let again = at_once(&bobby.fold, Command::Claim(plain()));
        assert_eq!(again, Some(Answer::Claimed(first)));
        let other = Claim {
            body: crate::wire::event::Hash::default(),
            ..plain()
        };
        let conflict = Answer::Claimed(Err(UserRefused::Conflict));
        assert_eq!(at_once(&bobby.fold, Command::Claim(other)), Some(conflict));
    }

    #[test]
    fn what_would_change_nothing_does_not_reach_the_log() {
        let consent = Consent {
            requester: alice().into(),
            room: None,
            grant: Some(true),
        };
        let upload = Upload {
            client: client("phone"),
            packages: vec![Ok(package(1))],
        };
        let asks = [Command::Consent(consent), Command::Upload(upload)];

        let nobody = Fold::default();
        let refused = Answer::Claimed(Err(UserRefused::Unknown));
        assert_eq!(at_once(&nobody, Command::Claim(plain())), Some(refused));
        let unknown = Some(Answer::Refused(Refused::Unknown));
        assert_eq!(at_once(&nobody, Command::Delete), unknown);
        for command in &asks {
            assert_eq!(at_once(&nobody, command.clone()), unknown);
        }

        let mut bobby = Log::bobby(&["phone"]);
        for command in &asks {
            assert_eq!(at_once(&bobby.fold, command.clone()), None);
        }
        bobby.consent(alice(), None, None);
        let refused = Answer::Claimed(Err(UserRefused::NoConsent));
        assert_eq!(at_once(&bobby.fold, Command::Claim(plain())), Some(refused));

        bobby.apply(Command::Delete);
        let refused = Answer::Claimed(Err(UserRefused::Deleted));
        assert_eq!(at_once(&bobby.fold, Command::Claim(plain())), Some(refused));
        assert_eq!(
            at_once(&bobby.fold, Command::Delete),
            Some(Answer::Refused(Refused::Deleted))
        );
        for command in asks {
            let deleted = Some(Answer::Refused(Refused::Deleted));
            assert_eq!(at_once(&bobby.fold, command), deleted);
        }
    }

    #[test]
    fn what_is_settled_is_what_the_log_would_have_said() {
        let mut bobby = Log::bobby(&["phone"]);
        bobby.consent(alice(), None, None);
        for command in [Command::Claim(plain()), Command::Delete] {
            if let Some(answer) = bobby.fold.answer_without_log(NOW, &command) {
                let before = bobby.fold.clone();
                let moment = Moment {
                    time: NOW,
                    ..Moment::default()
                };
                let outcome = machine::Fold::apply(&mut bobby.fold, moment, &command);
                assert_eq!(outcome.answer, answer);
                assert_eq!(bobby.fold, before);
            }
        }
    }

    /// A desk of bobby that waits for the bytes of a code.
    fn making() -> (Log, Desk) {
        let bobby = Log::bobby(&["phone"]);
        let mut desk = Desk::default();
        let introduce = Input::Introduce {
            ticket: WAITER,
            user: user("bobby"),
            lifetime_ms: Some(500),
        };
        let mut out = Vec::new();
        desk.handle(introduce, NOW, &bobby.fold, &mut out);
        assert_eq!(out, [Effect::Own(Own::Draw { ticket: WAITER })]);
        assert!(!desk.is_idle());
        (bobby, desk)
    }

    fn drawn(desk: &mut Desk, bobby: &Log, random: Option<[u8; CODE_BYTES]>) -> Option<Effect> {
        let mut out = Vec::new();
        let ticket = WAITER;
        desk.handle(Input::Drawn { ticket, random }, NOW, &bobby.fold, &mut out);
        out.pop()
    }

    #[test]
    fn an_introduction_code_is_told_once_its_hash_is_in_the_log() {
        let (mut bobby, mut desk) = making();
        let code = introductions::code(&user("bobby"), [9; CODE_BYTES]);
        let Some(Effect::Append { command, .. }) = drawn(&mut desk, &bobby, Some([9; CODE_BYTES]))
        else {
            panic!("it goes into the log")
        };
        let keep = Introduction::Keep {
            hash: introductions::hash(&code),
            not_after: Some(NOW.plus(500)),
        };
        assert_eq!(*command, Command::Introduction(keep));
        let outcome = bobby.apply(Command::clone(&command));
        let mut out = Vec::new();
        desk.applied(WAITER, &outcome, NOW, &bobby.fold, &mut out);
        let Some(Effect::Answer { answer, .. }) = out.pop() else {
            panic!("it is answered")
        };
        let Answer::Introduced(Introduced::Created(made)) = answer else {
            panic!("it is made: {answer:?}")
        };
        assert_eq!(made.code.to_vec(), code);
        assert!(desk.is_idle());
    }

    #[test]
    fn a_code_that_cannot_be_drawn_or_kept_leaves_nothing_behind() {
        let busy = Answer::Refused(Refused::TryLater(TryLater::BUSY));
        let (bobby, mut desk) = making();
        assert_eq!(drawn(&mut desk, &bobby, None), answered(busy.clone()).pop());
        assert!(desk.is_idle());

        let (bobby, mut desk) = making();
        drawn(&mut desk, &bobby, Some([9; CODE_BYTES]));
        let refused = Refused::TryLater(TryLater::BUSY);
        let input = Input::NotAppended {
            ticket: WAITER,
            refused,
        };
        let mut out = Vec::new();
        desk.handle(input, NOW, &bobby.fold, &mut out);
        assert_eq!(out, answered(busy));
        assert!(desk.is_idle());

        let (_, mut desk) = making();
        let mut nobody = Log::bobby(&[]);
        nobody.apply(Command::Delete);
        let deleted = Answer::Refused(Refused::Deleted);
        let told = drawn(&mut desk, &nobody, Some([9; CODE_BYTES]));
        assert_eq!(told, answered(deleted).pop());
        assert!(desk.is_idle());
    }

    #[test]
    fn what_the_log_did_not_take_is_refused_and_no_longer_in_flight() {
        let bobby = Log::bobby(&["phone"]);
        let mut desk = Desk::default();
        ask(&mut desk, &bobby.fold, Command::Delete);
        let refused = Refused::TryLater(TryLater::unavailable(100));
        let input = Input::NotAppended {
            ticket: WAITER,
            refused,
        };
        assert_eq!(Desk::ticket(&input), WAITER);
        let mut out = Vec::new();
        desk.handle(input, NOW, &bobby.fold, &mut out);
        assert_eq!(out, answered(Answer::Refused(refused)));
        assert!(desk.is_idle());
        assert_eq!(Desk::frozen(), Answer::Refused(Refused::Poisoned));
    }
}
