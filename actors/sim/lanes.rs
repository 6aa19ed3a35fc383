//! The lanes between providers: sessions at the leader of a shard, frames on their way, and their receivers.
//!
//! What a session may send, and what it makes of an answer, is [`crate::link::session`]'s; what a receiver does with a
//! frame is [`crate::way::receive`]'s.

use super::{
    node::{FanoutSession, SubmitSession},
    plan::NodeRef,
    post::{Back, Body, End, Frame, Lane, Receiving, Target},
    route::LATER,
    world::{Event, World},
};
use crate::{
    limits::CREDIT_BYTES_FIRST,
    link::{
        Peer,
        session::{Broken, FanoutSender, SubmitSender, Turn},
    },
    record::Command,
    room::{
        follower,
        outcome::{Answer, Refused},
    },
    shard::read,
    shard_request::{ShardReply, ShardRequest},
    way::{
        Slot,
        receive::{FanoutLane, SubmitLane},
        submit::rejects,
    },
    wire::{
        event::LinkSeq,
        link::{Ack, Fanout, Submit, Submitted},
    },
};
use std::sync::Arc;

impl World {
    /// What a leader does for its links from time to time.
    pub(super) fn look_after_links(&mut self, node: NodeRef, shard: u16) {
        let mut acks = Vec::new();
        let providers = self.providers.clone();
        // What is refused for want of room is recorded later.
        let full = self.is_full(node);
        if let Some(own) = self.shard_mut(node, shard).filter(|_| !full) {
            for (peer, session) in &mut own.fanouts {
                if session.sender.has_to_record() {
                    let peer = Peer::Provider(providers[usize::from(*peer)].clone());
                    acks.push(session.sender.record(peer));
                }
            }
        }
        if self.calm {
            acks.extend(self.redrives(node, shard));
        }
        for ack in acks {
            self.queue_command(node, shard, Command::Link(ack), None);
        }
        self.pump(node, shard);
    }

    /// Sends what is owed and may be sent.
    pub(super) fn pump(&mut self, node: NodeRef, shard: u16) {
        let peers = u8::try_from(self.providers.len()).unwrap_or(0);
        for peer in (0..peers).filter(|peer| *peer != node.provider) {
            self.pump_fanout(node, shard, peer);
            self.pump_submissions(node, shard, peer);
        }
        self.pump_notices(node, shard);
    }

    fn open_lane(&mut self, node: NodeRef, shard: u16, peer: u8) -> Option<u64> {
        let receiver = self.some_node(peer)?;
        if !self.can_talk(node, receiver) {
            return None;
        }
        let number = self.fresh();
        let lane = Lane {
            sender: (node, self.life(node)),
            shard,
            receiver: (receiver, self.life(receiver)),
            busy_until: [0; 2],
            receiving: Receiving::Nothing,
            acks: 0,
        };
        self.lanes.insert(number, lane);
        self.counts.one("lanes opened");
        Some(number)
    }

    fn pump_fanout(&mut self, node: NodeRef, shard: u16, peer: u8) {
        let to = self.id(peer).clone();
        let Some(own) = self.shard(node, shard) else {
            return;
        };
        if !own.fanouts.contains_key(&peer) {
            let held = own
                .held
                .get(&peer)
                .is_some_and(|until| self.now_ms < *until);
            let whom = Peer::Provider(to.clone());
            let sender = FanoutSender::owed(&own.derived.links, &whom).filter(|_| !held);
            let Some(sender) = sender else { return };
            let Some(lane) = self.open_lane(node, shard, peer) else {
                return;
            };
            if let Some(own) = self.shard_mut(node, shard) {
                own.fanouts.insert(peer, FanoutSession { lane, sender });
            }
        }
        loop {
            let Some(own) = self.shard(node, shard) else {
                return;
            };
            let Some(session) = own.fanouts.get(&peer) else {
                return;
            };
            let next = match session.sender.turn() {
                Turn::Send(next) => next,
                Turn::Record => return self.record_ack(node, shard, peer),
                Turn::Wait => return,
            };
            let (lane, batch) = (session.lane, read::fanout(own, &to, next));
            let (batch, after, bytes) = match batch {
                Ok(Some(batch)) => batch,
                Ok(None) => return,
                Err(error) => return self.history.violated("I15", error.to_string()),
            };
            if let Some(session) = self
                .shard_mut(node, shard)
                .and_then(|own| own.fanouts.get_mut(&peer))
            {
                let credit = session.sender.credit_bytes() as usize;
                let before = session.sender.bytes_under_way();
                session.sender.sent(after, bytes);
                if before > 0 && before + bytes > credit {
                    let why =
                        format!("{node} has {before} bytes under way, the credit is {credit}");
                    self.history.violated("I16", why);
                }
            }
            let upto = LinkSeq(after.0 - 1);
            self.history.sent_to(lane, &to, &batch, upto);
            self.send_frame(lane, node, Frame::Fanout(Arc::new(batch)));
        }
    }

    /// Puts into the log what a provider acknowledged, and goes on.
    fn record_ack(&mut self, node: NodeRef, shard: u16, peer: u8) {
        // What is refused for want of room is recorded later.
        if self.is_full(node) {
            return;
        }
        let whom = Peer::Provider(self.id(peer).clone());
        let own = self.shard_mut(node, shard);
        if let Some(session) = own.and_then(|own| own.fanouts.get_mut(&peer)) {
            let ack = session.sender.record(whom);
            self.queue_command(node, shard, Command::Link(ack), None);
            self.pump_fanout(node, shard, peer);
        }
    }

    fn pump_submissions(&mut self, node: NodeRef, shard: u16, peer: u8) {
        let to = self.id(peer).clone();
        let Some(own) = self.shard(node, shard) else {
            return;
        };
        if !own.submits.contains_key(&peer) {
            let Some(sender) = SubmitSender::owed(&own.derived.links, &to) else {
                return;
            };
            let Some(lane) = self.open_lane(node, shard, peer) else {
                return;
            };
            if let Some(own) = self.shard_mut(node, shard) {
                own.submits.insert(peer, SubmitSession { lane, sender });
            }
        }
        loop {
            let Some(own) = self.shard(node, shard) else {
                return;
            };
            let Some(session) = own.submits.get(&peer) else {
                return;
            };
            let Some(next) = session.sender.next() else {
                return;
            };
            let (lane, batch) = (session.lane, read::submissions(own, &to, next));
            let (batch, after) = match batch {
                Ok(Some(batch)) => batch,
                Ok(None) => return,
                Err(error) => return self.history.violated("I25", error.to_string()),
            };
            if let Some(session) = self
                .shard_mut(node, shard)
                .and_then(|own| own.submits.get_mut(&peer))
            {
                session.sender.sent(after);
            }
            self.send_frame(lane, node, Frame::Submit(Arc::new(batch)));
        }
    }

    /// Puts a frame on a lane, behind what is on it already; perhaps the lane does not survive it.
    pub(super) fn send_frame(&mut self, number: u64, from: NodeRef, frame: Frame) {
        let Some(lane) = self.lanes.get(&number) else {
            return;
        };
        let forth = lane.sender.0 == from;
        let (to, life) = if forth { lane.receiver } else { lane.sender };
        let (from, to) = (End::Node(from), End::Node(to));
        let cut = !self.calm && self.dice.hits(self.plan.weather.cut_permille);
        if cut || !self.is_open(from, to) {
            return self.cut_lanes_where(|lane| lane == number);
        }
        let usual = self.now_ms + self.delay(from, to);
        let Some(lane) = self.lanes.get_mut(&number) else {
            return;
        };
        let busy = &mut lane.busy_until[usize::from(forth)];
        let at = usual.max(*busy);
        *busy = at;
        let body = Body::Lane {
            lane: number,
            frame,
        };
        self.send_on(at, from, to, life, body);
    }

    /// Ends the lanes that match, at both ends.
    pub(super) fn cut_lanes(&mut self, which: impl Fn(&Lane) -> bool) {
        let cut: Vec<u64> = self
            .lanes
            .iter()
            .filter(|(_, lane)| which(lane))
            .map(|(number, _)| *number)
            .collect();
        self.cut_lanes_where(|number| cut.contains(&number));
    }

    pub(super) fn cut_lanes_where(&mut self, which: impl Fn(u64) -> bool) {
        let cut: Vec<(u64, Lane)> = self
            .lanes
            .extract_if(.., |number, _| which(*number))
            .collect();
        for (number, lane) in cut {
            self.counts.one("lanes cut");
            self.history.lane_ended(number);
            let (from, to) = (lane.sender.0, lane.receiver.0);
            self.story.tell(self.now_ms, || {
                format!("{from}  loses lane {number} to {to}")
            });
            if let Some(own) = self.shard_mut(lane.sender.0, lane.shard) {
                own.fanouts.retain(|_, session| session.lane != number);
                own.submits.retain(|_, session| session.lane != number);
            }
        }
    }

    pub(super) fn frame_arrives(&mut self, node: NodeRef, number: u64, frame: Frame) {
        let Some(lane) = self.lanes.get(&number) else {
            return;
        };
        let (sender, shard) = (lane.sender.0, lane.shard);
        let broken = match frame {
            Frame::Fanout(batch) => self.take_batch(node, number, sender.provider, &batch),
            Frame::Submit(batch) => self.take_submissions(node, number, sender.provider, &batch),
            Frame::Ack(ack) => {
                let peer = lane.receiver.0.provider;
                self.take_ack(node, shard, peer, number, &ack)
            }
            Frame::Submitted(submitted) => {
                let peer = lane.receiver.0.provider;
                self.take_submitted(node, shard, peer, number, submitted)
            }
        };
        if let Err(broken) = broken {
            let other = if node == sender {
                self.lanes.get(&number).map(|lane| lane.receiver.0.provider)
            } else {
                Some(sender.provider)
            };
            self.cut_lanes_where(|lane| lane == number);
            if let Some(other) = other {
                self.blame(other, &broken);
            }
        }
    }

    /// A peer broke the protocol: the hostile one may, the others never do.
    pub(super) fn blame(&mut self, provider: u8, broken: &Broken) {
        self.counts.one("peers that broke the protocol");
        if !self.plan.providers[usize::from(provider)].hostile {
            let id = self.id(provider);
            let why = format!("{id}, which is honest, {broken}");
            self.history.violated("I26", why);
        }
    }

    fn take_batch(
        &mut self,
        node: NodeRef,
        number: u64,
        from: u8,
        batch: &Fanout,
    ) -> Result<(), Broken> {
        let (own, peer) = (self.id(node.provider).clone(), self.id(from).clone());
        let Some(lane) = self.lanes.get_mut(&number) else {
            return Ok(());
        };
        if let Receiving::Nothing = lane.receiving {
            let fanout = FanoutLane::new(own, peer.clone(), LATER);
            lane.receiving = Receiving::Fanout(fanout);
        }
        // Nothing more is taken on a lane that is over.
        let Receiving::Fanout(fanout) = &mut lane.receiving else {
            return Ok(());
        };
        if fanout.is_over() {
            return Ok(());
        }
        let upto = fanout.take(batch.clone())?;
        let shard = lane.shard;
        if self
            .history
            .batch_came(from, shard, node.provider, batch.first, upto)
        {
            self.counts.one("batches that came again");
        }
        let first = batch.first;
        self.story.tell(self.now_ms, || {
            let groups = batch.groups.iter();
            let rooms: Vec<String> = groups
                .map(|group| format!("{} of {}", group.items.len(), group.room))
                .collect();
            let rooms = rooms.join(", ");
            format!("{node}  takes items {first} to {upto} of {peer}, shard {shard}, lane {number}: {rooms}")
        });
        self.ask_parts(node, number);
        Ok(())
    }

    fn take_submissions(
        &mut self,
        node: NodeRef,
        number: u64,
        from: u8,
        batch: &Submit,
    ) -> Result<(), Broken> {
        let (own, peer) = (self.id(node.provider).clone(), self.id(from).clone());
        let Some(lane) = self.lanes.get_mut(&number) else {
            return Ok(());
        };
        if let Receiving::Nothing = lane.receiving {
            lane.receiving = Receiving::Submissions(SubmitLane::new(own, peer));
        }
        if let Receiving::Submissions(submissions) = &mut lane.receiving {
            submissions.take(batch.clone())?;
            self.ask_parts(node, number);
        }
        Ok(())
    }

    /// Puts the parts of a frame before their shards.
    fn ask_parts(&mut self, node: NodeRef, number: u64) {
        while let Some(lane) = self.lanes.get_mut(&number)
            && let Some((slot, request)) = match &mut lane.receiving {
                Receiving::Fanout(fanout) => fanout.next_ask(),
                Receiving::Submissions(submissions) => submissions.next_ask(),
                Receiving::Nothing => None,
            }
        {
            if let ShardRequest::Follower(room, follower::Command::Deliver(_)) = &request
                && self.refuses(node.provider, room)
            {
                self.once_frozen.insert((node.provider, room.clone()));
                let poisoned = Answer::Refused(Refused::Poisoned);
                self.part_came(node, number, slot, ShardReply::Room(poisoned));
            } else {
                self.ask_in_time(node, number, slot, request);
            }
        }
        self.answer_on(number, node);
    }

    /// A shard has answered for its part of a frame.
    pub(super) fn part_came(&mut self, node: NodeRef, number: u64, slot: Slot, reply: ShardReply) {
        let lane = self.lanes.get_mut(&number);
        let Some(lane) = lane.filter(|lane| lane.receiver.0 == node) else {
            return;
        };
        match &mut lane.receiving {
            Receiving::Fanout(fanout) => fanout.came(slot, reply),
            Receiving::Submissions(submissions) => submissions.came(slot, reply),
            Receiving::Nothing => {}
        }
        self.answer_on(number, node);
    }

    /// Answers the frames of a lane that can be answered, in order.
    fn answer_on(&mut self, number: u64, node: NodeRef) {
        while let Some(lane) = self.lanes.get_mut(&number) {
            // Now and then it is in need itself.
            let credit_bytes = if lane.acks % 3 == 2 {
                0
            } else {
                CREDIT_BYTES_FIRST
            };
            let frame = match &mut lane.receiving {
                Receiving::Fanout(fanout) => fanout.next_answer(credit_bytes).map(|acked| {
                    lane.acks += 1;
                    Frame::Ack(acked.ack)
                }),
                Receiving::Submissions(submissions) => {
                    submissions.next_answer().map(Frame::Submitted)
                }
                Receiving::Nothing => None,
            };
            let Some(frame) = frame else { return };
            if !self.boundary(node) {
                return;
            }
            if let Frame::Ack(ack) = &frame {
                self.check_refused(node, ack);
            }
            self.send_frame(number, node, frame);
        }
    }

    /// A room of an honest hub is never refused, unless it is or was frozen there.
    fn check_refused(&mut self, node: NodeRef, ack: &Ack) {
        for refused in &ack.refused {
            self.counts.one("rooms refused by a follower");
            let hub = self.provider(refused.room.hub());
            let hostile = hub.is_some_and(|hub| self.plan.providers[usize::from(hub)].hostile);
            // What comes after events that were refused is missing those.
            let frozen = (node.provider, refused.room.clone());
            if !hostile && !self.once_frozen.contains(&frozen) {
                let (own, room) = (self.id(node.provider), &refused.room);
                let why = format!("{own} refused events of {room}: {}", &*refused.detail);
                self.history.violated("I15", why);
            }
        }
    }

    fn take_ack(
        &mut self,
        node: NodeRef,
        shard: u16,
        peer: u8,
        lane: u64,
        ack: &Ack,
    ) -> Result<(), Broken> {
        let session = self
            .shard_mut(node, shard)
            .and_then(|own| own.fanouts.get_mut(&peer))
            .filter(|session| session.lane == lane);
        if let Some(session) = session {
            let again = session.sender.acknowledged(ack)?;
            self.history.acknowledged(lane, peer, ack);
            if let Some(after_ms) = again {
                self.counts
                    .one("lanes ended by a receiver that took nothing");
                let until = self.now_ms + u64::from(after_ms);
                if let Some(own) = self.shard_mut(node, shard) {
                    own.held.insert(peer, until);
                }
                self.cut_lanes_where(|other| other == lane);
                return Ok(());
            }
            self.pump(node, shard);
        }
        Ok(())
    }

    fn take_submitted(
        &mut self,
        node: NodeRef,
        shard: u16,
        peer: u8,
        lane: u64,
        submitted: Submitted,
    ) -> Result<(), Broken> {
        let hub = self.id(peer).clone();
        let session = self
            .shard_mut(node, shard)
            .and_then(|own| own.submits.get_mut(&peer))
            .filter(|session| session.lane == lane);
        let Some(session) = session else {
            return Ok(());
        };
        let judged = session.sender.answered(&hub, submitted)?;
        for request in rejects(judged.refused) {
            self.ask_for(node, Target::Shard(request), Back::Nobody);
        }
        if let Some(ms) = judged.again_after_ms {
            let life = self.life(node);
            let again = Event::SubmitAgain {
                node,
                life,
                shard,
                peer,
                lane,
            };
            self.after(u64::from(ms), again);
        }
        self.pump(node, shard);
        Ok(())
    }

    pub(super) fn submit_again(&mut self, node: NodeRef, shard: u16, peer: u8, lane: u64) {
        let session = self
            .shard_mut(node, shard)
            .and_then(|own| own.submits.get_mut(&peer))
            .filter(|session| session.lane == lane);
        if let Some(session) = session {
            session.sender.again();
            self.counts.one("submissions sent again");
            self.pump(node, shard);
        }
    }
}
