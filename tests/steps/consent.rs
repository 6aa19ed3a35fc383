//! Consent that users ask of each other at their own clients.

use super::{Story, names, support};
use crate::support::{room, until};
use cucumber::{given, then, when};
use mimi_actors::{
    ids::{RoomUri, UserUri},
    limits::{CONSENTS_SAID_PER_HOUR_MAX, KEY_PACKAGES_PER_CLIENT_MAX},
    wire::{
        BVec, Payload,
        consent::{ConsentsAsk, Scope},
        door::DoorRefused,
        post::Note,
        user::{Answer, Refused, Request},
    },
};
use mimi_client::{
    door::DoorError,
    member::{Member, MemberError, packages},
};

/// The room that is named, if one is.
fn named(of: &str, hub: &str) -> Option<RoomUri> {
    (!of.is_empty()).then(|| room(of, hub))
}

/// What a device's user answers, once its shard goes by the rules of this release: all of them do from their first moments on.
async fn answered(member: &Member, ask: &ConsentsAsk) -> Answer {
    until("the user answers", async || {
        let request = Request::Consents(ask.clone());
        let answer = member.door().unwrap().ask_user(request).await.unwrap();
        let later = matches!(answer, Answer::Refused(Refused::TryLater(_)));
        (!later).then_some(answer)
    })
    .await
}

/// Everybody's shard goes by the rules of this release.
async fn settled(story: &Story) {
    for member in story.members.values() {
        answered(member, &ConsentsAsk::List { after: None }).await;
    }
}

/// Says something about somebody, for a room or for any.
async fn say(
    story: &mut Story,
    name: &str,
    whom: &str,
    room: Option<RoomUri>,
    ask: fn(Scope) -> ConsentsAsk,
) -> Answer {
    settled(story).await;
    let user = story.user(whom);
    let ask = ask(Scope { user, room });
    answered(story.member(name), &ask).await
}

/// Waits for a note.
async fn told(story: &mut Story, name: &str, note: &Note) {
    story
        .wait(name, "a note about consent", |member| {
            member.notes().any(|told| told == note)
        })
        .await;
}

#[when(regex = r"^(\w+) asks (\w+) for consent(?: for the room (\w+) of (\S+))?$")]
async fn asks(story: &mut Story, name: String, whom: String, of: String, hub: String) {
    let answer = say(story, &name, &whom, named(&of, &hub), ConsentsAsk::Request).await;
    assert_eq!(answer, Answer::Done);
}

#[when(regex = r"^(\w+) asks (\w+), who is away, for consent$")]
async fn asks_away(story: &mut Story, name: String, whom: String) {
    let user = story.user(&whom);
    let ask = ConsentsAsk::Request(Scope { user, room: None });
    let answer = answered(story.member(&name), &ask).await;
    assert_eq!(answer, Answer::Done);
}

#[when(regex = r"^(\w+) takes that request to (\w+) back(?: for the room (\w+) of (\S+))?$")]
async fn cancels(story: &mut Story, name: String, whom: String, of: String, hub: String) {
    let answer = say(story, &name, &whom, named(&of, &hub), ConsentsAsk::Cancel).await;
    assert_eq!(answer, Answer::Done);
}

#[given(regex = r"^(\w+) gave (\w+) consent(?: for the room (\w+) of (\S+))?$")]
#[when(regex = r"^(\w+) gives (\w+) consent(?: for the room (\w+) of (\S+))?$")]
async fn gives(story: &mut Story, name: String, whom: String, of: String, hub: String) {
    let answer = say(story, &name, &whom, named(&of, &hub), ConsentsAsk::Grant).await;
    assert_eq!(answer, Answer::Done);
}

#[given(regex = r"^(\w+) gave (\w+) consent for the room (\w+) of (\S+), with KeyPackages$")]
#[when(regex = r"^(\w+) gives (\w+) consent for the room (\w+) of (\S+), with KeyPackages$")]
async fn gives_with(story: &mut Story, name: String, whom: String, of: String, hub: String) {
    let den = Some(room(&of, &hub));
    let answer = say(story, &name, &whom, den, ConsentsAsk::GrantWithPackages).await;
    assert_eq!(answer, Answer::Done);
}

/// The KeyPackages that came with the last grant that had any.
fn came(member: &Member) -> Vec<Payload> {
    let with = |note: &Note| match note {
        Note::ConsentSaid { packages, .. } if !packages.is_empty() => Some(packages.to_vec()),
        _ => None,
    };
    member.notes().filter_map(with).last().unwrap_or_default()
}

#[then(regex = r"^(\w+) is told so with (\d+) KeyPackages? of (\w+)$")]
async fn told_with(story: &mut Story, name: String, count: usize, of: String) {
    let before = story.packages.clone();
    story
        .wait(&name, "a grant with KeyPackages", |member| {
            let came = came(member);
            !came.is_empty() && came != before
        })
        .await;
    story.packages = came(story.member(&name));
    assert_eq!(story.packages.len(), count, "KeyPackages of {of}");
}

#[then(regex = r"^(\w+) has (\d+) KeyPackages? left$")]
async fn has_left(story: &mut Story, name: String, left: usize) {
    // Whatever is uploaded goes behind them, up to what a stock may hold.
    let more = KEY_PACKAGES_PER_CLIENT_MAX - left + 1;
    let taken = story.member(&name).upload(more).await.unwrap();
    assert_eq!(taken + left, KEY_PACKAGES_PER_CLIENT_MAX);
}

#[when(regex = r"^(\w+) opens the room (\w+) of (\S+) and adds (\w+) with what came$")]
async fn adds_came(story: &mut Story, name: String, of: String, hub: String, _whom: String) {
    let packages = story.packages.clone();
    open_and_add(story.member(&name), &room(&of, &hub), &packages).await;
}

/// Makes a room and adds the clients of these KeyPackages.
async fn open_and_add(member: &mut Member, den: &RoomUri, packages: &[Payload]) {
    member.create_room(den).await.unwrap();
    let prepared = member.prepare_add(den, packages).unwrap();
    member.commit(&prepared).await.unwrap();
}

#[given(regex = r"^(\w+) refused (\w+) consent(?: for the room (\w+) of (\S+))?$")]
#[when(regex = r"^(\w+) refuses (\w+) consent(?: for the room (\w+) of (\S+))?$")]
async fn refuses(story: &mut Story, name: String, whom: String, of: String, hub: String) {
    let answer = say(story, &name, &whom, named(&of, &hub), ConsentsAsk::Revoke).await;
    assert_eq!(answer, Answer::Done);
}

#[given(regex = r"^(\w+) wants others to be told of refusals$")]
async fn tells(story: &mut Story, name: String) {
    let tell = ConsentsAsk::TellRevocations(true);
    let answer = answered(story.member(&name), &tell).await;
    assert_eq!(answer, Answer::Done);
}

#[then(regex = r"^(\w+) is told that (\w+) asks(?: for the room (\w+) of (\S+))?$")]
async fn is_asked(story: &mut Story, name: String, whom: String, of: String, hub: String) {
    let note = Note::ConsentAsked {
        requester: story.user(&whom),
        room: named(&of, &hub),
    };
    told(story, &name, &note).await;
}

#[then(
    regex = r"^(\w+) is told that (\w+) (consents|does not consent)(?: for the room (\w+) of (\S+))?$"
)]
async fn is_answered(
    story: &mut Story,
    name: String,
    whom: String,
    how: String,
    of: String,
    hub: String,
) {
    let note = Note::ConsentSaid {
        target: story.user(&whom),
        room: named(&of, &hub),
        granted: how == "consents",
        packages: BVec::default(),
    };
    told(story, &name, &note).await;
}

#[given(regex = r"^(\w+) sees that (nobody) waits for an answer$")]
#[then(regex = r"^(\w+) sees that (nobody|[\w, ]+) waits? for an answer$")]
async fn waiting(story: &mut Story, name: String, list: String) {
    let expected: Vec<UserUri> = if list == "nobody" {
        Vec::new()
    } else {
        names(&list).iter().map(|name| story.user(name)).collect()
    };
    let member = story.member(&name);
    let list = ConsentsAsk::List { after: None };
    until("those wait", async || {
        let Answer::Consents(consents) = answered(member, &list).await else {
            panic!("a list")
        };
        let waiting = consents.waiting.iter().map(|scope| scope.user.clone());
        (waiting.collect::<Vec<_>>() == expected).then_some(())
    })
    .await;
}

#[then(regex = r"^(\w+) was told nothing about consent$")]
fn told_nothing(story: &mut Story, name: String) {
    let notes = story.member(&name).notes();
    let notes: Vec<_> = notes.filter(|note| note.is_of_consent()).collect();
    assert!(notes.is_empty(), "{notes:?}");
}

#[then(regex = r"^(\w+) was told (\d+) things? about consent$")]
fn told_so_much(story: &mut Story, name: String, count: usize) {
    let notes = story.member(&name).notes();
    assert_eq!(notes.filter(|note| note.is_of_consent()).count(), count);
}

#[then(regex = r"^whoever (\w+) asks for consent, (?:she|he) gets the same bytes: ([\w, ]+)$")]
async fn same_bytes(story: &mut Story, name: String, list: String) {
    settled(story).await;
    let mut told = Vec::new();
    for whom in names(&list) {
        let user = story.user(&whom);
        let mut transcript = Vec::new();
        for _ in 0..2 {
            let request = ConsentsAsk::Request(Scope {
                user: user.clone(),
                room: None,
            });
            let answer = answered(story.member(&name), &request).await;
            transcript.extend(postcard::to_stdvec(&answer).unwrap());
        }
        told.push((whom, transcript));
    }
    let (_, first) = &told[0];
    for (whom, transcript) in &told {
        assert_eq!(transcript, first, "{whom}");
    }
}

#[then(regex = r"^(\w+) cannot ask (\w+) for consent, for there is no link to (\S+)$")]
async fn no_link(story: &mut Story, name: String, whom: String, provider: String) {
    let user = support::user(&whom, &provider);
    let refused = story.member(&name).ask_consent(&user, None).await;
    let Err(MemberError::Door(DoorError::Refused(DoorRefused::ProviderUnknown { provider }))) =
        refused
    else {
        panic!("{refused:?}")
    };
    assert_eq!(provider, *user.provider());
}

#[when(regex = r"^(\w+) asks (\w+) for consent for as many rooms as one may in an hour$")]
async fn asks_much(story: &mut Story, name: String, whom: String) {
    for number in 0..CONSENTS_SAID_PER_HOUR_MAX {
        let of = Some(room(&format!("room{number}"), "a.example"));
        let answer = say(story, &name, &whom, of, ConsentsAsk::Request).await;
        assert_eq!(answer, Answer::Done);
    }
}

#[then(regex = r"^(\w+) may ask (\w+) again, but for nothing more$")]
async fn asks_no_more(story: &mut Story, name: String, whom: String) {
    let again = Some(room("room0", "a.example"));
    let answer = say(story, &name, &whom, again, ConsentsAsk::Request).await;
    assert_eq!(answer, Answer::Unchanged);
    let answer = say(story, &name, &whom, None, ConsentsAsk::Request).await;
    assert!(
        matches!(answer, Answer::Refused(Refused::Limited { .. })),
        "{answer:?}"
    );
}

#[when(regex = r"^(\w+) opens the room (\w+) of (\S+) and adds (\w+) with what she claimed$")]
async fn adds_claimed(story: &mut Story, name: String, of: String, hub: String, whom: String) {
    let claimed = packages(story.claims.last().unwrap());
    assert_eq!(claimed.len(), 1, "a KeyPackage of {whom}");
    open_and_add(story.member(&name), &room(&of, &hub), &claimed).await;
}

#[then(regex = r"^(\w+) is in the room (\w+) of (\S+)$")]
async fn is_in(story: &mut Story, name: String, of: String, hub: String) {
    let den = room(&of, &hub);
    let joined = |member: &Member| member.epoch(&den).is_some();
    story.wait(&name, "the room", joined).await;
}

#[then(regex = r"^(\w+) is in no other, once both providers are at rest$")]
async fn in_no_other(story: &mut Story, name: String) {
    for provider in ["a.example", "b.example"] {
        story.net().node(provider).settled().await;
    }
    // A Welcome that lay in the inbox would be read by now: the inbox comes at once, in its order.
    let mut member = story.take(&name);
    story.net().reconnect(&mut member).await;
    let soon = std::time::Duration::from_millis(500);
    let another = member.run_until(soon, |member| member.rooms().count() > 1);
    assert!(matches!(another.await, Err(MemberError::Deadline)));
    story.members.insert(name, member);
}
