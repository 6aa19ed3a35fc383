//! One wish carried through all shards, in order, each looked at before and after.
//!
//! First every shard's leader is asked what it would do: one that refuses ends it, and nothing was changed. Then it is
//! written down on every node that is reached, so that an interrupted change is found ([`super::check`]). Then shard by
//! shard. In the end every shard is looked at again, and only then it is said to be done.

use super::{Next, Refusal, Wish};

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Ask the leader of a shard what it would do.
    Look(u16),
    /// Make sure that no other change is under way, and write this one down.
    Begin,
    /// Have the leader of a shard do it.
    Carry(u16),
    /// Ask the leader of a shard whether it is done.
    Verify(u16),
    /// Say that this change is over.
    End,
    /// Nothing more.
    Over(Verdict),
}

/// What came of a [`Task`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The leader's answer to [`Task::Look`] and [`Task::Verify`].
    Next(Next),
    /// It is done: the answer to the other tasks.
    Done,
    /// It could not be done.
    Failed(String),
}

/// What came of the wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every shard is as it was wished; so many were not before.
    Done {
        /// Shards that were changed.
        changed: u16,
    },
    /// Nothing was changed.
    Refused(Refusal),
    /// Nothing was changed, for somebody could not be asked.
    NotBegun {
        /// Why.
        why: String,
    },
    /// Some shards are changed, others are not.
    Interrupted {
        /// Shards that are done.
        done: u16,
        /// The shard at which it stopped.
        shard: u16,
        /// Why.
        why: String,
    },
}

/// A wish on its way through the shards.
#[derive(Clone, Debug)]
pub struct Change {
    shards: u16,
    task: Task,
    /// Shards that were not yet as wished when they were looked at.
    open: u16,
}

impl Change {
    /// Nothing is done yet for `wish` in the `shards` shards of a provider.
    #[must_use]
    pub fn new(shards: u16) -> Self {
        Self {
            shards,
            task: Task::Look(0),
            open: 0,
        }
    }

    /// What to do now. Asked again, it is the same until [`Self::did`] says what came of it.
    #[must_use]
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// Takes note of what came of the task.
    pub fn did(&mut self, outcome: Outcome) {
        self.task = match (&self.task, outcome) {
            (Task::Look(_), Outcome::Next(Next::Refuse(refusal))) => {
                Task::Over(Verdict::Refused(refusal))
            }
            (Task::Look(shard), Outcome::Next(next)) => {
                self.open += u16::from(next != Next::Done);
                match shard.checked_add(1).filter(|next| *next < self.shards) {
                    Some(next) => Task::Look(next),
                    None if self.open == 0 => Task::Over(Verdict::Done { changed: 0 }),
                    None => Task::Begin,
                }
            }
            (Task::Look(_) | Task::Begin, Outcome::Failed(why)) => {
                Task::Over(Verdict::NotBegun { why })
            }
            (Task::Begin, _) => Task::Carry(0),
            (Task::Carry(shard), Outcome::Done) => {
                let next = shard.checked_add(1).filter(|next| *next < self.shards);
                next.map_or(Task::Verify(0), Task::Carry)
            }
            (Task::Verify(shard), Outcome::Next(Next::Done)) => {
                let next = shard.checked_add(1).filter(|next| *next < self.shards);
                next.map_or(Task::End, Task::Verify)
            }
            (Task::Carry(shard) | Task::Verify(shard), outcome) => {
                Task::Over(Verdict::Interrupted {
                    done: *shard,
                    shard: *shard,
                    why: why_not(outcome),
                })
            }
            (Task::End, _) => Task::Over(Verdict::Done { changed: self.open }),
            // Who asks for nothing gets no answer; one all the same changes nothing.
            (Task::Look(shard), Outcome::Done) => Task::Look(*shard),
            (Task::Over(verdict), _) => Task::Over(verdict.clone()),
        };
    }
}

fn why_not(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failed(why) => why,
        Outcome::Next(Next::Refuse(refusal)) => refusal.to_string(),
        Outcome::Next(Next::Wait(waiting)) => waiting.to_string(),
        Outcome::Next(Next::Do(_) | Next::Done) | Outcome::Done => {
            "it was changed again by somebody else".to_owned()
        }
    }
}

/// What an operator does about an interrupted change.
#[must_use]
pub fn remedy(wish: &Wish) -> String {
    format!(
        "{wish}: some shards are changed and others are not; the same command goes on from there, and so does \
         `mimi-node cluster check --repair`"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::Order;

    fn order() -> Next {
        Next::Do(Order::Forget { node: 4 })
    }

    #[test]
    fn one_refusal_ends_a_change_before_anything_is_changed() {
        let mut change = Change::new(3);
        change.did(Outcome::Next(order()));
        assert_eq!(*change.task(), Task::Look(1));
        change.did(Outcome::Next(Next::Refuse(Refusal::Unknown { node: 4 })));
        let refused = Verdict::Refused(Refusal::Unknown { node: 4 });
        assert_eq!(*change.task(), Task::Over(refused));
    }

    #[test]
    fn what_is_so_already_is_done_without_a_change() {
        let mut change = Change::new(2);
        for _ in 0..2 {
            change.did(Outcome::Next(Next::Done));
        }
        assert_eq!(*change.task(), Task::Over(Verdict::Done { changed: 0 }));
    }

    #[test]
    fn it_is_done_only_when_every_shard_says_so_afterwards() {
        let carried = || {
            let mut change = Change::new(2);
            change.did(Outcome::Next(order()));
            change.did(Outcome::Next(Next::Done));
            assert_eq!(*change.task(), Task::Begin);
            for task in [Task::Carry(0), Task::Carry(1), Task::Verify(0)] {
                change.did(Outcome::Done);
                assert_eq!(*change.task(), task);
            }
            change
        };
        let mut change = carried();
        change.did(Outcome::Next(Next::Done));
        change.did(Outcome::Next(Next::Done));
        assert_eq!(*change.task(), Task::End);
        change.did(Outcome::Done);
        assert_eq!(*change.task(), Task::Over(Verdict::Done { changed: 1 }));

        let mut change = carried();
        change.did(Outcome::Next(order()));
        let Task::Over(Verdict::Interrupted { shard: 0, .. }) = change.task() else {
            panic!("{:?}", change.task());
        };
    }

    #[test]
    fn a_shard_that_cannot_be_changed_stops_it_there() {
        let mut change = Change::new(3);
        for _ in 0..3 {
            change.did(Outcome::Next(order()));
        }
        change.did(Outcome::Done);
        change.did(Outcome::Done);
        change.did(Outcome::Failed("no leader".to_owned()));
        let interrupted = Verdict::Interrupted {
            done: 1,
            shard: 1,
            why: "no leader".to_owned(),
        };
        assert_eq!(*change.task(), Task::Over(interrupted));
    }
}
