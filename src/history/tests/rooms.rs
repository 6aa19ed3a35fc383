//! I1, I2, I10, I14, I15, I26.

use super::*;

/// Two Commits for epoch 2: alice's wins, a node is killed meanwhile.
fn contested() -> Tale {
    let mut tale = Tale::pair();
    tale.commits("alice", 2, "alice's", &[], &[]);
    tale.commits("bob", 2, "bob's", &[], &[]);
    tale.kills();
    tale.committed("alice", 2, 2);
    tale
}

#[test]
fn one_commit_wins_a_contested_epoch() {
    let mut tale = contested();
    tale.fails("bob");
    tale.enters("bob", 2, "alice's", 2);
    tale.is_valid(Invariant::I1);
}

#[test]
fn two_acknowledged_commits_of_an_epoch_are_found() {
    let mut tale = contested();
    tale.committed("bob", 2, 3);
    tale.is_violated(Invariant::I1, &[10, 11]);
}

#[test]
fn a_device_that_enters_an_epoch_by_another_commit_is_found() {
    let mut tale = contested();
    tale.unknown("bob");
    tale.enters("bob", 2, "bob's", 2);
    tale.is_violated(Invariant::I1, &[10, 12]);
}

#[test]
fn a_commit_said_to_open_another_epoch_is_found() {
    let mut tale = Tale::pair();
    tale.commits("alice", 2, "alice's", &[], &[]);
    tale.committed("alice", 3, 2);
    tale.is_violated(Invariant::I1, &[6, 7]);
}

#[test]
fn epochs_that_nobody_contests_show_little() {
    Tale::pair().is_unknown(Invariant::I1, "contested");
}

/// As [`contested`]; alice and bob enter epoch 2, bob commits epoch 3.
fn followed() -> Tale {
    let mut tale = contested();
    tale.fails("bob");
    for who in ["alice", "bob"] {
        tale.enters(who, 2, "alice's", 2);
    }
    tale.commits("bob", 3, "bob's again", &[], &[]);
    tale.committed("bob", 3, 3);
    tale.enters("bob", 3, "bob's again", 3);
    tale
}

#[test]
fn acknowledged_commits_reach_everybody_in_order() {
    let mut tale = followed();
    tale.enters("alice", 3, "bob's again", 3);
    tale.is_valid(Invariant::I2);
}

#[test]
fn a_device_that_passes_over_an_epoch_is_found() {
    let mut tale = contested();
    tale.fails("bob");
    tale.enters("alice", 2, "alice's", 2);
    tale.commits("alice", 3, "third", &[], &[]);
    tale.committed("alice", 3, 3);
    tale.enters("alice", 3, "third", 3);
    tale.enters("bob", 3, "third", 3);
    let row = tale.row(Invariant::I2);
    let lines: Vec<_> = row.findings.iter().map(|one| one.lines.clone()).collect();
    // Bob begins in epoch 1; event 2, acknowledged in line 10, is not among what he read.
    assert_eq!(lines, [vec![16], vec![10, 16]], "{row:?}");
}

#[test]
fn a_device_of_which_nobody_knows_how_it_joined_passes_over_no_epoch_either() {
    let mut tale = Tale::default();
    let first = tale.enters("zoe", 5, "fifth", 5);
    let second = tale.enters("zoe", 7, "seventh", 7);
    tale.is_violated(Invariant::I2, &[first, second]);
}

#[test]
fn an_acknowledged_commit_that_does_not_come_in_time_is_found() {
    let mut tale = followed();
    tale.ns += LATER;
    tale.sends("alice", &["late"]);
    tale.is_violated(Invariant::I2, &[15]);
}

#[test]
fn an_acknowledged_commit_may_still_be_on_its_way() {
    followed().is_unknown(
        Invariant::I2,
        "the history ends before mimi://a.example/d/alice/1",
    );
}

#[test]
fn commits_without_a_fault_among_them_show_little() {
    let tale = Tale::pair();
    tale.is_unknown(Invariant::I2, "no fault began while a Commit was under way");
}

#[test]
fn who_is_removed_or_joins_is_owed_what_was_sent_meanwhile() {
    let mut tale = contested();
    tale.fails("bob");
    for who in ["alice", "bob"] {
        tale.enters(who, 2, "alice's", 2);
    }
    tale.commits("alice", 3, "bob out, carol in", &["carol"], &["bob"]);
    tale.committed("alice", 3, 3);
    tale.enters("alice", 3, "bob out, carol in", 3);
    tale.sent("alice", &["to carol"]);
    tale.gets("alice", 4, "to carol");
    tale.is_unknown(Invariant::I10, "carol");
    tale.gets("carol", 4, "to carol");
    tale.kills();
    tale.is_valid(Invariant::I10);
    tale.is_valid(Invariant::I2);
}

#[test]
fn a_commit_that_nobody_made_leaves_open_who_is_a_member() {
    let mut tale = followed();
    tale.enters("alice", 3, "bob's again", 3);
    tale.enters("alice", 4, "a stranger's", 4);
    tale.is_unknown(Invariant::I2, "nobody is recorded to have made this Commit");
}

/// Alice is told that `hi` is safe; then a node is killed and comes back.
fn crashed() -> Tale {
    let mut tale = Tale::pair();
    tale.sent("alice", &["hi"]);
    tale.kills();
    tale.gets("alice", 2, "hi");
    tale
}

#[test]
fn what_was_acknowledged_before_a_crash_is_found_after_it() {
    let mut tale = crashed();
    tale.gets("bob", 2, "hi");
    tale.is_valid(Invariant::I10);
    tale.is_valid(Invariant::I15);
}

#[test]
fn an_acknowledged_message_that_was_passed_over_is_found() {
    let mut tale = crashed();
    tale.gets("bob", 3, "ho");
    tale.is_violated(Invariant::I10, &[7, 11]);
    tale.is_violated(Invariant::I15, &[7, 11]);
}

#[test]
fn an_acknowledged_message_that_nobody_ever_saw_is_found() {
    let mut tale = crashed();
    tale.gets("bob", 2, "hi");
    let line = tale.sent("alice", &["lost"]);
    tale.is_unknown(Invariant::I10, "the history ends before");
    tale.ns += LATER;
    tale.sends("bob", &["late"]);
    tale.is_violated(Invariant::I10, &[line]);
    tale.is_violated(Invariant::I15, &[line]);
}

#[test]
fn a_message_whose_sender_was_told_its_refusal_is_not_lost() {
    let mut tale = crashed();
    tale.gets("bob", 2, "hi");
    tale.sent("alice", &["refused"]);
    tale.line(Event::Verdict(Told {
        client: client("alice"),
        room: den(),
        id: id("refused"),
        seq: None,
    }));
    tale.ns += LATER;
    tale.sends("bob", &["late"]);
    tale.is_valid(Invariant::I10);
}

#[test]
fn acknowledgements_without_a_crash_show_little() {
    let mut tale = Tale::pair();
    tale.sent("alice", &["hi"]);
    for who in ["alice", "bob"] {
        tale.gets(who, 2, "hi");
    }
    tale.is_unknown(Invariant::I10, "no node crashed");
    tale.is_unknown(Invariant::I15, "no fault");
}

#[test]
fn an_event_that_comes_too_late_is_found() {
    let mut tale = crashed();
    tale.ns += LATER;
    let late = tale.gets("bob", 2, "hi");
    tale.is_violated(Invariant::I15, &[7, late]);
    tale.is_valid(Invariant::I10);
}

#[test]
fn a_fault_that_lasts_excuses_what_does_not_come() {
    let mut tale = crashed();
    tale.fault(Fault::Pause, "a1", Phase::Start);
    tale.ns += LATER;
    tale.sends("bob", &["late"]);
    tale.is_unknown(Invariant::I15, "a fault lasts to the end");
}

#[test]
fn what_is_sent_again_is_dropped() {
    let mut tale = Tale::pair();
    tale.sent("alice", &["hi"]);
    tale.gets("bob", 2, "hi");
    tale.delivered("bob", 2, "hi", None, true);
    tale.is_valid(Invariant::I14);
    let mut tale = Tale::pair();
    tale.sends("alice", &["hi"]);
    tale.unknown("alice");
    tale.sent("alice", &["hi"]);
    tale.gets("bob", 2, "hi");
    tale.is_valid(Invariant::I14);
}

#[test]
fn a_message_that_came_twice_is_found() {
    let mut tale = Tale::pair();
    tale.sends("alice", &["hi"]);
    tale.unknown("alice");
    tale.sent("alice", &["hi"]);
    let first = tale.gets("bob", 2, "hi");
    let second = tale.gets("bob", 3, "hi");
    tale.is_violated(Invariant::I14, &[first, second]);
}

#[test]
fn a_history_in_which_nothing_is_sent_twice_shows_little() {
    let mut tale = Tale::pair();
    tale.sent("alice", &["hi"]);
    tale.gets("bob", 2, "hi");
    tale.is_unknown(Invariant::I14, "sent twice");
}

#[test]
fn a_number_names_one_event_for_all() {
    let mut tale = Tale::pair();
    let first = tale.gets("alice", 2, "hi");
    tale.is_valid(Invariant::I26);
    let other = tale.gets("bob", 2, "ho");
    tale.is_violated(Invariant::I26, &[first, other]);
    let mut tale = Tale::default();
    tale.gets("bob", 2, "ho");
    tale.is_unknown(Invariant::I26, "seen by two");
}
