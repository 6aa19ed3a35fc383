//! I3, I11, I27, I28, I32.

use super::*;

fn claims(tale: &mut Tale, who: &str, claim: &str, package: &str) -> u64 {
    tale.begins(who, None, Op::Claim { id: claim.into() });
    let packages = vec![Package {
        client: client("bob"),
        package: id(package),
    }];
    tale.ok(who, Ret::Claimed { packages })
}

#[test]
fn a_claim_asked_again_gets_what_it_got() {
    let mut tale = Tale::default();
    claims(&mut tale, "alice", "c1", "kp1");
    claims(&mut tale, "alice", "c1", "kp1");
    claims(&mut tale, "carol", "c2", "kp2");
    tale.is_valid(Invariant::I3);
}

#[test]
fn a_key_package_given_to_two_claims_is_found() {
    let mut tale = Tale::default();
    claims(&mut tale, "alice", "c1", "kp1");
    claims(&mut tale, "carol", "c2", "kp1");
    tale.is_violated(Invariant::I3, &[2, 4]);
}

#[test]
fn a_claim_that_gets_something_else_when_asked_again_is_found() {
    let mut tale = Tale::default();
    claims(&mut tale, "alice", "c1", "kp1");
    claims(&mut tale, "alice", "c1", "kp2");
    tale.is_violated(Invariant::I3, &[2, 4]);
}

#[test]
fn claims_that_are_never_asked_again_show_little() {
    let mut tale = Tale::default();
    claims(&mut tale, "alice", "c1", "kp1");
    tale.is_unknown(Invariant::I3, "asked and answered twice");
}

#[test]
fn a_state_is_the_same_after_a_crash_and_on_other_replicas() {
    let mut tale = Tale::default();
    tale.applies("a1", 1, 7, "x", false);
    tale.applies("a2", 1, 7, "x", false);
    tale.is_valid(Invariant::I11);
    let mut tale = Tale::default();
    tale.applies("a1", 1, 7, "x", false);
    tale.kills();
    tale.applies("a1", 1, 7, "x", false);
    tale.is_valid(Invariant::I11);
}

#[test]
fn a_state_that_changed_over_a_crash_is_found() {
    let mut tale = Tale::default();
    tale.applies("a1", 1, 7, "x", false);
    tale.kills();
    tale.applies("a1", 1, 7, "y", false);
    tale.is_violated(Invariant::I11, &[1, 4]);
}

#[test]
fn a_state_seen_twice_in_one_life_shows_little() {
    let mut tale = Tale::default();
    tale.applies("a1", 1, 7, "x", false);
    tale.applies("a1", 1, 7, "x", false);
    tale.is_unknown(Invariant::I11, "two nodes");
}

/// A partition cuts a1 off; alice asks it for something.
fn cut_off() -> Tale {
    let mut tale = Tale::default();
    tale.fault(Fault::Partition, "a1", Phase::Start);
    let ids = vec![id("hi")];
    tale.begins("alice", Some("a1"), Op::Send { room: den(), ids });
    tale
}

#[test]
fn a_minority_that_refuses_is_as_it_should_be() {
    let mut tale = cut_off();
    tale.fails("alice");
    tale.is_valid(Invariant::I27);
}

#[test]
fn a_minority_that_acknowledges_is_found() {
    let mut tale = cut_off();
    tale.ok("alice", Ret::Sent);
    tale.is_violated(Invariant::I27, &[1, 2, 3]);
}

#[test]
fn a_write_that_ends_after_the_partition_shows_nothing() {
    let mut tale = cut_off();
    tale.fault(Fault::Partition, "a1", Phase::Stop);
    tale.ok("alice", Ret::Sent);
    tale.is_unknown(Invariant::I27, "while it was cut off");
}

#[test]
fn leaders_of_several_terms_are_as_they_should_be() {
    let mut tale = Tale::default();
    tale.applies("a1", 1, 7, "x", true);
    tale.applies("a2", 2, 8, "y", true);
    tale.applies("a1", 2, 8, "y", false);
    tale.is_valid(Invariant::I28);
}

#[test]
fn two_leaders_of_a_term_are_found() {
    let mut tale = Tale::default();
    tale.applies("a1", 1, 7, "x", true);
    tale.applies("a2", 1, 8, "y", true);
    tale.is_violated(Invariant::I28, &[1, 2]);
}

#[test]
fn an_entry_whose_term_changed_or_went_back_is_found() {
    let mut tale = Tale::default();
    tale.applies("a1", 1, 7, "x", true);
    tale.applies("a2", 2, 7, "x", false);
    tale.is_violated(Invariant::I28, &[1, 2]);
    let mut tale = Tale::default();
    tale.applies("a1", 2, 7, "x", true);
    tale.applies("a2", 1, 8, "y", false);
    tale.is_violated(Invariant::I28, &[1, 2]);
    let mut tale = Tale::default();
    tale.applies("a1", 1, 8, "y", true);
    tale.applies("a2", 2, 7, "x", false);
    tale.is_violated(Invariant::I28, &[1, 2]);
}

#[test]
fn one_term_shows_little_about_leaders() {
    let mut tale = Tale::default();
    tale.applies("a1", 1, 7, "x", true);
    tale.is_unknown(Invariant::I28, "one term to another");
}

fn comes_up(is: NodeState, alarm: bool) -> Tale {
    let mut tale = Tale::default();
    tale.fault(Fault::Corrupt, "a1", Phase::Start);
    tale.line(Event::Node(Start {
        node: "a1".into(),
        is,
        alarm,
    }));
    tale
}

#[test]
fn corruption_that_is_loud_is_as_it_should_be() {
    comes_up(NodeState::Refused, false).is_valid(Invariant::I32);
    comes_up(NodeState::Ready, true).is_valid(Invariant::I32);
    comes_up(NodeState::Repairing, true).is_valid(Invariant::I32);
}

#[test]
fn corruption_that_is_passed_over_is_found() {
    comes_up(NodeState::Ready, false).is_violated(Invariant::I32, &[1, 2]);
    comes_up(NodeState::Repairing, false).is_violated(Invariant::I32, &[1, 2]);
}

#[test]
fn a_corrupted_node_that_never_came_up_shows_nothing() {
    let mut tale = Tale::default();
    tale.fault(Fault::Corrupt, "a1", Phase::Start);
    tale.is_unknown(Invariant::I32, "came up");
}
