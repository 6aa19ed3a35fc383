//! Crowds: requests about people whom nobody knows, by a peer and by strangers at the clients' door.

use super::Way;
use anyhow::Context;
use futures::future::try_join_all;
use mimi_actors::{
    ids::{ClientUri, UserUri},
    limits::{
        BATCH_FRAME_BYTES_MAX, CLAIM_USERS_MAX, REQUEST_FRAME_BYTES_MAX, TREE_BYTES_MAX,
        WELCOME_BYTES_MAX,
    },
    machine::Millis,
    wire::{
        BVec, Payload,
        claim::{ClaimId, ClaimProof, ClaimRequest, ClaimTerms},
        door::{self, Login},
        event::{Body, Epoch, Event, Invitation, Item, LinkSeq, RoomSeq},
        link::{self, Fanout, FanoutGroup, OfShard},
    },
};
use mimi_quic::{DoorDialer, Link};
use std::{net::SocketAddr, path::Path, time::Duration};
use tokio::sync::watch;

/// Requests at a time.
const AT_A_TIME: usize = 32;
/// People who are welcomed at a time.
const GHOSTS: usize = 250;
/// Rest of a crowd between two turns.
const REST: Duration = Duration::from_millis(5);
/// How long strangers who were refused wait.
const REFUSED: Duration = Duration::from_millis(50);

fn device(provider: &str, number: usize) -> anyhow::Result<ClientUri> {
    Ok(format!("mimi://{provider}/d/nobody{number}/phone").parse()?)
}

/// Makes one request on a lane of its own, and takes its answer.
async fn ask(link: &Link, request: link::Request) -> anyhow::Result<()> {
    let (mut to, mut from) = link.open_lane().await?;
    to.write(&link::Open::Request(Box::new(request))).await?;
    to.finish()?;
    let answer = from.next(REQUEST_FRAME_BYTES_MAX, None).await?;
    answer.context("the hub answers").map(drop)
}

/// Asks whether keys are those of clients that nobody has.
pub(super) async fn ask_after_nobody(
    link: &Link,
    goes_on: impl Fn() -> bool,
) -> anyhow::Result<()> {
    let mut number = 0;
    while goes_on() {
        let mut asked = Vec::with_capacity(AT_A_TIME);
        for _ in 0..AT_A_TIME {
            number += 1;
            let client = device("a.example", number)?;
            let key = [7; 32];
            asked.push(ask(link, link::Request::Vouch { client, key }));
        }
        try_join_all(asked).await?;
    }
    Ok(())
}

/// Claims of a thousand people at a time, without a signature.
pub(super) async fn claim_unsigned(link: &Link, goes_on: impl Fn() -> bool) -> anyhow::Result<()> {
    let asking = device("c.example", 0)?;
    let users = (0..CLAIM_USERS_MAX)
        .map(|number| Ok(format!("mimi://a.example/u/nobody{number}").parse()?))
        .collect::<anyhow::Result<Vec<UserUri>>>()?;
    let users = BVec::first_max(users);
    let mut id = 0_u128;
    while goes_on() {
        let mut asked = Vec::with_capacity(AT_A_TIME);
        for _ in 0..AT_A_TIME {
            id += 1;
            let terms = ClaimTerms {
                asking_client: Some(asking.clone()),
                ..ClaimTerms::new(asking.user().clone())
            };
            let proof = ClaimProof {
                key: [7; 32],
                signatures: BVec::first_max(vec![Payload::from(vec![7; 64]); CLAIM_USERS_MAX]),
                ..ClaimProof::default()
            };
            let claim = ClaimRequest {
                id: ClaimId(id.to_be_bytes()),
                terms,
                users: users.clone(),
                proof,
            };
            asked.push(ask(link, link::Request::Claim(claim)));
        }
        try_join_all(asked).await?;
    }
    Ok(())
}

/// Welcomes people whom nobody has into one room after the other.
pub(super) async fn welcome_nobody(link: &Link, goes_on: impl Fn() -> bool) -> anyhow::Result<()> {
    let clients = (0..GHOSTS)
        .map(|number| device("a.example", number))
        .collect::<anyhow::Result<Vec<ClientUri>>>()?;
    let invitation = Invitation {
        epoch: Epoch(1),
        clients: BVec::first_max(clients),
        welcome: Payload::from(vec![7; WELCOME_BYTES_MAX]),
        tree: Payload::from(vec![9; TREE_BYTES_MAX]),
    };
    let (mut to, mut from) = link.open_lane().await?;
    to.write(&link::Open::Fanout).await?;
    let mut number = 0;
    while goes_on() {
        number += 1;
        let event = Event {
            seq: RoomSeq(1),
            time: Millis(1),
            body: Body::Invited(invitation.clone()),
        };
        let group = FanoutGroup {
            room: format!("mimi://c.example/r/ghosts{number}").parse()?,
            items: BVec::from([Item::Event(event)]),
        };
        let said = Fanout {
            first: LinkSeq(number),
            groups: BVec::from([group]),
        };
        let (shard, session) = (0, 1);
        to.write(&OfShard {
            shard,
            session,
            said,
        })
        .await?;
        from.next(BATCH_FRAME_BYTES_MAX, None)
            .await?
            .context("the hub ended the lane")?;
    }
    Ok(())
}

/// Strangers at the clients' door of the hub.
pub(super) struct Strangers {
    dialer: DoorDialer,
    door: SocketAddr,
}

impl Strangers {
    pub(super) fn new(ca: &Path, door: SocketAddr) -> anyhow::Result<Self> {
        let dialer = DoorDialer::new(ca)?;
        Ok(Self { dialer, door })
    }

    /// Comes whenever it is the way of the moment.
    pub(super) async fn come(self, mut way: watch::Receiver<Way>) {
        let mut number = 0;
        loop {
            let now = *way.borrow_and_update();
            if !matches!(now, Way::Strangers | Way::Logins) {
                if way.changed().await.is_err() {
                    return;
                }
                continue;
            }
            number += AT_A_TIME;
            let come = (0..AT_A_TIME).map(|place| self.once(now, number + place));
            let wait = if try_join_all(come).await.is_ok() {
                REST
            } else {
                // Refused, as it should be.
                REFUSED
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Connects, says who it is if that is the way, and goes.
    async fn once(&self, now: Way, number: usize) -> anyhow::Result<()> {
        let door = self
            .dialer
            .connect(self.door, &"a.example".parse()?)
            .await?;
        if now == Way::Logins {
            let login = door::Request::Login(Login {
                client: device("a.example", number)?,
                proof: Payload::from(vec![7; 64]),
            });
            let (mut to, mut from) = door.open_lane().await?;
            to.write(&door::Open::Request(Box::new(login))).await?;
            to.finish()?;
            from.next(REQUEST_FRAME_BYTES_MAX, None).await?;
        }
        door.close(0, "gone");
        Ok(())
    }
}
