//! GroupInfo requests, the lease, joining codes and links.

use super::{
    Story,
    commit::{Outcome, outcome},
    names,
    support::{self, forger::Info},
};
use cucumber::{given, then, when};
use mimi_actors::{
    group_info,
    ids::RoomUri,
    links::{IntroductionLink, JoinLink},
    wire::{
        self, BText, Payload,
        answer::Refused,
        event::Epoch,
        joining::{CodeId, CodeTerms, SealedGroupInfo},
    },
};
use mimi_client::{
    door::DoorError,
    member::{Asking, Entrance, Member, MemberError, PackageOptions, Ticket},
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::task::JoinHandle;

/// How long joining may take altogether: a lease that is wasted on the way included.
pub(super) const JOIN_WAIT: Duration = Duration::from_secs(60);

/// A member that waits in the hub's queue, and what became of it.
type Queued = JoinHandle<(Member, Asking, Result<SealedGroupInfo, MemberError>)>;

/// What a story remembers of who joins by itself.
#[derive(Debug, Default)]
pub struct Joining {
    asked: BTreeMap<String, Asked>,
    entrances: BTreeMap<String, Entrance>,
    pub(super) links: BTreeMap<String, (JoinLink, CodeId)>,
    pub(super) introductions: BTreeMap<String, (IntroductionLink, CodeId)>,
    queued: BTreeMap<String, Queued>,
    refused: Vec<Refused>,
    log_lines: usize,
    /// When somebody asked who then had to wait.
    since: Option<Instant>,
}

impl Joining {
    /// What a device got when it asked last.
    pub(super) fn entrance(&self, name: &str) -> &Entrance {
        &self.entrances[name]
    }
}

/// A request and its answer.
struct Asked {
    asking: Asking,
    sealed: SealedGroupInfo,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.sealed)
    }
}

pub(super) fn refused_of(error: MemberError) -> Refused {
    match error {
        MemberError::Refused(refused) => refused,
        MemberError::Door(DoorError::Refused(wire::door::DoorRefused::TryLater(later))) => {
            Refused::TryLater(later)
        }
        other => panic!("{other:?}"),
    }
}

/// Sends a request; while all providers run, the same one again until nobody is unavailable.
async fn send_asking(
    all: bool,
    member: &Member,
    asking: &Asking,
) -> Result<SealedGroupInfo, MemberError> {
    let deadline = Instant::now() + super::support::WAIT;
    loop {
        match member.send_asking(asking).await.map_err(refused_of) {
            Err(Refused::TryLater(_)) if all && Instant::now() < deadline => {
                tokio::time::sleep(super::RETRY_AFTER).await;
            }
            told => return told.map_err(MemberError::Refused),
        }
    }
}

/// Asks for the GroupInfo; waits for its turn as long as `wait_ms`, if that is said.
async fn ask(story: &mut Story, name: &str, room: &RoomUri, ticket: &Ticket, wait_ms: Option<u32>) {
    let all = story.everybody_runs();
    let member = story.member(name);
    let mut asking = member.prepare_asking(room, ticket).unwrap();
    if let Some(wait_ms) = wait_ms {
        asking.request.wait_ms = wait_ms;
    }
    match send_asking(all, member, &asking).await {
        Ok(sealed) => {
            let entrance = member.open_answer(&asking, &sealed).unwrap();
            story.joining.entrances.insert(name.to_owned(), entrance);
            let asked = Asked { asking, sealed };
            story.joining.asked.insert(name.to_owned(), asked);
        }
        Err(error) => story.joining.refused.push(refused_of(error)),
    }
}

#[when(regex = r"^(\w+) asks for the GroupInfo$")]
async fn asks(story: &mut Story, name: String) {
    let den = story.room();
    ask(story, &name, &den, &Ticket::default(), None).await;
}

#[when(regex = r"^(\w+) asks for the GroupInfo, with the tree as (\w+)$")]
async fn asks_for_container(story: &mut Story, name: String, container: String) {
    let den = story.room();
    story
        .member(&name)
        .ask_trees_as(super::trees::kind(&container));
    ask(story, &name, &den, &Ticket::default(), None).await;
}

#[then(regex = r"^the tree comes to (\w+) as (\w+)$")]
fn tree_comes_as(story: &mut Story, name: String, container: String) {
    let asked = &story.joining.asked[&name];
    let content = asked.asking.content(&asked.sealed).unwrap();
    assert_eq!(content.tree.kind().name(), container);
}

/// Devices of users that are not there: all that matters is that the tree is no small one any more.
#[given(regex = r"^(\w+) has added (\d+) others to the room$")]
async fn others(story: &mut Story, name: String, count: usize) {
    let den = story.room();
    let provider = story.member(&name).client().provider().to_string();
    let package = |number| {
        let client = support::client(&format!("other{number}"), "phone", &provider);
        let mut other = Member::create(client, None).unwrap();
        let packages = other.key_packages(1, &PackageOptions::default()).unwrap();
        packages.into_iter().map(Payload)
    };
    let packages: Vec<Payload> = (0..count).flat_map(package).collect();
    let member = story.member(&name);
    let prepared = member.prepare_add(&den, &packages).unwrap();
    member.commit(&prepared).await.unwrap();
}

#[when(regex = r"^(\w+) asks for the GroupInfo (\d+) times$")]
async fn asks_often(story: &mut Story, name: String, times: usize) {
    let den = story.room();
    for _ in 0..times {
        ask(story, &name, &den, &Ticket::default(), None).await;
        assert!(story.joining.refused.is_empty(), "{:?}", story.joining);
    }
}

#[when(regex = r"^(\w+) asks for the GroupInfo of the room (\w+) of (\S+)$")]
async fn asks_elsewhere(story: &mut Story, name: String, of: String, hub: String) {
    let room = super::support::room(&of, &hub);
    ask(story, &name, &room, &Ticket::default(), None).await;
}

#[when(regex = r"^(\w+) asks for the GroupInfo and waits for (\d+) ms$")]
async fn asks_briefly(story: &mut Story, name: String, wait_ms: u32) {
    let den = story.room();
    ask(story, &name, &den, &Ticket::default(), Some(wait_ms)).await;
}

#[when(regex = r"^(\w+) queues for the GroupInfo$")]
async fn queues(story: &mut Story, name: String) {
    let den = story.room();
    let member = story.take(&name);
    // Who cannot wait is told its place, and keeps it for when it asks again.
    let mut asking = member.prepare_asking(&den, &Ticket::default()).unwrap();
    asking.request.wait_ms = 0;
    let behind = u32::try_from(story.joining.queued.len()).unwrap();
    match refused_of(member.send_asking(&asking).await.unwrap_err()) {
        Refused::Busy { place, .. } => assert_eq!(place, behind + 1),
        other => panic!("{other:?}"),
    }
    let asking = member.prepare_asking(&den, &Ticket::default()).unwrap();
    let task = tokio::spawn(async move {
        let sealed = member.send_asking(&asking).await;
        (member, asking, sealed)
    });
    story.joining.since = Some(Instant::now());
    story.joining.queued.insert(name, task);
}

#[then(regex = r"^(\w+)'s turn comes, within (\d+) s$")]
async fn turn_comes(story: &mut Story, name: String, within: u64) {
    let task = story.joining.queued.remove(&name).unwrap();
    let (member, asking, sealed) = task.await.unwrap();
    let since = story.joining.since.unwrap();
    assert!(since.elapsed() < Duration::from_secs(within), "{since:?}");
    story.members.insert(name.clone(), member);
    let sealed = sealed.unwrap();
    let entrance = asking.open(&sealed).unwrap();
    story.joining.entrances.insert(name.clone(), entrance);
    story.joining.asked.insert(name, Asked { asking, sealed });
}

#[then(regex = r"^(\w+)'s turn has not come$")]
fn turn_has_not_come(story: &mut Story, name: String) {
    assert!(!story.joining.queued[&name].is_finished());
}

#[then(regex = r"^(\w+) learns that nobody can answer now$")]
async fn learns_nothing(story: &mut Story, name: String) {
    let task = story.joining.queued.remove(&name).unwrap();
    let (member, _, sealed) = task.await.unwrap();
    story.members.insert(name, member);
    let refused = refused_of(sealed.unwrap_err());
    assert!(matches!(refused, Refused::TryLater(_)), "{refused:?}");
}

#[then(regex = r"^(\w+) has the GroupInfo of epoch (\d+)$")]
fn has_group_info(story: &mut Story, name: String, epoch: u64) {
    assert!(story.joining.refused.is_empty(), "{:?}", story.joining);
    assert_eq!(story.joining.asked[&name].sealed.epoch, Epoch(epoch));
}

#[then(regex = r"^(\w+) is told to wait, in place (\d+)$")]
fn told_to_wait(story: &mut Story, _name: String, expected: u32) {
    match story.joining.refused.pop() {
        Some(Refused::Busy {
            place,
            expected_wait_ms,
        }) => {
            assert_eq!(place, expected);
            assert!(
                (1..=30_000).contains(&expected_wait_ms),
                "{expected_wait_ms}"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[then(regex = r"^(\w+) is told to ask later$")]
fn told_later(story: &mut Story, _name: String) {
    match story.joining.refused.pop() {
        Some(Refused::Limited { retry_after_ms }) => {
            assert!((1..=600_000).contains(&retry_after_ms), "{retry_after_ms}");
        }
        other => panic!("{other:?}"),
    }
}

#[then(regex = r"^(\w+) learns that the hub cannot answer now$")]
fn told_unavailable(story: &mut Story, _name: String) {
    let refused = story.joining.refused.pop();
    let unavailable = matches!(refused, Some(Refused::TryLater(_)));
    assert!(unavailable, "{refused:?}");
}

#[then(regex = r"^both are told the same: not authorized$")]
fn told_not_authorized(story: &mut Story) {
    let refused = std::mem::take(&mut story.joining.refused);
    assert_eq!(refused, [Refused::NotAuthorized, Refused::NotAuthorized]);
}

/// Enters with the GroupInfo that a device has.
async fn enter(story: &mut Story, name: &str, entrance: &Entrance) {
    let den = story.room();
    let member = story.member(name);
    let prepared = member.prepare_entry(&den, entrance).unwrap();
    let began = Instant::now();
    // A hub that came back is found again with the first packet to it.
    let told = loop {
        match outcome(member.commit(&prepared).await) {
            Outcome::Unavailable if began.elapsed() < super::support::WAIT => {
                tokio::time::sleep(super::RETRY_AFTER).await;
            }
            told => break told,
        }
    };
    story.answers.push(told);
}

#[when(regex = r"^(\w+) enters with its GroupInfo$")]
async fn enters(story: &mut Story, name: String) {
    let entrance = story.joining.entrances[&name].clone();
    enter(story, &name, &entrance).await;
}

#[when(regex = r"^(\w+) enters with the GroupInfo of (\w+)$")]
async fn enters_with(story: &mut Story, name: String, of: String) {
    let entrance = story.joining.entrances[&of].clone();
    enter(story, &name, &entrance).await;
}

#[when(regex = r"^([\w, ]+) join by themselves at the same time$")]
async fn join_together(story: &mut Story, list: String) {
    let den = story.room();
    let mut tasks = Vec::new();
    for name in names(&list) {
        let mut member = story.take(&name);
        let room = den.clone();
        let task = tokio::spawn(async move {
            let joined = member
                .join_by_itself(&room, &Ticket::default(), JOIN_WAIT)
                .await;
            (member, joined)
        });
        tasks.push((name, task));
    }
    for (name, task) in tasks {
        let (member, joined) = task.await.unwrap();
        joined.unwrap();
        story.members.insert(name, member);
    }
}

#[when(regex = r"^(\w+) and (\w+) follow (\w+) at the same time$")]
async fn follow_together(story: &mut Story, first: String, second: String, link: String) {
    let link = story.joining.links[&link].0.clone();
    let (mut one, mut other) = (story.take(&first), story.take(&second));
    let joined = futures::join!(
        one.follow_link(&link, None, JOIN_WAIT),
        other.follow_link(&link, None, JOIN_WAIT)
    );
    story.members.insert(first, one);
    story.members.insert(second, other);
    story.answers = vec![outcome(joined.0), outcome(joined.1)];
}

#[then(regex = r"^exactly one of them is let in, and the other is not authorized$")]
fn one_let_in(story: &mut Story) {
    let told = &story.answers;
    let let_in = |told: &&Outcome| matches!(told, Outcome::Accepted(_));
    assert_eq!(told.iter().filter(let_in).count(), 1, "{told:?}");
    let refused = Outcome::Refused(Refused::NotAuthorized);
    assert!(told.contains(&refused), "{told:?}");
}

#[given(regex = r"^(\S+\.example) lends the GroupInfo for (\d+) ms$")]
async fn lends(story: &mut Story, provider: String, lease_ms: String) {
    let keys = [("group_info_lease_ms", &*lease_ms)];
    story.restart_with(&provider, "limits", &keys).await;
}

#[when(regex = r"^the lease of (\w+) is over$")]
async fn lease_is_over(story: &mut Story, name: String) {
    let sealed = &story.joining.asked[&name].sealed;
    let over = sealed.time.plus(sealed.lease_ms.into());
    super::support::until("the lease is over", async || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        (now.as_millis() > u128::from(over.0)).then_some(())
    })
    .await;
}

#[then(regex = r"^it is refused, for the lease is over$")]
fn lease_was_over(story: &mut Story) {
    let told = story.answers.last();
    assert_eq!(told, Some(&Outcome::Refused(Refused::LeaseExpired)));
}

#[then(regex = r"^([\w, ]+) are told to ask again$")]
async fn told_again(story: &mut Story, list: String) {
    for name in names(&list) {
        let task = story.joining.queued.remove(&name).unwrap();
        let (member, _, sealed) = task.await.unwrap();
        story.members.insert(name.clone(), member);
        let refused = refused_of(sealed.unwrap_err());
        story.print(format!("{name} is told: {refused}"));
        // Who asked too late for the leader that is gone has a place in the queue of the next one.
        let again = matches!(refused, Refused::TryLater(_) | Refused::Busy { .. });
        assert!(again, "{refused:?}");
    }
}

#[when(regex = r"^(\w+) joins by itself$")]
async fn joins(story: &mut Story, name: String) {
    let den = story.room();
    let member = story.member(&name);
    let ticket = Ticket::default();
    let joined = member.join_by_itself(&den, &ticket, JOIN_WAIT).await;
    story.answers.push(outcome(joined));
}

#[then(regex = r"^it is refused, for it needs the lease$")]
fn needs_lease(story: &mut Story) {
    let told = story.answers.last();
    assert_eq!(told, Some(&Outcome::Refused(Refused::LeaseRequired)));
}

#[then(
    regex = r"^what (\S+\.example) passed on to (\w+) shows no member, no GroupInfo and no tree$"
)]
fn shows_nothing(story: &mut Story, provider: String, name: String) {
    let den = story.room();
    let members: Vec<_> = story
        .members
        .values()
        .map(|member| (member.client().to_string(), member.epoch(&den).is_some()))
        .collect();
    let asked = &story.joining.asked[&name];
    assert_eq!(asked.asking.request.joiner.provider().as_str(), provider);
    // Just these bytes came from the hub, through the process of the joiner's provider, to the joiner.
    let passed = wire::canonical(&asked.sealed);
    let shows = |what: &[u8]| passed.windows(what.len()).any(|part| part == what);
    let entrance = &story.joining.entrances[&name];
    let mut named = 0;
    for (member, in_room) in &members {
        let mut windows = entrance.tree.windows(member.len());
        let is_named = windows.any(|part| part == member.as_bytes());
        // What the joiner can read names everybody in the room, so hiding it hides something.
        assert_eq!(is_named, *in_room, "{member} in the tree");
        assert!(!shows(member.as_bytes()), "{member} is there to be read");
        named += usize::from(is_named);
    }
    assert!(named > 1, "the tree names {named} members");
    for secret in [&entrance.group_info, &entrance.tree] {
        assert!(!shows(&secret[..32]) && !shows(&secret[secret.len() - 32..]));
    }
    let ciphertext = asked.sealed.ciphertext.len();
    assert!(ciphertext > entrance.group_info.len() + entrance.tree.len());
}

#[then(regex = r"^no other key opens what (\w+) got, and not for another request$")]
fn opens_for_nobody(story: &mut Story, name: String) {
    let den = story.room();
    let asked = &story.joining.asked[&name];
    let member = &story.members[&name];
    let other = member.prepare_asking(&den, &Ticket::default()).unwrap();
    assert!(other.open(&asked.sealed).is_err());
    assert!(asked.asking.open(&asked.sealed).is_ok());
}

#[then(regex = r"^the hub signed what (\w+) got with its key in external_senders$")]
fn hub_signed(story: &mut Story, name: String) {
    let asked = &story.joining.asked[&name];
    let entrance = asked.asking.open(&asked.sealed).unwrap();
    let keys =
        mimi_actors::mls::codec::group_info::external_sender_keys(&entrance.group_info).unwrap();
    assert_eq!(keys.len(), 1);
    let mut forged = asked.sealed.clone();
    forged.lease_ms += 1;
    let error = asked.asking.open(&forged).unwrap_err().to_string();
    assert!(error.contains("external_senders"), "{error}");
    let name = group_info::name_request(&asked.asking.request);
    story.print(format!(
        "the answer to request {name} is signed by {:?}",
        keys[0]
    ));
}

#[then(regex = r"^what (\w+) got holds the proposal of (\w+), with the hub's time$")]
fn holds_proposal(story: &mut Story, name: String, of: String) {
    let den = story.room();
    let asked = &story.joining.asked[&name];
    let content = asked.asking.content(&asked.sealed).unwrap();
    let [(proposal, accepted)] = &content.pending[..] else {
        panic!("{:?}", content.pending);
    };
    let proposer = &story.members[&of];
    let reference = proposer.references(&den, &[Payload(proposal.clone())]);
    assert!(!reference.is_empty(), "it is of {of}");
    assert_eq!(reference, story.proposed);
    let before = asked.sealed.time.0.saturating_sub(accepted.0);
    assert!(before < 60_000, "accepted {before} ms before");
}

#[then(regex = r"^what (\w+) got is the group as (\w+) knows it$")]
fn holds_group(story: &mut Story, name: String, member: String) {
    let den = story.room();
    let told = story.member(&member).entrance(&den).unwrap();
    let got = &story.joining.entrances[&name];
    let context = |entrance: &Entrance| Info::read(&entrance.group_info).context;
    assert_eq!(context(got), context(&told));
    assert_eq!(got.tree, told.tree);
}

#[then(regex = r"^what (\w+) got holds no proposal$")]
fn holds_no_proposal(story: &mut Story, name: String) {
    let asked = &story.joining.asked[&name];
    let content = asked.asking.content(&asked.sealed).unwrap();
    assert!(content.pending.is_empty(), "{:?}", content.pending);
}

#[given(
    regex = r"^(\w+) makes a link called (\w+)( for (\d+) joins?)?( good for (\d+) ms)?( with the passphrase (\w+))?( for role (\d+))?$"
)]
#[when(
    regex = r"^(\w+) makes a link called (\w+)( for (\d+) joins?)?( good for (\d+) ms)?( with the passphrase (\w+))?( for role (\d+))?$"
)]
#[allow(
    clippy::too_many_arguments,
    reason = "one for each group of the sentence"
)]
async fn makes_link(
    story: &mut Story,
    name: String,
    link: String,
    _for: String,
    uses: String,
    _good: String,
    lifetime_ms: String,
    _with: String,
    passphrase: String,
    _role: String,
    role: String,
) {
    let den = story.room();
    let terms = CodeTerms {
        uses: uses.parse().ok(),
        lifetime_ms: lifetime_ms.parse().ok(),
        role_index: role.parse().ok(),
        passphrase: (!passphrase.is_empty()).then(|| BText::exact(&passphrase).unwrap()),
    };
    let made = story.member(&name).create_link(&den, terms).await.unwrap();
    // What is passed on is text.
    let text = made.0.to_string();
    story.print(format!("{link}: {text}"));
    let read: JoinLink = text.parse().unwrap();
    assert_eq!(read, made.0);
    story.joining.links.insert(link, (read, made.1));
}

#[given(regex = r"^the link (\w+) without its code, called (\w+)$")]
fn pointer(story: &mut Story, link: String, called: String) {
    let (link, id) = story.joining.links[&link].clone();
    let text = link.to_string();
    let pointer = text.split('?').next().unwrap().parse().unwrap();
    story.joining.links.insert(called, (pointer, id));
}

#[given(regex = r"^a link called (\w+) with a code that nobody made$")]
fn wrong_link(story: &mut Story, called: String) {
    let link = JoinLink {
        room: story.room(),
        code: Some(Payload::from(vec![7; 16])),
    };
    story.joining.links.insert(called, (link, CodeId(0)));
}

async fn follow(story: &mut Story, name: &str, link: &str, passphrase: Option<&str>) {
    let link = story.joining.links[link].0.clone();
    let member = story.member(name);
    let joined = member.follow_link(&link, passphrase, JOIN_WAIT).await;
    story.answers.push(outcome(joined));
}

#[when(regex = r"^(\w+) follows (\w+)$")]
async fn follows(story: &mut Story, name: String, link: String) {
    follow(story, &name, &link, None).await;
}

#[when(regex = r"^(\w+) follows (\w+) with the passphrase (\w+)$")]
async fn follows_with(story: &mut Story, name: String, link: String, passphrase: String) {
    follow(story, &name, &link, Some(&passphrase)).await;
}

#[when(regex = r"^(\w+) follows (\w+) (\d+) times, in vain$")]
async fn follows_often(story: &mut Story, name: String, link: String, times: usize) {
    for _ in 0..times {
        follow(story, &name, &link, None).await;
        let told = story.answers.pop();
        assert_eq!(told, Some(Outcome::Refused(Refused::NotAuthorized)));
    }
}

#[when(regex = r"^(\w+) asks for the GroupInfo with (\w+)$")]
async fn asks_with(story: &mut Story, name: String, link: String) {
    let link = story.joining.links[&link].0.clone();
    let ticket = Ticket {
        code: link.code,
        passphrase: None,
    };
    ask(story, &name, &link.room, &ticket, None).await;
}

#[when(regex = r"^(\w+) ends the link (\w+)$")]
async fn ends_link(story: &mut Story, name: String, link: String) {
    let den = story.room();
    let id = story.joining.links[&link].1;
    story.member(&name).revoke_code(&den, id).await.unwrap();
}

#[then(regex = r"^(\w+) sees that (\w+) has (\d+) joins? left$")]
async fn joins_left(story: &mut Story, name: String, link: String, left: u32) {
    let den = story.room();
    let id = story.joining.links[&link].1;
    let list = story.member(&name).list_codes(&den).await.unwrap();
    let facts = list.iter().find(|facts| facts.id == id).unwrap();
    assert_eq!(facts.uses_left, Some(left));
}

#[then(regex = r"^(\w+) sees that (\w+) is for role (\d+), and made by (\w+)$")]
async fn role_of(story: &mut Story, name: String, link: String, role: u32, creator: String) {
    let den = story.room();
    let creator = story.member(&creator).client().clone();
    let id = story.joining.links[&link].1;
    let list = story.member(&name).list_codes(&den).await.unwrap();
    let facts = list.iter().find(|facts| facts.id == id).unwrap();
    assert_eq!(facts.role_index, Some(role));
    assert_eq!(facts.creator, creator);
}

#[then(regex = r"^(\w+) may not list the links$")]
async fn may_not_list(story: &mut Story, name: String) {
    let den = story.room();
    let refused = story.member(&name).list_codes(&den).await.unwrap_err();
    assert_eq!(refused_of(refused), Refused::NotAuthorized);
}

#[then(regex = r"^the log of (\S+) says that a code is refused: (.+)$")]
async fn log_says(story: &mut Story, provider: String, why: String) {
    let from = story.joining.log_lines;
    let node = story.net().node(&provider);
    let what = format!("the log says {why}");
    let seen = super::support::until(&what, || async {
        let log = node.log();
        let found = log
            .iter()
            .skip(from)
            .position(|line| line.contains("a joining code is refused") && line.contains(&why));
        found.map(|found| from + found + 1)
    });
    story.joining.log_lines = seen.await;
}

#[then(regex = r"^no log of (\S+) holds the code of (\w+)$")]
fn log_without_code(story: &mut Story, provider: String, link: String) {
    let text = story.joining.links[&link].0.to_string();
    let code = text.split("code=").nth(1).unwrap();
    assert!(code.len() >= 16, "{code}");
    let log = story.net().node(&provider).log();
    assert!(!log.is_empty());
    assert!(log.iter().all(|line| !line.contains(code)));
}
