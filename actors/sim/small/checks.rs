//! What was promised and what has happened, and whether the one is the other.

use super::shard::Seen;
use crate::{
    ids::ClientUri,
    record::Command,
    room::{
        follower,
        hub::{self, Fold},
        outcome::{Answer, Done, Outcome},
    },
    wire::event::{Hash, RoomSeq, SubmitSeq, Verdict},
};
use std::collections::{BTreeMap, BTreeSet};

/// A promise that was broken: which, and how.
pub(super) type Broken = (&'static str, String);

/// What somebody was told, whether or not the answer arrived. Nothing takes it back.
#[derive(Clone, Debug, Default)]
pub(super) struct Promises {
    /// The Commit that opened each epoch, as `(on, hash)`.
    pub(super) opened: BTreeMap<u64, Hash>,
    pub(super) commits: BTreeMap<Hash, bool>,
    pub(super) claims: BTreeMap<u8, String>,
    /// Packages that left the hub, and for which claim.
    pub(super) packages: BTreeMap<Hash, u8>,
    pub(super) messages: BTreeMap<(usize, u64), Verdict>,
    pub(super) refused: BTreeSet<Hash>,
    /// What all members have in common in an epoch.
    pub(super) entered: BTreeMap<u64, Hash>,
}

/// What the log of a provider has done so far; after a crash it is done again.
#[derive(Clone, Debug, Default)]
pub(super) struct Truth {
    roster: BTreeSet<ClientUri>,
    opened: BTreeSet<u64>,
    pending: BTreeSet<Hash>,
    pub(super) contents: BTreeSet<Hash>,
    decided: BTreeSet<SubmitSeq>,
    pub(super) last: RoomSeq,
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
        for emission in &outcome.emitted {
            let expected = self.last.next();
            hold(emission.first == expected, "I26", || {
                format!("event {} follows {}", emission.first, self.last)
            })?;
            self.last = self.last.plus(u64::from(emission.count));
        }
        let sender = match command {
            hub::Command::Create(create) => {
                self.roster.insert(create.creator.clone());
                return Ok(());
            }
            hub::Command::Commit(commit) => &commit.sender,
            hub::Command::Propose(propose) => &propose.sender,
            hub::Command::Submit(submit) => &submit.sender,
            hub::Command::Grant(_)
            | hub::Command::KeepCode(_)
            | hub::Command::RevokeCode(_)
            | hub::Command::WrongCode(_) => return Ok(()),
        };
        if outcome.emitted.is_empty() {
            if let (hub::Command::Commit(commit), Done::Answer(Answer::Refused(_))) =
                (command, &outcome.done)
            {
                self.contested |= self.opened.contains(&commit.on.epoch.0);
            }
            return Ok(());
        }
        hold(self.roster.contains(sender), "I5", || {
            format!("something of {sender}, who is no member, was accepted")
        })?;
        match command {
            hub::Command::Create(_)
            | hub::Command::Grant(_)
            | hub::Command::KeepCode(_)
            | hub::Command::RevokeCode(_)
            | hub::Command::WrongCode(_) => Ok(()),
            hub::Command::Submit(submit) => {
                for emission in &outcome.emitted {
                    let items = submit.messages.iter().skip(emission.item as usize);
                    for message in items.take(emission.count as usize) {
                        self.content(promises, Hash::of(message))?;
                    }
                }
                Ok(())
            }
            hub::Command::Propose(propose) => {
                for proposal in &propose.proposals {
                    self.content(promises, Hash::of(&proposal.message))?;
                    self.pending.insert(Hash::of(&proposal.reference));
                }
                Ok(())
            }
            hub::Command::Commit(commit) => self.commit(promises, commit),
        }
    }

    fn commit(&mut self, promises: &mut Promises, commit: &hub::Commit) -> Result<(), Broken> {
        let (on, hash) = (commit.on.epoch.0, Hash::of(&commit.commit));
        let one = self.opened.insert(on);
        let first = promises.opened.entry(on).or_insert(hash);
        hold(one && *first == hash, "I1", || {
            format!("two Commits were accepted in epoch {on}")
        })?;
        self.content(promises, hash)?;
        hold(self.on == Some(commit.on), "I4", || {
            "a Commit was accepted whose check saw other Proposals than wait".to_owned()
        })?;
        let covered = commit.checked.covered.iter();
        let unknown = covered.filter(|reference| !self.pending.contains(&Hash::of(reference)));
        hold(unknown.count() == 0, "I4", || {
            "a Commit names Proposals that were not accepted before it".to_owned()
        })?;
        self.pending.clear();
        for left in &commit.checked.left {
            self.roster.remove(&left.client);
        }
        let joined = commit.checked.joined.iter();
        self.roster
            .extend(joined.map(|joined| joined.client.clone()));
        Ok(())
    }

    fn content(&mut self, promises: &Promises, hash: Hash) -> Result<(), Broken> {
        hold(self.contents.insert(hash), "I14", || {
            "the same bytes were accepted twice".to_owned()
        })?;
        hold(!promises.refused.contains(&hash), "I12", || {
            "what was refused for good was accepted".to_owned()
        })
    }

    fn follower(&mut self, command: &follower::Command, outcome: &Outcome) -> Result<(), Broken> {
        for emission in &outcome.emitted {
            let (first, last) = (emission.first, self.last);
            hold(first > last || last == RoomSeq(0), "I14", || {
                format!("the follower took event {first} again, after {last}")
            })?;
            hold(first == last.next() || last == RoomSeq(0), "I26", || {
                format!("the follower took event {first} after {last}")
            })?;
            self.last = first.plus(u64::from(emission.count) - 1);
        }
        // The event that invites the first members is taken, and read by nobody.
        if let follower::Command::Deliver(deliver) = command
            && self.last == RoomSeq(0)
            && let Some(crate::wire::event::Item::Event(event)) = deliver.items.first()
        {
            self.last = event.seq;
        }
        for decided in &outcome.decided {
            hold(self.decided.insert(decided.first), "I25", || {
                format!("submission {} got two final words", decided.first)
            })?;
        }
        Ok(())
    }
}

impl Promises {
    /// Names what was promised.
    pub(super) fn hash(&self, into: &mut Vec<u8>) {
        for (epoch, hash) in self.opened.iter().chain(&self.entered) {
            into.push(*epoch as u8);
            into.extend(hash.0);
        }
        for (hash, accepted) in &self.commits {
            into.extend(hash.0);
            into.push(u8::from(*accepted));
        }
        into.extend(self.refused.iter().flat_map(|hash| hash.0));
        for (hash, claim) in &self.packages {
            into.extend(hash.0);
            into.push(*claim);
        }
        into.extend(format!("{:?}{:?}", self.claims, self.messages).bytes());
    }

    /// A member is told what became of its Commit.
    pub(super) fn commit(&mut self, bytes: &[u8], answer: &Answer) -> Result<(), Broken> {
        let hash = Hash::of(bytes);
        let opened = self.opened.values().any(|opened| *opened == hash);
        match answer {
            Answer::Committed(accepted) => {
                let of = accepted.epoch.0.checked_sub(1);
                let is = of.and_then(|epoch| self.opened.get(&epoch)) == Some(&hash);
                hold(is, "I2", || {
                    format!(
                        "a Commit was acknowledged for epoch {}, which it did not open",
                        accepted.epoch
                    )
                })?;
                self.commits.insert(hash, true);
            }
            Answer::Refused(_) => {
                hold(!opened, "I12", || {
                    format!("a Commit was refused ({answer:?}) that had opened an epoch")
                })?;
                self.commits.insert(hash, false);
                self.refused.insert(hash);
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
                let to = *self.packages.entry(Hash::of(package)).or_insert(id);
                hold(to == id, "I3", || {
                    format!("one KeyPackage went to claims {to} and {id}")
                })?;
            }
        }
        Ok(())
    }

    /// A client is told what became of its messages.
    pub(super) fn sent(&mut self, client: usize, answer: &Answer) -> Result<(), Broken> {
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
        }
        Ok(())
    }
}
