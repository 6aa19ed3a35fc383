use super::{
    follower::{self, Deliver, Queue, Reject},
    hub::{self, Via},
    outcome::{Answer, Done, Emission},
    testing::*,
};
use crate::{
    ids::ClientUri,
    machine::{Fold, Millis, Moment, Position},
    wire::{
        BVec, Payload,
        event::{Body, ClientSeq, Epoch, Item, SubmitRefused, SubmitSeq},
    },
};
use proptest::prelude::*;

/// A step that a world may take at the hub; its command is made on the state it finds.
#[derive(Clone, Debug)]
enum Step {
    Create,
    Commit {
        sender: u8,
        add: Option<u8>,
        remove: Option<u8>,
        behind: u64,
        again: bool,
    },
    Propose {
        sender: u8,
        names: Vec<u8>,
    },
    Submit {
        sender: u8,
        local: bool,
        first: u64,
        epochs: Vec<u64>,
    },
    Clock(u64),
}

fn person(number: u8) -> ClientUri {
    let provider = ["a", "b", "c"][usize::from(number % 3)];
    client(provider, &format!("user{number}"), "phone")
}

fn step() -> impl Strategy<Value = Step> {
    let one = 0_u8..6;
    let some = proptest::option::of(one.clone());
    prop_oneof![
        1 => Just(Step::Create),
        4 => (one.clone(), some.clone(), some, 0_u64..2, any::<bool>()).prop_map(
            |(sender, add, remove, behind, again)| Step::Commit { sender, add, remove, behind, again }
        ),
        2 => (one.clone(), prop::collection::vec(0_u8..4, 0..4))
            .prop_map(|(sender, names)| Step::Propose { sender, names }),
        6 => (one, any::<bool>(), 0_u64..12, prop::collection::vec(0_u64..6, 0..5)).prop_map(
            |(sender, local, first, epochs)| Step::Submit { sender, local, first, epochs }
        ),
        1 => (0_u64..1_000).prop_map(Step::Clock),
    ]
}

fn command(hub: &Hub, step: &Step) -> Option<hub::Command> {
    let leaf = |number: u8| u32::from(number);
    Some(match step {
        Step::Clock(_) => return None,
        Step::Create => {
            let mut create = create();
            create.creator = person(0);
            for member in &mut create.members {
                member.client = person(0);
            }
            hub::Command::Create(create)
        }
        Step::Commit {
            sender,
            add,
            remove,
            behind,
            again,
        } => {
            let room = hub.fold.room()?;
            let added: Vec<_> = add
                .iter()
                .filter(|new| !room.has_member(&person(**new)))
                .map(|new| (leaf(*new), person(*new)))
                .collect();
            let removed: Vec<_> = remove
                .iter()
                .filter(|old| *old != sender && room.has_member(&person(**old)))
                .map(|old| (leaf(*old), person(*old)))
                .collect();
            let name = if *again {
                "again".to_owned()
            } else {
                format!("{}", hub.entry)
            };
            let hub::Command::Commit(mut commit) = hub.adding(&name, added) else {
                return None;
            };
            if let hub::Command::Commit(removal) = hub.removing(&name, removed) {
                commit.checked.left = removal.checked.left;
            }
            commit.sender = person(*sender);
            commit.checked.committer = leaf(*sender);
            commit.on.epoch = Epoch(commit.on.epoch.0.saturating_sub(*behind));
            hub::Command::Commit(commit)
        }
        Step::Propose { sender, names } => hub::Command::Propose(hub::Propose {
            sender: person(*sender),
            on: hub.fold.room()?.epoch(),
            proposals: BVec::first_max(
                names
                    .iter()
                    .map(|name| proposal(leaf(*sender), &format!("{sender} {name}"))),
            ),
        }),
        Step::Submit {
            sender,
            local,
            first,
            epochs,
        } => {
            let via = if *local {
                Via::Client(ClientSeq(*first))
            } else {
                Via::Provider {
                    first: SubmitSeq(*first),
                    undecided: SubmitSeq(1),
                }
            };
            let texts = epochs.iter().map(|epoch| message(*epoch, "text")).collect();
            submit(&person(*sender), via, texts)
        }
    })
}

fn run(steps: &[Step]) -> (Hub, Vec<hub::Command>, Vec<Emission>) {
    let (mut hub, mut commands, mut emitted) = (Hub::default(), Vec::new(), Vec::new());
    for step in steps {
        if let Step::Clock(time) = step {
            hub.time = *time;
        }
        let Some(command) = command(&hub, step) else {
            continue;
        };
        let before = hub.fold.clone();
        let outcome = hub.apply(&command);
        if matches!(
            outcome.done,
            Done::Answer(Answer::Refused(_) | Answer::Gap { .. }) | Done::Stale
        ) {
            assert_eq!(hub.fold, before, "a refusal changed something");
            assert_eq!((&outcome.emitted, &outcome.notices), (&vec![], &vec![]));
        }
        emitted.extend(outcome.emitted);
        commands.push(command);
    }
    (hub, commands, emitted)
}

/// What a fold of other kind is after the same commands, revived on the way or not.
fn replay<F: Fold>(mut fold: F, commands: &[F::Command], revive: bool) -> Vec<u8> {
    for (entry, command) in (1..).zip(commands) {
        let moment = Moment {
            at: Position { entry, command: 0 },
            time: Millis(entry * 7 % 50),
            ..Moment::default()
        };
        fold.apply(moment, command);
        if revive {
            fold = F::revive(&fold.compact()).unwrap();
        }
    }
    fold.compact()
}

fn item() -> impl Strategy<Value = Item> {
    let seq = 1_u64..14;
    let who = 0_u8..3;
    let bobs = |number: u8| client("b", &format!("bob{number}"), "phone");
    prop_oneof![
        3 => seq.clone().prop_map(text),
        2 => (seq.clone(), 0_u64..12).prop_map(|(seq, own)| event(seq, Body::Own(SubmitSeq(own)))),
        1 => (seq.clone(), who.clone())
            .prop_map(move |(seq, who)| event(seq, Body::Invited(invitation(1, &[bobs(who)])))),
        1 => (seq, who.clone(), proptest::option::of(who)).prop_map(move |(seq, left, joined)| {
            let joined = joined.map(|who| invitation(2, &[bobs(who)]));
            commit_event(seq, &[bobs(left)], joined)
        }),
        1 => (0_u64..12).prop_map(|submit| Item::Refused {
            submit_seq: SubmitSeq(submit),
            reason: SubmitRefused::Malformed,
        }),
    ]
}

fn followed() -> impl Strategy<Value = follower::Command> {
    let queue = (0_u8..3, 0_u64..8, 0_usize..4).prop_map(|(who, first, count)| Queue {
        sender: client("b", &format!("bob{who}"), "phone"),
        first: ClientSeq(first),
        messages: BVec::try_from(vec![Payload::from(vec![1]); count]).unwrap(),
    });
    let reject = (0_u64..12, 0_u32..5).prop_map(|(first, count)| Reject {
        first: SubmitSeq(first),
        count,
        reason: SubmitRefused::Poisoned,
    });
    let mut items = prop::collection::vec(item(), 0..5).boxed();
    // In order more often than not, or hardly anything would be taken.
    items = items
        .prop_map(|mut items| {
            items.sort_by_key(|item| match item {
                Item::Event(event) => event.seq.0,
                Item::Refused { submit_seq, .. } => submit_seq.0,
                Item::Refilled { .. } | Item::Departed { .. } | Item::Consent(_) => 0,
            });
            items
        })
        .boxed();
    prop_oneof![
        3 => items.prop_map(|items| follower::Command::Deliver(Deliver {
            items: BVec::try_from(items).unwrap()
        })),
        3 => queue.prop_map(follower::Command::Queue),
        1 => reject.prop_map(follower::Command::Reject),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_numbers_of_a_room_have_no_gap_and_its_time_never_goes_back(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        let steps = [&[Step::Create][..], &steps].concat();
        let (_, _, emitted) = run(&steps);
        let (mut next, mut time) = (1, Millis(0));
        for emission in emitted {
            prop_assert_eq!(emission.first.0, next);
            prop_assert!(emission.count > 0 && emission.time >= time);
            next += u64::from(emission.count);
            time = emission.time;
            let hub = provider("a");
            prop_assert!(emission.recipients.iter().all(|to| to.provider != hub));
        }
    }

    #[test]
    fn equal_commands_make_equal_rooms_in_equal_bytes_wherever_they_slept(
        steps in prop::collection::vec(step(), 1..40)
    ) {
        let steps = [&[Step::Create][..], &steps].concat();
        let (_, commands, _) = run(&steps);
        let straight = replay(hub::Fold::default(), &commands, false);
        prop_assert_eq!(&straight, &replay(hub::Fold::default(), &commands, false));
        prop_assert_eq!(&straight, &replay(hub::Fold::default(), &commands, true));
    }

    #[test]
    fn equal_commands_make_equal_followed_rooms_in_equal_bytes_wherever_they_slept(
        commands in prop::collection::vec(followed(), 1..40)
    ) {
        let straight = replay(follower::Fold::default(), &commands, false);
        prop_assert_eq!(&straight, &replay(follower::Fold::default(), &commands, false));
        prop_assert_eq!(&straight, &replay(follower::Fold::default(), &commands, true));
    }

    #[test]
    fn a_submission_is_decided_at_most_once_and_only_after_it_was_queued(
        commands in prop::collection::vec(followed(), 1..60)
    ) {
        let mut follower = Follower::invited();
        let (mut queued, mut decided, mut seen) = (0, std::collections::BTreeSet::new(), 5);
        for command in &commands {
            let outcome = follower.apply(command);
            if let Some(run) = outcome.queued {
                prop_assert_eq!(run.first.0, queued + 1);
                queued += u64::from(run.count);
            }
            for one in outcome.decided {
                prop_assert!(one.first.0 <= queued);
                prop_assert!(decided.insert(one.first));
            }
            for run in outcome.emitted {
                prop_assert!(run.first.0 > seen);
                seen = run.first.plus(u64::from(run.count) - 1).0;
            }
            if let Some(undecided) = outcome.undecided {
                let oldest = (1..=queued).find(|n| !decided.contains(&SubmitSeq(*n)));
                prop_assert_eq!(undecided.0, oldest.unwrap_or(queued + 1));
            }
        }
    }
}
