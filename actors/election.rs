//! When a voter of a shard stands for election, for whom it votes, and when a leader steps down.
//!
//! One [`Election`] belongs to one voter of one shard. It sees no clock: each call is told the time in milliseconds of a
//! clock that never goes back (since the process started, say). The rules:
//!
//! - A voter that has heard of its leader within the lease votes for nobody, neither in earnest nor beforehand. So a
//!   node that is behind, was away, or hears nobody cannot take the leadership from one that a majority hears.
//! - A voter whose patience is over asks the others first whether they would vote for it (a pre-vote). Only a majority
//!   that says yes lets it raise the term. Asking changes nothing anywhere, so it may ask again and again.
//! - Votes in earnest are written to a disk before they are given, and a disk may take seconds. While a voter waits for
//!   them it stands: it asks nobody anew, which would void the votes that are on their way, and would vote for nobody who
//!   asks beforehand. Of two that stand, the one with the lesser vote gives way.
//! - A voter that was away itself (stopped, suspended, starved: it looks much later than it meant to) takes the silence
//!   for its own and begins its patience anew.
//! - A disk that takes seconds keeps a voter's engine, and what it answers, for as long. A leader that no majority has
//!   answered for [`ASK_MS`] asks the voters themselves whether they follow it. They hear it then, and answer at once. One
//!   whose own engine stands still for [`STUCK_MS`] does not ask: others shall lead.
//! - A leader that no majority has answered for [`CUT_OFF_MS`] steps down by itself, and says so. It may still be heard by
//!   voters whose answers do not arrive, and these would follow it for ever.
//! - A voter that is asked by one with a shorter log stands in its place, at once.
//!
//! Not here: terms, votes and logs, which are the consensus engine's; who asks whom, which is the network's.

use std::collections::BTreeSet;

/// For how long after a leader's last word a voter votes for nobody else, in milliseconds.
pub const LEASE_MS: u64 = 1_050;
/// How long a voter of the first turn waits for a leader's word before it asks for votes, in milliseconds.
pub const PATIENCE_MS_MIN: u64 = 1_500;
/// By how much each later turn waits longer, in milliseconds: time for an election to be over.
pub const TURN_MS: u64 = 200;
/// Voters of one shard take so many turns.
pub const TURNS: u64 = 3;
/// A leader that no majority has answered for this long asks the voters whether they follow it, in milliseconds.
pub const ASK_MS: u64 = 600;
/// How often it asks, at most: once in so many milliseconds, however often it is looked.
pub const ASK_EVERY_MS: u64 = 200;
/// A leader whose engine stands still for this long asks nobody, in milliseconds.
pub const STUCK_MS: u64 = 2_500;
/// A leader that no majority has answered for this long steps down, in milliseconds.
pub const CUT_OFF_MS: u64 = 1_800;
/// A voter that looks so much later than it looked last was away, in milliseconds. It means to look four times a second.
pub const AWAY_MS: u64 = 1_000;
/// How long a voter waits before it asks again, in milliseconds; also how long it waits for the answers.
pub const ASK_AGAIN_MS: u64 = 500;
/// For how long a voter stands, and waits for votes, in milliseconds.
pub const STAND_MS_MAX: u64 = 3_000;
/// For how long a voter leaves the field to one that it voted for, in milliseconds; and for as long again as its own disk
/// took for the vote, for the other's will take so long too.
const DEFER_MS: u64 = 750;
// Whoever asks finds the lease of the others over.
const _: () = assert!(LEASE_MS < PATIENCE_MS_MIN && AWAY_MS < PATIENCE_MS_MIN);
// The longest way: a leader is heard and hears nobody. Four seconds of the five that a room may refuse.
const _: () = assert!(CUT_OFF_MS + PATIENCE_MS_MIN + (TURNS - 1) * TURN_MS <= 4_000);
// A leader with a disk that hangs is followed for so long more.
const _: () = assert!(STUCK_MS + PATIENCE_MS_MIN <= 4_000 && ASK_MS < LEASE_MS);

/// How long a voter of one shard is patient, in milliseconds: neighbours take turns, in another order in each shard.
#[must_use]
pub fn patience_ms(shard: u16, node: u64) -> u64 {
    let turn = (node % TURNS + u64::from(shard)) % TURNS;
    PATIENCE_MS_MIN + turn * TURN_MS
}

/// Whether those who say yes are a majority of each of the sets of voters. Two sets are in force while voters change.
#[must_use]
pub fn is_majority(voters: &[BTreeSet<u64>], yes: &BTreeSet<u64>) -> bool {
    voters
        .iter()
        .all(|set| 2 * set.intersection(yes).count() > set.len())
}

/// What a voter stands with: a term, and its own number. Whoever has the greater one goes first.
pub type Ballot = (u64, u64);

/// What a leader does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It leads on.
    Lead,
    /// It asks the voters whether they follow it.
    Ask,
    /// It steps down.
    StepDown,
}

/// What one voter knows of its leader, and when it acts.
#[derive(Clone, Debug)]
pub struct Election {
    patience_ms: u64,
    /// The last word of a leader; none that counts after the leader has stepped down.
    heard_ms: Option<u64>,
    /// When it asks for votes, unless it hears of a leader before.
    ask_at_ms: u64,
    looked_ms: u64,
    /// When it last noticed that it had been away.
    back_ms: Option<u64>,
    /// Since when it leads, or leads again after it was away.
    leads_since_ms: Option<u64>,
    /// When it was last asked for its vote and gave it, and until when it leaves the field to whom it voted for.
    voted_ms: (u64, u64),
    /// For whom that was, and how long its own disk took for that vote, whenever it is asked for it again.
    voted_for: (Ballot, u64),
    /// As a leader: when it last asked the voters.
    asked_ms: Option<u64>,
    /// As a leader: when it last asked what a majority said yes to.
    followed_ms: Option<u64>,
    /// What it stands with, and since when.
    stands: Option<(Ballot, u64)>,
    /// The last leader that said that it leads no longer.
    released: Option<Ballot>,
}

impl Election {
    /// A voter that begins now. Where it `followed` a leader before, that one may still lead.
    #[must_use]
    pub fn new(patience_ms: u64, followed: bool, now_ms: u64) -> Self {
        Self {
            patience_ms,
            heard_ms: followed.then_some(now_ms),
            ask_at_ms: now_ms + patience_ms,
            looked_ms: now_ms,
            back_ms: None,
            leads_since_ms: None,
            voted_ms: (0, 0),
            voted_for: ((0, 0), 0),
            asked_ms: None,
            followed_ms: None,
            stands: None,
            released: None,
        }
    }

    /// Takes note of a word of the leader that was elected with `leader`. It does not lead itself, then. While it stands
    /// against that leader it stands on: whoever votes for it follows that one no longer, so to break off would leave the
    /// shard without any. A leader that has stepped down is not heard: what it said before may arrive later.
    pub fn hear(&mut self, now_ms: u64, leader: Ballot) {
        self.notice(now_ms);
        if self.released == Some(leader) {
            return;
        }
        self.leads_no_longer();
        let against = self.stands.is_some_and(|((term, _), _)| term > leader.0);
        if !against {
            self.stands = None;
        }
        self.renew(now_ms);
    }

    fn renew(&mut self, now_ms: u64) {
        self.heard_ms = self.heard_ms.max(Some(now_ms));
        self.ask_at_ms = self.ask_at_ms.max(now_ms + self.patience_ms);
    }

    /// Notices that it was away: whatever it did not hear meanwhile, it could not hear.
    fn notice(&mut self, now_ms: u64) {
        let away_ms = now_ms.saturating_sub(self.looked_ms);
        self.looked_ms = now_ms;
        if away_ms < AWAY_MS {
            return;
        }
        self.back_ms = Some(now_ms);
        self.leads_since_ms = self.leads_since_ms.map(|_| now_ms);
        if self.heard_ms.is_some() {
            self.renew(now_ms);
        }
    }

    /// Looks at the clock, four times a second, while it does not lead: whether it should ask for votes now.
    pub fn look(&mut self, now_ms: u64) -> bool {
        self.notice(now_ms);
        self.leads_no_longer();
        let due = now_ms >= self.ask_at_ms && !self.stands(now_ms);
        if due {
            self.ask_at_ms = now_ms + ASK_AGAIN_MS;
        }
        due
    }

    /// Takes note that it stands: a majority would vote for it.
    pub fn stand(&mut self, now_ms: u64, ballot: Ballot) {
        self.stands = Some((ballot, now_ms));
    }

    /// Whether it stands still: it has not heard of a leader, nor given way, nor waited for too long.
    #[must_use]
    pub fn stands(&self, now_ms: u64) -> bool {
        let lasts = |since_ms: u64| now_ms < since_ms + STAND_MS_MAX;
        self.stands.is_some_and(|(_, since_ms)| lasts(since_ms))
    }

    /// Takes note that the election in which it stood is over, whoever won.
    pub fn stood(&mut self, now_ms: u64) {
        self.stands = None;
        self.ask_at_ms = self.ask_at_ms.max(now_ms + ASK_AGAIN_MS);
    }

    fn leads_no_longer(&mut self) {
        (self.leads_since_ms, self.followed_ms) = (None, None);
    }

    /// Takes note that a majority said that it follows this leader, when it was asked at `asked_ms`.
    pub fn followed(&mut self, asked_ms: u64) {
        self.followed_ms = self.followed_ms.max(Some(asked_ms));
    }

    /// How long ago a majority was told last what it has answered, by this leader or by its engine (`engine_ago_ms`).
    #[must_use]
    pub fn answered_ago_ms(&self, now_ms: u64, engine_ago_ms: Option<u64>) -> Option<u64> {
        let followed = self.followed_ms;
        let followed_ago_ms = followed.map(|asked_ms| now_ms.saturating_sub(asked_ms));
        followed_ago_ms.into_iter().chain(engine_ago_ms).min()
    }

    /// Takes note that it leads, and that a majority answered last what its engine said so long ago, if ever; what it
    /// does now. It should say so four times a second.
    pub fn lead(&mut self, now_ms: u64, engine_ago_ms: Option<u64>) -> Next {
        self.notice(now_ms);
        let since_ms = *self.leads_since_ms.get_or_insert(now_ms);
        let led_ms = now_ms.saturating_sub(since_ms);
        let answered = self.answered_ago_ms(now_ms, engine_ago_ms);
        let silent_ms = answered.map_or(led_ms, |ago_ms| ago_ms.min(led_ms));
        if silent_ms >= CUT_OFF_MS {
            return Next::StepDown;
        }
        self.renew(now_ms.saturating_sub(silent_ms));
        self.ask_at_ms = self.ask_at_ms.max(now_ms + self.patience_ms);
        let asked_lately = |asked_ms: u64| now_ms < asked_ms + ASK_EVERY_MS;
        if silent_ms >= ASK_MS && !self.asked_ms.is_some_and(asked_lately) {
            self.asked_ms = Some(now_ms);
            return Next::Ask;
        }
        Next::Lead
    }

    /// Takes note that it leads as the only voter: nobody else has to answer. A second one has all the time to, from then on.
    pub fn lead_alone(&mut self, now_ms: u64) {
        self.leads_since_ms = Some(now_ms);
        self.lead(now_ms, Some(0));
    }

    /// Takes note that it has stepped down: it votes for anybody now, and is the last to ask for votes.
    pub fn step_down(&mut self, now_ms: u64) {
        self.leads_no_longer();
        self.heard_ms = None;
        self.ask_at_ms = now_ms + PATIENCE_MS_MIN + TURNS * TURN_MS;
    }

    /// Takes note that the leader whom it follows has stepped down: its lease is over, and the first turn asks at once.
    pub fn release(&mut self, now_ms: u64, leader: Ballot) {
        self.notice(now_ms);
        self.released = Some(leader);
        self.heard_ms = None;
        self.voted_ms = (0, 0);
        let turn_ms = self.patience_ms.saturating_sub(PATIENCE_MS_MIN);
        self.ask_at_ms = self.ask_at_ms.min(now_ms + turn_ms);
    }

    /// Whether it has heard of a leader within the lease.
    fn follows(&mut self, now_ms: u64) -> bool {
        self.notice(now_ms);
        self.heard_ms
            .is_some_and(|heard_ms| now_ms < heard_ms + LEASE_MS)
    }

    /// Whether it would vote for one that asks beforehand, and whose log is `shorter` than its own or not. Where that is
    /// all that speaks against it, this voter stands in its place.
    pub fn would_vote(&mut self, now_ms: u64, shorter: bool) -> bool {
        if self.follows(now_ms) {
            return false;
        }
        if self.stands(now_ms) || now_ms < self.voted_ms.1 {
            return false;
        }
        if shorter {
            self.ask_at_ms = self.ask_at_ms.min(now_ms);
        }
        !shorter
    }

    /// Whether it may vote in earnest for one that stands with `ballot`, and gives way to it if it stands itself. It leaves
    /// the field to whom it votes for, for a while.
    pub fn may_vote(&mut self, now_ms: u64, ballot: Ballot) -> bool {
        if self.follows(now_ms) {
            return false;
        }
        if let Some((own, _)) = self.stands
            && self.stands(now_ms)
            && own > ballot
        {
            return false;
        }
        self.stands = None;
        self.voted_ms = (now_ms, now_ms);
        if self.voted_for.0 != ballot {
            self.voted_for = (ballot, 0);
        }
        self.voted(now_ms);
        true
    }

    /// Takes note that its vote is on its disk now: whoever got it takes his time from here.
    pub fn voted(&mut self, now_ms: u64) {
        let took_ms = now_ms.saturating_sub(self.voted_ms.0).min(STAND_MS_MAX);
        self.voted_for.1 = self.voted_for.1.max(took_ms);
        let until_ms = now_ms + DEFER_MS + self.voted_for.1;
        self.voted_ms.1 = until_ms;
        self.ask_at_ms = self.ask_at_ms.max(until_ms);
    }

    /// Has it ask for votes as soon as it looks: its leader has stepped down in its favour.
    pub fn stand_soon(&mut self, now_ms: u64) {
        self.heard_ms = None;
        self.voted_ms = (0, 0);
        self.ask_at_ms = now_ms;
    }

    /// For how long it has heard of no leader, in milliseconds; `None` after its leader has stepped down.
    #[must_use]
    pub fn silence_ms(&self, now_ms: u64) -> Option<u64> {
        self.heard_ms
            .map(|heard_ms| now_ms.saturating_sub(heard_ms))
    }

    /// How long ago it noticed that it had been away, in milliseconds.
    #[must_use]
    pub fn back_for_ms(&self, now_ms: u64) -> Option<u64> {
        self.back_ms.map(|back_ms| now_ms.saturating_sub(back_ms))
    }
}

#[cfg(test)]
#[path = "election_tests.rs"]
mod tests;
