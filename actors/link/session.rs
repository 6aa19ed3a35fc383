//! The sessions of a link: what each side of a lane may send next, and what it makes of what arrives.
//!
//! Pure and volatile: a session that is lost begins again at the last acknowledgement in the log. Promises: an
//! acknowledgement of what was never sent is seen; nothing is taken out of order on one lane. Not here: frames on
//! their way, deadlines, and the actors that take what arrives.
//!
//! Source: transport requirements, sections 4 and 5.

use super::{Command, Peer};
use crate::{
    ids::{ClientUri, ProviderId, RoomUri},
    limits::{BATCH_FILL_BYTES, BATCH_ROOMS_MAX, CREDIT_BYTES_FIRST, LANE_FRAMES_UNACKED_MAX},
    wire::{
        BText, BVec,
        answer::{Answer, Refused},
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
    #[error("fan-out numbers have a gap or go back on one lane")]
    Gap,
    /// Events of a room that belongs to somebody else.
    #[error("fan-out of a room that the peer does not own")]
    NotOwner,
    /// Events that name clients of somebody else.
    #[error("fan-out names clients of another provider")]
    ForeignClients,
    /// Submissions of somebody else's client.
    #[error("submissions of another provider's client")]
    ForeignSender,
}

/// The fan-out lane, sending side.
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

impl FanoutSender {
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

    /// The peer has everything up to a number, and refused what it names. An older acknowledgement is no news.
    ///
    /// # Errors
    /// [`Broken::AckAhead`] when that was never sent.
    pub fn acknowledged(&mut self, ack: &Ack) -> Result<(), Broken> {
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
        Ok(())
    }

    /// Whether an acknowledgement is not in the log yet.
    #[must_use]
    pub fn has_to_record(&self) -> bool {
        self.acked > self.recorded
    }

    /// Whether it should be put there now, because it names as many rooms as one acknowledgement may.
    #[must_use]
    pub fn must_record(&self) -> bool {
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

/// The fan-out lane, receiving side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FanoutReceiver {
    expected: Option<LinkSeq>,
}

impl FanoutReceiver {
    /// Whether nothing was taken on this lane yet: its next batch begins at the sender's last acknowledgement.
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
            let own_word = |item: &Item| matches!(item, Item::Refilled { client, .. } if client.provider() == peer);
            let owns = group.room.hub() == peer || group.items.iter().all(own_word);
            if !owns {
                return Err(Broken::NotOwner);
            }
            if !group.items.iter().all(|item| names_only(item, own)) {
                return Err(Broken::ForeignClients);
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
        Item::Refused { .. } => true,
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
    /// Of a batch that ends with item `upto`; `fresh` when it is the first of its lane.
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
    /// batch of a lane, which begins at the last acknowledgement, is refused for good.
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
        let mut refused = std::mem::take(&mut self.ack.refused).into_vec();
        refused.push(RoomRefused {
            room: room.clone(),
            detail: BText::clipped(&detail),
        });
        self.ack.refused = BVec::truncated(refused);
        Ok(())
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

/// The submit lane, sending side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubmitSender {
    next: u64,
    under_way: usize,
}

/// What the hub's answer to a frame of submissions asks of its sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Runs that were refused without a number: their final word.
    pub refused: Vec<SubmitRejected>,
    /// Whether everything without a final word goes again: at once, or after this many milliseconds.
    pub again_after_ms: Option<u32>,
}

impl SubmitSender {
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

    /// Everything without a final word goes again, behind what is under way.
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
    refused: Vec<SubmitRejected>,
    gaps: Vec<SubmitGap>,
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
                return self.gaps.push(SubmitGap {
                    room: room.clone(),
                    expected: SubmitSeq(expected),
                });
            }
            Some(Answer::Refused(Refused::NotAuthorized)) => SubmitRefused::NotAuthorized,
            Some(Answer::Refused(Refused::Poisoned)) => SubmitRefused::Poisoned,
            Some(_) | None => {
                self.retry_after_ms = Some(TryLater::BUSY.after_ms);
                return;
            }
        };
        self.refused.push(SubmitRejected {
            room: room.clone(),
            first,
            count,
            reason,
        });
    }

    /// What to send, once every room has answered.
    #[must_use]
    pub fn finish(self) -> Submitted {
        Submitted {
            refused: BVec::truncated(self.refused),
            gaps: BVec::truncated(self.gaps),
            retry_after_ms: self.retry_after_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        machine::Millis,
        wire::{
            Payload,
            event::{CommitEvent, Epoch, Event, Invitation, RoomSeq},
            link::FanoutGroup,
        },
    };

    fn provider(name: &str) -> ProviderId {
        format!("{name}.example").parse().unwrap()
    }

    fn room() -> RoomUri {
        "mimi://a.example/r/clubhouse".parse().unwrap()
    }

    fn item(body: Body) -> Item {
        Item::Event(Event {
            seq: RoomSeq(1),
            time: Millis(1),
            body,
        })
    }

    fn invitation(client: &str) -> Invitation {
        Invitation {
            epoch: Epoch(1),
            clients: BVec::truncated(vec![client.parse().unwrap()]),
            welcome: Payload::from(vec![1]),
            tree: Payload::from(vec![2]),
        }
    }

    fn batch(first: u64, items: Vec<Item>) -> Fanout {
        let group = FanoutGroup {
            room: room(),
            items: BVec::truncated(items),
        };
        Fanout {
            first: LinkSeq(first),
            groups: BVec::truncated(vec![group]),
        }
    }

    fn text() -> Item {
        item(Body::Application(Payload::from(vec![7])))
    }

    fn ack(upto: u64) -> Ack {
        Acking::new(LinkSeq(upto), false).finish(CREDIT_BYTES_FIRST)
    }

    fn peer() -> Peer {
        Peer::Provider(provider("b"))
    }

    #[test]
    fn a_sender_stops_at_its_window_and_goes_on_with_the_acknowledgement() {
        let mut sender = FanoutSender::new(LinkSeq(4));
        for frame in 0..LANE_FRAMES_UNACKED_MAX as u64 {
            assert_eq!(sender.next(), Some(LinkSeq(5 + 2 * frame)));
            sender.sent(LinkSeq(7 + 2 * frame), 1);
        }
        assert!(sender.next().is_none() && !sender.has_to_record());
        sender.acknowledged(&ack(6)).unwrap();
        sender.acknowledged(&ack(5)).unwrap();
        assert!(sender.next().is_some() && sender.has_to_record());
        let recorded = Command::Ack {
            peer: peer(),
            upto: LinkSeq(6),
            refused: Vec::new(),
        };
        assert_eq!(sender.record(peer()), recorded);
        assert!(!sender.has_to_record());
    }

    #[test]
    fn a_sender_keeps_to_the_credit_but_is_never_stopped_for_good() {
        let mut sender = FanoutSender::new(LinkSeq(0));
        let frames = CREDIT_BYTES_FIRST as usize / BATCH_FILL_BYTES;
        for frame in 0..frames as u64 {
            assert!(sender.next().is_some());
            sender.sent(LinkSeq(2 + frame), BATCH_FILL_BYTES);
        }
        assert_eq!((sender.next(), sender.bytes_under_way()), (None, 4 << 20));
        let none = Ack {
            credit_bytes: 0,
            ..ack(frames as u64 - 1)
        };
        sender.acknowledged(&none).unwrap();
        assert_eq!(sender.next(), None);
        let all = Ack {
            credit_bytes: 0,
            ..ack(frames as u64)
        };
        sender.acknowledged(&all).unwrap();
        assert!(sender.next().is_some());
    }

    #[test]
    fn refused_rooms_go_into_the_log_with_the_acknowledgement_once() {
        let mut sender = FanoutSender::new(LinkSeq(0));
        sender.sent(LinkSeq(3), 1);
        let mut acking = Acking::new(LinkSeq(2), true);
        let poisoned = Answer::Refused(Refused::Poisoned);
        acking.answered(&room(), poisoned).unwrap();
        sender.acknowledged(&acking.finish(1)).unwrap();
        assert!(!sender.must_record());
        let rooms = |command| match command {
            Command::Ack { refused, .. } => refused.len(),
            Command::Redrive { .. } | Command::Forget { .. } | Command::Read { .. } => {
                panic!("an acknowledgement")
            }
        };
        assert_eq!(rooms(sender.record(peer())), 1);
        assert_eq!(rooms(sender.record(peer())), 0);
    }

    #[test]
    fn an_acknowledgement_of_what_was_never_sent_breaks_the_link() {
        let mut sender = FanoutSender::new(LinkSeq(0));
        sender.sent(LinkSeq(4), 1);
        assert!(sender.acknowledged(&ack(3)).is_ok());
        let broken = Broken::AckAhead {
            upto: LinkSeq(4),
            next: LinkSeq(4),
        };
        assert_eq!(sender.acknowledged(&ack(4)), Err(broken));
    }

    #[test]
    fn a_receiver_takes_batches_of_the_owner_in_order_and_nothing_else() {
        let (a, b) = (provider("a"), provider("b"));
        let mut receiver = FanoutReceiver::default();
        assert_eq!(
            receiver.take(&a, &b, &batch(3, vec![text(), text()])),
            Ok(LinkSeq(4))
        );
        for first in [4, 6] {
            assert_eq!(
                receiver.take(&a, &b, &batch(first, vec![text()])),
                Err(Broken::Gap)
            );
        }
        assert_eq!(receiver.take(&a, &b, &batch(5, vec![])), Err(Broken::Empty));
        assert_eq!(
            receiver.take(&b, &b, &batch(5, vec![text()])),
            Err(Broken::NotOwner)
        );
        assert_eq!(
            receiver.take(&a, &b, &batch(5, vec![text()])),
            Ok(LinkSeq(5))
        );
    }

    #[test]
    fn an_item_that_names_clients_of_another_provider_is_refused() {
        let (bob, carol) = (
            "mimi://b.example/d/bob/phone",
            "mimi://c.example/d/carol/phone",
        );
        let commit = |left: &[&str], invited: Option<&str>| {
            item(Body::Commit(CommitEvent {
                epoch: Epoch(2),
                commit: Payload::from(vec![3]),
                left: BVec::truncated(left.iter().map(|name| name.parse().unwrap()).collect()),
                entered: None,
                invitation: invited.map(invitation),
            }))
        };
        let (a, b) = (provider("a"), provider("b"));
        let taken = |item: Item| FanoutReceiver::default().take(&a, &b, &batch(1, vec![item]));
        for foreign in [
            item(Body::Invited(invitation(carol))),
            commit(&[carol], None),
            commit(&[bob], Some(carol)),
        ] {
            assert_eq!(taken(foreign), Err(Broken::ForeignClients));
        }
        for own in [
            text(),
            item(Body::Own(SubmitSeq(1))),
            item(Body::Invited(invitation(bob))),
            commit(&[bob], Some(bob)),
            Item::Refused {
                submit_seq: SubmitSeq(1),
                reason: SubmitRefused::NotMember,
            },
        ] {
            assert_eq!(taken(own), Ok(LinkSeq(1)));
        }
    }

    #[test]
    fn a_room_that_may_take_its_part_later_stops_the_acknowledgement() {
        let gap = Answer::Gap { expected: 3 };
        let mut later_batch = Acking::new(LinkSeq(12), false);
        assert!(later_batch.answered(&room(), gap.clone()).is_err());
        let mut acking = Acking::new(LinkSeq(9), true);
        assert!(acking.answered(&room(), Answer::Received).is_ok());
        assert!(acking.answered(&room(), gap).is_ok());
        let later = Answer::Refused(Refused::TryLater(TryLater::overloaded(1)));
        assert!(acking.answered(&room(), later).is_err());
        let ack = acking.finish(7);
        assert_eq!((ack.upto, ack.refused.len()), (LinkSeq(9), 1));
    }

    #[test]
    fn a_hub_that_answers_too_often_breaks_the_link_and_speaks_for_its_own_rooms_only() {
        let rejected = |room: &str| SubmitRejected {
            room: room.parse().unwrap(),
            first: SubmitSeq(1),
            count: 2,
            reason: SubmitRefused::NotMember,
        };
        let own = rejected("mimi://a.example/r/clubhouse");
        let submitted = Submitted {
            refused: BVec::truncated(vec![own.clone(), rejected("mimi://c.example/r/den")]),
            gaps: BVec::default(),
            retry_after_ms: None,
        };
        let mut sender = SubmitSender::default();
        sender.sent(3);
        assert_eq!(sender.next(), Some(3));
        let judged = sender.answered(&provider("a"), submitted.clone()).unwrap();
        assert_eq!((judged.refused, judged.again_after_ms), (vec![own], None));
        let again = sender.answered(&provider("a"), submitted);
        assert_eq!(again, Err(Broken::AnswerAhead));
    }
}
