//! What operators do, rightly and wrongly, and what happens to the nodes meanwhile.

use super::{
    cluster::{Process, World, address},
    jobs::Job,
};
use crate::{
    membership::{Address, Wish},
    wire::BText,
};

/// Nodes that are made, at most.
const NODES_MAX: u64 = 9;
/// Commands at a time, at most.
const JOBS_MAX: usize = 2;

impl World {
    pub(super) fn something_happens(&mut self) {
        match self.dice.below(22) {
            0 | 1 => self.somebody_dies(),
            2..=4 => self.somebody_starts(),
            5 => self.somebody_is_cut_off(),
            6 | 7 => self.the_network_heals(),
            8 => self.a_disk_is_copied(),
            9 => self.a_copy_is_put_back(),
            10 => self.a_copy_runs_beside(),
            11 => self.somebody_moves(),
            12 => self.somebody_new_waits(),
            13 => self.a_command_is_interrupted(),
            14 => self.somebody_repairs(),
            15..=18 => self.somebody_wishes(),
            _ => {}
        }
    }

    fn any_running(&mut self) -> Option<u64> {
        let running: Vec<u64> = self.running.keys().copied().collect();
        self.dice.pick(&running).copied()
    }

    fn any_resting(&mut self) -> Option<u64> {
        let resting: Vec<u64> = self.resting.keys().copied().collect();
        self.dice.pick(&resting).copied()
    }

    /// A node that is well or not, a member or not.
    fn any_node(&mut self) -> u64 {
        1 + self.dice.below(self.node_numbers + 1)
    }

    fn somebody_dies(&mut self) {
        let Some(number) = self.any_running() else {
            return;
        };
        // Most of the time only a minority is away.
        if self.resting.len() > 1 && !self.dice.hits(100) {
            return;
        }
        self.rest(number);
    }

    /// Ends a process; its disk stays.
    fn rest(&mut self, number: u64) {
        let Some(mut process) = self.running.remove(&number) else {
            return;
        };
        self.tell(format!("node {} ends", process.disk.node));
        process.cut = false;
        // A copy that ran beside its node is thrown away with its process.
        let node = process.disk.node;
        let doubled = self.running.values().any(|other| other.disk.node == node);
        if !doubled {
            self.resting.insert(node, process);
        }
    }

    fn somebody_starts(&mut self) {
        if let Some(node) = self.any_resting() {
            self.wake(node);
        }
    }

    fn wake(&mut self, node: u64) {
        if let Some(process) = self.resting.remove(&node) {
            self.tell(format!("node {node} starts at {}", process.at));
            self.start(process.disk, process.at, process.waits);
        }
    }

    fn somebody_is_cut_off(&mut self) {
        let cut = self.running.values().filter(|process| process.cut).count();
        let Some(number) = self.any_running().filter(|_| cut == 0) else {
            return;
        };
        if let Some(process) = self.running.get_mut(&number) {
            process.cut = true;
            let node = process.disk.node;
            self.tell(format!("the network around node {node} is cut"));
        }
    }

    fn the_network_heals(&mut self) {
        for process in self.running.values_mut() {
            process.cut = false;
        }
    }

    fn a_disk_is_copied(&mut self) {
        if let Some(number) = self.any_running() {
            let copy = self.running[&number].disk.clone();
            self.tell(format!("the disk of node {} is copied", copy.node));
            self.copies.push(copy);
        }
    }

    /// An older copy takes the place of a disk. Only where every other node has spoken to a later start, and where the node
    /// decides no shard by itself: otherwise nobody who knows better is asked.
    fn a_copy_is_put_back(&mut self) {
        let Some(copy) = self.dice.pick(&self.copies).cloned() else {
            return;
        };
        let node = copy.node;
        let processes = self.running.values().chain(self.resting.values());
        let mut others = processes.filter(|process| process.disk.node != node);
        let noticed = others.all(|other| {
            let known = other.disk.known.get(&node).and_then(|known| known.start);
            known.is_some_and(|start| !copy.starts.contains(&start))
        });
        let Some(truth) = self.resting.get(&node).filter(|_| noticed).cloned() else {
            return;
        };
        if copy.decides_alone() || truth.disk.decides_alone() {
            return;
        }
        self.one("copies put back");
        self.tell(format!(
            "an older copy is put in the place of node {node}'s disk"
        ));
        let number = self.start(copy, truth.at, truth.waits);
        // It is taken away again when somebody starts the true disk.
        for _ in 0..self.dice.between(1, 12) {
            self.tick();
        }
        if let Some(process) = self.running.remove(&number)
            && process.let_in
        {
            let why = format!("an older copy of node {node}'s disk was let in");
            self.violated("I32", why);
        }
        self.leaders.retain(|_, (leader, _)| *leader != number);
    }

    /// A copy of a node's disk is started while the node runs.
    fn a_copy_runs_beside(&mut self) {
        let Some(number) = self.any_running() else {
            return;
        };
        let Process {
            disk,
            at,
            waits,
            cut,
            ..
        } = self.running[&number].clone();
        let doubled = self
            .running
            .values()
            .filter(|process| process.disk.node == disk.node)
            .count();
        let node = disk.node;
        let start = disk.starts.last().copied();
        // Whoever has not spoken to the node since its last start cannot tell it from the copy.
        let processes = self.running.values().chain(self.resting.values());
        let mut others = processes.filter(|process| process.disk.node != node);
        let met = others.all(|other| {
            let known = other.disk.known.get(&node);
            known.is_some_and(|known| known.start == start)
        });
        if cut || doubled > 1 || !met {
            return;
        }
        self.one("copies run beside their node");
        self.tell(format!("a copy of node {node} runs beside it"));
        let copy = self.start(disk, at, waits);
        for _ in 0..self.dice.between(1, 6) {
            self.tick();
        }
        if let Some(process) = self.running.remove(&copy)
            && process.let_in
        {
            let why = format!("a copy of node {node} was let in while the node runs");
            self.violated("I32", why);
        }
        self.leaders.retain(|_, (leader, _)| *leader != copy);
    }

    fn somebody_moves(&mut self) {
        let Some(node) = self.any_resting() else {
            return;
        };
        let number = self.number();
        let at = format!("h{node}:{number}");
        if let Some(process) = self.resting.get_mut(&node) {
            process.at.clone_from(&at);
        }
        self.tell(format!("node {node} moves to {at}, in every configuration"));
        self.listed.insert(node, at);
        self.one("nodes moved");
    }

    fn somebody_new_waits(&mut self) {
        if self.node_numbers == NODES_MAX {
            return;
        }
        self.node_numbers += 1;
        let node = self.node_numbers;
        let disk = self.new_disk(node);
        // Sometimes it is forgotten to tell it to wait.
        let waits = !self.dice.hits(150);
        self.tell(format!("node {node} is new and waits: {waits}"));
        self.listed.insert(node, address(node));
        self.start(disk, address(node), waits);
    }

    fn a_command_is_interrupted(&mut self) {
        if self.dice.hits(500) && self.jobs.pop().is_some() {
            self.one("changes interrupted");
            self.tell("a command is interrupted".to_owned());
        }
    }

    fn begin_job(&mut self, wish: Wish, repair: bool) {
        if self.jobs.len() == JOBS_MAX {
            return;
        }
        let Some(asked) = self.any_running() else {
            return;
        };
        if !self.jobs.is_empty() {
            self.one("two operators at once");
        }
        let number = self.number();
        let node = self.running[&asked].disk.node;
        self.tell(format!("an operator asks node {node}: {wish}"));
        let job = Job::new(number, wish, asked, self.step, repair);
        self.jobs.push(job);
    }

    fn somebody_repairs(&mut self) {
        let noted = self
            .running
            .values()
            .find_map(|process| process.disk.note.clone());
        if let (Some((_, wish)), true) = (noted, self.jobs.is_empty()) {
            self.begin_job(wish, true);
        }
    }

    /// Where a node is, or (mistyped) is not.
    fn typed(&mut self, node: u64) -> Address {
        let process = self.running.values();
        let mut process = process.filter(|process| process.disk.node == node);
        let at = process.next().map(|process| process.at.clone());
        let right = !self.dice.hits(250);
        let at = at.filter(|_| right).unwrap_or_else(|| {
            self.one("phantoms named");
            format!("h{node}:9999")
        });
        BText::clipped(&at)
    }

    fn somebody_wishes(&mut self) {
        let node = self.any_node();
        let wish = match self.dice.below(8) {
            0..=2 => Wish::Join {
                node: self.node_numbers,
                address: self.typed(self.node_numbers),
            },
            3 => Wish::Join {
                node,
                address: self.typed(node),
            },
            4 => Wish::Leave { node },
            5 | 6 => Wish::Replace {
                node,
                with: self.node_numbers,
                address: self.typed(self.node_numbers),
                force: false,
            },
            _ => Wish::Move {
                node,
                address: self.typed(node),
            },
        };
        self.begin_job(wish, false);
    }

    /// Every node runs on its true disk, and nobody is cut off.
    pub(super) fn make_whole(&mut self) {
        self.the_network_heals();
        // Everybody reads the newest configuration.
        let running: Vec<u64> = self.running.keys().copied().collect();
        for number in running {
            self.rest(number);
        }
        let resting: Vec<u64> = self.resting.keys().copied().collect();
        for node in resting {
            self.wake(node);
        }
        self.jobs.clear();
    }
}
