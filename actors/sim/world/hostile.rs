//! Somebody who sends frames in the name of one provider, beside that provider's own honest nodes.
//!
//! Everything that must get nowhere is told to the checkers beforehand.

use super::World;
use crate::sim::{
    mls::Intent,
    plan::NodeRef,
    post::{Body, End, Frame, Lane, Receiving},
};
use crate::{
    ids::{ClientUri, RoomUri},
    limits::SHARDS_MAX,
    machine::Millis,
    way::Slot,
    wire::{
        BVec, Payload,
        claim::{ClaimId, ClaimProof, ClaimRequest, ClaimTerms},
        event::{
            Body as Happened, CommitEvent, Epoch, Event, Invitation, Item, LinkSeq, RoomSeq,
            SubmitSeq,
        },
        link::{Ack, Fanout, FanoutGroup, OfShard, Request, Submit, SubmitGroup, Submitted},
        room,
    },
};
use bytes::Bytes;
use std::sync::Arc;

/// The shard in whose name the hostile node sends: one that its provider's honest nodes do not have.
const SHARD: u16 = SHARDS_MAX - 1;

impl World {
    /// Sends one hostile frame, as the roll says.
    pub(super) fn hostile(&mut self, roll: u64) {
        let hostile = (0_u8..)
            .zip(&self.plan.providers)
            .find(|(_, provider)| provider.hostile)
            .map(|(number, _)| number);
        let Some(hostile) = hostile else { return };
        let others: Vec<u8> = (0..self.providers.len() as u8)
            .filter(|other| *other != hostile)
            .collect();
        let Some(victim) = self.dice.pick(&others).copied() else {
            return;
        };
        let (Some(from), Some(to)) = (self.some_node(hostile), self.some_node(victim)) else {
            return;
        };
        self.counts.one("hostile frames");
        match roll % 9 {
            0 => self.forge_commit(from, to),
            1 => self.forge_proposal(from, to),
            2 => self.forge_messages(from, to),
            3 => self.forge_claim(from, to, roll),
            4 => self.forge_fanout(from, to, roll),
            5 => self.forge_invitation(from, to, roll),
            6 => self.forge_ack(hostile),
            7 => self.forge_judgement(hostile),
            _ => self.steal_messages(from, to),
        }
    }

    /// A member of a room who is no client of the hostile provider, and the room.
    fn somebody(&mut self, hostile: u8, hub: u8) -> Option<(usize, RoomUri)> {
        let hub = self.id(hub).clone();
        let known: Vec<(usize, RoomUri)> = self
            .clients
            .iter()
            .enumerate()
            .filter(|(_, client)| client.provider != hostile)
            .flat_map(|(number, client)| {
                let rooms = client.rooms.iter().filter(|(room, known)| {
                    *room.hub() == hub
                        && known.staged.is_none()
                        && client.member.epoch(room).is_some()
                });
                rooms.map(move |(room, _)| (number, room.clone()))
            })
            .collect();
        self.dice.pick(&known).cloned()
    }

    fn ask_as(&mut self, from: NodeRef, to: NodeRef, request: Request) {
        let life = self.life(from);
        let task = self.fresh();
        let slot = Slot(0);
        let body = Body::Request {
            life,
            task,
            slot,
            request,
        };
        self.send(End::Node(from), End::Node(to), body);
    }

    /// A good Commit of somebody else's client, which that client never sent.
    fn forge_commit(&mut self, from: NodeRef, to: NodeRef) {
        let Some((client, room)) = self.somebody(from.provider, to.provider) else {
            return;
        };
        let is = &mut self.clients[client];
        let Some(bundle) = is.member.commit(&room, &Intent::default()) else {
            return;
        };
        is.member.discard(&room);
        let sender = is.uri.clone();
        self.history.forged(&bundle.commit);
        let request = Request::Room {
            room,
            client: sender,
            request: room::Request::Commit(bundle),
        };
        self.ask_as(from, to, request);
    }

    fn forge_proposal(&mut self, from: NodeRef, to: NodeRef) {
        let Some((client, room)) = self.somebody(from.provider, to.provider) else {
            return;
        };
        let is = &mut self.clients[client];
        let Some(message) = is.member.propose(&room, &crate::sim::mls::Wish::Update) else {
            return;
        };
        let sender = is.uri.clone();
        self.history.forged(&message);
        let proposals = BVec::from([Payload(message)]);
        let request = Request::Room {
            room,
            client: sender,
            request: room::Request::Propose(proposals),
        };
        self.ask_as(from, to, request);
    }

    fn open_hostile_lane(&mut self, from: NodeRef, to: NodeRef) -> u64 {
        let number = self.fresh();
        let lane = Lane {
            sender: (from, self.life(from)),
            receiver: (to, self.life(to)),
            busy_until: [0; 2],
            receiving: Receiving::Nothing,
            heard: None,
            acks: 0,
        };
        self.lanes.insert(number, lane);
        number
    }

    /// A message of somebody else's client.
    fn forge_messages(&mut self, from: NodeRef, to: NodeRef) {
        let Some((client, room)) = self.somebody(from.provider, to.provider) else {
            return;
        };
        let sender = self.clients[client].uri.clone();
        self.submit_as(from, to, client, room, sender, SubmitSeq(1));
    }

    /// A message of somebody else, in the name of an own client that does not exist.
    fn steal_messages(&mut self, from: NodeRef, to: NodeRef) {
        let Some((client, room)) = self.somebody(from.provider, to.provider) else {
            return;
        };
        let own = self.id(from.provider).clone();
        let nobody = format!("mimi://{own}/d/nobody/1").parse::<ClientUri>();
        if let Ok(sender) = nobody {
            // A number far ahead: where the provider takes part, its own numbers are not disturbed.
            self.submit_as(from, to, client, room, sender, SubmitSeq(1 << 40));
        }
    }

    fn submit_as(
        &mut self,
        from: NodeRef,
        to: NodeRef,
        client: usize,
        room: RoomUri,
        sender: ClientUri,
        first: SubmitSeq,
    ) {
        let content = self.fresh();
        let Some(message) = self.clients[client].member.message(&room, content) else {
            return;
        };
        self.history.forged(&message);
        let group = SubmitGroup {
            room,
            sender,
            first,
            undecided: SubmitSeq(1),
            messages: BVec::from([Payload(message)]),
        };
        let submit = OfShard {
            shard: SHARD,
            session: 1,
            said: Submit {
                groups: BVec::from([group]),
            },
        };
        let lane = self.open_hostile_lane(from, to);
        self.send_frame(lane, from, Frame::Submit(Arc::new(submit)));
    }

    /// A claim for a user of somebody else.
    fn forge_claim(&mut self, from: NodeRef, to: NodeRef, roll: u64) {
        let number = self.dice.number();
        let mut id = [0xff; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        let id = ClaimId(id);
        let of = |provider: u8| {
            self.clients
                .iter()
                .find(|client| client.provider == provider)
                .map(|client| client.uri.clone())
        };
        let (Some(victim), Some(own)) = (of(to.provider), of(from.provider)) else {
            return;
        };
        let mut terms = ClaimTerms::new(own.user().clone());
        if roll.is_multiple_of(2) {
            terms.requester = victim.user().clone().into();
        } else {
            terms.asking_client = Some(victim.clone());
        }
        self.history.forged_claim(id);
        let users = self
            .clients
            .iter()
            .filter(|client| client.provider == to.provider)
            .map(|client| client.uri.user().clone());
        let users = BVec::first_max(users);
        let claim = ClaimRequest {
            id,
            terms,
            users,
            proof: ClaimProof::default(),
        };
        let request = match roll % 5 {
            0 => {
                let mut claim = claim;
                // A room of the hostile provider's own: only the one that is claimed for can tell.
                claim.terms.room = format!("mimi://{}/r/forged", own.provider()).parse().ok();
                claim.terms.asking_client = Some(victim.clone());
                claim.terms.requester = victim.user().clone().into();
                Request::Relayed(claim)
            }
            1 => {
                let mut claim = claim;
                claim.terms.room = format!("mimi://{}/r/1", to.provider).parse().ok();
                Request::Relayed(claim)
            }
            _ => Request::Claim(claim),
        };
        self.ask_as(from, to, request);
    }

    fn fan_out_as(
        &mut self,
        from: NodeRef,
        to: NodeRef,
        first: u64,
        room: RoomUri,
        body: Happened,
    ) {
        let event = Event {
            seq: RoomSeq(first),
            time: Millis(1),
            body,
        };
        let group = FanoutGroup {
            room,
            items: BVec::from([Item::Event(event)]),
        };
        let batch = OfShard {
            shard: SHARD,
            session: 1,
            said: Fanout {
                first: LinkSeq(first),
                groups: BVec::from([group]),
            },
        };
        let lane = self.open_hostile_lane(from, to);
        self.send_frame(lane, from, Frame::Fanout(Arc::new(batch)));
    }

    /// Events of a room of somebody else, or events that remove somebody else's clients.
    fn forge_fanout(&mut self, from: NodeRef, to: NodeRef, roll: u64) {
        let third = (0..self.providers.len() as u8)
            .find(|other| *other != from.provider && *other != to.provider);
        let rooms: Vec<RoomUri> = self.history.rooms.keys().cloned().collect();
        let Some(room) = self.dice.pick(&rooms).cloned() else {
            return;
        };
        let forged = Bytes::from(format!("forged {roll}"));
        if self.provider(room.hub()) != Some(from.provider) {
            let last = self.history.followed.get(&(to.provider, room.clone()));
            let next = last.map_or(1, |last| last.next().0);
            self.history.forged(&forged);
            let body = Happened::Application(Payload(forged));
            return self.fan_out_as(from, to, next, room, body);
        }
        let stranger = self
            .clients
            .iter()
            .find(|client| Some(client.provider) == third)
            .map(|client| client.uri.clone());
        if let Some(stranger) = stranger {
            let body = Happened::Commit(CommitEvent {
                epoch: Epoch(1),
                commit: Payload(forged),
                left: BVec::from([stranger]),
                entered: None,
                invitation: None,
            });
            self.fan_out_as(from, to, 1, room, body);
        }
    }

    /// A Welcome that nobody asked for, to a room that does not exist.
    fn forge_invitation(&mut self, from: NodeRef, to: NodeRef, roll: u64) {
        let hub = self.id(from.provider).clone();
        let guest = self
            .clients
            .iter()
            .find(|client| client.provider == to.provider)
            .map(|client| client.uri.clone());
        let room = format!("mimi://{hub}/r/trap{}", roll % 7).parse::<RoomUri>();
        if let (Some(guest), Ok(room)) = (guest, room) {
            let body = Happened::Invited(Invitation {
                epoch: Epoch(1),
                clients: BVec::from([guest]),
                welcome: Payload(Bytes::from_static(b"no Welcome")),
                tree: Payload(Bytes::from_static(b"no tree")),
            });
            self.fan_out_as(from, to, 1, room, body);
        }
    }

    /// A lane on which the hostile provider receives, and of whom it heard last there.
    fn receiving_lane(&mut self, hostile: u8) -> Option<(u64, NodeRef, (u16, u64))> {
        let lanes: Vec<(u64, NodeRef, (u16, u64))> = self
            .lanes
            .iter()
            .filter(|(_, lane)| lane.receiver.0.provider == hostile)
            .filter_map(|(number, lane)| Some((*number, lane.receiver.0, lane.heard?)))
            .collect();
        self.dice.pick(&lanes).copied()
    }

    /// An acknowledgement of what was never sent.
    fn forge_ack(&mut self, hostile: u8) {
        if let Some((lane, from, (shard, session))) = self.receiving_lane(hostile) {
            let said = Ack {
                upto: LinkSeq(1 << 40),
                refused: BVec::default(),
                credit_bytes: u32::MAX,
                retry_after_ms: None,
            };
            let ack = OfShard {
                shard,
                session,
                said,
            };
            self.send_frame(lane, from, Frame::Ack(ack));
        }
    }

    /// An answer to submissions that were never sent.
    fn forge_judgement(&mut self, hostile: u8) {
        if let Some((lane, from, (shard, session))) = self.receiving_lane(hostile) {
            for _ in 0..20 {
                let answer = OfShard {
                    shard,
                    session,
                    said: Submitted::default(),
                };
                self.send_frame(lane, from, Frame::Submitted(answer));
            }
        }
    }
}
