//! Consent between users, of which no first version of any format has a word.

use super::{Group, samples::*};
use mimi_actors::{
    ids::UserUri,
    link::{
        Links, Peer,
        outgoing::{ConsentOwed, Owed},
    },
    machine::{Fold as _, Millis, Moment, Position},
    record::{Command, Entry},
    user::{command as user, fold::Fold},
    wire::{
        Payload,
        consent::{self, ConsentEntry, ConsentOp, Consents, ConsentsAsk, Said, Scope, Standing},
        door,
        event::{Hash, InboxSeq, Item, LinkSeq},
        link as frames,
        post::Note,
        user::{Answer, Refused, Request},
        version::Level,
    },
};
use std::sync::Arc;

const OPS: [(&str, ConsentOp); 4] = [
    ("cancel", ConsentOp::Cancel),
    ("request", ConsentOp::Request),
    ("grant", ConsentOp::Grant),
    ("revoke", ConsentOp::Revoke),
];

/// What the user of the samples and alice say to each other.
fn entry(op: ConsentOp) -> ConsentEntry {
    let (requester, target) = match op {
        ConsentOp::Cancel | ConsentOp::Request => (alice().user().clone(), user_uri()),
        ConsentOp::Grant | ConsentOp::Revoke => (user_uri(), alice().user().clone()),
    };
    ConsentEntry {
        op,
        requester,
        target,
        room: (op != ConsentOp::Cancel).then(room),
        key_packages: list(Vec::new()),
        extensions: Payload::from(vec![0x80, 2, 1, 7]),
    }
}

fn scope() -> Scope {
    Scope {
        user: alice().user().clone(),
        room: Some(room()),
    }
}

fn asks() -> [(&'static str, ConsentsAsk); 7] {
    let after = Some((alice().user().clone().into(), None));
    [
        ("request", ConsentsAsk::Request(scope())),
        ("cancel", ConsentsAsk::Cancel(scope())),
        ("grant", ConsentsAsk::Grant(scope())),
        (
            "grant-with-packages",
            ConsentsAsk::GrantWithPackages(scope()),
        ),
        ("revoke", ConsentsAsk::Revoke(scope())),
        ("tell", ConsentsAsk::TellRevocations(true)),
        ("list", ConsentsAsk::List { after }),
    ]
}

fn heard(op: ConsentOp, from: Option<(u16, LinkSeq)>) -> user::Command {
    let entry = entry(op);
    user::Command::Heard(user::Heard { from, entry })
}

pub(super) fn link(group: &mut Group) {
    for (name, op) in OPS {
        let item = Item::Consent(entry(op).write().into());
        let groups = list(vec![frames::FanoutGroup {
            room: consent::place(&user_uri()).unwrap(),
            items: list(vec![item]),
        }]);
        let first = LinkSeq(7);
        let fanout = frames::Fanout { first, groups };
        group.frame(format!("fanout-consent-{name}"), fanout);
    }
}

pub(super) fn door(group: &mut Group) {
    for (name, ask) in asks() {
        let request = door::Request::User(Request::Consents(ask));
        let open = door::Open::Request(Box::new(request));
        group.frame(format!("open-consents-{name}"), open);
    }
    let consents = Consents {
        waiting: list(vec![scope()]),
        asked: list(vec![(scope(), Standing::Granted)]),
        tells_revocations: true,
        said: list(vec![Said {
            requester: alice().user().clone().into(),
            room: None,
            granted: false,
        }]),
        more: true,
    };
    let limited = Refused::Limited {
        retry_after_ms: 250,
    };
    for (name, answer) in [
        ("consents", Answer::Consents(Box::new(consents))),
        ("limited", Answer::Refused(limited)),
    ] {
        group.frame(format!("reply-user-{name}"), door::Reply::User(answer));
    }
    let (requester, target): (UserUri, UserUri) = (alice().user().clone(), alice().user().clone());
    for (name, note) in [
        (
            "asked",
            Note::ConsentAsked {
                requester,
                room: None,
            },
        ),
        (
            "said",
            Note::ConsentSaid {
                target,
                room: Some(room()),
                granted: true,
                packages: list(vec![some("package")]),
            },
        ),
        ("changed", Note::ConsentsChanged),
    ] {
        let seq = InboxSeq(2);
        let items = list(vec![door::DoorItem::Note { seq, note }]);
        group.frame(
            format!("events-note-consent-{name}"),
            door::Events { items },
        );
    }
}

pub(super) fn records(group: &mut Group) {
    let mut add = |name: String, command| {
        let commands = list(vec![Command::User(user_uri(), Arc::new(command))]);
        let stamp = Millis(1_700_000_000_000);
        group.frame(name, Entry { stamp, commands });
    };
    for (name, ask) in asks() {
        add(
            format!("user-consents-{name}"),
            user::Command::Consents(ask),
        );
    }
    for (name, op) in OPS {
        let from = (op == ConsentOp::Grant).then_some((3, LinkSeq(1)));
        add(format!("user-heard-{name}"), heard(op, from));
    }
}

pub(super) fn folds(group: &mut Group) {
    let mut fold = Fold::default();
    let code = Hash::of(b"code");
    let mut commands = vec![
        user::Command::Add(user::Add {
            user: user_uri(),
            code,
        }),
        user::Command::Enrol(user::Enrol {
            code,
            client: bob(),
            device_key: [7; 32],
        }),
        heard(ConsentOp::Request, None),
    ];
    let asks = asks().into_iter().map(|(_, ask)| ask).take(3);
    commands.extend(asks.map(user::Command::Consents));
    commands.push(heard(ConsentOp::Grant, None));
    for (entry, command) in (1..).zip(commands) {
        let moment = Moment {
            at: Position { entry, command: 0 },
            time: Millis(1_700_000_000_000),
            level: Level::SECOND,
        };
        fold.apply(moment, &command);
    }
    assert_eq!(fold.inbox(&bob()).count(), 2, "a request and a grant");
    group.fold("user-with-consents", fold);
    let mut links = Links::default();
    for (_, op) in OPS {
        let entry = entry(op);
        let place = consent::place(entry.receiver()).unwrap();
        let owed = Owed::Consent(ConsentOwed { place, entry });
        links.to(&Peer::Shard(3)).push(owed, 1);
    }
    group.frame("links-with-consents", links);
}
