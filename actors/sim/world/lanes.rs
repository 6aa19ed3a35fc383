//! The lanes between providers: one of fan-out and one of submissions from a node to another provider, frames on their
//! way, and their receivers.
//!
//! Which shard sends next, what it may send and what it makes of an answer is [`crate::way::lane`]'s; what a receiver does
//! with a frame is [`crate::way::taking`]'s.

use super::{Again, Event, World, route::LATER};
use crate::sim::{
    node::LaneTo,
    plan::NodeRef,
    post::{Back, Body, End, Frame, Lane, Receiving, Target},
};
use crate::{
    ids::ProviderId,
    limits::CREDIT_BYTES_FIRST,
    link::session::{Broken, FanoutSender, SubmitSender, Turn},
    record::Command,
    room::{
        follower,
        outcome::{Answer, Refused},
    },
    shard::owing::{self, Owing},
    shard_request::{ShardReply, ShardRequest},
    way::{
        Slot,
        lane::{Session, SharedSender, Told},
        receive::{FanoutTaking, SubmitTaking},
        submit::rejects,
        taking::SharedTaking,
    },
    wire::{
        self,
        event::LinkSeq,
        link::{Ack, Fanout, OfShard, Submit, Submitted},
    },
};
use std::{collections::BTreeMap, sync::Arc};

/// How long a shard rests at least whose session a receiver has ended, in milliseconds.
const REST_MS_MIN: u64 = 100;

/// The lane of a node to a peer, which all shards that it leads join.
fn lane_to<'a, S: Session>(
    lanes: &'a mut BTreeMap<u8, LaneTo<S>>,
    peer: u8,
    to: &ProviderId,
    led: &[u16],
) -> &'a mut LaneTo<S> {
    let lane = lanes.entry(peer).or_insert_with(|| LaneTo {
        lane: None,
        sender: SharedSender::new(to.clone()),
    });
    for shard in led {
        lane.sender.join(*shard);
    }
    lane
}

impl World {
    /// What a leader does for its links from time to time.
    pub(super) fn look_after_links(&mut self, node: NodeRef, shard: u16) {
        let mut acks = Vec::new();
        // What is refused for want of room is recorded later.
        let full = self.is_full(node);
        if let Some(own) = self.nodes.get_mut(&node).filter(|_| !full) {
            for lane in own.fanouts.values_mut() {
                let runs = lane.sender.session(shard);
                if runs.is_some_and(|(_, session)| session.has_to_record())
                    && let Some((session, ack)) = lane.sender.record(shard)
                {
                    acks.push(ack);
                    lane.sender.recorded(shard, session);
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

    /// Sends what is owed and may be sent, of a shard that may have something.
    pub(super) fn pump(&mut self, node: NodeRef, shard: u16) {
        let shards = self.shards(node.provider);
        let led: Vec<u16> = (0..shards)
            .filter(|shard| self.leads(node, *shard))
            .collect();
        let peers = u8::try_from(self.providers.len()).unwrap_or(0);
        for peer in (0..peers).filter(|peer| *peer != node.provider) {
            let to = self.id(peer).clone();
            if let Some(own) = self.nodes.get_mut(&node) {
                let fanout = lane_to(&mut own.fanouts, peer, &to, &led);
                fanout.sender.may_have(shard);
                let submissions = lane_to(&mut own.submits, peer, &to, &led);
                submissions.sender.may_have(shard);
            }
            self.pump_fanout(node, peer);
            self.pump_submissions(node, peer);
        }
        self.pump_notices(node, shard);
    }

    /// The node leads a shard no longer.
    pub(super) fn leave_lanes(&mut self, node: NodeRef, shard: u16) {
        let Some(own) = self.nodes.get_mut(&node) else {
            return;
        };
        for lane in own.fanouts.values_mut() {
            lane.sender.leave(shard);
            if let Some(number) = lane.lane {
                self.history.session_ended(number, shard);
            }
        }
        for lane in own.submits.values_mut() {
            lane.sender.leave(shard);
        }
    }

    fn open_lane(&mut self, node: NodeRef, peer: u8) -> Option<u64> {
        let receiver = self.some_node(peer)?;
        if !self.can_talk(node, receiver) {
            return None;
        }
        let number = self.fresh();
        let lane = Lane {
            sender: (node, self.life(node)),
            receiver: (receiver, self.life(receiver)),
            busy_until: [0; 2],
            receiving: Receiving::Nothing,
            heard: None,
            acks: 0,
        };
        self.lanes.insert(number, lane);
        self.counts.one("lanes opened");
        Some(number)
    }

    fn fanout_to(&mut self, node: NodeRef, peer: u8) -> Option<&mut LaneTo<FanoutSender>> {
        self.nodes.get_mut(&node)?.fanouts.get_mut(&peer)
    }

    fn submissions_to(&mut self, node: NodeRef, peer: u8) -> Option<&mut LaneTo<SubmitSender>> {
        self.nodes.get_mut(&node)?.submits.get_mut(&peer)
    }

    fn pump_fanout(&mut self, node: NodeRef, peer: u8) {
        let to = self.id(peer).clone();
        loop {
            let Some(is) = self.nodes.get_mut(&node) else {
                return;
            };
            let Some(own) = is.fanouts.get_mut(&peer) else {
                return;
            };
            let Some(shard) = own.sender.next_turn() else {
                return;
            };
            let Some(from) = is.shards.get(usize::from(shard)) else {
                continue;
            };
            let batch = match own.sender.turn(shard, &from.derived.links) {
                Turn::Send(next) => owing::batch(from, &to, next),
                Turn::Record => {
                    self.record_ack(node, shard, peer);
                    continue;
                }
                Turn::Wait => continue,
            };
            let (batch, after, bytes) = match batch {
                Ok(Owing::Batch {
                    batch,
                    after,
                    bytes,
                }) => (batch, after, bytes),
                Ok(Owing::Nothing) => continue,
                Ok(Owing::TooLarge { room, bytes, .. }) => {
                    let why = format!("an event of {room} has {bytes} bytes and fits no frame");
                    return self.history.violated("I15", why);
                }
                Err(error) => return self.history.violated("I15", error.to_string()),
            };
            let open = own.lane;
            let Some(lane) = open.or_else(|| self.open_lane(node, peer)) else {
                // It is tried again with what comes next.
                if let Some(own) = self.fanout_to(node, peer) {
                    own.sender.may_have(shard);
                }
                return;
            };
            let Some(own) = self.fanout_to(node, peer) else {
                return;
            };
            own.lane = Some(lane);
            let stood = own.sender.session(shard);
            let stood = stood.map(|(_, is)| (is.credit_bytes() as usize, is.bytes_under_way()));
            let Some(frame) = own.sender.sent(shard, batch, after, bytes) else {
                continue;
            };
            if let Some((credit, before)) = stood
                && before > 0
                && before + bytes > credit
            {
                let why = format!("{node} has {before} bytes under way, the credit is {credit}");
                self.history.violated("I16", why);
            }
            let upto = LinkSeq(after.0 - 1);
            self.history.sent_to((lane, shard), &to, &frame.said, upto);
            self.send_frame(lane, node, Frame::Fanout(Arc::new(frame)));
        }
    }

    /// Puts into the log what a provider acknowledged.
    fn record_ack(&mut self, node: NodeRef, shard: u16, peer: u8) {
        // What is refused for want of room is recorded later.
        if self.is_full(node) {
            return;
        }
        let own = self.fanout_to(node, peer);
        if let Some((session, ack)) = own.and_then(|own| own.sender.record(shard)) {
            self.queue_command(node, shard, Command::Link(ack), None);
            if let Some(own) = self.fanout_to(node, peer) {
                own.sender.recorded(shard, session);
            }
        }
    }

    fn pump_submissions(&mut self, node: NodeRef, peer: u8) {
        let to = self.id(peer).clone();
        loop {
            let Some(is) = self.nodes.get_mut(&node) else {
                return;
            };
            let Some(own) = is.submits.get_mut(&peer) else {
                return;
            };
            let Some(shard) = own.sender.next_turn() else {
                return;
            };
            let Some(from) = is.shards.get(usize::from(shard)) else {
                continue;
            };
            let Some(next) = own.sender.from(shard, &from.derived.links) else {
                continue;
            };
            let (batch, after) = match owing::submissions(from, &to, next) {
                Ok(Some(batch)) => batch,
                Ok(None) => continue,
                Err(error) => return self.history.violated("I25", error.to_string()),
            };
            let open = own.lane;
            let lane = open.or_else(|| self.open_lane(node, peer));
            let Some(own) = self.submissions_to(node, peer) else {
                return;
            };
            let Some(lane) = lane else {
                // It is tried again with what comes next.
                return own.sender.may_have(shard);
            };
            own.lane = Some(lane);
            if let Some(frame) = own.sender.sent(shard, batch, after) {
                self.send_frame(lane, node, Frame::Submit(Arc::new(frame)));
            }
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
            if let Some(own) = self.nodes.get_mut(&lane.sender.0) {
                own.fanouts.retain(|_, lane| lane.lane != Some(number));
                own.submits.retain(|_, lane| lane.lane != Some(number));
            }
        }
    }

    pub(super) fn frame_arrives(&mut self, node: NodeRef, number: u64, frame: Frame) {
        let Some(lane) = self.lanes.get(&number) else {
            return;
        };
        let (sender, peer) = (lane.sender.0, lane.receiver.0.provider);
        let broken = match frame {
            Frame::Fanout(batch) => self.take_batch(node, number, sender.provider, &batch),
            Frame::Submit(batch) => self.take_submissions(node, number, sender.provider, &batch),
            Frame::Ack(ack) => self.take_ack(node, peer, number, &ack),
            Frame::Submitted(submitted) => self.take_submitted(node, peer, number, submitted),
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
        frame: &OfShard<Fanout>,
    ) -> Result<(), Broken> {
        let (own, peer) = (self.id(node.provider).clone(), self.id(from).clone());
        let Some(lane) = self.lanes.get_mut(&number) else {
            return Ok(());
        };
        if let Receiving::Nothing = lane.receiving {
            let blank = FanoutTaking::new(own, peer.clone(), LATER);
            lane.receiving = Receiving::Fanout(SharedTaking::new(blank));
        }
        let (shard, batch) = (frame.shard, &frame.said);
        lane.heard = Some((shard, frame.session));
        let Receiving::Fanout(fanout) = &mut lane.receiving else {
            return Ok(());
        };
        fanout.take(frame.clone(), wire::encode(frame).len())?;
        // Nothing more is taken of a session that is over.
        if fanout.is_over(shard) {
            return Ok(());
        }
        let is_shared = fanout.heard() > 1;
        let items = batch.groups.iter().map(|group| group.items.len() as u64);
        let (first, upto) = (
            batch.first,
            LinkSeq((batch.first.0 + items.sum::<u64>()).saturating_sub(1)),
        );
        if self
            .history
            .batch_came(from, shard, node.provider, first, upto)
        {
            self.counts.one("batches that came again");
        }
        if is_shared {
            self.counts.one("batches on a lane that shards share");
        }
        self.story.tell(self.now_ms, || {
            let groups = batch.groups.iter();
            let rooms: Vec<String> = groups
                .map(|group| format!("{} of {}", group.items.len(), group.room))
                .collect();
            let rooms = rooms.join(", ");
            format!("{node}  takes items {first} to {upto} of {peer}, shard {shard}, lane {number}: {rooms}")
        });
        self.ask_parts(node, number, shard);
        Ok(())
    }

    fn take_submissions(
        &mut self,
        node: NodeRef,
        number: u64,
        from: u8,
        frame: &OfShard<Submit>,
    ) -> Result<(), Broken> {
        let (own, peer) = (self.id(node.provider).clone(), self.id(from).clone());
        let Some(lane) = self.lanes.get_mut(&number) else {
            return Ok(());
        };
        if let Receiving::Nothing = lane.receiving {
            let blank = SubmitTaking::new(own, peer);
            lane.receiving = Receiving::Submissions(SharedTaking::new(blank));
        }
        lane.heard = Some((frame.shard, frame.session));
        if let Receiving::Submissions(submissions) = &mut lane.receiving {
            submissions.take(frame.clone(), wire::encode(frame).len())?;
            self.ask_parts(node, number, frame.shard);
        }
        Ok(())
    }

    /// Puts the parts of a shard's frames before the shards that they are for.
    fn ask_parts(&mut self, node: NodeRef, number: u64, shard: u16) {
        loop {
            let asks = self.lanes.get_mut(&number).map(|lane| {
                let asks = match &mut lane.receiving {
                    Receiving::Fanout(fanout) => fanout.next_asks(shard),
                    Receiving::Submissions(submissions) => submissions.next_asks(shard),
                    Receiving::Nothing => Vec::new(),
                };
                // Here a request is on its way at once.
                match &mut lane.receiving {
                    Receiving::Fanout(fanout) => fanout.handed_on(shard),
                    Receiving::Submissions(submissions) => submissions.handed_on(shard),
                    Receiving::Nothing => {}
                }
                asks
            });
            let asks = asks.unwrap_or_default();
            if asks.is_empty() {
                break;
            }
            for (slot, request) in asks {
                self.ask_part(node, number, slot, request);
            }
        }
        self.answer_on(number, node);
    }

    fn ask_part(&mut self, node: NodeRef, number: u64, slot: Slot, request: ShardRequest) {
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

    /// A shard has answered for its part of a frame.
    pub(super) fn part_came(&mut self, node: NodeRef, number: u64, slot: Slot, reply: ShardReply) {
        let lane = self.lanes.get_mut(&number);
        let Some(lane) = lane.filter(|lane| lane.receiver.0 == node) else {
            return;
        };
        let shard = match &mut lane.receiving {
            Receiving::Fanout(fanout) => fanout.came(slot, reply),
            Receiving::Submissions(submissions) => submissions.came(slot, reply),
            Receiving::Nothing => None,
        };
        if let Some(shard) = shard {
            self.ask_parts(node, number, shard);
        }
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
                    let (shard, session) = (acked.shard, acked.session);
                    let said = acked.said.ack;
                    Frame::Ack(OfShard {
                        shard,
                        session,
                        said,
                    })
                }),
                Receiving::Submissions(submissions) => {
                    submissions.next_answer(0).map(Frame::Submitted)
                }
                Receiving::Nothing => None,
            };
            let Some(frame) = frame else { return };
            if !self.boundary(node) {
                return;
            }
            if let Frame::Ack(ack) = &frame {
                self.check_refused(node, &ack.said);
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
        peer: u8,
        lane: u64,
        ack: &OfShard<Ack>,
    ) -> Result<(), Broken> {
        let own = self.fanout_to(node, peer);
        let Some(own) = own.filter(|own| own.lane == Some(lane)) else {
            return Ok(());
        };
        let shard = ack.shard;
        let told = own.sender.acknowledged(ack)?;
        if told == Told::Nothing {
            self.counts.one("acknowledgements of older sessions");
            return Ok(());
        }
        self.history.acknowledged((lane, shard), peer, &ack.said);
        if let Told::Rests { after_ms } = told {
            self.counts
                .one("sessions ended by a receiver that took nothing");
            self.history.session_ended(lane, shard);
            let again = Event::FanoutAgain(Again {
                node,
                life: self.life(node),
                shard,
                peer,
                lane,
                session: ack.session,
            });
            self.after(u64::from(after_ms).max(REST_MS_MIN), again);
        }
        self.pump_fanout(node, peer);
        Ok(())
    }

    /// A shard has rested for as long as the receiver wanted.
    pub(super) fn fanout_again(&mut self, again: &Again) {
        let own = self.fanout_to(again.node, again.peer);
        if let Some(own) = own.filter(|own| own.lane == Some(again.lane)) {
            own.sender.again(again.shard, again.session);
            self.pump_fanout(again.node, again.peer);
        }
    }

    fn take_submitted(
        &mut self,
        node: NodeRef,
        peer: u8,
        lane: u64,
        submitted: OfShard<Submitted>,
    ) -> Result<(), Broken> {
        let own = self.submissions_to(node, peer);
        let Some(own) = own.filter(|own| own.lane == Some(lane)) else {
            return Ok(());
        };
        let shard = submitted.shard;
        if let Some((session, judged)) = own.sender.answered(submitted)? {
            for request in rejects(judged.refused) {
                self.ask_for(node, Target::Shard(request), Back::Nobody);
            }
            if let Some(ms) = judged.again_after_ms {
                let again = Event::SubmitAgain(Again {
                    node,
                    life: self.life(node),
                    shard,
                    peer,
                    lane,
                    session,
                });
                self.after(u64::from(ms), again);
            } else if let Some(own) = self.submissions_to(node, peer) {
                own.sender.settled(shard, session, false);
            }
        }
        self.pump_submissions(node, peer);
        Ok(())
    }

    pub(super) fn submit_again(&mut self, again: &Again) {
        let own = self.submissions_to(again.node, again.peer);
        if let Some(own) = own.filter(|own| own.lane == Some(again.lane)) {
            own.sender.settled(again.shard, again.session, true);
            self.counts.one("submissions sent again");
            self.pump_submissions(again.node, again.peer);
        }
    }
}
