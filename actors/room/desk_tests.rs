use super::{
    desk::{Check, Checked, Desk, Effect, Input, Own},
    hub::{self, Command, Fold, Via},
    outcome::{Answer, Done, Outcome, Refused},
    testing::*,
};
use crate::{
    caller::Caller,
    ids::ClientUri,
    limits::COMMITS_WAITING_PER_ROOM_MAX,
    machine::{Desk as _, Millis, Ticket},
    mls::check::{
        bundle::{Bundle, BundleRefused, SenderRefused},
        create::CheckedCreate,
        proposal::ProposalRefused,
    },
    wire::{
        BVec, Payload,
        event::{ClientSeq, Epoch, Hash},
        refusal::TryLater,
        refusal::{Flaw, Why},
        room::{Beginning, Request},
    },
};
use std::sync::Arc;

/// A desk beside its fold, and whoever plays the workers and the log.
struct World {
    desk: Desk,
    hub: Hub,
}

/// What a desk ordered, in few words.
#[derive(Debug, PartialEq)]
enum Order {
    Check(u64),
    Append(u64),
    Answer(u64, Answer),
}

fn asked(ticket: Ticket, client: ClientUri, request: Request) -> Input {
    Input::Ask {
        ticket,
        caller: Caller::of(client),
        request,
    }
}

impl World {
    fn of(hub: Hub) -> Self {
        let desk = Desk::default();
        Self { desk, hub }
    }

    fn effects(&mut self, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        self.desk.handle(input, Millis(1), &self.hub.fold, &mut out);
        out
    }

    fn orders(&mut self, input: Input) -> Vec<Order> {
        self.effects(input).iter().map(order).collect()
    }

    fn commit(&mut self, ticket: u64, bundle: Bundle) -> Vec<Order> {
        self.commit_of(ticket, alice(), bundle)
    }

    fn commit_of(&mut self, ticket: u64, sender: ClientUri, bundle: Bundle) -> Vec<Order> {
        let ticket = Ticket(ticket);
        self.orders(asked(ticket, sender, Request::Commit(bundle)))
    }

    /// A worker finds the bundle in flight right.
    fn found_right(&mut self, ticket: u64) -> Arc<Command> {
        let on = self.hub.room().checked_on();
        let result = Ok(checked(on.epoch.0));
        let checked = Box::new(Checked::Bundle {
            on,
            rate: PLENTY,
            result,
            again: Vec::new(),
        });
        let ticket = Ticket(ticket);
        let effects = self.effects(Input::Checked { ticket, checked });
        let [Effect::Append { command, .. }] = &effects[..] else {
            unreachable!("{effects:?}");
        };
        Arc::clone(command)
    }

    fn found(&mut self, ticket: u64, checked: Checked) -> Vec<Order> {
        let (ticket, checked) = (Ticket(ticket), Box::new(checked));
        self.orders(Input::Checked { ticket, checked })
    }

    fn found_wrong(&mut self, ticket: u64, refused: BundleRefused) -> Vec<Order> {
        let on = self.hub.room().checked_on();
        let result = Err(refused);
        self.found(
            ticket,
            Checked::Bundle {
                on,
                rate: PLENTY,
                result,
                again: Vec::new(),
            },
        )
    }

    /// The log applies a command of this desk.
    fn applied(&mut self, ticket: u64, command: &Command) -> (Outcome, Vec<Order>) {
        let outcome = self.hub.apply(command);
        let mut out = Vec::new();
        let ticket = Ticket(ticket);
        self.desk
            .applied(ticket, &outcome, Millis(1), &self.hub.fold, &mut out);
        (outcome, out.iter().map(order).collect())
    }

    fn not_appended(&mut self, ticket: u64, refused: Refused) -> Vec<Order> {
        let ticket = Ticket(ticket);
        self.orders(Input::NotAppended { ticket, refused })
    }

    fn wrong_epoch(&self) -> Answer {
        Answer::Refused(self.hub.room().wrong_epoch())
    }
}

fn order(effect: &Effect) -> Order {
    match effect {
        Effect::Own(Own::Check { ticket, .. }) => Order::Check(ticket.0),
        Effect::Append { ticket, .. } => Order::Append(ticket.0),
        Effect::Answer { ticket, answer } => Order::Answer(ticket.0, answer.clone()),
        Effect::Own(Own::Wake { .. } | Own::CodeRefused { .. }) => unreachable!("{effect:?}"),
    }
}

fn refused(ticket: u64, refused: Refused) -> Order {
    Order::Answer(ticket, Answer::Refused(refused))
}

fn invalid_code(orders: &[Order]) -> String {
    match orders {
        [Order::Answer(_, Answer::Refused(Refused::Invalid(Flaw { code, .. })))] => {
            code.to_string()
        }
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn one_commit_is_in_flight_and_the_next_learn_its_outcome_without_a_log_entry() {
    let mut world = World::of(Hub::created());
    assert_eq!(world.commit(1, bundle(0, "A")), [Order::Check(1)]);
    assert_eq!(world.commit(2, bundle(0, "B")), []);
    assert_eq!(world.commit(3, bundle(0, "C")), []);
    let command = world.found_right(1);
    let (outcome, orders) = world.applied(1, &command);
    assert!(matches!(outcome.done, Done::Answer(Answer::Committed(_))));
    let lost = world.wrong_epoch();
    assert!(
        matches!(&lost, Answer::Refused(Refused::WrongEpoch { current: Epoch(1), winner })
        if *winner == Hash::of(&bundle(0, "A").commit))
    );
    assert_eq!(
        orders,
        [
            Order::Answer(1, outcome.done.to_answer()),
            Order::Answer(2, lost.clone()),
            Order::Answer(3, lost)
        ]
    );
    assert!(world.desk.is_idle());
}

#[test]
fn the_check_of_a_commit_gets_the_state_that_the_room_is_in() {
    let mut world = World::of(Hub::created());
    world.hub.propose(&alice(), vec![proposal(0, "p")]);
    let input = asked(Ticket(1), alice(), Request::Commit(bundle(0, "A")));
    let effects = world.effects(input);
    let [Effect::Own(Own::Check { check, .. })] = &effects[..] else {
        unreachable!("{effects:?}");
    };
    let Check::Bundle {
        view: seen,
        pending,
        on,
        bundle: sent,
        sender,
        now,
    } = &**check
    else {
        unreachable!("{check:?}");
    };
    assert_eq!((seen, sender, now), (&view(0), &alice(), &Millis(1)));
    let waits = crate::mls::check::proposal::PendingProposal {
        accepted: world.hub.room().pending()[0].accepted,
        ..proposal(0, "p")
    };
    assert_eq!(pending[..], [waits]);
    assert_eq!(*on, world.hub.room().checked_on());
    assert_eq!(*sent, bundle(0, "A"));
}

#[test]
fn a_commit_carries_into_the_log_what_was_sent_and_what_the_check_found() {
    let mut world = World::of(Hub::created());
    let mut sent = bundle(0, "A");
    sent.welcome = Some(bytes::Bytes::from_static(b"welcome").into());
    world.commit(1, sent.clone());
    let on = world.hub.room().checked_on();
    let Command::Commit(commit) = &*world.found_right(1) else {
        unreachable!("a Commit becomes a Commit");
    };
    assert_eq!((&commit.sender, commit.on), (&alice(), on));
    assert_eq!(commit.commit, sent.commit);
    assert_eq!(commit.welcome, sent.welcome);
    assert_eq!(commit.checked, checked(0));
}

#[test]
fn so_many_commits_wait_and_the_next_finds_the_room_busy() {
    let mut world = World::of(Hub::created());
    world.commit(0, bundle(0, "in flight"));
    for ticket in 1..=COMMITS_WAITING_PER_ROOM_MAX as u64 {
        assert_eq!(
            world.commit(ticket, bundle(0, &format!("waits {ticket}"))),
            []
        );
    }
    let orders = world.commit(99, bundle(0, "one too many"));
    assert!(matches!(
        orders[..],
        [Order::Answer(
            99,
            Answer::Refused(Refused::TryLater(TryLater {
                why: Why::Overloaded,
                after_ms: 1..
            }))
        )]
    ));
    let command = world.found_right(0);
    assert_eq!(
        world.applied(0, &command).1.len(),
        1 + COMMITS_WAITING_PER_ROOM_MAX
    );
}

#[test]
fn a_commit_above_the_rate_reaches_no_worker_once_an_accepted_one_has_said_the_rate() {
    let mut world = World::of(Hub::created());
    let rate = crate::bucket::Rate {
        burst: 1,
        per_minute: 60,
    };
    world.commit(1, bundle(0, "A"));
    let on = world.hub.room().checked_on();
    let result = Ok(checked(0));
    let (ticket, checked) = (
        Ticket(1),
        Box::new(Checked::Bundle {
            on,
            rate,
            result,
            again: Vec::new(),
        }),
    );
    let effects = world.effects(Input::Checked { ticket, checked });
    let [Effect::Append { command, .. }] = &effects[..] else {
        unreachable!("{effects:?}");
    };
    let (outcome, _) = world.applied(1, command);
    assert!(matches!(outcome.done, Done::Answer(Answer::Committed(_))));
    let orders = world.commit(2, bundle(1, "B"));
    let limited = matches!(
        orders[..],
        [Order::Answer(2, Answer::Refused(Refused::Limited { .. }))]
    );
    assert!(limited, "{orders:?}");
    assert_eq!(
        world.commit(3, bundle(0, "A")),
        [Order::Answer(3, outcome.done.to_answer())]
    );
    assert!(world.desk.is_idle());
}

#[test]
fn a_commit_whose_check_became_stale_is_checked_again_and_nobody_is_told() {
    let mut world = World::of(Hub::created());
    world.commit(1, bundle(0, "A"));
    world.commit(2, bundle(0, "B"));
    let command = world.found_right(1);
    world.hub.propose(&alice(), vec![proposal(0, "p")]);
    let (outcome, orders) = world.applied(1, &command);
    assert_eq!(outcome.done, Done::Stale);
    assert_eq!(orders, [Order::Check(1)]);
    let command = world.found_right(1);
    let (outcome, orders) = world.applied(1, &command);
    assert!(matches!(outcome.done, Done::Answer(Answer::Committed(_))));
    assert_eq!(orders.len(), 2);
    assert!(world.desk.is_idle());
}

#[test]
fn a_commit_that_the_log_did_not_take_is_answered_and_the_next_begins() {
    let mut world = World::of(Hub::created());
    world.commit(1, bundle(0, "A"));
    world.commit(2, bundle(0, "B"));
    world.found_right(1);
    let unavailable = Refused::TryLater(TryLater::unavailable(9));
    assert_eq!(
        world.not_appended(1, unavailable.clone()),
        [refused(1, unavailable), Order::Check(2)]
    );
    let command = world.found_right(2);
    assert!(matches!(
        world.applied(2, &command).0.done.to_answer(),
        Answer::Committed(_)
    ));
    assert!(world.desk.is_idle());
}

#[test]
fn a_wrong_commit_is_answered_and_the_next_begins() {
    let mut world = World::of(Hub::created());
    world.commit(1, bundle(0, "A"));
    world.commit(2, bundle(0, "B"));
    let wrong = BundleRefused::GroupInfoMismatch { field: "tree_hash" };
    let orders = world.found_wrong(1, wrong);
    assert_eq!(orders[1], Order::Check(2));
    assert_eq!(invalid_code(&orders[..1]), "group_info_mismatch");
    let orders = world.found(2, Checked::Overloaded);
    assert!(matches!(
        orders[..],
        [Order::Answer(2, Answer::Refused(Refused::TryLater(_)))]
    ));
    assert!(world.desk.is_idle());
}

#[test]
fn every_refusal_of_a_bundle_has_its_own_shape_or_a_stable_code() {
    let reference = bytes::Bytes::from_static(b"reference");
    let references = || BVec::from([Payload(reference.clone())]);
    let answer = |refused: BundleRefused| {
        let mut world = World::of(Hub::created());
        world.commit(1, bundle(0, "A"));
        world.found_wrong(1, refused)
    };
    let wrong = BundleRefused::WrongEpoch {
        commit: 3,
        current: 0,
    };
    assert_eq!(
        answer(wrong),
        [refused(1, Hub::created().room().wrong_epoch())]
    );
    let stranger = BundleRefused::Sender(SenderRefused::NotMember);
    assert_eq!(answer(stranger), [refused(1, Refused::NotMember)]);
    let provider = provider("x");
    let unreached = BundleRefused::NoLink(provider.clone());
    let told = Refused::ProviderUnknown { provider };
    assert_eq!(answer(unreached), [refused(1, told)]);
    let unknown = BundleRefused::UnknownProposals {
        references: vec![reference.clone()],
    };
    let told = Refused::UnknownProposals {
        references: references(),
    };
    assert_eq!(answer(unknown), [refused(1, told)]);
    let invalid = BundleRefused::InvalidProposals {
        references: vec![reference.clone()],
        reason: "two proposals change one leaf",
    };
    assert!(matches!(
        &answer(invalid)[..],
        [Order::Answer(1, Answer::Refused(Refused::InvalidProposals { references: told, detail }))]
            if *told == references() && detail.contains("two proposals change one leaf")
    ));
    for (refused, code) in [
        (
            BundleRefused::Sender(SenderRefused::NotBound),
            "sender_not_bound",
        ),
        (BundleRefused::Signature { of: "Commit" }, "signature"),
        (BundleRefused::Unsupported("it"), "unsupported"),
        (BundleRefused::WrongGroup, "wrong_group"),
        (
            BundleRefused::WelcomeMismatch { reason: "it" },
            "welcome_mismatch",
        ),
    ] {
        assert_eq!(invalid_code(&answer(refused)), code);
    }
}

#[test]
fn a_hopeless_commit_is_refused_before_a_worker_sees_it() {
    let mut world = World::of(Hub::created());
    world.hub.advance(2);
    let stale = world.wrong_epoch();
    for epoch in [0, 1, 3] {
        assert_eq!(
            world.commit(1, bundle(epoch, "A")),
            [Order::Answer(1, stale.clone())]
        );
    }
    assert_eq!(
        world.commit_of(1, bob(), bundle(2, "A")),
        [refused(1, Refused::NotAuthorized)]
    );
    assert_eq!(
        invalid_code(&world.commit(1, bundle_of(b"another", 2, "A"))),
        "wrong_group"
    );
    let mut garbled = bundle(2, "A");
    garbled.commit = garbled.commit.slice(..8).into();
    assert_eq!(invalid_code(&world.commit(1, garbled)), "malformed_commit");
    let mut nowhere = World::of(Hub::default());
    assert_eq!(
        nowhere.commit(1, bundle(0, "A")),
        [refused(1, Refused::NotAuthorized)]
    );
    assert!(world.desk.is_idle() && nowhere.desk.is_idle());
}

#[test]
fn a_retry_of_an_accepted_bundle_gets_its_first_answer_from_the_desk() {
    let mut world = World::of(Hub::created());
    world.commit(1, bundle(0, "A"));
    // The answer to the first was lost: its retry waits behind it and learns the same.
    assert_eq!(world.commit(2, bundle(0, "A")), []);
    let command = world.found_right(1);
    let (outcome, orders) = world.applied(1, &command);
    let answer = outcome.done.to_answer();
    assert_eq!(
        orders,
        [
            Order::Answer(1, answer.clone()),
            Order::Answer(2, answer.clone())
        ]
    );
    world.hub.advance(2);
    assert_eq!(world.commit(3, bundle(0, "A")), [Order::Answer(3, answer)]);
}

#[test]
fn other_requests_go_past_the_commit_in_flight() {
    let mut world = World::of(Hub::created());
    world.commit(1, bundle(0, "A"));
    let submit = hub::Submit {
        sender: alice(),
        via: Via::Client(ClientSeq(1)),
        messages: BVec::from([message(0, "x")]),
    };
    let input = Input::Submit {
        ticket: Ticket(2),
        submit,
    };
    let effects = world.effects(input);
    let [
        Effect::Append {
            ticket: Ticket(2),
            command,
        },
    ] = &effects[..]
    else {
        unreachable!("{effects:?}");
    };
    let messages = BVec::from([Payload(bytes::Bytes::from_static(b"p"))]);
    let propose = asked(Ticket(3), alice(), Request::Propose(messages));
    assert_eq!(world.orders(propose), [Order::Check(3)]);
    let (outcome, orders) = world.applied(2, command);
    assert_eq!(orders, [Order::Answer(2, outcome.done.to_answer())]);
    let result = Ok([proposal(0, "p")].into());
    let (sender, on) = (alice(), Epoch(0));
    assert_eq!(
        world.found(3, Checked::Proposals { sender, on, result }),
        [Order::Append(3)]
    );
    assert!(!world.desk.is_idle());
    assert_eq!(
        world.not_appended(3, Refused::StorageFull),
        [refused(3, Refused::StorageFull)]
    );
    let command = world.found_right(1);
    world.applied(1, &command);
    assert!(world.desk.is_idle());
}

#[test]
fn proposals_and_messages_to_no_room_and_proposals_of_strangers_are_refused_at_once() {
    let messages = || BVec::from([Payload(bytes::Bytes::from_static(b"p"))]);
    let mut nowhere = World::of(Hub::default());
    let (ticket, sender) = (Ticket(1), alice());
    let propose = asked(ticket, sender, Request::Propose(messages()));
    assert_eq!(
        nowhere.orders(propose),
        [refused(1, Refused::NotAuthorized)]
    );
    let submit = hub::Submit {
        sender: alice(),
        via: Via::Client(ClientSeq(1)),
        messages: BVec::default(),
    };
    assert_eq!(
        nowhere.orders(Input::Submit { ticket, submit }),
        [refused(1, Refused::NotAuthorized)]
    );
    let mut world = World::of(Hub::created());
    let propose = asked(ticket, bob(), Request::Propose(messages()));
    assert_eq!(world.orders(propose), [refused(1, Refused::NotAuthorized)]);
    assert!(nowhere.desk.is_idle() && world.desk.is_idle());
}

#[test]
fn accepted_proposals_are_answered_again_without_a_worker() {
    let mut hub = Hub::created();
    let first = hub.propose(&alice(), vec![proposal(0, "p")]);
    hub.advance(1);
    let mut world = World::of(hub);
    let messages = BVec::from([Payload(bytes::Bytes::from_static(b"p"))]);
    let propose = asked(Ticket(7), alice(), Request::Propose(messages));
    assert_eq!(
        world.orders(propose),
        [Order::Answer(7, first.done.to_answer())]
    );
    assert!(world.desk.is_idle());
}

#[test]
fn refused_proposals_are_answered_with_their_shape_or_a_stable_code() {
    for (found, told) in [
        (ProposalRefused::NotMember, Some(Refused::NotMember)),
        (
            ProposalRefused::WrongEpoch {
                proposal: 4,
                current: 0,
            },
            Some(Hub::created().room().wrong_epoch()),
        ),
        (ProposalRefused::Signature, None),
    ] {
        let mut world = World::of(Hub::created());
        let messages = BVec::from([Payload(bytes::Bytes::from_static(b"p"))]);
        world.orders(asked(Ticket(1), alice(), Request::Propose(messages)));
        let (sender, on, result) = (alice(), Epoch(0), Err(found));
        let orders = world.found(1, Checked::Proposals { sender, on, result });
        match told {
            Some(told) => assert_eq!(orders, [refused(1, told)]),
            None => assert_eq!(invalid_code(&orders), "signature"),
        }
        assert!(world.desk.is_idle());
    }
}

#[test]
fn a_room_is_created_when_the_check_of_its_group_is_good() {
    let mut world = World::of(Hub::default());
    let create_room = |ticket| {
        let beginning = Beginning {
            group_info: view(0).group_info.into(),
            tree: view(0).tree.into(),
        };
        asked(Ticket(ticket), alice(), Request::Create(beginning))
    };
    assert_eq!(world.orders(create_room(1)), [Order::Check(1)]);
    let create = create();
    let result = Ok(CheckedCreate {
        view: create.view.clone(),
        members: create.members.clone(),
    });
    let checked = Box::new(Checked::Create {
        creator: alice(),
        result,
    });
    let effects = world.effects(Input::Checked {
        ticket: Ticket(1),
        checked,
    });
    let [Effect::Append { command, .. }] = &effects[..] else {
        unreachable!("{effects:?}");
    };
    assert_eq!(**command, Command::Create(create));
    assert_eq!(
        world.applied(1, command).1,
        [Order::Answer(1, Answer::Created)]
    );
    world.orders(create_room(2));
    let result = Err(BundleRefused::WrongGroup);
    let orders = world.found(
        2,
        Checked::Create {
            creator: alice(),
            result,
        },
    );
    assert_eq!(invalid_code(&orders), "wrong_group");
    assert!(world.desk.is_idle());
}

#[test]
fn a_frozen_room_says_so_to_whoever_asks() {
    assert_eq!(Desk::frozen(), Answer::Refused(Refused::Poisoned));
    let not_appended = Input::NotAppended {
        ticket: Ticket(6),
        refused: Refused::Poisoned,
    };
    assert_eq!(Desk::ticket(&not_appended), Ticket(6));
    assert!(Fold::default().room().is_none());
}
