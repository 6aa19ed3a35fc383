//! The two lanes between the hub and the follower: frames on their way, and what each side makes of them.

use super::{
    checks::Broken,
    world::{A, B, Fan, World},
};
use crate::{
    limits::CREDIT_BYTES_FIRST,
    link::session::{Acking, FanoutReceiver, FanoutSender, Judging},
    machine::Ticket,
    record::Command,
    room::{
        desk::{self},
        follower, follower_desk,
        hub::{self, Submit, Via},
    },
    shard::owing::{self, Owing},
    wire::{
        BVec,
        event::LinkSeq,
        link::{self},
        refusal::TryLater,
    },
};
use std::{collections::VecDeque, rc::Rc};

impl World {
    /// The item from which on the hub can send something to the follower now.
    pub(super) fn batch_from(&self) -> Option<LinkSeq> {
        let (acked, last) = self.shards[A].owed(&self.names.providers[B]);
        let next = self
            .fan
            .as_ref()
            .map_or(Some(acked.next()), |fan| fan.sender.next());
        next.filter(|next| *next <= last)
    }

    pub(super) fn send_batch(&mut self) -> Result<(), Broken> {
        let Some(from) = self.batch_from() else {
            return Ok(());
        };
        let to = &self.names.providers[B];
        let (acked, _) = self.shards[A].owed(to);
        let batch = owing::batch(&*self.shards[A], to, from);
        let owing = batch.map_err(|error| ("I15", error.to_string()))?;
        let Owing::Batch {
            batch,
            after,
            bytes,
        } = owing
        else {
            return Ok(());
        };
        let fan = self.fan.get_or_insert_with(|| Fan {
            sender: FanoutSender::new(acked),
            taken: FanoutReceiver::default(),
            batches: VecDeque::new(),
            here: VecDeque::new(),
            acks: VecDeque::new(),
        });
        fan.sender.sent(after, bytes);
        fan.batches.push_back(Rc::new(batch));
        Ok(())
    }

    /// A batch reaches the follower, whose log may have no room for it now.
    pub(super) fn batch_arrives(&mut self, no_room: bool) -> Result<(), Broken> {
        let ticket = self.ticket(B);
        let Some(fan) = &mut self.fan else {
            return Ok(());
        };
        let Some(batch) = fan.batches.pop_front() else {
            return Ok(());
        };
        let [a, b] = &self.names.providers;
        let fresh = fan.taken.is_fresh();
        let upto = fan.taken.take(a, b, &batch);
        let upto = upto.map_err(|broken| ("I26", broken.to_string()))?;
        fan.here.push_back((Acking::new(upto, fresh), ticket, None));
        let items = batch
            .groups
            .iter()
            .flat_map(|group| group.items.iter().cloned());
        let deliver = follower::Deliver {
            items: BVec::first_max(items),
        };
        let last = self.shards[B].follower.fold().last_seq();
        self.signs.batch_again |= deliver.items.iter().any(
            |item| matches!(item, crate::wire::event::Item::Event(event) if event.seq <= last),
        );
        self.follower_input(move || follower_desk::Input::Deliver {
            ticket,
            deliver: deliver.clone(),
        })?;
        let shard = Rc::make_mut(&mut self.shards[B]);
        if no_room && shard.queue.pop().is_some() {
            self.follower_input(move || follower_desk::Input::NotAppended {
                ticket,
                refused: crate::room::outcome::Refused::TryLater(TryLater::unavailable(250)),
            })?;
        }
        Ok(())
    }

    /// The follower acknowledges the oldest batch, or ends the lane because it did not take it.
    pub(super) fn answer_batch(&mut self) {
        let Some(fan) = &mut self.fan else { return };
        if let Some((mut acking, _, Some(answer))) = fan.here.pop_front() {
            match acking.answered(&self.names.room, answer) {
                Ok(()) => fan.acks.push_back(acking.finish(CREDIT_BYTES_FIRST)),
                Err(_) => self.fan = None,
            }
        }
    }

    pub(super) fn ack_arrives(&mut self) -> Result<(), Broken> {
        let Some(fan) = &mut self.fan else {
            return Ok(());
        };
        let Some(ack) = fan.acks.pop_front() else {
            return Ok(());
        };
        let taken = fan.sender.acknowledged(&ack);
        let again = taken.map_err(|broken| ("I16", broken.to_string()))?;
        if again.is_some() {
            self.fan = None;
        }
        Ok(())
    }

    pub(super) fn record_ack(&mut self) {
        if let Some(fan) = &mut self.fan
            && fan.sender.has_to_record()
        {
            let peer = crate::link::Peer::Provider(self.names.providers[B].clone());
            let ack = Command::Link(fan.sender.record(peer));
            Rc::make_mut(&mut self.shards[A]).queue.push((ack, None));
        }
    }

    pub(super) fn submissions(&self) -> Option<(link::Submit, u64)> {
        let next = match &self.sub {
            Some(sub) => sub.sender.next()?,
            None => 0,
        };
        owing::submissions(&*self.shards[B], &self.names.providers[A], next)
            .ok()
            .flatten()
    }

    pub(super) fn send_submissions(&mut self) {
        if let Some((batch, after)) = self.submissions() {
            let sub = self.sub.get_or_insert_default();
            sub.sender.sent(after);
            sub.frames.push_back(Rc::new(batch));
        }
    }

    pub(super) fn submissions_arrive(&mut self) -> Result<(), Broken> {
        let batch = self.sub.as_mut().and_then(|sub| sub.frames.pop_front());
        let Some(batch) = batch else { return Ok(()) };
        let checked = crate::link::session::check_submit(&self.names.providers[B], &batch);
        checked.map_err(|broken| ("I21", broken.to_string()))?;
        let groups = batch.groups.len();
        let mut waiting = (link::Submit::clone(&batch), Vec::new());
        let base = self.ticket(A);
        for place in 0..groups as u64 {
            waiting.1.push((Ticket(base.0 + place), None));
        }
        let tickets: Vec<Ticket> = waiting.1.iter().map(|(ticket, _)| *ticket).collect();
        if let Some(sub) = &mut self.sub {
            sub.here.push_back(Rc::new(waiting));
        }
        for (group, ticket) in batch.groups.iter().zip(tickets) {
            let via = Via::Provider {
                first: group.first,
                undecided: group.undecided,
            };
            let submit = Submit {
                sender: group.sender.clone(),
                via,
                messages: group.messages.clone(),
            };
            let room = self.shards[A].hub.fold().room();
            let left = room.is_some_and(|room| !room.has_member(&group.sender));
            self.signs.refused_after_leaving |= left;
            self.signs.submission_again |= self.shards[A].durable().any(|command| {
                matches!(command, Command::Hub(_, command)
                    if matches!(&**command, hub::Command::Submit(before) if *before == submit))
            });
            self.hub_input(move || desk::Input::Submit {
                ticket,
                submit: submit.clone(),
            })?;
        }
        Ok(())
    }

    /// The hub answers the oldest frame of submissions.
    pub(super) fn answer_submissions(&mut self) {
        let Some(sub) = &mut self.sub else { return };
        if let Some(frame) = sub.here.pop_front() {
            let mut judging = Judging::default();
            for (group, (_, answer)) in frame.0.groups.iter().zip(&frame.1) {
                let count = group.messages.len() as u32;
                judging.answered(&group.room, group.first, count, answer.clone());
            }
            sub.answers.push_back(judging.finish());
        }
    }

    pub(super) fn submitted_arrives(&mut self) -> Result<(), Broken> {
        let Some(sub) = &mut self.sub else {
            return Ok(());
        };
        let submitted = sub.answers.pop_front().unwrap_or_default();
        let judged = sub.sender.answered(&self.names.providers[A], submitted);
        let judged = judged.map_err(|broken| ("I25", broken.to_string()))?;
        if judged.again_after_ms.is_some() {
            sub.sender.again();
        }
        for rejected in judged.refused {
            let ticket = Ticket(8);
            self.follower_input(move || follower_desk::Input::Reject {
                ticket,
                reject: follower::Reject {
                    first: rejected.first,
                    count: rejected.count,
                    reason: rejected.reason,
                },
            })?;
        }
        Ok(())
    }
}
