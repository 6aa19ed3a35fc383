//! I11, I27, I28, I32: what nodes applied, acknowledged while they were cut off, and did with damaged bytes.

use super::{
    book::{Book, Place},
    calls::{Call, Faults},
    facts::{At, Fact},
    line::{Applied, Fault, Nemesis, NodeState, Phase, Start},
    report::Invariant,
};
use std::collections::{BTreeMap, BTreeSet};

/// A shard of a provider.
type Shard = (String, u16);

/// Who saw a state: a node, and how often it had crashed by then.
type Watcher = (String, u64);

/// What is remembered of nodes.
#[derive(Debug, Default)]
pub(super) struct Replicas {
    /// Who told first of each place of a log.
    seen: BTreeMap<Place, Watcher>,
    /// The term of each entry that was told, and the line.
    terms: BTreeMap<Shard, BTreeMap<u64, (u64, u64)>>,
    leaders: BTreeMap<(Shard, u64), (String, u64)>,
    crashes: BTreeMap<String, u64>,
    /// Nodes whose bytes were changed since they last came up, and the line.
    corrupted: BTreeMap<String, u64>,
    /// Whether two nodes, or two lives of one, showed the same place of a log.
    compared: bool,
}

impl Replicas {
    pub(super) fn nemesis(&mut self, at: At, nemesis: &Nemesis) {
        if nemesis.phase != Phase::Start {
            return;
        }
        for node in &nemesis.target {
            if nemesis.what.is_crash() {
                *self.crashes.entry(node.clone()).or_default() += 1;
            }
            if nemesis.what == Fault::Corrupt {
                self.corrupted.insert(node.clone(), at.line);
            }
        }
    }

    pub(super) fn started(&mut self, at: At, start: &Start, book: &mut Book) {
        let Some(corrupted) = self.corrupted.remove(&start.node) else {
            return;
        };
        // Refusing to start is loud by itself.
        let loud = start.alarm || start.is == NodeState::Refused;
        book.demand(
            Invariant::I32,
            loud,
            || vec![corrupted, at.line],
            || format!("{} came up on changed bytes without an alarm", start.node),
        );
    }

    pub(super) fn applied(&mut self, at: At, applied: &Applied, book: &mut Book) {
        let shard = (applied.provider.clone(), applied.shard);
        let lives = self.crashes.get(&applied.node).copied().unwrap_or_default();
        let watcher = (applied.node.clone(), lives);
        let place = Place {
            provider: applied.provider.clone(),
            shard: applied.shard,
            index: applied.index,
        };
        let state = applied.hash;
        book.see(
            at,
            Fact::State {
                place: &place,
                state,
            },
        );
        let first = self.seen.entry(place.clone());
        self.compared |= *first.or_insert_with(|| watcher.clone()) != watcher;
        let Some(term) = applied.term else {
            return;
        };
        let terms = self.terms.entry(shard.clone()).or_default();
        let before = terms.range(..=applied.index).next_back();
        let after = terms.range(applied.index..).next();
        let neighbours = before.into_iter().chain(after);
        for (index, (other, line)) in neighbours {
            let holds = match index.cmp(&applied.index) {
                std::cmp::Ordering::Less => *other <= term,
                std::cmp::Ordering::Equal => *other == term,
                std::cmp::Ordering::Greater => *other >= term,
            };
            book.demand(
                Invariant::I28,
                holds,
                || vec![*line, at.line],
                || format!("{place} has term {term}, entry {index} has term {other}"),
            );
        }
        terms.entry(applied.index).or_insert((term, at.line));
        if applied.leads {
            let key = (shard.clone(), term);
            let (leader, line) = self
                .leaders
                .entry(key)
                .or_insert_with(|| (applied.node.clone(), at.line));
            book.demand(
                Invariant::I28,
                *leader == applied.node,
                || vec![*line, at.line],
                || format!("{leader} and {} led term {term}", applied.node),
            );
        }
    }

    pub(super) fn judge(self, book: &mut Book) {
        let tallies = &mut book.tallies;
        tallies.needs(
            Invariant::I11,
            self.compared,
            "no state was seen on two nodes, or before and after a crash",
        );
        tallies.needs_a_test(
            Invariant::I27,
            "no node was asked for a write while it was cut off",
        );
        let two_terms = |terms: &BTreeMap<u64, (u64, u64)>| {
            let distinct: BTreeSet<_> = terms.values().map(|(term, _)| term).collect();
            distinct.len() > 1
        };
        let changed = self.terms.values().any(two_terms);
        let led = !self.leaders.is_empty();
        let terms_hold = tallies.of(Invariant::I28);
        terms_hold.needs(changed, "no shard went from one term to another");
        terms_hold.needs(led, "no line tells who led");
        tallies.needs_a_test(
            Invariant::I32,
            "no node came up after its bytes were changed",
        );
    }
}

/// A node answered that a write happened.
pub(super) fn wrote(at: At, call: &Call, faults: &Faults, book: &mut Book) {
    if let Some(since) = cut_off(call, faults) {
        let node = call.invoke.node.as_deref().unwrap_or_default();
        book.demand(
            Invariant::I27,
            false,
            || vec![since, call.begun.line, at.line],
            || format!("{node} acknowledged a write while it was cut off"),
        );
    }
}

/// A node refused a write, or did not answer.
pub(super) fn not_acknowledged(at: At, call: &Call, faults: &Faults, book: &mut Book) {
    if cut_off(call, faults).is_some() {
        book.demand(Invariant::I27, true, || vec![at.line], String::new);
    }
}

/// The line since which the asked node has been cut off, when the operation began after that. Called when the operation
/// ends: a partition that has stopped by then may have let it through.
fn cut_off(call: &Call, faults: &Faults) -> Option<u64> {
    let node = call.invoke.node.as_ref()?;
    let cut = faults.iter().find(|past| {
        past.what == Fault::Partition
            && past.stop.is_none()
            && past.start.line < call.begun.line
            && past.target.contains(node)
    });
    cut.map(|past| past.start.line)
}
