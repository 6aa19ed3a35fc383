use super::{
    hub::{Command, Commit, Fold},
    outcome::{Answer, Done, Refused},
    testing::*,
};
use crate::{
    bucket::Rate,
    ids::ClientUri,
    limits::PEER_BEHIND_RETRY_AFTER_MS,
    machine::Fold as _,
    mls::{check::bundle::Joined, tree::view::Member},
    wire::event::Hash,
};
use bytes::Bytes;

/// Three at once, and one more each second.
const RATE: Rate = Rate {
    burst: 3,
    per_minute: 60,
};

fn amy() -> ClientUri {
    client("a", "amy", "phone")
}

/// Alice (leaf 0) and amy (leaf 1), whose Commits are limited from now on.
fn room_of_two() -> Hub {
    let mut hub = Hub::with(&[amy()]);
    hub.time = 1_000;
    hub
}

/// A Commit of that client and leaf on the current state, under [`RATE`].
fn commit_of(hub: &Hub, sender: &ClientUri, leaf: u32, name: &str) -> Commit {
    let mut commit = hub.commit(name);
    commit.sender = sender.clone();
    commit.checked.committer = leaf;
    commit.rate = RATE;
    commit
}

fn take(hub: &mut Hub, commit: Commit) -> Answer {
    hub.apply(&Command::Commit(Box::new(commit)))
        .done
        .to_answer()
}

fn next(hub: &mut Hub, sender: &ClientUri, leaf: u32) -> Answer {
    let commit = commit_of(hub, sender, leaf, &format!("{sender} {}", hub.entry));
    take(hub, commit)
}

fn limited(retry_after_ms: u32) -> Answer {
    Answer::Refused(Refused::Limited { retry_after_ms })
}

fn opened(answer: &Answer) -> bool {
    matches!(answer, Answer::Committed(_))
}

fn storm(hub: &mut Hub) {
    for _ in 0..3 {
        assert!(opened(&next(hub, &alice(), 0)));
    }
}

#[test]
fn a_member_that_opens_epoch_after_epoch_waits_and_another_one_gets_in() {
    let mut hub = room_of_two();
    storm(&mut hub);
    let before = hub.fold.clone();
    assert_eq!(next(&mut hub, &alice(), 0), limited(1_000));
    assert_eq!(hub.fold, before);
    assert!(opened(&next(&mut hub, &amy(), 1)));
    hub.time = 1_999;
    assert_eq!(next(&mut hub, &alice(), 0), limited(1));
    hub.time = 2_000;
    assert!(opened(&next(&mut hub, &alice(), 0)));
    assert_eq!(next(&mut hub, &alice(), 0), limited(1_000));
}

#[test]
fn commits_that_open_no_epoch_do_not_count() {
    let mut hub = room_of_two();
    for _ in 0..9 {
        let lost = commit_of(&hub, &alice(), 0, &format!("lost {}", hub.entry));
        assert!(opened(&next(&mut hub, &amy(), 1)));
        let answer = take(&mut hub, lost);
        assert!(matches!(
            answer,
            Answer::Refused(Refused::WrongEpoch { .. })
        ));
        hub.time += 1_000;
        let foreign = next(&mut hub, &alice(), 1);
        assert_eq!(foreign, Answer::Refused(Refused::NotMember));
        let mut unchecked = commit_of(&hub, &alice(), 0, &format!("stale {}", hub.entry));
        unchecked.on.pending = Hash::of(b"others");
        let stale = hub.apply(&Command::Commit(Box::new(unchecked)));
        assert_eq!(stale.done, Done::Stale);
    }
    storm(&mut hub);
}

#[test]
fn a_retry_of_an_accepted_commit_is_answered_above_the_limit_too() {
    let mut hub = room_of_two();
    let first = commit_of(&hub, &alice(), 0, "the retried");
    let answer = take(&mut hub, first.clone());
    for _ in 0..2 {
        assert!(opened(&next(&mut hub, &alice(), 0)));
    }
    assert_eq!(next(&mut hub, &alice(), 0), limited(1_000));
    assert_eq!(take(&mut hub, first), answer);
}

#[test]
fn what_was_used_is_used_after_a_restart_too() {
    let mut hub = room_of_two();
    storm(&mut hub);
    hub.fold = Fold::revive(&hub.fold.compact()).unwrap();
    assert_eq!(next(&mut hub, &alice(), 0), limited(1_000));
}

#[test]
fn only_members_are_counted_and_only_as_long_as_it_matters() {
    let mut hub = room_of_two();
    storm(&mut hub);
    assert!(opened(&next(&mut hub, &amy(), 1)));
    assert_eq!(hub.room().commit_rate.counted(), 2);
    // Amy is let go: nothing is kept of her.
    hub.time = 2_000;
    let mut removal = commit_of(&hub, &alice(), 0, "amy leaves");
    removal.checked.left = [Member {
        leaf: 1,
        client: amy(),
        signature_key: Bytes::from_static(b"key"),
    }]
    .into();
    assert!(opened(&take(&mut hub, removal)));
    assert_eq!(hub.room().commit_rate.counted(), 1);
    // Alice has rested when bob, new in the room, commits.
    hub.time = 60_000;
    let mut adding = commit_of(&hub, &alice(), 0, "bob joins");
    adding.checked.joined = [Joined {
        leaf: 1,
        client: bob(),
        key_package_reference: Some(Bytes::from_static(b"reference")),
        signature_key: Bytes::from_static(b"key"),
    }]
    .into();
    assert!(opened(&take(&mut hub, adding)));
    hub.time = 120_000;
    assert!(opened(&next(&mut hub, &bob(), 1)));
    assert_eq!(hub.room().commit_rate.counted(), 1);
}

#[test]
fn nobody_is_brought_in_whose_provider_is_too_far_behind_and_rooms_it_is_in_go_on() {
    let mut hub = room_of_two();
    let behind = |command: Command, provider: &str| {
        let Command::Commit(mut commit) = command else {
            panic!("a Commit");
        };
        commit.behind = vec![provider.parse().unwrap()];
        Command::Commit(commit)
    };
    let bob = || vec![(2, client("b", "bob", "phone"))];
    let refused = hub.apply(&behind(hub.adding("with bob", bob()), "b.example"));
    let answer = Answer::Refused(Refused::PeerBehind {
        provider: "b.example".parse().unwrap(),
        retry_after_ms: PEER_BEHIND_RETRY_AFTER_MS,
    });
    assert_eq!(
        (refused.done.to_answer(), refused.emitted.len()),
        (answer, 0)
    );

    assert!(opened(
        &hub.apply(&behind(hub.adding("bob", bob()), "c.example"))
            .done
            .to_answer()
    ));
    let billy = vec![(3, client("b", "billy", "phone"))];
    let billy = behind(hub.adding("billy", billy), "b.example");
    assert!(
        opened(&hub.apply(&billy).done.to_answer()),
        "it is in the room already"
    );

    let mut both = bob();
    both.push((3, client("b", "billy", "phone")));
    assert!(opened(
        &hub.apply(&hub.removing("all of b", both)).done.to_answer()
    ));
    let again = hub.apply(&behind(hub.adding("bob again", bob()), "b.example"));
    assert!(
        matches!(
            again.done.to_answer(),
            Answer::Refused(Refused::PeerBehind { .. })
        ),
        "it was in the room, and is not any more"
    );
}
