//! Leads ways through the nodes of the world: questions go over its network, to its shards and its peers.
//!
//! What is asked and what is made of the answers is [`crate::way`]'s, as in a real node.

use super::{Event, REQUEST_DEADLINE_MS, World, route::LATER};
use crate::sim::{
    led::{End, Led},
    mls,
    plan::NodeRef,
    post::{Body, End as Side, Reply, Task},
};
use crate::{
    ids::ProviderId,
    user::outcome,
    way::{Ask, Came, House, Next, Slot, client::OfClient},
    wire::{
        claim::{ClaimId, ClaimedUser, UserRefused},
        door::{self, DoorRefused},
        link,
        refusal::{Refuses as _, Retry},
    },
};
use std::collections::BTreeMap;

impl World {
    /// What a way knows of a provider.
    pub(super) fn house(&self, provider: u8) -> House {
        House {
            own: self.id(provider).clone(),
            rules: self.plan.rules,
            later: LATER,
            group_of: mls::group_of(self.kind),
        }
    }

    /// Leads a client's request through a node, if it is the client's to make.
    pub(super) fn lead_client(
        &mut self,
        node: NodeRef,
        client: usize,
        request: u64,
        way: Result<OfClient, DoorRefused>,
        claim: Option<ClaimId>,
    ) {
        if let Ok(way) = way {
            let led = Led::Client {
                client,
                request,
                way,
            };
            self.lead(node, led, claim);
        }
    }

    /// Leads somebody's request through a node; `claim` names the claim that it is.
    pub(super) fn lead(&mut self, node: NodeRef, led: Led, claim: Option<ClaimId>) {
        let task = self.fresh();
        if let Some(is) = self.nodes.get_mut(&node) {
            let peers = BTreeMap::new();
            is.tasks.insert(task, Task::Way { led, claim, peers });
            self.walk(node, task);
        }
    }

    /// Something has come of a question.
    pub(super) fn came(&mut self, node: NodeRef, task: u64, slot: Slot, came: Came) {
        let is = self.nodes.get_mut(&node);
        if let Some(Task::Way { led, .. }) = is.and_then(|is| is.tasks.get_mut(&task)) {
            led.came(slot, came);
            self.walk(node, task);
        }
    }

    /// Another provider has replied to a question; one that was not asked is not listened to.
    pub(super) fn peer_replied(
        &mut self,
        node: NodeRef,
        from: u8,
        task: u64,
        slot: Slot,
        reply: link::Reply,
    ) {
        let is = self.nodes.get(&node);
        if let Some(Task::Way { peers, .. }) = is.and_then(|is| is.tasks.get(&task))
            && peers.get(&slot) == Some(&from)
        {
            self.came(node, task, slot, Came::Peer(reply));
        }
    }

    fn walk(&mut self, node: NodeRef, task: u64) {
        // What is answered at once walks on by itself, and may end here.
        while let Some(is) = self.nodes.get_mut(&node)
            && let Some(Task::Way { led, claim, .. }) = is.tasks.get_mut(&task)
        {
            match led.next() {
                Next::Ask(slot, ask) => self.ask_on_way(node, task, slot, ask),
                Next::Wait => return,
                Next::End(end) => {
                    let claim = *claim;
                    is.tasks.remove(&task);
                    return self.way_ends(node, end, claim);
                }
            }
        }
    }

    fn ask_on_way(&mut self, node: NodeRef, task: u64, slot: Slot, ask: Ask) {
        let life = self.life(node);
        let late = Event::Deadline {
            node,
            life,
            task,
            slot,
        };
        match ask {
            Ask::Shard(request) => self.ask_in_time(node, task, slot, request),
            Ask::Peer(provider, request) => {
                self.after(REQUEST_DEADLINE_MS, late);
                self.ask_peer(node, &provider, task, slot, request);
            }
            // Nothing is signed in this world.
            Ask::Signatures(request) => {
                let signed = vec![true; request.users.len()];
                self.came(node, task, slot, Came::Signatures(signed));
            }
            Ask::Packages(client, packages) => {
                let (kind, now) = (self.kind, self.clock(node));
                let check = |package| mls::check_package(kind, package, &client, now);
                let packages = packages.iter().map(check).collect();
                self.came(node, task, slot, Came::Packages(packages));
            }
            Ask::Pause { ms } => self.after(ms.into(), late),
        }
    }

    fn ask_peer(
        &mut self,
        node: NodeRef,
        to: &ProviderId,
        task: u64,
        slot: Slot,
        request: link::Request,
    ) {
        if let link::Request::Relayed(claim) = &request {
            self.counts.one("claims passed on by the hub");
            self.history.relayed(claim.id);
        }
        let Some(provider) = self.provider(to) else {
            return;
        };
        let is = self.nodes.get_mut(&node);
        if let Some(Task::Way { peers, .. }) = is.and_then(|is| is.tasks.get_mut(&task)) {
            peers.insert(slot, provider);
        }
        if let Some(to) = self.some_node(provider) {
            let life = self.life(node);
            let body = Body::Request {
                life,
                task,
                slot,
                request,
            };
            self.send(Side::Node(node), Side::Node(to), body);
        }
    }

    fn way_ends(&mut self, node: NodeRef, end: End, claim: Option<ClaimId>) {
        let (back, reply) = match end {
            End::Client(client, request, end) => {
                let reply = match end {
                    Ok(door::Reply::Room(answer)) => Reply::Room(answer),
                    Ok(door::Reply::Claimed(response)) => Reply::Claimed(response),
                    Ok(door::Reply::Uploaded(results)) => {
                        Reply::User(outcome::Answer::Uploaded(results.into_vec()))
                    }
                    Err(refused) if refused.refusal().retry == Retry::Never => {
                        Reply::Refused(refused)
                    }
                    Ok(_) | Err(_) => Reply::Unavailable,
                };
                return self.reply(node, client, request, reply);
            }
            End::Peer(back, reply) => (back, reply),
        };
        if let (link::Reply::Claimed(response), Some(id)) = (&reply, claim) {
            // What is handed out counts, also when the answer is lost.
            self.history.claim_answered(id, response);
            let unsigned = |user: &ClaimedUser| user.result == Err(UserRefused::Unsigned);
            if response.users.iter().any(unsigned) {
                self.counts.one("claims that nobody vouches for");
            }
        }
        if matches!(reply, link::Reply::Refused(_)) {
            self.counts.one("requests of a peer refused at the door");
        }
        self.respond(node, back, reply);
    }
}
