use super::{
    hub::{Command, Fold, Via},
    outcome::{Accepted, Answer, Change, Done, Refused, UserNotice},
    testing::*,
};
use crate::{
    limits::{
        BUNDLES_REMEMBERED_PER_ROOM_MAX, PROPOSALS_PENDING_PER_CLIENT_MAX,
        PROPOSALS_PENDING_PER_ROOM_MAX,
    },
    machine::{Fold as _, Millis},
    wire::{
        BText, BVec, Payload,
        event::{ClientSeq, Epoch, Hash, RoomSeq, SubmitSeq},
    },
};

fn committed(epoch: u64, seq: u64, time: u64) -> Answer {
    Answer::Committed(Accepted {
        epoch: Epoch(epoch),
        seq: RoomSeq(seq),
        time: Millis(time),
    })
}

fn texts(epoch: u64, count: usize) -> Vec<Payload> {
    (0..count)
        .map(|i| message(epoch, &format!("text {i}")))
        .collect()
}

#[test]
fn a_new_room_has_its_creator_as_its_only_member_and_tells_it() {
    let mut hub = Hub::default();
    let outcome = hub.apply(&Command::Create(create()));
    assert_eq!(outcome.done.to_answer(), Answer::Created);
    assert_eq!(hub.room().members().collect::<Vec<_>>(), [&alice()]);
    assert_eq!(hub.room().group_id(), GROUP);
    assert_eq!(hub.epoch(), 0);
    assert_eq!(outcome.emitted, []);
    let notice = UserNotice {
        user: alice().user().clone(),
        clients: [alice()].into(),
        change: Change::Created,
        at: hub.at(),
        item: 0,
    };
    assert_eq!(outcome.notices, [notice]);
}

#[test]
fn the_same_creation_again_is_a_retry_and_another_one_finds_the_name_taken() {
    let mut hub = Hub::created();
    let again = hub.apply(&Command::Create(create()));
    assert_eq!(
        (again.done.to_answer(), again.notices),
        (Answer::Created, Vec::new())
    );
    let mut other = create();
    other.view.tree = bytes::Bytes::from_static(b"another tree");
    assert_eq!(
        hub.apply(&Command::Create(other)).done.to_answer(),
        Answer::Refused(Refused::Exists)
    );
    // Also when its creator, who missed the first answer, has gone on meanwhile.
    hub.advance(1);
    let late = hub.apply(&Command::Create(create()));
    assert_eq!((late.done.to_answer(), hub.epoch()), (Answer::Created, 1));
}

#[test]
fn nothing_is_taken_where_there_is_no_room() {
    let there = Hub::created();
    for command in [
        Command::Commit(Box::new(there.commit("x"))),
        submit(&alice(), Via::Client(ClientSeq(1)), texts(0, 1)),
        submit(
            &bob(),
            Via::Provider {
                first: SubmitSeq(1),
                undecided: SubmitSeq(1),
            },
            texts(0, 1),
        ),
        Command::Propose(super::hub::Propose {
            sender: alice(),
            on: Epoch(0),
            proposals: [proposal(0, "p")].into(),
        }),
    ] {
        let mut nowhere = Hub::default();
        assert_eq!(
            nowhere.apply(&command).done.to_answer(),
            Answer::Refused(Refused::NotAuthorized)
        );
        assert_eq!(nowhere.fold, Fold::default());
    }
}

#[test]
fn the_second_commit_of_an_epoch_is_refused_and_told_the_winner() {
    let mut hub = Hub::created();
    let (first, second) = (hub.commit("A"), hub.commit("B"));
    let winner = Hash::of(&first.commit);
    assert_eq!(
        hub.apply(&Command::Commit(Box::new(first)))
            .done
            .to_answer(),
        committed(1, 1, 100)
    );
    let before = hub.fold.clone();
    let lost = hub.apply(&Command::Commit(Box::new(second)));
    let current = Epoch(1);
    assert_eq!(
        lost.done.to_answer(),
        Answer::Refused(Refused::WrongEpoch { current, winner })
    );
    assert_eq!((lost.emitted, lost.notices), (Vec::new(), Vec::new()));
    assert_eq!(hub.fold, before);
}

#[test]
fn a_bundle_that_was_accepted_gets_its_first_answer_again_and_does_nothing() {
    let mut hub = Hub::created();
    let first = Command::Commit(Box::new(hub.commit("A")));
    let answer = hub.apply(&first).done.to_answer();
    hub.time = 900;
    hub.advance(3);
    let before = hub.fold.clone();
    let again = hub.apply(&first);
    assert_eq!(again.done.to_answer(), answer);
    assert_eq!(again.emitted, []);
    assert_eq!(hub.fold, before);
}

#[test]
fn a_room_remembers_so_many_bundles_and_forgets_the_oldest_first() {
    let mut hub = Hub::created();
    let first = Command::Commit(Box::new(hub.commit("A")));
    hub.apply(&first);
    let second = Command::Commit(Box::new(hub.commit("B")));
    hub.apply(&second);
    hub.advance(BUNDLES_REMEMBERED_PER_ROOM_MAX as u64 - 1);
    assert_eq!(
        hub.apply(&first).done.to_answer(),
        Answer::Refused(hub.room().wrong_epoch())
    );
    assert_eq!(hub.apply(&second).done.to_answer(), committed(2, 2, 100));
}

#[test]
fn a_commit_is_stale_when_the_pending_proposals_have_changed_since_its_check() {
    let mut hub = Hub::created();
    let checked_before = hub.commit("A");
    hub.propose(&alice(), vec![proposal(0, "p")]);
    let before = hub.fold.clone();
    let outcome = hub.apply(&Command::Commit(Box::new(checked_before)));
    assert_eq!(outcome.done, Done::Stale);
    assert_eq!(hub.fold, before);
    let checked_after = hub.commit("A");
    assert_eq!(
        hub.apply(&Command::Commit(Box::new(checked_after)))
            .done
            .to_answer(),
        committed(1, 2, 100)
    );
}

#[test]
fn a_commit_of_no_member_or_from_another_leaf_than_the_senders_is_refused() {
    let mut hub = Hub::with(&[bob()]);
    let mut stranger = hub.commit("stranger");
    stranger.sender = carol();
    let mut impostor = hub.commit("impostor");
    impostor.sender = bob();
    for commit in [stranger, impostor] {
        let before = hub.fold.clone();
        assert_eq!(
            hub.apply(&Command::Commit(Box::new(commit)))
                .done
                .to_answer(),
            Answer::Refused(Refused::NotMember)
        );
        assert_eq!(hub.fold, before);
    }
}

#[test]
fn every_event_has_the_next_number_whatever_its_kind_and_refusals_take_none() {
    let mut hub = Hub::with(&[bob()]);
    let mut numbers = Vec::new();
    let epoch = hub.epoch();
    let mut outcomes = vec![
        hub.send(&alice(), 1, texts(epoch, 3)),
        hub.send(&carol(), 1, texts(epoch, 1)),
        hub.submit(
            &bob(),
            1,
            vec![
                message(epoch, "x"),
                message(99, "ahead"),
                message(epoch, "y"),
            ],
        ),
        hub.propose(&bob(), vec![proposal(1, "p"), proposal(1, "q")]),
    ];
    let commit = Command::Commit(Box::new(hub.commit("next")));
    outcomes.push(hub.apply(&commit));
    outcomes.push(hub.apply(&commit));
    outcomes.push(hub.send(&alice(), 4, texts(epoch, 1)));
    for emission in outcomes.iter().flat_map(|outcome| &outcome.emitted) {
        numbers.extend((0..u64::from(emission.count)).map(|i| emission.first.plus(i).0));
    }
    // Event 1 was the Commit that added Bob.
    assert_eq!(numbers, (2..=9).collect::<Vec<u64>>());
}

#[test]
fn time_in_a_room_never_goes_back() {
    let mut hub = Hub::with(&[bob()]);
    hub.time = 500;
    assert_eq!(
        hub.send(&alice(), 1, texts(1, 1)).emitted[0].time,
        Millis(500)
    );
    hub.time = 50;
    assert_eq!(
        hub.send(&alice(), 2, texts(1, 1)).emitted[0].time,
        Millis(500)
    );
    assert_eq!(
        hub.submit(&bob(), 1, texts(1, 1)).emitted[0].time,
        Millis(500)
    );
    assert_eq!(
        hub.propose(&bob(), vec![proposal(1, "p")]).emitted[0].time,
        Millis(500)
    );
    let commit = Command::Commit(Box::new(hub.commit("late")));
    assert_eq!(hub.apply(&commit).done.to_answer(), committed(2, 6, 500));
}

#[test]
fn each_provider_with_a_member_gets_each_event_once_and_the_hub_gets_none() {
    let tablet = client("b", "bob", "tablet");
    let mut hub = Hub::with(&[carol(), bob(), tablet, client("a", "anna", "phone")]);
    let outcome = hub.send(&alice(), 1, texts(1, 2));
    assert_eq!(outcome.emitted.len(), 1);
    assert_eq!(outcome.emitted[0].recipients, [full("b"), full("c")]);
    assert_eq!(outcome.emitted[0].origin, Some((alice(), ClientSeq(1))));
    let outcome = hub.propose(&bob(), vec![proposal(2, "p")]);
    assert_eq!(outcome.emitted[0].recipients, [full("b"), full("c")]);
    let commit = Command::Commit(Box::new(hub.commit("next")));
    assert_eq!(
        hub.apply(&commit).emitted[0].recipients,
        [full("b"), full("c")]
    );
}

#[test]
fn a_room_of_the_hubs_clients_alone_is_sent_to_nobody() {
    let mut hub = Hub::with(&[client("a", "anna", "phone")]);
    assert_eq!(hub.send(&alice(), 1, texts(1, 1)).emitted[0].recipients, []);
}

#[test]
fn a_provider_whose_first_client_joins_gets_the_invitation_and_no_commit() {
    let mut hub = Hub::with(&[bob()]);
    let tablet = client("b", "bob", "tablet");
    let pad = client("c", "carol", "pad");
    let add = hub.adding("more", vec![(2, carol()), (3, pad), (4, tablet)]);
    assert_eq!(
        hub.apply(&add).emitted[0].recipients,
        [full("b"), invited("c")]
    );
    let commit = Command::Commit(Box::new(hub.commit("next")));
    assert_eq!(
        hub.apply(&commit).emitted[0].recipients,
        [full("b"), full("c")]
    );
}

#[test]
fn the_provider_of_a_removed_member_still_gets_the_commit_that_removes_it_and_no_more() {
    let mut hub = Hub::with(&[bob(), carol()]);
    let remove = hub.removing("bob leaves", vec![(1, bob())]);
    assert_eq!(
        hub.apply(&remove).emitted[0].recipients,
        [full("b"), full("c")]
    );
    assert_eq!(
        hub.send(&alice(), 1, texts(2, 1)).emitted[0].recipients,
        [full("c")]
    );
    let back = hub.adding("bob is back", vec![(1, bob())]);
    assert_eq!(
        hub.apply(&back).emitted[0].recipients,
        [full("c"), invited("b")]
    );
}

#[test]
fn a_provider_that_loses_its_last_client_and_gains_one_in_one_commit_gets_the_commit() {
    let mut hub = Hub::with(&[bob()]);
    let Command::Commit(mut swap) = hub.adding("swap", vec![(1, client("b", "berta", "phone"))])
    else {
        unreachable!("adding makes a Commit");
    };
    let Command::Commit(removal) = hub.removing("swap", vec![(1, bob())]) else {
        unreachable!("removing makes a Commit");
    };
    swap.checked.left = removal.checked.left;
    assert_eq!(
        hub.apply(&Command::Commit(swap)).emitted[0].recipients,
        [full("b")]
    );
}

#[test]
fn proposals_of_several_members_wait_side_by_side_and_a_repeat_gets_its_answer() {
    let mut hub = Hub::with(&[bob()]);
    let references = |names: &[&str]| {
        let reference = |name: &&str| Payload(proposal(0, name).reference);
        Answer::Proposed(BVec::try_from(names.iter().map(reference).collect::<Vec<_>>()).unwrap())
    };
    assert_eq!(
        hub.propose(&alice(), vec![proposal(0, "p")])
            .done
            .to_answer(),
        references(&["p"])
    );
    let second = hub.propose(&bob(), vec![proposal(1, "q"), proposal(1, "r")]);
    assert_eq!(second.done.to_answer(), references(&["q", "r"]));
    assert_eq!((second.emitted[0].first.0, second.emitted[0].count), (3, 1));
    let before = hub.fold.clone();
    let repeat = hub.propose(&bob(), vec![proposal(1, "q"), proposal(1, "r")]);
    assert_eq!(
        (repeat.done.to_answer(), repeat.emitted),
        (references(&["q", "r"]), Vec::new())
    );
    assert_eq!(hub.fold, before);
    assert_eq!(hub.room().pending().len(), 3);
}

#[test]
fn a_proposal_that_waits_already_does_not_wait_twice() {
    let mut hub = Hub::created();
    hub.propose(&alice(), vec![proposal(0, "p")]);
    hub.propose(
        &alice(),
        vec![proposal(0, "p"), proposal(0, "q"), proposal(0, "q")],
    );
    let waiting: Vec<_> = hub
        .room()
        .pending()
        .iter()
        .map(|p| &p.message[..])
        .collect();
    assert_eq!(waiting, [b"p", b"q"]);
}

#[test]
fn proposals_of_strangers_other_leaves_or_other_epochs_are_refused() {
    let mut hub = Hub::with(&[bob()]);
    let no_member = Answer::Refused(Refused::NotMember);
    assert_eq!(
        hub.propose(&carol(), vec![proposal(1, "p")])
            .done
            .to_answer(),
        no_member
    );
    assert_eq!(
        hub.propose(&bob(), vec![proposal(1, "p"), proposal(0, "q")])
            .done
            .to_answer(),
        no_member
    );
    let late = Command::Propose(super::hub::Propose {
        sender: bob(),
        on: Epoch(0),
        proposals: [proposal(1, "p")].into(),
    });
    assert_eq!(
        hub.apply(&late).done.to_answer(),
        Answer::Refused(hub.room().wrong_epoch())
    );
    assert_eq!(hub.room().pending(), []);
}

#[test]
fn so_many_proposals_of_a_client_and_of_a_room_wait_and_no_more() {
    let too_many = |what: &str, max: usize| {
        Answer::Refused(Refused::TooMany {
            what: BText::clipped(what),
            max: u32::try_from(max).unwrap(),
        })
    };
    let others: Vec<_> = (0..20)
        .map(|i| client("b", "bob", &format!("d{i}")))
        .collect();
    let mut hub = Hub::with(&others);
    let own = PROPOSALS_PENDING_PER_CLIENT_MAX;
    let many = |leaf: u32, count: usize| -> Vec<_> {
        (0..count)
            .map(|i| proposal(leaf, &format!("{leaf} {i}")))
            .collect()
    };
    assert_eq!(
        hub.propose(&alice(), many(0, own + 1)).done.to_answer(),
        too_many("pending proposals of one client", own)
    );
    hub.propose(&alice(), many(0, own));
    assert_eq!(
        hub.propose(&alice(), vec![proposal(0, "one more")])
            .done
            .to_answer(),
        too_many("pending proposals of one client", own)
    );
    for (leaf, sender) in (1..10).zip(&others) {
        hub.propose(sender, many(leaf, own));
    }
    assert_eq!(hub.room().pending().len(), PROPOSALS_PENDING_PER_ROOM_MAX);
    assert_eq!(
        hub.propose(&others[9], vec![proposal(10, "one more")])
            .done
            .to_answer(),
        too_many(
            "pending proposals of one room",
            PROPOSALS_PENDING_PER_ROOM_MAX
        )
    );
}

#[test]
fn proposals_are_void_when_the_epoch_is_over() {
    let mut hub = Hub::created();
    hub.propose(&alice(), vec![proposal(0, "p")]);
    hub.advance(1);
    assert_eq!(hub.room().pending(), []);
    assert_eq!(
        hub.propose(&alice(), vec![proposal(0, "p")]).emitted[0].first,
        RoomSeq(3)
    );
}

#[test]
fn a_retry_of_accepted_proposals_gets_its_first_answer_also_when_the_epoch_is_over() {
    let mut hub = Hub::created();
    let first = hub.propose(&alice(), vec![proposal(0, "p")]);
    let again = Command::Propose(super::hub::Propose {
        sender: alice(),
        on: hub.room().epoch(),
        proposals: [proposal(0, "p")].into(),
    });
    hub.advance(1);
    let late = hub.apply(&again);
    assert_eq!(
        (late.done.to_answer(), late.emitted),
        (first.done.to_answer(), Vec::new())
    );
    assert_eq!(hub.room().pending(), []);
}

#[test]
fn users_of_the_hub_are_told_who_of_their_clients_joined_or_left() {
    let mut hub = Hub::created();
    let anna = |device: &str| client("a", "anna", device);
    let (phone, pad, adam) = (anna("phone"), anna("pad"), client("a", "adam", "phone"));
    let add = hub.adding(
        "many",
        vec![
            (1, phone.clone()),
            (2, bob()),
            (3, adam.clone()),
            (4, pad.clone()),
        ],
    );
    let after = RoomSeq(1);
    let notice = |who: &crate::ids::ClientUri, clients: BVec<_, _>, change, at| UserNotice {
        user: who.user().clone(),
        clients,
        change,
        at,
        item: 0,
    };
    let joined = Change::Joined { after };
    let outcome = hub.apply(&add);
    assert_eq!(
        outcome.notices,
        [
            notice(&adam, [adam.clone()].into(), joined, hub.at()),
            notice(
                &phone,
                [phone.clone(), pad.clone()].into(),
                joined,
                hub.at()
            ),
        ]
    );
    let remove = hub.removing("some", vec![(1, phone.clone()), (2, bob())]);
    let upto = RoomSeq(2);
    let outcome = hub.apply(&remove);
    let left = notice(
        &phone,
        [phone.clone()].into(),
        Change::Left { upto },
        hub.at(),
    );
    assert_eq!(outcome.notices, [left]);
    assert!(!hub.room().has_member(&phone) && hub.room().has_member(&pad));
}

#[test]
fn a_compact_room_revives_as_it_was_and_other_bytes_do_not() {
    let mut hub = Hub::with(&[bob(), carol()]);
    hub.send(&alice(), 1, texts(1, 3));
    hub.submit(&bob(), 1, texts(1, 3));
    hub.propose(&carol(), vec![proposal(2, "p")]);
    let compact = hub.fold.compact();
    assert_eq!(Fold::revive(&compact).unwrap(), hub.fold);
    assert!(Fold::revive(&compact[..compact.len() - 1]).is_err());
    assert!(Fold::revive(&[]).is_err());
}
