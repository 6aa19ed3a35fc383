use super::*;
use crate::wire::BText;

const AT: &str = "h4:1";

fn address(text: &str) -> Address {
    BText::clipped(text)
}

/// A shard led by its first voter, in which everybody answers and has everything.
fn view(voters: &[u64], learners: &[u64]) -> View {
    let members = voters.iter().chain(learners).copied();
    View {
        leader: voters[0],
        voters: voters.iter().copied().collect(),
        learners: learners.iter().copied().collect(),
        addresses: members
            .clone()
            .map(|node| (node, format!("h{node}:1")))
            .collect(),
        lag_entries: members
            .filter(|node| *node != voters[0])
            .map(|node| (node, 0))
            .collect(),
        ..View::default()
    }
}

fn probed(view: View, probe: Probe) -> View {
    View {
        newcomer: Some(probe),
        ..view
    }
}

fn without(mut view: View, silent: &[u64]) -> View {
    view.lag_entries.retain(|node, _| !silent.contains(node));
    view
}

fn lagging(mut view: View, node: u64, entries: u64) -> View {
    view.lag_entries.insert(node, entries);
    view
}

fn join4() -> Wish {
    Wish::Join {
        node: 4,
        address: address(AT),
    }
}

fn replace(node: u64, force: bool) -> Wish {
    Wish::Replace {
        node,
        with: 4,
        address: address(AT),
        force,
    }
}

fn votes(voters: &[u64]) -> Next {
    Next::Do(Order::Vote {
        voters: voters.iter().copied().collect(),
    })
}

fn learn4() -> Next {
    Next::Do(Order::Learn {
        node: 4,
        address: address(AT),
    })
}

fn refused(wish: &Wish, view: &View) -> Refusal {
    let Next::Refuse(refusal) = next(wish, view) else {
        panic!("{:?}", next(wish, view));
    };
    refusal
}

#[test]
fn a_node_that_waits_learns_then_votes_where_there_is_room() {
    let waits = |view| probed(view, Probe::Waits);
    assert_eq!(next(&join4(), &waits(view(&[1, 2], &[]))), learn4());
    assert_eq!(
        next(&join4(), &waits(view(&[1, 2], &[4]))),
        votes(&[1, 2, 4])
    );
    assert_eq!(next(&join4(), &waits(view(&[1, 2, 4], &[]))), Next::Done);
    assert_eq!(next(&join4(), &waits(view(&[1, 2, 3], &[4]))), Next::Done);
    let far = lagging(view(&[1, 2], &[4]), 4, 900);
    let lag = Waiting::Lag {
        node: 4,
        entries: 900,
    };
    assert_eq!(next(&join4(), &far), Next::Wait(lag));
    let silent = without(view(&[1, 2], &[4]), &[4]);
    assert_eq!(
        next(&join4(), &silent),
        Next::Wait(Waiting::Answer { node: 4 })
    );
}

#[test]
fn nobody_is_taken_in_who_was_not_spoken_to_at_that_address_and_waits_there() {
    let why = BText::clipped("timed out");
    for (probe, expected) in [
        (None, "node 4 does not answer at h4:1"),
        (
            Some(Probe::Silent { why }),
            "node 4 does not answer at h4:1 (timed out)",
        ),
        (
            Some(Probe::DoesNotWait),
            "node 4 at h4:1 does not wait to be taken in",
        ),
        (
            Some(Probe::Used),
            "node 4 has a log of this cluster already",
        ),
        (
            Some(Probe::Stranger {
                why: BText::clipped("its clock is wrong"),
            }),
            "node 4 at h4:1 is not taken in: its clock is wrong",
        ),
    ] {
        let newcomer = View {
            newcomer: probe,
            ..view(&[1, 2, 3], &[])
        };
        for wish in [join4(), replace(3, true)] {
            let said = refused(&wish, &newcomer).to_string();
            assert!(said.starts_with(expected), "{said}");
        }
    }
}

#[test]
fn a_member_that_is_joined_at_another_address_is_not_said_to_be_done() {
    let moved = Wish::Join {
        node: 3,
        address: address("other:9"),
    };
    let said = refused(&moved, &view(&[1, 2, 3], &[])).to_string();
    assert!(
        said.starts_with("node 3 belongs to the cluster at h3:1, not at other:9"),
        "{said}"
    );
}

#[test]
fn a_voter_that_is_well_is_replaced_only_by_force() {
    let well = probed(view(&[1, 2, 3], &[]), Probe::Waits);
    let healthy = Refusal::Healthy { node: 3, shard: 0 };
    assert_eq!(refused(&replace(3, false), &well), healthy);
    assert_eq!(next(&replace(3, true), &well), learn4());
    let lost = without(well, &[3]);
    assert_eq!(next(&replace(3, false), &lost), learn4());
}

#[test]
fn a_lost_node_is_replaced_step_by_step_from_wherever_it_was_interrupted() {
    let wish = replace(3, false);
    let lost = |view| without(view, &[3]);
    assert_eq!(
        next(&wish, &lost(view(&[1, 2, 3], &[4]))),
        votes(&[1, 2, 4])
    );
    let forget = Next::Do(Order::Forget { node: 3 });
    assert_eq!(next(&wish, &lost(view(&[1, 2, 4], &[3]))), forget);
    assert_eq!(next(&wish, &view(&[1, 2, 4], &[])), Next::Done);
    assert_eq!(
        refused(&replace(9, false), &view(&[1, 2, 3], &[])),
        Refusal::Unknown { node: 9 }
    );
}

#[test]
fn who_leaves_is_followed_by_a_learner_that_has_everything_and_not_before() {
    let wish = Wish::Leave { node: 1 };
    let leader = view(&[1, 2, 3], &[4]);
    assert_eq!(next(&wish, &leader), Next::Do(Order::HandOver { to: 2 }));
    assert_eq!(next(&wish, &view(&[1], &[4])), votes(&[1, 4]));
    assert_eq!(next(&wish, &view(&[2, 1, 3], &[4, 5])), votes(&[2, 3, 4]));
    let lagging = lagging(view(&[2, 1, 3], &[4]), 4, 65);
    assert!(matches!(
        next(&wish, &lagging),
        Next::Wait(Waiting::Lag { node: 4, .. })
    ));
    assert_eq!(next(&wish, &view(&[2, 1, 3], &[])), votes(&[2, 3]));
    assert_eq!(
        next(&wish, &view(&[2, 3], &[1])),
        Next::Do(Order::Forget { node: 1 })
    );
    assert_eq!(next(&wish, &view(&[2, 3], &[])), Next::Done);
    assert_eq!(
        refused(&wish, &view(&[1], &[])),
        Refusal::LastVoter { shard: 0, node: 1 }
    );
}

#[test]
fn without_a_majority_before_and_after_nothing_is_changed() {
    let few = without(probed(view(&[1, 2, 3], &[]), Probe::Waits), &[2, 3]);
    for wish in [join4(), replace(3, false)] {
        assert!(matches!(refused(&wish, &few), Refusal::NoMajority { .. }));
    }
    // One of two that would remain does not answer.
    let leave = Wish::Leave { node: 2 };
    let stops = without(view(&[1, 2, 3], &[]), &[3]);
    let Refusal::WouldStop { voters, level, .. } = refused(&leave, &stops) else {
        panic!("{:?}", next(&leave, &stops));
    };
    assert_eq!(voters, BTreeSet::from([1, 3]));
    assert_eq!(level, BTreeSet::from([1]));
}

#[test]
fn a_node_moves_only_to_where_it_answers() {
    let wish = Wish::Move {
        node: 3,
        address: address("new:1"),
    };
    let there = probed(view(&[1, 2, 3], &[]), Probe::Belongs);
    let order = Order::Readdress {
        node: 3,
        address: address("new:1"),
    };
    assert_eq!(next(&wish, &there), Next::Do(order));
    let silent = Probe::Silent {
        why: BText::default(),
    };
    let nobody = probed(view(&[1, 2, 3], &[]), silent);
    assert!(matches!(refused(&wish, &nobody), Refusal::Silent { .. }));
    let mut moved = view(&[1, 2, 3], &[]);
    moved.addresses.insert(3, "new:1".to_owned());
    assert_eq!(next(&wish, &moved), Next::Done);
    assert_eq!(
        refused(&wish, &view(&[1, 2], &[])),
        Refusal::Unknown { node: 3 }
    );
}

#[test]
fn settling_lets_learners_vote_where_there_is_room_and_waits_for_a_change_that_began() {
    assert_eq!(next(&Wish::Settle, &view(&[1, 2], &[5])), votes(&[1, 2, 5]));
    assert_eq!(next(&Wish::Settle, &view(&[1, 2, 3], &[5])), Next::Done);
    let behind = lagging(view(&[1, 2], &[5]), 5, 65);
    assert_eq!(next(&Wish::Settle, &behind), Next::Done);
    let changing = View {
        changing: true,
        ..view(&[1, 2], &[5])
    };
    assert_eq!(next(&Wish::Settle, &changing), Next::Wait(Waiting::Change));
}

#[test]
fn a_change_that_nobody_lived_to_finish_is_finished_first() {
    let begun = View {
        before: [1, 2, 3].into(),
        ..view(&[1, 2, 4], &[])
    };
    for wish in [Wish::Settle, Wish::Leave { node: 2 }, join4()] {
        assert_eq!(next(&wish, &begun), votes(&[1, 2, 4]));
    }
    let few = without(begun, &[2, 3]);
    let Refusal::NoMajority { voters, heard, .. } = refused(&Wish::Settle, &few) else {
        panic!("{:?}", next(&Wish::Settle, &few));
    };
    assert_eq!((voters, heard), ([1, 2, 3].into(), [1].into()));
}

#[test]
fn who_has_no_vote_after_a_change_hands_over_before_that_is_finished() {
    // Node 5 led two voters, of whom it was one, and 7 votes in its place.
    let view = |silent: &[u64]| {
        let joint = View {
            leader: 5,
            before: [3, 5].into(),
            ..view(&[3, 7], &[5])
        };
        let joint = lagging(lagging(joint, 3, 0), 7, 0);
        without(joint, silent)
    };
    let settle = |silent: &[u64]| next(&Wish::Settle, &view(silent));
    assert_eq!(settle(&[]), Next::Do(Order::HandOver { to: 3 }));
    assert!(matches!(
        settle(&[3]),
        Next::Refuse(Refusal::NoMajority { .. })
    ));
    let led = View {
        leader: 3,
        ..lagging(view(&[]), 5, 0)
    };
    assert_eq!(next(&Wish::Settle, &led), votes(&[3, 7]));
    let behind = lagging(lagging(view(&[]), 3, 900), 7, 900);
    let lag = Waiting::Lag {
        node: 3,
        entries: 900,
    };
    assert_eq!(next(&Wish::Settle, &behind), Next::Wait(lag));
}
