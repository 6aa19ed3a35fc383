//! `bench claim`: KeyPackages of one provider claimed through another, of one user and of many; every claim is signed,
//! synced, and answered with packages, of which none is handed out twice.
//!
//! Source: transport requirements, section 3.1.

use super::load;
use anyhow::{bail, ensure};
use futures::stream::{self, StreamExt, TryStreamExt};
use mimi_actors::{
    ids::UserUri,
    limits::{CLIENTS_PER_USER_MAX, KEY_PACKAGES_PER_CLIENT_MAX},
    wire::{
        Payload,
        claim::{ClaimResponse, ClaimTerms, ClientRefused},
    },
};
use mimi_client::{
    door::DoorClient,
    member::{PackageOptions, new_claim_id},
};
use mimi_operator::{
    output,
    protocol::{Request, Response, Status},
};
use mimi_stage::{Stage, cast::Cast};
use serde_json::{Value, json};
use std::{collections::BTreeSet, path::Path, time::Instant};

/// KeyPackages in one upload of the preparation.
const UPLOAD: usize = 100;
/// The limits on claims are there against those who do what this bench does.
const UNLIMITED: &str = "[claims]
requester_on_user = { burst = 1000000, per_minute = 60000 }
provider_on_user = { burst = 1000000, per_minute = 60000 }
user = { burst = 1000000, per_minute = 60000 }
requester = { burst = 1000000, per_minute = 60000 }
provider = { burst = 1000000, per_minute = 60000 }
";

/// Arguments of `bench claim`.
#[derive(Debug, clap::Args)]
pub(super) struct Claim {
    /// Users of the many
    #[arg(long, default_value_t = 64, value_parser = super::some::<usize>)]
    users: usize,
    /// Clients of each user
    #[arg(long, default_value_t = 4, value_parser = super::some::<usize>)]
    clients: usize,
    /// KeyPackages of each client
    #[arg(long, default_value_t = 100, value_parser = super::some::<usize>)]
    packages: usize,
    /// Claims under way at a time
    #[arg(long, default_value_t = 16, value_parser = super::some::<usize>)]
    at_once: usize,
    /// Nodes of each provider; with three, every claim is synced on two of them
    #[arg(long, default_value_t = 1, value_parser = super::nodes)]
    nodes: u64,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// What one kind of load got.
struct Figures {
    claims: usize,
    packages: usize,
    duplicates: usize,
    seconds: f64,
    synced: bool,
}

impl Claim {
    /// Measures and prints.
    pub(super) async fn run(self, program: &Path) -> anyhow::Result<()> {
        ensure!(
            (1..=CLIENTS_PER_USER_MAX).contains(&self.clients),
            "--clients must be 1 to {CLIENTS_PER_USER_MAX}"
        );
        ensure!(
            (1..=KEY_PACKAGES_PER_CLIENT_MAX).contains(&self.packages),
            "--packages must be 1 to {KEY_PACKAGES_PER_CLIENT_MAX}"
        );
        ensure!(self.users > 0 && self.at_once > 0, "at least one of each");
        output::progress("two providers, users, clients");
        let mut stage =
            Stage::build_with(program, &['a', 'b'], self.nodes, None, UNLIMITED).await?;
        let figures = self.measure(&mut stage).await?;
        stage.end().await?;
        load::print(&figures, self.json)?;
        ensure!(
            figures.get("duplicates") == Some(&json!(0)),
            "a KeyPackage was handed out twice"
        );
        Ok(())
    }

    async fn measure(&self, stage: &mut Stage) -> anyhow::Result<Value> {
        let mut cast = Cast::default();
        let usual = [("alice1", PackageOptions::default())];
        let alice = cast.enter(stage, 'a', "alice", &usual).await?;
        let mut users = Vec::with_capacity(self.users + 1);
        for number in 0..=self.users {
            if number % 16 == 0 {
                output::progress(&format!("KeyPackages of {number} of {} users", self.users));
            }
            let name = format!("user{number}");
            users.push(self.enter(stage, &name, &alice).await?);
        }
        let door = cast.get("alice1")?.door()?;
        let (hot, many) = users.split_at(1);
        output::progress("one user, claimed again and again");
        let hot = self.claim(stage, door, hot).await?;
        output::progress("many users in each claim");
        let many = self.claim(stage, door, many).await?;
        let per_s = |count: usize, of: &Figures| (count as f64 / of.seconds).round();
        let shown = |of: &Figures| {
            json!({
                "claims": of.claims,
                "packages": of.packages,
                "claims_per_s": per_s(of.claims, of),
                "packages_per_s": per_s(of.packages, of),
                "duplicates": of.duplicates,
                "synced": of.synced,
            })
        };
        Ok(json!({
            "bench": "claim",
            "providers": 2,
            "nodes_per_provider": self.nodes,
            "users_per_claim": self.users,
            "clients_per_user": self.clients,
            "claims_at_once": self.at_once,
            "claims_per_s": per_s(many.claims, &many),
            "packages_per_s": per_s(many.packages, &many),
            "duplicates": hot.duplicates + many.duplicates,
            "hot_user": shown(&hot),
            "many_users": shown(&many),
        }))
    }

    /// Creates a user that lets alice claim, with its clients and their KeyPackages; none of them stays connected.
    async fn enter(
        &self,
        stage: &mut Stage,
        name: &str,
        alice: &UserUri,
    ) -> anyhow::Result<UserUri> {
        let mut cast = Cast::default();
        let devices: Vec<String> = (0..self.clients).map(|n| format!("{name}-{n}")).collect();
        let devices: Vec<(&str, PackageOptions)> = devices
            .iter()
            .map(|device| (device.as_str(), PackageOptions::default()))
            .collect();
        let user = cast.enter(stage, 'b', name, &devices).await?;
        let consent = Request::Consent {
            user: name.to_owned(),
            requester: alice.clone().into(),
            room: None,
            grant: Some(true),
        };
        stage.ask('b', &consent).await?;
        for (device, _) in devices {
            let member = cast.get(device)?;
            // It came with some.
            let mut left = self.packages.saturating_sub(Cast::PACKAGES);
            while left > 0 {
                let some = left.min(UPLOAD);
                ensure!(
                    member.upload(some).await? == some,
                    "packages were not taken"
                );
                left -= some;
            }
            member.disconnect();
        }
        Ok(user)
    }

    /// Claims of these users until nothing is left.
    async fn claim(
        &self,
        stage: &mut Stage,
        door: &DoorClient,
        users: &[UserUri],
    ) -> anyhow::Result<Figures> {
        let claims = self.packages.max(Cast::PACKAGES);
        let before = status(stage).await?;
        let began = Instant::now();
        let answers: Vec<ClaimResponse> = stream::iter(0..claims)
            .map(|_| claim_once(door, users))
            .buffer_unordered(self.at_once)
            .try_collect()
            .await?;
        let seconds = began.elapsed().as_secs_f64();
        let after = status(stage).await?;
        let mut packages = Vec::new();
        for answer in &answers {
            for user in &answer.users {
                let clients = user.result.as_ref().map_err(|refused| *refused)?;
                for client in clients {
                    match &client.result {
                        Ok(package) => packages.push(package),
                        Err(ClientRefused::Exhausted) => {}
                        Err(refused) => bail!("{}: {refused}", client.client),
                    }
                }
            }
        }
        let expected = claims * users.len() * self.clients;
        ensure!(
            packages.len() == expected,
            "{} packages were handed out of {expected}",
            packages.len()
        );
        let different: BTreeSet<&Payload> = packages.iter().copied().collect();
        Ok(Figures {
            claims,
            packages: packages.len(),
            duplicates: packages.len() - different.len(),
            seconds,
            synced: after.log_syncs > before.log_syncs && after.log_entries > before.log_entries,
        })
    }
}

/// One claim.
async fn claim_once(door: &DoorClient, users: &[UserUri]) -> anyhow::Result<ClaimResponse> {
    let terms = ClaimTerms::new(door.client().user().clone());
    Ok(door.claim(new_claim_id()?, terms, users).await?)
}

async fn status(stage: &mut Stage) -> anyhow::Result<Status> {
    let Response::Status(status) = stage.ask('b', &Request::Status).await? else {
        bail!("b.example does not say how it is");
    };
    Ok(status)
}
