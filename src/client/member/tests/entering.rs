//! External Commits: a device that joins by itself, or again, and one that leaves.

use super::*;

fn tablet() -> Member {
    let uri = "mimi://a.example/d/alice/tablet".parse().unwrap();
    Member::create(uri, None).unwrap()
}

#[test]
fn a_second_device_enters_by_an_external_commit_and_messages_go_both_ways() {
    let (mut hub, mut alice, mut bob) = pair();
    let mut tablet = tablet();
    let entrance = alice.entrance(&room()).unwrap();
    let entry = tablet.prepare_entry(&room(), &entrance).unwrap();
    assert_eq!((tablet.epoch(&room()), entry.epoch), (None, Epoch(2)));
    assert_eq!(tablet.pending_commit(&room()), Some(&entry));

    let (answer, event) = hub.commit(&entry);
    hub.fan_out(&event.unwrap(), &mut [&mut alice, &mut bob]);
    // What comes before the answer waits for it.
    let first = bob.encrypt(&room(), &["early"]).unwrap();
    for event in hub.messages(bob.frames(&room(), first)) {
        hub.fan_out(&event, &mut [&mut alice, &mut bob, &mut tablet]);
    }
    tablet.commit_answered(&room(), answer).unwrap();
    agree(&[&alice, &bob, &tablet]);
    assert_eq!(tablet.received(&room()), ["early"]);

    hub.say(&mut tablet, "from the tablet", &mut [&mut alice, &mut bob]);
    let update = tablet.prepare_update(&room()).unwrap();
    hub.committed(&mut tablet, &update, &mut [&mut alice, &mut bob]);
    agree(&[&alice, &bob, &tablet]);
}

#[test]
fn an_external_commit_that_lost_leaves_no_group_and_is_made_again() {
    let (mut hub, mut alice, mut bob) = pair();
    let mut tablet = tablet();
    let entrance = alice.entrance(&room()).unwrap();
    let entry = tablet.prepare_entry(&room(), &entrance).unwrap();
    let update = bob.prepare_update(&room()).unwrap();
    hub.committed(&mut bob, &update, &mut [&mut alice]);
    let (answer, _) = hub.commit(&entry);
    let lost = tablet.commit_answered(&room(), answer);
    assert!(matches!(lost, Err(MemberError::Lost { .. })));
    assert_eq!(tablet.pending_commit(&room()), None);
    assert_eq!(tablet.rooms().count(), 0);

    let entrance = alice.entrance(&room()).unwrap();
    let entry = tablet.prepare_entry(&room(), &entrance).unwrap();
    hub.committed(&mut tablet, &entry, &mut [&mut alice, &mut bob]);
    agree(&[&alice, &bob, &tablet]);
}

#[test]
fn a_device_replaces_its_own_leaf_and_does_so_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bob");
    let (mut alice, mut bob) = (
        member("alice"),
        Member::create(uri("bob"), Some(path.clone())).unwrap(),
    );
    let mut hub = Hub::opened_by(&mut alice);
    let add = alice.prepare_add(&room(), &one_package(&mut bob)).unwrap();
    hub.committed(&mut alice, &add, &mut []);
    hub.welcome(&add, &mut bob);

    let entry = bob
        .prepare_entry(&room(), &alice.entrance(&room()).unwrap())
        .unwrap();
    assert_eq!(bob.epoch(&room()), None);
    bob.save_now().unwrap();
    let mut bob = Member::restore(path).unwrap();
    assert_eq!(bob.pending_commit(&room()), Some(&entry));
    assert_eq!(bob.epoch(&room()), None);
    hub.committed(&mut bob, &entry, &mut [&mut alice]);
    agree(&[&alice, &bob]);
    assert_eq!(bob.members(&room()), [uri("alice"), uri("bob")]);
}

#[test]
fn notices_of_a_time_before_it_entered_do_not_take_a_device_back() {
    let (mut hub, mut alice, mut bob) = pair();
    let mut tablet = tablet();
    let add = alice
        .prepare_add(&room(), &one_package(&mut tablet))
        .unwrap();
    hub.committed(&mut alice, &add, &mut [&mut bob]);
    // The tablet reads neither its Welcome nor of its removal, and enters.
    let added_at = hub.seq;
    let own = [tablet.client().clone()];
    let remove = alice.prepare_remove(&room(), &own).unwrap();
    hub.committed(&mut alice, &remove, &mut [&mut bob]);
    let removed_at = hub.seq;
    let entry = tablet
        .prepare_entry(&room(), &alice.entrance(&room()).unwrap())
        .unwrap();
    hub.committed(&mut tablet, &entry, &mut [&mut alice, &mut bob]);
    let welcome = WelcomeNotice {
        epoch: add.epoch,
        welcome: add.welcome.clone().unwrap(),
        tree: Payload::from(add.tree.carried().to_vec()),
    };
    for notice in [
        Notice::Joined {
            after: added_at,
            welcome: Some(welcome),
        },
        Notice::Left { upto: removed_at },
    ] {
        hub.notify(&mut tablet, notice);
    }
    agree(&[&alice, &bob, &tablet]);
    hub.say(&mut alice, "still here?", &mut [&mut bob, &mut tablet]);
    assert_eq!(tablet.received(&room()), ["still here?"]);
}

#[test]
fn who_enters_lets_go_who_is_leaving() {
    let (mut hub, mut alice, mut bob) = pair();
    let mut tablet = tablet();
    let leave = bob.prepare_proposals(&room(), Proposing::Leave).unwrap();
    let event = hub.event(RoomBody::Proposals(leave.try_into().unwrap()));
    hub.fan_out(&event, &mut [&mut alice, &mut bob]);
    assert_eq!(bob.pending_proposals(&room()), 1);

    let entrance = alice.entrance(&room()).unwrap();
    assert_eq!(entrance.proposals.len(), 1);
    let entry = tablet.prepare_entry(&room(), &entrance).unwrap();
    hub.committed(&mut tablet, &entry, &mut [&mut alice, &mut bob]);
    agree(&[&alice, &tablet]);
    assert_eq!(alice.members(&room()).len(), 2);
    assert_eq!((bob.epoch(&room()), bob.faults().count()), (None, 0));
    assert!(alice.entrance(&room()).unwrap().proposals.is_empty());
}
