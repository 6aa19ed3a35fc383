//! Standing for election, and voting: the rules of `mimi_actors::election` over openraft and the mesh.
//!
//! Not here: when a voter stands (the rules say it), and handing leadership over (`leadership`).

use super::{group::Group, way::Way};
use crate::cluster::{
    log::types::{LogId, Vote},
    mesh::{
        calls::Lost,
        frame::{RaftAnswer, RaftCall, Rpc},
    },
};
use futures::{
    FutureExt,
    future::BoxFuture,
    stream::{FuturesUnordered, StreamExt},
};
use mimi_actors::election::{
    ASK_AGAIN_MS, Ballot, Election, Next, STAND_MS_MAX, STUCK_MS, is_majority,
};
use openraft::{
    BasicNode, RaftMetrics, ServerState,
    error::{InitializeError, RaftError},
    raft::{VoteRequest, VoteResponse},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// By how much a node stands later whose clock is apart from the others'.
const APART_STANDS_LATER: Duration = Duration::from_secs(1);
/// How long openraft may take to tell whether it was elected, once its own vote is kept: it waits for the others' a second.
const DECIDED_DEADLINE: Duration = Duration::from_millis(1_200);
/// A leader whose openraft has shown nothing for so long has itself followed no longer.
const STUCK: Duration = Duration::from_millis(STUCK_MS);
/// How long the others are waited for when one has refused its vote.
const REFUSED_WAITS: Duration = Duration::from_millis(250);
/// What openraft shows of itself while it stands is looked at so often, at most. It shows something three times a second,
/// unless it waits for the disk.
const SHOWN_MAX: usize = 32;
/// How often one that stands may learn of a greater vote and stand with the next, at most.
const OUTVOTED_MAX: usize = 3;

/// What came of asking for votes.
#[derive(Debug)]
enum Votes {
    /// A majority has kept them.
    Granted,
    /// One has voted for another, in this term.
    Outvoted(u64),
    /// All that can be spoken to have answered, and they are too few.
    Refused,
}

impl Group {
    /// Asks for votes, asks who follows, or steps down, where the rules say that it is time; does not wait for what becomes
    /// of it. What openraft showed last (`metrics`) it showed `shown_ago`, and a majority had answered it `engine_ago_ms`.
    pub(crate) fn stand_or_step_down(
        &self,
        metrics: &RaftMetrics<u64, BasicNode>,
        engine_ago_ms: Option<u64>,
        shown_ago: Duration,
    ) {
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let alone = voters.len() == 1 && voters.contains(&self.node);
        if metrics.state == ServerState::Leader {
            let next = self.election.at(|rules, now_ms| {
                if alone {
                    rules.lead_alone(now_ms);
                    return Next::Lead;
                }
                rules.lead(now_ms, engine_ago_ms)
            });
            match next {
                Next::Lead => {}
                // Others shall lead, or have not elected it.
                Next::Ask
                    if shown_ago >= STUCK || self.is_disk_full() || !metrics.vote.committed => {}
                Next::Ask => {
                    let (group, leader) = (self.clone(), metrics.vote);
                    tokio::spawn(async move { group.ask_who_follows(leader).await });
                }
                Next::StepDown => {
                    let group = self.clone();
                    self.act(async move { group.step_down_cut_off().await });
                }
            }
            return;
        }
        let stand = self.election.at(Election::look);
        // As a leader whose disk is full it would only refuse; and one that waits for the disk has votes on their way.
        let stand = stand && shown_ago < STUCK;
        if stand && voters.contains(&self.node) && (alone || !self.is_disk_full()) {
            let group = self.clone();
            self.act(async move {
                if group.is_wanted().await {
                    group.stand().await;
                }
            });
        }
    }

    async fn step_down_cut_off(&self) {
        let shard = self.tail.shard;
        tracing::warn!(
            shard,
            "no majority answers this node: it gives the shard up"
        );
        let voters = self.others();
        let own = self.raft.metrics().borrow().vote;
        if self.step_down().await {
            self.tell_released(voters, own);
        }
    }

    /// Asks the other voters whether they follow the leader whose vote this is, and notes it where a majority does.
    async fn ask_who_follows(&self, leader: Vote) {
        let asked_ms = self.election.at(|_, now_ms| now_ms);
        let follow = |answer: &RaftAnswer| matches!(answer, RaftAnswer::Follows(true));
        let followed = self.do_most_say(|| Rpc::Follow(leader), follow).await;
        if followed && self.raft.metrics().borrow().vote == leader {
            self.election.at(|rules, _| rules.followed(asked_ms));
        }
    }

    /// Whether this node follows the leader whose vote this is; then it has heard of it. One that nobody has elected yet
    /// leads nobody.
    pub(crate) fn follows(&self, leader: Vote) -> bool {
        let follows = leader.committed && leader >= self.raft.metrics().borrow().vote;
        if follows {
            let leader = ballot_of(&leader);
            self.election.at(|rules, now_ms| rules.hear(now_ms, leader));
        }
        follows
    }

    /// Does one thing about who leads at a time: false where another is under way.
    pub(crate) fn act(&self, what: impl Future<Output = ()> + Send + 'static) -> bool {
        if self.acting.swap(true, Ordering::AcqRel) {
            return false;
        }
        let acting = Arc::clone(&self.acting);
        tokio::spawn(async move {
            what.await;
            acting.store(false, Ordering::Release);
        });
        true
    }

    /// Stands as soon as may be.
    pub(crate) fn stand_soon(&self) {
        self.election.at(Election::stand_soon);
        self.election.call();
    }

    /// Stands for election. openraft waits a second for the votes that it asks for, and a disk may take longer to keep one.
    /// So they are asked for here first, for as long as it takes; openraft's own question finds them kept.
    pub(crate) async fn stand(&self) {
        let mut outvoted_in = 0;
        for _ in 0..=OUTVOTED_MAX {
            // The vote that is shown is the one that is kept, which may not be the last.
            let own = self.raft.metrics().borrow().current_term;
            let term = own.max(outvoted_in).saturating_add(1);
            let ballot = Vote::new(term, self.node);
            self.election
                .at(|rules, now_ms| rules.stand(now_ms, (term, self.node)));
            let deadline = Duration::from_millis(STAND_MS_MAX);
            let votes = tokio::time::timeout(deadline, self.votes_for(ballot)).await;
            tracing::debug!(shard = self.tail.shard, term, ?votes, "asked for votes");
            // It has heard of a leader meanwhile, or given way to another that stands.
            if !self.election.at(|rules, now_ms| rules.stands(now_ms)) {
                break;
            }
            match votes {
                // Elected meanwhile in an earlier term, which those who have voted do not follow.
                Ok(Votes::Granted) if self.leads_already().await => {
                    self.step_down().await;
                    break;
                }
                Ok(Votes::Granted) => {
                    let shown = self.raft.metrics();
                    if self.raft.trigger().elect().await.is_ok() {
                        self.decided(ballot, shown).await;
                    }
                    break;
                }
                Ok(Votes::Outvoted(term)) => {
                    outvoted_in = term;
                    // A group that has stopped is noticed elsewhere.
                    if self.vote_for_nobody(term).await.is_err() {
                        break;
                    }
                }
                Ok(Votes::Refused) | Err(_) => break,
            }
        }
        self.election.at(Election::stood);
    }

    /// Asks the other voters for their votes until a majority has kept them on its disks.
    async fn votes_for(&self, ballot: Vote) -> Votes {
        let sets = self.voter_sets();
        let request = VoteRequest::new(ballot, self.tail.last());
        let mut asked = self.ask_others(|| Rpc::Vote(request.clone()));
        let mut yes = BTreeSet::from([self.node]);
        // Whoever refuses may still have had a lease, and is asked again soon, whether or not the others answer.
        let mut refused_at = None;
        while !is_majority(&sets, &yes) {
            let next = asked.next();
            let answer = match refused_at {
                None => next.await,
                Some(at) => match tokio::time::timeout_at(at + REFUSED_WAITS, next).await {
                    Ok(answer) => answer,
                    Err(_) => return Votes::Refused,
                },
            };
            match answer {
                Some((node, Some(RaftAnswer::Vote(vote)))) if vote.vote_granted => {
                    yes.insert(node);
                }
                Some((_, Some(RaftAnswer::Vote(vote)))) if vote.vote > ballot => {
                    return Votes::Outvoted(vote.vote.leader_id().term);
                }
                Some(_) => drop(refused_at.get_or_insert_with(tokio::time::Instant::now)),
                None => return Votes::Refused,
            }
        }
        Votes::Granted
    }

    /// Whether openraft leads at this moment, which its figures may not show yet.
    async fn leads_already(&self) -> bool {
        let me = self.node;
        let leads = move |state: &openraft::RaftState<u64, BasicNode, _>| {
            let vote = state.vote_ref();
            vote.committed && vote.leader_id().node_id == me
        };
        self.raft.with_raft_state(leads).await.unwrap_or(false)
    }

    /// Has openraft begin the shard with these voters. It stands for election at once, by itself; so nothing else is done
    /// about who leads until that is decided.
    pub(crate) async fn initialize(
        &self,
        voters: BTreeMap<u64, BasicNode>,
    ) -> Result<(), RaftError<u64, InitializeError<u64, BasicNode>>> {
        let ballot = Vote::new(1, self.node);
        self.election
            .at(|rules, now_ms| rules.stand(now_ms, (1, self.node)));
        let shown = self.raft.metrics();
        let begun = self.raft.initialize(voters).await;
        let (group, stands) = (self.clone(), begun.is_ok());
        self.act(async move {
            if stands {
                group.decided(ballot, shown).await;
            }
            group.election.at(Election::stood);
        });
        begun
    }

    /// Waits until openraft, which stands, leads or does not. It shows nothing while it waits for the disk, with its own
    /// vote and then with what it leads with. To stand again meanwhile would only void the votes that it has.
    async fn decided(
        &self,
        ballot: Vote,
        mut metrics: watch::Receiver<RaftMetrics<u64, BasicNode>>,
    ) {
        let mut kept_at = None;
        for _ in 0..SHOWN_MAX {
            match tokio::time::timeout(DECIDED_DEADLINE, metrics.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => continue,
            }
            let vote = {
                let shown = metrics.borrow_and_update();
                if shown.running_state.is_err() {
                    return;
                }
                shown.vote
            };
            if vote > ballot {
                break;
            }
            if vote == ballot
                && kept_at.get_or_insert_with(Instant::now).elapsed() > DECIDED_DEADLINE
            {
                break;
            }
        }
        let decided = self.raft.metrics().borrow().vote > ballot;
        tracing::debug!(shard = self.tail.shard, decided, "stood for election");
    }

    /// Who votes; two sets while voters change.
    fn voter_sets(&self) -> Vec<BTreeSet<u64>> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let membership = metrics.membership_config.membership();
        membership.get_joint_config().clone()
    }

    /// Asks the other voters whether they would vote for this node; whether a majority would.
    async fn is_wanted(&self) -> bool {
        if let Some(others) = self.other_nodes()
            && others.clock().apart_ms().is_some()
        {
            // Whose clock is right stands before this node; where nobody else can lead, it does.
            tokio::time::sleep(APART_STANDS_LATER).await;
        }
        let last = self.tail.last();
        let would = |answer: &RaftAnswer| matches!(answer, RaftAnswer::PreVote(true));
        let wanted = self.do_most_say(|| Rpc::PreVote(last), would).await;
        tracing::debug!(
            shard = self.tail.shard,
            wanted,
            "asked who would vote for this node"
        );
        wanted
    }

    /// Whether a majority, this node among it, says yes in time.
    async fn do_most_say(&self, what: impl Fn() -> Rpc, yes: fn(&RaftAnswer) -> bool) -> bool {
        let sets = self.voter_sets();
        let mut asked = self.ask_others(what);
        let mut said_yes = BTreeSet::from([self.node]);
        let answering = async {
            while !is_majority(&sets, &said_yes) {
                match asked.next().await {
                    Some((node, Some(answer))) if yes(&answer) => drop(said_yes.insert(node)),
                    Some(_) => {}
                    None => return false,
                }
            }
            true
        };
        let deadline = Duration::from_millis(ASK_AGAIN_MS);
        let said = tokio::time::timeout(deadline, answering).await;
        said.unwrap_or(false)
    }

    /// Asks each of the other voters; `None` from one that cannot be spoken to.
    fn ask_others(
        &self,
        what: impl Fn() -> Rpc,
    ) -> FuturesUnordered<BoxFuture<'static, (u64, Option<RaftAnswer>)>> {
        let others = self.others().into_iter();
        let asked = others.map(|(node, other)| {
            let call = self.call_of(what());
            async move {
                let answer = match other.begin(call, 0) {
                    Ok(answer) => answer.await.ok(),
                    Err(Lost) => None,
                };
                (node, answer)
            }
            .boxed()
        });
        asked.collect()
    }

    /// The other voters that can be spoken to.
    fn others(&self) -> Vec<(u64, Arc<dyn Way>)> {
        let Some(nodes) = self.other_nodes() else {
            return Vec::new();
        };
        let members = self.members();
        let others = members.voters.iter().filter(|node| **node != self.node);
        others
            .filter_map(|node| Some((*node, nodes.way(*node, members.addresses.get(node)?))))
            .collect()
    }

    fn call_of(&self, rpc: Rpc) -> RaftCall {
        let shard = self.tail.shard;
        RaftCall { shard, rpc }
    }

    /// Tells the other voters that the leader whose vote this was has stepped down; some may hear it, and need not wait.
    fn tell_released(&self, others: Vec<(u64, Arc<dyn Way>)>, own: Vote) {
        for (_, other) in others {
            let call = self.call_of(Rpc::Released(own));
            // Whoever does not hear it waits for the lease.
            drop(other.begin(call, 0));
        }
    }

    /// Takes note that a leader has stepped down.
    pub(crate) fn released(&self, leader: Vote) {
        if self.raft.metrics().borrow().vote == leader {
            let leader = ballot_of(&leader);
            self.election
                .at(|rules, now_ms| rules.release(now_ms, leader));
            self.election.call();
        }
    }

    /// Whether this node would vote for one whose last entry is `last`.
    pub(crate) fn would_vote(&self, last: Option<LogId>) -> bool {
        let shorter = last < self.tail.last();
        let would = self
            .election
            .at(|rules, now_ms| rules.would_vote(now_ms, shorter));
        if shorter {
            self.election.call();
        }
        would
    }

    /// Answers one that asks for this node's vote in earnest.
    pub(crate) async fn vote(
        &self,
        request: VoteRequest<u64>,
    ) -> Result<VoteResponse<u64>, RaftError<u64>> {
        let ballot = ballot_of(&request.vote);
        if !self
            .election
            .at(|rules, now_ms| rules.may_vote(now_ms, ballot))
        {
            return Ok(self.no_vote());
        }
        let answer = self.raft.vote(request).await?;
        if answer.vote_granted {
            self.election.at(Election::voted);
        }
        Ok(answer)
    }

    /// What a voter answers that votes for nobody now.
    fn no_vote(&self) -> VoteResponse<u64> {
        VoteResponse {
            vote: self.raft.metrics().borrow().vote,
            vote_granted: false,
            last_log_id: self.tail.last(),
        }
    }
}

/// What the rules call a vote.
pub(crate) fn ballot_of(vote: &Vote) -> Ballot {
    let stands = vote.leader_id();
    (stands.term, stands.node_id)
}
