use super::*;
use crate::{
    user::{
        command::Command,
        testing::{Log, client, joined, left, membership, note, post, reads, room, seqs, user},
    },
    wire::post::{Post, Refilled},
};

#[test]
fn a_welcome_lies_in_the_inbox_of_each_client_named_and_the_room_can_be_read() {
    let mut bobby = Log::bobby(&["phone", "tablet", "watch"]);
    let named = post("club", &["tablet", "phone", "phone", "ghost"], joined(4));
    let outcome = bobby.deliver(named);
    assert_eq!(outcome.woken, [client("phone"), client("tablet")]);
    assert_eq!(outcome.inbox_full, []);
    bobby.restart();
    let item = InboxItem {
        seq: InboxSeq(1),
        held: Held::Notice(bobby.position()),
    };
    for name in ["phone", "tablet"] {
        let lies: Vec<_> = bobby.fold.inbox(&client(name)).collect();
        assert_eq!(lies, std::slice::from_ref(&item));
    }
    assert_eq!(membership(&bobby, "club"), reads(4, None, 4));
    assert_eq!(bobby.fold.memberships(&client("watch")).count(), 0);
}

#[test]
fn the_creator_of_a_room_gets_no_welcome() {
    let mut bobby = Log::bobby(&["phone"]);
    let notice = Notice::Joined {
        after: RoomSeq(0),
        welcome: None,
    };
    let outcome = bobby.deliver(post("club", &["phone"], notice));
    assert_eq!(outcome.woken, [client("phone")]);
    assert_eq!(membership(&bobby, "club"), reads(0, None, 0));
    assert!(seqs(&bobby).is_empty());
}

#[test]
fn a_notice_is_taken_once_per_shard() {
    let mut bobby = Log::bobby(&["phone"]);
    let notice = || post("club", &["phone"], joined(4));
    assert_eq!(bobby.deliver_as(1, 5, notice()).woken.len(), 1);
    bobby.ack("phone", Some(1), &[("club", 9)]);
    for seq in [5, 4, 0] {
        assert_eq!(
            bobby.deliver_as(1, seq, notice()),
            Outcome::answer(Answer::Done)
        );
    }
    assert_eq!(
        (seqs(&bobby), membership(&bobby, "club")),
        (vec![], reads(4, None, 9))
    );
    assert_eq!(bobby.deliver_as(2, 5, notice()).woken.len(), 1);
    assert_eq!(
        (seqs(&bobby), membership(&bobby, "club")),
        (vec![2], reads(4, None, 4))
    );
}

#[test]
fn who_joins_again_begins_again() {
    let mut bobby = Log::bobby(&["phone"]);
    bobby.deliver(post("club", &["phone"], joined(4)));
    bobby.deliver(post("club", &["phone"], left(9)));
    bobby.deliver(post("club", &["phone"], joined(20)));
    assert_eq!(membership(&bobby, "club"), reads(20, None, 20));
}

#[test]
fn who_was_never_in_a_room_does_not_hear_that_it_left() {
    let mut bobby = Log::bobby(&["phone"]);
    let outcome = bobby.deliver(post("club", &["phone"], left(9)));
    assert_eq!(outcome, Outcome::answer(Answer::Done));
    assert!(seqs(&bobby).is_empty());
}

#[test]
fn a_full_inbox_takes_no_welcome_but_the_membership_counts() {
    let mut bobby = Log::bobby(&["phone"]);
    for number in 0..INBOX_ITEMS_PER_CLIENT_MAX {
        let outcome = bobby.deliver(post(&format!("r{number}"), &["phone"], joined(1)));
        assert_eq!(outcome.inbox_full, []);
    }
    let outcome = bobby.deliver(post("club", &["phone"], joined(4)));
    assert_eq!(outcome.inbox_full, [client("phone")]);
    assert_eq!(outcome.woken, [client("phone")]);
    assert_eq!(membership(&bobby, "club"), reads(4, None, 4));
    let outcome = bobby.deliver(post("club", &["phone"], left(6)));
    assert_eq!(outcome.inbox_full, [client("phone")]);
    assert_eq!(membership(&bobby, "club"), reads(4, Some(6), 4));
    assert_eq!(seqs(&bobby).len(), INBOX_ITEMS_PER_CLIENT_MAX);
    // The numbers go on without a gap.
    bobby.ack("phone", Some(1), &[]);
    bobby.deliver(post("den", &["phone"], joined(1)));
    assert_eq!(
        seqs(&bobby).last(),
        Some(&(INBOX_ITEMS_PER_CLIENT_MAX as u64 + 1))
    );
}

#[test]
fn one_provider_does_not_fill_the_inbox_of_a_client_of_another_and_what_is_missed_is_told() {
    let mut bobby = Log::bobby(&["phone"]);
    bobby.level = Level::SECOND;
    let of = |hub: &str, name: &str| Post {
        room: format!("mimi://{hub}/r/{name}").parse().unwrap(),
        ..post("club", &["phone"], joined(1))
    };
    for _ in 0..INBOX_ITEMS_PER_CLIENT_AND_HUB_MAX {
        assert_eq!(bobby.deliver(of("eve.example", "den")).inbox_full, []);
    }
    let missed = |bobby: &mut Log, hub, name| {
        let outcome = bobby.deliver(of(hub, name));
        assert_eq!(outcome.woken, [client("phone")]);
        outcome.inbox_full == [client("phone")]
    };
    assert!(missed(&mut bobby, "eve.example", "den"));
    assert!(missed(&mut bobby, "eve.example", "den"));
    assert!(missed(&mut bobby, "eve.example", "club"));
    bobby.restart();
    let told = |name: &str| Note::Missed {
        room: of("eve.example", name).room,
    };
    assert_eq!(note(&bobby, "phone"), [told("den"), told("club")]);
    assert!(!missed(&mut bobby, "e.example", "den"));
    assert!(!missed(&mut bobby, "b.example", "den"), "its own provider");
    bobby.ack("phone", Some(1), &[]);
    assert!(!missed(&mut bobby, "eve.example", "club"));
}

#[test]
fn in_a_full_inbox_there_is_room_to_say_what_was_missed() {
    let mut bobby = Log::bobby(&["phone"]);
    bobby.level = Level::SECOND;
    let own = |name: &str| Post {
        room: format!("mimi://b.example/r/{name}").parse().unwrap(),
        ..post("club", &["phone"], joined(1))
    };
    for number in 0..INBOX_ITEMS_PER_CLIENT_MAX - NOTES_PER_CLIENT_MAX {
        let outcome = bobby.deliver(own(&format!("r{number}")));
        assert_eq!(outcome.inbox_full, []);
    }
    for number in 0..NOTES_PER_CLIENT_MAX + 3 {
        let outcome = bobby.deliver(own(&format!("missed{number}")));
        assert_eq!(outcome.inbox_full, [client("phone")]);
    }
    assert_eq!(note(&bobby, "phone").len(), NOTES_PER_CLIENT_MAX);
    assert_eq!(seqs(&bobby).len(), INBOX_ITEMS_PER_CLIENT_MAX);
}

#[test]
fn a_client_in_too_many_rooms_joins_no_more() {
    let mut bobby = Log::bobby(&["phone"]);
    let notice = Notice::Joined {
        after: RoomSeq(1),
        welcome: None,
    };
    for number in 0..ROOMS_PER_CLIENT_MAX {
        bobby.deliver(post(&format!("r{number}"), &["phone"], notice.clone()));
    }
    let outcome = bobby.deliver(post("club", &["phone"], joined(4)));
    assert_eq!(outcome.inbox_full, [client("phone")]);
    assert_eq!((seqs(&bobby), membership(&bobby, "club")), (vec![], None));
    let again = bobby.deliver(post("r7", &["phone"], joined(4)));
    assert_eq!(again.inbox_full, []);
    assert_eq!(membership(&bobby, "r7"), reads(4, None, 4));
}

#[test]
fn one_provider_does_not_take_all_places_of_a_client_of_another() {
    let notice = Notice::Joined {
        after: RoomSeq(1),
        welcome: None,
    };
    let join = |bobby: &mut Log, hub: &str, number: usize| {
        let room = format!("mimi://{hub}/r/r{number}").parse().unwrap();
        let post = Post {
            room,
            ..post("club", &["phone"], notice.clone())
        };
        bobby.deliver(post).inbox_full.is_empty()
    };
    let mut bobby = Log::bobby(&["phone"]);
    bobby.level = Level::SECOND;
    let all = 0..ROOMS_PER_CLIENT_AND_HUB_MAX + 3;
    let taken = all.filter(|number| join(&mut bobby, "eve.example", *number));
    assert_eq!(taken.count(), ROOMS_PER_CLIENT_AND_HUB_MAX);
    assert!(
        join(&mut bobby, "eve.example", 7),
        "it is in that room already"
    );
    assert!(join(&mut bobby, "e.example", 0) && join(&mut bobby, "f.example", 0));
    let told = note(&bobby, "phone");
    let missed = |note: &Note| matches!(note, Note::Missed { .. });
    assert!(told.len() == 3 && told.iter().all(missed), "{told:?}");
    let mut all = 0..=ROOMS_PER_CLIENT_AND_HUB_MAX;
    let own = all.all(|number| join(&mut bobby, "b.example", number));
    assert!(own, "its own provider is not counted");

    let mut before = Log::bobby(&["phone"]);
    let mut all = 0..=ROOMS_PER_CLIENT_AND_HUB_MAX;
    let taken = all.all(|number| join(&mut before, "eve.example", number));
    assert!(taken, "logs of the first level know no such rule");
}

#[test]
fn a_notice_for_a_user_that_is_gone_does_not_hold_up_the_next() {
    let mut bobby = Log::bobby(&["phone"]);
    bobby.apply(Command::Delete);
    let outcome = bobby.deliver(post("club", &["phone"], joined(4)));
    assert_eq!(outcome, Outcome::answer(Answer::Done));
    let outcome = Log::default().deliver(post("club", &["phone"], joined(4)));
    assert_eq!(outcome, Outcome::answer(Answer::Done));
}

fn hear(from: Option<(u16, LinkSeq)>, name: &str) -> Command {
    let refilled = Refilled {
        requester: user("bobby"),
        room: room(name),
        client: "mimi://c.example/d/cathy/phone".parse().unwrap(),
    };
    Command::LearnRefilled(LearnRefilled { from, refilled })
}

#[test]
fn every_device_hears_of_a_refill_and_the_same_word_again_is_no_news() {
    let mut bobby = Log::bobby(&["phone", "tablet"]);
    let outcome = bobby.apply(hear(None, "den"));
    assert_eq!(outcome.woken, [client("phone"), client("tablet")]);
    let refilled = |name| Note::Refilled {
        room: room(name),
        client: "mimi://c.example/d/cathy/phone".parse().unwrap(),
    };
    bobby.restart();
    assert_eq!(
        bobby.apply(hear(None, "den")),
        Outcome::answer(Answer::Done)
    );
    assert_eq!(note(&bobby, "tablet"), [refilled("den")]);
    let gone = Log::default().apply(hear(None, "den"));
    assert_eq!(gone, Outcome::answer(Answer::Done));
}

#[test]
fn what_a_shard_here_says_is_numbered_and_what_a_peer_says_comes_in_any_order() {
    let mut bobby = Log::bobby(&["phone"]);
    let here = |seq| Some((3, LinkSeq(seq)));
    assert_eq!(bobby.apply(hear(here(2), "den")).woken.len(), 1);
    for seq in [1, 2] {
        assert_eq!(bobby.apply(hear(here(seq), "club")).woken.len(), 0);
    }
    for name in ["attic", "cellar"] {
        assert_eq!(bobby.apply(hear(None, name)).woken.len(), 1);
    }
}

#[test]
fn a_peer_cannot_fill_an_inbox_with_words() {
    let mut bobby = Log::bobby(&["phone"]);
    for number in 1..=NOTES_PER_CLIENT_MAX {
        let refilled = hear(None, &format!("r{number}"));
        assert_eq!(bobby.apply(refilled).inbox_full, []);
    }
    let outcome = bobby.apply(hear(None, "more"));
    assert_eq!(outcome.inbox_full, [client("phone")]);
    assert_eq!(note(&bobby, "phone").len(), NOTES_PER_CLIENT_MAX);
    let outcome = bobby.deliver(post("club", &["phone"], joined(4)));
    assert_eq!(outcome.inbox_full, [], "a Welcome still finds room");
}

#[test]
fn a_notice_that_points_at_another_of_its_entry_lies_in_the_inbox_as_that_one() {
    let deliver = |name, notice| Deliver {
        from_shard: 3,
        seq: LinkSeq(1),
        post: post(name, &["phone"], notice),
    };
    let first = deliver("club", joined(4));
    for other in [
        deliver("den", joined(4)),
        deliver("club", joined(5)),
        deliver("club", left(4)),
    ] {
        assert_eq!(other.as_in(&first, 7), None);
    }
    assert_eq!(
        deliver("club", left(4)).as_in(&deliver("club", left(4)), 7),
        None
    );
    let join = first.as_in(&first.clone(), 7).unwrap();

    let mut bobby = Log::bobby(&["phone"]);
    let outcome = bobby.apply(Command::Join(join.clone()));
    assert_eq!(outcome.woken, [client("phone")]);
    let at = Position {
        command: 7,
        ..bobby.position()
    };
    let lies: Vec<_> = bobby
        .fold
        .inbox(&client("phone"))
        .map(|item| item.at())
        .collect();
    assert_eq!(lies, [Some(at)]);
    assert_eq!(membership(&bobby, "club"), reads(4, None, 4));
    assert_eq!(
        bobby.apply(Command::Join(join.clone())),
        Outcome::answer(Answer::Done)
    );
    assert_eq!(
        Log::default().apply(Command::Join(join)),
        Outcome::answer(Answer::Done)
    );
}
