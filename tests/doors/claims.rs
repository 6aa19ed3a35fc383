//! Concurrent claims on a provider of three nodes of which one is killed now and then: no KeyPackage goes to two
//! claims, and the same claim again gets the same packages.
//!
//! The default run plays some rounds; `ROUNDS=1000 cargo test --test doors -- --ignored --nocapture thousand_rounds` plays a thousand.
//! `SEED=n` plays the rounds of an earlier run again, as far as processes can.

use crate::support::{self, Net};
use mimi_actors::{
    ids::UserUri,
    wire::{
        Payload,
        claim::{ClaimId, ClaimResponse, ClaimTerms, UserRefused},
    },
};
use mimi_client::member::{Member, new_claim_id, packages};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

const A: &str = "a.example";
const B: &str = "b.example";
/// Packages handed out after which the clients upload more.
const REFILL_AFTER: usize = 100;
/// How long a claim may take while a node is down: until another one leads.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a claimer waits before it sends again what found nobody.
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// What the rounds have shown.
#[derive(Debug, Default)]
struct Shown {
    /// The claim that got each package.
    handed: BTreeMap<Payload, ClaimId>,
    claims: usize,
    retries: usize,
    sent_again: usize,
    kills: usize,
    exhausted: usize,
}

/// Claims until nobody is unavailable; says how often it was sent.
async fn claim(member: &Member, id: ClaimId, users: &[UserUri]) -> (ClaimResponse, usize) {
    let terms = ClaimTerms::new(member.client().user().clone());
    let deadline = Instant::now() + PATIENCE;
    for sent in 1.. {
        let asked = member.door().unwrap().claim(id, terms.clone(), users).await;
        if let Ok(answer) = asked {
            let mut rows = answer.users.iter();
            if rows.all(|row| !matches!(row.result, Err(UserRefused::TryLater(_)))) {
                return (answer, sent);
            }
        }
        assert!(Instant::now() < deadline, "no answer within {PATIENCE:?}");
        tokio::time::sleep(RETRY_AFTER).await;
    }
    unreachable!()
}

/// Uploads a hundred packages through whichever node answers.
async fn refill(net: &Net, member: &mut Member) {
    let doors: Vec<_> = net.of(B).map(|node| node.door).collect();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let connected = member.connect_to_any(&net.dialer, &doors).await.is_ok();
        if connected && member.upload(REFILL_AFTER).await.is_ok() {
            return;
        }
        assert!(Instant::now() < deadline, "no upload within {PATIENCE:?}");
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

impl Shown {
    /// Every package of an answer is this claim's, and no other's.
    fn add(&mut self, id: ClaimId, answer: &ClaimResponse) {
        for package in packages(answer) {
            let to = *self.handed.entry(package).or_insert(id);
            assert_eq!(to, id, "a KeyPackage went to two claims");
        }
        let clients = answer
            .users
            .iter()
            .flat_map(|row| row.result.iter().flatten());
        self.exhausted += clients.filter(|client| client.result.is_err()).count();
    }
}

async fn play(rounds: usize) {
    let seed = std::env::var("SEED").map_or_else(|_| rand::rng().random(), |s| s.parse().unwrap());
    println!("SEED={seed}, {rounds} rounds");
    let mut dice = StdRng::seed_from_u64(seed);
    let mut net = Net::prepare_clusters(&[(A, 1), (B, 3)], None);
    for node in net.nodes.values_mut() {
        for who in [
            "REQUESTER_ON_USER",
            "PROVIDER_ON_USER",
            "USER",
            "REQUESTER",
            "PROVIDER",
        ] {
            for what in ["BURST", "PER_MINUTE"] {
                let name = format!("MIMI_NODE__CLAIMS__{who}__{what}");
                node.env.push((name, "60000".to_owned()));
            }
        }
    }
    net.start_all().await;
    let mut claimers = Vec::new();
    for name in ["alice", "amy"] {
        claimers.push(net.member(name, "phone", A).await);
    }
    let mut owners = Vec::new();
    let mut users = Vec::new();
    for name in ["bobby", "betty"] {
        for client in ["one", "two"] {
            let mut owner = net.member(name, client, B).await;
            refill(&net, &mut owner).await;
            owners.push(owner);
        }
        users.push(support::user(name, B));
        for claimer in &claimers {
            net.any(B)
                .consent(name, claimer.client().user(), None)
                .await;
        }
    }
    let mut shown = Shown::default();
    let mut down: Option<String> = None;
    let mut since_refill = 0;
    for round in 0..rounds {
        let claims: Vec<(usize, ClaimId)> = (0..dice.random_range(2..=6))
            .map(|_| {
                (
                    dice.random_range(0..claimers.len()),
                    new_claim_id().unwrap(),
                )
            })
            .collect();
        // However the dice fall, there is a kill.
        let due = shown.kills == 0 && round >= rounds / 2;
        let kill = down.is_none() && (dice.random_range(0..8) == 0 || due);
        let after = Duration::from_millis(dice.random_range(0..15));
        let victim = format!("b{}", dice.random_range(1..=3));
        let under_way = claims
            .iter()
            .map(|(who, id)| claim(&claimers[*who], *id, &users));
        let killing = async {
            if kill {
                tokio::time::sleep(after).await;
                net.node_mut(&victim).kill();
            }
        };
        let (answers, ()) = futures::join!(futures::future::join_all(under_way), killing);
        if kill {
            shown.kills += 1;
            down = Some(victim);
        }
        for ((who, id), (answer, sent)) in claims.iter().zip(answers) {
            shown.claims += 1;
            shown.sent_again += sent - 1;
            shown.add(*id, &answer);
            since_refill += packages(&answer).len() / 4;
            let (again, _) = claim(&claimers[*who], *id, &users).await;
            assert_eq!(again, answer, "round {round}: a retry got something else");
            shown.retries += 1;
        }
        if since_refill > REFILL_AFTER / 2 {
            since_refill = 0;
            for owner in &mut owners {
                refill(&net, owner).await;
            }
        }
        if dice.random_range(0..2) == 0
            && let Some(name) = down.take()
        {
            net.node_mut(&name).start().await;
            net.led(B).await;
        }
    }
    if let Some(name) = down {
        net.node_mut(&name).start().await;
    }
    net.led(B).await;
    net.level(B).await;
    let Shown {
        handed,
        claims,
        retries,
        sent_again,
        kills,
        exhausted,
    } = shown;
    println!(
        "{rounds} rounds, {kills} kills: {claims} claims got {} packages, none twice; {retries} retries were equal, \
         {sent_again} claims were sent again for want of an answer, {exhausted} times there was none left",
        handed.len()
    );
    assert!(handed.len() > claims && kills > 0, "too little happened");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_package_goes_to_two_claims_and_retries_are_equal_while_nodes_are_killed() {
    play(30).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes about a quarter of an hour"]
async fn no_package_goes_to_two_claims_in_a_thousand_rounds() {
    let rounds = std::env::var("ROUNDS").map_or(1_000, |rounds| rounds.parse().unwrap());
    play(rounds).await;
}
