//! Begins the cluster, keeps addresses true, and brings each shard's leadership to where it should be: one shard at a time.
//!
//! openraft 0.9 cannot hand leadership over, so the leader steps down and votes for the node that should lead, which
//! stands at once. The shard accepts nothing meanwhile, for some tens of milliseconds.

use super::{
    Shard,
    placement::{preferred, voters},
    shards::Shards,
};
use crate::cluster::{
    mesh::{
        Mesh,
        frame::{Control, ControlAnswer},
    },
    raft::{group::Group, lead::Lead},
};
use mimi_actors::membership::{Address, Order};
use openraft::BasicNode;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// How long the nodes that should not lead a shard wait for the one that should to begin it.
const FOUND_AFTER: Duration = Duration::from_secs(3);
/// How often it is looked whether enough of the nodes are there to begin.
const FOUND_INTERVAL: Duration = Duration::from_millis(100);
/// How often it is looked at who leads what.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// For how many looks a leadership must be out of place before it is moved: a node that was just started catches up.
const LOOKS_BEFORE: u32 = 3;
/// After how many looks it is written down how far the other nodes are.
const LOOKS_PER_REACH: u64 = 5;
/// How long a request to another node may take.
const ASK_DEADLINE: Duration = Duration::from_secs(2);

/// Begins every shard of a new cluster of `nodes`, with their addresses, as soon as a majority of them is there.
///
/// Who is there was greeted: it begins the same cluster. A shard that one of them has a log of has begun already, and
/// comes from there.
pub(crate) async fn found(mesh: Arc<Mesh>, groups: Vec<Group>, nodes: BTreeMap<u64, String>) {
    let all: BTreeSet<u64> = nodes.keys().copied().collect();
    let others = all.iter().filter(|node| **node != mesh.me());
    while (others.clone().filter(|node| mesh.hears(**node)).count() + 1) * 2 <= all.len() {
        tokio::time::sleep(FOUND_INTERVAL).await;
    }
    let own = |shard: &(u16, &Group)| voters(shard.0, &all).first() == Some(&mesh.me());
    let (first, later): (Vec<_>, Vec<_>) = (0..).zip(&groups).partition(own);
    found_all(&mesh, &first, &nodes).await;
    tokio::time::sleep(FOUND_AFTER).await;
    // Whoever should have begun a shard is not there, or has gone again before the others heard of it; a majority can
    // begin without it. One that has begun is not begun again.
    while found_all(&mesh, &later, &nodes).await {
        tokio::time::sleep(FOUND_AFTER).await;
    }
}

/// Begins those of some shards that can be begun here; whether some others have not begun.
async fn found_all(mesh: &Mesh, groups: &[(u16, &Group)], nodes: &BTreeMap<u64, String>) -> bool {
    let all: BTreeSet<u64> = nodes.keys().copied().collect();
    let mut open = false;
    for (shard, group) in groups {
        let voting: BTreeSet<u64> = voters(*shard, &all).into_iter().collect();
        // Whoever does not vote in a shard cannot begin it.
        if !voting.contains(&mesh.me()) || group.is_founded().await {
            continue;
        }
        // It comes from the node that has its log.
        if mesh.has_begun(*shard) {
            open = true;
            continue;
        }
        let founders = nodes.iter().filter(|(node, _)| voting.contains(node));
        let founders = founders.map(|(node, address)| (*node, BasicNode::new(address.clone())));
        if let Err(error) = group.found(founders.collect()).await {
            tracing::error!(shard, %error, "a shard does not begin");
            open = true;
        }
    }
    open
}

/// Keeps leaderships in place, founding nodes that do not vote informed and addresses true, until the node stops.
/// `listed` are the nodes of the configuration; those that begin the cluster if it `founds` one.
pub(crate) async fn keep(
    mesh: Arc<Mesh>,
    shards: Shards,
    listed: BTreeMap<u64, String>,
    founds: bool,
) {
    let mut looks: BTreeMap<u16, u32> = BTreeMap::new();
    let mut belonged: BTreeSet<u64> = BTreeSet::new();
    let mut turn = tokio::time::interval(LOOK_INTERVAL);
    for look in 0_u64.. {
        turn.tick().await;
        if look % LOOKS_PER_REACH == 0 {
            mesh.remember_reach().await;
        }
        forget_leavers(&mesh, &shards, &mut belonged);
        if let Some(ahead_ms) = mesh.clock().apart_ms() {
            tracing::warn!(
                ahead_ms,
                "this node's clock is apart from the others': its leaderships go to them"
            );
            hand_on(&mesh, &shards).await;
        }
        let mut moved = false;
        for shard in shards.iter() {
            let Some(group) = mesh.group(shard.id) else {
                continue;
            };
            let lead = *shard.lead.borrow();
            if lead == Lead::Here {
                if founds {
                    inform(group, &listed).await;
                }
                readdress(&mesh, group, &listed).await;
            }
            let members = group.members();
            let should = preferred(shard.id, &members.voters) == Some(mesh.me());
            let Lead::At(leader) = lead else {
                looks.remove(&shard.id);
                continue;
            };
            // A node that pauses again and again must not draw leaderships to itself in between.
            if !should
                || group.is_disk_full()
                || !group.is_steady()
                || mesh.clock().apart_ms().is_some()
            {
                continue;
            }
            let seen = looks.entry(shard.id).or_default();
            *seen += 1;
            if *seen < LOOKS_BEFORE || moved {
                continue;
            }
            looks.remove(&shard.id);
            moved = true;
            let give = Control::Give { shard: shard.id };
            if mesh.control(leader, give, ASK_DEADLINE).await == Ok(ControlAnswer::Done) {
                tracing::info!(
                    shard = shard.id,
                    from = leader,
                    "takes the shard's leadership over"
                );
                group.take_over();
            }
        }
    }
}

/// Lets go of nodes that belonged to some shard and belong to none any more.
fn forget_leavers(mesh: &Mesh, shards: &Shards, belonged: &mut BTreeSet<u64>) {
    let groups = shards.iter().filter_map(|shard| mesh.group(shard.id));
    let members: Vec<BTreeSet<u64>> = groups
        .map(|group| group.members().addresses.into_keys().collect())
        .collect();
    // A shard that has not begun here says nothing about who belongs to the cluster, nor does one that this node was
    // let go from.
    if !members.iter().all(|members| members.contains(&mesh.me())) {
        return;
    }
    let members: BTreeSet<u64> = members.into_iter().flatten().collect();
    for node in belonged.difference(&members) {
        tracing::info!(node, "the node has left the cluster");
        mesh.forget(*node);
    }
    *belonged = members;
}

/// A cluster that begins with more nodes than vote: those that do not are taken in as learners, all in one change and
/// once. Whoever comes or goes later does so because an operator said so.
async fn inform(group: &Group, founders: &BTreeMap<u64, String>) {
    let members = group.members();
    let mut learners = founders.clone();
    learners.retain(|node, _| !members.addresses.contains_key(node));
    if learners.is_empty() || !group.is_as_founded() {
        return;
    }
    let added = group.add_learners(learners.clone()).await;
    if added.is_err() {
        tracing::warn!(
            ?learners,
            ?added,
            "nodes of the cluster are not taken in yet"
        );
    }
}

/// Where the configuration has another address of a member than the members have, and the member answers there, the
/// members are changed. A node is always right about itself.
async fn readdress(mesh: &Mesh, group: &Group, listed: &BTreeMap<u64, String>) {
    for (node, address) in group.members().addresses {
        let answers_at = if node == mesh.me() {
            Some(mesh.address().to_owned())
        } else {
            let neighbour = mesh.known_neighbour(node);
            let reached = neighbour.and_then(|neighbour| neighbour.reached_at());
            reached.filter(|reached| listed.get(&node) == Some(reached))
        };
        let Some(moved) = answers_at.filter(|at| *at != address) else {
            continue;
        };
        let Some(at) = Address::exact(&moved) else {
            continue;
        };
        let order = Order::Readdress { node, address: at };
        let done = group.order(order).await;
        tracing::info!(
            shard = group.shard(),
            node,
            from = address,
            to = moved,
            ?done,
            "a node is reached at another address"
        );
    }
}

/// Gives up every leadership of this node to whoever is furthest; returns when nothing is led here, or time is up.
pub(crate) async fn retire(mesh: &Mesh, shards: &Shards, deadline: Duration) {
    let led = hand_on(mesh, shards).await;
    let gone = async {
        for shard in led {
            let mut lead = shard.lead.subscribe();
            // A shard that is gone is led elsewhere.
            drop(lead.wait_for(|lead| matches!(lead, Lead::At(_))).await);
        }
    };
    if tokio::time::timeout(deadline, gone).await.is_err() {
        tracing::warn!("some shards have no other leader yet; their voters elect one");
    }
}

/// Gives up every leadership of this node to whoever is furthest; which were given up.
async fn hand_on<'a>(mesh: &Mesh, shards: &'a Shards) -> Vec<&'a Arc<Shard>> {
    let mut led = Vec::new();
    for shard in shards.iter().filter(|shard| shard.leads()) {
        let Some(group) = mesh.group(shard.id) else {
            continue;
        };
        let Some(to) = group.successor() else {
            continue;
        };
        if group.give_up(to).await == ControlAnswer::Done {
            let take = Control::Take { shard: shard.id };
            // A node that does not hear it elects by itself, a little later.
            let _ = mesh.control(to, take, ASK_DEADLINE).await;
            led.push(shard);
        }
    }
    led
}
