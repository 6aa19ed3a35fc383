//! Application messages, their verdicts, and streams of them that are cut.

use super::{Story, names, texts, wait};
use crate::support::Net;
use cucumber::{then, when};
use mimi_actors::{
    ids::RoomUri,
    wire::{
        BVec,
        answer::Answer,
        door::{self, Sent},
        event::{ClientSeq, Epoch, Verdict, VerdictRun},
    },
};
use mimi_client::member::{Member, MemberError};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// How long a verdict is waited for: longer than a provider takes to start and to be dialled again. A node waits no
/// longer than four fifths of what a request may take.
const VERDICT_WAIT_MS: u32 = 8_000;
/// Whoever is told after this was told because the time was over.
const VERDICT_TOLD: Duration = Duration::from_millis(7_500);
/// Messages of one sender in a stream, at most.
const STREAM_MESSAGES_MAX: usize = 400;
/// Acknowledgements after which the node is killed.
const STREAM_ACKNOWLEDGED: usize = 90;
/// Frames of a stream without an answer, at most.
const STREAM_WINDOW: usize = 4;

/// What was said.
#[derive(Debug, Default)]
pub struct Messages {
    /// The last message of each sender.
    last: BTreeMap<String, ClientSeq>,
    answers: BTreeMap<String, Vec<Sent>>,
    sent: BTreeSet<String>,
    acknowledged: BTreeSet<String>,
    /// What somebody was told who waited for a verdict.
    told: Option<Answer>,
}

#[when(regex = r#"^(\w+) sends "([^"]+)"$"#)]
async fn sends(story: &mut Story, name: String, text: String) {
    let den = story.room();
    let first = story.member(&name).send(&den, &[&text]).await.unwrap();
    story.messages.last.insert(name, first);
}

#[when(regex = r#"^(\w+), who has not heard of it, sends "([^"]+)"$"#)]
async fn sends_late(story: &mut Story, name: String, text: String) {
    let den = story.room();
    assert_eq!(story.member(&name).epoch(&den), Some(Epoch(1)));
    sends(story, name, text).await;
}

#[when(regex = r#"^(\w+), having reached epoch (\d+), sends "([^"]+)"$"#)]
async fn sends_at(story: &mut Story, name: String, epoch: u64, text: String) {
    let den = story.room();
    let reached = |member: &Member| member.epoch(&den) == Some(Epoch(epoch));
    story.wait(&name, "the epoch", reached).await;
    sends(story, name, text).await;
}

#[when(
    regex = r#"^(\w+) believes in a Commit of his that the hub never saw, and sends "([^"]+)"$"#
)]
async fn sends_ahead(story: &mut Story, name: String, text: String) {
    let den = story.room();
    let member = story.member(&name);
    member.prepare_update(&den).unwrap();
    member.commit_accepted(&den).unwrap();
    story.astray.push(name.clone());
    sends(story, name, text).await;
}

/// Waits for the verdict on a sender's last message.
async fn verdict(story: &mut Story, name: &str) -> Verdict {
    let den = story.room();
    let number = story.messages.last[name];
    let of = |member: &Member| {
        let verdicts = member.verdicts(&den).into_iter();
        verdicts.into_iter().find(|(seq, _)| *seq == number)
    };
    story
        .wait(name, "the verdict", |member| of(member).is_some())
        .await;
    of(story.member(name)).unwrap().1
}

#[then(regex = r"^(\w+)'s message is accepted$")]
async fn is_accepted(story: &mut Story, name: String) {
    let verdict = verdict(story, &name).await;
    assert!(matches!(verdict, Verdict::Accepted { .. }), "{verdict:?}");
}

#[then(regex = r"^(\w+)'s message is refused as (\w+)$")]
async fn is_refused(story: &mut Story, name: String, why: String) {
    let verdict = verdict(story, &name).await;
    let Verdict::Refused(reason) = verdict else {
        panic!("{verdict:?}");
    };
    let reason = format!("{reason:?}");
    assert!(reason.starts_with(&why), "{reason}");
}

/// What became of a sender's last message, waiting so long for it to be known.
async fn ask_verdict(member: &Member, room: &RoomUri, first: ClientSeq, wait_ms: u32) -> Answer {
    let asked = door::Verdicts {
        room: room.clone(),
        first,
        count: 1,
        wait_ms,
    };
    member.door().unwrap().verdicts(asked).await.unwrap()
}

#[then(regex = r"^(\w+) is told at once that his message is queued$")]
async fn told_queued(story: &mut Story, name: String) {
    let den = story.room();
    let first = story.messages.last[&name];
    let answer = ask_verdict(story.member(&name), &den, first, 0).await;
    let queued = VerdictRun {
        first,
        count: 1,
        verdict: Verdict::Queued,
    };
    assert_eq!(answer, Answer::Sent(BVec::from([queued])));
}

#[when(regex = r"^(\w+) waits for the verdict, and (\S+\.example) is started again$")]
async fn awaits_verdict(story: &mut Story, name: String, provider: String) {
    let den = story.room();
    let first = story.messages.last[&name];
    let member = story.take(&name);
    let asking = async {
        // Its request is at the follower before the hub runs.
        let began = Instant::now();
        let asked = ask_verdict(&member, &den, first, VERDICT_WAIT_MS);
        let mut asked = std::pin::pin!(asked);
        assert!(futures::poll!(asked.as_mut()).is_pending());
        let answer = asked.await;
        assert!(began.elapsed() < VERDICT_TOLD, "its time was over");
        answer
    };
    let (answer, ()) = futures::join!(asking, story.net_mut().restart(&provider));
    story.messages.told = Some(answer);
    story.members.insert(name, member);
    story.reconnect(&provider).await;
}

#[then(regex = r"^(\w+) is told, once, that his message is accepted$")]
fn told_accepted(story: &mut Story, name: String) {
    let first = story.messages.last[&name];
    let Some(Answer::Sent(verdicts)) = story.messages.told.take() else {
        panic!("no verdict was told")
    };
    let [run] = &verdicts[..] else {
        panic!("{verdicts:?}")
    };
    assert_eq!((run.first, run.count), (first, 1));
    assert!(matches!(run.verdict, Verdict::Accepted { .. }), "{run:?}");
}

#[then(regex = r"^every message of ([\w, ]+) has its verdict$")]
async fn final_words(story: &mut Story, list: String) {
    let den = story.room();
    for name in names(&list) {
        story
            .wait(&name, "verdicts", |member| {
                member.unresolved(&den).is_empty()
            })
            .await;
        verdict(story, &name).await;
    }
}

#[then(regex = r#"^([\w, ]+) (?:have|has) received ("[^"]+"(?:(?:, | and )"[^"]+")*)$"#)]
async fn have_received(story: &mut Story, list: String, said: String) {
    let (den, said) = (story.room(), texts(&said));
    for name in names(&list) {
        story
            .wait(&name, &format!("{said:?}"), |member| {
                let received = member.received(&den);
                said.iter().all(|text| received.contains(&text.as_str()))
            })
            .await;
    }
}

#[then(regex = r#"^([\w, ]+) (?:have|has) received exactly (".+")$"#)]
async fn have_exactly(story: &mut Story, list: String, said: String) {
    have_received(story, list.clone(), said.clone()).await;
    let (den, said) = (story.room(), texts(&said));
    for name in names(&list) {
        // Whatever is still on its way would come with this.
        drop(story.member(&name).pump(Duration::from_millis(300)).await);
        assert_eq!(story.member(&name).received(&den), said, "{name}");
    }
}

#[then(regex = r#"^([\w, ]+) (?:have|has) not received "([^"]+)"$"#)]
async fn have_not(story: &mut Story, list: String, text: String) {
    let den = story.room();
    for name in names(&list) {
        let member = story.member(&name);
        let soon = Duration::from_millis(300);
        let came = member
            .run_until(soon, |member| {
                member.received(&den).contains(&text.as_str())
            })
            .await;
        // A member that is cut off hears nothing, which would show nothing.
        let quiet = matches!(came, Err(MemberError::Deadline));
        assert!(quiet, "{name}: {came:?}");
    }
}

#[then(regex = r#"^none of them has seen "([^"]+)"$"#)]
async fn nobody(story: &mut Story, text: String) {
    let all: Vec<_> = story.members.keys().cloned().collect();
    have_not(story, all.join(" "), text).await;
}

#[when(regex = r#"^(\w+) sends "([^"]+)" and sends the frame (\d+) times more$"#)]
async fn sends_again(story: &mut Story, name: String, text: String, times: usize) {
    let den = story.room();
    let member = story.member(&name);
    let first = member.encrypt(&den, &[&text]).unwrap();
    let frames = member.frames(&den, first);
    let mut lane = member.door().unwrap().sends().await.unwrap();
    let mut answers = Vec::new();
    for _ in 0..=times {
        lane.send(&frames[0]).await.unwrap();
        answers.push(lane.next_sent().await.unwrap());
    }
    story.messages.last.insert(name.clone(), first);
    story.messages.answers.insert(name, answers);
}

#[when(regex = r#"^(\w+) sends "([^"]+)" and sends its ciphertext again under the next number$"#)]
async fn sends_under_another(story: &mut Story, name: String, text: String) {
    let den = story.room();
    let member = story.member(&name);
    let first = member.encrypt(&den, &[&text]).unwrap();
    let mut frames = member.frames(&den, first);
    let [frame] = &mut frames[..] else {
        panic!("one message is one frame")
    };
    let mut lane = member.door().unwrap().sends().await.unwrap();
    for _ in 0..2 {
        lane.send(frame).await.unwrap();
        let sent = lane.next_sent().await.unwrap();
        assert!(matches!(sent.answer, Ok(Answer::Sent(_))), "{sent:?}");
        frame.first = frame.first.next();
    }
    story.messages.last.insert(name, first.next());
}

#[then(regex = r"^(\w+) is told that it is refused under that number as (\w+)$")]
async fn is_refused_under(story: &mut Story, name: String, why: String) {
    let den = story.room();
    let first = story.messages.last[&name];
    let member = story.member(&name);
    let answer = ask_verdict(member, &den, first, VERDICT_WAIT_MS).await;
    let Answer::Sent(runs) = answer else {
        panic!("{answer:?}")
    };
    let [VerdictRun { verdict, .. }] = &runs[..] else {
        panic!("{runs:?}")
    };
    assert_eq!(format!("{verdict:?}"), format!("Refused({why})"));
}

#[then(regex = r"^all answers to (\w+) are the same$")]
fn same_answers(story: &mut Story, name: String) {
    let answers = &story.messages.answers[&name];
    assert!(
        answers.windows(2).all(|two| two[0] == two[1]),
        "{answers:?}"
    );
    assert!(matches!(answers[0].answer, Ok(Answer::Sent(_))));
}

/// Runs one task for each of these members, and puts them back.
async fn together<T>(
    story: &mut Story,
    list: &[String],
    task: impl AsyncFn(&str, &mut Member) -> T,
) -> Vec<T> {
    let mut members: Vec<_> = list
        .iter()
        .map(|name| (name.clone(), story.take(name)))
        .collect();
    let under_way = members.iter_mut().map(|(name, member)| task(name, member));
    let results = futures::future::join_all(under_way).await;
    story.members.extend(members);
    results
}

#[when(regex = r"^([\w, ]+) send (\d+) messages each at the same time$")]
async fn send_many(story: &mut Story, list: String, count: usize) {
    let den = story.room();
    together(story, &names(&list), async |name, member| {
        for chunk in 0..count / 4 {
            let texts: Vec<_> = (0..4).map(|place| text(name, chunk * 4 + place)).collect();
            let texts: Vec<_> = texts.iter().map(String::as_str).collect();
            member.send(&den, &texts).await.unwrap();
        }
    })
    .await;
}

#[when(regex = r"^(\w+) commits (\d+) times, while ([\w, ]+) send (\d+) messages each$")]
async fn commits_meanwhile(
    story: &mut Story,
    name: String,
    times: usize,
    list: String,
    count: usize,
) {
    let den = story.room();
    let mut all = names(&list);
    all.push(name.clone());
    together(story, &all, async |who, member| {
        if who == name {
            for _ in 0..times {
                let update = member.prepare_update(&den).unwrap();
                member.commit(&update).await.unwrap();
                let shortly = Duration::from_millis(50);
                drop(member.run_until(shortly, |_| false).await);
            }
            return;
        }
        for number in 0..count {
            member.send(&den, &[&text(who, number)]).await.unwrap();
            drop(member.pump(Duration::from_millis(5)).await);
        }
    })
    .await;
}

fn text(name: &str, number: usize) -> String {
    format!("{name} {number:04}")
}

/// Checks that the messages of each sender came in their order, each once.
fn in_order(who: &str, received: &[&str]) {
    let mut last: BTreeMap<&str, &str> = BTreeMap::new();
    for text in received {
        let (sender, number) = text.split_once(' ').unwrap();
        let before = last.insert(sender, number).unwrap_or_default();
        assert!(before < number, "{who} got {text} after {before}");
    }
}

#[then(regex = r"^([\w, ]+) have received (\d+) messages, each sender's in order$")]
async fn all_in_order(story: &mut Story, list: String, count: usize) {
    let den = story.room();
    for name in names(&list) {
        story
            .wait(&name, "all messages", |member| {
                member.received(&den).len() >= count
            })
            .await;
        let received = story.member(&name).received(&den);
        assert_eq!(received.len(), count);
        in_order(&name, &received);
    }
    let mut orders = names(&list)
        .into_iter()
        .map(|name| story.members[&name].received(&den));
    let first = orders.next().unwrap();
    assert!(orders.all(|order| order == first), "one order for all");
}

#[then(regex = r"^(\w+) has received (\d+) messages of (\w+), in order$")]
async fn of_one_in_order(story: &mut Story, name: String, count: usize, sender: String) {
    let den = story.room();
    let all = |member: &Member| member.received(&den).len() >= count;
    story.wait(&name, "all messages", all).await;
    let said: Vec<String> = (0..count).map(|number| text(&sender, number)).collect();
    assert_eq!(story.member(&name).received(&den), said);
}

/// Sends messages until the lane breaks or there are enough, and never again; gives what was sent and acknowledged.
async fn stream(
    name: &str,
    member: &mut Member,
    den: &RoomUri,
    acknowledged: &AtomicUsize,
) -> (Vec<String>, Vec<String>) {
    let (mut sent, mut acked) = (Vec::new(), Vec::new());
    let Ok(mut lane) = member.door().unwrap().sends().await else {
        return (sent, acked);
    };
    while sent.len() < STREAM_MESSAGES_MAX {
        let begin = sent.len();
        for place in 0..STREAM_WINDOW {
            let text = text(name, begin + place);
            let first = member.encrypt(den, &[&text]).unwrap();
            let frames = member.frames(den, first);
            sent.push(text);
            if lane.send(&frames[0]).await.is_err() {
                return (sent, acked);
            }
        }
        for place in 0..STREAM_WINDOW {
            match lane.next_sent().await {
                Ok(Sent {
                    answer: Ok(Answer::Sent(_)),
                    ..
                }) => {
                    acked.push(sent[begin + place].clone());
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                }
                // The node is going down: nobody promised anything.
                Ok(_) | Err(_) => return (sent, acked),
            }
        }
    }
    (sent, acked)
}

#[when(regex = r"^([\w, ]+) stream messages and (\S+) is killed$")]
async fn stream_and_kill(story: &mut Story, list: String, provider: String) {
    let den = story.room();
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let mut net = story.net.take().unwrap();
    let kill = async {
        let enough = || {
            let now = acknowledged.load(Ordering::Relaxed);
            async move { (now >= STREAM_ACKNOWLEDGED).then_some(()) }
        };
        crate::support::until("enough acknowledgements", enough).await;
        net.node_mut(&provider).kill();
    };
    let list = names(&list);
    let streams = together(story, &list, async |name, member| {
        stream(name, member, &den, &acknowledged).await
    });
    let (results, ()) = tokio::join!(streams, kill);
    story.net = Some(net);
    for (sent, acked) in results {
        assert!(!acked.is_empty());
        story.messages.sent.extend(sent);
        story.messages.acknowledged.extend(acked);
    }
    assert!(
        story.messages.sent.len() < list.len() * STREAM_MESSAGES_MAX,
        "the node was killed when all was over"
    );
}

#[then(regex = r"^every acknowledged message is delivered to ([\w, ]+) exactly once$")]
async fn delivered_once(story: &mut Story, list: String) {
    let den = story.room();
    let acknowledged = story.messages.acknowledged.clone();
    for name in names(&list) {
        let mut member = story.take(&name);
        receive_all(story.net(), &mut member, &den, &acknowledged).await;
        let received = member.received(&den);
        let unique: BTreeSet<_> = received.iter().map(|text| (*text).to_owned()).collect();
        assert_eq!(unique.len(), received.len(), "{name} got some twice");
        let missing: Vec<_> = acknowledged.difference(&unique).collect();
        assert!(missing.is_empty(), "{name} lacks {missing:?}");
        let invented: Vec<_> = unique.difference(&story.messages.sent).collect();
        assert!(invented.is_empty(), "{name} got {invented:?}");
        in_order(&name, &received);
        story.members.insert(name, member);
    }
}

async fn receive_all(
    net: &Net,
    member: &mut Member,
    den: &RoomUri,
    acknowledged: &BTreeSet<String>,
) {
    wait(net, member, "all that was acknowledged", |member| {
        let received: BTreeSet<_> = member.received(den).into_iter().collect();
        acknowledged
            .iter()
            .all(|text| received.contains(text.as_str()))
    })
    .await;
}
