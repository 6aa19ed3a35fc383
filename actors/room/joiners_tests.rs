use super::{
    codes::{Code, CodeFlaw, KeepCode, Passphrase, WrongCode},
    desk::{Check, Checked, Desk, Effect, Input, Own},
    hub::Command,
    outcome::{Answer, Done, Outcome, Refused},
    testing::*,
};
use crate::{
    caller::Caller,
    ids::ClientUri,
    limits::{
        JOINER_PLACE_KEPT_MS, JOINERS_IN_CHECK_PER_PROVIDER_MAX, JOINERS_WAITING_KEPT_PER_ROOM,
        JOINERS_WAITING_PER_PROVIDER_MAX, JOINERS_WAITING_PER_ROOM_MAX,
        JOINERS_WAITING_PER_USER_MAX, LEASE_MS, WRONG_CODES_LOOK_AFTER_MS,
        WRONG_CODES_PER_PROVIDER_MAX,
    },
    machine::{Desk as _, Millis, Ticket},
    wire::{
        BText, Payload,
        event::Hash,
        joining::{CodeId, SealedGroupInfo},
        refusal::TryLater,
        room::Request,
    },
};
use std::sync::Arc;

/// A desk beside its fold, and whoever plays the workers, the log and the clock.
struct World {
    desk: Desk,
    hub: Hub,
    /// One with which anybody may join.
    code: CodeId,
}

impl World {
    /// A room of Alice and Bob whose leases are of the usual length.
    fn new() -> Self {
        let (desk, mut hub) = (Desk::default(), Hub::with(&[bob()]));
        let code = Code {
            hash: Hash::default(),
            uses_left: None,
            not_after: None,
            role_index: None,
            passphrase: None,
            creator: alice(),
            revoked: false,
        };
        let kept = hub.apply(&Command::KeepCode(KeepCode { code })).done;
        let Done::CodeKept(code) = kept else {
            unreachable!("{kept:?}")
        };
        Self { desk, hub, code }
    }

    fn now(&self) -> Millis {
        Millis(self.hub.time)
    }

    fn give(&mut self, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        let now = self.now();
        self.desk.handle(input, now, &self.hub.fold, &mut out);
        out
    }

    /// A device of a user of the hub asks under this ticket, and a worker finds that it may.
    fn ask(&mut self, ticket: u64, device: &str) -> Vec<Effect> {
        self.ask_of(ticket, &device_of(device))
    }

    fn ask_of(&mut self, ticket: u64, joiner: &ClientUri) -> Vec<Effect> {
        let request = Arc::new(joining(ticket, joiner, self.now()));
        let checks = self.give(Input::Ask {
            ticket: Ticket(ticket),
            caller: Caller::of(request.joiner.clone()),
            request: Request::GroupInfo(request),
        });
        assert!(
            matches!(&checks[..], [Effect::Own(Own::Check { check, .. })] if matches!(**check, Check::Admit { .. })),
            "{checks:?}"
        );
        self.found(
            ticket,
            Checked::Admit {
                flaw: None,
                code: Some(Ok(self.code)),
                lease_ms: LEASE_MS,
            },
        )
    }

    fn found(&mut self, ticket: u64, checked: Checked) -> Vec<Effect> {
        let (ticket, checked) = (Ticket(ticket), Box::new(checked));
        self.give(Input::Checked { ticket, checked })
    }

    /// Lets time pass, and wakes the desk.
    fn pass(&mut self, ms: u32) -> Vec<Effect> {
        self.hub.time += u64::from(ms);
        self.give(Input::Wake)
    }

    /// The log applies a command, which is this desk's.
    fn apply(&mut self, ticket: u64, command: &Command) -> (Outcome, Vec<Effect>) {
        let outcome = self.hub.apply(command);
        let mut out = Vec::new();
        let (ticket, now) = (Ticket(ticket), self.now());
        self.desk
            .applied(ticket, &outcome, now, &self.hub.fold, &mut out);
        (outcome, out)
    }

    /// The log applies the grant that the desk has ordered for this ticket, and a worker is to seal.
    fn grant(&mut self, ticket: u64, orders: &[Effect]) {
        let command = granted(ticket, orders);
        let (outcome, orders) = self.apply(ticket, &command);
        assert!(
            matches!(outcome.done, Done::Granted { .. }),
            "{:?}",
            outcome.done.to_answer()
        );
        let seals = orders.iter().any(
            |order| matches!(order, Effect::Own(Own::Check { check, .. }) if matches!(**check, Check::Seal(_))),
        );
        assert!(seals, "{orders:?}");
    }

    /// What a worker sealed.
    fn sealed(&self) -> Checked {
        Checked::Sealed(Ok(SealedGroupInfo {
            epoch: self.hub.room().epoch(),
            time: self.now(),
            lease_ms: LEASE_MS,
            kem_output: Payload::default(),
            ciphertext: Payload::default(),
            signature: Payload::default(),
        }))
    }

    /// Alice commits, which ends the lease.
    fn commit(&mut self) -> Vec<Effect> {
        let commit = self.hub.commit(&format!("Commit {}", self.hub.entry));
        self.apply(999, &Command::Commit(Box::new(commit))).1
    }
}

fn device_of(device: &str) -> ClientUri {
    client("a", "alice", device)
}

/// The grant that was ordered for this ticket.
fn granted(ticket: u64, orders: &[Effect]) -> Arc<Command> {
    let appended = orders.iter().find_map(|order| {
        let Effect::Append {
            ticket: of,
            command,
        } = order
        else {
            return None;
        };
        (*of == Ticket(ticket)).then_some(command)
    });
    let Some(command) = appended.filter(|command| matches!(***command, Command::Grant(_))) else {
        unreachable!("{orders:?}");
    };
    Arc::clone(command)
}

/// Who is answered that the room is busy: its place, and how long it will wait.
fn told(orders: &[Effect]) -> Vec<(u64, u32, u32)> {
    let busy = |order: &Effect| {
        let Effect::Answer { ticket, answer } = order else {
            return None;
        };
        let Answer::Refused(Refused::Busy {
            place,
            expected_wait_ms,
        }) = answer
        else {
            return None;
        };
        Some((ticket.0, *place, *expected_wait_ms))
    };
    orders.iter().filter_map(busy).collect()
}

fn appends(orders: &[Effect]) -> usize {
    let appended = |order: &&Effect| matches!(order, Effect::Append { .. });
    orders.iter().filter(appended).count()
}

/// When the desk wants to be woken, in milliseconds.
fn wakes(orders: &[Effect]) -> Option<u32> {
    orders.iter().find_map(|order| {
        let Effect::Own(Own::Wake { after_ms }) = order else {
            return None;
        };
        Some(*after_ms)
    })
}

#[test]
fn joiners_have_the_lease_in_the_order_in_which_they_asked() {
    let mut world = World::new();
    let first = world.ask(1, "one");
    world.grant(1, &first);
    for (ticket, device) in [(2, "two"), (3, "three")] {
        let orders = world.ask(ticket, device);
        assert_eq!((appends(&orders), told(&orders)), (0, vec![]), "{orders:?}");
    }
    for ticket in [2, 3] {
        let orders = world.commit();
        assert_eq!(appends(&orders), 1, "one at a time: {orders:?}");
        world.grant(ticket, &orders);
    }
    let sealed = world.sealed();
    let orders = world.found(3, sealed);
    let answered = orders.iter().any(|order| {
        matches!(
            order,
            Effect::Answer {
                ticket: Ticket(3),
                answer: Answer::GroupInfo(_)
            }
        )
    });
    assert!(answered, "{orders:?}");
}

#[test]
fn who_cannot_wait_longer_is_told_its_place_and_how_long_it_would_take() {
    let mut world = World::new();
    let first = world.ask(1, "one");
    world.grant(1, &first);
    assert_eq!(wakes(&world.ask(2, "two")), Some(WAIT_MS));
    world.hub.time += 1_000;
    world.ask(3, "three");
    assert_eq!(told(&world.pass(WAIT_MS - 1_001)), []);
    assert_eq!(told(&world.pass(1)), [(2, 1, LEASE_MS - WAIT_MS)]);
    let left = LEASE_MS - WAIT_MS - 1_000;
    assert_eq!(told(&world.pass(1_000)), [(3, 2, left + LEASE_MS)]);
}

#[test]
fn the_turn_of_who_waits_comes_when_the_lease_is_over() {
    let mut world = World::new();
    let first = world.ask(1, "one");
    world.grant(1, &first);
    world.hub.time += u64::from(LEASE_MS) - 1_000;
    assert_eq!(wakes(&world.ask(2, "two")), Some(1_000));
    let orders = world.pass(1_000);
    world.grant(2, &orders);
}

#[test]
fn who_asks_again_has_its_old_place_and_one_place_only() {
    let mut world = World::new();
    let first = world.ask(1, "one");
    world.grant(1, &first);
    world.ask(2, "two");
    world.ask(3, "three");
    // While it still waits: the request before is told its place.
    let orders = world.ask(4, "two");
    assert_eq!(told(&orders), [(2, 1, LEASE_MS)]);
    // And when it was told its place and is away.
    world.pass(WAIT_MS);
    assert_eq!(told(&world.ask(5, "two")), []);
    assert_eq!(told(&world.ask(6, "three")), []);
    let orders = world.commit();
    assert_eq!(appends(&orders), 1);
    world.grant(5, &orders);
    let orders = world.commit();
    world.grant(6, &orders);
    assert_eq!(appends(&world.commit()), 0, "nobody else waits");
}

#[test]
fn a_place_is_kept_for_who_is_away_and_given_up_when_it_does_not_come_again() {
    let mut world = World::new();
    let first = world.ask(1, "one");
    world.grant(1, &first);
    world.ask(2, "two");
    let [(2, 1, wait_ms)] = told(&world.pass(WAIT_MS))[..] else {
        unreachable!("the second joiner is told its place");
    };
    // Its turn is passed over while it is away, and it does not hold up whoever is there.
    world.hub.time += u64::from(wait_ms);
    let orders = world.ask(3, "three");
    world.grant(3, &orders);
    world.ask(4, "four");
    let [(4, 2, _)] = told(&world.pass(WAIT_MS))[..] else {
        unreachable!("the second joiner's place is kept");
    };
    world.pass(JOINER_PLACE_KEPT_MS - WAIT_MS);
    assert_eq!(told(&world.ask(5, "four")), []);
    let [(5, 1, _)] = told(&world.pass(WAIT_MS))[..] else {
        unreachable!("the second joiner's place was given up");
    };
}

#[test]
fn a_full_queue_tells_the_next_joiner_its_place_at_once_unless_somebody_is_away() {
    let mut world = World::new();
    let first = world.ask(1, "one");
    world.grant(1, &first);
    let full = u64::try_from(JOINERS_WAITING_PER_ROOM_MAX).unwrap();
    for ticket in 0..full {
        let waits = client("a", &format!("u{ticket}"), "phone");
        let orders = world.ask_of(100 + ticket, &waits);
        assert_eq!(told(&orders), [], "{ticket} has a place");
    }
    let place = u32::try_from(full).unwrap();
    let expected_wait_ms = LEASE_MS + place * LEASE_MS;
    let orders = world.ask(50, "late");
    assert_eq!(told(&orders), [(50, place + 1, expected_wait_ms)]);
    assert_eq!(
        told(&world.pass(WAIT_MS)).len(),
        JOINERS_WAITING_PER_ROOM_MAX
    );
    assert_eq!(
        told(&world.ask(51, "late")),
        [],
        "it takes the place of one who is away"
    );
    let mut left = told(&world.pass(WAIT_MS));
    let (ticket, place_of_late, _) = left.pop().unwrap();
    assert_eq!((ticket, place_of_late), (51, place), "the last place");
}

#[test]
fn a_device_of_the_hub_has_its_turn_next_however_many_another_provider_has_sent() {
    let mut world = World::new();
    let first = world.ask_of(1, &client("b", "bob", "first"));
    world.grant(1, &first);
    // Users that were made up, with a code.
    for ticket in 0..u64::try_from(JOINERS_WAITING_PER_PROVIDER_MAX).unwrap() {
        let orders = world.ask_of(100 + ticket, &client("b", &format!("u{ticket}"), "phone"));
        assert_eq!(told(&orders), []);
    }
    let over = world.ask_of(99, &client("b", "late", "phone"));
    assert_eq!(told(&over).len(), 1, "its provider has no place left");
    assert_eq!(told(&world.ask(2, "two")), []);
    assert_eq!(
        told(&world.ask_of(3, &carol())),
        [],
        "nor has it those of others"
    );
    let mut served = Vec::new();
    for _ in 0..4 {
        let orders = world.commit();
        let ticket = orders.iter().find_map(|order| match order {
            Effect::Append { ticket, .. } => Some(ticket.0),
            Effect::Answer { .. } | Effect::Own(_) => None,
        });
        let ticket = ticket.unwrap();
        world.grant(ticket, &orders);
        served.push(ticket);
    }
    assert_eq!(served, [2, 3, 100, 101]);
}

#[test]
fn one_user_has_few_places_and_other_providers_leave_some_to_the_hubs_own() {
    let mut world = World::new();
    let first = world.ask(1, "one");
    world.grant(1, &first);
    for ticket in 0..JOINERS_WAITING_PER_USER_MAX as u64 {
        let orders = world.ask_of(10 + ticket, &client("b", "bob", &format!("d{ticket}")));
        assert_eq!(told(&orders), []);
    }
    let more = world.ask_of(9, &client("b", "bob", "more"));
    assert_eq!(told(&more).len(), 1);
    let others = JOINERS_WAITING_PER_ROOM_MAX - JOINERS_WAITING_KEPT_PER_ROOM;
    let mut refused = 0;
    for (number, provider) in (0..others as u64).zip(["c", "d", "e", "f"].iter().cycle()) {
        let joiner = client(provider, &format!("u{number}"), "phone");
        refused += told(&world.ask_of(1_000 + number, &joiner)).len();
    }
    assert_eq!(refused, JOINERS_WAITING_PER_USER_MAX, "as many as bob has");
    assert_eq!(told(&world.ask(2, "two")), []);
}

#[test]
fn one_provider_keeps_the_workers_from_looking_at_nobody_elses_requests() {
    let mut world = World::new();
    let mut asks = |ticket: u64, joiner: &ClientUri| {
        let request = Arc::new(joining(ticket, joiner, world.now()));
        let orders = world.give(Input::Ask {
            ticket: Ticket(ticket),
            caller: Caller::of(joiner.clone()),
            request: Request::GroupInfo(request),
        });
        matches!(&orders[..], [Effect::Own(Own::Check { .. })])
    };
    for ticket in 0..JOINERS_IN_CHECK_PER_PROVIDER_MAX as u64 {
        assert!(asks(ticket, &client("b", &format!("u{ticket}"), "phone")));
    }
    assert!(!asks(100, &client("b", "late", "phone")));
    assert!(asks(101, &carol()) && asks(102, &device_of("two")));
}

#[test]
fn who_was_overtaken_by_a_member_is_first_when_it_asks_again() {
    let mut world = World::new();
    let first = world.ask_of(1, &carol());
    world.grant(1, &first);
    let erin = world.ask_of(2, &client("e", "erin", "phone"));
    assert_eq!((appends(&erin), told(&erin)), (0, vec![]));
    // Before Erin's grant is applied, Carol hears that she was overtaken, and asks again.
    let orders = world.commit();
    assert_eq!(appends(&orders), 1);
    world.ask_of(3, &client("f", "fred", "phone"));
    world.ask_of(4, &carol());
    world.grant(2, &orders);
    let orders = world.commit();
    world.grant(4, &orders);
}

#[test]
fn a_provider_that_tried_many_wrong_codes_is_slowed_down_at_passphrases_and_never_shut_out() {
    let mut world = World::new();
    let passphrase = Some(Passphrase {
        salt: [0; 16],
        hash: [0; 32],
    });
    let (_, open) = world.hub.room().codes().remove(0);
    let guarded = Code { passphrase, ..open };
    let kept = world
        .hub
        .apply(&Command::KeepCode(KeepCode { code: guarded }));
    assert!(matches!(kept.done, Done::CodeKept(_)));
    for number in 0..WRONG_CODES_PER_PROVIDER_MAX {
        let joiner = client("c", &format!("guesser{number}"), "phone");
        world.hub.apply(&Command::WrongCode(WrongCode { joiner }));
    }
    let seen = |world: &mut World, ticket: u64, joiner: &ClientUri, passphrase: bool| {
        let mut request = joining(ticket, joiner, world.now());
        request.code = Some(Payload::from(vec![7]));
        request.passphrase = passphrase.then(|| BText::clipped("open sesame"));
        let orders = world.give(Input::Ask {
            ticket: Ticket(ticket),
            caller: Caller::of(joiner.clone()),
            request: Request::GroupInfo(Arc::new(request)),
        });
        let [Effect::Own(Own::Check { check, .. })] = &orders[..] else {
            unreachable!("{orders:?}")
        };
        let Check::Admit { codes, .. } = &**check else {
            unreachable!("{check:?}")
        };
        codes.len()
    };
    let admit = |code| Checked::Admit {
        flaw: None,
        code: Some(code),
        lease_ms: LEASE_MS,
    };
    // A right code without a passphrase admits.
    assert_eq!(seen(&mut world, 1, &carol(), false), 1);
    let right = Ok(world.code);
    let orders = world.found(1, admit(right));
    world.grant(1, &orders);
    // Those with a passphrase are looked at once a minute.
    let cleo = client("c", "cleo", "phone");
    assert_eq!(seen(&mut world, 2, &cleo, true), 2);
    let orders = world.found(2, admit(Err(CodeFlaw::Passphrase)));
    assert_eq!(
        flaws(&orders),
        [(CodeFlaw::Passphrase, true)],
        "it is counted"
    );
    let clara = client("c", "clara", "phone");
    assert_eq!(seen(&mut world, 3, &clara, true), 1);
    let orders = world.found(3, admit(Err(CodeFlaw::Unknown)));
    assert_eq!(flaws(&orders), [(CodeFlaw::Locked, false)]);
    assert_eq!(seen(&mut world, 4, &client("d", "dora", "phone"), true), 2);
    world.hub.time += WRONG_CODES_LOOK_AFTER_MS;
    assert_eq!(seen(&mut world, 5, &clara, true), 2);
    // What is made up costs the log nothing more.
    assert_eq!(seen(&mut world, 6, &client("c", "more", "phone"), false), 1);
    let orders = world.found(6, admit(Err(CodeFlaw::Unknown)));
    assert_eq!(flaws(&orders), [(CodeFlaw::Locked, false)]);
}

/// Which codes were refused, and whether that is counted.
fn flaws(orders: &[Effect]) -> Vec<(CodeFlaw, bool)> {
    let flaw = |order: &Effect| match order {
        Effect::Own(Own::CodeRefused { flaw, command, .. }) => Some((*flaw, command.is_some())),
        Effect::Append { .. } | Effect::Answer { .. } | Effect::Own(_) => None,
    };
    orders.iter().filter_map(flaw).collect()
}

#[test]
fn a_lease_is_longer_where_there_is_more_to_fetch() {
    let mut world = World::new();
    let mut commit = world.hub.commit("large");
    let mut next = view(world.hub.epoch() + 1);
    next.tree = vec![0; 1_000_000].into();
    commit.checked.next = next.into();
    world.hub.apply(&Command::Commit(Box::new(commit)));
    let orders = world.ask(1, "one");
    let command = granted(1, &orders);
    let Command::Grant(grant) = &*command else {
        unreachable!("{command:?}")
    };
    assert_eq!(grant.lease_ms, LEASE_MS + 10_000);
}

#[test]
fn a_grant_that_the_log_does_not_take_is_refused_and_the_next_has_its_turn() {
    let mut world = World::new();
    assert_eq!(appends(&world.ask(1, "one")), 1);
    assert_eq!(appends(&world.ask(2, "two")), 0, "one grant at a time");
    let refused = Refused::TryLater(TryLater::unavailable(7));
    let orders = world.give(Input::NotAppended {
        ticket: Ticket(1),
        refused: refused.clone(),
    });
    let answered = orders.iter().any(|order| {
        matches!(order, Effect::Answer { ticket: Ticket(1), answer: Answer::Refused(is) } if *is == refused)
    });
    assert!(answered, "{orders:?}");
    world.grant(2, &orders);
}

#[test]
fn a_new_leader_knows_the_lease_and_not_the_queue() {
    let mut world = World::new();
    let first = world.ask(1, "one");
    world.grant(1, &first);
    world.ask(2, "two");
    let sealed = world.sealed();
    world.desk = Desk::default();
    assert!(world.desk.is_idle());
    // What workers and the log still bring is of joiners whom the node has told that it no longer leads.
    assert!(world.found(1, sealed).is_empty());
    assert!(world.give(Input::Wake).is_empty());
    // The lease is the log's: whoever has it gets it again, and others wait, whoever came first.
    assert_eq!(appends(&world.ask(3, "two")), 0);
    let again = world.ask(1, "one");
    world.grant(1, &again);
    let orders = world.commit();
    world.grant(3, &orders);
}

#[test]
fn who_waits_when_the_group_ends_is_told_so() {
    let mut world = World::new();
    let first = world.ask(1, "one");
    world.grant(1, &first);
    world.ask(2, "two");
    let mut last = world.hub.commit("the end");
    last.checked.reinit = true;
    let orders = world.apply(999, &Command::Commit(Box::new(last))).1;
    let command = granted(2, &orders);
    let (outcome, orders) = world.apply(2, &command);
    assert_eq!(outcome.done.to_answer(), Answer::Refused(Refused::Ended));
    let answered = orders.iter().any(|order| {
        matches!(order, Effect::Answer { ticket: Ticket(2), answer } if *answer == outcome.done.to_answer())
    });
    assert!(answered, "{orders:?}");
    let sealed = world.sealed();
    world.found(1, sealed);
    assert!(world.desk.is_idle(), "nobody waits any longer");
}
