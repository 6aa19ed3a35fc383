//! `bench join`: many people follow one link into one room, each by an external Commit of its own. The hub lets one at a
//! time have the lease; the others wait in its queue.
//!
//! Source: transport requirements, sections 3.3 and 7.3.

use super::load;
use anyhow::{Context, bail, ensure};
use futures::stream::{self, StreamExt};
use mimi_actors::{
    ids::{ClientUri, RoomUri},
    wire::{event::Epoch, joining::CodeTerms, tree::TreeKind},
};
use mimi_client::member::{Member, PackageOptions, Ticket, join_again_after};
use mimi_operator::{
    output,
    protocol::{Request, Response},
};
use mimi_stage::{
    Stage,
    cast::{Cast, PATIENCE, user_uri},
};
use serde_json::{Value, json};
use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};
use tokio::{sync::Mutex, time::sleep};

/// Joiners between two lines of progress.
const PROGRESS_EVERY: usize = 50;

/// Arguments of `bench join`.
#[derive(Debug, clap::Args)]
pub(super) struct Join {
    /// People that follow the link
    #[arg(long, default_value_t = 1_000, value_parser = super::some::<usize>)]
    joiners: usize,
    /// Those that try at the same time
    #[arg(long, default_value_t = 32, value_parser = super::some::<usize>)]
    at_once: usize,
    /// Container in which they ask for the tree: full or zstd
    #[arg(long, default_value = "full", value_parser = container)]
    container: TreeKind,
    /// How long one of them tries, in seconds
    #[arg(long, default_value_t = 600, value_parser = super::some::<u64>)]
    patience_s: u64,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

fn container(name: &str) -> Result<TreeKind, String> {
    let mut whole = [TreeKind::Full, TreeKind::Zstd].into_iter();
    let found = whole.find(|kind| kind.name() == name);
    found.ok_or_else(|| "full or zstd".to_owned())
}

/// What the joiners met with.
#[derive(Default)]
struct Met {
    joined: AtomicUsize,
    /// Joiners that the hub would not have, or that tried too long.
    refused: AtomicUsize,
    /// Answers after which a joiner tried again.
    again: AtomicUsize,
}

impl Join {
    /// Measures and prints.
    pub(super) async fn run(self, program: &Path) -> anyhow::Result<()> {
        ensure!(self.joiners > 0 && self.at_once > 0, "at least one of each");
        output::progress("two providers, a room, a link");
        let mut stage = Stage::build(program, &['a', 'b'], 1, None).await?;
        let figures = self.measure(&mut stage).await?;
        stage.end().await?;
        load::print(&figures, self.json)?;
        ensure!(
            figures.get("refused") == Some(&json!(0)),
            "somebody was not let in"
        );
        Ok(())
    }

    async fn measure(&self, stage: &mut Stage) -> anyhow::Result<Value> {
        let mut cast = Cast::default();
        let usual = [("alice1", PackageOptions::default())];
        cast.enter(stage, 'a', "alice", &usual).await?;
        let room = RoomUri::new(&"a.example".parse()?, "bench")?;
        let alice = cast.get("alice1")?;
        alice.create_room(&room).await?;
        let (link, _) = alice.create_link(&room, CodeTerms::default()).await?;
        let ticket = Ticket {
            code: link.code,
            passphrase: None,
        };
        let mut joiners = Vec::with_capacity(self.joiners);
        for number in 0..self.joiners {
            if number % PROGRESS_EVERY == 0 {
                output::progress(&format!("{number} of {} joiners enrolled", self.joiners));
            }
            joiners.push(self.enrol(stage, number).await?);
        }
        let (met, last) = (Met::default(), Mutex::new(None));
        let began = Instant::now();
        stream::iter(joiners)
            .for_each_concurrent(self.at_once, |mut joiner| async {
                self.follow(&mut joiner, &room, &ticket, &met).await;
                // Only the one that came last is still needed: it shows whether all computed the same group.
                let mut last = last.lock().await;
                let later = |kept: &Member| kept.epoch(&room) < joiner.epoch(&room);
                if last.as_ref().is_none_or(later) {
                    *last = Some(joiner);
                }
            })
            .await;
        let seconds = began.elapsed().as_secs_f64();
        let joined = met.joined.load(Ordering::Relaxed);
        output::progress("the first member reads every Commit");
        let epoch = Epoch(joined as u64);
        let reached = |member: &Member| member.epoch(&room) == Some(epoch);
        let alice = cast.get("alice1")?;
        let patience = PATIENCE * 30;
        alice.run_until(patience, reached).await?;
        let last = last.into_inner().context("somebody joined")?;
        ensure!(
            alice.epoch_authenticator(&room) == last.epoch_authenticator(&room),
            "the first member and the last do not agree"
        );
        Ok(json!({
            "bench": "join",
            "joiners": self.joiners,
            "joined": joined,
            "at_once": self.at_once,
            "container": self.container.name(),
            "seconds": (seconds * 1_000.0).round() / 1_000.0,
            "joins_per_s": (joined as f64 / seconds * 10.0).round() / 10.0,
            "refused": met.refused.load(Ordering::Relaxed),
            "tried_again": met.again.load(Ordering::Relaxed),
            "members_who_agree": alice.members(&room).len(),
        }))
    }

    async fn enrol(&self, stage: &mut Stage, number: usize) -> anyhow::Result<Member> {
        let user = format!("user{number}");
        let add = Request::AddUser { user: user.clone() };
        let Response::UserAdded { enrolment_code, .. } = stage.ask('b', &add).await? else {
            bail!("no enrolment code for {user}");
        };
        let client = ClientUri::new(&user_uri('b', &user)?, "phone")?;
        let mut member = Member::create(client, None)?;
        let door = stage.door('b')?;
        member.connect(&stage.dialer, door).await?;
        member.enrol(&enrolment_code).await?;
        member.ask_trees_as(self.container);
        Ok(member)
    }

    /// One of them joins, or gives up.
    async fn follow(&self, joiner: &mut Member, room: &RoomUri, ticket: &Ticket, met: &Met) {
        let patience = Duration::from_secs(self.patience_s);
        let began = Instant::now();
        loop {
            let Err(error) = joiner.try_to_join(room, ticket).await else {
                let joined = met.joined.fetch_add(1, Ordering::Relaxed) + 1;
                if joined.is_multiple_of(PROGRESS_EVERY) {
                    output::progress(&format!("{joined} joined"));
                }
                return;
            };
            match join_again_after(&error) {
                Some(again_after) if began.elapsed() + again_after < patience => {
                    met.again.fetch_add(1, Ordering::Relaxed);
                    sleep(again_after).await;
                }
                Some(_) | None => {
                    output::progress(&format!("{} is not let in: {error}", joiner.client()));
                    met.refused.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
        }
    }
}
