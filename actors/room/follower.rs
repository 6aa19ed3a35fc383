//! A room owned elsewhere, as a provider with members in it keeps it.
//!
//! Promises: events are taken in the hub's order without a gap and once; what a local client submitted is durable here
//! until the hub's verdict, which it gets exactly once. Not here: judging messages, which is the hub's.
//!
//! Source: transport requirements, sections 4 and 5.

use super::{
    commits::local_by_user,
    numbers::{Fresh, Numbers},
    outcome::{Answer, Change, Decided, Emission, Outcome, QueuedRun, Refused, UserNotice},
};
use crate::{
    ids::ClientUri,
    limits::{BATCH_EVENTS_MAX, SUBMISSIONS_UNDECIDED_PER_ROOM_MAX, SUBMIT_ITEMS_MAX},
    machine::{self, Moment, Position, ReviveError},
    mls::codec::message::application_header,
    wire::{
        self, BVec, Payload,
        event::{
            Body, ClientSeq, Epoch, Event, Invitation, Item, Lane, RoomSeq, SubmitRefused,
            SubmitSeq, Verdict, VerdictRun,
        },
        refusal::TryLater,
    },
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What the log can tell a followed room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Take events and verdicts from the hub.
    Deliver(Deliver),
    /// Take application messages of a local client, on the way to the hub.
    Queue(Queue),
    /// Take the verdict that the hub will not look at these submissions.
    Reject(Reject),
}

impl Command {
    /// About how many bytes it carries.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Deliver(deliver) => deliver.bytes(),
            Self::Queue(queue) => queue.bytes(),
            Self::Reject(_) => 0,
        }
    }
}

/// Items of the hub's link that concern one room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deliver {
    /// In the hub's order.
    pub items: BVec<Item, BATCH_EVENTS_MAX>,
}

/// Application messages of a local client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// The client.
    pub sender: ClientUri,
    /// Its number of the first.
    pub first: ClientSeq,
    /// The messages, each an MLSMessage.
    pub messages: BVec<Payload, SUBMIT_ITEMS_MAX>,
}

impl Queue {
    /// About how many bytes its messages take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.messages.bytes()
    }

    fn count(&self) -> u32 {
        u32::try_from(self.messages.len()).unwrap_or(u32::MAX)
    }
}

/// A run of submissions that the hub refused without numbering them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    /// Number of the first.
    pub first: SubmitSeq,
    /// How many.
    pub count: u32,
    /// Why.
    pub reason: SubmitRefused,
}

/// A followed room, or the place where one could be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fold {
    /// Local members.
    members: BTreeSet<ClientUri>,
    /// The last event taken.
    last_seq: RoomSeq,
    /// The last submission numbered.
    submitted: SubmitSeq,
    /// Submissions without a verdict, oldest first.
    queued: VecDeque<QueuedRun>,
    /// The numbers of each local client.
    numbers: BTreeMap<ClientUri, Numbers>,
}

impl Deliver {
    /// Whether it begins with clients that join: the only way into a room that was never heard of.
    #[must_use]
    pub fn invites(&self) -> bool {
        matches!(
            self.items.first(),
            Some(Item::Event(Event {
                body: Body::Invited(_) | Body::Entered(_),
                ..
            }))
        )
    }

    /// About how many bytes the items carry.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let invited = |invitation: &Invitation| invitation.welcome.len() + invitation.tree.len();
        let item = |item: &Item| match item {
            Item::Refused { .. } | Item::Refilled { .. } | Item::Departed { .. } => 0,
            Item::Consent(entry) => entry.len(),
            Item::Event(event) => match &event.body {
                Body::Application(message) => message.len(),
                Body::Proposals(messages) => messages.iter().map(|message| message.len()).sum(),
                Body::Commit(commit) => {
                    commit.commit.len() + commit.invitation.as_ref().map_or(0, invited)
                }
                Body::Invited(invitation) => invited(invitation),
                Body::Entered(_) | Body::Own(_) => 0,
            },
        };
        self.items.iter().map(|entry| item(entry) + 32).sum()
    }
}

impl machine::Fold for Fold {
    type Command = Command;
    type Outcome = Outcome;

    fn apply(&mut self, moment: Moment, command: &Command) -> Outcome {
        let at = moment.at;
        match command {
            Command::Deliver(deliver) => self.deliver(at, deliver),
            Command::Queue(queue) => self.queue(at, queue),
            Command::Reject(reject) => self.reject(reject),
        }
    }

    fn compact(&self) -> Vec<u8> {
        wire::encode_stored(self)
    }

    fn revive(bytes: &[u8]) -> Result<Self, ReviveError> {
        wire::decode(&bytes.to_vec().into()).map_err(|error| ReviveError(error.to_string()))
    }
}

impl Fold {
    /// Whether nothing was ever heard of this room.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.last_seq == RoomSeq(0) && self.submitted == SubmitSeq(0)
    }

    /// Whether a local client is a member, as far as this provider has heard.
    #[must_use]
    pub fn has_member(&self, client: &ClientUri) -> bool {
        self.members.contains(client)
    }

    /// Whether messages of a local client go to the log: whoever is no member costs none.
    ///
    /// # Errors
    /// The answer: how far those are that a former member sends again, and otherwise what is told of a room that nobody
    /// here was ever in.
    pub(super) fn check_sender(&self, queue: &Queue) -> Result<(), Answer> {
        if self.has_member(&queue.sender) {
            return Ok(());
        }
        let so_far = self.verdicts_so_far(&queue.sender, queue.first, queue.count());
        let known: u64 = so_far.iter().map(|run| u64::from(run.count)).sum();
        if known > 0 && known == u64::from(queue.count()) {
            return Err(Answer::Sent(so_far));
        }
        Err(Answer::Refused(Refused::NotAuthorized))
    }

    /// The last event taken.
    #[must_use]
    pub fn last_seq(&self) -> RoomSeq {
        self.last_seq
    }

    fn deliver(&mut self, at: Position, deliver: &Deliver) -> Outcome {
        let mut outcome = Outcome::answer(Answer::Received);
        for (item, entry) in (0_u32..).zip(&deliver.items) {
            match entry {
                Item::Refused { submit_seq, reason } => {
                    let refused = Verdict::Refused(*reason);
                    outcome
                        .decided
                        .extend(self.decide(*submit_seq, refused).map(|(run, _)| run));
                    outcome.undecided = Some(self.undecided());
                }
                // It is for a user: the door takes it out before.
                Item::Refilled { .. } | Item::Departed { .. } | Item::Consent(_) => {}
                Item::Event(event) if event.seq <= self.last_seq => {}
                Item::Event(event) => {
                    let expected = self.last_seq.next();
                    let first = matches!(event.body, Body::Invited(_) | Body::Entered(_));
                    let begins = first && self.members.is_empty();
                    if self.members.is_empty() && !begins {
                        // Nobody here was invited: such a room is not this provider's to keep.
                        outcome.done = Answer::Refused(Refused::NotAuthorized).into();
                        return outcome;
                    }
                    if event.seq != expected && !begins {
                        outcome.done = Answer::Gap {
                            expected: expected.0,
                        }
                        .into();
                        return outcome;
                    }
                    self.last_seq = event.seq;
                    self.take(at, item, event, &mut outcome);
                }
            }
        }
        outcome
    }

    fn take(&mut self, at: Position, item: u32, event: &Event, outcome: &mut Outcome) {
        let (seq, time) = (event.seq, event.time);
        let mut emission = Emission {
            first: seq,
            count: 1,
            at,
            item,
            time,
            origin: None,
            lane: Lane::Proposals,
            recipients: Vec::new(),
        };
        match &event.body {
            Body::Application(message) => emission.lane = Lane::Application(epoch_of(message)),
            Body::Proposals(_) => {}
            Body::Commit(commit) => {
                emission.lane = Lane::Commit(commit.epoch);
                for client in &commit.left {
                    self.members.remove(client);
                }
                let left = Change::Left { upto: seq };
                outcome
                    .notices
                    .extend(notices(&commit.left, left, at, item));
                if let Some(client) = &commit.entered {
                    self.join(std::slice::from_ref(client), seq, at, item, outcome);
                }
                if let Some(invitation) = &commit.invitation {
                    self.join(&invitation.clients, seq, at, item, outcome);
                }
            }
            // The room begins here: there is nothing that a local client could read at this number.
            Body::Invited(invitation) => {
                return self.join(&invitation.clients, seq, at, item, outcome);
            }
            Body::Entered(entered) => {
                return self.join(
                    std::slice::from_ref(&entered.client),
                    seq,
                    at,
                    item,
                    outcome,
                );
            }
            Body::Own(submit_seq) => {
                let accepted = Verdict::Accepted { seq, time };
                let Some((decided, source)) = self.decide(*submit_seq, accepted) else {
                    return;
                };
                emission.lane = Lane::Application(source.oldest);
                emission.at = source.at;
                emission.item = source.item;
                emission.origin = Some((source.sender, source.client_first));
                outcome.decided.push(decided);
                outcome.undecided = Some(self.undecided());
            }
        }
        push_emission(&mut outcome.emitted, emission);
    }

    fn join(
        &mut self,
        clients: &[ClientUri],
        seq: RoomSeq,
        at: Position,
        item: u32,
        outcome: &mut Outcome,
    ) {
        self.members.extend(clients.iter().cloned());
        let joined = Change::Joined { after: seq };
        outcome.notices.extend(notices(clients, joined, at, item));
    }

    fn queue(&mut self, at: Position, queue: &Queue) -> Outcome {
        let count = queue.count();
        let known = self.numbers.get(&queue.sender).cloned().unwrap_or_default();
        let skip = match known.fresh(queue.first, count) {
            Fresh::Gap { .. } if !self.has_member(&queue.sender) => {
                return Outcome::refused(Refused::NotMember);
            }
            Fresh::Gap { expected } => {
                return Outcome::answer(Answer::Gap {
                    expected: expected.0,
                });
            }
            Fresh::After(skip) => skip,
        };
        let fresh = count - skip;
        let mut outcome = Outcome::answer(Answer::Received);
        if fresh > 0 {
            if !self.has_member(&queue.sender) {
                return Outcome::refused(Refused::NotMember);
            }
            let waiting: u32 = self.queued.iter().map(|run| run.count).sum();
            if waiting.saturating_add(fresh) > SUBMISSIONS_UNDECIDED_PER_ROOM_MAX {
                return Outcome::refused(Refused::TryLater(TryLater::ROOM_FULL));
            }
            let run = QueuedRun {
                first: self.submitted.next(),
                count: fresh,
                sender: queue.sender.clone(),
                client_first: queue.first.plus(u64::from(skip)),
                oldest: oldest(&queue.messages, skip),
                at,
                item: skip,
            };
            self.submitted = self.submitted.plus(u64::from(fresh));
            self.numbers
                .entry(queue.sender.clone())
                .or_default()
                .take(fresh);
            self.queued.push_back(run.clone());
            outcome.queued = Some(run);
        }
        outcome.done = Answer::Sent(self.verdicts_so_far(&queue.sender, queue.first, count)).into();
        outcome
    }

    /// What became so far of a client's numbers: final verdicts, and what is still on its way.
    pub(super) fn verdicts_so_far(
        &self,
        sender: &ClientUri,
        first: ClientSeq,
        count: u32,
    ) -> BVec<VerdictRun, SUBMIT_ITEMS_MAX> {
        let numbers = self.numbers.get(sender);
        let mut verdicts = numbers
            .map(|known| known.verdicts(first, count))
            .unwrap_or_default();
        let end = first.plus(u64::from(count));
        for run in self.queued.iter().filter(|run| run.sender == *sender) {
            let from = run.client_first.max(first);
            let to = run.client_first.plus(u64::from(run.count)).min(end);
            if from < to {
                let count = u32::try_from(to.0 - from.0).unwrap_or(u32::MAX);
                verdicts.push(VerdictRun {
                    first: from,
                    count,
                    verdict: Verdict::Queued,
                });
            }
        }
        // Each run has one of the messages at least, so none is left out.
        BVec::first_max(verdicts)
    }

    fn reject(&mut self, reject: &Reject) -> Outcome {
        let mut outcome = Outcome::answer(Answer::Received);
        for number in self.waiting_in(reject) {
            let refused = Verdict::Refused(reject.reason);
            let decided = self.decide(number, refused);
            outcome.decided.extend(decided.map(|(run, _)| run));
        }
        outcome.undecided = Some(self.undecided());
        outcome
    }

    /// The submissions of a run that wait; what the hub names besides costs nothing.
    fn waiting_in(&self, reject: &Reject) -> Vec<SubmitSeq> {
        let end = reject.first.plus(u64::from(reject.count));
        let common = |run: &QueuedRun| {
            let to = run.first.plus(u64::from(run.count)).min(end);
            run.first.max(reject.first).0..to.0
        };
        self.queued.iter().flat_map(common).map(SubmitSeq).collect()
    }

    /// The oldest submission without a verdict, or the next one.
    fn undecided(&self) -> SubmitSeq {
        self.queued
            .front()
            .map_or_else(|| self.submitted.next(), |run| run.first)
    }

    /// Puts the verdict on one submission; `None` when it has one already.
    fn decide(&mut self, submit: SubmitSeq, verdict: Verdict) -> Option<(Decided, QueuedRun)> {
        let holds =
            |run: &QueuedRun| run.first <= submit && submit < run.first.plus(u64::from(run.count));
        let place = self.queued.iter().position(holds)?;
        let run = self.queued.remove(place)?;
        let (before, decided, after) = split(&run, submit);
        for (offset, rest) in [before, after].into_iter().flatten().enumerate() {
            self.queued.insert(place + offset, rest);
        }
        let decided_run = VerdictRun {
            first: decided.client_first,
            count: 1,
            verdict,
        };
        self.numbers
            .entry(decided.sender.clone())
            .or_default()
            .decide(decided_run);
        let sender = decided.sender.clone();
        Some((
            Decided {
                first: submit,
                sender,
                run: decided_run,
            },
            decided,
        ))
    }
}

/// Cuts the one submission out of a run.
fn split(run: &QueuedRun, submit: SubmitSeq) -> (Option<QueuedRun>, QueuedRun, Option<QueuedRun>) {
    let skipped = u32::try_from(submit.0 - run.first.0).unwrap_or(u32::MAX);
    let piece = |skip: u32, count: u32| QueuedRun {
        first: run.first.plus(u64::from(skip)),
        count,
        sender: run.sender.clone(),
        client_first: run.client_first.plus(u64::from(skip)),
        oldest: run.oldest,
        at: run.at,
        item: run.item + skip,
    };
    let rest = run.count - skipped - 1;
    let before = (skipped > 0).then(|| piece(0, skipped));
    let after = (rest > 0).then(|| piece(skipped + 1, rest));
    (before, piece(skipped, 1), after)
}

/// Adds an emission, as part of the last one where it goes on there.
fn push_emission(emitted: &mut Vec<Emission>, next: Emission) {
    if let Some(last) = emitted.last_mut() {
        let count = u64::from(last.count);
        let origin = match (&last.origin, &next.origin) {
            (None, None) => true,
            (Some((client, first)), Some((next_client, next_first))) => {
                client == next_client && first.plus(count) == *next_first
            }
            _ => false,
        };
        let adjacent = last.first.plus(count) == next.first
            && last.at == next.at
            && last.item + last.count == next.item
            && last.time == next.time;
        if let (Lane::Application(oldest), Lane::Application(epoch)) = (last.lane, next.lane)
            && origin
            && adjacent
        {
            last.count += next.count;
            last.lane = Lane::Application(oldest.min(epoch));
            return;
        }
    }
    emitted.push(next);
}

/// The epoch that a message is of; of one that nobody can read, one that nobody must keep anything for.
fn epoch_of(message: &Payload) -> Epoch {
    application_header(message).map_or(Epoch(u64::MAX), |header| Epoch(header.epoch))
}

/// The oldest epoch of the messages after the first `skip`.
fn oldest(messages: &[Payload], skip: u32) -> Epoch {
    let epochs = messages.iter().skip(skip as usize).map(epoch_of);
    epochs.min().unwrap_or(Epoch(u64::MAX))
}

/// One notice for each user whose clients are named; the hub names only clients of this provider.
fn notices(clients: &[ClientUri], change: Change, at: Position, item: u32) -> Vec<UserNotice> {
    let Some(provider) = clients.first().map(|client| client.provider().clone()) else {
        return Vec::new();
    };
    let mut notices = local_by_user(clients.iter(), &provider, change, at);
    for notice in &mut notices {
        notice.item = item;
    }
    notices
}

crate::versioned!(crate::wire::version::FOLD; Fold);
