//! Claims on their way through a provider: of its clients, of peers for rooms here, of its users.

use super::{
    plan::NodeRef,
    post::{Back, ClaimFor, ClaimPart, PeerBack, Reply, Target, Task},
    route::UNAVAILABLE_RETRY_AFTER_MS,
    world::World,
};
use crate::{
    doors,
    ids::{ProviderId, UserUri},
    limits::CLAIM_USERS_MAX,
    user::{command::Command as UserCommand, outcome::Claimed},
    wire::{
        BVec,
        claim::{ClaimRequest, ClaimResponse, ClaimedUser, UserRefused},
        link,
        refusal::TryLater,
    },
};
use std::{collections::BTreeMap, sync::Arc};

impl World {
    pub(super) fn client_claims(
        &mut self,
        node: NodeRef,
        client: usize,
        request: u64,
        claim: ClaimRequest,
    ) {
        let asked = claim.users.clone().into_vec();
        let uri = self.clients[client].uri.clone();
        let Ok(parts) = doors::split_claim(&uri, claim) else {
            return;
        };
        let to = ClaimFor::Client { client, request };
        let ask = link::Request::Claim;
        self.claim_parts(node, to, asked, parts, ask);
    }

    /// A claim of a peer for a room here goes on to those whose users are wanted, if the peer is in the room.
    pub(super) fn relay_claim(
        &mut self,
        node: NodeRef,
        back: PeerBack,
        claim: ClaimRequest,
        knows: bool,
    ) {
        let asked = claim.users.clone().into_vec();
        if !knows {
            let users = doors::refuse_claim(&asked, UserRefused::NotRelayed);
            return self.respond(node, back, link::Reply::Claimed(users));
        }
        self.counts.one("claims passed on by the hub");
        self.history.relayed(claim.id);
        let parts = doors::relay_claim(claim);
        let to = ClaimFor::Peer(back);
        self.claim_parts(node, to, asked, parts, link::Request::Relayed);
    }

    /// Asks every provider for its part of a claim.
    fn claim_parts(
        &mut self,
        node: NodeRef,
        to: ClaimFor,
        asked: Vec<UserUri>,
        parts: BTreeMap<ProviderId, ClaimRequest>,
        ask: fn(ClaimRequest) -> link::Request,
    ) {
        let waiting = parts
            .iter()
            .map(|(whom, part)| ClaimPart {
                whom: whom.clone(),
                users: part.users.clone().into_vec(),
                claimed: None,
            })
            .collect();
        let task = self.begin(
            node,
            Task::ClaimParts {
                to,
                asked,
                parts: waiting,
            },
        );
        for (slot, (provider, part)) in parts.into_iter().enumerate() {
            if provider == *self.id(node.provider) {
                let life = self.life(node);
                let back = PeerBack {
                    node,
                    life,
                    task,
                    slot,
                };
                self.claim_here(node, back, &part);
            } else {
                self.ask_peer(node, &provider, task, slot, ask(part));
            }
        }
    }

    /// A claim of this provider's users.
    pub(super) fn claim_here(&mut self, node: NodeRef, back: PeerBack, request: &ClaimRequest) {
        let own = self.id(node.provider).clone();
        let parts = doors::claims(&own, request, &self.plan.rules);
        let users = parts
            .iter()
            .map(|(user, claim)| (user.clone(), claim.as_ref().err().map(|why| Err(*why))))
            .collect();
        let id = request.id;
        let task = self.begin(node, Task::Claim { id, back, users });
        let life = self.life(node);
        for (slot, (user, claim)) in parts.into_iter().enumerate() {
            if let Ok(claim) = claim {
                let target = Target::User(user, Arc::new(UserCommand::Claim(claim)));
                let back = Back::Task {
                    node,
                    life,
                    task,
                    slot,
                };
                self.ask_for(node, target, back);
            }
        }
        self.claim_goes_on(node, task);
    }

    /// Answers a claim whose every user has answered.
    pub(super) fn claim_goes_on(&mut self, node: NodeRef, task: u64) {
        let Some(is) = self.nodes.get_mut(&node) else {
            return;
        };
        let whole = matches!(
            is.tasks.get(&task),
            Some(Task::Claim { users, .. }) if users.iter().all(|(_, part)| part.is_some())
        );
        if whole && let Some(Task::Claim { id, back, users }) = is.tasks.remove(&task) {
            let nothing = || -> Claimed {
                Err(UserRefused::TryLater(TryLater::unavailable(
                    UNAVAILABLE_RETRY_AFTER_MS,
                )))
            };
            let users = users.into_iter().map(|(user, part)| ClaimedUser {
                user,
                result: part.unwrap_or_else(nothing),
            });
            let users: BVec<ClaimedUser, CLAIM_USERS_MAX> = BVec::truncated(users.collect());
            let response = ClaimResponse { users };
            // What is handed out counts, also when the answer is lost.
            self.history.claim_answered(id, &response);
            self.respond(node, back, link::Reply::Claimed(response));
        }
    }

    /// Answers a claim of which every provider has answered its part.
    pub(super) fn claim_parts_go_on(&mut self, node: NodeRef, task: u64) {
        let Some(is) = self.nodes.get_mut(&node) else {
            return;
        };
        let whole = matches!(
            is.tasks.get(&task),
            Some(Task::ClaimParts { parts, .. }) if parts.iter().all(|part| part.claimed.is_some())
        );
        if whole && let Some(Task::ClaimParts { to, asked, parts }) = is.tasks.remove(&task) {
            let claimed = parts
                .into_iter()
                .flat_map(|part| part.claimed.unwrap_or_default())
                .collect();
            let response = doors::merge_claim(&asked, claimed);
            match to {
                ClaimFor::Client { client, request } => {
                    self.reply(node, client, request, Reply::Claimed(response));
                }
                ClaimFor::Peer(back) => self.respond(node, back, link::Reply::Claimed(response)),
            }
        }
    }
}
