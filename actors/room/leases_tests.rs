use super::{
    codes::{Code, KeepCode, Lock, RevokeCode, WrongCode},
    hub::Command,
    leases::Grant,
    outcome::{Answer, Done, Refused},
    testing::*,
};
use crate::{
    ids::ClientUri,
    limits::{
        CODES_PER_ROOM_MAX, LEASE_MS, LEASE_MS_MAX, LEASE_MS_MIN, LEASES_UNUSED_MAX,
        LEASES_UNUSED_PER_PROVIDER_MAX, LEASES_UNUSED_PER_USER_MAX, LEASES_UNUSED_WINDOW_MS,
        WRONG_CODES_PER_CLIENT_MAX, WRONG_CODES_PER_PROVIDER_MAX, WRONG_CODES_PER_USER_MAX,
        WRONG_CODES_WINDOW_MS,
    },
    machine::{Fold as _, Millis},
    mls::check::bundle::Joined,
    wire::{Payload, event::Hash, joining::CodeId, refusal::Flaw},
};
use bytes::Bytes;
use std::iter::empty;

const KEY: &[u8] = b"key";

fn grant_of(joiner: &ClientUri, request: &str, code: Option<CodeId>) -> Grant {
    Grant {
        joiner: joiner.clone(),
        request: Hash::of(request.as_bytes()),
        signature_key: Payload::from(KEY.to_vec()),
        code,
        lease_ms: LEASE_MS,
    }
}

fn ask(hub: &mut Hub, joiner: &ClientUri, request: &str) -> Done {
    let grant = grant_of(joiner, request, None);
    hub.apply(&Command::Grant(grant)).done
}

fn ask_with(hub: &mut Hub, joiner: &ClientUri, request: &str, code: CodeId) -> Done {
    let grant = grant_of(joiner, request, Some(code));
    hub.apply(&Command::Grant(grant)).done
}

fn granted(hub: &Hub) -> Done {
    let until = Millis(hub.time).plus(LEASE_MS.into());
    Done::Granted { until }
}

fn enter(hub: &mut Hub, joiner: &ClientUri, leaf: u32) -> Done {
    let commit = external(hub, joiner, leaf);
    hub.apply(&Command::Commit(Box::new(commit))).done
}

fn keep(hub: &mut Hub, uses: Option<u32>, not_after: Option<Millis>) -> CodeId {
    let code = Code {
        hash: Hash::of(&hub.entry.to_be_bytes()),
        uses_left: uses,
        not_after,
        role_index: None,
        passphrase: None,
        creator: alice(),
        revoked: false,
    };
    let answer = hub.apply(&Command::KeepCode(KeepCode { code })).done;
    let Done::CodeKept(id) = answer else {
        unreachable!("{answer:?}");
    };
    id
}

fn uses_left(hub: &Hub, id: CodeId) -> Option<u32> {
    let list = hub.room().code_list();
    list.iter().find(|facts| facts.id == id).unwrap().uses_left
}

fn watch() -> ClientUri {
    client("b", "bob", "watch")
}

fn tablet() -> ClientUri {
    client("a", "alice", "tablet")
}

#[test]
fn one_joiner_has_the_lease_and_the_next_is_told_how_long() {
    let mut hub = Hub::with(&[bob()]);
    assert_eq!(ask(&mut hub, &watch(), "1"), granted(&hub));
    assert_eq!(ask(&mut hub, &watch(), "1"), granted(&hub), "a retry");
    hub.time += 4_000;
    let busy = Refused::Busy {
        place: 1,
        expected_wait_ms: LEASE_MS - 4_000,
    };
    assert_eq!(ask(&mut hub, &tablet(), "2"), Answer::Refused(busy));
    assert!(matches!(
        enter(&mut hub, &watch(), 2),
        Done::Answer(Answer::Committed(_))
    ));
    assert_eq!(ask(&mut hub, &tablet(), "2"), granted(&hub));
}

#[test]
fn a_lease_is_as_long_as_it_may_be() {
    for (asked, granted) in [(0, LEASE_MS_MIN), (u32::MAX, LEASE_MS_MAX)] {
        let mut hub = Hub::with(&[bob()]);
        let lease_ms = asked;
        let grant = Grant {
            lease_ms,
            ..grant_of(&watch(), "1", None)
        };
        hub.apply(&Command::Grant(grant));
        let until = hub.room().lease(Millis(hub.time)).unwrap().until;
        assert_eq!(until, Millis(hub.time).plus(granted.into()));
    }
}

#[test]
fn who_has_no_client_in_the_room_and_no_code_gets_no_lease() {
    let mut hub = Hub::with(&[bob()]);
    let refused = Answer::Refused(Refused::NotAuthorized);
    assert_eq!(ask(&mut hub, &carol(), "1"), refused);
    assert_eq!(ask_with(&mut hub, &carol(), "2", CodeId(7)), refused);
    assert_eq!(ask(&mut Hub::default(), &carol(), "3"), refused);
    // A name that only begins like a participant's is another user's.
    assert_eq!(ask(&mut hub, &client("b", "bobby", "phone"), "4"), refused);
}

#[test]
fn only_who_has_the_lease_enters_with_the_key_that_it_named_and_in_time() {
    let mut hub = Hub::with(&[bob()]);
    let required = Answer::Refused(Refused::LeaseRequired);
    assert_eq!(enter(&mut hub, &watch(), 2), required);
    ask(&mut hub, &watch(), "1");
    assert_eq!(enter(&mut hub, &tablet(), 2), required);
    let mut other_key = external(&hub, &watch(), 2);
    other_key.checked.joined = other_key.checked.joined.map(|joined| Joined {
        signature_key: Bytes::from_static(b"another key"),
        ..joined
    });
    let refused = hub.apply(&Command::Commit(Box::new(other_key))).done;
    assert_eq!(refused, required);
    hub.time += u64::from(LEASE_MS);
    let expired = Answer::Refused(Refused::LeaseExpired);
    assert_eq!(enter(&mut hub, &watch(), 2), expired);
    ask(&mut hub, &watch(), "2");
    assert!(matches!(
        enter(&mut hub, &watch(), 2),
        Done::Answer(Answer::Committed(_))
    ));
}

#[test]
fn a_members_commit_ends_the_lease_and_who_had_it_learns_the_epoch() {
    let mut hub = Hub::with(&[bob()]);
    let code = keep(&mut hub, Some(1), None);
    ask_with(&mut hub, &carol(), "1", code);
    let entry = external(&hub, &carol(), 2);
    hub.advance(1);
    assert_eq!(hub.room().lease(Millis(hub.time)), None);
    let answer = hub.apply(&Command::Commit(Box::new(entry))).done;
    assert_eq!(answer, Answer::Refused(hub.room().wrong_epoch()));
    assert_eq!(
        hub.room().may_enter(&carol()),
        Err(hub.room().wrong_epoch())
    );
    hub.advance(1);
    let forgotten = hub.room().may_enter(&carol());
    assert_eq!(forgotten, Err(Refused::NotAuthorized));
    assert_eq!(uses_left(&hub, code), Some(1), "nothing was used");
}

#[test]
fn leases_without_a_commit_cost_and_other_ends_do_not() {
    let mut hub = Hub::with(&[bob()]);
    for n in 0..LEASES_UNUSED_MAX {
        assert_eq!(ask(&mut hub, &watch(), &format!("{n}")), granted(&hub));
    }
    // The last of them is given up by asking again, and is the one too many.
    let limited = ask(&mut hub, &watch(), "again");
    let window = u32::try_from(LEASES_UNUSED_WINDOW_MS).unwrap();
    let retry_after_ms = window;
    assert_eq!(
        limited,
        Answer::Refused(Refused::Limited { retry_after_ms })
    );
    assert_eq!(
        ask(&mut hub, &tablet(), "mine"),
        granted(&hub),
        "others may"
    );
    hub.time += LEASES_UNUSED_WINDOW_MS;
    assert_eq!(ask(&mut hub, &watch(), "later"), granted(&hub));

    let mut hub = Hub::with(&[bob()]);
    for n in 0..10 {
        assert_eq!(ask(&mut hub, &watch(), &format!("{n}")), granted(&hub));
        hub.advance(1);
    }
}

#[test]
fn a_lease_that_ran_out_counts_whoever_notices() {
    let mut hub = Hub::with(&[bob()]);
    for n in 0..LEASES_UNUSED_MAX {
        assert_eq!(ask(&mut hub, &watch(), &format!("{n}")), granted(&hub));
        hub.time += u64::from(LEASE_MS);
    }
    let refused = ask(&mut hub, &watch(), "again");
    assert!(matches!(
        refused,
        Done::Answer(Answer::Refused(Refused::Limited { .. }))
    ));
}

#[test]
fn a_request_has_one_lease() {
    let mut hub = Hub::with(&[bob()]);
    ask(&mut hub, &watch(), "1");
    hub.advance(1);
    let replayed = ask(&mut hub, &watch(), "1");
    let Done::Answer(Answer::Refused(Refused::Invalid(Flaw { code, .. }))) = replayed else {
        unreachable!("{replayed:?}");
    };
    assert_eq!(code.name(), "replayed");
}

#[test]
fn a_request_that_is_good_for_nothing_leaves_its_joiner_the_lease() {
    let mut hub = Hub::with(&[bob()]);
    assert_eq!(ask(&mut hub, &watch(), "1"), granted(&hub));
    assert_eq!(ask(&mut hub, &watch(), "2"), granted(&hub));
    let replayed = ask(&mut hub, &watch(), "1");
    assert!(matches!(
        replayed,
        Done::Answer(Answer::Refused(Refused::Invalid(_)))
    ));
    let unknown = ask_with(&mut hub, &watch(), "3", CodeId(9));
    assert_eq!(unknown, Answer::Refused(Refused::NotAuthorized));
    assert!(matches!(
        enter(&mut hub, &watch(), 2),
        Done::Answer(Answer::Committed(_))
    ));
}

#[test]
fn a_code_is_used_by_the_join_and_by_nothing_else() {
    let mut hub = Hub::with(&[bob()]);
    let (one, two) = (keep(&mut hub, Some(1), None), keep(&mut hub, Some(2), None));
    assert_eq!(ask_with(&mut hub, &carol(), "1", one), granted(&hub));
    assert_eq!(uses_left(&hub, one), Some(1));
    hub.time += u64::from(LEASE_MS);
    let dora = client("d", "dora", "phone");
    assert_eq!(ask_with(&mut hub, &dora, "2", one), granted(&hub));
    assert!(matches!(
        enter(&mut hub, &dora, 2),
        Done::Answer(Answer::Committed(_))
    ));
    assert_eq!(uses_left(&hub, one), Some(0));
    let refused = Answer::Refused(Refused::NotAuthorized);
    assert_eq!(ask_with(&mut hub, &carol(), "3", one), refused);
    assert_eq!(ask_with(&mut hub, &carol(), "4", two), granted(&hub));
    assert!(matches!(
        enter(&mut hub, &carol(), 3),
        Done::Answer(Answer::Committed(_))
    ));
    assert_eq!(
        (uses_left(&hub, one), uses_left(&hub, two)),
        (Some(0), Some(1))
    );
    let revived = super::hub::Fold::revive(&hub.fold.compact()).unwrap();
    assert_eq!(revived, hub.fold);
}

#[test]
fn a_code_that_is_ended_or_over_admits_nobody_and_takes_its_lease_along() {
    let mut hub = Hub::with(&[bob()]);
    let end = Millis(hub.time).plus(5_000);
    let (code, brief) = (keep(&mut hub, None, None), keep(&mut hub, None, Some(end)));
    ask_with(&mut hub, &carol(), "1", code);
    let strange = RevokeCode {
        member: carol(),
        id: code,
    };
    let refused = Answer::Refused(Refused::NotAuthorized);
    let outcome = hub.apply(&Command::RevokeCode(strange.clone()));
    assert_eq!(outcome.done, refused);
    let revoke = RevokeCode {
        member: bob(),
        ..strange
    };
    let outcome = hub.apply(&Command::RevokeCode(revoke));
    assert_eq!(outcome.done, Answer::CodeRevoked);
    assert_eq!(enter(&mut hub, &carol(), 2), refused);
    assert_eq!(ask_with(&mut hub, &carol(), "2", code), refused);
    hub.time += 5_000;
    assert_eq!(ask_with(&mut hub, &carol(), "3", brief), refused);
}

#[test]
fn a_room_has_only_so_many_codes_and_dead_ones_make_room() {
    let mut hub = Hub::with(&[bob()]);
    let first = keep(&mut hub, Some(1), None);
    for _ in 1..CODES_PER_ROOM_MAX {
        keep(&mut hub, None, None);
    }
    let code = hub.room().codes()[1].1.clone();
    let one_more = Command::KeepCode(KeepCode { code });
    let refused = hub.apply(&one_more).done;
    assert!(matches!(
        refused,
        Done::Answer(Answer::Refused(Refused::TooMany { .. }))
    ));
    hub.apply(&Command::RevokeCode(RevokeCode {
        member: alice(),
        id: first,
    }));
    assert!(matches!(hub.apply(&one_more).done, Done::CodeKept(_)));
    assert_eq!(hub.room().code_list().len(), CODES_PER_ROOM_MAX);
}

#[test]
fn wrong_codes_lock_the_client_and_its_user_and_slow_its_provider_down() {
    let mut hub = Hub::with(&[bob()]);
    let wrong = |hub: &mut Hub, joiner: ClientUri| {
        hub.apply(&Command::WrongCode(WrongCode { joiner }));
    };
    let lock =
        |hub: &Hub, joiner: &ClientUri| hub.room().code_lock(joiner, Millis(hub.time), empty());
    for _ in 0..WRONG_CODES_PER_CLIENT_MAX {
        assert_eq!(lock(&hub, &carol()), Lock::Open);
        wrong(&mut hub, carol());
    }
    let (tablet_of_carol, other) = (client("c", "carol", "tablet"), client("c", "cleo", "phone"));
    assert_eq!(lock(&hub, &carol()), Lock::Locked);
    for _ in WRONG_CODES_PER_CLIENT_MAX..WRONG_CODES_PER_USER_MAX {
        assert_eq!(lock(&hub, &tablet_of_carol), Lock::Open);
        wrong(&mut hub, client("c", "carol", "watch"));
    }
    assert_eq!(
        lock(&hub, &tablet_of_carol),
        Lock::Locked,
        "its user is locked"
    );
    for n in WRONG_CODES_PER_USER_MAX..WRONG_CODES_PER_PROVIDER_MAX {
        assert_eq!(lock(&hub, &other), Lock::Open);
        wrong(&mut hub, client("c", &format!("c{n}"), "phone"));
    }
    assert_eq!(
        lock(&hub, &other),
        Lock::Slowed,
        "its provider is never shut out"
    );
    assert_eq!(lock(&hub, &watch()), Lock::Open);
    assert_eq!(lock(&hub, &tablet()), Lock::Open);
    hub.time += WRONG_CODES_WINDOW_MS;
    assert_eq!(lock(&hub, &carol()), Lock::Open);
    assert_eq!(lock(&hub, &other), Lock::Open);

    // The hub's own clients are each their own affair: it enrols them itself.
    for n in 0..2 * WRONG_CODES_PER_PROVIDER_MAX {
        wrong(&mut hub, client("a", &format!("a{n}"), "phone"));
    }
    assert_eq!(lock(&hub, &client("a", "honest", "phone")), Lock::Open);
    // What is on its way into the log counts too.
    let under_way = vec![watch(); 5];
    let of = |joiner: &ClientUri| {
        hub.room()
            .code_lock(joiner, Millis(hub.time), under_way.iter())
    };
    assert_eq!(of(&watch()), Lock::Locked);
    assert_eq!(of(&bob()), Lock::Open);
}

#[test]
fn unused_leases_count_for_the_user_and_for_its_provider_too() {
    let mut hub = Hub::with(&[bob()]);
    let waste = |hub: &mut Hub, joiner: ClientUri| {
        let request = format!("{joiner} {}", hub.time);
        assert_eq!(ask(hub, &joiner, &request), granted(hub));
        hub.time += u64::from(LEASE_MS);
    };
    let limited =
        |hub: &Hub, joiner: &ClientUri| hub.room().lease_limited(joiner, Millis(hub.time));
    // Devices that were made up, each with one lease.
    for number in 0..LEASES_UNUSED_PER_USER_MAX {
        assert_eq!(limited(&hub, &client("b", "bob", "new")), None);
        waste(&mut hub, client("b", "bob", &format!("made{number}")));
    }
    // The last is counted when the next grant is applied.
    waste(&mut hub, client("a", "alice", "watch"));
    assert!(limited(&hub, &client("b", "bob", "new")).is_some());
    assert_eq!(limited(&hub, &client("b", "bert", "phone")), None);
    assert_eq!(limited(&hub, &client("a", "alice", "tablet")), None);
    // Users that were made up, each with a code.
    let code = keep(&mut hub, None, None);
    for number in LEASES_UNUSED_PER_USER_MAX..LEASES_UNUSED_PER_PROVIDER_MAX {
        let joiner = client("b", &format!("u{number}"), "phone");
        let request = format!("request {number}");
        assert_eq!(ask_with(&mut hub, &joiner, &request, code), granted(&hub));
        hub.time += u64::from(LEASE_MS);
    }
    waste(&mut hub, client("a", "alice", "watch"));
    assert!(limited(&hub, &client("b", "bert", "phone")).is_some());
    assert_eq!(limited(&hub, &carol()), None);
    assert_eq!(limited(&hub, &client("a", "alice", "tablet")), None);
}
