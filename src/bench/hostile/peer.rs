//! The hostile peer: what the hub reaches where the third provider was, and what dials the hub in its name.

use super::{
    Way,
    crowd::{self, Strangers},
};
use anyhow::Context;
use bytes::Bytes;
use mimi_actors::{
    ids::{ClientUri, ProviderId, RoomUri},
    limits::BATCH_FRAME_BYTES_MAX,
    wire::{
        self, BVec, Payload,
        event::{LinkSeq, SubmitSeq},
        link::{Ack, Fanout, Hello, OfShard, Open, Submit, SubmitGroup},
        version::{LINK, Release},
    },
};
use mimi_quic::{Identity, LaneReceiver, LaneSender, Link, LinkEndpoint, PeerTrust};
use mimi_stage::Stage;
use std::{collections::BTreeMap, net::SocketAddr, path::Path, sync::Arc, time::Duration};
use tokio::{
    runtime::{Builder, Runtime},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// How long a slow peer takes for each acknowledgement.
const SLOW: Duration = Duration::from_secs(1);
/// Rest of the peer between two turns of what it does again and again.
const REST: Duration = Duration::from_millis(5);
/// Messages in a frame of a flood.
const FLOOD_MESSAGES: usize = 64;
/// Length of each of them, in bytes.
const FLOOD_BYTES: usize = 1_024;

/// The hostile peer: what the hub reaches where the third provider was, and what dials the hub in its name.
pub(super) struct Peer {
    pub(super) way: watch::Sender<Way>,
    accepting: JoinHandle<()>,
    dialling: JoinHandle<()>,
    /// Strangers at the clients' door.
    coming: JoinHandle<()>,
    /// A thread of their own: what it costs to attack is not measured as what it costs to be honest.
    elsewhere: Option<Runtime>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(elsewhere) = self.elsewhere.take() {
            elsewhere.shutdown_background();
        }
    }
}

impl Peer {
    pub(super) fn start(stage: &mut Stage, flood: Flood) -> anyhow::Result<Self> {
        let mut elsewhere = Builder::new_multi_thread();
        let elsewhere = elsewhere.worker_threads(1).enable_all().build()?;
        let entered = elsewhere.enter();
        let (own, hub) = (stage.link('c')?, stage.link('a')?);
        let endpoint = Arc::new(endpoint(stage.pki(), own)?);
        let strangers = Strangers::new(&stage.pki().join("ca.crt"), stage.door('a')?)?;
        let way = watch::Sender::new(Way::Silent);
        let accepting = accept(Arc::clone(&endpoint), way.subscribe());
        let dialling = dial(endpoint, hub, way.subscribe(), flood);
        let (accepting, dialling) = (tokio::spawn(accepting), tokio::spawn(dialling));
        let coming = tokio::spawn(strangers.come(way.subscribe()));
        drop(entered);
        Ok(Self {
            accepting,
            dialling,
            coming,
            way,
            elsewhere: Some(elsewhere),
        })
    }

    pub(super) fn has_ended(&mut self) -> bool {
        let tasks = [&self.accepting, &self.dialling, &self.coming];
        tasks.iter().any(|task| task.is_finished())
    }
}

fn endpoint(pki: &Path, own: SocketAddr) -> anyhow::Result<LinkEndpoint> {
    let identity = Identity::load(&pki.join("c.example.crt"), &pki.join("c.example.key"))?;
    let trust = PeerTrust::Ca(pki.join("ca.crt"));
    let peers = BTreeMap::from([
        ("a.example".parse()?, trust.clone()),
        ("b.example".parse()?, trust),
    ]);
    Ok(LinkEndpoint::bind(own, &identity, &peers)?)
}

async fn accept(endpoint: Arc<LinkEndpoint>, way: watch::Receiver<Way>) {
    let mut links = JoinSet::new();
    while let Some(incoming) = endpoint.accept().await {
        let way = way.clone();
        links.spawn(async move {
            let Ok(link) = incoming.establish().await else {
                return;
            };
            let mut lanes = JoinSet::new();
            while let Ok((to, from)) = link.accept_lane().await {
                let way = way.clone();
                // A lane that ends early has nobody who waits for it.
                lanes.spawn(async move { drop(lane(to, from, way).await) });
            }
        });
        while links.try_join_next().is_some() {}
    }
}

/// Answers a lane of the hub.
async fn lane(
    mut to: LaneSender,
    mut from: LaneReceiver,
    way: watch::Receiver<Way>,
) -> anyhow::Result<()> {
    let open = from.next(BATCH_FRAME_BYTES_MAX, None).await?;
    let open = open.context("a lane begins")?;
    to.speak(LINK.spoken(&open));
    match wire::decode::<Open>(&open)? {
        Open::Control(_) => {
            to.write(&Hello::of(1, Release::OWN)).await?;
            while from.next(BATCH_FRAME_BYTES_MAX, None).await?.is_some() {}
        }
        Open::Fanout => take(to, from, way).await?,
        // The hub is of this release.
        Open::Request(_) | Open::Submit | Open::OneShard { .. } | Open::OneShardSubmits => {}
    }
    Ok(())
}

/// Takes fan-out in the way of the moment.
async fn take(
    mut to: LaneSender,
    mut from: LaneReceiver,
    way: watch::Receiver<Way>,
) -> anyhow::Result<()> {
    while let Some(frame) = from.next(BATCH_FRAME_BYTES_MAX, None).await? {
        let now = *way.borrow();
        match now {
            Way::Silent
            | Way::Floods
            | Way::Reconnects
            | Way::MadeUp
            | Way::Ghosts
            | Way::Claims
            | Way::Strangers
            | Way::Logins => {}
            Way::NoCredit => {
                tokio::time::sleep(SLOW).await;
                let OfShard {
                    shard,
                    session,
                    said: batch,
                } = wire::decode::<OfShard<Fanout>>(&frame)?;
                let items = batch.groups.iter().map(|group| group.items.len() as u64);
                let said = Ack {
                    upto: LinkSeq((batch.first.0 + items.sum::<u64>()).saturating_sub(1)),
                    refused: BVec::default(),
                    credit_bytes: 0,
                    retry_after_ms: None,
                };
                let ack = OfShard {
                    shard,
                    session,
                    said,
                };
                to.write(&ack).await?;
            }
            Way::Resets => {
                to.reset(1);
                from.stop(1);
                return Ok(());
            }
            Way::Garbage => to.send(Bytes::from(vec![0xff; 64])).await?,
        }
    }
    Ok(())
}

/// Messages that no room takes, frame after frame.
pub(super) struct Flood {
    room: RoomUri,
    sender: ClientUri,
    next: u64,
}

impl Flood {
    /// To a room, in the name of one of its members.
    pub(super) fn new(room: RoomUri, sender: ClientUri) -> Self {
        Self {
            room,
            sender,
            next: 1,
        }
    }

    fn frame(&mut self) -> Bytes {
        let first = SubmitSeq(self.next);
        self.next += FLOOD_MESSAGES as u64;
        let group = SubmitGroup {
            room: self.room.clone(),
            sender: self.sender.clone(),
            first,
            undecided: first,
            messages: BVec::first_max(vec![Payload::from(vec![6; FLOOD_BYTES]); FLOOD_MESSAGES]),
        };
        let submit = OfShard {
            shard: 0,
            session: 1,
            said: Submit {
                groups: BVec::from([group]),
            },
        };
        wire::encode(&submit)
    }
}

/// Dials the hub and does there what the way of the moment asks for.
async fn dial(
    endpoint: Arc<LinkEndpoint>,
    hub: SocketAddr,
    mut way: watch::Receiver<Way>,
    mut flood: Flood,
) {
    let Ok(peer) = "a.example".parse::<ProviderId>() else {
        return;
    };
    loop {
        let now = *way.borrow_and_update();
        let by_link = matches!(
            now,
            Way::Floods | Way::Garbage | Way::Reconnects | Way::MadeUp | Way::Ghosts | Way::Claims
        );
        if !by_link {
            if way.changed().await.is_err() {
                return;
            }
            continue;
        }
        if let Ok(link) = endpoint.connect(hub, &peer).await {
            // The hub may end a link that misbehaves; then it dials again.
            drop(attack(&link, now, &way, &mut flood).await);
            link.close(0, "gone");
        }
        tokio::time::sleep(REST).await;
    }
}

async fn attack(
    link: &Link,
    now: Way,
    way: &watch::Receiver<Way>,
    flood: &mut Flood,
) -> anyhow::Result<()> {
    let goes_on = || *way.borrow() == now;
    match now {
        Way::Garbage => {
            while goes_on() {
                let (mut to, mut from) = link.open_lane().await?;
                to.send(Bytes::from(vec![0xff; 64])).await?;
                to.finish()?;
                from.next(BATCH_FRAME_BYTES_MAX, None).await?;
                tokio::time::sleep(REST).await;
            }
        }
        Way::Floods => {
            let (mut to, mut from) = link.open_lane().await?;
            to.write(&Open::Submit).await?;
            while goes_on() {
                to.send(flood.frame()).await?;
                from.next(BATCH_FRAME_BYTES_MAX, None)
                    .await?
                    .context("the hub ended the lane")?;
            }
        }
        Way::MadeUp => crowd::ask_after_nobody(link, goes_on).await?,
        Way::Ghosts => crowd::welcome_nobody(link, goes_on).await?,
        Way::Claims => crowd::claim_unsigned(link, goes_on).await?,
        Way::Silent
        | Way::NoCredit
        | Way::Resets
        | Way::Reconnects
        | Way::Strangers
        | Way::Logins => {}
    }
    Ok(())
}
