//! A moderated room at its hub: what its policy lets whom do, in the order of the log.

mod departed;
mod hall;

use super::{
    hub::{Commit, Fold},
    outcome::{Answer, Done, Refused},
    testing::{alice, bob, carol, client, message, proposal},
};
use crate::{
    limits::{POLICY_ENTERED_PER_ROOM_MAX, POLICY_PROPOSALS_PENDING_PER_ROOM_MAX},
    machine::Millis,
    mls::check::proposal::{PendingProposal, ProposalKind},
    policy::{
        components::{Component as _, ComponentId, Description, Operational, RoomMetadata},
        sets,
    },
    wire::{
        event::{SubmitRefused, Verdict},
        refusal::RefusalCode,
        version::Level,
    },
};
use bytes::Bytes;
use hall::{
    ATTENDEE, BANNED, GUEST, Hall, MODERATOR, OWNER, SPEAKER, accepted, adds, bad, change_of,
    enters, forbidden, granted, list, moderated, proposed, refusal, removes, with,
};

#[test]
fn a_room_does_not_begin_with_components_that_do_not_fit() {
    let (alice, bob) = (alice(), bob());
    let garbled = with(&[], ComponentId::PARTICIPANTS, b"who takes part");
    let lonely = with(&[], ComponentId::ROLES, &sets::moderated().encode());
    for (components, field) in [
        (garbled, "group_info.participant_list.participants"),
        (lonely, "group_info.roles_list.component_id"),
        (
            moderated(&[(&alice, 9)]),
            "group_info.participant_list.role_index",
        ),
        (
            moderated(&[(&bob, OWNER)]),
            "group_info.participant_list.participants",
        ),
        (
            moderated(&[(&alice, GUEST)]),
            "group_info.roles_list.minimum_participants_constraint",
        ),
    ] {
        let (hall, outcome) = Hall::of(Level::SECOND, &components);
        bad(&outcome, field);
        assert_eq!(hall.hub.fold, Fold::default());
    }
}

#[test]
fn a_shard_of_the_first_level_asks_no_policy() {
    let garbled = with(&[], ComponentId::PARTICIPANTS, b"who takes part");
    let (hall, outcome) = Hall::of(Level::FIRST, &garbled);
    assert_eq!(outcome.done, Answer::Created);
    assert!(hall.hub.room().policy().is_none());
    let (alice, amy) = (alice(), client("a", "amy", "phone"));
    let (mut hall, _) = Hall::of(Level::FIRST, &moderated(&[(&alice, OWNER)]));
    let both = moderated(&[(&alice, OWNER), (&amy, GUEST)]);
    accepted(&hall.commits(&alice, 0, &both, |commit| adds(commit, 1, &amy)));
    let lists = [(&alice, OWNER), (&amy, SPEAKER)];
    assert!(matches!(hall.sends(&amy, 1), Verdict::Accepted { .. }));
    hall.hub.level = Level::SECOND;
    let refused = Verdict::Refused(SubmitRefused::NoVoice);
    assert_eq!(hall.sends(&amy, 2), refused);
    forbidden(&hall.lists(&amy, &lists), "canChangeOwnRole");
}

#[test]
fn what_a_room_held_before_anybody_read_it_binds_nobody_until_it_fits() {
    let (alice, bob) = (alice(), bob());
    let (mut hall, _) = Hall::of(Level::FIRST, &moderated(&[(&alice, OWNER)]));
    let same = hall.components.clone();
    accepted(&hall.commits(&alice, 0, &same, |commit| adds(commit, 1, &bob)));
    assert!(hall.hub.room().policy().is_none());
    hall.hub.level = Level::SECOND;
    accepted(&hall.commits(&bob, 1, &same, |_| {}));
    let fits = moderated(&[(&alice, OWNER), (&bob, GUEST)]);
    accepted(&hall.commits(&bob, 1, &fits, |_| {}));
    let more = [(&alice, OWNER), (&bob, SPEAKER)];
    forbidden(&hall.lists(&bob, &more), "canChangeOwnRole");
}

#[test]
fn who_may_add_nobody_adds_nobody_and_a_moderator_does() {
    let (alice, bob, carol) = (alice(), bob(), carol());
    let mut hall = Hall::with(&[(&bob, SPEAKER)]);
    let next = moderated(&[(&alice, OWNER), (&bob, SPEAKER), (&carol, GUEST)]);
    let add = |commit: &mut Commit| adds(commit, 2, &carol);
    forbidden(&hall.commits(&bob, 1, &next, add), "canAddParticipant");
    accepted(&hall.lists(&alice, &[(&alice, OWNER), (&bob, MODERATOR)]));
    let next = moderated(&[(&alice, OWNER), (&bob, MODERATOR), (&carol, OWNER)]);
    forbidden(
        &hall.commits(&bob, 1, &next, add),
        "canAddParticipant does not reach from role 0 to role 6",
    );
    let next = moderated(&[(&alice, OWNER), (&bob, MODERATOR), (&carol, GUEST)]);
    accepted(&hall.commits(&bob, 1, &next, add));
}

#[test]
fn the_list_and_the_leaves_stay_of_one_mind() {
    let (alice, bob, carol) = (alice(), bob(), carol());
    let mut hall = Hall::with(&[(&bob, ATTENDEE)]);
    let same = hall.components.clone();
    // A client of who stands in no list.
    let outcome = hall.commits(&alice, 0, &same, |commit| adds(commit, 2, &carol));
    forbidden(&outcome, "does not stand in the participant_list");
    // Who is taken out of the list goes with all clients.
    let one = [(&alice, OWNER)];
    let field = "commit.participant_list.participants";
    bad(&hall.lists(&alice, &one), field);
    let out = moderated(&one);
    let outcome = hall.commits(&alice, 0, &out, |commit| removes(commit, 1, &bob));
    accepted(&outcome);
    // Who is added to the list may come without a client.
    accepted(&hall.lists(&alice, &[(&alice, OWNER), (&carol, GUEST)]));
}

#[test]
fn voice_is_given_and_taken_at_its_place_in_the_log() {
    let (alice, amy) = (alice(), client("a", "amy", "phone"));
    let mut hall = Hall::with(&[(&amy, ATTENDEE)]);
    let refused = Verdict::Refused(SubmitRefused::NoVoice);
    assert_eq!(hall.sends(&amy, 1), refused);
    assert!(matches!(hall.sends(&alice, 1), Verdict::Accepted { .. }));
    let speaks = [(&alice, OWNER), (&amy, SPEAKER)];
    forbidden(
        &hall.lists(&amy, &speaks),
        "the preauth_list does not give the user role 4",
    );
    accepted(&hall.lists(&alice, &speaks));
    assert!(matches!(hall.sends(&amy, 2), Verdict::Accepted { .. }));
    accepted(&hall.lists(&alice, &[(&alice, OWNER), (&amy, GUEST)]));
    assert_eq!(hall.sends(&amy, 3), refused);
    // The verdicts stay what they were when each message came.
    let again = hall.hub.send(&amy, 1, vec![message(1, "text 1")]);
    let Done::Answer(Answer::Sent(verdicts)) = again.done else {
        panic!("{again:?}")
    };
    assert_eq!(verdicts[0].verdict, refused);
}

#[test]
fn who_is_banned_is_out_with_all_clients_and_does_not_come_back() {
    let (alice, bob) = (alice(), bob());
    let mut hall = Hall::with(&[(&bob, ATTENDEE)]);
    let roles = [(&alice, OWNER), (&bob, BANNED)];
    let field = "commit.participant_list.role_index";
    bad(&hall.lists(&alice, &roles), field);
    let next = moderated(&roles);
    let ban = |commit: &mut Commit| removes(commit, 1, &bob);
    accepted(&hall.commits(&alice, 0, &next, ban));
    let refused = Answer::Refused(Refused::NotAuthorized);
    assert_eq!(hall.grants(&bob, None).done, refused);
    let code = hall.makes_code(&alice, Some(GUEST));
    assert_eq!(hall.grants(&bob, Some(code)).done, refused);
    let same = hall.components.clone();
    let outcome = hall.commits(&alice, 0, &same, |commit| adds(commit, 1, &bob));
    forbidden(&outcome, "the user is banned");
}

#[test]
fn nobody_locks_everybody_out() {
    let alice = alice();
    let mut hall = Hall::with(&[]);
    let mut roles = sets::moderated();
    for role in &mut roles.roles {
        // Nobody may change roles any more, of users or of the room.
        role.capabilities
            .retain(|one| ![0x000f, 0x503].contains(&one.0));
    }
    let locked = with(&hall.components, ComponentId::ROLES, &roles.encode());
    bad(
        &hall.commits(&alice, 0, &locked, |_| {}),
        "commit.participant_list.participants",
    );
}

#[test]
fn roles_change_by_who_may_and_not_with_participants() {
    let (alice, bob) = (alice(), bob());
    let mut hall = Hall::with(&[(&bob, MODERATOR)]);
    let mut roles = sets::moderated();
    roles.roles[2].description = "who listens".to_owned();
    let other = with(&hall.components, ComponentId::ROLES, &roles.encode());
    let both = list(&[(&alice, OWNER), (&bob, SPEAKER)]);
    let both = with(&other, ComponentId::PARTICIPANTS, &both);
    let field = "commit.roles_list.roles";
    bad(&hall.commits(&alice, 0, &both, |_| {}), field);
    let missing = "canChangeRoleDefinitions";
    forbidden(&hall.commits(&bob, 1, &other, |_| {}), missing);
    // Who takes the list away takes the roles away.
    forbidden(&hall.commits(&bob, 1, &[], |_| {}), missing);
    accepted(&hall.commits(&alice, 0, &other, |_| {}));
}

#[test]
fn each_field_of_the_metadata_takes_a_capability_of_its_own() {
    let (alice, bob) = (alice(), bob());
    let mut hall = Hall::with(&[(&bob, MODERATOR)]);
    let named = |name: &str| RoomMetadata {
        name: name.to_owned(),
        descriptions: vec![Description {
            content: b"where we meet".to_vec(),
            ..Description::default()
        }],
        ..RoomMetadata::default()
    };
    let metadata = ComponentId::METADATA;
    let first = with(&hall.components, metadata, &named("Hall").encode());
    forbidden(
        &hall.commits(&bob, 1, &first, |_| {}),
        "canChangeRoomDescription",
    );
    accepted(&hall.commits(&alice, 0, &first, |_| {}));
    let renamed = with(&first, metadata, &named("Den").encode());
    accepted(&hall.commits(&bob, 1, &renamed, |_| {}));
}

#[test]
fn a_proposal_counts_as_its_own_authors_whoever_commits_it() {
    let (bob, carol) = (bob(), carol());
    let mut hall = Hall::with(&[(&bob, MODERATOR), (&carol, GUEST)]);
    let kick = |leaf, target, name: &str| PendingProposal {
        kind: ProposalKind::Remove(target),
        ..proposal(leaf, name)
    };
    let outcome = hall.hub.propose(&carol, vec![kick(2, 1, "kick bob")]);
    forbidden(&outcome, "canKick");
    assert_eq!(hall.hub.room().pending(), []);
    // What nobody proposed is the committer's own doing.
    let same = hall.components.clone();
    let outcome = hall.commits(&carol, 2, &same, |commit| removes(commit, 1, &bob));
    forbidden(&outcome, "canKick");
    let second = client("b", "bob", "tablet");
    let outcome = hall.commits(&bob, 1, &same, |commit| adds(commit, 3, &second));
    accepted(&outcome);
    let outcome = hall.hub.propose(&bob, vec![kick(1, 3, "kick a tablet")]);
    proposed(&outcome);
    let reference = hall.hub.room().pending()[0].reference.clone();
    let outcome = hall.commits(&carol, 2, &same, |commit| {
        removes(commit, 3, &second);
        commit.checked.covered = vec![reference];
    });
    accepted(&outcome);
}

#[test]
fn whom_a_waiting_proposal_bans_commits_and_proposes_no_more() {
    let (alice, bob, carol) = (alice(), bob(), carol());
    let mut hall = Hall::with(&[(&bob, MODERATOR), (&carol, ATTENDEE)]);
    let banned = moderated(&[(&alice, OWNER), (&bob, MODERATOR), (&carol, BANNED)]);
    let more = moderated(&[(&alice, OWNER), (&bob, MODERATOR), (&carol, SPEAKER)]);
    let outcome = hall.hub.propose(&carol, vec![change_of(1, 2, &more)]);
    forbidden(&outcome, "preauth_list");
    let garbled = with(&[], ComponentId::PARTICIPANTS, b"who takes part");
    bad(
        &hall.hub.propose(&bob, vec![change_of(1, 1, &garbled)]),
        "proposals.participant_list.participants",
    );
    let ban = change_of(1, 1, &banned);
    // Without its clients' going no member could commit beside it.
    bad(
        &hall.hub.propose(&bob, vec![ban.clone()]),
        "proposals.participant_list.role_index",
    );
    let out = PendingProposal {
        kind: ProposalKind::Remove(2),
        ..proposal(1, "put carol out")
    };
    proposed(&hall.hub.propose(&bob, vec![ban, out]));
    let (same, waits) = (hall.components.clone(), "a Proposal that waits");
    forbidden(&hall.commits(&carol, 2, &same, |_| {}), waits);
    let update = proposal(2, "update");
    forbidden(&hall.hub.propose(&carol, vec![update]), waits);
    // Another member commits it; whoever that is, the ban is the moderator's.
    let waiting = hall.hub.room().pending().iter();
    let references = waiting.map(|one| one.reference.clone()).collect();
    let outcome = hall.commits(&alice, 0, &banned, |commit| {
        removes(commit, 2, &carol);
        commit.checked.covered = references;
    });
    accepted(&outcome);
}

#[test]
fn only_so_many_changes_of_policy_wait() {
    let (alice, bob) = (alice(), bob());
    let mut hall = Hall::with(&[(&bob, GUEST)]);
    let next = moderated(&[(&alice, OWNER), (&bob, SPEAKER)]);
    let one = |number: usize| PendingProposal {
        reference: Bytes::from(format!("reference {number}")),
        ..change_of(1, 0, &next)
    };
    let max = POLICY_PROPOSALS_PENDING_PER_ROOM_MAX;
    for number in 0..max {
        proposed(&hall.hub.propose(&alice, vec![one(number)]));
    }
    let outcome = hall.hub.propose(&alice, vec![one(max)]);
    assert_eq!(refusal(&outcome).0, RefusalCode::TooMany);
}

#[test]
fn nobody_leaves_whom_the_constraints_hold() {
    let (alice, bob) = (alice(), bob());
    let mut roles = sets::moderated();
    roles.roles[6].active_min = 1;
    let all = with(&[], ComponentId::ROLES, &roles.encode());
    let alone = with(&all, ComponentId::PARTICIPANTS, &list(&[(&alice, OWNER)]));
    let (mut hall, _) = Hall::of(Level::SECOND, &alone);
    let both = list(&[(&alice, OWNER), (&bob, ATTENDEE)]);
    let next = with(&all, ComponentId::PARTICIPANTS, &both);
    let outcome = hall.commits(&alice, 0, &next, |commit| adds(commit, 1, &bob));
    accepted(&outcome);
    let leave = |leaf| PendingProposal {
        kind: ProposalKind::SelfRemove,
        ..proposal(leaf, &format!("leave {leaf}"))
    };
    bad(
        &hall.hub.propose(&alice, vec![leave(0)]),
        "proposals.roles_list.minimum_active_participants_constraint",
    );
    proposed(&hall.hub.propose(&bob, vec![leave(1)]));
    let reference = hall.hub.room().pending()[0].reference.clone();
    // Its own will takes it out of the list, too.
    let outcome = hall.commits(&alice, 0, &alone, |commit| {
        removes(commit, 1, &bob);
        commit.checked.covered = vec![reference];
    });
    accepted(&outcome);
}

#[test]
fn who_comes_by_a_code_has_the_role_that_it_says_until_the_list_takes_it_in() {
    let (alice, bob, carol) = (alice(), bob(), carol());
    let mut hall = Hall::with(&[(&bob, SPEAKER)]);
    forbidden(&hall.keeps_code(&bob, Some(GUEST)), "canCreateJoinCode");
    forbidden(&hall.keeps_code(&alice, Some(9)), "does not reach");
    let speakers = hall.makes_code(&alice, Some(SPEAKER));
    // A stranger's role may change to that of a guest or an attendee only.
    let refused = Answer::Refused(Refused::NotAuthorized);
    assert_eq!(hall.grants(&carol, Some(speakers)).done, refused);
    assert_eq!(hall.grants(&carol, None).done, refused);
    let guests = hall.makes_code(&alice, Some(GUEST));
    granted(&hall.grants(&carol, Some(guests)));
    let same = hall.components.clone();
    accepted(&hall.commits(&carol, 2, &same, |commit| enters(commit, 2, &carol)));
    let role = |hall: &Hall| {
        let policy = hall.hub.room().policy().unwrap();
        policy.role_of(carol.user())
    };
    assert_eq!(role(&hall), GUEST);
    // The next list must have it, with this role or one that its author may give.
    let two = [(&alice, OWNER), (&bob, MODERATOR)];
    let field = "commit.participant_list.participants";
    bad(&hall.lists(&alice, &two), field);
    let three = [(&alice, OWNER), (&bob, MODERATOR), (&carol, GUEST)];
    accepted(&hall.lists(&alice, &three));
    assert_eq!(role(&hall), GUEST);
    assert!(hall.hub.fold.entered().is_none(), "the list has it");
}

#[test]
fn who_came_by_a_code_and_is_gone_again_is_nobody() {
    let (alice, carol) = (alice(), carol());
    let mut hall = Hall::with(&[]);
    // Without a role it gives the first that there is.
    let code = hall.makes_code(&alice, None);
    granted(&hall.grants(&carol, Some(code)));
    let same = hall.components.clone();
    accepted(&hall.commits(&carol, 1, &same, |commit| enters(commit, 1, &carol)));
    let entered = hall.hub.fold.entered().unwrap();
    assert_eq!(entered.get(carol.user()), Some(&GUEST));
    let outcome = hall.commits(&alice, 0, &same, |commit| removes(commit, 1, &carol));
    accepted(&outcome);
    assert!(hall.hub.fold.entered().is_none());
}

#[test]
fn only_so_many_users_stand_in_no_list() {
    let alice = alice();
    let mut hall = Hall::with(&[]);
    let code = hall.makes_code(&alice, Some(GUEST));
    let same = hall.components.clone();
    let mut enters_as = |number: u32| {
        let who = client("c", &format!("user{number}"), "phone");
        granted(&hall.grants(&who, Some(code)));
        hall.commits(&who, number, &same, |commit| enters(commit, number, &who))
    };
    let max = u32::try_from(POLICY_ENTERED_PER_ROOM_MAX).unwrap();
    for number in 1..=max {
        accepted(&enters_as(number));
    }
    assert_eq!(refusal(&enters_as(max + 1)).0, RefusalCode::TooMany);
}

#[test]
fn a_participant_without_a_client_comes_back_by_itself_if_its_role_may() {
    let (alice, bob, carol) = (alice(), bob(), carol());
    let mut hall = Hall::with(&[]);
    let all = [(&alice, OWNER), (&bob, ATTENDEE), (&carol, GUEST)];
    accepted(&hall.lists(&alice, &all));
    let refused = Answer::Refused(Refused::NotAuthorized);
    assert_eq!(hall.grants(&carol, None).done, refused);
    granted(&hall.grants(&bob, None));
    assert!(hall.hub.room().lease(Millis(hall.hub.time)).is_some());
}

#[test]
fn a_room_may_take_no_external_commits_and_no_messages_of_earlier_epochs() {
    let (alice, amy) = (alice(), client("a", "amy", "phone"));
    let mut hall = Hall::with(&[(&amy, ATTENDEE)]);
    let policy = Operational::new(true, false, 0).encode();
    let next = with(&hall.components, ComponentId::OPERATIONAL, &policy);
    let tablet = client("a", "amy", "tablet");
    let old = message(1, "of the epoch before");
    accepted(&hall.commits(&alice, 0, &next, |_| {}));
    let refused = Answer::Refused(Refused::NotAuthorized);
    assert_eq!(hall.grants(&tablet, None).done, refused);
    let outcome = hall.hub.send(&alice, 1, vec![old]);
    let Done::Answer(Answer::Sent(verdicts)) = outcome.done else {
        panic!("{outcome:?}")
    };
    let verdict = verdicts[0].verdict;
    let too_old = SubmitRefused::EpochTooOld {
        current: hall.hub.room().epoch(),
    };
    assert_eq!(verdict, Verdict::Refused(too_old));
}
