//! What the check of one bundle costs a hub, by group size and container.
//!
//! The group is one of real members. So that a path has the length it has in a group that lives, one member below each
//! node beside Alice's path joins and commits once; the others are KeyPackages that never did.

use crate::clock::now;
use anyhow::{Context, ensure};
use mimi_actors::{
    ids::{ClientUri, RoomUri},
    limits::{ADDS_PER_COMMIT_MAX, AUDITED_MEMBERS_MAX},
    machine::Millis,
    mls::{
        check::{
            bundle::{Bundle, Terms, check_bundle},
            create::check_create,
            hub_senders::HubSenders,
        },
        tree::{
            cache::TreeCache,
            container::{Before, pack},
            view::GroupView,
        },
    },
    wire::{
        BVec, Payload,
        door::{DoorItem, HubSender, Open, Request, RoomBody, RoomEvent},
        encode,
        event::{InboxSeq, RoomSeq},
        post::{Notice, WelcomeNotice},
        room,
        tree::TreeKind,
    },
};
use mimi_client::member::{Member, PackageOptions, PreparedCommit};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

/// The containers that are measured.
pub(super) const CONTAINERS: [TreeKind; 4] = [
    TreeKind::Full,
    TreeKind::Zstd,
    TreeKind::Delta,
    TreeKind::DistributionService,
];
/// Commits whose checks are measured; the first warms up.
const COMMITS: usize = 10;

/// Bytes of a bundle on the wire.
pub(super) fn frame_bytes(room: &RoomUri, bundle: &Bundle) -> usize {
    let request = Request::Room(room.clone(), room::Request::Commit(bundle.clone()));
    encode(&Open::Request(Box::new(request))).len()
}

/// CPU time of this thread, in microseconds.
fn cpu_us() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

/// A group and the hub's view of it, without a network.
struct Group {
    room: RoomUri,
    alice: Member,
    /// Members who follow every Commit.
    others: Vec<Member>,
    view: GroupView,
    terms: Terms,
    seq: RoomSeq,
}

/// The figures of one size, one row for each container.
pub(super) fn measure(members: usize) -> anyhow::Result<Vec<Value>> {
    let mut group = Group::found(members)?;
    let caches = CONTAINERS.map(|_| TreeCache::new());
    let mut took: [Vec<f64>; 4] = Default::default();
    let mut bytes = [0; 4];
    for _ in 0..COMMITS {
        let prepared = group.alice.prepare_update(&group.room)?;
        let whole = Payload::from(prepared.tree.carried().to_vec());
        let before = Before::of(&group.view)?;
        for (place, kind) in CONTAINERS.into_iter().enumerate() {
            let mut bundle = prepared.bundle();
            bundle.tree = pack(&whole, kind, Some(&before), None)?;
            let terms = Terms {
                trees: caches.get(place).context("a cache for each")?.clone(),
                ..group.terms.clone()
            };
            let began = cpu_us();
            let checked = check_bundle(
                &group.view,
                &[],
                &bundle,
                group.alice.client(),
                now(),
                &terms,
            )?;
            let us = cpu_us() - began;
            ensure!(
                checked.audited == (members <= AUDITED_MEMBERS_MAX),
                "not audited"
            );
            took.get_mut(place).context("a list for each")?.push(us);
            *bytes.get_mut(place).context("a number for each")? = frame_bytes(&group.room, &bundle);
        }
        group.accept(&prepared, None)?;
    }
    let rows = CONTAINERS.into_iter().zip(took).zip(bytes);
    Ok(rows
        .map(|((kind, mut took), bytes)| {
            took.remove(0);
            took.sort_unstable_by(f64::total_cmp);
            let median = took.get(took.len() / 2).copied().unwrap_or_default();
            json!({
                "members": members,
                "container": kind.name(),
                "bytes": bytes,
                "hub_us": median.round(),
            })
        })
        .collect())
}

fn member(name: &str) -> anyhow::Result<Member> {
    let client: ClientUri = format!("mimi://a.example/d/{name}/1").parse()?;
    Ok(Member::create(client, None)?)
}

fn key_package(member: &mut Member) -> anyhow::Result<Payload> {
    let package = member.key_packages(1, &PackageOptions::default())?;
    Ok(Payload(package.into_iter().next().context("a KeyPackage")?))
}

impl Group {
    fn found(members: usize) -> anyhow::Result<Self> {
        let room: RoomUri = "mimi://a.example/r/bench".parse()?;
        let mut alice = member("alice")?;
        let hub = HubSender {
            provider: "a.example".parse()?,
            signature_key: alice.device().public(),
        };
        let opening = alice.prepare_room(&room, &hub)?;
        let created = check_create(
            &opening.group_info,
            &opening.tree,
            &HubSenders::new(&hub.provider, vec![hub.signature_key]),
            alice.client(),
            &Terms::default(),
        )?;
        let mut group = Self {
            room,
            alice,
            others: Vec::new(),
            view: created.view,
            terms: Terms {
                audited_members_max: AUDITED_MEMBERS_MAX,
                trees: TreeCache::new(),
                ..Terms::default()
            },
            seq: RoomSeq(0),
        };
        let mut number = 1;
        while number < members {
            let upto = members.min(number + ADDS_PER_COMMIT_MAX / 2);
            let packages: anyhow::Result<Vec<Payload>> = (number..upto)
                .map(|number| key_package(&mut member(&format!("u{number}"))?))
                .collect();
            let add = group.alice.prepare_add(&group.room, &packages?)?;
            group.accept(&add, None)?;
            number = upto;
        }
        group.fill(members)?;
        Ok(group)
    }

    /// Lets one member below each node beside Alice's path commit: the last that join take the places that are free.
    fn fill(&mut self, members: usize) -> anyhow::Result<()> {
        let places = (0..usize::BITS).map(|bit| 1_usize << bit);
        let places: Vec<usize> = places.take_while(|place| *place < members).collect();
        let gone: anyhow::Result<Vec<ClientUri>> = places
            .iter()
            .map(|place| Ok(format!("mimi://a.example/d/u{place}/1").parse()?))
            .collect();
        let remove = self.alice.prepare_remove(&self.room, &gone?)?;
        self.accept(&remove, None)?;
        let mut joining = Vec::new();
        let mut packages = Vec::new();
        for place in &places {
            let mut other = member(&format!("v{place}"))?;
            packages.push(key_package(&mut other)?);
            joining.push(other);
        }
        let add = self.alice.prepare_add(&self.room, &packages)?;
        self.accept(&add, Some(joining))?;
        for place in 0..self.others.len() {
            let other = self.others.get_mut(place).context("it joined")?;
            let update = other.prepare_update(&self.room)?;
            self.accept_of(&update, Some(place))?;
        }
        Ok(())
    }

    fn accept(
        &mut self,
        prepared: &PreparedCommit,
        joining: Option<Vec<Member>>,
    ) -> anyhow::Result<()> {
        self.accept_of(prepared, None)?;
        for mut other in joining.into_iter().flatten() {
            other.take(DoorItem::Inbox {
                seq: InboxSeq(1),
                room: self.room.clone(),
                notice: Notice::Joined {
                    after: self.seq,
                    welcome: Some(WelcomeNotice {
                        epoch: prepared.epoch,
                        welcome: prepared.welcome.clone().context("a Welcome")?,
                        tree: Payload::from(prepared.tree.carried().to_vec()),
                    }),
                },
            });
            ensure!(
                other.epoch(&self.room) == Some(prepared.epoch),
                "nobody joined"
            );
            self.others.push(other);
        }
        Ok(())
    }

    /// The hub takes a Commit, and everybody follows; of Alice or of the other in this place.
    fn accept_of(&mut self, prepared: &PreparedCommit, by: Option<usize>) -> anyhow::Result<()> {
        let sender = match by {
            None => self.alice.client().clone(),
            Some(place) => self
                .others
                .get(place)
                .context("it joined")?
                .client()
                .clone(),
        };
        let bundle = prepared.bundle();
        let checked = check_bundle(&self.view, &[], &bundle, &sender, now(), &self.terms)?;
        self.view = checked.next.after(&self.view)?;
        self.seq = self.seq.next();
        let event = RoomEvent {
            seq: self.seq,
            time: Millis(self.seq.0),
            own: None,
            body: RoomBody::Commit {
                epoch: prepared.epoch,
                commit: prepared.commit.clone(),
            },
        };
        for follower in self.others.iter_mut().chain([&mut self.alice]) {
            if *follower.client() == sender {
                follower.commit_accepted(&self.room)?;
            }
            follower.take(DoorItem::Room {
                room: self.room.clone(),
                events: BVec::from([event.clone()]),
            });
            ensure!(
                follower.epoch(&self.room) == Some(prepared.epoch),
                "left behind"
            );
        }
        Ok(())
    }
}
