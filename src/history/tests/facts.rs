//! What the simulated worlds ask and no history does: the order of one log, and facts that no line tells.

use super::*;
use crate::book::{Lines, Place};

/// The first promise that was broken.
#[derive(Default)]
struct First(Option<Invariant>);

impl Judge for First {
    fn demand(
        &mut self,
        invariant: Invariant,
        holds: bool,
        _: impl FnOnce() -> Vec<u64>,
        why: impl FnOnce() -> String,
    ) {
        if !holds {
            assert!(!why().is_empty());
            self.0.get_or_insert(invariant);
        }
    }
}

type Log = Chain<ClientUri, Digest>;

/// Epoch 1 is open, with alice and bob in it, since event 1.
fn chain() -> Log {
    let mut chain = Log::default();
    chain.begins([client("alice")]);
    assert_eq!(commit(&mut chain, 1, "alice", false, &[]), None);
    chain
}

fn emit(chain: &mut Log, first: u64, count: u64, time: u64) -> Option<Invariant> {
    let mut found = First::default();
    chain.emits(At::default(), RoomSeq(first), count, time, &mut found);
    found.0
}

/// A Commit that opens an epoch with the event of its number; the first one adds bob.
fn commit(
    chain: &mut Log,
    opens: u64,
    sender: &str,
    admitted: bool,
    covers: &[&str],
) -> Option<Invariant> {
    let covers: Vec<_> = covers.iter().map(|name| id(name)).collect();
    let bob = [client("bob")];
    let mut found = First::default();
    let accepted = Accepted {
        seq: chain.last().next(),
        opens: Epoch(opens),
        sender: &client(sender),
        admitted,
        covers: &covers,
        left: &[],
        joined: if opens == 1 { &bob } else { &[] },
    };
    chain.commits(At::default(), &accepted, &mut found);
    let seq = accepted.seq;
    found.0.or_else(|| emit(chain, seq.0, 1, 10))
}

fn says(chain: &Log, sender: &str) -> Option<Invariant> {
    let mut found = First::default();
    let seq = chain.last().next();
    chain.says(At::default(), &client(sender), seq, &mut found);
    found.0
}

#[test]
fn a_log_passes_over_no_number_and_no_epoch() {
    let mut log = chain();
    assert_eq!(emit(&mut log, 2, 3, 10), None);
    assert_eq!(emit(&mut log.clone(), 6, 1, 10), Some(Invariant::I26));
    assert_eq!(emit(&mut log.clone(), 4, 1, 10), Some(Invariant::I26));
    assert_eq!(emit(&mut log.clone(), 5, 1, 9), Some(Invariant::I26));
    assert_eq!(
        commit(&mut log.clone(), 1, "bob", false, &[]),
        Some(Invariant::I1)
    );
    assert_eq!(
        commit(&mut log.clone(), 3, "bob", false, &[]),
        Some(Invariant::I1)
    );
    assert_eq!(commit(&mut log, 2, "bob", false, &[]), None);
    assert_eq!((log.epoch(), log.last()), (Epoch(2), RoomSeq(5)));
}

#[test]
fn a_log_takes_nothing_of_whom_is_no_member() {
    let mut log = chain();
    assert_eq!(says(&log, "bob"), None);
    assert_eq!(says(&log, "carol"), Some(Invariant::I5));
    assert_eq!(
        commit(&mut log.clone(), 2, "carol", false, &[]),
        Some(Invariant::I5)
    );
    assert_eq!(commit(&mut log.clone(), 2, "carol", true, &[]), None);
    let mut found = First::default();
    let removal = Accepted {
        seq: RoomSeq(2),
        opens: Epoch(2),
        sender: &client("alice"),
        admitted: false,
        covers: &[],
        left: &[client("bob")],
        joined: &[],
    };
    log.commits(At::default(), &removal, &mut found);
    assert_eq!(found.0, None);
    assert_eq!(emit(&mut log, 2, 1, 10), None);
    assert_eq!(says(&log, "bob"), Some(Invariant::I5));
    assert_eq!(log.roster().members().count(), 1);
}

#[test]
fn a_commit_names_what_waits_in_its_epoch() {
    let mut log = chain();
    let propose = |log: &mut Log, who: &str| {
        let mut found = First::default();
        let seq = log.last().next();
        log.proposes(
            At::default(),
            &client(who),
            seq,
            [id("proposal")],
            &mut found,
        );
        found.0.or_else(|| emit(log, seq.0, 1, 10))
    };
    assert_eq!(propose(&mut log.clone(), "carol"), Some(Invariant::I5));
    assert_eq!(propose(&mut log, "bob"), None);
    assert_eq!(
        commit(&mut log.clone(), 2, "alice", false, &["other"]),
        Some(Invariant::I4)
    );
    assert_eq!(commit(&mut log, 2, "alice", false, &["proposal"]), None);
    assert_eq!(
        commit(&mut log, 3, "alice", false, &["proposal"]),
        Some(Invariant::I4)
    );
}

#[test]
fn a_follower_takes_nothing_twice_and_passes_over_nothing() {
    let mut log = Log::default();
    let take = |log: &mut Log, first| {
        let mut found = First::default();
        log.takes(At::default(), RoomSeq(first), 2, &mut found);
        found.0
    };
    assert_eq!(take(&mut log, 7), None);
    assert_eq!(take(&mut log.clone(), 8), Some(Invariant::I14));
    assert_eq!(take(&mut log.clone(), 10), Some(Invariant::I26));
    assert_eq!(take(&mut log, 9), None);
    log = Log::default();
    log.begins_after(RoomSeq(3));
    assert_eq!(take(&mut log, 5), Some(Invariant::I26));
}

/// What a ledger finds when it is told these facts, in this order.
fn told(facts: &[Fact<'_, Lines>]) -> Option<Invariant> {
    let mut ledger = Ledger::default();
    let mut found = First::default();
    for fact in facts {
        ledger.see(At::default(), *fact, &mut found);
    }
    found.0
}

fn sent<'a>(room: &'a RoomUri, name: &str) -> Fact<'a, Lines> {
    Fact::Sent { room, id: id(name) }
}

fn numbered<'a>(room: &'a RoomUri, seq: u64, name: &str) -> Fact<'a, Lines> {
    Fact::Numbered {
        room,
        seq: RoomSeq(seq),
        event: id(name),
    }
}

#[test]
fn an_event_has_one_number() {
    let den = &den();
    let once = [sent(den, "hi"), numbered(den, 1, "hi")];
    assert_eq!(told(&once), None);
    let again = numbered(den, 1, "hi");
    assert_eq!(told(&[once[0], once[1], again]), None);
    let twice = numbered(den, 2, "hi");
    assert_eq!(told(&[once[0], once[1], twice]), Some(Invariant::I14));
}

#[test]
fn a_commit_opens_one_epoch() {
    let den = &den();
    let opened = |epoch, name: &str| Fact::Opened {
        room: den,
        epoch: Epoch(epoch),
        commit: id(name),
    };
    assert_eq!(
        told(&[opened(1, "a"), opened(1, "a"), opened(2, "b")]),
        None
    );
    assert_eq!(told(&[opened(1, "a"), opened(1, "b")]), Some(Invariant::I1));
    assert_eq!(told(&[opened(1, "a"), opened(2, "a")]), Some(Invariant::I1));
}

#[test]
fn what_is_refused_is_not_there_whichever_is_told_first() {
    let den = &den();
    let (epoch, commit) = (Epoch(1), id("commit"));
    let opened = Fact::Opened {
        room: den,
        epoch,
        commit,
    };
    let refused = Fact::Refused {
        room: den,
        id: commit,
    };
    assert_eq!(told(&[refused]), None);
    assert_eq!(told(&[opened, refused]), Some(Invariant::I12));
    assert_eq!(told(&[refused, opened]), Some(Invariant::I12));
    let (sent, numbered) = (sent(den, "commit"), numbered(den, 1, "commit"));
    assert_eq!(told(&[sent, numbered, refused]), Some(Invariant::I12));
    assert_eq!(told(&[sent, refused, numbered]), Some(Invariant::I12));
}

#[test]
fn an_acknowledged_commit_is_in_a_log_before() {
    let den = &den();
    let (epoch, commit, seq) = (Epoch(1), id("commit"), RoomSeq(1));
    let opened = |epoch| Fact::Opened {
        room: den,
        epoch,
        commit,
    };
    let acknowledged = Fact::Acknowledged {
        room: den,
        epoch,
        seq,
        commit,
    };
    let sent = sent(den, "commit");
    assert_eq!(told(&[sent, opened(epoch), acknowledged]), None);
    assert_eq!(told(&[sent, acknowledged]), Some(Invariant::I2));
    let other = opened(Epoch(2));
    assert_eq!(told(&[sent, other, acknowledged]), Some(Invariant::I1));
}

#[test]
fn members_of_an_epoch_share_its_secret() {
    let den = &den();
    let enters = |epoch, name: &str| Fact::Entered {
        room: den,
        epoch: Epoch(epoch),
        secret: id(name),
    };
    assert_eq!(
        told(&[enters(1, "a"), enters(1, "a"), enters(2, "b")]),
        None
    );
    assert_eq!(told(&[enters(1, "a"), enters(1, "b")]), Some(Invariant::I2));
}

#[test]
fn a_state_is_compared_with_the_one_that_was_told_first() {
    let place = &Place {
        provider: "a.example".into(),
        shard: 1,
        index: 7,
    };
    let is = |name: &str| Fact::State {
        place,
        state: id(name),
    };
    assert_eq!(told(&[is("x"), is("x")]), None);
    assert_eq!(told(&[is("x"), is("y")]), Some(Invariant::I11));
}

/// Names under which a claim is remembered for a second.
#[derive(Clone, Copy)]
struct Forgetful;

impl Names for Forgetful {
    type Room = RoomUri;
    type Client = ClientUri;
    type Id = Digest;
    type Claim = String;
    type Package = String;
    type Place = u64;

    const CLAIM_KEPT_NS: u64 = 1_000_000_000;
}

#[test]
fn a_claim_gets_what_it_got_as_long_as_it_is_remembered() {
    let (claim, carol) = ("claim".to_owned(), client("carol"));
    let handed = |package: &str, ns| {
        let mut ledger = Ledger::<Forgetful>::default();
        let mut found = First::default();
        for (package, ns) in [("first", 0), (package, ns)] {
            let fact = Fact::Handed {
                claim: &claim,
                client: &carol,
                package: &package.to_owned(),
            };
            ledger.see(At { line: 1, ns }, fact, &mut found);
        }
        found.0
    };
    assert_eq!(handed("first", 1), None);
    assert_eq!(handed("other", 1_000_000_000), Some(Invariant::I3));
    assert_eq!(handed("other", 1_000_000_001), None);
}
