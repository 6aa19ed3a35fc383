//! I4, I5, I6, I12, I13, I16, I20, I25.

use super::*;

/// Alice proposes, and bob's Commit names it.
fn proposed() -> Tale {
    let mut tale = Tale::pair();
    tale.proposes("alice", "an Update");
    let covers = ["reference of an Update"];
    tale.commits_naming("bob", 2, "takes it in", (&[], &[]), &covers);
    tale.committed("bob", 2, 3);
    tale
}

#[test]
fn proposals_come_before_the_commit_that_names_them() {
    let mut tale = proposed();
    tale.gets("alice", 2, "an Update");
    tale.enters("alice", 3, "takes it in", 2);
    tale.is_valid(Invariant::I4);
}

#[test]
fn a_commit_before_its_proposal_is_found() {
    let mut tale = proposed();
    let line = tale.enters("alice", 3, "takes it in", 2);
    tale.gets("alice", 2, "an Update");
    tale.is_violated(Invariant::I4, &[line]);
}

#[test]
fn a_commit_that_names_what_nobody_proposed_is_found() {
    let mut tale = Tale::pair();
    tale.commits_naming("bob", 2, "takes it in", (&[], &[]), &["nothing"]);
    tale.committed("bob", 2, 2);
    let line = tale.enters("alice", 2, "takes it in", 2);
    tale.is_violated(Invariant::I4, &[line]);
}

#[test]
fn a_history_without_proposals_says_nothing_of_their_order() {
    Tale::pair().is_unknown(Invariant::I4, "names a Proposal");
}

/// Bob sends, is removed with event 2, and sends again.
fn removed() -> Tale {
    let mut tale = Tale::pair();
    tale.sent("bob", &["late"]);
    tale.commits("alice", 2, "removes bob", &[], &["bob"]);
    tale.committed("alice", 2, 2);
    tale
}

#[test]
fn who_was_removed_is_refused() {
    let mut tale = removed();
    tale.sent("alice", &["on time"]);
    tale.told("alice", "on time", Some(3));
    tale.told("bob", "late", None);
    for invariant in [
        Invariant::I5,
        Invariant::I12,
        Invariant::I13,
        Invariant::I25,
    ] {
        tale.is_valid(invariant);
    }
}

#[test]
fn a_message_of_somebody_removed_is_found() {
    let mut tale = removed();
    let line = tale.told("bob", "late", Some(3));
    tale.is_violated(Invariant::I5, &[line]);
}

#[test]
fn where_nobody_was_removed_no_message_comes_too_late() {
    let mut tale = Tale::pair();
    tale.sent("bob", &["hello"]);
    tale.told("bob", "hello", Some(2));
    tale.is_unknown(Invariant::I5, "somebody removed");
}

#[test]
fn a_message_that_was_refused_and_delivered_is_found() {
    let mut tale = removed();
    let told = tale.told("bob", "late", None);
    let line = tale.gets("alice", 3, "late");
    tale.is_violated(Invariant::I12, &[told, line]);
}

#[test]
fn a_commit_that_was_refused_and_delivered_is_found() {
    let mut tale = Tale::pair();
    tale.commits("bob", 2, "bob's", &[], &[]);
    let failed = tale.fails("bob");
    let line = tale.enters("alice", 2, "bob's", 2);
    tale.is_violated(Invariant::I12, &[failed, line]);
}

#[test]
fn an_event_that_nobody_sent_is_found() {
    let mut tale = Tale::pair();
    let line = tale.gets("bob", 2, "invented");
    tale.is_violated(Invariant::I13, &[line]);
}

#[test]
fn an_event_of_another_room_is_found() {
    let mut tale = Tale::pair();
    let ids = vec![id("for the attic")];
    let room = "mimi://a.example/r/attic".parse().unwrap();
    tale.begins("alice", None, Op::Send { room, ids });
    tale.ok("alice", Ret::Sent);
    let line = tale.gets("bob", 2, "for the attic");
    tale.is_violated(Invariant::I20, &[line]);
    Tale::pair().is_unknown(Invariant::I20, "one room");
}

/// Alice sent so many messages, and they are events 2 and on.
fn chatter(count: u64) -> Tale {
    let mut tale = Tale::pair();
    for number in 0..count {
        let name = format!("message {number}");
        tale.sent("alice", &[&name]);
        tale.told("alice", &name, Some(number + 2));
    }
    tale
}

#[test]
fn a_device_may_be_a_hundred_messages_ahead_and_no_more() {
    let mut tale = chatter(102);
    tale.gets("bob", 102, "message 100");
    tale.is_valid(Invariant::I6);
    let line = tale.gets("bob", 103, "message 101");
    tale.is_violated(Invariant::I6, &[line]);
}

#[test]
fn a_message_without_a_final_word_is_found() {
    let mut tale = Tale::pair();
    let line = tale.sent("alice", &["hello"]);
    tale.kills();
    tale.is_unknown(Invariant::I25, "history ends");
    tale.ns += LATER;
    tale.kills();
    tale.ns += LATER;
    tale.proposes("alice", "an Update");
    tale.is_violated(Invariant::I25, &[line]);
}

#[test]
fn two_final_words_are_found() {
    let mut tale = Tale::pair();
    tale.sent("alice", &["hello"]);
    let first = tale.told("alice", "hello", Some(2));
    let second = tale.told("alice", "hello", None);
    tale.is_violated(Invariant::I25, &[first, second]);
}

/// Bob has a message, which is acknowledged; then the provider is cut off, killed and started again. Gives the lines that
/// say that everything is acknowledged, and that the network is whole.
fn crashed(reads_in_time: bool) -> (Tale, [u64; 2]) {
    let mut tale = chatter(1);
    tale.enters("bob", 1, "adds bob", 1);
    tale.gets("alice", 2, "message 0");
    let acked = tale.line(Event::Acked(Acked {
        hub: "a.example".into(),
        peer: "a.example".into(),
    }));
    tale.fault(Fault::Partition, "a.example", Phase::Start);
    tale.fault(Fault::Kill, "a.example", Phase::Start);
    tale.fault(Fault::Kill, "a.example", Phase::Stop);
    if reads_in_time {
        tale.gets("bob", 2, "message 0");
    }
    let healed = tale.fault(Fault::Partition, "a.example", Phase::Stop);
    tale.gets("bob", 2, "message 0");
    (tale, [acked, healed])
}

#[test]
fn what_was_acknowledged_is_read_without_the_hub() {
    crashed(true).0.is_valid(Invariant::I16);
}

#[test]
fn what_was_acknowledged_and_is_gone_after_the_crash_is_found() {
    let (tale, lines) = crashed(false);
    tale.is_violated(Invariant::I16, &lines);
}

#[test]
fn without_a_crash_an_acknowledgement_shows_little() {
    chatter(1).is_unknown(Invariant::I16, "no provider crashed");
}
