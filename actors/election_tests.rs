//! One voter and its clock.

use super::*;

const PATIENCE_MS: u64 = PATIENCE_MS_MIN;
/// A leader, and what it was elected with.
const LEADER: Ballot = (3, 1);
/// When the tests begin.
const BEGAN_MS: u64 = 10_000;
/// How often a voter looks.
const LOOK_MS: u64 = 250;

/// Looks as often as it should from `from_ms` to `to_ms`; when it asked for votes.
fn look_through(one: &mut Election, from_ms: u64, to_ms: u64) -> Vec<u64> {
    let looks = (from_ms..=to_ms).filter(|now_ms| (now_ms - from_ms).is_multiple_of(LOOK_MS));
    looks.filter(|now_ms| one.look(*now_ms)).collect()
}

#[test]
fn a_voter_asks_when_its_patience_is_over_and_again_until_it_hears_of_a_leader() {
    let mut one = Election::new(PATIENCE_MS, true, BEGAN_MS);
    let first = BEGAN_MS + PATIENCE_MS;
    let asked = look_through(&mut one, BEGAN_MS, first + 2 * ASK_AGAIN_MS);
    assert_eq!(
        asked,
        [first, first + ASK_AGAIN_MS, first + 2 * ASK_AGAIN_MS]
    );
    let heard = first + 2 * ASK_AGAIN_MS;
    one.hear(heard, LEADER);
    let asked = look_through(&mut one, heard, heard + PATIENCE_MS);
    assert_eq!(asked, [heard + PATIENCE_MS]);
}

#[test]
fn a_voter_that_hears_its_leader_votes_for_nobody_and_afterwards_for_the_longer_log() {
    let mut one = Election::new(PATIENCE_MS, true, BEGAN_MS);
    let over = BEGAN_MS + LEASE_MS;
    one.look(BEGAN_MS + 500);
    assert!(!one.would_vote(over - 1, false) && !one.may_vote(over - 1, (1, 2)));
    assert!(one.would_vote(over, false) && one.may_vote(over, (1, 2)));
    assert!(!one.would_vote(over, true), "the log is shorter");
}

#[test]
fn a_voter_that_never_followed_anybody_votes_at_once() {
    let mut one = Election::new(PATIENCE_MS, false, BEGAN_MS);
    assert!(one.would_vote(BEGAN_MS, false) && one.may_vote(BEGAN_MS, (1, 2)));
}

#[test]
fn a_voter_that_is_asked_by_one_with_a_shorter_log_stands_in_its_place_but_never_within_the_lease()
{
    let mut one = Election::new(PATIENCE_MS, true, BEGAN_MS);
    one.look(BEGAN_MS + 500);
    let within = BEGAN_MS + LEASE_MS - 1;
    assert!(!one.would_vote(within, true) && !one.look(within));
    assert!(!one.would_vote(within + 1, true) && one.look(within + 1));
}

#[test]
fn a_voter_that_was_away_begins_its_patience_anew_and_votes_for_nobody_meanwhile() {
    for away_ms in [AWAY_MS, 3_000, 3_600_000] {
        let mut one = Election::new(PATIENCE_MS, true, BEGAN_MS);
        let back = BEGAN_MS + away_ms;
        assert!(!one.would_vote(back, false), "away for {away_ms} ms");
        let asked = look_through(&mut one, back, back + PATIENCE_MS);
        assert_eq!(asked, [back + PATIENCE_MS], "away for {away_ms} ms");
        assert_eq!(one.back_for_ms(back + 7), Some(7));
    }
    let mut one = Election::new(PATIENCE_MS, true, BEGAN_MS);
    one.look(BEGAN_MS + AWAY_MS - 1);
    assert_eq!(one.back_for_ms(BEGAN_MS + 5_000), None);
}

#[test]
fn a_leader_votes_for_nobody_while_a_majority_answers_and_steps_down_when_none_does() {
    let mut one = Election::new(PATIENCE_MS, true, BEGAN_MS);
    let mut now = BEGAN_MS;
    for _ in 0..40 {
        now += LOOK_MS;
        assert_eq!(one.lead(now, Some(300)), Next::Lead);
        assert!(!one.would_vote(now, false));
    }
    let answered = now - 300;
    while one.lead(now, Some(now - answered)) != Next::StepDown {
        now += LOOK_MS;
    }
    assert!((CUT_OFF_MS..CUT_OFF_MS + LOOK_MS).contains(&(now - answered)));
    one.step_down(now);
    assert!(one.would_vote(now, false) && one.may_vote(now, (1, 2)));
    assert!(look_through(&mut one, now, now + PATIENCE_MS).is_empty());
}

#[test]
fn a_leader_that_nobody_has_answered_yet_and_one_that_was_away_have_time_to_be_answered() {
    let mut one = Election::new(PATIENCE_MS, true, BEGAN_MS);
    assert_eq!(one.lead(BEGAN_MS, None), Next::Lead);
    assert_eq!(one.lead(BEGAN_MS + 900, None), Next::Ask);
    let back = BEGAN_MS + 900 + 5_000;
    assert_eq!(one.lead(back, Some(5_900)), Next::Lead, "it was away");
    assert_eq!(one.lead(back + 900, Some(6_800)), Next::Ask);
    let over = one.lead(back + CUT_OFF_MS, Some(5_900 + CUT_OFF_MS));
    assert_eq!(over, Next::StepDown);
}

#[test]
fn a_leader_whose_followers_say_that_they_follow_leads_on_though_their_engines_are_silent() {
    let mut one = Election::new(PATIENCE_MS, true, BEGAN_MS);
    let silent = |now: u64| Some(now - BEGAN_MS);
    one.lead(BEGAN_MS, Some(0));
    let mut asked = 0;
    for look in 1..40 {
        let now = BEGAN_MS + look * LOOK_MS;
        match one.lead(now, silent(now)) {
            Next::Lead => {}
            Next::Ask => {
                asked += 1;
                one.followed(now);
            }
            Next::StepDown => panic!("at {now} ms"),
        }
    }
    let last = BEGAN_MS + 39 * LOOK_MS;
    assert!(asked > 10 && one.answered_ago_ms(last, silent(last)).unwrap() < CUT_OFF_MS);
    let over = (0..).map(|look| last + look * LOOK_MS);
    let over = over.map(|now| (now, one.lead(now, silent(now))));
    let mut over = over.skip_while(|(_, next)| *next != Next::StepDown);
    let (over, _) = over.next().unwrap();
    assert!(over - last <= CUT_OFF_MS + LOOK_MS, "{} ms", over - last);
}

#[test]
fn a_leader_asks_who_follows_only_so_often_however_often_it_looks() {
    let mut one = Election::new(PATIENCE_MS, true, BEGAN_MS);
    one.lead(BEGAN_MS, Some(0));
    let looks = BEGAN_MS..BEGAN_MS + CUT_OFF_MS;
    let asked = looks.filter(|now| one.lead(*now, Some(now - BEGAN_MS)) == Next::Ask);
    let asked: Vec<u64> = asked.collect();
    let due = (BEGAN_MS + ASK_MS..BEGAN_MS + CUT_OFF_MS).step_by(200);
    assert_eq!(asked, due.collect::<Vec<_>>());
}

#[test]
fn a_leader_that_leads_anew_is_given_time_whenever_it_led_before() {
    let mut one = Election::new(PATIENCE_MS, true, BEGAN_MS);
    one.lead(BEGAN_MS, Some(0));
    // Another was elected, who never spoke.
    let deposed = BEGAN_MS + 10 * LOOK_MS;
    look_through(&mut one, BEGAN_MS, deposed);
    let again = deposed + LOOK_MS;
    assert_eq!(one.lead(again, None), Next::Lead);
}

#[test]
fn a_voter_that_stands_asks_nobody_anew_and_of_two_that_stand_the_lesser_gives_way() {
    let mut one = Election::new(PATIENCE_MS, true, BEGAN_MS);
    let now = BEGAN_MS + PATIENCE_MS;
    let asked = look_through(&mut one, BEGAN_MS, now);
    assert_eq!(asked, [now]);
    one.stand(now, (5, 2));
    let over = now + STAND_MS_MAX;
    assert!(look_through(&mut one, now, over - LOOK_MS).is_empty());
    assert!(!one.would_vote(over - LOOK_MS, false));
    assert!(!one.may_vote(over - LOOK_MS, (5, 1)) && one.stands(over - 1));
    assert!(one.may_vote(over - LOOK_MS, (5, 3)) && !one.stands(over - LOOK_MS));
    one.stand(over, (6, 2));
    assert!(one.stands(over + STAND_MS_MAX - 1) && !one.stands(over + STAND_MS_MAX));
    let asked = look_through(&mut one, over, over + STAND_MS_MAX + LOOK_MS);
    assert_eq!(
        asked.first(),
        Some(&(over + STAND_MS_MAX)),
        "it waits no longer"
    );
}

#[test]
fn a_voter_in_whose_favour_its_leader_stepped_down_asks_at_once() {
    let mut one = Election::new(PATIENCE_MS, true, BEGAN_MS);
    one.stand_soon(BEGAN_MS + 10);
    assert!(one.look(BEGAN_MS + 10));
}

#[test]
fn voters_whose_leader_says_that_it_stepped_down_ask_in_turn_without_waiting_for_the_lease() {
    for turn in 0..TURNS {
        let mut one = Election::new(PATIENCE_MS + turn * TURN_MS, true, BEGAN_MS);
        one.release(BEGAN_MS + 10, LEADER);
        assert!(one.would_vote(BEGAN_MS + 10, false));
        let due = BEGAN_MS + 10 + turn * TURN_MS;
        assert!((turn == 0 || !one.look(due - 1)) && one.look(due));
    }
}

#[test]
fn neighbours_take_turns_in_each_shard() {
    for shard in 0..16 {
        let turns: BTreeSet<u64> = (4..7).map(|node| patience_ms(shard, node)).collect();
        assert_eq!(turns.len(), 3, "shard {shard}");
    }
}

#[test]
fn a_majority_is_one_of_each_set_of_voters() {
    let set = |nodes: &[u64]| nodes.iter().copied().collect::<BTreeSet<u64>>();
    let one = [set(&[1, 2, 3])];
    assert!(is_majority(&one, &set(&[1, 3])) && !is_majority(&one, &set(&[1, 4, 5])));
    let two = [set(&[1, 2, 3]), set(&[3, 4])];
    assert!(!is_majority(&two, &set(&[1, 2, 3])) && is_majority(&two, &set(&[1, 3, 4])));
}

#[test]
fn a_leader_that_was_alone_gives_a_second_voter_time_to_answer() {
    let mut one = Election::new(PATIENCE_MS, true, BEGAN_MS);
    let comes = BEGAN_MS + 40 * LOOK_MS;
    for look in 0..=40 {
        one.lead_alone(BEGAN_MS + look * LOOK_MS);
    }
    // What was answered before it was alone is long ago.
    let stale = Some(100 * CUT_OFF_MS);
    let mut waits = (0..).map(|look| look * LOOK_MS);
    let waits_ms = waits.find(|waits_ms| one.lead(comes + waits_ms, stale) == Next::StepDown);
    let waits_ms = waits_ms.unwrap();
    assert!((CUT_OFF_MS..CUT_OFF_MS + LOOK_MS).contains(&waits_ms));
}

#[test]
fn a_voter_that_stands_goes_on_when_the_leader_of_before_comes_back_and_gives_up_for_a_new_one() {
    let mut one = Election::new(PATIENCE_MS, true, BEGAN_MS);
    let now = BEGAN_MS + PATIENCE_MS;
    look_through(&mut one, BEGAN_MS, now);
    one.stand(now, (LEADER.0 + 1, 2));
    one.hear(now + LOOK_MS, LEADER);
    assert!(one.stands(now + LOOK_MS));
    assert!(!one.would_vote(now + LOOK_MS, false));
    one.hear(now + LOOK_MS, (LEADER.0 + 1, 3));
    assert!(!one.stands(now + LOOK_MS));
}

#[test]
fn what_a_leader_said_before_it_stepped_down_does_not_renew_its_lease() {
    let mut one = Election::new(PATIENCE_MS, true, BEGAN_MS);
    one.hear(BEGAN_MS, LEADER);
    one.release(BEGAN_MS + 10, LEADER);
    one.hear(BEGAN_MS + 20, LEADER);
    assert!(one.would_vote(BEGAN_MS + 20, false));
    one.hear(BEGAN_MS + 30, (LEADER.0 + 1, LEADER.1));
    assert!(!one.would_vote(BEGAN_MS + 30, false));
}

#[test]
fn a_voter_that_has_voted_tells_nobody_else_that_it_would_until_whom_it_voted_for_could_speak() {
    let mut one = Election::new(PATIENCE_MS, false, BEGAN_MS);
    assert!(one.may_vote(BEGAN_MS, (4, 2)));
    one.voted(BEGAN_MS + 500);
    let over = BEGAN_MS + 2 * 500 + DEFER_MS;
    assert!(!one.would_vote(over - 1, false));
    // The engine asks for the same vote, which is kept already. Then its own first entry takes a disk as long.
    assert!(one.may_vote(over, (4, 2)));
    let over = over + DEFER_MS + 500;
    assert!(!one.would_vote(over - 1, false));
    assert!(one.would_vote(over, false));
}
