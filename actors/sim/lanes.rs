//! The lanes between providers and between shards: sessions at the leader of a shard, and what the other side does
//! with their frames. What a session may send, and what it makes of an answer, is [`crate::link::session`]'s.

use super::{
    node::{FanoutSession, SubmitSession},
    plan::NodeRef,
    post::{Answered, Back, Body, End, Frame, Lane, Target, Task},
    route::unavailable,
    world::{Event, World},
};
use crate::{
    doors,
    limits::CREDIT_BYTES_FIRST,
    link::{
        self, Peer,
        session::{
            Acking, Broken, FanoutReceiver, FanoutSender, Judging, SubmitSender, check_submit,
        },
    },
    record::Command,
    room::{
        follower::{self, Reject},
        outcome::{Answer, Refused},
    },
    shard::read,
    user::{
        command::Command as UserCommand,
        outcome::{Answer as UserAnswer, Refused as UserRefused},
    },
    wire::{
        event::LinkSeq,
        link::{Ack, Fanout, Submit, Submitted},
    },
};
use std::{collections::BTreeMap, sync::Arc};

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
            taken: FanoutReceiver::default(),
            answers: BTreeMap::new(),
            arriving: 0,
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
            let owed = own.derived.links.outgoing(&Peer::Provider(to.clone()));
            let Some(acked) = owed
                .filter(|owed| owed.acked() < owed.last())
                .map(link::outgoing::Outgoing::acked)
            else {
                return;
            };
            let Some(lane) = self.open_lane(node, shard, peer) else {
                return;
            };
            let sender = FanoutSender::new(acked);
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
            let Some(next) = session.sender.next() else {
                return;
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

    fn pump_submissions(&mut self, node: NodeRef, shard: u16, peer: u8) {
        let to = self.id(peer).clone();
        let Some(own) = self.shard(node, shard) else {
            return;
        };
        if !own.submits.contains_key(&peer) {
            let waiting = own.derived.links.submissions(&to);
            if waiting.is_none_or(link::submissions::Submissions::is_empty) {
                return;
            }
            let Some(lane) = self.open_lane(node, shard, peer) else {
                return;
            };
            let sender = SubmitSender::default();
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
        let fresh = lane.taken.is_fresh();
        let upto = lane.taken.take(&peer, &own, batch)?;
        let place = lane.arriving;
        lane.arriving += 1;
        lane.answers.insert(place, None);
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
        let mut rooms = Vec::new();
        let mut targets = Vec::new();
        for part in doors::fanned(Fanout::clone(batch)) {
            let (room, target) = match part {
                doors::Fanned::Room(room, deliver) => {
                    let command = follower::Command::Deliver(deliver);
                    (room.clone(), Target::Follower(room, command))
                }
                doors::Fanned::User(room, user, hear) => {
                    let command = Arc::new(UserCommand::Hear(hear));
                    (room, Target::User(user, command))
                }
            };
            rooms.push(room);
            targets.push(target);
        }
        let task = self.begin(
            node,
            Task::Deliver {
                lane: number,
                number: place,
                rooms,
                left: targets.len(),
                acking: Acking::new(upto, fresh),
            },
        );
        let life = self.life(node);
        for (slot, target) in targets.into_iter().enumerate() {
            if let Target::Follower(room, _) = &target
                && self.refuses(node.provider, room)
            {
                let frozen = (node.provider, room.clone());
                self.once_frozen.insert(frozen);
                let poisoned = Answer::Refused(Refused::Poisoned);
                self.delivered(node, task, slot, Answered::Room(poisoned));
                continue;
            }
            let back = Back::Task {
                node,
                life,
                task,
                slot,
            };
            self.ask_for(node, target, back);
        }
        Ok(())
    }

    /// A room has answered its part of a batch.
    pub(super) fn delivered(&mut self, node: NodeRef, task: u64, slot: usize, answer: Answered) {
        let Some(is) = self.nodes.get_mut(&node) else {
            return;
        };
        let Some(Task::Deliver {
            lane,
            number,
            rooms,
            left,
            acking,
        }) = is.tasks.get_mut(&task)
        else {
            return;
        };
        let (lane, number) = (*lane, *number);
        let answer = match answer {
            Answered::Room(answer) => answer,
            // A user who is gone has no inbox.
            Answered::User(
                UserAnswer::Done | UserAnswer::Refused(UserRefused::Unknown | UserRefused::Deleted),
            ) => Answer::Received,
            Answered::User(_) | Answered::Knows(_) | Answered::Reply(_) | Answered::Unavailable => {
                unavailable()
            }
        };
        let Some(room) = rooms.get(slot) else { return };
        if acking.answered(room, answer).is_err() {
            is.tasks.remove(&task);
            return self.cut_lanes_where(|other| other == lane);
        }
        *left -= 1;
        if *left > 0 {
            return;
        }
        if let Some(Task::Deliver { acking, .. }) = is.tasks.remove(&task) {
            // Now and then it is in need itself.
            let credit_bytes = if number % 3 == 2 {
                0
            } else {
                CREDIT_BYTES_FIRST
            };
            let ack = acking.finish(credit_bytes);
            self.answer_on(lane, node, number, Frame::Ack(ack));
        }
    }

    /// Answers a frame of a lane, once those before it are answered.
    fn answer_on(&mut self, number: u64, node: NodeRef, place: u64, frame: Frame) {
        let Some(lane) = self.lanes.get_mut(&number) else {
            return;
        };
        if let Some(answer) = lane.answers.get_mut(&place) {
            *answer = Some(frame);
        }
        let mut ready = Vec::new();
        while let Some(first) = lane.answers.first_entry()
            && first.get().is_some()
        {
            ready.extend(first.remove());
        }
        for frame in ready {
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
            session.sender.acknowledged(ack)?;
            self.history.acknowledged(lane, peer, ack);
            self.pump(node, shard);
        }
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
        check_submit(&peer, batch)?;
        let Some(lane) = self.lanes.get_mut(&number) else {
            return Ok(());
        };
        let place = lane.arriving;
        lane.arriving += 1;
        lane.answers.insert(place, None);
        let mut judging = Judging::default();
        let mut groups = Vec::new();
        let mut asks = Vec::new();
        for (slot, group) in batch.groups.iter().enumerate() {
            let count = u32::try_from(group.messages.len()).unwrap_or(u32::MAX);
            let (room, first) = (group.room.clone(), group.first);
            match doors::submission(&own, group.clone()) {
                Some((room, submit)) => {
                    groups.push((room.clone(), first, count, false));
                    asks.push((slot, room, submit));
                }
                None => {
                    let refused = Answer::Refused(Refused::NotAuthorized);
                    judging.answered(&room, first, count, Some(refused));
                    groups.push((room, first, count, true));
                }
            }
        }
        let task = self.begin(
            node,
            Task::Judge {
                lane: number,
                number: place,
                groups,
                judging,
            },
        );
        let life = self.life(node);
        for (slot, room, submit) in asks {
            let target = Target::Submit(room, submit);
            let back = Back::Task {
                node,
                life,
                task,
                slot,
            };
            self.ask_for(node, target, back);
        }
        self.judging_goes_on(node, task);
        Ok(())
    }

    /// A room has judged its part of a frame of submissions.
    pub(super) fn judged(&mut self, node: NodeRef, task: u64, slot: usize, answer: Answered) {
        let is = self.nodes.get_mut(&node);
        if let Some(Task::Judge {
            groups, judging, ..
        }) = is.and_then(|is| is.tasks.get_mut(&task))
            && let Some((room, first, count, done)) = groups.get_mut(slot)
            && !std::mem::replace(done, true)
        {
            let answer = match answer {
                Answered::Room(answer) => Some(answer),
                Answered::User(_)
                | Answered::Knows(_)
                | Answered::Reply(_)
                | Answered::Unavailable => None,
            };
            judging.answered(room, *first, *count, answer);
        }
        self.judging_goes_on(node, task);
    }

    /// What has not been judged by now is to be sent again.
    pub(super) fn judging_is_late(&mut self, node: NodeRef, task: u64) {
        let is = self.nodes.get_mut(&node);
        if let Some(Task::Judge {
            groups, judging, ..
        }) = is.and_then(|is| is.tasks.get_mut(&task))
        {
            for (room, first, count, done) in groups {
                if !std::mem::replace(done, true) {
                    judging.answered(room, *first, *count, None);
                }
            }
        }
        self.judging_goes_on(node, task);
    }

    fn judging_goes_on(&mut self, node: NodeRef, task: u64) {
        let Some(is) = self.nodes.get_mut(&node) else {
            return;
        };
        let whole = matches!(
            is.tasks.get(&task),
            Some(Task::Judge { groups, .. }) if groups.iter().all(|(.., done)| *done)
        );
        if whole
            && let Some(Task::Judge {
                lane,
                number,
                judging,
                ..
            }) = is.tasks.remove(&task)
        {
            self.answer_on(lane, node, number, Frame::Submitted(judging.finish()));
        }
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
        for rejected in judged.refused {
            let reject = follower::Command::Reject(Reject {
                first: rejected.first,
                count: rejected.count,
                reason: rejected.reason,
            });
            let target = Target::Follower(rejected.room, reject);
            let back = Back::Nobody;
            self.ask_for(node, target, back);
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
