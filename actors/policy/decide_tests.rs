//! Every action of everybody on everybody, in a moderated room, as a table that can be compared with the draft.

use super::*;
use crate::policy::{
    components::{
        Claim, Component as _, ComponentId, Dictionary, Participant, ParticipantList, PreAuthEntry,
        PreAuthList, RolesList,
    },
    sets,
};

/// Who acts, by role: outside, banned, and the roles 2 to 6 of [`sets::moderated`].
const COLUMNS: [(&str, u32); 7] = [
    ("nora", 0),
    ("bernd", 1),
    ("gil", 2),
    ("ada", 3),
    ("sam", 4),
    ("mo", 5),
    ("olga", 6),
];

fn user(name: &str) -> UserUri {
    format!("mimi://a.example/u/{name}").parse().unwrap()
}

/// A room with these roles, one user of each, and one more of whom each is told apart (`gil2`).
fn room(roles: &RolesList, indices: &[(&str, u32)]) -> Policy {
    let listed = indices.iter().filter(|(_, role)| *role != 0);
    let one = |name: &str, role_index| Participant {
        user: user(name),
        role_index,
    };
    let participants = listed
        .flat_map(|(name, role)| [one(name, *role), one(&format!("{name}2"), *role)])
        .collect();
    let list = ParticipantList { participants }.encode();
    // Who is called nora, or gil, may take the role of an attendee.
    let may = |name: &str| PreAuthEntry {
        claims: vec![Claim {
            credential_type: 1,
            id: b"user".to_vec(),
            value: user(name).to_string().into_bytes(),
        }],
        target: roles.roles.get(3).cloned().unwrap_or_default(),
    };
    let preauth = PreAuthList {
        entries: ["nora", "bernd", "gil", "ada"].map(may).to_vec(),
    };
    let roles = roles.encode();
    let with = |before: &[u8], component, data: &[u8]| {
        let before = match before {
            [] => Dictionary::default(),
            before => Dictionary::decode(before).unwrap(),
        };
        before.encode_with(component, data)
    };
    let all = with(&[], ComponentId::PARTICIPANTS, &list);
    let all = with(&all, ComponentId::ROLES, &roles);
    let all = with(&all, ComponentId::PREAUTH, &preauth.encode());
    let read = Dictionary::decode(&all).unwrap();
    Policy::read(&read).unwrap().unwrap()
}

/// `+` may, `-` may not; in the order of [`COLUMNS`].
type Row = (&'static str, fn(&Targets, &UserUri) -> bool, &'static str);

/// Whom something is done to.
struct Targets {
    policy: Policy,
}

impl Targets {
    fn may(&self, who: &UserUri, action: Action<'_>) -> bool {
        decide(&self.policy, who, action).is_ok()
    }
}

macro_rules! rows {
    ($($name:literal $row:literal |$who:pat_param| $action:expr;)+) => {
        &[$((
            $name,
            |room, who| {
                let $who = who;
                room.may(who, $action)
            },
            $row,
        ),)+]
    };
}

const MODERATED: &[Row] = rows! {
    //                                    nobody banned guest attendee speaker moderator owner
    "send"                                "- - - - + + +" |_| Action::Send;
    "add a stranger as guest"             "- - - - - + +" |_| Action::AddUser { user: &user("zoe"), role: 2 };
    "add a stranger as speaker"           "- - - - - + +" |_| Action::AddUser { user: &user("zoe"), role: 4 };
    "add a stranger as moderator"         "- - - - - + +" |_| Action::AddUser { user: &user("zoe"), role: 5 };
    "add a stranger as owner"             "- - - - - - +" |_| Action::AddUser { user: &user("zoe"), role: 6 };
    "ban a stranger"                      "- - - - - + +" |_| Action::AddUser { user: &user("zoe"), role: 1 };
    "add who is there already"            "- - - - - - -" |_| Action::AddUser { user: &user("gil2"), role: 3 };
    "add a client of its own"             "- - - + + + +" |who| Action::AddClient(who);
    "add a client of another participant" "- - - - - + +" |_| Action::AddClient(&user("gil2"));
    "add a client of a stranger"          "- - - - - - -" |_| Action::AddClient(&user("zoe"));
    "add a client of who is banned"       "- - - - - - -" |_| Action::AddClient(&user("bernd2"));
    "remove a client of its own"          "- - + + + + +" |who| Action::RemoveClient(who);
    "kick a guest"                        "- - - - - + +" |_| Action::RemoveClient(&user("gil2"));
    "remove a guest"                      "- - - - - + +" |_| Action::RemoveUser(&user("gil2"));
    "remove a moderator"                  "- - - - - + +" |_| Action::RemoveUser(&user("mo2"));
    "remove an owner"                     "- - - - - - +" |_| Action::RemoveUser(&user("olga2"));
    "remove a stranger"                   "- - - - - - -" |_| Action::RemoveUser(&user("zoe"));
    "remove who is banned"                "- - - - - + +" |_| Action::RemoveUser(&user("bernd2"));
    "leave"                               "- - + + + + +" |_| Action::Leave;
    "give voice to a guest"               "- - - - - + +" |_| Action::ChangeRole { user: &user("gil2"), role: 4 };
    "take voice from a speaker"           "- - - - - + +" |_| Action::ChangeRole { user: &user("sam2"), role: 3 };
    "make a guest owner"                  "- - - - - - +" |_| Action::ChangeRole { user: &user("gil2"), role: 6 };
    "make an owner guest"                 "- - - - - - +" |_| Action::ChangeRole { user: &user("olga2"), role: 2 };
    "ban a guest"                         "- - - - - + +" |_| Action::ChangeRole { user: &user("gil2"), role: 1 };
    "ban an owner"                        "- - - - - - +" |_| Action::ChangeRole { user: &user("olga2"), role: 1 };
    "unban"                               "- - - - - + +" |_| Action::ChangeRole { user: &user("bernd2"), role: 2 };
    "change the role of a stranger"       "- - - - - - -" |_| Action::ChangeRole { user: &user("zoe"), role: 2 };
    "make itself speaker"                 "- - - - - - -" |who| Action::ChangeRole { user: who, role: 4 };
    "take the role it is preauthorised for" "- - - + - - -" |who| Action::ChangeRole { user: who, role: 3 };
    "come in as the room is open"         "- - - - - - -" |_| Action::Join { by: Door::Open, role: 2 };
    "come in preauthorised"               "+ - - - - - -" |_| Action::Join { by: Door::Preauthorized, role: 3 };
    "come in preauthorised for another"   "- - - - - - -" |_| Action::Join { by: Door::Preauthorized, role: 5 };
    "come in by a code for guests"        "+ - - - - - -" |_| Action::Join { by: Door::Code, role: 2 };
    "come in by a code for speakers"      "- - - - - - -" |_| Action::Join { by: Door::Code, role: 4 };
    "make a code for guests"              "- - - - - + +" |_| Action::MakeCode { role: 2 };
    "make a code for owners"              "- - - - - - +" |_| Action::MakeCode { role: 6 };
    "end a code of another"               "- - - - - + +" |_| Action::EndCode;
    "change the name"                     "- - - - - + +" |_| Action::Change(Attribute::Name);
    "change the description"              "- - - - - - +" |_| Action::Change(Attribute::Description);
    "change the picture"                  "- - - - - + +" |_| Action::Change(Attribute::Avatar);
    "change the subject"                  "- - - - - + +" |_| Action::Change(Attribute::Subject);
    "change the mood"                     "- - - - - + +" |_| Action::Change(Attribute::Mood);
    "change the roles"                    "- - - - - - +" |_| Action::Change(Attribute::Roles);
    "change who is preauthorised"         "- - - - - - +" |_| Action::Change(Attribute::Preauth);
    "change the kind of room"             "- - - - - - +" |_| Action::Change(Attribute::Style);
    "change what holds for the group"     "- - - - - - +" |_| Action::Change(Attribute::Operational);
    "change other policy"                 "- - - - - - +" |_| Action::Change(Attribute::Other);
    "destroy the room"                    "- - - - - - +" |_| Action::Destroy;
    "let another group follow"            "- - - - - - +" |_| Action::ReInit;
};

#[test]
fn in_a_moderated_room_everybody_may_what_the_table_says() {
    let room = Targets {
        policy: room(&sets::moderated(), &COLUMNS),
    };
    for (what, may, row) in MODERATED {
        let expected: Vec<bool> = row.split(' ').map(|cell| cell == "+").collect();
        assert_eq!(expected.len(), COLUMNS.len(), "{what}");
        for ((name, _), expected) in COLUMNS.iter().zip(expected) {
            assert_eq!(may(&room, &user(name)), expected, "{name}: {what}");
        }
    }
}

#[test]
fn a_room_without_roles_lets_its_members_do_everything() {
    let participants = ["alice", "bob", "zoe2"].map(|name| Participant {
        user: user(name),
        role_index: 2,
    });
    let participants = participants.to_vec();
    let list = ParticipantList { participants }.encode();
    let all = Dictionary::default().encode_with(ComponentId::PARTICIPANTS, &list);
    let policy = Policy::read(&Dictionary::decode(&all).unwrap());
    let policy = policy.unwrap().unwrap();
    let (alice, bob, zoe) = (user("alice"), user("bob"), user("zoe"));
    let attributes = [
        Attribute::Name,
        Attribute::Description,
        Attribute::Avatar,
        Attribute::Subject,
        Attribute::Mood,
        Attribute::Roles,
        Attribute::Preauth,
        Attribute::Style,
        Attribute::Operational,
        Attribute::Other,
    ];
    let actions = [
        Action::AddUser {
            user: &zoe,
            role: 2,
        },
        Action::AddClient(&alice),
        Action::AddClient(&bob),
        Action::MakeCode { role: 2 },
        Action::EndCode,
        Action::RemoveUser(&bob),
        Action::Leave,
        Action::RemoveClient(&alice),
        Action::RemoveClient(&bob),
        Action::ChangeRole {
            user: &bob,
            role: 1,
        },
        Action::Send,
        Action::Destroy,
        Action::ReInit,
    ];
    let changes = attributes.map(Action::Change);
    for action in actions.into_iter().chain(changes) {
        assert_eq!(decide(&policy, &alice, action), Ok(()), "{action:?}");
        assert_eq!(
            decide(&policy, &zoe, action),
            Err(Denied::NotListed),
            "{action:?}"
        );
    }
    let by = Door::Code;
    assert_eq!(decide(&policy, &zoe, Action::Join { by, role: 2 }), Ok(()));
}

#[test]
fn an_administrator_of_one_organisation_moves_only_its_own() {
    let indices = [("ua", 2), ("ub", 3), ("aa", 5), ("ab", 6), ("olga", 8)];
    let policy = room(&sets::multi_organization(), &indices);
    let (zoe, own, other) = (user("zoe"), user("ub2"), user("ua2"));
    let ab = user("ab");
    let add = |role| decide(&policy, &ab, Action::AddUser { user: &zoe, role });
    assert_eq!(add(3), Ok(()));
    let capability = Capability::ADD_PARTICIPANT;
    let (from, to) = (0, 2);
    let out_of_reach = Denied::OutOfReach {
        capability,
        from,
        to,
    };
    assert_eq!(add(2), Err(out_of_reach));
    assert_eq!(decide(&policy, &ab, Action::RemoveUser(&own)), Ok(()));
    assert!(decide(&policy, &ab, Action::RemoveUser(&other)).is_err());
    let ban = |user| decide(&policy, &ab, Action::ChangeRole { user, role: 1 });
    assert_eq!(ban(&own), Ok(()));
    assert!(ban(&other).is_err());
}

#[test]
fn the_sets_read_back_and_hold_for_the_creator_alone() {
    for (roles, highest) in [
        (sets::cooperative(), 4),
        (sets::strict_admin(), 4),
        (sets::moderated(), 6),
        (sets::multi_organization(), 8),
        (sets::open(), 2),
    ] {
        assert_eq!(RolesList::decode(&roles.encode()), Ok(roles.clone()));
        let participants = vec![Participant {
            user: user("alice"),
            role_index: highest,
        }];
        let list = ParticipantList { participants }.encode();
        let all = Dictionary::default().encode_with(ComponentId::PARTICIPANTS, &list);
        let all = Dictionary::decode(&all).unwrap();
        let all = all.encode_with(ComponentId::ROLES, &roles.encode());
        let policy = Policy::read(&Dictionary::decode(&all).unwrap());
        let policy = policy.unwrap().unwrap();
        let clients = [(user("alice"), 1)].into();
        assert_eq!(policy.check_group(&clients), Ok(()));
        assert!(policy.is_governed());
    }
}
