//! What the receiver of a long lane does with one shard's frames: whom it asks for each part, and what it answers, in order.
//!
//! Promises: frames are taken while earlier ones are on their way into the log; what goes back keeps their order, and says
//! only what every part of a frame has said, durably. Not here: how shards share a lane ([`taking`](super::taking)), what
//! one answer says ([`Acking`], [`Judging`]), who may be let in, the frames on their way.
//!
//! Source: transport requirements, sections 4 and 5.

use super::{Slot, Slots};
use crate::{
    doors::{self, Fanned},
    ids::{ProviderId, RoomUri},
    limits::{INVITED_BYTES, LANE_FRAMES_UNACKED_MAX},
    link::session::{Acking, Broken, FanoutReceiver, Judging, check_submit},
    room::follower,
    shard_request::{ShardReply, ShardRequest},
    user::{
        command::{Command as UserCommand, Heard},
        outcome::{Answer as UserAnswer, Refused as UserRefused},
    },
    wire::{
        BVec,
        answer::{Answer, Refused},
        event::{Body, Event, Invitation, Item, LinkSeq, SubmitSeq},
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
    /// Bytes that it holds.
    bytes: usize,
}

/// Frames in order, while their parts are asked.
#[derive(Debug)]
struct Frames<H, T> {
    slots: Slots<(u64, usize)>,
    frames: VecDeque<Frame<H, T>>,
    /// How many frames were answered.
    answered: u64,
    /// Bytes that all of them hold.
    held: usize,
}

impl<H, T> Default for Frames<H, T> {
    fn default() -> Self {
        Self {
            slots: Slots::default(),
            frames: VecDeque::new(),
            answered: 0,
            held: 0,
        }
    }
}

impl<H, T> Frames<H, T> {
    fn push(&mut self, head: H, parts: Vec<Part<T>>, bytes: usize) {
        self.held += bytes;
        self.frames.push_back(Frame {
            head,
            parts,
            asked: 0,
            bytes,
        });
    }

    /// The parts that are to be asked of the first frame that has any, in order.
    fn next_asks(&mut self) -> Vec<(Slot, ShardRequest)> {
        let mut asks = Vec::new();
        for (number, frame) in (self.answered..).zip(&mut self.frames) {
            for (place, part) in frame.parts.iter_mut().enumerate().skip(frame.asked) {
                if let Some(request) = part.ask.take() {
                    asks.push((self.slots.open((number, place)), request));
                }
            }
            frame.asked = frame.parts.len();
            if !asks.is_empty() {
                break;
            }
        }
        asks
    }

    /// Gives up what was not asked: nobody answers for it.
    fn give_up(&mut self) {
        for frame in self.frames.iter_mut().filter(|frame| frame.asked == 0) {
            for part in frame.parts.iter_mut().filter(|part| part.ask.is_some()) {
                (part.ask, part.reply) = (None, Some(ShardReply::Nobody));
            }
            frame.asked = frame.parts.len();
            self.held -= std::mem::take(&mut frame.bytes);
        }
    }

    /// What is held, and how much of it was not asked.
    fn held(&self) -> Held {
        let waiting = self.frames.iter().filter(|frame| frame.asked == 0);
        Held {
            bytes: self.held,
            waiting: waiting.map(|frame| frame.bytes).sum(),
            under_way: self.slots.len(),
        }
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
        let frame = self.frames.pop_front()?;
        self.answered += 1;
        self.held -= frame.bytes;
        Some(frame)
    }

    fn may_take(&self) -> bool {
        self.frames.len() < LANE_FRAMES_UNACKED_MAX
    }
}

/// What the frames of one shard hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Bytes of frames that are not answered.
    pub bytes: usize,
    /// Bytes of those of which no part was asked yet.
    pub waiting: usize,
    /// Parts that were asked and are not answered.
    pub under_way: usize,
}

/// What a frame brings clients into, and with how much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Brought {
    /// Rooms that may begin here.
    pub rooms: u32,
    /// Welcomes and trees, in units of [`INVITED_BYTES`], each invitation rounded up.
    pub invited: u32,
}

impl Brought {
    /// One invitation.
    fn by(invitation: &Invitation) -> u32 {
        let bytes = invitation.welcome.len() + invitation.tree.len();
        u32::try_from(bytes.div_ceil(INVITED_BYTES)).unwrap_or(u32::MAX)
    }
}

/// What the receiver of a lane does with the frames of one session of a shard.
pub trait Session: Sized {
    /// A frame.
    type Frame;
    /// What answers it.
    type Answer;

    /// A session that has not begun, between the same providers.
    #[must_use]
    fn anew(&self) -> Self;

    /// Whether it takes another frame now.
    fn may_take(&self) -> bool;

    /// Whom a frame brings into rooms, and with how much.
    fn brings(frame: &Self::Frame) -> Brought;

    /// Takes a frame, which holds so many bytes.
    ///
    /// # Errors
    /// [`Broken`] when the sender does what only a broken or hostile one does.
    fn take(&mut self, frame: Self::Frame, bytes: usize) -> Result<(), Broken>;

    /// The parts of the next frame that are to be asked, in order: whatever comes later waits behind them at its shard.
    fn next_asks(&mut self) -> Vec<(Slot, ShardRequest)>;

    /// A shard has answered; [`ShardReply::Nobody`] where none did.
    fn came(&mut self, slot: Slot, reply: ShardReply);

    /// What is to be sent next, if anything is; `credit_bytes` may be under way from then on.
    fn next_answer(&mut self, credit_bytes: u32) -> Option<Self::Answer>;

    /// Gives up the frames of which nothing was asked: the sender is told to come again.
    fn give_up(&mut self);

    /// What its frames hold.
    fn held(&self) -> Held;

    /// Whether every frame was answered.
    fn is_idle(&self) -> bool;

    /// Whether its last answer was given: nothing more is taken.
    fn is_over(&self) -> bool;
}

/// What a shard of a hub fans out to this provider.
#[derive(Debug)]
pub struct FanoutTaking {
    own: ProviderId,
    hub: ProviderId,
    /// When the hub may come again whose events nobody here answered for.
    later: TryLater,
    taken: FanoutReceiver,
    /// What the hub has the acknowledgement of.
    acked: LinkSeq,
    frames: Frames<Batch, RoomUri>,
    /// Nobody answered for a part: what comes behind it is not asked.
    closing: bool,
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
    /// Why the session is over then: a room took nothing, and may later. The hub comes again after
    /// [`Ack::retry_after_ms`].
    pub over: Option<Answer>,
}

impl FanoutTaking {
    /// Of a shard of `hub`, for the provider `own`; `later` is when the hub may come again whose events nobody here
    /// answered for.
    #[must_use]
    pub fn new(own: ProviderId, hub: ProviderId, later: TryLater) -> Self {
        Self {
            own,
            hub,
            later,
            taken: FanoutReceiver::default(),
            acked: LinkSeq(0),
            frames: Frames::default(),
            closing: false,
            ended: false,
        }
    }

    /// Nobody answers for what was not asked.
    fn close(&mut self) {
        self.closing = true;
        self.frames.give_up();
    }

    /// Holds nothing more once the session is over and everything that was asked has been answered.
    fn forget_if_over(&mut self) {
        if self.ended && self.frames.slots.len() == 0 {
            self.frames = Frames::default();
        }
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

impl Session for FanoutTaking {
    type Frame = Fanout;
    type Answer = Acked;

    fn anew(&self) -> Self {
        Self::new(self.own.clone(), self.hub.clone(), self.later)
    }

    fn may_take(&self) -> bool {
        self.frames.may_take() && !self.ended
    }

    fn brings(batch: &Fanout) -> Brought {
        let mut brought = Brought::default();
        for group in &batch.groups {
            for (place, item) in group.items.iter().enumerate() {
                // A request that nobody waits for costs a place in the log, as a small invitation does.
                brought.invited += u32::from(matches!(item, Item::Consent(_)));
                let Item::Event(Event { body, .. }) = item else {
                    continue;
                };
                let invitation = match body {
                    Body::Invited(invitation) => Some(invitation),
                    Body::Commit(commit) => commit.invitation.as_ref(),
                    Body::Application(_) | Body::Proposals(_) | Body::Entered(_) | Body::Own(_) => {
                        None
                    }
                };
                brought.invited += invitation.map_or(0, Brought::by);
                brought.rooms += u32::from(place == 0 && matches!(body, Body::Invited(_)));
            }
        }
        brought
    }

    fn take(&mut self, batch: Fanout, bytes: usize) -> Result<(), Broken> {
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
                Fanned::Departed(departed) => {
                    (departed.room.clone(), ShardRequest::Depart(departed))
                }
                Fanned::Consent(room, entry) => {
                    let user = entry.receiver().clone();
                    let heard = UserCommand::Heard(Heard { from: None, entry });
                    (room, ShardRequest::UserLog(user, heard))
                }
            };
            Part {
                of,
                ask: Some(ask),
                reply: None,
            }
        };
        let parts = doors::fanned(batch).into_iter().map(part).collect();
        let acking = Acking::new(upto, fresh);
        self.frames.push(Batch { acking, said: 0 }, parts, bytes);
        if self.closing {
            self.frames.give_up();
        }
        Ok(())
    }

    fn next_asks(&mut self) -> Vec<(Slot, ShardRequest)> {
        if self.ended {
            return Vec::new();
        }
        self.frames.next_asks()
    }

    fn came(&mut self, slot: Slot, reply: ShardReply) {
        let nobody = reply == ShardReply::Nobody;
        if self.frames.came(slot, reply).is_some() && nobody {
            // The batch comes again, and what is behind it too: what has not been asked need not be.
            self.close();
        }
        self.forget_if_over();
    }

    fn next_answer(&mut self, credit_bytes: u32) -> Option<Acked> {
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
                self.close();
                self.forget_if_over();
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

    fn give_up(&mut self) {
        self.close();
    }

    fn held(&self) -> Held {
        self.frames.held()
    }

    fn is_idle(&self) -> bool {
        self.frames.frames.is_empty()
    }

    fn is_over(&self) -> bool {
        self.ended
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
            | UserAnswer::Consents(_)
            | UserAnswer::Refused(_) => unavailable,
        },
        ShardReply::DeviceKey(_)
        | ShardReply::Knows(_)
        | ShardReply::Done
        | ShardReply::Nobody
        | ShardReply::Redriven(_)
        | ShardReply::Named(_) => unavailable,
    }
}

/// What a follower's clients submit to rooms of this hub.
#[derive(Debug)]
pub struct SubmitTaking {
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

impl SubmitTaking {
    /// Of a shard of `follower`, for the provider `own`.
    #[must_use]
    pub fn new(own: ProviderId, follower: ProviderId) -> Self {
        Self {
            own,
            follower,
            frames: Frames::default(),
        }
    }
}

impl Session for SubmitTaking {
    type Frame = Submit;
    type Answer = Submitted;

    fn anew(&self) -> Self {
        Self::new(self.own.clone(), self.follower.clone())
    }

    fn may_take(&self) -> bool {
        self.frames.may_take()
    }

    fn brings(_batch: &Submit) -> Brought {
        Brought::default()
    }

    fn take(&mut self, batch: Submit, bytes: usize) -> Result<(), Broken> {
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
        self.frames.push((), parts, bytes);
        Ok(())
    }

    fn next_asks(&mut self) -> Vec<(Slot, ShardRequest)> {
        self.frames.next_asks()
    }

    fn came(&mut self, slot: Slot, reply: ShardReply) {
        self.frames.came(slot, reply);
    }

    /// Submissions have no credit.
    fn next_answer(&mut self, _credit_bytes: u32) -> Option<Submitted> {
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

    fn give_up(&mut self) {
        self.frames.give_up();
    }

    fn held(&self) -> Held {
        self.frames.held()
    }

    fn is_idle(&self) -> bool {
        self.frames.frames.is_empty()
    }

    /// It never refuses to go on.
    fn is_over(&self) -> bool {
        false
    }
}

#[cfg(test)]
#[path = "receive_tests.rs"]
mod tests;
