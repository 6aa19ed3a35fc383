//! What was promised and what has happened, and whether the one is the other: as facts for the checkers of `mimi-history`.

use super::shard::Seen;
use crate::{
    ids::ClientUri,
    record::Command,
    room::{
        follower,
        hub::{self, Enter, Fold},
        outcome::{Answer, Done, Outcome},
    },
    sim::facts::{epoch_of, seq_of},
    wire::event::{Epoch, Hash, RoomSeq, SubmitSeq, Verdict},
};
use mimi_history::{Accepted, At, Chain, Fact, Invariant, Judge, Ledger, Names, RoomFacts};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// A promise that was broken: which, and how.
pub(super) type Broken = (&'static str, String);

/// The one room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TheRoom;

impl fmt::Display for TheRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the room")
    }
}

/// The names of this world in facts. Claims are those of the two clients; all that is claimed is carol's.
#[derive(Clone, Debug)]
pub(super) struct Here;

impl Names for Here {
    type Room = TheRoom;
    type Client = u8;
    type Id = Hash;
    type Claim = u8;
    type Package = Hash;
    type Place = u64;
}

/// The first promise that turns out to be broken.
#[derive(Default)]
struct First(Option<Broken>);

impl First {
    fn heard(self) -> Result<(), Broken> {
        self.0.map_or(Ok(()), Err)
    }
}

impl Judge for First {
    fn demand(
        &mut self,
        invariant: Invariant,
        holds: bool,
        _: impl FnOnce() -> Vec<u64>,
        why: impl FnOnce() -> String,
    ) {
        if !holds && self.0.is_none() {
            self.0 = Some((invariant.name(), why()));
        }
    }
}

/// What somebody was told, whether or not the answer arrived, and what the hub's log says. Nothing takes it back.
#[derive(Clone, Debug, Default)]
pub(super) struct Promises {
    ledger: Ledger<Here>,
    pub(super) commits: BTreeMap<Hash, bool>,
    claims: BTreeMap<u8, String>,
    messages: BTreeMap<(usize, u64), Verdict>,
}

/// What the log of a provider has done so far; after a crash it is done again.
#[derive(Clone, Debug, Default)]
pub(super) struct Truth {
    chain: Chain<ClientUri, Hash>,
    decided: BTreeSet<SubmitSeq>,
    on: Option<hub::CheckedOn>,
    pub(super) contested: bool,
}

fn hold(holds: bool, invariant: &'static str, why: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds {
        Ok(())
    } else {
        Err((invariant, why()))
    }
}

impl Truth {
    /// The number of the last event.
    pub(super) fn last(&self) -> RoomSeq {
        RoomSeq(self.chain.last().0)
    }

    /// Looks at the room before a command.
    pub(super) fn before(&mut self, fold: &Fold) {
        self.on = fold.room().map(hub::Room::checked_on);
    }

    /// Looks at what a command did.
    pub(super) fn after(
        &mut self,
        promises: &mut Promises,
        command: &Command,
        seen: &Seen,
    ) -> Result<(), Broken> {
        match (command, seen) {
            (Command::Hub(_, command), Seen::Room(outcome)) => self.hub(promises, command, outcome),
            (Command::Follower(_, command), Seen::Room(outcome)) => self.follower(command, outcome),
            _ => Ok(()),
        }
    }

    fn hub(
        &mut self,
        promises: &mut Promises,
        command: &hub::Command,
        outcome: &Outcome,
    ) -> Result<(), Broken> {
        let at = At::default();
        let mut found = First::default();
        let first = outcome.emitted.first().map(|emission| emission.first);
        match (command, first) {
            (hub::Command::Create(create), _) => self.chain.begins([create.creator.clone()]),
            (hub::Command::Commit(commit) | hub::Command::Enter(Enter { commit, .. }), None) => {
                let refused = matches!(outcome.done, Done::Answer(Answer::Refused(_)));
                let was_opened = self.chain.epoch() > epoch_of(commit.on.epoch);
                self.contested |= refused && was_opened;
            }
            (
                hub::Command::Commit(commit) | hub::Command::Enter(Enter { commit, .. }),
                Some(first),
            ) => {
                self.commit(promises, commit, first, &mut found)?;
            }
            (hub::Command::Expel(expel), Some(first)) => {
                let references = expel.proposals.iter().map(|one| &one.reference);
                let references = references.map(|reference| Hash::of(reference));
                self.chain.hub_proposes(references);
                for proposal in &expel.proposals {
                    promises.numbered(seq_of(first), Hash::of(&proposal.message), &mut found);
                }
            }
            (hub::Command::Propose(propose), Some(first)) => {
                let references = propose.proposals.iter().map(|one| &one.reference);
                let references = references.map(|reference| Hash::of(reference));
                let (sender, first) = (&propose.sender, seq_of(first));
                self.chain
                    .proposes(at, sender, first, references, &mut found);
                for proposal in &propose.proposals {
                    promises.numbered(first, Hash::of(&proposal.message), &mut found);
                }
            }
            (hub::Command::Submit(submit), Some(first)) => {
                self.chain
                    .says(at, &submit.sender, seq_of(first), &mut found);
                for emission in &outcome.emitted {
                    let items = submit.messages.iter().skip(emission.item as usize);
                    for (place, message) in (0..).zip(items.take(emission.count as usize)) {
                        let seq = seq_of(emission.first.plus(place));
                        promises.numbered(seq, Hash::of(message), &mut found);
                    }
                }
            }
            // Of any other there is nothing to see here.
            _ => {}
        }
        for emission in &outcome.emitted {
            let (first, count) = (seq_of(emission.first), u64::from(emission.count));
            let time = emission.time.0;
            self.chain.emits(at, first, count, time, &mut found);
        }
        found.heard()
    }

    fn commit(
        &mut self,
        promises: &mut Promises,
        commit: &hub::Commit,
        first: RoomSeq,
        found: &mut First,
    ) -> Result<(), Broken> {
        hold(self.on == Some(commit.on), "I4", || {
            "a Commit was accepted whose check saw other Proposals than wait".to_owned()
        })?;
        let (seq, opens) = (seq_of(first), epoch_of(commit.on.epoch.next()));
        let checked = &commit.checked;
        let covers = checked.covered.iter().map(|reference| Hash::of(reference));
        let left = checked.left.iter().map(|left| left.client.clone());
        let joined = checked.joined.iter().map(|joined| joined.client.clone());
        let accepted = Accepted {
            seq,
            opens,
            sender: &commit.sender,
            admitted: false,
            covers: &covers.collect::<Vec<_>>(),
            left: &left.collect::<Vec<_>>(),
            joined: &joined.collect::<Vec<_>>(),
        };
        let hash = Hash::of(&commit.commit);
        promises.opened(opens, hash, found);
        self.chain.commits(At::default(), &accepted, found);
        promises.numbered(seq, hash, found);
        Ok(())
    }

    fn follower(&mut self, command: &follower::Command, outcome: &Outcome) -> Result<(), Broken> {
        let mut found = First::default();
        for emission in &outcome.emitted {
            let (first, count) = (seq_of(emission.first), u64::from(emission.count));
            self.chain.takes(At::default(), first, count, &mut found);
        }
        // The event that invites the first members is taken, and read by nobody.
        if let follower::Command::Deliver(deliver) = command
            && self.last() == RoomSeq(0)
            && let Some(crate::wire::event::Item::Event(event)) = deliver.items.first()
        {
            self.chain.begins_after(seq_of(event.seq));
        }
        for decided in &outcome.decided {
            hold(self.decided.insert(decided.first), "I25", || {
                format!("submission {} got two verdicts", decided.first)
            })?;
        }
        found.heard()
    }
}

impl Promises {
    fn see(&mut self, fact: Fact<'_, Here>) -> Result<(), Broken> {
        let mut found = First::default();
        self.ledger.see(At::default(), fact, &mut found);
        found.heard()
    }

    fn opened(&mut self, epoch: mimi_history::Epoch, commit: Hash, found: &mut First) {
        let room = &TheRoom;
        let fact = Fact::Opened {
            room,
            epoch,
            commit,
        };
        self.ledger.see(At::default(), fact, found);
    }

    fn numbered(&mut self, seq: mimi_history::RoomSeq, event: Hash, found: &mut First) {
        let room = &TheRoom;
        let fact = Fact::Numbered { room, seq, event };
        self.ledger.see(At::default(), fact, found);
    }

    /// A client is about to send something.
    pub(super) fn sends(&mut self, bytes: &[u8]) {
        let (room, id) = (&TheRoom, Hash::of(bytes));
        let sent = Fact::Sent { room, id };
        self.ledger.see(At::default(), sent, &mut First::default());
    }

    /// Whoever sent something is told that it is refused.
    pub(super) fn refused(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        let (room, id) = (&TheRoom, Hash::of(bytes));
        self.see(Fact::Refused { room, id })
    }

    /// A member has entered an epoch.
    pub(super) fn entered(&mut self, epoch: Epoch, secret: Hash) -> Result<(), Broken> {
        let (room, epoch) = (&TheRoom, epoch_of(epoch));
        self.see(Fact::Entered {
            room,
            epoch,
            secret,
        })
    }

    /// Names what was promised.
    pub(super) fn hash(&self, into: &mut Vec<u8>) {
        let nothing = RoomFacts::default();
        let told = self.ledger.of(&TheRoom).unwrap_or(&nothing);
        for (epoch, (hash, _)) in told.opened.iter().chain(&told.secrets) {
            into.push(epoch.0 as u8);
            into.extend(hash.0);
        }
        for (hash, accepted) in &self.commits {
            into.extend(hash.0);
            into.push(u8::from(*accepted));
        }
        into.extend(told.refused.keys().flat_map(|hash| hash.0));
        for (hash, (claim, _)) in &self.ledger.handouts.handed {
            into.extend(hash.0);
            into.push(*claim);
        }
        into.extend(format!("{:?}{:?}", self.claims, self.messages).bytes());
    }

    /// A member is told what became of its Commit.
    pub(super) fn commit(&mut self, bytes: &[u8], answer: &Answer) -> Result<(), Broken> {
        let commit = Hash::of(bytes);
        match answer {
            Answer::Committed(accepted) => {
                self.see(Fact::Acknowledged {
                    room: &TheRoom,
                    epoch: epoch_of(accepted.epoch),
                    seq: seq_of(accepted.seq),
                    commit,
                })?;
                self.commits.insert(commit, true);
            }
            Answer::Refused(_) => {
                self.refused(bytes)?;
                self.commits.insert(commit, false);
            }
            Answer::Created
            | Answer::Proposed(_)
            | Answer::Sent(_)
            | Answer::Received
            | Answer::Gap { .. }
            | Answer::GroupInfo(_)
            | Answer::CodeMade(_)
            | Answer::Codes(_)
            | Answer::CodeRevoked => {
                return Err(("I2", format!("a Commit was answered {answer:?}")));
            }
        }
        Ok(())
    }

    /// A claim is answered.
    pub(super) fn claim(
        &mut self,
        id: u8,
        answer: &crate::user::outcome::Answer,
    ) -> Result<(), Broken> {
        use crate::user::outcome::Answer as User;
        let text = format!("{answer:?}");
        let first = self.claims.entry(id).or_insert_with(|| text.clone());
        hold(*first == text, "I3", || {
            format!("claim {id} was answered {text}, and before that {first}")
        })?;
        if let User::Claimed(Ok(clients)) = answer {
            for package in clients
                .iter()
                .filter_map(|client| client.result.as_ref().ok())
            {
                let package = &Hash::of(package);
                self.see(Fact::Handed {
                    claim: &id,
                    client: &0,
                    package,
                })?;
            }
        }
        Ok(())
    }

    /// A client is told what became of its message; each is asked about alone.
    pub(super) fn sent(
        &mut self,
        client: usize,
        message: &[u8],
        answer: &Answer,
    ) -> Result<(), Broken> {
        let Answer::Sent(runs) = answer else {
            return Ok(());
        };
        for run in runs.iter().filter(|run| run.verdict != Verdict::Queued) {
            let first = *self
                .messages
                .entry((client, run.first.0))
                .or_insert(run.verdict);
            hold(first == run.verdict, "I25", || {
                format!("a message was told {first:?} and then {:?}", run.verdict)
            })?;
            let seq = match run.verdict {
                Verdict::Accepted { seq, .. } => Some(seq_of(seq)),
                Verdict::Refused(_) | Verdict::Queued => None,
            };
            let (room, message) = (&TheRoom, Hash::of(message));
            self.see(Fact::Word { room, message, seq })?;
        }
        Ok(())
    }
}
