//! One device: joining, restarting, its KeyPackages and its messages.

use super::*;

#[test]
fn a_joiner_enters_by_welcome_and_separate_tree_and_messages_go_both_ways() {
    let (mut hub, mut alice, mut bob) = pair();
    assert_eq!(bob.members(&room()), [uri("alice"), uri("bob")]);
    hub.say(&mut alice, "hello", &mut [&mut bob]);
    hub.say(&mut bob, "hi", &mut [&mut alice]);

    assert_eq!(alice.received(&room()), ["hello", "hi"]);
    assert_eq!(bob.received(&room()), ["hello", "hi"]);
    let seen: Vec<_> = bob.seen().map(|seen| (&seen.sender, seen.own)).collect();
    assert_eq!(
        seen,
        [(&uri("alice"), None), (&uri("bob"), Some(ClientSeq(1)))]
    );
    let accepted = Verdict::Accepted {
        seq: RoomSeq(2),
        time: Millis(2),
    };
    assert_eq!(alice.verdicts(&room()), [(ClientSeq(1), accepted)]);
    assert!(alice.unresolved(&room()).is_empty());
}

#[test]
fn a_device_restarts_in_the_middle_of_everything_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bob");
    let (mut alice, mut bob) = (
        member("alice"),
        Member::create(uri("bob"), Some(path.clone())).unwrap(),
    );
    assert!(Member::create(uri("bob"), Some(path.clone())).is_err());
    let device = bob.device().public();
    let mut hub = Hub::opened_by(&mut alice);
    let packages = one_package(&mut bob);

    // Between the upload and the Welcome.
    bob.save_now().unwrap();
    let mut bob = Member::restore(path.clone()).unwrap();
    assert_eq!((bob.device().public(), bob.client()), (device, &uri("bob")));
    let add = alice.prepare_add(&room(), &packages).unwrap();
    hub.committed(&mut alice, &add, &mut []);
    hub.welcome(&add, &mut bob);

    // Between a message, and a Commit, and the hub's word on them.
    let first = bob.encrypt(&room(), &["one", "two"]).unwrap();
    let frames = bob.frames(&room(), first);
    let update = bob.prepare_update(&room()).unwrap();
    bob.save_now().unwrap();
    let mut bob = Member::restore(path.clone()).unwrap();
    assert_eq!(bob.pending_commit(&room()), Some(&update));
    assert_eq!(bob.frames(&room(), ClientSeq(1)), frames);
    assert_eq!(bob.unresolved(&room()), [ClientSeq(1), ClientSeq(2)]);

    let events = hub.messages(frames);
    for event in &events {
        // Recognised by its bytes: `own` is not set.
        hub.fan_out(event, &mut [&mut alice, &mut bob]);
    }
    let (_, event) = hub.commit(&update);
    hub.fan_out(&event.unwrap(), &mut [&mut alice, &mut bob]);
    agree(&[&alice, &bob]);
    assert_eq!(bob.received(&room()), ["one", "two"]);
    assert!(bob.unresolved(&room()).is_empty());

    // With messages of the old epoch on the way.
    bob.save_now().unwrap();
    let mut bob = Member::restore(path).unwrap();
    let first = alice.encrypt(&room(), &["three"]).unwrap();
    let late = hub.messages(alice.frames(&room(), first)).remove(0);
    let again = bob.prepare_update(&room()).unwrap();
    hub.committed(&mut bob, &again, &mut []);
    bob.take(DoorItem::Verdict {
        room: room(),
        run: VerdictRun {
            first: ClientSeq(1),
            count: 1,
            verdict: Verdict::Queued,
        },
    });
    let mut late = late;
    late.seq = hub.seq.next();
    hub.fan_out(&late, &mut [&mut bob]);
    assert_eq!(bob.received(&room()), ["one", "two", "three"]);
    assert_eq!(bob.faults().count(), 0);
    assert_eq!(bob.encrypt(&room(), &["four"]).unwrap(), ClientSeq(3));
}

#[test]
fn packages_of_another_suite_are_valid_and_fit_no_room() {
    let (_, mut alice, _) = pair();
    let mut carol = member("carol");
    let packages = carol
        .key_packages(1, &PackageOptions::incompatible())
        .unwrap();
    let package = Payload::from(packages[0].clone());
    let read = identity::read_key_package(&alice.mls, &package).unwrap();
    assert_eq!(
        read.ciphersuite(),
        Ciphersuite::MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519
    );
    assert!(alice.prepare_add(&room(), &[package]).is_err());
    assert_eq!(alice.pending_commit(&room()), None);
}

#[test]
fn messages_made_in_bulk_have_the_size_asked_for_and_decrypt() {
    let (mut hub, mut alice, mut bob) = pair();
    let batch = alice.encrypt_batch(&room(), 20, 1_024).unwrap();
    assert_eq!(alice.reserve_numbers(&room(), 20), ClientSeq(1));
    for message in batch {
        assert!(message.len().abs_diff(1_024) <= 4, "{}", message.len());
        let event = hub.event(RoomBody::Application(message.into()));
        hub.fan_out(&event, &mut [&mut bob]);
    }
    assert_eq!(bob.counts().messages, 20);
    assert_eq!(bob.faults().count(), 0);
}

#[test]
fn frames_are_split_where_a_number_is_settled_and_at_the_limit() {
    let (_, mut alice, _) = pair();
    let texts = vec!["x"; 600];
    assert_eq!(alice.encrypt(&room(), &texts).unwrap(), ClientSeq(1));
    alice.decided(
        &room(),
        &VerdictRun {
            first: ClientSeq(3),
            count: 1,
            verdict: Verdict::Accepted {
                seq: RoomSeq(9),
                time: Millis(1),
            },
        },
    );
    let frames: Vec<_> = alice
        .frames(&room(), ClientSeq(1))
        .iter()
        .map(|frame| (frame.first.0, frame.messages.len()))
        .collect();
    assert_eq!(frames, [(1, 2), (4, 512), (516, 85)]);
    let _: BVec<u8, 1> = BVec::default();
}
