//! What the receiver of a long lane does with its frames: whom it asks for each part, and what it answers, in order.
//!
//! Promises: frames are taken while earlier ones are on their way into the log; what goes back keeps their order, and says
//! only what every part of a frame has said, durably. Not here: what one answer says ([`Acking`], [`Judging`]), who may be
//! let in, the frames on their way.
//!
//! Source: transport requirements, sections 4 and 5.

use super::{Slot, Slots};
use crate::{
    doors::{self, Fanned},
    ids::{ProviderId, RoomUri},
    limits::LANE_FRAMES_UNACKED_MAX,
    link::session::{Acking, Broken, FanoutReceiver, Judging, check_submit},
    room::follower,
    shard_request::{ShardReply, ShardRequest},
    user::{
        command::Command as UserCommand,
        outcome::{Answer as UserAnswer, Refused as UserRefused},
    },
    wire::{
        BVec,
        answer::{Answer, Refused},
        event::{LinkSeq, SubmitSeq},
        link::{Ack, Fanout, Submit, Submitted},
        refusal::TryLater,
    },
};
use std::collections::VecDeque;

/// How long a hub waits whose events found the log full, in milliseconds.
const FULL_RETRY_AFTER_MS: u32 = 5_000;

/// A part of a frame.
#[derive(Debug)]
struct Part<T> {
    of: T,
    ask: Option<ShardRequest>,
    reply: Option<ShardReply>,
}

/// A frame that was taken and is not answered.
#[derive(Debug)]
struct Frame<H, T> {
    head: H,
    parts: Vec<Part<T>>,
    /// How many parts were asked.
    asked: usize,
}

/// Frames in order, while their parts are asked.
#[derive(Debug)]
struct Frames<H, T> {
    slots: Slots<(u64, usize)>,
    frames: VecDeque<Frame<H, T>>,
    /// How many frames were answered.
    answered: u64,
}

impl<H, T> Default for Frames<H, T> {
    fn default() -> Self {
        Self {
            slots: Slots::default(),
            frames: VecDeque::new(),
            answered: 0,
        }
    }
}

impl<H, T> Frames<H, T> {
    fn push(&mut self, head: H, parts: Vec<Part<T>>) {
        self.frames.push_back(Frame {
            head,
            parts,
            asked: 0,
        });
    }

    /// The next part that is to be asked, in order.
    fn next_ask(&mut self) -> Option<(Slot, ShardRequest)> {
        for (number, frame) in (self.answered..).zip(&mut self.frames) {
            while let Some(part) = frame.parts.get_mut(frame.asked) {
                let place = frame.asked;
                frame.asked += 1;
                if let Some(request) = part.ask.take() {
                    return Some((self.slots.open((number, place)), request));
                }
            }
        }
        None
    }

    /// A part has been answered; gives its frame and its place.
    fn came(&mut self, slot: Slot, reply: ShardReply) -> Option<(&mut Frame<H, T>, usize)> {
        let (number, place) = self.slots.close(slot)?;
        let frame = usize::try_from(number.checked_sub(self.answered)?).ok()?;
        let frame = self.frames.get_mut(frame)?;
        frame.parts.get_mut(place)?.reply = Some(reply);
        Some((frame, place))
    }

    /// The oldest frame, if all its parts have answered.
    fn pop_whole(&mut self) -> Option<Frame<H, T>> {
        let whole = |frame: &Frame<H, T>| frame.parts.iter().all(|part| part.reply.is_some());
        self.frames.front().filter(|frame| whole(frame))?;
        self.pop()
    }

    fn pop(&mut self) -> Option<Frame<H, T>> {
        self.answered += 1;
        self.frames.pop_front()
    }

    fn may_take(&self) -> bool {
        self.frames.len() < LANE_FRAMES_UNACKED_MAX
    }
}

/// The lane of what a shard of a hub fans out to this provider.
#[derive(Debug)]
pub struct FanoutLane {
    own: ProviderId,
    hub: ProviderId,
    /// When the hub may come again whose events nobody here answered for.
    later: TryLater,
    taken: FanoutReceiver,
    /// What the hub has the acknowledgement of.
    acked: LinkSeq,
    frames: Frames<Batch, RoomUri>,
    ended: bool,
}

/// A batch of a hub.
#[derive(Debug)]
struct Batch {
    acking: Acking,
    /// How many parts have had their say in the acknowledgement.
    said: usize,
}

/// An acknowledgement to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Acked {
    /// What is sent.
    pub ack: Ack,
    /// Why the lane is over then: a room took nothing, and may later. The hub comes again after
    /// [`Ack::retry_after_ms`].
    pub over: Option<Answer>,
}

impl FanoutLane {
    /// The lane from a shard of `hub` to the provider `own`.
    #[must_use]
    pub fn new(own: ProviderId, hub: ProviderId, later: TryLater) -> Self {
        Self {
            own,
            hub,
            later,
            taken: FanoutReceiver::default(),
            acked: LinkSeq(0),
            frames: Frames::default(),
            ended: false,
        }
    }

    /// Whether it takes another batch now.
    #[must_use]
    pub fn may_take(&self) -> bool {
        self.frames.may_take() && !self.ended
    }

    /// Whether every batch was answered.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.frames.frames.is_empty()
    }

    /// Whether its last answer was given: nothing more is taken.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.ended
    }

    /// Takes a batch; returns the number of its last item.
    ///
    /// # Errors
    /// [`Broken`] when the hub does what only a broken or hostile one does.
    pub fn take(&mut self, batch: Fanout) -> Result<LinkSeq, Broken> {
        let fresh = self.taken.is_fresh();
        let upto = self.taken.take(&self.hub, &self.own, &batch)?;
        if fresh {
            self.acked = LinkSeq(batch.first.0.saturating_sub(1));
        }
        let part = |part: Fanned| {
            let (of, ask) = match part {
                Fanned::Room(room, deliver) => {
                    let deliver = follower::Command::Deliver(deliver);
                    (room.clone(), ShardRequest::Follower(room, deliver))
                }
                Fanned::User(room, user, learn) => (
                    room,
                    ShardRequest::UserLog(user, UserCommand::LearnRefilled(learn)),
                ),
            };
            Part {
                of,
                ask: Some(ask),
                reply: None,
            }
        };
        let parts = doors::fanned(batch).into_iter().map(part).collect();
        let acking = Acking::new(upto, fresh);
        self.frames.push(Batch { acking, said: 0 }, parts);
        Ok(upto)
    }

    /// The next part that is to be asked, in order: whatever comes later waits behind it at its shard.
    pub fn next_ask(&mut self) -> Option<(Slot, ShardRequest)> {
        self.frames.next_ask().filter(|_| !self.ended)
    }

    /// A shard has answered; [`ShardReply::Nobody`] where none did.
    pub fn came(&mut self, slot: Slot, reply: ShardReply) {
        let nobody = reply == ShardReply::Nobody;
        if let Some((frame, _)) = self.frames.came(slot, reply)
            && nobody
        {
            // The batch comes again: what has not been asked need not be.
            for part in frame.parts.iter_mut().filter(|part| part.ask.is_some()) {
                (part.ask, part.reply) = (None, Some(ShardReply::Nobody));
            }
        }
    }

    /// What is to be sent next, if anything is; `credit_bytes` may be under way from then on.
    pub fn next_answer(&mut self, credit_bytes: u32) -> Option<Acked> {
        if self.ended {
            return None;
        }
        let later = self.later;
        let frame = self.frames.frames.front_mut()?;
        while let Some(part) = frame.parts.get_mut(frame.head.said)
            && let Some(reply) = part.reply.take()
        {
            frame.head.said += 1;
            let answer = answer_of(reply, later);
            if let Err(later) = frame.head.acking.answered(&part.of, answer) {
                self.ended = true;
                return Some(self.over(later));
            }
        }
        if frame.head.said < frame.parts.len() {
            return None;
        }
        let ack = self.frames.pop()?.head.acking.finish(credit_bytes);
        self.acked = ack.upto;
        Some(Acked { ack, over: None })
    }

    /// What tells the hub, which has the acknowledgement of everything before, that it may come again.
    fn over(&self, later: Answer) -> Acked {
        let after_ms = if let Answer::Refused(Refused::TryLater(later)) = &later {
            later.after_ms
        } else if later == Answer::Refused(Refused::StorageFull) {
            FULL_RETRY_AFTER_MS
        } else {
            // What is missing may be on its way, past a leader that has just changed: then at once.
            0
        };
        let ack = Ack {
            upto: self.acked,
            refused: BVec::default(),
            credit_bytes: 0,
            retry_after_ms: Some(after_ms),
        };
        let over = Some(later);
        Acked { ack, over }
    }
}

/// What a room says to its part of a batch, or would have said to an item that a user took.
fn answer_of(reply: ShardReply, later: TryLater) -> Answer {
    let unavailable = Answer::Refused(Refused::TryLater(later));
    match reply {
        ShardReply::Room(answer) => answer,
        ShardReply::User(answer) => match answer {
            // A user who is gone has no inbox.
            UserAnswer::Done | UserAnswer::Refused(UserRefused::Unknown | UserRefused::Deleted) => {
                Answer::Received
            }
            UserAnswer::Refused(UserRefused::Poisoned) => Answer::Refused(Refused::Poisoned),
            UserAnswer::Enrolled
            | UserAnswer::Uploaded(_)
            | UserAnswer::Claimed(_)
            | UserAnswer::IntroductionKept(_)
            | UserAnswer::Introduced(_)
            | UserAnswer::Unchanged
            | UserAnswer::Refused(_) => unavailable,
        },
        ShardReply::DeviceKey(_)
        | ShardReply::Knows(_)
        | ShardReply::Done
        | ShardReply::Nobody
        | ShardReply::Redriven(_) => unavailable,
    }
}

/// The lane of what a follower's clients submit to rooms of this hub.
#[derive(Debug)]
pub struct SubmitLane {
    own: ProviderId,
    follower: ProviderId,
    frames: Frames<(), Run>,
}

/// A run of submissions to one room.
#[derive(Clone, Debug)]
struct Run {
    room: RoomUri,
    first: SubmitSeq,
    count: u32,
}

impl SubmitLane {
    /// The lane from a shard of `follower` to the provider `own`.
    #[must_use]
    pub fn new(own: ProviderId, follower: ProviderId) -> Self {
        Self {
            own,
            follower,
            frames: Frames::default(),
        }
    }

    /// Whether it takes another frame now.
    #[must_use]
    pub fn may_take(&self) -> bool {
        self.frames.may_take()
    }

    /// Whether every frame was answered.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.frames.frames.is_empty()
    }

    /// Takes a frame.
    ///
    /// # Errors
    /// [`Broken`] when the follower does what only a broken or hostile one does.
    pub fn take(&mut self, batch: Submit) -> Result<(), Broken> {
        check_submit(&self.follower, &batch)?;
        let mut parts = Vec::with_capacity(batch.groups.len());
        for group in batch.groups {
            let of = Run {
                room: group.room.clone(),
                first: group.first,
                count: u32::try_from(group.messages.len()).unwrap_or(u32::MAX),
            };
            let (ask, reply) = match doors::submission(&self.own, group) {
                Some((room, submit)) => (Some(ShardRequest::Submit(room, submit)), None),
                None => {
                    let refused = Answer::Refused(Refused::NotAuthorized);
                    (None, Some(ShardReply::Room(refused)))
                }
            };
            parts.push(Part { of, ask, reply });
        }
        self.frames.push((), parts);
        Ok(())
    }

    /// The next run that is to be put before its room, in order.
    pub fn next_ask(&mut self) -> Option<(Slot, ShardRequest)> {
        self.frames.next_ask()
    }

    /// A shard has answered; [`ShardReply::Nobody`] where none did.
    pub fn came(&mut self, slot: Slot, reply: ShardReply) {
        self.frames.came(slot, reply);
    }

    /// What is to be sent next, if anything is.
    pub fn next_answer(&mut self) -> Option<Submitted> {
        let frame = self.frames.pop_whole()?;
        let mut judging = Judging::default();
        for Part { of, reply, .. } in frame.parts {
            let answer = match reply {
                Some(ShardReply::Room(answer)) => Some(answer),
                _ => None,
            };
            judging.answered(&of.room, of.first, of.count, answer);
        }
        Some(judging.finish())
    }
}

#[cfg(test)]
#[path = "receive_tests.rs"]
mod tests;
