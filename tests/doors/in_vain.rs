//! What a listed peer may have over time: what it asks for in vain stands in line, and the Welcomes and trees that it sends have
//! a rate in bytes. Others notice nothing, at one node and at three.

use crate::{
    stage::{A, B, Stage},
    support::{client, raw, room, user},
};
use mimi_actors::{
    limits::{
        ASKED_IN_VAIN_BURST_PER_PEER, ASKED_IN_VAIN_PER_MINUTE_PER_PEER, BATCH_FRAME_BYTES_MAX,
        CLAIM_USERS_MAX, CLAIMED_IN_VAIN_BURST_PER_USER, INVITED_BURST_PER_PEER, INVITED_BYTES,
        INVITED_PER_MINUTE_PER_PEER, TREE_BYTES_MAX, WELCOME_BYTES_MAX,
    },
    machine::Millis,
    wire::{
        self, BVec, Payload, Versioned,
        claim::{ClaimId, ClaimProof, ClaimRequest, ClaimTerms, UserRefused},
        event::{Body, Epoch, Event, Invitation, Item, LinkSeq, RoomSeq},
        link::{self, Ack, Fanout, FanoutGroup, OfShard},
    },
};
use mimi_client::member::new_claim_id;
use quinn::Connection;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How long an attack is watched.
const WATCHED: Duration = Duration::from_secs(4);
/// Connections of the peer, each with a lane.
const LANES: u16 = 2;
/// Rooms that begin on each of them: together nearly twice as many bytes as a peer may send at once.
const GHOSTS: u64 = 10;

fn framed(value: &impl Versioned) -> Vec<u8> {
    raw::frame(&wire::encode(value))
}

/// What a rate lets through in some time, rounded up to whole seconds.
fn allowed(burst: u32, per_minute: u32, time: Duration) -> u64 {
    u64::from(burst) + u64::from(per_minute) * (time.as_secs() + 1) / 60
}

async fn peer(stage: &Stage) -> Connection {
    let link = stage.net.any(A).link;
    raw::connect(&stage.peer(true), link, A).await.unwrap()
}

/// A claim of as many people as one may name, which nobody has signed.
fn unsigned(number: u128) -> Vec<u8> {
    let asking = client("eve", "phone", B);
    let users = (0..CLAIM_USERS_MAX).map(|number| user(&format!("nobody{number}"), A));
    let claim = ClaimRequest {
        id: ClaimId(number.to_be_bytes()),
        terms: ClaimTerms {
            asking_client: Some(asking.clone()),
            ..ClaimTerms::new(asking.user().clone())
        },
        users: BVec::first_max(users),
        proof: ClaimProof {
            key: [7; 32],
            signatures: BVec::first_max(vec![Payload::from(vec![7; 64]); CLAIM_USERS_MAX]),
            ..ClaimProof::default()
        },
    };
    framed(&link::Open::Request(Box::new(link::Request::Claim(claim))))
}

async fn claims_in_vain_at(nodes: u64) {
    let stage = Stage::of(nodes).await;
    let connection = peer(&stage).await;
    let begin = Instant::now();
    let mut asked = JoinSet::new();
    for number in 0..60 {
        let (connection, claim) = (connection.clone(), unsigned(number));
        asked.spawn(async move { raw::say(&connection, &claim).await });
    }
    let mut answered = 0_u64;
    let watch = async {
        while asked.join_next().await.is_some() {
            answered += 1;
        }
    };
    let (in_time, ()) = tokio::join!(tokio::time::timeout(WATCHED, watch), stage.nobody_notices());
    assert!(in_time.is_err(), "all were answered");
    let users = allowed(
        ASKED_IN_VAIN_BURST_PER_PEER,
        ASKED_IN_VAIN_PER_MINUTE_PER_PEER,
        begin.elapsed(),
    );
    // The last one that finds something left has all it asks for.
    let most = users / CLAIM_USERS_MAX as u64 + 1;
    let least = u64::from(ASKED_IN_VAIN_BURST_PER_PEER) / CLAIM_USERS_MAX as u64;
    assert!(
        (least..=most).contains(&answered),
        "{answered} of at most {most}"
    );
    drop(asked);
    stage.over().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_claims_in_vain_stands_in_line_and_nobody_else_notices() {
    claims_in_vain_at(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_claims_in_vain_stands_in_line_and_nobody_else_notices_at_three_nodes() {
    claims_in_vain_at(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_claims_in_vain_stands_in_line_and_others_do_not() {
    let stage = Stage::new().await;
    let mallory = stage.net.member("mallory", "phone", A).await;
    let nobody: Vec<_> = (0..CLAIM_USERS_MAX)
        .map(|number| user(&format!("nobody{number}"), A))
        .collect();
    let terms = || ClaimTerms::new(mallory.client().user().clone());
    let mut got_nothing = 0;
    let door = mallory.door().unwrap();
    let asking = async {
        loop {
            let answer = door
                .claim(new_claim_id().unwrap(), terms(), &nobody)
                .await
                .unwrap();
            let unknown = |result: &Result<_, _>| matches!(result, Err(UserRefused::Unknown));
            assert!(answer.users.iter().all(|row| unknown(&row.result)));
            got_nothing += 1;
        }
    };
    // It is told when to come again, or still stands in line.
    let ended = tokio::time::timeout(WATCHED, asking).await;
    assert!(ended.is_err());
    let most = CLAIMED_IN_VAIN_BURST_PER_USER as usize / CLAIM_USERS_MAX + 1;
    assert!((1..=most).contains(&got_nothing), "{got_nothing}");
    let own = stage.alice.client().user();
    let terms = ClaimTerms::new(own.clone());
    let door = stage.alice.door().unwrap();
    let answer = door
        .claim(new_claim_id().unwrap(), terms, &nobody)
        .await
        .unwrap();
    assert_eq!(answer.users.len(), CLAIM_USERS_MAX);
}

/// A lane of fan-out on which rooms begin one after the other, each with somebody whom nobody knows, and a Welcome and a tree
/// that are as large as they may be, until all were taken.
async fn ghosts(connection: Connection, shard: u16) {
    let (mut to, mut from) = connection.open_bi().await.unwrap();
    to.write_all(&framed(&link::Open::Fanout)).await.unwrap();
    for number in 1..=GHOSTS {
        let invitation = Invitation {
            epoch: Epoch(1),
            clients: BVec::from([client("nobody", "phone", A)]),
            welcome: vec![7; WELCOME_BYTES_MAX].into(),
            tree: vec![9; TREE_BYTES_MAX].into(),
        };
        let event = Event {
            seq: RoomSeq(1),
            time: Millis(1),
            body: Body::Invited(invitation),
        };
        let group = FanoutGroup {
            room: room(&format!("ghosts{shard}-{number}"), B),
            items: BVec::from([Item::Event(event)]),
        };
        let frame = OfShard {
            shard,
            session: 1,
            said: Fanout {
                first: LinkSeq(number),
                groups: BVec::from([group]),
            },
        };
        to.write_all(&framed(&frame)).await.unwrap();
        let mut length = [0; 4];
        from.read_exact(&mut length).await.unwrap();
        let length = u32::from_be_bytes(length) as usize;
        assert!(length <= BATCH_FRAME_BYTES_MAX);
        let mut ack = vec![0; length];
        from.read_exact(&mut ack).await.unwrap();
        let ack = wire::decode::<OfShard<Ack>>(&ack.into()).unwrap().said;
        assert_eq!((ack.upto, ack.refused.len()), (LinkSeq(number), 0));
    }
}

async fn ghosts_at(nodes: u64) {
    let stage = Stage::of(nodes).await;
    let begin = Instant::now();
    let mut lanes = JoinSet::new();
    for shard in 0..LANES {
        lanes.spawn(ghosts(peer(&stage).await, shard));
    }
    stage.nobody_notices().await;
    lanes.join_all().await;
    let each = (WELCOME_BYTES_MAX + TREE_BYTES_MAX).div_ceil(INVITED_BYTES);
    // The last one that each lane takes may come before its time.
    let waited_for = each as u64 * (GHOSTS - 1) * u64::from(LANES);
    let late = u32::try_from(waited_for).unwrap() - INVITED_BURST_PER_PEER;
    let least = Duration::from_secs(60) * late / INVITED_PER_MINUTE_PER_PEER;
    assert!(
        begin.elapsed() >= least,
        "{:?} of {least:?}",
        begin.elapsed()
    );
    stage.nobody_notices().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_welcomes_nobody_is_read_as_slowly_as_the_rate_says() {
    ghosts_at(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_welcomes_nobody_is_read_as_slowly_as_the_rate_says_at_three_nodes() {
    ghosts_at(3).await;
}
