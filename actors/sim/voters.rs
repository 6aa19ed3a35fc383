//! The voters of one shard: who leads it and what time it is, while nodes die, pause, are cut off one way or both, and
//! have wrong clocks.
//!
//! Owns: three nodes, the ways between them, a client that writes all the time, and a model of the engine's votes and
//! logs (a term and a node; whoever has the greater one is followed; a higher one in an answer deposes). The rules of
//! [`crate::election`], [`crate::clock`] and [`crate::shard::time`] are the node's own. Promises, each checked as it goes:
//!
//! - `available`: one node at a time is hit; the shard never accepts nothing for more than [`OUTAGE_MS_MAX`].
//! - `undisturbed`: a leader that is well is not deposed by a node that is not, nor by one that comes back.
//! - `kept`: who leads has all that was accepted.
//! - `waits`: a wait of ten seconds takes about ten seconds, whatever the clocks say.
//!
//! Not here: openraft, QUIC and threads, which `bench failover` measures.

mod faults;
mod node;
mod wait;

use super::{Counts, Violation, dice::Dice};
use crate::{
    election::{Next, is_majority},
    machine::Millis,
    shard::time::ShardTime,
};
use faults::Faults;
use node::{Log, Message, Node, Stage, Vote};
use std::collections::{BTreeMap, BTreeSet};
use wait::Wait;

/// How many nodes there are.
const NODES: u64 = 3;
/// How long a world is played, in milliseconds.
const PLAYED_MS: u64 = 90_000;
/// One step of time, in milliseconds.
const STEP_MS: u64 = 10;
/// How often the client writes, in milliseconds.
const WRITE_EVERY_MS: u64 = 100;
/// What a node says of its time counts unless it was on its way for longer, in milliseconds.
const TOLD_LATE_MS: u64 = 1_000;
/// A client writes again when what it wrote was not accepted for so long, in milliseconds.
const WRITE_AGAIN_MS: u64 = 2_000;
/// How often nodes tell each other their time, in milliseconds.
const TELL_EVERY_MS: u64 = 1_000;
/// How long the shard may accept nothing after a node was hit, in milliseconds.
pub const OUTAGE_MS_MAX: u64 = 5_000;
/// How many times a slow disk may be waited for on top of that: for two votes, an entry at the leader, and at a follower;
/// and for whatever is written before each.
const SYNCS: u64 = 8;
/// A leader that nothing happened to for so long is well, in milliseconds.
const WELL_MS: u64 = 3_000;
/// The true time when a world begins.
const BEGAN: u64 = 1_767_225_600_000;

/// What came of playing one seed.
#[derive(Debug)]
pub struct Played {
    /// The first promise that was broken.
    pub violation: Option<Violation>,
    /// What happened how often.
    pub counts: Counts,
    /// The longest time in which nothing was accepted, in milliseconds.
    pub outage_ms: u64,
}

/// Plays a seed.
#[must_use]
pub fn play(seed: u64) -> Played {
    let mut world = World::new(seed);
    while world.now_ms < PLAYED_MS && world.violation.is_none() {
        world.step();
    }
    Played {
        violation: world.violation,
        counts: world.counts,
        outage_ms: world.outage_ms,
    }
}

/// A message on its way: from whom, to whom, what, and whether it has arrived and waits for the engine.
type Underway = (u64, u64, Message, bool);

struct World {
    dice: Dice,
    now_ms: u64,
    nodes: BTreeMap<u64, Node>,
    underway: BTreeMap<(u64, u64), Underway>,
    sent: u64,
    faults: Faults,
    /// The last entry that was accepted, and when.
    accepted: Log,
    accepted_at_ms: u64,
    outage_ms: u64,
    /// How long the slowest disk took since something was accepted, in milliseconds.
    slowest_ms: u64,
    time: ShardTime,
    wait: Option<Wait>,
    /// Who led last, since when, and until when.
    led: Option<(u64, u64, u64)>,
    counts: Counts,
    violation: Option<Violation>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed, 7);
        let shard = dice.below(16) as u16;
        let nodes = (1..=NODES).map(|node| (node, Node::new(node, shard, 0)));
        // Some worlds begin in the wake of a wrong hour.
        let hours = dice.below(3);
        let time = ShardTime::default().after(Millis(BEGAN + hours * 3_600_000));
        Self {
            faults: Faults::new(&mut dice),
            dice,
            now_ms: 0,
            nodes: nodes.collect(),
            underway: BTreeMap::new(),
            sent: 0,
            accepted: Log::default(),
            accepted_at_ms: 0,
            outage_ms: 0,
            slowest_ms: 0,
            time: time.after(Millis(BEGAN)),
            wait: None,
            led: None,
            counts: Counts::default(),
            violation: None,
        }
    }

    fn broken(&mut self, invariant: &'static str, why: String) {
        self.violation.get_or_insert(Violation { invariant, why });
    }

    fn send(&mut self, from: u64, to: u64, message: Message) {
        self.send_at(self.now_ms, from, to, message);
    }

    /// Sends what is sent at `at_ms`, when the disk is done.
    fn send_at(&mut self, at_ms: u64, from: u64, to: u64, message: Message) {
        if self.faults.is_cut(from, to) {
            return;
        }
        let due_ms = at_ms + self.dice.between(1, 30);
        self.sent += 1;
        let number = self.sent;
        self.underway
            .insert((due_ms, number), (from, to, message, false));
    }

    fn send_all(&mut self, from: u64, message: &Message) {
        self.send_all_at(self.now_ms, from, message);
    }

    fn send_all_at(&mut self, at_ms: u64, from: u64, message: &Message) {
        for to in (1..=NODES).filter(|to| *to != from) {
            self.send_at(at_ms, from, to, message.clone());
        }
    }

    fn step(&mut self) {
        self.now_ms += STEP_MS;
        let leader = self.leader();
        if let Some((led, _, until_ms)) = &mut self.led
            && leader == Some(*led)
        {
            *until_ms = self.now_ms;
        }
        let (now_ms, nodes) = (self.now_ms, &mut self.nodes);
        self.faults
            .step(now_ms, leader, nodes, &mut self.dice, &mut self.counts);
        self.deliver();
        for node in 1..=NODES {
            if self.nodes[&node].acts(self.now_ms) {
                self.act(node);
            }
        }
        if self.now_ms.is_multiple_of(WRITE_EVERY_MS) {
            self.write();
        }
        self.look_for_outage();
    }

    /// The node that leads with the greatest vote.
    fn leader(&self) -> Option<u64> {
        let leaders = self.nodes.iter().filter(|(_, is)| is.leads());
        let greatest = leaders.max_by_key(|(_, is)| is.vote);
        greatest.map(|(node, _)| *node)
    }

    fn deliver(&mut self) {
        let later = self.underway.split_off(&(self.now_ms + 1, 0));
        let due = std::mem::replace(&mut self.underway, later);
        for ((_, number), (from, to, message, heard)) in due {
            let now_ms = self.now_ms;
            let Some(node) = self.nodes.get_mut(&to).filter(|node| node.up) else {
                continue;
            };
            if !node.acts(now_ms) {
                // It lies in the socket until the node goes on.
                let due_ms = node.paused_until_ms;
                let waits = (from, to, message, heard);
                self.underway.insert((due_ms, number), waits);
                continue;
            }
            // Heard when it arrives: to take it in may wait for the disk.
            if let Message::Append(vote, ..) = &message
                && !heard
                && *vote >= node.vote
            {
                node.election.hear(now_ms, (vote.term, vote.node));
            }
            if node.syncs(now_ms) && message.is_for_the_engine() {
                let due_ms = node.syncs_ms.1;
                let waits = (from, to, message, true);
                self.underway.insert((due_ms, number), waits);
                continue;
            }
            self.receive(from, to, message);
        }
    }

    fn receive(&mut self, from: u64, to: u64, message: Message) {
        let now_ms = self.now_ms;
        let Some(node) = self.nodes.get_mut(&to) else {
            return;
        };
        let answer = match message {
            Message::PreVote(last) => {
                let would = node.election.would_vote(now_ms, last < node.log);
                Message::PreVoted(would)
            }
            Message::PreVoted(yes) => {
                if yes && node.stage == Stage::Asks {
                    node.yes.insert(from);
                    if is_majority(&[all()], &node.yes) {
                        self.ask_for_votes(now_ms, to);
                    }
                }
                return;
            }
            Message::Vote(vote, last, sent_ms) => {
                let may = node.election.may_vote(now_ms, (vote.term, vote.node));
                let granted = may && last >= node.log && vote >= node.vote;
                let mut at_ms = now_ms;
                if granted && vote > node.vote {
                    node.follow(vote);
                    at_ms = node.sync(now_ms);
                    node.election.voted(at_ms);
                }
                let answer = Message::Voted(vote, granted, node.vote, sent_ms);
                self.send_at(at_ms, to, from, answer);
                return;
            }
            Message::Voted(vote, granted, theirs, sent_ms) => {
                self.voted(to, from, (vote, granted, theirs), sent_ms);
                return;
            }
            Message::Append(vote, log, sent_ms) => {
                let mut at_ms = now_ms;
                let appended = if vote >= node.vote {
                    // What was sent again may be older than what came meanwhile.
                    let log = log.max(node.log);
                    if (vote, log) != (node.vote, node.log) {
                        at_ms = node.sync(now_ms);
                    }
                    node.follow(vote);
                    node.log = log;
                    Ok(log)
                } else {
                    Err(node.vote)
                };
                let answer = Message::Appended(appended, sent_ms);
                self.send_at(at_ms, to, from, answer);
                return;
            }
            Message::Appended(Ok(log), sent_ms) => {
                if node.leads() {
                    let last = node.acked.entry(from).or_default();
                    *last = (log.max(last.0), sent_ms.max(last.1));
                    let next = node.log;
                    if node.on_its_way.get(&from).is_some_and(|sent| *sent <= log) {
                        node.on_its_way.remove(&from);
                    }
                    if log < next && !node.on_its_way.contains_key(&from) {
                        node.on_its_way.insert(from, next);
                        let append = Message::Append(node.vote, next, now_ms);
                        self.send(to, from, append);
                    }
                    self.accept(to);
                }
                return;
            }
            Message::Appended(Err(higher), _) => {
                if higher > node.vote {
                    node.follow(higher.uncommitted());
                }
                return;
            }
            Message::Follow(vote, sent_ms) => {
                let follows = vote >= node.vote;
                if follows {
                    node.election.hear(now_ms, (vote.term, vote.node));
                }
                Message::Follows(follows, sent_ms)
            }
            Message::Follows(follows, sent_ms) => {
                if follows && node.leads() {
                    let last = node.follows.entry(from).or_default();
                    *last = sent_ms.max(*last);
                    // One other is a majority, with itself.
                    node.election.followed(*last);
                }
                return;
            }
            Message::Released(vote) => {
                if node.vote == vote {
                    node.election.release(now_ms, (vote.term, vote.node));
                }
                return;
            }
            Message::Time(told, sent_ms) => {
                if now_ms - sent_ms <= TOLD_LATE_MS {
                    node.hear_time(from, told, now_ms);
                }
                return;
            }
        };
        self.send(to, from, answer);
    }

    /// What a node does by itself.
    fn act(&mut self, node: u64) {
        let now_ms = self.now_ms;
        let Some(is) = self.nodes.get_mut(&node) else {
            return;
        };
        if is.due(now_ms, TELL_EVERY_MS, |is| &mut is.told_ms) {
            is.clock.look(is.wall(now_ms), now_ms - is.began_ms);
            let told = Message::Time(is.tell(now_ms), now_ms);
            self.send_all(node, &told);
        }
        let Some(is) = self.nodes.get_mut(&node) else {
            return;
        };
        if is.leads()
            && !is.syncs(now_ms)
            && is.due(now_ms, node::HEARTBEAT_MS, |is| &mut is.beat_ms)
        {
            self.append_at(now_ms, node);
        }
        let Some(is) = self.nodes.get_mut(&node) else {
            return;
        };
        if !is.due(now_ms, node::LOOK_MS, |is| &mut is.looked_ms) {
            return;
        }
        if is.leads() {
            let engine_ago_ms = is.answered_ago_ms(now_ms);
            match is.election.lead(now_ms, engine_ago_ms) {
                Next::StepDown if !is.syncs(now_ms) => {
                    let released = Message::Released(is.vote);
                    is.step_down(now_ms);
                    self.counts.one("leaders that stepped down");
                    self.send_all(node, &released);
                }
                Next::Ask if !is.is_stuck(now_ms) => {
                    let follow = Message::Follow(is.vote, now_ms);
                    self.counts.one("leaders that asked who follows");
                    self.send_all(node, &follow);
                }
                Next::Lead | Next::Ask | Next::StepDown => {}
            }
            return;
        }
        let waits = matches!(is.stage, Stage::Waits(_));
        let unanswered = is.stage == Stage::Stands && now_ms > is.syncs_ms.1 + node::VOTE_MS;
        if waits && !is.election.stands(now_ms) || unanswered {
            is.stood(now_ms);
        }
        // A node does one thing at a time about who leads: its own vote may take the disk longer than it stands.
        let stands = is.stage == Stage::Stands;
        if is.election.look(now_ms) && !stands {
            is.ask(Stage::Asks);
            let ask = Message::PreVote(is.log);
            self.counts.one("pre-votes");
            self.send_all(node, &ask);
        }
    }

    /// Has votes for this node put on the others' disks, however long that takes. The engine waits for none so long.
    fn ask_for_votes(&mut self, at_ms: u64, node: u64) {
        let Some(is) = self.nodes.get_mut(&node) else {
            return;
        };
        let ballot = is.ballot();
        is.election.stand(at_ms, (ballot.term, ballot.node));
        is.ask(Stage::Waits(ballot));
        let vote = Message::Vote(ballot, is.log, at_ms);
        self.send_all_at(at_ms, node, &vote);
    }

    fn voted(
        &mut self,
        node: u64,
        from: u64,
        (vote, granted, theirs): (Vote, bool, Vote),
        sent_ms: u64,
    ) {
        let now_ms = self.now_ms;
        let Some(is) = self.nodes.get_mut(&node) else {
            return;
        };
        match is.stage {
            Stage::Waits(ballot) if ballot == vote => {
                let side = if granted { &mut is.yes } else { &mut is.no };
                side.insert(from);
                let wanted = is_majority(&[all()], &is.yes);
                let over = is.no.len() + is.yes.len() == all().len();
                let outvoted = theirs.uncommitted() > ballot;
                match is.election.stands(now_ms) {
                    true if wanted => self.stand(node),
                    // It votes for nobody in the greater term, and asks for the next.
                    true if outvoted => {
                        is.follow(theirs.of_nobody());
                        let at_ms = is.sync(now_ms);
                        self.ask_for_votes(at_ms, node);
                    }
                    true if !over => {}
                    _ => is.stood(now_ms),
                }
            }
            Stage::Stands if vote == is.vote && now_ms <= sent_ms + node::VOTE_MS => {
                if granted && !vote.committed {
                    is.yes.insert(from);
                    if is_majority(&[all()], &is.yes) {
                        self.begin_to_lead(node);
                    }
                } else if theirs.uncommitted() > is.vote {
                    is.follow(theirs.uncommitted());
                    is.sync(now_ms);
                    is.stood(now_ms);
                }
            }
            Stage::Not | Stage::Asks | Stage::Waits(_) | Stage::Stands => {}
        }
    }

    /// The engine raises the term, and asks for votes when its own is on its disk.
    fn stand(&mut self, node: u64) {
        let now_ms = self.now_ms;
        let Some(is) = self.nodes.get_mut(&node) else {
            return;
        };
        is.vote = is.ballot();
        is.ask(Stage::Stands);
        let at_ms = is.sync(now_ms.max(is.syncs_ms.1));
        let vote = Message::Vote(is.vote, is.log, at_ms);
        self.counts.one("candidates");
        self.send_all_at(at_ms, node, &vote);
    }

    fn begin_to_lead(&mut self, node: u64) {
        let now_ms = self.now_ms;
        // Whoever has given up long ago is not deposed now.
        let lately = |until_ms: u64| now_ms < until_ms + WELL_MS;
        if let Some((led, since_ms, until_ms)) = self.led
            && led != node
            && lately(until_ms)
        {
            let well_ms = self.faults.well_ms(led, now_ms).min(now_ms - since_ms);
            let enough_ms = WELL_MS + SYNCS * self.faults.sync_ms();
            if self.nodes[&led].up && well_ms >= enough_ms {
                let why =
                    format!("node {node} deposes node {led}, which was well for {well_ms} ms");
                self.broken("undisturbed", why);
            }
        }
        self.led = Some((node, now_ms, now_ms));
        self.counts.one("leaders elected");
        let Some(is) = self.nodes.get_mut(&node) else {
            return;
        };
        is.begin_to_lead(now_ms);
        let at_ms = is.sync(now_ms);
        let log = is.log;
        if log < self.accepted {
            let why = format!(
                "node {node} leads with {log:?}, accepted was {:?}",
                self.accepted
            );
            self.broken("kept", why);
        }
        self.append_at(at_ms, node);
    }

    /// Sends the others what they have not got: what is on its way to one is sent again until it is answered.
    fn append_at(&mut self, at_ms: u64, node: u64) {
        for to in (1..=NODES).filter(|to| *to != node) {
            let Some(is) = self.nodes.get_mut(&node) else {
                return;
            };
            let log = *is.on_its_way.entry(to).or_insert(is.log);
            let append = Message::Append(is.vote, log, at_ms);
            self.send_at(at_ms, node, to, append);
        }
    }

    /// A client writes at whoever leads, and what it writes while one entry is on its way goes into the next.
    fn write(&mut self) {
        let (now_ms, accepted) = (self.now_ms, self.accepted);
        let has_room = |is: &Node| is.log <= accepted || now_ms >= is.wrote_ms + WRITE_AGAIN_MS;
        let writes: Vec<u64> = (1..=NODES)
            .filter(|node| {
                let is = &self.nodes[node];
                is.accepts(now_ms) && !is.syncs(now_ms) && has_room(is)
            })
            .collect();
        for node in writes {
            let Some(is) = self.nodes.get_mut(&node) else {
                continue;
            };
            is.log.length += 1;
            is.wrote_ms = now_ms;
            let at_ms = is.sync(now_ms);
            self.append_at(at_ms, node);
        }
    }

    /// Accepts what a majority has of a leader's log.
    fn accept(&mut self, leader: u64) {
        let now_ms = self.now_ms;
        let is = &self.nodes[&leader];
        let Some(log) = is.on_a_majority() else {
            return;
        };
        if log <= self.accepted {
            return;
        }
        // The first entry of a leader has no stamp; nothing else is taken before the others' clocks are known.
        let running_ms = now_ms - is.began_ms;
        let settled = is.clock.is_settled(running_ms);
        let stamp = settled.then(|| is.clock.time(running_ms));
        self.accepted = log;
        let out_ms = now_ms - self.accepted_at_ms;
        self.outage_ms = self.outage_ms.max(out_ms);
        self.accepted_at_ms = now_ms;
        self.slowest_ms = 0;
        if let Some(stamp) = stamp {
            self.time = self.time.after(stamp);
        }
        self.counts.one("entries accepted");
        self.look_at_wait(out_ms, settled);
    }

    /// Looks at whoever waits when an entry was accepted, after `out_ms` without one.
    fn look_at_wait(&mut self, out_ms: u64, settled: bool) {
        let (now_ms, last) = (self.now_ms, self.time.last());
        let Some(wait) = &mut self.wait else {
            self.wait = settled.then(|| Wait::begin(last, now_ms));
            return;
        };
        match wait.look(last, now_ms, out_ms) {
            Ok(false) => {}
            Ok(true) => {
                self.wait = None;
                self.counts.one("waits that ended");
            }
            Err(why) => self.broken("waits", why),
        }
    }

    fn look_for_outage(&mut self) {
        // Nobody can accept while all are stopped.
        if let Some(went_on_ms) = self.faults.all_went_on_ms(self.now_ms) {
            self.accepted_at_ms = self.accepted_at_ms.max(went_on_ms);
            self.wait = None;
        }
        // Disks that take a second can make an election so long that the next fault falls into it.
        let since_ms = self.accepted_at_ms.max(self.faults.began_ms());
        let outage_ms = self.now_ms - since_ms;
        self.outage_ms = self.outage_ms.max(outage_ms);
        self.slowest_ms = self.slowest_ms.max(self.faults.sync_ms());
        if outage_ms > OUTAGE_MS_MAX + SYNCS * self.slowest_ms {
            let why = format!(
                "nothing was accepted for {outage_ms} ms, under {}",
                self.faults
            );
            self.broken("available", why);
        }
    }
}

/// All voters.
fn all() -> BTreeSet<u64> {
    (1..=NODES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_voters_keep_their_promises_under_some_hundred_seeds() {
        let mut counts = Counts::default();
        for seed in 0..300 {
            let played = play(seed);
            assert!(
                played.violation.is_none(),
                "seed {seed}: {:?}",
                played.violation
            );
            counts.add(&played.counts);
        }
        for what in faults::HAPPENS {
            assert!(counts.of(what) > 0, "never happened: {what}");
        }
    }

    #[test]
    fn a_seed_played_twice_gives_the_same_world() {
        let (first, second) = (play(11), play(11));
        assert_eq!(first.counts, second.counts);
        assert_eq!(first.outage_ms, second.outage_ms);
    }
}
