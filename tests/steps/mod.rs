//! The steps of the stories, and what a story remembers.
#![allow(
    unreachable_pub,
    dead_code,
    missing_docs,
    clippy::wildcard_enum_match_arm,
    reason = "tests stop at what they did not expect"
)]

mod behind;
mod claim;
mod claim_rules;
mod clocks;
mod cluster;
mod codes;
mod commit;
mod consent;
mod copies;
mod departed;
mod disks;
mod entering;
mod fanout;
mod forged;
mod intruder;
mod joining;
mod lanes;
mod membership;
mod message;
mod nemesis;
mod operate;
mod played;
mod policy;
mod resources;
mod setting;
mod trees;

use crate::support::{self, Net, WAIT};
use mimi_actors::{
    ids::{PseudonymUri, RoomUri, UserUri},
    wire::{
        Payload,
        claim::{ClaimRequest, ClaimResponse},
    },
};
use mimi_client::{
    door::DeviceKey,
    member::{Member, MemberError, PreparedCommit},
};
use std::{collections::BTreeMap, fmt::Write as _, time::Instant};
use tokio::sync::OwnedSemaphorePermit;

/// What happens in one scenario.
#[derive(cucumber::World, Debug, Default)]
pub struct Story {
    /// The scenario, for what is printed: others may run at the same time.
    name: String,
    net: Option<Net>,
    /// Each device by the name it has in the story.
    members: BTreeMap<String, Member>,
    users: BTreeMap<String, UserUri>,
    room: Option<RoomUri>,
    rooms: Vec<RoomUri>,
    claims: Vec<ClaimResponse>,
    /// KeyPackages that were claimed and not used yet.
    packages: Vec<Payload>,
    asked: Option<ClaimRequest>,
    /// The key of somebody's pseudonym.
    pseudonym: Option<(DeviceKey, PseudonymUri)>,
    uploaded_at: Option<Instant>,
    contest: commit::Contest,
    prepared: BTreeMap<String, PreparedCommit>,
    answers: Vec<commit::Outcome>,
    /// References of Proposals that were taken.
    proposed: Vec<Payload>,
    messages: message::Messages,
    /// Items that were sent, by a hub to a provider or by members to a room.
    sent: Option<u64>,
    hashes: BTreeMap<String, Vec<String>>,
    /// Members whose journal may hold what should not have happened.
    astray: Vec<String>,
    joining: joining::Joining,
    played: played::Played,
    /// Where members say that their trees lie.
    trees: trees::Place,
    /// Watched members, in a story of several nodes.
    stage: Option<cluster::Stage>,
    copies: copies::Copies,
    /// The commands of an operator.
    desk: operate::Desk,
    resources: resources::Resources,
    /// The disks of the nodes, where each has its own; unmounted when the nodes have ended.
    disks: disks::Disks,
    /// Parts of lines that nodes must write because of what is done to them, though they say that something broke.
    announced: Vec<&'static str>,
    /// Given back when the nodes have ended.
    turn: Option<OwnedSemaphorePermit>,
}

impl Story {
    /// The scenario begins; its turn is over with it.
    pub fn begin(&mut self, name: &str, turn: OwnedSemaphorePermit) {
        name.clone_into(&mut self.name);
        self.turn = Some(turn);
    }

    /// Prints something for people.
    fn print(&self, text: impl std::fmt::Display) {
        println!("[{}] {text}", self.name);
    }

    fn net(&self) -> &Net {
        self.net.as_ref().expect("there are providers")
    }

    fn net_mut(&mut self) -> &mut Net {
        self.net.as_mut().expect("there are providers")
    }

    /// Whether a request that finds somebody unavailable should be sent again: a node that came back is found again
    /// with the first packet to it.
    fn everybody_runs(&self) -> bool {
        self.net().nodes.values().all(support::Node::runs)
    }

    /// The nodes and the watched members.
    fn stage(&mut self) -> (&mut Net, &mut cluster::Stage) {
        let net = self.net.as_mut().expect("there are providers");
        let stage = self.stage.as_mut().expect("somebody is watched");
        (net, stage)
    }

    fn room(&self) -> RoomUri {
        self.room.clone().expect("there is a room")
    }

    fn member(&mut self, name: &str) -> &mut Member {
        self.members
            .get_mut(name)
            .unwrap_or_else(|| panic!("nobody is called {name}"))
    }

    /// Takes a member out, for a task of its own.
    fn take(&mut self, name: &str) -> Member {
        self.members
            .remove(name)
            .unwrap_or_else(|| panic!("nobody is called {name}"))
    }

    fn user(&self, name: &str) -> UserUri {
        self.users
            .get(name)
            .unwrap_or_else(|| panic!("no user is called {name}"))
            .clone()
    }

    /// Waits until the condition holds for a member; connects it again when its connection is lost.
    async fn wait(&mut self, name: &str, what: &str, condition: impl Fn(&Member) -> bool) {
        let mut member = self.take(name);
        wait(self.net(), &mut member, what, condition).await;
        self.members.insert(name.to_owned(), member);
    }

    /// Connects the members again whose provider was away.
    async fn reconnect(&mut self, provider: &str) {
        let net = self.net.as_ref().expect("there are providers");
        for member in self.members.values_mut() {
            if member.client().provider().as_str() == provider {
                net.reconnect(member).await;
            }
        }
    }

    /// Restarts a provider with these keys of a section of its configuration, as its environment has them.
    async fn restart_with(&mut self, provider: &str, section: &str, keys: &[(&str, &str)]) {
        let node = self.net_mut().node_mut(provider);
        node.kill();
        for (key, value) in keys {
            let name = format!("MIMI_NODE__{section}__{key}").to_uppercase();
            node.env.push((name, (*value).to_owned()));
        }
        self.net_mut().restart(provider).await;
        self.reconnect(provider).await;
    }

    /// What is wrong at the end, and the nodes' logs if anything is.
    pub fn end(&mut self, passed: bool) -> Vec<String> {
        let mut wrong = Vec::new();
        if let Some(net) = &self.net {
            let announced = |line: &String| self.announced.iter().any(|said| line.contains(said));
            wrong.extend(net.errors().into_iter().filter(|line| !announced(line)));
            let watched = self.stage.iter().flat_map(cluster::Stage::members);
            for (name, member) in self.members.iter().chain(watched) {
                let counts = member.counts();
                let faults: Vec<_> = member.faults().collect();
                let clean = faults.is_empty() && counts.gaps == 0 && counts.dropped == 0;
                if !clean && !self.astray.contains(name) {
                    wrong.push(format!("{name}: {counts:?} {faults:?}"));
                }
            }
            if !passed || !wrong.is_empty() {
                let mut text = format!("ended like this:\n{}", net.tails());
                for (name, member) in &self.members {
                    let (counts, verdicts) = (member.counts(), member.verdicts_of_all());
                    writeln!(text, "{name}: {counts:?} {verdicts:?}").unwrap();
                }
                self.print(text);
            }
        }
        if passed { wrong } else { Vec::new() }
    }
}

trait AllVerdicts {
    fn verdicts_of_all(&self) -> Vec<String>;
}

impl AllVerdicts for Member {
    fn verdicts_of_all(&self) -> Vec<String> {
        self.rooms()
            .map(|room| {
                let verdicts = self.verdicts(room).len();
                format!("{room} at {:?}, {verdicts} verdicts", self.epoch(room))
            })
            .collect()
    }
}

/// As [`Story::wait`], for a member that was taken out.
async fn wait(net: &Net, member: &mut Member, what: &str, condition: impl Fn(&Member) -> bool) {
    let deadline = Instant::now() + WAIT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match member.run_until(left, &condition).await {
            Ok(()) => return,
            Err(MemberError::Door(_) | MemberError::NotConnected) => net.reconnect(member).await,
            Err(error) => panic!(
                "{} waited for {what}: {error}; {:?}, verdicts {:?}",
                member.client(),
                member.counts(),
                member.verdicts_of_all(),
            ),
        }
    }
}

/// The names in a list like `alice, bob and carol`.
fn names(list: &str) -> Vec<String> {
    list.split([',', ' '])
        .filter(|name| !name.is_empty() && *name != "and")
        .map(str::to_owned)
        .collect()
}

/// The texts in a list like `"one", "two" and "three"`.
fn texts(list: &str) -> Vec<String> {
    list.split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// How long a client waits before it sends again what found somebody unavailable.
const RETRY_AFTER: std::time::Duration = std::time::Duration::from_millis(100);
