//! How often members committed lately, and how often one may.
//!
//! Promises: only members are counted, and at most so many as the limit says.
//!
//! Source: transport requirements, section 3.2.

use crate::{
    bucket::{Buckets, Rate, retry_after_of},
    ids::ClientUri,
    limits::COMMITTERS_COUNTED_PER_ROOM_MAX,
    machine::Millis,
    room::outcome::Refused,
};
use serde::{Deserialize, Serialize};

/// A rate, and what is used of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct CommitRate {
    used: Buckets<ClientUri>,
    /// As the last accepted Commit said: desks refuse by it before a worker looks.
    last: Option<Rate>,
}

impl CommitRate {
    /// Whether a client may open one more epoch, by a rate.
    ///
    /// # Errors
    /// [`Refused::Limited`] when it may not.
    pub(crate) fn check(
        &self,
        sender: &ClientUri,
        rate: Rate,
        time: Millis,
    ) -> Result<(), Refused> {
        match self.used.wait_ms(sender, rate, time).map(retry_after_of) {
            Some(retry_after_ms) => Err(Refused::Limited { retry_after_ms }),
            None => Ok(()),
        }
    }

    /// As [`Self::check`], by the rate of the last accepted Commit.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(crate) fn check_last(&self, sender: &ClientUri, time: Millis) -> Result<(), Refused> {
        let last = self.last;
        last.map_or(Ok(()), |rate| self.check(sender, rate, time))
    }

    /// Counts a Commit that has opened an epoch, if its sender is a member in it; who is none any more is forgotten.
    pub(crate) fn count(
        &mut self,
        sender: &ClientUri,
        rate: Rate,
        time: Millis,
        is_member: impl Fn(&ClientUri) -> bool,
    ) {
        self.last = Some(rate);
        self.used.keep(time, &is_member);
        if is_member(sender) {
            let max = COMMITTERS_COUNTED_PER_ROOM_MAX;
            self.used.take(sender, 1, rate, time, max);
        }
    }

    /// How many members are counted.
    #[cfg(test)]
    pub(crate) fn counted(&self) -> usize {
        self.used.len()
    }
}
