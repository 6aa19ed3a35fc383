//! Introduction codes, and joining codes of a provider of several nodes.

use super::{
    Story,
    commit::outcome,
    joining::{JOIN_WAIT, refused_of},
};
use cucumber::{given, then, when};
use mimi_actors::{
    links::{IntroductionLink, JoinLink},
    wire::{
        answer::Refused,
        joining::{CodeId, CodeTerms},
    },
};

#[given(regex = r"^(\w+), who is watched, makes a link called (\w+) for (\d+) joins?$")]
async fn watched_makes_link(story: &mut Story, name: String, link: String, uses: u32) {
    let terms = CodeTerms {
        uses: Some(uses),
        ..CodeTerms::default()
    };
    let (_, stage) = story.stage();
    let den = stage.den.clone();
    let made = stage.one(&name).member.create_link(&den, terms).await;
    let (made, id) = made.unwrap();
    let read: JoinLink = made.to_string().parse().unwrap();
    story.joining.links.insert(link, (read, id));
    story.room = Some(den);
}

#[when(regex = r"^that node is killed while (\w+) and (\w+) follow (\w+) at the same time$")]
async fn killed_while_joining(story: &mut Story, first: String, second: String, link: String) {
    let link = story.joining.links[&link].0.clone();
    let (mut one, mut other) = (story.take(&first), story.take(&second));
    let (net, stage) = story.stage();
    stage.doors.shut(&stage.marked);
    let (left, right, ()) = futures::join!(
        one.follow_link(&link, None, JOIN_WAIT),
        other.follow_link(&link, None, JOIN_WAIT),
        async {
            tokio::task::yield_now().await;
            stage.chronicle.kill(net, &stage.marked);
        }
    );
    story.members.insert(first, one);
    story.members.insert(second, other);
    story.answers = vec![outcome(left), outcome(right)];
}

#[then(regex = r"^(\w+), who is watched, sees that (\w+) has (\d+) joins? left$")]
async fn watched_sees(story: &mut Story, name: String, link: String, left: u32) {
    let id = story.joining.links[&link].1;
    let (_, stage) = story.stage();
    let den = stage.den.clone();
    let list = stage.one(&name).member.list_codes(&den).await.unwrap();
    let facts = list.iter().find(|facts| facts.id == id).unwrap();
    assert_eq!(facts.uses_left, Some(left));
}

#[when(regex = r"^(\w+) makes an introduction called (\w+)$")]
async fn introduces(story: &mut Story, name: String, called: String) {
    let made = story.member(&name).introduce(None).await.unwrap();
    let read: IntroductionLink = made.0.to_string().parse().unwrap();
    story.joining.introductions.insert(called, (read, made.1));
}

#[then(regex = r"^(\w+) learns that (\w+) is (\w+)'s$")]
async fn introduced(story: &mut Story, name: String, called: String, whose: String) {
    let whose = story.user(&whose);
    let link = story.joining.introductions[&called].0.clone();
    let user = story.member(&name).introduced_by(&link).await.unwrap();
    assert_eq!(user, whose);
}

#[then(regex = r"^(\w+) learns nothing from (\w+)$")]
async fn not_introduced(story: &mut Story, name: String, called: String) {
    let link = story.joining.introductions[&called].0.clone();
    let refused = story.member(&name).introduced_by(&link).await.unwrap_err();
    assert_eq!(refused_of(refused), Refused::NotAuthorized);
}

#[when(regex = r"^(\w+) ends the introduction (\w+)$")]
async fn ends_introduction(story: &mut Story, name: String, called: String) {
    let id = story.joining.introductions[&called].1;
    let member = story.member(&name);
    let before = member.introductions().await.unwrap();
    assert!(before.iter().any(|facts| facts.id == id));
    member.end_introduction(id).await.unwrap();
    let left = member.introductions().await.unwrap();
    assert_eq!(left.len() + 1, before.len());
    assert!(left.iter().all(|facts| facts.id != id));
}

#[given(regex = r"^an introduction called (\w+) that (\w+) never made$")]
fn forged_introduction(story: &mut Story, called: String, name: String) {
    let user = story.user(&name);
    let code = mimi_actors::user::introductions::code(&user, [9; 16]);
    let provider = user.provider().clone();
    let link = IntroductionLink {
        provider,
        code: code.into(),
    };
    let made = (link, CodeId(0));
    story.joining.introductions.insert(called, made);
}
