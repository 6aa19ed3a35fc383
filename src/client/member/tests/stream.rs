//! The event stream: late, early, twice, and with holes.

use super::*;

#[test]
fn a_removed_member_reads_up_to_its_removal_and_may_come_back() {
    let (mut hub, mut alice, mut bob) = pair();
    let remove = alice.prepare_remove(&room(), &[uri("bob")]).unwrap();
    assert!(remove.welcome.is_none());
    let words = alice.encrypt(&room(), &["last words"]).unwrap();
    let last = hub.messages(alice.frames(&room(), words)).remove(0);
    let (answer, event) = hub.commit(&remove);
    alice.commit_answered(&room(), answer).unwrap();
    let event = event.unwrap();
    hub.fan_out(&last, &mut [&mut alice]);
    hub.fan_out(&event, &mut [&mut alice]);

    // The notice overtakes the events.
    hub.notify(&mut bob, Notice::Left { upto: event.seq });
    assert_eq!(bob.epoch(&room()), Some(Epoch(1)));
    hub.fan_out(&last, &mut [&mut bob]);
    hub.fan_out(&event, &mut [&mut bob]);
    assert_eq!(bob.received(&room()), ["last words"]);
    assert_eq!(bob.epoch(&room()), None);
    assert!(matches!(
        bob.encrypt(&room(), &["after"]),
        Err(MemberError::NotMember(_))
    ));

    let add = alice.prepare_add(&room(), &one_package(&mut bob)).unwrap();
    hub.committed(&mut alice, &add, &mut []);
    hub.welcome(&add, &mut bob);
    agree(&[&alice, &bob]);
    hub.say(&mut bob, "back", &mut [&mut alice]);
    assert_eq!(alice.received(&room()), ["last words", "back"]);
}

#[test]
fn one_whose_removal_is_among_events_that_are_not_kept_leaves_and_may_come_back() {
    let (mut hub, mut alice, mut bob) = pair();
    let words = alice.encrypt(&room(), &["nobody keeps this"]).unwrap();
    let lost = hub.messages(alice.frames(&room(), words)).remove(0);
    hub.fan_out(&lost, &mut [&mut alice]);
    let remove = alice.prepare_remove(&room(), &[uri("bob")]).unwrap();
    let (answer, gone) = hub.commit(&remove);
    alice.commit_answered(&room(), answer).unwrap();
    let gone = gone.unwrap();
    hub.fan_out(&gone, &mut [&mut alice]);

    hub.notify(&mut bob, Notice::Left { upto: gone.seq });
    assert_eq!(
        bob.epoch(&room()),
        Some(Epoch(1)),
        "its last events may come"
    );
    bob.take(DoorItem::Gap {
        room: room(),
        from: lost.seq,
        upto: gone.seq,
    });
    assert_eq!(
        (bob.missed(&room()), bob.epoch(&room())),
        (Some(gone.seq), None)
    );

    let add = alice.prepare_add(&room(), &one_package(&mut bob)).unwrap();
    hub.committed(&mut alice, &add, &mut []);
    hub.welcome(&add, &mut bob);
    agree(&[&alice, &bob]);
    assert_eq!(bob.received(&room()), [""; 0]);
}

#[test]
fn one_that_is_removed_and_added_again_before_it_reads_loses_no_old_event() {
    let (mut hub, mut alice, mut bob) = pair();
    let first = alice.encrypt(&room(), &["old"]).unwrap();
    let old = hub.messages(alice.frames(&room(), first)).remove(0);
    hub.fan_out(&old, &mut [&mut alice]);
    let remove = alice.prepare_remove(&room(), &[uri("bob")]).unwrap();
    let (answer, gone) = hub.commit(&remove);
    alice.commit_answered(&room(), answer).unwrap();
    let gone = gone.unwrap();
    hub.fan_out(&gone, &mut [&mut alice]);
    let add = alice.prepare_add(&room(), &one_package(&mut bob)).unwrap();
    hub.committed(&mut alice, &add, &mut []);

    hub.notify(&mut bob, Notice::Left { upto: gone.seq });
    hub.welcome(&add, &mut bob);
    hub.fan_out(&old, &mut [&mut bob]);
    hub.fan_out(&gone, &mut [&mut bob]);
    assert_eq!(bob.received(&room()), ["old"]);
    agree(&[&alice, &bob]);
}

#[test]
fn events_that_come_before_the_welcome_are_held_and_those_seen_before_are_counted() {
    let (mut alice, mut bob) = (member("alice"), member("bob"));
    let mut hub = Hub::opened_by(&mut alice);
    let add = alice.prepare_add(&room(), &one_package(&mut bob)).unwrap();
    hub.committed(&mut alice, &add, &mut []);
    let joined_after = hub.seq;
    let first = alice.encrypt(&room(), &["early", "bird"]).unwrap();
    let events = hub.messages(alice.frames(&room(), first));
    for event in &events {
        hub.fan_out(event, &mut [&mut bob]);
    }
    assert!(bob.received(&room()).is_empty());
    assert!(bob.acks().is_empty());

    hub.seq = joined_after;
    hub.welcome(&add, &mut bob);
    assert_eq!(bob.received(&room()), ["early", "bird"]);
    let acks = bob.acks();
    assert_eq!(acks[0].inbox, Some(InboxSeq(1)));
    assert_eq!(acks[0].rooms[0], (room(), joined_after.plus(2)));

    hub.fan_out(&events[1], &mut [&mut bob]);
    assert_eq!(bob.received(&room()), ["early", "bird"]);
    assert_eq!(bob.counts().duplicates, 1);
}

#[test]
fn a_missing_number_is_counted_and_a_broken_event_is_a_fault() {
    let (mut hub, _, mut bob) = pair();
    hub.seq = hub.seq.plus(2);
    let event = hub.event(RoomBody::Application(Payload::from(vec![0, 1, 0, 9])));
    hub.fan_out(&event, &mut [&mut bob]);
    assert_eq!(bob.counts().gaps, 2);
    assert_eq!(
        bob.faults().map(|fault| fault.seq).collect::<Vec<_>>(),
        [event.seq]
    );
}
