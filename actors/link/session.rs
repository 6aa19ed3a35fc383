//! The sessions of a link: what each side may send next for one shard, and what it makes of what arrives.
//!
//! Pure and volatile: a session that is lost begins again at the last acknowledgement in the log. Promises: an
//! acknowledgement of what was never sent is seen; nothing is taken out of order in one session. Not here: how shards
//! share a lane (`way::lane`, `way::taking`), frames on their way, deadlines, and the actors that take what arrives.
//!
//! Source: transport requirements, sections 4 and 5.

use super::{Command, Links, Peer};
use crate::{
    ids::{ClientUri, ProviderId, RoomUri},
    limits::{
        BATCH_FILL_BYTES, BATCH_ROOMS_MAX, CREDIT_BYTES_FIRST, LANE_FRAMES_UNACKED_MAX,
        RETRY_AFTER_MS_MAX,
    },
    mls::codec::reader::Malformed,
    wire::{
        BText, BVec,
        answer::{Answer, Refused},
        consent::ConsentEntry,
        event::{Body, Item, LinkSeq, SubmitRefused, SubmitSeq},
        link::{Ack, Fanout, RoomRefused, Submit, SubmitGap, SubmitRejected, Submitted},
        refusal::TryLater,
    },
};
use std::collections::{BTreeMap, VecDeque};

/// What only a broken or hostile peer does; it costs the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// It acknowledged items that were never sent.
    #[error("acknowledged what was never sent: item {upto}, the next one is {next}")]
    AckAhead {
        /// What it acknowledged.
        upto: LinkSeq,
        /// What would be sent next.
        next: LinkSeq,
    },
    /// It answered more frames than it was sent.
    #[error("answered more frames than it was sent")]
    AnswerAhead,
    /// A batch without any item.
    #[error("a fan-out batch holds nothing")]
    Empty,
    /// A batch that does not follow the one before it.
    #[error("fan-out numbers have a gap or go back in one session")]
    Gap,
    /// Events of a room that belongs to somebody else.
    #[error("fan-out of a room that the peer does not own")]
    NotOwner,
    /// Events that name clients of somebody else.
    #[error("fan-out names clients of another provider")]
    ForeignClients,
    /// What is no consent entry.
    #[error("fan-out has a consent entry that cannot be read: {0}")]
    Consent(Malformed),
    /// Consent that somebody else's user says, or says to somebody else's.
    #[error("fan-out has consent between other users than the peer's and this provider's")]
    ForeignConsent,
    /// Submissions of somebody else's client.
    #[error("submissions of another provider's client")]
    ForeignSender,
    /// A frame of a shard that is not on the lane, or that no provider has.
    #[error("no shard {shard} is on the lane")]
    UnknownShard {
        /// The shard.
        shard: u16,
    },
    /// A session that ended before the one that runs, or one that never began.
    #[error("shard {shard} has no session {session} on the lane")]
    UnknownSession {
        /// The shard.
        shard: u16,
        /// The session.
        session: u64,
    },
    /// More frames of a shard than may be without an answer.
    #[error("shard {shard} sent more than {LANE_FRAMES_UNACKED_MAX} frames without an answer")]
    TooManyFrames {
        /// The shard.
        shard: u16,
    },
}

/// What a shard fans out to a peer, sending side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FanoutSender {
    next: LinkSeq,
    acked: LinkSeq,
    recorded: LinkSeq,
    /// Rooms that were refused since the last record.
    refused: BTreeMap<RoomUri, RoomRefused>,
    /// The last number of each frame under way, and its payload bytes.
    under_way: VecDeque<(LinkSeq, usize)>,
    credit_bytes: u32,
}

/// What a shard that fans out does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It puts into the log what was acknowledged: [`FanoutSender::record`].
    Record,
    /// It sends what is owed from this item on, if anything is.
    Send(LinkSeq),
    /// It waits for an acknowledgement.
    Wait,
}

impl FanoutSender {
    /// A session for what is owed to a peer, if anything is.
    #[must_use]
    pub fn owed(links: &Links, peer: &Peer) -> Option<Self> {
        let owed = links.outgoing(peer)?;
        (owed.acked() < owed.last()).then(|| Self::new(owed.acked()))
    }

    /// A session that begins after `acked`, the last acknowledgement in the log.
    #[must_use]
    pub fn new(acked: LinkSeq) -> Self {
        Self {
            next: acked.next(),
            acked,
            recorded: acked,
            refused: BTreeMap::new(),
            under_way: VecDeque::new(),
            credit_bytes: CREDIT_BYTES_FIRST,
        }
    }

    /// What it does next.
    #[must_use]
    pub fn turn(&self) -> Turn {
        if self.must_record() {
            return Turn::Record;
        }
        self.next().map_or(Turn::Wait, Turn::Send)
    }

    /// The item from which on to send now; `None` while enough is under way.
    #[must_use]
    pub fn next(&self) -> Option<LinkSeq> {
        let frames = self.under_way.len() < LANE_FRAMES_UNACKED_MAX;
        let credit = self.under_way.is_empty()
            || self.bytes_under_way() + BATCH_FILL_BYTES <= self.credit_bytes as usize;
        (frames && credit).then_some(self.next)
    }

    /// Payload bytes that were sent and not acknowledged.
    #[must_use]
    pub fn bytes_under_way(&self) -> usize {
        self.under_way.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Payload bytes that the peer lets be under way.
    #[must_use]
    pub fn credit_bytes(&self) -> u32 {
        self.credit_bytes
    }

    /// A frame with everything before `after` was sent: `bytes` of payload.
    pub fn sent(&mut self, after: LinkSeq, bytes: usize) {
        let last = LinkSeq(after.0.saturating_sub(1));
        self.under_way.push_back((last, bytes));
        self.next = after;
    }

    /// The next item fits no frame: it is passed over, as if the peer had refused its room, once everything before it is
    /// acknowledged. Says whether it is.
    pub fn pass_over(&mut self, item: LinkSeq, refused: RoomRefused) -> bool {
        if !self.under_way.is_empty() || self.next != item {
            return false;
        }
        self.acked = item;
        self.next = item.next();
        self.refused.insert(refused.room.clone(), refused);
        true
    }

    /// The peer has everything up to a number, and refused what it names. An older acknowledgement is no news.
    ///
    /// Says when to come again, in milliseconds, if the peer takes nothing more: then the session is over.
    ///
    /// # Errors
    /// [`Broken::AckAhead`] when that was never sent.
    pub fn acknowledged(&mut self, ack: &Ack) -> Result<Option<u32>, Broken> {
        let upto = ack.upto;
        if upto >= self.next {
            let next = self.next;
            return Err(Broken::AckAhead { upto, next });
        }
        let refused = ack.refused.iter();
        self.refused
            .extend(refused.map(|refused| (refused.room.clone(), refused.clone())));
        self.acked = self.acked.max(upto);
        self.credit_bytes = ack.credit_bytes;
        while self
            .under_way
            .front()
            .is_some_and(|(last, _)| *last <= self.acked)
        {
            self.under_way.pop_front();
        }
        let again_after_ms = ack.retry_after_ms;
        Ok(again_after_ms.map(|ms| ms.min(RETRY_AFTER_MS_MAX)))
    }

    /// Whether an acknowledgement is not in the log yet.
    #[must_use]
    pub fn has_to_record(&self) -> bool {
        self.acked > self.recorded
    }

    /// Whether it should be put there now, because it names as many rooms as one acknowledgement may.
    fn must_record(&self) -> bool {
        self.refused.len() >= BATCH_ROOMS_MAX
    }

    /// What `peer` acknowledged, for the log; from now on that counts as being there.
    pub fn record(&mut self, peer: Peer) -> Command {
        let upto = self.acked;
        self.recorded = self.recorded.max(upto);
        let refused = std::mem::take(&mut self.refused).into_values().collect();
        Command::Ack {
            peer,
            upto,
            refused,
        }
    }
}

/// What a shard fans out, receiving side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FanoutReceiver {
    expected: Option<LinkSeq>,
}

impl FanoutReceiver {
    /// Whether nothing was taken in this session yet: its next batch begins at the sender's last acknowledgement.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.expected.is_none()
    }

    /// Checks that a batch is the peer's to send, to `own`, and follows the last; returns the number of its last item.
    ///
    /// # Errors
    /// [`Broken`] when it is not; nothing of it may be taken.
    pub fn take(
        &mut self,
        peer: &ProviderId,
        own: &ProviderId,
        batch: &Fanout,
    ) -> Result<LinkSeq, Broken> {
        let items: u64 = batch
            .groups
            .iter()
            .map(|group| group.items.len() as u64)
            .sum();
        if items == 0 || batch.first.0 == 0 {
            return Err(Broken::Empty);
        }
        if self
            .expected
            .is_some_and(|expected| batch.first != expected)
        {
            return Err(Broken::Gap);
        }
        for group in &batch.groups {
            let may_say = |item: &Item| match item {
                Item::Event(_) | Item::Refused { .. } => group.room.hub() == peer,
                Item::Refilled { client, .. } => {
                    group.room.hub() == peer || client.provider() == peer
                }
                // Whose it is, is said below.
                Item::Consent(_) => true,
                Item::Departed { client, .. } => {
                    group.room.hub() == own && client.provider() == peer
                }
            };
            if !group.items.iter().all(may_say) {
                return Err(Broken::NotOwner);
            }
            if !group.items.iter().all(|item| names_only(item, own)) {
                return Err(Broken::ForeignClients);
            }
            for item in &group.items {
                if let Item::Consent(entry) = item {
                    let entry = ConsentEntry::read(entry).map_err(Broken::Consent)?;
                    if !entry.is_between(peer, own) {
                        return Err(Broken::ForeignConsent);
                    }
                }
            }
        }
        let upto = LinkSeq(batch.first.0.saturating_add(items - 1));
        self.expected = Some(upto.next());
        Ok(upto)
    }
}

/// Whether every client that an item names belongs to `provider`.
fn names_only(item: &Item, provider: &ProviderId) -> bool {
    let local = |clients: &[ClientUri]| clients.iter().all(|client| client.provider() == provider);
    match item {
        // Of whoever departs it was seen that it is the sender's, who may say so.
        Item::Refused { .. } | Item::Departed { .. } | Item::Consent(_) => true,
        Item::Refilled { requester, .. } => requester.provider() == provider,
        Item::Event(event) => match &event.body {
            Body::Application(_) | Body::Proposals(_) | Body::Own(_) => true,
            Body::Invited(invitation) => local(&invitation.clients),
            Body::Entered(entered) => local(std::slice::from_ref(&entered.client)),
            Body::Commit(commit) => {
                let invited = commit.invitation.as_ref();
                local(&commit.left)
                    && local(commit.entered.as_slice())
                    && invited.is_none_or(|invitation| local(&invitation.clients))
            }
        },
    }
}

/// The acknowledgement of one batch, while its rooms answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acking {
    ack: Ack,
    fresh: bool,
}

impl Acking {
    /// Of a batch that ends with item `upto`; `fresh` when it is the first of its session.
    #[must_use]
    pub fn new(upto: LinkSeq, fresh: bool) -> Self {
        let refused = BVec::default();
        Self {
            ack: Ack {
                upto,
                refused,
                credit_bytes: 0,
                retry_after_ms: None,
            },
            fresh,
        }
    }

    /// Adds what a room says to its part.
    ///
    /// # Errors
    /// The room's words, when it has not taken its part and may do so later: then there is no acknowledgement, and the
    /// hub sends again. What is missing may be on its way still, past a leader that has just changed: only the first
    /// batch of a session, which begins at the last acknowledgement, is refused for good.
    pub fn answered(&mut self, room: &RoomUri, answer: Answer) -> Result<(), Answer> {
        let detail = match answer {
            Answer::Received => return Ok(()),
            Answer::Gap { .. } | Answer::Refused(Refused::NotAuthorized) if !self.fresh => {
                return Err(answer);
            }
            Answer::Gap { expected } => format!("event {expected} is missing"),
            Answer::Refused(refused @ (Refused::Poisoned | Refused::NotAuthorized)) => {
                refused.to_string()
            }
            later @ (Answer::Refused(_)
            | Answer::Created
            | Answer::Committed(_)
            | Answer::Proposed(_)
            | Answer::Sent(_)
            | Answer::GroupInfo(_)
            | Answer::CodeMade(_)
            | Answer::Codes(_)
            | Answer::CodeRevoked) => return Err(later),
        };
        let refused = self.ack.refused.push(RoomRefused {
            room: room.clone(),
            detail: BText::clipped(&detail),
        });
        // A batch names no more rooms than that.
        refused.map_err(|_| Answer::Refused(Refused::TryLater(TryLater::BUSY)))
    }

    /// What to send, once every room has answered; `credit_bytes` may be under way from now on.
    #[must_use]
    pub fn finish(self, credit_bytes: u32) -> Ack {
        Ack {
            credit_bytes,
            ..self.ack
        }
    }
}

/// What a shard submits to a hub, sending side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubmitSender {
    next: u64,
    under_way: usize,
}

/// What the hub's answer to a frame of submissions asks of its sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Runs that were refused without a number: their verdict.
    pub refused: Vec<SubmitRejected>,
    /// Whether everything without a verdict goes again: at once, or after this many milliseconds.
    pub again_after_ms: Option<u32>,
}

impl SubmitSender {
    /// A session for what waits for a hub, if anything does.
    #[must_use]
    pub fn owed(links: &Links, hub: &ProviderId) -> Option<Self> {
        let waiting = links.submissions(hub)?;
        (!waiting.is_empty()).then(Self::default)
    }

    /// How long to wait before numbers that the hub misses are sent again, in milliseconds.
    const GAP_RETRY_MS: u32 = 50;

    /// The place from which on to send now; `None` while enough is under way.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        (self.under_way < LANE_FRAMES_UNACKED_MAX).then_some(self.next)
    }

    /// A frame with everything before place `after` was sent.
    pub fn sent(&mut self, after: u64) {
        self.under_way += 1;
        self.next = after;
    }

    /// `hub` answered the oldest frame under way.
    ///
    /// # Errors
    /// [`Broken::AnswerAhead`] when none was.
    pub fn answered(&mut self, hub: &ProviderId, submitted: Submitted) -> Result<Judged, Broken> {
        self.under_way = self.under_way.checked_sub(1).ok_or(Broken::AnswerAhead)?;
        let gap = (!submitted.gaps.is_empty()).then_some(Self::GAP_RETRY_MS);
        let refused = submitted.refused.into_vec();
        Ok(Judged {
            refused: refused
                .into_iter()
                .filter(|rejected| rejected.room.hub() == hub)
                .collect(),
            again_after_ms: submitted.retry_after_ms.or(gap),
        })
    }

    /// Everything without a verdict goes again, behind what is under way.
    pub fn again(&mut self) {
        self.next = 0;
    }
}

/// Checks that submissions are the peer's to send.
///
/// # Errors
/// [`Broken::ForeignSender`] when they are not; nothing of them may be taken.
pub fn check_submit(peer: &ProviderId, batch: &Submit) -> Result<(), Broken> {
    let foreign = |sender: &ClientUri| sender.provider() != peer;
    let any = batch.groups.iter().any(|group| foreign(&group.sender));
    if any {
        return Err(Broken::ForeignSender);
    }
    Ok(())
}

/// The answer to one frame of submissions, while its rooms judge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judging {
    refused: BVec<SubmitRejected, BATCH_ROOMS_MAX>,
    gaps: BVec<SubmitGap, BATCH_ROOMS_MAX>,
    retry_after_ms: Option<u32>,
}

impl Judging {
    /// Adds what a room says to the run of `count` submissions from `first` on; `None` when it gives no answer.
    pub fn answered(
        &mut self,
        room: &RoomUri,
        first: SubmitSeq,
        count: u32,
        answer: Option<Answer>,
    ) {
        let reason = match answer {
            Some(Answer::Received) => return,
            Some(Answer::Gap { expected }) => {
                let gap = self.gaps.push(SubmitGap {
                    room: room.clone(),
                    expected: SubmitSeq(expected),
                });
                return self.or_again(gap.is_ok());
            }
            Some(Answer::Refused(Refused::NotAuthorized)) => SubmitRefused::NotAuthorized,
            Some(Answer::Refused(Refused::Poisoned)) => SubmitRefused::Poisoned,
            Some(_) | None => {
                return self.or_again(false);
            }
        };
        let refused = self.refused.push(SubmitRejected {
            room: room.clone(),
            first,
            count,
            reason,
        });
        self.or_again(refused.is_ok());
    }

    /// What is not answered comes again.
    fn or_again(&mut self, answered: bool) {
        if !answered {
            self.retry_after_ms = Some(TryLater::BUSY.after_ms);
        }
    }

    /// What to send, once every room has answered.
    #[must_use]
    pub fn finish(self) -> Submitted {
        Submitted {
            refused: self.refused,
            gaps: self.gaps,
            retry_after_ms: self.retry_after_ms,
        }
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
