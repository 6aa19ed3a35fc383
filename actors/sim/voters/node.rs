//! One node of the shard: the rules of the house, and a model of the engine's vote and log.

use super::BEGAN;
use crate::{
    clock::{Clock, Told},
    election::{CUT_OFF_MS, Election, STUCK_MS, patience_ms},
    machine::Millis,
};
use std::collections::{BTreeMap, BTreeSet};

/// How often a leader says that it is there, in milliseconds.
pub(super) const HEARTBEAT_MS: u64 = 300;
/// How often a voter looks at the clock, in milliseconds.
pub(super) const LOOK_MS: u64 = 250;
/// How long the engine waits for a vote that it asked for, in milliseconds.
pub(super) const VOTE_MS: u64 = 1_000;
/// How long a disk takes for what must be on it, in milliseconds, when it is well.
pub(super) const SYNC_MS: u64 = 5;

/// Whom a node follows: greater in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Vote {
    pub(super) term: u64,
    pub(super) node: u64,
    /// A majority has voted for it.
    pub(super) committed: bool,
}

impl Vote {
    pub(super) fn uncommitted(self) -> Self {
        Self {
            committed: false,
            ..self
        }
    }

    /// Nobody's vote, in the same term.
    pub(super) fn of_nobody(self) -> Self {
        Self {
            committed: false,
            node: 0,
            ..self
        }
    }
}

/// The end of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Log {
    pub(super) term: u64,
    pub(super) node: u64,
    pub(super) length: u64,
}

/// How far a voter is that stands for election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It does not.
    Not,
    /// It asks whether the others would vote for it.
    Asks,
    /// It waits until votes for this are on the disks of a majority.
    Waits(Vote),
    /// The engine asks for them.
    Stands,
}

/// What nodes say to each other.
#[derive(Clone, Debug)]
pub(super) enum Message {
    PreVote(Log),
    PreVoted(bool),
    /// With when it was sent, which comes back.
    Vote(Vote, Log, u64),
    /// For whom, whether, and whom the voter follows.
    Voted(Vote, bool, Vote, u64),
    /// With when it was sent, which comes back.
    Append(Vote, Log, u64),
    Appended(Result<Log, Vote>, u64),
    /// Do you follow the leader with this vote? With when it was sent, which comes back.
    Follow(Vote, u64),
    Follows(bool, u64),
    Released(Vote),
    /// With when it was sent.
    Time(Told, u64),
}

impl Message {
    /// Whether it waits until the engine is done with the disk.
    pub(super) fn is_for_the_engine(&self) -> bool {
        match self {
            Self::Vote(..) | Self::Append(..) | Self::Voted(..) | Self::Appended(..) => true,
            Self::PreVote(_) | Self::PreVoted(_) | Self::Released(_) | Self::Time(..) => false,
            // The node answers, not its engine.
            Self::Follow(..) | Self::Follows(..) => false,
        }
    }
}

/// One node.
pub(super) struct Node {
    me: u64,
    shard: u16,
    pub(super) election: Election,
    pub(super) clock: Clock,
    /// On its disk.
    pub(super) vote: Vote,
    pub(super) log: Log,
    pub(super) stage: Stage,
    /// Who said yes to what it asked last.
    pub(super) yes: BTreeSet<u64>,
    /// Who said no.
    pub(super) no: BTreeSet<u64>,
    /// How long its disk takes for what must be on it.
    pub(super) sync_ms: u64,
    /// From when, and until when its engine waits for the disk.
    pub(super) syncs_ms: (u64, u64),
    /// Until when its disk does nothing.
    pub(super) hangs_until_ms: u64,
    /// As a leader: what each has, and when it was sent what it answered last.
    pub(super) acked: BTreeMap<u64, (Log, u64)>,
    /// And what was sent to each and is not answered.
    pub(super) on_its_way: BTreeMap<u64, Log>,
    /// And when each was asked last, of those that say that they follow.
    pub(super) follows: BTreeMap<u64, u64>,
    pub(super) up: bool,
    pub(super) paused_until_ms: u64,
    /// When its process began.
    pub(super) began_ms: u64,
    /// By how much its machine's clock is wrong.
    pub(super) wrong_ms: i64,
    pub(super) looked_ms: u64,
    pub(super) beat_ms: u64,
    pub(super) told_ms: u64,
    /// When a client last wrote here.
    pub(super) wrote_ms: u64,
}

impl Node {
    pub(super) fn new(me: u64, shard: u16, now_ms: u64) -> Self {
        Self {
            me,
            shard,
            election: Election::new(patience_ms(shard, me), false, now_ms),
            clock: Clock::new(me, false, Millis(BEGAN + now_ms), 0),
            vote: Vote::default(),
            log: Log::default(),
            stage: Stage::Not,
            yes: BTreeSet::new(),
            no: BTreeSet::new(),
            sync_ms: SYNC_MS,
            syncs_ms: (0, 0),
            hangs_until_ms: 0,
            acked: BTreeMap::new(),
            on_its_way: BTreeMap::new(),
            follows: BTreeMap::new(),
            up: true,
            paused_until_ms: 0,
            began_ms: now_ms,
            wrong_ms: 0,
            looked_ms: now_ms,
            beat_ms: now_ms,
            told_ms: 0,
            wrote_ms: 0,
        }
    }

    /// Its process begins again with what is on its disk.
    pub(super) fn restart(&mut self, now_ms: u64) {
        let mut new = Self::new(self.me, self.shard, now_ms);
        (new.vote, new.log, new.wrong_ms) = (self.vote, self.log, self.wrong_ms);
        (new.sync_ms, new.hangs_until_ms) = (self.sync_ms, self.hangs_until_ms);
        new.election = Election::new(
            patience_ms(self.shard, self.me),
            self.vote.committed,
            now_ms,
        );
        new.clock = Clock::new(self.me, false, new.wall(now_ms), 0);
        *self = new;
    }

    /// Whether it runs at this moment.
    pub(super) fn acts(&self, now_ms: u64) -> bool {
        self.up && now_ms >= self.paused_until_ms
    }

    pub(super) fn leads(&self) -> bool {
        self.up && self.vote.committed && self.vote.node == self.me
    }

    /// Whether it takes what a client writes.
    pub(super) fn accepts(&self, now_ms: u64) -> bool {
        let engine_ago_ms = self.answered_ago_ms(now_ms);
        let answered = self.election.answered_ago_ms(now_ms, engine_ago_ms);
        self.acts(now_ms)
            && self.leads()
            && self.clock.is_settled(now_ms - self.began_ms)
            && answered.is_none_or(|ago_ms| ago_ms < CUT_OFF_MS)
    }

    /// What its machine's clock says.
    pub(super) fn wall(&self, now_ms: u64) -> Millis {
        Millis((BEGAN + now_ms).saturating_add_signed(self.wrong_ms))
    }

    pub(super) fn tell(&self, now_ms: u64) -> Told {
        let running_ms = now_ms - self.began_ms;
        Told {
            wall: self.wall(now_ms),
            time: self.clock.time(running_ms),
            running_ms,
        }
    }

    pub(super) fn hear_time(&mut self, from: u64, told: Told, now_ms: u64) {
        self.clock.hear(from, told, now_ms - self.began_ms);
    }

    /// Whether something is due that it does so often.
    pub(super) fn due(
        &mut self,
        now_ms: u64,
        every_ms: u64,
        last: impl Fn(&mut Self) -> &mut u64,
    ) -> bool {
        let last = last(self);
        let due = now_ms >= *last + every_ms;
        if due {
            *last = now_ms;
        }
        due
    }

    pub(super) fn follow(&mut self, vote: Vote) {
        self.vote = vote;
        self.acked.clear();
        self.on_its_way.clear();
    }

    /// Writes to its disk what must be there before anybody is told; when it is.
    pub(super) fn sync(&mut self, now_ms: u64) -> u64 {
        let until_ms = self.hangs_until_ms.max(now_ms) + self.sync_ms;
        self.syncs_ms = (now_ms, until_ms);
        until_ms
    }

    /// Whether its engine waits for the disk.
    pub(super) fn syncs(&self, now_ms: u64) -> bool {
        now_ms < self.syncs_ms.1
    }

    /// Whether its engine has waited for so long that it should not be followed.
    pub(super) fn is_stuck(&self, now_ms: u64) -> bool {
        self.syncs(now_ms) && now_ms >= self.syncs_ms.0 + STUCK_MS
    }

    /// The vote that it would stand with.
    pub(super) fn ballot(&self) -> Vote {
        Vote {
            term: self.vote.term + 1,
            node: self.me,
            committed: false,
        }
    }

    /// Begins to ask the others for something.
    pub(super) fn ask(&mut self, stage: Stage) {
        self.stage = stage;
        self.yes = BTreeSet::from([self.me]);
        self.no = BTreeSet::new();
    }

    /// Stands no longer.
    pub(super) fn stood(&mut self, now_ms: u64) {
        self.stage = Stage::Not;
        self.election.stood(now_ms);
    }

    pub(super) fn begin_to_lead(&mut self, now_ms: u64) {
        self.vote.committed = true;
        self.stood(now_ms);
        self.acked.clear();
        self.on_its_way.clear();
        self.follows.clear();
        self.election.lead(now_ms, None);
        self.log = Log {
            term: self.vote.term,
            node: self.me,
            length: self.log.length + 1,
        };
    }

    /// Votes for nobody, in the next term.
    pub(super) fn step_down(&mut self, now_ms: u64) {
        self.follow(Vote {
            term: self.vote.term + 1,
            node: 0,
            committed: false,
        });
        self.election.step_down(now_ms);
    }

    /// How long ago a majority, with itself, was sent what it answered last. The one of two others that is better does.
    pub(super) fn answered_ago_ms(&self, now_ms: u64) -> Option<u64> {
        let latest = self.acked.values().map(|(_, sent_ms)| *sent_ms).max();
        latest.map(|sent_ms| now_ms - sent_ms)
    }

    /// What one other has besides itself, which is a majority, of its own term.
    pub(super) fn on_a_majority(&self) -> Option<Log> {
        let most = self.acked.values().map(|(log, _)| *log).max();
        most.filter(|log| self.leads() && log.term == self.vote.term && log.node == self.me)
    }
}
