use super::*;
use crate::{
    ids::ClientUri,
    limits::{CONSENT_NOTES_PER_CLIENT_MAX, CONSENTS_PER_USER_MAX},
    machine::Fold as _,
    user::{
        command::Command,
        testing::{Log, NOW, alice, client, note, package, room, user},
    },
    wire::{door::PackageRefused, event::LinkSeq, version::Level},
};

/// Bobby of `b.example` with a phone and a tablet, who said nothing about anybody.
fn bobby() -> Log {
    let mut bobby = Log::bobby(&["phone", "tablet"]);
    bobby.consent(alice(), None, None);
    bobby.level = Level::SECOND;
    bobby
}

fn scope(user: UserUri, name: Option<&str>) -> Scope {
    let room = name.map(room);
    Scope { user, room }
}

fn others(number: usize, provider: &str) -> UserUri {
    format!("mimi://{provider}/u/u{number}").parse().unwrap()
}

impl Log {
    /// What a device's word came to, and what others are told.
    fn say(&mut self, ask: ConsentsAsk) -> (Answer, Vec<(ConsentOp, Option<RoomUri>)>) {
        let outcome = self.apply(Command::Consents(ask));
        let told = outcome.told.into_iter();
        let told = told.map(|entry| (entry.op, entry.room)).collect();
        (outcome.answer, told)
    }

    /// Somebody else's word to bobby, and what he tells in turn.
    fn hear(&mut self, op: ConsentOp, other: UserUri, name: Option<&str>) -> Vec<ConsentOp> {
        let own = user("bobby");
        let (requester, target) = match op {
            ConsentOp::Request | ConsentOp::Cancel => (other, own),
            ConsentOp::Grant | ConsentOp::Revoke => (own, other),
        };
        let entry = ConsentEntry {
            op,
            requester,
            target,
            room: name.map(room),
            key_packages: BVec::default(),
            extensions: Payload::default(),
        };
        let outcome = self.apply(Command::Heard(Heard { from: None, entry }));
        assert_eq!(outcome.answer, Answer::Done);
        outcome.told.into_iter().map(|entry| entry.op).collect()
    }

    fn list(&mut self) -> Consents {
        let ask = ConsentsAsk::List { after: None };
        let (Answer::Consents(consents), _) = self.say(ask) else {
            panic!("a list")
        };
        *consents
    }

    fn allowed(&self, name: Option<&str>) -> bool {
        let consents = &self.fold.user().unwrap().consents;
        consents.allow(&alice().into(), name.map(room).as_ref())
    }
}

fn asked(name: Option<&str>) -> Note {
    Note::ConsentAsked {
        requester: alice(),
        room: name.map(room),
    }
}

fn said(name: Option<&str>, granted: bool) -> Note {
    Note::ConsentSaid {
        target: alice(),
        room: name.map(room),
        granted,
        packages: BVec::default(),
    }
}

#[test]
fn a_request_waits_is_noted_on_every_device_and_an_answer_settles_it() {
    for (asked_for, answer, settled) in [
        (Some("club"), Some("club"), true),
        (Some("club"), None, true),
        (None, Some("club"), true),
        (None, None, true),
        (Some("club"), Some("den"), false),
    ] {
        for granted in [true, false] {
            let mut bobby = bobby();
            assert_eq!(bobby.hear(ConsentOp::Request, alice(), asked_for), []);
            for device in ["phone", "tablet"] {
                assert_eq!(note(&bobby, device), [asked(asked_for)]);
            }
            assert_eq!(*bobby.list().waiting, [scope(alice(), asked_for)]);
            let answer = scope(alice(), answer);
            let ask = if granted {
                ConsentsAsk::Grant(answer.clone())
            } else {
                ConsentsAsk::Revoke(answer.clone())
            };
            let (done, told) = bobby.say(ask);
            assert_eq!(done, Answer::Done);
            let granting = [(ConsentOp::Grant, answer.room.clone())];
            assert_eq!(told, if granted { &granting[..] } else { &[] });
            assert_eq!(bobby.list().waiting.is_empty(), settled);
            bobby.restart();
            assert_eq!(bobby.list().said[0].granted, granted);
        }
    }
}

#[test]
fn who_was_refused_may_ask_as_it_likes_and_nobody_hears_of_it() {
    let mut bobby = bobby();
    let refusal = ConsentsAsk::Revoke(scope(alice(), None));
    assert_eq!(bobby.say(refusal), (Answer::Done, Vec::new()));
    let before = bobby.fold.clone();
    for name in [None, Some("club")] {
        assert_eq!(bobby.hear(ConsentOp::Request, alice(), name), []);
    }
    assert_eq!(bobby.fold, before);
    assert_eq!(note(&bobby, "phone"), []);
    // A room that she has consent for goes before that.
    bobby.say(ConsentsAsk::Grant(scope(alice(), Some("den"))));
    let again = bobby.hear(ConsentOp::Request, alice(), Some("den"));
    assert_eq!(again, [ConsentOp::Grant], "she may have missed it");
}

#[test]
fn what_a_user_tells_is_the_same_whether_it_refuses_ignores_or_is_not_there() {
    let request = |log: &mut Log| {
        let twice = [(); 2].map(|()| log.hear(ConsentOp::Request, alice(), Some("club")));
        let cancelled = log.hear(ConsentOp::Cancel, alice(), Some("club"));
        (twice, cancelled)
    };
    let mut ignoring = bobby();
    let transcript = request(&mut ignoring);
    let mut refusing = bobby();
    refusing.say(ConsentsAsk::Revoke(scope(alice(), None)));
    assert_eq!(request(&mut refusing), transcript);
    let mut answering = bobby();
    answering.hear(ConsentOp::Request, alice(), Some("club"));
    let refused = answering.say(ConsentsAsk::Revoke(scope(alice(), Some("club"))));
    assert_eq!(refused.1, []);
    assert_eq!(request(&mut answering), transcript);
    let mut gone = bobby();
    gone.apply(Command::Delete);
    assert_eq!(request(&mut gone), transcript);
    assert_eq!(request(&mut Log::default()), transcript);
}

#[test]
fn a_refusal_is_told_where_its_user_wants_that_to_who_asked_or_had_consent() {
    let mut bobby = bobby();
    let tell = ConsentsAsk::TellRevocations(true);
    assert_eq!(bobby.say(tell.clone()), (Answer::Done, Vec::new()));
    assert_eq!(bobby.say(tell), (Answer::Unchanged, Vec::new()));
    let refuse = |name| ConsentsAsk::Revoke(scope(alice(), name));
    assert_eq!(bobby.say(refuse(Some("den"))).1, [], "she never asked");
    bobby.hear(ConsentOp::Request, alice(), Some("club"));
    let told = bobby.say(refuse(Some("club"))).1;
    assert_eq!(told, [(ConsentOp::Revoke, Some(room("club")))]);
    bobby.say(ConsentsAsk::Grant(scope(alice(), None)));
    assert_eq!(bobby.say(refuse(None)).1, [(ConsentOp::Revoke, None)]);
}

#[test]
fn the_same_word_again_costs_no_log_and_tells_nobody() {
    let mut bobby = bobby();
    for ask in [
        ConsentsAsk::Request(scope(alice(), None)),
        ConsentsAsk::Grant(scope(alice(), Some("club"))),
        ConsentsAsk::Revoke(scope(alice(), None)),
    ] {
        assert_eq!(bobby.say(ask.clone()).0, Answer::Done);
        let command = Command::Consents(ask);
        let answer = bobby.fold.answer_without_log(NOW, &command);
        assert_eq!(answer, Some(Answer::Unchanged), "{command:?}");
    }
    bobby.hear(ConsentOp::Request, user("cathy"), None);
    let entry = ConsentEntry {
        op: ConsentOp::Request,
        requester: user("cathy"),
        target: user("bobby"),
        room: None,
        key_packages: BVec::default(),
        extensions: Payload::default(),
    };
    let heard = Heard { from: None, entry };
    let answer = bobby.fold.answer_without_log(NOW, &Command::Heard(heard));
    assert_eq!(answer, Some(Answer::Done));
}

#[test]
fn a_cancelled_request_waits_no_longer_and_one_that_was_never_made_is_ignored() {
    let mut bobby = bobby();
    bobby.hear(ConsentOp::Request, alice(), Some("club"));
    bobby.hear(ConsentOp::Cancel, alice(), None);
    bobby.hear(ConsentOp::Cancel, alice(), Some("den"));
    assert_eq!(bobby.list().waiting.len(), 1);
    bobby.hear(ConsentOp::Cancel, alice(), Some("club"));
    assert_eq!(bobby.list().waiting.len(), 0);
    // Of his own: only one that is open is taken back.
    let den = scope(alice(), Some("den"));
    let cancel = ConsentsAsk::Cancel(den.clone());
    assert_eq!(bobby.say(cancel.clone()).0, Answer::Unchanged);
    bobby.say(ConsentsAsk::Request(den.clone()));
    assert_eq!(
        bobby.say(cancel.clone()).1,
        [(ConsentOp::Cancel, den.room.clone())]
    );
    bobby.say(ConsentsAsk::Request(den));
    bobby.hear(ConsentOp::Grant, alice(), Some("den"));
    assert_eq!(bobby.say(cancel), (Answer::Done, Vec::new()));
}

#[test]
fn a_grant_and_a_refusal_that_is_told_reach_every_device_of_who_asked() {
    let mut bobby = bobby();
    bobby.say(ConsentsAsk::Request(scope(alice(), Some("club"))));
    bobby.say(ConsentsAsk::Request(scope(alice(), Some("den"))));
    bobby.hear(ConsentOp::Grant, alice(), None);
    bobby.hear(ConsentOp::Grant, alice(), None);
    let any = (scope(alice(), None), Standing::Granted);
    assert_eq!(*bobby.list().asked, [any], "it answers both");
    bobby.hear(ConsentOp::Revoke, alice(), None);
    bobby.restart();
    for device in ["phone", "tablet"] {
        let both = [said(None, true), said(None, false)];
        assert_eq!(note(&bobby, device), both);
    }
    bobby.hear(ConsentOp::Revoke, user("stranger"), None);
    assert_eq!(note(&bobby, "phone").len(), 2, "she was never asked");
}

#[test]
fn consent_is_given_for_what_it_says_and_goes_one_way() {
    let mut bobby = bobby();
    bobby.say(ConsentsAsk::Grant(scope(alice(), Some("club"))));
    assert_eq!(
        [Some("club"), Some("den"), None].map(|name| bobby.allowed(name)),
        [true, false, false]
    );
    bobby.say(ConsentsAsk::Grant(scope(alice(), None)));
    bobby.say(ConsentsAsk::Revoke(scope(alice(), Some("club"))));
    assert_eq!(
        [Some("club"), Some("den"), None].map(|name| bobby.allowed(name)),
        [false, true, true]
    );
    // What somebody else gives him lets nobody claim of him.
    bobby.say(ConsentsAsk::Revoke(scope(alice(), None)));
    bobby.hear(ConsentOp::Grant, alice(), None);
    assert!(!bobby.allowed(None));
}

#[test]
fn only_so_much_is_said_in_an_hour_to_who_did_not_ask() {
    let mut bobby = bobby();
    for number in 0..CONSENTS_SAID_PER_HOUR_MAX {
        bobby.wait(1_000);
        let scope = scope(others(number, "c.example"), None);
        let ask = if number % 2 == 0 {
            ConsentsAsk::Request(scope)
        } else {
            ConsentsAsk::Grant(scope)
        };
        assert_eq!(bobby.say(ask).0, Answer::Done);
    }
    let waits = CONSENTS_SAID_WINDOW_MS - 1_000 * (CONSENTS_SAID_PER_HOUR_MAX as u64 - 1);
    let retry_after_ms = u32::try_from(waits).unwrap();
    let limited = Answer::Refused(Refused::Limited { retry_after_ms });
    let stranger = scope(others(99, "c.example"), None);
    for ask in [
        ConsentsAsk::Request(stranger.clone()),
        ConsentsAsk::Grant(stranger.clone()),
    ] {
        let before = bobby.fold.clone();
        assert_eq!(bobby.say(ask), (limited.clone(), Vec::new()));
        assert_eq!(bobby.fold, before);
    }
    // Who asks is answered all the same.
    bobby.hear(ConsentOp::Request, alice(), None);
    assert_eq!(
        bobby.say(ConsentsAsk::Grant(scope(alice(), None))).0,
        Answer::Done
    );
    bobby.wait(waits);
    assert_eq!(bobby.say(ConsentsAsk::Request(stranger)).0, Answer::Done);
}

#[test]
fn of_more_requests_than_may_wait_the_oldest_of_whoever_has_most_goes() {
    let mut bobby = bobby();
    bobby.hear(ConsentOp::Request, alice(), None);
    for number in 0..2 * CONSENT_REQUESTS_WAITING_MAX {
        bobby.hear(ConsentOp::Request, others(number, "c.example"), None);
    }
    let waiting = bobby.list().waiting;
    assert_eq!(waiting.len(), CONSENT_REQUESTS_WAITING_MAX);
    assert_eq!(waiting[0].user, alice(), "she shares no provider with them");
    let newest = others(2 * CONSENT_REQUESTS_WAITING_MAX - 1, "c.example");
    assert_eq!(waiting[CONSENT_REQUESTS_WAITING_MAX - 1].user, newest);
}

#[test]
fn notes_about_consent_take_so_many_places_and_one_says_that_there_are_more() {
    let mut bobby = bobby();
    for number in 0..2 * CONSENT_NOTES_PER_CLIENT_MAX {
        bobby.hear(ConsentOp::Request, others(number, "c.example"), None);
    }
    let notes = note(&bobby, "phone");
    assert_eq!(notes.len(), CONSENT_NOTES_PER_CLIENT_MAX + 1);
    assert_eq!(notes.last(), Some(&Note::ConsentsChanged));
    let seq = bobby.fold.inbox(&client("phone")).last().unwrap().seq;
    bobby.ack("phone", Some(seq.0), &[]);
    bobby.hear(ConsentOp::Request, alice(), None);
    assert_eq!(note(&bobby, "phone"), [asked(None)]);
}

#[test]
fn of_what_was_asked_only_so_much_is_kept_and_what_is_open_is_not_forgotten() {
    let mut bobby = bobby();
    bobby.hear(ConsentOp::Grant, alice(), None);
    for number in 0..CONSENTS_ASKED_PER_USER_MAX {
        bobby.wait(CONSENTS_SAID_WINDOW_MS);
        let scope = scope(others(number, "c.example"), None);
        assert_eq!(bobby.say(ConsentsAsk::Request(scope)).0, Answer::Done);
    }
    bobby.wait(CONSENTS_SAID_WINDOW_MS);
    let one_more = ConsentsAsk::Request(scope(others(9_999, "c.example"), None));
    let max = CONSENTS_ASKED_PER_USER_MAX;
    let refused = Answer::Refused(Refused::too_many(Counted::Consents, max));
    assert_eq!(bobby.say(one_more), (refused, Vec::new()));
    assert_eq!(bobby.list().asked.len(), CONSENTS_ASKED_PER_USER_MAX);
    bobby.hear(ConsentOp::Grant, alice(), Some("club"));
    assert_eq!(
        note(&bobby, "phone").last(),
        Some(&said(Some("club"), true))
    );
}

#[test]
fn a_long_list_of_what_was_said_is_read_in_parts() {
    let mut bobby = bobby();
    let all = 2 * CONSENTS_LISTED_MAX + 1;
    for number in 0..all {
        bobby.consent(others(number, "c.example"), None, Some(true));
    }
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let (Answer::Consents(part), _) = bobby.say(ConsentsAsk::List { after }) else {
            panic!("a list")
        };
        seen.extend(part.said.iter().map(|said| said.requester.clone()));
        let last = part.said.last().unwrap();
        after = Some((last.requester.clone(), last.room.clone()));
        if !part.more {
            break;
        }
    }
    let distinct: std::collections::BTreeSet<_> = seen.iter().collect();
    assert_eq!((seen.len(), distinct.len()), (all, all));
}

#[test]
fn a_grant_for_which_there_is_no_place_is_refused_and_told_to_nobody() {
    let mut bobby = bobby();
    for number in 0..CONSENTS_PER_USER_MAX {
        bobby.consent(others(number, "c.example"), None, Some(true));
    }
    for ask in [
        ConsentsAsk::Grant(scope(alice(), None)),
        ConsentsAsk::Revoke(scope(alice(), None)),
    ] {
        let refused = Refused::too_many(Counted::Consents, CONSENTS_PER_USER_MAX);
        assert_eq!(bobby.say(ask), (Answer::Refused(refused), Vec::new()));
    }
}

#[test]
fn key_packages_go_with_a_grant_one_of_each_client_and_are_gone_from_the_stock() {
    let mut bobby = bobby();
    bobby.stock("phone", [1, 2]);
    bobby.hear(ConsentOp::Request, alice(), Some("club"));
    let grant = ConsentsAsk::GrantWithPackages(scope(alice(), Some("club")));
    let outcome = bobby.apply(Command::Consents(grant.clone()));
    assert_eq!(*outcome.told[0].key_packages, [package(1).package]);
    bobby.restart();
    assert_eq!(bobby.fold.stock(&client("phone")), 1);
    let again = bobby.upload(&client("phone"), vec![package(1)]);
    assert_eq!(again, [Err(PackageRefused::Duplicate)]);
    let user = bobby.fold.user().unwrap();
    let reference = package(1).reference;
    let may = |name| user.may_bring_in(&reference, &room(name));
    assert!(
        may("club") && !may("den"),
        "it is alice's, and for the club"
    );
    // More of them are another word to her, who has not asked again.
    let outcome = bobby.apply(Command::Consents(grant.clone()));
    assert_eq!(*outcome.told[0].key_packages, [package(2).package]);
    let outcome = bobby.apply(Command::Consents(grant));
    assert!(
        outcome.told[0].key_packages.is_empty(),
        "the stock is empty"
    );
    assert_eq!(bobby.fold.user().unwrap().asking.said_at.len(), 2);
}

#[test]
fn key_packages_that_come_with_a_grant_are_where_the_note_points() {
    let mut bobby = bobby();
    let grant = |packages: Vec<Payload>| {
        let entry = ConsentEntry {
            op: ConsentOp::Grant,
            requester: user("bobby"),
            target: alice(),
            room: None,
            key_packages: BVec::try_from(packages).unwrap(),
            extensions: Payload::default(),
        };
        Command::Heard(Heard { from: None, entry })
    };
    bobby.apply(grant(Vec::new()));
    bobby.apply(grant(vec![package(1).package]));
    let at = bobby.position();
    bobby.restart();
    let phone = client("phone");
    let held: Vec<_> = bobby.fold.inbox(&phone).map(|item| item.held).collect();
    let told = said(None, true);
    assert_eq!(held, [Held::Note(told.clone()), Held::Said(told, at)]);
}

#[test]
fn what_a_shard_says_twice_is_heard_once() {
    let mut bobby = bobby();
    let heard = |seq, op, name: Option<&str>| {
        let entry = ConsentEntry {
            op,
            requester: alice(),
            target: user("bobby"),
            room: name.map(room),
            key_packages: BVec::default(),
            extensions: Payload::default(),
        };
        let from = Some((3, LinkSeq(seq)));
        Command::Heard(Heard { from, entry })
    };
    bobby.apply(heard(1, ConsentOp::Request, None));
    bobby.apply(heard(2, ConsentOp::Cancel, None));
    bobby.apply(heard(1, ConsentOp::Request, None));
    assert_eq!(bobby.list().waiting.len(), 0);
    assert_eq!(note(&bobby, "phone").len(), 1);
}

#[test]
fn what_the_operator_says_for_a_user_answers_who_waits() {
    let mut bobby = bobby();
    bobby.hear(ConsentOp::Request, alice(), Some("club"));
    let consent = Consent {
        requester: alice().into(),
        room: None,
        grant: Some(true),
    };
    let outcome = bobby.apply(Command::Consent(consent));
    let told: Vec<_> = outcome.told.iter().map(|entry| entry.op).collect();
    assert_eq!(told, [ConsentOp::Grant]);
    assert_eq!(bobby.list().waiting.len(), 0);
}

#[test]
fn in_a_log_of_the_first_level_nothing_of_it_is_in_the_fold() {
    let mut bobby = Log::bobby(&["phone"]);
    bobby.consent(alice(), Some(room("club")), Some(true));
    assert_eq!(bobby.fold.compact().first(), Some(&1));
    bobby.level = Level::SECOND;
    bobby.say(ConsentsAsk::Request(scope(alice(), None)));
    assert_eq!(bobby.fold.compact().first(), Some(&2));
    bobby.restart();
    let phone: ClientUri = client("phone");
    assert_eq!(bobby.fold.inbox(&phone).count(), 0);
}
