//! Providers that the story plays itself: it writes down what they are told, and says what they would say.
//!
//! A provider that is told things is a [`Follower`]; one that says things is a raw QUIC connection with its certificate.

use super::{Story, names, support};
use crate::support::{
    raw::{self, frame},
    scripted::{Follower, Script},
    until,
};
use bytes::Bytes;
use cucumber::{given, then, when};
use mimi_actors::{
    ids::{ClientUri, UserUri},
    limits::LANE_FRAMES_UNACKED_MAX,
    machine::Millis,
    wire::{
        self, BVec, Payload, Versioned,
        event::{Body, Event, Item, LinkSeq, RoomSeq, SubmitSeq},
        link::{Ack, Fanout, FanoutGroup, OfShard, Open, Submit, SubmitGroup, Submitted},
    },
};
use mimi_client::member::Member;
use mimi_quic::LINK_ALPN;
use quinn::{Connection, RecvStream};
use std::{collections::BTreeMap, fmt, time::SystemTime};

/// Providers that are played, and what was sent in the name of others.
#[derive(Default)]
pub struct Played {
    followers: BTreeMap<String, Follower>,
    /// Frames of fan-out, as the hub would send them.
    frames: Vec<Fanout>,
}

impl fmt::Debug for Played {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.followers.keys()).finish()
    }
}

/// Ends a provider's node, and answers in its place.
async fn play(story: &mut Story, provider: &str) {
    let net = story.net_mut();
    let connected = async |net: &support::Net, wanted: bool| {
        let peers = net.node("a.example").status().await.peers;
        let row = peers.into_iter().find(|row| row.provider == provider);
        (row.unwrap().connected == wanted).then_some(())
    };
    assert!(net.node_mut(provider).terminate().await.success());
    until("a.example misses it", async || connected(net, false).await).await;
    let address = net.node(provider).link;
    let follower = Follower::start(net.dir.path(), provider, address);
    until("a.example finds it", async || connected(net, true).await).await;
    story.played.followers.insert(provider.to_owned(), follower);
}

#[given(regex = r"^(\S+\.example) is played, and has KeyPackages of ([\w, ]+)$")]
async fn is_played(story: &mut Story, provider: String, list: String) {
    play(story, &provider).await;
    for name in names(&list) {
        let mut device = match story.members.remove(&name) {
            Some(member) => member,
            None => {
                story
                    .users
                    .insert(name.clone(), support::user(&name, &provider));
                Member::create(support::client(&name, "phone", &provider), None).unwrap()
            }
        };
        story.played.followers[&provider].stock(&mut device, 2);
        story.members.insert(name, device);
    }
}

/// Looks at what a played provider has seen, until there is something to see.
async fn seen<T>(
    story: &Story,
    provider: &str,
    what: &str,
    look: impl Fn(&Script) -> Option<T>,
) -> T {
    let follower = &story.played.followers[provider];
    until(what, async || look(&follower.script())).await
}

#[then(regex = r"^(\S+\.example) was asked once, for ([\w, ]+)$")]
fn asked_once(story: &mut Story, provider: String, list: String) {
    let users: Vec<UserUri> = names(&list).iter().map(|name| story.user(name)).collect();
    let script = story.played.followers[&provider].script();
    assert_eq!(script.claims, [users]);
}

#[then(regex = r"^(\S+\.example) is sent the Commit of epoch (\d+)$")]
async fn has_commit(story: &mut Story, provider: String, epoch: u64) {
    let opens = |(_, item): &(_, Item)| match item {
        Item::Event(event) => {
            matches!(&event.body, Body::Commit(commit) if commit.epoch.0 == epoch)
        }
        _ => false,
    };
    seen(story, &provider, "the Commit", |script| {
        script.items.iter().any(opens).then_some(())
    })
    .await;
}

#[then(regex = r"^the Welcomes that (\S+\.example) was sent are for ([\w, ]+), with the tree$")]
fn welcomes(story: &mut Story, provider: String, list: String) {
    let clients: Vec<ClientUri> = names(&list)
        .iter()
        .map(|name| story.members[name].client().clone())
        .collect();
    let script = story.played.followers[&provider].script();
    let mut welcomed = Vec::new();
    for (_, item) in &script.items {
        let Item::Event(event) = item else { continue };
        let invitation = match &event.body {
            Body::Invited(invitation) => Some(invitation),
            Body::Commit(commit) => commit.invitation.as_ref(),
            _ => None,
        };
        if let Some(invitation) = invitation {
            assert!(!invitation.welcome.is_empty() && !invitation.tree.is_empty());
            welcomed.extend(invitation.clients.iter().cloned());
        }
    }
    assert_eq!(welcomed, clients);
}

#[then(regex = r"^(\S+\.example) is sent (\d+) proposals in one event$")]
async fn sent_proposals(story: &mut Story, provider: String, count: usize) {
    let bundle = |(_, item): &(_, Item)| match item {
        Item::Event(event) => match &event.body {
            Body::Proposals(proposals) => Some(proposals.len()),
            _ => None,
        },
        _ => None,
    };
    let bundles = seen(story, &provider, "the proposals", |script| {
        let bundles: Vec<usize> = script.items.iter().filter_map(bundle).collect();
        (!bundles.is_empty()).then_some(bundles)
    })
    .await;
    assert_eq!(bundles, [count]);
}

/// A connection to the provider `to`, with the certificate of `from`.
async fn connection(story: &Story, from: &str, to: &str) -> Connection {
    let net = story.net();
    let (certificate, key) = (
        net.path(&format!("{from}.crt")),
        net.path(&format!("{from}.key")),
    );
    let identity = Some((certificate.as_path(), key.as_path()));
    let dialer = raw::dialer(&net.ca(), LINK_ALPN, identity);
    raw::connect(&dialer, net.node(to).link, to).await.unwrap()
}

fn framed(value: &impl Versioned) -> Vec<u8> {
    frame(&wire::encode(value))
}

/// A frame of the one shard that sends here.
fn of_shard<T: Clone>(said: &T) -> OfShard<T> {
    OfShard {
        shard: 3,
        session: 1,
        said: said.clone(),
    }
}

/// Sends frames on a lane of their own, and gives the answer to each.
async fn exchange<T: Versioned>(
    connection: &Connection,
    open: &Open,
    frames: &[impl Versioned],
) -> Vec<T> {
    let (mut to, mut from) = connection.open_bi().await.unwrap();
    to.write_all(&framed(open)).await.unwrap();
    for one in frames {
        to.write_all(&framed(one)).await.unwrap();
    }
    let mut answers = Vec::new();
    while answers.len() < frames.len() {
        let answer = tokio::time::timeout(support::WAIT, read(&mut from)).await;
        answers.push(wire::decode(&answer.unwrap()).unwrap());
    }
    answers
}

async fn read(from: &mut RecvStream) -> Bytes {
    let mut length = [0; 4];
    from.read_exact(&mut length).await.unwrap();
    let mut body = vec![0; u32::from_be_bytes(length) as usize];
    from.read_exact(&mut body).await.unwrap();
    body.into()
}

/// What a member says, encrypted, which its own provider never hears.
fn said(member: &mut Member, den: &mimi_actors::ids::RoomUri, texts: &[&str]) -> Vec<Payload> {
    let first = member.encrypt(den, texts).unwrap();
    let frames = member.frames(den, first).into_iter();
    frames.flat_map(|frame| frame.messages.into_vec()).collect()
}

/// Frames that bring messages to the provider of a member that has read everything so far.
#[when(
    regex = r"^(\w+) says (\d+) messages, which the story brings (\w+)'s provider in (\d+) frames$"
)]
async fn brings(story: &mut Story, name: String, count: usize, reader: String, frames: usize) {
    let den = story.room();
    let texts: Vec<String> = (0..count)
        .map(|number| format!("{name} {number:04}"))
        .collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let messages = said(story.member(&name), &den, &texts);
    assert_eq!(messages.len(), count);
    let reader = story.member(&reader);
    let (after, to) = (
        reader.last_seq(&den),
        reader.client().provider().to_string(),
    );
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let time = Millis(u64::try_from(now.unwrap().as_millis()).unwrap());
    let event = |(number, message): (u64, &Payload)| {
        Item::Event(Event {
            seq: RoomSeq(after.0 + number),
            time,
            body: Body::Application(message.clone()),
        })
    };
    let items: Vec<Item> = (1..).zip(&messages).map(event).collect();
    let each = count / frames;
    assert!(frames <= LANE_FRAMES_UNACKED_MAX);
    let batch = |(number, items): (u64, &[Item])| Fanout {
        first: LinkSeq(1 + number * each as u64),
        groups: BVec::from([FanoutGroup {
            room: den.clone(),
            items: BVec::try_from(items.to_vec()).unwrap(),
        }]),
    };
    story.played.frames = (0..).zip(items.chunks(each)).map(batch).collect();
    assert_eq!(story.played.frames.len(), frames);
    send_frames(story, &to).await;
}

/// Sends the frames, and sees that each is acknowledged once, up to its last event, and nothing of it is refused.
async fn send_frames(story: &mut Story, to: &str) {
    let hub = story.room().hub().to_string();
    let connection = connection(story, &hub, to).await;
    let frames = &story.played.frames;
    let sent: Vec<_> = frames.iter().map(of_shard).collect();
    let acks: Vec<OfShard<Ack>> = exchange(&connection, &Open::Fanout, &sent).await;
    let upto = |frame: &Fanout| {
        let items: usize = frame.groups.iter().map(|group| group.items.len()).sum();
        frame.first.0 + items as u64 - 1
    };
    let told: Vec<u64> = acks.iter().map(|ack| ack.said.upto.0).collect();
    let sent: Vec<u64> = frames.iter().map(upto).collect();
    assert_eq!(told, sent);
    for OfShard { said: ack, .. } in acks {
        assert!(
            ack.refused.is_empty() && ack.retry_after_ms.is_none(),
            "{ack:?}"
        );
    }
}

/// The same, and the receiver is gone with its last word.
#[when(
    regex = r"^(\w+) says (\d+) messages, which the story brings (\w+)'s provider in (\d+) frames, and kills it with the last acknowledgement$"
)]
async fn brings_and_kills(
    story: &mut Story,
    name: String,
    count: usize,
    reader: String,
    frames: usize,
) {
    let to = story.user(&reader).provider().to_string();
    brings(story, name, count, reader, frames).await;
    story.net_mut().node_mut(&to).kill();
}

#[when(regex = r"^the story brings (\S+\.example) the same frames again$")]
async fn brings_again(story: &mut Story, to: String) {
    send_frames(story, &to).await;
}

/// A submission as the sender's provider would send it, which does not run.
#[when(regex = r#"^(\w+) says "([^"]+)", which the story submits to (\S+\.example) (\d+) times$"#)]
async fn submits(story: &mut Story, name: String, text: String, hub: String, times: usize) {
    let den = story.room();
    let member = story.member(&name);
    let messages = said(member, &den, &[&text]);
    let sender = member.client().clone();
    let provider = sender.provider().to_string();
    let submit = Submit {
        groups: BVec::from([SubmitGroup {
            room: den,
            sender,
            first: SubmitSeq(1),
            undecided: SubmitSeq(1),
            messages: BVec::try_from(messages).unwrap(),
        }]),
    };
    let connection = connection(story, &provider, &hub).await;
    let mut states = Vec::new();
    for _ in 0..times {
        let frames = [of_shard(&submit)];
        let told: Vec<OfShard<Submitted>> = exchange(&connection, &Open::Submit, &frames).await;
        assert_eq!(told, [of_shard(&Submitted::default())]);
        states.push(story.net().node(&hub).settled().await);
    }
    states.dedup();
    assert_eq!(states.len(), 1, "what came again changed something");
}
