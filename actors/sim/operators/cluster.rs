//! The cluster itself: processes on disks, who admits whom, leaders, replication.

use super::{
    super::{dice::Dice, history::Violation},
    Report,
    disk::{Disk, Log, Members, Slot, What},
    jobs::Job,
};
use crate::membership::{
    LEVEL_ENTRIES_MAX,
    chain::{self, Shown},
};
use std::collections::{BTreeMap, BTreeSet};

/// Shards of the cluster.
pub(super) const SHARDS: u16 = 2;
/// Nodes that begin it.
const FOUNDERS: u64 = 3;
/// Entries that one step of replication carries, at most.
const STEP_ENTRIES: usize = 40;
/// Lines of the story that are kept.
const STORY_LINES: usize = 400;
/// What happens in one seed.
const STEPS: u64 = 260;
/// How long everything may take to come to rest in the end, in steps.
const CALM_STEPS: u64 = 80;

/// A running process.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) disk: Disk,
    /// Its address.
    pub(super) at: String,
    /// Where its configuration said that the nodes are, when it was started.
    pub(super) listed: BTreeMap<u64, String>,
    /// It waits to be taken in.
    pub(super) waits: bool,
    /// The network around it is cut.
    pub(super) cut: bool,
    /// Somebody let it in since it was started.
    pub(super) let_in: bool,
}

/// A cluster, its operators, and what they do.
pub struct World {
    pub(super) dice: Dice,
    pub(super) seed: u64,
    /// Processes that run; a node can run twice.
    pub(super) running: BTreeMap<u64, Process>,
    /// Disks of processes that do not run, each with its last address: the true ones.
    pub(super) resting: BTreeMap<u64, Process>,
    /// Where the configuration says that each node is.
    pub(super) listed: BTreeMap<u64, String>,
    /// Copies that were made.
    pub(super) copies: Vec<Disk>,
    /// The leader of each shard: the process, and its term.
    pub(super) leaders: BTreeMap<u16, (u64, u64)>,
    pub(super) jobs: Vec<Job>,
    /// Which command the leader of the first shard knows to be under way.
    pub(super) under_way: Option<(u64, u64)>,
    /// When the leader of a shard last put right by itself where a node is.
    pub(super) readdressed: BTreeMap<(u16, u64), u64>,
    /// The last number that was given to a process, a node, a start, an entry.
    pub(super) numbers: u64,
    pub(super) node_numbers: u64,
    /// What was committed where, for ever.
    committed: BTreeMap<(u16, usize), Slot>,
    pub(super) violation: Option<Violation>,
    pub(super) counts: BTreeMap<&'static str, u64>,
    story: Vec<String>,
    pub(super) step: u64,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut world = Self {
            dice: Dice::new(seed, 77),
            seed,
            running: BTreeMap::new(),
            resting: BTreeMap::new(),
            listed: BTreeMap::new(),
            copies: Vec::new(),
            leaders: BTreeMap::new(),
            jobs: Vec::new(),
            under_way: None,
            readdressed: BTreeMap::new(),
            numbers: 0,
            node_numbers: FOUNDERS,
            committed: BTreeMap::new(),
            violation: None,
            counts: BTreeMap::new(),
            story: Vec::new(),
            step: 0,
        };
        let nodes: BTreeSet<u64> = (1..=FOUNDERS).collect();
        let members = Members {
            voters: nodes.clone(),
            addresses: nodes.iter().map(|node| (*node, address(*node))).collect(),
            ..Members::default()
        };
        world.listed.clone_from(&members.addresses);
        for node in nodes {
            let mut disk = world.new_disk(node);
            for log in &mut disk.logs {
                log.slots.push(Slot {
                    term: 0,
                    what: What::Members(members.clone()),
                });
                log.committed = 1;
            }
            world.start(disk, address(node), false);
        }
        for shard in 0..SHARDS {
            let slot = world.running.values().next();
            let slot = slot.map(|process| process.disk.logs[usize::from(shard)].slots[0].clone());
            world.committed.extend(slot.map(|slot| ((shard, 1), slot)));
        }
        world
    }

    pub(super) fn play(&mut self) {
        while self.step < STEPS && self.violation.is_none() {
            self.step += 1;
            self.something_happens();
            self.tick();
            self.carry_on();
        }
        self.calm();
    }

    /// Everything is whole again; then everything acknowledged must be there.
    fn calm(&mut self) {
        self.make_whole();
        let last = self.step + CALM_STEPS;
        while self.step < last && self.violation.is_none() {
            self.step += 1;
            self.tick();
            self.carry_on();
        }
        if self.violation.is_none() {
            self.judge_the_end();
        }
    }

    pub(super) fn tick(&mut self) {
        for shard in 0..SHARDS {
            self.lead(shard);
            self.write(shard);
            self.replicate(shard);
        }
    }

    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(super) fn new_disk(&mut self, node: u64) -> Disk {
        let incarnation = self.number();
        Disk {
            node,
            incarnation: u128::from(incarnation).to_be_bytes(),
            starts: Vec::new(),
            known: BTreeMap::new(),
            logs: vec![Log::default(); usize::from(SHARDS)],
            note: None,
        }
    }

    /// Starts a process on a disk.
    pub(super) fn start(&mut self, mut disk: Disk, at: String, waits: bool) -> u64 {
        let number = self.number();
        disk.starts = chain::started(disk.starts, u128::from(number).to_be_bytes());
        let process = Process {
            disk,
            at,
            listed: self.listed.clone(),
            waits,
            cut: false,
            let_in: false,
        };
        self.running.insert(number, process);
        number
    }

    pub(super) fn one(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub(super) fn tell(&mut self, line: String) {
        if self.story.len() == STORY_LINES {
            self.story.remove(0);
        }
        let step = self.step;
        self.story.push(format!("{step:>4}  {line}"));
    }

    pub(super) fn violated(&mut self, invariant: &'static str, why: String) {
        self.tell(format!("VIOLATED {invariant}: {why}"));
        self.violation.get_or_insert(Violation { invariant, why });
    }

    pub(super) fn report(self) -> Report {
        Report {
            seed: self.seed,
            violation: self.violation,
            counts: self.counts,
            story: self.story,
        }
    }

    pub(super) fn log(&self, process: u64, shard: u16) -> &Log {
        &self.running[&process].disk.logs[usize::from(shard)]
    }

    pub(super) fn log_mut(&mut self, process: u64, shard: u16) -> Option<&mut Log> {
        let process = self.running.get_mut(&process)?;
        process.disk.logs.get_mut(usize::from(shard))
    }

    /// Whether two processes can speak: one of them knows where the other is.
    pub(super) fn reaches(&self, one: u64, other: u64) -> bool {
        let (Some(a), Some(b)) = (self.running.get(&one), self.running.get(&other)) else {
            return false;
        };
        one == other || (!a.cut && !b.cut && (knows(a, b) || knows(b, a)))
    }

    /// Lets two processes meet: each judges the other, and remembers it.
    pub(super) fn meet(&mut self, one: u64, other: u64) -> bool {
        if one == other {
            return true;
        }
        if !self.reaches(one, other) {
            return false;
        }
        let (Some(there), Some(back)) = (self.judge(one, other), self.judge(other, one)) else {
            self.one("nodes refused for what they are");
            return false;
        };
        self.remember(one, other, there);
        self.remember(other, one, back);
        true
    }

    fn remember(&mut self, who: u64, whom: u64, shown: Shown) {
        let Some(node) = self.running.get(&whom).map(|process| process.disk.node) else {
            return;
        };
        if let (Some(process), Shown::Later(seen)) = (self.running.get_mut(&who), shown) {
            process.disk.known.insert(node, seen);
        }
        if let Some(process) = self.running.get_mut(&whom) {
            process.let_in = true;
        }
    }

    /// What a process thinks of another; none where it does not let it in.
    fn judge(&self, who: u64, whom: u64) -> Option<Shown> {
        let (who, whom) = (self.running.get(&who)?, self.running.get(&whom)?);
        if who.disk.node == whom.disk.node {
            return None;
        }
        let known = who.disk.known.get(&whom.disk.node);
        let shown = chain::judge(known, whom.disk.incarnation, &whom.disk.starts).ok()?;
        // The process that was let in before may still be there.
        let before = known.and_then(|known| known.start);
        let runs_twice = shown != Shown::Same
            && self.running.values().any(|other| {
                other.disk.node == whom.disk.node
                    && other.disk.starts.last().copied() == before
                    && !other.cut
            });
        (!runs_twice).then_some(shown)
    }

    /// The process of a node that `who` speaks to, if there is one.
    pub(super) fn process_of(&mut self, who: u64, node: u64) -> Option<u64> {
        let of_node = self.running.iter();
        let of_node: Vec<u64> = of_node
            .filter(|(_, process)| process.disk.node == node)
            .map(|(number, _)| *number)
            .collect();
        of_node.into_iter().find(|other| self.meet(who, *other))
    }

    /// Who of some nodes answers a process.
    fn answer(&mut self, who: u64, nodes: &BTreeSet<u64>) -> BTreeMap<u64, u64> {
        let mut answer = BTreeMap::new();
        for node in nodes {
            answer.extend(self.process_of(who, *node).map(|process| (*node, process)));
        }
        answer
    }

    /// A leader that no majority answers leads no longer; a shard without one elects one, if it can.
    fn lead(&mut self, shard: u16) {
        if let Some((leader, term)) = self.leaders.get(&shard).copied() {
            let members = self
                .running
                .get(&leader)
                .map(|_| self.members(leader, shard));
            if let Some(members) = members {
                let heard = self.answer(leader, &members.all());
                let current = self.log(leader, shard).term == term;
                if current && members.decide(|node| heard.contains_key(&node)) {
                    return;
                }
            }
            self.leaders.remove(&shard);
        }
        let candidates: Vec<u64> = self.running.keys().copied().collect();
        if let Some(candidate) = self.dice.pick(&candidates).copied() {
            self.elect(candidate, shard);
        }
    }

    /// A process stands for election.
    pub(super) fn elect(&mut self, candidate: u64, shard: u16) {
        let Some((_, members)) = self.log(candidate, shard).members() else {
            return;
        };
        let members = members.clone();
        let me = self.running[&candidate].disk.node;
        if !members.voters.contains(&me) && !members.before.contains(&me) {
            return;
        }
        let (reach, term) = (
            self.log(candidate, shard).reach(),
            self.log(candidate, shard).term,
        );
        let heard = self.answer(candidate, &members.all());
        let votes = |(_, process): &(&u64, &u64)| {
            let log = self.log(**process, shard);
            log.reach() <= reach
        };
        let votes: BTreeMap<u64, u64> = heard
            .iter()
            .filter(votes)
            .map(|(node, process)| (*node, *process))
            .collect();
        if !members.decide(|node| votes.contains_key(&node)) {
            return;
        }
        let newest = votes.values().map(|voter| self.log(*voter, shard).term);
        let term = newest.fold(term, u64::max) + 1;
        for voter in votes.values() {
            if let Some(log) = self.log_mut(*voter, shard) {
                log.term = term;
            }
        }
        self.append(candidate, shard, What::Blank);
        self.leaders.insert(shard, (candidate, term));
        self.one("elections");
        self.tell(format!("node {me} leads shard {shard} in term {term}"));
    }

    pub(super) fn members(&self, process: u64, shard: u16) -> Members {
        let members = self.log(process, shard).members();
        members
            .map(|(_, members)| members.clone())
            .unwrap_or_default()
    }

    pub(super) fn append(&mut self, leader: u64, shard: u16, what: What) {
        if let Some(log) = self.log_mut(leader, shard) {
            let term = log.term;
            log.slots.push(Slot { term, what });
        }
    }

    /// Clients write, sometimes much at once.
    fn write(&mut self, shard: u16) {
        let Some((leader, _)) = self.leaders.get(&shard).copied() else {
            return;
        };
        let much = self.dice.hits(30);
        let count = if much {
            LEVEL_ENTRIES_MAX * 2
        } else {
            u64::from(self.dice.hits(500))
        };
        for _ in 0..count {
            let number = self.number();
            self.append(leader, shard, What::Data(number));
        }
    }

    fn replicate(&mut self, shard: u16) {
        let Some((leader, term)) = self.leaders.get(&shard).copied() else {
            return;
        };
        let members = self.members(leader, shard);
        let heard = self.answer(leader, &members.all());
        self.readdress(leader, shard, &heard);
        let mut matched = BTreeMap::new();
        for (node, process) in heard {
            if process != leader && !self.send(leader, process, shard) {
                continue;
            }
            let common = self.log(leader, shard).common(self.log(process, shard));
            matched.insert(node, common);
        }
        let log = self.log(leader, shard);
        let mut upto = log.committed;
        for place in log.committed + 1..=log.slots.len() {
            let has = |node| matched.get(&node).is_some_and(|matched| *matched >= place);
            if log.slots[place - 1].term == term && members.decide(has) {
                upto = place;
            }
        }
        self.commit(leader, shard, upto);
    }

    /// The leader puts right where a member is that it reaches where its configuration says.
    fn readdress(&mut self, leader: u64, shard: u16, heard: &BTreeMap<u64, u64>) {
        let log = self.log(leader, shard);
        let Some((at, members)) = log.members().filter(|(at, _)| *at <= log.committed) else {
            return;
        };
        if at == 0 || !members.before.is_empty() {
            return;
        }
        let listed = &self.running[&leader].listed;
        let moved = heard.iter().find_map(|(node, process)| {
            let now = &self.running[process].at;
            let right = members.addresses.get(node) == Some(now);
            (!right && listed.get(node) == Some(now)).then(|| (*node, now.clone()))
        });
        if let Some((node, now)) = moved {
            let mut members = members.clone();
            members.addresses.insert(node, now);
            self.readdressed.insert((shard, node), self.step);
            self.append(leader, shard, What::Members(members));
        }
    }

    /// Sends a follower what it lacks; false where it knows of a later term.
    fn send(&mut self, leader: u64, follower: u64, shard: u16) -> bool {
        let (from, to) = (self.log(leader, shard), self.log(follower, shard));
        if to.term > from.term {
            return false;
        }
        let common = from.common(to);
        if common < to.committed {
            let node = self.running[&follower].disk.node;
            let place = common + 1;
            self.violated(
                "I28",
                format!("entry {place} of shard {shard}, committed at node {node}, is replaced"),
            );
            return false;
        }
        let (term, committed) = (from.term, from.committed);
        let more = from.slots.iter().skip(common).take(STEP_ENTRIES).cloned();
        let more: Vec<Slot> = more.collect();
        if let Some(to) = self.log_mut(follower, shard) {
            to.term = term;
            to.slots.truncate(common);
            to.slots.extend(more);
            to.committed = to.committed.max(committed.min(to.slots.len()));
        }
        true
    }

    fn commit(&mut self, leader: u64, shard: u16, upto: usize) {
        let log = self.log(leader, shard);
        let before = log.committed;
        if upto == before {
            return;
        }
        let slots = log.slots[before..upto].to_vec();
        for (place, slot) in (before + 1..).zip(slots) {
            let acknowledged = matches!(slot.what, What::Data(_));
            let known = self
                .committed
                .entry((shard, place))
                .or_insert_with(|| slot.clone());
            if *known != slot {
                let why = format!("entry {place} of shard {shard} was committed twice");
                self.violated("I28", why);
                return;
            }
            if acknowledged {
                self.one("entries acknowledged");
            }
        }
        if let Some(log) = self.log_mut(leader, shard) {
            log.committed = upto;
        }
        let (at, members) = match self.log(leader, shard).members() {
            Some((at, members)) => (at, members.clone()),
            None => return,
        };
        // A change of voters that both majorities have is finished by the leader that began it.
        let log = self.log(leader, shard);
        let began = log.slots[at - 1].term == log.term;
        if at <= upto && !members.before.is_empty() && began {
            let before = BTreeSet::new();
            self.append(leader, shard, What::Members(Members { before, ..members }));
        }
    }

    /// What was committed of a shard, in order.
    pub(super) fn committed(&self, shard: u16) -> Vec<&Slot> {
        let of_shard = self.committed.range((shard, 0)..(shard + 1, 0));
        of_shard.map(|(_, slot)| slot).collect()
    }
}

/// The address of a node that never moved.
pub(super) fn address(node: u64) -> String {
    format!("h{node}:1")
}

/// Whether a process knows where another one is: from its configuration, or from the members in its logs.
fn knows(who: &Process, whom: &Process) -> bool {
    let node = whom.disk.node;
    let told = who.disk.logs.iter().filter_map(Log::members);
    let told = told.filter_map(|(_, members)| members.addresses.get(&node));
    told.chain(who.listed.get(&node)).any(|at| *at == whom.at)
}
