//! Members at the door of a provider, over QUIC.

use super::{provider::Provider, *};
use crate::door::DoorClient;
use mimi_actors::wire::door::DoorRefused;
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(20);

async fn refused(result: impl Future<Output = Result<(), MemberError>>) -> DoorRefused {
    match result.await {
        Err(MemberError::Door(DoorError::Refused(refused))) => refused,
        other => panic!("{other:?}"),
    }
}

/// A room of alice and bob, both connected.
async fn pair(provider: &Provider, alice: &mut Member, bob: &mut Member) {
    provider.admit(alice).await;
    provider.admit(bob).await;
    assert_eq!(bob.upload(3).await.unwrap(), 3);
    alice.create_room(&room()).await.unwrap();
    let users = [bob.client().user().clone()];
    let claimed = alice.claim(Some(room()), &users).await.unwrap();
    let add = alice.prepare_add(&room(), &packages(&claimed)).unwrap();
    assert_eq!(alice.commit(&add).await.unwrap().epoch, Epoch(1));
    let joined = |member: &Member| member.epoch(&room()) == Some(Epoch(1));
    bob.run_until(WAIT, joined).await.unwrap();
    agree(&[alice, bob]);
}

fn has(count: usize) -> impl Fn(&Member) -> bool {
    move |member| member.received(&room()).len() == count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_is_admitted_by_code_and_then_by_its_key() {
    let provider = Provider::start();
    let mut alice = member("alice");
    let none = alice.login().await;
    assert!(matches!(none, Err(MemberError::NotConnected)));
    alice
        .connect(&provider.dialer, provider.address)
        .await
        .unwrap();
    assert_eq!(refused(alice.login()).await, DoorRefused::NotKnown);
    assert_eq!(refused(alice.enrol("guess")).await, DoorRefused::NotKnown);
    let early = refused(alice.create_room(&room())).await;
    assert_eq!(early, DoorRefused::NotLoggedIn);
    alice.enrol("welcome").await.unwrap();
    alice
        .connect(&provider.dialer, provider.address)
        .await
        .unwrap();
    alice.login().await.unwrap();

    // Another device of that name has another key.
    let mut thief = member("alice");
    thief
        .connect(&provider.dialer, provider.address)
        .await
        .unwrap();
    assert_eq!(refused(thief.login()).await, DoorRefused::NotKnown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_members_talk_contest_an_epoch_and_agree() {
    let provider = Provider::start();
    let (mut alice, mut bob) = (member("alice"), member("bob"));
    pair(&provider, &mut alice, &mut bob).await;
    alice.send(&room(), &["one", "two"]).await.unwrap();
    bob.run_until(WAIT, has(2)).await.unwrap();
    bob.send(&room(), &["three"]).await.unwrap();

    let first = alice.prepare_update(&room()).unwrap();
    let second = bob.prepare_update(&room()).unwrap();
    alice.commit(&first).await.unwrap();
    let Err(MemberError::Lost { current, winner }) = bob.commit(&second).await else {
        panic!("two Commits won");
    };
    assert_eq!((current, winner), (Epoch(2), Hash::of(&first.commit)));
    let given_up = bob.commit(&second).await;
    assert!(matches!(given_up, Err(MemberError::Mls { .. })));
    let caught_up = |member: &Member| member.epoch(&room()) == Some(current);
    bob.run_until(WAIT, caught_up).await.unwrap();
    let again = bob.prepare_update(&room()).unwrap();
    bob.commit(&again).await.unwrap();

    let references = bob.propose_update(&room()).await.unwrap();
    assert_eq!(references.len(), 1);
    alice
        .run_until(WAIT, |member| member.pending_proposals(&room()) == 1)
        .await
        .unwrap();
    let update = alice.prepare_update(&room()).unwrap();
    alice.commit(&update).await.unwrap();
    let done = |member: &Member| member.epoch(&room()) == Some(Epoch(4));
    bob.run_until(WAIT, done).await.unwrap();
    alice.run_until(WAIT, has(3)).await.unwrap();
    bob.run_until(WAIT, has(3)).await.unwrap();
    agree(&[&alice, &bob]);
    assert_eq!(alice.received(&room()), bob.received(&room()));
    assert_eq!(alice.verdicts(&room()).len(), 2);

    let soon = Duration::from_millis(20);
    let never = alice.run_until(soon, has(9)).await;
    assert!(matches!(never, Err(MemberError::Deadline)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_whose_answer_was_lost_is_sent_again_and_comes_once() {
    let provider = Provider::start();
    let (mut alice, mut bob) = (member("alice"), member("bob"));
    pair(&provider, &mut alice, &mut bob).await;
    provider.cut_the_next_answer();
    let cut = alice.send(&room(), &["once"]).await;
    assert!(matches!(cut, Err(MemberError::Door(_))), "{cut:?}");
    assert_eq!(alice.unresolved(&room()), [ClientSeq(1)]);

    alice
        .connect(&provider.dialer, provider.address)
        .await
        .unwrap();
    alice.login().await.unwrap();
    alice.resend(&room()).await.unwrap();
    assert!(alice.unresolved(&room()).is_empty());
    alice.send(&room(), &["twice"]).await.unwrap();
    for member in [&mut alice, &mut bob] {
        member.run_until(WAIT, has(2)).await.unwrap();
        assert_eq!(member.received(&room()), ["once", "twice"]);
    }
    agree(&[&alice, &bob]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_device_logs_in_and_goes_on_after_what_it_acknowledged() {
    let provider = Provider::start();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bob");
    let mut alice = member("alice");
    let mut bob = Member::create(uri("bob"), Some(path.clone())).unwrap();
    pair(&provider, &mut alice, &mut bob).await;
    alice.send(&room(), &["before"]).await.unwrap();
    bob.run_until(WAIT, has(1)).await.unwrap();
    let prepared = bob.prepare_update(&room()).unwrap();
    bob.commit(&prepared).await.unwrap();
    drop(bob);

    alice
        .run_until(WAIT, |member| member.epoch(&room()) == Some(Epoch(2)))
        .await
        .unwrap();
    alice.send(&room(), &["meanwhile"]).await.unwrap();
    let mut bob = Member::restore(path).unwrap();
    assert_eq!(bob.received(&room()), ["before"]);
    bob.connect(&provider.dialer, provider.address)
        .await
        .unwrap();
    bob.login().await.unwrap();
    bob.run_until(WAIT, has(2)).await.unwrap();
    bob.send(&room(), &["after"]).await.unwrap();
    alice.run_until(WAIT, has(3)).await.unwrap();
    bob.run_until(WAIT, has(3)).await.unwrap();
    assert_eq!(alice.received(&room()), ["before", "meanwhile", "after"]);
    assert_eq!(alice.received(&room()), bob.received(&room()));
    agree(&[&alice, &bob]);
    let all = (InboxSeq(1), bob.last_seq(&room()));
    provider.until_acked(&uri("bob"), all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_halves_of_a_send_lane_work_from_two_tasks() {
    let provider = Provider::start();
    let (mut alice, mut bob) = (member("alice"), member("bob"));
    pair(&provider, &mut alice, &mut bob).await;
    let batch = alice.encrypt_batch(&room(), 100, 600).unwrap();
    let first = alice.reserve_numbers(&room(), 100);
    let door: &DoorClient = alice.door().unwrap();
    let (mut requests, mut replies) = door.sends().await.unwrap().split();
    let sending = tokio::spawn(async move {
        for (place, message) in (0..).zip(batch) {
            let frame = Send {
                room: room(),
                first: first.plus(place),
                messages: BVec::from([message.into()]),
            };
            requests.send(&frame).await.unwrap();
        }
        requests
    });
    for place in 0..100 {
        let sent = replies.next_sent().await.unwrap();
        assert_eq!(sent.first, first.plus(place));
    }
    drop(sending.await.unwrap());
    bob.run_until(WAIT, has(100)).await.unwrap();
    agree(&[&bob]);
}
